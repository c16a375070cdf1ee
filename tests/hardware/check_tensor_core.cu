/* Runs the tensor core's instruction for FP8 and compares it with its definition, which is compiled for the GPU as it stands. The
 * run-time compiler sets COLS, which WGMMA_N also is, A_IS_E5M2, B_IS_E5M2 and A_IN_REGISTERS.
 *
 * One tile is A [64, 128] times B [COLS, 128] transposed: four steps of 32 along K, or the first of them, or all 16 pairs of a
 * step's block of A and one of B. A thread block is one warpgroup. */
#include "check_tensor_core.h"
#include "wgmma_any.cuh"

enum { THREADS = 128, FRAGMENT = COLS / 2, PIECE = 16, BLOCKS = ROW_CODES / FG_MMA_K };

/* What stands in the accumulator where the instruction is told to ignore it: NaN, which would not go unseen. */
#define NOT_READ 0x7FC0DEADu

struct __align__(1024) shared {
  uint8_t a[TILE_ROWS * ROW_CODES]; /* [row][k], placed as place() says */
  uint8_t b[COLS * ROW_CODES];
  uint64_t tile;
};

/* Where 16 codes of a row begin. Plain: 8 rows of 16 bytes are a core matrix; these stand one after another along the rows, then
 * along K. Swizzled: a row of 128 bytes, its 16-byte pieces permuted by the row. */
static __device__ int place(enum layouts layout, int rows, int row, int piece) {
  if (layout == SWIZZLED) return row * ROW_CODES + (piece ^ row % 8) * PIECE;
  return (piece * rows + row) * PIECE;
}

/* The shared-memory descriptor of block `block` of K: its address; the distance of core matrices along K (the swizzle needs none)
 * and along rows; the kind of swizzle. All in units of 16 bytes. */
static __device__ uint64_t descriptor(enum layouts layout, int rows, const uint8_t *matrix, int block) {
  uint64_t address = (uint64_t)__cvta_generic_to_shared(matrix) / PIECE;
  if (layout == SWIZZLED) return (address + (uint64_t)(block * 2)) | 1ull << 16 | (8ull * ROW_CODES / PIECE) << 32 | 1ull << 62;
  return (address + (uint64_t)(block * 2 * rows)) | (uint64_t)rows << 16 | 8ull << 32;
}

static __device__ void read_block(enum layouts layout, int rows, const uint8_t *matrix, int row, int block, uint8_t *code) {
  for (int half = 0; half < 2; half++)
    ((uint4 *)code)[half] = *(const uint4 *)(matrix + place(layout, rows, row, block * 2 + half));
}

static __device__ void draw_rows(struct combination is, int is_e5m2, int is_a, uint64_t seed, int rows, uint8_t *matrix) {
  int blocks = is.chain == CHAIN_1 ? 1 : BLOCKS;
  for (int row = threadIdx.x; row < rows; row += THREADS) {
    uint8_t code[ROW_CODES];
    random_row(is.operands, is_e5m2, is_a, random_bits(seed, (uint64_t)row), blocks * FG_MMA_K, code);
    for (int k = 0; k < blocks * FG_MMA_K; k++) matrix[place(is.layout, rows, row, k / PIECE) + k % PIECE] = code[k];
  }
}

/* Row and column of the i-th number of this thread's fragment. */
static __device__ int row_of(int i) { return threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + i / 2 % 2 * 8; }
static __device__ int col_of(int i) { return i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2; }

