/* The copy engine of each block: what it is asked for is under way from then on, and happens later, by events. Who may touch which
 * bytes meanwhile is the shadow's business, and settled when it is asked for; the bytes move when they would, so that a kernel that
 * gets by is not safe to give the right numbers. */
#include "calls.h"
#include "copies.h"
#include "costs.h"

#include <stdlib.h>
#include <string.h>

enum { MBARRIER_BYTES = 8 };

/* --- What is due */

struct emu_engine *emu_engine_make(struct emu_block *block) {
  struct emu_engine *engine = emu_allocate(1, sizeof *engine);
  const struct emu_actors *actors = &block->cluster->actors;
  engine->block = block;
  engine->rows = emu_allocate(block->thread_count, sizeof *engine->rows);
  engine->due = emu_allocate(actors->total - actors->threads, sizeof *engine->due);
  return engine;
}

void emu_engine_free(struct emu_engine *engine) {
  for (struct emu_copy *copy = engine->copies, *next; copy; copy = next) {
    next = copy->next;
    free(copy);
  }
  emu_batches_free(engine);
  for (unsigned i = 0; i < engine->block->thread_count; i++) free(engine->block->threads[i].stores);
  free(engine->rows);
  free(engine->due);
  free(engine);
}

void emu_engine_must_know(struct emu_block *block, unsigned mbarrier, struct emu_due due) {
  block->engine->due[mbarrier - block->cluster->actors.threads] = due;
}

static void must_know(struct emu_block *block, unsigned mbarrier, uint32_t epoch, const struct emu_thread *by) {
  emu_engine_must_know(block, mbarrier, (struct emu_due){epoch, by, by->where, by->what});
}

static bool has_left(const struct emu_block *block) { return block->threads_ended == block->thread_count; }

/* Whether it needs the block's shared memory; not asked of a STORE. */
static bool is_of_block(const struct emu_copy *copy, const struct emu_block *block) {
  return copy->kind != STORE && (copy->block == block || (copy->kind == SEND && copy->by->block == block));
}

void emu_engine_end(struct emu_block *block) {
  const struct emu_cluster *cluster = block->cluster;
  for (unsigned i = 0; i < block->thread_count; i++) {
    const struct emu_thread *thread = &block->threads[i];
    const struct emu_stores *stores = thread->stores;
    if (stores && stores->waited < stores->asked)
      emu_fault(thread, stores->where, "%s may still read shared memory when its block leaves the kernel: %s", stores->what,
                stores->asked > stores->committed ? "bulk_commit() is missing, and a wait for that group"
                                                  : "bulk_wait_read() is missing, or leaves this group pending");
  }
  emu_batches_end(block);
  for (unsigned rank = 0; rank < cluster->block_count; rank++)
    for (const struct emu_copy *copy = cluster->blocks[rank]->engine->copies; copy; copy = copy->next)
      if (is_of_block(copy, block))
        emu_fault(copy->by, copy->where,
                  "%s is still under way %s the shared memory of block %u of the cluster, which leaves the kernel", copy->what,
                  copy->block == block ? "to" : "from", block->rank);
  for (unsigned i = 0; i < cluster->actors.total - cluster->actors.threads; i++) {
    const struct emu_due *due = &block->engine->due[i];
    if (due->epoch && !emu_somebody_knows(block, cluster->actors.threads + i, due->epoch))
      emu_fault(due->by, due->where,
                "%s may still need the shared memory of block %u of the cluster when that leaves the kernel: no thread of it has "
                "waited for the copy's mbarrier",
                due->what, block->rank);
  }
}

/* --- Copies under way */

struct emu_copy *emu_copy_ask(struct emu_thread *by, enum emu_copy_kind kind, struct emu_block *block, unsigned offset,
                              unsigned bytes, unsigned room) {
  struct emu_engine *engine = by->block->engine;
  struct emu_copy *copy = emu_allocate(1, sizeof *copy + room);
  *copy = (struct emu_copy){.next = engine->copies, .kind = kind, .by = by, .where = by->where, .what = by->what};
  copy->block = block, copy->offset = offset, copy->bytes = bytes;
  return engine->copies = copy;
}

