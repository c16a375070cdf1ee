/* What the cache is made of: directories that can be trusted, and single files. */
#ifndef FG_CACHE_PARTS_H
#define FG_CACHE_PARTS_H

#include "cache.h"

#include <stdarg.h>
#include <sys/types.h>

enum { FG_REFUSED = -1, FG_ABSENT = -2 };

/* Writes the sentence, cut to fit, and returns FG_REFUSED. */
int fg_cache_refuse(char why[FG_CACHE_WHY_BYTES], const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Where the place of this index is; its state is FG_CACHE_NONE, or FG_CACHE_ABSENT until someone looks. False: there are fewer. */
bool fg_cache_locate(int index, struct fg_cache_place *place);

/* Opens a directory that can be trusted, NULL: the user's cache. `make`: its last two components, if missing. A descriptor, or
 * FG_REFUSED or FG_ABSENT and why. */
int fg_cache_open(const char *path, bool make, char why[FG_CACHE_WHY_BYTES]);

/* A file in memory, as it was when it was read. */
struct fg_cached {
  unsigned char *data; /* heap */
  size_t bytes;
  const char *key; /* in data, not terminated */
  size_t key_bytes;
  const unsigned char *kernel; /* in data */
  size_t kernel_bytes;
  int64_t used_s;
};

/* The name of the file that holds the kernel of this key. */
void fg_cached_name(const char *key, size_t key_bytes, char file[FG_CACHE_FILE_BYTES]);

/* Reads a file that can be trusted. False: none, and why; nothing is to be freed then. */
bool fg_cached_read(int directory, const char *file, struct fg_cached *cached, char why[FG_CACHE_WHY_BYTES]);

/* The bytes of the file that holds this kernel. Heap; NULL: no memory. */
unsigned char *fg_cached_make(const char *key, const void *kernel, size_t kernel_bytes, size_t *bytes);

/* Publishes a file, whole or not at all. On failure errno says why. */
bool fg_cached_write(int directory, const char *file, mode_t mode, const void *data, size_t bytes);

/* Is it the name of a kernel's file, or of a temporary? */
bool fg_cached_is_kernel(const char *file);
bool fg_cached_is_temporary(const char *file);

/* Removes kernels until the directory keeps to its bound, the one of `file` last, and temporaries that are left over. */
void fg_cache_trim(int directory, const char *file);

#endif
