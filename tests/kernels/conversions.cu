/* FP32 to 16 bits and FP16 back. */
#include "convert.cuh"

struct arguments {
  const float *from;                 /* [count] */
  unsigned *bf16_pairs, *fp16_pairs; /* [count]: a number and the one after it, the first after the last */
  unsigned short *fp16;              /* [count] */
  float *of_fp16;                    /* [65536]: of every one */
  int count;
};

extern "C" __global__ void __launch_bounds__(128) conversions(const __grid_constant__ struct arguments args) {
  int first = blockIdx.x * blockDim.x + threadIdx.x, stride = gridDim.x * blockDim.x;
  for (int i = first; i < args.count; i += stride) {
    float x = args.from[i], next = args.from[i + 1 < args.count ? i + 1 : 0];
    args.bf16_pairs[i] = floats_to_bf16(x, next);
    args.fp16_pairs[i] = floats_to_fp16(x, next);
    args.fp16[i] = float_to_fp16(x);
  }
  for (int i = first; i < 1 << 16; i += stride) args.of_fp16[i] = fp16_to_float(i);
}
