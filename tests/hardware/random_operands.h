/* Operands and accumulators that are drawn alike on the CPU and on a GPU: everything follows from a seed and a counter. */
#ifndef RANDOM_OPERANDS_H
#define RANDOM_OPERANDS_H

#include "tensor_core.h"

#ifdef __CUDACC_RTC__
typedef unsigned long long uint64_t;
#else
#include "fp8.h"
#endif

enum operands {
  UNIFORM,    /* any code, NaN and infinity too */
  RARE,       /* any finite code, and NaN or infinity one time in 1024 */
  FINITE,     /* any finite code */
  NARROW,     /* two neighbouring exponents, others in each row */
  ZEROS,      /* seven of eight are zero, of either sign */
  SUBNORMAL,  /* half are subnormal, the others any finite code */
  LOWEST,     /* subnormals and the two lowest exponents */
  UNEQUAL,    /* one of 16 has one of the two largest exponents, the others are subnormal or have the lowest */
  CANCELLING, /* the second half of a step takes back what the first gave, but for one code in eight */
  GAUSSIAN,   /* normal deviates (12 uniform numbers summed), scaled so that the largest of 128 is the largest value */
  OPERAND_KINDS
};

enum accumulators {
  NO_C,        /* scale-d = 0: what stands in the registers does not count */
  ZERO_C,      /* +0 or -0 */
  NEAR_C,      /* 24 random bits, at most 16 binades from one of the products */
  OPPOSITE_C,  /* takes back what the products give, but for what is below the 13th fraction bit */
  SUBNORMAL_C, /* any subnormal */
  HUGE_C,      /* 2^31 and more; the largest number every eighth time */
  ANY_C,       /* any 32 bits */
  INFINITE_C,
  NAN_C, /* any NaN */
  ACCUMULATOR_KINDS
};

enum { ROW_CODES = 128 };

/* The `index`-th number of the stream `seed`: splitmix64, which counts in steps of the golden ratio and mixes. */
FG_BOTH_SIDES uint64_t random_bits(uint64_t seed, uint64_t index) {
  uint64_t x = seed + (index + 1) * 0x9E3779B97F4A7C15u;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

/* A number below `limit` from 32 random bits. */
FG_BOTH_SIDES int random_below(uint64_t random, int limit) { return (int)((random & 0xFFFFFFFFu) * (uint64_t)limit >> 32); }

FG_BOTH_SIDES uint8_t random_encode(int is_e5m2, float x) {
#ifdef __CUDACC_RTC__
  unsigned short pair;
  if (is_e5m2)
    asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %1;" : "=h"(pair) : "f"(x));
  else
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %1;" : "=h"(pair) : "f"(x));
  return (uint8_t)pair;
#else
  return is_e5m2 ? fg_float_to_e5m2(x) : fg_float_to_e4m3(x);
#endif
}

/* Around 0 in steps of 2^-16, a standard deviation of 1: exact in FP32. */
FG_BOTH_SIDES float random_deviate(uint64_t row, int k) {
  int sum = 0;
  for (int i = 0; i < 3; i++) {
    uint64_t four = random_bits(row, (uint64_t)(3 * k + i));
    for (int part = 0; part < 4; part++) sum += (int)(four >> 16 * part & 0xFFFF);
  }
  return (float)(sum - 6 * 0xFFFF) * 0x1p-16f;
}

FG_BOTH_SIDES int random_magnitude(enum operands kind, int is_e5m2, int base, uint64_t random) {
  int largest = is_e5m2 ? 0x7B : 0x7E, binade = is_e5m2 ? 4 : 8; /* codes of one exponent; those below are subnormal */
  int coin = (int)(random >> 32), magnitude = random_below(random, largest + 1);
  switch (kind) {
  case UNIFORM:
    return random_below(random, 0x80);
  case RARE:
    return coin & 0x3FF ? magnitude : largest + 1 + random_below(random, 0x7F - largest);
  case NARROW:
    magnitude = base * binade + random_below(random, 2 * binade);
    return magnitude < largest ? magnitude : largest;
  case ZEROS:
    return coin & 7 ? 0 : magnitude;
  case SUBNORMAL:
    return coin & 1 ? random_below(random, binade) : magnitude;
  case LOWEST:
    return random_below(random, 3 * binade);
  case UNEQUAL:
    return coin & 15 ? random_below(random, 2 * binade) : largest - random_below(random, 2 * binade);
  default:
    return magnitude;
  }
}

/* A row of A or of B: the first `count` codes of 128, from the stream `row`. */
FG_BOTH_SIDES void random_row(enum operands kind, int is_e5m2, int is_a, uint64_t row, int count, uint8_t *code) {
  if (kind == GAUSSIAN) {
    float amax = 0, largest = is_e5m2 ? 57344.0f : 448.0f;
    for (int k = 0; k < ROW_CODES; k++) {
      float x = random_deviate(row, k);
      if (x < 0) x = -x;
      if (x > amax) amax = x;
    }
    for (int k = 0; k < count; k++) code[k] = random_encode(is_e5m2, random_deviate(row, k) * (largest / amax));
    return;
  }
  int exponents = is_e5m2 ? 31 : 16, base = random_below(random_bits(row, ROW_CODES), exponents - 1);
  for (int k = 0; k < count; k++) {
    uint64_t random = random_bits(row, (uint64_t)k);
    code[k] = (uint8_t)((random >> 63 << 7) + (uint64_t)random_magnitude(kind, is_e5m2, base, random));
    if (kind == CANCELLING && k % FG_MMA_K >= FG_MMA_K / 2 && (random >> 40 & 7))
      code[k] = code[k - FG_MMA_K / 2] ^ (is_a ? 0x80 : 0);
  }
}

/* The bits of an accumulator, given the 32 codes of A and of B that it meets first. */
FG_BOTH_SIDES uint32_t random_accumulator(enum accumulators kind, int a_is_e5m2, int b_is_e5m2, const uint8_t *a,
                                          const uint8_t *b, uint64_t random) {
  uint32_t sign = (uint32_t)(random >> 63) << 31, fraction = (uint32_t)random & 0x7FFFFFu;
  int k = (int)(random >> 23 & 31), any = (int)(random >> 28 & 0xFF);
  switch (kind) {
  case NO_C:
    return 0;
  case ZERO_C:
    return sign;
  case NEAR_C: {
    int exponent = fg_mma_operand(a_is_e5m2, a[k]).exponent + fg_mma_operand(b_is_e5m2, b[k]).exponent + any % 33 - 16;
    return sign | (uint32_t)(exponent + 127) << 23 | fraction;
  }
  case OPPOSITE_C:
    return (fg_mma_step_bits(a_is_e5m2, b_is_e5m2, a, b, 0, 0) ^ 0x80000000u) | (fraction & 0x3FF);
  case SUBNORMAL_C:
    return sign | fraction >> any % 23;
  case HUGE_C:
    return sign | (any & 7 ? (uint32_t)(158 + any % 97) << 23 | fraction : 0x7F7FFFFFu);
  case ANY_C:
    return (uint32_t)(random >> 32);
  case INFINITE_C:
    return sign | 0x7F800000u;
  default:
    return sign | 0x7F800000u | (fraction ? fraction : 1);
  }
}

#endif
