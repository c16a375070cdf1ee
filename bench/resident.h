/* How far a process's resident memory grows, and what else Linux says of a process or machine. */
#ifndef RESIDENT_H
#define RESIDENT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* What follows "name :" in a file of Linux's /proc, "" if it does not say. */
static inline void look_up(const char *path, const char *name, char *value, size_t value_bytes) {
  FILE *file = fopen(path, "r");
  char line[512];
  *value = 0;
  while (file && !*value && fgets(line, sizeof line, file)) {
    const char *colon = strchr(line, ':');
    if (!colon || strncmp(line, name, strlen(name)) != 0) continue;
    snprintf(value, value_bytes, "%s", colon + 1 + strspn(colon + 1, " \t"));
    value[strcspn(value, "\n")] = 0;
  }
  if (file) fclose(file);
}

/* A line of this process's memory in kB; -1 if it cannot be told. */
static inline int64_t memory_bytes(const char *name) {
  char text[64];
  look_up("/proc/self/status", name, text, sizeof text);
  return *text ? strtoll(text, NULL, 10) * 1024 : -1;
}

struct resident {
  int64_t bytes; /* -1: cannot be told */
};

/* From here on the largest size is kept. */
static inline struct resident resident_begin(void) {
#ifdef __GLIBC__
  malloc_trim(0); /* else what follows may get memory that something earlier left resident */
#endif
  FILE *reset = fopen("/proc/self/clear_refs", "w");
  bool is_reset = reset && fputs("5", reset) >= 0;
  if (reset && fclose(reset) != 0) is_reset = false;
  return (struct resident){is_reset ? memory_bytes("VmRSS") : -1};
}

/* By how much it has grown at most; -1 if that cannot be told. */
static inline int64_t resident_grown(const struct resident *before) {
  int64_t peak = memory_bytes("VmHWM");
  return before->bytes >= 0 && peak >= before->bytes ? peak - before->bytes : -1;
}

#endif
