/* mbarrier. A phase ends when none is missing of the arrivals that the barrier was initialised for, nor of the bytes that were announced;
 * bytes may land before they are announced, as long as an arrival is missing. Who waits names the parity of a phase: that of the present
 * one, and waits for its end; or that of the one before, which has ended. PTX ISA, mbarrier. */
#include "mbarriers.h"

#include "calls.h"
#include "costs.h"
#include "gates.h"

#include <stdio.h>
#include <stdlib.h>

enum { MBARRIER_BYTES = 8 };
static const unsigned MOST = (1 << 20) - 1; /* arrivals of a phase, and bytes */

struct emu_mbarriers {
  unsigned count;
  struct emu_mbarrier barriers[EMU_MOST_MBARRIERS]; /* by slot */
};

struct emu_mbarriers *emu_mbarriers_make(struct emu_block *block) {
  (void)block;
  return emu_allocate(1, sizeof(struct emu_mbarriers));
}

void emu_mbarriers_free(struct emu_mbarriers *mbarriers) {
  if (!mbarriers) return;
  for (unsigned i = 0; i < mbarriers->count; i++) {
    for (int j = 0; j < 2; j++) {
      emu_knowledge_free(&mbarriers->barriers[i].arriving[j]);
      emu_knowledge_free(&mbarriers->barriers[i].ended[j]);
    }
    free(mbarriers->barriers[i].arrived);
  }
  free(mbarriers);
}

/* --- Initialisation */

static struct emu_mbarrier *at_offset(struct emu_block *block, unsigned offset) {
  struct emu_mbarriers *mbarriers = block->mbarriers;
  for (unsigned i = 0; i < mbarriers->count; i++)
    if (mbarriers->barriers[i].offset == offset) return &mbarriers->barriers[i];
  return NULL;
}

/* The barrier that a thread, of this block or another one, names for itself or for the copy engine. */
static struct emu_mbarrier *find(struct emu_block *block, unsigned offset, struct emu_thread *by, bool is_async) {
  bool is_remote = block != by->block;
  struct emu_mbarrier *barrier = at_offset(block, offset);
  char whose[64] = "shared memory";
  if (is_remote) snprintf(whose, sizeof whose, "the shared memory of the cluster's block %u", block->rank);
  if (offset % MBARRIER_BYTES)
    emu_fault(by, NULL, "%s: barrier is byte %u of %s, which is no multiple of %d", by->what, offset, whose, MBARRIER_BYTES);
  if (!barrier)
    emu_fault(by, NULL, "%s names the mbarrier at byte %u of %s, where none has been initialised", by->what, offset, whose);
  if (!emu_knows(by, barrier->initialised_by->actor, barrier->initialised))
    emu_fault(by, NULL, "%s comes to %s by thread %u%s%s: a barrier between the two is missing", by->what,
              emu_mbarrier_name(barrier).text, barrier->initialised_by->index, is_remote ? " in " : "", is_remote ? whose : "");
  bool is_fenced = barrier->fenced && emu_knows(by, barrier->initialised_by->actor, barrier->fenced);
  bool is_there_for_async = !is_remote && by->fenced.at[barrier->initialised_by->actor] >= barrier->initialised;
  if ((is_remote || is_async) && !is_fenced && !is_there_for_async)
    emu_fault(by, NULL, "%s comes to %s: fence_mbarrier_init() is missing between that and the barrier that orders them, for %s",
              by->what, emu_mbarrier_name(barrier).text,
              is_remote ? "the cluster's other blocks to see it" : "the copy engine to see it");
  return barrier;
}

unsigned emu_mbarrier_slot(struct emu_block *block, unsigned offset, struct emu_thread *by, bool is_async) {
  return (unsigned)(find(block, offset, by, is_async) - block->mbarriers->barriers);
}

void emu_call_mbarrier_init(void *barrier, unsigned arrivals) {
  struct emu_thread *self = emu_begin("mbarrier_init", __builtin_return_address(0), COST_STEP);
  struct emu_block *block = self->block;
  struct emu_mbarriers *mbarriers = block->mbarriers;
  unsigned offset = emu_shared_offset(self, "barrier", barrier, MBARRIER_BYTES, MBARRIER_BYTES);
  if (arrivals < 1 || arrivals > MOST)
    emu_fault(self, NULL, "mbarrier_init is for %u arrivals; a phase can have 1 to %u", arrivals, MOST);
  const struct emu_mbarrier *before = at_offset(block, offset);
  if (before) emu_fault(self, NULL, "mbarrier_init comes to %s, which is in use since", emu_mbarrier_name(before).text);
  if (mbarriers->count == EMU_MOST_MBARRIERS)
    emu_fault(self, NULL, "mbarrier_init: more than %d mbarriers of a block, which is not modelled", EMU_MOST_MBARRIERS);
  emu_shadow_reserve(block, offset, MBARRIER_BYTES);

  struct emu_cluster *cluster = block->cluster;
  struct emu_mbarrier *made = &mbarriers->barriers[mbarriers->count++];
  *made = (struct emu_mbarrier){.block = block,
                                .offset = offset,
                                .count = arrivals,
                                .pending = arrivals,
                                .began = self->now,
                                .initialised_by = self,
                                .initialised_at = self->where,
                                .initialised = self->clock.at[self->actor] + 1,
                                .announced_by = self,
                                .announced_at = self->where};
  for (int i = 0; i < 2 && (i == 0 || cluster->block_count > 1); i++)
    made->arriving[i] = emu_knowledge_make(cluster), made->ended[i] = emu_knowledge_make(cluster);
  made->arrived = emu_allocate(cluster->actors.threads, sizeof *made->arrived);
}

