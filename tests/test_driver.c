/* The CUDA driver, opened at run time: whatever is in its place, there is a driver or a sentence that says what to do. A stand-in plays
 * it; that this one answers as it should is tested at the end. */
#include "driver.h"

#include "cuda_stub.h"
#include "library.h"
#include "library_copy.h"
#include "probe.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void use_stub(void) {
  setenv("FG_CUDA_DRIVER", FG_STUB_DRIVER, 1);
  stub_reset();
}

/* --- A driver can be opened once in a process, so what opens it again runs in a child, whose checks end it. */

#define CHECK(condition)                                                                                                         \
  do {                                                                                                                           \
    if (!(condition)) {                                                                                                          \
      fprintf(stderr, "%s:%d: %s; the message is \"%s\"\n", __FILE__, __LINE__, #condition, fg_message());                       \
      _exit(1);                                                                                                                  \
    }                                                                                                                            \
  } while (0)

/* What the function returned: at most 255. */
static int in_child(int (*run)(const void *), const void *argument) {
  fflush(NULL);
  pid_t child = fork();
  cr_assert_geq(child, 0);
  if (child == 0) _exit(2 + run(argument));
  int status = 0;
  waitpid(child, &status, 0);
  cr_assert(WIFEXITED(status) && WEXITSTATUS(status) >= 2, "the child ended with status 0x%x", (unsigned)status);
  return WEXITSTATUS(status) - 2;
}

/* --- What is in the driver's place */

static void expect_refusal(const char *library, const char *const *parts) {
  setenv("FG_CUDA_DRIVER", library, 1);
  cr_assert(fg_driver() == NULL, "%s is taken for a driver", library);
  for (; *parts; parts++) cr_expect(strstr(fg_message(), *parts) != NULL, "\"%s\" lacks \"%s\"", fg_message(), *parts);
}

Test(driver, is_not_taken_from_what_is_none) {
  expect_refusal("libno-such-thing.so.1",
                 (const char *[]){"there is no CUDA driver here", "libno-such-thing.so.1", "FG_CUDA_DRIVER", NULL});
  expect_refusal(FG_SOURCE_DIR "/README.md", (const char *[]){"there is no CUDA driver here", "README.md", NULL});
  expect_refusal(FG_SOURCE_DIR, (const char *[]){"there is no CUDA driver here", FG_SOURCE_DIR, NULL});
  expect_refusal(FG_STUB_NVRTC, (const char *[]){FG_STUB_NVRTC " has no function cuInit", "FG_CUDA_DRIVER", NULL});
}

static int open_default(const void *unset) {
  if (unset)
    unsetenv("FG_CUDA_DRIVER");
  else
    setenv("FG_CUDA_DRIVER", "", 1);
  if (!fg_driver()) CHECK(strstr(fg_message(), "driver"));
  return fg_driver() != NULL;
}

Test(driver, is_libcuda_where_nothing_else_is_named) {
  cr_expect_eq(in_child(open_default, "unset"), in_child(open_default, NULL), "unset and empty differ");
}

#define TEXT(function) FG_EXPANDED_TEXT(function),

Test(driver, needs_every_function) {
  static const char *const needed[] = {FG_DRIVER_FUNCTIONS(TEXT)};
  for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
    char part[128];
    const char *path = copy_without(FG_STUB_DRIVER, needed[i]);
    cr_assert_not_null(path, "%s", needed[i]);
    snprintf(part, sizeof part, " has no function %s,", needed[i]);
    expect_refusal(path, (const char *[]){part, "install NVIDIA's driver", NULL});
    unlink(path);
  }
}

static int open_here(const void *path) {
  setenv("FG_CUDA_DRIVER", path, 1);
  const struct fg_driver *driver = fg_driver();
  CHECK(driver);
  return driver->cuEventElapsedTime != NULL;
}

