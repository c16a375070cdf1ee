/* The tensor core, asked by a warpgroup: 128 threads, the first of a multiple of 4 warps. PTX ISA, Asynchronous Warpgroup Level
 * Matrix Instructions.
 *
 * d[64, n] (+)= a[64, 32] b[n, 32]^T in FP8, n a multiple of 8 up to 256; how many numbers of d a thread has says which. Thread t has
 * rows t / 32 * 16 + t % 32 / 4 and 8 below, and in d[4 i] to d[4 i + 3] of each its columns 8 i + t % 4 * 2 and the one after. */
#pragma once
#include "shared.cuh"
#include "unroll.cuh"

/* A tile in shared memory, of rows of `swizzle_bytes` (128, 64 or 32) of K each, swizzled so: eight rows after the other, of which the
 * tile begins at a multiple of 8 * swizzle_bytes; 32 further along K is 32 bytes further. PTX ISA, Matrix Descriptor Format: the
 * address, how far it is to the next eight rows, and the kind of swizzle. */
__device__ inline unsigned long long wgmma_descriptor(const void *tile, int swizzle_bytes) {
  unsigned long long swizzle = swizzle_bytes == 128 ? 1 : swizzle_bytes == 64 ? 2 : 3;
  return shared_address(tile) >> 4 | 1ull << 16 | (8ull * swizzle_bytes >> 4) << 32 | swizzle << 62;
}

/* Before the first multiplication, and whenever registers of d or a were touched since the last: they are ready. PTX ISA,
 * wgmma.fence. */
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

/* The multiplications since the last time become a group. PTX ISA, wgmma.commit_group. */
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/* Until at most `pending` (0 or 1) groups are under way; of the others d may be read, and what they read overwritten. PTX ISA,
 * wgmma.wait_group. */
__device__ inline void wgmma_wait(int pending) {
  if (pending)
    asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
  else
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

/* The compiler takes d for written when a multiplication was asked for; it moves no use of d across this. So: once d was written and
 * before wgmma_fence(), and after wgmma_wait(). It is no instruction. */
template <int size> __device__ inline void wgmma_hold(float (&d)[size]) {
  FG_UNROLL(size)
  for (int i = 0; i < size; i++) asm volatile("" : "+f"(d[i])::"memory");
}

/* The types of the tensor core's a and b: the problem's, unless the kernel says that its operands are swapped. */
#ifndef WGMMA_A_IS_E5M2
#define WGMMA_A_IS_E5M2 A_IS_E5M2
#define WGMMA_B_IS_E5M2 B_IS_E5M2
#endif
#if WGMMA_A_IS_E5M2
#define WGMMA_A "e5m2"
#else
#define WGMMA_A "e4m3"
#endif
#if WGMMA_B_IS_E5M2
#define WGMMA_TYPES WGMMA_A ".e5m2"
#else
#define WGMMA_TYPES WGMMA_A ".e4m3"
#endif

/* a and b in shared memory, n = 128: wgmma_any.cuh has the others, and a in registers. accumulate false: what d was is ignored. PTX ISA,
 * wgmma.mma_async. */
__device__ inline void wgmma_mma(float (&d)[64], unsigned long long a, unsigned long long b, bool accumulate) {
  asm volatile("{\n"
               ".reg .pred p;\n"
               "setp.ne.b32 p, %66, 0;\n"
               "wgmma.mma_async.sync.aligned.m64n128k32.f32." WGMMA_TYPES " {"
               "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
               "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
               "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
               "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
               "%64, %65, p, 1, 1;\n"
               "}"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
                 "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
                 "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
                 "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]),
                 "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]),
                 "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
                 "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),
                 "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
               : "l"(a), "l"(b), "r"((unsigned)accumulate));
}
