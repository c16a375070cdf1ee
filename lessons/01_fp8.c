/* Lesson 1: FP8, a number in eight bits.
 *
 * What each code means, how far apart neighbours are, how wrong rounding to the nearest is at each magnitude, and what
 * becomes of ties, of the tiny, the huge and NaN, in both formats. All of it comes out of fg_convert().
 *
 *     finegemm lesson 1        the tables
 *     01_fp8 --plot            columns for 01_fp8.gp, which draws 01_fp8.svg
 */
#include "finegemm.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Constants: the formats, and numbers whose rounding is worth a look. A code is sign, exponent, fraction, from the top bit. */
enum { CODES = 256, STEPS = 64, LOWEST = -20, HIGHEST = 18 };
static const struct format {
  const char *name;
  fg_type type;
  int exponents, fractions;
} formats[] = {{"e4m3", FG_E4M3, 16, 8}, {"e5m2", FG_E5M2, 32, 4}};
enum { FORMATS = sizeof formats / sizeof *formats };
static const struct probe {
  float x;
  const char *note;
} probes[] = {{17, "e4m3: halfway from 16 to 18; the code of 16 is even"},
              {18, "e5m2: halfway from 16 to 20; the code of 16 is even"},
              {19, "e4m3: halfway from 18 to 20; the code of 20 is even"},
              {0x1p-9f, "e4m3: the smallest, a subnormal"},
              {0x1.000002p-10f, "e4m3: just over half of the smallest"},
              {0x1p-10f, "e4m3: half of the smallest; the code of 0 is even"},
              {-0x1p-20f, "both: too small, but zero keeps the sign"},
              {480, "e4m3: past the largest"},
              {1e6f, "both: past the largest"},
              {INFINITY, "both: saturates like any other"},
              {NAN, "both: stays NaN"}};
enum { PROBES = sizeof probes / sizeof *probes };

/* Data: the value of every code, [FORMATS][CODES], and the journey of an FP32 number through eight bits. */
static fg_context *context;
static float values[FORMATS][CODES];

static void require(fg_status status) {
  if (status == FG_OK) return;
  fprintf(stderr, "01_fp8: %s\n", fg_message());
  exit(1);
}

static void convert(const void *from, fg_type from_type, void *to, fg_type to_type, int64_t count) {
  const fg_conversion conversion = {
      .rows = 1, .cols = count, .from = {.data = from, .type = from_type}, .to = {.data = to, .type = to_type}};
  require(fg_convert(context, &conversion));
}

static float there_and_back(fg_type type, float x, uint8_t *code) {
  convert(&x, FG_FP32, code, type, 1);
  convert(code, type, &x, FG_FP32, 1);
  return x;
}

/* Experiment: how wrong is rounding to the nearest, relative to the number, at worst from low to high? */
static double worst_error(fg_type type, float low, float high, float step) {
  double worst = 0;
  uint8_t code;
  for (float x = low + step; x <= high; x += step) worst = fmax(worst, fabs((double)there_and_back(type, x, &code) - x) / x);
  return worst;
}

/* Printout: a row for each exponent, then the probes; or the picture's columns. */
static void print_format(const struct format *format, const float *value) {
  int zeros = 0, finite = 0, infinities = 0, returned = 0;
  float largest = 0;
  for (int code = 0; code < CODES; code++) {
    uint8_t back;
    there_and_back(format->type, value[code], &back);
    zeros += value[code] == 0;
    finite += !!isfinite(value[code]);
    infinities += !!isinf(value[code]);
    returned += isfinite(value[code]) && back == code;
    if (isfinite(value[code])) largest = fmaxf(largest, value[code]);
  }
  printf("%s: %d finite codes (%d of them zero), %d infinite, %d NaN. Largest %g. %d finite codes come back as they went.\n\n",
         format->name, finite, zeros, infinities, CODES - finite - infinities, (double)largest, returned);
  printf("code");
  for (int f = 0; f < format->fractions; f++) printf("%9s%d", "+", f);
  printf("  spacing  worst error\n");
  for (int e = 0; e < format->exponents; e++) {
    const float *v = value + e * format->fractions, spacing = v[1] - v[0];
    printf("0x%02X", (unsigned)(e * format->fractions));
    for (int f = 0; f < format->fractions; f++) printf("%10.5g", (double)v[f]);
    if (isfinite(spacing)) {
      const float next = fminf(v[0] + spacing * (float)format->fractions, largest);
      printf("    2^%-3d %10.2f %%", ilogbf(spacing), 100 * worst_error(format->type, v[0], next, spacing / STEPS));
    }
    printf("\n");
  }
  printf("\n");
}

static void print_probes(void) {
  printf("%12s %11s %9s\n", "x", "e4m3", "e5m2");
  for (int p = 0; p < PROBES; p++) {
    printf("%12.7g", (double)probes[p].x);
    for (int f = 0; f < FORMATS; f++) {
      uint8_t code;
      const float y = there_and_back(formats[f].type, probes[p].x, &code);
      printf("  %11.7g 0x%02X", (double)y, code);
    }
    printf("  %s\n", probes[p].note);
  }
}

static void print_plot(void) {
  for (int e = LOWEST; e < HIGHEST; e++) {
    const float low = ldexpf(1, e), step = low / (8 * STEPS);
    printf("%.17g %.6g %.6g\n", (double)low, worst_error(FG_E4M3, low, 2 * low, step), worst_error(FG_E5M2, low, 2 * low, step));
  }
  for (int f = 0; f < FORMATS; f++) {
    printf("\n\n");
    for (int code = 1; code < CODES / 2; code++)
      if (isfinite(values[f][code])) printf("%.17g\n", (double)values[f][code]);
  }
}

int main(int argc, char **argv) {
  const int plot = argc == 2 && strcmp(argv[1], "--plot") == 0;
  if (argc > 1 && !plot) return fprintf(stderr, "usage: 01_fp8 [--plot]\n"), 2;
  require(fg_context_create(&context, NULL));
  uint8_t codes[CODES];
  for (int code = 0; code < CODES; code++) codes[code] = (uint8_t)code;
  for (int f = 0; f < FORMATS; f++) convert(codes, formats[f].type, values[f], FG_FP32, CODES);
  if (plot) {
    print_plot();
  } else {
    for (int f = 0; f < FORMATS; f++) print_format(&formats[f], values[f]);
    print_probes();
  }
  fg_context_destroy(context);
  return fflush(stdout) == 0 ? 0 : 1;
}
