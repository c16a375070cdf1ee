/* The level `full`, on a Hopper GPU or on the emulator: over all that it admits, in guarded memory and at unmapped pages, D byte for byte as
 * `hopper` with the plan's split_k defines it; and what it does not serve is refused and touches nothing. Skipped, and said so, where there
 * is no such GPU, unless FG_REQUIRE_GPU is in the environment; FG_GPU_CASES=N there lets the walks take N problems each. */
#include "hopper_runs.h"
#include "plan.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES = 128 << 20, SMALL_ARENA_BYTES = 4 << 20 };
enum { ORDERS = FG_B_BY_A + 1, MOST_SPLITS = 8 };
static const char *const order_names[ORDERS] = {"its own order", "A by B", "B by A"};

#define PICK(state, table) ((table)[random_below(state, (int64_t)(sizeof(table) / sizeof *(table)))])

/* --- Problems */

/* Types and scaling of B are constants of a kernel: a test has one choice of them, so that tests, which run side by side, compile different
 * kernels. */
enum { CHOICES = 8, SEEDS_OF_A_CHOICE = 500 };

/* Dense, with all that the level takes, down to what only the copy engine does not. Of eight: scales as the copy engine wants them in four;
 * D so in six, and in three of these nothing is added and rows are whole pieces of 16 bytes. */
static struct spec full_spec(uint64_t seed) {
  enum { SCALES = COPIES_FACTORS | COPIES_SCALES, D = COPIES_FACTORS | COPIES_D, ALL = SCALES | D };
  static const unsigned copied[] = {COPIES_FACTORS, SCALES, D, ALL, D, ALL, D, ALL};
  struct spec spec = spec_random(seed);
  uint64_t choice = seed / SEEDS_OF_A_CHOICE % CHOICES, which = (seed + 3 * choice) % 8;
  spec.kind = FG_DENSE, spec.group_by = FG_BY_DEFAULT, spec.groups = 1, spec.group_align = 0, spec.split_k = 0;
  spec.a_scaling = FG_1X128, spec.b_scaling = choice & 4 ? FG_1X128 : FG_128X128;
  spec.a_type = choice & 1 ? FG_E5M2 : FG_E4M3, spec.b_type = choice & 2 ? FG_E5M2 : FG_E4M3;
  spec.copied = copied[which];
  if (spec.copied & COPIES_SCALES) spec.a_layout = spec.b_layout = FG_ROWS_CONTIGUOUS;
  if (which > 4) spec.c = NO_C, spec.bias = false, spec.n = (spec.n + 7) / 8 * 8;
  if (is_emulated()) spec.m %= 301, spec.n %= 296, spec.k %= 700;
  return spec;
}

/* Tiles that are wished for, with stages and blocks of a cluster where these are not 0: the rarer ways of the kernels among them. */
static const fg_plan tall[] = {
    {.block_m = 64, .block_n = 64, .cluster = 2},   {.block_m = 256, .block_n = 128},
    {.block_m = 128, .block_n = 160, .stages = 3},  {.block_m = 64, .block_n = 176, .cluster = 2},
    {.block_m = 128, .block_n = 128, .cluster = 2}, {.block_m = 256, .block_n = 96, .cluster = 2},
    {.block_m = 128, .block_n = 192, .cluster = 2}, {.block_m = 64, .block_n = 16, .cluster = 1, .stages = 8}};
static const fg_plan wide[] = {{.block_m = 8, .block_n = 64},  {.block_m = 64, .block_n = 128}, {.block_m = 128, .block_n = 128},
                               {.block_m = 16, .block_n = 64}, {.block_m = 40, .block_n = 192}, {.block_m = 24, .block_n = 128},
                               {.block_m = 48, .block_n = 64}, {.block_m = 64, .block_n = 256}};

/* A choice has four tiles of each order, on the emulator one, and two splits: compiling is what takes time. */
static fg_plan draw_plan(fg_order order, uint64_t choice, uint64_t *state) {
  uint64_t t = (choice + (is_emulated() ? 0 : 2 * (uint64_t)random_below(state, 4))) % 8;
  if (order == FG_DEFAULT_ORDER) return (fg_plan){0};
  fg_plan plan = order == FG_A_BY_B ? tall[t] : wide[t];
  plan.order = order;
  if (order == FG_B_BY_A)
    plan.cluster = is_emulated() ? (int)(random_below(state, 3) ? choice + 1 : 1) : (int)random_below(state, 9);
  return plan;
}

