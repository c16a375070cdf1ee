/* What a GPU level costs the host: the first call of a process, with the kernel compiled and with it in the disk's cache; every later
 * call, and its parts; compiling. Without a GPU only what is compiled is timed. bench/README.md says how to use it and what came out. */
#define BENCH "bench_gpu_host"
#include "bench.h"
#include "gpu_machine.h"
#include "median.h"
#include "tensor_map.h"

#include <inttypes.h>
#include <math.h>
#include <popt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_REPEATS = 7, COMPILE_REPEATS = 5, CALLS = 10000, AT_ONCE = 250 };

static const fg_level levels[] = {FG_NAIVE, FG_SHARED, FG_FULL};
enum { LEVELS = sizeof levels / sizeof *levels };

/* A kernel is a level's and a kind's, among others. */
struct kernel {
  fg_level level;
  fg_kind kind;
  const char *kind_name;
};
static const struct kernel timed[] = {
    {FG_NAIVE, FG_DENSE, "dense"},    {FG_SHARED, FG_DENSE, "dense"},         {FG_SHARED, FG_GROUPED_ROWS, "grouped rows"},
    {FG_SHARED, FG_MASKED, "masked"}, {FG_SHARED, FG_GROUPED_K, "grouped K"}, {FG_FULL, FG_DENSE, "dense"}};
enum { TIMED = sizeof timed / sizeof *timed };

/* The n and k of all layers of a DeepSeek-V3, and the m that are planned for. */
static const int64_t model[][2] = {{2112, 7168}, {576, 7168},  {24576, 1536}, {32768, 512},  {7168, 16384},
                                   {4096, 7168}, {7168, 2048}, {18432, 7168}, {7168, 18432}, {129280, 7168}};
enum { MODEL = sizeof model / sizeof *model, LARGEST_M = 8192 };

static int table = 1; /* printed, else JSON */

static double now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

static const char *name_of(fg_level level) {
  int count;
  const fg_level_info *info = fg_levels(&count);
  for (int i = 0; i < count; i++)
    if (info[i].level == level) return info[i].name;
  return "?";
}

static fg_problem problem_of(int64_t m, int64_t n, int64_t k, fg_level level) {
  static _Alignas(16) float any[3][4]; /* as memory is that is allocated */
  return (fg_problem){.m = m,
                      .n = n,
                      .k = k,
                      .a = {.data = any[0], .scale = any[1]},
                      .b = {.data = any[0], .scale = any[1]},
                      .d = {.data = any[2]},
                      .level = level};
}

/* --- Processes: each figure of a first call is that of a new one */

/* What the child's function says, figure by figure; false: no GPU. */
static bool in_child(void (*work)(const struct kernel *of, double *figures), const struct kernel *of, double *figures,
                     int count) {
  int ends[2];
  if (pipe(ends) != 0) fail(EXIT_FAILURE, "no pipe");
  fflush(NULL);
  pid_t child = fork();
  if (child < 0) fail(EXIT_FAILURE, "no process");
  if (child == 0) {
    work(of, figures);
    ssize_t bytes = (ssize_t)((size_t)count * sizeof *figures);
    _exit(write(ends[1], figures, (size_t)bytes) == bytes ? EXIT_SUCCESS : EXIT_FAILURE);
  }
  close(ends[1]);
  ssize_t got = read(ends[0], figures, (size_t)count * sizeof *figures);
  close(ends[0]);
  int status;
  waitpid(child, &status, 0);
  return got == (ssize_t)((size_t)count * sizeof *figures) && status == 0;
}

static void open_compiler(const struct kernel *of, double *figures) {
  (void)of;
  double begin = now_us();
  if (fg_compiler_version() == 0) fail(EXIT_FAILURE, fg_message());
  figures[0] = now_us() - begin;
}

enum { CONTEXT, FIRST, SECOND, FIGURES };

static void call_twice(const struct kernel *of, double *figures) {
  enum { M = 64, N = 64, K = 128 };
  fg_context *context;
  void *memory;
  if (!fg_driver()) _exit(EXIT_FAILURE); /* no GPU, which is no failure */
  double begin = now_us();
  require(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA}));
  figures[CONTEXT] = now_us() - begin;
  require(fg_memory_allocate(context, (M + N) * K + M * N * 2 + (M + N) * 4 + M * 4, &memory));
  char *at = memory;
  fg_problem problem = problem_of(M, N, K, of->level);
  problem.kind = of->kind, problem.groups = of->kind != FG_DENSE;
  problem.a.data = at, problem.b.data = at + M * K, problem.d.data = at + (M + N) * K;
  problem.a.scale = (float *)(void *)(at + (M + N) * K + M * N * 2), problem.b.scale = problem.a.scale + M;
  if (of->kind != FG_DENSE) problem.group_values = problem.b.scale + N; /* any will do */
  begin = now_us();
  require(fg_gemm(context, &problem));
  figures[FIRST] = now_us() - begin;
  begin = now_us();
  require(fg_gemm(context, &problem));
  figures[SECOND] = now_us() - begin;
}

