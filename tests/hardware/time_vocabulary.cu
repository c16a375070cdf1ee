/* How long the words of gpu/device take on a GPU, in cycles of a multiprocessor: time_vocabulary.c says of what. `cycles` gets a number
 * for each round. */
#define WGMMA_N 256
#include "bulk.cuh"
#include "cluster.cuh"
#include "copy.cuh"
#include "tma.cuh"
#include "unroll.cuh"
#include "warp.cuh"
#include "wgmma_any.cuh"

struct arguments {
  struct fg_tensor_map map;
  long long *cycles; /* [rounds] */
  float *out;        /* so that nothing is optimised away */
  int rounds, bytes, length, threads;
};

enum { STAGES = 8, STAGE_BYTES = 16384 };

struct shared {
  unsigned char stage[STAGES][STAGE_BYTES];
  struct mbarrier barrier[STAGES];
};

#define KERNEL(name) extern "C" __global__ void __launch_bounds__(384, 1) name(const __grid_constant__ struct arguments args)

__device__ static void init(struct shared &shared, unsigned arrivals) {
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) mbarrier_init(&shared.barrier[i], arrivals);
    fence_mbarrier_init();
  }
  for (int i = threadIdx.x; i < (int)sizeof shared.stage / 4; i += blockDim.x) ((unsigned *)shared.stage)[i] = 0;
  fence_proxy_async();
  __syncthreads();
}

/* One box, asked for until its bytes are known to have landed; every round the same, so that after the first it is in the L2. */
KERNEL(load_latency) {
  FG_SHARED(struct shared, shared);
  init(shared, 1);
  if (threadIdx.x != 0) return;
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) {
    long long begin = clock64();
    mbarrier_arrive_expect_tx(&shared.barrier[0], args.bytes);
    tma_load_2d(shared.stage[0], &args.map, &shared.barrier[0], 0, 0);
    mbarrier_wait(&shared.barrier[0], round % 2);
    args.cycles[round] = clock64() - begin;
  }
}

/* The same, to both blocks of a cluster, of which each brings its own. */
KERNEL(multicast_latency) {
  FG_SHARED(struct shared, shared);
  init(shared, 1);
  cluster_arrive();
  cluster_wait();
  if (threadIdx.x == 0)
    for (int round = 0; round < args.rounds; round++) {
      long long begin = clock64();
      mbarrier_arrive_expect_tx(&shared.barrier[round % 2], args.bytes);
      if (cluster_rank() == 0) tma_load_multicast(shared.stage[0], &args.map, &shared.barrier[round % 2], 0, 0, 0, 3);
      mbarrier_wait(&shared.barrier[round % 2], round / 2 % 2);
      if (cluster_rank() == 0) args.cycles[round] = clock64() - begin;
      mbarrier_arrive_cluster(&shared.barrier[2], cluster_rank() ^ 1); /* none is ahead by more than a round */
      mbarrier_wait_cluster(&shared.barrier[2], round % 2);
    }
  __syncwarp();
  cluster_arrive();
  cluster_wait();
}

/* The same with as many boxes as there are stages under way: cycles a box. */
KERNEL(load_rate) {
  FG_SHARED(struct shared, shared);
  init(shared, 1);
  if (threadIdx.x != 0) return;
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) {
    long long begin = clock64();
    FG_UNROLL(1)
    for (int i = 0; i < args.length + STAGES; i++) {
      struct mbarrier *barrier = &shared.barrier[i % STAGES];
      if (i >= STAGES) mbarrier_wait(barrier, (i / STAGES - 1) % 2);
      if (i >= args.length) continue;
      mbarrier_arrive_expect_tx(barrier, args.bytes);
      tma_load_2d(shared.stage[i % STAGES], &args.map, barrier, 0, 0);
    }
    args.cycles[round] = (clock64() - begin) / args.length;
  }
}

/* From a store's being asked for until its bytes have been read. */
KERNEL(store_latency) {
  FG_SHARED(struct shared, shared);
  init(shared, 1);
  if (threadIdx.x != 0) return;
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) {
    long long begin = clock64();
    tma_store_2d(&args.map, shared.stage[0], 0, 0);
    bulk_commit();
    if (args.length)
      bulk_wait();
    else
      bulk_wait_read(0);
    args.cycles[round] = clock64() - begin;
  }
}

/* Copies of four bytes, `length` by each thread of a warp, until they are known to have come: from other bytes in each round, which are
 * not nearer than the L2. */
