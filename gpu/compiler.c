#include "compiler.h"
#include "fail.h"
#include "library.h"

#include <dlfcn.h>
#include <nvrtc.h>
#include <pthread.h>
#include <sha2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- The library */

#define FUNCTIONS(X)                                                                                                             \
  X(nvrtcVersion)                                                                                                                \
  X(nvrtcGetErrorString)                                                                                                         \
  X(nvrtcGetNumSupportedArchs)                                                                                                   \
  X(nvrtcGetSupportedArchs)                                                                                                      \
  X(nvrtcCreateProgram)                                                                                                          \
  X(nvrtcCompileProgram)                                                                                                         \
  X(nvrtcGetProgramLogSize)                                                                                                      \
  X(nvrtcGetProgramLog)                                                                                                          \
  X(nvrtcGetCUBINSize)                                                                                                           \
  X(nvrtcGetCUBIN)                                                                                                               \
  X(nvrtcDestroyProgram)

struct nvrtc {
  int version;   /* as 13000 */
  char name[32]; /* "NVRTC 13.0" */
#define MEMBER(function) __typeof__(function) *function;
  FUNCTIONS(MEMBER)
};

#define SYMBOL(function) {#function, offsetof(struct nvrtc, function), true},
static const struct fg_symbol symbols[] = {FUNCTIONS(SYMBOL)};
enum { SYMBOLS = sizeof symbols / sizeof symbols[0] };

static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
static struct nvrtc functions;               /* complete once `opened` points to it */
static _Atomic(const struct nvrtc *) opened; /* NULL: not yet */

