/* Times levels of a GPU and NVIDIA's cuBLASLt side by side, in turns. Before a level is timed, rows of its result are held against its
 * twin on the CPU, bit for bit; cuBLASLt's against the exact product. bench/README.md says how to use it and what came out. */
#define BENCH "bench_gpu"
#include "bench.h"
#include "cublaslt.h"
#include "gpu_machine.h"
#include "median.h"

#include <inttypes.h>
#include <math.h>
#include <popt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { MAX_CONTENDERS = 16, CHECKED_ROWS = 16, CHOOSING_ROUNDS = 3, SETTLED_ROUNDS = 3 };

static const double cold_bytes = 8e9; /* written before a cold launch: the L2 has nothing of the operands, and the chip cools */

/* A level with the library's plan or with tiles of another size, or a peer. */
struct contender {
  const char *name;
  const fg_level_info *level; /* NULL: a peer */
  enum peer_kind peer;
  fg_plan wish; /* zero but for the tile */
};

struct setup {
  struct shape shapes[MAX_SHAPES];
  struct contender contenders[MAX_CONTENDERS];
  int shape_count, contender_count, repeats, settled_ms, ordinal, json;
  bool has_peers, has_bf16;
};

/* What is open for as long as the program runs. */
struct bench {
  fg_context *gpu, *cpu;
  const struct fg_driver *driver;
  struct machine machine;
  CUevent begin, end;
  void *flush, *workspace;
  size_t flush_bytes;
  struct cublaslt *cublaslt; /* NULL: why_no_cublaslt */
  char why_no_cublaslt[300];
};

/* One shape's operands. up4(x): x rounded up to a multiple of 4; rows and scales beyond m and k are 0, and are cuBLASLt's. */
enum {
  A,       /* [up4(m), k] in E4M3 */
  B,       /* [n, k] */
  D,       /* [up4(m), n] in BF16 */
  A_SCALE, /* 1x128, rows contiguous: [kb, up4(m)], kb = ceil(k / 128) */
  B_SCALE, /* 128x128: [ceil(n / 128), up4(kb)] */
  A_BF16,  /* [m, k] and [n, k]: the values of A and B; NULL where nobody multiplies them */
  B_BF16,
  ARRAYS
};

struct operands {
  void *array[ARRAYS];
};

/* A shape, its operands on both sides, and up to CHECKED_ROWS of its rows, `apart` from each other, as a product of its own. */
struct trial {
  struct shape shape, sample_shape;
  struct operands host, device, sample;
  int64_t apart;
};

/* How far D [elements, of the sample] is from the exact product. */
struct distance {
  double relative;                       /* |D - exact| / |exact|, Euclidean norms */
  int64_t elements, outside, other_bits; /* outside fg_exact()'s bound; not hopper's. -1: no product of FP8 */
};

/* A contender at a shape. */
struct call {
  fg_problem problem;
  fg_plan plan;
  struct peer_product *product; /* NULL: a level */
  int algorithm, algorithms;
  struct distance distance;
  char why_not[300]; /* "": it is timed */
};

/* Microseconds. */
struct times {
  double median, min, max;
};

static void require_driver(const char *call, CUresult error) {
  if (error != CUDA_SUCCESS) require(fg_driver_fail(call, error));
}

static _Noreturn void fail_with(const char *format, ...) {
  char text[400];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  fail(EXIT_FAILURE, text);
}

static void *allocate(size_t bytes) {
  void *data = calloc(bytes ? bytes : 1, 1);
  if (!data) fail(EXIT_FAILURE, "no memory for the operands");
  return data;
}

/* --- Operands */

static int64_t blocks_of(int64_t k) { return (k + 127) / 128; }
static int64_t up4(int64_t x) { return (x + 3) / 4 * 4; }

static void bytes_of(struct shape shape, bool has_bf16, size_t bytes[ARRAYS]) {
  size_t m = (size_t)shape.m, n = (size_t)shape.n, k = (size_t)shape.k, m4 = (size_t)up4(shape.m);
  bytes[A] = m4 * k;
  bytes[B] = n * k;
  bytes[D] = m4 * n * 2;
  bytes[A_SCALE] = (size_t)blocks_of(shape.k) * m4 * sizeof(float);
  bytes[B_SCALE] = (size_t)(blocks_of(shape.n) * up4(blocks_of(shape.k))) * sizeof(float);
  bytes[A_BF16] = has_bf16 ? m * k * 2 : 0;
  bytes[B_BF16] = has_bf16 ? n * k * 2 : 0;
}

