/* A CUDA context: plan, kernel, launch. */
#include "gpu.h"

#include "args.h"
#include "driver.h"
#include "fail.h"
#include "loaded.h"
#include "log.h"
#include "tensor_map.h"
#include "tuned.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A kernel that can be launched in this context without loading anything. */
struct ready {
  struct ready *next;
  struct fg_kernel_id id;
  CUfunction function;
};

struct fg_gpu_context {
  const struct fg_driver *driver;
  fg_gpu gpu;
  int ordinal;
  bool is_hopper;
  int log;                /* see log.h */
  struct fg_tuned *tuned; /* the user's own plans; NULL: none */
  CUdevice device;
  CUcontext primary;
  _Atomic(struct ready *) ready; /* entries are added, never removed */
};

#define TRY(call)                                                                                                                \
  do {                                                                                                                           \
    fg_status try_status = (call);                                                                                               \
    if (try_status != FG_OK) return try_status;                                                                                  \
  } while (0)

static fg_status describe(const struct fg_driver *driver, CUdevice device, fg_gpu *gpu) {
  int major, minor;
  DRIVER(driver, cuDeviceGetName, gpu->name, (int)sizeof gpu->name, device);
  DRIVER(driver, cuDeviceGetAttribute, &major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
  DRIVER(driver, cuDeviceGetAttribute, &minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device);
  DRIVER(driver, cuDeviceGetAttribute, &gpu->sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device);
  DRIVER(driver, cuDeviceGetAttribute, &gpu->shared_bytes, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, device);
  /* From 9.0 on, what is special about a chip wants the suffix. */
  snprintf(gpu->arch, sizeof gpu->arch, "sm_%d%d%s", major, minor, major >= 9 ? "a" : "");
  return FG_OK;
}

static fg_status open_device(struct fg_gpu_context *context) {
  const struct fg_driver *driver = context->driver;
  int devices = 0;
  DRIVER(driver, cuDeviceGetCount, &devices);
  if (context->ordinal >= devices)
    return fg_fail(FG_BAD_SIZE, "ordinal is %d; this machine has %d CUDA device%s", context->ordinal, devices,
                   devices == 1 ? "" : "s");
  DRIVER(driver, cuDeviceGet, &context->device, context->ordinal);
  TRY(describe(driver, context->device, &context->gpu));
  context->is_hopper = strcmp(context->gpu.arch, "sm_90a") == 0;
  DRIVER(driver, cuDevicePrimaryCtxRetain, &context->primary, context->device);
  return FG_OK;
}

fg_status fg_gpu_open(int ordinal, struct fg_gpu_context **out) {
  const struct fg_driver *driver = fg_driver();
  if (!driver) return FG_UNSUPPORTED;
  struct fg_gpu_context *context = calloc(1, sizeof *context);
  if (!context) return fg_fail(FG_OUT_OF_MEMORY, "no memory for a context of %zu bytes", sizeof *context);
  context->driver = driver;
  context->ordinal = ordinal;
  fg_status status = open_device(context);
  if (status != FG_OK) {
    free(context);
    return status;
  }
  context->log = fg_log_open();
  status = fg_tuned_load_own(&context->tuned);
  if (status == FG_OUT_OF_MEMORY) {
    fg_gpu_close(context);
    return status;
  }
  if (status != FG_OK) fg_log_ignored(context->log, fg_message());
  *out = context;
  return FG_OK;
}

void fg_gpu_close(struct fg_gpu_context *context) {
  if (!context) return;
  for (struct ready *ready = atomic_load(&context->ready), *next; ready; ready = next) {
    next = ready->next;
    free(ready);
  }
  context->driver->cuDevicePrimaryCtxRelease(context->device);
  fg_log_close(context->log);
  fg_tuned_free(context->tuned);
  free(context);
}

const fg_gpu *fg_gpu_of(const struct fg_gpu_context *context) { return &context->gpu; }

/* The device's context becomes the thread's, until leave() gives the caller's back. */
static fg_status enter(const struct fg_gpu_context *context) {
  DRIVER(context->driver, cuCtxPushCurrent, context->primary);
  return FG_OK;
}

static fg_status leave(const struct fg_gpu_context *context, fg_status status) {
  CUcontext popped;
  CUresult error = context->driver->cuCtxPopCurrent(&popped);
  return status != FG_OK || error == CUDA_SUCCESS ? status : fg_driver_fail("cuCtxPopCurrent", error);
}

fg_status fg_gpu_within(struct fg_gpu_context *context, fg_gpu_task *task, void *state) {
  TRY(enter(context));
  return leave(context, task(context->driver, state));
}

/* --- Memory */

static fg_status check_pointer(const struct fg_gpu_context *context, const char *name, const void *pointer) {
  unsigned type = 0, is_managed = 0;
  int ordinal = -1;
  CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                      CU_POINTER_ATTRIBUTE_IS_MANAGED};
  void *values[] = {&type, &ordinal, &is_managed};
  DRIVER(context->driver, cuPointerGetAttributes, 3, attributes, values, (CUdeviceptr)(uintptr_t)pointer);
  if (type == CU_MEMORYTYPE_HOST || is_managed) return FG_OK; /* page-locked, or wherever it is needed */
  if (type != CU_MEMORYTYPE_DEVICE)
    return fg_fail(FG_BAD_MEMORY, "%s is %p, which is host memory; in a CUDA context it must be memory of device %d", name,
                   pointer, context->ordinal);
  if (ordinal != context->ordinal)
    return fg_fail(FG_BAD_MEMORY, "%s is %p, which is memory of device %d; the context's device is %d", name, pointer, ordinal,
                   context->ordinal);
  return FG_OK;
}

