#include "exercises.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, MOST_EXERCISES = 64 };

static _Noreturn void fail(const char *where, const char *why) {
  fprintf(stderr, "%s: %s\n", where, why);
  exit(EXIT_FAILURE);
}

static void *claim(size_t bytes) {
  void *data = calloc(bytes, 1);
  if (!data) fail("exercises", "no memory");
  return data;
}

static char *read_text(const char *path) {
  enum { MOST_BYTES = 1 << 18 };
  char *text = claim(MOST_BYTES);
  FILE *file = fopen(path, "r");
  size_t bytes = file ? fread(text, 1, MOST_BYTES, file) : 0;
  if (!bytes || bytes == MOST_BYTES) fail(path, "it cannot be read, or is too large");
  fclose(file);
  return text;
}

/* Of the diff up to `end`, the lines without a mark and those with this one: '-', what stands in the source, '+', what takes its place. */
static char *side_of(const char *diff, const char *end, char mark) {
  char *side = claim((size_t)(end - diff) + 1), *to = side;
  for (const char *line = diff, *next; line < end; line = next) {
    next = strchr(line, '\n') + 1;
    if (*line != ' ' && *line != mark) continue;
    memcpy(to, line + 1, (size_t)(next - line - 1));
    to += next - line - 1;
  }
  return side;
}

static char *apply(const char *lesson, const char *source, const char *diff, const char *end) {
  char *before = side_of(diff, end, '-'), *after = side_of(diff, end, '+');
  const char *at = strstr(source, before);
  if (!at || strstr(at + 1, before)) fail(lesson, "the kernel has not once what its page changes");
  size_t bytes = strlen(source) + strlen(after) + 1;
  char *kernel = claim(bytes);
  snprintf(kernel, bytes, "%.*s%s%s", (int)(at - source), source, after, at + strlen(before));
  free(before);
  free(after);
  return kernel;
}

char *collapse(char *text) {
  char *to = text;
  for (const char *from = text; *from; from++) {
    const char c = *from == '\n' ? ' ' : *from;
    if (c != ' ' || to == text || to[-1] != ' ') *to++ = c;
  }
  *to = 0;
  return text;
}

/* The bold words that begin the last paragraph before `diff` that has such. */
static void copy_title(const char *page, const char *diff, struct exercise *exercise) {
  const char *title = diff;
  while (title > page && strncmp(title, "\n**", 3) != 0) title--;
  if (title == page) fail(exercise->lesson, "a diff has no title");
  title += 3;
  snprintf(exercise->title, sizeof exercise->title, "%.*s", (int)strcspn(title, ".*\n"), title);
}

static struct exercise exercises[MOST_EXERCISES];
static int exercise_count;

static struct exercise *add(struct exercise exercise) {
  if (exercise_count == MOST_EXERCISES) fail(exercise.lesson, "there are more exercises than there is room for");
  exercises[exercise_count] = exercise;
  return &exercises[exercise_count++];
}

/* A lesson's own, or one of the library's that it is about; false: it has none. */
static bool find_source(const char *root, const char *lesson, char *source, size_t bytes) {
  static const char *const abouts[][2] = {
      {"11_shapes", "gpu/kernels/full.cu"}, {"12_overlap", "gpu/kernels/full.cu"}, {"13_small_m", "gpu/kernels/swapped.cu"}};
  char path[PATH_BYTES];
  snprintf(source, bytes, "lessons/%s.cu", lesson);
  for (size_t i = 0; i < sizeof abouts / sizeof *abouts; i++)
    if (strcmp(abouts[i][0], lesson) == 0) snprintf(source, bytes, "%s", abouts[i][1]);
  snprintf(path, sizeof path, "%s/%s", root, source);
  return access(path, R_OK) == 0;
}

