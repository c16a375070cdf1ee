/* What level full chooses where nothing is wished: the model, held against what was measured; what it promises; tables of tuned plans. */
#include "choose.h"
#include "finegemm_kernels.h"
#include "source.h"
#include "tuned.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const fg_gpu h100 = {"NVIDIA H100 80GB HBM3", "sm_90a", 132, 232448};

struct shape {
  int64_t n, k;
};

/* What the model was fitted to, and some of other models. */
static const struct shape shapes[] = {{2112, 7168}, {576, 7168},   {24576, 1536}, {32768, 512}, {7168, 16384}, {4096, 7168},
                                      {7168, 2048}, {8192, 8192},  {1536, 7168},  {512, 4096},  {28672, 8192}, {8192, 28672},
                                      {1, 1},       {16, 1000000}, {1000000, 16}, {130, 130}};
enum { SHAPES = sizeof shapes / sizeof *shapes, MEASURED_SHAPES = 7 };

static fg_problem problem_of(int64_t m, struct shape shape) {
  return (fg_problem){.m = m, .n = shape.n, .k = shape.k, .level = FG_FULL};
}

static fg_plan plan_of(const fg_gpu *gpu, const fg_problem *problem) {
  fg_plan plan;
  memset(&plan, 0xAA, sizeof plan);
  cr_assert_eq(fg_plan_make(gpu, problem, &plan), FG_OK, "m %lld n %lld k %lld: %s", (long long)problem->m, (long long)problem->n,
               (long long)problem->k, fg_message());
  return plan;
}

/* The model's, on an H100: a limit of all multiprocessors is none, but tables are for problems without one. */
static fg_plan plan_of_model(int64_t m, struct shape shape) {
  fg_problem problem = problem_of(m, shape);
  problem.sm_limit = h100.sms;
  return plan_of(&h100, &problem);
}

static bool is_same(const fg_plan *x, const fg_plan *y) {
  return x->level == y->level && x->order == y->order && x->block_m == y->block_m && x->block_n == y->block_n &&
         x->stages == y->stages && x->threads == y->threads && x->blocks == y->blocks && x->cluster == y->cluster &&
         x->split_k == y->split_k && x->shared_bytes == y->shared_bytes && x->tiles == y->tiles;
}

/* As the model has it, whose problems have all defaults filled in. */
static double model_us(const fg_gpu *gpu, const fg_problem *problem, const fg_plan *plan) {
  fg_problem full = *problem;
  full.b.scaling = FG_128X128, full.d.type = FG_BF16;
  return fg_model_us(gpu, &full, plan);
}

/* --- The model against the record */

enum { MOST_MEASURED = 4000 };
struct measured {
  int64_t m;
  struct shape shape;
  fg_plan plan;
  double us;
};

static struct measured record[MOST_MEASURED];
static int record_count;

static void read_record(void) {
  char line[200];
  FILE *file = fopen(FG_FULL_TIMES, "r");
  cr_assert(file, "%s", FG_FULL_TIMES);
  for (record_count = 0; fgets(line, sizeof line, file);) {
    long long m, n, k;
    struct measured *of = &record[record_count];
    int order;
    *of = (struct measured){.plan.level = FG_FULL};
    if (line[0] == '#') continue;
    cr_assert(record_count < MOST_MEASURED - 1);
    cr_assert_eq(sscanf(line, "%lld %lld %lld %d %d %d %d %d %lf", &m, &n, &k, &order, &of->plan.block_m, &of->plan.block_n,
                        &of->plan.stages, &of->plan.cluster, &of->us),
                 9, "%s", line);
    of->m = m, of->shape = (struct shape){n, k}, of->plan.order = (fg_order)order;
    record_count++;
  }
  fclose(file);
  cr_assert_gt(record_count, 3400);
}

static bool is_problem(const struct measured *of, int64_t m, struct shape shape) {
  return of->m == m && of->shape.n == shape.n && of->shape.k == shape.k;
}

static double best_measured(int64_t m, struct shape shape) {
  double best = INFINITY;
  for (int i = 0; i < record_count; i++)
    if (is_problem(&record[i], m, shape)) best = fmin(best, record[i].us);
  return best;
}

/* NAN: it was not. */
static double measured_us(int64_t m, struct shape shape, const fg_plan *plan) {
  for (int i = 0; i < record_count; i++) {
    const fg_plan *of = &record[i].plan;
    if (is_problem(&record[i], m, shape) && of->order == plan->order && of->block_m == plan->block_m &&
        of->block_n == plan->block_n && of->cluster == plan->cluster && of->stages == plan->stages)
      return record[i].us;
  }
  return (double)NAN;
}

static double root_mean(double squares, int count) { return sqrt(squares / count); }

/* Of what comes near the best of a shape, for which alone the model is there; more coarsely, of what takes less than twice that; and what
 * takes longer is no temptation. The bounds are what comes out for this record and these constants, rounded up: whoever changes either sees
 * whether the model has become worse. */
