/* A Hopper tensor core's addition: what an H100 gave, a second transcription of the definition, and every special case, through
 * fg_mma() and through the level `hopper` with all vector instructions that the machine has. */
#include "cpu.h"
#include "support.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const fg_type factors[] = {FG_E4M3, FG_E5M2};
static const char *const type_names[] = {[FG_E4M3] = "e4m3", [FG_E5M2] = "e5m2"};

/* Codes, by type. */
static const unsigned char one[] = {[FG_E4M3] = 0x38, [FG_E5M2] = 0x3C};
static const unsigned char largest[] = {[FG_E4M3] = 0x7E, [FG_E5M2] = 0x7B};
enum { SMALLEST = 0x01, MINUS = 0x80, INFINITE = 0x7C /* e5m2 */, NAN_CODE = 0x7F };

static const uint32_t nan_bits = 0x7FFFFFFF, infinity_bits = 0x7F800000, sign_bit = 0x80000000;

/* For each pair of types, one after another. */
#define FOR_TYPE_PAIRS(a_type, b_type)                                                                                           \
  for (fg_type a_type = FG_E4M3; a_type <= FG_E5M2; a_type++)                                                                    \
    for (fg_type b_type = FG_E4M3; b_type <= FG_E5M2; b_type++)

/* Of what is expected. What the library gives is looked at as it is: its NaN must be the one NaN already. */
static uint32_t canonical_bits(float x) { return isnan(x) ? nan_bits : bits_of_float(x); }

static float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static uint32_t mma_bits(fg_type a_type, const unsigned char *a, fg_type b_type, const unsigned char *b, int64_t k, uint32_t c) {
  float d = -1;
  cr_assert_eq(fg_mma(a_type, a, b_type, b, k, float_of(c), &d, NULL), FG_OK, "%s", fg_message());
  return bits_of_float(d);
}

static uint32_t defined_mma_bits(fg_type a_type, const unsigned char *a, fg_type b_type, const unsigned char *b, int64_t k,
                                 uint32_t c) {
  return canonical_bits(defined_mma(THE_DEFINITION, a_type, a, b_type, b, k, float_of(c)));
}

/* --- Comparing. Differences are counted, the first of them told. */

static int64_t differences;
static bool differences_are_planted;

static bool same(uint32_t got, uint32_t want, const char *by, int64_t row, int64_t col) {
  if (got == want) return true;
  if (differences++ < 20 && !differences_are_planted)
    fprintf(stderr, "%s gives 0x%08X in (%lld, %lld), not 0x%08X\n", by, got, (long long)row, (long long)col, want);
  return false;
}

/* A [m, k] and B [n, k], unscaled, k at most 128. */
struct product {
  fg_type a_type, b_type;
  int64_t m, n, k;
  const unsigned char *a, *b;
};

static uint32_t *defined_product(const struct product *p) {
  uint32_t *expected = malloc((size_t)(p->m * p->n) * sizeof *expected);
  for (int64_t i = 0; i < p->m; i++)
    for (int64_t j = 0; j < p->n; j++)
      expected[i * p->n + j] = defined_mma_bits(p->a_type, p->a + i * p->k, p->b_type, p->b + j * p->k, p->k, 0);
  return expected;
}

/* By fg_mma(), and by the level with each set of instructions; returns how many of those there are. */
static int check_product(const struct product *p, const uint32_t *expected) {
  for (int64_t i = 0; i < p->m; i++)
    for (int64_t j = 0; j < p->n; j++)
      same(mma_bits(p->a_type, p->a + i * p->k, p->b_type, p->b + j * p->k, p->k, 0), expected[i * p->n + j], "fg_mma", i, j);
  const float unscaled = 1;
  float *d = malloc((size_t)(p->m * p->n) * sizeof *d);
  fg_problem problem = {.m = p->m,
                        .n = p->n,
                        .k = p->k,
                        .a = {.data = p->a, .type = p->a_type, .scale = &unscaled, .scaling = FG_TENSOR},
                        .b = {.data = p->b, .type = p->b_type, .scale = &unscaled, .scaling = FG_TENSOR},
                        .d = {.data = d, .type = FG_FP32},
                        .level = FG_HOPPER};
  fg_context *context;
  cr_assert_eq(fg_context_create(&context, &(fg_context_options){.threads = 1}), FG_OK);
  int paths = 0;
  for (int isa = FG_ISA_PLAIN; isa <= FG_ISA_AVX512; isa++) {
    if (!fg_set_isa((enum fg_isa)isa)) continue;
    paths++;
    for (int64_t i = 0; i < p->m * p->n; i++) d[i] = -1;
    cr_assert_eq(fg_gemm(context, &problem), FG_OK, "%s", fg_message());
    for (int64_t i = 0; i < p->m * p->n; i++)
      same(bits_of_float(d[i]), expected[i], fg_isa_name((enum fg_isa)isa), i / p->n, i % p->n);
  }
  fg_context_destroy(context);
  free(d);
  return paths;
}

