/* The level `blas`: through sgemm, within the bound of the family fp32.
 *
 * D falls into tiles, K into panels. A thread decodes a panel of A and one of B, scales multiplied in, and has sgemm add their
 * product to the tile's sum; so besides A and B there is never more than a few panels of FP32.
 *
 * Why that is within gamma(K + nb + 2) * sum_b |scale_b| A_b (docs/numerics.md): RN(value * scale) on both sides and the
 * definition's RN(a_scale * b_scale) are three roundings, the product is at most one, and K terms are added with at most K - 1
 * to each, in whatever order: K + 3, and nb >= 1. Nothing else may go wrong, so it is done for `tame` scales only: with
 * |value * scale| from 2^-63 to 2^40, or 0, no product is subnormal and no sum of fewer than 2^47 reaches infinity. (A fused
 * product and sum may cancel to a subnormal; that is off by 2^-150 at most, which is a rounding of the product.)
 *
 * A panel with other scales goes block by block as the definition says: sum = fma(scale, dot, sum), only dot is sgemm's. */
#include "cpu.h"
#include "fp8.h"
#include "part.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Measured: docs/decisions/0006-blas-through-panels.md. */
enum { TILE = 384, PANEL_BLOCKS = 2, PANEL_K = PANEL_BLOCKS * FG_BLOCK_K };
enum { GRAIN = 16 };                /* tiles are this many rows and columns, or a multiple */
enum { DECODE_PRODUCTS = 16 };      /* decoding an element takes as long as so many products */
enum { THREAD_PRODUCTS = 1 << 18 }; /* fewer are done before one more thread has woken up */
enum { MORE_WAVES = 3 };            /* so many more rounds of tiles than need be are tried */
enum { DOT_ROWS = 128 };            /* rows of a tile whose dots are there at a time */

static int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/* How D falls into tiles of at most [tile_m, tile_n]. */
struct tiling {
  int64_t tile_m, tile_n, rows, cols;
};

/* The tiling with which `threads` are done first. */
static struct tiling choose_tiling(int64_t m, int64_t n, int64_t threads) {
  int64_t rows_min = ceil_div(m, TILE), cols_min = ceil_div(n, TILE), waves_min = ceil_div(rows_min * cols_min, threads);
  struct tiling best = {0};
  double best_cost = INFINITY;
  for (int64_t waves = waves_min; waves <= waves_min + MORE_WAVES; waves++)
    for (int64_t rows = rows_min; rows * cols_min <= waves * threads; rows++) {
      int64_t cols = waves * threads / rows;
      struct tiling tiling = {.tile_m = min(m, round_up(ceil_div(m, rows), GRAIN)),
                              .tile_n = min(n, round_up(ceil_div(n, cols), GRAIN))};
      tiling.rows = ceil_div(m, tiling.tile_m), tiling.cols = ceil_div(n, tiling.tile_n);
      double one = (double)(tiling.tile_m * tiling.tile_n + DECODE_PRODUCTS * (tiling.tile_m + tiling.tile_n));
      double cost = one * (double)ceil_div(tiling.rows * tiling.cols, threads);
      if (cost < best_cost) best_cost = cost, best = tiling;
    }
  return best;
}

/* What a thread works in. */
struct work {
  float *a, *b;             /* [tile_m, PANEL_K], [tile_n, PANEL_K]: a panel, decoded */
  float *a_scale, *b_scale; /* [PANEL_BLOCKS, tile_m], [PANEL_BLOCKS, tile_n]: its scales */
  float *sum, *dot;         /* [tile_m, tile_n], [at most DOT_ROWS, tile_n] */
};

