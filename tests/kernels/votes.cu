/* What the threads of a warp tell each other. */
#include "warp.cuh"

enum { THREADS = 64, ALL = 0xFFFFFFFFu, NUMBERS = 8 };

struct arguments {
  const unsigned *from; /* [THREADS] */
  unsigned *to;         /* [THREADS][NUMBERS] */
};

extern "C" __global__ void __launch_bounds__(THREADS) votes(const __grid_constant__ struct arguments args) {
  unsigned lane = threadIdx.x % 32, value = args.from[threadIdx.x], *to = args.to + threadIdx.x * NUMBERS;
  to[0] = __shfl_sync(ALL, value, lane * 7 % 32);
  to[1] = __shfl_up_sync(ALL, value, 3);
  to[2] = __shfl_down_sync(ALL, value, 5);
  to[3] = __shfl_xor_sync(ALL, value, 9);
  to[4] = __ballot_sync(ALL, value % 2);
  unsigned elected = __ballot_sync(ALL, elect_one()), again = __ballot_sync(ALL, elect_one());
  to[5] = __popc(elected);
  to[6] = elected == again;
  to[7] = 0;
  if (lane < 16) to[7] = __shfl_xor_sync(0xFFFF, value, 1) ^ __ballot_sync(0xFFFF, value % 3 == 0);
}
