/* Plans: pure functions of a problem and a GPU, for GPUs that are not here as well. */
#include "finegemm_kernels.h"
#include "plan.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdbool.h>
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

/* --- The levels with tensor cores */

static const struct {
  fg_level level;
  bool loops, has_stages;
  int most_cluster, block_m; /* block_m: where nothing is wished and there are rows enough */
} rungs[] = {{FG_WGMMA, false, false, 1, 128},
             {FG_TMA, false, false, 1, 64},
             {FG_PIPELINE, false, true, 1, 128},
             {FG_PERSISTENT, true, true, 1, 128},
             {FG_CLUSTER, true, true, 4, 128}};
enum { RUNGS = sizeof rungs / sizeof *rungs };

static int larger(int x, int y) { return x > y ? x : y; }
static int smaller(int64_t x, int64_t y) { return (int)(x < y ? x : y); }

/* Rows of tiles in whole clusters. */
static int64_t rung_tiles(const fg_problem *problem, const fg_plan *plan) {
  int64_t block_m = plan->block_m * (int64_t)plan->cluster;
  return (problem->m + block_m - 1) / block_m * plan->cluster * ((problem->n + plan->block_n - 1) / plan->block_n);
}

Test(plan, of_tensor_cores_covers_every_shape_on_every_hopper_gpu) {
  static const int64_t sizes[] = {0, 1, 16, 63, 64, 65, 128, 129, 576, 2112, 7168, 4600000};
  enum { SIZES = sizeof sizes / sizeof *sizes };
  int gpus, seen = 0, refused = 0;
  const fg_gpu *known = fg_known_gpus(&gpus);
  for (int g = -4; g < gpus; g++) {
    fg_gpu gpu = g < 0 ? gpu_with((int[]){1, 2, 13, 131}[g + 4]) : known[g];
    bool is_hopper = strcmp(gpu.arch, "sm_90a") == 0;
    for (int at = 0; at < SIZES * SIZES * RUNGS; at++) {
      int r = at / SIZES / SIZES;
      fg_problem problem = {.m = sizes[at % SIZES], .n = sizes[at / SIZES % SIZES], .k = 7168, .level = rungs[r].level};
      for (problem.sm_limit = 0; problem.sm_limit < 200; problem.sm_limit = 2 * problem.sm_limit + 1) {
        fg_plan plan, again;
        memset(&plan, 0xAA, sizeof plan), memset(&again, 0x55, sizeof again);
        fg_status status = fg_plan_make(&gpu, &problem, &plan);
        if (!is_hopper || (problem.sm_limit && !rungs[r].loops) || status == FG_UNSUPPORTED) {
          int64_t all = tiles(problem.m, problem.n, 1, rungs[r].block_m, 128);
          const char *says = !is_hopper                            ? "needs a Hopper GPU (sm_90a)"
                             : problem.sm_limit && !rungs[r].loops ? "sm_limit is "
                                                                   : "2^31 - 1 tiles";
          cr_assert_eq(status, FG_UNSUPPORTED);
          cr_assert(strstr(fg_message(), says), "%s, but it must say %s", fg_message(), says);
          cr_assert(says[0] != '2' || all > INT_MAX - 100000, "there are %lld tiles", (long long)all);
          refused++;
          continue;
        }
        cr_assert_eq(status, FG_OK, "%s", fg_message());
        cr_assert_eq(fg_plan_make(&gpu, &problem, &again), FG_OK);
        cr_assert(plan.level == problem.level && again.blocks == plan.blocks && again.cluster == plan.cluster);
        cr_assert_eq(plan.block_m, problem.m <= 64 ? 64 : rungs[r].block_m);
        cr_assert_eq(plan.block_n, 128);
        cr_assert_eq(plan.stages, rungs[r].has_stages ? 4 : 0);
        cr_assert_eq(plan.threads, 128 * (plan.block_m / 64 + rungs[r].has_stages));
        cr_assert_eq(plan.split_k, 1);
        cr_assert(plan.shared_bytes > 0 && plan.shared_bytes % 1024 == 0 && plan.shared_bytes <= gpu.shared_bytes);
        int most = problem.sm_limit ? smaller(problem.sm_limit, gpu.sms) : gpu.sms;
        bool has_pairs = rungs[r].level == FG_CLUSTER && problem.m > plan.block_m && most > 1;
        cr_assert_eq(plan.cluster, has_pairs ? 2 : 1);
        cr_assert_eq(plan.tiles, rung_tiles(&problem, &plan));
        cr_assert_eq(plan.blocks, rungs[r].loops ? smaller(plan.tiles, most / plan.cluster * plan.cluster) : plan.tiles,
                     "%d blocks", plan.blocks);
        seen++;
      }
    }
  }
  cr_assert(seen > 10000 && refused > 1000, "%d plans, %d refusals", seen, refused);
}

