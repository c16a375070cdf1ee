/* fg_quantize(), fg_dequantize() and fg_convert() against their definitions written down a second time, over types, scalings,
 * layouts, ragged shapes, paths and threads: every byte of the outputs, the gaps too. */
#include "cpu.h"
#include "support.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const fg_type wide_types[] = {FG_BF16, FG_FP16, FG_FP32}, fp8_types[] = {FG_E4M3, FG_E5M2},
                     all_types[] = {FG_E4M3, FG_E5M2, FG_BF16, FG_FP16, FG_FP32};
#define PICK(state, table) ((table)[random_below(state, (int64_t)(sizeof(table) / sizeof *(table)))])

/* What is in the outputs before the call, and in all gaps: NaN in every type. */
enum { POISON = 0xFF, THREADS = 3 };

/* Matrices [groups, rows, cols] of elements or of scales, with whatever strides. */
struct array {
  int64_t groups, rows, cols, stride, ld;
  int64_t given_stride, given_ld; /* as the call gets them: perhaps 0 */
  size_t element_bytes;
  struct region region;
};

static int64_t array_index(const struct array *array, int64_t g, int64_t row, int64_t col) {
  return g * array->stride + row * array->ld + col;
}

/* `default_ld`: what ld 0 stands for, and how far apart packed matrices of one row lie, whatever ld says. One array in four is
 * packed, one in four has its matrices' rows interleaved. */
static struct array array_make(uint64_t *state, int64_t groups, int64_t rows, int64_t cols, int64_t default_ld,
                               size_t element_bytes) {
  struct array array = {.groups = groups, .rows = rows, .cols = cols, .element_bytes = element_bytes};
  int64_t kind = random_below(state, 4), gap = random_below(state, 20);
  array.ld = default_ld;
  if (kind > 0) array.given_ld = array.ld = cols + gap;
  array.stride = rows == 1 ? default_ld : rows * array.ld;
  if (kind == 2) array.given_stride = array.stride += random_below(state, 20);
  if (kind == 3) {
    array.given_stride = array.stride = cols + gap;
    array.given_ld = array.ld = groups * array.stride + random_below(state, 3);
  }
  bool empty = groups == 0 || rows == 0 || cols == 0;
  int64_t elements = empty ? 0 : array_index(&array, groups - 1, rows - 1, cols);
  array.region = region_make((size_t)elements * element_bytes, random_below(state, 2) == 0);
  if (elements) memset(array.region.data, POISON, array.region.bytes);
  return array;
}

/* A quantisation: x -> q and scales. */
struct spec_q {
  uint64_t seed;
  int64_t rows, cols, groups;
  fg_type x_type, q_type;
  fg_scaling scaling;
  fg_scale_layout layout;
  bool ue8m0;
  int values;
};

struct case_q {
  struct spec_q spec;
  struct array x, q, scale; /* scale's rows and columns as they lie in memory */
  fg_conversion call;
};

static void describe(const struct spec_q *spec, const char *what) {
  cr_log_error("FG_SEED=%llu: %s: x type %d [%lld, %lld, %lld] to type %d, scaling %d, layout %d, UE8M0 %d, values %d",
               (unsigned long long)spec->seed, what, spec->x_type, (long long)spec->groups, (long long)spec->rows,
               (long long)spec->cols, spec->q_type, spec->scaling, spec->layout, spec->ue8m0, spec->values);
}

enum {
  NORMAL_VALUES,
  ZERO_VALUES,
  SUBNORMAL_VALUES,
  HUGE_VALUES,
  POWER_OF_TWO,
  NEGATIVE_VALUES,
  ONE_OUTLIER,
  TIES,
  ANY_FINITE,
  VALUES
};

