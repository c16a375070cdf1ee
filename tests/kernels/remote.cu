/* Four blocks of a cluster add up what each has, always in the order of their ranks: a block a quarter, which it stores in the memory of
 * the next one. */
#include "cluster.cuh"

enum { CLUSTER = 4, THREADS = 128, QUARTER = THREADS / CLUSTER };

struct arguments {
  const float4 *from; /* [cluster][CLUSTER][THREADS] */
  float4 *to;         /* [cluster][THREADS] */
};

struct shared {
  float4 part[THREADS], sum[QUARTER];
};

extern "C" __global__ void __launch_bounds__(THREADS) remote(const __grid_constant__ struct arguments args) {
  FG_SHARED(struct shared, shared);
  unsigned rank = cluster_rank(), cluster = blockIdx.x / CLUSTER;
  shared.part[threadIdx.x] = args.from[blockIdx.x * THREADS + threadIdx.x];
  cluster_arrive();
  cluster_wait();
  if (threadIdx.x < QUARTER) {
    float4 sum = load_remote(&shared.part[rank * QUARTER + threadIdx.x], 0);
    for (unsigned other = 1; other < CLUSTER; other++) {
      float4 part = load_remote(&shared.part[rank * QUARTER + threadIdx.x], other);
      sum.x = __fadd_rn(sum.x, part.x);
      sum.y = __fadd_rn(sum.y, part.y);
      sum.z = __fadd_rn(sum.z, part.z);
      sum.w = __fadd_rn(sum.w, part.w);
    }
    store_remote(&shared.sum[threadIdx.x], (rank + 1) % CLUSTER, sum);
  }
  __syncwarp();
  cluster_arrive();
  cluster_wait();
  unsigned quarter = (rank + CLUSTER - 1) % CLUSTER;
  if (threadIdx.x < QUARTER) args.to[cluster * THREADS + quarter * QUARTER + threadIdx.x] = shared.sum[threadIdx.x];
}
