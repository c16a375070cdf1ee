/* What the benchmarks have in common. Each first defines BENCH, its name. */
#ifndef BENCH_H
#define BENCH_H

#include "finegemm.h"
#include "shapes.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2 };

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

/* What the option --shapes names. */
static inline struct shape_list shapes_of(const char *text) {
  struct shape_list list = {.count = 0};
  const char *wrong = parse_shapes(text, &list);
  if (wrong) fail(EXIT_USAGE, wrong);
  return list;
}

#endif
