/* The blocks of a cluster, of which there are CLUSTER, bring a part of each tile each, to all of them: a ring of two stages, which
 * only all consumers of the cluster together give back. */
#include "cluster.cuh"
#include "tma.cuh"
#include "warp.cuh"

enum { ROWS = 64, COLS = 128, STAGES = 2, CONSUMERS = 128, PART = ROWS / CLUSTER };

struct arguments {
  struct fg_tensor_map from; /* a box is [PART, COLS] bytes */
  unsigned *sums;            /* [block][COLS] */
  int tiles;                 /* of a cluster, one below the other */
};

struct shared {
  unsigned char stage[STAGES][ROWS][COLS];
  struct mbarrier full[STAGES], empty[STAGES];
};

__device__ static void produce(const struct arguments &args, struct shared &shared) {
  int first = blockIdx.x / CLUSTER * args.tiles, part = cluster_rank() * PART;
  for (int tile = 0; tile < args.tiles; tile++) {
    int stage = tile % STAGES, phase = tile / STAGES % 2;
    mbarrier_wait_cluster(&shared.empty[stage], phase ^ 1);
    mbarrier_arrive_expect_tx(&shared.full[stage], ROWS * COLS);
    tma_load_multicast(shared.stage[stage][part], &args.from, &shared.full[stage], 0, (first + tile) * ROWS + part, 0,
                       (1 << CLUSTER) - 1);
  }
}

__device__ static void consume(const struct arguments &args, struct shared &shared) {
  unsigned sum = cluster_rank();
  for (int tile = 0; tile < args.tiles; tile++) {
    int stage = tile % STAGES, phase = tile / STAGES % 2;
    mbarrier_wait(&shared.full[stage], phase);
    for (int row = 0; row < ROWS; row++) sum = sum * 31 + shared.stage[stage][row][threadIdx.x];
    __syncwarp();
    if (threadIdx.x % 32 < CLUSTER) mbarrier_arrive_cluster(&shared.empty[stage], threadIdx.x % 32);
  }
  args.sums[blockIdx.x * COLS + threadIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(CONSUMERS + 32) multicast(const __grid_constant__ struct arguments args) {
  FG_SHARED(struct shared, shared);
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) {
      mbarrier_init(&shared.full[i], 1);
      mbarrier_init(&shared.empty[i], CLUSTER * CONSUMERS / 32);
    }
    fence_mbarrier_init();
  }
  cluster_arrive();
  cluster_wait();
  if (threadIdx.x < CONSUMERS)
    consume(args, shared);
  else if (elect_one())
    produce(args, shared);
  __syncwarp();
  cluster_arrive(); /* none leaves while others arrive at its barriers */
  cluster_wait();
}
