/* The lessons are what their pages say: each program runs, prints the numbers that stand in its page, keeps the skeleton that makes
 * lessons comparable, and shows what the page's sentences claim. docs/numerics.md and its program are held to the same. */
#define _XOPEN_SOURCE 700 /* mkdtemp */
#include "exercises.h"

#include <criterion/criterion.h>
#include <glob.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { PATH_BYTES = 4096, ROWS = 64, COLUMNS = 13 };

static const char *path_of(const char *format, ...) {
  static char path[PATH_BYTES];
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(path, sizeof path, format, arguments);
  va_end(arguments);
  cr_assert(length < PATH_BYTES, "a path is too long");
  return path;
}

/* All of a stream as a string, which the caller frees. */
static char *read_all(FILE *stream) {
  char *text = NULL;
  size_t length = 0;
  for (;;) {
    text = realloc(text, length + 4097);
    cr_assert_not_null(text);
    const size_t got = fread(text + length, 1, 4096, stream);
    length += got;
    if (got == 0) break;
  }
  text[length] = 0;
  return text;
}

static char *read_file(const char *path) {
  FILE *file = fopen(path, "r");
  cr_assert_not_null(file, "cannot open %s", path);
  char *text = read_all(file);
  fclose(file);
  return text;
}

/* What a program of the lessons prints; messages count as output, so that a warning would be seen. */
static char *run(const char *name, const char *arguments, int want) {
  FILE *pipe = popen(path_of("'%s/%s' %s 2>&1", FG_LESSONS_DIR, name, arguments), "r");
  cr_assert_not_null(pipe, "cannot run %s", name);
  char *text = read_all(pipe);
  const int status = pclose(pipe);
  cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == want, "%s %s ended with %d: %s", name, arguments, status, text);
  return text;
}

/* Calls `see` with the name of each lesson whose source ends so, as "01_fp8". */
static void for_each(const char *ending, void (*see)(const char *name)) {
  glob_t found;
  cr_assert_eq(glob(path_of("%s/lessons/[0-9][0-9]_*.%s", FG_SOURCE_DIR, ending), 0, NULL, &found), 0, "there are no lessons");
  for (size_t i = 0; i < found.gl_pathc; i++) {
    char name[64];
    const char *file = strrchr(found.gl_pathv[i], '/') + 1;
    cr_assert_lt(snprintf(name, sizeof name, "%.*s", (int)strcspn(file, "."), file), (int)sizeof name);
    see(name);
  }
  globfree(&found);
}

static void for_each_lesson(void (*see)(const char *name)) { for_each("c", see); }
static void for_each_kernel(void (*see)(const char *name)) { for_each("cu", see); }

static void page_has_the_numbers(const char *name, const char *page_path) {
  char *page = read_file(page_path), *numbers = run(name, "", 0);
  const char begin[] = "<!-- numbers:begin -->\n```\n", end[] = "```\n<!-- numbers:end -->";
  const char *from = strstr(page, begin), *to = from ? strstr(from, end) : NULL;
  cr_assert(from && to, "%s.md has no numbers between its markers", name);
  from += strlen(begin);
  cr_expect((size_t)(to - from) == strlen(numbers) && strncmp(from, numbers, strlen(numbers)) == 0,
            "%s.md says other than its program, which prints\n%s", name, numbers);
  free(page);
  free(numbers);
}

static void lesson_has_the_numbers(const char *name) {
  page_has_the_numbers(name, path_of("%s/lessons/%s.md", FG_SOURCE_DIR, name));
}

Test(lessons, numbers_in_pages_are_what_programs_print) { for_each_lesson(lesson_has_the_numbers); }

Test(lessons, numerics_page_has_the_numbers_of_its_program) {
  page_has_the_numbers("numerics", path_of("%s/docs/numerics.md", FG_SOURCE_DIR));
}

/* Each of `parts` once in text, at the beginning of a line, and in this order. */
static void has_in_order(const char *name, const char *text, const char *const *parts) {
  const char *from = text;
  for (; *parts; parts++) {
    const char *at = strstr(from, *parts);
    cr_expect(at && (at == text || at[-1] == '\n'), "%s has no line that begins with \"%s\", or not in its place", name, *parts);
    if (!at) return;
    from = at + strlen(*parts);
    cr_expect_null(strstr(from, *parts), "%s has \"%s\" twice", name, *parts);
  }
}

