/* Makes the tables of README.md and bench/README.md, and the columns of the picture, from what the benchmarks printed as JSON:
 *
 *     report ladder GEMM.json... GPU.json...
 *     report plot GEMM.json...
 *     report tables GEMM.json... QUANTISE.json... GPU.json... GPU_HOST.json...
 *     report naive|shared|wgmma|tma|pipeline|persistent|cluster GPU.json... GPU_HOST.json...
 *
 * The last are the numbers of those levels' lessons. A file is one machine's. Nothing is measured here, and nothing rounded but for print. */
#include "finegemm.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LADDER_M = 512, LADDER_N = 2048, LADDER_K = 7168 }; /* the layer that the ladder is measured on: the demo's */

static const char *text(const json_t *object, const char *key) {
  const char *value = json_string_value(json_object_get(object, key));
  return value ? value : "?";
}

static double number(const json_t *object, const char *key) {
  const json_t *value = json_object_get(object, key);
  return json_is_number(value) ? json_number_value(value) : NAN;
}

static bool is_gemm(const json_t *file) { return json_object_get(file, "blas") != NULL; }
static bool is_gpu(const json_t *file) { return json_object_get(file, "levels") != NULL; }
static bool is_gpu_host(const json_t *file) { return json_object_get(file, "later_calls") != NULL; }

static bool is_emulator(const json_t *file) { return json_object_get(file, "emulated") != NULL; }

static const json_t *ladder_rows(const json_t *file) {
  size_t i;
  const json_t *result;
  json_array_foreach(json_object_get(file, is_gpu(file) ? "levels" : "results"), i, result)
    if (number(result, "m") == LADDER_M && number(result, "n") == LADDER_N && number(result, "k") == LADDER_K)
      return json_object_get(result, "rows");
  return NULL;
}

/* The fastest of that name: of all paths and numbers of threads, or tiles. */
static const json_t *row_of(const json_t *rows, const char *name) {
  size_t i;
  const json_t *row, *best = NULL;
  json_array_foreach(rows, i, row)
    if (strcmp(text(row, "name"), name) == 0 && (!best || number(row, "gflops") > number(best, "gflops"))) best = row;
  return best;
}

static void print_cells(json_t *const *files, int count, const char *name) {
  for (int f = 0; f < count; f++) {
    double gflops = number(row_of(ladder_rows(files[f]), name), "gflops");
    isnan(gflops) ? printf(" |") : gflops < 1000 ? printf(" %.4g |", gflops) : printf(" %.0f |", gflops);
  }
}

static bool is_measured(json_t *const *files, int count, const char *name) {
  for (int f = 0; f < count; f++)
    if (row_of(ladder_rows(files[f]), name)) return true;
  return false;
}

/* A row for every level that some file has a figure of; the others are named below. */
static void print_ladder(json_t *const *files, int count) {
  int levels;
  const fg_level_info *info = fg_levels(&levels);
  printf("| level | the idea it adds |");
  for (int f = 0; f < count; f++) printf(" GFLOPS: %s |", text(files[f], is_gpu(files[f]) ? "gpu" : "cpu"));
  printf("\n|---|---|");
  for (int f = 0; f < count; f++) printf("---:|");
  printf("\n");
  for (int i = 0; i < levels; i++) {
    if (!is_measured(files, count, info[i].name)) continue;
    printf("| `%s` | %s |", info[i].name, info[i].idea);
    print_cells(files, count, info[i].name);
    printf("\n");
  }
  printf("| *OpenBLAS* | *`sgemm` on the same numbers in FP32, for comparison* |");
  print_cells(files, count, "sgemm");
  printf("\n\nD [%d, %d] = X [%d, %d] Wᵀ, e4m3, 1x128 by 128x128 scales; medians of `bench_gemm` and `bench_gpu`, commit",
         LADDER_M, LADDER_N, LADDER_M, LADDER_K);
  for (int f = 0; f < count; f++) {
    bool is_new = true;
    for (int before = 0; before < f; before++)
      is_new = is_new && strcmp(text(files[before], "commit"), text(files[f], "commit")) != 0;
    if (is_new) printf("%s %s", f ? "," : "", text(files[f], "commit"));
  }
  printf(".");
  const char *between = " No figures yet of:";
  for (int i = 0; i < levels; i++)
    if (!is_measured(files, count, info[i].name)) {
      printf("%s `%s`", between, info[i].name);
      between = ",";
    }
  printf("%s\n", between[0] == ',' ? "." : "");
}

