/* scan_avx512.c - the passes that only read, with AVX-512 (F, BW, VL, DQ). A last short vector is loaded by mask. */
#include <immintrin.h>

#include "codec/kernels/kernels.h"

enum {
    LANES = 16,
    UNROLL = 4,
    BLOCK = 1 << 20 /* elements between two emptyings of 32-bit counters */
};

CWI_INLINE __mmask16 first_lanes(size_t n)
{
    return n < LANES ? (__mmask16)((1u << n) - 1) : (__mmask16)UINT16_MAX;
}

CWI_INLINE __m512i key_of(__m512i bits)
{
    return _mm512_and_si512(bits, _mm512_set1_epi32(INT32_MAX));
}

/* ---- range ---- */

typedef struct extremes {
    __m512i key, bits;
    __m512 min, max;
} extremes;

/* Lanes outside `m` count as 0 for key and bits, and not at all for min and max. */
CWI_INLINE void extend(extremes *e, __m512i v, __mmask16 m)
{
    const __m512 x = _mm512_castsi512_ps(v);
    e->key = _mm512_max_epu32(e->key, key_of(v));
    e->bits = _mm512_max_epu32(e->bits, v);
    e->min = _mm512_mask_min_ps(e->min, m, e->min, x);
    e->max = _mm512_mask_max_ps(e->max, m, e->max, x);
}

static void range(const float *x, size_t n, cwi_range *r)
{
    extremes e[UNROLL];
    for (int u = 0; u < UNROLL; u++)
        e[u] = (extremes){.min = _mm512_set1_ps(r->min), .max = _mm512_set1_ps(r->max)};
    size_t i = 0;
    for (; i + LANES * UNROLL <= n; i += LANES * UNROLL)
        for (size_t u = 0; u < UNROLL; u++)
            extend(&e[u], _mm512_loadu_si512(x + i + LANES * u), first_lanes(LANES));
    for (; i < n; i += LANES) {
        const __mmask16 m = first_lanes(n - i);
        extend(&e[0], _mm512_maskz_loadu_epi32(m, x + i), m);
    }
    for (int u = 0; u < UNROLL; u++) {
        r->max_key = CWI_MAX(r->max_key, _mm512_reduce_max_epu32(e[u].key));
        r->max_bits = CWI_MAX(r->max_bits, _mm512_reduce_max_epu32(e[u].bits));
        r->min = CWI_MIN(r->min, _mm512_reduce_min_ps(e[u].min));
        r->max = CWI_MAX(r->max, _mm512_reduce_max_ps(e[u].max));
    }
}

/* ---- window ---- */

/* The constants and running results of one block. */
typedef struct search {
    __m512i low, width, high;
    __m512i key, bits, above;
} search;

/* Returns which lanes of `m` lie in the window. */
CWI_INLINE __mmask16 look(search *s, __m512i v, __mmask16 m)
{
    const __m512i key = key_of(v);
    s->key = _mm512_max_epu32(s->key, key);
    s->bits = _mm512_max_epu32(s->bits, v);
    const __mmask16 above = _mm512_mask_cmpge_epu32_mask(m, key, s->high);
    s->above = _mm512_mask_sub_epi32(s->above, above, s->above, _mm512_set1_epi32(-1));
    return _mm512_mask_cmplt_epu32_mask(m, _mm512_sub_epi32(key, s->low), s->width);
}

/* Appends keys; those that do not fit are counted only. */
CWI_INLINE void collect(cwi_window *w, __m512i v, __mmask16 inside)
{
    if (w->inside < w->capacity) /* the slack takes what a whole vector writes beyond */
        _mm512_storeu_si512(w->candidates + w->inside, _mm512_maskz_compress_epi32(inside, key_of(v)));
    w->inside += (uint64_t)__builtin_popcount(inside);
}

