/* Times fg_quantize() to FP8 with scales 1x128 beside memcpy() of the same source, in turns, on every vector path that the machine
 * has. What it reads it must read twice, since it promises to write nothing if there is a NaN: the two passes are timed apart
 * too. */
#define BENCH "bench_quantise"
#include "bench.h"
#include "cpu.h"
#include "finegemm.h"
#include "median.h"
#include "quantise.h"

#include <inttypes.h>
#include <jansson.h>
#include <omp.h>
#include <popt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLS = 7168, PATHS = 3 };

static const struct {
  fg_type type;
  const char *name;
} sources[] = {{FG_BF16, "bf16"}, {FG_FP16, "fp16"}, {FG_FP32, "f32"}};
enum { SOURCES = sizeof sources / sizeof *sources };

/* The milliseconds of each round. */
struct times {
  double copy[MAX_REPEATS], quantise[MAX_REPEATS], check[MAX_REPEATS], encode[MAX_REPEATS];
};

/* Written once, so that no page is first touched while the clock runs. */
static void *allocate(size_t bytes) {
  void *data = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (!data) fail(EXIT_FAILURE, "no memory for the matrices");
  return memset(data, 0x11, bytes);
}

static void fill(fg_type type, void *x, int64_t count) {
  uint64_t seed = 1;
  for (int64_t i = 0; i < count; i += COLS) {
    float row[COLS];
    fill_bell_shaped(row, COLS, &seed);
    fg_from_float(type, row, (char *)x + (size_t)i * fg_type_bytes(type), COLS);
  }
}

static double milliseconds_since(double begin) { return (omp_get_wtime() - begin) * 1e3; }

static void measure(fg_context *context, const struct fg_quantisation *work, void *copy, int threads, int repeats,
                    struct times *times) {
  size_t bytes = (size_t)(work->rows * work->cols) * fg_type_bytes(work->x_type);
  fg_conversion conversion = {.rows = work->rows,
                              .cols = work->cols,
                              .from = {.data = work->x, .type = work->x_type},
                              .to = {.data = work->q, .scale = work->scale}};
  for (int round = -1; round < repeats; round++) { /* the first is not counted */
    int at = round < 0 ? 0 : round;
    int64_t row, col;
    double begin = omp_get_wtime();
#pragma omp parallel for num_threads(threads)
    for (int thread = 0; thread < threads; thread++) {
      size_t from = bytes * (size_t)thread / (size_t)threads, to = bytes * (size_t)(thread + 1) / (size_t)threads;
      memcpy((char *)copy + from, (const char *)work->x + from, to - from);
    }
    __asm__ volatile("" : : "r"(copy) : "memory"); /* nobody reads the copy, and it is made all the same */
    times->copy[at] = milliseconds_since(begin);

    begin = omp_get_wtime();
    if (fg_quantize(context, &conversion) != FG_OK) fail(EXIT_FAILURE, fg_message());
    times->quantise[at] = milliseconds_since(begin);

    begin = omp_get_wtime();
    if (fg_find_not_finite(work, threads, &row, &col)) fail(EXIT_FAILURE, "the source is not finite");
    times->check[at] = milliseconds_since(begin);

    begin = omp_get_wtime();
    fg_quantise_matrix(work, threads);
    times->encode[at] = milliseconds_since(begin);
  }
}

