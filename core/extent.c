#include "extent.h"
#include "core.h"
#include "fp8.h"
#include <inttypes.h>

/* No machine can address more bytes, and sizes up to this can be added and rounded up without overflow. */
static const int64_t most = (int64_t)1 << 47;

fg_status fg_check_size(const char *name, int64_t size) {
  if (size < 0 || size > most)
    return fg_fail(FG_BAD_SIZE, "%s is %" PRId64 "; it must be from 0 to 2^47 = %" PRId64, name, size, most);
  return FG_OK;
}

bool fg_extent(int64_t matrices, int64_t stride, int64_t rows, int64_t ld, int64_t cols, int64_t element_bytes, int64_t *bytes) {
  int64_t to_last_matrix = 0, to_last_row = 0, elements;
  *bytes = 0;
  if (matrices == 0 || rows == 0 || cols == 0) return true;
  return !(matrices > 1 && __builtin_mul_overflow(matrices - 1, stride, &to_last_matrix)) &&
         !(rows > 1 && __builtin_mul_overflow(rows - 1, ld, &to_last_row)) &&
         !__builtin_add_overflow(to_last_matrix, to_last_row, &elements) && !__builtin_add_overflow(elements, cols, &elements) &&
         !__builtin_mul_overflow(elements, element_bytes, bytes);
}

bool fg_strides_fit(int64_t matrices, int64_t stride, int64_t rows, int64_t ld, int64_t cols) {
  int64_t reach;
  if (rows > 1 && ld < cols) return false;
  if (matrices <= 1) return true;
  if (stride < cols) return false;
  bool one_after_another = fg_extent(1, 0, rows, ld, cols, 1, &reach) && stride >= reach;
  bool interleaved = fg_extent(1, 0, matrices, stride, cols, 1, &reach) && ld >= reach;
  return one_after_another || interleaved;
}

bool fg_overlaps(const void *a, int64_t a_bytes, const void *b, int64_t b_bytes) {
  uintptr_t first = (uintptr_t)a, second = (uintptr_t)b;
  if (a_bytes == 0 || b_bytes == 0) return false;
  return first <= second ? second - first < (uintptr_t)a_bytes : first - second < (uintptr_t)b_bytes;
}

bool fg_aligned(const void *pointer, int64_t bytes) { return (uintptr_t)pointer % (uintptr_t)bytes == 0; }

void fg_scale_shape(fg_scaling scaling, int64_t rows, int64_t cols, int64_t *scale_rows, int64_t *scale_cols) {
  bool tensor = scaling == FG_TENSOR;
  *scale_rows = tensor ? rows > 0 : scaling == FG_128X128 ? fg_blocks(rows) : rows;
  *scale_cols = tensor ? cols > 0 : fg_blocks(cols);
}

struct fg_array fg_data_array(const char *argument, const fg_operand *operand, int64_t matrices, int64_t rows, int64_t cols) {
  return (struct fg_array){.argument = argument,
                           .data = operand->data,
                           .matrices = matrices,
                           .rows = rows,
                           .cols = cols,
                           .ld = operand->ld,
                           .stride = operand->stride,
                           .element_bytes = (int64_t)fg_type_bytes(operand->type)};
}

struct fg_array fg_scale_array(const char *argument, const fg_operand *operand, int64_t matrices, int64_t scale_rows,
                               int64_t scale_cols) {
  bool transposed = operand->scale_layout == FG_ROWS_CONTIGUOUS && operand->scaling != FG_TENSOR;
  struct fg_array array = {.argument = argument,
                           .is_scale = true,
                           .data = operand->scale,
                           .matrices = matrices,
                           .rows = transposed ? scale_cols : scale_rows,
                           .cols = transposed ? scale_rows : scale_cols,
                           .ld = operand->scale_ld,
                           .stride = operand->scale_stride,
                           .element_bytes = sizeof(float)};
  if (transposed) array.packed_ld = (array.cols + 3) / 4 * 4;
  return array;
}

fg_operand fg_as_operand(const fg_result *result) {
  return (fg_operand){.data = result->data,
                      .scale = result->scale,
                      .ld = result->ld,
                      .stride = result->stride,
                      .scale_ld = result->scale_ld,
                      .scale_stride = result->scale_stride,
                      .type = result->type,
                      .scaling = result->scaling,
                      .scale_layout = result->scale_layout};
}

