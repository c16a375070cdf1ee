/* When the host has no memory: the Nth allocation fails, for every N, in every function. The linker sends the library's allocations
 * through here (cmake/tests.cmake wraps them). */
#define _XOPEN_SOURCE 700
#include "finegemm_kernels.h"
#include "support.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- Allocations, counted */

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
static bool watching;                  /* whether the library is running */
static int allocations, first_to_fail; /* since watching; from 1, 0: none */
static bool and_all_after;
static int live;           /* of the library's allocations, not yet freed */
static size_t bytes_asked; /* since watching */

static bool may_allocate(size_t bytes) {
  pthread_mutex_lock(&counting);
  bool may = true;
  if (watching) {
    allocations++;
    bytes_asked += bytes;
    may = first_to_fail == 0 || (and_all_after ? allocations < first_to_fail : allocations != first_to_fail);
    live += may;
  }
  pthread_mutex_unlock(&counting);
  if (!may) errno = ENOMEM;
  return may;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *pointer, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
int __real_posix_memalign(void **pointer, size_t alignment, size_t bytes);
void __real_free(void *pointer);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *pointer, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
int __wrap_posix_memalign(void **pointer, size_t alignment, size_t bytes);
char *__wrap_strndup(const char *text, size_t most);
void __wrap_free(void *pointer);

void *__wrap_malloc(size_t bytes) { return may_allocate(bytes) ? __real_malloc(bytes) : NULL; }
void *__wrap_calloc(size_t count, size_t bytes) { return may_allocate(count * bytes) ? __real_calloc(count, bytes) : NULL; }
void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
  return may_allocate(bytes) ? __real_aligned_alloc(alignment, bytes) : NULL;
}
int __wrap_posix_memalign(void **pointer, size_t alignment, size_t bytes) {
  return may_allocate(bytes) ? __real_posix_memalign(pointer, alignment, bytes) : ENOMEM;
}
void *__wrap_realloc(void *pointer, size_t bytes) {
  if (!may_allocate(bytes)) return NULL;
  if (watching && pointer) live--; /* it takes the old one's place */
  return __real_realloc(pointer, bytes);
}
char *__wrap_strndup(const char *text, size_t most) {
  size_t length = strnlen(text, most);
  char *copy = malloc(length + 1);
  if (!copy) return NULL;
  memcpy(copy, text, length);
  copy[length] = 0;
  return copy;
}
void __wrap_free(void *pointer) {
  pthread_mutex_lock(&counting);
  live -= watching && pointer;
  pthread_mutex_unlock(&counting);
  __real_free(pointer);
}

static void watch(int fail_first, bool all_after) {
  allocations = 0, bytes_asked = 0, first_to_fail = fail_first, and_all_after = all_after;
  watching = true;
}

/* --- The calls. Each returns a status, and has its own idea of untouched and of complete. */

struct call {
  const char *name;
  fg_status (*function)(void *state);
  void *state;
  unsigned char *output; /* as it was before, and as it ought to be after; NULL: none */
  const unsigned char *before, *after;
  size_t output_bytes;
};

static int most_allocations; /* that any call made */

/* Fails each allocation of the call, alone and with all that follow, until one goes through without a failure. */
static void fail_each(struct call *call) {
  for (int all_after = 0; all_after <= 1; all_after++)
    for (int nth = 1;; nth++) {
      if (call->output) memcpy(call->output, call->before, call->output_bytes);
      int live_before = live;
      watch(nth, all_after);
      fg_status status = call->function(call->state);
      watching = false;
      cr_assert_eq(live, live_before, "%s, allocation %d: %d allocations leaked", call->name, nth, live - live_before);
      if (status == FG_OUT_OF_MEMORY) {
        cr_assert_not_null(strstr(fg_message(), "memory"), "%s, allocation %d: the message is \"%s\"", call->name, nth,
                           fg_message());
        cr_assert(!call->output || memcmp(call->output, call->before, call->output_bytes) == 0,
                  "%s, allocation %d: refused, but the output is touched", call->name, nth);
      } else {
        cr_assert_eq(status, FG_OK, "%s, allocation %d: %s, %s", call->name, nth, fg_status_name(status), fg_message());
        cr_assert(!call->output || memcmp(call->output, call->after, call->output_bytes) == 0,
                  "%s, allocation %d: the output is not what it is with memory", call->name, nth);
      }
      if (allocations > most_allocations) most_allocations = allocations;
      if (allocations < nth) {
        cr_assert_eq(status, FG_OK);
        break;
      }
      cr_assert_lt(nth, 1000, "%s allocates without end", call->name);
    }
}

