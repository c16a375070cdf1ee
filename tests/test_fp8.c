/* The number formats: every code, every rounding boundary, and every vector path, against values computed another way. */
#include "cpu.h"
#include "path.h"
#include "support.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static const fg_type types[] = {FG_E4M3, FG_E5M2, FG_BF16, FG_FP16, FG_FP32};
enum { TYPES = sizeof types / sizeof *types, NARROW = TYPES - 1, PATHS = 3 };

/* The paths that this machine has, and how many they are; plain is the first. */
static int available_paths(const struct fg_path *paths[PATHS]) {
  int count = 0;
  for (int isa = FG_ISA_PLAIN; isa <= FG_ISA_AVX512; isa++)
    if (fg_set_isa((enum fg_isa)isa)) paths[count++] = fg_path();
  return count;
}

static float float_of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* The bits of the FP32 that a code stands for: its value by ldexp(), NaN the canonical one. */
static uint32_t expected_value(fg_type type, uint32_t code) {
  double value = decode(type, code);
  return isnan(value) ? 0x7FFFFFFFu : bits_of_float((float)value);
}

/* --- To FP32 */

Test(fp8, every_code_has_its_value) {
  for (uint32_t code = 0; code < 256; code++) {
    cr_assert_eq(bits_of_float(fg_e4m3_to_float((uint8_t)code)), expected_value(FG_E4M3, code), "E4M3 0x%02X", code);
    cr_assert_eq(bits_of_float(fg_e5m2_to_float((uint8_t)code)), expected_value(FG_E5M2, code), "E5M2 0x%02X", code);
    cr_assert_eq(bits_of_float(fg_fp8_table(FG_E4M3)[code]), expected_value(FG_E4M3, code), "E4M3 0x%02X", code);
    cr_assert_eq(bits_of_float(fg_fp8_table(FG_E5M2)[code]), expected_value(FG_E5M2, code), "E5M2 0x%02X", code);
  }
  for (uint32_t code = 0; code < 65536; code++) {
    cr_assert_eq(bits_of_float(fg_bf16_to_float((uint16_t)code)), expected_value(FG_BF16, code), "BF16 0x%04X", code);
    cr_assert_eq(bits_of_float(fg_fp16_to_float((uint16_t)code)), expected_value(FG_FP16, code), "FP16 0x%04X", code);
  }
  const float landmarks[] = {fg_e4m3_to_float(0x7E), fg_e4m3_to_float(0x01), fg_e5m2_to_float(0x7B), fg_e5m2_to_float(0xFC),
                             fg_fp16_to_float(0x7BFF)};
  cr_assert_arr_eq(landmarks, ((float[]){448, 0x1p-9f, 57344, -INFINITY, 65504}), sizeof landmarks);
  const size_t bytes[] = {fg_type_bytes(FG_DEFAULT_TYPE), fg_type_bytes(FG_E4M3), fg_type_bytes(FG_E5M2),
                          fg_type_bytes(FG_BF16),         fg_type_bytes(FG_FP16), fg_type_bytes(FG_FP32),
                          fg_type_bytes((fg_type)6)};
  cr_assert_arr_eq(bytes, ((size_t[]){0, 1, 1, 2, 2, 4, 0}), sizeof bytes);
}

