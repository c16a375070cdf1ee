/* NVRTC, opened at run time, and what it is given: sources from the library or from a tree, headers from gpu/device/ and from nowhere
 * else, a key that says everything. What needs the real compiler is skipped where it is not; a stand-in plays it elsewhere. */
#define _DEFAULT_SOURCE /* P_tmpdir, mkfifo */
#include "compiler.h"

#include "cuda_stub.h"
#include "library_copy.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

/* --- Allocations of the library (the linker sends them here), of which the Nth fails */

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
static bool watching, and_all_after;
static int allocations, first_to_fail, live; /* live: whether watched or not */

static bool may_allocate(void) {
  pthread_mutex_lock(&counting);
  allocations += watching;
  bool fails = watching && first_to_fail && (and_all_after ? allocations >= first_to_fail : allocations == first_to_fail);
  live += !fails;
  pthread_mutex_unlock(&counting);
  if (fails) errno = ENOMEM;
  return !fails;
}

static void count_free(const void *pointer) {
  pthread_mutex_lock(&counting);
  live -= pointer != NULL;
  pthread_mutex_unlock(&counting);
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *pointer, size_t bytes);
void __real_free(void *pointer);
/* Visible, since a sanitized library that is linked asks the linker for `free` without a version. */
FG_API void *__wrap_malloc(size_t bytes);
FG_API void *__wrap_calloc(size_t count, size_t bytes);
FG_API void *__wrap_realloc(void *pointer, size_t bytes);
FG_API void __wrap_free(void *pointer);

void *__wrap_malloc(size_t bytes) { return may_allocate() ? __real_malloc(bytes) : NULL; }
void *__wrap_calloc(size_t count, size_t bytes) { return may_allocate() ? __real_calloc(count, bytes) : NULL; }
void *__wrap_realloc(void *pointer, size_t bytes) {
  if (!may_allocate()) return NULL;
  count_free(pointer); /* it takes the old one's place */
  return __real_realloc(pointer, bytes);
}
void __wrap_free(void *pointer) {
  count_free(pointer);
  __real_free(pointer);
}

/* --- A tree of sources for FG_KERNEL_DIR */

enum { PATH_BYTES = 1024 };
static char folder[PATH_BYTES / 2];

static char *in_folder(const char *name) {
  static _Thread_local char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static void make_folder(void) {
  const char *parent = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/finegemm-compiler-XXXXXX", parent ? parent : P_tmpdir);
  cr_assert_not_null(mkdtemp(folder), "%s: %s", folder, strerror(errno));
  unsetenv("FG_KERNEL_DIR");
  unsetenv("NVRTC_APPEND_FLAGS");
}

static void remove_folder(void) {
  char command[PATH_BYTES];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  cr_expect_eq(system(command), 0);
}

/* The folders on the way are made too. */
static void write_bytes(const char *name, const void *bytes, size_t count) {
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s", in_folder(name));
  for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
    *slash = '\0';
    cr_assert(mkdir(path, 0777) == 0 || errno == EEXIST, "%s", path);
  }
  FILE *file = fopen(path, "wb");
  cr_assert(file && fwrite(bytes, 1, count, file) == count && fclose(file) == 0, "%s", path);
}

static void write_text(const char *name, const char *text) { write_bytes(name, text, strlen(text)); }

/* What goes to __real_free. */
static char *read_text(const char *path) {
  FILE *file = fopen(path, "rb");
  cr_assert_not_null(file, "%s", path);
  char *text = __real_calloc(1, 1 << 20);
  size_t bytes = fread(text, 1, (1 << 20) - 1, file);
  fclose(file);
  cr_assert(bytes < (1 << 20) - 1);
  return text;
}

static const char step_text[] = "__device__ static float step(float total, float x) { return __fmaf_rn(x, x, total); }\n";

/* tests/kernels/sum.cu in a tree of its own below the folder, with the header that it includes; FG_KERNEL_DIR names it. */
static void make_tree(const char *name) {
  char path[PATH_BYTES], *sum = read_text(FG_SOURCE_DIR "/tests/kernels/sum.cu");
  snprintf(path, sizeof path, "%s/tests/kernels/sum.cu", name);
  write_text(path, sum);
  __real_free(sum);
  snprintf(path, sizeof path, "%s/gpu/device/step.cuh", name);
  write_text(path, step_text);
  setenv("FG_KERNEL_DIR", in_folder(name), 1);
}

static const char *const stride[] = {"STRIDE=128"};
static const struct fg_compilation sum = {
    .source = "tests/kernels/sum.cu", .arch = "sm_90a", .defines = stride, .define_count = 1};

