/* Lesson 2: one scale for all against one for each block.
 *
 * A small layer of a language model, X Wᵀ, whose activations X hold a few outliers. How far is the FP8 product from the
 * product of the numbers themselves as the outliers grow, with one scale for each matrix and with fine-grained scales?
 *
 *     finegemm lesson 2        the table
 *     02_scaling --plot        columns for 02_scaling.gp, which draws 02_scaling.svg
 */
#include "finegemm.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Constants: the layer, where its outliers sit, how far they grow (powers of two), and the ways to quantise it. */
enum { M = 64, N = 256, K = 2048, BLOCK = 128, TOKEN_STEP = 32, CHANNEL_STEP = 512, HIGHEST = 20 };
static const struct way {
  const char *name;
  fg_type type;
  fg_scaling a_scaling, b_scaling;
} ways[] = {{"e4m3, one scale", FG_E4M3, FG_TENSOR, FG_TENSOR},
            {"e4m3, fine-grained", FG_E4M3, FG_1X128, FG_128X128},
            {"e5m2, one scale", FG_E5M2, FG_TENSOR, FG_TENSOR},
            {"e5m2, fine-grained", FG_E5M2, FG_1X128, FG_128X128}};
enum { WAYS = sizeof ways / sizeof *ways };

/* Data: X [M, K] and W [N, K] bell-shaped around 0, four channels of each 32nd token `outlier` times as large; their product
 * [M, N] in FP64, which is the truth; and what FP8 makes of them. */
static fg_context *context;
static float x[M * K], w[N * K], a_scale[M * K / BLOCK], b_scale[N / BLOCK * K / BLOCK], d[M * N];
static uint8_t a[M * K], b[N * K];
static double truth[M * N], value[M * N], bound[M * N];

static void require(fg_status status) {
  if (status == FG_OK) return;
  fprintf(stderr, "02_scaling: %s\n", fg_message());
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

static void fill(float outlier) {
  uint64_t seed = 2;
  for (int i = 0; i < M * K; i++) x[i] = bell(&seed) * (i / K % TOKEN_STEP == 0 && i % K % CHANNEL_STEP == 0 ? outlier : 1);
  for (int i = 0; i < N * K; i++) w[i] = bell(&seed);
  for (int i = 0; i < M; i++)
    for (int j = 0; j < N; j++) {
      double sum = 0;
      for (int k = 0; k < K; k++) sum += (double)x[i * K + k] * w[j * K + k];
      truth[i * N + j] = sum;
    }
}

/* Experiment: quantise, multiply, and compare with the truth: error of a token's result, mean of all tokens; error of the whole
 * matrix; share of the activations that became 0; elements of D outside their bound. */
struct outcome {
  double tokens, matrix, zeros;
  int outside;
};

static void quantise(const float *from, int rows, uint8_t *to, float *scale, fg_type type, fg_scaling scaling) {
  require(fg_quantize(context, &(fg_conversion){.rows = rows,
                                                .cols = K,
                                                .from = {.data = from, .type = FG_FP32},
                                                .to = {.data = to, .scale = scale, .type = type, .scaling = scaling}}));
}

static struct outcome multiply(const struct way *way) {
  quantise(x, M, a, a_scale, way->type, way->a_scaling);
  quantise(w, N, b, b_scale, way->type, way->b_scaling);
  const fg_problem problem = {.m = M,
                              .n = N,
                              .k = K,
                              .a = {.data = a, .scale = a_scale, .type = way->type, .scaling = way->a_scaling},
                              .b = {.data = b, .scale = b_scale, .type = way->type, .scaling = way->b_scaling},
                              .d = {.data = d, .type = FG_FP32}};
  require(fg_gemm(context, &problem));
  require(fg_exact(context, &problem, value, bound));
  struct outcome outcome = {0};
  double all_wrong = 0, all = 0;
  for (int i = 0; i < M; i++) {
    double wrong = 0, whole = 0;
    for (int j = i * N; j < (i + 1) * N; j++) {
      wrong += (d[j] - truth[j]) * (d[j] - truth[j]);
      whole += truth[j] * truth[j];
      outcome.outside += !(fabs(d[j] - value[j]) <= bound[j]);
    }
    outcome.tokens += sqrt(wrong / whole) / M;
    all_wrong += wrong, all += whole;
  }
  outcome.matrix = sqrt(all_wrong / all);
  for (int i = 0; i < M * K; i++) outcome.zeros += (x[i] != 0 && (a[i] & 0x7F) == 0) / (double)(M * K);
  return outcome;
}

/* Printout: a row for each size of outlier, the ways side by side. */
int main(int argc, char **argv) {
  const int plot = argc == 2 && strcmp(argv[1], "--plot") == 0;
  if (argc > 1 && !plot) return fprintf(stderr, "usage: 02_scaling [--plot]\n"), 2;
  require(fg_context_create(&context, NULL));
  if (!plot) {
    printf("In %%: error of a token's result, mean of %d tokens; error of the whole matrix; activations that became 0\n\n", M);
    printf("%-9s", "");
    for (int v = 0; v < WAYS; v++) printf("%24s", ways[v].name);
    printf("\n%-9s", "outliers");
    for (int v = 0; v < WAYS; v++) printf("%10s%7s%7s", "tokens", "matrix", "zeros");
    printf("\n");
  }
  int outside = 0;
  for (int p = 0; p <= HIGHEST; p += plot ? 1 : 2) {
    fill(ldexpf(1, p));
    printf(plot ? "%d" : "%7d x", 1 << p);
    for (int v = 0; v < WAYS; v++) {
      const struct outcome outcome = multiply(&ways[v]);
      printf(plot ? " %.6f %.6f %.6f" : "%10.2f%7.2f%7.1f", 100 * outcome.tokens, 100 * outcome.matrix, 100 * outcome.zeros);
      outside += outcome.outside;
    }
    printf("\n");
  }
  if (!plot) printf("\n%d elements of D further from fg_exact()'s value than its bound\n", outside);
  fg_context_destroy(context);
  return fflush(stdout) == 0 ? 0 : 1;
}
