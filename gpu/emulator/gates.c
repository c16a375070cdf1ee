/* Where threads of a warp or a warpgroup meet. What PTX calls .aligned (wgmma, stmatrix, setmaxnreg, bar, barrier.cluster) all of them
 * must come to at the same line; the others (shuffle, ballot, elect, __syncwarp) only with the same mask. PTX lets threads that have
 * left the kernel be missing; here one that is named must come. */
#include "gates.h"

#include "calls.h"
#include "costs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct emu_gates *emu_gates_make(struct emu_block *block) {
  struct emu_gates *gates = emu_allocate(1, sizeof *gates);
  unsigned threads = block->thread_count;
  gates->comings = emu_allocate(threads, sizeof *gates->comings);
  gates->has_arrived = emu_allocate(threads, sizeof *gates->has_arrived);
  gates->arrived_in_turn = emu_allocate(threads, sizeof *gates->arrived_in_turn);
  gates->stored_at = emu_allocate(threads, sizeof *gates->stored_at);
  gates->registers_epoch = emu_allocate(threads, sizeof *gates->registers_epoch);
  gates->registers_taken = emu_allocate(threads / EMU_WARPGROUP + 1, sizeof *gates->registers_taken);
  gates->warp = emu_knowledge_make(block->cluster);
  return gates;
}

void emu_gates_free(struct emu_gates *gates) {
  if (!gates) return;
  for (unsigned i = 0; i < EMU_NAMED; i++) emu_knowledge_free(&gates->barriers[i].knowledge);
  emu_knowledge_free(&gates->warp);
  free(gates->comings);
  free(gates->has_arrived);
  free(gates->arrived_in_turn);
  free(gates->stored_at);
  free(gates->registers_epoch);
  free(gates->registers_taken);
  free(gates->reached);
  free(gates);
}

void emu_wait_for(struct emu_thread *self, enum emu_waiting waiting, const void *waits_for) {
  self->waiting = waiting, self->waits_for = waits_for;
  emu_wait(self);
}

void emu_pass_time(struct emu_thread *self, emu_time until) {
  if (until <= self->now) return;
  self->now = until;
  emu_spend(self, 0);
}

/* The threads that one means to meet, itself among them: from first up to end, but for those not in the mask. */
struct company {
  struct emu_thread *threads;
  struct emu_coming *comings;
  unsigned first, end, mask;
};

static struct company company_of(const struct emu_thread *thread, unsigned threads, unsigned mask) {
  struct emu_block *block = thread->block;
  unsigned first = thread->index / threads * threads, end = first + threads;
  if (end > block->thread_count) end = block->thread_count;
  return (struct company){block->threads, block->gates->comings, first, end, mask};
}

static bool is_in(const struct company *company, unsigned index) {
  return index >= company->first && index < company->end && company->mask >> index % EMU_WARP & 1;
}

/* Another has come to a meeting with this one: it must be this meeting. */
static void check_the_same(const struct emu_thread *self, const struct emu_thread *other) {
  const struct emu_coming *mine = &self->block->gates->comings[self->index], *its = &self->block->gates->comings[other->index];
  const struct emu_image *image = self->block->cluster->launch->image;
  const char *together = mine->threads == EMU_WARP ? "warp" : "warpgroup";
  bool is_same_call = self->what == other->what || strcmp(self->what, other->what) == 0;
  if (mine->is_aligned && other->where != self->where) is_same_call &= emu_same_line(image, other->where, self->where);
  if (!is_same_call)
    emu_fault(self, NULL, "comes to %s, while thread %u of the same %s is in %s at %s: all of them must come to the same call",
              self->what, other->index, together, other->what, emu_line_of(other->block, other->where).text);
  if (mine->mask != its->mask)
    emu_fault(self, NULL, "%s has the mask 0x%08x, and in thread %u, which is in that mask, 0x%08x: they must be the same",
              self->what, mine->mask, other->index, its->mask);
  if (mine->argument != its->argument)
    emu_fault(self, NULL, "%s has another argument than in thread %u of the same %s: they must be the same", self->what,
              other->index, together);
}

