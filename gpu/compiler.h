/* NVRTC, CUDA's run-time compiler, opened at run time: libnvrtc.so.13, .12 or .so, the emulator where FG_DEVICE in the environment says
 * so, or what FG_NVRTC names. Any number of threads may call any of this. */
#ifndef FG_COMPILER_H
#define FG_COMPILER_H

#include "finegemm.h"
#include "source.h"

#include <stddef.h>

enum { FG_OLDEST_COMPILER = 12000 };

/* NVRTC is told that the tree lies in a folder of this name, since line tables hold absolute paths: so they do not depend on the
 * working directory. What it says is given back without it. */
#define FG_COMPILER_ROOT "/finegemm/"

/* A kernel to be compiled: with the sources, the options and the compiler, everything that its bits follow from. A source includes
 * others by bare name, #include "fp8.cuh", and they are those of gpu/device/; it includes nothing else. */
struct fg_compilation {
  const char *source; /* its name: "lessons/05_shared.cu" */
  const char *arch;   /* "sm_90a" */
  const char *const *defines;
  int define_count;     /* "BLOCK_M=128" each, at most FG_MOST_DEFINES */
  int compiler_version; /* for fg_compilation_key() alone, as 13000: of whichever compiler made it; 0: of the one that is here */
};

enum { FG_MOST_DEFINES = 48 };

/* The compilation as text, the same on every machine and in every folder: lines with the version of finegemm and of NVRTC, the
 * architecture, options, defines, and the SHA-256 of each source that takes part. *key goes to free().
 * FG_OK; FG_UNSUPPORTED: compiler_version is 0 and no NVRTC is here; FG_COMPILE_ERROR: a source cannot be read or includes what it
 * may not; FG_OUT_OF_MEMORY. *key is then NULL. */
fg_status fg_compilation_key(const struct fg_compilation *compilation, char **key);

/* Compiles to machine code: *cubin [*bytes]. *log (the pointer may be NULL) gets the compiler's words, warnings and ptxas's count of
 * registers and spills, after an error too if there are any. *cubin and *log go to free(), and are NULL if there is none.
 * FG_OK; FG_UNSUPPORTED: no NVRTC is here, or it does not know the architecture; FG_COMPILE_ERROR, and fg_message() begins with the
 * compiler's first error, "lessons/05_shared.cu(25): error: ..."; FG_OUT_OF_MEMORY. */
fg_status fg_compile(const struct fg_compilation *compilation, void **cubin, size_t *bytes, char **log);

/* NVRTC's version, as 13000; 0: there is none that works, and fg_message() says why and what to do (FG_UNSUPPORTED). */
int fg_compiler_version(void);

/* The same for people: "NVRTC 13.0", "the emulator"; NULL as 0. */
const char *fg_compiler_name(void);

/* The architectures that NVRTC knows, as 75 and 90, ascending: fills at most `capacity` and returns how many there are; 0: as for
 * fg_compiler_version(). */
int fg_compiler_archs(int *archs, int capacity);

#endif
