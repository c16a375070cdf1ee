/* Files of tensors: .npy (one tensor, named "") and .safetensors (any number), mapped into memory and never copied: what is not
 * touched costs nothing. Only little-endian hosts and files. */
#ifndef TENSOR_FILE_H
#define TENSOR_FILE_H

#include "finegemm.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TENSOR_RANK = 8, TENSOR_ERROR_BYTES = 512 };

struct tensor {
  const char *name;
  const char *dtype; /* as the file says: "<f4", "F8_E4M3", "I64" */
  fg_type type;      /* FG_DEFAULT_TYPE: a dtype that finegemm does not multiply; inspect still lists it */
  int rank;
  int64_t shape[TENSOR_RANK];
  int64_t count; /* elements */
  int64_t bytes;
  const void *data;
  bool fortran_order; /* .npy only: the first index is contiguous */
};

struct tensor_file;

/* Opens by content, not by name. NULL on failure, and `error` holds one sentence that names the path and what is wrong. */
struct tensor_file *tensor_file_open(const char *path, char error[TENSOR_ERROR_BYTES]);
void tensor_file_close(struct tensor_file *file);
int tensor_file_count(const struct tensor_file *file);
const struct tensor *tensor_file_get(const struct tensor_file *file, int index);
const struct tensor *tensor_file_find(const struct tensor_file *file, const char *name); /* NULL: not there */

/* The same from bytes that the caller keeps, for tests and fuzzing. `data` must be aligned to 8 bytes. */
struct tensor_file *tensor_file_parse(const void *data, size_t bytes, const char *path, char error[TENSOR_ERROR_BYTES]);

/* Writers: a temporary beside the target, fsync, rename; on failure (false, `error`) the target is as it was and nothing is left.
 * safetensors: tensors of an existing file are kept, but for those of the same names. */
bool npy_write(const char *path, const struct tensor *tensor, char error[TENSOR_ERROR_BYTES]);
bool safetensors_write(const char *path, const struct tensor *tensors, int count, char error[TENSOR_ERROR_BYTES]);

#endif
