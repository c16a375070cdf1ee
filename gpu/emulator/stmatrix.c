/* stmatrix: what the threads of a warp have of four 8x8 matrices of 16 bits goes to shared memory, by ordinary means. */
#include "calls.h"
#include "costs.h"
#include "engines.h"

#include <string.h>

enum { MATRICES = 4, SIDE = 8, ROW_BYTES = SIDE * 2 };

/* Thread t has row t / 4, columns t % 4 * 2 and the next, which is in the upper half. */
static uint16_t element(const struct emu_matrix_row *threads, unsigned matrix, unsigned row, unsigned col) {
  return (uint16_t)(threads[row * 4 + col / 2].m[matrix] >> col % 2 * 16);
}

/* Each row is stored by the thread that said where it is. */
static void store(struct emu_thread *first, bool transposed) {
  struct emu_block *block = first->block;
  const struct emu_matrix_row *threads = &block->engine->rows[first->index];
  for (unsigned i = 0; i < MATRICES * SIDE; i++) {
    uint16_t row[SIDE];
    for (unsigned col = 0; col < SIDE; col++)
      row[col] = transposed ? element(threads, i / SIDE, col, i % SIDE) : element(threads, i / SIDE, i % SIDE, col);
    emu_shadow_access(block, threads[i].offset, ROW_BYTES, true, first + i);
    memcpy(block->shared + threads[i].offset, row, ROW_BYTES);
  }
}

void emu_call_stmatrix(void *row, const unsigned m[4], bool transposed) {
  const char *what = transposed ? "stmatrix_transposed" : "stmatrix";
  struct emu_thread *self = emu_begin(what, __builtin_return_address(0), COST_STMATRIX);
  struct emu_block *block = self->block;
  unsigned first = self->index / EMU_WARP * EMU_WARP;
  if (first + EMU_WARP > block->thread_count)
    emu_fault(self, NULL, "%s is by a warp of %d threads; that from thread %u on has %u", what, EMU_WARP, first,
              block->thread_count - first);
  block->engine->rows[self->index] = (struct emu_matrix_row){emu_shared_offset(self, "row", row, ROW_BYTES, ROW_BYTES), m};
  if (!emu_meet(self, EMU_WARP)) return;
  store(&block->threads[first], transposed);
  emu_meeting_over(self, EMU_WARP);
}