static fg_problem problem_of(struct shape shape, const struct operands *operands, fg_level level) {
  return (fg_problem){.m = shape.m,
                      .n = shape.n,
                      .k = shape.k,
                      .a = {.data = operands->array[A],
                            .scale = operands->array[A_SCALE],
                            .scale_layout = FG_ROWS_CONTIGUOUS,
                            .scale_ld = up4(shape.m)},
                      .b = {.data = operands->array[B], .scale = operands->array[B_SCALE], .scale_ld = up4(blocks_of(shape.k))},
                      .d = {.data = operands->array[D]},
                      .level = level};
}

/* Bell-shaped numbers, quantised; in BF16 (NULL: not), what they are then. */
static void fill_operand(fg_context *cpu, int64_t rows, int64_t k, fg_result quantised, void *bf16) {
  float *floats = allocate((size_t)(rows * k) * sizeof *floats);
  uint64_t seed = (uint64_t)(rows + quantised.scaling);
  fill_bell_shaped(floats, rows * k, &seed);
  require(fg_quantize(cpu, &(fg_conversion){.rows = rows, .cols = k, .from = {.data = floats}, .to = quantised}));
  free(floats);
  if (!bf16) return;
  fg_operand again = {.data = quantised.data,
                      .scale = quantised.scale,
                      .type = FG_E4M3,
                      .scaling = quantised.scaling,
                      .scale_layout = quantised.scale_layout,
                      .scale_ld = quantised.scale_ld};
  require(fg_dequantize(cpu, &(fg_conversion){.rows = rows, .cols = k, .from = again, .to = {.data = bf16, .type = FG_BF16}}));
}

static void fill_operands(fg_context *cpu, struct shape shape, const struct operands *operands) {
  fg_result a = {.data = operands->array[A],
                 .scale = operands->array[A_SCALE],
                 .scaling = FG_1X128,
                 .scale_layout = FG_ROWS_CONTIGUOUS,
                 .scale_ld = up4(shape.m)};
  fg_result b = {
      .data = operands->array[B], .scale = operands->array[B_SCALE], .scaling = FG_128X128, .scale_ld = up4(blocks_of(shape.k))};
  fill_operand(cpu, shape.m, shape.k, a, operands->array[A_BF16]);
  fill_operand(cpu, shape.n, shape.k, b, operands->array[B_BF16]);
}

static void take_sample(struct trial *trial) {
  struct shape shape = trial->shape, sampled = shape;
  trial->apart = (shape.m + CHECKED_ROWS - 1) / CHECKED_ROWS;
  sampled.m = (shape.m + trial->apart - 1) / trial->apart;
  size_t bytes[ARRAYS], k = (size_t)shape.k;
  bytes_of(sampled, false, bytes);
  trial->sample_shape = sampled;
  trial->sample = trial->host;
  trial->sample.array[A] = allocate(bytes[A]);
  trial->sample.array[A_SCALE] = allocate(bytes[A_SCALE]);
  trial->sample.array[D] = allocate(bytes[D]);
  const char *a = trial->host.array[A];
  const float *scale = trial->host.array[A_SCALE];
  char *sample_a = trial->sample.array[A];
  float *sample_scale = trial->sample.array[A_SCALE];
  for (int64_t row = 0; row < sampled.m; row++) {
    memcpy(sample_a + (size_t)row * k, a + (size_t)(row * trial->apart) * k, k);
    for (int64_t block = 0; block < blocks_of(shape.k); block++)
      sample_scale[block * up4(sampled.m) + row] = scale[block * up4(shape.m) + row * trial->apart];
  }
}

static struct trial make_trial(const struct bench *bench, const struct setup *setup, struct shape shape) {
  struct trial trial = {.shape = shape};
  size_t bytes[ARRAYS];
  bytes_of(shape, setup->has_bf16, bytes);
  for (int i = 0; i < ARRAYS; i++)
    if (bytes[i] > 0) trial.host.array[i] = allocate(bytes[i]);
  fill_operands(bench->cpu, shape, &trial.host);
  memset(trial.host.array[D], 0xFF, bytes[D]); /* NaN */
  for (int i = 0; i < ARRAYS; i++) {
    if (bytes[i] == 0) continue;
    require(fg_memory_allocate(bench->gpu, bytes[i], &trial.device.array[i]));
    require(fg_memory_copy(bench->gpu, trial.device.array[i], trial.host.array[i], bytes[i]));
  }
  take_sample(&trial);
  return trial;
}

