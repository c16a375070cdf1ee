/* D [tiles * ROWS, n] = A [.., blocks * BLOCK_K] B [n, blocks * BLOCK_K]^T, a block one tile after the other: a warp brings A and B by a
 * ring that goes on from tile to tile, a warpgroup multiplies, a group always under way, and stores D by way of shared memory while the
 * next tile begins. */
#define WGMMA_N 16
#include "bulk.cuh"
#include "tma.cuh"
#include "warp.cuh"
#include "wgmma_any.cuh"

enum { ROWS = 64, BLOCK_K = 128, STAGES = 2, GROUP = 128, STORED = 1 };

struct arguments {
  struct fg_tensor_map a, b, d; /* boxes are [ROWS, BLOCK_K] and [n, BLOCK_K], swizzled by 128 bytes, and [ROWS, n] of D */
  int tiles, blocks;
};

struct shared {
  unsigned char a[STAGES][ROWS * BLOCK_K], b[STAGES][WGMMA_N * BLOCK_K];
  float d[ROWS][WGMMA_N];
  struct mbarrier full[STAGES], empty[STAGES];
};

__device__ static void produce(const struct arguments &args, struct shared &shared) {
  int number = 0;
  for (int tile = blockIdx.x; tile < args.tiles; tile += gridDim.x)
    for (int block = 0; block < args.blocks; block++, number++) {
      int stage = number % STAGES, phase = number / STAGES % 2;
      mbarrier_wait(&shared.empty[stage], phase ^ 1);
      mbarrier_arrive_expect_tx(&shared.full[stage], (ROWS + WGMMA_N) * BLOCK_K);
      tma_load_2d(shared.a[stage], &args.a, &shared.full[stage], block * BLOCK_K, tile * ROWS);
      tma_load_2d(shared.b[stage], &args.b, &shared.full[stage], block * BLOCK_K, 0);
    }
}

/* The warps give a stage back, each once. */
__device__ static void release(struct shared &shared, int number) {
  if (threadIdx.x % 32 == 0) mbarrier_arrive(&shared.empty[number % STAGES]);
}

__device__ static void store(const struct arguments &args, struct shared &shared, int tile, const float (&d)[WGMMA_N / 2]) {
  int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, col = threadIdx.x % 4 * 2;
  if (threadIdx.x == 0) bulk_wait_read(0); /* the tile before */
  named_barrier_sync(STORED, GROUP);
  for (int i = 0; i < WGMMA_N / 2; i++) shared.d[row + i / 2 % 2 * 8][i / 4 * 8 + col + i % 2] = d[i];
  fence_proxy_async();
  named_barrier_sync(STORED, GROUP);
  if (threadIdx.x == 0) {
    tma_store_2d(&args.d, shared.d, 0, tile * ROWS);
    bulk_commit();
  }
}

__device__ static void consume(const struct arguments &args, struct shared &shared) {
  int number = 0;
  for (int tile = blockIdx.x; tile < args.tiles; tile += gridDim.x) {
    float d[WGMMA_N / 2];
    for (int block = 0; block < args.blocks; block++, number++) {
      int stage = number % STAGES, phase = number / STAGES % 2;
      mbarrier_wait(&shared.full[stage], phase);
      wgmma_fence();
      for (int k = 0; k < BLOCK_K; k += 32)
        wgmma_mma(d, wgmma_descriptor(shared.a[stage] + k, BLOCK_K), wgmma_descriptor(shared.b[stage] + k, BLOCK_K),
                  block > 0 || k > 0);
      wgmma_commit();
      if (block == 0) continue;
      wgmma_wait(1);
      release(shared, number - 1);
    }
    wgmma_wait(0);
    wgmma_hold(d);
    release(shared, number - 1);
    store(args, shared, tile, d);
  }
  if (threadIdx.x == 0) bulk_wait();
}

extern "C" __global__ void __launch_bounds__(GROUP + 32) persistent(const __grid_constant__ struct arguments args) {
  FG_SHARED(struct shared, shared);
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) {
      mbarrier_init(&shared.full[i], 1);
      mbarrier_init(&shared.empty[i], GROUP / 32);
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x < GROUP)
    consume(args, shared);
  else if (elect_one())
    produce(args, shared);
}