/* A kernel "lessons/kernel.cu" of the tree, compiled as `arch`. */
static struct fg_compilation kernel_of_tree(const char *arch) {
  return (struct fg_compilation){.source = "lessons/kernel.cu", .arch = arch};
}

/* --- The compilers */

static void use_stub(void) {
  setenv("FG_NVRTC", FG_STUB_NVRTC, 1);
  stub_nvrtc_reset();
  make_folder();
}

/* Or what FG_NVRTC names from the beginning. */
static void use_real(void) {
  make_folder();
  if (fg_compiler_version() != 0) return;
  remove_folder();
  cr_skip_test("%s", fg_message());
}

static void expect_message(const char *part) {
  cr_expect(strstr(fg_message(), part) != NULL, "\"%s\" lacks \"%s\"", fg_message(), part);
}

static void expect_status(fg_status status, fg_status expected) {
  cr_expect_eq(status, expected, "%s: %s", fg_status_name(status), fg_message());
}

/* Compiles, expects this status, and that there is a cubin only after FG_OK. *log may be NULL, or goes to free(). */
static void *compile(const struct fg_compilation *compilation, fg_status expected, size_t *bytes, char **log) {
  void *cubin = &watching;
  expect_status(fg_compile(compilation, &cubin, bytes, log), expected);
  cr_assert_eq(cubin != NULL, expected == FG_OK);
  cr_assert_eq(*bytes != 0, expected == FG_OK);
  return cubin;
}

static void expect_compile(const struct fg_compilation *compilation, fg_status expected) {
  size_t bytes;
  free(compile(compilation, expected, &bytes, NULL));
}

static char *key_of(const struct fg_compilation *compilation) {
  char *key = NULL;
  fg_status status = fg_compilation_key(compilation, &key);
  cr_assert_eq(status, FG_OK, "%s", fg_message());
  return key;
}

/* --- What is in the compiler's place */

static void expect_none(const char *library, const char *part) {
  setenv("FG_NVRTC", library, 1);
  cr_assert_eq(fg_compiler_version(), 0, "%s is taken for NVRTC", library);
  expect_message(part);
  expect_message("install libnvrtc");
  expect_message("FG_NVRTC");
  int arch;
  cr_expect_eq(fg_compiler_archs(&arch, 1), 0);
  expect_compile(&sum, FG_UNSUPPORTED);
  expect_message(part);
  char *key = (char *)&watching;
  expect_status(fg_compilation_key(&sum, &key), FG_UNSUPPORTED);
  cr_expect(key == NULL);
}

Test(compiler, is_not_taken_from_what_is_none) {
  make_folder();
  make_tree("tree");
  expect_none("libno-such-thing.so.1", "libno-such-thing.so.1");
  expect_none(FG_SOURCE_DIR "/README.md", "README.md");
  expect_none(FG_SOURCE_DIR, FG_SOURCE_DIR);
  expect_none(FG_STUB_DRIVER, FG_STUB_DRIVER " has no function nvrtcVersion");
  stub_nvrtc_version(11080);
  expect_none(FG_STUB_NVRTC, "is NVRTC 11.8, which is too old");
  stub_nvrtc_version(12000);
  stub_nvrtc_fail(1, NVRTC_ERROR_INTERNAL_ERROR, true);
  expect_none(FG_STUB_NVRTC, "does not tell NVRTC's version");
  struct fg_compilation elsewhere = sum;
  elsewhere.compiler_version = 12080;
  char *key = key_of(&elsewhere); /* what another machine compiled needs no compiler to be found */
  cr_expect(strstr(key, "\nnvrtc 12080\n") != NULL, "%s", key);
  free(key);
  stub_nvrtc_fail(0, NVRTC_SUCCESS, false);
  cr_expect_eq(fg_compiler_version(), 12000, "%s", fg_message()); /* nothing of this is for ever */
  setenv("FG_NVRTC", "libno-such-thing.so.1", 1);
  cr_expect_eq(fg_compiler_version(), 12000);
  remove_folder();
}

Test(compiler, needs_every_function) {
  make_folder();
  static const char *const needed[] = {"nvrtcVersion",           "nvrtcGetErrorString", "nvrtcGetNumSupportedArchs",
                                       "nvrtcGetSupportedArchs", "nvrtcCreateProgram",  "nvrtcCompileProgram",
                                       "nvrtcGetProgramLogSize", "nvrtcGetProgramLog",  "nvrtcGetCUBINSize",
                                       "nvrtcGetCUBIN",          "nvrtcDestroyProgram"};
  for (int i = 0; i < COUNT(needed); i++) {
    const char *path = copy_without(FG_STUB_NVRTC, needed[i]);
    cr_assert_not_null(path, "%s", needed[i]);
    char part[128];
    snprintf(part, sizeof part, " has no function %s,", needed[i]);
    expect_none(path, part);
    unlink(path);
  }
  remove_folder();
}