static void free_trial(const struct bench *bench, struct trial *trial) {
  for (int i = 0; i < ARRAYS; i++) {
    if (trial->sample.array[i] != trial->host.array[i]) free(trial->sample.array[i]);
    free(trial->host.array[i]);
    require(fg_memory_free(bench->gpu, trial->device.array[i]));
  }
}

/* --- Launching and timing */

static void launch(const struct bench *bench, const struct call *call) {
  if (!call->product) {
    require(fg_gemm(bench->gpu, &call->problem));
    return;
  }
  const char *wrong = peer_run(call->product, call->algorithm);
  if (wrong) fail_with("cublasLtMatmul: %s", wrong);
}

/* Microseconds of one of `launches` launches, one behind the other. */
static double launch_us(const struct bench *bench, const struct call *call, int launches) {
  float ms;
  require_driver("cuEventRecord", bench->driver->cuEventRecord(bench->begin, NULL));
  for (int i = 0; i < launches; i++) launch(bench, call);
  require_driver("cuEventRecord", bench->driver->cuEventRecord(bench->end, NULL));
  require_driver("cuEventSynchronize", bench->driver->cuEventSynchronize(bench->end));
  require_driver("cuEventElapsedTime", bench->driver->cuEventElapsedTime(&ms, bench->begin, bench->end));
  return (double)ms * 1e3 / launches;
}

static double cold_us(const struct bench *bench, const struct call *call) {
  for (double written = 0; written < cold_bytes; written += (double)bench->flush_bytes)
    require_driver("cuMemsetD8Async",
                   bench->driver->cuMemsetD8Async((CUdeviceptr)(uintptr_t)bench->flush, 0xA5, bench->flush_bytes, NULL));
  return launch_us(bench, call, 1);
}

static struct times summarise(const double *us, int count) {
  struct times times = {median(us, count), us[0], us[0]};
  for (int i = 1; i < count; i++) times.min = fmin(times.min, us[i]), times.max = fmax(times.max, us[i]);
  return times;
}

/* Each launch alone. */
static void time_cold(const struct bench *bench, const struct setup *setup, const struct call *calls, struct times *cold) {
  static double us[MAX_CONTENDERS][MAX_REPEATS];
  for (int round = 0; round < setup->repeats; round++)
    for (int i = 0; i < setup->contender_count; i++)
      if (!calls[i].why_not[0]) us[i][round] = cold_us(bench, &calls[i]);
  for (int i = 0; i < setup->contender_count; i++) cold[i] = summarise(us[i], setup->repeats);
}

/* Back to back for setup->settled_ms, when the clocks have come down to what power allows and the L2 has what fits. */
static void time_settled(const struct bench *bench, const struct setup *setup, const struct call *calls, const struct times *cold,
                         struct times *settled) {
  double us[MAX_CONTENDERS][SETTLED_ROUNDS] = {0};
  for (int round = 0; round < SETTLED_ROUNDS; round++)
    for (int i = 0; i < setup->contender_count; i++)
      if (!calls[i].why_not[0])
        us[i][round] = launch_us(bench, &calls[i], 1 + (int)(setup->settled_ms * 1e3 / fmax(cold[i].median, 1)));
  for (int i = 0; i < setup->contender_count; i++) settled[i] = summarise(us[i], SETTLED_ROUNDS);
}

/* --- Checking */

/* The sample's rows of what the call makes of the whole. */
static void *rows_of(const struct bench *bench, const struct trial *trial, const struct call *call) {
  size_t bytes[ARRAYS], row_bytes = (size_t)trial->shape.n * 2;
  bytes_of(trial->shape, false, bytes);
  require(fg_memory_copy(bench->gpu, trial->device.array[D], trial->host.array[D], bytes[D])); /* NaN, until it is written */
  launch(bench, call);
  char *rows = allocate((size_t)trial->sample_shape.m * row_bytes), *d = trial->device.array[D];
  for (int64_t row = 0; row < trial->sample_shape.m; row++)
    require(fg_memory_copy(bench->gpu, rows + (size_t)row * row_bytes, d + (size_t)(row * trial->apart) * row_bytes, row_bytes));
  return rows;
}

