/* The emulator in place of driver and compiler, as the library meets it: chosen by FG_DEVICE, compiling with this machine's compiler,
 * and whatever is wrong said in a sentence. What it does with kernels is for test_emulator_*.c and test_vocabulary.c. */
#define _DEFAULT_SOURCE /* setenv, mkdtemp */
#include "compiler.h"
#include "finegemm_kernels.h"
#include "gpu_memory.h"
#include "kernel.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARENA_BYTES = 4 << 20 };

static fg_context *emulator(void) {
  setenv("FG_DEVICE", "emulator", 1);
  setenv("FG_CACHE_DIR", "", 0);
  fg_context *context = NULL;
  cr_assert_eq(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA}), FG_OK, "%s", fg_message());
  return context;
}

static void says(const char *words) { cr_expect(strstr(fg_message(), words), "\"%s\" does not say \"%s\"", fg_message(), words); }

/* A tree of its own for FG_KERNEL_DIR: with one source, "tests/kernels/kernel.cu". */
static char tree[64];

static void write_source(const char *name, const char *text) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", tree, name);
  for (char *slash = path + strlen(tree) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
    *slash = '\0';
    mkdir(path, 0700);
  }
  FILE *file = fopen(path, "w");
  cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void make_tree(const char *kernel) {
  const char *folder = getenv("TMPDIR");
  if (!*tree) {
    snprintf(tree, sizeof tree, "%s/finegemm-test-XXXXXX", folder ? folder : P_tmpdir);
    cr_assert(mkdtemp(tree));
    setenv("FG_KERNEL_DIR", tree, 1);
  }
  write_source("tests/kernels/kernel.cu", kernel);
}

static void remove_tree(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", tree);
  if (*tree) cr_expect_eq(system(command), 0);
}

static fg_status compile(const char *source, void **image, size_t *bytes) {
  const struct fg_compilation compilation = {.source = source, .arch = "sm_90a"};
  return fg_compile(&compilation, image, bytes, NULL);
}

/* --- Choosing */

Test(stand_in, is_a_hopper_gpu) {
  setenv("FG_EMULATOR_SMS", "7", 1);
  fg_context *context = emulator();
  fg_gpu gpu;
  cr_assert_eq(fg_context_gpu(context, &gpu), FG_OK);
  cr_expect_str_eq(gpu.name, "finegemm emulator");
  cr_expect_str_eq(gpu.arch, "sm_90a");
  cr_expect(gpu.sms == 7 && gpu.shared_bytes == 232448);
  fg_context_destroy(context);
}

Test(stand_in, has_132_multiprocessors_unless_told) {
  fg_context *context = emulator();
  fg_gpu gpu;
  cr_assert_eq(fg_context_gpu(context, &gpu), FG_OK);
  cr_expect_eq(gpu.sms, 132);
  fg_context_destroy(context);
}

Test(stand_in, no_other_device_has_a_name) {
  setenv("FG_DEVICE", "tpu", 1);
  fg_context *context;
  cr_expect_eq(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA}), FG_UNSUPPORTED);
  says("FG_DEVICE is tpu; it must be emulator");
  cr_expect_eq(fg_compiler_version(), 0);
  says("FG_DEVICE is tpu; it must be emulator");
}

Test(stand_in, a_library_that_is_named_comes_first) {
  setenv("FG_DEVICE", "emulator", 1);
  setenv("FG_CUDA_DRIVER", "/nowhere/libcuda.so.1", 1);
  fg_context *context;
  cr_expect_eq(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA}), FG_UNSUPPORTED);
  says("/nowhere/libcuda.so.1");
  setenv("FG_NVRTC", "/nowhere/libnvrtc.so", 1);
  cr_expect_eq(fg_compiler_version(), 0);
  says("/nowhere/libnvrtc.so");
  unsetenv("FG_DEVICE");
  setenv("FG_CUDA_DRIVER", "libfinegemm_emulator.so.0", 1);
  setenv("FG_NVRTC", "libfinegemm_emulator.so.0", 1);
  cr_assert_eq(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA}), FG_OK, "%s", fg_message());
  cr_expect(fg_driver()->is_emulator);
  cr_expect_str_eq(fg_compiler_name(), "the emulator");
  fg_context_destroy(context);
}

