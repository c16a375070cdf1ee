/* Runs small kernels, tests/kernels/NAME.cu, through the library's own compiler and driver: on a Hopper GPU, or on the emulator where
 * FG_DEVICE=emulator is in the environment. */
#ifndef SMALL_KERNELS_H
#define SMALL_KERNELS_H

#include "driver.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Fails the test unless a driver's call succeeds. */
void kernel_must(CUresult result, const char *call);
#define KERNEL_MUST(call) kernel_must(call, #call)

/* The first Hopper GPU's context becomes the thread's. Without one the test is skipped, or fails where FG_REQUIRE_GPU is in the
 * environment; it says why. Once for a test, and the end of it, which gives everything back. */
void kernels_begin(void);
void kernels_end(void);

/* tests/kernels/NAME.cu, compiled; its function is NAME. `defines` ("RANK=2") ends with a NULL. Its one argument is of so many bytes. */
struct kernel {
  const char *name;
  CUkernel kernel;
  unsigned threads, shared_bytes;
  size_t argument_bytes;
};
struct kernel kernel_make(const char *name, const char *const *defines, unsigned threads, unsigned shared_bytes,
                          size_t argument_bytes);

/* Until the launch has ended. A fault fails the test with the driver's words. cluster: blocks of one. */
void kernel_run(const struct kernel *kernel, unsigned blocks, unsigned cluster, const void *arguments);

/* A launch is tried this often: for (uint64_t seed = 0; kernel_seed(&seed); seed++). On the emulator each time with another seed,
 * FG_EMULATOR_SEEDS of them (4), or with FG_SEED alone; on a GPU twice. */
bool kernel_seed(const uint64_t *seed);

/* Memory of the device between guards, given back at the end. `bytes` from `from`; NULL: of a pattern that no kernel writes. */
enum { KERNEL_PATTERN = 0xA7 };
void *kernel_array(const void *from, size_t bytes);
/* Puts the pattern there again. */
void kernel_forget(void *data);
/* What is in it is `expected`, and the guards are untouched; else the test fails and names the first byte. It goes into the digest
 * if `digest` is not NULL. */
void kernel_expect(const struct kernel *kernel, const void *data, const void *expected, uint64_t *digest);

/* Prints a line that is the same wherever the bits are: what ran, and a digest of its results. */
enum { DIGEST_SEED = 1 };
void kernel_report(const char *what, uint64_t digest);

#endif
