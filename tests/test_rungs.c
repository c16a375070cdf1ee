/* The levels with tensor cores, on a Hopper GPU or on the emulator: dense problems that they serve, in guarded memory and at unmapped
 * pages, D byte for byte as `hopper` defines it; and what they do not serve is refused and touches nothing. Skipped, and said so, where
 * there is no such GPU, unless FG_REQUIRE_GPU is in the environment; FG_GPU_CASES=N there lets the walks take N problems each. */
#include "finegemm_kernels.h"
#include "hopper_runs.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct rung {
  fg_level level;
  const char *name;
} rungs[] = {
    {FG_WGMMA, "wgmma"}, {FG_TMA, "tma"}, {FG_PIPELINE, "pipeline"}, {FG_PERSISTENT, "persistent"}, {FG_CLUSTER, "cluster"}};
enum { RUNGS = sizeof rungs / sizeof *rungs };
enum { ARENA_BYTES = 128 << 20, SMALL_ARENA_BYTES = 4 << 20 };

/* --- Problems */

/* Dense, with the scales that all rungs take. Of four, one is for wgmma alone, one has something that cluster does not take, and two are for
 * all. */
static struct spec rung_spec(uint64_t seed) {
  enum { SCALES = COPIES_FACTORS | COPIES_SCALES, ALL = SCALES | COPIES_D };
  static const unsigned copied[] = {COPIES_FACTORS, SCALES, ALL, ALL};
  struct spec spec = spec_random(seed);
  spec.kind = FG_DENSE, spec.group_by = FG_BY_DEFAULT, spec.groups = 1, spec.group_align = 0, spec.split_k = 0;
  spec.a_scaling = FG_1X128, spec.b_scaling = FG_128X128;
  spec.k = (spec.k + 15) / 16 * 16;
  spec.copied = copied[seed % 4];
  if (spec.copied & COPIES_SCALES) spec.a_layout = FG_ROWS_CONTIGUOUS;
  if (spec.copied & COPIES_D) spec.c = NO_C, spec.bias = false;
  if (is_emulated()) spec.m %= 301, spec.n %= 301, spec.k %= 608;
  return spec;
}

static bool is_served(const struct spec *spec, fg_level level) {
  return spec->copied & (level == FG_WGMMA ? COPIES_FACTORS : level == FG_CLUSTER ? COPIES_D : COPIES_SCALES);
}

#define PICK(state, table) ((table)[random_below(state, (int64_t)(sizeof(table) / sizeof *(table)))])

/* What must not matter, drawn: the stream, flags, the tile's height, and where a block takes tile after tile, multiprocessors, blocks and
 * clusters. */
static void vary(fg_problem *call, fg_plan *plan, const struct gpu_streams *streams, uint64_t *state) {
  static const int heights[] = {0, 64, 128}, limits[] = {0, 0, 4, 7, 131, INT_MAX}, clusters[] = {0, 1, 2, 4};
  static const int blocks[] = {0, 0, 1, 2, 3, 7, 64, 300};
  call->stream = (struct CUstream_st *)streams->at[random_below(state, GPU_STREAMS)];
  if (random_below(state, 2)) call->flags |= FG_NO_SPLIT_K;
  if (random_below(state, 4) == 0) call->flags |= FG_DEPENDENT_LAUNCH;
  if (random_below(state, 2)) call->split_k = 1;
  *plan = (fg_plan){.block_m = PICK(state, heights)};
  if (call->level >= FG_PERSISTENT) {
    call->sm_limit = is_emulated() ? 4 : PICK(state, limits);
    plan->blocks = PICK(state, blocks);
    if (call->level == FG_CLUSTER) plan->cluster = PICK(state, clusters);
    if (plan->cluster > 1) plan->blocks -= plan->blocks % plan->cluster;
    if (call->sm_limit && plan->blocks > call->sm_limit) plan->blocks = call->sm_limit / 4 * 4;
  }
  call->plan = random_below(state, 3) ? plan : NULL;
  bool is_few = is_emulated() || random_below(state, 2); /* small problems, of which a block is to have more than one tile */
  if (!call->plan && call->level >= FG_PERSISTENT && is_few) call->sm_limit = 1 + (int)random_below(state, 3);
}

