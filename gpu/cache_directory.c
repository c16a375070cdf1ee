/* Which directories the cache is kept in, and whether one can be trusted. */
#define _GNU_SOURCE /* O_PATH: a directory on the way need not be readable to be passed */
#include "cache_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_LINKS = 40, MOST_MADE = 2 };

int fg_cache_refuse(char why[FG_CACHE_WHY_BYTES], const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(why, FG_CACHE_WHY_BYTES, format, arguments);
  va_end(arguments);
  return FG_REFUSED;
}

/* --- Where */

static const char *set(const char *variable) {
  const char *value = getenv(variable);
  return value && *value ? value : NULL;
}

static bool locate(struct fg_cache_place *place, const char *named_by, size_t bytes, const char *path, const char *below) {
  place->named_by = named_by;
  if (bytes + strlen(below) >= sizeof place->path) {
    place->state = FG_CACHE_REFUSED;
    fg_cache_refuse(place->why, "%s is longer than %d bytes", named_by, FG_CACHE_PATH_BYTES - 1);
    return true;
  }
  place->state = FG_CACHE_ABSENT;
  memcpy(place->path, path, bytes);
  memcpy(place->path + bytes, below, strlen(below) + 1);
  return true;
}

static bool locate_own(struct fg_cache_place *place) {
  const char *chosen = getenv("FG_CACHE_DIR"), *caches = set("XDG_CACHE_HOME"), *home = set("HOME");
  if (chosen && !*chosen) {
    place->named_by = "FG_CACHE_DIR";
    fg_cache_refuse(place->why, "FG_CACHE_DIR is empty: no cache is wanted");
    return true;
  }
  if (chosen) return locate(place, "FG_CACHE_DIR", strlen(chosen), chosen, "");
  if (caches && *caches == '/') return locate(place, "XDG_CACHE_HOME", strlen(caches), caches, "/finegemm");
  if (home) return locate(place, "HOME", strlen(home), home, "/.cache/finegemm");
  place->named_by = "HOME";
  fg_cache_refuse(place->why, "none of FG_CACHE_DIR, XDG_CACHE_HOME and HOME names a directory");
  return true;
}

bool fg_cache_locate(int index, struct fg_cache_place *place) {
  *place = (struct fg_cache_place){.state = FG_CACHE_NONE};
  if (getuid() != geteuid() || getgid() != getegid()) {
    place->named_by = "HOME";
    fg_cache_refuse(place->why, "this program has other rights than its user, whose environment is not to be trusted");
    return index == 0;
  }
  if (index == 0) return locate_own(place);
  for (const char *path = getenv("FG_CACHE_PATH"); path && *path; path += *path == ':') {
    size_t bytes = strcspn(path, ":");
    if (bytes && --index == 0) return locate(place, "FG_CACHE_PATH", bytes, path, "");
    path += bytes;
  }
  return false;
}

bool fg_cache_place(int index, struct fg_cache_place *place) {
  if (!fg_cache_locate(index, place)) return false;
  if (place->state != FG_CACHE_ABSENT) return true;
  int directory = fg_cache_open(place->path, false, place->why);
  place->state = directory >= 0 ? FG_CACHE_READY : directory == FG_ABSENT ? FG_CACHE_ABSENT : FG_CACHE_REFUSED;
  if (directory >= 0) close(directory);
  return true;
}

/* --- Whether */

struct walk {
  int directory;                  /* where it stands, opened by O_PATH */
  int links;                      /* followed so far */
  char at[FG_CACHE_PATH_BYTES];   /* the path to there, for sentences */
  char rest[FG_CACHE_PATH_BYTES]; /* still to go */
  char *why;
};

/* Takes the first component off the path, with the slashes around it. False: nothing is left. */
static bool next_component(char *path, char *name) {
  size_t before = strspn(path, "/"), length = strcspn(path + before, "/");
  memcpy(name, path + before, length);
  name[length] = '\0';
  const char *rest = path + before + length;
  rest += strspn(rest, "/");
  memmove(path, rest, strlen(rest) + 1);
  return length > 0;
}

static int components(const char *path) {
  int count = 0;
  for (size_t length; (length = strcspn(path, "/")); path += length + strspn(path + length, "/")) count++;
  return count;
}

static int refuse_errno(const struct walk *walk, const char *what) {
  return fg_cache_refuse(walk->why, "%s %s: %s", walk->at, what, strerror(errno));
}

