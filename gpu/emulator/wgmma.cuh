/* The tensor core, asked by a warpgroup. */
#pragma once
#include "shared.cuh"
#include "unroll.cuh"

__device__ inline unsigned long long wgmma_descriptor(const void *tile, int swizzle_bytes) {
  unsigned long long swizzle = swizzle_bytes == 128 ? 1 : swizzle_bytes == 64 ? 2 : 3;
  return shared_address(tile) >> 4 | 1ull << 16 | (8ull * swizzle_bytes >> 4) << 32 | swizzle << 62;
}

__device__ inline void wgmma_fence() { fg_emulator.wgmma_fence(); }
__device__ inline void wgmma_commit() { fg_emulator.wgmma_commit(); }
__device__ inline void wgmma_wait(int pending) { fg_emulator.wgmma_wait(pending != 0); }

#ifndef A_IS_E5M2
#define A_IS_E5M2 0
#endif
#ifndef B_IS_E5M2
#define B_IS_E5M2 0
#endif
#ifndef WGMMA_A_IS_E5M2
#define WGMMA_A_IS_E5M2 A_IS_E5M2
#define WGMMA_B_IS_E5M2 B_IS_E5M2
#endif

template <int size> __device__ inline void wgmma_hold(float (&)[size]) {} /* no compiler takes d for written before it is here */

__device__ inline void wgmma_mma(float (&d)[64], unsigned long long a, unsigned long long b, bool accumulate) {
  fg_emulator.wgmma(d, 128, a, nullptr, b, accumulate, WGMMA_A_IS_E5M2, WGMMA_B_IS_E5M2);
}
