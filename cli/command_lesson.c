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

/* The programs of lessons; there may be none, and *folder is where they were looked for last. */
static int find_programs(const char **folder, struct dirent ***programs) {
  int count = 0;
  for (int which = 0; which < 2 && count <= 0; which++) {
    *folder = folder_of_lessons(which);
    count = scandir(*folder, programs, is_lesson, alphasort);
  }
  if (count < 0) *programs = NULL;
  return count < 0 ? 0 : count;
}

/* The program of this lesson, NULL: it has none. *count: of all programs. */
static const char *find_program(long number, const char **folder, int *count) {
  struct dirent **programs;
  const char *path = NULL;
  *count = find_programs(folder, &programs);
  for (int i = 0; i < *count; i++) {
    if (strtol(programs[i]->d_name, NULL, 10) == number) path = text("%s/%s", *folder, programs[i]->d_name);
    free(programs[i]);
  }
  free(programs);
  return path;
}

static enum outcome run_lesson(const struct command *command, int argc, const char **argv) {
  char *end;
  const char *folder;
  int programs;
  long number = strtol(argv[0], &end, 10);
  if (end == argv[0] || *end) number = -1;
  const char *program = find_program(number, &folder, &programs);
  if (program) {
    argv[0] = program;
    execv(program, (char *const *)(uintptr_t)argv);
    fail(DIFFERENT, "%s cannot be run: %s", program, strerror(errno));
  }
  fg_level level = kernel_of_lesson(number);
  if (level != FG_BEST) return run_kernel_lesson(number, level, command, argc, argv);
  if (!programs && number > 0 && number < FIRST_KERNEL_LESSON)
    fail(DIFFERENT, "no lessons are installed that are programs: there are none in %s", folder);
  fail(BAD_USAGE, "'%s' is no lesson; 'finegemm lesson' lists them", argv[0]);
}

static void list_lesson(json_t *list, bool json, long number, const char *name) {
  json_array_append_new(list, json_pack("{sI ss}", "number", (json_int_t)number, "name", name));
  if (!json) printf("%ld  %s\n", number, name);
}

static enum outcome run(const struct command *command, int argc, const char **argv) {
  int json = 0;
  struct poptOption options[] = {OPTION_JSON(json), OPTIONS_END};
  const char *unused[1], *folder;
  if (argc > 1 && argv[1][0] != '-')
    return run_lesson(command, argc - 1, argv + 1); /* what follows the number is for the lesson */
  parse(command, argc, argv, options, 0, 0, unused);
  struct dirent **programs;
  int count = find_programs(&folder, &programs);
  json_t *list = json_array();
  for (int i = 0; i < count; i++) {
    list_lesson(list, json, strtol(programs[i]->d_name, NULL, 10), programs[i]->d_name + 3);
    free(programs[i]);
  }
  free(programs);
  for (long number = FIRST_KERNEL_LESSON; kernel_of_lesson(number) != FG_BEST; number++)
    list_lesson(list, json, number, level_name(kernel_of_lesson(number)));
  if (json) {
    json_print(json_pack("{so}", "lessons", list));
    return DONE;
  }
  json_decref(list);
  printf("\n'finegemm lesson N' runs one.\n");
  return DONE;
}

const struct command command_lesson = {
    "lesson", "[N [ARGUMENT...]] | [--json]", "Runs lesson N, or lists the lessons",
    "\nWhat follows N goes to the lesson. A lesson that is a kernel is compiled, and where there is a GPU it is run beside the level\n"
    "before it and the one on the CPU that has its bits; it takes --json.",
    run};
