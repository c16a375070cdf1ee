/* fg_gemm() and fg_exact() over all kinds of problems: `reference` and `hopper` against their definitions bit for bit, every level
 * against the bound, and what must not change a bit. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, MAP_NORESERVE */
#include "cpu.h"
#include "support.h"

#include <criterion/criterion.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static fg_context *context_with(int threads) {
  fg_context *context;
  cr_assert_eq(fg_context_create(&context, &(fg_context_options){.threads = threads}), FG_OK);
  return context;
}

static const struct {
  fg_level level;
  const char *name;
} levels[] = {{FG_REFERENCE, "reference"}, {FG_EXACT, "exact"}, {FG_BLAS, "blas"}, {FG_HOPPER, "hopper"}, {FG_BEST, "best"}};
enum { LEVELS = sizeof levels / sizeof *levels };

/* Runs a level on D as it was before any call. */
static bool run(fg_context *context, struct problem *problem, fg_level level, unsigned flags, const char *name) {
  problem_reset(problem);
  problem_set_level(problem, level);
  problem->call.flags = flags;
  fg_status status = fg_gemm(context, &problem->call);
  if (status != FG_OK) case_failed(problem, "%s: %s, %s", name, fg_status_name(status), fg_message());
  return status == FG_OK;
}

static unsigned char *copy_of_d(const struct problem *problem) {
  unsigned char *copy = malloc(problem->d.bytes + 1);
  if (problem->d.bytes) memcpy(copy, problem->d.data, problem->d.bytes);
  return copy;
}

/* --- The definition and the bound */

/* What fg_exact() said of a problem. */
struct truth {
  fg_level level;
  const char *name;
  double *value, *bound;
  bool written_only; /* so far, nothing but elements of D was counted in `seen` */
  int64_t seen;
  bool whole; /* so far, nothing rounded before the output */
};

static const double untouched = -0x1.8p-700;

static enum family family_of(fg_level level) { return level == FG_HOPPER ? FAMILY_HOPPER : FAMILY_FP32; }

static int64_t packed_elements(const struct spec *spec) {
  return (spec->kind == FG_GROUPED_ROWS ? 1 : spec->groups) * spec->m * spec->n;
}

/* The largest legal |D - value|, as docs/numerics.md derives it. `products` is the sum of |scale a b|, in the family
 * hopper of |scale| times sizes. */
static double largest_error(const struct problem *problem, fg_level level, int64_t k, double value, double products, double c,
                            double bias) {
  const double u = 0x1p-24, least = 0x1p-150;
  double blocks = (double)((k + 127) / 128), n = (level == FG_HOPPER ? 0 : (double)k) + blocks + 2, error;
  if (level == FG_EXACT) {
    error = n * 0x1p-52 * (products + fabs(c) + fabs(bias)) + u * fabs(value) + least;
  } else {
    error = n * u / (1 - n * u) * products + blocks * least;
    if (level == FG_HOPPER) error += 132 * 0x1p-13 * products;
    if (problem->spec.c != NO_C) error += u * (fabs(value - bias) + error) + least;
    if (problem->spec.bias) error += u * (fabs(value) + error) + least;
  }
  if (problem->spec.d_type == FG_BF16) error += 0x1p-8 * (fabs(value) + error) + 0x1p-134;
  if (problem->spec.d_type == FG_FP16) error += 0x1p-11 * (fabs(value) + error) + 0x1p-25;
  return error;
}

static void check_truth(const struct problem *problem, const struct row *row, int64_t j, int64_t index, void *state) {
  struct truth *truth = state;
  long double products, c, bias, own = exact_value(problem, family_of(truth->level), row, j, &products, &c, &bias);
  double value = truth->value[index], bound = truth->bound[index], k = (double)(row->k1 - row->k0);
  truth->seen++;
  if (!(products * 16 < 0x1p24L)) truth->whole = false;
  if (isnan(own)   ? !isnan(value)
      : isinf(own) ? value != (double)own
                   : !(fabsl((long double)value - own) <= (2 * k + 8) * 0x1p-53 * (products + fabsl(c) + fabsl(bias))))
    case_failed(problem, "fg_exact: value[%lld] is %a, not %La", (long long)index, value, own);
  if (!isfinite(own)) return;
  double largest = largest_error(problem, truth->level, row->k1 - row->k0, value, (double)products, (double)c, (double)bias);
  static const double limits[] = {[FG_BF16] = 0x1.FEp127, [FG_FP16] = 65504, [FG_FP32] = (double)FLT_MAX};
  bool overflows = fabs(value) + largest >= limits[problem->spec.d_type] * (1 - 1e-9) ||
                   (double)(products + fabsl(c) + fabsl(bias)) + largest >= (double)FLT_MAX * (1 - 1e-9);
  if (!(fabs(bound - largest) <= 1e-9 * largest) && !(overflows && isinf(bound)))
    case_failed(problem, "fg_exact for %s: bound[%lld] is %a, not %a", truth->name, (long long)index, bound, largest);
}

