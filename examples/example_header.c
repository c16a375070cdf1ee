/* The header's example: two matrices of floats are quantised and multiplied. */
//! [example]
#include "finegemm.h"
#include <stdio.h>

enum { M = 4, N = 256, K = 384, K_BLOCKS = (K + 127) / 128, N_BLOCKS = (N + 127) / 128 };

static float x[M][K], w[N][K];         // what is given: activations and weights
static unsigned char a[M][K], b[N][K]; // as FP8
static float a_scale[M][K_BLOCKS], b_scale[N_BLOCKS][K_BLOCKS];
static float d[M][N];

static int failed(const char *call) {
  fprintf(stderr, "%s: %s\n", call, fg_message());
  return 1;
}

int main(void) {
  for (int p = 0; p < K; p++) {
    for (int i = 0; i < M; i++) x[i][p] = (float)(p % 7 - 3) * 0.25f;
    for (int j = 0; j < N; j++) w[j][p] = (float)((p + j) % 5 - 2) * 0.5f;
  }

  fg_context *context;
  if (fg_context_create(&context, NULL)) return failed("fg_context_create");

  const fg_conversion activations = {.rows = M, .cols = K, .from = {.data = x}, .to = {.data = a, .scale = a_scale[0]}};
  const fg_conversion weights = {
      .rows = N, .cols = K, .from = {.data = w}, .to = {.data = b, .scale = b_scale[0], .scaling = FG_128X128}};
  if (fg_quantize(context, &activations)) return failed("fg_quantize");
  if (fg_quantize(context, &weights)) return failed("fg_quantize");

  const fg_problem problem = {.m = M,
                              .n = N,
                              .k = K,
                              .a = {.data = a, .scale = a_scale[0]},
                              .b = {.data = b, .scale = b_scale[0]},
                              .d = {.data = d, .type = FG_FP32}};
  if (fg_gemm(context, &problem)) return failed("fg_gemm");
  fg_context_destroy(context);

  printf("d[0] = %.3f %.3f %.3f ...\n", (double)d[0][0], (double)d[0][1], (double)d[0][2]);
  return 0;
}
//! [example]