static fg_context *context;

static fg_status create(void *state) {
  (void)state;
  fg_context *made = (fg_context *)&watching;
  fg_status status = fg_context_create(&made, &(fg_context_options){.threads = 3});
  cr_assert_eq(made == NULL, status != FG_OK);
  fg_context_destroy(made);
  return status;
}

Test(memory, fails_in_fg_context_create) {
  fail_each(&(struct call){.name = "fg_context_create", .function = create});
  cr_assert_gt(most_allocations, 0, "the library's allocations do not come by here");
}

static fg_status gemm(void *state) { return fg_gemm(context, &((struct problem *)state)->call); }
static fg_status prepare(void *state) { return fg_prepare(context, &((struct problem *)state)->call); }

static double value[1 << 16], bound[1 << 16];
static fg_status exact(void *state) { return fg_exact(context, &((struct problem *)state)->call, value, bound); }

/* Every kind on every level, of the smaller problems. But for `blas`, none needs memory. */
Test(memory, fails_in_fg_gemm) {
  cr_assert_eq(fg_context_create(&context, &(fg_context_options){.threads = 2}), FG_OK);
  for (uint64_t seed = 40000; walk_on(&seed, 40000, 100); seed++) {
    struct spec spec = spec_random(seed);
    struct problem *problem = problem_make(&spec);
    for (fg_level level = FG_BEST; level <= FG_HOPPER; level++) {
      problem_set_level(problem, level);
      problem_reset(problem);
      cr_assert_eq(fg_gemm(context, &problem->call), FG_OK, "%s: %s", problem->text, fg_message());
      unsigned char *after = malloc(problem->d.bytes + 1);
      if (problem->d.bytes) memcpy(after, problem->d.data, problem->d.bytes);
      problem_reset(problem);
      struct call call = {problem->text, gemm, problem, problem->d.data, problem->before, after, problem->d.bytes};
      fail_each(&call);
      cr_assert(level == FG_BEST || level == FG_BLAS || allocations == 0, "%s: level %d allocates", problem->text, (int)level);
      problem_reset(problem);
      call.function = prepare, call.after = call.before;
      fail_each(&call);
      free(after);
    }
    problem_free(problem);
  }
  fg_context_destroy(context);
  cr_assert_gt(most_allocations, 0, "no level allocates");
}

/* As the header promises: at most 8 MB for each thread, however large the problem. */
Test(memory, blas_works_in_8_MB_a_thread) {
  enum { SIZE = 3000, DEPTH = 300, CALLS = 3 };
  static unsigned char codes[SIZE * DEPTH];
  static float scale[SIZE * 3], d[SIZE * SIZE];
  memset(codes, 0x38, sizeof codes);
  for (int i = 0; i < SIZE * 3; i++) scale[i] = 1;
  for (int threads = 1; threads <= 3; threads++) {
    cr_assert_eq(fg_context_create(&context, &(fg_context_options){.threads = threads}), FG_OK);
    static const int64_t shapes[CALLS][2] = {{SIZE, SIZE}, {17, SIZE}, {SIZE, 1}};
    for (int i = 0; i < CALLS; i++) {
      fg_problem problem = {.m = shapes[i][0],
                            .n = shapes[i][1],
                            .k = DEPTH,
                            .a = {.data = codes, .scale = scale},
                            .b = {.data = codes, .scale = scale, .scaling = FG_1X128},
                            .d = {.data = d, .type = FG_FP32},
                            .level = FG_BLAS};
      watch(0, false);
      fg_status status = fg_gemm(context, &problem);
      watching = false;
      cr_assert_eq(status, FG_OK);
      cr_expect_lt(bytes_asked, (size_t)threads * 8000000, "%d threads: %zu bytes", threads, bytes_asked);
      cr_expect(d[0] == DEPTH && d[shapes[i][0] * shapes[i][1] - 1] == DEPTH);
    }
    fg_context_destroy(context);
  }
}

