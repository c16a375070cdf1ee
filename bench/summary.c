#include "summary.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Few rows, where bytes are the limit; between; many. */
static const struct { int from, to; /* 0: no end */ } classes[] = {{1, 128}, {129, 1024}, {1025, 0}};
enum { CLASSES = sizeof classes / sizeof *classes };

static double number(const json_t *object, const char *key) {
  const json_t *value = json_object_get(object, key);
  return json_is_number(value) ? json_number_value(value) : NAN;
}

static double median_us(const json_t *row, const char *when) { return number(json_object_get(row, when), "median_us"); }

static const char *name_of(const json_t *row) { return json_string_value(json_object_get(row, "name")); }

/* NULL: it has none of that name, or no times of it. */
static const json_t *timed(const json_t *rows, const char *name) {
  size_t i;
  const json_t *row;
  json_array_foreach(rows, i, row) {
    const json_t *own = json_object_get(row, "own_plan");
    if (strcmp(name_of(row), name) == 0 && (!own || json_is_true(own)) && median_us(row, "cold") > 0) return row;
  }
  return NULL;
}

static bool is_in(const json_t *result, int range) {
  double m = number(result, "m");
  return m >= classes[range].from && (classes[range].to == 0 || m <= classes[range].to);
}

/* Adds the names of rows of `key` that are not in `names` yet. */
static void add_names(json_t *names, const json_t *results, const char *key) {
  size_t r, i, n;
  const json_t *result, *row, *name;
  json_array_foreach(results, r, result) {
    json_array_foreach(json_object_get(result, key), i, row) {
      bool is_new = timed(json_object_get(result, key), name_of(row)) != NULL;
      json_array_foreach(names, n, name) is_new = is_new && strcmp(json_string_value(name), name_of(row)) != 0;
      if (is_new) json_array_append_new(names, json_string(name_of(row)));
    }
  }
}

/* The least value so far, and where. */
struct least {
  double value;
  const json_t *result;
};

static void keep_least(struct least *least, double value, const json_t *result) {
  if (!least->result || value < least->value) *least = (struct least){value, result};
}

static json_t *least_json(const struct least *least) {
  return json_pack("{s:f, s:O, s:O, s:O}", "value", least->value, "m", json_object_get(least->result, "m"), "n",
                   json_object_get(least->result, "n"), "k", json_object_get(least->result, "k"));
}

/* NULL: no shape of the class has both. */
static json_t *against(const json_t *results, int range, const char *level, const char *peer) {
  size_t r;
  const json_t *result;
  double cold_logs = 0, settled_logs = 0;
  int shapes = 0, settled_shapes = 0;
  struct least least = {.result = NULL};
  json_array_foreach(results, r, result) {
    const json_t *mine = timed(json_object_get(result, "rows"), level), *other = timed(json_object_get(result, "peers"), peer);
    if (!mine || !other || !is_in(result, range)) continue;
    double cold = median_us(other, "cold") / median_us(mine, "cold"),
           settled = median_us(other, "settled") / median_us(mine, "settled");
    shapes++;
    cold_logs += log(cold);
    keep_least(&least, cold, result);
    if (settled > 0) settled_shapes++, settled_logs += log(settled);
  }
  if (shapes == 0) return NULL;
  json_t *ratios = json_pack("{s:s, s:i, s:f, s:o}", "name", peer, "shapes", shapes, "cold", exp(cold_logs / shapes), "least",
                             least_json(&least));
  if (settled_shapes > 0) json_object_set_new(ratios, "settled", json_real(exp(settled_logs / settled_shapes)));
  return ratios;
}

/* NULL: the level was timed at no shape of the class. */
static json_t *class_json(const json_t *results, int range, const char *level, const json_t *peers) {
  size_t r, p;
  const json_t *result, *peer;
  double shares = 0;
  int shapes = 0;
  struct least least = {.result = NULL};
  json_array_foreach(results, r, result) {
    const json_t *row = timed(json_object_get(result, "rows"), level);
    if (!row || !is_in(result, range)) continue;
    double share = number(result, "limit_us") / median_us(row, "cold");
    shapes++;
    shares += share;
    keep_least(&least, share, result);
  }
  if (shapes == 0) return NULL;
  json_t *ratios = json_array();
  json_array_foreach(peers, p, peer) {
    json_t *ratio = against(results, range, level, json_string_value(peer));
    if (ratio) json_array_append_new(ratios, ratio);
  }
  return json_pack("{s:s, s:i, s:i, s:i, s:f, s:o, s:o}", "level", level, "m_from", classes[range].from, "m_to",
                   classes[range].to, "shapes", shapes, "share_of_limit", shares / shapes, "least_share", least_json(&least),
                   "peers", ratios);
}

