/* Two warpgroups take turns, by two named barriers: whose turn it is adds to what both share. */
#include "warp.cuh"

enum { GROUP = 128, FIRST = 1 }; /* barriers FIRST and FIRST + 1, of warpgroups 0 and 1 */

struct arguments {
  unsigned *out; /* [GROUP + 2 * turns]: each thread's number, then whose turn it was */
  int turns;     /* of each */
};

struct shared {
  unsigned number[GROUP], turns, group[64];
};

extern "C" __global__ void __launch_bounds__(2 * GROUP) turns(const __grid_constant__ struct arguments args) {
  FG_SHARED(struct shared, shared);
  int group = threadIdx.x / GROUP, i = threadIdx.x % GROUP;
  if (group == 1) {
    shared.number[i] = i;
    if (i == 0) shared.turns = 0;
    named_barrier_arrive(FIRST, 2 * GROUP); /* the other begins */
  }
  for (int turn = 0; turn < args.turns; turn++) {
    named_barrier_sync(FIRST + group, 2 * GROUP);
    shared.number[i] = shared.number[i] * 3 + group + 1;
    if (i == 0) shared.group[shared.turns++] = group;
    if (group == 0 || turn + 1 < args.turns) named_barrier_arrive(FIRST + 1 - group, 2 * GROUP);
  }
  __syncthreads();
  if (group == 0) args.out[i] = shared.number[i];
  if (threadIdx.x < 2 * args.turns) args.out[GROUP + threadIdx.x] = shared.group[threadIdx.x];
}