static void page_keeps_the_skeleton(const char *name) {
  char *page = read_file(path_of("%s/lessons/%s.md", FG_SOURCE_DIR, name));
  has_in_order(name, page,
               (const char *const[]){"# Lesson ", "## Idea\n", "## Picture\n", "## Read\n", "## Numbers\n", "## Trap\n",
                                     "## Question\n", NULL});
  cr_expect_not_null(strstr(page, path_of("](%s.svg)", name)), "%s.md does not show its picture", name);
  free(page);
  char *picture = read_file(path_of("%s/lessons/%s.svg", FG_SOURCE_DIR, name));
  cr_expect_not_null(strstr(picture, "</svg>"), "%s.svg is not a whole picture", name);
  free(picture);
  char *ladder = read_file(path_of("%s/lessons/README.md", FG_SOURCE_DIR));
  cr_expect_not_null(strstr(ladder, path_of("](%s.md)", name)), "lessons/README.md does not list %s", name);
  free(ladder);
}

static void keeps_the_skeleton(const char *name) {
  char *program = read_file(path_of("%s/lessons/%s.c", FG_SOURCE_DIR, name));
  has_in_order(name, program,
               (const char *const[]){"/* Lesson ", "/* Constants: ", "/* Data: ", "/* Experiment: ", "/* Printout: ", NULL});
  free(program);
}

/* The kernel bears the level's name, which the file bears too. */
static void kernel_keeps_the_skeleton(const char *name) {
  char *source = read_file(path_of("%s/lessons/%s.cu", FG_SOURCE_DIR, name)), head[256], kernel[256];
  snprintf(head, sizeof head, "/* Level `%s`: ", name + 3);
  snprintf(kernel, sizeof kernel, " %s(const __grid_constant__ struct fg_args args) {\n", name + 3);
  cr_expect_eq(strncmp(source, head, strlen(head)), 0, "%s.cu does not begin with \"%s\"", name, head);
  cr_expect_not_null(strstr(source, kernel), "%s.cu has no kernel %s()", name, name + 3);
  free(source);
}

Test(lessons, keep_the_skeleton) {
  for_each_lesson(keeps_the_skeleton);
  for_each_kernel(kernel_keeps_the_skeleton);
  for_each("md", page_keeps_the_skeleton);
}

static void refuses(const char *name) {
  char *text = run(name, "--draw", 2);
  cr_expect_not_null(strstr(text, "usage: "), "%s --draw says %s", name, text);
  free(text);
}

Test(lessons, refuse_what_they_do_not_know) { for_each_lesson(refuses); }

#ifdef FG_REPORT
/* The numbers of a page about a kernel are those of the benchmarks' results. */
static void kernel_has_the_numbers(const char *name) {
  FILE *pipe = popen(path_of("LC_ALL=C; '%s' %s '%s'/bench/results/gpu_*.json", FG_REPORT, name + 3, FG_SOURCE_DIR), "r");
  cr_assert_not_null(pipe);
  char *numbers = read_all(pipe);
  cr_assert_eq(pclose(pipe), 0, "report %s ended with other than 0: %s", name + 3, numbers);
  char *page = read_file(path_of("%s/lessons/%s.md", FG_SOURCE_DIR, name));
  const char begin[] = "<!-- numbers:begin -->\n", *from = strstr(page, begin), *to = strstr(page, "<!-- numbers:end -->");
  cr_assert(from && to, "%s.md has no markers for its numbers", name);
  from += strlen(begin);
  cr_expect(strlen(numbers) > 0 && (size_t)(to - from) == strlen(numbers) && strncmp(from, numbers, strlen(numbers)) == 0,
            "%s.md says other than the results, which are\n%s", name, numbers);
  free(page);
  free(numbers);
}

Test(lessons, numbers_of_kernels_are_what_benchmarks_printed) {
  for_each_kernel(kernel_has_the_numbers);
  kernel_has_the_numbers("11_shapes");
  kernel_has_the_numbers("12_overlap");
  kernel_has_the_numbers("13_small_m");
}
#endif

