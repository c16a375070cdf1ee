#include "cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fg_level kernel_of_lesson(long number) {
  int levels;
  const fg_level_info *info = fg_levels(&levels);
  long lesson = FIRST_KERNEL_LESSON;
  for (int i = 0; i < levels; i++)
    if (info[i].memory == FG_CUDA && info[i].level != FG_FULL && lesson++ == number)
      return info[i].level; /* whose kernels are none */
  return FG_BEST;
}

/* --- The kernel, compiled */

enum { M = 512, N = 512, K = 1024 };

/* NULL: it compiles; else why it cannot be tried. A kernel that does not compile, as one that is being edited, is a failure. */
static const char *compile(fg_level level, const fg_gpu *gpu, fg_kernel *kernel, fg_plan *plan) {
  fg_problem problem = {.m = M, .n = N, .k = K, .level = level};
  fg_status status = fg_plan_make(gpu, &problem, plan);
  if (status == FG_OK) status = fg_precompile(gpu, &problem, kernel);
  if (status == FG_UNSUPPORTED) return text("%s", fg_message());
  require(status, "");
  return NULL;
}

/* --- The kernel at work */

struct work {
  fg_problem problem; /* D in FP32, to be given */
  float *reference;
};

static struct work make_work(fg_context *host) {
  float *x = claim(M * K, sizeof *x, "X"), *w = claim(N * K, sizeof *w, "W");
  for (int i = 0; i < M * K; i++) x[i] = (float)(i * 37 % 1009 - 504);
  for (int i = 0; i < N * K; i++) w[i] = (float)(i * 91 % 1013 - 506);
  fg_operand from_x = {.data = x, .type = FG_FP32}, from_w = {.data = w, .type = FG_FP32};
  struct work work = {.problem = {.m = M, .n = N, .k = K}};
  work.problem.a = quantise(host, &from_x, 1, M, K, FG_E4M3, FG_1X128, 0, "X");
  work.problem.b = quantise(host, &from_w, 1, N, K, FG_E4M3, FG_128X128, 0, "W");
  return work;
}

struct run {
  fg_level level;
  double seconds;
  float *d;
};

static struct run run_level(fg_context *context, const struct work *work, fg_level level) {
  struct run run = {.level = level, .d = claim(M * N, sizeof *run.d, "D")};
  fg_problem problem = work->problem;
  problem.level = level;
  problem.d = (fg_result){.data = run.d, .type = FG_FP32, .ld = N};
  run.seconds = multiply(context, &problem, level_name(level));
  for (int again = 0; again < 2; again++) run.seconds = fmin(run.seconds, multiply(context, &problem, level_name(level)));
  return run;
}

/* The level, the one before if it is a GPU's too, and their twins. Returns how many. */
static int run_levels(fg_context *host, fg_context *cuda, long number, struct run runs[4]) {
  struct work work = make_work(host);
  fg_level level = kernel_of_lesson(number), before = kernel_of_lesson(number - 1);
  int count = 0;
  runs[count++] = run_level(host, &work, host_level(level));
  if (before != FG_BEST && host_level(before) != host_level(level)) runs[count++] = run_level(host, &work, host_level(before));
  if (before != FG_BEST) runs[count++] = run_level(cuda, &work, before);
  runs[count++] = run_level(cuda, &work, level);
  return count;
}

static bool agrees(const struct run *runs, int count, const struct run *run) {
  for (int i = 0; i < count; i++)
    if (runs[i].level == host_level(run->level)) return memcmp(runs[i].d, run->d, (size_t)(M * N) * sizeof *run->d) == 0;
  return false;
}