/* d = c + a · b in `steps` steps, all in flight at once. The first ignores d if `fresh`. */
static __device__ __forceinline__ void run_chain(struct shared &shared, enum layouts layout, int steps, int fresh,
                                                 float (&d)[FRAGMENT]) {
#if A_IN_REGISTERS
  uint32_t a[BLOCKS][4]; /* four codes along K each: rows r and r + 8, then the same 16 further */
  for (int block = 0; block < BLOCKS && block < steps; block++)
    for (int i = 0; i < 4; i++)
      a[block][i] =
          *(const uint32_t *)(shared.a + place(layout, TILE_ROWS, row_of(i * 2), block * 2 + i / 2) + threadIdx.x % 4 * 4);
#endif
  wgmma_hold(d);
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < 16; step++)
    if (step < steps) {
      uint64_t b = descriptor(layout, COLS, shared.b, block_of_b(step));
#if A_IN_REGISTERS
      wgmma_mma(d, a[step % BLOCKS], b, step > 0 || !fresh);
#else
      wgmma_mma(d, descriptor(layout, TILE_ROWS, shared.a, step % BLOCKS), b, step > 0 || !fresh);
#endif
    }
  wgmma_commit();
  wgmma_wait(0);
  wgmma_hold(d);
}

/* Ordinary stores become visible to the tensor core. */
static __device__ void publish() {
  fence_proxy_async();
  __syncthreads();
}

static __device__ uint32_t accumulator_of(struct combination is, const struct shared &shared, uint64_t seed, int i) {
  alignas(16) uint8_t a[FG_MMA_K], b[FG_MMA_K];
  read_block(is.layout, TILE_ROWS, shared.a, row_of(i), 0, a);
  read_block(is.layout, COLS, shared.b, col_of(i), 0, b);
  return random_accumulator(is.accumulator, A_IS_E5M2, B_IS_E5M2, a, b,
                            random_bits(seed, (uint64_t)(row_of(i) * COLS + col_of(i))));
}

static __device__ uint32_t defined_result(struct combination is, const struct shared &shared, int i, uint32_t c) {
  for (int step = 0; step < chain_steps(is.chain); step++) {
    alignas(16) uint8_t a[FG_MMA_K], b[FG_MMA_K];
    read_block(is.layout, TILE_ROWS, shared.a, row_of(i), step % BLOCKS, a);
    read_block(is.layout, COLS, shared.b, col_of(i), block_of_b(step), b);
    c = fg_mma_step_bits(A_IS_E5M2, B_IS_E5M2, a, b, c, 0);
  }
  return c;
}

static __device__ void report(struct findings *findings, int combination, const struct shared &shared, int i, uint32_t c,
                              uint32_t chip, uint32_t defined) {
  uint32_t at = atomicAdd(&findings->reported, 1u);
  if (at >= MOST_REPORTED) return;
  struct difference *to = &findings->difference[at];
  enum layouts layout = combination_of(combination).layout;
  to->combination = combination;
  to->row = row_of(i);
  to->col = col_of(i);
  to->c = c;
  to->chip = chip;
  to->defined = defined;
  for (int k = 0; k < ROW_CODES; k++) {
    to->a[k] = shared.a[place(layout, TILE_ROWS, to->row, k / PIECE) + k % PIECE];
    to->b[k] = shared.b[place(layout, COLS, to->col, k / PIECE) + k % PIECE];
  }
}

/* Adds what a warp counted. */
static __device__ void add(uint64_t *total, uint32_t count) {
  count = __reduce_add_sync(0xFFFFFFFFu, count);
  if (count && threadIdx.x % 32 == 0) atomicAdd(total, (uint64_t)count);
}

