#include "plan.h"

#include "fail.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { MOST_OF_A_CLUSTER = 8 }; /* that every Hopper GPU can launch */

/* Multiprocessors and shared memory as NVIDIA states them. */
static const fg_gpu known[] = {
    {"H100 SXM", "sm_90a", 132, 232448},   {"H100 PCIe", "sm_90a", 114, 232448},
    {"H200", "sm_90a", 132, 232448},       {"H800", "sm_90a", 132, 232448},
    {"H20", "sm_90a", 78, 232448},         {"H100 MIG 3g", "sm_90a", 60, 232448},
    {"H100 MIG 1g", "sm_90a", 16, 232448}, {"A100", "sm_80", 108, 166912},
    {"L4", "sm_89", 58, 101376},           {"T4", "sm_75", 40, 65536},
};

const fg_gpu *fg_known_gpus(int *count) {
  if (count) *count = sizeof known / sizeof known[0];
  return known;
}

static int64_t tiles_of(const fg_plan *plan, const fg_problem *full) {
  int64_t matrices = full->kind == FG_GROUPED_ROWS ? 1 : full->groups;
  int64_t rows = (full->m + plan->block_m - 1) / plan->block_m, cols = (full->n + plan->block_n - 1) / plan->block_n, tiles;
  if (__builtin_mul_overflow(rows, cols, &tiles) || __builtin_mul_overflow(tiles, matrices, &tiles)) return INT64_MAX;
  return tiles;
}

static int is_tile(int size, int multiple, int most) { return size >= multiple && size <= most && size % multiple == 0; }

/* What the level's kernel and the GPU admit. */
static fg_status check(const fg_gpu *gpu, const fg_plan *plan, const fg_problem *full) {
  if (plan->level != full->level)
    return fg_fail(FG_BAD_PLAN, "plan.level is %d, but the problem's level is %d", (int)plan->level, (int)full->level);
  int each = plan->level == FG_NAIVE ? 1 : 16, most = plan->level == FG_NAIVE ? 1024 : 64;
  if (!is_tile(plan->block_m, each, most))
    return fg_fail(FG_BAD_PLAN, "plan.block_m is %d; it must be a multiple of %d from %d to %d", plan->block_m, each, each, most);
  if (!is_tile(plan->block_n, each, most))
    return fg_fail(FG_BAD_PLAN, "plan.block_n is %d; it must be a multiple of %d from %d to %d", plan->block_n, each, each, most);
  if (plan->level == FG_NAIVE && !is_tile(plan->block_m * plan->block_n, 32, 1024))
    return fg_fail(FG_BAD_PLAN,
                   "plan.block_m * plan.block_n is %d; level naive has a thread for each: a multiple of 32 from 32 to 1024",
                   plan->block_m * plan->block_n);
  if (plan->split_k != 1) return fg_fail(FG_BAD_PLAN, "plan.split_k is %d; this level sums K in one range", plan->split_k);
  if (plan->cluster < 1 || plan->cluster > MOST_OF_A_CLUSTER || (plan->cluster > 1 && strncmp(gpu->arch, "sm_90", 5) != 0))
    return fg_fail(FG_BAD_PLAN, "plan.cluster is %d; it must be 1, or up to %d on sm_90a", plan->cluster, MOST_OF_A_CLUSTER);
  if (plan->blocks < 0) return fg_fail(FG_BAD_PLAN, "plan.blocks is %d; it must be 0 (as many as tiles) or more", plan->blocks);
  if (full->sm_limit > 0 && plan->blocks > full->sm_limit)
    return fg_fail(FG_BAD_PLAN, "plan.blocks is %d, more than sm_limit = %d", plan->blocks, full->sm_limit);
  return FG_OK;
}

