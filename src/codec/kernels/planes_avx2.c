/* planes_avx2.c - codes in bit planes with AVX2 and BMI2. */
#include <immintrin.h>
#include <string.h>

#include "codec/kernels/kernels.h"

typedef struct v_codes {
    __m256i half[2];
} v_codes;

typedef struct v_quant {
    __m256 pre, base, scale, half, top;
} v_quant;

typedef struct v_levels {
    __m256 low, high;   /* of codes up to 4 bits */
    const float *large; /* of others */
} v_levels;

CWI_INLINE v_quant v_quant_of(const cwi_quant *q)
{
    return (v_quant){.pre = _mm256_set1_ps(q->pre),
                     .base = _mm256_set1_ps(q->base),
                     .scale = _mm256_set1_ps(q->scale),
                     .half = _mm256_set1_ps(q->half),
                     .top = _mm256_set1_ps(q->top)};
}

CWI_INLINE __m256i load(const void *p)
{
    return _mm256_loadu_si256(p);
}

CWI_INLINE __m256i keys_of(const float *x)
{
    return _mm256_and_si256(load(x), _mm256_set1_epi32(INT32_MAX));
}

/* The low bytes of 4 x 8 numbers below 256, in order. */
CWI_INLINE __m256i pack_codes(const __m256i v[4])
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i low = _mm256_packus_epi32(v[0], v[1]), high = _mm256_packus_epi32(v[2], v[3]);
    return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order);
}

/* ---- quantizers ---- */

CWI_INLINE __m256i code_of(__m256 scaled, __m256 add, const v_quant *q)
{
    return _mm256_cvttps_epi32(_mm256_min_ps(_mm256_add_ps(scaled, add), q->top));
}

CWI_INLINE __m256 scale(__m256 x, const v_quant *q)
{
    return _mm256_mul_ps(_mm256_sub_ps(_mm256_mul_ps(x, q->pre), q->base), q->scale);
}

CWI_INLINE v_codes v_quantize(const float *x, const v_quant *q)
{
    v_codes codes;
    for (int h = 0; h < 2; h++, x += 32) {
        __m256i v[4];
        for (int i = 0; i < 4; i++)
            v[i] = code_of(scale(_mm256_loadu_ps(x + 8 * i), q), q->half, q);
        codes.half[h] = pack_codes(v);
    }
    return codes;
}

CWI_INLINE v_codes v_quantize_above(const float *x, float low, const v_quant *q)
{
    const __m256 least = _mm256_set1_ps(low);
    v_codes codes;
    for (int h = 0; h < 2; h++, x += 32) {
        __m256i v[4];
        for (int i = 0; i < 4; i++)
            v[i] = code_of(scale(_mm256_max_ps(_mm256_loadu_ps(x + 8 * i), least), q), q->half, q);
        codes.half[h] = pack_codes(v);
    }
    return codes;
}

/* cwi_noise_bits() of 8 elements. */
CWI_INLINE __m256i noise_bits(__m256i h, __m256i after)
{
    h = _mm256_xor_si256(h, _mm256_srli_epi32(h, 16));
    h = _mm256_mullo_epi32(h, _mm256_set1_epi32(0x21f0aaad));
    h = _mm256_xor_si256(h, _mm256_srli_epi32(h, 15));
    h = _mm256_mullo_epi32(h, _mm256_set1_epi32(0x735a2d97));
    h = _mm256_xor_si256(h, _mm256_srli_epi32(h, 15));
    h = _mm256_add_epi32(h, after);
    h = _mm256_xor_si256(h, _mm256_srli_epi32(h, 16));
    h = _mm256_mullo_epi32(h, _mm256_set1_epi32((int32_t)0x85ebca6b));
    return _mm256_xor_si256(h, _mm256_srli_epi32(h, 13));
}

/* The random numbers of 8 elements from first + skip on, whose numbers' high half is that of `first`. */
CWI_INLINE __m256 noise_from(uint64_t key, uint64_t first, unsigned skip)
{
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i number = _mm256_add_epi32(_mm256_set1_epi32((int32_t)(first + skip)), lanes);
    const __m256i h = noise_bits(_mm256_xor_si256(number, _mm256_set1_epi32((int32_t)key)),
                                 _mm256_set1_epi32((int32_t)cwi_noise_high(key, first)));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(h, 8)), _mm256_set1_ps(0x1p-24f));
}

CWI_INLINE v_codes v_quantize_noise(const float *x, const v_quant *q, uint64_t key, uint64_t first)
{
    v_codes codes;
    for (unsigned h = 0; h < 2; h++, x += 32) {
        __m256i v[4];
        for (unsigned i = 0; i < 4; i++)
            v[i] = code_of(scale(_mm256_loadu_ps(x + 8 * i), q), noise_from(key, first, 32 * h + 8 * i), q);
        codes.half[h] = pack_codes(v);
    }
    return codes;
}