static const char *pointer_name(const struct fg_array *array) {
  return array->is_scale ? ".scale" : array->is_bare ? "" : ".data";
}
static const char *stride_prefix(const struct fg_array *array) { return array->is_scale ? "scale_" : ""; }

static fg_status too_large(const struct fg_array *array) {
  return fg_fail(FG_BAD_SIZE,
                 "%s%s has %" PRId64 " matrices of %" PRId64 " rows of %" PRId64 " elements with %sld %" PRId64
                 " and %sstride %" PRId64 ": more bytes than can be addressed",
                 array->argument, pointer_name(array), array->matrices, array->rows, array->cols, stride_prefix(array), array->ld,
                 stride_prefix(array), array->stride);
}

fg_status fg_check_array(struct fg_array *array) {
  array->bytes = 0;
  if (array->matrices == 0 || array->rows == 0 || array->cols == 0) {
    array->ld = array->stride = 0;
    return FG_OK;
  }
  /* The ld of a single row is not looked at: frameworks leave anything there. */
  if (array->ld == 0 || array->rows == 1) array->ld = array->packed_ld ? array->packed_ld : array->cols;
  if (array->rows > 1 && array->ld < array->cols)
    return fg_fail(FG_BAD_STRIDE, "%s.%sld is %" PRId64 ", but must be at least the %" PRId64 " elements of a row",
                   array->argument, stride_prefix(array), array->ld, array->cols);
  if (array->matrices == 1)
    array->stride = 0;
  else if (array->stride == 0 && __builtin_mul_overflow(array->rows, array->ld, &array->stride))
    return too_large(array);
  if (!fg_strides_fit(array->matrices, array->stride, array->rows, array->ld, array->cols))
    return fg_fail(FG_BAD_STRIDE,
                   "%s.%sstride is %" PRId64 ", so that matrices of %" PRId64 " rows of %" PRId64 " elements with %sld %" PRId64
                   " would overlap",
                   array->argument, stride_prefix(array), array->stride, array->rows, array->cols, stride_prefix(array),
                   array->ld);
  if (!fg_extent(array->matrices, array->stride, array->rows, array->ld, array->cols, array->element_bytes, &array->bytes) ||
      array->bytes > most)
    return too_large(array);
  if (array->rows == 1) array->ld = array->cols;
  return FG_OK;
}

fg_status fg_check_pointer(const struct fg_array *array) {
  if (array->bytes == 0) return FG_OK;
  if (!array->data) return fg_fail(FG_NULL_POINTER, "%s%s is NULL", array->argument, pointer_name(array));
  if (!fg_aligned(array->data, array->element_bytes))
    return fg_fail(FG_MISALIGNED, "%s%s is %p, but must be a multiple of %" PRId64 " bytes", array->argument, pointer_name(array),
                   array->data, array->element_bytes);
  if ((uintptr_t)array->bytes > UINTPTR_MAX - (uintptr_t)array->data) return too_large(array);
  return FG_OK;
}

/* Whether two matrices whose rows lie equally far apart are different columns of one buffer: they reach over each other, but share
 * no byte. */
static bool side_by_side(const struct fg_array *a, const struct fg_array *b) {
  uintptr_t row = (uintptr_t)(a->ld * a->element_bytes), other_row = (uintptr_t)(b->ld * b->element_bytes);
  if (a->matrices != 1 || b->matrices != 1 || row != other_row) return false;
  uintptr_t first = (uintptr_t)a->data, second = (uintptr_t)b->data;
  uintptr_t after = second >= first ? (second - first) % row : (row - (first - second) % row) % row;
  return after >= (uintptr_t)(a->cols * a->element_bytes) && after + (uintptr_t)(b->cols * b->element_bytes) <= row;
}

fg_status fg_check_apart(const struct fg_array *written, const struct fg_array *other) {
  if (!fg_overlaps(written->data, written->bytes, other->data, other->bytes) || side_by_side(written, other)) return FG_OK;
  return fg_fail(FG_OVERLAP, "%s%s is written, but its %" PRId64 " bytes at %p overlap the %" PRId64 " bytes of %s%s at %p",
                 written->argument, pointer_name(written), written->bytes, written->data, other->bytes, other->argument,
                 pointer_name(other), other->data);
}
