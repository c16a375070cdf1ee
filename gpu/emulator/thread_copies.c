/* Copies of four bytes that threads ask for themselves. What a thread has asked for since it last tied its copies to an mbarrier is a
 * batch. It lands as a whole, by an event, and as late as may be: when the arrival takes place. So one that is read before holds what
 * was there, and one that is tied to no barrier never comes. On a GPU an arrival waits for the batches before as well; here a batch is
 * known by its own barrier alone.
 *
 * And a line that is asked for ahead: of it the address is looked at. */
#include "calls.h"
#include "copies.h"
#include "costs.h"

#include <stdlib.h>
#include <string.h>

enum { FOUR = 4, FIRST_ROOM = 16, MBARRIER_BYTES = 8 };

struct emu_four {
  unsigned offset;  /* in shared memory */
  const void *from; /* NULL: zeros */
};

struct emu_batch {
  struct emu_batch *next;
  struct emu_thread *by;
  struct emu_due asked; /* where, and by what, the last was asked for */
  bool is_tied;         /* to the mbarrier in `slot` */
  unsigned slot;
  emu_time begins, ends; /* of the first and the last, as costs.h has it */
  struct emu_four *fours;
  unsigned count, room;
};

/* The thread's, as far as it is not tied. */
static struct emu_batch *batch_of(struct emu_thread *self) {
  struct emu_engine *engine = self->block->engine;
  if (self->batch) return self->batch;
  struct emu_batch *batch = emu_allocate(1, sizeof *batch);
  *batch = (struct emu_batch){.next = engine->batches, .by = self, .begins = self->now, .ends = self->now};
  engine->batches = batch;
  return self->batch = batch;
}

static void add(struct emu_batch *batch, struct emu_four four) {
  if (batch->count == batch->room) {
    unsigned room = batch->room ? 2 * batch->room : FIRST_ROOM;
    struct emu_four *fours = emu_allocate(room, sizeof *fours);
    if (batch->count) memcpy(fours, batch->fours, batch->count * sizeof *fours);
    free(batch->fours);
    batch->fours = fours, batch->room = room;
  }
  batch->fours[batch->count++] = four;
}

static void free_batch(struct emu_batch *batch) {
  free(batch->fours);
  free(batch);
}

void emu_batches_free(struct emu_engine *engine) {
  for (struct emu_batch *batch = engine->batches, *next; batch; batch = next) {
    next = batch->next;
    free_batch(batch);
  }
}

void emu_batches_end(const struct emu_block *block) {
  for (const struct emu_batch *batch = block->engine->batches; batch; batch = batch->next)
    emu_fault(batch->by, batch->asked.where, "%s may still come to shared memory when its block leaves the kernel: %s",
              batch->asked.what,
              batch->is_tied ? "a wait for the mbarrier is missing" : "mbarrier_arrive_when_copied() is missing");
}

void emu_call_copy_four_bytes(void *to, const void *from, bool is_there) {
  struct emu_thread *self = emu_begin("copy_four_bytes", __builtin_return_address(0), COST_STEP);
  unsigned offset = emu_shared_offset(self, "to", to, FOUR, FOUR);
  char why[256];
  if ((uintptr_t)from % FOUR != 0)
    emu_fault(self, NULL, "copy_four_bytes: from is %p in global memory; it is a multiple of %d", from, FOUR);
  if (is_there && !emu_may_touch(from, FOUR, why, sizeof why))
    emu_fault(self, NULL, "copy_four_bytes reads global memory where it may not: %s", why);
  emu_shadow_copy(self->block, offset, FOUR, self);
  struct emu_batch *batch = batch_of(self);
  add(batch, (struct emu_four){offset, is_there ? from : NULL});
  batch->asked = (struct emu_due){.by = self, .where = self->where, .what = self->what};
  batch->ends = self->now + COST_COPY_FOUR;
}

static void land(void *thing) {
  struct emu_batch *batch = thing, **at = &batch->by->block->engine->batches;
  struct emu_block *block = batch->by->block;
  emu_time now = block->cluster->now;
  unsigned actor = emu_actor_of_mbarrier(block, batch->slot), slot = batch->slot;
  struct emu_due due = batch->asked;
  due.epoch = emu_mbarrier_epoch(block, slot);
  for (const struct emu_four *four = batch->fours; four < batch->fours + batch->count; four++) {
    if (four->from)
      memcpy(block->shared + four->offset, four->from, FOUR);
    else
      memset(block->shared + four->offset, 0, FOUR);
    emu_shadow_copied(block, four->offset, FOUR, actor, due.epoch);
  }
  if (batch->count) emu_engine_must_know(block, actor, due);
  if (batch->count && due.by->index % EMU_WARP == 0)
    emu_timeline_engine(block, "copies of threads", due.what, batch->begins < now ? batch->begins : now, now, "bytes",
                        FOUR * batch->count);
  while (*at != batch) at = &(*at)->next;
  *at = batch->next;
  free_batch(batch);
  emu_mbarrier_arrival(block, slot, due.by, due.where);
}

void emu_call_mbarrier_arrive_when_copied(void *barrier) {
  struct emu_thread *self = emu_begin("mbarrier_arrive_when_copied", __builtin_return_address(0), COST_STEP);
  struct emu_cluster *cluster = self->block->cluster;
  unsigned offset = emu_shared_offset(self, "barrier", barrier, MBARRIER_BYTES, MBARRIER_BYTES);
  unsigned slot = emu_mbarrier_slot(self->block, offset, self, false);
  struct emu_batch *batch = batch_of(self);
  if (!batch->count) batch->asked = (struct emu_due){.by = self, .where = self->where, .what = self->what};
  batch->is_tied = true, batch->slot = slot;
  self->batch = NULL;
  emu_time model = batch->ends > self->now ? batch->ends - self->now : 0;
  emu_later(cluster, cluster->now + emu_draw_duration(cluster, model), land, batch);
}

void emu_call_prefetch(const void *address) {
  struct emu_thread *self = emu_begin("prefetch", __builtin_return_address(0), COST_STEP);
  char why[256];
  if (!emu_may_touch(address, 1, why, sizeof why))
    emu_fault(self, NULL, "prefetch is of global memory where it may not: %s", why);
}
