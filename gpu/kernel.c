#include "kernel.h"

#include "cache.h"
#include "compiler.h"
#include "fail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NEWEST_COMPILER = 13990 };

/* ptxas writes "Used 59 registers" to the log. */
static int registers_in(const char *log) {
  const char *used = log ? strstr(log, "Used ") : NULL;
  return used ? atoi(used + strlen("Used ")) : -1;
}

static fg_status compile(const struct fg_compilation *compilation, const char *key, void **cubin, fg_kernel *kernel) {
  char *log = NULL;
  size_t bytes = 0;
  fg_status status = fg_compile(compilation, cubin, &bytes, &log);
  if (status == FG_OK) {
    char *now = NULL; /* a source that was saved meanwhile is another one */
    if (fg_compilation_key(compilation, &now) == FG_OK && strcmp(now, key) == 0) fg_cache_store(key, *cubin, bytes);
    free(now);
    kernel->bytes = (int64_t)bytes;
    kernel->registers = registers_in(log);
  }
  free(log);
  return status;
}

/* The image as any compiler that this version knows made it, for a machine that has none itself. */
static void *load_any(struct fg_compilation compilation, size_t *bytes) {
  void *cubin = NULL;
  for (int version = NEWEST_COMPILER; version >= FG_OLDEST_COMPILER && !cubin; version -= 10) {
    char *key;
    compilation.compiler_version = version;
    if (fg_compilation_key(&compilation, &key) != FG_OK) return NULL;
    cubin = fg_cache_load(key, bytes);
    free(key);
  }
  return cubin;
}

/* From the cache; NULL: not there. *key is then what to store it under, NULL if it cannot be compiled, of which *status tells. */
static void *load(const struct fg_compilation *compilation, size_t *bytes, char **key, fg_status *status) {
  *status = fg_compilation_key(compilation, key);
  if (*status == FG_OK) return fg_cache_load(*key, bytes);
  char why[512];
  snprintf(why, sizeof why, "%s", fg_message());
  void *cubin = *status == FG_UNSUPPORTED ? load_any(*compilation, bytes) : NULL;
  if (!cubin) fg_fail(*status, "%s", why);
  return cubin;
}

fg_status fg_kernel_image(const char *arch, const struct fg_kernel_id *id, void **cubin, fg_kernel *kernel) {
  struct fg_kernel_defines defines = fg_kernel_defines_of(id);
  const char *texts[FG_MOST_KERNEL_DEFINES];
  for (int i = 0; i < defines.count; i++) texts[i] = defines.text[i];
  struct fg_compilation compilation = {
      .source = fg_kernel_source(id->level, id->order), .arch = arch, .defines = texts, .define_count = defines.count};
  *kernel = (fg_kernel){.registers = -1};
  snprintf(kernel->source, sizeof kernel->source, "%s", compilation.source);
  fg_kernel_describe(id, kernel->defines, sizeof kernel->defines);
  fg_status status;
  char *key;
  size_t bytes = 0;
  *cubin = load(&compilation, &bytes, &key, &status);
  if (*cubin) {
    kernel->was_cached = 1;
    kernel->bytes = (int64_t)bytes;
    status = FG_OK;
  } else if (key) {
    status = compile(&compilation, key, cubin, kernel);
  }
  free(key);
  return status;
}
