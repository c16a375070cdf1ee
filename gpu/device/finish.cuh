/* The last step: D = round(RN(RN(sum + C) + bias)), C and bias only where given. */
#pragma once
#include "args.h"
#include "convert.cuh"

enum { BF16 = 3, FP16 = 4, FP32 = 5 }; /* fg_type */

/* The one NaN that leaves: all ones but for the sign. */
__device__ inline float canonical(float x) { return x != x ? __uint_as_float(0x7FFFFFFF) : x; }

__device__ inline unsigned short
float_to_bf16(float x) { /* to nearest even: half of the last place, less 1 if the place is even */
  unsigned bits = __float_as_uint(x);
  return x != x ? 0x7FFF : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}

__device__ inline float load(const void *data, int type, long long i) {
  if (type == FP32) return ((const float *)data)[i];
  unsigned short bits = ((const unsigned short *)data)[i];
  return type == BF16 ? __uint_as_float((unsigned)bits << 16) : fp16_to_float(bits);
}

/* Element (row, col) of a matrix of D, in group `group`. */
__device__ inline void finish(const struct fg_args &args, long long matrix, long long group, long long row, long long col,
                              float sum) {
  if (args.c.data) sum = __fadd_rn(sum, load(args.c.data, args.c_type, matrix * args.c.stride + row * args.c.ld + col));
  if (args.bias.data) sum = __fadd_rn(sum, load(args.bias.data, args.bias_type, group * args.bias.stride + col));
  long long i = matrix * args.d.stride + row * args.d.ld + col;
  if (args.d_type == FP32)
    ((float *)args.d.data)[i] = canonical(sum);
  else
    ((unsigned short *)args.d.data)[i] = args.d_type == BF16 ? float_to_bf16(sum) : float_to_fp16(sum);
}
