#include "cli.h"

#include <math.h>
#include <stdio.h>

json_t *json_number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

json_t *json_text(const char *string) {
  json_t *json = json_string(string);
  if (json) return json;
  char *ascii = text("%s", string); /* not UTF-8, as names of files may be */
  for (char *c = ascii; *c; c++)
    if ((unsigned char)*c >= 0x80) *c = '?';
  return json_string(ascii);
}

json_t *json_shape(const struct tensor *tensor) {
  json_t *shape = json_array();
  for (int i = 0; i < tensor->rank; i++) json_array_append_new(shape, json_integer(tensor->shape[i]));
  return shape;
}

void json_print(json_t *object) {
  if (!object || json_dumpf(object, stdout, JSON_INDENT(2)) != 0) fail(NOT_WRITTEN, "the JSON object cannot be written");
  printf("\n");
  json_decref(object);
}