static void read_page(const char *root, const char *lesson) {
  static const char fence[] = "\n```diff\n", indent[] = "\n    FG_KERNEL_DIR=$PWD finegemm emulate ";
  char path[PATH_BYTES];
  struct exercise whole = {.title = "as it is"};
  if (!find_source(root, lesson, whole.source, sizeof whole.source)) return;
  snprintf(path, sizeof path, "%s/lessons/%s.md", root, lesson);
  char *page = read_text(path), *diff = strstr(page, fence), *trap = strstr(page, "\n## Trap\n");
  const char *command = trap ? strstr(trap, indent) : NULL;
  if (diff && !command) fail(path, "it has exercises, and not the command that runs them");
  if (diff) {
    snprintf(path, sizeof path, "%s/%s", root, whole.source);
    snprintf(whole.lesson, sizeof whole.lesson, "%s", lesson);
    snprintf(whole.command, sizeof whole.command, "%.*s", (int)strcspn(command + 5, "\n"), command + 5);
    whole.kernel = read_text(path);
    add(whole);
    for (int number = 1; diff; diff = strstr(diff, fence), number++) {
      struct exercise *exercise = add(whole);
      exercise->number = number;
      copy_title(page, diff, exercise);
      diff += strlen(fence);
      char *end = strstr(diff, "```"), *words = end ? end + strlen("```\n\n    ") : NULL,
           *after = words ? strstr(words, "\n\n") : NULL;
      if (!after || strncmp(end, "```\n\n    ", strlen("```\n\n    ")) != 0)
        fail(lesson, "it does not say what follows from a diff");
      exercise->kernel = apply(lesson, whole.kernel, diff, end);
      size_t bytes = (size_t)(after - words);
      exercise->words = collapse(memcpy(claim(bytes + 1), words, bytes));
      diff = after;
    }
  }
  free(page);
}

const struct exercise *exercises_read(const char *root, int *count) {
  char pattern[PATH_BYTES];
  glob_t found;
  snprintf(pattern, sizeof pattern, "%s/lessons/[0-9][0-9]_*.md", root);
  if (exercise_count == 0) {
    if (glob(pattern, 0, NULL, &found) != 0) fail(pattern, "there are no pages");
    for (size_t i = 0; i < found.gl_pathc; i++) {
      char lesson[32];
      const char *file = strrchr(found.gl_pathv[i], '/') + 1;
      snprintf(lesson, sizeof lesson, "%.*s", (int)strcspn(file, "."), file);
      read_page(root, lesson);
    }
    globfree(&found);
  }
  *count = exercise_count;
  return exercises;
}

const char *exercise_name(const struct exercise *exercise) {
  static char name[160];
  if (exercise->number)
    snprintf(name, sizeof name, "%.31s %d: %.95s", exercise->lesson, exercise->number, exercise->title);
  else
    snprintf(name, sizeof name, "%.31s as it is", exercise->lesson);
  return name;
}

/* --- On a GPU */

static int64_t option(const struct exercise *exercise, const char *name, int64_t otherwise) {
  const char *at = strstr(exercise->command, name);
  return at ? strtoll(at + strlen(name), NULL, 10) : otherwise;
}

struct exercise_problem exercise_problem(const struct exercise *exercise, int number) {
  static const int64_t sizes[EXERCISE_PROBLEMS][3] = {{0}, {2000, 1500, 1904}, {1024, 4096, 7168}};
  struct exercise_problem problem = {.m = sizes[number][0], .n = sizes[number][1], .k = sizes[number][2]};
  bool is_rung = strncmp(exercise->source, "lessons/", strlen("lessons/")) == 0;
  snprintf(problem.level, sizeof problem.level, "%s", is_rung ? exercise->lesson + strlen("06_") : "full");
  problem.block_m = (int)option(exercise, " --block-m ", 0);
  problem.block_n = (int)option(exercise, " --block-n ", 0);
  problem.cluster = (int)option(exercise, " --cluster ", 0);
  problem.has_bf16 = strstr(exercise->command, " --out-type bf16") != NULL;
  if (number == 0) {
    problem.m = option(exercise, " --m ", 0);
    problem.n = option(exercise, " --n ", 0);
    problem.k = option(exercise, " --k ", 0);
    problem.blocks = (int)option(exercise, " --blocks ", 0);
  }
  return problem;
}

bool exercise_is_tried(const char *file, const struct exercise *exercise) {
  char key[48];
  snprintf(key, sizeof key, "\n%.31s ", exercise->lesson);
  return strstr(file, key) != NULL;
}