static void check_bound(const struct problem *problem, const struct row *row, int64_t j, int64_t index, void *state) {
  const struct truth *truth = state;
  double d = decode(problem->spec.d_type, read_bits(problem->spec.d_type, problem->d.data, d_index(problem, row, j)));
  double value = truth->value[index], bound = truth->bound[index];
  if (isnan(value) ? !isnan(d) : isinf(value) ? d != value : !(fabs(d - value) <= bound))
    case_failed(problem, "%s: element %lld of d is %a, but the value is %a and the bound %a", truth->name, (long long)index, d,
                value, bound);
}

static void count_kept(const struct problem *problem, const struct truth *truth) {
  int64_t kept = 0, elements = packed_elements(&problem->spec);
  for (int64_t i = 0; i < elements; i++) kept += truth->value[i] == untouched && truth->bound[i] == untouched;
  if (kept != elements - truth->seen) case_failed(problem, "fg_exact wrote elements that d does not have");
}

/* `hopper` with all vector instructions that the machine has, but for those that it runs with anyway. */
static void check_paths(fg_context *context, struct problem *problem, const unsigned char *expected) {
  enum fg_isa chosen = fg_isa();
  for (int isa = FG_ISA_PLAIN; isa <= FG_ISA_AVX512; isa++) {
    if (isa == (int)chosen || !fg_set_isa((enum fg_isa)isa)) continue;
    char name[32];
    snprintf(name, sizeof name, "hopper by %s", fg_isa_name((enum fg_isa)isa));
    if (run(context, problem, FG_HOPPER, problem->spec.split_k > 1 ? 0 : FG_NO_SPLIT_K, name)) d_equals(problem, expected, name);
  }
  fg_set_isa(chosen);
}

/* All of D by the definitions, the bounds of all levels, and all levels within them. */
static void check_problem(fg_context *context, struct problem *problem) {
  unsigned char *expected[] = {defined_bytes(problem, FAMILY_FP32), defined_bytes(problem, FAMILY_HOPPER)};
  if (fg_prepare(context, &problem->call) != FG_OK) case_failed(problem, "fg_prepare: %s", fg_message());
  int64_t elements = packed_elements(&problem->spec);
  struct region value = region_make((size_t)elements * sizeof(double), true),
                bound = region_make((size_t)elements * sizeof(double), true);
  bool whole = problem->spec.values == INTEGERS;
  for (int i = 0; i < LEVELS; i++) {
    struct truth truth = {levels[i].level, levels[i].name, (double *)value.data, (double *)bound.data, true, 0, true};
    for (int64_t e = 0; e < elements; e++) truth.value[e] = truth.bound[e] = untouched;
    problem_reset(problem);
    problem_set_level(problem, truth.level);
    fg_problem without_d = problem->call;
    without_d.d.data = NULL;
    if (problem->spec.c == C_IS_D) without_d.c.data = problem->d.data;
    fg_status status = fg_exact(context, &without_d, truth.value, truth.bound);
    if (status != FG_OK) {
      case_failed(problem, "fg_exact for %s: %s, %s", truth.name, fg_status_name(status), fg_message());
      continue;
    }
    d_untouched(problem, "fg_exact");
    for_each_element(problem, check_truth, &truth);
    count_kept(problem, &truth);
    if (!run(context, problem, truth.level, 0, truth.name)) continue;
    if (truth.level == FG_REFERENCE || (whole && truth.whole))
      d_equals(problem, expected[FAMILY_FP32], truth.name);
    else if (truth.level == FG_HOPPER)
      d_equals(problem, expected[FAMILY_HOPPER], truth.name);
    else
      d_kept_elsewhere(problem, truth.name);
    for_each_element(problem, check_bound, &truth);
  }
  check_paths(context, problem, expected[FAMILY_HOPPER]);
  region_free(&value);
  region_free(&bound);
  for (int family = FAMILY_FP32; family <= FAMILY_HOPPER; family++) free(expected[family]);
}

static void check_seeds(uint64_t first, uint64_t count) {
  fg_context *context = context_with(1);
  for (uint64_t seed = first; walk_on(&seed, first, count); seed++) {
    struct spec spec = spec_random(seed);
    struct problem *problem = problem_make(&spec);
    check_problem(context, problem);
    problem_free(problem);
  }
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}

/* Every kind with every scaling, pair of types and type of D, twice: 10 * 9 * 4 * 3 = 1080 seeds. In four tests, which Criterion
 * runs side by side. */
Test(gemm, keeps_the_definition_and_the_bounds_1) { check_seeds(0, 540); }
Test(gemm, keeps_the_definition_and_the_bounds_2) { check_seeds(540, 540); }
Test(gemm, keeps_the_definition_and_the_bounds_3) { check_seeds(1080, 540); }
Test(gemm, keeps_the_definition_and_the_bounds_4) { check_seeds(1620, 540); }

