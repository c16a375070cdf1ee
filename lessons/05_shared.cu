/* Level `shared`: a block of threads has a tile of D, and brings what it needs of A and B to shared memory once for all of them; a
 * thread keeps the sums of several rows and columns in registers.
 *
 * The plan's constants arrive as definitions: a tile is BLOCK_M x BLOCK_N, A_IS_E5M2 and B_IS_E5M2 are 0 or 1. */
#include "finish.cuh"
#include "fp8.cuh"
#include "runs.cuh"

enum { THREADS = 256, SIDE = 16, ROWS = BLOCK_M / SIDE, COLS = BLOCK_N / SIDE }; /* a thread has ROWS x COLS of its tile */
enum { SLICE = 32, GAP = 4 }; /* of K, at a time; the gap spreads stores over the banks */

struct shared {
  float a[SLICE][BLOCK_M + GAP], b[SLICE][BLOCK_N + GAP]; /* [k][row], decoded */
};

/* Eight neighbours of a row, as many as there are; one load where they are aligned. */
__device__ static unsigned long long load_eight(const unsigned char *from, long long count) {
  if (count >= 8 && (unsigned long long)from % 8 == 0) return *(const unsigned long long *)from;
  unsigned long long eight = 0;
  for (int i = 0; i < 8 && i < count; i++) eight |= (unsigned long long)from[i] << 8 * i;
  return eight;
}

/* SLICE of K of `height` rows, of which there are `rows` by `k`, the rest being zeros: decoded into to[k][height + GAP]. */
__device__ static void fetch(float *to, int height, bool is_a, const unsigned char *codes, long long ld, long long rows,
                             long long k) {
  int first = threadIdx.x % (SLICE / 8) * 8;
  for (int row = threadIdx.x / (SLICE / 8); row < height; row += THREADS / (SLICE / 8)) {
    unsigned long long eight = row < rows ? load_eight(codes + row * ld + first, k - first) : 0;
    for (int i = 0; i < 8; i++) {
      unsigned code = eight >> 8 * i & 0xFF;
      to[(first + i) * (height + GAP) + row] = is_a ? a_to_float(code) : b_to_float(code);
    }
  }
}

/* Rows [row0, run.end) of a run, from column col0. */
__device__ static void multiply(const struct fg_args &args, struct shared *shared, long long matrix, const struct run &run,
                                long long row0, long long col0) {
  const unsigned char *a = (const unsigned char *)args.a.data + matrix * args.a.stride + row0 * args.a.ld + run.k0;
  const unsigned char *b = (const unsigned char *)args.b.data + run.group * args.b.stride + col0 * args.b.ld + run.k0;
  long long rows = run.end - row0, cols = args.n - col0;
  int i0 = threadIdx.x / SIDE * ROWS, j0 = threadIdx.x % SIDE * COLS;
  float sum[ROWS][COLS] = {};
  for (long long block = 0; block < blocks_of(run.k); block++) {
    float dot[ROWS][COLS] = {};
    for (long long k0 = block * BLOCK_K; k0 < run.k && k0 < (block + 1) * BLOCK_K; k0 += SLICE) {
      __syncthreads();
      fetch(shared->a[0], BLOCK_M, true, a + k0, args.a.ld, rows, run.k - k0);
      fetch(shared->b[0], BLOCK_N, false, b + k0, args.b.ld, cols, run.k - k0);
      __syncthreads();
      for (int k = 0; k < SLICE; k++)
        for (int i = 0; i < ROWS; i++)
          for (int j = 0; j < COLS; j++) dot[i][j] = __fmaf_rn(shared->a[k][i0 + i], shared->b[k][j0 + j], dot[i][j]);
    }
    float b_scale[COLS];
    for (int j = 0; j < COLS; j++)
      b_scale[j] = j0 + j < cols ? scale_at(args.b_scale, run.group, col0 + j0 + j, run.first_block + block) : 0;
    for (int i = 0; i < ROWS; i++) {
      float a_scale = i0 + i < rows ? scale_at(args.a_scale, matrix, row0 + i0 + i, run.first_block + block) : 0;
      for (int j = 0; j < COLS; j++) sum[i][j] = __fmaf_rn(__fmul_rn(a_scale, b_scale[j]), dot[i][j], sum[i][j]);
    }
  }
  for (int i = 0; i < ROWS; i++)
    for (int j = 0; j < COLS; j++)
      if (i0 + i < rows && j0 + j < cols) finish(args, matrix, run.group, row0 + i0 + i, col0 + j0 + j, sum[i][j]);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) shared(const __grid_constant__ struct fg_args args) {
  __shared__ struct shared memory;
  long long row_tiles = (args.m + BLOCK_M - 1) / BLOCK_M, col_tiles = (args.n + BLOCK_N - 1) / BLOCK_N;
  long long matrices = args.kind == GROUPED_ROWS ? 1 : args.groups;
  for (long long tile = blockIdx.x; tile < row_tiles * col_tiles * matrices; tile += gridDim.x) {
    long long matrix = tile / (row_tiles * col_tiles), row = tile / col_tiles % row_tiles * BLOCK_M;
    long long end = row + BLOCK_M < args.m ? row + BLOCK_M : args.m;
    while (row < end) { /* a tile's rows may be of several groups */
      struct run run = find_run(args, matrix, row, end);
      if (run.group >= 0) multiply(args, &memory, matrix, run, row, tile % col_tiles * BLOCK_N);
      row = run.end;
    }
  }
}
