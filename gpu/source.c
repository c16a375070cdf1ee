#include "source.h"
#include "fail.h"
#include "library.h"
#include "read_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_BYTES = 1 << 24 }; /* of a source */

static fg_status cannot_read(const char *tree, const char *name, const char *why) {
  return fg_fail(FG_COMPILE_ERROR, "FG_KERNEL_DIR is %s, and %s in it cannot be read: %s", tree, name, why);
}

static fg_status cannot_read_errno(const char *tree, const char *name, int error) {
  char why[128];
  return cannot_read(tree, name, fg_error_text(error, why, sizeof why));
}

static fg_status read_open_file(int file, const char *tree, const char *name, struct fg_source *source) {
  struct stat about;
  if (fstat(file, &about) != 0) return cannot_read_errno(tree, name, errno);
  if (!S_ISREG(about.st_mode)) return cannot_read(tree, name, "it is no regular file");
  if (about.st_size > MOST_BYTES) return cannot_read(tree, name, "it is larger than 16 MiB, and no source of a kernel is");
  size_t bytes = (size_t)about.st_size, name_bytes = strlen(name) + 1;
  char *heap = malloc(bytes + 1 + name_bytes);
  if (!heap) return fg_fail(FG_OUT_OF_MEMORY, "no memory for the source %s of %zu bytes", name, bytes);
  if (!fg_read_whole(file, heap, bytes, EIO)) { /* it shrank */
    int error = errno;
    free(heap);
    return cannot_read_errno(tree, name, error);
  }
  heap[bytes] = '\0';
  if (strlen(heap) != bytes) {
    free(heap);
    return cannot_read(tree, name, "a byte of it is zero, and no text has one");
  }
  memcpy(heap + bytes + 1, name, name_bytes);
  *source = (struct fg_source){.name = heap + bytes + 1, .text = heap, .heap = heap};
  return FG_OK;
}

static fg_status read_from_tree(const char *tree, const char *name, struct fg_source *source) {
  size_t path_bytes = strlen(tree) + 1 + strlen(name) + 1;
  char *path = malloc(path_bytes);
  if (!path) return fg_fail(FG_OUT_OF_MEMORY, "no memory for a path of %zu bytes", path_bytes);
  snprintf(path, path_bytes, "%s/%s", tree, name);
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would wait for its writer */
  int error = errno;
  free(path);
  if (file < 0) return cannot_read_errno(tree, name, error);
  fg_status status = read_open_file(file, tree, name, source);
  close(file);
  return status;
}

fg_status fg_source_read(const char *name, struct fg_source *source) {
  *source = (struct fg_source){0};
  const char *tree = fg_environment("FG_KERNEL_DIR");
  if (tree && *tree) return read_from_tree(tree, name, source);
  for (const struct fg_source *embedded = fg_embedded_sources; embedded->name; embedded++)
    if (strcmp(embedded->name, name) == 0) {
      *source = *embedded;
      return FG_OK;
    }
  return fg_fail(FG_COMPILE_ERROR, "there is no kernel source %s in this finegemm", name);
}

void fg_source_free(struct fg_source *source) {
  free(source->heap);
  *source = (struct fg_source){0};
}
