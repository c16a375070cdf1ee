#include "plan.h"

#include "choose.h"
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

static int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

int fg_plan_shares_a(const fg_plan *plan) {
  return plan->order == FG_A_BY_B && plan->block_m >= plan->block_n ? plan->cluster : 1;
}

int fg_plan_shares_b(const fg_plan *plan) {
  return plan->level == FG_CLUSTER || (plan->order == FG_A_BY_B && plan->block_m < plan->block_n) ? plan->cluster : 1;
}

int fg_plan_tile_rows(const fg_plan *plan, int64_t m) {
  if (plan->level != FG_FULL || m == 0) return plan->block_m;
  int64_t tiles = round_up(round_up(m, plan->block_m) / plan->block_m, fg_plan_shares_b(plan));
  int step = 8; /* as many are swizzled together */
  if (plan->order == FG_A_BY_B)
    step = tiles > 1 || fg_plan_shares_a(plan) > 1 ? 16 : 1; /* stored, or swizzled for each of two blocks */
  return (int)round_up(round_up(m, tiles) / tiles, step);
}

static int64_t tiles_of(const fg_plan *plan, const fg_problem *full) {
  int64_t matrices = full->kind == FG_GROUPED_ROWS ? 1 : full->groups;
  int64_t rows = round_up(full->m, plan->block_m) / plan->block_m, cols = round_up(full->n, plan->block_n) / plan->block_n, tiles;
  rows = round_up(rows, fg_plan_shares_b(plan));
  cols = round_up(cols, fg_plan_shares_a(plan));
  if (__builtin_mul_overflow(rows, cols, &tiles) || __builtin_mul_overflow(tiles, matrices, &tiles)) return INT64_MAX;
  return tiles;
}

/* What a kernel admits, and takes where nothing is wished. */
struct limits {
  fg_level level;
  fg_order order;
  const char *source, *kernel;
  int step_m, most_m, step_n, most_n; /* of a tile, whose sides are multiples of the steps */
  int block_m, block_n, stages;       /* where nothing is wished; stages 0: the kernel has no ring */
  int most_stages, most_cluster;
  bool loops;         /* a block takes tile after tile: any number of blocks will do */
  bool is_persistent; /* and so many are launched, where nothing is wished, as there are multiprocessors */
};

static const struct limits all_limits[] = {
    {FG_NAIVE, 0, "lessons/04_naive.cu", "naive", 1, 1024, 1, 1024, 16, 16, 0, 0, MOST_OF_A_CLUSTER, true, false},
    {FG_SHARED, 0, "lessons/05_shared.cu", "shared", 16, 64, 16, 64, 64, 64, 0, 0, MOST_OF_A_CLUSTER, true, false},
    {FG_WGMMA, 0, "lessons/06_wgmma.cu", "wgmma", 64, 128, 8, 128, 128, 128, 0, 0, 1, false, false},
    {FG_TMA, 0, "lessons/07_tma.cu", "tma", 64, 128, 8, 128, 64, 128, 0, 0, 1, false, false},
    {FG_PIPELINE, 0, "lessons/08_pipeline.cu", "pipeline", 64, 128, 8, 128, 128, 128, 4, 8, 1, false, false},
    {FG_PERSISTENT, 0, "lessons/09_persistent.cu", "persistent", 64, 128, 8, 128, 128, 128, 4, 8, 1, true, true},
    {FG_CLUSTER, 0, "lessons/10_cluster.cu", "cluster", 64, 128, 64, 128, 128, 128, 4, 8, 4, true, true},
    {FG_FULL, FG_A_BY_B, "gpu/kernels/full.cu", "full", 64, 256, 16, 192, 256, 128, 16, 16, 2, true, true},
    {FG_FULL, FG_B_BY_A, "gpu/kernels/swapped.cu", "swapped", 8, 128, 64, 256, 64, 128, 24, 24, MOST_OF_A_CLUSTER, true, true},
};

/* A level of more than one kernel wants an order. */
static const struct limits *limits_of(int level, int order) {
  for (size_t i = 0; i < sizeof all_limits / sizeof *all_limits; i++)
    if ((int)all_limits[i].level == level && (int)all_limits[i].order == order) return &all_limits[i];
  return NULL;
}

static const char *level_name(const struct limits *limits) { return limits->level == FG_FULL ? "full" : limits->kernel; }

static bool has_tensor_cores(fg_level level) { return level >= FG_WGMMA; }

