/* A small kernel for the tests of the compiler: what it includes comes with the test. */
#include "step.cuh"

extern "C" __global__ void __launch_bounds__(128) sum(const float *from, float *to, int count) {
  float total = 0;
  for (int i = threadIdx.x; i < count; i += STRIDE) total = step(total, from[i]);
  to[threadIdx.x] = total;
}
