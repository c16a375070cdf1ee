/* Tries plans of level full on the GPU that is here, and writes for each shape one of the fastest into a table that the library reads: such
 * that few kernels serve all shapes. */
#include "cli.h"
#include "tensor_format.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_TRIED = 256, MOST_ROUNDS = 1001, MOST_SPLIT = 8, CHECKED_ROWS = 2 };

/* A plan, and what it took. */
struct trial {
  fg_plan plan;
  fg_problem there; /* the shape's problem in the GPU's memory, with this plan */
  double median;
};

/* A shape and a class of m. */
struct tuned {
  int64_t m, n, k;
  struct trial *trials;  /* the first is the library's own plan */
  int trial_count, best; /* the fastest, and then of those whose kernels are kept; -1: there is none yet */
  double least;          /* microseconds, of all trials */
};

struct tuning {
  fg_context *host, *context;
  fg_gpu gpu;
  const char *path; /* of the table; NULL: none is written */
  fg_scaling b_scaling;
  double within; /* by this part of its shape's least time a plan may be slower */
  int rounds, most_tried;
  struct tuned *list;
  int64_t count;
  fg_tuned_plan *table; /* what the file had, and what is new */
  int table_count;
};

/* --- Operands */

/* D and the operands' bytes are as many as a deployment has: BF16, scales as the copy engine takes them. */
static fg_problem make_problem(const struct tuning *of, const struct tuned *shape) {
  fg_problem problem = {
      .m = shape->m,
      .n = shape->n,
      .k = shape->k,
      .groups = 1,
      .a = {.type = FG_E4M3, .scaling = FG_1X128, .scale_layout = FG_ROWS_CONTIGUOUS, .scale_ld = (shape->m + 3) / 4 * 4},
      .b = {.type = FG_E4M3, .scaling = of->b_scaling},
      .d = {.type = FG_BF16},
      .level = FG_FULL};
  if (of->b_scaling == FG_1X128) {
    problem.b.scale_layout = FG_ROWS_CONTIGUOUS;
    problem.b.scale_ld = (shape->n + 3) / 4 * 4;
  }
  make_operands(of->host, &problem, 1);
  return problem;
}

static void release_operands(const fg_problem *problem) {
  const void *const all[] = {problem->a.data, problem->a.scale, problem->b.data, problem->b.scale, problem->d.data};
  for (int i = 0; i < 5; i++) release((void *)(uintptr_t)all[i]);
}

/* --- Checking */

static const char *words_of(const fg_plan *plan) {
  return text("%s %dx%d, %d stages, clusters of %d", plan->order == FG_A_BY_B ? "A by B" : "B by A", plan->block_m, plan->block_n,
              plan->stages, plan->cluster);
}

static const char *shape_words(const struct tuned *shape) {
  return text("%" PRId64 "x%" PRId64 "x%" PRId64, shape->m, shape->n, shape->k);
}

/* The first and the last row of D against the level of the CPU that has its bits. */
static bool is_right(const struct tuning *of, const fg_problem *problem, int split_k) {
  size_t row_bytes = (size_t)problem->n * (size_t)type_bytes(problem->d.type);
  char *expected = claim((int64_t)row_bytes, 1, "rows of D");
  bool right = true;
  for (int i = 0; i < CHECKED_ROWS && right; i++) {
    int64_t row = i * (problem->m - 1);
    fg_problem one = *problem;
    one.a.ld = problem->k;
    one.a = rows_of(&one.a, row, problem->k);
    one.m = 1;
    one.d.data = expected;
    one.level = FG_HOPPER;
    one.split_k = split_k;
    require(fg_gemm(of->host, &one), "");
    right = memcmp(expected, (const char *)problem->d.data + (size_t)row * row_bytes, row_bytes) == 0;
  }
  release(expected);
  return right;
}

