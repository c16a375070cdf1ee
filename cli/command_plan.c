#include "cli.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

static enum outcome list_gpus(bool json) {
  int count;
  const fg_gpu *known = fg_known_gpus(&count);
  json_t *list = json_array();
  const char *const headings[] = {"GPU", "architecture", "multiprocessors", "shared bytes a block"};
  struct table *table = table_begin("llrr", headings);
  for (int i = 0; i < count; i++) {
    json_array_append_new(list, json_gpu(&known[i]));
    table_cell(table, "%s", known[i].name);
    table_cell(table, "%s", known[i].arch);
    table_cell(table, "%d", known[i].sms);
    table_cell(table, "%d", known[i].shared_bytes);
  }
  if (json) {
    json_print(json_pack("{so}", "gpus", list));
    return DONE;
  }
  json_decref(list);
  table_print(table);
  return DONE;
}

static int64_t size_option(const char *option, const char *number) {
  if (!number) fail(BAD_USAGE, "%s is missing; a problem has --m, --n and --k", option);
  return number_option(option, number, 0, INT64_MAX);
}

/* 0 for NULL, as the library says it itself. */
static int override_option(const char *option, const char *number) {
  return number ? (int)number_option(option, number, 1, INT_MAX) : 0;
}

static void row(struct table *table, const char *name, const char *value, const char *meaning) {
  table_cell(table, "%s", name);
  table_cell(table, "%s", value);
  table_cell(table, "%s", meaning);
}

static void print(const fg_gpu *gpu, const fg_problem *problem, const fg_plan *plan) {
  const char *groups = problem->kind == FG_DENSE ? "" : text(" of %" PRId64, problem->groups);
  printf("%s\n%s%s, m %" PRId64 ", n %" PRId64 ", k %" PRId64 ", %s by %s%s\n\n", gpu_text(gpu), kind_name(problem->kind), groups,
         problem->m, problem->n, problem->k, type_name(problem->a.type), type_name(problem->b.type),
         problem->sm_limit ? text(", on at most %d multiprocessors", problem->sm_limit) : "");
  struct table *table = table_begin("lrl", NULL);
  row(table, "level", level_name(plan->level), level_idea(plan->level));
  row(table, "block_m", text("%d", plan->block_m), "rows of a tile of D");
  row(table, "block_n", text("%d", plan->block_n), "columns");
  row(table, "threads", text("%d", plan->threads), "of a block, which has a tile at a time");
  row(table, "tiles", text("%" PRId64, plan->tiles), "in all");
  row(table, "blocks", text("%d", plan->blocks),
      text("of the grid: %.3g on each multiprocessor, %.3g tiles each", (double)plan->blocks / (double)gpu->sms,
           plan->blocks ? (double)plan->tiles / (double)plan->blocks : 0));
  row(table, "cluster", text("%d", plan->cluster), "blocks that are launched together");
  row(table, "split_k", text("%d", plan->split_k), "ranges of K, summed apart");
  table_print(table);
}

