/* Prints the figures of docs/numerics.md: the tensor core's step on a worked example and at its worst, how much of their bounds the
 * levels `reference` and `hopper` use, how much the quantiser's exact formula matters, and what a cosine does not see. The same
 * on every machine. `--plot` prints the columns of docs/numerics.svg instead. */
#include "finegemm.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Constants */
enum { GROUP = 128, GROUPS = 1 << 17, CHUNK = 1 << 10, MAX_K = 7168, SIDE = 128, LARGE = 4096, TRUE_ROWS = 256 };

/* Data: numbers that are bell-shaped around 0. */
static fg_context *context;

static void require(fg_status status) {
  if (status == FG_OK) return;
  fprintf(stderr, "numerics: %s\n", fg_message());
  exit(1);
}

static void *allocate(size_t count, size_t size) {
  void *memory = calloc(count, size);
  if (memory) return memory;
  fprintf(stderr, "numerics: no memory for %zu elements of %zu bytes\n", count, size);
  exit(1);
}

static uint64_t next(uint64_t *seed) {
  *seed = *seed * 6364136223846793005u + 1442695040888963407u;
  return *seed >> 40;
}

static float bell(uint64_t *seed) {
  int sum = 0;
  for (int draw = 0; draw < 12; draw++) sum += (int)next(seed) - (1 << 23);
  return (float)sum / (1 << 24);
}

static void convert(const void *from, fg_type from_type, void *to, fg_type to_type, int64_t count) {
  require(fg_convert(
      context, &(fg_conversion){
                   .rows = 1, .cols = count, .from = {.data = from, .type = from_type}, .to = {.data = to, .type = to_type}}));
}

/* The quantiser's formula and its likenesses, on groups of 128 whose magnitudes span 2^-8 ... 2^8. */
enum { LIKENESSES = 3 };
static const char *likenesses[LIKENESSES] = {"x / scale", "x * (448 / amax)", "scale = amax * (1 / 448)"};

static void count_differences(fg_type type, int64_t codes_differ[LIKENESSES], int64_t *scales_differ) {
  static float x[CHUNK * GROUP], y[LIKENESSES][CHUNK * GROUP], scale[CHUNK];
  static uint16_t bits[CHUNK * GROUP];
  static uint8_t q[CHUNK * GROUP], other[CHUNK * GROUP];
  uint64_t seed = 1;
  for (int chunk = 0; chunk < GROUPS / CHUNK; chunk++) {
    for (int g = 0; g < CHUNK; g++) {
      const float fraction = (float)next(&seed) / (1 << 24);
      const float size = ldexpf(1 + fraction, (int)(next(&seed) % 16) - 8);
      for (int i = 0; i < GROUP; i++) x[g * GROUP + i] = size * bell(&seed);
    }
    if (type == FG_BF16) {
      convert(x, FG_FP32, bits, FG_BF16, CHUNK * GROUP);
      convert(bits, FG_BF16, x, FG_FP32, CHUNK * GROUP);
    }
    require(fg_quantize(context, &(fg_conversion){.rows = CHUNK,
                                                  .cols = GROUP,
                                                  .from = {.data = x, .type = FG_FP32},
                                                  .to = {.data = q, .scale = scale, .type = FG_E4M3}}));
    for (int g = 0; g < CHUNK; g++) {
      float amax = 0;
      for (int i = g * GROUP; i < (g + 1) * GROUP; i++) amax = fmaxf(amax, fabsf(x[i]));
      const float times = amax * (1.0f / 448.0f), inverse = 1.0f / times, up = 448.0f / amax;
      *scales_differ += times != scale[g];
      for (int i = g * GROUP; i < (g + 1) * GROUP; i++) y[0][i] = x[i] / scale[g], y[1][i] = x[i] * up, y[2][i] = x[i] * inverse;
    }
    for (int l = 0; l < LIKENESSES; l++) {
      convert(y[l], FG_FP32, other, FG_E4M3, CHUNK * GROUP);
      for (int i = 0; i < CHUNK * GROUP; i++) codes_differ[l] += other[i] != q[i];
    }
  }
}