/* A level's rows have the bits of its twin's. */
static void check_level(const struct bench *bench, const struct trial *trial, const struct contender *contender,
                        const struct call *call) {
  size_t row_bytes = (size_t)trial->shape.n * 2;
  char *rows = rows_of(bench, trial, call), *expected = trial->sample.array[D];
  fg_problem problem = problem_of(trial->sample_shape, &trial->sample, contender->level->twin);
  problem.split_k = call->plan.split_k;
  require(fg_gemm(bench->cpu, &problem));
  for (int64_t row = 0; row < trial->sample_shape.m; row++)
    if (memcmp(rows + (size_t)row * row_bytes, expected + (size_t)row * row_bytes, row_bytes) != 0)
      fail_with("%s is wrong at %" PRId64 "x%" PRId64 "x%" PRId64 ": row %" PRId64 " has other bits than its twin",
                contender->name, trial->shape.m, trial->shape.n, trial->shape.k, row * trial->apart);
  free(rows);
}

static double from_bf16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return (double)value;
}

static struct distance distance_of(const struct bench *bench, const struct trial *trial, enum peer_kind kind,
                                   const struct call *call) {
  int64_t elements = trial->sample_shape.m * trial->sample_shape.n;
  uint16_t *rows = rows_of(bench, trial, call);
  double *value = allocate((size_t)elements * sizeof *value), *bound = allocate((size_t)elements * sizeof *bound);
  fg_problem problem = problem_of(trial->sample_shape, &trial->sample, FG_HOPPER);
  if (kind == PEER_TENSOR || kind == PEER_PROMOTED) problem.a.scaling = problem.b.scaling = FG_TENSOR;
  require(fg_exact(bench->cpu, &problem, value, bound));
  require(fg_gemm(bench->cpu, &problem));
  const uint16_t *hopper = trial->sample.array[D];
  struct distance distance = {.elements = elements};
  double squares = 0, squares_off = 0;
  for (int64_t i = 0; i < elements; i++) {
    double off = from_bf16(rows[i]) - value[i];
    squares += value[i] * value[i];
    squares_off += off * off;
    distance.outside += !(fabs(off) <= bound[i]);
    distance.other_bits += rows[i] != hopper[i];
  }
  distance.relative = sqrt(squares_off / squares);
  if (kind == PEER_BF16) distance.outside = distance.other_bits = -1;
  free(rows);
  free(value);
  free(bound);
  return distance;
}

/* A peer is not timed on something else: what it makes of scales in another order than it takes them for is off by about as much as
 * the product is large. */
static void check_peer(const struct bench *bench, const struct trial *trial, enum peer_kind kind, struct call *call) {
  static const double most = 0x1p-4;
  call->distance = distance_of(bench, trial, kind, call);
  const struct distance *distance = &call->distance;
  if (!(distance->relative <= most))
    snprintf(call->why_not, sizeof call->why_not, "its result is wrong: off by %.2g of the product", distance->relative);
  else if (kind == PEER_BLOCK && distance->outside > 0)
    snprintf(call->why_not, sizeof call->why_not,
             "its result is wrong: %" PRId64 " of %" PRId64 " elements are outside the bound", distance->outside,
             distance->elements);
}

/* --- Contenders at a shape */

/* The fastest algorithm, cold, of those that cuBLASLt's heuristic has. */
static void choose_algorithm(const struct bench *bench, struct call *call) {
  double best = INFINITY;
  int fastest = -1;
  const char *wrong = NULL;
  for (call->algorithm = 0; call->algorithm < call->algorithms; call->algorithm++) {
    const char *refused = peer_run(call->product, call->algorithm); /* which also loads its kernel */
    if (refused) {
      wrong = refused;
      continue;
    }
    double us[CHOOSING_ROUNDS];
    for (int round = 0; round < CHOOSING_ROUNDS; round++) us[round] = cold_us(bench, call);
    if (median(us, CHOOSING_ROUNDS) < best) best = median(us, CHOOSING_ROUNDS), fastest = call->algorithm;
  }
  call->algorithm = fastest;
  if (fastest < 0) snprintf(call->why_not, sizeof call->why_not, "cublasLtMatmul: %s", wrong);
}

