/* Processes for kernels that may hang, or fail in a way after which a process cannot use the GPU. */
#ifndef CHILDREN_H
#define CHILDREN_H

#include <stdbool.h>

/* What a child has found, in memory that it shares with its parent. */
struct result {
  bool is_done, has_gpu, has_hung;
  bool is_seen_always; /* on the emulator, under every seed */
  char text[4096];
};
struct result *share_results(int count);

/* `count` times, some at once: child(i), each in a process of its own. The parent uses no CUDA, which its children could not use then,
 * and no OpenMP. */
void in_children(int count, struct result *results, void (*child)(int i, struct result *result));

/* In a child: one has the GPU at a time, until the process ends. */
void take_gpu(struct result *result);
/* In a child: a kernel that has not ended by then hangs, and so ends the process. The seconds begin anew with every call. */
void hangs_after(unsigned seconds);

/* Prints a line of comment: the program, the GPU, its driver, the date. */
void print_origin(const char *program);

/* Ends the process with errno's words. */
_Noreturn void fail(const char *what);

#endif