/* What must not matter, but for K's ranges, drawn: the stream, flags, who says how K is split, multiprocessors, blocks. */
static void vary(fg_problem *call, fg_plan *plan, const struct gpu_streams *streams, uint64_t *state) {
  static const int limits[] = {0, 0, 8, 9, 16, 131, INT_MAX}, rounds[] = {0, 0, 1, 2, 3, 7, 40};
  int ranges = plan->order == FG_B_BY_A ? plan->cluster : plan->order == FG_A_BY_B ? 1 : 0;
  call->stream = (struct CUstream_st *)streams->at[random_below(state, GPU_STREAMS)];
  if (random_below(state, 4) == 0) call->flags |= FG_DEPENDENT_LAUNCH;
  if (ranges == 0 && random_below(state, 2)) ranges = 1 + (int)random_below(state, MOST_SPLITS);
  bool is_free = plan->order == FG_DEFAULT_ORDER || plan->cluster == 0;
  if (plan->order != FG_B_BY_A || plan->cluster > 0 || random_below(state, 2))
    call->split_k = is_free && random_below(state, 2) ? 0 : ranges;
  if (call->split_k <= 1 && (ranges == 1 || random_below(state, 4) == 0) && (is_free || ranges == 1))
    call->flags |= FG_NO_SPLIT_K;
  call->sm_limit = PICK(state, limits);
  if (random_below(state, 2))
    call->sm_limit = MOST_SPLITS * (1 + (int)random_below(state, 2)); /* so that a block has many tiles */
  if (plan->cluster > 0) plan->blocks = plan->cluster * PICK(state, rounds);
  if (call->sm_limit > 0 && plan->blocks > call->sm_limit) plan->blocks = 0;
  call->plan = plan->order || random_below(state, 2) ? plan : NULL;
}

/* --- Calls, and what they came to */

/* Which of the kernels' ways were taken, by order: all of them must have been. */
struct counts {
  int64_t right[ORDERS], with_split[MOST_SPLITS + 1];
  int64_t by_tma[ORDERS][2], rounded[2], scaled_by_rows[ORDERS][2]; /* [0]: not */
};

/* What a problem's D is to be, by ranges of K. */
struct expected {
  unsigned char *d[MOST_SPLITS + 1];
};

typedef unsigned char *expected_function(struct problem *problem);

static unsigned char *by_definition(struct problem *problem) { return defined_bytes(problem, FAMILY_HOPPER); }

static void count_call(struct counts *counts, const struct problem *problem, const fg_problem *call, const fg_plan *plan) {
  fg_problem full = problem->full;
  full.a.data = call->a.data, full.a.scale = call->a.scale, full.b.scale = call->b.scale, full.d.data = call->d.data;
  full.c.data = call->c.data, full.bias.data = call->bias.data;
  struct fg_kernel_id id = fg_kernel_id_of(plan, &full);
  counts->right[plan->order]++;
  counts->with_split[plan->split_k]++;
  if (plan->tiles == 0 || call->k == 0) return;
  counts->by_tma[plan->order][id.scales_by_tma]++;
  counts->scaled_by_rows[plan->order][id.b_is_1x128]++;
  if (plan->order == FG_A_BY_B) counts->rounded[id.d_type > 0]++;
}

/* One call in each order, and one as the library chooses. */
static void check_problem(struct gpu_memory *memory, const fg_gpu *gpu, const struct gpu_streams *streams,
                          struct problem *problem, expected_function *expect, struct counts *counts) {
  struct expected expected = {0};
  uint64_t seed = problem->spec.seed;
  for (int at = 0; at < 2 * ORDERS; at++) {
    enum placement placement = at / ORDERS ? AT_THE_EDGE : BETWEEN_GUARDS;
    fg_order order = (fg_order)(at % ORDERS);
    uint64_t state = seed * 16 + (uint64_t)at;
    if (is_emulated() && (seed + (uint64_t)at) % 2) continue;
    fg_problem call = gpu_place(memory, problem, placement);
    fg_plan made, plan = draw_plan(order, seed / SEEDS_OF_A_CHOICE % CHOICES, &state);
    char what[128];
    call.level = FG_FULL;
    vary(&call, &plan, streams, &state);
    choose_schedule(at == 0 ? 0 : state);
    if (fg_plan_make(gpu, &call, &made) != FG_OK) {
      case_failed(problem, "no plan in %s: %s", order_names[order], fg_message());
      continue;
    }
    snprintf(what, sizeof what, "%s %s, tiles %dx%d, %d stages, clusters of %d, %d ranges, %d blocks", order_names[made.order],
             placement == AT_THE_EDGE ? "at the edge" : "between guards", made.block_m, made.block_n, made.stages, made.cluster,
             made.split_k, made.blocks);
    if ((call.flags & FG_NO_SPLIT_K || order == FG_A_BY_B) && made.split_k != 1) case_failed(problem, "%s: K is split", what);
    if (call.split_k && made.split_k != call.split_k) case_failed(problem, "%s: %d are wished", what, call.split_k);
    problem->spec.split_k = made.split_k;
    if (!expected.d[made.split_k]) expected.d[made.split_k] = expect(problem);
    if (gpu_run(memory, problem, &call, what) && d_equals(problem, expected.d[made.split_k], what))
      count_call(counts, problem, &call, &made);
  }
  for (int split = 0; split <= MOST_SPLITS; split++) free(expected.d[split]);
}

