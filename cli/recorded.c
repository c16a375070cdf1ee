#include "cli.h"

#include <stdio.h>
#include <string.h>

static const char begin_marker[] = "<!-- numbers:begin -->\n", end_marker[] = "<!-- numbers:end -->";

const char *recorded_numbers(const char *name) {
  for (const struct page *page = kernel_pages; page->name; page++) {
    if (strcmp(page->name, name) != 0) continue;
    const char *from = strstr(page->text, begin_marker);
    const char *to = from ? strstr(from, end_marker) : NULL;
    if (!to) return NULL;
    from += strlen(begin_marker);
    return text("%.*s", (int)(to - from), from);
  }
  return NULL;
}

/* What stands up to `end`, without blanks around it and without the signs that are for Markdown. */
static char *plain(const char *from, const char *end) {
  while (from < end && *from == ' ') from++;
  while (from < end && end[-1] == ' ') end--;
  char *copy = text("%.*s", (int)(end - from), from), *to = copy;
  for (const char *at = copy; *at; at++)
    if (*at != '`' && *at != '*') *to++ = *at;
  *to = '\0';
  return copy;
}

/* A line "| a | b |", cell by cell. Returns how many. */
static int for_each_cell(const char *line, const char *end, struct table *table, char *alignment) {
  int cells = 0;
  for (const char *from = line + 1, *to; (to = memchr(from, '|', (size_t)(end - from))); from = to + 1, cells++) {
    if (table) table_cell(table, "%s", plain(from, to));
    if (alignment) alignment[cells] = to[-1] == ':' ? 'r' : 'l'; /* "--:" in the line below the headings */
  }
  return cells;
}

static const char *end_of_line(const char *line) {
  const char *end = strchr(line, '\n');
  return end ? end : line + strlen(line);
}

/* The table that begins at `line`: headings, alignment, rows. Returns what follows. */
static const char *print_table(const char *line) {
  const char *second = end_of_line(line) + 1;
  char *alignment = claim(end_of_line(second) - second + 1, 1, "a table");
  alignment[for_each_cell(second, end_of_line(second), NULL, alignment)] = '\0';
  struct table *table = table_begin(alignment, NULL);
  for (; *line == '|'; line = *end_of_line(line) ? end_of_line(line) + 1 : end_of_line(line))
    if (line != second) for_each_cell(line, end_of_line(line), table, NULL);
  table_print(table);
  return line;
}

void print_numbers(const char *markdown) {
  while (*markdown) {
    if (*markdown == '|') {
      markdown = print_table(markdown);
    } else {
      const char *end = end_of_line(markdown);
      printf("%s\n", plain(markdown, end));
      markdown = *end ? end + 1 : end;
    }
  }
}