/* Every number of ranges that K can be split into, and more; and without a split under FG_NO_SPLIT_K. */
Test(gemm, split_k_follows_its_ranges) {
  static const int64_t depths[] = {0, 1, 127, 128, 129, 255, 257, 640, 897, 1280, 1535};
  fg_context *context = context_with(2);
  int told_apart = 0;
  for (uint64_t seed = 60000; walk_on(&seed, 60000, 120); seed++) {
    struct spec spec = spec_random(seed);
    spec.m = 1 + (int64_t)(seed % 5), spec.n = 1 + (int64_t)(seed % 19);
    spec.k = depths[seed % (sizeof depths / sizeof *depths)];
    if (spec.groups > 3) spec.groups = 3;
    if (spec.kind == FG_DENSE) spec.groups = 1;
    spec.d_type = FG_FP32; /* which shows what order sums were added in */
    if (spec.c == C_IS_D) spec.c_type = FG_FP32;
    int most = (int)((spec.k + 127) / 128) + 2;
    unsigned char *whole = NULL;
    for (int split = 0; split <= most + 1; split++) {
      spec.split_k = split <= most ? split : INT_MAX;
      struct problem *problem = problem_make(&spec);
      unsigned char *expected = defined_bytes(problem, FAMILY_HOPPER);
      check_paths(context, problem, expected);
      if (run(context, problem, FG_HOPPER, 0, "hopper") && d_equals(problem, expected, "hopper") && whole && problem->d.bytes)
        told_apart += memcmp(whole, expected, problem->d.bytes) != 0;
      if (split == 0) whole = copy_of_d(problem);
      free(expected);
      problem_free(problem);
    }
    free(whole);
  }
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
  cr_assert(told_apart > 100 || getenv("FG_SEED"), "a split shows in %d cases only", told_apart);
}

/* Five blocks whose sums are 2^24, 1, 1, 1, 1: in FP32 the ones are lost beside 2^24 unless a range adds them up first. */
Test(gemm, split_k_by_hand) {
  enum { K = 5 * 128 };
  static const float expected[] = {0x1p24f, 0x1p24f, 0x1p24f + 4, 0x1p24f + 4, 0x1p24f + 2, 0x1p24f, 0x1p24f};
  unsigned char a[K] = {0}, b[K] = {0};
  for (int block = 0; block < 5; block++) a[128 * block] = b[128 * block] = 0x38;
  const float a_scale[] = {0x1p24f, 1, 1, 1, 1}, b_scale[] = {1, 1, 1, 1, 1};
  fg_context *context = context_with(1);
  for (int split = 0; split <= 6; split++) {
    float d = NAN;
    fg_problem problem = {.m = 1,
                          .n = 1,
                          .k = K,
                          .a = {.data = a, .scale = a_scale},
                          .b = {.data = b, .scale = b_scale},
                          .d = {.data = &d, .type = FG_FP32},
                          .level = FG_HOPPER,
                          .split_k = split};
    cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    cr_expect(d == expected[split], "split_k %d gives %a, not %a", split, (double)d, (double)expected[split]);
  }
  fg_context_destroy(context);
}

/* The bound is asked for by level, and only of one that the context can run. */
Test(gemm, no_bound_for_a_level_that_is_not_here) {
  struct spec spec = spec_random(0);
  struct problem *problem = problem_make(&spec);
  fg_context *context = context_with(1);
  double value[1] = {untouched}, bound[1] = {untouched};
  for (int level = FG_NAIVE; level <= FG_FULL; level++) {
    problem->call.level = (fg_level)level;
    cr_expect_eq(fg_exact(context, &problem->call, value, bound), FG_UNSUPPORTED, "level %d", level);
    cr_expect(value[0] == untouched && bound[0] == untouched);
  }
  fg_context_destroy(context);
  problem_free(problem);
}

/* --- What must not change a bit */

/* The bits of `reference`, `exact` and `hopper` are the same for any number of threads; those of the others from run to run. */
Test(gemm, bits_are_the_same_from_run_to_run) {
  static const int threads[] = {1, 2, 5};
  fg_context *contexts[3];
  for (int t = 0; t < 3; t++) contexts[t] = context_with(threads[t]);
  for (uint64_t seed = 10000; walk_on(&seed, 10000, 200); seed++) {
    struct spec spec = spec_random(seed);
    struct problem *problem = problem_make(&spec);
    for (int i = 0; i < LEVELS; i++) {
      unsigned char *first = NULL;
      for (int t = 0; t < 6; t++) {
        if (t % 2 == 0 && (levels[i].level == FG_BLAS || levels[i].level == FG_BEST)) free(first), first = NULL;
        if (!run(contexts[t / 2], problem, levels[i].level, 0, levels[i].name)) continue;
        if (first)
          d_equals(problem, first, levels[i].name);
        else
          first = copy_of_d(problem);
      }
      free(first);
    }
    problem_free(problem);
  }
  for (int t = 0; t < 3; t++) fg_context_destroy(contexts[t]);
  cr_assert_eq(cases_failed(), 0);
}

