/* The level `hopper`: the tensor core's own arithmetic through the whole product. */
#include "cpu.h"
#include "fp8.h"
#include "mma.h"

#include <string.h>

enum { ROWS = 64, COLS = 128 }; /* of a tile of D */

struct tile {
  int64_t i0, rows, j0, cols;
  float total[ROWS][COLS], range[ROWS][COLS]; /* sums: of the ranges of K done, and of the one being done */
  float a_scale[ROWS], b_scale[FG_MMA_COLS];
  struct fg_mma_row a[ROWS];
  struct fg_mma_cols b;
  float dot[ROWS][FG_MMA_COLS];
};

/* A code decoded. */
struct operand {
  int8_t exponent;
  bool is_negative, is_special;
  uint16_t significand;
};

static struct operand operands[2][256]; /* of e4m3, of e5m2 */

__attribute__((constructor)) static void fill_operands(void) {
  for (int is_e5m2 = 0; is_e5m2 < 2; is_e5m2++)
    for (int code = 0; code < 256; code++) {
      struct fg_mma_operand x = fg_mma_operand(is_e5m2, (uint8_t)code);
      operands[is_e5m2][code] = (struct operand){(int8_t)(x.significand ? x.exponent : FG_MMA_ZERO_EXPONENT), x.negative,
                                                 x.is_infinite || x.is_nan, (uint16_t)x.significand};
    }
}

static void decode_row(const struct fg_part *part, int64_t i, int64_t k0, int64_t count, struct fg_mma_row *row) {
  const struct operand *table = operands[part->a_type == FG_E5M2];
  const uint8_t *codes = part->a + i * part->a_ld + k0;
  int shift = 14 - (part->a_type == FG_E5M2 ? 2 : 3) - (part->b_type == FG_E5M2 ? 2 : 3);
  row->is_special = false;
  for (int64_t k = 0; k < FG_BLOCK_K; k++) {
    struct operand x = table[k < count ? codes[k] : 0];
    row->exponent[k] = x.exponent;
    row->significand[k] = (uint16_t)(x.significand << shift);
    row->flip[k] = x.is_negative ? 0xFFFE : 0;
    row->is_special |= x.is_special;
  }
}

/* Columns beyond the last of B are zeros. */
static void decode_cols(const struct fg_part *part, int64_t j0, int64_t col_count, int64_t k0, int64_t count,
                        struct fg_mma_cols *cols) {
  const struct operand *table = operands[part->b_type == FG_E5M2];
  cols->special_cols = 0;
  for (int col = 0; col < FG_MMA_COLS; col++) {
    const uint8_t *codes = part->b + (j0 + col) * part->b_ld + k0;
    int word = fg_mma_word(col);
    for (int64_t k = 0; k < FG_BLOCK_K; k++) {
      struct operand x = table[col < col_count && k < count ? codes[k] : 0];
      cols->exponent[k / 4][col * 4 + k % 4] = x.exponent;
      cols->significand[k / 4][word + k % 4] = x.significand;
      cols->sign[k / 4][word + k % 4] = x.is_negative ? -1 : 1;
      cols->special_cols |= (uint32_t)x.is_special << col;
    }
  }
}

/* A dot with NaN or infinity in it, by the definition. */
static float special_dot(const struct fg_part *part, int64_t i, int64_t j, int64_t k0, int64_t count) {
  const uint8_t *a = part->a + i * part->a_ld + k0, *b = part->b + j * part->b_ld + k0;
  return fg_mma_dot(part->a_type, a, part->b_type, b, count, 0, NULL);
}

static void dots(const struct fg_part *part, struct tile *tile, int64_t col, int64_t k0, int64_t count) {
  int64_t j0 = tile->j0 + col, cols = tile->cols - col < FG_MMA_COLS ? tile->cols - col : FG_MMA_COLS;
  decode_cols(part, j0, cols, k0, count, &tile->b);
  fg_mma_path()->dots(tile->a, tile->rows, &tile->b, (int)((count + FG_MMA_K - 1) / FG_MMA_K), tile->dot);
  for (int64_t i = 0; i < tile->rows; i++)
    for (int64_t j = 0; j < cols && (tile->a[i].is_special || tile->b.special_cols); j++)
      if (tile->a[i].is_special || tile->b.special_cols >> j & 1)
        tile->dot[i][j] = special_dot(part, tile->i0 + i, j0 + j, k0, count);
}

static void add_block(const struct fg_part *part, struct tile *tile, int64_t block) {
  int64_t k0 = block * FG_BLOCK_K, count = part->k - k0 < FG_BLOCK_K ? part->k - k0 : FG_BLOCK_K;
  for (int64_t i = 0; i < tile->rows; i++) {
    decode_row(part, tile->i0 + i, k0, count, &tile->a[i]);
    tile->a_scale[i] = fg_scale_at(&part->a_scale, tile->i0 + i, block);
  }
  for (int64_t col = 0; col < tile->cols; col += FG_MMA_COLS) {
    for (int64_t j = 0; j < FG_MMA_COLS; j++)
      tile->b_scale[j] = col + j < tile->cols ? fg_scale_at(&part->b_scale, tile->j0 + col + j, block) : 0;
    dots(part, tile, col, k0, count);
    fg_mma_path()->promote(tile->a_scale, tile->b_scale, tile->rows, tile->dot, &tile->range[0][col], COLS);
  }
}

static void multiply_tile(const struct fg_part *part, struct tile *tile) {
  int64_t blocks = fg_blocks(part->k);
  int ranges = fg_ranges(part->split_k, blocks);
  for (int range = 0; range < ranges; range++) {
    memset(tile->range, 0, sizeof tile->range);
    for (int64_t block = fg_range_begin(range, ranges, blocks); block < fg_range_begin(range + 1, ranges, blocks); block++)
      add_block(part, tile, block);
    for (int64_t i = 0; i < tile->rows; i++)
      for (int64_t j = 0; j < tile->cols; j++)
        tile->total[i][j] = range == 0 ? tile->range[i][j] : tile->total[i][j] + tile->range[i][j];
  }
}

void fg_hopper_part(const struct fg_part *part, int threads) {
  int64_t tiles = ((part->m + ROWS - 1) / ROWS) * ((part->n + COLS - 1) / COLS);
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(fg_team(threads, tiles))
  for (int64_t i0 = 0; i0 < part->m; i0 += ROWS)
    for (int64_t j0 = 0; j0 < part->n; j0 += COLS) {
      struct tile tile;
      tile.i0 = i0, tile.rows = part->m - i0 < ROWS ? part->m - i0 : ROWS;
      tile.j0 = j0, tile.cols = part->n - j0 < COLS ? part->n - j0 : COLS;
      multiply_tile(part, &tile);
      for (int64_t i = 0; i < tile.rows; i++) fg_finish_row(part, i0 + i, j0, tile.cols, tile.total[i]);
    }
}
