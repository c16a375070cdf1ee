#include "tensor_map.h"

#include "fail.h"

#include <inttypes.h>

enum { GRAIN_BYTES = 16 };

static int bytes_of(fg_type type) { return type == FG_FP32 ? 4 : type >= FG_BF16 ? 2 : 1; }

static CUtensorMapDataType map_type(fg_type type) {
  switch (type) {
  case FG_BF16:
    return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  case FG_FP16:
    return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  case FG_FP32:
    return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  default:
    return CU_TENSOR_MAP_DATA_TYPE_UINT8;
  }
}

static CUtensorMapSwizzle map_swizzle(int bytes) {
  return bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
         : bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
         : bytes == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
                       : CU_TENSOR_MAP_SWIZZLE_NONE;
}

static fg_status check_size(const struct fg_tensor *tensor, const char *what, int64_t size) {
  if (size < 1 || size > INT64_C(1) << 32)
    return fg_fail(FG_UNSUPPORTED, "%s%s has %" PRId64 " %s; the copy engine takes from 1 to 2^32", tensor->name,
                   tensor->is_scale ? ".scale" : "", size, what);
  return FG_OK;
}

static fg_status check_stride(const struct fg_tensor *tensor, const char *what, int64_t bytes) {
  if (bytes < 1 || bytes % GRAIN_BYTES != 0 || bytes >= INT64_C(1) << 40)
    return fg_fail(FG_UNSUPPORTED, "%s.%s%s is %" PRId64 " bytes; the copy engine takes a multiple of %d below 2^40",
                   tensor->name, tensor->is_scale ? "scale_" : "", what, bytes, GRAIN_BYTES);
  return FG_OK;
}

/* In bytes. Between things of which there is one, whatever is legal. */
static int64_t ld_of(const struct fg_tensor *tensor) {
  int64_t element = bytes_of(tensor->type);
  return tensor->rows == 1 ? (tensor->cols * element + GRAIN_BYTES - 1) / GRAIN_BYTES * GRAIN_BYTES : tensor->ld * element;
}

static int64_t stride_of(const struct fg_tensor *tensor) {
  return tensor->matrices == 1 ? ld_of(tensor) : tensor->stride * bytes_of(tensor->type);
}

fg_status fg_tensor_check(const struct fg_tensor *tensor) {
  if ((uintptr_t)tensor->data % GRAIN_BYTES != 0)
    return fg_fail(FG_UNSUPPORTED, "%s.%s is %p; the copy engine takes a multiple of %d bytes", tensor->name,
                   tensor->is_scale ? "scale" : "data", tensor->data, GRAIN_BYTES);
  fg_status status = check_size(tensor, "columns", tensor->cols);
  if (status == FG_OK) status = check_size(tensor, "rows", tensor->rows);
  if (status == FG_OK) status = check_size(tensor, "matrices", tensor->matrices);
  if (status == FG_OK) status = check_stride(tensor, "ld", ld_of(tensor));
  if (status == FG_OK) status = check_stride(tensor, "stride", stride_of(tensor));
  return status;
}

fg_status fg_tensor_map(const struct fg_driver *driver, const struct fg_tensor *tensor, CUtensorMap *map) {
  fg_status status = fg_tensor_check(tensor);
  if (status != FG_OK) return status;
  const cuuint64_t sizes[] = {(cuuint64_t)tensor->cols, (cuuint64_t)tensor->rows, (cuuint64_t)tensor->matrices};
  const cuuint64_t strides[] = {(cuuint64_t)ld_of(tensor), (cuuint64_t)stride_of(tensor)};
  const cuuint32_t box[] = {(cuuint32_t)tensor->box_cols, (cuuint32_t)tensor->box_rows, 1}, steps[] = {1, 1, 1};
  CUresult error = driver->cuTensorMapEncodeTiled(map, map_type(tensor->type), 3, (void *)(uintptr_t)tensor->data, sizes, strides,
                                                  box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, map_swizzle(tensor->swizzle_bytes),
                                                  CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return error == CUDA_SUCCESS ? FG_OK : fg_driver_fail("cuTensorMapEncodeTiled", error);
}
