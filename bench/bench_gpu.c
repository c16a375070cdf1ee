/* Times levels of a GPU side by side, in turns. Before a level is timed, rows of its result are held against its twin on the CPU, bit
 * for bit. bench/README.md says how to use it and what came out. */
#define BENCH "bench_gpu"
#include "bench.h"
#include "gpu_machine.h"
#include "median.h"

#include <inttypes.h>
#include <math.h>
#include <popt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { MAX_CONTENDERS = 16, CHECKED_ROWS = 16, SETTLED_ROUNDS = 5, SETTLED_MS = 100 };

/* A level with the library's plan, or with tiles of another size. */
struct contender {
  const fg_level_info *level;
  fg_plan wish, plan; /* wish: zero but for the tile. plan: what came of it, for the shape at hand */
};

struct setup {
  struct shape shapes[MAX_SHAPES];
  struct contender contenders[MAX_CONTENDERS];
  int shape_count, contender_count, repeats, ordinal, json;
};

/* What is open for as long as the program runs. */
struct bench {
  fg_context *gpu, *cpu;
  const struct fg_driver *driver;
  struct machine machine;
  CUevent begin, end;
  void *flush;
  size_t flush_bytes;
};

/* One shape's operands: [m, k] and [n, k] in E4M3 with scales 1x128 and 128x128, D [m, n] in BF16. */
struct operands {
  void *a, *b, *d;
  float *a_scale, *b_scale;
};

/* Microseconds. */
struct times {
  double median, min, max;
};

static void require_driver(const char *call, CUresult error) {
  if (error != CUDA_SUCCESS) require(fg_driver_fail(call, error));
}

static void *allocate(size_t bytes) {
  void *data = bytes ? malloc(bytes) : NULL;
  if (!data) fail(EXIT_FAILURE, "no memory for the operands");
  return data;
}

static int64_t blocks_of(int64_t k) { return (k + 127) / 128; }

static void make_operand(fg_context *cpu, int64_t rows, int64_t k, fg_scaling scaling, void *codes, float *scale) {
  float *floats = allocate((size_t)(rows * k) * sizeof *floats);
  uint64_t seed = (uint64_t)(rows + scaling);
  fill_bell_shaped(floats, rows * k, &seed);
  require(fg_quantize(
      cpu, &(fg_conversion){
               .rows = rows, .cols = k, .from = {.data = floats}, .to = {.data = codes, .scale = scale, .scaling = scaling}}));
  free(floats);
}

static struct operands make_operands(fg_context *cpu, struct shape shape) {
  size_t m = (size_t)shape.m, n = (size_t)shape.n, k = (size_t)shape.k, kb = (size_t)blocks_of(shape.k);
  struct operands made = {.a = allocate(m * k),
                          .b = allocate(n * k),
                          .d = allocate(m * n * 2),
                          .a_scale = allocate(m * kb * sizeof(float)),
                          .b_scale = allocate((n + 127) / 128 * kb * sizeof(float))};
  make_operand(cpu, shape.m, shape.k, FG_1X128, made.a, made.a_scale);
  make_operand(cpu, shape.n, shape.k, FG_128X128, made.b, made.b_scale);
  memset(made.d, 0xFF, m * n * 2);
  return made;
}

static void *on_gpu(fg_context *gpu, const void *host, size_t bytes) {
  void *device;
  require(fg_memory_allocate(gpu, bytes, &device));
  require(fg_memory_copy(gpu, device, host, bytes));
  return device;
}

static struct operands copy_operands(fg_context *gpu, struct shape shape, const struct operands *host) {
  size_t m = (size_t)shape.m, n = (size_t)shape.n, k = (size_t)shape.k, kb = (size_t)blocks_of(shape.k);
  return (struct operands){.a = on_gpu(gpu, host->a, m * k),
                           .b = on_gpu(gpu, host->b, n * k),
                           .d = on_gpu(gpu, host->d, m * n * 2),
                           .a_scale = on_gpu(gpu, host->a_scale, m * kb * sizeof(float)),
                           .b_scale = on_gpu(gpu, host->b_scale, (n + 127) / 128 * kb * sizeof(float))};
}

static fg_problem problem_of(struct shape shape, const struct operands *operands, const struct contender *contender) {
  return (fg_problem){.m = shape.m,
                      .n = shape.n,
                      .k = shape.k,
                      .a = {.data = operands->a, .scale = operands->a_scale},
                      .b = {.data = operands->b, .scale = operands->b_scale},
                      .d = {.data = operands->d},
                      .level = contender->level->level,
                      .plan = &contender->wish};
}

