/* What CUDA's compilers know without being told, as much of it as kernels here use: stands in front of every kernel that the emulator
 * compiles. What is not here does not compile. */
#pragma once
#include "kernel_side.h"

#if defined __clang__ ? __clang_major__ < 14 : __GNUC__ < 12
#error "the emulator wants g++ 12 or newer, or clang++ 14: with older ones what watches a kernel would watch itself"
#endif

/* The emulator's functions: the loader fills it in. No compiler may know what is in it, nor watch that it is read. Until then `access`,
 * `step` and `misaligned` do nothing: what starts the image calls them. */
asm(".data\n"
    ".globl fg_emulator\n"
    ".balign 64\n"
    "fg_emulator: .quad 0, fg_nothing, fg_nothing, fg_nothing\n"
    ".zero 1000\n"
    ".text\n");
static_assert(__builtin_offsetof(struct emu_calls, misaligned) == 24 && sizeof(struct emu_calls) <= 1024);
extern "C" const struct emu_calls fg_emulator;

/* Functions are part of whoever calls them, as on the GPU: so every address in a kernel is on a line of its source. */
#define __device__ __attribute__((always_inline))
#define __global__ __attribute__((visibility("default"), noinline, used))
#define __launch_bounds__(...) /* the compiler's driver reads it */
#define __grid_constant__
#define __forceinline__ inline
#define __noinline__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ static_assert(false, "the emulator has no __shared__ variables: shared memory is FG_SHARED(type, name)");
#define __constant__ static_assert(false, "the emulator has no __constant__ variables: a kernel has its arguments");
#define __CUDA_ARCH__ 900
#define FG_INLINE __attribute__((always_inline)) static inline

/* Left out of what is watched. */
#ifndef __clang__
#define FG_UNWATCHED __attribute__((no_sanitize("thread"), no_sanitize_coverage, noinline))
#else
#define FG_UNWATCHED __attribute__((disable_sanitizer_instrumentation, no_sanitize("coverage"), noinline))
#endif
#define FG_UNSEEN FG_UNWATCHED static