bool emu_come(struct emu_thread *self, unsigned threads, unsigned mask, unsigned argument, bool is_aligned) {
  struct company company = company_of(self, threads, mask);
  struct emu_coming *mine = &company.comings[self->index];
  if (threads == EMU_WARPGROUP && company.end - company.first < threads)
    emu_fault(self, NULL, "%s is for a warpgroup of 128 threads, and the block's last has %u", self->what,
              company.end - company.first);
  if (!is_in(&company, self->index))
    emu_fault(self, NULL, "%s has the mask 0x%08x, in which the thread itself is not", self->what, mask);
  *mine = (struct emu_coming){true, is_aligned, threads, mask, argument, mine->value, mine->source};

  unsigned missing = 0;
  for (unsigned i = company.first; i < company.end; i++) {
    if (!is_in(&company, i)) continue;
    const struct emu_thread *other = &company.threads[i];
    const struct emu_coming *its = &company.comings[i];
    if (other->waiting == EMU_ENDED) emu_fault(self, NULL, "%s waits for thread %u, which has left the kernel", self->what, i);
    if (!its->is_here) {
      missing++;
      continue;
    }
    bool is_same = other->where == self->where && its->mask == mask && its->argument == argument && its->threads == threads;
    if (is_same && other->what == self->what) continue;
    struct company of_its = company_of(other, its->threads, its->mask);
    if (is_in(&of_its, self->index))
      check_the_same(self, other);
    else
      missing++; /* it meets others before */
  }
  return !missing;
}

void emu_part(struct emu_thread *self, unsigned threads) {
  struct company company = company_of(self, threads, self->block->gates->comings[self->index].mask);
  for (unsigned i = company.first; i < company.end; i++)
    if (is_in(&company, i)) company.comings[i].is_here = false;
}

/* By the last to come: none goes on before the latest has come. */
static void wait_for_the_latest(struct emu_thread *self, unsigned threads) {
  struct company company = company_of(self, threads, self->block->gates->comings[self->index].mask);
  emu_time latest = self->now;
  for (unsigned i = company.first; i < company.end; i++)
    if (is_in(&company, i) && company.threads[i].now > latest) latest = company.threads[i].now;
  emu_pass_time(self, latest);
}

static bool meet(struct emu_thread *self, unsigned threads, unsigned mask, unsigned argument, bool is_aligned) {
  if (emu_come(self, threads, mask, argument, is_aligned)) {
    wait_for_the_latest(self, threads);
    return true;
  }
  emu_wait_for(self, EMU_AT_WARP, NULL);
  return false;
}

bool emu_meet(struct emu_thread *self, unsigned threads) { return meet(self, threads, EMU_ALL, 0, true); }

void emu_meeting_over(struct emu_thread *self, unsigned threads) {
  struct company company = company_of(self, threads, self->block->gates->comings[self->index].mask);
  emu_part(self, threads);
  for (unsigned i = company.first; i < company.end; i++)
    if (is_in(&company, i) && i != self->index) emu_wake(&company.threads[i], self->now);
}

void emu_align_warp(struct emu_thread *self) {
  if (emu_meet(self, EMU_WARP)) emu_meeting_over(self, EMU_WARP);
}

void emu_gates_left(struct emu_thread *thread) {
  struct emu_block *block = thread->block;
  for (unsigned i = 0; i < block->thread_count; i++) {
    const struct emu_coming *its = &block->gates->comings[i];
    struct company company = company_of(&block->threads[i], its->is_here ? its->threads : EMU_WARP, its->mask);
    if (its->is_here && is_in(&company, thread->index))
      emu_fault(&block->threads[i], NULL, "%s waits for thread %u, which has left the kernel", block->threads[i].what,
                thread->index);
  }
  block->gates->threads_left++;
  emu_block_left(thread);
  emu_cluster_left(thread);
}

void emu_gates_describe(const struct emu_thread *waiting, char *text, size_t bytes) {
  const struct emu_coming *mine = &waiting->block->gates->comings[waiting->index];
  if (mine->is_here) {
    struct company company = company_of(waiting, mine->threads, mine->mask);
    unsigned here = 0, all = 0;
    for (unsigned i = company.first; i < company.end; i++)
      if (is_in(&company, i)) all++, here += company.comings[i].is_here;
    snprintf(text, bytes, "%s, where %u of %u threads of its %s have come", waiting->what, here, all,
             mine->threads == EMU_WARP ? "warp" : "warpgroup");
  } else if (waiting->waiting == EMU_AT_CLUSTER) {
    emu_cluster_describe(waiting, text, bytes);
  } else if (waiting->waiting == EMU_AT_REGISTERS) {
    emu_registers_describe(waiting, text, bytes);
  } else {
    emu_block_describe(waiting, text, bytes);
  }
}