static void prepare_peer(const struct bench *bench, const struct trial *trial, enum peer_kind kind, struct call *call) {
  if (!bench->cublaslt) {
    snprintf(call->why_not, sizeof call->why_not, "%s", bench->why_no_cublaslt);
    return;
  }
  void *const *device = trial->device.array;
  struct peer_operands operands = {.m = trial->shape.m,
                                   .n = trial->shape.n,
                                   .k = trial->shape.k,
                                   .a = device[kind == PEER_BF16 ? A_BF16 : A],
                                   .b = device[kind == PEER_BF16 ? B_BF16 : B],
                                   .a_scale = device[A_SCALE],
                                   .b_scale = device[B_SCALE],
                                   .d = device[D],
                                   .workspace = bench->workspace};
  call->product = peer_prepare(bench->cublaslt, kind, &operands, &call->algorithms, call->why_not, sizeof call->why_not);
  if (call->product) choose_algorithm(bench, call);
  if (!call->why_not[0]) check_peer(bench, trial, kind, call);
}

static void prepare_level(const struct bench *bench, const struct trial *trial, const struct contender *contender,
                          struct call *call) {
  call->problem = problem_of(trial->shape, &trial->device, contender->level->level);
  call->problem.plan = &contender->wish;
  require(fg_plan_make(&bench->machine.gpu, &call->problem, &call->plan));
  check_level(bench, trial, contender, call);
}

/* --- Reporting */

/* What a product needs at least, in microseconds: by FP32 arithmetic, by the memory's bandwidth as the driver states it, and by what was
 * measured of tensor cores and memory. */
struct floors {
  double flops, bytes, fma_us, memory_us, limit_us;
};

static struct floors floors_of(const struct machine *machine, struct shape shape) {
  double m = (double)shape.m, n = (double)shape.n, k = (double)shape.k, kb = (double)blocks_of(shape.k);
  struct floors floors = {.flops = 2 * m * n * k, .bytes = (m + n) * k + 4 * kb * (m + (double)blocks_of(shape.n)) + 2 * m * n};
  floors.fma_us = floors.flops / fp32_flops(machine) * 1e6;
  floors.memory_us = floors.bytes / memory_bandwidth(machine) * 1e6;
  floors.limit_us = fmax(floors.flops / tensor_flops(machine), floors.bytes / read_bandwidth(machine)) * 1e6 + LAUNCH_US;
  return floors;
}

static json_t *times_json(const struct times *times) {
  return json_pack("{s:f, s:f, s:f}", "median_us", times->median, "min_us", times->min, "max_us", times->max);
}

/* Of the least time that there is: that of the units it multiplies with. */
static double share_of(const struct contender *contender, const struct floors *floors, double us) {
  bool has_fmas = contender->level && contender->level->twin == FG_REFERENCE;
  return (has_fmas ? fmax(floors->fma_us, floors->memory_us) : floors->limit_us) / us;
}

static json_t *level_json(const struct contender *contender, const struct call *call) {
  const fg_plan *plan = &call->plan;
  bool is_own = contender->wish.block_m == 0;
  return json_pack("{s:s, s:b, s:i, s:i, s:i, s:i}", "name", contender->name, "own_plan", is_own, "block_m", plan->block_m,
                   "block_n", plan->block_n, "threads", plan->threads, "blocks", plan->blocks);
}

static json_t *peer_json(const struct contender *contender, const struct call *call) {
  if (call->why_not[0]) return json_pack("{s:s, s:s}", "name", contender->name, "why_not", call->why_not);
  const struct distance *distance = &call->distance;
  json_t *row = json_pack("{s:s, s:i, s:i, s:I, s:f}", "name", contender->name, "algorithm", call->algorithm + 1, "algorithms",
                          call->algorithms, "checked", (json_int_t)distance->elements, "relative_error", distance->relative);
  if (distance->outside >= 0) {
    json_object_set_new(row, "outside_bound", json_integer(distance->outside));
    json_object_set_new(row, "other_bits", json_integer(distance->other_bits));
  }
  return row;
}

static void print_row(struct shape shape, const struct contender *contender, const struct call *call, const struct times *cold,
                      const struct times *settled, const struct floors *floors) {
  printf("%6" PRId64 " x %6" PRId64 " x %6" PRId64 "  %-17s ", shape.m, shape.n, shape.k, contender->name);
  if (call->why_not[0]) {
    printf("%s\n", call->why_not);
    return;
  }
  if (call->product)
    printf("%9s %6s", "", "");
  else
    printf("%3d x %-3d %6d", call->plan.block_m, call->plan.block_n, call->plan.blocks);
  printf(" %10.1f %10.1f %10.1f %8.2f %10.1f %8.2f %6.3f", cold->median, cold->min, cold->max,
         floors->flops / cold->median * 1e-6, settled->median, floors->flops / settled->median * 1e-6,
         share_of(contender, floors, cold->median));
  const struct distance *distance = &call->distance;
  if (call->product) printf("  algorithm %d of %d, off by %.1e", call->algorithm + 1, call->algorithms, distance->relative);
  if (call->product && distance->outside >= 0)
    printf(", %" PRId64 " of %" PRId64 " outside, %.0f%% other bits", distance->outside, distance->elements,
           100 * (double)distance->other_bits / (double)distance->elements);
  printf("\n");
}

