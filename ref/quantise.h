/* The quantiser for one matrix with every default filled in; core/convert.c checks and calls it. */
#ifndef FG_QUANTISE_H
#define FG_QUANTISE_H

#include "finegemm.h"

struct fg_quantisation {
  int64_t rows, cols;
  const void *x; /* [rows, cols] BF16, FP16 or FP32, x_ld elements from row to row */
  fg_type x_type;
  int64_t x_ld;
  uint8_t *q; /* [rows, cols] FP8, q_ld elements from row to row */
  fg_type q_type;
  int64_t q_ld;
  float *scale; /* scale(r, b) at scale[r * row_stride + b * block_stride], r counting rows (1x128) or 128 rows (128x128) */
  fg_scaling scaling;
  int64_t row_stride, block_stride;
  int ue8m0;
};

/* Row and column of the first NaN or infinity in x, row-major; returns 0 if there is none. */
int fg_find_not_finite(const struct fg_quantisation *quantisation, int64_t *row, int64_t *col);

/* Writes q and scale. Does not look for NaN. */
void fg_quantise_matrix(const struct fg_quantisation *quantisation, int threads);

#endif
