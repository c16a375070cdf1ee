/* A part: the dense product that every problem falls apart into, and the one thing that a CPU level sees.
 *
 * core/split.c turns a checked problem of any kind into parts, so a level knows nothing of kinds, groups or defaults: here every
 * default is filled in, every stride is a number, and D is written for all of [m, n]. */
#ifndef FG_PART_H
#define FG_PART_H

#include "finegemm.h"
#include <stdbool.h>

enum { FG_BLOCK_K = 128 };

/* The scales of one operand: scale(row, block) = data[(row0 + row) / row_block * row_stride + block * block_stride].
 * One scale for the whole matrix: both strides are 0. */
struct fg_scales {
  const float *data;
  int64_t row0;      /* the part's first row within its scaled matrix: its 128x128 blocks may begin before the part */
  int64_t row_block; /* 1 or 128 */
  int64_t row_stride, block_stride;
};

static inline float fg_scale_at(const struct fg_scales *scales, int64_t row, int64_t block) {
  return scales->data[(scales->row0 + row) / scales->row_block * scales->row_stride + block * scales->block_stride];
}

/* D [m, n] = C + A [m, k] B [n, k] transposed, + bias. Leading dimensions in elements. */
struct fg_part {
  int64_t m, n, k;
  const uint8_t *a, *b; /* FP8 codes */
  const void *c, *bias; /* NULL: none */
  void *d;
  int64_t a_ld, b_ld, c_ld, d_ld;
  fg_type a_type, b_type, c_type, bias_type, d_type; /* never FG_DEFAULT_TYPE */
  struct fg_scales a_scale, b_scale;
  int split_k;   /* into how many ranges K is split: see fg_range_begin() */
  int64_t group; /* which of the problem's it is, for messages */
  void *work;    /* of a level that asks for it, aligned to 64 bytes */
};

/* Threads for so many independent pieces of work: one that finds nothing to do was started for nothing. */
static inline int fg_team(int threads, int64_t pieces) { return pieces < threads ? (int)pieces : threads; }

static inline int64_t fg_blocks(int64_t k) { return (k + FG_BLOCK_K - 1) / FG_BLOCK_K; }

/* Where K is split, blocks fg_range_begin(r) ... fg_range_begin(r + 1) - 1 are range r: as even as whole blocks can be, and never
 * empty unless there are no blocks. Each range is summed from +0; then range 1, 2, ... are added to range 0 in FP32. */
static inline int fg_ranges(int split_k, int64_t blocks) { return split_k > blocks ? (blocks > 0 ? (int)blocks : 1) : split_k; }
static inline int64_t fg_range_begin(int range, int ranges, int64_t blocks) {
  return blocks / ranges * range + blocks % ranges * range / ranges;
}

/* The last step of every FP32 level: D(i, j0 + t) = round(RN(RN(sum[t] + C) + bias)) for t < count. `sum` is overwritten. */
void fg_finish_row(const struct fg_part *part, int64_t i, int64_t j0, int64_t count, float *sum);

/* The CPU levels. Each writes D whole, on at most `threads` threads. None allocates, so that none can fail with D half written:
 * part->work must have as many bytes as fg_blas_work_bytes() asks for. */
void fg_exact_part(const struct fg_part *part, int threads);
void fg_reference_part(const struct fg_part *part, int threads);
void fg_blas_part(const struct fg_part *part, int threads);
void fg_hopper_part(const struct fg_part *part, int threads);
size_t fg_blas_work_bytes(const struct fg_part *part, int threads);

/* Whether a level's dot is the tensor core's. */
static inline bool fg_level_is_hopper(fg_level level) { return level == FG_HOPPER || level >= FG_WGMMA; }

/* The exact value and the bound of fg_exact(), for `level`, into [m, n] arrays with row stride ld; either may be NULL. */
void fg_exact_bound(const struct fg_part *part, fg_level level, double *value, double *bound, int64_t ld, int threads);

#endif