static void print_plot(json_t *const *files, int count) {
  int levels;
  const fg_level_info *info = fg_levels(&levels);
  for (int f = 0; f < count; f++) {
    const json_t *rows = ladder_rows(files[f]);
    printf("# %s\n\"sgemm\" %.4g\n", text(files[f], "cpu"), number(row_of(rows, "sgemm"), "gflops"));
    for (int i = 0; i < levels; i++) {
      const json_t *row = row_of(rows, info[i].name);
      if (row) printf("\"%s\" %.4g\n", info[i].name, number(row, "gflops"));
    }
    printf("\n\n");
  }
}

static void print_gemm(const json_t *file) {
  printf("\n**%s.** %s. finegemm %s, commit %s, gcc %s; medians of %.0f rounds.\n\n", text(file, "cpu"), text(file, "blas"),
         text(file, "version"), text(file, "commit"), text(file, "compiler"), number(file, "repeats"));
  printf("| m | n | k | threads | | path | ms | min | max | GFLOPS | GMAC/s a thread | speed of sgemm's | extra MB |\n"
         "|--:|--:|--:|--:|---|---|--:|--:|--:|--:|--:|--:|--:|\n");
  size_t r, i;
  const json_t *result, *row;
  json_array_foreach(json_object_get(file, "results"), r, result) {
    json_array_foreach(json_object_get(result, "rows"), i, row) {
      double threads = number(row, "threads"), gflops = number(row, "gflops"), elements = number(row, "elements");
      printf("| %.0f | %.0f | %.0f | %.0f | ", number(result, "m"), number(result, "n"), number(result, "k"), threads);
      isnan(elements) ? printf("%s", text(row, "name")) : printf("%s, %.0f elements", text(row, "name"), elements);
      printf(" | %s | %.4g | %.4g | %.4g | %.4g | %.3g |", json_object_get(row, "path") ? text(row, "path") : "",
             number(row, "median_ms"), number(row, "min_ms"), number(row, "max_ms"), gflops, gflops / 2 / threads);
      double ratio = number(row, "sgemm_over_level"), extra = number(row, "extra_bytes");
      isnan(ratio) ? printf(" | |\n") : printf(" %.2f | %.1f |\n", ratio, extra / 1e6);
    }
  }
}

static void print_quantise(const json_t *file) {
  printf(
      "\n**Quantising to e4m3, 1x128: %s**, %.0f thread, %.0f MiB of source; GB of source a second, commit %s, medians of %.0f "
      "rounds.\n\n",
      text(file, "cpu"), number(file, "threads"), number(file, "source_mib"), text(file, "commit"), number(file, "repeats"));
  printf("| source | path | memcpy | quantise | share | of it: the look for NaN | the rest |\n|---|---|--:|--:|--:|--:|--:|\n");
  size_t i;
  const json_t *row;
  json_array_foreach(json_object_get(file, "results"), i, row)
    printf("| %s | %s | %.2f | %.2f | %.2f | %.2f | %.2f |\n", text(row, "source"), text(row, "path"),
           number(row, "memcpy_gb_per_s"), number(row, "quantise_gb_per_s"), number(row, "ratio"), number(row, "check_gb_per_s"),
           number(row, "encode_gb_per_s"));
}

/* --- GPUs */

static double inside(const json_t *object, const char *key, const char *figure) {
  return number(json_object_get(object, key), figure);
}

static void print_gpu_head(const json_t *file) {
  printf("**%s**, %.0f multiprocessors at up to %.0f MHz", text(file, "gpu"), number(file, "sms"),
         number(file, "clock_khz") / 1000);
}

static void print_gpu_tail(const json_t *file) {
  double driver = number(file, "driver"), nvrtc = number(file, "nvrtc");
  printf("driver's CUDA %.1f, NVRTC %.1f, finegemm %s, commit %s", driver / 1000, nvrtc / 1000, text(file, "version"),
         text(file, "commit"));
}

