/* The reader of tables of tuned plans: any bytes are refused in one sentence, or every plan is one that the library makes of its shape. */
#include "choose.h"
#include "tuned.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes);

static void hold(bool claim) {
  if (!claim) __builtin_trap();
}

static void check_plan(const struct fg_tuned *table, const fg_tuned_plan *tuned) {
  fg_plan made = {.level = FG_FULL}, admitted;
  fg_problem problem = {.m = tuned->m, .n = tuned->n, .k = tuned->k, .b.scaling = tuned->b_scaling, .level = FG_FULL};
  hold(tuned->m == fg_class_of_m(tuned->m) && tuned->us >= 0);
  fg_choose(&tuned->gpu, &problem, table, &made);
  hold(made.split_k == (made.order == FG_B_BY_A ? made.cluster : 1));
  problem.plan = &tuned->plan;
  hold(fg_plan_make(&tuned->gpu, &problem, &admitted) == FG_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes) {
  enum { MOST = 64 };
  fg_tuned_plan plans[MOST];
  char why[FG_TUNED_WHY_BYTES] = "", *text = malloc(bytes + !bytes); /* of exactly this size, so that a byte too far is seen */
  struct fg_tuned table = {.capacity = MOST, .plans = plans};
  hold(text);
  if (bytes) memcpy(text, input, bytes);
  if (fg_tuned_parse(text, bytes, &table, why)) {
    hold(table.count >= 0 && table.count <= MOST);
    for (int i = 0; i < table.count; i++) check_plan(&table, &plans[i]);
  } else {
    hold(*why && strlen(why) < sizeof why);
    for (const char *at = why; *at; at++) hold((unsigned char)*at >= ' ' && (unsigned char)*at < 0x7F);
  }
  free(text);
  return 0;
}
