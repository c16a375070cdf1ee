#include "small_kernels.h"
#include "compiler.h"
#include "support.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD_BYTES = 256, MOST_ARRAYS = 4096, HOPPER = 9 };

static struct array {
  CUdeviceptr begin; /* of the guard before it */
  size_t bytes;
} arrays[MOST_ARRAYS];
static int array_count;
static CUdevice device;

void kernel_must(CUresult result, const char *call) {
  if (result == CUDA_SUCCESS) return;
  fg_driver_fail(call, result);
  cr_assert_fail("%s", fg_message());
}

static void do_without(const char *why) {
  if (getenv("FG_REQUIRE_GPU")) cr_assert_fail("FG_REQUIRE_GPU is set, but %s", why);
  fprintf(stderr, "skipped: %s\n", why); /* where Criterion keeps silent */
  cr_skip_test("%s", why);
}

void kernels_begin(void) {
  setenv("FG_KERNEL_DIR", FG_SOURCE_DIR, 0);
  const struct fg_driver *driver = fg_driver();
  if (!driver || fg_compiler_version() == 0) do_without(fg_message());
  int major = 0;
  CUcontext context;
  KERNEL_MUST(driver->cuDeviceGet(&device, 0));
  KERNEL_MUST(driver->cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device));
  if (major != HOPPER) do_without("the first GPU is no Hopper");
  KERNEL_MUST(driver->cuDevicePrimaryCtxRetain(&context, device));
  KERNEL_MUST(driver->cuCtxPushCurrent(context));
}

void kernels_end(void) {
  CUcontext context;
  while (array_count > 0) KERNEL_MUST(fg_driver()->cuMemFree(arrays[--array_count].begin));
  KERNEL_MUST(fg_driver()->cuCtxPopCurrent(&context));
  KERNEL_MUST(fg_driver()->cuDevicePrimaryCtxRelease(device));
}

struct kernel kernel_make(const char *name, const char *const *defines, unsigned threads, unsigned shared_bytes,
                          size_t argument_bytes) {
  const struct fg_driver *driver = fg_driver();
  struct kernel kernel = {.name = name, .threads = threads, .shared_bytes = shared_bytes, .argument_bytes = argument_bytes};
  char source[128], *log;
  snprintf(source, sizeof source, "tests/kernels/%s.cu", name);
  int count = 0;
  while (defines[count]) count++;
  const struct fg_compilation compilation = {.source = source, .arch = "sm_90a", .defines = defines, .define_count = count};
  void *cubin;
  size_t bytes;
  cr_assert_eq(fg_compile(&compilation, &cubin, &bytes, &log), FG_OK, "%s", fg_message());
  cr_assert(!log || !(strstr(log, "warning") || strstr(log, "Potential")), "%s: %s", source, log);
  free(log);
  CUlibrary library; /* for the process's whole life */
  KERNEL_MUST(driver->cuLibraryLoadData(&library, cubin, NULL, NULL, 0, NULL, NULL, 0));
  free(cubin);
  KERNEL_MUST(driver->cuLibraryGetKernel(&kernel.kernel, library, name));
  KERNEL_MUST(
      driver->cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)shared_bytes, kernel.kernel, device));
  size_t offset, size = 0;
  if (driver->cuKernelGetParamInfo) {
    KERNEL_MUST(driver->cuKernelGetParamInfo(kernel.kernel, 0, &offset, &size));
    cr_assert_eq(size, argument_bytes, "%s takes %zu bytes, not %zu", name, size, argument_bytes);
  }
  return kernel;
}