typedef struct spec spec_function(uint64_t seed);

static struct counts walk(uint64_t first, uint64_t count, spec_function *spec_of, expected_function *expect, const char *what) {
  fg_context *context = hopper_context();
  fg_gpu gpu;
  cr_assert_eq(fg_context_gpu(context, &gpu), FG_OK);
  struct gpu_memory *memory = gpu_memory_make(context, ARENA_BYTES);
  struct gpu_streams streams = gpu_streams_make();
  struct counts counts = {0};
  int64_t problems = 0;
  for (uint64_t seed = first; walk_on(&seed, first, gpu_cases(count)) && cases_failed() < 20; seed++, problems++) {
    struct spec spec = spec_of(seed);
    struct problem *problem = problem_make(&spec);
    check_problem(memory, &gpu, &streams, problem, expect, &counts);
    problem_free(problem);
  }
  printf("%s %" PRIu64 " to %" PRIu64 ": right %" PRId64 " A by B and %" PRId64 " B by A; in 1 to 8 ranges", what, first,
         first + (uint64_t)problems - 1, counts.right[FG_A_BY_B], counts.right[FG_B_BY_A]);
  for (int split = 1; split <= MOST_SPLITS; split++) printf(" %" PRId64, counts.with_split[split]);
  printf("; scales by the copy engine %" PRId64 " and %" PRId64 ", by a warp %" PRId64 " and %" PRId64
         "; rounded on the way %" PRId64 ", at the end %" PRId64 "\n",
         counts.by_tma[FG_A_BY_B][1], counts.by_tma[FG_B_BY_A][1], counts.by_tma[FG_A_BY_B][0], counts.by_tma[FG_B_BY_A][0],
         counts.rounded[1], counts.rounded[0]);
  gpu_streams_free(&streams);
  gpu_memory_free(memory);
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
  cr_assert(problems < 2 || (counts.right[FG_A_BY_B] > 0 && counts.right[FG_B_BY_A] > 0));
  return counts;
}

/* --- Against the definition: 3,200 problems, six calls each */

static void walk_small(uint64_t choice) {
  enum { PROBLEMS = 400 };
  struct counts counts = walk(choice * SEEDS_OF_A_CHOICE, PROBLEMS, full_spec, by_definition, "problems");
  if (gpu_cases(PROBLEMS) < PROBLEMS || getenv("FG_SEED")) return;
  for (int order = FG_A_BY_B; order <= FG_B_BY_A; order++) {
    cr_expect(counts.by_tma[order][0] > 0 && counts.by_tma[order][1] > 0, "%s", order_names[order]);
    cr_expect_gt(counts.scaled_by_rows[order][choice >= 4], 0, "%s", order_names[order]);
  }
  for (int split = 1; split <= MOST_SPLITS; split++) cr_expect_gt(counts.with_split[split], 0, "%d ranges", split);
  cr_expect(counts.rounded[0] > 0 && counts.rounded[1] > 0);
}

Test(full, keeps_the_definition_0) { walk_small(0); }
Test(full, keeps_the_definition_1) { walk_small(1); }
Test(full, keeps_the_definition_2) { walk_small(2); }
Test(full, keeps_the_definition_3) { walk_small(3); }
Test(full, keeps_the_definition_4) { walk_small(4); }
Test(full, keeps_the_definition_5) { walk_small(5); }
Test(full, keeps_the_definition_6) { walk_small(6); }
Test(full, keeps_the_definition_7) { walk_small(7); }

