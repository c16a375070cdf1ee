/* A picture of a trace that the emulator wrote: a row for each warp and for whatever else acts in a block, time from left to right. */
#include "cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 900, LEFT = 170, RIGHT = 884, TOP = 56, ROW = 18, BAR = 12, BLOCK_GAP = 26, LEGEND_LINE = 22, MOST_TICKS = 8 };

/* A row's bars that are closer to each other than this are one, in pixels: nobody sees the gap, and the file stays small. */
static const double nearest = 0.5;

/* What an event is, and its colour. The later is drawn above the earlier. */
enum { EVEN_PHASE = 8, ODD_PHASE = 9, KINDS = 10 };
static const struct kind {
  const char *category, *words, *colour;
} kinds[KINDS] = {
    {"kernel", "runs", "#b8c4cc"},
    {"wait for threads", "waits for threads", "#f0e442"},
    {"wait for an mbarrier", "waits for an mbarrier", "#e69f00"},
    {"wait for the tensor core", "waits for the tensor core", "#cc79a7"},
    {"wait for stores", "waits for stores", "#8c6bb1"},
    {"load", "loads", "#0072b2"},
    {"store", "stores", "#009e73"},
    {"multiply", "multiplies", "#d55e00"},
    {"phase", "phases 0, 2, ...", "#555555"},
    {"phase", "phases 1, 3, ...", "#aaaaaa"},
};

struct row {
  json_int_t block, track;
  const char *name;
};

struct bar {
  int row, kind;
  double from, until;
};

struct picture {
  struct row *rows;
  struct bar *bars;
  int row_count;
  size_t bar_count;
  double cycles;
  bool has[KINDS];
};

static json_int_t integer_of(const json_t *event, const char *key) { return json_integer_value(json_object_get(event, key)); }
static const char *string_of(const json_t *event, const char *key) {
  const char *string = json_string_value(json_object_get(event, key));
  return string ? string : "";
}

static int by_place(const void *left, const void *right) {
  const struct row *a = left, *b = right;
  if (a->block != b->block) return a->block < b->block ? -1 : 1;
  return (a->track > b->track) - (a->track < b->track);
}

static int by_row_and_time(const void *left, const void *right) {
  const struct bar *a = left, *b = right;
  if (a->row != b->row) return a->row - b->row;
  if (a->kind != b->kind) return a->kind - b->kind;
  return (a->from > b->from) - (a->from < b->from);
}

static int kind_of(const json_t *event) {
  const char *category = string_of(event, "cat");
  for (int kind = 0; kind < EVEN_PHASE; kind++)
    if (strcmp(category, kinds[kind].category) == 0) return kind;
  return integer_of(json_object_get(event, "args"), "number") % 2 == 0 ? EVEN_PHASE : ODD_PHASE;
}

static struct picture read_trace(const json_t *trace) {
  const json_t *events = json_object_get(trace, "traceEvents"), *event;
  size_t count = json_array_size(events), i;
  struct picture picture = {.rows = claim((int64_t)count, sizeof *picture.rows, "the rows"),
                            .bars = claim((int64_t)count, sizeof *picture.bars, "the bars")};
  json_array_foreach(events, i, event) {
    if (strcmp(string_of(event, "name"), "thread_name") != 0) continue;
    const char *name = string_of(json_object_get(event, "args"), "name");
    picture.rows[picture.row_count++] = (struct row){integer_of(event, "pid"), integer_of(event, "tid"), name};
  }
  qsort(picture.rows, (size_t)picture.row_count, sizeof *picture.rows, by_place);
  json_array_foreach(events, i, event) {
    if (strcmp(string_of(event, "ph"), "X") != 0) continue;
    struct row place = {integer_of(event, "pid"), integer_of(event, "tid"), NULL};
    const struct row *row = bsearch(&place, picture.rows, (size_t)picture.row_count, sizeof place, by_place);
    if (!row) continue;
    double from = (double)integer_of(event, "ts"), until = from + (double)integer_of(event, "dur");
    struct bar bar = {(int)(row - picture.rows), kind_of(event), from, until};
    picture.has[bar.kind] = true;
    picture.cycles = fmax(picture.cycles, until);
    picture.bars[picture.bar_count++] = bar;
  }
  qsort(picture.bars, picture.bar_count, sizeof *picture.bars, by_row_and_time);
  picture.cycles = fmax(picture.cycles, 1);
  return picture;
}

static double x_of(const struct picture *picture, double cycle) { return LEFT + cycle / picture->cycles * (RIGHT - LEFT); }

static void put_text(FILE *svg, double x, double y, const char *attributes, const char *string) {
  fprintf(svg, "<text x=\"%.5g\" y=\"%.5g\"%s>", x, y, attributes);
  for (; *string; string++) {
    if (*string == '<' || *string == '>' || *string == '&')
      fprintf(svg, "&#%d;", *string);
    else
      fputc(*string, svg);
  }
  fprintf(svg, "</text>\n");
}

