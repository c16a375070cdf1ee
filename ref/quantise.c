#include "quantise.h"
#include "path.h"

/* A matrix is worked through in pieces: up to this many columns of one row, so that threads share long rows as well as many rows. */
enum { PIECE = 8192, PIECE_BLOCKS = PIECE / FG_BLOCK_K };

static int64_t pieces_of_row(int64_t cols) { return (cols + PIECE - 1) / PIECE; }

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Waking another thread must be worth it. */
static int useful_threads(int64_t rows, int64_t cols, int threads) {
  enum { ELEMENTS_FOR_A_THREAD = 1 << 16 };
  return (int)least(threads, rows * cols / ELEMENTS_FOR_A_THREAD + 1);
}

static const void *x_at(const struct fg_quantisation *quantisation, int64_t row, int64_t col) {
  return (const char *)quantisation->x + (size_t)(row * quantisation->x_ld + col) * fg_type_bytes(quantisation->x_type);
}

int fg_find_not_finite(const struct fg_quantisation *quantisation, int threads, int64_t *row, int64_t *col) {
  const struct fg_path *path = fg_path();
  fg_type type = quantisation->x_type;
  uint32_t infinity = type == FG_FP32 ? FG_INFINITY_BITS : type == FG_BF16 ? FG_INFINITY_BITS >> 16 : 0x7C00;
  int64_t in_row = pieces_of_row(quantisation->cols), count = quantisation->rows * in_row, first = count;
#pragma omp parallel for schedule(static) reduction(min                                                                          \
                                                    : first)                                                                     \
    num_threads(useful_threads(quantisation->rows, quantisation->cols, threads))
  for (int64_t piece = 0; piece < count; piece++) {
    int64_t start = piece % in_row * PIECE, length = least(PIECE, quantisation->cols - start);
    if (piece < first && path->max_magnitude(type, x_at(quantisation, piece / in_row, start), length) >= infinity) first = piece;
  }
  if (first == count) return 0;
  *row = first / in_row;
  *col = first % in_row * PIECE;
  while (path->max_magnitude(type, x_at(quantisation, *row, *col), 1) < infinity) ++*col;
  return 1;
}

static void quantise_1x128(const struct fg_quantisation *quantisation, int threads) {
  const struct fg_path *path = fg_path();
  int64_t in_row = pieces_of_row(quantisation->cols), count = quantisation->rows * in_row, blocks = fg_blocks(quantisation->cols);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t piece = 0; piece < count; piece++) {
    int64_t block = piece % in_row * PIECE_BLOCKS;
    path->quantise_groups(quantisation, piece / in_row, block, least(block + PIECE_BLOCKS, blocks));
  }
}

/* A tile of 128 rows and a few blocks, so that it is still in the second cache when it is encoded. */
static void quantise_128x128(const struct fg_quantisation *quantisation, int threads) {
  enum { TILE_BLOCKS = 4, TILE = TILE_BLOCKS * FG_BLOCK_K };
  const struct fg_path *path = fg_path();
  int64_t in_band = (quantisation->cols + TILE - 1) / TILE, count = fg_blocks(quantisation->rows) * in_band;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t tile = 0; tile < count; tile++) {
    int64_t band = tile / in_band, left = tile % in_band * TILE, right = least(left + TILE, quantisation->cols);
    int64_t top = band * FG_BLOCK_K, bottom = least(top + FG_BLOCK_K, quantisation->rows);
    uint32_t max[TILE_BLOCKS] = {0};
    for (int64_t row = top; row < bottom; row++)
      for (int64_t col = left, b = 0; col < right; col += FG_BLOCK_K, b++) {
        uint32_t magnitude =
            path->max_magnitude(quantisation->x_type, x_at(quantisation, row, col), least(FG_BLOCK_K, right - col));
        if (magnitude > max[b]) max[b] = magnitude;
      }
    float inverse_scale[TILE_BLOCKS];
    for (int64_t col = left, b = 0; col < right; col += FG_BLOCK_K, b++) {
      float scale = fg_scale_for(quantisation, max[b]);
      quantisation->scale[band * quantisation->row_stride + col / FG_BLOCK_K * quantisation->block_stride] = scale;
      inverse_scale[b] = 1.0f / scale;
    }
    for (int64_t row = top; row < bottom; row++)
      for (int64_t col = left, b = 0; col < right; col += FG_BLOCK_K, b++)
        path->encode(quantisation->x_type, x_at(quantisation, row, col), inverse_scale[b], quantisation->q_type,
                     quantisation->q + row * quantisation->q_ld + col, least(FG_BLOCK_K, right - col));
  }
}