/* --- Against the CPU's level */

enum { LARGE = (100 * CHOICES + 2) * SEEDS_OF_A_CHOICE }; /* on the emulator 3 ranges of K, of mostly 4 or 5 blocks */

static struct spec large_spec(uint64_t seed) {
  struct spec spec = full_spec(seed);
  uint64_t state = seed;
  choose_large_shape(&spec, 1);
  if (is_emulated()) spec.k = 592 - spec.k % 127;
  if (!is_emulated()) spec.b_scaling = random_below(&state, 2) ? FG_1X128 : FG_128X128;
  if (spec.copied & COPIES_D) spec.n = (spec.n + 7) / 8 * 8;
  return spec;
}

Test(full, equals_hopper) { walk(LARGE, 200, large_spec, bytes_by_hopper, "larger problems"); }

/* --- Plans */

enum { MOST_PLANS = 8192, SAMPLE = 4 };

/* Scales for each row of B take more shared memory. */
static bool fits_with(fg_scaling b_scaling, const fg_plan *wish) {
  fg_problem problem = {.m = 1000, .n = 1000, .k = 1024, .b.scaling = b_scaling, .level = FG_FULL, .plan = wish};
  fg_plan plan;
  return fg_plan_make(&fg_known_gpus(NULL)[0], &problem, &plan) == FG_OK; /* all of Hopper have as much */
}

/* All tiles of an order, each with some number of stages and blocks in a cluster; with FG_ALL_PLANS=1 each with all. */
static int list_plans(fg_order order, fg_plan *plans) {
  int count = 0, turn = 0;
  for (int block_m = 8; block_m <= 256; block_m += 8)
    for (int block_n = 8; block_n <= 256; block_n += 8) {
      fg_plan fitting[256];
      int fit = 0;
      for (int stages = 2; stages <= 24; stages++)
        for (int cluster = 1; cluster <= MOST_SPLITS; cluster++) {
          fg_plan wish = {.order = order, .block_m = block_m, .block_n = block_n, .stages = stages, .cluster = cluster};
          if (fits_with(FG_128X128, &wish)) fitting[fit++] = wish;
        }
      for (int i = 0; i < fit; i++) {
        if (!getenv("FG_ALL_PLANS") && i != turn % fit) continue;
        cr_assert_lt(count, MOST_PLANS);
        plans[count++] = fitting[i];
      }
      if (fit) turn += 5;
    }
  return count;
}

static struct spec spec_for_plan(uint64_t seed, const fg_plan *plan, int p) {
  uint64_t own = (uint64_t)p * 977; /* whatever a kernel's constants are follows from p */
  struct spec spec = full_spec(8 * seed + next_random(&own) % 8),
              like = full_spec(next_random(&own) % (CHOICES * SEEDS_OF_A_CHOICE));
  spec.a_type = like.a_type, spec.b_type = like.b_type, spec.d_type = like.d_type;
  if (spec.c == C_IS_D) spec.c_type = spec.d_type;
  spec.b_scaling = fits_with(like.b_scaling, plan) ? like.b_scaling : FG_128X128;
  spec.split_k = plan->order == FG_B_BY_A ? plan->cluster : 1;
  return spec;
}

static void try_order(fg_order order, int least) {
  static fg_plan plans[MOST_PLANS];
  fg_context *context = hopper_context();
  struct gpu_memory *memory = gpu_memory_make(context, ARENA_BYTES);
  int count = list_plans(order, plans);
  cr_assert_geq(count, least);
  try_plans(memory, &(struct manner){order_names[order], {.level = FG_FULL}}, plans, count, SAMPLE, spec_for_plan);
  gpu_memory_free(memory);
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}

Test(full, plans_do_not_show_a_by_b) { try_order(FG_A_BY_B, 28); }
Test(full, plans_do_not_show_b_by_a) { try_order(FG_B_BY_A, 50); }

/* --- One row */

