/* For few rows of A: B's bytes are what takes time, so every multiprocessor shall fetch its share of them from the first microsecond on.
 *
 * The operands are swapped: 64 rows of B are the tensor core's rows and BLOCK_M rows of A its columns, so that few of them cost little.
 * K is split into ranges, one for each block of a cluster, where D has too few tiles for all multiprocessors. Each block of the cluster
 * then finishes a piece of the tile's rows: the others send it their sums of them, and it adds them in the order of the ranges.
 *
 * The plan's constants arrive as definitions: a tile is at most BLOCK_M x BLOCK_N, STAGES, CLUSTER; 0 or 1 are A_IS_E5M2, B_IS_E5M2, B_1X128 (each
 * row of B has scales of its own, not 128 of them together) and SCALES_BY_TMA (the copy engine brings the scales of rows). D_TYPE is
 * D's type, BF16 or FP16, where store_four() will do; 0 where D and what is added may be anything. */
#define WGMMA_A_IS_E5M2 B_IS_E5M2
#define WGMMA_B_IS_E5M2 A_IS_E5M2
/* Parts of a tile's rows, one after the other, where registers have no room for all products at once. */
#define PARTS (BLOCK_M * BLOCK_N > 128 * 128 ? 2 : 1)
#define WGMMA_N (BLOCK_M / PARTS)
#include "bulk.cuh"
#include "cluster.cuh"
#include "dependent.cuh"
#include "edge.cuh"
#include "finish_four.cuh"
#include "prefetch.cuh"
#include "promote.cuh"
#include "ring.cuh"
#include "runs.cuh"
#include "scales.cuh"
#include "tma.cuh"
#include "warp.cuh"
#include "wgmma_any.cuh"

enum { ROWS = 64, WARPGROUPS = BLOCK_N / ROWS, CONSUMERS = WARPGROUPS * WARPGROUP, WARP = 32, THREADS = CONSUMERS + 2 * WARP };
enum { STAYING = CONSUMERS + (SCALES_BY_TMA ? 1 : 2) * WARP }; /* the last warp brings scales, or has nothing to do */
enum { PIECE = (BLOCK_M + CLUSTER - 1) / CLUSTER };            /* rows of D that a block of the cluster finishes, at most */
enum { RECEIVED = CLUSTER > 1 ? (CLUSTER - 1) * PIECE : 1 };   /* rows of sums that it is sent */
enum { SUMS_BYTES = ROWS * 4 };                                /* of a row */
enum { A_SCALES = (BLOCK_M + WARP - 1) / WARP * WARP, B_SCALES = B_1X128 ? BLOCK_N : 0 }; /* boxes begin at 128 bytes */
enum { INITIALISED = 1 }; /* named barriers: this, then one for each warpgroup */

struct shared {
  unsigned char b[STAGES][BLOCK_N][BLOCK_K], a[STAGES][BLOCK_M][BLOCK_K]; /* swizzled */
  float scale[STAGES][A_SCALES + B_SCALES];                               /* of the rows of A, then of those of B */
  float sums[WARPGROUPS][BLOCK_M][ROWS];       /* of this block's range: rows of D, that is, transposed */
  float received[WARPGROUPS][RECEIVED][ROWS];  /* the other blocks' sums of this one's piece, PIECE rows each */
  struct mbarrier full[STAGES], empty[STAGES]; /* of the ring */
  struct mbarrier landed[WARPGROUPS];          /* all that is sent to this block */
  struct mbarrier taken[WARPGROUPS]; /* all have added: this block's sums may be overwritten, and what the others received */
};
static_assert(sizeof(struct shared) <= SHARED_BYTES, "as the plan reckons it");

/* Where the sum of column `col` of 64 lies in row `row` of a tile: so that what a warp writes at once goes to different banks, and four
 * neighbours, from a multiple of 4 on, remain such. */
__device__ static int swizzled(int row, int col) { return col ^ row / 2 % 4 * 8; }

struct tile {
  int row, col, own_col; /* of D, where it begins; columns before own_col are others', too */
};

