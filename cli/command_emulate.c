#include "cli.h"
#include "tensor_format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What came of a launch. */
struct trial {
  uint64_t seed;
  double cycles;            /* of the cluster that took longest */
  int64_t differing, first; /* elements of D whose bits are not the twin's */
  const char *fault;        /* NULL: none */
};

struct emulation {
  fg_context *context; /* of the emulator */
  fg_level twin;
  fg_problem problem, there; /* in the host's memory and in the context's */
  const void *blank;         /* D before a launch */
  const void *expected;      /* D of the twin */
  FILE *trace;               /* of the last launch; without a name, so that it never stays */
  double clock_mhz;
};

static void set_environment(const char *name, const char *value) {
  if (setenv(name, value, 1) != 0) fail(REFUSED, "the environment cannot be changed");
}

/* The first CUDA context of the process, which is why nothing asks for one earlier. */
static fg_context *open_emulator(FILE *trace, int threads) {
  static fg_context *context;
  if (threads) set_environment("FG_EMULATOR_THREADS", text("%d", threads));
  set_environment("FG_DEVICE", "emulator");
  set_environment("FG_EMULATOR_TRACE", text("/proc/self/fd/%d", fileno(trace)));
  require(cuda_context(0, &context), "");
  return context;
}

static void multiply_on_twin(fg_context *host, struct emulation *of, int split_k) {
  fg_problem problem = of->problem;
  void *d = claim(result_bytes(&problem), 1, "the twin's D");
  memcpy(d, of->blank, (size_t)result_bytes(&problem));
  problem.level = of->twin;
  problem.split_k = of->twin == FG_HOPPER ? split_k : 0;
  problem.plan = NULL;
  problem.d.data = d;
  require(fg_gemm(host, &problem), level_name(of->twin));
  of->expected = d;
}

static void compare(const struct emulation *of, struct trial *trial) {
  size_t bytes = (size_t)type_bytes(of->problem.d.type);
  const char *d = of->problem.d.data, *expected = of->expected;
  int64_t count = result_bytes(&of->problem) / (int64_t)bytes;
  for (int64_t i = count - 1; i >= 0; i--) {
    if (memcmp(d + (size_t)i * bytes, expected + (size_t)i * bytes, bytes) == 0) continue;
    trial->differing++;
    trial->first = i;
  }
}

/* The trace of the last launch, NULL if it wrote none. */
static json_t *load_trace(const struct emulation *of) {
  rewind(of->trace);
  return json_loadf(of->trace, 0, NULL);
}

static struct trial try_seed(struct emulation *of, uint64_t seed) {
  struct trial trial = {.seed = seed};
  set_environment("FG_EMULATOR_SEED", text("%" PRIu64, seed));
  require(fg_memory_copy(of->context, of->there.d.data, of->blank, (size_t)result_bytes(&of->problem)), "");
  fg_status status = fg_gemm(of->context, &of->there);
  if (status == FG_DRIVER_ERROR)
    trial.fault = text("%s", fg_message());
  else
    require(status, "");
  if (!trial.fault) {
    require(fetch_result(of->context, &of->there, &of->problem), "");
    compare(of, &trial);
  }
  json_t *trace = load_trace(of), *about = json_object_get(trace, "otherData");
  trial.cycles = (double)json_integer_value(json_object_get(about, "cycles"));
  of->clock_mhz = (double)json_integer_value(json_object_get(about, "clock_mhz"));
  json_decref(trace);
  return trial;
}

static void write_file(const char *path, const void *data, size_t bytes) {
  char error[TENSOR_ERROR_BYTES];
  if (!replace_file(path, &(struct part){data, bytes}, 1, error)) fail(NOT_WRITTEN, "%s", error);
}

