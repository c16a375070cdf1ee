/* What an H100 made of the exercises of the lessons (tests/golden/exercises.txt) is what docs/exercises.md says of each, and no exercise is
 * without its line; every kernel as it is had the right bits. */
#define _GNU_SOURCE /* open_memstream */
#include "exercises.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const char golden[] = FG_SOURCE_DIR "/tests/golden/exercises.txt";

static char *read_all(const char *path) {
  FILE *file = fopen(path, "r");
  char *text = NULL;
  size_t bytes = 0;
  cr_assert(file && getdelim(&text, &bytes, '\0', file) > 0, "%s", path);
  fclose(file);
  return text;
}

Test(exercises, stand_in_the_page) {
  char *page = read_all(FG_SOURCE_DIR "/docs/exercises.md"), *table = NULL;
  size_t bytes;
  FILE *out = open_memstream(&table, &bytes);
  cr_assert(out);
  exercises_print_table(out, FG_SOURCE_DIR, golden);
  cr_assert_eq(fclose(out), 0);
  static const char begin[] = "<!-- numbers:begin -->\n";
  const char *from = strstr(page, begin), *to = strstr(page, "<!-- numbers:end -->");
  cr_assert(from && to);
  from += strlen(begin);
  cr_expect((size_t)(to - from) == bytes && memcmp(from, table, bytes) == 0,
            "docs/exercises.md says other than the lessons and tests/golden/exercises.txt: build the target exercises");
  free(table);
  free(page);
}

Test(exercises, kernels_as_they_are_were_right) {
  int count, whole = 0;
  const struct exercise *exercises = exercises_read(FG_SOURCE_DIR, &count);
  char *file = read_all(golden);
  for (int i = 0; i < count; i++) {
    char line[320];
    if (exercises[i].number || !exercise_is_tried(file, &exercises[i])) continue;
    static const char right[] = " | right bits in 50 launches";
    snprintf(line, sizeof line, "\n%s%s%s%s\n", exercise_name(&exercises[i]), right, right, right);
    cr_expect(strstr(file, line), "tests/golden/exercises.txt has no such line:%s", line);
    whole++;
  }
  cr_expect_eq(whole, 8, "of %d lessons of 8 the kernel as it is was tried", whole);
  free(file);
}

/* Whether the page's prose, whose lines are wrapped, has the words, and the outcomes that they tell of are those that are recorded. */
static void says(const char *file, const char *lesson, int number, const char *words,
                 const char *const outcomes[EXERCISE_PROBLEMS]) {
  char path[512], line[512];
  int count;
  const struct exercise *exercise = exercises_read(FG_SOURCE_DIR, &count), *end = exercise + count;
  while (exercise < end && (strcmp(exercise->lesson, lesson) != 0 || exercise->number != number)) exercise++;
  cr_assert(exercise < end, "%s has no exercise %d", lesson, number);
  snprintf(path, sizeof path, FG_SOURCE_DIR "/lessons/%s.md", lesson);
  char *page = collapse(read_all(path));
  cr_expect(strstr(page, words), "%s.md no longer says \"%s\"", lesson, words);
  free(page);
  snprintf(line, sizeof line, "\n%s | ", exercise_name(exercise));
  const char *at = strstr(file, line);
  cr_assert(at, "nothing is recorded of%s", line);
  at += strlen(line);
  for (int i = 0; i < EXERCISE_PROBLEMS; i++, at += strcspn(at, "|\n") + 2)
    cr_expect_eq(strncmp(at, outcomes[i], strlen(outcomes[i])), 0, "%s.md says \"%s\", which is not what is recorded: %.60s",
                 lesson, words, at);
}

Test(exercises, pages_say_what_an_h100_did) {
#define EACH(outcome) ((const char *const[EXERCISE_PROBLEMS]){outcome, outcome, outcome})
#define THREE(...) ((const char *const[EXERCISE_PROBLEMS]){__VA_ARGS__})
  char *file = read_all(golden);
  for (int number = 1; number <= 5; number++)
    says(file, "06_wgmma", number, "Of all of this page's mistakes, an H100 showed one: the wrong swizzle",
         EACH(number == 3 ? "wrong bits" : "right bits in 50"));
  says(file, "07_tma", 1, "An H100 did not get as far as wrong bits: it hung, or ended with an error",
       THREE("error", "hangs", "error"));
  says(file, "07_tma", 2, "this kernel and those of `defects::each_is_found` with this mistake hung on an H100", EACH("hangs"));
  says(file, "07_tma", 3, "A GPU says nothing in such a case. It hangs.", EACH("hangs"));
  says(file, "07_tma", 4, "right bits, in every launch that was tried", EACH("right bits in 50"));
  says(file, "08_pipeline", 1, "the right bits in 50 launches of 50, and two larger ones had wrong bits in all",
       THREE("right bits in 50", "wrong bits in 50 of 50", "wrong bits in 50 of 50"));
  says(file, "08_pipeline", 2, "Silent on an H100 in every problem", EACH("right bits in 50"));
  says(file, "08_pipeline", 3, "A GPU hangs, and does not say where", EACH("hangs"));
  says(file, "08_pipeline", 4, "This kernel hung on an H100, too", EACH("hangs"));
  says(file, "09_persistent", 1, "an H100 hung at this page's K and at 1904, and had the right bits at 7168",
       THREE("hangs", "hangs", "right bits in 50"));
  says(file, "09_persistent", 2, "it hangs at once, every time", EACH("hangs"));
  says(file, "09_persistent", 3, "this one ended with an error", EACH("error"));
  says(file, "10_cluster", 1, "Every test on an H100 passed", EACH("right bits in 50"));
  says(file, "10_cluster", 2, "On an H100 this kernel had the right bits, each time", EACH("right bits in 50"));
  says(file, "10_cluster", 3, "Mostly both blocks begin together, and it is", EACH("right bits in 50"));
  says(file, "10_cluster", 4,
       "this one had wrong bits in none of 50 of this page's problem and of one larger one, and in all of another",
       THREE("right bits in 50", "right bits in 50", "wrong bits in 50 of 50"));
  says(file, "10_cluster", 5, "An H100 hung.", EACH("hangs"));
  for (int number = 1; number <= 2; number++) {
    says(file, "11_shapes", number, "an H100 shows both of these mistakes, in every launch", EACH("wrong bits in 50 of 50"));
    says(file, "12_overlap", number, "An H100 had the right bits with either mistake, in every launch", EACH("right bits in 50"));
  }
  says(file, "13_small_m", 1, "No tolerance would find it", EACH("wrong bits in 50 of 50"));
  for (int number = 2; number <= 4; number++)
    says(file, "13_small_m", number, "the three before this one it let pass, with the right bits", EACH("right bits in 50"));
  says(file, "13_small_m", 5, "An H100 ended it with an error that names no line", EACH("error"));
  free(file);
}
