/* What the vector paths of mma.h share. A path first defines TARGET and INLINE, the types `floats` and `words` (vectors of FP32
 * and of integers), V(name) for the intrinsic `name` on them, AND(), LOAD_WORDS(), CAST_WORDS() and CAST_FLOATS() for those whose
 * names say how wide they are, PATH for the path's name and DECODE for the function that decodes. */
#ifndef FG_MMA_VECTOR_H
#define FG_MMA_VECTOR_H

#include "bits.h"
#include <string.h>

enum { WIDTH = sizeof(floats) / sizeof(float), VECTORS = FG_MMA_LANES / WIDTH };
enum { UNROLL = 8 }; /* compilers do so with loops of as many rounds */

/* For each column 2^E, as the bits of FP32: these are ordered like the powers. */
INLINE words largest_power(const struct fg_mma_panel *a, int row, const struct fg_mma_panel *b, int vector, int step, floats c) {
  words most = V(set1_epi8)(-128);
  for (int quad = step * FG_MMA_K / 4; quad < (step + 1) * FG_MMA_K / 4; quad++) {
    int32_t of_row;
    memcpy(&of_row, &a->exponent[quad][row * 4], sizeof of_row);
    words of_cols = LOAD_WORDS(&b->exponent[quad][vector * WIDTH * 4]);
    most = V(max_epi8)(most, V(adds_epi8)(V(set1_epi32)(of_row), of_cols));
  }
  /* The largest of a lane's four goes to the top byte, and from there to where FP32 has its exponent. */
  most = V(max_epi8)(most, V(slli_epi32)(most, 16));
  most = V(max_epi8)(most, V(slli_epi32)(most, 8));
  words exponent = AND(V(srai_epi32)(most, 1), V(set1_epi32)((int)0xFF800000u));
  words power = V(add_epi32)(exponent, V(set1_epi32)(127 << 23));
  words of_c = AND(CAST_WORDS(c), V(set1_epi32)(FG_INFINITY_BITS));
  return V(max_epi32)(V(max_epi32)(power, of_c), V(set1_epi32)((FG_MMA_LEAST_EXPONENT + 127) << 23));
}

INLINE void add_steps(const struct fg_mma_panel *a, int row, const struct fg_mma_panel *b, int steps, bool accumulate,
                      float *dot) {
  floats c[VECTORS];
  for (int v = 0; v < VECTORS; v++) c[v] = accumulate ? V(loadu_ps)(&dot[v * WIDTH]) : V(setzero_ps)();
  for (int step = 0; step < steps; step++) {
    floats to_terms[VECTORS];
    words sum[VECTORS];
    for (int v = 0; v < VECTORS; v++) {
      words power = largest_power(a, row, b, v, step, c[v]);
      to_terms[v] = CAST_FLOATS(V(sub_epi32)(V(set1_epi32)((int)((127u + 127u + FG_MMA_BITS) << 23)), power));
      sum[v] = V(cvttps_epi32)(V(mul_ps)(c[v], to_terms[v]));
    }
    for (int k = step * FG_MMA_K; k < (step + 1) * FG_MMA_K; k += UNROLL)
      for (int i = k; i < k + UNROLL; i++) {
        floats x = V(set1_ps)(a->value[i][row]);
        for (int v = 0; v < VECTORS; v++) {
          floats product = V(mul_ps)(x, V(load_ps)(&b->value[i][v * WIDTH]));
          sum[v] = V(add_epi32)(sum[v], V(cvttps_epi32)(V(mul_ps)(product, to_terms[v])));
        }
      }
    for (int v = 0; v < VECTORS; v++) {
      words kept = AND(CAST_WORDS(V(cvtepi32_ps)(sum[v])), V(set1_epi32)((int)FG_MMA_KEPT));
      words back = V(sub_epi32)(V(set1_epi32)((127 + 127) << 23), CAST_WORDS(to_terms[v])); /* 1 / to_terms */
      c[v] = V(mul_ps)(CAST_FLOATS(kept), CAST_FLOATS(back));
    }
  }
  for (int v = 0; v < VECTORS; v++) V(storeu_ps)(&dot[v * WIDTH], c[v]);
}

TARGET static void dots(const struct fg_mma_panel *a, int64_t row_count, const struct fg_mma_panel *b, int steps, bool accumulate,
                        float (*dot)[FG_MMA_LANES]) {
  for (int64_t i = 0; i < row_count; i++) add_steps(&a[i / FG_MMA_LANES], (int)(i % FG_MMA_LANES), b, steps, accumulate, dot[i]);
}

TARGET static void promote(const float *a_scale, const float *b_scale, int64_t row_count, float (*dot)[FG_MMA_LANES], float *sum,
                           int64_t ld) {
  for (int64_t i = 0; i < row_count; i++)
    for (int col = 0; col < FG_MMA_LANES; col += WIDTH) {
      floats scale = V(mul_ps)(V(set1_ps)(a_scale[i]), V(loadu_ps)(&b_scale[col]));
      floats before = V(loadu_ps)(&sum[i * ld + col]);
      V(storeu_ps)(&sum[i * ld + col], V(fmadd_ps)(scale, V(loadu_ps)(&dot[i][col]), before));
    }
}

const struct fg_mma_path PATH = {.decode = DECODE, .dots = dots, .promote = promote};

#endif
