/* What the benchmarks say of their rounds. */
#ifndef MEDIAN_H
#define MEDIAN_H

#include <stdlib.h>
#include <string.h>

enum { MAX_REPEATS = 1001 };

static inline int compare_numbers(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Of at most MAX_REPEATS numbers. */
static inline double median(const double *x, int count) {
  double sorted[MAX_REPEATS];
  memcpy(sorted, x, (size_t)count * sizeof *x);
  qsort(sorted, (size_t)count, sizeof *sorted, compare_numbers);
  return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

#endif
