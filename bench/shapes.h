/* What the option --shapes names. */
#ifndef SHAPES_H
#define SHAPES_H

#include <stdbool.h>
#include <stdint.h>

struct shape {
  int64_t m, n, k;
  bool is_swept; /* one of many steps in m: it is timed cold only */
};

/* No shape is in it twice. */
struct shape_list {
  struct shape *items; /* malloc()ed; NULL with count 0 */
  int count;
};

/* Reads a whole number from 1 to INT_MAX that ends at `end`, and moves *text past that (not past the text's end). */
bool parse_size(const char **text, char end, int64_t *size);

/* Adds what `text` names: shapes and sets with commas between them. NULL; or a static sentence, of what --shapes takes, and the list is
 * only good to be freed. */
const char *parse_shapes(const char *text, struct shape_list *list);

#endif
