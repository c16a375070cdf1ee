#include "log.h"
#include "library.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int fg_log_open(void) {
  const char *path = fg_environment("FG_LOG");
  return path && *path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
}

void fg_log_close(int log) {
  if (log >= 0) close(log);
}

/* A line in one write, so that lines of many threads do not mix. */
static void append(int log, const char *line) {
  if (write(log, line, strlen(line)) < 0) return; /* a full disk is no reason to fail */
}

void fg_log_ignored(int log, const char *why) {
  char line[400];
  if (log < 0) return;
  snprintf(line, sizeof line, "finegemm: plans: ignored: %.350s\n", why);
  append(log, line);
}

void fg_log_plan(int log, const fg_problem *full, const fg_plan *plan) {
  static const char *const kinds[] = {"dense", "batched", "grouped rows", "masked", "grouped k"};
  char line[400];
  if (log < 0) return;
  snprintf(line, sizeof line,
           "finegemm: plan: %s, groups %" PRId64 ", m %" PRId64 ", n %" PRId64 ", k %" PRId64 ": %s, tiles of %d x %d, %" PRId64
           " in all; %d blocks of %d threads, clusters of %d, split_k %d\n",
           kinds[full->kind], full->groups, full->m, full->n, full->k, fg_kernel_name((int)plan->level, (int)plan->order),
           plan->block_m, plan->block_n, plan->tiles, plan->blocks, plan->threads, plan->cluster, plan->split_k);
  append(log, line);
}

void fg_log_kernel(int log, const char *arch, const struct fg_kernel_id *id, int64_t took_us) {
  char line[400];
  if (log < 0) return;
  char defines[200];
  fg_kernel_describe(id, defines, sizeof defines);
  snprintf(line, sizeof line, "finegemm: kernel: %s for %s, %s: loaded in %" PRId64 " us\n",
           fg_kernel_source(id->level, id->order), arch, defines, took_us);
  append(log, line);
}

int64_t fg_log_clock_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
