/* The path in plain C. Its inner loops run over columns, so that a compiler can make vectors of whatever the machine has. */
#include "mma.h"

#include "bits.h"
#include <math.h>
#include <string.h>

/* A code decoded; a special one as zero. */
struct operand {
  float value;
  int8_t exponent;
  bool is_special;
};

static struct operand operands[2][256]; /* of e4m3, of e5m2 */

__attribute__((constructor)) static void fill_operands(void) {
  for (int is_e5m2 = 0; is_e5m2 < 2; is_e5m2++)
    for (int code = 0; code < 256; code++) {
      struct fg_mma_operand x = fg_mma_operand(is_e5m2, (uint8_t)code);
      struct operand *operand = &operands[is_e5m2][code];
      operand->is_special = x.is_infinite || x.is_nan;
      operand->exponent = (int8_t)(x.significand && !operand->is_special ? x.exponent : FG_MMA_ZERO_EXPONENT);
      operand->value =
          operand->is_special ? 0 : ldexpf((float)(x.negative ? -x.significand : x.significand), x.exponent - (is_e5m2 ? 2 : 3));
    }
}

static void decode(fg_type type, const uint8_t *codes, int64_t ld, struct fg_mma_panel *panel) {
  panel->special_rows = 0;
  for (int row = 0; row < FG_MMA_LANES; row++)
    for (int k = 0; k < FG_BLOCK_K; k++) {
      struct operand x = operands[type == FG_E5M2][codes[row * ld + k]];
      panel->value[k][row] = x.value;
      panel->exponent[k / 4][row * 4 + k % 4] = x.exponent;
      panel->special_rows |= (uint32_t)x.is_special << row;
    }
}

static int32_t larger(int32_t x, int32_t y) { return x > y ? x : y; }

/* The largest exponent for each column. */
static void find_exponents(const struct fg_mma_panel *a, int row, const struct fg_mma_panel *b, int step, const float *c,
                           int32_t *exponent) {
  int16_t most[FG_MMA_LANES * 4];
  for (int i = 0; i < FG_MMA_LANES * 4; i++) most[i] = INT16_MIN;
  for (int quad = step * FG_MMA_K / 4; quad < (step + 1) * FG_MMA_K / 4; quad++) {
    int8_t of_row[FG_MMA_LANES * 4];
    for (int col = 0; col < FG_MMA_LANES; col++) memcpy(&of_row[col * 4], &a->exponent[quad][row * 4], 4);
    for (int i = 0; i < FG_MMA_LANES * 4; i++) {
      int16_t of_product = (int16_t)(of_row[i] + b->exponent[quad][i]);
      most[i] = of_product > most[i] ? of_product : most[i];
    }
  }
  for (int col = 0; col < FG_MMA_LANES; col++) {
    int c_exponent = (int)(fg_bits_of(c[col]) >> 23 & 0xFF) - 127; /* of 0: -127 */
    exponent[col] = larger(larger(c_exponent, FG_MMA_LEAST_EXPONENT),
                           larger(larger(most[col * 4], most[col * 4 + 1]), larger(most[col * 4 + 2], most[col * 4 + 3])));
  }
}

static float power_of_two(int exponent) { return fg_float_of((uint32_t)(exponent + 127) << 23); }

static void add_step(const struct fg_mma_panel *a, int row, const struct fg_mma_panel *b, int step, float *c) {
  int32_t exponent[FG_MMA_LANES], sum[FG_MMA_LANES];
  float to_terms[FG_MMA_LANES];
  find_exponents(a, row, b, step, c, exponent);
  for (int col = 0; col < FG_MMA_LANES; col++) {
    to_terms[col] = power_of_two(FG_MMA_BITS - exponent[col]);
    sum[col] = (int32_t)(c[col] * to_terms[col]);
  }
  for (int k = step * FG_MMA_K; k < (step + 1) * FG_MMA_K; k++)
    for (int col = 0; col < FG_MMA_LANES; col++) sum[col] += (int32_t)(a->value[k][row] * b->value[k][col] * to_terms[col]);
  for (int col = 0; col < FG_MMA_LANES; col++)
    c[col] = fg_float_of(fg_bits_of((float)sum[col]) & FG_MMA_KEPT) * power_of_two(exponent[col] - FG_MMA_BITS);
}

static void dots(const struct fg_mma_panel *a, int64_t row_count, const struct fg_mma_panel *b, int steps, bool accumulate,
                 float (*dot)[FG_MMA_LANES]) {
  for (int64_t i = 0; i < row_count; i++) {
    for (int col = 0; col < FG_MMA_LANES && !accumulate; col++) dot[i][col] = 0;
    for (int step = 0; step < steps; step++) add_step(&a[i / FG_MMA_LANES], (int)(i % FG_MMA_LANES), b, step, dot[i]);
  }
}

static void promote(const float *a_scale, const float *b_scale, int64_t row_count, float (*dot)[FG_MMA_LANES], float *sum,
                    int64_t ld) {
  for (int64_t i = 0; i < row_count; i++)
    for (int col = 0; col < FG_MMA_LANES; col++)
      sum[i * ld + col] = fmaf(a_scale[i] * b_scale[col], dot[i][col], sum[i * ld + col]);
}

const struct fg_mma_path fg_mma_plain = {.decode = decode, .dots = dots, .promote = promote};
