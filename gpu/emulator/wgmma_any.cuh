/* wgmma_mma() for n = WGMMA_N, a constant of the kernel. */
#pragma once
#include "wgmma.cuh"

#if WGMMA_N
static_assert(WGMMA_N % 8 == 0 && WGMMA_N <= 256, "n is a multiple of 8 up to 256");

#if WGMMA_N != 128
__device__ inline void wgmma_mma(float (&d)[WGMMA_N / 2], unsigned long long a, unsigned long long b, bool accumulate) {
  fg_emulator.wgmma(d, WGMMA_N, a, nullptr, b, accumulate, WGMMA_A_IS_E5M2, WGMMA_B_IS_E5M2);
}
#endif

__device__ inline void wgmma_mma(float (&d)[WGMMA_N / 2], const unsigned (&a)[4], unsigned long long b, bool accumulate) {
  fg_emulator.wgmma(d, WGMMA_N, 0, a, b, accumulate, WGMMA_A_IS_E5M2, WGMMA_B_IS_E5M2);
}
#endif
