/* Files of tensors: .npy (one tensor, named "") and .safetensors (any number), mapped into memory and never copied: what is not
 * touched costs nothing. Only little-endian hosts and files.
 *
 * A mapped file must not shrink while it is open: reading what was cut off raises SIGBUS. Replacing it by rename, as the writers
 * below do, is safe. */
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
  int64_t shape[TENSOR_RANK]; /* the product is addressable even with every 0 taken as 1 */
  int64_t count;              /* elements */
  int64_t bytes;
  const void *data;   /* `bytes` bytes */
  bool misaligned;    /* data is not a multiple of the element's size: copy it before use as float or uint16_t. A valid
                         .safetensors file may hold F32 at any byte */
  bool fortran_order; /* .npy only: the first index is contiguous. false for less than two dimensions */
};

struct tensor_file;

/* Opens by content, not by name. NULL on failure, and `error` holds one sentence that names the path and what is wrong. */
struct tensor_file *tensor_file_open(const char *path, char error[TENSOR_ERROR_BYTES]);
void tensor_file_close(struct tensor_file *file); /* NULL too; tensors end with their file */
int tensor_file_count(const struct tensor_file *file);
const struct tensor *tensor_file_get(const struct tensor_file *file, int index);         /* in the order of their names' bytes */
const struct tensor *tensor_file_find(const struct tensor_file *file, const char *name); /* NULL: not there */

/* The same from bytes that the caller keeps, for tests and fuzzing. `data` must be aligned to 8 bytes. */
struct tensor_file *tensor_file_parse(const void *data, size_t bytes, const char *path, char error[TENSOR_ERROR_BYTES]);

/* Writers: a temporary beside the target, fsync, rename; on failure (false, `error`) the target is as it was and nothing is left.
 * A symbolic link stays and what it points to is replaced; an existing file's permissions stay. Only regular files: a pipe or a
 * device is refused. One writer at a time in a process.
 *
 * Of a tensor they read name, type, rank, shape, data and fortran_order; count and bytes follow from these.
 * npy: FG_FP32 and FG_FP16. The name is not looked at.
 * safetensors: any type; FG_DEFAULT_TYPE takes `dtype`, which must be one that the format knows. Row-major only. An existing
 * file's other tensors and its metadata are kept (which copies it), tensors of the same names are replaced. */
bool npy_write(const char *path, const struct tensor *tensor, char error[TENSOR_ERROR_BYTES]);
bool safetensors_write(const char *path, const struct tensor *tensors, int count, char error[TENSOR_ERROR_BYTES]);

/* Would a writer take this path and this name? What can be told without writing, so that a long run fails at its beginning. */
bool npy_writable(const char *path, char error[TENSOR_ERROR_BYTES]);
bool safetensors_writable(const char *path, const char *name, char error[TENSOR_ERROR_BYTES]);

/* Removes the temporary of a writer that is interrupted. Async-signal-safe; for a handler after which the process ends. */
void tensor_file_cleanup(void);

#endif
