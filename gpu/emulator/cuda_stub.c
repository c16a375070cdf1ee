#include "cuda_stub.h"

#include <elf.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- What there is */

struct device {
  const char *key, *name;
  int major, minor, sms, shared_sm_kib, l2_mib, memory_gib;
};

static const struct device known_devices[] = {
    {"h100", "NVIDIA H100 80GB HBM3", 9, 0, 132, 228, 50, 80},
    {"h200", "NVIDIA H200", 9, 0, 132, 228, 50, 141},
    {"h800", "NVIDIA H800", 9, 0, 132, 228, 50, 80},
    {"h20", "NVIDIA H20", 9, 0, 78, 228, 60, 96},
    {"h100-mig", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9, 0, 16, 228, 6, 10},
    {"a100", "NVIDIA A100-SXM4-80GB", 8, 0, 108, 164, 40, 80},
    {"l4", "NVIDIA L4", 8, 9, 58, 100, 48, 24},
    {"t4", "Tesla T4", 7, 5, 40, 64, 4, 16},
    {"b200", "NVIDIA B200", 10, 0, 148, 228, 126, 180},
};

enum { MOST_DEVICES = 16, MOST_KERNELS = 16, MOST_PARAMETERS = 8, KEPT_LAUNCHES = 256, STACK = 16 };

struct CUctx_st {
  int device, retained;
};

/* A kernel in one device's context. */
struct CUfunc_st {
  struct CUkern_st *kernel;
  int device;
};

struct CUkern_st {
  struct CUlib_st *library;
  struct CUfunc_st function[MOST_DEVICES];
  char name[64];
  int parameters;
  size_t offset[MOST_PARAMETERS], bytes[MOST_PARAMETERS];
  int dynamic_shared_bytes[MOST_DEVICES]; /* as cuKernelSetAttribute says */
};

/* All things that a handle stands for, in one list. A handle that is not in it is refused. */
enum kind { MEMORY, LIBRARY, STREAM, EVENT, GRAPH, GRAPH_EXEC };

struct thing {
  enum kind kind;
  int device; /* whose context it belongs to; not of LIBRARY and GRAPH */
  struct thing *next;
};

struct memory {
  struct thing thing;
  uintptr_t begin;
  size_t bytes;
  enum stub_memory host; /* STUB_UNKNOWN: device memory, to be freed */
};

struct CUlib_st {
  struct thing thing;
  int sm; /* 90 */
  int kernels;
  struct CUkern_st kernel[MOST_KERNELS];
};

struct CUgraph_st {
  struct thing thing;
  int launches;
  struct stub_launch *launch;
};

struct CUgraphExec_st {
  struct thing thing;
  int launches;
  struct stub_launch *launch;
};

struct CUstream_st {
  struct thing thing;
  CUstreamCaptureStatus capture;
  CUstreamCaptureMode mode;
  pthread_t capturing_thread;
  CUgraph graph; /* while it is being captured */
};

