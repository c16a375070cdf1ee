/* From a plan's kernel to a function that can be launched: the disk's cache, else the compiler, then the driver. */
#ifndef FG_KERNEL_H
#define FG_KERNEL_H

#include "plan.h"

/* The kernel's machine code for `arch`, in memory of its own: from the cache, or compiled and then put there. `kernel` says how it
 * came about. */
fg_status fg_kernel_image(const char *arch, const struct fg_kernel_id *id, void **cubin, fg_kernel *kernel);

#endif