static void print_quantiser(void) {
  int64_t codes[2][LIKENESSES] = {{0}}, scales[2] = {0, 0};
  count_differences(FG_FP32, codes[0], &scales[0]);
  count_differences(FG_BF16, codes[1], &scales[1]);
  printf("What differs if %d numbers in groups of 128 are quantised by another formula\n\n", GROUP * GROUPS);
  printf("%-48s%12s%12s\n", "", "from FP32", "from BF16");
  for (int l = 0; l < LIKENESSES; l++)
    printf("%-26s%-22s%12.1f%12.1f\n", likenesses[l], "codes in a million", 1e6 * (double)codes[0][l] / GROUP / GROUPS,
           1e6 * (double)codes[1][l] / GROUP / GROUPS);
  printf("%-26s%-22s%12.1f%12.1f\n\n", "", "% of the scales", 100 * (double)scales[0] / GROUPS, 100 * (double)scales[1] / GROUPS);
}

/* Quantised operands [m, k] and [n, k] of a product with fine-grained scales. */
static fg_problem make_problem(const float *x, const float *w, int m, int n, int k) {
  const size_t blocks = (size_t)k / GROUP;
  uint8_t *a = allocate((size_t)m * (size_t)k, 1), *b = allocate((size_t)n * (size_t)k, 1);
  float *a_scale = allocate((size_t)m * blocks, 4), *b_scale = allocate((size_t)n / GROUP * blocks, 4);
  require(fg_quantize(context, &(fg_conversion){.rows = m, .cols = k, .from = {.data = x}, .to = {.data = a, .scale = a_scale}}));
  require(fg_quantize(
      context,
      &(fg_conversion){.rows = n, .cols = k, .from = {.data = w}, .to = {.data = b, .scale = b_scale, .scaling = FG_128X128}}));
  return (fg_problem){
      .m = m, .n = n, .k = k, .a = {.data = a, .scale = a_scale}, .b = {.data = b, .scale = b_scale}, .d = {.type = FG_FP32}};
}

static void free_problem(const fg_problem *problem) {
  const void *all[] = {problem->a.data, problem->b.data, problem->a.scale, problem->b.scale};
  for (int i = 0; i < 4; i++) free((void *)(uintptr_t)all[i]);
}

static void fill(float *x, size_t count, uint64_t seed) {
  for (size_t i = 0; i < count; i++) x[i] = bell(&seed);
}

/* What part of the bound each element of D [SIDE, SIDE] uses: share, ascending. */
static int by_size(const void *x, const void *y) {
  const double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}

static const double *shares(fg_problem problem, fg_level level, fg_type type) {
  static float d[SIDE * SIDE];
  static uint16_t bits[SIDE * SIDE];
  static double value[SIDE * SIDE], bound[SIDE * SIDE], share[SIDE * SIDE];
  problem.level = level;
  problem.d.type = type;
  problem.d.data = type == FG_FP32 ? (void *)d : (void *)bits;
  require(fg_gemm(context, &problem));
  require(fg_exact(context, &problem, value, bound));
  if (type != FG_FP32) convert(bits, type, d, FG_FP32, SIDE * SIDE);
  for (int i = 0; i < SIDE * SIDE; i++) share[i] = fabs((double)d[i] - value[i]) / bound[i];
  qsort(share, SIDE * SIDE, sizeof *share, by_size);
  return share;
}

static float activations[SIDE * MAX_K], weights[SIDE * MAX_K]; /* [SIDE, k] each */

static void print_reference(void) {
  fill(activations, SIDE * MAX_K, 3);
  fill(weights, SIDE * MAX_K, 4);
  printf("Largest error of `reference` in %d x %d elements, as a share of its bound\n\n%8s%12s%12s\n", SIDE, SIDE, "k",
         "D in FP32", "D in BF16");
  for (int k = GROUP; k <= MAX_K; k *= k < 1024 ? 8 : 7) {
    const fg_problem problem = make_problem(activations, weights, SIDE, SIDE, k);
    const double of_fp32 = shares(problem, FG_REFERENCE, FG_FP32)[SIDE * SIDE - 1];
    printf("%8d%12.2g%12.2g\n", k, of_fp32, shares(problem, FG_REFERENCE, FG_BF16)[SIDE * SIDE - 1]);
    free_problem(&problem);
  }
  printf("\n");
}

/* Data for the level `hopper`. What is not quantised is codes whose scales are 1. */
enum { BELL, POSITIVE, CANCELLING, SUBNORMAL, OUTLIERS, CONSTRUCTED, KINDS };
static const char *const kinds[KINDS] = {"bell-shaped", "positive", "cancelling", "subnormal", "outliers", "constructed"};

