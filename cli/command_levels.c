#include "cli.h"

#include <stdio.h>
#include <string.h>

static enum outcome run(const struct command *command, int argc, const char **argv) {
  int json = 0, levels;
  struct poptOption options[] = {OPTION_JSON(json), OPTIONS_END};
  parse(command, argc, argv, options, 0, 0, NULL);
  const char *const headings[] = {"level", "needs", "memory", "bits equal", "here", "the idea it adds"};
  struct table *table = table_begin("llllll", headings);
  json_t *rows = json_array();
  const fg_level_info *info = fg_levels(&levels);
  const char *reasons[2] = {NULL, NULL}; /* why not, the first of either memory */
  fg_context *contexts[2] = {make_context(0), NULL};
  const char *no_cuda = cuda_context(0, &contexts[FG_CUDA]) == FG_OK ? NULL : text("%s", fg_message());
  for (int i = 0; i < levels; i++, info++) {
    const char *memory = info->memory == FG_CPU ? "host" : "CUDA";
    const char *twin = info->twin == FG_EXACT ? NULL : level_name(info->twin);
    fg_context *context = contexts[info->memory];
    bool exists = level_exists(info->level) == FG_OK, here = exists && context && level_runs(context, info->level) == FG_OK;
    const char *reason = here ? NULL : exists && !context ? no_cuda : text("%s", fg_message());
    if (!here && !reasons[info->memory]) reasons[info->memory] = reason;
    table_cell(table, "%s", info->name);
    table_cell(table, "%s", info->needs);
    table_cell(table, "%s", memory);
    table_cell(table, "%s", twin ? twin : "-");
    table_cell(table, "%s", here ? "yes" : "no");
    table_cell(table, "%s", info->idea);
    json_array_append_new(rows, json_pack("{ss ss ss ss ss? sb ss?}", "name", info->name, "idea", info->idea, "needs",
                                          info->needs, "memory", memory, "twin", twin, "here", here, "reason", reason));
  }
  fg_gpu gpu = {0};
  if (contexts[FG_CUDA]) fg_context_gpu(contexts[FG_CUDA], &gpu);
  fg_context_destroy(contexts[FG_CUDA]);
  if (json) {
    json_print(json_pack("{ss so}", "version", fg_version(), "levels", rows));
    return DONE;
  }
  json_decref(rows);
  table_print(table);
  for (int memory = 0; memory < 2; memory++)
    if (reasons[memory]) printf("%snot here: %s\n", memory == 0 || !reasons[0] ? "\n" : "", reasons[memory]);
  if (strcmp(gpu.name, "finegemm emulator") == 0)
    printf("\nLevels of the GPU run on the emulator, on this machine's processor.\n");
  return DONE;
}

const struct command command_levels = {
    "levels", "[--json]", "Lists the levels: what each needs, and whether it runs here",
    "\nbits equal: the level whose results it gives bit for bit; '-': it keeps within the bound that 'compare' checks", run};
