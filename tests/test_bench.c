/* What the benchmarks make of --shapes, and of what they measured. */
#include "shapes.h"
#include "summary.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct shape_list parsed(const char *text) {
  struct shape_list list = {.count = 0};
  const char *wrong = parse_shapes(text, &list);
  cr_assert(wrong == NULL, "%s: %s", text, wrong ? wrong : "");
  return list;
}

/* NULL: the list has no such shape. */
static const struct shape *found(const struct shape_list *list, int m, int n, int k) {
  for (int i = 0; i < list->count; i++)
    if (list->items[i].m == m && list->items[i].n == n && list->items[i].k == k) return &list->items[i];
  return NULL;
}

Test(bench, shapes_are_taken_in_their_order) {
  struct shape_list list = parsed("3x5x7,1x1x1,2147483647x2x16");
  cr_assert_eq(list.count, 3);
  const struct shape *shapes = list.items;
  cr_expect(shapes[0].m == 3 && shapes[0].n == 5 && shapes[0].k == 7 && !shapes[0].is_swept);
  cr_expect(shapes[1].m == 1 && shapes[1].n == 1 && shapes[1].k == 1);
  cr_expect(shapes[2].m == 2147483647 && shapes[2].n == 2 && shapes[2].k == 16);
  free(list.items);
}

Test(bench, what_is_no_shape_and_no_set_is_refused) {
  static const char *const texts[] = {
      "",       ",",         "0x1x1",          "1x2",     "1x2x3x4",  "1x2x",      "x2x3",   "1x2x-3",
      "1x2x3 ", "seed,nope", "2147483648x1x1", "random:", "random:0", "random:2x", "random", "1.5x2x3"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    struct shape_list list = {.count = 0};
    const char *wrong = parse_shapes(texts[i], &list);
    cr_expect(wrong && strstr(wrong, "--shapes takes"), "\"%s\"", texts[i]);
    free(list.items);
  }
}

Test(bench, sets_have_the_shapes_that_they_promise) {
  struct shape_list seed = parsed("seed"), ladder = parsed("ladder"), models = parsed("models"), small = parsed("small"),
                    large = parsed("large"), squares = parsed("squares");
  cr_expect_eq(seed.count, 7 * 4 + 1);
  cr_expect(found(&seed, 1, 576, 7168) && found(&seed, 4096, 7168, 16384) && found(&seed, 8192, 8192, 8192));
  cr_expect_eq(ladder.count, 3);
  cr_expect(models.count > 200 && models.count % 6 == 0);
  cr_expect(found(&models, 16, 24576, 1536) && found(&models, 4096, 106496, 16384) && found(&models, 1, 21888, 4096));
  cr_expect_eq(small.count, 7 * 11);
  cr_expect_eq(large.count, 7 * 4);
  for (int i = 0; i < squares.count; i++)
    cr_expect(squares.items[i].m == squares.items[i].n && squares.items[i].n == squares.items[i].k);
  const struct shape_list lists[] = {seed, ladder, models, small, large, squares};
  for (size_t l = 0; l < sizeof lists / sizeof *lists; l++) {
    for (int i = 0; i < lists[l].count; i++) cr_expect(lists[l].items[i].k % 16 == 0 && !lists[l].items[i].is_swept);
    free(lists[l].items);
  }
}

Test(bench, the_sweep_takes_every_step_and_is_timed_cold_only) {
  struct shape_list list = parsed("sweep");
  cr_assert_eq(list.count, 3 * 512);
  for (int i = 0; i < list.count; i++) cr_expect(list.items[i].is_swept && list.items[i].m == i % 512 + 1);
  free(list.items);
}

Test(bench, a_shape_named_twice_is_measured_once) {
  struct shape_list list = parsed("sweep,7x4096x7168,seed,seed");
  cr_expect_eq(list.count, 3 * 512 + 4 * 7 + 1 - 3 * 3); /* m = 1, 64 and 128 of three layers are in both */
  cr_expect(!found(&list, 7, 4096, 7168)->is_swept);
  cr_expect(!found(&list, 64, 2112, 7168)->is_swept);
  cr_expect(found(&list, 8, 4096, 7168)->is_swept);
  free(list.items);
}

Test(bench, random_shapes_are_those_of_their_seed) {
  struct shape_list one = parsed("random:1"), again = parsed("random:1"), two = parsed("random:2");
  cr_assert_eq(one.count, again.count);
  cr_expect_geq(one.count, 60);
  int odd = 0, same = 0;
  for (int i = 0; i < one.count; i++) {
    const struct shape *a = &one.items[i], *b = &again.items[i];
    cr_expect(a->m == b->m && a->n == b->n && a->k == b->k);
    cr_expect(a->m >= 1 && a->m <= 8192 && a->n >= 1 && a->n <= 32768 && a->k >= 16 && a->k <= 16384 && a->k % 16 == 0);
    odd += a->n % 8 != 0;
    same += found(&two, (int)a->m, (int)a->n, (int)a->k) != NULL;
  }
  cr_expect(odd > 10 && odd < 40 && same < 5);
  free(one.items);
  free(again.items);
  free(two.items);
}