static const void *element(const fg_operand *operand, int64_t index) {
  return operand->data ? (const char *)operand->data + index * (int64_t)bytes_of(operand->type) : NULL;
}

/* The scales from a row and a block on. A 128x128 block that the row is inside of begins before it. */
static const float *scales_from(const fg_operand *operand, int64_t matrix, int64_t row, int64_t block) {
  if (!operand->scale) return NULL;
  if (operand->scaling == FG_TENSOR) return operand->scale + matrix * operand->scale_stride;
  int64_t r = operand->scaling == FG_128X128 ? row / 128 : row;
  int64_t row_stride = operand->scale_layout == FG_ROWS_CONTIGUOUS ? 1 : operand->scale_ld;
  int64_t block_stride = operand->scale_layout == FG_ROWS_CONTIGUOUS ? operand->scale_ld : 1;
  return operand->scale + matrix * operand->scale_stride + r * row_stride + block * block_stride;
}

/* The dense problem that `count` rows from `row` on, which are of one group, stand for; D goes to `d`, packed. C that is D itself
 * is read from `c_bytes`, D's bytes before any call. */
static fg_problem dense_call(const struct problem *problem, const struct row *row, int64_t count, const void *c_bytes, void *d) {
  const fg_problem *full = &problem->full;
  fg_problem dense = {
      .m = count, .n = full->n, .k = row->k1 - row->k0, .a = full->a, .b = full->b, .c = full->c, .bias = full->bias};
  if (problem->spec.c == C_IS_D) dense.c.data = c_bytes;
  dense.a.data = element(&full->a, row->a_matrix * full->a.stride + row->a_row * full->a.ld + row->k0);
  dense.b.data = element(&full->b, row->b_matrix * full->b.stride + row->k0);
  dense.c.data = element(&dense.c, row->d_matrix * full->c.stride + row->d_row * full->c.ld);
  dense.bias.data = element(&full->bias, row->group * full->bias.stride);
  dense.a.scale = scales_from(&full->a, row->a_matrix, row->a_row, row->block0);
  dense.b.scale = scales_from(&full->b, row->b_matrix, 0, row->block0);
  dense.d = (fg_result){.data = d, .type = full->d.type};
  return dense;
}

/* Whether `count` rows of D from `row` on equal the packed ones. */
static void compare_rows(const struct problem *problem, const struct row *row, int64_t count, const unsigned char *packed,
                         const char *name) {
  size_t row_bytes = (size_t)problem->spec.n * bytes_of(problem->spec.d_type);
  for (int64_t i = 0; i < count && row_bytes; i++)
    if (memcmp(problem->d.data + d_index(problem, row + i, 0) * (int64_t)bytes_of(problem->spec.d_type),
               packed + (size_t)i * row_bytes, row_bytes) != 0)
      case_failed(problem, "%s: row %lld of group %lld differs from the dense call that it stands for", name,
                  (long long)row[i].d_row, (long long)row[i].group);
}

/* Every row equals a dense call of its own with m = 1: neither the kind nor other rows matter to it. `blas` cannot promise that. */
Test(gemm, a_row_depends_on_itself_alone) {
  static const struct {
    fg_level level;
    unsigned flags;
    const char *name;
  } runs[] = {{FG_REFERENCE, 0, "reference"},
              {FG_EXACT, 0, "exact"},
              {FG_HOPPER, 0, "hopper"},
              {FG_BEST, FG_NO_SPLIT_K, "best, no split"}};
  fg_context *context = context_with(1);
  for (uint64_t seed = 20000; walk_on(&seed, 20000, 180); seed++) {
    struct spec spec = spec_random(seed);
    struct problem *problem = problem_make(&spec);
    unsigned char *one_row = malloc((size_t)spec.n * bytes_of(spec.d_type) + 1);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
      if (!run(context, problem, runs[i].level, runs[i].flags, runs[i].name)) continue;
      for (int64_t r = 0; r < problem->row_count; r++) {
        fg_problem dense = dense_call(problem, &problem->rows[r], 1, problem->before, one_row);
        dense.level = runs[i].level, dense.flags = runs[i].flags, dense.split_k = problem->call.split_k;
        fg_status status = fg_gemm(context, &dense);
        if (status != FG_OK) case_failed(problem, "%s, one row: %s", runs[i].name, fg_message());
        compare_rows(problem, &problem->rows[r], 1, one_row, runs[i].name);
      }
    }
    free(one_row);
    problem_free(problem);
  }
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}

