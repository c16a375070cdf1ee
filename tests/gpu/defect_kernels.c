#include "args.h"
#include "defects.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(CUresult result, const char *call) {
  if (result == CUDA_SUCCESS) return;
  fg_driver_fail(call, result);
  fprintf(stderr, "%s\n", fg_message());
  exit(EXIT_FAILURE);
}
#define MUST(call) must(fg_driver()->call, #call)

/* Device memory, to the process's end. */
static CUdeviceptr allocate(size_t bytes) {
  CUdeviceptr data;
  MUST(cuMemAlloc(&data, bytes));
  return data;
}

static CUdeviceptr array_of(const void *data, size_t bytes) {
  CUdeviceptr array = allocate(bytes);
  MUST(cuMemcpy(array, (CUdeviceptr)(uintptr_t)data, bytes));
  return array;
}

/* A byte of a stream, always the same one. */
static unsigned char next(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (unsigned char)(*state >> 56);
}

/* Small numbers in FP8, or whatever else: no NaN. */
static CUdeviceptr random_codes(size_t count) {
  uint64_t state = count;
  unsigned char *codes = calloc(count, 1);
  for (size_t i = 0; codes && i < count; i++) codes[i] = next(&state) & 0xB7;
  CUdeviceptr array = array_of(codes, count);
  free(codes);
  return array;
}

static CUdeviceptr random_floats(size_t count) {
  uint64_t state = count;
  float *x = calloc(count, sizeof *x);
  for (size_t i = 0; x && i < count; i++) x[i] = 0.5f + (float)next(&state) / 128;
  CUdeviceptr array = array_of(x, count * sizeof *x);
  free(x);
  return array;
}

static CUdeviceptr result_array(struct defect_launch *launch, size_t bytes) {
  CUdeviceptr data = allocate(bytes);
  launch->result[launch->result_count].data = data;
  launch->result[launch->result_count++].bytes = bytes;
  return data;
}

static void give(struct defect_launch *launch, const void *arguments, size_t bytes) {
  memcpy(launch->arguments, arguments, bytes);
  launch->argument_bytes = bytes;
}

struct tensor {
  CUtensorMapDataType type;
  unsigned rank, element_bytes, rows, cols, box_rows, box_cols;
  CUtensorMapSwizzle swizzle;
};

