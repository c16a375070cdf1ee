/* What holds for any bytes that are given as a tensor file: they are refused in one sentence, or all that is said of their tensors
 * is true. Traps if not. */
#ifndef PARSE_BYTES_H
#define PARSE_BYTES_H

#include "tensor_file.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes);

static void hold(bool claim) {
  if (!claim) __builtin_trap();
}

static void check_tensor(const struct tensor *tensor, const unsigned char *data, size_t bytes) {
  const unsigned char *begin = tensor->data;
  hold(tensor->bytes >= 0 && begin >= data && (size_t)tensor->bytes <= bytes && begin + tensor->bytes <= data + bytes);
  hold(tensor->rank >= 0 && tensor->rank <= TENSOR_RANK);
  int64_t count = 1;
  for (int i = 0; i < tensor->rank; i++) {
    hold(tensor->shape[i] >= 0 && !__builtin_mul_overflow(count, tensor->shape[i], &count));
  }
  static const int element_bytes[] = {[FG_E4M3] = 1, [FG_E5M2] = 1, [FG_BF16] = 2, [FG_FP16] = 2, [FG_FP32] = 4};
  int size = element_bytes[tensor->type];
  hold(tensor->count == count && (!size || tensor->bytes == count * size));
  hold(tensor->misaligned == (size && (uintptr_t)begin % (unsigned)size));
  unsigned sum = 0;
  for (int64_t i = 0; i < tensor->bytes; i++) sum += begin[i];
  hold(sum <= 255 * (uint64_t)tensor->bytes && strlen(tensor->dtype) <= bytes);
}

/* From memory of exactly this size, so that a byte too far is seen. */
static void parse_bytes(const void *input, size_t bytes) {
  char error[TENSOR_ERROR_BYTES] = "";
  unsigned char *data = malloc(bytes + !bytes);
  hold(data);
  if (bytes) memcpy(data, input, bytes);
  struct tensor_file *file = tensor_file_parse(data, bytes, "input", error);
  if (!file) {
    hold(strncmp(error, "input: ", 7) == 0 && error[7] && strlen(error) < sizeof error);
    for (const char *at = error; *at; at++) hold((unsigned char)*at >= ' ' && *at != 0x7F);
  }
  for (int i = 0; file && i < tensor_file_count(file); i++) {
    const struct tensor *tensor = tensor_file_get(file, i);
    check_tensor(tensor, data, bytes);
    hold(tensor_file_find(file, tensor->name) == tensor);
  }
  tensor_file_close(file);
  free(data);
}

#endif
