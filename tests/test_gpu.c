/* The GPU's levels on a GPU: over the problems of all kinds that the CPU's levels are held to, D byte for byte as `reference` defines
 * it, and nothing else touched; and what a host program can do to them. Skipped, and said so, where there is no GPU, unless
 * FG_REQUIRE_GPU is in the environment. FG_GPU_CASES=N there lets the long walks take N problems each: sanitizers are slow. */
#define _DEFAULT_SOURCE /* mprotect */
#include "finegemm_kernels.h"
#include "gpu_memory.h"
#include "plan.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
  fg_level level;
  const char *name;
} levels[] = {{FG_NAIVE, "naive"}, {FG_SHARED, "shared"}};
enum { LEVELS = sizeof levels / sizeof *levels };
enum { ARENA_BYTES = 128 << 20, SMALL_ARENA_BYTES = 4 << 20 };

static fg_context *cpu_context(void) {
  fg_context *context;
  cr_assert_eq(fg_context_create(&context, &(fg_context_options){.threads = 1}), FG_OK);
  return context;
}

/* --- The definition */

/* The largest legal error and the value, by the CPU's fg_exact(), of all elements of D. */
struct truth {
  double *value, *bound;
  const char *name;
};

static struct truth truth_of(fg_context *cpu, const struct problem *problem) {
  const struct spec *spec = &problem->spec;
  size_t elements = (size_t)((spec->kind == FG_GROUPED_ROWS ? 1 : spec->groups) * spec->m * spec->n) + 1;
  struct truth truth = {calloc(elements, sizeof(double)), calloc(elements, sizeof(double)), NULL};
  fg_problem call = problem->call;
  call.level = FG_REFERENCE;
  if (fg_exact(cpu, &call, truth.value, truth.bound) != FG_OK) case_failed(problem, "fg_exact: %s", fg_message());
  return truth;
}

static void check_bound(const struct problem *problem, const struct row *row, int64_t j, int64_t index, void *state) {
  const struct truth *truth = state;
  double d = decode(problem->spec.d_type, read_bits(problem->spec.d_type, problem->d.data, d_index(problem, row, j)));
  double value = truth->value[index];
  if (isnan(value) ? !isnan(d) : isinf(value) ? d != value : !(fabs(d - value) <= truth->bound[index]))
    case_failed(problem, "%s: element %" PRId64 " of d is %a, but the value is %a and the bound %a", truth->name, index, d, value,
                truth->bound[index]);
}

/* What must not matter, drawn: the stream, multiprocessors, blocks, flags. */
static void vary(fg_problem *call, fg_plan *plan, const struct gpu_streams *streams, uint64_t *state) {
  static const int limits[] = {0, 0, 1, 2, 7, 131, INT_MAX}, blocks[] = {0, 0, 1, 2, 3, 7, 64, 1000};
  call->stream = (struct CUstream_st *)streams->at[random_below(state, GPU_STREAMS)];
  call->sm_limit = limits[random_below(state, sizeof limits / sizeof *limits)];
  if (random_below(state, 2)) call->flags = FG_NO_SPLIT_K;
  if (random_below(state, 2)) call->split_k = 1;
  if (call->level == FG_SHARED && random_below(state, 3) == 0) call->level = FG_BEST;
  *plan = (fg_plan){.blocks = blocks[random_below(state, sizeof blocks / sizeof *blocks)]};
  if (call->sm_limit && plan->blocks > call->sm_limit) plan->blocks = call->sm_limit;
  call->plan = random_below(state, 3) ? plan : NULL;
}

static int64_t check_problem(struct gpu_memory *memory, fg_context *cpu, const struct gpu_streams *streams,
                             struct problem *problem) {
  unsigned char *expected = defined_bytes(problem, FAMILY_FP32);
  struct truth truth = truth_of(cpu, problem);
  int64_t calls = 0;
  for (int placement = BETWEEN_GUARDS; placement <= AT_THE_EDGE; placement++)
    for (int i = 0; i < LEVELS; i++, calls++) {
      char name[64];
      uint64_t state = problem->spec.seed * 4 + (uint64_t)(2 * placement + i);
      fg_problem call = gpu_place(memory, problem, (enum placement)placement);
      fg_plan plan;
      call.level = levels[i].level;
      vary(&call, &plan, streams, &state);
      snprintf(name, sizeof name, "%s %s", levels[i].name, placement == AT_THE_EDGE ? "at the edge" : "between guards");
      truth.name = name;
      if (!gpu_run(memory, problem, &call, name)) continue;
      d_equals(problem, expected, name);
      for_each_element(problem, check_bound, &truth);
    }
  free(truth.value);
  free(truth.bound);
  free(expected);
  return calls;
}

static void check_seeds(uint64_t first, uint64_t count) {
  fg_context *context = gpu_context(), *cpu = cpu_context();
  struct gpu_memory *memory = gpu_memory_make(context, ARENA_BYTES);
  struct gpu_streams streams = gpu_streams_make();
  int64_t problems = 0, calls = 0;
  for (uint64_t seed = first; walk_on(&seed, first, gpu_cases(count)) && cases_failed() < 20; seed++, problems++) {
    struct spec spec = spec_random(seed);
    struct problem *problem = problem_make(&spec);
    calls += check_problem(memory, cpu, &streams, problem);
    problem_free(problem);
  }
  printf("problems %" PRIu64 " to %" PRIu64 ": %" PRId64 " calls of naive and shared as defined\n", first,
         first + (uint64_t)problems - 1, calls);
  gpu_streams_free(&streams);
  gpu_memory_free(memory);
  fg_context_destroy(cpu);
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}

/* Every kind with every scaling, pair of types and type of D, twice, as in test_gemm: in four tests, which run side by side. */
Test(gpu, keeps_the_definition_and_the_bounds_1) { check_seeds(0, 540); }
Test(gpu, keeps_the_definition_and_the_bounds_2) { check_seeds(540, 540); }
Test(gpu, keeps_the_definition_and_the_bounds_3) { check_seeds(1080, 540); }
Test(gpu, keeps_the_definition_and_the_bounds_4) { check_seeds(1620, 540); }

/* --- Plans */

/* Tiles of naive; of shared all are taken. FG_ALL_PLANS=1 takes all of both. */
static const int some_tiles[][2] = {{1, 32}, {32, 1}, {1, 1024}, {1024, 1}, {32, 32}, {3, 32}, {96, 5}, {7, 128}, {64, 15}};

static bool is_taken(fg_level level, int block_m, int block_n) {
  if (level == FG_SHARED || getenv("FG_ALL_PLANS")) return true;
  for (size_t i = 0; i < sizeof some_tiles / sizeof *some_tiles; i++)
    if (some_tiles[i][0] == block_m && some_tiles[i][1] == block_n) return true;
  return false;
}

enum { MOST_TILES = 1024 };
static fg_plan tiles[MOST_TILES];

static int list_tiles(fg_level level) {
  int count = 0;
  for (int block_m = 1; block_m <= 1024; block_m++)
    for (int block_n = 1; block_n <= 1024; block_n++) {
      fg_plan plan, wish = {.block_m = block_m, .block_n = block_n};
      fg_problem problem = {.m = 1, .n = 1, .k = 1, .level = level, .plan = &wish};
      if (!is_taken(level, block_m, block_n)) continue;
      if (fg_plan_make(&fg_known_gpus(NULL)[0], &problem, &plan) != FG_OK) continue;
      cr_assert_lt(count, MOST_TILES);
      tiles[count++] = wish;
    }
  return count;
}

/* The types that tile t is tried with; compiling is what takes the time. */
static struct spec spec_for_tile(uint64_t seed, int t) {
  struct spec spec = spec_random(seed);
  spec.a_type = t & 1 ? FG_E5M2 : FG_E4M3;
  spec.b_type = t & 2 ? FG_E5M2 : FG_E4M3;
  return spec;
}

