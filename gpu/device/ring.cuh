/* A place in a ring of STAGES, and the parity to wait for there: a consumer's is 0 the first time round, then 1, then 0 again; a producer's,
 * who waits for the phase before, the other. */
#pragma once

struct place {
  int stage;
  unsigned parity;
};

/* Where a producer begins: stages are empty, as if a phase had ended. */
__device__ inline struct place first_empty() { return {0, 1}; }

__device__ inline void advance(struct place *at) {
  bool is_last = at->stage == STAGES - 1;
  at->stage = is_last ? 0 : at->stage + 1;
  at->parity ^= is_last;
}