static void check_defined_product(const struct product *p) {
  uint32_t *expected = defined_product(p);
  check_product(p, expected);
  free(expected);
}

/* --- What an H100 gave: tests/golden/tensor_core.txt */

/* A line of it: D by steps of 32 from C. */
struct vector {
  fg_type a_type, b_type;
  uint32_t c, d;
  int64_t k;
  unsigned char *codes; /* k of A, then k of B */
};

struct golden {
  struct vector *vectors;
  int64_t count;
};

/* `bytes` bytes, the first the most significant; false where `text` is anything else than two digits for each. */
static bool read_hex(const char *text, size_t bytes, unsigned char *to) {
  if (strlen(text) != 2 * bytes || strspn(text, "0123456789abcdefABCDEF") != 2 * bytes) return false;
  for (size_t i = 0; i < bytes; i++) to[i] = (unsigned char)strtoul((const char[]){text[2 * i], text[2 * i + 1], 0}, NULL, 16);
  return true;
}

static bool read_word(const char *text, uint32_t *word) {
  unsigned char bytes[4];
  if (!read_hex(text, 4, bytes)) return false;
  *word = (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
  return true;
}

static bool read_type(const char *text, fg_type *type) {
  *type = strcmp(text, "e4m3") == 0 ? FG_E4M3 : strcmp(text, "e5m2") == 0 ? FG_E5M2 : FG_DEFAULT_TYPE;
  return *type != FG_DEFAULT_TYPE;
}

/* A_TYPE B_TYPE KIND C_BITS A_HEX B_HEX D_BITS. The caller frees the codes, also of a line that is not one. */
static bool read_vector(char *line, struct vector *vector) {
  char *fields[7], *at = line;
  int count = 0;
  while (at) {
    if (count == 7) return false;
    fields[count++] = at;
    at = strchr(at, ' ');
    if (at) *at++ = 0;
  }
  if (count != 7 || !read_type(fields[0], &vector->a_type) || !read_type(fields[1], &vector->b_type) || !fields[2][0])
    return false;
  size_t k = strlen(fields[4]) / 2;
  vector->k = (int64_t)k;
  vector->codes = malloc(2 * k + 1);
  return k > 0 && k % 32 == 0 && read_word(fields[3], &vector->c) && read_hex(fields[4], k, vector->codes) &&
         read_hex(fields[5], k, vector->codes + k) && read_word(fields[6], &vector->d);
}

/* Returns the number of the first line that is none, 0 where all are well. */
static int64_t read_golden(FILE *file, struct golden *golden) {
  char *line = NULL;
  size_t room = 0;
  ssize_t length;
  int64_t number = 0, bad = 0;
  *golden = (struct golden){0};
  while (bad == 0 && (length = getline(&line, &room, file)) > 0) {
    number++;
    if (line[length - 1] != '\n') bad = number; /* cut off */
    line[length - 1] = 0;
    if (line[0] == '#') continue;
    golden->vectors = realloc(golden->vectors, (size_t)(golden->count + 1) * sizeof *golden->vectors);
    struct vector *vector = &golden->vectors[golden->count++];
    vector->codes = NULL;
    if (!read_vector(line, vector)) bad = number;
  }
  free(line);
  return bad;
}

static void free_golden(struct golden *golden) {
  for (int64_t i = 0; i < golden->count; i++) free(golden->vectors[i].codes);
  free(golden->vectors);
}

static struct golden open_golden(void) {
  struct golden golden;
  FILE *file = fopen(FG_GOLDEN, "r");
  cr_assert_not_null(file, "cannot open %s", FG_GOLDEN);
  int64_t bad = read_golden(file, &golden);
  fclose(file);
  cr_assert_eq(bad, 0, "%s, line %lld: not A_TYPE B_TYPE KIND C_BITS A_HEX B_HEX D_BITS", FG_GOLDEN, (long long)bad);
  cr_assert_geq(golden.count, 1000, "%s has %lld vectors only", FG_GOLDEN, (long long)golden.count);
  return golden;
}

static void replay_alone(const struct golden *golden) {
  for (int64_t i = 0; i < golden->count; i++) {
    const struct vector *v = &golden->vectors[i];
    same(mma_bits(v->a_type, v->codes, v->b_type, v->codes + v->k, v->k, v->c), v->d, "fg_mma", i, 0);
    same(defined_mma_bits(v->a_type, v->codes, v->b_type, v->codes + v->k, v->k, v->c), v->d, "the transcription", i, 0);
  }
}

/* Vectors of one k and one pair of types as a matrix each way. Column (i + shift) % count belongs to row i; what an H100 would give
 * for the other elements is the transcription's word. */
static int replay_matrix(const struct vector *vectors, int64_t count, int64_t shift) {
  int64_t k = vectors[0].k;
  unsigned char *a = malloc((size_t)(count * k)), *b = malloc((size_t)(count * k));
  for (int64_t i = 0; i < count; i++) {
    memcpy(a + i * k, vectors[i].codes, (size_t)k);
    memcpy(b + (i + shift) % count * k, vectors[i].codes + k, (size_t)k);
  }
  struct product product = {vectors[0].a_type, vectors[0].b_type, count, count, k, a, b};
  uint32_t *expected = defined_product(&product);
  for (int64_t i = 0; i < count; i++) expected[i * count + (i + shift) % count] = vectors[i].d;
  int paths = check_product(&product, expected);
  free(expected);
  free(a);
  free(b);
  return paths;
}

/* What a GEMM of one block can have: an accumulator of zero, and at most 128 products. */
static bool fits_a_block(const struct vector *v) { return v->k <= 128 && (v->c & ~sign_bit) == 0; }

static int64_t replay_as_matrices(const struct golden *golden, int *paths) {
  static const int64_t sizes[] = {1, 2, 15, 16, 17, 33, 65, 130};
  struct vector *chosen = malloc((size_t)golden->count * sizeof *chosen);
  int64_t replayed = 0;
  FOR_TYPE_PAIRS(a_type, b_type)
  for (int64_t k = 32; k <= 128; k += 32) {
    int64_t count = 0;
    for (int64_t i = 0; i < golden->count; i++) {
      const struct vector *v = &golden->vectors[i];
      if (v->a_type == a_type && v->b_type == b_type && v->k == k && fits_a_block(v)) chosen[count++] = *v;
    }
    for (int64_t first = 0, turn = 0, size; first < count; first += size, turn++) {
      size = sizes[turn % (int64_t)(sizeof sizes / sizeof *sizes)];
      if (size > count - first) size = count - first;
      *paths = replay_matrix(chosen + first, size, 5 * turn);
    }
    replayed += count;
  }
  free(chosen);
  return replayed;
}

Test(tensor_core, golden_vectors_on_every_path) {
  struct golden golden = open_golden();
  replay_alone(&golden);
  int paths = 0;
  int64_t in_matrices = replay_as_matrices(&golden, &paths);
  printf("%lld vectors of an H100 replayed by fg_mma, %lld of them also by fg_gemm with %d sets of instructions\n",
         (long long)golden.count, (long long)in_matrices, paths);
  cr_assert_eq(differences, 0);
  cr_assert_geq(in_matrices, golden.count / 10, "hardly any vectors begin at zero");
  FOR_TYPE_PAIRS(a_type, b_type) {
    int64_t of_pair = 0;
    for (int64_t i = 0; i < golden.count; i++)
      of_pair += golden.vectors[i].a_type == a_type && golden.vectors[i].b_type == b_type;
    cr_expect_gt(of_pair, 0, "no vector of %s with %s", type_names[a_type], type_names[b_type]);
  }
  free_golden(&golden);
}

/* One wrong bit in any place of a vector is seen, and every rival definition is refuted. */
Test(tensor_core, golden_vectors_refute_the_rivals) {
  struct golden golden = open_golden();
  differences_are_planted = true;
  int in_matrices = 0;
  for (int bit = 0; bit < 32; bit++) {
    struct vector *v = &golden.vectors[golden.count * bit / 32];
    v->d ^= 1u << bit;
    int64_t before = differences;
    replay_alone(&golden);
    cr_expect_eq(differences, before + 2, "bit %d: not seen once by each", bit);
    if (fits_a_block(v)) {
      int paths = 0;
      before = differences;
      replay_as_matrices(&golden, &paths);
      cr_expect_eq(differences, before + 1 + paths, "bit %d: not seen once by each path", bit);
      in_matrices++;
    }
    v->d ^= 1u << bit;
  }
  cr_expect_gt(in_matrices, 0, "no wrong bit stood in a matrix");
  for (int rival = THE_DEFINITION; rival < RIVALS; rival++) {
    int64_t wrong = 0;
    for (int64_t i = 0; i < golden.count; i++) {
      const struct vector *v = &golden.vectors[i];
      wrong += canonical_bits(
                   defined_mma((enum rival)rival, v->a_type, v->codes, v->b_type, v->codes + v->k, v->k, float_of(v->c))) != v->d;
    }
    cr_expect(rival == THE_DEFINITION ? wrong == 0 : wrong > 0, "rival %d differs from the H100 in %lld of %lld vectors", rival,
              (long long)wrong, (long long)golden.count);
  }
  free_golden(&golden);
}

Test(tensor_core, malformed_golden_vectors_are_refused) {
#define TWENTY_FOUR "000000000000000000000000000000000000000000000000" /* codes */
#define CODES TWENTY_FOUR "0102030405060708"
  static const struct {
    const char *text;
    int64_t bad, count;
  } files[] = {
      {"# format\ne4m3 e5m2 kind 00000000 " CODES " " CODES " 00000000\n", 0, 1},
      {"# format\n", 0, 0},
      {"e4m3 e5m2 kind 00000000 " CODES " " CODES " 00000000", 1, 1},        /* cut off */
      {"# format\n\n", 2, 1},                                                /* an empty line */
      {"e4m3 e3m4 kind 00000000 " CODES " " CODES " 00000000\n", 1, 1},      /* a type */
      {"e4m3 e4m3  00000000 " CODES " " CODES " 00000000\n", 1, 1},          /* no kind */
      {"e4m3 e4m3 00000000 " CODES " " CODES " 00000000\n", 1, 1},           /* a field too few */
      {"e4m3 e4m3 kind 00000000 " CODES " " CODES " 00000000 0\n", 1, 1},    /* one too many */
      {"e4m3 e4m3 kind 0000000 " CODES " " CODES " 00000000\n", 1, 1},       /* seven digits */
      {"e4m3 e4m3 kind 00000000 " CODES " " CODES " 0x000000\n", 1, 1},      /* no digit */
      {"e4m3 e4m3 kind 00000000 " CODES " " CODES "00 00000000\n", 1, 1},    /* lengths differ */
      {"e4m3 e4m3 kind 00000000 " TWENTY_FOUR " " TWENTY_FOUR " 0\n", 1, 1}, /* 24 codes */
      {"e4m3 e4m3 kind 00000000 " CODES "0 " CODES "0 00000000\n", 1, 1},    /* half a code */
      {"e4m3 e4m3 kind 00000000  00000000\n", 1, 1},                         /* none */
      {"e4m3 e4m3 kind 00000000 " CODES " " CODES " 00000000\r\n", 1, 1},    /* another line's end */
  };
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    char text[512];
    snprintf(text, sizeof text, "%s", files[i].text);
    FILE *file = fmemopen(text, strlen(text), "r");
    struct golden golden;
    cr_expect_eq(read_golden(file, &golden), files[i].bad, "file %zu", i);
    cr_expect_eq(golden.count, files[i].count, "file %zu", i);
    fclose(file);
    free_golden(&golden);
  }
}

