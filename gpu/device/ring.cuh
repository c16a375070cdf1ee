/* A place in a ring of STAGES, and the parity of the phase that its barriers are in: 0 the first time round, then 1, then 0 again. */
#pragma once

struct place {
  int stage;
  unsigned parity;
};

__device__ inline void advance(struct place *at) {
  if (++at->stage < STAGES) return;
  at->stage = 0;
  at->parity ^= 1;
}