/* How many calls of each rung were right, and how many were refused. */
struct counts {
  int64_t right[RUNGS], refused[RUNGS];
};

static void check_problem(struct gpu_memory *memory, const struct gpu_streams *streams, struct problem *problem,
                          const unsigned char *expected, struct counts *counts) {
  for (int placement = BETWEEN_GUARDS; placement <= AT_THE_EDGE; placement++)
    for (int i = 0; i < RUNGS; i++) {
      char what[64];
      uint64_t state = problem->spec.seed * 16 + (uint64_t)(2 * i + placement);
      fg_problem call = gpu_place(memory, problem, (enum placement)placement);
      fg_plan plan;
      call.level = rungs[i].level;
      vary(&call, &plan, streams, &state);
      choose_schedule(placement == BETWEEN_GUARDS ? 0 : state);
      snprintf(what, sizeof what, "%s %s", rungs[i].name, placement == AT_THE_EDGE ? "at the edge" : "between guards");
      fg_status status = fg_gemm(memory->context, &call);
      bool is_refused = status == FG_UNSUPPORTED && !is_served(&problem->spec, call.level);
      if (status != FG_OK && !is_refused) case_failed(problem, "%s: %s, %s", what, fg_status_name(status), fg_message());
      if (status == FG_OK) gpu_wait((CUstream)call.stream);
      if (!gpu_fetch(memory, problem, what)) continue;
      if (is_refused)
        counts->refused[i] += d_untouched(problem, what);
      else if (status == FG_OK)
        counts->right[i] += d_equals(problem, expected, what);
    }
}

static void print_counts(const char *what, uint64_t first, int64_t problems, const struct counts *counts) {
  printf("%s %" PRIu64 " to %" PRIu64 ":", what, first, first + (uint64_t)problems - 1);
  for (int i = 0; i < RUNGS; i++)
    printf("%s %s %" PRId64 " right, %" PRId64 " refused", i ? ";" : "", rungs[i].name, counts->right[i], counts->refused[i]);
  printf("\n");
}

typedef struct spec spec_function(uint64_t seed);
typedef unsigned char *expected_function(struct problem *problem);

static void walk(uint64_t first, uint64_t count, spec_function *spec_of, expected_function *expect, const char *what) {
  fg_context *context = hopper_context();
  struct gpu_memory *memory = gpu_memory_make(context, ARENA_BYTES);
  struct gpu_streams streams = gpu_streams_make();
  struct counts counts = {0};
  int64_t problems = 0;
  for (uint64_t seed = first; walk_on(&seed, first, gpu_cases(count)) && cases_failed() < 20; seed++, problems++) {
    struct spec spec = spec_of(seed);
    struct problem *problem = problem_make(&spec);
    unsigned char *expected = expect(problem);
    check_problem(memory, &streams, problem, expected, &counts);
    free(expected);
    problem_free(problem);
  }
  print_counts(what, first, problems, &counts);
  gpu_streams_free(&streams);
  gpu_memory_free(memory);
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
  if (problems >= 4)
    for (int i = 0; i < RUNGS; i++) cr_assert_gt(counts.right[i], 0, "%s served nothing", rungs[i].name);
}

/* --- Against the definition */

static unsigned char *by_definition(struct problem *problem) { return defined_bytes(problem, FAMILY_HOPPER); }

static void walk_small(uint64_t first) { walk(first, 300, rung_spec, by_definition, "problems"); }

/* Every pair of types with each type of D, in four tests, which run side by side. */
Test(rungs, keep_the_definition_1) { walk_small(0); }
Test(rungs, keep_the_definition_2) { walk_small(300); }
Test(rungs, keep_the_definition_3) { walk_small(600); }
Test(rungs, keep_the_definition_4) { walk_small(900); }

/* --- Against the CPU's level, which the tests of that hold to the definition: many tiles, and rings that go round often */

static struct spec large_spec(uint64_t seed) {
  struct spec spec = rung_spec(seed);
  choose_large_shape(&spec, 16);
  return spec;
}