/* Judges what a descriptor refers to, by its owner and by who may write it. */
static int judge(const struct walk *walk, const struct stat *status) {
  if (status->st_uid != 0 && status->st_uid != geteuid())
    return fg_cache_refuse(walk->why, "%s belongs to user %ld; only what is the user's own or root's is trusted", walk->at,
                           (long)status->st_uid);
  if (S_ISLNK(status->st_mode)) return 0; /* its mode means nothing */
  if (!S_ISDIR(status->st_mode)) return fg_cache_refuse(walk->why, "%s is not a directory", walk->at);
  bool passes_as_tmp = *walk->rest && (status->st_mode & S_ISVTX) && status->st_uid == 0;
  if ((status->st_mode & (S_IWGRP | S_IWOTH)) && !passes_as_tmp)
    return fg_cache_refuse(walk->why, "%s may be written by others than its owner (mode %04o); chmod go-w would do", walk->at,
                           (unsigned)status->st_mode & 07777);
  return 0;
}

/* Goes on from `next`, which it closes in any case of failure. */
static int move_to(struct walk *walk, int next) {
  struct stat status;
  int result = fstat(next, &status) ? refuse_errno(walk, "cannot be looked at") : judge(walk, &status);
  if (result) {
    close(next);
    return result;
  }
  if (walk->directory >= 0) close(walk->directory);
  walk->directory = next;
  return 0;
}

static int start(struct walk *walk) {
  walk->at[0] = '/';
  walk->at[1] = '\0';
  int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return refuse_errno(walk, "cannot be opened");
  int result = move_to(walk, root);
  walk->at[0] = '\0'; /* what follows begins with its own slash */
  return result;
}

/* `link` is opened itself: what is judged and read is one thing. */
static int follow(struct walk *walk, int link) {
  char target[FG_CACHE_PATH_BYTES], joined[FG_CACHE_PATH_BYTES];
  struct stat status;
  if (fstat(link, &status)) return refuse_errno(walk, "cannot be looked at");
  int result = judge(walk, &status);
  if (result) return result;
  if (!S_ISLNK(status.st_mode)) return fg_cache_refuse(walk->why, "%s is not a directory", walk->at);
  if (!*walk->rest)
    return fg_cache_refuse(walk->why, "%s is a symbolic link; the cache's own directory must not be one", walk->at);
  ssize_t length = ++walk->links > MOST_LINKS ? 0 : readlinkat(link, "", target, sizeof target);
  if (length <= 0 || snprintf(joined, sizeof joined, "%.*s/%s", (int)length, target, walk->rest) >= (int)sizeof joined)
    return fg_cache_refuse(walk->why, "%s is a symbolic link that cannot be followed", walk->at);
  memcpy(walk->rest, joined, sizeof joined);
  if (*target == '/') return start(walk);
  *strrchr(walk->at, '/') = '\0';
  return 0;
}

/* With O_DIRECTORY, so that the kernel mounts what is to be mounted on the way. */
static int open_component(const struct walk *walk, const char *name) {
  return openat(walk->directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int step(struct walk *walk, const char *name, bool make) {
  size_t length = strlen(walk->at);
  if (snprintf(walk->at + length, sizeof walk->at - length, "/%s", name) >= (int)(sizeof walk->at - length))
    return fg_cache_refuse(walk->why, "a path is longer than %d bytes", FG_CACHE_PATH_BYTES - 1);
  int next = open_component(walk, name);
  if (next < 0 && errno == ENOENT && make && components(walk->rest) < MOST_MADE) {
    if (mkdirat(walk->directory, name, 0700) && errno != EEXIST) return refuse_errno(walk, "cannot be made");
    next = open_component(walk, name);
  }
  if (next >= 0) return move_to(walk, next);
  if (errno == ENOTDIR || errno == ELOOP) {
    int link = openat(walk->directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (link >= 0) {
      int result = follow(walk, link);
      close(link);
      return result;
    }
  }
  if (errno != ENOENT) return refuse_errno(walk, "cannot be opened");
  fg_cache_refuse(walk->why, "%s does not exist", walk->at);
  return FG_ABSENT;
}

int fg_cache_open(const char *path, bool make, char why[FG_CACHE_WHY_BYTES]) {
  struct fg_cache_place own;
  if (!path) {
    fg_cache_locate(0, &own);
    memcpy(why, own.why, sizeof own.why);
    if (own.state != FG_CACHE_ABSENT) return FG_REFUSED;
    path = own.path;
  }
  struct walk walk = {.directory = -1, .why = why};
  char name[FG_CACHE_PATH_BYTES];
  if (*path != '/') return fg_cache_refuse(why, "%s is a relative path; a cache has an absolute one", path);
  if (snprintf(walk.rest, sizeof walk.rest, "%s", path) >= (int)sizeof walk.rest)
    return fg_cache_refuse(why, "a path is longer than %d bytes", FG_CACHE_PATH_BYTES - 1);
  int result = start(&walk);
  while (!result && next_component(walk.rest, name)) result = step(&walk, name, make);
  if (!result) {
    result = openat(walk.directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (result < 0) refuse_errno(&walk, "cannot be read");
  }
  if (walk.directory >= 0) close(walk.directory);
  return result < 0 && result != FG_ABSENT ? FG_REFUSED : result;
}
