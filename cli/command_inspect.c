#include "cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Tensors are seen through tiles of [BLOCK, TILE_COLS], which no block of scales crosses. */
enum { TILE_COLS = 8192, SCALINGS = 3 };
static const fg_scaling scalings[SCALINGS] = {FG_TENSOR, FG_128X128, FG_1X128};

struct tile {
  int64_t matrix, row, col, rows, cols;
};

/* What is known of a tensor as [matrices, rows, cols]; a vector is one row. */
struct view {
  struct source source;
  const char *data;
  int64_t matrices, rows, cols;
};

struct statistics {
  int64_t zeros, subnormals, infinities, nans, at_largest;
  double amax, min_nonzero; /* of the finite; min_nonzero 0: all are zero */
};

struct quantisation_error {
  double rms;     /* relative: of the error over that of the values */
  double largest; /* |error| */
  int64_t lost;   /* elements that became zero */
};

static bool is_fp8(fg_type type) { return type != FG_DEFAULT_TYPE && type_bytes(type) == 1; }

static struct view view_of(const struct source *source) {
  const struct tensor *tensor = source->tensor;
  struct view view = {*source, packed_data(source), 1, 1, 1};
  if (tensor->rank > 0) view.cols = tensor->shape[tensor->rank - 1];
  if (tensor->rank > 1) view.rows = tensor->shape[tensor->rank - 2];
  for (int i = 0; i < tensor->rank - 2; i++) view.matrices *= tensor->shape[i];
  return view;
}

/* The next tile, row by row; false after the last. */
static bool next_tile(const struct view *view, struct tile *tile) {
  if (view->source.tensor->count == 0) return false;
  if (tile->rows == 0) {
    *tile = (struct tile){0};
  } else if ((tile->col += TILE_COLS) >= view->cols) {
    tile->col = 0;
    if ((tile->row += BLOCK) >= view->rows) {
      tile->row = 0;
      if (++tile->matrix == view->matrices) return false;
    }
  }
  tile->rows = view->rows - tile->row < BLOCK ? view->rows - tile->row : BLOCK;
  tile->cols = view->cols - tile->col < TILE_COLS ? view->cols - tile->col : TILE_COLS;
  return true;
}

static void show_progress(const struct view *view, const struct tile *tile, const char *what) {
  progress(what, (tile->matrix * view->rows + tile->row) * view->cols + tile->rows * tile->col, view->source.tensor->count);
}

/* The tile's elements as FP32 into x, packed. */
static void read_tile(fg_context *context, const struct view *view, const struct tile *tile, float *x) {
  fg_type type = view->source.tensor->type;
  int64_t first = (tile->matrix * view->rows + tile->row) * view->cols + tile->col;
  fg_conversion conversion = {.rows = tile->rows,
                              .cols = tile->cols,
                              .from = {.data = view->data + first * type_bytes(type), .type = type, .ld = view->cols},
                              .to = {.data = x, .type = FG_FP32}};
  require(fg_convert(context, &conversion), "");
}

static struct statistics look(fg_context *context, const struct view *view) {
  static const double smallest_normal[] = {0, 0x1p-6, 0x1p-14, 0x1p-126, 0x1p-14, 0x1p-126};
  static const double largest[] = {0, 448, 57344, 0x1.FEp127, 65504, 0x1.FFFFFEp127};
  fg_type type = view->source.tensor->type;
  float *x = claim(BLOCK * TILE_COLS, sizeof *x, "a tile");
  struct statistics s = {.min_nonzero = INFINITY};
  for (struct tile tile = {0}; next_tile(view, &tile);) {
    show_progress(view, &tile, "looking");
    read_tile(context, view, &tile, x);
    for (int64_t i = 0; i < tile.rows * tile.cols; i++) {
      double magnitude = fabs((double)x[i]);
      s.nans += isnan(magnitude);
      s.infinities += isinf(magnitude);
      s.zeros += magnitude == 0;
      if (!(magnitude > 0) || isinf(magnitude)) continue;
      s.subnormals += magnitude < smallest_normal[type];
      s.at_largest += magnitude == largest[type];
      if (magnitude > s.amax) s.amax = magnitude;
      if (magnitude < s.min_nonzero) s.min_nonzero = magnitude;
    }
  }
  if (isinf(s.min_nonzero)) s.min_nonzero = 0;
  progress_clear();
  release(x);
  return s;
}

/* What e4m3 with each scaling would make of the tensor. One scale for the whole of it needs no copy of the whole: below each tile
 * comes a row that holds the tensor's amax, and the tile's one scale is the tensor's. */
