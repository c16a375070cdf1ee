#define _DEFAULT_SOURCE /* P_tmpdir */
#include "library_copy.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* NULL: it cannot be read. */
static char *read_all(const char *path, size_t *bytes) {
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  fseek(file, 0, SEEK_END);
  *bytes = (size_t)ftell(file);
  rewind(file);
  char *all = malloc(*bytes + 1);
  if (all && fread(all, 1, *bytes, file) != *bytes) {
    free(all);
    all = NULL;
  }
  fclose(file);
  return all;
}

const char *copy_without(const char *library, const char *function) {
  static char path[512];
  static int number;
  const char *folder = getenv("TMPDIR");
  snprintf(path, sizeof path, "%s/finegemm-library-%ld-%d.so", folder ? folder : P_tmpdir, (long)getpid(), number++);
  size_t bytes, length = strlen(function);
  char *image = read_all(library, &bytes);
  if (!image) return NULL;
  bool found = false;
  for (size_t i = 1; i + length < bytes; i++)
    if (image[i - 1] == '\0' && memcmp(image + i, function, length + 1) == 0) image[i] = '?', found = true;
  FILE *file = found ? fopen(path, "wb") : NULL;
  bool written = file && fwrite(image, 1, bytes, file) == bytes;
  if (file && fclose(file) != 0) written = false;
  free(image);
  return written ? path : NULL;
}
