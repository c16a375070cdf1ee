/* A block's shared memory, and the fence between the two ways that lead to it. */
#pragma once

/* `name` refers to the block's shared memory, as much of it as the plan gave to the launch. A stage that the copy engine swizzles
 * begins at a multiple of 1024 bytes, and so does the memory. */
#define FG_SHARED(type, name)                                                                                                    \
  extern __shared__ __align__(1024) unsigned char fg_shared_memory[];                                                            \
  type &name = *(type *)fg_shared_memory

/* Where it lies as PTX counts: 32 bits, from the block's own first byte. PTX ISA, State Spaces: .shared. */
__device__ inline unsigned shared_address(const void *in_shared) { return (unsigned)__cvta_generic_to_shared(in_shared); }

/* What this thread has stored by ordinary means is there for the copy engine and the tensor core, once the barrier that follows is
 * passed: they come to shared memory by a proxy of their own, the async proxy. PTX ISA, Async proxy and membar/fence. */
__device__ inline void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
