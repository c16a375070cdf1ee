/* How the level hopper comes to one element of D: by the formulas of finegemm.h, with fg_mma() for the tensor core. */
#include "cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP_K = 32, TERM_BITS = 13, SHORT_BLOCKS = 4, WORST_BLOCKS = 8, PARTS = 4 };
enum { DIGITS = 12 }; /* of what is compared with what comes from FP64 */

/* A step of the tensor core, and what became of its products. lost_...: what went missing, with its sign, when the terms were
 * aligned (the accumulator too), and when their sum was cut; 0 where the step is not finite. */
struct step {
  fg_mma_step mma;
  int64_t k0, count;
  int64_t not_zero, cut, vanished; /* products; cut: of a part or of all, vanished: of these, of all */
  double lost_in_terms, lost_in_sum;
};

struct block {
  int64_t index, k0, count, range, step_count;
  struct step *steps;
  float a_scale, b_scale, scale, dot, sum; /* sum: after the block, within its range of K */
  int64_t not_zero, cut, vanished;
  double lost; /* of dot */
};

/* A dot of the element's codes without scales: in FP64, promoted to FP32 every 128, in one chain through all of K. */
struct unscaled {
  double value, promoted, chain;
};

/* The first thing on the way to D that is NaN: the `index`-th product or block of K, range of K, or C; and why it is. */
struct nan {
  const char *at; /* "k", "block", "range" or "c"; NULL: D is not NaN */
  int64_t index;
  const char *rule, *words;
};

/* Where the error is from. */
struct part {
  const char *key, *words;
  double error;
};

struct explanation {
  fg_context *context;
  fg_problem problem; /* 1 x 1 */
  int64_t row, col, block_count, ranges;
  struct block *blocks;
  float *range_sum; /* [ranges] */
  float sum, c, with_c, d;
  char bits[16]; /* of D, as 0x3F80 */
  struct verdict verdict;
  struct part parts[PARTS]; /* they add up to D - exact */
  struct nan nan;
  struct unscaled unscaled;
};

/* --- The way to D. */

static const uint8_t *code_at(const fg_operand *operand, int64_t k) { return (const uint8_t *)operand->data + k; }

static double unit_of(const fg_mma_step *mma) { return ldexp(1, mma->exponent - TERM_BITS); }

static double cut_of(const fg_mma_step *mma, int64_t i) {
  return isfinite(mma->d) ? (double)mma->product[i] - mma->term[i] * unit_of(mma) : 0;
}

static struct step step_of(const fg_mma_step *mma, int64_t k0, int64_t count) {
  struct step step = {.mma = *mma, .k0 = k0, .count = count};
  for (int64_t i = 0; i < count; i++) {
    double cut = cut_of(mma, i);
    step.not_zero += mma->product[i] != 0;
    step.cut += cut != 0;
    step.vanished += cut != 0 && mma->term[i] == 0;
    step.lost_in_terms += cut;
  }
  if (isfinite(mma->d)) {
    step.lost_in_terms += (double)mma->c - mma->c_term * unit_of(mma);
    step.lost_in_sum = mma->sum * unit_of(mma) - (double)mma->d;
  }
  return step;
}

static float scale_at(const char *name, const fg_operand *operand, int64_t block) {
  float scale = operand->scale[operand->scaling == FG_TENSOR ? 0 : block];
  if (!isfinite(scale))
    fail(REFUSED, "%s: %s.scale of this element is %g for block %" PRId64 " of K; it must be finite",
         fg_status_name(FG_BAD_SCALE), name, (double)scale, block);
  return scale;
}

static struct block block_of(const fg_problem *problem, int64_t index, int64_t range) {
  fg_mma_step steps[BLOCK / STEP_K];
  int64_t k0 = index * BLOCK, count = problem->k - k0 < BLOCK ? problem->k - k0 : BLOCK;
  struct block block = {.index = index, .k0 = k0, .count = count, .range = range};
  block.a_scale = scale_at("a", &problem->a, index);
  block.b_scale = scale_at("b", &problem->b, index);
  block.scale = block.a_scale * block.b_scale;
  require(
      fg_mma(problem->a.type, code_at(&problem->a, k0), problem->b.type, code_at(&problem->b, k0), count, 0, &block.dot, steps),
      "");
  block.step_count = (count + STEP_K - 1) / STEP_K;
  block.steps = claim(block.step_count, sizeof *block.steps, "the steps");
  for (int64_t s = 0; s < block.step_count; s++) {
    int64_t rest = count - s * STEP_K;
    struct step step = block.steps[s] = step_of(&steps[s], k0 + s * STEP_K, rest < STEP_K ? rest : STEP_K);
    block.not_zero += step.not_zero;
    block.cut += step.cut;
    block.vanished += step.vanished;
    block.lost += step.lost_in_terms + step.lost_in_sum;
  }
  return block;
}

