/* Multiplies 1 x 1: 448 * 0.5 and 2 * 1, D = 448. Exits 0 if that is what the installed library says. */
#include <finegemm.h>
#include <stdio.h>

int main(void) {
  const unsigned char a = 0x7E, b = 0x40;
  const float a_scale = 0.5f, b_scale = 1;
  float d = 0;
  fg_context *context;
  if (fg_context_create(&context, NULL)) return 1;
  const fg_problem problem = {.m = 1,
                              .n = 1,
                              .k = 1,
                              .a = {.data = &a, .scale = &a_scale},
                              .b = {.data = &b, .scale = &b_scale},
                              .d = {.data = &d, .type = FG_FP32}};
  const fg_status status = fg_gemm(context, &problem);
  printf("finegemm %s: %s, d = %g %s\n", fg_version(), fg_status_name(status), (double)d, fg_message());
  fg_context_destroy(context);
  return status == FG_OK && d == 448 ? 0 : 1;
}