static struct fg_tensor_map encode(struct tensor is, CUdeviceptr data) {
  const cuuint64_t sizes[] = {is.cols, is.rows, 1},
                   strides[] = {is.cols * is.element_bytes, is.rows * is.cols * is.element_bytes};
  const cuuint32_t box[] = {is.box_cols, is.box_rows, 1}, steps[] = {1, 1, 1};
  CUtensorMap encoded;
  struct fg_tensor_map map;
  MUST(cuTensorMapEncodeTiled(&encoded, is.type, is.rank, (void *)(uintptr_t)data, sizes, strides, box, steps,
                              CU_TENSOR_MAP_INTERLEAVE_NONE, is.swizzle, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                              CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
  memcpy(&map, &encoded, sizeof map);
  return map;
}

static struct fg_tensor_map encode_bytes(CUdeviceptr data, unsigned rank, unsigned rows, unsigned cols, unsigned box_rows,
                                         unsigned box_cols, bool is_swizzled) {
  CUtensorMapSwizzle swizzle = is_swizzled ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE;
  return encode((struct tensor){CU_TENSOR_MAP_DATA_TYPE_UINT8, rank, 1, rows, cols, box_rows, box_cols, swizzle}, data);
}

/* --- What each kernel is told: the struct is the kernel's */

static void prepare_rings(struct defect_launch *launch, unsigned rank, unsigned blocks, unsigned part) {
  enum { ROWS = 64, COLS = 128, TILES = 5 };
  struct {
    struct fg_tensor_map from;
    CUdeviceptr sums;
    int tiles;
  } arguments = {.sums = result_array(launch, blocks * COLS * sizeof(unsigned)), .tiles = TILES};
  arguments.from = encode_bytes(random_codes(TILES * ROWS * COLS), rank, TILES * ROWS, COLS, part, COLS, false);
  give(launch, &arguments, sizeof arguments);
}
static void prepare_ring(struct defect_launch *launch) { prepare_rings(launch, 2, 1, 64); }
static void prepare_multicast(struct defect_launch *launch) { prepare_rings(launch, 3, 2, 32); }

static void prepare_remote(struct defect_launch *launch) {
  enum { CLUSTER = 4, BYTES = 128 * 16 };
  struct {
    CUdeviceptr from, to;
  } arguments = {random_floats(CLUSTER * BYTES / 4), result_array(launch, BYTES)};
  give(launch, &arguments, sizeof arguments);
}

static void prepare_bulk_copies(struct defect_launch *launch) {
  enum { BYTES = 1024 };
  struct {
    CUdeviceptr from, to;
    unsigned bytes;
  } arguments = {random_codes(2 * BYTES), result_array(launch, 2 * BYTES), BYTES};
  give(launch, &arguments, sizeof arguments);
}

static void prepare_tma_copy(struct defect_launch *launch) {
  enum { ROWS = 16, COLS = 128, BYTES = ROWS * COLS };
  struct {
    struct fg_tensor_map from, to;
    CUdeviceptr seen;
    int from_at[3], to_at[3], bytes;
  } arguments = {.seen = result_array(launch, BYTES), .bytes = BYTES};
  arguments.from = encode_bytes(random_codes(BYTES), 2, ROWS, COLS, ROWS, COLS, true);
  arguments.to = encode_bytes(result_array(launch, BYTES), 2, ROWS, COLS, ROWS, COLS, true);
  give(launch, &arguments, sizeof arguments);
}

static void prepare_matrix_store(struct defect_launch *launch) {
  enum { ROWS = 16, COLS = 64 };
  const struct tensor is = {CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, 2, ROWS, COLS, ROWS, COLS, CU_TENSOR_MAP_SWIZZLE_128B};
  struct fg_tensor_map arguments[2];
  for (int i = 0; i < 2; i++) arguments[i] = encode(is, result_array(launch, ROWS * COLS * 2));
  give(launch, &arguments, sizeof arguments);
}

enum { TILE_N = 16 };

static void prepare_wgmma_tile(struct defect_launch *launch) {
  enum { M = 64, K = 256 };
  struct {
    struct fg_tensor_map a, b;
    CUdeviceptr a_codes, c, d;
    int swizzle_bytes;
  } arguments = {.a_codes = random_codes(M * K), .c = random_floats(M * TILE_N), .swizzle_bytes = 128};
  arguments.d = result_array(launch, M * TILE_N * 4);
  arguments.a = encode_bytes(arguments.a_codes, 2, M, K, M, 128, true);
  arguments.b = encode_bytes(random_codes(TILE_N * K), 2, TILE_N, K, TILE_N, 128, true);
  give(launch, &arguments, sizeof arguments);
}

static void prepare_wgmma_groups(struct defect_launch *launch) {
  enum { SIDE = 64, K = 512, BLOCKS = 4 };
  struct {
    CUdeviceptr a, b, scale, d;
  } arguments = {random_codes(SIDE * K), random_codes(SIDE * K), random_floats(BLOCKS), result_array(launch, SIDE * SIDE * 4)};
  give(launch, &arguments, sizeof arguments);
}

static void prepare_specialised(struct defect_launch *launch) {
  enum { SIDE = 128, K = 640 };
  struct {
    struct fg_tensor_map a, b;
    CUdeviceptr a_scale, b_scale, d;
    int n, k;
  } arguments = {.n = SIDE, .k = K};
  arguments.a_scale = random_floats(SIDE * K / 128);
  arguments.b_scale = random_floats(K / 128);
  arguments.d = result_array(launch, SIDE * SIDE * 4);
  arguments.a = encode_bytes(random_codes(SIDE * K), 2, SIDE, K, SIDE, 128, true);
  arguments.b = encode_bytes(random_codes(SIDE * K), 2, SIDE, K, SIDE, 128, true);
  give(launch, &arguments, sizeof arguments);
}

static void prepare_persistent(struct defect_launch *launch) {
  enum { ROWS = 64, TILES = 3, BLOCKS = 3, M = ROWS * TILES, K = 128 * BLOCKS };
  struct {
    struct fg_tensor_map a, b, d;
    int tiles, blocks;
  } arguments = {.tiles = TILES, .blocks = BLOCKS};
  arguments.a = encode_bytes(random_codes(M * K), 2, M, K, ROWS, 128, true);
  arguments.b = encode_bytes(random_codes(TILE_N * K), 2, TILE_N, K, TILE_N, 128, true);
  arguments.d =
      encode((struct tensor){CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 2, 4, M, TILE_N, ROWS, TILE_N, CU_TENSOR_MAP_SWIZZLE_NONE},
             result_array(launch, M * TILE_N * 4));
  give(launch, &arguments, sizeof arguments);
}

static void prepare_turns(struct defect_launch *launch) {
  enum { TURNS = 3 };
  struct {
    CUdeviceptr out;
    int turns;
  } arguments = {result_array(launch, (128 + 2 * TURNS) * sizeof(unsigned)), TURNS};
  give(launch, &arguments, sizeof arguments);
}

static void prepare_votes(struct defect_launch *launch) {
  enum { THREADS = 64, NUMBERS = 8 };
  struct {
    CUdeviceptr from, to;
  } arguments = {random_codes(THREADS * 4), result_array(launch, THREADS * NUMBERS * 4)};
  give(launch, &arguments, sizeof arguments);
}

static void prepare_hand_over(struct defect_launch *launch) {
  struct {
    CUdeviceptr from, to;
    int rounds;
  } arguments = {random_floats(192), result_array(launch, 256 * 4), 2};
  give(launch, &arguments, sizeof arguments);
}

#define ENTRIES(array) ((int)(sizeof(array) / sizeof *(array)))
#define TILE_DEFINES(in_registers)                                                                                               \
  { "WGMMA_N=16", "A_IS_E5M2=0", "B_IS_E5M2=0", "A_IN_REGISTERS=" #in_registers }
const struct defect_kernel defect_kernels[] = {
    {"ring", "ring", {0}, 160, 1, 1, 2 * 8192 + 32, prepare_ring},
    {"multicast", "multicast", {"CLUSTER=2"}, 160, 2, 2, 2 * 8192 + 32, prepare_multicast},
    {"remote", "remote", {0}, 128, 4, 4, 160 * 16, prepare_remote},
    {"bulk_copies", "bulk_copies", {0}, 32, 2, 2, 2 * 4096 + 16, prepare_bulk_copies},
    {"tma_copy", "tma_copy", {"RANK=2"}, 64, 1, 1, 8192 + 8, prepare_tma_copy},
    {"matrix_store", "matrix_store", {0}, 128, 1, 1, 2048, prepare_matrix_store},
    {"wgmma_tile", "wgmma_tile", TILE_DEFINES(0), 128, 1, 1, (64 + TILE_N) * 256 + 8, prepare_wgmma_tile},
    {"wgmma_tile, a in registers", "wgmma_tile", TILE_DEFINES(1), 128, 1, 1, (64 + TILE_N) * 256 + 8, prepare_wgmma_tile},
    {"wgmma_groups", "wgmma_groups", {0}, 128, 1, 1, 2 * 64 * 512, prepare_wgmma_groups},
    {"specialised", "specialised", {0}, 384, 1, 1, 4 * (2 * 128 * 128 + 16), prepare_specialised},
    {"persistent", "persistent", {0}, 160, 1, 1, 2 * (64 + TILE_N) * 128 + 64 * TILE_N * 4 + 32, prepare_persistent},
    {"turns", "turns", {0}, 256, 1, 1, (128 + 65) * 4, prepare_turns},
    {"votes", "votes", {0}, 64, 1, 1, 0, prepare_votes},
    {"hand_over", "hand_over", {0}, 384, 1, 1, 0, prepare_hand_over},
};
const int defect_kernel_count = ENTRIES(defect_kernels);

const struct defect_kernel *defect_kernel_of(const struct defect *defect) {
  for (int i = 0; i < defect_kernel_count; i++)
    if (strcmp(defect_kernels[i].name, defect->kernel) == 0) return &defect_kernels[i];
  fprintf(stderr, "there is no kernel %s\n", defect->kernel);
  exit(EXIT_FAILURE);
}
