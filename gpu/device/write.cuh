/* 16 rows of sums leave a warp for D by ordinary stores: the warp turns them round in shared memory of its own, so that it waits for nobody.
 *
 * D_TYPE is D's type where nothing is added and D's rows, and what the tile has of them, are whole pieces of 16 bytes: they are rounded on
 * the way in. 0: they are turned round as they are, and whatever D and the problem admit is done on the way out. */
#pragma once
#include "finish_four.cuh"
#include "unroll.cuh"
#include "warp.cuh"

enum { TURNED_BYTES = D_TYPE == BF16 || D_TYPE == FP16 ? 2 : 4, TURNED_COLS = 128 / TURNED_BYTES }; /* of a row, at a time */
enum { PIECE_COLS = 16 / TURNED_BYTES };

/* 16 bytes are a place of a row, and the places of eight rows that lie below each other are in different banks. */
struct __align__(128) turned {
  unsigned char row[16][128];
};

__device__ inline unsigned char *place(struct turned *turned, int row, int byte) {
  return &turned->row[row][byte ^ row % 8 * 16];
}

/* The tile's columns from `first` on, as many as TURNED_COLS, or as there are. */
__device__ inline void turn(struct turned *turned, const float (&sum)[BLOCK_N / 2], int first, int lane) {
  FG_UNROLL(TURNED_COLS / 2)
  for (int j = 0; j < TURNED_COLS / 2; j += TURNED_BYTES == 4 ? 2 : 8) {
    int i = first / 2 + j;
    if (i >= BLOCK_N / 2) continue;
    if (TURNED_BYTES == 4) {
      float x = D_TYPE ? canonical(sum[i]) : sum[i], y = D_TYPE ? canonical(sum[i + 1]) : sum[i + 1];
      *(float2 *)place(turned, lane / 4 + j / 2 % 2 * 8, (j / 4 * 8 + lane % 4 * 2) * 4) = make_float2(x, y);
    } else {
      unsigned m[4];
      FG_UNROLL(4)
      for (int l = 0; l < 4; l++)
        m[l] = D_TYPE == BF16 ? floats_to_bf16(sum[i + 2 * l], sum[i + 2 * l + 1])
                              : floats_to_fp16(sum[i + 2 * l], sum[i + 2 * l + 1]);
      stmatrix(place(turned, lane % 16, j * 4 + lane / 16 * 16), m[0], m[1], m[2], m[3]);
    }
  }
}

/* By a warp, thread `lane` of it: D's rows from `row` on, columns from `col` on, where the tile begins. */
__device__ inline void write_rows(const struct fg_args &args, struct turned *turned, const float (&sum)[BLOCK_N / 2], int row,
                                  int col, int lane) {
  int piece = lane % 8 * PIECE_COLS; /* each thread has one place in every fourth row, from this one on: */
  row += lane / 8;
  long long four_rows = 4 * args.d.ld * TURNED_BYTES;
  unsigned char *to = (unsigned char *)args.d.data + (row * args.d.ld + col + piece) * TURNED_BYTES;
  bool is_whole = row - lane / 8 + 16 <= args.m && col + BLOCK_N <= args.n, aligned_fours = !D_TYPE && has_aligned_fours(args);
  FG_UNROLL((BLOCK_N + TURNED_COLS - 1) / TURNED_COLS)
  for (int first = 0; first < BLOCK_N; first += TURNED_COLS) {
    __syncwarp();
    turn(turned, sum, first, lane);
    __syncwarp();
    if (BLOCK_N % TURNED_COLS != 0 && first + piece >= BLOCK_N) continue;
    if (D_TYPE && is_whole) {
      FG_UNROLL(4)
      for (int i = 0; i < 4; i++)
        *(uint4 *)(to + i * four_rows + first * TURNED_BYTES) = *(const uint4 *)place(turned, lane / 8 + 4 * i, lane % 8 * 16);
      continue;
    }
    FG_UNROLL(1)
    for (int i = 0; i < 4; i++) {
      if (row + 4 * i >= args.m || col + first + piece >= args.n) continue;
      const unsigned char *from = place(turned, lane / 8 + 4 * i, lane % 8 * 16);
      if (D_TYPE)
        *(uint4 *)(to + i * four_rows + first * TURNED_BYTES) = *(const uint4 *)from;
      else
        finish_four(args, row + 4 * i, col + first + piece, *(const float4 *)from, aligned_fours);
    }
  }
}