/* Up to CHECKED_ROWS rows of D, evenly apart, against the twin's: those rows are a problem of their own. */
static void check(const struct bench *bench, struct shape shape, const struct operands *host, const struct operands *device,
                  const struct contender *contender) {
  int64_t apart = (shape.m + CHECKED_ROWS - 1) / CHECKED_ROWS, rows = (shape.m + apart - 1) / apart;
  size_t row_bytes = (size_t)shape.n * 2;
  require(fg_memory_copy(bench->gpu, device->d, host->d, (size_t)shape.m * row_bytes)); /* NaN, until something is written */
  fg_problem problem = problem_of(shape, device, contender);
  require(fg_gemm(bench->gpu, &problem));
  problem = problem_of(shape, host, contender);
  problem.plan = NULL;
  problem.level = contender->level->twin;
  problem.m = rows;
  problem.a.ld = apart * shape.k;
  problem.a.scale_ld = apart * blocks_of(shape.k);
  problem.d.data = allocate((size_t)rows * row_bytes);
  require(fg_gemm(bench->cpu, &problem));
  void *got = allocate(row_bytes);
  for (int64_t row = 0; row < rows; row++) {
    require(fg_memory_copy(bench->gpu, got, (char *)device->d + (size_t)(row * apart) * row_bytes, row_bytes));
    if (memcmp(got, (char *)problem.d.data + (size_t)row * row_bytes, row_bytes) == 0) continue;
    char text[200];
    snprintf(text, sizeof text,
             "%s is wrong at %" PRId64 "x%" PRId64 "x%" PRId64 ": row %" PRId64 " has other bits than its twin",
             contender->level->name, shape.m, shape.n, shape.k, row * apart);
    fail(EXIT_FAILURE, text);
  }
  free(got);
  free(problem.d.data);
}

/* Microseconds of one of `launches` launches, one behind the other. */
static double launch_us(const struct bench *bench, const fg_problem *problem, int launches) {
  float ms;
  require_driver("cuEventRecord", bench->driver->cuEventRecord(bench->begin, NULL));
  for (int i = 0; i < launches; i++) require(fg_gemm(bench->gpu, problem));
  require_driver("cuEventRecord", bench->driver->cuEventRecord(bench->end, NULL));
  require_driver("cuEventSynchronize", bench->driver->cuEventSynchronize(bench->end));
  require_driver("cuEventElapsedTime", bench->driver->cuEventElapsedTime(&ms, bench->begin, bench->end));
  return (double)ms * 1e3 / launches;
}

static struct times summarise(const double *us, int count) {
  struct times times = {median(us, count), us[0], us[0]};
  for (int i = 1; i < count; i++) times.min = fmin(times.min, us[i]), times.max = fmax(times.max, us[i]);
  return times;
}

/* Each launch alone, nothing of its operands in the L2. */
static void time_cold(const struct bench *bench, const struct setup *setup, const fg_problem *problems, struct times *cold) {
  static double us[MAX_CONTENDERS][MAX_REPEATS];
  for (int round = 0; round < setup->repeats; round++)
    for (int i = 0; i < setup->contender_count; i++) {
      CUresult error =
          bench->driver->cuMemsetD8Async((CUdeviceptr)(uintptr_t)bench->flush, (unsigned char)round, bench->flush_bytes, NULL);
      require_driver("cuMemsetD8Async", error);
      us[i][round] = launch_us(bench, &problems[i], 1);
    }
  for (int i = 0; i < setup->contender_count; i++) cold[i] = summarise(us[i], setup->repeats);
}

/* Back to back for SETTLED_MS, when the clocks have come down to what power allows and the L2 has what fits. */
static void time_settled(const struct bench *bench, const struct setup *setup, const fg_problem *problems,
                         const struct times *cold, struct times *settled) {
  double us[MAX_CONTENDERS][SETTLED_ROUNDS];
  for (int round = 0; round < SETTLED_ROUNDS; round++)
    for (int i = 0; i < setup->contender_count; i++)
      us[i][round] = launch_us(bench, &problems[i], 1 + (int)(SETTLED_MS * 1e3 / cold[i].median));
  for (int i = 0; i < setup->contender_count; i++) settled[i] = summarise(us[i], SETTLED_ROUNDS);
}

static json_t *times_json(const struct times *times) {
  return json_pack("{s:f, s:f, s:f}", "median_us", times->median, "min_us", times->min, "max_us", times->max);
}