static json_t *report(const struct setup *setup, struct shape shape, const struct contender *contender, const struct call *call,
                      const struct times *cold, const struct times *settled, const struct floors *floors) {
  if (!setup->json) print_row(shape, contender, call, cold, settled, floors);
  fflush(stdout);
  json_t *row = contender->level ? level_json(contender, call) : peer_json(contender, call);
  if (call->why_not[0]) return row;
  json_object_set_new(row, "cold", times_json(cold));
  json_object_set_new(row, "settled", times_json(settled));
  json_object_set_new(row, "gflops", json_real(floors->flops / cold->median * 1e-3));
  json_object_set_new(row, "settled_gflops", json_real(floors->flops / settled->median * 1e-3));
  json_object_set_new(row, "share", json_real(share_of(contender, floors, cold->median)));
  json_object_set_new(row, "share_of_limit", json_real(floors->limit_us / cold->median));
  return row;
}

static json_t *measure(const struct bench *bench, const struct setup *setup, struct shape shape) {
  struct floors floors = floors_of(&bench->machine, shape);
  struct trial trial = make_trial(bench, setup, shape);
  struct call calls[MAX_CONTENDERS] = {{.algorithm = 0}};
  for (int i = 0; i < setup->contender_count; i++)
    if (setup->contenders[i].level)
      prepare_level(bench, &trial, &setup->contenders[i], &calls[i]);
    else
      prepare_peer(bench, &trial, setup->contenders[i].peer, &calls[i]);
  struct times cold[MAX_CONTENDERS], settled[MAX_CONTENDERS];
  time_cold(bench, setup, calls, cold);
  time_settled(bench, setup, calls, cold, settled);
  json_t *levels = json_array(), *peers = json_array();
  for (int i = 0; i < setup->contender_count; i++) {
    const struct contender *contender = &setup->contenders[i];
    json_array_append_new(contender->level ? levels : peers,
                          report(setup, shape, contender, &calls[i], &cold[i], &settled[i], &floors));
    peer_free(calls[i].product);
  }
  free_trial(bench, &trial);
  return json_pack("{s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:o, s:o}", "m", (json_int_t)shape.m, "n", (json_int_t)shape.n, "k",
                   (json_int_t)shape.k, "flops", floors.flops, "bytes", floors.bytes, "fma_us", floors.fma_us, "memory_us",
                   floors.memory_us, "limit_us", floors.limit_us, "rows", levels, "peers", peers);
}

/* --- The command line */

/* A set of shapes by name, as --shapes takes them; else what it was. */
static const char *shapes_of(const char *item) {
  if (strcmp(item, "ladder") == 0) return "4096x7168x16384,4096x4096x7168,64x7168x16384";
  if (strcmp(item, "seed") != 0) return item;
  static const int ms[] = {1, 64, 128, 4096};
  static const char *const nks[] = {"2112x7168", "576x7168", "24576x1536", "32768x512", "7168x16384", "4096x7168", "7168x2048"};
  enum { MOST = sizeof ms / sizeof *ms * sizeof nks / sizeof *nks * 24 };
  static char text[MOST];
  size_t length = 0;
  for (size_t i = 0; i < sizeof ms / sizeof *ms; i++)
    for (size_t j = 0; j < sizeof nks / sizeof *nks; j++)
      length += (size_t)snprintf(text + length, sizeof text - length, "%dx%s,", ms[i], nks[j]);
  snprintf(text + length, sizeof text - length, "8192x8192x8192");
  return text;
}

static int parse_sets(const char *text, struct shape shapes[MAX_SHAPES]) {
  enum { MOST_BYTES = 1 << 16 };
  char *expanded = allocate(MOST_BYTES), *items = strdup(text), *next = NULL;
  size_t length = 0;
  if (!items) fail(EXIT_FAILURE, "no memory");
  for (char *item = strtok_r(items, ",", &next); item && length < MOST_BYTES; item = strtok_r(NULL, ",", &next))
    length += (size_t)snprintf(expanded + length, MOST_BYTES - length, "%s,", shapes_of(item));
  int count = parse_shapes(expanded, shapes);
  free(expanded);
  free(items);
  return count;
}