/* Tile `number`; false: there are not so many. Those that want the same rows of B follow each other. */
__device__ static bool find_tile(const struct fg_args &args, unsigned number, struct tile *tile) {
  unsigned rows = (args.m + BLOCK_M - 1) / BLOCK_M, cols = (args.n + BLOCK_N - 1) / BLOCK_N;
  if (number >= rows * cols) return false;
  tile->row = number % rows * args.tile_rows;
  tile->own_col = number / rows * BLOCK_N;
  tile->col = tile->own_col - back(tile->own_col, BLOCK_N, args.n, ROWS);
  return true;
}

/* Range `range` of `ranges` begins at this block of K: as even as whole blocks can be. */
__device__ static int range_begin(int range, int ranges, int blocks) {
  return blocks / ranges * range + blocks % ranges * range / ranges;
}

struct range {
  int ranges, begin, end; /* how many are not empty, and this block's blocks of K */
};

__device__ static struct range find_range(const struct fg_args &args, int rank) {
  int blocks = blocks_of(args.k), ranges = blocks < 1 ? 1 : blocks < CLUSTER ? blocks : CLUSTER;
  if (rank >= ranges) return {ranges, 0, 0};
  return {ranges, range_begin(rank, ranges, blocks), range_begin(rank + 1, ranges, blocks)};
}

/* By one thread. What lies beyond a matrix becomes zeros. */
__device__ static void produce(const struct fg_args &args, struct shared &shared, const struct range &range) {
  int bytes = (args.tile_rows + BLOCK_N) * BLOCK_K + (SCALES_BY_TMA ? (scale_rows(args.tile_rows) + B_SCALES) * 4 : 0);
  unsigned long long policy = l2_policy(true);
  struct place at = first_empty();
  struct tile tile;
  for (unsigned number = blockIdx.x / CLUSTER; find_tile(args, number, &tile); number += gridDim.x / CLUSTER)
    for (int block = range.begin; block < range.end; block++, advance(&at)) {
      struct mbarrier *full = &shared.full[at.stage];
      mbarrier_wait(&shared.empty[at.stage], at.parity);
      mbarrier_arrive_expect_tx(full, bytes);
      tma_load_by(shared.b[at.stage], &args.b_map, full, block * BLOCK_K, tile.col, 0, policy);
      tma_load(shared.a[at.stage], &args.a_map, full, block * BLOCK_K, tile.row, 0);
      if (SCALES_BY_TMA) tma_load(shared.scale[at.stage], &args.a_scale_map, full, tile.row, block, 0);
      if (SCALES_BY_TMA && B_1X128) tma_load(shared.scale[at.stage] + A_SCALES, &args.b_scale_map, full, tile.col, block, 0);
    }
}

/* By a warp, where the copy engine cannot bring scales. */
__device__ static void copy_scales(const struct fg_args &args, struct shared &shared, const struct range &range) {
  struct place at = first_empty();
  struct tile tile;
  for (unsigned number = blockIdx.x / CLUSTER; find_tile(args, number, &tile); number += gridDim.x / CLUSTER)
    for (int block = range.begin; block < range.end; block++, advance(&at)) {
      mbarrier_wait(&shared.empty[at.stage], at.parity);
      fetch_scales(shared.scale[at.stage], args.a_scale, BLOCK_M, tile.row, args.m, block);
      if (B_1X128) fetch_scales(shared.scale[at.stage] + A_SCALES, args.b_scale, BLOCK_N, tile.col, args.n, block);
      mbarrier_arrive_when_copied(&shared.full[at.stage]);
    }
}

/* Four products from zero, chained. */
__device__ static void multiply(float (&dot)[WGMMA_N / 2], unsigned long long a, unsigned long long b) {
  wgmma_fence();
  for (int k = 0; k < BLOCK_K; k += 32) wgmma_mma(dot, a + k / 16, b + k / 16, k != 0);
  wgmma_commit();
}

/* The scales of B's rows from `row` on, 32 blocks from `block` on: one for each thread of the warp. */
__device__ static float load_b_scales(const struct fg_args &args, int row, int block, int end) {
  block += threadIdx.x % WARP;
  return !B_1X128 && row < args.n && block < end ? scale_at(args.b_scale, 0, row, block) : 0;
}