/* As many words to a line as fit. Returns where the rows begin. */
static double put_legend(FILE *svg, const struct picture *picture) {
  double x = LEFT, y = TOP;
  for (int kind = 0; kind < KINDS; kind++) {
    if (!picture->has[kind]) continue;
    double width = 26 + 6.6 * (double)strlen(kinds[kind].words);
    if (x + width > RIGHT) {
      x = LEFT;
      y += LEGEND_LINE;
    }
    fprintf(svg, "<rect x=\"%.5g\" y=\"%.5g\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", x, y - 10, kinds[kind].colour);
    put_text(svg, x + 17, y, "", kinds[kind].words);
    x += width;
  }
  return y + LEGEND_LINE;
}

/* The bars of one row and kind are one path, of horizontal strokes. `y` is the row's middle. */
static size_t put_bars(FILE *svg, const struct picture *picture, size_t first, double y) {
  const struct bar *bars = picture->bars;
  size_t i = first;
  fprintf(svg, "<path stroke=\"%s\" d=\"", kinds[bars[first].kind].colour);
  while (i < picture->bar_count && bars[i].row == bars[first].row && bars[i].kind == bars[first].kind) {
    double from = x_of(picture, bars[i].from), until = x_of(picture, bars[i].until);
    for (i++; i < picture->bar_count && bars[i].row == bars[first].row && bars[i].kind == bars[first].kind &&
              x_of(picture, bars[i].from) - until < nearest;
         i++)
      until = fmax(until, x_of(picture, bars[i].until));
    if (until - from >= nearest / 2 || bars[first].kind != 0)
      fprintf(svg, "M%.1f %.5gh%.1f", from, y, fmax(until - from, nearest));
  }
  fprintf(svg, "\"/>\n");
  return i;
}

/* 1, 2 or 5 times a power of ten: so many cycles from tick to tick. */
static double step_of(double cycles) {
  double power = pow(10, floor(log10(cycles / MOST_TICKS)));
  for (int i = 0; i < 3; i++) {
    double step = power * (double[]){1, 2, 5}[i];
    if (cycles / step <= MOST_TICKS) return step;
  }
  return 10 * power;
}

static void put_axis(FILE *svg, const struct picture *picture, double top, double bottom) {
  double step = fmax(step_of(picture->cycles), 1);
  for (double cycle = 0; cycle <= picture->cycles; cycle += step) {
    double x = x_of(picture, cycle);
    fprintf(svg, "<path stroke=\"#dddddd\" stroke-width=\"1\" d=\"M%.1f %.5gV%.5g\"/>\n", x, top, bottom);
    put_text(svg, x, bottom + 16, " text-anchor=\"middle\"", text("%.0f", cycle));
  }
  put_text(svg, LEFT - 10, bottom + 16, " text-anchor=\"end\"", "cycles");
}

/* A heading goes before each block's rows, if there are several. */
static double height_of_row(const struct picture *picture, int row) {
  bool several = picture->row_count && picture->rows[picture->row_count - 1].block != picture->rows[0].block;
  return several && (row == 0 || picture->rows[row].block != picture->rows[row - 1].block) ? ROW + BLOCK_GAP : ROW;
}

char *timeline_svg(const json_t *trace, const char *title, size_t *bytes) {
  struct picture picture = read_trace(trace);
  char *svg_text = NULL, *rows_text = NULL;
  size_t rows_bytes = 0;
  FILE *rows = open_memstream(&rows_text, &rows_bytes), *svg = open_memstream(&svg_text, bytes);
  if (!rows || !svg) fail(REFUSED, "%s: no memory for the picture", fg_status_name(FG_OUT_OF_MEMORY));
  double top = put_legend(rows, &picture), y = top;
  for (int row = 0; row < picture.row_count; row++) y += height_of_row(&picture, row);
  double bottom = y;
  put_axis(rows, &picture, top, bottom);
  fprintf(rows, "<g stroke-width=\"%d\">\n", BAR);
  y = top;
  size_t bar = 0;
  for (int row = 0; row < picture.row_count; row++) {
    double height = height_of_row(&picture, row);
    if (height > ROW)
      put_text(rows, 16, y + BLOCK_GAP - 8, " stroke=\"none\" font-weight=\"bold\"",
               text("block %" JSON_INTEGER_FORMAT, picture.rows[row].block));
    y += height;
    if (height > ROW || row == 0 || strcmp(picture.rows[row].name, picture.rows[row - 1].name) != 0)
      put_text(rows, LEFT - 10, y - 5, " stroke=\"none\" text-anchor=\"end\"", picture.rows[row].name);
    while (bar < picture.bar_count && picture.bars[bar].row == row) bar = put_bars(rows, &picture, bar, y - ROW / 2.0);
  }
  fprintf(rows, "</g>\n");
  fclose(rows);
  fprintf(svg,
          "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" height=\"%.0f\" font-family=\"DejaVu "
          "Sans,Helvetica,Arial,sans-serif\" font-size=\"12\" fill=\"#333333\">\n",
          WIDTH, bottom + 28, WIDTH, bottom + 28);
  fprintf(svg, "<title>A timeline of the emulator</title>\n<rect width=\"%d\" height=\"%.0f\" fill=\"#ffffff\"/>\n", WIDTH,
          bottom + 28);
  put_text(svg, 16, 26, " font-size=\"15\"", title);
  fwrite(rows_text, 1, rows_bytes, svg);
  fprintf(svg, "</svg>\n");
  fclose(svg);
  free(rows_text);
  return svg_text;
}
