/* The level `exact`: FP64, and how far another level may be from it. docs/numerics.md derives the bound. */
#include "cpu.h"
#include "fp8.h"
#include "part.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { TILE = 32, LANES = 8 };

/* One operand's rows in one block of K, zero beyond its end. `size` is what a value counts for in the magnitude: |value|, but in
 * the family hopper, whose terms are cut by exponents, a subnormal counts as if it were as large as its exponent says. */
struct rows {
  float value[TILE][FG_BLOCK_K], size[TILE][FG_BLOCK_K];
};

/* A tile of D on its way: the value, and the magnitude |scale| * sum of a's sizes times b's. */
struct tile {
  double value[TILE][TILE], magnitude[TILE][TILE];
  struct rows a, b;
};

typedef float float_lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));

/* The sum of a b, in an order of additions that does not depend on the instructions: lane l takes every eighth product. FP32 holds a
 * product of FP8 exactly, FP64 the sum of a block of e4m3 products. */
static inline __attribute__((always_inline)) double dot_block(const float *a, const float *b) {
  lanes sums = {0};
  for (int k = 0; k < FG_BLOCK_K; k += LANES) {
    float_lanes a_values, b_values;
    memcpy(&a_values, a + k, sizeof a_values);
    memcpy(&b_values, b + k, sizeof b_values);
    sums += __builtin_convertvector(a_values * b_values, lanes);
  }
  double dot = 0;
  for (int lane = 0; lane < LANES; lane++) dot += sums[lane];
  return dot;
}

static inline __attribute__((always_inline)) void add_block(const struct fg_part *part, int64_t i0, int64_t rows, int64_t j0,
                                                            int64_t cols, int64_t block, struct tile *tile) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++) {
      double dot = dot_block(tile->a.value[i], tile->b.value[j]), magnitude = dot_block(tile->a.size[i], tile->b.size[j]);
      float scale = fg_scale_at(&part->a_scale, i0 + i, block) * fg_scale_at(&part->b_scale, j0 + j, block);
      tile->value[i][j] += (double)scale * dot;
      tile->magnitude[i][j] += fabs((double)scale) * magnitude;
    }
}

typedef void add_block_function(const struct fg_part *, int64_t, int64_t, int64_t, int64_t, int64_t, struct tile *);

static void add_block_plain(const struct fg_part *part, int64_t i0, int64_t rows, int64_t j0, int64_t cols, int64_t block,
                            struct tile *tile) {
  add_block(part, i0, rows, j0, cols, block, tile);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static void add_block_avx2(const struct fg_part *part, int64_t i0, int64_t rows, int64_t j0,
                                                           int64_t cols, int64_t block, struct tile *tile) {
  add_block(part, i0, rows, j0, cols, block, tile);
}
#endif

static add_block_function *chosen_add_block(void) {
#ifdef __x86_64__
  if (fg_isa() != FG_ISA_PLAIN) return add_block_avx2;
#endif
  return add_block_plain;
}

static void decode_rows(fg_type type, const uint8_t *first, int64_t ld, int64_t row_count, int64_t count, float smallest_size,
                        struct rows *rows) {
  for (int64_t row = 0; row < row_count; row++) {
    fg_to_float(type, first + row * ld, rows->value[row], count);
    for (int64_t k = count; k < FG_BLOCK_K; k++) rows->value[row][k] = 0;
    for (int64_t k = 0; k < FG_BLOCK_K; k++) {
      float size = fabsf(rows->value[row][k]);
      rows->size[row][k] = size > 0 && size < smallest_size ? smallest_size : size;
    }
  }
}

/* 2^(smallest exponent) in the family hopper. */
static float smallest_size(fg_level level, fg_type type) {
  return fg_level_is_hopper(level) ? type == FG_E5M2 ? 0x1p-14f : 0x1p-6f : 0;
}

static void multiply_tile(const struct fg_part *part, fg_level level, int64_t i0, int64_t rows, int64_t j0, int64_t cols,
                          struct tile *tile) {
  add_block_function *add = chosen_add_block();
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++) tile->value[i][j] = tile->magnitude[i][j] = 0;
  for (int64_t block = 0; block < fg_blocks(part->k); block++) {
    int64_t k0 = block * FG_BLOCK_K, count = part->k - k0 < FG_BLOCK_K ? part->k - k0 : FG_BLOCK_K;
    decode_rows(part->a_type, part->a + i0 * part->a_ld + k0, part->a_ld, rows, count, smallest_size(level, part->a_type),
                &tile->a);
    decode_rows(part->b_type, part->b + j0 * part->b_ld + k0, part->b_ld, cols, count, smallest_size(level, part->b_type),
                &tile->b);
    add(part, i0, rows, j0, cols, block, tile);
  }
}