/* Fills in blocks and sums; and what the cuts and the sums in FP32 have changed. A range begins at begin(r) of docs/numerics.md, which
 * is floor(r nb / R); the library's fg_range_begin() is its twin. */
static void sum_blocks(struct explanation *e) {
  double lost = 0, dots = 0; /* scaled */
  e->block_count = blocks_of(e->problem.k);
  e->blocks = claim(e->block_count, sizeof *e->blocks, "the blocks");
  e->ranges = e->problem.split_k < e->block_count ? e->problem.split_k : e->block_count ? e->block_count : 1;
  e->range_sum = claim(e->ranges, sizeof *e->range_sum, "the ranges");
  for (int64_t range = 0; range < e->ranges; range++) {
    float sum = 0;
    int64_t first = range * e->block_count / e->ranges, end = (range + 1) * e->block_count / e->ranges;
    for (int64_t i = first; i < end; i++) {
      struct block *block = &e->blocks[i];
      *block = block_of(&e->problem, i, range);
      block->sum = sum = fmaf(block->scale, block->dot, sum);
      lost += (double)block->scale * block->lost;
      dots += (double)block->scale * (double)block->dot;
    }
    e->range_sum[range] = sum;
    e->sum = range == 0 ? sum : e->sum + sum;
  }
  e->parts[0] = (struct part){"cuts", "cuts in the tensor core", 0 - lost};
  e->parts[1] = (struct part){"promotion", "adding blocks up in FP32", (double)e->sum - dots};
}

static void finish(struct explanation *e) {
  union {
    uint16_t narrow;
    uint32_t wide;
  } bits;
  const fg_operand *c = &e->problem.c;
  fg_type type = e->problem.d.type;
  e->with_c = e->sum;
  if (c->data) {
    to_float(e->context, c->type, c->data, 0, 1, &e->c);
    e->with_c += e->c;
  }
  fg_conversion conversion = {.rows = 1, .cols = 1, .from = {.data = &e->with_c}, .to = {.data = &bits, .type = type}};
  require(fg_convert(e->context, &conversion), "");
  to_float(e->context, type, &bits, 0, 1, &e->d);
  snprintf(e->bits, sizeof e->bits, "0x%0*" PRIX32, type == FG_FP32 ? 8 : 4, type == FG_FP32 ? bits.wide : bits.narrow);
  e->verdict = judge(e->context, &e->problem, &bits, type, type, "checking");
  e->parts[2] = (struct part){"c", "adding C in FP32", (double)e->with_c - ((double)e->sum + (double)e->c)};
  e->parts[3] = (struct part){"output", text("rounding to %s", type_name(type)), (double)e->d - (double)e->with_c};
}

/* The same problem with scales of one and without C. */
static struct unscaled without_scales(const struct explanation *e) {
  const float one = 1;
  float promoted, chain;
  struct unscaled unscaled;
  fg_problem problem = e->problem;
  problem.a.scale = problem.b.scale = &one;
  problem.a.scaling = problem.b.scaling = FG_TENSOR;
  problem.c.data = NULL;
  problem.d = (fg_result){.data = &promoted, .type = FG_FP32};
  require(fg_gemm(e->context, &problem), "");
  require(fg_exact(e->context, &problem, &unscaled.value, NULL), "");
  require(fg_mma(problem.a.type, problem.a.data, problem.b.type, problem.b.data, problem.k, 0, &chain, NULL), "");
  unscaled.promoted = (double)promoted;
  unscaled.chain = (double)chain;
  return unscaled;
}

/* --- What is seen of a product. */

struct product {
  uint8_t a_code, b_code;
  float a, b;
  int exponent; /* of the factors, where a subnormal keeps the smallest; that of a product that is zero says nothing */
};