static enum outcome run(const struct command *command, int argc, const char **argv) {
  const char *m = NULL, *n = NULL, *k = NULL, *kind = NULL, *groups = NULL, *expected_m = NULL, *a_type = NULL, *b_type = NULL;
  const char *level = NULL, *sm_limit = NULL, *split_k = NULL, *block_m = NULL, *block_n = NULL, *blocks = NULL, *cluster = NULL;
  struct gpu_choice choice = {0};
  int gpus = 0, no_split_k = 0, json = 0;
  struct poptOption options[] = {
      {"m", '\0', POPT_ARG_STRING, &m, 0, "rows of A and D", "M"},
      {"n", '\0', POPT_ARG_STRING, &n, 0, "rows of B, columns of D", "N"},
      {"k", '\0', POPT_ARG_STRING, &k, 0, "columns of A and B", "K"},
      {"kind", '\0', POPT_ARG_STRING, &kind, 0, "what is multiplied (default: dense)",
       "dense|batched|grouped-rows|masked|grouped-k"},
      {"groups", '\0', POPT_ARG_STRING, &groups, 0, "of kinds other than dense (default: 1)", "G"},
      {"expected-m", '\0', POPT_ARG_STRING, &expected_m, 0, "of masked: rows to expect in a group", "M"},
      {"type-a", '\0', POPT_ARG_STRING, &a_type, 0, "FP8 type of A (default: e4m3)", "e4m3|e5m2"},
      {"type-b", '\0', POPT_ARG_STRING, &b_type, 0, "FP8 type of B (default: e4m3)", "e4m3|e5m2"},
      {"level", '\0', POPT_ARG_STRING, &level, 0, "a GPU level of 'finegemm levels' (default: best)", "NAME"},
      {"sm-limit", '\0', POPT_ARG_STRING, &sm_limit, 0, "use at most N multiprocessors (default: all)", "N"},
      {"split-k", '\0', POPT_ARG_STRING, &split_k, 0, "sum K in N ranges (default: as the plan says)", "N"},
      {"no-split-k", '\0', POPT_ARG_NONE, &no_split_k, 0, "a row's bits may depend on nothing but that row", NULL},
      {"block-m", '\0', POPT_ARG_STRING, &block_m, 0, "instead of what the plan says", "N"},
      {"block-n", '\0', POPT_ARG_STRING, &block_n, 0, "likewise", "N"},
      {"blocks", '\0', POPT_ARG_STRING, &blocks, 0, "likewise", "N"},
      {"cluster", '\0', POPT_ARG_STRING, &cluster, 0, "likewise", "N"},
      OPTION_GPU(choice),
      {"gpus", '\0', POPT_ARG_NONE, &gpus, 0, "list the GPUs that are known, and nothing else", NULL},
      OPTION_JSON(json),
      OPTIONS_END};
  parse(command, argc, argv, options, 0, 0, NULL);
  if (gpus) return list_gpus(json);
  fg_plan plan, wish = {.block_m = override_option("--block-m", block_m),
                        .block_n = override_option("--block-n", block_n),
                        .blocks = override_option("--blocks", blocks),
                        .cluster = override_option("--cluster", cluster)};
  fg_problem problem = {.kind = kind_option("--kind", kind),
                        .m = size_option("--m", m),
                        .n = size_option("--n", n),
                        .k = size_option("--k", k),
                        .groups = groups ? number_option("--groups", groups, 0, INT64_MAX) : 1,
                        .a = {.type = fp8_option("--type-a", a_type ? a_type : "e4m3")},
                        .b = {.type = fp8_option("--type-b", b_type ? b_type : "e4m3")},
                        .expected_m = number_option("--expected-m", expected_m, 0, INT64_MAX),
                        .level = level_option("--level", level),
                        .sm_limit = override_option("--sm-limit", sm_limit),
                        .split_k = override_option("--split-k", split_k),
                        .flags = no_split_k ? FG_NO_SPLIT_K : 0,
                        .plan = &wish};
  if (groups && problem.kind == FG_DENSE) fail(BAD_USAGE, "--groups is '%s', but --kind is dense, which has none", groups);
  fg_gpu gpu = gpu_option(&choice);
  require(fg_plan_make(&gpu, &problem, &plan), "");
  if (json)
    json_print(json_pack("{so s{ss sI sI sI sI ss ss si} s{ss si si si sI si si si}}", "gpu", json_gpu(&gpu), "problem", "kind",
                         kind_name(problem.kind), "m", problem.m, "n", problem.n, "k", problem.k, "groups", problem.groups,
                         "a_type", type_name(problem.a.type), "b_type", type_name(problem.b.type), "sm_limit", problem.sm_limit,
                         "plan", "level", level_name(plan.level), "block_m", plan.block_m, "block_n", plan.block_n, "threads",
                         plan.threads, "tiles", plan.tiles, "blocks", plan.blocks, "cluster", plan.cluster, "split_k",
                         plan.split_k));
  else
    print(&gpu, &problem, &plan);
  return DONE;
}

const struct command command_plan = {"plan", "--m M --n N --k K [OPTION...] | --gpus",
                                     "Shows how a GPU level goes about a problem, on any GPU",
                                     "\nNeeds no GPU: a plan follows from the problem and from what is known of the GPU.", run};
