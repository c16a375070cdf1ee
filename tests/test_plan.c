/* Plans: pure functions of a problem and a GPU, for GPUs that are not here as well. */
#include "finegemm_kernels.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static const fg_level levels[] = {FG_NAIVE, FG_SHARED};
enum { LEVELS = sizeof levels / sizeof *levels };

static fg_gpu gpu_with(int sms) { return (fg_gpu){.name = "some", .arch = "sm_90a", .sms = sms, .shared_bytes = 232448}; }

static int64_t tiles(int64_t m, int64_t n, int64_t matrices, int block_m, int block_n) {
  return (m + block_m - 1) / block_m * ((n + block_n - 1) / block_n) * matrices;
}

Test(plan, covers_every_shape_on_every_gpu) {
  int gpus;
  const fg_gpu *known = fg_known_gpus(&gpus);
  cr_assert_gt(gpus, 5);
  cr_assert_eq(known, fg_known_gpus(NULL));
  static const int64_t sizes[] = {0, 1, 15, 16, 17, 63, 64, 65, 576, 2112, 7168, 4600000};
  enum { SIZES = sizeof sizes / sizeof *sizes };
  int seen = 0;
  for (int g = -5; g < gpus; g++) {
    fg_gpu gpu = g < 0 ? gpu_with((int[]){1, 2, 13, 77, 131}[g + 5]) : known[g];
    cr_assert(gpu.name[0] && strncmp(gpu.arch, "sm_", 3) == 0 && gpu.shared_bytes >= 49152, "%s", gpu.name);
    for (int at = 0; at < SIZES * SIZES * LEVELS; at++) {
      fg_problem problem = {
          .m = sizes[at % SIZES], .n = sizes[at / SIZES % SIZES], .k = 7168, .level = levels[at / SIZES / SIZES]};
      for (int kind = FG_DENSE; kind <= FG_GROUPED_K; kind++) {
        problem.kind = (fg_kind)kind;
        problem.groups = 3;
        for (problem.sm_limit = 0; problem.sm_limit < 200; problem.sm_limit = 2 * problem.sm_limit + 1) {
          fg_plan plan, again;
          memset(&plan, 0xAA, sizeof plan), memset(&again, 0x55, sizeof again);
          int64_t matrices = kind == FG_DENSE || kind == FG_GROUPED_ROWS ? 1 : 3;
          int side = problem.level == FG_NAIVE ? 16 : 64;
          if (tiles(problem.m, problem.n, matrices, side, side) > INT_MAX) {
            cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_UNSUPPORTED);
            cr_assert(strstr(fg_message(), "2^31 - 1 tiles"), "%s", fg_message());
            continue;
          }
          cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_OK, "%s", fg_message());
          cr_assert_eq(fg_plan_make(&gpu, &problem, &again), FG_OK);
          cr_assert(plan.level == again.level && plan.block_m == again.block_m && plan.block_n == again.block_n &&
                    plan.threads == again.threads && plan.blocks == again.blocks && plan.tiles == again.tiles);
          cr_assert_eq(plan.level, problem.level);
          cr_assert_eq(plan.tiles, tiles(problem.m, problem.n, matrices, plan.block_m, plan.block_n));
          cr_assert(plan.threads % 32 == 0 && plan.threads >= 32 && plan.threads <= 1024);
          cr_assert_eq(plan.split_k, 1);
          int64_t most = problem.sm_limit == 0 ? INT_MAX : problem.sm_limit < gpu.sms ? problem.sm_limit : gpu.sms;
          cr_assert_eq(plan.blocks, plan.tiles < most ? plan.tiles : most);
          seen++;
        }
      }
    }
  }
  cr_assert_gt(seen, 50000);
}

Test(plan, best_is_the_highest_level_that_there_is) {
  fg_gpu gpu = gpu_with(132);
  fg_plan plan;
  cr_assert_eq(fg_plan_make(&gpu, &(fg_problem){.m = 5, .n = 5, .k = 5}, &plan), FG_OK);
  cr_assert_eq(plan.level, FG_SHARED);
}

Test(plan, looks_at_no_pointer) {
  fg_gpu gpu = gpu_with(132);
  fg_plan plan;
  const void *nowhere = (const void *)(uintptr_t)1;
  fg_problem problem = {.kind = FG_MASKED,
                        .m = 100,
                        .n = 100,
                        .k = 100,
                        .groups = 2,
                        .a = {.data = nowhere},
                        .b = {.data = nowhere},
                        .d = {.data = (void *)(uintptr_t)1},
                        .group_values = nowhere};
  cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_OK, "%s", fg_message());
}

