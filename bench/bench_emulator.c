/* Times GPU levels on the emulator: what it takes to compile a kernel, and to run a small problem through it with every check on;
 * seconds by the clock, and of all processors together, which a machine that does something else too leaves nearly as they are. */
#define _XOPEN_SOURCE 700
#define BENCH "bench_emulator"
#include "bench.h"
#include "cpu.h"
#include "finegemm.h"
#include "finegemm_kernels.h"
#include "median.h"
#include "resident.h"

#include <inttypes.h>
#include <jansson.h>
#include <omp.h>
#include <popt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_LEVELS = 16, SEEDS = 2 };

struct bench {
  fg_context *cpu, *emulator;
  struct shape shape;
  fg_problem host, device; /* the same operands */
  size_t d_bytes;
  int repeats;
};

static void set_environment(const char *name, const char *value) {
  if (setenv(name, value, 1) != 0) fail(EXIT_FAILURE, "the environment cannot be changed");
}

static void *allocate(int64_t bytes) {
  void *memory = malloc((size_t)bytes);
  if (!memory) fail(EXIT_FAILURE, "no memory for the matrices");
  return memory;
}

static const void *send(fg_context *to, const void *from, int64_t bytes) {
  void *memory;
  require(fg_memory_allocate(to, (size_t)bytes, &memory));
  require(fg_memory_copy(to, memory, from, (size_t)bytes));
  return memory;
}

/* [rows, k], here and there. The scales of A lie as the copy engine wants them. */
static void make_operand(struct bench *bench, int64_t rows, fg_scaling scaling, uint64_t *seed, fg_operand *here,
                         fg_operand *there) {
  int64_t k = bench->shape.k, scales = (rows + 3) / 4 * 4 * ((k + 127) / 128);
  fg_scale_layout layout = scaling == FG_1X128 ? FG_ROWS_CONTIGUOUS : FG_BLOCKS_CONTIGUOUS;
  float *x = allocate(rows * k * (int64_t)sizeof *x), *scale = allocate(scales * (int64_t)sizeof *scale);
  void *codes = allocate(rows * k);
  memset(scale, 0, (size_t)scales * sizeof *scale);
  fill_bell_shaped(x, rows * k, seed);
  require(fg_quantize(
      bench->cpu,
      &(fg_conversion){.rows = rows,
                       .cols = k,
                       .from = {.data = x, .type = FG_FP32},
                       .to = {.data = codes, .scale = scale, .type = FG_E4M3, .scaling = scaling, .scale_layout = layout}}));
  free(x);
  *here = *there = (fg_operand){.data = codes, .scale = scale, .type = FG_E4M3, .scaling = scaling, .scale_layout = layout};
  there->data = send(bench->emulator, codes, rows * k);
  there->scale = send(bench->emulator, scale, scales * (int64_t)sizeof *scale);
}

static void make_operands(struct bench *bench) {
  struct shape shape = bench->shape;
  uint64_t seed = 1;
  bench->d_bytes = (size_t)(shape.m * shape.n) * sizeof(float);
  bench->host = bench->device = (fg_problem){.m = shape.m, .n = shape.n, .k = shape.k};
  make_operand(bench, shape.m, FG_1X128, &seed, &bench->host.a, &bench->device.a);
  make_operand(bench, shape.n, FG_128X128, &seed, &bench->host.b, &bench->device.b);
  bench->host.d = bench->device.d = (fg_result){.data = allocate((int64_t)bench->d_bytes), .type = FG_FP32};
  require(fg_memory_allocate(bench->emulator, bench->d_bytes, &bench->device.d.data));
}

static void free_operands(struct bench *bench) {
  for (const fg_problem *p = &bench->host; p; p = p == &bench->host ? &bench->device : NULL) {
    const void *all[] = {p->a.data, p->a.scale, p->b.data, p->b.scale, p->d.data};
    for (int i = 0; i < 5; i++) {
      if (p == &bench->host)
        free((void *)(uintptr_t)all[i]);
      else
        require(fg_memory_free(bench->emulator, (void *)(uintptr_t)all[i]));
    }
  }
}

