/* What a GPU makes of the exercises of the lessons (tests/exercises.h): each damaged kernel, and each as it is, through the library in a
 * process of its own, which is ended where it hangs; launched again and again, and D compared with that of `hopper`. Prints lines for
 * tests/golden/exercises.txt. On the emulator (FG_DEVICE=emulator), one launch of the page's problem.
 *
 *     plant_exercises > FILE
 *     plant_exercises --table FILE    docs/exercises.md's table: what FILE says of a GPU, and the pages of the emulator
 */
#include "children.h"
#include "defect_tree.h"
#include "exercises.h"
#include "finegemm_kernels.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { LAUNCHES = 50, HANGS_AFTER_S = 2, BLANK = 0xA7 };

static const struct exercise *exercises;

static bool is_emulated(void) {
  const char *device = getenv("FG_DEVICE");
  return device && strcmp(device, "emulator") == 0;
}

static void require(fg_status status, const char *what) {
  if (status == FG_OK) return;
  fprintf(stderr, "%s: %s\n", what, fg_message());
  exit(EXIT_FAILURE);
}

static void *claim(size_t bytes) {
  void *data = malloc(bytes);
  if (!data) fail("malloc");
  return data;
}

/* --- Operands: [rows, k] codes without NaN, scales by columns */

static unsigned next(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (unsigned)(*state >> 56);
}

static const void *make_codes(int64_t rows, int64_t k, uint64_t *state) {
  unsigned char *codes = claim((size_t)(rows * k));
  for (int64_t i = 0; i < rows * k; i++) codes[i] = next(state) & 0xB7;
  return codes;
}

static const float *make_scales(int64_t count, uint64_t *state) {
  float *scale = claim((size_t)count * sizeof *scale);
  for (int64_t i = 0; i < count; i++) scale[i] = 0.5f + (float)next(state) / 128;
  return scale;
}

static const void *send(fg_context *context, const void *data, size_t bytes) {
  void *there;
  require(fg_memory_allocate(context, bytes, &there), "device memory");
  require(fg_memory_copy(context, there, data, bytes), "device memory");
  return there;
}

/* A problem in the host's memory and in the device's, what D is before a launch, what it should be after it, and what it was. */
struct multiplication {
  fg_context *context;
  fg_problem here, there;
  size_t d_bytes;
  void *blank, *expected, *have;
};

static fg_level level_of(const char *name) {
  int count;
  const fg_level_info *levels = fg_levels(&count);
  for (int i = 0; i < count; i++)
    if (strcmp(levels[i].name, name) == 0) return levels[i].level;
  fprintf(stderr, "there is no level %s\n", name);
  exit(EXIT_FAILURE);
}

/* With this plan, which stays. D is to be what `hopper` gives that splits K as the plan does. */
static struct multiplication prepare(const struct exercise_problem *size, const fg_plan *wish) {
  const int64_t blocks_of_k = (size->k + 127) / 128, a_scales = (size->m + 3) / 4 * 4 * blocks_of_k;
  const int64_t b_scales = (size->n + 127) / 128 * blocks_of_k;
  struct multiplication of = {.d_bytes = (size_t)(size->m * size->n) * (size->has_bf16 ? 2 : sizeof(float))};
  uint64_t state = 1;
  of.blank = memset(claim(of.d_bytes), BLANK, of.d_bytes);
  of.expected = claim(of.d_bytes);
  of.have = claim(of.d_bytes);
  of.here = (fg_problem){.m = size->m, .n = size->n, .k = size->k, .level = FG_HOPPER};
  of.here.a = (fg_operand){
      .data = make_codes(size->m, size->k, &state), .scale = make_scales(a_scales, &state), .scale_layout = FG_ROWS_CONTIGUOUS};
  of.here.b = (fg_operand){.data = make_codes(size->n, size->k, &state), .scale = make_scales(b_scales, &state)};
  of.here.d = (fg_result){.data = of.expected, .type = size->has_bf16 ? FG_BF16 : FG_FP32};
  require(fg_context_create(&of.context, &(fg_context_options){.device = FG_CUDA}), "the GPU");
  of.there = of.here;
  of.there.level = level_of(size->level);
  of.there.plan = wish;
  of.there.a.data = send(of.context, of.here.a.data, (size_t)(size->m * size->k));
  of.there.b.data = send(of.context, of.here.b.data, (size_t)(size->n * size->k));
  of.there.a.scale = send(of.context, of.here.a.scale, (size_t)a_scales * sizeof(float));
  of.there.b.scale = send(of.context, of.here.b.scale, (size_t)b_scales * sizeof(float));
  require(fg_memory_allocate(of.context, of.d_bytes, &of.there.d.data), "device memory");
  fg_context *host;
  fg_plan plan;
  require(fg_context_plan(of.context, &of.there, &plan), "the plan");
  of.here.split_k = plan.split_k;
  require(fg_context_create(&host, NULL), "the CPU");
  require(fg_gemm(host, &of.here), "hopper");
  fg_context_destroy(host);
  return of;
}