/* A block of columns of what a lesson prints for its picture; two empty lines end a block. */
static int read_block(const char *text, int block, int columns, double table[ROWS][COLUMNS]) {
  for (; block > 0; block--) {
    text = strstr(text, "\n\n\n");
    cr_assert_not_null(text, "%d blocks are missing", block);
    text += 3;
  }
  int rows = 0;
  for (; *text && *text != '\n'; rows++) {
    cr_assert_lt(rows, ROWS);
    for (int c = 0; c < columns; c++) {
      char *end;
      table[rows][c] = strtod(text, &end);
      text = end;
    }
    cr_assert_eq(*text, '\n', "a block has other than %d columns", columns);
    text++;
  }
  cr_assert_gt(rows, 0);
  return rows;
}

/* The first block of columns of what `name --plot` prints. */
static int read_columns(const char *name, int columns, double table[ROWS][COLUMNS]) {
  char *text = run(name, "--plot", 0);
  const int rows = read_block(text, 0, columns, table);
  free(text);
  return rows;
}

/* Whether the page's prose, whose lines are wrapped, has the words. */
static void page_says(const char *name, const char *words) {
  char *page = read_file(path_of("%s/lessons/%s.md", FG_SOURCE_DIR, name));
  for (char *at = page; *at; at++)
    if (*at == '\n') *at = ' ';
  cr_expect_not_null(strstr(page, words), "%s.md no longer says \"%s\"", name, words);
  free(page);
}

/* How many lines of diff's output begin so. */
static int count_lines(const char *output, char mark) {
  int lines = *output == mark;
  while ((output = strchr(output, '\n'))) lines += *++output == mark;
  return lines;
}

/* Each kernel but the first changes little of the one before, and its page says how much. */
static void step_can_be_read(const char *name) {
  enum { MOST_LINES_THAT_COME = 80 };
  static char before[64];
  if (*before) {
    const int lesson = atoi(name);
    FILE *pipe = popen(path_of("cd '%s/lessons' && diff %s.cu %s.cu", FG_SOURCE_DIR, before, name), "r");
    cr_assert_not_null(pipe);
    char *output = read_all(pipe), words[128];
    const int status = pclose(pipe), go = count_lines(output, '<'), come = count_lines(output, '>');
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1, "diff ended with %d", status);
    cr_expect_leq(come, MOST_LINES_THAT_COME, "with lesson %d come %d lines", lesson, come);
    snprintf(words, sizeof words, "`./dev step %d` shows %d lines that go and %d that come", lesson, go, come);
    page_says(name, words);
    free(output);
  }
  snprintf(before, sizeof before, "%s", name);
}

Test(lessons, steps_can_be_read) { for_each_kernel(step_can_be_read); }

/* Lesson 1: columns x, worst error of e4m3 and of e5m2 from x to 2x. */
Test(lessons, lesson_1_shows_what_its_page_says) {
  double table[ROWS][COLUMNS];
  const int rows = read_columns("01_fp8", 3, table);
  int e4m3_flat = 0, e5m2_flat = 0;
  for (int row = 0; row < rows; row++) {
    const double x = table[row][0];
    if (x >= 0x1p-6 && x < 0x1p8) e4m3_flat += fabs(table[row][1] - 1.0 / 17) <= 1e-5;
    if (x >= 0x1p-14 && x < 0x1p15) e5m2_flat += fabs(table[row][2] - 1.0 / 9) <= 1e-5;
    if (x < 0x1p-10) cr_expect_eq(table[row][1], 1, "e4m3 does not lose everything at %g", x);
  }
  cr_expect_eq(e4m3_flat, 14, "e4m3 is not off by 1/17 in the 14 whole octaves from 2^-6 to 2^8");
  cr_expect_eq(e5m2_flat, 29, "e5m2 is not off by 1/9 in the 29 whole octaves from 2^-14 to 2^15");
  page_says("01_fp8", "at worst 1/17 = 5.88 % for e4m3 and 1/9 = 11.11 % for e5m2");
  page_says("01_fp8", "2^-6 to 448 for e4m3");

  char *text = run("01_fp8", "", 0);
  static const char *const facts[] = {
      "e4m3: 254 finite codes (2 of them zero), 0 infinite, 2 NaN. Largest 448. 254 finite codes come",
      "e5m2: 248 finite codes (2 of them zero), 2 infinite, 6 NaN. Largest 57344. 248 finite codes",
      "\n          17           16 0x58           16 0x4C",
      "\n          19           20 0x5A           20 0x4D",
      "\n0.0009765626  0.001953125 0x01",
      "\n0.0009765625            0 0x00",
      "\n         inf          448 0x7E        57344 0x7B",
      "\n         nan          nan 0x7F          nan 0x7F"};
  for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
    cr_expect_not_null(strstr(text, facts[i]), "lesson 1 does not print \"%s\"", facts[i]);
  free(text);
}

