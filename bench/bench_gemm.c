/* Times levels side by side with plain sgemm on operands that are already FP32, in turns, so that whatever else the machine does
 * meets all of them alike. Before a level is timed, rows of its result are held against fg_exact()'s bound, and elements of the
 * family hopper against its definition. bench/README.md says how to use it and what came out. */
#define BENCH "bench_gemm"
#include "bench.h"
#include "cpu.h"
#include "finegemm.h"
#include "median.h"
#include "resident.h"

#include <cblas.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <omp.h>
#include <popt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LEVELS = 16, ISAS = FG_ISA_AVX512 + 1, MAX_CONTENDERS = MAX_LEVELS * ISAS, MAX_TEAMS = 64 };
enum { CHECKED_ROWS = 16, DEFINED_COLS = 32 };

/* A level on a vector path. */
struct contender {
  const fg_level_info *level;
  enum fg_isa isa;
};

struct setup {
  struct shape_list shapes;
  const fg_level_info *levels[MAX_LEVELS];
  enum fg_isa isas[ISAS];
  struct contender contenders[MAX_CONTENDERS]; /* all levels on all isas */
  int teams[MAX_TEAMS];                        /* numbers of threads */
  int level_count, isa_count, contender_count, team_count, repeats, json;
};

/* One shape's operands: FP8 with scales 1x128 and 128x128 for the levels, FP32 for sgemm, and a result for each. */
struct operands {
  uint8_t *a, *b;           /* [m, k], [n, k] */
  float *a_scale, *b_scale; /* [m, kb], [ceil(n / 128), kb] */
  float *a_float, *b_float; /* [m, k], [n, k]: what the FP8 stand for */
  uint16_t *d;              /* [m, n] BF16 */
  float *d_float;           /* [m, n] */
};

/* The milliseconds of one contender, by round. */
struct times {
  double *by_round, median, min, max;
};

static void *allocate(size_t count, size_t element_bytes) {
  void *data = count ? calloc(count, element_bytes) : NULL;
  if (!data) fail(EXIT_FAILURE, "no memory for the operands");
  return data;
}

static void make_operand(fg_context *context, int64_t rows, int64_t k, fg_scaling scaling, uint8_t *codes, float *scale,
                         float *floats) {
  uint64_t seed = (uint64_t)(rows + scaling);
  fill_bell_shaped(floats, rows * k, &seed);
  require(fg_quantize(context, &(fg_conversion){.rows = rows,
                                                .cols = k,
                                                .from = {.data = floats},
                                                .to = {.data = codes, .scale = scale, .scaling = scaling}}));
  require(fg_dequantize(context, &(fg_conversion){.rows = rows,
                                                  .cols = k,
                                                  .from = {.data = codes, .scale = scale, .scaling = scaling},
                                                  .to = {.data = floats}}));
}

static struct operands make_operands(fg_context *context, struct shape shape) {
  size_t m = (size_t)shape.m, n = (size_t)shape.n, k = (size_t)shape.k, kb = (k + 127) / 128;
  struct operands made = {.a = allocate(m * k, 1),
                          .b = allocate(n * k, 1),
                          .a_scale = allocate(m * kb, sizeof(float)),
                          .b_scale = allocate((n + 127) / 128 * kb, sizeof(float)),
                          .a_float = allocate(m * k, sizeof(float)),
                          .b_float = allocate(n * k, sizeof(float)),
                          .d = allocate(m * n, sizeof(uint16_t)),
                          .d_float = allocate(m * n, sizeof(float))};
  make_operand(context, shape.m, shape.k, FG_1X128, made.a, made.a_scale, made.a_float);
  make_operand(context, shape.n, shape.k, FG_128X128, made.b, made.b_scale, made.b_float);
  memset(made.d, 0xFF, m * n * sizeof *made.d);
  return made;
}