/* A place for each of the work's arrays, from `slab` on; returns how many floats that takes, a multiple of 16. */
static int64_t lay_out(const struct tiling *tiling, float *slab, struct work *work) {
  int64_t m = round_up(tiling->tile_m, GRAIN), n = round_up(tiling->tile_n, GRAIN), used = 0;
  float **const arrays[] = {&work->a, &work->b, &work->a_scale, &work->b_scale, &work->sum, &work->dot};
  const int64_t floats[] = {m * PANEL_K, n * PANEL_K, m * PANEL_BLOCKS, n * PANEL_BLOCKS, m * n, min(m, DOT_ROWS) * n};
  for (int i = 0; i < 6; i++) {
    *arrays[i] = slab ? slab + used : NULL;
    used += floats[i];
  }
  return used;
}

/* The scales of a panel, to [blocks, rows]; returns whether all are tame. */
static bool load_scales(const struct fg_scales *scales, fg_type type, int64_t row0, int64_t rows, int64_t block0, int64_t blocks,
                        float *to) {
  /* A finite value that is not 0 lies between 2^-9 and 2^9, or 2^-16 and 2^16. */
  const float least = type == FG_E4M3 ? 0x1p-54F : 0x1p-47F, most = type == FG_E4M3 ? 0x1p31F : 0x1p24F;
  bool tame = true;
  for (int64_t row = 0; row < rows; row++)
    for (int64_t block = 0; block < blocks; block++) {
      float scale = fg_scale_at(scales, row0 + row, block0 + block), magnitude = fabsf(scale);
      tame = tame && (magnitude == 0 || (magnitude >= least && magnitude <= most));
      to[block * rows + row] = scale;
    }
  return tame;
}

/* [rows, count] FP8 to [rows, PANEL_K] FP32; scale is [blocks, rows] or NULL: 1. */
static void decode(fg_type type, const uint8_t *from, int64_t ld, int64_t rows, int64_t count, const float *scale, float *to) {
  for (int64_t row = 0; row < rows; row++)
    for (int64_t k = 0; k < count; k += FG_BLOCK_K)
      fg_fp8_scale_to_float(type, from + row * ld + k, scale ? scale[k / FG_BLOCK_K * rows + row] : 1, to + row * PANEL_K + k,
                            min(count - k, FG_BLOCK_K));
}

/* c [m, n] = a [m, k] b [n, k] transposed + beta c. With one row or column sgemm would spend its time on packing the other side. */
static void sgemm(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float beta, float *c) {
  if (m == 1)
    cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)n, (int)k, 1, b, PANEL_K, a, 1, beta, c, 1);
  else if (n == 1)
    cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)m, (int)k, 1, a, PANEL_K, b, 1, beta, c, 1);
  else
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)k, 1, a, PANEL_K, b, PANEL_K, beta, c, (int)n);
}

/* sum = fma(a_scale * b_scale, dot, sum) for [m, n]. */
static inline __attribute__((always_inline)) void add_dots(int64_t m, int64_t n, const float *a_scale, const float *b_scale,
                                                           const float *restrict dot, float *restrict sum) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) sum[i * n + j] = fmaf(a_scale[i] * b_scale[j], dot[i * n + j], sum[i * n + j]);
}

static void add_dots_plain(int64_t m, int64_t n, const float *a_scale, const float *b_scale, const float *dot, float *sum) {
  add_dots(m, n, a_scale, b_scale, dot, sum);
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) static void add_dots_avx2(int64_t m, int64_t n, const float *a_scale, const float *b_scale,
                                                              const float *dot, float *sum) {
  add_dots(m, n, a_scale, b_scale, dot, sum);
}
#else
#define add_dots_avx2 add_dots_plain
#endif

/* Adds block `block` of a panel, decoded without scales, to the sum of a tile [m, n] as the definition says. */
static void add_block(int64_t m, int64_t n, int64_t k, int64_t block, const struct work *work) {
  const float *a = work->a + block * FG_BLOCK_K, *b = work->b + block * FG_BLOCK_K;
  for (int64_t i = 0; i < m; i += DOT_ROWS) {
    int64_t rows = min(m - i, DOT_ROWS);
    sgemm(rows, n, k, a + i * PANEL_K, b, 0, work->dot);
    (fg_isa() == FG_ISA_PLAIN ? add_dots_plain : add_dots_avx2)(rows, n, work->a_scale + block * m + i, work->b_scale + block * n,
                                                                work->dot, work->sum + i * n);
  }
}