/* Every plan's D: of a split the first against the CPU, the others against it. A wrong one ends all. */
static void check_trials(const struct tuning *of, struct tuned *shape, const fg_problem *problem) {
  void *of_split[MOST_SPLIT + 1] = {NULL};
  const char *what = text("%s: checking", shape_words(shape));
  size_t bytes = (size_t)result_bytes(problem);
  for (int i = 0; i < shape->trial_count; i++) {
    struct trial *trial = &shape->trials[i];
    void **expected = &of_split[trial->plan.split_k];
    progress(what, i, shape->trial_count);
    memset(problem->d.data, 0xFF, bytes);
    require(fg_memory_copy(of->context, trial->there.d.data, problem->d.data, bytes), "");
    require(fg_gemm(of->context, &trial->there), words_of(&trial->plan));
    require(fetch_result(of->context, &trial->there, problem), words_of(&trial->plan));
    bool right = *expected ? memcmp(*expected, problem->d.data, bytes) == 0 : is_right(of, problem, trial->plan.split_k);
    if (!right)
      fail(DIFFERENT, "%s, %s: D has other bits than %s; no plan is written", shape_words(shape), words_of(&trial->plan),
           *expected ? "another plan of this split gives" : "level hopper gives");
    if (!*expected) *expected = memcpy(claim((int64_t)bytes, 1, "D"), problem->d.data, bytes);
  }
  for (int split = 0; split <= MOST_SPLIT; split++) release(of_split[split]);
}

/* --- Timing */

