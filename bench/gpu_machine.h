/* What the benchmarks of GPU levels say of the machine that they ran on. */
#ifndef GPU_MACHINE_H
#define GPU_MACHINE_H

#include "compiler.h"
#include "driver.h"
#include "finegemm_kernels.h"

#include <jansson.h>
#include <stdlib.h>

/* Attributes that the driver has; clocks are the highest that it allows, not what the GPU ran at. */
struct machine {
  fg_gpu gpu;
  int driver_version, compiler_version, clock_khz, memory_clock_khz, memory_bits, l2_bytes;
};

static inline int attribute_of(const struct fg_driver *driver, CUdevice device, CUdevice_attribute attribute) {
  int value = 0;
  driver->cuDeviceGetAttribute(&value, attribute, device);
  return value;
}

static inline struct machine machine_of(const struct fg_driver *driver, fg_context *context, int ordinal) {
  struct machine machine = {.driver_version = driver->version, .compiler_version = fg_compiler_version()};
  CUdevice device = 0;
  fg_context_gpu(context, &machine.gpu);
  driver->cuDeviceGet(&device, ordinal);
  machine.clock_khz = attribute_of(driver, device, CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
  machine.memory_clock_khz = attribute_of(driver, device, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
  machine.memory_bits = attribute_of(driver, device, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
  machine.l2_bytes = attribute_of(driver, device, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
  return machine;
}

/* FP32 operations in a second: an FMA is two, and a multiprocessor of 7.5 and 8.0 begins 64 in a clock, later ones 128. */
static inline double fp32_flops(const struct machine *machine) {
  long arch = strtol(machine->gpu.arch + 3, NULL, 10);
  return 2.0 * (arch <= 80 ? 64 : 128) * machine->gpu.sms * machine->clock_khz * 1e3;
}

/* Bytes in a second: two transfers in a clock. */
static inline double memory_bandwidth(const struct machine *machine) {
  return 2.0 * machine->memory_clock_khz * 1e3 * machine->memory_bits / 8;
}

/* What was measured on an H100 80GB HBM3 with 700 W: FP8 wgmma on random data, from shared memory and nothing else, for long enough that
 * power sets the clocks, 1.7 PFLOPS; reading 4 GiB, 3.1 TB/s; and about what a launch costs. Taken elsewhere in proportion to the
 * multiprocessors, and to the bandwidth that the driver states. */
enum { LAUNCH_US = 2 };
static inline double tensor_flops(const struct machine *machine) { return 1.7e15 / 132 * machine->gpu.sms; }
static inline double read_bandwidth(const struct machine *machine) { return 3.1e12 / 3.352e12 * memory_bandwidth(machine); }

static inline json_t *machine_json(const struct machine *machine) {
  const char *commit = getenv("FG_COMMIT"); /* of the sources, which a program cannot know */
  return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "version", fg_version(), "commit",
                   commit ? commit : "?", "compiler", __VERSION__, "gpu", machine->gpu.name, "arch", machine->gpu.arch, "sms",
                   machine->gpu.sms, "clock_khz", machine->clock_khz, "memory_clock_khz", machine->memory_clock_khz,
                   "memory_bits", machine->memory_bits, "l2_bytes", machine->l2_bytes, "driver", machine->driver_version, "nvrtc",
                   machine->compiler_version);
}

#endif
