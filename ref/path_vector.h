/* What the vector paths have in common: how a step of STEP elements becomes a whole array. Included by path_avx2.c and
 * path_avx512.c after they defined
 *
 *     TARGET, INLINE   the attributes that allow a function the path's instructions, and make a small one part of its caller
 *     STEP             elements in a step
 *     vector           a register
 *     PATH             the name of the struct fg_path
 *
 * and, with types that are constants wherever they are called, one step each of
 *
 *     to_float_step(type, from, scale, to)               times *scale, or if scale is NULL the value itself, NaN canonical
 *     from_float_step(type, from, to)
 *     encode_step(encoding, x_type, x, inverse_scale, q)
 *     max_step(x_type, x, max)                           max, and the magnitudes of x, lane by lane
 *     larger(x_type, max, max)                           lane by lane
 *     max_lane(x_type, max)                              the largest lane
 */
enum { STEP_BYTES = STEP * sizeof(float) };

/* Whole steps, and what remains as a step that is filled up with zeros. */

INLINE void to_float_of(fg_type type, const void *from, const float *scale, float *to, int64_t count) {
  int64_t i = 0;
  for (; i + STEP <= count; i += STEP) to_float_step(type, at(type, from, i), scale, to + i);
  if (i == count) return;
  char rest[STEP_BYTES] = {0};
  float rest_to[STEP];
  memcpy(rest, at(type, from, i), bytes_of(type, count - i));
  to_float_step(type, rest, scale, rest_to);
  memcpy(to + i, rest_to, bytes_of(FG_FP32, count - i));
}

INLINE void from_float_of(fg_type type, const float *from, void *to, int64_t count) {
  int64_t i = 0;
  for (; i + STEP <= count; i += STEP) from_float_step(type, from + i, (char *)to + bytes_of(type, i));
  if (i == count) return;
  float rest[STEP] = {0};
  char rest_to[STEP_BYTES];
  memcpy(rest, from + i, bytes_of(FG_FP32, count - i));
  from_float_step(type, rest, rest_to);
  memcpy((char *)to + bytes_of(type, i), rest_to, bytes_of(type, count - i));
}

INLINE void encode_of(const struct fg_encoding *encoding, fg_type x_type, const void *x, float inverse_scale, uint8_t *q,
                      int64_t count) {
  int64_t i = 0;
  for (; i + STEP <= count; i += STEP) encode_step(encoding, x_type, at(x_type, x, i), inverse_scale, q + i);
  if (i == count) return;
  char rest[STEP_BYTES] = {0};
  uint8_t rest_to[STEP];
  memcpy(rest, at(x_type, x, i), bytes_of(x_type, count - i));
  encode_step(encoding, x_type, rest, inverse_scale, rest_to);
  memcpy(q + i, rest_to, (size_t)(count - i));
}

/* A long array is read in several places at once, which keeps more of the memory's channels busy. */
INLINE uint32_t max_magnitude_of(fg_type x_type, const void *x, int64_t count) {
  enum { PLACES = 4, LONG = 4096 };
  vector max[PLACES] = {{0}};
  int64_t part = count < LONG ? 0 : count / (PLACES * STEP) * STEP, i = 0;
  for (; i < part; i += STEP)
    for (int place = 0; place < PLACES; place++) max[place] = max_step(x_type, at(x_type, x, place * part + i), max[place]);
  for (int place = 1; place < PLACES; place++) max[0] = larger(x_type, max[0], max[place]);
  for (i = PLACES * part; i + STEP <= count; i += STEP) max[0] = max_step(x_type, at(x_type, x, i), max[0]);
  if (i < count) {
    char rest[STEP_BYTES] = {0};
    memcpy(rest, at(x_type, x, i), bytes_of(x_type, count - i));
    max[0] = max_step(x_type, rest, max[0]);
  }
  return max_lane(x_type, max[0]);
}

/* Writes the scale of a group of `count` elements and returns its inverse. */
INLINE float scale_group(fg_type x_type, const struct fg_quantisation *quantisation, struct fg_group group, int64_t count) {
  float scale = fg_scale_for(quantisation, max_magnitude_of(x_type, group.x, count));
  *group.scale = scale;
  return 1.0f / scale;
}

