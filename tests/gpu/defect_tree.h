/* A tree for FG_KERNEL_DIR: the project's gpu/device, and one kernel, which may lie in gpu/kernels. Whatever goes wrong ends the process with a sentence. */
#ifndef DEFECT_TREE_H
#define DEFECT_TREE_H

struct tree {
  char path[256];
  const char *source; /* "tests/kernels/ring.cu" */
};
/* From now on FG_KERNEL_DIR names it. */
struct tree tree_make(const char *source, const char *text);
void tree_remove(const struct tree *tree);

#endif
