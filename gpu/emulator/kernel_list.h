/* The kernels in a source. */
#ifndef FG_KERNEL_LIST_H
#define FG_KERNEL_LIST_H

/* The source with a few lines more, of which the compiler makes the image's fg_kernels: what is called __global__ in it, with its
 * __launch_bounds__. Goes to free(); NULL: no memory. */
char *emu_list_kernels(const char *source);

#endif