Test(plan, can_be_overridden_and_is_checked) {
  fg_gpu gpu = gpu_with(132);
  fg_plan plan, wish = {.block_m = 32, .blocks = 7};
  fg_problem problem = {.m = 1000, .n = 1000, .k = 128, .level = FG_SHARED, .plan = &wish};
  cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_OK, "%s", fg_message());
  cr_assert(plan.block_m == 32 && plan.block_n == 64 && plan.blocks == 7 && plan.tiles == 32 * 16);
  fg_plan made = plan; /* what was made is a legal wish */
  problem.plan = &made;
  cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_OK, "%s", fg_message());
  cr_assert_eq(memcmp(&made, &plan, sizeof plan), 0);

  static const struct {
    fg_level level;
    fg_plan plan;
    const char *says;
  } bad[] = {
      {FG_SHARED, {.level = FG_NAIVE}, "plan.level"},       {FG_SHARED, {.block_m = 8}, "plan.block_m is 8"},
      {FG_SHARED, {.block_m = 128}, "plan.block_m is 128"}, {FG_SHARED, {.block_n = 40}, "plan.block_n is 40"},
      {FG_SHARED, {.block_n = -16}, "plan.block_n is -16"}, {FG_NAIVE, {.block_m = 64, .block_n = 64}, "block_m * plan.block_n"},
      {FG_NAIVE, {.block_m = 1, .block_n = 5}, "32"},       {FG_SHARED, {.split_k = 2}, "plan.split_k is 2"},
      {FG_SHARED, {.blocks = -1}, "plan.blocks is -1"},     {FG_SHARED, {.threads = 128}, "plan.threads is 128"},
      {FG_SHARED, {.tiles = 5}, "plan.tiles is 5"},         {FG_SHARED, {.cluster = -1}, "plan.cluster is -1"},
      {FG_SHARED, {.cluster = 9}, "plan.cluster is 9"},     {FG_SHARED, {.blocks = 7, .cluster = 2}, "plan.blocks is 7"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    problem.level = bad[i].level;
    problem.plan = &bad[i].plan;
    plan = made;
    cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_BAD_PLAN, "%s", bad[i].says);
    cr_assert(strstr(fg_message(), bad[i].says), "%s, but it must say %s", fg_message(), bad[i].says);
    cr_assert_eq(memcmp(&made, &plan, sizeof plan), 0, "nothing is written");
  }
  fg_gpu older = {.arch = "sm_80", .sms = 108};
  fg_plan clusters = {.blocks = 8, .cluster = 4};
  problem.level = FG_SHARED, problem.plan = &clusters;
  cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_OK, "%s", fg_message());
  cr_assert_eq(plan.cluster, 4);
  clusters.blocks = 0; /* 16 x 16 tiles in clusters of 3; then at most 132, 131 and 4 blocks */
  clusters.cluster = 3;
  static const int limits[] = {0, 132, 131, 4}, blocks[] = {258, 132, 129, 3};
  for (int i = 0; i < 4; i++) {
    problem.sm_limit = limits[i];
    cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_OK, "%s", fg_message());
    cr_assert_eq(plan.blocks, blocks[i], "%d blocks", plan.blocks);
  }
  problem.sm_limit = 2;
  cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_BAD_PLAN);
  cr_assert(strstr(fg_message(), "plan.cluster is 3"));
  problem.sm_limit = 0, clusters.cluster = 4;
  cr_assert_eq(fg_plan_make(&older, &problem, &plan), FG_BAD_PLAN);
  cr_assert(strstr(fg_message(), "plan.cluster is 4"));
  problem.level = FG_SHARED, problem.plan = &wish, problem.sm_limit = 6;
  cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_BAD_PLAN);
  cr_assert(strstr(fg_message(), "sm_limit = 6"));
}

Test(plan, says_what_is_wrong) {
  fg_gpu gpu = gpu_with(132), none = gpu_with(0);
  fg_problem problem = {.m = 1, .n = 1, .k = 1};
  fg_plan plan;
  cr_assert_eq(fg_plan_make(NULL, &problem, &plan), FG_NULL_POINTER);
  cr_assert_eq(fg_plan_make(&gpu, NULL, &plan), FG_NULL_POINTER);
  cr_assert_eq(fg_plan_make(&gpu, &problem, NULL), FG_NULL_POINTER);
  cr_assert_eq(fg_plan_make(&none, &problem, &plan), FG_BAD_SIZE);
  cr_assert(strstr(fg_message(), "gpu.sms is 0"));
  problem.m = -1;
  cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_BAD_SIZE);
  problem.m = 1, problem.level = FG_REFERENCE;
  cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_UNSUPPORTED);
  problem.level = FG_FULL;
  cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_UNSUPPORTED);
  problem.level = FG_NAIVE, problem.split_k = 2;
  cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_UNSUPPORTED);
}