/* Tiles 0 ... tiles - 1, in whatever order thread blocks come to take them. */
extern "C" __global__ void __launch_bounds__(THREADS) compare(struct findings *findings, uint64_t seed, uint64_t tiles) {
  __shared__ struct shared shared;
  for (;;) {
    if (threadIdx.x == 0) shared.tile = atomicAdd(&findings->next_tile, 1ull);
    __syncthreads();
    uint64_t tile = shared.tile;
    if (tile >= tiles) return;
    int combination = (int)(tile % COMBINATIONS);
    struct combination is = combination_of(combination);
    uint64_t tile_seed = random_bits(seed, tile), c_seed = random_bits(tile_seed, 2);
    draw_rows(is, A_IS_E5M2, 1, random_bits(tile_seed, 0), TILE_ROWS, shared.a);
    draw_rows(is, B_IS_E5M2, 0, random_bits(tile_seed, 1), COLS, shared.b);
    publish();

    int fresh = is.accumulator == NO_C;
    uint32_t c[FRAGMENT], chip[FRAGMENT]; /* in memory, since registers have no index */
    float d[FRAGMENT];
#pragma unroll 1
    for (int i = 0; i < FRAGMENT; i++) c[i] = accumulator_of(is, shared, c_seed, i);
#pragma unroll
    for (int i = 0; i < FRAGMENT; i++) d[i] = __uint_as_float(fresh ? NOT_READ : c[i]);
    if (is.chain == CHAIN_1)
      run_chain(shared, is.layout, 1, fresh, d);
    else if (is.chain == CHAIN_4)
      run_chain(shared, is.layout, 4, fresh, d);
    else
      run_chain(shared, is.layout, 16, fresh, d);
#pragma unroll
    for (int i = 0; i < FRAGMENT; i++) chip[i] = __float_as_uint(d[i]);

    uint32_t numbers = 0, differences = 0;
#pragma unroll 1
    for (int i = 0; i < FRAGMENT; i++) {
      uint32_t defined = defined_result(is, shared, i, c[i]), magnitude = chip[i] & 0x7FFFFFFFu;
      numbers += magnitude && magnitude < 0x7F800000u;
      if (chip[i] != defined) {
        differences++;
        report(findings, combination, shared, i, c[i], chip[i], defined);
      }
    }
    struct count *total = &findings->count[combination];
    add(&total->compared, FRAGMENT);
    add(&total->numbers, numbers);
    add(&total->differences, differences);
    __syncthreads();
  }
}

#if COLS == 8
/* One dot to a thread block, in row 0 and column 0 of a tile. Those of other types are left to the kernel made for them. */
extern "C" __global__ void __launch_bounds__(THREADS) run_dots(struct dot *dots) {
  __shared__ struct shared shared;
  struct dot *dot = &dots[blockIdx.x];
  if (dot->a_is_e5m2 != A_IS_E5M2 || dot->b_is_e5m2 != B_IS_E5M2) return;
  for (int i = threadIdx.x; i < TILE_ROWS * ROW_CODES; i += THREADS) shared.a[i] = 0;
  for (int i = threadIdx.x; i < COLS * ROW_CODES; i += THREADS) shared.b[i] = 0;
  float d[FRAGMENT] = {__uint_as_float(dot->c), 0, 0, 0};
  for (int k0 = 0; k0 < dot->k; k0 += FG_MMA_K) {
    __syncthreads();
    if (threadIdx.x < FG_MMA_K) {
      int k = threadIdx.x;
      shared.a[place(PLAIN, TILE_ROWS, 0, k / PIECE) + k % PIECE] = dot->a[k0 + k];
      shared.b[place(PLAIN, COLS, 0, k / PIECE) + k % PIECE] = dot->b[k0 + k];
    }
    publish();
    run_chain(shared, PLAIN, 1, 0, d);
  }
  if (threadIdx.x == 0) dot->d = __float_as_uint(d[0]);
}

/* Codes of the floats whose bits are first ... first + count - 1. A conversion makes two codes; each float stands in either half
 * in turn, beside a 1, and where the halves disagree or the 1 is not a 1, `crossed` counts it. */
extern "C" __global__ void encode(uint32_t first, uint32_t count, uint8_t *e4m3, uint8_t *e5m2, uint64_t *crossed) {
  uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  float x = __uint_as_float(first + i);
  unsigned short upper, lower;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(upper) : "f"(x), "f"(1.0f));
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(lower) : "f"(1.0f), "f"(x));
  e4m3[i] = (uint8_t)lower;
  if (upper != (unsigned short)((lower & 0xFF) << 8 | 0x38) || lower >> 8 != 0x38) atomicAdd(crossed, 1ull);
  asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(upper) : "f"(x), "f"(1.0f));
  asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(lower) : "f"(1.0f), "f"(x));
  e5m2[i] = (uint8_t)lower;
  if (upper != (unsigned short)((lower & 0xFF) << 8 | 0x3C) || lower >> 8 != 0x3C) atomicAdd(crossed, 1ull);
}
#endif
