/* The CUDA driver, opened at run time. */
#ifndef FG_DRIVER_H
#define FG_DRIVER_H

#include "finegemm.h"

#include <cuda.h>
#include <stdbool.h>

enum { FG_OLDEST_DRIVER = 12000 }; /* the first with cuLibraryLoadData: kernels that belong to no context */

/* What the library calls. */
#define FG_DRIVER_FUNCTIONS(X)                                                                                                   \
  X(cuInit)                                                                                                                      \
  X(cuDriverGetVersion)                                                                                                          \
  X(cuGetErrorName)                                                                                                              \
  X(cuGetErrorString)                                                                                                            \
  X(cuDeviceGetCount)                                                                                                            \
  X(cuDeviceGet)                                                                                                                 \
  X(cuDeviceGetName)                                                                                                             \
  X(cuDeviceGetAttribute)                                                                                                        \
  X(cuDeviceTotalMem)                                                                                                            \
  X(cuDevicePrimaryCtxRetain)                                                                                                    \
  X(cuDevicePrimaryCtxRelease)                                                                                                   \
  X(cuDevicePrimaryCtxGetState)                                                                                                  \
  X(cuCtxPushCurrent)                                                                                                            \
  X(cuCtxPopCurrent)                                                                                                             \
  X(cuCtxGetCurrent)                                                                                                             \
  X(cuCtxGetDevice)                                                                                                              \
  X(cuCtxSynchronize)                                                                                                            \
  X(cuLibraryLoadData)                                                                                                           \
  X(cuLibraryUnload)                                                                                                             \
  X(cuLibraryGetKernel)                                                                                                          \
  X(cuKernelGetFunction)                                                                                                         \
  X(cuKernelGetAttribute)                                                                                                        \
  X(cuKernelSetAttribute)                                                                                                        \
  X(cuLaunchKernelEx)                                                                                                            \
  X(cuTensorMapEncodeTiled)                                                                                                      \
  X(cuPointerGetAttribute)                                                                                                       \
  X(cuPointerGetAttributes)                                                                                                      \
  X(cuMemAlloc)                                                                                                                  \
  X(cuMemFree)                                                                                                                   \
  X(cuMemcpy)                                                                                                                    \
  X(cuMemcpyAsync)                                                                                                               \
  X(cuMemsetD8)                                                                                                                  \
  X(cuMemsetD8Async)                                                                                                             \
  X(cuStreamIsCapturing)                                                                                                         \
  X(cuStreamGetCtx)                                                                                                              \
  X(cuStreamCreate)                                                                                                              \
  X(cuStreamDestroy)                                                                                                             \
  X(cuStreamSynchronize)

/* What only tests and benchmarks call: NULL where the driver has no such function. */
#define FG_DRIVER_EXTRAS(X)                                                                                                      \
  X(cuKernelGetParamInfo)                                                                                                        \
  X(cuEventCreate)                                                                                                               \
  X(cuEventRecord)                                                                                                               \
  X(cuEventSynchronize)                                                                                                          \
  X(cuEventElapsedTime)                                                                                                          \
  X(cuEventDestroy)                                                                                                              \
  X(cuStreamBeginCapture)                                                                                                        \
  X(cuStreamEndCapture)                                                                                                          \
  X(cuGraphInstantiate)                                                                                                          \
  X(cuGraphLaunch)                                                                                                               \
  X(cuGraphDestroy)                                                                                                              \
  X(cuGraphExecDestroy)                                                                                                          \
  X(cuMemGetAllocationGranularity)                                                                                               \
  X(cuMemAddressReserve)                                                                                                         \
  X(cuMemAddressFree)                                                                                                            \
  X(cuMemCreate)                                                                                                                 \
  X(cuMemRelease)                                                                                                                \
  X(cuMemMap)                                                                                                                    \
  X(cuMemUnmap)                                                                                                                  \
  X(cuMemSetAccess)

/* A pointer for each, called as cuda.h calls the function: driver->cuMemAlloc(&address, bytes). */
struct fg_driver {
  int version; /* of CUDA, as 13000 */
  bool is_emulator;
#define FG_MEMBER(function) __typeof__(function) *function;
  FG_DRIVER_FUNCTIONS(FG_MEMBER)
  FG_DRIVER_EXTRAS(FG_MEMBER)
#undef FG_MEMBER
};

/* The driver: libcuda.so.1, the emulator where FG_DEVICE says so, or what FG_CUDA_DRIVER names. The first call that succeeds opens and
 * starts it, for the process; any number of threads may ask. A child of a fork can use it only if its parent had not asked before.
 * NULL: there is none that works, and fg_message() says why and what to do (FG_UNSUPPORTED). */
const struct fg_driver *fg_driver(void);

/* The sentence for what the driver's function `call` returned; of a kernel in which the emulator found a fault, the emulator's own.
 * FG_DRIVER_ERROR; FG_OUT_OF_MEMORY if it was for want of memory. */
fg_status fg_driver_fail(const char *call, CUresult error);

/* One call of it, whose failure a function of an fg_status returns: DRIVER(context->driver, cuMemFree, pointer). */
#define DRIVER(driver, name, ...)                                                                                                \
  do {                                                                                                                           \
    CUresult driver_error = (driver)->name(__VA_ARGS__);                                                                         \
    if (driver_error != CUDA_SUCCESS) return fg_driver_fail(#name, driver_error);                                                \
  } while (0)

#endif