Test(compiler, is_found_by_itself) {
  use_real();
  int archs[64], count = fg_compiler_archs(archs, COUNT(archs));
  cr_expect(fg_compiler_version() >= FG_OLDEST_COMPILER);
  cr_assert(count > 0 && count <= COUNT(archs));
  for (int i = 1; i < count; i++) cr_expect(archs[i - 1] < archs[i]);
  archs[0] = -1;
  cr_expect_eq(fg_compiler_archs(archs, 0), count);
  cr_expect_eq(archs[0], -1);
  remove_folder();
}

/* --- Sources */

Test(sources, are_the_tree_s) {
  unsetenv("FG_KERNEL_DIR");
  static const char *const patterns[] = {"lessons/*.cu", "gpu/kernels/*.cu", "gpu/device/*.cuh", "gpu/device/*.h"};
  glob_t files;
  int flags = 0, embedded = 0;
  for (int i = 0; i < COUNT(patterns); i++, flags = GLOB_APPEND) {
    char pattern[PATH_BYTES];
    snprintf(pattern, sizeof pattern, "%s/%s", FG_SOURCE_DIR, patterns[i]);
    int result = glob(pattern, flags, NULL, &files);
    cr_assert(result == 0 || result == GLOB_NOMATCH);
  }
  for (const struct fg_source *source = fg_embedded_sources; source->name; source++) embedded++;
  cr_expect_eq(embedded, (int)files.gl_pathc);
  for (size_t i = 0; i < files.gl_pathc; i++) {
    const char *name = files.gl_pathv[i] + strlen(FG_SOURCE_DIR) + 1;
    char *text = read_text(files.gl_pathv[i]);
    struct fg_source source;
    expect_status(fg_source_read(name, &source), FG_OK);
    cr_expect(strcmp(source.text, text) == 0 && strcmp(source.name, name) == 0, "%s", name);
    fg_source_free(&source);
    __real_free(text);
  }
  globfree(&files);
}

static void expect_no_source(const char *name, const char *part) {
  struct fg_source source = {.text = "as it was"};
  expect_status(fg_source_read(name, &source), FG_COMPILE_ERROR);
  cr_expect(source.text == NULL && source.heap == NULL);
  expect_message(part);
  expect_message(name);
}

Test(sources, are_refused_if_they_cannot_be_read) {
  make_folder();
  expect_no_source("lessons/none.cu", "no kernel source lessons/none.cu");
  make_tree("tree");
  expect_no_source("lessons/none.cu", "No such file");
  expect_message(in_folder("tree"));
  expect_no_source("gpu/device", "no regular file");
  cr_assert_eq(mkfifo(in_folder("tree/pipe.cu"), 0600), 0);
  expect_no_source("pipe.cu", "no regular file");
  write_bytes("tree/zero.cu", "a\0b", 3);
  expect_no_source("zero.cu", "zero");
  write_text("tree/large.cu", "");
  cr_assert_eq(truncate(in_folder("tree/large.cu"), (1 << 24) + 1), 0);
  expect_no_source("large.cu", "16 MiB");
  setenv("FG_KERNEL_DIR", in_folder("tree/zero.cu"), 1);
  expect_no_source("sum.cu", "Not a directory");
  remove_folder();
}

Test(sources, may_be_empty_and_come_from_a_relative_tree) {
  make_folder();
  write_text("lessons/kernel.cu", "");
  cr_assert_eq(chdir(folder), 0);
  setenv("FG_KERNEL_DIR", ".", 1);
  struct fg_source source;
  expect_status(fg_source_read("lessons/kernel.cu", &source), FG_OK);
  cr_expect(strcmp(source.text, "") == 0 && strcmp(source.name, "lessons/kernel.cu") == 0);
  fg_source_free(&source);
  setenv("FG_KERNEL_DIR", "", 1); /* as if it were not set */
  expect_no_source("lessons/kernel.cu", "in this finegemm");
  cr_assert_eq(chdir("/"), 0);
  remove_folder();
}

/* --- What a source may include */

static void expect_include_error(const char *text, const char *message) {
  write_text("tree/lessons/kernel.cu", text);
  struct fg_compilation kernel = kernel_of_tree("sm_90a");
  int compiles = stub_compiles();
  expect_compile(&kernel, FG_COMPILE_ERROR);
  cr_expect(strncmp(fg_message(), message, strlen(message)) == 0, "%s", fg_message());
  char *key = (char *)&watching;
  expect_status(fg_compilation_key(&kernel, &key), FG_COMPILE_ERROR);
  cr_expect(key == NULL);
  cr_expect_eq(stub_compiles(), compiles, "the compiler was asked");
}

