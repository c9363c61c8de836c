/* scan_avx2.c - the passes that only read, with AVX2. A last short vector is loaded by mask. Keys and bounds are below
 * 2^31, or become so by less-one, so that the signed compares are right. */
#include <immintrin.h>

#include "codec/kernels/kernels.h"

enum {
    LANES = 8,
    UNROLL = 4,
    BLOCK = 1 << 20 /* elements between two emptyings of 32-bit counters */
};

CWI_INLINE __m256i first_lanes(size_t n)
{
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)CWI_MIN(n, (size_t)LANES)), lanes);
}

CWI_INLINE __m256i load(const float *x)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)x);
}

CWI_INLINE __m256i load_first(const float *x, __m256i lanes)
{
    return _mm256_castps_si256(_mm256_maskload_ps(x, lanes));
}

CWI_INLINE __m256i key_of(__m256i bits)
{
    return _mm256_and_si256(bits, _mm256_set1_epi32(INT32_MAX));
}

CWI_INLINE uint32_t mask_of(__m256i lanes)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(lanes));
}

CWI_INLINE uint32_t max_of(__m256i v)
{
    uint32_t lane[LANES], most = 0;
    _mm256_storeu_si256((__m256i *)(void *)lane, v);
    for (int i = 0; i < LANES; i++)
        most = CWI_MAX(most, lane[i]);
    return most;
}

/* ---- range ---- */

typedef struct extremes {
    __m256i key, bits;
    __m256 min, max;
} extremes;

CWI_INLINE void extend(extremes *e, __m256i v)
{
    const __m256 x = _mm256_castsi256_ps(v);
    e->key = _mm256_max_epu32(e->key, key_of(v));
    e->bits = _mm256_max_epu32(e->bits, v);
    e->min = _mm256_min_ps(e->min, x);
    e->max = _mm256_max_ps(e->max, x);
}

static void range(const float *x, size_t n, cwi_range *r)
{
    extremes e[UNROLL];
    for (int u = 0; u < UNROLL; u++)
        e[u] = (extremes){.min = _mm256_set1_ps(r->min), .max = _mm256_set1_ps(r->max)};
    size_t i = 0;
    for (; i + LANES * UNROLL <= n; i += LANES * UNROLL)
        for (size_t u = 0; u < UNROLL; u++)
            extend(&e[u], load(x + i + LANES * u));
    for (; i < n; i += LANES) { /* lanes beyond the end repeat the first element */
        const __m256i lanes = first_lanes(n - i);
        extend(&e[0], _mm256_blendv_epi8(_mm256_castps_si256(_mm256_set1_ps(x[i])), load_first(x + i, lanes), lanes));
    }
    for (int u = 0; u < UNROLL; u++) {
        float min[LANES], max[LANES];
        _mm256_storeu_ps(min, e[u].min);
        _mm256_storeu_ps(max, e[u].max);
        r->max_key = CWI_MAX(r->max_key, max_of(e[u].key));
        r->max_bits = CWI_MAX(r->max_bits, max_of(e[u].bits));
        for (int lane = 0; lane < LANES; lane++) {
            r->min = CWI_MIN(r->min, min[lane]);
            r->max = CWI_MAX(r->max, max[lane]);
        }
    }
}

/* ---- window ---- */

/* The constants and running results of one block. */
typedef struct search {
    __m256i below_low, below_high;
    __m256i key, bits, above;
} search;

/* Returns which lanes lie in the window or above, and which above; zeros that were not loaded count as neither. */
CWI_INLINE __m256i look(search *s, __m256i v, __m256i lanes)
{
    const __m256i key = key_of(v);
    s->key = _mm256_max_epu32(s->key, key);
    s->bits = _mm256_max_epu32(s->bits, v);
    const __m256i above = _mm256_and_si256(_mm256_cmpgt_epi32(key, s->below_high), lanes);
    s->above = _mm256_sub_epi32(s->above, above);
    return _mm256_and_si256(_mm256_andnot_si256(above, _mm256_cmpgt_epi32(key, s->below_low)), lanes);
}

static void collect(cwi_window *w, const float *x, uint32_t inside)
{
    for (; inside; inside &= inside - 1) {
        uint32_t bits;
        __builtin_memcpy(&bits, x + __builtin_ctz(inside), sizeof bits);
        if (w->inside < w->capacity)
            w->candidates[w->inside] = bits & INT32_MAX;
        w->inside++;
    }
}

