/* The .npy format: "\x93NUMPY", the version, the header's length, the header (a Python dict as text), the elements. */
#include "tensor_format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* HEADER_LIMIT is numpy's own. */
enum { MAGIC_BYTES = 6, HEADER_LIMIT = 10000, DATA_ALIGNMENT = 64 };
static const char magic[MAGIC_BYTES + 1] = "\x93NUMPY";

bool npy_is(const void *data, size_t bytes) { return bytes >= MAGIC_BYTES && memcmp(data, magic, MAGIC_BYTES) == 0; }

struct cursor {
  const char *at, *end;
};

static void skip_space(struct cursor *text) {
  while (text->at < text->end && (*text->at == ' ' || *text->at == '\n' || *text->at == '\t' || *text->at == '\r')) text->at++;
}

/* Skips space, then the word if it is there. */
static bool take(struct cursor *text, const char *word) {
  skip_space(text);
  size_t length = strlen(word);
  if ((size_t)(text->end - text->at) < length || memcmp(text->at, word, length) != 0) return false;
  text->at += length;
  return true;
}

/* A Python string: *begin and *length are what stands between the quotes. */
static bool take_string(struct cursor *text, const char **begin, int *length) {
  if (!take(text, "'") && !take(text, "\"")) return false;
  const char *close = memchr(text->at, text->at[-1], (size_t)(text->end - text->at));
  if (!close) return false;
  *begin = text->at;
  *length = (int)(close - text->at);
  text->at = close + 1;
  return true;
}

static bool all_digits(const char *text) { return *text && strspn(text, "0123456789") == strlen(text); }

/* 0: not a dtype that numpy writes for a plain array. */
static int64_t bytes_of_dtype(const char *dtype) {
  static const char *const numbers[] = {"|b1", "|i1", "|u1", "<i2", "<u2",  "<f2", "<i4",  "<u4",
                                        "<f4", "<i8", "<u8", "<f8", "<f16", "<c8", "<c16", "<c32"};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    if (strcmp(dtype, numbers[i]) == 0) return atoi(dtype + 2);
  }
  if (strncmp(dtype, "<M8", 3) == 0 || strncmp(dtype, "<m8", 3) == 0) {
    return !dtype[3] || (dtype[3] == '[' && dtype[strlen(dtype) - 1] == ']') ? 8 : 0;
  }
  bool text = dtype[0] == '|' || dtype[0] == '<';
  if (!text || !dtype[1] || !strchr("SUV", dtype[1]) || !all_digits(dtype + 2) || strlen(dtype) > 11) return 0;
  return atoi(dtype + 2) * (dtype[1] == 'U' ? INT64_C(4) : INT64_C(1));
}

static bool take_dtype(struct cursor *text, struct tensor_file *file, const char *path, char error[TENSOR_ERROR_BYTES]) {
  const char *begin;
  int length;
  if (take(text, "[") || take(text, "("))
    return tensor_fail(path, error, "has a structured dtype; each element must be one number, as with '<f4'");
  if (!take_string(text, &begin, &length)) return tensor_fail(path, error, "has a header whose 'descr' is not a string");
  if (length && *begin == '>')
    return tensor_fail(path, error, "has the big-endian dtype '%.*s'; it must be little-endian, as '<f4' is",
                       length < 40 ? length : 40, begin);
  if (length == 2 && memcmp(begin, "|O", 2) == 0)
    return tensor_fail(path, error, "holds Python objects (dtype '|O'); it must hold numbers, as with '<f4'");
  bool fits = length < (int)sizeof file->npy_dtype;
  if (fits) memcpy(file->npy_dtype, begin, (size_t)length);
  if (!fits || !bytes_of_dtype(file->npy_dtype))
    return tensor_fail(path, error, "has the dtype '%.*s'; it must be one that numpy writes, as '<f4' or '<f2'",
                       length < 40 ? length : 40, begin);
  return true;
}