static void print_gpu(const json_t *file) {
  printf("\n");
  print_gpu_head(file);
  printf(": FP32 %.1f TFLOPS, memory %.2f TB/s; ", number(file, "fp32_flops") * 1e-12,
         number(file, "memory_bytes_per_s") * 1e-12);
  print_gpu_tail(file);
  printf("; medians of %.0f rounds.\n\n| m | n | k | | tile | us | min | max | TFLOPS | share | settled us | TFLOPS |\n"
         "|--:|--:|--:|---|---|--:|--:|--:|--:|--:|--:|--:|\n",
         number(file, "repeats"));
  size_t r, i;
  const json_t *result, *row;
  json_array_foreach(json_object_get(file, "levels"), r, result) {
    json_array_foreach(json_object_get(result, "rows"), i, row)
      printf("| %.0f | %.0f | %.0f | %s | %.0fx%.0f | %.1f | %.1f | %.1f | %.2f | %.3f | %.1f | %.2f |\n", number(result, "m"),
             number(result, "n"), number(result, "k"), text(row, "name"), number(row, "block_m"), number(row, "block_n"),
             inside(row, "cold", "median_us"), inside(row, "cold", "min_us"), inside(row, "cold", "max_us"),
             number(row, "gflops") * 1e-3, number(row, "share"), inside(row, "settled", "median_us"),
             number(row, "settled_gflops") * 1e-3);
  }
}

static void print_times(const char *name, const char *what, const json_t *times) {
  printf("| `%s`: %s | %.1f ms | %.1f | %.1f |\n", name, what, number(times, "median_ms"), number(times, "min_ms"),
         number(times, "max_ms"));
}

static void print_gpu_host(const json_t *file) {
  printf("\n**What it costs the host**: %s, ", text(file, "gpu"));
  print_gpu_tail(file);
  printf(".\n\n| | median | min | max |\n|---|--:|--:|--:|\n");
  size_t i;
  const json_t *row;
  json_array_foreach(json_object_get(file, "first_calls"), i, row) {
    char what[96];
    print_times(text(row, "name"), "a context, before", json_object_get(row, "context"));
    snprintf(what, sizeof what, "a process's first call, %s, nothing in the cache", text(row, "kind"));
    print_times(text(row, "name"), what, json_object_get(row, "cold"));
    print_times(text(row, "name"), "the same, kernel in the disk's cache", json_object_get(row, "warm"));
  }
  json_array_foreach(json_object_get(file, "kernels"), i, row)
    print_times(text(row, "source"), text(row, "defines"), json_object_get(row, "times"));
  printf("\nA later call, in microseconds, median of 10,000 (of 100, 99 are within):\n\n"
         "| | all | check, plan, context | attributes of pointers |\n|---|--:|--:|--:|\n");
  json_array_foreach(json_object_get(file, "later_calls"), i, row)
    printf("| `%s` | %.2f (%.2f) | %.2f (%.2f) | %.2f (%.2f) |\n", text(row, "name"), inside(row, "call", "median_us"),
           inside(row, "call", "p99_us"), inside(row, "prepare", "median_us"), inside(row, "prepare", "p99_us"),
           inside(row, "pointers", "median_us"), inside(row, "pointers", "p99_us"));
  const json_t *model = json_object_get(file, "model");
  printf("\nAll kernels of a model, for %.0f problems: %.0f, in %.2f seconds.\n", number(model, "problems"),
         number(model, "kernels"), number(model, "seconds"));
}

/* Bytes of A and B that a kernel asks global memory for, for an operation: an element of A serves a row of a tile, or of naive's one. */
static double bytes_of_an_operation(const json_t *row, bool is_naive) {
  return is_naive ? 1 : 0.5 / number(row, "block_m") + 0.5 / number(row, "block_n");
}

static void print_lesson_rows(const json_t *file, bool with_shared) {
  size_t r, i;
  const json_t *result, *row;
  json_array_foreach(json_object_get(file, "levels"), r, result) {
    const json_t *rows = json_object_get(result, "rows");
    double naive_us = NAN;
    json_array_foreach(rows, i, row) {
      bool is_naive = strcmp(text(row, "name"), "naive") == 0;
      double us = inside(row, "cold", "median_us"), flops = number(result, "flops");
      if (is_naive) naive_us = us;
      if (!is_naive && !with_shared) continue;
      printf("| %.0f | %.0f | %.0f |", number(result, "m"), number(result, "n"), number(result, "k"));
      if (with_shared) printf(" `%s` %.0fx%.0f |", text(row, "name"), number(row, "block_m"), number(row, "block_n"));
      printf(" %.1f | %.2f | %.1f %% |", us, number(row, "gflops") * 1e-3, 100 * number(result, "fma_us") / us);
      double asked = bytes_of_an_operation(row, is_naive);
      if (with_shared)
        printf(" %.4f | %.1f |\n", asked, naive_us / us);
      else
        printf(" %.1f | %.0f |\n", number(result, "bytes") * 1e-6, asked * flops * 1e-6);
    }
  }
}