fg_status fg_plan_full(const fg_gpu *gpu, const fg_problem *full, fg_plan *plan) {
  int side = full->level == FG_NAIVE ? 16 : 64;
  const fg_plan none = {0}, *wish = full->plan ? full->plan : &none;
  fg_plan made = {.level = wish->level ? wish->level : full->level,
                  .block_m = wish->block_m ? wish->block_m : side,
                  .block_n = wish->block_n ? wish->block_n : side,
                  .split_k = wish->split_k ? wish->split_k : full->split_k,
                  .cluster = wish->cluster ? wish->cluster : 1,
                  .blocks = wish->blocks};
  fg_status status = check(gpu, &made, full);
  if (status != FG_OK) return status;
  made.threads = full->level == FG_NAIVE ? made.block_m * made.block_n : 256;
  made.tiles = tiles_of(&made, full);
  if (made.tiles > INT_MAX)
    return fg_fail(FG_UNSUPPORTED, "d has more than 2^31 - 1 tiles of %d x %d, which this level cannot count", made.block_m,
                   made.block_n);
  if (wish->threads && wish->threads != made.threads)
    return fg_fail(FG_BAD_PLAN, "plan.threads is %d; with these tiles it must be 0 or %d", wish->threads, made.threads);
  if (wish->tiles && wish->tiles != made.tiles)
    return fg_fail(FG_BAD_PLAN, "plan.tiles is %" PRId64 "; for this problem it must be 0 or %" PRId64, wish->tiles, made.tiles);
  /* A block on each multiprocessor, to begin with: so few blocks never come to lie on more. */
  int64_t most = full->sm_limit == 0 ? INT_MAX : full->sm_limit < gpu->sms ? full->sm_limit : gpu->sms;
  if (made.blocks == 0) { /* whole clusters, of which some blocks may find no tile */
    int64_t blocks = made.tiles < most ? made.tiles : most, clusters = (blocks + made.cluster - 1) / made.cluster;
    if (clusters * made.cluster > most) clusters--;
    if (clusters == 0 && made.tiles > 0)
      return fg_fail(FG_BAD_PLAN, "plan.cluster is %d, more than the %" PRId64 " multiprocessors that it may use", made.cluster,
                     most);
    made.blocks = (int)(clusters * made.cluster);
  }
  if (made.blocks % made.cluster != 0)
    return fg_fail(FG_BAD_PLAN, "plan.blocks is %d, which clusters of plan.cluster = %d do not fill", made.blocks, made.cluster);
  *plan = made;
  return FG_OK;
}

struct fg_kernel_id fg_kernel_id_of(const fg_plan *plan, const fg_problem *full) {
  return (struct fg_kernel_id){.level = (int)plan->level,
                               .block_m = plan->block_m,
                               .block_n = plan->block_n,
                               .a_is_e5m2 = full->a.type == FG_E5M2,
                               .b_is_e5m2 = full->b.type == FG_E5M2,
                               .kind = full->kind == FG_BATCHED ? FG_DENSE : (int)full->kind};
}

const char *fg_kernel_source(int level) {
  return level == FG_NAIVE ? "lessons/04_naive.cu" : level == FG_SHARED ? "lessons/05_shared.cu" : NULL;
}

const char *fg_kernel_name(int level) { return level == FG_NAIVE ? "naive" : level == FG_SHARED ? "shared" : NULL; }

struct fg_kernel_defines fg_kernel_defines_of(const struct fg_kernel_id *id) {
  struct fg_kernel_defines defines;
  snprintf(defines.text[0], FG_DEFINE_BYTES, "BLOCK_M=%d", id->block_m);
  snprintf(defines.text[1], FG_DEFINE_BYTES, "BLOCK_N=%d", id->block_n);
  snprintf(defines.text[2], FG_DEFINE_BYTES, "A_IS_E5M2=%d", id->a_is_e5m2);
  snprintf(defines.text[3], FG_DEFINE_BYTES, "B_IS_E5M2=%d", id->b_is_e5m2);
  snprintf(defines.text[4], FG_DEFINE_BYTES, "KIND=%d", id->kind);
  return defines;
}