/* A is 512 rows, of which a call has some from some row on. Every row's bits are those that it has among all 512. */
static void check_rows(struct gpu_memory *memory, struct problem *problem, const unsigned char *expected, int64_t first,
                       int64_t m, const fg_plan *plan) {
  fg_problem all = gpu_place(memory, problem, BETWEEN_GUARDS), call = all;
  int64_t d_row = problem->full.d.ld * (int64_t)bytes_of(problem->spec.d_type);
  char what[96];
  snprintf(what, sizeof what, "rows %" PRId64 " to %" PRId64 ", order %d, tiles %dx%d", first, first + m - 1,
           plan ? (int)plan->order : 0, plan ? plan->block_m : 0, plan ? plan->block_n : 0);
  call.level = FG_FULL;
  call.flags = FG_NO_SPLIT_K;
  call.plan = plan;
  call.m = m;
  call.a.ld = problem->full.a.ld, call.a.scale_ld = problem->full.a.scale_ld, call.d.ld = problem->full.d.ld;
  call.a.data = (const unsigned char *)all.a.data + first * call.a.ld;
  call.a.scale += first * (problem->spec.a_layout == FG_ROWS_CONTIGUOUS ? 1 : call.a.scale_ld);
  call.d.data = (unsigned char *)all.d.data + first * d_row;
  choose_schedule((uint64_t)m);
  if (!gpu_run(memory, problem, &call, what)) return;
  unsigned char *wanted = malloc(problem->d.bytes);
  cr_assert(wanted);
  memcpy(wanted, problem->before, problem->d.bytes);
  for (int64_t row = first; row < first + m; row++)
    memcpy(wanted + row * d_row, expected + row * d_row, (size_t)problem->spec.n * bytes_of(problem->spec.d_type));
  d_equals(problem, wanted, what);
  free(wanted);
}

Test(full, a_row_is_itself_among_any) {
  enum { ROWS = 512 };
  static const fg_plan plans[] = {{.order = FG_A_BY_B, .block_m = 64, .block_n = 64, .cluster = 2},
                                  {.order = FG_A_BY_B, .block_m = 256, .block_n = 128},
                                  {.order = FG_A_BY_B, .block_m = 128, .block_n = 192},
                                  {.order = FG_B_BY_A, .block_m = 8, .block_n = 64},
                                  {.order = FG_B_BY_A, .block_m = 72, .block_n = 128},
                                  {.order = FG_B_BY_A, .block_m = 128, .block_n = 128}};
  enum { PLANS = sizeof plans / sizeof *plans };
  fg_context *context = hopper_context();
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct spec spec = full_spec(48007);
  spec.m = ROWS, spec.n = is_emulated() ? 72 : 328, spec.k = is_emulated() ? 280 : 1160;
  spec.values = GAUSSIAN;
  struct problem *problem = problem_make(&spec);
  unsigned char *expected = bytes_by_hopper(problem);
  int64_t count = (int64_t)gpu_cases(ROWS), calls = 0;
  for (int64_t i = 0; i < count && cases_failed() < 20; i++) {
    uint64_t state = (uint64_t)i;
    int64_t m = count == ROWS ? i + 1 : 1 + random_below(&state, i % 2 ? ROWS : 64);
    int64_t first = m < ROWS && i % 2 ? random_below(&state, ROWS - m) : 0;
    for (int p = -1; p < PLANS; p++, calls++) {
      if (is_emulated() && p >= 0 && (p + i) % 2) continue;
      check_rows(memory, problem, expected, first, m, p < 0 ? NULL : &plans[p]);
    }
  }
  printf("rows: %" PRId64 " calls of %" PRId64 " heights\n", calls, count);
  free(expected);
  problem_free(problem);
  gpu_memory_free(memory);
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}

/* --- Repeats and captures */

static const fg_plan few_plans[] = {{.order = FG_A_BY_B, .block_m = 64, .block_n = 64, .cluster = 2},
                                    {.order = FG_A_BY_B, .block_m = 256, .block_n = 128},
                                    {.order = FG_B_BY_A, .block_m = 16, .block_n = 64, .cluster = 4},
                                    {.order = FG_B_BY_A, .block_m = 64, .block_n = 128, .cluster = 1}};
enum { FEW_PLANS = sizeof few_plans / sizeof *few_plans };

/* A problem that keeps a GPU busy a little, off all tiles, and the manner in which plan p goes about it: half of them with scales that the
 * copy engine cannot bring, and with C. */
static struct spec busy_spec(int p) {
  struct spec spec = full_spec(p % 2 ? 48002 : 48007);
  spec.m = 257, spec.n = 392, spec.k = 707;
  if (is_emulated()) spec.m = 76, spec.n = 72, spec.k = 590;
  spec.a_layout = spec.b_layout = p % 2 ? FG_BLOCKS_CONTIGUOUS : FG_ROWS_CONTIGUOUS;
  spec.c = p % 2 ? SEPARATE_C : NO_C, spec.c_type = FG_FP32;
  spec.values = GAUSSIAN, spec.d_type = FG_BF16, spec.gaps = false;
  spec.split_k = few_plans[p].order == FG_B_BY_A ? few_plans[p].cluster : 1;
  return spec;
}

