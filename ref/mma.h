/* Many tensor core steps at once: rows of A against 16 columns of D, over one block of K. tensor_core.h is the definition; what
 * is here gives its bits where all operands are finite, and has a path for each set of vector instructions.
 *
 * Let E be the largest exponent. A term is a product cut toward zero to a multiple of 2^(E - 13). Two significands of FP8 have at
 * most 8 bits together, so FP32 has the product exactly, and exactly again after it is multiplied by a power of two:
 *
 *     term = (int32_t)(a * b * 2^(13 - E))        what cuts is the conversion
 *
 * The sum of 33 terms is below 2^21, so FP32 has that exactly too, and a mask on its bits leaves the leading 14. So nothing here
 * depends on how FP32 rounds, and nothing is subnormal. Only E takes more than values: it does not tell whether the product of
 * two significands reaches 2, and a subnormal operand counts with the smallest exponent. So codes are decoded once, into a value
 * and an exponent each. */
#ifndef FG_MMA_H
#define FG_MMA_H

#include "part.h"
#include "tensor_core.h"

#include <stdbool.h>

enum { FG_MMA_LANES = 16, FG_MMA_QUADS = FG_BLOCK_K / 4 };

/* A zero's exponent. With any other operand's it stays below every exponent that a step can otherwise see: products of numbers
 * have at least -28, an accumulator that came from such products at least -32. So does the sum of two, even saturated to -128. */
enum { FG_MMA_ZERO_EXPONENT = -100 };

/* The least exponent that a step is reckoned with: where all terms are zero, any does. */
enum { FG_MMA_LEAST_EXPONENT = -100 };

/* Of an accumulator from elsewhere, which may not be below what a zero times the largest operand, 2^15, counts as. */
enum { FG_MMA_LEAST_SUM_EXPONENT = FG_MMA_ZERO_EXPONENT + 15 };

/* The bits of FP32 that a result keeps: sign, exponent and 13 fraction bits. */
#define FG_MMA_KEPT (~0u << (23 - FG_MMA_BITS))

/* 16 rows of A, or 16 rows of B, which are columns of D, in one block of K. Lanes are rows: the values of one k for all of them
 * stand together. Of the exponents, which are bytes, a quad does, four neighbours in K: four bytes for each 32-bit lane. */
struct fg_mma_panel {
  _Alignas(64) float value[FG_BLOCK_K][FG_MMA_LANES];
  _Alignas(64) int8_t exponent[FG_MMA_QUADS][FG_MMA_LANES * 4]; /* [quad][lane][k % 4] */
  uint32_t
      special_rows; /* a bit for each with NaN or infinity: none of its dots counts; in value and exponent they are anything */
};

struct fg_mma_path {
  /* 16 rows of 128 codes; `ld` codes from row to row. */
  void (*decode)(fg_type type, const uint8_t *codes, int64_t ld, struct fg_mma_panel *panel);

  /* dot[row][col] over `steps` steps, the first from +0, or, to accumulate, from what dot is: zero, or finite with an exponent of at
   * least FG_MMA_LEAST_SUM_EXPONENT. a has row_count rows in as many panels as that takes. */
  void (*dots)(const struct fg_mma_panel *a, int64_t row_count, const struct fg_mma_panel *b, int steps, bool accumulate,
               float (*dot)[FG_MMA_LANES]);

  /* sum[row * ld + col] = fma(RN(a_scale[row] * b_scale[col]), dot[row][col], sum[row * ld + col]) */
  void (*promote)(const float *a_scale, const float *b_scale, int64_t row_count, float (*dot)[FG_MMA_LANES], float *sum,
                  int64_t ld);
};

extern const struct fg_mma_path fg_mma_plain, fg_mma_avx2, fg_mma_avx512;

/* AVX-512's, too. */
void fg_mma_decode_avx2(fg_type type, const uint8_t *codes, int64_t ld, struct fg_mma_panel *panel);

/* The path that fg_isa() names. */
const struct fg_mma_path *fg_mma_path(void);

/* fg_mma() without its checks: by the definition, whatever the operands are. */
float fg_mma_dot(fg_type a_type, const uint8_t *a, fg_type b_type, const uint8_t *b, int64_t k, float c, fg_mma_step *steps);

#endif