static void print_lesson_kernel(const json_t *file, const char *name) {
  size_t i;
  const json_t *row;
  json_array_foreach(json_object_get(file, "kernels"), i, row)
    if (strstr(text(row, "source"), name) && strstr(text(row, "defines"), "A_IS_E5M2=0 B_IS_E5M2=0 KIND=0"))
      printf("| `%s` | %.0f | %.0f ms |\n", text(row, "defines"), number(row, "registers"), inside(row, "times", "median_ms"));
  json_array_foreach(json_object_get(file, "first_calls"), i, row)
    if (strcmp(text(row, "name"), name) == 0 && strcmp(text(row, "kind"), "dense") == 0)
      printf("\nA process's first call takes %.0f ms with nothing in the cache, %.1f ms with the kernel in the disk's",
             inside(row, "cold", "median_ms"), inside(row, "warm", "median_ms"));
  json_array_foreach(json_object_get(file, "later_calls"), i, row)
    if (strcmp(text(row, "name"), name) == 0)
      printf(", and each later one %.1f us of the host's time.\n", inside(row, "call", "median_us"));
}

static bool has_level(const json_t *file, const char *name) {
  size_t i;
  const json_t *result;
  json_array_foreach(json_object_get(file, "levels"), i, result)
    if (row_of(json_object_get(result, "rows"), name)) return true;
  return false;
}

/* The numbers of the lesson of `naive` or `shared`. */
static void print_lesson(json_t *const *files, int count, const char *name) {
  bool with_shared = strcmp(name, "shared") == 0;
  for (int f = 0; f < count; f++) {
    if (is_gpu(files[f]) && !has_level(files[f], name)) continue;
    if (f > 0) printf("\n");
    if (is_gpu(files[f])) {
      print_gpu_head(files[f]);
      printf(": %.1f TFLOPS of FP32, %.2f TB/s; ", number(files[f], "fp32_flops") * 1e-12,
             number(files[f], "memory_bytes_per_s") * 1e-12);
      print_gpu_tail(files[f]);
      if (with_shared)
        printf(".\n\n| m | n | k | level, tile | us | TFLOPS | of the FP32 rate | bytes an operation | times `naive` |\n"
               "|--:|--:|--:|---|--:|--:|--:|--:|--:|\n");
      else
        printf(".\n\n| m | n | k | us | TFLOPS | of the FP32 rate | MB there are | MB asked for |\n"
               "|--:|--:|--:|--:|--:|--:|--:|--:|\n");
      print_lesson_rows(files[f], with_shared);
    } else {
      printf("| %s, by NVRTC %.1f | registers | to compile |\n|---|--:|--:|\n", text(files[f], "arch"),
             number(files[f], "nvrtc") / 1000);
      print_lesson_kernel(files[f], name);
    }
  }
}

/* A level with tensor cores beside the one before it and cuBLASLt with the same scales, each with its fastest tile. */
static void print_rung_rows(const json_t *file, const char *name, const char *before) {
  size_t r;
  const json_t *result;
  json_array_foreach(json_object_get(file, "levels"), r, result) {
    const json_t *rows = json_object_get(result, "rows"), *row = row_of(rows, name);
    double us = inside(row, "cold", "median_us"), before_us = inside(row_of(rows, before), "cold", "median_us");
    double peer_us = inside(row_of(json_object_get(result, "peers"), "cublaslt-block"), "cold", "median_us");
    if (!row) continue;
    printf("| %.0f | %.0f | %.0f | %.0fx%.0f | %.1f | %.0f | %.1f %% | %.0f |", number(result, "m"), number(result, "n"),
           number(result, "k"), number(row, "block_m"), number(row, "block_n"), us, number(row, "gflops") * 1e-3,
           100 * number(row, "share_of_limit"), number(row, "settled_gflops") * 1e-3);
    isnan(before_us) ? printf(" |") : printf(" %.2f |", before_us / us);
    isnan(peer_us) ? printf(" |\n") : printf(" %.2f |\n", peer_us / us);
  }
}

