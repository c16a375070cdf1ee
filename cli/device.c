/* Where a level's operands are: of the program, this file alone knows of memory that is not the host's. */
#include "cli.h"

#include <limits.h>
#include <string.h>

fg_device memory_of(fg_level level) { return level == FG_BEST ? FG_CPU : level_info(level)->memory; }

fg_level host_level(fg_level level) { return memory_of(level) == FG_CPU ? level : level_info(level)->twin; }

fg_status level_exists(fg_level level) {
  fg_plan plan;
  return memory_of(level) == FG_CPU ? FG_OK : fg_plan_make(fg_known_gpus(NULL), &(fg_problem){.level = level}, &plan);
}

static bool is_cuda(const fg_context *context) {
  fg_gpu gpu;
  return fg_context_gpu(context, &gpu) == FG_OK;
}

const char *gpu_name(const fg_context *context) {
  fg_gpu gpu;
  return fg_context_gpu(context, &gpu) == FG_OK ? text("%s", gpu.name) : NULL;
}

fg_status cuda_context(int ordinal, fg_context **out) {
  return fg_context_create(out, &(fg_context_options){.device = FG_CUDA, .ordinal = ordinal});
}

/* The kernel is loaded, and compiled if need be: a GPU without a compiler runs no level. */
fg_status level_runs(fg_context *context, fg_level level) {
  fg_status status = fg_can_run(context, level);
  return status == FG_OK ? fg_prepare(context, &(fg_problem){.level = level, .a.scale_layout = FG_ROWS_CONTIGUOUS}) : status;
}

fg_status level_serves(fg_context *context, const fg_problem *problem) {
  fg_problem there;
  fg_status status = send_operands(context, problem, &there);
  if (status != FG_OK) return status;
  status = fg_prepare(context, &there);
  free_operands(context, &there);
  return status;
}

fg_context *context_for(fg_level *level, const char *device, fg_context *host) {
  int ordinal = (int)number_option("--device", device, 0, INT_MAX);
  bool on_host = *level == FG_BEST ? !device : memory_of(*level) == FG_CPU;
  if (on_host && device) fail(BAD_USAGE, "--device is '%s', but level %s runs on the CPU", device, level_name(*level));
  if (on_host) {
    require(fg_can_run(host, *level), "");
    if (*level == FG_BEST) *level = FG_BLAS;
    return host;
  }
  static fg_context *context;
  require(level_exists(*level), "");
  require(cuda_context(ordinal, &context), "");
  return context;
}

/* Bytes from one row of a's or b's to the next, in the context's memory: the copy engine wants whole 16. */
static int64_t sent_ld(const fg_problem *problem) {
  bool may_be_full = problem->level == FG_FULL || problem->level == FG_BEST;
  return may_be_full && problem->kind == FG_DENSE ? (problem->k + 15) / 16 * 16 : problem->k;
}

void plan_there(fg_context *context, const fg_problem *problem, fg_plan *plan) {
  fg_problem there = *problem; /* memory of its own is aligned */
  there.a.data = there.b.data = there.c.data = there.bias.data = there.d.data = NULL;
  there.a.scale = there.b.scale = NULL;
  if (sent_ld(problem) != problem->k) there.a.ld = there.b.ld = sent_ld(problem);
  require(fg_context_plan(context, &there, plan), "");
}

fg_level planned_level(fg_context *context, const fg_problem *problem) {
  fg_plan plan;
  if (problem->level != FG_BEST) return problem->level;
  plan_there(context, problem, &plan);
  return plan.level;
}

/* *to: the context's own memory with a copy of these bytes, NULL for NULL. Unless FG_OK, there is nothing to free. */
static fg_status send(fg_context *context, const void *from, int64_t bytes, const void **to) {
  void *memory = NULL;
  *to = NULL;
  fg_status status = from ? fg_memory_allocate(context, (size_t)bytes, &memory) : FG_OK;
  if (status != FG_OK) return status;
  status = memory ? fg_memory_copy(context, memory, from, (size_t)bytes) : FG_OK;
  if (status == FG_OK)
    *to = memory;
  else
    fg_memory_free(context, memory);
  return status;
}