static struct contender parse_contender(char *item) {
  static const char known_names[] = "--levels takes names that `finegemm levels` lists, and cublaslt-block, cublaslt-tensor, "
                                    "cublaslt-promoted and cublaslt-bf16, commas between them";
  int known;
  const fg_level_info *levels = fg_levels(&known);
  struct contender contender = {.name = NULL};
  char *colon = strchr(item, ':');
  const char *tile = colon ? colon + 1 : NULL;
  if (colon) *colon = 0;
  for (int i = 0; i < known; i++)
    if (strcmp(levels[i].name, item) == 0) contender.level = &levels[i], contender.name = levels[i].name;
  for (enum peer_kind peer = 0; peer < PEER_KINDS; peer++)
    if (strcmp(peer_name(peer), item) == 0) contender.peer = peer, contender.name = peer_name(peer);
  if (!contender.name) fail(EXIT_USAGE, known_names);
  if (tile && !contender.level) fail(EXIT_USAGE, "--levels takes tiles of levels only, not of cuBLASLt");
  int64_t block_m = 0, block_n = 0;
  if (tile && (!parse_size(&tile, 'x', &block_m) || !parse_size(&tile, 0, &block_n)))
    fail(EXIT_USAGE, "--levels takes a tile as shared:32x64");
  contender.wish = (fg_plan){.block_m = (int)block_m, .block_n = (int)block_n};
  return contender;
}

static void parse_contenders(char *text, struct setup *setup) {
  char *next = NULL;
  for (char *item = strtok_r(text, ",", &next); item; item = strtok_r(NULL, ",", &next)) {
    if (setup->contender_count == MAX_CONTENDERS) fail(EXIT_USAGE, "--levels takes at most 16");
    struct contender contender = parse_contender(item);
    setup->has_peers |= !contender.level;
    setup->has_bf16 |= !contender.level && contender.peer == PEER_BF16;
    setup->contenders[setup->contender_count++] = contender;
  }
}

static struct bench open_bench(const struct setup *setup) {
  struct bench bench = {.driver = fg_driver()};
  if (!bench.driver) fail(EXIT_SUCCESS, fg_message()); /* nothing to measure */
  require(fg_context_create(&bench.gpu, &(fg_context_options){.device = FG_CUDA, .ordinal = setup->ordinal}));
  require(fg_context_create(&bench.cpu, NULL));
  for (int i = 0; i < setup->contender_count; i++)
    if (setup->contenders[i].level && fg_can_run(bench.gpu, setup->contenders[i].level->level) != FG_OK)
      fail(EXIT_USAGE, fg_message());
  bench.machine = machine_of(bench.driver, bench.gpu, setup->ordinal);
  CUdevice device;
  CUcontext primary;
  require_driver("cuDeviceGet", bench.driver->cuDeviceGet(&device, setup->ordinal));
  require_driver("cuDevicePrimaryCtxRetain", bench.driver->cuDevicePrimaryCtxRetain(&primary, device));
  require_driver("cuCtxPushCurrent", bench.driver->cuCtxPushCurrent(primary)); /* for the events and for cuBLASLt, to the end */
  require_driver("cuEventCreate", bench.driver->cuEventCreate(&bench.begin, CU_EVENT_DEFAULT));
  require_driver("cuEventCreate", bench.driver->cuEventCreate(&bench.end, CU_EVENT_DEFAULT));
  bench.flush_bytes = 4 * (size_t)bench.machine.l2_bytes;
  require(fg_memory_allocate(bench.gpu, bench.flush_bytes, &bench.flush));
  if (setup->has_peers) bench.cublaslt = cublaslt_open(bench.why_no_cublaslt, sizeof bench.why_no_cublaslt);
  if (bench.cublaslt) require(fg_memory_allocate(bench.gpu, PEER_WORKSPACE_BYTES, &bench.workspace));
  return bench;
}

