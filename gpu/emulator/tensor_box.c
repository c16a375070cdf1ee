/* A box of a tensor: rows along x, then along y, then z, which follow each other in shared memory. */
#include "engines.h"

#include <string.h>

enum { MOST_ROW_BYTES = 256 * 8, X = 0, Y, Z };

/* A kernel that hands on a copy of its parameter makes the copy engine read what it cannot reach. */
static void check_map_address(struct emu_thread *thread, const void *map) {
  char why[256];
  if ((uintptr_t)map % EMU_MAP_ALIGNMENT != 0)
    emu_fault(thread, NULL, "the tensor map is at %p; it is at a multiple of %d", map, EMU_MAP_ALIGNMENT);
  if (!emu_is_argument(thread, map, EMU_MAP_BYTES) && !emu_may_touch(map, EMU_MAP_BYTES, why, sizeof why))
    emu_fault(thread, NULL,
              "the tensor map at %p is neither in the kernel's parameter nor in global memory, where alone the copy engine reads "
              "maps; a thread's own copy will not do",
              map);
}

static void refuse_map(struct emu_thread *thread, const struct emu_map *map) {
  if (map->interleave) emu_fault(thread, NULL, "the tensor map is interleaved, which the emulator does not model");
  if (map->fill) emu_fault(thread, NULL, "the tensor map fills with NaN what lies outside, which the emulator does not model");
  if (map->type >= EMU_MAP_FLOAT32_FTZ)
    emu_fault(thread, NULL, "the tensor map's type %d changes numbers on their way, which the emulator does not model",
              map->type);
  for (int i = 1; i < map->rank; i++) /* that of x is ignored */
    if (map->element_stride[i] != 1)
      emu_fault(thread, NULL, "the tensor map takes one element of %d along dimension %d, which the emulator does not model",
                map->element_stride[i], i);
  unsigned row_bytes = map->box[X] * emu_map_element_bytes(map->type), swizzle_bytes = emu_map_swizzle_bytes(map->swizzle);
  if (swizzle_bytes && row_bytes != swizzle_bytes)
    emu_fault(
        thread, NULL,
        "the tensor map's boxes have rows of %u bytes and a swizzle of %u; the emulator models a swizzle that is as wide as a row",
        row_bytes, swizzle_bytes);
}

struct emu_box emu_box_of(struct emu_thread *thread, const void *map, int rank, const int at[3]) {
  struct emu_box box = {.rows = 1};
  check_map_address(thread, map);
  if (!emu_map_unpack(map, &box.map)) emu_fault(thread, NULL, "what is at %p is no tensor map", map);
  if (rank == 0) return box;
  if (box.map.rank != rank)
    emu_fault(thread, NULL, "the tensor map has %d dimensions, and the copy is one of %d", box.map.rank, rank);
  refuse_map(thread, &box.map);
  for (int i = 0; i < rank; i++) box.at[i] = at[i];
  if (at[X] * (int64_t)emu_map_element_bytes(box.map.type) % EMU_PIECE != 0)
    emu_fault(thread, NULL, "%s begins at element %d along a row; the copy engine begins at a multiple of %d bytes", thread->what,
              at[X], EMU_PIECE);
  for (int i = 1; i < rank; i++) box.rows *= box.map.box[i];
  box.element_bytes = emu_map_element_bytes(box.map.type);
  box.row_bytes = box.map.box[X] * box.element_bytes;
  box.bytes = box.rows * box.row_bytes;
  box.swizzle_bytes = emu_map_swizzle_bytes(box.map.swizzle);
  return box;
}

/* What of a row of the box lies in the tensor: `bytes`, from `begin` in the row on. */
struct part {
  unsigned char *global;
  unsigned begin, bytes;
};