Test(rungs, equal_hopper) { walk(10000, 200, large_spec, bytes_by_hopper, "larger problems"); }

/* --- Plans */

enum { MOST_PLANS = 1024 };
static fg_plan plans[MOST_PLANS];

/* All tiles, each with some number of stages and blocks in a cluster; with FG_ALL_PLANS=1 each with all. */
static int list_plans(const fg_gpu *gpu, fg_level level) {
  int count = 0, turn = 0;
  for (int block_m = 64; block_m <= 128; block_m += 64)
    for (int block_n = 8; block_n <= 128; block_n *= 2) {
      fg_plan fitting[64], plan;
      int fit = 0;
      for (int stages = 0; stages <= 8; stages++)
        for (int cluster = 1; cluster <= 4; cluster++) {
          fg_plan wish = {.block_m = block_m, .block_n = block_n, .stages = stages, .cluster = cluster};
          fg_problem problem = {.m = 1000, .n = 1000, .k = 1024, .level = level, .plan = &wish};
          if (fg_plan_make(gpu, &problem, &plan) == FG_OK && plan.stages == stages) fitting[fit++] = wish;
        }
      if (!fit) continue;
      cr_assert_leq(count + fit, MOST_PLANS);
      if (getenv("FG_ALL_PLANS"))
        for (int i = 0; i < fit; i++) plans[count++] = fitting[i];
      else
        plans[count++] = fitting[turn++ * 5 % fit];
    }
  return count;
}

static struct spec spec_for_plan(uint64_t seed, const fg_plan *plan, int p) {
  (void)plan;
  struct spec spec = rung_spec(4 * seed + 2);
  spec.a_type = p & 1 ? FG_E5M2 : FG_E4M3;
  spec.b_type = p & 2 ? FG_E5M2 : FG_E4M3;
  return spec;
}

Test(rungs, plans_do_not_show) {
  fg_context *context = hopper_context();
  fg_gpu gpu;
  cr_assert_eq(fg_context_gpu(context, &gpu), FG_OK);
  struct gpu_memory *memory = gpu_memory_make(context, ARENA_BYTES);
  for (int i = 0; i < RUNGS; i++) {
    int count = list_plans(&gpu, rungs[i].level);
    cr_assert_geq(count, rungs[i].level == FG_CLUSTER ? 4 : 10);
    try_plans(memory, &(struct manner){rungs[i].name, {.level = rungs[i].level}}, plans, count, 3, spec_for_plan);
  }
  gpu_memory_free(memory);
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}

/* --- Repeats and captures */

/* A problem for all rungs that keeps a GPU busy a little, off all tiles. */
static struct spec busy_spec(void) {
  struct spec spec = rung_spec(50002);
  spec.m = 257, spec.n = 392, spec.k = 704;
  if (is_emulated()) spec.m = 140, spec.n = 136, spec.k = 592;
  spec.values = GAUSSIAN, spec.d_type = FG_BF16, spec.gaps = false;
  return spec;
}

Test(rungs, repeats_are_bitwise_equal) {
  fg_context *context = hopper_context();
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct spec spec = busy_spec();
  for (int i = 0; i < RUNGS; i++) repeat_in_streams(memory, &(struct manner){rungs[i].name, {.level = rungs[i].level}}, &spec);
  gpu_memory_free(memory);
  fg_context_destroy(context);
}

Test(rungs, a_prepared_call_can_be_captured) {
  fg_context *context = hopper_context();
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct gpu_streams streams = gpu_streams_make();
  struct spec spec = busy_spec();
  for (int at = 0; at < RUNGS * (is_emulated() ? 1 : GPU_CAPTURE_MODES); at++) {
    const struct rung *rung = &rungs[at % RUNGS];
    capture_and_replay(memory, &(struct manner){rung->name, {.level = rung->level}}, &spec, streams.at[2 + at % 3],
                       gpu_capture_modes[at / RUNGS], at < RUNGS);
  }
  gpu_streams_free(&streams);
  gpu_memory_free(memory);
  fg_context_destroy(context);
}