static void quantise_tensor(const struct fg_quantisation *quantisation, int threads) {
  const struct fg_path *path = fg_path();
  int64_t in_row = pieces_of_row(quantisation->cols), count = quantisation->rows * in_row;
  uint32_t max = 0;
#pragma omp parallel for schedule(static) reduction(max : max) num_threads(threads)
  for (int64_t piece = 0; piece < count; piece++) {
    int64_t row = piece / in_row, col = piece % in_row * PIECE, length = least(PIECE, quantisation->cols - col);
    uint32_t magnitude = path->max_magnitude(quantisation->x_type, x_at(quantisation, row, col), length);
    if (magnitude > max) max = magnitude;
  }
  float scale = fg_scale_for(quantisation, max);
  *quantisation->scale = scale;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t piece = 0; piece < count; piece++) {
    int64_t row = piece / in_row, col = piece % in_row * PIECE, length = least(PIECE, quantisation->cols - col);
    path->encode(quantisation->x_type, x_at(quantisation, row, col), 1.0f / scale, quantisation->q_type,
                 quantisation->q + row * quantisation->q_ld + col, length);
  }
}

void fg_quantise_matrix(const struct fg_quantisation *quantisation, int threads) {
  threads = useful_threads(quantisation->rows, quantisation->cols, threads);
  switch (quantisation->scaling) {
  case FG_128X128:
    quantise_128x128(quantisation, threads);
    break;
  case FG_TENSOR:
    quantise_tensor(quantisation, threads);
    break;
  default:
    quantise_1x128(quantisation, threads);
  }
}

void fg_dequantise_matrix(const struct fg_dequantisation *dequantisation, int threads) {
  const struct fg_path *path = fg_path();
  int64_t cols = dequantisation->cols, in_row = pieces_of_row(cols), count = dequantisation->rows * in_row;
#pragma omp parallel for schedule(static) num_threads(useful_threads(dequantisation->rows, cols, threads))
  for (int64_t piece = 0; piece < count; piece++) {
    int64_t row = piece / in_row, start = piece % in_row * PIECE, end = least(start + PIECE, cols);
    for (int64_t col = start; col < end; col += FG_BLOCK_K) {
      float group[FG_BLOCK_K];
      path->fp8_scale_to_float(dequantisation->q_type, dequantisation->q + row * dequantisation->q_ld + col,
                               fg_scale_at(&dequantisation->scales, row, col / FG_BLOCK_K), group, least(FG_BLOCK_K, end - col));
      path->from_float(dequantisation->x_type, group,
                       (char *)dequantisation->x +
                           (size_t)(row * dequantisation->x_ld + col) * fg_type_bytes(dequantisation->x_type),
                       least(FG_BLOCK_K, end - col));
    }
  }
}

void fg_convert_matrix(const struct fg_copy *copy, int threads) {
  enum { CHUNK = 1024 };
  const struct fg_path *path = fg_path();
  int64_t cols = copy->cols, in_row = (cols + CHUNK - 1) / CHUNK, count = copy->rows * in_row;
#pragma omp parallel for schedule(static) num_threads(useful_threads(copy->rows, cols, threads))
  for (int64_t chunk = 0; chunk < count; chunk++) {
    int64_t row = chunk / in_row, col = chunk % in_row * CHUNK, length = least(CHUNK, cols - col);
    float values[CHUNK];
    path->to_float(copy->from_type,
                   (const char *)copy->from + (size_t)(row * copy->from_ld + col) * fg_type_bytes(copy->from_type), values,
                   length);
    path->from_float(copy->to_type, values, (char *)copy->to + (size_t)(row * copy->to_ld + col) * fg_type_bytes(copy->to_type),
                     length);
  }
}