static int ascending(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

static double median(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, ascending);
  return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static void time_trials(const struct tuning *of, struct tuned *shape) {
  int count = shape->trial_count;
  fg_problem *problems = claim(count, sizeof *problems, "problems");
  double *us = claim((int64_t)count * of->rounds, sizeof *us, "times");
  for (int i = 0; i < count; i++) problems[i] = shape->trials[i].there;
  progress(text("%s: timing", shape_words(shape)), 0, count);
  require(fg_time_cold(of->context, problems, count, of->rounds, us), shape_words(shape));
  for (int i = 0; i < count; i++) {
    struct trial *trial = &shape->trials[i];
    trial->median = median(&us[i * of->rounds], of->rounds);
    if (trial->median < shape->trials[shape->best].median) shape->best = i;
  }
  shape->least = shape->trials[shape->best].median;
  release(us);
  release(problems);
}

static void find_trials(const struct tuning *of, struct tuned *shape, const fg_problem *there) {
  fg_plan plans[MOST_TRIED];
  require(fg_plan_candidates(&of->gpu, there, plans, of->most_tried, &shape->trial_count), shape_words(shape));
  if (shape->trial_count > of->most_tried) shape->trial_count = of->most_tried;
  shape->trials = claim(shape->trial_count, sizeof *shape->trials, "the plans");
  for (int i = 0; i < shape->trial_count; i++) {
    struct trial *trial = &shape->trials[i];
    *trial = (struct trial){.plan = plans[i], .there = *there};
    trial->there.plan = &trial->plan;
  }
}

/* Side by side. One that fails does so again when it is called, and says why. */
static void compile(const struct tuning *of, const struct tuned *shape) {
  const char *what = text("%s: compiling", shape_words(shape));
  int done = 0;
#pragma omp parallel for schedule(dynamic)
  for (int i = 0; i < shape->trial_count; i++) {
    fg_prepare(of->context, &shape->trials[i].there);
#pragma omp critical
    progress(what, ++done, shape->trial_count);
  }
}

static void tune(const struct tuning *of, struct tuned *shape) {
  fg_problem problem = make_problem(of, shape), there;
  require(send_operands(of->context, &problem, &there), shape_words(shape));
  find_trials(of, shape, &there);
  compile(of, shape);
  check_trials(of, shape, &problem);
  time_trials(of, shape);
  progress_clear();
  free_operands(of->context, &there);
  release_operands(&problem);
}

/* --- Few kernels */

static bool has_same_kernel(const fg_plan *x, const fg_plan *y) {
  return x->order == y->order && x->block_m == y->block_m && x->block_n == y->block_n && x->stages == y->stages &&
         x->cluster == y->cluster;
}

/* The shape's trial of a kernel; -1: there was none. */
static int trial_of(const struct tuned *shape, const fg_plan *kernel) {
  for (int i = 0; i < shape->trial_count; i++)
    if (has_same_kernel(&shape->trials[i].plan, kernel)) return i;
  return -1;
}

/* How long a trial of the shape takes, of its least time; infinite if longer than it may, or if there is no such trial. */
static double longer_with(const struct tuning *of, const struct tuned *shape, int trial) {
  double longer = trial < 0 ? INFINITY : shape->trials[trial].median / shape->least;
  return longer <= 1 + of->within ? longer : INFINITY;
}

/* By a kernel that is kept. */
static bool is_served(const struct tuning *of, const struct tuned *shape) {
  return isfinite(longer_with(of, shape, shape->best));
}

/* The kernel that serves most of the shapes that have none yet, and if others serve as many, the one with which these take least longer;
 * NULL: all have one. */
static const fg_plan *most_useful(const struct tuning *of) {
  const fg_plan *found = NULL;
  int64_t most = 0;
  double least = 0;
  for (int64_t i = 0; i < of->count; i++) {
    if (is_served(of, &of->list[i])) continue;
    for (int j = 0; j < of->list[i].trial_count; j++) {
      const fg_plan *kernel = &of->list[i].trials[j].plan;
      int64_t served = 0;
      double sum = 0;
      for (int64_t other = 0; other < of->count; other++) {
        const struct tuned *shape = &of->list[other];
        double longer = is_served(of, shape) ? INFINITY : longer_with(of, shape, trial_of(shape, kernel));
        if (isfinite(longer)) served++, sum += longer;
      }
      if (served > most || (served == most && sum < least)) found = kernel, most = served, least = sum;
    }
  }
  return found;
}

/* The most useful kernel, then the most useful for what it leaves, and so on; and of these the fastest for each shape. */
static void choose_kernels(struct tuning *of) {
  for (int64_t i = 0; i < of->count; i++) of->list[i].best = -1;
  for (const fg_plan *kernel; (kernel = most_useful(of));)
    for (int64_t i = 0; i < of->count; i++) {
      struct tuned *shape = &of->list[i];
      int trial = trial_of(shape, kernel);
      if (trial >= 0 && (shape->best < 0 || shape->trials[trial].median < shape->trials[shape->best].median)) shape->best = trial;
    }
}

/* --- The table */

/* Where there is no file yet the table is empty. */
static void read_table(struct tuning *of) {
  int had = 0;
  if (of->path && access(of->path, F_OK) == 0) {
    if (fg_tuned_read(of->path, NULL, 0, &had) != FG_OK) fail(BAD_INPUT, "--out: %s; it is left as it is", fg_message());
  }
  of->table = claim(had + of->count, sizeof *of->table, "the table");
  if (had > 0 && (fg_tuned_read(of->path, of->table, had, &of->table_count) != FG_OK || of->table_count > had))
    fail(BAD_INPUT, "--out: %s changed while it was read", of->path);
}

static bool is_for_same(const fg_tuned_plan *x, const fg_tuned_plan *y) {
  return x->m == y->m && x->n == y->n && x->k == y->k && x->b_scaling == y->b_scaling && x->gpu.sms == y->gpu.sms &&
         strcmp(x->gpu.name, y->gpu.name) == 0;
}

static void add_to_table(struct tuning *of, const struct tuned *shape) {
  const struct trial *best = &shape->trials[shape->best];
  fg_tuned_plan tuned = {.gpu = of->gpu,
                         .m = shape->m,
                         .n = shape->n,
                         .k = shape->k,
                         .b_scaling = of->b_scaling,
                         .plan = best->plan,
                         .us = best->median};
  int i = 0;
  while (i < of->table_count && !is_for_same(&of->table[i], &tuned)) i++;
  of->table[i] = tuned;
  of->table_count += i == of->table_count;
}

static int compare_lines(const void *left, const void *right) {
  const fg_tuned_plan *x = left, *y = right;
  int order = strcmp(x->gpu.name, y->gpu.name);
  if (order == 0) order = x->gpu.sms - y->gpu.sms;
  if (order == 0) order = (x->n > y->n) - (x->n < y->n);
  if (order == 0) order = (x->k > y->k) - (x->k < y->k);
  if (order == 0) order = (x->m > y->m) - (x->m < y->m);
  return order ? order : (int)x->b_scaling - (int)y->b_scaling;
}

/* After every shape, with the fastest of each, so that what ends the program early costs no more than the shape in hand. */
static void write_table(struct tuning *of) {
  enum { LINE_BYTES = 200 };
  if (!of->path) return;
  char error[TENSOR_ERROR_BYTES];
  char *table = claim(2 * of->table_count + 3, LINE_BYTES, "the table");
  qsort(of->table, (size_t)of->table_count, sizeof *of->table, compare_lines);
  size_t length = (size_t)sprintf(
      table, "finegemm plans 1\n# m n k, b's scaling, order, block_m, block_n, stages, cluster, us: cold, by finegemm %s\n",
      fg_version());
  for (int i = 0; i < of->table_count; i++) {
    const fg_tuned_plan *line = &of->table[i];
    const fg_plan *plan = &line->plan;
    if (i == 0 || strcmp(line->gpu.name, line[-1].gpu.name) != 0 || line->gpu.sms != line[-1].gpu.sms)
      length += (size_t)sprintf(table + length, "gpu %s %d %s\n", line->gpu.arch, line->gpu.sms, line->gpu.name);
    length += (size_t)sprintf(table + length, "%" PRId64 " %" PRId64 " %" PRId64 " %s %d %d %d %d %d %.3f\n", line->m, line->n,
                              line->k, scaling_name(line->b_scaling), (int)plan->order, plan->block_m, plan->block_n,
                              plan->stages, plan->cluster, line->us);
  }
  if (!replace_file(of->path, &(struct part){table, length}, 1, error)) fail(NOT_WRITTEN, "%s", error);
  release(table);
}

/* --- What is asked for */

static void add_shape(struct tuning *of, int64_t m, int64_t n, int64_t k) {
  m = fg_class_of_m(m);
  if (k % 16 != 0) fail(BAD_USAGE, "k is %" PRId64 "; it must be a multiple of 16, for rows to lie as level full wants them", k);
  for (int64_t i = 0; i < of->count; i++)
    if (of->list[i].m == m && of->list[i].n == n && of->list[i].k == k) return;
  if ((of->count & (of->count - 1)) == 0) { /* as large as the next power of two */
    struct tuned *larger = claim(of->count ? 2 * of->count : 1, sizeof *larger, "shapes");
    if (of->count) memcpy(larger, of->list, (size_t)of->count * sizeof *larger);
    release(of->list);
    of->list = larger;
  }
  of->list[of->count++] = (struct tuned){.m = m, .n = n, .k = k};
}

/* Every class of the ranges. */
static void add_classes(struct tuning *of, const struct range *ranges, int range_count, int64_t n, int64_t k) {
  for (int i = 0; i < range_count; i++)
    for (int64_t m = ranges[i].first; m <= ranges[i].last; m = fg_class_of_m(m) + 1) add_shape(of, m, n, k);
}

/* "64x2112x7168,..." */
static void add_listed(struct tuning *of, const char *list) {
  const char *items[MOST_ITEMS];
  int count = split_option("--shapes", list, items);
  for (int i = 0; i < count; i++) {
    const char *n = strchr(items[i], 'x'), *k = n ? strchr(n + 1, 'x') : NULL;
    if (!k) fail(BAD_USAGE, "--shapes is '%s'; it must be MxNxK, as 64x2112x7168", items[i]);
    int64_t m = number_option("--shapes", text("%.*s", (int)(n - items[i]), items[i]), 1, MOST_LISTED);
    add_shape(of, m, number_option("--shapes", text("%.*s", (int)(k - n - 1), n + 1), 1, MOST_LISTED),
              number_option("--shapes", k + 1, 1, MOST_LISTED));
  }
}

/* Experts are not multiplied one by one. */
static void add_matrices(struct tuning *of, const struct shapes *shapes, const char *m, const char *what) {
  struct range ranges[MOST_ITEMS];
  int range_count = ranges_option("--m", m, ranges);
  for (int64_t i = 0; i < shapes->count; i++)
    if (shapes->list[i].groups == 0) add_classes(of, ranges, range_count, shapes->list[i].n, shapes->list[i].k);
  if (of->count == 0) fail(BAD_INPUT, "%s: all of its matrices are experts', which level full does not multiply", what);
}

/* --- What came of it */

static json_t *json_trial(const struct trial *trial) {
  return json_pack("{so so}", "plan", json_plan(&trial->plan), "us", json_number(trial->median));
}

static json_t *json_tuned(const struct tuned *shape) {
  json_t *trials = json_array();
  for (int i = 0; i < shape->trial_count; i++) json_array_append_new(trials, json_trial(&shape->trials[i]));
  return json_pack("{sI sI sI so so so}", "m", shape->m, "n", shape->n, "k", shape->k, "best",
                   json_trial(&shape->trials[shape->best]), "own", json_trial(&shape->trials[0]), "tried", trials);
}

static void print(const struct tuning *of) {
  const char *const headings[] = {"m", "n", "k", "plan", "us", "own plan", "us", "gain", "tried"};
  struct table *table = table_begin("rrrlrlrrr", headings);
  for (int64_t i = 0; i < of->count; i++) {
    const struct tuned *shape = &of->list[i];
    const struct trial *best = &shape->trials[shape->best], *own = &shape->trials[0];
    table_cell(table, "%" PRId64, shape->m);
    table_cell(table, "%" PRId64, shape->n);
    table_cell(table, "%" PRId64, shape->k);
    table_cell(table, "%s", words_of(&best->plan));
    table_cell(table, "%.2f", best->median);
    table_cell(table, "%s", shape->best == 0 ? "the same" : words_of(&own->plan));
    table_cell(table, "%.2f", own->median);
    table_cell(table, "%.1f %%", 100 * (own->median / best->median - 1));
    table_cell(table, "%d", shape->trial_count);
  }
  printf("%s: cold, the median of %d\n\n", gpu_text(&of->gpu), of->rounds);
  table_print(table);
  if (of->path)
    printf("\n%s has %d plan%s; name its absolute path in FG_PLANS.\n", of->path, of->table_count,
           of->table_count == 1 ? "" : "s");
}

static void print_json(const struct tuning *of) {
  json_t *list = json_array();
  for (int64_t i = 0; i < of->count; i++) json_array_append_new(list, json_tuned(&of->list[i]));
  json_print(json_pack("{so ss si so so si}", "gpu", json_gpu(&of->gpu), "b_scaling", scaling_name(of->b_scaling), "rounds",
                       of->rounds, "shapes", list, "out", of->path ? json_text(of->path) : json_null(), "plans",
                       of->table_count));
}

static void open_gpu(struct tuning *of, const char *device, int threads) {
  fg_level level = FG_FULL;
  of->host = make_context(threads);
  if (threads > 0) omp_set_num_threads(threads);
  of->context = context_for(&level, device, of->host);
  require(fg_context_gpu(of->context, &of->gpu), "");
}

static enum outcome run(const struct command *command, int argc, const char **argv) {
  const char *config = NULL, *weights = NULL, *n = NULL, *k = NULL, *m = NULL, *listed = NULL, *out = NULL, *scaling = NULL;
  const char *most = NULL, *rounds = NULL, *within = NULL, *device = NULL, *threads = NULL;
  int json = 0;
  struct poptOption options[] = {
      OPTION_MATRICES(config, weights, n, k),
      {"m", '\0', POPT_ARG_STRING, &m, 0, "rows of A, of each class once (default: 1-512,1024,2048,4096,8192)", "M|M-M,..."},
      {"shapes", '\0', POPT_ARG_STRING, &listed, 0, "these, instead of all that", "MxNxK,..."},
      {"scaling-b", '\0', POPT_ARG_STRING, &scaling, 0, "scales of B (default: 128x128)", "128x128|1x128"},
      {"out", '\0', POPT_ARG_STRING, &out, 0, "the table; one that is there keeps what is not tuned anew (default: none)",
       "FILE"},
      {"most", '\0', POPT_ARG_STRING, &most, 0, "try at most N plans on a shape, the likeliest (default: 16)", "N"},
      {"rounds", '\0', POPT_ARG_STRING, &rounds, 0, "time each plan N times (default: 11)", "N"},
      {"within", '\0', POPT_ARG_STRING, &within, 0,
       "of plans within N per cent of the fastest, those of few kernels (default: 1)", "N"},
      OPTION_DEVICE(device),
      OPTION_THREADS(threads),
      OPTION_JSON(json),
      OPTIONS_END};
  parse(command, argc, argv, options, 0, 0, NULL);
  if ((config != NULL) + (weights != NULL) + (n || k) + (listed != NULL) != 1)
    fail(BAD_USAGE, "one of --shapes, --config, --weights, and --n with --k must say what is multiplied");
  if (!listed && !config && !weights && !(n && k))
    fail(BAD_USAGE, "--%s is missing; it goes with --%s", n ? "k" : "n", n ? "n" : "k");
  if (listed && m) fail(BAD_USAGE, "--m is '%s', but --shapes says what m is", m);
  struct tuning of = {.path = out,
                      .b_scaling = scaling_option("--scaling-b", scaling ? scaling : "128x128"),
                      .rounds = rounds ? (int)number_option("--rounds", rounds, 1, MOST_ROUNDS) : 11,
                      .most_tried = most ? (int)number_option("--most", most, 1, MOST_TRIED) : 16,
                      .within = (double)(within ? number_option("--within", within, 0, 100) : 1) / 100};
  if (of.b_scaling == FG_TENSOR) fail(BAD_USAGE, "--scaling-b is 'tensor'; level full takes 128x128 or 1x128");
  if (!m) m = "1-512,1024,2048,4096,8192";
  if (listed) {
    add_listed(&of, listed);
  } else {
    struct shapes shapes = config ? shapes_of_config(config) : weights ? shapes_of_weights(weights) : shapes_of_lists(n, k, 0);
    add_matrices(&of, &shapes, m, config ? config : weights);
  }
  char error[TENSOR_ERROR_BYTES];
  if (out && !replace_file_possible(out, error)) fail(NOT_WRITTEN, "--out: %s", error);
  read_table(&of);
  open_gpu(&of, device, threads_option(threads));
  for (int64_t i = 0; i < of.count; i++) {
    tune(&of, &of.list[i]);
    add_to_table(&of, &of.list[i]);
    write_table(&of);
  }
  choose_kernels(&of);
  for (int64_t i = 0; i < of.count; i++) add_to_table(&of, &of.list[i]);
  write_table(&of);
  if (json)
    print_json(&of);
  else
    print(&of);
  return DONE;
}

const struct command command_tune = {
    "tune", "--shapes MxNxK,... | --config config.json | --weights FILE | --n N,... --k K,... [OPTION...]",
    "Times plans of level full on this GPU, and writes a table of those that are fast and want few kernels",
    "\nTimes each alone, with cold caches, and compares their bits. docs/tuning.md tells of the table.", run};
