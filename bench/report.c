/* Makes the tables of README.md and bench/README.md, and what their pictures draw, from what the benchmarks printed as JSON:
 *
 *     report ladder GEMM.json... GPU.json...
 *     report plot GEMM.json...|GPU.json...
 *     report tables GEMM.json... QUANTISE.json... GPU.json... GPU_HOST.json... EMULATOR.json...
 *     report share|roofline|ratio|sweep GPU.json
 *     report naive|shared|wgmma|tma|pipeline|persistent|cluster GPU.json... GPU_HOST.json... GPU_COUNTERS.json...
 *     report shapes|overlap|small_m GPU.json... GPU_COUNTERS.json...
 *
 * The last are the numbers of those levels' lessons, and of the lessons about the level `full`. The line before is for its pictures. A file is one machine's. Nothing is measured here, and nothing rounded but for print. */
#include "report.h"
#include "finegemm.h"

#include <stdlib.h>

enum { LADDER_M = 512, LADDER_N = 2048, LADDER_K = 7168 }; /* the layer that the ladder is measured on: the demo's */

static bool is_gemm(const json_t *file) { return json_object_get(file, "blas") != NULL; }
static bool is_gpu_host(const json_t *file) { return json_object_get(file, "later_calls") != NULL; }

static bool is_gpu_counters(const json_t *file) { return json_object_get(file, "counters") != NULL; }
static bool is_emulator(const json_t *file) { return json_object_get(file, "emulated") != NULL; }

/* NULL: not the name of a level that a lesson teaches, or none that multiplies with tensor cores. */
static const fg_level_info *rung_of(const char *name) {
  int levels;
  const fg_level_info *info = fg_levels(&levels);
  for (int i = 0; i < levels; i++)
    if (strcmp(info[i].name, name) == 0 && info[i].level >= FG_WGMMA && info[i].level <= FG_FULL) return &info[i];
  return NULL;
}

/* --- The ladder. Two tables: levels of GPUs, each by its own on the shapes of a run that has the rungs with tensor cores, and levels of
 * CPUs on one layer. */

static bool is_same_gpu(const json_t *a, const json_t *b) { return strcmp(text(a, "gpu"), text(b, "gpu")) == 0; }

static bool has_rungs(const json_t *file) { return is_gpu(file) && has_level(file, "cluster"); }

/* Of this name, level or peer, at the shape of `result`: from the run itself, or from another of the same GPU. */
static const json_t *gpu_row(json_t *const *files, int count, const json_t *run, const json_t *result, const char *name) {
  const json_t *row = row_of(json_object_get(result, "rows"), name);
  if (!row) row = row_of(json_object_get(result, "peers"), name);
  for (int f = 0; f < count && !row; f++) {
    size_t i;
    const json_t *other;
    if (!is_gpu(files[f]) || !is_same_gpu(files[f], run)) continue;
    json_array_foreach(json_object_get(files[f], "levels"), i, other)
      if (number(other, "m") == number(result, "m") && number(other, "n") == number(result, "n") &&
          number(other, "k") == number(result, "k") && !row)
        row = row_of(json_object_get(other, "rows"), name);
  }
  return row;
}

/* Of the least time that the GPU admits for this shape, with tensor cores, whether or not the row has them. */
static double share_of(const json_t *result, const json_t *row) {
  return number(result, "limit_us") / inside(row, "cold", "median_us");
}

static void print_tflops(double tflops) { printf(tflops < 10 ? "%.2f" : tflops < 100 ? "%.1f" : "%.0f", tflops); }
static void print_percent(double share) { printf(share < 0.02 ? "%.2g %%" : "%.0f %%", 100 * share); }

/* Whether the level is on this run's GPU at any of its shapes. */
static bool is_measured(json_t *const *files, int count, const json_t *run, const char *name) {
  size_t i;
  const json_t *result;
  json_array_foreach(json_object_get(run, "levels"), i, result)
    if (gpu_row(files, count, run, result, name)) return true;
  return false;
}

static void print_gpu_cells(json_t *const *files, int count, const json_t *run, const char *name) {
  size_t i;
  const json_t *result;
  json_array_foreach(json_object_get(run, "levels"), i, result) {
    const json_t *row = gpu_row(files, count, run, result, name);
    if (row) {
      printf(" ");
      print_tflops(number(row, "gflops") * 1e-3);
      printf(" (");
      print_percent(share_of(result, row));
      printf(") |");
    } else {
      printf(" |");
    }
  }
  printf("\n");
}