Test(memory, fails_in_fg_exact) {
  static double value_before[1 << 16], value_after[1 << 16];
  cr_assert_eq(fg_context_create(&context, &(fg_context_options){.threads = 2}), FG_OK);
  for (size_t i = 0; i < 1 << 16; i++) value_before[i] = -1;
  for (uint64_t seed = 40000; walk_on(&seed, 40000, 60); seed++) {
    struct spec spec = spec_random(seed);
    if (spec.groups * spec.m * spec.n > 1 << 16) continue;
    struct problem *problem = problem_make(&spec);
    memcpy(value, value_before, sizeof value);
    cr_assert_eq(exact(problem), FG_OK, "%s: %s", problem->text, fg_message());
    memcpy(value_after, value, sizeof value);
    struct call call = {problem->text,
                        exact,
                        problem,
                        (unsigned char *)value,
                        (const unsigned char *)value_before,
                        (const unsigned char *)value_after,
                        sizeof value};
    fail_each(&call);
    problem_free(problem);
  }
  fg_context_destroy(context);
}

enum { ROWS = 200, COLS = 300 };
static float wide[ROWS * COLS], scales[ROWS * 3], back[ROWS * COLS], back_before[ROWS * COLS];
static unsigned char narrow[ROWS * COLS], narrow_before[ROWS * COLS];
static fg_scaling scaling;

static fg_status quantize(void *state) {
  (void)state;
  fg_conversion conversion = {
      .rows = ROWS, .cols = COLS, .from = {.data = wide}, .to = {.data = narrow, .scale = scales, .scaling = scaling}};
  return fg_quantize(context, &conversion);
}
static fg_status dequantize(void *state) {
  (void)state;
  fg_conversion conversion = {
      .rows = ROWS, .cols = COLS, .from = {.data = narrow, .scale = scales, .scaling = scaling}, .to = {.data = back}};
  return fg_dequantize(context, &conversion);
}
static fg_status convert(void *state) {
  (void)state;
  fg_conversion conversion = {.rows = ROWS, .cols = COLS, .from = {.data = wide}, .to = {.data = narrow, .type = FG_E5M2}};
  return fg_convert(context, &conversion);
}

/* Runs the call once to know its output, then without memory. */
static void fail_conversion(struct call call) {
  unsigned char *after = malloc(call.output_bytes);
  cr_assert_eq(call.function(NULL), FG_OK, "%s", fg_message());
  memcpy(after, call.output, call.output_bytes);
  call.after = after;
  fail_each(&call);
  free(after);
}

Test(memory, fails_in_conversions) {
  cr_assert_eq(fg_context_create(&context, &(fg_context_options){.threads = 2}), FG_OK);
  uint64_t state = 1;
  for (int i = 0; i < ROWS * COLS; i++) wide[i] = (float)random_below(&state, 10000) - 5000;
  for (scaling = FG_1X128; scaling <= FG_TENSOR; scaling++) {
    fail_conversion((struct call){
        .name = "fg_quantize", .function = quantize, .output = narrow, .before = narrow_before, .output_bytes = sizeof narrow});
    watch(0, false);
    cr_assert_eq(quantize(NULL), FG_OK);
    watching = false;
    cr_expect_lt(bytes_asked, (size_t)8192, "fg_quantize allocates %zu bytes; a few KB are promised", bytes_asked);
    most_allocations = 0;
    fail_conversion((struct call){.name = "fg_dequantize",
                                  .function = dequantize,
                                  .output = (unsigned char *)back,
                                  .before = (const unsigned char *)back_before,
                                  .output_bytes = sizeof back});
    fail_conversion((struct call){
        .name = "fg_convert", .function = convert, .output = narrow, .before = narrow_before, .output_bytes = sizeof narrow});
    cr_assert_eq(most_allocations, 0, "fg_dequantize and fg_convert do not allocate");
  }
  fg_context_destroy(context);
}

static fg_status look(void *state) {
  (void)state;
  fg_finding findings[32];
  return fg_doctor(findings, 32) > 0 ? FG_OK : FG_OUT_OF_MEMORY;
}

Test(memory, fails_in_fg_doctor) { fail_each(&(struct call){.name = "fg_doctor", .function = look}); }

static fg_status read_table(void *path) {
  fg_tuned_plan plans[2];
  int count;
  return fg_tuned_read(path, plans, 2, &count);
}

Test(memory, fails_in_fg_tuned_read) {
  char path[] = P_tmpdir "/test_memory_XXXXXX";
  int file = mkstemp(path);
  static const char text[] = "finegemm plans 1\ngpu sm_90a 132 H100\n8 80 256 128x128 2 16 64 5 2 7\n";
  cr_assert(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text) && close(file) == 0);
  fail_each(&(struct call){.name = "fg_tuned_read", .function = read_table, .state = path});
  unlink(path);
}
