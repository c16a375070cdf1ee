/* For many rows of A: what the ladder climbed to, and what its last step left undone. A warpgroup has twice 64 rows where BLOCK_M is 256, so
 * that fewer bytes move for as many products; where its registers hold two products, it multiplies the next block of K before it promotes
 * the last; and it multiplies the first block of a tile before the tile before leaves.
 *
 * The plan's constants arrive as definitions: a tile is BLOCK_M x BLOCK_N, STAGES, CLUSTER; what the problem has: A_IS_E5M2, B_IS_E5M2, B_1X128
 * (scales for each row of B) and SCALES_BY_TMA are 0 or 1, D_TYPE is as write.cuh says. */
#include "cluster.cuh"
#include "dependent.cuh"
#include "multiply.cuh"
#include "promote.cuh"
#include "ring.cuh"
#include "scales.cuh"
#include "tma.cuh"
#include "warp.cuh"
#include "write.cuh"

enum { PARTS = BLOCK_M == 256 ? 2 : 1, CONSUMERS = BLOCK_M / PARTS / 64, THREADS = (CONSUMERS + 1) * WARPGROUP };
enum { HAS_TWO_DOTS = BLOCK_M <= 128 && BLOCK_N <= 128 && !B_1X128 };
/* A cluster's tiles share the rows of A and lie beside each other, or those of B, and lie below: whichever are more. */
enum { SHARES_A = BLOCK_M >= BLOCK_N, A_PART = BLOCK_M / (SHARES_A ? CLUSTER : 1), B_PART = BLOCK_N / (SHARES_A ? 1 : CLUSTER) };
/* 128 rows of B have one scale: a tile's lie in at most B_SCALES such, and ALIKE, from a multiple of it on, in the same one. */
enum { ALIKE = BLOCK_N % 128 == 0 ? 128 : BLOCK_N % 64 == 0 ? 64 : BLOCK_N % 32 == 0 ? 32 : 16 };
enum { B_SCALES = (BLOCK_N + 128 - ALIKE - 1) / 128 + 1 };
enum { STRIPE = 2048 / BLOCK_M }; /* tiles, whose rows of A are used again and again while they are in the L2 */
#define PRODUCER_REGISTERS 24
#define CONSUMER_REGISTERS 240

struct shared {
  unsigned char a[STAGES][BLOCK_M][BLOCK_K], b[STAGES][BLOCK_N][BLOCK_K]; /* swizzled */
  struct turned turned[CONSUMERS * WARPGROUP / 32];                       /* D, on its way out */
  float a_scale[STAGES][BLOCK_M], b_scale[B_1X128 ? STAGES : 1][B_1X128 ? (BLOCK_N + 31) / 32 * 32 : 1];
  struct mbarrier full[STAGES], empty[STAGES];
};
static_assert(sizeof(struct shared) <= SHARED_BYTES, "as the plan reckons it");

struct tile {
  int row, col; /* of D, where it begins */
};

/* Tile `number`; false: there are not so many. The tiles of a cluster follow each other, the last perhaps beyond D. */
__device__ static bool find_tile(const struct fg_args &args, unsigned number, struct tile *tile) {
  unsigned height = BLOCK_M * (SHARES_A ? 1 : CLUSTER), width = BLOCK_N * (SHARES_A ? CLUSTER : 1);
  unsigned rows = (args.m + height - 1) / height, cols = (args.n + width - 1) / width, index = number / CLUSTER;
  unsigned stripe = index / (STRIPE * cols), within = index % (STRIPE * cols);
  unsigned high = rows - stripe * STRIPE < STRIPE ? rows - stripe * STRIPE : STRIPE;
  if (index >= rows * cols) return false;
  tile->row = (stripe * STRIPE + within % high) * height + (SHARES_A ? 0 : number % CLUSTER * BLOCK_M);
  tile->col = within / high * width + (SHARES_A ? number % CLUSTER * BLOCK_N : 0);
  return true;
}

/* A box of this block's own; or its part of what all blocks of the cluster want, for all of them. */
__device__ inline void fetch(unsigned char (*to)[BLOCK_K], const struct fg_tensor_map *map, struct mbarrier *full, int x, int y,
                             bool is_shared, int part, unsigned rank) {
  if (is_shared && CLUSTER > 1)
    tma_load_multicast(to + rank * part, map, full, x, y + rank * part, 0, (1 << CLUSTER) - 1);
  else
    tma_load(to, map, full, x, y, 0);
}