static void write_trace(const struct emulation *of, const char *path) {
  if (fseek(of->trace, 0, SEEK_END) != 0) fail(NOT_WRITTEN, "the trace cannot be read");
  long bytes = ftell(of->trace);
  char *data = claim(bytes, 1, "the trace");
  rewind(of->trace);
  if (fread(data, 1, (size_t)bytes, of->trace) != (size_t)bytes) fail(NOT_WRITTEN, "the trace cannot be read");
  write_file(path, data, (size_t)bytes);
}

/* `what` was launched. The trace's reference is taken. */
static void write_svg(json_t *trace, const char *path, const char *what) {
  json_int_t seed = json_integer_value(json_object_get(json_object_get(trace, "otherData"), "seed"));
  size_t bytes;
  char *svg = timeline_svg(trace, text("%s: the emulator's cost model, seed %" PRId64, what, (int64_t)seed), &bytes);
  json_decref(trace);
  write_file(path, svg, bytes);
  free(svg);
}

static const char *words_of(const fg_problem *problem) {
  const char *groups = problem->kind == FG_DENSE ? "" : text(", %s of %" PRId64, kind_name(problem->kind), problem->groups);
  return text("%s, m %" PRId64 ", n %" PRId64 ", k %" PRId64 "%s", level_name(problem->level), problem->m, problem->n, problem->k,
              groups);
}

/* A trace that was written for FG_EMULATOR_TRACE by whichever program. */
static enum outcome draw(const char *path, const char *svg) {
  json_error_t error;
  json_t *trace = json_load_file(path, 0, &error), *about = json_object_get(trace, "otherData");
  const char *kernel;
  int grid[3], block[3], blocks, threads;
  if (!svg) fail(BAD_USAGE, "--svg is missing; it names the picture that --draw makes");
  if (!trace) fail(BAD_INPUT, "--draw: %s: %s", printable(path), error.text);
  if (json_unpack(about, "{ss s[iii] s[iii]}", "kernel", &kernel, "grid", &grid[0], &grid[1], &grid[2], "block", &block[0],
                  &block[1], &block[2]) != 0)
    fail(BAD_INPUT, "--draw: %s is no trace of the emulator", printable(path));
  blocks = grid[0] * grid[1] * grid[2], threads = block[0] * block[1] * block[2];
  write_svg(trace, svg, text("%s, %d block%s of %d threads", kernel, blocks, blocks == 1 ? "" : "s", threads));
  return DONE;
}

/* "[3, 17]", with the matrix before them if there are several. */
static const char *place_of(const fg_problem *problem, int64_t index) {
  int64_t j = index % problem->n, i = index / problem->n % problem->m, matrix = index / problem->n / problem->m;
  if (matrices_of_d(problem) > 1) return text("[%" PRId64 ", %" PRId64 ", %" PRId64 "]", matrix, i, j);
  return text("[%" PRId64 ", %" PRId64 "]", i, j);
}

static bool is_right(const struct trial *trial) { return !trial->fault && trial->differing == 0; }

static void print_trials(const struct emulation *of, const struct trial *trials, int64_t count, int64_t right) {
  const char *const headings[] = {"seed", "cycles", text("us at %.0f MHz", of->clock_mhz), "elements", "differing", "bits"};
  struct table *table = table_begin("rrrrrl", headings);
  int64_t elements = result_bytes(&of->problem) / type_bytes(of->problem.d.type);
  const char *twin = level_name(of->twin);
  for (const struct trial *trial = trials; trial < trials + count; trial++) {
    table_cell(table, "%" PRIu64, trial->seed);
    table_cell(table, "%s", trial->fault ? "-" : text("%.0f", trial->cycles));
    table_cell(table, "%s", trial->fault ? "-" : text("%.2f", trial->cycles / of->clock_mhz));
    table_cell(table, "%" PRId64, elements);
    table_cell(table, "%s", trial->fault ? "-" : text("%" PRId64, trial->differing));
    table_cell(table, "%s",
               trial->fault       ? "a fault"
               : trial->differing ? text("NOT those of %s, first at %s", twin, place_of(&of->problem, trial->first))
                                  : text("= %s", twin));
  }
  printf("\n");
  table_print(table);
  for (const struct trial *trial = trials; trial < trials + count; trial++)
    if (trial->fault) printf("\nseed %" PRIu64 ": %s\n", trial->seed, trial->fault);
  if (right == count)
    printf("\nNo fault; the bits are those of %s.\n", twin);
  else
    printf("\n%" PRId64 " of %" PRId64 " seed%s NOT right.\n", count - right, count, count == 1 ? " is" : "s are");
}

