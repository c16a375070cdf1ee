/* How long the words of gpu/device take on a Hopper GPU, in cycles, and a whole kernel of them: what the emulator's table of costs
 * (gpu/emulator/costs.h) is compared with. Prints a table in Markdown.
 *
 *     time_vocabulary [--tree DIR] > FILE */
#include "args.h"
#include "compiler.h"
#include "driver.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 64, TURNS = 1000, SHARED_BYTES = 8 * 16384 + 64, STAGE_ROWS = 128, STAGE_COLS = 128, MOST_K = 8192 };

struct arguments {
  struct fg_tensor_map map;
  long long *cycles;
  float *out;
  int rounds, bytes, length, threads;
};

struct specialised {
  struct fg_tensor_map a, b;
  const float *a_scale, *b_scale;
  float *d;
  int n, k;
};

static const struct fg_driver *driver;
static CUdevice device;
static CUlibrary library;
static long long *cycles; /* [TURNS], of the device */
static CUdeviceptr zeros; /* OUT_BYTES */
static CUdeviceptr data;  /* DATA_BYTES, random */
enum { OUT_BYTES = 1 << 16, DATA_BYTES = 64 << 20 };

static void must(CUresult result, const char *call) {
  if (result == CUDA_SUCCESS) return;
  fg_driver_fail(call, result);
  fprintf(stderr, "time_vocabulary: %s\n", fg_message());
  exit(EXIT_FAILURE);
}
#define MUST(call) must(driver->call, #call)

static CUlibrary compile(const char *source) {
  const struct fg_compilation compilation = {.source = source, .arch = "sm_90a"};
  void *cubin;
  size_t bytes;
  CUlibrary loaded;
  if (fg_compile(&compilation, &cubin, &bytes, NULL) != FG_OK) {
    fprintf(stderr, "time_vocabulary: %s\n", fg_message());
    exit(EXIT_FAILURE);
  }
  MUST(cuLibraryLoadData(&loaded, cubin, NULL, NULL, 0, NULL, NULL, 0));
  free(cubin);
  return loaded;
}

static CUfunction function_of(CUlibrary from, const char *name) {
  CUkernel kernel;
  CUfunction function;
  MUST(cuLibraryGetKernel(&kernel, from, name));
  MUST(cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, SHARED_BYTES, kernel, device));
  MUST(cuKernelGetFunction(&function, kernel));
  return function;
}

static void launch(CUfunction function, unsigned blocks, unsigned cluster, unsigned threads, void *arguments) {
  CUlaunchAttribute attribute = {.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, .value.clusterDim = {cluster, 1, 1}};
  const CUlaunchConfig config = {.gridDimX = blocks,
                                 .gridDimY = 1,
                                 .gridDimZ = 1,
                                 .blockDimX = threads,
                                 .blockDimY = 1,
                                 .blockDimZ = 1,
                                 .sharedMemBytes = SHARED_BYTES,
                                 .attrs = &attribute,
                                 .numAttrs = cluster > 1};
  MUST(cuLaunchKernelEx(&config, function, (void *[]){arguments}, NULL));
}

