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

/* Scales come in pieces of 16 bytes: those of so many rows for a tile of `rows` rows, as the host makes the box. */
__device__ inline int scale_rows(int rows) { return (rows + 3) / 4 * 4; }

/* Rows of a stage that no tile has: nobody fetches them or their scales, and both are used all the same. Zeros in rows `from` to `end` of
 * A of all stages, and in their scales, which are `apart` in a stage and the next, unless threads copy those; by whole warps, `threads`
 * threads of which this is number `thread`. True where there are any: a barrier of theirs follows. The products wait for it: little code, and
 * each warp has stages of its own. */
__device__ inline bool clear_rows(unsigned char (*a)[BLOCK_M][BLOCK_K], float *scale, int apart, int from, int end, int thread,
                                  int threads) {
  if (from >= end) return false;
  FG_UNROLL(1)
  for (int stage = thread / 32; stage < STAGES; stage += threads / 32) {
    FG_UNROLL(1)
    for (int i = thread % 32; i < (end - from) * BLOCK_K / 16; i += 32) ((float4 *)a[stage][from])[i] = {};
    FG_UNROLL(1)
    for (int i = scale_rows(from) + thread % 32; i < (SCALES_BY_TMA ? end : 0); i += 32) scale[stage * apart + i] = 0;
  }
  fence_proxy_async();
  return true;
}