/* Whether a line that the program prints has the words. */
static bool program_says(const char *command, const char *words) {
  char line[512];
  bool said = false;
  snprintf(line, sizeof line, "FG_DEVICE=emulator %s %s", FINEGEMM_PROGRAM, command);
  FILE *output = popen(line, "r");
  cr_assert(output);
  while (fgets(line, sizeof line, output)) said = said || strstr(line, words);
  pclose(output);
  return said;
}

Test(stand_in, the_program_says_that_it_is_no_gpu) {
  setenv("FG_CACHE_DIR", "", 0);
  cr_expect(program_says("levels", "Levels of the GPU run on the emulator"));
  cr_expect(program_says("doctor", "the emulator: kernels run on this machine's processor"));
  cr_expect(program_says("doctor", "finegemm emulator"));
  cr_expect(program_says("doctor", "level naive") && !program_says("doctor", "Not all levels"));
}

/* --- Compiling */

/* That the compiler says: where, and what. */
static void is_refused(const char *kernel, const char *where, const char *what) {
  void *image;
  size_t bytes;
  make_tree(kernel);
  cr_expect_eq(compile("tests/kernels/kernel.cu", &image, &bytes), FG_COMPILE_ERROR, "%s", kernel);
  cr_expect(strncmp(fg_message(), where, strlen(where)) == 0, "\"%s\" does not begin with %s", fg_message(), where);
  says(what);
  says("(for sm_90a, by the emulator)");
}

#define KERNEL_OF(body)                                                                                                          \
  "struct arguments { float *to; long long n[3]; };\nextern \"C\" __global__ void kernel(struct arguments args) {\n" body "\n}\n"

Test(stand_in, what_is_not_modelled_does_not_compile) {
  fg_context_destroy(emulator());
  static const char third_line[] = "tests/kernels/kernel.cu(3): error: ";
  is_refused(KERNEL_OF("  not_declared(1);"), third_line, "not_declared");
  is_refused(KERNEL_OF("  __shared__ float tile[16];"), third_line, "FG_SHARED");
  is_refused(KERNEL_OF("  printf(\"%d\", 1);"), third_line, "printf");
  is_refused(KERNEL_OF("  asm volatile(\"bar.sync 0;\");"), third_line, "bar.sync");
  is_refused(KERNEL_OF("  atomicAdd(args.to, 1.0f);"), third_line, "atomicAdd");
  is_refused(KERNEL_OF("  __shfl_sync(1, 1.0, 1);"), "gpu/emulator/cuda_builtins.cuh(", "32 bits");
  is_refused("void elsewhere(int);\n" KERNEL_OF("  elsewhere(1);"), "tests/kernels/kernel.cu(4): error: ", "elsewhere");
  is_refused("extern \"C\" __global__ void kernel(int a, int b) {}\n", "", "error");
  is_refused("extern \"C\" __global__ void kernel(int a) {}\n", "", "takes one struct");
  is_refused("struct large { int n[1025]; };\nextern \"C\" __global__ void kernel(struct large args) {}\n", "", "4096 bytes");
  remove_tree();
}

Test(stand_in, errors_in_headers_have_the_headers_name) {
  fg_context_destroy(emulator());
  make_tree("#include \"args.h\"\n");
  write_source("gpu/device/args.h", "\n\nnonsense;\n");
  is_refused("#include \"args.h\"\n", "gpu/device/args.h(3): error: ", "nonsense");
  remove_tree();
}

Test(stand_in, compiles_for_sm_90a_alone) {
  fg_context_destroy(emulator());
  void *image;
  size_t bytes;
  int archs[4];
  cr_expect(fg_compiler_archs(archs, 4) == 1 && archs[0] == 90);
  struct fg_compilation compilation = {.source = "lessons/04_naive.cu", .arch = "sm_80"};
  cr_expect_eq(fg_compile(&compilation, &image, &bytes, NULL), FG_UNSUPPORTED);
  says("the emulator cannot compile for sm_80");
  compilation.arch = "sm_90";
  cr_expect_eq(fg_compile(&compilation, &image, &bytes, NULL), FG_COMPILE_ERROR);
  says("sm_90a");
}