/* Every group equals the dense call that it stands for, on every level. */
Test(gemm, a_group_is_a_dense_call) {
  fg_context *context = context_with(1);
  for (uint64_t seed = 30000; walk_on(&seed, 30000, 400); seed++) {
    struct spec spec = spec_random(seed);
    struct problem *problem = problem_make(&spec);
    unsigned char *group = malloc((size_t)(spec.m * spec.n) * bytes_of(spec.d_type) + 1);
    for (int i = 0; i < LEVELS && spec.group_by != FG_BY_INDEX; i++) {
      if (!run(context, problem, levels[i].level, 0, levels[i].name)) continue;
      for (int64_t r = 0, count; r < problem->row_count; r += count) {
        const struct row *row = &problem->rows[r];
        for (count = 1; r + count < problem->row_count && row[count].group == row->group;) count++;
        if (spec.a_scaling == FG_128X128 && row->a_row % 128 != 0) continue; /* no dense call has such scales */
        fg_problem dense = dense_call(problem, row, count, problem->before, group);
        dense.level = levels[i].level, dense.split_k = problem->call.split_k;
        fg_status status = fg_gemm(context, &dense);
        if (status != FG_OK) case_failed(problem, "%s, dense: %s", levels[i].name, fg_message());
        compare_rows(problem, row, count, group, levels[i].name);
      }
    }
    free(group);
    problem_free(problem);
  }
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}

/* --- Chosen numbers */

/* D's bits of a 1x1x1 problem. */
static uint32_t single(fg_type a_type, unsigned a, fg_type b_type, unsigned b, float a_scale, float b_scale, const float *c,
                       const float *bias, fg_type d_type, fg_level level) {
  unsigned char a_code = (unsigned char)a, b_code = (unsigned char)b;
  uint32_t d = 0;
  fg_context *context = context_with(1);
  fg_problem problem = {.m = 1,
                        .n = 1,
                        .k = 1,
                        .a = {.data = &a_code, .scale = &a_scale, .type = a_type},
                        .b = {.data = &b_code, .scale = &b_scale, .type = b_type},
                        .c = {.data = c, .type = FG_FP32},
                        .bias = {.data = bias, .type = FG_FP32},
                        .d = {.data = &d, .type = d_type},
                        .level = level};
  cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
  fg_context_destroy(context);
  return d;
}

