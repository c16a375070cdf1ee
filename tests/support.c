#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, MAP_NORESERVE */
#include "support.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

uint64_t next_random(uint64_t *state) {
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

int64_t random_below(uint64_t *state, int64_t limit) { return (int64_t)(next_random(state) % (uint64_t)limit); }

static bool chance(uint64_t *state, int64_t one_in) { return random_below(state, one_in) == 0; }

bool walk_on(uint64_t *seed, uint64_t first, uint64_t count) {
  const char *chosen = getenv("FG_SEED");
  if (!chosen) return *seed - first < count;
  if (*seed != first) return false;
  *seed = strtoull(chosen, NULL, 10);
  return true;
}

/* Numbers */

static const struct format {
  int exponent_bits, fraction_bits;
  bool infinite; /* the largest exponent means infinity and NaN; E4M3 has one NaN in its place */
  uint32_t nan;
  size_t bytes;
} formats[] = {
    [FG_E4M3] = {4, 3, false, 0x7F, 1},   [FG_E5M2] = {5, 2, true, 0x7F, 1},        [FG_BF16] = {8, 7, true, 0x7FFF, 2},
    [FG_FP16] = {5, 10, true, 0x7FFF, 2}, [FG_FP32] = {8, 23, true, 0x7FFFFFFF, 4},
};

size_t bytes_of(fg_type type) { return formats[type].bytes; }

double decode(fg_type type, uint32_t bits) {
  const struct format *format = &formats[type];
  int fraction_bits = format->fraction_bits, bias = (1 << (format->exponent_bits - 1)) - 1;
  int exponent = (int)(bits >> fraction_bits) & ((1 << format->exponent_bits) - 1);
  int fraction = (int)bits & ((1 << fraction_bits) - 1), top = (1 << format->exponent_bits) - 1;
  bool negative = bits >> (format->exponent_bits + fraction_bits) & 1;
  double magnitude;
  if (exponent == top && format->infinite)
    magnitude = fraction ? (double)NAN : (double)INFINITY;
  else if (exponent == top && fraction == (1 << fraction_bits) - 1)
    magnitude = (double)NAN;
  else
    magnitude = ldexp(exponent ? fraction + (1 << fraction_bits) : fraction, (exponent ? exponent : 1) - bias - fraction_bits);
  return negative ? -magnitude : magnitude;
}

/* FP8 saturates, the others overflow to infinity. */
uint32_t encode(fg_type type, double value) {
  const struct format *format = &formats[type];
  int fraction_bits = format->fraction_bits, bias = (1 << (format->exponent_bits - 1)) - 1, exponent;
  if (isnan(value)) return format->nan;
  uint32_t sign = signbit(value) ? 1u << (format->exponent_bits + fraction_bits) : 0;
  uint32_t infinity = ((1u << format->exponent_bits) - 1) << fraction_bits;
  uint32_t over = type == FG_E4M3 ? 0x7E : type == FG_E5M2 ? 0x7B : infinity;
  if (isinf(value)) return sign | over;
  if (value == 0) return sign;
  double magnitude = fabs(value);
  frexp(magnitude, &exponent); /* magnitude is from 2^(exponent - 1) to 2^exponent */
  if (exponent - 1 < 1 - bias) exponent = 2 - bias;
  /* In units of the last place; a carry into the next power of two is right as it is. */
  uint64_t units = (uint64_t)nearbyint(ldexp(magnitude, fraction_bits - (exponent - 1)));
  uint64_t bits = ((uint64_t)(exponent - 1 + bias - 1) << fraction_bits) + units; /* the hidden bit adds 1 to the exponent */
  uint32_t largest = over == infinity ? infinity - 1 : over;
  return sign | (bits > largest ? over : (uint32_t)bits);
}

uint32_t read_bits(fg_type type, const void *data, int64_t index) {
  uint32_t bits = 0;
  memcpy(&bits, (const char *)data + (size_t)index * bytes_of(type), bytes_of(type)); /* little-endian, as all of this */
  return bits;
}

void write_bits(fg_type type, void *data, int64_t index, uint32_t bits) {
  memcpy((char *)data + (size_t)index * bytes_of(type), &bits, bytes_of(type));
}

/* Memory */

static const char *running = "no case";

static void crash(int signal_number) {
  static const char told[] = "\ncrashed in the case: ";
  ssize_t ignored = write(STDERR_FILENO, told, sizeof told - 1);
  ignored = write(STDERR_FILENO, running, strlen(running));
  ignored = write(STDERR_FILENO, "\n", 1);
  (void)ignored;
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

struct region region_make(size_t bytes, bool at_end) {
  struct region region = {.bytes = bytes};
  if (bytes == 0) return region;
  size_t page = (size_t)sysconf(_SC_PAGESIZE), inside = (bytes + page - 1) / page * page;
  region.map_bytes = inside + 2 * page;
  region.map = mmap(NULL, region.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region.map == MAP_FAILED || mprotect(region.map + page, inside, PROT_READ | PROT_WRITE)) {
    perror("region_make");
    abort();
  }
  region.data = region.map + page + (at_end ? inside - bytes : 0);
  return region;
}

static unsigned char *pages_begin(const struct region *region) { return region->map + sysconf(_SC_PAGESIZE); }
static size_t pages_bytes(const struct region *region) { return region->map_bytes - 2 * (size_t)sysconf(_SC_PAGESIZE); }

void region_protect(struct region *region) {
  if (region->bytes) mprotect(pages_begin(region), pages_bytes(region), PROT_READ);
}

void region_free(struct region *region) {
  if (region->bytes) munmap(region->map, region->map_bytes);
  *region = (struct region){0};
}

/* What a byte is before anything is written there: in any type and wherever it is, a NaN, and none that is canonical. */
static unsigned char poison(fg_type type, size_t position) {
  unsigned char varied = (unsigned char)((position * 2654435761u >> 13) % 126 + 1); /* 1 ... 126 */
  unsigned char sign = (unsigned char)(position * 40503u >> 9 & 0x80);
  if (bytes_of(type) == 1) return sign | 0x7F;
  return position % 2 ? sign | 0x7F : (unsigned char)(0x80 | varied);
}

static void fill_with_poison(struct region *region, fg_type type) {
  if (!region->bytes) return;
  unsigned char *begin = pages_begin(region);
  for (size_t i = 0; i < pages_bytes(region); i++) begin[i] = poison(type, (size_t)(begin + i - region->data) & 0xFFFF);
}

/* Whether the bytes around a region within its pages are as they were. */
static bool surroundings_kept(const struct region *region, fg_type type) {
  if (!region->bytes) return true;
  const unsigned char *begin = pages_begin(region), *end = begin + pages_bytes(region);
  for (const unsigned char *byte = begin; byte < end; byte++) {
    if (byte == region->data) byte += region->bytes;
    if (byte < end && *byte != poison(type, (size_t)(byte - region->data) & 0xFFFF)) return false;
  }
  return true;
}

/* Choosing a problem */

#define PICK(state, table) ((table)[random_below(state, (int64_t)(sizeof(table) / sizeof *(table)))])

enum { WORK = 1 << 20 }; /* products in a problem, at most */

static const struct {
  fg_kind kind;
  fg_group_by group_by;
} variants[] = {
    {FG_DENSE, FG_BY_DEFAULT},     {FG_BATCHED, FG_BY_DEFAULT},      {FG_GROUPED_ROWS, FG_BY_INDEX},
    {FG_GROUPED_ROWS, FG_BY_ENDS}, {FG_GROUPED_ROWS, FG_BY_OFFSETS}, {FG_GROUPED_ROWS, FG_BY_COUNTS},
    {FG_MASKED, FG_BY_COUNTS},     {FG_GROUPED_K, FG_BY_ENDS},       {FG_GROUPED_K, FG_BY_OFFSETS},
    {FG_GROUPED_K, FG_BY_COUNTS},
};
enum { VARIANTS = sizeof variants / sizeof *variants };

static int64_t multiplications(const struct spec *spec) {
  int64_t matrices = spec->kind == FG_BATCHED || spec->kind == FG_MASKED ? spec->groups : 1;
  return matrices * spec->m * spec->n * spec->k;
}

static void choose_shape(struct spec *spec, uint64_t *state) {
  static const int64_t rows[] = {0,  1,  1,  2,  3,  4,   5,   7,   8,   15,  16,  17,  31,  33,  48,
                                 63, 64, 65, 66, 96, 127, 128, 129, 130, 131, 192, 255, 257, 384, 768};
  static const int64_t depths[] = {0,   1,   2,   15,  16,  31,  32,  33,  64,  97,  100, 127, 128,
                                   129, 130, 200, 255, 256, 257, 300, 384, 512, 576, 640, 1152};
  static const int64_t group_counts[] = {0, 1, 1, 2, 2, 3, 4, 5, 8};
  static const int64_t aligns[] = {0, 1, 2, 8, 16, 100, 128, 256};
  spec->m = PICK(state, rows);
  spec->n = PICK(state, rows);
  spec->k = PICK(state, depths);
  spec->groups = PICK(state, group_counts);
  spec->group_align = PICK(state, aligns);
  while (multiplications(spec) > WORK) {
    if (spec->groups > 3)
      spec->groups = 2;
    else if (spec->k > spec->m && spec->k > spec->n && spec->k > 300)
      spec->k = PICK(state, depths);
    else if (spec->m > spec->n)
      spec->m = PICK(state, rows);
    else
      spec->n = PICK(state, rows);
  }
}

/* Shapes on which others failed, made small enough to be quick. */
static const struct fault {
  int variant;
  int64_t m, n, k, groups, group_align;
} faults[] = {
    {6, 64, 64, 128, 3, 0},    /* masked, fewer rows than a tile */
    {6, 130, 16, 100, 2, 0},   /* masked, rows not a multiple of a tile */
    {6, 1, 130, 128, 5, 0},    /* masked, one row */
    {6, 0, 16, 128, 3, 0},     /* masked, no rows */
    {2, 130, 24, 256, 3, 0},   /* rows by index, not a multiple of 128 */
    {2, 200, 16, 128, 1, 0},   /* rows by index, many in none */
    {5, 129, 32, 128, 4, 128}, /* rows padded to 128 */
    {9, 19, 47, 384, 2, 0},    /* ranges of K that straddle blocks */
    {9, 19, 47, 640, 2, 128},  /* ranges of K of whole blocks */
    {8, 141, 11, 640, 2, 0},   {9, 3, 768, 400, 3, 0},  {9, 16, 16, 1152, 8, 16}, {7, 64, 16, 576, 4, 0},
    {9, 12, 10, 0, 3, 0}, /* all ranges of K empty: D must still become C + bias, or 0 */
    {3, 0, 130, 256, 4, 0},    {0, 130, 16, 400, 1, 0}, {0, 2, 768, 576, 1, 0},   {0, 7, 16, 1152, 1, 0},
    {0, 1, 4, 147456, 1, 0},   {0, 32, 4, 8192, 1, 0},  {0, 15, 256, 260, 1, 0},  {1, 3, 130, 576, 4, 0},
    {0, 5, 1, 128, 1, 0},      {0, 1, 1, 1, 1, 0},      {0, 0, 0, 0, 0, 0},       {1, 5, 3, 0, 2, 0},
    {0, 257, 129, 16, 1, 0},   {4, 257, 3, 257, 5, 0},
};
enum { FAULTS = sizeof faults / sizeof *faults };

struct spec spec_random(uint64_t seed) {
  static const fg_type factors[] = {FG_E4M3, FG_E5M2};
  static const fg_type floats[] = {FG_BF16, FG_FP16, FG_FP32};
  static const int splits[] = {0, 0, 1, 2, 3, 4, 7, INT_MAX};
  uint64_t state = seed * 0x2545F4914F6CDD1Du + 1;
  struct spec spec = {.seed = seed};
  /* Kinds, scalings, and types are walked through, each with each; all else is drawn. */
  int variant = (int)(seed % VARIANTS);
  uint64_t rest = seed / VARIANTS;
  spec.a_scaling = (fg_scaling)(FG_1X128 + rest % 3);
  spec.b_scaling = (fg_scaling)(FG_1X128 + rest / 3 % 3);
  spec.a_type = factors[rest / 9 % 2];
  spec.b_type = factors[rest / 18 % 2];
  spec.d_type = floats[rest / 36 % 3];
  choose_shape(&spec, &state);
  if (seed < FAULTS) {
    const struct fault *fault = &faults[seed];
    variant = fault->variant;
    spec.m = fault->m, spec.n = fault->n, spec.k = fault->k, spec.groups = fault->groups, spec.group_align = fault->group_align;
  }
  spec.kind = variants[variant].kind;
  spec.group_by = variants[variant].group_by;
  while (multiplications(&spec) > WORK) spec.groups--; /* the kind that the shape was chosen for was another */
  if (spec.kind == FG_DENSE) spec.groups = 1;
  if (spec.group_by == FG_BY_OFFSETS) spec.group_align = 0;
  spec.group_type = chance(&state, 2) ? FG_INT32 : FG_INT64;
  spec.a_layout = chance(&state, 2) ? FG_BLOCKS_CONTIGUOUS : FG_ROWS_CONTIGUOUS;
  spec.b_layout = chance(&state, 2) ? FG_BLOCKS_CONTIGUOUS : FG_ROWS_CONTIGUOUS;
  spec.c = (enum where_c)random_below(&state, 3);
  spec.c_type = spec.c == C_IS_D ? spec.d_type : PICK(&state, floats);
  spec.bias = chance(&state, 2);
  spec.bias_type = PICK(&state, floats);
  spec.gaps = chance(&state, 2);
  spec.defaults = chance(&state, 2);
  spec.at_end = !chance(&state, 3);
  spec.values = (enum values)random_below(&state, VALUE_KINDS);
  spec.split_k = PICK(&state, splits);
  return spec;
}

static const char *const value_names[] = {"integers",  "gaussian",  "cancelling", "one huge", "zeros",
                                          "subnormal", "saturated", "unequal",    "any code", "not finite"};

static void describe(const struct spec *spec, char *text, size_t size) {
  static const char *const kinds[] = {"dense", "batched", "grouped rows", "masked", "grouped k"};
  static const char *const bys[] = {"", " by index", " by ends", " by offsets", " by counts"};
  static const char *const types[] = {"", "e4m3", "e5m2", "bf16", "fp16", "fp32"};
  static const char *const scalings[] = {"", "1x128", "128x128", "tensor"};
  static const char *const layouts[] = {"blocks", "rows"};
  static const char *const cs[] = {"no c", "c ", "c = d"};
  snprintf(text, size,
           "FG_SEED=%" PRIu64 " (%s%s %s, groups %" PRId64 " align %" PRId64 ", m %" PRId64 " n %" PRId64 " k %" PRId64
           ", a %s %s %s, b %s %s %s, %s%s, bias %s, d %s%s%s, split %d, %s)",
           spec->seed, kinds[spec->kind], bys[spec->group_by], spec->group_type == FG_INT64 ? "int64" : "int32", spec->groups,
           spec->group_align, spec->m, spec->n, spec->k, types[spec->a_type], scalings[spec->a_scaling], layouts[spec->a_layout],
           types[spec->b_type], scalings[spec->b_scaling], layouts[spec->b_layout], cs[spec->c],
           spec->c == SEPARATE_C ? types[spec->c_type] : "", spec->bias ? types[spec->bias_type] : "none", types[spec->d_type],
           spec->gaps ? ", gaps" : "", spec->defaults ? ", defaults" : "", spec->split_k, value_names[spec->values]);
}

static int failures;
bool cases_are_planted;

void case_failed(const struct problem *problem, const char *format, ...) {
  if (failures++ >= 20 || cases_are_planted) return;
  char what[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(what, sizeof what, format, arguments);
  va_end(arguments);
  fprintf(stderr, "%s: %s\n", problem->text, what);
}

int cases_failed(void) { return failures; }

/* Building a problem */

static int64_t up(int64_t x, int64_t align) { return (x + align - 1) / align * align; }
static int64_t ceil128(int64_t x) { return up(x, 128) / 128; }

/* `ld` and `stride` of `matrices` matrices [rows, cols], in *given for the call and in *full as numbers; returns the extent. Every ld is
 * a multiple of `grain`. */
static int64_t lay_out(const struct spec *spec, uint64_t *state, int64_t matrices, int64_t rows, int64_t cols, int64_t packed_ld,
                       int64_t grain, int64_t *given_ld, int64_t *given_stride, int64_t *full_ld, int64_t *full_stride) {
  static const int64_t nonsense[] = {0, 1, -1, 3, INT64_MAX, INT64_MIN};
  *given_ld = *given_stride = 0;
  *full_ld = packed_ld;
  *full_stride = rows * packed_ld;
  if (spec->gaps) {
    *full_ld = cols + random_below(state, 20);
    switch (random_below(state, 4)) {
    case 0:
      *full_stride = rows * *full_ld;
      break;
    case 1:
      *full_stride = rows ? (rows - 1) * *full_ld + cols : 0;
      break; /* the next matrix begins in the last row's gap */
    case 2:
      *full_stride = rows * *full_ld + random_below(state, 50);
      break;
    case 3: /* interleaved: row i of all matrices, then row i + 1 */
      *full_stride = cols + random_below(state, 3);
      *full_ld = (matrices ? matrices : 1) * *full_stride + random_below(state, 5);
    }
    /* Zero would mean packed. */
    if (*full_ld == 0) *full_ld = 1;
    if (*full_stride == 0) *full_stride = 1;
    *given_ld = *full_ld;
    *given_stride = *full_stride;
    if (rows == 1) *given_ld = PICK(state, nonsense); /* what there is only one of has no distance */
    if (matrices == 1) *given_stride = PICK(state, nonsense);
  } else if (!spec->defaults || packed_ld < cols) { /* the scales of grouped K may need more than the default */
    if (*full_ld < cols) *full_ld = cols;
    *full_stride = rows * *full_ld;
    *given_ld = *full_ld;
    *given_stride = *full_stride;
  }
  if (*full_ld % grain != 0) {
    *full_ld = up(*full_ld, grain);
    *full_stride = rows * *full_ld;
    if (rows != 1) *given_ld = *full_ld;
    if (matrices != 1) *given_stride = *full_stride;
  }
  return matrices && rows && cols ? (matrices - 1) * *full_stride + (rows - 1) * *full_ld + cols : 0;
}

enum { COPIED_BYTES = 16 };

/* Of elements, if the array is among what is copied. */
static int64_t grain_of(bool is_copied, fg_type type) { return is_copied ? COPIED_BYTES / (int64_t)bytes_of(type) : 1; }

/* It holds as many elements, and what the next multiple of `grain` lacks. */
static struct region new_region(const struct spec *spec, fg_type type, int64_t grain, int64_t elements) {
  struct region region = region_make((size_t)up(elements, grain) * bytes_of(type), spec->at_end);
  fill_with_poison(&region, type);
  return region;
}

static int64_t scale_row(fg_scaling scaling, int64_t row) {
  return scaling == FG_1X128 ? row : scaling == FG_128X128 ? row / 128 : 0;
}

/* Where the scale of (matrix, row, column of scales) is. */
static int64_t scale_index(const fg_operand *full, int64_t matrix, int64_t row, int64_t block) {
  int64_t r = scale_row(full->scaling, row), b = full->scaling == FG_TENSOR ? 0 : block;
  bool blocks_contiguous = full->scale_layout == FG_BLOCKS_CONTIGUOUS || full->scaling == FG_TENSOR;
  return matrix * full->scale_stride + (blocks_contiguous ? r * full->scale_ld + b : b * full->scale_ld + r);
}

static void make_factor(struct problem *problem, uint64_t *state, fg_operand *given, fg_operand *full, struct region *data,
                        struct region *scales, int64_t matrices, int64_t rows) {
  const struct spec *spec = &problem->spec;
  int64_t grain = grain_of(spec->copied & COPIES_FACTORS, full->type);
  int64_t elements =
      lay_out(spec, state, matrices, rows, spec->k, spec->k, grain, &given->ld, &given->stride, &full->ld, &full->stride);
  *data = new_region(spec, full->type, grain, elements);
  given->data = full->data = data->data;
  int64_t scale_rows = rows ? scale_row(full->scaling, rows - 1) + 1 : 0;
  int64_t default_ld = full->scaling == FG_TENSOR ? spec->k > 0 : ceil128(spec->k), blocks = default_ld;
  if (spec->kind == FG_GROUPED_K) blocks = full->scaling == FG_TENSOR ? problem->blocks > 0 : problem->blocks;
  grain = grain_of(spec->copied & COPIES_SCALES && full->scaling == FG_1X128, FG_FP32);
  if (full->scale_layout == FG_BLOCKS_CONTIGUOUS || full->scaling == FG_TENSOR)
    elements = lay_out(spec, state, matrices, scale_rows, blocks, default_ld, grain, &given->scale_ld, &given->scale_stride,
                       &full->scale_ld, &full->scale_stride);
  else
    elements = lay_out(spec, state, matrices, blocks, scale_rows, up(scale_rows, 4), grain, &given->scale_ld,
                       &given->scale_stride, &full->scale_ld, &full->scale_stride);
  *scales = new_region(spec, FG_FP32, grain, elements);
  given->scale = full->scale = (float *)scales->data;
}

static void add_row(struct problem *problem, struct row row) {
  int64_t count = problem->row_count++;
  if ((count & (count - 1)) == 0) problem->rows = realloc(problem->rows, (size_t)(count ? 2 * count : 1) * sizeof row);
  problem->rows[count] = row;
}

/* Draws group_values, and lists the rows of D that follow from them. */
static void choose_groups(struct problem *problem, uint64_t *state) {
  const struct spec *spec = &problem->spec;
  int64_t length = spec->kind == FG_GROUPED_K ? spec->k : spec->m, align = spec->group_align ? spec->group_align : 1, count = 0;
  int64_t *values = calloc((size_t)(length + spec->groups + 1), sizeof *values);
  if (spec->kind == FG_DENSE)
    for (int64_t i = 0; i < spec->m; i++) add_row(problem, (struct row){.a_row = i, .d_row = i, .k1 = spec->k});
  if (spec->kind == FG_BATCHED || spec->kind == FG_MASKED)
    for (int64_t g = 0; g < spec->groups; g++) {
      int64_t rows = spec->m;
      if (spec->kind == FG_MASKED) values[count++] = rows = chance(state, 3) ? 0 : random_below(state, spec->m + 1);
      for (int64_t i = 0; i < rows; i++)
        add_row(problem,
                (struct row){.group = g, .a_matrix = g, .b_matrix = g, .d_matrix = g, .a_row = i, .d_row = i, .k1 = spec->k});
    }
  if (spec->group_by == FG_BY_INDEX) {
    bool sorted = chance(state, 2);
    int64_t group = 0;
    for (count = 0; count < spec->m; count++) {
      if (sorted && group < spec->groups && chance(state, 8)) group += 1 + chance(state, 4);
      values[count] = spec->groups == 0 || chance(state, 6) ? -1
                      : sorted                              ? (group < spec->groups ? group : -1)
                                                            : random_below(state, spec->groups);
      if (values[count] >= 0)
        add_row(problem,
                (struct row){.group = values[count], .b_matrix = values[count], .a_row = count, .d_row = count, .k1 = spec->k});
    }
  } else if (spec->kind == FG_GROUPED_ROWS || spec->kind == FG_GROUPED_K) {
    int64_t end = 0, block0 = 0;
    if (spec->group_by == FG_BY_OFFSETS) values[count++] = end = chance(state, 2) ? 0 : random_below(state, length / 4 + 1);
    for (int64_t g = 0; g < spec->groups; g++) {
      int64_t begin = spec->group_by == FG_BY_OFFSETS ? end : up(end, align), room = begin < length ? length - begin : 0;
      int64_t size = chance(state, 4) ? 0 : chance(state, 3) ? room : random_below(state, room / 2 + 1);
      /* An empty group's end may be the end before it, or where the group would begin. */
      bool stays = size == 0 && spec->group_by == FG_BY_ENDS && (begin > length || chance(state, 2));
      if (spec->group_by == FG_BY_COUNTS && begin > length) begin = end;
      end = stays ? end : begin + size;
      values[count++] = spec->group_by == FG_BY_COUNTS ? size : end;
      if (spec->kind == FG_GROUPED_ROWS)
        for (int64_t i = begin; i < begin + size; i++)
          add_row(problem, (struct row){.group = g, .b_matrix = g, .a_row = i, .d_row = i, .k1 = spec->k});
      else
        for (int64_t i = 0; i < spec->m; i++)
          add_row(
              problem,
              (struct row){.group = g, .d_matrix = g, .a_row = i, .d_row = i, .k0 = begin, .k1 = begin + size, .block0 = block0});
      block0 += ceil128(size);
    }
    problem->blocks = block0 > 0 ? block0 : spec->k > 0;
  }
  bool wide = spec->group_type == FG_INT64;
  problem->values = region_make((size_t)count * (wide ? 8 : 4), spec->at_end);
  for (int64_t i = 0; i < count; i++)
    if (wide)
      memcpy(problem->values.data + 8 * i, &values[i], 8);
    else
      memcpy(problem->values.data + 4 * i, &(int32_t){(int32_t)values[i]}, 4);
  free(values);
}

static double uniform(uint64_t *state) { return (double)(next_random(state) >> 11) * 0x1p-53; }

static double gaussian(uint64_t *state) { return sqrt(-2 * log(1 - uniform(state))) * cos(6.283185307179586 * uniform(state)); }

unsigned char random_code(enum values values, fg_type type, uint64_t *state) {
  static unsigned char deviates[3][1024]; /* by type: normal deviates, quantised so that three sigma are the largest value */
  if (!deviates[type][0])
    for (int i = 0; i < 1024; i++) {
      uint64_t own = (uint64_t)i;
      deviates[type][i] = (unsigned char)encode(type, gaussian(&own) * (type == FG_E4M3 ? 448 : 57344) / 3);
      if (!deviates[type][i]) deviates[type][i] = 0x80;
    }
  uint64_t random = next_random(state);
  unsigned char sign = random & 1 ? 0x80u : 0u, largest = type == FG_E4M3 ? 0x7E : 0x7B;
  switch (values) {
  case INTEGERS:
    return (unsigned char)encode(type, (double)(random >> 8 & 7) - 3);
  case ZEROS:
    return random >> 8 & 7 ? sign : (unsigned char)(sign | (random >> 16) % (largest + 1u));
  case SUBNORMAL:
    return (unsigned char)(sign | (random >> 8) % (type == FG_E4M3 ? 8 : 4));
  case SATURATED:
    return sign | largest;
  case UNEQUAL: /* the last two bits of a significand, and the smallest four codes, vary */
    return (unsigned char)(sign | (random >> 8 & 7 ? random >> 16 & 3 : largest - (random >> 16 & 3)));
  case ANY_CODE:
    return (unsigned char)(sign | (random >> 8) % (largest + 1u));
  case NOT_FINITE:
    if (random >> 8 & 127) return deviates[type][random >> 16 & 1023];
    return type == FG_E5M2 ? (unsigned char)(sign | (0x7C + (random >> 20 & 3))) : sign | 0x7F;
  default:
    return deviates[type][random >> 16 & 1023];
  }
}

static float scale_value(enum values values, uint64_t *state) {
  uint64_t random = next_random(state);
  float sign = random & 15 ? 1 : -1;
  switch (values) {
  case INTEGERS:
    return ldexpf(sign, (int)(random >> 8 & 3) - 2);
  case ONE_HUGE:
    return (random >> 8 & 15 ? 1e-3f : 1e16f) * sign * (float)(1 + uniform(state));
  case ZEROS:
    return random >> 8 & 3 ? sign * 0.0f : sign;
  case SUBNORMAL:
    return sign * ldexpf((float)(1 + uniform(state)), -(int)((random >> 8) % 150));
  default:
    return sign * ldexpf((float)(1 + uniform(state)), -(int)((random >> 8) % 12));
  }
}

static double addend_value(enum values values, uint64_t *state) {
  uint64_t random = next_random(state);
  switch (values) {
  case INTEGERS:
    return (double)(random & 31) - 16;
  case ZEROS:
    return random & 3 ? (random & 4 ? -0.0 : 0.0) : gaussian(state);
  case SUBNORMAL:
    return ldexp(gaussian(state), -(int)(random % 150));
  case NOT_FINITE:
    if ((random & 63) == 0) return random & 64 ? (double)NAN : random & 128 ? -(double)INFINITY : (double)INFINITY;
    return gaussian(state);
  default:
    return gaussian(state) * ldexp(1, (int)(random % 12)); /* finite in FP16 */
  }
}

static void fill_factor_row(const struct problem *problem, uint64_t *state, const fg_operand *full, int64_t matrix, int64_t r,
                            const struct row *row, bool takes_back) {
  enum values values = problem->spec.values;
  unsigned char *codes = (unsigned char *)(uintptr_t)full->data + matrix * full->stride + r * full->ld;
  for (int64_t k = row->k0; k < row->k1; k++) {
    bool second_half = values == CANCELLING && (k - row->k0) % 128 >= 64;
    codes[k] = second_half ? codes[k - 64] ^ (takes_back ? 0x80 : 0) : random_code(values, full->type, state);
  }
  float *scales = (float *)(uintptr_t)full->scale;
  for (int64_t block = 0; block < ceil128(row->k1 - row->k0); block++)
    scales[scale_index(full, matrix, r, row->block0 + block)] = scale_value(values, state);
}

static void fill(struct problem *problem, uint64_t *state) {
  const struct spec *spec = &problem->spec;
  const fg_problem *full = &problem->full;
  int64_t filled_group = -1;
  for (int64_t r = 0; r < problem->row_count; r++) {
    const struct row *row = &problem->rows[r];
    if (spec->n > 0) fill_factor_row(problem, state, &full->a, row->a_matrix, row->a_row, row, true);
    if (spec->c != NO_C)
      for (int64_t j = 0; j < spec->n; j++)
        write_bits(spec->c_type, spec->c == C_IS_D ? problem->d.data : problem->c.data,
                   row->d_matrix * full->c.stride + row->d_row * full->c.ld + j,
                   encode(spec->c_type, addend_value(spec->values, state)));
    if (row->group == filled_group) continue;
    filled_group = row->group;
    for (int64_t j = 0; j < spec->n; j++) {
      fill_factor_row(problem, state, &full->b, row->b_matrix, j, row, false);
      if (spec->bias)
        write_bits(spec->bias_type, problem->bias.data, row->group * full->bias.stride + j,
                   encode(spec->bias_type, addend_value(spec->values, state)));
    }
  }
}

struct problem *problem_make(const struct spec *spec) {
  struct problem *problem = calloc(1, sizeof *problem);
  uint64_t state = spec->seed ^ 0xD1B54A32D192ED03u;
  problem->spec = *spec;
  describe(spec, problem->text, sizeof problem->text);
  running = problem->text;
  signal(SIGSEGV, crash);
  signal(SIGBUS, crash);

  fg_problem *full = &problem->full, *call = &problem->call;
  *full = (fg_problem){
      .kind = spec->kind,
      .m = spec->m,
      .n = spec->n,
      .k = spec->k,
      .groups = spec->groups,
      .a = {.type = spec->a_type, .scaling = spec->a_scaling, .scale_layout = spec->a_layout},
      .b = {.type = spec->b_type, .scaling = spec->b_scaling, .scale_layout = spec->b_layout},
      .c = {.type = spec->c_type},
      .bias = {.type = spec->bias_type},
      .d = {.type = spec->d_type},
      .group_by = spec->group_by,
      .group_type = spec->group_type,
      .group_align = spec->group_align,
      .level = FG_REFERENCE,
  };
  *call = *full;
  if (spec->defaults) {
    if (spec->a_type == FG_E4M3) call->a.type = FG_DEFAULT_TYPE;
    if (spec->b_type == FG_E4M3) call->b.type = FG_DEFAULT_TYPE;
    if (spec->d_type == FG_BF16) call->d.type = FG_DEFAULT_TYPE;
    if (spec->c_type == spec->d_type) call->c.type = FG_DEFAULT_TYPE;
    if (spec->bias_type == FG_FP32) call->bias.type = FG_DEFAULT_TYPE;
    if (spec->a_scaling == FG_1X128) call->a.scaling = FG_DEFAULT_SCALING;
    if (spec->b_scaling == FG_128X128) call->b.scaling = FG_DEFAULT_SCALING;
    if (spec->group_by == (spec->kind == FG_GROUPED_ROWS ? FG_BY_INDEX : FG_BY_COUNTS)) call->group_by = FG_BY_DEFAULT;
  }
  if (spec->kind == FG_DENSE) call->groups = random_below(&state, 5) - 2; /* not looked at */

  choose_groups(problem, &state);
  call->group_values = full->group_values = problem->values.data;
  bool per_group = spec->kind == FG_BATCHED || spec->kind == FG_MASKED;
  int64_t a_matrices = per_group ? spec->groups : 1, b_matrices = spec->kind == FG_GROUPED_K ? 1 : spec->groups;
  int64_t d_matrices = spec->kind == FG_GROUPED_ROWS ? 1 : spec->groups;
  make_factor(problem, &state, &call->a, &full->a, &problem->a, &problem->a_scale, a_matrices, spec->m);
  make_factor(problem, &state, &call->b, &full->b, &problem->b, &problem->b_scale, b_matrices, spec->n);

  int64_t grain = grain_of(spec->copied & COPIES_D, spec->d_type);
  int64_t elements = lay_out(spec, &state, d_matrices, spec->m, spec->n, spec->n, grain, &call->d.ld, &call->d.stride,
                             &full->d.ld, &full->d.stride);
  problem->d = new_region(spec, spec->d_type, grain, elements);
  call->d.data = full->d.data = problem->d.data;
  if (spec->c == C_IS_D) {
    call->c.data = full->c.data = problem->d.data;
    call->c.ld = call->d.ld, call->c.stride = call->d.stride;
    full->c.ld = full->d.ld, full->c.stride = full->d.stride;
  } else if (spec->c == SEPARATE_C) {
    elements = lay_out(spec, &state, d_matrices, spec->m, spec->n, spec->n, 1, &call->c.ld, &call->c.stride, &full->c.ld,
                       &full->c.stride);
    problem->c = new_region(spec, spec->c_type, 1, elements);
    call->c.data = full->c.data = problem->c.data;
  }
  if (spec->bias) {
    elements = lay_out(spec, &state, spec->groups, 1, spec->n, spec->n, 1, &call->bias.ld, &call->bias.stride, &full->bias.ld,
                       &full->bias.stride);
    problem->bias = new_region(spec, spec->bias_type, 1, elements);
    call->bias.data = full->bias.data = problem->bias.data;
  }
  if (spec->kind == FG_MASKED) call->expected_m = random_below(&state, spec->m + 5);

  fill(problem, &state);
  region_protect(&problem->a);
  region_protect(&problem->b);
  region_protect(&problem->c);
  region_protect(&problem->bias);
  region_protect(&problem->a_scale);
  region_protect(&problem->b_scale);
  region_protect(&problem->values);
  problem->before = malloc(problem->d.bytes + 1);
  if (problem->d.bytes) memcpy(problem->before, problem->d.data, problem->d.bytes);
  return problem;
}

void problem_reset(struct problem *problem) {
  if (problem->d.bytes) memcpy(problem->d.data, problem->before, problem->d.bytes);
}

void problem_set_level(struct problem *problem, fg_level level) {
  problem->call.level = level;
  problem->call.split_k = level == FG_HOPPER ? problem->spec.split_k : 0;
}

void problem_free(struct problem *problem) {
  running = "no case";
  region_free(&problem->a);
  region_free(&problem->b);
  region_free(&problem->c);
  region_free(&problem->bias);
  region_free(&problem->d);
  region_free(&problem->a_scale);
  region_free(&problem->b_scale);
  region_free(&problem->values);
  free(problem->rows);
  free(problem->before);
  free(problem);
}

/* The definition */

int64_t d_index(const struct problem *problem, const struct row *row, int64_t j) {
  return row->d_matrix * problem->full.d.stride + row->d_row * problem->full.d.ld + j;
}

void for_each_element(const struct problem *problem, element_function *see_element, void *state) {
  const struct spec *spec = &problem->spec;
  for (int64_t r = 0; r < problem->row_count; r++)
    for (int64_t j = 0; j < spec->n; j++) {
      const struct row *row = &problem->rows[r];
      see_element(problem, row, j, (row->d_matrix * spec->m + row->d_row) * spec->n + j, state);
    }
}

static const float *fp8_values(fg_type type) {
  static float values[3][256];
  if (values[type][1] == 0)
    for (uint32_t code = 0; code < 256; code++) values[type][code] = (float)decode(type, code);
  return values[type];
}

static const unsigned char *codes_of(const fg_operand *full, int64_t matrix, int64_t row) {
  return (const unsigned char *)full->data + matrix * full->stride + row * full->ld;
}

static double c_value(const struct problem *problem, const struct row *row, int64_t j) {
  const fg_operand *c = &problem->full.c;
  const void *data = problem->spec.c == C_IS_D ? problem->before : c->data;
  return decode(c->type, read_bits(c->type, data, row->d_matrix * c->stride + row->d_row * c->ld + j));
}

static double bias_value(const struct problem *problem, const struct row *row, int64_t j) {
  const fg_operand *bias = &problem->full.bias;
  return decode(bias->type, read_bits(bias->type, bias->data, row->group * bias->stride + j));
}

/* An FP8 code of the family hopper: what it is worth, the exponent that it counts with, and what it counts for in a magnitude. */
struct factor {
  double value, size;
  int exponent, own_exponent; /* the latter as if it were normalised */
};

static const struct factor *factors_of(fg_type type) {
  static struct factor factors[3][256];
  if (factors[type][1].value == 0)
    for (uint32_t code = 0; code < 256; code++) {
      double value = decode(type, code), smallest = type == FG_E4M3 ? 0x1p-6 : 0x1p-14;
      double size = value == 0 || !(fabs(value) < smallest) ? fabs(value) : smallest;
      int exponent = isfinite(value) ? ilogb(fmax(fabs(value), smallest)) : 0;
      factors[type][code] = (struct factor){value, size, exponent, value == 0 || !isfinite(value) ? exponent : ilogb(value)};
    }
  return factors[type];
}

/* Cut toward zero to so many fraction bits, FP32's subnormals to those of its smallest normal. x is not zero. */
static double cut(double x, int fraction_bits, bool to_nearest) {
  int exponent = ilogb(x) < -126 ? -126 : ilogb(x);
  double units = ldexp(x, fraction_bits - exponent);
  return ldexp(to_nearest ? nearbyint(units) : trunc(units), exponent - fraction_bits);
}

/* One step of `count` products. Where the rival is a constant nothing is left of the others. */
static inline __attribute__((always_inline)) float mma_step(enum rival rival, const struct factor *a_factors,
                                                            const unsigned char *a, const struct factor *b_factors,
                                                            const unsigned char *b, int64_t count, float c) {
  double products[32], plain = (double)c;
  int none = -1000, highest = none,
      fraction_bits = rival == TWELVE_FRACTION_BITS     ? 12
                      : rival == FOURTEEN_FRACTION_BITS ? 14
                                                        : 13;
  for (int64_t k = 0; k < count; k++) {
    const struct factor *x = &a_factors[a[k]], *y = &b_factors[b[k]];
    double product = products[k] = x->value * y->value;
    int exponent = x->exponent + y->exponent;
    if (rival == SUBNORMALS_NORMALISED) exponent = x->own_exponent + y->own_exponent;
    if (rival == PRODUCTS_NORMALISED && product != 0 && isfinite(product)) exponent = ilogb(product);
    if ((product != 0 || rival == ZEROS_RAISE) && exponent > highest) highest = exponent;
    plain += product;
  }
  if (!isfinite(plain)) return (float)plain; /* FP64's rules for infinity and NaN are the tensor core's, and nothing overflows */
  double addend = rival == ACCUMULATOR_ADDED_AFTER ? 0 : (double)c;
  if (addend != 0) {
    int exponent = ilogb(addend) < -126 ? -126 : ilogb(addend);
    if (exponent > highest) highest = exponent;
  }
  double sum = 0;
  if (highest != none) {
    double scale = ldexp(1, fraction_bits - highest);
    int64_t units = (int64_t)(addend * scale); /* a conversion to integer cuts toward zero */
    for (int64_t k = 0; k < count; k++)
      units += rival == TERMS_TO_NEAREST ? (int64_t)nearbyint(products[k] * scale)
               : rival == TERMS_DOWNWARD ? (int64_t)floor(products[k] * scale)
                                         : (int64_t)(products[k] * scale);
    sum = ldexp((double)units, highest - fraction_bits);
  }
  if (sum != 0 && rival != RESULT_WHOLE) sum = cut(sum, fraction_bits, rival == RESULT_TO_NEAREST);
  return rival == ACCUMULATOR_ADDED_AFTER ? (float)sum + c : (float)sum;
}

static inline __attribute__((always_inline)) float mma_steps(enum rival rival, fg_type a_type, const unsigned char *a,
                                                             fg_type b_type, const unsigned char *b, int64_t k, float c) {
  const struct factor *a_factors = factors_of(a_type), *b_factors = factors_of(b_type);
  int64_t step = rival == SIXTEEN_AT_A_TIME ? 16 : 32;
  for (int64_t k0 = 0; k0 < k; k0 += step)
    c = mma_step(rival, a_factors, a + k0, b_factors, b + k0, k - k0 < step ? k - k0 : step, c);
  return c;
}

float defined_mma(enum rival rival, fg_type a_type, const unsigned char *a, fg_type b_type, const unsigned char *b, int64_t k,
                  float c) {
  return rival == THE_DEFINITION ? mma_steps(THE_DEFINITION, a_type, a, b_type, b, k, c)
                                 : mma_steps(rival, a_type, a, b_type, b, k, c);
}

uint32_t bits_of_float(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static float block_scale(const struct problem *problem, const struct row *row, int64_t j, int64_t block) {
  const fg_operand *a = &problem->full.a, *b = &problem->full.b;
  return a->scale[scale_index(a, row->a_matrix, row->a_row, row->block0 + block)] *
         b->scale[scale_index(b, row->b_matrix, j, row->block0 + block)];
}

static int64_t block_end(const struct row *row, int64_t k) { return row->k1 - k < 128 ? row->k1 : k + 128; }

static float dot_fp32(const float *a_values, const unsigned char *a, const float *b_values, const unsigned char *b,
                      int64_t count) {
  float dot = 0;
  for (int64_t k = 0; k < count; k++) dot = fmaf(a_values[a[k]], b_values[b[k]], dot);
  return dot;
}

uint32_t defined_bits(const struct problem *problem, enum family family, const struct row *row, int64_t j) {
  const fg_operand *a = &problem->full.a, *b = &problem->full.b;
  const unsigned char *a_codes = codes_of(a, row->a_matrix, row->a_row), *b_codes = codes_of(b, row->b_matrix, j);
  const float *a_values = fp8_values(a->type), *b_values = fp8_values(b->type);
  int64_t blocks = ceil128(row->k1 - row->k0), ranges = 1, range = 0;
  if (family == FAMILY_HOPPER && problem->spec.split_k > 1)
    ranges = problem->spec.split_k < blocks ? problem->spec.split_k : blocks;
  float total = 0, sum = 0;
  for (int64_t block = 0, k = row->k0, end; k < row->k1; block++, k = end) {
    end = block_end(row, k);
    if (block == (range + 1) * blocks / ranges) { /* where the next range begins */
      total = range == 0 ? sum : total + sum;
      sum = 0;
      range++;
    }
    float dot = family == FAMILY_HOPPER ? defined_mma(THE_DEFINITION, a->type, a_codes + k, b->type, b_codes + k, end - k, 0)
                                        : dot_fp32(a_values, a_codes + k, b_values, b_codes + k, end - k);
    sum = fmaf(block_scale(problem, row, j, block), dot, sum);
  }
  if (range > 0) sum = total + sum;
  if (problem->spec.c != NO_C) sum = fmaf(1, sum, (float)c_value(problem, row, j));
  if (problem->spec.bias) sum = fmaf(1, sum, (float)bias_value(problem, row, j));
  return encode(problem->spec.d_type, (double)sum);
}

long double exact_value(const struct problem *problem, enum family family, const struct row *row, int64_t j,
                        long double *product_magnitude, long double *c, long double *bias) {
  const fg_operand *a = &problem->full.a, *b = &problem->full.b;
  const unsigned char *a_codes = codes_of(a, row->a_matrix, row->a_row), *b_codes = codes_of(b, row->b_matrix, j);
  const struct factor *a_factors = factors_of(a->type), *b_factors = factors_of(b->type);
  long double value = 0, magnitude = 0;
  for (int64_t block = 0, k = row->k0; k < row->k1; block++) {
    long double dot = 0, size = 0;
    for (int64_t end = block_end(row, k); k < end; k++) {
      const struct factor *x = &a_factors[a_codes[k]], *y = &b_factors[b_codes[k]];
      double product = x->value * y->value;
      dot += (long double)product;
      size += (long double)(family == FAMILY_HOPPER ? x->size * y->size : fabs(product));
    }
    float scale = block_scale(problem, row, j, block);
    value += (long double)scale * dot;
    magnitude += fabsl((long double)scale) * size;
  }
  *product_magnitude = magnitude;
  *c = problem->spec.c != NO_C ? (long double)c_value(problem, row, j) : 0;
  *bias = problem->spec.bias ? (long double)bias_value(problem, row, j) : 0;
  return value + *c + *bias;
}

struct definition {
  enum family family;
  unsigned char *expected;
};

static void put_defined(const struct problem *problem, const struct row *row, int64_t j, int64_t index, void *state) {
  (void)index;
  const struct definition *by = state;
  write_bits(problem->spec.d_type, by->expected, d_index(problem, row, j), defined_bits(problem, by->family, row, j));
}

unsigned char *defined_bytes(const struct problem *problem, enum family family) {
  unsigned char *expected = malloc(problem->d.bytes + 1);
  if (problem->d.bytes) memcpy(expected, problem->before, problem->d.bytes);
  for_each_element(problem, put_defined, &(struct definition){family, expected});
  return expected;
}

/* Looking at D */

bool d_equals(const struct problem *problem, const unsigned char *expected, const char *what) {
  if (!surroundings_kept(&problem->d, problem->spec.d_type)) {
    case_failed(problem, "%s: bytes before or behind d changed", what);
    return false;
  }
  if (problem->d.bytes == 0 || memcmp(problem->d.data, expected, problem->d.bytes) == 0) return true;
  size_t width = bytes_of(problem->spec.d_type), i = 0;
  while (memcmp(problem->d.data + i * width, expected + i * width, width) == 0) i++;
  case_failed(problem, "%s: element %zu of d is 0x%X, not 0x%X", what, i,
              read_bits(problem->spec.d_type, problem->d.data, (int64_t)i),
              read_bits(problem->spec.d_type, expected, (int64_t)i));
  return false;
}

static void take_over(const struct problem *problem, const struct row *row, int64_t j, int64_t index, void *expected) {
  (void)index;
  int64_t i = d_index(problem, row, j);
  write_bits(problem->spec.d_type, expected, i, read_bits(problem->spec.d_type, problem->d.data, i));
}

bool d_kept_elsewhere(const struct problem *problem, const char *what) {
  unsigned char *expected = malloc(problem->d.bytes + 1);
  if (problem->d.bytes) memcpy(expected, problem->before, problem->d.bytes);
  for_each_element(problem, take_over, expected);
  bool kept = d_equals(problem, expected, what);
  free(expected);
  return kept;
}

bool d_untouched(const struct problem *problem, const char *what) { return d_equals(problem, problem->before, what); }
