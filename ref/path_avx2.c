/* The path for AVX2 with FMA and F16C. path_avx512.c mirrors it. */
#include "path.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline, target("avx2,fma,f16c")))
#define PATH fg_path_avx2

enum { STEP = 32 }; /* elements at a time: four vectors of FP32 */
typedef __m256i vector;

/* A step of elements; x[0], x[1] are the first half. */
struct step {
  __m256 x[4];
};

INLINE size_t bytes_of(fg_type type, int64_t count) { return (size_t)count * (type == FG_FP32 ? 4 : type < FG_BF16 ? 1 : 2); }
INLINE const void *at(fg_type type, const void *array, int64_t i) { return (const char *)array + bytes_of(type, i); }

INLINE __m256i load(const void *p) { return _mm256_loadu_si256(p); }
INLINE __m128i load_half(const void *p) { return _mm_loadu_si128(p); }
INLINE void store(void *p, __m256i v) { _mm256_storeu_si256(p, v); }
INLINE __m256 without_sign(__m256 x) { return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF))); }

/* On the bits: some compilers take a comparison of converted FP16 apart into eight. */
INLINE __m256 is_nan(__m256 x) {
  __m256i magnitude = _mm256_castps_si256(without_sign(x));
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(FG_INFINITY_BITS)));
}

INLINE __m256 canonical(__m256 x) {
  return _mm256_blendv_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32((int)FG_NAN_BITS)), is_nan(x));
}

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

/* The top bits of 32-bit lanes as the top bits of bytes, in codes_of()'s order: packing saturates, and so keeps the sign. */
INLINE __m256i pack_signs(struct step step) {
  __m256i first = _mm256_packs_epi32(_mm256_castps_si256(step.x[0]), _mm256_castps_si256(step.x[1]));
  __m256i second = _mm256_packs_epi32(_mm256_castps_si256(step.x[2]), _mm256_castps_si256(step.x[3]));
  return _mm256_packs_epi16(first, second);
}

/* |RN(x * factor)| and, as the top bits of bytes, the signs, each in the order that codes_of() takes. */
INLINE struct step scaled_magnitudes(fg_type type, const void *from, float factor, __m256i *signs) {
  struct step step;
  if (type == FG_BF16) {
    /* Zeros interleaved below BF16 make it FP32, and the packs undo the interleaving. */
    __m256i zero = _mm256_setzero_si256();
    __m256i first = _mm256_inserti128_si256(_mm256_castsi128_si256(load_half(from)), load_half(at(type, from, 16)), 1);
    __m256i second =
        _mm256_inserti128_si256(_mm256_castsi128_si256(load_half(at(type, from, 8))), load_half(at(type, from, 24)), 1);
    *signs = _mm256_packs_epi16(first, second);
    first = _mm256_and_si256(first, _mm256_set1_epi16(0x7FFF));
    second = _mm256_and_si256(second, _mm256_set1_epi16(0x7FFF));
    step = (struct step){
        {_mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, first)), _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, first)),
         _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, second)), _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, second))}};
  } else {
    step = values(type, from);
    *signs = pack_signs(step);
    for (int i = 0; i < 4; i++) step.x[i] = without_sign(step.x[i]);
  }
  for (int i = 0; i < 4; i++) step.x[i] = _mm256_mul_ps(step.x[i], _mm256_set1_ps(factor));
  return step;
}

/* The codes of magnitudes, as struct fg_encoding describes. */
INLINE __m256i codes_of(const struct fg_encoding *encoding, struct step step) {
  __m256i sum[4];
  for (int i = 0; i < 4; i++) {
    __m256 power = _mm256_and_ps(step.x[i], _mm256_castsi256_ps(_mm256_set1_epi32(FG_INFINITY_BITS)));
    power = _mm256_max_ps(power, _mm256_set1_ps(encoding->smallest_normal));
    sum[i] = _mm256_castps_si256(_mm256_fmadd_ps(power, _mm256_set1_ps(encoding->spread), step.x[i]));
    sum[i] = _mm256_madd_epi16(sum[i], _mm256_set1_epi32(encoding->weights));
  }
  __m256i offset = _mm256_set1_epi16(encoding->offset), to_code = _mm256_set1_epi16((short)encoding->to_code);
  __m256i first = _mm256_mulhi_epu16(_mm256_sub_epi16(_mm256_packs_epi32(sum[0], sum[1]), offset), to_code);
  __m256i second = _mm256_mulhi_epu16(_mm256_sub_epi16(_mm256_packs_epi32(sum[2], sum[3]), offset), to_code);
  return _mm256_packus_epi16(first, second);
}

