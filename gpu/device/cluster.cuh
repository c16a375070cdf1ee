/* Clusters: blocks that run at the same time and reach each other's shared memory. */
#pragma once
#include "shared.cuh"

/* This block's place in its cluster. PTX ISA, Special Registers: %cluster_ctarank. */
__device__ inline unsigned cluster_rank() {
  unsigned rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

/* All threads of all blocks of the cluster arrive; then each waits until all have. What they did before is then seen. PTX ISA,
 * barrier.cluster. */
__device__ inline void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ inline void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

/* Arrives without a promise of what was done before, and without the fence for the whole GPU that makes it: enough where the barrier is
 * to say that all have begun, and that their mbarriers, which fence_mbarrier_init() promised, are there. */
__device__ inline void cluster_arrive_relaxed() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); }

/* Four numbers, from a multiple of 16 bytes, at the same place in the shared memory of block `rank`. PTX ISA, mapa, ld and st. */
__device__ inline float4 load_remote(const float4 *in_shared, unsigned rank) {
  float4 value;
  asm volatile("{\n"
               ".reg .b32 there;\n"
               "mapa.shared::cluster.u32 there, %4, %5;\n"
               "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there];\n"
               "}"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "r"(shared_address(in_shared)), "r"(rank)
               : "memory");
  return value;
}

__device__ inline void store_remote(float4 *in_shared, unsigned rank, float4 value) {
  asm volatile("{\n"
               ".reg .b32 there;\n"
               "mapa.shared::cluster.u32 there, %0, %1;\n"
               "st.shared::cluster.v4.f32 [there], {%2, %3, %4, %5};\n"
               "}" ::"r"(shared_address(in_shared)),
               "r"(rank), "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w)
               : "memory");
}