static int exponent_of(fg_type type, uint8_t code) {
  int field = (code & 0x7F) >> (type == FG_E5M2 ? 2 : 3);
  return (field ? field : 1) - (type == FG_E5M2 ? 15 : 7);
}

static struct product product_at(const struct explanation *e, int64_t k) {
  const fg_operand *a = &e->problem.a, *b = &e->problem.b;
  struct product product = {.a_code = *code_at(a, k), .b_code = *code_at(b, k)};
  to_float(e->context, a->type, a->data, k, 1, &product.a);
  to_float(e->context, b->type, b->data, k, 1, &product.b);
  product.exponent = exponent_of(a->type, product.a_code) + exponent_of(b->type, product.b_code);
  return product;
}

/* --- What made D NaN. */

static const char is_operand[] = "NaN operand", is_inf_times_0[] = "infinity times 0",
                  is_inf_minus_inf[] = "infinity minus infinity";

/* In a step whose accumulator is not NaN, but whose result is. */
static struct nan nan_in_step(const struct explanation *e, const struct step *step) {
  for (int64_t k = step->k0; k < step->k0 + step->count; k++) {
    struct product of = product_at(e, k);
    if (isnan(of.a) || isnan(of.b))
      return (struct nan){
          "k", k, is_operand,
          text("k %" PRId64 ": %s is NaN (0x%02X)", k, isnan(of.a) ? "a" : "b", isnan(of.a) ? of.a_code : of.b_code)};
    if (isnan(step->mma.product[k - step->k0]))
      return (struct nan){"k", k, is_inf_times_0,
                          text("k %" PRId64 ": a is %g (0x%02X), b is %g (0x%02X): %s", k, (double)of.a, of.a_code, (double)of.b,
                               of.b_code, is_inf_times_0)};
  }
  float infinity = step->mma.c; /* the first one */
  const char *whose = "the accumulator is";
  int64_t k = step->k0;
  for (; !isinf(infinity) || step->mma.product[k - step->k0] != -infinity; k++) {
    if (isinf(infinity) || !isinf(step->mma.product[k - step->k0])) continue;
    infinity = step->mma.product[k - step->k0];
    whose = text("at k %" PRId64 " it is", k);
  }
  return (struct nan){
      "k", k, is_inf_minus_inf,
      text("k %" PRId64 ": a b is %g, %s %g: %s", k, (double)-infinity, whose, (double)infinity, is_inf_minus_inf)};
}

static struct nan nan_in_block(const struct block *block, float before) {
  double product = (double)block->scale * (double)block->dot;
  if (isnan(product))
    return (struct nan){"block", block->index, is_inf_times_0,
                        text("block %" PRId64 ": the scale is %g, the dot %g: %s", block->index, (double)block->scale,
                             (double)block->dot, is_inf_times_0)};
  return (struct nan){"block", block->index, is_inf_minus_inf,
                      text("block %" PRId64 ": scale times dot is %g, the sum before it %g: %s", block->index, product,
                           (double)before, is_inf_minus_inf)};
}

static struct nan nan_of(const struct explanation *e) {
  if (!isnan(e->d)) return (struct nan){0};
  for (int64_t i = 0; i < e->block_count; i++) {
    const struct block *block = &e->blocks[i];
    for (int64_t s = 0; s < block->step_count; s++)
      if (isnan(block->steps[s].mma.d)) return nan_in_step(e, &block->steps[s]);
    if (isnan(block->sum)) return nan_in_block(block, i > 0 && block[-1].range == block->range ? block[-1].sum : 0);
  }
  float sum = e->range_sum[0];
  for (int64_t range = 1; range < e->ranges; range++) {
    float own = e->range_sum[range];
    if (isnan(sum + own))
      return (struct nan){"range", range, is_inf_minus_inf,
                          text("range %" PRId64 ": its sum is %g, that of the ranges before it %g: %s", range, (double)own,
                               (double)sum, is_inf_minus_inf)};
    sum += own;
  }
  if (isnan(e->c)) return (struct nan){"c", 0, is_operand, "C is NaN"};
  return (struct nan){"c", 0, is_inf_minus_inf, text("C is %g, the sum %g: %s", (double)e->c, (double)sum, is_inf_minus_inf)};
}