static void free_operands(struct operands *operands) {
  void *all[] = {operands->a,       operands->b,       operands->a_scale, operands->b_scale,
                 operands->a_float, operands->b_float, operands->d,       operands->d_float};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static fg_problem problem_of(struct shape shape, const struct operands *operands, fg_level level) {
  return (fg_problem){.m = shape.m,
                      .n = shape.n,
                      .k = shape.k,
                      .a = {.data = operands->a, .scale = operands->a_scale},
                      .b = {.data = operands->b, .scale = operands->b_scale},
                      .d = {.data = operands->d},
                      .level = level};
}

static int64_t apart(int64_t all, int64_t some) { return (all + some - 1) / some; }

static float from_bf16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float x;
  memcpy(&x, &wide, sizeof x);
  return x;
}

static _Noreturn void fail_at(struct shape shape, const struct contender *contender, int64_t i, int64_t j, double value,
                              const char *why, double other) {
  char text[300];
  snprintf(text, sizeof text, "%s, %s, is wrong at %" PRId64 "x%" PRId64 "x%" PRId64 ": D[%" PRId64 ", %" PRId64 "] is %a, %s %a",
           contender->level->name, fg_isa_name(contender->isa), shape.m, shape.n, shape.k, i, j, value, why, other);
  fail(EXIT_FAILURE, text);
}

/* Up to CHECKED_ROWS rows of D, evenly apart, against their bounds: those rows are a problem of their own. */
static void check_bound(fg_context *context, struct shape shape, const struct operands *operands,
                        const struct contender *contender) {
  int64_t row_step = apart(shape.m, CHECKED_ROWS), rows = apart(shape.m, row_step);
  fg_problem problem = problem_of(shape, operands, contender->level->level);
  problem.m = rows;
  problem.a.ld = row_step * shape.k;
  problem.a.scale_ld = row_step * apart(shape.k, 128);
  double *value = allocate((size_t)(rows * shape.n), sizeof *value), *bound = allocate((size_t)(rows * shape.n), sizeof *bound);
  require(fg_exact(context, &problem, value, bound));
  for (int64_t row = 0; row < rows; row++)
    for (int64_t j = 0; j < shape.n; j++) {
      double d = (double)from_bf16(operands->d[row * row_step * shape.n + j]), error = fabs(d - value[row * shape.n + j]);
      if (!(error <= bound[row * shape.n + j]))
        fail_at(shape, contender, row * row_step, j, d, "further than its bound from", value[row * shape.n + j]);
    }
  free(value);
  free(bound);
}

/* An element of D by the definition of the family hopper, but for the output's rounding. */
static float defined_sum(struct shape shape, const struct operands *operands, int64_t i, int64_t j) {
  int64_t blocks = apart(shape.k, 128);
  float sum = 0, dot;
  for (int64_t block = 0; block < blocks; block++) {
    int64_t k = block * 128, count = shape.k - k < 128 ? shape.k - k : 128;
    const uint8_t *a = operands->a + i * shape.k + k, *b = operands->b + j * shape.k + k;
    require(fg_mma(FG_E4M3, a, FG_E4M3, b, count, 0, &dot, NULL));
    sum = fmaf(operands->a_scale[i * blocks + block] * operands->b_scale[j / 128 * blocks + block], dot, sum);
  }
  return sum;
}

/* Up to CHECKED_ROWS x DEFINED_COLS elements of D, evenly apart, by the definition. Returns how many these are. */
static int64_t define(struct shape shape, const struct operands *operands, float *sums) {
  int64_t row_step = apart(shape.m, CHECKED_ROWS), col_step = apart(shape.n, DEFINED_COLS), count = 0;
  for (int64_t i = 0; i < shape.m; i += row_step)
    for (int64_t j = 0; j < shape.n; j += col_step) sums[count++] = defined_sum(shape, operands, i, j);
  return count;
}

