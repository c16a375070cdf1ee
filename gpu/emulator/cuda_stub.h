/* Stand-ins for libcuda.so.1 and libnvrtc.so, for the library's host path on a machine without a GPU: they answer like the real ones,
 * keep count, check what they are given, fail when told to, and run nothing. FG_CUDA_DRIVER and FG_NVRTC name them; a test that links
 * to them as well has the very same in its hands. They print nothing. Any number of threads may call. */
#ifndef CUDA_STUB_H
#define CUDA_STUB_H

#include <cuda.h>
#include <nvrtc.h>
#include <stdbool.h>
#include <stddef.h>

/* --- The driver */

/* As if freshly loaded: not initialised, everything freed, counts at 0, no failures, version and devices as the environment says.
 * No call may be running. */
void stub_reset(void);

/* What cuDriverGetVersion says; FG_STUB_VERSION in the environment, default 13000. */
void stub_version(int version);

/* The devices, which FG_STUB_DEVICES lists too: names with commas between, of h100 (the default), h200, h800, h20, h100-mig (1g.10gb),
 * a100, l4, t4, b200, each with a number of multiprocessors of your own if you like: "h100,h20,h100:77". "": none. */
void stub_devices(const char *list);

/* Of the calls from now on, the nth (from 1) gives `error`: alone; with all that follow; or it and all that follow and touch a
 * context, as after a kernel that crashed. A call that fails does nothing, but what gives back (Release, Destroy, Free, Unload, Pop)
 * gives back all the same. 0: none fails. Sets stub_calls() to 0. FG_STUB_FAIL=nth:error[:ever|:sticky] in the environment. */
enum stub_failing { STUB_ONCE, STUB_FOR_EVER, STUB_STICKY };
void stub_fail(int nth, CUresult error, enum stub_failing how);
int stub_calls(void);
const char *stub_first_failed(void); /* the function that was made to fail first, "" if none was */

/* What is there and has not been given back. */
struct stub_live {
  int contexts; /* retains without a release, of all devices */
  int libraries, allocations, streams, events, graphs;
  int pushed; /* contexts on the calling thread's stack */
};
struct stub_live stub_live(void);

/* Host memory that the driver knows: page-locked, or managed (which every device reaches). NULL: it is forgotten. */
enum stub_memory { STUB_UNKNOWN, STUB_PINNED, STUB_MANAGED };
void stub_register(void *pointer, size_t bytes, enum stub_memory kind);

/* A launch, or one that a stream's capture recorded and a graph's launch repeated. */
enum { STUB_ARGUMENT_BYTES = 4096 };
struct stub_launch {
  char kernel[64];
  const struct CUkern_st *function;
  int device;
  CUstream stream;
  unsigned grid[3], block[3], cluster[3], shared_bytes; /* cluster 0: none */
  bool programmatic;                                    /* may begin before the launch before it has ended */
  bool captured;                                        /* into a graph, and not run */
  size_t argument_bytes;                                /* of all parameters, as cuKernelGetParamInfo gives them */
  unsigned char arguments[STUB_ARGUMENT_BYTES];         /* each parameter at its offset */
};
int stub_launches(void);                                   /* since the reset */
bool stub_launched(int index, struct stub_launch *launch); /* from 0; of the last 256 launches */

/* --- The compiler */

/* As if freshly loaded: version 13.0 or FG_STUB_NVRTC_VERSION, architectures 75 to 121, no failures, no delay, no parameter. */
void stub_nvrtc_reset(void);
void stub_nvrtc_version(int version);
void stub_nvrtc_fail(int nth, nvrtcResult result, bool and_all_after); /* as stub_fail() */
int stub_nvrtc_calls(void);
int stub_compiles(void); /* calls of nvrtcCompileProgram since the reset */
int stub_programs(void); /* not destroyed */

/* Every compile takes so long; and what it makes takes one parameter of so many bytes (0: none). */
void stub_nvrtc_delay_us(int delay_us);
void stub_nvrtc_argument_bytes(size_t bytes);

#endif