/* A wrong result has no speed. */
static void check(struct bench *bench, const fg_level_info *level) {
  void *d = allocate((int64_t)bench->d_bytes);
  fg_problem twin = bench->host;
  fg_plan plan;
  fg_gpu gpu;
  require(fg_context_gpu(bench->emulator, &gpu));
  require(fg_plan_make(&gpu, &bench->device, &plan));
  twin.level = level->twin;
  twin.split_k = level->twin == FG_HOPPER ? plan.split_k : 0;
  require(fg_gemm(bench->cpu, &twin));
  require(fg_memory_copy(bench->emulator, d, bench->device.d.data, bench->d_bytes));
  if (memcmp(d, bench->host.d.data, bench->d_bytes) != 0) fail(EXIT_FAILURE, "a level's bits are not those of its twin");
  free(d);
}

static double processor_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double seconds_of_run(struct bench *bench, const fg_level_info *level, double *of_processors) {
  double begin = omp_get_wtime(), processors_begin = processor_seconds();
  require(fg_gemm(bench->emulator, &bench->device));
  double seconds = omp_get_wtime() - begin;
  *of_processors = processor_seconds() - processors_begin;
  check(bench, level);
  return seconds;
}

static json_t *measure(struct bench *bench, const fg_level_info *level) {
  double begin = omp_get_wtime(), compile = 0, seconds[SEEDS] = {0}, processors[SEEDS] = {0};
  int64_t grown = -1;
  bench->device.level = level->level;
  require(fg_prepare(bench->emulator, &bench->device));
  compile = omp_get_wtime() - begin;
  for (int seed = 0; seed < SEEDS; seed++) {
    double rounds[MAX_REPEATS], of_processors[MAX_REPEATS];
    set_environment("FG_EMULATOR_SEED", seed ? "1" : "0");
    for (int i = 0; i < bench->repeats; i++) {
      struct resident before = resident_begin();
      rounds[i] = seconds_of_run(bench, level, &of_processors[i]);
      int64_t more = resident_grown(&before);
      if (more > grown) grown = more;
    }
    seconds[seed] = median(rounds, bench->repeats);
    processors[seed] = median(of_processors, bench->repeats);
  }
  return json_pack("{ss sI sI sI sf s[{si sf sf}{si sf sf}] sI}", "name", level->name, "m", bench->shape.m, "n", bench->shape.n,
                   "k", bench->shape.k, "compile_seconds", compile, "runs", "seed", 0, "seconds", seconds[0], "processor_seconds",
                   processors[0], "seed", 1, "seconds", seconds[1], "processor_seconds", processors[1], "extra_bytes", grown);
}

/* All levels of a GPU that run, or those that are named. */
static int find_levels(fg_context *emulator, char *names, const fg_level_info *found[MAX_LEVELS]) {
  int levels, count = 0;
  const fg_level_info *info = fg_levels(&levels);
  for (char *name = names ? strtok(names, ",") : NULL; name; name = strtok(NULL, ",")) {
    int i = 0;
    while (i < levels && strcmp(info[i].name, name) != 0) i++;
    if (i == levels || info[i].memory != FG_CUDA || count == MAX_LEVELS) fail(EXIT_USAGE, "--levels takes levels of a GPU");
    require(fg_can_run(emulator, info[i].level));
    found[count++] = &info[i];
  }
  for (int i = 0; !names && i < levels && count < MAX_LEVELS; i++)
    if (info[i].memory == FG_CUDA && fg_can_run(emulator, info[i].level) == FG_OK) found[count++] = &info[i];
  return count;
}

static void print_row(const json_t *row) {
  const char *name;
  json_int_t m, n, k, extra;
  double compile, seconds[SEEDS], processors[SEEDS];
  if (json_unpack((json_t *)(uintptr_t)row, "{ss sI sI sI sf s[{sf sf}{sf sf}] sI}", "name", &name, "m", &m, "n", &n, "k", &k,
                  "compile_seconds", &compile, "runs", "seconds", &seconds[0], "processor_seconds", &processors[0], "seconds",
                  &seconds[1], "processor_seconds", &processors[1], "extra_bytes", &extra) != 0)
    fail(EXIT_FAILURE, "a row is not what it should be");
  printf("%6" PRId64 " %6" PRId64 " %6" PRId64 "  %-12s %9.2f %9.2f %9.2f %9.2f %9.2f %9.0f\n", (int64_t)m, (int64_t)n,
         (int64_t)k, name, compile, seconds[0], processors[0], seconds[1], processors[1], (double)extra / (1 << 20));
  fflush(stdout);
}