/* Of a problem with elements of D. What has no elements may point anywhere. */
static fg_status check_pointers(const struct fg_gpu_context *context, const fg_problem *full) {
  bool is_grouped = full->kind != FG_DENSE && full->kind != FG_BATCHED;
  bool has_values = is_grouped && (full->groups > 0 || full->group_by == FG_BY_INDEX), has_b = full->k > 0 && full->groups > 0;
  const struct {
    const char *name;
    const void *pointer;
    bool is_used;
  } pointers[] = {
      {"a.data", full->a.data, full->k > 0},  {"a.scale", full->a.scale, full->k > 0},
      {"b.data", full->b.data, has_b},        {"b.scale", full->b.scale, has_b},
      {"c.data", full->c.data, full->c.data}, {"bias.data", full->bias.data, full->bias.data},
      {"d.data", full->d.data, true},         {"group_values", full->group_values, has_values},
  };
  for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++)
    if (pointers[i].is_used) TRY(check_pointer(context, pointers[i].name, pointers[i].pointer));
  return FG_OK;
}

static fg_status allocate(const struct fg_gpu_context *context, size_t bytes, void **out) {
  CUdeviceptr pointer = 0;
  DRIVER(context->driver, cuMemAlloc, &pointer, bytes ? bytes : 1);
  *out = (void *)(uintptr_t)pointer;
  return FG_OK;
}

static fg_status release(const struct fg_gpu_context *context, void *pointer) {
  DRIVER(context->driver, cuMemFree, (CUdeviceptr)(uintptr_t)pointer);
  return FG_OK;
}

static fg_status copy(const struct fg_gpu_context *context, void *to, const void *from, size_t bytes) {
  DRIVER(context->driver, cuMemcpy, (CUdeviceptr)(uintptr_t)to, (CUdeviceptr)(uintptr_t)from, bytes);
  DRIVER(context->driver, cuStreamSynchronize, NULL); /* within the device, cuMemcpy() does not wait */
  return FG_OK;
}

fg_status fg_gpu_allocate(struct fg_gpu_context *context, size_t bytes, void **out) {
  TRY(enter(context));
  return leave(context, allocate(context, bytes, out));
}

fg_status fg_gpu_free(struct fg_gpu_context *context, void *pointer) {
  TRY(enter(context));
  return leave(context, release(context, pointer));
}

fg_status fg_gpu_copy(struct fg_gpu_context *context, void *to, const void *from, size_t bytes) {
  TRY(enter(context));
  return leave(context, copy(context, to, from, bytes));
}

/* --- Kernels */

static const struct ready *find_ready(const struct fg_gpu_context *context, const struct fg_kernel_id *id) {
  const struct ready *ready = atomic_load_explicit(&context->ready, memory_order_acquire);
  while (ready && memcmp(&ready->id, id, sizeof *id) != 0) ready = ready->next;
  return ready;
}

