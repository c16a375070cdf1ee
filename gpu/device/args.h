/* What a kernel is told, by value: one struct for the host's C11 and the device. Every default is filled in, strides and leading
 * dimensions are in elements, and the stride of what all groups share is 0. */
#ifndef FG_ARGS_H
#define FG_ARGS_H

/* How the copy engine finds its way in a tensor: the driver's CUtensorMap. */
struct __attribute__((aligned(64))) fg_tensor_map {
  unsigned long long opaque[16];
};

/* [rows, cols] matrices, `stride` apart. data NULL: there is none. */
struct fg_matrix {
  const void *data;
  long long ld, stride;
};

/* scale(row, block) of matrix i = data[i * stride + (row >> row_shift) * row_stride + block * block_stride]; 128 rows share one where
 * row_shift is 7, and none where it is 0. */
struct fg_scale_args {
  const float *data;
  long long row_stride, block_stride, stride;
  int row_shift;
};

/* The enumerators are the public header's. */
struct fg_args {
  long long m, n, k, groups, group_align;
  double group_align_reciprocal;
  struct fg_matrix a, b, c, bias, d;
  struct fg_scale_args a_scale, b_scale;
  const void *group_values;
  int group_by, group_values_are_int64;
  int c_type, bias_type, d_type;
  int tile_rows; /* of level full: how many rows of D a tile has, at most BLOCK_M */
  struct fg_tensor_map a_map, b_map, a_scale_map, d_map, b_scale_map; /* where the level has the copy engine */
};

#endif
