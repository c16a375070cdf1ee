/* A ring of two stages that a warp fills by copies of four bytes, and another warp reads: each number of `from` that `index` names, or
 * zero. */
#include "copy.cuh"

enum { WARP = 32, ROUND = 3, NUMBERS = ROUND * WARP, STAGES = 2 };

struct arguments {
  const float *from;
  const int *index; /* [block][turn][NUMBERS]; less than 0: there is none */
  float *to;        /* likewise */
  int turns;
};

struct shared {
  float numbers[STAGES][NUMBERS];
  struct mbarrier full[STAGES], empty[STAGES];
};

extern "C" __global__ void __launch_bounds__(2 * WARP) thread_copies(const __grid_constant__ struct arguments args) {
  FG_SHARED(struct shared, shared);
  int lane = threadIdx.x % WARP;
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) {
      mbarrier_init(&shared.full[i], WARP);
      mbarrier_init(&shared.empty[i], WARP);
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  for (int turn = 0; turn < args.turns; turn++) {
    int stage = turn % STAGES, phase = turn / STAGES % 2, first = (blockIdx.x * args.turns + turn) * NUMBERS;
    if (threadIdx.x < WARP) {
      mbarrier_wait(&shared.empty[stage], phase ^ 1);
      for (int i = lane; i < NUMBERS; i += WARP) {
        int index = args.index[first + i];
        copy_four_bytes(&shared.numbers[stage][i], &args.from[index], index >= 0);
      }
      mbarrier_arrive_when_copied(&shared.full[stage]);
    } else {
      mbarrier_wait(&shared.full[stage], phase);
      for (int i = lane; i < NUMBERS; i += WARP) args.to[first + i] = shared.numbers[stage][NUMBERS - 1 - i];
      mbarrier_arrive(&shared.empty[stage]);
    }
  }
}
