/* The last step for four neighbours in a row of D: one store, where D's address allows it and all four are there. */
#pragma once
#include "finish.cuh"

/* Whether rows of D begin where a store of four elements may: then each fourth element does, too. */
__device__ inline bool has_aligned_fours(const struct fg_args &args) {
  int bytes = args.d_type == FP32 ? 4 : 2;
  return ((unsigned long long)args.d.data | args.d.ld * bytes) % (4 * bytes) == 0;
}

__device__ inline float add_c_and_bias(const struct fg_args &args, long long row, long long col, float sum) {
  if (args.c.data) sum = __fadd_rn(sum, load(args.c.data, args.c_type, row * args.c.ld + col));
  if (args.bias.data) sum = __fadd_rn(sum, load(args.bias.data, args.bias_type, col));
  return sum;
}

/* Four of BF16 or FP16. */
__device__ inline uint2 halves_of(int type, float4 x) {
  return type == BF16 ? make_uint2(floats_to_bf16(x.x, x.y), floats_to_bf16(x.z, x.w))
                      : make_uint2(floats_to_fp16(x.x, x.y), floats_to_fp16(x.z, x.w));
}

/* Elements (row, col) to (row, col + 3) of a dense problem's D, col a multiple of 4. */
__device__ inline void finish_four(const struct fg_args &args, long long row, long long col, float4 sum, bool aligned_fours) {
  if (!aligned_fours || col + 4 > args.n) {
    const float sums[] = {sum.x, sum.y, sum.z, sum.w};
    for (int i = 0; i < 4; i++)
      if (col + i < args.n) finish(args, 0, 0, row, col + i, sums[i]);
    return;
  }
  if (args.c.data || args.bias.data) {
    sum.x = add_c_and_bias(args, row, col, sum.x), sum.y = add_c_and_bias(args, row, col + 1, sum.y);
    sum.z = add_c_and_bias(args, row, col + 2, sum.z), sum.w = add_c_and_bias(args, row, col + 3, sum.w);
  }
  long long i = row * args.d.ld + col;
  if (args.d_type == FP32)
    *(float4 *)((float *)args.d.data + i) = make_float4(canonical(sum.x), canonical(sum.y), canonical(sum.z), canonical(sum.w));
  else
    *(uint2 *)((unsigned short *)args.d.data + i) = halves_of(args.d_type, sum);
}

/* The same where D_TYPE is not 0: D is of that type, BF16 or FP16, n a multiple of 4 and rows aligned, and nothing is added. Little code:
 * what a kernel ends with comes from memory when it is wanted. */
__device__ inline void store_four(const struct fg_args &args, long long row, long long col, float4 sum) {
  if (col < args.n) *(uint2 *)((unsigned short *)args.d.data + row * args.d.ld + col) = halves_of(D_TYPE, sum);
}