KERNEL(copy_latency) {
  FG_SHARED(struct shared, shared);
  init(shared, 32);
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) {
    long long begin = clock64();
    FG_UNROLL(1)
    for (int i = 0; i < args.length; i++) {
      const float *from = args.out + (round * args.length + i) % 512 * 32 + threadIdx.x;
      copy_four_bytes(&((float *)shared.stage[0])[i * 32 + threadIdx.x], from, true);
    }
    mbarrier_arrive_when_copied(&shared.barrier[0]);
    mbarrier_wait(&shared.barrier[0], round % 2);
    if (threadIdx.x == 0) args.cycles[round] = clock64() - begin;
  }
}

/* Chains of 4 * length multiplications, in a group, by each warpgroup of the block. */
template <int size> __device__ static void chain(const struct arguments &args, struct shared &shared) {
  unsigned long long a = wgmma_descriptor(shared.stage[threadIdx.x / 128], 128), b = wgmma_descriptor(shared.stage[4], 128);
  float d[size] = {};
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) {
    __syncthreads();
    long long begin = clock64();
    FG_UNROLL(1)
    for (int i = 0; i < args.length; i++) {
      wgmma_fence();
      for (int step = 0; step < 4; step++) wgmma_mma(d, a + step * 2, b + step * 2, true);
    }
    wgmma_commit();
    wgmma_wait(0);
    wgmma_hold(d);
    if (threadIdx.x == 0) args.cycles[round] = clock64() - begin;
  }
  float sum = 0;
  for (int i = 0; i < size; i++) sum += d[i];
  args.out[threadIdx.x] = sum;
}

KERNEL(wgmma_128) {
  FG_SHARED(struct shared, shared);
  init(shared, 1);
  chain<64>(args, shared);
}

KERNEL(wgmma_256) {
  FG_SHARED(struct shared, shared);
  init(shared, 1);
  chain<128>(args, shared);
}

/* An arrival at a barrier for one, and the wait for it, by the thread that arrives. */
KERNEL(mbarrier_alone) {
  FG_SHARED(struct shared, shared);
  init(shared, 1);
  if (threadIdx.x != 0) return;
  long long begin = clock64();
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) {
    mbarrier_arrive(&shared.barrier[0]);
    mbarrier_wait(&shared.barrier[0], round % 2);
  }
  args.cycles[0] = (clock64() - begin) / args.rounds;
}

/* A warp arrives, another one that waits arrives elsewhere, where the first waits: half of that. */
KERNEL(mbarrier_turns) {
  FG_SHARED(struct shared, shared);
  init(shared, 1);
  int warp = threadIdx.x / 32;
  if (threadIdx.x % 32 != 0 || warp > 1) return;
  long long begin = clock64();
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) {
    if (warp == 0) mbarrier_arrive(&shared.barrier[0]);
    mbarrier_wait(&shared.barrier[warp ^ 1], round % 2);
    if (warp == 1) mbarrier_arrive(&shared.barrier[1]);
  }
  if (warp == 0) args.cycles[0] = (clock64() - begin) / args.rounds / 2;
}

/* The same between two blocks of a cluster. Warp w is thread 0 of block w. */
KERNEL(mbarrier_turns_cluster) {
  FG_SHARED(struct shared, shared);
  init(shared, 1);
  cluster_arrive();
  cluster_wait();
  unsigned rank = cluster_rank();
  if (threadIdx.x == 0) {
    long long begin = clock64();
    FG_UNROLL(1)
    for (int round = 0; round < args.rounds; round++) {
      if (rank == 0) mbarrier_arrive_cluster(&shared.barrier[0], 1);
      mbarrier_wait_cluster(&shared.barrier[0], round % 2);
      if (rank == 1) mbarrier_arrive_cluster(&shared.barrier[0], 0);
    }
    if (rank == 0) args.cycles[0] = (clock64() - begin) / args.rounds / 2;
  }
  __syncwarp();
  cluster_arrive();
  cluster_wait();
}

KERNEL(cluster_barrier) {
  long long begin = clock64();
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) {
    cluster_arrive();
    cluster_wait();
  }
  if (threadIdx.x == 0 && blockIdx.x == 0) args.cycles[0] = (clock64() - begin) / args.rounds;
}

/* Loads from the peer's memory, each of which needs the one before. */
KERNEL(remote_load) {
  FG_SHARED(struct shared, shared);
  init(shared, 1);
  cluster_arrive();
  cluster_wait();
  unsigned at = 0;
  long long begin = clock64();
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++)
    at = __float_as_uint(load_remote((const float4 *)shared.stage[0] + at, cluster_rank() ^ 1).x);
  if (threadIdx.x == 0 && blockIdx.x == 0) args.cycles[0] = (clock64() - begin) / args.rounds;
  args.out[threadIdx.x] = at;
  cluster_arrive();
  cluster_wait();
}

