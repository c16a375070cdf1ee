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

static fg_status check_size(const char *name, const char *what, int64_t size) {
  if (size < 1 || size > INT64_C(1) << 32)
    return fg_fail(FG_UNSUPPORTED, "%s has %" PRId64 " %s; the copy engine takes from 1 to 2^32", name, size, what);
  return FG_OK;
}

static fg_status check_stride(const char *name, const char *what, int64_t bytes) {
  if (bytes < 1 || bytes % GRAIN_BYTES != 0 || bytes >= INT64_C(1) << 40)
    return fg_fail(FG_UNSUPPORTED, "%s.%s is %" PRId64 " bytes; the copy engine takes a multiple of %d below 2^40", name, what,
                   bytes, GRAIN_BYTES);
  return FG_OK;
}

fg_status fg_tensor_map(const struct fg_driver *driver, const struct fg_tensor *tensor, CUtensorMap *map) {
  int64_t element = bytes_of(tensor->type);
  int64_t one_row = (tensor->cols * element + GRAIN_BYTES - 1) / GRAIN_BYTES * GRAIN_BYTES;
  /* Between things of which there is one, whatever is legal. */
  int64_t ld = tensor->rows == 1 ? one_row : tensor->ld * element;
  int64_t stride = tensor->matrices == 1 ? ld : tensor->stride * element;
  if ((uintptr_t)tensor->data % GRAIN_BYTES != 0)
    return fg_fail(FG_UNSUPPORTED, "%s.data is %p; the copy engine takes a multiple of %d bytes", tensor->name, tensor->data,
                   GRAIN_BYTES);
  fg_status status = check_size(tensor->name, "columns", tensor->cols);
  if (status == FG_OK) status = check_size(tensor->name, "rows", tensor->rows);
  if (status == FG_OK) status = check_size(tensor->name, "matrices", tensor->matrices);
  if (status == FG_OK) status = check_stride(tensor->name, "ld", ld);
  if (status == FG_OK) status = check_stride(tensor->name, "stride", stride);
  if (status != FG_OK) return status;
  const cuuint64_t sizes[] = {(cuuint64_t)tensor->cols, (cuuint64_t)tensor->rows, (cuuint64_t)tensor->matrices};
  const cuuint64_t strides[] = {(cuuint64_t)ld, (cuuint64_t)stride};
  const cuuint32_t box[] = {(cuuint32_t)tensor->box_cols, (cuuint32_t)tensor->box_rows, 1}, steps[] = {1, 1, 1};
  CUresult error = driver->cuTensorMapEncodeTiled(map, map_type(tensor->type), 3, (void *)(uintptr_t)tensor->data, sizes, strides,
                                                  box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, map_swizzle(tensor->swizzle_bytes),
                                                  CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return error == CUDA_SUCCESS ? FG_OK : fg_driver_fail("cuTensorMapEncodeTiled", error);
}