Test(fp8, every_path_reads_every_code_and_writes_it_back) {
  static uint16_t codes16[65536], back16[65536];
  static uint8_t codes8[65536], back8[65536];
  static float values[65536];
  for (int i = 0; i < 65536; i++) {
    codes16[i] = (uint16_t)i;
    codes8[i] = (uint8_t)i;
  }
  const struct fg_path *paths[PATHS];
  for (int p = 0, count = available_paths(paths); p < count; p++)
    for (int t = 0; t < NARROW; t++) {
      bool narrow8 = bytes_of(types[t]) == 1;
      void *back = narrow8 ? (void *)back8 : back16;
      paths[p]->to_float(types[t], narrow8 ? (const void *)codes8 : codes16, values, 65536);
      paths[p]->from_float(types[t], values, back, 65536);
      for (uint32_t i = 0; i < 65536; i++) {
        uint32_t code = narrow8 ? i & 0xFF : i, wanted = expected_value(types[t], code);
        cr_assert_eq(bits_of_float(values[i]), wanted, "path %d, type %d, code 0x%X", p, types[t], code);
        double value = decode(types[t], code);
        if (isnan(value))
          code = narrow8 ? 0x7F : 0x7FFF;
        else if (isinf(value) && narrow8) /* of E5M2: comes back saturated */
          code--;
        cr_assert_eq(read_bits(types[t], back, i), code, "path %d, type %d, code 0x%X", p, types[t], i);
      }
    }
}

/* --- From FP32: the nearest value of the table, and if two are equally near the one with the even code */

struct table {
  fg_type type;
  uint32_t codes;   /* those that a value can become: 0, 1, ... of positive sign */
  double *boundary; /* [codes - 1] halfway between neighbours */
};

/* FP16 and BF16 also become infinity, as if its code were one more power of two. */
static struct table table_make(fg_type type) {
  uint32_t largest = type == FG_E4M3 ? 0x7E : type == FG_E5M2 ? 0x7B : type == FG_BF16 ? 0x7F7F : 0x7BFF;
  bool overflows = type == FG_BF16 || type == FG_FP16;
  struct table table = {type, largest + 1 + overflows, malloc((largest + 1) * sizeof(double))};
  for (uint32_t code = 0; code < largest; code++) table.boundary[code] = (decode(type, code) + decode(type, code + 1)) / 2;
  double step = decode(type, largest) - decode(type, largest - 1);
  if (overflows) table.boundary[largest] = decode(type, largest) + step / 2;
  return table;
}

static bool rounds_up(const struct table *table, uint32_t code, double magnitude) {
  double boundary = table->boundary[code];
  return magnitude > boundary || (magnitude == boundary && code % 2 == 1);
}

/* Codes of `count` values of one sign and ascending magnitude. */
static void nearest_codes(const struct table *table, const float *x, void *codes, int64_t count) {
  uint32_t code = 0, above = table->codes - 1, top = bytes_of(table->type) == 1 ? 0x80 : 0x8000;
  for (uint32_t middle; code < above;) { /* the first one by bisection */
    middle = (code + above) / 2;
    if (rounds_up(table, middle, fabs((double)x[0])))
      code = middle + 1;
    else
      above = middle;
  }
  for (int64_t i = 0; i < count; i++) {
    while (code < table->codes - 1 && rounds_up(table, code, fabs((double)x[i]))) code++;
    write_bits(table->type, codes, i, isnan(x[i]) ? top - 1 : signbit(x[i]) ? top | code : code);
  }
}

enum { CHUNK = 4096 };

/* Compares every path on one chunk of ascending magnitudes; returns how many (path, type) differ. */
static int compare_chunk(const struct table tables[NARROW], const struct fg_path *const *paths, int path_count, const float *x,
                         int64_t count) {
  int different = 0;
  uint16_t expected[CHUNK], codes[CHUNK];
  for (int t = 0; t < NARROW; t++) {
    size_t bytes = (size_t)count * bytes_of(tables[t].type);
    nearest_codes(&tables[t], x, expected, count);
    for (int p = 0; p < path_count; p++) {
      paths[p]->from_float(tables[t].type, x, codes, count);
      if (memcmp(codes, expected, bytes) == 0) continue;
      int64_t i = 0;
      while (read_bits(tables[t].type, codes, i) == read_bits(tables[t].type, expected, i)) i++;
      cr_log_error("path %d, type %d: %a (0x%08X) became 0x%X instead of 0x%X", p, tables[t].type, (double)x[i],
                   bits_of_float(x[i]), read_bits(tables[t].type, codes, i), read_bits(tables[t].type, expected, i));
      different++;
    }
  }
  return different;
}