static double load(fg_type type, const void *data, int64_t index) {
  float x;
  if (!data) return 0;
  fg_to_float(type, (const char *)data + index * (int64_t)fg_type_bytes(type), &x, 1);
  return (double)x;
}

/* Unit roundoff of round to nearest, the largest finite value, and half the distance of subnormals. */
struct format {
  double roundoff, largest, half_tiny;
};

static struct format format_of(fg_type type) {
  switch (type) {
  case FG_BF16:
    return (struct format){0x1p-8, 0x1.FEp127, 0x1p-134};
  case FG_FP16:
    return (struct format){0x1p-11, 65504, 0x1p-25};
  default:
    return (struct format){0x1p-24, (double)FLT_MAX, 0x1p-150};
  }
}

/* The largest legal |D - value| of a level of either family, or of `exact` itself. Every step's rounding is charged at the largest
 * magnitude that the step can have come to. */
static double bound_of(const struct fg_part *part, fg_level level, double value, double magnitude, double c, double bias) {
  const double u = 0x1p-24, tiny = 0x1p-150, blocks = (double)fg_blocks(part->k);
  double terms = (fg_level_is_hopper(level) ? 0 : (double)part->k) + blocks + 2, error,
         largest = magnitude + fabs(c) + fabs(bias);
  if (level == FG_EXACT) {
    error = terms * 0x1p-52 * largest + u * fabs(value) + tiny;
  } else {
    if (terms * u >= 1) return INFINITY;
    error = terms * u / (1 - terms * u) * magnitude + blocks * tiny;
    if (fg_level_is_hopper(level)) error += 132 * 0x1p-13 * magnitude; /* a block's 4 steps, each of 32 cut terms and a cut sum */
    if (part->c) error += u * (fabs(value - bias) + error) + tiny;
    if (part->bias) error += u * (fabs(value) + error) + tiny;
  }
  struct format d = format_of(part->d_type);
  if (part->d_type != FG_FP32) error += d.roundoff * (fabs(value) + error) + d.half_tiny;
  return fabs(value) + error < d.largest && largest + error < (double)FLT_MAX ? error : INFINITY;
}

struct target {
  fg_level level;
  double *value, *bound;
  int64_t ld;
};

/* Either D itself (target NULL) or the arrays of target. */
static void finish_tile(const struct fg_part *part, const struct target *target, int64_t i0, int64_t rows, int64_t j0,
                        int64_t cols, const struct tile *tile) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++) {
      double c = load(part->c_type, part->c, (i0 + i) * part->c_ld + j0 + j), bias = load(part->bias_type, part->bias, j0 + j);
      double value = tile->value[i][j] + c + bias;
      if (target) {
        int64_t at = (i0 + i) * target->ld + j0 + j;
        if (target->value) target->value[at] = value;
        if (target->bound) target->bound[at] = bound_of(part, target->level, value, tile->magnitude[i][j], c, bias);
      } else {
        float rounded = (float)value;
        char *d = (char *)part->d + ((i0 + i) * part->d_ld + j0 + j) * (int64_t)fg_type_bytes(part->d_type);
        fg_from_float(part->d_type, &rounded, d, 1);
      }
    }
}

static void multiply(const struct fg_part *part, const struct target *target, int threads) {
  int64_t tiles = ((part->m + TILE - 1) / TILE) * ((part->n + TILE - 1) / TILE);
#pragma omp parallel for collapse(2) num_threads(fg_team(threads, tiles))
  for (int64_t i0 = 0; i0 < part->m; i0 += TILE)
    for (int64_t j0 = 0; j0 < part->n; j0 += TILE) {
      struct tile tile;
      int64_t rows = part->m - i0 < TILE ? part->m - i0 : TILE, cols = part->n - j0 < TILE ? part->n - j0 : TILE;
      multiply_tile(part, target ? target->level : FG_EXACT, i0, rows, j0, cols, &tile);
      finish_tile(part, target, i0, rows, j0, cols, &tile);
    }
}

void fg_exact_part(const struct fg_part *part, int threads) { multiply(part, NULL, threads); }

void fg_exact_bound(const struct fg_part *part, fg_level level, double *value, double *bound, int64_t ld, int threads) {
  multiply(part, &(struct target){level, value, bound, ld}, threads);
}
