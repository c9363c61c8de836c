/* ctx_avx512.c - the entropy coder with AVX-512 (F, BW, VL, DQ, VBMI2, VNNI): a row's position in one vector of 32
 * 16-bit lanes, the states in two of 16. Tables of 64 contexts are two vectors, looked up by one permutation. */
#include <immintrin.h>
#include <string.h>

#include "codec/kernels/ctx_pairs.h"
#include "codec/kernels/kernels.h"
#include "codec/kernels/lanes_simd.h"

#define MIXED 16

typedef int16_t v_words __attribute__((vector_size(32)));

CWI_INLINE __m256i v_widen(const uint8_t *p)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

CWI_INLINE void v_shorten(v_words v, uint8_t *p)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtepi16_epi8((__m256i)v));
}

/* The numbers ascend, and the last one is above every slot. */
CWI_INLINE unsigned v_search(const uint16_t row[CWI_SYMBOLS], const uint32_t *slot)
{
    const __m256i all = _mm256_loadu_si256((const __m256i *)(const void *)row);
    return (unsigned)__builtin_ctz(_mm256_cmpgt_epi16_mask(all, _mm256_set1_epi16((int16_t)*slot)));
}

#include "codec/kernels/ctx_thin.h"

typedef struct tables {
    __m512i low[CWI_SYMBOLS + 1], high[CWI_SYMBOLS + 1]; /* start of each symbol in contexts 0..31 and 32..63 */
    unsigned symbols;
} tables;

CWI_INLINE void load_tables(const cwi_ctx_model *m, tables *t)
{
    t->symbols = m->symbols;
    for (unsigned s = 0; s <= m->symbols; s++) {
        t->low[s] = _mm512_loadu_si512(m->start[s]);
        t->high[s] = _mm512_loadu_si512(m->start[s] + 32);
    }
}

CWI_INLINE __m512i look_up(const tables *t, unsigned s, __m512i context)
{
    return _mm512_permutex2var_epi16(t->low[s], context, t->high[s]);
}

CWI_INLINE __m256i bytes_at(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

CWI_INLINE __mmask32 first_lanes(unsigned used)
{
    return used < CWI_LANES ? (__mmask32)((UINT32_C(1) << used) - 1) : UINT32_MAX;
}

/* The lanes that have a symbol at a position. */
CWI_INLINE __mmask32 coded_lanes(const cwi_ctx_lanes *c, size_t position)
{
    if (!c->support)
        return first_lanes(c->used);
    const __m256i support = bytes_at(c->support + position * CWI_LANES);
    return first_lanes(c->used) & _mm256_test_epi8_mask(support, support);
}

/* ---- encoding ---- */

/* x / f, and what is left. x < 2^20 f: in floats the quotient is right to 1/8, so that it is one off at most. */
CWI_INLINE __m512i divide(__m512i x, __m512i f, __m512i *rest)
{
    const __m512i one = _mm512_set1_epi32(1);
    __m512i q = _mm512_cvttps_epu32(_mm512_div_ps(_mm512_cvtepu32_ps(x), _mm512_cvtepu32_ps(f)));
    __m512i r = _mm512_sub_epi32(x, _mm512_mullo_epi32(q, f));
    const __mmask16 over = _mm512_movepi32_mask(r);
    q = _mm512_mask_sub_epi32(q, over, q, one);
    r = _mm512_mask_add_epi32(r, over, r, f);
    const __mmask16 under = _mm512_cmpge_epi32_mask(r, f);
    *rest = _mm512_mask_sub_epi32(r, under, r, f);
    return _mm512_mask_add_epi32(q, under, q, one);
}

/* One renormalization and one symbol in 16 lanes; *full gets which lanes put out their low halves. */
CWI_INLINE __m512i encode_step(__m512i state, __m512i start, __m512i f, __mmask16 used, __mmask16 *full)
{
    *full = _mm512_mask_cmpge_epu32_mask(used, _mm512_srli_epi32(state, 32 - CWI_CTX_BITS), f);
    __m512i rest;
    const __m512i q = divide(_mm512_mask_srli_epi32(state, *full, state, 16), f, &rest);
    const __m512i next = _mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(q, CWI_CTX_BITS), rest), start);
    return _mm512_mask_mov_epi32(state, used, next);
}

CWI_INLINE __m512i wide(__m512i words, int half)
{
    return _mm512_cvtepu16_epi32(half ? _mm512_extracti64x4_epi64(words, 1) : _mm512_castsi512_si256(words));
}

CWI_INLINE __m512i narrow(__m512i low, __m512i high)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(low)), _mm512_cvtepi32_epi16(high), 1);
}

