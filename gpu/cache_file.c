/* One kernel in one file: its name, its bytes, reading and publishing it. */
#include "cache_parts.h"
#include "read_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sha2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { VERSION = 1, HASH_BYTES = 32, MOST_BYTES = 1 << 28 };

static const char magic[8] = "FGKERNEL", prefix[] = ".kernel-", temporary_suffix[] = ".tmp", suffix[] = ".kernel";

struct header {
  char magic[8];
  uint64_t version, key_bytes, kernel_bytes;
  unsigned char hash[HASH_BYTES]; /* of all bytes before and after */
};
_Static_assert(sizeof(struct header) == 64 && offsetof(struct header, hash) == 32, "the format has no gaps");

static void hash_around(const unsigned char *data, size_t bytes, unsigned char hash[HASH_BYTES]) {
  SHA2_CTX state;
  SHA256Init(&state);
  SHA256Update(&state, data, offsetof(struct header, hash));
  SHA256Update(&state, data + sizeof(struct header), bytes - sizeof(struct header));
  SHA256Final(hash, &state);
}

/* --- Names */

void fg_cached_name(const char *key, size_t key_bytes, char file[FG_CACHE_FILE_BYTES]) {
  unsigned char hash[HASH_BYTES];
  SHA2_CTX state;
  SHA256Init(&state);
  SHA256Update(&state, (const unsigned char *)key, key_bytes);
  SHA256Final(hash, &state);
  for (int i = 0; i < HASH_BYTES; i++) snprintf(file + 2 * i, 3, "%02x", hash[i]);
  memcpy(file + 2 * HASH_BYTES, suffix, sizeof suffix);
}

bool fg_cached_is_kernel(const char *file) {
  return strspn(file, "0123456789abcdef") == 2 * HASH_BYTES && strcmp(file + 2 * HASH_BYTES, suffix) == 0;
}

bool fg_cached_is_temporary(const char *file) {
  size_t length = strlen(file);
  return length < FG_CACHE_FILE_BYTES && length > sizeof prefix + sizeof temporary_suffix &&
         strncmp(file, prefix, sizeof prefix - 1) == 0 &&
         strcmp(file + length - (sizeof temporary_suffix - 1), temporary_suffix) == 0;
}

/* --- Reading */

__attribute__((format(printf, 2, 3))) static bool refuse(char *why, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(why, FG_CACHE_WHY_BYTES, format, arguments);
  va_end(arguments);
  return false;
}

static bool refuse_errno(char *why, const char *what) { return refuse(why, "it cannot be %s: %s", what, strerror(errno)); }

/* Is this an open file that only the user or root can have written? */
static bool is_trusted(int descriptor, struct stat *status, char *why) {
  if (fstat(descriptor, status)) return refuse_errno(why, "looked at");
  if (!S_ISREG(status->st_mode)) return refuse(why, "it is not a regular file");
  if (status->st_uid != 0 && status->st_uid != geteuid()) return refuse(why, "it belongs to user %ld", (long)status->st_uid);
  if (status->st_mode & (S_IWGRP | S_IWOTH))
    return refuse(why, "others than its owner may write it (mode %04o)", (unsigned)status->st_mode & 07777);
  if (status->st_size < (off_t)sizeof(struct header)) return refuse(why, "it is shorter than its header");
  if (status->st_size > MOST_BYTES) return refuse(why, "it is larger than %d bytes", MOST_BYTES);
  return true;
}

/* Sets what `cached` says of its data. */
static bool is_whole(struct fg_cached *cached, char *why) {
  struct header header;
  unsigned char hash[HASH_BYTES];
  memcpy(&header, cached->data, sizeof header);
  uint64_t content_bytes = cached->bytes - sizeof header;
  if (memcmp(header.magic, magic, sizeof magic) != 0) return refuse(why, "it does not begin as a kernel's file");
  if (header.version != VERSION) return refuse(why, "its format has version %" PRIu64 ", not %d", header.version, VERSION);
  if (header.key_bytes > content_bytes || header.kernel_bytes != content_bytes - header.key_bytes)
    return refuse(why, "it is not as long as its header says");
  hash_around(cached->data, cached->bytes, hash);
  if (memcmp(hash, header.hash, sizeof hash) != 0) return refuse(why, "its SHA-256 is wrong");
  cached->key = (const char *)cached->data + sizeof header;
  cached->key_bytes = (size_t)header.key_bytes;
  cached->kernel = cached->data + sizeof header + header.key_bytes;
  cached->kernel_bytes = (size_t)header.kernel_bytes;
  return true;
}

