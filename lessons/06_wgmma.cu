/* Level `wgmma`: the tensor cores multiply. A warpgroup, 128 threads, has 64 rows of the tile; all threads bring a block of 128 of K to
 * shared memory, as the tensor cores want it there, and after each block its sums are scaled and added in FP32.
 *
 * The plan's constants arrive as definitions: a tile is BLOCK_M x BLOCK_N, A_IS_E5M2 and B_IS_E5M2 are 0 or 1. */
#include "dependent.cuh"
#include "multiply.cuh"
#include "promote.cuh"
#include "runs.cuh"
#include "warp.cuh"

enum { THREADS = BLOCK_M / 64 * WARPGROUP, PIECE = 16 }; /* bytes that move together */

union shared {
  struct {
    unsigned char a[BLOCK_M][BLOCK_K], b[BLOCK_N][BLOCK_K]; /* swizzled */
  };
  float sum[BLOCK_M][BLOCK_N + GAP]; /* at last */
};
static_assert(sizeof(union shared) <= SHARED_BYTES, "as the plan reckons it");

/* A block of K of `height` rows, of which there are `rows` by `k`, the rest being zeros. Piece p of row r goes to place p ^ r % 8. */
__device__ static void fetch(unsigned char (*to)[BLOCK_K], int height, const unsigned char *codes, long long ld, long long rows,
                             long long k) {
  for (int i = threadIdx.x; i < height * (BLOCK_K / PIECE); i += THREADS) {
    int row = i / (BLOCK_K / PIECE), piece = i % (BLOCK_K / PIECE);
    uint4 sixteen = {0, 0, 0, 0};
    if (row < rows && piece * PIECE < k) sixteen = *(const uint4 *)(codes + row * ld + piece * PIECE);
    *(uint4 *)&to[row][(piece ^ row % 8) * PIECE] = sixteen;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) wgmma(const __grid_constant__ struct fg_args args) {
  FG_SHARED(union shared, shared);
  wait_for_the_launch_before();
  unsigned col_tiles = (args.n + BLOCK_N - 1) / BLOCK_N;
  long long row0 = blockIdx.x / col_tiles * (long long)BLOCK_M, col0 = blockIdx.x % col_tiles * (long long)BLOCK_N;
  long long upper = row0 + row_of_thread(threadIdx.x), lower = upper + 8;
  const unsigned char *a = (const unsigned char *)args.a.data + row0 * args.a.ld;
  const unsigned char *b = (const unsigned char *)args.b.data + col0 * args.b.ld;

  unsigned long long a_tile = wgmma_descriptor(shared.a + warpgroup_index() * 64, BLOCK_K),
                     b_tile = wgmma_descriptor(shared.b, BLOCK_K);
  float sum[BLOCK_N / 2] = {};
  for (long long block = 0; block < blocks_of(args.k); block++) {
    long long k0 = block * BLOCK_K;
    fetch(shared.a, BLOCK_M, a + k0, args.a.ld, args.m - row0, args.k - k0);
    fetch(shared.b, BLOCK_N, b + k0, args.b.ld, args.n - col0, args.k - k0);
    fence_proxy_async();
    __syncthreads();
    float dot[BLOCK_N / 2];
    multiply(dot, a_tile, b_tile);
    float b_scale = scale_at(args.b_scale, 0, col0, block);
    float upper_scale = upper < args.m ? scale_at(args.a_scale, 0, upper, block) : 0;
    float lower_scale = lower < args.m ? scale_at(args.a_scale, 0, lower, block) : 0;
    wgmma_wait(0);
    wgmma_hold(dot);
    promote(sum, dot, __fmul_rn(upper_scale, b_scale), __fmul_rn(lower_scale, b_scale));
    __syncthreads();
  }
  put_sums(shared.sum, sum, threadIdx.x);
  __syncthreads();
  finish_tile(args, shared.sum, BLOCK_M, row0, col0, threadIdx.x, THREADS);
}