/* What the launch and the kernel's struct go by. */
Test(plan, of_tensor_cores_admits_what_fits) {
  fg_gpu gpu = gpu_with(132);
  int admitted[RUNGS] = {0};
  for (int r = 0; r < RUNGS; r++)
    for (int block_m = 64; block_m <= 128; block_m += 64)
      for (int block_n = 8; block_n <= 128; block_n *= 2)
        for (int stages = 1; stages <= 9; stages++)
          for (int cluster = 1; cluster <= 5; cluster++) {
            fg_plan plan, made, wish = {.block_m = block_m, .block_n = block_n, .cluster = cluster};
            if (rungs[r].has_stages) wish.stages = stages;
            fg_problem problem = {.m = 1000, .n = 1000, .k = 1024, .level = rungs[r].level, .plan = &wish};
            fg_status status = fg_plan_make(&gpu, &problem, &plan);
            int least = wish.stages * (block_m + block_n) * 128;
            bool is_tile = problem.level != FG_CLUSTER || block_n >= 64;
            int others = wish.stages * (block_m * 4 + 16);
            int sums = problem.level == FG_CLUSTER      ? block_m * block_n * 4
                       : problem.level == FG_PERSISTENT ? block_m * (block_n + 8) * 4
                                                        : 0;
            bool has_room = least + others + sums <= gpu.shared_bytes;
            bool is_cluster = cluster <= rungs[r].most_cluster && cluster != 3 && cluster <= 4;
            bool is_ring = !rungs[r].has_stages || (stages >= 2 && stages <= 8);
            cr_expect_eq(status == FG_OK, is_tile && has_room && is_cluster && is_ring,
                         "level %d, %dx%d, %d stages, clusters of %d: %s", (int)problem.level, block_m, block_n, stages, cluster,
                         fg_message());
            if (status != FG_OK) {
              cr_expect_eq(status, FG_BAD_PLAN);
              continue;
            }
            admitted[r]++;
            cr_expect(plan.shared_bytes >= least && plan.shared_bytes <= gpu.shared_bytes);
            cr_expect(plan.blocks % cluster == 0 && plan.cluster == cluster);
            problem.plan = &plan; /* what was made is a legal wish */
            cr_expect_eq(fg_plan_make(&gpu, &problem, &made), FG_OK, "%s", fg_message());
            cr_expect_eq(memcmp(&made, &plan, sizeof plan), 0);
          }
  for (int r = 0; r < RUNGS; r++) cr_expect_geq(admitted[r], rungs[r].has_stages ? 20 : 10);
}