/* Where all is zero or something is not finite, nothing is aligned. */
static bool is_aligned(const struct step *step) { return isfinite(step->mma.d) && (step->not_zero || step->mma.c != 0); }

/* --- As JSON. */

static json_t *json_products(const struct explanation *e, const struct step *step) {
  json_t *products = json_array();
  for (int64_t i = 0; i < step->count; i++) {
    struct product product = product_at(e, step->k0 + i);
    float value = step->mma.product[i];
    json_array_append_new(products, json_pack("{sI si si so so so so si so}", "k", step->k0 + i, "a_code", (int)product.a_code,
                                              "b_code", (int)product.b_code, "a", json_number((double)product.a), "b",
                                              json_number((double)product.b), "product", json_number((double)value), "exponent",
                                              value != 0 ? json_integer(product.exponent) : json_null(), "term",
                                              (int)step->mma.term[i], "cut", json_number(cut_of(&step->mma, i))));
  }
  return products;
}

static json_t *json_steps(const struct explanation *e, const struct block *block, bool with_products) {
  json_t *steps = json_array();
  for (int64_t s = 0; s < block->step_count; s++) {
    const struct step *step = &block->steps[s];
    json_t *object =
        json_pack("{sI sI so so si sI sI sI so si so so}", "k", step->k0, "count", step->count, "accumulator",
                  json_number((double)step->mma.c), "exponent", is_aligned(step) ? json_integer(step->mma.exponent) : json_null(),
                  "accumulator_term", (int)step->mma.c_term, "not_zero", step->not_zero, "cut", step->cut, "vanished",
                  step->vanished, "lost_in_terms", json_number(step->lost_in_terms), "sum", (int)step->mma.sum, "lost_in_sum",
                  json_number(step->lost_in_sum), "result", json_number((double)step->mma.d));
    if (with_products) json_object_set_new(object, "products", json_products(e, step));
    json_array_append_new(steps, object);
  }
  return steps;
}

static json_t *json_blocks(const struct explanation *e, bool with_products) {
  json_t *blocks = json_array();
  for (int64_t i = 0; i < e->block_count; i++) {
    const struct block *block = &e->blocks[i];
    json_array_append_new(blocks,
                          json_pack("{sI sI sI sI so so so so sI sI sI so so so}", "block", i, "k", block->k0, "count",
                                    block->count, "range", block->range, "a_scale", json_number((double)block->a_scale),
                                    "b_scale", json_number((double)block->b_scale), "scale", json_number((double)block->scale),
                                    "steps", json_steps(e, block, with_products), "not_zero", block->not_zero, "cut", block->cut,
                                    "vanished", block->vanished, "lost", json_number(block->lost), "dot",
                                    json_number((double)block->dot), "sum", json_number((double)block->sum)));
  }
  return blocks;
}

static json_t *json_nan(const struct nan *nan) {
  if (!nan->at) return json_null();
  return json_pack("{ss sI ss ss}", "at", nan->at, "index", nan->index, "rule", nan->rule, "words", nan->words);
}

static json_t *json_of(const struct explanation *e, const struct multiplication *of, bool with_products) {
  const struct verdict *v = &e->verdict;
  json_t *ranges = json_array(), *parts = json_object(), *c = of->c_spec ? json_number((double)e->c) : json_null();
  for (int64_t i = 0; i < e->ranges; i++) json_array_append_new(ranges, json_number((double)e->range_sum[i]));
  for (int i = 0; i < PARTS; i++) json_object_set_new(parts, e->parts[i].key, json_number(e->parts[i].error));
  json_t *unscaled = json_pack("{so so so}", "value", json_number(e->unscaled.value), "promoted",
                               json_number(e->unscaled.promoted), "chain", json_number(e->unscaled.chain));
  return json_pack("{s[II] sI so so so so so so ss so ss so so so so so so so}", "element", e->row, e->col, "k", e->problem.k,
                   "a", json_factor(&of->a), "b", json_factor(&of->b), "blocks", json_blocks(e, with_products), "range_sums",
                   ranges, "sum", json_number((double)e->sum), "c", c, "out_type", type_name(e->problem.d.type), "d",
                   json_number((double)e->d), "bits", e->bits, "value", json_number(v->value), "error", json_number(v->error),
                   "bound", json_number(v->bound), "ratio", json_number(v->ratio), "error_parts", parts, "nan", json_nan(&e->nan),
                   "unscaled", unscaled);
}

