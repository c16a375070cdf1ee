/* Two-level accumulation, and how the sums leave: what a warpgroup does with numbers that lie in its registers as wgmma.cuh says. */
#pragma once
#include "finish.cuh"
#include "unroll.cuh"

enum { WARPGROUP = 128, GAP = 8 }; /* the gap puts the rows that a warp writes at once into different banks */

/* The row of a tile that the first of a thread's two rows is, where the tile's warpgroups follow each other. */
__device__ inline int row_of_thread(int thread) { return thread / 32 * 16 + thread % 32 / 4; }

/* sum += scale * dot, the scale being that of the thread's upper or lower row. */
__device__ inline void promote(float (&sum)[BLOCK_N / 2], const float (&dot)[BLOCK_N / 2], float upper, float lower) {
  for (int i = 0; i < BLOCK_N / 2; i++) sum[i] = __fmaf_rn(i / 2 % 2 ? lower : upper, dot[i], sum[i]);
}

/* To rows of a tile in shared memory. */
__device__ inline void put_sums(float (*to)[BLOCK_N + GAP], const float (&sum)[BLOCK_N / 2], int thread) {
  for (int i = 0; i < BLOCK_N / 2; i += 2)
    *(float2 *)&to[row_of_thread(thread) + i / 2 % 2 * 8][i / 4 * 8 + thread % 4 * 2] = make_float2(sum[i], sum[i + 1]);
}

/* From there to D, whose row row0 and column col0 the tile begins at: by `threads` threads, of which this is one. */
__device__ inline void finish_tile(const struct fg_args &args, const float (*from)[BLOCK_N + GAP], int height, long long row0,
                                   long long col0, int thread, int threads) {
  FG_UNROLL(1)
  for (int i = thread; i < height * BLOCK_N; i += threads)
    if (row0 + i / BLOCK_N < args.m && col0 + i % BLOCK_N < args.n)
      finish(args, 0, 0, row0 + i / BLOCK_N, col0 + i % BLOCK_N, from[i / BLOCK_N][i % BLOCK_N]);
}
