/* Times levels of a GPU and NVIDIA's cuBLASLt side by side, in turns. Before a level is timed, rows of its result are held against its
 * twin on the CPU, bit for bit; cuBLASLt's against the exact product. bench/README.md says how to use it and what came out. */
#define BENCH "bench_gpu"
#include "bench.h"
#include "cublaslt.h"
#include "gpu_machine.h"
#include "median.h"
#include "nvml.h"
#include "summary.h"

#include <inttypes.h>
#include <math.h>
#include <popt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MAX_CONTENDERS = 16, CHECKED_ROWS = 16, LEAST_CHECKED_ROWS = 4, CHOOSING_ROUNDS = 3, SETTLED_ROUNDS = 3 };

static const double checked_products = 0x1p30; /* of one shape at most, but for the least number of rows: a second on few cores */

/* A level with the library's plan or with tiles of another size, or a peer. */
struct contender {
  const char *name;
  const fg_level_info *level; /* NULL: a peer */
  enum peer_kind peer;
  fg_plan wish; /* zero but for the tile */
};

struct setup {
  struct shape_list shapes;
  struct contender contenders[MAX_CONTENDERS];
  int contender_count, repeats, settled_ms, seconds, ordinal, json, list;
  bool has_peers, has_bf16;
};

/* A shape's operands, in arrays that the largest of all shapes fits in. up4(x): x rounded up to a multiple of 4; rows and scales beyond m
 * and k are 0, and are cuBLASLt's. */
enum {
  A,       /* [up4(m), k] in E4M3 */
  B,       /* [n, k] */
  D,       /* [up4(m), n] in BF16; on the device alone, and of the sample */
  A_SCALE, /* 1x128, rows contiguous: [kb, up4(m)], kb = ceil(k / 128) */
  B_SCALE, /* 128x128: [ceil(n / 128), up4(kb)] */
  A_BF16,  /* [m, k] and [n, k]: the values of A and B; NULL where nobody multiplies them */
  B_BF16,
  ARRAYS
};

struct operands {
  void *array[ARRAYS];
};

/* What is open for as long as the program runs. */
struct bench {
  fg_context *gpu, *cpu;
  const struct fg_driver *driver;
  struct machine machine;
  struct nvml *nvml; /* NULL: none here */
  CUevent begin, end;
  void *flush, *workspace;
  size_t flush_bytes;
  double cold_bytes; /* written before a cold launch: the L2 has nothing of the operands, and the chip cools */
  struct operands host, device;
  struct shape filled;       /* whose B the operands are */
  struct cublaslt *cublaslt; /* NULL: why_no_cublaslt */
  char why_no_cublaslt[300];
  bool has_wrong_level;
};

/* The product of a trial's sample: by the level `hopper`, and exactly, with its bound. [sample's m, n] each. */
struct truth {
  uint16_t *hopper; /* NULL: nobody has asked yet */
  double *value, *bound;
};

