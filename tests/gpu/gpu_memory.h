/* Problems in a GPU's memory: between guards that show a stray write, or ending at an unmapped page that stops a stray read. */
#ifndef GPU_MEMORY_H
#define GPU_MEMORY_H

#include "driver.h"
#include "support.h"

/* A CUDA context of the first GPU, on which a kernel can be compiled and run. Without one the test is skipped, or fails where
 * FG_REQUIRE_GPU is in the environment; it says why. */
fg_context *gpu_context(void);

/* Ends the test as gpu_context() does where something is missing. */
void gpu_do_without(const char *why);

/* So many problems for a long walk, or as many as FG_GPU_CASES says, if that is fewer. */
uint64_t gpu_cases(uint64_t count);

/* A function that driver.h does not have, to be stored in a pointer to it; the test fails if the driver lacks it. */
void *gpu_driver_function(const char *name);

/* Fails the test unless a driver's call succeeds. */
void gpu_must(CUresult result, const char *call);
#define GPU_MUST(call) gpu_must(call, #call)

/* The primary context of a device, which some fg_context holds, becomes the thread's; and goes. */
void gpu_enter(int ordinal);
void gpu_leave(void);

/* Streams of the first device, to be named by any test. */
enum { GPU_STREAMS = 5 };
struct gpu_streams {
  CUstream at[GPU_STREAMS]; /* the default one, its per-thread form, one that waits for the default one, two that do not */
};
struct gpu_streams gpu_streams_make(void);
void gpu_streams_free(struct gpu_streams *streams);

/* Waits for one stream of the first device. */
void gpu_wait(CUstream stream);

enum placement {
  BETWEEN_GUARDS,
  AT_THE_EDGE /* each array begins right after an unmapped page, or ends exactly at one, as its spec.at_end says */
};

enum { GPU_ARRAYS = 8, GPU_EDGE_BYTES = 32 << 20 }; /* of a problem; no array of a random one is larger */

/* Where the arrays of one problem at a time are, on the first device. */
struct gpu_memory {
  fg_context *context;
  size_t arena_bytes, image_bytes;
  unsigned char *arena, *image, *after; /* the device's memory; the host's, of what was put there and what was found later */
  CUdeviceptr edges;                    /* 0: not yet */
  CUmemGenericAllocationHandle edge_memory[GPU_ARRAYS];
  enum placement placement;
  struct gpu_array {
    struct region host;
    size_t grain_bytes, offset; /* what its address is a multiple of; in the arena */
    unsigned char *device;
  } arrays[GPU_ARRAYS];
};

struct gpu_memory *gpu_memory_make(fg_context *context, size_t arena_bytes);
void gpu_memory_free(struct gpu_memory *memory);

/* Copies all of a problem's arrays, D as it was before any call, and returns its call, at FG_BEST, with pointers to the copies. */
fg_problem gpu_place(struct gpu_memory *memory, const struct problem *problem, enum placement placement);

/* D comes back to the problem. false: something else in the device's memory changed, and it says what. */
bool gpu_fetch(struct gpu_memory *memory, struct problem *problem, const char *what);

/* Runs a call whose arrays are in `memory`, and brings D back. false: it says what went wrong. */
bool gpu_run(struct gpu_memory *memory, struct problem *problem, const fg_problem *call, const char *what);

/* Captures, on the first device. */
enum { GPU_CAPTURE_MODES = 3 };
extern const CUstreamCaptureMode gpu_capture_modes[GPU_CAPTURE_MODES];
void gpu_begin_capture(CUstream stream, CUstreamCaptureMode mode);
CUgraphExec gpu_end_capture(CUstream stream);
void gpu_replay(CUgraphExec executable, CUstream stream); /* and waits */
void gpu_drop(CUgraphExec executable);

#endif