/* --- Against the second transcription */

enum { MOST_K = 200 };

struct dot {
  fg_type a_type, b_type;
  unsigned char a[MOST_K], b[MOST_K];
  int64_t k;
  uint32_t c;
};

/* Zeros, anything at all, subnormal, or of the products' size. */
static uint32_t random_accumulator(uint64_t *state) {
  uint32_t bits = (uint32_t)(next_random(state) >> 32), fraction = bits & 0x807FFFFF;
  switch (random_below(state, 4)) {
  case 0:
    return bits & sign_bit;
  case 1:
    return bits;
  case 2:
    return fraction;
  default:
    return fraction | (uint32_t)(127 - 40 + random_below(state, 80)) << 23;
  }
}

static struct dot random_dot(enum values values, fg_type a_type, fg_type b_type, uint64_t *state) {
  struct dot dot = {.a_type = a_type, .b_type = b_type, .k = random_below(state, 3) ? 32 : random_below(state, MOST_K + 1)};
  dot.c = random_accumulator(state);
  for (int64_t k = 0; k < dot.k; k++) {
    dot.a[k] = random_code(values, a_type, state);
    dot.b[k] = random_code(values, b_type, state);
    if (values == CANCELLING && k % 2) dot.a[k] = dot.a[k - 1], dot.b[k] = dot.b[k - 1] ^ MINUS;
  }
  return dot;
}

