/* Level `tma`: one thread asks the copy engine for a block of K of A, of B and of A's scales, and a barrier in shared memory tells all
 * when it has landed. Nobody computes an address, and nothing passes through registers.
 *
 * The plan's constants arrive as definitions: a tile is BLOCK_M x BLOCK_N, A_IS_E5M2 and B_IS_E5M2 are 0 or 1. */
#include "dependent.cuh"
#include "multiply.cuh"
#include "promote.cuh"
#include "runs.cuh"
#include "tma.cuh"
#include "warp.cuh"

enum { THREADS = BLOCK_M / 64 * WARPGROUP };

struct shared {
  union {
    struct {
      unsigned char a[BLOCK_M][BLOCK_K], b[BLOCK_N][BLOCK_K]; /* swizzled */
    };
    float sum[BLOCK_M][BLOCK_N + GAP]; /* at last */
  };
  float a_scale[BLOCK_M];
  struct mbarrier full;
};
static_assert(sizeof(struct shared) <= SHARED_BYTES, "as the plan reckons it");

/* By one thread. What lies beyond a matrix becomes zeros. */
__device__ static void load(const struct fg_args &args, struct shared &shared, int block, int row0, int col0) {
  mbarrier_arrive_expect_tx(&shared.full, sizeof shared.a + sizeof shared.b + sizeof shared.a_scale);
  tma_load(shared.a, &args.a_map, &shared.full, block * BLOCK_K, row0, 0);
  tma_load(shared.b, &args.b_map, &shared.full, block * BLOCK_K, col0, 0);
  tma_load(shared.a_scale, &args.a_scale_map, &shared.full, row0, block, 0);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) tma(const __grid_constant__ struct fg_args args) {
  FG_SHARED(struct shared, shared);
  unsigned col_tiles = (args.n + BLOCK_N - 1) / BLOCK_N;
  int row0 = blockIdx.x / col_tiles * BLOCK_M, col0 = blockIdx.x % col_tiles * BLOCK_N, upper = row_of_thread(threadIdx.x);
  if (threadIdx.x == 0) {
    mbarrier_init(&shared.full, 1);
    fence_mbarrier_init();
  }
  __syncthreads();
  wait_for_the_launch_before();

  unsigned long long a_tile = wgmma_descriptor(shared.a + warpgroup_index() * 64, BLOCK_K),
                     b_tile = wgmma_descriptor(shared.b, BLOCK_K);
  float sum[BLOCK_N / 2] = {};
  for (int block = 0; block < blocks_of(args.k); block++) {
    if (threadIdx.x == 0) load(args, shared, block, row0, col0);
    float b_scale = scale_at(args.b_scale, 0, col0, block);
    mbarrier_wait(&shared.full, block % 2);
    float dot[BLOCK_N / 2];
    multiply(dot, a_tile, b_tile);
    float upper_scale = shared.a_scale[upper], lower_scale = shared.a_scale[upper + 8];
    wgmma_wait(0);
    wgmma_hold(dot);
    promote(sum, dot, __fmul_rn(upper_scale, b_scale), __fmul_rn(lower_scale, b_scale));
    __syncthreads();
  }
  put_sums(shared.sum, sum, threadIdx.x);
  __syncthreads();
  finish_tile(args, shared.sum, BLOCK_M, row0, col0, threadIdx.x, THREADS);
}
