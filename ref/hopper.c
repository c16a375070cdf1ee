/* The level `hopper`: the tensor core's own arithmetic through the whole product.
 *
 * D falls into tiles, one thread to a tile. A tile goes along K block by block: its rows of A are decoded, and then, 16 columns at
 * a time, those rows of B; their dots are made, and added to the tile's sums with their scales. */
#include "cpu.h"
#include "fp8.h"
#include "mma.h"

#include <string.h>

enum { MOST_ROWS = 64, MOST_COLS = 512, ELEMENTS = 8192 }; /* of a tile of D */
enum { TILES_FOR_A_THREAD = 4 };                           /* or the last ones leave too many threads without work */
enum { CACHE_LINE = 64 };

static int64_t min(int64_t x, int64_t y) { return x < y ? x : y; }
static int64_t panels(int64_t rows) { return (rows + FG_MMA_LANES - 1) / FG_MMA_LANES; }

struct tile {
  int64_t i0, rows, j0, cols, ld;         /* ld: cols rounded up to 16 */
  float total[ELEMENTS], range[ELEMENTS]; /* [rows, ld] sums: of the ranges of K done, and of the one being done */
  const float *a_scales[MOST_ROWS], *b_scales[MOST_COLS]; /* of the first block */
  float a_scale[MOST_ROWS], b_scale[FG_MMA_LANES];
  struct fg_mma_panel a[MOST_ROWS / FG_MMA_LANES], b;
  float dot[MOST_ROWS][FG_MMA_LANES];
};

/* Those of a row: scale(row, block) = scales[block * block_stride]. */
static const float *scales_of(const struct fg_scales *scales, int64_t row) {
  return scales->data + (scales->row0 + row) / scales->row_block * scales->row_stride;
}

/* 16 rows from `row` on, of the block that begins at k0; what is beyond the last row or the end of K is zeros. Each row's next
 * block is read long after this one and far from it, which no processor foresees. */
static void decode(fg_type type, const uint8_t *data, int64_t ld, int64_t row, int64_t rows, int64_t k0, int64_t k,
                   struct fg_mma_panel *panel) {
  const uint8_t *codes = data + row * ld + k0;
  uint8_t padded[FG_MMA_LANES][FG_BLOCK_K];
  rows = min(rows, FG_MMA_LANES);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t ahead = FG_BLOCK_K; ahead < min(k - k0, 2 * FG_BLOCK_K); ahead += CACHE_LINE)
      __builtin_prefetch(codes + i * ld + ahead);
  if (rows < FG_MMA_LANES || k - k0 < FG_BLOCK_K) {
    memset(padded, 0, sizeof padded);
    for (int64_t i = 0; i < rows; i++) memcpy(padded[i], codes + i * ld, (size_t)min(k - k0, FG_BLOCK_K));
    codes = padded[0], ld = FG_BLOCK_K;
  }
  fg_mma_path()->decode(type, codes, ld, panel);
}

/* Dots with NaN or infinity in them, by the definition. */
static void replace_special_dots(const struct fg_part *part, struct tile *tile, int64_t col, int64_t k0, int64_t count) {
  for (int64_t i = 0; i < tile->rows; i++)
    for (int64_t j = 0; j < min(tile->cols - col, FG_MMA_LANES); j++)
      if ((tile->a[i / FG_MMA_LANES].special_rows >> i % FG_MMA_LANES | tile->b.special_rows >> j) & 1)
        tile->dot[i][j] = fg_mma_dot(part->a_type, part->a + (tile->i0 + i) * part->a_ld + k0, part->b_type,
                                     part->b + (tile->j0 + col + j) * part->b_ld + k0, count, 0, NULL);
}