static int larger(int x, int y) { return x > y ? x : y; }

static bool is_scaled_by_rows(const fg_operand *b) { return b->scaling == FG_1X128; }

enum { WARPGROUP = 128, WARP = 32, WARPGROUP_ROWS = 64 };

/* Warpgroups that multiply: of a tile with 256 rows, each has 64 twice. */
static int consumers_of(const fg_plan *plan) {
  if (plan->order == FG_B_BY_A) return plan->block_n / WARPGROUP_ROWS;
  return plan->block_m / WARPGROUP_ROWS / (plan->order == FG_A_BY_B && plan->block_m == 256 ? 2 : 1);
}

int fg_plan_stored_cols(const fg_plan *plan) { return plan->block_n % 64 == 0 ? 64 : plan->block_n % 32 == 0 ? 32 : 16; }

/* Of a block of FG_FULL, as its kernel's struct, which has room for D in 16 bits on its way out, in whole KiB for 16 rows. */
static int full_bytes_of(const fg_plan *plan, const fg_problem *full) {
  enum { BLOCK_K = 128, BARRIER_BYTES = 8, ROWS_OF_A_WARP = 16, KIB = 1024, SUMS_BYTES = WARPGROUP_ROWS * 4 };
  int m = plan->block_m, n = plan->block_n, scales = (int)round_up(m, WARP);
  int b_scales = is_scaled_by_rows(&full->b) ? (int)round_up(n, WARP) : plan->order == FG_A_BY_B ? 4 : 0;
  int ring = plan->stages * ((m + n) * BLOCK_K + (scales + b_scales) * (int)sizeof(float) + 2 * BARRIER_BYTES);
  if (plan->order == FG_A_BY_B)
    return ring + m / ROWS_OF_A_WARP * (int)round_up(larger(ROWS_OF_A_WARP * n * 2, 2 * KIB), KIB) +
           consumers_of(plan) * 2 * BARRIER_BYTES;
  int piece = (m + plan->cluster - 1) / plan->cluster, received = plan->cluster > 1 ? (plan->cluster - 1) * piece : 1;
  return ring + consumers_of(plan) * ((m + received) * SUMS_BYTES + 2 * BARRIER_BYTES) + BARRIER_BYTES;
}

/* As much as the kernel's struct or union `shared` has, which the kernel itself asserts, in whole KiB. */
static int shared_bytes_of(const fg_plan *plan, const fg_problem *full) {
  enum { SLICE = 36, GAP = 8, BLOCK_K = 128, BARRIERS_BYTES = 2 * 8, KIB = 1024 };
  int m = plan->block_m, n = plan->block_n, bytes = 0;
  int tiles = (m + n) * BLOCK_K, others = m * (int)sizeof(float) + BARRIERS_BYTES; /* of a stage: A and B; scales and barriers */
  int sums = m * n * (int)sizeof(float), apart = m * (n + GAP) * (int)sizeof(float);
  if (plan->level == FG_SHARED) bytes = larger((m + n) * (SLICE + 1) * (int)sizeof(float), sums);
  if (plan->level == FG_WGMMA) bytes = larger(tiles, apart);
  if (plan->level == FG_TMA) bytes = larger(tiles, apart) + others;
  if (plan->level == FG_PIPELINE) bytes = larger(plan->stages * tiles, apart) + plan->stages * others;
  if (plan->level == FG_PERSISTENT) bytes = plan->stages * (tiles + others) + apart;
  if (plan->level == FG_CLUSTER) bytes = plan->stages * (tiles + others) + sums;
  if (plan->level == FG_FULL) bytes = full_bytes_of(plan, full);
  return (bytes + KIB - 1) / KIB * KIB;
}

static bool is_tile(int size, int multiple, int most) { return size >= multiple && size <= most && size % multiple == 0; }