static json_t *json_trials(const struct emulation *of, const struct trial *trials, int64_t count) {
  json_t *list = json_array();
  for (const struct trial *trial = trials; trial < trials + count; trial++) {
    json_t *cycles = trial->fault ? json_null() : json_integer((json_int_t)trial->cycles);
    json_t *differing = trial->fault ? json_null() : json_integer(trial->differing);
    json_t *first = trial->differing ? json_text(place_of(&of->problem, trial->first)) : json_null();
    json_t *fault = trial->fault ? json_text(trial->fault) : json_null();
    json_array_append_new(list, json_pack("{sI so so so so}", "seed", (json_int_t)trial->seed, "cycles", cycles, "differing",
                                          differing, "first", first, "fault", fault));
  }
  return list;
}

static const char *output_option(const char *option, const char *path) {
  char error[TENSOR_ERROR_BYTES];
  if (path && !replace_file_possible(path, error)) fail(NOT_WRITTEN, "%s: %s", option, error);
  return path;
}

static fg_level level_to_emulate(const char *name) {
  fg_level level = level_option("LEVEL", name);
  if (level != FG_BEST && memory_of(level) == FG_CPU)
    fail(BAD_USAGE, "LEVEL is '%s', which runs on the CPU as it is; the emulator is for levels of a GPU", name);
  if (level != FG_BEST) require(level_exists(level), "");
  return level;
}

static enum outcome run(const struct command *command, int argc, const char **argv) {
  struct problem_choice choice = {0};
  const char *a_scaling = NULL, *b_scaling = NULL, *c_type = NULL, *bias_type = NULL, *out_type = NULL, *arguments[1];
  const char *seed = NULL, *seeds = NULL, *trace = NULL, *svg = NULL, *threads = NULL, *drawn = NULL;
  int json = 0;
  struct poptOption options[] = {
      {"seed", '\0', POPT_ARG_STRING, &seed, 0, "0: all takes as long as the cost model says; else drawn from it (default: 0)",
       "S"},
      {"seeds", '\0', POPT_ARG_STRING, &seeds, 0, "try so many seeds, from S on (default: 1)", "N"},
      {"trace", '\0', POPT_ARG_STRING, &trace, 0, "write the first seed's timeline, for Perfetto or chrome://tracing",
       "FILE.json"},
      {"svg", '\0', POPT_ARG_STRING, &svg, 0, "draw it", "FILE.svg"},
      {"draw", '\0', POPT_ARG_STRING, &drawn, 0, "run nothing: draw a trace that FG_EMULATOR_TRACE named", "FILE.json"},
      OPTION_PROBLEM(choice),
      {"scaling-a", '\0', POPT_ARG_STRING, &a_scaling, 0, "scales of A (default: 1x128)", "1x128|128x128|tensor"},
      {"scaling-b", '\0', POPT_ARG_STRING, &b_scaling, 0, "scales of B (default: 128x128)", "128x128|1x128|tensor"},
      {"c", '\0', POPT_ARG_STRING, &c_type, 0, "add a C of this type (default: none)", "bf16|f16|f32"},
      {"bias", '\0', POPT_ARG_STRING, &bias_type, 0, "add a bias of this type (default: none)", "bf16|f16|f32"},
      {"out-type", '\0', POPT_ARG_STRING, &out_type, 0, "what D is rounded to (default: f32)", "bf16|f16|f32"},
      OPTION_THREADS(threads),
      OPTION_JSON(json),
      OPTIONS_END};
  int given = parse(command, argc, argv, options, 0, 1, arguments);
  svg = output_option("--svg", svg);
  if (drawn && given) fail(BAD_USAGE, "'%s' is one argument too many: --draw runs nothing", arguments[0]);
  if (drawn) return draw(drawn, svg);
  if (!given) fail(BAD_USAGE, "LEVEL is missing; usage: finegemm emulate %s", command->arguments);
  struct emulation of = {.problem = problem_option(&choice)};
  fg_problem *problem = &of.problem;
  problem->level = level_to_emulate(arguments[0]);
  problem->a.scaling = scaling_option("--scaling-a", a_scaling ? a_scaling : "1x128");
  problem->b.scaling = scaling_option("--scaling-b", b_scaling ? b_scaling : "128x128");
  problem->c.type = out_type_option("--c", c_type);
  problem->bias.type = out_type_option("--bias", bias_type);
  problem->d.type = out_type_option("--out-type", out_type ? out_type : "f32");
  uint64_t first_seed = (uint64_t)number_option("--seed", seed, 0, INT64_MAX / 2);
  int64_t count = number_option("--seeds", seeds, 1, 1 << 20), right = 0;
  trace = output_option("--trace", trace);
  int most_threads = threads_option(threads);
  fg_context *host = make_context(most_threads);
  of.trace = tmpfile();
  if (!of.trace) fail(NOT_WRITTEN, "there is no room for a temporary file");
  of.context = open_emulator(of.trace, most_threads);