/* The numbers of the lesson of such a level. */
static void print_rung(json_t *const *files, int count, const fg_level_info *level) {
  const char *before = level[-1].name;
  bool is_recorded = false;
  for (int f = 0; f < count; f++) {
    if (!is_gpu(files[f]) || !has_level(files[f], level->name)) continue;
    printf("%s", is_recorded ? "\n" : "");
    print_gpu_head(files[f]);
    printf("; ");
    print_gpu_tail(files[f]);
    printf(".\n\n| m | n | k | tile | us | TFLOPS | of the limit | TFLOPS, settled | times `%s` | times cuBLASLt's |\n"
           "|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|\n",
           before);
    print_rung_rows(files[f], level->name, before);
    is_recorded = true;
  }
  if (!is_recorded) printf("No run of `bench_gpu` with this level is recorded yet.\n");
}

/* NULL: not the name of a level that a lesson teaches, or none that multiplies with tensor cores. */
static const fg_level_info *rung_of(const char *name) {
  int levels;
  const fg_level_info *info = fg_levels(&levels);
  for (int i = 0; i < levels; i++)
    if (strcmp(info[i].name, name) == 0 && info[i].level >= FG_WGMMA && info[i].level <= FG_CLUSTER) return &info[i];
  return NULL;
}

static void print_emulator(const json_t *file) {
  printf(
      "\n**The emulator: %s**, %.0f threads. finegemm %s, commit %s, gcc %s; medians of %.0f rounds; seconds, and in brackets those of "
      "all processors together.\n\n| m | n | k | level | compiling | seed 0 | seed 1 | extra MB |\n|--:|--:|--:|---|--:|--:|--:|--:|\n",
      text(file, "cpu"), number(file, "threads"), text(file, "version"), text(file, "commit"), text(file, "compiler"),
      number(file, "repeats"));
  size_t i, r;
  const json_t *row, *run;
  json_array_foreach(json_object_get(file, "emulated"), i, row) {
    printf("| %.0f | %.0f | %.0f | `%s` | %.2f |", number(row, "m"), number(row, "n"), number(row, "k"), text(row, "name"),
           number(row, "compile_seconds"));
    json_array_foreach(json_object_get(row, "runs"), r, run)
      printf(" %.2f (%.2f) |", number(run, "seconds"), number(run, "processor_seconds"));
    printf(" %.0f |\n", number(row, "extra_bytes") / 1e6);
  }
}

static void print_table(const json_t *file) {
  if (is_gemm(file))
    print_gemm(file);
  else if (is_gpu(file))
    print_gpu(file);
  else if (is_gpu_host(file))
    print_gpu_host(file);
  else if (is_emulator(file))
    print_emulator(file);
  else
    print_quantise(file);
}

int main(int argc, char **argv) {
  enum { MOST_FILES = 16 };
  json_t *files[MOST_FILES];
  int count = argc - 2;
  if (count < 1 || count > MOST_FILES) return fprintf(stderr, "usage: report ladder|plot|tables|LEVEL RESULT.json...\n"), 2;
  for (int f = 0; f < count; f++) {
    json_error_t error;
    files[f] = json_load_file(argv[f + 2], 0, &error);
    if (!files[f]) return fprintf(stderr, "report: %s: %s\n", argv[f + 2], error.text), 1;
  }
  if (strcmp(argv[1], "ladder") == 0)
    print_ladder(files, count);
  else if (strcmp(argv[1], "plot") == 0)
    print_plot(files, count);
  else if (strcmp(argv[1], "naive") == 0 || strcmp(argv[1], "shared") == 0)
    print_lesson(files, count, argv[1]);
  else if (rung_of(argv[1]))
    print_rung(files, count, rung_of(argv[1]));
  else
    for (int f = 0; f < count; f++) print_table(files[f]);
  for (int f = 0; f < count; f++) json_decref(files[f]);
  return fflush(stdout) == 0 ? 0 : 1;
}
