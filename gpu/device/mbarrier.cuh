/* Barriers in shared memory that count arrivals and bytes. A phase ends when as many have arrived as the barrier was initialised for
 * and as many bytes have landed as were announced; the next begins at once. Phases have parities 0, 1, 0, ... PTX ISA, mbarrier,
 * and the name of each instruction below. */
#pragma once
#include "shared.cuh"

struct __align__(8) mbarrier {
  unsigned long long state;
};

/* By one thread; then fence_mbarrier_init(), then a barrier of all who will use it. PTX ISA, mbarrier.init. */
__device__ inline void mbarrier_init(struct mbarrier *barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

/* What this thread initialised is there for the cluster and for the copy engine. PTX ISA, membar/fence: fence.mbarrier_init. */
__device__ inline void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

/* What this thread did before is seen by those of the block that wait. PTX ISA, mbarrier.arrive: .release.cta unless said otherwise. */
__device__ inline void mbarrier_arrive(struct mbarrier *barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

/* Announces that so many bytes will land in this phase, and arrives. PTX ISA, mbarrier.expect_tx. */
__device__ inline void mbarrier_arrive_expect_tx(struct mbarrier *barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}

/* At the barrier that stands at the same place in the memory of block `rank` of the cluster; one's own is allowed. It gives back what
 * this thread, or the tensor core for it, has read; what it stored is promised only to its own block. PTX ISA, mapa. (.release.cluster
 * would promise it to the cluster, by a fence for the whole GPU: 950 cycles on an H100 until the other goes on instead of 205.) */
__device__ inline void mbarrier_arrive_cluster(struct mbarrier *barrier, unsigned rank) {
  asm volatile("{\n"
               ".reg .b32 there;\n"
               "mapa.shared::cluster.u32 there, %0, %1;\n"
               "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
               "}" ::"r"(shared_address(barrier)),
               "r"(rank)
               : "memory");
}

/* Until the phase of that parity has ended: at once if the barrier is in the phase after it. Before the first phase ends that is so
 * for parity 1. What those who arrived did before is then seen. PTX ISA, mbarrier.try_wait: .acquire.cta unless said otherwise. */
__device__ inline void mbarrier_wait(struct mbarrier *barrier, unsigned parity) {
  unsigned done = 0;
  while (!done)
    asm volatile("{\n"
                 ".reg .pred ended;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
                 "selp.b32 %0, 1, 0, ended;\n"
                 "}"
                 : "=r"(done)
                 : "r"(shared_address(barrier)), "r"(parity)
                 : "memory");
}

/* A plain wait, for arrivals from other blocks of the cluster: what they have read may be overwritten now, what they have stored is not
 * promised. (.acquire.cluster would promise it, and NVCC drops all that the L1 holds for it, each time.) */
__device__ inline void mbarrier_wait_cluster(struct mbarrier *barrier, unsigned parity) { mbarrier_wait(barrier, parity); }

/* Whether the phase of that parity has ended already; if so, all that mbarrier_wait() promises. It may say no when it has just ended. PTX ISA,
 * mbarrier.test_wait. */
__device__ inline bool mbarrier_test(struct mbarrier *barrier, unsigned parity) {
  unsigned done;
  asm volatile("{\n"
               ".reg .pred ended;\n"
               "mbarrier.test_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
               "selp.b32 %0, 1, 0, ended;\n"
               "}"
               : "=r"(done)
               : "r"(shared_address(barrier)), "r"(parity)
               : "memory");
  return done;
}
