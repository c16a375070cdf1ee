#include "cli.h"

#include <inttypes.h>
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

static enum outcome run(const struct command *command, int argc, const char **argv) {
  struct problem_choice of = {0};
  struct gpu_choice choice = {0};
  int gpus = 0, json = 0;
  struct poptOption options[] = {
      OPTION_PROBLEM(of),
      {"level", '\0', POPT_ARG_STRING, &of.level, 0, "a GPU level of 'finegemm levels' (default: best)", "NAME"},
      OPTION_GPU(choice),
      {"gpus", '\0', POPT_ARG_NONE, &gpus, 0, "list the GPUs that are known, and nothing else", NULL},
      OPTION_JSON(json),
      OPTIONS_END};
  parse(command, argc, argv, options, 0, 0, NULL);
  if (gpus) return list_gpus(json);
  fg_plan plan;
  fg_problem problem = problem_option(&of);
  fg_gpu gpu = gpu_option(&choice);
  require(fg_plan_make(&gpu, &problem, &plan), "");
  if (json)
    json_print(json_pack("{so so so}", "gpu", json_gpu(&gpu), "problem", json_problem(&problem), "plan", json_plan(&plan)));
  else
    print_plan(&gpu, &problem, &plan);
  return DONE;
}

const struct command command_plan = {"plan", "--m M --n N --k K [OPTION...] | --gpus",
                                     "Shows how a GPU level goes about a problem, on any GPU",
                                     "\nNeeds no GPU: a plan follows from the problem and from what is known of the GPU.", run};
