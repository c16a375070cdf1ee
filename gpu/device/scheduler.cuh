/* Which tile is when. Tiles that are worked on at the same time should share rows of A and of B, which then come from the L2: so they are
 * taken from a stripe of STRIPE tiles' height, column by column, and then from the stripe below. */
#pragma once
#include "args.h"

enum { STRIPE = 16 };

struct tile {
  int row, col; /* of D, where it begins */
};

/* Tile `number`; false: there are not so many. The blocks of a cluster have tiles below each other, the last perhaps beyond D. */
__device__ inline bool find_tile(const struct fg_args &args, unsigned number, struct tile *tile) {
  unsigned rows = (args.m + CLUSTER * BLOCK_M - 1) / (CLUSTER * BLOCK_M) * CLUSTER, cols = (args.n + BLOCK_N - 1) / BLOCK_N;
  unsigned stripe = number / (STRIPE * cols), within = number % (STRIPE * cols);
  unsigned height = rows - stripe * STRIPE < STRIPE ? rows - stripe * STRIPE : STRIPE;
  if (number >= rows * cols) return false;
  tile->row = (stripe * STRIPE + within % height) * BLOCK_M;
  tile->col = within / height * BLOCK_N;
  return true;
}
