/* planes_scalar.c - codes in bit planes: quantizers and mask-encoded sparsification, by definition. */
#include <string.h>

#include "codec/kernels/kernels.h"

static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float scaled(const cwi_quant *q, float a)
{
    return (a * q->pre - q->base) * q->scale;
}

static inline uint32_t code_of(const cwi_quant *q, float v, float add)
{
    float sum = v + add;
    return (uint32_t)CWI_MIN(sum, q->top);
}

/* One group's planes as words while it is built or read. */
typedef struct group {
    uint64_t word[CWI_MAX_BITS + 1];
} group;

static inline void group_set(group *g, size_t i, uint32_t code, unsigned planes)
{
    for (unsigned p = 0; p < planes; p++)
        g->word[p] |= (uint64_t)(code >> p & 1) << i;
}

static inline uint32_t group_get(const group *g, size_t i, unsigned planes)
{
    uint32_t code = 0;
    for (unsigned p = 0; p < planes; p++)
        code |= (uint32_t)(g->word[p] >> i & 1) << p;
    return code;
}

static uint8_t *group_store(const group *g, size_t m, unsigned planes, uint8_t *out)
{
    unsigned run = (unsigned)(m + 7) / 8;
    for (unsigned p = 0; p < planes; p++, out += run)
        cwi_put_le(out, g->word[p], run);
    return out;
}

static const uint8_t *group_load(group *g, size_t m, unsigned planes, const uint8_t *in)
{
    unsigned run = (unsigned)(m + 7) / 8;
    for (unsigned p = 0; p < planes; p++, in += run)
        g->word[p] = cwi_get_le(in, run);
    return in;
}

/* ---- ms ---- */

static inline uint32_t ms_code(cwi_ms_encode *e, float x, uint32_t ones)
{
    uint32_t key = bits_of(x) & UINT32_C(0x7fffffff);
    bool keep = key > e->threshold;
    if (key == e->threshold && e->ties) {
        keep = true;
        e->ties--;
    }
    if (!keep)
        return code_of(&e->quant, scaled(&e->quant, float_of(key)), e->quant.half);
    memcpy(e->values, &x, sizeof x);
    e->values += sizeof x;
    return ones;
}

static void ms_encode(const float *x, size_t n, cwi_ms_encode *e)
{
    const unsigned bits = e->quant.bits, planes = bits + e->is_signed;
    const uint32_t ones = (1u << bits) - 1;
    for (size_t first = 0; first < n; first += CWI_GROUP) {
        size_t m = CWI_MIN(n - first, (size_t)CWI_GROUP);
        group g = {{0}};
        for (size_t i = 0; i < m; i++) {
            uint32_t code = ms_code(e, x[first + i], ones);
            if (e->is_signed && (code || e->signed_zero))
                code |= bits_of(x[first + i]) >> 31 << bits;
            group_set(&g, i, code, planes);
        }
        e->planes = group_store(&g, m, planes, e->planes);
    }
}

static bool ms_decode(cwi_ms_decode *d, size_t n, float *out)
{
    const unsigned bits = d->bits, planes = bits + d->is_signed;
    const uint32_t ones = (1u << bits) - 1;
    for (size_t first = 0; first < n; first += CWI_GROUP) {
        size_t m = CWI_MIN(n - first, (size_t)CWI_GROUP);
        group g;
        d->planes = group_load(&g, m, planes, d->planes);
        for (size_t i = 0; i < m; i++) {
            uint32_t code = group_get(&g, i, planes), sign = code >> bits;
            code &= ones;
            if (code != ones) {
                out[first + i] = float_of(bits_of(d->level[code]) | sign << 31);
                continue;
            }
            if (d->values == d->values_end)
                return false;
            memcpy(&out[first + i], d->values, sizeof *out);
            d->values += sizeof *out;
        }
    }
    return true;
}

static uint64_t ones_in(const uint8_t *codes, size_t n, unsigned bits, unsigned planes)
{
    uint64_t total = 0;
    for (size_t first = 0; first < n; first += CWI_GROUP) {
        size_t m = CWI_MIN(n - first, (size_t)CWI_GROUP);
        group g;
        codes = group_load(&g, m, planes, codes);
        uint64_t all = m == CWI_GROUP ? UINT64_MAX : (UINT64_C(1) << m) - 1;
        for (unsigned p = 0; p < bits; p++)
            all &= g.word[p];
        total += (uint64_t)__builtin_popcountll(all);
    }
    return total;
}

static void moments(const float *x, size_t n, const cwi_quant *q, uint32_t limit, cwi_moments *m)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t key = bits_of(x[i]) & UINT32_C(0x7fffffff);
        if (key >= limit)
            continue;
        float v = scaled(q, float_of(key));
        uint32_t code = code_of(q, v, q->half);
        m->count[code]++;
        m->sum[code] += (uint32_t)(v * 65536.0f);
    }
}

/* ---- uniform quantization ---- */

static void quantize(const float *x, size_t n, const cwi_quant *q, uint8_t *planes)
{
    for (size_t first = 0; first < n; first += CWI_GROUP) {
        size_t m = CWI_MIN(n - first, (size_t)CWI_GROUP);
        group g = {{0}};
        for (size_t i = 0; i < m; i++)
            group_set(&g, i, code_of(q, scaled(q, x[first + i]), q->half), q->bits);
        planes = group_store(&g, m, q->bits, planes);
    }
}

static void quantize_noise(const float *x, size_t n, const cwi_quant *q, uint64_t key, uint64_t start, uint8_t *planes)
{
    for (size_t first = 0; first < n; first += CWI_GROUP) {
        size_t m = CWI_MIN(n - first, (size_t)CWI_GROUP);
        group g = {{0}};
        for (size_t i = 0; i < m; i++) {
            float u = (float)(cwi_noise_bits(key, start + first + i) >> 8) * 0x1p-24f;
            group_set(&g, i, code_of(q, scaled(q, x[first + i]), u), q->bits);
        }
        planes = group_store(&g, m, q->bits, planes);
    }
}

static void dequantize(const uint8_t *planes, size_t n, unsigned bits, const float *level, float *out)
{
    for (size_t first = 0; first < n; first += CWI_GROUP) {
        size_t m = CWI_MIN(n - first, (size_t)CWI_GROUP);
        group g;
        planes = group_load(&g, m, bits, planes);
        for (size_t i = 0; i < m; i++)
            out[first + i] = level[group_get(&g, i, bits)];
    }
}

void cwi_planes_scalar(cwi_kernels *k)
{
    k->ms_encode = ms_encode;
    k->ms_decode = ms_decode;
    k->ones = ones_in;
    k->moments = moments;
    k->quantize = quantize;
    k->quantize_noise = quantize_noise;
    k->dequantize = dequantize;
}
