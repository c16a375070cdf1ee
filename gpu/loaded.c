#include "loaded.h"

#include "fail.h"
#include "kernel.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Kernels of this process. Entries are never removed. */
struct loaded {
  struct loaded *next;
  char arch[16];
  struct fg_kernel_id id;
  pthread_mutex_t mutex; /* of whoever makes the kernel */
  CUkernel kernel;       /* NULL: not yet */
};

static pthread_mutex_t table_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct loaded *table;

static struct loaded *entry_of(const char *arch, const struct fg_kernel_id *id) {
  pthread_mutex_lock(&table_mutex);
  struct loaded *entry = table;
  while (entry && (strcmp(entry->arch, arch) != 0 || memcmp(&entry->id, id, sizeof *id) != 0)) entry = entry->next;
  if (!entry && (entry = calloc(1, sizeof *entry))) {
    snprintf(entry->arch, sizeof entry->arch, "%s", arch);
    entry->id = *id;
    pthread_mutex_init(&entry->mutex, NULL);
    entry->next = table;
    table = entry;
  }
  pthread_mutex_unlock(&table_mutex);
  return entry;
}

static fg_status load(const struct fg_driver *driver, const char *arch, const struct fg_kernel_id *id, CUkernel *kernel) {
  void *cubin = NULL;
  fg_kernel seen;
  fg_status status = fg_kernel_image(arch, id, &cubin, &seen);
  if (status != FG_OK) return status;
  CUlibrary library;
  CUresult error = driver->cuLibraryLoadData(&library, cubin, NULL, NULL, 0, NULL, NULL, 0);
  free(cubin);
  if (error != CUDA_SUCCESS) return fg_driver_fail("cuLibraryLoadData", error);
  error = driver->cuLibraryGetKernel(kernel, library, fg_kernel_name(id->level, id->order));
  if (error == CUDA_SUCCESS) return FG_OK;
  driver->cuLibraryUnload(library);
  return fg_driver_fail("cuLibraryGetKernel", error);
}

fg_status fg_kernel_load(const struct fg_driver *driver, const char *arch, const struct fg_kernel_id *id, CUkernel *kernel) {
  struct loaded *entry = entry_of(arch, id);
  if (!entry) return fg_fail(FG_OUT_OF_MEMORY, "no memory for a kernel's entry of %zu bytes", sizeof *entry);
  fg_status status = FG_OK;
  pthread_mutex_lock(&entry->mutex);
  if (!entry->kernel) {
    CUkernel made = NULL;
    status = load(driver, arch, id, &made);
    if (status == FG_OK) entry->kernel = made;
  }
  *kernel = entry->kernel;
  pthread_mutex_unlock(&entry->mutex);
  return status;
}
