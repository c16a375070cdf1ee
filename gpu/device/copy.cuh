/* Copies of four bytes from global to shared memory, for which each thread asks by itself and then goes on: from and to any multiple of
 * 4, where the copy engine wants rows of 16 bytes and more. They reach shared memory as ordinary stores do, not by the async proxy: who
 * has waited for them reads them without a fence. PTX ISA, cp.async.
 *
 * And lines that are only brought nearer. */
#pragma once
#include "mbarrier.cuh"

/* Zeros where there is nothing at `from`, which is then not read. */
__device__ inline void copy_four_bytes(void *to, const void *from, bool is_there) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from), "r"(is_there ? 4 : 0)
               : "memory");
}

/* Arrives when all that this thread has asked for so far is there: the barrier's arrivals include it. Of what else the thread did it
 * promises nothing. PTX ISA, cp.async.mbarrier.arrive: .noinc. */
__device__ inline void mbarrier_arrive_when_copied(struct mbarrier *barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
}

/* Asks for the line that `address` is in to come to the L2, and does not wait. It reads nothing that anybody sees, and may stand before
 * wait_for_the_launch_before(). PTX ISA, prefetch. */
__device__ inline void prefetch(const void *address) { asm volatile("prefetch.global.L2 [%0];" ::"l"(address) : "memory"); }
