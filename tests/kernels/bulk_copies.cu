/* Two blocks of a cluster bring bytes, swap them, and store what they were sent. */
#include "bulk.cuh"
#include "cluster.cuh"

enum { MOST_BYTES = 4096 };

struct arguments {
  const unsigned char *from; /* [block][bytes] */
  unsigned char *to;         /* [block][bytes]: the neighbour's */
  unsigned bytes;
};

struct shared {
  __align__(16) unsigned char mine[MOST_BYTES], sent[MOST_BYTES];
  struct mbarrier landed, came;
};

extern "C" __global__ void __launch_bounds__(32) bulk_copies(const __grid_constant__ struct arguments args) {
  FG_SHARED(struct shared, shared);
  if (threadIdx.x == 0) {
    mbarrier_init(&shared.landed, 1);
    mbarrier_init(&shared.came, 1);
    fence_mbarrier_init();
    mbarrier_arrive_expect_tx(&shared.came, args.bytes);
  }
  __syncwarp();
  cluster_arrive();
  cluster_wait();
  if (threadIdx.x == 0) {
    mbarrier_arrive_expect_tx(&shared.landed, args.bytes);
    bulk_load(shared.mine, args.from + blockIdx.x * args.bytes, args.bytes, &shared.landed);
    mbarrier_wait(&shared.landed, 0);
    bulk_send(shared.sent, cluster_rank() ^ 1, shared.mine, args.bytes, &shared.came);
    mbarrier_wait_cluster(&shared.came, 0);
    bulk_store(args.to + blockIdx.x * args.bytes, shared.sent, args.bytes);
    bulk_commit();
    bulk_wait();
  }
  __syncwarp();
  cluster_arrive(); /* none leaves while its bytes are being sent */
  cluster_wait();
}