struct CUevent_st {
  struct thing thing;
  int recorded; /* 0: not yet; else when, counted in calls */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct {
  bool configured;      /* the environment was read */
  pid_t initialised_by; /* 0: not yet */
  int version, devices;
  struct device device[MOST_DEVICES];
  struct CUctx_st context[MOST_DEVICES];
  size_t used_bytes[MOST_DEVICES];
  struct thing *things;
  int calls, fail_nth;
  CUresult fail_error;
  enum stub_failing fail_how;
  const char *first_failed;
  int launches;
  struct stub_launch launch[KEPT_LAUNCHES];
} stub;

static _Thread_local struct {
  int depth;
  CUcontext context[STACK];
} stack;

static void forget(struct thing *thing) {
  struct thing **at = &stub.things;
  while (*at != thing) at = &(*at)->next;
  *at = thing->next;
  if (thing->kind == MEMORY && ((struct memory *)thing)->host == STUB_UNKNOWN) {
    stub.used_bytes[thing->device] -= ((struct memory *)thing)->bytes;
    free((void *)((struct memory *)thing)->begin);
  }
  if (thing->kind == GRAPH) free(((CUgraph)thing)->launch);
  if (thing->kind == GRAPH_EXEC) free(((CUgraphExec)thing)->launch);
  if (thing->kind == STREAM && ((CUstream)thing)->graph) forget(&((CUstream)thing)->graph->thing);
  free(thing);
}

/* NULL: no memory, which here is the host's. */
static void *make(enum kind kind, size_t bytes, int device) {
  struct thing *thing = calloc(1, bytes);
  if (!thing) return NULL;
  *thing = (struct thing){kind, device, stub.things};
  stub.things = thing;
  return thing;
}

static bool is_one(const void *handle, enum kind kind) {
  for (const struct thing *thing = stub.things; thing; thing = thing->next)
    if (thing == handle) return thing->kind == kind;
  return false;
}

static struct memory *find_memory(uintptr_t address) {
  for (struct thing *thing = stub.things; thing; thing = thing->next) {
    struct memory *memory = (struct memory *)thing;
    if (thing->kind == MEMORY && address >= memory->begin && address - memory->begin < memory->bytes) return memory;
  }
  return NULL;
}

/* --- Setting it up */

static void set_devices(const char *list) {
  stub.devices = 0;
  for (const char *item = list; *item && stub.devices < MOST_DEVICES; item += strcspn(item, ","), item += *item == ',') {
    size_t length = strcspn(item, ",:");
    for (size_t i = 0; i < sizeof known_devices / sizeof known_devices[0]; i++) {
      const struct device *known = &known_devices[i];
      if (strlen(known->key) != length || strncmp(known->key, item, length) != 0) continue;
      stub.context[stub.devices].device = stub.devices;
      stub.device[stub.devices] = *known;
      if (item[length] == ':') stub.device[stub.devices].sms = atoi(item + length + 1);
      stub.devices++;
    }
  }
}

static void set_failure(int nth, CUresult error, enum stub_failing how) {
  stub.calls = 0, stub.first_failed = "";
  stub.fail_nth = nth, stub.fail_error = error, stub.fail_how = how;
}

static void configure(void) {
  const char *version = getenv("FG_STUB_VERSION"), *devices = getenv("FG_STUB_DEVICES"), *fail = getenv("FG_STUB_FAIL");
  stub.configured = true;
  stub.version = version ? atoi(version) : CUDA_VERSION;
  set_devices(devices ? devices : "h100");
  set_failure(0, CUDA_SUCCESS, STUB_ONCE);
  char *rest = NULL;
  long nth = fail ? strtol(fail, &rest, 10) : 0, error = nth && *rest == ':' ? strtol(rest + 1, &rest, 10) : 0;
  if (error)
    set_failure((int)nth, (CUresult)error,
                strcmp(rest, ":ever") == 0     ? STUB_FOR_EVER
                : strcmp(rest, ":sticky") == 0 ? STUB_STICKY
                                               : STUB_ONCE);
}

static void lock(void) {
  pthread_mutex_lock(&mutex);
  if (!stub.configured) configure();
}

static void unlock(void) { pthread_mutex_unlock(&mutex); }

void stub_reset(void) {
  lock();
  for (struct thing *thing = stub.things; thing; thing = thing->next)
    if (thing->kind == STREAM) ((CUstream)thing)->graph = NULL; /* which is in the list by itself */
  while (stub.things) forget(stub.things);
  memset(&stub, 0, sizeof stub);
  stack.depth = 0;
  configure();
  unlock();
}

void stub_version(int version) {
  lock();
  stub.version = version;
  unlock();
}

void stub_devices(const char *list) {
  lock();
  set_devices(list);
  unlock();
}

void stub_fail(int nth, CUresult error, enum stub_failing how) {
  lock();
  set_failure(nth, error, how);
  unlock();
}

int stub_calls(void) {
  lock();
  int calls = stub.calls;
  unlock();
  return calls;
}

const char *stub_first_failed(void) {
  lock();
  const char *function = stub.first_failed;
  unlock();
  return function;
}

struct stub_live stub_live(void) {
  lock();
  struct stub_live live = {.pushed = stack.depth};
  for (int i = 0; i < stub.devices; i++) live.contexts += stub.context[i].retained;
  for (const struct thing *thing = stub.things; thing; thing = thing->next) {
    live.allocations += thing->kind == MEMORY && ((const struct memory *)thing)->host == STUB_UNKNOWN;
    live.libraries += thing->kind == LIBRARY;
    live.streams += thing->kind == STREAM;
    live.events += thing->kind == EVENT;
    live.graphs += thing->kind == GRAPH || thing->kind == GRAPH_EXEC;
  }
  unlock();
  return live;
}

void stub_register(void *pointer, size_t bytes, enum stub_memory host) {
  lock();
  struct memory *memory = find_memory((uintptr_t)pointer);
  if (memory && memory->host != STUB_UNKNOWN) forget(&memory->thing);
  if (host != STUB_UNKNOWN && (memory = make(MEMORY, sizeof *memory, 0)) != NULL)
    memory->begin = (uintptr_t)pointer, memory->bytes = bytes, memory->host = host;
  unlock();
}

int stub_launches(void) {
  lock();
  int launches = stub.launches;
  unlock();
  return launches;
}

bool stub_launched(int index, struct stub_launch *launch) {
  lock();
  bool kept = index >= 0 && index < stub.launches && index >= stub.launches - KEPT_LAUNCHES;
  if (kept) *launch = stub.launch[index % KEPT_LAUNCHES];
  unlock();
  return kept;
}

/* --- A call begins with BEGIN, which may already know what it will come to, and ends with END. */

enum needs { NOTHING, INITIALISED, CURRENT };

static CUcontext current(void) { return stack.depth ? stack.context[stack.depth - 1] : NULL; }

static bool fails_now(enum needs needs) {
  if (stub.fail_nth == 0 || stub.calls < stub.fail_nth) return false;
  if (stub.fail_how == STUB_ONCE) return stub.calls == stub.fail_nth;
  return stub.fail_how == STUB_FOR_EVER || needs == CURRENT;
}

static CUresult begin(enum needs needs, const char *function) {
  lock();
  stub.calls++;
  if (fails_now(needs)) {
    if (!*stub.first_failed) stub.first_failed = function;
    return stub.fail_error;
  }
  if (needs != NOTHING && stub.initialised_by != getpid()) return CUDA_ERROR_NOT_INITIALIZED; /* nor does a fork carry it over */
  if (needs == CURRENT && !current()) return CUDA_ERROR_INVALID_CONTEXT;
  if (needs == CURRENT && current()->retained == 0) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  return CUDA_SUCCESS;
}

static CUresult end(CUresult result) {
  unlock();
  return result;
}

#define BEGIN(needs)                                                                                                             \
  CUresult result = begin(needs, __func__);                                                                                      \
  if (result != CUDA_SUCCESS) return end(result)
#define BEGIN_GIVING_BACK(needs) CUresult result = begin(needs, __func__)
#define REFUSE_IF(condition, error)                                                                                              \
  if (condition) return end(error)
#define END return end(CUDA_SUCCESS)

/* --- The driver itself */

CUresult cuInit(unsigned flags) {
  BEGIN(NOTHING);
  REFUSE_IF(flags != 0, CUDA_ERROR_INVALID_VALUE);
  REFUSE_IF(stub.initialised_by && stub.initialised_by != getpid(), CUDA_ERROR_NOT_INITIALIZED);
  REFUSE_IF(stub.devices == 0, CUDA_ERROR_NO_DEVICE);
  stub.initialised_by = getpid();
  END;
}

CUresult cuDriverGetVersion(int *version) {
  BEGIN(NOTHING);
  REFUSE_IF(!version, CUDA_ERROR_INVALID_VALUE);
  *version = stub.version;
  END;
}

static const struct {
  CUresult error;
  const char *name, *words;
} errors[] = {
#define ERROR(name, words)                                                                                                       \
  { name, #name, words }
    ERROR(CUDA_SUCCESS, "no error"),
    ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    ERROR(CUDA_ERROR_STUB_LIBRARY, "CUDA driver is a stub library"),
    ERROR(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
    ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
    ERROR(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"),
    ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
    ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"),
    ERROR(CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered"),
    ERROR(CUDA_ERROR_OPERATING_SYSTEM, "OS call failed or operation not supported on this OS"),
    ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
    ERROR(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
    ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    ERROR(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
    ERROR(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    ERROR(CUDA_ERROR_SYSTEM_NOT_READY, "system not yet initialized"),
    ERROR(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "system has unsupported display driver / cuda driver combination"),
    ERROR(CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE, "forward compatibility was attempted on non supported HW"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "operation would make the legacy stream depend on a capturing blocking stream"),
    ERROR(CUDA_ERROR_UNKNOWN, "unknown error"),
#undef ERROR
};

static CUresult tell_error(CUresult error, const char **text, bool name) {
  *text = NULL;
  for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
    if (errors[i].error == error) *text = name ? errors[i].name : errors[i].words;
  return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorName(CUresult error, const char **text) {
  BEGIN(NOTHING);
  return end(tell_error(error, text, true));
}

CUresult cuGetErrorString(CUresult error, const char **text) {
  BEGIN(NOTHING);
  return end(tell_error(error, text, false));
}

/* --- Devices */

#define REFUSE_DEVICE(device) REFUSE_IF((device) < 0 || (device) >= stub.devices, CUDA_ERROR_INVALID_DEVICE)

CUresult cuDeviceGetCount(int *count) {
  BEGIN(INITIALISED);
  *count = stub.devices;
  END;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  BEGIN(INITIALISED);
  REFUSE_DEVICE(ordinal);
  *device = ordinal;
  END;
}

CUresult cuDeviceGetName(char *name, int bytes, CUdevice device) {
  BEGIN(INITIALISED);
  REFUSE_DEVICE(device);
  REFUSE_IF(bytes < 1, CUDA_ERROR_INVALID_VALUE);
  snprintf(name, (size_t)bytes, "%s", stub.device[device].name);
  END;
}

static size_t memory_bytes(int device) { return (size_t)stub.device[device].memory_gib << 30; }
static int shared_optin_bytes(int device) { return (stub.device[device].shared_sm_kib - (stub.device[device].major > 7)) * 1024; }

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
  BEGIN(INITIALISED);
  REFUSE_DEVICE(device);
  *bytes = memory_bytes(device);
  END;
}

/* -1: not one that this stand-in knows. */
static int attribute_of(CUdevice_attribute attribute, int number) {
  const struct device *device = &stub.device[number];
  bool hopper = device->major >= 9;
  switch ((int)attribute) {
  case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
    return device->major;
  case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
    return device->minor;
  case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
    return device->sms;
  case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
    return 32;
  case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
  case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
  case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
    return 1024;
  case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
    return 64;
  case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
    return INT32_MAX;
  case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
  case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
    return 65535;
  case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
    return device->major == 8 && device->minor ? 1536 : device->major == 7 ? 1024 : 2048;
  case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR:
    return device->major >= 8 && device->minor == 0 ? 32 : device->major == 7 ? 16 : 24;
  case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
  case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR:
    return 65536;
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
    return 48 * 1024;
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
    return shared_optin_bytes(number);
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
    return device->shared_sm_kib * 1024;
  case CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK:
    return device->major > 7 ? 1024 : 0;
  case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE:
    return device->l2_mib << 20;
  case CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH:
  case CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED:
    return hopper;
  case CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH:
  case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
  case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY:
  case CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS:
  case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
    return 1;
  case CU_DEVICE_ATTRIBUTE_INTEGRATED:
  case CU_DEVICE_ATTRIBUTE_COMPUTE_MODE:
  case CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS:
    return 0;
  case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
    return 1980000;
  case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
    return 2619000;
  case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
    return 5120;
  default:
    return -1;
  }
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  BEGIN(INITIALISED);
  REFUSE_DEVICE(device);
  int known = attribute_of(attribute, device);
  REFUSE_IF(known < 0, CUDA_ERROR_INVALID_VALUE);
  *value = known;
  END;
}

/* --- Contexts */

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  BEGIN(INITIALISED);
  REFUSE_DEVICE(device);
  *context = &stub.context[device];
  (*context)->retained++;
  END;
}

/* The last release takes with it all that was made in the context. */
CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  BEGIN_GIVING_BACK(INITIALISED);
  REFUSE_DEVICE(device);
  REFUSE_IF(stub.context[device].retained == 0, CUDA_ERROR_INVALID_CONTEXT);
  if (--stub.context[device].retained == 0)
    for (struct thing *thing = stub.things, *next; thing; thing = next) {
      next = thing->next;
      bool bound = thing->kind == STREAM || thing->kind == EVENT ||
                   (thing->kind == MEMORY && ((struct memory *)thing)->host == STUB_UNKNOWN);
      if (!bound || thing->device != device) continue;
      forget(thing);
      next = stub.things; /* a stream takes its graph along */
    }
  return end(result);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
  BEGIN(INITIALISED);
  REFUSE_DEVICE(device);
  *flags = 0;
  *active = stub.context[device].retained > 0;
  END;
}

static bool is_context(CUcontext context) { return context >= stub.context && context < stub.context + stub.devices; }

CUresult cuCtxPushCurrent(CUcontext context) {
  BEGIN(INITIALISED);
  REFUSE_IF(!is_context(context) || stack.depth == STACK, CUDA_ERROR_INVALID_CONTEXT);
  REFUSE_IF(context->retained == 0, CUDA_ERROR_CONTEXT_IS_DESTROYED);
  stack.context[stack.depth++] = context;
  END;
}

CUresult cuCtxPopCurrent(CUcontext *context) {
  BEGIN_GIVING_BACK(INITIALISED);
  REFUSE_IF(stack.depth == 0, CUDA_ERROR_INVALID_CONTEXT);
  stack.depth--;
  if (context) *context = stack.context[stack.depth];
  return end(result);
}

CUresult cuCtxGetCurrent(CUcontext *context) {
  BEGIN(INITIALISED);
  *context = current();
  END;
}

CUresult cuCtxGetDevice(CUdevice *device) {
  BEGIN(CURRENT);
  *device = current()->device;
  END;
}

/* --- Streams and their capture */

/* The legacy stream and a thread's own belong to the current context and are never captured. */
static bool is_default(CUstream stream) { return stream == NULL || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD; }
static CUresult check_stream(CUstream stream) {
  if (is_default(stream)) return CUDA_SUCCESS;
  if (!is_one(stream, STREAM)) return CUDA_ERROR_INVALID_HANDLE;
  return stream->thing.device == current()->device ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/* What may not happen while a stream is being captured spoils the capture. */
static CUresult spoil_captures(CUresult error) {
  CUresult result = CUDA_SUCCESS;
  for (struct thing *thing = stub.things; thing; thing = thing->next) {
    CUstream stream = (CUstream)thing;
    if (thing->kind != STREAM || stream->capture != CU_STREAM_CAPTURE_STATUS_ACTIVE) continue;
    if (stream->mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
    if (stream->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && !pthread_equal(stream->capturing_thread, pthread_self())) continue;
    stream->capture = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
    result = error;
  }
  return result;
}

/* Whether work goes into a graph instead of running; the legacy stream may not take any while others are captured. */
static CUresult enqueue(CUstream stream, CUgraph *graph) {
  *graph = NULL;
  CUresult result = check_stream(stream);
  if (result != CUDA_SUCCESS) return result;
  if (stream == NULL || stream == CU_STREAM_LEGACY) return spoil_captures(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  if (is_default(stream)) return CUDA_SUCCESS;
  if (stream->capture == CU_STREAM_CAPTURE_STATUS_INVALIDATED) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (stream->capture == CU_STREAM_CAPTURE_STATUS_ACTIVE) *graph = stream->graph;
  return CUDA_SUCCESS;
}

#define REFUSE_FAILURE(call)                                                                                                     \
  result = call;                                                                                                                 \
  if (result != CUDA_SUCCESS) return end(result)
#define REFUSE_WHILE_CAPTURING REFUSE_FAILURE(spoil_captures(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED))

CUresult cuCtxSynchronize(void) {
  BEGIN(CURRENT);
  REFUSE_WHILE_CAPTURING;
  END;
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  BEGIN(CURRENT);
  REFUSE_IF(flags > CU_STREAM_NON_BLOCKING, CUDA_ERROR_INVALID_VALUE);
  *stream = make(STREAM, sizeof **stream, current()->device);
  REFUSE_IF(!*stream, CUDA_ERROR_OUT_OF_MEMORY);
  END;
}

CUresult cuStreamDestroy(CUstream stream) {
  BEGIN_GIVING_BACK(CURRENT);
  REFUSE_IF(!is_one(stream, STREAM), CUDA_ERROR_INVALID_HANDLE);
  forget(&stream->thing);
  return end(result);
}

CUresult cuStreamSynchronize(CUstream stream) {
  BEGIN(CURRENT);
  REFUSE_FAILURE(check_stream(stream));
  REFUSE_WHILE_CAPTURING;
  END;
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext *context) {
  BEGIN(CURRENT);
  REFUSE_IF(!is_default(stream) && !is_one(stream, STREAM), CUDA_ERROR_INVALID_HANDLE);
  *context = is_default(stream) ? current() : &stub.context[stream->thing.device];
  END;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  BEGIN(CURRENT);
  REFUSE_IF(!is_default(stream) && !is_one(stream, STREAM), CUDA_ERROR_INVALID_HANDLE);
  if (stream == NULL || stream == CU_STREAM_LEGACY) { /* asking of the legacy stream spoils nothing */
    for (struct thing *thing = stub.things; thing; thing = thing->next)
      REFUSE_IF(thing->kind == STREAM && ((CUstream)thing)->capture == CU_STREAM_CAPTURE_STATUS_ACTIVE &&
                    ((CUstream)thing)->mode == CU_STREAM_CAPTURE_MODE_GLOBAL,
                CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  }
  *status = is_default(stream) ? CU_STREAM_CAPTURE_STATUS_NONE : stream->capture;
  END;
}

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
  BEGIN(CURRENT);
  REFUSE_IF(is_default(stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  REFUSE_FAILURE(check_stream(stream));
  REFUSE_IF(stream->capture != CU_STREAM_CAPTURE_STATUS_NONE, CUDA_ERROR_ILLEGAL_STATE);
  stream->graph = make(GRAPH, sizeof *stream->graph, -1);
  REFUSE_IF(!stream->graph, CUDA_ERROR_OUT_OF_MEMORY);
  stream->capture = CU_STREAM_CAPTURE_STATUS_ACTIVE, stream->mode = mode, stream->capturing_thread = pthread_self();
  END;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  BEGIN(CURRENT);
  *graph = NULL;
  REFUSE_IF(is_default(stream) || !is_one(stream, STREAM), CUDA_ERROR_INVALID_HANDLE);
  REFUSE_IF(stream->capture == CU_STREAM_CAPTURE_STATUS_NONE, CUDA_ERROR_ILLEGAL_STATE);
  bool spoilt = stream->capture == CU_STREAM_CAPTURE_STATUS_INVALIDATED;
  stream->capture = CU_STREAM_CAPTURE_STATUS_NONE;
  if (spoilt)
    forget(&stream->graph->thing);
  else
    *graph = stream->graph;
  stream->graph = NULL;
  return end(spoilt ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS);
}

static bool copy_launches(int launches, const struct stub_launch *from, struct stub_launch **to) {
  *to = calloc((size_t)launches + 1, sizeof **to);
  if (*to && launches) memcpy(*to, from, (size_t)launches * sizeof **to);
  return *to != NULL;
}

CUresult cuGraphInstantiate(CUgraphExec *executable, CUgraph graph, unsigned long long flags) {
  BEGIN(INITIALISED);
  REFUSE_IF(!is_one(graph, GRAPH), CUDA_ERROR_INVALID_HANDLE);
  REFUSE_IF(flags != 0, CUDA_ERROR_INVALID_VALUE);
  *executable = make(GRAPH_EXEC, sizeof **executable, -1);
  REFUSE_IF(!*executable || !copy_launches(graph->launches, graph->launch, &(*executable)->launch), CUDA_ERROR_OUT_OF_MEMORY);
  (*executable)->launches = graph->launches;
  END;
}

static void record(const struct stub_launch *launch) { stub.launch[stub.launches++ % KEPT_LAUNCHES] = *launch; }

CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
  BEGIN(CURRENT);
  REFUSE_IF(!is_one(executable, GRAPH_EXEC), CUDA_ERROR_INVALID_HANDLE);
  CUgraph into;
  REFUSE_FAILURE(enqueue(stream, &into));
  REFUSE_IF(into, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  for (int i = 0; i < executable->launches; i++) {
    struct stub_launch launch = executable->launch[i];
    launch.stream = stream, launch.captured = false;
    record(&launch);
  }
  END;
}

CUresult cuGraphDestroy(CUgraph graph) {
  BEGIN_GIVING_BACK(INITIALISED);
  REFUSE_IF(!is_one(graph, GRAPH), CUDA_ERROR_INVALID_HANDLE);
  forget(&graph->thing);
  return end(result);
}

CUresult cuGraphExecDestroy(CUgraphExec executable) {
  BEGIN_GIVING_BACK(INITIALISED);
  REFUSE_IF(!is_one(executable, GRAPH_EXEC), CUDA_ERROR_INVALID_HANDLE);
  forget(&executable->thing);
  return end(result);
}

/* --- Events: time is counted in calls */

CUresult cuEventCreate(CUevent *event, unsigned flags) {
  BEGIN(CURRENT);
  (void)flags;
  *event = make(EVENT, sizeof **event, current()->device);
  REFUSE_IF(!*event, CUDA_ERROR_OUT_OF_MEMORY);
  END;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  BEGIN(CURRENT);
  REFUSE_IF(!is_one(event, EVENT), CUDA_ERROR_INVALID_HANDLE);
  CUgraph into;
  REFUSE_FAILURE(enqueue(stream, &into));
  if (!into) event->recorded = stub.calls;
  END;
}

CUresult cuEventSynchronize(CUevent event) {
  BEGIN(CURRENT);
  REFUSE_IF(!is_one(event, EVENT), CUDA_ERROR_INVALID_HANDLE);
  REFUSE_WHILE_CAPTURING;
  END;
}

CUresult cuEventElapsedTime(float *ms, CUevent from, CUevent to) {
  BEGIN(INITIALISED);
  REFUSE_IF(!is_one(from, EVENT) || !is_one(to, EVENT) || !from->recorded || !to->recorded, CUDA_ERROR_INVALID_HANDLE);
  *ms = 0.001f * (float)(to->recorded - from->recorded);
  END;
}

CUresult cuEventDestroy(CUevent event) {
  BEGIN_GIVING_BACK(CURRENT);
  REFUSE_IF(!is_one(event, EVENT), CUDA_ERROR_INVALID_HANDLE);
  forget(&event->thing);
  return end(result);
}

/* --- Memory: device memory is the host's, so that copies really copy */

CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) {
  BEGIN(CURRENT);
  REFUSE_IF(bytes == 0, CUDA_ERROR_INVALID_VALUE);
  REFUSE_WHILE_CAPTURING;
  int device = current()->device;
  REFUSE_IF(bytes > memory_bytes(device) - stub.used_bytes[device], CUDA_ERROR_OUT_OF_MEMORY);
  void *begin = NULL;
  REFUSE_IF(posix_memalign(&begin, 256, bytes) != 0, CUDA_ERROR_OUT_OF_MEMORY);
  struct memory *memory = make(MEMORY, sizeof *memory, device);
  if (!memory) free(begin);
  REFUSE_IF(!memory, CUDA_ERROR_OUT_OF_MEMORY);
  memory->begin = (uintptr_t)begin, memory->bytes = bytes;
  stub.used_bytes[device] += bytes;
  *address = memory->begin;
  END;
}

CUresult cuMemFree(CUdeviceptr address) {
  BEGIN_GIVING_BACK(CURRENT);
  if (address == 0) return end(result);
  CUresult spoilt = spoil_captures(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  if (result == CUDA_SUCCESS) result = spoilt;
  struct memory *memory = find_memory((uintptr_t)address);
  REFUSE_IF(!memory || memory->begin != address || memory->host != STUB_UNKNOWN, CUDA_ERROR_INVALID_VALUE);
  forget(&memory->thing);
  return end(result);
}

/* Device memory must reach to the end of what is touched; of what the driver does not know, nothing can be said. */
static bool reaches(CUdeviceptr address, size_t bytes) {
  const struct memory *memory = find_memory((uintptr_t)address);
  return !memory || bytes <= memory->bytes - (address - memory->begin);
}

static CUresult copy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  if (!reaches(to, bytes) || !reaches(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (bytes) memmove((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
  return CUDA_SUCCESS;
}

static CUresult set(CUdeviceptr to, unsigned char value, size_t bytes) {
  if (!find_memory((uintptr_t)to) || !reaches(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  memset((void *)(uintptr_t)to, value, bytes);
  return CUDA_SUCCESS;
}

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  BEGIN(CURRENT);
  REFUSE_WHILE_CAPTURING;
  return end(copy(to, from, bytes));
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  BEGIN(CURRENT);
  CUgraph into;
  REFUSE_FAILURE(enqueue(stream, &into));
  return end(into ? CUDA_SUCCESS : copy(to, from, bytes));
}

CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, size_t bytes) {
  BEGIN(CURRENT);
  REFUSE_WHILE_CAPTURING;
  return end(set(to, value, bytes));
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  BEGIN(CURRENT);
  CUgraph into;
  REFUSE_FAILURE(enqueue(stream, &into));
  return end(into ? CUDA_SUCCESS : set(to, value, bytes));
}

/* Of memory that the driver does not know (NULL) the answers are zeros. false: not an attribute that this stand-in knows. */
static bool tell_pointer(void *answer, CUpointer_attribute attribute, CUdeviceptr address, const struct memory *memory) {
  bool on_device = memory && memory->host != STUB_PINNED;
  switch ((int)attribute) {
  case CU_POINTER_ATTRIBUTE_CONTEXT:
    *(CUcontext *)answer = memory && memory->host == STUB_UNKNOWN ? &stub.context[memory->thing.device] : NULL;
    return true;
  case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
    *(unsigned *)answer = !memory ? 0 : on_device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
    return true;
  case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    *(CUdeviceptr *)answer = memory ? address : 0;
    return true;
  case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    *(void **)answer = memory && memory->host != STUB_UNKNOWN ? (void *)(uintptr_t)address : NULL;
    return true;
  case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    *(unsigned *)answer = memory && memory->host == STUB_MANAGED;
    return true;
  case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
    *(int *)answer = memory ? memory->thing.device : -2;
    return true;
  case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    *(CUdeviceptr *)answer = memory ? memory->begin : 0;
    return true;
  case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    *(size_t *)answer = memory ? memory->bytes : 0;
    return true;
  case CU_POINTER_ATTRIBUTE_MAPPED:
    *(unsigned char *)answer = memory != NULL;
    return true;
  default:
    return false;
  }
}

CUresult cuPointerGetAttribute(void *answer, CUpointer_attribute attribute, CUdeviceptr address) {
  BEGIN(CURRENT);
  const struct memory *memory = find_memory((uintptr_t)address);
  REFUSE_IF(!memory || !tell_pointer(answer, attribute, address, memory), CUDA_ERROR_INVALID_VALUE);
  END;
}

CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute *attributes, void **answers, CUdeviceptr address) {
  BEGIN(CURRENT);
  for (unsigned i = 0; i < count; i++)
    REFUSE_IF(!tell_pointer(answers[i], attributes[i], address, find_memory((uintptr_t)address)), CUDA_ERROR_INVALID_VALUE);
  END;
}

/* --- Libraries and kernels: what is loaded is ELF, as CUDA's compilers write it, and is looked at */

enum { MACHINE_CUDA = 190, PARAMETER_INFO = 0x1704 };

/* A kernel's parameters, from the section that describes it. */
static void read_parameters(struct CUkern_st *kernel, const unsigned char *info, size_t bytes) {
  for (size_t at = 0; at + 4 <= bytes;) {
    uint16_t what = (uint16_t)(info[at] | info[at + 1] << 8), size = (uint16_t)(info[at + 2] | info[at + 3] << 8);
    bool has_payload = info[at] == 4;
    uint32_t words[3];
    if (what == PARAMETER_INFO && size == sizeof words && at + 4 + size <= bytes) {
      memcpy(words, info + at + 4, sizeof words);
      unsigned ordinal = words[1] & 0xFFFF;
      if (ordinal < MOST_PARAMETERS) {
        kernel->offset[ordinal] = words[1] >> 16, kernel->bytes[ordinal] = words[2] >> 18;
        if (kernel->parameters <= (int)ordinal) kernel->parameters = (int)ordinal + 1;
      }
    }
    at += 4 + (has_payload ? size : 0u);
  }
}

static bool read_image(CUlibrary library, const unsigned char *image) {
  Elf64_Ehdr head;
  memcpy(&head, image, sizeof head);
  if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != MACHINE_CUDA ||
      head.e_shentsize != sizeof(Elf64_Shdr) || head.e_shstrndx >= head.e_shnum)
    return false;
  library->sm = (int)(head.e_ident[EI_ABIVERSION] >= 8 ? head.e_flags >> 8 & 0xFF : head.e_flags & 0xFF);
  Elf64_Shdr names, section;
  memcpy(&names, image + head.e_shoff + head.e_shstrndx * sizeof names, sizeof names);
  for (int pass = 0; pass < 2; pass++) /* kernels, then what describes them */
    for (int i = 0; i < head.e_shnum; i++) {
      memcpy(&section, image + head.e_shoff + (size_t)i * sizeof section, sizeof section);
      const char *name = (const char *)image + names.sh_offset + section.sh_name;
      if (pass == 0 && strncmp(name, ".text.", 6) == 0 && library->kernels < MOST_KERNELS) {
        struct CUkern_st *kernel = &library->kernel[library->kernels++];
        kernel->library = library;
        snprintf(kernel->name, sizeof kernel->name, "%s", name + 6);
        for (int device = 0; device < MOST_DEVICES; device++) {
          kernel->function[device] = (struct CUfunc_st){kernel, device};
          kernel->dynamic_shared_bytes[device] = 48 * 1024;
        }
      }
      for (int k = 0; pass == 1 && k < library->kernels; k++)
        if (strncmp(name, ".nv.info.", 9) == 0 && strcmp(name + 9, library->kernel[k].name) == 0)
          read_parameters(&library->kernel[k], image + section.sh_offset, section.sh_size);
    }
  return library->kernels > 0;
}

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jit_options, void **jit_values, unsigned jit_count,
                           CUlibraryOption *options, void **values, unsigned count) {
  BEGIN(INITIALISED);
  (void)jit_options, (void)jit_values, (void)options, (void)values;
  REFUSE_IF(!code || jit_count || count, CUDA_ERROR_INVALID_VALUE);
  REFUSE_WHILE_CAPTURING;
  CUlibrary made = make(LIBRARY, sizeof *made, -1);
  REFUSE_IF(!made, CUDA_ERROR_OUT_OF_MEMORY);
  if (!read_image(made, code)) {
    forget(&made->thing);
    return end(CUDA_ERROR_INVALID_IMAGE);
  }
  *library = made;
  END;
}

CUresult cuLibraryUnload(CUlibrary library) {
  BEGIN_GIVING_BACK(INITIALISED);
  REFUSE_IF(!is_one(library, LIBRARY), CUDA_ERROR_INVALID_HANDLE);
  forget(&library->thing);
  return end(result);
}

CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name) {
  BEGIN(INITIALISED);
  REFUSE_IF(!is_one(library, LIBRARY), CUDA_ERROR_INVALID_HANDLE);
  *kernel = NULL;
  for (int i = 0; i < library->kernels; i++)
    if (strcmp(library->kernel[i].name, name) == 0) *kernel = &library->kernel[i];
  REFUSE_IF(!*kernel, CUDA_ERROR_NOT_FOUND);
  END;
}

static bool is_kernel(const struct CUkern_st *kernel) {
  for (const struct thing *thing = stub.things; thing; thing = thing->next) {
    const struct CUlib_st *library = (const struct CUlib_st *)thing;
    for (int i = 0; thing->kind == LIBRARY && i < library->kernels; i++)
      if (kernel == &library->kernel[i]) return true;
  }
  return false;
}

static bool runs_on(const struct CUkern_st *kernel, int device) {
  int sm = kernel->library->sm;
  return sm / 10 == stub.device[device].major && sm % 10 <= stub.device[device].minor;
}

CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel) {
  BEGIN(CURRENT);
  REFUSE_IF(!is_kernel(kernel), CUDA_ERROR_INVALID_HANDLE);
  REFUSE_WHILE_CAPTURING;
  REFUSE_IF(!runs_on(kernel, current()->device), CUDA_ERROR_NO_BINARY_FOR_GPU);
  *function = &kernel->function[current()->device];
  END;
}

/* What is launched may be a kernel, in the current context, or a function of it. NULL: neither. */
static struct CUkern_st *kernel_of(CUfunction function, int device) {
  if (is_kernel((CUkernel)function)) return (CUkernel)function;
  for (const struct thing *thing = stub.things; thing; thing = thing->next) {
    CUlibrary library = (CUlibrary)thing;
    if (thing->kind != LIBRARY || (char *)function < (char *)library || (char *)function >= (char *)(library + 1)) continue;
    return function->device == device ? function->kernel : NULL;
  }
  return NULL;
}

CUresult cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device) {
  BEGIN(INITIALISED);
  REFUSE_DEVICE(device);
  REFUSE_IF(!is_kernel(kernel), CUDA_ERROR_INVALID_HANDLE);
  switch ((int)attribute) {
  case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    *value = 1024;
    break;
  case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
  case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
  case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
    *value = 0;
    break;
  case CU_FUNC_ATTRIBUTE_NUM_REGS:
    *value = 32;
    break;
  case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
    *value = kernel->library->sm;
    break;
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
    *value = kernel->dynamic_shared_bytes[device];
    break;
  default:
    return end(CUDA_ERROR_INVALID_VALUE);
  }
  END;
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device) {
  BEGIN(INITIALISED);
  REFUSE_DEVICE(device);
  REFUSE_IF(!is_kernel(kernel), CUDA_ERROR_INVALID_HANDLE);
  switch ((int)attribute) {
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
    REFUSE_IF(value < 0 || value > shared_optin_bytes(device), CUDA_ERROR_INVALID_VALUE);
    kernel->dynamic_shared_bytes[device] = value;
    END;
  case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
  case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
    END;
  default:
    return end(CUDA_ERROR_INVALID_VALUE);
  }
}

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t index, size_t *offset, size_t *bytes) {
  BEGIN(INITIALISED);
  REFUSE_IF(!is_kernel(kernel), CUDA_ERROR_INVALID_HANDLE);
  REFUSE_IF(index >= (size_t)kernel->parameters, CUDA_ERROR_INVALID_VALUE);
  *offset = kernel->offset[index];
  if (bytes) *bytes = kernel->bytes[index];
  END;
}

/* --- Launches */

static void copy_arguments(struct stub_launch *launch, const struct CUkern_st *kernel, void **parameters, void **extra) {
  const unsigned char *buffer = NULL;
  for (; extra && *extra != CU_LAUNCH_PARAM_END; extra += 2)
    if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = extra[1];
  for (int i = 0; i < kernel->parameters; i++) {
    size_t offset = kernel->offset[i], bytes = kernel->bytes[i];
    const void *from = parameters ? parameters[i] : buffer ? buffer + offset : NULL;
    if (!from || offset + bytes > STUB_ARGUMENT_BYTES) continue;
    memcpy(launch->arguments + offset, from, bytes);
    if (launch->argument_bytes < offset + bytes) launch->argument_bytes = offset + bytes;
  }
}

static CUresult check_launch(const struct stub_launch *launch, const struct CUkern_st *kernel) {
  int device = launch->device;
  const struct device *about = &stub.device[device];
  const unsigned *grid = launch->grid, *block = launch->block, *cluster = launch->cluster;
  if (!runs_on(kernel, device)) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  if (!grid[0] || !grid[1] || !grid[2] || grid[0] > INT32_MAX || grid[1] > 65535 || grid[2] > 65535)
    return CUDA_ERROR_INVALID_VALUE;
  if (!block[0] || !block[1] || !block[2] || (uint64_t)block[0] * block[1] * block[2] > 1024 || block[2] > 64)
    return CUDA_ERROR_INVALID_VALUE;
  if (launch->shared_bytes > (unsigned)kernel->dynamic_shared_bytes[device]) return CUDA_ERROR_INVALID_VALUE;
  for (int i = 0; i < 3 && cluster[0]; i++)
    if (about->major < 9 || !cluster[i] || grid[i] % cluster[i]) return CUDA_ERROR_INVALID_VALUE;
  if (cluster[0] * cluster[1] * cluster[2] > 8) return CUDA_ERROR_INVALID_CLUSTER_SIZE;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra) {
  BEGIN(CURRENT);
  const struct CUkern_st *kernel = kernel_of(function, current()->device);
  REFUSE_IF(!kernel, CUDA_ERROR_INVALID_HANDLE);
  struct stub_launch launch = {.device = current()->device,
                               .stream = config->hStream,
                               .grid = {config->gridDimX, config->gridDimY, config->gridDimZ},
                               .block = {config->blockDimX, config->blockDimY, config->blockDimZ},
                               .shared_bytes = config->sharedMemBytes};
  memcpy(launch.kernel, kernel->name, sizeof launch.kernel);
  for (unsigned i = 0; i < config->numAttrs; i++) {
    const CUlaunchAttribute *attribute = &config->attrs[i];
    switch ((int)attribute->id) {
    case CU_LAUNCH_ATTRIBUTE_IGNORE:
      break;
    case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
      launch.cluster[0] = attribute->value.clusterDim.x;
      launch.cluster[1] = attribute->value.clusterDim.y;
      launch.cluster[2] = attribute->value.clusterDim.z;
      break;
    case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
      launch.programmatic = attribute->value.programmaticStreamSerializationAllowed != 0;
      break;
    default:
      return end(CUDA_ERROR_INVALID_VALUE);
    }
  }
  REFUSE_FAILURE(check_launch(&launch, kernel));
  CUgraph into;
  REFUSE_FAILURE(enqueue(config->hStream, &into));
  copy_arguments(&launch, kernel, parameters, extra);
  if (into) {
    struct stub_launch *longer = realloc(into->launch, ((size_t)into->launches + 1) * sizeof *longer);
    REFUSE_IF(!longer, CUDA_ERROR_OUT_OF_MEMORY);
    launch.captured = true;
    into->launch = longer;
    longer[into->launches++] = launch;
  }
  record(&launch);
  END;
}

/* The rules of a tiled map; what it says stays readable for a test: rank, type, address, dimensions, strides, box. */
CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address,
                                const cuuint64_t *dims, const cuuint64_t *strides, const cuuint32_t *box,
                                const cuuint32_t *element_strides, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  static const int element_bytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
  static const unsigned swizzle_bytes[] = {0, 32, 64, 128};
  BEGIN(NOTHING);
  (void)promotion, (void)fill;
  REFUSE_IF(!map || (uintptr_t)map % 64 || rank < 1 || rank > 5 || !address || (uintptr_t)address % 16, CUDA_ERROR_INVALID_VALUE);
  REFUSE_IF((unsigned)type >= sizeof element_bytes / sizeof element_bytes[0] || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE ||
                (unsigned)swizzle > CU_TENSOR_MAP_SWIZZLE_128B,
            CUDA_ERROR_INVALID_VALUE);
  for (unsigned i = 0; i < rank; i++) {
    REFUSE_IF(dims[i] < 1 || dims[i] > 1ull << 32 || box[i] < 1 || box[i] > 256, CUDA_ERROR_INVALID_VALUE);
    REFUSE_IF(element_strides[i] < 1 || element_strides[i] > 8, CUDA_ERROR_INVALID_VALUE);
    REFUSE_IF(i + 1 < rank && (strides[i] % 16 || strides[i] >= 1ull << 40), CUDA_ERROR_INVALID_VALUE);
  }
  unsigned row_bytes = box[0] * (unsigned)element_bytes[type];
  REFUSE_IF(row_bytes % 16 || (swizzle && row_bytes > swizzle_bytes[swizzle]), CUDA_ERROR_INVALID_VALUE);
  uint64_t words[16] = {rank, (uint64_t)type | (uint64_t)swizzle << 32, (uintptr_t)address};
  for (unsigned i = 0; i < rank; i++) {
    words[3 + i] = dims[i];
    if (i + 1 < rank) words[8 + i] = strides[i];
    words[12 + i / 2] |= (uint64_t)box[i] << 32 * (i % 2);
  }
  memcpy(map, words, sizeof words);
  END;
}