bool fg_cached_read(int directory, const char *file, struct fg_cached *cached, char why[FG_CACHE_WHY_BYTES]) {
  *cached = (struct fg_cached){0};
  int descriptor =
      openat(directory, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC); /* a pipe does not stop it */
  if (descriptor < 0) return refuse_errno(why, "opened");
  struct stat status;
  bool good = is_trusted(descriptor, &status, why);
  if (good) {
    cached->bytes = (size_t)status.st_size;
    cached->used_s = status.st_mtime;
    cached->data = malloc(cached->bytes);
    good = cached->data && fg_read_whole(descriptor, cached->data, cached->bytes, ENODATA);
    if (!good) refuse_errno(why, "read");
  }
  close(descriptor);
  if (good && is_whole(cached, why)) return true;
  free(cached->data);
  cached->data = NULL;
  return false;
}

/* --- Publishing */

unsigned char *fg_cached_make(const char *key, const void *kernel, size_t kernel_bytes, size_t *bytes) {
  size_t key_bytes = strlen(key);
  if (key_bytes > MOST_BYTES || kernel_bytes > MOST_BYTES) return NULL;
  *bytes = sizeof(struct header) + key_bytes + kernel_bytes;
  unsigned char *data = *bytes > MOST_BYTES ? NULL : malloc(*bytes);
  if (!data) return NULL;
  struct header header = {.version = VERSION, .key_bytes = key_bytes, .kernel_bytes = kernel_bytes};
  memcpy(header.magic, magic, sizeof magic);
  memcpy(data, &header, sizeof header);
  memcpy(data + sizeof header, key, key_bytes);
  if (kernel_bytes) memcpy(data + sizeof header + key_bytes, kernel, kernel_bytes);
  hash_around(data, *bytes, data + offsetof(struct header, hash));
  return data;
}

/* A name that no other writer has, in this or another process or machine; a clash would be found by O_EXCL. */
static void name_temporary(char file[FG_CACHE_FILE_BYTES]) {
  static atomic_uint count;
  struct timespec now = {0};
  clock_gettime(CLOCK_REALTIME, &now);
  snprintf(file, FG_CACHE_FILE_BYTES, "%s%ld-%lld%09ld-%u%s", prefix, (long)getpid(), (long long)now.tv_sec, now.tv_nsec,
           atomic_fetch_add(&count, 1), temporary_suffix);
}

static bool write_whole(int descriptor, const unsigned char *data, size_t bytes) {
  while (bytes) {
    ssize_t written = write(descriptor, data, bytes);
    if (written < 0 && errno != EINTR) return false;
    if (written > 0) {
      data += written;
      bytes -= (size_t)written;
    }
  }
  return fsync(descriptor) == 0;
}

bool fg_cached_write(int directory, const char *file, mode_t mode, const void *data, size_t bytes) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && bytes > limit.rlim_cur) {
    errno = EFBIG; /* to try would end the process by SIGXFSZ */
    return false;
  }
  char temporary[FG_CACHE_FILE_BYTES];
  name_temporary(temporary);
  int descriptor = openat(directory, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  if (descriptor < 0) return false;
  bool good = write_whole(descriptor, data, bytes);
  int reason = errno;
  close(descriptor); /* what could fail has failed in fsync() */
  if (good && renameat(directory, temporary, directory, file)) {
    good = false;
    reason = errno;
  }
  if (good)
    fsync(directory); /* so that the name outlives a power failure, where the file system can do that */
  else
    unlinkat(directory, temporary, 0);
  errno = reason;
  return good;
}
