/* The cluster's barrier: every thread arrives, then waits, in turns. PTX ISA, barrier.cluster: those that have left the kernel need not.
 * And whether a block leaves before the others are done with its shared memory. */
#include "calls.h"
#include "costs.h"
#include "gates.h"

#include <stdio.h>
#include <stdlib.h>

struct emu_gate {
  unsigned turn;    /* how often it has opened */
  unsigned arrived; /* threads, in this turn */
  unsigned left;    /* threads that have left the kernel */
  emu_time latest;  /* of the arrivals */
  emu_time opened;
  struct emu_knowledge arriving; /* what those who arrived in this turn knew */
  struct emu_knowledge opening;  /* in the one before */
};

struct emu_gate *emu_gate_make(struct emu_cluster *cluster) {
  struct emu_gate *gate = emu_allocate(1, sizeof *gate);
  gate->arriving = emu_knowledge_make(cluster);
  gate->opening = emu_knowledge_make(cluster);
  return gate;
}

void emu_gate_free(struct emu_gate *gate) {
  if (!gate) return;
  emu_knowledge_free(&gate->arriving);
  emu_knowledge_free(&gate->opening);
  free(gate);
}

static void open_if_all_arrived(struct emu_cluster *cluster) {
  struct emu_gate *gate = cluster->gate;
  if (!gate->arrived || gate->arrived < cluster->actors.threads - gate->left) return;
  struct emu_knowledge known_before = gate->opening;
  gate->opening = gate->arriving, gate->arriving = known_before; /* by all who can arrive, so it need not be cleared */
  gate->turn++;
  gate->arrived = 0;
  gate->opened = gate->latest + COST_CLUSTER;
  for (unsigned i = 0; i < cluster->block_count; i++)
    for (unsigned j = 0; j < cluster->blocks[i]->thread_count; j++) {
      struct emu_thread *thread = &cluster->blocks[i]->threads[j];
      if (thread->waiting == EMU_AT_CLUSTER) emu_wake(thread, gate->opened);
    }
}

void emu_call_cluster_arrive(void) {
  struct emu_thread *self = emu_begin("cluster_arrive", __builtin_return_address(0), COST_STEP);
  struct emu_gates *gates = self->block->gates;
  struct emu_gate *gate = self->block->cluster->gate;
  if (gates->has_arrived[self->index])
    emu_fault(self, NULL, "cluster_arrive comes a second time: the thread has not called cluster_wait since the first");
  emu_align_warp(self);
  gates->has_arrived[self->index] = true;
  gates->arrived_in_turn[self->index] = gate->turn;
  emu_release(self, &gate->arriving);
  gates->stored_at[self->index] = NULL;
  if (self->now > gate->latest) gate->latest = self->now;
  gate->arrived++;
  open_if_all_arrived(self->block->cluster);
}

/* A turn cannot open before all have waited for the one before, so what is known of that is still there. */
void emu_call_cluster_wait(void) {
  struct emu_thread *self = emu_begin("cluster_wait", __builtin_return_address(0), COST_STEP);
  struct emu_gates *gates = self->block->gates;
  struct emu_gate *gate = self->block->cluster->gate;
  if (!gates->has_arrived[self->index]) emu_fault(self, NULL, "cluster_wait comes without cluster_arrive before it");
  emu_align_warp(self);
  if (gates->arrived_in_turn[self->index] == gate->turn)
    emu_wait_for(self, EMU_AT_CLUSTER, gate);
  else
    emu_pass_time(self, gate->opened);
  gates->has_arrived[self->index] = false;
  emu_acquire(self, &gate->opening);
}

void emu_cluster_describe(const struct emu_thread *waiting, char *text, size_t bytes) {
  const struct emu_cluster *cluster = waiting->block->cluster;
  snprintf(text, bytes, "the cluster's barrier, where %u of %u threads have arrived", cluster->gate->arrived,
           cluster->actors.threads - cluster->gate->left);
}

/* --- What others do in a block's shared memory */

/* Whether anything that a thread of the block did is known: then all of it has begun. */
static bool is_known_to_have_begun(const struct emu_block *block, const struct emu_thread *by) {
  for (unsigned i = 0; i < block->thread_count; i++)
    if (by->clock.at[block->threads[i].actor]) return true;
  return false;
}

void emu_reach(struct emu_block *block, struct emu_thread *by, bool is_store) {
  if (block == by->block) return;
  struct emu_gates *gates = block->gates;
  if (gates->threads_left == block->thread_count)
    emu_fault(by, NULL, "%s reaches into the shared memory of the cluster's block %u, which has left the kernel", by->what,
              block->rank);
  if (!gates->reached) gates->reached = emu_allocate(block->cluster->actors.threads, sizeof *gates->reached);
  if (is_store && !is_known_to_have_begun(block, by))
    emu_fault(by, NULL,
              "%s reaches into the shared memory of the cluster's block %u, which may not have begun: a cluster's barrier is "
              "missing, which all of that block come to first",
              by->what, block->rank);
  if (is_store) by->block->gates->stored_at[by->index] = by->where;
  gates->reached[by->actor] = (struct emu_reached){by, by->where, by->clock.at[by->actor] + 1};
}

/* The block leaves: whoever reached into it must have told one of its threads since. */
static void check_reached(const struct emu_block *block) {
  const struct emu_gates *gates = block->gates;
  for (unsigned actor = 0; gates->reached && actor < block->cluster->actors.threads; actor++) {
    const struct emu_reached *reached = &gates->reached[actor];
    if (reached->by && !emu_somebody_knows(block, actor, reached->epoch))
      emu_fault(
          reached->by, reached->where,
          "reaches into the shared memory of the cluster's block %u, which may have left the kernel by then: none of its threads "
          "waits for this, as all would at a cluster's barrier before the end",
          block->rank);
  }
}

void emu_cluster_left(struct emu_thread *thread) {
  struct emu_block *block = thread->block;
  struct emu_gate *gate = block->cluster->gate;
  gate->left++;
  if (block->gates->has_arrived[thread->index] && block->gates->arrived_in_turn[thread->index] == gate->turn) gate->arrived--;
  open_if_all_arrived(block->cluster);
  if (block->gates->threads_left == block->thread_count) check_reached(block);
}