static struct fg_tensor_map map_of(int rank, int rows, int cols, int box_rows) {
  const cuuint64_t sizes[] = {(cuuint64_t)cols, (cuuint64_t)rows, 1}, strides[] = {(cuuint64_t)cols, sizes[0] * sizes[1]};
  const cuuint32_t box[] = {STAGE_COLS, (cuuint32_t)box_rows, 1}, steps[] = {1, 1, 1};
  CUtensorMap encoded;
  struct fg_tensor_map map;
  MUST(cuTensorMapEncodeTiled(&encoded, CU_TENSOR_MAP_DATA_TYPE_UINT8, (cuuint32_t)rank, (void *)(uintptr_t)data, sizes, strides,
                              box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                              CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
  memcpy(&map, &encoded, sizeof map);
  return map;
}

static CUdeviceptr allocate(size_t bytes) {
  CUdeviceptr at;
  MUST(cuMemAlloc(&at, bytes));
  MUST(cuMemsetD8(at, 0, bytes));
  return at;
}

/* Codes below 2, so that nothing overflows. */
static void fill_with_codes(void) {
  uint64_t *codes = malloc(DATA_BYTES), random = 1;
  if (!codes) exit(EXIT_FAILURE);
  for (size_t i = 0; i < DATA_BYTES / sizeof *codes; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    codes[i] = (random ^ random >> 29) & 0xBFBFBFBFBFBFBFBFu;
  }
  MUST(cuMemcpy(data, (CUdeviceptr)(uintptr_t)codes, DATA_BYTES));
  free(codes);
}

static int ascending(const void *a, const void *b) {
  long long x = *(const long long *)a, y = *(const long long *)b;
  return (x > y) - (x < y);
}

/* Of one launch after another like it: the median of its rounds but the first, or of what it says of all of them. */
static double time_kernel(const char *name, unsigned blocks, unsigned threads, int rounds, int rows, int length, bool is_summed) {
  struct arguments arguments = {.map = map_of(strstr(name, "multicast") ? 3 : 2, STAGE_ROWS, STAGE_COLS, rows),
                                .cycles = cycles,
                                .out = (float *)(uintptr_t)zeros,
                                .rounds = rounds,
                                .bytes = rows * STAGE_COLS,
                                .length = length,
                                .threads = (int)threads};
  long long seen[TURNS] = {0};
  for (int i = 0; i < 2; i++) launch(function_of(library, name), blocks, blocks, threads, &arguments);
  MUST(cuCtxSynchronize());
  MUST(cuMemcpy((CUdeviceptr)(uintptr_t)seen, (CUdeviceptr)(uintptr_t)cycles, sizeof seen));
  if (is_summed) return (double)seen[0];
  qsort(seen + 1, (size_t)rounds - 1, sizeof *seen, ascending);
  return (double)seen[rounds / 2];
}

static void row(const char *what, double value) { printf("| %-86s | %8.1f |\n", what, value); }

static double clock_ghz(void) {
  struct arguments arguments = {.cycles = cycles, .length = 20000000};
  long long seen[2];
  launch(function_of(library, "clocks"), 1, 1, 32, &arguments);
  MUST(cuCtxSynchronize());
  MUST(cuMemcpy((CUdeviceptr)(uintptr_t)seen, (CUdeviceptr)(uintptr_t)cycles, sizeof seen));
  return (double)seen[0] / (double)seen[1];
}

/* Cycles of one block's tile, from events around launches of one block one after another. */
static double time_tile(CUfunction specialised, unsigned blocks, int k, double ghz) {
  struct specialised arguments = {.a = map_of(2, 128 * 12, MOST_K, 128),
                                  .b = map_of(2, 128 * 11, MOST_K, 128),
                                  .a_scale = (const float *)(uintptr_t)data,
                                  .b_scale = (const float *)(uintptr_t)data,
                                  .d = (float *)(uintptr_t)(data + DATA_BYTES / 2),
                                  .n = 128 * 11,
                                  .k = k};
  enum { LAUNCHES = 200, TRIES = 5 };
  double least = 1e30;
  CUevent begin, end;
  MUST(cuEventCreate(&begin, CU_EVENT_DEFAULT));
  MUST(cuEventCreate(&end, CU_EVENT_DEFAULT));
  for (int i = 0; i < TRIES; i++) {
    float ms;
    MUST(cuEventRecord(begin, NULL));
    for (int j = 0; j < LAUNCHES; j++) launch(specialised, blocks, 1, 384, &arguments);
    MUST(cuEventRecord(end, NULL));
    MUST(cuEventSynchronize(end));
    MUST(cuEventElapsedTime(&ms, begin, end));
    if (ms * 1e6 / LAUNCHES < least) least = ms * 1e6 / LAUNCHES;
  }
  MUST(cuEventDestroy(begin));
  MUST(cuEventDestroy(end));
  return least * ghz;
}

static void print_waits(void) {
  row("`tma_load_2d()` of 16 KB in the L2, until `mbarrier_wait()` is over",
      time_kernel("load_latency", 1, 32, ROUNDS, 128, 0, false));
  row("the same of 1 KB", time_kernel("load_latency", 1, 32, ROUNDS, 8, 0, false));
  row("`copy_four_bytes()` by a warp, until `mbarrier_wait()` is over", time_kernel("copy_latency", 1, 32, ROUNDS, 8, 1, false));
  row("the same, eight by each thread", time_kernel("copy_latency", 1, 32, ROUNDS, 8, 8, false));
  row("`tma_load_multicast()` of 16 KB to two blocks, until the wait is over",
      time_kernel("multicast_latency", 2, 32, ROUNDS, 128, 0, false));
  row("a 16 KB box, eight under way", time_kernel("load_rate", 1, 32, ROUNDS, 128, 64, false));
  row("`tma_store_2d()` of 16 KB, until `bulk_wait_read()` is over", time_kernel("store_latency", 1, 32, ROUNDS, 128, 0, false));
  row("the same until `bulk_wait()` is over", time_kernel("store_latency", 1, 32, ROUNDS, 128, 1, false));
  row("`mbarrier_arrive()` and `mbarrier_wait()` by one thread", time_kernel("mbarrier_alone", 1, 32, TURNS, 8, 0, true));
  row("from `mbarrier_arrive()` to another warp's going on", time_kernel("mbarrier_turns", 1, 64, TURNS, 8, 0, true));
  row("from `mbarrier_arrive_cluster()` to the peer's going on", time_kernel("mbarrier_turns_cluster", 2, 32, TURNS, 8, 0, true));
  row("`cluster_arrive()` and `cluster_wait()`, two blocks of 128 threads",
      time_kernel("cluster_barrier", 2, 128, TURNS, 8, 0, true));
  row("`load_remote()`, each after the one before", time_kernel("remote_load", 2, 32, TURNS, 8, 0, true));
  row("`named_barrier_sync()` of 256 threads", time_kernel("named_barrier", 1, 256, TURNS, 8, 0, true));
  row("from `named_barrier_arrive()` to the other warpgroup's going on", time_kernel("named_turns", 1, 256, TURNS, 8, 0, true));
  row("`__syncthreads()` of 384 threads", time_kernel("block_barrier", 1, 384, TURNS, 8, 0, true));
  row("`fence_proxy_async()`", time_kernel("fences", 1, 128, TURNS, 8, 0, true));
  row("`__shfl_xor_sync()` and an addition, each after the one before", time_kernel("shuffles", 1, 32, TURNS, 8, 0, true));
  row("`stmatrix()` by four warps, one after another", time_kernel("matrix_stores", 1, 128, TURNS, 8, 0, true));
  row("a load from shared memory, each after the one before", time_kernel("shared_load", 1, 32, TURNS, 8, 0, true));
  row("a load from the L2, each after the one before", time_kernel("global_load", 1, 32, TURNS, 8, 0, true));
  row("`atomicAdd()`, each after the one before", time_kernel("atomics", 1, 1, TURNS, 8, 0, true));
  for (unsigned threads = 128; threads <= 384; threads += 128) {
    char text[96];
    snprintf(text, sizeof text, "`__fmaf_rn()` among independent ones, %u threads", threads);
    row(text, time_kernel("fused", 1, threads, TURNS, 8, 0, true) / 100);
  }
}

static void print_products(void) {
  static const char *const names[] = {"wgmma_128", "wgmma_256"};
  for (int i = 0; i < 2; i++)
    for (unsigned groups = 1; groups <= 2; groups++) {
      char text[128];
      double few = time_kernel(names[i], 1, groups * 128, ROUNDS, 128, 4, false),
             many = time_kernel(names[i], 1, groups * 128, ROUNDS, 128, 68, false);
      snprintf(text, sizeof text, "`wgmma_mma()` m64n%dk32 in a chain, %u warpgroup%s, each", i ? 256 : 128, groups,
               groups > 1 ? "s" : "");
      row(text, (many - few) / 256);
      snprintf(text, sizeof text, "the same: fence, 4 of them, commit and wait");
      row(text, time_kernel(names[i], 1, groups * 128, ROUNDS, 128, 1, false));
    }
}

static void print_tiles(double ghz) {
  CUfunction specialised = function_of(compile("tests/kernels/specialised.cu"), "specialised");
  for (unsigned blocks = 1; blocks <= 132; blocks += 131) {
    double few = time_tile(specialised, blocks, 512, ghz), many = time_tile(specialised, blocks, MOST_K, ghz);
    char text[128];
    snprintf(text, sizeof text, "a launch of `specialised` with k = 512, %u block%s", blocks, blocks > 1 ? "s" : "");
    row(text, few);
    row("the same with k = 0: it begins, stores its tile and ends", time_tile(specialised, blocks, 0, ghz));
    snprintf(text, sizeof text, "the same for each 128 of K more");
    row(text, (many - few) / 60);
  }
}

int main(int count, char **arguments) {
  setenv("FG_KERNEL_DIR", count == 3 && strcmp(arguments[1], "--tree") == 0 ? arguments[2] : FG_SOURCE_DIR, 1);
  driver = fg_driver();
  if (!driver) {
    fprintf(stderr, "time_vocabulary: %s\n", fg_message());
    return EXIT_FAILURE;
  }
  CUcontext context;
  char name[128];
  MUST(cuDeviceGet(&device, 0));
  MUST(cuDeviceGetName(name, sizeof name, device));
  MUST(cuDevicePrimaryCtxRetain(&context, device));
  MUST(cuCtxPushCurrent(context));
  zeros = allocate(OUT_BYTES);
  data = allocate(DATA_BYTES);
  cycles = (long long *)(uintptr_t)allocate(TURNS * sizeof *cycles);
  fill_with_codes();
  library = compile("tests/hardware/time_vocabulary.cu");
  double ghz = clock_ghz();
  printf("%s, CUDA %d.%d, NVRTC %d.%d, %.2f GHz.\n\n", name, driver->version / 1000, driver->version % 1000 / 10,
         fg_compiler_version() / 1000, fg_compiler_version() % 1000 / 10, ghz);
  printf("| %-86s | %8s |\n|%.88s|----------|\n", "what", "cycles",
         "----------------------------------------------------------------------------------------");
  print_waits();
  print_products();
  print_tiles(ghz);
  return EXIT_SUCCESS;
}
