/* What the emulator's parts share. A launch is run by clusters, each by one thread of the host from its begin to its end; a cluster's
 * threads are fibres, and what happens asynchronously is events in the cluster's time. So nothing below is shared between threads of
 * the host but the launch, which none writes but by emu_fault().
 *
 *   launch.c        a launch: its clusters, which threads of the host run side by side
 *   scheduler.c     fibres, time, events
 *   signals.c       what the processor refuses a fibre
 *   calls.c         what kernels call: the table, and memory
 *   clocks.c        who can know of what: vector clocks
 *   shadow.c        what is known of every byte of shared memory
 *   gates.c         where threads meet: warps, blocks, named barriers, clusters
 *   mbarriers.c     mbarrier
 *   copy_engine.c   loads and sends; copy_groups.c: stores; tensor_box.c: what a tensor map says (emulated_map.h)
 *   thread_copies.c copies that threads ask for themselves
 *   warpgroup.c     wgmma, its groups and registers; descriptors.c, products.c: its operands and arithmetic; stmatrix.c
 *   faults.c        what a fault's sentence says: lines, threads, who waits for what
 *   timeline.c      the trace
 *   costs.h         how long things take */
#ifndef FG_EMULATOR_H
#define FG_EMULATOR_H

#include "kernel_side.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  EMU_WARP = 32,
  EMU_MOST_THREADS = 1024, /* of a block */
  EMU_MOST_BLOCKS = 8,     /* of a cluster */
  EMU_NAMED = 16,
  EMU_MOST_MBARRIERS = 128, /* of a block */
  EMU_MOST_STORES = 128,    /* of a block: threads that ask the copy engine to store */
  EMU_MOST_ARGUMENT_BYTES = 4096,
  EMU_MESSAGE_BYTES = 2048
};

typedef uint64_t emu_time; /* in cycles */

/* --- A launch */

struct emu_image; /* a kernel's code, loaded: load_image.c */

struct emu_launch {
  const struct emu_image *image;
  const char *kernel;    /* its name */
  void (*entry)(void);   /* its function: takes one struct of 4096 bytes, aligned to 64, by value */
  const void *arguments; /* of argument_bytes */
  size_t argument_bytes;
  struct emu_index grid, block_size;
  unsigned cluster_size, shared_bytes, registers; /* registers: of a thread at the start, as __launch_bounds__ and 64 Ki allow */
  uint64_t seed;       /* 0: everything takes as long as costs.h says; else the order and durations are drawn from it */
  uint64_t most_steps; /* of a thread; then it is taken to never end; 0: 4 Mi. A cluster's have 128 times as many together */
  int host_threads;    /* that run clusters side by side */
  struct emu_timeline *timeline; /* NULL: none is drawn */
};

/* Runs it. true; false: a fault, and `message` says which, in one sentence that begins with the line: "lessons/08_pipeline.cu(57): ..."
 * Any number of threads may run launches. */
bool emu_run(const struct emu_launch *launch, char message[EMU_MESSAGE_BYTES]);

/* --- What a cluster consists of */

/* Who does things, for the vector clocks: threads, and whatever acts asynchronously. Numbers within a cluster: first all threads of
 * all blocks, then, for each block, its mbarriers, its warpgroups (their tensor core) and the threads of it that store. */
struct emu_actors {
  unsigned threads;                       /* of the cluster */
  unsigned mbarriers, warpgroups, stores; /* of a block */
  unsigned total;
};

/* What an actor can know: at[i] of actor i. All is 0 at first. Whatever an actor does belongs to an epoch of it, from 1 up, and is
 * known to whoever has at[i] >= that epoch. A thread's epochs end with its releases and fences: the present one is its own at[] + 1.
 * An mbarrier's are its phases; a warpgroup's, and a storing thread's, are its groups. */
struct emu_clock {
  uint32_t *at; /* [actors.total] */
};