static void encode(cwi_ctx_lanes *c, const uint8_t *contexts, const uint8_t *row, size_t positions)
{
    tables t;
    load_tables(c->model, &t);
    __m512i low = _mm512_loadu_si512(c->state), high = _mm512_loadu_si512(c->state + 16);
    for (size_t i = positions; i-- > 0;) {
        const __mmask32 used = coded_lanes(c, i);
        const __m512i context = _mm512_cvtepu8_epi16(bytes_at(contexts + i * CWI_LANES));
        const __m512i symbols = _mm512_cvtepu8_epi16(bytes_at(row + i * CWI_LANES));
        __m512i start = _mm512_setzero_si512(), end = look_up(&t, 1, context);
        for (unsigned s = 1; s < t.symbols; s++) {
            const __mmask32 more = _mm512_cmpge_epu16_mask(symbols, _mm512_set1_epi16((short)s));
            if (!(more & used))
                break;
            start = _mm512_mask_mov_epi16(start, more, end);
            end = _mm512_mask_mov_epi16(end, more, look_up(&t, s + 1, context));
        }
        const __m512i f = _mm512_sub_epi16(end, start);
        __mmask16 full_low, full_high;
        const __m512i words = narrow(low, high);
        low = encode_step(low, wide(start, 0), wide(f, 0), (__mmask16)used, &full_low);
        high = encode_step(high, wide(start, 1), wide(f, 1), (__mmask16)(used >> 16), &full_high);
        const __mmask32 full = _mm512_kunpackw(full_high, full_low);
        const unsigned count_full = (unsigned)__builtin_popcount(full);
        c->put -= 2 * (size_t)count_full;
        _mm512_mask_storeu_epi16(c->put, first_lanes(count_full), _mm512_maskz_compress_epi16(full, words));
    }
    _mm512_storeu_si512(c->state, low);
    _mm512_storeu_si512(c->state + 16, high);
}

/* ---- decoding ---- */

CWI_INLINE __m512i decode_step(__m512i state, __m512i slot, __m512i start, __m512i f)
{
    const __m512i product = _mm512_mullo_epi32(f, _mm512_srli_epi32(state, CWI_CTX_BITS));
    return _mm512_add_epi32(product, _mm512_sub_epi32(slot, start));
}

/* Words for the lanes of `wanting`, in order; false when there are too few. */
CWI_INLINE bool fetch(cwi_ctx_lanes *c, __mmask32 wanting, __m512i *words)
{
    const unsigned n = (unsigned)__builtin_popcount(wanting);
    if ((size_t)(c->end - c->get) < 2 * (size_t)n)
        return false;
    *words = _mm512_maskz_expand_epi16(wanting, _mm512_maskz_loadu_epi16(first_lanes(n), c->get));
    c->get += 2 * (size_t)n;
    return true;
}

/* The states of all lanes. */
typedef struct states {
    __m512i low, high;
} states;

/* *found gets the symbols, 0 in unused lanes. */
CWI_INLINE bool decode_position(cwi_ctx_lanes *c, const tables *t, states *v, __mmask32 used, __m512i context,
                                uint8_t *out, __m512i *found)
{
    const __m512i one = _mm512_set1_epi16(1), limit = _mm512_set1_epi32((int)CWI_CTX_LOW);
    const __m512i slot = _mm512_and_si512(narrow(v->low, v->high), _mm512_set1_epi16(CWI_CTX_WHOLE - 1));
    __m512i symbols = _mm512_setzero_si512(), start = symbols, end = look_up(t, 1, context);
    for (unsigned s = 1; s < t->symbols; s++) {
        const __mmask32 more = _mm512_mask_cmpge_epu16_mask(used, slot, end);
        if (!more)
            break;
        symbols = _mm512_mask_add_epi16(symbols, more, symbols, one);
        start = _mm512_mask_mov_epi16(start, more, end);
        end = _mm512_mask_mov_epi16(end, more, look_up(t, s + 1, context));
    }
    const __m512i f = _mm512_sub_epi16(end, start);
    const __m512i next_low = decode_step(v->low, wide(slot, 0), wide(start, 0), wide(f, 0));
    const __m512i next_high = decode_step(v->high, wide(slot, 1), wide(start, 1), wide(f, 1));
    const __mmask16 short_low = _mm512_mask_cmplt_epu32_mask((__mmask16)used, next_low, limit);
    const __mmask16 short_high = _mm512_mask_cmplt_epu32_mask((__mmask16)(used >> 16), next_high, limit);
    __m512i words;
    if (!fetch(c, _mm512_kunpackw(short_high, short_low), &words))
        return false;
    v->low = _mm512_mask_or_epi32(_mm512_mask_mov_epi32(v->low, (__mmask16)used, next_low), short_low,
                                  _mm512_slli_epi32(next_low, 16), wide(words, 0));
    v->high = _mm512_mask_or_epi32(_mm512_mask_mov_epi32(v->high, (__mmask16)(used >> 16), next_high), short_high,
                                   _mm512_slli_epi32(next_high, 16), wide(words, 1));
    *found = symbols; /* unused lanes have had none counted */
    _mm256_storeu_si256((__m256i *)(void *)out, _mm512_cvtepi16_epi8(symbols));
    return true;
}