Test(compiler, is_given_headers_of_gpu_device_alone) {
  use_stub();
  make_tree("tree");
  expect_include_error("int x;\n#include \"none.cuh\"\n", "lessons/kernel.cu(2): error: ");
  expect_message("gpu/device/none.cuh");
  expect_include_error("#include <cuda.h>\n", "lessons/kernel.cu(1): error: #include<cuda.h>: a kernel includes only");
  expect_include_error("#include \"../../etc/passwd\"\n", "lessons/kernel.cu(1): error: #include");
  expect_include_error("#define H \"step.cuh\"\n\t #\tinclude H\n", "lessons/kernel.cu(2): error: #includeH");
  expect_include_error("#include \"step.cuh", "lessons/kernel.cu(1): error: #include");
  expect_include_error("#include \"\"", "lessons/kernel.cu(1): error: #include");
  write_text("tree/gpu/device/outer.cuh", "\n\n#include \"inner.cuh\"\n");
  expect_include_error("#include \"outer.cuh\"", "gpu/device/outer.cuh(3): error: ");
  for (int i = 0; i < 70; i++) { /* a long chain, which ends in a circle */
    char name[64], text[64];
    snprintf(name, sizeof name, "tree/gpu/device/link%d.cuh", i);
    snprintf(text, sizeof text, "#include \"link%d.cuh\"\n", (i + 1) % 70);
    write_text(name, text);
  }
  expect_include_error("#include \"link0.cuh\"", "gpu/device/link62.cuh(1): error: a kernel has more than 64 sources");
  write_text("tree/gpu/device/link62.cuh", "#include \"link0.cuh\"\n");
  write_text("tree/lessons/kernel.cu", "#include \"link0.cuh\"\n  #  include \"link0.cuh\"\nextern \"C\" __global__ void k() {}");
  struct fg_compilation kernel = kernel_of_tree("sm_90a");
  expect_compile(&kernel, FG_OK);
  remove_folder();
}

Test(compiler, is_given_no_more_definitions_than_there_is_room_for) {
  use_stub();
  make_tree("tree");
  const char *defines[FG_MOST_DEFINES + 1];
  for (int i = 0; i <= FG_MOST_DEFINES; i++) defines[i] = "STRIDE=128";
  struct fg_compilation kernel = sum;
  kernel.defines = defines, kernel.define_count = FG_MOST_DEFINES;
  expect_compile(&kernel, FG_OK);
  kernel.define_count++;
  expect_compile(&kernel, FG_COMPILE_ERROR);
  expect_message("49 definitions");
  remove_folder();
}

/* --- Keys */

static void expect_other_key(const char *than, const struct fg_compilation *compilation, const char *what) {
  char *key = key_of(compilation);
  cr_expect(strcmp(key, than) != 0, "the key does not know the %s", what);
  free(key);
}

static void expect_same_key(const char *as, const struct fg_compilation *compilation, const char *what) {
  char *key = key_of(compilation);
  cr_expect(strcmp(key, as) == 0, "the key depends on %s", what);
  free(key);
}

Test(key, says_what_the_bits_follow_from_and_nothing_else) {
  use_stub();
  make_tree("tree");
  char *key = key_of(&sum);
  static const char *const lines[] = {
      "finegemm ",    "\nnvrtc 13000\n",       "\narch sm_90a\n",         "\noptions ",
      "--fmad=false", "\ndefine STRIDE=128\n", "\ntests/kernels/sum.cu ", "\ngpu/device/step.cuh "};
  for (int i = 0; i < COUNT(lines); i++) cr_expect(strstr(key, lines[i]) != NULL, "%s lacks %s", key, lines[i]);
  cr_expect(strstr(key, folder) == NULL && strstr(key, "/finegemm") == NULL, "%s", key);

  struct fg_compilation other = sum;
  other.arch = "sm_90";
  expect_other_key(key, &other, "architecture");
  other = sum, other.compiler_version = 12090;
  expect_other_key(key, &other, "compiler");
  other = sum, other.compiler_version = 13000;
  expect_same_key(key, &other, "who asks");
  other = sum, other.define_count = 0;
  expect_other_key(key, &other, "number of definitions");
  other = sum, other.defines = (const char *const[]){"STRIDE=64"};
  expect_other_key(key, &other, "definition");
  setenv("NVRTC_APPEND_FLAGS", "-use_fast_math", 1);
  expect_other_key(key, &sum, "flags in the environment");
  setenv("NVRTC_APPEND_FLAGS", "", 1);
  expect_same_key(key, &sum, "a variable that is empty");
  unsetenv("NVRTC_APPEND_FLAGS");

  write_text("tree/gpu/device/not_included.cuh", "int other;\n");
  expect_same_key(key, &sum, "a header that is not included");
  make_tree("another/deeper");
  cr_assert_eq(chdir(in_folder("another")), 0);
  expect_same_key(key, &sum, "the tree's place");
  setenv("FG_KERNEL_DIR", "deeper", 1);
  expect_same_key(key, &sum, "the working directory");
  write_text("another/deeper/gpu/device/step.cuh", "int changed;\n");
  expect_other_key(key, &sum, "header");
  write_text("another/deeper/gpu/device/step.cuh", step_text);
  expect_same_key(key, &sum, "a file's age");
  write_text("another/deeper/tests/kernels/sum.cu", "#include \"step.cuh\"\n");
  expect_other_key(key, &sum, "source");
  free(key);
  cr_assert_eq(chdir("/"), 0);
  remove_folder();
}

