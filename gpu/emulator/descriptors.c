#include "engines.h"

#include <inttypes.h>

enum { ROWS_TOGETHER = 8, HALVES = EMU_PRODUCT_K / EMU_PIECE };

/* Fields of 14 bits count 16 bytes. */
static unsigned field(uint64_t descriptor, int bit) { return (unsigned)(descriptor >> bit & 0x3FFF) * EMU_PIECE; }

struct emu_operand emu_operand_of(const struct emu_thread *thread, const char *name, uint64_t descriptor, unsigned rows) {
  static const unsigned swizzles[] = {0, 128, 64, 32};
  const uint64_t meaningless = UINT64_C(3) << 14 | UINT64_C(3) << 30 | UINT64_C(7) << 46 | UINT64_C(0x3FF) << 52;
  if (descriptor & meaningless)
    emu_fault(thread, NULL, "wgmma_mma's descriptor of %s, 0x%016" PRIx64 ", has bits set that mean nothing", name, descriptor);
  if (descriptor >> 49 & 7)
    emu_fault(thread, NULL,
              "wgmma_mma's descriptor of %s, 0x%016" PRIx64
              ", has a base offset, which the emulator does not model: let the swizzle's "
              "eight rows begin at a multiple of their size",
              name, descriptor);
  struct emu_operand operand = {
      .address = field(descriptor, 0), .leading = field(descriptor, 16), .stride = field(descriptor, 32)};
  operand.swizzle_bytes = swizzles[descriptor >> 62];
  operand.rows = rows;
  unsigned eight = ROWS_TOGETHER * operand.swizzle_bytes;
  if (eight && operand.address % eight + EMU_PRODUCT_K > operand.swizzle_bytes)
    emu_fault(
        thread, NULL,
        "wgmma_mma's descriptor of %s begins at byte %u of shared memory, %u bytes after a multiple of %u: with a swizzle of %u "
        "bytes, eight rows begin there, and a tile within the first of them, %d bytes before its end at least",
        name, operand.address, operand.address % eight, eight, operand.swizzle_bytes, EMU_PRODUCT_K);
  if (eight && operand.stride % eight != 0)
    emu_fault(
        thread, NULL,
        "wgmma_mma's descriptor of %s says that the next eight rows begin %u bytes further; with a swizzle of %u bytes that is a "
        "multiple of %u",
        name, operand.stride, operand.swizzle_bytes, eight);
  for (unsigned row = 0; row < rows; row++)
    for (unsigned half = 0; half < HALVES; half++) {
      unsigned at = emu_operand_piece(&operand, row, half);
      if (at + EMU_PIECE > thread->block->shared_bytes)
        emu_fault(thread, NULL,
                  "wgmma_mma's descriptor of %s leads to byte %u of shared memory for row %u; the block has %u bytes", name, at,
                  row, thread->block->shared_bytes);
    }
  return operand;
}

unsigned emu_operand_piece(const struct emu_operand *operand, unsigned row, unsigned half) {
  unsigned eight = operand->address + row / ROWS_TOGETHER * operand->stride, in_eight = row % ROWS_TOGETHER;
  if (!operand->swizzle_bytes) return eight + half * operand->leading + in_eight * EMU_PIECE;
  return emu_swizzle(eight + in_eight * operand->swizzle_bytes + half * EMU_PIECE, operand->swizzle_bytes);
}
