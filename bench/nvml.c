#include "nvml.h"
#include "library.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* As nvml.h has it, which few machines have: 0 is success, a device is a pointer. */
enum { CLOCK_OF_MULTIPROCESSORS = 1 };

struct nvml {
  int (*start)(void);
  int (*stop)(void);
  int (*version)(char *text, unsigned bytes);
  int (*find)(const char *bus, void **device);
  int (*clock)(void *device, int which, unsigned *mhz);
  int (*power)(void *device, unsigned *milliwatts);
  void *device;
  char driver[80];
};

static const struct fg_symbol symbols[] = {{"nvmlInit_v2", offsetof(struct nvml, start), true},
                                           {"nvmlShutdown", offsetof(struct nvml, stop), true},
                                           {"nvmlSystemGetDriverVersion", offsetof(struct nvml, version), true},
                                           {"nvmlDeviceGetHandleByPciBusId_v2", offsetof(struct nvml, find), true},
                                           {"nvmlDeviceGetClockInfo", offsetof(struct nvml, clock), true},
                                           {"nvmlDeviceGetPowerUsage", offsetof(struct nvml, power), true}};

/* CUDA and NVML count devices differently: the bus tells which it is. false: it cannot be told. */
static bool bus_of(const struct fg_driver *driver, int ordinal, char *bus, size_t bus_bytes) {
  static const CUdevice_attribute attributes[3] = {CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID,
                                                   CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID};
  int parts[3];
  CUdevice device;
  if (driver->cuDeviceGet(&device, ordinal) != CUDA_SUCCESS) return false;
  for (int i = 0; i < 3; i++)
    if (driver->cuDeviceGetAttribute(&parts[i], attributes[i], device) != CUDA_SUCCESS) return false;
  snprintf(bus, bus_bytes, "%08x:%02x:%02x.0", (unsigned)parts[0], (unsigned)parts[1], (unsigned)parts[2]);
  return true;
}

struct nvml *nvml_open(const struct fg_driver *driver, int ordinal) {
  static const char *const names[] = {"libnvidia-ml.so.1", NULL};
  const char *name;
  char bus[40], why[256];
  if (driver->is_emulator || !bus_of(driver, ordinal, bus, sizeof bus)) return NULL;
  void *library = fg_library_open("FG_NVML", names, &name, why, sizeof why);
  struct nvml *nvml = library ? calloc(1, sizeof *nvml) : NULL;
  if (!nvml) return NULL;
  bool works = !fg_library_resolve(library, symbols, sizeof symbols / sizeof *symbols, nvml) && nvml->start() == 0;
  if (works && nvml->version(nvml->driver, sizeof nvml->driver) == 0 && nvml->find(bus, &nvml->device) == 0) return nvml;
  if (works) nvml->stop();
  free(nvml);
  return NULL;
}

void nvml_close(struct nvml *nvml) {
  if (nvml) nvml->stop();
  free(nvml);
}

const char *nvml_driver(const struct nvml *nvml) { return nvml->driver; }

struct gpu_state nvml_look(const struct nvml *nvml) {
  struct gpu_state state = {NAN, NAN};
  unsigned value;
  if (nvml && nvml->clock(nvml->device, CLOCK_OF_MULTIPROCESSORS, &value) == 0) state.clock_mhz = value;
  if (nvml && nvml->power(nvml->device, &value) == 0) state.power_w = value * 1e-3;
  return state;
}