static void try_scalings(fg_context *context, const struct view *view, double amax, struct quantisation_error errors[SCALINGS]) {
  float *x = claim((BLOCK + 1) * TILE_COLS, sizeof *x, "a tile"), *back = claim((BLOCK + 1) * TILE_COLS, sizeof *back, "a tile");
  double square = 0, error_square[SCALINGS] = {0};
  for (int s = 0; s < SCALINGS; s++) errors[s] = (struct quantisation_error){0};
  for (struct tile tile = {0}; next_tile(view, &tile);) {
    show_progress(view, &tile, "quantising");
    read_tile(context, view, &tile, x);
    int64_t count = tile.rows * tile.cols;
    for (int64_t i = 0; i < tile.cols; i++) x[count + i] = i == 0 ? (float)amax : 0;
    for (int64_t i = 0; i < count; i++) square += (double)x[i] * (double)x[i];
    for (int s = 0; s < SCALINGS; s++) {
      int64_t rows = tile.rows + (scalings[s] == FG_TENSOR);
      fg_operand from = {.data = x, .type = FG_FP32};
      fg_operand q = quantise(context, &from, 1, rows, tile.cols, FG_E4M3, scalings[s], 0, view->source.spec);
      fg_conversion conversion = {.rows = rows, .cols = tile.cols, .from = q, .to = {.data = back, .type = FG_FP32}};
      require(fg_dequantize(context, &conversion), "");
      release((void *)(uintptr_t)q.data);
      release((void *)(uintptr_t)q.scale);
      for (int64_t i = 0; i < count; i++) {
        double error = fabs((double)back[i] - (double)x[i]);
        error_square[s] += error * error;
        if (error > errors[s].largest) errors[s].largest = error;
        errors[s].lost += x[i] != 0 && back[i] == 0;
      }
    }
  }
  for (int s = 0; s < SCALINGS; s++) errors[s].rms = square > 0 ? sqrt(error_square[s] / square) : 0;
  progress_clear();
  release(x);
  release(back);
}

/* "_scale_inv" tensors belong to the tensor whose name comes before. */
static const struct tensor *scaled_by(const struct tensor_file *file, const struct tensor *scales) {
  const char *suffix = strstr(scales->name, "_scale_inv");
  if (!suffix || suffix[strlen("_scale_inv")] != '\0') return NULL;
  return tensor_file_find(file, text("%.*s", (int)(suffix - scales->name), scales->name));
}

/* What the list says of a tensor's scales. */
static const char *about_scales(const struct tensor_file *file, const struct tensor *tensor) {
  const struct tensor *scaled = scaled_by(file, tensor);
  if (scaled) return text("scales of %s", scaled->name);
  if (!is_fp8(tensor->type)) return "";
  fg_scaling scaling;
  const struct tensor *scales = scales_beside(file, tensor, FG_DEFAULT_SCALING, &scaling);
  if (!scales) return "none beside it";
  return scaling == FG_DEFAULT_SCALING ? text("%s %s do not fit", dtype_of(scales), shape_of(scales)) : scaling_name(scaling);
}

static json_t *json_tensor(const struct tensor_file *file, const struct tensor *tensor) {
  const char *scales = is_fp8(tensor->type) ? about_scales(file, tensor) : NULL;
  const struct tensor *scaled = scaled_by(file, tensor);
  return json_pack("{so ss so sI so so}", "name", json_text(tensor->name), "type", dtype_of(tensor), "shape", json_shape(tensor),
                   "bytes", tensor->bytes, "scaling", scales ? json_text(scales) : json_null(), "scales_of",
                   scaled ? json_text(scaled->name) : json_null());
}

static void list_tensors(const struct tensor_file *file, int json) {
  int count = tensor_file_count(file);
  if (json) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(list, json_tensor(file, tensor_file_get(file, i)));
    json_print(json_pack("{so}", "tensors", list));
    return;
  }
  const char *const headings[] = {"tensor", "type", "shape", "bytes", "scales"};
  struct table *table = table_begin("lllrl", headings);
  for (int i = 0; i < count; i++) {
    const struct tensor *tensor = tensor_file_get(file, i);
    table_cell(table, "%s", *tensor->name ? tensor->name : "(unnamed)");
    table_cell(table, "%s%s", dtype_of(tensor), tensor->fortran_order ? ", Fortran order" : "");
    table_cell(table, "%s", shape_of(tensor));
    table_cell(table, "%" PRId64, tensor->bytes);
    table_cell(table, "%s", about_scales(file, tensor));
  }
  table_print(table);
}

struct scale_range {
  float least, most;
  int64_t not_finite;
};

static struct scale_range range_of(const struct source *scales) {
  const float *scale = packed_data(scales);
  struct scale_range range = {INFINITY, -INFINITY, 0};
  for (int64_t i = 0; i < scales->tensor->count; i++) {
    range.not_finite += !isfinite(scale[i]);
    range.least = fminf(range.least, scale[i]);
    range.most = fmaxf(range.most, scale[i]);
  }
  return range;
}

