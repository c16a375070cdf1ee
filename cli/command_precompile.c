#include "cli.h"

#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

/* --- What is asked for */

struct pair {
  fg_type a, b;
};

static int types_option(const char *list, struct pair pairs[MOST_ITEMS]) {
  const char *items[MOST_ITEMS];
  int count = split_option("--types", list, items);
  for (int i = 0; i < count; i++) {
    const char *colon = strchr(items[i], ':');
    if (!colon) fail(BAD_USAGE, "--types is '%s'; it must be pairs of A's type and B's, as e4m3:e4m3,e5m2:e4m3", items[i]);
    pairs[i].a = fp8_option("--types", text("%.*s", (int)(colon - items[i]), items[i]));
    pairs[i].b = fp8_option("--types", colon + 1);
  }
  return count;
}

static int levels_option(const char *list, fg_level levels[MOST_ITEMS]) {
  const char *items[MOST_ITEMS];
  int count = split_option("--levels", list, items);
  for (int i = 0; i < count; i++) levels[i] = level_option("--levels", items[i]);
  return count;
}

/* --- Which kernels that takes */

struct job {
  fg_problem problem; /* one of those that want the kernel */
  fg_plan plan;
  fg_status status;
  char message[512];
  fg_kernel kernel;
  double ms;
};

struct jobs {
  struct job *list;
  int count;
  bool is_served[MOST_ITEMS];       /* a level: some problem */
  const char *unserved[MOST_ITEMS]; /* why another is not; NULL: there is none */
};

/* The kernel's constants: all else of a plan is for the launch. */
static bool is_same_kernel(const struct job *job, const fg_problem *problem, const fg_plan *plan) {
  return job->plan.level == plan->level && job->plan.order == plan->order && job->plan.block_m == plan->block_m &&
         job->plan.block_n == plan->block_n && job->plan.stages == plan->stages && job->plan.cluster == plan->cluster &&
         job->problem.a.type == problem->a.type && job->problem.b.type == problem->b.type && job->problem.kind == problem->kind;
}

/* `nth` of the levels that are asked for. What it does not serve needs no kernel of it. */
static void need(struct jobs *jobs, const fg_gpu *gpu, const fg_problem *problem, int nth) {
  fg_plan plan;
  fg_status status = fg_plan_make(gpu, problem, &plan);
  if (status == FG_UNSUPPORTED) {
    if (!jobs->unserved[nth]) jobs->unserved[nth] = text("%s", fg_message());
    return;
  }
  require(status, "");
  jobs->is_served[nth] = true;
  for (int i = 0; i < jobs->count; i++)
    if (is_same_kernel(&jobs->list[i], problem, &plan)) return;
  if ((jobs->count & (jobs->count - 1)) == 0) {
    struct job *larger = claim(jobs->count ? 2 * jobs->count : 1, sizeof *larger, "kernels");
    if (jobs->count) memcpy(larger, jobs->list, (size_t)jobs->count * sizeof *larger);
    release(jobs->list);
    jobs->list = larger;
  }
  jobs->list[jobs->count++] = (struct job){.problem = *problem, .plan = plan};
}

/* Every m up to 4096, and from there on 4096 of them for each time that it grows e-fold; the last one always. */
static int64_t next_m(int64_t m, int64_t last) {
  enum { EACH_UP_TO = 4096 };
  int64_t next = m + (m < EACH_UP_TO ? 1 : m / EACH_UP_TO);
  return m < last && next > last ? last : next;
}

/* With every `tokens` of the range; it is one of the problem's sizes. */
static void need_range(struct jobs *jobs, const fg_gpu *gpu, const struct range *range, const fg_problem *problem,
                       int64_t *tokens, int nth) {
  for (*tokens = range->first; *tokens <= range->last; *tokens = next_m(*tokens, range->last)) need(jobs, gpu, problem, nth);
}

/* A matrix is multiplied by rows of tokens; a stack of experts, by rows of each or by a mask. In its gradient tokens lie along K. */
static void need_shape(struct jobs *jobs, const fg_gpu *gpu, const struct shape *shape, const struct pair *types,
                       const fg_level *levels, int nth, const struct range *range) {
  fg_problem problem = {.n = shape->n,
                        .k = shape->k,
                        .groups = shape->groups,
                        .a = {.type = types->a, .scale_layout = FG_ROWS_CONTIGUOUS}, /* as kernels like it */
                        .b = {.type = types->b},
                        .level = levels[nth]};
  const fg_kind kinds[] = {shape->groups ? FG_GROUPED_ROWS : FG_DENSE, FG_MASKED};
  for (int i = 0; i < (shape->groups ? 2 : 1); i++) {
    problem.kind = kinds[i];
    need_range(jobs, gpu, range, &problem, &problem.m, nth);
  }
  problem.kind = shape->groups ? FG_GROUPED_K : FG_DENSE;
  problem.m = shape->n, problem.n = shape->k;
  need_range(jobs, gpu, range, &problem, &problem.k, nth);
}

