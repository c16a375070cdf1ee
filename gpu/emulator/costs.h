/* How long things take, in cycles of an H100's multiprocessor: a simple model, so that a timeline has about the chip's shape and that
 * launches with seed 0 have an order. Rates follow from the data sheet; latencies are rounded from what is published (Luo et al.,
 * "Benchmarking and Dissecting the NVIDIA Hopper GPU Architecture", 2024: [L]) or are guesses of the right size, and say so.
 *
 * A thread is charged as if it had the multiprocessor's issue slots for itself: not modelled are caches, bank conflicts, warps that
 * compete for units, several blocks on one multiprocessor, and the clock's throttling. */
#ifndef FG_COSTS_H
#define FG_COSTS_H

enum {
  COST_CLOCK_MHZ = 1830, /* the clock: that of the data sheet's rates */
  COST_STEP = 4,         /* a stretch of code without a branch: a few instructions; a guess */
  COST_FMA = 2,          /* among many: a warp's 32 take a quarter of the multiprocessor a cycle, and two warps share one */
  COST_SHARED = 8,       /* a load or store among others, of shared memory: alone 29 [L]; that so many overlap is a guess */
  COST_GLOBAL = 100,     /* the same of global memory: alone 480 [L] */
  COST_ATOMIC = 600,     /* on global memory, there and back; a guess */
  COST_FENCE = 20,       /* threadfence, fence_proxy_async, fence_mbarrier_init, wgmma_fence; a guess */

  COST_WARP = 10,      /* shuffle, ballot, elect_one, __syncwarp; a guess */
  COST_BLOCK = 30,     /* __syncthreads, a named barrier; a guess */
  COST_MBARRIER = 30,  /* an arrival, or a wait that need not wait: shared memory, there and back [L] */
  COST_CLUSTER = 180,  /* a cluster's barrier, a peer's shared memory or mbarrier [L] */
  COST_REGISTERS = 20, /* setmaxnreg; a guess */
  COST_STMATRIX = 32,  /* four matrices, each 128 bytes and a cycle of shared memory, and its latency */

  COST_COPY_ISSUE = 20,    /* a thread asks the copy engine; a guess */
  COST_COPY_LATENCY = 600, /* from then until the first byte has landed: global memory's, and the engine's own; a guess */
  COST_COPY_BYTES = 24,    /* a cycle, from or to the L2: about 5.5 TB/s, shared by 132 multiprocessors at 1.75 GHz; a guess */
  COST_PEER_BYTES = 14,    /* a cycle, from or to a peer's shared memory: 3.3 TB/s by all [L] */

  COST_WGMMA_ISSUE = 4,    /* wgmma, wgmma_commit, wgmma_wait, for a thread */
  COST_WGMMA_LATENCY = 32, /* from the last multiplication to the accumulators; a guess */
  COST_WGMMA_MACS = 4096   /* a cycle, 8 bits: 1979 TFLOP/s / 2 / 132 / 1.83 GHz. m64nNk32 takes N / 2 cycles */
};

#endif
