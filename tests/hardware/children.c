#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "children.h"
#include "driver.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_SECONDS = 120, MOST_JOBS = 16 };

_Noreturn void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(EXIT_FAILURE);
}

struct result *share_results(int count) {
  void *memory = mmap(NULL, (size_t)count * sizeof(struct result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("mmap");
  return memory;
}

void in_children(int count, struct result *results, void (*child)(int i, struct result *result)) {
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
        hangs_after(MOST_SECONDS);
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
        result->has_hung = result->has_gpu && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
        fprintf(stderr, "%d of %d: %s\n", what[job] + 1, count,
                result->has_hung  ? "hangs"
                : result->is_done ? result->text
                                  : "failed");
        who[job] = 0, running--;
      }
  }
}

void take_gpu(struct result *result) {
  int lock = open("/proc/self/exe", O_RDONLY);
  if (lock < 0 || flock(lock, LOCK_EX) != 0) fail("flock");
  result->has_gpu = true;
}

void hangs_after(unsigned seconds) { alarm(seconds); }

static void describe(int device, struct result *result) {
  char name[128] = "";
  int version = 0;
  const struct fg_driver *driver = fg_driver();
  if (!driver || driver->cuDeviceGetName(name, sizeof name, device) != CUDA_SUCCESS ||
      driver->cuDriverGetVersion(&version) != CUDA_SUCCESS) {
    fprintf(stderr, "%s\n", driver ? "the device does not say what it is" : fg_message());
    _exit(EXIT_FAILURE);
  }
  snprintf(result->text, sizeof result->text, "%s, driver for CUDA %d.%d", name, version / 1000, version % 1000 / 10);
}

void print_origin(const char *program) {
  char date[32] = "";
  time_t now = time(NULL);
  struct result *device = share_results(1);
  in_children(1, device, describe);
  if (!device->is_done) exit(EXIT_FAILURE);
  strftime(date, sizeof date, "%Y-%m-%d", gmtime(&now));
  printf("# Printed by %s: %s, %s.\n", program, device->text, date);
}
