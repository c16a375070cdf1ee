/* fg_quantize(), fg_dequantize() and fg_convert(): check, then one matrix after another. */
#include "core.h"
#include "names.h"
#include "quantise.h"
#include <inttypes.h>
#include <stdio.h>

/* What one of the three functions takes. */
struct types {
  unsigned set; /* bit t: fg_type t */
  const char *names;
};

static const struct types fp8_types = {1u << FG_E4M3 | 1u << FG_E5M2, "FG_E4M3 or FG_E5M2"};
static const struct types wide_types = {1u << FG_BF16 | 1u << FG_FP16 | 1u << FG_FP32, "FG_BF16, FG_FP16 or FG_FP32"};
static const struct types all_types = {1u << FG_E4M3 | 1u << FG_E5M2 | 1u << FG_BF16 | 1u << FG_FP16 | 1u << FG_FP32,
                                       "FG_E4M3, FG_E5M2, FG_BF16, FG_FP16 or FG_FP32"};

struct side {
  const struct types *types;
  fg_type default_type;
  bool scaled;
};

struct work {
  struct side from, to;
  unsigned flags;
};

/* A legal call: defaults filled in, arrays with their strides and extents. */
struct call {
  int64_t rows, cols, groups;
  fg_operand from, to;
  struct fg_array from_data, from_scale, to_data, to_scale;
};

static fg_status check_side(const char *name, const struct side *side, fg_operand *operand) {
  if (operand->type == FG_DEFAULT_TYPE) operand->type = side->default_type;
  if (operand->type < 0 || operand->type > FG_FP32 || !(side->types->set >> operand->type & 1))
    return fg_fail(FG_BAD_ENUM, "%s.type is %d (%s); it must be %s", name, (int)operand->type, fg_type_name(operand->type),
                   side->types->names);
  if (operand->scaling == FG_DEFAULT_SCALING) operand->scaling = FG_1X128;
  if (operand->scaling < FG_1X128 || operand->scaling > FG_TENSOR)
    return fg_fail(FG_BAD_ENUM, "%s.scaling is %d; it must be FG_1X128, FG_128X128 or FG_TENSOR", name, (int)operand->scaling);
  if (operand->scale_layout != FG_BLOCKS_CONTIGUOUS && operand->scale_layout != FG_ROWS_CONTIGUOUS)
    return fg_fail(FG_BAD_ENUM, "%s.scale_layout is %d; it must be FG_BLOCKS_CONTIGUOUS or FG_ROWS_CONTIGUOUS", name,
                   (int)operand->scale_layout);
  if (operand->scale && !side->scaled)
    return fg_fail(FG_BAD_ENUM, "%s.scale is %p; it must be NULL: %s has no scales here", name, (const void *)operand->scale,
                   name);
  return FG_OK;
}

static struct fg_array scale_array(const char *name, const struct side *side, const fg_operand *operand,
                                   const struct call *call) {
  int64_t scale_rows = 0, scale_cols = 0;
  if (side->scaled) fg_scale_shape(operand->scaling, call->rows, call->cols, &scale_rows, &scale_cols);
  return fg_scale_array(name, operand, call->groups, scale_rows, scale_cols);
}

static fg_status check(const fg_context *context, const fg_conversion *conversion, const struct work *work, struct call *call) {
  if (!context) return fg_fail(FG_NULL_POINTER, "context is NULL; it must come from fg_context_create()");
  if (context->gpu)
    return fg_fail(FG_UNSUPPORTED, "context is a CUDA context; this version quantises and converts in CPU contexts");
  if (!conversion) return fg_fail(FG_NULL_POINTER, "conversion is NULL");
  *call = (struct call){.rows = conversion->rows,
                        .cols = conversion->cols,
                        .groups = conversion->groups,
                        .from = conversion->from,
                        .to = fg_as_operand(&conversion->to)};
  fg_status status;
  if ((status = fg_check_size("rows", call->rows)) != FG_OK || (status = fg_check_size("cols", call->cols)) != FG_OK ||
      (status = fg_check_size("groups", call->groups)) != FG_OK ||
      (status = check_side("from", &work->from, &call->from)) != FG_OK ||
      (status = check_side("to", &work->to, &call->to)) != FG_OK)
    return status;
  if (call->groups == 0) call->groups = 1;
  if (conversion->flags & ~work->flags)
    return fg_fail(FG_BAD_ENUM, "flags is 0x%x; it must be %s", conversion->flags, work->flags ? "0 or FG_UE8M0" : "0");
  if (conversion->stream)
    return fg_fail(FG_UNSUPPORTED, "stream is %p; it must be NULL in a CPU context", (void *)conversion->stream);

  call->from_data = fg_data_array("from", &call->from, call->groups, call->rows, call->cols);
  call->from_scale = scale_array("from", &work->from, &call->from, call);
  call->to_data = fg_data_array("to", &call->to, call->groups, call->rows, call->cols);
  call->to_scale = scale_array("to", &work->to, &call->to, call);
  struct fg_array *const arrays[] = {&call->from_data, &call->from_scale, &call->to_data, &call->to_scale};
  enum { FROM_DATA, FROM_SCALE, TO_DATA, TO_SCALE, ARRAYS };
  for (int i = 0; i < ARRAYS; i++)
    if ((status = fg_check_array(arrays[i])) != FG_OK) return status;
  for (int i = 0; i < ARRAYS; i++)
    if ((status = fg_check_pointer(arrays[i])) != FG_OK) return status;
  for (int written = TO_DATA; written < ARRAYS; written++)
    for (int other = 0; other < written; other++)
      if ((status = fg_check_apart(arrays[written], arrays[other])) != FG_OK) return status;
  return FG_OK;
}

