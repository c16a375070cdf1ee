#include "driver.h"
#include "fail.h"
#include "library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

#define NEEDED(function) {FG_EXPANDED_TEXT(function), offsetof(struct fg_driver, function), true},
#define EXTRA(function) {FG_EXPANDED_TEXT(function), offsetof(struct fg_driver, function), false},
static const struct fg_symbol symbols[] = {FG_DRIVER_FUNCTIONS(NEEDED) FG_DRIVER_EXTRAS(EXTRA)};
enum { SYMBOLS = sizeof symbols / sizeof symbols[0] };

static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
static struct fg_driver driver;                  /* complete once `opened` points to it */
static _Atomic(const struct fg_driver *) opened; /* NULL: not yet */

/* What to do about it if the driver does not start. */
static const char *advice_for(CUresult error) {
  switch ((int)error) {
  case CUDA_ERROR_NOT_INITIALIZED:
    return "a process forked from one that uses CUDA cannot use it: fork before the first use";
  case CUDA_ERROR_STUB_LIBRARY:
    return "this is the toolkit's stand-in for linking, not a driver: take its folder out of LD_LIBRARY_PATH";
  case CUDA_ERROR_NO_DEVICE:
    return "no GPU can be seen: look at nvidia-smi, CUDA_VISIBLE_DEVICES and what the container is given";
  case CUDA_ERROR_INVALID_DEVICE:
    return "look at CUDA_VISIBLE_DEVICES";
  case CUDA_ERROR_SYSTEM_NOT_READY:
    return "start NVIDIA's fabric manager";
  case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
    return "libcuda.so.1 and the kernel's module are of different versions: reboot after an update, and let containers take the "
           "host's library";
  case CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE:
    return "CUDA's forward compatibility package is not for this GPU: take it out of LD_LIBRARY_PATH, or update the driver";
  case CUDA_ERROR_OPERATING_SYSTEM:
  case CUDA_ERROR_UNKNOWN:
    return "is the module nvidia_uvm loaded, and may this user open /dev/nvidia*? nvidia-smi tells";
  default:
    return "does nvidia-smi work?";
  }
}

static const char *name_of(CUresult error) {
  const char *name = NULL;
  return driver.cuGetErrorName && driver.cuGetErrorName(error, &name) == CUDA_SUCCESS && name ? name : "an unknown error";
}

/* Starts what was resolved. false, and fg_fail() was called; *started: whether it may have threads by now. */
static bool start_driver(void *library, const char *name, const char *missing, bool *started) {
  int version = FG_OLDEST_DRIVER;
  const char *call = "cuDriverGetVersion";
  CUresult error = driver.cuDriverGetVersion ? driver.cuDriverGetVersion(&version) : CUDA_SUCCESS;
  if (error == CUDA_SUCCESS && version < FG_OLDEST_DRIVER) {
    fg_fail(FG_UNSUPPORTED, "the CUDA driver %s is for CUDA %d.%d; it must be for 12.0 or newer: update NVIDIA's driver", name,
            version / 1000, version % 1000 / 10);
    return false;
  }
  if (missing) {
    fg_fail(FG_UNSUPPORTED,
            "%s has no function %s, so it is no CUDA driver that finegemm knows; install NVIDIA's driver, or name its library in "
            "FG_CUDA_DRIVER",
            name, missing);
    return false;
  }
  if (error == CUDA_SUCCESS) {
    *started = true;
    call = "cuInit";
    error = driver.cuInit(0);
  }
  const char *words;
  if (driver.is_emulator && error == CUDA_ERROR_INVALID_VALUE && driver.cuGetErrorString(error, &words) == CUDA_SUCCESS) {
    fg_fail(FG_UNSUPPORTED, "%s", words); /* of its environment */
    return false;
  }
  if (error != CUDA_SUCCESS) {
    fg_fail(FG_UNSUPPORTED, "the CUDA driver %s does not start, %s gives %s (%d); %s", name, call, name_of(error), (int)error,
            advice_for(error));
    return false;
  }
  if (!driver.cuEventElapsedTime) { /* drivers before CUDA 12.8 have it under its older name */
    static const struct fg_symbol older = {"cuEventElapsedTime", offsetof(struct fg_driver, cuEventElapsedTime), false};
    fg_library_resolve(library, &older, 1, &driver);
  }
  driver.version = version;
  return true;
}

