#include "compiler.h"
#include "defect_tree.h"
#include "defects.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 16 }; /* of a source */
static CUdevice device;

static _Noreturn void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(EXIT_FAILURE);
}

static void must(CUresult result, const char *call) {
  if (result == CUDA_SUCCESS) return;
  fg_driver_fail(call, result);
  fail(call, fg_message());
}
#define MUST(call) must(fg_driver()->call, #call)

/* --- Planting */

static char *read_text(const char *path) {
  FILE *file = fopen(path, "r");
  char *text = calloc(MOST_BYTES, 1);
  size_t bytes = file && text ? fread(text, 1, MOST_BYTES, file) : 0;
  if (!bytes || bytes == MOST_BYTES) fail(path, "it cannot be read, or is too large");
  fclose(file);
  return text;
}

/* Where it stands in the text, once. */
static const char *find_once(const char *text, const char *words) {
  const char *at = strstr(text, words);
  if (!at || strstr(at + 1, words)) fail(words, at ? "stands more than once in the kernel" : "does not stand in the kernel");
  return at;
}

static int line_of(const char *text, const char *at) {
  int line = 1;
  for (; text < at; text++) line += *text == '\n';
  return line;
}

static char *damage(const char *source, const struct defect *defect) {
  const char *at = find_once(source, defect->text);
  size_t bytes = strlen(source) + strlen(defect->instead) + 1;
  char *damaged = malloc(bytes);
  if (!damaged) fail(defect->what, "no memory");
  snprintf(damaged, bytes, "%.*s%s%s", (int)(at - source), source, defect->instead, at + strlen(defect->text));
  return damaged;
}

void defect_plant(const struct defect *defect, const struct defect_kernel *kernel, struct planted *planted) {
  char source[128], path[512];
  *planted = (struct planted){.kernel = kernel, .shared_bytes = kernel->shared_bytes};
  snprintf(source, sizeof source, "tests/kernels/%s.cu", kernel->source);
  snprintf(path, sizeof path, FG_SOURCE_DIR "/%s", source);
  char *text = read_text(path);
  if (defect) {
    char *damaged = damage(text, defect);
    free(text);
    text = damaged;
    planted->shared_bytes += defect->more_shared_bytes;
    if (defect->line) planted->line = line_of(text, find_once(text, defect->line));
  }
  struct tree tree = tree_make(source, text);
  free(text);
  struct fg_compilation compilation = {.source = source, .arch = "sm_90a", .defines = kernel->defines};
  while (kernel->defines[compilation.define_count]) compilation.define_count++;
  size_t bytes;
  char *log;
  fg_status status = fg_compile(&compilation, &planted->image, &bytes, &log);
  free(log);
  tree_remove(&tree);
  if (status == FG_COMPILE_ERROR)
    snprintf(planted->refused, sizeof planted->refused, "%s", fg_message());
  else if (status != FG_OK)
    fail(source, fg_message());
}

/* --- Running */

void defect_load(struct planted *planted) {
  CUcontext context;
  CUlibrary library;
  MUST(cuDeviceGet(&device, 0));
  MUST(cuDevicePrimaryCtxRetain(&context, device));
  MUST(cuCtxPushCurrent(context));
  MUST(cuLibraryLoadData(&library, planted->image, NULL, NULL, 0, NULL, NULL, 0));
  MUST(cuLibraryGetKernel(&planted->loaded, library, planted->kernel->source));
  planted->kernel->prepare(&planted->launch);
  free(planted->image);
  planted->image = NULL;
}

static CUresult launch(const struct planted *planted) {
  const struct fg_driver *driver = fg_driver();
  const struct defect_kernel *kernel = planted->kernel;
  CUlaunchAttribute attribute = {.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, .value.clusterDim = {kernel->cluster, 1, 1}};
  const CUlaunchConfig config = {.gridDimX = kernel->blocks,
                                 .gridDimY = 1,
                                 .gridDimZ = 1,
                                 .blockDimX = kernel->threads,
                                 .blockDimY = 1,
                                 .blockDimZ = 1,
                                 .sharedMemBytes = planted->shared_bytes,
                                 .attrs = &attribute,
                                 .numAttrs = kernel->cluster > 1};
  CUfunction function;
  void *parameters[] = {(void *)(uintptr_t)planted->launch.arguments};
  CUresult result = driver->cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)planted->shared_bytes,
                                                 planted->loaded, device);
  if (result == CUDA_SUCCESS) result = driver->cuKernelGetFunction(&function, planted->loaded);
  if (result == CUDA_SUCCESS) result = driver->cuLaunchKernelEx(&config, function, parameters, NULL);
  if (result == CUDA_SUCCESS) result = driver->cuCtxSynchronize();
  return result;
}

