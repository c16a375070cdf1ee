/* FP32 to 16 bits, to nearest even, and FP16 back. A NaN gives 0x7FFF. Pairs need compute capability 8.0. PTX ISA, cvt. */
#pragma once

__device__ inline unsigned short float_to_fp16(float x) {
  unsigned short half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return half;
}

__device__ inline float fp16_to_float(unsigned short half) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
  return x;
}

/* Two neighbours, the first in the low half. */
__device__ inline unsigned floats_to_bf16(float first, float second) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

__device__ inline unsigned floats_to_fp16(float first, float second) {
  unsigned pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}
