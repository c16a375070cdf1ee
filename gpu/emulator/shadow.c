/* What is known of each byte of a block's shared memory: who wrote it last and who has read it since. An access may go on if the
 * thread knows (clocks.c) of those that it must come after; else it races with them, however the schedule went this time. So every
 * race is found whose two accesses happen at all (Flanagan and Freund, "FastTrack", 2009), and the first of them is reported.
 *
 * Bytes that had the same fate share a cell. Cells lie within granules of 16 bytes, the least that the copy engine and the tensor
 * core touch; one is split where an access covers only a part of it, and a write of the whole granule makes it one again. */
#include "shadow_parts.h"

#include <stdlib.h>
#include <string.h>

enum { GRANULE = 16, SITES = 8192, MOST_PROBES = 32, LEAST_READS = 3 }; /* LEAST_READS: what malloc gives at the least */

struct emu_shadow {
  struct cell *cells; /* [bytes of shared memory], of which that of the bytes from i on is cells[i]: most are never touched */
  uint16_t *begins;   /* [granules] bit i: a cell begins at the granule's byte i. 0: no access yet, one cell, fresh */
  unsigned granules;
  const void *sites[SITES]; /* a hash table of places in the kernel; 0 stands for none */
  /* The last event that was found to be known, and fenced, to so many threads from `first` on: a tile has many cells, but few
   * events. */
  struct event known;
  const struct emu_thread *first;
  unsigned threads;
};

struct emu_shadow *emu_shadow_make(struct emu_block *block) {
  struct emu_shadow *shadow = emu_allocate(1, sizeof *shadow);
  shadow->granules = block->shared_bytes / GRANULE + 1;
  shadow->begins = emu_allocate(shadow->granules, sizeof *shadow->begins);
  shadow->cells = emu_allocate((size_t)shadow->granules * GRANULE, sizeof *shadow->cells);
  if (block->shared_bytes) memset(block->shared, 0xFF, block->shared_bytes); /* NaN in FP8, 16 bits and FP32 */
  return shadow;
}

void emu_shadow_free(struct emu_shadow *shadow) {
  if (!shadow) return;
  for (unsigned i = 0; i < shadow->granules * GRANULE; i++)
    if (shadow->begins[i / GRANULE])
      free(shadow->cells[i].reads); /* what was split once may have reads, also if it is one again */
  free(shadow->cells);
  free(shadow->begins);
  free(shadow);
}

/* A number for a place in the kernel, since an event has no room for an address. Where the table is full the place stays unknown. */
static uint16_t number_site(struct emu_shadow *shadow, const void *where) {
  uint64_t hash = (uint64_t)(uintptr_t)where * 0x9E3779B97F4A7C15u >> 40;
  for (unsigned i = 0; where && i < MOST_PROBES; i++) {
    unsigned site = (unsigned)(hash + i) % (SITES - 1) + 1;
    if (!shadow->sites[site]) shadow->sites[site] = where;
    if (shadow->sites[site] == where) return (uint16_t)site;
  }
  return 0;
}

const void *emu_shadow_site(const struct emu_shadow *shadow, unsigned site) { return shadow->sites[site]; }

/* --- Cells */

/* A cell's reads move to an array of so many. */
static void enlarge(struct cell *cell, unsigned room) {
  struct event *reads = emu_allocate(room, sizeof *reads);
  if (cell->read_count) memcpy(reads, cell->reads, cell->read_count * sizeof *reads);
  free(cell->reads);
  cell->reads = reads;
  cell->read_room = (uint16_t)room;
}

/* From now on a cell begins at byte `at`. */
static void split(struct emu_shadow *shadow, unsigned at) {
  uint16_t *begins = &shadow->begins[at / GRANULE];
  unsigned bit = at % GRANULE;
  *begins |= 1;
  if (*begins >> bit & 1) return;
  unsigned before = *begins & ((1u << bit) - 1);
  const struct cell *whole = &shadow->cells[at - bit + 31 - (unsigned)__builtin_clz(before)];
  struct cell *part = &shadow->cells[at];
  if (part->read_room < whole->read_count) enlarge(part, whole->read_room);
  if (whole->read_count) memcpy(part->reads, whole->reads, whole->read_count * sizeof *part->reads);
  part->read_count = whole->read_count;
  part->write = whole->write;
  part->fate = whole->fate;
  *begins |= (uint16_t)(1u << bit);
}

/* Cells begin at the range's begin and after its end. */
static void split_range(struct emu_shadow *shadow, unsigned begin, unsigned end) {
  split(shadow, begin);
  if (end % GRANULE) split(shadow, end);
}

/* Where the cell after that at byte `at` begins. */
static unsigned next(const struct emu_shadow *shadow, unsigned at) {
  unsigned after = (unsigned)shadow->begins[at / GRANULE] >> at % GRANULE >> 1;
  return after ? at + 1 + (unsigned)__builtin_ctz(after) : at / GRANULE * GRANULE + GRANULE;
}

/* --- What is known */

/* The first of the access's threads that does not know of the event, or (is_fenced) not that it is there for the async proxy; or
 * NULL. Clocks only grow: what all know they know for ever. */
static const struct emu_thread *ignorant(const struct access *access, struct event event, bool is_fenced) {
  struct emu_shadow *shadow = access->block->shadow;
  if (shadow->first == access->first && shadow->threads >= access->threads && shadow->known.actor == event.actor &&
      shadow->known.epoch == event.epoch)
    return NULL;
  for (const struct emu_thread *thread = access->first; thread < access->first + access->threads; thread++)
    if (!emu_knows(thread, event.actor, event.epoch) || (is_fenced && thread->fenced.at[event.actor] < event.epoch))
      return thread;
  if (access->threads > 1) {
    shadow->first = access->first;
    shadow->threads = access->threads;
    shadow->known = event;
  }
  return NULL;
}

