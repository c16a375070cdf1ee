/* Tables of plans that were measured: docs/tuning.md has the format. Those that lie in the library come before the model, the user's own
 * before both. */
#ifndef FG_TUNED_H
#define FG_TUNED_H

#include "finegemm_kernels.h"

#include <stdbool.h>
#include <stddef.h>

enum { FG_MOST_TUNED = 1 << 16, FG_TUNED_WHY_BYTES = 200 };

/* Sorted, and no two for the same. */
struct fg_tuned {
  uint64_t id; /* of those that were loaded, no two the same, and none 0 */
  int count, capacity;
  fg_tuned_plan *plans; /* [capacity] */
};

/* Adds what the text [bytes] holds. false: it is no table, of which all is to be forgotten, and `why` says in which line. */
bool fg_tuned_parse(const char *text, size_t bytes, struct fg_tuned *table, char why[FG_TUNED_WHY_BYTES]);

/* Reads the file; *table goes back to fg_tuned_free(). FG_UNSUPPORTED: it cannot be read or is no table; FG_OUT_OF_MEMORY. */
fg_status fg_tuned_load(const char *path, struct fg_tuned **table);
void fg_tuned_free(struct fg_tuned *table);

/* The user's own, which FG_PLANS in the environment names by its absolute path. NULL in *table: it names none. As fg_tuned_load(). */
fg_status fg_tuned_load_own(struct fg_tuned **table);

/* Those that lie in the library. */
const struct fg_tuned *fg_tuned_shipped(void);

/* The plan for a problem of level full whose m is the largest of its class. NULL: the table has none. */
const fg_plan *fg_tuned_find(const struct fg_tuned *table, const fg_gpu *gpu, const fg_problem *of_class);

#endif