static double pick_value(uint64_t *state, int values, fg_type type) {
  double uniform = (double)(next_random(state) >> 11) * 0x1p-53, sign = next_random(state) >> 63 ? -1 : 1;
  double largest = decode(type, type == FG_FP16 ? 0x7BFF : type == FG_BF16 ? 0x7F7F : 0x7F7FFFFF);
  switch (values) {
  case ZERO_VALUES:
    return sign * 0.0;
  case SUBNORMAL_VALUES:
    return sign * uniform * decode(type, type == FG_FP16 ? 0x400 : type == FG_BF16 ? 0x80 : 0x800000);
  case HUGE_VALUES:
    return sign * largest * (uniform > 0.9 ? 1 : uniform);
  case POWER_OF_TWO:
    return sign * ldexp(uniform > 0.9 ? 1 : uniform, -3);
  case NEGATIVE_VALUES:
    return -uniform;
  case ONE_OUTLIER:
    return random_below(state, 128) ? sign * uniform * 1e-3 : sign * 60000;
  case TIES:
    return sign * (double)random_below(state, 449) * 0.0625; /* with a scale that is a power of two, many of them */
  case ANY_FINITE:
    return sign * ldexp(uniform, (int)random_below(state, type == FG_FP16 ? 30 : 240) - (type == FG_FP16 ? 15 : 120));
  default:
    return sign * (uniform + 0.01) * (uniform + 0.01) * 3;
  }
}

/* Scales of a matrix [rows, cols]: how many, and which belongs to an element. */
static int64_t up(int64_t count, int64_t by) { return (count + by - 1) / by; }
static int64_t scale_row(fg_scaling scaling, int64_t row) {
  return scaling == FG_1X128 ? row : scaling == FG_128X128 ? row / 128 : 0;
}
static int64_t scale_col(fg_scaling scaling, int64_t col) { return scaling == FG_TENSOR ? 0 : col / 128; }

static int64_t scale_index(const struct case_q *made, int64_t g, int64_t row, int64_t col) {
  int64_t r = scale_row(made->spec.scaling, row), c = scale_col(made->spec.scaling, col);
  bool transposed = made->spec.layout == FG_ROWS_CONTIGUOUS && made->spec.scaling != FG_TENSOR;
  return transposed ? array_index(&made->scale, g, c, r) : array_index(&made->scale, g, r, c);
}

static struct spec_q spec_of(uint64_t seed) {
  static const int64_t rows[] = {1, 2, 3, 5, 127, 128, 129, 150, 300},
                       cols[] = {1, 2, 31, 64, 127, 128, 129, 200, 256, 300, 513, 1100};
  static const fg_scaling scalings[] = {FG_1X128, FG_128X128, FG_TENSOR};
  uint64_t state = seed;
  next_random(&state);
  struct spec_q spec = {
      .seed = seed, .rows = PICK(&state, rows), .cols = PICK(&state, cols), .groups = 1 + 2 * (random_below(&state, 4) == 0)};
  spec.x_type = PICK(&state, wide_types);
  spec.q_type = PICK(&state, fp8_types);
  spec.scaling = PICK(&state, scalings);
  spec.layout = random_below(&state, 2) ? FG_ROWS_CONTIGUOUS : FG_BLOCKS_CONTIGUOUS;
  spec.ue8m0 = random_below(&state, 3) == 0;
  spec.values = (int)random_below(&state, VALUES);
  if (spec.rows * spec.cols > 40000 && random_below(&state, 4)) spec.rows = 3;
  return spec;
}

