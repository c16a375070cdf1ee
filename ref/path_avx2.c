/* The path for AVX2 with FMA and F16C. path_avx512.c mirrors it. */
#if defined(__x86_64__)
#include "path.h"
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline, target("avx2,fma,f16c")))

enum { STEP = 32 }; /* elements at a time: four vectors of FP32 */

/* A step of elements; x[0], x[1] are the first half. */
struct step {
  __m256 x[4];
};

INLINE __m256i load(const void *p) { return _mm256_loadu_si256(p); }
INLINE __m128i load_half(const void *p) { return _mm_loadu_si128(p); }
INLINE void store(void *p, __m256i v) { _mm256_storeu_si256(p, v); }
INLINE __m256 without_sign(__m256 x) { return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF))); }
INLINE __m256 is_nan(__m256 x) { return _mm256_cmp_ps(x, x, _CMP_UNORD_Q); }
INLINE __m256 canonical(__m256 x) {
  return _mm256_blendv_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32((int)FG_NAN_BITS)), is_nan(x));
}

INLINE size_t bytes_of(fg_type type, int64_t count) { return (size_t)count * (type == FG_FP32 ? 4 : type < FG_BF16 ? 1 : 2); }
INLINE const void *at(fg_type type, const void *array, int64_t i) { return (const char *)array + bytes_of(type, i); }

/* FP8 through FP16, which has subnormals and, for E5M2, the same exponents; E4M3 comes out 2^-8 times its value. */
INLINE __m256i fp8_to_fp16(fg_type type, __m256i codes) {
  __m256i high = _mm256_slli_epi16(codes, 8);
  if (type == FG_E5M2) return high;
  __m256i nan = _mm256_cmpeq_epi16(_mm256_or_si256(codes, _mm256_set1_epi16(0x80)), _mm256_set1_epi16(0xFF));
  __m256i half = _mm256_and_si256(_mm256_srai_epi16(high, 1), _mm256_set1_epi16((short)0xBFFF));
  return _mm256_or_si256(half, nan);
}

/* The elements' values in their order, NaN being any NaN. */
INLINE struct step values(fg_type type, const void *from) {
  struct step step;
  for (int i = 0; i < 4; i++)
    if (type == FG_FP32)
      step.x[i] = _mm256_loadu_ps((const float *)from + 8 * i);
    else if (type == FG_FP16)
      step.x[i] = _mm256_cvtph_ps(load_half((const uint16_t *)from + 8 * i));
    else if (type == FG_BF16)
      step.x[i] = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_half((const uint16_t *)from + 8 * i)), 16));
  if (type == FG_E4M3 || type == FG_E5M2)
    for (int i = 0; i < 4; i += 2) {
      __m256i half = fp8_to_fp16(type, _mm256_cvtepu8_epi16(load_half((const uint8_t *)from + 8 * i)));
      step.x[i] = _mm256_cvtph_ps(_mm256_castsi256_si128(half));
      step.x[i + 1] = _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1));
    }
  if (type == FG_E4M3)
    for (int i = 0; i < 4; i++) step.x[i] = _mm256_mul_ps(step.x[i], _mm256_set1_ps(256.0f));
  return step;
}

/* The values in the order in which the packs of encode_step() put them right most cheaply; `order` is what is left to do, by four
 * codes. BF16 needs no more than zeros interleaved below it. */
INLINE struct step values_to_pack(fg_type type, const void *from, __m256i *order) {
  if (type != FG_BF16) {
    *order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return values(type, from);
  }
  *order = _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
  __m256i zero = _mm256_setzero_si256(), first = load(from), second = load((const uint16_t *)from + 16);
  return (struct step){
      {_mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, first)), _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, first)),
       _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, second)), _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, second))}};
}

/* The top bits of a step's 32-bit lanes as the top bits of bytes: packing saturates, and so keeps the sign. */
INLINE __m256i pack_signs(struct step step) {
  __m256i first = _mm256_packs_epi32(_mm256_castps_si256(step.x[0]), _mm256_castps_si256(step.x[1]));
  __m256i second = _mm256_packs_epi32(_mm256_castps_si256(step.x[2]), _mm256_castps_si256(step.x[3]));
  return _mm256_packs_epi16(first, second);
}

