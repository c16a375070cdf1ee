/* NVRTC for the emulator: the same source, compiled by this machine's C++ compiler, with the emulator's headers in place of those of
 * gpu/device that have the same name. What it gives as a cubin is an image (load_image.h). */
#include "compiler.h"
#include "host_compiler.h"
#include "kernel_list.h"
#include "library.h"
#include "load_image.h"
#include "temporary.h"

#include <errno.h>
#pragma GCC visibility push(default) /* what the library is to find in it */
#include <nvrtc.h>
#pragma GCC visibility pop
#include <pthread.h>
#include <sha2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const struct fg_source emu_embedded_headers[]; /* gpu/emulator/NAME, up to one without a name */

enum { MAJOR = 90, SM = 90, MOST_HEADERS = 64 };
#define EMULATOR_FOLDER "gpu/emulator/"
#define DEVICE_FOLDER "gpu/device/"
#define OBJECT_FILE "kernel.so"
#define DEFINES_FILE "defines.h"

/* Every access to memory and every piece of straight code calls the emulator, the numbers are as the GPU's, and a variable that was
 * given no value has one that no sum survives: the zeros of a fresh stack would be right by luck. */
static const char *const flags[] = {"-std=c++17",
                                    "-gdwarf-4", /* of clang's lines in 5, addr2line finds not all */
                                    "-w",
                                    "-fPIC",
                                    "-shared",
                                    "-nostdlib",
                                    "-fno-exceptions",
                                    "-fno-rtti",
                                    "-ffp-contract=off",
                                    "-fno-strict-aliasing",
                                    "-foptimize-sibling-calls",
                                    "-fno-stack-protector",
                                    "-ftrivial-auto-var-init=pattern",
                                    "-fvisibility=hidden",
                                    "-fsanitize=thread,integer-divide-by-zero,bounds",
                                    "-fsanitize-coverage=trace-pc",
                                    "-Wno-psabi",
                                    "-Wl,-Bsymbolic",
                                    "-Wl,-z,defs",
                                    "-Igpu/emulator",
                                    "-Igpu/device",
                                    "-include",
                                    DEFINES_FILE,
                                    "-include",
                                    "gpu/emulator/cuda_builtins.cuh",
                                    "-o",
                                    OBJECT_FILE,
                                    "-x",
                                    "c++"};
/* Optimised so far that a hook's call is a jump; an error in a macro is where the kernel uses it; and no variable takes over the place
 * of accumulators, for which it would be taken while a product is under way. A loop without an end stays one. */
static const char *const gcc_flags[] = {"-O1", "-ftrack-macro-expansion=0", "-fstack-reuse=none", NULL};
static const char *const clang_flags[] = {
    "-O2", "-mllvm", "-no-stack-coloring", "-fsanitize-coverage=trace-loads,trace-stores", "-fno-finite-loops", NULL};
static const char *const libraries[] = {"-x", "none", "-lm", "-lc", "-lgcc"};

struct _nvrtcProgram {
  char *source, *name; /* "lessons/05_shared.cu" */
  int headers;
  struct fg_source header[MOST_HEADERS]; /* each in one piece of the heap */
  char *log;
  unsigned char *image;
  size_t image_bytes;
};

/* --- The version: images of one emulator and compiler are of no use to another */

static pthread_once_t asked = PTHREAD_ONCE_INIT;
static char *compiler_name; /* NULL: there is none */
static int minor_version;

/* The emulator's header, from the tree that FG_KERNEL_DIR names if it has one: *heap goes to free(). */
static const char *text_of(const struct fg_source *embedded, char **heap) {
  const char *tree = fg_environment("FG_KERNEL_DIR");
  size_t bytes;
  *heap = tree && *tree ? emu_file_read(tree, embedded->name, &bytes) : NULL;
  return *heap ? *heap : embedded->text;
}

static void add_text(SHA2_CTX *hash, const char *text) { SHA256Update(hash, (const uint8_t *)text, strlen(text) + 1); }

static const char *const *own_flags(void) { return compiler_name && strstr(compiler_name, "clang") ? clang_flags : gcc_flags; }