Test(driver, does_without_what_only_tests_call) {
  static const char *const extras[] = {"cuKernelGetParamInfo", "cuGraphLaunch", FG_EXPANDED_TEXT(cuEventElapsedTime)};
  for (size_t i = 0; i < sizeof extras / sizeof extras[0]; i++) {
    const char *path = copy_without(FG_STUB_DRIVER, extras[i]);
    cr_assert_not_null(path, "%s", extras[i]);
    cr_expect_eq(in_child(open_here, path), i < 2);
    unlink(path);
  }
}

Test(driver, is_refused_if_too_old) {
  use_stub();
  static const struct {
    int version;
    const char *text;
  } old[] = {{0, "CUDA 0.0"}, {11000, "CUDA 11.0"}, {11080, "CUDA 11.8"}, {11999, "CUDA 11.9"}};
  for (size_t i = 0; i < sizeof old / sizeof old[0]; i++) {
    stub_version(old[i].version);
    expect_refusal(FG_STUB_DRIVER, (const char *[]){old[i].text, "12.0 or newer", "update", NULL});
    cr_expect_eq(stub_calls(), (int)i + 1, "a driver that is too old was started");
  }
  stub_version(12000);
  const struct fg_driver *driver = fg_driver();
  cr_assert_not_null(driver, "%s", fg_message());
  cr_expect_eq(driver->version, 12000);
}

Test(driver, says_why_it_does_not_start) {
  use_stub();
  static const struct {
    CUresult error;
    const char *advice;
  } known[] = {{CUDA_ERROR_NO_DEVICE, "CUDA_VISIBLE_DEVICES"},
               {CUDA_ERROR_STUB_LIBRARY, "LD_LIBRARY_PATH"},
               {CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "reboot"},
               {CUDA_ERROR_SYSTEM_NOT_READY, "fabric manager"},
               {CUDA_ERROR_UNKNOWN, "nvidia_uvm"}};
  for (int error = 1; error < 1000; error++)
    for (int call = 1; call <= 2; call++) {
      const char *advice = "nvidia-smi", *name = NULL;
      for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if ((int)known[i].error == error) advice = known[i].advice;
      if (error == CUDA_ERROR_NOT_INITIALIZED) advice = "fork";
      if (error == CUDA_ERROR_INVALID_DEVICE) advice = "CUDA_VISIBLE_DEVICES";
      if (error == CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE) advice = "compatibility";
      if (cuGetErrorName((CUresult)error, &name) != CUDA_SUCCESS) name = "an unknown error";
      char part[128];
      snprintf(part, sizeof part, "%s gives %s (%d);", call == 1 ? "cuDriverGetVersion" : "cuInit", name, error);
      stub_fail(call, (CUresult)error, STUB_ONCE);
      expect_refusal(FG_STUB_DRIVER, (const char *[]){FG_STUB_DRIVER, part, advice, NULL});
    }
  const struct fg_driver *driver = fg_driver(); /* nothing of this is for ever */
  cr_assert_not_null(driver, "%s", fg_message());
  cr_expect_eq(driver->version, CUDA_VERSION);
}

Test(driver, stays_as_it_was_opened) {
  use_stub();
  const struct fg_driver *driver = fg_driver();
  cr_assert_not_null(driver, "%s", fg_message());
  cr_expect_eq(stub_calls(), 2);
  setenv("FG_CUDA_DRIVER", "libno-such-thing.so.1", 1);
  stub_fail(1, CUDA_ERROR_UNKNOWN, STUB_FOR_EVER);
  cr_expect(fg_driver() == driver);
  cr_expect_eq(stub_calls(), 0);
}

/* --- Threads and forks */

enum { THREADS = 64 };
static pthread_barrier_t together;

static void *open_together(void *out) {
  pthread_barrier_wait(&together);
  *(const struct fg_driver **)out = fg_driver();
  return NULL;
}