Test(tensor_core, fg_mma_equals_a_second_transcription) {
  uint64_t state = 1;
  for (int values = 0; values < VALUE_KINDS; values++) FOR_TYPE_PAIRS(a_type, b_type)
  for (int i = 0; i < 8000; i++) {
    struct dot dot = random_dot((enum values)values, a_type, b_type, &state);
    uint32_t defined = dot.k ? defined_mma_bits(a_type, dot.a, b_type, dot.b, dot.k, dot.c) : dot.c;
    same(mma_bits(a_type, dot.a, b_type, dot.b, dot.k, dot.c), defined, "fg_mma", values, i);
  }
  cr_assert_eq(differences, 0);
}

/* A comparison that no rival survives: each differs from the library in a good share of inputs that are made to show it. */
Test(tensor_core, a_rival_definition_is_seen) {
  enum { DOTS = 4000 };
  static const struct {
    enum rival rival;
    enum values values;
  } shows[] = {{THE_DEFINITION, ZEROS},          {THE_DEFINITION, GAUSSIAN},         {ZEROS_RAISE, ZEROS},
               {TWELVE_FRACTION_BITS, GAUSSIAN}, {FOURTEEN_FRACTION_BITS, GAUSSIAN}, {TERMS_TO_NEAREST, GAUSSIAN},
               {TERMS_DOWNWARD, GAUSSIAN},       {RESULT_TO_NEAREST, GAUSSIAN},      {RESULT_WHOLE, GAUSSIAN},
               {PRODUCTS_NORMALISED, GAUSSIAN},  {SUBNORMALS_NORMALISED, SUBNORMAL}, {ACCUMULATOR_ADDED_AFTER, GAUSSIAN},
               {SIXTEEN_AT_A_TIME, GAUSSIAN}};
  bool refuted[RIVALS] = {[THE_DEFINITION] = true};
  for (size_t s = 0; s < sizeof shows / sizeof *shows; s++) {
    uint64_t state = 2;
    int differ = 0;
    for (int i = 0; i < DOTS; i++) {
      struct dot dot = random_dot(shows[s].values, factors[i % 2], factors[i / 2 % 2], &state);
      differ += canonical_bits(defined_mma(shows[s].rival, dot.a_type, dot.a, dot.b_type, dot.b, dot.k, float_of(dot.c))) !=
                mma_bits(dot.a_type, dot.a, dot.b_type, dot.b, dot.k, dot.c);
    }
    if (shows[s].rival == THE_DEFINITION) {
      cr_expect_eq(differ, 0);
    } else {
      refuted[shows[s].rival] = true;
      cr_expect_gt(differ, DOTS / 100, "rival %d differs in %d of %d dots only", (int)shows[s].rival, differ, DOTS);
    }
  }
  for (int rival = 0; rival < RIVALS; rival++) cr_expect(refuted[rival], "rival %d was not tried", rival);
}