static bool is_empty(const struct call *call) { return call->rows == 0 || call->cols == 0; }

/* Matrix g of an array, whose pointer is the caller's and may be written if the array is a result. */
static void *matrix(const struct fg_array *array, int64_t g) {
  return (char *)(uintptr_t)array->data + (size_t)(g * array->stride) * (size_t)array->element_bytes;
}

/* Strides over the scales: from row (or 128 rows) to row, from block to block. */
static int64_t scale_row_stride(const fg_operand *operand, const struct fg_array *scale) {
  return operand->scaling == FG_TENSOR ? 0 : operand->scale_layout == FG_ROWS_CONTIGUOUS ? 1 : scale->ld;
}
static int64_t scale_block_stride(const fg_operand *operand, const struct fg_array *scale) {
  return operand->scaling == FG_TENSOR ? 0 : operand->scale_layout == FG_ROWS_CONTIGUOUS ? scale->ld : 1;
}

static struct fg_quantisation quantisation_of(const struct call *call, unsigned flags, int64_t g) {
  return (struct fg_quantisation){.rows = call->rows,
                                  .cols = call->cols,
                                  .x = matrix(&call->from_data, g),
                                  .x_type = call->from.type,
                                  .x_ld = call->from_data.ld,
                                  .q = matrix(&call->to_data, g),
                                  .q_type = call->to.type,
                                  .q_ld = call->to_data.ld,
                                  .scale = matrix(&call->to_scale, g),
                                  .scaling = call->to.scaling,
                                  .row_stride = scale_row_stride(&call->to, &call->to_scale),
                                  .block_stride = scale_block_stride(&call->to, &call->to_scale),
                                  .ue8m0 = (flags & FG_UE8M0) != 0};
}

static fg_status bad_value(const struct fg_quantisation *quantisation, int64_t groups, int64_t g, int64_t row, int64_t col) {
  float value;
  fg_to_float(quantisation->x_type,
              (const char *)quantisation->x + (size_t)(row * quantisation->x_ld + col) * fg_type_bytes(quantisation->x_type),
              &value, 1);
  char of_matrix[32] = "";
  if (groups > 1) snprintf(of_matrix, sizeof of_matrix, " of matrix %" PRId64, g);
  return fg_fail(FG_BAD_VALUE, "from is %s at [%" PRId64 ", %" PRId64 "]%s; only finite values can be quantised",
                 value > 0   ? "infinity"
                 : value < 0 ? "-infinity"
                             : "NaN",
                 row, col, of_matrix);
}

fg_status fg_quantize(fg_context *context, const fg_conversion *conversion) {
  static const struct work work = {{&wide_types, FG_FP32, false}, {&fp8_types, FG_E4M3, true}, FG_UE8M0};
  struct call call;
  fg_status status = check(context, conversion, &work, &call);
  if (status != FG_OK || is_empty(&call)) return status;
  for (int64_t g = 0; g < call.groups; g++) {
    struct fg_quantisation quantisation = quantisation_of(&call, conversion->flags, g);
    int64_t row, col;
    if (fg_find_not_finite(&quantisation, context->threads, &row, &col))
      return bad_value(&quantisation, call.groups, g, row, col);
  }
  for (int64_t g = 0; g < call.groups; g++) {
    struct fg_quantisation quantisation = quantisation_of(&call, conversion->flags, g);
    fg_quantise_matrix(&quantisation, context->threads);
  }
  return FG_OK;
}

fg_status fg_dequantize(fg_context *context, const fg_conversion *conversion) {
  static const struct work work = {{&fp8_types, FG_E4M3, true}, {&wide_types, FG_FP32, false}, 0};
  struct call call;
  fg_status status = check(context, conversion, &work, &call);
  if (status != FG_OK || is_empty(&call)) return status;
  for (int64_t g = 0; g < call.groups; g++) {
    struct fg_dequantisation dequantisation = {.rows = call.rows,
                                               .cols = call.cols,
                                               .q = matrix(&call.from_data, g),
                                               .q_type = call.from.type,
                                               .q_ld = call.from_data.ld,
                                               .scales = {.data = matrix(&call.from_scale, g),
                                                          .row_block = call.from.scaling == FG_1X128 ? 1 : FG_BLOCK_K,
                                                          .row_stride = scale_row_stride(&call.from, &call.from_scale),
                                                          .block_stride = scale_block_stride(&call.from, &call.from_scale)},
                                               .x = matrix(&call.to_data, g),
                                               .x_type = call.to.type,
                                               .x_ld = call.to_data.ld};
    fg_dequantise_matrix(&dequantisation, context->threads);
  }
  return FG_OK;
}

fg_status fg_convert(fg_context *context, const fg_conversion *conversion) {
  static const struct work work = {{&all_types, FG_FP32, false}, {&all_types, FG_FP32, false}, 0};
  struct call call;
  fg_status status = check(context, conversion, &work, &call);
  if (status != FG_OK || is_empty(&call)) return status;
  for (int64_t g = 0; g < call.groups; g++) {
    struct fg_copy copy = {.rows = call.rows,
                           .cols = call.cols,
                           .from = matrix(&call.from_data, g),
                           .from_type = call.from.type,
                           .from_ld = call.from_data.ld,
                           .to = matrix(&call.to_data, g),
                           .to_type = call.to.type,
                           .to_ld = call.to_data.ld};
    fg_convert_matrix(&copy, context->threads);
  }
  return FG_OK;
}