void emu_copy_finish(struct emu_copy *copy) {
  struct emu_block *block = copy->by->block;
  struct emu_copy **at = &block->engine->copies;
  while (*at != copy) at = &(*at)->next;
  *at = copy->next;
  emu_time now = block->cluster->now, begins = copy->begins < now ? copy->begins : now; /* with a seed it may be early */
  emu_timeline_engine(block, "copy engine", copy->what, begins, now, "bytes", copy->bytes);
  free(copy);
}

void emu_copy_take_turn(struct emu_copy *copy, emu_time latency, unsigned bytes_per_cycle) {
  struct emu_engine *engine = copy->by->block->engine;
  emu_time now = copy->by->now;
  copy->begins = engine->copies_until > now ? engine->copies_until : now;
  engine->copies_until = copy->begins + (copy->bytes + bytes_per_cycle - 1) / bytes_per_cycle;
  copy->ends = engine->copies_until + latency;
}

void emu_copy_later(struct emu_copy *copy, emu_time model, void (*happen)(void *)) {
  struct emu_cluster *cluster = copy->by->block->cluster;
  emu_later(cluster, cluster->now + emu_draw_duration(cluster, model), happen, copy);
}

/* --- Towards shared memory */

static void land(void *thing) {
  struct emu_copy *copy = thing;
  struct emu_block *block = copy->block;
  unsigned char *to = block->shared + copy->offset;
  if (copy->kind == SEND)
    memcpy(to, copy->by->block->shared + copy->from, copy->bytes);
  else if (copy->is_box)
    emu_box_load(&copy->box, block->shared, copy->offset);
  else
    memcpy(to, copy->global, copy->bytes);
  emu_shadow_landed(block, copy->offset, copy->bytes);
  unsigned slot = copy->slot, bytes = copy->bytes;
  emu_copy_finish(copy);
  emu_mbarrier_bytes(block, slot, bytes);
}

/* To `block`, whose mbarrier at `barrier` is told. */
static struct emu_copy *ask_for_load(struct emu_thread *self, enum emu_copy_kind kind, struct emu_block *block, unsigned offset,
                                     unsigned bytes, unsigned barrier) {
  if (has_left(block))
    emu_fault(self, NULL, "%s is to the shared memory of block %u of the cluster, which has left the kernel", self->what,
              block->rank);
  unsigned slot = emu_mbarrier_slot(block, barrier, self, true), actor = emu_actor_of_mbarrier(block, slot);
  uint32_t epoch = emu_mbarrier_epoch(block, slot);
  emu_shadow_async_write(block, offset, bytes, actor, epoch, self);
  must_know(block, actor, epoch, self);
  struct emu_copy *copy = emu_copy_ask(self, kind, block, offset, bytes, 0);
  copy->slot = slot;
  return copy;
}

static struct emu_block *peer_of(struct emu_thread *self, unsigned rank) {
  const struct emu_cluster *cluster = self->block->cluster;
  if (rank >= cluster->block_count)
    emu_fault(self, NULL, "%s names block %u of the cluster, which has %u", self->what, rank, cluster->block_count);
  return cluster->blocks[rank];
}

void emu_call_tma_prefetch(const void *map) {
  struct emu_thread *self = emu_begin("tma_prefetch", __builtin_return_address(0), COST_COPY_ISSUE);
  emu_box_of(self, map, 0, NULL);
}

void emu_call_tma_load(void *to, const void *map, void *barrier, int rank, const int at[3], unsigned blocks, bool is_multicast) {
  const char *what = is_multicast ? "tma_load_multicast" : rank == 2 ? "tma_load_2d" : "tma_load";
  struct emu_thread *self = emu_begin(what, __builtin_return_address(0), COST_COPY_ISSUE);
  struct emu_box box = emu_box_of(self, map, rank, at);
  struct emu_cluster *cluster = self->block->cluster;
  unsigned offset = emu_shared_offset(self, "to", to, box.bytes, TENSOR_ALIGNMENT);
  unsigned barrier_offset = emu_shared_offset(self, "barrier", barrier, MBARRIER_BYTES, MBARRIER_BYTES);
  if (!is_multicast) blocks = 1u << self->block->rank;
  if (!blocks || blocks >> cluster->block_count)
    emu_fault(self, NULL, "tma_load_multicast is to the blocks 0x%X; the cluster has %u, and it is to one at least", blocks,
              cluster->block_count);
  emu_box_check_global(self, &box);

  /* It comes from global memory once. */
  const struct emu_copy *first = NULL;
  for (unsigned rest = blocks; rest; rest &= rest - 1) {
    struct emu_block *block = cluster->blocks[__builtin_ctz(rest)];
    struct emu_copy *copy = ask_for_load(self, LOAD, block, offset, box.bytes, barrier_offset);
    copy->is_box = true, copy->box = box;
    if (first)
      copy->begins = first->begins, copy->ends = first->ends;
    else
      emu_copy_take_turn(copy, COST_COPY_LATENCY, COST_COPY_BYTES), first = copy;
    emu_copy_later(copy, copy->ends - self->now, land);
  }
}

