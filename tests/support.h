/* What the tests of the API share: problems of every kind made from a seed, memory that catches a stray read or write, and the
 * definition of the result written down a second time, independently of the library.
 *
 * Everything about a problem follows from its seed. A test walks seeds; FG_SEED=N in the environment makes it walk N only, and a
 * failing case prints the line that says so. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include "finegemm.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A stream of random numbers (splitmix64); the state is the seed. */
uint64_t next_random(uint64_t *state);
int64_t random_below(uint64_t *state, int64_t limit); /* 0 ... limit - 1 */

/* The seeds that a test walks: for (uint64_t seed = first; walk_on(&seed, first, count); seed++). */
bool walk_on(uint64_t *seed, uint64_t first, uint64_t count);

/* Numbers as bits, by the definition of the formats: exact to read, to nearest even to write. */
double decode(fg_type type, uint32_t bits);
uint32_t encode(fg_type type, double value);
size_t bytes_of(fg_type type);
uint32_t read_bits(fg_type type, const void *data, int64_t index);
void write_bits(fg_type type, void *data, int64_t index, uint32_t bits);

/* `bytes` bytes that end exactly at an inaccessible page, or begin right after one. */
struct region {
  unsigned char *data;
  size_t bytes;
  unsigned char *map; /* the accessible pages and one inaccessible on each side */
  size_t map_bytes;
};
struct region region_make(size_t bytes, bool at_end);
void region_protect(struct region *region); /* from now on a write crashes, and names the running case */
void region_free(struct region *region);

/* What the inputs are like. */
enum values {
  INTEGERS,   /* small whole numbers, scales that are powers of two: nothing rounds before the output */
  GAUSSIAN,   /* normal deviates, quantised */
  CANCELLING, /* half of each block takes back what the other half gave */
  ONE_HUGE,   /* one scale that dwarfs the others */
  ZEROS,      /* mostly zeros of both signs, scales too */
  SUBNORMAL,  /* FP8 subnormals, scales down to FP32 subnormals */
  SATURATED,  /* nothing but the largest magnitudes */
  UNEQUAL,    /* the largest magnitudes beside the smallest, on both sides */
  ANY_CODE,   /* every finite code alike */
  NOT_FINITE, /* some NaN and infinity, in C and bias too */
  VALUE_KINDS
};

/* An FP8 code of that likeness; what is CANCELLING it cannot know. */
unsigned char random_code(enum values values, fg_type type, uint64_t *state);

enum where_c { NO_C, SEPARATE_C, C_IS_D };

/* What begins at a multiple of 16 bytes and has such a leading dimension, as a GPU's copy engine wants it: A and B, scales of which each row
 * has its own, D. All else: as types ask and no more. */
enum copied { COPIES_NOTHING = 0, COPIES_FACTORS = 1, COPIES_SCALES = 2, COPIES_D = 4 };

/* Everything that is chosen about a problem, defaults filled in. */
struct spec {
  uint64_t seed;
  fg_kind kind;
  fg_group_by group_by;
  fg_index_type group_type;
  int64_t m, n, k, groups, group_align;
  fg_type a_type, b_type, c_type, bias_type, d_type;
  fg_scaling a_scaling, b_scaling;
  fg_scale_layout a_layout, b_layout;
  enum where_c c;
  bool bias;
  bool gaps;     /* leading dimensions and strides with gaps; else zeros, which is packed */
  bool defaults; /* hand over zero wherever zero means the same */
  bool at_end;   /* see region_make() */
  enum values values;
  int split_k;     /* for the level hopper */
  unsigned copied; /* of enum copied */
};

struct spec spec_random(uint64_t seed);

/* One row of D that is to be written: D[d_matrix][d_row] = C + A[a_matrix][a_row] B[b_matrix]ᵀ over k0 <= k < k1, + bias[group].
 * Its first block's scales are in column block0. */
struct row {
  int64_t group, a_matrix, a_row, b_matrix, d_matrix, d_row, k0, k1, block0;
};

