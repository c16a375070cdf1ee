/* What the benchmarks have in common. Each first defines BENCH, its name. */
#ifndef BENCH_H
#define BENCH_H

#include "finegemm.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2, MAX_SHAPES = 64 };

static inline _Noreturn void fail(int code, const char *what) {
  fprintf(stderr, BENCH ": %s\n", what);
  exit(code);
}

static inline void require(fg_status status) {
  if (status != FG_OK) fail(EXIT_FAILURE, fg_message());
}

/* Sums of four uniform numbers: bell-shaped around 0. */
static inline void fill_bell_shaped(float *x, int64_t count, uint64_t *seed) {
  for (int64_t i = 0; i < count; i++) {
    x[i] = -2;
    for (int part = 0; part < 4; part++) {
      *seed = *seed * 6364136223846793005u + 1442695040888963407u;
      x[i] += (float)(*seed >> 40) * 0x1p-24F;
    }
  }
}

struct shape {
  int64_t m, n, k;
};

static inline bool parse_size(const char **text, char end, int64_t *size) {
  char *stop;
  errno = 0;
  long long value = strtoll(*text, &stop, 10);
  if (errno || stop == *text || *stop != end || value < 1 || value > INT_MAX) return false;
  *size = value;
  *text = *stop ? stop + 1 : stop;
  return true;
}

/* Those of the option --shapes, and how many there are. */
static inline int parse_shapes(char *text, struct shape shapes[MAX_SHAPES]) {
  int count = 0;
  for (char *item = strtok(text, ","); item; item = strtok(NULL, ",")) {
    const char *rest = item;
    struct shape shape;
    if (count == MAX_SHAPES) fail(EXIT_USAGE, "--shapes takes at most 64 shapes");
    if (!parse_size(&rest, 'x', &shape.m) || !parse_size(&rest, 'x', &shape.n) || !parse_size(&rest, 0, &shape.k))
      fail(EXIT_USAGE, "--shapes takes M x N x K as 512x7168x2048, each from 1 to 2147483647, commas between shapes");
    shapes[count++] = shape;
  }
  return count;
}

#endif