Test(gemm, special_numbers) {
  static const uint32_t nan_bits[] = {[FG_BF16] = 0x7FFF, [FG_FP16] = 0x7FFF, [FG_FP32] = 0x7FFFFFFF};
  static const uint32_t infinity_bits[] = {[FG_BF16] = 0x7F80, [FG_FP16] = 0x7C00, [FG_FP32] = 0x7F800000};
  static const uint32_t sign_bits[] = {[FG_BF16] = 0x8000, [FG_FP16] = 0x8000, [FG_FP32] = 0x80000000};
  enum { E4M3_ONE = 0x38, E4M3_NEGATIVE_ONE = 0xB8, E5M2_ONE = 0x3C, E5M2_INFINITY = 0x7C, E5M2_NEGATIVE_INFINITY = 0xFC };
  for (int i = 0; i < LEVELS; i++)
    for (fg_type type = FG_BF16; type <= FG_FP32; type++) {
      fg_level level = levels[i].level;
      const char *name = levels[i].name;
      uint32_t nan = nan_bits[type], infinity = infinity_bits[type], sign = sign_bits[type];
      const float minus_zero = -0.0f, minus_infinity = -INFINITY, odd_nan = -NAN, huge = FLT_MAX, one = 1;
#define IS(expected, ...)                                                                                                        \
  do {                                                                                                                           \
    uint32_t bits = single(__VA_ARGS__, type, level);                                                                            \
    cr_expect_eq(bits, expected, "%s, line %d: 0x%X, not 0x%X", name, __LINE__, bits, expected);                                 \
  } while (0)
      for (unsigned code = 0x7F; code <= 0xFF; code += 0x80) {
        IS(nan, FG_E4M3, code, FG_E4M3, E4M3_ONE, 1, 1, NULL, NULL);
        IS(nan, FG_E4M3, E4M3_ONE, FG_E5M2, code - 1, 1, 1, NULL, NULL);
        IS(nan, FG_E5M2, code - 2, FG_E5M2, E5M2_ONE, 0, 1, NULL, NULL);
      }
      IS(infinity, FG_E5M2, E5M2_INFINITY, FG_E4M3, E4M3_ONE, 1, 1, NULL, NULL);
      IS(infinity | sign, FG_E5M2, E5M2_INFINITY, FG_E4M3, E4M3_ONE, -1, 1, NULL, NULL);
      IS(infinity | sign, FG_E5M2, E5M2_NEGATIVE_INFINITY, FG_E5M2, E5M2_ONE, 1, 1, &one, &huge);
      IS(nan, FG_E5M2, E5M2_INFINITY, FG_E4M3, 0, 1, 1, NULL, NULL);
      IS(nan, FG_E5M2, E5M2_INFINITY, FG_E4M3, E4M3_ONE, 0, 1, NULL, NULL);
      IS(nan, FG_E5M2, E5M2_INFINITY, FG_E4M3, E4M3_ONE, 1, 1, &minus_infinity, NULL);
      IS(nan, FG_E4M3, E4M3_ONE, FG_E4M3, E4M3_ONE, 1, 1, &odd_nan, NULL);
      IS(nan, FG_E4M3, E4M3_ONE, FG_E4M3, E4M3_ONE, 1, 1, NULL, &odd_nan);
      IS(infinity | sign, FG_E4M3, E4M3_ONE, FG_E4M3, E4M3_ONE, 1, 1, NULL, &minus_infinity);
      IS(0u, FG_E4M3, 0x80, FG_E4M3, E4M3_ONE, 1, 1, NULL, NULL); /* the sum begins at +0 */
      IS(0u, FG_E4M3, 0x80, FG_E4M3, E4M3_ONE, 1, 1, &minus_zero, &minus_zero);
      IS(0u, FG_E4M3, E4M3_ONE, FG_E4M3, E4M3_ONE, -1, 1, &one, NULL);
      IS(sign, FG_E4M3, 0x81, FG_E4M3, 0x01, 0x1p-140f, 1, NULL, NULL); /* -2^-158 is no number but -0 */
      IS(infinity, FG_E4M3, E4M3_ONE, FG_E4M3, 0x40, FLT_MAX, 1, NULL, NULL);
      /* The greatest number that does not round to infinity, and the least that does. */
      if (type == FG_FP16) {
        IS(0x7BFFu, FG_E4M3, E4M3_ONE, FG_E4M3, E4M3_ONE, 0x1.FFDFFEp15f, 1, NULL, NULL);
        IS(0x7C00u, FG_E4M3, E4M3_ONE, FG_E4M3, E4M3_ONE, 0x1.FFEp15f, 1, NULL, NULL);
        IS(0xFC00u, FG_E4M3, E4M3_ONE, FG_E4M3, E4M3_NEGATIVE_ONE, 0x1.FFEp15f, 1, NULL, NULL);
      }
      if (type == FG_BF16) {
        IS(0x7F7Fu, FG_E4M3, E4M3_ONE, FG_E4M3, E4M3_ONE, 0x1.FEFFFEp127f, 1, NULL, NULL);
        IS(0x7F80u, FG_E4M3, E4M3_ONE, FG_E4M3, E4M3_ONE, 0x1.FFp127f, 1, NULL, NULL);
        IS(0x3F80u, FG_E4M3, E4M3_ONE, FG_E4M3, E4M3_ONE, 0x1.01p0f, 1, NULL, NULL); /* ties to even */
        IS(0x3F82u, FG_E4M3, E4M3_ONE, FG_E4M3, E4M3_ONE, 0x1.03p0f, 1, NULL, NULL);
      }
#undef IS
    }
}

/* The order of roundings of `reference`, in numbers that show it. */
Test(gemm, rounds_where_the_definition_says) {
  const float third = 1.0f / 3, c = -1.0f / 9, bias = 0x1p-30f;
  float scale = third * third, sum = scale * 1.0f, expected = sum + c + bias;
  uint32_t bits;
  memcpy(&bits, &expected, sizeof bits);
  cr_assert_eq(single(FG_E4M3, 0x38, FG_E4M3, 0x38, third, third, &c, &bias, FG_FP32, FG_REFERENCE), bits);
  /* Never one scale and then the other: 3 * RN(s s) is not RN(RN(3 s) s). */
  const float s = 0x1.555556p0f;
  float together = (s * s) * 3, apart = (3 * s) * s;
  cr_assert_neq(together, apart);
  memcpy(&bits, &together, sizeof bits);
  cr_assert_eq(single(FG_E4M3, 0x44, FG_E4M3, 0x38, s, s, NULL, NULL, FG_FP32, FG_REFERENCE), bits);
}

/* --- Beyond 2^31 elements */

static void *sparse(size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  cr_assert_neq(memory, MAP_FAILED);
  return memory;
}

