/* Every argument of every function, made wrong in every way: one table. Each case begins with a legal call, changes one thing, and
 * asks for the status, for a sentence that names the argument and its value, and that not one byte of any argument changed. */
#include "support.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* --- Legal calls */

enum { M = 130, N = 20, K = 260, G = 3, BLOCKS = 3 };

/* All arrays lie in one arena, each in a place of its own with room before and behind. */
enum place { AT_A, AT_A_SCALE, AT_B, AT_B_SCALE, AT_C, AT_BIAS, AT_D, AT_VALUES, AT_VALUE, AT_BOUND, AT_SPARE, PLACES };
enum { PLACE_BYTES = 1 << 17, FIRST_BYTE = 1 << 14 };

static union {
  double aligned;
  unsigned char bytes[PLACES * PLACE_BYTES];
} arena, before;

static void *at(enum place place) { return arena.bytes + (size_t)place * PLACE_BYTES + FIRST_BYTE; }
static void *shifted(const void *pointer, int64_t bytes) { return (char *)(uintptr_t)pointer + bytes; }

enum kind { DENSE, BATCHED, BY_INDEX, BY_ENDS, BY_OFFSETS, BY_COUNTS, MASKED, K_BY_ENDS, K_BY_OFFSETS, K_BY_COUNTS, KINDS };

/* One call of the problem's functions. */
struct setup {
  fg_context *context;
  fg_problem problem;
  fg_conversion conversion;
  double *value, *bound;
};

static fg_context *cpu;

static void fill_arena(void) {
  memset(arena.bytes, 0x5A, sizeof arena);
  memset(at(AT_A), 0x38, (size_t)G * M * K);
  memset(at(AT_B), 0x30, (size_t)G * N * K);
  float *a_scale = at(AT_A_SCALE), *b_scale = at(AT_B_SCALE), *c = at(AT_C), *bias = at(AT_BIAS);
  for (int i = 0; i < G * M * 8; i++) a_scale[i] = 1;
  for (int i = 0; i < G * N * 8; i++) b_scale[i] = 0.5f;
  for (int i = 0; i < G * M * N; i++) c[i] = (float)i;
  for (int i = 0; i < G * N; i++) bias[i] = -(float)i;
}

static void set_values(struct setup *setup, int count, const int64_t *values) {
  bool wide = setup->problem.group_type == FG_INT64;
  for (int i = 0; i < count; i++)
    if (wide)
      ((int64_t *)at(AT_VALUES))[i] = values[i];
    else
      ((int32_t *)at(AT_VALUES))[i] = (int32_t)values[i];
}
#define VALUES(...) set_values(&s, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__})

/* A legal problem, D and C in FP32. */
static struct setup legal(enum kind kind) {
  static const fg_kind kinds[KINDS] = {FG_DENSE,        FG_BATCHED, FG_GROUPED_ROWS, FG_GROUPED_ROWS, FG_GROUPED_ROWS,
                                       FG_GROUPED_ROWS, FG_MASKED,  FG_GROUPED_K,    FG_GROUPED_K,    FG_GROUPED_K};
  static const fg_group_by bys[KINDS] = {FG_BY_DEFAULT, FG_BY_DEFAULT, FG_BY_INDEX, FG_BY_ENDS,    FG_BY_OFFSETS,
                                         FG_BY_COUNTS,  FG_BY_COUNTS,  FG_BY_ENDS,  FG_BY_OFFSETS, FG_BY_COUNTS};
  fill_arena();
  struct setup s = {.context = cpu, .value = at(AT_VALUE), .bound = at(AT_BOUND)};
  s.problem = (fg_problem){.kind = kinds[kind],
                           .m = M,
                           .n = N,
                           .k = K,
                           .groups = G,
                           .a = {.data = at(AT_A), .scale = at(AT_A_SCALE)},
                           .b = {.data = at(AT_B), .scale = at(AT_B_SCALE)},
                           .c = {.data = at(AT_C), .type = FG_FP32},
                           .bias = {.data = at(AT_BIAS)},
                           .d = {.data = at(AT_D), .type = FG_FP32},
                           .group_by = bys[kind],
                           .group_type = FG_INT64,
                           .group_values = at(AT_VALUES),
                           .level = FG_REFERENCE};
  if (kinds[kind] == FG_GROUPED_K) s.problem.a.scale_ld = s.problem.b.scale_ld = BLOCKS + G;
  switch (kind) {
  case BY_INDEX:
    for (int64_t i = 0; i < M; i++) ((int64_t *)at(AT_VALUES))[i] = i == M - 1 ? -1 : i * G / M;
    break;
  case BY_ENDS:
    VALUES(40, 40, 129);
    break;
  case BY_OFFSETS:
    VALUES(1, 40, 40, 129);
    break;
  case BY_COUNTS:
  case MASKED:
    VALUES(40, 0, 89);
    break;
  case K_BY_ENDS:
    VALUES(100, 100, 259);
    break;
  case K_BY_OFFSETS:
    VALUES(1, 100, 100, 259);
    break;
  case K_BY_COUNTS:
    VALUES(100, 0, 159);
    break;
  default:
    break;
  }
  return s;
}

enum conversion { QUANTIZE, DEQUANTIZE, CONVERT };

/* `groups` matrices [M, K], FP32 to E4M3, E4M3 to FP32, FP32 to BF16. */
static struct setup legal_conversion(enum conversion kind) {
  fill_arena();
  struct setup s = {.context = cpu};
  bool back = kind == DEQUANTIZE;
  s.conversion = (fg_conversion){.rows = 40,
                                 .cols = K,
                                 .groups = 2,
                                 .from = {.data = at(back ? AT_A : AT_C), .scale = back ? at(AT_A_SCALE) : NULL},
                                 .to = {.data = at(AT_D), .scale = kind == QUANTIZE ? at(AT_SPARE) : NULL}};
  if (kind == CONVERT) s.conversion.to.type = FG_BF16;
  float *x = at(AT_C);
  for (int i = 0; !back && i < 2 * 40 * K; i++) x[i] = (float)(i % 1000) - 500;
  return s;
}

/* --- The table's columns */

static unsigned seen_statuses;
static int cases; /* refused ones */

/* Whether the sentence has all fragments, which '|' separates. */
static bool says(const char *fragments) {
  char fragment[256];
  while (*fragments) {
    size_t length = strcspn(fragments, "|");
    snprintf(fragment, sizeof fragment, "%.*s", (int)length, fragments);
    if (!strstr(fg_message(), fragment)) return false;
    fragments += length + (fragments[length] == '|');
  }
  return true;
}

static void expect(int line, const char *function, fg_status got, fg_status wanted, const char *fragments) {
  cr_expect_eq(got, wanted, "line %d: %s returned %s, not %s; it said: %s", line, function, fg_status_name(got),
               fg_status_name(wanted), fg_message());
  if (got == wanted && got != FG_OK)
    cr_expect(says(fragments), "line %d: %s said \"%s\", without \"%s\"", line, function, fg_message(), fragments);
  bool touched = memcmp(&arena, &before, sizeof arena) != 0;
  cr_expect(got == FG_OK || !touched, "line %d: %s changed an argument", line, function);
  if (touched) memcpy(&arena, &before, sizeof arena);
  seen_statuses |= 1u << got;
}

enum applies {
  TO_ALL,    /* fg_gemm(), fg_prepare() and fg_exact() refuse alike */
  TO_MEMORY, /* seen in memory: fg_prepare() cannot */
  TO_D,      /* about d, which fg_exact() does not look at */
  TO_EXACT,  /* about value and bound */
  TO_GEMM    /* fg_gemm() alone is asked */
};