/* What the tensor cores' levels serve, whatever the plan. */
static fg_status check_served(const fg_gpu *gpu, const struct limits *limits, const fg_problem *full) {
  enum {
    MOST = INT_MAX - 1023
  }; /* where a tile ends that begins within a matrix, or a cluster's last one, 31 bits still hold it */
  const char *name = level_name(limits);
  bool is_a = full->a.scaling != FG_1X128, is_full = limits->level == FG_FULL;
  if (!has_tensor_cores(limits->level)) return FG_OK;
  if (strncmp(gpu->arch, "sm_90a", sizeof gpu->arch) != 0)
    return fg_fail(FG_UNSUPPORTED, "level is %s, which needs a Hopper GPU (sm_90a); gpu is %.63s (%.15s)", name, gpu->name,
                   gpu->arch);
  if (full->kind != FG_DENSE)
    return fg_fail(FG_UNSUPPORTED, "kind is %d; level %s multiplies dense problems, kind %d", (int)full->kind, name, FG_DENSE);
  if (is_a || (full->b.scaling != FG_128X128 && !(is_full && is_scaled_by_rows(&full->b))))
    return fg_fail(FG_UNSUPPORTED, "%s.scaling is %d; level %s takes scales 1x128 of a, %d, and 128x128%s of b, %d%s",
                   is_a ? "a" : "b", (int)(is_a ? full->a.scaling : full->b.scaling), name, FG_1X128, is_full ? " or 1x128" : "",
                   FG_128X128, is_full ? " or 1" : "");
  if (full->split_k > MOST_OF_A_CLUSTER)
    return fg_fail(FG_UNSUPPORTED, "split_k is %d; level full sums K in at most %d ranges", full->split_k, MOST_OF_A_CLUSTER);
  if (full->k % 16 != 0 && !is_full)
    return fg_fail(FG_UNSUPPORTED, "k is %" PRId64 "; level %s takes multiples of 16", full->k, name);
  if (full->m > MOST || full->n > MOST || full->k > MOST)
    return fg_fail(FG_UNSUPPORTED, "m is %" PRId64 ", n %" PRId64 " and k %" PRId64 "; level %s takes at most %d of each",
                   full->m, full->n, full->k, name, MOST);
  if (full->sm_limit > 0 && !limits->loops)
    return fg_fail(FG_UNSUPPORTED, "sm_limit is %d; level %s has a block for each tile and takes no limit", full->sm_limit, name);
  return FG_OK;
}

static fg_status check_cluster(const fg_gpu *gpu, const struct limits *limits, const fg_plan *plan) {
  int cluster = plan->cluster;
  if (cluster < 1 || cluster > MOST_OF_A_CLUSTER || (cluster > 1 && strncmp(gpu->arch, "sm_90", 5) != 0))
    return fg_fail(FG_BAD_PLAN, "plan.cluster is %d; it must be 1, or up to %d on sm_90a", cluster, MOST_OF_A_CLUSTER);
  if (cluster > limits->most_cluster || (limits->level == FG_CLUSTER && cluster == 3))
    return fg_fail(FG_BAD_PLAN, "plan.cluster is %d; level %s takes %s", cluster, level_name(limits),
                   limits->most_cluster == 1   ? "1"
                   : limits->most_cluster == 2 ? "1 or 2 in this order"
                                               : "1, 2 or 4");
  return FG_OK;
}

/* Ranges of K: of FG_FULL with its operands swapped, one for each block of a cluster. */
static fg_status check_split(const fg_plan *plan, const fg_problem *full) {
  if (plan->level != FG_FULL && plan->split_k != 1)
    return fg_fail(FG_BAD_PLAN, "plan.split_k is %d; this level sums K in one range", plan->split_k);
  if (plan->level != FG_FULL) return FG_OK;
  bool is_fixed = full->split_k > 0 || full->flags & FG_NO_SPLIT_K;
  int fixed = full->split_k > 0 ? full->split_k : 1;
  if (is_fixed && plan->split_k != fixed)
    return fg_fail(FG_BAD_PLAN, "plan.split_k is %d, but the problem's split_k and flags want %d", plan->split_k, fixed);
  if (plan->order == FG_A_BY_B && plan->split_k != 1)
    return fg_fail(FG_BAD_PLAN, "plan.split_k is %d; plan.order %d sums K in one range", plan->split_k, FG_A_BY_B);
  if (plan->order == FG_B_BY_A && plan->split_k != plan->cluster)
    return fg_fail(FG_BAD_PLAN,
                   "plan.cluster is %d and plan.split_k %d; plan.order %d has a range of K for each block of a cluster",
                   plan->cluster, plan->split_k, FG_B_BY_A);
  return FG_OK;
}

