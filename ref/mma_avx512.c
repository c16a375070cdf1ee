/* The path for AVX-512: all 16 columns in one vector. Decoding is a small part of the work and stays with AVX2. */
#include "mma.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define INLINE static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512vl,avx512dq")))
#define V(name) _mm512_##name
#define AND(x, y) _mm512_and_si512(x, y)
#define LOAD_WORDS(p) _mm512_load_si512(p)
#define CAST_WORDS(x) _mm512_castps_si512(x)
#define CAST_FLOATS(x) _mm512_castsi512_ps(x)
#define PATH fg_mma_avx512
#define DECODE fg_mma_decode_avx2
typedef __m512 floats;
typedef __m512i words;

#include "mma_vector.h"
#endif