static void ask(void) {
  uint8_t digest[SHA256_DIGEST_LENGTH];
  SHA2_CTX hash;
  SHA256Init(&hash);
  compiler_name = emu_compiler_name();
  add_text(&hash, compiler_name ? compiler_name : "");
  for (const char *const *flag = own_flags(); *flag; flag++) add_text(&hash, *flag);
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) add_text(&hash, flags[i]);
  for (const struct fg_source *embedded = emu_embedded_headers; embedded->name; embedded++) {
    char *heap;
    add_text(&hash, text_of(embedded, &heap));
    free(heap);
  }
  SHA256Final(digest, &hash);
  minor_version = digest[0] << 16 | digest[1] << 8 | digest[2];
}

/* NVRTC's version is part of the key of every image that is kept. */
nvrtcResult nvrtcVersion(int *major, int *minor) {
  if (!major || !minor) return NVRTC_ERROR_INVALID_INPUT;
  pthread_once(&asked, ask);
  *major = MAJOR, *minor = minor_version;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetNumSupportedArchs(int *count) {
  *count = 1;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetSupportedArchs(int *archs) {
  archs[0] = SM;
  return NVRTC_SUCCESS;
}

const char *nvrtcGetErrorString(nvrtcResult result) {
  switch (result) {
  case NVRTC_SUCCESS:
    return "NVRTC_SUCCESS";
  case NVRTC_ERROR_OUT_OF_MEMORY:
    return "NVRTC_ERROR_OUT_OF_MEMORY";
  case NVRTC_ERROR_INVALID_INPUT:
    return "NVRTC_ERROR_INVALID_INPUT";
  case NVRTC_ERROR_INVALID_PROGRAM:
    return "NVRTC_ERROR_INVALID_PROGRAM";
  case NVRTC_ERROR_INVALID_OPTION:
    return "NVRTC_ERROR_INVALID_OPTION";
  case NVRTC_ERROR_COMPILATION:
    return "NVRTC_ERROR_COMPILATION";
  default:
    return "NVRTC_ERROR_INTERNAL_ERROR";
  }
}

/* --- Programs */

/* A source of its own, under folder + name. false: no memory. */
static bool copy_source(struct fg_source *source, const char *folder, const char *name, const char *text) {
  size_t text_bytes = strlen(text) + 1, name_bytes = strlen(folder) + strlen(name) + 1;
  char *heap = malloc(text_bytes + name_bytes);
  if (!heap) return false;
  memcpy(heap, text, text_bytes);
  snprintf(heap + text_bytes, name_bytes, "%s%s", folder, name);
  *source = (struct fg_source){.text = heap, .name = heap + text_bytes, .heap = heap};
  return true;
}

/* What the library calls "/finegemm/gpu/device/fp8.cuh" is so called in the tree. */
static const char *without_root(const char *name) {
  return strncmp(name, FG_COMPILER_ROOT, strlen(FG_COMPILER_ROOT)) == 0 ? name + strlen(FG_COMPILER_ROOT) : name;
}

static bool is_inside(const char *name) { return *name && *name != '/' && !strstr(name, ".."); }

nvrtcResult nvrtcCreateProgram(nvrtcProgram *program, const char *source, const char *name, int headers, const char *const *texts,
                               const char *const *names) {
  if (!program || !source || headers < 0 || headers > MOST_HEADERS) return NVRTC_ERROR_INVALID_INPUT;
  name = without_root(name ? name : "default_program");
  if (!is_inside(name)) return NVRTC_ERROR_INVALID_INPUT;
  nvrtcProgram made = calloc(1, sizeof *made);
  bool has_memory = made && (made->source = strdup(source)) && (made->name = strdup(name));
  for (int i = 0; i < headers && has_memory; i++)
    if ((has_memory = copy_source(&made->header[i], DEVICE_FOLDER, names[i], texts[i]))) made->headers++;
  if (!has_memory) {
    nvrtcDestroyProgram(&made);
    return NVRTC_ERROR_OUT_OF_MEMORY;
  }
  *program = made;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcDestroyProgram(nvrtcProgram *program) {
  if (!program || !*program) return NVRTC_ERROR_INVALID_PROGRAM;
  for (int i = 0; i < (*program)->headers; i++) free((*program)->header[i].heap);
  free((*program)->source);
  free((*program)->name);
  free((*program)->log);
  free((*program)->image);
  free(*program);
  *program = NULL;
  return NVRTC_SUCCESS;
}

/* --- Compiling */

/* The value of an option, "--name=value" or "--name" and "value"; NULL: this is not that option. *at moves to its last word. */
static const char *value_of(const char *name, int count, const char *const *options, int *at) {
  const char *option = options[*at];
  size_t length = strlen(name);
  if (strncmp(option, name, length) != 0) return NULL;
  if (option[length] == '=') return option + length + 1;
  return option[length] == '\0' && *at + 1 < count ? options[++*at] : NULL;
}

/* "#define BLOCK_M 64" for each "BLOCK_M=64", which goes to free(); NULL: no memory. *is_hopper: for the GPU that there is. */
static char *read_options(int count, const char *const *options, bool *is_hopper) {
  char *text = NULL;
  size_t bytes;
  FILE *to = open_memstream(&text, &bytes);
  if (!to) return NULL;
  *is_hopper = false;
  for (int i = 0; i < count; i++) {
    const char *define = value_of("--define-macro", count, options, &i);
    const char *arch = define ? NULL : value_of("--gpu-architecture", count, options, &i);
    if (arch) *is_hopper = strcmp(arch, "sm_90a") == 0;
    if (!define) continue;
    int name = (int)strcspn(define, "=");
    fprintf(to, "#define %.*s %s\n", name, define, define[name] ? define + name + 1 : "1");
  }
  if (fclose(to) == 0) return text;
  free(text);
  return NULL;
}

static bool write_header(const char *folder, const struct fg_source *header) {
  static const char line[] = "#line 1 \"" FG_COMPILER_ROOT;
  const char *text = header->text;
  char *named = NULL;
  if (strncmp(text, line, strlen(line)) == 0) { /* the name that debug information is to have */
    text += strlen(line);
    size_t bytes = strlen(text) + sizeof line;
    if ((named = malloc(bytes))) snprintf(named, bytes, "#line 1 \"%s", text);
    text = named;
  }
  bool written = text && emu_file_write(folder, header->name, text, strlen(text));
  free(named);
  return written;
}

/* Whether the emulator has a header of its own for this one: "gpu/device/tma.cuh". */
static bool is_replaced(const struct fg_source *header) {
  for (const struct fg_source *embedded = emu_embedded_headers; embedded->name; embedded++)
    if (strcmp(embedded->name + strlen(EMULATOR_FOLDER), header->name + strlen(DEVICE_FOLDER)) == 0) return true;
  return false;
}

/* The tree as the compiler is to see it. */
static bool write_sources(const char *folder, nvrtcProgram program) {
  bool written = true;
  for (const struct fg_source *embedded = emu_embedded_headers; embedded->name && written; embedded++) {
    char *heap;
    const char *text = text_of(embedded, &heap);
    written = emu_file_write(folder, embedded->name, text, strlen(text));
    free(heap);
  }
  for (int i = 0; i < program->headers && written; i++)
    if (!is_replaced(&program->header[i])) written = write_header(folder, &program->header[i]);
  char *source = written ? emu_list_kernels(program->source) : NULL;
  written = source && emu_file_write(folder, program->name, source, strlen(source));
  free(source);
  return written;
}

_Static_assert(sizeof gcc_flags <= sizeof clang_flags, "words[] below is for the longer ones");
static bool has_object(const char *folder) {
  char path[EMU_PATH_BYTES + sizeof OBJECT_FILE];
  snprintf(path, sizeof path, "%s/" OBJECT_FILE, folder);
  return access(path, R_OK) == 0;
}

/* Runs the compiler in the folder. false: program->log says why. */
static bool run(const char *folder, nvrtcProgram program) {
  enum {
    LONGER =
        sizeof clang_flags > sizeof gcc_flags ? sizeof clang_flags / sizeof *clang_flags : sizeof gcc_flags / sizeof *gcc_flags
  };
  const char *words[sizeof flags / sizeof *flags + sizeof libraries / sizeof *libraries + LONGER + 3];
  char map[EMU_PATH_BYTES + 32];
  int count = 0;
  struct emu_compiler_run ended;
  for (const char *const *flag = own_flags(); *flag; flag++) words[count++] = *flag;
  snprintf(map, sizeof map, "-fdebug-prefix-map=%s=", folder);
  words[count++] = map;
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) words[count++] = flags[i];
  words[count++] = program->name;
  for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) words[count++] = libraries[i];
  words[count] = NULL;
  bool done = emu_run_compiler(folder, words, &ended) && has_object(folder);
  program->log = emu_compiler_words(folder, done ? NULL : &ended);
  return done;
}

/* The shared object becomes the program's image. */
static nvrtcResult take_image(const char *folder, nvrtcProgram program) {
  size_t bytes;
  char *object = emu_file_read(folder, OBJECT_FILE, &bytes);
  struct emu_image_head head = {.version = EMU_IMAGE_VERSION};
  program->image = object ? malloc(sizeof head + bytes) : NULL;
  if (program->image) {
    memcpy(head.magic, EMU_IMAGE_MAGIC, sizeof head.magic);
    head.object_bytes = bytes;
    head.object_sum = emu_image_sum((const unsigned char *)object, bytes);
    memcpy(program->image, &head, sizeof head);
    memcpy(program->image + sizeof head, object, bytes);
    program->image_bytes = sizeof head + bytes;
  }
  free(object);
  return program->image ? NVRTC_SUCCESS : NVRTC_ERROR_INTERNAL_ERROR;
}

static nvrtcResult refuse(nvrtcProgram program, nvrtcResult result, const char *words, const char *more) {
  char log[256];
  snprintf(log, sizeof log, "error: %s%s\n", words, more);
  program->log = strdup(log);
  return result;
}

nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int count, const char *const *options) {
  char folder[EMU_PATH_BYTES];
  bool is_hopper;
  if (!program || program->image) return NVRTC_ERROR_INVALID_PROGRAM;
  pthread_once(&asked, ask);
  free(program->log);
  program->log = NULL;
  char *defines = read_options(count, options, &is_hopper);
  if (!defines) return NVRTC_ERROR_OUT_OF_MEMORY;
  if (!is_hopper) {
    free(defines);
    return refuse(program, NVRTC_ERROR_INVALID_OPTION, "the emulator's only architecture is sm_90a", "");
  }
  nvrtcResult result;
  if (!emu_folder_make(folder)) {
    free(defines);
    return refuse(program, NVRTC_ERROR_COMPILATION, "no folder for a moment can be made: ", strerror(errno));
  }
  if (!emu_file_write(folder, DEFINES_FILE, defines, strlen(defines)) || !write_sources(folder, program))
    result = refuse(program, NVRTC_ERROR_COMPILATION, "the kernel's sources cannot be written: ", strerror(errno));
  else
    result = run(folder, program) ? take_image(folder, program) : NVRTC_ERROR_COMPILATION;
  emu_folder_remove(folder);
  free(defines);
  return result;
}

nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t *bytes) {
  if (!program || !bytes) return NVRTC_ERROR_INVALID_INPUT;
  *bytes = (program->log ? strlen(program->log) : 0) + 1;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char *log) {
  if (!program || !log) return NVRTC_ERROR_INVALID_INPUT;
  const char *words = program->log ? program->log : "";
  memcpy(log, words, strlen(words) + 1);
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t *bytes) {
  if (!program || !bytes) return NVRTC_ERROR_INVALID_INPUT;
  *bytes = program->image_bytes;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char *image) {
  if (!program || !image || !program->image) return NVRTC_ERROR_INVALID_INPUT;
  memcpy(image, program->image, program->image_bytes);
  return NVRTC_SUCCESS;
}
