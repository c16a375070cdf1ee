/* `finegemm emulate` as a user has it: levels that are right, kernels that are not, what it prints, writes and exits with. */
#define _XOPEN_SOURCE 700
#include "finegemm.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[512];

/* A folder of its own, with a tree of kernels in it to be edited. */
static void enter(void) {
  const char *temporary = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/test_emulate_XXXXXX", temporary ? temporary : P_tmpdir);
  cr_assert(mkdtemp(folder) && chdir(folder) == 0);
  cr_assert(setenv("FINEGEMM", FINEGEMM_PROGRAM, 1) == 0 && setenv("FG_CACHE_DIR", "", 1) == 0);
  cr_assert(setenv("SOURCES", FG_SOURCE_DIR, 1) == 0 && setenv("STUB", FG_STUB_DRIVER, 1) == 0);
  cr_assert(unsetenv("FG_KERNEL_DIR") == 0 && unsetenv("FG_DEVICE") == 0 && unsetenv("FG_CACHE_PATH") == 0);
  cr_assert(unsetenv("FG_CUDA_DRIVER") == 0 && unsetenv("FG_NVRTC") == 0);
  cr_assert(system("mkdir tree tree/gpu && cp -r \"$SOURCES/lessons\" tree && cp -r \"$SOURCES/gpu/device\" tree/gpu") == 0);
}

static void leave_folder(void) {
  char command[600];
  snprintf(command, sizeof command, "cd / && rm -rf '%s'", folder);
  cr_assert(system(command) == 0);
}

TestSuite(emulate, .init = enter, .fini = leave_folder);

static char *read_file(const char *path) {
  static char bytes[1 << 22];
  FILE *file = fopen(path, "rb");
  cr_assert(file, "%s", path);
  bytes[fread(bytes, 1, sizeof bytes - 1, file)] = '\0';
  fclose(file);
  return bytes;
}

