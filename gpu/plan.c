#include "plan.h"

#include "fail.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
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
  int64_t rows = (full->m + plan->block_m - 1) / plan->block_m;
  if (plan->level == FG_CLUSTER)
    rows = (rows + plan->cluster - 1) / plan->cluster * plan->cluster; /* its blocks' lie below each other */
  int64_t cols = (full->n + plan->block_n - 1) / plan->block_n, tiles;
  if (__builtin_mul_overflow(rows, cols, &tiles) || __builtin_mul_overflow(tiles, matrices, &tiles)) return INT64_MAX;
  return tiles;
}

/* What a level's kernel admits, and takes where nothing is wished. */
struct limits {
  fg_level level;
  const char *source, *name;
  int step_m, most_m, step_n, most_n;
  int block_m, block_n, stages; /* where nothing is wished; stages 0: the kernel has no ring */
  int most_stages, most_cluster;
  bool is_for_hopper, loops,
      fills_once; /* a block takes tile after tile; and so many are launched as there are multiprocessors */
};

static const struct limits all_limits[] = {
    {FG_NAIVE, "lessons/04_naive.cu", "naive", 1, 1024, 1, 1024, 16, 16, 0, 0, MOST_OF_A_CLUSTER, false, true, false},
    {FG_SHARED, "lessons/05_shared.cu", "shared", 16, 64, 16, 64, 64, 64, 0, 0, MOST_OF_A_CLUSTER, false, true, false},
    {FG_WGMMA, "lessons/06_wgmma.cu", "wgmma", 64, 192, 8, 128, 128, 128, 0, 0, 1, true, false, false},
    {FG_TMA, "lessons/07_tma.cu", "tma", 64, 192, 8, 128, 64, 128, 0, 0, 1, true, false, false},
    {FG_PIPELINE, "lessons/08_pipeline.cu", "pipeline", 64, 192, 8, 128, 128, 128, 4, 8, 1, true, false, false},
    {FG_PERSISTENT, "lessons/09_persistent.cu", "persistent", 64, 192, 8, 128, 128, 128, 4, 8, 1, true, true, true},
    {FG_CLUSTER, "lessons/10_cluster.cu", "cluster", 64, 192, 64, 128, 128, 128, 4, 8, 4, true, true, true},
};

static const struct limits *limits_of(int level) {
  for (size_t i = 0; i < sizeof all_limits / sizeof *all_limits; i++)
    if ((int)all_limits[i].level == level) return &all_limits[i];
  return NULL;
}

static int larger(int x, int y) { return x > y ? x : y; }

/* As much as the kernel's struct or union `shared` has, which the kernel itself asserts, in whole KiB. */
static int shared_bytes_of(const fg_plan *plan) {
  enum { SLICE = 36, GAP = 8, BLOCK_K = 128, OF_A_BARRIER = 8, KIB = 1024 };
  int m = plan->block_m, n = plan->block_n, stage = (m + n) * BLOCK_K, small = m * (int)sizeof(float) + 2 * OF_A_BARRIER;
  int sums = m * (n + GAP) * (int)sizeof(float), bytes = 0;
  if (plan->level == FG_SHARED) bytes = larger((m + n) * (SLICE + 1), m * n) * (int)sizeof(float);
  if (plan->level == FG_WGMMA) bytes = larger(stage, sums);
  if (plan->level == FG_TMA) bytes = larger(stage, sums) + small;
  if (plan->level == FG_PIPELINE) bytes = larger(plan->stages * stage, sums) + plan->stages * small;
  if (plan->level == FG_PERSISTENT) bytes = plan->stages * (stage + small) + sums;
  if (plan->level == FG_CLUSTER) bytes = plan->stages * (stage + small) + m * n * (int)sizeof(float);
  return (bytes + KIB - 1) / KIB * KIB;
}

static int is_tile(int size, int multiple, int most) { return size >= multiple && size <= most && size % multiple == 0; }

