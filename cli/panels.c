#include "cli.h"

#include <math.h>

fg_operand rows_of(const fg_operand *operand, int64_t first, int64_t k) {
  fg_operand part = *operand;
  if (part.data) part.data = (const char *)operand->data + first * operand->ld * type_bytes(operand->type);
  if (operand->scale && operand->scaling != FG_TENSOR)
    part.scale +=
        (operand->scaling == FG_1X128 ? first : first / BLOCK) * (operand->scale_layout == FG_ROWS_CONTIGUOUS ? 1 : blocks_of(k));
  return part;
}

fg_problem panel_of(const fg_problem *problem, bool along_n, int64_t first, int64_t count) {
  fg_problem panel = *problem;
  int64_t offset = along_n ? first : first * problem->d.ld, c_offset = along_n ? first : first * problem->c.ld;
  if (panel.d.data) panel.d.data = (char *)problem->d.data + offset * type_bytes(problem->d.type);
  if (panel.c.data) panel.c.data = (const char *)problem->c.data + c_offset * type_bytes(problem->c.type);
  if (along_n) {
    panel.b = rows_of(&problem->b, first, problem->k);
    panel.n = count;
  } else {
    panel.a = rows_of(&problem->a, first, problem->k);
    panel.m = count;
  }
  return panel;
}

/* So many rows or columns that a panel takes about a second. */
static int64_t panel_length(int64_t length, double products_each, double products) {
  double rows = products / fmax(products_each, 1);
  return rows >= (double)length ? length : ((int64_t)rows / BLOCK + 1) * BLOCK;
}

typedef fg_status call(fg_context *context, const fg_problem *problem);

static void for_each_panel(fg_context *context, const fg_problem *problem, call *each, const char *what) {
  bool along_n = problem->n > problem->m, slow = problem->level != FG_BLAS && memory_of(problem->level) == FG_CPU;
  int64_t all = along_n ? problem->n : problem->m, other = along_n ? problem->m : problem->n;
  int64_t length = panel_length(all, (double)other * (double)problem->k, slow ? 0x1p31 : 0x1p36);
  int64_t first = 0;
  do { /* once even for nothing, so that what cannot run says so */
    int64_t count = all - first < length ? all - first : length;
    progress(what, first, all);
    fg_problem panel = panel_of(problem, along_n, first, count);
    require(each(context, &panel), "");
    first += count;
  } while (first < all);
}

double multiply(fg_context *context, const fg_problem *problem, const char *what) {
  fg_problem there;
  require(send_operands(context, problem, &there), "");
  for_each_panel(context, &there, fg_prepare, what);
  double start = seconds_now();
  for_each_panel(context, &there, fg_gemm, what);
  require(wait_for_result(context, &there), "");
  double seconds = seconds_now() - start;
  require(fetch_result(context, &there, problem), "");
  free_operands(context, &there);
  progress_clear();
  return seconds;
}

/* Error over bound: how much of what is allowed was used. Exactly right is 0 even if nothing is allowed. */
static double share_of_bound(double d, double value, double bound) {
  if (isnan(value)) return isnan(d) ? 0 : INFINITY;
  if (isinf(value)) return d == value ? 0 : INFINITY;
  double error = fabs(d - value);
  if (!(error <= bound)) return isfinite(error) && bound > 0 ? fmax(error / bound, nextafter(1, 2)) : INFINITY;
  return error == 0 || isinf(bound) ? 0 : error / bound;
}

struct verdict judge(fg_context *context, const fg_problem *problem, const void *d, fg_type d_type, fg_type rounded,
                     const char *what) {
  fg_problem judged = *problem;
  judged.level = host_level(problem->level);
  struct verdict verdict = {.elements = problem->m * problem->n, .ratio = problem->m * problem->n > 0 ? -1 : 0};
  int64_t n = problem->n, most = n > 0 ? ((1 << 21) / n / BLOCK + 1) * BLOCK : problem->m;
  int64_t length = panel_length(problem->m, (double)n * (double)problem->k, 0x1p31);
  if (length > most) length = most;
  double *value = claim(length * n, sizeof *value, "exact values"), *bound = claim(length * n, sizeof *bound, "bounds");
  float *panel_d = claim(length * n, sizeof *panel_d, "a panel of D");
  for (int64_t first = 0; first < problem->m; first += length) {
    int64_t count = problem->m - first < length ? problem->m - first : length;
    progress(what, first, problem->m);
    fg_problem panel = panel_of(&judged, false, first, count);
    panel.d = (fg_result){.type = rounded};
    require(fg_exact(context, &panel, value, bound), "");
    to_float(context, d_type, d, first * n, count * n, panel_d);
    for (int64_t index = 0; index < count * n; index++) {
      double share = share_of_bound((double)panel_d[index], value[index], bound[index]);
      verdict.outside += !(share <= 1);
      if (!(share > verdict.ratio)) continue;
      verdict.ratio = share;
      verdict.i = first + index / n;
      verdict.j = index % n;
      verdict.d = (double)panel_d[index];
      verdict.value = value[index];
      verdict.error = fabs(verdict.d - verdict.value);
      verdict.bound = bound[index];
    }
  }
  progress_clear();
  release(value);
  release(bound);
  release(panel_d);
  return verdict;
}