/* --- Launches */

/* The driver's words in a sentence of the library. */
static void copy_error(struct result *result) {
  const char *words = strstr(fg_message(), " gives "), *from = words ? strstr(words, "): ") : NULL;
  from = from ? from + strlen("): ") : fg_message();
  snprintf(result->text, sizeof result->text, "error: %.*s", words ? (int)strcspn(from, ";") : (int)strlen(from), from);
}

static void launch_often(struct multiplication *of, struct result *result) {
  const int launches = is_emulated() ? 1 : LAUNCHES;
  for (int launch = 1, wrong = 0; launch <= launches; launch++) {
    if (!is_emulated()) hangs_after(HANGS_AFTER_S);
    if (fg_memory_copy(of->context, of->there.d.data, of->blank, of->d_bytes) != FG_OK ||
        fg_gemm(of->context, &of->there) != FG_OK ||
        fg_memory_copy(of->context, of->have, of->there.d.data, of->d_bytes) != FG_OK) {
      copy_error(result);
      return;
    }
    wrong += memcmp(of->have, of->expected, of->d_bytes) != 0;
    if (wrong)
      snprintf(result->text, sizeof result->text, "wrong bits in %d of %d launches", wrong, launch);
    else
      snprintf(result->text, sizeof result->text, "right bits in %d launch%s", launch, launch > 1 ? "es" : "");
  }
}

static void run_exercise(int i, struct result *result) {
  const struct exercise *exercise = &exercises[i / EXERCISE_PROBLEMS];
  const struct exercise_problem size = exercise_problem(exercise, i % EXERCISE_PROBLEMS);
  if (is_emulated() && i % EXERCISE_PROBLEMS != 0) {
    snprintf(result->text, sizeof result->text, "not run");
    return;
  }
  const fg_plan wish = {.block_m = size.block_m, .block_n = size.block_n, .cluster = size.cluster, .blocks = size.blocks};
  struct multiplication of = prepare(&size, &wish);
  struct tree tree = tree_make(exercise->source, exercise->kernel);
  fg_status status = fg_prepare(of.context, &of.there);
  tree_remove(&tree);
  if (status == FG_COMPILE_ERROR) {
    snprintf(result->text, sizeof result->text, "is not compiled");
    return;
  }
  require(status, exercise->source);
  take_gpu(result);
  launch_often(&of, result);
}

static int run_all(void) {
  int count, failed = 0;
  exercises = exercises_read(FG_SOURCE_DIR, &count);
  printf(
      "# What a GPU makes of each exercise of the lessons, and of each kernel as it is: MISTAKE | OUTCOME | OUTCOME | OUTCOME,\n"
      "# of the page's own problem and of");
  for (int i = 1; i < EXERCISE_PROBLEMS; i++) {
    struct exercise_problem size = exercise_problem(exercises, i);
    printf("%s m %d, n %d, k %d", i > 1 ? " and" : "", (int)size.m, (int)size.n, (int)size.k);
  }
  printf(".\n");
  print_origin("plant_exercises");
  struct result *results = share_results(count * EXERCISE_PROBLEMS);
  in_children(count * EXERCISE_PROBLEMS, results, run_exercise);
  for (int i = 0; i < count; i++) {
    printf("%s", exercise_name(&exercises[i]));
    for (const struct result *at = results + EXERCISE_PROBLEMS * i; at < results + EXERCISE_PROBLEMS * (i + 1); at++) {
      if (at->has_hung)
        printf(" | hangs%s%s", *at->text ? " after " : "", at->text);
      else
        printf(" | %s", at->is_done ? at->text : "failed to run");
      failed += !at->has_hung && !at->is_done;
    }
    printf("\n");
  }
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int count, char **arguments) {
  if (count == 1) return setenv("FG_CACHE_DIR", "", 1) == 0 ? run_all() : EXIT_FAILURE;
  if (count == 3 && strcmp(arguments[1], "--table") == 0) {
    exercises_print_table(stdout, FG_SOURCE_DIR, arguments[2]);
    return EXIT_SUCCESS;
  }
  fprintf(stderr, "usage: plant_exercises [--table FILE]\n");
  return EXIT_FAILURE;
}