/* What the level's kernel and the GPU admit of what may be wished. */
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
  if (has_tensor_cores(plan->level) && plan->level != FG_FULL && 128 % plan->block_n != 0)
    return fg_fail(FG_BAD_PLAN, "plan.block_n is %d; it must divide 128: level %s has one scale of b for a tile", plan->block_n,
                   level_name(limits));
  if (plan->order == FG_A_BY_B &&
      (plan->block_m == 192 || (plan->block_m == 256 && (plan->block_n > 128 || plan->block_n % 32 != 0))))
    return fg_fail(FG_BAD_PLAN,
                   "plan.block_m is %d, plan.block_n %d; level full's tiles are 64, 128 or 256 high, 256 with 32, 64, 96 or 128",
                   plan->block_m, plan->block_n);
  int products = plan->block_m * plan->block_n; /* with swapped operands a tile of many is multiplied in two halves of its rows */
  if (plan->order == FG_B_BY_A && (products > 128 * 192 || (products > 128 * 128 && plan->block_m % 16 != 0)))
    return fg_fail(
        FG_BAD_PLAN,
        "plan.block_m is %d, plan.block_n %d; with swapped operands a tile has at most 128 * 192 elements, and if more "
        "than 128 * 128, a multiple of 16 rows",
        plan->block_m, plan->block_n);
  fg_status status = check_cluster(gpu, limits, plan); /* first: without one no stages are chosen */
  if (status != FG_OK) return status;
  if (plan->stages < (limits->stages ? 2 : 0) || plan->stages > limits->most_stages)
    return fg_fail(FG_BAD_PLAN, "plan.stages is %d; level %s takes %s%d", plan->stages, level_name(limits),
                   limits->stages ? "from 2 to " : "", limits->most_stages);
  if (plan->blocks < 0) return fg_fail(FG_BAD_PLAN, "plan.blocks is %d; it must be 0 (as many as tiles) or more", plan->blocks);
  if (full->sm_limit > 0 && plan->blocks > full->sm_limit)
    return fg_fail(FG_BAD_PLAN, "plan.blocks is %d, more than sm_limit = %d", plan->blocks, full->sm_limit);
  return check_split(plan, full);
}

/* Threads of a block: where there is a ring, a warpgroup fetches, or two warps. */
static int threads_of(const fg_plan *plan) {
  enum { SHARED = 256 };
  if (plan->level == FG_NAIVE) return plan->block_m * plan->block_n;
  if (plan->level == FG_SHARED) return SHARED;
  if (plan->order == FG_B_BY_A) return consumers_of(plan) * WARPGROUP + 2 * WARP;
  return (consumers_of(plan) + (plan->level >= FG_PIPELINE)) * WARPGROUP;
}

/* What follows from the rest, against what the GPU has and what was wished. */
static fg_status check_derived(const fg_gpu *gpu, const struct limits *limits, const fg_plan *plan, const fg_plan *wish) {
  if (plan->tiles > INT_MAX)
    return fg_fail(FG_UNSUPPORTED, "d has more than 2^31 - 1 tiles of %d x %d, which this level cannot count", plan->block_m,
                   plan->block_n);
  if (has_tensor_cores(plan->level) && plan->shared_bytes > gpu->shared_bytes)
    return fg_fail(FG_BAD_PLAN, "plan.stages is %d; with tiles of %d x %d a block needs %d bytes of shared memory, and has %d",
                   plan->stages, plan->block_m, plan->block_n, plan->shared_bytes, gpu->shared_bytes);
  if (!limits->loops && plan->blocks != 0 && plan->blocks != plan->tiles)
    return fg_fail(FG_BAD_PLAN, "plan.blocks is %d; level %s has a block for each tile, so it must be 0 or %" PRId64,
                   plan->blocks, level_name(limits), plan->tiles);
  if (wish->threads && wish->threads != plan->threads)
    return fg_fail(FG_BAD_PLAN, "plan.threads is %d; with these tiles it must be 0 or %d", wish->threads, plan->threads);
  if (wish->shared_bytes && wish->shared_bytes != plan->shared_bytes)
    return fg_fail(FG_BAD_PLAN, "plan.shared_bytes is %d; with these tiles and stages it must be 0 or %d", wish->shared_bytes,
                   plan->shared_bytes);
  if (wish->tiles && wish->tiles != plan->tiles)
    return fg_fail(FG_BAD_PLAN, "plan.tiles is %" PRId64 "; for this problem it must be 0 or %" PRId64, wish->tiles, plan->tiles);
  return FG_OK;
}