static void try_tiles(struct gpu_memory *memory, fg_level level, const char *name) {
  enum { EACH = 6 };
  int count = list_tiles(level);
  cr_assert_gt(count, 4);
#pragma omp parallel for schedule(dynamic)
  for (int t = 0; t < count; t++) {
    struct spec spec = spec_for_tile(0, t);
    fg_problem problem = {.level = level, .plan = &tiles[t], .a = {.type = spec.a_type}, .b = {.type = spec.b_type}};
    cr_expect_eq(fg_prepare(memory->context, &problem), FG_OK, "%s", fg_message());
  }
  for (int t = 0; t < count && cases_failed() < 20; t++)
    for (uint64_t i = 0; i < gpu_cases(EACH); i++) {
      struct spec spec = spec_for_tile(70000 + (uint64_t)t * EACH + i, t);
      struct problem *problem = problem_make(&spec);
      unsigned char *expected = defined_bytes(problem, FAMILY_FP32);
      fg_problem call = gpu_place(memory, problem, i % 2 ? AT_THE_EDGE : BETWEEN_GUARDS);
      char what[64];
      snprintf(what, sizeof what, "%s with tiles %dx%d", name, tiles[t].block_m, tiles[t].block_n);
      call.level = level;
      call.plan = &tiles[t];
      if (gpu_run(memory, problem, &call, what)) d_equals(problem, expected, what);
      free(expected);
      problem_free(problem);
    }
  printf("%s: %d sizes of tiles, %d problems each\n", name, count, (int)gpu_cases(EACH));
}

Test(gpu, tiles_do_not_show) {
  fg_context *context = gpu_context();
  struct gpu_memory *memory = gpu_memory_make(context, ARENA_BYTES);
  for (int i = 0; i < LEVELS; i++) try_tiles(memory, levels[i].level, levels[i].name);
  gpu_memory_free(memory);
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}

/* --- Groups that are not what they should be, which only the device sees */

static int64_t value_count(const struct spec *spec) {
  return spec->group_by == FG_BY_INDEX ? spec->m : spec->groups + (spec->group_by == FG_BY_OFFSETS);
}

static int64_t wild_value(int64_t limit, int64_t *last, uint64_t *state) {
  static const int64_t extremes[] = {INT64_MIN, INT64_MAX, INT32_MIN, INT32_MAX, -1, -128, 0, (int64_t)1 << 32, (int64_t)1 << 46};
  switch (random_below(state, 6)) {
  case 0:
    return *last = extremes[random_below(state, sizeof extremes / sizeof *extremes)];
  case 5: /* what a range that does not begin at 0 overflows with */
    return *last = INT64_MAX - random_below(state, limit + 1);
  case 1:
    return *last = limit + random_below(state, 3) - 1;
  case 2:
    return *last = (int64_t)next_random(state);
  case 3:
    return *last = random_below(state, 2 * limit + 2);
  default: /* ascending, as it should be */
    return *last = (*last > 0 && *last < limit ? *last : 0) + random_below(state, limit / 3 + 2);
  }
}

static int64_t clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

/* What of the groups there is: values that are legal and mean the same, by the rule that ranges ascend and end by `limit`. */
static void cut_values(const struct spec *spec, const int64_t *wild, int64_t limit, int64_t *cut) {
  int64_t align = spec->group_align ? spec->group_align : 1, end = 0;
  for (int64_t i = 0; i < value_count(spec); i++) {
    int64_t begin = (end + align - 1) / align * align, value = wild[i];
    if (spec->group_by == FG_BY_INDEX) {
      cut[i] = value < 0 || value >= spec->groups ? -1 : value;
    } else if (spec->kind == FG_MASKED) {
      cut[i] = clamp(value, 0, limit);
    } else if (spec->group_by == FG_BY_OFFSETS) {
      cut[i] = end = clamp(value, end, limit);
    } else if (spec->group_by == FG_BY_COUNTS) {
      cut[i] = begin > limit ? 0 : clamp(value, 0, limit - begin);
      if (cut[i] > 0) end = begin + cut[i];
    } else {
      cut[i] = value <= end || begin > limit ? end : clamp(value, begin, limit);
      end = cut[i];
    }
  }
}

static void write_values(const struct problem *problem, const int64_t *values) {
  for (int64_t i = 0; i < value_count(&problem->spec); i++)
    if (problem->spec.group_type == FG_INT64)
      memcpy(problem->values.data + 8 * i, &values[i], 8);
    else
      memcpy(problem->values.data + 4 * i, &(int32_t){(int32_t)values[i]}, 4);
}

static void unprotect(const struct region *region) {
  if (region->bytes) cr_assert_eq(mprotect(region->map, region->map_bytes, PROT_READ | PROT_WRITE), 0);
}

/* Poison is no scale. */
static void make_finite(const struct region *scales) {
  unprotect(scales);
  float *scale = (float *)(void *)scales->data;
  for (size_t i = 0; i < scales->bytes / sizeof(float); i++)
    if (!isfinite(scale[i])) scale[i] = 0.5f;
}

/* The CPU's D for the cut groups. */
static unsigned char *cut_result(fg_context *cpu, struct problem *problem) {
  fg_problem call = problem->call;
  call.level = FG_REFERENCE;
  problem_reset(problem);
  if (fg_gemm(cpu, &call) != FG_OK) case_failed(problem, "cut groups: %s", fg_message());
  unsigned char *d = malloc(problem->d.bytes + 1);
  if (problem->d.bytes) memcpy(d, problem->d.data, problem->d.bytes);
  problem_reset(problem);
  return d;
}

Test(gpu, groups_out_of_range_are_cut) {
  fg_context *context = gpu_context(), *cpu = cpu_context();
  struct gpu_memory *memory = gpu_memory_make(context, ARENA_BYTES);
  int calls = 0;
  for (uint64_t seed = 80000; walk_on(&seed, 80000, gpu_cases(800)) && cases_failed() < 20; seed++) {
    struct spec spec = spec_random(seed);
    if (spec.kind == FG_DENSE || spec.kind == FG_BATCHED) continue;
    /* Ranges of K may come to more columns of scales than there are, which no rule can cut. */
    if (spec.kind == FG_GROUPED_K) spec.a_scaling = spec.b_scaling = FG_TENSOR;
    struct problem *problem = problem_make(&spec);
    int64_t wild[1024], cut[1024], last = 0, limit = spec.kind == FG_GROUPED_K ? spec.k : spec.m;
    if (spec.group_by == FG_BY_INDEX) limit = spec.groups;
    cr_assert_leq(value_count(&spec), 1024);
    uint64_t state = seed;
    for (int64_t i = 0; i < value_count(&spec); i++) {
      wild[i] = wild_value(limit, &last, &state);
      if (spec.group_type == FG_INT32) wild[i] = (int32_t)wild[i];
    }
    make_finite(&problem->a_scale);
    make_finite(&problem->b_scale);
    unprotect(&problem->values);
    cut_values(&spec, wild, limit, cut);
    write_values(problem, cut);
    unsigned char *expected = cut_result(cpu, problem);
    write_values(problem, wild);
    for (int at = 0; at < 2 * LEVELS; at++) {
      fg_problem call = gpu_place(memory, problem, at / LEVELS ? AT_THE_EDGE : BETWEEN_GUARDS);
      call.level = levels[at % LEVELS].level;
      if (gpu_run(memory, problem, &call, levels[at % LEVELS].name)) d_equals(problem, expected, levels[at % LEVELS].name);
      calls++;
    }
    free(expected);
    problem_free(problem);
  }
  printf("groups out of range: %d calls\n", calls);
  gpu_memory_free(memory);
  fg_context_destroy(cpu);
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}

/* --- Beyond 2^31 elements */

/* Addresses of which only the first pages from each of three far rows on are mapped. */
struct sparse {
  CUdeviceptr base;
  size_t bytes, page, at[3];
  CUmemGenericAllocationHandle memory[3];
};

