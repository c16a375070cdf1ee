#define _XOPEN_SOURCE 700 /* nftw() */
#include "temporary.h"

#include "library.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool emu_folder_make(char folder[EMU_PATH_BYTES]) {
  const char *chosen = fg_environment("TMPDIR");
  int length = snprintf(folder, EMU_PATH_BYTES, "%s/finegemm-XXXXXX", chosen && *chosen ? chosen : P_tmpdir);
  if (length >= EMU_PATH_BYTES) errno = ENAMETOOLONG;
  return length < EMU_PATH_BYTES && mkdtemp(folder);
}

static int remove_one(const char *path, const struct stat *about, int type, struct FTW *where) {
  (void)about, (void)type, (void)where;
  return remove(path);
}

void emu_folder_remove(const char *folder) { nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS); }

static bool path_of(char path[EMU_PATH_BYTES], const char *folder, const char *name) {
  if (snprintf(path, EMU_PATH_BYTES, "%s/%s", folder, name) < EMU_PATH_BYTES) return true;
  errno = ENAMETOOLONG;
  return false;
}

bool emu_file_write(const char *folder, const char *name, const void *bytes, size_t count) {
  char path[EMU_PATH_BYTES];
  if (!path_of(path, folder, name)) return false;
  for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
    *slash = '\0';
    if (mkdir(path, 0700) != 0 && errno != EEXIST) return false;
  }
  FILE *file = fopen(path, "wbe");
  if (!file) return false;
  bool written = fwrite(bytes, 1, count, file) == count;
  return fclose(file) == 0 && written;
}

char *emu_file_read(const char *folder, const char *name, size_t *count) {
  char path[EMU_PATH_BYTES];
  struct stat about;
  FILE *file = path_of(path, folder, name) ? fopen(path, "rbe") : NULL;
  if (!file) return NULL;
  char *bytes = fstat(fileno(file), &about) == 0 ? malloc((size_t)about.st_size + 1) : NULL;
  if (bytes) {
    *count = fread(bytes, 1, (size_t)about.st_size, file);
    bytes[*count] = '\0';
  }
  fclose(file);
  return bytes;
}
