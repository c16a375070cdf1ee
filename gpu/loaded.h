/* Kernels loaded into this process. */
#ifndef FG_LOADED_H
#define FG_LOADED_H

#include "driver.h"
#include "plan.h"

/* The kernel, compiled and loaded at most once however many threads ask at the same time. It belongs to no CUDA context, and stays
 * for ever. */
fg_status fg_kernel_load(const struct fg_driver *driver, const char *arch, const struct fg_kernel_id *id, CUkernel *kernel);

#endif