/* Blocks that may be launched where nothing is wished. A block on each multiprocessor, to begin with: so few never come to lie on more. */
static int most_blocks(const fg_gpu *gpu, const struct limits *limits, const fg_problem *full) {
  if (full->sm_limit == 0) return limits->is_persistent ? gpu->sms : INT_MAX;
  return full->sm_limit < gpu->sms ? full->sm_limit : gpu->sms;
}

/* Whole clusters, of which some blocks may find no tile. */
static fg_status choose_blocks(fg_plan *plan, int most) {
  if (plan->blocks == 0) {
    int64_t clusters = plan->order == FG_B_BY_A ? plan->tiles : round_up(plan->tiles, plan->cluster) / plan->cluster;
    int at_once = plan->level == FG_FULL ? fg_clusters_at_once(most, plan->cluster) : most / plan->cluster;
    if (clusters > at_once) clusters = at_once;
    if (clusters == 0 && plan->tiles > 0)
      return fg_fail(FG_BAD_PLAN, "plan.cluster is %d, more than the %d multiprocessors that it may use", plan->cluster, most);
    plan->blocks = (int)(clusters * plan->cluster);
  }
  if (plan->blocks % plan->cluster != 0)
    return fg_fail(FG_BAD_PLAN, "plan.blocks is %d, which clusters of plan.cluster = %d do not fill", plan->blocks,
                   plan->cluster);
  return FG_OK;
}

/* Where nothing is wished: two blocks share B where there are rows for two, and nothing else stands against it. */
static int own_cluster(const fg_plan *plan, const fg_problem *full, int most) {
  return plan->level == FG_CLUSTER && full->m > plan->block_m && most > 1 && plan->blocks % 2 == 0 ? 2 : 1;
}

/* As many as there is room for; but where B comes from memory, what is on its way makes each other wait: 14.7 MB took an H100 10.9 us with
 * 48 KiB of B a multiprocessor and 11.9 us with 192. With as much of A, which comes from the L2, that is 96; and wide tiles have four, so
 * that three are on their way while one is worked at. */
static int own_stages(const struct limits *limits, const fg_plan *plan) {
  enum { LEAST = 4, MOST_BYTES = 96 * 1024, BLOCK_K = 128 };
  int stages = MOST_BYTES / ((plan->block_m + plan->block_n) * BLOCK_K);
  return plan->order == FG_A_BY_B ? limits->stages : larger(stages, LEAST);
}

/* Of FG_FULL, what was not wished. */
static void complete_full(const fg_gpu *gpu, const struct fg_tuned *own, const fg_problem *full, fg_plan *plan) {
  fg_choose(gpu, full, own, plan);
  const struct limits *limits = limits_of(FG_FULL, (int)plan->order);
  if (plan->stages || !limits || plan->cluster < 1 || plan->cluster > MOST_OF_A_CLUSTER) return;
  if (!is_tile(plan->block_m, limits->step_m, limits->most_m) || !is_tile(plan->block_n, limits->step_n, limits->most_n)) return;
  for (plan->stages = own_stages(limits, plan); plan->stages > 2 && shared_bytes_of(plan, full) > gpu->shared_bytes;)
    plan->stages--;
}

static fg_status check_order(const fg_plan *plan) {
  if (plan->level == FG_FULL && (plan->order < FG_DEFAULT_ORDER || plan->order > FG_B_BY_A))
    return fg_fail(FG_BAD_PLAN, "plan.order is %d; it must be from %d to %d", (int)plan->order, FG_DEFAULT_ORDER, FG_B_BY_A);
  if (plan->level != FG_FULL && plan->order != FG_DEFAULT_ORDER)
    return fg_fail(FG_BAD_PLAN, "plan.order is %d; only level full has an order", (int)plan->order);
  return FG_OK;
}