Test(fp8, every_boundary_rounds_to_the_nearest_code_and_ties_to_even) {
  const struct fg_path *paths[PATHS];
  int path_count = available_paths(paths), different = 0;
  struct table tables[NARROW];
  for (int t = 0; t < NARROW; t++) tables[t] = table_make(types[t]);
  for (int t = 0; t < NARROW; t++)
    for (uint32_t code = 0; code + 1 < tables[t].codes; code++) {
      /* A value and the boundary above it, each with its neighbours in FP32; both signs. */
      float value = (float)decode(types[t], code), boundary = (float)tables[t].boundary[code];
      cr_assert_eq((double)boundary, tables[t].boundary[code]);
      float x[12];
      for (int side = -1; side <= 1; side++) {
        uint32_t at = bits_of_float(value) + (uint32_t)side, halfway = bits_of_float(boundary) + (uint32_t)side;
        x[side + 1] = float_of_bits(side < 0 && code == 0 ? 0 : at);
        x[side + 4] = float_of_bits(halfway);
        x[side + 7] = -x[side + 1];
        x[side + 10] = -x[side + 4];
      }
      different += compare_chunk(tables, paths, path_count, x, 6) + compare_chunk(tables, paths, path_count, x + 6, 6);
    }
  cr_assert_eq(different, 0);
  for (int t = 0; t < NARROW; t++) free(tables[t].boundary);
}

/* All floats with FG_EXHAUSTIVE=1 in the environment, else every 257th; infinity and NaN of all kinds among them. */
Test(fp8, every_float_becomes_the_nearest_code) {
  const char *exhaustive = getenv("FG_EXHAUSTIVE");
  uint64_t stride = exhaustive && strcmp(exhaustive, "1") == 0 ? 1 : 257, floats = (((uint64_t)1 << 31) + stride - 1) / stride;
  const struct fg_path *paths[PATHS];
  int path_count = available_paths(paths), different = 0;
  struct table tables[NARROW];
  for (int t = 0; t < NARROW; t++) tables[t] = table_make(types[t]);
#pragma omp parallel for schedule(dynamic, 16) reduction(+ : different)
  for (uint64_t first = 0; first < floats; first += CHUNK) {
    float x[CHUNK];
    int64_t count = floats - first < CHUNK ? (int64_t)(floats - first) : CHUNK;
    for (uint32_t sign = 0; sign < 2; sign++) {
      for (int64_t i = 0; i < count; i++) x[i] = float_of_bits(sign << 31 | (uint32_t)((first + (uint64_t)i) * stride));
      if (different < 10) different += compare_chunk(tables, paths, path_count, x, count);
    }
  }
  cr_assert_eq(different, 0);
  for (int t = 0; t < NARROW; t++) free(tables[t].boundary);
}

/* --- The array functions at every length, wherever the arrays begin and end */

enum { LONGEST = 140, FRAME = 64 };

static float random_float(uint64_t *state, bool finite) {
  for (;;) {
    uint64_t random = next_random(state);
    /* Half of them where the FP8 types round, half of any exponent. */
    float x = random >> 63 ? float_of_bits((uint32_t)random) : ldexpf((float)(int32_t)random, (int)(random >> 40 & 31) - 56);
    if (!finite || isfinite(x)) return x;
  }
}

/* One function of a path, its arguments chosen: reads `count` elements, writes `count` elements or one number. */
struct function {
  enum { TO_FLOAT, FROM_FLOAT, SCALE_TO_FLOAT, MAX_MAGNITUDE, ENCODE } which;
  fg_type from, to;
  float factor;
};

