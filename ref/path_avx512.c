/* The path for AVX-512 F, BW, VL and DQ: path_avx2.c with vectors twice as wide, and masks. */
#include "path.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define INLINE static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512vl,avx512dq")))
#define PATH fg_path_avx512

enum { STEP = 64 }; /* elements at a time: four vectors of FP32 */
typedef __m512i vector;

/* A step of elements; x[0], x[1] are the first half. */
struct step {
  __m512 x[4];
};

INLINE size_t bytes_of(fg_type type, int64_t count) { return (size_t)count * (type == FG_FP32 ? 4 : type < FG_BF16 ? 1 : 2); }
INLINE const void *at(fg_type type, const void *array, int64_t i) { return (const char *)array + bytes_of(type, i); }

INLINE __m512i load(const void *p) { return _mm512_loadu_si512(p); }
INLINE __m256i load_half(const void *p) { return _mm256_loadu_si256(p); }
INLINE void store(void *p, __m512i v) { _mm512_storeu_si512(p, v); }
INLINE __m512 without_sign(__m512 x) { return _mm512_and_ps(x, _mm512_castsi512_ps(_mm512_set1_epi32(0x7FFFFFFF))); }

/* On the bits: some compilers take a comparison of converted FP16 apart into sixteen. */
INLINE __mmask16 is_nan(__m512 x) {
  return _mm512_cmpgt_epi32_mask(_mm512_castps_si512(without_sign(x)), _mm512_set1_epi32(FG_INFINITY_BITS));
}

INLINE __m512 canonical(__m512 x) {
  return _mm512_mask_mov_ps(x, is_nan(x), _mm512_castsi512_ps(_mm512_set1_epi32((int)FG_NAN_BITS)));
}

/* FP8 through FP16, which has subnormals and, for E5M2, the same exponents; E4M3 comes out 2^-8 times its value. */
INLINE __m512i fp8_to_fp16(fg_type type, __m512i codes) {
  __m512i high = _mm512_slli_epi16(codes, 8);
  if (type == FG_E5M2) return high;
  __mmask32 nan = _mm512_cmpeq_epi16_mask(_mm512_or_si512(codes, _mm512_set1_epi16(0x80)), _mm512_set1_epi16(0xFF));
  __m512i half = _mm512_and_si512(_mm512_srai_epi16(high, 1), _mm512_set1_epi16((short)0xBFFF));
  return _mm512_mask_mov_epi16(half, nan, _mm512_set1_epi16(-1));
}

/* The elements' values in their order, NaN being any NaN. */
INLINE struct step values(fg_type type, const void *from) {
  struct step step;
  for (int i = 0; i < 4; i++)
    if (type == FG_FP32)
      step.x[i] = _mm512_loadu_ps((const float *)from + 16 * i);
    else if (type == FG_FP16)
      step.x[i] = _mm512_cvtph_ps(load_half((const uint16_t *)from + 16 * i));
    else if (type == FG_BF16)
      step.x[i] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_half((const uint16_t *)from + 16 * i)), 16));
  if (type == FG_E4M3 || type == FG_E5M2)
    for (int i = 0; i < 4; i += 2) {
      __m512i half = fp8_to_fp16(type, _mm512_cvtepu8_epi16(load_half((const uint8_t *)from + 16 * i)));
      step.x[i] = _mm512_cvtph_ps(_mm512_castsi512_si256(half));
      step.x[i + 1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1));
    }
  if (type == FG_E4M3)
    for (int i = 0; i < 4; i++) step.x[i] = _mm512_mul_ps(step.x[i], _mm512_set1_ps(256.0f));
  return step;
}

/* The top bits of 32-bit lanes as the top bits of bytes, in codes_of()'s order: packing saturates, and so keeps the sign. */
INLINE __m512i pack_signs(struct step step) {
  __m512i first = _mm512_packs_epi32(_mm512_castps_si512(step.x[0]), _mm512_castps_si512(step.x[1]));
  __m512i second = _mm512_packs_epi32(_mm512_castps_si512(step.x[2]), _mm512_castps_si512(step.x[3]));
  return _mm512_packs_epi16(first, second);
}

/* |RN(x * factor)| and, as the top bits of bytes, the signs, each in the order that codes_of() takes. */
INLINE struct step scaled_magnitudes(fg_type type, const void *from, float factor, __m512i *signs) {
  struct step step;
  if (type == FG_BF16) {
    /* Zeros interleaved below BF16 make it FP32, and the packs undo the interleaving. */
    __m512i zero = _mm512_setzero_si512(), first = load(from), second = load(at(type, from, 32));
    *signs = _mm512_packs_epi16(first, second);
    first = _mm512_and_si512(first, _mm512_set1_epi16(0x7FFF));
    second = _mm512_and_si512(second, _mm512_set1_epi16(0x7FFF));
    step = (struct step){
        {_mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, first)), _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, first)),
         _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, second)), _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, second))}};
  } else {
    step = values(type, from);
    *signs = pack_signs(step);
    for (int i = 0; i < 4; i++) step.x[i] = without_sign(step.x[i]);
  }
  for (int i = 0; i < 4; i++) step.x[i] = _mm512_mul_ps(step.x[i], _mm512_set1_ps(factor));
  return step;
}