/* Asks for what will be read eight groups from now: by itself the hardware does not look that far, nor across pages. Measured in
 * bench/README.md. */
INLINE void prefetch_group(fg_type x_type, const void *x) {
  const uintptr_t group_bytes = bytes_of(x_type, FG_BLOCK_K), from = (uintptr_t)x + 8 * group_bytes;
  for (uintptr_t line = 0; line < group_bytes; line += 64) __builtin_prefetch((const void *)(from + line));
}

/* The scales of a few groups, then their codes: so the scales' long chains of operations run side by side. The next few groups are
 * asked from memory meanwhile. */
INLINE void quantise_groups_of(fg_type x_type, const struct fg_quantisation *quantisation, int64_t row, int64_t block,
                               int64_t end) {
  enum { FEW = 8 };
  struct fg_encoding encoding = fg_encoding_of(quantisation->q_type);
  int64_t whole = quantisation->cols / FG_BLOCK_K < end ? quantisation->cols / FG_BLOCK_K : end;
  while (block < whole) {
    float inverse_scale[FEW];
    int few = whole - block < FEW ? (int)(whole - block) : FEW;
    for (int i = 0; i < few; i++)
      inverse_scale[i] = scale_group(x_type, quantisation, fg_group_at(quantisation, row, block + i), FG_BLOCK_K);
    for (int i = 0; i < few; i++) {
      struct fg_group group = fg_group_at(quantisation, row, block + i);
      for (size_t line = 0; line < bytes_of(x_type, FG_BLOCK_K); line += 64)
        __builtin_prefetch((const char *)at(x_type, group.x, FEW * FG_BLOCK_K) + line);
      encode_of(&encoding, x_type, group.x, inverse_scale[i], group.q, FG_BLOCK_K);
    }
    block += few;
  }
  if (block < end) {
    struct fg_group group = fg_group_at(quantisation, row, block);
    encode_of(&encoding, x_type, group.x, scale_group(x_type, quantisation, group, group.count), group.q, group.count);
  }
}

/* A statement for each type, in which T is that type as a constant. */
#define CASE(type, ...)                                                                                                          \
  case type: {                                                                                                                   \
    const fg_type T = type;                                                                                                      \
    __VA_ARGS__;                                                                                                                 \
    break;                                                                                                                       \
  }
#define FP8_CASES(...) CASE(FG_E4M3, __VA_ARGS__) CASE(FG_E5M2, __VA_ARGS__)
#define WIDE_CASES(...) CASE(FG_BF16, __VA_ARGS__) CASE(FG_FP16, __VA_ARGS__) CASE(FG_FP32, __VA_ARGS__)

TARGET static void to_float(fg_type type, const void *from, float *to, int64_t count) {
  switch ((int)type) { FP8_CASES(to_float_of(T, from, NULL, to, count)) WIDE_CASES(to_float_of(T, from, NULL, to, count)) }
}

TARGET static void from_float(fg_type type, const float *from, void *to, int64_t count) {
  switch ((int)type) { FP8_CASES(from_float_of(T, from, to, count)) WIDE_CASES(from_float_of(T, from, to, count)) }
}

TARGET static void fp8_scale_to_float(fg_type type, const uint8_t *from, float scale, float *to, int64_t count) {
  switch ((int)type) { FP8_CASES(to_float_of(T, from, &scale, to, count)) }
}

TARGET static uint32_t max_magnitude(fg_type x_type, const void *x, int64_t count) {
  return x_type == FG_FP32 ? max_magnitude_of(FG_FP32, x, count) : max_magnitude_of(FG_BF16, x, count);
}

TARGET static void encode(fg_type x_type, const void *x, float inverse_scale, fg_type q_type, uint8_t *q, int64_t count) {
  struct fg_encoding encoding = fg_encoding_of(q_type);
  switch ((int)x_type) { WIDE_CASES(encode_of(&encoding, T, x, inverse_scale, q, count)) }
}

TARGET static void quantise_groups(const struct fg_quantisation *quantisation, int64_t row, int64_t block, int64_t end) {
  switch ((int)quantisation->x_type) { WIDE_CASES(quantise_groups_of(T, quantisation, row, block, end)) }
}

const struct fg_path PATH = {to_float, from_float, fp8_scale_to_float, max_magnitude, encode, quantise_groups};
