#include "probe.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* ISO C has no cast from dlsym's result to a function: POSIX wants it copied. */
#define LOAD(library, function, name)                                                                                            \
  do {                                                                                                                           \
    void *symbol = dlsym(library, name);                                                                                         \
    memcpy(&function, &symbol, sizeof symbol);                                                                                   \
  } while (0)

enum { CU_COMPUTE_CAPABILITY_MAJOR = 75, CU_COMPUTE_CAPABILITY_MINOR = 76 }; /* values of CUdevice_attribute */

static void list_gpus(void *library, struct fg_probe *probe) {
  int (*count_devices)(int *) = NULL, (*name_of)(char *, int, int) = NULL, (*attribute_of)(int *, int, int) = NULL;
  LOAD(library, count_devices, "cuDeviceGetCount");
  LOAD(library, name_of, "cuDeviceGetName");
  LOAD(library, attribute_of, "cuDeviceGetAttribute");
  int count = 0;
  if (!count_devices || !name_of || !attribute_of || count_devices(&count) != 0) return;
  for (int device = 0; device < count; device++) {
    char name[64] = "?";
    int major = 0, minor = 0;
    name_of(name, sizeof name, device);
    attribute_of(&major, CU_COMPUTE_CAPABILITY_MAJOR, device);
    attribute_of(&minor, CU_COMPUTE_CAPABILITY_MINOR, device);
    probe->hopper_gpus += major == 9 && minor == 0;
    if (device == 0) snprintf(probe->gpu_text, sizeof probe->gpu_text, "%d x, the first %s, sm_%d%d", count, name, major, minor);
  }
  probe->gpus = count;
}

static void probe_driver(struct fg_probe *probe) {
  snprintf(probe->driver_text, sizeof probe->driver_text, "no libcuda.so.1");
  snprintf(probe->gpu_text, sizeof probe->gpu_text, "none");
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL); /* never closed: drivers do not like it */
  if (!library) return;
  int (*initialise)(unsigned) = NULL, (*get_version)(int *) = NULL;
  LOAD(library, initialise, "cuInit");
  LOAD(library, get_version, "cuDriverGetVersion");
  int error = initialise ? initialise(0) : -1, version = 0;
  if (error != 0 || !get_version || get_version(&version) != 0) {
    snprintf(probe->driver_text, sizeof probe->driver_text, "libcuda.so.1 is there, but cuInit gives error %d", error);
    return;
  }
  probe->driver = version;
  snprintf(probe->driver_text, sizeof probe->driver_text, "libcuda.so.1 for CUDA %d.%d", version / 1000, version % 1000 / 10);
  list_gpus(library, probe);
}

static void probe_nvrtc(struct fg_probe *probe) {
  static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
  snprintf(probe->nvrtc_text, sizeof probe->nvrtc_text, "no libnvrtc.so.13, .12 or .so");
  for (int i = 0; i < 3 && !probe->nvrtc; i++) {
    void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    int (*get_version)(int *, int *) = NULL, major, minor;
    if (!library) continue;
    LOAD(library, get_version, "nvrtcVersion");
    if (!get_version || get_version(&major, &minor) != 0) continue;
    probe->nvrtc = major * 1000 + minor * 10;
    snprintf(probe->nvrtc_text, sizeof probe->nvrtc_text, "%s, version %d.%d", names[i], major, minor);
  }
}

void fg_probe_cuda(struct fg_probe *probe) {
  *probe = (struct fg_probe){0};
  probe_driver(probe);
  probe_nvrtc(probe);
}
