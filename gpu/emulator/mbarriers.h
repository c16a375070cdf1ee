/* What mbarriers.c and mbarrier_words.c share. */
#ifndef FG_MBARRIERS_H
#define FG_MBARRIERS_H

#include "emulator.h"

struct emu_mbarrier {
  struct emu_block *block;
  unsigned offset;
  unsigned count, pending; /* arrivals of a phase, and those that this one misses */
  long long bytes;         /* announced and not landed; less than 0: landed and not announced */
  unsigned phase;          /* from 0 up */
  emu_time began;

  const struct emu_thread *initialised_by;
  const void *initialised_at;
  uint32_t initialised, fenced;          /* when, in epochs of that thread; fenced 0: not yet */
  const struct emu_thread *announced_by; /* the last that announced bytes, or initialised it */
  const void *announced_at;

  /* What those knew who arrived in this phase or before; and up to the end of the one before this. [0] for all that wait, [1] of other
   * blocks' threads, which only mbarrier_wait_cluster() asks for. */
  struct emu_knowledge arriving[2], ended[2];
  uint32_t *arrived;              /* [actors.threads] the last phase in which a thread arrived, + 1 */
  unsigned waking;                /* threads that were told that the phase before has ended, and do not yet know */
  const struct emu_thread *woken; /* the last of them */
};

/* mbarrier_words.c */
struct emu_words {
  char text[1024];
};
/* "the mbarrier at byte 512, initialised at lessons/07_tma.cu(31)" */
struct emu_words emu_mbarrier_name(const struct emu_mbarrier *barrier);
/* "the mbarrier ..., in phase 3, which still misses 1 of 2 arrivals and 2048 bytes" */
struct emu_words emu_mbarrier_state(const struct emu_mbarrier *barrier);

#endif
