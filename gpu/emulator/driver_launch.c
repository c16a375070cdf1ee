#include "driver_parts.h"
#include "emulated_map.h"

#include <stdlib.h>
#include <string.h>

static void copy_arguments(struct stub_launch *launch, const struct CUkern_st *kernel, void **parameters, void **extra) {
  const unsigned char *buffer = NULL;
  for (; extra && *extra != CU_LAUNCH_PARAM_END; extra += 2)
    if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = extra[1];
  for (int i = 0; i < kernel->parameters; i++) {
    size_t offset = kernel->offset[i], bytes = kernel->bytes[i];
    const void *from = parameters ? parameters[i] : buffer ? buffer + offset : NULL;
    if (!from || offset + bytes > STUB_ARGUMENT_BYTES) continue;
    memcpy(launch->arguments + offset, from, bytes);
    if (launch->argument_bytes < offset + bytes) launch->argument_bytes = offset + bytes;
  }
}

static CUresult check_launch(const struct stub_launch *launch, const struct CUkern_st *kernel) {
  int device = launch->device;
  const struct device *about = &emu_driver.device[device];
  const unsigned *grid = launch->grid, *block = launch->block, *cluster = launch->cluster;
  if (!driver_runs_on(kernel, device)) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  if (!grid[0] || !grid[1] || !grid[2] || grid[0] > INT32_MAX || grid[1] > 65535 || grid[2] > 65535)
    return CUDA_ERROR_INVALID_VALUE;
  if (!block[0] || !block[1] || !block[2] || (uint64_t)block[0] * block[1] * block[2] > 1024 || block[2] > 64)
    return CUDA_ERROR_INVALID_VALUE;
  if (block[0] * block[1] * block[2] > (unsigned)kernel->most_threads)
    return driver_say(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "a block has %u threads, and kernel %s is compiled for at most %d",
                      block[0] * block[1] * block[2], kernel->name, kernel->most_threads);
  if (launch->shared_bytes > (unsigned)kernel->dynamic_shared_bytes[device])
    return driver_say(CUDA_ERROR_INVALID_VALUE,
                      "a block of kernel %s asks for %u bytes of shared memory, more than the %d that "
                      "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES allows it",
                      kernel->name, launch->shared_bytes, kernel->dynamic_shared_bytes[device]);
  for (int i = 0; i < 3 && cluster[0]; i++)
    if (about->major < 9 || !cluster[i] || grid[i] % cluster[i]) return CUDA_ERROR_INVALID_VALUE;
  if (cluster[0] * cluster[1] * cluster[2] > 8) return CUDA_ERROR_INVALID_CLUSTER_SIZE;
  return CUDA_SUCCESS;
}

void driver_record(const struct stub_launch *launch) { emu_driver.launch[emu_driver.launches++ % KEPT_LAUNCHES] = *launch; }

CUresult driver_run(const struct stub_launch *launch) {
  if (!driver_has_runner()) return CUDA_SUCCESS;
  if (!driver_is_kernel(launch->function)) return CUDA_ERROR_INVALID_HANDLE; /* unloaded since it was captured */
  char message[SAID_BYTES];
  driver_unlock();
  CUresult result = emu_runner.run(launch, launch->function, message);
  driver_lock();
  return result == CUDA_SUCCESS ? CUDA_SUCCESS : driver_say(result, "%s", message);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra) {
  BEGIN(CURRENT);
  const struct CUkern_st *kernel = driver_kernel_of(function, driver_current()->device);
  REFUSE_IF(!kernel, CUDA_ERROR_INVALID_HANDLE);
  struct stub_launch launch = {.function = kernel,
                               .device = driver_current()->device,
                               .stream = config->hStream,
                               .grid = {config->gridDimX, config->gridDimY, config->gridDimZ},
                               .block = {config->blockDimX, config->blockDimY, config->blockDimZ},
                               .shared_bytes = config->sharedMemBytes};
  memcpy(launch.kernel, kernel->name, sizeof launch.kernel);
  for (unsigned i = 0; i < config->numAttrs; i++) {
    const CUlaunchAttribute *attribute = &config->attrs[i];
    switch ((int)attribute->id) {
    case CU_LAUNCH_ATTRIBUTE_IGNORE:
      break;
    case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
      launch.cluster[0] = attribute->value.clusterDim.x;
      launch.cluster[1] = attribute->value.clusterDim.y;
      launch.cluster[2] = attribute->value.clusterDim.z;
      break;
    case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
      launch.programmatic = attribute->value.programmaticStreamSerializationAllowed != 0;
      break;
    default:
      return driver_end(CUDA_ERROR_INVALID_VALUE);
    }
  }
  REFUSE_FAILURE(check_launch(&launch, kernel));
  CUgraph into;
  REFUSE_FAILURE(driver_enqueue(config->hStream, &into));
  copy_arguments(&launch, kernel, parameters, extra);
  if (into) {
    struct stub_launch *longer = realloc(into->launch, ((size_t)into->launches + 1) * sizeof *longer);
    REFUSE_IF(!longer, CUDA_ERROR_OUT_OF_MEMORY);
    launch.captured = true;
    into->launch = longer;
    longer[into->launches++] = launch;
  }
  driver_record(&launch);
  return driver_end(into ? CUDA_SUCCESS : driver_run(&launch));
}

CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address,
                                const cuuint64_t *dims, const cuuint64_t *strides, const cuuint32_t *box,
                                const cuuint32_t *element_strides, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  BEGIN(NOTHING);
  REFUSE_IF(!emu_map_pack(map, type, rank, address, dims, strides, box, element_strides, interleave, swizzle, promotion, fill),
            CUDA_ERROR_INVALID_VALUE);
  END;
}