static bool take_shape(struct cursor *text, struct tensor *tensor, const char *path, char error[TENSOR_ERROR_BYTES]) {
  static const char not_a_tuple[] = "has a header whose 'shape' is not a tuple of integers, as (2, 3) or (2,)";
  if (!take(text, "(")) return tensor_fail(path, error, not_a_tuple);
  bool comma = true;
  while (!take(text, ")")) {
    if (take(text, "-")) return tensor_fail(path, error, "has a negative dimension in its shape; each must be 0 or more");
    if (!comma || text->at == text->end || *text->at < '0' || *text->at > '9') return tensor_fail(path, error, not_a_tuple);
    if (tensor->rank == TENSOR_RANK) return tensor_fail(path, error, "has more than %d dimensions", TENSOR_RANK);
    int64_t dimension = 0;
    for (; text->at < text->end && *text->at >= '0' && *text->at <= '9'; text->at++) {
      if (__builtin_mul_overflow(dimension, 10, &dimension) || __builtin_add_overflow(dimension, *text->at - '0', &dimension))
        return tensor_fail(path, error, "has a dimension of 2^63 or more in its shape; the file cannot hold that");
    }
    tensor->shape[tensor->rank++] = dimension;
    if (text->at < text->end && *text->at == 'L') text->at++; /* as Python 2 wrote integers */
    comma = take(text, ",");
  }
  if (tensor->rank == 1 && !comma) return tensor_fail(path, error, not_a_tuple);
  return true;
}

static bool parse_header(struct cursor text, struct tensor_file *file, const char *path, char error[TENSOR_ERROR_BYTES]) {
  static const char *const keys[] = {"descr", "fortran_order", "shape"};
  bool seen[3] = {false};
  struct tensor *tensor = file->tensors;
  if (!take(&text, "{")) return tensor_fail(path, error, "has a header that does not begin with '{'; it must be a Python dict");
  while (!take(&text, "}")) {
    const char *begin;
    int length, key = 0;
    if (!take_string(&text, &begin, &length) || !take(&text, ":"))
      return tensor_fail(path, error, "has a header that is no Python dict: a quoted key with ':' or a '}' must follow");
    while (key < 3 && !((int)strlen(keys[key]) == length && memcmp(keys[key], begin, (size_t)length) == 0)) key++;
    if (key == 3)
      return tensor_fail(path, error, "has the key '%.*s' in its header; the keys must be 'descr', 'fortran_order' and 'shape'",
                         length < 40 ? length : 40, begin);
    if (seen[key]) return tensor_fail(path, error, "has the key '%s' twice in its header", keys[key]);
    seen[key] = true;
    if (key == 0 && !take_dtype(&text, file, path, error)) return false;
    if (key == 1 && !(tensor->fortran_order = take(&text, "True")) && !take(&text, "False"))
      return tensor_fail(path, error, "has a header whose 'fortran_order' is neither True nor False");
    if (key == 2 && !take_shape(&text, tensor, path, error)) return false;
    if (!take(&text, ",") && !(text.at < text.end && *text.at == '}'))
      return tensor_fail(path, error, "has a header where neither ',' nor '}' follows the value of '%s'", keys[key]);
  }
  skip_space(&text);
  if (text.at < text.end) return tensor_fail(path, error, "has a header that goes on after its '}'; only spaces may follow");
  for (int key = 0; key < 3; key++) {
    if (!seen[key]) return tensor_fail(path, error, "has a header without '%s'", keys[key]);
  }
  return true;
}

