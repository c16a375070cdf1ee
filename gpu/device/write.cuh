/* Sums leave a warp for D by way of shared memory of its own: 16 rows for each of its warpgroup's PARTS parts.
 *
 * D_TYPE is D's type, BF16 or FP16, where nothing is added and the copy engine can store it: another thread asks it to, and the warp
 * goes on. 0: each warp turns its sums round as they are, and whatever D and the problem admit is done on the way out. */
#pragma once
#include "bulk.cuh"
#include "finish_four.cuh"
#include "promote.cuh"
#include "tma.cuh"
#include "unroll.cuh"
#include "warp.cuh"

/* A tile's columns are whole boxes; rows of a box lie closely, as the tensor map swizzles them. */
enum { BOX_COLS = !D_TYPE ? 32 : BLOCK_N % 64 == 0 ? 64 : BLOCK_N % 32 == 0 ? 32 : 16, BOX_BYTES = BOX_COLS * (D_TYPE ? 2 : 4) };
enum { ROWS = 16, PART_BOXES = D_TYPE ? BLOCK_N / BOX_COLS : 1, BOXES = PARTS * PART_BOXES };

/* Where it begins in D; the first row and column that are its own, as what lies before is another's; and the row where its own end. Its
 * own begin a multiple of ROWS rows, and whole boxes, after the tile does. */
struct tile {
  int row, col, own_row, own_col, end_row;
};

struct __align__(1024) turned {
  unsigned char box[BOXES][ROWS][BOX_BYTES];
};

/* 16 bytes are a place of a row, and those of eight rows that lie below each other are in different banks. */
__device__ inline unsigned char *place(unsigned char (*box)[BOX_BYTES], int row, int byte) {
  return &box[row][byte ^ row * BOX_BYTES / 128 * 16 % BOX_BYTES];
}

/* All columns of a part, rounded: its boxes begin with `box`. */
__device__ inline void turn_halves(unsigned char (*box)[ROWS][BOX_BYTES], const float (&sum)[BLOCK_N / 2], int lane) {
  FG_UNROLL(BLOCK_N / 16)
  for (int i = 0; i < BLOCK_N / 2; i += 8) {
    unsigned m[4];
    FG_UNROLL(4)
    for (int j = 0; j < 4; j++)
      m[j] = D_TYPE == BF16 ? floats_to_bf16(sum[i + 2 * j], sum[i + 2 * j + 1])
                            : floats_to_fp16(sum[i + 2 * j], sum[i + 2 * j + 1]);
    stmatrix(place(box[i * 2 / BOX_COLS], lane % 16, i * 2 % BOX_COLS * 2 + lane / 16 * 16), m[0], m[1], m[2], m[3]);
  }
}

/* Columns from `first` on, as they are: as many as fill the box, or as there are. */
__device__ inline void turn_floats(unsigned char (*box)[BOX_BYTES], const float (&sum)[BLOCK_N / 2], int first, int lane) {
  FG_UNROLL(BOX_COLS / 4)
  for (int j = 0; j < BOX_COLS / 2 && first / 2 + j < BLOCK_N / 2; j += 2)
    *(float2 *)place(box, lane / 4 + j / 2 % 2 * 8, (j / 4 * 8 + lane % 4 * 2) * 4) =
        make_float2(sum[first / 2 + j], sum[first / 2 + j + 1]);
}

/* 16 rows of a tile, from row `row` of it on, by a warp. */
__device__ inline void finish_rows(const struct fg_args &args, unsigned char (*box)[BOX_BYTES], const float (&sum)[BLOCK_N / 2],
                                   const struct tile &tile, int row, int lane) {
  bool aligned_fours = has_aligned_fours(args);
  row += tile.row;
  if (row < tile.own_row) return;
  FG_UNROLL(BLOCK_N / BOX_COLS + 1)
  for (int first = 0; first < BLOCK_N; first += BOX_COLS) {
    int at = first + lane % 8 * 4, col = tile.col + at; /* each thread has four columns of every fourth row */
    __syncwarp();
    turn_floats(box, sum, first, lane);
    __syncwarp();
    FG_UNROLL(1)
    for (int r = lane / 8; r < 16; r += 4)
      if (at < BLOCK_N && row + r < tile.end_row && col >= tile.own_col && col < args.n)
        finish_four(args, row + r, col, *(const float4 *)place(box, r, lane % 8 * 16), aligned_fours);
  }
}

/* What a warp has of a tile, where D_TYPE is 0: the parts are 64 rows apart, the first begins with row `row` of the tile. */
__device__ inline void finish_parts(const struct fg_args &args, struct turned *turned, const float (&sum)[PARTS][BLOCK_N / 2],
                                    const struct tile &tile, int row, int lane) {
  FG_UNROLL(PARTS)
  for (int part = 0; part < PARTS; part++) finish_rows(args, turned->box[part], sum[part], tile, row + part * 64, lane);
}

/* The same where it is not: first turned round, by the warp. */
__device__ inline void turn_parts(struct turned *turned, const float (&sum)[PARTS][BLOCK_N / 2], int lane) {
  FG_UNROLL(PARTS)
  for (int part = 0; part < PARTS; part++) turn_halves(turned->box + part * PART_BOXES, sum[part], lane);
  fence_proxy_async();
}

/* And then stored, by a thread of any other. It waits until what it asked for was read before it asks for more, so that the loads for the
 * next tile come between: 2 KiB at a time, 16 rows of 64 columns. After the last tile, for which nothing comes, it asks for all at once, and
 * whoever calls waits. */
__device__ inline void store_parts(const struct fg_args &args, struct turned *turned, const struct tile &tile, int row,
                                   bool is_last) {
  for (int i = 0; i < BOXES; i++) {
    int at_row = tile.row + row + i / PART_BOXES * 64, at_col = tile.col + i % PART_BOXES * BOX_COLS;
    if (at_row >= tile.own_row && at_row < tile.end_row && at_col >= tile.own_col && at_col < args.n)
      tma_store(&args.d_map, turned->box[i], at_col, at_row, 0);
    if (is_last || ((i + 1) * BOX_COLS % 64 && i + 1 < BOXES)) continue;
    bulk_commit();
    bulk_wait_read(0);
  }
}
