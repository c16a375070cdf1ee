/* Every kind of problem as dense parts, and the two checks that need to look into host memory. */
#include "core.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>

static int64_t group_value(const fg_problem *full, int64_t index) {
  return full->group_type == FG_INT64 ? ((const int64_t *)full->group_values)[index]
                                      : ((const int32_t *)full->group_values)[index];
}

/* Group g's range of rows or of K, `previous` being the end of group g - 1 (0 for the first). */
static void group_range(const fg_problem *full, int64_t g, int64_t previous, int64_t *begin, int64_t *end) {
  int64_t value = group_value(full, g), align = full->group_align;
  *begin = (previous + align - 1) / align * align;
  *end = value;
  if (full->kind == FG_MASKED) *begin = 0;
  if (full->group_by == FG_BY_OFFSETS) *begin = value, *end = group_value(full, g + 1);
  if (full->group_by == FG_BY_COUNTS) *end = *begin + value;
  bool empty = (full->group_by == FG_BY_ENDS && value == previous) || (full->group_by == FG_BY_COUNTS && value == 0);
  if (empty && full->kind != FG_MASKED) *begin = *end = previous;
}

static fg_status check_index(const fg_problem *full) {
  for (int64_t row = 0; row < full->m; row++) {
    int64_t group = group_value(full, row);
    if (group < -1 || group >= full->groups)
      return fg_fail(FG_BAD_GROUPS, "group_values[%" PRId64 "] is %" PRId64 "; it must be -1 or a group below groups = %" PRId64,
                     row, group, full->groups);
  }
  return FG_OK;
}

fg_status fg_check_groups(const fg_problem *full, int64_t *blocks) {
  *blocks = fg_blocks(full->k);
  if (full->kind == FG_DENSE || full->kind == FG_BATCHED) return FG_OK;
  if (full->group_by == FG_BY_INDEX) return check_index(full);
  const char *limit_name = full->kind == FG_GROUPED_K ? "k" : "m";
  int64_t limit = full->kind == FG_GROUPED_K ? full->k : full->m, previous = 0;
  if (full->kind == FG_GROUPED_K) *blocks = 0;
  for (int64_t g = 0; g < full->groups; g++) {
    int64_t begin, end, value = group_value(full, g);
    if (full->group_by == FG_BY_COUNTS && (value < 0 || value > limit))
      return fg_fail(FG_BAD_GROUPS, "group_values[%" PRId64 "] is %" PRId64 "; a count must be from 0 to %s = %" PRId64, g, value,
                     limit_name, limit);
    group_range(full, g, previous, &begin, &end);
    if (begin < previous || end < begin || end > limit) {
      bool second = full->group_by == FG_BY_OFFSETS && begin >= previous; /* of a group's two offsets */
      return fg_fail(FG_BAD_GROUPS,
                     "group_values[%" PRId64 "] is %" PRId64 ", which makes group %" PRId64 " the range %" PRId64 " to %" PRId64
                     "; ranges must ascend from %" PRId64 " and end by %s = %" PRId64,
                     second ? g + 1 : g, second ? end : value, g, begin, end, previous, limit_name, limit);
    }
    if (full->kind == FG_GROUPED_K) *blocks += fg_blocks(end - begin);
    if (full->kind != FG_MASKED) previous = end;
  }
  if (*blocks == 0) *blocks = full->k > 0; /* of empty ranges: no scale is used, but the operand has some */
  return FG_OK;
}

static struct fg_scales scales_of(const fg_operand *operand, int64_t matrix, int64_t row0, int64_t block0) {
  struct fg_scales scales = {.row0 = row0, .row_block = operand->scaling == FG_128X128 ? FG_BLOCK_K : 1};
  if (operand->scaling != FG_TENSOR) {
    bool rows_contiguous = operand->scale_layout == FG_ROWS_CONTIGUOUS;
    scales.row_stride = rows_contiguous ? 1 : operand->scale_ld;
    scales.block_stride = rows_contiguous ? operand->scale_ld : 1;
  }
  if (operand->scale) scales.data = operand->scale + matrix * operand->scale_stride + block0 * scales.block_stride;
  return scales;
}

/* Where a part lies: its group, its rows of A and D, its range of K and its first column of scales. */
struct place {
  int64_t group, row, rows, k0, k, block0;
};