static void window_block(const float *x, size_t n, cwi_window *w)
{
    search s = {.low = _mm512_set1_epi32((int32_t)w->low),
                .width = _mm512_set1_epi32((int32_t)(w->high - w->low)),
                .high = _mm512_set1_epi32((int32_t)w->high),
                .key = _mm512_set1_epi32((int32_t)w->max_key),
                .bits = _mm512_set1_epi32((int32_t)w->max_bits)};
    size_t i = 0;
    for (; i + LANES * UNROLL <= n; i += LANES * UNROLL) {
        __m512i v[UNROLL];
        __mmask16 inside[UNROLL];
        for (size_t u = 0; u < UNROLL; u++) {
            v[u] = _mm512_loadu_si512(x + i + LANES * u);
            inside[u] = look(&s, v[u], first_lanes(LANES));
        }
        if (__builtin_expect(inside[0] | inside[1] | inside[2] | inside[3], 0))
            for (int u = 0; u < UNROLL; u++)
                collect(w, v[u], inside[u]);
    }
    for (; i < n; i += LANES) {
        const __mmask16 m = first_lanes(n - i);
        const __m512i v = _mm512_maskz_loadu_epi32(m, x + i);
        collect(w, v, look(&s, v, m));
    }
    w->max_key = _mm512_reduce_max_epu32(s.key);
    w->max_bits = _mm512_reduce_max_epu32(s.bits);
    w->above += (uint32_t)_mm512_reduce_add_epi32(s.above);
}

static void window(const float *x, size_t n, cwi_window *w)
{
    for (; n > BLOCK; x += BLOCK, n -= BLOCK)
        window_block(x, BLOCK, w);
    window_block(x, n, w);
}

/* ---- count ---- */

static void count(const float *x, size_t n, uint32_t t, uint64_t *above, uint64_t *equal)
{
    const __m512i limit = _mm512_set1_epi32((int32_t)t);
    for (size_t i = 0; i < n; i += LANES) {
        const __mmask16 m = first_lanes(n - i);
        const __m512i key = key_of(_mm512_maskz_loadu_epi32(m, x + i));
        *above += (uint64_t)__builtin_popcount(_mm512_mask_cmpgt_epu32_mask(m, key, limit));
        *equal += (uint64_t)__builtin_popcount(_mm512_mask_cmpeq_epu32_mask(m, key, limit));
    }
}

/* ---- histogram ---- */

/* Two histograms side by side, so that a run of equal keys does not wait for one counter all the time. */
static void histogram_block(const float *x, size_t n, uint32_t base, unsigned shift, uint64_t *bins)
{
    enum { BATCH = 256 };
    uint32_t part[2][CWI_HISTOGRAM_BINS + LANES] = {{0}}, index[BATCH + LANES];
    const __m512i from = _mm512_set1_epi32((int32_t)base), size = _mm512_set1_epi32(CWI_HISTOGRAM_BINS);
    const __m128i by = _mm_cvtsi32_si128((int)shift);
    for (size_t i = 0; i < n;) {
        unsigned found = 0;
        for (size_t end = CWI_MIN(n, i + BATCH); i < end; i += LANES) {
            const __mmask16 m = first_lanes(n - i);
            const __m512i key = key_of(_mm512_maskz_loadu_epi32(m, x + i));
            const __m512i bin = _mm512_srl_epi32(_mm512_sub_epi32(key, from), by);
            const __mmask16 valid = _mm512_mask_cmplt_epu32_mask(m, bin, size);
            _mm512_storeu_si512(index + found, _mm512_maskz_compress_epi32(valid, bin));
            found += (unsigned)__builtin_popcount(valid);
        }
        index[found] = CWI_HISTOGRAM_BINS; /* makes the number even */
        for (unsigned j = 0; j < found; j += 2) {
            part[0][index[j]]++;
            part[1][index[j + 1]]++;
        }
    }
    for (size_t b = 0; b < CWI_HISTOGRAM_BINS; b++)
        bins[b] += (uint64_t)part[0][b] + part[1][b];
}

static void histogram(const float *x, size_t n, uint32_t base, unsigned shift, uint64_t bins[CWI_HISTOGRAM_BINS])
{
    for (; n > BLOCK; x += BLOCK, n -= BLOCK)
        histogram_block(x, BLOCK, base, shift, bins);
    histogram_block(x, n, base, shift, bins);
}

/* ---- energy ---- */

static void energy(const float *x, size_t n, double part[8])
{
    __m512d sum = _mm512_loadu_pd(part);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m512d v = _mm512_cvtps_pd(_mm256_loadu_ps(x + i));
        sum = _mm512_add_pd(sum, _mm512_mul_pd(v, v));
    }
    _mm512_storeu_pd(part, sum);
    for (; i < n; i++)
        part[0] += (double)x[i] * (double)x[i];
}

void cwi_scan_avx512(cwi_kernels *k)
{
    k->range = range;
    k->window = window;
    k->count = count;
    k->histogram = histogram;
    k->ec.energy = energy;
}
