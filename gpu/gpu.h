/* The front door of gpu/: a CUDA context, as core/ knows it. Problems are full ones: checked, with every default filled in. */
#ifndef FG_GPU_H
#define FG_GPU_H

#include "finegemm_kernels.h"

struct fg_driver;
struct fg_gpu_context;
struct fg_tuned;

/* FG_OK; FG_UNSUPPORTED: no driver, no such device, or a build without CUDA; FG_BAD_SIZE: ordinal; FG_DRIVER_ERROR;
 * FG_OUT_OF_MEMORY. */
fg_status fg_gpu_open(int ordinal, struct fg_gpu_context **out);
void fg_gpu_close(struct fg_gpu_context *context);
const fg_gpu *fg_gpu_of(const struct fg_gpu_context *context);

/* The plan of a call, which the operands' alignment and strides have a say in. */
fg_status fg_gpu_plan(const struct fg_gpu_context *context, const fg_problem *full, fg_plan *plan);

/* Plan, look at the pointers, kernel, launch. FG_BAD_MEMORY: a pointer that the device cannot reach. */
fg_status fg_gpu_gemm(struct fg_gpu_context *context, const fg_problem *full);
fg_status fg_gpu_prepare(struct fg_gpu_context *context, const fg_problem *full);

/* Microseconds of cold calls, us[count][rounds]. */
fg_status fg_gpu_time_cold(struct fg_gpu_context *context, const fg_problem *full, int count, int rounds, double *us);

/* What `task` does while the device's context is the thread's. */
typedef fg_status fg_gpu_task(const struct fg_driver *driver, void *state);
fg_status fg_gpu_within(struct fg_gpu_context *context, fg_gpu_task *task, void *state);

fg_status fg_gpu_allocate(struct fg_gpu_context *context, size_t bytes, void **out);
fg_status fg_gpu_free(struct fg_gpu_context *context, void *pointer);
fg_status fg_gpu_copy(struct fg_gpu_context *context, void *to, const void *from, size_t bytes);

#endif