/* --- Errors of the compiler, told as they are */

Test(compiler, names_the_line_that_is_wrong) {
  use_real();
  setenv("FG_KERNEL_DIR", FG_SOURCE_DIR, 1);
  struct fg_compilation broken = {.source = "tests/kernels/broken.cu", .arch = "sm_90a"};
  static const char error[] =
      "tests/kernels/broken.cu(3): error: identifier \"not_declared\" is undefined (for sm_90a, by NVRTC ";
  size_t bytes;
  char *log = NULL;
  compile(&broken, FG_COMPILE_ERROR, &bytes, &log);
  cr_expect(strncmp(fg_message(), error, strlen(error)) == 0, "%s", fg_message());
  cr_assert_not_null(log);
  cr_expect(strncmp(log, "tests/kernels/broken.cu(3): error:", 34) == 0 && strstr(log, "/finegemm/") == NULL, "%s", log);
  free(log);

  make_tree("tree");
  write_text("tree/gpu/device/step.cuh",
             "// a warning and no error: unused\n__device__ static float step(float, float) {\n  return oops;\n}\n");
  expect_compile(&sum, FG_COMPILE_ERROR);
  cr_expect(strncmp(fg_message(), "gpu/device/step.cuh(3): error:", 30) == 0, "%s", fg_message());
  write_text("tree/lessons/kernel.cu", "extern \"C\" __global__ void k(char *to, int i) {\n  __shared__ char all[300000];\n"
                                       "  all[threadIdx.x] = i;\n  __syncthreads();\n  *to = all[i];\n}\n");
  struct fg_compilation kernel = kernel_of_tree("sm_90a");
  expect_compile(&kernel, FG_COMPILE_ERROR);
  expect_message("ptxas");
  write_text("tree/lessons/kernel.cu", "extern \"C\" __global__ void k(int i) {\n");
  expect_compile(&kernel, FG_COMPILE_ERROR);
  expect_message("error: ");
  kernel.defines = (const char *const[]){"1=2"}, kernel.define_count = 1;
  expect_compile(&kernel, FG_COMPILE_ERROR);
  remove_folder();
}

Test(compiler, says_which_architectures_it_knows) {
  use_stub();
  make_tree("tree");
  static const char *const unknown[] = {"sm_70", "sm_", "", "compute_90", "sm_900", "90", "sm_-90"};
  for (int i = 0; i < COUNT(unknown); i++) {
    struct fg_compilation kernel = sum;
    kernel.arch = unknown[i];
    expect_compile(&kernel, FG_UNSUPPORTED);
    expect_message("it knows sm_75 to sm_121");
  }
  write_text("tree/lessons/kernel.cu", "\n#error no\n");
  struct fg_compilation kernel = kernel_of_tree("sm_90a");
  expect_compile(&kernel, FG_COMPILE_ERROR);
  expect_message("lessons/kernel.cu(2): error: #error no (for sm_90a, by NVRTC 13.0)");
  remove_folder();
}

/* --- What comes out */

/* Whether the image has the kernel `sum` with its three parameters. */
static bool is_sum(const void *cubin) {
  CUlibrary library;
  CUkernel kernel;
  size_t offset[3], bytes[3];
  stub_reset();
  bool is = cuInit(0) == CUDA_SUCCESS && cuLibraryLoadData(&library, cubin, NULL, NULL, 0, NULL, NULL, 0) == CUDA_SUCCESS &&
            cuLibraryGetKernel(&kernel, library, "sum") == CUDA_SUCCESS;
  for (size_t i = 0; i < 3 && is; i++) is = cuKernelGetParamInfo(kernel, i, &offset[i], &bytes[i]) == CUDA_SUCCESS;
  is = is && offset[1] == 8 && offset[2] == 16 && bytes[0] == 8 && bytes[1] == 8 && bytes[2] == 4 &&
       cuKernelGetParamInfo(kernel, 3, &offset[0], NULL) == CUDA_ERROR_INVALID_VALUE;
  stub_reset();
  return is;
}