/* `fragments` is a format: it and what follows are evaluated after the change. */
static void refuse(int line, struct setup *s, enum applies applies, fg_status status, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static void refuse(int line, struct setup *s, enum applies applies, fg_status status, const char *format, ...) {
  char fragments[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(fragments, sizeof fragments, format, arguments);
  va_end(arguments);
  cases += status != FG_OK;
  memcpy(&before, &arena, sizeof arena);
  if (applies != TO_EXACT) expect(line, "fg_gemm", fg_gemm(s->context, &s->problem), status, fragments);
  if (applies == TO_ALL || applies == TO_D || applies == TO_MEMORY)
    expect(line, "fg_prepare", fg_prepare(s->context, &s->problem), applies == TO_MEMORY ? FG_OK : status, fragments);
  if (applies != TO_GEMM)
    expect(line, "fg_exact", fg_exact(s->context, &s->problem, s->value, s->bound), applies == TO_D ? FG_OK : status, fragments);
}

typedef fg_status conversion_function(fg_context *, const fg_conversion *);
static conversion_function *const functions[] = {fg_quantize, fg_dequantize, fg_convert};
static const char *const function_names[] = {"fg_quantize", "fg_dequantize", "fg_convert"};

static void refuse_conversion(int line, struct setup *s, enum conversion kind, fg_status status, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static void refuse_conversion(int line, struct setup *s, enum conversion kind, fg_status status, const char *format, ...) {
  char fragments[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(fragments, sizeof fragments, format, arguments);
  va_end(arguments);
  cases += status != FG_OK;
  memcpy(&before, &arena, sizeof arena);
  expect(line, function_names[kind], functions[kind](s->context, &s->conversion), status, fragments);
}

/* A line of the table: from a legal problem of `kind`, `change` makes one that is refused with `status` and a sentence. In `change`,
 * s is the setup and p the problem. */
#define REFUSED(kind, applies, change, status, ...)                                                                              \
  do {                                                                                                                           \
    struct setup s = legal(kind);                                                                                                \
    fg_problem *p = &s.problem;                                                                                                  \
    (void)p;                                                                                                                     \
    change;                                                                                                                      \
    refuse(__LINE__, &s, applies, status, __VA_ARGS__);                                                                          \
  } while (0)

/* The same change is legal. */
#define ACCEPTED(kind, change) REFUSED(kind, TO_GEMM, change, FG_OK, " ")

/* The same for conversions; v is the conversion. */
#define NOT_CONVERTED(kind, change, status, ...)                                                                                 \
  do {                                                                                                                           \
    struct setup s = legal_conversion(kind);                                                                                     \
    fg_conversion *v = &s.conversion;                                                                                            \
    (void)v;                                                                                                                     \
    change;                                                                                                                      \
    refuse_conversion(__LINE__, &s, kind, status, __VA_ARGS__);                                                                  \
  } while (0)
#define CONVERTED(kind, change) NOT_CONVERTED(kind, change, FG_OK, " ")

/* An enumerator that does not exist, past the compiler. */
#define NO_SUCH(type, number) ((type)(unsigned)(number))

static const int64_t huge = INT64_MAX, over = ((int64_t)1 << 47) + 1;

/* --- The table */

static void sizes_and_enumerators(void) {
  REFUSED(DENSE, TO_ALL, s.context = NULL, FG_NULL_POINTER, "context is NULL");
  REFUSED(DENSE, TO_ALL, p->m = -1, FG_BAD_SIZE, "m is -1;");
  REFUSED(DENSE, TO_ALL, p->n = -1, FG_BAD_SIZE, "n is -1;");
  REFUSED(DENSE, TO_ALL, p->k = -1, FG_BAD_SIZE, "k is -1;");
  REFUSED(DENSE, TO_ALL, p->m = INT64_MIN, FG_BAD_SIZE, "m is -9223372036854775808;");
  REFUSED(DENSE, TO_ALL, p->m = huge, FG_BAD_SIZE, "m is 9223372036854775807;");
  REFUSED(DENSE, TO_ALL, p->n = huge, FG_BAD_SIZE, "n is 9223372036854775807;");
  REFUSED(DENSE, TO_ALL, p->k = huge, FG_BAD_SIZE, "k is 9223372036854775807;");
  REFUSED(DENSE, TO_ALL, p->m = over, FG_BAD_SIZE, "m is %" PRId64, over);
  REFUSED(BATCHED, TO_ALL, p->groups = -1, FG_BAD_SIZE, "groups is -1;");
  REFUSED(BATCHED, TO_ALL, p->groups = huge, FG_BAD_SIZE, "groups is 9223372036854775807;");
  REFUSED(BY_INDEX, TO_ALL, p->groups = -2, FG_BAD_SIZE, "groups is -2;");
  REFUSED(MASKED, TO_ALL, p->groups = INT64_MIN, FG_BAD_SIZE, "groups is -9223372036854775808;");
  REFUSED(K_BY_COUNTS, TO_ALL, p->groups = -1, FG_BAD_SIZE, "groups is -1;");
  ACCEPTED(DENSE, p->groups = -1); /* not looked at */
  REFUSED(BY_ENDS, TO_ALL, p->group_align = -1, FG_BAD_SIZE, "group_align is -1;");
  REFUSED(BY_COUNTS, TO_ALL, p->group_align = huge, FG_BAD_SIZE, "group_align is 9223372036854775807;");
  REFUSED(MASKED, TO_ALL, p->expected_m = -1, FG_BAD_SIZE, "expected_m is -1;");
  REFUSED(MASKED, TO_ALL, p->expected_m = huge, FG_BAD_SIZE, "expected_m is 9223372036854775807;");
  ACCEPTED(MASKED, p->expected_m = 1000); /* a hint may be wrong */
  REFUSED(DENSE, TO_ALL, p->sm_limit = -1, FG_BAD_SIZE, "sm_limit is -1;");
  ACCEPTED(DENSE, p->sm_limit = 7);
  /* Each size is legal, but not the bytes. */
  REFUSED(DENSE, TO_ALL, (p->m = (int64_t)1 << 40, p->k = (int64_t)1 << 40), FG_BAD_SIZE, "a.data|1099511627776");
  REFUSED(DENSE, TO_ALL, (p->n = (int64_t)1 << 40, p->k = (int64_t)1 << 24), FG_BAD_SIZE, "b.data|1099511627776");
  REFUSED(DENSE, TO_GEMM, (p->n = (int64_t)1 << 33, p->m = (int64_t)1 << 33, p->k = 0, p->c.data = NULL), FG_BAD_SIZE,
          "d.data|8589934592");
  REFUSED(DENSE, TO_ALL, p->a.ld = (int64_t)1 << 62, FG_BAD_SIZE, "a.data|ld 4611686018427387904");
  REFUSED(DENSE, TO_ALL, p->b.ld = huge, FG_BAD_SIZE, "b.data|ld 9223372036854775807");
  REFUSED(DENSE, TO_ALL, p->c.ld = huge / 8, FG_BAD_SIZE, "c.data|ld 1152921504606846975");
  REFUSED(DENSE, TO_D, p->d.ld = huge / 8, FG_BAD_SIZE, "d.data|ld 1152921504606846975");
  REFUSED(DENSE, TO_ALL, p->a.scale_ld = huge, FG_BAD_SIZE, "a.scale|scale_ld 9223372036854775807");
  REFUSED(DENSE, TO_ALL, (p->b.scale_ld = huge / 2, p->b.scaling = FG_1X128), FG_BAD_SIZE,
          "b.scale|scale_ld 4611686018427387903");
  REFUSED(BATCHED, TO_ALL, p->a.stride = huge, FG_BAD_SIZE, "a.data|stride 9223372036854775807");
  REFUSED(BATCHED, TO_ALL, p->b.stride = huge, FG_BAD_SIZE, "b.data|stride 9223372036854775807");
  REFUSED(BATCHED, TO_ALL, p->c.stride = huge, FG_BAD_SIZE, "c.data|stride 9223372036854775807");
  REFUSED(BATCHED, TO_D, p->d.stride = huge, FG_BAD_SIZE, "d.data|stride 9223372036854775807");
  REFUSED(BATCHED, TO_ALL, p->bias.stride = huge, FG_BAD_SIZE, "bias.data|stride 9223372036854775807");
  REFUSED(BATCHED, TO_ALL, p->a.scale_stride = huge, FG_BAD_SIZE, "a.scale|scale_stride 9223372036854775807");
  REFUSED(BATCHED, TO_ALL, p->b.scale_stride = huge, FG_BAD_SIZE, "b.scale|scale_stride 9223372036854775807");
  REFUSED(BATCHED, TO_ALL, p->groups = (int64_t)1 << 46, FG_BAD_SIZE, "a.data|70368744177664 matrices");
  /* Past the last address. */
  REFUSED(DENSE, TO_ALL, p->a.data = (void *)(UINTPTR_MAX - 100), FG_BAD_SIZE, "a.data");
  REFUSED(DENSE, TO_D, p->d.data = (void *)(UINTPTR_MAX - 103), FG_BAD_SIZE, "d.data");
  REFUSED(BY_INDEX, TO_ALL, p->group_values = (void *)(UINTPTR_MAX - 103), FG_BAD_SIZE, "group_values");

  REFUSED(DENSE, TO_ALL, p->kind = NO_SUCH(fg_kind, 5), FG_BAD_ENUM, "kind is 5;");
  REFUSED(DENSE, TO_ALL, p->kind = NO_SUCH(fg_kind, -1), FG_BAD_ENUM, "kind is -1;");
  REFUSED(DENSE, TO_ALL, p->level = NO_SUCH(fg_level, 13), FG_BAD_ENUM, "level is 13;");
  REFUSED(DENSE, TO_ALL, p->level = NO_SUCH(fg_level, -1), FG_BAD_ENUM, "level is -1;");
  REFUSED(DENSE, TO_ALL, p->flags = 2, FG_BAD_ENUM, "flags is 0x2;");
  REFUSED(DENSE, TO_ALL, p->flags = FG_NO_SPLIT_K | 0x80000000u, FG_BAD_ENUM, "flags is 0x80000001;");
  REFUSED(DENSE, TO_ALL, p->a.type = NO_SUCH(fg_type, 6), FG_BAD_ENUM, "a.type is 6");
  REFUSED(DENSE, TO_ALL, p->a.type = FG_FP32, FG_BAD_ENUM, "a.type is 5 (FG_FP32)");
  REFUSED(DENSE, TO_ALL, p->a.type = FG_BF16, FG_BAD_ENUM, "a.type is 3 (FG_BF16)");
  REFUSED(DENSE, TO_ALL, p->a.type = NO_SUCH(fg_type, -1), FG_BAD_ENUM, "a.type is -1");
  REFUSED(DENSE, TO_ALL, p->b.type = NO_SUCH(fg_type, 6), FG_BAD_ENUM, "b.type is 6");
  REFUSED(DENSE, TO_ALL, p->b.type = FG_FP16, FG_BAD_ENUM, "b.type is 4 (FG_FP16)");
  REFUSED(DENSE, TO_ALL, p->c.type = FG_E4M3, FG_BAD_ENUM, "c.type is FG_E4M3;");
  REFUSED(DENSE, TO_ALL, p->c.type = FG_E5M2, FG_BAD_ENUM, "c.type is FG_E5M2;");
  REFUSED(DENSE, TO_ALL, p->c.type = NO_SUCH(fg_type, 6), FG_BAD_ENUM, "c.type is 6;");
  REFUSED(DENSE, TO_ALL, p->bias.type = FG_E4M3, FG_BAD_ENUM, "bias.type is FG_E4M3;");
  REFUSED(DENSE, TO_ALL, p->bias.type = NO_SUCH(fg_type, 99), FG_BAD_ENUM, "bias.type is 99;");
  REFUSED(DENSE, TO_ALL, p->d.type = NO_SUCH(fg_type, 6), FG_BAD_ENUM, "d.type is 6;");
  REFUSED(DENSE, TO_ALL, p->d.type = NO_SUCH(fg_type, -5), FG_BAD_ENUM, "d.type is -5;");
  REFUSED(DENSE, TO_ALL, p->a.scaling = NO_SUCH(fg_scaling, 4), FG_BAD_ENUM, "a.scaling is 4;");
  REFUSED(DENSE, TO_ALL, p->a.scaling = NO_SUCH(fg_scaling, -1), FG_BAD_ENUM, "a.scaling is -1;");
  REFUSED(DENSE, TO_ALL, p->b.scaling = NO_SUCH(fg_scaling, 4), FG_BAD_ENUM, "b.scaling is 4;");
  REFUSED(DENSE, TO_ALL, p->a.scale_layout = NO_SUCH(fg_scale_layout, 2), FG_BAD_ENUM, "a.scale_layout is 2;");
  REFUSED(DENSE, TO_ALL, p->b.scale_layout = NO_SUCH(fg_scale_layout, -1), FG_BAD_ENUM, "b.scale_layout is -1;");
  REFUSED(DENSE, TO_ALL, p->c.scale = at(AT_A_SCALE), FG_BAD_ENUM, "c.scale is %p;", (const void *)p->c.scale);
  REFUSED(DENSE, TO_ALL, p->bias.scale = at(AT_A_SCALE), FG_BAD_ENUM, "bias.scale is %p;", (const void *)p->bias.scale);
  REFUSED(BY_INDEX, TO_ALL, p->group_by = NO_SUCH(fg_group_by, 5), FG_BAD_ENUM, "group_by is 5;");
  REFUSED(BY_INDEX, TO_ALL, p->group_by = NO_SUCH(fg_group_by, -1), FG_BAD_ENUM, "group_by is -1;");
  REFUSED(BY_INDEX, TO_ALL, p->group_type = NO_SUCH(fg_index_type, 2), FG_BAD_ENUM, "group_type is 2;");
  REFUSED(MASKED, TO_ALL, p->group_type = NO_SUCH(fg_index_type, -1), FG_BAD_ENUM, "group_type is -1;");
  REFUSED(MASKED, TO_ALL, p->group_by = FG_BY_INDEX, FG_BAD_ENUM, "group_by is FG_BY_INDEX|FG_MASKED");
  REFUSED(MASKED, TO_ALL, p->group_by = FG_BY_ENDS, FG_BAD_ENUM, "group_by is FG_BY_ENDS|FG_MASKED");
  REFUSED(MASKED, TO_ALL, p->group_by = FG_BY_OFFSETS, FG_BAD_ENUM, "group_by is FG_BY_OFFSETS|FG_MASKED");
  REFUSED(K_BY_ENDS, TO_ALL, p->group_by = FG_BY_INDEX, FG_BAD_ENUM, "group_by is FG_BY_INDEX|FG_GROUPED_K");
  ACCEPTED(DENSE, p->group_type = NO_SUCH(fg_index_type, 9)); /* not looked at */
  ACCEPTED(DENSE, (p->c.data = NULL, p->c.type = NO_SUCH(fg_type, 9)));
  ACCEPTED(BATCHED, (p->bias.ld = -5));

  /* Legal elsewhere, or one day. */
  static const char *const later[] = {"naive", "shared", "wgmma", "tma", "pipeline", "persistent", "cluster", "full"};
  for (int i = 0; i < 8; i++)
    REFUSED(DENSE, TO_ALL, p->level = (fg_level)(FG_NAIVE + i), FG_UNSUPPORTED, "level is %s,", later[i]);
  REFUSED(DENSE, TO_ALL, (p->level = FG_BLAS, p->flags = FG_NO_SPLIT_K), FG_UNSUPPORTED, "FG_NO_SPLIT_K|blas");
  static const fg_level whole[] = {FG_BEST, FG_EXACT, FG_REFERENCE, FG_BLAS};
  for (int i = 0; i < 4; i++)
    REFUSED(DENSE, TO_ALL, (p->level = whole[i], p->split_k = 2), FG_UNSUPPORTED, "split_k is 2, but level is|hopper");
  REFUSED(DENSE, TO_ALL, (p->level = FG_HOPPER, p->split_k = -1), FG_BAD_SIZE, "split_k is -1;");
  REFUSED(DENSE, TO_ALL, (p->level = FG_HOPPER, p->split_k = 2, p->flags = FG_NO_SPLIT_K), FG_BAD_SIZE,
          "split_k is 2; with FG_NO_SPLIT_K");
  ACCEPTED(DENSE, (p->level = FG_HOPPER, p->split_k = 1, p->flags = FG_NO_SPLIT_K));
  ACCEPTED(DENSE, (p->level = FG_HOPPER, p->split_k = INT_MAX));
  ACCEPTED(DENSE, p->flags = FG_DEPENDENT_LAUNCH); /* which a CPU has no use for */
  ACCEPTED(DENSE, (p->level = FG_REFERENCE, p->split_k = 1));
  REFUSED(DENSE, TO_ALL, p->d.type = FG_E4M3, FG_UNSUPPORTED, "d.type is FG_E4M3;");
  REFUSED(DENSE, TO_ALL, p->d.type = FG_E5M2, FG_UNSUPPORTED, "d.type is FG_E5M2;");
  REFUSED(DENSE, TO_ALL, (p->c = (fg_operand){0}, p->d.type = FG_E4M3), FG_UNSUPPORTED, "d.type is FG_E4M3;");
  REFUSED(DENSE, TO_ALL, (p->c = (fg_operand){0}, p->d.type = NO_SUCH(fg_type, 9)), FG_BAD_ENUM, "d.type is 9;");
  REFUSED(DENSE, TO_ALL, p->d.scale = at(AT_SPARE), FG_UNSUPPORTED, "d.scale is %p;", (const void *)p->d.scale);
  REFUSED(DENSE, TO_ALL, p->stream = at(AT_SPARE), FG_UNSUPPORTED, "stream is %p;", (const void *)p->stream);
  REFUSED(K_BY_COUNTS, TO_ALL, p->stream = at(AT_SPARE), FG_UNSUPPORTED, "stream is %p;", (const void *)p->stream);
}

static void pointers(void) {
  REFUSED(DENSE, TO_ALL, p->a.data = NULL, FG_NULL_POINTER, "a.data is NULL");
  REFUSED(DENSE, TO_ALL, p->a.scale = NULL, FG_NULL_POINTER, "a.scale is NULL");
  REFUSED(DENSE, TO_ALL, p->b.data = NULL, FG_NULL_POINTER, "b.data is NULL");
  REFUSED(DENSE, TO_ALL, p->b.scale = NULL, FG_NULL_POINTER, "b.scale is NULL");
  REFUSED(DENSE, TO_D, p->d.data = NULL, FG_NULL_POINTER, "d.data is NULL");
  for (enum kind kind = BATCHED; kind < KINDS; kind++) {
    REFUSED(kind, TO_ALL, p->a.data = NULL, FG_NULL_POINTER, "a.data is NULL");
    REFUSED(kind, TO_ALL, p->b.scale = NULL, FG_NULL_POINTER, "b.scale is NULL");
    if (kind >= BY_INDEX) REFUSED(kind, TO_ALL, p->group_values = NULL, FG_NULL_POINTER, "group_values is NULL");
  }
  /* Pointers to no elements may be NULL. */
  ACCEPTED(DENSE, (p->m = 0, p->a = (fg_operand){0}, p->c.data = p->d.data = NULL));
  ACCEPTED(DENSE, (p->n = 0, p->b = (fg_operand){0}, p->c.data = p->d.data = NULL, p->bias.data = NULL));
  ACCEPTED(DENSE, (p->k = 0, p->a = p->b = (fg_operand){0}));
  ACCEPTED(BATCHED, (p->groups = 0, p->a = p->b = (fg_operand){0}, p->d.data = NULL));
  ACCEPTED(BY_INDEX, (p->m = 0, p->group_values = NULL));
  ACCEPTED(BY_ENDS, (p->groups = 0, p->group_values = NULL, p->b = (fg_operand){0}));
  ACCEPTED(DENSE, (p->c.data = NULL, p->bias.data = NULL));
  ACCEPTED(BATCHED, p->group_values = NULL);

  REFUSED(DENSE, TO_ALL, p->a.scale = shifted(p->a.scale, 1), FG_MISALIGNED, "a.scale is %p", (const void *)p->a.scale);
  REFUSED(DENSE, TO_ALL, p->a.scale = shifted(p->a.scale, 2), FG_MISALIGNED, "a.scale is %p", (const void *)p->a.scale);
  REFUSED(DENSE, TO_ALL, p->b.scale = shifted(p->b.scale, 3), FG_MISALIGNED, "b.scale is %p", (const void *)p->b.scale);
  REFUSED(DENSE, TO_ALL, p->c.data = shifted(p->c.data, 2), FG_MISALIGNED, "c.data is %p", p->c.data);
  REFUSED(DENSE, TO_ALL, (p->c.type = FG_BF16, p->c.data = shifted(p->c.data, 1)), FG_MISALIGNED, "c.data is %p", p->c.data);
  REFUSED(DENSE, TO_ALL, p->bias.data = shifted(p->bias.data, 1), FG_MISALIGNED, "bias.data is %p", p->bias.data);
  REFUSED(DENSE, TO_ALL, (p->bias.type = FG_FP16, p->bias.data = shifted(p->bias.data, 3)), FG_MISALIGNED, "bias.data is %p",
          p->bias.data);
  REFUSED(DENSE, TO_D, p->d.data = shifted(p->d.data, 2), FG_MISALIGNED, "d.data is %p", p->d.data);
  REFUSED(DENSE, TO_D, (p->d.type = FG_BF16, p->d.data = shifted(p->d.data, 1)), FG_MISALIGNED, "d.data is %p", p->d.data);
  REFUSED(BY_INDEX, TO_ALL, p->group_values = shifted(p->group_values, 4), FG_MISALIGNED, "group_values is %p", p->group_values);
  REFUSED(MASKED, TO_ALL, (p->group_type = FG_INT32, p->group_values = shifted(p->group_values, 2)), FG_MISALIGNED,
          "group_values is %p", p->group_values);
  ACCEPTED(DENSE, (p->a.data = shifted(p->a.data, 1), p->b.data = shifted(p->b.data, 3))); /* FP8 is anywhere aligned */
  ACCEPTED(DENSE, (p->d.type = FG_FP16, p->d.data = shifted(p->d.data, 2)));
}

static void strides(void) {
  REFUSED(DENSE, TO_ALL, p->a.ld = K - 1, FG_BAD_STRIDE, "a.ld is 259,");
  REFUSED(DENSE, TO_ALL, p->a.ld = -K, FG_BAD_STRIDE, "a.ld is -260,");
  REFUSED(DENSE, TO_ALL, p->b.ld = 1, FG_BAD_STRIDE, "b.ld is 1,");
  REFUSED(DENSE, TO_ALL, p->b.ld = INT64_MIN, FG_BAD_STRIDE, "b.ld is -9223372036854775808,");
  REFUSED(DENSE, TO_ALL, p->c.ld = N - 1, FG_BAD_STRIDE, "c.ld is 19,");
  REFUSED(DENSE, TO_D, p->d.ld = N - 1, FG_BAD_STRIDE, "d.ld is 19,");
  REFUSED(DENSE, TO_D, p->d.ld = -1, FG_BAD_STRIDE, "d.ld is -1,");
  REFUSED(DENSE, TO_ALL, p->a.scale_ld = BLOCKS - 1, FG_BAD_STRIDE, "a.scale_ld is 2,");
  REFUSED(DENSE, TO_ALL, (p->a.scale_layout = FG_ROWS_CONTIGUOUS, p->a.scale_ld = M - 1), FG_BAD_STRIDE, "a.scale_ld is 129,");
  REFUSED(DENSE, TO_ALL, (p->a.scaling = FG_128X128, p->a.scale_ld = 2), FG_BAD_STRIDE, "a.scale_ld is 2,");
  REFUSED(DENSE, TO_ALL, (p->b.scaling = FG_1X128, p->b.scale_ld = -3), FG_BAD_STRIDE, "b.scale_ld is -3,");
  REFUSED(DENSE, TO_ALL, (p->b.scale_layout = FG_ROWS_CONTIGUOUS, p->b.scaling = FG_1X128, p->b.scale_ld = 4), FG_BAD_STRIDE,
          "b.scale_ld is 4,");
  REFUSED(BATCHED, TO_ALL, p->a.stride = M * K - 1, FG_BAD_STRIDE, "a.stride is 33799,");
  REFUSED(BATCHED, TO_ALL, p->a.stride = -M * K, FG_BAD_STRIDE, "a.stride is -33800,");
  REFUSED(BATCHED, TO_ALL, p->b.stride = 1, FG_BAD_STRIDE, "b.stride is 1,");
  REFUSED(BATCHED, TO_ALL, p->c.stride = M * N - 1, FG_BAD_STRIDE, "c.stride is 2599,");
  REFUSED(BATCHED, TO_D, p->d.stride = M * N - 1, FG_BAD_STRIDE, "d.stride is 2599,");
  REFUSED(BATCHED, TO_D, (p->d.ld = G * N - 1, p->d.stride = N), FG_BAD_STRIDE, "d.stride is 20,");
  REFUSED(BATCHED, TO_ALL, p->bias.stride = N - 1, FG_BAD_STRIDE, "bias.stride is 19,");
  REFUSED(BATCHED, TO_ALL, p->bias.stride = -N, FG_BAD_STRIDE, "bias.stride is -20,");
  REFUSED(BATCHED, TO_ALL, p->a.scale_stride = M * BLOCKS - 1, FG_BAD_STRIDE, "a.scale_stride is 389,");
  REFUSED(BATCHED, TO_ALL, p->b.scale_stride = BLOCKS - 1, FG_BAD_STRIDE, "b.scale_stride is 2,");
  REFUSED(BATCHED, TO_ALL, (p->b.scaling = FG_TENSOR, p->b.scale_stride = -1), FG_BAD_STRIDE, "b.scale_stride is -1,");
  REFUSED(MASKED, TO_D, p->d.stride = N, FG_BAD_STRIDE, "d.stride is 20,");
  REFUSED(MASKED, TO_ALL, p->a.stride = K, FG_BAD_STRIDE, "a.stride is 260,");
  REFUSED(BY_INDEX, TO_ALL, p->b.stride = N * K - 1, FG_BAD_STRIDE, "b.stride is 5199,");
  REFUSED(BY_COUNTS, TO_ALL, p->bias.stride = 3, FG_BAD_STRIDE, "bias.stride is 3,");
  REFUSED(K_BY_ENDS, TO_D, p->d.stride = 1, FG_BAD_STRIDE, "d.stride is 1,");
  /* Along grouped K each range has blocks of its own: here four, where k = 260 would have three. */
  REFUSED(K_BY_COUNTS, TO_MEMORY, (VALUES(100, 1, 159), p->a.scale_ld = 3), FG_BAD_STRIDE, "a.scale_ld is 3,");
  REFUSED(K_BY_OFFSETS, TO_MEMORY, (VALUES(0, 1, 2, 259), p->a.scale_ld = 0), FG_BAD_STRIDE, "a.scale_ld is 3,");
  /* What there is only one of has no stride. */
  ACCEPTED(DENSE, (p->m = 1, p->a.ld = -7, p->c.ld = 1, p->d.ld = INT64_MIN, p->a.scale_ld = -1));
  ACCEPTED(DENSE, p->a.stride = p->b.stride = p->c.stride = p->d.stride = p->bias.stride = -1);
  ACCEPTED(DENSE, p->a.scale_stride = p->b.scale_stride = p->bias.ld = -1);
  ACCEPTED(DENSE, p->b.scale_ld = 1); /* one row of scales */
  ACCEPTED(BY_INDEX, p->a.stride = p->c.stride = p->d.stride = p->a.scale_stride = 1);
  ACCEPTED(K_BY_COUNTS, p->a.stride = p->b.stride = p->a.scale_stride = 1);
  ACCEPTED(K_BY_COUNTS, p->b.scale_ld = 1);
  ACCEPTED(BATCHED, (p->groups = 1, p->a.stride = p->d.stride = -1));
  ACCEPTED(BATCHED, (p->d.ld = G * N, p->d.stride = N)); /* interleaved */
}

static void overlaps(void) {
  const int64_t a_bytes = (int64_t)M * K, d_bytes = (int64_t)M * N * 4;
  REFUSED(DENSE, TO_D, p->d.data = at(AT_A), FG_OVERLAP, "d.data is written|a.data at %p", p->a.data);
  REFUSED(DENSE, TO_D, p->d.data = shifted(p->a.data, a_bytes - 4), FG_OVERLAP, "d.data is written|a.data at");
  REFUSED(DENSE, TO_D, p->d.data = shifted(p->a.data, 4 - d_bytes), FG_OVERLAP, "d.data is written|a.data at");
  /* A single byte in common. */
  REFUSED(DENSE, TO_D, p->a.data = shifted(p->d.data, d_bytes - 1), FG_OVERLAP, "d.data is written|a.data at %p", p->a.data);
  REFUSED(DENSE, TO_D, p->a.data = shifted(p->d.data, 1 - a_bytes), FG_OVERLAP, "d.data is written|a.data at %p", p->a.data);
  REFUSED(DENSE, TO_D, p->b.data = shifted(p->d.data, d_bytes - 1), FG_OVERLAP, "d.data is written|b.data at %p", p->b.data);
  ACCEPTED(DENSE, p->a.data = shifted(p->d.data, d_bytes));
  ACCEPTED(DENSE, p->d.data = shifted(p->a.data, a_bytes));
  ACCEPTED(DENSE, p->d.data = shifted(p->a.data, -d_bytes));
  REFUSED(DENSE, TO_D, p->d.data = at(AT_B), FG_OVERLAP, "d.data is written|b.data at %p", p->b.data);
  REFUSED(DENSE, TO_D, p->d.data = shifted(p->b.data, N * K - 4), FG_OVERLAP, "d.data is written|b.data at");
  REFUSED(DENSE, TO_D, p->d.data = at(AT_A_SCALE), FG_OVERLAP, "d.data is written|a.scale at %p", (const void *)p->a.scale);
  REFUSED(DENSE, TO_D, p->d.data = shifted(p->a.scale, (M * BLOCKS - 1) * 4), FG_OVERLAP, "d.data is written|a.scale at");
  ACCEPTED(DENSE, p->d.data = shifted(p->a.scale, M * BLOCKS * 4));
  REFUSED(DENSE, TO_D, p->d.data = at(AT_B_SCALE), FG_OVERLAP, "d.data is written|b.scale at %p", (const void *)p->b.scale);
  REFUSED(DENSE, TO_D, p->d.data = shifted(p->b.scale, 4 - d_bytes), FG_OVERLAP, "d.data is written|b.scale at");
  REFUSED(DENSE, TO_D, p->d.data = at(AT_BIAS), FG_OVERLAP, "d.data is written|bias.data at %p", p->bias.data);
  REFUSED(DENSE, TO_D, p->d.data = shifted(p->bias.data, (N - 1) * 4), FG_OVERLAP, "d.data is written|bias.data at");
  /* C is D itself or apart from it, nothing between. */
  ACCEPTED(DENSE, p->d.data = at(AT_C));
  ACCEPTED(DENSE, (p->d.data = at(AT_C), p->d.ld = N)); /* the same, said otherwise */
  REFUSED(DENSE, TO_D, p->d.data = shifted(p->c.data, 4), FG_OVERLAP, "d.data is written|c.data at %p", p->c.data);
  REFUSED(DENSE, TO_D, p->d.data = shifted(p->c.data, -N * 4), FG_OVERLAP, "d.data is written|c.data at");
  REFUSED(DENSE, TO_D, p->d.data = shifted(p->c.data, d_bytes - 4), FG_OVERLAP, "d.data is written|c.data at");
  REFUSED(DENSE, TO_D, (p->d.data = at(AT_C), p->d.type = FG_BF16), FG_OVERLAP, "d.data is written|c.data at");
  REFUSED(DENSE, TO_D, (p->d.data = at(AT_C), p->d.ld = N + 1), FG_OVERLAP, "d.data is written|c.data at");
  REFUSED(BATCHED, TO_D, (p->d.data = at(AT_C), p->c.stride = M * N + 1), FG_OVERLAP, "d.data is written|c.data at");
  REFUSED(BY_INDEX, TO_D, p->d.data = at(AT_VALUES), FG_OVERLAP, "d.data is written|group_values at %p", p->group_values);
  REFUSED(BY_INDEX, TO_D, p->d.data = shifted(p->group_values, M * 8 - 4), FG_OVERLAP, "d.data is written|group_values at");
  REFUSED(K_BY_COUNTS, TO_D, p->d.data = shifted(p->group_values, 4), FG_OVERLAP, "d.data is written|group_values at");
  ACCEPTED(BY_COUNTS, p->d.data = shifted(p->group_values, G * 8));
  REFUSED(BATCHED, TO_D, p->d.data = shifted(p->a.data, G * a_bytes - 4), FG_OVERLAP, "d.data is written|a.data at");
  REFUSED(BATCHED, TO_D, p->d.data = shifted(p->bias.data, (G * N - 1) * 4), FG_OVERLAP, "d.data is written|bias.data at");
  REFUSED(BY_INDEX, TO_D, p->d.data = shifted(p->b.data, G * N * K - 4), FG_OVERLAP, "d.data is written|b.data at");
  REFUSED(DENSE, TO_D, (p->c.data = NULL, p->a.ld = 2 * K, p->d.data = shifted(p->a.data, 2 * (M - 1) * K)), FG_OVERLAP,
          "d.data is written|a.data at");
  /* Scales that grouped K needs beyond ceil(k / 128) columns: ranges of 100, 1 and 159 have four. */
  REFUSED(K_BY_COUNTS, TO_GEMM,
          (VALUES(100, 1, 159), p->a.scale_layout = FG_ROWS_CONTIGUOUS, p->a.scale_ld = M,
           p->d.data = shifted(p->a.scale, (4 * M - 1) * 4)),
          FG_OVERLAP, "d.data is written|a.scale at");
  REFUSED(K_BY_COUNTS, TO_GEMM, (VALUES(100, 1, 159), p->m = 1, p->d.data = shifted(p->a.scale, 3 * 4)), FG_OVERLAP,
          "d.data is written|a.scale at");
  /* Other columns of one buffer are apart. */
  ACCEPTED(DENSE, (p->c.ld = p->d.ld = 2 * N, p->d.data = shifted(p->c.data, N * 4)));
  REFUSED(DENSE, TO_D, (p->c.ld = p->d.ld = 2 * N, p->d.data = shifted(p->c.data, (N - 1) * 4)), FG_OVERLAP,
          "d.data is written|c.data at");
  REFUSED(DENSE, TO_D, (p->c.ld = p->d.ld = 2 * N - 1, p->d.data = shifted(p->c.data, N * 4)), FG_OVERLAP,
          "d.data is written|c.data at");
}

static void scales(void) {
#define A_SCALE(index) ((float *)at(AT_A_SCALE))[index]
#define B_SCALE(index) ((float *)at(AT_B_SCALE))[index]
  REFUSED(DENSE, TO_MEMORY, A_SCALE(0) = NAN, FG_BAD_SCALE, "a.scale is nan for row 0 and block 0");
  REFUSED(DENSE, TO_MEMORY, A_SCALE(M * BLOCKS - 1) = NAN, FG_BAD_SCALE, "a.scale is nan for row 129 and block 2");
  REFUSED(DENSE, TO_MEMORY, A_SCALE(77 * BLOCKS + 1) = INFINITY, FG_BAD_SCALE, "a.scale is inf for row 77 and block 1");
  REFUSED(DENSE, TO_MEMORY, A_SCALE(5) = -INFINITY, FG_BAD_SCALE, "a.scale is -inf for row 1 and block 2");
  REFUSED(DENSE, TO_MEMORY, (p->a.scaling = FG_128X128, A_SCALE(BLOCKS + 2) = NAN), FG_BAD_SCALE,
          "a.scale is nan for row 128 and block 2");
  REFUSED(DENSE, TO_MEMORY, (p->a.scaling = FG_TENSOR, A_SCALE(0) = NAN), FG_BAD_SCALE, "a.scale is nan for row 0 and block 0");
  REFUSED(DENSE, TO_MEMORY, (p->a.scale_layout = FG_ROWS_CONTIGUOUS, A_SCALE(2 * 132 + 129) = NAN), FG_BAD_SCALE,
          "a.scale is nan for row 129 and block 2");
  REFUSED(DENSE, TO_MEMORY, B_SCALE(2) = INFINITY, FG_BAD_SCALE, "b.scale is inf for row 0 and block 2");
  REFUSED(DENSE, TO_MEMORY, (p->b.scaling = FG_1X128, B_SCALE(19 * BLOCKS) = NAN), FG_BAD_SCALE,
          "b.scale is nan for row 19 and block 0");
  REFUSED(DENSE, TO_MEMORY, (p->b.scaling = FG_TENSOR, B_SCALE(0) = -INFINITY), FG_BAD_SCALE, "b.scale is -inf for row 0");
  REFUSED(BATCHED, TO_MEMORY, A_SCALE(G * M * BLOCKS - 1) = NAN, FG_BAD_SCALE, "a.scale is nan for row 129 and block 2");
  REFUSED(BATCHED, TO_MEMORY, B_SCALE(G * BLOCKS - 1) = NAN, FG_BAD_SCALE, "b.scale is nan for row 0 and block 2");
  REFUSED(BATCHED, TO_MEMORY, (p->b.scaling = FG_TENSOR, B_SCALE(G - 1) = NAN), FG_BAD_SCALE, "b.scale is nan for row 0");
  REFUSED(BY_INDEX, TO_MEMORY, A_SCALE(128 * BLOCKS) = NAN, FG_BAD_SCALE, "a.scale is nan for row 128 and block 0");
  REFUSED(MASKED, TO_MEMORY, A_SCALE((2 * M + 88) * BLOCKS) = NAN, FG_BAD_SCALE, "a.scale is nan for row 88 and block 0");
  REFUSED(K_BY_COUNTS, TO_MEMORY, A_SCALE(6 * 3 + 2) = NAN, FG_BAD_SCALE, "a.scale is nan for row 3 and block 1");
  /* Not used, not refused: gaps, rows of no group, groups without rows, columns that no range has. */
  ACCEPTED(DENSE, (p->a.scale_ld = 4, A_SCALE(3) = NAN, A_SCALE(4 * (M - 1) + 3) = NAN));
  ACCEPTED(DENSE, (p->a.scale_layout = FG_ROWS_CONTIGUOUS, A_SCALE(130) = A_SCALE(131) = NAN));
  ACCEPTED(BY_INDEX, A_SCALE((M - 1) * BLOCKS) = NAN);
  ACCEPTED(BY_OFFSETS, A_SCALE(0) = NAN);
  ACCEPTED(BY_COUNTS, B_SCALE(BLOCKS) = NAN);
  ACCEPTED(MASKED, (A_SCALE(40 * BLOCKS) = NAN, B_SCALE(BLOCKS + 1) = INFINITY));
  ACCEPTED(K_BY_COUNTS, A_SCALE(3) = A_SCALE(5) = NAN);
  ACCEPTED(DENSE, (p->k = 0, A_SCALE(0) = NAN));
  ACCEPTED(DENSE, (A_SCALE(0) = 0, A_SCALE(1) = -1, A_SCALE(2) = 0x1p-149f)); /* odd, but numbers */
}

static void groups(void) {
  REFUSED(BY_INDEX, TO_MEMORY, VALUES(-2), FG_BAD_GROUPS, "group_values[0] is -2;");
  REFUSED(BY_INDEX, TO_MEMORY, VALUES(0, 0, G), FG_BAD_GROUPS, "group_values[2] is 3;");
  REFUSED(BY_INDEX, TO_MEMORY, ((int64_t *)at(AT_VALUES))[M - 1] = INT64_MAX, FG_BAD_GROUPS,
          "group_values[129] is 9223372036854775807;");
  REFUSED(BY_INDEX, TO_MEMORY, (p->groups = 0), FG_BAD_GROUPS, "group_values[0] is 0;|groups = 0");
  REFUSED(BY_INDEX, TO_MEMORY, (p->group_type = FG_INT32, memset(at(AT_VALUES), 0xFF, 4 * M), ((int32_t *)at(AT_VALUES))[7] = -3),
          FG_BAD_GROUPS, "group_values[7] is -3;");
  REFUSED(BY_ENDS, TO_MEMORY, VALUES(40, 39, 129), FG_BAD_GROUPS, "group_values[1] is 39,");
  REFUSED(BY_ENDS, TO_MEMORY, VALUES(40, 40, M + 1), FG_BAD_GROUPS, "group_values[2] is 131,|m = 130");
  REFUSED(BY_ENDS, TO_MEMORY, VALUES(-1, 40, 129), FG_BAD_GROUPS, "group_values[0] is -1,");
  REFUSED(BY_ENDS, TO_MEMORY, VALUES(INT64_MAX, 40, 129), FG_BAD_GROUPS, "group_values[0] is 9223372036854775807,");
  REFUSED(BY_ENDS, TO_MEMORY, VALUES(40, INT64_MIN, 129), FG_BAD_GROUPS, "group_values[1] is -9223372036854775808,");
  REFUSED(BY_ENDS, TO_MEMORY, (p->group_align = 64, VALUES(40, 63, 129)), FG_BAD_GROUPS, "group_values[1] is 63,|64 to 63");
  REFUSED(BY_OFFSETS, TO_MEMORY, VALUES(-1, 40, 40, 129), FG_BAD_GROUPS, "group_values[0] is -1");
  REFUSED(BY_OFFSETS, TO_MEMORY, VALUES(1, 40, 39, 129), FG_BAD_GROUPS, "group_values[2] is 39,");
  REFUSED(BY_OFFSETS, TO_MEMORY, VALUES(1, 40, 40, 131), FG_BAD_GROUPS, "group_values[3] is 131,|m = 130");
  REFUSED(BY_OFFSETS, TO_MEMORY, VALUES(131, 131, 131, 131), FG_BAD_GROUPS, "131");
  REFUSED(BY_COUNTS, TO_MEMORY, VALUES(40, -1, 89), FG_BAD_GROUPS, "group_values[1] is -1;");
  REFUSED(BY_COUNTS, TO_MEMORY, VALUES(40, 1, 90), FG_BAD_GROUPS, "group_values[2] is 90,|m = 130");
  REFUSED(BY_COUNTS, TO_MEMORY, VALUES(INT64_MAX, INT64_MAX, 2), FG_BAD_GROUPS, "group_values[0] is 9223372036854775807;");
  REFUSED(BY_COUNTS, TO_MEMORY, (p->group_align = 128, VALUES(40, 3, 0)), FG_BAD_GROUPS, "group_values[1] is 3,|128 to 131");
  REFUSED(MASKED, TO_MEMORY, VALUES(40, -1, 89), FG_BAD_GROUPS, "group_values[1] is -1;");
  REFUSED(MASKED, TO_MEMORY, VALUES(40, 0, M + 1), FG_BAD_GROUPS, "group_values[2] is 131;|m = 130");
  REFUSED(MASKED, TO_MEMORY, (p->group_type = FG_INT32, VALUES(40, INT32_MIN, 3)), FG_BAD_GROUPS,
          "group_values[1] is -2147483648;");
  REFUSED(K_BY_ENDS, TO_MEMORY, VALUES(100, 99, 259), FG_BAD_GROUPS, "group_values[1] is 99,");
  REFUSED(K_BY_ENDS, TO_MEMORY, VALUES(100, 100, K + 1), FG_BAD_GROUPS, "group_values[2] is 261,|k = 260");
  REFUSED(K_BY_OFFSETS, TO_MEMORY, VALUES(-1, 100, 100, 259), FG_BAD_GROUPS, "group_values[0] is -1");
  REFUSED(K_BY_OFFSETS, TO_MEMORY, VALUES(0, 100, 300, 259), FG_BAD_GROUPS, "group_values[2] is 300,|k = 260");
  REFUSED(K_BY_COUNTS, TO_MEMORY, VALUES(100, -1, 159), FG_BAD_GROUPS, "group_values[1] is -1;");
  REFUSED(K_BY_COUNTS, TO_MEMORY, VALUES(100, 2, 159), FG_BAD_GROUPS, "group_values[2] is 159,|k = 260");
  REFUSED(K_BY_COUNTS, TO_MEMORY, (p->group_align = 128, VALUES(129, 1, 4)), FG_BAD_GROUPS, "group_values[2] is 4,|384 to 388");
  ACCEPTED(BY_ENDS, VALUES(0, 0, 0));
  ACCEPTED(BY_OFFSETS, VALUES(M, M, M, M));
  ACCEPTED(BY_COUNTS, VALUES(0, 0, M));
  ACCEPTED(BY_COUNTS, (p->group_align = 128, VALUES(129, 0, 0))); /* groups without rows have no place to exceed */
  ACCEPTED(BY_ENDS, (p->group_align = 128, VALUES(129, 129, 129)));
  ACCEPTED(BY_ENDS, (p->group_align = 64, VALUES(40, 64, 130)));
  ACCEPTED(MASKED, VALUES(M, M, M));
}

static void value_and_bound(void) {
  REFUSED(DENSE, TO_EXACT, s.value = shifted(s.value, 4), FG_MISALIGNED, "value is %p", (void *)s.value);
  REFUSED(DENSE, TO_EXACT, s.bound = shifted(s.bound, 1), FG_MISALIGNED, "bound is %p", (void *)s.bound);
  REFUSED(DENSE, TO_EXACT, s.bound = s.value, FG_OVERLAP, "value is written|bound at %p", (void *)s.bound);
  REFUSED(DENSE, TO_EXACT, s.bound = s.value + M * N - 1, FG_OVERLAP, "value is written|bound at");
  REFUSED(DENSE, TO_EXACT, s.value = s.bound + M * N - 1, FG_OVERLAP, "value is written|bound at");
  REFUSED(DENSE, TO_EXACT, s.value = at(AT_A), FG_OVERLAP, "value is written|a.data at %p", p->a.data);
  REFUSED(DENSE, TO_EXACT, s.bound = shifted(p->b.data, -8), FG_OVERLAP, "bound is written|b.data at %p", p->b.data);
  REFUSED(DENSE, TO_EXACT, s.bound = at(AT_A_SCALE), FG_OVERLAP, "bound is written|a.scale at");
  REFUSED(DENSE, TO_EXACT, s.value = at(AT_B_SCALE), FG_OVERLAP, "value is written|b.scale at");
  REFUSED(DENSE, TO_EXACT, s.value = shifted(p->c.data, (M * N - 2) * 4), FG_OVERLAP, "value is written|c.data at");
  REFUSED(DENSE, TO_EXACT, s.bound = at(AT_BIAS), FG_OVERLAP, "bound is written|bias.data at");
  REFUSED(BY_ENDS, TO_EXACT, s.value = at(AT_VALUES), FG_OVERLAP, "value is written|group_values at");
  REFUSED(K_BY_ENDS, TO_EXACT, s.bound = s.value + G * M * N - 1, FG_OVERLAP, "value is written|bound at");
  REFUSED(DENSE, TO_EXACT, s.value = (double *)(UINTPTR_MAX - 1007), FG_BAD_SIZE, "value");
  /* Either may be missing; D need not be there. */
  for (int which = 0; which < 4; which++) {
    struct setup s = legal(MASKED);
    s.problem.d.data = NULL;
    double *value = s.value;
    cr_expect_eq(fg_exact(s.context, &s.problem, which & 1 ? s.value : NULL, which & 2 ? s.bound : NULL), FG_OK);
    cr_expect(which & 1 ? value[0] == 0.25 * K + 0 + 0 : memcmp(value, "ZZZZZZZZ", 8) == 0, "value[0] is %g", value[0]);
  }
}

static void conversions(void) {
  for (enum conversion kind = QUANTIZE; kind <= CONVERT; kind++) {
    NOT_CONVERTED(kind, s.context = NULL, FG_NULL_POINTER, "context is NULL");
    NOT_CONVERTED(kind, v->rows = -1, FG_BAD_SIZE, "rows is -1;");
    NOT_CONVERTED(kind, v->cols = -1, FG_BAD_SIZE, "cols is -1;");
    NOT_CONVERTED(kind, v->groups = -1, FG_BAD_SIZE, "groups is -1;");
    NOT_CONVERTED(kind, v->rows = huge, FG_BAD_SIZE, "rows is 9223372036854775807;");
    NOT_CONVERTED(kind, v->cols = INT64_MIN, FG_BAD_SIZE, "cols is -9223372036854775808;");
    NOT_CONVERTED(kind, v->groups = huge, FG_BAD_SIZE, "groups is 9223372036854775807;");
    NOT_CONVERTED(kind, (v->rows = v->cols = (int64_t)1 << 40), FG_BAD_SIZE, "from.data|1099511627776");
    NOT_CONVERTED(kind, v->from.ld = huge, FG_BAD_SIZE, "from.data|ld 9223372036854775807");
    NOT_CONVERTED(kind, v->to.ld = huge, FG_BAD_SIZE, "to.data|ld 9223372036854775807");
    NOT_CONVERTED(kind, v->from.stride = huge, FG_BAD_SIZE, "from.data|stride 9223372036854775807");
    NOT_CONVERTED(kind, v->to.stride = huge, FG_BAD_SIZE, "to.data|stride 9223372036854775807");
    NOT_CONVERTED(kind, v->from.type = NO_SUCH(fg_type, 6), FG_BAD_ENUM, "from.type is 6 ");
    NOT_CONVERTED(kind, v->from.type = NO_SUCH(fg_type, -1), FG_BAD_ENUM, "from.type is -1 ");
    NOT_CONVERTED(kind, v->to.type = NO_SUCH(fg_type, 6), FG_BAD_ENUM, "to.type is 6 ");
    NOT_CONVERTED(kind, v->flags = 1, FG_BAD_ENUM, "flags is 0x1;");
    NOT_CONVERTED(kind, v->flags = FG_UE8M0 | 0x40000000u, FG_BAD_ENUM, "flags is 0x40000002;");
    NOT_CONVERTED(kind, v->stream = at(AT_SPARE), FG_UNSUPPORTED, "stream is %p;", (void *)v->stream);
    NOT_CONVERTED(kind, v->from.data = NULL, FG_NULL_POINTER, "from.data is NULL");
    NOT_CONVERTED(kind, v->to.data = NULL, FG_NULL_POINTER, "to.data is NULL");
    NOT_CONVERTED(kind, v->from.ld = K - 1, FG_BAD_STRIDE, "from.ld is 259,");
    NOT_CONVERTED(kind, v->from.ld = -1, FG_BAD_STRIDE, "from.ld is -1,");
    NOT_CONVERTED(kind, v->to.ld = K - 1, FG_BAD_STRIDE, "to.ld is 259,");
    NOT_CONVERTED(kind, v->from.stride = 40 * K - 1, FG_BAD_STRIDE, "from.stride is 10399,");
    NOT_CONVERTED(kind, v->to.stride = 40 * K - 1, FG_BAD_STRIDE, "to.stride is 10399,");
    NOT_CONVERTED(kind, v->to.stride = -40 * K, FG_BAD_STRIDE, "to.stride is -10400,");
    NOT_CONVERTED(kind, v->to.data = (void *)(uintptr_t)v->from.data, FG_OVERLAP, "to.data is written|from.data at %p",
                  v->from.data);
    NOT_CONVERTED(kind, v->to.data = shifted(v->from.data, 2 * 40 * K - 4), FG_OVERLAP, "to.data is written|from.data at");
    CONVERTED(kind, (v->rows = 0, v->from.data = v->to.data = NULL, v->to.scale = NULL));
    CONVERTED(kind, (v->cols = 0, v->from.data = v->to.data = NULL, v->to.scale = NULL));
    CONVERTED(kind, (v->groups = 1, v->from.stride = v->to.stride = -1));
    CONVERTED(kind, (v->rows = 1, v->groups = 0, v->from.ld = v->to.ld = -1));
  }
  /* Types that one function does not take. */
  NOT_CONVERTED(QUANTIZE, v->from.type = FG_E4M3, FG_BAD_ENUM, "from.type is 1 (FG_E4M3);");
  NOT_CONVERTED(QUANTIZE, v->to.type = FG_BF16, FG_BAD_ENUM, "to.type is 3 (FG_BF16);");
  NOT_CONVERTED(QUANTIZE, v->to.type = FG_FP32, FG_BAD_ENUM, "to.type is 5 (FG_FP32);");
  NOT_CONVERTED(DEQUANTIZE, v->from.type = FG_FP16, FG_BAD_ENUM, "from.type is 4 (FG_FP16);");
  NOT_CONVERTED(DEQUANTIZE, v->to.type = FG_E5M2, FG_BAD_ENUM, "to.type is 2 (FG_E5M2);");
  NOT_CONVERTED(DEQUANTIZE, v->flags = FG_UE8M0, FG_BAD_ENUM, "flags is 0x2;");
  NOT_CONVERTED(CONVERT, v->flags = FG_UE8M0, FG_BAD_ENUM, "flags is 0x2;");
  /* Scales. */
  NOT_CONVERTED(QUANTIZE, v->to.scale = NULL, FG_NULL_POINTER, "to.scale is NULL");
  NOT_CONVERTED(DEQUANTIZE, v->from.scale = NULL, FG_NULL_POINTER, "from.scale is NULL");
  NOT_CONVERTED(QUANTIZE, v->from.scale = at(AT_A_SCALE), FG_BAD_ENUM, "from.scale is %p;", (const void *)v->from.scale);
  NOT_CONVERTED(DEQUANTIZE, v->to.scale = at(AT_SPARE), FG_BAD_ENUM, "to.scale is %p;", (void *)v->to.scale);
  NOT_CONVERTED(CONVERT, v->from.scale = at(AT_A_SCALE), FG_BAD_ENUM, "from.scale is %p;", (const void *)v->from.scale);
  NOT_CONVERTED(CONVERT, v->to.scale = at(AT_SPARE), FG_BAD_ENUM, "to.scale is %p;", (void *)v->to.scale);
  NOT_CONVERTED(QUANTIZE, v->to.scale = shifted(v->to.scale, 2), FG_MISALIGNED, "to.scale is %p", (void *)v->to.scale);
  NOT_CONVERTED(DEQUANTIZE, v->from.scale = shifted(v->from.scale, 1), FG_MISALIGNED, "from.scale is %p",
                (const void *)v->from.scale);
  NOT_CONVERTED(QUANTIZE, v->to.scaling = NO_SUCH(fg_scaling, 4), FG_BAD_ENUM, "to.scaling is 4;");
  NOT_CONVERTED(DEQUANTIZE, v->from.scaling = NO_SUCH(fg_scaling, -1), FG_BAD_ENUM, "from.scaling is -1;");
  NOT_CONVERTED(QUANTIZE, v->to.scale_layout = NO_SUCH(fg_scale_layout, 2), FG_BAD_ENUM, "to.scale_layout is 2;");
  NOT_CONVERTED(DEQUANTIZE, v->from.scale_layout = NO_SUCH(fg_scale_layout, 2), FG_BAD_ENUM, "from.scale_layout is 2;");
  NOT_CONVERTED(QUANTIZE, v->to.scale_ld = 2, FG_BAD_STRIDE, "to.scale_ld is 2,");
  NOT_CONVERTED(QUANTIZE, (v->to.scale_layout = FG_ROWS_CONTIGUOUS, v->to.scale_ld = 39), FG_BAD_STRIDE, "to.scale_ld is 39,");
  NOT_CONVERTED(QUANTIZE, v->to.scale_stride = 40 * 3 - 1, FG_BAD_STRIDE, "to.scale_stride is 119,");
  NOT_CONVERTED(DEQUANTIZE, v->from.scale_ld = -3, FG_BAD_STRIDE, "from.scale_ld is -3,");
  NOT_CONVERTED(DEQUANTIZE, v->from.scale_stride = 1, FG_BAD_STRIDE, "from.scale_stride is 1,");
  NOT_CONVERTED(QUANTIZE, v->to.scale_ld = huge, FG_BAD_SIZE, "to.scale|scale_ld 9223372036854775807");
  NOT_CONVERTED(QUANTIZE, v->to.scale = (float *)(uintptr_t)v->from.data, FG_OVERLAP, "to.scale is written|from.data at");
  NOT_CONVERTED(QUANTIZE, v->to.scale = shifted(v->to.data, 2 * 40 * K - 4), FG_OVERLAP, "to.scale is written|to.data at");
  NOT_CONVERTED(DEQUANTIZE, v->to.data = shifted(v->from.scale, 4), FG_OVERLAP, "to.data is written|from.scale at");
  /* Alignment of the elements. */
  NOT_CONVERTED(QUANTIZE, v->from.data = shifted(v->from.data, 2), FG_MISALIGNED, "from.data is %p", v->from.data);
  NOT_CONVERTED(QUANTIZE, (v->from.type = FG_BF16, v->from.data = shifted(v->from.data, 1)), FG_MISALIGNED, "from.data is %p",
                v->from.data);
  NOT_CONVERTED(DEQUANTIZE, v->to.data = shifted(v->to.data, 2), FG_MISALIGNED, "to.data is %p", v->to.data);
  NOT_CONVERTED(CONVERT, v->from.data = shifted(v->from.data, 1), FG_MISALIGNED, "from.data is %p", v->from.data);
  NOT_CONVERTED(CONVERT, v->to.data = shifted(v->to.data, 1), FG_MISALIGNED, "to.data is %p", v->to.data);
  /* Values that no scale can hold. */
#define X(index) ((float *)at(AT_C))[index]
  NOT_CONVERTED(QUANTIZE, X(0) = NAN, FG_BAD_VALUE, "from is NaN at [0, 0]");
  NOT_CONVERTED(QUANTIZE, X(39 * K + 259) = INFINITY, FG_BAD_VALUE, "from is infinity at [39, 259]");
  NOT_CONVERTED(QUANTIZE, X(40 * K + 130) = -INFINITY, FG_BAD_VALUE, "from is -infinity at [0, 130] of matrix 1");
  NOT_CONVERTED(QUANTIZE, (v->to.scaling = FG_128X128, X(39 * K + 129) = NAN), FG_BAD_VALUE, "from is NaN at [39, 129]");
  NOT_CONVERTED(QUANTIZE, (v->to.scaling = FG_TENSOR, X(2 * 40 * K - 1) = NAN), FG_BAD_VALUE,
                "from is NaN at [39, 259] of matrix 1");
  NOT_CONVERTED(QUANTIZE, (v->from.type = FG_BF16, memset(at(AT_C), 0, 2 * 2 * 40 * K), ((uint16_t *)at(AT_C))[261] = 0x7F80),
                FG_BAD_VALUE, "from is infinity at [1, 1]");
  NOT_CONVERTED(QUANTIZE, (v->from.type = FG_FP16, memset(at(AT_C), 0, 2 * 2 * 40 * K), ((uint16_t *)at(AT_C))[5] = 0xFE00),
                FG_BAD_VALUE, "from is NaN at [0, 5]");
  CONVERTED(QUANTIZE, (v->from.ld = K + 1, v->groups = 1, X(260) = NAN)); /* in a gap */
  CONVERTED(CONVERT, X(0) = NAN);
}

/* What is not in structs. */
static void contexts(void) {
  fg_context *context = cpu;
  memcpy(&before, &arena, sizeof arena);
#define CREATE(out, options, status, fragments)                                                                                  \
  cases++, expect(__LINE__, "fg_context_create", fg_context_create(out, options), status, fragments)
#define CREATE_REFUSED(options, status, fragments)                                                                               \
  do {                                                                                                                           \
    context = cpu;                                                                                                               \
    CREATE(&context, options, status, fragments);                                                                                \
    cr_expect_null(context, "line %d: *out is not NULL", __LINE__);                                                              \
  } while (0)
  CREATE(NULL, NULL, FG_NULL_POINTER, "out is NULL");
  CREATE_REFUSED((&(fg_context_options){.device = NO_SUCH(fg_device, 2)}), FG_BAD_ENUM, "device is 2;");
  CREATE_REFUSED((&(fg_context_options){.device = NO_SUCH(fg_device, -1)}), FG_BAD_ENUM, "device is -1;");
  CREATE_REFUSED((&(fg_context_options){.ordinal = 1}), FG_BAD_SIZE, "ordinal is 1;");
  CREATE_REFUSED((&(fg_context_options){.ordinal = -1}), FG_BAD_SIZE, "ordinal is -1;");
  CREATE_REFUSED((&(fg_context_options){.device = FG_CUDA, .ordinal = -1}), FG_BAD_SIZE, "ordinal is -1;");
  CREATE_REFUSED((&(fg_context_options){.threads = -1}), FG_BAD_SIZE, "threads is -1;");
  CREATE_REFUSED((&(fg_context_options){.threads = 1025}), FG_BAD_SIZE, "threads is 1025;");
  CREATE_REFUSED((&(fg_context_options){.device = FG_CUDA, .threads = -1}), FG_BAD_SIZE, "threads is -1;");
  setenv("FG_CUDA_DRIVER", "/nowhere/libcuda.so", 1); /* whatever this machine has */
  CREATE_REFUSED((&(fg_context_options){.device = FG_CUDA}), FG_UNSUPPORTED, "CUDA");
  unsetenv("FG_CUDA_DRIVER");
  fg_context_destroy(NULL);

  expect(__LINE__, "fg_gemm", fg_gemm(cpu, NULL), FG_NULL_POINTER, "problem is NULL");
  expect(__LINE__, "fg_prepare", fg_prepare(cpu, NULL), FG_NULL_POINTER, "problem is NULL");
  expect(__LINE__, "fg_exact", fg_exact(cpu, NULL, at(AT_VALUE), NULL), FG_NULL_POINTER, "problem is NULL");
  for (int i = 0; i < 3; i++) expect(__LINE__, function_names[i], functions[i](cpu, NULL), FG_NULL_POINTER, "conversion is NULL");
  expect(__LINE__, "fg_can_run", fg_can_run(NULL, FG_EXACT), FG_NULL_POINTER, "context is NULL");
  expect(__LINE__, "fg_can_run", fg_can_run(cpu, NO_SUCH(fg_level, 13)), FG_BAD_ENUM, "level is 13;");
  expect(__LINE__, "fg_can_run", fg_can_run(cpu, NO_SUCH(fg_level, -1)), FG_BAD_ENUM, "level is -1;");
  expect(__LINE__, "fg_can_run", fg_can_run(cpu, FG_FULL), FG_UNSUPPORTED, "level is full,");
  cases += 10;
}

/* fg_mma(), which has no context. */
static void tensor_core(void) {
  const fg_type e4m3 = FG_E4M3, e5m2 = FG_E5M2;
  const void *a, *b;
  float *d;
  fg_mma_step *steps;
#define MMA(a_type, b_type, k, change, status, ...)                                                                              \
  do {                                                                                                                           \
    fill_arena();                                                                                                                \
    a = at(AT_A), b = at(AT_B), d = at(AT_D), steps = at(AT_SPARE);                                                              \
    change;                                                                                                                      \
    memcpy(&before, &arena, sizeof arena);                                                                                       \
    cases += status != FG_OK;                                                                                                    \
    expect(__LINE__, "fg_mma", fg_mma(a_type, a, b_type, b, k, 1.5f, d, steps), status, __VA_ARGS__);                            \
  } while (0)
  static const fg_type none[] = {FG_BF16, FG_FP16, FG_FP32, NO_SUCH(fg_type, 6), NO_SUCH(fg_type, -1), NO_SUCH(fg_type, 99)};
  static const char *const none_names[] = {"3 (FG_BF16)", "4 (FG_FP16)", "5 (FG_FP32)", "6 (none)", "-1 (none)", "99 (none)"};
  for (int i = 0; i < 6; i++)
    for (int64_t k = 0; k <= 100; k += 100) {
      char fragments[128];
      snprintf(fragments, sizeof fragments, "a_type is %s;|FG_E4M3 or FG_E5M2", none_names[i]);
      MMA(none[i], e4m3, k, (void)0, FG_BAD_ENUM, fragments);
      MMA(none[i], none[i], k, (void)0, FG_BAD_ENUM, fragments);
      fragments[0] = 'b';
      MMA(e5m2, none[i], k, (void)0, FG_BAD_ENUM, fragments);
      MMA(FG_DEFAULT_TYPE, none[i], k, (void)0, FG_BAD_ENUM, fragments);
    }
  MMA(e4m3, e4m3, -1, (void)0, FG_BAD_SIZE, "k is -1; it must be from 0");
  MMA(e4m3, e5m2, INT64_MIN, (void)0, FG_BAD_SIZE, "k is -9223372036854775808;");
  MMA(e5m2, e5m2, huge, (void)0, FG_BAD_SIZE, "k is 9223372036854775807;");
  MMA(e4m3, e4m3, over, (void)0, FG_BAD_SIZE, "k is 140737488355329;");
  MMA(e4m3, e4m3, 1, a = NULL, FG_NULL_POINTER, "a is NULL;|k = 1 ");
  MMA(e4m3, e4m3, 100, b = NULL, FG_NULL_POINTER, "b is NULL;|k = 100 ");
  MMA(e4m3, e4m3, 32, d = NULL, FG_NULL_POINTER, "d is NULL;");
  MMA(e4m3, e4m3, 0, d = NULL, FG_NULL_POINTER, "d is NULL;");
  MMA(e4m3, e4m3, 0, (a = b = NULL, steps = NULL), FG_OK, " ");
  MMA(e4m3, e5m2, 100, steps = NULL, FG_OK, " ");
  MMA(e5m2, e4m3, 100, (a = shifted(a, 1), b = shifted(b, 3)), FG_OK, " "); /* FP8 is anywhere aligned */

  /* A type that is left out is e4m3, in which 0x38 is 1 and 0x30 is 0.5; in e5m2 they are 0.5 and 0.125. */
  const fg_type given[] = {FG_DEFAULT_TYPE, e4m3, e5m2};
  const float a_value[] = {1, 1, 0.5f}, b_value[] = {0.5f, 0.5f, 0.125f};
  fill_arena();
  for (int i = 0; i < 9; i++) {
    float result;
    cr_expect_eq(fg_mma(given[i / 3], at(AT_A), given[i % 3], at(AT_B), 1, 0, &result, NULL), FG_OK);
    cr_expect_eq(result, a_value[i / 3] * b_value[i % 3], "types %d and %d: %g", (int)given[i / 3], (int)given[i % 3],
                 (double)result);
  }
}

Test(errors, the_table) {
  cr_assert_eq(fg_context_create(&cpu, &(fg_context_options){.threads = 2}), FG_OK);
  for (enum kind kind = 0; kind < KINDS; kind++) ACCEPTED(kind, (void)0);
  for (enum conversion kind = QUANTIZE; kind <= CONVERT; kind++) CONVERTED(kind, (void)0);
  sizes_and_enumerators();
  pointers();
  strides();
  overlaps();
  scales();
  groups();
  value_and_bound();
  conversions();
  contexts();
  tensor_core();
  fg_context_destroy(cpu);
  for (unsigned status = 0; status < FG_OUT_OF_MEMORY; status++) /* which test_memory produces */
    cr_expect(seen_statuses >> status & 1, "no case gives %s", fg_status_name((fg_status)status));
  cr_expect_geq(cases, 250, "%d cases", cases);
  cr_log_info("%d refused cases", cases);
}

/* --- Names and messages */

Test(errors, every_status_has_a_name) {
  static const char *const names[] = {
      "FG_OK",           "FG_NULL_POINTER",  "FG_BAD_SIZE",     "FG_BAD_ENUM",   "FG_BAD_STRIDE",  "FG_MISALIGNED",
      "FG_OVERLAP",      "FG_BAD_SCALE",     "FG_BAD_GROUPS",   "FG_BAD_VALUE",  "FG_UNSUPPORTED", "FG_OUT_OF_MEMORY",
      "FG_DRIVER_ERROR", "FG_COMPILE_ERROR", "FG_NOT_PREPARED", "FG_BAD_MEMORY", "FG_BAD_PLAN"};
  for (int status = 0; status <= FG_BAD_PLAN; status++) cr_assert_str_eq(fg_status_name((fg_status)status), names[status]);
  cr_assert_str_eq(fg_status_name(NO_SUCH(fg_status, 17)), "unknown status");
  cr_assert_str_eq(fg_status_name(NO_SUCH(fg_status, -1)), "unknown status");
}

Test(errors, the_message_is_of_the_last_failure) {
  fg_context *context;
  cr_assert_str_eq(fg_message(), "", "none failed");
  cr_assert_eq(fg_context_create(&context, NULL), FG_OK);
  cr_assert_str_eq(fg_message(), "");
  cr_assert_eq(fg_gemm(context, &(fg_problem){.m = -3}), FG_BAD_SIZE);
  char first[512];
  snprintf(first, sizeof first, "%s", fg_message());
  cr_assert_eq(fg_gemm(context, &(fg_problem){.m = 0}), FG_OK);
  cr_assert_str_eq(fg_message(), first, "a call that succeeds leaves it");
  cr_assert_eq(fg_gemm(context, &(fg_problem){.m = 1, .n = 1, .k = -4}), FG_BAD_SIZE);
  cr_assert_str_neq(fg_message(), first);
  fg_context_destroy(context);
}

/* fg_prepare() follows no pointer: addresses where nothing is will do. */
Test(errors, prepare_follows_no_pointer) {
  fg_context *context;
  cr_assert_eq(fg_context_create(&context, NULL), FG_OK);
  static const fg_kind kinds[] = {FG_DENSE, FG_BATCHED, FG_GROUPED_ROWS, FG_MASKED, FG_GROUPED_K};
  for (int i = 0; i < 5; i++) {
#define NOWHERE(n) ((void *)((uintptr_t)(n) << 20))
    fg_problem problem = {.kind = kinds[i],
                          .m = 100,
                          .n = 100,
                          .k = 500,
                          .groups = 4,
                          .a = {.data = NOWHERE(1), .scale = NOWHERE(2)},
                          .b = {.data = NOWHERE(3), .scale = NOWHERE(4)},
                          .c = {.data = NOWHERE(5)},
                          .bias = {.data = NOWHERE(6)},
                          .d = {.data = NOWHERE(7)},
                          .group_values = NOWHERE(8)};
    cr_assert_eq(fg_prepare(context, &problem), FG_OK, "%s", fg_message());
  }
  fg_context_destroy(context);
}
