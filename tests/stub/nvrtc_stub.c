/* A compiler that makes an ELF image with an empty section for each kernel that a source defines in plain words:
 * extern "C" __global__ void NAME(. It follows #include "NAME" into the headers that it is given, and refuses #error. */
#include "cuda_stub.h"

#include <elf.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_HEADERS = 64, MOST_KERNELS = 16, LOG_BYTES = 2048 };

struct _nvrtcProgram {
  char *source, *name;
  int headers;
  char *header[MOST_HEADERS], *header_name[MOST_HEADERS];
  bool is_included[MOST_HEADERS];
  char log[LOG_BYTES];
  unsigned char *image;
  size_t image_bytes;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct {
  bool configured;
  int version, calls, fail_nth, compiles, programs, delay_us;
  nvrtcResult fail_result;
  bool all_after;
  size_t argument_bytes;
} stub;

static void lock(void) {
  pthread_mutex_lock(&mutex);
  if (stub.configured) return;
  const char *version = getenv("FG_STUB_NVRTC_VERSION");
  stub.configured = true;
  stub.version = version ? atoi(version) : 13000;
}
static void unlock(void) { pthread_mutex_unlock(&mutex); }

#define SET(assignment)                                                                                                          \
  do {                                                                                                                           \
    lock();                                                                                                                      \
    assignment;                                                                                                                  \
    unlock();                                                                                                                    \
  } while (0)

void stub_nvrtc_reset(void) {
  pthread_mutex_lock(&mutex);
  int programs = stub.programs;
  memset(&stub, 0, sizeof stub);
  stub.programs = programs;
  unlock();
}

void stub_nvrtc_version(int version) { SET(stub.version = version); }
void stub_nvrtc_delay_us(int delay_us) { SET(stub.delay_us = delay_us); }
void stub_nvrtc_argument_bytes(size_t bytes) { SET(stub.argument_bytes = bytes); }
void stub_nvrtc_fail(int nth, nvrtcResult result, bool and_all_after) {
  SET(stub.calls = 0; stub.fail_nth = nth; stub.fail_result = result; stub.all_after = and_all_after);
}

static int read_count(const int *count) {
  lock();
  int value = *count;
  unlock();
  return value;
}
int stub_nvrtc_calls(void) { return read_count(&stub.calls); }
int stub_compiles(void) { return read_count(&stub.compiles); }
int stub_programs(void) { return read_count(&stub.programs); }

/* Counts a call. What it is to fail with, or NVRTC_SUCCESS. */
static nvrtcResult count_call(void) {
  lock();
  stub.calls++;
  bool fails = stub.fail_nth && (stub.all_after ? stub.calls >= stub.fail_nth : stub.calls == stub.fail_nth);
  nvrtcResult result = fails ? stub.fail_result : NVRTC_SUCCESS;
  unlock();
  return result;
}

#define COUNT_CALL                                                                                                               \
  do {                                                                                                                           \
    nvrtcResult failed = count_call();                                                                                           \
    if (failed != NVRTC_SUCCESS) return failed;                                                                                  \
  } while (0)

/* --- What says something */

nvrtcResult nvrtcVersion(int *major, int *minor) {
  COUNT_CALL;
  int version = read_count(&stub.version);
  *major = version / 1000, *minor = version % 1000 / 10;
  return NVRTC_SUCCESS;
}

const char *nvrtcGetErrorString(nvrtcResult result) {
  switch ((int)result) {
  case NVRTC_SUCCESS:
    return "NVRTC_SUCCESS";
  case NVRTC_ERROR_OUT_OF_MEMORY:
    return "NVRTC_ERROR_OUT_OF_MEMORY";
  case NVRTC_ERROR_INVALID_INPUT:
    return "NVRTC_ERROR_INVALID_INPUT";
  case NVRTC_ERROR_INVALID_OPTION:
    return "NVRTC_ERROR_INVALID_OPTION";
  case NVRTC_ERROR_COMPILATION:
    return "NVRTC_ERROR_COMPILATION";
  case NVRTC_ERROR_INTERNAL_ERROR:
    return "NVRTC_ERROR_INTERNAL_ERROR";
  default:
    return "NVRTC_ERROR unknown";
  }
}

static const int archs[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};
enum { ARCHS = sizeof archs / sizeof archs[0] };

nvrtcResult nvrtcGetNumSupportedArchs(int *count) {
  COUNT_CALL;
  *count = ARCHS;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetSupportedArchs(int *list) {
  COUNT_CALL;
  memcpy(list, archs, sizeof archs);
  return NVRTC_SUCCESS;
}

/* --- Programs */

static void free_program(struct _nvrtcProgram *program) {
  free(program->source);
  free(program->name);
  for (int i = 0; i < program->headers; i++) {
    free(program->header[i]);
    free(program->header_name[i]);
  }
  free(program->image);
  free(program);
  SET(stub.programs--);
}

nvrtcResult nvrtcCreateProgram(nvrtcProgram *out, const char *source, const char *name, int headers, const char *const *header,
                               const char *const *header_name) {
  COUNT_CALL;
  if (!source || headers < 0 || headers > MOST_HEADERS) return NVRTC_ERROR_INVALID_INPUT;
  struct _nvrtcProgram *program = calloc(1, sizeof *program);
  if (!program) return NVRTC_ERROR_OUT_OF_MEMORY;
  SET(stub.programs++);
  program->source = strdup(source);
  program->name = strdup(name && *name ? name : "default_program");
  bool complete = program->source && program->name;
  for (int i = 0; i < headers; i++, program->headers++) {
    program->header[i] = strdup(header[i]);
    program->header_name[i] = strdup(header_name[i]);
    complete = complete && program->header[i] && program->header_name[i];
  }
  if (!complete) {
    free_program(program);
    return NVRTC_ERROR_OUT_OF_MEMORY;
  }
  *out = program;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcDestroyProgram(nvrtcProgram *program) {
  nvrtcResult failed = count_call();
  if (!program || !*program) return NVRTC_ERROR_INVALID_PROGRAM;
  free_program(*program);
  *program = NULL;
  return failed;
}

/* --- Compiling */

struct scan {
  struct _nvrtcProgram *program;
  int kernels;
  char kernel[MOST_KERNELS][64];
};

static bool complain(struct _nvrtcProgram *program, const char *name, int line, const char *what) {
  snprintf(program->log, sizeof program->log, "%s(%d): error: %.*s\n\n1 error detected in the compilation of \"%s\".\n", name,
           line, (int)strcspn(what, "\n"), what, program->name);
  return false;
}

/* A kernel's name follows __global__, void and what may stand between, as __launch_bounds__(...). */
static void take_kernel(struct scan *scan, const char *after) {
  static const char between[] = " \t\n";
  after += strspn(after, between);
  for (size_t length; (length = strcspn(after, " \t\n(")) > 0; after += length, after += strspn(after, between)) {
    bool is_bounds = strncmp(after, "__launch_bounds__", length) == 0;
    if (is_bounds) {
      int depth = 0;
      do {
        depth += (after[length] == '(') - (after[length] == ')');
        length++;
      } while (depth > 0 && after[length]);
    } else if (after[length + strspn(after + length, between)] == '(') {
      if (scan->kernels < MOST_KERNELS)
        snprintf(scan->kernel[scan->kernels++], sizeof scan->kernel[0], "%.*s", (int)length, after);
      return;
    }
  }
}

static bool scan_text(struct scan *scan, const char *name, const char *text) {
  int number = 1;
  char said_name[256];
  snprintf(said_name, sizeof said_name, "%s", name);
  for (const char *line = text, *end; line; line = end ? end + 1 : NULL, number++) {
    end = strchr(line, '\n');
    char include[128];
    if (sscanf(line, "#line %d \"%255[^\"]\"", &number, said_name) == 2) {
      number--;
    } else if (strncmp(line, "#error", 6) == 0) {
      return complain(scan->program, said_name, number, line);
    } else if (sscanf(line, " # include \"%127[^\"]\"", include) == 1) {
      int i = 0;
      while (i < scan->program->headers && strcmp(scan->program->header_name[i], include) != 0) i++;
      if (i == scan->program->headers) return complain(scan->program, said_name, number, "could not open source file");
      if (scan->program->is_included[i]) continue;
      scan->program->is_included[i] = true;
      if (!scan_text(scan, include, scan->program->header[i])) return false;
    } else {
      size_t length = end ? (size_t)(end - line) : strlen(line);
      const char *global = strstr(line, "__global__");
      if (global && (size_t)(global - line) < length) take_kernel(scan, global + strlen("__global__"));
    }
  }
  return true;
}

/* Sections: none, names, then .text.NAME and .nv.info.NAME for each kernel. */
static bool make_image(struct scan *scan, int sm, size_t argument_bytes) {
  enum { INFO_BYTES = 16 };
  int sections = 2 + 2 * scan->kernels;
  size_t table = sizeof(Elf64_Ehdr), infos = table + (size_t)sections * sizeof(Elf64_Shdr);
  size_t names = infos + (size_t)scan->kernels * INFO_BYTES, bytes = names + 32 + (size_t)scan->kernels * 160;
  unsigned char *image = calloc(1, bytes);
  if (!image) return false;
  Elf64_Ehdr head = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT, 0x41, 8},
                     .e_type = ET_EXEC,
                     .e_machine = 190,
                     .e_version = EV_CURRENT,
                     .e_shoff = table,
                     .e_flags = (Elf64_Word)sm << 8 | 4,
                     .e_ehsize = sizeof(Elf64_Ehdr),
                     .e_shentsize = sizeof(Elf64_Shdr),
                     .e_shnum = (Elf64_Half)sections,
                     .e_shstrndx = 1};
  memcpy(image, &head, sizeof head);
  size_t name = 1;
  for (int i = 1; i < sections; i++) {
    int kernel = (i - 2) / 2;
    bool is_info = i % 2 == 1;
    Elf64_Shdr section = {.sh_name = (Elf64_Word)name, .sh_type = SHT_PROGBITS, .sh_offset = names};
    if (i == 1) {
      section.sh_type = SHT_STRTAB, section.sh_size = bytes - names;
      name += (size_t)snprintf((char *)image + names + name, bytes - names - name, ".shstrtab") + 1;
    } else {
      name += (size_t)snprintf((char *)image + names + name, bytes - names - name, "%s%s", is_info ? ".nv.info." : ".text.",
                               scan->kernel[kernel]) +
              1;
    }
    if (i > 1 && is_info) {
      section.sh_offset = infos + (size_t)kernel * INFO_BYTES;
      section.sh_size = argument_bytes ? INFO_BYTES : 0;
      uint32_t words[4] = {0x000C1704, 0, 0, (uint32_t)argument_bytes << 18}; /* one parameter, at offset 0 */
      memcpy(image + section.sh_offset, words, sizeof words);
    }
    memcpy(image + table + (size_t)i * sizeof section, &section, sizeof section);
  }
  scan->program->image = image, scan->program->image_bytes = bytes;
  return true;
}

nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int count, const char *const *options) {
  SET(stub.compiles++);
  COUNT_CALL;
  lock();
  int delay_us = stub.delay_us, sm = 0;
  size_t argument_bytes = stub.argument_bytes;
  unlock();
  nanosleep(&(struct timespec){delay_us / 1000000, delay_us % 1000000 * 1000L}, NULL);
  for (int i = 0; i + 1 < count; i++)
    if (strcmp(options[i], "--gpu-architecture") == 0) sscanf(options[i + 1], "sm_%d", &sm);
  if (sm == 0) {
    snprintf(program->log, sizeof program->log, "nvrtc: error: invalid value for --gpu-architecture\n");
    return NVRTC_ERROR_INVALID_OPTION;
  }
  struct scan scan = {.program = program};
  if (!scan_text(&scan, program->name, program->source)) return NVRTC_ERROR_COMPILATION;
  for (int i = 0; i < scan.kernels; i++) {
    size_t length = strlen(program->log);
    snprintf(
        program->log + length, sizeof program->log - length,
        "ptxas info    : Function properties for %s\nptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill "
        "loads\nptxas info    : Used 32 registers, used 0 barriers\n",
        scan.kernel[i]);
  }
  return make_image(&scan, sm, argument_bytes) ? NVRTC_SUCCESS : NVRTC_ERROR_OUT_OF_MEMORY;
}

nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t *bytes) {
  COUNT_CALL;
  *bytes = strlen(program->log) + 1;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char *log) {
  COUNT_CALL;
  memcpy(log, program->log, strlen(program->log) + 1);
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t *bytes) {
  COUNT_CALL;
  *bytes = program->image_bytes;
  return program->image ? NVRTC_SUCCESS : NVRTC_ERROR_INVALID_PROGRAM;
}

nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char *cubin) {
  COUNT_CALL;
  memcpy(cubin, program->image, program->image_bytes);
  return NVRTC_SUCCESS;
}
