/* What the parts of the program `report` have in common: reading results, and what stands above the tables of a GPU. */
#ifndef REPORT_H
#define REPORT_H

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static inline const char *text(const json_t *object, const char *key) {
  const char *value = json_string_value(json_object_get(object, key));
  return value ? value : "?";
}

static inline double number(const json_t *object, const char *key) {
  const json_t *value = json_object_get(object, key);
  return json_is_number(value) ? json_number_value(value) : NAN;
}

static inline bool is_gpu(const json_t *file) { return json_object_get(file, "levels") != NULL; }

static inline double inside(const json_t *object, const char *key, const char *figure) {
  return number(json_object_get(object, key), figure);
}

/* The fastest of that name that was timed: of all paths and numbers of threads, or tiles. NULL: none. */
static inline const json_t *row_of(const json_t *rows, const char *name) {
  size_t i;
  const json_t *row, *best = NULL;
  json_array_foreach(rows, i, row)
    if (strcmp(text(row, "name"), name) == 0 && number(row, "gflops") > 0 &&
        (!best || number(row, "gflops") > number(best, "gflops")))
      best = row;
  return best;
}

static inline bool has_level(const json_t *file, const char *name) {
  size_t i;
  const json_t *result;
  json_array_foreach(json_object_get(file, "levels"), i, result)
    if (row_of(json_object_get(result, "rows"), name)) return true;
  return false;
}

/* A run of the level `full`: many shapes, and what they come to. */
static inline bool is_full(const json_t *file) { return json_object_get(file, "summary") && has_level(file, "full"); }

static inline void print_gpu_head(const json_t *file) {
  printf("**%s**, %.0f multiprocessors at up to %.0f MHz", text(file, "gpu"), number(file, "sms"),
         number(file, "clock_khz") / 1000);
}

static inline void print_gpu_tail(const json_t *file) {
  printf("driver's CUDA %.1f", number(file, "driver") / 1000);
  if (number(file, "nvrtc") > 0) printf(", NVRTC %.1f", number(file, "nvrtc") / 1000);
  printf(", finegemm %s, commit %s", text(file, "version"), text(file, "commit"));
}

/* The tables of such a run; where there are few shapes, of each. `path` is its file's, from which the pictures have their names. */
void print_full(const json_t *file, const char *path);

/* The numbers of the lesson of that name which is about such runs: "shapes", of many rows, or "small_m", of few; false: there is none. Of
 * what no file has a sentence says so. */
bool print_full_lesson(json_t *const *files, char *const *paths, int count, const char *name);

/* What a picture of it draws, in blocks between empty lines, the first line of each a comment with its title; false: there is no such
 * picture. bench/full_NAME.gp, NAME being share, roofline, ratio or sweep, says what of. */
bool print_full_plot(const json_t *file, const char *name);

#endif