/* The same elements of D against the definition, bit for bit. */
static void check_bits(fg_context *context, struct shape shape, const struct operands *operands,
                       const struct contender *contender) {
  int64_t row_step = apart(shape.m, CHECKED_ROWS), col_step = apart(shape.n, DEFINED_COLS), e = 0;
  float sums[CHECKED_ROWS * DEFINED_COLS];
  uint16_t expected[CHECKED_ROWS * DEFINED_COLS];
  int64_t count = define(shape, operands, sums);
  require(fg_convert(
      context, &(fg_conversion){.rows = 1, .cols = count, .from = {.data = sums}, .to = {.data = expected, .type = FG_BF16}}));
  for (int64_t i = 0; i < shape.m; i += row_step)
    for (int64_t j = 0; j < shape.n; j += col_step, e++) {
      uint16_t d = operands->d[i * shape.n + j];
      if (d != expected[e])
        fail_at(shape, contender, i, j, (double)from_bf16(d), "by definition", (double)from_bf16(expected[e]));
    }
}

static bool is_of_family_hopper(const fg_level_info *level) { return level->twin == FG_HOPPER; }

static double sgemm_ms(struct shape shape, const struct operands *operands) {
  double begin = omp_get_wtime();
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)shape.m, (int)shape.n, (int)shape.k, 1, operands->a_float,
              (int)shape.k, operands->b_float, (int)shape.k, 0, operands->d_float, (int)shape.n);
  return (omp_get_wtime() - begin) * 1e3;
}

static double level_ms(fg_context *context, struct shape shape, const struct operands *operands,
                       const struct contender *contender) {
  fg_problem problem = problem_of(shape, operands, contender->level->level);
  fg_set_isa(contender->isa);
  double begin = omp_get_wtime();
  require(fg_gemm(context, &problem));
  return (omp_get_wtime() - begin) * 1e3;
}

/* How far the process's resident memory grows at most during one call; -1 if that cannot be told. */
static int64_t extra_bytes(fg_context *context, struct shape shape, const struct operands *operands,
                           const struct contender *contender) {
  struct resident before = resident_begin();
  level_ms(context, shape, operands, contender);
  return resident_grown(&before);
}

static void summarise(struct times *times, int count) {
  times->median = median(times->by_round, count);
  times->min = times->max = times->by_round[0];
  for (int i = 1; i < count; i++) {
    times->min = fmin(times->min, times->by_round[i]);
    times->max = fmax(times->max, times->by_round[i]);
  }
}

/* What is said of one contender; NULL or NAN where it does not apply. */
struct line {
  const char *name, *path;
  int threads;
  double macs; /* of one round */
  const struct times *times;
  double ratio; /* of sgemm's time to this one's */
  int64_t extra_bytes;
};

static json_t *report(const struct setup *setup, struct shape shape, const struct line *line) {
  const struct times *times = line->times;
  double gmac_per_s = line->macs * 1e-6 / times->median;
  json_t *row =
      json_pack("{s:s, s:s*, s:i, s:f, s:f, s:f, s:f}", "name", line->name, "path", line->path, "threads", line->threads,
                "median_ms", times->median, "min_ms", times->min, "max_ms", times->max, "gflops", 2 * gmac_per_s);
  if (!setup->json)
    printf("%6" PRId64 " x %6" PRId64 " x %6" PRId64 " %7d  %-10s %-6s %10.3f %10.3f %10.3f %9.1f %9.2f", shape.m, shape.n,
           shape.k, line->threads, line->name, line->path ? line->path : "", times->median, times->min, times->max,
           2 * gmac_per_s, gmac_per_s / line->threads);
  if (!isnan(line->ratio)) {
    json_object_set_new(row, "sgemm_over_level", json_real(line->ratio));
    json_object_set_new(row, "extra_bytes", line->extra_bytes < 0 ? json_null() : json_integer(line->extra_bytes));
    if (!setup->json)
      printf(line->extra_bytes < 0 ? " %7.3f        ?" : " %7.3f %8.1f", line->ratio, (double)line->extra_bytes / 1e6);
  }
  if (!setup->json) printf("\n");
  fflush(stdout);
  return row;
}