/* --- All pairs of codes: alone, beside a small and a large product, after and before another step */

/* All codes of A against all of B in lane `at`; in lane `beside` a_beside b_beside. */
static void check_all_pairs(fg_type a_type, fg_type b_type, int64_t at, int64_t beside, unsigned char a_beside,
                            unsigned char b_beside) {
  enum { CODES_ALL = 256, LANES = 64 };
  static unsigned char a[CODES_ALL * LANES], b[CODES_ALL * LANES];
  int64_t k = (at > beside ? at : beside) + 1;
  memset(a, 0, sizeof a);
  memset(b, MINUS, sizeof b); /* zeros too */
  for (int64_t code = 0; code < CODES_ALL; code++) {
    a[code * k + beside] = a_beside, b[code * k + beside] = b_beside;
    a[code * k + at] = b[code * k + at] = (unsigned char)code;
  }
  check_defined_product(&(struct product){a_type, b_type, CODES_ALL, CODES_ALL, k, a, b});
}

Test(tensor_core, all_pairs_of_codes) {
  FOR_TYPE_PAIRS(a_type, b_type) {
    check_all_pairs(a_type, b_type, 0, 1, 0, 0);
    check_all_pairs(a_type, b_type, 0, 31, SMALLEST, SMALLEST);
    check_all_pairs(a_type, b_type, 17, 3, largest[a_type], largest[b_type]);
    check_all_pairs(a_type, b_type, 5, 4, one[a_type] | MINUS, one[b_type]);
    /* The other product is the accumulator, or meets it. */
    check_all_pairs(a_type, b_type, 1, 33, largest[a_type], MINUS | largest[b_type]);
    check_all_pairs(a_type, b_type, 40, 2, largest[a_type], largest[b_type]);
    check_all_pairs(a_type, b_type, 40, 2, SMALLEST, SMALLEST | MINUS);
  }
  cr_assert_eq(differences, 0);
}

/* A product and an accumulator whose exponents are any distance apart, either way; fractions of all ones and at random. */
Test(tensor_core, every_distance_of_exponents) {
  enum { MOST = 60 };
  uint64_t state = 3;
  FOR_TYPE_PAIRS(a_type, b_type)
  for (int distance = -MOST; distance <= MOST; distance++)
    for (int i = 0; i < 200; i++) {
      unsigned char a = (unsigned char)(1 + random_below(&state, largest[a_type])),
                    b = (unsigned char)(1 + random_below(&state, largest[b_type]));
      if (i & 1) a |= MINUS;
      double size = fabs(decode(a_type, a) * decode(b_type, b));
      uint32_t fraction = i & 2 ? 0x7FFFFF : (uint32_t)next_random(&state) & 0x7FFFFF, sign = i & 4 ? sign_bit : 0;
      uint32_t c = sign | (uint32_t)(127 + ilogb(size) + distance) << 23 | fraction;
      same(mma_bits(a_type, &a, b_type, &b, 1, c), defined_mma_bits(a_type, &a, b_type, &b, 1, c), "fg_mma", distance, i);
    }
  cr_assert_eq(differences, 0);
}

