#include "cli.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The folders where lessons may be: beside the program in a build, else where it was installed. */
static const char *folder_of_lessons(int which) {
  static char program[4096];
  ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
  if (length <= 0) fail(DIFFERENT, "the program's own folder cannot be found: /proc/self/exe: %s", strerror(errno));
  program[length] = '\0';
  *strrchr(program, '/') = '\0';
  return text(which == 0 ? "%s/lessons" : "%s/../libexec/finegemm", program);
}

/* "01_fp8": two digits and a name, and nothing with a dot, as sources and pictures have. */
static int is_lesson(const struct dirent *entry) {
  const char *name = entry->d_name;
  return isdigit((unsigned char)name[0]) && isdigit((unsigned char)name[1]) && name[2] == '_' && !strchr(name, '.');
}

static int find_lessons(const char **folder, struct dirent ***lessons) {
  int count = 0;
  for (int which = 0; which < 2 && count <= 0; which++) {
    *folder = folder_of_lessons(which);
    count = scandir(*folder, lessons, is_lesson, alphasort);
  }
  if (count <= 0) fail(DIFFERENT, "no lessons are installed: there are none in %s", *folder);
  return count;
}

static enum outcome run(const struct command *command, int argc, const char **argv) {
  int json = 0;
  struct poptOption options[] = {OPTION_JSON(json), OPTIONS_END};
  const char *unused[1];
  bool to_run = argc > 1 && argv[1][0] != '-'; /* what follows the number is for the lesson */
  if (!to_run) parse(command, argc, argv, options, 0, 0, unused);
  const char *folder;
  struct dirent **lessons;
  int count = find_lessons(&folder, &lessons);
  json_t *list = to_run ? NULL : json_array();
  for (int i = 0; i < count; i++) {
    const char *name = lessons[i]->d_name;
    long number = strtol(name, NULL, 10);
    char *end;
    if (to_run && strtol(argv[1], &end, 10) == number && *end == '\0') {
      const char *path = text("%s/%s", folder, name);
      argv[1] = path;
      execv(path, (char *const *)(uintptr_t)(argv + 1));
      fail(DIFFERENT, "%s cannot be run: %s", path, strerror(errno));
    }
    if (!to_run) json_array_append_new(list, json_pack("{sI ss}", "number", (json_int_t)number, "name", name + 3));
    if (!to_run && !json) printf("%ld  %s\n", number, name + 3);
    free(lessons[i]);
  }
  free(lessons);
  if (to_run) fail(BAD_USAGE, "'%s' is no lesson; 'finegemm lesson' lists them", argv[1]);
  if (json)
    json_print(json_pack("{so}", "lessons", list));
  else
    printf("\n'finegemm lesson N' runs one.\n");
  if (!json) json_decref(list);
  return DONE;
}

const struct command command_lesson = {"lesson", "[N [ARGUMENT...]] | [--json]", "Runs lesson N, or lists the lessons",
                                       "\nWhat follows N goes to the lesson.", run};
