/* The way of a call to a GPU, with stand-ins for the driver and the compiler: context, memory, plan, kernel, launch, whatever fails on
 * it, and any number of threads. That the kernels are right is for test_gpu.c, on a GPU. */
#include "finegemm_kernels.h"

#include "args.h"
#include "cuda_stub.h"
#include "driver.h"
#include "emulated_map.h"
#include "tensor_map.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- Set-up */

/* Nothing on disk, unless a test says otherwise. */
static void use_stubs(const char *devices) {
  setenv("FG_CUDA_DRIVER", FG_STUB_DRIVER, 1);
  setenv("FG_NVRTC", FG_STUB_NVRTC, 1);
  setenv("FG_CACHE_DIR", "", 1);
  unsetenv("FG_CACHE_PATH");
  stub_reset();
  stub_nvrtc_reset();
  stub_devices(devices);
  stub_nvrtc_argument_bytes(sizeof(struct fg_args));
}

static fg_context *context_on(int ordinal) {
  fg_context *context = NULL;
  cr_assert_eq(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA, .ordinal = ordinal}), FG_OK, "%s",
               fg_message());
  return context;
}

enum { M = 100, N = 200, K = 300, BYTES = 1 << 20 };

/* A dense problem, all of whose operands are in one allocation. */
static fg_problem problem_at(void *memory) {
  char *at = memory;
  return (fg_problem){.m = M,
                      .n = N,
                      .k = K,
                      .a = {.data = at, .scale = (float *)(void *)(at + 100000)},
                      .b = {.data = at + 200000, .scale = (float *)(void *)(at + 300000)},
                      .d = {.data = at + 400000},
                      .level = FG_SHARED};
}

static fg_problem problem_in(fg_context *context, void **memory) {
  *memory = NULL;
  cr_assert_eq(fg_memory_allocate(context, BYTES, memory), FG_OK, "%s", fg_message());
  return problem_at(*memory);
}

static void expect_nothing_left(void) {
  struct stub_live live = stub_live();
  cr_expect_eq(live.contexts, 0, "%d contexts are still retained", live.contexts);
  cr_expect_eq(live.allocations, 0, "%d allocations are not freed", live.allocations);
  cr_expect_eq(live.pushed, 0, "%d contexts are still on the thread's stack", live.pushed);
}

/* --- Contexts */

Test(host, a_context_describes_its_gpu_and_gives_it_back) {
  use_stubs("h100,h20:77");
  fg_context *first = context_on(0), *second = context_on(1), *again = context_on(1);
  fg_gpu gpu;
  cr_assert_eq(fg_context_gpu(first, &gpu), FG_OK);
  cr_expect(gpu.sms == 132 && strcmp(gpu.arch, "sm_90a") == 0, "%d %s", gpu.sms, gpu.arch);
  cr_assert_eq(fg_context_gpu(again, &gpu), FG_OK);
  cr_expect_eq(gpu.sms, 77);
  cr_expect_eq(stub_live().contexts, 3);
  fg_context_destroy(first);
  fg_context_destroy(second);
  fg_context_destroy(again);
  expect_nothing_left();
}

Test(host, a_device_that_is_not_there_is_refused) {
  use_stubs("h100");
  fg_context *context;
  cr_expect_eq(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA, .ordinal = 1}), FG_BAD_SIZE);
  cr_expect(strstr(fg_message(), "ordinal is 1; this machine has 1 CUDA device"), "%s", fg_message());
  cr_expect(context == NULL);
  stub_devices("");
  cr_expect_eq(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA}), FG_BAD_SIZE);
  expect_nothing_left();
}

Test(host, levels_keep_to_their_contexts) {
  use_stubs("h100");
  fg_context *context = context_on(0), *cpu;
  cr_assert_eq(fg_context_create(&cpu, NULL), FG_OK);
  int count;
  const fg_level_info *levels = fg_levels(&count);
  for (int i = 0; i < count; i++) {
    bool on_gpu = levels[i].level >= FG_NAIVE;
    cr_expect_eq(fg_can_run(context, levels[i].level), on_gpu ? FG_OK : FG_UNSUPPORTED, "%s", levels[i].name);
    cr_expect_eq(fg_can_run(cpu, levels[i].level), levels[i].level <= FG_HOPPER ? FG_OK : FG_UNSUPPORTED, "%s", levels[i].name);
  }
  cr_expect_eq(fg_can_run(context, FG_BEST), FG_OK);
  fg_gpu gpu;
  cr_expect_eq(fg_context_gpu(cpu, &gpu), FG_UNSUPPORTED);
  void *memory;
  fg_problem problem = problem_in(context, &memory);
  double bound;
  cr_expect_eq(fg_exact(context, &problem, NULL, &bound), FG_UNSUPPORTED);
  cr_expect_eq(fg_convert(context, &(fg_conversion){0}), FG_UNSUPPORTED);
  cr_assert_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  fg_context_destroy(cpu);
  expect_nothing_left();
}

Test(host, the_current_context_is_left_as_found) {
  use_stubs("h100,h100");
  const struct fg_driver *driver = fg_driver();
  fg_context *context = context_on(0);
  void *memory;
  fg_problem problem = problem_in(context, &memory);
  for (int with = 0; with < 2; with++) {
    CUcontext own = NULL, now = NULL;
    CUdevice device;
    if (with) {
      cr_assert_eq(driver->cuDeviceGet(&device, 1), CUDA_SUCCESS);
      cr_assert_eq(driver->cuDevicePrimaryCtxRetain(&own, device), CUDA_SUCCESS);
      cr_assert_eq(driver->cuCtxPushCurrent(own), CUDA_SUCCESS);
    }
    int pushed = stub_live().pushed;
    cr_expect_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    cr_expect_eq(fg_prepare(context, &problem), FG_OK);
    problem.a.data = &problem;
    cr_expect_eq(fg_gemm(context, &problem), FG_BAD_MEMORY);
    problem.a.data = memory;
    cr_expect_eq(driver->cuCtxGetCurrent(&now), CUDA_SUCCESS);
    cr_expect(now == own);
    cr_expect_eq(stub_live().pushed, pushed);
    if (with) {
      driver->cuCtxPopCurrent(&now);
      driver->cuDevicePrimaryCtxRelease(device);
    }
  }
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  expect_nothing_left();
}

/* --- Memory */

Test(host, memory_must_be_within_reach) {
  use_stubs("h100,h100");
  fg_context *context = context_on(0), *other = context_on(1);
  void *memory, *elsewhere;
  fg_problem problem = problem_in(context, &memory);
  cr_assert_eq(fg_memory_allocate(other, BYTES, &elsewhere), FG_OK);
  static float own[BYTES / 4];
  struct {
    const char *name;
    const void **pointer;
  } members[] = {{"a.data", &problem.a.data},
                 {"a.scale", (const void **)&problem.a.scale},
                 {"b.data", &problem.b.data},
                 {"b.scale", (const void **)&problem.b.scale},
                 {"c.data", &problem.c.data},
                 {"bias.data", &problem.bias.data},
                 {"d.data", (const void **)&problem.d.data}};
  char text[100];
  for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
    const void *good = *members[i].pointer;
    *members[i].pointer = own;
    snprintf(text, sizeof text, "%s is %p, which is host memory", members[i].name, (void *)own);
    cr_expect_eq(fg_gemm(context, &problem), FG_BAD_MEMORY, "%s", members[i].name);
    cr_expect(strstr(fg_message(), text), "%s", fg_message());
    cr_expect_eq(fg_prepare(context, &problem), FG_OK, "follows no pointer: %s", fg_message());
    *members[i].pointer = elsewhere;
    snprintf(text, sizeof text, "%s is %p, which is memory of device 1", members[i].name, elsewhere);
    cr_expect_eq(fg_gemm(context, &problem), FG_BAD_MEMORY, "%s", members[i].name);
    cr_expect(strstr(fg_message(), text), "%s", fg_message());
    *members[i].pointer = good;
  }
  int launches = stub_launches();
  for (enum stub_memory kind = STUB_PINNED; kind <= STUB_MANAGED; kind++) {
    stub_register(own, sizeof own, kind);
    problem.a.data = own;
    cr_expect_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    stub_register(own, sizeof own, STUB_UNKNOWN);
  }
  cr_expect_eq(stub_launches(), launches + 2);
  problem.a.data = memory;
  problem.kind = FG_MASKED, problem.groups = 1, problem.group_values = own;
  cr_expect_eq(fg_gemm(context, &problem), FG_BAD_MEMORY);
  cr_expect(strstr(fg_message(), "group_values is"), "%s", fg_message());
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  cr_expect_eq(fg_memory_free(other, elsewhere), FG_OK);
  cr_expect_eq(fg_memory_free(context, NULL), FG_OK);
  fg_context_destroy(context);
  fg_context_destroy(other);
  expect_nothing_left();
}