/* By one thread. What lies beyond a matrix becomes zeros. */
__device__ static void produce(const struct fg_args &args, struct shared &shared) {
  enum { SCALES_BYTES = SCALES_BY_TMA ? (BLOCK_M + (B_1X128 ? BLOCK_N : 0)) * sizeof(float) : 0 };
  struct place at = {0, 0};
  struct tile tile;
  unsigned rank = cluster_rank();
  for (unsigned number = blockIdx.x; find_tile(args, number, &tile); number += gridDim.x)
    for (int block = 0; block < blocks_of(args.k); block++, advance(&at)) {
      struct mbarrier *full = &shared.full[at.stage];
      mbarrier_wait_cluster(&shared.empty[at.stage], at.parity ^ 1);
      mbarrier_arrive_expect_tx(full, sizeof shared.a[0] + sizeof shared.b[0] + SCALES_BYTES);
      fetch(shared.a[at.stage], &args.a_map, full, block * BLOCK_K, tile.row, SHARES_A, A_PART, rank);
      fetch(shared.b[at.stage], &args.b_map, full, block * BLOCK_K, tile.col, !SHARES_A, B_PART, rank);
      if (SCALES_BY_TMA) tma_load(shared.a_scale[at.stage], &args.a_scale_map, full, tile.row, block, 0);
      if (SCALES_BY_TMA && B_1X128) tma_load(shared.b_scale[at.stage], &args.b_scale_map, full, tile.col, block, 0);
    }
}

/* By a warp, where the copy engine cannot. */
__device__ static void produce_scales(const struct fg_args &args, struct shared &shared) {
  struct place at = {0, 0};
  struct tile tile;
  for (unsigned number = blockIdx.x; find_tile(args, number, &tile); number += gridDim.x)
    for (int block = 0; block < blocks_of(args.k); block++, advance(&at)) {
      mbarrier_wait_cluster(&shared.empty[at.stage], at.parity ^ 1);
      fetch_scales(shared.a_scale[at.stage], args.a_scale, BLOCK_M, tile.row, args.m, block);
      if (B_1X128) fetch_scales(shared.b_scale[at.stage], args.b_scale, BLOCK_N, tile.col, args.n, block);
      mbarrier_arrive_when_copied(&shared.full[at.stage]);
    }
}

/* What a thread of the consumers has in hand. */
struct consumer {
  struct place at;
  unsigned long long a, b; /* descriptors of its rows, and of the tile's columns, in the first stage */
  /* B's, for the tile's columns: of 32 blocks of K, one for each thread of the warp; and of the 32 after them, or of the tile after. */
  float b_scales[B_SCALES], next_b_scales[B_SCALES];
  int row, lane; /* of the tile's rows, the first of a thread's two */
};

/* 64 rows of A by the tile's columns over a block of K: multiplied, and not yet promoted. */
struct step {
  float dot[BLOCK_N / 2], upper, lower, b_scale[B_SCALES];
  int stage;
};

/* Asks for the scales of columns from `col` on, from block `block` of `blocks` on. */
__device__ inline void load_b_scales(const struct fg_args &args, struct consumer &me, int col, int block, int blocks) {
  if (B_1X128) return;
  block += me.lane;
  FG_UNROLL(B_SCALES)
  for (int i = 0; i < B_SCALES; i++) {
    int row = (col / 128 + i) * 128, last = args.n - 1;
    me.next_b_scales[i] = block < blocks ? scale_at(args.b_scale, 0, row < last ? row : last, block) : 0;
  }
}

/* Begins the products of part `part` with the block of K in hand, whose scales are read first: what stands between two products delays
 * the second. */
__device__ inline void start(struct shared &shared, struct consumer &me, struct step &step, int part, int block) {
  step.stage = me.at.stage;
  if (part == 0) {
    FG_UNROLL(B_SCALES)
    for (int i = 0; i < B_SCALES; i++) {
      if (block % 32 == 0) me.b_scales[i] = me.next_b_scales[i];
      if (!B_1X128) step.b_scale[i] = __shfl_sync(0xFFFFFFFF, me.b_scales[i], block % 32);
    }
    mbarrier_wait(&shared.full[step.stage], me.at.parity);
  }
  step.upper = shared.a_scale[step.stage][me.row + part * 64], step.lower = shared.a_scale[step.stage][me.row + part * 64 + 8];
  multiply(step.dot, me.a + step.stage * (sizeof shared.a[0] / 16) + part * (64 * BLOCK_K / 16),
           me.b + step.stage * (sizeof shared.b[0] / 16));
}

/* The stage is read by this warp no more. */
__device__ inline void give_back(struct shared &shared, const struct consumer &me, int stage) {
  __syncwarp();
  if (me.lane < CLUSTER) mbarrier_arrive_cluster(&shared.empty[stage], me.lane);
}