Test(stand_in, wants_a_compiler) {
  void *image;
  size_t bytes;
  setenv("CXX", "no-such-compiler --with arguments", 1);
  fg_context_destroy(emulator());
  cr_expect_eq(compile("lessons/04_naive.cu", &image, &bytes), FG_COMPILE_ERROR);
  says("CXX is 'no-such-compiler --with arguments', and no C++ compiler of that name can be started");
  cr_expect_null(image);
  for (int status = 0; status < 2; status++) {
    setenv("CXX", status ? "false" : "true", 1);
    cr_expect_eq(compile("lessons/04_naive.cu", &image, &bytes), FG_COMPILE_ERROR);
    says(status ? "the C++ compiler 'false' has made nothing, and ended with exit status 1"
                : "the C++ compiler 'true' has made nothing, and ended with exit status 0");
  }
  unsetenv("CXX");
  setenv("PATH", "/nowhere", 1);
  cr_expect_eq(compile("lessons/04_naive.cu", &image, &bytes), FG_COMPILE_ERROR);
  says("no C++ compiler, which");
}

Test(stand_in, wants_a_place_for_files) {
  void *image;
  size_t bytes;
  fg_context_destroy(emulator());
  setenv("TMPDIR", "/nowhere", 1);
  cr_expect_eq(compile("lessons/04_naive.cu", &image, &bytes), FG_COMPILE_ERROR);
  says("No such file or directory");
}

/* What the compiler calls its version, in a process that has not asked before. */
static int version_in_a_child(void) {
  int ends[2], version = 0;
  cr_assert_eq(pipe(ends), 0);
  pid_t child = fork();
  cr_assert_geq(child, 0);
  if (child == 0) {
    version = fg_compiler_version();
    _exit(write(ends[1], &version, sizeof version) == sizeof version ? 0 : 1);
  }
  cr_assert_eq(read(ends[0], &version, sizeof version), sizeof version);
  waitpid(child, NULL, 0);
  close(ends[0]);
  close(ends[1]);
  return version;
}

Test(stand_in, images_of_another_emulator_have_other_keys) {
  setenv("FG_DEVICE", "emulator", 1);
  int usual = version_in_a_child();
  cr_expect_gt(usual, 13990, "no version of NVRTC's own is tried where there is no compiler");
  cr_expect_eq(version_in_a_child(), usual);
  make_tree("");
  cr_expect_eq(version_in_a_child(), usual, "the tree has no headers of the emulator's");
  write_source("gpu/emulator/tma.cuh", "/* another */\n");
  cr_expect_neq(version_in_a_child(), usual);
  unsetenv("FG_KERNEL_DIR");
  setenv("CXX", "no-such-compiler", 1);
  cr_expect_neq(version_in_a_child(), usual);
  remove_tree();
}

Test(stand_in, keeps_what_it_has_compiled) {
  make_tree("");
  char cache[128];
  snprintf(cache, sizeof cache, "%s/cache", tree);
  unsetenv("FG_KERNEL_DIR");
  setenv("FG_CACHE_DIR", cache, 1);
  fg_context_destroy(emulator());
  const struct fg_kernel_id id = {.level = FG_NAIVE, .block_m = 16, .block_n = 16};
  for (int time = 0; time < 2; time++) {
    void *image;
    fg_kernel kernel;
    cr_assert_eq(fg_kernel_image("sm_90a", &id, &image, &kernel), FG_OK, "%s", fg_message());
    cr_expect_eq(kernel.was_cached, time);
    cr_expect_gt(kernel.bytes, 0);
    free(image);
  }
  remove_tree();
}

/* --- Loading */

