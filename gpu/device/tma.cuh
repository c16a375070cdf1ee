/* The copy engine (TMA): boxes of a tensor, between global and shared memory. One thread asks; the engine copies meanwhile. A load
 * tells an mbarrier how many bytes have landed: the whole box, also where it reaches beyond the tensor and brings zeros. A store
 * leaves out what lies beyond. PTX ISA, Tensors and cp.async.bulk.tensor.
 *
 * Coordinates count elements, the one along a row first, which must be a multiple of 16 bytes. A load's may be negative, a store's
 * may not: an H100 ends the kernel with "illegal instruction". In shared memory a box begins at a multiple of 128 bytes. A store that is
 * cut off within 16 bytes of a row writes them to their end, beyond the tensor. */
#pragma once
#include "args.h"
#include "mbarrier.cuh"

/* Fetches the map itself ahead of its first use. PTX ISA, prefetch. */
__device__ inline void tma_prefetch(const struct fg_tensor_map *map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

__device__ inline void tma_load(void *to, const struct fg_tensor_map *map, struct mbarrier *barrier, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(
          shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
      : "memory");
}

/* What becomes of lines in the L2: they leave it first when it is full, or nothing else than without a policy. PTX ISA, createpolicy. */
__device__ inline unsigned long long l2_policy(bool leaves_first) {
  unsigned long long first, unchanged;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(first));
  asm("createpolicy.fractional.L2::evict_unchanged.b64 %0, 1.0;" : "=l"(unchanged));
  return leaves_first ? first : unchanged;
}

/* The same as tma_load(), by a policy for the L2. */
__device__ inline void tma_load_by(void *to, const struct fg_tensor_map *map, struct mbarrier *barrier, int x, int y, int z,
                                   unsigned long long policy) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
               "[%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(shared_address(to)),
               "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "l"(policy)
               : "memory");
}

__device__ inline void tma_load_2d(void *to, const struct fg_tensor_map *map, struct mbarrier *barrier, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y)
      : "memory");
}

/* To every block of the cluster whose bit is set in `blocks`: to the same place in its shared memory, telling its own barrier. PTX ISA,
 * cp.async.bulk.tensor: .multicast::cluster. */
__device__ inline void tma_load_multicast(void *to, const struct fg_tensor_map *map, struct mbarrier *barrier, int x, int y,
                                          int z, unsigned short blocks) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
               "[%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(shared_address(to)),
               "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "h"(blocks)
               : "memory");
}

__device__ inline void tma_store(const struct fg_tensor_map *map, const void *from, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map),
               "r"(shared_address(from)), "r"(x), "r"(y), "r"(z)
               : "memory");
}

__device__ inline void tma_store_2d(const struct fg_tensor_map *map, const void *from, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
               "r"(shared_address(from)), "r"(x), "r"(y)
               : "memory");
}