/* A result: the level's and the peer's times in microseconds; 0: it was not timed. */
static json_t *result_of(int m, int n, double limit_us, double level_us, double peer_us, double peer_settled_us) {
  json_t *level = level_us > 0 ? json_pack("{s:s, s:b, s:{s:f}, s:{s:f}}", "name", "full", "own_plan", 1, "cold", "median_us",
                                           level_us, "settled", "median_us", level_us)
                               : json_pack("{s:s, s:b, s:s}", "name", "full", "own_plan", 1, "why_not", "n is odd");
  json_t *other = json_pack("{s:s, s:b, s:{s:f}}", "name", "full", "own_plan", 0, "cold", "median_us", level_us / 8);
  json_t *peer = json_pack("{s:s}", "name", "cublaslt-block");
  if (peer_us > 0) json_object_set_new(peer, "cold", json_pack("{s:f}", "median_us", peer_us));
  if (peer_settled_us > 0) json_object_set_new(peer, "settled", json_pack("{s:f}", "median_us", peer_settled_us));
  return json_pack("{s:i, s:i, s:i, s:f, s:[o, o], s:[o]}", "m", m, "n", n, "k", 7168, "limit_us", limit_us, "rows", other, level,
                   "peers", peer);
}

static double number(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }
static bool is_about(double a, double b) { return fabs(a - b) <= 1e-12 * fabs(b); }

Test(bench, a_summary_has_means_by_class_and_says_where_the_worst_is) {
  json_t *results =
      json_pack("[o, o, o, o, o]", result_of(1, 576, 5, 10, 20, 0), result_of(128, 576, 8, 10, 5, 40),
                result_of(129, 576, 3, 4, 0, 0), result_of(4096, 576, 8, 10, 12, 0), result_of(1025, 575, 3, 0, 4, 0));
  json_t *summary = summarise(results), *classes = json_object_get(summary, "classes");
  cr_assert_eq(json_array_size(classes), 3);
  const json_t *few = json_array_get(classes, 0), *many = json_array_get(classes, 2);
  cr_expect(number(few, "shapes") == 2 && number(few, "m_from") == 1 && number(few, "m_to") == 128);
  cr_expect(is_about(number(few, "share_of_limit"), (0.5 + 0.8) / 2));
  cr_expect(is_about(number(json_object_get(few, "least_share"), "value"), 0.5));
  cr_expect_eq(number(json_object_get(few, "least_share"), "m"), 1);
  const json_t *peer = json_array_get(json_object_get(few, "peers"), 0), *least = json_object_get(peer, "least");
  cr_expect(number(peer, "shapes") == 2 && is_about(number(peer, "cold"), 1) && is_about(number(peer, "settled"), 4));
  cr_expect(is_about(number(least, "value"), 0.5) && number(least, "m") == 128 && number(least, "n") == 576 &&
            number(least, "k") == 7168);
  cr_expect_eq(json_array_size(json_object_get(json_array_get(classes, 1), "peers")), 0);  /* which was not timed */
  cr_expect(number(many, "shapes") == 1 && is_about(number(many, "share_of_limit"), 0.8)); /* the refused one does not count */
  peer = json_array_get(json_object_get(many, "peers"), 0);
  cr_expect(is_about(number(peer, "cold"), 1.2) && !json_object_get(peer, "settled"));
  const json_t *steps = json_object_get(summary, "steps");
  cr_expect(json_array_size(steps) == 1 && number(json_array_get(steps, 0), "m") == 129);
  json_decref(summary);
  json_decref(results);
}

Test(bench, the_largest_step_is_between_neighbours_of_one_layer) {
  json_t *results = json_pack("[o, o, o, o, o, o, o]", result_of(3, 576, 1, 12, 0, 0), result_of(1, 576, 1, 10, 0, 0),
                              result_of(2, 576, 1, 9, 0, 0), result_of(5, 576, 1, 100, 0, 0), result_of(4, 2112, 1, 50, 0, 0),
                              result_of(8, 2112, 1, 8, 0, 0), result_of(7, 2112, 1, 10, 0, 0));
  json_t *summary = summarise(results), *steps = json_object_get(summary, "steps");
  cr_assert_eq(json_array_size(steps), 2);
  const json_t *first = json_array_get(steps, 0), *second = json_array_get(steps, 1);
  cr_expect(number(first, "n") == 576 && number(first, "steps") == 2 && number(first, "m") == 3);
  cr_expect(is_about(number(first, "largest"), 12.0 / 9 - 1));
  cr_expect(number(second, "n") == 2112 && number(second, "steps") == 1 && number(second, "m") == 8);
  cr_expect(is_about(number(second, "largest"), 0.8 - 1)); /* it may be a gain */
  json_decref(summary);
  json_decref(results);
}

Test(bench, a_summary_of_nothing_is_empty) {
  json_t *results = json_array(), *summary = summarise(results);
  cr_expect_eq(json_object_size(summary), 0);
  json_decref(summary);
  json_decref(results);
}