static void call(const struct fg_path *path, const struct function *function, const void *from, void *to, int64_t count) {
  switch (function->which) {
  case TO_FLOAT:
    path->to_float(function->from, from, to, count);
    break;
  case FROM_FLOAT:
    path->from_float(function->to, from, to, count);
    break;
  case SCALE_TO_FLOAT:
    path->fp8_scale_to_float(function->from, from, function->factor, to, count);
    break;
  case ENCODE:
    path->encode(function->from, from, function->factor, function->to, to, count);
    break;
  case MAX_MAGNITUDE: {
    uint32_t max = path->max_magnitude(function->from, from, count);
    memcpy(to, &max, sizeof max);
  }
  }
}

static void fill(const struct function *function, void *from, int64_t count, uint64_t *state) {
  for (int64_t i = 0; i < count; i++)
    if (function->which == ENCODE) /* the product must round to what FP8 holds */
      write_bits(function->from, from, i, encode(function->from, (double)(random_below(state, 20001) - 10000) * 0x1p-9));
    else if (function->which == SCALE_TO_FLOAT)
      write_bits(function->from, from, i, (uint32_t)random_below(state, 0x7C) | (uint32_t)random_below(state, 2) << 7);
    else if (function->from == FG_FP32)
      write_bits(FG_FP32, from, i, bits_of_float(random_float(state, false)));
    else
      write_bits(function->from, from, i, (uint32_t)next_random(state) & (bytes_of(function->from) == 1 ? 0xFF : 0xFFFF));
}

static void check_lengths(const struct fg_path *path, const struct function *function, uint64_t *state) {
  const struct fg_path *plain = &fg_path_plain;
  size_t to_size = function->which == MAX_MAGNITUDE ? sizeof(uint32_t) : bytes_of(function->to);
  for (int64_t count = 0; count <= LONGEST; count++)
    for (int at_end = 0; at_end < 2; at_end++) {
      int64_t written = function->which == MAX_MAGNITUDE ? 1 : count;
      struct region from = region_make((size_t)count * bytes_of(function->from), at_end);
      struct region to = region_make((size_t)written * to_size + FRAME, at_end);
      unsigned char expected[(LONGEST + FRAME) * sizeof(float)];
      fill(function, from.data, count, state);
      region_protect(&from);
      /* The frame lies before what ends at a page's end and behind what begins at a page. */
      size_t begin = at_end ? FRAME : 0;
      memset(to.data, 0xA5, to.bytes);
      memset(expected, 0xA5, sizeof expected);
      call(plain, function, from.data, expected + begin, count);
      call(path, function, from.data, to.data + begin, count);
      cr_assert_arr_eq(to.data, expected, to.bytes, "function %d from %d to %d, %d elements", function->which, function->from,
                       function->to, (int)count);
      region_free(&from);
      region_free(&to);
    }
}

Test(fp8, every_path_gives_the_same_bits_at_every_length) {
  static const fg_type wide[] = {FG_BF16, FG_FP16, FG_FP32}, fp8[] = {FG_E4M3, FG_E5M2};
  const struct fg_path *paths[PATHS];
  uint64_t state = 1;
  for (int p = 0, count = available_paths(paths); p < count; p++) {
    for (int t = 0; t < TYPES; t++) {
      check_lengths(paths[p], &(struct function){TO_FLOAT, types[t], FG_FP32, 0}, &state);
      check_lengths(paths[p], &(struct function){FROM_FLOAT, FG_FP32, types[t], 0}, &state);
    }
    for (int t = 0; t < 2; t++) {
      check_lengths(paths[p], &(struct function){SCALE_TO_FLOAT, fp8[t], FG_FP32, 0.337f}, &state);
      check_lengths(paths[p], &(struct function){SCALE_TO_FLOAT, fp8[t], FG_FP32, -0x1.8p-140f}, &state);
      check_lengths(paths[p], &(struct function){SCALE_TO_FLOAT, fp8[t], FG_FP32, 0x1.fp120f}, &state);
    }
    for (int t = 0; t < 3; t++) {
      check_lengths(paths[p], &(struct function){MAX_MAGNITUDE, wide[t], FG_FP32, 0}, &state);
      check_lengths(paths[p], &(struct function){ENCODE, wide[t], FG_E4M3, 448 / 20.0f}, &state);
      check_lengths(paths[p], &(struct function){ENCODE, wide[t], FG_E5M2, 57344 / 20.0f}, &state);
      check_lengths(paths[p], &(struct function){ENCODE, wide[t], FG_E4M3, 0x1p-4f}, &state); /* subnormals and ties */
    }
  }
}