Test(plan, of_tensor_cores_says_what_it_does_not_serve) {
  static const struct {
    fg_status status;
    fg_level level;
    const char *says;
    fg_problem change; /* what is not 0 */
    fg_plan plan;
  } bad[] = {
      {FG_UNSUPPORTED, FG_WGMMA, "kind is 1; level wgmma multiplies dense problems", {.kind = FG_BATCHED, .groups = 2}, {0}},
      {FG_UNSUPPORTED, FG_TMA, "kind is 3; level tma multiplies dense problems", {.kind = FG_MASKED, .groups = 2}, {0}},
      {FG_UNSUPPORTED, FG_TMA, "a.scaling is 2; level tma takes scales 1x128 of a", {.a.scaling = FG_128X128}, {0}},
      {FG_UNSUPPORTED, FG_CLUSTER, "a.scaling is 3; level cluster takes scales 1x128 of a", {.a.scaling = FG_TENSOR}, {0}},
      {FG_UNSUPPORTED, FG_PIPELINE, "b.scaling is 1; level pipeline takes scales", {.b.scaling = FG_1X128}, {0}},
      {FG_UNSUPPORTED, FG_PERSISTENT, "b.scaling is 3; level persistent takes scales", {.b.scaling = FG_TENSOR}, {0}},
      {FG_UNSUPPORTED, FG_WGMMA, "k is 8; level wgmma takes multiples of 16", {.k = 8}, {0}},
      {FG_UNSUPPORTED, FG_CLUSTER, "k is 1000; level cluster takes multiples of 16", {.k = 1000}, {0}},
      {FG_UNSUPPORTED, FG_WGMMA, "m is 2147482625, n 1000 and k 1024; level wgmma takes at most", {.m = INT_MAX - 1022}, {0}},
      {FG_UNSUPPORTED, FG_CLUSTER, "n 9999999999", {.m = 1, .n = 9999999999}, {0}},
      {FG_UNSUPPORTED, FG_PIPELINE, "k 4294967296; level pipeline takes at most 2147482624", {.k = INT64_C(1) << 32}, {0}},
      {FG_UNSUPPORTED, FG_WGMMA, "sm_limit is 7; level wgmma has a block for each tile", {.sm_limit = 7}, {0}},
      {FG_UNSUPPORTED, FG_TMA, "sm_limit is 7; level tma has a block for each tile", {.sm_limit = 7}, {0}},
      {FG_UNSUPPORTED, FG_PIPELINE, "sm_limit is 200; level pipeline has a block for each", {.sm_limit = 200}, {0}},
      {FG_UNSUPPORTED, FG_WGMMA, "split_k is 2, but level is wgmma", {.split_k = 2}, {0}},
      {FG_BAD_PLAN, FG_WGMMA, "plan.level is 8, but the problem's level is 7", {0}, {.level = FG_TMA}},
      {FG_BAD_PLAN, FG_WGMMA, "plan.block_m is 192; it must be a multiple of 64 from 64 to 128", {0}, {.block_m = 192}},
      {FG_BAD_PLAN, FG_CLUSTER, "plan.block_m is 96; it must be a multiple of 64", {0}, {.block_m = 96}},
      {FG_BAD_PLAN, FG_TMA, "plan.block_n is 4; it must be a multiple of 8 from 8 to 128", {0}, {.block_n = 4}},
      {FG_BAD_PLAN, FG_TMA, "plan.block_n is 136; it must be a multiple of 8 from 8 to 128", {0}, {.block_n = 136}},
      {FG_BAD_PLAN, FG_TMA, "plan.block_n is 96; it must divide 128: level tma has one scale", {0}, {.block_n = 96}},
      {FG_BAD_PLAN, FG_PERSISTENT, "plan.block_n is 24; it must divide 128", {0}, {.block_n = 24}},
      {FG_BAD_PLAN, FG_CLUSTER, "plan.block_n is 32; it must be a multiple of 64", {0}, {.block_n = 32}},
      {FG_BAD_PLAN, FG_WGMMA, "plan.stages is 2; level wgmma takes 0", {0}, {.stages = 2}},
      {FG_BAD_PLAN, FG_PIPELINE, "plan.stages is 1; level pipeline takes from 2 to 8", {0}, {.stages = 1}},
      {FG_BAD_PLAN, FG_CLUSTER, "plan.stages is 9; level cluster takes from 2 to 8", {0}, {.stages = 9}},
      {FG_BAD_PLAN, FG_PIPELINE, "plan.stages is -1; level pipeline takes from 2 to 8", {0}, {.stages = -1}},
      {FG_BAD_PLAN, FG_PIPELINE, "plan.stages is 7; with tiles of 128 x 128 a block needs", {0}, {.stages = 7}},
      {FG_BAD_PLAN, FG_PERSISTENT, "bytes of shared memory, and has 232448", {0}, {.stages = 5}},
      {FG_BAD_PLAN, FG_PERSISTENT, "plan.cluster is 2; level persistent takes 1", {0}, {.cluster = 2}},
      {FG_BAD_PLAN, FG_CLUSTER, "plan.cluster is 3; level cluster takes 1, 2 or 4", {0}, {.cluster = 3}},
      {FG_BAD_PLAN, FG_CLUSTER, "plan.cluster is 8; level cluster takes 1, 2 or 4", {0}, {.cluster = 8}},
      {FG_BAD_PLAN, FG_CLUSTER, "plan.cluster is 9; it must be 1, or up to 8", {0}, {.cluster = 9}},
      {FG_BAD_PLAN, FG_CLUSTER, "plan.cluster is 4, more than the 3 multiprocessors", {.sm_limit = 3}, {.cluster = 4}},
      {FG_BAD_PLAN, FG_CLUSTER, "plan.blocks is 5, which clusters of plan.cluster = 2", {0}, {.blocks = 5, .cluster = 2}},
      {FG_BAD_PLAN, FG_PERSISTENT, "plan.blocks is 8, more than sm_limit = 7", {.sm_limit = 7}, {.blocks = 8}},
      {FG_BAD_PLAN, FG_TMA, "plan.blocks is 7; level tma has a block for each tile, so it must be 0 or 128", {0}, {.blocks = 7}},
      {FG_BAD_PLAN, FG_PIPELINE, "plan.threads is 256; with these tiles it must be 0 or 384", {0}, {.threads = 256}},
      {FG_BAD_PLAN, FG_PIPELINE, "plan.shared_bytes is 1024; with these tiles and stages", {0}, {.shared_bytes = 1024}},
      {FG_BAD_PLAN, FG_CLUSTER, "plan.tiles is 5; for this problem it must be 0 or 64", {0}, {.tiles = 5}},
      {FG_BAD_PLAN, FG_WGMMA, "plan.split_k is 2", {0}, {.split_k = 2}},
      {FG_BAD_PLAN, FG_FULL, "plan.block_m is 88, plan.block_n 192; with swapped", {0}, {0, FG_B_BY_A, 88, 192, .cluster = 1}},
      {FG_BAD_PLAN, FG_FULL, "plan.block_m is 112, plan.block_n 256; with swapped", {0}, {0, FG_B_BY_A, 112, 256, .cluster = 1}},
  };
  fg_gpu gpu = gpu_with(132), older = {.name = "an A100", .arch = "sm_80", .sms = 108, .shared_bytes = 166912};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    fg_plan plan = {.tiles = -1}, before = plan;
    fg_problem problem = bad[i].change;
    problem.level = bad[i].level, problem.plan = &bad[i].plan;
    if (!problem.m) problem.m = 1000;
    if (!problem.n) problem.n = 1000;
    if (!problem.k) problem.k = 1024;
    cr_expect_eq(fg_plan_make(&gpu, &problem, &plan), bad[i].status, "%s", bad[i].says);
    cr_expect(strstr(fg_message(), bad[i].says), "%s, but it must say %s", fg_message(), bad[i].says);
    cr_expect_eq(memcmp(&plan, &before, sizeof plan), 0, "nothing is written");
    cr_expect_eq(fg_plan_make(&older, &problem, &plan), FG_UNSUPPORTED);
    cr_expect(problem.split_k || strstr(fg_message(), "gpu is an A100 (sm_80)"), "%s", fg_message());
  }
  /* The largest that is taken; and nothing is as good as anything. */
  fg_plan plan;
  fg_problem most = {.m = INT_MAX - 1023, .n = 1, .k = INT_MAX - 1023, .level = FG_CLUSTER};
  cr_expect_eq(fg_plan_make(&gpu, &most, &plan), FG_OK, "%s", fg_message());
  cr_expect_eq(fg_plan_make(&gpu, &(fg_problem){.level = FG_CLUSTER}, &plan), FG_OK, "%s", fg_message());
  cr_expect(plan.tiles == 0 && plan.blocks == 0);
}

