/* For many rows of A: what the ladder climbed to, and what its last step left undone. A warpgroup has twice 64 rows where BLOCK_M is 256, so
 * that fewer bytes move for as many products; where its registers hold two products, it multiplies the next block of K before it promotes
 * the last; and it multiplies the first block of a tile before the tile before leaves.
 *
 * The plan's constants arrive as definitions: a tile is at most BLOCK_M x BLOCK_N, STAGES, CLUSTER; what the problem has: A_IS_E5M2, B_IS_E5M2, B_1X128
 * (scales for each row of B) and SCALES_BY_TMA are 0 or 1, D_TYPE is as write.cuh says. */
#define PARTS (BLOCK_M == 256 ? 2 : 1) /* times 64 rows that a warpgroup has */
#include "cluster.cuh"
#include "dependent.cuh"
#include "edge.cuh"
#include "multiply.cuh"
#include "prefetch.cuh"
#include "promote.cuh"
#include "ring.cuh"
#include "scales.cuh"
#include "tma.cuh"
#include "warp.cuh"
#include "write.cuh"

enum { CONSUMERS = BLOCK_M / PARTS / 64, THREADS = (CONSUMERS + 1) * WARPGROUP };
/* A cluster's tiles share the rows of A and lie beside each other, or those of B, and lie below: whichever are more. */
enum { SHARES_A = BLOCK_M >= BLOCK_N };
/* 128 rows of B have one scale: a tile's lie in at most B_SCALES such, and ALIKE, from a multiple of it on, in the same one. */
enum { ALIKE = BLOCK_N % 128 == 0 ? 128 : BLOCK_N % 64 == 0 ? 64 : BLOCK_N % 32 == 0 ? 32 : 16 };
enum { B_SCALES = B_1X128 ? 1 : (BLOCK_N + 128 - ALIKE - 1) / 128 + 1 };
enum { IS_ALIKE = B_SCALES == 1 && !B_1X128 };
/* Of a tile with code for eight offsets two dots make so much of it that short K is slower. */
enum { HAS_TWO_DOTS = BLOCK_M <= 128 && BLOCK_N <= 128 && (IS_ALIKE || ALIKE == 32) && !B_1X128 };
/* Blocks of K in a turn of the loop over K, of which there is one for each offset: few where there are many, or scales of rows. */
enum { AT_ONCE = B_1X128 ? 1 : PARTS == 2 && IS_ALIKE ? 8 : ALIKE >= 64 ? 2 : 1 };
enum { STRIPE = 2048 / BLOCK_M }; /* tiles of a cluster, whose rows of A are used again and again while they are in the L2 */
/* Arrivals at `full` beside that of produce(): produce_scales() announces bytes, and arrives again when B's numbers are copied; or each
 * thread of copy_scales() arrives once. */
enum { COPIERS = SCALES_BY_TMA ? (B_1X128 ? 1 : 2) : 32 };
#define PRODUCER_REGISTERS 40
#define CONSUMER_REGISTERS 232

struct shared {
  unsigned char a[STAGES][BLOCK_M][BLOCK_K], b[STAGES][BLOCK_N][BLOCK_K]; /* swizzled */
  struct turned turned[CONSUMERS * WARPGROUP / 32];                       /* D, on its way out */
  float a_scale[STAGES][BLOCK_M], b_scale[STAGES][B_1X128 ? (BLOCK_N + 31) / 32 * 32 : 4];
  struct mbarrier full[STAGES], empty[STAGES];
  struct mbarrier turned_full[CONSUMERS], turned_empty[CONSUMERS]; /* of each warpgroup's part of D */
};
static_assert(sizeof(struct shared) <= SHARED_BYTES, "as the plan reckons it");

/* Where a block is among the tiles: those of its cluster count as one. They are taken from a stripe of STRIPE tiles' height, column by
 * column, and then from the stripe below. */
struct walk {
  unsigned rows, cols;     /* how many there are below and beside each other */
  unsigned left;           /* that the block has still to take */
  int tile_rows, m, n;     /* from args */
  unsigned stripe, within; /* the first row of the stripe, and the number in it */
};