static json_t *report(const struct setup *setup, struct shape shape, const struct contender *contender, const struct times *cold,
                      const struct times *settled, double flops, double floor_us) {
  const fg_plan *plan = &contender->plan;
  double tflops = flops / cold->median * 1e-6, settled_tflops = flops / settled->median * 1e-6;
  if (!setup->json)
    printf("%6" PRId64 " x %6" PRId64 " x %6" PRId64 "  %-8s %3d x %-3d %6d %10.1f %10.1f %10.1f %8.2f %10.1f %8.2f %6.3f\n",
           shape.m, shape.n, shape.k, contender->level->name, plan->block_m, plan->block_n, plan->blocks, cold->median, cold->min,
           cold->max, tflops, settled->median, settled_tflops, floor_us / cold->median);
  fflush(stdout);
  bool is_own = contender->wish.block_m == 0;
  return json_pack("{s:s, s:b, s:i, s:i, s:i, s:i, s:o, s:o, s:f, s:f, s:f}", "name", contender->level->name, "own_plan", is_own,
                   "block_m", plan->block_m, "block_n", plan->block_n, "threads", plan->threads, "blocks", plan->blocks, "cold",
                   times_json(cold), "settled", times_json(settled), "gflops", tflops * 1e3, "settled_gflops",
                   settled_tflops * 1e3, "share", floor_us / cold->median);
}

static void free_operands(const struct bench *bench, struct operands *host, struct operands *device) {
  void *all[] = {host->a, host->b, host->d, host->a_scale, host->b_scale};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
  void *copies[] = {device->a, device->b, device->d, device->a_scale, device->b_scale};
  for (size_t i = 0; i < sizeof copies / sizeof *copies; i++) require(fg_memory_free(bench->gpu, copies[i]));
}

static json_t *measure(const struct bench *bench, struct setup *setup, struct shape shape) {
  double m = (double)shape.m, n = (double)shape.n, k = (double)shape.k, kb = (double)blocks_of(shape.k);
  double flops = 2 * m * n * k, bytes = (m + n) * k + 4 * kb * (m + (double)blocks_of(shape.n)) + 2 * m * n;
  double fma_us = flops / fp32_flops(&bench->machine) * 1e6, memory_us = bytes / memory_bandwidth(&bench->machine) * 1e6;
  struct operands host = make_operands(bench->cpu, shape), device = copy_operands(bench->gpu, shape, &host);
  fg_problem problems[MAX_CONTENDERS];
  for (int i = 0; i < setup->contender_count; i++) {
    struct contender *contender = &setup->contenders[i];
    problems[i] = problem_of(shape, &device, contender);
    require(fg_plan_make(&bench->machine.gpu, &problems[i], &contender->plan));
    check(bench, shape, &host, &device, contender);
  }
  struct times cold[MAX_CONTENDERS], settled[MAX_CONTENDERS];
  time_cold(bench, setup, problems, cold);
  time_settled(bench, setup, problems, cold, settled);
  json_t *rows = json_array();
  for (int i = 0; i < setup->contender_count; i++)
    json_array_append_new(rows,
                          report(setup, shape, &setup->contenders[i], &cold[i], &settled[i], flops, fmax(fma_us, memory_us)));
  free_operands(bench, &host, &device);
  return json_pack("{s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:o}", "m", (json_int_t)shape.m, "n", (json_int_t)shape.n, "k",
                   (json_int_t)shape.k, "flops", flops, "bytes", bytes, "fma_us", fma_us, "memory_us", memory_us, "rows", rows);
}

static void parse_levels(fg_context *gpu, char *text, struct setup *setup) {
  int known;
  const fg_level_info *levels = fg_levels(&known);
  for (char *item = strtok(text, ","); item; item = strtok(NULL, ",")) {
    const char *tile = strchr(item, ':');
    size_t length = tile ? (size_t)(tile - item) : strlen(item);
    int i = 0;
    while (i < known && (strncmp(levels[i].name, item, length) != 0 || levels[i].name[length])) i++;
    if (i == known) fail(EXIT_USAGE, "--levels takes names that `finegemm levels` lists, commas between them");
    if (fg_can_run(gpu, levels[i].level) != FG_OK) fail(EXIT_USAGE, fg_message());
    if (setup->contender_count == MAX_CONTENDERS) fail(EXIT_USAGE, "--levels takes at most 16 levels");
    struct contender contender = {.level = &levels[i]};
    int64_t block_m = 0, block_n = 0;
    if (tile && (tile++, !parse_size(&tile, 'x', &block_m) || !parse_size(&tile, 0, &block_n)))
      fail(EXIT_USAGE, "--levels takes a tile as shared:32x64");
    contender.wish = (fg_plan){.block_m = (int)block_m, .block_n = (int)block_n};
    setup->contenders[setup->contender_count++] = contender;
  }
}