static struct case_q case_make(const struct spec_q *spec) {
  uint64_t state = spec->seed ^ 0x5EED;
  struct case_q made = {.spec = *spec};
  int64_t scale_rows = spec->rows ? scale_row(spec->scaling, spec->rows - 1) + 1 : 0;
  int64_t scale_cols = spec->cols ? scale_col(spec->scaling, spec->cols - 1) + 1 : 0;
  bool transposed = spec->layout == FG_ROWS_CONTIGUOUS && spec->scaling != FG_TENSOR;
  made.x = array_make(&state, spec->groups, spec->rows, spec->cols, spec->cols, bytes_of(spec->x_type));
  made.q = array_make(&state, spec->groups, spec->rows, spec->cols, spec->cols, 1);
  made.scale = transposed ? array_make(&state, spec->groups, scale_cols, scale_rows, up(scale_rows, 4) * 4, sizeof(float))
                          : array_make(&state, spec->groups, scale_rows, scale_cols, scale_cols, sizeof(float));
  for (int64_t g = 0; g < spec->groups; g++)
    for (int64_t row = 0; row < spec->rows; row++)
      for (int64_t col = 0; col < spec->cols; col++)
        write_bits(spec->x_type, made.x.region.data, array_index(&made.x, g, row, col),
                   encode(spec->x_type, pick_value(&state, spec->values, spec->x_type)));
  /* Zero where zero means the same, half of the time. */
  bool defaults = random_below(&state, 2);
  made.call = (fg_conversion){.rows = spec->rows,
                              .cols = spec->cols,
                              .groups = defaults && spec->groups == 1 ? 0 : spec->groups,
                              .from = {.data = made.x.region.data,
                                       .type = defaults && spec->x_type == FG_FP32 ? FG_DEFAULT_TYPE : spec->x_type,
                                       .ld = made.x.given_ld,
                                       .stride = made.x.given_stride},
                              .to = {.data = made.q.region.data,
                                     .scale = (float *)(void *)made.scale.region.data,
                                     .type = defaults && spec->q_type == FG_E4M3 ? FG_DEFAULT_TYPE : spec->q_type,
                                     .scaling = defaults && spec->scaling == FG_1X128 ? FG_DEFAULT_SCALING : spec->scaling,
                                     .ld = made.q.given_ld,
                                     .stride = made.q.given_stride,
                                     .scale_ld = made.scale.given_ld,
                                     .scale_stride = made.scale.given_stride,
                                     .scale_layout = spec->layout},
                              .flags = spec->ue8m0 ? FG_UE8M0 : 0};
  return made;
}

static void case_free(struct case_q *made) {
  region_free(&made->x.region);
  region_free(&made->q.region);
  region_free(&made->scale.region);
}

static float defined_scale(const struct spec_q *spec, float amax) {
  float scale = fmaxf(amax, 1e-4f) / (spec->q_type == FG_E4M3 ? 448.0f : 57344.0f);
  if (!spec->ue8m0) return scale;
  float power = 0x1p-126f;
  while (power < scale) power *= 2;
  return power;
}

/* The outputs as the definition wants them, gaps included. */
static void define(const struct case_q *made, unsigned char *q, float *scale) {
  const struct spec_q *spec = &made->spec;
  memset(q, POISON, made->q.region.bytes);
  memset(scale, 0, made->scale.region.bytes); /* amax, for now */
  for (int pass = 0; pass < 2; pass++)
    for (int64_t g = 0; g < spec->groups; g++)
      for (int64_t row = 0; row < spec->rows; row++)
        for (int64_t col = 0; col < spec->cols; col++) {
          float x = (float)decode(spec->x_type, read_bits(spec->x_type, made->x.region.data, array_index(&made->x, g, row, col)));
          float *amax = &scale[scale_index(made, g, row, col)];
          if (pass == 0) {
            *amax = fmaxf(*amax, fabsf(x));
            continue;
          }
          float inverse = 1.0f / defined_scale(spec, *amax);
          q[array_index(&made->q, g, row, col)] = (unsigned char)encode(spec->q_type, (double)(x * inverse));
        }
  float *amax = malloc(made->scale.region.bytes);
  memcpy(amax, scale, made->scale.region.bytes);
  memset(scale, POISON, made->scale.region.bytes);
  for (int64_t g = 0; g < spec->groups; g++)
    for (int64_t row = 0; row < spec->rows; row++)
      for (int64_t col = 0; col < spec->cols; col++) {
        int64_t index = scale_index(made, g, row, col);
        scale[index] = defined_scale(spec, amax[index]);
      }
  free(amax);
}

static fg_context *contexts[2];