/* A range of K, for B's rows from `row` on. sum[4 i + 2 lower + j] is of B's row row_of_thread() + 8 lower, and of A's 8 i + t % 4 * 2 + j. */
__device__ static void add_range(const struct fg_args &args, struct shared &shared, const struct range &range, int warpgroup,
                                 int row, struct place *at, float (&sum)[BLOCK_M / 2]) {
  unsigned long long a = wgmma_descriptor(shared.a[0], BLOCK_K), b = wgmma_descriptor(shared.b[0] + warpgroup * ROWS, BLOCK_K);
  float b_scales = 0, next_b_scales = load_b_scales(args, row, range.begin, range.end);
  FG_UNROLL(1)
  for (int block = range.begin; block < range.end; block++, advance(at)) {
    int turn = (block - range.begin) % WARP;
    if (turn == 0) b_scales = next_b_scales, next_b_scales = load_b_scales(args, row, block + WARP, range.end);
    float b_scale = B_1X128 ? 0 : __shfl_sync(0xFFFFFFFF, b_scales, turn);
    mbarrier_wait(&shared.full[at->stage], at->parity);
    for (int part = 0; part < PARTS; part++) {
      float dot[WGMMA_N / 2], scale[WGMMA_N / 4];
      multiply(dot, b + at->stage * (sizeof shared.b[0] / 16),
               a + at->stage * (sizeof shared.a[0] / 16) + part * (WGMMA_N * BLOCK_K / 16));
      for (int i = 0; i < WGMMA_N / 4; i += 2) {
        float2 a_scale = *(const float2 *)&shared.scale[at->stage][part * WGMMA_N + i * 4 + threadIdx.x % 4 * 2];
        scale[i] = B_1X128 ? a_scale.x : __fmul_rn(a_scale.x, b_scale);
        scale[i + 1] = B_1X128 ? a_scale.y : __fmul_rn(a_scale.y, b_scale);
      }
      const float *b_rows = shared.scale[at->stage] + A_SCALES + warpgroup * ROWS + row_of_thread(threadIdx.x % WARPGROUP);
      float upper = B_1X128 ? b_rows[0] : 1, lower = B_1X128 ? b_rows[8] : 1;
      wgmma_wait(0);
      wgmma_hold(dot);
      __syncwarp();
      if (part == PARTS - 1 && threadIdx.x % WARP == 0) mbarrier_arrive(&shared.empty[at->stage]);
      for (int i = 0; i < WGMMA_N / 2; i++) {
        float factor = scale[i / 4 * 2 + i % 2], &total = sum[part * (WGMMA_N / 2) + i];
        if (B_1X128) factor = __fmul_rn(factor, i / 2 % 2 ? lower : upper);
        total = __fmaf_rn(factor, dot[i], total);
      }
    }
  }
}