Test(choose, model_is_near_what_was_measured, .init = read_record) {
  double squares = 0, far_squares = 0, worst = 0, far_worst = 0, least_slow = INFINITY;
  int near = 0, far = 0;
  for (int i = 0; i < record_count; i++) {
    fg_problem problem = problem_of(record[i].m, record[i].shape);
    double us = model_us(&h100, &problem, &record[i].plan), error = fabs(log(us / record[i].us));
    double best = best_measured(record[i].m, record[i].shape);
    const fg_plan *plan = &record[i].plan;
    bool is_narrow = plan->order == FG_A_BY_B && plan->block_m == 128 && plan->block_n <= 64; /* of which it sees too little */
    if (record[i].us < 1.3 * best) {
      cr_expect(error <= 0.2, "m %lld n %lld k %lld, order %d, %d x %d, cluster %d: %g us, measured %g", (long long)record[i].m,
                (long long)record[i].shape.n, (long long)record[i].shape.k, record[i].plan.order, record[i].plan.block_m,
                record[i].plan.block_n, record[i].plan.cluster, us, record[i].us);
      squares += error * error, worst = fmax(worst, error), near++;
    } else if (record[i].us < 2 * best) {
      cr_expect(error <= (is_narrow ? 0.475 : 0.36));
      if (!is_narrow) far_squares += error * error, far_worst = fmax(far_worst, error), far++;
    } else {
      cr_expect(us >= 1.31 * best, "%g", us / best);
      least_slow = fmin(least_slow, us / best);
    }
  }
  cr_log_info(
      "near the best: %d, root of the mean square of log %.4f, worst %.3f; below twice that: %d, %.4f, %.3f; others: from %.2f "
      "of the best on",
      near, root_mean(squares, near), worst, far, root_mean(far_squares, far), far_worst, least_slow);
  cr_expect(near > 2500 && root_mean(squares, near) <= 0.0505, "%d, %g", near, root_mean(squares, near));
  cr_expect(far > 700 && root_mean(far_squares, far) <= 0.0985, "%d, %g", far, root_mean(far_squares, far));
}

/* Of every shape that was measured, by the model and by the library's table. */
Test(choose, what_is_chosen_was_measured_nearly_best, .init = read_record) {
  double logs = 0, worst = 1, worst_tuned = 1;
  int count = 0;
  for (int i = 0; i < record_count; i++) {
    int64_t m = record[i].m;
    struct shape shape = record[i].shape;
    if (i > 0 && is_problem(&record[i - 1], m, shape)) continue;
    fg_problem problem = problem_of(m, shape);
    fg_plan plan = plan_of_model(m, shape), tuned = plan_of(&h100, &problem);
    double best = best_measured(m, shape), regret = measured_us(m, shape, &plan) / best;
    double regret_tuned = measured_us(m, shape, &tuned) / best;
    cr_log_info("m %lld n %lld k %lld: order %d, %d x %d, cluster %d: %.3f of the best; tuned: %.3f", (long long)m,
                (long long)shape.n, (long long)shape.k, plan.order, plan.block_m, plan.block_n, plan.cluster, regret,
                regret_tuned);
    cr_expect(regret <= 1.085, "m %lld n %lld k %lld: order %d, %d x %d, cluster %d: %g of the best", (long long)m,
              (long long)shape.n, (long long)shape.k, plan.order, plan.block_m, plan.block_n, plan.cluster, regret);
    cr_expect(regret_tuned <= 1.006, "m %lld n %lld k %lld: %g of the best by the table", (long long)m, (long long)shape.n,
              (long long)shape.k, regret_tuned);
    worst = fmax(worst, regret), worst_tuned = fmax(worst_tuned, regret_tuned);
    logs += log(regret), count++;
  }
  cr_log_info("%d shapes: %.4f in the mean, %.3f at worst; tuned: %.3f at worst", count, exp(logs / count), worst, worst_tuned);
  cr_expect(count == 143 && exp(logs / count) <= 1.0095, "%d, %g in the mean", count, exp(logs / count));
}

/* --- Plans */

