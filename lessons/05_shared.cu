/* Level `shared`: a block of threads has a tile of D, and brings what it needs of A and B to shared memory once for all of them; a
 * thread keeps the sums of several rows and columns in registers.
 *
 * The plan's constants arrive as definitions: a tile is BLOCK_M x BLOCK_N, A_IS_E5M2 and B_IS_E5M2 are 0 or 1. */
#include "dependent.cuh"
#include "finish.cuh"
#include "fp8.cuh"
#include "runs.cuh"

enum { THREADS = 256, SIDE = 16, ROWS = BLOCK_M / SIDE, COLS = BLOCK_N / SIDE }; /* a thread has ROWS x COLS of its tile */
enum { SLICE = 32, GAP = 4 }; /* of K, at a time; the gap puts neighbouring rows into different banks */

union shared {
  struct __align__(16) {
    float a[BLOCK_M][SLICE + GAP], b[BLOCK_N][SLICE + GAP]; /* decoded */
  };
  float sum[BLOCK_M][BLOCK_N]; /* at last */
};

/* SLICE of K of `height` rows, of which there are `rows` by `k`, the rest being zeros: decoded. */
__device__ static void fetch(float (*to)[SLICE + GAP], int height, bool is_a, const unsigned char *codes, long long ld,
                             long long rows, long long k) {
  int first = threadIdx.x % (SLICE / 8) * 8;
  for (int row = threadIdx.x / (SLICE / 8); row < height; row += THREADS / (SLICE / 8)) {
    unsigned long long eight = row < rows ? load_eight(codes + row * ld + first, k - first) : 0;
    for (int i = 0; i < 8; i++) {
      unsigned code = eight >> 8 * i & 0xFF;
      to[row][first + i] = is_a ? a_to_float(code) : b_to_float(code);
    }
  }
}

/* Rows [row0, run.end) of a run, from column col0. A thread has every SIDE-th of both. */
__device__ static void multiply(const struct fg_args &args, union shared *shared, long long matrix, const struct run &run,
                                long long row0, long long col0) {
  const unsigned char *a = (const unsigned char *)args.a.data + matrix * args.a.stride + row0 * args.a.ld + run.k0;
  const unsigned char *b = (const unsigned char *)args.b.data + run.group * args.b.stride + col0 * args.b.ld + run.k0;
  long long rows = run.end - row0, cols = args.n - col0;
  int i0 = threadIdx.x / SIDE, j0 = threadIdx.x % SIDE;
  float sum[ROWS][COLS] = {};
  for (long long block = 0; block < blocks_of(run.k); block++) {
    float dot[ROWS][COLS] = {};
    for (long long k0 = block * BLOCK_K; k0 < run.k && k0 < (block + 1) * BLOCK_K; k0 += SLICE) {
      __syncthreads();
      fetch(shared->a, BLOCK_M, true, a + k0, args.a.ld, rows, run.k - k0);
      fetch(shared->b, BLOCK_N, false, b + k0, args.b.ld, cols, run.k - k0);
      __syncthreads();
      FG_UNROLL(4)
      for (int k = 0; k < SLICE; k++)
        for (int i = 0; i < ROWS; i++)
          for (int j = 0; j < COLS; j++)
            dot[i][j] = __fmaf_rn(shared->a[i0 + i * SIDE][k], shared->b[j0 + j * SIDE][k], dot[i][j]);
    }
    float b_scale[COLS];
    for (int j = 0, col = j0; j < COLS; j++, col += SIDE)
      b_scale[j] = col < cols ? scale_at(args.b_scale, run.group, col0 + col, run.first_block + block) : 0;
    for (int i = 0, row = i0; i < ROWS; i++, row += SIDE) {
      float a_scale = row < rows ? scale_at(args.a_scale, matrix, row0 + row, run.first_block + block) : 0;
      for (int j = 0; j < COLS; j++) sum[i][j] = __fmaf_rn(__fmul_rn(a_scale, b_scale[j]), dot[i][j], sum[i][j]);
    }
  }
  __syncthreads();
  for (int i = 0; i < ROWS; i++)
    for (int j = 0; j < COLS; j++) shared->sum[i0 + i * SIDE][j0 + j * SIDE] = sum[i][j];
  __syncthreads();
  FG_UNROLL(1)
  for (int i = threadIdx.x; i < BLOCK_M * BLOCK_N; i += THREADS)
    if (i / BLOCK_N < rows && i % BLOCK_N < cols)
      finish(args, matrix, run.group, row0 + i / BLOCK_N, col0 + i % BLOCK_N, shared->sum[i / BLOCK_N][i % BLOCK_N]);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) shared(const __grid_constant__ struct fg_args args) {
  __shared__ union shared memory;
  wait_for_the_launch_before();
  /* The plan sees to it that a tile's number fits 31 bits. */
  unsigned row_tiles = (args.m + BLOCK_M - 1) / BLOCK_M, col_tiles = (args.n + BLOCK_N - 1) / BLOCK_N;
  unsigned matrices = args.kind == GROUPED_ROWS ? 1 : args.groups;
  for (unsigned tile = blockIdx.x; tile < row_tiles * col_tiles * matrices; tile += gridDim.x) {
    unsigned row_tile = tile / col_tiles, matrix = row_tile / row_tiles;
    long long row = row_tile % row_tiles * (long long)BLOCK_M, col = tile % col_tiles * (long long)BLOCK_N;
    long long end = row + BLOCK_M < args.m ? row + BLOCK_M : args.m;
    while (row < end) { /* a tile's rows may be of several groups */
      struct run run = find_run(args, matrix, row, end);
      if (run.group >= 0) multiply(args, &memory, matrix, run, row, col);
      row = run.end;
    }
  }
}
