/* What level full makes of a problem where nothing is wished: which kernel, which tile, how many blocks share a tile or its operands. A
 * model of the machine is minimised over a short list of tiles, so that a model of a language needs few kernels; a table of what was
 * measured (tuned.h) comes before it. All of it is arithmetic that is exact to the bit everywhere. */
#ifndef FG_CHOOSE_H
#define FG_CHOOSE_H

#include "finegemm_kernels.h"

struct fg_tuned;

/* Fills what is 0 of a plan's order, block_m, block_n, cluster and split_k, and stages where the plan was tuned. What is not 0 holds, and
 * what the problem says of split_k, sm_limit and FG_NO_SPLIT_K. `own`: plans that come before those that lie in the library; may be NULL.
 * What comes of wishes that contradict each other the kernels may not admit. */
void fg_choose(const fg_gpu *gpu, const fg_problem *full, const struct fg_tuned *own, fg_plan *plan);

/* The tiles that may be tried on a problem, the least time by the model first: fills at most `capacity` plans as fg_choose() does, and
 * returns how many there are. */
enum { FG_MOST_CANDIDATES = 192 };
int fg_candidates(const fg_gpu *gpu, const fg_problem *full, fg_plan *plans, int capacity);

/* The model: microseconds of a cold call of FG_FULL by a plan with order, tile and cluster. 0 for no elements. */
double fg_model_us(const fg_gpu *gpu, const fg_problem *full, const fg_plan *plan);

/* Clusters that run at once on so many multiprocessors. */
int fg_clusters_at_once(int sms, int cluster);

#endif
