#include "cli.h"

#include <inttypes.h>
#include <stdio.h>

static enum outcome run(const struct command *command, int argc, const char **argv) {
  struct multiplication of = {0};
  const char *out_spec = NULL, *level = NULL, *out_type = NULL, *split_k = NULL, *threads = NULL, *device = NULL;
  int json = 0;
  struct poptOption options[] = {
      OPTION_MULTIPLICATION(of),
      {"out", '\0', POPT_ARG_STRING, &out_spec, 0, "where D [m, n] goes; .npy holds it as float32", "D.npy|D.safetensors:NAME"},
      {"out-type", '\0', POPT_ARG_STRING, &out_type, 0, "what D is rounded to (default: bf16; f32 for .npy)", "bf16|f16|f32"},
      {"level", '\0', POPT_ARG_STRING, &level, 0, "'finegemm levels' lists them (default: the CPU's best)", "NAME"},
      OPTION_DEVICE(device),
      OPTION_SPLIT_K(split_k),
      OPTION_THREADS(threads),
      OPTION_JSON(json),
      OPTIONS_END};
  parse(command, argc, argv, options, 0, 0, NULL);
  fg_level chosen = level_option("--level", level);
  fg_type type = out_type_option("--out-type", out_type);
  int ranges = split_k_option(split_k);
  fg_context *host = make_context(threads_option(threads));
  struct output out = output_find("--out", out_spec, true);
  if (type == FG_DEFAULT_TYPE) type = out.name ? FG_BF16 : FG_FP32;
  fg_context *context = context_for(&chosen, device, host);
  fg_problem problem = read_problem(host, &of);
  problem.level = chosen;
  problem.split_k = ranges;
  problem.d = (fg_result){.data = claim_matrix(problem.m, problem.n, type_bytes(type), "D"), .type = type, .ld = problem.n};
  problem.level = planned_level(context, &problem);
  double seconds = multiply(context, &problem, "multiplying");
  output_write(host, &out, problem.d.data, type, problem.m, problem.n);
  double gflops = seconds > 0 ? 2e-9 * (double)problem.m * (double)problem.n * (double)problem.k / seconds : 0;
  const char *file_type = type_name(out.name ? type : FG_FP32);
  if (json) {
    json_t *c = of.c_spec ? json_text(of.c_spec) : json_null();
    json_print(json_pack("{ss ss? si sI sI sI so so so so ss ss sf sf sf}", "level", level_name(problem.level), "gpu",
                         gpu_name(context), "split_k", ranges, "m", problem.m, "n", problem.n, "k", problem.k, "a",
                         json_factor(&of.a), "b", json_factor(&of.b), "c", c, "out", json_text(out.spec), "out_type",
                         type_name(type), "file_type", file_type, "load_seconds", of.load_seconds, "seconds", seconds, "gflops",
                         gflops));
    return DONE;
  }
  printf("D [%" PRId64 ", %" PRId64 "], k %" PRId64 ": level %s%s%s, %s %s by %s %s, %.3g s, %.3g GFLOPS\n", problem.m, problem.n,
         problem.k, level_name(problem.level), gpu_name(context) ? text(" on %s", gpu_name(context)) : "",
         ranges > 1 ? text(", K in %d ranges", ranges) : "", type_name(problem.a.type), scaling_name(problem.a.scaling),
         type_name(problem.b.type), scaling_name(problem.b.scaling), seconds, gflops);
  printf("%s holds it as %s%s%s\n", out.spec, file_type, out.name || type == FG_FP32 ? "" : ", rounded to ",
         out.name || type == FG_FP32 ? "" : type_name(type));
  return DONE;
}

const struct command command_gemm = {
    "gemm", "--a X --b W [--c C] --out D [OPTION...]", "Multiplies two matrices of files: D = C + A B^T",
    "\nX and W are .npy or FILE.safetensors:NAME; the name may be left out if the file has but one tensor. FP8 tensors take their\n"
    "scales from NAME_scale_inv beside them; floats are quantised on load.",
    run};