INLINE __m256i with_signs(__m256i codes, __m256i signs) {
  return _mm256_or_si256(codes, _mm256_and_si256(signs, _mm256_set1_epi8((char)0x80)));
}

/* The packs work in each half of a vector: puts the codes of four vectors in the elements' order. */
INLINE __m256i in_order(__m256i codes) { return _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)); }

INLINE void encode_step(const struct fg_encoding *encoding, fg_type x_type, const void *x, float inverse_scale, uint8_t *q) {
  __m256i signs;
  struct step step = scaled_magnitudes(x_type, x, inverse_scale, &signs);
  __m256i codes = with_signs(codes_of(encoding, step), signs);
  store(q, x_type == FG_BF16 ? codes : in_order(codes));
}

INLINE __m256i to_fp8(fg_type type, struct step step) {
  struct fg_encoding encoding = fg_encoding_of(type);
  struct step magnitudes, nan;
  for (int i = 0; i < 4; i++) {
    magnitudes.x[i] = _mm256_min_ps(without_sign(step.x[i]), _mm256_set1_ps(encoding.largest)); /* NaN: the largest, too */
    nan.x[i] = is_nan(step.x[i]);
  }
  __m256i codes = with_signs(codes_of(&encoding, magnitudes), pack_signs(step));
  return in_order(_mm256_blendv_epi8(codes, _mm256_set1_epi8(0x7F), pack_signs(nan)));
}

INLINE __m256i to_bf16(__m256 x) { /* in 32-bit lanes */
  __m256i bits = _mm256_castps_si256(x), last_kept = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), last_kept), 16);
  return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7FFF), _mm256_castps_si256(is_nan(x)));
}

INLINE void from_float_step(fg_type type, const float *from, void *to) {
  struct step step = values(FG_FP32, from);
  if (type == FG_E4M3 || type == FG_E5M2) store(to, to_fp8(type, step));
  for (int i = 0; i < 4; i += 2)
    if (type == FG_BF16) {
      __m256i packed = _mm256_packus_epi32(to_bf16(step.x[i]), to_bf16(step.x[i + 1]));
      store((uint16_t *)to + 8 * i, _mm256_permute4x64_epi64(packed, 0xD8)); /* its quarters: 0, 2, 1, 3 */
    }
  for (int i = 0; i < 4; i++) {
    if (type == FG_FP16)
      _mm_storeu_si128((void *)((uint16_t *)to + 8 * i), _mm256_cvtps_ph(canonical(step.x[i]), _MM_FROUND_TO_NEAREST_INT));
    if (type == FG_FP32) _mm256_storeu_ps((float *)to + 8 * i, canonical(step.x[i]));
  }
}

INLINE void to_float_step(fg_type type, const void *from, const float *scale, float *to) {
  struct step step = values(type, from);
  for (int i = 0; i < 4; i++)
    _mm256_storeu_ps(to + 8 * i, scale ? _mm256_mul_ps(step.x[i], _mm256_set1_ps(*scale)) : canonical(step.x[i]));
}

INLINE __m256i larger(fg_type type, __m256i a, __m256i b) {
  return type == FG_FP32 ? _mm256_max_epu32(a, b) : _mm256_max_epu16(a, b);
}

INLINE __m256i max_step(fg_type type, const void *x, __m256i max) {
  __m256i magnitude = type == FG_FP32 ? _mm256_set1_epi32(0x7FFFFFFF) : _mm256_set1_epi16(0x7FFF);
  for (size_t i = 0; i < bytes_of(type, STEP); i += sizeof(__m256i))
    max = larger(type, max, _mm256_and_si256(load((const char *)x + i), magnitude));
  return max;
}

INLINE uint32_t max_lane(fg_type type, __m256i max) {
  __m128i low = _mm256_castsi256_si128(max), high = _mm256_extracti128_si256(max, 1);
  if (type != FG_FP32) /* there is an instruction for the smallest of eight only */
    return 0xFFFFu & ~(uint32_t)_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(_mm_max_epu16(low, high), _mm_set1_epi16(-1))));
  __m128i four = _mm_max_epu32(low, high), two = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4E));
  return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(two, _mm_shuffle_epi32(two, 0xB1)));
}

#include "path_vector.h"
#endif
