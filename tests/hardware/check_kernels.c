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

struct sources read_sources(const char *tree) {
  return (struct sources){.kernels = read_text(tree, "tests/hardware/check_tensor_core.cu"),
                          .definition = read_text(tree, "ref/tensor_core.h"),
                          .random_operands = read_text(tree, "tests/hardware/random_operands.h"),
                          .shared_types = read_text(tree, "tests/hardware/check_tensor_core.h")};
}

void free_sources(struct sources *sources) {
  free(sources->kernels);
  free(sources->definition);
  free(sources->random_operands);
  free(sources->shared_types);
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

/* wgmma_begin(d), wgmma(d, a, b, add_to_d) and wgmma_end(d), where d are cols / 2 floats, b a descriptor, and a a descriptor or
 * four registers. The statements on each d keep the compiler from moving it while the tensor core owns it. */
static char *make_wrapper(const struct variant *is) {
  char *text = NULL;
  size_t bytes;
  FILE *to = open_memstream(&text, &bytes);
  if (!to) fail("no memory");
  int count = is->cols / 2, next = count;
  fprintf(to,
          "#define OWN(d) _Pragma(\"unroll\") for (int i = 0; i < %d; i++) asm volatile(\"\" : \"+f\"(d[i])::\"memory\")\n"
          "static __device__ __forceinline__ void wgmma_begin(float *d) {\n"
          "  OWN(d);\n"
          "  asm volatile(\"wgmma.fence.sync.aligned;\" ::: \"memory\");\n"
          "}\n"
          "static __device__ __forceinline__ void wgmma_end(float *d) {\n"
          "  asm volatile(\"wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;\" ::: \"memory\");\n"
          "  OWN(d);\n"
          "}\n"
          "static __device__ __forceinline__ void wgmma(float *d, %s a, uint64_t b, int add_to_d) {\n"
          "  asm volatile(\"{ .reg .pred p; setp.ne.b32 p, %%%d, 0; wgmma.mma_async.sync.aligned.m64n%dk32.f32.%s.%s {",
          count, is->a_in_registers ? "const uint32_t *" : "uint64_t", count + (is->a_in_registers ? 5 : 2), is->cols,
          is->a_is_e5m2 ? "e5m2" : "e4m3", is->b_is_e5m2 ? "e5m2" : "e4m3");
  for (int i = 0; i < count; i++) fprintf(to, "%s%%%d", i ? ", " : "", i);
  fprintf(to, "}, ");
  if (is->a_in_registers) {
    fprintf(to, "{%%%d, %%%d, %%%d, %%%d}, ", next, next + 1, next + 2, next + 3);
    next += 3;
  } else
    fprintf(to, "%%%d, ", next);
  fprintf(to, "%%%d, p, 1, 1; }\" : ", next + 1);
  for (int i = 0; i < count; i++) fprintf(to, "%s\"+f\"(d[%d])", i ? ", " : "", i);
  fprintf(to, " : %s, \"l\"(b), \"r\"(add_to_d));\n}\n",
          is->a_in_registers ? "\"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3])" : "\"l\"(a)");
  if (fclose(to) != 0) fail("no memory");
  return text;
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
  char *wrapper = make_wrapper(is), defines[4][32], *log;
  snprintf(defines[0], sizeof defines[0], "-DCOLS=%d", is->cols);
  snprintf(defines[1], sizeof defines[1], "-DA_IS_E5M2=%d", is->a_is_e5m2);
  snprintf(defines[2], sizeof defines[2], "-DB_IS_E5M2=%d", is->b_is_e5m2);
  snprintf(defines[3], sizeof defines[3], "-DA_IN_REGISTERS=%d", is->a_in_registers);
  const char *texts[] = {sources->definition, sources->random_operands, sources->shared_types, wrapper};
  const char *names[] = {"tensor_core.h", "random_operands.h", "check_tensor_core.h", "wgmma.h"};
  const char *options[] = {"-arch=sm_90a", "--ptxas-options=-v", defines[0], defines[1], defines[2], defines[3]};
  nvrtcProgram program;
  if (nvrtcCreateProgram(&program, sources->kernels, "tests/hardware/check_tensor_core.cu", 4, texts, names) != NVRTC_SUCCESS)
    fail("the run-time compiler cannot begin");
  nvrtcResult result = nvrtcCompileProgram(program, 6, options);
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
  free(wrapper);
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
