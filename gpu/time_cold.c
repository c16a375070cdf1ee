/* What a call takes by itself, by the device's clock. */
#include "driver.h"
#include "fail.h"
#include "gpu.h"

#include <stdbool.h>

enum { FLUSH_BYTES = 1 << 29 };
static const double cold_bytes = 8e9; /* written before a launch: the L2 has nothing of the operands, and the chip cools */

struct timing {
  struct fg_gpu_context *context;
  const fg_problem *full;
  int count, rounds;
  double *us;
  CUevent begin, end;
  CUdeviceptr flush;
};

static fg_status open_timing(const struct fg_driver *driver, struct timing *timing) {
  if (!driver->cuEventCreate || !driver->cuEventRecord || !driver->cuEventSynchronize || !driver->cuEventElapsedTime ||
      !driver->cuEventDestroy)
    return fg_fail(FG_UNSUPPORTED, "the driver has no events, by which calls are timed");
  DRIVER(driver, cuEventCreate, &timing->begin, CU_EVENT_DEFAULT);
  DRIVER(driver, cuEventCreate, &timing->end, CU_EVENT_DEFAULT);
  if (!driver->is_emulator) DRIVER(driver, cuMemAlloc, &timing->flush, FLUSH_BYTES);
  return FG_OK;
}

static fg_status time_one(const struct fg_driver *driver, const struct timing *timing, const fg_problem *full, double *us) {
  CUstream stream = (CUstream)full->stream;
  float ms;
  for (double written = 0; timing->flush && written < cold_bytes; written += FLUSH_BYTES)
    DRIVER(driver, cuMemsetD8Async, timing->flush, 0xA5, FLUSH_BYTES, stream);
  DRIVER(driver, cuEventRecord, timing->begin, stream);
  fg_status status = fg_gpu_gemm(timing->context, full);
  if (status != FG_OK) return status;
  DRIVER(driver, cuEventRecord, timing->end, stream);
  DRIVER(driver, cuEventSynchronize, timing->end);
  DRIVER(driver, cuEventElapsedTime, &ms, timing->begin, timing->end);
  *us = (double)ms * 1e3;
  return FG_OK;
}

/* All of it, whatever fails; what failed first is what is said. */
static fg_status close_timing(const struct fg_driver *driver, const struct timing *timing, fg_status status) {
  const CUresult freed = timing->flush ? driver->cuMemFree(timing->flush) : CUDA_SUCCESS; /* which waits */
  const CUresult ended = timing->end ? driver->cuEventDestroy(timing->end) : CUDA_SUCCESS;
  const CUresult begun = timing->begin ? driver->cuEventDestroy(timing->begin) : CUDA_SUCCESS;
  if (status == FG_OK && freed != CUDA_SUCCESS) return fg_driver_fail("cuMemFree", freed);
  const CUresult destroyed = ended != CUDA_SUCCESS ? ended : begun;
  return status == FG_OK && destroyed != CUDA_SUCCESS ? fg_driver_fail("cuEventDestroy", destroyed) : status;
}

static fg_status time_all(const struct fg_driver *driver, void *state) {
  struct timing *timing = state;
  fg_status status = open_timing(driver, timing);
  for (int i = 0; i < timing->count && status == FG_OK; i++) status = fg_gpu_gemm(timing->context, &timing->full[i]);
  for (int round = 0; round < timing->rounds; round++)
    for (int i = 0; i < timing->count && status == FG_OK; i++)
      status = time_one(driver, timing, &timing->full[i], &timing->us[i * timing->rounds + round]);
  return close_timing(driver, timing, status);
}

fg_status fg_gpu_time_cold(struct fg_gpu_context *context, const fg_problem *full, int count, int rounds, double *us) {
  struct timing timing = {.context = context, .full = full, .count = count, .rounds = rounds, .us = us};
  return fg_gpu_within(context, time_all, &timing);
}
