/* fg_mma() and its trace: what holds of every step, whatever the operands are. */
#include "support.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP = 32, MOST_K = 200, MOST_STEPS = (MOST_K + STEP - 1) / STEP, SEEDS = 20000 };

/* The codes end where memory ends, so that one read too many crashes. */
struct dot {
  fg_type a_type, b_type;
  int64_t k, steps;
  const unsigned char *a, *b;
  float c, d;
  fg_mma_step step[MOST_STEPS];
};

static struct region a_codes, b_codes;

static void make_codes(void) {
  a_codes = region_make(MOST_K, true);
  b_codes = region_make(MOST_K, true);
}

static void free_codes(void) {
  region_free(&a_codes);
  region_free(&b_codes);
}

TestSuite(mma, .init = make_codes, .fini = free_codes);

static float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* Any byte; finite ones; narrow exponents; mostly zeros; subnormals; the largest beside the smallest. */
static unsigned char code_of(int kind, fg_type type, uint64_t *state) {
  uint64_t bits = next_random(state);
  bool often = bits >> 20 & 7;
  int code = (int)(bits >> 8 & 0x7F), finite = code % 0x7C, fraction_bits = type == FG_E5M2 ? 2 : 3;
  const int magnitudes[] = {
      code, finite, 0x38 + code % (3 << fraction_bits), often ? 0 : finite, code % (1 << fraction_bits), often ? 1 : 0x7B};
  return (unsigned char)((bits & 0x80) | (unsigned)magnitudes[kind]);
}

static float accumulator_of(uint64_t *state) {
  uint32_t bits = (uint32_t)next_random(state);
  switch (random_below(state, 8)) {
  case 0:
    return float_of(bits); /* any */
  case 1:
    return float_of(bits & 0x807FFFFFu); /* subnormal */
  case 2:
    return bits & 1 ? INFINITY : -INFINITY;
  case 3:
    return float_of(0x7F800001u | (bits & 0x807FFFFFu)); /* NaN */
  case 4:
    return ldexpf((float)(int32_t)bits, (int)random_below(state, 40) - 40); /* as large as products */
  default:
    return bits & 1 ? 0.0f : -0.0f;
  }
}

/* Everything about it follows from the seed; the library has been called. */
static struct dot dot_of(uint64_t seed) {
  uint64_t state = seed;
  struct dot dot = {.a_type = seed & 1 ? FG_E5M2 : FG_E4M3, .b_type = seed & 2 ? FG_E5M2 : FG_E4M3};
  dot.k = random_below(&state, MOST_K + 1);
  dot.steps = (dot.k + STEP - 1) / STEP;
  unsigned char *a = a_codes.data + MOST_K - dot.k, *b = b_codes.data + MOST_K - dot.k;
  int a_kind = (int)random_below(&state, 6), b_kind = (int)random_below(&state, 6);
  for (int64_t i = 0; i < dot.k; i++) {
    a[i] = code_of(a_kind, dot.a_type, &state);
    b[i] = code_of(b_kind, dot.b_type, &state);
  }
  dot.a = a;
  dot.b = b;
  dot.c = accumulator_of(&state);
  cr_assert_eq(fg_mma(dot.a_type, a, dot.b_type, b, dot.k, dot.c, &dot.d, dot.step), FG_OK, "%s", fg_message());
  return dot;
}

/* --- What must hold of a step: NULL, or what does not. */

static double product_of(const struct dot *dot, int64_t k) {
  return k < dot->k ? decode(dot->a_type, dot->a[k]) * decode(dot->b_type, dot->b[k]) : 0;
}

/* Of a number, but a format's subnormals have the smallest. */
static int exponent_of(double value, int smallest) {
  int exponent = ilogb(value);
  return exponent < smallest ? smallest : exponent;
}

static const char *products_are_wrong(const struct dot *dot, int64_t s) {
  const fg_mma_step *step = &dot->step[s];
  for (int i = 0; i < STEP; i++) {
    double product = product_of(dot, s * STEP + i), got = (double)step->product[i];
    if (isnan(product) ? bits_of_float(step->product[i]) != 0x7FFFFFFFu : !(got == product)) return "a product is not a b";
  }
  return NULL;
}

/* Not finite: every term, the exponent and the sum are 0, and the result is what IEEE 754 makes of it. */
static const char *special_step_is_wrong(const fg_mma_step *step) {
  bool nan = isnan(step->c), positive = step->c == INFINITY, negative = step->c == -INFINITY;
  for (int i = 0; i < STEP; i++) {
    nan = nan || isnan(step->product[i]);
    positive = positive || step->product[i] == INFINITY;
    negative = negative || step->product[i] == -INFINITY;
    if (step->term[i]) return "a step that is not finite has a term";
  }
  if (step->c_term || step->exponent || step->sum) return "a step that is not finite has an exponent, a sum or c's term";
  uint32_t wanted = nan || (positive && negative) ? 0x7FFFFFFFu : positive ? 0x7F800000u : negative ? 0xFF800000u : 0;
  return bits_of_float(step->d) == wanted ? NULL : "the result is not the NaN or infinity that it should be";
}

static const char *exponent_is_wrong(const struct dot *dot, int64_t s) {
  const fg_mma_step *step = &dot->step[s];
  int largest = INT32_MIN;
  if (step->c != 0) largest = exponent_of((double)step->c, -126);
  for (int64_t k = s * STEP; k < s * STEP + STEP && k < dot->k; k++) {
    if (product_of(dot, k) == 0) continue;
    int exponent = exponent_of(decode(dot->a_type, dot->a[k]), dot->a_type == FG_E5M2 ? -14 : -6) +
                   exponent_of(decode(dot->b_type, dot->b[k]), dot->b_type == FG_E5M2 ? -14 : -6);
    if (exponent > largest) largest = exponent;
  }
  return step->exponent == (largest == INT32_MIN ? 0 : largest) ? NULL : "the exponent is not the largest";
}

