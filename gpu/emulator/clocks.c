/* Vector clocks (Lamport 1978, Fidge and Mattern 1988): for each thread, how much of what every other did it can know of, because
 * they met at barriers since. An access that another's is not known to races with it, whether or not it did so this time. */
#include "calls.h"
#include "costs.h"
#include "emulator.h"

#include <stdlib.h>
#include <string.h>

enum { WARPGROUP = 128 };

void emu_count_actors(struct emu_cluster *cluster) {
  const struct emu_index *size = &cluster->launch->block_size;
  unsigned threads = size->x * size->y * size->z;
  struct emu_actors *actors = &cluster->actors;
  actors->threads = cluster->block_count * threads;
  actors->mbarriers = EMU_MOST_MBARRIERS;
  actors->warpgroups = (threads + WARPGROUP - 1) / WARPGROUP;
  actors->stores = EMU_MOST_STORES;
  actors->total = actors->threads + cluster->block_count * (actors->mbarriers + actors->warpgroups + actors->stores);
}

unsigned emu_actor_of_mbarrier(const struct emu_block *block, unsigned slot) {
  const struct emu_actors *actors = &block->cluster->actors;
  return actors->threads + block->rank * (actors->mbarriers + actors->warpgroups + actors->stores) + slot;
}

unsigned emu_actor_of_warpgroup(const struct emu_block *block, unsigned warpgroup) {
  return emu_actor_of_mbarrier(block, 0) + block->cluster->actors.mbarriers + warpgroup;
}

unsigned emu_actor_of_stores(const struct emu_block *block, unsigned slot) {
  return emu_actor_of_warpgroup(block, 0) + block->cluster->actors.warpgroups + slot;
}

struct emu_clock emu_clock_make(const struct emu_cluster *cluster) {
  return (struct emu_clock){emu_allocate(cluster->actors.total, sizeof(uint32_t))};
}

void emu_clock_free(struct emu_clock *clock) {
  free(clock->at);
  clock->at = NULL;
}

/* Signed, since that is what every processor's vectors compare: no epoch comes near 2^31. */
static void join(int32_t *restrict into, const int32_t *restrict from, unsigned count) {
  for (unsigned i = 0; i < count; i++) into[i] = into[i] > from[i] ? into[i] : from[i];
}

void emu_join(const struct emu_cluster *cluster, struct emu_clock *into, struct emu_clock from) {
  join((int32_t *)into->at, (const int32_t *)from.at, cluster->actors.total);
}

struct emu_knowledge emu_knowledge_make(const struct emu_cluster *cluster) {
  return (struct emu_knowledge){emu_clock_make(cluster), emu_clock_make(cluster)};
}

void emu_knowledge_free(struct emu_knowledge *knowledge) {
  emu_clock_free(&knowledge->clock);
  emu_clock_free(&knowledge->fenced);
}

void emu_knowledge_clear(const struct emu_cluster *cluster, struct emu_knowledge *knowledge) {
  memset(knowledge->clock.at, 0, cluster->actors.total * sizeof(uint32_t));
  memset(knowledge->fenced.at, 0, cluster->actors.total * sizeof(uint32_t));
}

/* Only threads store by ordinary means, so only their part of `fenced` is ever other than 0. */
static void join_knowledge(const struct emu_cluster *cluster, struct emu_clock *clock, struct emu_clock *fenced,
                           struct emu_clock from, struct emu_clock from_fenced) {
  emu_join(cluster, clock, from);
  join((int32_t *)fenced->at, (const int32_t *)from_fenced.at, cluster->actors.threads);
}

void emu_release(struct emu_thread *thread, struct emu_knowledge *into) {
  thread->clock.at[thread->actor]++;
  join_knowledge(thread->block->cluster, &into->clock, &into->fenced, thread->clock, thread->fenced);
}

void emu_acquire(struct emu_thread *thread, const struct emu_knowledge *from) {
  join_knowledge(thread->block->cluster, &thread->clock, &thread->fenced, from->clock, from->fenced);
}

void emu_learn(struct emu_thread *thread, unsigned actor, uint32_t epoch) {
  if (thread->clock.at[actor] < epoch) thread->clock.at[actor] = epoch;
}

bool emu_somebody_knows(const struct emu_block *block, unsigned actor, uint32_t epoch) {
  for (unsigned i = 0; i < block->thread_count; i++)
    if (block->threads[i].clock.at[actor] >= epoch) return true;
  return false;
}

void emu_fence_async(struct emu_thread *thread) { thread->fenced.at[thread->actor] = ++thread->clock.at[thread->actor]; }

void emu_call_fence_proxy_async(void) {
  emu_fence_async(emu_begin("fence_proxy_async", __builtin_return_address(0), COST_FENCE));
}
