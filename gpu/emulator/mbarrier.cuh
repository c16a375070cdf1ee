/* Barriers in shared memory that count arrivals and bytes. */
#pragma once
#include "shared.cuh"

struct __align__(8) mbarrier {
  unsigned long long state; /* the emulator keeps it elsewhere, and the kernel may not touch it */
};

__device__ inline void mbarrier_init(struct mbarrier *barrier, unsigned arrivals) {
  fg_emulator.mbarrier_init(barrier, arrivals);
}

__device__ inline void fence_mbarrier_init() { fg_emulator.fence_mbarrier_init(); }

__device__ inline void mbarrier_arrive(struct mbarrier *barrier) { fg_emulator.mbarrier_arrive(barrier, 0, false); }

__device__ inline void mbarrier_arrive_expect_tx(struct mbarrier *barrier, unsigned bytes) {
  fg_emulator.mbarrier_arrive(barrier, bytes, true);
}

__device__ inline void mbarrier_arrive_cluster(struct mbarrier *barrier, unsigned rank) {
  fg_emulator.mbarrier_arrive_cluster(barrier, rank);
}

__device__ inline void mbarrier_wait(struct mbarrier *barrier, unsigned parity) {
  fg_emulator.mbarrier_wait(barrier, parity, false);
}

__device__ inline void mbarrier_wait_cluster(struct mbarrier *barrier, unsigned parity) {
  fg_emulator.mbarrier_wait(barrier, parity, true);
}

__device__ inline bool mbarrier_test(struct mbarrier *barrier, unsigned parity) {
  return fg_emulator.mbarrier_test(barrier, parity);
}