Test(choose, plans_are_pure_and_fit) {
  static const int64_t ms[] = {0,   1,   7,   8,   9,   16,   31,   32,   33,   63,   64,   65,   128,   129,     192,
                               256, 257, 511, 512, 513, 1024, 1025, 2047, 4096, 4097, 8192, 9000, 65536, 1000000, 2147482624};
  int gpus, seen = 0;
  const fg_gpu *known = fg_known_gpus(&gpus);
  for (int g = 0; g < gpus; g++) {
    if (strcmp(known[g].arch, "sm_90a") != 0) continue;
    for (int s = 0; s < SHAPES; s++)
      for (size_t i = 0; i < sizeof ms / sizeof *ms; i++)
        for (int scaling = FG_1X128; scaling <= FG_128X128; scaling++) {
          fg_problem problem = problem_of(ms[i], shapes[s]);
          problem.b.scaling = (fg_scaling)scaling;
          fg_plan plan, again;
          if (fg_plan_make(&known[g], &problem, &plan) == FG_UNSUPPORTED) {
            cr_assert(strstr(fg_message(), "2^31 - 1 tiles"), "%s", fg_message());
            continue;
          }
          plan = plan_of(&known[g], &problem), again = plan_of(&known[g], &problem);
          cr_assert(is_same(&plan, &again));
          cr_assert(plan.shared_bytes <= known[g].shared_bytes && plan.stages >= 3, "%d stages", plan.stages);
          cr_assert(plan.blocks <= known[g].sms && plan.blocks % plan.cluster == 0);
          cr_assert_eq(plan.split_k, plan.order == FG_B_BY_A ? plan.cluster : 1);
          problem.plan = &plan; /* as a wish it is what it was */
          again = plan_of(&known[g], &problem);
          cr_assert(is_same(&plan, &again));
          seen++;
        }
  }
  cr_assert_gt(seen, 4000, "%d", seen);
}

enum { SIZES = 15, KINDS = 128 * 3, QUESTIONS = SIZES * KINDS };

/* Questions of SIZES sizes, and of each of KINDS kinds, bits and then a GPU. */
static fg_plan answer(int at, const struct fg_tuned *own) {
  static const fg_gpu gpus[] = {{"NVIDIA H100 80GB HBM3", "sm_90a", 132, 232448},
                                {"NVIDIA H200", "sm_90a", 132, 232448},
                                {"NVIDIA H200", "sm_90a", 66, 232448}};
  int size = at % SIZES, kind = at / SIZES;
  fg_problem problem = problem_of(1 + size % 5 * 60, shapes[size / 5]);
  problem.b.scaling = kind & 1 ? FG_1X128 : FG_128X128, problem.d.type = kind & 2 ? FG_FP32 : FG_BF16;
  problem.flags = kind & 4 ? FG_NO_SPLIT_K : 0, problem.sm_limit = kind & 8 ? 60 : 0, problem.split_k = kind & 16 ? 3 : 0;
  fg_plan plan = {.level = FG_FULL, .block_n = kind & 32 ? 64 : 0, .order = kind & 64 ? FG_A_BY_B : 0};
  fg_choose(&gpus[kind / 128], &problem, own, &plan);
  return plan;
}

static fg_plan first_answers[QUESTIONS];

static void *ask_first(void *at) {
  first_answers[*(int *)at] = answer(*(int *)at, NULL);
  return NULL;
}

/* Each question is asked by a thread of its own, which remembers nothing; then by one after each that differs from it in one bit, in the
 * GPU or in the table. */
Test(choose, what_was_chosen_before_does_not_show) {
  char path[] = "/var/tmp/finegemm-choose-XXXXXX";
  static const char text[] = "finegemm plans 1\ngpu sm_90a 132 H100\n8 2112 7168 128x128 2 8 64 9 3 15\n";
  int file = mkstemp(path);
  cr_assert(file >= 0 && write(file, text, sizeof text - 1) == (ssize_t)sizeof text - 1 && close(file) == 0);
  struct fg_tuned *own;
  cr_assert_eq(fg_tuned_load(path, &own), FG_OK, "%s", fg_message());
  int differ = 0;
  for (int at = 0; at < QUESTIONS; at++) {
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, ask_first, &at), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
  }
  for (int at = 0; at < QUESTIONS; at++) {
    for (int other = 0; other < 9; other++) {
      int before = other < 7 ? at % SIZES + SIZES * (at / SIZES ^ 1 << other) : (at + (other - 6) * 128 * SIZES) % QUESTIONS;
      fg_plan first = answer(before, NULL), plan = answer(at, NULL);
      cr_assert(is_same(&first, &first_answers[before]) && is_same(&plan, &first_answers[at]), "question %d after %d", at,
                before);
    }
    fg_plan tuned = answer(at, own), plan = answer(at, NULL);
    cr_assert(is_same(&plan, &first_answers[at]), "question %d after another table's", at);
    differ += !is_same(&tuned, &plan);
  }
  cr_expect_gt(differ, 0);
  fg_tuned_free(own);
  cr_expect_eq(unlink(path), 0);
}

/* What is on its way from memory is bounded, if not by fewer stages than four. */
Test(choose, few_rows_have_short_rings) {
  int bounded = 0;
  for (int s = 0; s < SHAPES; s++)
    for (int64_t m = 1; m <= 128; m++) {
      fg_plan plan = plan_of_model(m, shapes[s]);
      int bytes = (plan.block_m + plan.block_n) * 128;
      if (plan.order != FG_B_BY_A) continue;
      cr_expect(plan.stages <= 4 || plan.stages * bytes <= 96 * 1024, "%d x %d: %d stages", plan.block_m, plan.block_n,
                plan.stages);
      bounded += (plan.stages + 1) * bytes > 96 * 1024;
    }
  cr_expect_gt(bounded, 0);
}