/* --- What the instrumentation calls. Each ends in a jump, so that the return address is in the kernel. */
extern "C" {
#define FG_HIDDEN __attribute__((visibility("hidden"), used))
#define FG_HOOK FG_HIDDEN FG_UNWATCHED void
/* Of 16 bytes the compilers take a multiple of 8 for aligned: two structs of 8 bytes may be one access. */
#define FG_ALIGNED_HOOK(name, bytes, is_write)                                                                                   \
  FG_HOOK name(void *at) {                                                                                                       \
    if ((unsigned long)at % (bytes < 8 ? bytes : 8))                                                                             \
      fg_emulator.misaligned(at, bytes, is_write);                                                                               \
    else                                                                                                                         \
      fg_emulator.access(at, bytes, is_write);                                                                                   \
  }
#define FG_HOOKS(bytes)                                                                                                          \
  FG_ALIGNED_HOOK(__tsan_read##bytes, bytes, false)                                                                              \
  FG_ALIGNED_HOOK(__tsan_write##bytes, bytes, true)                                                                              \
  FG_HOOK __tsan_unaligned_read##bytes(void *at) { fg_emulator.access(at, bytes, false); }                                       \
  FG_HOOK __tsan_unaligned_write##bytes(void *at) { fg_emulator.access(at, bytes, true); }
FG_HOOKS(1)
FG_HOOKS(2)
FG_HOOKS(4)
FG_HOOKS(8)
FG_HOOKS(16)
FG_HOOK __tsan_read_range(void *at, unsigned long bytes) { fg_emulator.access(at, bytes, false); }
FG_HOOK __tsan_write_range(void *at, unsigned long bytes) { fg_emulator.access(at, bytes, true); }
#ifdef __clang__
/* Of a thread's own variables clang's watch leaves out what is reached by an address made for that access alone, as accumulators are:
 * here comes every access, and those to the stack, which lie above this call, go on. */
#define FG_OWN_HOOK(what, bytes, is_write)                                                                                       \
  FG_HOOK __sanitizer_cov_##what##bytes(void *at) {                                                                              \
    if ((unsigned long)at - (unsigned long)__builtin_frame_address(0) < 1 << 17) fg_emulator.access(at, bytes, is_write);        \
  }
#define FG_OWN_HOOKS(bytes) FG_OWN_HOOK(load, bytes, false) FG_OWN_HOOK(store, bytes, true)
FG_OWN_HOOKS(1)
FG_OWN_HOOKS(2)
FG_OWN_HOOKS(4)
FG_OWN_HOOKS(8)
FG_OWN_HOOKS(16)
#endif
FG_HOOK fg_nothing() {}
FG_HOOK __tsan_init() {}
FG_HOOK __tsan_func_entry(void *) {}
FG_HOOK __tsan_func_exit() {}
FG_HOOK __sanitizer_cov_trace_pc() { fg_emulator.step(); }

/* What C leaves open, and the GPU answers somehow. */
struct
    fg_type { /* as both compilers describe it: info is twice the logarithm of an integer's bits, and one more if it is signed */
  unsigned short kind, info;
  char name[];
};
struct fg_out_of_bounds {
  const char *file;
  unsigned line, column;
  const struct fg_type *array, *index;
};
FG_HOOK __ubsan_handle_divrem_overflow(void *, unsigned long, unsigned long) { fg_emulator.no_result(0, nullptr); }
FG_HOOK __ubsan_handle_out_of_bounds(struct fg_out_of_bounds *of, unsigned long index) {
  int unused_bits = 64 - (1 << (of->index->info >> 1));
  fg_emulator.no_result(of->index->info & 1 ? (long)(index << unused_bits) >> unused_bits : (long)index, of->array->name);
}

/* Whole structs, where the compiler calls for that. */
void *memmove(void *to, const void *from, unsigned long bytes);
FG_HIDDEN FG_UNWATCHED void *memcpy(void *to, const void *from, unsigned long bytes) {
  fg_emulator.access(from, bytes, false);
  fg_emulator.access(to, bytes, true);
  return memmove(to, from, bytes);
}
FG_HIDDEN FG_UNWATCHED void *memset(void *to, int value, unsigned long bytes) {
  fg_emulator.access(to, bytes, true);
  for (unsigned long i = 0; i < bytes; i++) {
    ((unsigned char *)to)[i] = (unsigned char)value;
    asm volatile("" ::: "memory"); /* or the loop would become a call of memset() */
  }
  return to;
}
FG_HIDDEN void *__tsan_memcpy(void *to, const void *from, unsigned long bytes) __attribute__((alias("memcpy")));
FG_HIDDEN void *__tsan_memset(void *to, int value, unsigned long bytes) __attribute__((alias("memset")));
float fmaf(float, float, float);
}

/* --- Threads, blocks, the grid */
typedef struct emu_index uint3;
__attribute__((const)) FG_UNSEEN uint3 fg_thread_index() { return fg_emulator.view()->thread; }
__attribute__((const)) FG_UNSEEN uint3 fg_block_index() { return fg_emulator.view()->block; }
__attribute__((const)) FG_UNSEEN uint3 fg_block_size() { return fg_emulator.view()->block_size; }
__attribute__((const)) FG_UNSEEN uint3 fg_grid_size() { return fg_emulator.view()->grid_size; }
#define threadIdx fg_thread_index()
#define blockIdx fg_block_index()
#define blockDim fg_block_size()
#define gridDim fg_grid_size()

/* --- Vectors */
struct __align__(8) uint2 {
  unsigned x, y;
};
struct __align__(16) uint4 {
  unsigned x, y, z, w;
};
struct __align__(8) float2 {
  float x, y;
};
struct __align__(16) float4 {
  float x, y, z, w;
};
FG_INLINE uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
FG_INLINE uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
FG_INLINE float2 make_float2(float x, float y) { return {x, y}; }
FG_INLINE float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

/* --- Numbers, all to nearest even */
FG_UNSEEN float __fmaf_rn(float a, float b, float c) {
  fg_emulator.view()->fused++;
  return fmaf(a, b, c);
}
FG_INLINE float __fmul_rn(float a, float b) { return a * b; }
FG_INLINE float __fadd_rn(float a, float b) { return a + b; }
FG_INLINE float __fsub_rn(float a, float b) { return a - b; }
FG_INLINE float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
FG_INLINE unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
FG_INLINE int __popc(unsigned bits) { return __builtin_popcount(bits); }

/* --- The block, the warp */
FG_INLINE void __syncthreads() { fg_emulator.sync_threads(); }
FG_INLINE void __syncwarp(unsigned mask = 0xFFFFFFFF) { fg_emulator.sync_warp(mask); }

template <class T> FG_INLINE T fg_shuffle(unsigned mask, T value, emu_shuffle how, unsigned operand, int width) {
  static_assert(sizeof(T) == 4, "the emulator shuffles numbers of 32 bits");
  if (width != 32) fg_emulator.not_modelled("a shuffle of less than a warp");
  return __builtin_bit_cast(T, fg_emulator.shuffle(mask, __builtin_bit_cast(unsigned, value), how, operand));
}
template <class T> FG_INLINE T __shfl_sync(unsigned mask, T value, int thread, int width = 32) {
  return fg_shuffle(mask, value, EMU_SHUFFLE_INDEX, (unsigned)thread, width);
}
template <class T> FG_INLINE T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  return fg_shuffle(mask, value, EMU_SHUFFLE_UP, by, width);
}
template <class T> FG_INLINE T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  return fg_shuffle(mask, value, EMU_SHUFFLE_DOWN, by, width);
}
template <class T> FG_INLINE T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
  return fg_shuffle(mask, value, EMU_SHUFFLE_XOR, (unsigned)with, width);
}
FG_INLINE unsigned __ballot_sync(unsigned mask, int predicate) { return fg_emulator.ballot(mask, predicate != 0); }
FG_INLINE int __any_sync(unsigned mask, int predicate) { return fg_emulator.ballot(mask, predicate != 0) != 0; }
FG_INLINE int __all_sync(unsigned mask, int predicate) { return fg_emulator.ballot(mask, predicate != 0) == mask; }