static bool open_nvrtc(void) {
  static const char *const usual[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", NULL};
  static const char advice[] = "install libnvrtc 12.0 or newer (pip: nvidia-cuda-nvrtc), or name it in FG_NVRTC";
  const char *const *names = usual, *name;
  char why[256];
  bool wants_emulator;
  if (!fg_library_choose(&names, &wants_emulator)) return false;
  void *library = fg_library_open("FG_NVRTC", names, &name, why, sizeof why);
  if (!library) {
    if (wants_emulator)
      fg_fail(FG_UNSUPPORTED, "FG_DEVICE is emulator, and the emulator cannot be opened (%s); name its library in FG_NVRTC", why);
    else
      fg_fail(FG_UNSUPPORTED, "NVRTC, which compiles kernels, is not here (%s); %s", why, advice);
    return false;
  }
  const char *missing = fg_library_resolve(library, symbols, SYMBOLS, &functions);
  int major = 0, minor = 0;
  bool tells = functions.nvrtcVersion && functions.nvrtcVersion(&major, &minor) == NVRTC_SUCCESS;
  int version = major * 1000 + minor * 10;
  if (tells && version < FG_OLDEST_COMPILER) {
    fg_fail(FG_UNSUPPORTED, "%s is NVRTC %d.%d, which is too old; %s", name, major, minor, advice);
  } else if (missing) {
    fg_fail(FG_UNSUPPORTED, "%s has no function %s, so it is no NVRTC that finegemm knows; %s", name, missing, advice);
  } else if (!tells) {
    fg_fail(FG_UNSUPPORTED, "%s does not tell NVRTC's version; %s", name, advice);
  } else {
    functions.version = version;
    snprintf(functions.name, sizeof functions.name, "NVRTC %d.%d", major, minor);
    if (fg_library_is_emulator(library)) snprintf(functions.name, sizeof functions.name, "the emulator");
    return true;
  }
  dlclose(library);
  return false;
}

/* NULL: there is none, and fg_fail() was called with FG_UNSUPPORTED. */
static const struct nvrtc *open_once(void) {
  const struct nvrtc *here = atomic_load_explicit(&opened, memory_order_acquire);
  if (here) return here;
  pthread_mutex_lock(&opening);
  if (!atomic_load_explicit(&opened, memory_order_relaxed) && open_nvrtc())
    atomic_store_explicit(&opened, &functions, memory_order_release);
  here = atomic_load_explicit(&opened, memory_order_relaxed);
  pthread_mutex_unlock(&opening);
  return here;
}

int fg_compiler_version(void) {
  const struct nvrtc *nvrtc = open_once();
  return nvrtc ? nvrtc->version : 0;
}

const char *fg_compiler_name(void) {
  const struct nvrtc *nvrtc = open_once();
  return nvrtc ? nvrtc->name : NULL;
}

static fg_status nvrtc_fail(const struct nvrtc *nvrtc, const char *call, nvrtcResult result) {
  return fg_fail(result == NVRTC_ERROR_OUT_OF_MEMORY ? FG_OUT_OF_MEMORY : FG_COMPILE_ERROR, "%s: %s gives %s%s", nvrtc->name,
                 call, nvrtc->nvrtcGetErrorString(result), result == NVRTC_ERROR_OUT_OF_MEMORY ? ", for want of memory" : "");
}

enum { MOST_ARCHS = 256 };

/* Fills archs [MOST_ARCHS]. */
static fg_status list_archs(const struct nvrtc *nvrtc, int *archs, int *count) {
  nvrtcResult result = nvrtc->nvrtcGetNumSupportedArchs(count);
  if (result != NVRTC_SUCCESS || *count < 1 || *count > MOST_ARCHS)
    return nvrtc_fail(nvrtc, "nvrtcGetNumSupportedArchs", result ? result : NVRTC_ERROR_INTERNAL_ERROR);
  result = nvrtc->nvrtcGetSupportedArchs(archs);
  return result == NVRTC_SUCCESS ? FG_OK : nvrtc_fail(nvrtc, "nvrtcGetSupportedArchs", result);
}

int fg_compiler_archs(int *archs, int capacity) {
  const struct nvrtc *nvrtc = open_once();
  int all[MOST_ARCHS] = {0}, count = 0;
  if (!nvrtc || list_archs(nvrtc, all, &count) != FG_OK) return 0;
  for (int i = 0; i < count && i < capacity; i++) archs[i] = all[i];
  return count;
}

static fg_status check_arch(const struct nvrtc *nvrtc, const char *arch) {
  int archs[MOST_ARCHS] = {0}, count = 0;
  fg_status status = list_archs(nvrtc, archs, &count);
  if (status != FG_OK) return status;
  int wanted = strncmp(arch, "sm_", 3) == 0 ? (int)strtol(arch + 3, NULL, 10) : 0;
  for (int i = 0; i < count; i++)
    if (archs[i] == wanted) return FG_OK;
  return fg_fail(FG_UNSUPPORTED, "%s cannot compile for %s; it knows sm_%d to sm_%d", nvrtc->name, arch, archs[0],
                 archs[count - 1]);
}

/* --- The sources that take part */

enum { MOST_SOURCES = 64 };

/* The kernel's own source, and all that it includes, in the order in which they are met. */
struct sources {
  struct fg_source at[MOST_SOURCES];
  int count;
};

static void free_sources(struct sources *sources) {
  while (sources->count > 0) fg_source_free(&sources->at[--sources->count]);
}

#define DEVICE_FOLDER "gpu/device/"

static fg_status add_included(struct sources *sources, const char *included, int length) {
  char name[128];
  snprintf(name, sizeof name, DEVICE_FOLDER "%.*s", length, included);
  for (int i = 0; i < sources->count; i++)
    if (strcmp(sources->at[i].name, name) == 0) return FG_OK;
  if (sources->count == MOST_SOURCES) return fg_fail(FG_COMPILE_ERROR, "a kernel has more than %d sources", MOST_SOURCES);
  fg_status status = fg_source_read(name, &sources->at[sources->count]);
  if (status == FG_OK) sources->count++;
  return status;
}

/* The line after #include if this line is one, else NULL. */
static const char *skip_include(const char *line) {
  line += strspn(line, " \t");
  if (*line++ != '#') return NULL;
  line += strspn(line, " \t");
  static const char include[] = "include";
  return strncmp(line, include, strlen(include)) == 0 ? line + strlen(include) : NULL;
}

/* Whatever #include a line says, commented out or not: what is not found here the compiler does not get, and nothing else either. */
static fg_status add_all_included(struct sources *sources, int index) {
  int number = 0;
  for (const char *line = sources->at[index].text, *end = line; end; line = end + 1) {
    number++;
    end = strchr(line, '\n');
    const char *included = skip_include(line);
    if (!included) continue;
    included += strspn(included, " \t");
    int length = *included == '"' ? (int)strcspn(included + 1, "/\"\n") : 0;
    if (length == 0 || length > 80 || included[1 + length] != '"')
      return fg_fail(FG_COMPILE_ERROR, "%s(%d): error: #include%.*s: a kernel includes only \"NAME\", of " DEVICE_FOLDER,
                     sources->at[index].name, number, (int)strcspn(included, "\r\n"), included);
    fg_status status = add_included(sources, included + 1, length);
    if (status == FG_COMPILE_ERROR) {
      char why[300];
      snprintf(why, sizeof why, "%s", fg_message());
      return fg_fail(FG_COMPILE_ERROR, "%s(%d): error: %s", sources->at[index].name, number, why);
    }
    if (status != FG_OK) return status;
  }
  return FG_OK;
}

/* `sources` is empty before, and after a failure. */
static fg_status gather(const struct fg_compilation *compilation, struct sources *sources) {
  if (compilation->define_count > FG_MOST_DEFINES)
    return fg_fail(FG_COMPILE_ERROR, "%s is given %d definitions; there is room for %d", compilation->source,
                   compilation->define_count, FG_MOST_DEFINES);
  fg_status status = fg_source_read(compilation->source, &sources->at[0]);
  if (status != FG_OK) return status;
  sources->count = 1;
  for (int i = 0; i < sources->count && status == FG_OK; i++) status = add_all_included(sources, i);
  if (status != FG_OK) free_sources(sources);
  return status;
}

/* --- Options, and the key */

/* Some are two: an option and its value. */
struct options {
  const char *at[16 + 2 * FG_MOST_DEFINES];
  int count, fixed; /* the first `fixed` are the same for every kernel */
};

static void list_options(const struct fg_compilation *compilation, int version, struct options *options) {
  static const char *const always[] = {
      "--std=c++17",          "--fmad=false", /* kernels say fmaf where they mean it */
      "--no-source-include",                  /* or a file beside the source's name in the working directory could be included */
      "--generate-line-info", "--ptxas-options=-v",
  };
  options->count = 0;
  for (size_t i = 0; i < sizeof always / sizeof always[0]; i++) options->at[options->count++] = always[i];
  if (version >= 12040) options->at[options->count++] = "--minimal"; /* without the runtime's declarations, which take time */
  if (version >= 12090)
    options->at[options->count++] = "--no-cache"; /* of its own, in the driver's folder, which nobody checks */
  options->fixed = options->count;
  options->at[options->count++] = "--gpu-architecture";
  options->at[options->count++] = compilation->arch;
  for (int i = 0; i < compilation->define_count; i++) {
    options->at[options->count++] = "--define-macro";
    options->at[options->count++] = compilation->defines[i];
  }
}

/* A text that grows. */
struct text {
  char *at;
  size_t length, capacity;
  bool no_memory; /* and what was added since is lost */
};

static void add_bytes(struct text *text, const char *bytes, size_t count) {
  if (!text->no_memory && count > text->capacity - text->length) {
    size_t capacity = 2 * (text->length + count) + 1024;
    char *larger = realloc(text->at, capacity);
    text->no_memory = larger == NULL;
    if (larger) text->at = larger, text->capacity = capacity;
  }
  if (text->no_memory) return;
  memcpy(text->at + text->length, bytes, count);
  text->length += count;
}

static void end_string(struct text *text) { add_bytes(text, "", 1); }

#define ADD(text, ...) add(text, (const char *const[]){__VA_ARGS__, NULL})
static void add(struct text *text, const char *const *pieces) {
  for (; *pieces; pieces++) add_bytes(text, *pieces, strlen(*pieces));
}

static void add_hash(struct text *text, const char *what, const char *bytes) {
  char hash[SHA256_DIGEST_STRING_LENGTH];
  ADD(text, what, " ", SHA256Data((const uint8_t *)bytes, strlen(bytes), hash), "\n");
}

fg_status fg_compilation_key(const struct fg_compilation *compilation, char **key) {
  *key = NULL;
  int version = compilation->compiler_version ? compilation->compiler_version : fg_compiler_version();
  if (version == 0) return FG_UNSUPPORTED;
  struct sources sources = {.count = 0};
  fg_status status = gather(compilation, &sources);
  if (status != FG_OK) return status;
  struct options options;
  list_options(compilation, version, &options);
  struct text text = {0};
  char number[16];
  snprintf(number, sizeof number, "%d", version);
  ADD(&text, "finegemm ", fg_version(), "\nnvrtc ", number, "\narch ", compilation->arch, "\noptions");
  for (int i = 0; i < options.fixed; i++) ADD(&text, " ", options.at[i]);
  ADD(&text, "\n");
  const char *appended = getenv("NVRTC_APPEND_FLAGS"); /* which NVRTC obeys; of any form */
  if (appended && *appended) add_hash(&text, "NVRTC_APPEND_FLAGS", appended);
  for (int i = 0; i < compilation->define_count; i++) ADD(&text, "define ", compilation->defines[i], "\n");
  for (int i = 0; i < sources.count; i++) add_hash(&text, sources.at[i].name, sources.at[i].text);
  end_string(&text);
  free_sources(&sources);
  if (text.no_memory) {
    free(text.at);
    return fg_fail(FG_OUT_OF_MEMORY, "no memory for the key of the kernel in %s", compilation->source);
  }
  *key = text.at;
  return FG_OK;
}

/* --- Compiling */

/* What is handed over: names as the compiler is to say them, and headers under the names that they are included by. */
struct program {
  char *heap; /* what all of these lie in */
  const char *name;
  const char *headers[MOST_SOURCES], *header_names[MOST_SOURCES];
};

static bool make_program(const struct sources *sources, struct program *program) {
  struct text text = {0};
  size_t begins[MOST_SOURCES] = {0};
  ADD(&text, FG_COMPILER_ROOT, sources->at[0].name);
  end_string(&text);
  for (int i = 1; i < sources->count; i++) {
    begins[i] = text.length;
    ADD(&text, "#line 1 \"", FG_COMPILER_ROOT, sources->at[i].name, "\"\n", sources->at[i].text);
    end_string(&text);
  }
  program->heap = text.at;
  if (text.no_memory) return false;
  program->name = text.at;
  for (int i = 1; i < sources->count; i++) {
    program->headers[i - 1] = text.at + begins[i];
    program->header_names[i - 1] = sources->at[i].name + strlen(DEVICE_FOLDER);
  }
  return true;
}

static void strip_root(char *text) {
  char *to = text;
  while (*text)
    if (strncmp(text, FG_COMPILER_ROOT, strlen(FG_COMPILER_ROOT)) == 0)
      text += strlen(FG_COMPILER_ROOT);
    else
      *to++ = *text++;
  *to = '\0';
}

/* NULL: there is none, or no memory for it. */
static char *read_log(const struct nvrtc *nvrtc, nvrtcProgram program) {
  size_t bytes = 0;
  if (nvrtc->nvrtcGetProgramLogSize(program, &bytes) != NVRTC_SUCCESS || bytes <= 1) return NULL;
  char *log = calloc(bytes + 1, 1);
  if (!log) return NULL;
  if (nvrtc->nvrtcGetProgramLog(program, log) != NVRTC_SUCCESS) {
    free(log);
    return NULL;
  }
  strip_root(log);
  return log;
}

/* The first line of the log that tells of an error, or else the first. */
static fg_status report(const struct nvrtc *nvrtc, const struct fg_compilation *compilation, nvrtcResult result,
                        const char *log) {
  if (result == NVRTC_ERROR_OUT_OF_MEMORY || !log) return nvrtc_fail(nvrtc, "nvrtcCompileProgram", result);
  const char *line = strstr(log, "error:"); /* the compiler's own; ptxas and others write it otherwise */
  if (!line) line = strstr(log, "error");
  if (!line) line = log;
  while (line > log && line[-1] != '\n') line--;
  return fg_fail(FG_COMPILE_ERROR, "%.*s (for %s, by %s)", (int)strcspn(line, "\n"), line, compilation->arch, nvrtc->name);
}

static fg_status take_cubin(const struct nvrtc *nvrtc, nvrtcProgram program, void **cubin, size_t *bytes) {
  nvrtcResult result = nvrtc->nvrtcGetCUBINSize(program, bytes);
  if (result != NVRTC_SUCCESS || *bytes == 0)
    return nvrtc_fail(nvrtc, "nvrtcGetCUBINSize", result ? result : NVRTC_ERROR_INTERNAL_ERROR);
  void *taken = malloc(*bytes);
  if (!taken) return fg_fail(FG_OUT_OF_MEMORY, "no memory for a compiled kernel of %zu bytes", *bytes);
  result = nvrtc->nvrtcGetCUBIN(program, taken);
  if (result != NVRTC_SUCCESS) {
    free(taken);
    return nvrtc_fail(nvrtc, "nvrtcGetCUBIN", result);
  }
  *cubin = taken;
  return FG_OK;
}

static fg_status compile(const struct nvrtc *nvrtc, const struct fg_compilation *compilation, const struct sources *sources,
                         void **cubin, size_t *bytes, char **log) {
  struct program text;
  if (!make_program(sources, &text)) {
    free(text.heap);
    return fg_fail(FG_OUT_OF_MEMORY, "no memory for the sources of the kernel in %s", compilation->source);
  }
  nvrtcProgram program = NULL;
  nvrtcResult result =
      nvrtc->nvrtcCreateProgram(&program, sources->at[0].text, text.name, sources->count - 1, text.headers, text.header_names);
  if (result != NVRTC_SUCCESS) {
    free(text.heap);
    return nvrtc_fail(nvrtc, "nvrtcCreateProgram", result);
  }
  struct options options;
  list_options(compilation, nvrtc->version, &options);
  result = nvrtc->nvrtcCompileProgram(program, options.count, options.at);
  char *words = read_log(nvrtc, program);
  fg_status status =
      result == NVRTC_SUCCESS ? take_cubin(nvrtc, program, cubin, bytes) : report(nvrtc, compilation, result, words);
  nvrtc->nvrtcDestroyProgram(&program);
  free(text.heap);
  if (log)
    *log = words;
  else
    free(words);
  return status;
}

fg_status fg_compile(const struct fg_compilation *compilation, void **cubin, size_t *bytes, char **log) {
  *cubin = NULL, *bytes = 0;
  if (log) *log = NULL;
  const struct nvrtc *nvrtc = open_once();
  if (!nvrtc) return FG_UNSUPPORTED;
  fg_status status = check_arch(nvrtc, compilation->arch);
  if (status != FG_OK) return status;
  struct sources sources = {.count = 0};
  status = gather(compilation, &sources);
  if (status != FG_OK) return status;
  status = compile(nvrtc, compilation, &sources, cubin, bytes, log);
  free_sources(&sources);
  if (status != FG_OK) *bytes = 0;
  return status;
}
