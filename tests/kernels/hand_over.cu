/* One warpgroup gives registers, two take them and then need them. */
#include "unroll.cuh"
#include "warp.cuh"

enum { THREADS = 384, CONSUMERS = 256, NUMBERS = 192 };

struct arguments {
  const float *from; /* [NUMBERS] */
  float *to;         /* [CONSUMERS] */
  int rounds;
};

extern "C" __global__ void __launch_bounds__(THREADS, 1) hand_over(const __grid_constant__ struct arguments args) {
  if (threadIdx.x >= CONSUMERS) {
    registers_give(24);
    return;
  }
  registers_take(240);
  float x[NUMBERS];
  FG_UNROLL(NUMBERS)
  for (int i = 0; i < NUMBERS; i++) x[i] = args.from[i];
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) {
    float first = x[0];
    FG_UNROLL(NUMBERS)
    for (int i = 0; i < NUMBERS; i++) x[i] = __fmaf_rn(i + 1 < NUMBERS ? x[i + 1] : first, 0.5f, __fmul_rn(x[i], 0.25f));
    x[0] = __fadd_rn(x[0], threadIdx.x);
  }
  float sum = 0;
  FG_UNROLL(NUMBERS)
  for (int i = 0; i < NUMBERS; i++) sum = __fadd_rn(sum, x[i]);
  args.to[threadIdx.x] = sum;
}
