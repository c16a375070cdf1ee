#include "hopper_runs.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fg_context *hopper_context(void) {
  unsetenv("FG_PLANS"); /* nor are the user's plans */
  fg_context *context = gpu_context();
  fg_gpu gpu;
  cr_assert_eq(fg_context_gpu(context, &gpu), FG_OK);
  if (strcmp(gpu.arch, "sm_90a") == 0) return context;
  fg_context_destroy(context);
  gpu_do_without("the GPU is no Hopper GPU (sm_90a)");
  return NULL;
}

bool is_emulated(void) {
  const char *device = getenv("FG_DEVICE");
  return device && strcmp(device, "emulator") == 0;
}

void choose_schedule(uint64_t seed) {
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, seed);
  setenv("FG_EMULATOR_SEED", text, 1);
}

void choose_large_shape(struct spec *spec, int64_t step) {
  enum { MOST_PRODUCTS = 1 << 28 };
  uint64_t state = spec->seed;
  int64_t least = is_emulated() ? 129 : 1, most = is_emulated() ? 300 : 1400, most_k = is_emulated() ? 592 : 8192;
  do {
    spec->m = least + random_below(&state, most - least + 1);
    spec->n = least + random_below(&state, most - least + 1);
    spec->k = step * (1 + random_below(&state, most_k / step));
  } while (spec->m * spec->n * spec->k > MOST_PRODUCTS);
}

unsigned char *bytes_by_hopper(struct problem *problem) {
  fg_context *cpu;
  cr_assert_eq(fg_context_create(&cpu, NULL), FG_OK, "%s", fg_message());
  fg_problem call = problem->call;
  call.level = FG_HOPPER;
  call.split_k = problem->spec.split_k;
  problem_reset(problem);
  if (fg_gemm(cpu, &call) != FG_OK) case_failed(problem, "hopper: %s", fg_message());
  unsigned char *d = malloc(problem->d.bytes + 1);
  cr_assert(d);
  if (problem->d.bytes) memcpy(d, problem->d.data, problem->d.bytes);
  problem_reset(problem);
  fg_context_destroy(cpu);
  return d;
}

static void go_about(fg_problem *call, const struct manner *manner) {
  call->level = manner->call.level;
  call->plan = manner->call.plan;
  call->split_k = manner->call.split_k;
  call->flags = manner->call.flags;
  call->sm_limit = manner->call.sm_limit;
}

/* --- Plans */

/* Beside each other. */
static void prepare_plans(struct gpu_memory *memory, const struct manner *manner, const fg_plan *plans, int count,
                          plan_spec_function *spec_of) {
  struct problem **problems = calloc((size_t)count + 1, sizeof(void *));
  cr_assert(problems);
  for (int p = 0; p < count; p++) {
    struct spec spec = spec_of(1, &plans[p], p);
    problems[p] = problem_make(&spec);
  }
#pragma omp parallel for schedule(dynamic)
  for (int p = 0; p < count; p++) {
    fg_problem call = problems[p]->call;
    go_about(&call, manner);
    call.plan = &plans[p];
    cr_expect_eq(fg_prepare(memory->context, &call), FG_OK, "%s", fg_message());
  }
  for (int p = 0; p < count; p++) problem_free(problems[p]);
  free(problems);
}

void try_plans(struct gpu_memory *memory, const struct manner *manner, fg_plan *plans, int count, int sample,
               plan_spec_function *spec_of) {
  enum { EACH = 8 };
  int taken = is_emulated() && !getenv("FG_ALL_PLANS") && sample < count ? sample : count;
  for (int p = 0; p < taken; p++) plans[p] = plans[p * count / taken];
  prepare_plans(memory, manner, plans, taken, spec_of);
  for (int p = 0; p < taken && cases_failed() < 20; p++)
    for (uint64_t i = 0; i < gpu_cases(EACH); i++) {
      struct spec spec = spec_of(20000 + (uint64_t)p * EACH + i, &plans[p], p);
      struct problem *problem = problem_make(&spec);
      unsigned char *expected = defined_bytes(problem, FAMILY_HOPPER);
      fg_problem call = gpu_place(memory, problem, i % 2 ? AT_THE_EDGE : BETWEEN_GUARDS);
      char what[96];
      snprintf(what, sizeof what, "%s with tiles %dx%d, %d stages, clusters of %d", manner->name, plans[p].block_m,
               plans[p].block_n, plans[p].stages, plans[p].cluster);
      go_about(&call, manner);
      call.plan = &plans[p];
      choose_schedule(i);
      if (gpu_run(memory, problem, &call, what)) d_equals(problem, expected, what);
      free(expected);
      problem_free(problem);
    }
  printf("%s: %d of %d plans, %d problems each\n", manner->name, taken, count, (int)gpu_cases(EACH));
}

/* --- Repeats */

enum { AT_ONCE = 8, OTHERS = 2 };

/* Calls of other levels, into memory of their own, so that blocks of different kernels share the multiprocessors. */
static void disturb(struct gpu_memory *memory, const fg_problem *call, CUstream stream, void *d) {
  fg_problem other = *call;
  other.level = FG_SHARED, other.plan = NULL, other.split_k = 0, other.flags = 0, other.sm_limit = 0;
  other.stream = (struct CUstream_st *)stream;
  other.d.data = d;
  cr_assert_eq(fg_gemm(memory->context, &other), FG_OK, "%s", fg_message());
}

