/* The work that has a path of its own for each set of vector instructions (see cpu.h). All paths give the same bits. They assume
 * that FP32 rounds to nearest even, as it does unless a program changes that. A program that flushes subnormals gets the same bits
 * from all but fp8_scale_to_float, whose products may be subnormal. */
#ifndef FG_PATH_H
#define FG_PATH_H

#include "quantise.h"

struct fg_path {
  void (*to_float)(fg_type type, const void *from, float *to, int64_t count);
  void (*from_float)(fg_type type, const float *from, void *to, int64_t count);

  /* to[i] = RN(value(from[i]) * scale), FP8 to FP32. NaN may be any NaN. */
  void (*fp8_scale_to_float)(fg_type type, const uint8_t *from, float scale, float *to, int64_t count);

  /* The largest of the elements' bits without their sign: ordered like the magnitudes, then infinity, then NaN. */
  uint32_t (*max_magnitude)(fg_type x_type, const void *x, int64_t count);

  /* q[i] = FP8(RN(x[i] * inverse_scale)), where |RN(x[i] * inverse_scale)| is no NaN and rounds to what FP8 holds. */
  void (*encode)(fg_type x_type, const void *x, float inverse_scale, fg_type q_type, uint8_t *q, int64_t count);

  /* Scales 1x128, blocks `block` to `end` of one row: amax, scale and codes of each group while it is in the first cache. */
  void (*quantise_groups)(const struct fg_quantisation *quantisation, int64_t row, int64_t block, int64_t end);
};

extern const struct fg_path fg_path_plain, fg_path_avx2, fg_path_avx512;

/* The path that fg_isa() names. */
const struct fg_path *fg_path(void);

/* A group of 1x128: up to 128 elements of a row. */
struct fg_group {
  const void *x;
  uint8_t *q;
  float *scale;
  int64_t count;
};

static inline struct fg_group fg_group_at(const struct fg_quantisation *quantisation, int64_t row, int64_t block) {
  int64_t col = block * FG_BLOCK_K, left = quantisation->cols - col;
  size_t x_bytes = quantisation->x_type == FG_FP32 ? 4 : 2;
  return (struct fg_group){(const char *)quantisation->x + (size_t)(row * quantisation->x_ld + col) * x_bytes,
                           quantisation->q + row * quantisation->q_ld + col,
                           quantisation->scale + row * quantisation->row_stride + block * quantisation->block_stride,
                           left < FG_BLOCK_K ? left : FG_BLOCK_K};
}

/* How the vector paths encode FP8, with no case for subnormals. Let a >= 0 be the value and power = max(2^floor(log2 a), smallest
 * normal), which is a with its mantissa cut off. Then the FP32 sum
 *
 *     power * spread + a            spread = 2^(23 - mantissa bits), one fma
 *
 * has a's rounded significand t in its lowest bits, since its own last place is the code's last place at that power: the hardware
 * rounds to nearest even. Its upper 16 bits are (exponent << 7), so upper + lower * weight, in which each place of the code has
 * been moved up to its own bit, is the code << shift but for a constant. */
struct fg_encoding {
  float spread, smallest_normal, largest;
  int32_t weights;  /* two int16_t: weight below 1, for multiply-add of 16-bit pairs */
  int16_t offset;   /* the constant */
  uint16_t to_code; /* 2^(16 - shift): the upper half of the product with it is the code */
};

static inline struct fg_encoding fg_encoding_of(fg_type type) {
  return type == FG_E5M2 ? (struct fg_encoding){0x1p21f, 0x1p-14f, 57344.0f, 1 << 16 | 32, (127 + 21 - 14) << 7, 1 << 11}
                         : (struct fg_encoding){0x1p20f, 0x1p-6f, 448.0f, 1 << 16 | 16, (127 + 20 - 6) << 7, 1 << 12};
}

#endif