/* Three rows or matrices, so far apart that neither 32 bits nor 2^31 elements reach them. */
Test(gemm, indices_have_64_bits) {
  enum { M = 3, N = 3, K = 130, BLOCKS = 2, G = 3 };
  const int64_t far = ((int64_t)1 << 32) + 64;
  size_t span = 2 * (size_t)far + 4096;
  unsigned char *a = sparse(span), *b = sparse(span);
  float *c = sparse(span * 4), *d = sparse(span * 4), *a_scale = sparse(span * 4), *b_scale = sparse(span * 4),
        *bias = sparse(span * 4);
  fg_context *context = context_with(1);
  static const fg_kind kinds[] = {FG_DENSE, FG_BATCHED, FG_MASKED, FG_GROUPED_ROWS, FG_GROUPED_K};
  for (int i = 0; i < LEVELS; i++)
    for (int kind = 0; kind < 5; kind++)
      for (int layout = 0; layout < 2; layout++) {
        bool rows_apart = kinds[kind] == FG_DENSE || kinds[kind] == FG_GROUPED_ROWS || kinds[kind] == FG_GROUPED_K;
        bool b_rows_apart = kinds[kind] == FG_DENSE || kinds[kind] == FG_GROUPED_K;
        bool d_rows_apart = kinds[kind] == FG_DENSE || kinds[kind] == FG_GROUPED_ROWS;
        int64_t a_ld = rows_apart ? far : K, b_ld = b_rows_apart ? far : K, d_ld = d_rows_apart ? far : N;
        int64_t packed = layout ? 4 : 4 * BLOCKS;
        int64_t scale_ld = layout ? far / 2 : (rows_apart ? far : packed),
                b_scale_ld = layout ? far / 2 : (b_rows_apart ? far : packed);
        if (layout && !rows_apart) scale_ld = 4;
        if (layout && !b_rows_apart) b_scale_ld = 4;
        int32_t counts[3] = {M, M, M};
        if (kinds[kind] == FG_GROUPED_ROWS) counts[0] = counts[1] = counts[2] = 1;
        if (kinds[kind] == FG_GROUPED_K) counts[0] = 128, counts[1] = 1, counts[2] = 1;
        fg_problem problem = {
            .kind = kinds[kind],
            .m = M,
            .n = N,
            .k = K,
            .groups = G,
            .a = {.data = a, .scale = a_scale, .ld = a_ld, .stride = far, .scale_ld = scale_ld, .scale_stride = far},
            .b = {.data = b,
                  .scale = b_scale,
                  .ld = b_ld,
                  .stride = far,
                  .scale_ld = b_scale_ld,
                  .scale_stride = far,
                  .scaling = FG_1X128},
            .c = {.data = c, .ld = d_ld, .stride = far, .type = FG_FP32},
            .bias = {.data = bias, .stride = far},
            .d = {.data = d, .ld = d_ld, .stride = far, .type = FG_FP32},
            .group_by = FG_BY_COUNTS,
            .group_values = counts,
            .level = levels[i].level};
        if (kinds[kind] == FG_DENSE || kinds[kind] == FG_BATCHED) problem.group_by = FG_BY_DEFAULT;
        /* Code 1 is 2^-9 in e4m3 and all scales are equal, so that an element shows how many of its products were found. */
        bool scales_apart = layout && rows_apart, b_scales_apart = layout && b_rows_apart;
        for (int64_t x = 0; x < 3; x++) {
          memset(a + x * far, 0x38, 4 * K);
          memset(b + x * far, 0x38, 4 * K);
          for (int64_t y = 0; y < 32; y++) {
            a_scale[(scales_apart ? far / 2 : far) * x + y] = 2;
            b_scale[(b_scales_apart ? far / 2 : far) * x + y] = 1;
            c[x * far + y] = 0.5f;
            bias[x * far + y] = (float)(100 * (kinds[kind] == FG_DENSE ? 0 : x));
            d[x * far + y] = NAN;
          }
        }
        cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
        for (int64_t g = 0; g < (kinds[kind] == FG_DENSE || kinds[kind] == FG_GROUPED_ROWS ? 1 : G); g++)
          for (int64_t row = 0; row < M; row++)
            for (int64_t j = 0; j < N; j++) {
              int64_t group = kinds[kind] == FG_GROUPED_ROWS ? row : g;
              float products = kinds[kind] == FG_GROUPED_K ? (float)counts[g] : (float)K;
              float expected = 2 * products + 0.5f + (float)(100 * group), got = d[g * far + row * d_ld + j];
              cr_expect(got == expected, "%s, kind %d, layout %d: D[%d][%d][%d] is %g, not %g", levels[i].name, (int)kinds[kind],
                        layout, (int)g, (int)row, (int)j, (double)got, (double)expected);
            }
      }
  fg_context_destroy(context);
}

/* --- Levels */

Test(gemm, levels_are_listed) {
  int count = 0;
  const fg_level_info *info = fg_levels(&count);
  cr_assert_eq(info, fg_levels(NULL));
  cr_assert_eq(count, FG_FULL);
  fg_context *context = context_with(1);
  for (int i = 0; i < count; i++) {
    cr_assert_eq((int)info[i].level, i + 1, "in climbing order, all of them");
    cr_assert(info[i].name[0] && info[i].idea[0] && info[i].needs[0]);
    for (int other = 0; other < i; other++) cr_assert_str_neq(info[i].name, info[other].name);
    fg_level twin = info[i].twin;
    cr_assert(info[i].level == FG_EXACT || (twin >= FG_EXACT && twin <= FG_HOPPER));
    bool stands = info[i].level <= FG_HOPPER;
    cr_assert_eq(fg_can_run(context, info[i].level), stands ? FG_OK : FG_UNSUPPORTED);
  }
  cr_assert_eq(fg_can_run(context, FG_BEST), FG_OK);
  fg_context_destroy(context);
}

