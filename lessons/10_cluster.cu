/* Level `cluster`: blocks in clusters of CLUSTER, whose tiles lie below each other, so that they want the same rows of B. Each fetches a part of
 * them for all, and a place is empty when the consumers of all blocks say so. What leaves goes by the copy engine, too.
 *
 * The plan's constants arrive as definitions: a tile is BLOCK_M x BLOCK_N, STAGES, CLUSTER, A_IS_E5M2 and B_IS_E5M2 are 0 or 1. */
#include "cluster.cuh"
#include "dependent.cuh"
#include "multiply.cuh"
#include "promote.cuh"
#include "ring.cuh"
#include "runs.cuh"
#include "scheduler.cuh"
#include "store.cuh"
#include "tma.cuh"
#include "turns.cuh"
#include "warp.cuh"

enum { CONSUMERS = BLOCK_M / 64, THREADS = (CONSUMERS + 1) * WARPGROUP };
enum { PART = BLOCK_N / CLUSTER }; /* rows of B that a block fetches */
#define PRODUCER_REGISTERS 32
#define CONSUMER_REGISTERS 232

struct shared {
  unsigned char a[STAGES][BLOCK_M][BLOCK_K], b[STAGES][BLOCK_N][BLOCK_K]; /* swizzled */
  struct sums d[CONSUMERS];                                               /* on their way out */
  float a_scale[STAGES][BLOCK_M];
  struct mbarrier full[STAGES], empty[STAGES];
};
static_assert(sizeof(struct shared) <= SHARED_BYTES, "as the plan reckons it");

/* By one thread. What lies beyond a matrix becomes zeros. */
__device__ static void produce(const struct fg_args &args, struct shared &shared) {
  struct place at = {0, 0};
  struct tile tile;
  unsigned rank = cluster_rank();
  for (unsigned number = blockIdx.x; find_tile(args, number, &tile); number += gridDim.x)
    for (int block = 0; block < blocks_of(args.k); block++, advance(&at)) {
      struct mbarrier *full = &shared.full[at.stage];
      mbarrier_wait_cluster(&shared.empty[at.stage], at.parity ^ 1);
      mbarrier_arrive_expect_tx(full, sizeof shared.a[0] + sizeof shared.b[0] + sizeof shared.a_scale[0]);
      tma_load(shared.a[at.stage], &args.a_map, full, block * BLOCK_K, tile.row, 0);
      tma_load_multicast(shared.b[at.stage] + rank * PART, &args.b_map, full, block * BLOCK_K, tile.col + rank * PART, 0,
                         (1 << CLUSTER) - 1);
      tma_load(shared.a_scale[at.stage], &args.a_scale_map, full, tile.row, block, 0);
    }
}

/* Warpgroup `warpgroup` and thread `thread` of the consumers. */
__device__ static void consume(const struct fg_args &args, struct shared &shared, int warpgroup, int thread) {
  int upper = row_of_thread(thread);
  struct place at = {0, 0};
  unsigned long long a = wgmma_descriptor(shared.a[0] + warpgroup * 64, BLOCK_K), b = wgmma_descriptor(shared.b[0], BLOCK_K);
  struct tile tile;
  if (warpgroup == CONSUMERS - 1) pass_turn(warpgroup, CONSUMERS); /* to the first */
  for (unsigned number = blockIdx.x; find_tile(args, number, &tile); number += gridDim.x) {
    float sum[BLOCK_N / 2] = {};
    for (int block = 0; block < blocks_of(args.k); block++, advance(&at)) {
      float b_scale = scale_at(args.b_scale, 0, tile.col, block);
      mbarrier_wait(&shared.full[at.stage], at.parity);
      float dot[BLOCK_N / 2];
      take_turn(warpgroup, CONSUMERS);
      multiply(dot, a + at.stage * (sizeof shared.a[0] / 16), b + at.stage * (sizeof shared.b[0] / 16));
      pass_turn(warpgroup, CONSUMERS);
      float upper_scale = shared.a_scale[at.stage][upper], lower_scale = shared.a_scale[at.stage][upper + 8];
      wgmma_wait(0);
      wgmma_hold(dot);
      __syncwarp();
      if (thread % 32 < CLUSTER) mbarrier_arrive_cluster(&shared.empty[at.stage], thread % 32);
      promote(sum, dot, __fmul_rn(upper_scale, b_scale), __fmul_rn(lower_scale, b_scale));
    }
    store(args, &shared.d[warpgroup], sum, tile.row + warpgroup * 64, tile.col, thread % WARPGROUP, 1 + CONSUMERS + warpgroup);
  }
  if (thread % WARPGROUP == 0) bulk_wait_read(0);      /* before this block's memory is no longer its own */
  if (warpgroup == 0) take_turn(warpgroup, CONSUMERS); /* which the last has passed on */
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) cluster(const __grid_constant__ struct fg_args args) {
  FG_SHARED(struct shared, shared);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < STAGES; stage++) {
      mbarrier_init(&shared.full[stage], 1);
      mbarrier_init(&shared.empty[stage], CLUSTER * CONSUMERS * WARPGROUP / 32);
    }
    fence_mbarrier_init();
  }
  cluster_arrive();
  cluster_wait();
  wait_for_the_launch_before();
  int warpgroup = warpgroup_index();
  if (warpgroup == 0) {
    if (CONSUMERS > 1) registers_give(PRODUCER_REGISTERS);
    if (threadIdx.x / 32 == 0 && elect_one()) produce(args, shared);
  } else {
    if (CONSUMERS > 1) registers_take(CONSUMER_REGISTERS); /* one has enough */
    consume(args, shared, warpgroup - 1, threadIdx.x - WARPGROUP);
  }
  cluster_arrive(); /* nobody leaves while others still reach for this block's memory */
  cluster_wait();
}
