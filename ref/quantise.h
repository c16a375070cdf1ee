/* The quantiser, its inverse and conversion for one matrix with every default filled in; core/convert.c checks and calls them. */
#ifndef FG_QUANTISE_H
#define FG_QUANTISE_H

#include "bits.h"
#include "fp8.h"
#include "part.h"

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
int fg_find_not_finite(const struct fg_quantisation *quantisation, int threads, int64_t *row, int64_t *col);

/* Writes q and scale. x must be finite. */
void fg_quantise_matrix(const struct fg_quantisation *quantisation, int threads);

/* The scale of a group whose elements' largest magnitude has these bits of x_type. */
static inline float fg_scale_for(const struct fg_quantisation *quantisation, uint32_t max_magnitude) {
  float amax = quantisation->x_type == FG_FP32   ? fg_float_of(max_magnitude)
               : quantisation->x_type == FG_BF16 ? fg_float_of(max_magnitude << 16)
                                                 : fg_fp16_to_float((uint16_t)max_magnitude);
  float scale = (amax > 1e-4f ? amax : 1e-4f) / (quantisation->q_type == FG_E5M2 ? 57344.0f : 448.0f);
  /* All bits of the mantissa that are not zero carry into the exponent. */
  return quantisation->ue8m0 ? fg_float_of((fg_bits_of(scale) + 0x7FFFFFu) & FG_INFINITY_BITS) : scale;
}

struct fg_dequantisation {
  int64_t rows, cols;
  const uint8_t *q; /* [rows, cols] FP8, q_ld elements from row to row */
  fg_type q_type;
  int64_t q_ld;
  struct fg_scales scales;
  void *x; /* [rows, cols] BF16, FP16 or FP32, x_ld elements from row to row */
  fg_type x_type;
  int64_t x_ld;
};

/* Writes x. */
void fg_dequantise_matrix(const struct fg_dequantisation *dequantisation, int threads);

struct fg_copy {
  int64_t rows, cols;
  const void *from; /* [rows, cols], from_ld elements from row to row */
  fg_type from_type;
  int64_t from_ld;
  void *to; /* [rows, cols], to_ld elements from row to row */
  fg_type to_type;
  int64_t to_ld;
};

/* Writes `to`. */
void fg_convert_matrix(const struct fg_copy *copy, int threads);

#endif
