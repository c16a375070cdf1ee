/* Where threads meet: what gates.c, block_barriers.c, cluster_barrier.c and registers.c share. */
#ifndef FG_GATES_H
#define FG_GATES_H

#include "emulator.h"

enum { EMU_WARPGROUP = 128 };

/* How a thread comes to meet others of its warp or warpgroup. */
struct emu_coming {
  bool is_here;      /* it has come, and the meeting is not over */
  bool is_aligned;   /* all must come to the same line */
  unsigned threads;  /* of a warp, or of a warpgroup */
  unsigned mask;     /* whom it is to meet: bit i is thread i of the warp */
  unsigned argument; /* of the call, in which all must agree */
  unsigned value;    /* that it brings; then the one that it leaves with */
  unsigned source;   /* of a shuffle: the thread that brings that */
};

/* A barrier of the block's: number 0 is __syncthreads()'s. */
struct emu_barrier {
  unsigned expected;              /* threads, in whole warps; 0: nobody has come since it last opened */
  unsigned arrived;               /* likewise */
  unsigned warps;                 /* that have: bit i is warp i of the block */
  emu_time latest;                /* of the arrivals */
  struct emu_knowledge knowledge; /* theirs */
};

/* The last use of this block's shared memory by a thread of another one. */
struct emu_reached {
  const struct emu_thread *by; /* NULL: none */
  const void *where;
  uint32_t epoch;
};

struct emu_gates {
  unsigned threads_left;
  struct emu_coming *comings; /* [thread_count] */
  struct emu_barrier barriers[EMU_NAMED];
  struct emu_knowledge warp;   /* of those who meet in a warp, at the moment */
  struct emu_reached *reached; /* [actors.threads], or NULL */

  /* cluster_barrier.c */
  bool *has_arrived;         /* [thread_count]: at the cluster's barrier, and not yet waited */
  unsigned *arrived_in_turn; /* [thread_count]: the turn that it then was */
  const void **stored_at;    /* [thread_count]: its last store_remote since it last arrived; NULL: none */

  /* registers.c */
  long long registers_free;  /* given back, and not taken */
  unsigned *registers_taken; /* [warpgroups]: for how many a thread it waits; 0: it does not */
  uint32_t *registers_epoch; /* [thread_count]: in which its number last changed */
};

/* gates.c: the calling thread comes to meet those of its warp in `mask`, or of its warpgroup. True: it is the last of them. */
#define EMU_ALL 0xFFFFFFFFu
/* The thread does nothing until then. */
void emu_pass_time(struct emu_thread *self, emu_time until);
bool emu_come(struct emu_thread *self, unsigned threads, unsigned mask, unsigned argument, bool is_aligned);
/* By the last: those who came have met. They still wait. */
void emu_part(struct emu_thread *self, unsigned threads);
/* All threads of the warp go on together. */
void emu_align_warp(struct emu_thread *self);

/* A thread has left the kernel. */
void emu_block_left(struct emu_thread *thread);   /* block_barriers.c */
void emu_cluster_left(struct emu_thread *thread); /* cluster_barrier.c */

/* For reports. */
void emu_block_describe(const struct emu_thread *waiting, char *text, size_t bytes);
void emu_cluster_describe(const struct emu_thread *waiting, char *text, size_t bytes);
void emu_registers_describe(const struct emu_thread *waiting, char *text, size_t bytes);

#endif
