/* 64 rows of a tile leave by the copy engine: rounded in registers, put into shared memory as the tensor map swizzles it, and stored while
 * the warpgroup goes on. */
#pragma once
#include "bulk.cuh"
#include "convert.cuh"
#include "promote.cuh"
#include "tma.cuh"
#include "warp.cuh"

enum { STORE_BYTES = 128 }; /* of a row in one box */

/* 64 rows; the columns of a box after those of the box before. */
struct __align__(1024) sums {
  unsigned char box[BLOCK_N * 4 / STORE_BYTES][64][STORE_BYTES]; /* as many as FP32 takes */
};

__device__ inline unsigned char *place(struct sums *to, int row, int byte) {
  return &to->box[byte / STORE_BYTES][row][byte % STORE_BYTES ^ row % 8 * 16];
}

__device__ inline void put_halves(struct sums *to, const float (&sum)[BLOCK_N / 2], bool is_bf16, int thread) {
  int row = thread / 32 * 16 + thread % 16, right = thread % 32 / 16 * 16; /* of which this thread gives the address */
  for (int i = 0; i < BLOCK_N / 2; i += 8) {
    unsigned m[4];
    for (int j = 0; j < 4; j++)
      m[j] = is_bf16 ? floats_to_bf16(sum[i + 2 * j], sum[i + 2 * j + 1]) : floats_to_fp16(sum[i + 2 * j], sum[i + 2 * j + 1]);
    stmatrix(place(to, row, i * 4 + right), m[0], m[1], m[2], m[3]);
  }
}

__device__ inline void put_floats(struct sums *to, const float (&sum)[BLOCK_N / 2], int thread) {
  for (int i = 0; i < BLOCK_N / 2; i += 2)
    *(float2 *)place(to, row_of_thread(thread) + i / 2 % 2 * 8, (i / 4 * 8 + thread % 4 * 2) * 4) =
        make_float2(canonical(sum[i]), canonical(sum[i + 1]));
}

__device__ inline void copy_element(const struct fg_args &args, int row, int col, const unsigned char *from) {
  long long i = row * args.d.ld + col;
  if (args.d_type == FP32)
    ((float *)args.d.data)[i] = *(const float *)from;
  else
    ((unsigned short *)args.d.data)[i] = *(const unsigned short *)from;
}

/* By a warpgroup, thread `thread` of it: rows from `row` on, columns from `col` on. `barrier` is one of its own. */
__device__ inline void store(const struct fg_args &args, struct sums *d, const float (&sum)[BLOCK_N / 2], int row, int col,
                             int thread, int barrier) {
  if (thread == 0) bulk_wait_read(0); /* the last tile has left */
  named_barrier_sync(barrier, WARPGROUP);
  if (args.d_type == FP32)
    put_floats(d, sum, thread);
  else
    put_halves(d, sum, args.d_type == BF16, thread);
  fence_proxy_async();
  named_barrier_sync(barrier, WARPGROUP);
  int bytes = args.d_type == FP32 ? 4 : 2, cols = STORE_BYTES / bytes;
  int whole = args.n / (16 / bytes) * (16 / bytes); /* columns of the map: a store that is cut off within a piece would fill it */
  if (thread == 0) {
    FG_UNROLL(1)
    for (int i = 0; i * cols < BLOCK_N; i++)
      if (row < args.m && col + i * cols < whole) tma_store(&args.d_map, d->box[i], col + i * cols, row, 0);
    bulk_commit();
  }
  if (thread < 64 && row + thread < args.m) {
    FG_UNROLL(1)
    for (int c = whole > col ? whole : col; c < args.n && c < col + BLOCK_N; c++)
      copy_element(args, row + thread, c, place(d, thread, (c - col) * bytes));
  }
}