/* A dot at its worst: the first product is 2^16, all others are 3.5 * 2.25, just short of 2^(16 - 13). */
enum { LARGE_FACTOR = 0x78, A_FACTOR = 0x46, B_FACTOR = 0x41 };

static void fill_constructed(uint8_t *codes, size_t count, uint8_t factor) {
  for (size_t i = 0; i < count; i++) codes[i] = i % GROUP == 0 ? LARGE_FACTOR : factor;
}

/* Half of the codes subnormal or zero, half in the five binades above. */
static void fill_subnormal(uint8_t *codes, size_t count, uint64_t seed) {
  for (size_t i = 0; i < count; i++) {
    const uint64_t draw = next(&seed), magnitude = draw >> 8 & 1 ? draw % 8 : 8 + draw % 40;
    codes[i] = (uint8_t)(magnitude | (draw >> 9 & 1) << 7);
  }
}

static fg_problem make_kind(int kind, int k) {
  const size_t count = (size_t)SIDE * (size_t)k, blocks = (size_t)k / GROUP;
  float *x = activations, *w = weights;
  fill(x, count, 7);
  fill(w, count, 8);
  for (size_t i = 0; i < count; i++) {
    if (kind == POSITIVE || kind == OUTLIERS) x[i] = fabsf(x[i]), w[i] = fabsf(w[i]);
    if (kind == OUTLIERS && i % GROUP == 0) x[i] = 100 + x[i], w[i] = 100 + w[i];
    if (kind == CANCELLING && i % GROUP >= GROUP / 2) x[i] = x[i - GROUP / 2], w[i] = -w[i - GROUP / 2];
  }
  const fg_problem problem = make_problem(x, w, SIDE, SIDE, k);
  uint8_t *a = (uint8_t *)(uintptr_t)problem.a.data, *b = (uint8_t *)(uintptr_t)problem.b.data;
  float *a_scale = (float *)(uintptr_t)problem.a.scale, *b_scale = (float *)(uintptr_t)problem.b.scale;
  if (kind == SUBNORMAL) fill_subnormal(a, count, 9), fill_subnormal(b, count, 10);
  if (kind == CONSTRUCTED) fill_constructed(a, count, A_FACTOR), fill_constructed(b, count, B_FACTOR);
  if (kind == SUBNORMAL || kind == CONSTRUCTED) {
    for (size_t i = 0; i < SIDE * blocks; i++) a_scale[i] = 1;
    for (size_t i = 0; i < blocks; i++) b_scale[i] = 1;
  }
  return problem;
}

static void print_hopper(void) {
  printf("Error of `hopper` in %d x %d elements, D in FP32, as a share of its bound\n\n", SIDE, SIDE);
  printf("%-12s%8s%12s%12s%12s%12s\n", "data", "k", "median", "99 %", "99.9 %", "largest");
  for (int kind = 0; kind < KINDS; kind++)
    for (int k = GROUP; k <= MAX_K; k *= k < 1024 ? 8 : 7) {
      const fg_problem problem = make_kind(kind, k);
      const double *share = shares(problem, FG_HOPPER, FG_FP32);
      printf("%-12s%8d%12.2g%12.2g%12.2g%12.2g\n", kinds[kind], k, share[SIDE * SIDE / 2], share[SIDE * SIDE * 99 / 100],
             share[SIDE * SIDE * 999 / 1000], share[SIDE * SIDE - 1]);
      free_problem(&problem);
    }
  printf("\n");
}

/* For each kind of data with k = 128, then with k = 7168, a block of two columns: a share of the bound, and the part of the
 * elements that reach it. */
static void plot_hopper(void) {
  for (int k = GROUP; k <= MAX_K; k *= MAX_K / GROUP)
    for (int kind = 0; kind < KINDS; kind++) {
      const fg_problem problem = make_kind(kind, k);
      const double *share = shares(problem, FG_HOPPER, FG_FP32);
      for (double reach = SIDE * SIDE; reach >= 1; reach *= 0.875)
        printf("%.4g %.4g\n", share[SIDE * SIDE - (int)reach], floor(reach) / (SIDE * SIDE));
      printf("\n\n");
      free_problem(&problem);
    }
}

