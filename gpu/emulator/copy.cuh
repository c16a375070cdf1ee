/* Copies of four bytes from global to shared memory, for which each thread asks by itself. */
#pragma once
#include "mbarrier.cuh"

__device__ inline void copy_four_bytes(void *to, const void *from, bool is_there) {
  fg_emulator.copy_four_bytes(to, from, is_there);
}

__device__ inline void mbarrier_arrive_when_copied(struct mbarrier *barrier) { fg_emulator.mbarrier_arrive_when_copied(barrier); }

__device__ inline void prefetch(const void *address) { fg_emulator.prefetch(address); }
