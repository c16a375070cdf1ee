/* What the files of the stand-in driver share.
 *
 *   cuda_stub.c            its state, what tests set in it, and what every call begins and ends with
 *   driver_words.c         what is said of an error beyond its name
 *   driver_devices.c       devices and contexts
 *   driver_streams.c       streams, events
 *   driver_graphs.c        what a stream's capture records, and its launch
 *   driver_memory.c        device memory, copies
 *   driver_reservations.c  addresses and memory apart: the virtual memory functions
 *   driver_kernels.c       libraries, kernels
 *   driver_launch.c        launches, tensor maps
 *
 * By itself it runs nothing. In the emulator there is an emu_runner, which does. */
#ifndef FG_DRIVER_PARTS_H
#define FG_DRIVER_PARTS_H

#pragma GCC visibility push(default) /* what the driver's users are to find in it */
#include "cuda_stub.h"
#pragma GCC visibility pop
#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>
#pragma GCC visibility push(hidden)

struct device {
  const char *key, *name;
  int major, minor, sms, shared_sm_kib, l2_mib, memory_gib;
};

enum { MOST_DEVICES = 16, MOST_KERNELS = 16, MOST_PARAMETERS = 8, KEPT_LAUNCHES = 256, STACK = 16, SAID_BYTES = 2048 };

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
  const struct emu_kernel *emulated; /* NULL: there is no emulator */
  struct CUfunc_st function[MOST_DEVICES];
  char name[64];
  int parameters;
  size_t offset[MOST_PARAMETERS], bytes[MOST_PARAMETERS];
  int most_threads, registers;
  int dynamic_shared_bytes[MOST_DEVICES]; /* as cuKernelSetAttribute says */
};

/* All things that a handle stands for, in one list. A handle that is not in it is refused. */
enum kind { MEMORY, LIBRARY, STREAM, EVENT, GRAPH, GRAPH_EXEC, RESERVATION, PHYSICAL };

struct thing {
  enum kind kind;
  int device; /* whose context it belongs to; not of LIBRARY and GRAPH */
  struct thing *next;
};

enum backing { ALLOCATED, MAPPED, HOST }; /* by cuMemAlloc, by cuMemMap; or host memory that the driver knows */

struct memory {
  struct thing thing;
  uintptr_t begin;
  size_t bytes;
  enum backing backing;
  bool is_managed;    /* of HOST */
  bool is_accessible; /* MAPPED becomes so */
};

/* Addresses with nothing behind them until something is mapped there. */
struct reservation {
  struct thing thing;
  uintptr_t begin;
  size_t bytes;
};

/* Memory with no address until it is mapped somewhere. */
struct physical {
  struct thing thing;
  int file;
  size_t bytes;
};

struct CUlib_st {
  struct thing thing;
  int sm; /* 90 */
  int kernels;
  struct CUkern_st kernel[MOST_KERNELS];
  struct emu_image *image; /* NULL: there is no emulator */
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

struct driver_state {
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
};
extern struct driver_state emu_driver; /* its mutex held; see BEGIN */

struct driver_stack {
  int depth;
  CUcontext context[STACK];
};
extern _Thread_local struct driver_stack emu_driver_stack; /* the calling thread's contexts */

/* --- What runs kernels */

struct emu_runner {
  const char *device; /* its key in the list of devices */
  /* By cuInit(): how many multiprocessors there are. false: `message` [EMU_MESSAGE_BYTES] says what is wrong with the environment. */
  bool (*start)(int *multiprocessors, char *message);
  /* The library's image and its kernels; false: `why` says why there are none. */
  bool (*load)(CUlibrary library, const void *image, char *why, size_t why_bytes);
  void (*unload)(CUlibrary library);
  void (*memory_changed)(void);
  /* Without the mutex. CUDA_ERROR_LAUNCH_FAILED: `message` [EMU_MESSAGE_BYTES] says what is wrong with the kernel; another error: with
   * what it was to be run with. */
  CUresult (*run)(const struct stub_launch *launch, const struct CUkern_st *kernel, char *message);
};
extern const struct emu_runner emu_runner __attribute__((weak)); /* at NULL: there is none */
static inline bool driver_has_runner(void) { return &emu_runner != NULL; }
static inline void driver_memory_changed(void) { /* some is gone, or comes */
  if (driver_has_runner()) emu_runner.memory_changed();
}

/* --- A call begins with BEGIN, which may already know what it will come to, and ends with END. */

enum needs { NOTHING, INITIALISED, CURRENT };

CUresult driver_begin(enum needs needs, const char *function);
CUresult driver_end(CUresult result);
void driver_lock(void);
void driver_unlock(void);

/* driver_words.c: the error, which cuGetErrorString() then explains to this thread in these words. */
CUresult driver_say(CUresult error, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *driver_said(CUresult error); /* NULL: nothing, of this error */
void driver_forget_words(void);          /* with the next call */

#define BEGIN(needs)                                                                                                             \
  CUresult result = driver_begin(needs, __func__);                                                                               \
  if (result != CUDA_SUCCESS) return driver_end(result)
#define BEGIN_GIVING_BACK(needs) CUresult result = driver_begin(needs, __func__)
#define REFUSE_IF(condition, error)                                                                                              \
  if (condition) return driver_end(error)
#define REFUSE_FAILURE(call)                                                                                                     \
  result = call;                                                                                                                 \
  if (result != CUDA_SUCCESS) return driver_end(result)
#define REFUSE_DEVICE(device) REFUSE_IF((device) < 0 || (device) >= emu_driver.devices, CUDA_ERROR_INVALID_DEVICE)
#define REFUSE_WHILE_CAPTURING REFUSE_FAILURE(driver_spoil_captures(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED))
#define END return driver_end(CUDA_SUCCESS)

/* --- Things */

void *driver_make(enum kind kind, size_t bytes, int device); /* NULL: no memory, which here is the host's */
void driver_forget(struct thing *thing);
bool driver_is(const void *handle, enum kind kind);

CUcontext driver_current(void); /* NULL: none */

/* driver_devices.c */
void driver_set_devices(const char *list); /* as stub_devices() */
size_t driver_memory_bytes(int device);
int driver_shared_bytes(int device); /* that a block can have */

/* driver_streams.c */
bool driver_is_default(
    CUstream stream); /* the legacy stream and a thread's own belong to the current context and are never captured */
CUresult driver_check_stream(CUstream stream);
CUresult driver_spoil_captures(CUresult error); /* what may not happen while a stream is being captured spoils the capture */
/* Whether work goes into a graph instead of running; the legacy stream may not take any while others are captured. */
CUresult driver_enqueue(CUstream stream, CUgraph *graph);

/* driver_memory.c */
struct memory *driver_memory_at(uintptr_t address); /* NULL: the driver knows of none */
void driver_free(struct memory *memory);            /* what stands behind it */

/* driver_reservations.c */
void driver_free_reservation(struct reservation *reservation);
void driver_free_physical(struct physical *physical);

/* driver_kernels.c */
struct CUkern_st *driver_add_kernel(CUlibrary library, const char *name); /* NULL: there is no room for more */
bool driver_is_kernel(const struct CUkern_st *kernel);
bool driver_runs_on(const struct CUkern_st *kernel, int device);
struct CUkern_st *driver_kernel_of(CUfunction function, int device); /* NULL: neither a kernel nor a function of the context */

/* driver_launch.c */
CUresult driver_run(const struct stub_launch *launch); /* without the mutex, which is held before and after */
void driver_record(const struct stub_launch *launch);

#pragma GCC visibility pop
#endif
