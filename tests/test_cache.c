/* The cache of kernels: whatever happens to it, what it gives is what was stored under that key by someone who may, or nothing.
 * The linker sends the library's system calls and allocations through here (cmake/tests.cmake wraps them), so that the Nth of them
 * fails, comes short, or is the last thing that a writer does. FG_EXHAUSTIVE=1 in the environment: the long counts. */
#define _GNU_SOURCE /* unshare */
#include "cache.h"

#include "cache_parts.h"
#include "support.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <locale.h>
#include <pthread.h>
#include <sched.h>
#include <sha2.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 1024, STRANGER = 65534, CROWD = 64, HOUR_S = 3600 };

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool is_exhaustive(void) {
  const char *exhaustive = getenv("FG_EXHAUSTIVE");
  return exhaustive && strcmp(exhaustive, "1") == 0;
}

/* --- System calls that go wrong */

enum deed {
  NOTHING,
  COUNT_ONLY,
  FAIL,        /* the Nth fails */
  FAIL_ONWARD, /* and so do all after it */
  KILL,        /* the process ends before the Nth, or, if that is a write, half way through */
  DRIBBLE      /* a few bytes at a time, with interruptions */
};

static struct {
  enum deed deed;
  int at, count, error;
  char trace[1 << 14]; /* their names, a space after each */
} fault;

static void begin_fault(enum deed deed, int at, int error) {
  fault.at = at;
  fault.count = 0;
  fault.error = error;
  fault.trace[0] = '\0';
  fault.deed = deed;
}

/* Returns whether the deed was done. */
static bool end_fault(void) {
  enum deed deed = fault.deed;
  fault.deed = NOTHING;
  return deed > COUNT_ONLY && fault.count >= fault.at;
}

/* True: this call is to fail, and errno says why. Does not return if the process is to end. */
static bool strikes(const char *name) {
  if (fault.deed == NOTHING) return false;
  fault.count++;
  size_t length = strlen(fault.trace);
  snprintf(fault.trace + length, sizeof fault.trace - length, "%s ", name);
  if (fault.deed == KILL && fault.count == fault.at) raise(SIGKILL);
  bool now = (fault.deed == FAIL && fault.count == fault.at) || (fault.deed == FAIL_ONWARD && fault.count >= fault.at);
  if (now) errno = fault.error;
  return now;
}

#define WRAP(type, name, parameters, arguments, failure)                                                                         \
  type __real_##name parameters;                                                                                                 \
  type __wrap_##name parameters;                                                                                                 \
  type __wrap_##name parameters { return strikes(#name) ? (failure) : __real_##name arguments; }

WRAP(int, fstat, (int descriptor, struct stat *status), (descriptor, status), -1)
WRAP(int, fstatat, (int directory, const char *path, struct stat *status, int flags), (directory, path, status, flags), -1)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), -1)
WRAP(int, mkdirat, (int directory, const char *path, mode_t mode), (directory, path, mode), -1)
WRAP(int, renameat, (int from, const char *old, int to, const char *new), (from, old, to, new), -1)
WRAP(int, unlinkat, (int directory, const char *path, int flags), (directory, path, flags), -1)
WRAP(int, utimensat, (int directory, const char *path, const struct timespec *times, int flags), (directory, path, times, flags),
     -1)
WRAP(ssize_t, readlinkat, (int directory, const char *path, char *target, size_t bytes), (directory, path, target, bytes), -1)
WRAP(DIR *, fdopendir, (int descriptor), (descriptor), NULL)
WRAP(struct dirent *, readdir, (DIR * stream), (stream), NULL)
WRAP(void *, malloc, (size_t bytes), (bytes), NULL)
WRAP(void *, calloc, (size_t count, size_t bytes), (count, bytes), NULL)
WRAP(void *, realloc, (void *pointer, size_t bytes), (pointer, bytes), NULL)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
  va_list mode;
  va_start(mode, flags);
  int result = strikes("open") ? -1 : __real_open(path, flags, flags & O_CREAT ? va_arg(mode, mode_t) : 0);
  va_end(mode);
  return result;
}

int __real_openat(int directory, const char *path, int flags, ...);
int __wrap_openat(int directory, const char *path, int flags, ...);
int __wrap_openat(int directory, const char *path, int flags, ...) {
  va_list mode;
  va_start(mode, flags);
  int result = strikes("openat") ? -1 : __real_openat(directory, path, flags, flags & O_CREAT ? va_arg(mode, mode_t) : 0);
  va_end(mode);
  return result;
}

/* Only a power failure would tell: the disk is waited for in the long run alone. */
int __real_fsync(int descriptor);
int __wrap_fsync(int descriptor);
int __wrap_fsync(int descriptor) {
  if (strikes("fsync")) return -1;
  return is_exhaustive() ? __real_fsync(descriptor) : 0;
}

int __real_close(int descriptor);
int __wrap_close(int descriptor);
int __wrap_close(int descriptor) { /* one that fails has closed all the same */
  bool struck = strikes("close");
  int error = errno, result = __real_close(descriptor);
  if (struck) errno = error;
  return struck ? -1 : result;
}

/* A clock too coarse to tell writers apart. */
static bool clock_stands;

int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now) {
  if (!clock_stands) return __real_clock_gettime(clock, now);
  *now = (struct timespec){.tv_sec = 1};
  return 0;
}

/* What a read or write of so many bytes does instead; 0: it is interrupted. */
static size_t dribble(size_t bytes) {
  if (fault.deed != DRIBBLE) return bytes;
  if (fault.count % 3 == 0) errno = EINTR;
  return fault.count % 3 == 0 ? 0 : bytes < 7 ? bytes : 7;
}

ssize_t __real_read(int descriptor, void *data, size_t bytes);
ssize_t __wrap_read(int descriptor, void *data, size_t bytes);
ssize_t __wrap_read(int descriptor, void *data, size_t bytes) {
  if (strikes("read")) return -1;
  size_t some = dribble(bytes);
  return some || !bytes ? __real_read(descriptor, data, some) : -1;
}

ssize_t __real_write(int descriptor, const void *data, size_t bytes);
ssize_t __wrap_write(int descriptor, const void *data, size_t bytes);
ssize_t __wrap_write(int descriptor, const void *data, size_t bytes) {
  if (fault.deed == KILL && fault.count + 1 == fault.at && __real_write(descriptor, data, bytes / 2) < 0) return -1;
  if (strikes("write")) return -1;
  size_t some = dribble(bytes);
  return some || !bytes ? __real_write(descriptor, data, some) : -1;
}

/* --- A folder for each test, with a cache in it */

static char folder[PATH_BYTES / 2];

/* folder/name, in one of a few buffers that take turns. */
static const char *in_folder(const char *name) {
  static char paths[8][PATH_BYTES];
  static int turn;
  char *path = paths[turn++ % 8];
  snprintf(path, PATH_BYTES, "%s/%s", folder, name);
  return path;
}

static void begin(void) {
  const char *parent = getenv("TMPDIR"), *memory = access("/dev/shm", W_OK) == 0 && !is_exhaustive() ? "/dev/shm" : "/tmp";
  snprintf(folder, sizeof folder, "%s/finegemm-cache-XXXXXX", parent ? parent : memory);
  cr_assert(mkdtemp(folder) != NULL, "%s: %s", folder, strerror(errno));
  unsetenv("XDG_CACHE_HOME");
  unsetenv("HOME");
  unsetenv("FG_CACHE_PATH");
  unsetenv("FG_CACHE_BYTES");
  setenv("FG_CACHE_DIR", in_folder("cache"), 1);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk) {
  (void)status, (void)type, (void)walk;
  return remove(path);
}

static void end(void) { nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS); }

/* Directory entries, without . and .. */
static int entries(const char *path) {
  DIR *stream = opendir(path);
  int count = stream ? -2 : 0;
  while (stream && readdir(stream)) count++;
  if (stream) closedir(stream);
  return count;
}

static int open_files(void) { return entries("/proc/self/fd"); }

static const char *file_of(const char *key) {
  char name[FG_CACHE_FILE_BYTES], path[2 * FG_CACHE_FILE_BYTES];
  fg_cached_name(key, strlen(key), name);
  snprintf(path, sizeof path, "cache/%s", name);
  return in_folder(path);
}

static void put(const char *path, const void *data, size_t bytes, mode_t mode) {
  int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
  cr_assert(descriptor >= 0 && write(descriptor, data, bytes) == (ssize_t)bytes && fchmod(descriptor, mode) == 0, "%s: %s", path,
            strerror(errno));
  close(descriptor);
}

static void set_age(const char *path, int64_t age_s) {
  struct timespec then[2] = {{.tv_sec = time(NULL) - age_s}, {.tv_sec = time(NULL) - age_s}};
  cr_assert_eq(utimensat(AT_FDCWD, path, then, AT_SYMLINK_NOFOLLOW), 0, "%s", path);
}

static int64_t age_s(const char *path) {
  struct stat status;
  cr_assert_eq(lstat(path, &status), 0, "%s", path);
  return (int64_t)(time(NULL) - status.st_mtime);
}