__device__ static struct walk begin_walk(const struct fg_args &args) {
  unsigned height = BLOCK_M * (SHARES_A ? 1 : CLUSTER), width = BLOCK_N * (SHARES_A ? CLUSTER : 1);
  unsigned rows = (args.m + height - 1) / height, cols = (args.n + width - 1) / width, step = gridDim.x / CLUSTER;
  unsigned first = blockIdx.x / CLUSTER, all = rows * cols;
  return {rows, cols, first < all ? (all - first - 1) / step + 1 : 0, args.tile_rows, (int)args.m, (int)args.n, 0, first};
}

/* The block's next tile, of those that are left. The tiles of a cluster follow each other, the last perhaps beyond D. */
__device__ static struct tile take_tile(struct walk *walk) {
  unsigned rank = blockIdx.x % CLUSTER, high = STRIPE;
  FG_UNROLL(1)
  for (;; walk->stripe += STRIPE) {
    if (walk->rows - walk->stripe < STRIPE) high = walk->rows - walk->stripe;
    if (walk->within < high * walk->cols) break;
    walk->within -= high * walk->cols;
  }
  unsigned col = high == STRIPE ? walk->within / STRIPE : walk->within / high, row = walk->stripe + walk->within - col * high;
  walk->within += gridDim.x / CLUSTER;
  walk->left--;
  struct tile tile;
  tile.own_row = (SHARES_A ? row : row * CLUSTER + rank) * walk->tile_rows;
  tile.own_col = (SHARES_A ? col * CLUSTER + rank : col) * BLOCK_N;
  tile.row = tile.own_row - back(tile.own_row, walk->tile_rows, walk->m, ROWS);
  tile.col = tile.own_col - back(tile.own_col, BLOCK_N, walk->n, ALIKE);
  tile.end_row = walk->m - tile.own_row < walk->tile_rows ? walk->m : tile.own_row + walk->tile_rows;
  return tile;
}

/* By the consumers, who have nothing to do yet. */
__device__ static void prefetch_first(const struct fg_args &args, int thread) {
  struct walk walk = begin_walk(args);
  if (walk.left > 0 && args.k > 0) prefetch_rows(args.b, take_tile(&walk).col, BLOCK_N, args.n, 0, thread, CONSUMERS * WARPGROUP);
}

/* A box of this block's own, by a policy of the L2; or its part of what all blocks of the cluster want, for all of them, by none. */
__device__ inline void fetch(unsigned char (*to)[BLOCK_K], const struct fg_tensor_map *map, struct mbarrier *full, int x, int y,
                             bool is_shared, unsigned long long policy) {
  if (is_shared && CLUSTER > 1)
    tma_load_multicast(to, map, full, x, y, 0, (1 << CLUSTER) - 1);
  else
    tma_load_by(to, map, full, x, y, 0, policy);
}

/* By one thread: A and B. What lies beyond a matrix becomes zeros. Every instruction here, and in produce_scales(), is one that a warp of
 * the consumers on the same quarter of the multiprocessor does not issue, and its three neighbours wait for it: the fewer, the faster. */
__device__ static void produce(const struct fg_args &args, struct shared &shared) {
  unsigned k_end = blocks_of(args.k) * BLOCK_K, rank = CLUSTER > 1 ? cluster_rank() : 0;
  unsigned a_part = SHARES_A ? rank * args.tile_rows / CLUSTER : 0, b_part = SHARES_A ? 0 : rank * (BLOCK_N / CLUSTER);
  unsigned bytes = args.tile_rows * BLOCK_K + sizeof shared.b[0];
  struct walk walk = begin_walk(args);
  unsigned long long a_policy = l2_policy(false), b_policy = l2_policy(args.m <= 512 || walk.left <= 4);
  struct place at = first_empty();
  while (walk.left > 0) {
    struct tile tile = take_tile(&walk);
    FG_UNROLL(1)
    for (unsigned x = 0; x < k_end; x += BLOCK_K, advance(&at)) {
      struct mbarrier *full = &shared.full[at.stage];
      mbarrier_wait_cluster(&shared.empty[at.stage], at.parity);
      mbarrier_arrive_expect_tx(full, bytes);
      fetch(shared.a[at.stage] + a_part, &args.a_map, full, x, tile.row + a_part, SHARES_A, a_policy);
      fetch(shared.b[at.stage] + b_part, &args.b_map, full, x, tile.col + b_part, !SHARES_A, b_policy);
    }
  }
  /* Nobody leaves while others have still to give stages back to it. */
  for (int i = 0; i < STAGES && CLUSTER > 1; i++, advance(&at)) mbarrier_wait_cluster(&shared.empty[at.stage], at.parity);
}

