#include "driver_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct device known_devices[] = {
    {"h100", "NVIDIA H100 80GB HBM3", 9, 0, 132, 228, 50, 80},
    {"h200", "NVIDIA H200", 9, 0, 132, 228, 50, 141},
    {"h800", "NVIDIA H800", 9, 0, 132, 228, 50, 80},
    {"h20", "NVIDIA H20", 9, 0, 78, 228, 60, 96},
    {"h100-mig", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9, 0, 16, 228, 6, 10},
    {"a100", "NVIDIA A100-SXM4-80GB", 8, 0, 108, 164, 40, 80},
    {"l4", "NVIDIA L4", 8, 9, 58, 100, 48, 24},
    {"t4", "Tesla T4", 7, 5, 40, 64, 4, 16},
    {"emulator", "finegemm emulator", 9, 0, 132, 228, 50, 16},
    {"b200", "NVIDIA B200", 10, 0, 148, 228, 126, 180},
};

void driver_set_devices(const char *list) {
  emu_driver.devices = 0;
  for (const char *item = list; *item && emu_driver.devices < MOST_DEVICES; item += strcspn(item, ","), item += *item == ',') {
    size_t length = strcspn(item, ",:");
    for (size_t i = 0; i < sizeof known_devices / sizeof known_devices[0]; i++) {
      const struct device *known = &known_devices[i];
      if (strlen(known->key) != length || strncmp(known->key, item, length) != 0) continue;
      emu_driver.context[emu_driver.devices].device = emu_driver.devices;
      emu_driver.device[emu_driver.devices] = *known;
      if (item[length] == ':') emu_driver.device[emu_driver.devices].sms = atoi(item + length + 1);
      emu_driver.devices++;
    }
  }
}

/* --- The driver itself */

CUresult cuInit(unsigned flags) {
  BEGIN(NOTHING);
  REFUSE_IF(flags != 0, CUDA_ERROR_INVALID_VALUE);
  REFUSE_IF(emu_driver.initialised_by && emu_driver.initialised_by != getpid(), CUDA_ERROR_NOT_INITIALIZED);
  REFUSE_IF(emu_driver.devices == 0, CUDA_ERROR_NO_DEVICE);
  char message[SAID_BYTES];
  if (driver_has_runner() && !emu_driver.initialised_by && !emu_runner.start(&emu_driver.device[0].sms, message))
    return driver_end(driver_say(CUDA_ERROR_INVALID_VALUE, "%s", message));
  emu_driver.initialised_by = getpid();
  END;
}

CUresult cuDriverGetVersion(int *version) {
  BEGIN(NOTHING);
  REFUSE_IF(!version, CUDA_ERROR_INVALID_VALUE);
  *version = emu_driver.version;
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
    ERROR(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
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
  return driver_end(tell_error(error, text, true));
}

CUresult cuGetErrorString(CUresult error, const char **text) {
  BEGIN(NOTHING);
  const char *said = driver_said(error);
  if (said) {
    *text = said;
    END;
  }
  return driver_end(tell_error(error, text, false));
}

/* --- Devices */

CUresult cuDeviceGetCount(int *count) {
  BEGIN(INITIALISED);
  *count = emu_driver.devices;
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
  snprintf(name, (size_t)bytes, "%s", emu_driver.device[device].name);
  END;
}

size_t driver_memory_bytes(int device) { return (size_t)emu_driver.device[device].memory_gib << 30; }
int driver_shared_bytes(int device) {
  return (emu_driver.device[device].shared_sm_kib - (emu_driver.device[device].major > 7)) * 1024;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
  BEGIN(INITIALISED);
  REFUSE_DEVICE(device);
  *bytes = driver_memory_bytes(device);
  END;
}

/* -1: not one that this stand-in knows. */
static int attribute_of(CUdevice_attribute attribute, int number) {
  const struct device *device = &emu_driver.device[number];
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
    return driver_shared_bytes(number);
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
  *context = &emu_driver.context[device];
  (*context)->retained++;
  END;
}

/* The last release takes with it all that was made in the context. */
CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  BEGIN_GIVING_BACK(INITIALISED);
  REFUSE_DEVICE(device);
  REFUSE_IF(emu_driver.context[device].retained == 0, CUDA_ERROR_INVALID_CONTEXT);
  if (--emu_driver.context[device].retained == 0)
    for (struct thing *thing = emu_driver.things, *next; thing; thing = next) {
      next = thing->next;
      bool bound = thing->kind == STREAM || thing->kind == EVENT ||
                   (thing->kind == MEMORY && ((struct memory *)thing)->backing == ALLOCATED);
      if (!bound || thing->device != device) continue;
      driver_forget(thing);
      next = emu_driver.things; /* a stream takes its graph along */
    }
  return driver_end(result);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
  BEGIN(INITIALISED);
  REFUSE_DEVICE(device);
  *flags = 0;
  *active = emu_driver.context[device].retained > 0;
  END;
}

static bool is_context(CUcontext context) {
  return context >= emu_driver.context && context < emu_driver.context + emu_driver.devices;
}

CUresult cuCtxPushCurrent(CUcontext context) {
  BEGIN(INITIALISED);
  REFUSE_IF(!is_context(context) || emu_driver_stack.depth == STACK, CUDA_ERROR_INVALID_CONTEXT);
  REFUSE_IF(context->retained == 0, CUDA_ERROR_CONTEXT_IS_DESTROYED);
  emu_driver_stack.context[emu_driver_stack.depth++] = context;
  END;
}

CUresult cuCtxPopCurrent(CUcontext *context) {
  BEGIN_GIVING_BACK(INITIALISED);
  REFUSE_IF(emu_driver_stack.depth == 0, CUDA_ERROR_INVALID_CONTEXT);
  emu_driver_stack.depth--;
  if (context) *context = emu_driver_stack.context[emu_driver_stack.depth];
  return driver_end(result);
}

CUresult cuCtxGetCurrent(CUcontext *context) {
  BEGIN(INITIALISED);
  *context = driver_current();
  END;
}

CUresult cuCtxGetDevice(CUdevice *device) {
  BEGIN(CURRENT);
  *device = driver_current()->device;
  END;
}