/* --- Memory */
FG_INLINE unsigned atomicAdd(unsigned *address, unsigned value) { return fg_emulator.atomic_add(address, value); }
FG_INLINE int atomicAdd(int *address, int value) { return (int)fg_emulator.atomic_add((unsigned *)address, (unsigned)value); }
FG_INLINE void __threadfence() { fg_emulator.threadfence(); }
template <class T> FG_INLINE T __ldg(const T *address) { return *address; }
FG_INLINE void __trap() { fg_emulator.not_modelled("__trap()"); }

/* --- What the last lines of a kernel's source, which the compiler's driver adds, say of it. */
struct __align__(64) fg_arguments {
  unsigned char bytes[4096];
};
template <class T> struct fg_kernel;
template <class T> struct fg_kernel<void (*)(T)> {
  static_assert(sizeof(T) <= sizeof(fg_arguments) && __is_trivially_copyable(T),
                "a kernel takes one struct of at most 4096 bytes");
  static_assert(__is_class(T), "a kernel takes one struct");
  typedef T argument;
};
struct fg_bounds { /* a third number, of blocks of a cluster, is the launch's to say */
  unsigned threads, blocks;
  constexpr fg_bounds(unsigned threads, unsigned blocks = 0, unsigned = 0) : threads(threads), blocks(blocks) {}
};
/* Structs of up to 16 bytes may travel in registers: those kernels are called by a function that takes what the emulator passes. The
 * others see just that, and not a copy of it. The choice is a template's: with ?: it would be made by code that runs on loading. */
template <bool is_small> struct fg_choose { template <auto kernel, auto> static constexpr auto entry = kernel; };
template <> struct fg_choose<true> { template <auto, auto caller> static constexpr auto entry = caller; };
#define FG_KERNEL(name, ...)                                                                                                     \
  FG_UNSEEN void fg_enter_##name(struct fg_arguments arguments) { name(*(fg_kernel<decltype(&name)>::argument *)&arguments); }
#define FG_KERNEL_ENTRY(name, ...)                                                                                               \
  {#name, (void (*)())fg_choose<(sizeof(fg_kernel<decltype(&name)>::argument) <= 16)>::entry<&name, &fg_enter_##name>,           \
   sizeof(fg_kernel<decltype(&name)>::argument), fg_bounds(__VA_ARGS__).threads, fg_bounds(__VA_ARGS__).blocks},
#define FG_KERNELS_BEGIN extern "C" __attribute__((visibility("default"))) const struct emu_kernel fg_kernels[] = {
#define FG_KERNELS_END                                                                                                           \
  { nullptr, nullptr, 0, 0, 0 }                                                                                                  \
  }                                                                                                                              \
  ;
