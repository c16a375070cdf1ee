/* A ring of two stages: a warp that produces, four that consume. */
#include "tma.cuh"
#include "warp.cuh"

enum { ROWS = 64, COLS = 128, STAGES = 2, CONSUMERS = 128 };

struct arguments {
  struct fg_tensor_map from; /* a box is [ROWS, COLS] bytes */
  unsigned *sums;            /* [block][COLS] */
  int tiles;                 /* of a block, one below the other */
};

struct shared {
  unsigned char stage[STAGES][ROWS][COLS];
  struct mbarrier full[STAGES], empty[STAGES];
};

extern "C" __global__ void __launch_bounds__(CONSUMERS + 32) ring(const __grid_constant__ struct arguments args) {
  FG_SHARED(struct shared, shared);
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) {
      mbarrier_init(&shared.full[i], 1);
      mbarrier_init(&shared.empty[i], CONSUMERS / 32);
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x >= CONSUMERS) {
    if (elect_one())
      for (int tile = 0; tile < args.tiles; tile++) {
        int stage = tile % STAGES, phase = tile / STAGES % 2;
        mbarrier_wait(&shared.empty[stage], phase ^ 1);
        mbarrier_arrive_expect_tx(&shared.full[stage], ROWS * COLS);
        tma_load_2d(shared.stage[stage], &args.from, &shared.full[stage], 0, (blockIdx.x * args.tiles + tile) * ROWS);
      }
    return;
  }
  unsigned sum = 0;
  for (int tile = 0; tile < args.tiles; tile++) {
    int stage = tile % STAGES, phase = tile / STAGES % 2;
    mbarrier_wait(&shared.full[stage], phase);
    for (int row = 0; row < ROWS; row++) sum = sum * 31 + shared.stage[stage][row][threadIdx.x];
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(&shared.empty[stage]);
  }
  args.sums[blockIdx.x * COLS + threadIdx.x] = sum;
}
