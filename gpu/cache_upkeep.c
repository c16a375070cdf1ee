/* A cache as a whole: its bound, and what `finegemm cache` does. */
#include "cache_parts.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DEFAULT_BOUND_BYTES = 256 << 20, STALE_AFTER_S = 3600 };

int64_t fg_cache_bound_bytes(void) {
  const char *text = getenv("FG_CACHE_BYTES");
  if (!text || !isdigit((unsigned char)*text)) return DEFAULT_BOUND_BYTES;
  char *end;
  errno = 0;
  long long bound_bytes = strtoll(text, &end, 10);
  return errno || *end ? DEFAULT_BOUND_BYTES : bound_bytes;
}

/* --- What is there */

struct found {
  char file[FG_CACHE_FILE_BYTES];
  int64_t bytes;
  struct timespec used;
  bool is_temporary;
};

/* Appends to a heap array that is as large as the next power of two. False: no memory. */
static bool append(struct found **all, int *count, const struct found *found) {
  if ((*count & (*count - 1)) == 0) {
    struct found *larger = realloc(*all, (size_t)(*count ? 2 * *count : 1) * sizeof **all);
    if (!larger) return false;
    *all = larger;
  }
  (*all)[(*count)++] = *found;
  return true;
}

/* The cache's own files; others are none of its business. How many, heap; -1: not to be had, and errno. */
static int scan(int directory, struct found **all) {
  *all = NULL;
  int count = 0, descriptor = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *stream = descriptor < 0 ? NULL : fdopendir(descriptor);
  if (!stream) {
    int reason = errno;
    if (descriptor >= 0) close(descriptor);
    errno = reason;
    return -1;
  }
  for (bool good = true; good;) {
    errno = 0;
    struct dirent *entry = readdir(stream);
    if (!entry) break;
    struct found found = {.is_temporary = fg_cached_is_temporary(entry->d_name)};
    struct stat status;
    if (!found.is_temporary && !fg_cached_is_kernel(entry->d_name)) continue;
    if (fstatat(directory, entry->d_name, &status, AT_SYMLINK_NOFOLLOW)) continue; /* gone since */
    memcpy(found.file, entry->d_name, strlen(entry->d_name) + 1);                  /* such names are short */
    found.bytes = status.st_size;
    found.used = status.st_mtim;
    good = append(all, &count, &found);
  }
  int reason = errno;
  closedir(stream);
  if (!reason) return count;
  free(*all);
  *all = NULL;
  errno = reason;
  return -1;
}

static int earlier_first(const void *a, const void *b) {
  const struct found *x = a, *y = b;
  if (x->used.tv_sec != y->used.tv_sec) return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
  if (x->used.tv_nsec != y->used.tv_nsec) return x->used.tv_nsec < y->used.tv_nsec ? -1 : 1;
  return strcmp(x->file, y->file);
}

/* --- The bound */

static bool is_stale(const struct found *found, time_t now) {
  return found->is_temporary && (found->used.tv_sec < now - STALE_AFTER_S || found->used.tv_sec > now + STALE_AFTER_S);
}

void fg_cache_trim(int directory, const char *file) {
  struct found *all;
  int count = scan(directory, &all);
  if (count <= 0) return;
  int64_t bytes = 0, bound_bytes = fg_cache_bound_bytes();
  time_t now = time(NULL);
  for (int i = 0; i < count; i++) {
    if (is_stale(&all[i], now))
      unlinkat(directory, all[i].file, 0);
    else
      bytes += all[i].bytes;
  }
  qsort(all, (size_t)count, sizeof *all, earlier_first);
  for (int i = 0; i < count && bytes > bound_bytes; i++) {
    if (all[i].is_temporary || strcmp(all[i].file, file) == 0) continue;
    if (unlinkat(directory, all[i].file, 0) && errno != ENOENT) continue;
    bytes -= all[i].bytes;
  }
  free(all);
}

/* --- For people */

static int refuse_scan(char *why) { return fg_cache_refuse(why, "the cache's directory cannot be read: %s", strerror(errno)); }