static const struct {
  const char *name, *what;
} shown_peers[] = {{"cublaslt-block", "the same, by cuBLASLt"},
                   {"cublaslt-tensor", "FP8 with one scale for a matrix, by cuBLASLt"}};
enum { SHOWN_PEERS = sizeof shown_peers / sizeof *shown_peers };

static void print_gpu_ladder(json_t *const *files, int count, const json_t *run) {
  int levels;
  size_t r;
  const json_t *result;
  const fg_level_info *info = fg_levels(&levels);
  printf("**%s**, TFLOPS, and in brackets the share of the limit:\n\n| level | the idea it adds |", text(run, "gpu"));
  json_array_foreach(json_object_get(run, "levels"), r, result)
    printf(" %.0f x %.0f x %.0f |", number(result, "m"), number(result, "n"), number(result, "k"));
  printf("\n|---|---|");
  for (r = 0; r < json_array_size(json_object_get(run, "levels")); r++) printf("--:|");
  printf("\n");
  for (int i = 0; i < levels; i++) {
    if (info[i].memory != FG_CUDA || !is_measured(files, count, run, info[i].name)) continue;
    printf("| `%s` | %s |", info[i].name, info[i].idea);
    print_gpu_cells(files, count, run, info[i].name);
  }
  for (int p = 0; p < SHOWN_PEERS; p++) {
    printf("| *%s* | *%s* |", shown_peers[p].name, shown_peers[p].what);
    print_gpu_cells(files, count, run, shown_peers[p].name);
  }
  printf(
      "\nThe limit: operations at %.1f PFLOPS or bytes at %.1f TB/s, and %.0f us. m x n x k, cold L2, medians of `bench_gpu`, commit %s",
      number(run, "tensor_flops") * 1e-15, number(run, "read_bytes_per_s") * 1e-12, number(run, "launch_us"),
      text(run, "commit"));
  for (int f = 0; f < count; f++) {
    bool is_new = is_gpu(files[f]) && is_same_gpu(files[f], run) && strcmp(text(files[f], "commit"), text(run, "commit")) != 0;
    for (int before = 0; before < f; before++)
      is_new = is_new && !(is_gpu(files[before]) && is_same_gpu(files[before], run) &&
                           strcmp(text(files[before], "commit"), text(files[f], "commit")) == 0);
    if (is_new) printf(", %s", text(files[f], "commit"));
  }
  printf(".\n\n");
}

/* Rows of a CPU's run on the ladder's layer. */
static const json_t *layer_rows(const json_t *file) {
  size_t i;
  const json_t *result;
  json_array_foreach(json_object_get(file, "results"), i, result)
    if (number(result, "m") == LADDER_M && number(result, "n") == LADDER_N && number(result, "k") == LADDER_K)
      return json_object_get(result, "rows");
  return NULL;
}

static void print_cpu_cells(json_t *const *files, int count, const char *name) {
  for (int f = 0; f < count; f++)
    if (is_gemm(files[f])) printf(" %.4g |", number(row_of(layer_rows(files[f]), name), "gflops"));
  printf("\n");
}

static void print_cpu_ladder(json_t *const *files, int count) {
  int levels;
  const fg_level_info *info = fg_levels(&levels);
  const char *between = "";
  printf("**CPUs**, GFLOPS, D [%d, %d] = X [%d, %d] Wᵀ:\n\n| level | the idea it adds |", LADDER_M, LADDER_N, LADDER_M, LADDER_K);
  for (int f = 0; f < count; f++)
    if (is_gemm(files[f])) printf(" %s |", text(files[f], "cpu"));
  printf("\n|---|---|");
  for (int f = 0; f < count; f++)
    if (is_gemm(files[f])) printf("--:|");
  printf("\n");
  for (int i = 0; i < levels; i++) {
    if (info[i].memory != FG_CPU) continue;
    printf("| `%s` | %s |", info[i].name, info[i].idea);
    print_cpu_cells(files, count, info[i].name);
  }
  printf("| *OpenBLAS* | *`sgemm` on the same numbers in FP32, for comparison* |");
  print_cpu_cells(files, count, "sgemm");
  printf("\nMedians of `bench_gemm`, commit ");
  for (int f = 0; f < count; f++) {
    bool is_new = is_gemm(files[f]);
    for (int before = 0; before < f; before++)
      is_new = is_new && strcmp(text(files[before], "commit"), text(files[f], "commit")) != 0;
    if (!is_new) continue;
    printf("%s%s", between, text(files[f], "commit"));
    between = ", ";
  }
  printf(".\n");
}