static void make_contexts(void) {
  cr_assert_eq(fg_context_create(&contexts[0], &(fg_context_options){.threads = 1}), FG_OK);
  cr_assert_eq(fg_context_create(&contexts[1], &(fg_context_options){.threads = THREADS}), FG_OK);
}

static void destroy_contexts(void) {
  for (int i = 0; i < 2; i++) fg_context_destroy(contexts[i]);
}

TestSuite(quantise, .init = make_contexts, .fini = destroy_contexts);

/* Every path on one thread and on several; returns how many differ. */
static int compare_with_definition(struct case_q *made) {
  unsigned char *q = malloc(made->q.region.bytes + 1);
  float *scale = malloc(made->scale.region.bytes + 1);
  int different = 0;
  define(made, q, scale);
  region_protect(&made->x.region);
  for (int isa = FG_ISA_PLAIN; isa <= FG_ISA_AVX512; isa++)
    for (int i = 0; i < 2 && fg_set_isa((enum fg_isa)isa); i++) {
      memset(made->q.region.data, POISON, made->q.region.bytes);
      memset(made->scale.region.data, POISON, made->scale.region.bytes);
      fg_status status = fg_quantize(contexts[i], &made->call);
      const char *what = status != FG_OK                                                         ? fg_message()
                         : memcmp(made->q.region.data, q, made->q.region.bytes) != 0             ? "codes differ"
                         : memcmp(made->scale.region.data, scale, made->scale.region.bytes) != 0 ? "scales differ"
                                                                                                 : NULL;
      if (!what) continue;
      char text[300];
      snprintf(text, sizeof text, "%s, %s", fg_isa_name((enum fg_isa)isa), what);
      describe(&made->spec, text);
      different++;
    }
  free(q);
  free(scale);
  return different;
}

Test(quantise, gives_the_bits_of_the_definition) {
  int different = 0;
  for (uint64_t seed = 1; different < 5 && walk_on(&seed, 1, 800); seed++) {
    struct spec_q spec = spec_of(seed);
    struct case_q made = case_make(&spec);
    different += compare_with_definition(&made);
    case_free(&made);
  }
  cr_assert_eq(different, 0);
}

/* Long rows and many rows, so that threads share them. */
Test(quantise, gives_the_same_bits_however_many_threads_share_the_work) {
  static const int64_t shapes[][2] = {{1, 300000}, {2, 100100}, {700, 385}, {385, 700}};
  int different = 0;
  for (int shape = 0; shape < 4; shape++)
    for (int scaling = FG_1X128; scaling <= FG_TENSOR; scaling++) {
      struct spec_q spec = {.seed = (uint64_t)(10 * shape + scaling),
                            .rows = shapes[shape][0],
                            .cols = shapes[shape][1],
                            .groups = 1,
                            .x_type = wide_types[(shape + scaling) % 3],
                            .q_type = fp8_types[scaling % 2],
                            .scaling = (fg_scaling)scaling,
                            .values = NORMAL_VALUES};
      struct case_q made = case_make(&spec);
      different += compare_with_definition(&made);
      case_free(&made);
    }
  cr_assert_eq(different, 0);
}

