#define _GNU_SOURCE /* dlinfo() */
#include "load_image.h"

#include "calls.h"
#include "temporary.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a: against accidents; whoever can write where the cache is could as well write a kernel. */
uint64_t emu_image_sum(const unsigned char *object, size_t bytes) {
  uint64_t sum = UINT64_C(0xCBF29CE484222325);
  for (size_t i = 0; i < bytes; i++) sum = (sum ^ object[i]) * UINT64_C(0x100000001B3);
  return sum;
}

static const char file_name[] = "kernel.so";

bool emu_image_file(const struct emu_image *image, char *path, size_t path_bytes) {
  char folder[EMU_PATH_BYTES];
  if (!emu_folder_make(folder)) return false;
  if (emu_file_write(folder, file_name, image->object, image->object_bytes) &&
      (size_t)snprintf(path, path_bytes, "%s/%s", folder, file_name) < path_bytes)
    return true;
  emu_folder_remove(folder);
  return false;
}

void emu_image_file_remove(const char *path) {
  char folder[EMU_PATH_BYTES];
  snprintf(folder, sizeof folder, "%.*s", (int)(strlen(path) - strlen(file_name) - 1), path);
  emu_folder_remove(folder);
}

/* Where the loader has put it. The object is one that our compiler made, whole, so its program headers may be believed. */
static bool locate(struct emu_image *image) {
  struct link_map *map;
  if (dlinfo(image->library, RTLD_DI_LINKMAP, &map) != 0) return false;
  ElfW(Ehdr) head;
  memcpy(&head, image->object, sizeof head);
  image->base = image->end = map->l_addr;
  for (int i = 0; i < head.e_phnum; i++) {
    ElfW(Phdr) part;
    memcpy(&part, image->object + head.e_phoff + (size_t)i * sizeof part, sizeof part);
    uintptr_t end = image->base + part.p_vaddr + part.p_memsz;
    if (part.p_type == PT_LOAD && end > image->end) image->end = end;
  }
  return true;
}

/* Opens the object, and gives it the emulator's functions to call. false: `why` says why not. */
static bool open_object(struct emu_image *image, char *why, size_t why_bytes) {
  char path[EMU_PATH_BYTES];
  if (!emu_image_file(image, path, sizeof path)) {
    snprintf(why, why_bytes, "the kernel's shared object cannot be written to a temporary file, error %d", errno);
    return false;
  }
  image->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  emu_image_file_remove(path);
  if (!image->library) {
    snprintf(why, why_bytes, "the kernel's shared object cannot be loaded: %s", dlerror());
    return false;
  }
  void *calls = dlsym(image->library, "fg_emulator");
  image->kernels = dlsym(image->library, "fg_kernels");
  if (calls && image->kernels && locate(image)) {
    memcpy(calls, &emu_calls_table, sizeof emu_calls_table);
    return true;
  }
  snprintf(why, why_bytes, "the kernel's shared object is not one that the emulator's compiler made");
  return false;
}

struct emu_image *emu_image_load(const void *bytes, char *why, size_t why_bytes) {
  struct emu_image_head head;
  memcpy(head.magic, bytes, sizeof head.magic); /* no more of what may be another kind of image, and shorter */
  if (memcmp(head.magic, EMU_IMAGE_MAGIC, sizeof head.magic) != 0) {
    snprintf(why, why_bytes, "the image is none of the emulator's, which runs no machine code of a GPU");
    return NULL;
  }
  memcpy(&head, bytes, sizeof head);
  const unsigned char *object = (const unsigned char *)bytes + sizeof head;
  if (head.version != EMU_IMAGE_VERSION || emu_image_sum(object, head.object_bytes) != head.object_sum) {
    snprintf(why, why_bytes, "the image is damaged, or another emulator's");
    return NULL;
  }
  struct emu_image *image = calloc(1, sizeof *image);
  unsigned char *copy = malloc(head.object_bytes);
  if (!image || !copy) {
    snprintf(why, why_bytes, "no memory for an image of %zu bytes", (size_t)head.object_bytes);
    free(image);
    free(copy);
    return NULL;
  }
  *image = (struct emu_image){.object = memcpy(copy, object, head.object_bytes), .object_bytes = head.object_bytes};
  if (open_object(image, why, why_bytes)) return image;
  emu_image_unload(image);
  return NULL;
}

void emu_image_unload(struct emu_image *image) {
  if (image->library) dlclose(image->library);
  free(image->object);
  free(image);
}
