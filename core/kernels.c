/* finegemm_kernels.h: plans and compiling ahead, memory. */
#include "cache.h"
#include "core.h"
#include "kernel.h"
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fg_status fg_context_gpu(const fg_context *context, fg_gpu *gpu) {
  if (!context) return fg_fail(FG_NULL_POINTER, "context is NULL; make one with fg_context_create()");
  if (!gpu) return fg_fail(FG_NULL_POINTER, "gpu is NULL; it must have room for the GPU's description");
  if (!context->gpu) return fg_fail(FG_UNSUPPORTED, "context is a CPU context, which has no GPU");
  *gpu = *fg_gpu_of(context->gpu);
  return FG_OK;
}

static fg_status plan(const fg_gpu *gpu, const fg_problem *problem, fg_problem *full, fg_plan *made) {
  if (!gpu) return fg_fail(FG_NULL_POINTER, "gpu is NULL; take one of fg_known_gpus() or fg_context_gpu()");
  if (!problem) return fg_fail(FG_NULL_POINTER, "problem is NULL; it must say what is multiplied");
  if (gpu->sms < 1) return fg_fail(FG_BAD_SIZE, "gpu.sms is %d; it must be 1 or more", gpu->sms);
  fg_status status = fg_check_terms(FG_CUDA, problem, full);
  return status == FG_OK ? fg_plan_full(gpu, NULL, full, made) : status;
}

fg_status fg_plan_make(const fg_gpu *gpu, const fg_problem *problem, fg_plan *made) {
  fg_problem full;
  fg_plan own;
  if (!made) return fg_fail(FG_NULL_POINTER, "plan is NULL; it must have room for the plan");
  fg_status status = plan(gpu, problem, &full, &own);
  if (status == FG_OK) *made = own;
  return status;
}

fg_status fg_precompile(const fg_gpu *gpu, const fg_problem *problem, fg_kernel *kernel) {
  fg_problem full;
  fg_plan made;
  if (!kernel) return fg_fail(FG_NULL_POINTER, "kernel is NULL; it must have room for what is said of the kernel");
  fg_status status = plan(gpu, problem, &full, &made);
  if (status != FG_OK) return status;
  if (!memchr(gpu->arch, 0, sizeof gpu->arch) || strncmp(gpu->arch, "sm_", 3) != 0)
    return fg_fail(FG_BAD_ENUM, "gpu.arch is %.16s; it must be as the compiler names it, for example sm_90a", gpu->arch);
  struct fg_kernel_id id = fg_kernel_id_of(&made, &full);
  fg_kernel seen;
  void *cubin = NULL;
  status = fg_kernel_image(gpu->arch, &id, &cubin, &seen);
  free(cubin);
  if (status == FG_OK) *kernel = seen;
  return status;
}

/* --- The cache */

/* "sm_90a BLOCK_M=64 ... lessons/05_shared.cu" of a key: what a person wants to know of it. */
static void summarise_key(const char *key, char *text, size_t bytes) {
  size_t length = 0;
  text[0] = 0;
  for (const char *line = key, *end; (end = strchr(line, '\n')); line = end + 1) {
    size_t skip = strncmp(line, "arch ", 5) == 0 ? 5 : strncmp(line, "define ", 7) == 0 ? 7 : 0;
    size_t until = skip ? (size_t)(end - line) : strcspn(line, " \n");
    bool is_source = !skip && until > 3 && strncmp(line + until - 3, ".cu", 3) == 0;
    if (!skip && !is_source) continue;
    length += (size_t)snprintf(text + length, bytes - length, "%s%.*s", length ? " " : "", (int)(until - skip), line + skip);
    if (length >= bytes) return;
  }
}

static void copy_entry(const struct fg_cache_entry *entry, fg_cached *to) {
  *to = (fg_cached){.bytes = entry->bytes, .used_s = entry->used_s};
  snprintf(to->file, sizeof to->file, "%s", entry->file);
  snprintf(to->why, sizeof to->why, "%s", entry->is_valid ? "" : entry->why);
  if (entry->key) summarise_key(entry->key, to->kernel, sizeof to->kernel);
}

fg_status fg_cache_look(const char *directory, fg_cached *entries, int capacity, int *count) {
  if (!count) return fg_fail(FG_NULL_POINTER, "count is NULL; it must have room for the number of entries");
  if (!entries && capacity > 0) return fg_fail(FG_NULL_POINTER, "entries is NULL; it must have room for capacity = %d", capacity);
  struct fg_cache_entry *found = NULL;
  char why[FG_CACHE_WHY_BYTES];
  int files = fg_cache_list(directory, &found, why);
  if (files < 0) return fg_fail(FG_UNSUPPORTED, "%s", why);
  for (int i = 0; i < files && i < capacity; i++) copy_entry(&found[i], &entries[i]);
  fg_cache_list_free(found, files);
  *count = files;
  return FG_OK;
}

static fg_status counted(int files, const char *why, int *count) {
  if (files < 0) return fg_fail(FG_UNSUPPORTED, "%s", why);
  if (count) *count = files;
  return FG_OK;
}

fg_status fg_cache_empty(const char *directory, int *count) {
  char why[FG_CACHE_WHY_BYTES];
  return counted(fg_cache_clear(directory, why), why, count);
}

fg_status fg_cache_ship(const char *to, int *count) {
  if (!to) return fg_fail(FG_NULL_POINTER, "to is NULL; it must name a directory");
  char why[FG_CACHE_WHY_BYTES];
  return counted(fg_cache_export(to, why), why, count);
}

/* --- Memory */

enum { ALIGNMENT = 256 };

fg_status fg_memory_allocate(fg_context *context, size_t bytes, void **out) {
  if (!out) return fg_fail(FG_NULL_POINTER, "out is NULL; it must point to where the pointer goes");
  *out = NULL;
  if (!context) return fg_fail(FG_NULL_POINTER, "context is NULL; make one with fg_context_create()");
  if (context->gpu) return fg_gpu_allocate(context->gpu, bytes, out);
  size_t rounded = bytes / ALIGNMENT * ALIGNMENT + ALIGNMENT;
  *out = rounded > bytes ? aligned_alloc(ALIGNMENT, rounded) : NULL;
  return *out ? FG_OK : fg_fail(FG_OUT_OF_MEMORY, "no memory for %zu bytes", bytes);
}

fg_status fg_memory_free(fg_context *context, void *pointer) {
  if (!context) return fg_fail(FG_NULL_POINTER, "context is NULL; it must be the one that the memory is from");
  if (context->gpu && pointer) return fg_gpu_free(context->gpu, pointer);
  if (!context->gpu) free(pointer);
  return FG_OK;
}

fg_status fg_memory_copy(fg_context *context, void *to, const void *from, size_t bytes) {
  if (!context) return fg_fail(FG_NULL_POINTER, "context is NULL; make one with fg_context_create()");
  if (bytes == 0) return FG_OK;
  if (!to) return fg_fail(FG_NULL_POINTER, "to is NULL; it must have %zu bytes", bytes);
  if (!from) return fg_fail(FG_NULL_POINTER, "from is NULL; it must have %zu bytes", bytes);
  if (context->gpu) return fg_gpu_copy(context->gpu, to, from, bytes);
  memmove(to, from, bytes);
  return FG_OK;
}