/* Opens a cache and scans it. How many files; 0 with *directory < 0: it does not exist; -1: refused. */
static int open_and_scan(const char *path, int *directory, struct found **all, char *why) {
  *all = NULL;
  *directory = fg_cache_open(path, false, why);
  if (*directory < 0) return *directory == FG_ABSENT ? 0 : -1;
  int count = scan(*directory, all);
  if (count < 0) refuse_scan(why);
  return count;
}

static void describe(int directory, const struct found *found, struct fg_cache_entry *entry) {
  *entry = (struct fg_cache_entry){.bytes = found->bytes, .used_s = found->used.tv_sec};
  memcpy(entry->file, found->file, sizeof entry->file);
  char why[FG_CACHE_WHY_BYTES] = "";
  struct fg_cached cached;
  if (fg_cached_read(directory, found->file, &cached, why)) {
    char file[FG_CACHE_FILE_BYTES];
    fg_cached_name(cached.key, cached.key_bytes, file);
    entry->is_valid = strcmp(file, found->file) == 0;
    if (!entry->is_valid) fg_cache_refuse(why, "its name is that of another key");
    entry->key = strndup(cached.key, cached.key_bytes);
    free(cached.data);
  }
  snprintf(entry->why, sizeof entry->why, "%.*s", (int)sizeof entry->why - 1, why);
}

int fg_cache_list(const char *directory, struct fg_cache_entry **entries, char why[FG_CACHE_WHY_BYTES]) {
  int descriptor, listed = 0;
  struct found *all;
  *entries = NULL;
  int count = open_and_scan(directory, &descriptor, &all, why);
  if (count > 0) {
    *entries = calloc((size_t)count, sizeof **entries);
    if (!*entries) count = fg_cache_refuse(why, "there is no memory to list it");
    qsort(all, (size_t)(count > 0 ? count : 0), sizeof *all, earlier_first);
    for (int i = count - 1; i >= 0; i--) {
      if (!all[i].is_temporary) describe(descriptor, &all[i], &(*entries)[listed++]);
    }
  }
  free(all);
  if (descriptor >= 0) close(descriptor);
  return count < 0 ? -1 : listed;
}

void fg_cache_list_free(struct fg_cache_entry *entries, int count) {
  for (int i = 0; i < count; i++) free(entries[i].key);
  free(entries);
}

int fg_cache_clear(const char *directory, char why[FG_CACHE_WHY_BYTES]) {
  int descriptor, removed = 0;
  struct found *all;
  int count = open_and_scan(directory, &descriptor, &all, why);
  for (int i = 0; i < count && removed >= 0; i++) {
    if (unlinkat(descriptor, all[i].file, 0) == 0)
      removed++;
    else if (errno != ENOENT)
      removed = fg_cache_refuse(why, "%s cannot be removed: %s", all[i].file, strerror(errno));
  }
  free(all);
  if (descriptor >= 0) close(descriptor);
  return count < 0 ? -1 : removed;
}

/* Copies those that are valid. */
static int copy(int from, const struct found *all, int count, const char *to, char *why) {
  if (mkdir(to, 0755) && errno != EEXIST) return fg_cache_refuse(why, "%s cannot be made: %s", to, strerror(errno));
  int directory = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC), copied = 0;
  if (directory < 0) return fg_cache_refuse(why, "%s cannot be opened: %s", to, strerror(errno));
  for (int i = 0; i < count && copied >= 0; i++) {
    struct fg_cached cached;
    char file[FG_CACHE_FILE_BYTES];
    if (all[i].is_temporary || !fg_cached_read(from, all[i].file, &cached, why)) continue;
    fg_cached_name(cached.key, cached.key_bytes, file);
    if (strcmp(file, all[i].file) == 0) {
      if (fg_cached_write(directory, file, 0644, cached.data, cached.bytes))
        copied++;
      else
        copied = fg_cache_refuse(why, "%s cannot be written to %s: %s", file, to, strerror(errno));
    }
    free(cached.data);
  }
  close(directory);
  return copied;
}

int fg_cache_export(const char *to, char why[FG_CACHE_WHY_BYTES]) {
  int descriptor;
  struct found *all;
  int count = open_and_scan(NULL, &descriptor, &all, why);
  int copied = count < 0 ? -1 : copy(descriptor, all, count, to, why);
  free(all);
  if (descriptor >= 0) close(descriptor);
  return copied;
}
