/* Level `persistent`: one block on each multiprocessor, which takes one tile after the other. The producer does not stop between them: while
 * the consumers store a tile, the next one's blocks of K are on their way. Tiles are taken in an order that suits the L2.
 *
 * The plan's constants arrive as definitions: a tile is BLOCK_M x BLOCK_N, STAGES, A_IS_E5M2 and B_IS_E5M2 are 0 or 1. */
#include "dependent.cuh"
#include "multiply.cuh"
#include "promote.cuh"
#include "ring.cuh"
#include "runs.cuh"
#include "scheduler.cuh"
#include "tma.cuh"
#include "turns.cuh"
#include "warp.cuh"

enum { CONSUMERS = BLOCK_M / 64, THREADS = (CONSUMERS + 1) * WARPGROUP };
#define PRODUCER_REGISTERS 32
#define CONSUMER_REGISTERS 232

struct shared {
  unsigned char a[STAGES][BLOCK_M][BLOCK_K], b[STAGES][BLOCK_N][BLOCK_K]; /* swizzled */
  float sum[BLOCK_M][BLOCK_N + GAP];                                      /* on their way out */
  float a_scale[STAGES][BLOCK_M];
  struct mbarrier full[STAGES], empty[STAGES];
};
static_assert(sizeof(struct shared) <= SHARED_BYTES, "as the plan reckons it");

/* By one thread. What lies beyond a matrix becomes zeros. */
__device__ static void produce(const struct fg_args &args, struct shared &shared) {
  struct place at = {0, 0};
  struct tile tile;
  for (unsigned number = blockIdx.x; find_tile(args, number, &tile); number += gridDim.x)
    for (int block = 0; block < blocks_of(args.k); block++, advance(&at)) {
      struct mbarrier *full = &shared.full[at.stage];
      mbarrier_wait(&shared.empty[at.stage], at.parity ^ 1);
      mbarrier_arrive_expect_tx(full, sizeof shared.a[0] + sizeof shared.b[0] + sizeof shared.a_scale[0]);
      tma_load(shared.a[at.stage], &args.a_map, full, block * BLOCK_K, tile.row, 0);
      tma_load(shared.b[at.stage], &args.b_map, full, block * BLOCK_K, tile.col, 0);
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
      if (thread % 32 == 0) mbarrier_arrive(&shared.empty[at.stage]);
      promote(sum, dot, __fmul_rn(upper_scale, b_scale), __fmul_rn(lower_scale, b_scale));
    }
    named_barrier_sync(1 + CONSUMERS + warpgroup, WARPGROUP); /* the last tile's sums are read */
    put_sums(shared.sum, sum, thread);
    named_barrier_sync(1 + CONSUMERS + warpgroup, WARPGROUP);
    finish_tile(args, shared.sum + warpgroup * 64, 64, tile.row + warpgroup * 64, tile.col, thread % WARPGROUP, WARPGROUP);
  }
  if (warpgroup == 0) take_turn(warpgroup, CONSUMERS); /* which the last has passed on */
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) persistent(const __grid_constant__ struct fg_args args) {
  FG_SHARED(struct shared, shared);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < STAGES; stage++) {
      mbarrier_init(&shared.full[stage], 1);
      mbarrier_init(&shared.empty[stage], CONSUMERS * WARPGROUP / 32);
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  wait_for_the_launch_before();
  int warpgroup = warpgroup_index();
  if (warpgroup == 0) {
    if (CONSUMERS > 1) registers_give(PRODUCER_REGISTERS);
    if (threadIdx.x / 32 == 0 && elect_one()) produce(args, shared);
  } else {
    if (CONSUMERS > 1) registers_take(CONSUMER_REGISTERS); /* one has enough */
    consume(args, shared, warpgroup - 1, threadIdx.x - WARPGROUP);
  }
}
