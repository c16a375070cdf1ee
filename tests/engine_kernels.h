/* For tests of the emulator's engines: kernels written in C, which do what kernels do by calling it, and launches of them. */
#ifndef ENGINE_KERNELS_H
#define ENGINE_KERNELS_H

#include "calls.h"
#include "cuda_stub.h"
#include "emulator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { SEEDS = 21 }; /* seed 0 and 20 others */

/* A kernel whose argument stays where it is put: AddressSanitizer would have it copied. */
#define KERNEL __attribute__((no_sanitize("address"))) static void

/* Launches `entry`, a void (struct ...) whose struct is `bytes` large, by blocks that are one cluster. */
static inline bool launch(void (*entry)(void), const void *argument, size_t bytes, unsigned blocks, unsigned threads,
                          unsigned shared_bytes, uint64_t seed, char message[EMU_MESSAGE_BYTES]) {
  return emu_run(&(struct emu_launch){.kernel = "tried",
                                      .entry = entry,
                                      .arguments = argument,
                                      .argument_bytes = bytes,
                                      .grid = {blocks, 1, 1},
                                      .block_size = {threads, 1, 1},
                                      .cluster_size = blocks,
                                      .shared_bytes = shared_bytes,
                                      .registers = 64,
                                      .seed = seed,
                                      .host_threads = 1},
                 message);
}

/* Sentences stand between bars: which defect is met first is a matter of order. */
static inline bool says_one_of(const char *message, const char *sentences) {
  char sentence[256];
  for (const char *begin = sentences; *begin; begin += strcspn(begin, "|"), begin += *begin == '|') {
    snprintf(sentence, sizeof sentence, "%.*s", (int)strcspn(begin, "|"), begin);
    if (strstr(message, sentence)) return true;
  }
  return false;
}

/* What each thread of a kernel can see of itself. */
static inline unsigned thread_index(void) { return emu_call_view()->thread.x; }
static inline unsigned char *shared(unsigned offset) { return emu_call_view()->shared + offset; }

/* Ordinary accesses, which a compiled kernel's instrumentation would tell of. */
static inline void write_bytes(void *to, const void *from, unsigned bytes) {
  emu_call_access(to, bytes, true);
  memcpy(to, from, bytes);
}
static inline unsigned char read_byte(const unsigned char *from) {
  emu_call_access(from, 1, false);
  return *from;
}

/* By all threads of the block: mbarriers at `offset`, each for one arrival, which all may then use. */
static inline void make_barriers(unsigned offset, unsigned count) {
  if (thread_index() == 0) {
    for (unsigned i = 0; i < count; i++) emu_call_mbarrier_init(shared(offset + 8 * i), 1);
    emu_call_fence_mbarrier_init();
  }
  emu_call_sync_threads();
}

/* All blocks of the cluster meet. */
static inline void meet_cluster(void) {
  emu_call_cluster_arrive();
  emu_call_cluster_wait();
}

#endif