/* One step by hand: a, b and c in docs/numerics.md's worked example. */
static void print_example(void) {
  enum { PAIRS = 5 };
  static const float a_values[PAIRS] = {13, 0.40625f, -0.203125f, 448, 0x1p-9f}, b_values[PAIRS] = {13, 0.4375f, 0.3125f, 0, 448};
  uint8_t a[PAIRS], b[PAIRS];
  float d;
  fg_mma_step step;
  convert(a_values, FG_FP32, a, FG_E4M3, PAIRS);
  convert(b_values, FG_FP32, b, FG_E4M3, PAIRS);
  require(fg_mma(FG_E4M3, a, FG_E4M3, b, PAIRS, -1.0087890625f, &d, &step));
  const double unit = ldexp(1, step.exponent - 13);
  double exact = (double)step.c;
  printf("One step of a Hopper tensor core, the worked example: E = %d, the unit is 2^%d\n\n", step.exponent, step.exponent - 13);
  printf("%12s%12s%18s%18s%12s\n", "a", "b", "exact", "exact, in units", "term");
  for (int i = 0; i < PAIRS; i++) {
    const double product = (double)step.product[i];
    printf("%12.10g%12.10g%18.12g%18.12g%12d\n", (double)a_values[i], (double)b_values[i], product, product / unit, step.term[i]);
    exact += product;
  }
  printf("%24s%18.12g%18.12g%12d\n", "c", (double)step.c, (double)step.c / unit, step.c_term);
  printf("%24s%18.12g%18.12g%12d\n", "sum", exact, exact / unit, step.sum);
  printf("%24s%18.12g%18.12g\n\n", "d", (double)d, (double)d / unit);
}

/* A block that comes near to its bound. */
static void print_worst(void) {
  enum { STEPS = GROUP / 32 };
  uint8_t a[GROUP], b[GROUP];
  float d;
  fg_mma_step steps[STEPS];
  fill_constructed(a, GROUP, A_FACTOR);
  fill_constructed(b, GROUP, B_FACTOR);
  require(fg_mma(FG_E4M3, a, FG_E4M3, b, GROUP, 0, &d, steps));
  printf("A block near its bound: 256 * 256 once, 3.5 * 2.25 for the 127 others\n\n");
  printf("%8s%8s%12s%12s%16s%24s\n", "step", "E", "c", "d", "lost", "lost, in 2^(E - 13)");
  double exact = 0;
  for (int s = 0; s < STEPS; s++) {
    double sum = (double)steps[s].c;
    for (int i = 0; i < 32; i++) sum += (double)steps[s].product[i], exact += (double)steps[s].product[i];
    const double lost = sum - (double)steps[s].d;
    printf("%8d%8d%12.10g%12.10g%16.10g%24.10g\n", s + 1, steps[s].exponent, (double)steps[s].c, (double)steps[s].d, lost,
           ldexp(lost, 13 - steps[s].exponent));
  }
  printf("\nIts magnitude M is %.10g, of which %.10g are lost: %.2f * 2^-13 M.\n\n", exact, exact - (double)d,
         ldexp((exact - (double)d) / exact, 13));
}

/* What a cosine sees: 1 - cos of D and the value, from their products with each other and themselves. */
struct products {
  double dv, dd, vv;
};

static void add_row(struct products *sums, const float *d, const double *value, size_t count) {
  for (size_t i = 0; i < count; i++) {
    sums->dv += (double)d[i] * value[i];
    sums->dd += (double)d[i] * (double)d[i];
    sums->vv += value[i] * value[i];
  }
}

static double missing_cosine(struct products sums) { return 1 - sums.dv / sqrt(sums.dd * sums.vv); }

/* Each pair of neighbouring tiles lost in turn: how often is 1 - cosine still under the limit? Adds up 1 - cosine. */
static int count_unseen(const float *d, const double *value, struct products all, double limit, double *total) {
  int unseen = 0;
  for (size_t i0 = 0; i0 < LARGE; i0 += GROUP)
    for (size_t j0 = 0; j0 < LARGE; j0 += 2 * GROUP) {
      struct products lost = {0, 0, 0};
      for (size_t i = i0; i < i0 + GROUP; i++) add_row(&lost, d + i * LARGE + j0, value + i * LARGE + j0, 2 * GROUP);
      const double missing = missing_cosine((struct products){all.dv - lost.dv, all.dd - lost.dd, all.vv});
      unseen += missing < limit;
      *total += missing;
    }
  return unseen;
}