Test(driver, is_opened_once_by_any_number_of_threads) {
  use_stub();
  pthread_t threads[THREADS];
  const struct fg_driver *drivers[THREADS];
  pthread_barrier_init(&together, NULL, THREADS);
  for (int t = 0; t < THREADS; t++) cr_assert_eq(pthread_create(&threads[t], NULL, open_together, (void *)&drivers[t]), 0);
  for (int t = 0; t < THREADS; t++) {
    pthread_join(threads[t], NULL);
    cr_expect(drivers[t] != NULL && drivers[t] == drivers[0]);
  }
  cr_expect_eq(stub_calls(), 2, "cuDriverGetVersion and cuInit are called %d times", stub_calls());
}

static void *refuse_together(void *out) {
  pthread_barrier_wait(&together);
  *(bool *)out = fg_driver() == NULL && strstr(fg_message(), "libno-such-thing.so.1") != NULL;
  return NULL;
}

Test(driver, is_refused_to_each_thread_in_words) {
  setenv("FG_CUDA_DRIVER", "libno-such-thing.so.1", 1);
  pthread_t threads[THREADS];
  bool refused[THREADS];
  pthread_barrier_init(&together, NULL, THREADS);
  for (int t = 0; t < THREADS; t++) cr_assert_eq(pthread_create(&threads[t], NULL, refuse_together, &refused[t]), 0);
  for (int t = 0; t < THREADS; t++) {
    pthread_join(threads[t], NULL);
    cr_expect(refused[t]);
  }
}

static int count_devices(const void *expected) {
  const struct fg_driver *driver = fg_driver();
  CHECK(driver);
  int count = 0;
  CUresult error = driver->cuDeviceGetCount(&count);
  CHECK((int)error == *(const int *)expected);
  if (error != CUDA_SUCCESS) {
    CHECK(fg_driver_fail("cuDeviceGetCount", error) == FG_DRIVER_ERROR);
    CHECK(strstr(fg_message(), "fork"));
  }
  return count;
}

Test(driver, may_be_opened_on_both_sides_of_a_fork_but_not_carried_over) {
  use_stub();
  cr_expect_eq(in_child(count_devices, &(int){CUDA_SUCCESS}), 1);
  cr_expect_eq(in_child(count_devices, &(int){CUDA_SUCCESS}), 1);
  cr_assert_not_null(fg_driver());
  in_child(count_devices, &(int){CUDA_ERROR_NOT_INITIALIZED});
}

/* --- Errors */