/* The codes of RN(x * factor), as struct fg_encoding describes. `any`: x may be NaN, infinite or beyond the range. */
INLINE __m256i encode_step(const struct fg_encoding *encoding, struct step step, __m256 factor, int any) {
  __m256i sum[4];
  struct step nan = step;
  for (int i = 0; i < 4; i++) {
    __m256 a = _mm256_mul_ps(without_sign(step.x[i]), factor);
    if (any) nan.x[i] = is_nan(a), a = _mm256_min_ps(a, _mm256_set1_ps(encoding->largest)); /* of NaN: the second operand */
    __m256 power = _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(FG_INFINITY_BITS)));
    power = _mm256_max_ps(power, _mm256_set1_ps(encoding->smallest_normal));
    sum[i] = _mm256_castps_si256(_mm256_fmadd_ps(power, _mm256_set1_ps(encoding->spread), a));
    sum[i] = _mm256_madd_epi16(sum[i], _mm256_set1_epi32(encoding->weights));
  }
  __m256i offset = _mm256_set1_epi16(encoding->offset), to_code = _mm256_set1_epi16((short)encoding->to_code);
  __m256i first = _mm256_mulhi_epu16(_mm256_sub_epi16(_mm256_packs_epi32(sum[0], sum[1]), offset), to_code);
  __m256i second = _mm256_mulhi_epu16(_mm256_sub_epi16(_mm256_packs_epi32(sum[2], sum[3]), offset), to_code);
  __m256i codes = _mm256_packus_epi16(first, second);
  codes = _mm256_or_si256(codes, _mm256_and_si256(pack_signs(step), _mm256_set1_epi8((char)0x80)));
  return any ? _mm256_blendv_epi8(codes, _mm256_set1_epi8(0x7F), pack_signs(nan)) : codes;
}

INLINE void encode_to(const struct fg_encoding *encoding, fg_type x_type, const void *x, __m256 factor, int any, uint8_t *q) {
  __m256i order;
  struct step step = values_to_pack(x_type, x, &order);
  store(q, _mm256_permutevar8x32_epi32(encode_step(encoding, step, factor, any), order));
}

INLINE void from_float_step(fg_type type, const float *from, void *to) {
  if (type == FG_E4M3 || type == FG_E5M2) {
    struct fg_encoding encoding = fg_encoding_of(type);
    encode_to(&encoding, FG_FP32, from, _mm256_set1_ps(1.0f), 1, to);
    return;
  }
  struct step step = values(FG_FP32, from);
  __m256i bf16[4];
  for (int i = 0; i < 4; i++)
    if (type == FG_FP32)
      _mm256_storeu_ps((float *)to + 8 * i, canonical(step.x[i]));
    else if (type == FG_FP16)
      _mm_storeu_si128((void *)((uint16_t *)to + 8 * i), _mm256_cvtps_ph(canonical(step.x[i]), _MM_FROUND_TO_NEAREST_INT));
    else {
      __m256i bits = _mm256_castps_si256(step.x[i]);
      __m256i last_kept = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
      __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), last_kept);
      bf16[i] = _mm256_srli_epi32(rounded, 16);
      bf16[i] = _mm256_blendv_epi8(bf16[i], _mm256_set1_epi32(0x7FFF), _mm256_castps_si256(is_nan(step.x[i])));
    }
  if (type == FG_BF16)
    for (int i = 0; i < 4; i += 2)
      store((uint16_t *)to + 8 * i, _mm256_permute4x64_epi64(_mm256_packus_epi32(bf16[i], bf16[i + 1]), 0xD8));
}

/* Below, whole steps and then the rest as a step filled up with zeros. Types are constants where these are called. */

INLINE void to_float_step(fg_type type, const void *from, const float *scale, float *to) {
  struct step step = values(type, from);
  for (int i = 0; i < 4; i++)
    _mm256_storeu_ps(to + 8 * i, scale ? _mm256_mul_ps(step.x[i], _mm256_set1_ps(*scale)) : canonical(step.x[i]));
}

INLINE void to_float_of(fg_type type, const void *from, const float *scale, float *to, int64_t count) {
  int64_t i = 0;
  for (; i + STEP <= count; i += STEP) to_float_step(type, at(type, from, i), scale, to + i);
  if (i == count) return;
  char rest[STEP * sizeof(float)] = {0};
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
  char rest_to[STEP * sizeof(float)];
  memcpy(rest, from + i, bytes_of(FG_FP32, count - i));
  from_float_step(type, rest, rest_to);
  memcpy((char *)to + bytes_of(type, i), rest_to, bytes_of(type, count - i));
}

INLINE void encode_of(const struct fg_encoding *encoding, fg_type x_type, const void *x, float inverse_scale, uint8_t *q,
                      int64_t count) {
  __m256 factor = _mm256_set1_ps(inverse_scale);
  int64_t i = 0;
  for (; i + STEP <= count; i += STEP) encode_to(encoding, x_type, at(x_type, x, i), factor, 0, q + i);
  if (i == count) return;
  char rest[STEP * sizeof(float)] = {0};
  uint8_t rest_to[STEP];
  memcpy(rest, at(x_type, x, i), bytes_of(x_type, count - i));
  encode_to(encoding, x_type, rest, factor, 0, rest_to);
  memcpy(q + i, rest_to, (size_t)(count - i));
}

