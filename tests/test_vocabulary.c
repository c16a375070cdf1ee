/* gpu/device, the words that Hopper's kernels are written in, and gpu/emulator, the same for a CPU: small kernels (tests/kernels) that use
 * every one of them, each compared bit for bit with what a CPU says. One program for a GPU and for the emulator (FG_DEVICE=emulator),
 * skipped where neither is; the lines that it prints are the same on both. */
#include "args.h"
#include "finegemm.h"
#include "small_kernels.h"
#include "support.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(vocabulary, .init = kernels_begin, .fini = kernels_end, .timeout = 300);

#define DEFINES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_DEFINES ((const char *const[]){NULL})
enum { WARP = 32, WARPGROUP = 128 };

static void *make(size_t count, size_t bytes) {
  void *data = calloc(count, bytes);
  cr_assert_not_null(data);
  return data;
}

static unsigned char *random_bytes(size_t count, uint64_t *state) {
  unsigned char *bytes = make(count, 1);
  for (size_t i = 0; i < count; i++) bytes[i] = (unsigned char)next_random(state);
  return bytes;
}

static unsigned char *random_codes(size_t count, bool is_e5m2, enum values values, uint64_t *state) {
  unsigned char *codes = make(count, 1);
  for (size_t i = 0; i < count; i++) codes[i] = random_code(values, is_e5m2 ? FG_E5M2 : FG_E4M3, state);
  return codes;
}

static float random_float(uint64_t *state) {
  int64_t significand = random_below(state, 1 << 24) - (1 << 23);
  return ldexpf((float)significand, (int)random_below(state, 12) - 30);
}

static float *random_floats(size_t count, uint64_t *state) {
  float *x = make(count, sizeof *x);
  for (size_t i = 0; i < count; i++) x[i] = random_float(state);
  return x;
}

/* --- The copy engine */

/* A tensor of [sizes[2], sizes[1], sizes[0]] elements, or of the last two, and a box of it. */
struct tensor {
  CUtensorMapDataType type;
  int element_bytes, rank, swizzle_bytes;
  int sizes[3], box[3], pitch_bytes; /* from row to row; matrices follow each other */
};

