/* The copy engine without a tensor map: bytes in a row, in multiples of 16 and from and to multiples of 16. And the groups that
 * stores, with a map or without, are waited for in. PTX ISA, cp.async.bulk. */
#pragma once
#include "mbarrier.cuh"

__device__ inline void bulk_load(void *to, const void *from, unsigned bytes, struct mbarrier *barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
}

__device__ inline void bulk_store(void *to, const void *from, unsigned bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(shared_address(from)), "r"(bytes)
               : "memory");
}

/* From this block's shared memory to the place `to` in that of block `rank`, telling the barrier there. PTX ISA, mapa. */
__device__ inline void bulk_send(void *to, unsigned rank, const void *from, unsigned bytes, struct mbarrier *barrier) {
  asm volatile("{\n"
               ".reg .b32 there, barrier;\n"
               "mapa.shared::cluster.u32 there, %0, %4;\n"
               "mapa.shared::cluster.u32 barrier, %3, %4;\n"
               "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [there], [%1], %2, [barrier];\n"
               "}" ::"r"(shared_address(to)),
               "r"(shared_address(from)), "r"(bytes), "r"(shared_address(barrier)), "r"(rank)
               : "memory");
}

/* The stores that this thread has asked for since it last called this become a group. PTX ISA, cp.async.bulk.commit_group. */
__device__ inline void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

/* Until at most `pending` (0 or 1) of this thread's groups have still to read shared memory; what the others read may be overwritten.
 * PTX ISA, cp.async.bulk.wait_group. */
__device__ inline void bulk_wait_read(int pending) {
  if (pending)
    asm volatile("cp.async.bulk.wait_group.read 1;" ::: "memory");
  else
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

/* Until all are done, and what they wrote is seen. */
__device__ inline void bulk_wait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