/* Lesson 2: columns outliers, then error of tokens, error of the matrix, zeros for e4m3 with one scale, e4m3 fine-grained, e5m2 with
 * one scale, e5m2 fine-grained. Row p has outliers of 2^p. */
Test(lessons, lesson_2_shows_what_its_page_says) {
  enum { ONE = 1, FINE = 4, E5M2_ONE = 7, E5M2_FINE = 10, MATRIX = 1, ZEROS = 2, LAST = 20 };
  double table[ROWS][COLUMNS];
  cr_assert_eq(read_columns("02_scaling", 13, table), LAST + 1);
  for (int p = 0; p <= LAST; p++) {
    const double *row = table[p];
    cr_expect_eq(row[0], ldexp(1, p));
    cr_expect(fabs(row[FINE] - 3.7) <= 0.1 && fabs(row[E5M2_FINE] - 7.3) <= 0.1 && fabs(row[E5M2_ONE] - 7.4) <= 0.1,
              "at 2^%d the ways that the page calls level are not: %g %g %g", p, row[FINE], row[E5M2_ONE], row[E5M2_FINE]);
    cr_expect((p < 13) == (row[ONE] <= 1.05 * row[FINE]), "at 2^%d one scale makes %g %% in e4m3", p, row[ONE]);
    cr_expect((p < 15) == (row[ONE] <= row[E5M2_ONE]), "at 2^%d one scale makes %g %% in e4m3, %g %% in e5m2", p, row[ONE],
              row[E5M2_ONE]);
    cr_expect(row[FINE + ZEROS] <= 1 && row[E5M2_ONE + ZEROS] <= 1 && row[E5M2_FINE + ZEROS] <= 1);
  }
  cr_expect(table[LAST][ONE + ZEROS] >= 99.95 && table[LAST][ONE] >= 100 * 62 / 64.0);
  cr_expect(fabs(table[LAST][ONE + MATRIX] - 2.77) <= 0.005 && table[LAST][ONE + MATRIX] <= table[0][ONE + MATRIX]);
  page_says("02_scaling", "both make 3.7 % of error in e4m3 and 7.3 to 7.4 % in e5m2");
  page_says("02_scaling", "From 2^13 on, e4m3 with one scale");
  page_says("02_scaling", "From 2^15 on even e5m2 with one scale is better");
  page_says("02_scaling",
            "has lost nearly all of the activations and the results of 62 of 64 tokens, and the error of the matrix is 2.77 %");

  char *text = run("02_scaling", "", 0);
  cr_expect_not_null(strstr(text, "\n0 elements of D further from fg_exact()'s value than its bound\n"));
  free(text);
}

/* What the last table of lesson 3 says of a kind of data. */
struct verdict {
  double error, missing_cosine;
  int outside, same;
};

static struct verdict read_verdict(const char *page, const char *kind, const char *level) {
  struct verdict verdict;
  char begin[64];
  snprintf(begin, sizeof begin, "\n%-12s%14s", kind, level);
  const char *at = strstr(page, begin);
  cr_assert_not_null(at, "lesson 3 does not judge %s, %s", kind, level);
  cr_assert_eq(
      sscanf(at + strlen(begin), "%lf %% %lf %d %d", &verdict.error, &verdict.missing_cosine, &verdict.outside, &verdict.same),
      4);
  return verdict;
}

/* Lesson 3: a block of columns k, truth, one level, two levels of a sum of 1/256; then for each kind of data a block of columns k,
 * error with one level, and with chains of 32, 64, 128, 256, 512, 1024. */