Test(host, memory_is_copied_both_ways) {
  use_stubs("h100");
  fg_context *contexts[2] = {context_on(0), NULL};
  cr_assert_eq(fg_context_create(&contexts[1], NULL), FG_OK);
  for (int i = 0; i < 2; i++) {
    unsigned char there[1000], back[1000] = {0};
    for (int at = 0; at < 1000; at++) there[at] = (unsigned char)(at * 7);
    void *memory, *none = &memory;
    cr_assert_eq(fg_memory_allocate(contexts[i], 1000, &memory), FG_OK);
    cr_expect_eq((uintptr_t)memory % 256, 0);
    cr_expect_eq(fg_memory_copy(contexts[i], memory, there, 1000), FG_OK);
    cr_expect_eq(fg_memory_copy(contexts[i], back, memory, 1000), FG_OK);
    cr_expect_eq(memcmp(there, back, 1000), 0);
    cr_expect_eq(fg_memory_copy(contexts[i], NULL, NULL, 0), FG_OK);
    cr_expect_eq(fg_memory_copy(contexts[i], NULL, there, 1), FG_NULL_POINTER);
    cr_expect_eq(fg_memory_copy(contexts[i], back, NULL, 1), FG_NULL_POINTER);
    cr_expect_eq(fg_memory_allocate(contexts[i], SIZE_MAX, &none), FG_OUT_OF_MEMORY, "%s", fg_message());
    cr_expect(none == NULL);
    cr_expect_eq(fg_memory_allocate(contexts[i], 1, NULL), FG_NULL_POINTER);
    cr_expect_eq(fg_memory_free(contexts[i], memory), FG_OK);
    fg_context_destroy(contexts[i]);
  }
  cr_expect_eq(fg_memory_allocate(NULL, 1, &(void *){NULL}), FG_NULL_POINTER);
  cr_expect_eq(fg_memory_free(NULL, NULL), FG_NULL_POINTER);
  cr_expect_eq(fg_memory_copy(NULL, NULL, NULL, 0), FG_NULL_POINTER);
  expect_nothing_left();
}

/* --- Launches */

Test(host, a_launch_is_what_the_plan_says) {
  use_stubs("h100");
  fg_context *context = context_on(0);
  void *memory;
  fg_problem problem = problem_in(context, &memory);
  for (int i = 0; i < 24; i++) {
    problem.level = i % 2 ? FG_NAIVE : FG_SHARED;
    problem.kind = (fg_kind[]){FG_DENSE, FG_BATCHED, FG_GROUPED_ROWS, FG_MASKED, FG_GROUPED_K}[i % 5];
    problem.groups = problem.kind == FG_DENSE ? 0 : 2;
    problem.group_values = (char *)memory + 800000;
    problem.sm_limit = i / 8;
    problem.d.type = i % 3 ? FG_FP32 : FG_BF16;
    problem.a.type = i % 4 > 1 ? FG_E5M2 : FG_E4M3;
    cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    fg_gpu gpu;
    fg_plan plan;
    struct stub_launch launch;
    cr_assert_eq(fg_context_gpu(context, &gpu), FG_OK);
    cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_OK);
    cr_assert_eq(stub_launches(), i + 1);
    cr_assert(stub_launched(i, &launch));
    cr_expect_eq(strcmp(launch.kernel, i % 2 ? "naive" : "shared"), 0, "%s", launch.kernel);
    cr_expect(launch.grid[0] == (unsigned)plan.blocks && launch.grid[1] == 1 && launch.grid[2] == 1);
    cr_expect(launch.block[0] == (unsigned)plan.threads && launch.block[1] == 1 && launch.block[2] == 1);
    if (problem.sm_limit) cr_expect(launch.grid[0] <= (unsigned)problem.sm_limit);
    struct fg_args args;
    cr_assert_eq(launch.argument_bytes, sizeof args);
    memcpy(&args, launch.arguments, sizeof args);
    cr_expect(args.m == M && args.n == N && args.k == K && args.groups == (problem.groups ? 2 : 1) && args.group_align == 1);
    cr_expect(args.a.data == problem.a.data && args.b.data == problem.b.data && args.d.data == problem.d.data && !args.c.data);
    bool one_a = problem.kind == FG_DENSE || problem.kind == FG_GROUPED_ROWS || problem.kind == FG_GROUPED_K;
    cr_expect(args.a.ld == K && args.a.stride == (one_a ? 0 : M * K), "a's ld is %lld, its stride %lld", args.a.ld,
              args.a.stride);
    cr_expect(args.d.ld == N && args.b.ld == K);
    cr_expect(args.a_scale.row_shift == 0 && args.b_scale.row_shift == 7 && args.a_scale.row_stride == 3);
    cr_expect(args.d_type == (int)problem.d.type && args.group_align_reciprocal == 1);
  }
  /* What has no elements is not looked at. */
  static int nowhere[M];
  problem.kind = FG_GROUPED_ROWS, problem.group_by = FG_BY_ENDS, problem.groups = 0;
  problem.b.data = problem.group_values = nowhere, problem.b.scale = NULL;
  cr_expect_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
  problem.group_by = FG_BY_INDEX;
  cr_expect_eq(fg_gemm(context, &problem), FG_BAD_MEMORY, "an index for each row");
  problem.kind = FG_DENSE, problem.k = 0, problem.a.data = nowhere;
  cr_expect_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
  int launches = stub_launches();
  problem.m = 0;
  cr_expect_eq(fg_gemm(context, &problem), FG_OK);
  cr_expect_eq(stub_launches(), launches, "nothing is launched for nothing");
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  expect_nothing_left();
}

Test(host, a_launch_has_the_attributes_that_are_asked_for) {
  use_stubs("h100,a100");
  for (int device = 0; device < 2; device++) {
    fg_context *context = context_on(device);
    void *memory;
    fg_problem problem = problem_in(context, &memory);
    fg_plan wish = {.blocks = 6, .cluster = 2};
    struct stub_launch launch;
    cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    cr_assert(stub_launched(stub_launches() - 1, &launch));
    cr_expect(launch.cluster[0] == 0 && !launch.programmatic);
    problem.flags = FG_DEPENDENT_LAUNCH;
    cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    cr_assert(stub_launched(stub_launches() - 1, &launch));
    cr_expect_eq(launch.programmatic, device == 0, "on an H100 alone");
    problem.plan = &wish;
    cr_assert_eq(fg_gemm(context, &problem), device == 0 ? FG_OK : FG_BAD_PLAN, "%s", fg_message());
    cr_assert(stub_launched(stub_launches() - 1, &launch));
    if (device == 0) cr_expect(launch.cluster[0] == 2 && launch.cluster[1] == 1 && launch.grid[0] == 6 && launch.programmatic);
    cr_expect_eq(fg_memory_free(context, memory), FG_OK);
    fg_context_destroy(context);
  }
  expect_nothing_left();
}