/* --- Steps in m */

struct point {
  double n, k, m, us;
};

static int compare_points(const void *a, const void *b) {
  const struct point *x = a, *y = b;
  if (x->n != y->n) return x->n < y->n ? -1 : 1;
  if (x->k != y->k) return x->k < y->k ? -1 : 1;
  return (x->m > y->m) - (x->m < y->m);
}

static void append_steps(json_t *steps, const char *level, const struct point *points, int count) {
  int taken = 0;
  double largest = 0, m = 0;
  for (int i = 0; i < count; i++) {
    const struct point *now = &points[i], *next = i + 1 < count ? &points[i + 1] : NULL;
    bool is_same_layer = next && next->n == now->n && next->k == now->k;
    if (is_same_layer && next->m == now->m + 1) {
      double step = next->us / now->us - 1;
      if (taken++ == 0 || step > largest) largest = step, m = next->m;
    }
    if (is_same_layer) continue;
    if (taken > 0)
      json_array_append_new(steps, json_pack("{s:s, s:i, s:i, s:i, s:f, s:i}", "level", level, "n", (int)now->n, "k", (int)now->k,
                                             "steps", taken, "largest", largest, "m", (int)m));
    taken = 0;
  }
}

static void add_steps(json_t *steps, const json_t *results, const char *level) {
  struct point *points = calloc(json_array_size(results) + 1, sizeof *points);
  int count = 0;
  size_t r;
  const json_t *result;
  if (!points) return;
  json_array_foreach(results, r, result) {
    const json_t *row = timed(json_object_get(result, "rows"), level);
    if (row)
      points[count++] = (struct point){number(result, "n"), number(result, "k"), number(result, "m"), median_us(row, "cold")};
  }
  qsort(points, (size_t)count, sizeof *points, compare_points);
  append_steps(steps, level, points, count);
  free(points);
}

json_t *summarise(const json_t *results) {
  json_t *levels = json_array(), *peers = json_array(), *of_classes = json_array(), *steps = json_array(),
         *summary = json_object();
  size_t l;
  const json_t *level;
  add_names(levels, results, "rows");
  add_names(peers, results, "peers");
  json_array_foreach(levels, l, level) {
    for (int range = 0; range < CLASSES; range++) {
      json_t *one = class_json(results, range, json_string_value(level), peers);
      if (one) json_array_append_new(of_classes, one);
    }
    add_steps(steps, results, json_string_value(level));
  }
  if (json_array_size(of_classes) > 0) json_object_set(summary, "classes", of_classes);
  if (json_array_size(steps) > 0) json_object_set(summary, "steps", steps);
  json_decref(levels);
  json_decref(peers);
  json_decref(of_classes);
  json_decref(steps);
  return summary;
}

static void print_where(const json_t *least) {
  printf("%.3f at %.0f x %.0f x %.0f", number(least, "value"), number(least, "m"), number(least, "n"), number(least, "k"));
}

void print_summary(const json_t *summary) {
  size_t c, p, s;
  const json_t *class, *peer, *step;
  json_array_foreach(json_object_get(summary, "classes"), c, class) {
    printf("%s, m from %.0f", json_string_value(json_object_get(class, "level")), number(class, "m_from"));
    if (number(class, "m_to") > 0) printf(" to %.0f", number(class, "m_to"));
    printf(": %.0f shapes, share of the limit %.3f in the mean, least ", number(class, "shapes"),
           number(class, "share_of_limit"));
    print_where(json_object_get(class, "least_share"));
    printf("\n");
    json_array_foreach(json_object_get(class, "peers"), p, peer) {
      printf("  times %s's speed: %.3f cold", name_of(peer), number(peer, "cold"));
      if (number(peer, "settled") > 0) printf(", %.3f settled", number(peer, "settled"));
      printf(", %.0f shapes, least ", number(peer, "shapes"));
      print_where(json_object_get(peer, "least"));
      printf("\n");
    }
  }
  json_array_foreach(json_object_get(summary, "steps"), s, step)
    printf("%s, n = %.0f, k = %.0f: of %.0f steps of one in m the largest costs %.1f %%, to m = %.0f\n",
           json_string_value(json_object_get(step, "level")), number(step, "n"), number(step, "k"), number(step, "steps"),
           100 * number(step, "largest"), number(step, "m"));
}
