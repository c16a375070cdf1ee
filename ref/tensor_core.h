/* One step of a Hopper tensor core on FP8: the definition of the family hopper, as docs/numerics.md has it in words.
 *
 * Integers only, so that nothing here depends on a compiler's or a chip's idea of FP32. It is C11 and CUDA alike: the very same
 * text was compiled for an H100 and compared there with what its tensor cores gave (tests/hardware). */
#ifndef FG_TENSOR_CORE_H
#define FG_TENSOR_CORE_H

#ifdef __CUDACC_RTC__ /* the run-time compiler has no headers */
typedef unsigned char uint8_t;
typedef int int32_t;
typedef unsigned int uint32_t;
#else
#include <stdint.h>
#endif

#ifdef __CUDACC__
#define FG_BOTH_SIDES static __host__ __device__ inline
#else
#define FG_BOTH_SIDES static inline
#endif

enum {
  FG_MMA_K = 32,
  FG_MMA_BITS = 13, /* fraction bits that terms and results keep */
  FG_MMA_NO_TERM = -1000
};

/* sign * significand * 2^(exponent - fraction bits), where a subnormal keeps the smallest exponent and is not normalised. */
struct fg_mma_operand {
  int negative, significand, exponent;
  int is_infinite, is_nan;
};

/* e4m3: 3 fraction bits, bias 7, no infinity, one NaN. e5m2: 2 fraction bits, bias 15. */
FG_BOTH_SIDES struct fg_mma_operand fg_mma_operand(int is_e5m2, uint8_t code) {
  int bits = is_e5m2 ? 2 : 3, bias = is_e5m2 ? 15 : 7, magnitude = code & 0x7F, infinity = is_e5m2 ? 0x7C : 0x7F;
  int field = magnitude >> bits;
  struct fg_mma_operand operand;
  operand.negative = code >> 7;
  operand.significand = (magnitude & ((1 << bits) - 1)) + (field ? 1 << bits : 0);
  operand.exponent = (field ? field : 1) - bias;
  operand.is_infinite = is_e5m2 && magnitude == infinity;
  operand.is_nan = magnitude >= infinity && !operand.is_infinite;
  return operand;
}

/* What a step came to on its way: every term, the products' and then the accumulator's. */
struct fg_mma_trace {
  int32_t term[FG_MMA_K + 1];
  int exponent;
  int32_t sum;
};

/* sum * 2^(exponent - 13) as the bits of FP32, its magnitude cut to 13 fraction bits; +0 for 0. Below 2^-126 nothing is left to
 * cut. It cannot overflow: where c is as large as that, no product reaches into the sum. */
FG_BOTH_SIDES uint32_t fg_mma_pack(int32_t sum, int exponent) {
  if (sum == 0) return 0;
  uint32_t sign = sum < 0 ? 0x80000000u : 0, magnitude = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum;
  int top = 0; /* the leading bit */
  while (magnitude >> (top + 1)) top++;
  if (top > FG_MMA_BITS) magnitude = magnitude >> (top - FG_MMA_BITS) << (top - FG_MMA_BITS);
  int last = exponent - FG_MMA_BITS; /* exponent of the last bit */
  if (top + last < -126) return sign | magnitude << (last + 149);
  return sign | (uint32_t)(top + last + 127) << 23 | (magnitude << (23 - top) & 0x7FFFFFu);
}

/* The bits of d = c + a · b, 32 codes each. `trace` may be NULL. */
FG_BOTH_SIDES uint32_t fg_mma_step_bits(int a_is_e5m2, int b_is_e5m2, const uint8_t *a, const uint8_t *b, uint32_t c,
                                        struct fg_mma_trace *trace) {
  const uint32_t nan = 0x7FFFFFFFu, infinity = 0x7F800000u;
  uint32_t c_magnitude = c & 0x7FFFFFFFu;
  int c_field = (int)(c_magnitude >> 23), c_exponent = (c_field ? c_field : 1) - 127;
  uint32_t c_significand = (c_magnitude & 0x7FFFFFu) | (c_field ? 0x800000u : 0);

  /* 1. The largest exponent of a term that is not zero, and whatever is not finite. */
  int exponent = c_magnitude ? c_exponent : FG_MMA_NO_TERM;
  int is_nan = c_magnitude > infinity, positive = c == infinity, negative = c == (infinity | 0x80000000u);
  for (int k = 0; k < FG_MMA_K; k++) {
    struct fg_mma_operand x = fg_mma_operand(a_is_e5m2, a[k]), y = fg_mma_operand(b_is_e5m2, b[k]);
    int is_zero = x.significand == 0 || y.significand == 0; /* infinity has one of 4 */
    if (x.is_nan || y.is_nan) is_nan = 1;
    if (x.is_infinite || y.is_infinite) {
      if (is_zero)
        is_nan = 1;
      else if (x.negative != y.negative)
        negative = 1;
      else
        positive = 1;
    }
    if (!is_zero && x.exponent + y.exponent > exponent) exponent = x.exponent + y.exponent;
  }
  int is_finite = !is_nan && !positive && !negative;
  if (!is_finite || exponent == FG_MMA_NO_TERM) exponent = 0;

  /* 2. Every term as a multiple of 2^(exponent - 13), cut toward zero, and their sum, which is exact: 33 terms below 2^15. */
  int32_t sum = 0;
  int product_bits = (a_is_e5m2 ? 2 : 3) + (b_is_e5m2 ? 2 : 3);
  for (int k = 0; k <= FG_MMA_K; k++) {
    int is_negative, shift;
    uint32_t magnitude;
    if (k < FG_MMA_K) {
      struct fg_mma_operand x = fg_mma_operand(a_is_e5m2, a[k]), y = fg_mma_operand(b_is_e5m2, b[k]);
      is_negative = x.negative != y.negative;
      magnitude = (uint32_t)(x.significand * y.significand) << (FG_MMA_BITS - product_bits);
      shift = exponent - (x.exponent + y.exponent);
    } else {
      is_negative = (int)(c >> 31);
      magnitude = c_significand >> (23 - FG_MMA_BITS);
      shift = exponent - c_exponent;
    }
    int32_t term = is_finite && magnitude && shift < 32 ? (int32_t)(magnitude >> shift) : 0;
    if (is_negative) term = -term;
    sum += term;
    if (trace) trace->term[k] = term;
  }
  if (trace) {
    trace->exponent = exponent;
    trace->sum = sum;
  }

  /* 3. What leaves. */
  if (is_nan || (positive && negative)) return nan;
  if (positive) return infinity;
  if (negative) return infinity | 0x80000000u;
  return fg_mma_pack(sum, exponent);
}

#endif
