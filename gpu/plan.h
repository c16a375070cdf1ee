/* Plans, and the kernels that they want. Knows nothing of a driver. */
#ifndef FG_PLAN_H
#define FG_PLAN_H

#include "finegemm_kernels.h"

/* fg_plan_make() for a full problem of a GPU level. */
fg_status fg_plan_full(const fg_gpu *gpu, const fg_problem *full, fg_plan *plan);

/* What tells kernels apart. All of it is constants of the source. */
struct fg_kernel_id {
  int level, block_m, block_n, a_is_e5m2, b_is_e5m2;
  int kind; /* FG_BATCHED counts as FG_DENSE: the same kernel */
};

struct fg_kernel_id fg_kernel_id_of(const fg_plan *plan, const fg_problem *full);

/* The level's source and the kernel's name in it. NULL: a level without one. */
const char *fg_kernel_source(int level);
const char *fg_kernel_name(int level);

enum { FG_KERNEL_DEFINES = 5, FG_DEFINE_BYTES = 32 };
struct fg_kernel_defines {
  char text[FG_KERNEL_DEFINES][FG_DEFINE_BYTES]; /* "BLOCK_M=64" */
};
struct fg_kernel_defines fg_kernel_defines_of(const struct fg_kernel_id *id);

#endif