/* `far` elements of `element_bytes` lie from row to row. */
static struct sparse sparse_make(int64_t far, size_t element_bytes) {
  const struct fg_driver *driver = fg_driver();
  const CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                          .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE}};
  const CUmemAccessDesc access = {.location = properties.location, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  struct sparse sparse = {0};
  gpu_enter(0);
  GPU_MUST(driver->cuMemGetAllocationGranularity(&sparse.page, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
  for (int i = 0; i < 3; i++) sparse.at[i] = (size_t)(i * far) * element_bytes / sparse.page * sparse.page;
  sparse.bytes = sparse.at[2] + 2 * sparse.page;
  GPU_MUST(driver->cuMemAddressReserve(&sparse.base, sparse.bytes, 0, 0, 0));
  for (size_t i = 0; i < 3; i++) {
    CUdeviceptr begin = sparse.base + sparse.at[i];
    GPU_MUST(driver->cuMemCreate(&sparse.memory[i], 2 * sparse.page, &properties, 0));
    GPU_MUST(driver->cuMemMap(begin, 2 * sparse.page, 0, sparse.memory[i], 0));
    GPU_MUST(driver->cuMemSetAccess(begin, 2 * sparse.page, &access, 1));
  }
  gpu_leave();
  return sparse;
}

static void sparse_free(struct sparse *sparse) {
  gpu_enter(0);
  GPU_MUST(fg_driver()->cuCtxSynchronize());
  for (int i = 0; i < 3; i++) {
    GPU_MUST(fg_driver()->cuMemUnmap(sparse->base + sparse->at[i], 2 * sparse->page));
    GPU_MUST(fg_driver()->cuMemRelease(sparse->memory[i]));
  }
  GPU_MUST(fg_driver()->cuMemAddressFree(sparse->base, sparse->bytes));
  gpu_leave();
}

static void put(fg_context *context, const struct sparse *sparse, size_t offset, const void *from, size_t bytes) {
  cr_assert_eq(fg_memory_copy(context, (void *)(sparse->base + offset), from, bytes), FG_OK, "%s", fg_message());
}

/* Three rows or matrices of every array, so far apart that neither 32 bits nor 2^31 elements reach them. */
Test(gpu, indices_have_64_bits) {
  enum { M = 3, N = 3, K = 130, BLOCKS = 2, G = 3, SPAN = 32 };
  static const fg_kind kinds[] = {FG_DENSE, FG_BATCHED, FG_MASKED, FG_GROUPED_ROWS, FG_GROUPED_K};
  const int64_t far = ((int64_t)1 << 32) + 64;
  fg_context *context = gpu_context();
  struct sparse a = sparse_make(far, 1), b = sparse_make(far, 1), c = sparse_make(far, 4), d = sparse_make(far, 4),
                bias = sparse_make(far, 4), a_scale = sparse_make(far, 4), b_scale = sparse_make(far, 4);
  void *counts_there;
  cr_assert_eq(fg_memory_allocate(context, G * sizeof(int32_t), &counts_there), FG_OK);
  for (int at = 0; at < LEVELS * 5 * 2; at++) {
    fg_kind kind = kinds[at / LEVELS % 5];
    bool rows_contiguous = at / LEVELS / 5 != 0;
    bool a_rows_far = kind != FG_BATCHED && kind != FG_MASKED, b_rows_far = kind == FG_DENSE || kind == FG_GROUPED_K;
    bool d_rows_far = kind == FG_DENSE || kind == FG_GROUPED_ROWS;
    int32_t counts[G] = {M, M, M};
    if (kind == FG_GROUPED_ROWS) counts[0] = counts[1] = counts[2] = 1;
    if (kind == FG_GROUPED_K) counts[0] = 128, counts[1] = 1, counts[2] = 1;
    cr_assert_eq(fg_memory_copy(context, counts_there, counts, sizeof counts), FG_OK);
    /* Rows of scales are as far apart as rows of the operand; with rows contiguous it is columns that are. */
    fg_problem problem = {.kind = kind,
                          .m = M,
                          .n = N,
                          .k = K,
                          .groups = G,
                          .a = {.data = (const void *)a.base,
                                .scale = (const float *)a_scale.base,
                                .ld = a_rows_far ? far : K,
                                .stride = far,
                                .scale_ld = rows_contiguous ? (a_rows_far ? far : 4) : (a_rows_far ? far : 4 * BLOCKS),
                                .scale_stride = far,
                                .scale_layout = rows_contiguous ? FG_ROWS_CONTIGUOUS : FG_BLOCKS_CONTIGUOUS},
                          .b = {.data = (const void *)b.base,
                                .scale = (const float *)b_scale.base,
                                .ld = b_rows_far ? far : K,
                                .stride = far,
                                .scale_ld = rows_contiguous ? (b_rows_far ? far : 4) : (b_rows_far ? far : 4 * BLOCKS),
                                .scale_stride = far,
                                .scaling = FG_1X128,
                                .scale_layout = rows_contiguous ? FG_ROWS_CONTIGUOUS : FG_BLOCKS_CONTIGUOUS},
                          .c = {.data = (const void *)c.base, .ld = d_rows_far ? far : N, .stride = far, .type = FG_FP32},
                          .bias = {.data = (const void *)bias.base, .stride = far},
                          .d = {.data = (void *)d.base, .ld = d_rows_far ? far : N, .stride = far, .type = FG_FP32},
                          .group_by = kind == FG_DENSE || kind == FG_BATCHED ? FG_BY_DEFAULT : FG_BY_COUNTS,
                          .group_values = counts_there,
                          .level = levels[at % LEVELS].level};
    for (int64_t x = 0; x < 3; x++) {
      unsigned char ones[4 * K];
      float halves[SPAN], twos[SPAN], one[SPAN], group[SPAN], nans[SPAN];
      memset(ones, 0x38, sizeof ones);
      for (int y = 0; y < SPAN; y++)
        halves[y] = 0.5f, twos[y] = 2, one[y] = 1, group[y] = kind == FG_DENSE ? 0 : (float)(100 * x), nans[y] = NAN;
      size_t offset = (size_t)(x * far);
      put(context, &a, offset, ones, sizeof ones);
      put(context, &b, offset, ones, sizeof ones);
      put(context, &a_scale, 4 * offset, twos, sizeof twos);
      put(context, &b_scale, 4 * offset, one, sizeof one);
      put(context, &c, 4 * offset, halves, sizeof halves);
      put(context, &bias, 4 * offset, group, sizeof group);
      put(context, &d, 4 * offset, nans, sizeof nans);
    }
    cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    gpu_wait(NULL);
    for (int64_t g = 0; g < (kind == FG_DENSE || kind == FG_GROUPED_ROWS ? 1 : G); g++)
      for (int64_t row = 0; row < M; row++) {
        float got[N];
        size_t offset = (size_t)(g * far + row * problem.d.ld);
        cr_assert_eq(fg_memory_copy(context, got, (const void *)(d.base + 4 * offset), sizeof got), FG_OK, "%s", fg_message());
        for (int j = 0; j < N; j++) {
          float products = kind == FG_GROUPED_K ? (float)counts[g] : (float)K;
          float expected = 2 * products + 0.5f + (float)(kind == FG_DENSE ? 0 : 100 * (kind == FG_GROUPED_ROWS ? row : g));
          cr_expect(got[j] == expected, "%s, kind %d, layout %d: D[%d][%d][%d] is %g, not %g", levels[at % LEVELS].name,
                    (int)kind, rows_contiguous, (int)g, (int)row, j, (double)got[j], (double)expected);
        }
      }
  }
  cr_assert_eq(fg_memory_free(context, counts_there), FG_OK);
  struct sparse *const all[] = {&a, &b, &c, &d, &bias, &a_scale, &b_scale};
  for (int i = 0; i < 7; i++) sparse_free(all[i]);
  fg_context_destroy(context);
}

/* What a large dense problem is made of: rows of A that recur. */
enum { BIG_M = 4600000, BIG_N = 512, BIG_K = 128, PERIOD = 4099 };
struct big {
  float a[PERIOD][BIG_K], b[BIG_N][BIG_K], a_scale[PERIOD], b_scale[BIG_N / 128];
  void *d; /* the device's */
};

static void check_big_row(fg_context *context, const struct big *big, int64_t row, const char *name) {
  uint16_t got[BIG_N];
  cr_assert_eq(fg_memory_copy(context, got, (const uint16_t *)big->d + row * BIG_N, sizeof got), FG_OK, "%s", fg_message());
  for (int j = 0; j < BIG_N; j++) {
    float dot = 0;
    for (int k = 0; k < BIG_K; k++) dot = fmaf(big->a[row % PERIOD][k], big->b[j][k], dot);
    uint32_t expected = encode(FG_BF16, (double)fmaf(big->a_scale[row % PERIOD] * big->b_scale[j / 128], dot, 0));
    cr_assert_eq(got[j], expected, "%s: D[%" PRId64 "][%d] is 0x%X, not 0x%X", name, row, j, got[j], expected);
  }
}

/* More than 2^31 elements of D: rows around every multiple of 2^30 elements, the ends, and a thousand others. */
static void check_big(fg_context *context, const struct big *big, const char *name) {
  uint64_t state = 1;
  for (int64_t row = (1 << 30) / BIG_N; row < BIG_M; row += (1 << 30) / BIG_N)
    for (int64_t near = row - 2; near < row + 2; near++) check_big_row(context, big, near, name);
  check_big_row(context, big, 0, name);
  check_big_row(context, big, BIG_M - 1, name);
  for (int i = 0; i < 1000; i++) check_big_row(context, big, random_below(&state, BIG_M), name);
}

static void to_device(fg_context *context, void *to, const void *from, size_t bytes) {
  cr_assert_eq(fg_memory_copy(context, to, from, bytes), FG_OK, "%s", fg_message());
}

Test(gpu, four_million_rows) {
  static const size_t bytes[] = {(size_t)BIG_M * BIG_N * 2, (size_t)BIG_M * BIG_K, BIG_N * BIG_K, BIG_M * sizeof(float),
                                 BIG_N / 128 * sizeof(float)};
  enum { D, A, B, A_SCALE, B_SCALE, ARRAYS };
  if (getenv("FG_GPU_CASES")) cr_skip_test("FG_GPU_CASES is set, and this is one large case");
  fg_context *context = gpu_context();
  void *there[ARRAYS];
  for (int i = 0; i < ARRAYS; i++) {
    fg_status status = fg_memory_allocate(context, bytes[i], &there[i]);
    if (status == FG_OUT_OF_MEMORY) cr_skip_test("%s", fg_message());
    cr_assert_eq(status, FG_OK, "%s", fg_message());
  }
  struct big *big = malloc(sizeof *big);
  unsigned char *a = malloc(bytes[A]), *b = malloc(bytes[B]);
  float *a_scale = malloc(bytes[A_SCALE]);
  cr_assert(big && a && b && a_scale);
  uint64_t state = 1;
  big->d = there[D];
  for (int i = 0; i < PERIOD * BIG_K; i++) {
    a[i] = random_code(GAUSSIAN, FG_E4M3, &state);
    big->a[i / BIG_K][i % BIG_K] = (float)decode(FG_E4M3, a[i]);
  }
  for (int i = 0; i < BIG_N * BIG_K; i++) {
    b[i] = random_code(GAUSSIAN, FG_E4M3, &state);
    big->b[i / BIG_K][i % BIG_K] = (float)decode(FG_E4M3, b[i]);
  }
  for (int i = 0; i < PERIOD; i++) big->a_scale[i] = (float)(1 + i) * 0x1p-12f;
  for (int i = 0; i < BIG_N / 128; i++) big->b_scale[i] = (float)(3 + i) * 0.1f;
  for (int64_t i = 0; i < BIG_M; i++) a_scale[i] = big->a_scale[i % PERIOD];
  for (int64_t i = PERIOD; i < BIG_M; i += PERIOD)
    memcpy(a + i * BIG_K, a, (size_t)(BIG_M - i < PERIOD ? BIG_M - i : PERIOD) * BIG_K);
  to_device(context, there[A], a, bytes[A]);
  to_device(context, there[B], b, bytes[B]);
  to_device(context, there[A_SCALE], a_scale, bytes[A_SCALE]);
  to_device(context, there[B_SCALE], big->b_scale, bytes[B_SCALE]);
  for (int i = 0; i < LEVELS; i++) {
    gpu_enter(0);
    GPU_MUST(fg_driver()->cuMemsetD8((CUdeviceptr)(uintptr_t)there[D], 0xFF, bytes[D]));
    gpu_leave();
    fg_problem problem = {.m = BIG_M,
                          .n = BIG_N,
                          .k = BIG_K,
                          .a = {.data = there[A], .scale = there[A_SCALE]},
                          .b = {.data = there[B], .scale = there[B_SCALE]},
                          .d = {.data = there[D]},
                          .level = levels[i].level};
    cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    gpu_wait(NULL);
    check_big(context, big, levels[i].name);
  }
  free(big);
  free(a);
  free(b);
  free(a_scale);
  for (int i = 0; i < ARRAYS; i++) cr_assert_eq(fg_memory_free(context, there[i]), FG_OK);
  fg_context_destroy(context);
}

/* --- Streams and threads */

/* A problem that keeps a GPU busy a little, dense and off all tiles. */
static struct spec busy_spec(void) {
  struct spec spec = spec_random(50000);
  spec.kind = FG_DENSE, spec.group_by = FG_BY_DEFAULT, spec.groups = 1;
  spec.m = 257, spec.n = 391, spec.k = 700;
  spec.c = SEPARATE_C, spec.values = GAUSSIAN, spec.d_type = FG_BF16, spec.gaps = false;
  return spec;
}

/* 1,000 repeats in 8 streams at once, into 1,000 results. */
Test(gpu, repeats_are_bitwise_equal) {
  enum { AT_ONCE = 8 };
  const int repeats = (int)gpu_cases(1000);
  fg_context *context = gpu_context();
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct spec spec = busy_spec();
  struct problem *problem = problem_make(&spec);
  unsigned char *expected = defined_bytes(problem, FAMILY_FP32), *all;
  CUstream streams[AT_ONCE];
  void *results;
  cr_assert_eq(fg_memory_allocate(context, (size_t)repeats * problem->d.bytes, &results), FG_OK, "%s", fg_message());
  all = malloc((size_t)repeats * problem->d.bytes);
  gpu_enter(0);
  for (int s = 0; s < AT_ONCE; s++) GPU_MUST(fg_driver()->cuStreamCreate(&streams[s], CU_STREAM_NON_BLOCKING));
  gpu_leave();
  for (int i = 0; i < LEVELS; i++) {
    fg_problem call = gpu_place(memory, problem, BETWEEN_GUARDS);
    call.level = levels[i].level;
    cr_assert_eq(fg_prepare(context, &call), FG_OK, "%s", fg_message());
    memset(all, 0xFF, (size_t)repeats * problem->d.bytes);
    to_device(context, results, all, (size_t)repeats * problem->d.bytes);
    for (int repeat = 0; repeat < repeats; repeat++) {
      call.stream = (struct CUstream_st *)streams[repeat % AT_ONCE];
      call.d.data = (unsigned char *)results + (size_t)repeat * problem->d.bytes;
      cr_assert_eq(fg_gemm(context, &call), FG_OK, "%s", fg_message());
    }
    for (int s = 0; s < AT_ONCE; s++) gpu_wait(streams[s]);
    to_device(context, all, results, (size_t)repeats * problem->d.bytes);
    int equal = 0;
    for (int repeat = 0; repeat < repeats; repeat++)
      equal += memcmp(all + (size_t)repeat * problem->d.bytes, expected, problem->d.bytes) == 0;
    cr_expect_eq(equal, repeats, "%s: %d of %d", levels[i].name, equal, repeats);
    printf("%s: %d of %d repeats in %d streams bitwise equal\n", levels[i].name, equal, repeats, AT_ONCE);
  }
  gpu_enter(0);
  for (int s = 0; s < AT_ONCE; s++) GPU_MUST(fg_driver()->cuStreamDestroy(streams[s]));
  gpu_leave();
  cr_assert_eq(fg_memory_free(context, results), FG_OK);
  free(all);
  free(expected);
  problem_free(problem);
  gpu_memory_free(memory);
  fg_context_destroy(context);
}

/* One of many threads on one context, with a problem, memory and a stream of its own. */
struct worker {
  pthread_t thread;
  pthread_barrier_t *start;
  struct problem *problem;
  unsigned char *expected;
  struct gpu_memory *memory;
  int rounds;
  bool right;
};

static void *work(void *argument) {
  struct worker *worker = argument;
  CUstream stream;
  gpu_enter(0);
  GPU_MUST(fg_driver()->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  gpu_leave();
  pthread_barrier_wait(worker->start);
  worker->right = fg_message()[0] == 0;
  for (int round = 0; round < worker->rounds; round++)
    for (int i = 0; i < LEVELS; i++) {
      fg_problem call = gpu_place(worker->memory, worker->problem, BETWEEN_GUARDS);
      call.level = levels[i].level;
      call.stream = (struct CUstream_st *)stream;
      worker->right = worker->right && gpu_run(worker->memory, worker->problem, &call, levels[i].name) &&
                      d_equals(worker->problem, worker->expected, levels[i].name);
    }
  gpu_enter(0);
  GPU_MUST(fg_driver()->cuStreamDestroy(stream));
  gpu_leave();
  return NULL;
}

/* They begin at once, when nothing is loaded yet but what gpu_context() tried. */
Test(gpu, sixty_four_threads_share_a_context) {
  enum { THREADS = 64 };
  static struct worker workers[THREADS];
  fg_context *context = gpu_context();
  pthread_barrier_t start;
  pthread_barrier_init(&start, NULL, THREADS);
  uint64_t seed = 90000;
  for (int t = 0; t < THREADS; t++) {
    struct problem *problem = NULL;
    do { /* the next problem that is small */
      struct spec spec = spec_random(seed++);
      if (problem) problem_free(problem);
      problem = problem_make(&spec);
    } while (problem->a.bytes + problem->b.bytes + problem->c.bytes + problem->d.bytes > SMALL_ARENA_BYTES / 4);
    workers[t] = (struct worker){.start = &start,
                                 .problem = problem,
                                 .expected = defined_bytes(problem, FAMILY_FP32),
                                 .memory = gpu_memory_make(context, SMALL_ARENA_BYTES),
                                 .rounds = (int)gpu_cases(10)};
  }
  for (int t = 0; t < THREADS; t++) cr_assert_eq(pthread_create(&workers[t].thread, NULL, work, &workers[t]), 0);
  for (int t = 0; t < THREADS; t++) pthread_join(workers[t].thread, NULL);
  for (int t = 0; t < THREADS; t++) {
    cr_expect(workers[t].right, "thread %d", t);
    free(workers[t].expected);
    problem_free(workers[t].problem);
    gpu_memory_free(workers[t].memory);
  }
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}

/* --- Graphs */

/* Captured once, a call runs on whatever is in its memory when the graph is launched: on another problem of the same shape. */
Test(gpu, a_prepared_call_can_be_captured) {
  fg_context *context = gpu_context();
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct gpu_streams streams = gpu_streams_make();
  for (int at = 0; at < LEVELS * 3; at++) {
    struct spec spec = busy_spec();
    CUstream stream = streams.at[2 + at % 3];
    struct problem *problem = problem_make(&spec);
    fg_problem call = gpu_place(memory, problem, BETWEEN_GUARDS);
    call.level = levels[at % LEVELS].level;
    call.stream = (struct CUstream_st *)stream;
    cr_assert_eq(fg_prepare(context, &call), FG_OK, "%s", fg_message());
    gpu_begin_capture(stream, gpu_capture_modes[at / LEVELS]);
    cr_assert_eq(fg_gemm(context, &call), FG_OK, "%s", fg_message());
    CUgraphExec graph = gpu_end_capture(stream);
    cr_assert(gpu_fetch(memory, problem, "before the graph's launch") && d_untouched(problem, "a captured call"));
    for (int time = 0; time < 3; time++) {
      problem_free(problem);
      spec.values = (enum values[]){ANY_CODE, CANCELLING, NOT_FINITE}[time];
      problem = problem_make(&spec);
      unsigned char *expected = defined_bytes(problem, FAMILY_FP32);
      cr_assert_eq(gpu_place(memory, problem, BETWEEN_GUARDS).d.data, call.d.data, "the layout follows from the shape");
      gpu_replay(graph, stream);
      cr_assert(gpu_fetch(memory, problem, "the graph") && d_equals(problem, expected, "the graph"));
      free(expected);
    }
    gpu_drop(graph);
    problem_free(problem);
  }
  gpu_streams_free(&streams);
  gpu_memory_free(memory);
  fg_context_destroy(context);
}

/* Without fg_prepare() a captured call is refused, the capture goes on, and what is ready can still be captured in it. */
Test(gpu, an_unprepared_call_leaves_a_capture_valid) {
  fg_context *context = gpu_context();
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct gpu_streams streams = gpu_streams_make();
  struct spec spec = busy_spec();
  struct problem *problem = problem_make(&spec);
  unsigned char *expected = defined_bytes(problem, FAMILY_FP32);
  for (int at = 0; at < 3; at++) {
    CUstream stream = streams.at[2 + at];
    fg_problem ready = gpu_place(memory, problem, BETWEEN_GUARDS), unready = ready;
    ready.stream = unready.stream = (struct CUstream_st *)stream;
    unready.plan = &(const fg_plan){.block_m = 16 + 16 * at, .block_n = 32};
    cr_assert_eq(fg_prepare(context, &ready), FG_OK, "%s", fg_message());
    gpu_begin_capture(stream, gpu_capture_modes[at]);
    cr_assert_eq(fg_gemm(context, &unready), FG_NOT_PREPARED, "%s", fg_message());
    cr_assert(strstr(fg_message(), "fg_prepare()") && strstr(fg_message(), "stream"), "%s", fg_message());
    cr_assert_eq(fg_gemm(context, &ready), FG_OK, "%s", fg_message());
    CUgraphExec graph = gpu_end_capture(stream);
    gpu_replay(graph, stream);
    cr_assert(gpu_fetch(memory, problem, "the graph") && d_equals(problem, expected, "the graph"));
    gpu_drop(graph);
    cr_assert_eq(fg_prepare(context, &unready), FG_OK, "%s", fg_message());
    unready = gpu_place(memory, problem, BETWEEN_GUARDS);
    unready.stream = (struct CUstream_st *)stream;
    cr_assert(gpu_run(memory, problem, &unready, "after the capture") && d_equals(problem, expected, "after the capture"));
  }
  free(expected);
  problem_free(problem);
  gpu_streams_free(&streams);
  gpu_memory_free(memory);
  fg_context_destroy(context);
}

/* While one stream is being captured, kernels for another one are compiled, loaded and run, and the capture does not mind. */
Test(gpu, loading_a_kernel_leaves_another_streams_capture_valid) {
  fg_context *context = gpu_context();
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct gpu_streams streams = gpu_streams_make();
  struct spec spec = busy_spec();
  struct problem *problem = problem_make(&spec);
  unsigned char *expected = defined_bytes(problem, FAMILY_FP32);
  for (int at = 0; at < 3; at++) {
    fg_problem ready = gpu_place(memory, problem, BETWEEN_GUARDS), other = ready;
    ready.stream = (struct CUstream_st *)streams.at[3];
    other.stream = (struct CUstream_st *)streams.at[4];
    other.plan = &(const fg_plan){.block_m = 16 + 16 * at, .block_n = 48};
    cr_assert_eq(fg_prepare(context, &ready), FG_OK, "%s", fg_message());
    gpu_begin_capture(streams.at[3], gpu_capture_modes[at]);
    fg_status status = fg_gemm(context, &other);
    cr_expect_eq(status, FG_OK, "in mode %d: %s", (int)gpu_capture_modes[at], fg_message());
    cr_assert_eq(fg_gemm(context, &ready), FG_OK, "%s", fg_message());
    CUgraphExec graph = gpu_end_capture(streams.at[3]);
    gpu_wait(streams.at[4]);
    cr_expect(gpu_fetch(memory, problem, "another stream") && d_equals(problem, expected, "another stream"));
    gpu_place(memory, problem, BETWEEN_GUARDS);
    gpu_replay(graph, streams.at[3]);
    cr_expect(gpu_fetch(memory, problem, "the graph") && d_equals(problem, expected, "the graph"));
    gpu_drop(graph);
  }
  free(expected);
  problem_free(problem);
  gpu_streams_free(&streams);
  gpu_memory_free(memory);
  fg_context_destroy(context);
}

/* --- What a call is given */

/* The arguments of a call that are pointers. */
enum pointer { TO_A, TO_A_SCALE, TO_B, TO_B_SCALE, TO_C, TO_BIAS, TO_GROUPS, TO_D, POINTERS };
static const char *const pointer_names[POINTERS] = {"a.data", "a.scale",   "b.data",       "b.scale",
                                                    "c.data", "bias.data", "group_values", "d.data"};

static void set_pointer(fg_problem *call, int pointer, void *to) {
  const void **const places[POINTERS] = {[TO_A] = &call->a.data,
                                         [TO_B] = &call->b.data,
                                         [TO_C] = &call->c.data,
                                         [TO_BIAS] = &call->bias.data,
                                         [TO_GROUPS] = &call->group_values};
  if (pointer == TO_D)
    call->d.data = to;
  else if (pointer == TO_A_SCALE)
    call->a.scale = to;
  else if (pointer == TO_B_SCALE)
    call->b.scale = to;
  else
    *places[pointer] = to;
}

/* A problem that has all of the arguments. */
static struct spec full_spec(void) {
  struct spec spec = spec_random(6);
  spec.kind = FG_MASKED, spec.group_by = FG_BY_COUNTS;
  spec.m = 70, spec.n = 90, spec.k = 300, spec.groups = 3;
  spec.c = SEPARATE_C, spec.bias = true, spec.gaps = false, spec.values = GAUSSIAN;
  return spec;
}

static void expect_bad_memory(struct gpu_memory *memory, struct problem *problem, const fg_problem *call, int pointer,
                              const char *says) {
  for (int i = 0; i < LEVELS; i++) {
    fg_problem bad = *call;
    bad.level = levels[i].level;
    fg_status status = fg_gemm(memory->context, &bad);
    cr_expect_eq(status, FG_BAD_MEMORY, "%s: %s", pointer_names[pointer], fg_status_name(status));
    cr_expect(strstr(fg_message(), pointer_names[pointer]) && strstr(fg_message(), says), "\"%s\" is not about %s and \"%s\"",
              fg_message(), pointer_names[pointer], says);
  }
  gpu_wait(NULL);
  cr_expect(gpu_fetch(memory, problem, "a refused call") && d_untouched(problem, "a refused call"));
}

Test(gpu, memory_of_the_host_is_refused) {
  fg_context *context = gpu_context();
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct spec spec = full_spec();
  struct problem *problem = problem_make(&spec);
  fg_problem good = gpu_place(memory, problem, BETWEEN_GUARDS);
  void *const hosts[POINTERS] = {problem->a.data, problem->a_scale.data, problem->b.data,      problem->b_scale.data,
                                 problem->c.data, problem->bias.data,    problem->values.data, problem->d.data};
  for (int pointer = 0; pointer < POINTERS; pointer++) {
    fg_problem call = good;
    set_pointer(&call, pointer, hosts[pointer]);
    expect_bad_memory(memory, problem, &call, pointer, "host memory");
    cr_expect_eq(fg_prepare(context, &call), FG_OK, "%s", fg_message()); /* follows no pointer */
  }
  /* Memory that was freed is no longer the device's. */
  void *freed;
  cr_assert_eq(fg_memory_allocate(context, 8 << 20, &freed), FG_OK);
  cr_assert_eq(fg_memory_free(context, freed), FG_OK);
  set_pointer(&good, TO_B, freed);
  expect_bad_memory(memory, problem, &good, TO_B, "b.data");
  problem_free(problem);
  gpu_memory_free(memory);
  fg_context_destroy(context);
}

/* Memory of the host that the device does reach: page-locked, and managed. */
Test(gpu, memory_that_the_device_reaches_will_do) {
  fg_context *context = gpu_context();
  CUresult (*allocate_locked)(void **, size_t, unsigned), (*free_locked)(void *),
      (*allocate_managed)(CUdeviceptr *, size_t, unsigned);
  *(void **)&allocate_locked = gpu_driver_function("cuMemHostAlloc");
  *(void **)&free_locked = gpu_driver_function("cuMemFreeHost");
  *(void **)&allocate_managed = gpu_driver_function("cuMemAllocManaged");
  struct spec spec = full_spec();
  struct problem *problem = problem_make(&spec);
  unsigned char *expected = defined_bytes(problem, FAMILY_FP32);
  const struct region *const regions[POINTERS] = {&problem->a, &problem->a_scale, &problem->b,      &problem->b_scale,
                                                  &problem->c, &problem->bias,    &problem->values, &problem->d};
  for (int at = 0; at < 2 * LEVELS; at++) {
    bool managed = at / LEVELS;
    fg_problem call = problem->call;
    call.level = levels[at % LEVELS].level;
    problem_reset(problem);
    void *memory[POINTERS];
    gpu_enter(0);
    for (int i = 0; i < POINTERS; i++) {
      CUdeviceptr pointer = 0;
      if (managed) {
        GPU_MUST(allocate_managed(&pointer, regions[i]->bytes, CU_MEM_ATTACH_GLOBAL));
        memory[i] = (void *)(uintptr_t)pointer;
      } else {
        GPU_MUST(allocate_locked(&memory[i], regions[i]->bytes, 0));
      }
      memcpy(memory[i], regions[i]->data, regions[i]->bytes);
      set_pointer(&call, i, memory[i]);
    }
    gpu_leave();
    cr_assert_eq(fg_gemm(context, &call), FG_OK, "%s", fg_message());
    gpu_wait(NULL);
    memcpy(problem->d.data, memory[TO_D], problem->d.bytes);
    cr_expect(d_equals(problem, expected, managed ? "managed" : "page-locked"));
    gpu_enter(0);
    for (int i = 0; i < POINTERS; i++)
      GPU_MUST(managed ? fg_driver()->cuMemFree((CUdeviceptr)(uintptr_t)memory[i]) : free_locked(memory[i]));
    gpu_leave();
  }
  free(expected);
  problem_free(problem);
  fg_context_destroy(context);
}

Test(gpu, memory_and_work_of_two_devices) {
  fg_context *context = gpu_context(), *other = NULL;
  fg_status status = fg_context_create(&other, &(fg_context_options){.device = FG_CUDA, .ordinal = 1});
  if (status == FG_BAD_SIZE) cr_skip_test("there is one device: %s", fg_message());
  cr_assert_eq(status, FG_OK, "%s", fg_message());
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES), *far = gpu_memory_make(other, SMALL_ARENA_BYTES);
  struct spec spec = full_spec();
  struct problem *problem = problem_make(&spec);
  unsigned char *expected = defined_bytes(problem, FAMILY_FP32);
  fg_problem there = gpu_place(far, problem, BETWEEN_GUARDS), here = gpu_place(memory, problem, BETWEEN_GUARDS);
  const void *const pointers[POINTERS] = {there.a.data, there.a.scale,   there.b.data,       there.b.scale,
                                          there.c.data, there.bias.data, there.group_values, there.d.data};
  for (int pointer = 0; pointer < POINTERS; pointer++) {
    fg_problem call = here;
    set_pointer(&call, pointer, (void *)(uintptr_t)pointers[pointer]);
    expect_bad_memory(memory, problem, &call, pointer, "memory of device 1");
  }
  /* The same kernels on both, in turn. */
  for (int at = 0; at < 4 * LEVELS; at++) {
    struct gpu_memory *on = at % 2 ? far : memory;
    fg_problem call = gpu_place(on, problem, BETWEEN_GUARDS);
    call.level = levels[at / 2 % LEVELS].level;
    status = fg_gemm(on->context, &call);
    cr_assert_eq(status, FG_OK, "device %d: %s", at % 2, fg_message());
    gpu_enter(at % 2);
    GPU_MUST(fg_driver()->cuCtxSynchronize());
    gpu_leave();
    cr_expect(gpu_fetch(on, problem, "two devices") && d_equals(problem, expected, "two devices"));
  }
  /* A stream of the other device is refused, and does no harm. */
  CUstream stream;
  gpu_enter(1);
  GPU_MUST(fg_driver()->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  gpu_leave();
  here.stream = (struct CUstream_st *)stream;
  cr_expect_eq(fg_gemm(context, &here), FG_DRIVER_ERROR);
  gpu_enter(1);
  GPU_MUST(fg_driver()->cuStreamDestroy(stream));
  gpu_leave();
  here = gpu_place(memory, problem, BETWEEN_GUARDS);
  cr_expect(gpu_run(memory, problem, &here, "afterwards") && d_equals(problem, expected, "afterwards"));
  free(expected);
  problem_free(problem);
  gpu_memory_free(memory);
  gpu_memory_free(far);
  fg_context_destroy(other);
  fg_context_destroy(context);
}

Test(gpu, levels_of_the_cpu_stay_there) {
  fg_context *context = gpu_context(), *cpu = cpu_context();
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct spec spec = full_spec();
  struct problem *problem = problem_make(&spec);
  fg_problem call = gpu_place(memory, problem, BETWEEN_GUARDS);
  double value[1], bound[1];
  for (int level = FG_EXACT; level <= FG_HOPPER; level++) {
    call.level = (fg_level)level;
    cr_expect_eq(fg_can_run(context, call.level), FG_UNSUPPORTED);
    cr_expect_eq(fg_gemm(context, &call), FG_UNSUPPORTED);
    cr_expect(strstr(fg_message(), "needs a CPU context"), "%s", fg_message());
    cr_expect_eq(fg_prepare(context, &call), FG_UNSUPPORTED);
    cr_expect_eq(fg_exact(context, &call, value, bound), FG_UNSUPPORTED);
  }
  for (int i = 0; i < LEVELS; i++) {
    fg_problem on_host = problem->call;
    on_host.level = levels[i].level;
    cr_expect_eq(fg_can_run(context, levels[i].level), FG_OK);
    cr_expect_eq(fg_can_run(cpu, levels[i].level), FG_UNSUPPORTED);
    cr_expect_eq(fg_gemm(cpu, &on_host), FG_UNSUPPORTED);
    cr_expect(strstr(fg_message(), "needs a CUDA GPU") && strstr(fg_message(), levels[i].name), "%s", fg_message());
  }
  cr_expect_eq(fg_can_run(context, FG_BEST), FG_OK);
  call.level = FG_BEST;
  call.split_k = 2;
  cr_expect_eq(fg_gemm(context, &call), FG_UNSUPPORTED, "%s", fg_message());
  fg_conversion conversion = {.rows = 1, .cols = 1};
  cr_expect_eq(fg_quantize(context, &conversion), FG_UNSUPPORTED);
  cr_expect_eq(fg_dequantize(context, &conversion), FG_UNSUPPORTED);
  cr_expect_eq(fg_convert(context, &conversion), FG_UNSUPPORTED);
  cr_expect(gpu_fetch(memory, problem, "refused calls") && d_untouched(problem, "refused calls"));
  problem_free(problem);
  gpu_memory_free(memory);
  fg_context_destroy(cpu);
  fg_context_destroy(context);
}

/* --- Contexts */

/* A context that is not the primary one. */
static CUcontext own_context(void) {
  CUresult (*create)(CUcontext *, unsigned, CUdevice);
  CUcontext own = NULL, popped;
  CUdevice device;
  *(void **)&create = gpu_driver_function("cuCtxCreate_v2");
  GPU_MUST(fg_driver()->cuDeviceGet(&device, 0));
  GPU_MUST(create(&own, 0, device));
  GPU_MUST(fg_driver()->cuCtxPopCurrent(&popped));
  return own;
}

static CUcontext current_context(void) {
  CUcontext current;
  GPU_MUST(fg_driver()->cuCtxGetCurrent(&current));
  return current;
}

/* Calls of every kind, such as succeed and such as fail, leave the thread with the context that it had. */
static void call_everything(CUcontext has) {
#define KEEPS(call, expected)                                                                                                    \
  do {                                                                                                                           \
    fg_status status = call;                                                                                                     \
    cr_expect_eq(status, expected, "%s gives %s: %s", #call, fg_status_name(status), fg_message());                              \
    cr_expect_eq(current_context(), has, "after %s", #call);                                                                     \
  } while (0)
  fg_context *context;
  void *memory;
  char bytes[64] = {0};
  fg_gpu gpu;
  KEEPS(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA}), FG_OK);
  KEEPS(fg_context_gpu(context, &gpu), FG_OK);
  KEEPS(fg_memory_allocate(context, 1 << 20, &memory), FG_OK);
  KEEPS(fg_memory_allocate(context, (size_t)1 << 46, &(void *){NULL}), FG_OUT_OF_MEMORY);
  KEEPS(fg_memory_copy(context, memory, bytes, sizeof bytes), FG_OK);
  KEEPS(fg_memory_copy(context, bytes, memory, sizeof bytes), FG_OK);
  KEEPS(fg_memory_copy(context, memory, (char *)memory + 4096, sizeof bytes), FG_OK);
  fg_problem problem = {.m = 16,
                        .n = 16,
                        .k = 128,
                        .a = {.data = memory, .scale = memory},
                        .b = {.data = memory, .scale = memory},
                        .d = {.data = (char *)memory + 65536}};
  KEEPS(fg_prepare(context, &problem), FG_OK);
  KEEPS(fg_gemm(context, &problem), FG_OK);
  problem.d.data = bytes;
  KEEPS(fg_gemm(context, &problem), FG_BAD_MEMORY);
  problem.plan = &(const fg_plan){.block_m = 5};
  KEEPS(fg_gemm(context, &problem), FG_BAD_PLAN);
  KEEPS(fg_memory_free(context, memory), FG_OK);
  KEEPS(fg_memory_free(context, bytes), FG_DRIVER_ERROR);
  KEEPS(fg_memory_free(context, NULL), FG_OK);
  fg_context_destroy(context);
  cr_expect_eq(current_context(), has, "after fg_context_destroy()");
#undef KEEPS
}

Test(gpu, the_current_context_is_left_as_found) {
  fg_context *context = gpu_context();
  cr_expect_null(current_context());
  call_everything(NULL);
  CUcontext own = own_context();
  GPU_MUST(fg_driver()->cuCtxPushCurrent(own));
  call_everything(own);
  gpu_leave();
  gpu_enter(0);
  call_everything(current_context());
  gpu_leave();
  fg_context_destroy(context);
}

Test(gpu, a_stream_of_another_context_is_refused) {
  fg_context *context = gpu_context();
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct spec spec = full_spec();
  struct problem *problem = problem_make(&spec);
  unsigned char *expected = defined_bytes(problem, FAMILY_FP32);
  CUstream stream;
  GPU_MUST(fg_driver()->cuCtxPushCurrent(own_context()));
  GPU_MUST(fg_driver()->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  gpu_leave();
  fg_problem call = gpu_place(memory, problem, BETWEEN_GUARDS);
  for (int i = 0; i < LEVELS; i++) {
    call.level = levels[i].level;
    call.stream = (struct CUstream_st *)stream;
    cr_expect_eq(fg_gemm(context, &call), FG_DRIVER_ERROR, "%s", fg_message());
    cr_expect(strncmp(fg_message(), "cu", 2) == 0 && strstr(fg_message(), "CUDA_ERROR_"), "%s", fg_message());
    cr_expect(gpu_fetch(memory, problem, "a refused call") && d_untouched(problem, "a refused call"));
    call.stream = NULL;
    cr_expect(gpu_run(memory, problem, &call, "afterwards") && d_equals(problem, expected, "afterwards"));
    call = gpu_place(memory, problem, BETWEEN_GUARDS);
  }
  free(expected);
  problem_free(problem);
  gpu_memory_free(memory);
  fg_context_destroy(context);
}

Test(gpu, contexts_come_and_go) {
  fg_context *first = gpu_context(), *second = NULL, *none = first;
  int devices;
  GPU_MUST(fg_driver()->cuDeviceGetCount(&devices));
  cr_expect_eq(fg_context_create(&none, &(fg_context_options){.device = FG_CUDA, .ordinal = devices}), FG_BAD_SIZE);
  cr_expect_null(none);
  cr_expect(strstr(fg_message(), "ordinal"), "%s", fg_message());
  cr_assert_eq(fg_context_create(&second, &(fg_context_options){.device = FG_CUDA}), FG_OK, "%s", fg_message());
  struct spec spec = full_spec();
  struct problem *problem = problem_make(&spec);
  unsigned char *expected = defined_bytes(problem, FAMILY_FP32);
  /* Two of one device share their memory, but each has its own kernels that are ready. */
  struct gpu_memory *memory = gpu_memory_make(first, SMALL_ARENA_BYTES);
  struct gpu_streams streams = gpu_streams_make();
  fg_problem call = gpu_place(memory, problem, BETWEEN_GUARDS);
  cr_assert_eq(fg_prepare(first, &call), FG_OK);
  call.stream = (struct CUstream_st *)streams.at[3];
  gpu_begin_capture(streams.at[3], CU_STREAM_CAPTURE_MODE_RELAXED);
  cr_expect_eq(fg_gemm(second, &call), FG_NOT_PREPARED);
  cr_expect_eq(fg_gemm(first, &call), FG_OK, "%s", fg_message());
  gpu_drop(gpu_end_capture(streams.at[3]));
  cr_expect_eq(fg_gemm(second, &call), FG_OK, "%s", fg_message());
  gpu_wait(streams.at[3]);
  cr_expect(gpu_fetch(memory, problem, "two contexts") && d_equals(problem, expected, "two contexts"));
  gpu_streams_free(&streams);
  gpu_memory_free(memory);
  fg_context_destroy(first);
  /* The last one that goes takes the device's context with it; kernels outlive it. */
  for (int time = 0; time < 3; time++) {
    memory = gpu_memory_make(second, SMALL_ARENA_BYTES);
    for (int i = 0; i < LEVELS; i++) {
      call = gpu_place(memory, problem, BETWEEN_GUARDS);
      call.level = levels[i].level;
      cr_expect(gpu_run(memory, problem, &call, "again") && d_equals(problem, expected, "again"));
    }
    gpu_memory_free(memory);
    fg_context_destroy(second);
    cr_assert_eq(fg_context_create(&second, &(fg_context_options){.device = FG_CUDA}), FG_OK, "%s", fg_message());
  }
  fg_context_destroy(second);
  free(expected);
  problem_free(problem);
  cr_assert_eq(cases_failed(), 0);
}

Test(gpu, memory_says_what_is_wrong) {
  fg_context *context = gpu_context();
  void *memory = context;
  fg_gpu gpu;
  cr_expect_eq(fg_memory_allocate(NULL, 1, &memory), FG_NULL_POINTER);
  cr_expect_eq(fg_memory_allocate(context, 1, NULL), FG_NULL_POINTER);
  memory = context;
  cr_expect_eq(fg_memory_allocate(context, (size_t)1 << 50, &memory), FG_OUT_OF_MEMORY, "%s", fg_message());
  cr_expect_null(memory);
  cr_expect_eq(fg_memory_allocate(context, 0, &memory), FG_OK, "%s", fg_message());
  cr_expect_eq((uintptr_t)memory % 256, 0);
  char byte = 0;
  cr_expect_eq(fg_memory_copy(context, NULL, NULL, 0), FG_OK);
  cr_expect_eq(fg_memory_copy(context, memory, NULL, 1), FG_NULL_POINTER);
  cr_expect_eq(fg_memory_copy(context, NULL, memory, 1), FG_NULL_POINTER);
  cr_expect_eq(fg_memory_copy(NULL, memory, &byte, 1), FG_NULL_POINTER);
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  cr_expect_eq(fg_memory_free(NULL, memory), FG_NULL_POINTER);
  cr_expect_eq(fg_context_gpu(context, NULL), FG_NULL_POINTER);
  cr_expect_eq(fg_context_gpu(context, &gpu), FG_OK);
  cr_expect(gpu.sms > 0 && gpu.shared_bytes >= 48 << 10 && strncmp(gpu.arch, "sm_", 3) == 0 && gpu.name[0]);
  fg_context_destroy(context);
}

/* --- Processes */

/* What `part` returns in a child, where 0 is that all is well; an alarm ends a child that hangs. */
static void in_a_child(int (*part)(void), const char *what) {
  fflush(NULL);
  pid_t child = fork();
  cr_assert_geq(child, 0);
  if (child == 0) {
    alarm(60);
    _exit(part());
  }
  int status;
  waitpid(child, &status, 0);
  cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: the child ended with status 0x%x", what, status);
}

#define RETURN_UNLESS(condition)                                                                                                 \
  do {                                                                                                                           \
    if (!(condition)) {                                                                                                          \
      fprintf(stderr, "child, line %d: %s does not hold; %s\n", __LINE__, #condition, fg_message());                             \
      return 1;                                                                                                                  \
    }                                                                                                                            \
  } while (0)

/* What does not end the child. */
static int child_failed;
#define HOLDS(condition)                                                                                                         \
  do {                                                                                                                           \
    if (condition) break;                                                                                                        \
    fprintf(stderr, "child, line %d: %s does not hold; %s\n", __LINE__, #condition, fg_message());                               \
    child_failed = 1;                                                                                                            \
  } while (0)

/* A context of its own, and one call of each level. */
static int use_gpu(void) {
  fg_context *context;
  RETURN_UNLESS(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA}) == FG_OK);
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct spec spec = full_spec();
  struct problem *problem = problem_make(&spec);
  unsigned char *expected = defined_bytes(problem, FAMILY_FP32);
  for (int i = 0; i < LEVELS; i++) {
    fg_problem call = gpu_place(memory, problem, BETWEEN_GUARDS);
    call.level = levels[i].level;
    RETURN_UNLESS(gpu_run(memory, problem, &call, "child") && d_equals(problem, expected, "child"));
  }
  gpu_memory_free(memory);
  fg_context_destroy(context);
  return 0;
}

/* Whether there is a GPU, asked without becoming a user of CUDA: by a child. */
static void need_gpu_unused(void) {
  setenv("FG_CACHE_DIR", "", 0); /* as gpu_context() does */
  pid_t child = fork();
  cr_assert_geq(child, 0);
  if (child == 0) {
    fg_context *context;
    bool has = fg_context_create(&context, &(fg_context_options){.device = FG_CUDA}) == FG_OK &&
               fg_prepare(context, &(fg_problem){.m = 0}) == FG_OK;
    _exit(has ? 0 : 1);
  }
  int status;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fg_context_destroy(gpu_context()); /* skips, and says why */
}

static fg_context *forked_from;

static int use_what_was_forked(void) {
  fg_context *context = NULL;
  RETURN_UNLESS(fg_gemm(forked_from, &(fg_problem){.m = 0}) == FG_OK); /* nothing to do */
  void *memory = forked_from;
  RETURN_UNLESS(fg_memory_allocate(forked_from, 16, &memory) == FG_DRIVER_ERROR && !memory);
  RETURN_UNLESS(strstr(fg_message(), "fork"));
  fg_status status = fg_context_create(&context, &(fg_context_options){.device = FG_CUDA});
  RETURN_UNLESS(status == FG_DRIVER_ERROR && strstr(fg_message(), "fork") && !context);
  return 0;
}

/* A child of a process that has used the library, but not CUDA, can; one of a process that has used CUDA is told that it cannot. */
Test(gpu, a_child_forked_before_the_first_use_can_use_it) {
  need_gpu_unused();
  fg_context *cpu = cpu_context();
  cr_expect_eq(fg_can_run(cpu, FG_NAIVE), FG_UNSUPPORTED);
  in_a_child(use_gpu, "before the first use");
  in_a_child(use_gpu, "once more");
  fg_context_destroy(cpu);
  forked_from = gpu_context();
  cr_expect_eq(use_gpu(), 0);
  in_a_child(use_what_was_forked, "after the first use");
  cr_expect_eq(use_gpu(), 0);
  fg_context_destroy(forked_from);
}

/* A kernel that reads where nothing is mapped ends the use of the GPU for the whole process: rows of A are said to lie so far apart that
 * the last ones are beyond its memory. */
static int live_on_after_a_fault(void) {
  fg_context *context, *another = NULL;
  RETURN_UNLESS(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA}) == FG_OK);
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct spec spec = busy_spec();
  spec.at_end = false;
  struct problem *problem = problem_make(&spec);
  fg_problem good = gpu_place(memory, problem, AT_THE_EDGE), bad = good;
  RETURN_UNLESS(fg_gemm(context, &good) == FG_OK);
  bad.a.ld = (int64_t)(GPU_EDGE_BYTES + 4096) / (spec.m - 1);
  RETURN_UNLESS(fg_gemm(context, &bad) == FG_OK);
  gpu_enter(0);
  CUcontext popped;
  RETURN_UNLESS(fg_driver()->cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS);
  fg_driver()->cuCtxPopCurrent(&popped); /* whatever it says by now */
  for (int time = 0; time < 2; time++) {
    for (int i = 0; i < LEVELS; i++) {
      fg_problem call = good;
      call.level = levels[i].level;
      HOLDS(fg_gemm(context, &call) == FG_DRIVER_ERROR);
      HOLDS(strstr(fg_message(), "CUDA_ERROR_ILLEGAL_ADDRESS") && strstr(fg_message(), "new process"));
    }
    void *pointer = context;
    char byte = 0;
    HOLDS(fg_memory_allocate(context, 16, &pointer) == FG_DRIVER_ERROR && !pointer);
    HOLDS(fg_memory_copy(context, memory->arena, &byte, 1) == FG_DRIVER_ERROR);
    HOLDS(fg_memory_free(context, memory->arena) == FG_DRIVER_ERROR);
    good.plan = &(const fg_plan){.block_m = 32};
    HOLDS(fg_prepare(context, &good) == FG_DRIVER_ERROR);
    HOLDS(fg_gemm(context, &good) == FG_DRIVER_ERROR);
    good.plan = NULL;
    fg_status status = fg_context_create(&another, &(fg_context_options){.device = FG_CUDA});
    HOLDS(status == FG_OK || status == FG_DRIVER_ERROR);
    fg_context_destroy(another);
    another = NULL;
  }
  fg_context_destroy(context);
  return child_failed;
}

Test(gpu, a_sticky_error_is_a_status) {
  need_gpu_unused();
  in_a_child(live_on_after_a_fault, "after a fault");
}

/* Someone else resets the device's context, and with it all memory and streams: a status for as long as the fg_context lives. */
static int live_on_after_a_reset(void) {
  CUresult (*reset)(CUdevice);
  fg_context *context;
  CUdevice device;
  *(void **)&reset = gpu_driver_function("cuDevicePrimaryCtxReset_v2");
  RETURN_UNLESS(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA}) == FG_OK);
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct spec spec = full_spec();
  struct problem *problem = problem_make(&spec);
  fg_problem call = gpu_place(memory, problem, BETWEEN_GUARDS);
  RETURN_UNLESS(fg_gemm(context, &call) == FG_OK);
  RETURN_UNLESS(fg_driver()->cuDeviceGet(&device, 0) == CUDA_SUCCESS && reset(device) == CUDA_SUCCESS);
  fg_status status = fg_gemm(context, &call);
  HOLDS(status == FG_BAD_MEMORY || status == FG_DRIVER_ERROR);
  fg_context_destroy(context);
  return use_gpu() || child_failed;
}

Test(gpu, a_reset_device_is_a_status) {
  need_gpu_unused();
  in_a_child(live_on_after_a_reset, "after a reset");
}