/* ---- symbols of ec ---- */

/* The exponent of a sum of 8 and more is 130 and more; of smaller ones it is larger than their whole part, or wraps. */
CWI_INLINE __m256i symbol_of(__m256 scaled, __m256 add, const v_quant *q)
{
    const __m256 sum = _mm256_min_ps(_mm256_add_ps(scaled, add), q->top);
    const __m256i exponent = _mm256_srli_epi32(_mm256_castps_si256(sum), 23);
    return _mm256_min_epu32(_mm256_cvttps_epi32(sum),
                            _mm256_sub_epi32(exponent, _mm256_set1_epi32(127 - CWI_EC_LOG_OFFSET)));
}

CWI_INLINE __m256 magnitude(const float *x, const v_quant *q)
{
    return scale(_mm256_castsi256_ps(keys_of(x)), q);
}

CWI_INLINE v_codes v_symbols(const float *x, const v_quant *q)
{
    v_codes codes;
    for (int h = 0; h < 2; h++, x += 32) {
        __m256i v[4];
        for (int i = 0; i < 4; i++)
            v[i] = symbol_of(magnitude(x + 8 * i, q), q->half, q);
        codes.half[h] = pack_codes(v);
    }
    return codes;
}

CWI_INLINE v_codes v_symbols_noise(const float *x, const v_quant *q, uint64_t key, uint64_t first)
{
    v_codes codes;
    for (unsigned h = 0; h < 2; h++, x += 32) {
        __m256i v[4];
        for (unsigned i = 0; i < 4; i++)
            v[i] = symbol_of(magnitude(x + 8 * i, q), noise_from(key, first, 32 * h + 8 * i), q);
        codes.half[h] = pack_codes(v);
    }
    return codes;
}

CWI_INLINE v_codes v_load_codes(const uint8_t *p)
{
    return (v_codes){{load(p), load(p + 32)}};
}

CWI_INLINE void v_store_codes(v_codes codes, uint8_t *p)
{
    _mm256_storeu_si256((__m256i *)(void *)p, codes.half[0]);
    _mm256_storeu_si256((__m256i *)(void *)(p + 32), codes.half[1]);
}

CWI_INLINE uint64_t v_nonzero(const v_codes *codes)
{
    const __m256i zero = _mm256_setzero_si256();
    const uint32_t low = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(codes->half[0], zero));
    const uint32_t high = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(codes->half[1], zero));
    return ~((uint64_t)high << 32 | low);
}

CWI_INLINE v_codes v_quantize_ms(const float *x, const v_quant *q, unsigned bits, int32_t cut)
{
    const __m256i ones = _mm256_set1_epi32((1 << bits) - 1), limit = _mm256_set1_epi32(cut);
    v_codes codes;
    for (int h = 0; h < 2; h++, x += 32) {
        __m256i v[4];
        for (int i = 0; i < 4; i++) {
            const __m256i key = keys_of(x + 8 * i);
            v[i] = _mm256_and_si256(_mm256_cmpgt_epi32(key, limit), ones);
            if (bits == 1)
                continue;
            const __m256 scaled = _mm256_mul_ps(_mm256_mul_ps(_mm256_castsi256_ps(key), q->pre), q->scale);
            v[i] = _mm256_or_si256(v[i], code_of(scaled, q->half, q));
        }
        codes.half[h] = pack_codes(v);
    }
    return codes;
}

/* ---- masks of 64 elements ---- */

CWI_INLINE uint64_t v_plane(const v_codes *codes, unsigned p)
{
    const __m128i by = _mm_cvtsi32_si128((int)(7 - p));
    const uint32_t low = (uint32_t)_mm256_movemask_epi8(_mm256_sll_epi16(codes->half[0], by));
    const uint32_t high = (uint32_t)_mm256_movemask_epi8(_mm256_sll_epi16(codes->half[1], by));
    return low | (uint64_t)high << 32;
}

CWI_INLINE uint64_t v_signs(const float *x)
{
    uint64_t signs = 0;
    for (int i = 0; i < 8; i++)
        signs |= (uint64_t)(uint32_t)_mm256_movemask_ps(_mm256_loadu_ps(x + 8 * i)) << 8 * i;
    return signs;
}

CWI_INLINE uint64_t v_equal(const float *x, uint32_t key)
{
    uint64_t equal = 0;
    for (int i = 0; i < 8; i++) {
        const __m256i same = _mm256_cmpeq_epi32(keys_of(x + 8 * i), _mm256_set1_epi32((int32_t)key));
        equal |= (uint64_t)(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(same)) << 8 * i;
    }
    return equal;
}