/* By one thread: scales that the copy engine brings; and those of 128 rows of B, a number each, wherever they lie. */
__device__ static void produce_scales(const struct fg_args &args, struct shared &shared) {
  int blocks = blocks_of(args.k), bytes = (scale_rows(args.tile_rows) + (B_1X128 ? BLOCK_N : 0)) * sizeof(float);
  long long step = args.b_scale.block_stride;
  struct walk walk = begin_walk(args);
  struct place at = first_empty();
  while (walk.left > 0) {
    struct tile tile = take_tile(&walk);
    const float *b_scale[B_SCALES];
    for (int i = 0; i < B_SCALES && !B_1X128; i++) {
      long long row = (tile.col / 128 + i) * 128LL; /* or any, where there is none: nobody looks at the number */
      b_scale[i] = scale_address(args.b_scale, 0, row < args.n ? row : args.n - 1, 0);
    }
    FG_UNROLL(1)
    for (int block = 0; block < blocks; block++, advance(&at)) {
      struct mbarrier *full = &shared.full[at.stage];
      mbarrier_wait_cluster(&shared.empty[at.stage], at.parity);
      mbarrier_arrive_expect_tx(full, bytes);
      tma_load(shared.a_scale[at.stage], &args.a_scale_map, full, tile.row, block, 0);
      if (B_1X128) tma_load(shared.b_scale[at.stage], &args.b_scale_map, full, tile.col, block, 0);
      for (int i = 0; i < B_SCALES && !B_1X128; i++) {
        copy_four_bytes(&shared.b_scale[at.stage][i], b_scale[i], true);
        b_scale[i] += step;
      }
      if (!B_1X128) mbarrier_arrive_when_copied(full);
    }
  }
}

/* By a warp: scales, where the copy engine cannot bring them. Those of 128 rows of B are one number, at 128 rows' distance. */
__device__ static void copy_scales(const struct fg_args &args, struct shared &shared) {
  int lane = threadIdx.x % 32;
  struct walk walk = begin_walk(args);
  struct place at = first_empty();
  while (walk.left > 0) {
    struct tile tile = take_tile(&walk);
    long long row = (tile.col / 128 + lane) * 128LL;
    for (int block = 0; block < blocks_of(args.k); block++, advance(&at)) {
      mbarrier_wait_cluster(&shared.empty[at.stage], at.parity);
      fetch_scales(shared.a_scale[at.stage], args.a_scale, BLOCK_M, tile.row, args.m, block);
      if (B_1X128)
        fetch_scales(shared.b_scale[at.stage], args.b_scale, BLOCK_N, tile.col, args.n, block);
      else if (lane < B_SCALES)
        copy_four_bytes(&shared.b_scale[at.stage][lane], scale_address(args.b_scale, 0, row, block), row < args.n);
      mbarrier_arrive_when_copied(&shared.full[at.stage]);
    }
  }
}

/* By a thread for each warpgroup of the consumers, where D_TYPE is not 0. */
__device__ static void store(const struct fg_args &args, struct shared &shared, int warpgroup) {
  struct walk walk = begin_walk(args);
  for (unsigned parity = 0; walk.left > 0; parity ^= 1) {
    struct tile tile = take_tile(&walk);
    mbarrier_wait(&shared.turned_full[warpgroup], parity);
    for (int warp = 0; warp < 4; warp++)
      store_parts(args, &shared.turned[warpgroup * 4 + warp], tile, warpgroup * PARTS * 64 + warp * ROWS, walk.left == 0);
    if (walk.left > 0) mbarrier_arrive(&shared.turned_empty[warpgroup]);
  }
  bulk_commit();
  bulk_wait_read(0);
}

/* What a thread of the consumers has in hand. */
struct consumer {
  struct place at;
  bool is_full;            /* the stage there: it was seen */
  unsigned long long a, b; /* descriptors of its rows, and of the tile's columns, in the first stage */
  int row, lane;           /* of the tile's rows, the first of a thread's two */
};

/* 64 rows of A by the tile's columns over a block of K: multiplied, and not yet promoted. */
struct step {
  float dot[BLOCK_N / 2], upper, lower, b_scale[B_SCALES];
  int stage;
};

