/* The reader of .npy: any bytes, then the same as numpy's. */
#include "parse_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes) {
  static const char magic[] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};
  parse_bytes(input, bytes);
  if (bytes < sizeof magic || memcmp(input, magic, sizeof magic) == 0) return 0;
  char *copy = malloc(bytes);
  hold(copy);
  memcpy(copy, input, bytes);
  memcpy(copy, magic, sizeof magic);
  parse_bytes(copy, bytes);
  free(copy);
  return 0;
}
