/* Makes the tables of README.md and bench/README.md, and the columns of the picture, from what the benchmarks printed as JSON:
 *
 *     report ladder|plot GEMM.json...
 *     report tables GEMM.json... QUANTISE.json...
 *
 * A file is one machine's. Nothing is measured here, and nothing rounded but for print. */
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

static const json_t *ladder_rows(const json_t *file) {
  size_t i;
  const json_t *result;
  json_array_foreach(json_object_get(file, "results"), i, result)
    if (number(result, "m") == LADDER_M && number(result, "n") == LADDER_N && number(result, "k") == LADDER_K)
      return json_object_get(result, "rows");
  return NULL;
}

/* The fastest of that name: of all paths and numbers of threads. */
static const json_t *row_of(const json_t *rows, const char *name) {
  size_t i;
  const json_t *row, *best = NULL;
  json_array_foreach(rows, i, row)
    if (strcmp(text(row, "name"), name) == 0 && (!best || number(row, "gflops") > number(best, "gflops"))) best = row;
  return best;
}

static void print_cells(json_t *const *files, int count, const char *name) {
  for (int f = 0; f < count; f++) printf(" %.4g |", number(row_of(ladder_rows(files[f]), name), "gflops"));
}

/* A row for every level that some file has a figure of; the levels to come are named below. */
static void print_ladder(json_t *const *files, int count) {
  int levels;
  const fg_level_info *info = fg_levels(&levels);
  printf("| level | the idea it adds |");
  for (int f = 0; f < count; f++) printf(" GFLOPS: %s |", text(files[f], "cpu"));
  printf("\n|---|---|");
  for (int f = 0; f < count; f++) printf("---:|");
  printf("\n");
  int missing = 0;
  for (int i = 0; i < levels; i++) {
    if (!row_of(ladder_rows(files[0]), info[i].name)) {
      missing++;
      continue;
    }
    printf("| `%s` | %s |", info[i].name, info[i].idea);
    print_cells(files, count, info[i].name);
    printf("\n");
  }
  printf("| *OpenBLAS* | *`sgemm` on the same numbers in FP32, for comparison* |");
  print_cells(files, count, "sgemm");
  printf("\n\nD [%d, %d] = X [%d, %d] Wᵀ, e4m3, 1x128 by 128x128 scales; medians of `bench_gemm`, commit %s.", LADDER_M, LADDER_N,
         LADDER_M, LADDER_K, text(files[0], "commit"));
  if (missing) {
    const char *between = " To come:";
    for (int i = 0; i < levels; i++)
      if (!row_of(ladder_rows(files[0]), info[i].name)) {
        printf("%s `%s`", between, info[i].name);
        between = ",";
      }
    printf(".");
  }
  printf("\n");
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

int main(int argc, char **argv) {
  enum { MOST_FILES = 16 };
  json_t *files[MOST_FILES];
  int count = argc - 2;
  if (count < 1 || count > MOST_FILES) return fprintf(stderr, "usage: report ladder|plot|tables RESULT.json...\n"), 2;
  for (int f = 0; f < count; f++) {
    json_error_t error;
    files[f] = json_load_file(argv[f + 2], 0, &error);
    if (!files[f]) return fprintf(stderr, "report: %s: %s\n", argv[f + 2], error.text), 1;
  }
  if (strcmp(argv[1], "ladder") == 0)
    print_ladder(files, count);
  else if (strcmp(argv[1], "plot") == 0)
    print_plot(files, count);
  else
    for (int f = 0; f < count; f++) is_gemm(files[f]) ? print_gemm(files[f]) : print_quantise(files[f]);
  for (int f = 0; f < count; f++) json_decref(files[f]);
  return fflush(stdout) == 0 ? 0 : 1;
}