/* --- Compiling */

static void compile(const fg_gpu *gpu, struct job *job) {
  double start = seconds_now();
  job->status = fg_precompile(gpu, &job->problem, &job->kernel);
  job->ms = 1e3 * (seconds_now() - start);
  if (job->status != FG_OK) snprintf(job->message, sizeof job->message, "%s", fg_message());
}

static void compile_all(const fg_gpu *gpu, struct jobs *jobs, int threads) {
  int done = 0;
  if (threads > 0) omp_set_num_threads(threads);
#pragma omp parallel for schedule(dynamic)
  for (int i = 0; i < jobs->count; i++) {
    compile(gpu, &jobs->list[i]);
#pragma omp critical
    progress("compiling", ++done, jobs->count);
  }
  progress_clear();
  for (int i = 0; i < jobs->count; i++)
    if (jobs->list[i].status != FG_OK) fail(REFUSED, "%s: %s", fg_status_name(jobs->list[i].status), jobs->list[i].message);
}

/* What was just compiled must be found compiled, else all was in vain. */
static void require_kept(const fg_gpu *gpu, const struct jobs *jobs) {
  for (int i = 0; i < jobs->count; i++) {
    fg_kernel again;
    if (jobs->list[i].kernel.was_cached) continue;
    if (fg_precompile(gpu, &jobs->list[i].problem, &again) == FG_OK && again.was_cached) continue;
    fg_finding cache = finding_named("cache");
    fail(NOT_WRITTEN, "the kernels compile, but the cache does not keep them: %s%s%s", cache.found, *cache.advice ? "; " : "",
         cache.advice);
  }
}

/* --- What came of it */

static const char *what_for(const struct shapes *shapes, const char *config, const char *weights) {
  const char *from = config ? config : weights;
  return text("%" PRId64 " shape%s%s%s", shapes->count, shapes->count == 1 ? "" : "s", from ? " of " : "", from ? from : "");
}

static void print(const struct jobs *jobs, const char *what, const char *m, const fg_gpu *gpu, double seconds) {
  const char *const headings[] = {"kernel", "defines", "registers", "bytes", "", "ms"};
  struct table *table = table_begin("llrrlr", headings);
  int64_t bytes = 0;
  int compiled = 0;
  for (int i = 0; i < jobs->count; i++) {
    const struct job *job = &jobs->list[i];
    table_cell(table, "%s", job->kernel.source);
    table_cell(table, "%s", job->kernel.defines);
    table_cell(table, "%s", job->kernel.registers < 0 ? "-" : text("%d", job->kernel.registers));
    table_cell(table, "%" PRId64, job->kernel.bytes);
    table_cell(table, "%s", job->kernel.was_cached ? "cached" : "compiled");
    table_cell(table, "%.1f", job->ms);
    bytes += job->kernel.bytes;
    compiled += !job->kernel.was_cached;
  }
  printf("%s, m %s, on %s\n\n", what, m, gpu_text(gpu));
  table_print(table);
  printf("\n%d kernel%s, %" PRId64 " bytes: %d compiled, %d cached, in %.3g s\n", jobs->count, jobs->count == 1 ? "" : "s", bytes,
         compiled, jobs->count - compiled, seconds);
}

static void print_json(const struct jobs *jobs, const struct shapes *shapes, const char *m, const fg_gpu *gpu, double seconds) {
  json_t *kernels = json_array(), *list = json_array();
  for (int64_t i = 0; i < shapes->count; i++) {
    const struct shape *shape = &shapes->list[i];
    json_array_append_new(list, json_pack("{so sI sI sI}", "name", *shape->name ? json_text(shape->name) : json_null(), "n",
                                          shape->n, "k", shape->k, "groups", shape->groups));
  }
  for (int i = 0; i < jobs->count; i++) {
    const struct job *job = &jobs->list[i];
    json_t *registers = job->kernel.registers < 0 ? json_null() : json_integer(job->kernel.registers);
    json_array_append_new(kernels, json_pack("{ss ss ss so sI sb sf}", "level", level_name(job->plan.level), "source",
                                             job->kernel.source, "defines", job->kernel.defines, "registers", registers, "bytes",
                                             job->kernel.bytes, "cached", job->kernel.was_cached, "ms", job->ms));
  }
  json_print(json_pack("{so so so so sf}", "gpu", json_gpu(gpu), "shapes", list, "m", json_text(m), "kernels", kernels, "seconds",
                       seconds));
}