int main(int argc, const char **argv) {
  static struct times times;
  int mebibytes = 256, repeats = 15, threads = 1, as_json = 0;
  const struct poptOption options[] = {
      {"mib", 'm', POPT_ARG_INT, &mebibytes, 0, "bytes of the source in MiB (256); should be more than the caches hold", "N"},
      {"repeats", 'r', POPT_ARG_INT, &repeats, 0, "how often each is timed (15)", "N"},
      {"threads", 't', POPT_ARG_INT, &threads, 0, "threads (1)", "N"},
      {"json", 0, POPT_ARG_NONE, &as_json, 0, "print JSON instead of a table", NULL},
      POPT_AUTOHELP POPT_TABLEEND};
  poptContext arguments = poptGetContext("bench_quantise", argc, argv, options, 0);
  int wrong = poptGetNextOpt(arguments);
  if (wrong < -1) {
    fprintf(stderr, "bench_quantise: %s: %s\n", poptBadOption(arguments, 0), poptStrerror(wrong));
    return EXIT_USAGE;
  }
  if (poptPeekArg(arguments)) fail(EXIT_USAGE, "takes options only; see --help");
  if (mebibytes < 1 || mebibytes > 1 << 16) fail(EXIT_USAGE, "--mib takes a number from 1 to 65536");
  if (repeats < 1 || repeats > MAX_REPEATS) fail(EXIT_USAGE, "--repeats takes a number from 1 to 1001");
  if (threads < 1 || threads > 1024) fail(EXIT_USAGE, "--threads takes a number from 1 to 1024");

  fg_context *context;
  if (fg_context_create(&context, &(fg_context_options){.threads = threads}) != FG_OK) fail(EXIT_FAILURE, fg_message());
  size_t bytes = (size_t)mebibytes << 20;
  void *x = allocate(bytes), *copy = allocate(bytes), *q = allocate(bytes / 2);
  float *scale = allocate(bytes / 2 / 128 * sizeof *scale);
  json_t *rows = json_array();
  if (!as_json)
    printf("finegemm %s, %d MiB in rows of %d, %d thread%s, medians of %d rounds; GB/s of source\n\n"
           "%-6s %-7s %8s %9s %7s %8s %8s\n",
           fg_version(), mebibytes, COLS, threads, threads > 1 ? "s" : "", repeats, "source", "path", "memcpy", "quantise",
           "ratio", "check", "encode");
  for (int s = 0; s < SOURCES; s++) {
    fg_type type = sources[s].type;
    struct fg_quantisation work = {.rows = (int64_t)(bytes / fg_type_bytes(type) / COLS),
                                   .cols = COLS,
                                   .x = x,
                                   .x_type = type,
                                   .x_ld = COLS,
                                   .q = q,
                                   .q_type = FG_E4M3,
                                   .q_ld = COLS,
                                   .scale = scale,
                                   .scaling = FG_1X128,
                                   .row_stride = COLS / 128,
                                   .block_stride = 1};
    double gigabytes = (double)(work.rows * COLS) * (double)fg_type_bytes(type) / 1e9;
    fill(type, x, work.rows * COLS);
    for (int isa = FG_ISA_PLAIN; isa <= FG_ISA_AVX512; isa++) {
      if (!fg_set_isa((enum fg_isa)isa)) continue;
      measure(context, &work, copy, threads, repeats, &times);
      double ratios[MAX_REPEATS];
      for (int round = 0; round < repeats; round++) ratios[round] = times.copy[round] / times.quantise[round];
      double ratio = median(ratios, repeats), copy_rate = gigabytes * 1e3 / median(times.copy, repeats);
      double quantise_rate = gigabytes * 1e3 / median(times.quantise, repeats);
      double check_rate = gigabytes * 1e3 / median(times.check, repeats);
      double encode_rate = gigabytes * 1e3 / median(times.encode, repeats);
      json_array_append_new(rows, json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f}", "source", sources[s].name, "path",
                                            fg_isa_name((enum fg_isa)isa), "memcpy_gb_per_s", copy_rate, "quantise_gb_per_s",
                                            quantise_rate, "ratio", ratio, "check_gb_per_s", check_rate, "encode_gb_per_s",
                                            encode_rate));
      if (!as_json)
        printf("%-6s %-7s %8.2f %9.2f %7.3f %8.2f %8.2f\n", sources[s].name, fg_isa_name((enum fg_isa)isa), copy_rate,
               quantise_rate, ratio, check_rate, encode_rate);
      fflush(stdout);
    }
  }
  if (as_json) {
    char cpu[FG_CPU_NAME_BYTES];
    fg_cpu_name(cpu);
    json_t *all =
        json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:O}", "version", fg_version(), "cpu", cpu, "compiler", __VERSION__,
                  "source_mib", mebibytes, "cols", COLS, "threads", threads, "repeats", repeats, "results", rows);
    const char *commit = getenv("FG_COMMIT"); /* of the sources, which a program cannot know */
    json_object_set_new(all, "commit", json_string(commit ? commit : "?"));
    json_dumpf(all, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(all);
  }
  json_decref(rows);
  fg_context_destroy(context);
  poptFreeContext(arguments);
  free(x);
  free(copy);
  free(q);
  free(scale);
  return ferror(stdout) || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
