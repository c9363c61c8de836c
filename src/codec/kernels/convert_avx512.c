/* convert_avx512.c - two-byte floats with AVX-512 (F, BW, VL, DQ). bf16 by integer arithmetic: the instruction for it
 * takes denormals for zeros. */
#include <immintrin.h>

#include "codec/kernels/kernels.h"

enum { LANES = 16 };

CWI_INLINE __mmask16 first_lanes(size_t n)
{
    return n < LANES ? (__mmask16)((1u << n) - 1) : (__mmask16)UINT16_MAX;
}

/* Both bring magnitudes that are too large down to the largest finite number. */
CWI_INLINE __m256i f16_of(__m512i bits)
{
    const __m512i sign = _mm512_set1_epi32(INT32_MIN), most = _mm512_castps_si512(_mm512_set1_ps(65504));
    const __m512i key = _mm512_min_epu32(_mm512_andnot_si512(sign, bits), most);
    const __m512i x = _mm512_or_si512(key, _mm512_and_si512(bits, sign));
    return _mm512_cvtps_ph(_mm512_castsi512_ps(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

CWI_INLINE __m256i bf16_of(__m512i bits)
{
    const __m512i sign = _mm512_set1_epi32(INT32_MIN);
    __m512i key = _mm512_andnot_si512(sign, bits);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(key, 16), _mm512_set1_epi32(1));
    key = _mm512_add_epi32(key, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    key = _mm512_min_epu32(_mm512_srli_epi32(key, 16), _mm512_set1_epi32(0x7f7f));
    return _mm512_cvtepi32_epi16(_mm512_or_si512(key, _mm512_srli_epi32(_mm512_and_si512(bits, sign), 16)));
}

CWI_INLINE __m512i f16_value(__m256i v)
{
    return _mm512_castps_si512(_mm512_cvtph_ps(v));
}

CWI_INLINE __m512i bf16_value(__m256i v)
{
    return _mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16);
}

#define NARROW(name, convert)                                                                                          \
    static void name(const float *x, size_t n, uint8_t *out)                                                           \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i += LANES) {                                                                        \
            const __mmask16 m = first_lanes(n - i);                                                                    \
            _mm256_mask_storeu_epi16(out + 2 * i, m, convert(_mm512_maskz_loadu_epi32(m, x + i)));                     \
        }                                                                                                              \
    }

#define WIDEN(name, convert)                                                                                           \
    static bool name(const uint8_t *in, size_t n, float *out)                                                          \
    {                                                                                                                  \
        const __m512i inf = _mm512_set1_epi32(CWI_KEY_INF);                                                            \
        unsigned bad = 0;                                                                                              \
        for (size_t i = 0; i < n; i += LANES) {                                                                        \
            const __mmask16 m = first_lanes(n - i);                                                                    \
            const __m512i v = convert(_mm256_maskz_loadu_epi16(m, in + 2 * i));                                        \
            bad |= _mm512_cmpeq_epi32_mask(_mm512_and_si512(v, inf), inf);                                             \
            _mm512_mask_storeu_epi32(out + i, m, v);                                                                   \
        }                                                                                                              \
        return !bad;                                                                                                   \
    }

NARROW(to_f16, f16_of)
NARROW(to_bf16, bf16_of)
WIDEN(from_f16, f16_value)
WIDEN(from_bf16, bf16_value)

void cwi_convert_avx512(cwi_kernels *k)
{
    k->to_f16 = to_f16;
    k->to_bf16 = to_bf16;
    k->from_f16 = from_f16;
    k->from_bf16 = from_bf16;
}
