#include "tuned.h"

#include "choose.h"
#include "fail.h"
#include "library.h"
#include "plan.h"
#include "read_file.h"
#include "source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* gpu/plans/NAME.txt as they were when the library was built: cmake/embed.cmake writes them. */
extern const struct fg_source fg_embedded_plans[];

enum { MOST_BYTES = 1 << 24, MOST_SIZE = INT32_MAX - 1023, SHARED_BYTES = 232448 /* of a block, on every sm_90a */ };

/* --- Reading a text */

struct reader {
  const char *at, *end;
  int line; /* from 1 */
  fg_gpu gpu;
  char *why;
};

static bool refuse(const struct reader *reader, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(const struct reader *reader, const char *format, ...) {
  enum { LINE_BYTES = 24 };
  char words[FG_TUNED_WHY_BYTES - LINE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(words, sizeof words, format, arguments);
  va_end(arguments);
  snprintf(reader->why, FG_TUNED_WHY_BYTES, "line %d: %s", reader->line, words);
  return false;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_at(const struct reader *reader, char c) { return reader->at < reader->end && *reader->at == c; }
static bool is_at_end_of_line(const struct reader *reader) { return reader->at == reader->end || *reader->at == '\n'; }

/* `word`, if it is what comes next. */
static bool take_word(struct reader *reader, const char *word) {
  size_t length = strlen(word);
  if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0) return false;
  reader->at += length;
  return true;
}

/* Digits alone, of a number within its limits. */
static bool take_number(struct reader *reader, const char *what, int64_t least, int64_t most, int64_t *number) {
  const char *begin = reader->at;
  *number = 0;
  for (; reader->at < reader->end && is_digit(*reader->at) && *number <= most; reader->at++)
    *number = *number * 10 + (*reader->at - '0');
  if (reader->at == begin) return refuse(reader, "%s is missing where a number must stand", what);
  if (*number < least || *number > most)
    return refuse(reader, "%s begins with %" PRId64 "; it must be from %" PRId64 " to %" PRId64, what, *number, least, most);
  return true;
}

static bool take_blank(struct reader *reader, const char *before) {
  return take_word(reader, " ") || refuse(reader, "one blank must stand before %s", before);
}

/* "14.5": at most three decimals. */
static bool take_us(struct reader *reader, double *us) {
  int64_t whole, thousandths = 0;
  if (!take_number(reader, "us", 0, 1000000000, &whole)) return false;
  if (take_word(reader, ".")) {
    int digits = 0;
    for (; digits < 3 && reader->at < reader->end && is_digit(*reader->at); digits++)
      thousandths = thousandths * 10 + (*reader->at++ - '0');
    if (digits == 0) return refuse(reader, "us has a point and no decimals");
    for (; digits < 3; digits++) thousandths *= 10;
  }
  *us = (double)(whole * 1000 + thousandths) / 1000;
  return true;
}

/* "gpu sm_90a 132 NVIDIA H100 80GB HBM3" */
static bool read_gpu(struct reader *reader) {
  int64_t sms;
  size_t length = 0;
  reader->gpu = (fg_gpu){.arch = "sm_90a", .shared_bytes = SHARED_BYTES};
  if (!take_word(reader, "sm_90a ")) return refuse(reader, "gpu must be of sm_90a: level full runs on no other");
  if (!take_number(reader, "multiprocessors", 1, 1 << 20, &sms) || !take_blank(reader, "the GPU's name")) return false;
  while (reader->at + length < reader->end && reader->at[length] != '\n') length++;
  if (length == 0 || length >= sizeof reader->gpu.name)
    return refuse(reader, "the GPU's name must have from 1 to %zu bytes", sizeof reader->gpu.name - 1);
  for (size_t i = 0; i < length; i++)
    if (reader->at[i] < ' ' || reader->at[i] > '~')
      return refuse(reader, "the GPU's name has a byte that is not printable ASCII");
  memcpy(reader->gpu.name, reader->at, length);
  reader->gpu.sms = (int)sms;
  reader->at += length;
  return true;
}

static bool take_scaling(struct reader *reader, fg_scaling *scaling) {
  if (!take_blank(reader, "b's scaling")) return false;
  *scaling = take_word(reader, "128x128") ? FG_128X128 : take_word(reader, "1x128") ? FG_1X128 : FG_DEFAULT_SCALING;
  return *scaling != FG_DEFAULT_SCALING || refuse(reader, "b's scaling must be 128x128 or 1x128");
}

/* Whether the kernels admit it: a table never makes a call fail. */
static bool check(const struct reader *reader, const fg_tuned_plan *tuned) {
  fg_plan made;
  fg_problem problem = {.m = tuned->m,
                        .n = tuned->n,
                        .k = tuned->k,
                        .groups = 1,
                        .a = {.type = FG_E4M3, .scaling = FG_1X128},
                        .b = {.type = FG_E4M3, .scaling = tuned->b_scaling},
                        .d = {.type = FG_BF16},
                        .level = FG_FULL,
                        .plan = &tuned->plan};
  if (fg_class_of_m(tuned->m) != tuned->m)
    return refuse(reader, "m is %" PRId64 "; plans are for classes of m, of which that one's largest is %" PRId64, tuned->m,
                  fg_class_of_m(tuned->m));
  if (fg_plan_full(&tuned->gpu, NULL, &problem, &made) != FG_OK) return refuse(reader, "%.150s", fg_message());
  return true;
}

/* "64 2112 7168 128x128 2 64 128 7 4 14.5" */
static bool read_plan(struct reader *reader, fg_tuned_plan *tuned) {
  enum { SIZES = 3, NUMBERS = 5 };
  static const char *const names[] = {"m", "n", "k", "order", "block_m", "block_n", "stages", "cluster"};
  static const int most[] = {MOST_SIZE, MOST_SIZE, MOST_SIZE, FG_B_BY_A, 1024, 1024, 64, 64};
  int64_t numbers[SIZES + NUMBERS];
  *tuned = (fg_tuned_plan){.gpu = reader->gpu};
  if (!*reader->gpu.name) return refuse(reader, "a plan stands before any line that begins with gpu");
  for (int i = 0; i < SIZES + NUMBERS; i++) {
    if (i == SIZES && !take_scaling(reader, &tuned->b_scaling)) return false;
    if (i > 0 && !take_blank(reader, names[i])) return false;
    if (!take_number(reader, names[i], 1, most[i], &numbers[i])) return false;
  }
  if (!take_blank(reader, "us") || !take_us(reader, &tuned->us)) return false;
  tuned->m = numbers[0], tuned->n = numbers[1], tuned->k = numbers[2];
  tuned->plan = (fg_plan){.level = FG_FULL,
                          .order = (fg_order)numbers[3],
                          .block_m = (int)numbers[4],
                          .block_n = (int)numbers[5],
                          .stages = (int)numbers[6],
                          .cluster = (int)numbers[7]};
  tuned->plan.split_k = tuned->plan.order == FG_B_BY_A ? tuned->plan.cluster : 1;
  return check(reader, tuned);
}

static int compare_int64(int64_t x, int64_t y) { return x < y ? -1 : x > y; }

/* By shape, that is: of several GPUs' plans for it a handful at most lie beside each other. */
static int compare_shapes(const fg_tuned_plan *x, const fg_tuned_plan *y) {
  int order = compare_int64(x->n, y->n);
  if (order == 0) order = compare_int64(x->k, y->k);
  if (order == 0) order = compare_int64(x->m, y->m);
  return order == 0 ? (int)x->b_scaling - (int)y->b_scaling : order;
}

static int compare_plans(const void *one, const void *other) {
  const fg_tuned_plan *x = one, *y = other;
  int order = compare_shapes(x, y);
  if (order == 0) order = x->gpu.sms - y->gpu.sms;
  return order == 0 ? strcmp(x->gpu.name, y->gpu.name) : order;
}

static bool sort(struct fg_tuned *table, const struct reader *reader) {
  qsort(table->plans, (size_t)table->count, sizeof *table->plans, compare_plans);
  for (int i = 1; i < table->count; i++) {
    const fg_tuned_plan *plan = &table->plans[i];
    if (compare_plans(plan - 1, plan) != 0) continue;
    snprintf(reader->why, FG_TUNED_WHY_BYTES, "there are two plans for m %" PRId64 ", n %" PRId64 ", k %" PRId64 " on %.63s",
             plan->m, plan->n, plan->k, plan->gpu.name);
    return false;
  }
  return true;
}

bool fg_tuned_parse(const char *text, size_t bytes, struct fg_tuned *table, char why[FG_TUNED_WHY_BYTES]) {
  struct reader reader = {.at = text, .end = text + bytes, .line = 1, .why = why};
  if (!take_word(&reader, "finegemm plans 1\n"))
    return refuse(&reader, "it must be 'finegemm plans 1', with which a table of this version begins");
  for (reader.line = 2; reader.at < reader.end; reader.line++) {
    if (is_at(&reader, '#')) {
      while (!is_at_end_of_line(&reader)) reader.at++;
    } else if (take_word(&reader, "gpu ")) {
      if (!read_gpu(&reader)) return false;
    } else if (!is_at_end_of_line(&reader)) {
      if (table->count == table->capacity)
        return refuse(&reader, "it is one plan more than the %d that there may be", table->capacity);
      if (!read_plan(&reader, &table->plans[table->count])) return false;
      table->count++;
    }
    if (!is_at_end_of_line(&reader)) return refuse(&reader, "something follows where the line must end");
    if (reader.at == reader.end) return refuse(&reader, "the last line does not end, so that some may be lost");
    reader.at++;
  }
  return sort(table, &reader);
}

/* --- Reading a file */

static fg_status cannot_read(const char *path, const char *why) {
  return fg_fail(FG_UNSUPPORTED, "%s cannot be read as tuned plans: %s", path, why);
}

static fg_status cannot_read_errno(const char *path, int error) {
  char why[128];
  return cannot_read(path, fg_error_text(error, why, sizeof why));
}

static int count_lines(const char *text, size_t bytes) {
  size_t lines = 0;
  for (size_t i = 0; i < bytes; i++) lines += text[i] == '\n';
  return lines < FG_MOST_TUNED ? (int)lines : FG_MOST_TUNED;
}

static fg_status parse_file(const char *path, const char *text, size_t bytes, struct fg_tuned **table) {
  char why[FG_TUNED_WHY_BYTES];
  static atomic_uint_fast64_t loaded;
  struct fg_tuned made = {.id = atomic_fetch_add(&loaded, 1) + 1, .capacity = count_lines(text, bytes)};
  struct fg_tuned *whole = calloc(1, sizeof *whole + (size_t)made.capacity * sizeof *made.plans);
  if (!whole) return fg_fail(FG_OUT_OF_MEMORY, "no memory for %d tuned plans", made.capacity);
  *whole = made;
  whole->plans = (fg_tuned_plan *)(whole + 1);
  if (!fg_tuned_parse(text, bytes, whole, why)) {
    free(whole);
    return cannot_read(path, why);
  }
  *table = whole;
  return FG_OK;
}

static fg_status load_open_file(int file, const char *path, struct fg_tuned **table) {
  struct stat about;
  if (fstat(file, &about) != 0) return cannot_read_errno(path, errno);
  if (!S_ISREG(about.st_mode)) return cannot_read(path, "it is no regular file");
  if (about.st_size > MOST_BYTES) return cannot_read(path, "it is larger than 16 MiB, and no such table is");
  size_t bytes = (size_t)about.st_size;
  char *text = malloc(bytes + 1);
  if (!text) return fg_fail(FG_OUT_OF_MEMORY, "no memory for the tuned plans, %zu bytes", bytes);
  fg_status status =
      fg_read_whole(file, text, bytes, EIO) ? parse_file(path, text, bytes, table) : cannot_read_errno(path, errno);
  free(text);
  return status;
}

fg_status fg_tuned_load(const char *path, struct fg_tuned **table) {
  *table = NULL;
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would wait for its writer */
  if (file < 0) return cannot_read_errno(path, errno);
  fg_status status = load_open_file(file, path, table);
  close(file);
  return status;
}

fg_status fg_tuned_load_own(struct fg_tuned **table) {
  const char *path = fg_environment("FG_PLANS");
  *table = NULL;
  if (!path || !*path) return FG_OK;
  if (*path != '/') return fg_fail(FG_UNSUPPORTED, "FG_PLANS is %.100s; it must be an absolute path", path);
  return fg_tuned_load(path, table);
}

void fg_tuned_free(struct fg_tuned *table) { free(table); }

/* --- Finding a plan */

static struct fg_tuned shipped;

/* Of texts one of which is no table nothing is taken: the tests hold them to be tables. */
static void parse_shipped(void) {
  enum { MOST_SHIPPED = 4096 };
  static fg_tuned_plan plans[MOST_SHIPPED];
  char why[FG_TUNED_WHY_BYTES];
  shipped = (struct fg_tuned){.capacity = MOST_SHIPPED, .plans = plans};
  for (const struct fg_source *text = fg_embedded_plans; text->name; text++) {
    if (fg_tuned_parse(text->text, strlen(text->text), &shipped, why)) continue;
    shipped.count = 0;
    return;
  }
}

const struct fg_tuned *fg_tuned_shipped(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, parse_shipped);
  return &shipped;
}

/* A table's name of a GPU is part of the GPU's own: "H100" is of "NVIDIA H100 80GB HBM3", and of "H100 SXM". */
static bool is_gpu(const fg_gpu *of_table, const fg_gpu *gpu) {
  return of_table->sms == gpu->sms && strcmp(of_table->arch, gpu->arch) == 0 && strstr(gpu->name, of_table->name);
}

const fg_plan *fg_tuned_find(const struct fg_tuned *table, const fg_gpu *gpu, const fg_problem *of_class) {
  const fg_tuned_plan wanted = {.m = of_class->m, .n = of_class->n, .k = of_class->k, .b_scaling = of_class->b.scaling};
  int first = 0, last = table->count;
  while (first < last) {
    int middle = first + (last - first) / 2;
    if (compare_shapes(&table->plans[middle], &wanted) < 0)
      first = middle + 1;
    else
      last = middle;
  }
  for (; first < table->count && compare_shapes(&table->plans[first], &wanted) == 0; first++)
    if (is_gpu(&table->plans[first].gpu, gpu)) return &table->plans[first].plan;
  return NULL;
}
