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
    if (exercises[i].number) continue;
    static const char right[] = " | right bits in 50 launches";
    snprintf(line, sizeof line, "\n%s%s%s%s\n", exercise_name(&exercises[i]), right, right, right);
    cr_expect(strstr(file, line), "tests/golden/exercises.txt has no such line:%s", line);
    whole++;
  }
  cr_expect_geq(whole, 5, "a lesson has no exercise");
  free(file);
}