/* The exit code of a line for the shell, in which `emulate` is the command; what it printed is in the files out and err. */
static int run(const char *line) {
  char command[4096];
  snprintf(command, sizeof command, "emulate() { \"$FINEGEMM\" emulate \"$@\"; }; { %s\n} >out 2>err </dev/null", line);
  int status = system(command);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What `emulate` with these arguments and --json prints. */
static json_t *run_json(const char *arguments, int code) {
  char line[1024];
  snprintf(line, sizeof line, "emulate %s --json", arguments);
  int got = run(line);
  cr_assert_eq(got, code, "%s: exit code %d: %s", arguments, got, read_file(got <= 1 ? "out" : "err"));
  json_t *json = json_loads(read_file("out"), JSON_REJECT_DUPLICATES, NULL);
  cr_assert(json_is_object(json), "%s", read_file("out"));
  return json;
}

static const json_t *seed_of(const json_t *json, size_t i) { return json_array_get(json_object_get(json, "seeds"), i); }
static json_int_t number(const json_t *object, const char *key) { return json_integer_value(json_object_get(object, key)); }
static const char *word(const json_t *object, const char *key) {
  const char *string = json_string_value(json_object_get(object, key));
  return string ? string : "";
}

/* Edits a kernel of the tree by sed; from now on kernels come from there. The line in which the edit put `mark`, as a comment. */
static int edit(const char *kernel, const char *sed, const char *mark) {
  char command[1024];
  snprintf(command, sizeof command, "sed -i -E '%s' tree/lessons/%s && grep -n -m1 '%s' tree/lessons/%s | cut -d: -f1 > line",
           sed, kernel, mark, kernel);
  cr_assert(system(command) == 0);
  int line = atoi(read_file("line"));
  cr_assert(line > 0, "%s: nothing is edited by %s", kernel, sed);
  char path[600];
  snprintf(path, sizeof path, "%s/tree", folder);
  setenv("FG_KERNEL_DIR", path, 1);
  return line;
}

/* The sentence of the only seed begins with this line of this kernel. */
static void expect_fault(json_t *json, const char *kernel, int line, const char *words) {
  char begin[128];
  snprintf(begin, sizeof begin, "lessons/%s(%d): kernel ", kernel, line);
  const char *fault = word(seed_of(json, 0), "fault");
  cr_expect(strstr(fault, begin), "'%s' does not say '%s'", fault, begin);
  cr_expect(strstr(fault, words), "'%s' does not say '%s'", fault, words);
  cr_expect(json_is_false(json_object_get(json, "right")));
  cr_expect(json_is_null(json_object_get(seed_of(json, 0), "differing")));
  json_decref(json);
}

/* --- Levels that are right */

/* Of every kind that it has. */
Test(emulate, finds_every_level_right) {
  static const char *const problems[] = {
      "--m 132 --n 24 --k 656",
      "--m 20 --n 16 --k 144 --type-a e5m2 --scaling-a 128x128 --scaling-b tensor --c bf16 --bias f32 --out-type bf16",
      "--kind batched --groups 3 --m 6 --n 16 --k 128 --out-type f16",
      "--kind grouped-rows --groups 4 --m 30 --n 16 --k 208",
      "--kind masked --groups 3 --m 17 --n 16 --k 144 --bias bf16",
      "--kind grouped-k --groups 4 --m 9 --n 16 --k 608 --c f32",
  };
  int levels;
  const fg_level_info *info = fg_levels(&levels);
  for (int i = 0; i < levels; i++) {
    int tried = 0;
    if (info[i].memory != FG_CUDA) continue;
    for (size_t p = 0; p < sizeof problems / sizeof *problems; p++) {
      char arguments[256];
      snprintf(arguments, sizeof arguments, "emulate %s %s --seeds 2 --json", info[i].name, problems[p]);
      int code = run(arguments);
      const char *err = read_file("err");
      tried += code != 5;
      if (code == 5 && strstr(err, "FG_UNSUPPORTED")) continue;
      cr_assert_eq(code, 0, "%s: exit code %d: %s", arguments, code, read_file(code == 1 ? "out" : "err"));
      json_t *json = json_loads(read_file("out"), 0, NULL);
      cr_expect(json_is_true(json_object_get(json, "right")), "%s", arguments);
      for (size_t s = 0; s < 2; s++) {
        cr_expect_eq(number(seed_of(json, s), "seed"), (json_int_t)s);
        cr_expect_eq(number(seed_of(json, s), "differing"), 0);
        cr_expect_gt(number(seed_of(json, s), "cycles"), 0);
        cr_expect(json_is_null(json_object_get(seed_of(json, s), "fault")));
      }
      json_decref(json);
    }
    cr_expect(tried > 0, "%s runs no problem", info[i].name);
  }
}

Test(emulate, does_the_same_twice_with_one_seed) {
  json_t *first = run_json("naive --m 8 --n 8 --k 128 --seed 3 --trace first.json", 0);
  json_t *second = run_json("naive --m 8 --n 8 --k 128 --seed 3 --trace second.json", 0);
  cr_expect(json_equal(first, second));
  cr_expect_eq(run("cmp first.json second.json"), 0);
  json_decref(first);
  json_decref(second);
}

/* Rows of a and b that the copy engine could not take as a file has them. */
Test(emulate, sends_rows_as_full_wants_them) {
  static const char *const problems[] = {"full --m 70 --n 40 --k 131", "full --m 3 --n 100 --k 1 --out-type bf16",
                                         "full --m 5 --n 64 --k 200 --scaling-b 1x128", "best --m 3 --n 72 --k 77"};
  for (size_t p = 0; p < sizeof problems / sizeof *problems; p++) {
    char arguments[256];
    snprintf(arguments, sizeof arguments, "emulate %s --json", problems[p]);
    cr_assert_eq(run(arguments), 0, "%s: %s", arguments, read_file("err"));
    json_t *json = json_loads(read_file("out"), 0, NULL);
    cr_expect(json_is_true(json_object_get(json, "right")), "%s", arguments);
    cr_expect_str_eq(json_string_value(json_object_get(json_object_get(json, "plan"), "level")), "full");
    json_decref(json);
  }
}

Test(emulate, says_it_in_words_too) {
  cr_assert_eq(run("emulate naive --m 8 --n 8 --k 128 --seeds 2"), 0);
  const char *out = read_file("out");
  cr_expect(strstr(out, "= reference"), "%s", out);
  cr_expect(strstr(out, "No fault; the bits are those of reference."), "%s", out);
}

/* --- What it draws */

Test(emulate, writes_a_trace_and_its_picture) {
  json_t *json = run_json("naive --m 8 --n 8 --k 128 --trace t.json --svg t.svg", 0);
  json_t *trace = json_load_file("t.json", 0, NULL), *about = json_object_get(trace, "otherData");
  cr_assert(trace);
  cr_expect_eq(number(about, "cycles"), number(seed_of(json, 0), "cycles"));
  cr_expect_str_eq(word(about, "kernel"), "naive");
  int warps = 0;
  size_t i;
  json_t *event;
  json_array_foreach(json_object_get(trace, "traceEvents"), i, event) {
    if (strcmp(word(event, "name"), "naive") == 0) {
      warps++;
      cr_expect_gt(number(event, "dur"), 0);
    }
  }
  cr_expect_eq(warps * 32, number(json_object_get(json, "plan"), "threads"));
  const char *svg = read_file("t.svg");
  cr_assert_eq(run("emulate --draw t.json --svg u.svg"), 0);
  cr_expect_eq(run("sed -i s/naive,.*:/:/ t.svg u.svg && cmp t.svg u.svg"), 0);
  svg = read_file("t.svg");
  cr_expect(strncmp(svg, "<svg ", 5) == 0 && strstr(svg, ">warp 0<") && strcmp(svg + strlen(svg) - 7, "</svg>\n") == 0);
  json_decref(json);
  json_decref(trace);
}

/* --- Kernels that are not */

Test(emulate, says_which_bits_differ) {
  edit("04_naive.cu", "s|float sum = 0;|float sum = 1; // here|", "here");
  json_t *json = run_json("naive --m 3 --n 4 --k 128", 1);
  cr_expect_eq(number(seed_of(json, 0), "differing"), 12);
  cr_expect_str_eq(word(seed_of(json, 0), "first"), "[0, 0]");
  json_decref(json);
  cr_expect_eq(run("emulate naive --m 3 --n 4 --k 128"), 1);
  cr_expect(strstr(read_file("out"), "NOT those of reference, first at [0, 0]"), "%s", read_file("out"));
}

Test(emulate, names_the_line_of_an_access_outside_and_draws_what_came_before) {
  int line =
      edit("04_naive.cu", "s|(dot = __fmaf_rn.*)|{ // here\\n        \\1\\n        dot += a[k + 0x40000000]; // there\\n      }|",
           "there");
  expect_fault(run_json("naive --m 3 --n 4 --k 128 --trace t.json --svg t.svg", 1), "04_naive.cu", line, "may not");
  cr_expect_eq(run("test -s t.json -a -s t.svg"), 0);
}

Test(emulate, names_the_line_of_a_race) {
  edit("05_shared.cu", "0,/__syncthreads\\(\\);/s|__syncthreads\\(\\);|/* here */|", "here");
  json_t *json = run_json("shared --m 64 --n 64 --k 128", 1);
  const char *fault = word(seed_of(json, 0), "fault");
  cr_expect(strstr(fault, "lessons/05_shared.cu(") && strstr(fault, "a barrier between the two is missing"), "%s", fault);
  json_decref(json);
}

Test(emulate, ends_a_kernel_that_does_not) {
  edit("04_naive.cu", "s|(for \\(long long k = .*; )k\\+\\+\\)|\\1) // here|", "here");
  json_t *json = run_json("naive --m 3 --n 4 --k 128", 1);
  const char *fault = word(seed_of(json, 0), "fault");
  cr_expect(strstr(fault, "lessons/04_naive.cu(") && strstr(fault, "steps"), "%s", fault);
  json_decref(json);
}

Test(emulate, goes_on_after_a_fault_with_the_next_seed) {
  edit("05_shared.cu", "0,/__syncthreads\\(\\);/s|__syncthreads\\(\\);|/* here */|", "here");
  json_t *json = run_json("shared --m 64 --n 64 --k 128 --seeds 3", 1);
  for (size_t s = 0; s < 3; s++)
    cr_expect(strstr(word(seed_of(json, s), "fault"), "is missing"), "seed %zu: %s", s, word(seed_of(json, s), "fault"));
  json_decref(json);
}

/* What docs/emulator.md says of gdb. */
Test(emulate, lets_a_debugger_stop_in_a_kernel) {
  if (run("gdb -q -batch -ex run --args true && grep -q 'exited normally' out") != 0) cr_skip("no gdb that may start a process");
  edit("04_naive.cu", "s|(dot = __fmaf_rn.*)|\\1 // here|", "here");
  FILE *commands = fopen("commands", "w");
  fprintf(commands,
          "set breakpoint pending on\nbreak naive\nrun\nskip -gfi */gpu/emulator/*\ndelete\n"
          "break 04_naive.cu:%d if fg_emulator.view()->thread.x == 17\ncontinue\nprint fg_emulator.view()->thread\n"
          "print k\nkill\n",
          atoi(read_file("line")));
  fclose(commands);
  run("cd tree && gdb -q -batch -x ../commands --args \"$FINEGEMM\" emulate naive --m 4 --n 40 --k 128 --threads 1");
  cr_expect(strstr(read_file("out"), "= {x = 17, y = 0, z = 0}"), "%s", read_file("out"));
  cr_expect(strstr(read_file("out"), "= 0\n"), "%s", read_file("out"));
}

/* --- What it refuses */

static void expect_refusal(const char *line, int code, const char *words) {
  int got = run(line);
  const char *err = read_file("err");
  cr_expect_eq(got, code, "%s: exit code %d: %s", line, got, err);
  cr_expect(strncmp(err, "finegemm emulate: ", 18) == 0 && strstr(err, words) && strchr(err, '\n') == err + strlen(err) - 1,
            "%s: '%s' is not one line that says '%s'", line, err, words);
}

Test(emulate, refuses_in_one_sentence) {
  expect_refusal("emulate --m 4 --n 4 --k 4", 2, "LEVEL is missing");
  expect_refusal("emulate reference --m 4 --n 4 --k 4", 2, "runs on the CPU as it is");
  expect_refusal("emulate bogus --m 4 --n 4 --k 4", 2, "LEVEL is 'bogus'");
  expect_refusal("emulate naive --m 4 --n 4", 2, "--k is missing");
  expect_refusal("emulate naive --m 4 --n 4 --k -1", 2, "--k is '-1'");
  expect_refusal("emulate naive --m 0 --n 4 --k 4", 2, "nothing is launched");
  expect_refusal("emulate naive --m 4 --n 4 --k 4 --seed x", 2, "--seed is 'x'");
  expect_refusal("emulate naive --m 4 --n 4 --k 4 --seeds 0", 2, "--seeds is '0'");
  expect_refusal("emulate naive --m 4 --n 4 --k 4 --groups 2", 2, "--groups is '2'");
  expect_refusal("emulate naive --m 4 --n 4 --k 4 --block-m 5", 5, "FG_BAD_PLAN");
  expect_refusal("emulate naive --m 4 --n 4 --k 4 --trace no/such/folder", 4, "--trace");
  expect_refusal("emulate --draw t.json", 2, "--svg is missing");
  expect_refusal("emulate naive --draw t.json --svg t.svg", 2, "one argument too many");
  expect_refusal("emulate --draw t.json --svg t.svg", 3, "t.json");
  expect_refusal("echo {} > t.json; emulate --draw t.json --svg t.svg", 3, "no trace of the emulator");
  expect_refusal("emulate naive --m 4 --n 4 --k 4 --svg no/such/folder", 4, "--svg");
}

Test(emulate, runs_on_nothing_but_the_emulator) {
  expect_refusal("FG_CUDA_DRIVER=\"$STUB\" emulate naive --m 4 --n 4 --k 4", 5, "is not the emulator");
  expect_refusal("FG_CUDA_DRIVER=/nowhere/libcuda.so emulate naive --m 4 --n 4 --k 4", 5, "the emulator cannot be opened");
}

Test(emulate, refuses_an_environment_that_it_does_not_understand) {
  expect_refusal("FG_EMULATOR_THREADS=zz emulate naive --m 4 --n 4 --k 4", 5, "FG_EMULATOR_THREADS is zz");
  expect_refusal("FG_EMULATOR_SMS=0 emulate naive --m 4 --n 4 --k 4", 5, "FG_EMULATOR_SMS is 0");
  expect_refusal("FG_EMULATOR_TRACE_BLOCKS=zz emulate naive --m 4 --n 4 --k 4", 5, "FG_EMULATOR_TRACE_BLOCKS is zz");
}

Test(emulate, needs_a_compiler_and_says_so) {
  expect_refusal("CXX=no-such-compiler emulate naive --m 4 --n 4 --k 4", 5, "no C++ compiler");
}

Test(emulate, shows_what_the_compiler_says) {
  int line = edit("04_naive.cu", "s|float sum = 0;|float sum = nothing; // here|", "here");
  char words[64];
  snprintf(words, sizeof words, "lessons/04_naive.cu(%d)", line);
  expect_refusal("emulate naive --m 4 --n 4 --k 4", 5, words);
}
