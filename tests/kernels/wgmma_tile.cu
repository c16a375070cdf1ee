/* D [64, n] = C + A [64, K] B [n, K]^T in one group, as a chain. WGMMA_N, A_IS_E5M2, B_IS_E5M2 and A_IN_REGISTERS are given. */
#include "tma.cuh"
#include "wgmma_any.cuh"

enum { M = 64, K = 256, STEP = 32, NOT_READ = 0x7FC0DEAD };

struct arguments {
  struct fg_tensor_map a, b;    /* a box is [M, swizzle_bytes] or [n, swizzle_bytes] */
  const unsigned char *a_codes; /* [M, K]: the same, for registers */
  const float *c;               /* [M, n]; NULL: none */
  float *d;                     /* [M, n] */
  int swizzle_bytes;
};

struct shared {
  unsigned char a[M * K], b[WGMMA_N * K]; /* [K / swizzle_bytes] boxes */
  struct mbarrier landed;
};

extern "C" __global__ void __launch_bounds__(128) wgmma_tile(const __grid_constant__ struct arguments args) {
  FG_SHARED(struct shared, shared);
  int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, col = threadIdx.x % 4 * 2;
  if (threadIdx.x == 0) {
    mbarrier_init(&shared.landed, 1);
    fence_mbarrier_init();
    mbarrier_arrive_expect_tx(&shared.landed, (M + WGMMA_N) * K);
    for (int k = 0; k < K; k += args.swizzle_bytes) {
      tma_load_2d(shared.a + M * k, &args.a, &shared.landed, k, 0);
      tma_load_2d(shared.b + WGMMA_N * k, &args.b, &shared.landed, k, 0);
    }
  }
  __syncthreads();
  mbarrier_wait(&shared.landed, 0);
  float d[WGMMA_N / 2];
  for (int i = 0; i < WGMMA_N / 2; i++)
    d[i] = args.c ? args.c[(row + i / 2 % 2 * 8) * WGMMA_N + i / 4 * 8 + col + i % 2] : __uint_as_float(NOT_READ);
#if A_IN_REGISTERS
  unsigned a[K / STEP][4];
  for (int step = 0; step < K / STEP; step++)
    for (int i = 0; i < 4; i++)
      a[step][i] = *(const unsigned *)(args.a_codes + (row + i % 2 * 8) * K + step * STEP + threadIdx.x % 4 * 4 + i / 2 * 16);
#endif
  wgmma_hold(d);
  wgmma_fence();
  for (int step = 0; step < K / STEP; step++) {
    int box = step * STEP / args.swizzle_bytes * args.swizzle_bytes, within = step * STEP - box;
    unsigned long long b = wgmma_descriptor(shared.b + WGMMA_N * box + within, args.swizzle_bytes);
#if A_IN_REGISTERS
    wgmma_mma(d, a[step], b, step > 0 || args.c);
#else
    wgmma_mma(d, wgmma_descriptor(shared.a + M * box + within, args.swizzle_bytes), b, step > 0 || args.c);
#endif
  }
  wgmma_commit();
  wgmma_wait(0);
  wgmma_hold(d);
  for (int i = 0; i < WGMMA_N / 2; i++) args.d[(row + i / 2 % 2 * 8) * WGMMA_N + i / 4 * 8 + col + i % 2] = d[i];
}
