/* The copy engine (TMA): boxes of a tensor, between global and shared memory. */
#pragma once
#include "args.h"
#include "mbarrier.cuh"

__device__ inline void tma_prefetch(const struct fg_tensor_map *map) { fg_emulator.tma_prefetch(map); }

__device__ inline void tma_load(void *to, const struct fg_tensor_map *map, struct mbarrier *barrier, int x, int y, int z) {
  const int at[] = {x, y, z};
  fg_emulator.tma_load(to, map, barrier, 3, at, 0, false);
}

__device__ inline unsigned long long l2_policy(bool leaves_first) { return leaves_first; }

__device__ inline void tma_load_by(void *to, const struct fg_tensor_map *map, struct mbarrier *barrier, int x, int y, int z,
                                   unsigned long long policy) {
  (void)policy;
  tma_load(to, map, barrier, x, y, z);
}

__device__ inline void tma_load_2d(void *to, const struct fg_tensor_map *map, struct mbarrier *barrier, int x, int y) {
  const int at[] = {x, y, 0};
  fg_emulator.tma_load(to, map, barrier, 2, at, 0, false);
}

__device__ inline void tma_load_multicast(void *to, const struct fg_tensor_map *map, struct mbarrier *barrier, int x, int y,
                                          int z, unsigned short blocks) {
  const int at[] = {x, y, z};
  fg_emulator.tma_load(to, map, barrier, 3, at, blocks, true);
}

__device__ inline void tma_store(const struct fg_tensor_map *map, const void *from, int x, int y, int z) {
  const int at[] = {x, y, z};
  fg_emulator.tma_store(map, from, 3, at);
}

__device__ inline void tma_store_2d(const struct fg_tensor_map *map, const void *from, int x, int y) {
  const int at[] = {x, y, 0};
  fg_emulator.tma_store(map, from, 2, at);
}
