/* A place in a ring of STAGES, and the parity of the phase that its barriers are in: 0 the first time round, then 1, then 0 again. */
#pragma once

struct place {
  int stage;
  unsigned parity;
};

/* Where a producer begins, who waits until stages are empty: they are, as if a phase had ended. */
__device__ inline struct place first_empty() { return {0, 1}; }

__device__ inline void advance(struct place *at) {
  bool is_last = at->stage == STAGES - 1;
  at->stage = is_last ? 0 : at->stage + 1;
  at->parity ^= is_last;
}