static struct manner manner_of(int p) {
  return (struct manner){order_names[few_plans[p].order],
                         {.level = FG_FULL, .plan = &few_plans[p], .flags = p / 2 % 2 ? FG_DEPENDENT_LAUNCH : 0}};
}

Test(full, repeats_are_bitwise_equal) {
  fg_context *context = hopper_context();
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  for (int p = 0; p < FEW_PLANS; p++) {
    struct spec spec = busy_spec(p);
    struct manner manner = manner_of(p);
    repeat_in_streams(memory, &manner, &spec);
  }
  gpu_memory_free(memory);
  fg_context_destroy(context);
}

Test(full, a_prepared_call_can_be_captured) {
  fg_context *context = hopper_context();
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct gpu_streams streams = gpu_streams_make();
  for (int at = 0; at < FEW_PLANS * (is_emulated() ? 1 : GPU_CAPTURE_MODES); at++) {
    struct spec spec = busy_spec(at % FEW_PLANS);
    struct manner manner = manner_of(at % FEW_PLANS);
    capture_and_replay(memory, &manner, &spec, streams.at[2 + at % 3], gpu_capture_modes[at / FEW_PLANS], at < FEW_PLANS);
  }
  gpu_streams_free(&streams);
  gpu_memory_free(memory);
  fg_context_destroy(context);
}

/* --- Nothing, and very much */

/* Without K, D is C and bias, or 0, and A and B are NULL; without rows or columns nothing is written. */
Test(full, nothing_is_multiplied_right) {
  fg_context *context = hopper_context();
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  for (int at = 0; at < 2 * 4 * 3; at++) {
    const fg_plan wish = at % 2 ? (fg_plan){.order = FG_B_BY_A, .block_m = 16, .block_n = 64, .cluster = 3}
                                : (fg_plan){.order = FG_A_BY_B, .block_m = 64, .block_n = 64, .cluster = 2};
    struct spec spec = full_spec(8 * (uint64_t)at + 2);
    char what[64];
    spec.m = 130, spec.n = 75, spec.k = 300, spec.values = GAUSSIAN, spec.copied = COPIES_FACTORS;
    spec.c = at / 2 & 1 ? SEPARATE_C : NO_C, spec.bias = at / 2 & 2;
    snprintf(what, sizeof what, "%s without %s", order_names[wish.order], at / 8 == 0 ? "K" : at / 8 == 1 ? "rows" : "columns");
    *(at / 8 == 0 ? &spec.k : at / 8 == 1 ? &spec.m : &spec.n) = 0;
    struct problem *problem = problem_make(&spec);
    unsigned char *expected = defined_bytes(problem, FAMILY_HOPPER);
    fg_problem call = gpu_place(memory, problem, BETWEEN_GUARDS);
    call.level = FG_FULL, call.plan = &wish;
    if (gpu_run(memory, problem, &call, what)) d_equals(problem, expected, what);
    free(expected);
    problem_free(problem);
  }
  gpu_memory_free(memory);
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}

/* Rows of D that begin before 2^31 elements and 2^32 bytes, at them, and behind. */
enum { BIG_M = 70000, BIG_N = 32768, BIG_K = 128, SAMPLED = 64, SAMPLED_BYTES = BIG_N * 2 };

static int64_t sampled_row(int i, uint64_t *state) {
  static const int64_t chosen[] = {0, 1, 65535, 65536, 65537, BIG_M - 2, BIG_M - 1};
  return i < (int)(sizeof chosen / sizeof *chosen) ? chosen[i] : random_below(state, BIG_M);
}

static void *to_device(fg_context *context, const void *data, size_t bytes) {
  void *there;
  cr_assert_eq(fg_memory_allocate(context, bytes, &there), FG_OK, "%s", fg_message());
  cr_assert_eq(fg_memory_copy(context, there, data, bytes), FG_OK, "%s", fg_message());
  return there;
}

