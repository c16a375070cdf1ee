/* What a GPU makes of the planted defects (tests/gpu/defects.h): each damaged kernel in a process of its own, which is ended where it
 * hangs, launched again and again, and its bits compared with those of the kernel as it is. Prints lines for
 * tests/golden/defects.txt.
 *
 *     plant_defects > FILE
 *     FG_DEVICE=emulator plant_defects --table FILE    docs/emulator.md's table: what FILE says of a GPU, and what the emulator finds
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "defects.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LAUNCHES = 50, HANGS_AFTER_S = 2, MOST_SECONDS = 120, MOST_JOBS = 16 };

/* What a child has found, in memory that it shares with its parent. */
struct result {
  bool is_done, has_hung, is_seen_always; /* seen: on the emulator, under every seed */
  char text[4096];
};

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "plant_defects: %s: %s\n", what, strerror(errno));
  exit(EXIT_FAILURE);
}

/* --- Children */

/* `count` times, some at once: child(i), each in a process of its own. */
static void in_children(int count, struct result *results, void (*child)(int i, struct result *result)) {
  pid_t who[MOST_JOBS] = {0};
  int what[MOST_JOBS] = {0}, jobs = (int)sysconf(_SC_NPROCESSORS_ONLN), running = 0;
  if (jobs > MOST_JOBS) jobs = MOST_JOBS;
  for (int next = 0; next < count || running;) {
    if (next < count && running < jobs) {
      int job = 0;
      while (who[job]) job++;
      what[job] = next++;
      fflush(NULL);
      if ((who[job] = fork()) < 0) fail("fork");
      if (who[job] == 0) {
        alarm(MOST_SECONDS);
        child(what[job], &results[what[job]]);
        results[what[job]].is_done = true;
        _exit(EXIT_SUCCESS);
      }
      running++;
      continue;
    }
    int status;
    pid_t ended = wait(&status);
    if (ended < 0) fail("wait");
    for (int job = 0; job < jobs; job++)
      if (who[job] == ended) {
        struct result *result = &results[what[job]];
        result->has_hung = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
        fprintf(stderr, "%d of %d: %s\n", what[job] + 1, count,
                result->has_hung  ? "hangs"
                : result->is_done ? result->text
                                  : "failed");
        who[job] = 0, running--;
      }
  }
}

static struct result *share(int count) {
  void *memory = mmap(NULL, (size_t)count * sizeof(struct result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("mmap");
  return memory;
}

/* --- On a GPU */

static struct result *whole;

/* One has it at a time, until the process ends. From when the kernel runs, it has not long. */
static void take_gpu(struct planted *planted) {
  int lock = open("/proc/self/exe", O_RDONLY);
  if (lock < 0 || flock(lock, LOCK_EX) != 0) fail("flock");
  defect_load(planted);
  alarm(HANGS_AFTER_S);
}

static void run_whole(int i, struct result *result) {
  struct planted planted;
  defect_plant(NULL, &defect_kernels[i], &planted);
  take_gpu(&planted);
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
  take_gpu(&planted);
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

static void describe(int device, struct result *result) {
  char name[128] = "";
  int version = 0;
  const struct fg_driver *driver = fg_driver();
  if (!driver || driver->cuDeviceGetName(name, sizeof name, device) != CUDA_SUCCESS ||
      driver->cuDriverGetVersion(&version) != CUDA_SUCCESS) {
    fprintf(stderr, "plant_defects: %s\n", driver ? "the device does not say what it is" : fg_message());
    _exit(EXIT_FAILURE);
  }
  snprintf(result->text, sizeof result->text, "%s, driver for CUDA %d.%d", name, version / 1000, version % 1000 / 10);
}

static void print_head(void) {
  char date[32] = "";
  time_t now = time(NULL);
  struct result *device = share(1);
  in_children(1, device, describe); /* a child cannot use a driver that its parent has */
  if (!device->is_done) exit(EXIT_FAILURE);
  strftime(date, sizeof date, "%Y-%m-%d", gmtime(&now));
  printf("# What a GPU makes of each planted defect (tests/gpu/defect_table.c), and the bits that each kernel gives as it is.\n"
         "# Printed by plant_defects: %s, %s.\n",
         device->text, date);
}

static void run_on_gpu(void) {
  whole = share(defect_kernel_count);
  in_children(defect_kernel_count, whole, run_whole);
  for (int i = 0; i < defect_kernel_count; i++)
    printf("%s | bits %s\n", defect_kernels[i].name, whole[i].has_hung ? "never: it hangs" : whole[i].text);
  fflush(stdout);
  struct result *damaged = share(defect_count);
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
  struct result *found = share(defect_count);
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
    print_head();
    run_on_gpu();
  } else if (count == 3 && strcmp(arguments[1], "--table") == 0) {
    print_table(arguments[2]);
  } else {
    fprintf(stderr, "usage: plant_defects [--table FILE]\n");
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