void emu_call_fence_mbarrier_init(void) {
  struct emu_thread *self = emu_begin("fence_mbarrier_init", __builtin_return_address(0), COST_FENCE);
  struct emu_mbarriers *mbarriers = self->block->mbarriers;
  for (unsigned i = 0; i < mbarriers->count; i++) {
    struct emu_mbarrier *barrier = &mbarriers->barriers[i];
    if (barrier->initialised_by == self && !barrier->fenced) barrier->fenced = self->clock.at[self->actor] + 1;
  }
}

/* --- Phases */

static void join(const struct emu_cluster *cluster, struct emu_knowledge *into, const struct emu_knowledge *from) {
  emu_join(cluster, &into->clock, from->clock);
  emu_join(cluster, &into->fenced, from->fenced);
}

static void draw_phase(const struct emu_mbarrier *barrier, emu_time until) {
  if (!barrier->block->cluster->launch->timeline) return;
  char track[64];
  snprintf(track, sizeof track, "mbarrier at byte %u", barrier->offset);
  emu_timeline_engine(barrier->block, track, "phase", barrier->began, until, "number", barrier->phase);
}

/* The phase ends if nothing is missing. One that waits for the phase before must have seen its end by now: a parity cannot tell that
 * from one two phases before. */
static void end_phase(struct emu_mbarrier *barrier, emu_time at) {
  if (barrier->pending || barrier->bytes > 0) return;
  struct emu_cluster *cluster = barrier->block->cluster;
  if (barrier->bytes < 0)
    emu_fault(barrier->announced_by, barrier->announced_at,
              "announces too few bytes: all of phase %u have arrived at %s, and %lld bytes more have landed than were announced",
              barrier->phase, emu_mbarrier_name(barrier).text, -barrier->bytes);
  if (barrier->waking)
    emu_fault(barrier->woken, NULL, "waits for the end of phase %u of %s, and phase %u can end before the thread has seen it",
              barrier->phase - 1, emu_mbarrier_name(barrier).text, barrier->phase);
  if (at < barrier->began) at = barrier->began;
  draw_phase(barrier, at);
  barrier->phase++;
  barrier->pending = barrier->count;
  barrier->began = at;
  barrier->arriving[0]
      .clock.at[emu_actor_of_mbarrier(barrier->block, (unsigned)(barrier - barrier->block->mbarriers->barriers))] =
      barrier->phase;
  for (int i = 0; i < 2 && barrier->arriving[i].clock.at; i++) join(cluster, &barrier->ended[i], &barrier->arriving[i]);
  for (unsigned i = 0; i < barrier->block->thread_count; i++) {
    struct emu_thread *thread = &barrier->block->threads[i];
    if (thread->waiting != EMU_AT_MBARRIER || thread->waits_for != barrier) continue;
    barrier->waking++;
    barrier->woken = thread;
    emu_wake(thread, at + COST_WAKE);
  }
}

/* The barrier at the place that a kernel names, in its own block or at the same place in another one. */
static struct emu_mbarrier *find_named(struct emu_thread *self, const void *barrier, struct emu_block *block) {
  return find(block, emu_shared_offset(self, "barrier", barrier, MBARRIER_BYTES, MBARRIER_BYTES), self, false);
}

static void count_arrival(struct emu_mbarrier *barrier, const struct emu_thread *by, const void *where, emu_time at) {
  if (!barrier->pending)
    emu_fault(by, where, "arrives at %s, once too often: all %u of phase %u have arrived, and %lld bytes have still to land",
              emu_mbarrier_name(barrier).text, barrier->count, barrier->phase, barrier->bytes);
  barrier->pending--;
  barrier->arrived[by->actor] = barrier->phase + 1;
  end_phase(barrier, at);
}

