/* Any number of threads may use one context; what a thread gets does not depend on the others. */
#include "support.h"

#include <criterion/criterion.h>
#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 6, PROBLEMS = 12, ROUNDS = 8, LEVELS = 5, ROWS = 70, COLS = 300 };
static const fg_level levels[LEVELS] = {FG_BEST, FG_EXACT, FG_REFERENCE, FG_BLAS, FG_HOPPER};

/* What all threads compute: problems with what D becomes on each level, and a matrix with what it becomes quantised. */
static struct problem *problems[PROBLEMS];
static unsigned char *after[PROBLEMS][LEVELS];
static float wide[ROWS * COLS];
static unsigned char quantised[ROWS * COLS];
static float quantised_scale[ROWS * 3];
static fg_context *shared;

static fg_conversion quantisation(unsigned char *codes, float *scale) {
  return (fg_conversion){.rows = ROWS, .cols = COLS, .from = {.data = wide}, .to = {.data = codes, .scale = scale}};
}

static void prepare_work(int context_threads) {
  cr_assert_eq(fg_context_create(&shared, &(fg_context_options){.threads = context_threads}), FG_OK);
  for (int i = 0; i < PROBLEMS; i++) {
    struct spec spec = spec_random(50000 + (uint64_t)i);
    problems[i] = problem_make(&spec);
    for (int l = 0; l < LEVELS; l++) {
      problem_reset(problems[i]);
      problem_set_level(problems[i], levels[l]);
      cr_assert_eq(fg_gemm(shared, &problems[i]->call), FG_OK, "%s", fg_message());
      after[i][l] = malloc(problems[i]->d.bytes + 1);
      if (problems[i]->d.bytes) memcpy(after[i][l], problems[i]->d.data, problems[i]->d.bytes);
    }
    problem_reset(problems[i]);
  }
  for (int i = 0; i < ROWS * COLS; i++) wide[i] = (float)(i % 977) - 300;
  fg_conversion conversion = quantisation(quantised, quantised_scale);
  cr_assert_eq(fg_quantize(shared, &conversion), FG_OK);
}

static void free_work(void) {
  for (int i = 0; i < PROBLEMS; i++) {
    for (int l = 0; l < LEVELS; l++) free(after[i][l]);
    problem_free(problems[i]);
  }
  fg_context_destroy(shared);
}

/* One thread's part. Problems are read only and shared; D is the thread's own. Returns what went wrong, NULL: nothing. */
static void *work(void *argument) {
  const int *number = argument;
  uint64_t state = (uint64_t)*number;
  char expected_message[64];
  snprintf(expected_message, sizeof expected_message, "m is -%d;", 1000 + *number);
  if (fg_message()[0]) return "a new thread has a message already";
  if (fg_gemm(shared, &(fg_problem){.m = -1000 - *number}) != FG_BAD_SIZE) return "a negative m is accepted";
  for (int round = 0; round < ROUNDS; round++) {
    int i = (int)random_below(&state, PROBLEMS), l = (int)random_below(&state, LEVELS);
    const struct problem *problem = problems[i];
    fg_problem call = problem->call;
    unsigned char *d = malloc(problem->d.bytes + 1);
    memcpy(d, problem->before, problem->d.bytes);
    if (call.c.data == call.d.data) call.c.data = d;
    call.d.data = d;
    call.level = levels[l], call.split_k = levels[l] == FG_HOPPER ? problem->spec.split_k : 0;
    fg_status status = fg_gemm(shared, &call);
    bool same = memcmp(d, after[i][l], problem->d.bytes) == 0;
    free(d);
    if (status != FG_OK) return "fg_gemm failed";
    if (!same) return "fg_gemm gave other bits";
    fg_context *own = NULL;
    if (fg_context_create(&own, NULL) != FG_OK) return "no context";
    unsigned char codes[ROWS * COLS];
    float scale[ROWS * 3];
    fg_conversion conversion = quantisation(codes, scale);
    if (fg_quantize(round % 2 ? own : shared, &conversion) != FG_OK) return "fg_quantize failed";
    if (memcmp(codes, quantised, sizeof codes) != 0 || memcmp(scale, quantised_scale, sizeof scale) != 0)
      return "fg_quantize gave other bits";
    fg_finding findings[4];
    if (fg_can_run(shared, FG_EXACT) != FG_OK || fg_doctor(findings, 4) < 1) return "fg_can_run or fg_doctor failed";
    fg_context_destroy(own);
  }
  if (!strstr(fg_message(), expected_message)) return "the message is another thread's";
  return NULL;
}

