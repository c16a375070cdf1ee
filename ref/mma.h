/* Many tensor core steps at once: 16 columns of B against rows of A, over one block of K. tensor_core.h is the definition; what
 * is here gives its bits where all operands are finite, and has a path for each set of vector instructions.
 *
 * With E the largest exponent, a term is the product cut toward zero to a multiple of 2^(E - 13). Two FP8 significands have 8 bits
 * together, so FP32 has the product exactly, and exactly again after multiplying by a power of two:
 *
 *     term = (int32_t)(a * b * 2^(13 - E))        no rounding but the conversion's, which cuts toward zero
 *
 * The sum of 33 terms is below 2^21: FP32 has that exactly too, and in its bits the 14 leading ones stand at the top. So nothing
 * depends on how FP32 rounds, and nothing is subnormal. Only E needs more than values: the sum of two exponents does not tell
 * whether a product of significands reaches 2, and a subnormal keeps the smallest exponent. So codes are decoded once, into a
 * value and an exponent each. */
#ifndef FG_MMA_H
#define FG_MMA_H

#include "part.h"
#include "tensor_core.h"

#include <stdbool.h>

enum { FG_MMA_ROWS = 16, FG_MMA_QUADS = FG_BLOCK_K / 4 };

/* A zero's exponent. With any other operand's it stays below every exponent that a step can otherwise see: products of numbers
 * have at least -28, an accumulator that came from such products at least -32. So does the sum of two, even saturated to -128. */
enum { FG_MMA_ZERO_EXPONENT = -100 };

/* The least exponent that a step is reckoned with: where all terms are zero, any does. */
enum { FG_MMA_LEAST_EXPONENT = -100 };

/* The bits of FP32 that a result keeps: sign, exponent and 13 fraction bits. */
#define FG_MMA_KEPT (~0u << (23 - FG_MMA_BITS))

/* 16 rows of A, or 16 rows of B, which are columns of D, in one block of K: lanes are rows. The exponents of four neighbours in K
 * stand together, so that a vector's bytes are the exponents of a quarter as many rows. */
struct fg_mma_panel {
  _Alignas(64) float value[FG_BLOCK_K][FG_MMA_ROWS];
  _Alignas(64) int8_t exponent[FG_MMA_QUADS][FG_MMA_ROWS * 4]; /* [quad][row][k] */
  uint32_t
      special_rows; /* a bit for each with NaN or infinity: none of its dots counts; in value and exponent they are anything */
};

struct fg_mma_path {
  /* 16 rows of 128 codes; `ld` codes from row to row. */
  void (*decode)(fg_type type, const uint8_t *codes, int64_t ld, struct fg_mma_panel *panel);

  /* dot[row][col] over `steps` steps, the first from +0. a has row_count rows in as many panels as that takes. */
  void (*dots)(const struct fg_mma_panel *a, int64_t row_count, const struct fg_mma_panel *b, int steps,
               float (*dot)[FG_MMA_ROWS]);

  /* sum[row * ld + col] = fma(RN(a_scale[row] * b_scale[col]), dot[row][col], sum[row * ld + col]) */
  void (*promote)(const float *a_scale, const float *b_scale, int64_t row_count, float (*dot)[FG_MMA_ROWS], float *sum,
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