/* A limit or a number of blocks for which two do not go together is no reason to refuse. */
Test(plan, of_clusters_yields_to_what_is_wished) {
  fg_gpu gpu = gpu_with(132);
  for (int blocks = 0; blocks <= 9; blocks++)
    for (int limit = 0; limit <= 3; limit++) {
      fg_plan plan, wish = {.blocks = blocks};
      fg_problem problem = {.m = 1000, .n = 1000, .k = 1024, .level = FG_CLUSTER, .plan = &wish, .sm_limit = limit};
      fg_status status = fg_plan_make(&gpu, &problem, &plan);
      cr_expect_eq(status, limit && blocks > limit ? FG_BAD_PLAN : FG_OK, "%s", fg_message());
      if (status != FG_OK) continue;
      cr_expect_eq(plan.cluster, blocks % 2 || limit == 1 ? 1 : 2);
      cr_expect(plan.blocks % plan.cluster == 0 && (!blocks || plan.blocks == blocks) && (!limit || plan.blocks <= limit));
    }
}

/* --- Level full */

/* Tiles in whole clusters: with A's rows the tensor core's, those of a cluster lie beside or below each other; else a cluster has one. */
static int64_t full_tiles(const fg_problem *problem, const fg_plan *plan) {
  int64_t shared = plan->order == FG_A_BY_B ? plan->cluster : 1, block_m = plan->block_m, block_n = plan->block_n;
  *(block_m >= block_n ? &block_n : &block_m) *= shared;
  return (problem->m + block_m - 1) / block_m * ((problem->n + block_n - 1) / block_n) * shared;
}

/* At least so much memory a block needs: the ring's operands, scales and barriers, and D or sums on their way. */
static int full_bytes(const fg_plan *plan, bool scaled_by_rows) {
  int m = plan->block_m, n = plan->block_n, ring = (m + n) * 128 + (m + (scaled_by_rows ? n : 0)) * 4 + 16;
  if (plan->order == FG_A_BY_B) return plan->stages * ring + m / 16 * larger(16 * n * 2, 2048);
  int piece = (m + plan->cluster - 1) / plan->cluster;
  return plan->stages * ring + (m + (plan->cluster - 1) * piece) * n * 4;
}

/* What holds of any plan, whoever chose it. */
static void check_full_plan(const fg_gpu *gpu, const fg_problem *problem, const fg_plan *plan) {
  int64_t most = problem->sm_limit ? smaller(problem->sm_limit, gpu->sms) : gpu->sms, tiles_left = full_tiles(problem, plan);
  bool is_swapped = plan->order == FG_B_BY_A, is_high = plan->block_m == 256;
  int fixed = problem->split_k ? problem->split_k : problem->flags & FG_NO_SPLIT_K ? 1 : plan->split_k;
  cr_assert(plan->level == FG_FULL && (is_swapped || plan->order == FG_A_BY_B));
  cr_assert_eq(plan->split_k, fixed, "%d ranges", plan->split_k);
  cr_assert(plan->split_k >= 1 && plan->split_k == (is_swapped ? plan->cluster : 1));
  cr_assert(is_swapped ? plan->block_m % 8 == 0 && plan->block_m <= 128 && plan->block_n % 64 == 0 && plan->block_n <= 256
                       : plan->block_m % 64 == 0 && (is_high || plan->block_m <= 128) && plan->block_n % 16 == 0 &&
                             plan->block_n <= (is_high ? 128 : 192));
  cr_assert(plan->stages >= 2 && plan->stages <= (is_swapped ? 24 : 16));
  cr_assert_eq(plan->threads, is_swapped ? plan->block_n * 2 + 64 : plan->block_m == 64 ? 256 : 384);
  cr_assert(plan->shared_bytes % 1024 == 0 && plan->shared_bytes <= gpu->shared_bytes);
  cr_assert_geq(plan->shared_bytes, full_bytes(plan, problem->b.scaling == FG_1X128));
  cr_assert_eq(plan->tiles, tiles_left);
  cr_assert(plan->blocks % plan->cluster == 0 && plan->blocks <= most, "%d blocks", plan->blocks);
  cr_assert(plan->blocks <= tiles_left * plan->split_k && (plan->blocks > 0) == (tiles_left > 0));
}

