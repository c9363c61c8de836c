/* planes_avx512.c - codes in bit planes with AVX-512 (F, BW, VL, DQ, VBMI2): a byte test gives a plane of 64 codes. */
#include <immintrin.h>
#include <string.h>

#include "codec/kernels/kernels.h"

typedef __m512i v_codes;

typedef struct v_quant {
    __m512 pre, base, scale, half, top;
} v_quant;

typedef struct v_levels {
    __m512 small;       /* of codes up to 4 bits */
    const float *large; /* of others */
} v_levels;

CWI_INLINE v_quant v_quant_of(const cwi_quant *q)
{
    return (v_quant){.pre = _mm512_set1_ps(q->pre),
                     .base = _mm512_set1_ps(q->base),
                     .scale = _mm512_set1_ps(q->scale),
                     .half = _mm512_set1_ps(q->half),
                     .top = _mm512_set1_ps(q->top)};
}

CWI_INLINE __m512i keys_of(const float *x)
{
    return _mm512_and_si512(_mm512_loadu_si512(x), _mm512_set1_epi32(INT32_MAX));
}

/* The low bytes of 4 x 16 numbers below 256, in order. */
CWI_INLINE v_codes pack_codes(const __m512i v[4])
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i low = _mm512_packus_epi32(v[0], v[1]), high = _mm512_packus_epi32(v[2], v[3]);
    return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high));
}

CWI_INLINE __m512i code_of(__m512 scaled, __m512 add, const v_quant *q)
{
    return _mm512_cvttps_epi32(_mm512_min_ps(_mm512_add_ps(scaled, add), q->top));
}

CWI_INLINE __m512 scale(__m512 x, const v_quant *q)
{
    return _mm512_mul_ps(_mm512_sub_ps(_mm512_mul_ps(x, q->pre), q->base), q->scale);
}

CWI_INLINE v_codes v_quantize(const float *x, const v_quant *q)
{
    __m512i v[4];
    for (int i = 0; i < 4; i++)
        v[i] = code_of(scale(_mm512_loadu_ps(x + 16 * i), q), q->half, q);
    return pack_codes(v);
}

CWI_INLINE v_codes v_quantize_above(const float *x, float low, const v_quant *q)
{
    const __m512 least = _mm512_set1_ps(low);
    __m512i v[4];
    for (int i = 0; i < 4; i++)
        v[i] = code_of(scale(_mm512_max_ps(_mm512_loadu_ps(x + 16 * i), least), q), q->half, q);
    return pack_codes(v);
}

/* cwi_noise_bits() of 16 elements. */
CWI_INLINE __m512i noise_bits(__m512i h, __m512i after)
{
    h = _mm512_xor_si512(h, _mm512_srli_epi32(h, 16));
    h = _mm512_mullo_epi32(h, _mm512_set1_epi32(0x21f0aaad));
    h = _mm512_xor_si512(h, _mm512_srli_epi32(h, 15));
    h = _mm512_mullo_epi32(h, _mm512_set1_epi32(0x735a2d97));
    h = _mm512_xor_si512(h, _mm512_srli_epi32(h, 15));
    h = _mm512_add_epi32(h, after);
    h = _mm512_xor_si512(h, _mm512_srli_epi32(h, 16));
    h = _mm512_mullo_epi32(h, _mm512_set1_epi32((int32_t)0x85ebca6b));
    return _mm512_xor_si512(h, _mm512_srli_epi32(h, 13));
}

/* The random numbers of 16 elements from first + skip on, whose numbers' high half is that of `first`. */
CWI_INLINE __m512 noise_from(uint64_t key, uint64_t first, unsigned skip)
{
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i number = _mm512_add_epi32(_mm512_set1_epi32((int32_t)(first + skip)), lanes);
    const __m512i h = noise_bits(_mm512_xor_si512(number, _mm512_set1_epi32((int32_t)key)),
                                 _mm512_set1_epi32((int32_t)cwi_noise_high(key, first)));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_srli_epi32(h, 8)), _mm512_set1_ps(0x1p-24f));
}

CWI_INLINE v_codes v_quantize_noise(const float *x, const v_quant *q, uint64_t key, uint64_t first)
{
    __m512i v[4];
    for (unsigned i = 0; i < 4; i++)
        v[i] = code_of(scale(_mm512_loadu_ps(x + 16 * i), q), noise_from(key, first, 16 * i), q);
    return pack_codes(v);
}

/* ---- symbols of ec ---- */

/* The exponent of a sum of 8 and more is 130 and more; of smaller ones it is larger than their whole part, or wraps. */
CWI_INLINE __m512i symbol_of(__m512 scaled, __m512 add, const v_quant *q)
{
    const __m512 sum = _mm512_min_ps(_mm512_add_ps(scaled, add), q->top);
    const __m512i exponent = _mm512_srli_epi32(_mm512_castps_si512(sum), 23);
    return _mm512_min_epu32(_mm512_cvttps_epi32(sum),
                            _mm512_sub_epi32(exponent, _mm512_set1_epi32(127 - CWI_EC_LOG_OFFSET)));
}

CWI_INLINE __m512 magnitude(const float *x, const v_quant *q)
{
    return scale(_mm512_castsi512_ps(keys_of(x)), q);
}

CWI_INLINE v_codes v_symbols(const float *x, const v_quant *q)
{
    __m512i v[4];
    for (int i = 0; i < 4; i++)
        v[i] = symbol_of(magnitude(x + 16 * i, q), q->half, q);
    return pack_codes(v);
}