Test(stand_in, only_whole_images_of_its_own_are_loaded) {
  fg_context_destroy(emulator());
  const struct fg_driver *driver = fg_driver();
  void *image;
  size_t bytes;
  CUlibrary library;
  CUkernel kernel;
  make_tree(KERNEL_OF(""));
  cr_assert_eq(compile("tests/kernels/kernel.cu", &image, &bytes), FG_OK, "%s", fg_message());
  cr_assert_eq(driver->cuLibraryLoadData(&library, image, NULL, NULL, 0, NULL, NULL, 0), CUDA_SUCCESS);
  cr_expect_eq(driver->cuLibraryGetKernel(&kernel, library, "kernel"), CUDA_SUCCESS);
  cr_expect_eq(driver->cuLibraryGetKernel(&kernel, library, "another"), CUDA_ERROR_NOT_FOUND);
  cr_expect_eq(driver->cuLibraryUnload(library), CUDA_SUCCESS);
  static const char elf[64] = "\177ELF\002\001\001\063";
  const struct {
    const char *says;
    const void *image;
    size_t at;
  } wrong[] = {
      {"none of the emulator's", elf, 0}, {"damaged", NULL, 8}, {"damaged", NULL, bytes - 1}, {"damaged", NULL, bytes / 2}};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    unsigned char *byte = (unsigned char *)image + wrong[i].at;
    if (!wrong[i].image) *byte ^= 1;
    CUresult result = driver->cuLibraryLoadData(&library, wrong[i].image ? wrong[i].image : image, NULL, NULL, 0, NULL, NULL, 0);
    cr_expect_eq(result, CUDA_ERROR_INVALID_IMAGE);
    fg_driver_fail("cuLibraryLoadData", result);
    says(wrong[i].says);
    says("CUDA_ERROR_INVALID_IMAGE");
    if (!wrong[i].image) *byte ^= 1;
  }
  free(image);
  remove_tree();
}

/* --- Launching */

struct arguments {
  float *to;
  long long n[3];
};

/* A kernel that is loaded. */
static CUkernel load(const char *source) {
  const struct fg_driver *driver = fg_driver();
  void *image;
  size_t bytes;
  CUlibrary library;
  CUkernel kernel;
  make_tree(source);
  cr_assert_eq(compile("tests/kernels/kernel.cu", &image, &bytes), FG_OK, "%s", fg_message());
  GPU_MUST(driver->cuLibraryLoadData(&library, image, NULL, NULL, 0, NULL, NULL, 0));
  GPU_MUST(driver->cuLibraryGetKernel(&kernel, library, "kernel"));
  free(image);
  return kernel;
}

static CUresult launch(CUkernel kernel, unsigned threads, unsigned shared_bytes, struct arguments args) {
  const CUlaunchConfig config = {1, 1, 1, threads, 1, 1, shared_bytes, NULL, NULL, 0};
  void *parameters[] = {&args};
  CUfunction function;
  GPU_MUST(fg_driver()->cuKernelGetFunction(&function, kernel));
  CUresult result = fg_driver()->cuLaunchKernelEx(&config, function, parameters, NULL);
  if (result != CUDA_SUCCESS) fg_driver_fail("cuLaunchKernelEx", result);
  return result;
}