/* A's scales with rows contiguous, in whole 16 bytes, as the copy engine wants them; NULL where the level has none, or they are so. */
static float *repacked_scales(const fg_problem *problem, int64_t *ld) {
  const fg_operand *a = &problem->a;
  if (problem->level < FG_TMA || a->scaling != FG_1X128 || a->scale_layout != FG_BLOCKS_CONTIGUOUS || !a->scale) return NULL;
  int64_t blocks = blocks_of(problem->k), from_ld = a->scale_ld ? a->scale_ld : blocks;
  *ld = (problem->m + 3) / 4 * 4;
  float *scales = claim_matrix(blocks, *ld, sizeof *scales, "the scales");
  for (int64_t block = 0; block < blocks; block++)
    for (int64_t row = 0; row < *ld; row++) scales[block * *ld + row] = row < problem->m ? a->scale[row * from_ld + block] : 0;
  return scales;
}

static fg_status send_operand(fg_context *context, const fg_operand *from, int64_t count, int64_t scales, fg_operand *to) {
  const void *scale = NULL;
  fg_status status = send(context, from->data, count * type_bytes(from->type), &to->data);
  if (status == FG_OK) status = send(context, from->scale, scales * (int64_t)sizeof *from->scale, &scale);
  to->scale = scale;
  return status;
}

/* Rows of k bytes, with gaps between them if ld is more. */
static fg_status send_factor(fg_context *context, const fg_operand *from, int64_t rows, int64_t k, int64_t ld, int64_t scales,
                             fg_operand *to) {
  if (ld == k) return send_operand(context, from, rows * k, scales, to);
  fg_operand with_gaps = *from;
  unsigned char *bytes = claim_matrix(rows, ld, 1, "rows in whole 16 bytes");
  memset(bytes, 0, (size_t)(rows * ld));
  for (int64_t row = 0; row < rows; row++) memcpy(bytes + row * ld, (const char *)from->data + row * k, (size_t)k);
  with_gaps.data = bytes;
  fg_status status = send_operand(context, &with_gaps, rows * ld, scales, to);
  to->ld = ld;
  release(bytes);
  return status;
}

fg_status send_operands(fg_context *context, const fg_problem *problem, fg_problem *there) {
  fg_operand from_a = problem->a;
  *there = *problem;
  if (!is_cuda(context)) return FG_OK;
  float *repacked = problem->kind == FG_DENSE ? repacked_scales(problem, &from_a.scale_ld) : NULL;
  if (repacked) {
    from_a.scale = repacked;
    from_a.scale_layout = FG_ROWS_CONTIGUOUS;
    there->a = from_a;
  }
  there->a.data = there->b.data = there->c.data = there->bias.data = there->group_values = NULL;
  there->d.data = NULL;
  there->a.scale = there->b.scale = NULL;
  int64_t m = problem->m, n = problem->n, k = problem->k;
  int64_t a = matrices_of_a(problem), b = matrices_of_b(problem), d = matrices_of_d(problem);
  int64_t groups = problem->kind == FG_DENSE ? 1 : problem->groups, values = problem->kind == FG_GROUPED_ROWS ? m : groups;
  int64_t ld = sent_ld(problem), a_scales = a * scales_of(problem, &from_a, m);
  fg_status status = send_factor(context, &from_a, a * m, k, ld, a_scales, &there->a);
  if (status == FG_OK)
    status = send_factor(context, &problem->b, b * n, k, ld, b * scales_of(problem, &problem->b, n), &there->b);
  if (status == FG_OK) status = send_operand(context, &problem->c, d * m * n, 0, &there->c);
  if (status == FG_OK) status = send_operand(context, &problem->bias, groups * n, 0, &there->bias);
  if (status == FG_OK) status = send(context, problem->group_values, values * (int64_t)sizeof(int32_t), &there->group_values);
  if (status == FG_OK) status = fg_memory_allocate(context, (size_t)result_bytes(problem), &there->d.data);
  if (status != FG_OK) free_operands(context, there);
  if (repacked) release(repacked);
  return status;
}

void free_operands(fg_context *context, const fg_problem *there) {
  if (!is_cuda(context)) return;
  const void *const all[] = {there->a.data, there->b.data,  there->c.data,  there->bias.data,
                             there->d.data, there->a.scale, there->b.scale, there->group_values};
  for (int i = 0; i < 8; i++) fg_memory_free(context, (void *)(uintptr_t)all[i]);
}

fg_status wait_for_result(fg_context *context, const fg_problem *there) {
  char byte;
  bool something = is_cuda(context) && there->m > 0 && there->n > 0;
  return something ? fg_memory_copy(context, &byte, there->d.data, 1) : FG_OK;
}

fg_status fetch_result(fg_context *context, const fg_problem *there, const fg_problem *problem) {
  if (!is_cuda(context)) return FG_OK;
  return fg_memory_copy(context, problem->d.data, there->d.data, (size_t)result_bytes(problem));
}