static struct fg_tensor_map encode_map(const struct tensor *is, const void *data) {
  const cuuint64_t sizes[] = {(cuuint64_t)is->sizes[0], (cuuint64_t)is->sizes[1], (cuuint64_t)is->sizes[2]};
  const cuuint64_t strides[] = {(cuuint64_t)is->pitch_bytes, (cuuint64_t)is->pitch_bytes * sizes[1]};
  const cuuint32_t box[] = {(cuuint32_t)is->box[0], (cuuint32_t)is->box[1], (cuuint32_t)is->box[2]}, steps[] = {1, 1, 1};
  CUtensorMapSwizzle swizzle = is->swizzle_bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
                               : is->swizzle_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
                               : is->swizzle_bytes == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
                                                         : CU_TENSOR_MAP_SWIZZLE_NONE;
  CUtensorMap encoded;
  struct fg_tensor_map map;
  KERNEL_MUST(fg_driver()->cuTensorMapEncodeTiled(&encoded, is->type, (cuuint32_t)is->rank, (void *)(uintptr_t)data, sizes,
                                                  strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                                                  CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
  memcpy(&map, &encoded, sizeof map);
  return map;
}

/* Bytes in rows, of which a box has some. */
static struct fg_tensor_map encode_bytes(const void *data, int rows, int cols, int box_rows, int box_cols, int swizzle_bytes) {
  return encode_map(&(struct tensor){.type = CU_TENSOR_MAP_DATA_TYPE_UINT8,
                                     .element_bytes = 1,
                                     .rank = 2,
                                     .swizzle_bytes = swizzle_bytes,
                                     .sizes = {cols, rows, 1},
                                     .box = {box_cols, box_rows, 1},
                                     .pitch_bytes = cols},
                    data);
}

static size_t tensor_bytes(const struct tensor *is) { return (size_t)is->pitch_bytes * (size_t)(is->sizes[1] * is->sizes[2]); }

/* The byte of a tensor that is the `byte`-th of an element of a box at `at`; -1: beyond. */
static int64_t byte_of(const struct tensor *is, const int at[3], int x, int y, int z, int byte) {
  x += at[0], y += at[1], z += at[2];
  if (x < 0 || y < 0 || z < 0 || x >= is->sizes[0] || y >= is->sizes[1] || z >= is->sizes[2]) return -1;
  return ((int64_t)z * is->sizes[1] + y) * is->pitch_bytes + x * is->element_bytes + byte;
}

/* Of the address in shared memory, three bits move others: those of the row by 128 bytes exchange pieces of 16. */
static int swizzled(int at, int swizzle_bytes) { return swizzle_bytes ? at ^ (at >> 7 & (swizzle_bytes / 16 - 1)) << 4 : at; }

struct tma_copy {
  struct fg_tensor_map from, to;
  unsigned char *seen;
  int from_at[3], to_at[3], bytes;
};

static void copy_boxes(const struct kernel *kernel, const struct tensor *from, const struct tensor *to, uint64_t *digest) {
  static const int places[][2][3] = {
      /* x in units of 16 bytes */
      {{0, 0, 0}, {0, 0, 0}},    {{1, 3, 1}, {2, 5, 1}},    {{-1, -3, 0}, {5, 2, 0}},
      {{5, -1, -1}, {3, 37, 1}}, {{99, 0, 0}, {48, 0, 0}},  {{11, 30, 2}, {0, 33, 2}},
      {{0, 99, 0}, {9, 0, 0}},   {{-2, 36, 1}, {5, 31, 0}}, {{0, 0, -9}, {2, 1, 9}},
  };
  uint64_t state = (uint64_t)from->swizzle_bytes;
  unsigned char *bytes = random_bytes(tensor_bytes(from), &state);
  int box_bytes = from->box[0] * from->box[1] * from->box[2] * from->element_bytes;
  unsigned char *seen = make((size_t)box_bytes, 1), *stored = make(tensor_bytes(to), 1);
  struct tma_copy arguments = {.bytes = box_bytes, .seen = kernel_array(NULL, (size_t)box_bytes)};
  void *source = kernel_array(bytes, tensor_bytes(from)), *target = kernel_array(NULL, tensor_bytes(to));
  arguments.from = encode_map(from, source);
  arguments.to = encode_map(to, target);
  for (size_t place = 0; place < sizeof places / sizeof *places; place++) {
    memcpy(arguments.from_at, places[place][0], sizeof arguments.from_at);
    memcpy(arguments.to_at, places[place][1], sizeof arguments.to_at);
    arguments.from_at[0] *= 16 / from->element_bytes;
    arguments.to_at[0] *= 16 / from->element_bytes;
    if (from->rank == 2) arguments.from_at[2] = arguments.to_at[2] = 0;
    memset(stored, KERNEL_PATTERN, tensor_bytes(to));
    for (int i = 0; i < box_bytes; i++) {
      int element = i / from->element_bytes, x = element % from->box[0], y = element / from->box[0] % from->box[1],
          z = element / from->box[0] / from->box[1], byte = i % from->element_bytes;
      int64_t at = byte_of(from, arguments.from_at, x, y, z, byte), goes = byte_of(to, arguments.to_at, x, y, z, byte);
      unsigned char value = at < 0 ? 0 : bytes[at];
      seen[swizzled(i, from->swizzle_bytes)] = value;
      if (goes >= 0) stored[goes] = (unsigned char)~value;
    }
    for (uint64_t seed = 0; kernel_seed(&seed); seed++) {
      kernel_forget(arguments.seen);
      kernel_forget(target);
      kernel_run(kernel, 1, 1, &arguments);
      kernel_expect(kernel, arguments.seen, seen, seed ? NULL : digest);
      kernel_expect(kernel, target, stored, seed ? NULL : digest);
    }
  }
  free(bytes);
  free(seen);
  free(stored);
}

static void copy_all(int rank) {
  static const struct { int swizzle_bytes, box_bytes; } rows[] = {{0, 48}, {0, 256}, {32, 32}, {64, 64}, {128, 128}};
  static const struct {
    CUtensorMapDataType type;
    int bytes;
  } types[] = {{CU_TENSOR_MAP_DATA_TYPE_UINT8, 1}, {CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2}, {CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4}};
  struct kernel kernel = kernel_make("tma_copy", DEFINES(rank == 2 ? "RANK=2" : "RANK=3"), 64, 8192 + 8, sizeof(struct tma_copy));
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    uint64_t digest = DIGEST_SEED;
    int bytes = types[i % 3].bytes, depth = rank == 3 ? 2 : 1;
    const struct tensor from = {
        types[i % 3].type, bytes, rank, rows[i].swizzle_bytes, {208, 37, depth + 1}, {rows[i].box_bytes / bytes, 16, depth},
        208 * bytes};
    struct tensor to = from;
    to.sizes[0] = 96, to.sizes[1] = 41, to.pitch_bytes = 112 * bytes;
    if (rank == 2) to.sizes[2] = 1;
    copy_boxes(&kernel, &from, &to, &digest);
    char text[64];
    snprintf(text, sizeof text, "tma_copy %d-D swizzle %d box %d x %d B", rank, from.swizzle_bytes, from.box[0], bytes);
    kernel_report(text, digest);
  }
}

Test(vocabulary, boxes_of_two_dimensions_go_round) { copy_all(2); }
Test(vocabulary, boxes_of_three_dimensions_go_round) { copy_all(3); }

struct bulk_copies {
  const void *from;
  void *to;
  unsigned bytes;
};

Test(vocabulary, bytes_in_a_row_are_loaded_sent_and_stored) {
  enum { MOST = 4096, BLOCKS = 6 };
  struct kernel kernel = kernel_make("bulk_copies", NO_DEFINES, WARP, 2 * MOST + 16, sizeof(struct bulk_copies));
  static const unsigned sizes[] = {16, 1008, MOST};
  uint64_t digest = DIGEST_SEED, state = 1;
  for (int i = 0; i < 3; i++) {
    size_t bytes = sizes[i];
    unsigned char *from = random_bytes(BLOCKS * bytes, &state), *expected = make(BLOCKS * bytes, 1);
    for (size_t block = 0; block < BLOCKS; block++) memcpy(expected + (block ^ 1) * bytes, from + block * bytes, bytes);
    const struct bulk_copies arguments = {kernel_array(from, BLOCKS * bytes), kernel_array(NULL, BLOCKS * bytes), sizes[i]};
    for (uint64_t seed = 0; kernel_seed(&seed); seed++) {
      kernel_forget(arguments.to);
      kernel_run(&kernel, BLOCKS, 2, &arguments);
      kernel_expect(&kernel, arguments.to, expected, seed ? NULL : &digest);
    }
    free(from);
    free(expected);
  }
  kernel_report("bulk_copies", digest);
}

struct thread_copies {
  const float *from;
  const int *index;
  float *to;
  int turns;
};

Test(vocabulary, threads_copy_what_they_choose) {
  enum { NUMBERS = 3 * WARP, FROM = 1000, BLOCKS = 2, MOST_TURNS = 5, MOST = BLOCKS * MOST_TURNS * NUMBERS };
  struct kernel kernel =
      kernel_make("thread_copies", NO_DEFINES, 2 * WARP, 2 * (NUMBERS * sizeof(float) + 16), sizeof(struct thread_copies));
  uint64_t digest = DIGEST_SEED, state = 8;
  float *from = random_floats(FROM, &state), to[MOST];
  int index[MOST];
  for (int turns = 1; turns <= MOST_TURNS; turns += 2) {
    size_t count = (size_t)(BLOCKS * turns * NUMBERS);
    for (size_t i = 0; i < count; i++) index[i] = random_below(&state, 4) ? (int)random_below(&state, FROM) : -1;
    for (size_t i = 0; i < count; i++) {
      int of = index[i / NUMBERS * NUMBERS + NUMBERS - 1 - i % NUMBERS];
      to[i] = of < 0 ? 0 : from[of];
    }
    const struct thread_copies arguments = {kernel_array(from, FROM * sizeof *from), kernel_array(index, count * sizeof *index),
                                            kernel_array(NULL, count * sizeof *to), turns};
    for (uint64_t seed = 0; kernel_seed(&seed); seed++) {
      kernel_forget(arguments.to);
      kernel_run(&kernel, BLOCKS, 1, &arguments);
      kernel_expect(&kernel, arguments.to, to, seed ? NULL : &digest);
    }
  }
  kernel_report("thread_copies", digest);
  free(from);
}

/* --- Rings */

struct ring {
  struct fg_tensor_map from;
  unsigned *sums;
  int tiles;
};

enum { RING_ROWS = 64, RING_COLS = 128, RING_BYTES = 2 * RING_ROWS * RING_COLS + 4 * 8 };

/* `blocks` of clusters of `cluster`, each cluster with tiles of its own. */
static void run_ring(const struct kernel *kernel, size_t blocks, size_t cluster, int tiles, uint64_t *digest) {
  size_t rows_of_cluster = (size_t)tiles * RING_ROWS, rows = blocks / cluster * rows_of_cluster;
  uint64_t state = blocks;
  unsigned char *bytes = random_bytes(rows * RING_COLS, &state);
  unsigned *sums = make(blocks * RING_COLS, sizeof *sums);
  for (size_t block = 0; block < blocks; block++)
    for (size_t col = 0; col < RING_COLS; col++) {
      unsigned sum = (unsigned)(block % cluster);
      for (size_t row = 0; row < rows_of_cluster; row++)
        sum = sum * 31 + bytes[(block / cluster * rows_of_cluster + row) * RING_COLS + col];
      sums[block * RING_COLS + col] = sum;
    }
  struct ring arguments = {.sums = kernel_array(NULL, blocks * RING_COLS * sizeof *sums), .tiles = tiles};
  void *data = kernel_array(bytes, rows * RING_COLS);
  struct tensor tensor = {CU_TENSOR_MAP_DATA_TYPE_UINT8,
                          1,
                          cluster > 1 ? 3 : 2,
                          0,
                          {RING_COLS, (int)rows, 1},
                          {RING_COLS, RING_ROWS / (int)cluster, 1},
                          RING_COLS};
  arguments.from = encode_map(&tensor, data);
  for (uint64_t seed = 0; kernel_seed(&seed); seed++) {
    kernel_forget(arguments.sums);
    kernel_run(kernel, (unsigned)blocks, (unsigned)cluster, &arguments);
    kernel_expect(kernel, arguments.sums, sums, seed ? NULL : digest);
  }
  free(bytes);
  free(sums);
}

Test(vocabulary, a_ring_hands_stages_round) {
  struct kernel kernel = kernel_make("ring", NO_DEFINES, WARPGROUP + WARP, RING_BYTES, sizeof(struct ring));
  uint64_t digest = DIGEST_SEED;
  for (int tiles = 1; tiles <= 7; tiles += 2) run_ring(&kernel, 3, 1, tiles, &digest);
  kernel_report("ring", digest);
}

Test(vocabulary, a_cluster_shares_what_its_blocks_bring) {
  for (unsigned cluster = 2; cluster <= 4; cluster *= 2) {
    char define[16], text[32];
    snprintf(define, sizeof define, "CLUSTER=%u", cluster);
    struct kernel kernel = kernel_make("multicast", DEFINES(define), WARPGROUP + WARP, RING_BYTES, sizeof(struct ring));
    uint64_t digest = DIGEST_SEED;
    for (int tiles = 1; tiles <= 5; tiles += 2) run_ring(&kernel, 2 * cluster, cluster, tiles, &digest);
    snprintf(text, sizeof text, "multicast, clusters of %u", cluster);
    kernel_report(text, digest);
  }
}

/* --- The tensor core */

struct wgmma_tile {
  struct fg_tensor_map a, b;
  const unsigned char *a_codes;
  const float *c;
  float *d;
  int swizzle_bytes;
};

enum { TILE_M = 64, TILE_K = 256 };

/* D [64, n] = C + A B^T of `k`, C NULL: 0, as one chain. */
static void multiply(const unsigned char *a, bool a_is_e5m2, const unsigned char *b, bool b_is_e5m2, int n, int k, int ld,
                     const float *c, float *d) {
#pragma omp parallel for
  for (int i = 0; i < TILE_M; i++)
    for (int j = 0; j < n; j++)
      fg_mma(a_is_e5m2 ? FG_E5M2 : FG_E4M3, a + i * ld, b_is_e5m2 ? FG_E5M2 : FG_E4M3, b + j * ld, k, c ? c[i * n + j] : 0,
             &d[i * n + j], NULL);
}

static void multiply_tiles(int n, bool a_is_e5m2, bool b_is_e5m2, bool a_is_in_registers) {
  size_t elements = TILE_M * (size_t)n;
  char defines[4][32], text[64];
  snprintf(defines[0], sizeof defines[0], "WGMMA_N=%d", n);
  snprintf(defines[1], sizeof defines[1], "A_IS_E5M2=%d", a_is_e5m2);
  snprintf(defines[2], sizeof defines[2], "B_IS_E5M2=%d", b_is_e5m2);
  snprintf(defines[3], sizeof defines[3], "A_IN_REGISTERS=%d", a_is_in_registers);
  struct kernel kernel = kernel_make("wgmma_tile", DEFINES(defines[0], defines[1], defines[2], defines[3]), WARPGROUP,
                                     (unsigned)((TILE_M + n) * TILE_K + 8), sizeof(struct wgmma_tile));
  uint64_t digest = DIGEST_SEED, state = (uint64_t)n;
  for (int turn = 0; turn < 4; turn++) { /* swizzles 128, 64, 32 with C, and one without */
    enum values values = turn == 2 ? NOT_FINITE : ANY_CODE;
    unsigned char *a = random_codes(TILE_M * TILE_K, a_is_e5m2, values, &state),
                  *b = random_codes((size_t)n * TILE_K, b_is_e5m2, values, &state);
    float *c = random_floats(elements, &state), *d = make(elements, sizeof *d);
    multiply(a, a_is_e5m2, b, b_is_e5m2, n, TILE_K, TILE_K, turn == 3 ? NULL : c, d);
    struct wgmma_tile arguments = {.a_codes = kernel_array(a, TILE_M * TILE_K),
                                   .c = turn == 3 ? NULL : kernel_array(c, elements * sizeof *c),
                                   .d = kernel_array(NULL, elements * sizeof *d),
                                   .swizzle_bytes = 128 >> turn % 3};
    arguments.a = encode_bytes(arguments.a_codes, TILE_M, TILE_K, TILE_M, arguments.swizzle_bytes, arguments.swizzle_bytes);
    arguments.b =
        encode_bytes(kernel_array(b, (size_t)n * TILE_K), n, TILE_K, n, arguments.swizzle_bytes, arguments.swizzle_bytes);
    for (uint64_t seed = 0; kernel_seed(&seed); seed++) {
      kernel_forget(arguments.d);
      kernel_run(&kernel, 1, 1, &arguments);
      kernel_expect(&kernel, arguments.d, d, seed ? NULL : &digest);
    }
    free(a);
    free(b);
    free(c);
    free(d);
  }
  snprintf(text, sizeof text, "wgmma_tile n %d %s %s a in %s", n, a_is_e5m2 ? "e5m2" : "e4m3", b_is_e5m2 ? "e5m2" : "e4m3",
           a_is_in_registers ? "registers" : "shared memory");
  kernel_report(text, digest);
}

/* All n where FG_ALL_PLANS is in the environment, else some. */
static void multiply_at(const int *some, int count, bool a_is_in_registers) {
  if (getenv("FG_ALL_PLANS"))
    for (int n = 8; n <= 256; n += 8) multiply_tiles(n, n / 8 % 2, n / 16 % 2, a_is_in_registers);
  else
    for (int i = 0; i < count; i++) multiply_tiles(some[i], some[i] / 8 % 2, some[i] / 16 % 2, a_is_in_registers);
}

Test(vocabulary, a_tile_is_multiplied_from_shared_memory) { multiply_at((const int[]){8, 48, 128, 256}, 4, false); }
Test(vocabulary, a_tile_is_multiplied_from_registers) { multiply_at((const int[]){24, 96, 128}, 3, true); }

struct wgmma_groups {
  const void *a, *b, *scale;
  float *d;
};

Test(vocabulary, groups_are_waited_for_one_by_one) {
  enum { SIDE = 64, BLOCKS = 4, BLOCK_K = 128, K = BLOCKS * BLOCK_K, ELEMENTS = SIDE * SIDE };
  struct kernel kernel = kernel_make("wgmma_groups", NO_DEFINES, WARPGROUP, 2 * SIDE * K, sizeof(struct wgmma_groups));
  uint64_t digest = DIGEST_SEED, state = 2;
  unsigned char *a = random_codes(SIDE * K, false, GAUSSIAN, &state), *b = random_codes(SIDE * K, false, GAUSSIAN, &state);
  float scale[BLOCKS], *d = make(ELEMENTS, sizeof *d), *dot = make(ELEMENTS, sizeof *dot);
  for (int block = 0; block < BLOCKS; block++) {
    scale[block] = random_float(&state);
    multiply(a + block * BLOCK_K, false, b + block * BLOCK_K, false, SIDE, BLOCK_K, K, NULL, dot);
    for (int i = 0; i < ELEMENTS; i++) d[i] = fmaf(scale[block], dot[i], d[i]);
  }
  const struct wgmma_groups arguments = {kernel_array(a, SIDE * K), kernel_array(b, SIDE * K), kernel_array(scale, sizeof scale),
                                         kernel_array(NULL, ELEMENTS * sizeof *d)};
  for (uint64_t seed = 0; kernel_seed(&seed); seed++) {
    kernel_forget(arguments.d);
    kernel_run(&kernel, 1, 1, &arguments);
    kernel_expect(&kernel, arguments.d, d, seed ? NULL : &digest);
  }
  kernel_report("wgmma_groups", digest);
  free(a);
  free(b);
  free(d);
  free(dot);
}

/* --- Warps, and what they meet at */

struct turns {
  unsigned *out;
  int turns;
};

Test(vocabulary, warpgroups_take_turns) {
  enum { MOST_TURNS = 11 };
  struct kernel kernel = kernel_make("turns", NO_DEFINES, 2 * WARPGROUP, (WARPGROUP + 65) * 4, sizeof(struct turns));
  uint64_t digest = DIGEST_SEED;
  for (int count = 1; count <= MOST_TURNS; count += 5) {
    unsigned out[WARPGROUP + 2 * MOST_TURNS];
    for (unsigned i = 0; i < WARPGROUP; i++) {
      out[i] = i;
      for (unsigned turn = 0; turn < 2 * (unsigned)count; turn++) out[i] = out[i] * 3 + turn % 2 + 1;
    }
    for (int turn = 0; turn < 2 * count; turn++) out[WARPGROUP + turn] = (unsigned)turn % 2;
    const struct turns arguments = {kernel_array(NULL, (size_t)(WARPGROUP + 2 * count) * sizeof *out), count};
    for (uint64_t seed = 0; kernel_seed(&seed); seed++) {
      kernel_forget(arguments.out);
      kernel_run(&kernel, 1, 1, &arguments);
      kernel_expect(&kernel, arguments.out, out, seed ? NULL : &digest);
    }
  }
  kernel_report("turns", digest);
}

struct matrix_store {
  struct fg_tensor_map plain, transposed;
};

Test(vocabulary, matrices_leave_registers_as_they_are_and_transposed) {
  enum { ROWS = 16, COLS = 64 };
  struct kernel kernel = kernel_make("matrix_store", NO_DEFINES, WARPGROUP, ROWS * COLS * 2, sizeof(struct matrix_store));
  static unsigned short plain[ROWS][COLS], transposed[ROWS][COLS];
  for (int row = 0; row < ROWS; row++)
    for (int col = 0; col < COLS; col++) {
      plain[row][col] = (unsigned short)(row * COLS + col);
      transposed[row / 8 * 8 + col % 8][col / 8 * 8 + row % 8] = plain[row][col];
    }
  const struct tensor tensor = {CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, 3, 128, {COLS, ROWS, 1}, {COLS, ROWS, 1}, COLS * 2};
  uint64_t digest = DIGEST_SEED;
  void *to[] = {kernel_array(NULL, sizeof plain), kernel_array(NULL, sizeof transposed)};
  const struct matrix_store arguments = {encode_map(&tensor, to[0]), encode_map(&tensor, to[1])};
  for (uint64_t seed = 0; kernel_seed(&seed); seed++) {
    for (int i = 0; i < 2; i++) kernel_forget(to[i]);
    kernel_run(&kernel, 1, 1, &arguments);
    kernel_expect(&kernel, to[0], plain, seed ? NULL : &digest);
    kernel_expect(&kernel, to[1], transposed, seed ? NULL : &digest);
  }
  kernel_report("matrix_store", digest);
}

struct remote {
  const float *from;
  float *to;
};

Test(vocabulary, a_cluster_adds_up_in_one_order) {
  enum { CLUSTERS = 2, CLUSTER = 4, NUMBERS = 4 * WARPGROUP };
  struct kernel kernel = kernel_make("remote", NO_DEFINES, WARPGROUP, (WARPGROUP + 32) * 16, sizeof(struct remote));
  uint64_t digest = DIGEST_SEED, state = 3;
  float *from = random_floats(CLUSTERS * CLUSTER * NUMBERS, &state), *to = make(CLUSTERS * NUMBERS, sizeof *to);
  for (int i = 0; i < CLUSTERS * NUMBERS; i++) {
    const float *part = from + i / NUMBERS * CLUSTER * NUMBERS + i % NUMBERS;
    to[i] = ((part[0] + part[NUMBERS]) + part[2 * NUMBERS]) + part[3 * NUMBERS];
  }
  const struct remote arguments = {kernel_array(from, CLUSTERS * CLUSTER * NUMBERS * sizeof *from),
                                   kernel_array(NULL, CLUSTERS * NUMBERS * sizeof *to)};
  for (uint64_t seed = 0; kernel_seed(&seed); seed++) {
    kernel_forget(arguments.to);
    kernel_run(&kernel, CLUSTERS * CLUSTER, CLUSTER, &arguments);
    kernel_expect(&kernel, arguments.to, to, seed ? NULL : &digest);
  }
  kernel_report("remote", digest);
  free(from);
  free(to);
}

struct votes {
  const unsigned *from;
  unsigned *to;
};

Test(vocabulary, a_warp_tells_its_threads) {
  enum { THREADS = 2 * WARP, NUMBERS = 8 };
  struct kernel kernel = kernel_make("votes", NO_DEFINES, THREADS, 0, sizeof(struct votes));
  unsigned from[THREADS], to[THREADS][NUMBERS];
  uint64_t digest = DIGEST_SEED, state = 4;
  for (int i = 0; i < THREADS; i++) from[i] = (unsigned)next_random(&state);
  for (int i = 0; i < THREADS; i++) {
    const unsigned *warp = from + i / WARP * WARP;
    int lane = i % WARP;
    unsigned odd = 0, thirds = 0;
    for (int j = 0; j < WARP; j++) odd |= warp[j] % 2 << j;
    for (int j = 0; j < 16; j++) thirds |= (unsigned)(warp[j] % 3 == 0) << j;
    const unsigned told[NUMBERS] = {warp[lane * 7 % WARP],
                                    warp[lane < 3 ? lane : lane - 3],
                                    warp[lane + 5 < WARP ? lane + 5 : lane],
                                    warp[lane ^ 9],
                                    odd,
                                    1,
                                    1,
                                    lane < 16 ? warp[lane ^ 1] ^ thirds : 0};
    memcpy(to[i], told, sizeof told);
  }
  const struct votes arguments = {kernel_array(from, sizeof from), kernel_array(NULL, sizeof to)};
  for (uint64_t seed = 0; kernel_seed(&seed); seed++) {
    kernel_forget(arguments.to);
    kernel_run(&kernel, 1, 1, &arguments);
    kernel_expect(&kernel, arguments.to, to, seed ? NULL : &digest);
  }
  kernel_report("votes", digest);
}

struct hand_over {
  const float *from;
  float *to;
  int rounds;
};

Test(vocabulary, registers_change_hands) {
  enum { THREADS = 384, CONSUMERS = 256, NUMBERS = 192, ROUNDS = 5 };
  struct kernel kernel = kernel_make("hand_over", NO_DEFINES, THREADS, 0, sizeof(struct hand_over));
  uint64_t digest = DIGEST_SEED, state = 5;
  float *from = random_floats(NUMBERS, &state), to[CONSUMERS];
  for (int thread = 0; thread < CONSUMERS; thread++) {
    float x[NUMBERS], sum = 0;
    memcpy(x, from, sizeof x);
    for (int round = 0; round < ROUNDS; round++) {
      float first = x[0];
      for (int i = 0; i < NUMBERS; i++) x[i] = fmaf(i + 1 < NUMBERS ? x[i + 1] : first, 0.5f, x[i] * 0.25f);
      x[0] += (float)thread;
    }
    for (int i = 0; i < NUMBERS; i++) sum += x[i];
    to[thread] = sum;
  }
  const struct hand_over arguments = {kernel_array(from, NUMBERS * sizeof *from), kernel_array(NULL, sizeof to), ROUNDS};
  for (uint64_t seed = 0; kernel_seed(&seed); seed++) {
    kernel_forget(arguments.to);
    kernel_run(&kernel, 2, 1, &arguments);
    kernel_expect(&kernel, arguments.to, to, seed ? NULL : &digest);
  }
  kernel_report("hand_over", digest);
  free(from);
}

struct conversions {
  const void *from, *bf16_pairs, *fp16_pairs, *fp16, *of_fp16;
  int count;
};

/* Every exponent, with significands around what BF16, FP16 and its subnormals round. */
static size_t interesting_floats(float *x) {
  size_t count = 0;
  for (uint32_t sign = 0; sign < 2; sign++)
    for (uint32_t exponent = 0; exponent < 256; exponent++) {
      uint32_t high = sign << 31 | exponent << 23;
      for (int bit = -1; bit < 23; bit++) /* one bit and its neighbours, then all but the bits below one */
        for (int off = -1; off <= 1; off++, count += 2) {
          uint32_t one = bit < 0 ? 0 : 1u << bit;
          uint32_t bits[] = {high | ((one + (uint32_t)off) & 0x7FFFFF), high | ((0x800000 - one + (uint32_t)off) & 0x7FFFFF)};
          memcpy(x + count, bits, sizeof bits);
        }
    }
  return count;
}

static uint32_t bits_of_fp16(unsigned half) { return bits_of_float((float)decode(FG_FP16, half)); }

Test(vocabulary, floats_become_half_and_come_back) {
  enum { MOST = 2 * 256 * 24 * 3 * 2, HALVES = 1 << 16 };
  struct kernel kernel = kernel_make("conversions", NO_DEFINES, WARPGROUP, 0, sizeof(struct conversions));
  uint64_t digest = DIGEST_SEED;
  float *x = make(MOST, sizeof *x);
  size_t count = interesting_floats(x);
  cr_assert_eq(count, MOST);
  uint32_t *bf16 = make(count, 4), *fp16_pairs = make(count, 4), *of_fp16 = make(HALVES, 4);
  uint16_t *fp16 = make(count, 2);
  for (size_t i = 0; i < count; i++) {
    float next = x[i + 1 < count ? i + 1 : 0];
    bf16[i] = encode(FG_BF16, x[i]) | encode(FG_BF16, next) << 16;
    fp16[i] = (uint16_t)encode(FG_FP16, x[i]);
    fp16_pairs[i] = fp16[i] | encode(FG_FP16, next) << 16;
  }
  for (unsigned i = 0; i < HALVES; i++) of_fp16[i] = (i & 0x7FFF) > 0x7C00 ? 0x7FFFFFFF : bits_of_fp16(i);
  const struct conversions arguments = {kernel_array(x, count * 4),     kernel_array(NULL, count * 4),
                                        kernel_array(NULL, count * 4),  kernel_array(NULL, count * 2),
                                        kernel_array(NULL, HALVES * 4), (int)count};
  kernel_run(&kernel, 8, 1, &arguments);
  kernel_expect(&kernel, arguments.bf16_pairs, bf16, &digest);
  kernel_expect(&kernel, arguments.fp16_pairs, fp16_pairs, &digest);
  kernel_expect(&kernel, arguments.fp16, fp16, &digest);
  kernel_expect(&kernel, arguments.of_fp16, of_fp16, &digest);
  kernel_report("conversions", digest);
  free(x);
  free(bf16);
  free(fp16);
  free(fp16_pairs);
  free(of_fp16);
}

/* --- All of it together */

struct specialised {
  struct fg_tensor_map a, b;
  const float *a_scale, *b_scale;
  float *d;
  int n, k;
};

Test(vocabulary, specialised_warps_multiply_as_the_level_hopper) {
  enum { M = 256, N = 256, K = 512, STAGES = 4, STAGE_BYTES = 2 * 128 * 128 };
  struct kernel kernel =
      kernel_make("specialised", NO_DEFINES, 3 * WARPGROUP, STAGES * (STAGE_BYTES + 16), sizeof(struct specialised));
  uint64_t digest = DIGEST_SEED, state = 6;
  unsigned char *a = random_codes(M * K, false, GAUSSIAN, &state), *b = random_codes(N * K, false, GAUSSIAN, &state);
  float *a_scale = random_floats(M * K / 128, &state), *b_scale = random_floats(N / 128 * K / 128, &state),
        *d = make(M * N, sizeof *d);
  fg_context *cpu;
  cr_assert_eq(fg_context_create(&cpu, NULL), FG_OK);
  const fg_problem problem = {.m = M,
                              .n = N,
                              .k = K,
                              .a = {.data = a, .scale = a_scale},
                              .b = {.data = b, .scale = b_scale},
                              .d = {.data = d, .type = FG_FP32},
                              .level = FG_HOPPER};
  cr_assert_eq(fg_gemm(cpu, &problem), FG_OK, "%s", fg_message());
  fg_context_destroy(cpu);
  struct specialised arguments = {.a_scale = kernel_array(a_scale, M * K / 128 * sizeof *a_scale),
                                  .b_scale = kernel_array(b_scale, N / 128 * K / 128 * sizeof *b_scale),
                                  .d = kernel_array(NULL, M * N * sizeof *d),
                                  .n = N,
                                  .k = K};
  arguments.a = encode_bytes(kernel_array(a, M * K), M, K, 128, 128, 128);
  arguments.b = encode_bytes(kernel_array(b, N * K), N, K, 128, 128, 128);
  for (uint64_t seed = 0; kernel_seed(&seed); seed++) {
    kernel_forget(arguments.d);
    kernel_run(&kernel, M / 128 * (N / 128), 1, &arguments);
    kernel_expect(&kernel, arguments.d, d, seed ? NULL : &digest);
  }
  kernel_report("specialised 256 x 256 x 512", digest);
  free(a);
  free(b);
  free(a_scale);
  free(b_scale);
  free(d);
}

struct persistent {
  struct fg_tensor_map a, b, d;
  int tiles, blocks;
};

Test(vocabulary, a_block_multiplies_one_tile_after_the_other) {
  enum { N = 16, MOST_TILES = 5, STAGE_BYTES = (TILE_M + N) * 128 };
  struct kernel kernel =
      kernel_make("persistent", NO_DEFINES, WARPGROUP + WARP, 2 * STAGE_BYTES + TILE_M * N * 4 + 32, sizeof(struct persistent));
  uint64_t digest = DIGEST_SEED, state = 7;
  for (int tiles = 1; tiles <= MOST_TILES; tiles += 2) {
    int blocks = tiles, m = tiles * TILE_M, k = blocks * 128;
    unsigned char *a = random_codes((size_t)(m * k), false, GAUSSIAN, &state),
                  *b = random_codes((size_t)(N * k), false, GAUSSIAN, &state);
    float *d = make((size_t)(m * N), sizeof *d);
    for (int tile = 0; tile < tiles; tile++)
      multiply(a + tile * TILE_M * k, false, b, false, N, k, k, NULL, d + tile * TILE_M * N);
    struct persistent arguments = {.tiles = tiles, .blocks = blocks};
    arguments.a = encode_bytes(kernel_array(a, (size_t)(m * k)), m, k, TILE_M, 128, 128);
    arguments.b = encode_bytes(kernel_array(b, (size_t)(N * k)), N, k, N, 128, 128);
    const struct tensor is = {CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, 2, 0, {N, m, 1}, {N, TILE_M, 1}, N * 4};
    void *to = kernel_array(NULL, (size_t)(m * N) * sizeof *d);
    arguments.d = encode_map(&is, to);
    for (uint64_t seed = 0; kernel_seed(&seed); seed++) {
      kernel_forget(to);
      kernel_run(&kernel, tiles > 3 ? 2 : 1, 1, &arguments);
      kernel_expect(&kernel, to, d, seed ? NULL : &digest);
    }
    free(a);
    free(b);
    free(d);
  }
  kernel_report("persistent", digest);
}