static double macs_of(struct shape shape) { return (double)shape.m * (double)shape.n * (double)shape.k; }

/* The definition's own speed: on the elements that the family hopper is checked by, and one thread. */
static json_t *measure_definition(const struct setup *setup, struct shape shape, const struct operands *operands) {
  struct times times = {.by_round = allocate((size_t)setup->repeats, sizeof(double))};
  float sums[CHECKED_ROWS * DEFINED_COLS];
  int64_t elements = 0;
  for (int round = 0; round < setup->repeats; round++) {
    double begin = omp_get_wtime();
    elements = define(shape, operands, sums);
    times.by_round[round] = (omp_get_wtime() - begin) * 1e3;
  }
  summarise(&times, setup->repeats);
  json_t *row =
      report(setup, shape,
             &(struct line){
                 .name = "definition", .threads = 1, .macs = (double)elements * (double)shape.k, .times = &times, .ratio = NAN});
  json_object_set_new(row, "elements", json_integer(elements));
  free(times.by_round);
  return row;
}

/* All contenders on `threads` threads. */
static void measure_team(const struct setup *setup, struct shape shape, const struct operands *operands, int threads,
                         json_t *rows) {
  struct times times[MAX_CONTENDERS + 1]; /* sgemm's come last */
  int64_t extra[MAX_CONTENDERS];
  const int sgemm = setup->contender_count;
  const struct contender *contenders = setup->contenders;
  fg_context *context;
  require(fg_context_create(&context, &(fg_context_options){.threads = threads}));
  omp_set_num_threads(threads);
  openblas_set_num_threads(threads);
  sgemm_ms(shape, operands);
  for (int i = 0; i < sgemm; i++) {
    extra[i] = extra_bytes(context, shape, operands, &contenders[i]);
    check_bound(context, shape, operands, &contenders[i]);
    if (is_of_family_hopper(contenders[i].level)) check_bits(context, shape, operands, &contenders[i]);
  }
  for (int i = 0; i <= sgemm; i++) times[i].by_round = allocate((size_t)setup->repeats, sizeof(double));
  for (int round = 0; round < setup->repeats; round++) {
    times[sgemm].by_round[round] = sgemm_ms(shape, operands);
    for (int i = 0; i < sgemm; i++) times[i].by_round[round] = level_ms(context, shape, operands, &contenders[i]);
  }
  for (int i = 0; i <= sgemm; i++) summarise(&times[i], setup->repeats);
  struct line line = {.name = "sgemm", .threads = threads, .macs = macs_of(shape), .times = &times[sgemm], .ratio = NAN};
  json_array_append_new(rows, report(setup, shape, &line));
  for (int i = 0; i < sgemm; i++) {
    double ratios[MAX_REPEATS];
    for (int round = 0; round < setup->repeats; round++) ratios[round] = times[sgemm].by_round[round] / times[i].by_round[round];
    line.name = contenders[i].level->name, line.path = fg_isa_name(contenders[i].isa), line.times = &times[i];
    line.ratio = median(ratios, setup->repeats), line.extra_bytes = extra[i];
    json_array_append_new(rows, report(setup, shape, &line));
  }
  for (int i = 0; i <= sgemm; i++) free(times[i].by_round);
  fg_context_destroy(context);
}

static json_t *measure(fg_context *context, const struct setup *setup, struct shape shape) {
  struct operands operands = make_operands(context, shape);
  json_t *rows = json_array();
  bool has_hopper = false;
  for (int i = 0; i < setup->level_count; i++) has_hopper = has_hopper || is_of_family_hopper(setup->levels[i]);
  for (int i = 0; i < setup->team_count; i++) measure_team(setup, shape, &operands, setup->teams[i], rows);
  if (has_hopper) json_array_append_new(rows, measure_definition(setup, shape, &operands));
  free_operands(&operands);
  return json_pack("{s:I, s:I, s:I, s:o}", "m", (json_int_t)shape.m, "n", (json_int_t)shape.n, "k", (json_int_t)shape.k, "rows",
                   rows);
}