Test(host, a_log_has_every_plan_and_kernel) {
  use_stubs("h100");
  char path[] = "/var/tmp/finegemm-log-XXXXXX", text[4096] = "";
  int file = mkstemp(path);
  cr_assert_geq(file, 0);
  setenv("FG_LOG", path, 1);
  fg_context *context = context_on(0);
  void *memory;
  fg_problem problem = problem_in(context, &memory);
  for (int i = 0; i < 2; i++) cr_expect_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  cr_assert_gt(read(file, text, sizeof text - 1), 0);
  close(file);
  unlink(path);
  const char *plan =
      strstr(text, "plan: dense, groups 1, m 100, n 200, k 300: shared, tiles of 64 x 64, 8 in all; 8 blocks of 256 threads");
  cr_assert_not_null(plan, "%s", text);
  cr_expect(strstr(plan + 1, "plan: dense") != NULL, "%s", text);
  const char *kernel = strstr(text, "kernel: lessons/05_shared.cu for sm_90a, BLOCK_M=64 BLOCK_N=64 A_IS_E5M2=0 "
                                    "B_IS_E5M2=0 KIND=0 SHARED_BYTES=19456: loaded in ");
  cr_assert_not_null(kernel, "%s", text);
  cr_expect_null(strstr(kernel + 1, "kernel: "), "loaded once: %s", text);
  setenv("FG_LOG", "/nowhere/log", 1);
  context = context_on(0);
  cr_expect_eq(fg_prepare(context, &problem), FG_OK, "a log that cannot be written is no log");
  fg_context_destroy(context);
  expect_nothing_left();
}

