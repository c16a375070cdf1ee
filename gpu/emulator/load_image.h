/* Images: what the stand-in compiler makes of a kernel's source, a head and then a shared object for this machine's processor. */
#ifndef FG_LOAD_IMAGE_H
#define FG_LOAD_IMAGE_H

#include "kernel_side.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EMU_IMAGE_MAGIC "FGEMULAT"
enum { EMU_IMAGE_VERSION = 1 };

struct emu_image_head {
  char magic[8];
  uint64_t version;      /* in the machine's byte order: the other one reads as another version */
  uint64_t object_bytes; /* that follow */
  uint64_t object_sum;   /* emu_image_sum() of them: a damaged shared object must not reach the loader */
};
uint64_t emu_image_sum(const unsigned char *object, size_t bytes);

struct emu_image {
  void *library;         /* dlopen()'s */
  unsigned char *object; /* the shared object as a file [object_bytes], with its debug information */
  size_t object_bytes;
  uintptr_t base, end;              /* where it lies: its code and data. An address less the base is one of the file's */
  const struct emu_kernel *kernels; /* up to one whose name is NULL */
};

/* NULL: it is none of this machine's images, damaged, or cannot be loaded, and `why` says so. */
struct emu_image *emu_image_load(const void *bytes, char *why, size_t why_bytes);
void emu_image_unload(struct emu_image *image);

/* Writes the shared object to a file of its own, for a program that is to read it by name: `path`, in a folder that
 * emu_image_file_remove() removes with it. */
bool emu_image_file(const struct emu_image *image, char *path, size_t path_bytes);
void emu_image_file_remove(const char *path);

#endif