/* --- As text. */

/* printf() writes NaN with a sign, which says nothing. */
static const char *shown(double value, int digits) { return isnan(value) ? "NaN" : text("%.*g", digits, value); }
static const char *shown_float(float value) { return shown((double)value, 9); }

static void print_products(const struct explanation *e, const struct step *step) {
  const char *const headings[] = {"k", "a", "b", "a", "b", "product", "exponent", "term", "cut"};
  struct table *table = table_begin("rrrrrrrrr", headings);
  for (int64_t i = 0; i < step->count; i++) {
    struct product product = product_at(e, step->k0 + i);
    float value = step->mma.product[i];
    table_cell(table, "%" PRId64, step->k0 + i);
    table_cell(table, "0x%02X", product.a_code);
    table_cell(table, "0x%02X", product.b_code);
    table_cell(table, "%s", shown_float(product.a));
    table_cell(table, "%s", shown_float(product.b));
    table_cell(table, "%s", shown_float(value));
    table_cell(table, "%s", value != 0 ? text("%d", product.exponent) : "-");
    table_cell(table, "%" PRId32, step->mma.term[i]);
    table_cell(table, "%s", shown(cut_of(&step->mma, i), 6));
  }
  printf("\nk %" PRId64 " ... %" PRId64 ", accumulator %s", step->k0, step->k0 + step->count - 1, shown_float(step->mma.c));
  if (is_aligned(step))
    printf(": E = %d, terms are multiples of 2^%d, the accumulator's is %" PRId32, step->mma.exponent,
           step->mma.exponent - TERM_BITS, step->mma.c_term);
  printf("\n");
  table_print(table);
  if (is_aligned(step)) printf("sum of the terms %" PRId32 ", ", step->mma.sum);
  printf("result %s\n", shown_float(step->mma.d));
}

static void print_steps(const struct explanation *e) {
  const char *const headings[] = {"k",        "accumulator",   "E",           "products not 0", "cut",
                                  "vanished", "lost in terms", "lost in sum", "result"};
  struct table *table = table_begin("rrrrrrrrr", headings);
  for (int64_t i = 0; i < e->block_count; i++)
    for (int64_t s = 0; s < e->blocks[i].step_count; s++) {
      const struct step *step = &e->blocks[i].steps[s];
      table_cell(table, "%" PRId64, step->k0);
      table_cell(table, "%s", shown_float(step->mma.c));
      table_cell(table, "%s", is_aligned(step) ? text("%d", step->mma.exponent) : "-");
      table_cell(table, "%" PRId64, step->not_zero);
      table_cell(table, "%" PRId64, step->cut);
      table_cell(table, "%" PRId64, step->vanished);
      table_cell(table, "%s", shown(step->lost_in_terms, 4));
      table_cell(table, "%s", shown(step->lost_in_sum, 4));
      table_cell(table, "%s", shown_float(step->mma.d));
    }
  printf("\nIn the tensor core, 32 products a step; terms are cut to multiples of 2^(E-13), E being the largest exponent, and\n"
         "their sum to 14 bits. cut: products that lost a part or all, vanished: of these, all.\n\n");
  table_print(table);
}

/* What the block took from D; without end where it is not finite. */
static double loss_of(const struct block *block) {
  return isfinite(block->dot) ? fabs((double)block->scale * block->lost) : INFINITY;
}

static int by_loss(const void *left, const void *right) {
  const struct block *x = left, *y = right;
  double x_loss = loss_of(x), y_loss = loss_of(y);
  return x_loss != y_loss ? (x_loss < y_loss) - (x_loss > y_loss) : (x->index > y->index) - (x->index < y->index);
}