void kernel_run(const struct kernel *kernel, unsigned blocks, unsigned cluster, const void *arguments) {
  const struct fg_driver *driver = fg_driver();
  CUfunction function;
  KERNEL_MUST(driver->cuKernelGetFunction(&function, kernel->kernel));
  CUlaunchAttribute attribute = {.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, .value.clusterDim = {cluster, 1, 1}};
  const CUlaunchConfig config = {.gridDimX = blocks,
                                 .gridDimY = 1,
                                 .gridDimZ = 1,
                                 .blockDimX = kernel->threads,
                                 .blockDimY = 1,
                                 .blockDimZ = 1,
                                 .sharedMemBytes = kernel->shared_bytes,
                                 .attrs = &attribute,
                                 .numAttrs = cluster > 1};
  void *parameters[] = {(void *)(uintptr_t)arguments};
  kernel_must(driver->cuLaunchKernelEx(&config, function, parameters, NULL), kernel->name);
  kernel_must(driver->cuCtxSynchronize(), kernel->name);
}

bool kernel_seed(const uint64_t *seed) {
  const char *on = getenv("FG_DEVICE"), *only = getenv("FG_SEED"), *chosen = getenv("FG_EMULATOR_SEEDS");
  if (!on || strcmp(on, "emulator") != 0) return *seed < 2;
  uint64_t number = only ? strtoull(only, NULL, 10) : *seed, count = only ? 1 : chosen ? strtoull(chosen, NULL, 10) : 4;
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, number);
  setenv("FG_EMULATOR_SEED", text, 1);
  return *seed < count;
}

static struct array *array_at(const void *data) {
  for (int i = 0; i < array_count; i++)
    if (arrays[i].begin + GUARD_BYTES == (CUdeviceptr)(uintptr_t)data) return &arrays[i];
  cr_assert_fail("there is no such array");
  return NULL;
}

void *kernel_array(const void *from, size_t bytes) {
  cr_assert_lt(array_count, MOST_ARRAYS);
  struct array *array = &arrays[array_count++];
  array->bytes = bytes;
  KERNEL_MUST(fg_driver()->cuMemAlloc(&array->begin, bytes + 2 * GUARD_BYTES));
  void *data = (void *)(uintptr_t)(array->begin + GUARD_BYTES);
  kernel_forget(data);
  if (from) KERNEL_MUST(fg_driver()->cuMemcpy(array->begin + GUARD_BYTES, (CUdeviceptr)(uintptr_t)from, bytes));
  return data;
}

void kernel_forget(void *data) {
  const struct array *array = array_at(data);
  KERNEL_MUST(fg_driver()->cuMemsetD8(array->begin, KERNEL_PATTERN, array->bytes + 2 * GUARD_BYTES));
}

static void expect_bytes(const struct kernel *kernel, const unsigned char *have, const unsigned char *want, size_t bytes,
                         size_t at) {
  for (size_t i = 0; i < bytes; i++)
    cr_assert_eq(have[i], want[i], "%s, seed %s: byte %zu is %02X, not %02X", kernel->name,
                 getenv("FG_EMULATOR_SEED") ? getenv("FG_EMULATOR_SEED") : "-", at + i, have[i], want[i]);
}

void kernel_expect(const struct kernel *kernel, const void *data, const void *expected, uint64_t *digest) {
  const struct array *array = array_at(data);
  unsigned char *have = malloc(array->bytes + 2 * GUARD_BYTES), guard[GUARD_BYTES];
  cr_assert_not_null(have);
  memset(guard, KERNEL_PATTERN, sizeof guard);
  KERNEL_MUST(fg_driver()->cuMemcpy((CUdeviceptr)(uintptr_t)have, array->begin, array->bytes + 2 * GUARD_BYTES));
  expect_bytes(kernel, have, guard, GUARD_BYTES, 0);
  expect_bytes(kernel, have + GUARD_BYTES, expected, array->bytes, 0);
  expect_bytes(kernel, have + GUARD_BYTES + array->bytes, guard, GUARD_BYTES, array->bytes);
  if (digest) /* FNV-1a */
    for (size_t i = 0; i < array->bytes; i++) *digest = (*digest ^ have[GUARD_BYTES + i]) * 0x100000001B3u;
  free(have);
}

void kernel_report(const char *what, uint64_t digest) {
  printf("%-48s %016" PRIx64 "\n", what, digest);
  fflush(stdout);
}