/* What the tensor cores' levels serve. */
static fg_status check_hopper(const fg_gpu *gpu, const struct limits *limits, const fg_plan *plan, const fg_problem *full) {
  const char *name = limits->name;
  if (strcmp(gpu->arch, "sm_90a") != 0)
    return fg_fail(FG_UNSUPPORTED, "level is %s, which needs a Hopper GPU (sm_90a); this is %.63s (%.15s)", name, gpu->name,
                   gpu->arch);
  if (full->kind != FG_DENSE)
    return fg_fail(FG_UNSUPPORTED, "kind is %d; level %s multiplies dense problems, kind %d", (int)full->kind, name, FG_DENSE);
  if (full->a.scaling != FG_1X128 || full->b.scaling != FG_128X128)
    return fg_fail(FG_UNSUPPORTED, "%s.scaling is %d; level %s takes scales 1x128 of a and 128x128 of b",
                   full->a.scaling != FG_1X128 ? "a" : "b",
                   (int)(full->a.scaling != FG_1X128 ? full->a.scaling : full->b.scaling), name);
  if (full->k % 16 != 0) return fg_fail(FG_UNSUPPORTED, "k is %" PRId64 "; level %s takes multiples of 16", full->k, name);
  if (full->m > INT_MAX || full->n > INT_MAX || full->k > INT_MAX)
    return fg_fail(FG_UNSUPPORTED, "m is %" PRId64 ", n %" PRId64 " and k %" PRId64 "; level %s counts them in 31 bits", full->m,
                   full->n, full->k, name);
  if (128 % plan->block_n != 0)
    return fg_fail(FG_BAD_PLAN, "plan.block_n is %d; it must divide 128: level %s has one scale of b for a tile", plan->block_n,
                   name);
  if (plan->shared_bytes > gpu->shared_bytes)
    return fg_fail(FG_BAD_PLAN, "plan.stages is %d: with tiles of %d x %d a block needs %d bytes of shared memory, and has %d",
                   plan->stages, plan->block_m, plan->block_n, plan->shared_bytes, gpu->shared_bytes);
  if (!limits->loops && (full->sm_limit > 0 || (plan->blocks != 0 && plan->blocks != plan->tiles)))
    return fg_fail(full->sm_limit > 0 ? FG_UNSUPPORTED : FG_BAD_PLAN, "%s is %d; level %s has a block for each tile, %" PRId64,
                   full->sm_limit > 0 ? "sm_limit" : "plan.blocks", full->sm_limit > 0 ? full->sm_limit : plan->blocks, name,
                   plan->tiles);
  return FG_OK;
}

/* What the level's kernel and the GPU admit. */
static fg_status check(const fg_gpu *gpu, const struct limits *limits, const fg_plan *plan, const fg_problem *full) {
  if (plan->level != full->level)
    return fg_fail(FG_BAD_PLAN, "plan.level is %d, but the problem's level is %d", (int)plan->level, (int)full->level);
  if (!is_tile(plan->block_m, limits->step_m, limits->most_m))
    return fg_fail(FG_BAD_PLAN, "plan.block_m is %d; it must be a multiple of %d from %d to %d", plan->block_m, limits->step_m,
                   limits->step_m, limits->most_m);
  if (!is_tile(plan->block_n, limits->step_n, limits->most_n))
    return fg_fail(FG_BAD_PLAN, "plan.block_n is %d; it must be a multiple of %d from %d to %d", plan->block_n, limits->step_n,
                   limits->step_n, limits->most_n);
  if (plan->level == FG_NAIVE && !is_tile(plan->block_m * plan->block_n, 32, 1024))
    return fg_fail(FG_BAD_PLAN,
                   "plan.block_m * plan.block_n is %d; level naive has a thread for each: a multiple of 32 from 32 to 1024",
                   plan->block_m * plan->block_n);
  if (plan->stages < (limits->stages ? 2 : 0) || plan->stages > limits->most_stages)
    return fg_fail(FG_BAD_PLAN, "plan.stages is %d; level %s takes %s%d", plan->stages, limits->name,
                   limits->stages ? "from 2 to " : "", limits->most_stages);
  if (plan->split_k != 1) return fg_fail(FG_BAD_PLAN, "plan.split_k is %d; this level sums K in one range", plan->split_k);
  if (plan->cluster < 1 || plan->cluster > MOST_OF_A_CLUSTER || (plan->cluster > 1 && strncmp(gpu->arch, "sm_90", 5) != 0))
    return fg_fail(FG_BAD_PLAN, "plan.cluster is %d; it must be 1, or up to %d on sm_90a", plan->cluster, MOST_OF_A_CLUSTER);
  if (plan->cluster > limits->most_cluster || (limits->is_for_hopper && plan->cluster == 3))
    return fg_fail(FG_BAD_PLAN, "plan.cluster is %d; level %s takes %s", plan->cluster, limits->name,
                   limits->most_cluster == 1 ? "1" : "1, 2 or 4");
  if (plan->blocks < 0) return fg_fail(FG_BAD_PLAN, "plan.blocks is %d; it must be 0 (as many as tiles) or more", plan->blocks);
  if (full->sm_limit > 0 && plan->blocks > full->sm_limit)
    return fg_fail(FG_BAD_PLAN, "plan.blocks is %d, more than sm_limit = %d", plan->blocks, full->sm_limit);
  return FG_OK;
}

/* Threads of a block. */
static int threads_of(const fg_plan *plan) {
  enum { WARPGROUP = 128, SHARED = 256 };
  int consumers = plan->block_m / 64;
  return plan->level == FG_NAIVE    ? plan->block_m * plan->block_n
         : plan->level == FG_SHARED ? SHARED
         : plan->level <= FG_TMA    ? consumers * WARPGROUP
                                    : (consumers + 1) * WARPGROUP;
}