Test(driver, has_a_sentence_for_every_error) {
  use_stub();
  cr_expect_eq(fg_driver_fail("cuCtxSynchronize", CUDA_ERROR_INVALID_VALUE), FG_DRIVER_ERROR); /* before any driver is there */
  cr_expect(strstr(fg_message(), "cuCtxSynchronize gives an error (1)") != NULL, "%s", fg_message());
  cr_assert_not_null(fg_driver());
  static const struct {
    CUresult error;
    fg_status status;
    const char *parts[3];
  } cases[] = {
      {CUDA_ERROR_INVALID_VALUE, FG_DRIVER_ERROR, {"cuCall gives CUDA_ERROR_INVALID_VALUE (1): invalid argument"}},
      {CUDA_ERROR_OUT_OF_MEMORY, FG_OUT_OF_MEMORY, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
      {CUDA_ERROR_ILLEGAL_ADDRESS, FG_DRIVER_ERROR, {"CUDA_ERROR_ILLEGAL_ADDRESS (700)", "new process", "compute-sanitizer"}},
      {CUDA_ERROR_LAUNCH_FAILED, FG_DRIVER_ERROR, {"new process"}},
      {(CUresult)12345, FG_DRIVER_ERROR, {"an unknown error (12345)", "no words"}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    cr_expect_eq(fg_driver_fail("cuCall", cases[i].error), cases[i].status);
    for (int p = 0; p < 3 && cases[i].parts[p]; p++)
      cr_expect(strstr(fg_message(), cases[i].parts[p]) != NULL, "%s", fg_message());
    for (int nth = 1; nth <= 2; nth++) { /* even if the driver fails to say what failed */
      stub_fail(nth, CUDA_ERROR_UNKNOWN, STUB_FOR_EVER);
      cr_expect_eq(fg_driver_fail("cuCall", cases[i].error), cases[i].status);
      cr_expect(strncmp(fg_message(), "cuCall gives ", 13) == 0, "%s", fg_message());
      stub_fail(0, CUDA_SUCCESS, STUB_ONCE);
    }
  }
}

/* --- The doctor's look */

static int probe_with_failure(const void *argument) {
  const int *nth_how = argument;
  fg_driver_fail("before", CUDA_ERROR_UNKNOWN);
  char before[512];
  snprintf(before, sizeof before, "%s", fg_message());
  stub_fail(nth_how[0], CUDA_ERROR_UNKNOWN, (enum stub_failing)nth_how[1]);
  struct fg_probe probe;
  fg_probe_cuda(&probe);
  CHECK(strcmp(fg_message(), before) == 0);
  CHECK(probe.driver_text[0] && probe.nvrtc_text[0] && probe.gpu_text[0]);
  CHECK((probe.driver == 0) == (nth_how[0] <= 2 && nth_how[1] != STUB_STICKY)); /* looking touches no context */
  CHECK(probe.driver || probe.gpus == 0);
  return stub_calls() >= nth_how[0];
}

Test(driver, is_looked_at_however_it_fails) {
  use_stub();
  stub_devices("h20,h100,a100");
  for (int how = STUB_ONCE; how <= STUB_STICKY; how++)
    for (int nth = 1; in_child(probe_with_failure, (int[]){nth, how}); nth++) cr_assert(nth < 100);
}

Test(driver, is_described_with_its_gpus) {
  use_stub();
  setenv("FG_NVRTC", FG_STUB_NVRTC, 1);
  stub_version(12040);
  stub_devices("h20,h100,a100");
  struct fg_probe probe;
  fg_probe_cuda(&probe);
  cr_expect_eq(probe.driver, 12040);
  cr_expect(strstr(probe.driver_text, "12.4") != NULL, "%s", probe.driver_text);
  cr_expect_eq(probe.gpus, 3);
  cr_expect_eq(probe.hopper_gpus, 2);
  cr_expect(strcmp(probe.gpu_text, "3 x, the first NVIDIA H20, sm_90") == 0, "%s", probe.gpu_text);
  cr_expect_eq(probe.nvrtc, 13000);
  cr_expect(strcmp(probe.nvrtc_text, "NVRTC 13.0") == 0, "%s", probe.nvrtc_text);
}

/* --- The stand-in */

static const struct fg_driver *open_stub(const char *devices) {
  use_stub();
  stub_devices(devices);
  const struct fg_driver *driver = fg_driver();
  cr_assert_not_null(driver, "%s", fg_message());
  return driver;
}

static CUcontext enter(const struct fg_driver *driver, CUdevice device) {
  CUcontext context;
  cr_assert_eq(driver->cuDevicePrimaryCtxRetain(&context, device), CUDA_SUCCESS);
  cr_assert_eq(driver->cuCtxPushCurrent(context), CUDA_SUCCESS);
  return context;
}

static void leave(const struct fg_driver *driver, CUdevice device) {
  cr_assert_eq(driver->cuCtxPopCurrent(NULL), CUDA_SUCCESS);
  cr_assert_eq(driver->cuDevicePrimaryCtxRelease(device), CUDA_SUCCESS);
}

Test(stub, counts_what_is_not_given_back) {
  const struct fg_driver *driver = open_stub("h100,h100-mig");
  cr_expect_eq(driver->cuCtxSynchronize(), CUDA_ERROR_INVALID_CONTEXT);
  CUcontext first = enter(driver, 0), second = enter(driver, 1), now;
  CUdeviceptr address;
  CUstream stream;
  cr_expect_eq(driver->cuCtxGetCurrent(&now), CUDA_SUCCESS);
  cr_expect(now == second && now != first);
  cr_expect_eq(driver->cuMemAlloc(&address, 1000), CUDA_SUCCESS);
  cr_expect_eq(driver->cuMemAlloc(&address, (size_t)11 << 30), CUDA_ERROR_OUT_OF_MEMORY, "a slice of 10 GB gives 11");
  cr_expect_eq(driver->cuStreamCreate(&stream, 0), CUDA_SUCCESS);
  struct stub_live live = stub_live();
  cr_expect(live.contexts == 2 && live.pushed == 2 && live.allocations == 1 && live.streams == 1 && live.libraries == 0);
  leave(driver, 1);
  cr_expect_eq(driver->cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE, "a stream outlives its context");
  cr_expect_eq(driver->cuCtxPushCurrent(second), CUDA_ERROR_CONTEXT_IS_DESTROYED);
  leave(driver, 0);
  live = stub_live();
  cr_expect(!live.contexts && !live.pushed && !live.allocations && !live.streams);
  cr_expect_eq(driver->cuDevicePrimaryCtxRelease(0), CUDA_ERROR_INVALID_CONTEXT);
}

Test(stub, fails_as_told_and_gives_back_all_the_same) {
  const struct fg_driver *driver = open_stub("h100");
  CUcontext context = enter(driver, 0);
  CUdeviceptr address;
  stub_fail(2, CUDA_ERROR_UNKNOWN, STUB_ONCE);
  cr_expect_eq(driver->cuMemAlloc(&address, 16), CUDA_SUCCESS);
  cr_expect_eq(driver->cuMemFree(address), CUDA_ERROR_UNKNOWN);
  cr_expect(strncmp(stub_first_failed(), "cuMemFree", 9) == 0);
  cr_expect_eq(driver->cuMemAlloc(&address, 16), CUDA_SUCCESS);
  cr_expect_eq(stub_live().allocations, 1);
  stub_fail(1, CUDA_ERROR_ILLEGAL_ADDRESS, STUB_STICKY);
  int count;
  cr_expect_eq(driver->cuDeviceGetCount(&count), CUDA_SUCCESS);
  cr_expect_eq(driver->cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
  cr_expect_eq(driver->cuMemFree(address), CUDA_ERROR_ILLEGAL_ADDRESS);
  cr_expect_eq(driver->cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
  stub_fail(1, CUDA_ERROR_UNKNOWN, STUB_FOR_EVER);
  cr_expect_eq(driver->cuDevicePrimaryCtxRelease(0), CUDA_ERROR_UNKNOWN);
  cr_expect_eq(driver->cuCtxPopCurrent(&context), CUDA_ERROR_UNKNOWN);
  cr_expect_eq(driver->cuDevicePrimaryCtxRelease(0), CUDA_ERROR_UNKNOWN);
  struct stub_live live = stub_live();
  cr_expect(!live.contexts && !live.pushed && !live.allocations);
}

Test(stub, knows_whose_memory_it_is) {
  const struct fg_driver *driver = open_stub("h100,h100");
  static char host[64], pinned[64], managed[64];
  stub_register(pinned, sizeof pinned, STUB_PINNED);
  stub_register(managed, sizeof managed, STUB_MANAGED);
  enter(driver, 0);
  CUdeviceptr first, second;
  cr_assert_eq(driver->cuMemAlloc(&first, 64), CUDA_SUCCESS);
  enter(driver, 1);
  cr_assert_eq(driver->cuMemAlloc(&second, 64), CUDA_SUCCESS);
  const struct {
    CUdeviceptr address;
    int device;
    unsigned type, is_managed;
  } cases[] = {{first, 0, CU_MEMORYTYPE_DEVICE, 0},
               {second + 63, 1, CU_MEMORYTYPE_DEVICE, 0},
               {(uintptr_t)pinned, 0, CU_MEMORYTYPE_HOST, 0},
               {(uintptr_t)managed + 1, 0, CU_MEMORYTYPE_DEVICE, 1},
               {(uintptr_t)host, -2, 0, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    int device = 99;
    unsigned type = 99, is_managed = 99;
    CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                        CU_POINTER_ATTRIBUTE_IS_MANAGED};
    cr_expect_eq(driver->cuPointerGetAttributes(3, attributes, (void *[]){&device, &type, &is_managed}, cases[i].address),
                 CUDA_SUCCESS);
    cr_expect(device == cases[i].device && type == cases[i].type && is_managed == cases[i].is_managed, "case %zu: %d, %u, %u", i,
              device, type, is_managed);
    cr_expect_eq(driver->cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, cases[i].address),
                 cases[i].type ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
  }
  memset(host, 7, sizeof host);
  cr_expect_eq(driver->cuMemcpy(first, (uintptr_t)host, 64), CUDA_SUCCESS);
  cr_expect_eq(driver->cuMemcpy(second, first, 64), CUDA_SUCCESS);
  cr_expect_eq(driver->cuMemsetD8(first, 0, 64), CUDA_SUCCESS);
  cr_expect_eq(driver->cuMemcpy((uintptr_t)pinned, second, 64), CUDA_SUCCESS);
  cr_expect(memcmp(pinned, host, 64) == 0);
  cr_expect_eq(driver->cuMemcpy(second, first, 65), CUDA_ERROR_INVALID_VALUE);
  stub_register(pinned, 0, STUB_UNKNOWN);
  stub_register(managed, 0, STUB_UNKNOWN);
  leave(driver, 1);
  leave(driver, 0);
}

/* What the stand-in for the compiler makes of a kernel that takes `argument_bytes`. */
static void *compile(const char *source, const char *arch, size_t argument_bytes) {
  stub_nvrtc_reset();
  stub_nvrtc_argument_bytes(argument_bytes);
  nvrtcProgram program;
  size_t bytes;
  cr_assert_eq(nvrtcCreateProgram(&program, source, "kernel.cu", 0, NULL, NULL), NVRTC_SUCCESS);
  cr_assert_eq(nvrtcCompileProgram(program, 2, (const char *[]){"--gpu-architecture", arch}), NVRTC_SUCCESS);
  cr_assert_eq(nvrtcGetCUBINSize(program, &bytes), NVRTC_SUCCESS);
  void *cubin = malloc(bytes);
  cr_assert_eq(nvrtcGetCUBIN(program, cubin), NVRTC_SUCCESS);
  cr_assert_eq(nvrtcDestroyProgram(&program), NVRTC_SUCCESS);
  return cubin;
}

Test(stub, checks_and_keeps_launches) {
  const struct fg_driver *driver = open_stub("h100,a100");
  void *cubin = compile("extern \"C\" __global__ void __launch_bounds__(2 * (64)) first(int x) {}\n"
                        "extern \"C\" __global__ void\nsecond(int x);",
                        "sm_90a", 12);
  CUlibrary library;
  CUkernel kernel;
  cr_expect_eq(driver->cuLibraryLoadData(&library, (char[64]){"no image"}, NULL, NULL, 0, NULL, NULL, 0),
               CUDA_ERROR_INVALID_IMAGE);
  cr_assert_eq(driver->cuLibraryLoadData(&library, cubin, NULL, NULL, 0, NULL, NULL, 0), CUDA_SUCCESS);
  free(cubin);
  cr_expect_eq(driver->cuLibraryGetKernel(&kernel, library, "third"), CUDA_ERROR_NOT_FOUND);
  cr_expect_eq(driver->cuLibraryGetKernel(&kernel, library, "second"), CUDA_SUCCESS);
  cr_assert_eq(driver->cuLibraryGetKernel(&kernel, library, "first"), CUDA_SUCCESS);
  size_t offset, bytes;
  cr_expect_eq(driver->cuKernelGetParamInfo(kernel, 0, &offset, &bytes), CUDA_SUCCESS);
  cr_expect(offset == 0 && bytes == 12);
  enter(driver, 0);
  CUstream stream;
  cr_assert_eq(driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  CUlaunchConfig config = {.gridDimX = 6, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 128, .blockDimY = 1, .blockDimZ = 1};
  CUlaunchAttribute cluster = {.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, .value.clusterDim = {2, 1, 1}};
  config.sharedMemBytes = 200 * 1024, config.hStream = stream, config.attrs = &cluster, config.numAttrs = 1;
  int arguments[3] = {1, 2, 3};
  void *parameters[] = {arguments};
  cr_expect_eq(driver->cuLaunchKernelEx(&config, (CUfunction)kernel, parameters, NULL), CUDA_ERROR_INVALID_VALUE,
               "more shared memory than the kernel was given leave to take");
  cr_expect_eq(driver->cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 228 * 1024, kernel, 0),
               CUDA_ERROR_INVALID_VALUE);
  cr_expect_eq(driver->cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 227 * 1024, kernel, 0),
               CUDA_SUCCESS);
  cr_expect_eq(driver->cuLaunchKernelEx(&config, (CUfunction)kernel, parameters, NULL), CUDA_SUCCESS);
  arguments[0] = 99; /* the launch has its own copy */
  struct stub_launch launch;
  cr_expect_eq(stub_launches(), 1);
  cr_assert(stub_launched(0, &launch));
  cr_expect(strcmp(launch.kernel, "first") == 0 && launch.grid[0] == 6 && launch.block[0] == 128 && launch.cluster[0] == 2 &&
            launch.stream == stream && launch.device == 0 && !launch.captured && launch.shared_bytes == 200 * 1024);
  cr_expect(launch.argument_bytes == 12 && memcmp(launch.arguments, (int[]){1, 2, 3}, 12) == 0);
  config.gridDimX = 7;
  cr_expect_eq(driver->cuLaunchKernelEx(&config, (CUfunction)kernel, parameters, NULL), CUDA_ERROR_INVALID_VALUE);
  enter(driver, 1);
  config.numAttrs = 0;
  CUfunction function;
  cr_expect_eq(driver->cuLaunchKernelEx(&config, (CUfunction)kernel, parameters, NULL), CUDA_ERROR_NO_BINARY_FOR_GPU);
  cr_expect_eq(driver->cuKernelGetFunction(&function, kernel), CUDA_ERROR_NO_BINARY_FOR_GPU);
  enter(driver, 0);
  cr_assert_eq(driver->cuKernelGetFunction(&function, kernel), CUDA_SUCCESS);
  leave(driver, 0);
  cr_expect_eq(driver->cuLaunchKernelEx(&config, function, parameters, NULL), CUDA_ERROR_INVALID_HANDLE);
  leave(driver, 1);
  cr_expect_eq(driver->cuLaunchKernelEx(&config, function, parameters, NULL), CUDA_SUCCESS);
  cr_expect_eq(driver->cuLaunchKernelEx(&config, (CUfunction)kernel, parameters, NULL), CUDA_SUCCESS);
  cr_expect_eq(driver->cuLibraryUnload(library), CUDA_SUCCESS);
  cr_expect_eq(driver->cuLaunchKernelEx(&config, (CUfunction)kernel, parameters, NULL), CUDA_ERROR_INVALID_HANDLE);
  leave(driver, 0);
  cr_expect_eq(stub_launches(), 3);
}

Test(stub, captures_a_stream_and_spoils_it) {
  const struct fg_driver *driver = open_stub("h100");
  void *cubin = compile("extern \"C\" __global__ void k(int x) {}", "sm_90", 0);
  CUlibrary library;
  CUkernel kernel;
  CUstream stream;
  CUgraph graph;
  CUgraphExec executable;
  CUstreamCaptureStatus status;
  CUdeviceptr address;
  cr_assert_eq(driver->cuLibraryLoadData(&library, cubin, NULL, NULL, 0, NULL, NULL, 0), CUDA_SUCCESS);
  cr_assert_eq(driver->cuLibraryGetKernel(&kernel, library, "k"), CUDA_SUCCESS);
  enter(driver, 0);
  cr_assert_eq(driver->cuStreamCreate(&stream, 0), CUDA_SUCCESS);
  CUlaunchConfig config = {1, 1, 1, 32, 1, 1, 0, stream, NULL, 0};

  cr_assert_eq(driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  cr_expect_eq(driver->cuStreamIsCapturing(stream, &status), CUDA_SUCCESS);
  cr_expect_eq(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
  cr_expect_eq(driver->cuLaunchKernelEx(&config, (CUfunction)kernel, NULL, NULL), CUDA_SUCCESS);
  cr_expect_eq(driver->cuStreamEndCapture(stream, &graph), CUDA_SUCCESS);
  cr_assert_eq(driver->cuGraphInstantiate(&executable, graph, 0), CUDA_SUCCESS);
  cr_expect_eq(driver->cuGraphDestroy(graph), CUDA_SUCCESS);
  for (int i = 0; i < 2; i++) cr_expect_eq(driver->cuGraphLaunch(executable, stream), CUDA_SUCCESS);
  struct stub_launch launch[3];
  cr_expect_eq(stub_launches(), 3);
  for (int i = 0; i < 3; i++) cr_assert(stub_launched(i, &launch[i]) && launch[i].captured == (i == 0));

  cr_assert_eq(driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  CUlibrary late; /* as of a real driver, which test_gpu.c asks */
  cr_expect_eq(driver->cuLibraryLoadData(&late, cubin, NULL, NULL, 0, NULL, NULL, 0), CUDA_SUCCESS);
  cr_expect_eq(driver->cuStreamIsCapturing(stream, &status), CUDA_SUCCESS);
  cr_expect_eq(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
  cr_expect_eq(driver->cuMemAlloc(&address, 16), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  cr_expect_eq(driver->cuStreamIsCapturing(stream, &status), CUDA_SUCCESS);
  cr_expect_eq(status, CU_STREAM_CAPTURE_STATUS_INVALIDATED);
  cr_expect_eq(driver->cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

  cr_assert_eq(driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED), CUDA_SUCCESS);
  cr_expect_eq(driver->cuMemAlloc(&address, 16), CUDA_SUCCESS);
  cr_expect_eq(driver->cuMemFree(address), CUDA_SUCCESS);
  cr_expect_eq(driver->cuStreamEndCapture(stream, &graph), CUDA_SUCCESS);
  cr_expect_eq(driver->cuGraphDestroy(graph), CUDA_SUCCESS);
  cr_expect_eq(driver->cuGraphExecDestroy(executable), CUDA_SUCCESS);
  cr_expect_eq(stub_live().graphs, 0);
  free(cubin);
  leave(driver, 0);
}

Test(stub, takes_only_a_tensor_map_that_a_gpu_takes) {
  const struct fg_driver *driver = open_stub("h100");
  static _Alignas(128) CUtensorMap map;
  static _Alignas(16) char memory[64];
  for (int wrong = 0; wrong <= 6; wrong++) {
    cuuint64_t dims[2] = {1000, 70}, strides[1] = {wrong == 1 ? 1000 : 1008};
    cuuint32_t box[2] = {wrong == 2 ? 256 : 128, wrong == 3 ? 257 : 64}, steps[2] = {1, wrong == 4 ? 0 : 1};
    CUresult result =
        driver->cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, wrong == 5 ? 6 : 2, memory + (wrong == 6 ? 8 : 0),
                                       dims, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                       CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    cr_expect_eq(result, wrong ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS, "case %d", wrong);
  }
}
