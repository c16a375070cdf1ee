/* Level `shared`: a block of threads has a tile of D, and brings what it needs of A and B to shared memory once for all of them; a
 * thread keeps the sums of several rows and columns in registers.
 *
 * The plan's constants arrive as definitions: a tile is BLOCK_M x BLOCK_N, A_IS_E5M2 and B_IS_E5M2 are 0 or 1, and KIND is
 * the problem's. */
#include "dependent.cuh"
#include "finish.cuh"
#include "fp8.cuh"
#include "runs.cuh"
#include "shared.cuh"

enum { THREADS = 256, SIDE = 16, ROWS = BLOCK_M / SIDE, COLS = BLOCK_N / SIDE }; /* a thread has ROWS x COLS of its tile */
enum { SLICE = 32, GAP = 4 }; /* of K, at a time; the gap puts neighbouring rows into different banks */

union __align__(16) shared {
  struct {
    float a[BLOCK_M][SLICE + GAP], b[BLOCK_N][SLICE + GAP]; /* decoded */
    float a_scale[BLOCK_M], b_scale[BLOCK_N];
  } slice;
  float sum[BLOCK_M][BLOCK_N]; /* at last */
};
static_assert(sizeof(union shared) <= SHARED_BYTES, "as the plan reckons it");

/* Half of a row's slice, of which there are `count`, the rest being zeros: decoded. */
__device__ static void fetch(float *to, bool is_a, const unsigned char *codes, long long count) {
  struct sixteen sixteen = load_sixteen(codes, count);
  FG_UNROLL(8)
  for (int i = 0; i < SLICE / 2; i++) {
    unsigned code = code_at(sixteen, i);
    to[i] = is_a || A_IS_E5M2 == B_IS_E5M2 ? a_to_float(code) : b_to_float(code);
  }
}

/* Rows [row0, run.end) of a run, from column col0. A thread has every SIDE-th of both. */
__device__ static void multiply(const struct fg_args &args, union shared *shared, long long matrix, const struct run &run,
                                long long row0, long long col0) {
  long long rows = run.end - row0, cols = args.n - col0;
  int i0 = threadIdx.x / SIDE, j0 = threadIdx.x % SIDE;
  /* Half of the threads fetch from A, half from B: two for a row of the tile, each always the same half of its slices. */
  bool is_a = threadIdx.x < THREADS / 2;
  int mine = threadIdx.x % (THREADS / 2) / 2, first = threadIdx.x % 2 * (SLICE / 2);
  bool is_in_tile = mine < (is_a ? BLOCK_M : BLOCK_N), is_there = is_in_tile && mine < (is_a ? rows : cols);
  const struct fg_matrix &from = is_a ? args.a : args.b;
  long long from_matrix = is_a ? matrix : run.group, from_row = (is_a ? row0 : col0) + mine;
  const unsigned char *codes = (const unsigned char *)from.data + from_matrix * from.stride + from_row * from.ld + run.k0 + first;
  float sum[ROWS][COLS] = {};
  for (long long block = 0; block < blocks_of(run.k); block++) {
    float dot[ROWS][COLS] = {};
    float scale = is_there ? scale_at(is_a ? args.a_scale : args.b_scale, from_matrix, from_row, run.first_block + block) : 0;
    for (long long k0 = block * BLOCK_K; k0 < run.k && k0 < (block + 1) * BLOCK_K; k0 += SLICE) {
      __syncthreads();
      if (is_in_tile) {
        fetch((is_a ? shared->slice.a : shared->slice.b)[mine] + first, is_a, codes + k0, is_there ? run.k - k0 - first : 0);
        if (first == 0) (is_a ? shared->slice.a_scale : shared->slice.b_scale)[mine] = scale;
      }
      __syncthreads();
      FG_UNROLL(4)
      for (int k = 0; k < SLICE; k++)
        for (int i = 0; i < ROWS; i++)
          for (int j = 0; j < COLS; j++)
            dot[i][j] = __fmaf_rn(shared->slice.a[i0 + i * SIDE][k], shared->slice.b[j0 + j * SIDE][k], dot[i][j]);
    }
    for (int i = 0; i < ROWS; i++)
      for (int j = 0; j < COLS; j++) {
        float both = __fmul_rn(shared->slice.a_scale[i0 + i * SIDE], shared->slice.b_scale[j0 + j * SIDE]);
        sum[i][j] = __fmaf_rn(both, dot[i][j], sum[i][j]);
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
  FG_SHARED(union shared, memory);
  wait_for_the_launch_before();
  /* The plan sees to it that a tile's number fits 31 bits. */
  unsigned row_tiles = (args.m + BLOCK_M - 1) / BLOCK_M, col_tiles = (args.n + BLOCK_N - 1) / BLOCK_N;
  unsigned matrices = KIND == GROUPED_ROWS ? 1 : args.groups;
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
