#include "gpu_memory.h"
#include "finegemm_kernels.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void gpu_must(CUresult result, const char *call) {
  const char *name = NULL;
  if (result == CUDA_SUCCESS) return;
  fg_driver()->cuGetErrorName(result, &name);
  cr_assert_fail("%s gives %s", call, name ? name : "an unknown error");
}

void gpu_do_without(const char *why) {
  if (getenv("FG_REQUIRE_GPU")) cr_assert_fail("FG_REQUIRE_GPU is set, but %s", why);
  fprintf(stderr, "skipped: %s\n", why); /* where Criterion keeps silent */
  cr_skip_test("%s", why);
}

fg_context *gpu_context(void) {
  setenv("FG_CACHE_DIR", "", 0); /* the user's cache is not for tests */
  fg_context *context = NULL;
  fg_status status = fg_context_create(&context, &(fg_context_options){.device = FG_CUDA});
  if (status == FG_UNSUPPORTED) gpu_do_without(fg_message());
  cr_assert_eq(status, FG_OK, "%s", fg_message());
  status = fg_prepare(context, &(fg_problem){.m = 0});
  if (status == FG_UNSUPPORTED) gpu_do_without(fg_message());
  cr_assert_eq(status, FG_OK, "%s", fg_message());
  return context;
}

uint64_t gpu_cases(uint64_t count) {
  const char *chosen = getenv("FG_GPU_CASES");
  uint64_t most = chosen ? strtoull(chosen, NULL, 10) : count;
  return most < count ? most : count;
}

void *gpu_driver_function(const char *name) {
  const char *chosen = getenv("FG_CUDA_DRIVER");
  void *library = dlopen(chosen && *chosen ? chosen : "libcuda.so.1", RTLD_NOW);
  void *function = library ? dlsym(library, name) : NULL;
  cr_assert_not_null(function, "%s", dlerror());
  return function;
}

static CUdevice device_of(int ordinal) {
  CUdevice device;
  GPU_MUST(fg_driver()->cuDeviceGet(&device, ordinal));
  return device;
}

void gpu_enter(int ordinal) {
  CUcontext primary;
  GPU_MUST(fg_driver()->cuDevicePrimaryCtxRetain(&primary, device_of(ordinal)));
  GPU_MUST(fg_driver()->cuDevicePrimaryCtxRelease(device_of(ordinal)));
  GPU_MUST(fg_driver()->cuCtxPushCurrent(primary));
}

void gpu_leave(void) {
  CUcontext popped;
  GPU_MUST(fg_driver()->cuCtxPopCurrent(&popped));
}

struct gpu_streams gpu_streams_make(void) {
  struct gpu_streams streams = {.at = {NULL, CU_STREAM_PER_THREAD}};
  gpu_enter(0);
  for (int i = 2; i < GPU_STREAMS; i++)
    GPU_MUST(fg_driver()->cuStreamCreate(&streams.at[i], i == 2 ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING));
  gpu_leave();
  return streams;
}

void gpu_streams_free(struct gpu_streams *streams) {
  gpu_enter(0);
  for (int i = 2; i < GPU_STREAMS; i++) GPU_MUST(fg_driver()->cuStreamDestroy(streams->at[i]));
  gpu_leave();
}

void gpu_wait(CUstream stream) {
  gpu_enter(0);
  GPU_MUST(fg_driver()->cuStreamSynchronize(stream));
  gpu_leave();
}

/* --- Arrays */

enum { A, A_SCALE, B, B_SCALE, C, BIAS, GROUP_VALUES, D, ARRAYS = GPU_ARRAYS };
enum { GUARD_BYTES = 4096, GUARD = 0xFF }; /* a NaN in every type, and none that a kernel writes */
static const size_t edge_bytes = GPU_EDGE_BYTES;

struct gpu_memory *gpu_memory_make(fg_context *context, size_t arena_bytes) {
  struct gpu_memory *memory = calloc(1, sizeof *memory);
  *memory = (struct gpu_memory){.context = context, .arena_bytes = arena_bytes};
  void *arena;
  cr_assert_eq(fg_memory_allocate(context, arena_bytes, &arena), FG_OK, "%s", fg_message());
  memory->arena = arena;
  memory->image = malloc(arena_bytes);
  memory->after = malloc(arena_bytes);
  cr_assert(memory->image && memory->after);
  return memory;
}