Test(stand_in, a_launch_asks_for_no_more_than_it_may) {
  fg_context *context = emulator();
  const struct fg_driver *driver = fg_driver();
  gpu_enter(0);
  make_tree("");
  write_source("gpu/device/shared.cuh", ""); /* the emulator's takes its place */
  CUkernel kernel = load("#include \"shared.cuh\"\nstruct arguments { float *to; long long n[3]; };\n"
                         "extern \"C\" __global__ void __launch_bounds__(2 * 32, 2) kernel(struct arguments args) {\n"
                         "  FG_SHARED(float, first);\n"
                         "  if (threadIdx.x == 0) { (&first)[args.n[0]] = 2; args.to[0] = (&first)[args.n[0]]; }\n}\n");
  void *to;
  float got = 0;
  int most;
  cr_assert_eq(fg_memory_allocate(context, sizeof(float), &to), FG_OK);
  struct arguments args = {to, {48 * 1024 / 4 - 1, 0, 0}};
  GPU_MUST(driver->cuKernelGetAttribute(&most, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel, 0));
  cr_expect_eq(most, 64);
  cr_expect_eq(launch(kernel, 65, 64, args), CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
  says("65 threads");
  says("at most 64");
  cr_expect_eq(launch(kernel, 64, 48 * 1024 + 1, args), CUDA_ERROR_INVALID_VALUE);
  says("49153 bytes of shared memory");
  cr_expect_eq(launch(kernel, 64, 48 * 1024, args), CUDA_SUCCESS, "%s", fg_message());
  cr_assert_eq(fg_memory_copy(context, &got, to, sizeof got), FG_OK);
  cr_expect_eq(got, 2);
  static const CUfunction_attribute attribute = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
  cr_expect_eq(driver->cuKernelSetAttribute(attribute, 232449, kernel, 0), CUDA_ERROR_INVALID_VALUE);
  cr_expect_eq(driver->cuKernelSetAttribute(attribute, 232448, kernel, 0), CUDA_SUCCESS);
  args.n[0] = 232448 / 4 - 1;
  cr_expect_eq(launch(kernel, 64, 232448, args), CUDA_SUCCESS, "%s", fg_message());
  args.n[0]++;
  cr_expect_eq(launch(kernel, 64, 232448, args), CUDA_ERROR_LAUNCH_FAILED);
  says("of shared memory, of which the block has 232448");
  gpu_leave();
  fg_context_destroy(context);
  remove_tree();
}

/* The line that the message begins with. */
static void fails_at(CUkernel kernel, struct arguments args, int line, const char *what) {
  char begin[128];
  snprintf(begin, sizeof begin, "tests/kernels/kernel.cu(%d): kernel kernel, block 0, warp 0, thread 0: ", line);
  cr_expect_eq(launch(kernel, 32, 0, args), CUDA_ERROR_LAUNCH_FAILED);
  cr_expect(strncmp(fg_message(), begin, strlen(begin)) == 0, "\"%s\" does not begin with \"%s\"", fg_message(), begin);
  says(what);
}

/* A fault ends a launch, and nothing else. */
Test(stand_in, a_fault_is_a_sentence_and_does_not_stick) {
  fg_context *context = emulator();
  const struct fg_driver *driver = fg_driver();
  gpu_enter(0);
  void *to;
  cr_assert_eq(fg_memory_allocate(context, 10 * sizeof(float), &to), FG_OK);
  CUkernel kernel = load(KERNEL_OF("  if (threadIdx.x) return;\n"
                                   "  if (args.n[0] == 1) args.to[args.n[1]] = 1;\n"
                                   "  if (args.n[0] == 2) args.n[0] /= args.n[1];\n"
                                   "  if (args.n[0] == 3) __trap();\n"
                                   "  while (args.n[0] == 4) *(volatile float *)args.to = 1;\n"
                                   "  float own[3] = {};\n"
                                   "  if (args.n[0] == 5) own[args.n[1]] = 1;\n"
                                   "  if (args.n[0] == 6) __shfl_sync(1, own[0], 0, 16);\n"
                                   "  args.to[0] = own[args.n[2] % 3];"));
  for (int time = 0; time < 2; time++) {
    fails_at(kernel, (struct arguments){to, {1, 10, 0}}, 4, "is 0 bytes behind the end of device memory of 40 bytes");
    fails_at(kernel, (struct arguments){to, {1, -1, 0}}, 4, "is 4 bytes before device memory of 40 bytes");
    fails_at(kernel, (struct arguments){(float *)(uintptr_t)((char *)to + 2), {1, 9, 0}}, 4, "a misaligned address on a GPU");
    fails_at(kernel, (struct arguments){NULL, {1, 0, 0}}, 4, "writes 4 bytes where it may not");
    fails_at(kernel, (struct arguments){to, {2, 0, 0}}, 5, "thread 0: a division by zero");
    fails_at(kernel, (struct arguments){to, {3, 0, 0}}, 6, "__trap()");
    fails_at(kernel, (struct arguments){to, {4, 0, 0}}, 7, "steps");
    fails_at(kernel, (struct arguments){to, {5, 3, 0}}, 9, "an index beyond its array: 3, of 'float [3]'");
    fails_at(kernel, (struct arguments){to, {5, -1, 0}}, 9, "an index beyond its array: -1, of 'float [3]'");
    cr_expect_null(strstr(fg_message(), "not modelled"));
    fails_at(kernel, (struct arguments){to, {6, 3, 0}}, 10, "a shuffle of less than a warp");
    cr_expect_eq(launch(kernel, 32, 0, (struct arguments){to, {0}}), CUDA_SUCCESS, "%s", fg_message());
    cr_expect_eq(driver->cuCtxSynchronize(), CUDA_SUCCESS);
  }
  const char *words;
  GPU_MUST(driver->cuGetErrorString(CUDA_ERROR_LAUNCH_FAILED, &words));
  cr_expect_str_eq(words, "unspecified launch failure", "what was said is forgotten with the next call");
  cr_assert_eq(fg_memory_free(context, to), FG_OK);
  fails_at(kernel, (struct arguments){to, {1, 0, 0}}, 4, "there is no device memory at all");
  gpu_leave();
  fg_context_destroy(context);
  remove_tree();
}

Test(stand_in, its_environment_is_looked_at) {
  fg_context *context = emulator();
  gpu_enter(0);
  void *to;
  cr_assert_eq(fg_memory_allocate(context, sizeof(float), &to), FG_OK);
  const struct arguments args = {to, {0}};
  CUkernel kernel = load(KERNEL_OF("  args.to[0] = 1;"));
  static const struct {
    const char *variable, *value, *says;
  } wrong[] = {{"FG_EMULATOR_SEED", "x", "FG_EMULATOR_SEED is x; it must be a number from 0 to 18446744073709551615"},
               {"FG_EMULATOR_SEED", "-1", "FG_EMULATOR_SEED is -1"},
               {"FG_EMULATOR_SEED", "99999999999999999999", "it must be a number"},
               {"FG_EMULATOR_THREADS", "4 ", "FG_EMULATOR_THREADS is 4 ; it must be a number from 1 to 1024"},
               {"FG_EMULATOR_THREADS", "0", "FG_EMULATOR_THREADS is 0; it must be"},
               {"FG_EMULATOR_SMS", "1025", "FG_EMULATOR_SMS is 1025; it must be a number from 1 to 1024"},
               {"FG_EMULATOR_TRACE_BLOCKS", "zz", "FG_EMULATOR_TRACE_BLOCKS is zz; it must be a number from 1 to 2147483647"},
               {"FG_EMULATOR_TRACE", "/nowhere/trace.json", "FG_EMULATOR_TRACE is /nowhere/trace.json"}};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    setenv(wrong[i].variable, wrong[i].value, 1);
    cr_expect_eq(launch(kernel, 1, 0, args), CUDA_ERROR_INVALID_VALUE);
    says(wrong[i].says);
    unsetenv(wrong[i].variable);
    cr_expect_eq(launch(kernel, 1, 0, args), CUDA_SUCCESS, "%s", fg_message());
  }
  char trace[128], byte;
  snprintf(trace, sizeof trace, "%s/trace.json", tree);
  setenv("FG_EMULATOR_TRACE", trace, 1);
  cr_expect_eq(launch(kernel, 1, 0, args), CUDA_SUCCESS, "%s", fg_message());
  FILE *file = fopen(trace, "r");
  cr_assert(file && fread(&byte, 1, 1, file) == 1);
  fclose(file);
  gpu_leave();
  fg_context_destroy(context);
  remove_tree();
}