Test(plan, of_full_covers_every_shape_on_every_hopper_gpu) {
  static const int64_t sizes[] = {0, 1, 8, 63, 64, 65, 129, 576, 2112, 7168, 4600000}, depths[] = {0, 1, 100, 129, 7168, 20000};
  enum { SIZES = sizeof sizes / sizeof *sizes, DEPTHS = sizeof depths / sizeof *depths };
  int gpus, seen = 0, refused = 0;
  const fg_gpu *known = fg_known_gpus(&gpus);
  for (int g = -4; g < gpus; g++) {
    fg_gpu gpu = g < 0 ? gpu_with((int[]){1, 2, 13, 131}[g + 4]) : known[g];
    for (int at = 0; at < SIZES * SIZES * DEPTHS; at++) {
      fg_problem problem = {.m = sizes[at % SIZES],
                            .n = sizes[at / SIZES % SIZES],
                            .k = depths[at / SIZES / SIZES],
                            .b.scaling = at % 7 % 2 ? FG_1X128 : FG_128X128,
                            .level = FG_FULL};
      for (int way = 0; way < 20; way++) {
        fg_plan plan, again;
        memset(&plan, 0xAA, sizeof plan), memset(&again, 0x55, sizeof again);
        problem.sm_limit = (int[]){0, 1, 7, 131, INT_MAX}[way % 5];
        problem.split_k = (int[]){0, 0, 1, 5}[way / 5];
        problem.flags = way / 5 == 1 ? FG_NO_SPLIT_K : 0;
        problem.plan = NULL;
        fg_status status = fg_plan_make(&gpu, &problem, &plan);
        int most = problem.sm_limit ? smaller(problem.sm_limit, gpu.sms) : gpu.sms;
        bool is_hopper = strcmp(gpu.arch, "sm_90a") == 0, has_room = problem.split_k <= most || problem.m * problem.n == 0;
        bool is_counted = problem.m * problem.n < (int64_t)INT_MAX * 128 * 64;
        if (!is_hopper || !has_room || (!is_counted && status != FG_OK)) {
          cr_assert_eq(status, is_hopper && is_counted ? FG_BAD_PLAN : FG_UNSUPPORTED, "%s", fg_message());
          cr_assert(strstr(fg_message(), !is_hopper   ? "level is full, which needs a Hopper GPU (sm_90a)"
                                         : is_counted ? "plan.cluster is 5, more than the"
                                                      : "2^31 - 1 tiles"),
                    "%s", fg_message());
          refused++;
          continue;
        }
        cr_assert_eq(status, FG_OK, "%s", fg_message());
        check_full_plan(&gpu, &problem, &plan);
        problem.plan = &plan; /* what was made is a legal wish */
        cr_assert_eq(fg_plan_make(&gpu, &problem, &again), FG_OK, "%s", fg_message());
        cr_assert_eq(memcmp(&plan, &again, sizeof plan), 0);
        seen++;
      }
    }
  }
  cr_assert(seen > 50000 && refused > 1000, "%d plans, %d refusals", seen, refused);
}