Test(compiler, compiles_for_every_architecture_that_it_knows) {
  use_real();
  make_tree("tree");
  int archs[64], count = fg_compiler_archs(archs, COUNT(archs));
  for (int i = 0; i < count; i++)
    for (int special = 0; special <= (archs[i] >= 90); special++) {
      char arch[16], *log;
      size_t bytes;
      snprintf(arch, sizeof arch, "sm_%d%s", archs[i], special ? "a" : "");
      struct fg_compilation kernel = sum;
      kernel.arch = arch;
      void *cubin = compile(&kernel, FG_OK, &bytes, &log);
      cr_expect(is_sum(cubin), "%s", arch);
      cr_expect(log && strstr(log, "0 bytes spill stores") && strstr(log, "Used ") && strstr(log, arch), "%s", log);
      free(log);
      free(cubin);
    }
  remove_folder();
}

Test(compiler, gives_the_same_bytes_wherever_it_runs) {
  use_real();
  static const char *const trees[] = {"tree", "another/deeper"};
  size_t bytes[2];
  void *cubin[2];
  for (int i = 0; i < 2; i++) {
    make_tree(trees[i]);
    cr_assert_eq(chdir(in_folder(trees[i])), 0);
    cubin[i] = compile(&sum, FG_OK, &bytes[i], NULL);
  }
  cr_expect(bytes[0] == bytes[1] && memcmp(cubin[0], cubin[1], bytes[0]) == 0);
  for (size_t i = 0; i + strlen(folder) <= bytes[0]; i++)
    cr_assert(memcmp((char *)cubin[0] + i, folder, strlen(folder)) != 0, "the image names a folder of this machine");
  free(cubin[0]);
  free(cubin[1]);
  cr_assert_eq(chdir("/"), 0);
  remove_folder();
}

Test(compiler, takes_nothing_from_the_working_directory) {
  use_real();
  static const char *const places[] = {"",         "lessons/",     "gpu/device/",         "tests/kernels/", "finegemm/lessons/",
                                       "include/", "gpu/kernels/", "finegemm/gpu/device/"};
  static const char *const names[] = {"step.cuh",   "fp8.cuh",  "args.h",      "runs.cuh",
                                      "finish.cuh", "evil.cuh", "cuda_fp16.h", "sum.cu"};
  make_tree("tree");
  write_text("tree/lessons/kernel.cu", "#if __has_include(\"evil.cuh\") || __has_include(<evil.cuh>)\n#error evil\n#endif\n"
                                       "#include \"step.cuh\"\nextern \"C\" __global__ void k(float *x) { *x = step(1, 2); }\n");
  static const char hidden[] = "#inc\\\nlude \"evil.cuh\"\n"; /* from whoever looks for lines that begin with #include */
  write_text("tree/lessons/spliced.cu", hidden);
  write_text("tree/gpu/device/spliced.cuh", hidden);
  write_text("tree/lessons/nested.cu", "#include \"spliced.cuh\"\n");
  struct fg_compilation kernel = kernel_of_tree("sm_90a"), spliced = {.source = "lessons/spliced.cu", .arch = "sm_90a"};
  struct fg_compilation nested = {.source = "lessons/nested.cu", .arch = "sm_90a"};
  size_t bytes, hostile_bytes;
  void *cubin = compile(&sum, FG_OK, &bytes, NULL);
  for (int p = 0; p < COUNT(places); p++)
    for (int n = 0; n < COUNT(names); n++) {
      char name[PATH_BYTES];
      snprintf(name, sizeof name, "hostile/%s%s", places[p], names[n]);
      write_text(name, "#error taken from the working directory\n");
    }
  cr_assert_eq(chdir(in_folder("hostile")), 0);
  void *hostile = compile(&sum, FG_OK, &hostile_bytes, NULL);
  cr_expect(bytes == hostile_bytes && memcmp(cubin, hostile, bytes) == 0);
  expect_compile(&kernel, FG_OK);
  expect_compile(&spliced, FG_COMPILE_ERROR); /* not found, instead of found there */
  cr_expect(strstr(fg_message(), "taken") == NULL, "%s", fg_message());
  expect_compile(&nested, FG_COMPILE_ERROR);
  cr_expect(strstr(fg_message(), "taken") == NULL, "%s", fg_message());
  unsetenv("FG_KERNEL_DIR"); /* and the library's own kernels */
  static const char *const defines[] = {"BLOCK_M=16", "BLOCK_N=16", "A_IS_E5M2=0", "B_IS_E5M2=0", "KIND=0"};
  struct fg_compilation naive = {
      .source = "lessons/04_naive.cu", .arch = "sm_90a", .defines = defines, .define_count = COUNT(defines)};
  expect_compile(&naive, FG_OK);
  free(cubin);
  free(hostile);
  cr_assert_eq(chdir("/"), 0);
  remove_folder();
}

