/* A block of K by the tensor cores, for one warpgroup. */
#pragma once
#include "runs.cuh"
#define WGMMA_N BLOCK_N
#include "wgmma_any.cuh"

/* 64 rows of A by the tile's columns, over one block of K: 32 further along K is 32 bytes, which a descriptor counts in 16. */
__device__ inline void multiply(float (&dot)[BLOCK_N / 2], unsigned long long a, unsigned long long b) {
  wgmma_fence();
  for (int k = 0; k < BLOCK_K; k += 32) wgmma_mma(dot, a + k / 16, b + k / 16, k != 0);
  wgmma_commit();
}