struct defect_run defect_run(const struct planted *planted) {
  const struct fg_driver *driver = fg_driver();
  struct defect_run run = {.digest = 1};
  for (int i = 0; i < planted->launch.result_count; i++)
    MUST(cuMemsetD8(planted->launch.result[i].data, 0xA7, planted->launch.result[i].bytes));
  run.result = launch(planted);
  if (run.result != CUDA_SUCCESS) {
    const char *words = NULL;
    driver->cuGetErrorString(run.result, &words);
    snprintf(run.sentence, sizeof run.sentence, "%s", words ? words : "an error without a name");
    return run;
  }
  for (int i = 0; i < planted->launch.result_count; i++) {
    size_t bytes = planted->launch.result[i].bytes;
    unsigned char *have = malloc(bytes);
    if (!have) fail("the kernel's result", "no memory");
    MUST(cuMemcpy((CUdeviceptr)(uintptr_t)have, planted->launch.result[i].data, bytes));
    for (size_t j = 0; j < bytes; j++) run.digest = (run.digest ^ have[j]) * UINT64_C(0x100000001B3); /* FNV-1a */
    free(have);
  }
  return run;
}

/* --- On the emulator */

static struct defect_run run_under(const struct planted *planted, int seed) {
  char text[16];
  snprintf(text, sizeof text, "%d", seed);
  setenv("FG_EMULATOR_SEED", text, 1);
  return defect_run(planted);
}

/* Whether it is what the table has. */
static bool is_it(const struct planted *planted, const struct defect *defect, const char *sentence) {
  char begin[128] = "";
  if (planted->line) snprintf(begin, sizeof begin, "tests/kernels/%s.cu(%d): ", planted->kernel->source, planted->line);
  return strncmp(sentence, begin, strlen(begin)) == 0 && strstr(sentence, defect->words);
}

struct defect_trial defect_try(const struct defect *defect) {
  struct defect_trial trial = {.first = -1};
  struct planted planted, whole;
  bool has_whole = false;
  defect_plant(defect, defect_kernel_of(defect), &planted);
  bool is_refused = planted.refused[0];
  if (!is_refused) defect_load(&planted);
  for (int seed = 0; seed < DEFECT_SEEDS; seed++) {
    struct defect_run run = {.result = CUDA_ERROR_INVALID_SOURCE};
    if (is_refused)
      memcpy(run.sentence, planted.refused, sizeof run.sentence);
    else
      run = run_under(&planted, seed);
    if (run.result == CUDA_SUCCESS) {
      if (!has_whole) {
        defect_plant(NULL, planted.kernel, &whole);
        defect_load(&whole);
        has_whole = true;
      }
      *(run.digest == run_under(&whole, 0).digest ? &trial.silent : &trial.corrupted) += 1;
    } else if (is_it(&planted, defect, run.sentence)) {
      if (!trial.found++) {
        trial.first = seed;
        memcpy(trial.sentence, run.sentence, sizeof trial.sentence);
      }
    } else {
      if (!trial.found && !trial.elsewhere) memcpy(trial.sentence, run.sentence, sizeof trial.sentence);
      trial.elsewhere++;
    }
  }
  return trial;
}

/* One word of the sentence, or how it is put for a table. */
static const char *put_word(const char *word, size_t length, char *text, size_t bytes) {
  static const char folder[] = "tests/kernels/";
  if (length > strlen(folder) && strncmp(word, folder, strlen(folder)) == 0)
    word += strlen(folder), length -= strlen(folder);
  else if (strncmp(word, "0x7", 3) == 0) /* an address, never the same */
    word = "0x7...", length = strlen(word);
  snprintf(text, bytes, "%.*s", (int)length, word);
  return text;
}

/* "ring.cu(41): nobody can ever go on; ..." of "tests/kernels/ring.cu(41): kernel ring, block 0, warp 0, thread 0: nobody ..." */
void defect_shorten(const char *sentence, char *text, size_t bytes) {
  const char *place = strstr(sentence, ": kernel "), *thread = place ? strstr(place, ", thread ") : NULL, *at = sentence;
  const char *rest = thread ? strstr(thread, ": ") : NULL;
  text[0] = '\0';
  for (size_t length; *at; at += length + (at[length] == ' ')) {
    char word[256];
    size_t used = strlen(text);
    if (rest && at == place + 2) at = rest + 2;
    length = strcspn(at, " ");
    put_word(at, length, word, sizeof word);
    if (used + strlen(word) + strlen(" ...") + 1 > bytes) {
      snprintf(text + used, bytes - used, "...");
      return;
    }
    snprintf(text + used, bytes - used, "%s%s", word, at[length] ? " " : "");
  }
}
