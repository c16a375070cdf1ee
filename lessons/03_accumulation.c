/* Lesson 3: a tensor core's sum keeps 13 fraction bits; two levels of accumulation live with that.
 *
 * A Hopper tensor core adds FP8 products into an accumulator with few bits. How far from the truth is the sum of K products if it
 * stays in there for all of K, and if it is promoted, that is added to an FP32 number outside and begun anew, every so often?
 *
 *     finegemm lesson 3             the tables
 *     03_accumulation --plot        columns for 03_accumulation.gp, which draws 03_accumulation.svg
 */
#include "finegemm.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Constants: the outputs, the lengths of their sums, kinds of data, and chains: how many products there are between promotions.
 * TENSOR and ORDINARY: pairs that one multiprocessor of an H100 multiplies and adds in a clock, FP8 in its tensor cores and FP32
 * in its ordinary ones. */
enum { M = 4, N = 4, MIN_K = 128, MAX_K = 65536, STEP = 32, STALL_STEP = 1024, STALL_K = 32768, TENSOR = 4096, ORDINARY = 128 };
enum kind { BELL, POSITIVE, CANCELLING, KINDS };
static const char *kinds[KINDS] = {"bell-shaped", "positive", "cancelling"};
static const int chains[] = {MAX_K, 32, 64, 128, 256, 512, 1024};
enum { CHAINS = sizeof chains / sizeof *chains, ONE_LEVEL = 0, TWO_LEVELS = 3 };

/* Data: A [M, K] and B [N, K], numbers that e4m3 has, and their codes. */
static fg_context *context;
static float x[M * MAX_K], w[N * MAX_K];
static uint8_t a[M * MAX_K], b[N * MAX_K];

static void require(fg_status status) {
  if (status == FG_OK) return;
  fprintf(stderr, "03_accumulation: %s\n", fg_message());
  exit(1);
}

static float bell(uint64_t *seed) {
  int sum = 0;
  for (int draw = 0; draw < 12; draw++) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    sum += (int)(*seed >> 48) - 32768;
  }
  return (float)sum / 65536;
}

static void convert(const void *from, fg_type from_type, void *to, fg_type to_type, int64_t count) {
  require(fg_convert(
      context, &(fg_conversion){
                   .rows = 1, .cols = count, .from = {.data = from, .type = from_type}, .to = {.data = to, .type = to_type}}));
}

/* In cancelling data, the second half of K takes away about what the first half gave. */
static void fill(enum kind kind, int k) {
  uint64_t seed = 3;
  for (int i = 0; i < M * k; i++) x[i] = 64 * bell(&seed);
  for (int i = 0; i < N * k; i++) w[i] = 64 * bell(&seed);
  for (int i = 0; i < M * k && kind != BELL; i++) x[i] = fabsf(x[i]);
  for (int i = 0; i < N * k && kind != BELL; i++) w[i] = kind == CANCELLING && i % k >= k / 2 ? -fabsf(w[i]) : fabsf(w[i]);
  convert(x, FG_FP32, a, FG_E4M3, M * k);
  convert(w, FG_FP32, b, FG_E4M3, N * k);
  convert(a, FG_E4M3, x, FG_FP32, M * k);
  convert(b, FG_E4M3, w, FG_FP32, N * k);
}

/* Experiment: the sum of k products by the tensor core in chains, each from 0, and what is wrong with it: the mean of |error| /
 * sum of |products|; the length of the error over that of the result; 1 - cosine; outputs outside of the bound of fg_exact(), and
 * outputs with the bits of the level hopper. */
struct outcome {
  double error, length, missing_cosine;
  int outside, same;
};

static float add_up(const uint8_t *row, const uint8_t *col, int k, int chain) {
  float sum = 0, dot;
  for (int k0 = 0; k0 < k; k0 += chain) {
    require(fg_mma(FG_E4M3, row + k0, FG_E4M3, col + k0, k - k0 < chain ? k - k0 : chain, 0, &dot, NULL));
    sum += dot;
  }
  return sum;
}

static void measure(enum kind kind, int k, struct outcome outcomes[CHAINS]) {
  static const float ones = 1;
  double truth[M * N], bound[M * N], magnitude[M * N] = {0};
  float hopper[M * N];
  fill(kind, k);
  const fg_problem problem = {.m = M,
                              .n = N,
                              .k = k,
                              .a = {.data = a, .scale = &ones, .scaling = FG_TENSOR},
                              .b = {.data = b, .scale = &ones, .scaling = FG_TENSOR},
                              .d = {.data = hopper, .type = FG_FP32},
                              .level = FG_HOPPER};
  require(fg_gemm(context, &problem));
  require(fg_exact(context, &problem, truth, bound));
  for (int i = 0; i < M * N; i++)
    for (int p = 0; p < k; p++) magnitude[i] += fabs((double)x[i / N * k + p] * w[i % N * k + p]);
  for (int c = 0; c < CHAINS; c++) {
    struct outcome outcome = {0};
    double ee = 0, dt = 0, dd = 0, tt = 0;
    for (int i = 0; i < M * N; i++) {
      const float got = add_up(a + i / N * k, b + i % N * k, k, chains[c]);
      const double d = got, t = truth[i], error = fabs(d - t);
      outcome.error += error / magnitude[i] / (M * N);
      outcome.outside += !(error <= bound[i]);
      outcome.same += got == hopper[i];
      ee += error * error, dt += d * t, dd += d * d, tt += t * t;
    }
    outcome.length = sqrt(ee / tt);
    outcome.missing_cosine = 1 - dt / sqrt(dd * tt);
    outcomes[c] = outcome;
  }
}

