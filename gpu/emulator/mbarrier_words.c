/* What is said of an mbarrier in faults and deadlocks. */
#include "mbarriers.h"

#include <stdio.h>
#include <string.h>

struct emu_words emu_mbarrier_name(const struct emu_mbarrier *barrier) {
  struct emu_words words;
  snprintf(words.text, sizeof words.text, "the mbarrier at byte %u, initialised at %s", barrier->offset,
           emu_line_of(barrier->block, barrier->initialised_at).text);
  return words;
}

struct emu_words emu_mbarrier_state(const struct emu_mbarrier *barrier) {
  struct emu_words words = emu_mbarrier_name(barrier);
  char arrivals[64] = "", bytes[64] = "";
  if (barrier->pending) snprintf(arrivals, sizeof arrivals, "%u of %u arrivals", barrier->pending, barrier->count);
  if (barrier->bytes > 0) snprintf(bytes, sizeof bytes, "%lld bytes", barrier->bytes);
  if (barrier->bytes < 0) snprintf(bytes, sizeof bytes, "the announcement of %lld bytes that have landed", -barrier->bytes);
  size_t length = strlen(words.text);
  snprintf(words.text + length, sizeof words.text - length, ", in phase %u, which still misses %s%s%s", barrier->phase, arrivals,
           *arrivals && *bytes ? " and " : "", bytes);
  return words;
}

/* Who arrived in the phase before, and has not in this one. */
static void append_missing(const struct emu_mbarrier *barrier, char *text, size_t bytes) {
  const struct emu_cluster *cluster = barrier->block->cluster;
  const struct emu_thread *first = NULL;
  unsigned missing = 0, each = barrier->block->thread_count;
  for (unsigned actor = 0; barrier->phase && barrier->pending && actor < cluster->actors.threads; actor++)
    if (barrier->arrived[actor] == barrier->phase && ++missing == 1)
      first = &cluster->blocks[actor / each]->threads[actor % each];
  if (!first) return;
  char block[64] = "", others[32] = "", place[768] = "has ended";
  if (first->block != barrier->block) snprintf(block, sizeof block, " of the cluster's block %u", first->block->rank);
  if (missing > 1) snprintf(others, sizeof others, " and %u others", missing - 1);
  if (first->waiting != EMU_ENDED)
    snprintf(place, sizeof place, "is in %s at %s", first->what, emu_line_of(first->block, first->where).text);
  size_t length = strlen(text);
  snprintf(text + length, bytes - length, " (thread %u%s%s arrived in the phase before; %s %s)", first->index, block, others,
           missing > 1 ? "the first" : "it", place);
}

void emu_mbarrier_describe(const struct emu_thread *waiting, char *text, size_t bytes) {
  const struct emu_mbarrier *barrier = waiting->waits_for;
  snprintf(text, bytes, "%s", emu_mbarrier_state(barrier).text);
  append_missing(barrier, text, bytes);
}