fg_status fg_plan_full(const fg_gpu *gpu, const fg_problem *full, fg_plan *plan) {
  const struct limits *limits = limits_of((int)full->level);
  const fg_plan none = {0}, *wish = full->plan ? full->plan : &none;
  bool is_low = limits->is_for_hopper && full->m <= 64; /* one warpgroup has all rows */
  fg_plan made = {.level = wish->level ? wish->level : full->level,
                  .block_m = wish->block_m ? wish->block_m
                             : is_low      ? 64
                                           : limits->block_m,
                  .block_n = wish->block_n ? wish->block_n : limits->block_n,
                  .stages = wish->stages ? wish->stages : limits->stages,
                  .split_k = wish->split_k ? wish->split_k : full->split_k,
                  .cluster = wish->cluster                                ? wish->cluster
                             : full->level == FG_CLUSTER && full->m > 128 ? 2
                                                                          : 1,
                  .blocks = wish->blocks};
  fg_status status = check(gpu, limits, &made, full);
  if (status != FG_OK) return status;
  made.threads = threads_of(&made);
  made.shared_bytes = shared_bytes_of(&made);
  made.tiles = tiles_of(&made, full);
  if (made.tiles > INT_MAX)
    return fg_fail(FG_UNSUPPORTED, "d has more than 2^31 - 1 tiles of %d x %d, which this level cannot count", made.block_m,
                   made.block_n);
  if (limits->is_for_hopper) status = check_hopper(gpu, limits, &made, full);
  if (status != FG_OK) return status;
  if (wish->threads && wish->threads != made.threads)
    return fg_fail(FG_BAD_PLAN, "plan.threads is %d; with these tiles it must be 0 or %d", wish->threads, made.threads);
  if (wish->shared_bytes && wish->shared_bytes != made.shared_bytes)
    return fg_fail(FG_BAD_PLAN, "plan.shared_bytes is %d; with these tiles and stages it must be 0 or %d", wish->shared_bytes,
                   made.shared_bytes);
  if (wish->tiles && wish->tiles != made.tiles)
    return fg_fail(FG_BAD_PLAN, "plan.tiles is %" PRId64 "; for this problem it must be 0 or %" PRId64, wish->tiles, made.tiles);
  /* A block on each multiprocessor, to begin with: so few blocks never come to lie on more. */
  int64_t most = full->sm_limit == 0 && !limits->fills_once ? INT_MAX
                 : full->sm_limit == 0                      ? gpu->sms
                 : full->sm_limit < gpu->sms                ? full->sm_limit
                                                            : gpu->sms;
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
                               .kind = full->kind == FG_BATCHED ? FG_DENSE : (int)full->kind,
                               .shared_bytes = plan->shared_bytes,
                               .stages = plan->stages,
                               .cluster = plan->level >= FG_PERSISTENT ? plan->cluster : 0};
}

const char *fg_kernel_source(int level) {
  const struct limits *limits = limits_of(level);
  return limits ? limits->source : NULL;
}

const char *fg_kernel_name(int level) {
  const struct limits *limits = limits_of(level);
  return limits ? limits->name : NULL;
}

struct fg_kernel_defines fg_kernel_defines_of(const struct fg_kernel_id *id) {
  struct fg_kernel_defines defines = {0};
  const struct {
    const char *name;
    int value;
    bool is_there;
  } all[FG_MOST_KERNEL_DEFINES] = {{"BLOCK_M", id->block_m, true},
                                   {"BLOCK_N", id->block_n, true},
                                   {"A_IS_E5M2", id->a_is_e5m2, true},
                                   {"B_IS_E5M2", id->b_is_e5m2, true},
                                   {"KIND", id->kind, true},
                                   {"SHARED_BYTES", id->shared_bytes, id->shared_bytes > 0},
                                   {"STAGES", id->stages, id->stages > 0},
                                   {"CLUSTER", id->cluster, id->cluster > 0}};
  for (int i = 0; i < FG_MOST_KERNEL_DEFINES; i++)
    if (all[i].is_there) snprintf(defines.text[defines.count++], FG_DEFINE_BYTES, "%s=%d", all[i].name, all[i].value);
  return defines;
}

void fg_kernel_describe(const struct fg_kernel_id *id, char *text, size_t bytes) {
  struct fg_kernel_defines defines = fg_kernel_defines_of(id);
  size_t length = 0;
  for (int i = 0; i < defines.count && length < bytes; i++)
    length += (size_t)snprintf(text + length, bytes - length, "%s%s", i ? " " : "", defines.text[i]);
}