/* Begins the products of part `part` with the block of K in hand, whose scales are read first, as few as the part wants: what stands before
 * a product delays it. With the last part the next block comes to hand, and while the tensor core is busy it is seen whether it is there. */
__device__ inline void start(struct shared &shared, struct consumer &me, struct step &step, int part) {
  step.stage = me.at.stage;
  if (part == 0 && !me.is_full) mbarrier_wait(&shared.full[step.stage], me.at.parity);
  step.upper = shared.a_scale[step.stage][me.row + part * 64];
  step.lower = shared.a_scale[step.stage][me.row + part * 64 + 8];
  for (int i = 0; i < B_SCALES && !B_1X128 && part == 0; i++) step.b_scale[i] = shared.b_scale[step.stage][i];
  multiply(step.dot, me.a + step.stage * (sizeof shared.a[0] / 16) + part * (64 * BLOCK_K / 16),
           me.b + step.stage * (sizeof shared.b[0] / 16));
  if (part < PARTS - 1) return;
  advance(&me.at);
  me.is_full = mbarrier_test(&shared.full[me.at.stage], me.at.parity);
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
  if (B_1X128)
    promote_rows(sum, step, shared.b_scale[step.stage], me.lane);
  else
    promote_blocks(sum, step, offset);
  if (is_last && B_1X128) give_back(shared, me, step.stage);
}

/* The block of K of which part 0 is under way. */
__device__ inline void end_parts(struct shared &shared, struct consumer &me, struct step &step, float (&sum)[PARTS][BLOCK_N / 2],
                                 int offset) {
  end(shared, me, step, sum[0], offset, 0, PARTS == 1);
  if (PARTS == 1) return;
  start(shared, me, step, 1);
  end(shared, me, step, sum[PARTS - 1], offset, 0, true);
}

/* The `blocks` of K of which the first is under way. `offset` is that of the tile's first column among 128 that share scales: a constant,
 * so that nothing is chosen while it multiplies. A turn of the loop takes several blocks where it can: within it, the compiler moves what
 * begins the next product between the sums of the last. */
__device__ inline void add_blocks(struct shared &shared, struct consumer &me, struct step &first,
                                  float (&sum)[PARTS][BLOCK_N / 2], int blocks, int offset) {
  int block = 1;
  if (HAS_TWO_DOTS) {
    struct step second;
    FG_UNROLL(1)
    for (; block + 1 < blocks; block += 2) { /* one product is under way from turn to turn: the compiler follows no more */
      start(shared, me, second, 0);
      end(shared, me, first, sum[0], offset, 1, true);
      start(shared, me, first, 0);
      end(shared, me, second, sum[0], offset, 1, true);
    }
    if (block < blocks) {
      start(shared, me, second, 0);
      end(shared, me, first, sum[0], offset, 1, true);
      end(shared, me, second, sum[0], offset, 0, true);
    } else {
      end(shared, me, first, sum[0], offset, 0, true);
    }
    return;
  }
  end_parts(shared, me, first, sum, offset);
  FG_UNROLL(1)
  for (; block + AT_ONCE <= blocks; block += AT_ONCE) {
    FG_UNROLL(AT_ONCE)
    for (int i = 0; i < AT_ONCE; i++) {
      start(shared, me, first, 0);
      end_parts(shared, me, first, sum, offset);
    }
  }
  FG_UNROLL(1)
  for (; AT_ONCE > 1 && block < blocks; block++) {
    start(shared, me, first, 0);
    end_parts(shared, me, first, sum, offset);
  }
}

/* The sums of a tile, to the thread that stores them: when what it has of the tile before was read. */
__device__ inline void hand_over(struct shared &shared, int warpgroup, struct turned *turned,
                                 const float (&sum)[PARTS][BLOCK_N / 2], unsigned parity, int lane) {
  mbarrier_wait(&shared.turned_empty[warpgroup], parity ^ 1);
  turn_parts(turned, sum, lane);
  __syncwarp();
  if (lane == 0) mbarrier_arrive(&shared.turned_full[warpgroup]);
}

