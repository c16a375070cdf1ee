/* Level `naive`: a thread for each element of D, which walks along a row of A and a row of B.
 *
 * The plan's constants arrive as definitions: a block of threads has BLOCK_M x BLOCK_N elements, A_IS_E5M2 and B_IS_E5M2 are 0 or 1.
 * KIND is the problem's. */
#include "dependent.cuh"
#include "finish.cuh"
#include "fp8.cuh"
#include "runs.cuh"

extern "C" __global__ void __launch_bounds__(BLOCK_M *BLOCK_N, 1) naive(const __grid_constant__ struct fg_args args) {
  wait_for_the_launch_before();
  /* The plan sees to it that a tile's number fits 31 bits. */
  unsigned row_tiles = (args.m + BLOCK_M - 1) / BLOCK_M, col_tiles = (args.n + BLOCK_N - 1) / BLOCK_N;
  unsigned matrices = KIND == GROUPED_ROWS ? 1 : args.groups;
  for (unsigned tile = blockIdx.x; tile < row_tiles * col_tiles * matrices; tile += gridDim.x) {
    unsigned row_tile = tile / col_tiles, matrix = row_tile / row_tiles;
    long long row = row_tile % row_tiles * (long long)BLOCK_M + threadIdx.x / BLOCK_N;
    long long col = tile % col_tiles * (long long)BLOCK_N + threadIdx.x % BLOCK_N;
    if (row >= args.m || col >= args.n) continue;
    struct run run = find_run(args, matrix, row, row + 1);
    if (run.group < 0) continue;

    const unsigned char *a = (const unsigned char *)args.a.data + matrix * args.a.stride + row * args.a.ld + run.k0;
    const unsigned char *b = (const unsigned char *)args.b.data + run.group * args.b.stride + col * args.b.ld + run.k0;
    float sum = 0;
    for (long long block = 0; block < blocks_of(run.k); block++) {
      float dot = 0;
      for (long long k = block * BLOCK_K; k < run.k && k < (block + 1) * BLOCK_K; k++)
        dot = __fmaf_rn(a_to_float(a[k]), b_to_float(b[k]), dot);
      float a_scale = scale_at(args.a_scale, matrix, row, run.first_block + block);
      float b_scale = scale_at(args.b_scale, run.group, col, run.first_block + block);
      sum = __fmaf_rn(__fmul_rn(a_scale, b_scale), dot, sum);
    }
    finish(args, matrix, run.group, row, col, sum);
  }
}
