/* Tensor maps: how the copy engine (TMA) finds its way in an operand. */
#ifndef FG_TENSOR_MAP_H
#define FG_TENSOR_MAP_H

#include "driver.h"

#include <stdbool.h>

/* `matrices` matrices of [rows, cols] elements, and the box [box_rows, box_cols] of them that one copy brings. */
struct fg_tensor {
  const char *name; /* "a", for messages */
  bool is_scale;    /* they are about a.scale and a.scale_ld then, else about a.data and a.ld */
  const void *data;
  fg_type type;
  int64_t matrices, rows, cols;
  int64_t stride, ld; /* in elements; not looked at between matrices or rows of which there is one */
  int box_rows, box_cols;
  int swizzle_bytes; /* 0, 32, 64 or 128: what a row of the box fills at most */
};

/* FG_OK; FG_UNSUPPORTED: the copy engine wants data and strides in whole 16 bytes and sizes of at most 2^32, and the sentence says
 * which is not. */
fg_status fg_tensor_check(const struct fg_tensor *tensor);

/* The map is always of rank 3, so that a box that reaches beyond a matrix's last row brings zeros, or stores nothing, and never meets
 * the next matrix. As fg_tensor_check(); and FG_DRIVER_ERROR. */
fg_status fg_tensor_map(const struct fg_driver *driver, const struct fg_tensor *tensor, CUtensorMap *map);

#endif
