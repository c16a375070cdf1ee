/* Consumers take turns: while one warpgroup promotes, the next one's products are under way. Named barriers 1 ... `consumers` are the
 * turns; one consumer alone needs none. */
#pragma once
#include "promote.cuh"
#include "warp.cuh"

__device__ inline void take_turn(int warpgroup, int consumers) {
  if (consumers > 1) named_barrier_sync(1 + warpgroup, 2 * WARPGROUP);
}
__device__ inline void pass_turn(int warpgroup, int consumers) {
  if (consumers > 1) named_barrier_arrive(1 + (warpgroup + 1) % consumers, 2 * WARPGROUP);
}