static bool print_runs(const struct run *runs, int count, const fg_gpu *gpu, json_t *list) {
  const char *const headings[] = {"level", "seconds", "GFLOPS", "bits"};
  struct table *table = table_begin("lrrl", headings);
  bool all_agree = true;
  for (int i = 0; i < count; i++) {
    bool agree = agrees(runs, count, &runs[i]);
    double gflops = runs[i].seconds > 0 ? 2e-9 * M * N * K / runs[i].seconds : 0;
    const char *twin = level_name(host_level(runs[i].level));
    all_agree = all_agree && agree;
    table_cell(table, "%s", level_name(runs[i].level));
    table_cell(table, "%.3g", runs[i].seconds);
    table_cell(table, "%.4g", gflops);
    table_cell(table, "%s", memory_of(runs[i].level) == FG_CPU ? "" : agree ? text("= %s", twin) : text("NOT those of %s", twin));
    json_array_append_new(list, json_pack("{ss sf sf sb}", "level", level_name(runs[i].level), "seconds", runs[i].seconds,
                                          "gflops", gflops, "agrees", agree));
  }
  if (gpu) {
    printf("\nD [%d, %d], k %d, on %s; the best of three:\n\n", M, N, K, gpu_text(gpu));
    table_print(table);
    printf("\nThe bits are %sthose of the twin on the CPU.\n", all_agree ? "" : "NOT ");
  }
  return all_agree;
}

enum outcome run_kernel_lesson(long number, fg_level level, const struct command *command, int argc, const char **argv) {
  int json = 0;
  struct poptOption options[] = {OPTION_JSON(json), OPTIONS_END};
  parse(command, argc, argv, options, 0, 0, NULL);
  /* The kernel as it is now, and its registers, which a cache does not tell. */
  if (setenv("FG_CACHE_DIR", "", 1) != 0 || unsetenv("FG_CACHE_PATH") != 0) fail(REFUSED, "the environment cannot be changed");
  fg_context *cuda;
  const char *no_gpu = cuda_context(0, &cuda) == FG_OK ? NULL : text("%s", fg_message());
  fg_gpu gpu = *fg_known_gpus(NULL);
  if (cuda) require(fg_context_gpu(cuda, &gpu), "");
  fg_kernel kernel = {0};
  fg_plan plan = {0};
  const char *no_kernel = compile(level, &gpu, &kernel, &plan), *page = text("%02ld_%s", number, level_name(level));
  const char *recorded = recorded_numbers(text("lessons/%s.md", page));
  if (!json) {
    printf("Lesson %ld, level %s: %s.\nThe page is lessons/%s.md, the kernel lessons/%s.cu.\n\n", number, level_name(level),
           level_idea(level), page, page);
    if (no_kernel)
      printf("It is not compiled here: %s\n", no_kernel);
    else
      printf("For %s, with %s:\n%d registers a thread, %d bytes of shared memory for a block of %d threads, %" PRId64
             " bytes of machine code and what belongs to it\n",
             gpu.arch, kernel.defines, kernel.registers, plan.shared_bytes, plan.threads, kernel.bytes);
    fflush(stdout);
  }
  bool right = true;
  json_t *list = json_array();
  if (cuda && !no_kernel) {
    struct run runs[4];
    int count = run_levels(make_context(0), cuda, number, runs);
    right = print_runs(runs, count, json ? NULL : &gpu, list);
  } else if (!json) {
    if (!cuda) printf("\nIt does not run here: %s\n", no_gpu);
    if (recorded) {
      printf("\nRecorded elsewhere, as the page has it, and not measured here:\n\n");
      print_numbers(recorded);
    }
  }
  if (json)
    json_print(json_pack("{sI ss ss so so so so so so}", "number", (json_int_t)number, "level", level_name(level), "idea",
                         level_idea(level), "gpu", json_gpu(&gpu), "registers",
                         no_kernel ? json_null() : json_integer(kernel.registers), "bytes",
                         no_kernel ? json_null() : json_integer(kernel.bytes), "shared_bytes",
                         no_kernel ? json_null() : json_integer(plan.shared_bytes), "runs", list, "recorded",
                         recorded ? json_string(recorded) : json_null()));
  else
    json_decref(list);
  fg_context_destroy(cuda);
  return right ? DONE : DIFFERENT;
}
