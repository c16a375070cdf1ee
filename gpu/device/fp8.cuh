/* FP8 to FP32, exactly. A code's exponent and fraction, moved to where FP32 has them, are the value but for the difference of the
 * biases, which one multiplication by a power of two puts right: subnormals too, since FP32 then has them as its own subnormals. */
#pragma once
#include "unroll.cuh"

__device__ inline float e4m3_to_float(unsigned code) { /* bias 7, no infinity, one NaN */
  unsigned magnitude = code & 0x7F, sign = (code & 0x80) << 24;
  float value = __fmul_rn(__uint_as_float(sign | magnitude << 20), 0x1p120f);
  return magnitude == 0x7F ? __uint_as_float(0x7FFFFFFF) : value;
}

__device__ inline float e5m2_to_float(unsigned code) { /* bias 15; infinity 0x7C, NaN above */
  unsigned magnitude = code & 0x7F, sign = (code & 0x80) << 24;
  float value = __fmul_rn(__uint_as_float(sign | magnitude << 21), 0x1p112f);
  return magnitude < 0x7C ? value : __uint_as_float(magnitude > 0x7C ? 0x7FFFFFFF : sign | 0x7F800000);
}

/* The operands' types are constants of a kernel. */
__device__ inline float a_to_float(unsigned code) { return A_IS_E5M2 ? e5m2_to_float(code) : e4m3_to_float(code); }
__device__ inline float b_to_float(unsigned code) { return B_IS_E5M2 ? e5m2_to_float(code) : e4m3_to_float(code); }

struct __align__(16) sixteen {
  unsigned long long low, high; /* eight codes each, the first in the lowest byte */
};

/* Sixteen neighbours of a row, as many as there are and zeros; one load where they are aligned. */
__device__ inline struct sixteen load_sixteen(const unsigned char *from, long long count) {
  if (count >= 16 && (unsigned long long)from % 16 == 0) return *(const struct sixteen *)from;
  struct sixteen codes = {0, 0};
  FG_UNROLL(1)
  for (int i = 0; i < 16 && i < count; i++) (i < 8 ? codes.low : codes.high) |= (unsigned long long)from[i] << 8 * (i % 8);
  return codes;
}

__device__ inline unsigned code_at(const struct sixteen &codes, int i) {
  return (i < 8 ? codes.low : codes.high) >> 8 * (i % 8) & 0xFF;
}