static struct bench open_bench(const struct setup *setup) {
  struct bench bench = {.driver = fg_driver()};
  if (!bench.driver) fail(EXIT_SUCCESS, fg_message()); /* nothing to measure */
  require(fg_context_create(&bench.gpu, &(fg_context_options){.device = FG_CUDA, .ordinal = setup->ordinal}));
  require(fg_context_create(&bench.cpu, NULL));
  bench.machine = machine_of(bench.driver, bench.gpu, setup->ordinal);
  CUdevice device;
  CUcontext primary;
  require_driver("cuDeviceGet", bench.driver->cuDeviceGet(&device, setup->ordinal));
  require_driver("cuDevicePrimaryCtxRetain", bench.driver->cuDevicePrimaryCtxRetain(&primary, device));
  require_driver("cuCtxPushCurrent", bench.driver->cuCtxPushCurrent(primary)); /* for the events, to the end */
  require_driver("cuEventCreate", bench.driver->cuEventCreate(&bench.begin, CU_EVENT_DEFAULT));
  require_driver("cuEventCreate", bench.driver->cuEventCreate(&bench.end, CU_EVENT_DEFAULT));
  bench.flush_bytes = 4 * (size_t)bench.machine.l2_bytes;
  require(fg_memory_allocate(bench.gpu, bench.flush_bytes, &bench.flush));
  return bench;
}

static void run(struct bench *bench, struct setup *setup) {
  const struct machine *machine = &bench->machine;
  if (!setup->json) {
    printf("finegemm %s, %s, %d multiprocessors at up to %d MHz: FP32 %.1f TFLOPS, memory %.2f TB/s, L2 %.0f MiB\n", fg_version(),
           machine->gpu.name, machine->gpu.sms, machine->clock_khz / 1000, fp32_flops(machine) * 1e-12,
           memory_bandwidth(machine) * 1e-12, machine->l2_bytes * 0x1p-20);
    printf("CUDA %d, NVRTC %d, %d rounds\n\n", machine->driver_version, machine->compiler_version, setup->repeats);
    printf("%6s   %6s   %6s  %-8s %9s %6s %10s %10s %10s %8s %10s %8s %6s\n", "m", "n", "k", "", "tile", "blocks", "us", "min",
           "max", "TFLOPS", "settled us", "TFLOPS", "share");
  }
  json_t *results = json_array();
  for (int i = 0; i < setup->shape_count; i++) json_array_append_new(results, measure(bench, setup, setup->shapes[i]));
  if (setup->json) {
    json_t *all = machine_json(machine);
    json_object_set_new(all, "fp32_flops", json_real(fp32_flops(machine)));
    json_object_set_new(all, "memory_bytes_per_s", json_real(memory_bandwidth(machine)));
    json_object_set_new(all, "repeats", json_integer(setup->repeats));
    json_object_set_new(all, "levels", results);
    json_dumpf(all, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(all);
  } else {
    printf(
        "\nus: one launch by events, L2 flushed before it. settled: back to back. share: of what FP32 rate or memory admits.\n");
    json_decref(results);
  }
}

int main(int argc, const char **argv) {
  struct setup setup = {.repeats = 15};
  char *shapes = NULL, *levels = NULL;
  const struct poptOption options[] = {
      {"shapes", 's', POPT_ARG_STRING, &shapes, 0, "what to multiply (512x2048x7168,64x4096x7168,4096x4096x7168,1x7168x2048)",
       "MxNxK,..."},
      {"levels", 'l', POPT_ARG_STRING, &levels, 0, "which levels, with which tiles (naive,shared)", "NAME[:MxN],..."},
      {"repeats", 'r', POPT_ARG_INT, &setup.repeats, 0, "how often each is timed (15)", "N"},
      {"device", 0, POPT_ARG_INT, &setup.ordinal, 0, "which GPU (0)", "N"},
      {"json", 0, POPT_ARG_NONE, &setup.json, 0, "print JSON instead of a table", NULL},
      POPT_AUTOHELP POPT_TABLEEND};
  poptContext arguments = poptGetContext("bench_gpu", argc, argv, options, 0);
  int wrong = poptGetNextOpt(arguments);
  if (wrong < -1) {
    fprintf(stderr, "bench_gpu: %s: %s\n", poptBadOption(arguments, 0), poptStrerror(wrong));
    return EXIT_USAGE;
  }
  if (poptPeekArg(arguments)) fail(EXIT_USAGE, "takes options only; see --help");
  if (setup.repeats < 1 || setup.repeats > MAX_REPEATS) fail(EXIT_USAGE, "--repeats takes a number from 1 to 1001");
  if (!shapes) shapes = strdup("512x2048x7168,64x4096x7168,4096x4096x7168,1x7168x2048");
  if (!levels) levels = strdup("naive,shared");
  if (!shapes || !levels) fail(EXIT_FAILURE, "no memory");
  struct bench bench = open_bench(&setup);
  setup.shape_count = parse_shapes(shapes, setup.shapes);
  parse_levels(bench.gpu, levels, &setup);
  run(&bench, &setup);
  require(fg_memory_free(bench.gpu, bench.flush));
  fg_context_destroy(bench.gpu);
  fg_context_destroy(bench.cpu);
  poptFreeContext(arguments);
  free(shapes);
  free(levels);
  return ferror(stdout) || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