Test(lessons, lesson_3_shows_what_its_page_says) {
  enum { ONE = 1, FIRST_CHAIN = 2, TWO = 4, LAST_CHAIN = 7, BELL = 1, POSITIVE = 2, CANCELLING = 3 };
  static const double worst_of_two[] = {0, 1e-5, 6.7e-4, 1.6e-4};
  double table[ROWS][COLUMNS];
  char *text = run("03_accumulation", "--plot", 0);
  int rows = read_block(text, 0, 4, table);
  cr_expect_eq(table[rows - 1][0], 32768);
  for (int row = 0; row < rows; row++) {
    cr_expect_eq(table[row][1], table[row][0] / 256);
    cr_expect_eq(table[row][2], fmin(table[row][1], 64), "one level makes %g of %g", table[row][2], table[row][1]);
    cr_expect_eq(table[row][3], table[row][1], "two levels make %g of %g", table[row][3], table[row][1]);
  }
  for (int kind = BELL; kind <= CANCELLING; kind++) {
    rows = read_block(text, kind, 8, table);
    cr_assert_eq(rows, 10);
    cr_expect_eq(table[0][0], 128);
    for (int row = 0; row < rows; row++) {
      const double *errors = table[row];
      cr_expect(errors[TWO] <= worst_of_two[kind], "kind %d, two levels: %g at k = %g", kind, errors[TWO], errors[0]);
      if (kind == POSITIVE) {
        cr_expect(fabs(errors[TWO] - 6e-4) <= 0.6e-4, "positive data, two levels: %g at k = %g", errors[TWO], errors[0]);
        cr_expect(row == 0 || errors[ONE] > 1.4 * table[row - 1][ONE], "one level's error stays, at k = %g", errors[0]);
      }
    }
    const double *last = table[rows - 1];
    cr_expect_eq(last[0], 65536);
    for (int chain = FIRST_CHAIN; chain < LAST_CHAIN; chain++)
      cr_expect_lt(last[chain], last[chain + 1], "kind %d: a chain of %d makes the larger error", kind, 1 << (chain + 3));
    cr_expect_lt(last[LAST_CHAIN], last[ONE]);
    cr_expect(20 * last[TWO] < last[ONE], "kind %d: two levels buy only %g / %g", kind, last[ONE], last[TWO]);
    if (kind == POSITIVE) {
      const double bf16 = 0x1p-8;
      cr_expect(fabs(table[5][ONE] - 0.07) <= 0.005 && fabs(last[ONE] - 0.53) <= 0.005);
      cr_expect(fabs(bf16 / last[TWO] - 6) <= 0.5 && fabs(bf16 / last[TWO + 1] - 2) <= 0.2 && last[TWO + 2] > bf16);
    }
  }
  free(text);
  page_says("03_accumulation", "it stays at 6e-4, 0.06 %, from 128 to 65536");
  page_says("03_accumulation", "lose 7 % at K = 4096 and 53 % at 65536");
  page_says("03_accumulation", "chains of 128 make a sixth of that; of 256, half; of 512, more than all of it");

  char *page = read_file(path_of("%s/lessons/03_accumulation.md", FG_SOURCE_DIR)); /* its numbers are the program's, see above */
  cr_expect_not_null(strstr(page, "\n   32768         128          64         128\n"));
  cr_expect_not_null(strstr(page, "\nA step from 64: in units of 2^-7, 8192 and 32 times 0 make 8192, which is 64\n"));
  static const char *const kinds[] = {"bell-shaped", "positive", "cancelling"};
  for (int kind = 0; kind < 3; kind++) {
    const struct verdict one = read_verdict(page, kinds[kind], "one level"), two = read_verdict(page, kinds[kind], "two levels");
    cr_expect(one.same == 0 && two.same == 16, "%s: the bits do not tell", kinds[kind]);
    cr_expect(two.outside == 0 && one.outside == (kind + 1 == POSITIVE ? 16 : 0));
    cr_expect(one.error > 20 * two.error && one.missing_cosine > two.missing_cosine);
  }
  const struct verdict positive = read_verdict(page, "positive", "one level");
  cr_expect(positive.error > 50 && positive.missing_cosine < 1e-5);
  page_says("03_accumulation", "1 - cosine is 3.9e-06, where 1e-3 is a limit in use");
  page_says("03_accumulation", "in 16 of 16 outputs");
  cr_expect(fabs(read_verdict(page, "cancelling", "one level").error - 78) <= 0.5);
  page_says("03_accumulation", "it may be wrong by 78 % of itself, and legal");
  free(page);
}