/* Every tile, depth of the ring and cluster that a kernel has and memory has room for, and no other. */
Test(plan, of_full_admits_what_fits) {
  enum { ROUNDED_BYTES = 24 * 2 * 31 * 4 + 4096 }; /* by which scales are rounded up to whole warps, and the rest to KiB */
  fg_gpu gpu = gpu_with(132);
  int admitted[FG_B_BY_A + 1] = {0};
  for (int order = FG_A_BY_B; order <= FG_B_BY_A; order++)
    for (int block_m = 8; block_m <= 320; block_m += 8)
      for (int block_n = 8; block_n <= 320; block_n += 8)
        for (int at = 0; at < 2 * 9 * 25; at++) {
          fg_plan plan = {.order = (fg_order)order, .block_m = block_m, .block_n = block_n};
          plan.stages = 1 + at / 18, plan.cluster = 1 + at / 2 % 9;
          fg_plan wish = plan;
          fg_problem problem = {.m = 1000, .n = 1000, .k = 4096, .b.scaling = at % 2 ? FG_1X128 : FG_128X128, .level = FG_FULL};
          problem.plan = &wish;
          int products = block_m * block_n, least = full_bytes(&plan, at % 2);
          bool is_tall = (block_m == 64 || block_m == 128 || (block_m == 256 && block_n <= 128 && block_n % 32 == 0)) &&
                         block_n % 16 == 0 && block_n <= 192;
          bool is_wide = block_m <= 128 && block_n % 64 == 0 && block_n <= 256 &&
                         (products <= 128 * 128 || (products <= 128 * 192 && block_m % 16 == 0));
          bool is_one = order == FG_A_BY_B ? is_tall && plan.cluster <= 2 && plan.stages <= 16
                                           : is_wide && plan.cluster <= 8 && plan.stages <= 24;
          fg_status status = fg_plan_make(&gpu, &problem, &plan);
          if (!is_one || plan.stages < 2 || least > gpu.shared_bytes)
            cr_assert_eq(status, FG_BAD_PLAN, "order %d, %dx%d, %d stages, clusters of %d", order, block_m, block_n, wish.stages,
                         wish.cluster);
          else if (least + ROUNDED_BYTES <= gpu.shared_bytes)
            cr_assert_eq(status, FG_OK, "%s", fg_message());
          if (status != FG_OK) continue;
          check_full_plan(&gpu, &problem, &plan);
          admitted[order]++;
        }
  cr_assert(admitted[FG_A_BY_B] > 300 && admitted[FG_B_BY_A] > 3000, "%d and %d", admitted[FG_A_BY_B], admitted[FG_B_BY_A]);
}

/* All rows of A have a tile, and one step less would not do for as many tiles as there are. */
Test(plan, of_full_has_tiles_of_no_more_rows_than_are_enough) {
  static const int heights[] = {8, 24, 32, 64, 128, 256};
  for (size_t h = 0; h < sizeof heights / sizeof *heights; h++)
    for (int order = heights[h] < 64 ? FG_B_BY_A : FG_A_BY_B; order <= FG_B_BY_A; order++)
      for (int below = 1; below <= (order == FG_A_BY_B ? 2 : 1); below++)
        for (int64_t m = 1; m <= 2000; m++) {
          fg_plan plan = {.level = FG_FULL, .order = (fg_order)order, .block_m = heights[h], .block_n = 264, .cluster = below};
          int64_t tiles = (m + heights[h] - 1) / heights[h];
          tiles += tiles % below;
          int rows = fg_plan_tile_rows(&plan, m), step = order == FG_B_BY_A ? 8 : tiles == 1 ? 1 : 16;
          cr_assert(rows > 0 && rows <= heights[h] && rows % step == 0, "m %lld: %d of %d", (long long)m, rows, heights[h]);
          cr_assert(rows * tiles >= m && (rows - step) * tiles < m, "m %lld: %d of %d", (long long)m, rows, heights[h]);
        }
  fg_plan sharing = {.level = FG_FULL, .order = FG_A_BY_B, .block_m = 128, .block_n = 64, .cluster = 2};
  cr_expect_eq(fg_plan_tile_rows(&sharing, 129), 80,
               "tiles beside each other have their own rows, of which each block fetches 40");
  cr_expect_eq(fg_plan_tile_rows(&sharing, 97), 112, "and 56 of a single one's");
  fg_plan naive = {.level = FG_NAIVE, .block_m = 16};
  cr_expect_eq(fg_plan_tile_rows(&naive, 1), 16);
}

