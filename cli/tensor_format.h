/* What tensor_file.c, npy.c, safetensors.c and replace_file.c share. */
#ifndef TENSOR_FORMAT_H
#define TENSOR_FORMAT_H

#include "tensor_file.h"
#include <jansson.h>
#include <sys/types.h>

struct tensor_file {
  const unsigned char *data; /* the whole file */
  size_t bytes;
  bool mapped;            /* data is ours to unmap */
  json_t *header;         /* .safetensors: owns the tensors' names and dtypes; NULL for .npy */
  char npy_dtype[24];     /* .npy: the tensor's dtype */
  struct tensor *tensors; /* `count`, ordered by name */
  int count;
};

/* Fill header or npy_dtype, tensors and count from data. On false the caller closes the file, whatever was filled. */
bool npy_parse(struct tensor_file *file, const char *path, char error[TENSOR_ERROR_BYTES]);
bool safetensors_parse(struct tensor_file *file, const char *path, char error[TENSOR_ERROR_BYTES]);
bool npy_is(const void *data, size_t bytes);

/* Writes "path: sentence" to error, long paths and control characters replaced by something printable. Returns false. */
bool tensor_fail(const char *path, char error[TENSOR_ERROR_BYTES], const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Sets count and bytes from rank and shape. NULL, or what is wrong, as in "tensor X %s". */
const char *tensor_measure(struct tensor *tensor, int64_t element_bits);

/* The shape as "[2, 3]". */
enum { SHAPE_TEXT_BYTES = 24 * TENSOR_RANK };
const char *shape_text(const struct tensor *tensor, char text[SHAPE_TEXT_BYTES]);

/* "a directory", "a FIFO", ... for what is not a regular file. */
const char *file_kind(mode_t mode);

struct part {
  const void *data;
  size_t bytes;
};

/* Makes the parts, one after the other, the content of the file, or leaves it as it was; see the writers in tensor_file.h. */
bool replace_file(const char *path, const struct part *parts, size_t count, char error[TENSOR_ERROR_BYTES]);
bool replace_file_possible(const char *path, char error[TENSOR_ERROR_BYTES]); /* as far as can be told without writing */

#endif