bool npy_parse(struct tensor_file *file, const char *path, char error[TENSOR_ERROR_BYTES]) {
  const unsigned char *data = file->data;
  int major = file->bytes > 6 ? data[6] : 1, minor = file->bytes > 7 ? data[7] : 0;
  if (minor != 0 || major < 1 || major > 3)
    return tensor_fail(path, error, "is of .npy version %d.%d; it must be 1.0, 2.0 or 3.0", major, minor);
  size_t prefix = major == 1 ? 10 : 12, header_bytes;
  if (file->bytes < prefix)
    return tensor_fail(path, error, "is truncated: it has %zu bytes, and a .npy file begins with %zu before its header",
                       file->bytes, prefix);
  header_bytes = data[8] | (size_t)data[9] << 8;
  if (major > 1) header_bytes |= (size_t)data[10] << 16 | (size_t)data[11] << 24;
  if (header_bytes > HEADER_LIMIT)
    return tensor_fail(path, error, "has a header of %zu bytes; numpy reads up to %d", header_bytes, HEADER_LIMIT);
  if (header_bytes > file->bytes - prefix)
    return tensor_fail(path, error, "is truncated: its header takes %zu bytes, and %zu follow", header_bytes,
                       file->bytes - prefix);
  const char *header = (const char *)data + prefix;
  for (size_t i = 0; i < header_bytes; i++) {
    if (data[prefix + i] >= 0x80 || !data[prefix + i])
      return tensor_fail(path, error, "has the byte 0x%02X in its header, which must be ASCII text", data[prefix + i]);
  }

  file->tensors = calloc(1, sizeof *file->tensors);
  if (!file->tensors) return tensor_fail(path, error, "cannot be read: out of memory");
  file->count = 1;
  struct tensor *tensor = file->tensors;
  tensor->name = "";
  tensor->dtype = file->npy_dtype;
  if (!parse_header((struct cursor){header, header + header_bytes}, file, path, error)) return false;
  tensor->type = strcmp(tensor->dtype, "<f4") == 0 ? FG_FP32 : strcmp(tensor->dtype, "<f2") == 0 ? FG_FP16 : FG_DEFAULT_TYPE;
  tensor->fortran_order = tensor->fortran_order && tensor->rank > 1;
  const char *fault = tensor_measure(tensor, bytes_of_dtype(tensor->dtype) * 8);
  if (fault) return tensor_fail(path, error, "%s", fault);

  char shape[SHAPE_TEXT_BYTES];
  size_t left = file->bytes - prefix - header_bytes;
  if ((size_t)tensor->bytes > left)
    return tensor_fail(path, error, "is truncated: %s of '%s' takes %" PRId64 " bytes, and %zu follow the header",
                       shape_text(tensor, shape), tensor->dtype, tensor->bytes, left);
  if ((size_t)tensor->bytes < left)
    return tensor_fail(path, error, "has %zu bytes after its array; %s of '%s' takes %" PRId64 " and must end the file",
                       left - (size_t)tensor->bytes, shape_text(tensor, shape), tensor->dtype, tensor->bytes);
  tensor->data = header + header_bytes;
  return true;
}

bool npy_write(const char *path, const struct tensor *tensor, char error[TENSOR_ERROR_BYTES]) {
  if (tensor->type != FG_FP32 && tensor->type != FG_FP16)
    return tensor_fail(path, error, "cannot be written: .npy has no such dtype; it must be FP32 or FP16");
  struct tensor sized = *tensor;
  const char *fault = tensor->rank < 0 || tensor->rank > TENSOR_RANK ? "has more than 8 dimensions"
                                                                     : tensor_measure(&sized, tensor->type == FG_FP32 ? 32 : 16);
  if (fault) return tensor_fail(path, error, "cannot be written: its tensor %s", fault);

  char start[512], shape[SHAPE_TEXT_BYTES];
  shape_text(tensor, shape);
  shape[strlen(shape) - 1] = '\0'; /* "[2, 3" */
  int used = snprintf(start, sizeof start, "%s\x01%c%c%c{'descr': '<f%d', 'fortran_order': %s, 'shape': (%s%s), }", magic, 0, 0,
                      0, tensor->type == FG_FP32 ? 4 : 2, tensor->fortran_order ? "True" : "False", shape + 1,
                      tensor->rank == 1 ? "," : "");
  int padded = (used + DATA_ALIGNMENT) / DATA_ALIGNMENT * DATA_ALIGNMENT; /* with room for the newline */
  memset(start + used, ' ', (size_t)(padded - used));
  start[padded - 1] = '\n';
  start[8] = (char)((padded - 10) & 0xFF);
  start[9] = (char)((padded - 10) >> 8);
  struct part parts[] = {{start, (size_t)padded}, {tensor->data, (size_t)sized.bytes}};
  return replace_file(path, parts, 2, error);
}

bool npy_writable(const char *path, char error[TENSOR_ERROR_BYTES]) { return replace_file_possible(path, error); }
