#include "driver_parts.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>

/* --- Libraries and kernels: what is loaded is ELF, as CUDA's compilers write it, and is looked at */

enum { MACHINE_CUDA = 190, PARAMETER_INFO = 0x1704 };

/* A kernel's parameters, from the section that describes it. */
static void read_parameters(struct CUkern_st *kernel, const unsigned char *info, size_t bytes) {
  for (size_t at = 0; at + 4 <= bytes;) {
    uint16_t what = (uint16_t)(info[at] | info[at + 1] << 8), size = (uint16_t)(info[at + 2] | info[at + 3] << 8);
    bool has_payload = info[at] == 4;
    uint32_t words[3];
    if (what == PARAMETER_INFO && size == sizeof words && at + 4 + size <= bytes) {
      memcpy(words, info + at + 4, sizeof words);
      unsigned ordinal = words[1] & 0xFFFF;
      if (ordinal < MOST_PARAMETERS) {
        kernel->offset[ordinal] = words[1] >> 16, kernel->bytes[ordinal] = words[2] >> 18;
        if (kernel->parameters <= (int)ordinal) kernel->parameters = (int)ordinal + 1;
      }
    }
    at += 4 + (has_payload ? size : 0u);
  }
}

struct CUkern_st *driver_add_kernel(CUlibrary library, const char *name) {
  if (library->kernels == MOST_KERNELS) return NULL;
  struct CUkern_st *kernel = &library->kernel[library->kernels++];
  *kernel = (struct CUkern_st){.library = library, .most_threads = 1024, .registers = 32};
  snprintf(kernel->name, sizeof kernel->name, "%s", name);
  for (int device = 0; device < MOST_DEVICES; device++) {
    kernel->function[device] = (struct CUfunc_st){kernel, device};
    kernel->dynamic_shared_bytes[device] = 48 * 1024;
  }
  return kernel;
}

static bool read_image(CUlibrary library, const unsigned char *image) {
  Elf64_Ehdr head;
  memcpy(&head, image, sizeof head);
  if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != MACHINE_CUDA ||
      head.e_shentsize != sizeof(Elf64_Shdr) || head.e_shstrndx >= head.e_shnum)
    return false;
  library->sm = (int)(head.e_ident[EI_ABIVERSION] >= 8 ? head.e_flags >> 8 & 0xFF : head.e_flags & 0xFF);
  Elf64_Shdr names, section;
  memcpy(&names, image + head.e_shoff + head.e_shstrndx * sizeof names, sizeof names);
  for (int pass = 0; pass < 2; pass++) /* kernels, then what describes them */
    for (int i = 0; i < head.e_shnum; i++) {
      memcpy(&section, image + head.e_shoff + (size_t)i * sizeof section, sizeof section);
      const char *name = (const char *)image + names.sh_offset + section.sh_name;
      if (pass == 0 && strncmp(name, ".text.", 6) == 0) {
        driver_add_kernel(library, name + 6);
      }
      for (int k = 0; pass == 1 && k < library->kernels; k++)
        if (strncmp(name, ".nv.info.", 9) == 0 && strcmp(name + 9, library->kernel[k].name) == 0)
          read_parameters(&library->kernel[k], image + section.sh_offset, section.sh_size);
    }
  return library->kernels > 0;
}

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jit_options, void **jit_values, unsigned jit_count,
                           CUlibraryOption *options, void **values, unsigned count) {
  BEGIN(INITIALISED);
  (void)jit_options, (void)jit_values, (void)options, (void)values;
  REFUSE_IF(!code || jit_count || count, CUDA_ERROR_INVALID_VALUE);
  CUlibrary made = driver_make(LIBRARY, sizeof *made, -1);
  REFUSE_IF(!made, CUDA_ERROR_OUT_OF_MEMORY);
  char why[256] = "device kernel image is invalid";
  if (driver_has_runner() ? !emu_runner.load(made, code, why, sizeof why) : !read_image(made, code)) {
    driver_forget(&made->thing);
    return driver_end(driver_say(CUDA_ERROR_INVALID_IMAGE, "%s", why));
  }
  *library = made;
  END;
}