/* sum += scale * dot, where a scale belongs to each row of B. */
__device__ inline void promote_rows(float (&sum)[BLOCK_N / 2], const struct step &step, const float *b_scale, int lane) {
  FG_UNROLL(BLOCK_N / 8)
  for (int i = 0; i < BLOCK_N / 2; i += 4) {
    float2 scale = *(const float2 *)&b_scale[i * 2 + lane % 4 * 2];
    sum[i] = __fmaf_rn(__fmul_rn(step.upper, scale.x), step.dot[i], sum[i]);
    sum[i + 1] = __fmaf_rn(__fmul_rn(step.upper, scale.y), step.dot[i + 1], sum[i + 1]);
    sum[i + 2] = __fmaf_rn(__fmul_rn(step.lower, scale.x), step.dot[i + 2], sum[i + 2]);
    sum[i + 3] = __fmaf_rn(__fmul_rn(step.lower, scale.y), step.dot[i + 3], sum[i + 3]);
  }
}

/* The same, where it belongs to 128, of which the first of the tile's columns is number `offset`: a constant. */
__device__ inline void promote_blocks(float (&sum)[BLOCK_N / 2], const struct step &step, int offset) {
  float upper[B_SCALES], lower[B_SCALES];
  FG_UNROLL(B_SCALES)
  for (int i = 0; i < B_SCALES; i++)
    upper[i] = __fmul_rn(step.upper, step.b_scale[i]), lower[i] = __fmul_rn(step.lower, step.b_scale[i]);
  FG_UNROLL(BLOCK_N / 2)
  for (int i = 0; i < BLOCK_N / 2; i++) {
    int which = (offset + i / 4 * 8) / 128;
    sum[i] = __fmaf_rn(i / 2 % 2 ? lower[which] : upper[which], step.dot[i], sum[i]);
  }
}

/* Waits until at most `pending` products are under way, and promotes. `is_last`: of those that read the stage. */
__device__ inline void end(struct shared &shared, const struct consumer &me, struct step &step, float (&sum)[BLOCK_N / 2],
                           int offset, int pending, bool is_last) {
  wgmma_wait(pending);
  wgmma_hold(step.dot);
  if (is_last && !B_1X128) give_back(shared, me, step.stage);
  if (B_1X128) {
    promote_rows(sum, step, shared.b_scale[B_1X128 ? step.stage : 0], me.lane);
  } else if (ALIKE == 128) {
    promote_blocks(sum, step, 0);
  } else {
    FG_UNROLL(128 / ALIKE)
    for (int i = 0; i < 128; i += ALIKE)
      if (offset == i) promote_blocks(sum, step, i);
  }
  if (is_last && B_1X128) give_back(shared, me, step.stage);
}

/* What is multiplied: a tile, and after it another. */
struct work {
  struct tile tile, next;
  bool has_next;
  int offset; /* of the tile's first column among 128 that share scales */
  int blocks; /* of K */
};

/* After block `block`, a multiple of 32, has begun: for the next 32, or the next tile. */
__device__ inline void look_ahead(const struct fg_args &args, struct consumer &me, const struct work &work, int block) {
  if (block + 32 < work.blocks)
    load_b_scales(args, me, work.tile.col, block + 32, work.blocks);
  else
    load_b_scales(args, me, work.next.col, 0, work.has_next ? work.blocks : 0);
}

/* The next block of K. */
__device__ inline void go_on(const struct fg_args &args, struct shared &shared, struct consumer &me, struct step &step,
                             const struct work &work, int block) {
  advance(&me.at);
  start(shared, me, step, 0, block);
  if (block % 32 == 0) look_ahead(args, me, work, block);
}

/* The blocks of K of which the first is under way. */
__device__ inline void add_blocks(const struct fg_args &args, struct shared &shared, struct consumer &me, struct step &first,
                                  float (&sum)[PARTS][BLOCK_N / 2], const struct work &work) {
  int block = 1, blocks = work.blocks, offset = work.offset;
  if (HAS_TWO_DOTS) {
    struct step second;
    FG_UNROLL(1)
    for (; block + 1 < blocks; block += 2) { /* one product is under way from turn to turn: the compiler follows no more */
      go_on(args, shared, me, second, work, block);
      end(shared, me, first, sum[0], offset, 1, true);
      go_on(args, shared, me, first, work, block + 1);
      end(shared, me, second, sum[0], offset, 1, true);
    }
    if (block < blocks) {
      go_on(args, shared, me, second, work, block);
      end(shared, me, first, sum[0], offset, 1, true);
      end(shared, me, second, sum[0], offset, 0, true);
    } else {
      end(shared, me, first, sum[0], offset, 0, true);
    }
  } else {
    end(shared, me, first, sum[0], offset, 0, PARTS == 1);
    if (PARTS == 2) {
      start(shared, me, first, 1, 0);
      end(shared, me, first, sum[PARTS - 1], offset, 0, true);
    }
    FG_UNROLL(1)
    for (; block < blocks; block++) {
      go_on(args, shared, me, first, work, block);
      end(shared, me, first, sum[0], offset, 0, PARTS == 1);
      if (PARTS == 1) continue;
      start(shared, me, first, 1, block);
      end(shared, me, first, sum[PARTS - 1], offset, 0, true);
    }
  }
  advance(&me.at);
}