/* What fg_doctor() found of that name. */
static const char *found(const fg_finding *findings, int count, const char *name) {
  for (int i = 0; i < count; i++)
    if (strcmp(findings[i].name, name) == 0) return findings[i].found;
  return "?";
}

static void parse_levels(fg_context *context, char *text, struct setup *setup) {
  int known;
  const fg_level_info *levels = fg_levels(&known);
  for (char *item = strtok(text, ","); item; item = strtok(NULL, ",")) {
    int i = 0;
    while (i < known && strcmp(levels[i].name, item) != 0) i++;
    if (i == known) fail(EXIT_USAGE, "--levels takes names that `finegemm levels` lists, commas between them");
    if (fg_can_run(context, levels[i].level) != FG_OK) fail(EXIT_USAGE, fg_message());
    if (setup->level_count == MAX_LEVELS) fail(EXIT_USAGE, "--levels takes at most 16 levels");
    setup->levels[setup->level_count++] = &levels[i];
  }
}

/* Names of paths, or "all" for all that the machine has; the best first. */
static void parse_isas(const char *text, struct setup *setup) {
  const char *rule = "--isa takes plain, avx2, avx512, as far as the machine has them, commas between them, or all";
  enum fg_isa usual = fg_isa();
  bool is_asked_for[ISAS] = {false};
  char *copy = strdup(text ? text : fg_isa_name(usual));
  if (!copy) fail(EXIT_FAILURE, "no memory");
  bool all = strcmp(copy, "all") == 0;
  for (char *item = strtok(copy, ","); item && !all; item = strtok(NULL, ",")) {
    int isa = 0;
    while (isa < ISAS && strcmp(fg_isa_name((enum fg_isa)isa), item) != 0) isa++;
    if (isa == ISAS || !fg_set_isa((enum fg_isa)isa)) fail(EXIT_USAGE, rule);
    is_asked_for[isa] = true;
  }
  for (int isa = ISAS - 1; isa >= 0; isa--)
    if (all ? fg_set_isa((enum fg_isa)isa) : is_asked_for[isa]) setup->isas[setup->isa_count++] = (enum fg_isa)isa;
  if (setup->isa_count == 0) fail(EXIT_USAGE, rule);
  fg_set_isa(usual);
  free(copy);
}

static void parse_teams(char *text, struct setup *setup) {
  for (char *item = strtok(text, ","); item; item = strtok(NULL, ",")) {
    const char *rest = item;
    int64_t threads = 0;
    if (setup->team_count == MAX_TEAMS) fail(EXIT_USAGE, "--threads takes at most 64 numbers");
    if (strcmp(item, "0") != 0 && (!parse_size(&rest, 0, &threads) || threads > 1024))
      fail(EXIT_USAGE, "--threads takes numbers from 0 to 1024, commas between them");
    setup->teams[setup->team_count++] = threads ? (int)threads : omp_get_num_procs();
  }
  if (setup->team_count == 0) fail(EXIT_USAGE, "--threads takes at least one number");
}

