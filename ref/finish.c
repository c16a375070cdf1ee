#include "fp8.h"
#include "part.h"

enum { CHUNK = 256 };

static void add(float *sum, fg_type type, const void *row, int64_t first, int64_t count) {
  float addend[CHUNK];
  fg_to_float(type, (const char *)row + (size_t)first * fg_type_bytes(type), addend, count);
  for (int64_t t = 0; t < count; t++) sum[t] += addend[t];
}

void fg_finish_row(const struct fg_part *part, int64_t i, int64_t j0, int64_t count, float *sum) {
  for (int64_t done = 0; done < count; done += CHUNK) {
    int64_t chunk = count - done < CHUNK ? count - done : CHUNK, j = j0 + done;
    if (part->c) add(sum + done, part->c_type, part->c, i * part->c_ld + j, chunk);
    if (part->bias) add(sum + done, part->bias_type, part->bias, j, chunk);
    fg_from_float(part->d_type, sum + done, (char *)part->d + (size_t)(i * part->d_ld + j) * fg_type_bytes(part->d_type), chunk);
  }
}
