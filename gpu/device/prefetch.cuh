/* The first block of K, on its way to the L2 before the copy engine is asked for it: what comes from memory, and by addresses that no
 * multiprocessor has met yet, takes two microseconds, and with one line of each row on its way 0.3 less. */
#pragma once
#include "args.h"
#include "copy.cuh"
#include "unroll.cuh"

/* Byte `byte` of `rows` rows from `row` on, as far as there are any, by `threads` threads of which this is number `thread`. */
__device__ inline void prefetch_rows(const struct fg_matrix &matrix, int row, int rows, long long end, long long byte, int thread,
                                     int threads) {
  FG_UNROLL(1)
  for (int i = thread; i < rows && row + i < end; i += threads)
    prefetch((const char *)matrix.data + (row + i) * matrix.ld + byte);
}