/* For a thread of another block it takes effect at once too: whatever that does next comes after, and could tell others of it. */
static void arrive(struct emu_mbarrier *barrier, struct emu_thread *self) {
  bool is_remote = barrier->block != self->block;
  emu_release(self, &barrier->arriving[is_remote]);
  count_arrival(barrier, self, self->where, self->now + (is_remote ? COST_PEER / 2 : 0)); /* there, and not back */
}

void emu_call_mbarrier_arrive(void *barrier, unsigned expected_bytes, bool expects) {
  const char *what = expects ? "mbarrier_arrive_expect_tx" : "mbarrier_arrive";
  struct emu_thread *self = emu_begin(what, __builtin_return_address(0), COST_STEP);
  struct emu_mbarrier *named = find_named(self, barrier, self->block);
  if (expects) {
    if (expected_bytes > MOST || named->bytes + expected_bytes > MOST)
      emu_fault(self, NULL, "%s announces %u bytes: a phase can expect %u at a time", what, expected_bytes, MOST);
    named->bytes += expected_bytes;
    named->announced_by = self, named->announced_at = self->where;
  }
  arrive(named, self);
}

void emu_call_mbarrier_arrive_cluster(void *barrier, unsigned rank) {
  struct emu_thread *self = emu_begin("mbarrier_arrive_cluster", __builtin_return_address(0), COST_STEP);
  const struct emu_cluster *cluster = self->block->cluster;
  if (rank >= cluster->block_count)
    emu_fault(self, NULL, "mbarrier_arrive_cluster names block %u of the cluster, which has %u", rank, cluster->block_count);
  const void *stored_at = self->block->gates->stored_at[self->index];
  if (stored_at && rank != self->block->rank)
    emu_fault(self, NULL,
              "mbarrier_arrive_cluster promises another block nothing that the thread has stored, as by store_remote at %s: a "
              "cluster's barrier does",
              emu_line_of(self->block, stored_at).text);
  emu_reach(cluster->blocks[rank], self, false);
  arrive(find_named(self, barrier, cluster->blocks[rank]), self);
}

void emu_call_mbarrier_wait(void *barrier, unsigned parity, bool is_for_cluster) {
  const char *what = is_for_cluster ? "mbarrier_wait_cluster" : "mbarrier_wait";
  struct emu_thread *self = emu_begin(what, __builtin_return_address(0), COST_MBARRIER);
  struct emu_mbarrier *named = find_named(self, barrier, self->block);
  if (parity > 1) emu_fault(self, NULL, "%s: parity is %u; it must be 0 or 1", what, parity);
  if (parity == named->phase % 2) {
    self->waits_parity = parity;
    emu_wait_for(self, EMU_AT_MBARRIER, named);
    named->waking--;
  }
  for (int i = 0; i <= is_for_cluster && named->ended[i].clock.at; i++) emu_acquire(self, &named->ended[i]);
}

bool emu_call_mbarrier_test(void *barrier, unsigned parity) {
  struct emu_thread *self = emu_begin("mbarrier_test", __builtin_return_address(0), COST_MBARRIER);
  struct emu_mbarrier *named = find_named(self, barrier, self->block);
  if (parity > 1) emu_fault(self, NULL, "mbarrier_test: parity is %u; it must be 0 or 1", parity);
  if (parity == named->phase % 2) return false;
  if (named->ended[0].clock.at) emu_acquire(self, &named->ended[0]);
  return true;
}

/* --- For the copy engine, and the block's end */

uint32_t emu_mbarrier_epoch(struct emu_block *block, unsigned slot) { return block->mbarriers->barriers[slot].phase + 1; }

void emu_mbarrier_bytes(struct emu_block *block, unsigned slot, unsigned bytes) {
  struct emu_mbarrier *barrier = &block->mbarriers->barriers[slot];
  barrier->bytes -= bytes;
  if (barrier->bytes < -(long long)MOST)
    emu_fault(barrier->announced_by, barrier->announced_at,
              "%lld bytes have landed for %s that nobody announced: it can count %u", -barrier->bytes,
              emu_mbarrier_name(barrier).text, MOST);
  end_phase(barrier, block->cluster->now);
}

void emu_mbarrier_arrival(struct emu_block *block, unsigned slot, const struct emu_thread *by, const void *where) {
  count_arrival(&block->mbarriers->barriers[slot], by, where, block->cluster->now);
}

/* That arrivals are missing is no fault: nobody waits for them any more. */
void emu_mbarriers_end(struct emu_block *block) {
  for (unsigned i = 0; i < block->mbarriers->count; i++) {
    const struct emu_mbarrier *barrier = &block->mbarriers->barriers[i];
    if (barrier->bytes)
      emu_fault(barrier->announced_by, barrier->announced_at, "the block leaves the kernel in the midst of a phase of %s",
                emu_mbarrier_state(barrier).text);
  }
}
