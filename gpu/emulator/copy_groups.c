/* The copy engine's stores, and the groups that threads wait for them in. A store is an event that reads shared memory, and then one that
 * writes global memory. */
#include "calls.h"
#include "copies.h"
#include "costs.h"

#include <string.h>

/* What the thread waits for has happened: of each store in those groups. */
static bool may_go_on(const struct emu_thread *thread) {
  const struct emu_stores *stores = thread->stores;
  for (const struct emu_copy *copy = thread->block->engine->copies; copy; copy = copy->next)
    if (copy->kind == STORE && copy->by == thread && copy->group <= stores->waits_for &&
        !(copy->was_read && stores->is_read_enough))
      return false;
  return true;
}

static void tell(struct emu_thread *thread) {
  if (thread->waiting == EMU_AT_STORES && may_go_on(thread)) emu_wake(thread, thread->block->cluster->now);
}

static void write_store(void *thing) {
  struct emu_copy *copy = thing;
  struct emu_thread *by = copy->by;
  if (copy->is_box)
    emu_box_store(&copy->box, copy->data);
  else
    memcpy(copy->global, copy->data, copy->bytes);
  emu_copy_finish(copy);
  tell(by);
}

static void read_store(void *thing) {
  struct emu_copy *copy = thing;
  if (copy->is_box)
    emu_box_read(&copy->box, copy->block->shared, copy->offset, copy->data);
  else
    memcpy(copy->data, copy->block->shared + copy->offset, copy->bytes);
  copy->was_read = true;
  emu_copy_later(copy, COST_STORE_WRITTEN, write_store);
  tell(copy->by);
}

/* The thread's, which belongs to those who store from now on; its next group is the store's. */
static struct emu_stores *stores_of(struct emu_thread *self) {
  struct emu_engine *engine = self->block->engine;
  if (!self->stores) {
    if (engine->storing_threads == EMU_MOST_STORES)
      emu_fault(self, NULL, "%s is by the block's thread number %d that stores by the copy engine; the emulator models %d",
                self->what, EMU_MOST_STORES + 1, EMU_MOST_STORES);
    self->stores = emu_allocate(1, sizeof *self->stores);
    self->stores->actor = emu_actor_of_stores(self->block, engine->storing_threads++);
  }
  self->stores->asked = self->stores->committed + 1;
  self->stores->where = self->where, self->stores->what = self->what;
  return self->stores;
}

static struct emu_copy *ask_for_store(struct emu_thread *self, unsigned offset, unsigned bytes) {
  struct emu_copy *copy = emu_copy_ask(self, STORE, self->block, offset, bytes, bytes);
  copy->group = self->stores->asked;
  emu_copy_take_turn(copy, COST_STORE_LATENCY, COST_COPY_BYTES);
  emu_copy_later(copy, copy->ends - self->now, read_store);
  return copy;
}

void emu_call_tma_store(const void *map, const void *from, int rank, const int at[3]) {
  struct emu_thread *self = emu_begin(rank == 2 ? "tma_store_2d" : "tma_store", __builtin_return_address(0), COST_COPY_ISSUE);
  struct emu_box box = emu_box_of(self, map, rank, at);
  for (int i = 0; i < rank; i++)
    if (at[i] < 0)
      emu_fault(self, NULL, "%s is to %d along dimension %d; a store begins within the tensor or behind it", self->what, at[i],
                i);
  unsigned offset = emu_shared_offset(self, "from", from, box.bytes, TENSOR_ALIGNMENT);
  emu_box_check_global(self, &box);
  const struct emu_stores *stores = stores_of(self);
  emu_box_shadow_read(&box, self, offset, stores->actor, stores->asked);
  struct emu_copy *copy = ask_for_store(self, offset, box.bytes);
  copy->is_box = true, copy->box = box;
}

void emu_call_bulk_store(void *to, const void *from, unsigned bytes) {
  struct emu_thread *self = emu_begin("bulk_store", __builtin_return_address(0), COST_COPY_ISSUE);
  unsigned offset = emu_shared_offset(self, "from", from, bytes, BULK_ALIGNMENT);
  emu_copy_check_bulk(self, "to", to, bytes);
  const struct emu_stores *stores = stores_of(self);
  emu_shadow_async_read(self->block, offset, bytes, stores->actor, stores->asked, self);
  ask_for_store(self, offset, bytes)->global = to;
}

/* A thread that has never stored has no groups, and nothing to wait for. */
void emu_call_bulk_commit(void) {
  struct emu_thread *self = emu_begin("bulk_commit", __builtin_return_address(0), COST_COPY_ISSUE);
  if (self->stores) self->stores->committed++;
}

void emu_call_bulk_wait(int pending, bool is_read_enough) {
  struct emu_thread *self =
      emu_begin(is_read_enough ? "bulk_wait_read" : "bulk_wait", __builtin_return_address(0), COST_COPY_ISSUE);
  struct emu_stores *stores = self->stores;
  if (!stores || stores->committed <= (uint32_t)pending) return;
  stores->waits_for = stores->committed - (uint32_t)pending;
  stores->is_read_enough = is_read_enough;
  if (!may_go_on(self)) {
    self->waiting = EMU_AT_STORES, self->waits_for = stores;
    emu_wait(self);
  }
  if (stores->waited < stores->waits_for) stores->waited = stores->waits_for;
  emu_learn(self, stores->actor, stores->waits_for);
}