int main(int argc, const char **argv) {
  struct setup setup = {.repeats = 15};
  char *shapes = NULL, *levels = NULL, *isas = NULL, *teams = NULL;
  const struct poptOption options[] = {
      {"shapes", 's', POPT_ARG_STRING, &shapes, 0, "what to multiply (512x7168x2048,2048x2048x2048,1x7168x2048)", "MxNxK,..."},
      {"levels", 'l', POPT_ARG_STRING, &levels, 0, "which levels (blas)", "NAME,..."},
      {"isa", 'i', POPT_ARG_STRING, &isas, 0, "on which vector paths: plain, avx2, avx512, or all (the best)", "NAME,..."},
      {"repeats", 'r', POPT_ARG_INT, &setup.repeats, 0, "how often each is timed (15)", "N"},
      {"threads", 't', POPT_ARG_STRING, &teams, 0, "on how many threads; 0: as many as the process may run on (0)", "N,..."},
      {"json", 0, POPT_ARG_NONE, &setup.json, 0, "print JSON instead of a table", NULL},
      POPT_AUTOHELP POPT_TABLEEND};
  poptContext arguments = poptGetContext("bench_gemm", argc, argv, options, 0);
  int wrong = poptGetNextOpt(arguments);
  if (wrong < -1) {
    fprintf(stderr, "bench_gemm: %s: %s\n", poptBadOption(arguments, 0), poptStrerror(wrong));
    return EXIT_USAGE;
  }
  if (poptPeekArg(arguments)) fail(EXIT_USAGE, "takes options only; see --help");
  if (setup.repeats < 1 || setup.repeats > MAX_REPEATS) fail(EXIT_USAGE, "--repeats takes a number from 1 to 1001");
  if (!shapes) shapes = strdup("512x7168x2048,2048x2048x2048,1x7168x2048");
  if (!levels) levels = strdup("blas");
  if (!teams) teams = strdup("0");
  if (!shapes || !levels || !teams) fail(EXIT_FAILURE, "no memory");

  fg_context *context;
  require(fg_context_create(&context, NULL));
  setup.shapes = shapes_of(shapes);
  parse_levels(context, levels, &setup);
  parse_teams(teams, &setup);
  parse_isas(isas, &setup);
  for (int i = 0; i < setup.isa_count; i++)
    for (int level = 0; level < setup.level_count; level++)
      setup.contenders[setup.contender_count++] = (struct contender){setup.levels[level], setup.isas[i]};

  fg_finding findings[16];
  int count = fg_doctor(findings, 16);
  if (count > 16) count = 16;
  const char *cpu = found(findings, count, "cpu"), *blas = found(findings, count, "blas");
  if (!setup.json) {
    printf("finegemm %s, compiler %s\ncpu   %s\nblas  %s\n%d rounds\n\n", fg_version(), __VERSION__, cpu, blas, setup.repeats);
    printf("%6s   %6s   %6s %7s  %-10s %-6s %10s %10s %10s %9s %9s %7s %8s\n", "m", "n", "k", "threads", "", "path", "median ms",
           "min", "max", "GFLOPS", "GMAC/s/t", "ratio", "extra MB");
  }
  json_t *results = json_array();
  for (int i = 0; i < setup.shapes.count; i++) json_array_append_new(results, measure(context, &setup, setup.shapes.items[i]));
  json_t *all = json_pack("{s:s, s:s, s:s, s:s, s:i, s:o}", "version", fg_version(), "cpu", cpu, "blas", blas, "compiler",
                          __VERSION__, "repeats", setup.repeats, "results", results);
  if (setup.json) {
    const char *commit = getenv("FG_COMMIT"); /* of the sources, which a program cannot know */
    json_object_set_new(all, "commit", json_string(commit ? commit : "?"));
    json_dumpf(all, stdout, JSON_INDENT(2));
    printf("\n");
  } else {
    printf(
        "\nGMAC/s/t: thousand million products a second and thread. ratio: time of sgemm on FP32 operands over the level's, median "
        "of the\nrounds' ratios. extra: growth of resident memory. definition: fg_mma() on a sample of the elements.\n");
  }
  json_decref(all);
  fg_context_destroy(context);
  poptFreeContext(arguments);
  free(setup.shapes.items);
  free(shapes);
  free(levels);
  free(isas);
  free(teams);
  return ferror(stdout) || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
