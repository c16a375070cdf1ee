#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char scale_suffix[] = "_scale_inv";

static bool is_file(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && !S_ISDIR(status.st_mode);
}

/* FILE:NAME, and both may hold colons: the whole is a file, or what comes before the first colon that leaves one. */
const char *split_spec(const char *spec, const char **path) {
  *path = spec;
  if (is_file(spec)) return NULL;
  for (const char *colon = strchr(spec, ':'); colon; colon = strchr(colon + 1, ':')) {
    char *before = text("%.*s", (int)(colon - spec), spec);
    if (!is_file(before)) continue;
    *path = before;
    return colon + 1;
  }
  const char *end = strstr(spec, ".safetensors:"); /* no such file: then this is what was meant */
  if (!end) return NULL;
  *path = text("%.*s", (int)(end - spec) + (int)strlen(".safetensors"), spec);
  return end + strlen(".safetensors:");
}

/* Every file is mapped once, and stays so. */
struct tensor_file *file_open(const char *path) {
  static struct opened {
    struct opened *next;
    const char *path;
    struct tensor_file *file;
  } * files;
  for (struct opened *known = files; known; known = known->next)
    if (strcmp(known->path, path) == 0) return known->file;
  char error[TENSOR_ERROR_BYTES];
  struct tensor_file *file = tensor_file_open(path, error);
  if (!file) fail(BAD_INPUT, "%s", error);
  struct opened *added = claim(1, sizeof *added, "a file");
  *added = (struct opened){files, path, file};
  files = added;
  return file;
}

static bool has_suffix(const char *string, const char *suffix) {
  size_t length = strlen(string), suffix_length = strlen(suffix);
  return length >= suffix_length && strcmp(string + length - suffix_length, suffix) == 0;
}

struct source source_find(const char *spec) {
  const char *path, *name = split_spec(spec, &path);
  struct tensor_file *file = file_open(path);
  const struct tensor *found = NULL;
  int count = tensor_file_count(file), candidates = 0;
  if (name) {
    found = tensor_file_find(file, name);
    if (!found && count == 1 && *tensor_file_get(file, 0)->name == '\0')
      fail(BAD_INPUT, "%s: %s holds one tensor, which has no name", spec, path);
    if (!found) fail(BAD_INPUT, "%s: %s has no tensor of this name; 'finegemm inspect %s' lists them", spec, path, path);
  } else {
    for (int i = 0; i < count; i++) {
      const struct tensor *tensor = tensor_file_get(file, i);
      if (has_suffix(tensor->name, scale_suffix)) continue;
      if (!found) found = tensor;
      candidates++;
    }
    if (candidates > 1) fail(BAD_INPUT, "%s holds %d tensors; name one, as in %s:%s", path, candidates, path, found->name);
    if (!found) fail(BAD_INPUT, "%s holds no tensor", path);
  }
  return (struct source){printable(spec), file, found};
}

const char *dtype_of(const struct tensor *tensor) {
  return tensor->type == FG_DEFAULT_TYPE ? tensor->dtype : type_name(tensor->type);
}

const char *shape_of(const struct tensor *tensor) {
  char *shape = text("[");
  for (int i = 0; i < tensor->rank; i++) shape = text("%s%s%" PRId64, shape, i ? ", " : "", tensor->shape[i]);
  return text("%s]", shape);
}

/* Column-major [rows, cols] to row-major, a tile at a time so that both sides stay in the cache. */
static void transpose(const unsigned char *from, unsigned char *to, int64_t rows, int64_t cols, size_t bytes) {
  enum { TILE = 32 };
  for (int64_t i0 = 0; i0 < rows; i0 += TILE)
    for (int64_t j0 = 0; j0 < cols; j0 += TILE)
      for (int64_t i = i0; i < rows && i < i0 + TILE; i++)
        for (int64_t j = j0; j < cols && j < j0 + TILE; j++)
          memcpy(to + (size_t)(i * cols + j) * bytes, from + (size_t)(j * rows + i) * bytes, bytes);
}

const void *packed_data(const struct source *source) {
  const struct tensor *tensor = source->tensor;
  int64_t bytes = type_bytes(tensor->type);
  if (tensor->fortran_order && tensor->rank > 2)
    fail(BAD_INPUT, "%s is in Fortran order with shape %s; finegemm reads such files up to two dimensions", source->spec,
         shape_of(tensor));
  if (tensor->fortran_order && tensor->rank == 2) {
    unsigned char *copy = claim(tensor->count, bytes, source->spec);
    transpose(tensor->data, copy, tensor->shape[0], tensor->shape[1], (size_t)bytes);
    return copy;
  }
  if (!tensor->misaligned) return tensor->data;
  void *copy = claim(tensor->count, bytes, source->spec);
  memcpy(copy, tensor->data, (size_t)tensor->bytes);
  return copy;
}

