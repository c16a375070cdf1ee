#include "cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct comparison {
  int64_t elements, differing; /* in their bits */
  int64_t worst;               /* the element with the largest difference, -1: none differs */
  double first, second, difference, relative;
  double rms;    /* of the difference, relative to the first's */
  double cosine; /* for people used to it */
};

static struct source result_find(const char *spec) {
  struct source source = source_find(spec);
  if (source.tensor->type == FG_DEFAULT_TYPE)
    fail(BAD_INPUT, "%s is %s; it must be F32, F16, BF16, F8_E4M3 or F8_E5M2", source.spec, dtype_of(source.tensor));
  return source;
}

static bool same_shape(const struct tensor *first, const struct tensor *second) {
  return first->rank == second->rank && memcmp(first->shape, second->shape, (size_t)first->rank * sizeof *first->shape) == 0;
}

/* NaN beside NaN is no difference, beside a number it is an infinite one; so are two infinities. */
static double difference_of(double x, double y) {
  if ((isnan(x) && isnan(y)) || x == y) return 0;
  return isnan(x) || isnan(y) ? INFINITY : fabs(x - y);
}

/* FP32 holds every type exactly, so results of two types are compared as FP32, and of one type as they are. */
static struct comparison compare(fg_context *context, const struct source *first, const struct source *second) {
  enum { CHUNK = 1 << 16 };
  static float x[CHUNK], y[CHUNK];
  fg_type x_type = first->tensor->type, y_type = second->tensor->type;
  size_t bytes = (size_t)type_bytes(x_type);
  const char *x_data = packed_data(first), *y_data = packed_data(second);
  struct comparison result = {.elements = first->tensor->count, .worst = -1, .difference = -1};
  double xx = 0, yy = 0, xy = 0, dd = 0;
  for (int64_t start = 0; start < result.elements; start += CHUNK) {
    progress("comparing", start, result.elements);
    int64_t count = result.elements - start < CHUNK ? result.elements - start : CHUNK;
    to_float(context, x_type, x_data, start, count, x);
    to_float(context, y_type, y_data, start, count, y);
    for (int64_t i = 0; i < count; i++) {
      double u = (double)x[i], v = (double)y[i];
      if (isfinite(u) && isfinite(v)) {
        xx += u * u;
        yy += v * v;
        xy += u * v;
        dd += (u - v) * (u - v);
      }
      const char *x_bits = x_data + (size_t)(start + i) * bytes, *y_bits = y_data + (size_t)(start + i) * bytes;
      if (x_type == y_type ? memcmp(x_bits, y_bits, bytes) == 0 : memcmp(&x[i], &y[i], sizeof x[i]) == 0) continue;
      result.differing++;
      double difference = difference_of(u, v);
      if (!(difference > result.difference)) continue;
      result.difference = difference;
      result.worst = start + i;
      result.first = u;
      result.second = v;
      result.relative = difference == 0 ? 0 : difference / fmax(fabs(u), fabs(v));
    }
  }
  progress_clear();
  result.rms = dd == 0 ? 0 : sqrt(dd / xx);
  result.cosine = xx == 0 && yy == 0 ? 1 : xy / sqrt(xx * yy);
  if (result.worst < 0) result.difference = 0;
  return result;
}

static char *index_text(const struct tensor *tensor, int64_t index) {
  char *list = text("]");
  for (int i = tensor->rank - 1; i >= 0; i--) {
    list = text("%s%" PRId64 "%s", i ? ", " : "[", index % tensor->shape[i], list);
    index /= tensor->shape[i];
  }
  return tensor->rank ? list : text("[]");
}

static json_t *json_index(const struct tensor *tensor, int64_t index) {
  json_t *list = json_array();
  for (int i = tensor->rank - 1; i >= 0; i--) {
    json_array_insert_new(list, 0, json_integer(index % tensor->shape[i]));
    index /= tensor->shape[i];
  }
  return list;
}

static json_t *json_of_result(const struct source *source, const struct verdict *verdict) {
  json_t *json = json_pack("{so ss so}", "source", json_text(source->spec), "type", dtype_of(source->tensor), "shape",
                           json_shape(source->tensor));
  if (verdict)
    json_object_set_new(json, "check",
                        json_pack("{sI s[II] so so so so so}", "outside", verdict->outside, "worst", verdict->i, verdict->j,
                                  "result", json_number(verdict->d), "value", json_number(verdict->value), "error",
                                  json_number(verdict->error), "bound", json_number(verdict->bound), "ratio",
                                  json_number(verdict->ratio)));
  return json;
}

static json_t *json_of_comparison(const struct comparison *c, const struct tensor *tensor) {
  json_t *worst = c->worst < 0 ? json_null() : json_index(tensor, c->worst);
  return json_pack("{sI sI so so so so so so so}", "elements", c->elements, "differing", c->differing, "worst", worst, "first",
                   json_number(c->first), "second", json_number(c->second), "difference", json_number(c->difference), "relative",
                   json_number(c->relative), "rms", json_number(c->rms), "cosine", json_number(c->cosine));
}

static void print_comparison(const struct comparison *c, const struct tensor *tensor) {
  printf("\nbits differ  %" PRId64 " of %" PRId64 " elements", c->differing, c->elements);
  if (c->worst < 0) {
    printf("\n");
    return;
  }
  printf(" (%.3g %%)\nworst        %s: %.9g and %.9g, difference %.3g, relative %.3g\n",
         100 * (double)c->differing / (double)c->elements, index_text(tensor, c->worst), c->first, c->second, c->difference,
         c->relative);
  printf("all          relative RMS difference %.3g; cosine %.9g\n", c->rms, c->cosine);
}

