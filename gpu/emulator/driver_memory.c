#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, MAP_NORESERVE */
#include "driver_parts.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct memory *driver_memory_at(uintptr_t address) {
  for (struct thing *thing = emu_driver.things; thing; thing = thing->next) {
    struct memory *memory = (struct memory *)thing;
    if (thing->kind == MEMORY && address >= memory->begin && address - memory->begin < memory->bytes) return memory;
  }
  return NULL;
}

/* A page on each side of an allocation is nobody's. */
static size_t page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }
static size_t mapped_bytes(size_t bytes) { return (bytes + page_bytes() - 1) / page_bytes() * page_bytes() + 2 * page_bytes(); }

/* The host's memory, so that copies really copy. 0: there is none. */
static uintptr_t map(size_t bytes) {
  char *all = mmap(NULL, mapped_bytes(bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return 0;
  char *begin = all + page_bytes();
  if (mprotect(begin, mapped_bytes(bytes) - 2 * page_bytes(), PROT_READ | PROT_WRITE) == 0) return (uintptr_t)begin;
  munmap(all, mapped_bytes(bytes));
  return 0;
}

static void unmap(uintptr_t begin, size_t bytes) { munmap((void *)(begin - page_bytes()), mapped_bytes(bytes)); }

void driver_free(struct memory *memory) {
  driver_memory_changed();
  if (memory->backing != ALLOCATED) return;
  emu_driver.used_bytes[memory->thing.device] -= memory->bytes;
  unmap(memory->begin, memory->bytes);
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) {
  BEGIN(CURRENT);
  REFUSE_IF(bytes == 0, CUDA_ERROR_INVALID_VALUE);
  REFUSE_WHILE_CAPTURING;
  int device = driver_current()->device;
  REFUSE_IF(bytes > driver_memory_bytes(device) - emu_driver.used_bytes[device], CUDA_ERROR_OUT_OF_MEMORY);
  uintptr_t begin = map(bytes);
  REFUSE_IF(!begin, CUDA_ERROR_OUT_OF_MEMORY);
  struct memory *memory = driver_make(MEMORY, sizeof *memory, device);
  if (!memory) unmap(begin, bytes);
  REFUSE_IF(!memory, CUDA_ERROR_OUT_OF_MEMORY);
  memory->begin = begin, memory->bytes = bytes, memory->backing = ALLOCATED;
  emu_driver.used_bytes[device] += bytes;
  *address = memory->begin;
  driver_memory_changed();
  END;
}

CUresult cuMemFree(CUdeviceptr address) {
  BEGIN_GIVING_BACK(CURRENT);
  if (address == 0) return driver_end(result);
  CUresult spoilt = driver_spoil_captures(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  if (result == CUDA_SUCCESS) result = spoilt;
  struct memory *memory = driver_memory_at((uintptr_t)address);
  REFUSE_IF(!memory || memory->begin != address || memory->backing != ALLOCATED, CUDA_ERROR_INVALID_VALUE);
  driver_forget(&memory->thing);
  return driver_end(result);
}

/* Device memory must reach to the end of what is touched; of what the driver does not know, nothing can be said. */
static bool reaches(CUdeviceptr address, size_t bytes) {
  const struct memory *memory = driver_memory_at((uintptr_t)address);
  return !memory || ((memory->backing != MAPPED || memory->is_accessible) && bytes <= memory->bytes - (address - memory->begin));
}

static CUresult copy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  if (!reaches(to, bytes) || !reaches(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (bytes) memmove((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
  return CUDA_SUCCESS;
}

static CUresult set(CUdeviceptr to, unsigned char value, size_t bytes) {
  if (!driver_memory_at((uintptr_t)to) || !reaches(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  memset((void *)(uintptr_t)to, value, bytes);
  return CUDA_SUCCESS;
}

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  BEGIN(CURRENT);
  REFUSE_WHILE_CAPTURING;
  return driver_end(copy(to, from, bytes));
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  BEGIN(CURRENT);
  CUgraph into;
  REFUSE_FAILURE(driver_enqueue(stream, &into));
  return driver_end(into ? CUDA_SUCCESS : copy(to, from, bytes));
}

CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, size_t bytes) {
  BEGIN(CURRENT);
  REFUSE_WHILE_CAPTURING;
  return driver_end(set(to, value, bytes));
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  BEGIN(CURRENT);
  CUgraph into;
  REFUSE_FAILURE(driver_enqueue(stream, &into));
  return driver_end(into ? CUDA_SUCCESS : set(to, value, bytes));
}

/* Of memory that the driver does not know (NULL) the answers are zeros. false: not an attribute that this stand-in knows. */
static bool tell_pointer(void *answer, CUpointer_attribute attribute, CUdeviceptr address, const struct memory *memory) {
  bool on_device = memory && (memory->backing != HOST || memory->is_managed);
  switch ((int)attribute) {
  case CU_POINTER_ATTRIBUTE_CONTEXT:
    *(CUcontext *)answer = memory && memory->backing == ALLOCATED ? &emu_driver.context[memory->thing.device] : NULL;
    return true;
  case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
    *(unsigned *)answer = !memory ? 0 : on_device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
    return true;
  case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    *(CUdeviceptr *)answer = memory ? address : 0;
    return true;
  case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    *(void **)answer = memory && memory->backing == HOST ? (void *)(uintptr_t)address : NULL;
    return true;
  case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    *(unsigned *)answer = memory && memory->is_managed;
    return true;
  case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
    *(int *)answer = memory ? memory->thing.device : -2;
    return true;
  case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    *(CUdeviceptr *)answer = memory ? memory->begin : 0;
    return true;
  case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    *(size_t *)answer = memory ? memory->bytes : 0;
    return true;
  case CU_POINTER_ATTRIBUTE_MAPPED:
    *(unsigned char *)answer = memory != NULL;
    return true;
  default:
    return false;
  }
}

CUresult cuPointerGetAttribute(void *answer, CUpointer_attribute attribute, CUdeviceptr address) {
  BEGIN(CURRENT);
  const struct memory *memory = driver_memory_at((uintptr_t)address);
  REFUSE_IF(!memory || !tell_pointer(answer, attribute, address, memory), CUDA_ERROR_INVALID_VALUE);
  END;
}

CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute *attributes, void **answers, CUdeviceptr address) {
  BEGIN(CURRENT);
  for (unsigned i = 0; i < count; i++)
    REFUSE_IF(!tell_pointer(answers[i], attributes[i], address, driver_memory_at((uintptr_t)address)), CUDA_ERROR_INVALID_VALUE);
  END;
}
