#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *program = "finegemm";
static int progress_width; /* of the line that stands on the terminal */

void set_program(const char *name) { program = name; }

/* A name that comes from a file may hold anything, and a terminal obeys control characters. */
static void make_printable(char *string) {
  for (; *string; string++)
    if ((unsigned char)*string < ' ' || *string == 0x7F) *string = '?';
}

void fail(enum outcome outcome, const char *format, ...) {
  char message[2048];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  make_printable(message);
  progress_clear();
  fprintf(stderr, "%s: %s\n", program, message);
  exit((int)outcome);
}

void leave(enum outcome outcome) {
  if (fflush(stdout) != 0 || ferror(stdout)) fail(NOT_WRITTEN, "standard output cannot be written: %s", strerror(errno));
  exit((int)outcome);
}

void require(fg_status status, const char *about) {
  if (status != FG_OK) fail(REFUSED, "%s%s%s: %s", about, *about ? ": " : "", fg_status_name(status), fg_message());
}

/* All that is claimed hangs on this list, so that a process that ends in fail() has lost nothing. */
struct claimed {
  struct claimed *next;
  void *memory;
};
static struct claimed *claims;

void *claim(int64_t count, int64_t element_bytes, const char *what) {
  const int64_t most = PTRDIFF_MAX / 2;
  struct claimed *node = malloc(sizeof *node);
  void *memory = NULL;
  if (node && count >= 0 && (element_bytes == 0 || count <= most / element_bytes)) {
    size_t bytes = (size_t)(count * element_bytes);
    memory = aligned_alloc(64, (bytes + 64) / 64 * 64);
  }
  if (!memory) {
    free(node);
    fail(REFUSED, "%s: no memory for %s, %lld elements of %lld bytes", fg_status_name(FG_OUT_OF_MEMORY), what, (long long)count,
         (long long)element_bytes);
  }
  *node = (struct claimed){claims, memory};
  claims = node;
  return memory;
}

void *claim_matrix(int64_t rows, int64_t cols, int64_t element_bytes, const char *what) {
  int64_t count;
  return claim(__builtin_mul_overflow(rows, cols, &count) ? PTRDIFF_MAX : count, element_bytes, what);
}

void release(void *memory) {
  for (struct claimed **link = &claims; *link; link = &(*link)->next)
    if ((*link)->memory == memory) {
      struct claimed *node = *link;
      *link = node->next;
      free(node->memory);
      free(node);
      return;
    }
}

char *text(const char *format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  int length = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  char *string = claim(length + 1, 1, "a text");
  vsnprintf(string, (size_t)length + 1, format, again);
  va_end(again);
  return string;
}

char *printable(const char *raw) {
  char *string = text("%s", raw);
  make_printable(string);
  return string;
}

double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* At most ten times a second, and not for what is over in a blink. */
void progress(const char *what, int64_t done, int64_t all) {
  static int terminal = -1;
  static double next;
  if (terminal < 0) {
    terminal = isatty(STDERR_FILENO);
    next = seconds_now() + 0.3;
  }
  if (!terminal || seconds_now() < next) return;
  next = seconds_now() + 0.1;
  progress_clear();
  progress_width = fprintf(stderr, "%s: %s", program, what);
  if (done > 0) progress_width += fprintf(stderr, ", %d %%", (int)(100 * (double)done / (double)all));
  fflush(stderr);
}

void progress_clear(void) {
  if (progress_width > 0) fprintf(stderr, "\r%*s\r", progress_width, "");
  progress_width = 0;
}
