#define _GNU_SOURCE /* memfd_create() */
#include "driver_parts.h"

#include <sys/mman.h>
#include <unistd.h>

enum { GRANULE_BYTES = 2 << 20 };

static bool is_whole(size_t bytes) { return bytes && bytes % GRANULE_BYTES == 0; }

static bool is_placed_well(const CUmemAllocationProp *properties) {
  return properties && properties->type == CU_MEM_ALLOCATION_TYPE_PINNED &&
         properties->location.type == CU_MEM_LOCATION_TYPE_DEVICE && properties->location.id >= 0 &&
         properties->location.id < emu_driver.devices;
}

CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *properties,
                                       CUmemAllocationGranularity_flags option) {
  BEGIN(INITIALISED);
  (void)option;
  REFUSE_IF(!bytes || !is_placed_well(properties), CUDA_ERROR_INVALID_VALUE);
  *bytes = GRANULE_BYTES;
  END;
}

/* Addresses of nothing: [bytes] from a multiple of a granule. NULL: none are free. */
static unsigned char *reserve(size_t bytes) {
  unsigned char *all = mmap(NULL, bytes + GRANULE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return NULL;
  size_t before = (GRANULE_BYTES - (uintptr_t)all % GRANULE_BYTES) % GRANULE_BYTES;
  if (before) munmap(all, before);
  munmap(all + before + bytes, GRANULE_BYTES - before);
  return all + before;
}

CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr wish, unsigned long long flags) {
  BEGIN(INITIALISED);
  (void)wish; /* no promise */
  REFUSE_IF(!address || !is_whole(bytes) || alignment > GRANULE_BYTES || flags, CUDA_ERROR_INVALID_VALUE);
  unsigned char *begin = reserve(bytes);
  REFUSE_IF(!begin, CUDA_ERROR_OUT_OF_MEMORY);
  struct reservation *made = driver_make(RESERVATION, sizeof *made, -1);
  if (!made) munmap(begin, bytes);
  REFUSE_IF(!made, CUDA_ERROR_OUT_OF_MEMORY);
  made->begin = *address = (uintptr_t)begin, made->bytes = bytes;
  END;
}

static struct reservation *reservation_of(CUdeviceptr address, size_t bytes) {
  for (struct thing *thing = emu_driver.things; thing; thing = thing->next) {
    struct reservation *reservation = (struct reservation *)thing;
    if (thing->kind == RESERVATION && address >= reservation->begin && bytes <= reservation->bytes &&
        address - reservation->begin <= reservation->bytes - bytes)
      return reservation;
  }
  return NULL;
}

/* What is mapped and begins in [address, address + bytes), the next one after `after`. */
static struct memory *mapping_in(CUdeviceptr address, size_t bytes, const struct memory *after) {
  struct thing *thing = after ? after->thing.next : emu_driver.things;
  for (; thing; thing = thing->next) {
    struct memory *memory = (struct memory *)thing;
    if (thing->kind == MEMORY && memory->backing == MAPPED && memory->begin - address < bytes) return memory;
  }
  return NULL;
}

void driver_free_reservation(struct reservation *reservation) { munmap((void *)reservation->begin, reservation->bytes); }

CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes) {
  BEGIN_GIVING_BACK(INITIALISED);
  struct reservation *reservation = reservation_of(address, bytes);
  REFUSE_IF(!reservation || reservation->begin != address || reservation->bytes != bytes || mapping_in(address, bytes, NULL),
            CUDA_ERROR_INVALID_VALUE);
  driver_forget(&reservation->thing);
  return driver_end(result);
}

/* A handle is the thing's address. */
static struct physical *physical_of(CUmemGenericAllocationHandle handle) {
  struct physical *physical = (struct physical *)(uintptr_t)handle;
  return driver_is(physical, PHYSICAL) ? physical : NULL;
}

void driver_free_physical(struct physical *physical) {
  emu_driver.used_bytes[physical->thing.device] -= physical->bytes;
  close(physical->file);
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *properties,
                     unsigned long long flags) {
  BEGIN(INITIALISED);
  REFUSE_IF(!handle || !is_whole(bytes) || !is_placed_well(properties) || flags, CUDA_ERROR_INVALID_VALUE);
  int device = properties->location.id;
  REFUSE_IF(bytes > driver_memory_bytes(device) - emu_driver.used_bytes[device], CUDA_ERROR_OUT_OF_MEMORY);
  int file = memfd_create("finegemm-memory", MFD_CLOEXEC);
  REFUSE_IF(file < 0, CUDA_ERROR_OUT_OF_MEMORY);
  struct physical *made = ftruncate(file, (off_t)bytes) == 0 ? driver_make(PHYSICAL, sizeof *made, device) : NULL;
  if (!made) close(file);
  REFUSE_IF(!made, CUDA_ERROR_OUT_OF_MEMORY);
  made->file = file, made->bytes = bytes;
  emu_driver.used_bytes[device] += bytes;
  *handle = (uintptr_t)made;
  END;
}

/* What is mapped stays. */
CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  BEGIN_GIVING_BACK(INITIALISED);
  struct physical *physical = physical_of(handle);
  REFUSE_IF(!physical, CUDA_ERROR_INVALID_VALUE);
  driver_forget(&physical->thing);
  return driver_end(result);
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  BEGIN(INITIALISED);
  struct physical *physical = physical_of(handle);
  REFUSE_IF(!physical || !is_whole(bytes) || address % GRANULE_BYTES || offset || bytes > physical->bytes || flags,
            CUDA_ERROR_INVALID_VALUE);
  REFUSE_IF(!reservation_of(address, bytes) || mapping_in(address, bytes, NULL), CUDA_ERROR_INVALID_VALUE);
  struct memory *made = driver_make(MEMORY, sizeof *made, physical->thing.device);
  REFUSE_IF(!made, CUDA_ERROR_OUT_OF_MEMORY);
  *made = (struct memory){.thing = made->thing, .begin = address, .bytes = bytes, .backing = MAPPED};
  if (mmap((void *)(uintptr_t)address, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, physical->file, 0) == MAP_FAILED) {
    driver_forget(&made->thing);
    return driver_end(CUDA_ERROR_OUT_OF_MEMORY);
  }
  driver_memory_changed();
  END;
}

/* The addresses are nothing's again, and stay reserved. */
CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
  BEGIN_GIVING_BACK(INITIALISED);
  struct memory *memory = mapping_in(address, bytes, NULL);
  REFUSE_IF(!memory || !reservation_of(address, bytes), CUDA_ERROR_INVALID_VALUE);
  for (; memory; memory = mapping_in(address, bytes, NULL)) driver_forget(&memory->thing);
  void *now = mmap((void *)(uintptr_t)address, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  REFUSE_IF(now == MAP_FAILED, CUDA_ERROR_OUT_OF_MEMORY);
  return driver_end(result);
}

CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access, size_t count) {
  BEGIN(INITIALISED);
  REFUSE_IF(!access || count != 1 || access->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE, CUDA_ERROR_INVALID_VALUE);
  struct memory *memory = mapping_in(address, bytes, NULL);
  REFUSE_IF(!memory, CUDA_ERROR_INVALID_VALUE);
  for (; memory; memory = mapping_in(address, bytes, memory)) {
    REFUSE_IF(mprotect((void *)memory->begin, memory->bytes, PROT_READ | PROT_WRITE) != 0, CUDA_ERROR_OUT_OF_MEMORY);
    memory->is_accessible = true;
  }
  driver_memory_changed();
  END;
}
