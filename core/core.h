/* What the files of core/ share. */
#ifndef FG_CORE_H
#define FG_CORE_H

#include "extent.h"
#include "fail.h"
#include "finegemm.h"
#include "gpu.h"
#include "part.h"

/* More than any machine of today has; OpenMP ends the process where it cannot start a thread. */
enum { FG_MOST_THREADS = 1024 };

struct fg_context {
  fg_device device;
  int threads;                /* of CPU levels */
  struct fg_gpu_context *gpu; /* of a CUDA context, else NULL */
};

/* What a call does with the arrays: whether their memory is to be there, D's too and apart from the others, and the groups and scales to
 * be looked at. */
enum fg_purpose { FG_TO_RUN, FG_TO_PREPARE, FG_TO_BOUND, FG_TO_PLAN };

/* check.c: what the problem says but for pointers and strides, with the defaults of everything else filled in, for a level of `device`. */
fg_status fg_check_terms(fg_device device, const fg_problem *problem, fg_problem *full);

/* check.c: is the problem legal? If so `full` is the problem with every default filled in: types, scalings, ld, strides, group_by,
 * group_align, groups (1 for FG_DENSE). Follows no pointer but group_values, and that one only FG_TO_RUN or FG_TO_BOUND in host memory. */
fg_status fg_check_problem(const fg_context *context, const fg_problem *problem, enum fg_purpose purpose, fg_problem *full);

/* check.c: FG_OVERLAP if an output of fg_exact() shares bytes with an operand of a full problem. */
fg_status fg_check_output(const fg_problem *full, const struct fg_array *output);

/* split.c: calls `each` for every part of a full problem in order, `base` being the index in elements of the part's first row in
 * packed arrays of D's shape. Stops at the first status that is not FG_OK and returns it. The groups must have been checked. */
typedef fg_status fg_part_function(const struct fg_part *part, int64_t base, void *state);
fg_status fg_split(const fg_problem *full, fg_part_function *each, void *state);

/* split.c: reads group_values (host memory), and the scales of all parts. *blocks: the columns of scales along K. */
fg_status fg_check_groups(const fg_problem *full, int64_t *blocks);
fg_status fg_check_scales(const fg_problem *full);

/* levels.c: a level's row in the table, NULL if there is none; and a CPU level's function, NULL for all others.
 * FG_BEST has no row but a function. */
const fg_level_info *fg_level_find(fg_level level);
fg_status fg_check_level(fg_device device, fg_level level); /* is it one of that device's? */
typedef void fg_level_function(const struct fg_part *part, int threads);
fg_level_function *fg_level_run(fg_level level);

#endif