/* Of a problem with a level. */
static fg_status plan_level(const fg_gpu *gpu, const struct fg_tuned *own, const fg_problem *full, fg_plan *plan) {
  const fg_plan none = {0}, *wish = full->plan ? full->plan : &none;
  fg_plan made = {.level = wish->level ? wish->level : full->level,
                  .order = wish->order,
                  .block_m = wish->block_m,
                  .block_n = wish->block_n,
                  .stages = wish->stages,
                  .split_k = wish->split_k,
                  .cluster = wish->cluster,
                  .blocks = wish->blocks};
  const struct limits *limits = limits_of((int)full->level, full->level == FG_FULL ? FG_A_BY_B : 0);
  int most = most_blocks(gpu, limits, full);
  fg_status status = check_served(gpu, limits, full);
  if (status == FG_OK) status = check_order(&made);
  if (status != FG_OK) return status;
  if (full->level == FG_FULL) {
    complete_full(gpu, own, full, &made);
    limits = limits_of(FG_FULL, (int)made.order);
  } else {
    bool is_low = has_tensor_cores(full->level) && full->m <= 64; /* one warpgroup has all rows */
    if (!made.block_m) made.block_m = is_low ? 64 : limits->block_m;
    if (!made.block_n) made.block_n = limits->block_n;
    if (!made.stages) made.stages = limits->stages;
    if (!made.split_k) made.split_k = full->split_k > 0 ? full->split_k : 1;
    if (!made.cluster) made.cluster = own_cluster(&made, full, most);
  }
  status = check(gpu, limits, &made, full);
  if (status != FG_OK) return status;
  made.threads = threads_of(&made);
  made.shared_bytes = shared_bytes_of(&made, full);
  made.tiles = tiles_of(&made, full);
  status = check_derived(gpu, limits, &made, wish);
  if (status == FG_OK) status = choose_blocks(&made, most);
  if (status == FG_OK) *plan = made;
  return status;
}

bool fg_plan_may_fall_back(const fg_problem *full) {
  return full->level == FG_BEST && full->split_k <= 1 && !(full->plan && full->plan->level);
}

fg_status fg_plan_full(const fg_gpu *gpu, const struct fg_tuned *own, const fg_problem *full, fg_plan *plan) {
  fg_problem at_level = *full;
  if (full->level == FG_BEST) at_level.level = full->plan && full->plan->level ? full->plan->level : FG_FULL;
  fg_status status = plan_level(gpu, own, &at_level, plan);
  if (status != FG_UNSUPPORTED || !fg_plan_may_fall_back(full)) return status;
  at_level.level = FG_SHARED;
  return plan_level(gpu, own, &at_level, plan);
}

static bool is_aligned(const void *data, int64_t ld_bytes) { return (uintptr_t)data % 16 == 0 && ld_bytes % 16 == 0; }

/* Whether the copy engine can fetch an operand's scales, which are one for each row, and of one block of K lie in no distance. */
static bool has_copied_scales(const fg_operand *operand, int64_t k) {
  int64_t ld_bytes = k > 128 ? operand->scale_ld * (int64_t)sizeof(float) : 0;
  return operand->scale_layout == FG_ROWS_CONTIGUOUS && is_aligned(operand->scale, ld_bytes);
}

/* D's type of 16 bits, where the copy engine can store it; 0 where it may be anything, and something may be added. */
static int stored_type(const fg_problem *full) {
  bool is_plain = full->d.type != FG_FP32 && !full->c.data && !full->bias.data;
  return is_plain && full->n % 8 == 0 && is_aligned(full->d.data, full->d.ld * 2) ? (int)full->d.type : 0;
}

struct fg_kernel_id fg_kernel_id_of(const fg_plan *plan, const fg_problem *full) {
  struct fg_kernel_id id = {.level = (int)plan->level,
                            .order = (int)plan->order,
                            .block_m = plan->block_m,
                            .block_n = plan->block_n,
                            .a_is_e5m2 = full->a.type == FG_E5M2,
                            .b_is_e5m2 = full->b.type == FG_E5M2,
                            .kind = full->kind == FG_BATCHED ? FG_DENSE : (int)full->kind,
                            .shared_bytes = plan->shared_bytes,
                            .stages = plan->stages,
                            .cluster = plan->level >= FG_PERSISTENT ? plan->cluster : 0};
  if (plan->level != FG_FULL) return id;
  id.b_is_1x128 = is_scaled_by_rows(&full->b);
  id.scales_by_tma = has_copied_scales(&full->a, full->k) && (!id.b_is_1x128 || has_copied_scales(&full->b, full->k));
  id.d_type = stored_type(full);
  return id;
}

const char *fg_kernel_source(int level, int order) {
  const struct limits *limits = limits_of(level, order);
  return limits ? limits->source : NULL;
}

const char *fg_kernel_name(int level, int order) {
  const struct limits *limits = limits_of(level, order);
  return limits ? limits->kernel : NULL;
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
                                   {"CLUSTER", id->cluster, id->cluster > 0},
                                   {"B_1X128", id->b_is_1x128, id->order > 0},
                                   {"SCALES_BY_TMA", id->scales_by_tma, id->order > 0},
                                   {"D_TYPE", id->d_type, id->order > 0}};
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