static void print_head(const struct bench *bench, const struct setup *setup) {
  const struct machine *machine = &bench->machine;
  printf("finegemm %s, %s, %d multiprocessors at up to %d MHz: FP32 %.1f TFLOPS, memory %.2f TB/s, L2 %.0f MiB\n", fg_version(),
         machine->gpu.name, machine->gpu.sms, machine->clock_khz / 1000, fp32_flops(machine) * 1e-12,
         memory_bandwidth(machine) * 1e-12, machine->l2_bytes * 0x1p-20);
  printf("limit: FP8 %.0f TFLOPS, reading %.2f TB/s, and %d us\n", tensor_flops(machine) * 1e-12, read_bandwidth(machine) * 1e-12,
         LAUNCH_US);
  printf("CUDA %d, NVRTC %d, ", machine->driver_version, machine->compiler_version);
  if (bench->cublaslt) printf("cuBLASLt %d, ", cublaslt_version(bench->cublaslt));
  printf("%d rounds\n\n", setup->repeats);
  printf("%6s   %6s   %6s  %-17s %9s %6s %10s %10s %10s %8s %10s %8s %6s\n", "m", "n", "k", "", "tile", "blocks", "us", "min",
         "max", "TFLOPS", "settled us", "TFLOPS", "share");
}

static void print_json(const struct bench *bench, const struct setup *setup, json_t *results) {
  const struct machine *machine = &bench->machine;
  json_t *all = machine_json(machine);
  json_object_set_new(all, "fp32_flops", json_real(fp32_flops(machine)));
  json_object_set_new(all, "memory_bytes_per_s", json_real(memory_bandwidth(machine)));
  json_object_set_new(all, "tensor_flops", json_real(tensor_flops(machine)));
  json_object_set_new(all, "read_bytes_per_s", json_real(read_bandwidth(machine)));
  json_object_set_new(all, "launch_us", json_integer(LAUNCH_US));
  if (bench->cublaslt) json_object_set_new(all, "cublaslt", json_integer(cublaslt_version(bench->cublaslt)));
  json_object_set_new(all, "repeats", json_integer(setup->repeats));
  json_object_set_new(all, "settled_ms", json_integer(setup->settled_ms));
  json_object_set(all, "levels", results);
  json_dumpf(all, stdout, JSON_INDENT(2));
  printf("\n");
  json_decref(all);
}

static void run(const struct bench *bench, const struct setup *setup) {
  if (!setup->json) print_head(bench, setup);
  json_t *results = json_array();
  for (int i = 0; i < setup->shape_count; i++) json_array_append_new(results, measure(bench, setup, setup->shapes[i]));
  if (setup->json)
    print_json(bench, setup, results);
  else
    printf(
        "\nus: one launch by events, 8 GB written before it. settled: back to back for %d ms. share: of what the FP32 rate or "
        "memory admits,\nfor what multiplies with tensor cores of the limit. off by: of the exact product, on up to %d rows.\n",
        setup->settled_ms, CHECKED_ROWS);
  json_decref(results);
}

int main(int argc, const char **argv) {
  struct setup setup = {.repeats = 15, .settled_ms = 400};
  char *shapes = NULL, *levels = NULL;
  const struct poptOption options[] = {
      {"shapes", 's', POPT_ARG_STRING, &shapes, 0,
       "what to multiply, ladder or seed for sets (512x2048x7168,64x4096x7168,4096x4096x7168,1x7168x2048)", "MxNxK,..."},
      {"levels", 'l', POPT_ARG_STRING, &levels, 0,
       "which levels, with which tiles, and of cuBLASLt cublaslt-block, -tensor, -promoted, -bf16 (naive,shared)",
       "NAME[:MxN],..."},
      {"repeats", 'r', POPT_ARG_INT, &setup.repeats, 0, "how often each is timed (15)", "N"},
      {"settled", 0, POPT_ARG_INT, &setup.settled_ms, 0, "for how many milliseconds each is run back to back (400)", "MS"},
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
  if (setup.settled_ms < 0 || setup.settled_ms > 10000) fail(EXIT_USAGE, "--settled takes a number from 0 to 10000");
  if (!shapes) shapes = strdup("512x2048x7168,64x4096x7168,4096x4096x7168,1x7168x2048");
  if (!levels) levels = strdup("naive,shared");
  if (!shapes || !levels) fail(EXIT_FAILURE, "no memory");
  setup.shape_count = parse_sets(shapes, setup.shapes);
  parse_contenders(levels, &setup);
  struct bench bench = open_bench(&setup);
  run(&bench, &setup);
  cublaslt_close(bench.cublaslt);
  require(fg_memory_free(bench.gpu, bench.workspace));
  require(fg_memory_free(bench.gpu, bench.flush));
  fg_context_destroy(bench.gpu);
  fg_context_destroy(bench.cpu);
  poptFreeContext(arguments);
  free(shapes);
  free(levels);
  return ferror(stdout) || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