/* false, and fg_fail() was called. */
static bool open_driver(void) {
  static const char *const usual[] = {"libcuda.so.1", NULL};
  const char *const *names = usual, *name;
  char why[256];
  bool wants_emulator;
  if (!fg_library_choose(&names, &wants_emulator)) return false;
  void *library = fg_library_open("FG_CUDA_DRIVER", names, &name, why, sizeof why);
  if (!library) {
    fg_fail(FG_UNSUPPORTED,
            wants_emulator
                ? "FG_DEVICE is emulator, and the emulator cannot be opened (%s); name its library in FG_CUDA_DRIVER and FG_NVRTC"
                : "there is no CUDA driver here (%s); install NVIDIA's driver, or name its library in FG_CUDA_DRIVER",
            why);
    return false;
  }
  driver.is_emulator = fg_library_is_emulator(library);
  const char *missing = fg_library_resolve(library, symbols, SYMBOLS, &driver);
  bool started = false;
  if (start_driver(library, name, missing, &started)) return true;
  if (!started) dlclose(library);
  return false;
}

const struct fg_driver *fg_driver(void) {
  const struct fg_driver *here = atomic_load_explicit(&opened, memory_order_acquire);
  if (here) return here;
  pthread_mutex_lock(&opening);
  if (!atomic_load_explicit(&opened, memory_order_relaxed) && open_driver())
    atomic_store_explicit(&opened, &driver, memory_order_release);
  here = atomic_load_explicit(&opened, memory_order_relaxed);
  pthread_mutex_unlock(&opening);
  return here;
}

/* Errors after which the GPU's context is lost to the whole process. */
static bool is_sticky(CUresult error) {
  switch ((int)error) {
  case CUDA_ERROR_ECC_UNCORRECTABLE:
  case CUDA_ERROR_ILLEGAL_ADDRESS:
  case CUDA_ERROR_LAUNCH_TIMEOUT:
  case CUDA_ERROR_ASSERT:
  case CUDA_ERROR_HARDWARE_STACK_ERROR:
  case CUDA_ERROR_ILLEGAL_INSTRUCTION:
  case CUDA_ERROR_MISALIGNED_ADDRESS:
  case CUDA_ERROR_INVALID_ADDRESS_SPACE:
  case CUDA_ERROR_INVALID_PC:
  case CUDA_ERROR_LAUNCH_FAILED:
    return true;
  default:
    return false;
  }
}

fg_status fg_driver_fail(const char *call, CUresult error) {
  const struct fg_driver *here = atomic_load_explicit(&opened, memory_order_acquire);
  const char *words = NULL;
  if (!here || here->cuGetErrorString(error, &words) != CUDA_SUCCESS || !words) words = "the driver has no words for it";
  if (here && here->is_emulator && error == CUDA_ERROR_LAUNCH_FAILED) return fg_fail(FG_DRIVER_ERROR, "%s", words);
  const char *more = error == CUDA_ERROR_NOT_INITIALIZED ? "; a process forked from one that uses CUDA cannot use it"
                     : is_sticky(error) ? "; a kernel of this process failed, and only a new process can use the GPU again: "
                                          "compute-sanitizer finds the kernel"
                                        : "";
  return fg_fail(error == CUDA_ERROR_OUT_OF_MEMORY ? FG_OUT_OF_MEMORY : FG_DRIVER_ERROR, "%s gives %s (%d): %s%s", call,
                 here ? name_of(error) : "an error", (int)error, words, more);
}