/* Microseconds that a level took of the first problem with so many rows and columns, by the side of its tile. */
static double cold_us(const json_t *results, int m, int n, const char *level, int side) {
  size_t r, i;
  const json_t *result, *row;
  json_array_foreach(json_object_get(results, "levels"), r, result) {
    if (json_integer_value(json_object_get(result, "m")) != m || json_integer_value(json_object_get(result, "n")) != n) continue;
    json_array_foreach(json_object_get(result, "rows"), i, row)
      if (strcmp(json_string_value(json_object_get(row, "name")), level) == 0 &&
          json_integer_value(json_object_get(row, "block_m")) == side)
        return json_real_value(json_object_get(json_object_get(row, "cold"), "median_us"));
  }
  cr_assert(false, "no result for %d x %d, %s %d", m, n, level, side);
  return 0;
}

/* Lessons 4 and 5: what their sentences make of the results. */
Test(lessons, lessons_4_and_5_show_what_their_pages_say) {
  json_t *results = json_load_file(path_of("%s/bench/results/gpu_h100.json", FG_SOURCE_DIR), 0, NULL);
  cr_assert_not_null(results);
  const double rate = json_real_value(json_object_get(results, "fp32_flops")), flops = 2.0 * 4096 * 4096 * 7168;
  const double naive = cold_us(results, 4096, 4096, "naive", 16), tile_64 = cold_us(results, 4096, 4096, "shared", 64);
  const double tile_32 = cold_us(results, 4096, 4096, "shared", 32), tile_16 = cold_us(results, 4096, 4096, "shared", 16);
  cr_expect(fabs(flops / naive * 1e6 / rate - 0.013) <= 0.001);
  cr_expect(fabs(naive / tile_64 - 27) <= 0.5);
  cr_expect(fabs(flops / tile_64 * 1e6 / rate - 0.365) <= 0.01);
  cr_expect(fabs(1 - tile_64 / tile_32 - 0.33) <= 0.02 && fabs(1 - tile_32 / tile_16 - 0.6) <= 0.02);
  cr_expect_lt(cold_us(results, 64, 4096, "shared", 32), cold_us(results, 64, 4096, "shared", 64));
  cr_expect_lt(cold_us(results, 1, 7168, "naive", 16), cold_us(results, 1, 7168, "shared", 64));
  json_decref(results);
  page_says("04_naive", "1.3 % of the FP32 units' rate");
  page_says("05_shared",
            "A tile of 64x64 is 27 times as fast as `naive` where there are enough of them, and at more than a third of");
  page_says("05_shared", "cost a third of the speed, and half of that again three fifths");
}

/* What the profiler counted of a level, by the counter's name. */
static double counted(const json_t *file, const char *level, const char *counter) {
  size_t i;
  const json_t *row;
  json_array_foreach(json_object_get(file, "counters"), i, row)
    if (strcmp(json_string_value(json_object_get(row, "name")), level) == 0)
      return json_number_value(json_object_get(json_object_get(row, "values"), counter));
  cr_assert(false, "nothing was counted of %s", level);
  return 0;
}

/* Warps of a multiprocessor that wait for this. */
static double waiting(const json_t *file, const char *level, const char *counter) {
  return counted(file, level, "sm__warps_active.avg.per_cycle_active") * counted(file, level, counter) /
         counted(file, level, "smsp__pcsamp_sample_count");
}

__attribute__((format(printf, 2, 3))) static void page_says_of(const char *name, const char *format, ...) {
  char words[256];
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(words, sizeof words, format, arguments);
  va_end(arguments);
  cr_assert_lt(length, (int)sizeof words);
  page_says(name, words);
}

/* Lessons 6 to 10: what their sentences make of the results. At 4096 x 4096 x 7168 there are 1024 tiles of 56 blocks of K, each for 8 warps
 * (in `tma` twice as many, each for 4); a multiprocessor has 8 of them. */