static struct part part_of(const struct emu_box *box, unsigned row) {
  const struct emu_map *map = &box->map;
  int64_t y = box->at[Y] + row % map->box[Y], z = box->at[Z] + row / map->box[Y];
  if (y < 0 || y > map->last[Y] || (map->rank == 3 && (z < 0 || z > map->last[Z]))) return (struct part){NULL, 0, 0};
  int64_t from = box->at[X] < 0 ? -box->at[X] : 0, until = (int64_t)map->last[X] + 1 - box->at[X];
  if (until > map->box[X]) until = map->box[X];
  if (from >= until) return (struct part){NULL, 0, 0};
  uint64_t address = map->address + (uint64_t)y * map->stride[0] + (uint64_t)(box->at[X] + from) * box->element_bytes;
  if (map->rank == 3) address += (uint64_t)z * map->stride[1];
  return (struct part){(unsigned char *)(uintptr_t)address, (unsigned)from * box->element_bytes,
                       (unsigned)(until - from) * box->element_bytes};
}

void emu_box_check_global(struct emu_thread *thread, const struct emu_box *box) {
  char why[256];
  for (unsigned row = 0; row < box->rows; row++) {
    struct part part = part_of(box, row);
    if (part.bytes && !emu_may_touch(part.global, part.bytes, why, sizeof why))
      emu_fault(thread, NULL, "row %u of the box at (%d, %d, %d) lies in the tensor, but not in memory: %s", row, (int)box->at[X],
                (int)box->at[Y], (int)box->at[Z], why);
  }
}

/* Where a piece of a row is, of a box that begins at `offset`. */
static unsigned piece_at(const struct emu_box *box, unsigned offset, unsigned row, unsigned in_row) {
  return emu_swizzle(offset + row * box->row_bytes + in_row, box->swizzle_bytes);
}

void emu_box_load(const struct emu_box *box, unsigned char *shared, unsigned offset) {
  for (unsigned row = 0; row < box->rows; row++) {
    unsigned char bytes[MOST_ROW_BYTES] = {0};
    struct part part = part_of(box, row);
    if (part.bytes) memcpy(bytes + part.begin, part.global, part.bytes);
    for (unsigned at = 0; at < box->row_bytes; at += EMU_PIECE)
      memcpy(shared + piece_at(box, offset, row, at), bytes + at, EMU_PIECE);
  }
}

void emu_box_read(const struct emu_box *box, const unsigned char *shared, unsigned offset, unsigned char *data) {
  for (unsigned row = 0; row < box->rows; row++)
    for (unsigned at = 0; at < box->row_bytes; at += EMU_PIECE)
      memcpy(data + row * box->row_bytes + at, shared + piece_at(box, offset, row, at), EMU_PIECE);
}

void emu_box_store(const struct emu_box *box, const unsigned char *data) {
  for (unsigned row = 0; row < box->rows; row++) {
    struct part part = part_of(box, row);
    if (part.bytes) memcpy(part.global, data + row * box->row_bytes + part.begin, part.bytes);
  }
}

void emu_box_shadow_read(const struct emu_box *box, struct emu_thread *thread, unsigned offset, unsigned actor, uint32_t epoch) {
  uint64_t row_bytes = ((uint64_t)box->map.last[X] + 1) * box->element_bytes;
  if (box->at[X] + (int64_t)box->map.box[X] > (int64_t)box->map.last[X] + 1 && row_bytes % EMU_PIECE != 0)
    emu_fault(
        thread, NULL,
        "%s reaches beyond the tensor's row of %llu bytes, which does not end with a piece of %d: the copy engine fills that "
        "piece, and so writes beyond the row",
        thread->what, (unsigned long long)row_bytes, EMU_PIECE);
  for (unsigned row = 0; row < box->rows; row++) {
    struct part part = part_of(box, row);
    for (unsigned at = part.begin; at < part.begin + part.bytes;) {
      unsigned next = (at / EMU_PIECE + 1) * EMU_PIECE, end = part.begin + part.bytes;
      if (next > end) next = end;
      emu_shadow_async_read(thread->block, piece_at(box, offset, row, at), next - at, actor, epoch, thread);
      at = next;
    }
  }
}