/* --- By hand */

/* c + a b, one product in lane 0 of e4m3 codes. */
static float add_one(float c, unsigned char a, unsigned char b) {
  float d = NAN;
  cr_assert_eq(fg_mma(FG_E4M3, &a, FG_E4M3, &b, 1, c, &d, NULL), FG_OK);
  return d;
}

/* e4m3: 0x08 is 2^-6, 0x04 is 2^-7, 0x02 is 2^-8, 0x18 is 2^-4. */
Test(tensor_core, thirteen_fraction_bits_by_hand) {
  cr_expect(add_one(1, 0x08, 0x04) == 1 + 0x1p-13f);
  cr_expect(add_one(1, 0x08, 0x02) == 1, "2^-14 is cut");
  cr_expect(add_one(1, 0x88, 0x02) == 1, "-2^-14 too, toward zero");
  cr_expect(add_one(-1, 0x08, 0x02) == -1);
  cr_expect(add_one(1 + 0x1p-14f, 0, 0) == 1, "the accumulator is cut like a product");
  cr_expect(add_one(-1 - 0x1.FFCp-13f, 0, 0) == -1 - 0x1p-13f);
  cr_expect(add_one(0x1p-14f, 0x38, 0x38) == 1);
  /* 1.75 * 1.75 = 3.0625 has the exponent 0 of its factors, so that its lowest unit is 2^-13, and only then the result's 2^-12. */
  unsigned char a[3] = {0x3E, 0x08, 0x08}, b[3] = {0x3E, 0x04, 0x04};
  float d;
  fg_mma(FG_E4M3, a, FG_E4M3, b, 2, 0, &d, NULL);
  cr_expect(d == 3.0625f, "2^-13 is in the sum, but cut from the result");
  fg_mma(FG_E4M3, a, FG_E4M3, b, 3, 0, &d, NULL);
  cr_expect(d == 3.0625f + 0x1p-12f, "two of them are in both");
  /* 32 products of 2^-14 beside 1 make 2^-9, of which nothing is left; without the 1 nothing is lost. */
  unsigned char many[32], halves[32];
  memset(many, 0x08, sizeof many);
  memset(halves, 0x02, sizeof halves);
  fg_mma(FG_E4M3, many, FG_E4M3, halves, 32, 1, &d, NULL);
  cr_expect(d == 1);
  fg_mma(FG_E4M3, many, FG_E4M3, halves, 32, 0, &d, NULL);
  cr_expect(d == 0x1p-9f);
}

/* Accumulators at FP32's edges, alone (one product of zeros). */
Test(tensor_core, accumulators_at_the_edges) {
  static const uint32_t alone[][2] = {{0x00000000, 0x00000000}, {0x80000000, 0x00000000}, /* never -0 */
                                      {0x00000001, 0x00000000}, {0x80000001, 0x00000000}, {0x000003FF, 0x00000000},
                                      {0x80000400, 0x80000400}, {0x007FFFFF, 0x007FFC00}, {0x807FFFFF, 0x807FFC00},
                                      {0x00800000, 0x00800000}, {0x008003FF, 0x00800000}, {0x3F8003FF, 0x3F800000},
                                      {0x3FFFFFFF, 0x3FFFFC00}, {0x7F7FFFFF, 0x7F7FFC00}, {0xFF7FFFFF, 0xFF7FFC00},
                                      {0x7F800000, 0x7F800000}, {0xFF800000, 0xFF800000}, {0x7F800001, 0x7FFFFFFF},
                                      {0xFFC00000, 0x7FFFFFFF}, {0x7FFFFFFF, 0x7FFFFFFF}, {0xFFFFFFFF, 0x7FFFFFFF}};
  for (size_t i = 0; i < sizeof alone / sizeof *alone; i++) FOR_TYPE_PAIRS(a_type, b_type) {
      uint32_t c = alone[i][0];
      unsigned char zeros[2] = {0, MINUS}, a[3], b[3];
      for (int64_t k = 1; k <= 2; k++) same(mma_bits(a_type, zeros, b_type, zeros, k, c), alone[i][1], "fg_mma", (int64_t)i, 0);
      same(mma_bits(a_type, zeros, b_type, zeros, 0, c), c, "fg_mma without products", (int64_t)i, 0);
      /* Beside every product, and beside two. */
      for (int code = 0; code < 256; code++)
        for (int other = 0; other < 4; other++) {
          a[0] = a[1] = (unsigned char)code, a[2] = 0;
          b[0] = other & 1 ? largest[b_type] : SMALLEST, b[1] = other & 2 ? one[b_type] : 0, b[2] = largest[b_type];
          same(mma_bits(a_type, a, b_type, b, 3, c), defined_mma_bits(a_type, a, b_type, b, 3, c), "fg_mma", (int64_t)i, code);
        }
    }
  cr_assert_eq(differences, 0);
}