static void print_json(json_t *rows, int repeats) {
  char cpu[FG_CPU_NAME_BYTES];
  fg_cpu_name(cpu);
  const char *commit = getenv("FG_COMMIT"); /* of the sources, which a program cannot know */
  json_t *all = json_pack("{ss ss ss ss si si sO}", "version", fg_version(), "commit", commit ? commit : "?", "compiler",
                          __VERSION__, "cpu", cpu, "threads", omp_get_num_procs(), "repeats", repeats, "emulated", rows);
  json_dumpf(all, stdout, JSON_INDENT(2));
  printf("\n");
  json_decref(all);
}

int main(int argc, const char **argv) {
  static struct bench bench;
  char *shapes_text = NULL, *levels_text = NULL;
  const fg_level_info *levels[MAX_LEVELS];
  int as_json = 0;
  bench.repeats = 3;
  const struct poptOption options[] = {
      {"shapes", 's', POPT_ARG_STRING, &shapes_text, 0, "M x N x K (256x256x512), commas between shapes", "SHAPES"},
      {"levels", 'l', POPT_ARG_STRING, &levels_text, 0, "levels of a GPU (all that run), commas between names", "LEVELS"},
      {"repeats", 'r', POPT_ARG_INT, &bench.repeats, 0, "how often each is timed (3)", "N"},
      {"json", 0, POPT_ARG_NONE, &as_json, 0, "print JSON instead of a table", NULL},
      POPT_AUTOHELP POPT_TABLEEND};
  poptContext arguments = poptGetContext(BENCH, argc, argv, options, 0);
  int wrong = poptGetNextOpt(arguments);
  if (wrong < -1) {
    fprintf(stderr, BENCH ": %s: %s\n", poptBadOption(arguments, 0), poptStrerror(wrong));
    return EXIT_USAGE;
  }
  if (poptPeekArg(arguments)) fail(EXIT_USAGE, "takes options only; see --help");
  if (bench.repeats < 1 || bench.repeats > MAX_REPEATS) fail(EXIT_USAGE, "--repeats takes a number from 1 to 1001");
  struct shape_list list = shapes_of(shapes_text ? shapes_text : "256x256x512");
  set_environment("FG_DEVICE", "emulator");
  set_environment("FG_CACHE_DIR", ""); /* compiling is timed */
  require(fg_context_create(&bench.cpu, NULL));
  require(fg_context_create(&bench.emulator, &(fg_context_options){.device = FG_CUDA}));
  int level_count = find_levels(bench.emulator, levels_text, levels);
  json_t *rows = json_array();
  if (!as_json)
    printf("finegemm %s, %d processors, medians of %d rounds\n\n%6s %6s %6s  %-12s %9s %9s %9s %9s %9s %9s\n", fg_version(),
           omp_get_num_procs(), bench.repeats, "m", "n", "k", "level", "compile s", "seed 0 s", "of all", "seed 1 s", "of all",
           "extra MB");
  for (int s = 0; s < list.count; s++) {
    bench.shape = list.items[s];
    make_operands(&bench);
    for (int l = 0; l < level_count; l++) {
      json_array_append_new(rows, measure(&bench, levels[l]));
      if (!as_json) print_row(json_array_get(rows, json_array_size(rows) - 1));
    }
    free_operands(&bench);
  }
  if (as_json) print_json(rows, bench.repeats);
  json_decref(rows);
  fg_context_destroy(bench.emulator);
  fg_context_destroy(bench.cpu);
  poptFreeContext(arguments);
  free(list.items);
  free(shapes_text);
  free(levels_text);
  return ferror(stdout) || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
