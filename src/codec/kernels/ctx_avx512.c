/* ctx_avx512.c - the entropy coder with AVX-512 (F, BW, VL, DQ, VBMI2): a row's position in one vector of 32 16-bit
 * lanes, the states in two of 16. Tables of 64 contexts are two vectors, looked up by one permutation. */
#include <immintrin.h>
#include <string.h>

#include "codec/kernels/kernels.h"

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

CWI_INLINE __m256i capped(__m256i symbols)
{
    return _mm256_min_epu8(symbols, _mm256_set1_epi8(3));
}

/* All symbols are below 16, so that shifts of 16-bit lanes stay within their bytes. */
CWI_INLINE __m512i contexts(__m256i base, __m256i left, __m256i up)
{
    const __m256i c = _mm256_add_epi8(_mm256_slli_epi16(capped(left), 2), capped(up));
    return _mm512_cvtepu8_epi16(_mm256_add_epi8(base, c));
}

CWI_INLINE __m256i bytes_at(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

CWI_INLINE __mmask32 first_lanes(unsigned used)
{
    return used < CWI_LANES ? (__mmask32)((UINT32_C(1) << used) - 1) : UINT32_MAX;
}

/* ---- counting ---- */

/* Contexts and symbols of a position at once, the counters one by one. */
static void count(const uint8_t *row, const uint8_t *up, size_t width, const uint8_t *base, unsigned used,
                  uint32_t counts[CWI_CONTEXTS][CWI_SYMBOLS])
{
    const __m256i bases = bytes_at(base);
    __m256i left = _mm256_setzero_si256();
    uint16_t index[CWI_LANES];
    uint32_t *flat = &counts[0][0];
    for (size_t x = 0; x < width; x++, row += CWI_LANES, up += CWI_LANES) {
        const __m256i symbols = bytes_at(row);
        const __m512i context = contexts(bases, left, bytes_at(up));
        const __m512i at = _mm512_add_epi16(_mm512_slli_epi16(context, 4), _mm512_cvtepu8_epi16(symbols));
        _mm512_storeu_si512(index, at);
        for (unsigned l = 0; l < used; l++)
            flat[index[l]]++;
        left = symbols;
    }
}

/* ---- encoding ---- */

/* One renormalization and one symbol in 16 lanes; *low gets what `full` lanes put out. */
CWI_INLINE __m512i encode_step(__m512i state, __m512i start, __m512i f, __mmask16 used, __mmask16 *full)
{
    *full = _mm512_mask_cmpge_epu32_mask(used, _mm512_srli_epi32(state, 32 - CWI_CTX_BITS), f);
    const __m512i x = _mm512_mask_srli_epi32(state, *full, state, 16);
    /* quotients below 2^32 are exact in double precision: x / f is never within 2^-12 below a whole number */
    const __m512d low =
        _mm512_div_pd(_mm512_cvtepu32_pd(_mm512_castsi512_si256(x)), _mm512_cvtepu32_pd(_mm512_castsi512_si256(f)));
    const __m512d high = _mm512_div_pd(_mm512_cvtepu32_pd(_mm512_extracti64x4_epi64(x, 1)),
                                       _mm512_cvtepu32_pd(_mm512_extracti64x4_epi64(f, 1)));
    const __m512i q =
        _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvttpd_epu32(low)), _mm512_cvttpd_epu32(high), 1);
    const __m512i rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(q, f));
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

static void encode(cwi_ctx_lanes *c, const uint8_t *row, const uint8_t *up, size_t width)
{
    tables t;
    load_tables(c->model, &t);
    const __m256i base = bytes_at(c->base);
    const __mmask32 used = first_lanes(c->used);
    __m512i low = _mm512_loadu_si512(c->state), high = _mm512_loadu_si512(c->state + 16);
    for (size_t x = width; x-- > 0;) {
        const __m256i left = x ? bytes_at(row + (x - 1) * CWI_LANES) : _mm256_setzero_si256();
        const __m512i context = contexts(base, left, bytes_at(up + x * CWI_LANES));
        const __m512i symbols = _mm512_cvtepu8_epi16(bytes_at(row + x * CWI_LANES));
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

static bool decode(cwi_ctx_lanes *c, uint8_t *row, const uint8_t *up, size_t width)
{
    tables t;
    load_tables(c->model, &t);
    const __m256i base = bytes_at(c->base);
    const __mmask32 used = first_lanes(c->used);
    const __m512i one = _mm512_set1_epi16(1), limit = _mm512_set1_epi32((int)CWI_CTX_LOW);
    __m512i low = _mm512_loadu_si512(c->state), high = _mm512_loadu_si512(c->state + 16);
    __m256i left = _mm256_setzero_si256();
    for (size_t x = 0; x < width; x++, row += CWI_LANES, up += CWI_LANES) {
        const __m512i context = contexts(base, left, bytes_at(up));
        const __m512i slot = _mm512_and_si512(narrow(low, high), _mm512_set1_epi16(CWI_CTX_WHOLE - 1));
        __m512i symbols = _mm512_setzero_si512(), start = symbols, end = look_up(&t, 1, context);
        for (unsigned s = 1; s < t.symbols; s++) {
            const __mmask32 more = _mm512_cmpge_epu16_mask(slot, end);
            if (!(more & used))
                break;
            symbols = _mm512_mask_add_epi16(symbols, more, symbols, one);
            start = _mm512_mask_mov_epi16(start, more, end);
            end = _mm512_mask_mov_epi16(end, more, look_up(&t, s + 1, context));
        }
        const __m512i f = _mm512_sub_epi16(end, start);
        const __m512i next_low = decode_step(low, wide(slot, 0), wide(start, 0), wide(f, 0));
        const __m512i next_high = decode_step(high, wide(slot, 1), wide(start, 1), wide(f, 1));
        const __mmask16 short_low = _mm512_mask_cmplt_epu32_mask((__mmask16)used, next_low, limit);
        const __mmask16 short_high = _mm512_mask_cmplt_epu32_mask((__mmask16)(used >> 16), next_high, limit);
        __m512i words;
        if (!fetch(c, _mm512_kunpackw(short_high, short_low), &words))
            return false;
        low = _mm512_mask_or_epi32(_mm512_mask_mov_epi32(low, (__mmask16)used, next_low), short_low,
                                   _mm512_slli_epi32(next_low, 16), wide(words, 0));
        high = _mm512_mask_or_epi32(_mm512_mask_mov_epi32(high, (__mmask16)(used >> 16), next_high), short_high,
                                    _mm512_slli_epi32(next_high, 16), wide(words, 1));
        left = _mm512_maskz_cvtepi16_epi8(used, symbols);
        _mm256_storeu_si256((__m256i *)(void *)row, left);
    }
    _mm512_storeu_si512(c->state, low);
    _mm512_storeu_si512(c->state + 16, high);
    return true;
}

void cwi_ctx_avx512(cwi_kernels *k)
{
    k->ctx = (cwi_ctx_kernels){.count = count, .encode = encode, .decode = decode};
}
