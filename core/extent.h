/* Arrays as arguments: how far they reach in memory, whether they are whole, and whether two of them share bytes. */
#ifndef FG_EXTENT_H
#define FG_EXTENT_H

#include "finegemm.h"
#include <stdbool.h>

/* FG_BAD_SIZE unless 0 <= size <= 2^47: more no machine can address, and what is no more can be added and rounded up safely. */
fg_status fg_check_size(const char *name, int64_t size);

/* Bytes from the first element of `matrices` matrices [rows, cols] to past their last one; 0 if there are no elements.
 * ld elements lie from row to row, stride from matrix to matrix; of one row or one matrix they are not looked at.
 * false: more than an int64_t holds. Sizes and the strides that are looked at must not be negative. */
bool fg_extent(int64_t matrices, int64_t stride, int64_t rows, int64_t ld, int64_t cols, int64_t element_bytes, int64_t *bytes);

/* Whether no two elements of such an array share a place: matrices one after another, or their rows interleaved
 * (ld >= matrices * stride, as in [rows, matrices, cols]). Any ld and stride, also negative ones, which are never right. */
bool fg_strides_fit(int64_t matrices, int64_t stride, int64_t rows, int64_t ld, int64_t cols);

bool fg_overlaps(const void *a, int64_t a_bytes, const void *b, int64_t b_bytes);
bool fg_aligned(const void *pointer, int64_t bytes);

/* The matrix of scales that belongs to a matrix [rows, cols] (cols along K), sizes that fg_check_size() takes: no scales if it has no
 * elements. */
void fg_scale_shape(fg_scaling scaling, int64_t rows, int64_t cols, int64_t *scale_rows, int64_t *scale_cols);

/* One array of an argument: operand.data or operand.scale. */
struct fg_array {
  const char *argument; /* "from": the message then speaks of from.data, from.ld, from.stride */
  bool is_scale;        /* ... or of from.scale, from.scale_ld, from.scale_stride */
  bool is_bare;         /* ... or of the argument alone, which is a pointer and no operand */
  const void *data;
  int64_t matrices, rows, cols; /* cols is the contiguous one */
  int64_t ld, stride;           /* 0: packed */
  int64_t packed_ld;            /* what ld 0 means, and how far packed matrices of one row lie apart; 0: cols */
  int64_t element_bytes;
  int64_t bytes; /* its extent, which fg_check_array() finds */
};

/* The elements and the scales of an operand. `scale_rows` and `scale_cols` as fg_scale_shape() gives them; with
 * FG_ROWS_CONTIGUOUS the array is the transposed one. The operand's own type and layout must exist. */
struct fg_array fg_data_array(const char *argument, const fg_operand *operand, int64_t matrices, int64_t rows, int64_t cols);
struct fg_array fg_scale_array(const char *argument, const fg_operand *operand, int64_t matrices, int64_t scale_rows,
                               int64_t scale_cols);

/* A result seen as an operand, so that both are checked by the same functions. */
fg_operand fg_as_operand(const fg_result *result);

/* Fills in ld, stride (0 for a single matrix) and bytes. An array without elements is always legal.
 * FG_OK, FG_BAD_STRIDE, FG_BAD_SIZE (too large to be addressed). */
fg_status fg_check_array(struct fg_array *array);

/* The pointer of a checked array: FG_OK, FG_NULL_POINTER, FG_MISALIGNED, FG_BAD_SIZE (it would reach past the last address). */
fg_status fg_check_pointer(const struct fg_array *array);

/* FG_OK, or FG_OVERLAP if the two checked arrays share bytes. */
fg_status fg_check_apart(const struct fg_array *written, const struct fg_array *other);

#endif
