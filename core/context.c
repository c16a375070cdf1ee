#include "core.h"
#include "cpu.h"

#include <stdlib.h>

fg_status fg_context_create(fg_context **out, const fg_context_options *options) {
  if (!out) return fg_fail(FG_NULL_POINTER, "out is NULL; it must point to where the context goes");
  *out = NULL;
  fg_context_options chosen = options ? *options : (fg_context_options){0};
  if (chosen.device != FG_CPU && chosen.device != FG_CUDA)
    return fg_fail(FG_BAD_ENUM, "device is %d; it must be FG_CPU or FG_CUDA", (int)chosen.device);
  if (chosen.ordinal < 0 || (chosen.device == FG_CPU && chosen.ordinal != 0))
    return fg_fail(FG_BAD_SIZE, "ordinal is %d; it must be %s", chosen.ordinal,
                   chosen.device == FG_CPU ? "0 for the CPU" : "0 or more");
  if (chosen.threads < 0 || chosen.threads > FG_MOST_THREADS)
    return fg_fail(FG_BAD_SIZE, "threads is %d; it must be from 0 (all) to %d", chosen.threads, FG_MOST_THREADS);
  fg_context *context = malloc(sizeof *context);
  if (!context) return fg_fail(FG_OUT_OF_MEMORY, "no memory for a context of %zu bytes", sizeof *context);
  int all = fg_cpu_threads() < FG_MOST_THREADS ? fg_cpu_threads() : FG_MOST_THREADS;
  *context = (fg_context){.device = chosen.device, .threads = chosen.threads ? chosen.threads : all};
  fg_status status = chosen.device == FG_CUDA ? fg_gpu_open(chosen.ordinal, &context->gpu) : FG_OK;
  if (status != FG_OK) {
    free(context);
    return status;
  }
  *out = context;
  return FG_OK;
}

void fg_context_destroy(fg_context *context) {
  if (!context) return;
  if (context->gpu) fg_gpu_close(context->gpu);
  free(context);
}