/* ---- kept values ---- */

static const uint64_t LANE_NUMBERS = UINT64_C(0x0706050403020100);

/* Bits 0 .. 7 of the mask as bytes 0 or 255. */
CWI_INLINE uint64_t bytes_of(uint64_t mask)
{
    return _pdep_u64(mask, UINT64_C(0x0101010101010101)) * 255;
}

CWI_INLINE uint8_t *v_pack(const float *x, uint64_t keep, uint8_t *out)
{
    for (int i = 0; i < 8; i++, keep >>= 8) {
        const uint64_t lanes = _pext_u64(LANE_NUMBERS, bytes_of(keep & 255));
        const __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)lanes));
        _mm256_storeu_si256((__m256i *)(void *)out, _mm256_permutevar8x32_epi32(load(x + 8 * i), order));
        out += sizeof *x * (size_t)__builtin_popcountll(keep & 255);
    }
    return out;
}

CWI_INLINE const uint8_t *v_unpack(const uint8_t *in, uint64_t keep, float *out)
{
    for (int i = 0; i < 8; i++, keep >>= 8) {
        const uint64_t where = bytes_of(keep & 255), lanes = _pdep_u64(LANE_NUMBERS, where);
        const __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)lanes));
        const __m256i mask = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128((int64_t)where));
        const __m256i values = _mm256_permutevar8x32_epi32(load(in), order);
        __m256i *const to = (__m256i *)(void *)(out + 8 * i);
        _mm256_storeu_si256(to, _mm256_blendv_epi8(load(to), values, mask));
        in += sizeof *out * (size_t)__builtin_popcountll(keep & 255);
    }
    return in;
}

/* ---- decoding ---- */

CWI_INLINE v_codes v_unplane(const uint8_t *group, unsigned bits)
{
    const __m256i bit = _mm256_set1_epi64x((int64_t)UINT64_C(0x8040201008040201));
    const __m256i byte =
        _mm256_setr_epi64x(0, INT64_C(0x0101010101010101), INT64_C(0x0202020202020202), INT64_C(0x0303030303030303));
    v_codes codes = {{_mm256_setzero_si256(), _mm256_setzero_si256()}};
    for (unsigned p = 0; p < bits; p++) {
        const __m256i one = _mm256_set1_epi8((char)(1u << p));
        for (unsigned h = 0; h < 2; h++) {
            int32_t word;
            memcpy(&word, group + 8 * p + 4 * h, sizeof word);
            const __m256i spread = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(word), byte), bit);
            codes.half[h] = _mm256_or_si256(codes.half[h], _mm256_and_si256(_mm256_cmpeq_epi8(spread, bit), one));
        }
    }
    return codes;
}

CWI_INLINE v_levels v_levels_of(const float *level, unsigned bits)
{
    float small[16] = {0};
    memcpy(small, level, sizeof *level * CWI_MIN(1u << bits, 16u));
    return (v_levels){.low = _mm256_loadu_ps(small), .high = _mm256_loadu_ps(small + 8), .large = level};
}

CWI_INLINE void v_lookup(const v_codes *codes, const v_levels *levels, unsigned bits, float *out)
{
    uint8_t code[CWI_GROUP];
    _mm256_storeu_si256((__m256i *)(void *)code, codes->half[0]);
    _mm256_storeu_si256((__m256i *)(void *)(code + 32), codes->half[1]);
    if (bits > 4) {
        for (int i = 0; i < CWI_GROUP; i++)
            out[i] = levels->large[code[i]];
        return;
    }
    for (int i = 0; i < 8; i++) {
        const __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(code + 8 * i)));
        __m256 v = _mm256_permutevar8x32_ps(levels->low, index);
        if (bits == 4) {
            const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
            v = _mm256_blendv_ps(v, _mm256_permutevar8x32_ps(levels->high, index), upper);
        }
        _mm256_storeu_ps(out + 8 * i, v);
    }
}

CWI_INLINE void v_set_signs(uint64_t signs, float *out)
{
    const __m256i up = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24), sign = _mm256_set1_epi32(INT32_MIN);
    for (int i = 0; i < 8; i++, signs >>= 8) {
        const __m256i bits = _mm256_sllv_epi32(_mm256_set1_epi32((int32_t)(signs & 255)), up);
        __m256i *const at = (__m256i *)(void *)(out + 8 * i);
        _mm256_storeu_si256(at, _mm256_or_si256(load(at), _mm256_and_si256(bits, sign)));
    }
}

#include "codec/kernels/planes_simd.h"
/* after it */
#include "codec/kernels/ec_simd.h"

void cwi_planes_avx2(cwi_kernels *k)
{
    planes_fill(k);
    ec_fill(k);
}