static bool exists(const char *path) { return access(path, F_OK) == 0; }

/* A kernel that follows from its key; the caller frees. `change`: 0, or one that is not what was stored. */
static unsigned char *kernel_of(const char *key, size_t bytes, unsigned char change) {
  uint64_t state = bytes;
  for (const char *c = key; *c; c++) state = state * 31 + (unsigned char)*c;
  unsigned char *kernel = __real_malloc(bytes + !bytes); /* never the allocation that fails */
  for (size_t i = 0; i < bytes; i++) kernel[i] = (unsigned char)((i % 8 ? state >> (i % 8 * 8) : next_random(&state)) ^ change);
  return kernel;
}

static bool store(const char *key, size_t bytes) {
  unsigned char *kernel = kernel_of(key, bytes, 0);
  bool stored = fg_cache_store(key, kernel, bytes);
  free(kernel);
  return stored;
}

enum found { MISSING, RIGHT, WRONG };

static enum found load(const char *key, size_t bytes) {
  size_t got = 12345;
  unsigned char *loaded = fg_cache_load(key, &got), *kernel = kernel_of(key, bytes, 0);
  enum found found = !loaded                                                                             ? MISSING
                     : got == bytes && (uintptr_t)loaded % 16 == 0 && memcmp(loaded, kernel, bytes) == 0 ? RIGHT
                                                                                                         : WRONG;
  free(loaded);
  free(kernel);
  return found;
}

