#include "cli.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* What any GPU gives a block that asks for no more. */
enum { SHARED_BYTES = 48 << 10 };

static fg_gpu known_gpu(const char *name) {
  int count;
  const fg_gpu *known = fg_known_gpus(&count);
  for (int i = 0; i < count; i++)
    if (strcasecmp(known[i].name, name) == 0) return known[i];
  fail(BAD_USAGE, "--gpu is '%s'; 'finegemm plan --gpus' lists those that are known", name);
}

/* "sm_", digits, and perhaps a letter. */
static bool is_arch(const char *arch) {
  size_t digits = strncmp(arch, "sm_", 3) == 0 ? strspn(arch + 3, "0123456789") : 0;
  const char *end = arch + 3 + digits;
  return digits >= 2 && digits <= 4 && (*end == '\0' || (islower((unsigned char)*end) && end[1] == '\0'));
}

/* Multiprocessors, 0 if not known, and shared memory are those of the first known GPU of this kind. */
static fg_gpu gpu_of_arch(const char *arch) {
  if (!is_arch(arch)) fail(BAD_USAGE, "--arch is '%s'; it must be as the compiler names it, as sm_90a", arch);
  int count;
  const fg_gpu *known = fg_known_gpus(&count);
  fg_gpu gpu = {.shared_bytes = SHARED_BYTES};
  for (int i = count - 1; i >= 0; i--)
    if (strcmp(known[i].arch, arch) == 0) gpu = known[i];
  snprintf(gpu.name, sizeof gpu.name, "a GPU");
  snprintf(gpu.arch, sizeof gpu.arch, "%s", arch);
  return gpu;
}

static fg_gpu gpu_here(void) {
  fg_context *context;
  fg_gpu gpu = *fg_known_gpus(NULL);
  if (cuda_context(0, &context) == FG_OK) fg_context_gpu(context, &gpu);
  fg_context_destroy(context);
  return gpu;
}

fg_gpu gpu_option(const struct gpu_choice *of) {
  if (of->name && of->arch) fail(BAD_USAGE, "--arch is '%s', but --gpu says which GPU; give one of them", of->arch);
  int sms = (int)number_option("--sms", of->sms, 1, INT_MAX);
  fg_gpu gpu = of->name ? known_gpu(of->name) : of->arch ? gpu_of_arch(of->arch) : gpu_here();
  if (of->sms) gpu.sms = sms;
  if (gpu.sms == 0) fail(BAD_USAGE, "--sms is missing; no GPU of %s is known, so say how many multiprocessors it has", gpu.arch);
  return gpu;
}

json_t *json_gpu(const fg_gpu *gpu) {
  return json_pack("{so ss si si}", "name", json_text(gpu->name), "arch", gpu->arch, "sms", gpu->sms, "shared_bytes",
                   gpu->shared_bytes);
}

const char *gpu_text(const fg_gpu *gpu) {
  return text("%s (%s, %d multiprocessor%s)", gpu->name, gpu->arch, gpu->sms, gpu->sms == 1 ? "" : "s");
}
