#define _GNU_SOURCE /* posix_spawn_file_actions_addchdir_np(), environ */
#include "host_compiler.h"

#include "library.h"
#include "temporary.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_WORDS = 128, END_BYTES = 320 };
static const char words_file[] = "words";

/* The environment, but for the language: words are read by a program. Ends with NULL; NULL: no memory. */
static const char **plain_environment(void) {
  size_t count = 0;
  while (environ[count]) count++;
  const char **plain = calloc(count + 2, sizeof *plain);
  if (!plain) return NULL;
  size_t kept = 0;
  plain[kept++] = "LC_ALL=C";
  for (size_t i = 0; i < count; i++)
    if (strncmp(environ[i], "LC_ALL=", 7) != 0) plain[kept++] = environ[i];
  return plain;
}

/* Whether a program of this name could be started; then *status is how it ended. */
static bool start(const char *folder, const char *const *words, int *status) {
  posix_spawn_file_actions_t actions;
  if (posix_spawn_file_actions_init(&actions) != 0) return false;
  const char **environment = plain_environment();
  pid_t child;
  bool started = environment && posix_spawn_file_actions_addchdir_np(&actions, folder) == 0 &&
                 posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) == 0 &&
                 posix_spawn_file_actions_addopen(&actions, 1, words_file, O_WRONLY | O_CREAT | O_TRUNC, 0600) == 0 &&
                 posix_spawn_file_actions_adddup2(&actions, 1, 2) == 0 &&
                 posix_spawnp(&child, words[0], &actions, NULL, (char *const *)words, (char *const *)environment) == 0;
  posix_spawn_file_actions_destroy(&actions);
  free(environment);
  if (!started) return false;
  *status = 0; /* where SIGCHLD is ignored nobody learns it: what was or was not made tells */
  while (waitpid(child, status, 0) < 0 && errno == EINTR) {
  }
  return true;
}

static bool run_named(const char *folder, char *name, const char *const *arguments, struct emu_compiler_run *run) {
  const char *words[MOST_WORDS];
  int count = 0;
  char *rest = NULL;
  for (char *word = strtok_r(name, " ", &rest); word && count < MOST_WORDS / 2; word = strtok_r(NULL, " ", &rest))
    words[count++] = word;
  for (; *arguments && count < MOST_WORDS - 1; arguments++) words[count++] = *arguments;
  words[count] = NULL;
  run->started =
      !*arguments && start(folder, words, &run->status) && !(WIFEXITED(run->status) && WEXITSTATUS(run->status) == 127);
  return run->started && WIFEXITED(run->status) && WEXITSTATUS(run->status) == 0;
}

bool emu_run_compiler(const char *folder, const char *const *arguments, struct emu_compiler_run *run) {
  const char *chosen = fg_environment("CXX");
  const char *const usual[] = {"c++", "g++", "clang++", NULL}, *const only[] = {chosen, NULL};
  bool is_chosen = chosen && *chosen;
  *run = (struct emu_compiler_run){.name = is_chosen ? chosen : NULL};
  for (const char *const *name = is_chosen ? only : usual; *name && !run->started; name++) {
    char *copy = strdup(*name);
    bool done = copy && run_named(folder, copy, arguments, run);
    free(copy);
    if (run->started) run->name = *name;
    if (done) return true;
  }
  return false;
}

char *emu_compiler_name(void) {
  char folder[EMU_PATH_BYTES], *name = NULL;
  struct emu_compiler_run run;
  size_t count;
  if (!emu_folder_make(folder)) return NULL;
  if (emu_run_compiler(folder, (const char *const[]){"--version", NULL}, &run)) name = emu_file_read(folder, words_file, &count);
  emu_folder_remove(folder);
  if (name) name[strcspn(name, "\n")] = '\0';
  return name;
}

/* "FILE:LINE:COLUMN: error: ..." and what linkers and assemblers make of it, as "FILE(LINE): error: ...". Writes to `to`, which has
 * room; returns its end. */
static char *put_line(char *to, const char *line, int length) {
  if (strncmp(line, "./", 2) == 0) line += 2, length -= 2;
  int colon = 0;
  while (colon < length && !(line[colon] == ':' && isdigit((unsigned char)line[colon + 1]))) colon++;
  const char *number = line + colon + 1, *rest = number;
  if (colon < length) rest += strspn(rest, "0123456789");
  if (colon == length || *rest != ':') return to + sprintf(to, "%.*s\n", length, line);
  int digits = (int)(rest - number);
  if (isdigit((unsigned char)rest[1])) rest += 1 + strspn(rest + 1, "0123456789");
  rest += *rest == ':';
  rest += strspn(rest, " ");
  const char *kind = "";
  static const char fatal[] = "fatal error: ", assembler[] = "Error: ", linker[] = "undefined reference to ";
  if (strncmp(rest, fatal, strlen(fatal)) == 0 || strncmp(rest, assembler, strlen(assembler)) == 0)
    rest = strchr(rest, ':') + 2, kind = "error: ";
  else if (strncmp(rest, linker, strlen(linker)) == 0)
    kind = "error: ";
  return to + sprintf(to, "%.*s(%.*s): %s%.*s\n", colon, line, digits, number, kind, length - (int)(rest - line), rest);
}

static char *end_of(const struct emu_compiler_run *run, char *to, size_t bytes) {
  if (!run->started && run->name)
    snprintf(to, bytes, "error: CXX is '%.200s', and no C++ compiler of that name can be started\n", run->name);
  else if (!run->started)
    snprintf(
        to, bytes,
        "error: no C++ compiler, which the emulator makes of a kernel what it runs with, can be started: install g++, or name "
        "one in CXX\n");
  else if (WIFSIGNALED(run->status))
    snprintf(to, bytes, "error: the C++ compiler '%.200s' was ended by signal %d\n", run->name, WTERMSIG(run->status));
  else
    snprintf(to, bytes, "error: the C++ compiler '%.200s' has made nothing, and ended with exit status %d\n", run->name,
             WEXITSTATUS(run->status));
  return to;
}

char *emu_compiler_words(const char *folder, const struct emu_compiler_run *run) {
  char end[END_BYTES];
  size_t count = 0, lines = 1;
  char *words = !run || run->started ? emu_file_read(folder, words_file, &count) : strdup("");
  if (!words) return NULL;
  for (size_t i = 0; i < count; i++) lines += words[i] == '\n';
  char *put = malloc(count + 16 * lines + sizeof end), *to = put;
  for (char *line = words; put && *line;) {
    int length = (int)strcspn(line, "\n");
    to = put_line(to, line, length);
    line += length + (line[length] == '\n');
  }
  if (put) *to = '\0';
  if (put && run && !strstr(put, "error: ")) snprintf(to, sizeof end, "%s", end_of(run, end, sizeof end));
  free(words);
  return put;
}
