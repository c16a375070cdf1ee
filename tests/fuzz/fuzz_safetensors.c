/* The reader of .safetensors: any bytes, then the same with the header's true length, which few mutations leave right. */
#include "parse_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes) {
  enum { LENGTH_BYTES = 8 };
  parse_bytes(input, bytes);
  size_t end = bytes;
  while (end > LENGTH_BYTES && input[end - 1] != '}') end--;
  if (end <= LENGTH_BYTES) return 0;
  unsigned char *copy = malloc(bytes);
  hold(copy);
  memcpy(copy, input, bytes);
  memcpy(copy, &(uint64_t){end - LENGTH_BYTES}, LENGTH_BYTES);
  parse_bytes(copy, bytes);
  free(copy);
  return 0;
}