/* Loads the kernel into this context. */
static fg_status make_ready(struct fg_gpu_context *context, const struct fg_kernel_id *id, CUfunction *function) {
  enum { WITHOUT_ASKING = 48 << 10 };
  CUkernel kernel;
  int64_t began_us = fg_log_clock_us();
  TRY(fg_kernel_load(context->driver, context->gpu.arch, id, &kernel));
  if (id->shared_bytes > WITHOUT_ASKING)
    DRIVER(context->driver, cuKernelSetAttribute, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, id->shared_bytes, kernel,
           context->device);
  DRIVER(context->driver, cuKernelGetFunction, function, kernel);
  fg_log_kernel(context->log, context->gpu.arch, id, fg_log_clock_us() - began_us);
  struct ready *ready = malloc(sizeof *ready);
  if (!ready) return fg_fail(FG_OUT_OF_MEMORY, "no memory for %zu bytes", sizeof *ready);
  *ready = (struct ready){.next = atomic_load(&context->ready), .id = *id, .function = *function};
  while (!atomic_compare_exchange_weak(&context->ready, &ready->next, ready)) {
  }
  return FG_OK;
}

static fg_status find_function(struct fg_gpu_context *context, const fg_problem *full, const fg_plan *plan,
                               CUfunction *function) {
  struct fg_kernel_id id = fg_kernel_id_of(plan, full);
  const struct ready *ready = find_ready(context, &id);
  if (ready) {
    *function = ready->function;
    return FG_OK;
  }
  CUstreamCaptureStatus capture;
  DRIVER(context->driver, cuStreamIsCapturing, (CUstream)full->stream, &capture);
  if (capture != CU_STREAM_CAPTURE_STATUS_NONE)
    return fg_fail(FG_NOT_PREPARED,
                   "stream is being captured, but level %s is not loaded for such a problem; call fg_prepare() before",
                   fg_kernel_name(id.level, id.order));
  return make_ready(context, &id, function);
}

/* --- Launch */

static struct fg_matrix matrix_of(const fg_operand *operand) {
  return (struct fg_matrix){operand->data, operand->ld, operand->stride};
}

static struct fg_scale_args scales_of(const fg_operand *operand) {
  struct fg_scale_args scales = {
      .data = operand->scale, .stride = operand->scale_stride, .row_shift = operand->scaling == FG_128X128 ? 7 : 0};
  if (operand->scaling == FG_TENSOR) return scales;
  bool rows_contiguous = operand->scale_layout == FG_ROWS_CONTIGUOUS;
  scales.row_stride = rows_contiguous ? 1 : operand->scale_ld;
  scales.block_stride = rows_contiguous ? operand->scale_ld : 1;
  return scales;
}

static struct fg_args args_of(const fg_problem *full, const fg_plan *plan) {
  return (struct fg_args){.m = full->m,
                          .n = full->n,
                          .k = full->k,
                          .groups = full->groups,
                          .group_align = full->group_align,
                          .group_align_reciprocal = 1.0 / (double)full->group_align,
                          .a = matrix_of(&full->a),
                          .b = matrix_of(&full->b),
                          .c = matrix_of(&full->c),
                          .bias = matrix_of(&full->bias),
                          .d = {full->d.data, full->d.ld, full->d.stride},
                          .a_scale = scales_of(&full->a),
                          .b_scale = scales_of(&full->b),
                          .group_values = full->group_values,
                          .group_by = (int)full->group_by,
                          .group_values_are_int64 = full->group_type == FG_INT64,
                          .c_type = (int)full->c.type,
                          .bias_type = (int)full->bias.type,
                          .d_type = (int)full->d.type,
                          .tile_rows = fg_plan_tile_rows(plan, full->m)};
}

_Static_assert(sizeof(struct fg_tensor_map) == sizeof(CUtensorMap), "the driver's");

/* What the tensor cores' levels copy, box by box. Level wgmma, which copies by itself, wants the same of pointers and strides. */
struct copied {
  struct fg_tensor a, b, a_scale, b_scale, d;
  bool has_factors, has_a_scale, has_b_scale, has_d;
};

/* [rows, blocks of K], rows contiguous: a block's scales of `box` rows, in pieces of 16 bytes, as scale_rows() of edge.cuh has it. */
static struct fg_tensor scales_tensor(const char *name, const fg_operand *operand, int64_t rows, int64_t blocks, int box) {
  return (struct fg_tensor){.name = name,
                            .is_scale = true,
                            .data = operand->scale,
                            .type = FG_FP32,
                            .matrices = 1,
                            .rows = blocks,
                            .cols = rows,
                            .ld = operand->scale_ld,
                            .box_rows = 1,
                            .box_cols = (box + 3) / 4 * 4};
}

