/* `finegemm tune` as a user has it, on the emulator: which plans it tries, the table that it writes, and what a program makes of one. */
#define _XOPEN_SOURCE 700
#include "finegemm.h"
#include "finegemm_kernels.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[512];

static void enter(void) {
  const char *temporary = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/test_tune_XXXXXX", temporary ? temporary : P_tmpdir);
  cr_assert(mkdtemp(folder) && chdir(folder) == 0);
  cr_assert(setenv("FINEGEMM", FINEGEMM_PROGRAM, 1) == 0 && setenv("FG_DEVICE", "emulator", 1) == 0);
  cr_assert(setenv("FG_CACHE_DIR", folder, 1) == 0 && unsetenv("FG_PLANS") == 0 && unsetenv("FG_LOG") == 0);
  cr_assert(unsetenv("FG_KERNEL_DIR") == 0 && unsetenv("FG_CUDA_DRIVER") == 0 && unsetenv("FG_NVRTC") == 0);
}

static void leave_folder(void) {
  char command[600];
  snprintf(command, sizeof command, "cd / && rm -rf '%s'", folder);
  cr_assert(system(command) == 0);
}

TestSuite(tune, .init = enter, .fini = leave_folder, .timeout = 600);

static char *read_file(const char *path) {
  static char bytes[1 << 20];
  FILE *file = fopen(path, "rb");
  cr_assert(file, "%s", path);
  bytes[fread(bytes, 1, sizeof bytes - 1, file)] = '\0';
  fclose(file);
  return bytes;
}

static void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "wb");
  cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0, "%s", path);
}

