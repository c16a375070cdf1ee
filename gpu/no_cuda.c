/* In place of the GPU's side, in a build without CUDA's headers. What needs a context is never called. */
#include "fail.h"
#include "gpu.h"
#include "kernel.h"

static fg_status absent(void) {
  return fg_fail(FG_UNSUPPORTED, "this build of finegemm has no GPU levels: CUDA's headers were not there when it was built");
}

fg_status fg_gpu_open(int ordinal, struct fg_gpu_context **out) {
  (void)ordinal, (void)out;
  return absent();
}

fg_status fg_kernel_image(const char *arch, const struct fg_kernel_id *id, void **cubin, fg_kernel *kernel) {
  (void)arch, (void)id, (void)kernel;
  *cubin = NULL;
  return absent();
}

void fg_gpu_close(struct fg_gpu_context *context) { (void)context; }
const fg_gpu *fg_gpu_of(const struct fg_gpu_context *context) { return (const fg_gpu *)context; }

fg_status fg_gpu_plan(const struct fg_gpu_context *context, const fg_problem *full, fg_plan *plan) {
  (void)context, (void)full, (void)plan;
  return absent();
}

fg_status fg_gpu_time_cold(struct fg_gpu_context *context, const fg_problem *full, int count, int rounds, double *us) {
  (void)context, (void)full, (void)count, (void)rounds, (void)us;
  return absent();
}

fg_status fg_gpu_gemm(struct fg_gpu_context *context, const fg_problem *full) {
  (void)context, (void)full;
  return absent();
}

fg_status fg_gpu_prepare(struct fg_gpu_context *context, const fg_problem *full) { return fg_gpu_gemm(context, full); }

fg_status fg_gpu_allocate(struct fg_gpu_context *context, size_t bytes, void **out) {
  (void)context, (void)bytes, (void)out;
  return absent();
}

fg_status fg_gpu_free(struct fg_gpu_context *context, void *pointer) {
  (void)context, (void)pointer;
  return absent();
}

fg_status fg_gpu_copy(struct fg_gpu_context *context, void *to, const void *from, size_t bytes) {
  (void)context, (void)to, (void)from, (void)bytes;
  return absent();
}