static struct copied copied_by(const fg_problem *full, const fg_plan *plan) {
  enum { BLOCK_K = 128, SWIZZLE_BYTES = 128, STORED_ROWS = 64, STORED_BY_A_WARP = 16 };
  int d_bytes = full->d.type == FG_FP32 ? 4 : 2, piece = 16 / d_bytes;
  int64_t d_cols = full->n / piece * piece; /* the kernel stores what is left by itself */
  int64_t blocks = (full->k + BLOCK_K - 1) / BLOCK_K;
  bool is_full = plan->level == FG_FULL;
  struct fg_kernel_id id = fg_kernel_id_of(plan, full);
  bool scales_by_tma = is_full ? id.scales_by_tma : plan->level >= FG_TMA;
  int box_cols = is_full ? fg_plan_stored_cols(plan) : SWIZZLE_BYTES / d_bytes;
  bool stores_by_tma = is_full ? plan->order == FG_A_BY_B && id.d_type : plan->level == FG_CLUSTER;
  return (struct copied){.a = {.name = "a",
                               .data = full->a.data,
                               .type = full->a.type,
                               .matrices = 1,
                               .rows = full->m,
                               .cols = full->k,
                               .ld = full->a.ld,
                               .box_rows = fg_plan_tile_rows(plan, full->m) / fg_plan_shares_a(plan),
                               .box_cols = BLOCK_K,
                               .swizzle_bytes = SWIZZLE_BYTES},
                         .b = {.name = "b",
                               .data = full->b.data,
                               .type = full->b.type,
                               .matrices = 1,
                               .rows = full->n,
                               .cols = full->k,
                               .ld = full->b.ld,
                               .box_rows = plan->block_n / fg_plan_shares_b(plan),
                               .box_cols = BLOCK_K,
                               .swizzle_bytes = SWIZZLE_BYTES},
                         .a_scale = scales_tensor("a", &full->a, full->m, blocks, fg_plan_tile_rows(plan, full->m)),
                         .b_scale = scales_tensor("b", &full->b, full->n, blocks, plan->block_n),
                         .d = {.name = "d",
                               .data = full->d.data,
                               .type = full->d.type,
                               .matrices = 1,
                               .rows = full->m,
                               .cols = d_cols,
                               .ld = full->d.ld,
                               .box_rows = is_full ? STORED_BY_A_WARP : STORED_ROWS,
                               .box_cols = box_cols,
                               .swizzle_bytes = box_cols * d_bytes},
                         .has_factors = plan->level >= FG_WGMMA && full->k > 0,
                         .has_a_scale = scales_by_tma && full->k > 0,
                         .has_b_scale = is_full && scales_by_tma && full->b.scaling == FG_1X128 && full->k > 0,
                         .has_d = stores_by_tma && d_cols > 0};
}

static fg_status make_map(const struct fg_gpu_context *context, const struct fg_tensor *tensor, struct fg_tensor_map *to) {
  CUtensorMap map;
  TRY(fg_tensor_map(context->driver, tensor, &map));
  memcpy(to, &map, sizeof map);
  return FG_OK;
}

static fg_status make_maps(const struct fg_gpu_context *context, const struct copied *copied, struct fg_args *args) {
  if (copied->has_factors) TRY(make_map(context, &copied->a, &args->a_map));
  if (copied->has_factors) TRY(make_map(context, &copied->b, &args->b_map));
  if (copied->has_a_scale) TRY(make_map(context, &copied->a_scale, &args->a_scale_map));
  if (copied->has_b_scale) TRY(make_map(context, &copied->b_scale, &args->b_scale_map));
  if (copied->has_d) TRY(make_map(context, &copied->d, &args->d_map));
  return FG_OK;
}

