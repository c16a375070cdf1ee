#include "tensor_core.h"

#include "bits.h"
#include "fp8.h"
#include "mma.h"

#include <math.h>
#include <string.h>

float fg_mma_dot(fg_type a_type, const uint8_t *a, fg_type b_type, const uint8_t *b, int64_t k, float c, fg_mma_step *steps) {
  const float *a_values = fg_fp8_table(a_type), *b_values = fg_fp8_table(b_type);
  for (int64_t k0 = 0; k0 < k; k0 += FG_MMA_K) {
    uint8_t a_codes[FG_MMA_K] = {0}, b_codes[FG_MMA_K] = {0};
    size_t count = (size_t)(k - k0 < FG_MMA_K ? k - k0 : FG_MMA_K);
    memcpy(a_codes, a + k0, count);
    memcpy(b_codes, b + k0, count);
    struct fg_mma_trace trace;
    float d = fg_float_of(
        fg_mma_step_bits(a_type == FG_E5M2, b_type == FG_E5M2, a_codes, b_codes, fg_bits_of(c), steps ? &trace : NULL));
    if (steps) {
      fg_mma_step *step = &steps[k0 / FG_MMA_K];
      *step = (fg_mma_step){.c = c, .c_term = trace.term[FG_MMA_K], .exponent = trace.exponent, .sum = trace.sum, .d = d};
      memcpy(step->term, trace.term, sizeof step->term);
      for (int i = 0; i < FG_MMA_K; i++) {
        float product = a_values[a_codes[i]] * b_values[b_codes[i]];
        step->product[i] = isnan(product) ? fg_float_of(0x7FFFFFFFu) : product; /* processors make different NaN */
      }
    }
    c = d;
  }
  return c;
}