KERNEL(named_barrier) {
  long long begin = clock64();
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) named_barrier_sync(1, args.threads);
  if (threadIdx.x == 0) args.cycles[0] = (clock64() - begin) / args.rounds;
}

/* Two warpgroups in turn: cycles of a turn. */
KERNEL(named_turns) {
  int group = threadIdx.x / 128;
  if (group == 1) named_barrier_arrive(1, 256);
  long long begin = clock64();
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) {
    named_barrier_sync(1 + group, 256);
    if (group == 0 || round + 1 < args.rounds) named_barrier_arrive(2 - group, 256);
  }
  if (threadIdx.x == 0) args.cycles[0] = (clock64() - begin) / args.rounds / 2;
}

KERNEL(block_barrier) {
  long long begin = clock64();
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) __syncthreads();
  if (threadIdx.x == 0) args.cycles[0] = (clock64() - begin) / args.rounds;
}

KERNEL(fences) { /* fence_proxy_async */
  long long begin = clock64();
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) fence_proxy_async();
  if (threadIdx.x == 0) args.cycles[0] = (clock64() - begin) / args.rounds;
}

KERNEL(shuffles) { /* each needs the one before */
  unsigned value = threadIdx.x;
  long long begin = clock64();
  FG_UNROLL(8)
  for (int round = 0; round < args.rounds; round++) value = __shfl_xor_sync(0xFFFFFFFF, value, 1) + 1;
  if (threadIdx.x == 0) args.cycles[0] = (clock64() - begin) / args.rounds;
  args.out[threadIdx.x] = value;
}

/* Fused multiplications and additions, 64 that do not need each other and so on: cycles of a thread for each. */
KERNEL(fused) {
  float x[64] = {};
  float factor = args.length, addend = args.bytes;
  __syncthreads();
  long long begin = clock64();
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++)
    for (int i = 0; i < 64; i++) x[i] = __fmaf_rn(x[i], factor, addend);
  long long took = clock64() - begin;
  if (threadIdx.x == 0) args.cycles[0] = took * 100 / (args.rounds * 64ll); /* in hundredths */
  float sum = 0;
  for (int i = 0; i < 64; i++) sum += x[i];
  args.out[threadIdx.x] = sum;
}

/* Loads from shared or global memory, each of which needs the one before. */
KERNEL(shared_load) {
  FG_SHARED(struct shared, shared);
  init(shared, 1);
  unsigned at = 0;
  long long begin = clock64();
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) at = *(volatile unsigned *)(shared.stage[0] + at);
  if (threadIdx.x == 0) args.cycles[0] = (clock64() - begin) / args.rounds;
  args.out[threadIdx.x] = at;
}

KERNEL(global_load) { /* from the L2 */
  unsigned at = 0;
  long long begin = clock64();
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) {
    unsigned value;
    value = __ldcg((const unsigned *)args.out + at + 512);
    at = value & 1;
  }
  if (threadIdx.x == 0) args.cycles[0] = (clock64() - begin) / args.rounds;
  args.out[threadIdx.x] = at;
}

KERNEL(atomics) { /* each after the one before */
  unsigned at = 0;
  long long begin = clock64();
  FG_UNROLL(1)
  for (int round = 0; round < args.rounds; round++) at = atomicAdd((unsigned *)args.out + 512 + at, 0);
  if (threadIdx.x == 0) args.cycles[0] = (clock64() - begin) / args.rounds;
  args.out[threadIdx.x] = at;
}

KERNEL(matrix_stores) { /* four matrices of a warp, one after another */
  FG_SHARED(struct shared, shared);
  init(shared, 1);
  unsigned char *row = shared.stage[threadIdx.x / 128] + threadIdx.x % 128 * 16;
  __syncthreads();
  long long begin = clock64();
  FG_UNROLL(8)
  for (int round = 0; round < args.rounds; round++) stmatrix(row, round, 1, 2, 3);
  __syncthreads();
  if (threadIdx.x == 0) args.cycles[0] = (clock64() - begin) / args.rounds;
}

KERNEL(clocks) { /* how many cycles of this clock a microsecond has: cycles[1] of nanoseconds */
  unsigned long long begin_ns, end_ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin_ns));
  long long begin = clock64();
  while (clock64() - begin < args.length) {
  }
  long long took = clock64() - begin;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(end_ns));
  if (threadIdx.x == 0) args.cycles[0] = took, args.cycles[1] = end_ns - begin_ns;
}