static size_t page_bytes(CUmemAllocationProp *properties) {
  size_t bytes = 0;
  *properties = (CUmemAllocationProp){.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device_of(0)}};
  GPU_MUST(fg_driver()->cuMemGetAllocationGranularity(&bytes, properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
  return bytes;
}

/* From one array's edges to the next one's. */
static size_t edge_stride(void) {
  CUmemAllocationProp properties;
  return edge_bytes + page_bytes(&properties);
}

/* One stretch of addresses: a page that is not mapped, then for each array its memory and another such page. */
static void make_edges(struct gpu_memory *memory) {
  const struct fg_driver *driver = fg_driver();
  gpu_enter(0);
  CUmemAllocationProp properties;
  size_t page = page_bytes(&properties), stride = edge_stride();
  cr_assert_eq(edge_bytes % page, 0);
  GPU_MUST(driver->cuMemAddressReserve(&memory->edges, page + ARRAYS * stride, 0, 0, 0));
  for (size_t i = 0; i < ARRAYS; i++) {
    CUdeviceptr begin = memory->edges + page + i * stride;
    CUmemAccessDesc access = {.location = properties.location, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    GPU_MUST(driver->cuMemCreate(&memory->edge_memory[i], edge_bytes, &properties, 0));
    GPU_MUST(driver->cuMemMap(begin, edge_bytes, 0, memory->edge_memory[i], 0));
    GPU_MUST(driver->cuMemSetAccess(begin, edge_bytes, &access, 1));
  }
  gpu_leave();
}

static void free_edges(struct gpu_memory *memory) {
  const struct fg_driver *driver = fg_driver();
  if (!memory->edges) return;
  gpu_enter(0);
  CUmemAllocationProp properties;
  size_t page = page_bytes(&properties), stride = edge_stride();
  GPU_MUST(driver->cuCtxSynchronize());
  for (size_t i = 0; i < ARRAYS; i++) {
    GPU_MUST(driver->cuMemUnmap(memory->edges + page + i * stride, edge_bytes));
    GPU_MUST(driver->cuMemRelease(memory->edge_memory[i]));
  }
  GPU_MUST(driver->cuMemAddressFree(memory->edges, page + ARRAYS * stride));
  gpu_leave();
}

void gpu_memory_free(struct gpu_memory *memory) {
  free_edges(memory);
  cr_assert_eq(fg_memory_free(memory->context, memory->arena), FG_OK, "%s", fg_message());
  free(memory->image);
  free(memory->after);
  free(memory);
}

/* Arrays one after another with guards between, aligned as they must be and no more, but for one in four. */
static void place_between_guards(struct gpu_memory *memory, uint64_t seed) {
  size_t end = GUARD_BYTES;
  for (int i = 0; i < ARRAYS; i++) {
    struct gpu_array *array = &memory->arrays[i];
    size_t shift = array->grain_bytes * (size_t)random_below(&seed, 256);
    array->offset = (end + 255) / 256 * 256 + (random_below(&seed, 4) ? shift : 0);
    end = array->offset + array->host.bytes + GUARD_BYTES;
  }
  cr_assert_leq(end, memory->arena_bytes);
  memory->image_bytes = end;
  memset(memory->image, GUARD, end);
  for (int i = 0; i < ARRAYS; i++) {
    struct gpu_array *array = &memory->arrays[i];
    array->device = memory->arena + array->offset;
    if (array->host.bytes) memcpy(memory->image + array->offset, array->host.data, array->host.bytes);
  }
  cr_assert_eq(fg_memory_copy(memory->context, memory->arena, memory->image, end), FG_OK, "%s", fg_message());
}

static void place_at_the_edge(struct gpu_memory *memory, bool at_end) {
  if (!memory->edges) make_edges(memory);
  size_t stride = edge_stride(), page = stride - edge_bytes;
  for (size_t i = 0; i < ARRAYS; i++) {
    struct gpu_array *array = &memory->arrays[i];
    cr_assert_leq(array->host.bytes, edge_bytes);
    array->device = (unsigned char *)(memory->edges + page + i * stride) + (at_end ? edge_bytes - array->host.bytes : 0);
    if (!array->host.bytes) continue;
    cr_assert_eq(fg_memory_copy(memory->context, array->device, array->host.data, array->host.bytes), FG_OK, "%s", fg_message());
  }
}

fg_problem gpu_place(struct gpu_memory *memory, const struct problem *problem, enum placement placement) {
  const struct region *const hosts[ARRAYS] = {[A] = &problem->a,
                                              [A_SCALE] = &problem->a_scale,
                                              [B] = &problem->b,
                                              [B_SCALE] = &problem->b_scale,
                                              [C] = &problem->c,
                                              [BIAS] = &problem->bias,
                                              [GROUP_VALUES] = &problem->values,
                                              [D] = &problem->d};
  const struct spec *spec = &problem->spec;
  enum { COPIED_BYTES = 16 };
  size_t factor_bytes = spec->copied & COPIES_FACTORS ? COPIED_BYTES : 1;
  size_t scale_bytes = spec->copied & COPIES_SCALES ? COPIED_BYTES : sizeof(float);
  const size_t grain_bytes[ARRAYS] = {[A] = factor_bytes,
                                      [A_SCALE] = spec->a_scaling == FG_1X128 ? scale_bytes : sizeof(float),
                                      [B] = factor_bytes,
                                      [B_SCALE] = spec->b_scaling == FG_1X128 ? scale_bytes : sizeof(float),
                                      [C] = bytes_of(spec->c_type),
                                      [BIAS] = bytes_of(spec->bias_type),
                                      [GROUP_VALUES] = spec->group_type == FG_INT64 ? 8 : 4,
                                      [D] = spec->copied & COPIES_D ? COPIED_BYTES : bytes_of(spec->d_type)};
  memory->placement = placement;
  for (int i = 0; i < ARRAYS; i++) memory->arrays[i] = (struct gpu_array){.host = *hosts[i], .grain_bytes = grain_bytes[i]};
  memory->arrays[D].host.data = problem->before;
  if (placement == BETWEEN_GUARDS)
    place_between_guards(memory, spec->seed);
  else
    place_at_the_edge(memory, spec->at_end);
  for (int i = 0; i < ARRAYS; i++)
    if (!memory->arrays[i].host.bytes) memory->arrays[i].device = NULL;
  fg_problem call = problem->call;
  call.level = FG_BEST;
  call.a.data = memory->arrays[A].device;
  call.a.scale = (const float *)(const void *)memory->arrays[A_SCALE].device;
  call.b.data = memory->arrays[B].device;
  call.b.scale = (const float *)(const void *)memory->arrays[B_SCALE].device;
  call.c.data = memory->arrays[spec->c == C_IS_D ? D : C].device;
  call.bias.data = memory->arrays[BIAS].device;
  call.group_values = memory->arrays[GROUP_VALUES].device;
  call.d.data = memory->arrays[D].device;
  return call;
}

static bool fetch_between_guards(struct gpu_memory *memory, struct problem *problem, const char *what) {
  cr_assert_eq(fg_memory_copy(memory->context, memory->after, memory->arena, memory->image_bytes), FG_OK, "%s", fg_message());
  const struct gpu_array *d = &memory->arrays[D];
  if (d->host.bytes) {
    memcpy(problem->d.data, memory->after + d->offset, d->host.bytes);
    memcpy(memory->after + d->offset, memory->image + d->offset, d->host.bytes);
  }
  if (memcmp(memory->after, memory->image, memory->image_bytes) == 0) return true;
  size_t at = 0;
  while (memory->after[at] == memory->image[at]) at++;
  int nearest = ARRAYS - 1;
  while (nearest > 0 && memory->arrays[nearest].offset > at + GUARD_BYTES) nearest--;
  case_failed(problem, "%s: the byte %lld from array %d's begin, whose bytes are %zu, changed", what,
              (long long)at - (long long)memory->arrays[nearest].offset, nearest, memory->arrays[nearest].host.bytes);
  return false;
}

static bool fetch_at_the_edge(struct gpu_memory *memory, struct problem *problem, const char *what) {
  bool kept = true;
  for (int i = 0; i < ARRAYS; i++) {
    const struct gpu_array *array = &memory->arrays[i];
    if (!array->host.bytes) continue;
    unsigned char *to = i == D ? problem->d.data : memory->after;
    if (i != D) cr_assert_leq(array->host.bytes, memory->arena_bytes);
    cr_assert_eq(fg_memory_copy(memory->context, to, array->device, array->host.bytes), FG_OK, "%s: %s", problem->text,
                 fg_message());
    if (i == D || memcmp(to, array->host.data, array->host.bytes) == 0) continue;
    case_failed(problem, "%s: array %d changed", what, i);
    kept = false;
  }
  return kept;
}

bool gpu_fetch(struct gpu_memory *memory, struct problem *problem, const char *what) {
  return memory->placement == BETWEEN_GUARDS ? fetch_between_guards(memory, problem, what)
                                             : fetch_at_the_edge(memory, problem, what);
}

bool gpu_run(struct gpu_memory *memory, struct problem *problem, const fg_problem *call, const char *what) {
  fg_status status = fg_gemm(memory->context, call);
  if (status != FG_OK) case_failed(problem, "%s: %s, %s", what, fg_status_name(status), fg_message());
  if (status == FG_OK) gpu_wait((CUstream)call->stream);
  return gpu_fetch(memory, problem, what) && status == FG_OK;
}

/* --- Captures */

const CUstreamCaptureMode gpu_capture_modes[GPU_CAPTURE_MODES] = {
    CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_RELAXED};

void gpu_begin_capture(CUstream stream, CUstreamCaptureMode mode) {
  gpu_enter(0);
  GPU_MUST(fg_driver()->cuStreamBeginCapture(stream, mode));
  gpu_leave();
}

CUgraphExec gpu_end_capture(CUstream stream) {
  CUgraph graph;
  CUgraphExec executable;
  gpu_enter(0);
  GPU_MUST(fg_driver()->cuStreamEndCapture(stream, &graph));
  GPU_MUST(fg_driver()->cuGraphInstantiate(&executable, graph, 0));
  GPU_MUST(fg_driver()->cuGraphDestroy(graph));
  gpu_leave();
  return executable;
}

void gpu_replay(CUgraphExec executable, CUstream stream) {
  gpu_enter(0);
  GPU_MUST(fg_driver()->cuGraphLaunch(executable, stream));
  GPU_MUST(fg_driver()->cuStreamSynchronize(stream));
  gpu_leave();
}

void gpu_drop(CUgraphExec executable) {
  gpu_enter(0);
  GPU_MUST(fg_driver()->cuGraphExecDestroy(executable));
  gpu_leave();
}
