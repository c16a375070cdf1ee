/* How long things take, in cycles of an H100's multiprocessor: a simple model, so that a timeline has about the chip's shape and that
 * launches with seed 0 have an order. "Measured" is on an NVIDIA H100 80GB HBM3 at 1.98 GHz, by tests/hardware/time_vocabulary.c (target
 * time_vocabulary); what a word takes there is put together here of the parts below, and docs/emulator.md compares the sums.
 * [L] is published (Luo et al., "Benchmarking and Dissecting the NVIDIA Hopper GPU Architecture", 2024); what is a guess says so.
 *
 * A thread is charged as if it had the multiprocessor's issue slots for itself: not modelled are caches, bank conflicts, warps that
 * compete for units, several blocks on one multiprocessor, and the clock's throttling. */
#ifndef FG_COSTS_H
#define FG_COSTS_H

enum {
  COST_CLOCK_MHZ = 1980, /* the clock, measured of one block; with all multiprocessors multiplying it was seen to fall to 1540 */
  COST_STEP = 4,     /* a stretch of code without a branch, unless it has a multiplication below: a few instructions; a guess */
  COST_FMA = 2,      /* a fused multiplication and addition: measured 1.2, 2.1 and 3.2 for a thread of 128, 256 and 384 at once */
  COST_SHARED = 8,   /* a load or store of shared memory: measured 29 alone; that four are under way at once is a guess */
  COST_GLOBAL = 74,  /* the same of global memory: measured 295 alone, from the L2 */
  COST_ATOMIC = 265, /* on global memory, there and back: measured 275 with its loop */
  COST_FENCE = 29,   /* fence_proxy_async: measured 33 with its loop; threadfence, fence_mbarrier_init, wgmma_fence: guesses */

  COST_WARP = 25,      /* shuffle, measured 30 with an addition; ballot, elect_one, __syncwarp: guesses */
  COST_BLOCK = 40,     /* __syncthreads, a named barrier, after the last has come: measured 47 of 384 threads, 51 of 256 */
  COST_MBARRIER = 52,  /* a wait that need not wait: measured 64 with the arrival before it */
  COST_WAKE = 90,      /* from the end of a phase until who waits goes on: measured 100 with the arrival */
  COST_PEER = 190,     /* a peer's shared memory, there and back: measured 198; an arrival at its mbarrier half of that */
  COST_CLUSTER = 785,  /* a cluster's barrier, after the last has come: measured 797 of two blocks of 128 threads */
  COST_REGISTERS = 20, /* setmaxnreg; a guess */
  COST_STMATRIX = 16,  /* four matrices of a warp, where four warps store: measured, 128 bytes and a cycle of shared memory */

  COST_COPY_ISSUE = 20,     /* a thread asks the copy engine; a guess */
  COST_COPY_LATENCY = 170,  /* from then until bytes from the L2 begin to land: measured 301 for 1 KB, with asking and the wait */
  COST_COPY_BYTES = 88,     /* a cycle, from or to the L2: measured, 16 KB in 187 cycles, with one multiprocessor alone */
  COST_STORE_LATENCY = 360, /* of a store, until shared memory has been read: measured 569 for 16 KB, with asking and the wait */
  COST_STORE_WRITTEN = 11,  /* from then until the bytes are in global memory: measured 580 in place of 569 */
  COST_COPY_FOUR = 324, /* copy_four_bytes, until they are there: 295 and 29, of a load of global memory and a store; a guess */
  COST_PEER_BYTES = 14, /* a cycle, from or to a peer's shared memory: 3.3 TB/s by all [L] */

  COST_WGMMA_ISSUE = 4, /* wgmma, wgmma_commit, wgmma_wait, for a thread; a guess */
  COST_WGMMA_LATENCY =
      100,               /* from the last multiplication to the accumulators: measured 401 for four of 64, with fence and wait */
  COST_WGMMA_MACS = 4096 /* a cycle, 8 bits: measured, m64nNk32 takes N / 2 cycles in a chain, of all warpgroups together */
};

#endif