Test(lessons, lessons_6_to_10_show_what_their_pages_say) {
  enum { RUNGS = 5, BLOCKS_OF_WARPS = 1024 * 56 * 8, BLOCKS_IN_TURN = 8 * 56 };
  static const char *const names[RUNGS] = {"06_wgmma", "07_tma", "08_pipeline", "09_persistent", "10_cluster"};
  static const char memory[] = "smsp__pcsamp_warps_issue_stalled_long_scoreboard",
                    warps[] = "sm__warps_active.avg.per_cycle_active";
  static const char cycles[] = "sm__cycles_elapsed.max", sectors[] = "lts__t_sectors_srcunit_tex_op_read.sum";
  json_t *file = json_load_file(path_of("%s/bench/results/gpu_counters_h100.json", FG_SOURCE_DIR), 0, NULL);
  json_t *results = json_load_file(path_of("%s/bench/results/gpu_ladder_h100.json", FG_SOURCE_DIR), 0, NULL);
  cr_assert(file && results);
  double instructions[RUNGS], large_us[RUNGS], us[RUNGS];
  for (int i = 0; i < RUNGS; i++) {
    const char *level = names[i] + 3;
    const int side = strcmp(level, "tma") == 0 ? 64 : 128;
    page_says_of(names[i], "at work in %s%.1f %%", strcmp(level, "persistent") == 0 ? "as many cycles as before, " : "",
                 counted(file, level, "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed"));
    instructions[i] = counted(file, level, "smsp__inst_executed.sum") / BLOCKS_OF_WARPS;
    large_us[i] = cold_us(results, 4096, 7168, level, side);
    us[i] = cold_us(results, 4096, 4096, level, side);
    cr_expect(i == 0 || (large_us[i] < large_us[i - 1] && us[i] < us[i - 1]), "%s is not faster than the one before", level);
  }
  page_says_of("06_wgmma", "Of 8 warps %.1f are waiting for memory", waiting(file, "wgmma", memory));
  page_says_of("06_wgmma", "256 threads with %.0f registers each are %.0f of",
               counted(file, "wgmma", "launch__registers_per_thread"),
               256 * counted(file, "wgmma", "launch__registers_per_thread"));
  page_says_of("06_wgmma", "a warp has some %.0f instructions", instructions[0]);
  page_says_of("07_tma", "a warp has some %.0f instructions where there were %.0f", instructions[1], instructions[0]);
  page_says_of("07_tma", "%.1f of %.1f warps wait for memory", waiting(file, "tma", memory), counted(file, "tma", warps));
  page_says_of("07_tma", "%.2f GB come to the multiprocessors in place of %.2f, and the L2 is busy at %.0f %%",
               counted(file, "tma", "l1tex__m_xbar2l1tex_read_bytes.sum") * 1e-9,
               counted(file, "wgmma", "l1tex__m_xbar2l1tex_read_bytes.sum") * 1e-9,
               counted(file, "tma", "lts__throughput.avg.pct_of_peak_sustained_elapsed"));
  page_says_of("08_pipeline", "%.1f of %.1f warps wait for memory now, where %.1f of %.1f did", waiting(file, "pipeline", memory),
               counted(file, "pipeline", warps), waiting(file, "tma", memory), counted(file, "tma", warps));
  page_says_of("08_pipeline", "%.1f times the speed where there are many tiles", large_us[1] / large_us[2]);
  page_says_of("08_pipeline", "some %.0f instructions that a warp has", instructions[2]);
  page_says_of("09_persistent", "%.0f %% at the largest shape and %.0f %% at the next", 100 * (large_us[2] / large_us[3] - 1),
               100 * (us[2] / us[3] - 1));
  page_says_of("09_persistent", "%.0f MB are read from memory in place of %.0f",
               counted(file, "persistent", "dram__bytes_read.sum") * 1e-6,
               counted(file, "pipeline", "dram__bytes_read.sum") * 1e-6);
  page_says_of("09_persistent", "some %.0f instructions that a warp has", instructions[3]);
  page_says_of("10_cluster", "%.0f %% at the largest shape and %.0f %% at the next", 100 * (large_us[3] / large_us[4] - 1),
               100 * (us[3] / us[4] - 1));
  page_says_of("10_cluster", "%.1f million instructions where there were %.1f",
               counted(file, "cluster", "smsp__inst_executed.sum") * 1e-6,
               counted(file, "persistent", "smsp__inst_executed.sum") * 1e-6);
  const double of_a_tile = (counted(file, "persistent", cycles) - counted(file, "cluster", cycles)) / 8;
  page_says_of("10_cluster", "a tile takes some %d,%d00 cycles less", (int)(of_a_tile + 50) / 1000,
               (int)(of_a_tile + 50) % 1000 / 100);
  page_says_of("10_cluster", "It saves reads of the L2, and of those %.0f %% only",
               100 * (1 - counted(file, "cluster", sectors) / counted(file, "persistent", sectors)));
  page_says_of("10_cluster", "%.0f cycles, of which 512", counted(file, "cluster", cycles) / BLOCKS_IN_TURN);
  page_says_of("10_cluster", "Of the %.1f warps at a barrier three",
               waiting(file, "cluster", "smsp__pcsamp_warps_issue_stalled_barrier"));
  page_says_of("10_cluster", "%.2f GHz here, %.2f in `persistent`",
               counted(file, "cluster", "smsp__cycles_elapsed.avg.per_second") * 1e-9,
               counted(file, "persistent", "smsp__cycles_elapsed.avg.per_second") * 1e-9);
  json_decref(file);
  json_decref(results);
}