/* What the file says of each problem: "A | B | C". */
static const char *outcomes_of(const char *file, const struct exercise *exercise, char *line, size_t bytes) {
  char key[200];
  if (!exercise_is_tried(file, exercise)) {
    snprintf(line, bytes, "not tried yet | not tried yet | not tried yet");
    return line;
  }
  snprintf(key, sizeof key, "\n%s | ", exercise_name(exercise));
  const char *at = strstr(file, key);
  if (!at) fail(exercise_name(exercise), "nothing is recorded of it: run plant_exercises on a GPU");
  snprintf(line, bytes, "%.*s", (int)strcspn(at + strlen(key), "\n"), at + strlen(key));
  return line;
}

/* The place in the kernel as a line, without the thread; bits as a sentence. */
static void print_words(FILE *out, const struct exercise *exercise) {
  static const char thread[] = "... ";
  char place[80];
  int elements, wrong;
  const char *at = exercise->words;
  if (!at) {
    fprintf(out, "no fault");
    return;
  }
  if (sscanf(at, "%d %d NOT", &elements, &wrong) == 2) {
    fprintf(out, "%d of %d elements have other bits", wrong, elements);
    return;
  }
  snprintf(place, sizeof place, "%s(", exercise->source);
  if (strncmp(at, "kernel ", 7) == 0 && strstr(at, thread)) at = strstr(at, thread) + strlen(thread);
  for (const char *next; (next = strstr(at, place)); at = next) {
    fprintf(out, "%.*sline ", (int)(next - at), at);
    next += strlen(place);
    fprintf(out, "%.*s", (int)strcspn(next, ")"), next);
    next += strcspn(next, ")") + 1;
    if (strncmp(next, ": kernel ", 9) != 0 || !strstr(next, thread)) continue;
    fprintf(out, ": ");
    next = strstr(next, thread) + strlen(thread);
  }
  fprintf(out, "%s", at);
}

static void print_heading(FILE *out, const struct exercise *exercise) {
  fprintf(out, "\n**[%s](../lessons/%s.md)**\n\n| mistake |", exercise->lesson, exercise->lesson);
  for (int i = 0; i < EXERCISE_PROBLEMS; i++) {
    struct exercise_problem problem = exercise_problem(exercise, i);
    fprintf(out, " H100, m %d, n %d, k %d", (int)problem.m, (int)problem.n, (int)problem.k);
    if (problem.blocks) fprintf(out, ", %d blocks", problem.blocks);
    fprintf(out, " |");
  }
  fprintf(out, " in the emulator |\n|---|---|---|---|---|\n");
}

void exercises_print_table(FILE *out, const char *root, const char *golden) {
  int count, mistakes = 0, hang = 0, fail_on_it = 0, corrupt = 0;
  char *file = read_text(golden), line[1024];
  exercises_read(root, &count);
  for (int i = 0; i < count; i++) {
    if (!exercises[i].number || !exercise_is_tried(file, &exercises[i])) continue;
    const char *outcomes = outcomes_of(file, &exercises[i], line, sizeof line);
    mistakes++;
    if (strstr(outcomes, "hangs"))
      hang++;
    else if (strstr(outcomes, "error"))
      fail_on_it++;
    else if (strstr(outcomes, "wrong"))
      corrupt++;
  }
  fprintf(
      out,
      "Of %d damaged kernels, each taken by the worst that it does with any of the problems, the H100 hangs in %d, ends %d with an error "
      "that names no line, and gives wrong bits for %d. For %d it has the right bits in all: of these, only the emulator says "
      "something.\n",
      mistakes, hang, fail_on_it, corrupt, mistakes - hang - fail_on_it - corrupt);
  for (int i = 0; i < count; i++) {
    if (!exercises[i].number) print_heading(out, &exercises[i]);
    fprintf(out, "| ");
    if (exercises[i].number) fprintf(out, "%d. ", exercises[i].number);
    fprintf(out, "%s | %s | ", exercises[i].title, outcomes_of(file, &exercises[i], line, sizeof line));
    print_words(out, &exercises[i]);
    fprintf(out, " |\n");
  }
  free(file);
}
