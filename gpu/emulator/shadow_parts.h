/* What shadow.c knows, for shadow_faults.c to put into words. */
#ifndef FG_SHADOW_PARTS_H
#define FG_SHADOW_PARTS_H

#include "emulator.h"

/* That an actor did something, in which of its epochs, and where in the kernel it was asked for: the number of a site, 0 if unknown. */
struct event {
  uint32_t epoch;
  uint16_t actor, site;
};

/* What a thread stored, what the copy engine writes and has written, what copies write that threads ask for themselves and have. */
enum fate { FRESH, STORED, UNDER_WAY, LANDED, COPYING, COPIED, MBARRIER };

/* Some bytes in a row that had the same fate: who wrote them last, and who has read them since, once each. */
struct cell {
  struct event write;
  struct event *reads; /* [read_room] */
  uint16_t read_count, read_room;
  uint8_t fate;
};

/* An access to come, asked for by so many threads together, `first` and those after it. `event` is what it will leave in the cells. */
struct access {
  struct emu_block *block;
  const struct emu_thread *first;
  unsigned threads;
  bool is_async, is_write;
  enum fate fate; /* of what it writes */
  struct event event;
};

const void *emu_shadow_site(const struct emu_shadow *shadow, unsigned site);

/* shadow_faults.c: why the access may not be. `thread` is the one of those asking that does not know. */
_Noreturn void emu_fault_of_bounds(const struct access *access, unsigned offset, unsigned bytes);
_Noreturn void emu_fault_of_write(const struct access *access, const struct emu_thread *thread, unsigned byte,
                                  const struct cell *cell);
_Noreturn void emu_fault_of_read(const struct access *access, const struct emu_thread *thread, unsigned byte, struct event read);

#endif