static void add_block(const struct fg_part *part, struct tile *tile, int64_t block) {
  const struct fg_mma_path *path = fg_mma_path();
  int64_t k0 = block * FG_BLOCK_K, count = min(part->k - k0, FG_BLOCK_K);
  uint32_t special_rows = 0;
  for (int64_t i = 0; i < tile->rows; i++) tile->a_scale[i] = tile->a_scales[i][block * part->a_scale.block_stride];
  for (int64_t i = 0; i < tile->rows; i += FG_MMA_LANES) {
    struct fg_mma_panel *a = &tile->a[i / FG_MMA_LANES];
    decode(part->a_type, part->a, part->a_ld, tile->i0 + i, tile->rows - i, k0, part->k, a);
    special_rows |= a->special_rows;
  }
  for (int64_t col = 0; col < tile->cols; col += FG_MMA_LANES) {
    int64_t cols = min(tile->cols - col, FG_MMA_LANES);
    for (int64_t j = 0; j < FG_MMA_LANES; j++)
      tile->b_scale[j] = j < cols ? tile->b_scales[col + j][block * part->b_scale.block_stride] : 0;
    decode(part->b_type, part->b, part->b_ld, tile->j0 + col, cols, k0, part->k, &tile->b);
    path->dots(tile->a, tile->rows, &tile->b, (int)((count + FG_MMA_K - 1) / FG_MMA_K), false, tile->dot);
    if (special_rows | tile->b.special_rows) replace_special_dots(part, tile, col, k0, count);
    path->promote(tile->a_scale, tile->b_scale, tile->rows, tile->dot, tile->range + col, tile->ld);
  }
}

static void multiply_tile(const struct fg_part *part, struct tile *tile) {
  int64_t blocks = fg_blocks(part->k), elements = tile->rows * tile->ld;
  int ranges = fg_ranges(part->split_k, blocks);
  for (int64_t i = 0; i < tile->rows; i++) tile->a_scales[i] = scales_of(&part->a_scale, tile->i0 + i);
  for (int64_t j = 0; j < tile->cols; j++) tile->b_scales[j] = scales_of(&part->b_scale, tile->j0 + j);
  for (int range = 0; range < ranges; range++) {
    memset(tile->range, 0, (size_t)elements * sizeof(float));
    for (int64_t block = fg_range_begin(range, ranges, blocks); block < fg_range_begin(range + 1, ranges, blocks); block++)
      add_block(part, tile, block);
    for (int64_t e = 0; e < elements; e++) tile->total[e] = range == 0 ? tile->range[e] : tile->total[e] + tile->range[e];
  }
}

/* Wide tiles, for their rows are decoded again for each tile of a row of tiles; smaller ones where threads would be idle. */
static void choose_tile(const struct fg_part *part, int threads, int64_t *rows, int64_t *cols) {
  *rows = min(MOST_ROWS, panels(part->m) * FG_MMA_LANES);
  *cols = min(min(MOST_COLS, ELEMENTS / *rows / FG_MMA_LANES * FG_MMA_LANES), panels(part->n) * FG_MMA_LANES);
  while (threads > 1 && *rows + *cols > 2 * FG_MMA_LANES &&
         ((part->m + *rows - 1) / *rows) * ((part->n + *cols - 1) / *cols) < (int64_t)threads * TILES_FOR_A_THREAD) {
    int64_t *larger = *rows > *cols ? rows : cols;
    *larger = panels(*larger / 2) * FG_MMA_LANES;
  }
}

void fg_hopper_part(const struct fg_part *part, int threads) {
  int64_t rows, cols;
  choose_tile(part, threads, &rows, &cols);
  int64_t tiles = ((part->m + rows - 1) / rows) * ((part->n + cols - 1) / cols);
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(fg_team(threads, tiles))
  for (int64_t i0 = 0; i0 < part->m; i0 += rows)
    for (int64_t j0 = 0; j0 < part->n; j0 += cols) {
      struct tile tile;
      tile.i0 = i0, tile.rows = min(part->m - i0, rows);
      tile.j0 = j0, tile.cols = min(part->n - j0, cols), tile.ld = panels(tile.cols) * FG_MMA_LANES;
      multiply_tile(part, &tile);
      for (int64_t i = 0; i < tile.rows; i++) fg_finish_row(part, i0 + i, j0, tile.cols, tile.total + i * tile.ld);
    }
}