static void print_blocks(const struct explanation *e, int64_t most) {
  const char *const headings[] = {"block", "scale of A", "of B", "scale", "products not 0",
                                  "cut",   "vanished",   "lost", "dot",   "sum"};
  struct block *order = claim(e->block_count, sizeof *order, "the blocks in order");
  memcpy(order, e->blocks, (size_t)e->block_count * sizeof *order);
  if (most < e->block_count) qsort(order, (size_t)e->block_count, sizeof *order, by_loss);
  struct table *table = table_begin("rrrrrrrrrr", headings);
  for (int64_t i = 0; i < most && i < e->block_count; i++) {
    table_cell(table, "%" PRId64, order[i].index);
    table_cell(table, "%s", shown_float(order[i].a_scale));
    table_cell(table, "%s", shown_float(order[i].b_scale));
    table_cell(table, "%s", shown_float(order[i].scale));
    table_cell(table, "%" PRId64, order[i].not_zero);
    table_cell(table, "%" PRId64, order[i].cut);
    table_cell(table, "%" PRId64, order[i].vanished);
    table_cell(table, "%s", shown(order[i].lost, 4));
    table_cell(table, "%s", shown_float(order[i].dot));
    table_cell(table, "%s", shown_float(order[i].sum));
  }
  printf(
      "\nBlocks of 128, added up in FP32: sum = fma(scale, dot, sum), scale being the product of the two. lost: of the dot, before\n"
      "the scale.");
  if (most < e->block_count)
    printf(" The %" PRId64 " of %" PRId64 " that cost D most, by scale times lost:", most, e->block_count);
  printf("\n\n");
  table_print(table);
}

static void print_sums(const struct explanation *e) {
  int64_t not_zero = 0, cut = 0, vanished = 0, not_finite = 0;
  for (int64_t i = 0; i < e->block_count; i++) {
    for (int64_t s = 0; s < e->blocks[i].step_count; s++) not_finite += !isfinite(e->blocks[i].steps[s].mma.d);
    not_zero += e->blocks[i].not_zero;
    cut += e->blocks[i].cut;
    vanished += e->blocks[i].vanished;
  }
  printf("\n%" PRId64 " products, %" PRId64 " of them not 0; of %" PRId64 " something was cut, of %" PRId64 " all.\n",
         e->problem.k, not_zero, cut, vanished);
  if (not_finite) printf("Steps whose result is not finite, in which nothing is cut: %" PRId64 ".\n", not_finite);
  if (e->ranges == 1) return;
  printf("K is summed in %" PRId64 " ranges, then these are added:\n", e->ranges);
  for (int64_t range = 0; range < e->ranges; range++) printf("%s%s", range ? " + " : "", shown_float(e->range_sum[range]));
  printf(" = %s\n", shown_float(e->sum));
}

static void print_result(const struct explanation *e) {
  const struct verdict *v = &e->verdict;
  struct table *table = table_begin("lrl", NULL);
#define LINE(name, value, ...)                                                                                                   \
  do {                                                                                                                           \
    table_cell(table, "%s", name);                                                                                               \
    table_cell(table, "%s", value);                                                                                              \
    table_cell(table, __VA_ARGS__);                                                                                              \
  } while (0)
  LINE("sum", shown((double)e->sum, DIGITS), "%s", "");
  if (e->problem.c.data) LINE("with C", shown((double)e->with_c, DIGITS), "C is %s", shown((double)e->c, DIGITS));
  LINE("D", shown((double)e->d, DIGITS), "%s %s", type_name(e->problem.d.type), e->bits);
  LINE("exact", shown(v->value, DIGITS), "%s", "");
  double error = (double)e->d - v->value;
  LINE("error", shown(error, 4), "%s", isfinite(error) ? "of which" : "");
  for (int i = 0; i < PARTS && isfinite(error); i++)
    if (i != 2 || e->problem.c.data) LINE("", shown(e->parts[i].error, 4), "%s", e->parts[i].words);
  if (isfinite(error)) LINE("bound", shown(v->bound, 4), "of which the error is %.3g %%", 100 * v->ratio);
#undef LINE
  printf("\n");
  table_print(table);
  if (e->nan.at) printf("\nD is NaN. %s\n", e->nan.words);
}

