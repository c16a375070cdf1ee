/* Four warps store [16, 64] numbers of 16 bits from registers, by matrices of 8x8, and the copy engine stores that; then the same with
 * every matrix transposed, from the same place. */
#include "bulk.cuh"
#include "tma.cuh"
#include "warp.cuh"

enum { ROW_BYTES = 128, ROWS = 16 };

struct arguments {
  struct fg_tensor_map plain, transposed; /* a box is [16, 64], swizzled by 128 bytes */
};

struct shared {
  unsigned char tile[ROWS * ROW_BYTES];
};

__device__ static void send(const struct fg_tensor_map *map, const struct shared &shared) {
  fence_proxy_async();
  __syncthreads();
  if (threadIdx.x == 0) {
    tma_store(map, shared.tile, 0, 0, 0);
    bulk_commit();
    bulk_wait_read(0);
  }
  __syncthreads();
}

extern "C" __global__ void __launch_bounds__(128) matrix_store(const __grid_constant__ struct arguments args) {
  FG_SHARED(struct shared, shared);
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  unsigned m[4]; /* matrix i: rows i % 2 * 8, columns warp * 16 + i / 2 * 8; an element is its row * 64 + column */
  for (int i = 0; i < 4; i++) {
    unsigned first = (i % 2 * 8 + lane / 4) * 64 + warp * 16 + i / 2 * 8 + lane % 4 * 2;
    m[i] = first | (first + 1) << 16;
  }
  int matrix = lane / 8, row = matrix % 2 * 8 + lane % 8, piece = warp * 2 + matrix / 2;
  unsigned char *to = shared.tile + row * ROW_BYTES + (piece ^ row % 8) * 16;
  stmatrix(to, m[0], m[1], m[2], m[3]);
  send(&args.plain, shared);
  stmatrix_transposed(to, m[0], m[1], m[2], m[3]);
  send(&args.transposed, shared);
  if (threadIdx.x == 0) bulk_wait();
}
