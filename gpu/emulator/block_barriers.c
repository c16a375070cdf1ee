/* A block's sixteen barriers: __syncthreads() and the named ones. Warps come to them, whole, at one line; the barrier opens when as many
 * threads have come as it is for, and is then as new. PTX ISA, bar. */
#include "calls.h"
#include "costs.h"
#include "gates.h"

#include <stdio.h>

/* __syncthreads() is for all warps that have not left the kernel. */
static unsigned threads_of_those_left(const struct emu_block *block) {
  unsigned threads = 0;
  for (unsigned first = 0; first < block->thread_count; first += EMU_WARP)
    for (unsigned i = first; i < first + EMU_WARP && i < block->thread_count; i++)
      if (block->threads[i].waiting != EMU_ENDED) {
        threads += EMU_WARP;
        break;
      }
  return threads;
}

static bool has_come(const struct emu_barrier *barrier, const struct emu_thread *thread) {
  return barrier->warps >> thread->index / EMU_WARP & 1;
}

/* All go on, knowing what the others did before. `self`, if one of them opens it, still runs. */
static void open_barrier(struct emu_block *block, struct emu_barrier *barrier, struct emu_thread *self, bool self_waits) {
  emu_time at = barrier->latest + COST_BLOCK;
  for (unsigned i = 0; i < block->thread_count; i++) {
    struct emu_thread *thread = &block->threads[i];
    bool waits = thread->waiting == EMU_AT_BLOCK || thread->waiting == EMU_AT_NAMED;
    if (!waits || thread->waits_for != barrier || !has_come(barrier, thread)) continue;
    emu_acquire(thread, &barrier->knowledge);
    emu_wake(thread, at);
  }
  if (self_waits) emu_acquire(self, &barrier->knowledge);
  emu_knowledge_clear(block->cluster, &barrier->knowledge);
  barrier->expected = barrier->arrived = barrier->warps = 0;
  barrier->latest = 0;
  if (self_waits) emu_pass_time(self, at);
}

/* The last of a warp to come brings it all. */
static void arrive(struct emu_thread *self, struct emu_barrier *barrier, unsigned id, unsigned threads, bool waits) {
  struct emu_block *block = self->block;
  if (id && barrier->warps && barrier->expected != threads)
    emu_fault(self, NULL, "%s is for %u threads at barrier %u, where warps wait that came for %u", self->what, threads, id,
              barrier->expected);
  if (has_come(barrier, self))
    emu_fault(self, NULL,
              "%s: the warp arrives a second time at barrier %u, which has not opened since: %u of %u threads have come",
              self->what, id, barrier->arrived, barrier->expected);
  if (!barrier->knowledge.clock.at) barrier->knowledge = emu_knowledge_make(block->cluster);

  unsigned first = self->index / EMU_WARP * EMU_WARP;
  emu_part(self, EMU_WARP);
  for (unsigned i = first; i < first + EMU_WARP && i < block->thread_count; i++) {
    struct emu_thread *thread = &block->threads[i];
    if (thread->now > barrier->latest) barrier->latest = thread->now;
    emu_release(thread, &barrier->knowledge);
  }
  barrier->expected = id ? threads : threads_of_those_left(block);
  barrier->arrived += EMU_WARP;
  barrier->warps |= 1u << self->index / EMU_WARP;
  if (!waits)
    for (unsigned i = first; i < first + EMU_WARP && i < block->thread_count; i++)
      if (i != self->index) emu_wake(&block->threads[i], self->now);
}

static void come(struct emu_thread *self, unsigned id, unsigned threads, bool waits) {
  struct emu_barrier *barrier = &self->block->gates->barriers[id];
  enum emu_waiting waiting = id ? EMU_AT_NAMED : EMU_AT_BLOCK;
  if (!emu_come(self, EMU_WARP, EMU_ALL, threads << 5 | id << 1 | waits, true)) {
    emu_wait_for(self, waits ? waiting : EMU_AT_WARP, barrier);
    return;
  }
  arrive(self, barrier, id, threads, waits);
  if (barrier->arrived == barrier->expected)
    open_barrier(self->block, barrier, self, waits);
  else if (waits)
    emu_wait_for(self, waiting, barrier);
}

void emu_call_sync_threads(void) {
  struct emu_thread *self = emu_begin("__syncthreads", __builtin_return_address(0), COST_STEP);
  come(self, 0, 0, true);
}

void emu_call_named_barrier(int id, int threads, bool waits) {
  const char *what = waits ? "named_barrier_sync" : "named_barrier_arrive";
  struct emu_thread *self = emu_begin(what, __builtin_return_address(0), COST_STEP);
  if (id < 1 || id >= EMU_NAMED)
    emu_fault(self, NULL, "%s names barrier %d: there are 1 to 15, and 0 is __syncthreads()'s", what, id);
  if (threads < EMU_WARP || threads % EMU_WARP)
    emu_fault(self, NULL, "%s is for %d threads, which is not a number of whole warps", what, threads);
  if ((unsigned)threads >= self->block->thread_count + EMU_WARP)
    emu_fault(self, NULL, "%s is for %d threads, and the block has %u", what, threads, self->block->thread_count);
  come(self, (unsigned)id, (unsigned)threads, waits);
}

void emu_block_left(struct emu_thread *thread) {
  struct emu_barrier *barrier = &thread->block->gates->barriers[0];
  barrier->expected = threads_of_those_left(thread->block);
  if (barrier->warps && barrier->arrived == barrier->expected) open_barrier(thread->block, barrier, thread, false);
}

void emu_block_describe(const struct emu_thread *waiting, char *text, size_t bytes) {
  const struct emu_barrier *barriers = waiting->block->gates->barriers, *barrier = waiting->waits_for;
  unsigned id = (unsigned)(barrier - barriers);
  char name[32] = "__syncthreads()";
  if (id) snprintf(name, sizeof name, "named barrier %u", id);
  snprintf(text, bytes, "%s, where %u of %u threads have come", name, barrier->arrived, barrier->expected);
}
