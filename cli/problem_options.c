/* A problem of numbers alone, and its plan: what commands take that need no operands, or make them. */
#include "cli.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

static int64_t size_option(const char *option, const char *number) {
  if (!number) fail(BAD_USAGE, "%s is missing; a problem has --m, --n and --k", option);
  return number_option(option, number, 0, INT64_MAX);
}

/* 0 for NULL, as the library says it itself. */
static int override_option(const char *option, const char *number) {
  return number ? (int)number_option(option, number, 1, INT_MAX) : 0;
}

fg_problem problem_option(struct problem_choice *of) {
  of->wish = (fg_plan){.block_m = override_option("--block-m", of->block_m),
                       .block_n = override_option("--block-n", of->block_n),
                       .stages = override_option("--stages", of->stages),
                       .blocks = override_option("--blocks", of->blocks),
                       .cluster = override_option("--cluster", of->cluster)};
  fg_problem problem = {.kind = kind_option("--kind", of->kind),
                        .m = size_option("--m", of->m),
                        .n = size_option("--n", of->n),
                        .k = size_option("--k", of->k),
                        .groups = of->groups ? number_option("--groups", of->groups, 0, INT64_MAX) : 1,
                        .a = {.type = fp8_option("--type-a", of->a_type ? of->a_type : "e4m3")},
                        .b = {.type = fp8_option("--type-b", of->b_type ? of->b_type : "e4m3")},
                        .expected_m = number_option("--expected-m", of->expected_m, 0, INT64_MAX),
                        .level = level_option("--level", of->level),
                        .sm_limit = override_option("--sm-limit", of->sm_limit),
                        .split_k = override_option("--split-k", of->split_k),
                        .flags = of->no_split_k ? FG_NO_SPLIT_K : 0,
                        .plan = &of->wish};
  if (of->groups && problem.kind == FG_DENSE)
    fail(BAD_USAGE, "--groups is '%s', but --kind is dense, which has none", of->groups);
  return problem;
}

json_t *json_problem(const fg_problem *problem) {
  return json_pack("{ss sI sI sI sI ss ss si}", "kind", kind_name(problem->kind), "m", problem->m, "n", problem->n, "k",
                   problem->k, "groups", problem->groups, "a_type", type_name(problem->a.type), "b_type",
                   type_name(problem->b.type), "sm_limit", problem->sm_limit);
}

json_t *json_plan(const fg_plan *plan) {
  return json_pack("{ss si si si si si si sI si si si}", "level", level_name(plan->level), "order", (int)plan->order, "block_m",
                   plan->block_m, "block_n", plan->block_n, "stages", plan->stages, "threads", plan->threads, "shared_bytes",
                   plan->shared_bytes, "tiles", plan->tiles, "blocks", plan->blocks, "cluster", plan->cluster, "split_k",
                   plan->split_k);
}

static void row(struct table *table, const char *name, const char *value, const char *meaning) {
  table_cell(table, "%s", name);
  table_cell(table, "%s", value);
  table_cell(table, "%s", meaning);
}

void print_plan(const fg_gpu *gpu, const fg_problem *problem, const fg_plan *plan) {
  const char *groups = problem->kind == FG_DENSE ? "" : text(" of %" PRId64, problem->groups);
  printf("%s\n%s%s, m %" PRId64 ", n %" PRId64 ", k %" PRId64 ", %s by %s%s\n\n", gpu_text(gpu), kind_name(problem->kind), groups,
         problem->m, problem->n, problem->k, type_name(problem->a.type), type_name(problem->b.type),
         problem->sm_limit ? text(", on at most %d multiprocessors", problem->sm_limit) : "");
  struct table *table = table_begin("lrl", NULL);
  row(table, "level", level_name(plan->level), level_idea(plan->level));
  if (plan->order)
    row(table, "order", text("%d", plan->order), plan->order == FG_A_BY_B ? "A's rows are the tensor core's" : "B's rows are");
  row(table, "block_m", text("%d", plan->block_m), "rows of a tile of D");
  row(table, "block_n", text("%d", plan->block_n), "columns");
  row(table, "stages", text("%d", plan->stages), "of the ring that blocks of K go through");
  row(table, "threads", text("%d", plan->threads), "of a block, which has a tile at a time");
  row(table, "shared_bytes", text("%d", plan->shared_bytes), "of shared memory for a block");
  row(table, "tiles", text("%" PRId64, plan->tiles), "in all");
  row(table, "blocks", text("%d", plan->blocks),
      text("of the grid: %.3g on each multiprocessor, %.3g tiles each", (double)plan->blocks / (double)gpu->sms,
           plan->blocks ? (double)plan->tiles / (double)plan->blocks : 0));
  row(table, "cluster", text("%d", plan->cluster), "blocks that are launched together");
  row(table, "split_k", text("%d", plan->split_k), "ranges of K, summed apart");
  table_print(table);
}
