#include "cli.h"

#include <stdlib.h>
#include <string.h>

/* --- What a problem consists of */

int64_t matrices_of_a(const fg_problem *problem) {
  return problem->kind == FG_BATCHED || problem->kind == FG_MASKED ? problem->groups : 1;
}

int64_t matrices_of_b(const fg_problem *problem) {
  return problem->kind == FG_DENSE || problem->kind == FG_GROUPED_K ? 1 : problem->groups;
}

int64_t matrices_of_d(const fg_problem *problem) {
  return problem->kind == FG_DENSE || problem->kind == FG_GROUPED_ROWS ? 1 : problem->groups;
}

int64_t scales_of(const fg_problem *problem, const fg_operand *operand, int64_t rows) {
  if (operand->scaling == FG_TENSOR) return 1;
  if (operand->scale_layout == FG_ROWS_CONTIGUOUS) return operand->scale_ld * blocks_of(problem->k);
  return (operand->scaling == FG_1X128 ? rows : blocks_of(rows)) *
         (operand->scale_ld ? operand->scale_ld : blocks_of(problem->k));
}

int64_t result_bytes(const fg_problem *problem) {
  return matrices_of_d(problem) * problem->m * problem->n * type_bytes(problem->d.type);
}

/* --- Numbers */

/* splitmix64: the state is the seed. */
static uint64_t draw(uint64_t *state) {
  uint64_t bits = *state += 0x9E3779B97F4A7C15u;
  bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9u;
  bits = (bits ^ bits >> 27) * 0x94D049BB133111EBu;
  return bits ^ bits >> 31;
}

static int64_t draw_up_to(uint64_t *state, int64_t most) { return (int64_t)(draw(state) % (uint64_t)(most + 1)); }

/* A code's sign and a magnitude up to the largest finite one. */
static unsigned char *make_codes(int64_t matrices, int64_t rows, int64_t k, fg_type type, uint64_t *state) {
  int64_t count, largest = type == FG_E5M2 ? 0x7B : 0x7E;
  if (__builtin_mul_overflow(matrices, rows, &count)) count = PTRDIFF_MAX;
  unsigned char *codes = claim_matrix(count, k, 1, "the FP8 codes");
  for (int64_t i = 0; i < count * k; i++) codes[i] = (unsigned char)((uint64_t)draw_up_to(state, largest) | (draw(state) & 0x80));
  return codes;
}

static void make_factor(fg_problem *problem, fg_operand *operand, int64_t matrices, int64_t rows, uint64_t *state) {
  operand->data = make_codes(matrices, rows, problem->k, operand->type, state);
  /* Along grouped K every group begins with a column of its own. */
  if (problem->kind == FG_GROUPED_K && operand->scaling != FG_TENSOR) operand->scale_ld = blocks_of(problem->k) + problem->groups;
  int64_t count = matrices * scales_of(problem, operand, rows);
  float *scale = claim(count, sizeof *scale, "the scales");
  for (int64_t i = 0; i < count; i++) scale[i] = 0.001f + 0x1p-30f * (float)(draw(state) >> 42);
  operand->scale = scale;
}

/* Halves: every type has them. */
static void make_addend(fg_context *host, fg_operand *operand, int64_t count, uint64_t *state) {
  if (operand->type == FG_DEFAULT_TYPE) return;
  float *halves = claim(count, sizeof *halves, "what is added");
  for (int64_t i = 0; i < count; i++) halves[i] = 0.5f * (float)(draw_up_to(state, 64) - 32);
  void *data = claim(count, type_bytes(operand->type), "what is added");
  fg_conversion conversion = {
      .rows = 1, .cols = count, .from = {.data = halves, .type = FG_FP32}, .to = {.data = data, .type = operand->type}};
  require(fg_convert(host, &conversion), "");
  operand->data = data;
}

static int ascending(const void *left, const void *right) {
  int32_t a = *(const int32_t *)left, b = *(const int32_t *)right;
  return (a > b) - (a < b);
}

/* Rows or K cut at places drawn alike: groups of any length, empty ones too, and something at the end that is no group's. */
static const int32_t *make_groups(const fg_problem *problem, uint64_t *state) {
  int64_t groups = problem->groups, length = problem->kind == FG_GROUPED_K ? problem->k : problem->m;
  if (problem->kind == FG_DENSE || problem->kind == FG_BATCHED) return NULL;
  if (length > INT32_MAX) fail(BAD_USAGE, "the groups' sizes are %lld in all; they must fit 32 bits", (long long)length);
  int32_t *ends = claim(groups, sizeof *ends, "the groups");
  for (int64_t g = 0; g < groups; g++) ends[g] = (int32_t)draw_up_to(state, length);
  if (problem->kind == FG_MASKED) return ends; /* these are counts */
  qsort(ends, (size_t)groups, sizeof *ends, ascending);
  if (problem->kind == FG_GROUPED_K) {
    for (int64_t g = groups - 1; g > 0; g--) ends[g] -= ends[g - 1];
    return ends;
  }
  int32_t *index = claim(length, sizeof *index, "the rows' groups");
  int64_t group = 0;
  for (int64_t row = 0; row < length; row++) {
    while (group < groups && ends[group] <= row) group++;
    index[row] = group < groups ? (int32_t)group : -1;
  }
  return index;
}

void lay_out_scales(fg_problem *problem) {
  if (problem->level < FG_TMA || problem->level > FG_CLUSTER) return;
  problem->a.scale_layout = FG_ROWS_CONTIGUOUS;
  problem->a.scale_ld = (problem->m + 3) / 4 * 4;
}

void make_operands(fg_context *host, fg_problem *problem, uint64_t seed) {
  lay_out_scales(problem);
  uint64_t state = seed;
  int64_t d_count, groups = problem->kind == FG_DENSE ? 1 : problem->groups;
  if (__builtin_mul_overflow(matrices_of_d(problem), problem->m, &d_count)) d_count = PTRDIFF_MAX;
  problem->d.data = claim_matrix(d_count, problem->n, type_bytes(problem->d.type), "D");
  memset(problem->d.data, 0xFF, (size_t)result_bytes(problem));
  make_factor(problem, &problem->a, matrices_of_a(problem), problem->m, &state);
  make_factor(problem, &problem->b, matrices_of_b(problem), problem->n, &state);
  make_addend(host, &problem->c, d_count * problem->n, &state);
  make_addend(host, &problem->bias, groups * problem->n, &state);
  problem->group_values = make_groups(problem, &state);
}
