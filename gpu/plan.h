/* Plans, and the kernels that they want. Knows nothing of a driver. */
#ifndef FG_PLAN_H
#define FG_PLAN_H

#include "finegemm_kernels.h"

#include <stdbool.h>

struct fg_tuned;

/* fg_plan_make() for a full problem of a GPU level, or of FG_BEST: FG_FULL, or where that does not serve it FG_SHARED. `own`: tuned plans
 * that come before what the library has; may be NULL. */
fg_status fg_plan_full(const fg_gpu *gpu, const struct fg_tuned *own, const fg_problem *full, fg_plan *plan);

/* Whether FG_SHARED may do instead. */
bool fg_plan_may_fall_back(const fg_problem *full);

/* How many blocks have each fetched row of A (of B): 1, or those of a cluster, whose tiles then lie beside (below) each other. */
int fg_plan_shares_a(const fg_plan *plan);
int fg_plan_shares_b(const fg_plan *plan);

/* Rows of D that a tile has, of block_m: of FG_FULL as few as are enough for so many tiles, for a row that is fetched and lies beyond A takes
 * longer than one of A. */
int fg_plan_tile_rows(const fg_plan *plan, int64_t m);

/* Columns of a box of 16 rows in which D leaves, where FG_FULL stores it by the copy engine. */
int fg_plan_stored_cols(const fg_plan *plan);

/* What tells kernels apart. All of it is constants of the source. */
struct fg_kernel_id {
  int level, order, block_m, block_n, a_is_e5m2, b_is_e5m2;
  int kind;                              /* FG_BATCHED counts as FG_DENSE: the same kernel */
  int shared_bytes, stages, cluster;     /* 0 where the level has none, or any would do */
  int b_is_1x128, scales_by_tma, d_type; /* of FG_FULL; d_type 0: any, and C and bias */
};

struct fg_kernel_id fg_kernel_id_of(const fg_plan *plan, const fg_problem *full);

/* The source of a level in an order, and the kernel's name in it. NULL: a level without one. */
const char *fg_kernel_source(int level, int order);
const char *fg_kernel_name(int level, int order);

enum { FG_MOST_KERNEL_DEFINES = 11, FG_DEFINE_BYTES = 32 };
struct fg_kernel_defines {
  int count;
  char text[FG_MOST_KERNEL_DEFINES][FG_DEFINE_BYTES]; /* "BLOCK_M=64" */
};
struct fg_kernel_defines fg_kernel_defines_of(const struct fg_kernel_id *id);

/* All of them, with blanks between. */
void fg_kernel_describe(const struct fg_kernel_id *id, char *text, size_t bytes);

#endif
