/* Which rows are multiplied with what. A run is a stretch of D's rows that share a group, and so a matrix B and a range of K; a dense
 * problem is one run. Group values come from the caller's device memory, unseen by the host: whatever they are, a run stays within
 * m and k.
 *
 * The problem's KIND is a constant of the kernel, since all of this takes as long to compile as a small kernel; a batch is DENSE. */
#pragma once
#include "args.h"
#include "unroll.cuh"

enum { BLOCK_K = 128 };
enum { DENSE = 0, GROUPED_ROWS = 2, MASKED = 3, GROUPED_K = 4 };   /* fg_kind */
enum { BY_INDEX = 1, BY_ENDS = 2, BY_OFFSETS = 3, BY_COUNTS = 4 }; /* fg_group_by */

struct run {
  long long group;       /* -1: rows of no group */
  long long end;         /* past its last row */
  long long k0, k;       /* its range of K */
  long long first_block; /* its first column of scales */
};

__device__ inline long long blocks_of(long long k) { return (k + BLOCK_K - 1) / BLOCK_K; }

__device__ inline long long group_value(const struct fg_args &args, long long i) {
  return args.group_values_are_int64 ? ((const long long *)args.group_values)[i] : ((const int *)args.group_values)[i];
}

__device__ inline long long clamp(long long x, long long low, long long high) { return x < low ? low : x > high ? high : x; }

/* x rounded up to a multiple of group_align. The estimated quotient is off by one at most, and never too large where there is no
 * remainder. To divide integers of 64 bits would add a tenth to the time that the kernel takes to compile. */
__device__ inline long long align_up(const struct fg_args &args, long long x) {
  long long aligned = (long long)(x * args.group_align_reciprocal) * args.group_align;
  FG_UNROLL(1)
  while (aligned < x) aligned += args.group_align;
  return aligned;
}

/* Group g's rows, or its range of K, in [previous, limit]; `previous` is the end of group g - 1. */
__device__ inline void group_range(const struct fg_args &args, long long g, long long previous, long long limit, long long *begin,
                                   long long *end) {
  long long value = group_value(args, g), aligned = align_up(args, previous);
  bool is_empty = args.group_by == BY_COUNTS ? value <= 0 : args.group_by == BY_ENDS && value <= previous;
  *begin = args.group_by == BY_OFFSETS ? value : aligned;
  *end = args.group_by == BY_OFFSETS  ? group_value(args, g + 1)
         : args.group_by == BY_COUNTS ? aligned + clamp(value, 0, limit)
                                      : value;
  if (is_empty) *begin = *end = previous;
  *begin = clamp(*begin, previous, limit);
  *end = clamp(*end, *begin, limit);
}

/* The run that begins at `row` of a matrix of D, cut off at row_limit. */
__device__ inline struct run find_run(const struct fg_args &args, long long matrix, long long row, long long row_limit) {
  struct run run = {matrix, row_limit, 0, args.k, 0};
  if (KIND == MASKED) {
    long long count = group_value(args, matrix);
    if (row >= count)
      run.group = -1;
    else if (count < row_limit)
      run.end = count;
  } else if (KIND == GROUPED_ROWS && args.group_by == BY_INDEX) {
    run.group = group_value(args, row);
    FG_UNROLL(1)
    for (run.end = row + 1; run.end < row_limit && group_value(args, run.end) == run.group;) run.end++;
    if (run.group >= args.groups) run.group = -1;
  } else if (KIND == GROUPED_ROWS || KIND == GROUPED_K) {
    bool is_along_k = KIND == GROUPED_K;
    long long begin = 0, end = 0, blocks = 0, g = 0;
    FG_UNROLL(1)
    for (; g < args.groups; g++) {
      blocks += blocks_of(end - begin);
      group_range(args, g, end, is_along_k ? args.k : args.m, &begin, &end);
      if (is_along_k ? g == matrix : row < end) break;
    }
    if (is_along_k) {
      run.k0 = begin, run.k = end - begin, run.first_block = blocks;
    } else if (g == args.groups || begin > row) { /* rows of no group, behind all or before this one */
      run.group = -1;
      if (g < args.groups && begin < row_limit) run.end = begin;
    } else {
      run.group = g;
      if (end < row_limit) run.end = end;
    }
  }
  return run;
}

__device__ inline const float *scale_address(const struct fg_scale_args &scale, long long matrix, long long row,
                                             long long block) {
  return &scale.data[matrix * scale.stride + (row >> scale.row_shift) * scale.row_stride + block * scale.block_stride];
}

__device__ inline float scale_at(const struct fg_scale_args &scale, long long matrix, long long row, long long block) {
  return *scale_address(scale, matrix, row, block);
}
