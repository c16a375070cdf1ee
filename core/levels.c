#include "core.h"
#include "plan.h"

static const fg_level_info levels[] = {
    {FG_EXACT, "exact", "FP64 sums, and the magnitudes that an error bound needs", "any CPU", FG_CPU, FG_EXACT},
    {FG_REFERENCE, "reference", "FP8 decoded, FP32 sums, a scale for each block: three loops, to be read", "any CPU", FG_CPU,
     FG_REFERENCE},
    {FG_BLAS, "blas", "the same through sgemm, on all cores", "any CPU", FG_CPU, FG_EXACT},
    {FG_HOPPER, "hopper", "the Hopper tensor core's own arithmetic", "any CPU", FG_CPU, FG_HOPPER},
    {FG_NAIVE, "naive", "a thread for each element of D", "a CUDA GPU", FG_CUDA, FG_REFERENCE},
    {FG_SHARED, "shared", "tiles in shared memory", "a CUDA GPU", FG_CUDA, FG_REFERENCE},
    {FG_WGMMA, "wgmma", "tensor cores, promoted to FP32 every 128 of K", "a Hopper GPU", FG_CUDA, FG_HOPPER},
    {FG_TMA, "tma", "the copy engine and its barriers", "a Hopper GPU", FG_CUDA, FG_HOPPER},
    {FG_PIPELINE, "pipeline", "a ring of stages between producer and consumer warps", "a Hopper GPU", FG_CUDA, FG_HOPPER},
    {FG_PERSISTENT, "persistent", "one block a multiprocessor, a tile order for the L2", "a Hopper GPU", FG_CUDA, FG_HOPPER},
    {FG_CLUSTER, "cluster", "multicast to clusters of blocks, stores by TMA", "a Hopper GPU", FG_CUDA, FG_HOPPER},
    {FG_FULL, "full", "production: a plan for every shape", "a Hopper GPU", FG_CUDA, FG_HOPPER},
};

enum { LEVELS = sizeof levels / sizeof levels[0] };

const fg_level_info *fg_levels(int *count) {
  if (count) *count = LEVELS;
  return levels;
}

const fg_level_info *fg_level_find(fg_level level) {
  for (int i = 0; i < LEVELS; i++)
    if (levels[i].level == level) return &levels[i];
  return NULL;
}

fg_level_function *fg_level_run(fg_level level) {
  switch (level) {
  case FG_BEST:
  case FG_BLAS:
    return fg_blas_part;
  case FG_EXACT:
    return fg_exact_part;
  case FG_REFERENCE:
    return fg_reference_part;
  case FG_HOPPER:
    return fg_hopper_part;
  default:
    return NULL;
  }
}

fg_status fg_check_level(fg_device device, fg_level level) {
  const fg_level_info *info = fg_level_find(level);
  if (level == FG_BEST) return FG_OK;
  if (!info) return fg_fail(FG_BAD_ENUM, "level is %d; it must be one that fg_levels() lists", (int)level);
  if (info->memory == device) return FG_OK;
  if (device == FG_CPU)
    return fg_fail(FG_UNSUPPORTED, "level is %s, which needs %s and a CUDA context (fg_context_options::device)", info->name,
                   info->needs);
  return fg_fail(FG_UNSUPPORTED, "level is %s, whose operands are in host memory; it needs a CPU context", info->name);
}

fg_status fg_can_run(const fg_context *context, fg_level level) {
  if (!context) return fg_fail(FG_NULL_POINTER, "context is NULL; make one with fg_context_create()");
  return fg_check_level(context->device, level);
}