/* An element's place within a vector must not matter to a pointer that is aligned to the element only. */
Test(fp8, every_path_takes_any_alignment) {
  static float x[300], back[300];
  static unsigned char codes[300 * 4], expected[300 * 4];
  const struct fg_path *paths[PATHS];
  uint64_t state = 2;
  for (int i = 0; i < 300; i++) x[i] = random_float(&state, false);
  for (int p = 0, count = available_paths(paths); p < count; p++)
    for (int t = 0; t < TYPES; t++)
      for (int offset = 0; offset < 64; offset++) {
        size_t bytes = bytes_of(types[t]);
        fg_path_plain.from_float(types[t], x + offset, expected, 200);
        paths[p]->from_float(types[t], x + offset, codes + (size_t)offset * bytes, 200);
        cr_assert_arr_eq(codes + (size_t)offset * bytes, expected, 200 * bytes);
        paths[p]->to_float(types[t], codes + (size_t)offset * bytes, back + offset, 200);
        for (int i = 0; i < 200; i++)
          cr_assert_eq(bits_of_float(back[offset + i]), types[t] == FG_FP32
                                                            ? read_bits(FG_FP32, expected, i)
                                                            : expected_value(types[t], read_bits(types[t], expected, i)));
      }
}

/* --- Which path */

Test(fp8, the_environment_chooses_the_path) {
  setenv("FG_ISA", "plain", 1); /* each test is a process of its own, which has not chosen yet */
  cr_assert_eq(fg_isa(), FG_ISA_PLAIN);
  cr_assert_eq(fg_path(), &fg_path_plain);
}

Test(fp8, an_unknown_path_is_no_wish) {
  setenv("FG_ISA", "fastest", 1);
  enum fg_isa best = fg_isa();
  for (int isa = FG_ISA_PLAIN; isa <= FG_ISA_AVX512; isa++) cr_assert_eq(fg_set_isa((enum fg_isa)isa), isa <= (int)best);
  cr_assert_eq(fg_set_isa((enum fg_isa)3), 0);
  cr_assert_eq(fg_isa(), best);
  cr_assert_str_eq(fg_isa_name(FG_ISA_AVX2), "avx2");
  cr_assert_geq(fg_cpu_threads(), 1);
}

#if defined(__x86_64__)
/* Programs that flush subnormals for speed (deep-learning frameworks can) get the same codes. */
Test(fp8, flushing_subnormals_changes_no_code) {
  static float x[4096];
  static unsigned char codes[4096 * 4], expected[4096 * 4];
  uint64_t state = 3;
  for (int i = 0; i < 4096; i++) x[i] = float_of_bits((uint32_t)next_random(&state) & (i % 2 ? 0x80FFFFFFu : ~0u));
  const struct fg_path *paths[PATHS];
  for (int p = 0, count = available_paths(paths); p < count; p++)
    for (int t = 0; t < TYPES; t++) {
      unsigned csr = _mm_getcsr();
      paths[p]->from_float(types[t], x, expected, 4096);
      _mm_setcsr(csr | 0x8040); /* flush results to zero, take subnormals for zero */
      paths[p]->from_float(types[t], x, codes, 4096);
      static float values[4096], expected_values[4096];
      paths[p]->to_float(types[t], codes, values, 4096);
      _mm_setcsr(csr);
      paths[p]->to_float(types[t], codes, expected_values, 4096);
      cr_assert_arr_eq(codes, expected, sizeof codes, "path %d, type %d", p, types[t]);
      cr_assert_arr_eq(values, expected_values, sizeof values, "path %d, type %d", p, types[t]);
    }
}
#endif
