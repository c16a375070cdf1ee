/* What a fault in shared memory says: which byte, what happened to it before and where, and what is missing. */
#include "shadow_parts.h"

#include <stdio.h>

enum { LINE_BYTES = 512, WORDS_BYTES = 128 };

/* The access as a sentence begins with it: "reads byte 1024 of shared memory", "wgmma reads 16 bytes from byte 1024 of ...". */
struct beginning {
  char text[WORDS_BYTES];
};
static struct beginning begin(const struct access *access, unsigned byte, unsigned bytes) {
  struct beginning words;
  bool is_named = access->fate == MBARRIER || access->fate == COPYING || access->is_async;
  const char *what = is_named ? access->first->what : "";
  char count[32] = "", where[64] = "shared memory";
  if (bytes > 1) snprintf(count, sizeof count, "%u bytes from ", bytes);
  if (access->block != access->first->block)
    snprintf(where, sizeof where, "the shared memory of the cluster's block %u", access->block->rank);
  snprintf(words.text, sizeof words.text, "%s%s%s %sbyte %u of %s", what, *what ? " " : "", access->is_write ? "writes" : "reads",
           count, byte, where);
  return words;
}

/* " at lessons/07_tma.cu(57)", or nothing where that is not known. */
struct line {
  char text[LINE_BYTES];
};
static struct line line_of(const struct access *access, struct event event) {
  struct line line = {" at "};
  const void *where = emu_shadow_site(access->block->shadow, event.site);
  if (where) emu_line(access->block->cluster->launch->image, where, line.text + 4, sizeof line.text - 4);
  if (!where || line.text[4] == '?') line.text[0] = 0;
  return line;
}

/* "thread 12", from where the one that asks stands. */
static struct beginning name_of(const struct access *access, const struct emu_thread *thread, struct event event) {
  struct beginning words;
  unsigned threads = access->block->thread_count, rank = event.actor / threads;
  if (event.actor == thread->actor)
    snprintf(words.text, sizeof words.text, "it itself");
  else if (rank == thread->block->rank)
    snprintf(words.text, sizeof words.text, "thread %u", event.actor % threads);
  else
    snprintf(words.text, sizeof words.text, "thread %u of the cluster's block %u", event.actor % threads, rank);
  return words;
}

_Noreturn void emu_fault_of_bounds(const struct access *access, unsigned offset, unsigned bytes) {
  emu_fault(access->first, NULL, "%s, of which there are %u", begin(access, offset, bytes).text, access->block->shared_bytes);
}

_Noreturn void emu_fault_of_write(const struct access *access, const struct emu_thread *thread, unsigned byte,
                                  const struct cell *cell) {
  struct beginning does = begin(access, byte, 1), who = name_of(access, thread, cell->write);
  struct line at = line_of(access, cell->write);
  switch (cell->fate) {
  case FRESH:
    emu_fault(thread, NULL, "%s, which nobody has written", does.text);
  case MBARRIER:
    emu_fault(thread, NULL, "%s, which is of the mbarrier initialised%s", does.text, at.text);
  case UNDER_WAY:
    if (emu_knows(thread, cell->write.actor, cell->write.epoch))
      emu_fault(thread, NULL,
                "%s, where the copy engine, asked%s, is still writing although the mbarrier's phase has ended: it was told of "
                "fewer bytes than will land",
                does.text, at.text);
    emu_fault(thread, NULL, "%s, where the copy engine, asked%s, is still writing: a wait for its mbarrier is missing", does.text,
              at.text);
  case LANDED:
    emu_fault(thread, NULL,
              "%s, which the copy engine, asked%s, has written, but for which the thread has not waited: a wait for the "
              "mbarrier is missing",
              does.text, at.text);
  case COPYING:
    emu_fault(thread, NULL,
              "%s, where a copy that %s asked for%s is still under way: mbarrier_arrive_when_copied() is missing, or a wait "
              "for the mbarrier",
              does.text, who.text, at.text);
  case COPIED:
    if (access->is_async)
      emu_fault(thread, NULL,
                "%s, to which a copy that a thread asked for%s came by ordinary means: what the copy engine and the tensor core "
                "then do there is not modelled",
                does.text, at.text);
    emu_fault(thread, NULL,
              "%s, to which a copy that a thread asked for%s has come, but for which this one has not waited: a wait for the "
              "mbarrier is missing",
              does.text, at.text);
  default:
    if (emu_knows(thread, cell->write.actor, cell->write.epoch))
      emu_fault(thread, NULL, "%s, which %s stored%s by ordinary means: fence_proxy_async() is missing between that and %s",
                does.text, who.text, at.text, thread->actor == cell->write.actor ? "this" : "the barrier that orders them");
    emu_fault(thread, NULL, "%s, which %s wrote%s: a barrier between the two is missing", does.text, who.text, at.text);
  }
}

_Noreturn void emu_fault_of_read(const struct access *access, const struct emu_thread *thread, unsigned byte, struct event read) {
  struct beginning does = begin(access, byte, 1);
  struct line at = line_of(access, read);
  const struct emu_actors *actors = &access->block->cluster->actors;
  if (read.actor < actors->threads)
    emu_fault(thread, NULL, "%s, which %s read%s: a barrier between the two is missing", does.text,
              name_of(access, thread, read).text, at.text);
  unsigned each = actors->mbarriers + actors->warpgroups + actors->stores, actor = (read.actor - actors->threads) % each;
  if (actor < actors->mbarriers)
    emu_fault(thread, NULL,
              "%s, which the copy engine, asked%s, may still read to send it: a wait for the mbarrier there is missing",
              does.text, at.text);
  if (actor < actors->mbarriers + actors->warpgroups)
    emu_fault(thread, NULL,
              "%s, which the tensor core may still read for warpgroup %u, asked%s: wgmma_wait() is missing, or a barrier "
              "between that and this",
              does.text, actor - actors->mbarriers, at.text);
  emu_fault(thread, NULL,
            "%s, which the copy engine, asked%s, may still read to store it: bulk_wait_read() is missing, or a barrier "
            "between that and this",
            does.text, at.text);
}

unsigned emu_shared_offset(struct emu_thread *thread, const char *name, const void *pointer, unsigned bytes, unsigned alignment) {
  const struct emu_block *block = thread->block;
  for (unsigned i = 0; i < block->cluster->block_count; i++) {
    const struct emu_block *other = block->cluster->blocks[i];
    uintptr_t at = (uintptr_t)pointer - (uintptr_t)other->shared;
    if (at >= other->shared_bytes) continue;
    if (other != block)
      emu_fault(thread, NULL, "%s: %s is in the shared memory of the cluster's block %u, not of this one", thread->what, name, i);
    if (bytes > other->shared_bytes - at)
      emu_fault(thread, NULL, "%s: %s is byte %u of shared memory, from which there are fewer than %u bytes of %u", thread->what,
                name, (unsigned)at, bytes, other->shared_bytes);
    if (at % alignment)
      emu_fault(thread, NULL, "%s: %s is byte %u of shared memory, which is no multiple of %u", thread->what, name, (unsigned)at,
                alignment);
    return (unsigned)at;
  }
  emu_fault(thread, NULL, "%s: %s does not point to shared memory", thread->what, name);
}