/* A problem with its memory. Whatever is not to be read is NaN, whatever is not to be written is a NaN of its own. */
struct problem {
  struct spec spec;
  fg_problem call; /* what the library gets */
  fg_problem full; /* the same with all strides as numbers */
  struct row *rows;
  int64_t row_count;
  int64_t blocks; /* columns of scales along grouped K */
  struct region a, b, c, bias, d, a_scale, b_scale, values;
  unsigned char *before; /* D's bytes before the call */
  char text[512];
};

struct problem *problem_make(const struct spec *spec);
void problem_reset(struct problem *problem);                     /* D as it was before any call */
void problem_set_level(struct problem *problem, fg_level level); /* and split_k, which only hopper takes */
void problem_free(struct problem *problem);

/* Prints the line that reproduces the case (but for a test that plants faults), and counts. */
extern bool cases_are_planted;
void case_failed(const struct problem *problem, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cases_failed(void);

/* Calls see_element for each element of D that is to be written; `index` is its place in packed arrays of D's shape. */
typedef void element_function(const struct problem *problem, const struct row *row, int64_t j, int64_t index, void *state);
void for_each_element(const struct problem *problem, element_function *see_element, void *state);

/* D(row, j): its index in elements from d.data. */
int64_t d_index(const struct problem *problem, const struct row *row, int64_t j);

/* The two definitions of a block's dot: products added one after another in FP32, and a Hopper tensor core's. */
enum family { FAMILY_FP32, FAMILY_HOPPER };

/* What the tensor core's addition might be thought to be. Each but the first is wrong somewhere, and tests show that they see it. */
enum rival {
  THE_DEFINITION,
  ZEROS_RAISE,             /* a zero product, too, may set the exponent that all terms are aligned to */
  TWELVE_FRACTION_BITS,    /* in terms and result */
  FOURTEEN_FRACTION_BITS,  /* in terms and result */
  TERMS_TO_NEAREST,        /* rounded, not cut */
  TERMS_DOWNWARD,          /* cut toward minus infinity, as two's complement does */
  RESULT_TO_NEAREST,       /* rounded to 13 fraction bits, not cut */
  RESULT_WHOLE,            /* all of FP32's fraction bits */
  PRODUCTS_NORMALISED,     /* a product's exponent is its own, not the sum of its factors' */
  SUBNORMALS_NORMALISED,   /* a factor's exponent is its own, even where its format has no smaller one */
  ACCUMULATOR_ADDED_AFTER, /* to the sum of products, in FP32 */
  SIXTEEN_AT_A_TIME,       /* steps of 16 */
  RIVALS
};

/* c + a b over k products of FP8 codes, in steps of 32, by the definition of docs/numerics.md or by a rival. FP64 holds each step
 * exactly, so that this shares neither integers nor shifts with the library. */
float defined_mma(enum rival rival, fg_type a_type, const unsigned char *a, fg_type b_type, const unsigned char *b, int64_t k,
                  float c);

/* As they are, a NaN's too. */
uint32_t bits_of_float(float x);

/* One element by the definition of the levels `reference` or `hopper`, as bits of D's type. */
uint32_t defined_bits(const struct problem *problem, enum family family, const struct row *row, int64_t j);

/* The value in extended precision, what counts as summed up to it in magnitude (a subnormal of the family hopper counts as its
 * format's smallest normal), C and the bias. */
long double exact_value(const struct problem *problem, enum family family, const struct row *row, int64_t j,
                        long double *product_magnitude, long double *c, long double *bias);

/* D's bytes as the definition wants them, those around the written elements included. The caller frees. */
unsigned char *defined_bytes(const struct problem *problem, enum family family);

/* Whether D is `expected`, byte for byte; if not, says so. What lies around D in its pages counts too. */
bool d_equals(const struct problem *problem, const unsigned char *expected, const char *what);

/* Whether all but the written elements of D are as they were. */
bool d_kept_elsewhere(const struct problem *problem, const char *what);

/* Whether nothing of D changed. */
bool d_untouched(const struct problem *problem, const char *what);

#endif
