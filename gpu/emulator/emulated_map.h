/* The emulator's CUtensorMap: what its cuTensorMapEncodeTiled() packs and its copy engine reads. A real one is opaque, 128 bytes too.
 * Functions stand here, since the driver is also built without the rest of the emulator. */
#ifndef FG_EMULATED_MAP_H
#define FG_EMULATED_MAP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { EMU_MAP_BYTES = 128, EMU_MAP_ALIGNMENT = 64, EMU_MOST_RANK = 5 };
static const uint64_t emu_map_magic = 0x70616D2064657461; /* "ated map" */

/* Of what driver.h's enumerations number. */
enum { EMU_MAP_FLOAT16 = 6, EMU_MAP_FLOAT64 = 8, EMU_MAP_BFLOAT16 = 9, EMU_MAP_FLOAT32_FTZ = 10, EMU_MAP_TYPES = 13 };
enum { EMU_MAP_INTERLEAVE_32B = 2, EMU_MAP_SWIZZLE_32B = 1, EMU_MAP_SWIZZLE_128B = 3, EMU_MAP_PROMOTION_256B = 3 };

/* Dimension 0 is the one along a row: its elements are neighbours. */
struct emu_map {
  uint64_t magic;
  uint64_t address;
  uint64_t stride[EMU_MOST_RANK - 1]; /* in bytes, of dimensions 1 up */
  uint32_t last[EMU_MOST_RANK];       /* sizes, less 1 */
  uint16_t box[EMU_MOST_RANK];        /* in elements */
  uint8_t element_stride[EMU_MOST_RANK];
  uint8_t type, rank, interleave, swizzle, promotion, fill;
};
_Static_assert(sizeof(struct emu_map) <= EMU_MAP_BYTES, "a tensor map is opaque, but of a fixed size");

static inline unsigned emu_map_element_bytes(unsigned type) {
  static const uint8_t bytes[EMU_MAP_TYPES] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
  return bytes[type];
}

/* What the copy engine swizzles: pieces of 16 bytes, in rows of so many. 0: nothing. */
static inline unsigned emu_map_swizzle_bytes(unsigned swizzle) { return swizzle ? 16u << swizzle : 0; }

/* Where the byte that would lie at this address of shared memory lies after swizzling, by the copy engine or for the tensor core: bits
 * 4 to 6, as many as pieces in a row take, are those that they are XOR bits 7 to 9. */
static inline unsigned emu_swizzle(unsigned address, unsigned swizzle_bytes) {
  unsigned mask = swizzle_bytes ? swizzle_bytes / 16 - 1 : 0;
  return address ^ (address >> 7 & mask) << 4;
}

/* Packs a map, `to` 128 bytes. Arguments are cuTensorMapEncodeTiled()'s, in its order; false where one breaks a rule that the driver's
 * reference gives for it on Hopper, and then `to` is untouched. */
static inline bool emu_map_pack(void *to, unsigned type, unsigned rank, const void *address, const uint64_t *sizes,
                                const uint64_t *strides, const uint32_t *box, const uint32_t *element_strides,
                                unsigned interleave, unsigned swizzle, unsigned promotion, unsigned fill) {
  if (!to || (uintptr_t)to % EMU_MAP_ALIGNMENT || rank < 1 || rank > EMU_MOST_RANK || !sizes || (rank > 1 && !strides) || !box ||
      !element_strides)
    return false;
  if (type >= EMU_MAP_TYPES || interleave > EMU_MAP_INTERLEAVE_32B || swizzle > EMU_MAP_SWIZZLE_128B ||
      promotion > EMU_MAP_PROMOTION_256B || fill > 1)
    return false;
  bool is_float = (type >= EMU_MAP_FLOAT16 && type <= EMU_MAP_FLOAT64) || type >= EMU_MAP_BFLOAT16;
  unsigned grain = interleave == EMU_MAP_INTERLEAVE_32B ? 32 : 16, row_bytes = box[0] * emu_map_element_bytes(type);
  if (!address || (uintptr_t)address % grain || (fill && !is_float)) return false;
  for (unsigned i = 0; i < rank; i++) {
    if (sizes[i] < 1 || sizes[i] > UINT64_C(1) << 32 || box[i] < 1 || box[i] > 256) return false;
    if (element_strides[i] < 1 || element_strides[i] > 8) return false;
    if (i + 1 < rank && (strides[i] % grain || strides[i] >= UINT64_C(1) << 40)) return false;
  }
  if (interleave ? rank < 3 || (interleave == EMU_MAP_INTERLEAVE_32B && swizzle != EMU_MAP_SWIZZLE_32B)
                 : row_bytes % 16 || (swizzle && row_bytes > emu_map_swizzle_bytes(swizzle)))
    return false;
  struct emu_map map = {.magic = emu_map_magic, .address = (uintptr_t)address};
  map.type = (uint8_t)type, map.rank = (uint8_t)rank, map.interleave = (uint8_t)interleave, map.swizzle = (uint8_t)swizzle;
  map.promotion = (uint8_t)promotion, map.fill = (uint8_t)fill;
  for (unsigned i = 0; i < rank; i++) {
    map.last[i] = (uint32_t)(sizes[i] - 1);
    map.box[i] = (uint16_t)box[i];
    map.element_stride[i] = (uint8_t)element_strides[i];
    if (i + 1 < rank) map.stride[i] = strides[i];
  }
  memset(to, 0, EMU_MAP_BYTES);
  memcpy(to, &map, sizeof map);
  return true;
}

/* False: these 128 bytes are no tensor map. */
static inline bool emu_map_unpack(const void *from, struct emu_map *map) {
  memcpy(map, from, sizeof *map);
  return map->magic == emu_map_magic && map->rank >= 1 && map->rank <= EMU_MOST_RANK && map->type < EMU_MAP_TYPES;
}

#endif
