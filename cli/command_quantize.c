#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* [rows, cols] or [matrices, rows, cols] of floats. */
static void require_floats(const struct source *source) {
  const struct tensor *tensor = source->tensor;
  if (tensor->rank != 2 && tensor->rank != 3)
    fail(BAD_INPUT, "%s has shape %s; it must have two dimensions, or three for a stack of matrices", source->spec,
         shape_of(tensor));
  if (tensor->type == FG_DEFAULT_TYPE || type_bytes(tensor->type) == 1)
    fail(BAD_INPUT, "%s is %s; it must be F32, F16 or BF16", source->spec, dtype_of(tensor));
}

static enum outcome run(const struct command *command, int argc, const char **argv) {
  const char *in = NULL, *out_spec = NULL, *scaling_text = NULL, *type_text = NULL, *threads = NULL;
  int ue8m0 = 0, json = 0;
  struct poptOption options[] = {
      {"in", '\0', POPT_ARG_STRING, &in, 0, "what is quantised: X.npy or FILE.safetensors:NAME", "X"},
      {"out", '\0', POPT_ARG_STRING, &out_spec, 0, "where NAME and NAME_scale_inv go", "Q.safetensors:NAME"},
      {"scaling", '\0', POPT_ARG_STRING, &scaling_text, 0, "which elements share a scale (default: 1x128)",
       "1x128|128x128|tensor"},
      {"type", '\0', POPT_ARG_STRING, &type_text, 0, "the FP8 type (default: e4m3)", "e4m3|e5m2"},
      {"ue8m0", '\0', POPT_ARG_NONE, &ue8m0, 0, "round scales up to powers of two", NULL},
      OPTION_THREADS(threads),
      OPTION_JSON(json),
      OPTIONS_END};
  parse(command, argc, argv, options, 0, 0, NULL);
  if (!in) fail(BAD_USAGE, "--in is missing; it names the file to quantise");
  fg_scaling scaling = scaling_option("--scaling", scaling_text);
  fg_type type = fp8_option("--type", type_text);
  if (scaling == FG_DEFAULT_SCALING) scaling = FG_1X128;
  if (type == FG_DEFAULT_TYPE) type = FG_E4M3;
  fg_context *context = make_context(threads_option(threads));
  struct output out = output_find("--out", out_spec, false);
  struct source source = source_find(in);
  require_floats(&source);
  const struct tensor *x = source.tensor;
  bool stack = x->rank == 3;
  int64_t matrices = stack ? x->shape[0] : 1, rows = x->shape[x->rank - 2], cols = x->shape[x->rank - 1];

  double start = seconds_now();
  fg_operand from = {.data = packed_data(&source), .type = x->type};
  fg_operand q = quantise(context, &from, matrices, rows, cols, type, scaling, ue8m0 ? FG_UE8M0 : 0, source.spec);
  double seconds = seconds_now() - start;

  struct tensor written[2] = {{.name = out.name,
                               .dtype = type_name(type),
                               .type = type,
                               .rank = x->rank,
                               .count = x->count,
                               .bytes = x->count,
                               .data = q.data},
                              {.name = text("%s_scale_inv", out.name),
                               .dtype = "F32",
                               .type = FG_FP32,
                               .count = matrices * scale_count(scaling, rows, cols),
                               .data = q.scale}};
  memcpy(written[0].shape, x->shape, sizeof x->shape);
  struct tensor *scales = &written[1];
  scales->bytes = scales->count * (int64_t)sizeof *q.scale;
  if (stack) scales->shape[scales->rank++] = matrices;
  scales->shape[scales->rank++] = scaling == FG_TENSOR ? 1 : scaling == FG_1X128 ? rows : blocks_of(rows);
  if (stack || scaling != FG_TENSOR) scales->shape[scales->rank++] = scaling == FG_TENSOR ? 1 : blocks_of(cols);
  char error[TENSOR_ERROR_BYTES];
  if (!safetensors_write(out.path, written, 2, error)) fail(NOT_WRITTEN, "%s", error);
  if (json) {
    json_print(json_pack("{so ss so so ss ss so sb sf}", "in", json_text(source.spec), "in_type", dtype_of(x), "out",
                         json_text(out.spec), "shape", json_shape(x), "type", type_name(type), "scaling", scaling_name(scaling),
                         "scale_shape", json_shape(scales), "ue8m0", ue8m0, "seconds", seconds));
    return DONE;
  }
  printf("%s %s %s as %s with %s scales %s in %.3g s\n", source.spec, dtype_of(x), shape_of(x), type_name(type),
         scaling_name(scaling), shape_of(scales), seconds);
  printf("%s and %s hold them\n", out.spec, scales->name);
  return DONE;
}

const struct command command_quantize = {
    "quantize", "--in X --out Q.safetensors:NAME [OPTION...]", "Quantises a tensor to FP8 with scales",
    "\nNAME holds the FP8 codes, NAME_scale_inv the scales, F32: [rows, ceil(cols/128)] for 1x128, [ceil(rows/128), ceil(cols/128)]\n"
    "for 128x128, [1] for one scale. A stack [matrices, rows, cols] has each matrix quantised for itself.",
    run};