Test(host, a_refused_call_reaches_no_driver) {
  use_stubs("h100");
  fg_context *context = context_on(0);
  void *memory;
  fg_problem good = problem_in(context, &memory), problem;
  stub_fail(0, CUDA_SUCCESS, STUB_ONCE);
#define REFUSED(status, change)                                                                                                  \
  do {                                                                                                                           \
    problem = good;                                                                                                              \
    change;                                                                                                                      \
    cr_expect_eq(fg_gemm(context, &problem), status, "%s: %s", #change, fg_message());                                           \
    cr_expect_eq(fg_prepare(context, &problem), status, "%s: %s", #change, fg_message());                                        \
  } while (0)
  fg_plan wish = {.block_m = 5};
  REFUSED(FG_BAD_SIZE, problem.m = -1);
  REFUSED(FG_NULL_POINTER, problem.a.data = NULL);
  REFUSED(FG_BAD_ENUM, problem.a.type = FG_BF16);
  REFUSED(FG_BAD_STRIDE, problem.a.ld = K - 1);
  REFUSED(FG_OVERLAP, problem.d.data = memory);
  REFUSED(FG_UNSUPPORTED, problem.level = FG_REFERENCE);
  REFUSED(FG_UNSUPPORTED, problem.split_k = 2);
  REFUSED(FG_UNSUPPORTED, problem.level = FG_FULL; problem.split_k = 9);
  cr_expect_eq(stub_calls(), 0, "%d calls", stub_calls());
  REFUSED(FG_BAD_PLAN, problem.plan = &wish);
  cr_expect_eq(stub_launches(), 0);
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  expect_nothing_left();
}

Test(host, a_later_call_only_looks_and_launches) {
  use_stubs("h100");
  fg_context *context = context_on(0);
  void *memory;
  fg_problem problem = problem_in(context, &memory);
  cr_assert_eq(fg_prepare(context, &problem), FG_OK);
  int compiles = stub_compiles();
  cr_expect_eq(compiles, 1);
  stub_fail(0, CUDA_SUCCESS, STUB_ONCE);
  for (int i = 0; i < 10; i++) cr_assert_eq(fg_gemm(context, &problem), FG_OK);
  cr_expect_eq(stub_calls(), 10 * 8, "%d calls, not five pointers, a launch, the context in and out", stub_calls());
  cr_expect_eq(stub_compiles(), compiles);
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
}

Test(host, only_what_is_prepared_can_be_captured) {
  use_stubs("h100");
  const struct fg_driver *driver = fg_driver();
  fg_context *context = context_on(0);
  void *memory;
  fg_problem problem = problem_in(context, &memory);
  CUdevice device;
  CUcontext primary;
  CUstream stream;
  CUgraph graph = NULL;
  cr_assert_eq(driver->cuDeviceGet(&device, 0), CUDA_SUCCESS);
  cr_assert_eq(driver->cuDevicePrimaryCtxRetain(&primary, device), CUDA_SUCCESS);
  cr_assert_eq(driver->cuCtxPushCurrent(primary), CUDA_SUCCESS);
  cr_assert_eq(driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  problem.stream = stream;
  cr_assert_eq(driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  cr_expect_eq(fg_gemm(context, &problem), FG_NOT_PREPARED, "%s", fg_message());
  cr_expect(strstr(fg_message(), "fg_prepare"), "%s", fg_message());
  cr_assert_eq(driver->cuStreamEndCapture(stream, &graph), CUDA_SUCCESS, "the capture is still valid");
  driver->cuGraphDestroy(graph);
  cr_expect_eq(fg_prepare(context, &problem), FG_OK);
  cr_assert_eq(driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  cr_expect_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
  cr_assert_eq(driver->cuStreamEndCapture(stream, &graph), CUDA_SUCCESS);
  struct stub_launch launch;
  cr_assert(stub_launched(stub_launches() - 1, &launch));
  cr_expect(launch.captured && launch.stream == stream);
  driver->cuGraphDestroy(graph);
  driver->cuStreamDestroy(stream);
  driver->cuCtxPopCurrent(&primary);
  driver->cuDevicePrimaryCtxRelease(device);
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  expect_nothing_left();
}

/* --- Tensor maps */

/* Sizes, strides in bytes and box as the stand-in keeps them. */
static void expect_map(const CUtensorMap *map, const uint64_t *sizes, const uint64_t *strides, const uint32_t *box) {
  struct emu_map packed;
  cr_assert(emu_map_unpack(map, &packed));
  cr_expect_eq(packed.rank, 3, "always of rank 3");
  for (int i = 0; i < 3; i++) {
    cr_expect_eq(packed.last[i] + UINT64_C(1), sizes[i], "size %d is %u + 1", i, packed.last[i]);
    cr_expect_eq(packed.box[i], box[i]);
  }
  for (int i = 0; i < 2; i++)
    cr_expect_eq(packed.stride[i], strides[i], "stride %d is %llu", i, (unsigned long long)packed.stride[i]);
}

Test(host, tensor_maps_keep_matrices_apart) {
  use_stubs("h100");
  const struct fg_driver *driver = fg_driver();
  static _Alignas(128) CUtensorMap map;
  static _Alignas(128) char data[256];
  const struct fg_tensor good = {.name = "a",
                                 .data = data,
                                 .type = FG_E4M3,
                                 .matrices = 5,
                                 .rows = 70,
                                 .cols = 1000,
                                 .stride = 80000,
                                 .ld = 1008,
                                 .box_rows = 64,
                                 .box_cols = 128,
                                 .swizzle_bytes = 128};
  cr_assert_eq(fg_tensor_map(driver, &good, &map), FG_OK, "%s", fg_message());
  expect_map(&map, (uint64_t[]){1000, 70, 5}, (uint64_t[]){1008, 80000}, (uint32_t[]){128, 64, 1});
  struct fg_tensor tensor = good;
  tensor.type = FG_BF16, tensor.box_cols = 64;
  cr_assert_eq(fg_tensor_map(driver, &tensor, &map), FG_OK, "%s", fg_message());
  expect_map(&map, (uint64_t[]){1000, 70, 5}, (uint64_t[]){2016, 160000}, (uint32_t[]){64, 64, 1});
  tensor = good;
  tensor.rows = 1, tensor.ld = -7; /* not looked at */
  cr_assert_eq(fg_tensor_map(driver, &tensor, &map), FG_OK, "%s", fg_message());
  expect_map(&map, (uint64_t[]){1000, 1, 5}, (uint64_t[]){1008, 80000}, (uint32_t[]){128, 64, 1});
  tensor.matrices = 1, tensor.stride = -7;
  cr_assert_eq(fg_tensor_map(driver, &tensor, &map), FG_OK, "%s", fg_message());
  expect_map(&map, (uint64_t[]){1000, 1, 1}, (uint64_t[]){1008, 1008}, (uint32_t[]){128, 64, 1});

#define REFUSED_MAP(change, says)                                                                                                \
  do {                                                                                                                           \
    tensor = good;                                                                                                               \
    change;                                                                                                                      \
    cr_expect_eq(fg_tensor_map(driver, &tensor, &map), FG_UNSUPPORTED, #change);                                                 \
    cr_expect(strstr(fg_message(), says), "%s, but it must say %s", fg_message(), says);                                         \
  } while (0)
  REFUSED_MAP(tensor.data = data + 8, "a.data is");
  REFUSED_MAP(tensor.ld = 1000, "a.ld is 1000 bytes");
  REFUSED_MAP(tensor.stride = 79992, "a.stride is 79992 bytes");
  REFUSED_MAP(tensor.ld = INT64_C(1) << 40, "a.ld is 1099511627776 bytes");
  REFUSED_MAP(tensor.rows = (INT64_C(1) << 32) + 1, "a has 4294967297 rows");
  REFUSED_MAP(tensor.cols = 0, "a has 0 columns");
  REFUSED_MAP(tensor.matrices = 0, "a has 0 matrices");
  tensor = good;
  tensor.box_rows = 257;
  cr_expect_eq(fg_tensor_map(driver, &tensor, &map), FG_DRIVER_ERROR, "%s", fg_message());
}

/* --- The levels with tensor cores */

enum { RUNG_K = 304 };

/* Of what all of them serve. */
static fg_problem rung_problem_at(void *memory, fg_level level) {
  fg_problem problem = problem_at(memory);
  problem.k = RUNG_K;
  problem.a.scale_layout = FG_ROWS_CONTIGUOUS;
  problem.level = level;
  return problem;
}

static struct fg_args launched_with(int nth) {
  struct stub_launch launch;
  struct fg_args args;
  cr_assert(stub_launched(nth, &launch));
  cr_assert_eq(launch.argument_bytes, sizeof args);
  memcpy(&args, launch.arguments, sizeof args);
  return args;
}

static void expect_tensor(const struct fg_tensor_map *map, const void *data, const uint64_t *sizes, uint64_t ld,
                          const uint32_t *box, unsigned type, unsigned swizzle) {
  static CUtensorMap own;
  struct emu_map packed;
  memcpy(&own, map, sizeof own);
  expect_map(&own, sizes, (uint64_t[]){ld, ld}, box);
  cr_assert(emu_map_unpack(&own, &packed));
  cr_expect_eq(packed.address, (uintptr_t)data);
  cr_expect_eq(packed.type, type);
  cr_expect_eq(packed.swizzle, swizzle);
}

static bool has_map(const struct fg_tensor_map *map) {
  static const struct fg_tensor_map none;
  return memcmp(map, &none, sizeof none) != 0;
}

Test(host, a_rung_is_launched_with_its_maps) {
  use_stubs("h100");
  fg_context *context = context_on(0);
  void *memory;
  problem_in(context, &memory);
  int launches = 0;
  for (int level = FG_WGMMA; level <= FG_CLUSTER; level++)
    for (int i = 0; i < 24; i++) {
      static const char *const names[] = {"wgmma", "tma", "pipeline", "persistent", "cluster"};
      static const fg_type d_types[] = {FG_BF16, FG_FP16, FG_FP32};
      static const unsigned map_types[] = {CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
                                           CU_TENSOR_MAP_DATA_TYPE_FLOAT32};
      const unsigned bytes = CU_TENSOR_MAP_DATA_TYPE_UINT8, floats = CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
      const unsigned swizzled = CU_TENSOR_MAP_SWIZZLE_128B, plain = CU_TENSOR_MAP_SWIZZLE_NONE;
      fg_plan wish = {.block_m = i & 1 ? 64 : 128, .block_n = i & 2 ? 64 : 128}, plan;
      fg_problem problem = rung_problem_at(memory, (fg_level)level);
      if (level == FG_CLUSTER) wish.cluster = (int[]){1, 2, 4}[i / 4 % 3];
      problem.plan = &wish;
      problem.a.type = i & 4 ? FG_E5M2 : FG_E4M3;
      problem.d.type = d_types[i % 3];
      problem.a.ld = 320, problem.b.ld = 336, problem.a.scale_ld = 108, problem.d.ld = 208;
      problem.flags = i & 8 ? FG_DEPENDENT_LAUNCH : 0;
      fg_gpu gpu;
      struct stub_launch launch;
      cr_assert_eq(fg_context_gpu(context, &gpu), FG_OK);
      cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_OK, "%s", fg_message());
      cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
      cr_assert(stub_launched(launches, &launch));
      cr_expect_eq(stub_launches(), launches + 1);
      cr_expect_str_eq(launch.kernel, names[level - FG_WGMMA]);
      cr_expect(launch.grid[0] == (unsigned)plan.blocks && launch.block[0] == (unsigned)plan.threads);
      cr_expect_eq(launch.shared_bytes, (unsigned)plan.shared_bytes);
      cr_expect_eq(launch.cluster[0], plan.cluster > 1 ? (unsigned)plan.cluster : 0);
      cr_expect_eq(launch.programmatic, (i & 8) != 0);
      struct fg_args args = launched_with(launches++);
      uint32_t m = (uint32_t)plan.block_m, n = (uint32_t)(plan.block_n / plan.cluster);
      uint32_t d_bytes = problem.d.type == FG_FP32 ? 4 : 2;
      expect_tensor(&args.a_map, problem.a.data, (uint64_t[]){RUNG_K, M, 1}, 320, (uint32_t[]){128, m, 1}, bytes, swizzled);
      expect_tensor(&args.b_map, problem.b.data, (uint64_t[]){RUNG_K, N, 1}, 336, (uint32_t[]){128, n, 1}, bytes, swizzled);
      cr_expect_eq(has_map(&args.a_scale_map), level >= FG_TMA);
      cr_expect_eq(has_map(&args.d_map), level == FG_CLUSTER);
      if (level >= FG_TMA)
        expect_tensor(&args.a_scale_map, problem.a.scale, (uint64_t[]){M, 3, 1}, 108 * 4, (uint32_t[]){m, 1, 1}, floats, plain);
      if (level == FG_CLUSTER)
        expect_tensor(&args.d_map, problem.d.data, (uint64_t[]){N, M, 1}, 208 * d_bytes, (uint32_t[]){128 / d_bytes, 64, 1},
                      map_types[i % 3], swizzled);
      cr_expect(args.m == M && args.n == N && args.k == RUNG_K && args.a.ld == 320 && args.d.ld == 208);
      cr_expect(args.b_scale.row_shift == 7 && args.b_scale.row_stride == 3 && args.b_scale.block_stride == 1);
    }
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  expect_nothing_left();
}

/* Columns of D that are no whole piece of 16 bytes are not the copy engine's; what there is one of has no distance; nothing needs no map. */
Test(host, a_rung_has_maps_of_what_there_is) {
  use_stubs("h100");
  fg_context *context = context_on(0);
  void *memory;
  problem_in(context, &memory);
  for (int level = FG_WGMMA; level <= FG_CLUSTER; level++) {
    fg_problem problem = rung_problem_at(memory, (fg_level)level);
    problem.n = 205, problem.d.ld = 208;
    cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    struct fg_args args = launched_with(stub_launches() - 1);
    if (level == FG_CLUSTER)
      expect_tensor(&args.d_map, problem.d.data, (uint64_t[]){200, M, 1}, 416, (uint32_t[]){64, 64, 1},
                    CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_SWIZZLE_128B);
    problem.n = 7, problem.m = 1, problem.k = 128;
    problem.a.ld = problem.a.scale_ld = problem.d.ld = 1; /* of which there is one row, and one block */
    cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    args = launched_with(stub_launches() - 1);
    cr_expect(has_map(&args.a_map) && has_map(&args.b_map) && !has_map(&args.d_map));
    problem = rung_problem_at(memory, (fg_level)level);
    problem.k = 0, problem.a.data = problem.b.data = NULL, problem.a.scale = problem.b.scale = NULL;
    cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    args = launched_with(stub_launches() - 1);
    cr_expect(!has_map(&args.a_map) && !has_map(&args.b_map) && !has_map(&args.a_scale_map));
    int launches = stub_launches();
    for (int empty = 0; empty < 2; empty++) {
      problem = rung_problem_at(memory, (fg_level)level);
      *(empty ? &problem.m : &problem.n) = 0;
      cr_expect_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
      cr_expect_eq(fg_prepare(context, &problem), FG_OK, "%s", fg_message());
    }
    cr_expect_eq(stub_launches(), launches, "nothing is launched for nothing");
  }
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  expect_nothing_left();
}

/* Both calls end so; `expected` FG_OK: they say nothing. */
static void expect_ends_with(fg_context *context, const fg_problem *problem, fg_status expected, const char *says,
                             const char *change) {
  fg_status (*const calls[])(fg_context *, const fg_problem *) = {fg_gemm, fg_prepare};
  for (int i = 0; i < 2; i++) {
    cr_expect_eq(calls[i](context, problem), expected, "level %d, %s: %s", (int)problem->level, change, fg_message());
    if (expected) cr_expect(strstr(fg_message(), says), "%s, but it must say %s", fg_message(), says);
  }
}

/* What a rung refuses, from which rung up to which, and how. fg_prepare() refuses the same, and neither comes to a launch. */
Test(host, rungs_refuse_what_they_do_not_serve) {
  use_stubs("h100,a100");
  fg_context *context = context_on(0), *older = context_on(1);
  void *memory;
  problem_in(context, &memory);
  for (int level = FG_WGMMA; level <= FG_CLUSTER; level++) {
    fg_problem problem;
#define RUNG_REFUSES(from, says, change)                                                                                         \
  do {                                                                                                                           \
    problem = rung_problem_at(memory, (fg_level)level);                                                                          \
    change;                                                                                                                      \
    expect_ends_with(context, &problem, level >= (from) ? FG_UNSUPPORTED : FG_OK, says, #change);                                \
  } while (0)
    char *bytes = memory;
    stub_fail(0, CUDA_SUCCESS, STUB_ONCE); /* counts calls from here on */
    RUNG_REFUSES(FG_WGMMA, "k is 300;", problem.k = 300);
    RUNG_REFUSES(FG_WGMMA, "b.scaling is 1;", problem.b.scaling = FG_1X128);
    RUNG_REFUSES(FG_WGMMA, "kind is 1;", problem.kind = FG_BATCHED; problem.groups = 1);
    RUNG_REFUSES(FG_WGMMA, "a.ld is 312 bytes; the copy engine takes a multiple of 16", problem.a.ld = 312);
    RUNG_REFUSES(FG_WGMMA, "b.ld is 305 bytes", problem.b.ld = 305);
    RUNG_REFUSES(FG_WGMMA, "a.data is ", problem.a.data = bytes + 8);
    RUNG_REFUSES(FG_WGMMA, "b.data is ", problem.b.data = bytes + 200001);
    cr_expect_eq(stub_calls(), 0, "%d calls of the driver", stub_calls());
    RUNG_REFUSES(FG_TMA, "a.scale_layout is 0; level ", problem.a.scale_layout = FG_BLOCKS_CONTIGUOUS);
    RUNG_REFUSES(FG_TMA, "a.scale is ", problem.a.scale = (float *)(void *)(bytes + 100004));
    RUNG_REFUSES(FG_TMA, "a.scale_ld is 404 bytes; the copy engine takes a multiple of 16", problem.a.scale_ld = 101);
    RUNG_REFUSES(FG_CLUSTER, "c.data is ", problem.c.data = bytes + 600000);
    RUNG_REFUSES(FG_CLUSTER, "bias.data is ", problem.bias.data = bytes + 600000);
    RUNG_REFUSES(FG_CLUSTER, "d.ld is 402 bytes; the copy engine takes a multiple of 16", problem.d.ld = 201);
    RUNG_REFUSES(FG_CLUSTER, "d.data is ", problem.d.data = bytes + 400002);
    problem = rung_problem_at(memory, (fg_level)level);
    cr_expect_eq(fg_gemm(older, &problem), FG_UNSUPPORTED);
    cr_expect(strstr(fg_message(), "needs a Hopper GPU (sm_90a)"), "%s", fg_message());
    cr_expect_eq(fg_prepare(older, &problem), FG_UNSUPPORTED);
  }
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  fg_context_destroy(older);
  expect_nothing_left();
}

/* --- Level full */

/* A way for each bit of `at`: order, cluster, scaling of B, whether the copy engine can bring A's scales, B's, and whether it is dependent. */
static fg_problem full_problem_at(void *memory, int at, fg_plan *wish) {
  fg_problem problem = rung_problem_at(memory, FG_FULL);
  bool is_swapped = at & 1;
  *wish = (fg_plan){.order = is_swapped ? FG_B_BY_A : FG_A_BY_B,
                    .block_m = is_swapped ? 40 : 128,
                    .block_n = is_swapped ? 64
                               : at / 64  ? 176
                                          : 96,
                    .cluster = at & 2 ? (is_swapped ? 5 : 2) : 1};
  problem.plan = wish;
  problem.k = RUNG_K - 3;
  problem.b.scaling = at & 4 ? FG_1X128 : FG_128X128;
  problem.b.scale_layout = at & 4 ? FG_ROWS_CONTIGUOUS : FG_BLOCKS_CONTIGUOUS;
  problem.a.ld = 320, problem.b.ld = 336, problem.d.ld = 211;
  problem.a.scale_ld = at & 8 ? 108 : 101;
  problem.b.scale_ld = at & 4 ? 204 : 3;
  if (!(at & 16)) problem.b.scale++;
  problem.flags = at & 32 ? FG_DEPENDENT_LAUNCH : 0;
  return problem;
}

Test(host, full_is_launched_with_its_maps) {
  use_stubs("h100");
  fg_context *context = context_on(0);
  void *memory;
  problem_in(context, &memory);
  const unsigned bytes = CU_TENSOR_MAP_DATA_TYPE_UINT8, floats = CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  const unsigned swizzled = CU_TENSOR_MAP_SWIZZLE_128B, plain = CU_TENSOR_MAP_SWIZZLE_NONE;
  fg_gpu gpu;
  cr_assert_eq(fg_context_gpu(context, &gpu), FG_OK);
  for (int at = 0; at < 128; at++) {
    fg_plan wish, plan;
    struct stub_launch launch;
    fg_problem problem = full_problem_at(memory, at, &wish);
    cr_assert_eq(fg_plan_make(&gpu, &problem, &plan), FG_OK, "%s", fg_message());
    cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    cr_assert(stub_launched(at, &launch));
    cr_expect_eq(stub_launches(), at + 1);
    cr_expect_str_eq(launch.kernel, at & 1 ? "swapped" : "full");
    cr_expect(launch.grid[0] == (unsigned)plan.blocks && launch.block[0] == (unsigned)plan.threads);
    cr_expect_eq(launch.shared_bytes, (unsigned)plan.shared_bytes);
    cr_expect_eq(launch.cluster[0], wish.cluster > 1 ? (unsigned)wish.cluster : 0);
    cr_expect_eq(launch.programmatic, (at & 32) != 0);
    struct fg_args args = launched_with(at);
    uint32_t m = (uint32_t)wish.block_m, n = (uint32_t)wish.block_n, cluster = (uint32_t)wish.cluster, n_part = n;
    uint32_t tiles = (M + m - 1) / m, step = wish.order == FG_A_BY_B ? 16 : 8;
    if (wish.order == FG_A_BY_B && m < n) tiles = (tiles + cluster - 1) / cluster * cluster, n_part /= cluster;
    if (tiles == 1 && wish.order == FG_A_BY_B) step = m >= n && cluster > 1 ? 8 * cluster : 1;
    uint32_t m_part = step;
    while (m_part * tiles < M) m_part += step; /* as few rows as will do */
    cr_expect_eq(args.tile_rows, (int)m_part);
    uint32_t scale_rows = (m_part + 3) / 4 * 4;
    if (wish.order == FG_A_BY_B && m >= n) m_part /= cluster; /* the larger comes in parts */
    uint64_t k = (uint64_t)problem.k;
    expect_tensor(&args.a_map, problem.a.data, (uint64_t[]){k, M, 1}, 320, (uint32_t[]){128, m_part, 1}, bytes, swizzled);
    expect_tensor(&args.b_map, problem.b.data, (uint64_t[]){k, N, 1}, 336, (uint32_t[]){128, n_part, 1}, bytes, swizzled);
    bool is_1x128 = at & 4, by_tma = at & 8 && (at & 16 || !is_1x128);
    cr_expect_eq(has_map(&args.a_scale_map), by_tma);
    cr_expect_eq(has_map(&args.b_scale_map), by_tma && is_1x128);
    cr_expect(!has_map(&args.d_map));
    if (has_map(&args.a_scale_map))
      expect_tensor(&args.a_scale_map, problem.a.scale, (uint64_t[]){M, 3, 1}, 108 * 4, (uint32_t[]){scale_rows, 1, 1}, floats,
                    plain);
    if (has_map(&args.b_scale_map))
      expect_tensor(&args.b_scale_map, problem.b.scale, (uint64_t[]){N, 3, 1}, 204 * 4, (uint32_t[]){n, 1, 1}, floats, plain);
    cr_expect(args.m == M && args.n == N && args.k == problem.k && args.d.ld == 211 && args.a_scale.data == problem.a.scale);
    cr_expect(args.a_scale.row_shift == 0 && args.a_scale.row_stride == 1 && args.a_scale.block_stride == problem.a.scale_ld);
    cr_expect(args.b_scale.row_shift == (is_1x128 ? 0 : 7) && args.b_scale.row_stride == (is_1x128 ? 1 : 3) &&
              args.b_scale.block_stride == (is_1x128 ? 204 : 1));
  }
  /* Without K there is nothing to fetch, and without rows nothing to do. */
  for (int order = FG_A_BY_B; order <= FG_B_BY_A; order++) {
    fg_plan wish;
    fg_problem problem = full_problem_at(memory, order - FG_A_BY_B, &wish);
    int launches = stub_launches();
    problem.k = 0, problem.a.data = problem.b.data = NULL, problem.a.scale = problem.b.scale = NULL;
    cr_expect_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    cr_expect_eq(stub_launches(), launches + 1);
    struct fg_args args = launched_with(launches);
    cr_expect(!has_map(&args.a_map) && !has_map(&args.b_map) && !has_map(&args.a_scale_map) && !has_map(&args.b_scale_map));
    problem = full_problem_at(memory, order - FG_A_BY_B, &wish);
    problem.m = 0;
    cr_expect_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    cr_expect_eq(stub_launches(), launches + 1);
  }
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  expect_nothing_left();
}

/* D leaves by the copy engine where its type has 16 bits and it lies as that wants, in boxes that tiles are made of. */
Test(host, full_stores_what_the_copy_engine_can) {
  use_stubs("h100");
  fg_context *context = context_on(0);
  void *memory;
  problem_in(context, &memory);
  static const struct {
    int block_n;
    uint32_t cols;
    unsigned swizzle;
  } tiles[] = {{128, 64, CU_TENSOR_MAP_SWIZZLE_128B}, {192, 64, CU_TENSOR_MAP_SWIZZLE_128B}, {96, 32, CU_TENSOR_MAP_SWIZZLE_64B},
               {160, 32, CU_TENSOR_MAP_SWIZZLE_64B},  {176, 16, CU_TENSOR_MAP_SWIZZLE_32B},  {16, 16, CU_TENSOR_MAP_SWIZZLE_32B}};
  for (int at = 0; at < 6 * 6; at++) { /* the last with B's rows the tensor core's: its threads store D */
    bool is_bf16 = at % 2, is_stored = at / 6 < 2, is_swapped = at / 6 == 5;
    fg_plan wish;
    fg_problem problem = full_problem_at(memory, 8 + is_swapped, &wish);
    if (!is_swapped) wish.block_n = tiles[at % 6].block_n;
    problem.d.type = is_bf16 ? FG_BF16 : FG_FP16, problem.d.ld = 208, problem.n = 200;
    if (at / 6 == 1) problem.m = 7;
    if (at / 6 == 2) problem.d.type = FG_FP32;
    if (at / 6 == 3) problem.d.data = (char *)problem.d.data + 2;
    if (at / 6 == 4) problem.n = 199;
    cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    struct fg_args args = launched_with(stub_launches() - 1);
    cr_expect_eq(has_map(&args.d_map), is_stored, "case %d", at);
    if (is_stored)
      expect_tensor(&args.d_map, problem.d.data, (uint64_t[]){200, (uint64_t)problem.m, 1}, 416,
                    (uint32_t[]){tiles[at % 6].cols, 16, 1},
                    is_bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, tiles[at % 6].swizzle);
  }
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  expect_nothing_left();
}

/* A kernel for each way that D is written; whatever is bare of these is the same. */
Test(host, full_has_a_kernel_for_what_it_is_given) {
  use_stubs("h100");
  enum { COMPILES = 2 * 3 }; /* FP32 is written in the way that serves all */
  for (int order = FG_A_BY_B; order <= FG_B_BY_A; order++) {
    fg_context *context = context_on(0);
    void *memory;
    problem_in(context, &memory);
    int before = stub_compiles();
    for (int at = 0; at < 48; at++) {
      fg_plan wish;
      fg_problem problem = full_problem_at(memory, 8 + order - FG_A_BY_B, &wish);
      problem.m = at < 24 ? M : M - 1;
      problem.d.type = (fg_type[]){FG_BF16, FG_FP16, FG_FP32}[at % 3];
      problem.d.ld = 208;
      if (at & 1) problem.a.scale_ld = 101;
      if (at / 6 % 4 == 1) problem.d.ld = 209; /* each of these takes the way that serves all */
      if (at / 6 % 4 == 2) problem.n = 203;
      if (at / 6 % 4 == 3) problem.bias.data = (char *)memory + 600000;
      cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    }
    cr_expect_eq(stub_compiles() - before, COMPILES, "order %d: %d", order, stub_compiles() - before);
    cr_expect_eq(fg_memory_free(context, memory), FG_OK);
    fg_context_destroy(context);
  }
  expect_nothing_left();
}

/* None of it comes to the driver, but what follows no pointer. */
Test(host, full_refuses_what_it_does_not_serve) {
  use_stubs("h100,a100");
  fg_context *context = context_on(0), *older = context_on(1);
  void *memory;
  problem_in(context, &memory);
  char *bytes = memory;
  for (int order = FG_A_BY_B; order <= FG_B_BY_A; order++) {
    fg_plan wish;
    fg_problem problem;
#define FULL_REFUSES(says, change)                                                                                               \
  do {                                                                                                                           \
    problem = full_problem_at(memory, order - FG_A_BY_B, &wish);                                                                 \
    change;                                                                                                                      \
    expect_ends_with(context, &problem, FG_UNSUPPORTED, says, #change);                                                          \
  } while (0)
    stub_fail(0, CUDA_SUCCESS, STUB_ONCE); /* counts calls from here on */
    FULL_REFUSES("a.data is ", problem.a.data = bytes + 8);
    FULL_REFUSES("b.data is ", problem.b.data = bytes + 200001);
    FULL_REFUSES("a.ld is 312 bytes; the copy engine takes a multiple of 16", problem.a.ld = 312);
    FULL_REFUSES("b.ld is 305 bytes", problem.b.ld = 305);
    FULL_REFUSES("kind is 1;", problem.kind = FG_BATCHED; problem.groups = 1);
    FULL_REFUSES("a.scaling is 3;", problem.a.scaling = FG_TENSOR);
    FULL_REFUSES("b.scaling is 3;", problem.b.scaling = FG_TENSOR);
    FULL_REFUSES("split_k is 9;", problem.split_k = 9);
    cr_expect_eq(stub_calls(), 0, "%d calls of the driver", stub_calls());
    problem = full_problem_at(memory, order - FG_A_BY_B, &wish);
    cr_expect_eq(fg_gemm(older, &problem), FG_UNSUPPORTED);
    cr_expect(strstr(fg_message(), "needs a Hopper GPU (sm_90a)"), "%s", fg_message());
  }
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  fg_context_destroy(older);
  expect_nothing_left();
}

/* --- Threads */

enum { THREADS = 64 };
static pthread_barrier_t together;
static fg_context *shared_context;
static void *shared_memory;

static void *multiply_together(void *failed) {
  fg_problem problem = problem_at(shared_memory);
  pthread_barrier_wait(&together);
  for (int i = 0; i < 20; i++) {
    problem.level = i % 2 ? FG_NAIVE : FG_SHARED;
    if (fg_gemm(shared_context, &problem) != FG_OK) ++*(int *)failed;
  }
  return NULL;
}

Test(host, threads_share_a_context_and_compile_once) {
  use_stubs("h100");
  stub_nvrtc_delay_us(50000);
  shared_context = context_on(0);
  cr_assert_eq(fg_memory_allocate(shared_context, BYTES, &shared_memory), FG_OK);
  pthread_t threads[THREADS];
  int failed[THREADS] = {0};
  pthread_barrier_init(&together, NULL, THREADS);
  for (int t = 0; t < THREADS; t++) cr_assert_eq(pthread_create(&threads[t], NULL, multiply_together, &failed[t]), 0);
  for (int t = 0; t < THREADS; t++) {
    pthread_join(threads[t], NULL);
    cr_expect_eq(failed[t], 0);
  }
  cr_expect_eq(stub_compiles(), 2, "two kernels, %d compiles", stub_compiles());
  cr_expect_eq(stub_launches(), THREADS * 20);
  cr_expect_eq(fg_memory_free(shared_context, shared_memory), FG_OK);
  fg_context_destroy(shared_context);
  expect_nothing_left();
}

Test(host, contexts_share_what_is_compiled) {
  use_stubs("h100,h100");
  for (int i = 0; i < 4; i++) {
    fg_context *context = context_on(i % 2);
    void *memory;
    fg_problem problem = problem_in(context, &memory);
    cr_expect_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    cr_expect_eq(fg_memory_free(context, memory), FG_OK);
    fg_context_destroy(context);
  }
  cr_expect_eq(stub_compiles(), 1);
  cr_expect_eq(stub_live().libraries, 1);
  expect_nothing_left();
}

/* --- Whatever fails. Each case runs in a child: what a process has loaded stays. */

struct failing {
  int nth;
  CUresult error;
  enum stub_failing how;
  nvrtcResult compiler; /* if the compiler is what fails */
  fg_level level;       /* 0: shared */
};

/* The whole way of a problem. 0: all went well, 1: something failed in good order, 2: it did not. */
static int whole_way(const struct failing *failing) {
  use_stubs("h100");
  fg_context *context = NULL;
  fg_status statuses[6] = {FG_OK};
  void *memory = NULL;
  if (failing->compiler)
    stub_nvrtc_fail(failing->nth, failing->compiler, failing->how != STUB_ONCE);
  else
    stub_fail(failing->nth, failing->error, failing->how);
  statuses[0] = fg_context_create(&context, &(fg_context_options){.device = FG_CUDA});
  if (statuses[0] == FG_OK) statuses[1] = fg_memory_allocate(context, BYTES, &memory);
  if (memory) {
    fg_problem problem = failing->level ? rung_problem_at(memory, failing->level) : problem_at(memory);
    float zero = 0;
    statuses[2] = fg_memory_copy(context, memory, &zero, sizeof zero);
    statuses[3] = fg_gemm(context, &problem);
    statuses[4] = fg_gemm(context, &problem);
    statuses[5] = fg_memory_free(context, memory);
  }
  fg_context_destroy(context);
  int failed = 0, calls = failing->compiler ? stub_nvrtc_calls() : stub_calls();
  struct stub_live live = stub_live();
  if (live.contexts || live.pushed || live.allocations) {
    fprintf(stderr, "call %d, %s: %d contexts, %d pushed, %d allocations are left\n", failing->nth, stub_first_failed(),
            live.contexts, live.pushed, live.allocations);
    return 2;
  }
  if (stub_programs() != 0) return 2;
  for (int i = 0; i < 6; i++) {
    if (statuses[i] == FG_OK) continue;
    failed = 1;
    bool fits = statuses[i] == FG_DRIVER_ERROR || statuses[i] == FG_OUT_OF_MEMORY ||
                (statuses[i] == FG_UNSUPPORTED && (i == 0 || failing->compiler)) ||
                (statuses[i] == FG_COMPILE_ERROR && failing->compiler);
    if (!fits || !fg_message()[0]) {
      fprintf(stderr, "call %d, %s: step %d gives %s, %s\n", failing->nth, stub_first_failed(), i, fg_status_name(statuses[i]),
              fg_message());
      return 2;
    }
  }
  /* What gives back has no way to say that it failed; and not every call knows of a sticky error. */
  bool may_be_silent = !stub_first_failed()[0] || strncmp(stub_first_failed(), "cuDevicePrimaryCtxRelease", 25) == 0;
  if (!failed && calls >= failing->nth && !may_be_silent) {
    fprintf(stderr, "call %d, %s, failed and nobody heard of it\n", failing->nth, stub_first_failed());
    return 2;
  }
  return failed || calls >= failing->nth;
}

static int in_child(const struct failing *failing) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) _exit(whole_way(failing));
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}

/* Every call in turn, until there are no more. */
static int fail_each(struct failing failing) {
  int result = 1;
  for (failing.nth = 1; failing.nth < 1000 && result == 1; failing.nth++) result = in_child(&failing);
  cr_expect_eq(result, 0, "call %d failing with %d ends with %d", failing.nth - 1, (int)failing.error, result);
  return failing.nth - 2;
}

/* Once each, with nothing left. */
Test(host, timing_a_call_may_fail, .timeout = 300) {
  use_stubs("h100");
  fg_context *context = context_on(0);
  void *memory;
  fg_problem problem = problem_in(context, &memory), problems[] = {problem, problem};
  double times[7] = {-1, -1, -1, -1, -1, -1, -1};
  int allocations = stub_live().allocations, failures = 0;
  cr_assert_eq(fg_time_cold(context, problems, 2, 3, times), FG_OK, "%s", fg_message());
  for (int i = 0; i < 7; i++) cr_expect_eq(times[i] > 0, i < 6, "time %d is %g", i, times[i]);
  for (int nth = 1;; nth++) {
    double us = -1;
    stub_fail(nth, CUDA_ERROR_UNKNOWN, STUB_ONCE);
    fg_status status = fg_time_cold(context, &problem, 1, 1, &us);
    cr_assert(stub_live().pushed == 0 && stub_live().allocations == allocations, "call %d", nth);
    if (stub_calls() < nth) {
      cr_assert(status == FG_OK && us > 0, "%s", fg_message());
      break;
    }
    cr_assert_eq(status, FG_DRIVER_ERROR, "call %d, %s", nth, stub_first_failed());
    failures++;
    if (strncmp(stub_first_failed(), "cuMemset", 8) == 0) nth += 6; /* of which there are many, and each takes its time */
  }
  cr_expect_gt(failures, 12, "%d", failures);
  stub_fail(0, CUDA_SUCCESS, STUB_ONCE);
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  expect_nothing_left();
}

Test(host, every_driver_call_may_fail) {
  static const CUresult errors[] = {CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_UNKNOWN, CUDA_ERROR_CONTEXT_IS_DESTROYED};
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    for (enum stub_failing how = STUB_ONCE; how <= STUB_STICKY; how++)
      cr_expect_geq(fail_each((struct failing){.error = errors[i], .how = how}), 20);
}

/* Of these tensor maps and the attribute for shared memory are new. */
Test(host, every_driver_call_of_a_rung_may_fail) {
  static const fg_level levels[] = {FG_WGMMA, FG_CLUSTER, FG_FULL};
  for (int i = 0; i < 3; i++)
    for (enum stub_failing how = STUB_ONCE; how <= STUB_STICKY; how++)
      cr_expect_geq(fail_each((struct failing){.error = CUDA_ERROR_UNKNOWN, .how = how, .level = levels[i]}), 24);
}

Test(host, every_compiler_call_may_fail) {
  for (enum stub_failing how = STUB_ONCE; how <= STUB_FOR_EVER; how++)
    cr_expect_geq(fail_each((struct failing){.compiler = NVRTC_ERROR_OUT_OF_MEMORY, .how = how}), 5);
}

Test(host, a_failed_compile_is_tried_again) {
  use_stubs("h100");
  fg_context *context = context_on(0);
  void *memory;
  fg_problem problem = problem_in(context, &memory);
  stub_nvrtc_fail(1, NVRTC_ERROR_INTERNAL_ERROR, true);
  cr_expect(fg_gemm(context, &problem) != FG_OK);
  stub_nvrtc_fail(0, NVRTC_SUCCESS, false);
  cr_expect_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  expect_nothing_left();
}

/* --- Kernels that were compiled elsewhere */

Test(host, a_shipped_cache_needs_no_compiler) {
  use_stubs("h100");
  char folder[] = "/var/tmp/finegemm-host-XXXXXX", command[64];
  cr_assert_not_null(mkdtemp(folder));
  setenv("FG_CACHE_DIR", folder, 1);
  fg_gpu gpu = *fg_known_gpus(NULL);
  fg_kernel kernel;
  for (int i = 0; i < 2; i++) {
    cr_assert_eq(fg_precompile(&gpu, &(fg_problem){.level = FG_SHARED}, &kernel), FG_OK, "%s", fg_message());
    cr_expect_eq(kernel.was_cached, i);
  }
  cr_expect_eq(stub_calls(), 0, "compiling ahead needs no driver");
  setenv("FG_CACHE_PATH", folder, 1);
  setenv("FG_CACHE_DIR", "", 1);
  int compiles = stub_compiles();
  fg_context *context = context_on(0);
  void *memory;
  fg_problem problem = problem_in(context, &memory);
  cr_expect_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
  cr_expect_eq(stub_compiles(), compiles);
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  expect_nothing_left();
  int count;
  cr_expect_eq(fg_cache_empty(folder, &count), FG_OK, "%s", fg_message());
  cr_expect_eq(count, 1);
  snprintf(command, sizeof command, "%s", folder);
  cr_expect_eq(rmdir(command), 0);
}

/* A list of problems, compiled ahead; then all are there. */
Test(host, full_takes_what_was_compiled_ahead) {
  enum { WAYS = 32 };
  use_stubs("h100");
  char folder[] = "/var/tmp/finegemm-host-XXXXXX";
  cr_assert_not_null(mkdtemp(folder));
  setenv("FG_CACHE_DIR", folder, 1);
  fg_context *context = context_on(0);
  void *memory;
  problem_in(context, &memory);
  int count, distinct = 0;
  for (int time = 0; time < 2; time++)
    for (int at = 0; at < WAYS; at++) {
      fg_plan wish;
      fg_kernel kernel;
      fg_problem problem = full_problem_at(memory, at, &wish);
      cr_assert_eq(fg_precompile(fg_known_gpus(NULL), &problem, &kernel), FG_OK, "%s", fg_message());
      cr_expect_str_eq(kernel.source, at & 1 ? "gpu/kernels/swapped.cu" : "gpu/kernels/full.cu");
      cr_expect(strstr(kernel.defines, at & 4 ? "B_1X128=1 SCALES_BY_TMA=" : "B_1X128=0 SCALES_BY_TMA="), "%s", kernel.defines);
      cr_expect(strstr(kernel.defines, "D_TYPE=0"), "%s", kernel.defines); /* as d.ld is odd */
      if (!kernel.was_cached) distinct++;
      if (time == 1) cr_expect_eq(kernel.was_cached, 1);
    }
  /* By order, cluster, scaling of B and who brings the scales. */
  int compiles = stub_compiles();
  cr_expect(distinct == 16 && compiles == distinct, "%d kernels, %d compiled", distinct, compiles);
  for (int at = 0; at < WAYS; at++) {
    fg_plan wish;
    fg_problem problem = full_problem_at(memory, at, &wish);
    cr_expect_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
  }
  cr_expect_eq(stub_compiles(), compiles);
  cr_expect_eq(fg_memory_free(context, memory), FG_OK);
  fg_context_destroy(context);
  expect_nothing_left();
  cr_expect_eq(fg_cache_empty(folder, &count), FG_OK, "%s", fg_message());
  cr_expect_eq(count, distinct);
  cr_expect_eq(rmdir(folder), 0);
}