static void print_verdicts(const struct source *results, const struct verdict *verdicts, int count, fg_level level) {
  const char *const headings[] = {
      "against the exact product", "outside", "worst at", "result", "exact", "error", "bound", "error/bound"};
  struct table *table = table_begin("lrrrrrrr", headings);
  for (int i = 0; i < count; i++) {
    const struct verdict *v = &verdicts[i];
    table_cell(table, "%s", results[i].spec);
    table_cell(table, "%" PRId64, v->outside);
    table_cell(table, "[%" PRId64 ", %" PRId64 "]", v->i, v->j);
    table_cell(table, "%.7g", v->d);
    table_cell(table, "%.7g", v->value);
    table_cell(table, "%.3g", v->error);
    table_cell(table, "%.3g", v->bound);
    table_cell(table, "%.3g", v->ratio);
  }
  printf("\n");
  table_print(table);
  printf("(the bound of level %s, for each element)\n", level_name(level));
}

/* The bound is that of the type that the result was rounded to, which a .npy file of FP32 does not say. */
static struct verdict check(fg_context *context, const fg_problem *problem, const struct source *result, fg_type rounded,
                            const char *what) {
  const struct tensor *tensor = result->tensor;
  if (tensor->rank != 2 || tensor->shape[0] != problem->m || tensor->shape[1] != problem->n)
    fail(BAD_INPUT, "%s has shape %s, but A B^T is [%" PRId64 ", %" PRId64 "]", result->spec, shape_of(tensor), problem->m,
         problem->n);
  if (type_bytes(tensor->type) == 1)
    fail(BAD_INPUT, "%s is %s; there is a bound for F32, F16 and BF16", result->spec, dtype_of(tensor));
  return judge(context, problem, packed_data(result), tensor->type, rounded ? rounded : tensor->type, what);
}

static void print_results(const struct source results[2]) {
  struct table *table = table_begin("lll", NULL);
  for (int i = 0; i < 2; i++) {
    table_cell(table, "%s", results[i].spec);
    table_cell(table, "%s", dtype_of(results[i].tensor));
    table_cell(table, "%s", shape_of(results[i].tensor));
  }
  table_print(table);
}

static enum outcome run(const struct command *command, int argc, const char **argv) {
  struct multiplication of = {0};
  const char *level_text = NULL, *out_type = NULL, *threads = NULL, *specs[2];
  int json = 0;
  struct poptOption options[] = {
      OPTION_MULTIPLICATION(of),
      {"level", '\0', POPT_ARG_STRING, &level_text, 0, "whose bound (default: blas, which is reference's too)", "NAME"},
      {"out-type", '\0', POPT_ARG_STRING, &out_type, 0, "what D1 and D2 were rounded to (default: their types)", "bf16|f16|f32"},
      OPTION_THREADS(threads),
      OPTION_JSON(json),
      OPTIONS_END};
  parse(command, argc, argv, options, 2, 2, specs);
  fg_level level = level_option("--level", level_text);
  fg_type rounded = out_type_option("--out-type", out_type);
  fg_context *context = make_context(threads_option(threads));
  bool bounded =
      of.a_spec || of.b_spec || of.c_spec || of.a_scaling || of.b_scaling || of.a_type || of.b_type || level_text || out_type;
  struct source results[2] = {result_find(specs[0]), result_find(specs[1])};
  fg_problem problem = {0};
  if (bounded) problem = read_problem(context, &of);
  problem.level = level == FG_BEST ? FG_BLAS : level;

  if (!same_shape(results[0].tensor, results[1].tensor)) {
    if (json) {
      json_print(json_pack("{so so sn sn sb sb}", "first", json_of_result(&results[0], NULL), "second",
                           json_of_result(&results[1], NULL), "comparison", "level", "equal", 0, "passes", 0));
    } else {
      print_results(results);
      printf("\nTheir shapes differ.\n");
    }
    return DIFFERENT;
  }
  struct comparison comparison = compare(context, &results[0], &results[1]);
  struct verdict verdicts[2];
  if (bounded) {
    verdicts[0] = check(context, &problem, &results[0], rounded, "checking the first");
    verdicts[1] = check(context, &problem, &results[1], rounded, "checking the second");
  }
  bool equal = comparison.differing == 0;
  bool passes = bounded ? verdicts[0].outside + verdicts[1].outside == 0 : equal;
  if (json) {
    json_print(json_pack("{so so so ss? sb sb}", "first", json_of_result(&results[0], bounded ? &verdicts[0] : NULL), "second",
                         json_of_result(&results[1], bounded ? &verdicts[1] : NULL), "comparison",
                         json_of_comparison(&comparison, results[0].tensor), "level", bounded ? level_name(problem.level) : NULL,
                         "equal", equal, "passes", passes));
  } else {
    print_results(results);
    print_comparison(&comparison, results[0].tensor);
    if (bounded) print_verdicts(results, verdicts, 2, problem.level);
    printf("\n%s%s\n", equal ? "Their bits are equal." : "They differ.",
           !bounded ? ""
           : passes ? " Both are within the bound."
                    : " Not both are within the bound.");
  }
  return passes ? DONE : DIFFERENT;
}

const struct command command_compare = {
    "compare", "D1 D2 [--a X --b W [--c C]] [OPTION...]", "Compares two results, with each other and with the exact product",
    "\nWithout --a and --b it exits with 0 if all bits are equal. With them each element of both is checked against the exact\n"
    "product and its own bound, and it exits with 0 if none is outside, whether or not bits differ; else with 1.",
    run};
