/* Many tensor core steps at once: 16 columns of B against rows of A, over one block of K. tensor_core.h is the definition; what
 * is here gives its bits where all operands are finite, and has a path for each set of vector instructions.
 *
 * A term is ((|a| |b|) << (13 - product bits)) >> (exponent - a's - b's): a product of significands with one shift that hangs on
 * the largest exponent. So codes are decoded once, into significands, signs and exponents, in the order in which the vector paths
 * read them: quads of four neighbours in K, which are 32 bits of exponents or 64 bits of significands.
 *
 * Significands of A come shifted left by 14 - product bits: products then have 16 bits, one more than a term that is not shifted,
 * and are shifted right by one more. */
#ifndef FG_MMA_H
#define FG_MMA_H

#include "part.h"
#include "tensor_core.h"

#include <stdbool.h>

enum { FG_MMA_COLS = 16, FG_MMA_QUADS = FG_BLOCK_K / 4 };

/* A zero's exponent. With any other operand's it stays below every exponent that a step can otherwise see: products of numbers
 * have at least -28, an accumulator that came from such products at least -32. Two zeros saturate at -128. */
enum { FG_MMA_ZERO_EXPONENT = -100 };

/* A row of A in one block of K. What is beyond the end of K is zero. */
struct fg_mma_row {
  int8_t exponent[FG_BLOCK_K];
  uint16_t significand[FG_BLOCK_K]; /* << (14 - product bits) */
  uint16_t flip[FG_BLOCK_K];        /* what turns +1 into -1 and back by exclusive or, if negative; else 0 */
  bool is_special;                  /* it has NaN or infinity, and none of its dots counts */
};

/* 16 columns, that is rows of B, in one block of K. */
struct fg_mma_cols {
  int8_t exponent[FG_MMA_QUADS][FG_MMA_COLS * 4];      /* [quad][column][k] */
  uint16_t significand[FG_MMA_QUADS][FG_MMA_COLS * 4]; /* [quad][fg_mma_word(column) + k] */
  int16_t sign[FG_MMA_QUADS][FG_MMA_COLS * 4];         /* +1 or -1, likewise */
  uint32_t special_cols;                               /* a bit for each with NaN or infinity */
};

/* Where a column's four words stand in a quad's 64: in the order in which unpacking the low, then the high halves of the 128-bit
 * lanes of exponents puts them. */
static inline int fg_mma_word(int col) { return col % 4 / 2 * 32 + col / 4 * 8 + col % 2 * 4; }

struct fg_mma_path {
  /* dot[row][col] over `steps` steps, the first from +0. */
  void (*dots)(const struct fg_mma_row *rows, int64_t row_count, const struct fg_mma_cols *cols, int steps,
               float (*dot)[FG_MMA_COLS]);

  /* sum[row * ld + col] = fma(RN(a_scale[row] * b_scale[col]), dot[row][col], sum[row * ld + col]) */
  void (*promote)(const float *a_scale, const float *b_scale, int64_t row_count, float (*dot)[FG_MMA_COLS], float *sum,
                  int64_t ld);
};

extern const struct fg_mma_path fg_mma_plain, fg_mma_avx2, fg_mma_avx512;

/* The path that fg_isa() names. */
const struct fg_mma_path *fg_mma_path(void);

/* fg_mma() without its checks: by the definition, whatever the operands are. */
float fg_mma_dot(fg_type a_type, const uint8_t *a, fg_type b_type, const uint8_t *b, int64_t k, float c, fg_mma_step *steps);

#endif
