/* What many shapes come to. */
#ifndef SUMMARY_H
#define SUMMARY_H

#include <jansson.h>

/* Of what bench_gpu measured at each shape, its "levels", or of anything like it. Only cold and settled times count of rows that have
 * them, and of levels only those with the library's own plan. To be json_decref()ed; {} where no level was timed:
 *
 * "classes": for each level and each range of m that has shapes "level", "m_from", "m_to" (0: no end), "shapes", "share_of_limit" (mean),
 *     "least_share" {"value", "m", "n", "k"}, and "peers": "name", "shapes", "cold" (geometric mean of the peer's time over the level's),
 *     "settled" (the same, where there are settled times), "least" {"value", "m", "n", "k"} of the cold.
 * "steps": for each level, n and k of which there are neighbours in m: "level", "n", "k", "steps", "largest" (how much longer the one with
 *     a row more takes, as a share), "m" (of the longer). */
json_t *summarise(const json_t *results);

/* In words. */
void print_summary(const json_t *summary);

#endif
