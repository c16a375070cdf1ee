/* A box of a tensor comes, is seen, has its bytes inverted, and goes. RANK is 2 or 3. */
#include "bulk.cuh"
#include "tma.cuh"

enum { MOST_BYTES = 8192 };

struct arguments {
  struct fg_tensor_map from, to;
  unsigned char *seen; /* [bytes]: as it lay in shared memory */
  int from_at[3], to_at[3], bytes;
};

struct shared {
  unsigned char box[MOST_BYTES];
  struct mbarrier landed;
};

extern "C" __global__ void __launch_bounds__(64) tma_copy(const __grid_constant__ struct arguments args) {
  FG_SHARED(struct shared, shared);
  if (threadIdx.x == 0) {
    tma_prefetch(&args.from);
    mbarrier_init(&shared.landed, 1);
    fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    mbarrier_arrive_expect_tx(&shared.landed, args.bytes);
#if RANK == 2
    tma_load_2d(shared.box, &args.from, &shared.landed, args.from_at[0], args.from_at[1]);
#else
    tma_load(shared.box, &args.from, &shared.landed, args.from_at[0], args.from_at[1], args.from_at[2]);
#endif
  }
  mbarrier_wait(&shared.landed, 0);
  for (int i = threadIdx.x; i < args.bytes; i += 64) {
    args.seen[i] = shared.box[i];
    shared.box[i] = ~shared.box[i];
  }
  fence_proxy_async();
  __syncthreads();
  if (threadIdx.x == 0) {
#if RANK == 2
    tma_store_2d(&args.to, shared.box, args.to_at[0], args.to_at[1]);
#else
    tma_store(&args.to, shared.box, args.to_at[0], args.to_at[1], args.to_at[2]);
#endif
    bulk_commit();
    bulk_wait();
  }
}
