/* Registers handed over between warpgroups. A block has a pool of them: what its threads were launched with, of which some are given
 * back. Who takes more than there are waits, on the chip as here: numbers that do not add up are a deadlock. PTX ISA, setmaxnreg. */
#include "calls.h"
#include "costs.h"
#include "gates.h"

#include <stdio.h>

/* Between two changes the warps of a warpgroup must have met. */
static void check_synchronised(struct emu_thread *self, const struct emu_thread *threads, const uint32_t *epochs) {
  for (unsigned i = 0; i < EMU_WARPGROUP; i++)
    for (unsigned j = 0; j < EMU_WARPGROUP; j++)
      if (i / EMU_WARP != j / EMU_WARP && !emu_knows(&threads[i], threads[j].actor, epochs[j]))
        emu_fault(self, NULL, "%s comes a second time, and the warps of the warpgroup have not met at a barrier since the first",
                  self->what);
}

/* Each of the warpgroup has so many from now on, and goes on. */
static void change(struct emu_block *block, unsigned warpgroup, unsigned count, emu_time at, const struct emu_thread *self) {
  for (unsigned i = warpgroup * EMU_WARPGROUP; i < (warpgroup + 1) * EMU_WARPGROUP; i++) {
    struct emu_thread *thread = &block->threads[i];
    block->gates->registers_free += (long long)thread->registers - count;
    block->gates->registers_epoch[i] = thread->clock.at[thread->actor] + 1;
    thread->registers = count;
    if (thread != self) emu_wake(thread, at);
  }
  block->gates->registers_taken[warpgroup] = 0;
}

/* More than it has. */
static long long needed(const struct emu_block *block, unsigned warpgroup) {
  long long taken = block->gates->registers_taken[warpgroup];
  return EMU_WARPGROUP * (taken - block->threads[warpgroup * EMU_WARPGROUP].registers);
}

void emu_call_registers(int count, bool gives) {
  const char *what = gives ? "registers_give" : "registers_take";
  struct emu_thread *self = emu_begin(what, __builtin_return_address(0), COST_REGISTERS);
  struct emu_block *block = self->block;
  struct emu_gates *gates = block->gates;
  unsigned warpgroup = self->index / EMU_WARPGROUP;
  if (count < 24 || count > 256 || count % 8)
    emu_fault(self, NULL, "%s(%d): a thread has a multiple of 8 registers from 24 to 256", what, count);
  if (gives ? (unsigned)count > self->registers : (unsigned)count < self->registers)
    emu_fault(self, NULL, "%s(%d) where the thread has %u: it must not %s the number", what, count, self->registers,
              gives ? "raise" : "lower");
  if (!emu_come(self, EMU_WARPGROUP, EMU_ALL, (unsigned)count, true)) {
    emu_wait_for(self, EMU_AT_REGISTERS, NULL);
    return;
  }
  check_synchronised(self, &block->threads[warpgroup * EMU_WARPGROUP], &gates->registers_epoch[warpgroup * EMU_WARPGROUP]);
  emu_part(self, EMU_WARPGROUP);
  gates->registers_taken[warpgroup] = (unsigned)count;
  if (needed(block, warpgroup) > gates->registers_free) {
    emu_wait_for(self, EMU_AT_REGISTERS, NULL);
    return;
  }
  change(block, warpgroup, (unsigned)count, self->now, self);
  for (unsigned i = 0; i < block->thread_count / EMU_WARPGROUP; i++)
    if (gates->registers_taken[i] && needed(block, i) <= gates->registers_free)
      change(block, i, gates->registers_taken[i], self->now, NULL);
}

void emu_registers_describe(const struct emu_thread *waiting, char *text, size_t bytes) {
  const struct emu_gates *gates = waiting->block->gates;
  unsigned warpgroup = waiting->index / EMU_WARPGROUP;
  snprintf(text, bytes,
           "%u registers for each thread of its warpgroup: that is %lld more, and of what others gave back %lld are left",
           gates->registers_taken[warpgroup], needed(waiting->block, warpgroup), gates->registers_free);
}
