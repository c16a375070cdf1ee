/* What the threads of a warp do together, and barriers for some of a block's warps. */
#pragma once
#include "shared.cuh"

/* Which warpgroup of the block this is. It is threadIdx.x / 128, and from a shuffle the compiler knows that a warp's threads have the same:
 * what depends on it alone, descriptors of shared memory above all, then needs no registers of theirs. */
__device__ inline int warpgroup_index() { return __shfl_sync(0xFFFFFFFF, threadIdx.x / 128, 0); }

/* It is no instruction; but the compiler keeps x at hand, and does not make it anew from a special register where it is wanted, which would
 * be waited for. */
__device__ inline void keep(int &x) { asm volatile("" : "+r"(x)); }

/* True for one thread of the warp, the same each time. All call it. PTX ISA, elect.sync. */
__device__ inline bool elect_one() {
  unsigned is_elected;
  asm volatile("{\n"
               ".reg .pred elected;\n"
               "elect.sync _|elected, 0xFFFFFFFF;\n"
               "selp.b32 %0, 1, 0, elected;\n"
               "}"
               : "=r"(is_elected));
  return is_elected;
}

/* Barrier `id`, 1 to 15 (0 is __syncthreads()), for `threads` threads in whole warps: those that wait, and those that only arrive.
 * PTX ISA, bar. */
__device__ inline void named_barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* The warp stores four 8x8 matrices of 16-bit elements, of which a thread has two neighbours in a row in each register: threads 8 i to
 * 8 i + 7 give where the rows of matrix i begin, each a multiple of 16 bytes. PTX ISA, stmatrix. */
__device__ inline void stmatrix(void *row, unsigned m0, unsigned m1, unsigned m2, unsigned m3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)), "r"(m0), "r"(m1),
               "r"(m2), "r"(m3)
               : "memory");
}

/* The same, each matrix transposed. */
__device__ inline void stmatrix_transposed(void *row, unsigned m0, unsigned m1, unsigned m2, unsigned m3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)), "r"(m0),
               "r"(m1), "r"(m2), "r"(m3)
               : "memory");
}

/* The four warps of a warpgroup give registers back, or take some that others gave: `count` a thread from now on, a multiple of 8 from
 * 24 to 256, and a constant. PTX ISA, setmaxnreg. */
#define registers_give(count) asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count))
#define registers_take(count) asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count))