static const void *element(const void *data, fg_type type, int64_t index) {
  return data ? (const char *)data + index * (type == FG_FP32 ? 4 : type >= FG_BF16 ? 2 : 1) : NULL;
}

static fg_status run_part(const fg_problem *full, struct place place, fg_part_function *each, void *state) {
  if (place.rows == 0 || full->n == 0) return FG_OK;
  /* A, B and D have a matrix for each group, or one in all, whose stride is then 0. */
  int64_t g = place.group, d_matrix = full->kind == FG_GROUPED_ROWS ? 0 : g;
  struct fg_part part = {
      .group = g,
      .m = place.rows,
      .n = full->n,
      .k = place.k,
      .a = element(full->a.data, full->a.type, g * full->a.stride + place.row * full->a.ld + place.k0),
      .b = element(full->b.data, full->b.type, g * full->b.stride + place.k0),
      .c = element(full->c.data, full->c.type, g * full->c.stride + place.row * full->c.ld),
      .bias = element(full->bias.data, full->bias.type, g * full->bias.stride),
      .d = (void *)(uintptr_t)element(full->d.data, full->d.type, g * full->d.stride + place.row * full->d.ld),
      .a_ld = full->a.ld,
      .b_ld = full->b.ld,
      .c_ld = full->c.ld,
      .d_ld = full->d.ld,
      .a_type = full->a.type,
      .b_type = full->b.type,
      .c_type = full->c.type,
      .bias_type = full->bias.type,
      .d_type = full->d.type,
      .a_scale = scales_of(&full->a, g, place.row, place.block0),
      .b_scale = scales_of(&full->b, g, 0, place.block0),
      .split_k = full->split_k,
  };
  return each(&part, (d_matrix * full->m + place.row) * full->n, state);
}

static fg_status split_by_index(const fg_problem *full, fg_part_function *each, void *state) {
  fg_status status = FG_OK;
  for (int64_t row = 0, next; row < full->m && status == FG_OK; row = next) {
    int64_t group = group_value(full, row);
    for (next = row + 1; next < full->m && group_value(full, next) == group;) next++;
    if (group >= 0)
      status = run_part(full, (struct place){.group = group, .row = row, .rows = next - row, .k = full->k}, each, state);
  }
  return status;
}

fg_status fg_split(const fg_problem *full, fg_part_function *each, void *state) {
  if (full->kind == FG_GROUPED_ROWS && full->group_by == FG_BY_INDEX) return split_by_index(full, each, state);
  int64_t previous = 0, block0 = 0;
  fg_status status = FG_OK;
  for (int64_t g = 0; g < full->groups && status == FG_OK; g++) {
    struct place place = {.group = g, .rows = full->m, .k = full->k};
    if (full->kind != FG_DENSE && full->kind != FG_BATCHED) {
      int64_t begin, end;
      group_range(full, g, previous, &begin, &end);
      if (full->kind == FG_GROUPED_K)
        place.k0 = begin, place.k = end - begin, place.block0 = block0;
      else
        place.row = begin, place.rows = end - begin;
      previous = end;
      block0 += fg_blocks(end - begin);
    }
    status = run_part(full, place, each, state);
  }
  return status;
}

static fg_status check_part_scales(const char *name, const struct fg_scales *scales, int64_t rows, const struct fg_part *part) {
  int64_t first = scales->row0 / scales->row_block, last = (scales->row0 + rows - 1) / scales->row_block;
  if (scales->row_stride == 0) last = first;
  int64_t blocks = scales->block_stride == 0 ? part->k > 0 : fg_blocks(part->k);
  for (int64_t row = first; row <= last; row++)
    for (int64_t block = 0; block < blocks; block++) {
      float scale = scales->data[row * scales->row_stride + block * scales->block_stride];
      if (!isfinite(scale))
        return fg_fail(FG_BAD_SCALE,
                       "%s.scale is %g for row %" PRId64 " and block %" PRId64 " of K in group %" PRId64 "; it must be finite",
                       name, (double)scale, row * scales->row_block, block, part->group);
    }
  return FG_OK;
}

static fg_status check_scales(const struct fg_part *part, int64_t base, void *state) {
  (void)base, (void)state;
  fg_status status = check_part_scales("a", &part->a_scale, part->m, part);
  return status == FG_OK ? check_part_scales("b", &part->b_scale, part->n, part) : status;
}

fg_status fg_check_scales(const fg_problem *full) { return fg_split(full, check_scales, NULL); }