/* Groups whose scale and codes are known without computing. */
Test(quantise, gives_what_one_can_work_out_by_hand) {
  static const struct {
    float x, scale, ue8m0;
    int code, ue8m0_code;
  } groups[] = {
      {448, 1, 1, 0x7E, 0x7E},                  /* the largest value as it is */
      {-224, 0.5f, 0.5f, 0xFE, 0xFE},           /* and its half */
      {0, 1e-4f / 448, 0x1p-22f, 0, 0},         /* nothing: the smallest scale there is */
      {1, 1 / 448.0f, 0x1p-8f, 0x7E, 0x78},     /* 2^-8 is the power of two above 1/448: 1 becomes 256 */
      {0x1p-149f, 1e-4f / 448, 0x1p-22f, 0, 0}, /* far below the smallest scale */
      {-1e-4f, 1e-4f / 448, 0x1p-22f, 0xFE, 0xFD},
  };
  for (int isa = FG_ISA_PLAIN; isa <= FG_ISA_AVX512; isa++)
    for (int ue8m0 = 0; ue8m0 < 2 && fg_set_isa((enum fg_isa)isa); ue8m0++)
      for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        float x[128] = {[77] = groups[i].x}, scale = -1;
        uint8_t q[128];
        fg_conversion call = {
            .rows = 1, .cols = 128, .from = {.data = x}, .to = {.data = q, .scale = &scale}, .flags = ue8m0 ? FG_UE8M0 : 0};
        cr_assert_eq(fg_quantize(contexts[0], &call), FG_OK, "%s", fg_message());
        cr_assert_eq(scale, ue8m0 ? groups[i].ue8m0 : groups[i].scale, "%zu: %a", i, (double)scale);
        cr_assert_eq(q[77], ue8m0 ? groups[i].ue8m0_code : groups[i].code, "%zu: 0x%02X", i, q[77]);
        for (int j = 0; j < 128; j++) cr_assert(j == 77 || q[j] == 0);
      }
}

/* --- NaN and infinity */

static const struct {
  fg_type type;
  uint32_t bits;
  const char *name;
} not_finite[] = {
    {FG_BF16, 0x7FC0, "NaN"},          {FG_BF16, 0x7F81, "NaN"},           {FG_BF16, 0xFFFF, "NaN"},
    {FG_BF16, 0x7F80, "infinity"},     {FG_BF16, 0xFF80, "-infinity"},     {FG_FP16, 0x7E00, "NaN"},
    {FG_FP16, 0xFC01, "NaN"},          {FG_FP16, 0x7C00, "infinity"},      {FG_FP16, 0xFC00, "-infinity"},
    {FG_FP32, 0x7FC00000, "NaN"},      {FG_FP32, 0x7F800001, "NaN"},       {FG_FP32, 0xFFFFFFFF, "NaN"},
    {FG_FP32, 0x7F800000, "infinity"}, {FG_FP32, 0xFF800000, "-infinity"},
};

static bool all_poison(const struct region *region) {
  for (size_t i = 0; i < region->bytes; i++)
    if (region->data[i] != POISON) return false;
  return true;
}

Test(quantise, refuses_nan_and_infinity_anywhere_and_writes_nothing) {
  static const int64_t shapes[][2] = {{1, 1}, {3, 130}, {129, 300}, {2, 40000}};
  for (size_t i = 0; i < sizeof not_finite / sizeof *not_finite; i++)
    for (int shape = 0; shape < 4; shape++)
      for (int place = 0; place < 4; place++) {
        struct spec_q spec = {.seed = 16 * i + (size_t)(4 * shape + place),
                              .rows = shapes[shape][0],
                              .cols = shapes[shape][1],
                              .groups = place % 2 ? 3 : 1,
                              .x_type = not_finite[i].type,
                              .q_type = fp8_types[place % 2],
                              .scaling = (fg_scaling)(FG_1X128 + (int)(i + (size_t)place) % 3)};
        struct case_q made = case_make(&spec);
        uint64_t state = spec.seed;
        int64_t g = place == 0 ? 0 : random_below(&state, spec.groups), row = place == 0 ? 0 : random_below(&state, spec.rows);
        int64_t col = place == 0 ? 0 : place == 3 ? spec.cols - 1 : random_below(&state, spec.cols);
        write_bits(spec.x_type, made.x.region.data, array_index(&made.x, g, row, col), not_finite[i].bits);
        /* A second one behind it, of another kind: the first is to be named. */
        size_t other = (i + 1) % 14;
        if (not_finite[other].type == spec.x_type && row + 1 < spec.rows)
          write_bits(spec.x_type, made.x.region.data, array_index(&made.x, g, spec.rows - 1, 0), not_finite[other].bits);
        char wanted[120];
        int length =
            snprintf(wanted, sizeof wanted, "from is %s at [%lld, %lld]", not_finite[i].name, (long long)row, (long long)col);
        if (spec.groups > 1) snprintf(wanted + length, sizeof wanted - (size_t)length, " of matrix %lld;", (long long)g);
        for (int isa = FG_ISA_PLAIN; isa <= FG_ISA_AVX512; isa++)
          for (int threads = 0; threads < 2 && fg_set_isa((enum fg_isa)isa); threads++) {
            cr_assert_eq(fg_quantize(contexts[threads], &made.call), FG_BAD_VALUE);
            cr_assert_not_null(strstr(fg_message(), wanted), "\"%s\" does not say \"%s\"", fg_message(), wanted);
            cr_assert(all_poison(&made.q.region));
            cr_assert(all_poison(&made.scale.region));
          }
        case_free(&made);
      }
}

