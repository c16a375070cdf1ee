/* Level `pipeline`: a ring of STAGES places for blocks of K. One warp, the producer, keeps them filled; warpgroups of consumers, each with
 * 64 rows of the tile, empty them; and two barriers a stage, `full` and `empty`, are all that they say to each other.
 *
 * The plan's constants arrive as definitions: a tile is BLOCK_M x BLOCK_N, STAGES, A_IS_E5M2 and B_IS_E5M2 are 0 or 1. */
#include "dependent.cuh"
#include "multiply.cuh"
#include "promote.cuh"
#include "ring.cuh"
#include "runs.cuh"
#include "tma.cuh"
#include "warp.cuh"

enum { CONSUMERS = BLOCK_M / 64, THREADS = (CONSUMERS + 1) * WARPGROUP };
#define PRODUCER_REGISTERS 32
#define CONSUMER_REGISTERS 232

struct shared {
  union {
    struct {
      unsigned char a[STAGES][BLOCK_M][BLOCK_K], b[STAGES][BLOCK_N][BLOCK_K]; /* swizzled */
    };
    float sum[BLOCK_M][BLOCK_N + GAP]; /* at last */
  };
  float a_scale[STAGES][BLOCK_M];
  struct mbarrier full[STAGES], empty[STAGES];
};
static_assert(sizeof(struct shared) <= SHARED_BYTES, "as the plan reckons it");

/* By one thread. What lies beyond a matrix becomes zeros. */
__device__ static void produce(const struct fg_args &args, struct shared &shared, int row0, int col0) {
  struct place at = {0, 0};
  for (int block = 0; block < blocks_of(args.k); block++, advance(&at)) {
    struct mbarrier *full = &shared.full[at.stage];
    mbarrier_wait(&shared.empty[at.stage], at.parity ^ 1);
    mbarrier_arrive_expect_tx(full, sizeof shared.a[0] + sizeof shared.b[0] + sizeof shared.a_scale[0]);
    tma_load(shared.a[at.stage], &args.a_map, full, block * BLOCK_K, row0, 0);
    tma_load(shared.b[at.stage], &args.b_map, full, block * BLOCK_K, col0, 0);
    tma_load(shared.a_scale[at.stage], &args.a_scale_map, full, row0, block, 0);
  }
}

/* Warpgroup `warpgroup` and thread `thread` of the consumers. */
__device__ static void consume(const struct fg_args &args, struct shared &shared, int row0, int col0, int warpgroup, int thread) {
  int upper = row_of_thread(thread);
  unsigned long long a = wgmma_descriptor(shared.a[0] + warpgroup * 64, BLOCK_K), b = wgmma_descriptor(shared.b[0], BLOCK_K);
  struct place at = {0, 0};
  float sum[BLOCK_N / 2] = {};
  for (int block = 0; block < blocks_of(args.k); block++, advance(&at)) {
    float b_scale = scale_at(args.b_scale, 0, col0, block);
    mbarrier_wait(&shared.full[at.stage], at.parity);
    float dot[BLOCK_N / 2];
    multiply(dot, a + at.stage * (sizeof shared.a[0] / 16), b + at.stage * (sizeof shared.b[0] / 16));
    float upper_scale = shared.a_scale[at.stage][upper], lower_scale = shared.a_scale[at.stage][upper + 8];
    wgmma_wait(0);
    wgmma_hold(dot);
    __syncwarp();
    if (thread % 32 == 0) mbarrier_arrive(&shared.empty[at.stage]);
    promote(sum, dot, __fmul_rn(upper_scale, b_scale), __fmul_rn(lower_scale, b_scale));
  }
  named_barrier_sync(1, CONSUMERS * WARPGROUP);
  put_sums(shared.sum, sum, thread);
  named_barrier_sync(1, CONSUMERS * WARPGROUP);
  finish_tile(args, shared.sum, BLOCK_M, row0, col0, thread, CONSUMERS * WARPGROUP);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) pipeline(const __grid_constant__ struct fg_args args) {
  FG_SHARED(struct shared, shared);
  unsigned col_tiles = (args.n + BLOCK_N - 1) / BLOCK_N;
  int row0 = blockIdx.x / col_tiles * BLOCK_M, col0 = blockIdx.x % col_tiles * BLOCK_N;
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
    if (threadIdx.x / 32 == 0 && elect_one()) produce(args, shared, row0, col0);
  } else {
    if (CONSUMERS > 1) registers_take(CONSUMER_REGISTERS); /* one has enough */
    consume(args, shared, row0, col0, warpgroup - 1, threadIdx.x - WARPGROUP);
  }
}
