/* What kernels call: the table, and those functions that are about memory of any kind, and about time. */
#include "calls.h"

#include "costs.h"
#include "load_image.h"
#include "scheduler.h"

#include <inttypes.h>

enum { ACCESSES_BETWEEN_TURNS = 32 }; /* with a seed, on average: then another thread may come first */

struct emu_view *emu_call_view(void) {
  return &emu_self()->view;
}

/* Of a pointer that is to no memory of this thread's: nobody's, a peer's, another thread's, or of the launch's global memory? */
static void check_elsewhere(struct emu_thread *self, uintptr_t at, unsigned bytes, bool is_write) {
  const struct emu_scheduler *scheduler = emu_scheduler;
  const struct emu_image *image = scheduler->run->launch->image;
  const char *verb = is_write ? "writes" : "reads";
  if (at - (uintptr_t)scheduler->shared < scheduler->shared_bytes)
    emu_fault(self, NULL, "%s %u bytes at byte %" PRIdPTR " of shared memory, of which the block has %u", verb, bytes,
              (intptr_t)(at - (uintptr_t)self->block->shared), self->block->shared_bytes);
  if (at - (uintptr_t)scheduler->stacks < scheduler->stacks_bytes)
    emu_fault(self, NULL, "%s %u bytes of another thread's own variables", verb, bytes);
  if (image && at >= image->base && at < image->end) {
    if (is_write) emu_fault(self, NULL, "writes %u bytes of a variable that belongs to no thread, which is not modelled", bytes);
    return;
  }
  char why[256];
  if (!emu_may_touch((const void *)at, bytes, why, sizeof why))
    emu_fault(self, NULL, "%s %u bytes where it may not: %s", verb, bytes, why);
}

static void access_from(const void *where, const void *address, unsigned bytes, bool is_write) {
  struct emu_thread *self = emu_self();
  struct emu_fibre *fibre = self->fibre;
  struct emu_block *block = self->block;
  uintptr_t at = (uintptr_t)address, in_shared = at - (uintptr_t)block->shared;
  self->where = where;
  if (at - (uintptr_t)fibre->stack < FIBRE_BYTES) { /* registers, on the chip */
    emu_check_accumulators(self, address, bytes, is_write);
    return;
  }
  fibre->owed += in_shared < block->shared_bytes ? COST_SHARED : COST_GLOBAL;
  if (emu_scheduler->run->launch->seed && emu_draw(block->cluster, ACCESSES_BETWEEN_TURNS) == 0) emu_spend(self, emu_owed(self));
  if (in_shared < block->shared_bytes)
    emu_shadow_access(block, (unsigned)in_shared, bytes, is_write, self);
  else
    check_elsewhere(self, at, bytes, is_write);
}

void emu_call_access(const void *address, unsigned bytes, bool is_write) {
  access_from(__builtin_return_address(0), address, bytes, is_write);
}

/* A GPU has registers in place of the stack, where this machine's compiler aligns and merges as it likes. */
void emu_call_misaligned(const void *address, unsigned bytes, bool is_write) {
  struct emu_thread *self = emu_self();
  const void *where = __builtin_return_address(0);
  if ((uintptr_t)address - (uintptr_t)self->fibre->stack >= FIBRE_BYTES)
    emu_fault(self, where, "%s %u bytes at %p, which is no multiple of %u: a misaligned address on a GPU",
              is_write ? "writes" : "reads", bytes, address, bytes);
  access_from(where, address, bytes, is_write);
}

void emu_call_step(void) {
  struct emu_thread *self = emu_self();
  if ((unsigned char *)__builtin_frame_address(0) < self->fibre->stack + FIBRE_SPARE_BYTES)
    emu_fault(self, __builtin_return_address(0), "the thread's calls and variables take more than %d bytes", FIBRE_STACK_BYTES);
  if (++self->steps < self->fibre->next_look) return;
  emu_look(self, __builtin_return_address(0));
  emu_spend(self, emu_owed(self));
}

unsigned emu_call_atomic_add(unsigned *address, unsigned value) {
  struct emu_thread *self = emu_begin("atomic_add", __builtin_return_address(0), COST_ATOMIC);
  uintptr_t in_shared = (uintptr_t)address - (uintptr_t)self->block->shared;
  if (in_shared < self->block->shared_bytes) emu_fault(self, NULL, "atomic_add in shared memory, which is not modelled");
  check_elsewhere(self, (uintptr_t)address, sizeof *address, true);
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}

void emu_call_threadfence(void) {
  emu_begin("threadfence", __builtin_return_address(0), COST_FENCE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void emu_call_no_result(long index, const char *array) {
  if (!array) emu_fault(emu_self(), __builtin_return_address(0), "a division by zero");
  emu_fault(emu_self(), __builtin_return_address(0), "an index beyond its array: %ld, of %s", index, array);
}

void emu_call_not_modelled(const char *what) {
  emu_fault(emu_self(), __builtin_return_address(0), "%s, which is not modelled", what);
}

const struct emu_calls emu_calls_table = {
#define CALL(name) .name = emu_call_##name
    CALL(view),
    CALL(access),
    CALL(step),
    CALL(misaligned),
    CALL(sync_threads),
    CALL(sync_warp),
    CALL(shuffle),
    CALL(ballot),
    CALL(elect),
    CALL(named_barrier),
    CALL(registers),
    CALL(stmatrix),
    CALL(mbarrier_init),
    CALL(fence_mbarrier_init),
    CALL(mbarrier_arrive),
    CALL(mbarrier_arrive_cluster),
    CALL(mbarrier_wait),
    CALL(mbarrier_test),
    CALL(fence_proxy_async),
    CALL(tma_prefetch),
    CALL(tma_load),
    CALL(tma_store),
    CALL(bulk_load),
    CALL(bulk_store),
    CALL(bulk_send),
    CALL(bulk_commit),
    CALL(bulk_wait),
    CALL(copy_four_bytes),
    CALL(mbarrier_arrive_when_copied),
    CALL(prefetch),
    CALL(shared_address),
    CALL(wgmma_fence),
    CALL(wgmma),
    CALL(wgmma_commit),
    CALL(wgmma_wait),
    CALL(cluster_arrive),
    CALL(cluster_wait),
    CALL(remote),
    CALL(atomic_add),
    CALL(threadfence),
    CALL(no_result),
    CALL(not_modelled),
#undef CALL
};
