#include "cpu.h"
#include "mma.h"
#include "path.h"
#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* __builtin_cpu_supports() also asks whether the operating system saves the registers; not every compiler knows "f16c" there. */
static int supports(enum fg_isa isa) {
  unsigned eax, ebx, ecx = 0, edx;
  __builtin_cpu_init();
  switch (isa) {
  case FG_ISA_PLAIN:
    return 1;
  case FG_ISA_AVX2:
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) &&
           (ecx & bit_F16C);
  case FG_ISA_AVX512:
    return supports(FG_ISA_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  }
  return 0;
}

void fg_cpu_name(char name[FG_CPU_NAME_BYTES]) {
  unsigned words[13] = {0};
  for (unsigned leaf = 0; leaf < 3; leaf++) {
    unsigned *word = words + 4 * leaf;
    __get_cpuid(0x80000002u + leaf, &word[0], &word[1], &word[2], &word[3]);
  }
  const char *text = (const char *)words;
  while (*text == ' ') text++;
  snprintf(name, FG_CPU_NAME_BYTES, "%.48s", *text ? text : "unknown processor");
  for (size_t end = strlen(name); end > 0 && name[end - 1] == ' '; end--) name[end - 1] = 0;
}
#else
static int supports(enum fg_isa isa) { return isa == FG_ISA_PLAIN; }
void fg_cpu_name(char name[FG_CPU_NAME_BYTES]) { snprintf(name, FG_CPU_NAME_BYTES, "unknown processor"); }
#endif

static const char *const isa_names[] = {"plain", "avx2", "avx512"};

const char *fg_isa_name(enum fg_isa isa) { return isa_names[isa]; }

static enum fg_isa choose(void) {
  const char *wish = getenv("FG_ISA");
  enum fg_isa best = FG_ISA_PLAIN;
  for (int isa = FG_ISA_AVX2; isa <= FG_ISA_AVX512; isa++)
    if (supports((enum fg_isa)isa)) best = (enum fg_isa)isa;
  for (int isa = FG_ISA_PLAIN; wish && isa < (int)best; isa++)
    if (strcmp(wish, isa_names[isa]) == 0) return (enum fg_isa)isa;
  return best;
}

/* Threads that come here together choose the same. */
static atomic_int chosen = -1;

enum fg_isa fg_isa(void) {
  int isa = atomic_load_explicit(&chosen, memory_order_relaxed);
  if (isa < 0) {
    isa = (int)choose();
    atomic_store_explicit(&chosen, isa, memory_order_relaxed);
  }
  return (enum fg_isa)isa;
}

int fg_set_isa(enum fg_isa isa) {
  if (!supports(isa)) return 0;
  atomic_store_explicit(&chosen, (int)isa, memory_order_relaxed);
  return 1;
}

#if defined(__x86_64__)
#define PATHS(name)                                                                                                              \
  { &name##_plain, &name##_avx2, &name##_avx512 }
#else
#define PATHS(name)                                                                                                              \
  { &name##_plain }
#endif

const struct fg_path *fg_path(void) {
  static const struct fg_path *const paths[] = PATHS(fg_path);
  return paths[fg_isa()];
}

const struct fg_mma_path *fg_mma_path(void) {
  static const struct fg_mma_path *const paths[] = PATHS(fg_mma);
  return paths[fg_isa()];
}

int fg_cpu_threads(void) { return omp_get_num_procs(); }

void fg_to_float(fg_type type, const void *from, float *to, int64_t count) { fg_path()->to_float(type, from, to, count); }

void fg_from_float(fg_type type, const float *from, void *to, int64_t count) { fg_path()->from_float(type, from, to, count); }

void fg_fp8_scale_to_float(fg_type type, const uint8_t *from, float scale, float *to, int64_t count) {
  fg_path()->fp8_scale_to_float(type, from, scale, to, count);
}
