/* Planted defects: kernels that are right but for one mistake each, which the emulator must find, at the right line and in the right
 * words. What an H100 makes of the same is in tests/golden/defects.txt: it hangs, gives wrong bits, or the right ones as if nothing were
 * wrong. Every kernel as it is must be clean under the same seeds, and give the H100's bits. */
#include "defects.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_the_emulator(void) {
  static const char *const others[] = {"FG_CUDA_DRIVER", "FG_NVRTC", "FG_EMULATOR_TRACE"};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) unsetenv(others[i]);
  setenv("FG_DEVICE", "emulator", 1);
  setenv("FG_EMULATOR_THREADS", "1", 1); /* these tests run beside each other */
}

TestSuite(defects, .init = on_the_emulator, .timeout = 300);

static char *read_text(const char *path) {
  enum { MOST_BYTES = 1 << 18 };
  char *text = calloc(MOST_BYTES, 1);
  FILE *file = fopen(path, "r");
  cr_assert(text && file, "%s", path);
  size_t bytes = fread(text, 1, MOST_BYTES, file);
  cr_assert(bytes > 0 && bytes < MOST_BYTES, "%s", path);
  fclose(file);
  return text;
}

/* What the line of the file that begins with the key says; in `line`. */
static const char *what_an_h100_did(const char *key, char *line, size_t bytes) {
  char *file = read_text(FG_SOURCE_DIR "/tests/golden/defects.txt");
  char begin[256];
  snprintf(begin, sizeof begin, "\n%s | ", key);
  const char *at = strstr(file, begin);
  cr_assert(at, "tests/golden/defects.txt has nothing of %s: run plant_defects on a GPU", key);
  at += strlen(begin);
  snprintf(line, bytes, "%.*s", (int)strcspn(at, "\n"), at);
  free(file);
  return line;
}

enum { MOST = 256 };
static int numbers[MOST];

static struct criterion_test_params first_numbers(int count) {
  for (int i = 0; i < MOST; i++) numbers[i] = i;
  return cr_make_param_array(int, numbers, (size_t)count);
}

ParameterizedTestParameters(defects, each_is_found) { return first_numbers(defect_count); }
ParameterizedTest(const int *number, defects, each_is_found, .init = on_the_emulator, .timeout = 300) {
  const struct defect *defect = &defects[*number];
  struct defect_trial trial = defect_try(defect);
  char sentence[160];
  defect_shorten(trial.sentence, sentence, sizeof sentence);
  printf("%s | %s: %s | first seed %d, %d of %d | %s\n", defect->category, defect->kernel, defect->what, trial.first, trial.found,
         DEFECT_SEEDS, sentence);
  fflush(stdout);
  cr_expect_gt(trial.found, 0, "%s: %s: no seed gives \"%s\" at line \"%s\"; %d give another fault: %s", defect->kernel,
               defect->what, defect->words, defect->line ? defect->line : "", trial.elsewhere, trial.sentence);
  cr_expect_eq(trial.corrupted, 0, "%s: %s: %d seeds give wrong bits and no fault", defect->kernel, defect->what,
               trial.corrupted);
}

ParameterizedTestParameters(defects, are_not_seen_where_there_are_none) { return first_numbers(defect_kernel_count); }
ParameterizedTest(const int *number, defects, are_not_seen_where_there_are_none, .init = on_the_emulator, .timeout = 300) {
  const struct defect_kernel *kernel = &defect_kernels[*number];
  char line[256], bits[32], seed_text[16];
  struct planted planted;
  defect_plant(NULL, kernel, &planted);
  cr_assert_str_empty(planted.refused, "%s", planted.refused);
  defect_load(&planted);
  what_an_h100_did(kernel->name, line, sizeof line);
  for (int seed = 0; seed < DEFECT_SEEDS; seed++) {
    snprintf(seed_text, sizeof seed_text, "%d", seed);
    setenv("FG_EMULATOR_SEED", seed_text, 1);
    struct defect_run run = defect_run(&planted);
    cr_assert_eq(run.result, CUDA_SUCCESS, "%s, seed %d: %s", kernel->name, seed, run.sentence);
    snprintf(bits, sizeof bits, "bits %016" PRIx64, run.digest);
    cr_assert_str_eq(bits, line, "%s, seed %d: not the bits of an H100", kernel->name, seed);
  }
}

/* A row for each defect, with what the H100 did, and no others. */
Test(defects, stand_in_the_page) {
  char *page = read_text(FG_SOURCE_DIR "/docs/emulator.md");
  const char *begin = strstr(page, "<!-- numbers:begin -->"), *end = strstr(page, "<!-- numbers:end -->");
  cr_assert(begin && end);
  int rows = 0;
  for (const char *at = begin; (at = strstr(at, "\n| ")) && at < end; at++) rows += strncmp(at, "\n| kernel: defect |", 19) != 0;
  cr_expect_eq(rows, defect_count, "docs/emulator.md has %d rows for %d defects: build the target defects", rows, defect_count);
  for (int i = 0; i < defect_count; i++) {
    char key[256], row[600], line[256];
    snprintf(key, sizeof key, "%s: %s", defects[i].kernel, defects[i].what);
    snprintf(row, sizeof row, "\n| %s | %s | ", key, what_an_h100_did(key, line, sizeof line));
    cr_expect(strstr(page, row), "docs/emulator.md has no such row: build the target defects%s", row);
  }
  free(page);
}