static void print_tensor(const struct source *source, const struct statistics *s, const struct quantisation_error *errors,
                         const struct scale_range *range) {
  const struct tensor *tensor = source->tensor;
  struct table *table = table_begin("ll", NULL);
#define LINE(name, ...)                                                                                                          \
  do {                                                                                                                           \
    table_cell(table, "%s", name);                                                                                               \
    table_cell(table, __VA_ARGS__);                                                                                              \
  } while (0)
  LINE("tensor", "%s", source->spec);
  LINE("type", "%s", dtype_of(tensor));
  LINE("shape", "%s, %" PRId64 " bytes", shape_of(tensor), tensor->bytes);
  const char *scales = about_scales(source->file, tensor);
  if (*scales) LINE("scales", "%s", scales);
  if (range)
    LINE("scale range", "%.6g ... %.6g%s", (double)range->least, (double)range->most,
         range->not_finite ? text("; %" PRId64 " not finite", range->not_finite) : "");
  if (!s) {
    table_print(table);
    return;
  }
  LINE("largest |x|", "%.9g", s->amax);
  LINE("least |x| > 0", "%.9g", s->min_nonzero);
  LINE("zeros", "%" PRId64, s->zeros);
  LINE("subnormal", "%" PRId64, s->subnormals);
  if (is_fp8(tensor->type)) LINE(tensor->type == FG_E4M3 ? "at +-448" : "at +-57344", "%" PRId64, s->at_largest);
  LINE("infinite", "%" PRId64, s->infinities);
  LINE("NaN", "%" PRId64, s->nans);
#undef LINE
  table_print(table);
  if (!errors) return;
  const char *const headings[] = {"quantised to e4m3", "relative RMS error", "largest error", "lost (became 0)"};
  struct table *tried = table_begin("lrrr", headings);
  for (int i = 0; i < SCALINGS; i++) {
    table_cell(tried, "%s", scaling_name(scalings[i]));
    table_cell(tried, "%.4f %%", 100 * errors[i].rms);
    table_cell(tried, "%.4g", errors[i].largest);
    table_cell(tried, "%" PRId64, errors[i].lost);
  }
  printf("\n");
  table_print(tried);
}

static json_t *json_details(const struct source *source, const struct statistics *s, const struct quantisation_error *errors,
                            const struct scale_range *range) {
  json_t *json = json_tensor(source->file, source->tensor);
  if (range)
    json_object_set_new(json, "scale_range",
                        json_pack("{so so sI}", "least", json_number((double)range->least), "most",
                                  json_number((double)range->most), "not_finite", range->not_finite));
  if (!s) return json;
  json_object_update_new(json, json_pack("{sf sf sI sI sI sI sI}", "amax", s->amax, "min_nonzero", s->min_nonzero, "zeros",
                                         s->zeros, "subnormals", s->subnormals, "at_largest", s->at_largest, "infinities",
                                         s->infinities, "nans", s->nans));
  if (!errors) return json;
  json_t *tried = json_object();
  for (int i = 0; i < SCALINGS; i++)
    json_object_set_new(
        tried, scaling_name(scalings[i]),
        json_pack("{sf sf sI}", "relative_rms_error", errors[i].rms, "largest_error", errors[i].largest, "lost", errors[i].lost));
  json_object_set_new(json, "quantized", tried);
  return json;
}

static void inspect_tensor(const struct source *source, fg_context *context, int json) {
  const struct tensor *tensor = source->tensor;
  struct statistics statistics;
  struct quantisation_error errors[SCALINGS];
  struct scale_range range;
  bool known = tensor->type != FG_DEFAULT_TYPE, tried = false, scaled = false;
  if (known) {
    struct view view = view_of(source);
    statistics = look(context, &view);
    tried = !is_fp8(tensor->type) && statistics.nans + statistics.infinities == 0;
    if (tried) try_scalings(context, &view, statistics.amax, errors);
  }
  fg_scaling scaling;
  struct source scales = {text("the scales of %s", source->spec), source->file, NULL};
  if (known && is_fp8(tensor->type)) scales.tensor = scales_beside(source->file, tensor, FG_DEFAULT_SCALING, &scaling);
  if (scales.tensor && scales.tensor->type == FG_FP32 && scales.tensor->count > 0) {
    scaled = true;
    range = range_of(&scales);
  }
  if (json)
    json_print(json_details(source, known ? &statistics : NULL, tried ? errors : NULL, scaled ? &range : NULL));
  else
    print_tensor(source, known ? &statistics : NULL, tried ? errors : NULL, scaled ? &range : NULL);
}

static enum outcome run(const struct command *command, int argc, const char **argv) {
  const char *threads = NULL, *spec, *path;
  int json = 0;
  struct poptOption options[] = {OPTION_THREADS(threads), OPTION_JSON(json), OPTIONS_END};
  parse(command, argc, argv, options, 1, 1, &spec);
  fg_context *context = make_context(threads_option(threads));
  const char *name = split_spec(spec, &path);
  struct source source = name ? source_find(spec) : (struct source){printable(spec), file_open(path), NULL};
  if (!name && tensor_file_count(source.file) == 1) source.tensor = tensor_file_get(source.file, 0);
  if (source.tensor)
    inspect_tensor(&source, context, json);
  else
    list_tensors(source.file, json);
  return DONE;
}

const struct command command_inspect = {
    "inspect", "FILE[:NAME] [OPTION...]", "Lists the tensors of a file, or tells about one: values, scales, how it quantises",
    "\nOf a float tensor it says what e4m3 with one scale, 128x128 and 1x128 would make of it. A file of one tensor needs no name.",
    run};
