/* The level `reference`: the definition of the family fp32, as it stands in docs/numerics.md. */
#include "fp8.h"
#include "part.h"

#include <math.h>

static float multiply_row_by_row(const struct fg_part *part, int64_t i, int64_t j) {
  const uint8_t *a = part->a + i * part->a_ld, *b = part->b + j * part->b_ld;
  const float *a_values = fg_fp8_table(part->a_type), *b_values = fg_fp8_table(part->b_type);
  float sum = 0;
  for (int64_t block = 0; block < fg_blocks(part->k); block++) {
    int64_t begin = block * FG_BLOCK_K, end = begin + FG_BLOCK_K < part->k ? begin + FG_BLOCK_K : part->k;
    float dot = 0;
    for (int64_t k = begin; k < end; k++) dot += a_values[a[k]] * b_values[b[k]]; /* = fmaf: such products are exact */
    float scale = fg_scale_at(&part->a_scale, i, block) * fg_scale_at(&part->b_scale, j, block);
    sum = fmaf(scale, dot, sum);
  }
  return sum;
}

void fg_reference_part(const struct fg_part *part, int threads) {
  const int64_t worth_a_thread = 64;
#pragma omp parallel for collapse(2) num_threads(fg_team(threads, part->m * part->n / worth_a_thread + 1))
  for (int64_t i = 0; i < part->m; i++)
    for (int64_t j = 0; j < part->n; j++) {
      float sum = multiply_row_by_row(part, i, j);
      fg_finish_row(part, i, j, 1, &sum);
    }
}