CUresult cuLibraryUnload(CUlibrary library) {
  BEGIN_GIVING_BACK(INITIALISED);
  REFUSE_IF(!driver_is(library, LIBRARY), CUDA_ERROR_INVALID_HANDLE);
  driver_forget(&library->thing);
  return driver_end(result);
}

CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name) {
  BEGIN(INITIALISED);
  REFUSE_IF(!driver_is(library, LIBRARY), CUDA_ERROR_INVALID_HANDLE);
  *kernel = NULL;
  for (int i = 0; i < library->kernels; i++)
    if (strcmp(library->kernel[i].name, name) == 0) *kernel = &library->kernel[i];
  REFUSE_IF(!*kernel, CUDA_ERROR_NOT_FOUND);
  END;
}

bool driver_is_kernel(const struct CUkern_st *kernel) {
  for (const struct thing *thing = emu_driver.things; thing; thing = thing->next) {
    const struct CUlib_st *library = (const struct CUlib_st *)thing;
    for (int i = 0; thing->kind == LIBRARY && i < library->kernels; i++)
      if (kernel == &library->kernel[i]) return true;
  }
  return false;
}

bool driver_runs_on(const struct CUkern_st *kernel, int device) {
  int sm = kernel->library->sm;
  return sm / 10 == emu_driver.device[device].major && sm % 10 <= emu_driver.device[device].minor;
}

CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel) {
  BEGIN(CURRENT);
  REFUSE_IF(!driver_is_kernel(kernel), CUDA_ERROR_INVALID_HANDLE);
  REFUSE_IF(!driver_runs_on(kernel, driver_current()->device), CUDA_ERROR_NO_BINARY_FOR_GPU);
  *function = &kernel->function[driver_current()->device];
  END;
}

/* What is launched may be a kernel, in the current context, or a function of it. */
struct CUkern_st *driver_kernel_of(CUfunction function, int device) {
  if (driver_is_kernel((CUkernel)function)) return (CUkernel)function;
  for (const struct thing *thing = emu_driver.things; thing; thing = thing->next) {
    CUlibrary library = (CUlibrary)thing;
    if (thing->kind != LIBRARY || (char *)function < (char *)library || (char *)function >= (char *)(library + 1)) continue;
    return function->device == device ? function->kernel : NULL;
  }
  return NULL;
}

CUresult cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device) {
  BEGIN(INITIALISED);
  REFUSE_DEVICE(device);
  REFUSE_IF(!driver_is_kernel(kernel), CUDA_ERROR_INVALID_HANDLE);
  switch ((int)attribute) {
  case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    *value = kernel->most_threads;
    break;
  case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
  case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
  case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
    *value = 0;
    break;
  case CU_FUNC_ATTRIBUTE_NUM_REGS:
    *value = kernel->registers;
    break;
  case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
    *value = kernel->library->sm;
    break;
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
    *value = kernel->dynamic_shared_bytes[device];
    break;
  default:
    return driver_end(CUDA_ERROR_INVALID_VALUE);
  }
  END;
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device) {
  BEGIN(INITIALISED);
  REFUSE_DEVICE(device);
  REFUSE_IF(!driver_is_kernel(kernel), CUDA_ERROR_INVALID_HANDLE);
  switch ((int)attribute) {
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
    if (value < 0 || value > driver_shared_bytes(device))
      return driver_end(driver_say(CUDA_ERROR_INVALID_VALUE,
                                   "a block can have %d bytes of shared memory, and kernel %s is to have %d",
                                   driver_shared_bytes(device), kernel->name, value));
    kernel->dynamic_shared_bytes[device] = value;
    END;
  case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
  case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
    END;
  default:
    return driver_end(CUDA_ERROR_INVALID_VALUE);
  }
}

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t index, size_t *offset, size_t *bytes) {
  BEGIN(INITIALISED);
  REFUSE_IF(!driver_is_kernel(kernel), CUDA_ERROR_INVALID_HANDLE);
  REFUSE_IF(index >= (size_t)kernel->parameters, CUDA_ERROR_INVALID_VALUE);
  *offset = kernel->offset[index];
  if (bytes) *bytes = kernel->bytes[index];
  END;
}