/* What lies between the rows is NaN in every test above; here, that it is not even a reason to refuse is said aloud. */
Test(quantise, looks_at_elements_only) {
  float x[2][200], scale[4];
  uint8_t q[260];
  memset(x, POISON, sizeof x);
  for (int row = 0; row < 2; row++)
    for (int col = 0; col < 130; col++) x[row][col] = (float)(row + col);
  fg_conversion call = {.rows = 2, .cols = 130, .from = {.data = x, .ld = 200}, .to = {.data = q, .scale = scale}};
  cr_assert_eq(fg_quantize(contexts[0], &call), FG_OK, "%s", fg_message());
}

Test(quantise, has_nothing_to_do_without_elements) {
  static const int64_t shapes[][2] = {{0, 0}, {0, 128}, {128, 0}};
  for (int shape = 0; shape < 3; shape++)
    for (int64_t groups = 0; groups < 3; groups++) {
      fg_conversion call = {.rows = shapes[shape][0], .cols = shapes[shape][1], .groups = groups};
      cr_assert_eq(fg_quantize(contexts[0], &call), FG_OK, "%s", fg_message());
      cr_assert_eq(fg_dequantize(contexts[0], &call), FG_OK, "%s", fg_message());
      cr_assert_eq(fg_convert(contexts[0], &call), FG_OK, "%s", fg_message());
    }
}

/* --- Back, and across */

/* Runs the call on every path and compares all bytes of `to`. */
static int compare_results(fg_status (*function)(fg_context *, const fg_conversion *), const fg_conversion *call,
                           struct region *to, const unsigned char *expected) {
  int different = 0;
  for (int isa = FG_ISA_PLAIN; isa <= FG_ISA_AVX512; isa++)
    for (int i = 0; i < 2 && fg_set_isa((enum fg_isa)isa); i++) {
      memset(to->data, POISON, to->bytes);
      cr_assert_eq(function(contexts[i], call), FG_OK, "%s", fg_message());
      if (memcmp(to->data, expected, to->bytes) == 0) continue;
      cr_log_error("%s differs from the definition", fg_isa_name((enum fg_isa)isa));
      different++;
    }
  return different;
}