void repeat_in_streams(struct gpu_memory *memory, const struct manner *manner, const struct spec *spec) {
  const int repeats = (int)gpu_cases(1000);
  struct problem *problem = problem_make(spec);
  size_t d_bytes = problem->d.bytes, bytes = (size_t)repeats * d_bytes;
  unsigned char *expected = defined_bytes(problem, FAMILY_HOPPER), *all = malloc(bytes);
  CUstream streams[AT_ONCE + OTHERS];
  void *results;
  cr_assert(all && d_bytes % 16 == 0);
  cr_assert_eq(fg_memory_allocate(memory->context, bytes + OTHERS * d_bytes, &results), FG_OK, "%s", fg_message());
  gpu_enter(0);
  for (int s = 0; s < AT_ONCE + OTHERS; s++) GPU_MUST(fg_driver()->cuStreamCreate(&streams[s], CU_STREAM_NON_BLOCKING));
  gpu_leave();
  fg_problem call = gpu_place(memory, problem, BETWEEN_GUARDS);
  go_about(&call, manner);
  cr_assert_eq(fg_prepare(memory->context, &call), FG_OK, "%s", fg_message());
  memset(all, 0xFF, bytes);
  cr_assert_eq(fg_memory_copy(memory->context, results, all, bytes), FG_OK, "%s", fg_message());
  for (int repeat = 0; repeat < repeats; repeat++) {
    int other = repeat / AT_ONCE % OTHERS;
    choose_schedule((uint64_t)repeat);
    if (repeat % AT_ONCE == 0 && !is_emulated()) /* which runs one kernel at a time */
      disturb(memory, &call, streams[AT_ONCE + other], (unsigned char *)results + bytes + (size_t)other * d_bytes);
    call.stream = (struct CUstream_st *)streams[repeat % AT_ONCE];
    call.d.data = (unsigned char *)results + (size_t)repeat * d_bytes;
    cr_assert_eq(fg_gemm(memory->context, &call), FG_OK, "%s", fg_message());
  }
  for (int s = 0; s < AT_ONCE + OTHERS; s++) gpu_wait(streams[s]);
  cr_assert_eq(fg_memory_copy(memory->context, all, results, bytes), FG_OK, "%s", fg_message());
  int equal = 0;
  for (int repeat = 0; repeat < repeats; repeat++) equal += memcmp(all + (size_t)repeat * d_bytes, expected, d_bytes) == 0;
  cr_expect_eq(equal, repeats, "%s: %d of %d", manner->name, equal, repeats);
  printf("%s: %d of %d repeats in %d streams bitwise equal\n", manner->name, equal, repeats, AT_ONCE);
  gpu_enter(0);
  for (int s = 0; s < AT_ONCE + OTHERS; s++) GPU_MUST(fg_driver()->cuStreamDestroy(streams[s]));
  gpu_leave();
  cr_assert_eq(fg_memory_free(memory->context, results), FG_OK);
  free(all);
  free(expected);
  problem_free(problem);
}

/* --- Captures */

void capture_and_replay(struct gpu_memory *memory, const struct manner *manner, const struct spec *spec, CUstream stream,
                        CUstreamCaptureMode mode, bool is_new) {
  struct spec own = *spec;
  struct problem *problem = problem_make(&own);
  fg_problem call = gpu_place(memory, problem, BETWEEN_GUARDS);
  go_about(&call, manner);
  fg_problem elsewhere = call;
  call.stream = (struct CUstream_st *)stream;
  elsewhere.a.data = NULL, elsewhere.k = 0;
  gpu_begin_capture(stream, mode);
  if (is_new) cr_expect_eq(fg_gemm(memory->context, &call), FG_NOT_PREPARED, "%s: %s", manner->name, fg_message());
  gpu_drop(gpu_end_capture(stream));
  cr_assert_eq(fg_prepare(memory->context, &elsewhere), FG_OK, "%s", fg_message());
  gpu_begin_capture(stream, mode);
  cr_assert_eq(fg_gemm(memory->context, &call), FG_OK, "%s", fg_message());
  CUgraphExec graph = gpu_end_capture(stream);
  cr_assert(gpu_fetch(memory, problem, "before the graph's launch") && d_untouched(problem, "a captured call"));
  for (int time = 0; time < 3; time++) {
    problem_free(problem);
    own.values = (enum values[]){ANY_CODE, CANCELLING, NOT_FINITE}[time];
    problem = problem_make(&own);
    unsigned char *expected = defined_bytes(problem, FAMILY_HOPPER);
    cr_assert_eq(gpu_place(memory, problem, BETWEEN_GUARDS).d.data, call.d.data, "the layout follows from the shape");
    gpu_replay(graph, stream);
    cr_assert(gpu_fetch(memory, problem, manner->name) && d_equals(problem, expected, manner->name));
    free(expected);
  }
  gpu_drop(graph);
  problem_free(problem);
}