enum emu_waiting {
  EMU_RUNS,
  EMU_AT_WARP,
  EMU_AT_BLOCK,
  EMU_AT_NAMED,
  EMU_AT_CLUSTER,
  EMU_AT_MBARRIER,
  EMU_AT_WGMMA,
  EMU_AT_STORES,
  EMU_AT_REGISTERS,
  EMU_ENDED
};

struct emu_thread {
  struct emu_view view; /* first: what the kernel sees */
  struct emu_block *block;
  unsigned index; /* in the block; warp = index / EMU_WARP */
  unsigned actor; /* in the cluster */
  emu_time now;
  struct emu_clock clock;  /* what it can know */
  struct emu_clock fenced; /* what it can know to be there for the async proxy too */
  enum emu_waiting waiting;
  const void *where;     /* in the kernel: where it called what it waits in, or last called */
  const char *what;      /* the name of that: "mbarrier_wait" */
  const void *waits_for; /* struct emu_mbarrier, ... : as waiting says */
  unsigned waits_parity;
  uint64_t steps;
  unsigned registers;
  struct emu_fibre *fibre;           /* scheduler.c */
  struct emu_stores *stores;         /* copy_engine.c */
  struct emu_batch *batch;           /* thread_copies.c */
  struct emu_multiplier *multiplier; /* warpgroup.c: of its warpgroup */
};

struct emu_block {
  struct emu_cluster *cluster;
  unsigned rank;          /* in the cluster */
  struct emu_index index; /* in the grid */
  unsigned char *shared;  /* aligned to 1024 */
  unsigned shared_bytes;
  struct emu_thread *threads; /* [thread_count] */
  unsigned thread_count, threads_ended;
  struct emu_shadow *shadow;       /* shadow.c */
  struct emu_gates *gates;         /* gates.c */
  struct emu_mbarriers *mbarriers; /* mbarriers.c */
  struct emu_engine *engine;       /* copy_engine.c: what is under way to or from this block's shared memory */
};

struct emu_cluster {
  const struct emu_launch *launch;
  unsigned index; /* in the grid */
  struct emu_block *blocks[EMU_MOST_BLOCKS];
  unsigned block_count;
  struct emu_actors actors;
  emu_time now;                    /* of what happens at the moment */
  uint64_t random;                 /* the state that is drawn from */
  struct emu_gate *gate;           /* gates.c: of the cluster */
  struct emu_scheduler *scheduler; /* scheduler.c */
};

/* --- scheduler.c */

struct emu_thread *emu_self(void); /* the fibre that runs on this thread of the host */

/* Whether the bytes are of the kernel's argument itself, and not of a copy that the kernel has made. */
bool emu_is_argument(const struct emu_thread *thread, const void *address, size_t bytes);

/* The calling fibre waits: its waiting, waits_for, where and what are set by the caller. Returns when another has called emu_wake(),
 * which sets waiting to EMU_RUNS; the timeline then has it. */
void emu_wait(struct emu_thread *self);
/* It runs again, from `at` on (or its own time, if that is later). */
void emu_wake(struct emu_thread *thread, emu_time at);

/* It took the thread so many cycles. Where another is earlier, that one runs first; with a seed, perhaps any other does. Every
 * function of emu_calls begins with emu_begin(), which sets where and what, and calls this. */
void emu_spend(struct emu_thread *self, emu_time cycles);
struct emu_thread *emu_begin(const char *what, const void *where, emu_time cycles);

/* happen(thing) will be called when the cluster's time is `at`, outside of every fibre. If the launch ends by a fault before, it is not;
 * whatever `thing` holds is then freed by its owner, with the engine or gate it belongs to. */
void emu_later(struct emu_cluster *cluster, emu_time at, void (*happen)(void *thing), void *thing);

/* How long something asynchronous takes that should take so long: with a seed, anything from nothing to "when nothing else can
 * happen". */
