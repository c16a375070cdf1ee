/* Copies under way: what copy_engine.c and copy_groups.c share. */
#ifndef FG_COPIES_H
#define FG_COPIES_H

#include "engines.h"

enum { TENSOR_ALIGNMENT = 128, BULK_ALIGNMENT = 16 };

enum emu_copy_kind { LOAD, SEND, STORE };

/* A LOAD and a SEND, which is from another block's shared memory, are to `offset` of the shared memory of `block`; a STORE is from
 * there. In global memory it is a box of a tensor or bytes in a row. */
struct emu_copy {
  struct emu_copy *next;
  enum emu_copy_kind kind;
  struct emu_thread *by; /* who asked, where, by what */
  const void *where;
  const char *what;
  emu_time begins, ends; /* as costs.h has it */
  unsigned bytes;
  bool is_box;
  struct emu_box box;
  unsigned char *global;
  struct emu_block *block;
  unsigned offset;
  unsigned from, slot;               /* where a SEND reads in its own block; the mbarrier of a LOAD or SEND, in `block` */
  uint32_t group;                    /* of a STORE */
  bool was_read;                     /* a STORE, from shared memory to data */
  _Alignas(16) unsigned char data[]; /* [bytes] of a STORE */
};

/* A thread that stores. Groups count from 1, and are the epochs of its actor. */
struct emu_stores {
  unsigned actor;
  uint32_t asked, committed, waited; /* groups: the last store's, committed, known to have been read */
  const void *where;                 /* of the last store */
  const char *what;
  uint32_t waits_for; /* while it waits: a group */
  bool is_read_enough;
};

/* One more, asked for by the thread, whose block's engine has it then; `room`: for a STORE's bytes. */
struct emu_copy *emu_copy_ask(struct emu_thread *by, enum emu_copy_kind kind, struct emu_block *block, unsigned offset,
                              unsigned bytes, unsigned room);
/* The engine does one after the other, so much a cycle; each takes a while to arrive, in which it does the next. */
void emu_copy_take_turn(struct emu_copy *copy, emu_time latency, unsigned bytes_per_cycle);
/* happen(copy), after as long as the model says, or as is drawn. */
void emu_copy_later(struct emu_copy *copy, emu_time model, void (*happen)(void *));
/* Drawn, and freed. */
void emu_copy_finish(struct emu_copy *copy);
/* The block may not leave before one of its threads knows of the mbarrier's phase due.epoch. */
void emu_engine_must_know(struct emu_block *block, unsigned mbarrier, struct emu_due due);

/* thread_copies.c: at the block's end, a fault if a copy may still come; and what is left is freed. */
void emu_batches_end(const struct emu_block *block);
void emu_batches_free(struct emu_engine *engine);

/* Faults: bytes in a row that the copy engine does not copy. `global` NULL: it is not from or to there. */
void emu_copy_check_bulk(struct emu_thread *self, const char *name, const void *global, unsigned bytes);

#endif