static json_t *milliseconds(const double *us, int count) {
  double low = us[0], high = us[0];
  for (int i = 1; i < count; i++) low = fmin(low, us[i]), high = fmax(high, us[i]);
  json_t *all = json_array();
  for (int i = 0; i < count; i++) json_array_append_new(all, json_real(us[i] * 1e-3));
  return json_pack("{s:f, s:f, s:f, s:o}", "median_ms", median(us, count) * 1e-3, "min_ms", low * 1e-3, "max_ms", high * 1e-3,
                   "all_ms", all);
}

static void say(const char *what, const json_t *times) {
  if (table)
    printf("%-58s %9.2f %9.2f %9.2f ms\n", what, json_number_value(json_object_get(times, "median_ms")),
           json_number_value(json_object_get(times, "min_ms")), json_number_value(json_object_get(times, "max_ms")));
  fflush(stdout);
}

static void empty_cache(void) { require(fg_cache_empty(NULL, NULL)); }

static void add_times(json_t *to, const char *key, const char *what, const double *us, int count) {
  json_t *times = milliseconds(us, count);
  say(what, times);
  json_object_set_new(to, key, times);
}

/* NULL: no GPU. */
static json_t *first_calls(const struct kernel *of) {
  double figures[FIGURES], context[FIRST_REPEATS], cold[FIRST_REPEATS], warm[FIRST_REPEATS];
  for (int i = 0; i < FIRST_REPEATS; i++) {
    empty_cache();
    if (!in_child(call_twice, of, figures, FIGURES)) return NULL;
    cold[i] = figures[FIRST];
    if (!in_child(call_twice, of, figures, FIGURES)) return NULL;
    warm[i] = figures[FIRST], context[i] = figures[CONTEXT];
  }
  json_t *row = json_pack("{s:s, s:s}", "name", name_of(of->level), "kind", of->kind_name);
  char what[64];
  snprintf(what, sizeof what, "%s, %s: a context", name_of(of->level), of->kind_name);
  add_times(row, "context", what, context, FIRST_REPEATS);
  snprintf(what, sizeof what, "%s, %s: its first call, kernel compiled", name_of(of->level), of->kind_name);
  add_times(row, "cold", what, cold, FIRST_REPEATS);
  snprintf(what, sizeof what, "%s, %s: its first call, kernel in the disk's cache", name_of(of->level), of->kind_name);
  add_times(row, "warm", what, warm, FIRST_REPEATS);
  return row;
}

/* --- Compiling, for which no GPU is needed */

/* A tile of `size` rows and columns; of level full, what it chooses for so many rows of A. */
static json_t *compile_kernel(const fg_gpu *gpu, const struct kernel *of, int size, fg_type a_type) {
  double us[COMPILE_REPEATS];
  fg_plan wish = {.block_m = size, .block_n = size};
  fg_problem problem =
      of->level == FG_FULL ? problem_of(size, model[0][0], model[0][1], FG_FULL) : problem_of(1, 1, 1, of->level);
  if (of->level != FG_FULL) problem.plan = &wish;
  problem.a.type = a_type, problem.kind = of->kind, problem.groups = of->kind != FG_DENSE;
  fg_kernel kernel;
  for (int i = 0; i < COMPILE_REPEATS; i++) {
    empty_cache();
    double begin = now_us();
    require(fg_precompile(gpu, &problem, &kernel));
    us[i] = now_us() - begin;
  }
  json_t *row = json_pack("{s:s, s:s, s:i, s:I}", "source", kernel.source, "defines", kernel.defines, "registers",
                          kernel.registers, "bytes", (json_int_t)kernel.bytes);
  char what[256];
  snprintf(what, sizeof what, "compile %s %s", name_of(of->level), kernel.defines);
  add_times(row, "times", what, us, COMPILE_REPEATS);
  return row;
}

static json_t *compile_all(const fg_gpu *gpu) {
  static const int rows_of_a[] = {1, 64, 128, 512, 1024, 4096};
  json_t *rows = json_array();
  for (int i = 0; i < TIMED; i++) {
    for (size_t r = 0; timed[i].level == FG_FULL && r < sizeof rows_of_a / sizeof *rows_of_a; r++)
      json_array_append_new(rows, compile_kernel(gpu, &timed[i], rows_of_a[r], FG_E4M3));
    if (timed[i].level == FG_FULL) continue;
    for (fg_type a_type = FG_E4M3; a_type <= (timed[i].kind == FG_DENSE ? FG_E5M2 : FG_E4M3); a_type++)
      for (int side = 16; side <= 64; side *= 2)
        if (timed[i].level == FG_NAIVE ? side == 16 : timed[i].kind == FG_DENSE || side == 64)
          json_array_append_new(rows, compile_kernel(gpu, &timed[i], side, a_type));
  }
  return rows;
}