/* The exit code; what it printed is in the files out and err. */
static int run(const char *arguments) {
  char command[2048];
  snprintf(command, sizeof command, "\"$FINEGEMM\" %s >out 2>err </dev/null", arguments);
  int status = system(command);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* In the file err; but for the address sanitizer's own line, that the emulator's threads change stacks. */
static const char *what_it_said(void) {
  const char *text = read_file("err"), *end = strchr(text, '\n'),
             *own = strstr(text, "==WARNING: ASan doesn't fully support makecontext");
  return own && end && own < end ? end + 1 : text;
}

static void run_well(const char *arguments) {
  int code = run(arguments);
  cr_assert_eq(code, 0, "%s: exit code %d: %s", arguments, code, read_file("err"));
  cr_assert_str_empty(what_it_said());
}

static json_int_t number(const json_t *object, const char *key) { return json_integer_value(json_object_get(object, key)); }
static double us_of(const json_t *trial) { return json_number_value(json_object_get(trial, "us")); }

/* Each class of m once; the library's own plan first, which no other beats where each takes as many calls of the driver. */
Test(tune, tries_plans_and_writes_a_table) {
  run_well("tune --n 80 --k 256 --m 3-20,70 --most 3 --rounds 3 --out plans.txt --json");
  json_t *json = json_loads(read_file("out"), JSON_REJECT_DUPLICATES, NULL), *shapes = json_object_get(json, "shapes");
  static const json_int_t ms[] = {8, 32, 128};
  cr_assert_eq(json_array_size(shapes), 3);
  fg_tuned_plan table[4];
  int count;
  cr_assert_eq(fg_tuned_read("plans.txt", table, 4, &count), FG_OK, "%s", fg_message());
  cr_assert_eq(count, 3);
  for (size_t i = 0; i < 3; i++) {
    const json_t *shape = json_array_get(shapes, i), *tried = json_object_get(shape, "tried");
    const json_t *best = json_object_get(json_object_get(shape, "best"), "plan"),
                 *first = json_object_get(json_array_get(tried, 0), "plan");
    cr_assert(number(shape, "m") == ms[i] && number(shape, "n") == 80 && number(shape, "k") == 256);
    cr_assert_eq(json_array_size(tried), 3);
    cr_assert(json_equal(best, first) && us_of(json_object_get(shape, "best")) > 0);
    cr_assert(table[i].m == ms[i] && table[i].plan.block_m == number(best, "block_m") &&
              table[i].plan.cluster == number(best, "cluster") && table[i].plan.stages == number(best, "stages") &&
              table[i].b_scaling == FG_128X128 && table[i].gpu.sms == 132);
    cr_assert(strstr(table[i].gpu.name, "emulator") && table[i].us > 0);
    for (size_t j = 1; j < 3; j++) cr_assert(!json_equal(json_object_get(json_array_get(tried, j), "plan"), first));
  }
  json_decref(json);
}

/* A kernel that serves both shapes makes 13 calls of the driver, each of the fastest, which are two, 12. */
Test(tune, takes_plans_of_few_kernels) {
  static const char *const constants[] = {"order", "block_m", "block_n", "stages", "cluster"};
  static const int withins[] = {0, 8, 9, 100};
  for (int w = 0; w < 4; w++) {
    char arguments[100];
    snprintf(arguments, sizeof arguments, "tune --n 80 --k 256 --m 5,17 --most 12 --rounds 1 --within %d --json", withins[w]);
    run_well(arguments);
    json_t *json = json_loads(read_file("out"), JSON_REJECT_DUPLICATES, NULL), *shapes = json_object_get(json, "shapes");
    const json_t *plans[2];
    int alike = 0;
    for (size_t i = 0; i < 2; i++) {
      const json_t *shape = json_array_get(shapes, i), *best = json_object_get(shape, "best"), *trial;
      double least = INFINITY;
      size_t t;
      json_array_foreach(json_object_get(shape, "tried"), t, trial) least = fmin(least, us_of(trial));
      cr_expect_leq(us_of(best), least * (1 + withins[w] / 100.0));
      plans[i] = json_object_get(best, "plan");
    }
    for (int i = 0; i < 5; i++) alike += number(plans[0], constants[i]) == number(plans[1], constants[i]);
    cr_expect(withins[w] <= 8 ? alike < 5 : alike == 5, "%s: %d alike", arguments, alike);
    json_decref(json);
  }
}

Test(tune, takes_the_fastest_plan_of_one_shape) {
  run_well("tune --n 80 --k 256 --m 5 --most 20 --rounds 1 --within 100 --json");
  json_t *json = json_loads(read_file("out"), JSON_REJECT_DUPLICATES, NULL),
         *shape = json_array_get(json_object_get(json, "shapes"), 0), *trial;
  double best = us_of(json_object_get(shape, "best")), most = 0;
  size_t t;
  json_array_foreach(json_object_get(shape, "tried"), t, trial) {
    cr_expect_leq(best, us_of(trial));
    most = fmax(most, us_of(trial));
  }
  cr_expect_lt(best, most, "all take as long");
  json_decref(json);
}

Test(tune, keeps_what_a_table_has) {
  write_file("plans.txt", "finegemm plans 1\n"
                          "gpu sm_90a 132 NVIDIA H100 80GB HBM3\n"
                          "8 80 256 128x128 2 8 128 5 2 9.5\n"
                          "gpu sm_90a 132 finegemm emulator\n"
                          "8 80 256 1x128 2 8 64 4 1 7\n"
                          "8 80 256 128x128 2 24 192 4 1 7\n"
                          "64 80 256 128x128 2 64 64 4 1 7\n");
  run_well("tune --shapes 1x80x256 --most 2 --rounds 1 --out plans.txt");
  cr_expect(strstr(read_file("out"), "plans.txt has 4 plans"), "%s", read_file("out"));
  const char *text = read_file("plans.txt");
  static const char *const kept[] = {"gpu sm_90a 132 NVIDIA H100 80GB HBM3\n8 80 256 128x128 2 8 128 5 2 9.500\n",
                                     "\n8 80 256 1x128 2 8 64 4 1 7.000\n", "\n64 80 256 128x128 2 64 64 4 1 7.000\n"};
  for (int i = 0; i < 3; i++) cr_expect(strstr(text, kept[i]), "%s", text);
  cr_expect(!strstr(text, "2 24 192"), "%s", text);
  fg_tuned_plan table[8];
  int count;
  cr_assert(fg_tuned_read("plans.txt", table, 8, &count) == FG_OK && count == 4);
}

Test(tune, serves_scales_of_b_for_each_row_too) {
  run_well("tune --shapes 70x80x256 --most 2 --rounds 2 --scaling-b 1x128 --out plans.txt");
  cr_expect(strstr(read_file("plans.txt"), "\n128 80 256 1x128 "), "%s", read_file("plans.txt"));
}

/* A kernel that is wrong for one width of tiles. */
Test(tune, ends_where_bits_differ) {
  cr_assert(setenv("SOURCES", FG_SOURCE_DIR, 1) == 0);
  cr_assert(
      system(
          "mkdir tree && cp -r --parents \"$SOURCES\"/gpu/kernels \"$SOURCES\"/gpu/device tree && mv \"tree/$SOURCES/gpu\" tree") ==
      0);
  cr_assert(system("sed -i 's/= __fmaf_rn(/= (BLOCK_N == 64) + __fmaf_rn(/' tree/gpu/kernels/swapped.cu && "
                   "grep -q 'BLOCK_N == 64' tree/gpu/kernels/swapped.cu") == 0);
  char tree[600];
  snprintf(tree, sizeof tree, "%s/tree", folder);
  cr_assert(setenv("FG_KERNEL_DIR", tree, 1) == 0);
  cr_expect_eq(run("tune --n 80 --k 256 --m 5 --most 12 --rounds 1 --out plans.txt"), 1);
  cr_expect(strstr(read_file("err"), "8x80x256, B by A ") && strstr(read_file("err"), "x64, ") &&
                strstr(read_file("err"), "D has other bits than ") && strstr(read_file("err"), "; no plan is written"),
            "%s", read_file("err"));
  cr_expect_neq(access("plans.txt", F_OK), 0);
}

/* What the multiplication does in this environment. */
static fg_plan plan_here(const fg_problem *problem) {
  fg_context *context;
  fg_plan plan = {0};
  cr_assert_eq(fg_context_create(&context, &(fg_context_options){.device = FG_CUDA}), FG_OK, "%s", fg_message());
  cr_assert_eq(fg_context_plan(context, problem, &plan), FG_OK, "%s", fg_message());
  fg_context_destroy(context);
  return plan;
}

static void name_table(const char *name, const char *text) {
  char path[600];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  write_file(path, text);
  cr_assert(setenv("FG_PLANS", path, 1) == 0);
}

Test(tune, a_context_takes_the_users_plans) {
  fg_problem problem = {.m = 5, .n = 80, .k = 256, .level = FG_FULL};
  fg_plan own = plan_here(&problem);
  cr_assert(own.block_m != 16 && own.stages != 3);
  name_table("plans.txt", "finegemm plans 1\ngpu sm_90a 132 emulator\n8 80 256 128x128 2 16 64 3 2 7\n");
  fg_plan plan = plan_here(&problem);
  cr_assert(plan.block_m == 16 && plan.block_n == 64 && plan.stages == 3 && plan.cluster == 2 && plan.split_k == 2);
  problem.m = 9;
  plan = plan_here(&problem);
  cr_assert_neq(plan.stages, 3);
  run_well("emulate full --m 5 --n 80 --k 256 --json"); /* which compares the bits with those of the split that was taken */
  json_t *json = json_loads(read_file("out"), JSON_REJECT_DUPLICATES, NULL);
  cr_expect_eq(number(json_object_get(json, "plan"), "split_k"), 2);
  cr_expect_eq(number(json_object_get(json, "plan"), "block_m"), 16);
  json_decref(json);
}

/* The context is there, its plans are the library's; the log and the doctor say why. */
Test(tune, a_table_that_is_none_is_ignored) {
  fg_problem problem = {.m = 5, .n = 80, .k = 256, .level = FG_FULL};
  fg_plan own = plan_here(&problem);
  static const struct {
    const char *text, *says;
  } bad[] = {{"finegemm plans 1\ngpu sm_90a 132 emulator\n8 80 256 128x128 2 16 64 5 9 7\n", "line 3: plan.cluster is 9"},
             {"", "line 1: it must be"},
             {NULL, "No such file"},
             {"relative", "FG_PLANS is plans.txt; it must be an absolute path"}};
  char log[600];
  snprintf(log, sizeof log, "%s/log", folder);
  cr_assert(setenv("FG_LOG", log, 1) == 0);
  for (int i = 0; i < 4; i++) {
    name_table("plans.txt", bad[i].text ? bad[i].text : "");
    if (!bad[i].text) cr_assert(unlink("plans.txt") == 0);
    if (i == 3) cr_assert(setenv("FG_PLANS", "plans.txt", 1) == 0);
    unlink(log);
    fg_plan plan = plan_here(&problem);
    cr_expect(plan.block_m == own.block_m && plan.stages == own.stages && plan.cluster == own.cluster);
    cr_expect(strstr(read_file(log), "finegemm: plans: ignored: ") && strstr(read_file(log), bad[i].says), "%s", read_file(log));
    fg_finding findings[16];
    int count = fg_doctor(findings, 16), seen = 0;
    for (int j = 0; j < count; j++)
      if (strcmp(findings[j].name, "plans") == 0) {
        cr_expect(!findings[j].works && strstr(findings[j].found, bad[i].says) && *findings[j].advice, "%s", findings[j].found);
        seen++;
      }
    cr_expect_eq(seen, 1);
  }
}

Test(tune, refuses_in_a_sentence) {
  static const struct {
    const char *arguments;
    int code;
    const char *says;
  } lines[] = {
      {"tune", 2, "one of --shapes, --config, --weights, and --n with --k must say"},
      {"tune --shapes 1x2x16 --n 3", 2, "one of --shapes"},
      {"tune --n 128", 2, "--k is missing; it goes with --n"},
      {"tune --k 128", 2, "--n is missing; it goes with --k"},
      {"tune --shapes 64x128", 2, "--shapes is '64x128'; it must be MxNxK"},
      {"tune --shapes 64xx128", 2, "--shapes is ''; it must be from 1"},
      {"tune --shapes 64x128x0", 2, "--shapes is '0'"},
      {"tune --shapes 64x128x8", 2, "k is 8; it must be a multiple of 16"},
      {"tune --shapes 64x128x128, ", 2, "an item of the list is empty"},
      {"tune --shapes 64x128x128 --m 5", 2, "--m is '5', but --shapes says"},
      {"tune --n 128 --k 128 --m 9-3", 2, "--m is '9-3'; a range must ascend"},
      {"tune --shapes 64x128x128 --scaling-b tensor", 2, "--scaling-b is 'tensor'; level full takes"},
      {"tune --shapes 64x128x128 --rounds 0", 2, "--rounds is '0'"},
      {"tune --shapes 64x128x128 --most 0", 2, "--most is '0'"},
      {"tune --shapes 64x128x128 --within -1", 2, "--within is '-1'"},
      {"tune now --shapes 64x128x128", 2, "'now' is one argument too many"},
      {"tune --config gone.json", 3, "gone.json: cannot be opened"},
      {"tune --shapes 64x128x128 --out bad.txt", 3, "--out: bad.txt cannot be read as tuned plans: line 1"},
      {"tune --shapes 64x128x128 --out .", 4, "--out: .: is a directory"},
      {"tune --shapes 64x128x128 --out none/plans.txt", 4, "--out: none/plans.txt"},
      {"tune --shapes 64x128x128 --device 7", 5, "FG_BAD_SIZE: ordinal is 7"},
  };
  write_file("bad.txt", "finegemm plans 7\n");
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    int code = run(lines[i].arguments);
    cr_expect_eq(code, lines[i].code, "%s: exit code %d", lines[i].arguments, code);
    cr_expect(strstr(read_file("err"), lines[i].says), "%s: %s", lines[i].arguments, read_file("err"));
    cr_expect(strncmp(read_file("err"), "finegemm tune: ", 15) == 0 && *read_file("out") == '\0');
    cr_expect_neq(access("plans.txt", F_OK), 0);
  }
  cr_expect_str_eq(read_file("bad.txt"), "finegemm plans 7\n");
}