static void print_verdicts(const char *what, const float *d, const double *value, const double *bound, size_t count) {
  long outside = 0, naive = 0;
  for (size_t i = 0; i < count; i++) {
    const double error = fabs((double)d[i] - value[i]);
    outside += !(error <= bound[i]);
    naive += error > bound[i];
  }
  struct products sums = {0, 0, 0};
  add_row(&sums, d, value, count);
  const double missing = fabs(missing_cosine(sums));
  char text[16];
  snprintf(text, sizeof text, missing < 1e-12 ? "< 1e-12" : "%.2e", missing);
  printf("%-40s%12s%22ld%22ld\n", what, text, outside, naive);
}

static void print_gates(void) {
  const size_t count = (size_t)LARGE * LARGE, inputs = (size_t)LARGE * GROUP;
  float *x = allocate(inputs, 4), *w = allocate(inputs, 4), *d = allocate(count, 4), *faulty = allocate(count, 4);
  double *value = allocate(count, 8), *bound = allocate(count, 8), *truth = allocate((size_t)TRUE_ROWS * LARGE, 8);
  uint16_t *half = allocate(count, 2);
  fill(x, inputs, 5);
  fill(w, inputs, 6);
  fg_problem problem = make_problem(x, w, LARGE, LARGE, GROUP);
  problem.d.data = d;
  problem.level = FG_REFERENCE;
  require(fg_gemm(context, &problem));
  require(fg_exact(context, &problem, value, bound));
  for (size_t i = 0; i < TRUE_ROWS; i++)
    for (size_t j = 0; j < LARGE; j++)
      for (size_t k = 0; k < GROUP; k++) truth[i * LARGE + j] += (double)x[i * GROUP + k] * (double)w[j * GROUP + k];
  printf("Gates on a result of %d x %d, k = %d\n\n", LARGE, LARGE, GROUP);
  printf("%-40s%12s%22s%22s\n", "", "1 - cosine", "!(error <= bound)", "error > bound");
  print_verdicts("nothing wrong", d, value, bound, count);
  memcpy(faulty, d, count * 4);
  for (size_t i = 0; i < GROUP; i++) memset(faulty + i * LARGE, 0, (size_t)2 * GROUP * 4);
  print_verdicts("the first two tiles of 128 x 128 lost", faulty, value, bound, count);
  convert(d, FG_FP32, half, FG_FP16, (int64_t)count);
  convert(half, FG_FP16, faulty, FG_FP32, (int64_t)count);
  print_verdicts("rounded to FP16 on the way", faulty, value, bound, count);
  memcpy(faulty, d, count * 4);
  faulty[12345] = NAN;
  print_verdicts("one NaN", faulty, value, bound, count);
  struct products right = {0, 0, 0}, quantised = {0, 0, 0};
  add_row(&right, d, value, count);
  add_row(&quantised, d, truth, (size_t)TRUE_ROWS * LARGE);
  double total = 0;
  const int pairs = LARGE / GROUP * LARGE / GROUP / 2, unseen = count_unseen(d, value, right, 1e-3, &total);
  printf("\nWhichever of the %d pairs of tiles is lost, 1 - cosine is %.2e in the mean, and under 1e-3 for %d pairs.\n", pairs,
         total / pairs, unseen);
  printf("Quantising alone, D against the product of the numbers before it, makes 1 - cosine %.2e.\n", missing_cosine(quantised));
  free_problem(&problem);
  void *all[] = {x, w, d, faulty, value, bound, truth, half};
  for (int i = 0; i < 8; i++) free(all[i]);
}

int main(int argc, char **argv) {
  const int plot = argc == 2 && strcmp(argv[1], "--plot") == 0;
  if (argc > 1 && !plot) return fprintf(stderr, "usage: numerics [--plot]\n"), 2;
  require(fg_context_create(&context, NULL));
  if (plot) {
    plot_hopper();
  } else {
    print_example();
    print_worst();
    print_reference();
    print_hopper();
    print_quantiser();
    print_gates();
  }
  fg_context_destroy(context);
  return fflush(stdout) == 0 ? 0 : 1;
}