#ifdef FINEGEMM_PROGRAM
/* Each part of `words`, between "..." and "...", in this order. */
static void says(const char *name, const char *text, char *words) {
  const char *from = text;
  for (char *part = words, *next; part; part = next) {
    next = strstr(part, "...");
    if (next) *next = 0, next += 3;
    const char *at = strstr(from, part);
    cr_expect_not_null(at, "of %s its page has the emulator say \"%s\", but it says:\n%s", name, part, text);
    if (!at) return;
    from = at + strlen(part);
  }
}

/* What `command` of the page, which names the tree as $PWD, prints there. */
static char *emulate(const char *command, int want) {
  char line[PATH_BYTES];
  snprintf(line, sizeof line,
           "cd \"$FG_TREE\" && PATH=\"${FG_PROGRAM%%/*}:$PATH\" FG_CACHE_DIR= && export PATH FG_CACHE_DIR && { %s; } 2>&1",
           command);
  FILE *pipe = popen(line, "r");
  cr_assert_not_null(pipe);
  char *text = read_all(pipe);
  const int status = pclose(pipe);
  cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == want, "%s ended with %d: %s", command, status, text);
  return text;
}

static void exercise_is_true(const struct exercise *exercise) {
  FILE *file = fopen(path_of("%s/%s", getenv("FG_TREE"), exercise->source), "w");
  cr_assert_not_null(file);
  fputs(exercise->kernel, file);
  cr_assert_eq(fclose(file), 0);
  char *text = collapse(emulate(exercise->command, exercise->number ? 1 : 0));
  if (exercise->number) says(exercise_name(exercise), text, exercise->words);
  free(text);
}

static void remove_tree(void) { cr_assert_eq(system("rm -r \"$FG_TREE\""), 0); }

Test(lessons, exercises_show_what_their_pages_say, .fini = remove_tree) {
  char tree[PATH_BYTES];
  const char *temporary = getenv("TMPDIR");
  snprintf(tree, sizeof tree, "%s/test_lessons_XXXXXX", temporary ? temporary : P_tmpdir);
  cr_assert(mkdtemp(tree) && setenv("FG_TREE", tree, 1) == 0 && setenv("FG_PROGRAM", FINEGEMM_PROGRAM, 1) == 0);
  cr_assert(unsetenv("FG_CUDA_DRIVER") == 0 && unsetenv("FG_NVRTC") == 0 && unsetenv("FG_CACHE_PATH") == 0);
  cr_assert(setenv("FG_SOURCES", FG_SOURCE_DIR, 1) == 0);
  if (system("g++ --version >\"$FG_TREE/g++\" 2>&1") != 0) cr_skip("no g++, whose schedules the pages have");
  cr_assert_eq(setenv("CXX", "g++", 1), 0);
  cr_assert_eq(
      system(
          "cd \"$FG_SOURCES\" && mkdir \"$FG_TREE/gpu\" && cp -r lessons \"$FG_TREE\" && cp -r gpu/device gpu/kernels \"$FG_TREE/gpu\""),
      0);
  int count;
  const struct exercise *exercises = exercises_read(FG_SOURCE_DIR, &count);
  cr_expect_gt(count, 0);
  for (int i = 0; i < count; i++) exercise_is_true(&exercises[i]);
}
#endif