void emu_copy_check_bulk(struct emu_thread *self, const char *name, const void *global, unsigned bytes) {
  char why[256];
  if (!bytes || bytes % BULK_ALIGNMENT != 0)
    emu_fault(self, NULL, "%s copies %u bytes; it copies a multiple of %d", self->what, bytes, BULK_ALIGNMENT);
  if (!global) return;
  if ((uintptr_t)global % BULK_ALIGNMENT != 0)
    emu_fault(self, NULL, "%s's %s is %p in global memory; it is a multiple of %d", self->what, name, global, BULK_ALIGNMENT);
  if (!emu_may_touch(global, bytes, why, sizeof why))
    emu_fault(self, NULL, "%s copies %u bytes in global memory where it may not: %s", self->what, bytes, why);
}

void emu_call_bulk_load(void *to, const void *from, unsigned bytes, void *barrier) {
  struct emu_thread *self = emu_begin("bulk_load", __builtin_return_address(0), COST_COPY_ISSUE);
  unsigned offset = emu_shared_offset(self, "to", to, bytes, BULK_ALIGNMENT);
  unsigned barrier_offset = emu_shared_offset(self, "barrier", barrier, MBARRIER_BYTES, MBARRIER_BYTES);
  emu_copy_check_bulk(self, "from", from, bytes);
  struct emu_copy *copy = ask_for_load(self, LOAD, self->block, offset, bytes, barrier_offset);
  copy->global = (unsigned char *)from;
  emu_copy_take_turn(copy, COST_COPY_LATENCY, COST_COPY_BYTES);
  emu_copy_later(copy, copy->ends - self->now, land);
}

/* That it has been read is known with the mbarrier's phase, too. */
void emu_call_bulk_send(void *to, unsigned rank, const void *from, unsigned bytes, void *barrier) {
  struct emu_thread *self = emu_begin("bulk_send", __builtin_return_address(0), COST_COPY_ISSUE);
  unsigned offset = emu_shared_offset(self, "to", to, bytes, BULK_ALIGNMENT);
  unsigned from_offset = emu_shared_offset(self, "from", from, bytes, BULK_ALIGNMENT);
  unsigned barrier_offset = emu_shared_offset(self, "barrier", barrier, MBARRIER_BYTES, MBARRIER_BYTES);
  struct emu_block *block = peer_of(self, rank);
  emu_copy_check_bulk(self, NULL, NULL, bytes);
  struct emu_copy *copy = ask_for_load(self, SEND, block, offset, bytes, barrier_offset);
  unsigned actor = emu_actor_of_mbarrier(block, copy->slot);
  uint32_t epoch = emu_mbarrier_epoch(block, copy->slot);
  emu_shadow_async_read(self->block, from_offset, bytes, actor, epoch, self);
  must_know(self->block, actor, epoch, self);
  copy->from = from_offset;
  emu_copy_take_turn(copy, COST_PEER, COST_PEER_BYTES);
  emu_copy_later(copy, copy->ends - self->now, land);
}

/* --- A peer's shared memory, without the copy engine */

void emu_call_remote(void *in_shared, unsigned rank, void *value, unsigned bytes, bool is_write) {
  struct emu_thread *self = emu_begin(is_write ? "store_remote" : "load_remote", __builtin_return_address(0), COST_PEER);
  unsigned offset = emu_shared_offset(self, "in_shared", in_shared, bytes, bytes);
  struct emu_block *block = peer_of(self, rank);
  emu_reach(block, self, is_write);
  emu_shadow_access(block, offset, bytes, is_write, self);
  if (is_write)
    memcpy(block->shared + offset, value, bytes);
  else
    memcpy(value, block->shared + offset, bytes);
}
