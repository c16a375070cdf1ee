#include "cache.h"
#include "cache_parts.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TOUCH_AFTER_S = 3600 };

/* The kernel of this key from one directory; NULL: not there. */
static void *load_from(int directory, const char *key, size_t *bytes, int64_t *used_s) {
  char file[FG_CACHE_FILE_BYTES], why[FG_CACHE_WHY_BYTES];
  struct fg_cached cached;
  size_t key_bytes = strlen(key);
  fg_cached_name(key, key_bytes, file);
  if (!fg_cached_read(directory, file, &cached, why)) return NULL;
  if (cached.key_bytes != key_bytes || memcmp(cached.key, key, key_bytes) != 0) {
    free(cached.data);
    return NULL;
  }
  *bytes = cached.kernel_bytes;
  *used_s = cached.used_s;
  memmove(cached.data, cached.kernel, cached.kernel_bytes); /* to where malloc() has aligned it */
  return cached.data;
}

/* Sets the time of use to now, unless that was done a little while ago. Nothing depends on it. */
static void touch(int directory, const char *key, int64_t used_s) {
  char file[FG_CACHE_FILE_BYTES];
  int64_t age_s = (int64_t)time(NULL) - used_s;
  if (age_s >= 0 && age_s < TOUCH_AFTER_S) return;
  fg_cached_name(key, strlen(key), file);
  utimensat(directory, file, NULL, AT_SYMLINK_NOFOLLOW);
}

void *fg_cache_load(const char *key, size_t *bytes) {
  struct fg_cache_place place;
  void *kernel = NULL;
  for (int index = 0; !kernel && fg_cache_locate(index, &place); index++) {
    if (place.state != FG_CACHE_ABSENT) continue;
    int directory = fg_cache_open(place.path, false, place.why);
    if (directory < 0) continue;
    int64_t used_s;
    kernel = load_from(directory, key, bytes, &used_s);
    if (kernel && index == 0) touch(directory, key, used_s);
    close(directory);
  }
  return kernel;
}

/* Is a good file of this key there, as another process may have put it while this one compiled? */
static bool has(int directory, const char *key) {
  size_t bytes;
  int64_t used_s;
  void *kernel = load_from(directory, key, &bytes, &used_s);
  free(kernel);
  return kernel != NULL;
}

bool fg_cache_store(const char *key, const void *kernel, size_t kernel_bytes) {
  char file[FG_CACHE_FILE_BYTES], why[FG_CACHE_WHY_BYTES];
  size_t bytes;
  unsigned char *data = fg_cached_make(key, kernel, kernel_bytes, &bytes);
  if (!data) return false;
  bool stored = false;
  int directory = (int64_t)bytes > fg_cache_bound_bytes() ? -1 : fg_cache_open(NULL, true, why);
  if (directory >= 0) {
    fg_cached_name(key, strlen(key), file);
    stored = has(directory, key) || fg_cached_write(directory, file, 0600, data, bytes);
    if (stored) fg_cache_trim(directory, file);
    close(directory);
  }
  free(data);
  return stored;
}
