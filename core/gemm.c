/* The calls, read aloud: check, split, run. */
#include "core.h"

#include <stdlib.h>

struct run {
  fg_level_function *level;
  int threads;
  size_t work_bytes; /* what the most demanding part needs */
  void *work;
};

static fg_status measure_work(const struct fg_part *part, int64_t base, void *state) {
  (void)base;
  struct run *run = state;
  size_t bytes = fg_blas_work_bytes(part, run->threads);
  if (bytes > run->work_bytes) run->work_bytes = bytes;
  return FG_OK;
}

static fg_status run_level(const struct fg_part *part, int64_t base, void *state) {
  (void)base;
  const struct run *run = state;
  struct fg_part working = *part;
  working.work = run->work;
  run->level(&working, run->threads);
  return FG_OK;
}

static fg_status check_all(fg_context *context, const fg_problem *problem, enum fg_purpose purpose, fg_problem *full) {
  fg_status status = fg_check_problem(context, problem, purpose, full);
  if (status == FG_OK && context->device == FG_CPU) status = fg_check_scales(full);
  return status;
}

fg_status fg_gemm(fg_context *context, const fg_problem *problem) {
  fg_problem full;
  fg_status status = check_all(context, problem, FG_TO_RUN, &full);
  if (status != FG_OK) return status;
  if (context->gpu) return fg_gpu_gemm(context->gpu, &full);
  struct run run = {.level = fg_level_run(full.level), .threads = context->threads};
  if (full.level == FG_BLAS) fg_split(&full, measure_work, &run);
  if (run.work_bytes > 0) {
    run.work = aligned_alloc(64, run.work_bytes);
    if (!run.work) return fg_fail(FG_OUT_OF_MEMORY, "no memory for %zu bytes of work space", run.work_bytes);
  }
  fg_split(&full, run_level, &run);
  free(run.work);
  return FG_OK;
}

fg_status fg_prepare(fg_context *context, const fg_problem *problem) {
  fg_problem full;
  fg_status status = fg_check_problem(context, problem, FG_TO_PREPARE, &full);
  return status == FG_OK && context->gpu ? fg_gpu_prepare(context->gpu, &full) : status;
}

struct bound {
  fg_level level;
  double *value, *bound;
  int threads;
};

static fg_status bound_part(const struct fg_part *part, int64_t base, void *state) {
  const struct bound *to = state;
  fg_exact_bound(part, to->level, to->value ? to->value + base : NULL, to->bound ? to->bound + base : NULL, part->n, to->threads);
  return FG_OK;
}

fg_status fg_exact(fg_context *context, const fg_problem *problem, double *value, double *bound) {
  fg_problem full;
  if (context && context->gpu) return fg_fail(FG_UNSUPPORTED, "context is a CUDA context; fg_exact() reads host memory");
  fg_status status = check_all(context, problem, FG_TO_BOUND, &full);
  if (status != FG_OK) return status;
  struct fg_array outputs[] = {{.argument = "value", .data = value}, {.argument = "bound", .data = bound}};
  for (int i = 0; i < 2; i++) {
    if (!outputs[i].data) continue;
    outputs[i].is_bare = true;
    outputs[i].matrices = full.kind == FG_GROUPED_ROWS ? 1 : full.groups;
    outputs[i].rows = full.m, outputs[i].cols = full.n;
    outputs[i].element_bytes = sizeof(double);
    status = fg_check_array(&outputs[i]);
    if (status == FG_OK) status = fg_check_pointer(&outputs[i]);
    if (status == FG_OK) status = fg_check_output(&full, &outputs[i]);
    if (status != FG_OK) return status;
  }
  status = fg_check_apart(&outputs[0], &outputs[1]);
  if (status != FG_OK) return status;
  return fg_split(&full, bound_part, &(struct bound){full.level, value, bound, context->threads});
}
