#include "cli.h"

#include <stdio.h>
#include <string.h>

enum { MOST_FINDINGS = 64 };

fg_finding finding_named(const char *name) {
  static fg_finding finding[MOST_FINDINGS];
  for (int capacity = 1; capacity <= MOST_FINDINGS && capacity <= fg_doctor(finding, capacity); capacity++)
    if (strcmp(finding[capacity - 1].name, name) == 0) return finding[capacity - 1];
  return (fg_finding){.name = name};
}

/* A product small enough to be done at once and large enough to have a short block in each direction, against its bound; of sizes that
 * every level serves. */
static bool multiplies_rightly(fg_context *context, fg_context *host, fg_level level, const char **found) {
  enum { M = 5, N = 132, K = 208 };
  static uint8_t a[M * K], b[N * K];
  static float a_scale[M * 2], b_scale[2 * 2], d[M * N];
  for (int i = 0; i < M * K; i++) a[i] = (uint8_t)(i * 37 % 0x7F | (i & 1 ? 0x80 : 0));
  for (int i = 0; i < N * K; i++) b[i] = (uint8_t)(i * 91 % 0x7F | (i & 2 ? 0x80 : 0));
  for (int i = 0; i < M * 2; i++) a_scale[i] = 0.01f * (float)(i + 1);
  for (int i = 0; i < 2 * 2; i++) b_scale[i] = 0.03f * (float)(i + 1);
  fg_problem problem = {.m = M, .n = N, .k = K, .level = level, .d = {.data = d, .type = FG_FP32, .ld = N}};
  problem.a = (fg_operand){.data = a, .scale = a_scale, .type = FG_E4M3, .scaling = FG_1X128, .ld = K};
  problem.b = (fg_operand){.data = b, .scale = b_scale, .type = FG_E4M3, .scaling = FG_128X128, .ld = K};
  fg_problem there;
  fg_status status = send_operands(context, &problem, &there);
  if (status == FG_OK) {
    status = fg_gemm(context, &there);
    if (status == FG_OK) status = fetch_result(context, &there, &problem);
    if (status == FG_OK) free_operands(context, &there);
  }
  if (status != FG_OK) {
    *found = text("%s", fg_message());
    return false;
  }
  struct verdict verdict = judge(host, &problem, d, FG_FP32, FG_FP32, "checking");
  if (verdict.outside)
    *found = text("%lld of %lld elements of a test product exceed their bound", (long long)verdict.outside,
                  (long long)verdict.elements);
  else
    *found = "multiplies rightly";
  return verdict.outside == 0;
}

static void list(struct table *table, json_t *findings, const char *name, const char *works, const char *found,
                 const char *advice) {
  table_cell(table, "%s", name);
  table_cell(table, "%s", works);
  table_cell(table, "%s", found);
  if (*advice) {
    table_cell(table, "%s", "");
    table_cell(table, "%s", "");
    table_cell(table, "-> %s", advice);
  }
  json_array_append_new(findings, json_pack("{ss sb so so}", "name", name, "works", works[0] == 'y', "found", json_text(found),
                                            "advice", json_text(advice)));
}

static enum outcome run(const struct command *command, int argc, const char **argv) {
  int json = 0, levels;
  struct poptOption options[] = {OPTION_JSON(json), OPTIONS_END};
  parse(command, argc, argv, options, 0, 0, NULL);
  const char *const headings[] = {"what", "works", "found"};
  struct table *table = table_begin("lll", headings);
  json_t *findings = json_array();
  static fg_finding finding[MOST_FINDINGS];
  int count = fg_doctor(finding, MOST_FINDINGS);
  for (int i = 0; i < count && i < MOST_FINDINGS; i++)
    list(table, findings, finding[i].name, finding[i].works ? "yes" : "no", finding[i].found, finding[i].advice);
  bool healthy = true;
  fg_context *host = make_context(0), *cuda;
  cuda_context(0, &cuda);
  const fg_level_info *info = fg_levels(&levels);
  for (int i = 0; i < levels; i++) {
    fg_context *context = info[i].memory == FG_CPU ? host : cuda;
    if (!context || fg_can_run(context, info[i].level) != FG_OK) continue;
    const char *found = "";
    bool works = multiplies_rightly(context, host, info[i].level, &found);
    healthy = healthy && works;
    list(table, findings, text("level %s", info[i].name), works ? "yes" : "no", found,
         works             ? ""
         : context == host ? "report this, with all of the above and the compiler that finegemm was built with"
                           : "if nothing above says why, report this, with all of it");
  }
  if (json) {
    json_print(json_pack("{ss sb so}", "version", fg_version(), "healthy", healthy, "findings", findings));
  } else {
    json_decref(findings);
    table_print(table);
    printf("\n%s levels for the CPU%s work.\n", healthy ? "All" : "Not all", cuda ? " and the GPU" : "");
  }
  fg_context_destroy(cuda);
  return healthy ? DONE : DIFFERENT;
}

const struct command command_doctor = {
    "doctor", "[--json]", "Looks at the machine: what works, what does not, what to do about it",
    "\nExits with 0 if every level for the CPU, and for the GPU if one is here, gives right results.", run};
