/* FP32 as bits. */
#ifndef FG_BITS_H
#define FG_BITS_H

#include <stdint.h>
#include <string.h>

#define FG_NAN_BITS 0x7FFFFFFFu /* the one NaN that is ever written */
#define FG_INFINITY_BITS 0x7F800000u

static inline uint32_t fg_bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline float fg_float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

#endif
