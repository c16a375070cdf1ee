/* The paths' twin in plain C, through the scalar definitions. */
#include "bits.h"
#include "fp8.h"
#include "path.h"

static float to_float(fg_type type, const void *from, int64_t i) {
  switch (type) {
  case FG_BF16:
    return fg_bf16_to_float(((const uint16_t *)from)[i]);
  case FG_FP16:
    return fg_fp16_to_float(((const uint16_t *)from)[i]);
  case FG_FP32: {
    float x = ((const float *)from)[i];
    return x != x ? fg_float_of(FG_NAN_BITS) : x;
  }
  default:
    return fg_fp8_table(type)[((const uint8_t *)from)[i]];
  }
}

static void to_floats(fg_type type, const void *from, float *to, int64_t count) {
  for (int64_t i = 0; i < count; i++) to[i] = to_float(type, from, i);
}

static void from_floats(fg_type type, const float *from, void *to, int64_t count) {
  for (int64_t i = 0; i < count; i++) switch (type) {
    case FG_E5M2:
      ((uint8_t *)to)[i] = fg_float_to_e5m2(from[i]);
      break;
    case FG_BF16:
      ((uint16_t *)to)[i] = fg_float_to_bf16(from[i]);
      break;
    case FG_FP16:
      ((uint16_t *)to)[i] = fg_float_to_fp16(from[i]);
      break;
    case FG_FP32:
      ((float *)to)[i] = to_float(FG_FP32, from, i);
      break;
    default:
      ((uint8_t *)to)[i] = fg_float_to_e4m3(from[i]);
    }
}

static void fp8_scale_to_floats(fg_type type, const uint8_t *from, float scale, float *to, int64_t count) {
  const float *values = fg_fp8_table(type);
  for (int64_t i = 0; i < count; i++) to[i] = values[from[i]] * scale;
}

static uint32_t max_magnitude(fg_type x_type, const void *x, int64_t count) {
  uint32_t max = 0;
  for (int64_t i = 0; i < count; i++) {
    uint32_t magnitude = x_type == FG_FP32 ? ((const uint32_t *)x)[i] & 0x7FFFFFFFu : ((const uint16_t *)x)[i] & 0x7FFFu;
    if (magnitude > max) max = magnitude;
  }
  return max;
}

static void encode(fg_type x_type, const void *x, float inverse_scale, fg_type q_type, uint8_t *q, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    float y = to_float(x_type, x, i) * inverse_scale;
    q[i] = q_type == FG_E5M2 ? fg_float_to_e5m2(y) : fg_float_to_e4m3(y);
  }
}

static void quantise_groups(const struct fg_quantisation *quantisation, int64_t row, int64_t block, int64_t end) {
  for (; block < end; block++) {
    struct fg_group group = fg_group_at(quantisation, row, block);
    float scale = fg_scale_for(quantisation, max_magnitude(quantisation->x_type, group.x, group.count));
    *group.scale = scale;
    encode(quantisation->x_type, group.x, 1.0f / scale, quantisation->q_type, group.q, group.count);
  }
}

const struct fg_path fg_path_plain = {to_floats, from_floats, fp8_scale_to_floats, max_magnitude, encode, quantise_groups};
