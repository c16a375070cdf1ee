/* What the program and its kernels pass to each other. */
#ifndef CHECK_TENSOR_CORE_H
#define CHECK_TENSOR_CORE_H

#include "random_operands.h"

enum { TILE_ROWS = 64, MOST_COLS = 256, MOST_REPORTED = 8, MOST_K = 512 };

/* What varies from tile to tile: tile t has the combination t % COMBINATIONS, counted in mixed radix, the layout fastest. */
enum layouts { PLAIN, SWIZZLED, LAYOUTS };
enum chains { CHAIN_1, CHAIN_4, CHAIN_16, CHAINS };
enum { COMBINATIONS = LAYOUTS * CHAINS * ACCUMULATOR_KINDS * OPERAND_KINDS };

struct combination {
  enum layouts layout;
  enum chains chain;
  enum accumulators accumulator;
  enum operands operands;
};

FG_BOTH_SIDES struct combination combination_of(int index) {
  struct combination is;
  is.layout = (enum layouts)(index % LAYOUTS);
  is.chain = (enum chains)(index / LAYOUTS % CHAINS);
  is.accumulator = (enum accumulators)(index / (LAYOUTS * CHAINS) % ACCUMULATOR_KINDS);
  is.operands = (enum operands)(index / (LAYOUTS * CHAINS * ACCUMULATOR_KINDS));
  return is;
}

FG_BOTH_SIDES int chain_steps(enum chains chain) { return chain == CHAIN_1 ? 1 : chain == CHAIN_4 ? 4 : 16; }

/* Step s of a chain meets block s % 4 of a row of A, and this block of a row of B: 16 steps are all 16 pairs. */
FG_BOTH_SIDES int block_of_b(int step) { return (step + step / 4) % 4; }

struct count {
  uint64_t compared, numbers, differences; /* numbers: finite and not zero */
};

struct difference {
  int combination, row, col;
  uint32_t c, chip, defined;
  uint8_t a[ROW_CODES], b[ROW_CODES];
};

/* What happened to one variant of the instruction. */
struct findings {
  uint64_t next_tile; /* the tile that the next idle thread block takes */
  struct count count[COMBINATIONS];
  uint32_t reported;
  struct difference difference[MOST_REPORTED];
};

/* One dot, in steps of 32. */
struct dot {
  int a_is_e5m2, b_is_e5m2, k;
  uint32_t c, d; /* d comes back */
  uint8_t a[MOST_K], b[MOST_K];
};

#endif