/* Printout: the stall, then errors over K, over the length of a chain, and what different gates say of them; or the picture's
 * columns. */
static void print_stall(int plot) {
  static uint8_t sixteenths[STALL_K];
  const float sixteenth = 1.0f / 16;
  convert(&sixteenth, FG_FP32, sixteenths, FG_E4M3, 1);
  memset(sixteenths, sixteenths[0], sizeof sixteenths);
  if (!plot) printf("1/16 times 1/16, K times\n\n%8s%12s%12s%12s\n", "K", "truth", "one level", "two levels");
  for (int k = plot ? 0 : STALL_K / 8; k <= STALL_K; k += plot ? STALL_STEP : k)
    printf(plot ? "%d %g %g %g\n" : "%8d%12g%12g%12g\n", k, k / 256.0,
           (double)add_up(sixteenths, sixteenths, k, chains[ONE_LEVEL]),
           (double)add_up(sixteenths, sixteenths, k, chains[TWO_LEVELS]));
  for (float c = 63.875f, d = 0; !plot && c <= 64; c += 0.125f) {
    fg_mma_step step;
    require(fg_mma(FG_E4M3, sixteenths, FG_E4M3, sixteenths, STEP, c, &d, &step));
    printf("\nA step from %g: in units of 2^%d, %d and %d times %d make %d, which is %g", (double)c, step.exponent - 13,
           step.c_term, STEP, step.term[0], step.sum, (double)d);
  }
  printf("\n\n");
}

static void print_plot(struct outcome (*outcomes)[KINDS][CHAINS]) {
  for (int kind = 0; kind < KINDS; kind++, printf("\n\n"))
    for (int k = MIN_K, row = 0; k <= MAX_K; k *= 2, row++, printf("\n")) {
      printf("%d", k);
      for (int c = 0; c < CHAINS; c++) printf(" %.3e", outcomes[row][kind][c].error);
    }
}

static void print_tables(struct outcome (*outcomes)[KINDS][CHAINS], int rows) {
  printf("Error as a part of the sum of magnitudes, mean of %d outputs\n\n%8s", M * N, "");
  for (int kind = 0; kind < KINDS; kind++) printf("%24s", kinds[kind]);
  printf("\n%8s", "K");
  for (int kind = 0; kind < KINDS; kind++) printf("%12s%12s", "one level", "two levels");
  for (int row = 0; row < rows; row++) {
    printf("\n%8d", MIN_K << row);
    for (int kind = 0; kind < KINDS; kind++)
      printf("%12.1e%12.1e", outcomes[row][kind][ONE_LEVEL].error, outcomes[row][kind][TWO_LEVELS].error);
  }
  printf("\n\nThe same at K = %d for other chains, and the time of promotion as a part of the tensor cores'\n\n%8s", MAX_K,
         "chain");
  for (int kind = 0; kind < KINDS; kind++) printf("%12s", kinds[kind]);
  printf("%12s", "promotion");
  for (int c = 1; c < CHAINS; c++) {
    printf("\n%8d", chains[c]);
    for (int kind = 0; kind < KINDS; kind++) printf("%12.1e", outcomes[rows - 1][kind][c].error);
    printf("%10.1f %%", 100.0 * TENSOR / ORDINARY / chains[c]);
  }
  printf("\n\nWhat gates say of these %d outputs: outside of the bound, and with the bits of the level hopper\n\n", M * N);
  printf("%-12s%14s%16s%14s%12s%10s\n", "", "", "error / result", "1 - cosine", "outside", "bits");
  for (int kind = 0; kind < KINDS; kind++)
    for (int level = ONE_LEVEL; level <= TWO_LEVELS; level += TWO_LEVELS - ONE_LEVEL) {
      const struct outcome *outcome = &outcomes[rows - 1][kind][level];
      printf("%-12s%14s%14.3f %%%14.1e%12d%10d\n", kinds[kind], level == ONE_LEVEL ? "one level" : "two levels",
             100 * outcome->length, outcome->missing_cosine, outcome->outside, outcome->same);
    }
}

int main(int argc, char **argv) {
  const int plot = argc == 2 && strcmp(argv[1], "--plot") == 0;
  if (argc > 1 && !plot) return fprintf(stderr, "usage: 03_accumulation [--plot]\n"), 2;
  require(fg_context_create(&context, NULL));
  static struct outcome outcomes[32][KINDS][CHAINS];
  int rows = 0;
  for (int k = MIN_K; k <= MAX_K; k *= 2, rows++)
    for (int kind = 0; kind < KINDS; kind++) measure((enum kind)kind, k, outcomes[rows][kind]);
  print_stall(plot);
  if (plot)
    print_plot(outcomes);
  else
    print_tables(outcomes, rows);
  fg_context_destroy(context);
  return fflush(stdout) == 0 ? 0 : 1;
}