/* All kernels of a model, one after the other. */
static json_t *precompile_model(const fg_gpu *gpu) {
  int problems = 0, kernels = 0;
  empty_cache();
  double begin = now_us();
  for (int i = 0; i < MODEL; i++)
    for (int64_t m = 1; m <= LARGEST_M; m *= 2, problems++) {
      fg_problem problem = problem_of(m, model[i][0], model[i][1], FG_BEST);
      fg_kernel kernel;
      require(fg_precompile(gpu, &problem, &kernel));
      kernels += !kernel.was_cached;
    }
  double seconds = (now_us() - begin) * 1e-6;
  if (table) printf("a model's %d kernels, for %d problems: %.2f seconds\n", kernels, problems, seconds);
  return json_pack("{s:f, s:i, s:i}", "seconds", seconds, "kernels", kernels, "problems", problems);
}

/* --- Later calls */

static int compare(const void *a, const void *b) { return compare_numbers(a, b); }

/* Of CALLS numbers, which are sorted. */
static json_t *call_json(const char *what, double *us) {
  qsort(us, CALLS, sizeof *us, compare);
  double middle = us[CALLS / 2], late = us[CALLS / 100 * 99];
  if (table) printf("%-58s %9.2f us, 99 of 100 within %.2f us\n", what, middle, late);
  return json_pack("{s:f, s:f, s:f}", "median_us", middle, "min_us", us[0], "p99_us", late);
}

/* What is timed CALLS times; the clock itself costs some 0.02 us. */
struct call {
  fg_context *context;
  const struct fg_driver *driver;
  CUcontext primary;
  fg_problem problem;
};

static void call_gemm(const struct call *call) { require(fg_gemm(call->context, &call->problem)); }
static void call_prepare(const struct call *call) { require(fg_prepare(call->context, &call->problem)); }

static void ask_pointers(const struct call *call) {
  const fg_problem *problem = &call->problem;
  const void *const pointers[] = {problem->a.data, problem->a.scale, problem->b.data, problem->b.scale, problem->d.data};
  for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++) {
    unsigned type = 0, is_managed = 0;
    int ordinal;
    CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                        CU_POINTER_ATTRIBUTE_IS_MANAGED};
    void *values[] = {&type, &ordinal, &is_managed};
    call->driver->cuPointerGetAttributes(3, attributes, values, (CUdeviceptr)(uintptr_t)pointers[i]);
  }
}

/* As many as level full makes here, each of A. */
static void make_maps(const struct call *call) {
  const fg_problem *problem = &call->problem;
  struct fg_tensor tensor = {.name = "a",
                             .data = problem->a.data,
                             .type = problem->a.type,
                             .matrices = 1,
                             .rows = problem->m,
                             .cols = problem->k,
                             .ld = problem->k,
                             .box_rows = 64,
                             .box_cols = 128,
                             .swizzle_bytes = 128};
  CUtensorMap map;
  for (int i = 0; i < 3; i++) require(fg_tensor_map(call->driver, &tensor, &map));
}

static void push_and_pop(const struct call *call) {
  CUcontext popped;
  call->driver->cuCtxPushCurrent(call->primary);
  call->driver->cuCtxPopCurrent(&popped);
}

static json_t *time_calls(const char *what, const struct call *call, void (*function)(const struct call *call)) {
  static double us[CALLS];
  for (int i = 0; i < CALLS; i++) {
    if (i % AT_ONCE == 0) { /* or the queue would fill, and the call wait for the GPU */
      call->driver->cuCtxPushCurrent(call->primary);
      call->driver->cuCtxSynchronize();
      call->driver->cuCtxPopCurrent(&(CUcontext){NULL});
    }
    double begin = now_us();
    function(call);
    us[i] = now_us() - begin;
  }
  return call_json(what, us);
}