static void multiply_tile(const struct fg_part *part, int64_t i0, int64_t m, int64_t j0, int64_t n, const struct work *work) {
  memset(work->sum, 0, (size_t)(m * n) * sizeof *work->sum);
  for (int64_t k0 = 0; k0 < part->k; k0 += PANEL_K) {
    int64_t k = min(part->k - k0, PANEL_K), block0 = k0 / FG_BLOCK_K, blocks = fg_blocks(k);
    bool tame = load_scales(&part->a_scale, part->a_type, i0, m, block0, blocks, work->a_scale);
    tame = load_scales(&part->b_scale, part->b_type, j0, n, block0, blocks, work->b_scale) && tame;
    decode(part->a_type, part->a + i0 * part->a_ld + k0, part->a_ld, m, k, tame ? work->a_scale : NULL, work->a);
    decode(part->b_type, part->b + j0 * part->b_ld + k0, part->b_ld, n, k, tame ? work->b_scale : NULL, work->b);
    if (tame) sgemm(m, n, k, work->a, work->b, 1, work->sum);
    for (int64_t block = 0; block < blocks && !tame; block++)
      add_block(m, n, min(k - block * FG_BLOCK_K, FG_BLOCK_K), block, work);
  }
  for (int64_t i = 0; i < m; i++) fg_finish_row(part, i0 + i, j0, n, work->sum + i * n);
}

/* How a part is done: tiles by a team of threads, each of which works in `floats` floats of its own. */
struct plan {
  struct tiling tiling;
  int64_t tiles, floats;
  int team;
};

/* OpenBLAS has buffers for so many threads as it was built for; with more it prints, and at last gives up. */
static int openblas_threads(void) {
  const char *name = "MAX_THREADS=", *most = strstr(openblas_get_config(), name);
  int threads = most ? atoi(most + strlen(name)) : 0;
  return threads > 0 ? threads : 64;
}

static struct plan make_plan(const struct fg_part *part, int threads) {
  threads = (int)min(threads, openblas_threads());
  double useful = 1 + (double)part->m * (double)part->n * (double)part->k / THREAD_PRODUCTS;
  if (threads > useful) threads = (int)useful;
  struct plan plan = {.tiling = choose_tiling(part->m, part->n, threads)};
  plan.tiles = plan.tiling.rows * plan.tiling.cols;
  plan.floats = lay_out(&plan.tiling, NULL, &(struct work){0});
  plan.team = fg_team(threads, plan.tiles);
  return plan;
}

size_t fg_blas_work_bytes(const struct fg_part *part, int threads) {
  struct plan plan = make_plan(part, threads);
  return (size_t)(plan.team * plan.floats) * sizeof(float);
}

void fg_blas_part(const struct fg_part *part, int threads) {
  const struct plan plan = make_plan(part, threads);
  const struct tiling *tiling = &plan.tiling;
#pragma omp parallel num_threads(plan.team)
  {
    omp_set_num_threads(1); /* of this thread: in a team of one sgemm would else start a team of its own */
    struct work work;
    lay_out(tiling, (float *)part->work + omp_get_thread_num() * plan.floats, &work);
#pragma omp for schedule(dynamic)
    for (int64_t tile = 0; tile < plan.tiles; tile++) {
      int64_t i0 = tile % tiling->rows * tiling->tile_m, j0 = tile / tiling->rows * tiling->tile_n;
      multiply_tile(part, i0, min(part->m - i0, tiling->tile_m), j0, min(part->n - j0, tiling->tile_n), &work);
    }
  }
}
