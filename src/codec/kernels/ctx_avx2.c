/* ctx_avx2.c - the entropy coder with AVX2. */
#include <immintrin.h>

#include "codec/kernels/ctx_pairs.h"
#include "codec/kernels/kernels.h"

#define CTX_WIDTH 8
#define MIXED     16
#define MIX_PAIRS

typedef uint32_t v_u32 __attribute__((vector_size(32)));
typedef int32_t v_i32 __attribute__((vector_size(32)));
typedef float v_f32 __attribute__((vector_size(32)));
typedef uint8_t v_bytes __attribute__((vector_size(16)));

/* The numbers ascend, and the last one is above every slot. */
CWI_INLINE unsigned v_search(const uint16_t row[CWI_SYMBOLS], const uint32_t *slot)
{
    const __m256i all = _mm256_loadu_si256((const __m256i *)(const void *)row);
    const __m256i above = _mm256_cmpgt_epi16(all, _mm256_set1_epi16((int16_t)*slot));
    return (unsigned)__builtin_ctz((unsigned)_mm256_movemask_epi8(above)) / 2;
}

CWI_INLINE __m256i v_widen(const uint8_t *p)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

typedef int16_t v_words __attribute__((vector_size(32)));

CWI_INLINE void v_shorten(v_words words, uint8_t *p)
{
    const __m256i v = (__m256i)words;
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storeu_si128((__m128i *)(void *)p, bytes);
}

CWI_INLINE unsigned v_mask(v_u32 v)
{
    return (unsigned)_mm256_movemask_ps((__m256)v);
}

CWI_INLINE v_bytes v_shuffle(v_bytes v, v_bytes order)
{
    return (v_bytes)_mm_shuffle_epi8((__m128i)v, (__m128i)order);
}

CWI_INLINE v_bytes v_load_word(const uint8_t *p)
{
    return (v_bytes)_mm_loadl_epi64((const __m128i *)(const void *)p);
}

CWI_INLINE void v_store_word(uint8_t *p, v_bytes v)
{
    _mm_storel_epi64((__m128i *)(void *)p, (__m128i)v);
}

CWI_INLINE v_bytes v_quad(v_u32 v, int i)
{
    return (v_bytes)(i ? _mm256_extracti128_si256((__m256i)v, 1) : _mm256_castsi256_si128((__m256i)v));
}

CWI_INLINE v_u32 v_of_quads(const v_bytes quad[2])
{
    return (v_u32)_mm256_inserti128_si256(_mm256_castsi128_si256((__m128i)quad[0]), (__m128i)quad[1], 1);
}

CWI_INLINE void v_narrow(const v_u32 v[4], uint8_t out[CWI_LANES])
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i low = _mm256_packus_epi32((__m256i)v[0], (__m256i)v[1]);
    const __m256i high = _mm256_packus_epi32((__m256i)v[2], (__m256i)v[3]);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order);
    _mm256_storeu_si256((__m256i *)(void *)out, bytes);
}

/* sum and products of 32 numbers and 32 symbols, four of them to each lane. */
CWI_INLINE v_i32 v_dot(v_i32 sum, const int8_t *a, const uint8_t *symbols)
{
    const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)a);
    const __m256i y = _mm256_loadu_si256((const __m256i *)(const void *)symbols);
    const __m256i pairs = _mm256_maddubs_epi16(y, x); /* at most 2 * 127 * 15 */
    return sum + (v_i32)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

#include "codec/kernels/ctx_simd.h"

void cwi_ctx_avx2(cwi_kernels *k)
{
    ctx_fill(k);
}
