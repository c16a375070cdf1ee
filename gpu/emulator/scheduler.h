/* A cluster while it runs: what scheduler.c, launch.c, calls.c and faults.c share. */
#ifndef FG_SCHEDULER_H
#define FG_SCHEDULER_H

#include "emulator.h"

#include <setjmp.h>
#include <stdatomic.h>
#include <ucontext.h>

enum {
  FIBRE_STACK_BYTES = 1 << 17, /* what a thread's calls and variables may take ... */
  FIBRE_SPARE_BYTES =
      1 << 17, /* ... and what lies below, for one that takes more to be told so; then a page that cannot be touched */
  FIBRE_BYTES = FIBRE_STACK_BYTES + FIBRE_SPARE_BYTES,
  SHARED_MOST_BYTES = 232448,    /* of a block: 227 KiB */
  SHARED_WINDOW_BYTES = 1 << 20, /* from one block's to the next one's, so that what lies beside it is nobody's */
  LINES_KEPT = 64,
  LINE_BYTES = 256,
  EMU_MOST_HOST_THREADS = 64
};

/* A thread's own stack and registers, and what it owes to the clock. */
struct emu_fibre {
  ucontext_t context;
  unsigned char *stack;          /* [FIBRE_BYTES], FIBRE_SPARE_BYTES of them spare */
  const unsigned char *argument; /* the kernel's, as this thread has it: on the stack */
  emu_time owed;                 /* for accesses to memory since it last paid */
  uint64_t paid_steps, paid_fused;
  uint64_t next_look;  /* when it has taken so many steps it pays, and looks whether it may go on */
  uint64_t seen_steps; /* when it last looked */
  unsigned slowness;   /* with a seed: it takes 2^slowness times as long as others */
};

/* What happens next: a fibre goes on, or something asynchronous happens. */
struct emu_entry {
  emu_time at;
  uint64_t order;            /* of those at the same time */
  struct emu_thread *thread; /* NULL: happen(thing) */
  void (*happen)(void *thing);
  void *thing;
};

/* An emu_run(). */
struct emu_arguments {
  _Alignas(64) unsigned char bytes[EMU_MOST_ARGUMENT_BYTES];
};
struct emu_run_state {
  const struct emu_launch *launch;
  struct emu_arguments arguments;
  unsigned threads; /* of a block */
  uint64_t clusters, most_steps;
  atomic_uint_fast64_t next;  /* cluster to be run */
  atomic_uint idle;           /* threads of the host that found no memory to work with */
  atomic_uint_fast64_t fault; /* the first cluster with a fault; those behind it need not run */
  char *message;              /* of that one; the mutex is launch.c's */
};

/* A thread of the host, and the cluster that it runs. */
struct emu_scheduler {
  struct emu_run_state *run;
  struct emu_cluster cluster;
  struct emu_thread *self; /* NULL: outside of every fibre */
  ucontext_t outside;      /* where fibres return to */
  jmp_buf end;             /* where a fault outside of fibres goes */
  bool is_over;
  uint64_t steps;            /* of the cluster's threads, as they last looked */
  struct emu_entry *entries; /* [room], of which count are a heap, the next one first */
  size_t count, room;
  uint64_t order;
  struct emu_fibre *fibres; /* [threads of a cluster] */
  unsigned char *stacks;    /* theirs */
  unsigned char *shared;    /* [blocks + 2][SHARED_WINDOW_BYTES], the first and the last nobody's */
  size_t stacks_bytes, shared_bytes;

  char fault[EMU_MESSAGE_BYTES]; /* what emu_fault() was told; "" if the cluster is over without */
  const struct emu_thread *fault_thread;
  const void *fault_where;
  struct emu_kept_line {
    const void *where;
    char text[LINE_BYTES];
  } lines[LINES_KEPT]; /* addr2line's answers */
};

extern _Thread_local struct emu_scheduler *emu_scheduler; /* this host's thread's; NULL: it runs no cluster */

/* signals.c: from here on what the processor refuses to a fibre of this host's thread is a fault, until emu_signals_end() of what this
 * returns. NULL: no memory, and it ends the process. */
void *emu_signals_begin(void);
void emu_signals_end(void *begun);

/* scheduler.c: prepares the thread's fibre, and puts it where it can run. */
void emu_start(struct emu_thread *thread);
/* Until all have ended, or somebody found a fault. */
void emu_run_cluster(struct emu_scheduler *scheduler);
/* What the thread owes: its steps, multiplications and accesses since it was last asked. */
emu_time emu_owed(struct emu_thread *self);
/* Every so many steps: whether it has taken too many, or too much of its stack. */
void emu_look(struct emu_thread *self, const void *where);

/* faults.c: the whole sentence. */
void emu_sentence(struct emu_scheduler *scheduler, char message[EMU_MESSAGE_BYTES]);

#endif