static void print_ladder(json_t *const *files, int count) {
  for (int f = 0; f < count; f++)
    if (has_rungs(files[f])) print_gpu_ladder(files, count, files[f]);
  print_cpu_ladder(files, count);
}

/* For the pictures, a block each with its title in a comment: of each GPU, at the second of its shapes, a level and its share in percent;
 * of each CPU, a level and its GFLOPS. */
static void print_plot(json_t *const *files, int count) {
  int levels;
  const fg_level_info *info = fg_levels(&levels);
  for (int f = 0; f < count; f++) {
    if (!has_rungs(files[f])) continue;
    const json_t *result = json_array_get(json_object_get(files[f], "levels"), 1);
    printf("# %s: share of the limit, %.0f x %.0f x %.0f\n", text(files[f], "gpu"), number(result, "m"), number(result, "n"),
           number(result, "k"));
    for (int i = 0; i < levels + SHOWN_PEERS; i++) {
      const char *name = i < levels ? info[i].name : shown_peers[i - levels].name;
      const json_t *row = gpu_row(files, count, files[f], result, name);
      if (row) printf("\"%s\" %.4g %.4g\n", name, 100 * share_of(result, row), number(row, "gflops") * 1e-3);
    }
    printf("\n\n");
  }
  for (int f = 0; f < count; f++) {
    if (!is_gemm(files[f])) continue;
    const json_t *rows = layer_rows(files[f]);
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

static void print_gpu_row(const json_t *result, const json_t *row) {
  if (isnan(number(row, "gflops"))) return; /* it was not timed */
  printf("| %.0f | %.0f | %.0f | %s |", number(result, "m"), number(result, "n"), number(result, "k"), text(row, "name"));
  isnan(number(row, "block_m")) ? printf(" |") : printf(" %.0fx%.0f |", number(row, "block_m"), number(row, "block_n"));
  printf(" %.1f | %.1f | %.1f | %.2f | %.3f |", inside(row, "cold", "median_us"), inside(row, "cold", "min_us"),
         inside(row, "cold", "max_us"), number(row, "gflops") * 1e-3, number(row, "share"));
  double settled_us = inside(row, "settled", "median_us");
  isnan(settled_us) ? printf(" | |\n") : printf(" %.1f | %.2f |\n", settled_us, number(row, "settled_gflops") * 1e-3);
}

/* What of the peers' results was looked at. */
static void print_peers(const json_t *file) {
  size_t r, i;
  const json_t *result, *row;
  printf("\nResults of these peers, by cuBLASLt %.0f:\n\n| m | n | k | | off by | elements looked at | outside | other bits |\n"
         "|--:|--:|--:|---|--:|--:|--:|--:|\n",
         number(file, "cublaslt"));
  json_array_foreach(json_object_get(file, "levels"), r, result) {
    json_array_foreach(json_object_get(result, "peers"), i, row) {
      if (isnan(number(row, "gflops"))) continue;
      printf("| %.0f | %.0f | %.0f | %s | %.5f | %.0f |", number(result, "m"), number(result, "n"), number(result, "k"),
             text(row, "name"), number(row, "relative_error"), number(row, "checked"));
      isnan(number(row, "outside_bound")) ? printf(" | |\n")
                                          : printf(" %.0f | %.0f |\n", number(row, "outside_bound"), number(row, "other_bits"));
    }
  }
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
  bool has_peers = false;
  const json_t *result, *row;
  json_array_foreach(json_object_get(file, "levels"), r, result) {
    json_array_foreach(json_object_get(result, "rows"), i, row) print_gpu_row(result, row);
    json_array_foreach(json_object_get(result, "peers"), i, row) {
      print_gpu_row(result, row);
      has_peers = true;
    }
  }
  if (has_peers) print_peers(file);
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
         "| | all | check, plan, context | attributes of pointers | tensor maps |\n|---|--:|--:|--:|--:|\n");
  json_array_foreach(json_object_get(file, "later_calls"), i, row) {
    static const char *const parts[] = {"call", "prepare", "pointers", "maps"};
    printf("| `%s` |", text(row, "name"));
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++)
      json_object_get(row, parts[p])
          ? printf(" %.2f (%.2f) |", inside(row, parts[p], "median_us"), inside(row, parts[p], "p99_us"))
          : printf(" |");
    printf("\n");
  }
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

/* The numbers of the lesson of `naive` or `shared`. */
static void print_lesson(json_t *const *files, int count, const char *name) {
  bool with_shared = strcmp(name, "shared") == 0, is_second = false;
  for (int f = 0; f < count; f++) {
    if (is_gpu_counters(files[f]) || (is_gpu(files[f]) && !has_level(files[f], name))) continue;
    if (is_second) printf("\n");
    is_second = true;
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

static void print_rung_head(const json_t *run, const char *before, bool is_second) {
  if (is_second) printf("\n");
  print_gpu_head(run);
  printf("; ");
  print_gpu_tail(run);
  printf(".\n\n| m | n | k | tile | us | TFLOPS | of the limit | TFLOPS, settled | times `%s` | times cuBLASLt's |\n"
         "|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|\n",
         before);
}

/* A level with tensor cores beside the one before it and cuBLASLt with the same scales, each with its fastest tile; of the level `full`,
 * which is timed at many shapes, where the one before was timed too. False: nowhere, and nothing is printed. */
static bool print_rung_table(json_t *const *files, int count, const json_t *run, const char *name, const char *before,
                             bool is_second) {
  size_t r;
  const json_t *result;
  bool is_printed = false;
  json_array_foreach(json_object_get(run, "levels"), r, result) {
    const json_t *row = row_of(json_object_get(result, "rows"), name);
    double us = inside(row, "cold", "median_us"),
           before_us = inside(gpu_row(files, count, run, result, before), "cold", "median_us");
    double peer_us = inside(row_of(json_object_get(result, "peers"), "cublaslt-block"), "cold", "median_us");
    if (!row || (strcmp(name, "full") == 0 && isnan(before_us))) continue;
    if (!is_printed) {
      print_rung_head(run, before, is_second);
      is_printed = true;
    }
    printf("| %.0f | %.0f | %.0f | %.0fx%.0f | %.1f | ", number(result, "m"), number(result, "n"), number(result, "k"),
           number(row, "block_m"), number(row, "block_n"), us);
    print_tflops(number(row, "gflops") * 1e-3);
    printf(" | %.1f %% | ", 100 * share_of(result, row));
    print_tflops(number(row, "settled_gflops") * 1e-3);
    isnan(before_us) ? printf(" | |") : printf(" | %.2f |", before_us / us);
    isnan(peer_us) ? printf(" |\n") : printf(" %.2f |\n", peer_us / us);
  }
  return is_printed;
}

/* --- What a profiler counted */

static const json_t *counters_of(const json_t *file, const char *name) {
  size_t i;
  const json_t *row;
  json_array_foreach(json_object_get(file, "counters"), i, row)
    if (strcmp(text(row, "name"), name) == 0) return json_object_get(row, "values");
  return NULL;
}

/* A counter in the unit that the page has; or samples of warps, of which the page has the number on a multiprocessor. */
static const struct counter {
  const char *what, *name;
  double unit;
  bool is_samples;
  const char *format;
} counters[] = {
    {"tensor cores at work, of all cycles", "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed", 1, false,
     "%.1f %%"},
    {"cycles", "sm__cycles_elapsed.max", 1, false, "%.0f"},
    {"cycles in a second", "smsp__cycles_elapsed.avg.per_second", 1e9, false, "%.2f GHz"},
    {"cycles in which a scheduler issues", "smsp__issue_active.avg.pct_of_peak_sustained_active", 1, false, "%.1f %%"},
    {"instructions of warps", "smsp__inst_executed.sum", 1e6, false, "%.1f million"},
    {"registers a thread is launched with", "launch__registers_per_thread", 1, false, "%.0f"},
    {"warps on a multiprocessor", "sm__warps_active.avg.per_cycle_active", 1, false, "%.1f"},
    {"of these, wait for memory", "smsp__pcsamp_warps_issue_stalled_long_scoreboard", 1, true, "%.1f"},
    {"wait for the instruction before", "smsp__pcsamp_warps_issue_stalled_wait", 1, true, "%.1f"},
    {"wait at a barrier", "smsp__pcsamp_warps_issue_stalled_barrier", 1, true, "%.1f"},
    {"threads' passes through shared memory", "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum", 1e6, false, "%.1f million"},
    {"the L2 at work", "lts__throughput.avg.pct_of_peak_sustained_elapsed", 1, false, "%.0f %%"},
    {"bytes that come to the multiprocessors", "l1tex__m_xbar2l1tex_read_bytes.sum", 1e9, false, "%.2f GB"},
    {"read from the L2 for them, in sectors of 32 bytes", "lts__t_sectors_srcunit_tex_op_read.sum", 1e9 / 32, false, "%.2f GB"},
    {"read from memory", "dram__bytes_read.sum", 1e6, false, "%.0f MB"},
};

static void print_counter(const struct counter *counter, const json_t *values) {
  double value = number(values, counter->name) / counter->unit;
  if (counter->is_samples)
    value *= number(values, "sm__warps_active.avg.per_cycle_active") / number(values, "smsp__pcsamp_sample_count");
  printf(" ");
  printf(counter->format, value);
  printf(" |");
}

/* The counters of a level beside those of the one before. */
static void print_counters(const json_t *file, const char *name, const char *before) {
  const json_t *now = counters_of(file, name), *then = counters_of(file, before);
  double operations = 2 * number(file, "m") * number(file, "n") * number(file, "k");
  if (!now) return;
  printf("\nCounted by NVIDIA's profiler at %.0f x %.0f x %.0f, commit %s; the tensor cores alone would take %.0f cycles.\n\n",
         number(file, "m"), number(file, "n"), number(file, "k"), text(file, "commit"),
         operations / (8192 * number(file, "sms")));
  printf("| | counter |");
  if (then) printf(" `%s` |", before);
  printf(" `%s` |\n|---|---|%s--:|\n", name, then ? "--:|" : "");
  for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) {
    printf("| %s | `%s` |", counters[i].what, counters[i].name);
    if (then) print_counter(&counters[i], then);
    print_counter(&counters[i], now);
    printf("\n");
  }
}

/* The numbers of the lesson of such a level. */
static void print_rung(json_t *const *files, int count, const fg_level_info *level) {
  const char *before = level[-1].name;
  bool is_recorded = false;
  for (int f = 0; f < count; f++)
    if (is_gpu(files[f]) && print_rung_table(files, count, files[f], level->name, before, is_recorded)) is_recorded = true;
  if (!is_recorded) printf("No run of `bench_gpu` with this level is recorded yet.\n");
  for (int f = 0; f < count; f++)
    if (is_gpu_counters(files[f])) print_counters(files[f], level->name, before);
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

static void print_table(const json_t *file, const char *path) {
  if (is_gemm(file))
    print_gemm(file);
  else if (is_full(file) && !has_rungs(file))
    print_full(file, path);
  else if (is_gpu(file))
    print_gpu(file);
  else if (is_gpu_host(file))
    print_gpu_host(file);
  else if (is_gpu_counters(file))
    return; /* which the lessons have */
  else if (is_emulator(file))
    print_emulator(file);
  else
    print_quantise(file);
}

static void print_tables(json_t *const *files, char *const *paths, int count) {
  for (int f = 0; f < count; f++) print_table(files[f], paths[f]);
}

static void print_levels(json_t **files, char *const *paths, int count, const char *what) {
  if (strcmp(what, "ladder") == 0)
    print_ladder(files, count);
  else if (strcmp(what, "plot") == 0)
    print_plot(files, count);
  else if (strcmp(what, "naive") == 0 || strcmp(what, "shared") == 0)
    print_lesson(files, count, what);
  else if (rung_of(what))
    print_rung(files, count, rung_of(what));
  else if (strcmp(what, "overlap") == 0)
    print_rung(files, count, rung_of("full"));
  else if (!print_full_lesson(files, paths, count, what))
    print_tables(files, paths, count);
}

int main(int argc, char **argv) {
  enum { MOST_FILES = 64 };
  json_t *files[MOST_FILES],
      *of_levels[MOST_FILES]; /* bench/deep_gemm.py's have a table and pictures, and are of no level's page */
  char **paths = argv + 2, *paths_of_levels[MOST_FILES];
  int count = argc - 2, levels = 0;
  if (count < 1 || count > MOST_FILES)
    return fprintf(stderr,
                   "usage: report ladder|plot|tables|share|roofline|ratio|sweep|shapes|overlap|small_m|LEVEL RESULT.json...\n"),
           2;
  for (int f = 0; f < count; f++) {
    json_error_t error;
    files[f] = json_load_file(paths[f], 0, &error);
    if (!files[f]) return fprintf(stderr, "report: %s: %s\n", paths[f], error.text), 1;
    if (!json_object_get(files[f], "deep_gemm")) of_levels[levels] = files[f], paths_of_levels[levels++] = paths[f];
  }
  if (strcmp(argv[1], "tables") == 0)
    print_tables(files, paths, count);
  else if (!print_full_plot(files[0], argv[1]))
    print_levels(of_levels, paths_of_levels, levels, argv[1]);
  for (int f = 0; f < count; f++) json_decref(files[f]);
  return fflush(stdout) == 0 ? 0 : 1;
}