/* Warpgroup `warpgroup` of the consumers. */
__device__ static void consume(const struct fg_args &args, struct shared &shared, const struct range &range, int rank,
                               int warpgroup) {
  int thread = threadIdx.x % WARPGROUP, barrier = INITIALISED + 1 + warpgroup;
  bool aligned_fours = has_aligned_fours(args);
  float(*sums)[ROWS] = shared.sums[warpgroup], (*received)[ROWS] = shared.received[warpgroup];
  struct mbarrier *landed = &shared.landed[warpgroup], *taken = &shared.taken[warpgroup];
  struct place at = {0, 0};
  struct tile tile;
  unsigned parity = 0;
  for (unsigned number = blockIdx.x / CLUSTER; find_tile(args, number, &tile); number += gridDim.x / CLUSTER, parity ^= 1) {
    int height = args.m - tile.row < args.tile_rows ? args.m - tile.row : args.tile_rows, row = tile.col + warpgroup * ROWS;
    int first = height * rank / CLUSTER, last = height * (rank + 1) / CLUSTER; /* its piece */
    float sum[BLOCK_M / 2] = {};
    add_range(args, shared, range, warpgroup, row, &at, sum);

    if (CLUSTER > 1 && number < gridDim.x / CLUSTER) cluster_wait(); /* all blocks have begun */
    mbarrier_wait_cluster(taken, parity ^ 1);
    for (int i = 0; i < BLOCK_M / 2; i++) {
      int line = i / 4 * 8 + thread % 4 * 2 + i % 2;
      sums[line][swizzled(line, row_of_thread(thread) + i % 4 / 2 * 8)] = sum[i];
    }
    if (CLUSTER > 1) fence_proxy_async();
    named_barrier_sync(barrier, WARPGROUP);
    if (CLUSTER > 1) {
      int senders = range.ranges - (rank < range.ranges), begin = height * thread / CLUSTER,
          end = height * (thread + 1) / CLUSTER;
      if (thread == rank) mbarrier_arrive_expect_tx(landed, senders * (last - first) * SUMS_BYTES);
      if (thread < CLUSTER && thread != rank && rank < range.ranges && begin < end)
        bulk_send(received[(rank - (rank > thread)) * PIECE], thread, sums[begin], (end - begin) * SUMS_BYTES, landed);
      mbarrier_wait(landed, parity);
    }
    FG_UNROLL(2)
    for (int i = thread; i < (row < tile.own_col ? 0 : last - first) * ROWS / 4; i += WARPGROUP) {
      int line = i / (ROWS / 4), col = i % (ROWS / 4) * 4, lies_at = swizzled(first + line, col);
      float4 total = {};
      for (int part = 0; part < CLUSTER; part++) {
        if (part >= range.ranges) break;
        float4 next = *(const float4 *)(part == rank ? &sums[first + line][lies_at]
                                                     : &received[(part - (part > rank)) * PIECE + line][lies_at]);
        total = part == 0 ? next
                          : make_float4(__fadd_rn(total.x, next.x), __fadd_rn(total.y, next.y), __fadd_rn(total.z, next.z),
                                        __fadd_rn(total.w, next.w));
      }
      if (D_TYPE)
        store_four(args, tile.row + first + line, row + col, total);
      else
        finish_four(args, tile.row + first + line, row + col, total, aligned_fours);
    }
    __syncwarp();
    if (thread % WARP < CLUSTER) mbarrier_arrive_cluster(taken, thread % WARP);
  }
  mbarrier_wait_cluster(taken, parity ^ 1); /* nobody leaves before what it sent has left */
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) swapped(const __grid_constant__ struct fg_args args) {
  FG_SHARED(struct shared, shared);
  int warpgroup = warpgroup_index(), rank = CLUSTER > 1 ? cluster_rank() : 0;
  struct range range = find_range(args, rank);
  if (threadIdx.x >= STAYING) return;
  if (warpgroup == WARPGROUPS && threadIdx.x < CONSUMERS + WARP) { /* the warp that fetches: it waits for none of the others */
    if (elect_one()) {
      for (int stage = 0; stage < STAGES; stage++) {
        mbarrier_init(&shared.full[stage], SCALES_BY_TMA ? 1 : 1 + WARP);
        mbarrier_init(&shared.empty[stage], WARPGROUPS * WARPGROUP / WARP);
      }
      for (int i = 0; i < WARPGROUPS; i++) {
        mbarrier_init(&shared.landed[i], 1);
        mbarrier_init(&shared.taken[i], CLUSTER * WARPGROUP / WARP);
      }
      fence_mbarrier_init();
    }
    __syncwarp();
    named_barrier_arrive(INITIALISED, STAYING);
    if (CLUSTER > 1) cluster_arrive_relaxed();
    wait_for_the_launch_before();
    if (elect_one()) produce(args, shared, range);
  } else {
    struct tile tile;
    if (warpgroup < WARPGROUPS) {
      if (range.begin < range.end && find_tile(args, blockIdx.x / CLUSTER, &tile))
        prefetch_rows(args.b, tile.col, BLOCK_N, args.n, range.begin * BLOCK_K, threadIdx.x, CONSUMERS);
      clear_rows(shared.a, shared.scale[0], A_SCALES + B_SCALES, args.tile_rows, BLOCK_M, threadIdx.x, CONSUMERS);
    }
    named_barrier_sync(INITIALISED, STAYING);
    if (CLUSTER > 1) cluster_arrive_relaxed();
    wait_for_the_launch_before();
    if (warpgroup == WARPGROUPS)
      copy_scales(args, shared, range);
    else
      consume(args, shared, range, rank, warpgroup);
  }
}