/* --- What a warp does together */

void emu_call_sync_warp(unsigned mask) {
  struct emu_thread *self = emu_begin("sync_warp", __builtin_return_address(0), COST_WARP);
  if (!meet(self, EMU_WARP, mask, 0, false)) return;
  struct company company = company_of(self, EMU_WARP, mask);
  struct emu_knowledge *knowledge = &self->block->gates->warp;
  emu_knowledge_clear(self->block->cluster, knowledge);
  for (unsigned i = company.first; i < company.end; i++)
    if (is_in(&company, i)) emu_release(&company.threads[i], knowledge);
  for (unsigned i = company.first; i < company.end; i++)
    if (is_in(&company, i)) emu_acquire(&company.threads[i], knowledge);
  emu_meeting_over(self, EMU_WARP);
}

/* The rest exchange values only: of memory nobody learns anything (CUDA C++ Programming Guide, warp shuffle and vote functions). */

/* The lane whose value a lane gets. */
static unsigned source_lane(unsigned lane, enum emu_shuffle how, unsigned operand) {
  unsigned by = operand % EMU_WARP;
  switch (how) {
  case EMU_SHUFFLE_INDEX:
    return by;
  case EMU_SHUFFLE_UP:
    return lane >= by ? lane - by : lane;
  case EMU_SHUFFLE_DOWN:
    return lane + by < EMU_WARP ? lane + by : lane;
  default:
    return lane ^ by;
  }
}

unsigned emu_call_shuffle(unsigned mask, unsigned value, enum emu_shuffle how, unsigned operand) {
  struct emu_thread *self = emu_begin("shuffle", __builtin_return_address(0), COST_WARP);
  struct emu_coming *mine = &self->block->gates->comings[self->index];
  struct company company = company_of(self, EMU_WARP, mask);
  unsigned source = company.first + source_lane(self->index % EMU_WARP, how, operand);
  if (is_in(&company, self->index) && !is_in(&company, source))
    emu_fault(self, NULL, "shuffle takes the value of thread %u, which is not in the mask 0x%08x", source, mask);
  mine->value = value, mine->source = source;
  if (meet(self, EMU_WARP, mask, how, false)) {
    unsigned values[EMU_WARP];
    for (unsigned i = company.first; i < company.end; i++) values[i - company.first] = company.comings[i].value;
    for (unsigned i = company.first; i < company.end; i++)
      if (is_in(&company, i)) company.comings[i].value = values[company.comings[i].source - company.first];
    emu_meeting_over(self, EMU_WARP);
  }
  return mine->value;
}

unsigned emu_call_ballot(unsigned mask, bool predicate) {
  struct emu_thread *self = emu_begin("ballot", __builtin_return_address(0), COST_WARP);
  struct emu_coming *mine = &self->block->gates->comings[self->index];
  struct company company = company_of(self, EMU_WARP, mask);
  mine->value = predicate;
  if (meet(self, EMU_WARP, mask, 0, false)) {
    unsigned votes = 0;
    for (unsigned i = company.first; i < company.end; i++)
      if (is_in(&company, i)) votes |= company.comings[i].value << (i - company.first);
    for (unsigned i = company.first; i < company.end; i++)
      if (is_in(&company, i)) company.comings[i].value = votes;
    emu_meeting_over(self, EMU_WARP);
  }
  return mine->value;
}

/* PTX says only that it is the same thread each time. Without a seed it is the first, as on the chip. */
static unsigned leader(const struct emu_thread *self, unsigned lanes) {
  const struct emu_cluster *cluster = self->block->cluster;
  if (!cluster->launch->seed) return 0;
  uint64_t warp = (uint64_t)cluster->index * cluster->actors.threads + self->actor / EMU_WARP;
  uint64_t mixed = (cluster->launch->seed + warp) * 0x9E3779B97F4A7C15u;
  return (unsigned)((mixed >> 32) * lanes >> 32);
}

bool emu_call_elect(void) {
  struct emu_thread *self = emu_begin("elect_one", __builtin_return_address(0), COST_WARP);
  if (meet(self, EMU_WARP, EMU_ALL, 0, false)) emu_meeting_over(self, EMU_WARP);
  struct company company = company_of(self, EMU_WARP, EMU_ALL);
  return self->index == company.first + leader(self, company.end - company.first);
}
