/* Compiled kernels on disk. Never needed for correctness: whatever is wrong with it, the caller compiles.
 *
 * The user's cache is the directory FG_CACHE_DIR (empty: no cache), else $XDG_CACHE_HOME/finegemm (a relative XDG_CACHE_HOME
 * counts as unset, as its specification has it), else $HOME/.cache/finegemm, else there is none. FG_CACHE_PATH names more,
 * between colons, that are only read, in this order, after the user's. Relative paths are refused, so nothing depends on the
 * working directory. A program that runs with other rights than its user's (setuid, setgid) has no cache. FG_CACHE_BYTES bounds
 * the user's cache, 256 MiB without it: what was used longest ago goes first. "Used" is the time of modification, which a load
 * renews once it is an hour old.
 *
 * Trusted is what only the user or root can have put there: a regular file of theirs that neither group nor others may
 * write, in such a directory, and so on up to the root, where /tmp will do too (root's, sticky, not the cache itself). The path is
 * walked from the root, one component at a time. A symbolic link on the way, as a home often is or a ~/.cache on another
 * disk, is followed, if it is the user's or root's: it stands in a directory that was found good, so nobody else can have
 * made or turned it, and what it leads to is walked by the same rules. The cache's own directory and its files are never links.
 *
 * A file is named by the SHA-256 of its key in hexadecimal, ".kernel" after it, and holds without gaps
 *
 *     offset  bytes  what
 *          0      8  "FGKERNEL"
 *          8      8  1, the version of this format
 *         16      8  K, the bytes of the key
 *         24      8  N, the bytes of the kernel
 *         32     32  SHA-256 of all other bytes, in order
 *         64      K  the key, text
 *     64 + K      N  the kernel
 *
 * with numbers in the machine's byte order: the other one reads as another version. A file is read into memory once, and judged
 * and used there. It is written as .kernel-PID-TIME-COUNT.tmp with mode 0600, synchronised and renamed; directories are made with
 * mode 0700. Temporaries that are an hour old were left by a writer that was killed, and are removed by the next one; a writer
 * that was merely stopped for so long then fails to publish. No locks, which NFS may not have: a race has two winners with one
 * result. */
#ifndef FG_CACHE_H
#define FG_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FG_CACHE_PATH_BYTES = 4096, FG_CACHE_WHY_BYTES = 512, FG_CACHE_FILE_BYTES = 80 };

/* The bytes that are stored under exactly this key, in the user's cache or one that is only read; NULL: nowhere, or not to be
 * trusted. Heap, aligned to 16. */
void *fg_cache_load(const char *key, size_t *bytes);

/* Stores them in the user's cache. False: not done, which is no error. */
bool fg_cache_store(const char *key, const void *kernel, size_t bytes);

/* FG_CACHE_BYTES, or what holds where it is not a number. */
int64_t fg_cache_bound_bytes(void);

enum fg_cache_state {
  FG_CACHE_NONE,    /* no directory is named, or none on purpose */
  FG_CACHE_ABSENT,  /* the user's is made when the first kernel is stored; another is passed over */
  FG_CACHE_REFUSED, /* not to be trusted, or not to be had */
  FG_CACHE_READY
};

struct fg_cache_place {
  enum fg_cache_state state;
  const char *named_by; /* "FG_CACHE_DIR", "XDG_CACHE_HOME", "HOME" or "FG_CACHE_PATH" */
  char path[FG_CACHE_PATH_BYTES];
  char why[FG_CACHE_WHY_BYTES]; /* a sentence, but for FG_CACHE_READY */
};

/* The place of this index: 0 is the user's cache, then those of FG_CACHE_PATH. False: there are fewer. */
bool fg_cache_place(int index, struct fg_cache_place *place);

struct fg_cache_entry {
  char file[FG_CACHE_FILE_BYTES];
  char *key;      /* NULL: not known */
  int64_t bytes;  /* of the file */
  int64_t used_s; /* since the epoch */
  bool is_valid;  /* would be loaded */
  char why[120];  /* if not */
};

/* In what follows `directory` is an absolute path, NULL: the user's cache. One that does not exist is empty; for one that is refused
 * the result is -1, and `why` a sentence. */

/* Reads and judges every file of a cache; the latest used come first. Returns how many; fg_cache_list_free() frees them. */
int fg_cache_list(const char *directory, struct fg_cache_entry **entries, char why[FG_CACHE_WHY_BYTES]);
void fg_cache_list_free(struct fg_cache_entry *entries, int count);

/* Removes every kernel and every temporary, and no other file. Returns how many. */
int fg_cache_clear(const char *directory, char why[FG_CACHE_WHY_BYTES]);

/* Copies every valid kernel of the user's cache, with mode 0644, to the directory `to`, which is made with mode 0755 if need be and may
 * be a relative path: to be shipped, and named in FG_CACHE_PATH where it arrives. Returns how many; -1: not all, why. */
int fg_cache_export(const char *to, char why[FG_CACHE_WHY_BYTES]);

#endif