static void work_at_once(int context_threads) {
  prepare_work(context_threads);
  pthread_t threads[THREADS];
  int numbers[THREADS];
  for (int t = 0; t < THREADS; t++) {
    numbers[t] = t;
    cr_assert_eq(pthread_create(&threads[t], NULL, work, &numbers[t]), 0);
  }
  for (int t = 0; t < THREADS; t++) {
    void *wrong;
    pthread_join(threads[t], &wrong);
    cr_expect_null(wrong, "thread %d: %s", t, wrong ? (const char *)wrong : "");
  }
  free_work();
}

Test(threads, share_a_context_of_one_thread) { work_at_once(1); }
Test(threads, share_a_context_of_three_threads) { work_at_once(3); }

/* A product of many tiles, off their edges, does not show how many threads made it. */
Test(threads, hopper_gives_the_same_bits_on_any_number) {
  static const int counts[] = {1, 2, 5, 16};
  struct spec spec = spec_random(50000);
  spec.kind = FG_DENSE, spec.group_by = FG_BY_DEFAULT;
  spec.m = 300, spec.n = 411, spec.k = 400, spec.groups = 1, spec.values = NOT_FINITE, spec.split_k = 3;
  struct problem *problem = problem_make(&spec);
  problem_set_level(problem, FG_HOPPER);
  unsigned char *first = malloc(problem->d.bytes);
  for (int i = 0; i < 4; i++) {
    cr_assert_eq(fg_context_create(&shared, &(fg_context_options){.threads = counts[i]}), FG_OK);
    problem_reset(problem);
    cr_assert_eq(fg_gemm(shared, &problem->call), FG_OK, "%s", fg_message());
    if (i == 0) memcpy(first, problem->d.data, problem->d.bytes);
    cr_expect(memcmp(problem->d.data, first, problem->d.bytes) == 0, "%d threads", counts[i]);
    fg_context_destroy(shared);
  }
  free(first);
  problem_free(problem);
}

/* A context outlives the thread that made it. */
static void *make_context(void *out) {
  fg_context_create(out, &(fg_context_options){.threads = 2});
  return NULL;
}

Test(threads, a_context_is_not_bound_to_its_thread) {
  pthread_t maker;
  cr_assert_eq(pthread_create(&maker, NULL, make_context, &shared), 0);
  pthread_join(maker, NULL);
  cr_assert_not_null(shared);
  for (int i = 0; i < ROWS * COLS; i++) wide[i] = (float)i;
  fg_conversion conversion = quantisation(quantised, quantised_scale);
  cr_assert_eq(fg_quantize(shared, &conversion), FG_OK);
  fg_context_destroy(shared);
}

/* The caller's own OpenMP settings are not the library's to change. */
Test(threads, leave_openmp_as_it_is) {
  omp_set_num_threads(3);
  int dynamic = omp_get_dynamic();
  for (int context_threads = 1; context_threads <= 2; context_threads++) {
    prepare_work(context_threads);
    cr_expect_eq(omp_get_max_threads(), 3);
    cr_expect_eq(omp_get_dynamic(), dynamic);
    free_work();
  }
}

/* Runs in a child; its exit status says how it went. An alarm ends a child that hangs. */
static void in_a_child(int context_threads) {
  fflush(NULL);
  pid_t child = fork();
  cr_assert_geq(child, 0);
  if (child == 0) {
    alarm(60);
    fg_context *context;
    unsigned char codes[ROWS * COLS];
    float scale[ROWS * 3];
    fg_conversion conversion = quantisation(codes, scale);
    if (fg_context_create(&context, &(fg_context_options){.threads = context_threads}) != FG_OK) _exit(1);
    if (fg_quantize(context, &conversion) != FG_OK) _exit(2);
    struct spec spec = spec_random(50001);
    struct problem *problem = problem_make(&spec);
    for (int l = 0; l < LEVELS; l++) {
      problem_set_level(problem, levels[l]);
      problem_reset(problem);
      if (fg_gemm(context, &problem->call) != FG_OK) _exit(3);
    }
    fg_context_destroy(context);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status 0x%x", status);
}

/* GNU OpenMP cannot be used after a fork once the parent had a team of several threads, so the parent has none before. */
Test(threads, a_child_can_use_the_library) {
  in_a_child(2);
  prepare_work(1);
  in_a_child(1);
  in_a_child(2);
  free_work();
}