Test(gemm, doctor_fills_no_more_than_its_capacity) {
  int count = fg_doctor(NULL, 0);
  cr_assert_gt(count, 0);
  fg_finding findings[64];
  cr_assert_leq(count, 64);
  for (int capacity = 0; capacity <= count + 1; capacity++) {
    memset(findings, 0xA5, sizeof findings);
    cr_assert_eq(fg_doctor(findings, capacity), count);
    for (int i = 0; i < 64; i++) {
      const unsigned char *bytes = (const unsigned char *)&findings[i];
      if (i >= capacity || i >= count) {
        for (size_t byte = 0; byte < sizeof *findings; byte++) cr_assert_eq(bytes[byte], 0xA5);
        continue;
      }
      cr_assert(findings[i].name && findings[i].name[0]);
      cr_assert(findings[i].works == 0 || findings[i].works == 1);
      cr_assert_not_null(memchr(findings[i].found, 0, sizeof findings[i].found));
      cr_assert_not_null(memchr(findings[i].advice, 0, sizeof findings[i].advice));
      cr_assert(findings[i].works || findings[i].advice[0], "%s does not work, but there is no advice", findings[i].name);
    }
  }
}

/* --- The comparisons themselves: a planted fault is seen */

static void plant_faults(fg_level level, const char *name) {
  /* Dense with gaps, FP32 out, Gaussian. */
  struct spec spec = {.seed = 1,
                      .m = 5,
                      .n = 6,
                      .k = 130,
                      .groups = 1,
                      .a_type = FG_E4M3,
                      .b_type = FG_E4M3,
                      .c_type = FG_FP32,
                      .bias_type = FG_FP32,
                      .d_type = FG_FP32,
                      .a_scaling = FG_1X128,
                      .b_scaling = FG_128X128,
                      .gaps = true,
                      .at_end = true,
                      .values = GAUSSIAN};
  struct problem *problem = problem_make(&spec);
  fg_context *context = context_with(1);
  unsigned char *expected = defined_bytes(problem, family_of(level));
  double value[30], bound[30];
  cr_assert(run(context, problem, level, 0, name));
  cr_assert(d_equals(problem, expected, name));
  cr_assert_eq(fg_exact(context, &problem->call, value, bound), FG_OK);
  struct truth truth = {level, "planted", value, bound, true, 0, true};
  int seen = 0;
  cases_are_planted = true;
#define SEEN(plant, undo, look)                                                                                                  \
  do {                                                                                                                           \
    int before = cases_failed();                                                                                                 \
    plant;                                                                                                                       \
    look;                                                                                                                        \
    undo;                                                                                                                        \
    cr_assert_gt(cases_failed(), before, "not seen, line %d", __LINE__);                                                         \
    seen++;                                                                                                                      \
  } while (0)
  /* Every single bit of D's memory, gaps included. */
  for (size_t byte = 0; byte < problem->d.bytes; byte++)
    SEEN(problem->d.data[byte] ^= (unsigned char)(1 << byte % 8), problem->d.data[byte] ^= (unsigned char)(1 << byte % 8),
         d_equals(problem, expected, "planted"));
  SEEN(problem->d.data[-1] ^= 1, problem->d.data[-1] ^= 1, d_equals(problem, expected, "planted"));
  SEEN(problem->d.data[-1] ^= 1, problem->d.data[-1] ^= 1, d_kept_elsewhere(problem, "planted"));
  /* Against the bound: a NaN, an infinity, and an error just beyond it, in each element. */
  float *d = (float *)problem->d.data;
  for (int64_t r = 0; r < problem->row_count; r++)
    for (int64_t j = 0; j < spec.n; j++) {
      int64_t at = d_index(problem, &problem->rows[r], j), index = r * spec.n + j;
      const float right = d[at],
                  wrong[] = {NAN, INFINITY, (float)(value[index] + 1.01 * bound[index] + 1e-7 * fabs(value[index]))};
      for (int w = 0; w < 3; w++) SEEN(d[at] = wrong[w], d[at] = right, for_each_element(problem, check_bound, &truth));
    }
  /* And without a fault nothing is. */
  cases_are_planted = false;
  int before = cases_failed();
  d_equals(problem, expected, "right");
  d_kept_elsewhere(problem, "right");
  for_each_element(problem, check_bound, &truth);
  cr_assert_eq(cases_failed(), before);
  cr_assert_gt(seen, 200);
  free(expected);
  fg_context_destroy(context);
  problem_free(problem);
}

Test(gemm, a_planted_fault_is_seen) {
  plant_faults(FG_REFERENCE, "reference");
  plant_faults(FG_HOPPER, "hopper");
}