Test(plan, of_full_says_what_it_does_not_serve) {
  static const struct {
    fg_status status;
    const char *says;
    fg_problem change; /* what is not 0 */
    fg_plan plan;
  } bad[] = {
      {FG_UNSUPPORTED, "kind is 1; level full multiplies dense problems", {.kind = FG_BATCHED, .groups = 2}, {0}},
      {FG_UNSUPPORTED, "kind is 4; level full multiplies dense problems", {.kind = FG_GROUPED_K, .groups = 2}, {0}},
      {FG_UNSUPPORTED, "a.scaling is 2; level full takes scales 1x128 of a, 1, and", {.a.scaling = FG_128X128}, {0}},
      {FG_UNSUPPORTED,
       "b.scaling is 3; level full takes scales 1x128 of a, 1, and 128x128 or 1x128 of b, 2 or 1",
       {.b.scaling = FG_TENSOR},
       {0}},
      {FG_UNSUPPORTED, "m is 2147482625, n 1000 and k 1024; level full takes at most 2147482624", {.m = INT_MAX - 1022}, {0}},
      {FG_UNSUPPORTED, "k 4294967296; level full takes at most", {.k = INT64_C(1) << 32}, {0}},
      {FG_UNSUPPORTED, "split_k is 9; level full sums K in at most 8 ranges", {.split_k = 9}, {0}},
      {FG_UNSUPPORTED, "split_k is 2147483647; level full", {.split_k = INT_MAX}, {0}},
      {FG_BAD_PLAN, "plan.level is 11, but the problem's level is 12", {0}, {.level = FG_CLUSTER}},
      {FG_BAD_PLAN, "plan.order is 3; it must be from 0 to 2", {0}, {.order = (fg_order)3}},
      {FG_BAD_PLAN, "plan.order is -1; it must be from 0 to 2", {0}, {.order = (fg_order)-1}},
      {FG_BAD_PLAN, "plan.block_m is 96; it must be a multiple of 64 from 64 to 256", {0}, {.order = FG_A_BY_B, .block_m = 96}},
      {FG_BAD_PLAN, "plan.block_m is 136; it must be a multiple of 8 from 8 to 128", {0}, {.order = FG_B_BY_A, .block_m = 136}},
      {FG_BAD_PLAN,
       "plan.block_m is 192, plan.block_n 128; level full's tiles are",
       {0},
       {.order = FG_A_BY_B, .block_m = 192, .block_n = 128}},
      {FG_BAD_PLAN,
       "plan.block_n 144; level full's tiles are 64, 128 or 256 high",
       {0},
       {.order = FG_A_BY_B, .block_m = 256, .block_n = 144}},
      {FG_BAD_PLAN,
       "plan.block_n is 24; it must be a multiple of 16 from 16 to 192",
       {0},
       {.order = FG_A_BY_B, .block_m = 64, .block_n = 24}},
      {FG_BAD_PLAN,
       "plan.block_n is 96; it must be a multiple of 64 from 64 to 256",
       {0},
       {.order = FG_B_BY_A, .block_m = 64, .block_n = 96}},
      {FG_BAD_PLAN,
       "plan.block_m is 128, plan.block_n 256; with swapped operands",
       {0},
       {.order = FG_B_BY_A, .block_m = 128, .block_n = 256}},
      {FG_BAD_PLAN,
       "plan.block_m is 88, plan.block_n 192; with swapped operands",
       {0},
       {.order = FG_B_BY_A, .block_m = 88, .block_n = 192}},
      {FG_BAD_PLAN, "plan.stages is 17; level full takes from 2 to 16", {0}, {.order = FG_A_BY_B, .stages = 17}},
      {FG_BAD_PLAN,
       "plan.block_m is 33554304; it must be a multiple of 8 from 8 to 128",
       {0},
       {.order = FG_B_BY_A, .block_m = 33554304, .block_n = 128, .cluster = 4}},
      {FG_BAD_PLAN, "plan.stages is 25; level full takes from 2 to 24", {0}, {.order = FG_B_BY_A, .stages = 25}},
      {FG_BAD_PLAN, "plan.stages is 1; level full takes from 2", {0}, {.order = FG_B_BY_A, .stages = 1}},
      {FG_BAD_PLAN,
       "bytes of shared memory, and has 232448",
       {0},
       {.order = FG_A_BY_B, .block_m = 256, .block_n = 128, .stages = 8}},
      {FG_BAD_PLAN, "plan.cluster is 4; level full takes 1 or 2 in this order", {0}, {.order = FG_A_BY_B, .cluster = 4}},
      {FG_BAD_PLAN, "plan.cluster is 9; it must be 1, or up to 8", {0}, {.order = FG_B_BY_A, .cluster = 9}},
      {FG_BAD_PLAN, "plan.split_k is 2; plan.order 1 sums K in one range", {0}, {.order = FG_A_BY_B, .split_k = 2}},
      {FG_BAD_PLAN, "plan.order 1 sums K in one range", {.split_k = 4}, {.order = FG_A_BY_B}},
      {FG_BAD_PLAN, "plan.split_k is 2, but the problem's split_k and flags want 3", {.split_k = 3}, {.split_k = 2}},
      {FG_BAD_PLAN, "plan.split_k is 2, but the problem's split_k and flags want 1", {.flags = FG_NO_SPLIT_K}, {.split_k = 2}},
      {FG_BAD_PLAN,
       "plan.cluster is 4 and plan.split_k 2; plan.order 2 has a range of K for each",
       {0},
       {.order = FG_B_BY_A, .cluster = 4, .split_k = 2}},
      {FG_BAD_PLAN, "plan.cluster is 4 and plan.split_k 1", {.flags = FG_NO_SPLIT_K}, {.order = FG_B_BY_A, .cluster = 4}},
      {FG_BAD_PLAN, "plan.cluster is 4, more than the 3 multiprocessors", {.sm_limit = 3}, {.order = FG_B_BY_A, .cluster = 4}},
      {FG_BAD_PLAN, "plan.blocks is 5, which clusters of plan.cluster = 2", {0}, {.order = FG_A_BY_B, .cluster = 2, .blocks = 5}},
      {FG_BAD_PLAN, "plan.blocks is 8, more than sm_limit = 7", {.sm_limit = 7}, {.blocks = 8}},
      {FG_BAD_PLAN,
       "plan.threads is 256; with these tiles it must be 0 or 384",
       {0},
       {.order = FG_A_BY_B, .block_m = 128, .threads = 256}},
      {FG_BAD_PLAN,
       "plan.threads is 384; with these tiles it must be 0 or 320",
       {0},
       {.order = FG_B_BY_A, .block_n = 128, .threads = 384}},
      {FG_BAD_PLAN, "plan.shared_bytes is 1024; with these tiles and stages", {0}, {.shared_bytes = 1024}},
      {FG_BAD_PLAN,
       "plan.tiles is 5; for this problem it must be 0 or 64",
       {0},
       {.order = FG_A_BY_B, .block_m = 128, .block_n = 128, .tiles = 5}},
  };
  fg_gpu gpu = gpu_with(132), older = {.name = "an A100", .arch = "sm_80", .sms = 108, .shared_bytes = 166912};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    fg_plan plan = {.tiles = -1}, before = plan;
    fg_problem problem = bad[i].change;
    problem.level = FG_FULL, problem.plan = &bad[i].plan;
    if (!problem.m) problem.m = 1000;
    if (!problem.n) problem.n = 1000;
    if (!problem.k) problem.k = 1024;
    cr_expect_eq(fg_plan_make(&gpu, &problem, &plan), bad[i].status, "%s", bad[i].says);
    cr_expect(strstr(fg_message(), bad[i].says), "%s, but it must say %s", fg_message(), bad[i].says);
    cr_expect_eq(memcmp(&plan, &before, sizeof plan), 0, "nothing is written");
    cr_expect_eq(fg_plan_make(&older, &problem, &plan), FG_UNSUPPORTED);
    cr_expect(strstr(fg_message(), "gpu is an A100 (sm_80)"), "%s", fg_message());
  }
  fg_plan plan;
  fg_problem most = {.m = INT_MAX - 1023, .n = 1, .k = INT_MAX - 1023, .level = FG_FULL};
  cr_expect_eq(fg_plan_make(&gpu, &most, &plan), FG_OK, "%s", fg_message());
  for (int rung = FG_WGMMA; rung <= FG_CLUSTER; rung++) {
    const fg_plan wish = {.order = FG_A_BY_B};
    fg_problem problem = {.m = 100, .n = 100, .k = 128, .level = (fg_level)rung, .plan = &wish};
    cr_expect_eq(fg_plan_make(&gpu, &problem, &plan), FG_BAD_PLAN);
    cr_expect(strstr(fg_message(), "plan.order is 1; only level full has an order"), "%s", fg_message());
  }
}

