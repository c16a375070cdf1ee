/* Planted defects: kernels of tests/kernels, each with one mistake, that the emulator must find. A mistake is a text and what stands in
 * its place. The same are run on a GPU, to see what a chip makes of them: tests/hardware/plant_defects.c. */
#ifndef DEFECTS_H
#define DEFECTS_H

#include "driver.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A kernel, and how it is launched: small, but so that every ring wraps. */
struct defect_launch {
  _Alignas(64) unsigned char arguments[512];
  size_t argument_bytes;
  int result_count;
  struct {
    CUdeviceptr data;
    size_t bytes;
  } result[3];
};
struct defect_kernel {
  const char *name;
  const char *source; /* tests/kernels/SOURCE.cu, and its function */
  const char *defines[5];
  unsigned threads, blocks, cluster, shared_bytes;
  void (*prepare)(struct defect_launch *launch); /* in the current context */
};
extern const struct defect_kernel defect_kernels[];
extern const int defect_kernel_count;

struct defect {
  const char *category, *what, *kernel;
  const char *text, *instead; /* the text stands in the source once */
  const char *line;           /* the sentence begins with the line of the damaged source that has this, once; NULL: with none */
  const char *words;          /* and contains these */
  unsigned more_shared_bytes; /* than the kernel is launched with otherwise */
};
extern const struct defect defects[];
extern const int defect_count;
const struct defect_kernel *defect_kernel_of(const struct defect *defect);

/* A kernel, compiled: damaged, or as it is where defect is NULL. FG_KERNEL_DIR names a tree of its own meanwhile. Whatever goes wrong
 * that is not the kernel's fault ends the process with a sentence. */
struct planted {
  const struct defect_kernel *kernel;
  unsigned shared_bytes;
  int line; /* where the sentence begins; 0: at none */
  void *image;
  char refused[2048]; /* the compiler's sentence; "": it has none */
  CUkernel loaded;
  struct defect_launch launch;
};
void defect_plant(const struct defect *defect, const struct defect_kernel *kernel, struct planted *planted);
/* In a context that becomes the thread's: the first device's. The process has one. */
void defect_load(struct planted *planted);

struct defect_run {
  CUresult result;
  uint64_t digest;     /* of what the kernel gave */
  char sentence[2048]; /* the driver's, if it failed */
};
struct defect_run defect_run(const struct planted *planted);

/* On the emulator, under each seed. */
enum { DEFECT_SEEDS = 21 };
struct defect_trial {
  int found, first;      /* under how many seeds, as the table has it; the first of them */
  int elsewhere;         /* otherwise */
  int silent, corrupted; /* nothing reported, the bits right or wrong */
  char sentence[2048];   /* the first that was found, or else any */
};
struct defect_trial defect_try(const struct defect *defect);
/* The sentence for a table: without the kernel's folder, name and thread, and as much of it as there is room for. */
void defect_shorten(const char *sentence, char *text, size_t bytes);

#endif