/* Bits are of a split, a split is of a plan: neither may change within a class. */
Test(choose, m_counts_by_its_class_alone) {
  int64_t classes = 0, last = 0;
  for (int64_t m = 1; m <= 20000; m++) {
    int64_t largest = fg_class_of_m(m);
    cr_assert(largest >= m && fg_class_of_m(largest) == largest && largest >= last, "%lld", (long long)m);
    cr_assert(m <= 32 || largest - m < 64 || largest - m <= m / 8, "%lld: %lld", (long long)m, (long long)largest);
    classes += largest != last;
    last = largest;
    if (largest == m) continue;
    for (int s = 0; s < SHAPES; s += 3) {
      fg_problem problem = problem_of(m, shapes[s]), of_class = problem_of(largest, shapes[s]);
      fg_plan plan = plan_of(&h100, &problem), expected = plan_of(&h100, &of_class);
      cr_assert(plan.order == expected.order && plan.block_m == expected.block_m && plan.block_n == expected.block_n &&
                plan.stages == expected.stages && plan.cluster == expected.cluster && plan.split_k == expected.split_k);
    }
  }
  cr_assert_lt(classes, 60);
}

/* By the model's own times. What a tile cannot divide is a step: most of all where one row more wants every multiprocessor twice. */
Test(choose, a_row_more_costs_little) {
  double worst = 0;
  for (int s = 0; s < 12; s++) {
    double before = 0;
    for (int64_t m = 1; m <= 512; m++) {
      fg_problem problem = problem_of(m, shapes[s]);
      fg_plan plan = plan_of_model(m, shapes[s]);
      double us = model_us(&h100, &problem, &plan);
      cr_assert(us > 6 && isfinite(us));
      if (m > 1) worst = fmax(worst, us / before);
      cr_expect(m == 1 || us <= 1.325 * before, "n %lld k %lld: %g us at m %lld, %g before", (long long)shapes[s].n,
                (long long)shapes[s].k, us, (long long)m, before);
      before = us;
    }
  }
  cr_log_info("the largest step is %.3f", worst);
}

/* A kernel is a tile, a ring and a cluster. */
static int count_kernels(bool tables_too) {
  enum { MOST_KERNELS = 80 };
  fg_plan kernels[MOST_KERNELS];
  int count = 0;
  for (int s = 0; s < MEASURED_SHAPES; s++) {
    for (int64_t m = 1; m <= 8192; m = m < 64 ? m + 1 : fg_class_of_m(m + 1)) {
      fg_problem problem = problem_of(m, shapes[s]);
      fg_plan plan = tables_too ? plan_of(&h100, &problem) : plan_of_model(m, shapes[s]);
      int i = 0;
      while (i < count &&
             !(kernels[i].order == plan.order && kernels[i].block_m == plan.block_m && kernels[i].block_n == plan.block_n &&
               kernels[i].stages == plan.stages && kernels[i].cluster == plan.cluster))
        i++;
      cr_assert_lt(i, MOST_KERNELS);
      if (i == count) kernels[count++] = plan;
    }
  }
  return count;
}

Test(choose, few_kernels_are_wanted) {
  int count = count_kernels(false), with_tables = count_kernels(true);
  cr_log_info("%d kernels for %d shapes, m 1 to 8192; with the library's tables %d", count, MEASURED_SHAPES, with_tables);
  cr_expect_leq(count, 14);
  cr_expect_leq(with_tables, 26);
}

Test(choose, split_is_as_demanded) {
  for (int s = 0; s < SHAPES; s++)
    for (int64_t m = 1; m <= 8192; m *= 2) {
      fg_problem problem = problem_of(m, shapes[s]);
      problem.flags = FG_NO_SPLIT_K;
      cr_assert_eq(plan_of(&h100, &problem).split_k, 1);
      problem.flags = 0;
      for (problem.split_k = 1; problem.split_k <= 8; problem.split_k++) {
        fg_plan plan = plan_of(&h100, &problem);
        cr_assert_eq(plan.split_k, problem.split_k);
        cr_assert(problem.split_k == 1 || (plan.order == FG_B_BY_A && plan.cluster == problem.split_k));
      }
      fg_plan plan;
      cr_assert_neq(fg_plan_make(&h100, &problem, &plan), FG_OK); /* 9 */
    }
}

Test(choose, sm_limit_bounds_the_blocks) {
  for (int s = 0; s < SHAPES; s++)
    for (int64_t m = 1; m <= 8192; m *= 4) {
      fg_problem problem = problem_of(m, shapes[s]);
      for (problem.sm_limit = 1; problem.sm_limit <= 200; problem.sm_limit = problem.sm_limit * 3 / 2 + 1) {
        fg_plan plan = plan_of(&h100, &problem);
        cr_assert(plan.blocks >= 1 && plan.blocks <= problem.sm_limit && plan.blocks <= h100.sms, "%d", plan.blocks);
      }
    }
}

