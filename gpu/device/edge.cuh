/* Where a matrix ends within a tile. */
#pragma once
#include "runs.cuh"
#include "shared.cuh"
#include "unroll.cuh"

/* A tile of `size` rows or columns from `begin` on has some beyond `end`, which the copy engine fills slower than it fetches others. So the
 * tile begins earlier, in whole steps: by how much. Fewer than `step` then lie beyond, unless all there are are fewer than `size`. */
__device__ inline int back(int begin, int size, int end, int step) {
  int beyond = begin + size - end;
  return beyond < step ? 0 : beyond < begin ? beyond / step * step : begin;
}

/* Rows of a stage that no tile has: nobody fetches them, and the tensor core reads them all the same. Zeros in rows `from` to `end` of A of
 * all stages, by whole warps, `threads` threads of which this is number `thread`; true where there are any: a barrier of theirs follows.
 * The products wait for it: little code, and each warp has stages of its own. */
__device__ inline bool clear_rows(unsigned char (*a)[BLOCK_M][BLOCK_K], int from, int end, int thread, int threads) {
  if (from >= end) return false;
  FG_UNROLL(1)
  for (int stage = thread / 32; stage < STAGES; stage += threads / 32) {
    FG_UNROLL(1)
    for (int i = thread % 32; i < (end - from) * BLOCK_K / 16; i += 32) ((float4 *)a[stage][from])[i] = {};
  }
  fence_proxy_async();
  return true;
}