/* ---- what contexts come from: 32 lanes of 16 bits ---- */

CWI_INLINE __m512i symbols_at(const uint8_t *p)
{
    return _mm512_cvtepu8_epi16(bytes_at(p));
}

/* The context of a position whose left neighbours are these. */
CWI_INLINE __m512i context_of(const int16_t *acc, __m512i weight, __m512i left)
{
    const __m512i sum = _mm512_add_epi16(_mm512_loadu_si512(acc), _mm512_mullo_epi16(weight, left));
    const __m512i least = _mm512_max_epi16(_mm512_srai_epi16(sum, CWI_CTX_SHIFT), _mm512_setzero_si512());
    return _mm512_min_epi16(least, _mm512_set1_epi16(CWI_CONTEXTS - 1));
}

static void contexts(const cwi_ctx_mix *m, const int16_t *acc, const uint8_t *row, size_t rows, size_t width,
                     uint8_t *out)
{
    const __m512i weight = _mm512_loadu_si512(m->left);
    for (size_t y = 0; y < rows; y++) {
        __m512i left = _mm512_setzero_si512();
        for (size_t x = 0; x < width; x++, acc += CWI_LANES, row += CWI_LANES, out += CWI_LANES) {
            const __m256i bytes = _mm512_cvtepi16_epi8(context_of(acc, weight, left));
            _mm256_storeu_si256((__m256i *)(void *)out, bytes);
            left = symbols_at(row);
        }
    }
}

static bool decode(cwi_ctx_lanes *c, const cwi_ctx_mix *m, const int16_t *acc, uint8_t *row, size_t width,
                   uint8_t *contexts)
{
    tables t;
    load_tables(c->model, &t);
    const __m512i weight = _mm512_loadu_si512(m->left);
    states v = {_mm512_loadu_si512(c->state), _mm512_loadu_si512(c->state + 16)};
    __m512i left = _mm512_setzero_si512();
    for (size_t x = 0; x < width; x++, acc += CWI_LANES, row += CWI_LANES) {
        const __m512i context = context_of(acc, weight, left);
        if (contexts)
            _mm256_storeu_si256((__m256i *)(void *)(contexts + x * CWI_LANES), _mm512_cvtepi16_epi8(context));
        if (!decode_position(c, &t, &v, coded_lanes(c, x), context, row, &left))
            return false;
    }
    _mm512_storeu_si512(c->state, v.low);
    _mm512_storeu_si512(c->state + 16, v.high);
    return true;
}

/* ---- sums of products, of four rows at a time ---- */

CWI_INLINE __m512i dot(__m512i sum, const uint8_t *symbols, __m512i numbers)
{
    return _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(symbols), numbers);
}

/* The sums of four vectors. */
CWI_INLINE __m128i totals(__m512i v0, __m512i v1, __m512i v2, __m512i v3)
{
    const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v0, v1), _mm512_unpackhi_epi32(v0, v1));
    const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v2, v3), _mm512_unpackhi_epi32(v2, v3));
    const __m512i c = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    const __m256i d = _mm256_add_epi32(_mm512_castsi512_si256(c), _mm512_extracti64x4_epi64(c, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(d), _mm256_extracti128_si256(d, 1));
}

_Static_assert(CWI_CTX_PAD % 64 == 0, "rows are read to their end");

static void products(const int8_t *a, const uint8_t *rows, size_t stride, size_t count, size_t n, int32_t *out)
{
    for (; count >= 4; count -= 4, rows += 4 * stride, out += 4) {
        __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
        for (size_t i = 0; i < n; i += 64) {
            const __m512i numbers = _mm512_loadu_si512(a + i);
            s0 = dot(s0, rows + i, numbers);
            s1 = dot(s1, rows + stride + i, numbers);
            s2 = dot(s2, rows + 2 * stride + i, numbers);
            s3 = dot(s3, rows + 3 * stride + i, numbers);
        }
        _mm_storeu_si128((__m128i *)(void *)out, totals(s0, s1, s2, s3));
    }
    for (; count > 0; count--, rows += stride, out++) {
        __m512i sum = _mm512_setzero_si512();
        for (size_t i = 0; i < n; i += 64)
            sum = dot(sum, rows + i, _mm512_loadu_si512(a + i));
        *out = _mm512_reduce_add_epi32(sum);
    }
}

void cwi_ctx_avx512(cwi_kernels *k)
{
    k->ctx = (cwi_ctx_kernels){.mix = mix,
                               .contexts = contexts,
                               .encode = encode,
                               .decode = decode,
                               .thin_mix = thin_mix,
                               .thin_contexts = thin_contexts,
                               .thin_decode = thin_decode,
                               .to_lanes = to_lanes,
                               .from_lanes = from_lanes,
                               .products = products};
}
