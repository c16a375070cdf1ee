#include "cli.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One of the two matrices: floats that the demo quantises itself, or FP8 as a file has it. */
struct side {
  const char *name;
  int64_t rows, k;
  fg_operand floats; /* data NULL: FP8 */
  fg_operand fp8;
};

struct layer {
  struct side x, w;
  bool made; /* here */
};

/* The levels' table: D in FP32, so that the sums show and not the rounding of the output. */
struct level_result {
  const fg_level_info *info;
  double seconds;
  struct verdict verdict;
  const char *bits; /* beside its twin's: "= reference", "differ", or why there is no saying */
  float *d;
};

/* What a quantisation costs: the product's error relative to the product of the matrices before. */
struct scaling_result {
  fg_scaling x_scaling, w_scaling; /* of a side that is FP8 already: its own */
  double error, median_row, worst_row;
};
enum { MOST_SCALINGS = 3, MOST_LEVELS = 32 };

/* Splitmix64's mixing of seed and place: a random number for each element, whatever the order and the machine. */
static uint64_t random_at(uint64_t seed, uint64_t place) {
  uint64_t z = seed + (place + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/* Bell-shaped around 0, deviation 1.15: the sum of four uniform numbers, in whole numbers until the end. */
static float bell_at(uint64_t seed, uint64_t place) {
  uint64_t z = random_at(seed, place);
  int64_t sum = (int64_t)((z & 0xFFFF) + (z >> 16 & 0xFFFF) + (z >> 32 & 0xFFFF) + (z >> 48)) - 2 * 0xFFFF;
  return (float)sum * 0x1p-15f;
}

/* Activations as language models have them: in a few channels all tokens are large (OUTLIER), and in a few of these some tokens
 * are huge (MASSIVE), such as the first of a text. */
enum { ONE_CHANNEL_IN = 512, OUTLIER = 16, ONE_TOKEN_IN = 64, ONE_OUTLIER_IN = 4, MASSIVE = 32768 };

static struct layer make_layer(int64_t m, int64_t n, int64_t k) {
  float *x = claim_matrix(m, k, sizeof *x, "X"), *w = claim_matrix(n, k, sizeof *w, "W");
  for (int64_t i = 0; i < m; i++) {
    bool massive = random_at(1, (uint64_t)i) % ONE_TOKEN_IN == 0;
    for (int64_t c = 0; c < k; c++) {
      uint64_t channel = random_at(2, (uint64_t)c);
      bool outlier = channel % ONE_CHANNEL_IN == 0;
      float gain = !outlier ? 1 : massive && channel / ONE_CHANNEL_IN % ONE_OUTLIER_IN == 0 ? MASSIVE : OUTLIER;
      x[i * k + c] = gain * bell_at(3, (uint64_t)(i * k + c));
    }
  }
  for (int64_t i = 0; i < n * k; i++) w[i] = 0x1p-6f * bell_at(4, (uint64_t)i);
  return (struct layer){
      {"X", m, k, {.data = x, .type = FG_FP32, .ld = k}, {0}}, {"W", n, k, {.data = w, .type = FG_FP32, .ld = k}, {0}}, true};
}

static struct side load_side(fg_context *context, struct factor *factor) {
  struct side side = {factor->source.spec, factor->rows, factor->cols, {0}, {0}};
  if (factor->quantised) {
    side.floats = (fg_operand){.data = packed_data(&factor->source), .type = factor->source.tensor->type, .ld = factor->cols};
  } else {
    factor_load(context, factor, FG_DEFAULT_SCALING, FG_DEFAULT_SCALING, FG_DEFAULT_TYPE);
    side.fp8 = factor->fp8;
  }
  return side;
}

static struct layer load_layer(fg_context *context, const char *x_spec, const char *w_spec) {
  struct factor x = factor_find(x_spec), w = factor_find(w_spec);
  require_same_k(&x, &w);
  return (struct layer){load_side(context, &x), load_side(context, &w), false};
}

static fg_operand quantised(fg_context *context, const struct side *side, fg_scaling scaling) {
  if (!side->floats.data) return side->fp8;
  progress(text("quantising %s", side->name), 0, 1);
  return quantise(context, &side->floats, 1, side->rows, side->k, FG_E4M3, scaling, 0, side->name);
}

static void release_quantised(const struct side *side, const fg_operand *operand) {
  if (!side->floats.data) return;
  release((void *)(uintptr_t)operand->data);
  release((void *)(uintptr_t)operand->scale);
}

/* `count` rows of the side as they are before the demo quantises them. */
static void read_rows(fg_context *context, const struct side *side, int64_t first, int64_t count, float *out) {
  if (side->floats.data) {
    to_float(context, side->floats.type, side->floats.data, first * side->k, count * side->k, out);
    return;
  }
  for (int64_t row = first; row < first + count; row++) { /* one by one, for blocks of scales do not begin everywhere */
    fg_conversion conversion = {.rows = 1,
                                .cols = side->k,
                                .from = rows_of(&side->fp8, row, side->k),
                                .to = {.data = out + (row - first) * side->k, .type = FG_FP32}};
    require(fg_dequantize(context, &conversion), side->name);
  }
}

/* X Wt in FP64 for rows sample[0 ... count), [count, n]. */
static double *multiply_unquantised(fg_context *context, const struct layer *layer, const int64_t *sample, int64_t count,
                                    int threads) {
  enum { PANEL = 64, TOGETHER = 4 };
  int64_t n = layer->w.rows, k = layer->x.k;
  double *product = claim_matrix(count, n, sizeof *product, "the unquantised product");
  float *x = claim_matrix(count, k, sizeof *x, "rows of X"), *w = claim_matrix(PANEL, k, sizeof *w, "rows of W");
  for (int64_t i = 0; i < count; i++) read_rows(context, &layer->x, sample[i], 1, x + i * k);
  if (threads > 0) omp_set_num_threads(threads);
  for (int64_t j0 = 0; j0 < n; j0 += PANEL) {
    progress("multiplying without quantising", j0, n);
    int64_t columns = n - j0 < PANEL ? n - j0 : PANEL;
    read_rows(context, &layer->w, j0, columns, w);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++)
      for (int64_t j = 0; j < columns; j += TOGETHER) {
        const float *u = x + i * k, *v[TOGETHER];
        for (int t = 0; t < TOGETHER; t++) v[t] = w + (j + t < columns ? j + t : j) * k;
        double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
        for (int64_t l = 0; l < k; l++) {
          double factor = (double)u[l];
          s0 += factor * (double)v[0][l];
          s1 += factor * (double)v[1][l];
          s2 += factor * (double)v[2][l];
          s3 += factor * (double)v[3][l];
        }
        const double sums[TOGETHER] = {s0, s1, s2, s3};
        for (int t = 0; t < TOGETHER && j + t < columns; t++) product[i * n + j0 + j + t] = sums[t];
      }
  }
  progress_clear();
  release(x);
  release(w);
  return product;
}

static fg_problem problem_of(const struct layer *layer, const fg_operand *a, const fg_operand *b, float *d) {
  return (fg_problem){.m = layer->x.rows,
                      .n = layer->w.rows,
                      .k = layer->x.k,
                      .a = *a,
                      .b = *b,
                      .d = {.data = d, .type = FG_FP32, .ld = layer->w.rows}};
}

/* The best of three, or of one that takes long. */
static double time_level(fg_context *context, const fg_problem *problem, const char *what) {
  double best = multiply(context, problem, what);
  for (int again = 0; again < 2 && best < 1; again++) best = fmin(best, multiply(context, problem, what));
  return best;
}

/* The level's D, NULL if it did not run. */
static const float *d_of(const struct level_result *results, int count, fg_level level) {
  for (int i = 0; i < count; i++)
    if (results[i].info->level == level) return results[i].d;
  return NULL;
}

static const char *compare_with_twin(const struct level_result *results, int count, const struct level_result *own,
                                     int64_t elements) {
  const fg_level_info *info = own->info;
  if (info->twin == FG_EXACT) return "within bound";
  if (info->twin == info->level) return "defines them";
  const float *d = d_of(results, count, info->twin);
  if (!d) return text("%s did not run", level_name(info->twin));
  return memcmp(d, own->d, (size_t)elements * sizeof *d) == 0 ? text("= %s", level_name(info->twin)) : "differ";
}

static int run_levels(fg_context *host, const struct layer *layer, struct level_result results[MOST_LEVELS]) {
  fg_operand a = quantised(host, &layer->x, FG_1X128), b = quantised(host, &layer->w, FG_128X128);
  fg_context *cuda;
  cuda_context(0, &cuda);
  int64_t m = layer->x.rows, n = layer->w.rows;
  int levels, count = 0;
  const fg_level_info *info = fg_levels(&levels);
  for (int i = 0; i < levels && count < MOST_LEVELS; i++) {
    fg_context *context = info[i].memory == FG_CPU ? host : cuda;
    if (!context || level_runs(context, info[i].level) != FG_OK) continue;
    struct level_result *result = &results[count];
    *result = (struct level_result){.info = &info[i], .d = claim_matrix(m, n, sizeof *result->d, "D")};
    fg_problem problem = problem_of(layer, &a, &b, result->d);
    problem.level = info[i].level;
    if (level_serves(context, &problem) == FG_UNSUPPORTED) {
      release(result->d);
      continue;
    }
    result->seconds = time_level(context, &problem, text("level %s", info[i].name));
    result->verdict = judge(host, &problem, result->d, FG_FP32, FG_FP32, text("checking level %s", info[i].name));
    result->bits = compare_with_twin(results, count, result, m * n);
    count++;
  }
  release_quantised(&layer->x, &a);
  release_quantised(&layer->w, &b);
  fg_context_destroy(cuda);
  return count;
}

static int ascending(const void *left, const void *right) {
  double x = *(const double *)left, y = *(const double *)right;
  return (x > y) - (x < y);
}

/* Evenly spread over m; as many as a few seconds allow. */
static int64_t choose_rows(const struct layer *layer, int64_t **sample) {
  double each = fmax((double)layer->w.rows * (double)layer->x.k, 1);
  int64_t m = layer->x.rows, count = (double)m * each <= 0x1p34 ? m : (int64_t)(0x1p34 / each) + 1;
  if (count > m) count = m;
  *sample = claim(count, sizeof **sample, "the sample");
  for (int64_t i = 0; i < count; i++) (*sample)[i] = (int64_t)((double)i * (double)m / (double)count);
  return count;
}

static fg_scaling scaling_of(const struct side *side, fg_scaling wanted) {
  return side->floats.data ? wanted : side->fp8.scaling;
}

/* What there is to compare, without rows that are the same. Returns how many: 0 if both sides are FP8 already. */
static int choose_scalings(const struct layer *layer, struct scaling_result results[MOST_SCALINGS]) {
  static const fg_scaling wanted[MOST_SCALINGS][2] = {{FG_TENSOR, FG_TENSOR}, {FG_1X128, FG_128X128}, {FG_1X128, FG_1X128}};
  int count = 0;
  if (!layer->x.floats.data && !layer->w.floats.data) return 0;
  for (int s = 0; s < MOST_SCALINGS; s++) {
    fg_scaling x = scaling_of(&layer->x, wanted[s][0]), w = scaling_of(&layer->w, wanted[s][1]);
    if (count && results[count - 1].x_scaling == x && results[count - 1].w_scaling == w) continue;
    results[count++] = (struct scaling_result){.x_scaling = x, .w_scaling = w};
  }
  return count;
}

/* Fills in the errors and returns how many rows they are of. */
static int64_t try_scalings(fg_context *context, const struct layer *layer, int threads, struct scaling_result *results,
                            int scalings) {
  int64_t *sample, count = choose_rows(layer, &sample), n = layer->w.rows;
  double *product = multiply_unquantised(context, layer, sample, count, threads);
  double *row_error = claim(count, sizeof *row_error, "errors of rows");
  float *d = claim_matrix(layer->x.rows, n, sizeof *d, "D");
  for (int s = 0; s < scalings; s++) {
    fg_operand a = quantised(context, &layer->x, results[s].x_scaling), b = quantised(context, &layer->w, results[s].w_scaling);
    fg_problem problem = problem_of(layer, &a, &b, d);
    problem.level = FG_BLAS;
    multiply(context, &problem, "multiplying");
    double all_error = 0, all = 0;
    for (int64_t i = 0; i < count; i++) {
      double error = 0, square = 0;
      for (int64_t j = 0; j < n; j++) {
        double value = product[i * n + j], difference = (double)d[sample[i] * n + j] - value;
        error += difference * difference;
        square += value * value;
      }
      row_error[i] = square > 0 ? sqrt(error / square) : 0;
      all_error += error;
      all += square;
    }
    qsort(row_error, (size_t)count, sizeof *row_error, ascending);
    results[s].error = all > 0 ? sqrt(all_error / all) : 0;
    results[s].median_row = count ? row_error[count / 2] : 0;
    results[s].worst_row = count ? row_error[count - 1] : 0;
    release_quantised(&layer->x, &a);
    release_quantised(&layer->w, &b);
  }
  release(product);
  release(row_error);
  release(d);
  release(sample);
  return count;
}

static double gflops_of(const struct layer *layer, double seconds) {
  return seconds > 0 ? 2e-9 * (double)layer->x.rows * (double)layer->w.rows * (double)layer->x.k / seconds : 0;
}

static void print_layer(const struct layer *layer, int threads) {
  const struct side *x = &layer->x, *w = &layer->w;
  struct table *table = table_begin("lll", NULL);
  table_cell(table, "  X");
  table_cell(table, "[%" PRId64 ", %" PRId64 "]", x->rows, x->k);
  if (layer->made) {
    table_cell(table, "activations; about one channel in %d is an outlier, %d times as large as the others,", ONE_CHANNEL_IN,
               OUTLIER);
    table_cell(table, "%s", "");
    table_cell(table, "%s", "");
    table_cell(table, "and about one token in %d is huge in one of %d of these, %d times", ONE_TOKEN_IN, ONE_OUTLIER_IN, MASSIVE);
  } else {
    table_cell(table, "%s", x->name);
  }
  table_cell(table, "  W");
  table_cell(table, "[%" PRId64 ", %" PRId64 "]", w->rows, w->k);
  table_cell(table, "%s", layer->made ? "weights" : w->name);
  fg_finding cpu;
  int known = fg_doctor(&cpu, 1);
  table_cell(table, "  D");
  table_cell(table, "[%" PRId64 ", %" PRId64 "]", x->rows, w->rows);
  table_cell(table, "= X W^T, on %s%s", known ? cpu.found : "this machine", threads ? text("; at most %d used", threads) : "");
  if (layer->made) printf("A layer such as a language model has, the same numbers on every machine:\n\n");
  table_print(table);
}

static const char *side_text(const struct side *side, const char *name, fg_scaling scaling) {
  if (!side->floats.data) return text("%s as it is", name);
  return scaling == FG_TENSOR ? text("one for %s", name) : text("%s of %s", scaling_name(scaling), name);
}

static const char *scales_text(const struct layer *layer, fg_scaling x_scaling, fg_scaling w_scaling) {
  return text("%s, %s", side_text(&layer->x, "X", x_scaling), side_text(&layer->w, "W", w_scaling));
}

static void print_levels(const struct layer *layer, const struct level_result *results, int count) {
  const char *const headings[] = {"level", "seconds", "GFLOPS", "worst at", "its error", "its bound", "error/bound", "bits"};
  struct table *table = table_begin("lrrrrrrl", headings);
  for (int i = 0; i < count; i++) {
    const struct verdict *v = &results[i].verdict;
    table_cell(table, "%s", results[i].info->name);
    table_cell(table, "%.3g", results[i].seconds);
    table_cell(table, "%.3g", gflops_of(layer, results[i].seconds));
    table_cell(table, "[%" PRId64 ", %" PRId64 "]", v->i, v->j);
    table_cell(table, "%.2e", v->error);
    table_cell(table, "%.2e", v->bound);
    table_cell(table, "%#.2g", v->ratio);
    table_cell(table, "%s", v->outside ? text("%" PRId64 " OUTSIDE", v->outside) : results[i].bits);
  }
  printf("\nEvery level that runs here, on FP8 (%s), D in FP32, each element checked\n"
         "against the exact product; the worst is the one that uses most of its bound:\n\n",
         scales_text(layer, FG_1X128, FG_128X128));
  table_print(table);
  int levels, missing = 0;
  const fg_level_info *info = fg_levels(&levels);
  for (int i = 0; i < levels; i++) {
    bool ran = false;
    for (int l = 0; l < count; l++) ran = ran || results[l].info == &info[i];
    if (!ran) printf("%s%s", missing++ ? ", " : "(not here or not of this size: ", info[i].name);
  }
  if (missing) printf("; 'finegemm levels' says why)\n");
}

/* How far the level hopper, which is what an H100 gives, is from reference. */
struct prediction {
  int64_t differing; /* elements, in their bits */
  double rms;        /* of the difference, relative to reference's */
};

static struct prediction predict(const struct level_result *results, int count, int64_t elements) {
  const float *hopper = d_of(results, count, FG_HOPPER), *reference = d_of(results, count, FG_REFERENCE);
  struct prediction prediction = {0};
  double error = 0, square = 0;
  for (int64_t i = 0; i < elements; i++) {
    double difference = (double)hopper[i] - (double)reference[i];
    prediction.differing += memcmp(&hopper[i], &reference[i], sizeof *hopper) != 0;
    error += difference * difference;
    square += (double)reference[i] * (double)reference[i];
  }
  prediction.rms = error == 0 ? 0 : sqrt(error / square);
  return prediction;
}

static void print_prediction(const struct prediction *prediction, int64_t elements) {
  printf(
      "\nhopper is what an H100 gives, bit for bit: %.3g %% of D's elements differ from reference's, by %.2g of their size (RMS).\n",
      100 * (double)prediction->differing / (double)elements, prediction->rms);
}

static void print_scalings(const struct layer *layer, const struct scaling_result *results, int scalings, int64_t rows) {
  const char *const headings[] = {"scales", "all of D", "median row", "worst row"};
  struct table *table = table_begin("lrrr", headings);
  for (int s = 0; s < scalings; s++) {
    table_cell(table, "%s", scales_text(layer, results[s].x_scaling, results[s].w_scaling));
    table_cell(table, "%.3f %%", 100 * results[s].error);
    table_cell(table, "%.3f %%", 100 * results[s].median_row);
    table_cell(table, "%.3f %%", 100 * results[s].worst_row);
  }
  printf(
      "\nWhat fine-grained scales buy: the error of D against the product before quantising (root mean square, relative):\n\n");
  table_print(table);
  if (rows < layer->x.rows) printf("(of %" PRId64 " of the %" PRId64 " rows)\n", rows, layer->x.rows);
  const struct side *given = !layer->x.floats.data ? &layer->x : !layer->w.floats.data ? &layer->w : NULL;
  if (given) printf("(%s is FP8 already and stays as it is)\n", given->name);
}

/* The last lines: is all well, and was it worth it? */
static void print_verdict(bool right, const struct scaling_result *results, int scalings) {
  if (scalings > 1 && results[1].median_row > 0)
    printf("\nWith one scale the median row is %.2f times as wrong as with fine-grained ones.",
           results[0].median_row / results[1].median_row);
  printf("\n%s\n", right ? "Every element of every level is within its bound."
                         : "NOT every level is within its bound and equal to its twin.");
}

static json_t *json_of(const struct layer *layer, const struct level_result *levels, int level_count,
                       const struct prediction *prediction, const struct scaling_result *scalings, int scaling_count,
                       int64_t rows) {
  json_t *list = json_array(), *tried = scaling_count ? json_array() : json_null();
  for (int i = 0; i < level_count; i++) {
    const struct verdict *v = &levels[i].verdict;
    json_array_append_new(list, json_pack("{ss sf sf sI s[II] so so so ss}", "name", levels[i].info->name, "seconds",
                                          levels[i].seconds, "gflops", gflops_of(layer, levels[i].seconds), "outside", v->outside,
                                          "worst", v->i, v->j, "error", json_number(v->error), "bound", json_number(v->bound),
                                          "ratio", json_number(v->ratio), "bits", levels[i].bits));
  }
  for (int s = 0; s < scaling_count; s++)
    json_array_append_new(tried, json_pack("{ss ss sf sf sf}", "scaling_x", scaling_name(scalings[s].x_scaling), "scaling_w",
                                           scaling_name(scalings[s].w_scaling), "error", scalings[s].error, "median_row",
                                           scalings[s].median_row, "worst_row", scalings[s].worst_row));
  json_t *hopper = json_pack("{sI so}", "differing", prediction->differing, "rms", json_number(prediction->rms));
  return json_pack("{so so sI sI sI so so so sI}", "x", json_text(layer->x.name), "w", json_text(layer->w.name), "m",
                   layer->x.rows, "n", layer->w.rows, "k", layer->x.k, "levels", list, "hopper_beside_reference", hopper,
                   "scalings", tried, "scaling_rows", rows);
}

static void parse_size(const char *size, int64_t *m, int64_t *n, int64_t *k) {
  char rest;
  if (sscanf(size, "%" SCNd64 "x%" SCNd64 "x%" SCNd64 "%c", m, n, k, &rest) != 3 || *m < 1 || *n < 1 || *k < 1)
    fail(BAD_USAGE, "--size is '%s'; it must be MxNxK, as 512x2048x7168", size);
}

static enum outcome run(const struct command *command, int argc, const char **argv) {
  const char *size = NULL, *threads_text = NULL, *specs[2];
  int json = 0;
  struct poptOption options[] = {
      {"size", '\0', POPT_ARG_STRING, &size, 0, "of the layer that is made (default: 512x2048x7168)", "MxNxK"},
      OPTION_THREADS(threads_text),
      OPTION_JSON(json),
      OPTIONS_END};
  int given = parse(command, argc, argv, options, 0, 2, specs);
  if (given == 1) fail(BAD_USAGE, "W is missing; usage: finegemm demo %s", command->arguments);
  if (given && size) fail(BAD_USAGE, "--size is of the layer that is made; X and W have their own");
  int64_t m = 512, n = 2048, k = 7168;
  if (size) parse_size(size, &m, &n, &k);
  int threads = threads_option(threads_text);
  fg_context *context = make_context(threads);
  struct layer layer = given ? load_layer(context, specs[0], specs[1]) : make_layer(m, n, k);
  if (!json) {
    print_layer(&layer, threads);
    fflush(stdout);
  }
  struct level_result levels[MOST_LEVELS];
  int level_count = run_levels(context, &layer, levels);
  bool right = true;
  for (int i = 0; i < level_count; i++) right = right && levels[i].verdict.outside == 0 && strcmp(levels[i].bits, "differ") != 0;
  struct prediction prediction = predict(levels, level_count, layer.x.rows * layer.w.rows);
  if (!json) {
    print_levels(&layer, levels, level_count);
    print_prediction(&prediction, layer.x.rows * layer.w.rows);
  }
  struct scaling_result scalings[MOST_SCALINGS];
  int scaling_count = choose_scalings(&layer, scalings);
  int64_t rows = scaling_count ? try_scalings(context, &layer, threads, scalings, scaling_count) : 0;
  if (json) {
    json_t *object = json_of(&layer, levels, level_count, &prediction, scalings, scaling_count, rows);
    json_object_set_new(object, "passes", json_boolean(right));
    json_print(object);
  } else {
    if (scaling_count) print_scalings(&layer, scalings, scaling_count, rows);
    print_verdict(right, scalings, scaling_count);
  }
  return right ? DONE : DIFFERENT;
}

const struct command command_demo = {
    "demo", "[X W] [OPTION...]", "Shows what fine-grained scales buy, and every level that runs here at work",
    "\nWithout X and W it makes a layer such as a language model has. X [m, k] and W [n, k] are files as 'gemm' reads them.",
    run};
