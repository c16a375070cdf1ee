/* The kernels' sources. */
#ifndef FG_SOURCE_H
#define FG_SOURCE_H

#include "finegemm.h"

struct fg_source {
  const char *name; /* its path in the tree: "lessons/05_shared.cu", "gpu/device/fp8.cuh" */
  const char *text;
  void *heap; /* what both lie in; NULL: static */
};

/* lessons/NAME.cu, gpu/kernels/NAME.cu and gpu/device/NAME as they were when the library was built, up to one whose name is NULL:
 * cmake/embed.cmake writes them. */
extern const struct fg_source fg_embedded_sources[];

/* Reads the source of that name from the library, or from the tree that FG_KERNEL_DIR in the environment names, for whoever edits a
 * kernel and runs it again. *source goes back to fg_source_free(). FG_OK, FG_COMPILE_ERROR: there is no such source, or not one that
 * can be read; FG_OUT_OF_MEMORY. */
fg_status fg_source_read(const char *name, struct fg_source *source);
void fg_source_free(struct fg_source *source);

#endif
