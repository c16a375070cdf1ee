/* Scales that the copy engine cannot bring, as their rows do not follow each other, or not from a multiple of 16 bytes on: whatever their
 * layout, a warp copies those of a block of K to shared memory one by one. Each of its threads then arrives once, when they are there. */
#pragma once
#include "copy.cuh"
#include "runs.cuh"
#include "unroll.cuh"

/* By a warp: those of `count` rows from `row` on, in a block of K of a dense problem; zeros from row `end` on. */
__device__ inline void fetch_scales(float *to, const struct fg_scale_args &scale, int count, int row, long long end,
                                    long long block) {
  FG_UNROLL(1) /* the few registers of a producer have no room for more */
  for (int i = threadIdx.x % 32; i < count; i += 32)
    copy_four_bytes(&to[i], scale_address(scale, 0, row + i, block), row + i < end);
}