static json_t *later_calls(fg_context *context, const struct fg_driver *driver, CUcontext primary) {
  enum { SIDE = 64, K = 128 };
  void *operands, *scales, *d;
  require(fg_memory_allocate(context, SIDE * K, &operands));
  require(fg_memory_allocate(context, SIDE * sizeof(float), &scales));
  require(fg_memory_allocate(context, SIDE * SIDE * 2, &d));
  json_t *rows = json_array();
  for (int level = 0; level < LEVELS; level++) {
    struct call call = {context, driver, primary, problem_of(SIDE, SIDE, K, levels[level])};
    call.problem.a.data = call.problem.b.data = operands, call.problem.d.data = d;
    call.problem.a.scale = call.problem.b.scale = scales;
    call_gemm(&call);
    char what[64];
    snprintf(what, sizeof what, "%s: a later call", name_of(levels[level]));
    json_t *all = time_calls(what, &call, call_gemm);
    json_t *prepare = time_calls("  of it: check, plan, context (fg_prepare)", &call, call_prepare);
    json_t *pointers = time_calls("  of it: attributes of 5 pointers", &call, ask_pointers);
    json_t *context_us = time_calls("  of it, and of fg_prepare: push and pop of the context", &call, push_and_pop);
    json_t *row = json_pack("{s:s, s:o, s:o, s:o, s:o}", "name", name_of(levels[level]), "call", all, "prepare", prepare,
                            "pointers", pointers, "push_and_pop", context_us);
    if (levels[level] == FG_FULL) json_object_set_new(row, "maps", time_calls("  of it: three tensor maps", &call, make_maps));
    json_array_append_new(rows, row);
  }
  require(fg_memory_free(context, operands));
  require(fg_memory_free(context, scales));
  require(fg_memory_free(context, d));
  return rows;
}

/* --- All */

static const fg_gpu *known_gpu(const char *name) {
  int count;
  const fg_gpu *known = fg_known_gpus(&count);
  for (int i = 0; i < count; i++)
    if (strcmp(known[i].name, name) == 0) return &known[i];
  return known;
}

static void measure(void) {
  json_t *first = json_array();
  double opening[FIRST_REPEATS];
  for (int i = 0; i < FIRST_REPEATS; i++)
    if (!in_child(open_compiler, NULL, &opening[i], 1)) fail(EXIT_FAILURE, "there is no NVRTC to time");
  for (int i = 0; i < TIMED; i++) {
    json_t *row = first_calls(&timed[i]);
    if (row) json_array_append_new(first, row);
  }
  json_t *open = milliseconds(opening, FIRST_REPEATS);
  say("NVRTC is opened", open);
  fg_context *context = NULL;
  const struct fg_driver *driver = json_array_size(first) ? fg_driver() : NULL;
  struct machine machine = {.gpu = *known_gpu("H100 SXM"), .compiler_version = fg_compiler_version()};
  json_t *later = json_array();
  if (driver) {
    CUdevice device;
    CUcontext primary;
    require(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA}));
    machine = machine_of(driver, context, 0);
    if (driver->cuDeviceGet(&device, 0) != CUDA_SUCCESS || driver->cuDevicePrimaryCtxRetain(&primary, device) != CUDA_SUCCESS)
      fail(EXIT_FAILURE, "no primary context");
    json_decref(later);
    later = later_calls(context, driver, primary);
  } else if (table) {
    printf("no GPU here: compiling for %s\n", machine.gpu.name);
  }
  json_t *kernels = compile_all(&machine.gpu), *whole = precompile_model(&machine.gpu);
  json_t *all = machine_json(&machine);
  json_object_set_new(all, "open_compiler", open);
  json_object_set_new(all, "first_calls", first);
  json_object_set_new(all, "later_calls", later);
  json_object_set_new(all, "kernels", kernels);
  json_object_set_new(all, "model", whole);
  if (!table) {
    json_dumpf(all, stdout, JSON_INDENT(2));
    printf("\n");
  }
  json_decref(all);
  fg_context_destroy(context);
}

int main(int argc, const char **argv) {
  int json = 0;
  const struct poptOption options[] = {{"json", 0, POPT_ARG_NONE, &json, 0, "print JSON instead of a table", NULL},
                                       POPT_AUTOHELP POPT_TABLEEND};
  poptContext arguments = poptGetContext("bench_gpu_host", argc, argv, options, 0);
  int wrong = poptGetNextOpt(arguments);
  if (wrong < -1) {
    fprintf(stderr, "bench_gpu_host: %s: %s\n", poptBadOption(arguments, 0), poptStrerror(wrong));
    return EXIT_USAGE;
  }
  if (poptPeekArg(arguments)) fail(EXIT_USAGE, "takes options only; see --help");
  table = !json;
  const char *parent = getenv("TMPDIR"); /* the cache of its own that it empties again and again */
  char directory[4096];
  snprintf(directory, sizeof directory, "%s/bench_gpu_host.XXXXXX", parent && *parent == '/' ? parent : "/var/tmp");
  if (!mkdtemp(directory) || setenv("FG_CACHE_DIR", directory, 1) != 0 || setenv("FG_CACHE_PATH", "", 1) != 0)
    fail(EXIT_FAILURE, "no directory for a cache");
  measure();
  empty_cache();
  rmdir(directory);
  poptFreeContext(arguments);
  return ferror(stdout) || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
