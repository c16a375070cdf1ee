/* Clusters: blocks that run at the same time and reach each other's shared memory. */
#pragma once
#include "shared.cuh"

__attribute__((const)) FG_UNSEEN unsigned fg_cluster_rank() { return fg_emulator.view()->cluster_rank; }

__device__ inline unsigned cluster_rank() { return fg_cluster_rank(); }

__device__ inline void cluster_arrive() { fg_emulator.cluster_arrive(); }
__device__ inline void cluster_arrive_relaxed() { fg_emulator.cluster_arrive(); }
__device__ inline void cluster_wait() { fg_emulator.cluster_wait(); }

__device__ inline float4 load_remote(const float4 *in_shared, unsigned rank) {
  float4 value;
  fg_emulator.remote((void *)in_shared, rank, &value, sizeof value, false);
  return value;
}

__device__ inline void store_remote(float4 *in_shared, unsigned rank, float4 value) {
  fg_emulator.remote(in_shared, rank, &value, sizeof value, true);
}
