/* D [64, 64] = sum over blocks of 128 of K of scale * (A B^T): a block's multiplications are under way while the one before is added.
 * Ordinary stores bring A and B, where the swizzle wants them. */
#define WGMMA_N 64
#include "wgmma_any.cuh"

enum { ROWS = 64, BLOCK_K = 128, BLOCKS = 4 };

struct arguments {
  const uint4 *a, *b; /* [ROWS, BLOCKS * BLOCK_K] */
  const float *scale; /* [BLOCKS] */
  float *d;           /* [ROWS, ROWS] */
};

struct shared {
  uint4 a[BLOCKS][ROWS * BLOCK_K / 16], b[BLOCKS][ROWS * BLOCK_K / 16];
};

/* Row `row` has 8 pieces of 16 bytes, of which piece i stands where i ^ row % 8 would. */
__device__ static void bring(uint4 (*to)[ROWS * BLOCK_K / 16], const uint4 *from) {
  for (int i = threadIdx.x; i < ROWS * BLOCKS * 8; i += 128) {
    int row = i / (BLOCKS * 8), block = i / 8 % BLOCKS, piece = i % 8;
    to[block][row * 8 + (piece ^ row % 8)] = from[i];
  }
}

extern "C" __global__ void __launch_bounds__(128) wgmma_groups(const __grid_constant__ struct arguments args) {
  FG_SHARED(struct shared, shared);
  bring(shared.a, args.a);
  bring(shared.b, args.b);
  fence_proxy_async();
  __syncthreads();
  float dot[2][WGMMA_N / 2], sum[WGMMA_N / 2] = {};
  FG_UNROLL(8)
  for (int block = 0; block <= BLOCKS; block++) {
    if (block < BLOCKS) {
      wgmma_fence();
      for (int k = 0; k < BLOCK_K; k += 32)
        wgmma_mma(dot[block % 2], wgmma_descriptor((const unsigned char *)shared.a[block] + k, BLOCK_K),
                  wgmma_descriptor((const unsigned char *)shared.b[block] + k, BLOCK_K), k > 0);
      wgmma_commit();
    }
    if (block == 0) continue;
    wgmma_wait(block < BLOCKS);
    wgmma_hold(dot[(block - 1) % 2]);
    float scale = args.scale[block - 1];
    for (int i = 0; i < WGMMA_N / 2; i++) sum[i] = __fmaf_rn(scale, dot[(block - 1) % 2][i], sum[i]);
  }
  int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, col = threadIdx.x % 4 * 2;
  for (int i = 0; i < WGMMA_N / 2; i++) args.d[(row + i / 2 % 2 * 8) * ROWS + i / 4 * 8 + col + i % 2] = sum[i];
}