/* `hopper` multiplies the sampled rows alone. */
static int check_sampled(fg_context *context, const fg_problem *big, const unsigned char *a, const float *a_scale,
                         const unsigned char *b, const float *b_scale) {
  fg_context *cpu;
  unsigned char *row = malloc(SAMPLED_BYTES), *wanted = malloc(SAMPLED_BYTES);
  int equal = 0;
  uint64_t state = 1;
  cr_assert(row && wanted);
  cr_assert_eq(fg_context_create(&cpu, NULL), FG_OK);
  for (int i = 0; i < SAMPLED; i++) {
    int64_t at = sampled_row(i, &state);
    fg_problem one = {.m = 1,
                      .n = BIG_N,
                      .k = BIG_K,
                      .a = {.data = a + at * BIG_K, .scale = a_scale + at},
                      .b = {.data = b, .scale = b_scale},
                      .d = {.data = wanted},
                      .level = FG_HOPPER};
    cr_assert_eq(fg_gemm(cpu, &one), FG_OK, "%s", fg_message());
    cr_assert_eq(fg_memory_copy(context, row, (unsigned char *)big->d.data + at * SAMPLED_BYTES, SAMPLED_BYTES), FG_OK);
    equal += memcmp(row, wanted, SAMPLED_BYTES) == 0;
  }
  fg_context_destroy(cpu);
  free(row);
  free(wanted);
  return equal;
}

Test(full, has_more_than_31_bits_of_elements) {
  fg_context *context = hopper_context();
  void *d;
  if (is_emulated()) {
    fg_context_destroy(context);
    fprintf(stderr, "skipped: 2^31 elements are too many for the emulator\n");
    cr_skip_test("2^31 elements are too many for the emulator");
  }
  fg_status status = fg_memory_allocate(context, (size_t)BIG_M * SAMPLED_BYTES, &d);
  if (status == FG_OUT_OF_MEMORY) {
    fg_context_destroy(context);
    gpu_do_without("the GPU lacks memory for 4.6 GB of D");
  }
  cr_assert_eq(status, FG_OK, "%s", fg_message());
  unsigned char *a = malloc((size_t)BIG_M * BIG_K), *b = malloc((size_t)BIG_N * BIG_K), *none = malloc(SAMPLED_BYTES);
  float *a_scale = malloc(BIG_M * sizeof *a_scale), b_scale[BIG_N / 128];
  uint64_t state = 7;
  cr_assert(a && b && none && a_scale);
  for (int64_t i = 0; i < (int64_t)BIG_M * BIG_K; i++) a[i] = random_code(GAUSSIAN, FG_E4M3, &state);
  for (int64_t i = 0; i < (int64_t)BIG_N * BIG_K; i++) b[i] = random_code(GAUSSIAN, FG_E4M3, &state);
  for (int i = 0; i < BIG_M; i++) a_scale[i] = (float)(1 + random_below(&state, 1000)) * 0x1p-14f;
  for (int i = 0; i < BIG_N / 128; i++) b_scale[i] = (float)(1 + random_below(&state, 1000)) * 0x1p-14f;
  memset(none, 0xFF, SAMPLED_BYTES);
  fg_problem big = {.m = BIG_M, .n = BIG_N, .k = BIG_K, .level = FG_FULL, .flags = FG_NO_SPLIT_K, .d.data = d};
  big.a.data = to_device(context, a, (size_t)BIG_M * BIG_K);
  big.b.data = to_device(context, b, (size_t)BIG_N * BIG_K);
  big.a.scale = to_device(context, a_scale, BIG_M * sizeof *a_scale);
  big.b.scale = to_device(context, b_scale, sizeof b_scale);
  for (int order = FG_DEFAULT_ORDER; order < ORDERS; order++) {
    fg_plan wish = {.order = (fg_order)order};
    uint64_t rows = 1;
    big.plan = &wish;
    big.a.scale_layout = order == FG_A_BY_B ? FG_BLOCKS_CONTIGUOUS : FG_ROWS_CONTIGUOUS; /* one block of K: the same scales */
    for (int i = 0; i < SAMPLED; i++) {
      unsigned char *row = (unsigned char *)d + sampled_row(i, &rows) * SAMPLED_BYTES;
      cr_assert_eq(fg_memory_copy(context, row, none, SAMPLED_BYTES), FG_OK, "%s", fg_message());
    }
    cr_assert_eq(fg_gemm(context, &big), FG_OK, "%s", fg_message());
    gpu_wait(NULL);
    int equal = check_sampled(context, &big, a, a_scale, b, b_scale);
    cr_expect_eq(equal, SAMPLED, "%s: %d of %d rows", order_names[order], equal, SAMPLED);
    printf("%d x %d, %s: %d of %d sampled rows right\n", BIG_M, BIG_N, order_names[order], equal, SAMPLED);
  }
  void *const there[] = {(void *)(uintptr_t)big.a.data, (void *)(uintptr_t)big.b.data, (void *)(uintptr_t)big.a.scale,
                         (void *)(uintptr_t)big.b.scale, d};
  for (size_t i = 0; i < sizeof there / sizeof *there; i++) cr_expect_eq(fg_memory_free(context, there[i]), FG_OK);
  free(a);
  free(b);
  free(none);
  free(a_scale);
  fg_context_destroy(context);
}

