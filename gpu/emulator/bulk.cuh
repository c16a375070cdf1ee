/* The copy engine without a tensor map, and the groups that its stores are waited for in. */
#pragma once
#include "mbarrier.cuh"

__device__ inline void bulk_load(void *to, const void *from, unsigned bytes, struct mbarrier *barrier) {
  fg_emulator.bulk_load(to, from, bytes, barrier);
}

__device__ inline void bulk_store(void *to, const void *from, unsigned bytes) { fg_emulator.bulk_store(to, from, bytes); }

__device__ inline void bulk_send(void *to, unsigned rank, const void *from, unsigned bytes, struct mbarrier *barrier) {
  fg_emulator.bulk_send(to, rank, from, bytes, barrier);
}

__device__ inline void bulk_commit() { fg_emulator.bulk_commit(); }

__device__ inline void bulk_wait_read(int pending) { fg_emulator.bulk_wait(pending != 0, true); }

__device__ inline void bulk_wait() { fg_emulator.bulk_wait(0, false); }