/* Exit status of a process of its own that does `act`; -9 if it was killed by signal 9. */
static int apart(int (*act)(void)) {
  fflush(NULL);
  pid_t child = fork();
  cr_assert_geq(child, 0);
  if (child == 0) _exit(act());
  int status = 0;
  cr_assert_eq(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* --- What it holds */

/* Name and hash are sha256sum's: of "a key", and of the file without its bytes 32 to 63. */
Test(cache, writes_the_format_that_is_documented) {
  static const unsigned char hash[32] = {0x7B, 0x28, 0xF1, 0x81, 0x4B, 0x7F, 0x64, 0x6E, 0xD8, 0x95, 0x97,
                                         0x5B, 0xEF, 0x90, 0xED, 0x5F, 0x53, 0x77, 0x7B, 0x1D, 0x58, 0x82,
                                         0xCB, 0xE4, 0x9C, 0xC8, 0x50, 0xA8, 0x05, 0x8E, 0x1A, 0x7C};
  unsigned char expected[64 + 5 + 8] = "FGKERNEL", found[100];
  begin();
  mode_t before = umask(0);
  cr_assert(fg_cache_store("a key", "a kernel", 8));
  umask(before);
  const char *path = in_folder("cache/8fa3aab2faa9b79e0a0398da5b5abd0780142442a5be80b9a64608d718cb1fcd.kernel");
  int descriptor = open(path, O_RDONLY);
  cr_assert(descriptor >= 0, "%s: %s", path, strerror(errno));
  cr_assert_eq(read(descriptor, found, sizeof found), (ssize_t)sizeof expected);
  close(descriptor);
  memcpy(expected + 8, (uint64_t[]){1, 5, 8}, 24);
  memcpy(expected + 32, hash, 32);
  memcpy(expected + 64, "a keya kernel", 13);
  cr_expect_eq(memcmp(found, expected, sizeof expected), 0);
  struct stat status;
  cr_expect(stat(path, &status) == 0 && (status.st_mode & 07777) == 0600);
  cr_expect(stat(in_folder("cache"), &status) == 0 && (status.st_mode & 07777) == 0700);
  cr_expect_eq(entries(in_folder("cache")), 1);
  end();
}

Test(cache, gives_what_was_stored_under_exactly_that_key) {
  enum { LONG = 100000 };
  static char late[LONG], later[LONG];
  memset(late, 'k', LONG - 1);
  memcpy(later, late, LONG);
  later[LONG - 2] = 'l';
  const char *const keys[] = {"", "k", "kk", "key\nof two lines\n", "key\nof two lines", "\xC3\xA9", late, late + 1, later};
  const size_t sizes[] = {0, 1, 15, 16, 17, 4096, 1000003};
  begin();
  for (size_t s = 0; s < COUNT(sizes); s++) {
    for (size_t k = 0; k < COUNT(keys); k++) cr_expect_eq(load(keys[k], sizes[s]), MISSING, "key %zu", k);
    for (size_t k = 0; k < COUNT(keys); k++) cr_expect(store(keys[k], sizes[s]), "key %zu", k);
    for (size_t k = 0; k < COUNT(keys); k++) cr_expect_eq(load(keys[k], sizes[s]), RIGHT, "key %zu, %zu bytes", k, sizes[s]);
    cr_expect_eq(entries(in_folder("cache")), (int)COUNT(keys));
    char why[FG_CACHE_WHY_BYTES];
    cr_expect_eq(fg_cache_clear(NULL, why), (int)COUNT(keys), "%s", why);
  }
  end();
}

/* Two writers of one key have the same kernel: the first stays, unless it is damaged. */
Test(cache, replaces_only_what_is_damaged) {
  begin();
  cr_assert(store("key", 100));
  cr_expect(fg_cache_store("key", "other", 5));
  cr_expect_eq(load("key", 100), RIGHT);
  cr_assert_eq(truncate(file_of("key"), 99), 0);
  cr_expect(store("key", 100));
  cr_expect_eq(load("key", 100), RIGHT);
  end();
}

Test(cache, refuses_what_is_too_large) {
  begin();
  cr_assert(store("key", 100));
  cr_expect(!fg_cache_store("huge", "", SIZE_MAX));
  cr_expect(!fg_cache_store("huge", "", SIZE_MAX - 68)); /* the size of the file would wrap to 0 */
  cr_expect(!fg_cache_store("huge", "", (size_t)1 << 28));
  setenv("FG_CACHE_BYTES", "1000", 1);
  cr_expect(store("just", 1000 - 64 - 4));
  cr_expect(!store("more", 1000 - 64 - 3));
  setenv("FG_CACHE_BYTES", "0", 1);
  cr_expect(!store("empty", 0));
  cr_expect_eq(load("just", 1000 - 64 - 4), RIGHT);
  cr_expect_eq(truncate(file_of("just"), (off_t)1 << 40), 0); /* a hole */
  cr_expect_eq(load("just", 1000 - 64 - 4), MISSING);
  end();
}

/* As if both keys had one hash: the file of one stands under the other's name. */
Test(cache, tells_keys_apart_whose_hashes_collide) {
  begin();
  cr_assert(store("one", 100) && store("one, sm_90a", 100) && store("one, sm_90b", 100));
  cr_assert_eq(rename(file_of("one, sm_90a"), file_of("one, sm_90b")), 0);
  cr_expect_eq(load("one, sm_90b", 100), MISSING);
  cr_assert_eq(rename(file_of("one"), file_of("one, sm_90b")), 0);
  cr_expect_eq(load("one", 100), MISSING);
  cr_expect_eq(load("one, sm_90b", 100), MISSING);
  struct fg_cache_entry *entry;
  char why[FG_CACHE_WHY_BYTES];
  cr_assert_eq(fg_cache_list(NULL, &entry, why), 1, "%s", why);
  cr_expect(!entry->is_valid && strcmp(entry->key, "one") == 0 && strstr(entry->why, "another key"), "%s", entry->why);
  fg_cache_list_free(entry, 1);
  cr_expect(store("one, sm_90b", 100));
  cr_expect_eq(load("one, sm_90b", 100), RIGHT);
  end();
}

/* --- Damage */

/* Every bit, every length, a byte more. */
Test(cache, refuses_every_damaged_file) {
  begin();
  const struct {
    const char *key;
    size_t bytes;
  } files[] = {{"k", 0}, {"level naive, sm_90a", 64}, {"a key that is as long as its kernel: sixty-four", 1000}};
  int refused = 0;
  for (size_t f = 0; f < COUNT(files); f++) {
    const char *key = files[f].key;
    size_t bytes = files[f].bytes, whole = 64 + strlen(key) + bytes;
    cr_assert(store(key, bytes));
    unsigned char *content = malloc(whole);
    int descriptor = open(file_of(key), O_RDWR);
    cr_assert_eq(pread(descriptor, content, whole, 0), (ssize_t)whole);
    for (size_t bit = 0; bit < 8 * whole; bit++) {
      unsigned char flipped = content[bit / 8] ^ (unsigned char)(1 << bit % 8);
      cr_assert_eq(pwrite(descriptor, &flipped, 1, (off_t)(bit / 8)), 1);
      cr_expect_eq(load(key, bytes), MISSING, "bit %zu of '%s'", bit, key);
      cr_assert_eq(pwrite(descriptor, &content[bit / 8], 1, (off_t)(bit / 8)), 1);
      refused++;
    }
    for (size_t length = whole; length-- > 0;) {
      cr_assert_eq(ftruncate(descriptor, (off_t)length), 0);
      cr_expect_eq(load(key, bytes), MISSING, "'%s' cut to %zu bytes", key, length);
      refused++;
    }
    cr_assert_eq(pwrite(descriptor, content, whole, 0), (ssize_t)whole);
    cr_expect_eq(load(key, bytes), RIGHT);
    cr_assert_eq(pwrite(descriptor, "", 1, (off_t)whole), 1);
    cr_expect_eq(load(key, bytes), MISSING);
    close(descriptor);
    free(content);
  }
  cr_assert(refused > 10000, "only %d", refused);
  end();
}

/* Headers that say what is not so, with a hash that is right: a file of tomorrow, or of an enemy who may write here. */
Test(cache, refuses_other_formats_and_impossible_sizes) {
  static const struct {
    const char *magic;
    uint64_t version, key_bytes, kernel_bytes;
    int64_t file_bytes;
    const char *expected;
  } rows[] = {
      {"FGKERNEL", 1, 3, 10, 77, ""}, /* as it should be */
      {"FGKERNEM", 1, 3, 10, 77, "does not begin as a kernel's file"},
      {"\x7F"
       "ELF\2\1\1",
       1, 3, 10, 77, "does not begin as a kernel's file"},
      {"FGKERNEL", 0, 3, 10, 77, "has version 0, not 1"},
      {"FGKERNEL", 2, 3, 10, 77, "has version 2, not 1"},
      {"FGKERNEL", (uint64_t)1 << 56, 3, 10, 77, "has version 72057594037927936, not 1"}, /* the other byte order */
      {"FGKERNEL", 1, 3, 9, 77, "as long as its header says"},
      {"FGKERNEL", 1, 3, 11, 77, "as long as its header says"},
      {"FGKERNEL", 1, 14, UINT64_MAX, 77, "as long as its header says"}, /* 14 - 1 = 13 */
      {"FGKERNEL", 1, UINT64_MAX, 14, 77, "as long as its header says"},
      {"FGKERNEL", 1, UINT64_MAX - 63, 77, 77, "as long as its header says"},
      {"FGKERNEL", 1, 3, 10, 63, "shorter than its header"},
      {"FGKERNEL", 1, 3, 10, 0, "shorter than its header"},
      {"FGKERNEL", 1, 3, ((uint64_t)1 << 28) - 66, ((int64_t)1 << 28) + 1, "larger than 268435456 bytes"},
  };
  begin();
  cr_assert(store("key", 10));
  for (size_t i = 0; i < COUNT(rows); i++) {
    unsigned char content[77];
    int descriptor = open(file_of("key"), O_RDWR);
    cr_assert_eq(pread(descriptor, content, sizeof content, 0), (ssize_t)sizeof content);
    memcpy(content, rows[i].magic, 8);
    memcpy(content + 8, &rows[i].version, 8);
    memcpy(content + 16, &rows[i].key_bytes, 8);
    memcpy(content + 24, &rows[i].kernel_bytes, 8);
    SHA2_CTX state;
    SHA256Init(&state);
    SHA256Update(&state, content, 32);
    SHA256Update(&state, content + 64, sizeof content - 64);
    SHA256Final(content + 32, &state);
    cr_assert_eq(pwrite(descriptor, content, sizeof content, 0), (ssize_t)sizeof content);
    cr_assert_eq(ftruncate(descriptor, rows[i].file_bytes), 0);
    close(descriptor);
    cr_expect_eq(load("key", 10), *rows[i].expected ? MISSING : RIGHT, "row %zu", i);
    struct fg_cache_entry *entry;
    char why[FG_CACHE_WHY_BYTES];
    cr_assert_eq(fg_cache_list(NULL, &entry, why), 1, "%s", why);
    cr_expect(entry->is_valid == !*rows[i].expected && strstr(entry->why, rows[i].expected), "row %zu: %s", i, entry->why);
    fg_cache_list_free(entry, 1);
    unlink(file_of("key"));
    cr_assert(store("key", 10));
  }
  end();
}

/* --- Strangers. All of a row is undone before the next. */

static const char key[] = "a kernel that must not be another's";
enum { BYTES = 500 };

/* A file with this key and right hash, but another kernel. */
static void put_foreign(const char *path, mode_t mode) {
  size_t bytes;
  unsigned char *kernel = kernel_of(key, BYTES, 0x55), *data = fg_cached_make(key, kernel, BYTES, &bytes);
  put(path, data, bytes, mode);
  free(data);
  free(kernel);
}

static bool is_root(void) { return geteuid() == 0; }

/* base/cache, where base is root's or the user's; folder/good is a file that may be loaded. */
static const char *file(void) { return file_of(key); }
static const char *cache(void) { return in_folder("cache"); }
static const char *aside(void) { return in_folder("aside"); }

static void file_0666(void) { chmod(file(), 0666); }
static void file_0620(void) { chmod(file(), 0620); }
static void file_0602(void) { chmod(file(), 0602); }
static void file_restored(void) { chmod(file(), 0600); }
static void file_of_a_stranger(void) { cr_assert_eq(chown(file(), STRANGER, (gid_t)-1), 0); }
static void file_given_back(void) { cr_assert_eq(chown(file(), 0, (gid_t)-1), 0); }
static void file_is_a_link(void) { cr_assert(rename(file(), aside()) == 0 && symlink(aside(), file()) == 0); }
static void file_is_a_directory(void) { cr_assert(rename(file(), aside()) == 0 && mkdir(file(), 0700) == 0); }
static void file_is_a_pipe(void) { cr_assert(rename(file(), aside()) == 0 && mkfifo(file(), 0600) == 0); }
static void file_is_a_dead_link(void) { cr_assert(rename(file(), aside()) == 0 && symlink("nowhere", file()) == 0); }
static void file_back(void) { cr_assert(remove(file()) == 0 && rename(aside(), file()) == 0); }

static void cache_0777(void) { chmod(cache(), 0777); }
static void cache_01777(void) { chmod(cache(), 01777); }
static void cache_0770(void) { chmod(cache(), 0770); }
static void cache_0702(void) { chmod(cache(), 0702); }
static void cache_restored(void) { chmod(cache(), 0700); }
static void cache_of_a_stranger(void) { cr_assert_eq(chown(cache(), STRANGER, (gid_t)-1), 0); }
static void cache_given_back(void) { cr_assert_eq(chown(cache(), 0, (gid_t)-1), 0); }
static void cache_is_a_link(void) { cr_assert(rename(cache(), aside()) == 0 && symlink(aside(), cache()) == 0); }
static void cache_is_a_relative_link(void) { cr_assert(rename(cache(), aside()) == 0 && symlink("aside", cache()) == 0); }
static void cache_is_a_loop(void) { cr_assert(rename(cache(), aside()) == 0 && symlink("cache", cache()) == 0); }
static void cache_is_a_file(void) {
  cr_assert_eq(rename(cache(), aside()), 0);
  put(cache(), "", 0, 0700);
}
static void cache_back(void) { cr_assert(remove(cache()) == 0 && rename(aside(), cache()) == 0); }

static void parent_0777(void) { chmod(folder, 0777); }
static void parent_0720(void) { chmod(folder, 0720); }
static void parent_restored(void) { chmod(folder, 0700); }
static void parent_of_a_stranger(void) { cr_assert_eq(chown(folder, STRANGER, (gid_t)-1), 0); }
static void sticky_parent_of_a_stranger(void) {
  parent_of_a_stranger();
  chmod(folder, 01777);
}
static void parent_given_back(void) {
  cr_assert_eq(chown(folder, 0, (gid_t)-1), 0);
  chmod(folder, 0700);
}
static void sticky_parent_of_root(void) { chmod(folder, 01777); }

/* The way leads through folder/way, which is a link to the folder. */
static void way(const char *target) {
  cr_assert_eq(symlink(target, in_folder("way")), 0);
  setenv("FG_CACHE_DIR", in_folder("way/cache"), 1);
}
static void way_is_a_link(void) { way(folder); }
static void way_is_a_relative_link(void) { way("."); }
static void way_goes_up(void) { way("cache/.."); }
static void way_is_a_strangers_link(void) {
  way(folder);
  cr_assert_eq(lchown(in_folder("way"), STRANGER, (gid_t)-1), 0);
}
static void way_is_a_loop(void) { way("way"); }
static void way_leads_through_a_strangers_directory(void) {
  cr_assert(mkdir(in_folder("theirs"), 0700) == 0 && symlink(folder, in_folder("theirs/way")) == 0);
  cr_assert_eq(chown(in_folder("theirs"), STRANGER, (gid_t)-1), 0);
  way("theirs/way");
}
static void way_back(void) {
  cr_assert_eq(unlink(in_folder("way")), 0);
  remove(in_folder("theirs/way"));
  rmdir(in_folder("theirs"));
  setenv("FG_CACHE_DIR", cache(), 1);
}

static const struct stranger {
  const char *name;
  void (*come)(void), (*go)(void);
  bool wants_root, is_harmless, is_of_file;
  const char
      *expected; /* a part of what fg_cache_place() or fg_cache_list() says; from '/' on: how it goes on after the folder */
} strangers[] = {
    {"file 0666", file_0666, file_restored, .is_of_file = true, .expected = "(mode 0666)"},
    {"file 0620", file_0620, file_restored, .is_of_file = true, .expected = "(mode 0620)"},
    {"file 0602", file_0602, file_restored, .is_of_file = true, .expected = "(mode 0602)"},
    {"a stranger's file", file_of_a_stranger, file_given_back, true, .is_of_file = true, .expected = "belongs to user 65534"},
    {"file is a link", file_is_a_link, file_back, .is_of_file = true, .expected = "cannot be opened"},
    {"file is a dead link", file_is_a_dead_link, file_back, .is_of_file = true, .expected = "cannot be opened"},
    {"file is a directory", file_is_a_directory, file_back, .is_of_file = true, .expected = "not a regular file"},
    {"file is a pipe", file_is_a_pipe, file_back, .is_of_file = true, .expected = "not a regular file"},
    {"cache 0777", cache_0777, cache_restored, .expected = "(mode 0777)"},
    {"cache 01777", cache_01777, cache_restored, .expected = "(mode 1777)"},
    {"cache 0770", cache_0770, cache_restored, .expected = "(mode 0770)"},
    {"cache 0702", cache_0702, cache_restored, .expected = "(mode 0702)"},
    {"a stranger's cache", cache_of_a_stranger, cache_given_back, true, .expected = "/cache belongs to user 65534"},
    {"cache is a link", cache_is_a_link, cache_back, .expected = "/cache is a symbolic link"},
    {"cache is a relative link", cache_is_a_relative_link, cache_back, .expected = "/cache is a symbolic link"},
    {"cache is a loop", cache_is_a_loop, cache_back, .expected = "/cache is a symbolic link"},
    {"cache is a file", cache_is_a_file, cache_back, .expected = "/cache is not a directory"},
    {"parent 0777", parent_0777, parent_restored, .expected = "(mode 0777)"},
    {"parent 0720", parent_0720, parent_restored, .expected = "(mode 0720)"},
    {"a stranger's parent", parent_of_a_stranger, parent_given_back, true, .expected = "belongs to user 65534"},
    {"a stranger's sticky parent", sticky_parent_of_a_stranger, parent_given_back, true, .expected = "belongs to user 65534"},
    {"root's sticky parent", sticky_parent_of_root, parent_restored, true, .is_harmless = true},
    {"way is a link", way_is_a_link, way_back, .is_harmless = true},
    {"way is a relative link", way_is_a_relative_link, way_back, .is_harmless = true},
    {"way goes up", way_goes_up, way_back, .is_harmless = true},
    {"way is a stranger's link", way_is_a_strangers_link, way_back, true, .expected = "/way belongs to user 65534"},
    {"way is a loop", way_is_a_loop, way_back, .expected = "/way is a symbolic link that cannot be followed"},
    {"way leads through a stranger's directory", way_leads_through_a_strangers_directory, way_back, true,
     .expected = "/theirs belongs to user 65534"},
};

/* What is said of the place with this index, or of the only file in it. */
static void expect_said(const struct stranger *row, int index) {
  struct fg_cache_place place;
  cr_assert(fg_cache_place(index, &place));
  if (!row->is_of_file) {
    const char *said = strstr(place.why, row->expected);
    bool is_said =
        said && (*said != '/' || (said == place.why + strlen(folder) && strncmp(place.why, folder, strlen(folder)) == 0));
    cr_expect(place.state == FG_CACHE_REFUSED && is_said, "%s: state %d, %s", row->name, place.state, place.why);
    return;
  }
  struct fg_cache_entry *entry;
  int count = fg_cache_list(place.path, &entry, place.why);
  cr_assert(place.state == FG_CACHE_READY && count == 1, "%s: %d files, %s", row->name, count, place.why);
  cr_expect(!entry->is_valid && strstr(entry->why, row->expected), "%s: %s", row->name, entry->why);
  fg_cache_list_free(entry, count);
}

Test(cache, loads_nothing_that_a_stranger_could_have_written) {
  begin();
  cr_assert(store(key, BYTES));
  int rows = 0;
  for (size_t i = 0; i < COUNT(strangers); i++) {
    const struct stranger *row = &strangers[i];
    if (row->wants_root && !is_root()) continue;
    rows++;
    row->come();
    cr_expect_eq(load(key, BYTES), row->is_harmless ? RIGHT : MISSING, "%s", row->name);
    if (!row->is_harmless) expect_said(row, 0);
    int before = entries(cache());
    if (!row->is_of_file) cr_expect_eq(store("another", 1), row->is_harmless, "%s", row->name);
    if (!row->is_of_file && !row->is_harmless) cr_expect_eq(entries(cache()), before, "%s: something was written", row->name);
    row->go();
    cr_expect_eq(load(key, BYTES), RIGHT, "after %s", row->name);
    unlink(file_of("another"));
    /* The same of a cache that is only read. */
    row->come();
    setenv("FG_CACHE_PATH", getenv("FG_CACHE_DIR"), 1);
    setenv("FG_CACHE_DIR", "", 1);
    cr_expect_eq(load(key, BYTES), row->is_harmless ? RIGHT : MISSING, "%s, read only", row->name);
    if (!row->is_harmless) expect_said(row, 1);
    unsetenv("FG_CACHE_PATH");
    setenv("FG_CACHE_DIR", cache(), 1);
    row->go();
  }
  end();
  if (rows < (int)COUNT(strangers)) cr_skip_test("%d of %zu rows passed; the others want root", rows, COUNT(strangers));
}

/* A store takes the place of a file that is not to be trusted, and does not write through a link. */
Test(cache, replaces_a_strangers_file) {
  begin();
  cr_assert(store(key, BYTES));
  for (size_t i = 0; i < COUNT(strangers); i++) {
    const struct stranger *row = &strangers[i];
    if (!row->is_of_file || row->come == file_is_a_directory || (row->wants_root && !is_root())) continue;
    row->come();
    cr_expect(store(key, BYTES), "%s", row->name);
    cr_expect_eq(load(key, BYTES), RIGHT, "%s", row->name);
    cr_expect(!exists(in_folder("cache/nowhere")), "written through a link");
    unlink(aside());
  }
  end();
}

/* --- A thread that changes what is there between the looks that the library takes */

static atomic_bool enough;

/* Puts what may be loaded, and what may not, in turns under one name. */
static void *swap_files(void *path) {
  const char *target = path;
  for (unsigned turn = 0; !atomic_load(&enough); turn++) {
    const char *next = in_folder("next");
    unlink(next);
    switch (turn % 4) {
    case 0:
    case 2:
      cr_expect_eq(link(in_folder("good"), next), 0);
      break;
    case 1:
      cr_expect_eq(link(in_folder("evil"), next), 0);
      break;
    default:
      cr_expect_eq(symlink(in_folder("trusted evil"), next), 0);
    }
    rename(next, target);
  }
  return NULL;
}

/* folder/cache is good, folder/evil cache open to all; each stands a while where the other stood. */
static void *swap_directories(void *path) {
  const char *target = path;
  char good[PATH_BYTES], evil[PATH_BYTES];
  snprintf(good, sizeof good, "%s/good cache", folder);
  snprintf(evil, sizeof evil, "%s/evil cache", folder);
  while (!atomic_load(&enough)) {
    rename(target, good);
    rename(evil, target);
    rename(target, evil);
    cr_expect_eq(symlink(evil, target), 0);
    unlink(target);
    rename(good, target);
  }
  return NULL;
}

/* Loads while `swap` runs, until each outcome came up often. */
static void load_during(void *(*swap)(void *), const char *target) {
  enum { OFTEN = 200, MOST = 2000000 };
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s", target);
  pthread_t thread;
  int counts[3] = {0}, rounds = is_exhaustive() ? 100 * OFTEN : OFTEN;
  atomic_store(&enough, false);
  cr_assert_eq(pthread_create(&thread, NULL, swap, path), 0);
  for (int i = 0; i < MOST && (counts[MISSING] < rounds || counts[RIGHT] < rounds); i++) counts[load(key, BYTES)]++;
  atomic_store(&enough, true);
  pthread_join(thread, NULL);
  cr_expect_eq(counts[WRONG], 0, "%d foreign kernels were loaded", counts[WRONG]);
  cr_expect(counts[MISSING] >= rounds && counts[RIGHT] >= rounds, "refused %d, loaded %d", counts[MISSING], counts[RIGHT]);
}

Test(cache, loads_what_it_looked_at_while_files_change) {
  begin();
  cr_assert(store(key, BYTES));
  cr_assert_eq(link(file(), in_folder("good")), 0);
  put_foreign(in_folder("evil"), 0666);
  put_foreign(in_folder("trusted evil"), 0600);
  load_during(swap_files, file());
  end();
}

Test(cache, loads_what_it_looked_at_while_directories_change) {
  begin();
  cr_assert(store(key, BYTES));
  cr_assert_eq(mkdir(aside(), 0700), 0);
  put_foreign(in_folder("aside/file"), 0600);
  char name[FG_CACHE_FILE_BYTES], path[2 * FG_CACHE_FILE_BYTES];
  fg_cached_name(key, strlen(key), name);
  snprintf(path, sizeof path, "aside/%s", name);
  cr_assert_eq(rename(in_folder("aside/file"), in_folder(path)), 0);
  cr_assert(rename(aside(), in_folder("evil cache")) == 0 && chmod(in_folder("evil cache"), 0777) == 0);
  load_during(swap_directories, cache());
  end();
}

/* --- Which directory */

static void expect_place(int index, enum fg_cache_state state, const char *named_by, const char *path, const char *why) {
  struct fg_cache_place place;
  cr_assert(fg_cache_place(index, &place), "there is no place %d", index);
  cr_expect(place.state == state && strcmp(place.named_by, named_by) == 0 && strcmp(place.path, path) == 0 &&
                strstr(place.why, why),
            "place %d: state %d by %s, '%s', '%s'", index, place.state, place.named_by, place.path, place.why);
}

static void environment(const char *own, const char *caches, const char *home) {
  const char *const names[] = {"FG_CACHE_DIR", "XDG_CACHE_HOME", "HOME"}, *const values[] = {own, caches, home};
  for (int i = 0; i < 3; i++) {
    if (values[i])
      setenv(names[i], values[i], 1);
    else
      unsetenv(names[i]);
  }
}

Test(cache, finds_its_directory) {
  begin();
  char caches[PATH_BYTES], home[PATH_BYTES], in_caches[2 * PATH_BYTES], in_home[2 * PATH_BYTES], longest[2 * FG_CACHE_PATH_BYTES];
  snprintf(caches, sizeof caches, "%s/caches", folder);
  snprintf(home, sizeof home, "%s/home", folder);
  snprintf(in_caches, sizeof in_caches, "%s/finegemm", caches);
  snprintf(in_home, sizeof in_home, "%s/.cache/finegemm", home);
  memset(longest, 'l', sizeof longest - 1);
  longest[sizeof longest - 1] = '\0';
  *longest = '/';

  expect_place(0, FG_CACHE_ABSENT, "FG_CACHE_DIR", cache(), "/cache does not exist");
  cr_assert(store(key, BYTES));
  expect_place(0, FG_CACHE_READY, "FG_CACHE_DIR", cache(), "");
  environment(cache(), caches, home);
  expect_place(0, FG_CACHE_READY, "FG_CACHE_DIR", cache(), "");
  environment("", caches, home);
  expect_place(0, FG_CACHE_NONE, "FG_CACHE_DIR", "", "no cache is wanted");
  cr_expect(!store("k", 1));
  environment("cache", caches, home);
  expect_place(0, FG_CACHE_REFUSED, "FG_CACHE_DIR", "cache", "cache is a relative path");
  environment(longest, caches, home);
  expect_place(0, FG_CACHE_REFUSED, "FG_CACHE_DIR", "", "longer than 4095 bytes");
  environment("/", caches, home);
  if (!is_root()) cr_expect(!store("k", 1));

  environment(NULL, caches, home);
  expect_place(0, FG_CACHE_ABSENT, "XDG_CACHE_HOME", in_caches, "does not exist");
  cr_expect(store("k", 1)); /* two directories are made */
  expect_place(0, FG_CACHE_READY, "XDG_CACHE_HOME", in_caches, "");
  environment(NULL, "", home);
  expect_place(0, FG_CACHE_ABSENT, "HOME", in_home, "/home does not exist");
  environment(NULL, "caches", home);
  expect_place(0, FG_CACHE_ABSENT, "HOME", in_home, "/home does not exist");
  cr_expect(!store("k", 1)); /* three would be too many: a home is not made */
  cr_expect(!exists(home));
  cr_assert_eq(mkdir(home, 0755), 0);
  cr_expect(store("k", 1));
  expect_place(0, FG_CACHE_READY, "HOME", in_home, "");
  struct stat status;
  cr_expect(stat(in_folder("home/.cache"), &status) == 0 && (status.st_mode & 07777) == 0700);
  environment(NULL, NULL, ".");
  expect_place(0, FG_CACHE_REFUSED, "HOME", "./.cache/finegemm", "is a relative path");
  environment(NULL, NULL, "");
  expect_place(0, FG_CACHE_NONE, "HOME", "", "none of FG_CACHE_DIR, XDG_CACHE_HOME and HOME names a directory");
  environment(NULL, NULL, NULL);
  expect_place(0, FG_CACHE_NONE, "HOME", "", "none of FG_CACHE_DIR");
  cr_expect(!store("k", 1));
  cr_expect_eq(load("k", 1), MISSING);
  struct fg_cache_place place;
  cr_expect(!fg_cache_place(1, &place));
  end();
}

/* What stands in the working directory is never looked at, and nothing is put there. */
Test(cache, is_never_the_working_directory) {
  begin();
  cr_assert(store(key, BYTES));
  cr_assert(mkdir(in_folder(".cache"), 0700) == 0 && symlink("../cache", in_folder(".cache/finegemm")) == 0);
  cr_assert_eq(symlink("cache", in_folder("finegemm")), 0);
  cr_assert_eq(chdir(folder), 0);
  const char *const values[] = {"cache", "./cache", ".", "", "..", "finegemm", NULL};
  for (size_t i = 0; i < COUNT(values); i++) {
    const char *value = values[i];
    for (int variable = 0; variable < 3; variable++) {
      environment(variable == 0 ? value : NULL, variable == 1 ? value : NULL, variable == 2 ? value : NULL);
      cr_expect_eq(load(key, BYTES), MISSING, "%s", value);
      cr_expect(!store("another", 1), "%s", value);
    }
    environment("", NULL, NULL);
    if (value) setenv("FG_CACHE_PATH", value, 1);
    cr_expect_eq(load(key, BYTES), MISSING, "FG_CACHE_PATH=%s", value);
  }
  setenv("FG_CACHE_PATH", ":cache::./cache:", 1);
  cr_expect_eq(load(key, BYTES), MISSING);
  cr_assert_eq(chdir(cache()), 0); /* where the file itself lies */
  cr_expect_eq(load(key, BYTES), MISSING);
  cr_expect_eq(entries(cache()), 1);
  cr_expect_eq(entries(folder), 3);
  end();
}

/* In order, after the user's, passing over what is empty, absent or refused; and never written. */
Test(cache, looks_in_those_that_are_only_read) {
  begin();
  const char *const names[] = {"first", "second"};
  char path[3 * PATH_BYTES];
  for (int i = 0; i < 2; i++) {
    setenv("FG_CACHE_DIR", in_folder(names[i]), 1);
    cr_assert(store(names[i], 10));
    unsigned char *kernel = kernel_of("both", 10, (unsigned char)i);
    cr_assert(fg_cache_store("both", kernel, 10));
    free(kernel);
  }
  setenv("FG_CACHE_DIR", cache(), 1);
  snprintf(path, sizeof path, ":%s:relative:%s::%s:%s:", in_folder("absent"), in_folder("open"), in_folder("first"),
           in_folder("second"));
  setenv("FG_CACHE_PATH", path, 1);
  cr_assert(mkdir(in_folder("open"), 0700) == 0 && chmod(in_folder("open"), 0777) == 0);
  expect_place(1, FG_CACHE_ABSENT, "FG_CACHE_PATH", in_folder("absent"), "does not exist");
  expect_place(2, FG_CACHE_REFUSED, "FG_CACHE_PATH", "relative", "relative");
  expect_place(3, FG_CACHE_REFUSED, "FG_CACHE_PATH", in_folder("open"), "mode 0777");
  expect_place(4, FG_CACHE_READY, "FG_CACHE_PATH", in_folder("first"), "");
  expect_place(5, FG_CACHE_READY, "FG_CACHE_PATH", in_folder("second"), "");
  struct fg_cache_place place;
  cr_expect(!fg_cache_place(6, &place));

  char name[FG_CACHE_FILE_BYTES], first[2 * FG_CACHE_FILE_BYTES];
  fg_cached_name("both", 4, name);
  snprintf(first, sizeof first, "first/%s", name);
  set_age(in_folder(first), 100 * HOUR_S);
  cr_expect_eq(load("first", 10), RIGHT);
  cr_expect_eq(load("second", 10), RIGHT);
  cr_expect_eq(load("both", 10), RIGHT); /* the first's: the second's is changed */
  cr_expect_eq(load("none", 10), MISSING);
  cr_expect(age_s(in_folder(first)) >= 100 * HOUR_S, "a cache that is only read was touched");
  cr_expect(!exists(cache()), "a load made a directory");
  cr_expect(!exists(in_folder("absent")));
  setenv("FG_CACHE_BYTES", "100", 1);
  cr_expect(store("small", 10));
  cr_expect(entries(in_folder("first")) == 2 && entries(in_folder("second")) == 2, "a cache that is only read was trimmed");
  end();
}

static int load_with_rights_of_another(void) {
  if (setreuid(STRANGER, (uid_t)-1)) return 9; /* root's rights at a stranger's wish */
  struct fg_cache_place place;
  bool refused = fg_cache_place(0, &place) && place.state == FG_CACHE_NONE && strstr(place.why, "other rights") &&
                 !fg_cache_place(1, &place);
  return load(key, BYTES) == MISSING && !store("k", 1) && refused ? 0 : 1;
}

Test(cache, is_not_for_programs_with_other_rights_than_their_users) {
  if (!is_root()) cr_skip_test("only root can give itself another user");
  begin();
  cr_assert(store(key, BYTES));
  setenv("FG_CACHE_PATH", cache(), 1);
  cr_expect_eq(apart(load_with_rights_of_another), 0);
  end();
}

/* --- File systems that do not take anything */

static bool drop_rights(void) { return !is_root() || (setgid(STRANGER) == 0 && setuid(STRANGER) == 0); }

static int use_what_is_read_only(void) {
  if (!drop_rights()) return 9;
  return load(key, BYTES) == RIGHT && !store("another", 1) ? 0 : 1;
}

/* Without rights to write, and with a time of use that cannot be renewed. */
Test(cache, serves_from_a_directory_that_is_read_only) {
  begin();
  cr_assert(store(key, BYTES));
  set_age(file(), 100 * HOUR_S);
  cr_assert(chmod(cache(), 0555) == 0 && chmod(folder, 0755) == 0 && chmod(file(), 0444) == 0);
  cr_expect_eq(apart(use_what_is_read_only), 0);
  cr_expect_eq(entries(cache()), 1);
  chmod(cache(), 0700);
  end();
}

static int store_at_the_limit(void) {
  struct rlimit limit = {.rlim_cur = 1000, .rlim_max = 1000};
  signal(SIGXFSZ, SIG_DFL);
  if (setrlimit(RLIMIT_FSIZE, &limit)) return 9;
  return store("just", 1000 - 64 - 4) && !store("more", 1000 - 64 - 3) && load("just", 1000 - 64 - 4) == RIGHT ? 0 : 1;
}

Test(cache, keeps_to_the_limit_of_file_sizes_and_lives) {
  begin();
  cr_expect_eq(apart(store_at_the_limit), 0);
  cr_expect_eq(entries(cache()), 1);
  end();
}

/* A file system of 64 KB, filled, then made read-only. 77: it cannot be had. */
static int use_a_small_disk(void) {
  enum { MOST = 100, LARGE = 5000 };
  char keys[MOST][16];
  if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
      mount("none", folder, "tmpfs", 0, "size=64k,mode=700"))
    return 77;
  int stored = 0;
  for (; stored < MOST; stored++) {
    snprintf(keys[stored], sizeof keys[stored], "%d", stored);
    if (!store(keys[stored], LARGE)) break;
  }
  if (stored < 5 || stored == MOST) return 1;
  if (entries(cache()) != stored) return 2; /* a temporary is left */
  if (mount("none", folder, NULL, MS_REMOUNT | MS_RDONLY, NULL)) return 77;
  for (int i = 0; i <= stored; i++) {
    if (load(keys[i], LARGE) != (i < stored ? RIGHT : MISSING)) return 3;
  }
  return store("another", 1) ? 4 : 0;
}

Test(cache, survives_a_full_disk_and_a_read_only_one) {
  begin();
  int result = apart(use_a_small_disk);
  end();
  if (result == 77) cr_skip_test("no file system can be mounted");
  cr_expect_eq(result, 0, "%d", result);
}

/* --- Every system call and allocation fails, of every operation */

static char exported[PATH_BYTES];

/* Each returns whether it did what it is for. All begin with the same cache: `key` is there and old, "damaged" is that, and a killed
 * writer left something. */
static bool do_load(void) { return load(key, BYTES) == RIGHT; }
static bool do_load_from_path(void) { return load("shipped", BYTES) == RIGHT; }
static bool do_store(void) { return store("new", BYTES); }
static bool do_store_anew(void) { return store("damaged", BYTES); }
static bool do_store_again(void) { return store(key, BYTES); }
static bool do_store_over_bound(void) { return store("new", BYTES) && !exists(file_of("first out")); }
static bool do_list(void) {
  struct fg_cache_entry *all;
  char why[FG_CACHE_WHY_BYTES];
  int count = fg_cache_list(NULL, &all, why), valid = 0;
  for (int i = 0; i < count; i++) valid += all[i].is_valid && all[i].key;
  fg_cache_list_free(all, count);
  return valid == 2;
}
static bool do_clear(void) {
  char why[FG_CACHE_WHY_BYTES];
  return fg_cache_clear(NULL, why) == 4 && entries(cache()) == 0;
}
static bool do_export(void) {
  char why[FG_CACHE_WHY_BYTES];
  return fg_cache_export(exported, why) == 2;
}
static bool do_place(void) {
  struct fg_cache_place place;
  return fg_cache_place(0, &place) && place.state == FG_CACHE_READY;
}
static bool do_store_first(void) {
  setenv("FG_CACHE_DIR", in_folder("new/cache"), 1);
  bool stored = store("new", BYTES);
  setenv("FG_CACHE_DIR", cache(), 1);
  return stored;
}

static const struct operation {
  const char *name;
  bool (*act)(void);
  bool over_bound;
} operations[] = {
    {"load", do_load, false},
    {"load from FG_CACHE_PATH", do_load_from_path, false},
    {"store", do_store, false},
    {"store anew", do_store_anew, false},
    {"store again", do_store_again, false},
    {"store over bound", do_store_over_bound, true},
    {"first store", do_store_first, false},
    {"list", do_list, false},
    {"clear", do_clear, false},
    {"export", do_export, false},
    {"place", do_place, false},
};

/* A temporary that is older than any that is still written. */
static void put_leftover(void) {
  put(in_folder("cache/.kernel-1-2-3.tmp"), "half", 4, 0600);
  set_age(in_folder("cache/.kernel-1-2-3.tmp"), 2 * HOUR_S);
}

static void lay_out(const struct operation *operation) {
  char why[FG_CACHE_WHY_BYTES];
  unsetenv("FG_CACHE_BYTES");
  setenv("FG_CACHE_DIR", cache(), 1);
  fg_cache_clear(NULL, why);
  nftw(in_folder("new"), remove_entry, 16, FTW_DEPTH | FTW_PHYS);
  nftw(exported, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
  cr_assert(store(key, BYTES) && store("first out", BYTES) && store("damaged", BYTES));
  cr_assert_eq(truncate(file_of("damaged"), 100), 0);
  set_age(file(), 2 * HOUR_S);
  set_age(file_of("first out"), 3 * HOUR_S);
  put_leftover();
  setenv("FG_CACHE_DIR", in_folder("way/cache"), 1); /* through a link */
  if (operation->over_bound) setenv("FG_CACHE_BYTES", "1500", 1);
}

static void expect_sound(const struct operation *operation, int at, enum deed deed) {
  static const char *const keys[] = {key, "first out", "damaged", "new"};
  unsetenv("FG_CACHE_BYTES");
  for (size_t k = 0; k < COUNT(keys); k++)
    cr_expect(load(keys[k], BYTES) != WRONG, "%s, call %d: '%s'", operation->name, at, keys[k]);
  for (size_t k = 0; k < COUNT(keys); k++) cr_expect(store(keys[k], BYTES) && load(keys[k], BYTES) == RIGHT, "%s", keys[k]);
  /* After one failure nothing is left over; after a row of them it may be. */
  if (deed == FAIL) cr_expect_eq(entries(cache()), (int)COUNT(keys), "%s, call %d: %s", operation->name, at, fault.trace);
}

Test(cache, gives_what_is_right_or_nothing_whichever_call_fails) {
  static const int errors[] = {EIO, ENOSPC, ENOENT, EINTR, ESTALE};
  begin();
  setenv("FG_CACHE_DIR", in_folder("shipped"), 1);
  cr_assert(store("shipped", BYTES) && symlink(folder, in_folder("way")) == 0);
  setenv("FG_CACHE_PATH", in_folder("shipped"), 1);
  snprintf(exported, sizeof exported, "%s/exported", folder);
  int failures = 0, rounds = is_exhaustive() ? (int)COUNT(errors) : 1;
  for (size_t o = 0; o < COUNT(operations); o++) {
    const struct operation *operation = &operations[o];
    lay_out(operation);
    cr_expect(operation->act(), "%s", operation->name);
    for (enum deed deed = FAIL; deed <= FAIL_ONWARD; deed++) {
      for (int e = 0; e < rounds; e++) {
        if (deed == FAIL_ONWARD && errors[e] == EINTR) continue; /* it would be tried again for ever */
        bool struck = true;
        for (int at = 1; struck; at++) {
          lay_out(operation);
          int open_before = open_files();
          begin_fault(deed, at, errors[e]);
          bool done = operation->act();
          struck = end_fault();
          cr_expect(struck || done, "%s, with nothing that failed", operation->name);
          setenv("FG_CACHE_DIR", cache(), 1);
          cr_expect_eq(open_files(), open_before, "%s, call %d: %s", operation->name, at, fault.trace);
          expect_sound(operation, at, deed);
          failures += struck;
        }
      }
    }
  }
  cr_expect(failures > 500 * rounds, "only %d", failures);
  end();
}

Test(cache, reads_and_writes_in_small_pieces) {
  begin();
  begin_fault(DRIBBLE, 0, 0);
  bool stored = store(key, BYTES);
  enum found found = load(key, BYTES);
  end_fault();
  cr_expect(stored && found == RIGHT);
  cr_expect_eq(load(key, BYTES), RIGHT);
  end();
}

/* --- Writers that are killed */

static const char *written;
static int kill_at;

static int store_until_killed(void) {
  begin_fault(KILL, kill_at, 0);
  return store(written, BYTES) ? 0 : 1;
}

/* At each step in turn, into a cache that is absent, present, damaged, or over its bound. */
Test(cache, never_gives_what_a_killed_writer_left) {
  const int runs = 500;
  begin();
  begin_fault(COUNT_ONLY, 0, 0);
  cr_assert(store(key, BYTES));
  end_fault();
  cr_expect(strstr(fault.trace, "openat write fsync close renameat fsync "), "another order: %s", fault.trace);
  cr_expect(strstr(fault.trace, "mkdirat "), "%s", fault.trace);
  int killed = 0, steps[4] = {0}, variant = 0;
  kill_at = 0;
  for (int run = 0; run < runs; run++) {
    char why[FG_CACHE_WHY_BYTES];
    written = variant == 2 ? "damaged" : "new";
    kill_at++;
    unsetenv("FG_CACHE_BYTES");
    fg_cache_clear(NULL, why);
    if (variant == 0) {
      cr_assert(rmdir(cache()) == 0 || errno == ENOENT);
    } else {
      cr_assert(store(key, BYTES) && store("first out", BYTES) && store("damaged", BYTES));
      cr_assert_eq(truncate(file_of("damaged"), 300), 0);
      set_age(file_of("first out"), HOUR_S);
    }
    if (variant == 3) setenv("FG_CACHE_BYTES", "1500", 1);
    int result = apart(store_until_killed);
    cr_expect(result == 0 || result == -SIGKILL, "%d", result);
    cr_expect(load(written, BYTES) != WRONG, "killed at call %d", kill_at);
    if (variant) cr_expect_eq(load(key, BYTES), RIGHT, "killed at call %d", kill_at);
    cr_expect(store(written, BYTES) && load(written, BYTES) == RIGHT);
    killed += result == -SIGKILL;
    if (result == 0) { /* it has no more steps */
      steps[variant] = kill_at - 1;
      variant = (variant + 1) % 4;
      kill_at = 0;
    }
  }
  cr_expect(killed > runs * 9 / 10, "only %d of %d were killed", killed, runs);
  for (int v = 0; v < 4; v++) cr_expect(steps[v] > 20, "variant %d has %d steps", v, steps[v]);
  end();
}

static int entries_named(const char *path, bool (*is_named)(const char *)) {
  DIR *stream = opendir(path);
  int count = 0;
  for (struct dirent *entry; (entry = readdir(stream));) count += is_named(entry->d_name);
  closedir(stream);
  return count;
}

/* What a killed writer leaves goes when it is old; what another may be writing just now stays, and so do strangers' files. */
Test(cache, sweeps_what_killed_writers_left) {
  begin();
  cr_assert(store(key, BYTES));
  written = "new";
  for (kill_at = 1; apart(store_until_killed) == -SIGKILL && !exists(file_of("new")); kill_at++) {
  }
  int left = entries_named(cache(), fg_cached_is_temporary);
  cr_expect(left >= 3, "only %d temporaries are left", left);
  cr_expect(store("one more", BYTES));
  cr_expect_eq(entries_named(cache(), fg_cached_is_temporary), left, "one that may be in use was removed");
  DIR *stream = opendir(cache());
  for (struct dirent *entry; (entry = readdir(stream));) {
    char path[2 * PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", cache(), entry->d_name);
    if (fg_cached_is_temporary(entry->d_name)) set_age(path, left % 2 ? 2 * HOUR_S : -2 * HOUR_S), left++;
  }
  closedir(stream);
  static const char *const others[] = {"cache/README", "cache/.kernel-.tmp", "cache/.kernel-1-2-3.tmp.orig", "cache/0123.kernel",
                                       "cache/.nfs0001"};
  for (size_t i = 0; i < COUNT(others); i++) {
    put(in_folder(others[i]), "", 0, 0644);
    set_age(in_folder(others[i]), 1000 * HOUR_S);
  }
  cr_expect(store("yet one more", BYTES));
  cr_expect_eq(entries_named(cache(), fg_cached_is_temporary), 0);
  char why[FG_CACHE_WHY_BYTES];
  cr_expect(fg_cache_clear(NULL, why) > 0);
  cr_expect_eq(entries(cache()), (int)COUNT(others));
  for (size_t i = 0; i < COUNT(others); i++) cr_expect(exists(in_folder(others[i])), "%s is gone", others[i]);
  end();
}

/* --- Crowds. On a cold cache each writes what it does not find, and all find all. */

enum { KERNELS = 3 };
static const char *const crowd_keys[KERNELS] = {"one", "two", "three"};

static const char *use_as_one_of_many(unsigned number) {
  for (unsigned k = 0; k < KERNELS; k++) {
    const char *mine = crowd_keys[(number + k) % KERNELS];
    enum found found = load(mine, 20000);
    if (found == WRONG) return "a wrong kernel";
    if (found == MISSING && !store(mine, 20000)) return "a kernel could not be stored";
    if (load(mine, 20000) != RIGHT) return "a kernel is not there";
  }
  return NULL;
}

static void empty(void) {
  char why[FG_CACHE_WHY_BYTES];
  fg_cache_clear(NULL, why);
  rmdir(cache());
}

Test(cache, serves_many_processes) {
  int rounds = is_exhaustive() ? 100 : 4;
  begin();
  for (int round = 0; round < rounds; round++) {
    int start[2];
    pid_t children[CROWD];
    empty();
    cr_assert_eq(pipe(start), 0);
    for (unsigned c = 0; c < CROWD; c++) {
      fflush(NULL);
      children[c] = fork();
      cr_assert_geq(children[c], 0);
      if (children[c] == 0) {
        char none;
        close(start[1]);
        if (read(start[0], &none, 1) != 0) _exit(9); /* until all are there */
        _exit(use_as_one_of_many(c) != NULL);
      }
    }
    close(start[0]);
    close(start[1]);
    for (unsigned c = 0; c < CROWD; c++) {
      int status = -1;
      waitpid(children[c], &status, 0);
      cr_expect_eq(status, 0, "round %d, process %u: 0x%x", round, c, (unsigned)status);
    }
    cr_expect_eq(entries(cache()), KERNELS, "round %d", round);
  }
  end();
}

static pthread_barrier_t start_line;

static void *use_in_a_thread(void *number) {
  pthread_barrier_wait(&start_line);
  return (void *)(uintptr_t)use_as_one_of_many((unsigned)(uintptr_t)number);
}

Test(cache, serves_many_threads) {
  int rounds = is_exhaustive() ? 100 : 4;
  begin();
  clock_stands = true;
  for (int round = 0; round < rounds; round++) {
    pthread_t threads[CROWD];
    empty();
    cr_assert_eq(pthread_barrier_init(&start_line, NULL, CROWD), 0);
    for (uintptr_t t = 0; t < CROWD; t++) cr_assert_eq(pthread_create(&threads[t], NULL, use_in_a_thread, (void *)t), 0);
    for (int t = 0; t < CROWD; t++) {
      void *wrong;
      pthread_join(threads[t], &wrong);
      cr_expect_null(wrong, "round %d, thread %d: %s", round, t, wrong ? (const char *)wrong : "");
    }
    pthread_barrier_destroy(&start_line);
    cr_expect_eq(entries(cache()), KERNELS, "round %d", round);
  }
  end();
}

/* Some store more than the bound admits, others load and clear: what is found is right. */
static const char *use_roughly(unsigned number) {
  for (unsigned i = 0; i < 40; i++) {
    char mine[16], why[FG_CACHE_WHY_BYTES];
    snprintf(mine, sizeof mine, "%u", (i * 7 + number) % 20);
    if (load(mine, BYTES) == WRONG) return "a wrong kernel";
    store(mine, BYTES); /* fails where its temporary is cleared away */
    if (i % 16 == 15 && fg_cache_clear(NULL, why) < 0) return "the cache could not be cleared";
  }
  return NULL;
}

static void *use_roughly_in_a_thread(void *number) {
  pthread_barrier_wait(&start_line);
  return (void *)(uintptr_t)use_roughly((unsigned)(uintptr_t)number);
}

Test(cache, stays_right_while_it_is_trimmed_by_many) {
  enum { THREADS = 8 };
  begin();
  setenv("FG_CACHE_BYTES", "3000", 1);
  pthread_t threads[THREADS];
  cr_assert_eq(pthread_barrier_init(&start_line, NULL, THREADS), 0);
  for (uintptr_t t = 0; t < THREADS; t++) cr_assert_eq(pthread_create(&threads[t], NULL, use_roughly_in_a_thread, (void *)t), 0);
  for (int t = 0; t < THREADS; t++) {
    void *wrong;
    pthread_join(threads[t], &wrong);
    cr_expect_null(wrong, "thread %d: %s", t, wrong ? (const char *)wrong : "");
  }
  cr_expect(store("last", BYTES));
  cr_expect(entries(cache()) <= 3000 / (64 + BYTES));
  end();
}

/* --- The bound */

Test(cache, lets_the_least_recently_used_go_first) {
  static const char *const keys[] = {"e", "b", "d", "a", "c"};
  begin();
  for (size_t k = 0; k < COUNT(keys); k++) {
    cr_assert(store(keys[k], 1000 - 65));
    set_age(file_of(keys[k]), (10 - (int64_t)k) * HOUR_S);
  }
  cr_assert_eq(load("e", 1000 - 65), RIGHT); /* no longer the oldest */
  setenv("FG_CACHE_BYTES", "5000", 1);
  cr_assert(store("f", 1000 - 65));
  cr_expect(!exists(file_of("b")) && exists(file_of("d")) && exists(file_of("e")));
  setenv("FG_CACHE_BYTES", "4999", 1); /* another bound holds from the next store on, also of what is there already */
  cr_assert(store("f", 1000 - 65));
  cr_expect(!exists(file_of("d")) && exists(file_of("a")) && exists(file_of("e")));
  setenv("FG_CACHE_BYTES", "1000", 1);
  cr_assert(store("g", 1000 - 65));
  cr_expect(entries(cache()) == 1 && exists(file_of("g")));
  /* What was just asked for stays, however old; and what another may be writing. */
  set_age(file_of("g"), 10 * HOUR_S);
  put(in_folder("cache/.kernel-1-2-3.tmp"), "half", 4, 0600);
  set_age(in_folder("cache/.kernel-1-2-3.tmp"), HOUR_S / 2);
  unsetenv("FG_CACHE_BYTES");
  cr_assert(store("h", 1000 - 65));
  setenv("FG_CACHE_BYTES", "1000", 1);
  cr_assert(store("g", 1000 - 65));
  cr_expect(entries(cache()) == 2 && exists(file_of("g")) && exists(in_folder("cache/.kernel-1-2-3.tmp")));
  end();
}

Test(cache, renews_the_time_of_use_once_an_hour) {
  begin();
  cr_assert(store(key, BYTES));
  set_age(file(), HOUR_S - 100);
  cr_expect_eq(load(key, BYTES), RIGHT);
  cr_expect(age_s(file()) >= HOUR_S - 100, "it was touched too soon");
  set_age(file(), HOUR_S + 1);
  cr_expect_eq(load(key, BYTES), RIGHT);
  cr_expect(age_s(file()) < 100, "it was not touched");
  set_age(file(), -HOUR_S); /* another machine's clock */
  cr_expect_eq(load(key, BYTES), RIGHT);
  cr_expect(age_s(file()) > -100, "it was not touched");
  end();
}

Test(cache, takes_its_bound_from_the_environment) {
  const int64_t normal = INT64_C(256) << 20;
  const struct {
    const char *text;
    int64_t bound_bytes;
  } rows[] = {{NULL, normal},   {"", normal},
              {"0", 0},         {"1234567890123", INT64_C(1234567890123)},
              {"-1", normal},   {"+1", normal},
              {" 1", normal},   {"1 ", normal},
              {"1e9", normal},  {"1,5", normal},
              {"MiB", normal},  {"256M", normal},
              {"0x10", normal}, {"9223372036854775808", normal}};
  begin();
  for (size_t i = 0; i < COUNT(rows); i++) {
    if (rows[i].text) setenv("FG_CACHE_BYTES", rows[i].text, 1);
    cr_expect_eq(fg_cache_bound_bytes(), rows[i].bound_bytes, "'%s'", rows[i].text ? rows[i].text : "unset");
  }
  end();
}

/* --- For people */

Test(cache, lists_what_it_holds) {
  begin();
  struct fg_cache_entry *all;
  char why[FG_CACHE_WHY_BYTES];
  cr_expect_eq(fg_cache_list(NULL, &all, why), 0, "one that is absent is empty");
  fg_cache_list_free(all, 0);
  cr_expect_eq(fg_cache_clear(NULL, why), 0);
  cr_assert(store("old", 10) && store("new", 20) && store("damaged", 30));
  cr_assert_eq(truncate(file_of("damaged"), 70), 0);
  set_age(file_of("old"), 500);
  set_age(file_of("damaged"), 100);
  put(in_folder("cache/README"), "", 0, 0600);
  put_leftover();
  cr_assert_eq(fg_cache_list(NULL, &all, why), 3, "%s", why);
  cr_expect(all[0].is_valid && strcmp(all[0].key, "new") == 0 && all[0].bytes == 64 + 3 + 20 && !*all[0].why);
  cr_expect(!all[1].is_valid && !all[1].key && all[1].bytes == 70 && strstr(all[1].why, "as long as its header says"), "%s",
            all[1].why);
  cr_expect(all[2].is_valid && strcmp(all[2].key, "old") == 0 && strstr(file_of("old"), all[2].file));
  cr_expect(llabs((long long)time(NULL) - 500 - all[2].used_s) < 100);
  fg_cache_list_free(all, 3);
  cr_expect_eq(fg_cache_list("cache", &all, why), -1);
  cr_expect(strstr(why, "cache is a relative path"), "%s", why);
  setenv("FG_CACHE_DIR", "", 1);
  cr_expect_eq(fg_cache_list(NULL, &all, why), -1);
  cr_expect(strstr(why, "no cache is wanted"), "%s", why);
  cr_expect_eq(fg_cache_clear(NULL, why), -1);
  cr_expect_eq(fg_cache_clear(cache(), why), 4, "%s", why);
  cr_expect_eq(entries(cache()), 1);
  end();
}

Test(cache, exports_what_can_be_shipped) {
  begin();
  char why[FG_CACHE_WHY_BYTES];
  cr_assert(store("one", 10) && store("two", 20) && store("damaged", 30) && store("misnamed", 40));
  cr_assert(truncate(file_of("damaged"), 70) == 0 && rename(file_of("misnamed"), file_of("other")) == 0);
  put_leftover();
  cr_assert_eq(chdir(folder), 0);
  mode_t before = umask(0);
  cr_expect_eq(fg_cache_export("shipped", why), 2, "%s", why);
  umask(before);
  cr_expect_eq(fg_cache_export(in_folder("shipped"), why), 2, "again: %s", why);
  cr_expect_eq(entries(in_folder("shipped")), 2);
  char name[FG_CACHE_FILE_BYTES], path[2 * FG_CACHE_FILE_BYTES];
  fg_cached_name("one", 3, name);
  snprintf(path, sizeof path, "shipped/%s", name);
  struct stat status;
  cr_expect(stat(in_folder(path), &status) == 0 && (status.st_mode & 07777) == 0644);
  cr_expect(stat(in_folder("shipped"), &status) == 0 && (status.st_mode & 07777) == 0755);
  setenv("FG_CACHE_DIR", "", 1);
  setenv("FG_CACHE_PATH", in_folder("shipped"), 1);
  cr_expect(load("one", 10) == RIGHT && load("two", 20) == RIGHT && load("damaged", 30) == MISSING);
  cr_expect_eq(fg_cache_export("shipped", why), -1, "there is no cache to export");
  setenv("FG_CACHE_DIR", cache(), 1);
  cr_expect_eq(fg_cache_export("absent/shipped", why), -1);
  cr_expect(strstr(why, "absent/shipped cannot be made: No such file or directory"), "%s", why);
  put(in_folder("file"), "", 0, 0600);
  cr_expect_eq(fg_cache_export("file", why), -1);
  cr_expect(strstr(why, "file cannot be opened: Not a directory"), "%s", why);
  end();
}

/* --- Locales with a decimal comma, and digits grouped */

Test(cache, writes_the_same_in_every_locale) {
  static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8", "ru_RU.UTF-8", "de_DE", "fr_FR"};
  const char *chosen = NULL;
  begin();
  cr_assert(store(key, BYTES));
  cr_assert_eq(rename(file(), in_folder("expected")), 0);
  for (size_t i = 0; i < COUNT(names) && !chosen; i++) chosen = setlocale(LC_ALL, names[i]);
  bool stored = store(key, BYTES), same = false;
  unsigned char found[2 * BYTES], expected[2 * BYTES];
  int one = open(file(), O_RDONLY), other = open(in_folder("expected"), O_RDONLY);
  if (one >= 0 && other >= 0) {
    ssize_t bytes = read(one, found, sizeof found);
    same = bytes > BYTES && read(other, expected, sizeof expected) == bytes && memcmp(found, expected, (size_t)bytes) == 0;
  }
  close(one);
  close(other);
  enum found loaded = load(key, BYTES);
  end();
  cr_expect(stored && same && loaded == RIGHT, "%s", chosen ? chosen : "");
  if (!chosen) cr_skip_test("no locale with a decimal comma is installed");
}
