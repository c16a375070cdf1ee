/* finegemm_kernels.h: plans that were tuned, and what it takes to tune them. */
#include "choose.h"
#include "core.h"
#include "plan.h"
#include "tuned.h"

#include <stdlib.h>
#include <string.h>

fg_status fg_context_plan(const fg_context *context, const fg_problem *problem, fg_plan *plan) {
  fg_problem full;
  fg_plan own;
  if (!plan) return fg_fail(FG_NULL_POINTER, "plan is NULL; it must have room for the plan");
  fg_status status = fg_check_problem(context, problem, FG_TO_PLAN, &full);
  if (status != FG_OK) return status;
  if (!context->gpu) return fg_fail(FG_UNSUPPORTED, "context is a CPU context, which has no plans");
  status = fg_gpu_plan(context->gpu, &full, &own);
  if (status == FG_OK) *plan = own;
  return status;
}

fg_status fg_plan_candidates(const fg_gpu *gpu, const fg_problem *problem, fg_plan *plans, int capacity, int *count) {
  fg_problem full;
  fg_plan first, listed[FG_MOST_CANDIDATES];
  if (!count) return fg_fail(FG_NULL_POINTER, "count is NULL; it must have room for the number of plans");
  if (!plans && capacity > 0) return fg_fail(FG_NULL_POINTER, "plans is NULL; it must have room for %d", capacity);
  fg_status status = fg_plan_make(gpu, problem, &first);
  if (status == FG_OK) status = fg_check_terms(FG_CUDA, problem, &full);
  if (status != FG_OK) return status;
  full.level = first.level; /* where that was left open */
  int listed_count = first.level == FG_FULL ? fg_candidates(gpu, &full, listed, FG_MOST_CANDIDATES) : 0, admitted = 1;
  if (capacity > 0) plans[0] = first;
  for (int i = 0; i < listed_count; i++) {
    fg_plan made;
    full.plan = &listed[i];
    if (fg_plan_full(gpu, NULL, &full, &made) != FG_OK) continue; /* as where no two stages fit */
    if (made.order == first.order && made.block_m == first.block_m && made.block_n == first.block_n &&
        made.cluster == first.cluster && made.stages == first.stages)
      continue;
    if (admitted < capacity) plans[admitted] = made;
    admitted++;
  }
  *count = admitted;
  return FG_OK;
}

fg_status fg_tuned_read(const char *path, fg_tuned_plan *plans, int capacity, int *count) {
  struct fg_tuned *table;
  if (!path) return fg_fail(FG_NULL_POINTER, "path is NULL; it must name a table of tuned plans");
  if (!count) return fg_fail(FG_NULL_POINTER, "count is NULL; it must have room for the number of plans");
  if (!plans && capacity > 0) return fg_fail(FG_NULL_POINTER, "plans is NULL; it must have room for %d", capacity);
  fg_status status = fg_tuned_load(path, &table);
  if (status != FG_OK) return status;
  int copied = table->count < capacity ? table->count : capacity;
  if (copied > 0) memcpy(plans, table->plans, (size_t)copied * sizeof *plans);
  *count = table->count;
  fg_tuned_free(table);
  return FG_OK;
}

fg_status fg_time_cold(fg_context *context, const fg_problem *problems, int count, int rounds, double *us) {
  if (!context) return fg_fail(FG_NULL_POINTER, "context is NULL; make one with fg_context_create()");
  if (!problems) return fg_fail(FG_NULL_POINTER, "problems is NULL; it must have %d", count);
  if (!us) return fg_fail(FG_NULL_POINTER, "us is NULL; it must have room for the times");
  if (count < 1) return fg_fail(FG_BAD_SIZE, "count is %d; it must be 1 or more", count);
  if (rounds < 1) return fg_fail(FG_BAD_SIZE, "rounds is %d; it must be 1 or more", rounds);
  if (!context->gpu) return fg_fail(FG_UNSUPPORTED, "context is a CPU context; calls are timed by a device's clock");
  fg_problem *full = malloc((size_t)count * sizeof *full);
  if (!full) return fg_fail(FG_OUT_OF_MEMORY, "no memory for %d problems", count);
  fg_status status = FG_OK;
  for (int i = 0; i < count && status == FG_OK; i++) status = fg_check_problem(context, &problems[i], FG_TO_RUN, &full[i]);
  if (status == FG_OK) status = fg_gpu_time_cold(context->gpu, full, count, rounds, us);
  free(full);
  return status;
}