static fg_status launch(struct fg_gpu_context *context, const fg_problem *full, const fg_plan *plan,
                        const struct copied *copied) {
  CUfunction function = NULL;
  struct fg_args args = args_of(full, plan);
  TRY(check_pointers(context, full));
  TRY(make_maps(context, copied, &args));
  TRY(find_function(context, full, plan, &function));
  void *parameters[] = {&args};
  CUlaunchAttribute attributes[2] = {0};
  unsigned count = 0;
  if (plan->cluster > 1) {
    attributes[count].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attributes[count].value.clusterDim.x = (unsigned)plan->cluster;
    attributes[count].value.clusterDim.y = attributes[count].value.clusterDim.z = 1;
    count++;
  }
  if (full->flags & FG_DEPENDENT_LAUNCH && context->is_hopper) {
    attributes[count].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attributes[count].value.programmaticStreamSerializationAllowed = 1;
    count++;
  }
  CUlaunchConfig config = {.gridDimX = (unsigned)plan->blocks,
                           .gridDimY = 1,
                           .gridDimZ = 1,
                           .blockDimX = (unsigned)plan->threads,
                           .blockDimY = 1,
                           .blockDimZ = 1,
                           .sharedMemBytes = (unsigned)plan->shared_bytes,
                           .hStream = (CUstream)full->stream,
                           .attrs = attributes,
                           .numAttrs = count};
  DRIVER(context->driver, cuLaunchKernelEx, &config, function, parameters, NULL);
  return FG_OK;
}

/* What a level's kernel does not take of operands. */
static fg_status check_operands(const fg_problem *full, const fg_plan *plan, const struct copied *copied) {
  if (plan->level >= FG_TMA && plan->level != FG_FULL && full->a.scale_layout != FG_ROWS_CONTIGUOUS)
    return fg_fail(FG_UNSUPPORTED, "a.scale_layout is %d; level %s copies scales whose rows are contiguous, layout %d",
                   (int)full->a.scale_layout, fg_kernel_name((int)plan->level, (int)plan->order), FG_ROWS_CONTIGUOUS);
  if (plan->level == FG_CLUSTER && (full->c.data || full->bias.data))
    return fg_fail(FG_UNSUPPORTED,
                   "%s.data is %p; level cluster stores what it has multiplied and adds nothing, so it must be NULL",
                   full->c.data ? "c" : "bias", full->c.data ? full->c.data : full->bias.data);
  if (plan->tiles == 0) return FG_OK;
  if (copied->has_factors) TRY(fg_tensor_check(&copied->a));
  if (copied->has_factors) TRY(fg_tensor_check(&copied->b));
  if (copied->has_a_scale) TRY(fg_tensor_check(&copied->a_scale));
  if (copied->has_b_scale) TRY(fg_tensor_check(&copied->b_scale));
  return copied->has_d ? fg_tensor_check(&copied->d) : FG_OK;
}

static fg_status plan_for(const struct fg_gpu_context *context, const fg_problem *full, fg_plan *plan, struct copied *copied) {
  TRY(fg_plan_full(&context->gpu, context->tuned, full, plan));
  *copied = copied_by(full, plan);
  fg_status status = check_operands(full, plan, copied);
  if (status != FG_UNSUPPORTED || !fg_plan_may_fall_back(full)) return status;
  fg_problem slower = *full;
  slower.level = FG_SHARED;
  TRY(fg_plan_full(&context->gpu, context->tuned, &slower, plan));
  *copied = copied_by(&slower, plan);
  return FG_OK;
}

fg_status fg_gpu_plan(const struct fg_gpu_context *context, const fg_problem *full, fg_plan *plan) {
  struct copied copied;
  return plan_for(context, full, plan, &copied);
}

fg_status fg_gpu_gemm(struct fg_gpu_context *context, const fg_problem *full) {
  fg_plan plan;
  struct copied copied;
  TRY(plan_for(context, full, &plan, &copied));
  fg_log_plan(context->log, full, &plan);
  if (plan.tiles == 0) return FG_OK;
  TRY(enter(context));
  return leave(context, launch(context, full, &plan, &copied));
}

static fg_status prepare(struct fg_gpu_context *context, const fg_problem *full, const fg_plan *plan) {
  CUfunction function = NULL;
  struct fg_kernel_id id = fg_kernel_id_of(plan, full);
  return find_ready(context, &id) ? FG_OK : make_ready(context, &id, &function);
}

fg_status fg_gpu_prepare(struct fg_gpu_context *context, const fg_problem *full) {
  fg_plan plan;
  struct copied copied;
  TRY(plan_for(context, full, &plan, &copied));
  TRY(enter(context));
  return leave(context, prepare(context, full, &plan));
}
