/* FP32 to 16 bits, to nearest even, and FP16 back. A NaN gives 0x7FFF. */
#pragma once

__device__ inline unsigned short float_to_fp16(float x) {
  unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return 0x7FFF;
  if (magnitude >= 0x47800000) return sign | 0x7C00; /* 2^16 and more; from 65520 on the sum below comes to the same */
  if (magnitude < 0x38800000)                        /* subnormal: 0.5 has as its last place what such an FP16 counts */
    return sign | (__float_as_uint(__uint_as_float(magnitude) + 0.5f) - __float_as_uint(0.5f));
  return sign | (magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13; /* half of the last place, less 1 if it is even */
}

__device__ inline float fp16_to_float(unsigned short half) {
  unsigned magnitude = half & 0x7FFF, sign = (half & 0x8000u) << 16;
  if (magnitude > 0x7C00) return __uint_as_float(0x7FFFFFFF);
  if (magnitude == 0x7C00) return __uint_as_float(sign | 0x7F800000);
  return __uint_as_float(sign | magnitude << 13) * 0x1p112f; /* the difference of the biases; exact, also of subnormals */
}

__device__ inline unsigned floats_to_bf16(float first, float second) {
  const float x[] = {first, second};
  unsigned pair = 0;
  for (int i = 0; i < 2; i++) {
    unsigned bits = __float_as_uint(x[i]);
    pair |= (x[i] != x[i] ? 0x7FFF : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16) << 16 * i;
  }
  return pair;
}

__device__ inline unsigned floats_to_fp16(float first, float second) {
  return float_to_fp16(first) | (unsigned)float_to_fp16(second) << 16;
}