/* The codes of magnitudes, as struct fg_encoding describes. */
INLINE __m512i codes_of(const struct fg_encoding *encoding, struct step step) {
  __m512i sum[4];
  for (int i = 0; i < 4; i++) {
    __m512 power = _mm512_and_ps(step.x[i], _mm512_castsi512_ps(_mm512_set1_epi32(FG_INFINITY_BITS)));
    power = _mm512_max_ps(power, _mm512_set1_ps(encoding->smallest_normal));
    sum[i] = _mm512_castps_si512(_mm512_fmadd_ps(power, _mm512_set1_ps(encoding->spread), step.x[i]));
    sum[i] = _mm512_madd_epi16(sum[i], _mm512_set1_epi32(encoding->weights));
  }
  __m512i offset = _mm512_set1_epi16(encoding->offset), to_code = _mm512_set1_epi16((short)encoding->to_code);
  __m512i first = _mm512_mulhi_epu16(_mm512_sub_epi16(_mm512_packs_epi32(sum[0], sum[1]), offset), to_code);
  __m512i second = _mm512_mulhi_epu16(_mm512_sub_epi16(_mm512_packs_epi32(sum[2], sum[3]), offset), to_code);
  return _mm512_packus_epi16(first, second);
}

INLINE __m512i with_signs(__m512i codes, __m512i signs) {
  return _mm512_ternarylogic_epi32(codes, signs, _mm512_set1_epi8((char)0x80), 0xF8); /* first | (second & third) */
}

/* The packs work in each quarter of a vector. Puts the codes of four vectors of 32-bit lanes in the elements' order. */
INLINE __m512i in_order(__m512i codes) {
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), codes);
}

/* The same for two vectors of 16-bit lanes. */
INLINE __m512i in_order16(__m512i codes) { return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), codes); }

INLINE void encode_step(const struct fg_encoding *encoding, fg_type x_type, const void *x, float inverse_scale, uint8_t *q) {
  __m512i signs;
  struct step step = scaled_magnitudes(x_type, x, inverse_scale, &signs);
  __m512i codes = with_signs(codes_of(encoding, step), signs);
  store(q, x_type == FG_BF16 ? in_order16(codes) : in_order(codes));
}

INLINE __m512i to_fp8(fg_type type, struct step step) {
  struct fg_encoding encoding = fg_encoding_of(type);
  struct step magnitudes;
  __mmask64 nan = 0;
  for (int i = 0; i < 4; i++) {
    magnitudes.x[i] = _mm512_min_ps(without_sign(step.x[i]), _mm512_set1_ps(encoding.largest)); /* NaN: the largest, too */
    nan |= (__mmask64)is_nan(step.x[i]) << 16 * i;
  }
  __m512i codes = in_order(with_signs(codes_of(&encoding, magnitudes), pack_signs(step)));
  return _mm512_mask_mov_epi8(codes, nan, _mm512_set1_epi8(0x7F));
}

INLINE __m256i to_bf16(__m512 x) {
  __m512i bits = _mm512_castps_si512(x), last_kept = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), last_kept), 16);
  return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, is_nan(x), _mm512_set1_epi32(0x7FFF)));
}

INLINE __m256i to_fp16(__m512 x) { /* with a mask that leaves out nothing: some compilers warn of the form without one */
  return _mm512_maskz_cvtps_ph(0xFFFF, x, _MM_FROUND_TO_NEAREST_INT);
}

INLINE void from_float_step(fg_type type, const float *from, void *to) {
  struct step step = values(FG_FP32, from);
  if (type == FG_E4M3 || type == FG_E5M2) store(to, to_fp8(type, step));
  for (int i = 0; i < 4; i++) {
    uint16_t *to16 = (uint16_t *)to + 16 * i;
    if (type == FG_BF16) _mm256_storeu_si256((void *)to16, to_bf16(step.x[i]));
    if (type == FG_FP16) _mm256_storeu_si256((void *)to16, to_fp16(canonical(step.x[i])));
    if (type == FG_FP32) _mm512_storeu_ps((float *)to + 16 * i, canonical(step.x[i]));
  }
}

INLINE void to_float_step(fg_type type, const void *from, const float *scale, float *to) {
  struct step step = values(type, from);
  for (int i = 0; i < 4; i++)
    _mm512_storeu_ps(to + 16 * i, scale ? _mm512_mul_ps(step.x[i], _mm512_set1_ps(*scale)) : canonical(step.x[i]));
}

INLINE __m512i larger(fg_type type, __m512i a, __m512i b) {
  return type == FG_FP32 ? _mm512_max_epu32(a, b) : _mm512_max_epu16(a, b);
}

INLINE __m512i max_step(fg_type type, const void *x, __m512i max) {
  __m512i magnitude = type == FG_FP32 ? _mm512_set1_epi32(0x7FFFFFFF) : _mm512_set1_epi16(0x7FFF);
  for (size_t i = 0; i < bytes_of(type, STEP); i += sizeof(__m512i))
    max = larger(type, max, _mm512_and_si512(load((const char *)x + i), magnitude));
  return max;
}

INLINE uint32_t max_lane(fg_type type, __m512i max) {
  if (type == FG_FP32) return _mm512_reduce_max_epu32(max);
  __m256i half = _mm256_max_epu16(_mm512_castsi512_si256(max), _mm512_extracti64x4_epi64(max, 1));
  __m128i eight = _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  /* There is an instruction for the smallest of eight only. */
  return 0xFFFFu & ~(uint32_t)_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(eight, _mm_set1_epi16(-1))));
}

#include "path_vector.h"
#endif
