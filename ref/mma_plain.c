/* The path in plain C. Its inner loops run over columns, so that a compiler can make vectors of whatever the machine has. */
#include "mma.h"

#include "bits.h"
#include "fp8.h"
#include <math.h>

static int8_t exponents[2][256]; /* of e4m3, of e5m2 */

__attribute__((constructor)) static void fill_exponents(void) {
  for (int is_e5m2 = 0; is_e5m2 < 2; is_e5m2++)
    for (int code = 0; code < 256; code++) {
      struct fg_mma_operand x = fg_mma_operand(is_e5m2, (uint8_t)code);
      exponents[is_e5m2][code] = (int8_t)(x.significand ? x.exponent : FG_MMA_ZERO_EXPONENT);
    }
}

static void decode(fg_type type, const uint8_t *codes, int64_t ld, struct fg_mma_panel *panel) {
  const float *values = fg_fp8_table(type);
  const int8_t *of_code = exponents[type == FG_E5M2];
  panel->special_rows = 0;
  for (int row = 0; row < FG_MMA_ROWS; row++)
    for (int k = 0; k < FG_BLOCK_K; k++) {
      uint8_t code = codes[row * ld + k];
      bool is_special = !isfinite(values[code]);
      panel->value[k][row] = is_special ? 0 : values[code];
      panel->exponent[k / 4][row * 4 + k % 4] = of_code[code];
      panel->special_rows |= (uint32_t)is_special << row;
    }
}

static int32_t larger(int32_t x, int32_t y) { return x > y ? x : y; }

/* The largest exponent for each column. */
static void find_exponents(const struct fg_mma_panel *a, int row, const struct fg_mma_panel *b, int step, const float *c,
                           int32_t *exponent) {
  int16_t most[FG_MMA_ROWS * 4];
  for (int i = 0; i < FG_MMA_ROWS * 4; i++) most[i] = INT16_MIN;
  for (int quad = step * FG_MMA_K / 4; quad < (step + 1) * FG_MMA_K / 4; quad++)
    for (int i = 0; i < FG_MMA_ROWS * 4; i++) {
      int16_t of_product = (int16_t)(a->exponent[quad][row * 4 + i % 4] + b->exponent[quad][i]);
      if (of_product > most[i]) most[i] = of_product;
    }
  for (int col = 0; col < FG_MMA_ROWS; col++) {
    int c_exponent = (int)(fg_bits_of(c[col]) >> 23 & 0xFF) - 127; /* of 0: -127 */
    exponent[col] = larger(larger(c_exponent, FG_MMA_LEAST_EXPONENT),
                           larger(larger(most[col * 4], most[col * 4 + 1]), larger(most[col * 4 + 2], most[col * 4 + 3])));
  }
}

static float power_of_two(int exponent) { return fg_float_of((uint32_t)(exponent + 127) << 23); }

static void add_step(const struct fg_mma_panel *a, int row, const struct fg_mma_panel *b, int step, float *c) {
  int32_t exponent[FG_MMA_ROWS], sum[FG_MMA_ROWS];
  float to_terms[FG_MMA_ROWS];
  find_exponents(a, row, b, step, c, exponent);
  for (int col = 0; col < FG_MMA_ROWS; col++) {
    to_terms[col] = power_of_two(FG_MMA_BITS - exponent[col]);
    sum[col] = (int32_t)(c[col] * to_terms[col]);
  }
  for (int k = step * FG_MMA_K; k < (step + 1) * FG_MMA_K; k++)
    for (int col = 0; col < FG_MMA_ROWS; col++) sum[col] += (int32_t)(a->value[k][row] * b->value[k][col] * to_terms[col]);
  for (int col = 0; col < FG_MMA_ROWS; col++)
    c[col] = fg_float_of(fg_bits_of((float)sum[col]) & FG_MMA_KEPT) * power_of_two(exponent[col] - FG_MMA_BITS);
}

static void dots(const struct fg_mma_panel *a, int64_t row_count, const struct fg_mma_panel *b, int steps,
                 float (*dot)[FG_MMA_ROWS]) {
  for (int64_t i = 0; i < row_count; i++) {
    for (int col = 0; col < FG_MMA_ROWS; col++) dot[i][col] = 0;
    for (int step = 0; step < steps; step++) add_step(&a[i / FG_MMA_ROWS], (int)(i % FG_MMA_ROWS), b, step, dot[i]);
  }
}

static void promote(const float *a_scale, const float *b_scale, int64_t row_count, float (*dot)[FG_MMA_ROWS], float *sum,
                    int64_t ld) {
  for (int64_t i = 0; i < row_count; i++)
    for (int col = 0; col < FG_MMA_ROWS; col++)
      sum[i * ld + col] = fmaf(a_scale[i] * b_scale[col], dot[i][col], sum[i * ld + col]);
}

const struct fg_mma_path fg_mma_plain = {.decode = decode, .dots = dots, .promote = promote};