/* Before anything is asked for, and so that it can be put right. */
Test(stand_in, starts_only_with_an_environment_that_it_understands) {
  static const char *const variables[] = {"FG_EMULATOR_SEED", "FG_EMULATOR_THREADS", "FG_EMULATOR_SMS",
                                          "FG_EMULATOR_TRACE_BLOCKS"};
  fg_context *context = NULL;
  setenv("FG_DEVICE", "emulator", 1);
  for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
    char begin[64];
    setenv(variables[i], "zz", 1);
    cr_expect_eq(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA}), FG_UNSUPPORTED);
    snprintf(begin, sizeof begin, "%s is zz; it must be a number from ", variables[i]);
    cr_expect_eq(strncmp(fg_message(), begin, strlen(begin)), 0, "%s", fg_message());
    unsetenv(variables[i]);
  }
  fg_context_destroy(emulator());
}

/* --- A level, the usual way */

static bool run(struct gpu_memory *memory, struct problem *problem, const unsigned char *expected, CUstream stream) {
  fg_problem call = gpu_place(memory, problem, BETWEEN_GUARDS);
  call.level = FG_NAIVE;
  call.stream = (struct CUstream_st *)stream;
  if (fg_gemm(memory->context, &call) != FG_OK) case_failed(problem, "%s", fg_message());
  return gpu_fetch(memory, problem, "naive") && d_equals(problem, expected, "naive");
}

static struct spec small_spec(uint64_t seed) {
  struct spec spec = spec_random(seed);
  spec.kind = FG_DENSE, spec.groups = 1;
  spec.m = 17, spec.n = 33, spec.k = 150;
  return spec;
}

