#include "cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MOST_COLUMNS = 12 };

struct table {
  int columns;
  const char *alignment;
  int64_t cells, room;
  char **cell; /* row by row, the headings first */
};

/* Columns on a terminal that UTF-8 text takes, for the letters that occur here. */
static int width_of(const char *string) {
  int width = 0;
  for (; *string; string++) width += (*string & 0xC0) != 0x80;
  return width;
}

static void add(struct table *table, char *string) {
  if (table->cells == table->room) {
    table->room = table->room ? 2 * table->room : 64;
    char **wider = claim(table->room, sizeof *wider, "a table");
    if (table->cells) memcpy(wider, table->cell, (size_t)table->cells * sizeof *wider);
    release(table->cell);
    table->cell = wider;
  }
  table->cell[table->cells++] = string;
}

struct table *table_begin(const char *alignment, const char *const *headings) {
  struct table *table = claim(1, sizeof *table, "a table");
  *table = (struct table){.columns = (int)strlen(alignment), .alignment = alignment};
  for (int i = 0; headings && i < table->columns; i++) add(table, text("%s", headings[i]));
  return table;
}

void table_cell(struct table *table, const char *format, ...) {
  char string[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(string, sizeof string, format, arguments);
  va_end(arguments);
  add(table, printable(string));
}

void table_print(const struct table *table) {
  int width[MOST_COLUMNS] = {0};
  for (int64_t i = 0; i < table->cells; i++) {
    int w = width_of(table->cell[i]), *widest = &width[i % table->columns];
    if (w > *widest) *widest = w;
  }
  for (int64_t i = 0; i < table->cells; i++) {
    int column = (int)(i % table->columns), gap = width[column] - width_of(table->cell[i]);
    bool right = table->alignment[column] == 'r', last = column == table->columns - 1;
    printf("%*s%s%*s%s", right ? gap : 0, "", table->cell[i], right || last ? 0 : gap, "", last ? "\n" : "  ");
  }
}