Test(compiler, compiles_what_was_edited) {
  use_real();
  make_tree("tree");
  struct fg_compilation kernel = kernel_of_tree("sm_90a");
  write_text("tree/lessons/kernel.cu", "extern \"C\" __global__ void k(float *x) {\n  *x = 1\n}\n");
  expect_compile(&kernel, FG_COMPILE_ERROR);
  cr_expect(strncmp(fg_message(), "lessons/kernel.cu(", 18) == 0, "%s", fg_message());
  char *broken = key_of(&kernel);
  write_text("tree/lessons/kernel.cu", "extern \"C\" __global__ void k(float *x) {\n  *x = 1;\n}\n");
  expect_other_key(broken, &kernel, "edit");
  size_t bytes, other_bytes;
  void *one = compile(&kernel, FG_OK, &bytes, NULL);
  write_text("tree/lessons/kernel.cu", "extern \"C\" __global__ void k(float *x) {\n  *x = 2;\n}\n");
  void *two = compile(&kernel, FG_OK, &other_bytes, NULL);
  cr_expect(bytes != other_bytes || memcmp(one, two, bytes) != 0);
  free(broken);
  free(one);
  free(two);
  remove_folder();
}

/* --- Threads */

enum { THREADS = 64 };
static pthread_barrier_t together;
static void *expected_cubin;
static size_t expected_bytes;
static char *expected_key;

static void *compile_together(void *out) {
  pthread_barrier_wait(&together);
  void *cubin = NULL, *no_cubin = NULL;
  char *key = NULL;
  size_t bytes = 0, no_bytes;
  struct fg_compilation none = {.source = "lessons/none.cu", .arch = "sm_90a"};
  const char **wrong = out;
  if (fg_compilation_key(&sum, &key) != FG_OK || fg_compile(&sum, &cubin, &bytes, NULL) != FG_OK)
    *wrong = "a failure";
  else if (strcmp(key, expected_key) != 0 || bytes != expected_bytes || memcmp(cubin, expected_cubin, bytes) != 0)
    *wrong = "other bytes";
  else if (fg_compile(&none, &no_cubin, &no_bytes, NULL) != FG_COMPILE_ERROR || !strstr(fg_message(), "lessons/none.cu"))
    *wrong = "no error";
  free(key);
  free(cubin);
  return NULL;
}

static void compile_in_threads(void) {
  pthread_t threads[THREADS];
  const char *wrong[THREADS] = {NULL};
  pthread_barrier_init(&together, NULL, THREADS);
  for (int t = 0; t < THREADS; t++) cr_assert_eq(pthread_create(&threads[t], NULL, compile_together, (void *)&wrong[t]), 0);
  for (int t = 0; t < THREADS; t++) {
    pthread_join(threads[t], NULL);
    cr_expect(wrong[t] == NULL, "thread %d: %s", t, wrong[t] ? wrong[t] : "");
  }
  free(expected_cubin);
  free(expected_key);
}

Test(compiler, serves_any_number_of_threads) {
  use_real();
  make_tree("tree");
  expected_cubin = compile(&sum, FG_OK, &expected_bytes, NULL);
  expected_key = key_of(&sum);
  compile_in_threads();
  remove_folder();
}

