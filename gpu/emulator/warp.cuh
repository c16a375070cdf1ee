/* What the threads of a warp do together, and barriers for some of a block's warps. */
#pragma once
#include "shared.cuh"

__device__ inline int warpgroup_index() { return __shfl_sync(0xFFFFFFFF, threadIdx.x / 128, 0); }
__device__ inline void keep(int &) {} /* nothing is made anew */
__device__ inline bool elect_one() { return fg_emulator.elect(); }

__device__ inline void named_barrier_sync(int id, int threads) { fg_emulator.named_barrier(id, threads, true); }
__device__ inline void named_barrier_arrive(int id, int threads) { fg_emulator.named_barrier(id, threads, false); }

__device__ inline void stmatrix(void *row, unsigned m0, unsigned m1, unsigned m2, unsigned m3) {
  const unsigned m[] = {m0, m1, m2, m3};
  fg_emulator.stmatrix(row, m, false);
}

__device__ inline void stmatrix_transposed(void *row, unsigned m0, unsigned m1, unsigned m2, unsigned m3) {
  const unsigned m[] = {m0, m1, m2, m3};
  fg_emulator.stmatrix(row, m, true);
}

#define FG_REGISTERS(count, gives)                                                                                               \
  do {                                                                                                                           \
    static_assert((count) % 8 == 0 && (count) >= 24 && (count) <= 256, "registers: a multiple of 8 from 24 to 256");             \
    fg_emulator.registers(count, gives);                                                                                         \
  } while (0)
#define registers_give(count) FG_REGISTERS(count, true)
#define registers_take(count) FG_REGISTERS(count, false)