/* Each alone and with each other. */
Test(choose, wishes_hold) {
  static const int block_ms[] = {0, 8, 16, 24, 64, 96, 128, 256}, block_ns[] = {0, 64, 96, 128, 144, 192, 256};
  int made = 0;
  for (int s = 0; s < MEASURED_SHAPES; s++)
    for (int64_t m = 1; m <= 4096; m *= 16)
      for (int i = 0; i < 8; i++)
        for (int j = 0; j < 7; j++)
          for (int cluster = 0; cluster <= 8; cluster++)
            for (int order = 0; order <= 2; order++) {
              fg_plan plan, wish = {.order = (fg_order)order, .block_m = block_ms[i], .block_n = block_ns[j], .cluster = cluster};
              fg_problem problem = problem_of(m, shapes[s]);
              problem.plan = &wish;
              fg_status status = fg_plan_make(&h100, &problem, &plan);
              bool alone = (wish.block_m != 0) + (wish.block_n != 0) + (cluster != 0) + (order != 0) <= 1;
              cr_assert(status == FG_OK || (status == FG_BAD_PLAN && !alone), "%d x %d, cluster %d, order %d: %s", wish.block_m,
                        wish.block_n, cluster, order, fg_message());
              if (status != FG_OK) continue;
              cr_assert((!order || plan.order == wish.order) && (!wish.block_m || plan.block_m == wish.block_m) &&
                        (!wish.block_n || plan.block_n == wish.block_n) && (!cluster || plan.cluster == cluster));
              made++;
            }
  cr_assert_gt(made, 5000, "%d", made);
}

Test(choose, candidates_are_plans) {
  fg_plan plans[FG_MOST_CANDIDATES];
  for (int s = 0; s < SHAPES; s++)
    for (int64_t m = 1; m <= 8192; m *= 2) {
      fg_problem problem = problem_of(m, shapes[s]);
      int count;
      cr_assert_eq(fg_plan_candidates(&h100, &problem, plans, FG_MOST_CANDIDATES, &count), FG_OK, "%s", fg_message());
      fg_plan own = plan_of(&h100, &problem);
      cr_assert(count > 10 && count <= FG_MOST_CANDIDATES && is_same(&plans[0], &own), "%d", count);
      double before = 0;
      for (int i = 0; i < count; i++) {
        problem.plan = &plans[i];
        fg_plan again = plan_of(&h100, &problem);
        cr_assert(is_same(&plans[i], &again));
        for (int j = 0; j < i; j++) cr_assert(!is_same(&plans[i], &plans[j]));
        fg_problem of_class = problem_of(fg_class_of_m(m), shapes[s]);
        double us = model_us(&h100, &of_class, &plans[i]);
        cr_assert(i < 2 || us >= before, "%d: %g after %g", i, us, before);
        if (i > 0) before = us;
      }
      problem.plan = NULL;
      int few;
      cr_assert_eq(fg_plan_candidates(&h100, &problem, NULL, 0, &few), FG_OK);
      cr_assert_eq(few, count);
    }
}

/* --- Tables */

static const char head[] = "finegemm plans 1\n";
static const char gpu_line[] = "gpu sm_90a 132 NVIDIA H100 80GB HBM3\n";

static struct fg_tuned *table_of(const char *text, char why[FG_TUNED_WHY_BYTES]) {
  static fg_tuned_plan plans[8];
  static struct fg_tuned table;
  table = (struct fg_tuned){.capacity = 8, .plans = plans};
  return fg_tuned_parse(text, strlen(text), &table, why) ? &table : NULL;
}

static const char good[] = "finegemm plans 1\n"
                           "# a remark\n"
                           "\n"
                           "gpu sm_90a 132 H100\n"
                           "64 2112 7168 128x128 2 64 64 9 3 15.44\n"
                           "8 2112 7168 128x128 2 8 256 5 4 12.58\n"
                           "4096 2112 7168 128x128 1 128 192 3 1 119\n"
                           "gpu sm_90a 78 NVIDIA H20\n"
                           "64 2112 7168 128x128 2 64 128 5 2 31.5\n"
                           "64 2112 7168 1x128 2 64 128 4 1 32\n";