Test(quantise, dequantises_by_the_definition) {
  int different = 0;
  for (uint64_t seed = 1; different < 5 && walk_on(&seed, 1, 400); seed++) {
    struct spec_q spec = spec_of(seed);
    uint64_t state = ~seed;
    spec.rows = spec.rows > 150 ? 150 : spec.rows;
    struct case_q made = case_make(&spec);
    fg_type to_type = PICK(&state, wide_types);
    struct array to = array_make(&state, spec.groups, spec.rows, spec.cols, spec.cols, bytes_of(to_type));
    /* Any code, and scales of any size; some are no numbers. */
    for (int64_t g = 0; g < spec.groups; g++)
      for (int64_t row = 0; row < spec.rows; row++)
        for (int64_t col = 0; col < spec.cols; col++) {
          made.q.region.data[array_index(&made.q, g, row, col)] = (unsigned char)next_random(&state);
          uint32_t scale = (uint32_t)next_random(&state);
          if (random_below(&state, 3)) scale = (scale & 0x807FFFFF) | (uint32_t)(random_below(&state, 40) + 107) << 23;
          memcpy(made.scale.region.data + 4 * scale_index(&made, g, row, col), &scale, 4);
        }
    unsigned char *expected = malloc(to.region.bytes);
    memset(expected, POISON, to.region.bytes);
    for (int64_t g = 0; g < spec.groups; g++)
      for (int64_t row = 0; row < spec.rows; row++)
        for (int64_t col = 0; col < spec.cols; col++) {
          float scale;
          memcpy(&scale, made.scale.region.data + 4 * scale_index(&made, g, row, col), 4);
          float value = (float)decode(spec.q_type, made.q.region.data[array_index(&made.q, g, row, col)]) * scale;
          write_bits(to_type, expected, array_index(&to, g, row, col), encode(to_type, (double)value));
        }
    fg_conversion call = {.rows = spec.rows,
                          .cols = spec.cols,
                          .groups = spec.groups,
                          .from = {.data = made.q.region.data,
                                   .scale = (const float *)(const void *)made.scale.region.data,
                                   .type = spec.q_type,
                                   .scaling = spec.scaling,
                                   .ld = made.q.given_ld,
                                   .stride = made.q.given_stride,
                                   .scale_ld = made.scale.given_ld,
                                   .scale_stride = made.scale.given_stride,
                                   .scale_layout = spec.layout},
                          .to = {.data = to.region.data, .type = to_type, .ld = to.given_ld, .stride = to.given_stride}};
    region_protect(&made.q.region);
    region_protect(&made.scale.region);
    int before = different;
    different += compare_results(fg_dequantize, &call, &to.region, expected);
    if (different > before) describe(&spec, "dequantised");
    free(expected);
    region_free(&to.region);
    case_free(&made);
  }
  cr_assert_eq(different, 0);
}

Test(quantise, converts_any_type_into_any_type) {
  static const int64_t shapes[][2] = {{1, 1}, {3, 70}, {2, 1025}, {40, 3000}};
  uint64_t state = 4;
  int different = 0;
  for (int from_at = 0; from_at < 5; from_at++)
    for (int to_at = 0; to_at < 5; to_at++)
      for (int shape = 0; shape < 4; shape++) {
        fg_type from_type = all_types[from_at], to_type = all_types[to_at];
        int64_t rows = shapes[shape][0], cols = shapes[shape][1], groups = 1 + shape % 3;
        struct array from = array_make(&state, groups, rows, cols, cols, bytes_of(from_type));
        struct array to = array_make(&state, groups, rows, cols, cols, bytes_of(to_type));
        unsigned char *expected = malloc(to.region.bytes);
        memset(expected, POISON, to.region.bytes);
        for (int64_t g = 0; g < groups; g++)
          for (int64_t row = 0; row < rows; row++)
            for (int64_t col = 0; col < cols; col++) {
              uint32_t bits = (uint32_t)next_random(&state); /* half of FP32 in the range of the narrow types */
              if (from_type == FG_FP32 && bits & 1) bits = (bits & 0x80FFFFFF) | 0x33000000 | (bits >> 3 & 0x0F000000);
              if (from_type != FG_FP32) bits &= bytes_of(from_type) == 1 ? 0xFF : 0xFFFF;
              write_bits(from_type, from.region.data, array_index(&from, g, row, col), bits);
              write_bits(to_type, expected, array_index(&to, g, row, col), encode(to_type, decode(from_type, bits)));
            }
        fg_conversion call = {
            .rows = rows,
            .cols = cols,
            .groups = groups,
            .from = {.data = from.region.data, .type = from_type, .ld = from.given_ld, .stride = from.given_stride},
            .to = {.data = to.region.data, .type = to_type, .ld = to.given_ld, .stride = to.given_stride}};
        region_protect(&from.region);
        int now = compare_results(fg_convert, &call, &to.region, expected);
        if (now) cr_log_error("from type %d to type %d", from_type, to_type);
        different += now;
        free(expected);
        region_free(&from.region);
        region_free(&to.region);
      }
  cr_assert_eq(different, 0);
}
