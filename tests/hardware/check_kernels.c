#include "check_kernels.h"

#include <nvrtc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "check_tensor_core: ");
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  va_end(arguments);
  exit(EXIT_FAILURE);
}

void must(CUresult result, const char *what) {
  const char *text = NULL;
  if (result == CUDA_SUCCESS) return;
  cuGetErrorString(result, &text);
  fail("%s: %s", what, text ? text : "an error without a name");
}

static char *read_text(const char *tree, const char *name) {
  char path[4096], *text = NULL;
  size_t bytes;
  snprintf(path, sizeof path, "%s/%s", tree, name);
  FILE *file = fopen(path, "r"), *memory = open_memstream(&text, &bytes);
  if (!file || !memory) fail("%s cannot be read; --tree names the folder that holds the project", path);
  for (int c; (c = getc(file)) != EOF;) putc(c, memory);
  if (ferror(file) || fclose(memory) != 0) fail("%s cannot be read", path);
  fclose(file);
  return text;
}

static const char *const vocabulary[VOCABULARY] = {"wgmma_any.cuh", "wgmma.cuh", "shared.cuh", "unroll.cuh"};

struct sources read_sources(const char *tree) {
  struct sources sources = {.kernels = read_text(tree, "tests/hardware/check_tensor_core.cu"),
                            .definition = read_text(tree, "ref/tensor_core.h"),
                            .random_operands = read_text(tree, "tests/hardware/random_operands.h"),
                            .shared_types = read_text(tree, "tests/hardware/check_tensor_core.h")};
  for (int i = 0; i < VOCABULARY; i++) {
    char name[64];
    snprintf(name, sizeof name, "gpu/device/%s", vocabulary[i]);
    sources.vocabulary[i] = read_text(tree, name);
  }
  return sources;
}

void free_sources(struct sources *sources) {
  free(sources->kernels);
  free(sources->definition);
  free(sources->random_operands);
  free(sources->shared_types);
  for (int i = 0; i < VOCABULARY; i++) free(sources->vocabulary[i]);
}

char *changed_definition(const char *definition, const char *passage, const char *instead) {
  const char *at = strstr(definition, passage);
  if (!at || strstr(at + 1, passage)) fail("\"%s\" does not stand once in the definition", passage);
  size_t bytes = strlen(definition) + strlen(instead) + 1;
  char *changed = malloc(bytes);
  if (!changed) fail("no memory");
  snprintf(changed, bytes, "%.*s%s%s", (int)(at - definition), definition, instead, at + strlen(passage));
  return changed;
}

/* The assembler says how many bytes each kernel spilled: "0 bytes spill stores". */
static long count_spilled_bytes(const char *log) {
  long bytes = 0, stored;
  for (const char *at = log; (at = strstr(at, "bytes stack frame, ")); at++)
    if (sscanf(at, "bytes stack frame, %ld", &stored) == 1) bytes += stored;
  return bytes;
}

void compile_module(struct module *module, const struct sources *sources) {
  const struct variant *is = &module->variant;
  enum { HEADERS = 3 + VOCABULARY };
  char defines[5][32], *log;
  snprintf(defines[0], sizeof defines[0], "-DCOLS=%d", is->cols);
  snprintf(defines[1], sizeof defines[1], "-DA_IS_E5M2=%d", is->a_is_e5m2);
  snprintf(defines[2], sizeof defines[2], "-DB_IS_E5M2=%d", is->b_is_e5m2);
  snprintf(defines[3], sizeof defines[3], "-DA_IN_REGISTERS=%d", is->a_in_registers);
  snprintf(defines[4], sizeof defines[4], "-DWGMMA_N=%d", is->cols);
  const char *texts[HEADERS] = {sources->definition, sources->random_operands, sources->shared_types};
  const char *names[HEADERS] = {"tensor_core.h", "random_operands.h", "check_tensor_core.h"};
  for (int i = 0; i < VOCABULARY; i++) texts[3 + i] = sources->vocabulary[i], names[3 + i] = vocabulary[i];
  const char *options[] = {"-arch=sm_90a", "--ptxas-options=-v", defines[0], defines[1], defines[2], defines[3], defines[4]};
  nvrtcProgram program;
  if (nvrtcCreateProgram(&program, sources->kernels, "tests/hardware/check_tensor_core.cu", HEADERS, texts, names) !=
      NVRTC_SUCCESS)
    fail("the run-time compiler cannot begin");
  nvrtcResult result = nvrtcCompileProgram(program, 7, options);
  size_t bytes = 0;
  nvrtcGetProgramLogSize(program, &bytes);
  if (!(log = calloc(1, bytes + 1))) fail("no memory");
  nvrtcGetProgramLog(program, log);
  if (result != NVRTC_SUCCESS) fail("%s\n%s", nvrtcGetErrorString(result), log);
  if (strstr(log, "warning") || strstr(log, "Warning")) fprintf(stderr, "%s\n", log);
  module->spilled_bytes = count_spilled_bytes(log);
  if (nvrtcGetCUBINSize(program, &module->bytes) != NVRTC_SUCCESS || !(module->cubin = malloc(module->bytes)) ||
      nvrtcGetCUBIN(program, module->cubin) != NVRTC_SUCCESS)
    fail("the run-time compiler gives no code");
  nvrtcDestroyProgram(&program);
  free(log);
}

void load_module(struct module *module) {
  must(cuModuleLoadData(&module->loaded, module->cubin), "loading a module");
  must(cuModuleGetFunction(&module->compare, module->loaded, "compare"), "the kernel compare");
  if (module->variant.cols != 8) return;
  must(cuModuleGetFunction(&module->run_dots, module->loaded, "run_dots"), "the kernel run_dots");
  must(cuModuleGetFunction(&module->encode, module->loaded, "encode"), "the kernel encode");
}

void unload_module(struct module *module) {
  if (module->loaded) must(cuModuleUnload(module->loaded), "unloading a module");
  free(module->cubin);
}