/* --- What it refuses */

Test(full, refuses_and_writes_nothing) {
  fg_context *context = hopper_context();
  struct gpu_memory *memory = gpu_memory_make(context, SMALL_ARENA_BYTES);
  struct spec spec = full_spec(48007);
  spec.m = 70, spec.n = 64, spec.k = 264, spec.values = GAUSSIAN, spec.gaps = false;
  struct problem *problem = problem_make(&spec);
  int refused = 0;
#define REFUSED(status, says, change)                                                                                            \
  do {                                                                                                                           \
    fg_plan wish = {0};                                                                                                          \
    fg_problem call = gpu_place(memory, problem, BETWEEN_GUARDS);                                                                \
    call.level = FG_FULL, call.plan = &wish;                                                                                     \
    call.a.ld = problem->full.a.ld, call.b.ld = problem->full.b.ld;                                                              \
    change;                                                                                                                      \
    cr_expect_eq(fg_gemm(context, &call), status, "%s: %s", #change, fg_message());                                              \
    cr_expect(strstr(fg_message(), says), "%s, but it must say %s", fg_message(), says);                                         \
    cr_expect_eq(fg_prepare(context, &call), status, "%s: %s", #change, fg_message());                                           \
    cr_expect(gpu_fetch(memory, problem, #change) && d_untouched(problem, #change), #change);                                    \
    refused++;                                                                                                                   \
  } while (0)
  REFUSED(FG_UNSUPPORTED, "a.data is ", call.a.data = (const char *)call.a.data + 8);
  REFUSED(FG_UNSUPPORTED, "b.data is ", call.b.data = (const char *)call.b.data + 1);
  REFUSED(FG_UNSUPPORTED, "a.ld is 264 bytes; the copy engine takes a multiple of 16", call.a.ld = 264);
  REFUSED(FG_UNSUPPORTED, "b.ld is 265 bytes; the copy engine takes a multiple of 16", call.b.ld = 265);
  REFUSED(FG_UNSUPPORTED, "kind is 1; level full multiplies dense problems", call.kind = FG_BATCHED; call.groups = 1);
  REFUSED(FG_UNSUPPORTED, "a.scaling is 2; level full takes scales 1x128 of a", call.a.scaling = FG_128X128;
          call.a.scale_ld = 70);
  REFUSED(FG_UNSUPPORTED, "a.scaling is 3;", call.a.scaling = FG_TENSOR);
  REFUSED(FG_UNSUPPORTED, "b.scaling is 3;", call.b.scaling = FG_TENSOR);
  REFUSED(FG_UNSUPPORTED, "split_k is 9; level full sums K in at most 8 ranges", call.split_k = 9);
  REFUSED(FG_BAD_PLAN, "plan.order is 3; it must be from 0 to 2", wish.order = (fg_order)3);
  REFUSED(FG_BAD_PLAN, "plan.order is -1; it must be from 0 to 2", wish.order = (fg_order)-1);
  REFUSED(FG_BAD_PLAN, "plan.split_k is 2, but the problem's split_k and flags want 1", call.flags = FG_NO_SPLIT_K;
          wish.split_k = 2);
  REFUSED(FG_BAD_PLAN, "plan.split_k is 2, but the problem's split_k and flags want 3", call.split_k = 3; wish.split_k = 2);
  REFUSED(FG_BAD_PLAN, "plan.order 1 sums K in one range", wish.order = FG_A_BY_B; wish.split_k = 2);
  REFUSED(FG_BAD_PLAN, "has a range of K for each block of a cluster", wish.order = FG_B_BY_A; wish.split_k = 2;
          wish.cluster = 4);
#undef REFUSED
  printf("%d refusals, and nothing written\n", refused);
  problem_free(problem);
  gpu_memory_free(memory);
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}