emu_time emu_draw_duration(struct emu_cluster *cluster, emu_time model);
uint64_t emu_draw(struct emu_cluster *cluster, uint64_t below);

/* The kernel is wrong: the launch ends here. In a fibre or in an event. `where` NULL: as thread->where; thread NULL: in an event. The
 * sentence begins with the line and names kernel, block, warp and thread, then goes on as `format` says. */
_Noreturn void emu_fault(const struct emu_thread *thread, const void *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void *emu_allocate(size_t count, size_t bytes); /* zeros; no memory: the process has none, which ends the launch by a fault */

/* --- faults.c */

/* "lessons/07_tma.cu(57)", the innermost place in a kernel's own file that the address stems from; "?" if that cannot be found. */
void emu_line(const struct emu_image *image, const void *where, char *text, size_t bytes);
/* The same, of the kernel that the block runs. */
struct emu_place {
  char text[512];
};
struct emu_place emu_line_of(const struct emu_block *block, const void *where);
/* Two calls at different addresses may be the same line of the kernel, unrolled. */
bool emu_same_line(const struct emu_image *image, const void *where, const void *other);
/* Who waits for what, when nobody can go on; ends with emu_fault(). */
_Noreturn void emu_deadlock(struct emu_cluster *cluster);
/* --- clocks.c */

void emu_count_actors(struct emu_cluster *cluster); /* sets cluster->actors, from its launch and block_count */
unsigned emu_actor_of_mbarrier(const struct emu_block *block, unsigned slot); /* < EMU_MOST_MBARRIERS */
unsigned emu_actor_of_warpgroup(const struct emu_block *block, unsigned warpgroup);
unsigned emu_actor_of_stores(const struct emu_block *block, unsigned slot); /* < EMU_MOST_STORES */

struct emu_clock emu_clock_make(const struct emu_cluster *cluster);
void emu_clock_free(struct emu_clock *clock);
void emu_join(const struct emu_cluster *cluster, struct emu_clock *into, struct emu_clock from); /* the larger of each */
/* What the thread knows goes to the clocks of a gate, a barrier ...; then its epoch ends, so that what it does later is not taken for
 * known. A thing has two clocks, as a thread has. Where many meet, all release into one knowledge, then all acquire from that. */
struct emu_knowledge {
  struct emu_clock clock, fenced;
};
struct emu_knowledge emu_knowledge_make(const struct emu_cluster *cluster);
void emu_knowledge_free(struct emu_knowledge *knowledge);
void emu_knowledge_clear(const struct emu_cluster *cluster, struct emu_knowledge *knowledge);
void emu_release(struct emu_thread *thread, struct emu_knowledge *into);
void emu_acquire(struct emu_thread *thread, const struct emu_knowledge *from);
/* The thread has waited for something asynchronous: it knows of the actor's epochs up to this one. */
void emu_learn(struct emu_thread *thread, unsigned actor, uint32_t epoch);
/* Whether it knows of what the actor did in that epoch; of itself it does. */
static inline bool emu_knows(const struct emu_thread *thread, unsigned actor, uint32_t epoch) {
  return thread->actor == actor || thread->clock.at[actor] >= epoch;
}
/* Whether one of the block's threads knows of it; asked of an actor that is none of them. */
bool emu_somebody_knows(const struct emu_block *block, unsigned actor, uint32_t epoch);
/* fence.proxy.async: what the thread itself has stored is from now on there for the async proxy. */
void emu_fence_async(struct emu_thread *thread);

/* --- shadow.c: what is known of each byte of a block's shared memory. Offsets are from its begin; a range outside is a fault. */

/* block->shared is there; it becomes NaN, in whatever type it is read. */
struct emu_shadow *emu_shadow_make(struct emu_block *block);
void emu_shadow_free(struct emu_shadow *shadow);

/* An ordinary access by a thread, of the block or (remote) of another one of the cluster; by->where is its line. Faults: out of
 * bounds; uninitialised; bytes under way by the copy engine, or landed but not known to the thread to have; a write that another
 * thread's is not ordered with, or to what another's read is not ordered with; overwriting what a wgmma or a store may still read;
 * an mbarrier's own bytes. */
void emu_shadow_access(struct emu_block *block, unsigned offset, unsigned bytes, bool is_write, struct emu_thread *by);

/* A read by the async proxy (wgmma, tma_store, bulk_store, bulk_send), asked for by `by`: until somebody knows of `actor`'s `epoch`,
 * he may not write the bytes. Faults: out of bounds, uninitialised, under way, not known to have landed, written by ordinary stores
 * that are not fenced and ordered. */
void emu_shadow_async_read(struct emu_block *block, unsigned offset, unsigned bytes, unsigned actor, uint32_t epoch,
                           struct emu_thread *by);
/* The same, asked for by so many threads, from `first` on, together: all of them must know. For wgmma; pieces of 16 bytes are fine. */
void emu_shadow_async_read_by(struct emu_block *block, unsigned offset, unsigned bytes, unsigned actor, uint32_t epoch,
                              struct emu_thread *first, unsigned threads);

/* A write by the copy engine, asked for by `by`: from now on under way, then landed (a second call, by an event), and from then on
 * known to whoever knows of `actor`'s `epoch`. Faults as for a write, and: a write over one that is still under way, or over ordinary
 * stores that are not fenced. */
void emu_shadow_async_write(struct emu_block *block, unsigned offset, unsigned bytes, unsigned actor, uint32_t epoch,
                            struct emu_thread *by);
void emu_shadow_landed(struct emu_block *block, unsigned offset, unsigned bytes);

/* A copy that the thread asks for itself, into shared memory by ordinary means: from now on under way, then there, and from then on known
 * to whoever knows of `actor`'s `epoch`. Faults as for a write. */
void emu_shadow_copy(struct emu_block *block, unsigned offset, unsigned bytes, struct emu_thread *by);
void emu_shadow_copied(struct emu_block *block, unsigned offset, unsigned bytes, unsigned actor, uint32_t epoch);

/* Bytes become an mbarrier's, which ordinary accesses may not touch: by emu_self(). Faults as for a write by it. */
void emu_shadow_reserve(struct emu_block *block, unsigned offset, unsigned bytes);

/* Where a pointer of the kernel points: the offset in the block's shared memory; a fault if it does not point there. `name` is the
 * argument's. */
unsigned emu_shared_offset(struct emu_thread *thread, const char *name, const void *pointer, unsigned bytes, unsigned alignment);

/* --- gates.c */
struct emu_gates *emu_gates_make(struct emu_block *block);
void emu_gates_free(struct emu_gates *gates);
struct emu_gate *emu_gate_make(struct emu_cluster *cluster);
void emu_gate_free(struct emu_gate *gate);
/* The calling thread waits, and says for what. emu_wake() ends it. */
void emu_wait_for(struct emu_thread *self, enum emu_waiting waiting, const void *waits_for);
/* All threads of the warp (or of the warpgroup: 128) come to the same call; the last to come returns true, before the others go on,
 * which wait. A fault: one has ended, or is at another call, or is at another line of the kernel. */
bool emu_meet(struct emu_thread *self, unsigned threads);
void emu_meeting_over(struct emu_thread *self, unsigned threads); /* by the last: the others go on */
/* A thread has left the kernel (its waiting is EMU_ENDED): whoever can never be met is told. */
void emu_gates_left(struct emu_thread *thread);
/* `by` uses the shared memory of a block, perhaps another one: a fault if that has left, or when it leaves without a thread there that
 * knows, as by a barrier, of what `by` has done until its next release; and of a store, if the block may not have begun. */
void emu_reach(struct emu_block *block, struct emu_thread *by, bool is_store);
/* For reports, of a thread at a warp's, block's, named or cluster's barrier or at registers: "named barrier 3, where 64 of 128 threads
 * have come". */
void emu_gates_describe(const struct emu_thread *waiting, char *text, size_t bytes);

/* --- mbarriers.c */
struct emu_mbarriers *emu_mbarriers_make(struct emu_block *block);
void emu_mbarriers_free(struct emu_mbarriers *mbarriers);
/* The barrier that a thread of `user` names, for the copy engine: its slot; faults where it was not initialised, or its initialisation
 * is not known to the thread, or not fenced for the async proxy or the cluster. */
unsigned emu_mbarrier_slot(struct emu_block *block, unsigned offset, struct emu_thread *by, bool is_async);
/* The epoch at which what completes in the barrier's present phase will be known; and that so many bytes of it have landed, which may
 * end the phase. */
uint32_t emu_mbarrier_epoch(struct emu_block *block, unsigned slot);
void emu_mbarrier_bytes(struct emu_block *block, unsigned slot, unsigned bytes);
/* An arrival for the block's thread `by`, which goes on meanwhile and asked for it at `where`: of what it did it tells nothing. */
void emu_mbarrier_arrival(struct emu_block *block, unsigned slot, const struct emu_thread *by, const void *where);
/* At the block's end: a fault if bytes of one were announced and have not landed, or the other way round. */
void emu_mbarriers_end(struct emu_block *block);
/* For reports: "the mbarrier at byte 512, initialised at lessons/07_tma.cu(31), in phase 3, which 1 arrival and 2048 bytes still miss" */
void emu_mbarrier_describe(const struct emu_thread *waiting, char *text, size_t bytes);

/* --- copy_engine.c, warpgroup.c */
struct emu_engine *emu_engine_make(struct emu_block *block);
void emu_engine_free(struct emu_engine *engine);
void emu_engine_end(struct emu_block *block); /* at the block's end: a fault if something is still under way to or from it */
void emu_multipliers_make(struct emu_block *block); /* for its threads */
void emu_multipliers_free(struct emu_block *block);
/* An ordinary access to a thread's own memory: a fault if it is an accumulator that a wgmma still writes. */
void emu_check_accumulators(struct emu_thread *thread, const void *address, unsigned bytes, bool is_write);
void emu_multipliers_end(struct emu_thread *thread); /* a thread ends: a fault if a group is still under way */

/* --- global_memory.c: whether a launch may touch global memory there, for every access that is to no shared memory, stack or image;
 * false: `why` says how far it is from which allocation. */
bool emu_may_touch(const void *address, size_t bytes, char *why, size_t why_bytes);
void emu_memory_changed(void); /* the driver has given some, or taken it back */

/* --- timeline.c: what is drawn, of the first so many blocks; 0: of those of the first cluster. Where
 * launch->timeline is NULL these do nothing. Words (what, detail) are literals; they are kept as they are. */
struct emu_timeline;
/* NULL: it cannot be written. */
struct emu_timeline *emu_timeline_open(const char *path, const struct emu_launch *launch, unsigned blocks);
bool emu_timeline_close(
    struct emu_timeline *timeline); /* writes it, also after a fault; launch must still be there. NULL: true */
/* From `from` to `until` the thread was in `what` ("mbarrier_wait"). Of others than thread 0 of each warp nothing is kept. */
void emu_timeline_thread(const struct emu_thread *thread, const char *what, emu_time from, emu_time until);
/* What is no thread: `track` names it ("tensor core", "copy engine", "mbarrier at byte 512", which is copied); what it did ("wgmma",
 * "tma_load", "phase"), and a number that says more ("bytes", "n", "number"). Those of one track may overlap. */
void emu_timeline_engine(const struct emu_block *block, const char *track, const char *what, emu_time from, emu_time until,
                         const char *detail, uint64_t number);
void emu_timeline_ended(const struct emu_thread *thread); /* every thread that leaves the kernel: at thread->now */

#endif
