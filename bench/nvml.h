/* What NVIDIA's management library says of a GPU while it works. Opened at run time. */
#ifndef NVML_H
#define NVML_H

#include "driver.h"

struct nvml;

/* For the CUDA device `ordinal`. The library is libnvidia-ml.so.1, or what FG_NVML in the environment names. NULL: there is none that
 * works, or the GPU is the emulator's. */
struct nvml *nvml_open(const struct fg_driver *driver, int ordinal);
void nvml_close(struct nvml *nvml);

/* Of the driver, as "580.95.05". */
const char *nvml_driver(const struct nvml *nvml);

/* Now. NaN: not known. */
struct gpu_state {
  double clock_mhz; /* of the multiprocessors */
  double power_w;
};
struct gpu_state nvml_look(const struct nvml *nvml);

#endif