int64_t scale_count(fg_scaling scaling, int64_t rows, int64_t cols) {
  if (scaling == FG_TENSOR) return 1;
  return (scaling == FG_1X128 ? rows : blocks_of(rows)) * blocks_of(cols);
}

/* Do scales of this shape belong to the tensor's matrices, its last two dimensions? */
static bool fits(const struct tensor *scales, const struct tensor *tensor, fg_scaling scaling) {
  int last = tensor->rank - 1;
  if (tensor->rank == 2 && scaling == FG_TENSOR) return scales->count == 1;
  if (tensor->rank < 2 || scales->rank != tensor->rank) return false;
  for (int i = 0; i < last - 1; i++)
    if (scales->shape[i] != tensor->shape[i]) return false;
  int64_t rows = tensor->shape[last - 1], cols = tensor->shape[last];
  if (scaling == FG_TENSOR) return scales->shape[last - 1] == 1 && scales->shape[last] == 1;
  return scales->shape[last - 1] == (scaling == FG_1X128 ? rows : blocks_of(rows)) && scales->shape[last] == blocks_of(cols);
}

const struct tensor *scales_beside(const struct tensor_file *file, const struct tensor *tensor, fg_scaling preferred,
                                   fg_scaling *scaling) {
  *scaling = FG_DEFAULT_SCALING;
  const struct tensor *scales = tensor_file_find(file, text("%s%s", tensor->name, scale_suffix));
  if (!scales || scales->type != FG_FP32) return scales;
  const fg_scaling order[] = {preferred, FG_TENSOR, FG_1X128, FG_128X128};
  for (int i = 0; i < 4 && *scaling == FG_DEFAULT_SCALING; i++)
    if (order[i] != FG_DEFAULT_SCALING && fits(scales, tensor, order[i])) *scaling = order[i];
  return scales;
}

fg_operand quantise(fg_context *context, const fg_operand *from, int64_t groups, int64_t rows, int64_t cols, fg_type type,
                    fg_scaling scaling, unsigned flags, const char *about) {
  fg_result to = {.type = type, .scaling = scaling};
  to.data = claim_matrix(groups * rows, cols, 1, "the FP8 codes");
  to.scale = claim(groups * scale_count(scaling, rows, cols), sizeof *to.scale, "the scales");
  if (groups * rows * cols == 0) /* nothing to quantise, but a matrix without elements may still have its one scale */
    for (int64_t i = 0; i < groups * scale_count(scaling, rows, cols); i++) to.scale[i] = 1;
  fg_conversion conversion = {.rows = groups ? rows : 0, .cols = cols, .groups = groups, .from = *from, .to = to, .flags = flags};
  require(fg_quantize(context, &conversion), about);
  return (fg_operand){.data = to.data, .scale = to.scale, .type = type, .scaling = scaling, .ld = cols};
}

void to_float(fg_context *context, fg_type type, const void *data, int64_t first, int64_t count, float *out) {
  fg_conversion conversion = {.rows = 1,
                              .cols = count,
                              .from = {.data = (const char *)data + first * type_bytes(type), .type = type},
                              .to = {.data = out, .type = FG_FP32}};
  require(fg_convert(context, &conversion), "");
}

/* The FP8 tensor and its scales straight from the map. */
static void use_codes(struct factor *factor, fg_scaling asked, fg_type type) {
  const struct tensor *tensor = factor->source.tensor;
  const char *spec = factor->source.spec;
  if (type != FG_DEFAULT_TYPE && type != tensor->type)
    fail(BAD_INPUT, "%s is %s already; it cannot become %s", spec, dtype_of(tensor), type_name(type));
  fg_scaling scaling;
  const struct tensor *scales = scales_beside(factor->source.file, tensor, asked, &scaling);
  if (scaling == FG_DEFAULT_SCALING) {
    int64_t blocks = blocks_of(factor->cols);
    const char *found = scales ? text("'%s' is %s %s", scales->name, dtype_of(scales), shape_of(scales))
                               : text("there is no '%s%s' beside it", tensor->name, scale_suffix);
    fail(BAD_INPUT,
         "%s is %s %s, but %s; its scales must be F32, [%" PRId64 ", %" PRId64 "] (1x128), [%" PRId64 ", %" PRId64
         "] (128x128) or [1] (tensor)",
         spec, dtype_of(tensor), shape_of(tensor), found, factor->rows, blocks, blocks_of(factor->rows), blocks);
  }
  if (asked != FG_DEFAULT_SCALING && asked != scaling)
    fail(BAD_INPUT, "%s has scales of %s, which is %s; they cannot become %s", spec, shape_of(scales), scaling_name(scaling),
         scaling_name(asked));
  struct source beside = {text("the scales of %s", spec), factor->source.file, scales};
  factor->fp8 = (fg_operand){.data = packed_data(&factor->source),
                             .scale = packed_data(&beside),
                             .type = tensor->type,
                             .scaling = scaling,
                             .ld = factor->cols};
}

