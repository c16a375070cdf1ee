#define _DEFAULT_SOURCE /* mkdtemp */
#include "defect_tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 512 };

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(EXIT_FAILURE);
}

static const char folder_of_headers[] = "gpu/device";

/* The first `length` characters of `name`, in the tree. */
static const char *path_in(const struct tree *tree, const char *name, size_t length) {
  static char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s/%.*s", tree->path, (int)length, name);
  return path;
}

struct tree tree_make(const char *source, const char *text) {
  struct tree tree = {.source = source};
  const char *folder = getenv("TMPDIR");
  snprintf(tree.path, sizeof tree.path, "%s/defect_XXXXXX", folder && *folder ? folder : P_tmpdir);
  if (!mkdtemp(tree.path)) fail(tree.path);
  if (mkdir(path_in(&tree, folder_of_headers, strlen("gpu")), 0700) != 0) fail(tree.path);
  if (symlink(FG_SOURCE_DIR "/gpu/device", path_in(&tree, folder_of_headers, strlen(folder_of_headers))) != 0) fail(tree.path);
  for (const char *end = source; (end = strchr(end, '/')); end++)
    if (mkdir(path_in(&tree, source, (size_t)(end - source)), 0700) != 0 && errno != EEXIST) fail(source);
  FILE *file = fopen(path_in(&tree, source, strlen(source)), "w");
  if (!file || fputs(text, file) < 0 || fclose(file) != 0) fail(source);
  if (setenv("FG_KERNEL_DIR", tree.path, 1) != 0) fail("FG_KERNEL_DIR");
  return tree;
}

void tree_remove(const struct tree *tree) {
  if (remove(path_in(tree, folder_of_headers, strlen(folder_of_headers))) != 0) fail(tree->path);
  for (size_t length = strlen(tree->source); length > 0; length--)
    if ((tree->source[length] == '/' || !tree->source[length]) && remove(path_in(tree, tree->source, length)) != 0)
      fail(tree->source);
  if ((remove(path_in(tree, folder_of_headers, strlen("gpu"))) != 0 && errno != ENOENT) || remove(tree->path) != 0)
    fail(tree->path);
}
