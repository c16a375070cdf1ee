/* The kernels of check_tensor_core.cu, compiled at run time: one module for each variant of the instruction. */
#ifndef CHECK_KERNELS_H
#define CHECK_KERNELS_H

#include <cuda.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ends the program with a sentence. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* D [64, cols], A from shared memory or from registers. */
struct variant {
  int cols, a_is_e5m2, b_is_e5m2, a_in_registers;
};

/* What the compiler reads; the last are those of gpu/device that have the instruction. */
enum { VOCABULARY = 4 };
struct sources {
  char *kernels, *definition, *random_operands, *shared_types, *vocabulary[VOCABULARY];
};

struct module {
  struct variant variant;
  char *cubin;
  size_t bytes;
  long spilled_bytes;
  CUmodule loaded;
  CUfunction compare, run_dots, encode; /* the last two only where cols is 8 */
};

/* Reads them from a tree of the project. */
struct sources read_sources(const char *tree);
void free_sources(struct sources *sources);

/* The definition with one passage changed, which must stand in it exactly once. The caller frees it. */
char *changed_definition(const char *definition, const char *passage, const char *instead);

/* Several threads may compile at once. A failure ends the program with the compiler's words. */
void compile_module(struct module *module, const struct sources *sources);
void load_module(struct module *module);
void unload_module(struct module *module);

/* Ends the program if `result` is an error of the driver. */
void must(CUresult result, const char *what);

#endif
