/* The path for AVX2 with FMA: eight columns to a vector. */
#include "mma.h"

#include "bits.h"
#include "fp8.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline, target("avx2,fma")))
#define V(name) _mm256_##name
#define AND(x, y) _mm256_and_si256(x, y)
#define LOAD_WORDS(p) _mm256_load_si256((const void *)(p))
#define CAST_WORDS(x) _mm256_castps_si256(x)
#define CAST_FLOATS(x) _mm256_castsi256_ps(x)
#define PATH fg_mma_avx2
#define DECODE fg_mma_decode_avx2
typedef __m256 floats;
typedef __m256i words;

/* Lane i of vector j from lane j of vector i, in 32-bit lanes. */
INLINE void transpose(words x[8]) {
  words pairs[8], fours[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; j++) {
      fours[i + 2 * j] = _mm256_unpacklo_epi64(pairs[i + j], pairs[i + j + 2]);
      fours[i + 2 * j + 1] = _mm256_unpackhi_epi64(pairs[i + j], pairs[i + j + 2]);
    }
  for (int j = 0; j < 4; j++) {
    x[j] = _mm256_permute2x128_si256(fours[j], fours[j + 4], 0x20);
    x[j + 4] = _mm256_permute2x128_si256(fours[j], fours[j + 4], 0x31);
  }
}

/* BF16 has every value of FP8. For a normal code its bits are the code's, moved up by 7 - mantissa, and the difference of the
 * biases. The other codes' bits come from a table: they are subnormal, which they are not in BF16. */
INLINE words table_of(const uint8_t bytes[16]) { return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)bytes)); }

/* A quad of codes for each of eight lanes, to their values, FG_MMA_LANES apart for each k, and their exponents. */
INLINE void decode_quads(words codes, int mantissa, int bias, words high_table, words low_table, float *value, int8_t *exponent) {
  const words upper_bytes = _mm256_set1_epi16((short)0xFF00), upper_half = _mm256_set1_epi32((int)0xFFFF0000);
  const int up = 7 - mantissa;
  words magnitude = AND(codes, _mm256_set1_epi8(0x7F));
  words field = AND(_mm256_srli_epi16(magnitude, mantissa), _mm256_set1_epi8((char)(0x7F >> mantissa)));
  words is_zero = _mm256_cmpeq_epi8(magnitude, _mm256_setzero_si256());
  words is_small = _mm256_cmpeq_epi8(field, _mm256_setzero_si256());

  words found = _mm256_sub_epi8(_mm256_max_epu8(field, _mm256_set1_epi8(1)), _mm256_set1_epi8((char)bias));
  _mm256_store_si256((void *)exponent, _mm256_blendv_epi8(found, _mm256_set1_epi8(FG_MMA_ZERO_EXPONENT), is_zero));

  words high = AND(_mm256_srli_epi16(magnitude, 8 - up), _mm256_set1_epi8((char)(0x7F >> (8 - up))));
  words low = AND(_mm256_slli_epi16(magnitude, up), _mm256_set1_epi8((char)(0xFF << up)));
  high = _mm256_add_epi8(high, _mm256_set1_epi8((char)((127 - bias) >> 1)));
  high = _mm256_blendv_epi8(high, _mm256_shuffle_epi8(high_table, magnitude), is_small);
  low = _mm256_blendv_epi8(low, _mm256_shuffle_epi8(low_table, magnitude), is_small);
  high = _mm256_or_si256(high, _mm256_andnot_si256(_mm256_set1_epi8(0x7F), codes));

  /* BF16 of k and k + 2, of k + 1 and k + 3; in the upper half of 32 bits it is FP32. */
  words even = _mm256_blendv_epi8(low, _mm256_slli_epi16(high, 8), upper_bytes);
  words odd = _mm256_blendv_epi8(_mm256_srli_epi16(low, 8), high, upper_bytes);
  _mm256_store_si256((void *)(value), _mm256_slli_epi32(even, 16));
  _mm256_store_si256((void *)(value + FG_MMA_LANES), _mm256_slli_epi32(odd, 16));
  _mm256_store_si256((void *)(value + 2 * FG_MMA_LANES), AND(even, upper_half));
  _mm256_store_si256((void *)(value + 3 * FG_MMA_LANES), AND(odd, upper_half));
}

INLINE void decode_type(fg_type type, int mantissa, int bias, const uint8_t *codes, int64_t ld, struct fg_mma_panel *panel) {
  uint8_t high[16], low[16]; /* of BF16, for the least codes */
  for (int code = 0; code < 16; code++) {
    uint32_t bf16 = fg_bits_of(fg_fp8_table(type)[code]) >> 16;
    high[code] = (uint8_t)(bf16 >> 8), low[code] = (uint8_t)bf16;
  }
  const words high_table = table_of(high), low_table = table_of(low), last = _mm256_set1_epi8(type == FG_E5M2 ? 0x7B : 0x7E);
  panel->special_rows = 0;
  for (int row = 0; row < FG_MMA_LANES; row += 8) {
    words special = _mm256_setzero_si256();
    for (int quad = 0; quad < FG_MMA_QUADS; quad += 8) {
      words x[8];
      for (int i = 0; i < 8; i++) x[i] = _mm256_loadu_si256((const void *)(codes + (row + i) * ld + quad * 4));
      transpose(x);
      for (int i = 0; i < 8; i++) {
        special = _mm256_or_si256(special, _mm256_cmpgt_epi8(AND(x[i], _mm256_set1_epi8(0x7F)), last));
        decode_quads(x[i], mantissa, bias, high_table, low_table, &panel->value[(quad + i) * 4][row],
                     &panel->exponent[quad + i][row * 4]);
      }
    }
    words finite_rows = _mm256_cmpeq_epi32(special, _mm256_setzero_si256());
    panel->special_rows |= (0xFFu ^ (uint32_t)_mm256_movemask_ps(CAST_FLOATS(finite_rows))) << row;
  }
}

TARGET void fg_mma_decode_avx2(fg_type type, const uint8_t *codes, int64_t ld, struct fg_mma_panel *panel) {
  if (type == FG_E5M2)
    decode_type(FG_E5M2, 2, 15, codes, ld, panel);
  else
    decode_type(FG_E4M3, 3, 7, codes, ld, panel);
}

#include "mma_vector.h"
#endif