/* The term is the value cut toward zero to a multiple of `unit`. */
static bool is_cut(double value, int32_t term, double unit) {
  double cut = fabs(value) - fabs(term * unit);
  return cut >= 0 && cut < unit && (term == 0 || (term < 0) == (value < 0));
}

static const char *finite_step_is_wrong(const struct dot *dot, int64_t s) {
  const fg_mma_step *step = &dot->step[s];
  double unit = ldexp(1, step->exponent - 13);
  int64_t sum = step->c_term;
  for (int i = 0; i < STEP; i++) {
    if (!is_cut((double)step->product[i], step->term[i], unit)) return "a term is not its product cut toward zero";
    sum += step->term[i];
  }
  if (!is_cut((double)step->c, step->c_term, unit)) return "c's term is not c cut toward zero";
  if (sum != step->sum) return "the sum is not the terms' sum";
  if (sum == 0) return bits_of_float(step->d) == 0 ? NULL : "the result of nothing is not +0";
  double exact = (double)sum * unit, result_unit = ldexp(1, exponent_of(exact, -126) - 13);
  if (step->d != (float)(trunc(exact / result_unit) * result_unit)) return "the result is not the sum cut to 13 fraction bits";
  return exponent_is_wrong(dot, s);
}

static const char *step_is_wrong(const struct dot *dot, int64_t s) {
  const char *wrong = products_are_wrong(dot, s);
  if (wrong) return wrong;
  return isfinite(dot->step[s].d) ? finite_step_is_wrong(dot, s) : special_step_is_wrong(&dot->step[s]);
}

Test(mma, steps_are_what_they_say) {
  int finite = 0, special = 0;
  for (uint64_t seed = 1; walk_on(&seed, 1, SEEDS); seed++) {
    struct dot dot = dot_of(seed);
    uint32_t before = bits_of_float(dot.c);
    for (int64_t s = 0; s < dot.steps; s++) {
      const char *wrong = bits_of_float(dot.step[s].c) == before ? step_is_wrong(&dot, s) : "c is not what came before";
      cr_assert_null(wrong, "FG_SEED=%" PRIu64 ", step %" PRId64 ": %s", seed, s, wrong);
      before = bits_of_float(dot.step[s].d);
      isfinite(dot.step[s].d) ? finite++ : special++;
    }
    cr_assert_eq(bits_of_float(dot.d), before, "FG_SEED=%" PRIu64 ": d is not the last step's, or with no step not c", seed);
  }
  if (!getenv("FG_SEED")) cr_assert(finite > SEEDS && special > SEEDS / 10, "%d finite steps, %d others", finite, special);
}

Test(mma, neither_the_trace_nor_the_sides_matter) {
  for (uint64_t seed = 1; walk_on(&seed, 1, SEEDS / 10); seed++) {
    struct dot dot = dot_of(seed);
    float untraced, swapped;
    cr_assert_eq(fg_mma(dot.a_type, dot.a, dot.b_type, dot.b, dot.k, dot.c, &untraced, NULL), FG_OK);
    cr_assert_eq(fg_mma(dot.b_type, dot.b, dot.a_type, dot.a, dot.k, dot.c, &swapped, NULL), FG_OK);
    cr_assert(bits_of_float(untraced) == bits_of_float(dot.d) && bits_of_float(swapped) == bits_of_float(dot.d),
              "FG_SEED=%" PRIu64, seed);
  }
}

/* What is missing from the last step counts as zero; and a chain may be cut wherever a step ends. */
Test(mma, tails_and_chains) {
  for (uint64_t seed = 1; walk_on(&seed, 1, SEEDS / 10); seed++) {
    struct dot dot = dot_of(seed);
    unsigned char a[MOST_STEPS * STEP] = {0}, b[MOST_STEPS * STEP] = {0};
    memcpy(a, dot.a, (size_t)dot.k);
    memcpy(b, dot.b, (size_t)dot.k);
    float d = dot.c;
    for (int64_t s = 0; s < dot.steps; s++) {
      fg_mma_step step;
      cr_assert_eq(fg_mma(dot.a_type, a + s * STEP, dot.b_type, b + s * STEP, STEP, d, &d, &step), FG_OK);
      cr_assert(memcmp(step.term, dot.step[s].term, sizeof step.term) == 0 && step.sum == dot.step[s].sum,
                "FG_SEED=%" PRIu64 ", step %" PRId64, seed, s);
    }
    cr_assert_eq(bits_of_float(d), bits_of_float(dot.d), "FG_SEED=%" PRIu64, seed);
  }
}

/* The accumulator's last bit at 64 is 2^-7, so that a product of 2^-8 is cut whole: however many more come, 64 stays. */
Test(mma, a_long_chain_stalls) {
  static unsigned char sixteenth[1 << 16];
  memset(sixteenth, 0x18, sizeof sixteenth); /* 2^-4 */
  float d;
  for (int64_t k = 1 << 10; k <= 1 << 16; k *= 2) {
    cr_assert_eq(fg_mma(FG_E4M3, sixteenth, FG_E4M3, sixteenth, k, 0, &d, NULL), FG_OK);
    cr_assert_eq(d, fminf((float)k * 0x1p-8f, 64), "k = %" PRId64 ": %g", k, (double)d);
  }
}
