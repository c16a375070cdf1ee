#include "tensor_format.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are used as they lie in the file, which is little-endian");

bool tensor_fail(const char *path, char error[TENSOR_ERROR_BYTES], const char *format, ...) {
  enum { SHOWN = 200 };
  size_t length = strlen(path), skipped = length > SHOWN ? length - SHOWN : 0;
  int used = snprintf(error, TENSOR_ERROR_BYTES, "%s%s: ", skipped ? "..." : "", path + skipped);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error + used, (size_t)(TENSOR_ERROR_BYTES - used), format, arguments);
  va_end(arguments);
  /* Names come from files that others made: nothing in them may steer a terminal. */
  for (char *at = error; *at; at++) {
    if ((unsigned char)*at < ' ' || *at == 0x7F) *at = '?';
  }
  return false;
}

const char *tensor_measure(struct tensor *tensor, int64_t element_bits) {
  int64_t count = 1, size_bits = element_bits;
  for (int i = 0; i < tensor->rank; i++) {
    int64_t dimension = tensor->shape[i];
    if (dimension < 0) return "has a negative dimension; each must be 0 or more";
    if (__builtin_mul_overflow(size_bits, dimension ? dimension : 1, &size_bits))
      return "has a shape too large to address; its bits must be less than 2^63";
    count *= dimension;
  }
  size_bits = count * element_bits;
  if (size_bits % 8) return "ends within a byte; its elements must fill whole bytes";
  tensor->count = count;
  tensor->bytes = size_bits / 8;
  return NULL;
}

const char *shape_text(const struct tensor *tensor, char text[SHAPE_TEXT_BYTES]) {
  int used = snprintf(text, SHAPE_TEXT_BYTES, "[");
  for (int i = 0; i < tensor->rank; i++)
    used += snprintf(text + used, (size_t)(SHAPE_TEXT_BYTES - used), "%s%" PRId64, i ? ", " : "", tensor->shape[i]);
  snprintf(text + used, (size_t)(SHAPE_TEXT_BYTES - used), "]");
  return text;
}

const char *file_kind(mode_t mode) {
  return S_ISDIR(mode) ? "a directory" : S_ISFIFO(mode) ? "a pipe" : S_ISSOCK(mode) ? "a socket" : "a device";
}

static size_t alignment_of(fg_type type) {
  switch (type) {
  case FG_FP32:
    return sizeof(float);
  case FG_FP16:
  case FG_BF16:
    return sizeof(uint16_t);
  default:
    return 1;
  }
}

static bool parse(struct tensor_file *file, const char *path, char error[TENSOR_ERROR_BYTES]) {
  bool (*parser)(struct tensor_file *, const char *, char *) = npy_is(file->data, file->bytes) ? npy_parse : safetensors_parse;
  if (!parser(file, path, error)) return false;
  for (int i = 0; i < file->count; i++)
    file->tensors[i].misaligned = (uintptr_t)file->tensors[i].data % alignment_of(file->tensors[i].type) != 0;
  return true;
}

static bool map(struct tensor_file *file, int descriptor, const char *path, char error[TENSOR_ERROR_BYTES]) {
  struct stat status;
  if (fstat(descriptor, &status)) return tensor_fail(path, error, "cannot be examined: %s", strerror(errno));
  if (!S_ISREG(status.st_mode))
    return tensor_fail(path, error, "is %s; it must be a regular file, which can be mapped", file_kind(status.st_mode));
  if (status.st_size == 0) return tensor_fail(path, error, "is empty; it must be a .npy or .safetensors file");
  void *data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (data == MAP_FAILED) return tensor_fail(path, error, "cannot be mapped: %s", strerror(errno));
  file->data = data;
  file->bytes = (size_t)status.st_size;
  file->mapped = true;
  return true;
}

struct tensor_file *tensor_file_open(const char *path, char error[TENSOR_ERROR_BYTES]) {
  struct tensor_file *file = calloc(1, sizeof *file);
  if (!file) {
    tensor_fail(path, error, "cannot be opened: out of memory");
    return NULL;
  }
  int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a FIFO without a writer must not block */
  bool good = descriptor >= 0 ? map(file, descriptor, path, error) && parse(file, path, error)
                              : tensor_fail(path, error, "cannot be opened: %s", strerror(errno));
  if (descriptor >= 0) close(descriptor);
  if (good) return file;
  tensor_file_close(file);
  return NULL;
}

struct tensor_file *tensor_file_parse(const void *data, size_t bytes, const char *path, char error[TENSOR_ERROR_BYTES]) {
  struct tensor_file *file = calloc(1, sizeof *file);
  if (!file) {
    tensor_fail(path, error, "cannot be read: out of memory");
    return NULL;
  }
  file->data = data;
  file->bytes = bytes;
  if (parse(file, path, error)) return file;
  tensor_file_close(file);
  return NULL;
}

void tensor_file_close(struct tensor_file *file) {
  if (!file) return;
  free(file->tensors);
  json_decref(file->header);
  if (file->mapped) munmap((void *)(uintptr_t)file->data, file->bytes);
  free(file);
}

int tensor_file_count(const struct tensor_file *file) { return file->count; }

const struct tensor *tensor_file_get(const struct tensor_file *file, int index) { return &file->tensors[index]; }

static int compare_name(const void *name, const void *tensor) { return strcmp(name, ((const struct tensor *)tensor)->name); }

const struct tensor *tensor_file_find(const struct tensor_file *file, const char *name) {
  return bsearch(name, file->tensors, (size_t)file->count, sizeof *file->tensors, compare_name);
}
