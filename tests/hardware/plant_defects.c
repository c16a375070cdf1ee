/* What a GPU makes of the planted defects (tests/gpu/defects.h): each damaged kernel in a process of its own, which is ended where it
 * hangs, launched again and again, and its bits compared with those of the kernel as it is. Prints lines for
 * tests/golden/defects.txt.
 *
 *     plant_defects > FILE
 *     FG_DEVICE=emulator plant_defects --table FILE    docs/emulator.md's table: what FILE says of a GPU, and what the emulator finds
 */
#include "children.h"
#include "defects.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAUNCHES = 50, HANGS_AFTER_S = 2 };

/* --- On a GPU */

static struct result *whole;

/* From when the kernel runs, it has not long. */
static void load(struct planted *planted, struct result *result) {
  take_gpu(result);
  defect_load(planted);
  hangs_after(HANGS_AFTER_S);
}

static void run_whole(int i, struct result *result) {
  struct planted planted;
  defect_plant(NULL, &defect_kernels[i], &planted);
  load(&planted, result);
  for (int launch = 0; launch < LAUNCHES; launch++) {
    struct defect_run run = defect_run(&planted);
    char text[32];
    snprintf(text, sizeof text, "%016" PRIx64, run.digest);
    if (run.result != CUDA_SUCCESS) snprintf(result->text, sizeof result->text, "error: %.100s", run.sentence);
    if (run.result != CUDA_SUCCESS || (launch > 0 && strcmp(text, result->text) != 0)) return;
    memcpy(result->text, text, sizeof text);
  }
}

static void run_damaged(int i, struct result *result) {
  const struct defect_kernel *kernel = defect_kernel_of(&defects[i]);
  struct planted planted;
  int wrong = 0;
  defect_plant(&defects[i], kernel, &planted);
  if (planted.refused[0]) {
    snprintf(result->text, sizeof result->text, "is not compiled");
    return;
  }
  load(&planted, result);
  for (int launch = 0; launch < LAUNCHES; launch++) {
    struct defect_run run = defect_run(&planted);
    if (run.result != CUDA_SUCCESS) {
      snprintf(result->text, sizeof result->text, "error: %.200s", run.sentence);
      return;
    }
    wrong += run.digest != strtoull(whole[kernel - defect_kernels].text, NULL, 16);
    if (wrong)
      snprintf(result->text, sizeof result->text, "wrong bits in %d of %d launches", wrong, launch + 1);
    else
      snprintf(result->text, sizeof result->text, "right bits in %d launches", launch + 1);
  }
}

static void run_on_gpu(void) {
  whole = share_results(defect_kernel_count);
  in_children(defect_kernel_count, whole, run_whole);
  for (int i = 0; i < defect_kernel_count; i++)
    printf("%s | bits %s\n", defect_kernels[i].name, whole[i].has_hung ? "never: it hangs" : whole[i].text);
  fflush(stdout);
  struct result *damaged = share_results(defect_count);
  in_children(defect_count, damaged, run_damaged);
  for (int i = 0; i < defect_count; i++)
    printf("%s: %s | %s\n", defects[i].kernel, defects[i].what, damaged[i].has_hung ? "hangs" : damaged[i].text);
}

/* --- On the emulator */

static void try_damaged(int i, struct result *result) {
  struct defect_trial trial = defect_try(&defects[i]);
  char sentence[250];
  defect_shorten(trial.sentence, sentence, sizeof sentence);
  result->is_seen_always = trial.found + trial.elsewhere == DEFECT_SEEDS;
  if (trial.found)
    snprintf(result->text, sizeof result->text, "%s | %d of %d, first %d", sentence, trial.found, DEFECT_SEEDS, trial.first);
  else
    snprintf(result->text, sizeof result->text, "not found: %s |", sentence);
}

/* What the file says of a defect. */
static const char *line_for(const char *file, const struct defect *defect, char *line, size_t bytes) {
  char key[256];
  snprintf(key, sizeof key, "\n%s: %s | ", defect->kernel, defect->what);
  const char *at = strstr(file, key);
  if (!at) return "not run";
  at += strlen(key);
  snprintf(line, bytes, "%.*s", (int)strcspn(at, "\n"), at);
  return line;
}

static void print_table(const char *path) {
  static char file[1 << 16];
  FILE *from = fopen(path, "r");
  if (!from) fail(path);
  if (!fread(file, 1, sizeof file - 1, from)) fail(path);
  fclose(from);
  struct result *found = share_results(defect_count);
  in_children(defect_count, found, try_damaged);
  int hang = 0, fail_on_it = 0, corrupt = 0, seen_always = 0;
  for (int i = 0; i < defect_count; i++) {
    char line[256];
    const char *outcome = line_for(file, &defects[i], line, sizeof line);
    hang += strncmp(outcome, "hangs", 5) == 0;
    fail_on_it += strncmp(outcome, "error", 5) == 0;
    corrupt += strncmp(outcome, "wrong", 5) == 0;
    seen_always += found[i].is_seen_always;
  }
  printf(
      "Of %d damaged kernels the H100 hangs in %d, ends %d with an error that names no line, gives wrong bits for %d, and the right "
      "ones for %d. In the emulator each is found, %d of them under every seed in some words.\n\n",
      defect_count, hang, fail_on_it, corrupt, defect_count - hang - fail_on_it - corrupt, seen_always);
  for (int i = 0; i < defect_count; i++) {
    char line[256];
    if (i == 0 || strcmp(defects[i].category, defects[i - 1].category) != 0)
      printf("%s**%s**\n\n| kernel: defect | on an H100 | in the emulator | seeds |\n|---|---|---|---|\n", i ? "\n" : "",
             defects[i].category);
    printf("| %s: %s | %s | %s |\n", defects[i].kernel, defects[i].what, line_for(file, &defects[i], line, sizeof line),
           found[i].text);
  }
}

int main(int count, char **arguments) {
  if (count == 1) {
    printf(
        "# What a GPU makes of each planted defect (tests/gpu/defect_table.c), and the bits that each kernel gives as it is.\n");
    print_origin("plant_defects");
    run_on_gpu();
  } else if (count == 3 && strcmp(arguments[1], "--table") == 0) {
    print_table(arguments[2]);
  } else {
    fprintf(stderr, "usage: plant_defects [--table FILE]\n");
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