/* And where a level's kernel, types or device do not do, the one that serves everything. */
Test(plan, best_is_the_highest_level_that_serves) {
  fg_gpu gpu = gpu_with(132), older = {.name = "an A100", .arch = "sm_80", .sms = 108, .shared_bytes = 166912};
  fg_plan plan, wish = {.level = FG_TMA}, tile = {.block_m = 256};
  const struct {
    const fg_gpu *gpu;
    fg_problem problem;
    fg_status status;
    fg_level level;
  } cases[] = {
      {&gpu, {.m = 5, .n = 5, .k = 5}, FG_OK, FG_FULL},
      {&gpu, {.m = 5, .n = 5, .k = 5, .split_k = 2}, FG_OK, FG_FULL},
      {&gpu, {.m = 5, .n = 5, .k = 5, .flags = FG_NO_SPLIT_K}, FG_OK, FG_FULL},
      {&gpu, {.m = 5, .n = 5, .k = 5, .b.scaling = FG_1X128}, FG_OK, FG_FULL},
      {&gpu, {.m = 5, .n = 5, .k = 5, .a.scaling = FG_TENSOR}, FG_OK, FG_SHARED},
      {&gpu, {.kind = FG_BATCHED, .m = 5, .n = 5, .k = 5, .groups = 2}, FG_OK, FG_SHARED},
      {&older, {.m = 5, .n = 5, .k = 5}, FG_OK, FG_SHARED},
      {&older, {.m = 5, .n = 5, .k = 5, .split_k = 2}, FG_UNSUPPORTED, FG_BEST},
      {&gpu, {.m = 5, .n = 5, .k = 5, .split_k = 9}, FG_UNSUPPORTED, FG_BEST},
      {&gpu, {.m = 5, .n = 5, .k = 16, .plan = &wish}, FG_OK, FG_TMA},
      {&gpu, {.m = 5, .n = 5, .k = 5, .plan = &wish}, FG_UNSUPPORTED, FG_BEST},
      {&gpu, {.m = 500, .n = 5, .k = 5, .plan = &tile}, FG_OK, FG_FULL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    plan.level = FG_BEST;
    cr_expect_eq(fg_plan_make(cases[i].gpu, &cases[i].problem, &plan), cases[i].status, "case %zu: %s", i, fg_message());
    cr_expect_eq(plan.level, cases[i].level, "case %zu", i);
  }
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
  problem.level = (fg_level)(FG_FULL + 1);
  cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_BAD_ENUM);
  problem.level = FG_NAIVE, problem.split_k = 2;
  cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_UNSUPPORTED);
}