/* Warpgroup `warpgroup` of the consumers, thread `thread` of it. */
__device__ static void consume(const struct fg_args &args, struct shared &shared, int warpgroup, int thread) {
  int warp = __shfl_sync(0xFFFFFFFF, thread / 32, 0), own_rows = warpgroup * PARTS * 64, blocks = blocks_of(args.k);
  struct consumer me = {{0, 0},
                        false,
                        wgmma_descriptor(shared.a[0] + own_rows, BLOCK_K),
                        wgmma_descriptor(shared.b[0], BLOCK_K),
                        own_rows + row_of_thread(thread),
                        thread % 32};
  struct turned *turned = &shared.turned[warpgroup * 4 + warp];
  struct walk walk = begin_walk(args);
  unsigned tiles = 0; /* that the sums have been of */
  float sum[PARTS][BLOCK_N / 2];
  keep(me.lane), keep(me.row);
  if (clear_rows(shared.a, shared.a_scale[0], BLOCK_M, args.tile_rows > own_rows ? args.tile_rows : own_rows,
                 own_rows + PARTS * 64, thread, WARPGROUP))
    named_barrier_sync(1 + warpgroup, WARPGROUP);
  FG_UNROLL(1)
  while (walk.left > 0) {
    struct tile tile = take_tile(&walk);
    int offset = __shfl_sync(0xFFFFFFFF, tile.col % 128, 0); /* so that the compiler knows that threads have the same */
    FG_UNROLL(128 / ALIKE)
    for (int i = 0; i < 128; i += ALIKE)
      if (B_SCALES == 1 ? i == 0 : offset == i) {
        struct step first; /* and all that it is in flight through: a jump would wait for it */
        start(shared, me, first, 0);
        if (D_TYPE && tiles > 0) hand_over(shared, warpgroup, turned, sum, tiles - 1 & 1, me.lane);
        FG_UNROLL(PARTS * BLOCK_N / 2)
        for (int e = 0; e < PARTS * BLOCK_N / 2; e++) sum[e / (BLOCK_N / 2)][e % (BLOCK_N / 2)] = 0;
        add_blocks(shared, me, first, sum, blocks, i);
      }
    tiles++;
    if (!D_TYPE) finish_parts(args, turned, sum, tile, own_rows + warp * ROWS, me.lane);
  }
  if (D_TYPE && tiles > 0) hand_over(shared, warpgroup, turned, sum, tiles - 1 & 1, me.lane);
}

/* D where there is no K. */
__device__ static void write_zeros(const struct fg_args &args) {
  for (long long row = blockIdx.x; row < args.m; row += gridDim.x)
    for (int col = threadIdx.x; col < args.n; col += THREADS) finish(args, 0, 0, row, col, 0);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) full(const __grid_constant__ struct fg_args args) {
  FG_SHARED(struct shared, shared);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < STAGES; stage++) {
      mbarrier_init(&shared.full[stage], 1 + COPIERS);
      mbarrier_init(&shared.empty[stage], CLUSTER * CONSUMERS * WARPGROUP / 32);
    }
    for (int i = 0; i < CONSUMERS; i++) {
      mbarrier_init(&shared.turned_full[i], WARPGROUP / 32);
      mbarrier_init(&shared.turned_empty[i], 1);
    }
    fence_mbarrier_init();
  }
  if (CLUSTER > 1) cluster_arrive_relaxed();
  __syncthreads();
  if (CLUSTER > 1) cluster_wait();
  int warpgroup = warpgroup_index();
  if (warpgroup > 0) prefetch_first(args, threadIdx.x - WARPGROUP);
  wait_for_the_launch_before();
  if (args.k == 0) {
    write_zeros(args);
  } else if (warpgroup == 0) {
    if (CONSUMERS > 1) registers_give(PRODUCER_REGISTERS);
    int warp = __shfl_sync(0xFFFFFFFF, threadIdx.x / 32, 0); /* as the others leave, too, what its one thread has is the warp's */
    if (warp == 1 && !SCALES_BY_TMA) copy_scales(args, shared);
    if (!elect_one()) return;
    if (warp == 0) produce(args, shared);
    if (warp == 1 && SCALES_BY_TMA) produce_scales(args, shared);
    if (warp >= 2 && warp - 2 < CONSUMERS && D_TYPE) store(args, shared, warp - 2);
  } else {
    if (CONSUMERS > 1) registers_take(CONSUMER_REGISTERS); /* one has enough */
    consume(args, shared, warpgroup - 1, threadIdx.x % WARPGROUP);
  }
}