Test(stand_in, a_graph_runs_what_was_captured) {
  fg_context *context = emulator();
  const struct fg_driver *driver = fg_driver();
  struct gpu_memory *memory = gpu_memory_make(context, ARENA_BYTES);
  struct spec spec = small_spec(1);
  struct problem *problem = problem_make(&spec);
  unsigned char *expected = defined_bytes(problem, FAMILY_FP32);
  fg_problem call = gpu_place(memory, problem, BETWEEN_GUARDS), bad;
  CUstream stream;
  CUgraph graph;
  CUgraphExec executable;
  gpu_enter(0);
  GPU_MUST(driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  call.level = FG_NAIVE;
  call.stream = (struct CUstream_st *)stream;
  cr_assert_eq(fg_prepare(context, &call), FG_OK, "%s", fg_message());
  for (int is_bad = 0; is_bad < 2; is_bad++) {
    bad = call;
    void *a;
    cr_assert_eq(fg_memory_allocate(context, (size_t)(spec.m * spec.k), &a), FG_OK);
    if (is_bad) bad.a = (fg_operand){.data = a, .scale = call.a.scale, .type = spec.a_type, .scaling = FG_TENSOR};
    GPU_MUST(driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    cr_expect_eq(fg_gemm(context, &bad), FG_OK, "%s", fg_message());
    GPU_MUST(driver->cuStreamEndCapture(stream, &graph));
    GPU_MUST(driver->cuGraphInstantiate(&executable, graph, 0));
    cr_assert_eq(fg_memory_free(context, a), FG_OK); /* too early */
    gpu_place(memory, problem, BETWEEN_GUARDS);
    cr_expect(gpu_fetch(memory, problem, "captured") && d_untouched(problem, "captured"));
    CUresult result = driver->cuGraphLaunch(executable, stream);
    cr_expect_eq(result, is_bad ? CUDA_ERROR_LAUNCH_FAILED : CUDA_SUCCESS);
    if (is_bad) {
      fg_driver_fail("cuGraphLaunch", result);
      bool is_shared_by_now = strstr(fg_message(), " of shared memory, of which the block has 0"); /* what was free was taken */
      if (!is_shared_by_now) says("where it may not");
      cr_expect(strstr(fg_message(), ".cu(") || strstr(fg_message(), ".cuh("), "%s", fg_message());
    } else {
      cr_expect(gpu_fetch(memory, problem, "the graph") && d_equals(problem, expected, "the graph"));
    }
    GPU_MUST(driver->cuGraphExecDestroy(executable));
    GPU_MUST(driver->cuGraphDestroy(graph));
  }
  GPU_MUST(driver->cuStreamDestroy(stream));
  gpu_leave();
  free(expected);
  problem_free(problem);
  gpu_memory_free(memory);
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}

static void *run_a_few(void *context) {
  static atomic_int next;
  struct gpu_memory *memory = gpu_memory_make(context, ARENA_BYTES);
  for (int time = 0; time < 3; time++) {
    struct spec spec = small_spec((uint64_t)atomic_fetch_add(&next, 1));
    struct problem *problem = problem_make(&spec);
    unsigned char *expected = defined_bytes(problem, FAMILY_FP32);
    if (!run(memory, problem, expected, NULL)) case_failed(problem, "in one of four threads");
    free(expected);
    problem_free(problem);
  }
  gpu_memory_free(memory);
  return NULL;
}

Test(stand_in, threads_share_it) {
  fg_context *context = emulator();
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) cr_assert_eq(pthread_create(&threads[i], NULL, run_a_few, context), 0);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}

Test(stand_in, memory_is_bounded_and_given_back) {
  fg_context *context = emulator();
  void *memory[3];
  enum { GIB = 1 << 30 };
  cr_expect_eq(fg_memory_allocate(context, (size_t)17 * GIB, &memory[0]), FG_OUT_OF_MEMORY);
  says("CUDA_ERROR_OUT_OF_MEMORY");
  for (int time = 0; time < 2; time++) {
    cr_assert_eq(fg_memory_allocate(context, (size_t)10 * GIB, &memory[0]), FG_OK, "%s", fg_message());
    cr_expect_eq(fg_memory_allocate(context, (size_t)7 * GIB, &memory[1]), FG_OUT_OF_MEMORY);
    cr_assert_eq(fg_memory_free(context, memory[0]), FG_OK);
  }
  fg_context_destroy(context);
}