/* The warp's rows of a tile, of which `row` is the first, to D. */
__device__ inline void write_parts(const struct fg_args &args, struct turned *turned, const float (&sum)[PARTS][BLOCK_N / 2],
                                   int row, int col, int lane) {
  FG_UNROLL(PARTS)
  for (int part = 0; part < PARTS; part++) write_rows(args, turned, sum[part], row + part * 64, col, lane);
}

/* Warpgroup `warpgroup` of the consumers, thread `thread` of it. */
__device__ static void consume(const struct fg_args &args, struct shared &shared, int warpgroup, int thread) {
  int warp = __shfl_sync(0xFFFFFFFF, thread / 32, 0), own_rows = warpgroup * PARTS * 64;
  struct consumer me = {{0, 0},
                        wgmma_descriptor(shared.a[0] + own_rows, BLOCK_K),
                        wgmma_descriptor(shared.b[0], BLOCK_K),
                        {},
                        {},
                        own_rows + row_of_thread(thread),
                        thread % 32};
  struct turned *turned = &shared.turned[warpgroup * 4 + warp];
  struct work work = {{}, {}, false, 0, (int)blocks_of(args.k)};
  struct tile last = {-1, 0};
  float sum[PARTS][BLOCK_N / 2];
  unsigned number = blockIdx.x;
  bool is_there = find_tile(args, number, &work.tile);
  load_b_scales(args, me, work.tile.col, 0, is_there ? work.blocks : 0);
  for (; is_there; is_there = work.has_next, work.tile = work.next) {
    struct step first;
    work.offset = __shfl_sync(0xFFFFFFFF, work.tile.col % 128, 0); /* so that the compiler knows that threads have the same */
    start(shared, me, first, 0, 0);
    work.has_next = find_tile(args, number += gridDim.x, &work.next);
    look_ahead(args, me, work, 0);
    if (D_TYPE && last.row >= 0) write_parts(args, turned, sum, last.row, last.col, me.lane);
    last = {work.tile.row + own_rows + warp * 16, work.tile.col};
    FG_UNROLL(PARTS * BLOCK_N / 2)
    for (int i = 0; i < PARTS * BLOCK_N / 2; i++) sum[i / (BLOCK_N / 2)][i % (BLOCK_N / 2)] = 0;
    add_blocks(args, shared, me, first, sum, work);
    if (!D_TYPE) write_parts(args, turned, sum, last.row, last.col, me.lane);
  }
  if (D_TYPE && last.row >= 0) write_parts(args, turned, sum, last.row, last.col, me.lane);
}

/* D where there is no K. */
__device__ static void write_zeros(const struct fg_args &args) {
  for (int row = blockIdx.x; row < args.m; row += gridDim.x)
    for (int col = threadIdx.x; col < args.n; col += THREADS) finish(args, 0, 0, row, col, 0);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) full(const __grid_constant__ struct fg_args args) {
  FG_SHARED(struct shared, shared);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < STAGES; stage++) {
      mbarrier_init(&shared.full[stage], SCALES_BY_TMA ? 1 : 1 + 32);
      mbarrier_init(&shared.empty[stage], CLUSTER * CONSUMERS * WARPGROUP / 32);
    }
    fence_mbarrier_init();
  }
  cluster_arrive();
  cluster_wait();
  wait_for_the_launch_before();
  int warpgroup = warpgroup_index();
  if (args.k == 0) {
    write_zeros(args);
  } else if (warpgroup == 0) {
    if (CONSUMERS > 1) registers_give(PRODUCER_REGISTERS);
    if (threadIdx.x / 32 == 0 && elect_one()) produce(args, shared);
    if (!SCALES_BY_TMA && threadIdx.x / 32 == 1) produce_scales(args, shared);
  } else {
    if (CONSUMERS > 1) registers_take(CONSUMER_REGISTERS); /* one has enough */
    consume(args, shared, warpgroup - 1, threadIdx.x % WARPGROUP);
  }
  cluster_arrive(); /* nobody leaves while others still reach for this block's memory */
  cluster_wait();
}
