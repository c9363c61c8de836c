/* convert_avx2.c - two-byte floats with AVX2 and F16C, which every processor with AVX2 has. */
#include <immintrin.h>
#include <string.h>

#include "codec/kernels/kernels.h"

enum { LANES = 8 };

/* Both bring magnitudes that are too large down to the largest finite number. */
CWI_INLINE __m128i f16_of(__m256i bits)
{
    const __m256i sign = _mm256_set1_epi32(INT32_MIN), most = _mm256_castps_si256(_mm256_set1_ps(65504));
    const __m256i key = _mm256_min_epu32(_mm256_andnot_si256(sign, bits), most);
    const __m256i x = _mm256_or_si256(key, _mm256_and_si256(bits, sign));
    return _mm256_cvtps_ph(_mm256_castsi256_ps(x), _MM_FROUND_TO_NEAREST_INT);
}

CWI_INLINE __m128i bf16_of(__m256i bits)
{
    const __m256i sign = _mm256_set1_epi32(INT32_MIN);
    __m256i key = _mm256_andnot_si256(sign, bits);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(key, 16), _mm256_set1_epi32(1));
    key = _mm256_add_epi32(key, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    key = _mm256_min_epu32(_mm256_srli_epi32(key, 16), _mm256_set1_epi32(0x7f7f));
    key = _mm256_or_si256(key, _mm256_srli_epi32(_mm256_and_si256(bits, sign), 16));
    return _mm_packus_epi32(_mm256_castsi256_si128(key), _mm256_extracti128_si256(key, 1));
}

CWI_INLINE __m256i f16_value(__m128i v)
{
    return _mm256_castps_si256(_mm256_cvtph_ps(v));
}

CWI_INLINE __m256i bf16_value(__m128i v)
{
    return _mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16);
}

CWI_INLINE __m256i load8(const void *p)
{
    return _mm256_loadu_si256(p);
}

#define NARROW(name, convert)                                                                                          \
    static void name(const float *x, size_t n, uint8_t *out)                                                           \
    {                                                                                                                  \
        size_t i = 0;                                                                                                  \
        for (; i + LANES <= n; i += LANES)                                                                             \
            _mm_storeu_si128((__m128i *)(void *)(out + 2 * i), convert(load8(x + i)));                                 \
        float last[LANES] = {0};                                                                                       \
        uint8_t half[2 * LANES];                                                                                       \
        memcpy(last, x + i, (n - i) * sizeof *x);                                                                      \
        _mm_storeu_si128((__m128i *)(void *)half, convert(load8(last)));                                               \
        memcpy(out + 2 * i, half, 2 * (n - i));                                                                        \
    }

#define WIDEN(name, convert)                                                                                           \
    static bool name(const uint8_t *in, size_t n, float *out)                                                          \
    {                                                                                                                  \
        const __m256i inf = _mm256_set1_epi32(CWI_KEY_INF);                                                            \
        __m256i bad = _mm256_setzero_si256();                                                                          \
        uint8_t last[2 * LANES] = {0};                                                                                 \
        float wide[LANES];                                                                                             \
        size_t i = 0;                                                                                                  \
        for (; i + LANES <= n; i += LANES) {                                                                           \
            const __m256i v = convert(_mm_loadu_si128((const __m128i *)(const void *)(in + 2 * i)));                   \
            bad = _mm256_or_si256(bad, _mm256_cmpeq_epi32(_mm256_and_si256(v, inf), inf));                             \
            _mm256_storeu_si256((__m256i *)(void *)(out + i), v);                                                      \
        }                                                                                                              \
        memcpy(last, in + 2 * i, 2 * (n - i));                                                                         \
        const __m256i v = convert(_mm_loadu_si128((const __m128i *)(const void *)last));                               \
        bad = _mm256_or_si256(bad, _mm256_cmpeq_epi32(_mm256_and_si256(v, inf), inf));                                 \
        _mm256_storeu_si256((__m256i *)(void *)wide, v);                                                               \
        memcpy(out + i, wide, (n - i) * sizeof *out);                                                                  \
        return _mm256_testz_si256(bad, bad);                                                                           \
    }

NARROW(to_f16, f16_of)
NARROW(to_bf16, bf16_of)
WIDEN(from_f16, f16_value)
WIDEN(from_bf16, bf16_value)

void cwi_convert_avx2(cwi_kernels *k)
{
    k->to_f16 = to_f16;
    k->to_bf16 = to_bf16;
    k->from_f16 = from_f16;
    k->from_bf16 = from_bf16;
}
