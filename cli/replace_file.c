/* A file's new content, whole or not at all. */
#include "tensor_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, MOST_LINKS = 40, MOST_ATTEMPTS = 1000, WRITE_BYTES = 1 << 20 };

/* Global, since a signal's handler has nothing else to find it by. */
static char temporary[PATH_BYTES];
static atomic_bool temporary_exists;
_Static_assert(ATOMIC_BOOL_LOCK_FREE == 2, "a handler reads it");

void tensor_file_cleanup(void) {
  if (atomic_load(&temporary_exists)) unlink(temporary);
}

/* The length of the directory's part of a path, with its slash: 0 for a bare name. */
static int directory_length(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? (int)(slash - path) + 1 : 0;
}

/* Follows the path's last component while it is a symbolic link, also to where nothing is yet. */
static bool follow_links(const char *path, char target[PATH_BYTES]) {
  if (snprintf(target, PATH_BYTES, "%s", path) >= PATH_BYTES) return false;
  char link[PATH_BYTES], joined[PATH_BYTES];
  for (int links = 0; links < MOST_LINKS; links++) {
    ssize_t length = readlink(target, link, sizeof link - 1);
    if (length < 0) return true;
    link[length] = '\0';
    if (snprintf(joined, sizeof joined, "%.*s%s", *link == '/' ? 0 : directory_length(target), target, link) >= PATH_BYTES)
      return false;
    memcpy(target, joined, sizeof joined);
  }
  return false;
}

/* A new file in the target's directory, with the permissions that any new file gets. -1 and errno on failure. */
static int create_temporary(const char *target) {
  for (int attempt = 0; attempt < MOST_ATTEMPTS; attempt++) {
    if (snprintf(temporary, sizeof temporary, "%.*s.finegemm-%ld-%d.tmp", directory_length(target), target, (long)getpid(),
                 attempt) >= PATH_BYTES) {
      errno = ENAMETOOLONG;
      return -1;
    }
    atomic_store(&temporary_exists, true);
    int descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0) return descriptor;
    atomic_store(&temporary_exists, false);
    if (errno != EEXIST) return -1;
  }
  return -1;
}

static bool write_whole(int descriptor, const char *data, size_t bytes) {
  while (bytes) {
    ssize_t written = write(descriptor, data, bytes < WRITE_BYTES ? bytes : WRITE_BYTES);
    if (written < 0 && errno != EINTR) return false;
    if (written > 0) {
      data += written;
      bytes -= (size_t)written;
    }
  }
  return true;
}

/* mode: of the file that is replaced; 0: there is none. */
static bool fill(int descriptor, const struct part *parts, size_t count, mode_t mode) {
  for (size_t i = 0; i < count; i++) {
    if (!write_whole(descriptor, parts[i].data, parts[i].bytes)) return false;
  }
  if (mode && fchmod(descriptor, mode & 0777)) return false;
  return fsync(descriptor) == 0;
}

static void directory_of(const char *target, char directory[PATH_BYTES]) {
  snprintf(directory, PATH_BYTES, "%.*s.", directory_length(target), target);
}

/* So that the new name outlives a power failure. Some file systems cannot: then it has to do without. */
static void sync_directory(const char *target) {
  char directory[PATH_BYTES];
  directory_of(target, directory);
  int descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  fsync(descriptor);
  close(descriptor);
}

/* What `path` leads to, and its mode; 0: nothing is there yet. */
static bool find_target(const char *path, char target[PATH_BYTES], mode_t *mode, char error[TENSOR_ERROR_BYTES]) {
  struct stat status;
  bool exists = stat(path, &status) == 0;
  if (!exists && errno != ENOENT) return tensor_fail(path, error, "cannot be written: %s", strerror(errno));
  if (exists && !S_ISREG(status.st_mode))
    return tensor_fail(path, error, "is %s; output must go to a regular file, which is replaced as a whole",
                       file_kind(status.st_mode));
  if (exists && access(path, W_OK)) return tensor_fail(path, error, "cannot be written: %s", strerror(errno));
  if (!follow_links(path, target)) return tensor_fail(path, error, "cannot be written: %s", strerror(ENAMETOOLONG));
  *mode = exists ? status.st_mode : 0;
  return true;
}

static bool fail_directory(const char *path, char error[TENSOR_ERROR_BYTES]) {
  return tensor_fail(path, error, "cannot be written: no file can be made in its directory: %s", strerror(errno));
}

bool replace_file_possible(const char *path, char error[TENSOR_ERROR_BYTES]) {
  char target[PATH_BYTES], directory[PATH_BYTES];
  mode_t mode = 0;
  if (!find_target(path, target, &mode, error)) return false;
  directory_of(target, directory);
  return access(directory, W_OK | X_OK) == 0 || fail_directory(path, error);
}

bool replace_file(const char *path, const struct part *parts, size_t count, char error[TENSOR_ERROR_BYTES]) {
  char target[PATH_BYTES];
  mode_t mode = 0;
  if (!find_target(path, target, &mode, error)) return false;
  int descriptor = create_temporary(target);
  if (descriptor < 0) return fail_directory(path, error);
  bool good = fill(descriptor, parts, count, mode);
  int reason = errno;
  if (close(descriptor) && good && errno != EINTR) {
    good = false;
    reason = errno;
  }
  if (good && rename(temporary, target)) {
    good = false;
    reason = errno;
  }
  if (!good) unlink(temporary);
  atomic_store(&temporary_exists, false);
  if (!good) return tensor_fail(path, error, "cannot be written: %s", strerror(reason));
  sync_directory(target);
  return true;
}
