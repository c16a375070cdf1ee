/* What of the host's memory a launch may touch: what the driver has given away, and nothing beside it. */
#include "driver_parts.h"
#include "emulator.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

enum { RANGES = 8 };

/* Counts what the driver gives and takes: what was found before may be gone since. */
static atomic_uint_fast64_t changes = 1;

void emu_memory_changed(void) { atomic_fetch_add_explicit(&changes, 1, memory_order_release); }

/* Where this thread has lately found that it may: the driver's own list wants its mutex. */
static _Thread_local struct {
  uint64_t changes;
  struct range {
    uintptr_t begin, end;
  } ranges[RANGES];
  unsigned next;
} found;

static bool is_in(const struct range *range, uintptr_t at, size_t bytes) {
  return at >= range->begin && at < range->end && bytes <= range->end - at;
}

static bool may_touch(const struct memory *memory) { return memory->backing != MAPPED || memory->is_accessible; }

/* How far from the address the memory is. */
static uintptr_t distance(const struct memory *memory, uintptr_t at) {
  uintptr_t end = memory->begin + memory->bytes;
  return at < memory->begin ? memory->begin - at : at >= end ? at - end + 1 : 0;
}

static const struct memory *nearest(uintptr_t at) {
  const struct memory *best = NULL;
  for (const struct thing *thing = emu_driver.things; thing; thing = thing->next) {
    const struct memory *memory = (const struct memory *)thing;
    if (thing->kind == MEMORY && may_touch(memory) && (!best || distance(memory, at) < distance(best, at))) best = memory;
  }
  return best;
}

static void explain(const struct memory *memory, uintptr_t at, size_t bytes, char *why, size_t why_bytes) {
  if (!memory)
    snprintf(why, why_bytes, "there is no device memory at all");
  else if (at < memory->begin)
    snprintf(why, why_bytes, "%p is %" PRIuPTR " bytes before device memory of %zu bytes", (void *)at, memory->begin - at,
             memory->bytes);
  else if (at < memory->begin + memory->bytes)
    snprintf(why, why_bytes, "%zu bytes from byte %" PRIuPTR " of device memory of %zu bytes on reach beyond its end", bytes,
             at - memory->begin, memory->bytes);
  else
    snprintf(why, why_bytes, "%p is %" PRIuPTR " bytes behind the end of device memory of %zu bytes", (void *)at,
             at - memory->begin - memory->bytes, memory->bytes);
}

bool emu_may_touch(const void *address, size_t bytes, char *why, size_t why_bytes) {
  uintptr_t at = (uintptr_t)address;
  uint64_t now = atomic_load_explicit(&changes, memory_order_acquire);
  if (found.changes == now) {
    for (int i = 0; i < RANGES; i++)
      if (is_in(&found.ranges[i], at, bytes)) return true;
  } else {
    for (int i = 0; i < RANGES; i++) found.ranges[i] = (struct range){0, 0};
    found.changes = now;
  }
  driver_lock();
  const struct memory *memory = nearest(at);
  struct range range = memory ? (struct range){memory->begin, memory->begin + memory->bytes} : (struct range){0, 0};
  bool may = is_in(&range, at, bytes);
  if (!may) explain(memory, at, bytes, why, why_bytes);
  driver_unlock();
  if (may) found.ranges[found.next++ % RANGES] = range;
  return may;
}