static enum outcome run(const struct command *command, int argc, const char **argv) {
  const char *config = NULL, *weights = NULL, *n = NULL, *k = NULL, *groups_text = NULL, *m = NULL, *types = NULL;
  const char *levels_text = NULL, *threads_text = NULL;
  struct gpu_choice choice = {0};
  int json = 0;
  struct poptOption options[] = {
      OPTION_MATRICES(config, weights, n, k),
      {"groups", '\0', POPT_ARG_STRING, &groups_text, 0, "with --n and --k: there are G such B, of experts", "G"},
      {"m", '\0', POPT_ARG_STRING, &m, 0, "rows of A (default: 1-8192)", "M|M-M,..."},
      {"types", '\0', POPT_ARG_STRING, &types, 0, "FP8 types of A and B (default: e4m3 by e4m3, or by what the weights are)",
       "e4m3:e4m3,..."},
      {"levels", '\0', POPT_ARG_STRING, &levels_text, 0, "GPU levels (default: best, as where a program asks for none)",
       "shared,..."},
      OPTION_GPU(choice),
      OPTION_THREADS(threads_text),
      OPTION_JSON(json),
      OPTIONS_END};
  parse(command, argc, argv, options, 0, 0, NULL);
  if ((config != NULL) + (weights != NULL) + (n || k || groups_text) > 1)
    fail(BAD_USAGE, "more than one of --config, --weights, and --n with --k says which matrices; give one");
  if ((n && !k) || (groups_text && !k)) fail(BAD_USAGE, "--k is missing; it goes with --n");
  if (k && !n) fail(BAD_USAGE, "--n is missing; it goes with --k");
  if (!m) m = "1-8192";
  static const char any_size[] = "128,256,512,1024,2048,4096,8192,16384,32768";
  struct range ranges[MOST_ITEMS];
  struct pair pairs[MOST_ITEMS];
  fg_level levels[MOST_ITEMS];
  int range_count = ranges_option("--m", m, ranges), level_count = levels_option(levels_text ? levels_text : "best", levels);
  int pair_count = types_option(types ? types : weights ? "e4m3:e4m3,e4m3:e5m2" : "e4m3:e4m3", pairs);
  int64_t groups = groups_text ? number_option("--groups", groups_text, 1, MOST_LISTED) : 0;
  int threads = threads_option(threads_text);
  fg_gpu gpu = gpu_option(&choice);
  struct shapes shapes = config    ? shapes_of_config(config)
                         : weights ? shapes_of_weights(weights)
                                   : shapes_of_lists(n ? n : any_size, k ? k : any_size, groups);
  double start = seconds_now();
  struct jobs jobs = {0};
  for (int64_t s = 0; s < shapes.count; s++)
    for (int level = 0; level < level_count; level++)
      for (int pair = 0; pair < pair_count; pair++)
        for (int range = 0; range < range_count; range++)
          if (!shapes.list[s].b_type || shapes.list[s].b_type == pairs[pair].b)
            need_shape(&jobs, &gpu, &shapes.list[s], &pairs[pair], levels, level, &ranges[range]);
  for (int level = 0; level < level_count; level++)
    if (!jobs.is_served[level] && jobs.unserved[level])
      fail(REFUSED, "%s: %s", fg_status_name(FG_UNSUPPORTED), jobs.unserved[level]);
  if (!jobs.count) fail(BAD_USAGE, "--types is '%s', but %s holds no B of such a type", types, weights);
  compile_all(&gpu, &jobs, threads);
  double seconds = seconds_now() - start;
  require_kept(&gpu, &jobs);
  if (json)
    print_json(&jobs, &shapes, m, &gpu, seconds);
  else
    print(&jobs, what_for(&shapes, config, weights), m, &gpu, seconds);
  return DONE;
}

const struct command command_precompile = {
    "precompile", "[--config config.json | --weights FILE | --n N,... --k K,...] [OPTION...]",
    "Compiles the kernels that a model needs into the cache, without a GPU",
    "\nNeeds the run-time compiler, but neither GPU nor driver. Without --config, --weights and --n it takes many sizes.", run};