/* A shape, and up to CHECKED_ROWS of its rows, `apart` from each other, as a product of its own. */
struct trial {
  struct shape shape, sample_shape;
  struct operands sample; /* B's are the host's; D has what the level `twin` makes of it with this split_k */
  int64_t apart;
  fg_level twin; /* FG_BEST: nothing yet */
  int split_k;
  struct truth truths[2]; /* with the scales as they are; with the first of each for all */
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

/* Back to back, and medians of what the GPU said of itself meanwhile. */
struct settled {
  struct times us;
  struct gpu_state gpu;
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

/* Bell-shaped numbers, quantised; in BF16 (NULL: not), what they are then. Of 128 rows at a time, each with a seed of its own. */
static void fill_operand(fg_context *cpu, int64_t rows, int64_t k, fg_result quantised, void *bf16) {
  enum { BAND = 128 };
#pragma omp parallel for schedule(dynamic)
  for (int64_t first = 0; first < rows; first += BAND) {
    const int64_t here = rows - first < BAND ? rows - first : BAND;
    uint64_t seed = (uint64_t)(first + quantised.scaling) * 0x9E3779B97F4A7C15u;
    float *floats = allocate((size_t)(here * k) * sizeof *floats);
    fill_bell_shaped(floats, here * k, &seed);
    fg_result band = quantised;
    band.data = (char *)quantised.data + first * k;
    band.scale = quantised.scale + (quantised.scaling == FG_1X128 ? first : first / BAND * quantised.scale_ld);
    require(fg_quantize(cpu, &(fg_conversion){.rows = here, .cols = k, .from = {.data = floats}, .to = band}));
    free(floats);
    if (!bf16) continue;
    fg_operand again = {.data = band.data,
                        .scale = band.scale,
                        .type = FG_E4M3,
                        .scaling = band.scaling,
                        .scale_layout = band.scale_layout,
                        .scale_ld = band.scale_ld};
    fg_result values = {.data = (uint16_t *)bf16 + first * k, .type = FG_BF16};
    require(fg_dequantize(cpu, &(fg_conversion){.rows = here, .cols = k, .from = again, .to = values}));
  }
}

static void send(const struct bench *bench, const size_t bytes[ARRAYS], int array) {
  require(fg_memory_copy(bench->gpu, bench->device.array[array], bench->host.array[array], bytes[array]));
}

/* B is made anew only for another n or k. */
static void fill_operands(struct bench *bench, struct shape shape, bool has_bf16) {
  size_t bytes[ARRAYS];
  bytes_of(shape, has_bf16, bytes);
  void *const *host = bench->host.array;
  fg_result a = {
      .data = host[A], .scale = host[A_SCALE], .scaling = FG_1X128, .scale_layout = FG_ROWS_CONTIGUOUS, .scale_ld = up4(shape.m)};
  fg_result b = {.data = host[B], .scale = host[B_SCALE], .scaling = FG_128X128, .scale_ld = up4(blocks_of(shape.k))};
  memset((char *)host[A] + shape.m * shape.k, 0, bytes[A] - (size_t)(shape.m * shape.k));
  memset(host[A_SCALE], 0, bytes[A_SCALE]);
  fill_operand(bench->cpu, shape.m, shape.k, a, has_bf16 ? host[A_BF16] : NULL);
  send(bench, bytes, A);
  send(bench, bytes, A_SCALE);
  send(bench, bytes, A_BF16);
  if (shape.n == bench->filled.n && shape.k == bench->filled.k) return;
  memset(host[B_SCALE], 0, bytes[B_SCALE]);
  fill_operand(bench->cpu, shape.n, shape.k, b, has_bf16 ? host[B_BF16] : NULL);
  send(bench, bytes, B);
  send(bench, bytes, B_SCALE);
  send(bench, bytes, B_BF16);
  bench->filled = shape;
}

/* What the largest of the shapes needs. */
static void allocate_operands(struct bench *bench, const struct setup *setup) {
  size_t most[ARRAYS] = {0}, bytes[ARRAYS];
  for (int s = 0; s < setup->shapes.count; s++) {
    bytes_of(setup->shapes.items[s], setup->has_bf16, bytes);
    for (int i = 0; i < ARRAYS; i++)
      if (bytes[i] > most[i]) most[i] = bytes[i];
  }
  for (int i = 0; i < ARRAYS; i++) {
    if (most[i] == 0) continue;
    if (i != D) bench->host.array[i] = allocate(most[i]);
    require(fg_memory_allocate(bench->gpu, most[i], &bench->device.array[i]));
  }
}

static void free_operands(struct bench *bench) {
  for (int i = 0; i < ARRAYS; i++) {
    free(bench->host.array[i]);
    require(fg_memory_free(bench->gpu, bench->device.array[i]));
  }
}

static struct trial take_sample(const struct bench *bench, struct shape shape) {
  struct trial trial = {.shape = shape, .sample_shape = shape, .sample = bench->host};
  const int64_t affordable = (int64_t)(checked_products / ((double)shape.n * (double)shape.k));
  const int64_t most = affordable < LEAST_CHECKED_ROWS ? LEAST_CHECKED_ROWS
                       : affordable < CHECKED_ROWS     ? affordable
                                                       : CHECKED_ROWS;
  trial.apart = (shape.m + most - 1) / most;
  trial.sample_shape.m = (shape.m + trial.apart - 1) / trial.apart;
  size_t bytes[ARRAYS], k = (size_t)shape.k;
  bytes_of(trial.sample_shape, false, bytes);
  trial.sample.array[A] = allocate(bytes[A]);
  trial.sample.array[A_SCALE] = allocate(bytes[A_SCALE]);
  trial.sample.array[D] = allocate(bytes[D]);
  const char *a = bench->host.array[A];
  const float *scale = bench->host.array[A_SCALE];
  char *sample_a = trial.sample.array[A];
  float *sample_scale = trial.sample.array[A_SCALE];
  for (int64_t row = 0; row < trial.sample_shape.m; row++) {
    memcpy(sample_a + (size_t)row * k, a + (size_t)(row * trial.apart) * k, k);
    for (int64_t block = 0; block < blocks_of(shape.k); block++)
      sample_scale[block * up4(trial.sample_shape.m) + row] = scale[block * up4(shape.m) + row * trial.apart];
  }
  return trial;
}

static void free_trial(struct trial *trial) {
  free(trial->sample.array[A]);
  free(trial->sample.array[A_SCALE]);
  free(trial->sample.array[D]);
  for (int i = 0; i < 2; i++) {
    free(trial->truths[i].hopper);
    free(trial->truths[i].value);
    free(trial->truths[i].bound);
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

/* Microseconds of one of `launches` launches, one behind the other. *state (NULL: not asked for): of the GPU towards their end. */
static double launch_us(const struct bench *bench, const struct call *call, int launches, struct gpu_state *state) {
  float ms;
  require_driver("cuEventRecord", bench->driver->cuEventRecord(bench->begin, NULL));
  for (int i = 0; i < launches; i++) launch(bench, call);
  require_driver("cuEventRecord", bench->driver->cuEventRecord(bench->end, NULL));
  if (state) *state = nvml_look(bench->nvml); /* of what the driver takes ahead, about a thousand launches, some are to come */
  require_driver("cuEventSynchronize", bench->driver->cuEventSynchronize(bench->end));
  require_driver("cuEventElapsedTime", bench->driver->cuEventElapsedTime(&ms, bench->begin, bench->end));
  return (double)ms * 1e3 / launches;
}

static double cold_us(const struct bench *bench, const struct call *call) {
  for (double written = 0; written < bench->cold_bytes; written += (double)bench->flush_bytes)
    require_driver("cuMemsetD8Async",
                   bench->driver->cuMemsetD8Async((CUdeviceptr)(uintptr_t)bench->flush, 0xA5, bench->flush_bytes, NULL));
  return launch_us(bench, call, 1, NULL);
}

static struct times summarise_times(const double *us, int count) {
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
  for (int i = 0; i < setup->contender_count; i++)
    if (!calls[i].why_not[0]) cold[i] = summarise_times(us[i], setup->repeats);
}

/* Back to back for setup->settled_ms, when the clocks have come down to what power allows and the L2 has what fits. */
static void time_settled(const struct bench *bench, const struct setup *setup, const struct call *calls, const struct times *cold,
                         struct settled *settled) {
  double us[MAX_CONTENDERS][SETTLED_ROUNDS] = {0}, clock_mhz[MAX_CONTENDERS][SETTLED_ROUNDS],
         power_w[MAX_CONTENDERS][SETTLED_ROUNDS];
  for (int round = 0; round < SETTLED_ROUNDS; round++)
    for (int i = 0; i < setup->contender_count; i++) {
      if (calls[i].why_not[0]) continue;
      struct gpu_state state;
      us[i][round] = launch_us(bench, &calls[i], 1 + (int)(setup->settled_ms * 1e3 / fmax(cold[i].median, 1)), &state);
      clock_mhz[i][round] = state.clock_mhz;
      power_w[i][round] = state.power_w;
    }
  for (int i = 0; i < setup->contender_count; i++)
    if (!calls[i].why_not[0])
      settled[i] = (struct settled){summarise_times(us[i], SETTLED_ROUNDS),
                                    {median(clock_mhz[i], SETTLED_ROUNDS), median(power_w[i], SETTLED_ROUNDS)}};
}

/* --- Checking */

/* The sample's rows of what the call makes of the whole, [sample's m, n] in BF16; NULL: the level refuses the problem, and
 * call->why_not says why. */
static uint16_t *rows_of(const struct bench *bench, const struct trial *trial, struct call *call) {
  size_t bytes[ARRAYS], row_bytes = (size_t)trial->shape.n * 2;
  bytes_of(trial->shape, false, bytes);
  const CUdeviceptr d = (CUdeviceptr)(uintptr_t)bench->device.array[D];
  require_driver("cuMemsetD8Async", bench->driver->cuMemsetD8Async(d, 0xFF, bytes[D], NULL)); /* NaN, until it is written */
  if (!call->product && fg_prepare(bench->gpu, &call->problem) == FG_UNSUPPORTED)
    return snprintf(call->why_not, sizeof call->why_not, "%s", fg_message()), NULL;
  launch(bench, call);
  uint16_t *rows = allocate((size_t)trial->sample_shape.m * row_bytes);
  const char *all = bench->device.array[D];
  for (int64_t row = 0; row < trial->sample_shape.m; row++)
    require(fg_memory_copy(bench->gpu, rows + row * trial->shape.n, all + (size_t)(row * trial->apart) * row_bytes, row_bytes));
  return rows;
}

/* A level's rows have the bits of its twin's. */
static void check_level(struct bench *bench, struct trial *trial, const struct contender *contender, struct call *call) {
  const fg_level twin = contender->level->twin;
  const size_t row_bytes = (size_t)trial->shape.n * 2;
  uint16_t *rows = rows_of(bench, trial, call);
  if (!rows) return;
  if (twin != trial->twin || call->plan.split_k != trial->split_k) {
    fg_problem problem = problem_of(trial->sample_shape, &trial->sample, twin);
    problem.split_k = call->plan.split_k;
    require(fg_gemm(bench->cpu, &problem));
    trial->twin = twin;
    trial->split_k = call->plan.split_k;
  }
  const char *expected = trial->sample.array[D];
  for (int64_t row = 0; row < trial->sample_shape.m && !call->why_not[0]; row++)
    if (memcmp(rows + row * trial->shape.n, expected + (size_t)row * row_bytes, row_bytes) != 0)
      snprintf(call->why_not, sizeof call->why_not, "its result is wrong: row %" PRId64 " has other bits than its twin",
               row * trial->apart);
  if (call->why_not[0]) bench->has_wrong_level = true;
  free(rows);
}

static double from_bf16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return (double)value;
}

static const struct truth *truth_of(const struct bench *bench, struct trial *trial, bool has_one_scale) {
  struct truth *truth = &trial->truths[has_one_scale];
  if (truth->hopper) return truth;
  const size_t elements = (size_t)(trial->sample_shape.m * trial->sample_shape.n);
  *truth = (struct truth){allocate(elements * sizeof *truth->hopper), allocate(elements * sizeof *truth->value),
                          allocate(elements * sizeof *truth->bound)};
  fg_problem problem = problem_of(trial->sample_shape, &trial->sample, FG_HOPPER);
  if (has_one_scale) problem.a.scaling = problem.b.scaling = FG_TENSOR;
  require(fg_exact(bench->cpu, &problem, truth->value, truth->bound));
  problem.d.data = truth->hopper;
  require(fg_gemm(bench->cpu, &problem));
  return truth;
}

static struct distance distance_of(const struct bench *bench, struct trial *trial, enum peer_kind kind, struct call *call) {
  const int64_t elements = trial->sample_shape.m * trial->sample_shape.n;
  const struct truth *truth = truth_of(bench, trial, kind == PEER_TENSOR || kind == PEER_PROMOTED);
  uint16_t *rows = rows_of(bench, trial, call);
  struct distance distance = {.elements = elements};
  double squares = 0, squares_off = 0;
  for (int64_t i = 0; i < elements; i++) {
    double off = from_bf16(rows[i]) - truth->value[i];
    squares += truth->value[i] * truth->value[i];
    squares_off += off * off;
    distance.outside += !(fabs(off) <= truth->bound[i]);
    distance.other_bits += rows[i] != truth->hopper[i];
  }
  distance.relative = sqrt(squares_off / squares);
  if (kind == PEER_BF16) distance.outside = distance.other_bits = -1;
  free(rows);
  return distance;
}

/* A peer is not timed on something else: what it makes of scales in another order than it takes them for is off by about as much as
 * the product is large. */
static void check_peer(const struct bench *bench, struct trial *trial, enum peer_kind kind, struct call *call) {
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

static void prepare_peer(const struct bench *bench, struct trial *trial, enum peer_kind kind, struct call *call) {
  if (!bench->cublaslt) {
    snprintf(call->why_not, sizeof call->why_not, "%s", bench->why_no_cublaslt);
    return;
  }
  void *const *device = bench->device.array;
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

static void prepare_level(struct bench *bench, struct trial *trial, const struct contender *contender, struct call *call) {
  call->problem = problem_of(trial->shape, &bench->device, contender->level->level);
  call->problem.plan = &contender->wish;
  fg_status status = fg_context_plan(bench->gpu, &call->problem, &call->plan);
  if (status == FG_UNSUPPORTED)
    snprintf(call->why_not, sizeof call->why_not, "%s", fg_message());
  else
    require(status);
  if (!call->why_not[0]) check_level(bench, trial, contender, call);
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

/* Which operand's rows are the tensor core's, where the level has a choice. */
static const char *order_name(fg_order order) {
  static const char *const names[] = {[FG_DEFAULT_ORDER] = "", [FG_A_BY_B] = "A by B", [FG_B_BY_A] = "B by A"};
  return names[order];
}

static json_t *level_json(const struct contender *contender, const struct call *call) {
  const fg_plan *plan = &call->plan;
  bool is_own = contender->wish.block_m == 0;
  json_t *row = json_pack("{s:s, s:b, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I}", "name", contender->name, "own_plan", is_own,
                          "block_m", plan->block_m, "block_n", plan->block_n, "stages", plan->stages, "threads", plan->threads,
                          "blocks", plan->blocks, "cluster", plan->cluster, "split_k", plan->split_k, "shared_bytes",
                          plan->shared_bytes, "tiles", (json_int_t)plan->tiles);
  if (plan->order != FG_DEFAULT_ORDER) json_object_set_new(row, "order", json_string(order_name(plan->order)));
  if (call->why_not[0]) json_object_set_new(row, "why_not", json_string(call->why_not));
  return row;
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

static void print_settled(const struct settled *settled, const struct floors *floors) {
  printf(" %10.1f %8.2f ", settled->us.median, floors->flops / settled->us.median * 1e-6);
  isnan(settled->gpu.clock_mhz) ? printf("%5s", "") : printf("%5.0f", settled->gpu.clock_mhz);
}

/* settled NULL: it was not measured. */
static void print_row(struct shape shape, const struct contender *contender, const struct call *call, const struct times *cold,
                      const struct settled *settled, const struct floors *floors) {
  const fg_plan *plan = &call->plan;
  printf("%6" PRId64 " x %6" PRId64 " x %6" PRId64 "  %-17s ", shape.m, shape.n, shape.k, contender->name);
  if (call->why_not[0]) {
    printf("%s\n", call->why_not);
    return;
  }
  if (call->product)
    printf("%9s %6s %6s %2s", "", "", "", "");
  else
    printf("%3d x %-3d %6s %6d %2d", plan->block_m, plan->block_n, order_name(plan->order), plan->blocks, plan->split_k);
  printf(" %10.1f %10.1f %10.1f %8.2f %6.3f", cold->median, cold->min, cold->max, floors->flops / cold->median * 1e-6,
         share_of(contender, floors, cold->median));
  if (settled) print_settled(settled, floors);
  const struct distance *distance = &call->distance;
  if (call->product) printf("  algorithm %d of %d, off by %.1e", call->algorithm + 1, call->algorithms, distance->relative);
  if (call->product && distance->outside >= 0)
    printf(", %" PRId64 " of %" PRId64 " outside, %.0f%% other bits", distance->outside, distance->elements,
           100 * (double)distance->other_bits / (double)distance->elements);
  printf("\n");
}

static json_t *settled_json(const struct settled *settled) {
  json_t *object = times_json(&settled->us);
  if (!isnan(settled->gpu.clock_mhz)) json_object_set_new(object, "clock_mhz", json_real(settled->gpu.clock_mhz));
  if (!isnan(settled->gpu.power_w)) json_object_set_new(object, "power_w", json_real(settled->gpu.power_w));
  return object;
}

static json_t *report(const struct setup *setup, struct shape shape, const struct contender *contender, const struct call *call,
                      const struct times *cold, const struct settled *settled, const struct floors *floors) {
  if (!setup->json) print_row(shape, contender, call, cold, settled, floors);
  fflush(stdout);
  json_t *row = contender->level ? level_json(contender, call) : peer_json(contender, call);
  if (call->why_not[0]) return row;
  json_object_set_new(row, "cold", times_json(cold));
  json_object_set_new(row, "gflops", json_real(floors->flops / cold->median * 1e-3));
  json_object_set_new(row, "share", json_real(share_of(contender, floors, cold->median)));
  json_object_set_new(row, "share_of_limit", json_real(floors->limit_us / cold->median));
  if (!settled) return row;
  json_object_set_new(row, "settled", settled_json(settled));
  json_object_set_new(row, "settled_gflops", json_real(floors->flops / settled->us.median * 1e-3));
  return row;
}

static json_t *measure(struct bench *bench, const struct setup *setup, struct shape shape) {
  const bool is_settled = setup->settled_ms > 0 && !shape.is_swept;
  struct floors floors = floors_of(&bench->machine, shape);
  fill_operands(bench, shape, setup->has_bf16);
  struct trial trial = take_sample(bench, shape);
  struct call calls[MAX_CONTENDERS] = {{.algorithm = 0}};
  for (int i = 0; i < setup->contender_count; i++)
    if (setup->contenders[i].level)
      prepare_level(bench, &trial, &setup->contenders[i], &calls[i]);
    else
      prepare_peer(bench, &trial, setup->contenders[i].peer, &calls[i]);
  struct times cold[MAX_CONTENDERS];
  struct settled settled[MAX_CONTENDERS];
  time_cold(bench, setup, calls, cold);
  if (is_settled) time_settled(bench, setup, calls, cold, settled);
  json_t *levels = json_array(), *peers = json_array();
  for (int i = 0; i < setup->contender_count; i++) {
    const struct contender *contender = &setup->contenders[i];
    json_array_append_new(contender->level ? levels : peers,
                          report(setup, shape, contender, &calls[i], &cold[i], is_settled ? &settled[i] : NULL, &floors));
    peer_free(calls[i].product);
  }
  free_trial(&trial);
  return json_pack("{s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:o, s:o}", "m", (json_int_t)shape.m, "n", (json_int_t)shape.n, "k",
                   (json_int_t)shape.k, "flops", floors.flops, "bytes", floors.bytes, "fma_us", floors.fma_us, "memory_us",
                   floors.memory_us, "limit_us", floors.limit_us, "rows", levels, "peers", peers);
}

/* --- The command line */

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

static void print_shapes(const struct shape_list *list) {
  for (int i = 0; i < list->count; i++)
    printf("%s%" PRId64 "x%" PRId64 "x%" PRId64, i > 0 ? "," : "", list->items[i].m, list->items[i].n, list->items[i].k);
  printf("\n");
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
  bench.cold_bytes = bench.driver->is_emulator ? 0 : 8e9; /* it has no L2, and nothing that is hot */
  require(fg_memory_allocate(bench.gpu, bench.flush_bytes, &bench.flush));
  bench.nvml = nvml_open(bench.driver, setup->ordinal);
  allocate_operands(&bench, setup);
  if (setup->has_peers) bench.cublaslt = cublaslt_open(bench.why_no_cublaslt, sizeof bench.why_no_cublaslt);
  if (bench.cublaslt) require(fg_memory_allocate(bench.gpu, PEER_WORKSPACE_BYTES, &bench.workspace));
  return bench;
}

static void close_bench(struct bench *bench) {
  cublaslt_close(bench->cublaslt);
  nvml_close(bench->nvml);
  free_operands(bench);
  require(fg_memory_free(bench->gpu, bench->workspace));
  require(fg_memory_free(bench->gpu, bench->flush));
  fg_context_destroy(bench->gpu);
  fg_context_destroy(bench->cpu);
}

static void print_head(const struct bench *bench, const struct setup *setup) {
  const struct machine *machine = &bench->machine;
  printf("finegemm %s, %s, %d multiprocessors at up to %d MHz: FP32 %.1f TFLOPS, memory %.2f TB/s, L2 %.0f MiB\n", fg_version(),
         machine->gpu.name, machine->gpu.sms, machine->clock_khz / 1000, fp32_flops(machine) * 1e-12,
         memory_bandwidth(machine) * 1e-12, machine->l2_bytes * 0x1p-20);
  printf("limit: FP8 %.0f TFLOPS, reading %.2f TB/s, and %d us\n", tensor_flops(machine) * 1e-12, read_bandwidth(machine) * 1e-12,
         LAUNCH_US);
  if (bench->nvml) printf("driver %s, ", nvml_driver(bench->nvml));
  printf("CUDA %d, NVRTC %d, ", machine->driver_version, machine->compiler_version);
  if (bench->cublaslt) printf("cuBLASLt %d, ", cublaslt_version(bench->cublaslt));
  printf("%d shapes, %d rounds\n\n", setup->shapes.count, setup->repeats);
  printf("%6s   %6s   %6s  %-17s %9s %6s %6s %2s %10s %10s %10s %8s %6s %10s %8s %5s\n", "m", "n", "k", "", "tile", "", "blocks",
         "K/", "us", "min", "max", "TFLOPS", "share", "settled us", "TFLOPS", "MHz");
}

static void print_foot(const struct bench *bench, const struct setup *setup, const json_t *summary) {
  printf("\n");
  print_summary(summary);
  printf(
      "\nus: one launch by events, %.0f GB written before it. K/: ranges of K. share: of what the FP32 rate or memory admits, for what\n"
      "multiplies with tensor cores of the limit. off by: of the exact product, on up to %d rows.\n",
      bench->cold_bytes * 1e-9, CHECKED_ROWS);
  if (setup->settled_ms > 0)
    printf("settled us: back to back for %d ms. MHz: the multiprocessors' clock then.\n", setup->settled_ms);
}

static void print_json(const struct bench *bench, const struct setup *setup, json_t *results, json_t *summary) {
  const struct machine *machine = &bench->machine;
  json_t *all = machine_json(machine);
  if (bench->nvml) json_object_set_new(all, "driver_name", json_string(nvml_driver(bench->nvml)));
  json_object_set_new(all, "fp32_flops", json_real(fp32_flops(machine)));
  json_object_set_new(all, "memory_bytes_per_s", json_real(memory_bandwidth(machine)));
  json_object_set_new(all, "tensor_flops", json_real(tensor_flops(machine)));
  json_object_set_new(all, "read_bytes_per_s", json_real(read_bandwidth(machine)));
  json_object_set_new(all, "launch_us", json_integer(LAUNCH_US));
  if (bench->cublaslt) json_object_set_new(all, "cublaslt", json_integer(cublaslt_version(bench->cublaslt)));
  json_object_set_new(all, "repeats", json_integer(setup->repeats));
  json_object_set_new(all, "settled_ms", json_integer(setup->settled_ms));
  json_object_set(all, "summary", summary);
  json_object_set(all, "levels", results);
  json_dumpf(all, stdout, JSON_INDENT(2));
  printf("\n");
  json_decref(all);
}

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Returns whether a level was wrong. */
static bool run(const struct setup *setup) {
  struct bench bench = open_bench(setup);
  const double begin = seconds_now();
  json_t *results = json_array();
  int done = 0;
  if (!setup->json) print_head(&bench, setup);
  for (; done < setup->shapes.count && (setup->seconds == 0 || seconds_now() - begin < setup->seconds); done++)
    json_array_append_new(results, measure(&bench, setup, setup->shapes.items[done]));
  if (done < setup->shapes.count)
    fprintf(stderr, BENCH ": %d of %d shapes were measured in %d seconds\n", done, setup->shapes.count, setup->seconds);
  json_t *summary = summarise(results);
  if (setup->json)
    print_json(&bench, setup, results, summary);
  else
    print_foot(&bench, setup, summary);
  json_decref(summary);
  json_decref(results);
  close_bench(&bench);
  return bench.has_wrong_level;
}

int main(int argc, const char **argv) {
  struct setup setup = {.repeats = 15, .settled_ms = 400};
  char *shapes = NULL, *levels = NULL;
  const struct poptOption options[] = {
      {"shapes", 's', POPT_ARG_STRING, &shapes, 0,
       "what to multiply; sets are ladder, seed, models, small, large, squares, sweep and random:SEED "
       "(512x2048x7168,64x4096x7168,4096x4096x7168,1x7168x2048)",
       "MxNxK,SET,..."},
      {"levels", 'l', POPT_ARG_STRING, &levels, 0,
       "which levels, with which tiles, and of cuBLASLt cublaslt-block, -tensor, -promoted, -bf16 (naive,shared)",
       "NAME[:MxN],..."},
      {"repeats", 'r', POPT_ARG_INT, &setup.repeats, 0, "how often each is timed (15)", "N"},
      {"settled", 0, POPT_ARG_INT, &setup.settled_ms, 0, "for how many milliseconds each is run back to back; 0: not (400)",
       "MS"},
      {"seconds", 0, POPT_ARG_INT, &setup.seconds, 0, "begin no further shape after so many; 0: never stop (0)", "N"},
      {"list", 0, POPT_ARG_NONE, &setup.list, 0, "print the shapes, commas between them, and end", NULL},
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
  if (setup.seconds < 0) fail(EXIT_USAGE, "--seconds takes a number from 0");
  if (!shapes) shapes = strdup("512x2048x7168,64x4096x7168,4096x4096x7168,1x7168x2048");
  if (!levels) levels = strdup("naive,shared");
  if (!shapes || !levels) fail(EXIT_FAILURE, "no memory");
  setup.shapes = shapes_of(shapes);
  parse_contenders(levels, &setup);
  bool has_wrong_level = false;
  if (setup.list)
    print_shapes(&setup.shapes);
  else
    has_wrong_level = run(&setup);
  poptFreeContext(arguments);
  free(setup.shapes.items);
  free(shapes);
  free(levels);
  if (has_wrong_level) fail(EXIT_FAILURE, "a level is wrong: see its rows");
  return ferror(stdout) || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
