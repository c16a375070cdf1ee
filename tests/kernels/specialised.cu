/* D = A B^T in FP8 with scales for 1x128 of A and 128x128 of B: a warp that produces, two warpgroups that consume, a ring of four stages.
 * m, n and k are multiples of 128; a block has one tile of D. */
#include "tma.cuh"
#include "warp.cuh"
#include "wgmma.cuh"

enum { BLOCK_M = 128, BLOCK_N = 128, BLOCK_K = 128, STAGES = 4, GROUP = 128, CONSUMERS = 2 * GROUP };

struct arguments {
  struct fg_tensor_map a, b;      /* boxes are [128, 128], swizzled by 128 bytes */
  const float *a_scale, *b_scale; /* [m, k / 128], [n / 128, k / 128] */
  float *d;                       /* [m, n] */
  int n, k;
};

struct shared {
  unsigned char a[STAGES][BLOCK_M * BLOCK_K], b[STAGES][BLOCK_N * BLOCK_K];
  struct mbarrier full[STAGES], empty[STAGES];
};

__device__ static void produce(const struct arguments &args, struct shared &shared, int row, int col) {
  for (int block = 0; block < args.k / BLOCK_K; block++) {
    int stage = block % STAGES, phase = block / STAGES % 2;
    mbarrier_wait(&shared.empty[stage], phase ^ 1);
    mbarrier_arrive_expect_tx(&shared.full[stage], (BLOCK_M + BLOCK_N) * BLOCK_K);
    tma_load_2d(shared.a[stage], &args.a, &shared.full[stage], block * BLOCK_K, row);
    tma_load_2d(shared.b[stage], &args.b, &shared.full[stage], block * BLOCK_K, col);
  }
}

__device__ static void consume(const struct arguments &args, struct shared &shared, int row, int col) {
  int group = threadIdx.x / GROUP, blocks = args.k / BLOCK_K;
  int i0 = group * 64 + threadIdx.x % GROUP / 32 * 16 + threadIdx.x % 32 / 4, j0 = threadIdx.x % 4 * 2;
  const float *a_scale = args.a_scale + (long long)(row + i0) * blocks, *b_scale = args.b_scale + col / BLOCK_N * blocks;
  float dot[BLOCK_N / 2], sum[BLOCK_N / 2] = {};
  FG_UNROLL(1)
  for (int block = 0; block < blocks; block++) {
    int stage = block % STAGES, phase = block / STAGES % 2;
    float scale[2] = {__fmul_rn(a_scale[block], b_scale[block]), __fmul_rn(a_scale[8 * blocks + block], b_scale[block])};
    mbarrier_wait(&shared.full[stage], phase);
    wgmma_fence();
    for (int k = 0; k < BLOCK_K; k += 32)
      wgmma_mma(dot, wgmma_descriptor(shared.a[stage] + group * 64 * BLOCK_K + k, BLOCK_K),
                wgmma_descriptor(shared.b[stage] + k, BLOCK_K), k > 0);
    wgmma_commit();
    wgmma_wait(0);
    wgmma_hold(dot);
    if (threadIdx.x % 32 == 0) mbarrier_arrive(&shared.empty[stage]);
    for (int i = 0; i < BLOCK_N / 2; i++) sum[i] = __fmaf_rn(scale[i / 2 % 2], dot[i], sum[i]);
  }
  for (int i = 0; i < BLOCK_N / 2; i += 2)
    *(float2 *)(args.d + (long long)(row + i0 + i / 2 % 2 * 8) * args.n + col + j0 + i / 4 * 8) = make_float2(sum[i], sum[i + 1]);
}

extern "C" __global__ void __launch_bounds__(CONSUMERS + GROUP, 1) specialised(const __grid_constant__ struct arguments args) {
  FG_SHARED(struct shared, shared);
  int row = blockIdx.x / (args.n / BLOCK_N) * BLOCK_M, col = blockIdx.x % (args.n / BLOCK_N) * BLOCK_N;
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) {
      mbarrier_init(&shared.full[i], 1);
      mbarrier_init(&shared.empty[i], CONSUMERS / 32);
    }
    fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x >= CONSUMERS) {
    registers_give(40);
    if (threadIdx.x / 32 == CONSUMERS / 32 && elect_one()) produce(args, shared, row, col);
  } else {
    registers_take(232);
    consume(args, shared, row, col);
  }
}