Test(tuned, plans_come_before_the_model) {
  char why[FG_TUNED_WHY_BYTES];
  struct fg_tuned *table = table_of(good, why);
  cr_assert(table, "%s", why);
  cr_assert_eq(table->count, 5);
  fg_problem problem = {.m = 64, .n = 2112, .k = 7168, .b.scaling = FG_128X128, .d.type = FG_BF16, .level = FG_FULL};
  const fg_gpu h100_sxm = fg_known_gpus(NULL)[0], h20 = {"NVIDIA H20", "sm_90a", 78, 232448};
  fg_plan plan = {0};
  for (problem.m = 33; problem.m <= 64; problem.m++) {
    plan = (fg_plan){.level = FG_FULL};
    fg_choose(problem.m % 2 ? &h100 : &h100_sxm, &problem, table, &plan);
    cr_assert(plan.order == FG_B_BY_A && plan.block_m == 64 && plan.block_n == 64 && plan.stages == 9 && plan.cluster == 3 &&
              plan.split_k == 3);
  }
  problem.m = 40, plan = (fg_plan){.level = FG_FULL};
  fg_choose(&h20, &problem, table, &plan);
  cr_assert(plan.block_n == 128 && plan.stages == 5 && plan.cluster == 2);
  problem.b.scaling = FG_1X128, plan = (fg_plan){.level = FG_FULL};
  fg_choose(&h20, &problem, table, &plan);
  cr_assert(plan.stages == 4 && plan.cluster == 1);
  problem.m = 4095, problem.b.scaling = FG_128X128, plan = (fg_plan){.level = FG_FULL};
  fg_choose(&h100, &problem, table, &plan);
  cr_assert(plan.order == FG_A_BY_B && plan.block_n == 192 && plan.stages == 3 && plan.split_k == 1);
}

/* Another GPU, shape, class, scaling, split, limit or wish: the plan is the one without a table. */
Test(tuned, plans_are_for_what_they_say) {
  char why[FG_TUNED_WHY_BYTES];
  struct fg_tuned *table = table_of(good, why);
  cr_assert(table, "%s", why);
  const fg_problem base = {.m = 64, .n = 2112, .k = 7168, .b.scaling = FG_128X128, .d.type = FG_BF16, .level = FG_FULL};
  const fg_gpu other_name = {"NVIDIA H200", "sm_90a", 132, 232448}, other_sms = {"NVIDIA H100 PCIe", "sm_90a", 114, 232448};
  fg_problem changed[10];
  for (int i = 0; i < 10; i++) changed[i] = base;
  changed[0].m = 65, changed[1].m = 32, changed[2].n = 2113, changed[3].k = 7169, changed[4].b.scaling = FG_1X128;
  changed[5].flags = FG_NO_SPLIT_K, changed[6].split_k = 2, changed[7].sm_limit = 131;
  const fg_plan wishes[10] = {[8] = {.block_n = 128}, [9] = {.stages = 4, .block_n = 64}};
  for (int i = 0; i < 12; i++) {
    const fg_gpu *gpu = i == 10 ? &other_name : i == 11 ? &other_sms : &h100;
    const fg_problem *problem = i < 10 ? &changed[i] : &base;
    fg_plan with = i < 10 ? wishes[i] : (fg_plan){0}, without = with;
    fg_choose(gpu, problem, table, &with);
    fg_choose(gpu, problem, NULL, &without);
    cr_expect(is_same(&with, &without), "%d: %d x %d, cluster %d", i, with.block_m, with.block_n, with.cluster);
    cr_expect_neq(with.stages, 9, "%d", i);
  }
}