static struct source matrix_find(const char *spec) {
  struct source source = source_find(spec);
  const struct tensor *tensor = source.tensor;
  if (tensor->rank != 2) fail(BAD_INPUT, "%s has shape %s; it must have two dimensions", source.spec, shape_of(tensor));
  if (tensor->type == FG_DEFAULT_TYPE)
    fail(BAD_INPUT, "%s is %s; it must be F32, F16, BF16, F8_E4M3 or F8_E5M2", source.spec, dtype_of(tensor));
  return source;
}

struct factor factor_find(const char *spec) {
  struct source source = matrix_find(spec);
  bool is_fp8 = type_bytes(source.tensor->type) == 1;
  return (struct factor){source, source.tensor->shape[0], source.tensor->shape[1], !is_fp8, {0}};
}

void require_same_k(const struct factor *a, const struct factor *b) {
  if (a->cols == b->cols) return;
  const char *hint = a->cols == b->rows ? "; B looks transposed: it is stored as [n, k]" : "";
  fail(BAD_INPUT, "A (%s) is %s and B (%s) is %s; both are [rows, k] and must have the same k%s", a->source.spec,
       shape_of(a->source.tensor), b->source.spec, shape_of(b->source.tensor), hint);
}

void factor_load(fg_context *context, struct factor *factor, fg_scaling asked, fg_scaling otherwise, fg_type type) {
  if (!factor->quantised) {
    use_codes(factor, asked, type);
    return;
  }
  fg_operand from = {.data = packed_data(&factor->source), .type = factor->source.tensor->type};
  factor->fp8 = quantise(context, &from, 1, factor->rows, factor->cols, type ? type : FG_E4M3, asked ? asked : otherwise, 0,
                         factor->source.spec);
}

json_t *json_factor(const struct factor *factor) {
  return json_pack("{so ss ss sb}", "source", json_text(factor->source.spec), "type", type_name(factor->fp8.type), "scaling",
                   scaling_name(factor->fp8.scaling), "quantized", factor->quantised);
}

fg_problem read_problem(fg_context *context, struct multiplication *of) {
  if (!of->a_spec) fail(BAD_USAGE, "--a is missing; it names the file of A [m, k]");
  if (!of->b_spec) fail(BAD_USAGE, "--b is missing; it names the file of B [n, k]");
  fg_scaling a_scaling = scaling_option("--scaling-a", of->a_scaling), b_scaling = scaling_option("--scaling-b", of->b_scaling);
  fg_type a_type = fp8_option("--type-a", of->a_type), b_type = fp8_option("--type-b", of->b_type);
  of->a = factor_find(of->a_spec);
  of->b = factor_find(of->b_spec);
  require_same_k(&of->a, &of->b);
  fg_problem problem = {.m = of->a.rows, .n = of->b.rows, .k = of->a.cols};
  if (of->c_spec) {
    struct source c = matrix_find(of->c_spec);
    if (type_bytes(c.tensor->type) == 1) fail(BAD_INPUT, "%s is %s; it must be F32, F16 or BF16", c.spec, dtype_of(c.tensor));
    if (c.tensor->shape[0] != problem.m || c.tensor->shape[1] != problem.n)
      fail(BAD_INPUT, "%s has shape %s; C must be [%" PRId64 ", %" PRId64 "], as D", c.spec, shape_of(c.tensor), problem.m,
           problem.n);
    problem.c = (fg_operand){.data = packed_data(&c), .type = c.tensor->type, .ld = problem.n};
  }
  double start = seconds_now();
  factor_load(context, &of->a, a_scaling, FG_1X128, a_type);
  factor_load(context, &of->b, b_scaling, FG_128X128, b_type);
  of->load_seconds = seconds_now() - start;
  problem.a = of->a.fp8;
  problem.b = of->b.fp8;
  return problem;
}