INLINE __m256i max_step(fg_type type, const void *x, __m256i max) {
  if (type == FG_FP32)
    for (int i = 0; i < STEP; i += 8)
      max = _mm256_max_epu32(max, _mm256_and_si256(load(at(type, x, i)), _mm256_set1_epi32(0x7FFFFFFF)));
  else
    for (int i = 0; i < STEP; i += 16)
      max = _mm256_max_epu16(max, _mm256_and_si256(load(at(type, x, i)), _mm256_set1_epi16(0x7FFF)));
  return max;
}

INLINE uint32_t max_magnitude_of(fg_type type, const void *x, int64_t count) {
  __m256i max = _mm256_setzero_si256();
  int64_t i = 0;
  for (; i + STEP <= count; i += STEP) max = max_step(type, at(type, x, i), max);
  if (i < count) {
    char rest[STEP * sizeof(float)] = {0};
    memcpy(rest, at(type, x, i), bytes_of(type, count - i));
    max = max_step(type, rest, max);
  }
  __m128i low = _mm256_castsi256_si128(max), high = _mm256_extracti128_si256(max, 1);
  if (type != FG_FP32) /* there is an instruction for the smallest of eight only */
    return 0xFFFFu & ~(uint32_t)_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(_mm_max_epu16(low, high), _mm_set1_epi16(-1))));
  __m128i four = _mm_max_epu32(low, high), two = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4E));
  return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(two, _mm_shuffle_epi32(two, 0xB1)));
}

INLINE void quantise_groups_of(fg_type x_type, const struct fg_quantisation *quantisation, int64_t row, int64_t block,
                               int64_t end) {
  struct fg_encoding encoding = fg_encoding_of(quantisation->q_type);
  for (; block < end; block++) {
    struct fg_group group = fg_group_at(quantisation, row, block);
    float scale = fg_scale_for(quantisation, max_magnitude_of(x_type, group.x, group.count));
    *group.scale = scale;
    encode_of(&encoding, x_type, group.x, 1.0f / scale, group.q, group.count);
  }
}

/* The types made constants. */

AVX2 static void to_float(fg_type type, const void *from, float *to, int64_t count) {
  switch (type) {
  case FG_E5M2:
    to_float_of(FG_E5M2, from, NULL, to, count);
    break;
  case FG_BF16:
    to_float_of(FG_BF16, from, NULL, to, count);
    break;
  case FG_FP16:
    to_float_of(FG_FP16, from, NULL, to, count);
    break;
  case FG_FP32:
    to_float_of(FG_FP32, from, NULL, to, count);
    break;
  default:
    to_float_of(FG_E4M3, from, NULL, to, count);
  }
}

AVX2 static void from_float(fg_type type, const float *from, void *to, int64_t count) {
  switch (type) {
  case FG_E5M2:
    from_float_of(FG_E5M2, from, to, count);
    break;
  case FG_BF16:
    from_float_of(FG_BF16, from, to, count);
    break;
  case FG_FP16:
    from_float_of(FG_FP16, from, to, count);
    break;
  case FG_FP32:
    from_float_of(FG_FP32, from, to, count);
    break;
  default:
    from_float_of(FG_E4M3, from, to, count);
  }
}

AVX2 static void fp8_scale_to_float(fg_type type, const uint8_t *from, float scale, float *to, int64_t count) {
  if (type == FG_E5M2)
    to_float_of(FG_E5M2, from, &scale, to, count);
  else
    to_float_of(FG_E4M3, from, &scale, to, count);
}

AVX2 static uint32_t max_magnitude(fg_type x_type, const void *x, int64_t count) {
  return x_type == FG_FP32 ? max_magnitude_of(FG_FP32, x, count) : max_magnitude_of(FG_BF16, x, count);
}

AVX2 static void encode(fg_type x_type, const void *x, float inverse_scale, fg_type q_type, uint8_t *q, int64_t count) {
  struct fg_encoding encoding = fg_encoding_of(q_type);
  switch (x_type) {
  case FG_BF16:
    encode_of(&encoding, FG_BF16, x, inverse_scale, q, count);
    break;
  case FG_FP16:
    encode_of(&encoding, FG_FP16, x, inverse_scale, q, count);
    break;
  default:
    encode_of(&encoding, FG_FP32, x, inverse_scale, q, count);
  }
}

AVX2 static void quantise_groups(const struct fg_quantisation *quantisation, int64_t row, int64_t block, int64_t end) {
  switch (quantisation->x_type) {
  case FG_BF16:
    quantise_groups_of(FG_BF16, quantisation, row, block, end);
    break;
  case FG_FP16:
    quantise_groups_of(FG_FP16, quantisation, row, block, end);
    break;
  default:
    quantise_groups_of(FG_FP32, quantisation, row, block, end);
  }
}

const struct fg_path fg_path_avx2 = {to_float, from_float, fp8_scale_to_float, max_magnitude, encode, quantise_groups};

#endif
