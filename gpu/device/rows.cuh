/* Rows of a stage that no tile has: nobody fetches them, and the tensor core reads them all the same. */
#pragma once
#include "runs.cuh"
#include "shared.cuh"

/* Zeros in rows `from` to `end` of A of all stages, by threads of which this is number `thread` of `threads`. A barrier of theirs follows. */
__device__ inline void clear_rows(unsigned char (*a)[BLOCK_M][BLOCK_K], int from, int thread, int threads) {
  if (from == BLOCK_M) return;
  for (int stage = 0; stage < STAGES; stage++)
    for (int i = thread; i < (BLOCK_M - from) * BLOCK_K / 16; i += threads) ((float4 *)a[stage][from])[i] = {};
  fence_proxy_async();
}