/* --- Zeros */

/* A zero of either sign, on either side, in any lane, facing the largest number of either sign: as if it were not there. Row i of
 * one side has the zero in lane i, row j of the other the largest number in lane j, and all else is the smallest. */
Test(tensor_core, zeros_never_raise_the_exponent) {
  enum { K = 128 };
  static unsigned char zeros[K * K], facing[K * K];
  FOR_TYPE_PAIRS(type, facing_type)
  for (int signs = 0; signs < 4; signs++) {
    memset(zeros, SMALLEST, sizeof zeros);
    memset(facing, SMALLEST, sizeof facing);
    for (int lane = 0; lane < K; lane++) {
      zeros[lane * K + lane] = (unsigned char)(signs & 1 ? MINUS : 0);
      facing[lane * K + lane] = (unsigned char)(largest[facing_type] | (signs & 2 ? MINUS : 0));
    }
    double others = (K - 1) * decode(type, SMALLEST) * decode(facing_type, SMALLEST); /* 7 bits: nothing of it is cut */
    struct product product = {type, facing_type, K, K, K, zeros, facing}, swapped = {facing_type, type, K, K, K, facing, zeros};
    uint32_t *expected = defined_product(&product);
    for (int lane = 0; lane < K; lane++) expected[lane * K + lane] = canonical_bits((float)others);
    check_product(&product, expected);
    for (int i = 0; i < K; i++) /* transposed */
      for (int j = 0; j < i; j++) {
        uint32_t upper = expected[j * K + i];
        expected[j * K + i] = expected[i * K + j], expected[i * K + j] = upper;
      }
    check_product(&swapped, expected);
    free(expected);
  }
  cr_assert_eq(differences, 0);
}

Test(tensor_core, minus_zero_never_comes_out) {
  enum { K = 64 };
  unsigned char a[4 * K], b[3 * K];
  FOR_TYPE_PAIRS(a_type, b_type) {
    /* Zeros of all signs against anything; numbers against their opposites, within a step and over two. */
    memset(a, MINUS, 2 * K), memset(a + K, 0, K);
    memset(a + 2 * K, one[a_type], 2 * K);
    memset(b, MINUS, K);
    for (int k = 0; k < K; k++) {
      b[K + k] = (unsigned char)(largest[b_type] | (k % 2 ? MINUS : 0));
      b[2 * K + k] = (unsigned char)(largest[b_type] | (k < 32 ? MINUS : 0));
    }
    const uint32_t zeros[12] = {0};
    check_product(&(struct product){a_type, b_type, 4, 3, K, a, b}, zeros);
    for (int code = 0; code <= largest[a_type]; code++) {
      unsigned char x = (unsigned char)(code | MINUS);
      float opposite = (float)-decode(a_type, x);
      same(mma_bits(a_type, &x, b_type, &one[b_type], 1, canonical_bits(opposite)), 0, "fg_mma", code, 0);
    }
  }
  cr_assert_eq(differences, 0);
}

/* --- NaN and infinity, in every lane of every operand */

/* Row r of A (or B, if swapped) has `first` in lane r, and `second` in lane r + 37; row K has neither. The other operand's rows are
 * finite numbers that are not zero, but in row 0, where `facing` stands in all lanes. What row r gives with row 0 of the other is
 * `want`, by hand. */
static void check_special(bool swapped, fg_type type, unsigned char first, unsigned char second, fg_type other_type,
                          unsigned char facing, uint32_t want) {
  enum { K = 128, ROWS = K + 1, OTHERS = 19 };
  static unsigned char special[ROWS * K], other[OTHERS * K];
  uint64_t state = 4;
  for (int i = 0; i < OTHERS * K; i++) other[i] = i < K ? facing : random_code(GAUSSIAN, other_type, &state);
  for (int i = 0; i < ROWS * K; i++) special[i] = random_code(GAUSSIAN, type, &state);
  for (int row = 0; row < K; row++) {
    special[row * K + (row + 37) % K] = second;
    special[row * K + row] = first;
  }
  struct product product = swapped ? (struct product){other_type, type, OTHERS, ROWS, K, other, special}
                                   : (struct product){type, other_type, ROWS, OTHERS, K, special, other};
  uint32_t *expected = defined_product(&product);
  for (int row = 0; row < K; row++) same(expected[swapped ? row : row * OTHERS], want, "the transcription", row, 0);
  check_product(&product, expected);
  free(expected);
}

