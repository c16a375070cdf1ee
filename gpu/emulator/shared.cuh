/* A block's shared memory, and the fence between the two ways that lead to it. */
#pragma once

__attribute__((const)) FG_UNSEEN void *fg_shared_memory() { return fg_emulator.view()->shared; }

#define FG_SHARED(type, name) type &name = *(type *)fg_shared_memory()

__device__ inline unsigned shared_address(const void *in_shared) { return fg_emulator.shared_address(in_shared); }

__device__ inline void fence_proxy_async() { fg_emulator.fence_proxy_async(); }