static void print_unscaled(const struct explanation *e) {
  const struct unscaled *u = &e->unscaled;
  const char *const headings[] = {"", "", "error"};
  const struct {
    const char *name;
    double value;
  } ways[] = {{"promoted to FP32 every 128", u->promoted}, {"in one chain through the tensor core", u->chain}};
  struct table *table = table_begin("lrr", headings);
  table_cell(table, "in FP64");
  table_cell(table, "%s", shown(u->value, DIGITS));
  table_cell(table, "%s", "");
  for (int i = 0; i < 2; i++) {
    table_cell(table, "%s", ways[i].name);
    table_cell(table, "%s", shown(ways[i].value, DIGITS));
    table_cell(table, "%s", shown(ways[i].value - u->value, 4));
  }
  printf("\nWhat two levels of accumulation save: the same products without scales, summed\n\n");
  table_print(table);
  double promoted = fabs(u->promoted - u->value), chain = fabs(u->chain - u->value);
  if (promoted > 0 && chain > promoted) printf("One chain is %.3g times as far off.\n", chain / promoted);
  if (promoted == 0 && chain > 0) printf("Only one chain is off.\n");
}

static void print(const struct explanation *e, bool with_products) {
  bool is_short = e->block_count <= SHORT_BLOCKS;
  for (int64_t i = 0; with_products && i < e->block_count; i++)
    for (int64_t s = 0; s < e->blocks[i].step_count; s++) print_products(e, &e->blocks[i].steps[s]);
  if (e->block_count && (is_short || with_products)) print_steps(e);
  if (e->block_count) print_blocks(e, is_short || with_products ? e->block_count : WORST_BLOCKS);
  print_sums(e);
  print_result(e);
  print_unscaled(e);
}

static enum outcome run(const struct command *command, int argc, const char **argv) {
  struct multiplication of = {0};
  const char *row = NULL, *col = NULL, *out_type = NULL, *split_k = NULL, *threads = NULL;
  int with_products = 0, json = 0;
  struct poptOption options[] = {
      OPTION_MULTIPLICATION(of),
      {"row", '\0', POPT_ARG_STRING, &row, 0, "of the element of D (default: 0)", "I"},
      {"col", '\0', POPT_ARG_STRING, &col, 0, "likewise", "J"},
      {"out-type", '\0', POPT_ARG_STRING, &out_type, 0, "what D is rounded to (default: f32)", "bf16|f16|f32"},
      {"products", '\0', POPT_ARG_NONE, &with_products, 0, "show every step, and every product in it", NULL},
      OPTION_SPLIT_K(split_k),
      OPTION_THREADS(threads),
      OPTION_JSON(json),
      OPTIONS_END};
  parse(command, argc, argv, options, 0, 0, NULL);
  fg_type type = out_type_option("--out-type", out_type);
  int ranges = split_k_option(split_k);
  fg_context *context = make_context(threads_option(threads));
  fg_problem problem = read_problem(context, &of);
  problem.level = FG_HOPPER;
  problem.split_k = ranges;
  problem.d.type = type ? type : FG_FP32;
  if (problem.m == 0 || problem.n == 0)
    fail(BAD_INPUT, "D is [%" PRId64 ", %" PRId64 "]: it has no elements", problem.m, problem.n);
  struct explanation e = {.context = context};
  e.row = number_option("--row", row, 0, problem.m - 1);
  e.col = number_option("--col", col, 0, problem.n - 1);
  fg_problem of_row = panel_of(&problem, false, e.row, 1);
  e.problem = panel_of(&of_row, true, e.col, 1);
  sum_blocks(&e);
  finish(&e);
  e.nan = nan_of(&e);
  e.unscaled = without_scales(&e);
  if (json) {
    json_print(json_of(&e, &of, with_products));
  } else {
    printf("D[%" PRId64 ", %" PRId64 "] of [%" PRId64 ", %" PRId64 "], k %" PRId64 ", level hopper, %s %s by %s %s\n", e.row,
           e.col, problem.m, problem.n, problem.k, type_name(problem.a.type), scaling_name(problem.a.scaling),
           type_name(problem.b.type), scaling_name(problem.b.scaling));
    print(&e, with_products);
  }
  return e.verdict.outside ? DIFFERENT : DONE;
}

const struct command command_explain = {
    "explain", "--a X --b W [--c C] [--row I] [--col J] [OPTION...]",
    "Tells how a Hopper tensor core comes to one element of D: what it cuts, and what that costs",
    "\nX, W and C are files as 'gemm' reads them. It shows each block of K, of a short one each step of 32 products; then D, which\n"
    "is what 'gemm --level hopper' writes, its error and where that is from, and what promoting to FP32 every 128 saves.",
    run};