/* All of them find it not yet opened. What they are to get comes from an earlier process, so to speak: from the stand-in itself. */
Test(compiler, is_opened_once_by_any_number_of_threads) {
  use_stub();
  make_tree("tree");
  struct fg_compilation known = sum;
  known.compiler_version = 13000;
  expected_key = key_of(&known);
  nvrtcProgram program;
  char *source = read_text(in_folder("tree/tests/kernels/sum.cu"));
  cr_assert_eq(
      nvrtcCreateProgram(&program, source, "sum.cu", 1, (const char *const[]){step_text}, (const char *const[]){"step.cuh"}),
      NVRTC_SUCCESS);
  cr_assert_eq(nvrtcCompileProgram(program, 2, (const char *const[]){"--gpu-architecture", "sm_90a"}), NVRTC_SUCCESS);
  cr_assert_eq(nvrtcGetCUBINSize(program, &expected_bytes), NVRTC_SUCCESS);
  expected_cubin = malloc(expected_bytes);
  cr_assert_eq(nvrtcGetCUBIN(program, expected_cubin), NVRTC_SUCCESS);
  cr_assert_eq(nvrtcDestroyProgram(&program), NVRTC_SUCCESS);
  __real_free(source);
  stub_nvrtc_fail(0, NVRTC_SUCCESS, false);
  compile_in_threads();
  cr_expect_eq(stub_programs(), 0);
  cr_expect_eq(stub_compiles(), 1 + THREADS);
  cr_expect_eq(stub_nvrtc_calls(), 1 + 11 * THREADS); /* nvrtcVersion; 9 for a compile, 2 before what is no source */
  remove_folder();
}

/* --- Bad days */

Test(compiler, fails_in_words_whichever_call_fails) {
  use_stub();
  make_tree("tree");
  cr_assert_eq(fg_compiler_version(), 13000, "%s", fg_message());
  static const nvrtcResult results[] = {NVRTC_ERROR_OUT_OF_MEMORY, NVRTC_ERROR_INTERNAL_ERROR, NVRTC_ERROR_COMPILATION};
  for (int r = 0; r < COUNT(results); r++)
    for (int all_after = 0; all_after <= 1; all_after++)
      for (int nth = 1;; nth++) {
        stub_nvrtc_fail(nth, results[r], all_after);
        void *cubin = NULL;
        char *log = NULL;
        size_t bytes = 0;
        int live_before = live;
        fg_status status = fg_compile(&sum, &cubin, &bytes, &log);
        int calls = stub_nvrtc_calls();
        cr_expect_eq((status == FG_OK), (cubin != NULL && bytes != 0));
        bool refused = status == (results[r] == NVRTC_ERROR_OUT_OF_MEMORY ? FG_OUT_OF_MEMORY : FG_COMPILE_ERROR);
        cr_expect(status == FG_OK || refused, "call %d fails: %s", nth, fg_status_name(status));
        if (refused) expect_message(nvrtcGetErrorString(results[r]));
        free(cubin);
        free(log);
        cr_expect_eq(live, live_before, "call %d fails: %d allocations are lost", nth, live - live_before);
        cr_expect_eq(stub_programs(), 0, "call %d fails: a program is lost", nth);
        if (calls < nth) {
          cr_expect_eq(status, FG_OK);
          cr_assert(nth > 8);
          break;
        }
        bool needed = nth <= 4 || nth == 7 || nth == 8 || (all_after && nth < 9); /* the log is not, nor the farewell */
        cr_expect_eq(status != FG_OK, needed, "call %d fails: %s", nth, fg_status_name(status));
      }
  remove_folder();
}

/* For every allocation of the library's that fails, alone or with all that follow. */
static void fail_each_allocation(fg_status (*call)(void), int at_least) {
  for (int all_after = 0; all_after <= 1; all_after++)
    for (int nth = 1;; nth++) {
      int live_before = live;
      allocations = 0, first_to_fail = nth, and_all_after = all_after;
      watching = true;
      fg_status status = call();
      watching = false;
      cr_expect_eq(live, live_before, "allocation %d fails: %d are lost", nth, live - live_before);
      if (allocations < nth) {
        cr_expect_eq(status, FG_OK, "%s", fg_message());
        cr_assert(nth > at_least, "%d allocations are all", nth - 1);
        break;
      }
      cr_expect(status == FG_OUT_OF_MEMORY || status == FG_OK, "allocation %d fails: %s", nth, fg_status_name(status));
      if (status == FG_OUT_OF_MEMORY) expect_message("no memory");
    }
}

static fg_status only_key(void) {
  char *key = NULL;
  fg_status status = fg_compilation_key(&sum, &key);
  if ((status == FG_OK) != (key != NULL)) return FG_BAD_VALUE;
  free(key);
  return status;
}

static fg_status only_compile(void) {
  void *cubin = NULL;
  char *log = NULL;
  size_t bytes = 0;
  fg_status status = fg_compile(&sum, &cubin, &bytes, &log);
  if ((status == FG_OK) != (cubin != NULL)) return FG_BAD_VALUE;
  free(cubin);
  free(log);
  return status;
}

Test(compiler, fails_in_words_for_want_of_memory) {
  use_stub();
  make_tree("tree");
  cr_assert_eq(fg_compiler_version(), 13000, "%s", fg_message());
  fail_each_allocation(only_key, 5);
  fail_each_allocation(only_compile, 6);
  remove_folder();
}
