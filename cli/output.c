#include "cli.h"

#include <string.h>

struct output output_find(const char *option, const char *spec, bool npy_too) {
  const char *forms = npy_too ? "FILE.npy or FILE.safetensors:NAME" : "FILE.safetensors:NAME";
  if (!spec) fail(BAD_USAGE, "%s is missing; it names the output, %s", option, forms);
  char error[TENSOR_ERROR_BYTES];
  const char *extension = strstr(spec, ".safetensors:"), *end = spec + strlen(spec);
  if (!extension && npy_too && end - spec > 4 && strcmp(end - 4, ".npy") == 0) {
    if (!npy_writable(spec, error)) fail(NOT_WRITTEN, "%s: %s", option, error);
    return (struct output){printable(spec), spec, NULL};
  }
  if (!extension || extension[strlen(".safetensors:")] == '\0') fail(BAD_USAGE, "%s is '%s'; it must be %s", option, spec, forms);
  const char *name = extension + strlen(".safetensors:"), *path = text("%.*s", (int)(name - 1 - spec), spec);
  if (!safetensors_writable(path, name, error)) fail(NOT_WRITTEN, "%s: %s", option, error);
  return (struct output){printable(spec), path, name};
}

void output_write(fg_context *context, const struct output *output, const void *d, fg_type type, int64_t rows, int64_t cols) {
  struct tensor tensor = {.name = output->name ? output->name : "",
                          .dtype = type_name(type),
                          .type = type,
                          .rank = 2,
                          .shape = {rows, cols},
                          .count = rows * cols,
                          .bytes = rows * cols * type_bytes(type),
                          .data = d};
  char error[TENSOR_ERROR_BYTES];
  if (output->name) {
    if (!safetensors_write(output->path, &tensor, 1, error)) fail(NOT_WRITTEN, "%s", error);
    return;
  }
  float *wide = claim(tensor.count, sizeof *wide, "D as FP32");
  to_float(context, type, d, 0, tensor.count, wide);
  tensor.data = wide;
  tensor.type = FG_FP32;
  tensor.dtype = "<f4";
  tensor.bytes = tensor.count * (int64_t)sizeof *wide;
  if (!npy_write(output->path, &tensor, error)) fail(NOT_WRITTEN, "%s", error);
  release(wide);
}