Test(tuned, what_is_no_table_is_refused) {
  static const struct {
    const char *text, *says;
  } bad[] = {
      {"", "line 1: it must be 'finegemm plans 1'"},
      {"finegemm plans 2\n", "line 1: it must be 'finegemm plans 1'"},
      {"finegemm plans 1", "line 1: it must be"},
      {"#x", "line 2: the last line does not end"},
      {"64 2112 7168 128x128 2 64 128 7 2 14\n", "line 2: a plan stands before any line"},
      {"gpu sm_80 132 A100\n", "line 2: gpu must be of sm_90a"},
      {"gpu sm_90a 0 H100\n", "line 2: multiprocessors begins with 0; it must be from 1"},
      {"gpu sm_90a 132 \n", "line 2: the GPU's name must have from 1 to 63 bytes"},
      {"gpu sm_90a 132\n", "line 2: one blank must stand before the GPU's name"},
      {"gpu sm_90a 132 H\t1\n", "not printable"},
      {"gpu sm_90a 132 0123456789012345678901234567890123456789012345678901234567890123\n", "from 1 to 63 bytes"},
      {"G64 2112 7168 128x128 2 64 128 7 2 14 \n", "line 3: something follows where the line must end"},
      {"G64  2112 7168 128x128 2 64 128 7 2 14\n", "line 3: n is missing"},
      {"G64 2112 7168 128x128 2 64 128 7 2\n", "line 3: one blank must stand before us"},
      {"G64 2112 7168 128x128 2 64 128 7 2 14.\n", "line 3: us has a point and no decimals"},
      {"G64 2112 7168 128x128 2 64 128 7 2 14.1234\n", "line 3: something follows"},
      {"G64 2112 7168 128x128 2 64 128 7 2 -1\n", "line 3: us is missing"},
      {"G64 2112 7168 64x64 2 64 128 7 2 14\n", "line 3: b's scaling must be"},
      {"G0 2112 7168 128x128 2 64 128 7 2 14\n", "line 3: m begins with 0"},
      {"G63 2112 7168 128x128 2 64 128 7 2 14\n",
       "line 3: m is 63; plans are for classes of m, of which that one's largest is 64"},
      {"G64 99999999999999999999999 7168 128x128 2 64 128 7 2 14\n", "line 3: n begins with 9999999999; it must be from 1"},
      {"G64 2112 7168 128x128 3 64 128 7 2 14\n", "line 3: order begins with 3"},
      {"G64 2112 7168 128x128 2 63 128 7 2 14\n", "line 3: plan.block_m is 63"},
      {"G64 2112 7168 128x128 2 64 128 20 2 14\n", "line 3: plan.stages is 20"},
      {"G64 2112 7168 128x128 1 128 128 4 3 14\n", "line 3: plan.cluster is 3"},
      {"G64 2112 7168 128x128 2 64 128 7 2 14\n64 2112 7168 128x128 2 64 128 6 2 14\n", "there are two plans for m 64, n 2112"},
      {"G8 1 1 128x128 2 8 64 4 1 1\n8 2 1 128x128 2 8 64 4 1 1\n8 3 1 128x128 2 8 64 4 1 1\n8 4 1 128x128 2 8 64 4 1 1\n"
       "8 5 1 128x128 2 8 64 4 1 1\n8 6 1 128x128 2 8 64 4 1 1\n8 7 1 128x128 2 8 64 4 1 1\n8 8 1 128x128 2 8 64 4 1 1\n"
       "8 9 1 128x128 2 8 64 4 1 1\n",
       "line 11: it is one plan more than the 8"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char text[1000], why[FG_TUNED_WHY_BYTES] = "";
    const char *body = bad[i].text;
    if (strncmp(body, "finegemm", 8) == 0 || !*body)
      snprintf(text, sizeof text, "%s", body);
    else
      snprintf(text, sizeof text, "%s%s%s", head, *body == 'G' ? gpu_line : "", *body == 'G' ? body + 1 : body);
    cr_expect(!table_of(text, why), "%s", text);
    cr_expect(strstr(why, bad[i].says), "%s: %s, but it must say %s", text, why, bad[i].says);
  }
}

/* What stops anywhere is no table, but for whole lines of one; and a zero byte ends none. */
Test(tuned, every_beginning_is_refused_or_a_table) {
  char why[FG_TUNED_WHY_BYTES];
  for (size_t bytes = 0; bytes < sizeof good; bytes++) {
    fg_tuned_plan plans[8];
    struct fg_tuned table = {.capacity = 8, .plans = plans};
    char *copy = malloc(bytes ? bytes : 1); /* no byte more, as a sanitizer sees */
    memcpy(copy, good, bytes);
    bool is_table = fg_tuned_parse(copy, bytes, &table, why);
    cr_expect_eq(is_table, bytes >= strlen(head) && bytes < sizeof good && good[bytes - 1] == '\n', "%zu bytes: %s", bytes, why);
    free(copy);
  }
}

extern const struct fg_source fg_embedded_plans[];

Test(tuned, those_that_are_shipped_are_tables) {
  static fg_tuned_plan plans[4096];
  struct fg_tuned table = {.capacity = 4096, .plans = plans};
  char why[FG_TUNED_WHY_BYTES];
  for (const struct fg_source *text = fg_embedded_plans; text->name; text++)
    cr_expect(fg_tuned_parse(text->text, strlen(text->text), &table, why), "%s: %s", text->name, why);
  cr_expect_eq(fg_tuned_shipped()->count, table.count);
  cr_expect_geq(table.count, 2 * 143); /* an H100's and an H200's */
}

Test(tuned, those_that_are_shipped_are_taken) {
  const struct fg_tuned *table = fg_tuned_shipped();
  for (int i = 0; i < table->count; i++) {
    const fg_tuned_plan *tuned = &table->plans[i];
    fg_problem problem = problem_of(tuned->m, (struct shape){tuned->n, tuned->k});
    fg_gpu gpu = tuned->gpu;
    problem.b.scaling = tuned->b_scaling;
    snprintf(gpu.name, sizeof gpu.name, "NVIDIA %.40s X", tuned->gpu.name);
    fg_plan plan = plan_of(&gpu, &problem);
    cr_expect(plan.order == tuned->plan.order && plan.block_m == tuned->plan.block_m && plan.block_n == tuned->plan.block_n &&
                  plan.stages == tuned->plan.stages && plan.cluster == tuned->plan.cluster,
              "m %lld n %lld k %lld", (long long)tuned->m, (long long)tuned->n, (long long)tuned->k);
  }
}

/* What the table has of the class after that of `before`, for the same GPU; NULL: nothing. */
static const fg_tuned_plan *next_class(const struct fg_tuned *table, const fg_tuned_plan *before) {
  for (int i = 0; i < table->count; i++) {
    const fg_tuned_plan *at = &table->plans[i];
    if (at->n == before->n && at->k == before->k && at->m == fg_class_of_m(before->m + 1) && at->b_scaling == before->b_scaling &&
        strcmp(at->gpu.name, before->gpu.name) == 0)
      return at;
  }
  return NULL;
}

/* The worst is 256 rows and one more of 7168 x 16384 on an H200: 128 tiles of 128 x 112 become 123 of 128 x 176. */
Test(tuned, a_row_more_costs_little_in_those_that_are_shipped) {
  const struct fg_tuned *table = fg_tuned_shipped();
  double worst = 0;
  int count = 0;
  for (int i = 0; i < table->count; i++) {
    const fg_tuned_plan *before = &table->plans[i], *after = next_class(table, before);
    if (!after) continue;
    cr_expect(after->us <= 1.35 * before->us, "%s, n %lld k %lld: %g us at m %lld, %g before", after->gpu.name,
              (long long)after->n, (long long)after->k, after->us, (long long)after->m, before->us);
    worst = fmax(worst, after->us / before->us), count++;
  }
  cr_log_info("%d steps, the largest is %.3f", count, worst);
  cr_expect_geq(count, 126);
}

/* --- The functions themselves */

Test(choose, functions_refuse_in_a_sentence) {
  fg_problem problem = problem_of(5, shapes[0]), bad = problem;
  fg_plan plan = {.stages = 77}, wish = {.block_m = 7};
  fg_context *host;
  double us = -1;
  int count = -1;
  cr_assert_eq(fg_context_create(&host, NULL), FG_OK);
  cr_expect_eq(fg_context_plan(NULL, &problem, &plan), FG_NULL_POINTER);
  cr_expect_eq(fg_context_plan(host, NULL, &plan), FG_NULL_POINTER);
  cr_expect_eq(fg_context_plan(host, &problem, NULL), FG_NULL_POINTER);
  cr_expect_eq(fg_context_plan(host, &(fg_problem){.m = 1, .n = 1, .k = 1}, &plan), FG_UNSUPPORTED);
  cr_expect(strstr(fg_message(), "CPU context, which has no plans"), "%s", fg_message());
  cr_expect_eq(fg_plan_candidates(NULL, &problem, NULL, 0, &count), FG_NULL_POINTER);
  cr_expect_eq(fg_plan_candidates(&h100, NULL, NULL, 0, &count), FG_NULL_POINTER);
  cr_expect_eq(fg_plan_candidates(&h100, &problem, NULL, 0, NULL), FG_NULL_POINTER);
  cr_expect_eq(fg_plan_candidates(&h100, &problem, NULL, 1, &count), FG_NULL_POINTER);
  bad.plan = &wish;
  cr_expect_eq(fg_plan_candidates(&h100, &bad, &plan, 1, &count), FG_BAD_PLAN);
  bad.plan = NULL, bad.n = -1;
  cr_expect_eq(fg_plan_candidates(&h100, &bad, &plan, 1, &count), FG_BAD_SIZE);
  bad.n = 5, bad.level = FG_HOPPER;
  cr_expect_eq(fg_plan_candidates(&h100, &bad, &plan, 1, &count), FG_UNSUPPORTED);
  cr_expect_eq(fg_time_cold(NULL, &problem, 1, 1, &us), FG_NULL_POINTER);
  cr_expect_eq(fg_time_cold(host, NULL, 1, 1, &us), FG_NULL_POINTER);
  cr_expect_eq(fg_time_cold(host, &problem, 1, 1, NULL), FG_NULL_POINTER);
  cr_expect_eq(fg_time_cold(host, &problem, 0, 1, &us), FG_BAD_SIZE);
  cr_expect_eq(fg_time_cold(host, &problem, 1, 0, &us), FG_BAD_SIZE);
  cr_expect_eq(fg_time_cold(host, &problem, 1, 1, &us), FG_UNSUPPORTED);
  cr_expect(strstr(fg_message(), "timed by a device's clock"), "%s", fg_message());
  cr_expect_eq(fg_tuned_read(NULL, NULL, 0, &count), FG_NULL_POINTER);
  cr_expect_eq(fg_tuned_read("x", NULL, 0, NULL), FG_NULL_POINTER);
  cr_expect_eq(fg_tuned_read("x", NULL, 1, &count), FG_NULL_POINTER);
  cr_expect_eq(fg_tuned_read("/nowhere/at/all", NULL, 0, &count), FG_UNSUPPORTED);
  cr_expect_eq(fg_tuned_read("/", NULL, 0, &count), FG_UNSUPPORTED);
  cr_expect(strstr(fg_message(), "/ cannot be read as tuned plans: it is no regular file"), "%s", fg_message());
  cr_expect(plan.stages == 77 && us < 0 && count == -1);
  cr_expect_eq(fg_plan_candidates(&h100, &(fg_problem){.m = 5, .n = 5, .k = 5, .level = FG_SHARED}, &plan, 1, &count), FG_OK);
  cr_expect(count == 1 && plan.level == FG_SHARED);
  fg_context_destroy(host);
}
