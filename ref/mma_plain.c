#include "mma.h"

#include "bits.h"
#include <math.h>

static float step(const struct fg_mma_row *row, const struct fg_mma_cols *cols, int col, int k0, float c) {
  uint32_t bits = fg_bits_of(c), c_significand = bits << 1 ? (bits & 0x7FFFFFu) | 0x800000u : 0;
  int c_exponent = (int)(bits >> 23 & 0xFF) - 127, exponent = c_significand ? c_exponent : -128, word = fg_mma_word(col);
  for (int k = k0; k < k0 + FG_MMA_K; k++) {
    int of_product = row->exponent[k] + cols->exponent[k / 4][col * 4 + k % 4];
    if (of_product > exponent) exponent = of_product;
  }
  int shift = exponent - c_exponent + 23 - FG_MMA_BITS;
  int32_t sum = shift < 32 ? (int32_t)(c_significand >> shift) : 0;
  if (bits >> 31) sum = -sum;
  for (int k = k0; k < k0 + FG_MMA_K; k++) {
    uint32_t product = (uint32_t)row->significand[k] * cols->significand[k / 4][word + k % 4];
    int cut = exponent + 1 - row->exponent[k] - cols->exponent[k / 4][col * 4 + k % 4];
    int32_t term = (int32_t)(product >> (cut < 31 ? cut : 31)), sign = cols->sign[k / 4][word + k % 4];
    sum += (row->flip[k] ? -sign : sign) * term;
  }
  return fg_float_of(fg_mma_pack(sum, exponent));
}

static void dots(const struct fg_mma_row *rows, int64_t row_count, const struct fg_mma_cols *cols, int steps,
                 float (*dot)[FG_MMA_COLS]) {
  for (int64_t i = 0; i < row_count; i++)
    for (int col = 0; col < FG_MMA_COLS; col++) {
      dot[i][col] = 0;
      for (int s = 0; s < steps; s++) dot[i][col] = step(&rows[i], cols, col, s * FG_MMA_K, dot[i][col]);
    }
}

static void promote(const float *a_scale, const float *b_scale, int64_t row_count, float (*dot)[FG_MMA_COLS], float *sum,
                    int64_t ld) {
  for (int64_t i = 0; i < row_count; i++)
    for (int col = 0; col < FG_MMA_COLS; col++)
      sum[i * ld + col] = fmaf(a_scale[i] * b_scale[col], dot[i][col], sum[i * ld + col]);
}

const struct fg_mma_path fg_mma_plain = {.dots = dots, .promote = promote};
