#include "probe.h"

#include <stdio.h>

#if FG_WITH_CUDA
#include "compiler.h"
#include "driver.h"
#include "fail.h"

static void list_gpus(const struct fg_driver *driver, struct fg_probe *probe) {
  int count = 0;
  if (driver->cuDeviceGetCount(&count) != CUDA_SUCCESS) return;
  for (int i = 0; i < count; i++) {
    CUdevice device = 0;
    char name[64] = "?";
    int major = 0, minor = 0;
    driver->cuDeviceGet(&device, i);
    driver->cuDeviceGetName(name, sizeof name, device);
    driver->cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
    driver->cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device);
    probe->hopper_gpus += major == 9 && minor == 0;
    if (i == 0) snprintf(probe->gpu_text, sizeof probe->gpu_text, "%d x, the first %s, sm_%d%d", count, name, major, minor);
  }
  probe->gpus = count;
}

void fg_probe_cuda(struct fg_probe *probe) {
  *probe = (struct fg_probe){.gpu_text = "none"};
  char before[FG_MESSAGE_BYTES]; /* looking is no call that fails */
  snprintf(before, sizeof before, "%s", fg_message());
  const struct fg_driver *driver = fg_driver();
  if (driver) {
    probe->driver = driver->version;
    if (driver->is_emulator)
      snprintf(probe->driver_text, sizeof probe->driver_text, "the emulator: kernels run on this machine's processor");
    else
      snprintf(probe->driver_text, sizeof probe->driver_text, "a driver for CUDA %d.%d", driver->version / 1000,
               driver->version % 1000 / 10);
    list_gpus(driver, probe);
  } else {
    snprintf(probe->driver_text, sizeof probe->driver_text, "%s", fg_message());
  }
  probe->nvrtc = fg_compiler_version();
  snprintf(probe->nvrtc_text, sizeof probe->nvrtc_text, "%s", probe->nvrtc ? fg_compiler_name() : fg_message());
  fg_fail(FG_OK, "%s", before);
}
#else
void fg_probe_cuda(struct fg_probe *probe) {
  static const char words[] = "not looked for: this finegemm was built without CUDA's headers, and so without GPU levels";
  *probe = (struct fg_probe){0};
  snprintf(probe->driver_text, sizeof probe->driver_text, "%s", words);
  snprintf(probe->nvrtc_text, sizeof probe->nvrtc_text, "%s", words);
  snprintf(probe->gpu_text, sizeof probe->gpu_text, "%s", words);
}
#endif