  fg_gpu gpu;
  fg_plan plan;
  require(fg_context_gpu(of.context, &gpu), "");
  if (!strstr(gpu.name, "emulator"))
    fail(REFUSED, "the driver that FG_CUDA_DRIVER names has %s, and is not the emulator", gpu.name);
  lay_out_scales(problem);
  plan_there(of.context, problem, &plan);
  problem->level = plan.level;
  of.twin = host_level(plan.level);
  if (plan.blocks == 0) fail(BAD_USAGE, "nothing is launched for a problem without elements of D");
  make_operands(host, problem, 1);
  of.blank = memcpy(claim(result_bytes(problem), 1, "D"), problem->d.data, (size_t)result_bytes(problem));
  if (!json) {
    print_plan(&gpu, problem, &plan);
    fflush(stdout);
  }
  multiply_on_twin(host, &of, plan.split_k);
  require(send_operands(of.context, problem, &of.there), "");
  require(fg_prepare(of.context, &of.there), "");
  struct trial *trials = claim(count, sizeof *trials, "the trials");
  for (int64_t i = 0; i < count; i++) {
    progress("emulating", i, count);
    trials[i] = try_seed(&of, first_seed + (uint64_t)i);
    right += is_right(&trials[i]);
    if (i == 0 && trace) write_trace(&of, trace);
    if (i == 0 && svg) write_svg(load_trace(&of), svg, words_of(problem));
  }
  progress_clear();
  if (json)
    json_print(json_pack("{so so so ss sf sI so sb}", "gpu", json_gpu(&gpu), "problem", json_problem(problem), "plan",
                         json_plan(&plan), "twin", level_name(of.twin), "clock_mhz", of.clock_mhz, "elements",
                         result_bytes(problem) / type_bytes(problem->d.type), "seeds", json_trials(&of, trials, count), "right",
                         right == count));
  else
    print_trials(&of, trials, count, right);
  return right == count ? DONE : DIFFERENT;
}

const struct command command_emulate = {
    "emulate", "LEVEL --m M --n N --k K [OPTION...]",
    "Runs a GPU level's kernel on this machine's processor, and looks for faults",
    "\nMakes random operands and compares the result with the level of the CPU that has its bits. Needs a C++ compiler, and no GPU;\n"
    "docs/emulator.md tells what is looked for.",
    run};