Test(tensor_core, nan_and_infinity_in_every_lane) {
  for (int swapped = 0; swapped < 2; swapped++)
    for (fg_type other = FG_E4M3; other <= FG_E5M2; other++) {
      const unsigned char x = one[other], minus_infinite = INFINITE | MINUS;
      check_special(swapped, FG_E4M3, NAN_CODE, 0x38, other, x, nan_bits);
      check_special(swapped, FG_E4M3, NAN_CODE | MINUS, 0x38, other, 0, nan_bits);
      for (unsigned char nan_code = 0x7D; nan_code <= 0x7F; nan_code++) {
        check_special(swapped, FG_E5M2, nan_code, 0x3C, other, x, nan_bits);
        check_special(swapped, FG_E5M2, nan_code | MINUS, INFINITE, other, 0, nan_bits);
      }
      check_special(swapped, FG_E5M2, INFINITE, 0x3C, other, x, infinity_bits);
      check_special(swapped, FG_E5M2, INFINITE, INFINITE, other, SMALLEST, infinity_bits);
      check_special(swapped, FG_E5M2, minus_infinite, 0xFB, other, x, infinity_bits | sign_bit);
      check_special(swapped, FG_E5M2, minus_infinite, 0x7B, other, x | MINUS, infinity_bits);
      check_special(swapped, FG_E5M2, INFINITE, 0x3C, other, 0, nan_bits); /* infinity times zero */
      check_special(swapped, FG_E5M2, minus_infinite, 0x3C, other, MINUS, nan_bits);
      check_special(swapped, FG_E5M2, INFINITE, minus_infinite, other, x, nan_bits); /* infinity less infinity */
    }
  cr_assert_eq(differences, 0);
  /* Infinity in the accumulator meets the other in a product. */
  unsigned char infinite = INFINITE, unit = one[FG_E5M2];
  cr_expect_eq(mma_bits(FG_E5M2, &infinite, FG_E5M2, &unit, 1, infinity_bits | sign_bit), nan_bits);
  cr_expect_eq(mma_bits(FG_E5M2, &infinite, FG_E5M2, &unit, 1, infinity_bits), infinity_bits);
  cr_expect_eq(mma_bits(FG_E5M2, &unit, FG_E5M2, &unit, 1, infinity_bits | sign_bit), infinity_bits | sign_bit);
  cr_expect_eq(mma_bits(FG_E5M2, &infinite, FG_E5M2, &infinite, 1, infinity_bits), infinity_bits);
  cr_expect_eq(mma_bits(FG_E5M2, &infinite, FG_E5M2, &infinite, 1, infinity_bits | sign_bit), nan_bits);
}

/* --- All paths */

/* Many tiles, off every edge. The walk of test_gemm.c holds each path to the definition; here they are held to each other. */
Test(tensor_core, all_paths_give_the_same_bits) {
  static const int64_t shapes[][3] = {{131, 257, 300}, {64, 128, 128}, {65, 15, 1025},
                                      {7, 300, 517},   {200, 17, 95},  {1, 129, 2048}};
  fg_context *context;
  cr_assert_eq(fg_context_create(&context, &(fg_context_options){.threads = 2}), FG_OK);
  int turn = 0;
  for (int values = 0; values < VALUE_KINDS; values++) FOR_TYPE_PAIRS(a_type, b_type) {
      const int64_t *shape = shapes[turn++ % (int)(sizeof shapes / sizeof *shapes)];
      struct spec spec = spec_random(70000 + (uint64_t)turn);
      spec.kind = FG_DENSE, spec.group_by = FG_BY_DEFAULT, spec.groups = 1;
      spec.m = shape[0], spec.n = shape[1], spec.k = shape[2];
      spec.a_type = a_type, spec.b_type = b_type, spec.d_type = FG_FP32, spec.values = (enum values)values;
      if (spec.c == C_IS_D) spec.c_type = FG_FP32;
      struct problem *problem = problem_make(&spec);
      problem_set_level(problem, FG_HOPPER);
      unsigned char *plain = NULL;
      for (int isa = FG_ISA_PLAIN; isa <= FG_ISA_AVX512; isa++) {
        if (!fg_set_isa((enum fg_isa)isa)) continue;
        problem_reset(problem);
        cr_assert_eq(fg_gemm(context, &problem->call), FG_OK, "%s", fg_message());
        if (plain) d_equals(problem, plain, fg_isa_name((enum fg_isa)isa));
        if (isa == FG_ISA_PLAIN) {
          plain = malloc(problem->d.bytes);
          memcpy(plain, problem->d.data, problem->d.bytes);
        }
      }
      free(plain);
      problem_free(problem);
    }
  fg_context_destroy(context);
  cr_assert_eq(cases_failed(), 0);
}