/* That the access may be after what was last written there. */
static void check_write(const struct access *access, unsigned byte, const struct cell *cell) {
  if (cell->fate == FRESH && access->is_write) return;
  const struct emu_thread *thread = access->first;
  if (cell->fate == LANDED || cell->fate == STORED || (cell->fate == COPIED && !access->is_async))
    thread = ignorant(access, cell->write, access->is_async && cell->fate == STORED);
  if (thread) emu_fault_of_write(access, thread, byte, cell);
}

static void write(const struct access *access, unsigned byte, struct cell *cell) {
  for (unsigned i = 0; i < cell->read_count; i++)
    if (!emu_knows(access->first, cell->reads[i].actor, cell->reads[i].epoch))
      emu_fault_of_read(access, access->first, byte, cell->reads[i]);
  cell->read_count = 0;
  cell->write = access->event;
  cell->fate = (uint8_t)access->fate;
}

/* Of each actor the last read is kept: who knows of it knows of those before. And a thread's read stands for all that it knows of; a
 * warpgroup's does not, as its threads know of different things. */
static void read(const struct access *access, struct cell *cell) {
  for (unsigned i = cell->read_count; i-- > 0;)
    if (cell->reads[i].actor == access->event.actor) {
      cell->reads[i] = access->event;
      return;
    }
  if (cell->read_count == cell->read_room) {
    unsigned kept = 0;
    for (unsigned i = 0; i < cell->read_count; i++)
      if (access->is_async || !emu_knows(access->first, cell->reads[i].actor, cell->reads[i].epoch))
        cell->reads[kept++] = cell->reads[i];
    cell->read_count = (uint16_t)kept;
    if (kept >= cell->read_room / 2) enlarge(cell, cell->read_room ? 2u * cell->read_room : LEAST_READS);
  }
  cell->reads[cell->read_count++] = access->event;
}

/* Checks the access and keeps in mind that it was. Bytes before the one at fault are taken to have been accessed: the launch ends. */
static void go_on(struct access *access, unsigned offset, unsigned bytes) {
  struct emu_shadow *shadow = access->block->shadow;
  unsigned size = access->block->shared_bytes, end = offset + bytes;
  if (bytes > size || offset > size - bytes) emu_fault_of_bounds(access, offset, bytes);
  if (!bytes) return;
  access->event.site = number_site(shadow, access->first->where);
  split_range(shadow, offset, end);
  for (unsigned at = offset; at < end; at = next(shadow, at)) {
    struct cell *cell = &shadow->cells[at];
    shadow->begins[at / GRANULE] |= 1;
    check_write(access, at, cell);
    if (access->is_write)
      write(access, at, cell);
    else
      read(access, cell);
  }
  if (access->is_write)
    for (unsigned i = (offset + GRANULE - 1) / GRANULE; i < end / GRANULE; i++) shadow->begins[i] = 1;
}

/* --- Who comes */

/* What the thread does by itself happens in its present epoch, which its next release or fence ends. */
static struct event now(const struct emu_thread *by) {
  return (struct event){.epoch = by->clock.at[by->actor] + 1, .actor = (uint16_t)by->actor};
}

void emu_shadow_access(struct emu_block *block, unsigned offset, unsigned bytes, bool is_write, struct emu_thread *by) {
  go_on(&(struct access){block, by, 1, false, is_write, STORED, now(by)}, offset, bytes);
}

void emu_shadow_reserve(struct emu_block *block, unsigned offset, unsigned bytes) {
  const struct emu_thread *by = emu_self();
  go_on(&(struct access){block, by, 1, false, true, MBARRIER, now(by)}, offset, bytes);
}

void emu_shadow_async_read_by(struct emu_block *block, unsigned offset, unsigned bytes, unsigned actor, uint32_t epoch,
                              struct emu_thread *first, unsigned threads) {
  struct event event = {.epoch = epoch, .actor = (uint16_t)actor};
  go_on(&(struct access){block, first, threads, true, false, FRESH, event}, offset, bytes);
}

void emu_shadow_async_read(struct emu_block *block, unsigned offset, unsigned bytes, unsigned actor, uint32_t epoch,
                           struct emu_thread *by) {
  emu_shadow_async_read_by(block, offset, bytes, actor, epoch, by, 1);
}

void emu_shadow_async_write(struct emu_block *block, unsigned offset, unsigned bytes, unsigned actor, uint32_t epoch,
                            struct emu_thread *by) {
  struct event event = {.epoch = epoch, .actor = (uint16_t)actor};
  go_on(&(struct access){block, by, 1, true, true, UNDER_WAY, event}, offset, bytes);
}

void emu_shadow_landed(struct emu_block *block, unsigned offset, unsigned bytes) {
  struct emu_shadow *shadow = block->shadow;
  split_range(shadow, offset, offset + bytes);
  for (unsigned at = offset; at < offset + bytes; at = next(shadow, at)) shadow->cells[at].fate = LANDED;
}

void emu_shadow_copy(struct emu_block *block, unsigned offset, unsigned bytes, struct emu_thread *by) {
  go_on(&(struct access){block, by, 1, false, true, COPYING, now(by)}, offset, bytes);
}

void emu_shadow_copied(struct emu_block *block, unsigned offset, unsigned bytes, unsigned actor, uint32_t epoch) {
  struct emu_shadow *shadow = block->shadow;
  split_range(shadow, offset, offset + bytes);
  for (unsigned at = offset; at < offset + bytes; at = next(shadow, at)) {
    struct cell *cell = &shadow->cells[at];
    cell->fate = COPIED;
    cell->write.actor = (uint16_t)actor, cell->write.epoch = epoch;
  }
}
