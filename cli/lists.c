/* Options that are lists: "A,B,C", sizes, ranges of sizes. */
#include "cli.h"

#include <string.h>

int split_option(const char *option, const char *list, const char *items[MOST_ITEMS]) {
  int count = 0;
  for (const char *begin = list;; begin++) {
    size_t length = strcspn(begin, ",");
    if (count == MOST_ITEMS) fail(BAD_USAGE, "%s has more than %d items", option, MOST_ITEMS);
    if (length == 0) fail(BAD_USAGE, "%s is '%s'; an item of the list is empty", option, list);
    items[count++] = text("%.*s", (int)length, begin);
    begin += length;
    if (*begin == '\0') return count;
  }
}

static int sizes_option(const char *option, const char *list, int64_t sizes[MOST_ITEMS]) {
  const char *items[MOST_ITEMS];
  int count = split_option(option, list, items);
  for (int i = 0; i < count; i++) sizes[i] = number_option(option, items[i], 1, MOST_LISTED);
  return count;
}

int ranges_option(const char *option, const char *list, struct range ranges[MOST_ITEMS]) {
  const char *items[MOST_ITEMS];
  int count = split_option(option, list, items);
  for (int i = 0; i < count; i++) {
    const char *dash = strchr(items[i], '-');
    const char *first = dash ? text("%.*s", (int)(dash - items[i]), items[i]) : items[i];
    ranges[i].first = number_option(option, first, 1, MOST_LISTED);
    ranges[i].last = dash ? number_option(option, dash + 1, 1, MOST_LISTED) : ranges[i].first;
    if (ranges[i].last < ranges[i].first) fail(BAD_USAGE, "%s is '%s'; a range must ascend", option, items[i]);
  }
  return count;
}

struct shapes shapes_of_lists(const char *n_list, const char *k_list, int64_t groups) {
  int64_t n[MOST_ITEMS], k[MOST_ITEMS];
  int ns = sizes_option("--n", n_list, n), ks = sizes_option("--k", k_list, k);
  struct shapes shapes = {0};
  for (int i = 0; i < ns; i++)
    for (int j = 0; j < ks; j++) shapes_add(&shapes, (struct shape){.name = "", .n = n[i], .k = k[j], .groups = groups});
  return shapes;
}