static void window_block(const float *x, size_t n, cwi_window *w)
{
    const __m256i all = _mm256_set1_epi32(-1);
    search s = {.below_low = _mm256_set1_epi32((int32_t)(w->low - 1)),
                .below_high = _mm256_set1_epi32((int32_t)(w->high - 1)),
                .key = _mm256_set1_epi32((int32_t)w->max_key),
                .bits = _mm256_set1_epi32((int32_t)w->max_bits)};
    size_t i = 0;
    for (; i + LANES * UNROLL <= n; i += LANES * UNROLL) {
        __m256i in[UNROLL];
        for (size_t u = 0; u < UNROLL; u++)
            in[u] = look(&s, load(x + i + LANES * u), all);
        const __m256i any = _mm256_or_si256(_mm256_or_si256(in[0], in[1]), _mm256_or_si256(in[2], in[3]));
        if (__builtin_expect(!_mm256_testz_si256(any, any), 0))
            collect(w, x + i, mask_of(in[0]) | mask_of(in[1]) << 8 | mask_of(in[2]) << 16 | mask_of(in[3]) << 24);
    }
    for (; i < n; i += LANES) {
        const __m256i lanes = first_lanes(n - i);
        collect(w, x + i, mask_of(look(&s, load_first(x + i, lanes), lanes)));
    }
    uint32_t above[LANES];
    _mm256_storeu_si256((__m256i *)(void *)above, s.above);
    for (int lane = 0; lane < LANES; lane++)
        w->above += above[lane];
    w->max_key = max_of(s.key);
    w->max_bits = max_of(s.bits);
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
    const __m256i limit = _mm256_set1_epi32((int32_t)t);
    for (size_t i = 0; i < n; i += LANES) {
        const __m256i lanes = first_lanes(n - i), key = key_of(load_first(x + i, lanes));
        const __m256i same = _mm256_and_si256(_mm256_cmpeq_epi32(key, limit), lanes);
        *above += (uint64_t)__builtin_popcount(mask_of(_mm256_and_si256(_mm256_cmpgt_epi32(key, limit), lanes)));
        *equal += (uint64_t)__builtin_popcount(mask_of(same));
    }
}

/* ---- histogram ---- */

/* Two histograms side by side, so that a run of equal keys does not wait for one counter all the time. Keys outside go
 * to counters of their own, one for each lane. */
static void histogram_block(const float *x, size_t n, uint32_t base, unsigned shift, uint64_t *bins)
{
    uint32_t part[2][CWI_HISTOGRAM_BINS + LANES] = {{0}}, index[LANES];
    const __m256i from = _mm256_set1_epi32((int32_t)base),
                  outside = _mm256_add_epi32(_mm256_set1_epi32(CWI_HISTOGRAM_BINS),
                                             _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const __m128i by = _mm_cvtsi32_si128((int)shift);
    for (size_t i = 0; i < n; i += LANES) {
        const __m256i lanes = first_lanes(n - i), key = key_of(load_first(x + i, lanes));
        __m256i bin = _mm256_min_epu32(_mm256_srl_epi32(_mm256_sub_epi32(key, from), by), outside);
        bin = _mm256_blendv_epi8(outside, bin, lanes);
        _mm256_storeu_si256((__m256i *)(void *)index, bin);
        for (unsigned j = 0; j < LANES; j += 2) {
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

CWI_INLINE __m256d squares(const float *x)
{
    const __m256d v = _mm256_cvtps_pd(_mm_loadu_ps(x));
    return _mm256_mul_pd(v, v);
}

static void energy(const float *x, size_t n, double part[8])
{
    __m256d low = _mm256_loadu_pd(part), high = _mm256_loadu_pd(part + 4);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        low = _mm256_add_pd(low, squares(x + i));
        high = _mm256_add_pd(high, squares(x + i + 4));
    }
    _mm256_storeu_pd(part, low);
    _mm256_storeu_pd(part + 4, high);
    for (; i < n; i++)
        part[0] += (double)x[i] * (double)x[i];
}

void cwi_scan_avx2(cwi_kernels *k)
{
    k->range = range;
    k->window = window;
    k->count = count;
    k->histogram = histogram;
    k->ec.energy = energy;
}