CWI_INLINE v_codes v_symbols_noise(const float *x, const v_quant *q, uint64_t key, uint64_t first)
{
    __m512i v[4];
    for (int i = 0; i < 4; i++)
        v[i] = symbol_of(magnitude(x + 16 * i, q), noise_from(key, first, 16 * (unsigned)i), q);
    return pack_codes(v);
}

CWI_INLINE v_codes v_load_codes(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}

CWI_INLINE void v_store_codes(v_codes codes, uint8_t *p)
{
    _mm512_storeu_si512(p, codes);
}

CWI_INLINE uint64_t v_nonzero(const v_codes *codes)
{
    return _mm512_test_epi8_mask(*codes, *codes);
}

CWI_INLINE v_codes v_quantize_ms(const float *x, const v_quant *q, unsigned bits, int32_t cut)
{
    const __m512i ones = _mm512_set1_epi32((1 << bits) - 1), limit = _mm512_set1_epi32(cut);
    __m512i v[4];
    for (int i = 0; i < 4; i++) {
        const __m512i key = keys_of(x + 16 * i);
        const __mmask16 keep = _mm512_cmpgt_epi32_mask(key, limit);
        if (bits == 1) {
            v[i] = _mm512_maskz_mov_epi32(keep, ones);
            continue;
        }
        const __m512 scaled = _mm512_mul_ps(_mm512_mul_ps(_mm512_castsi512_ps(key), q->pre), q->scale);
        v[i] = _mm512_mask_mov_epi32(code_of(scaled, q->half, q), keep, ones);
    }
    return pack_codes(v);
}

CWI_INLINE uint64_t v_plane(const v_codes *codes, unsigned p)
{
    return _mm512_test_epi8_mask(*codes, _mm512_set1_epi8((char)(1u << p)));
}

CWI_INLINE uint64_t join(const __mmask16 m[4])
{
    return _mm512_kunpackd(_mm512_kunpackw(m[3], m[2]), _mm512_kunpackw(m[1], m[0]));
}

CWI_INLINE uint64_t v_signs(const float *x)
{
    __mmask16 m[4];
    for (int i = 0; i < 4; i++)
        m[i] = _mm512_movepi32_mask(_mm512_loadu_si512(x + 16 * i));
    return join(m);
}

CWI_INLINE uint64_t v_equal(const float *x, uint32_t key)
{
    __mmask16 m[4];
    for (int i = 0; i < 4; i++)
        m[i] = _mm512_cmpeq_epi32_mask(keys_of(x + 16 * i), _mm512_set1_epi32((int32_t)key));
    return join(m);
}

/* Through a register: compressing straight into memory is microcode on some processors. */
CWI_INLINE uint8_t *v_pack(const float *x, uint64_t keep, uint8_t *out)
{
    for (int i = 0; i < 4; i++, keep >>= 16) {
        const __mmask16 m = (__mmask16)keep;
        _mm512_storeu_ps(out, _mm512_maskz_compress_ps(m, _mm512_loadu_ps(x + 16 * i)));
        out += sizeof *x * (size_t)__builtin_popcount(m);
    }
    return out;
}

CWI_INLINE v_codes v_unplane(const uint8_t *group, unsigned bits)
{
    __m512i codes = _mm512_setzero_si512();
    for (unsigned p = 0; p < bits; p++) {
        uint64_t word;
        memcpy(&word, group + p * sizeof word, sizeof word);
        codes = _mm512_or_si512(codes, _mm512_maskz_mov_epi8(word, _mm512_set1_epi8((char)(1u << p))));
    }
    return codes;
}

CWI_INLINE v_levels v_levels_of(const float *level, unsigned bits)
{
    const unsigned count = CWI_MIN(1u << bits, 16u);
    return (v_levels){.small = _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), level), .large = level};
}

CWI_INLINE void v_lookup(const v_codes *codes, const v_levels *levels, unsigned bits, float *out)
{
    uint8_t code[CWI_GROUP];
    _mm512_storeu_si512(code, *codes);
    if (bits > 4) {
        for (int i = 0; i < CWI_GROUP; i++)
            out[i] = levels->large[code[i]];
        return;
    }
    for (int i = 0; i < 4; i++) {
        const __m512i index = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(code + 16 * i)));
        _mm512_storeu_ps(out + 16 * i, _mm512_permutexvar_ps(index, levels->small));
    }
}

CWI_INLINE void v_set_signs(uint64_t signs, float *out)
{
    const __m512i sign = _mm512_set1_epi32(INT32_MIN);
    for (int i = 0; i < 4; i++, signs >>= 16) {
        const __m512i v = _mm512_loadu_si512(out + 16 * i);
        _mm512_storeu_si512(out + 16 * i, _mm512_mask_or_epi32(v, (__mmask16)signs, v, sign));
    }
}

CWI_INLINE const uint8_t *v_unpack(const uint8_t *in, uint64_t keep, float *out)
{
    for (int i = 0; i < 4; i++, keep >>= 16) {
        const __mmask16 m = (__mmask16)keep;
        const __m512 v = _mm512_mask_expand_ps(_mm512_loadu_ps(out + 16 * i), m, _mm512_loadu_ps(in));
        _mm512_storeu_ps(out + 16 * i, v);
        in += sizeof *out * (size_t)__builtin_popcount(m);
    }
    return in;
}

#include "codec/kernels/planes_simd.h"
/* after it */
#include "codec/kernels/ec_simd.h"

void cwi_planes_avx512(cwi_kernels *k)
{
    planes_fill(k);
    ec_fill(k);
}
