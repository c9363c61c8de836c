/* scan_neon.c - the passes that only read, with NEON. A last short vector is filled up with zeros that do not count. */
#include <arm_neon.h>
#include <string.h>

#include "codec/kernels/kernels.h"

enum {
    LANES = 4,
    UNROLL = 4,
    BLOCK = 1 << 20 /* elements between two emptyings of 32-bit counters */
};

CWI_INLINE uint32x4_t load(const float *x)
{
    return vreinterpretq_u32_f32(vld1q_f32(x));
}

/* The first n elements, or four. */
CWI_INLINE uint32x4_t load_first(const float *x, size_t n)
{
    float some[LANES] = {0};
    memcpy(some, x, CWI_MIN(n, (size_t)LANES) * sizeof *x);
    return load(some);
}

CWI_INLINE uint32x4_t first_lanes(size_t n)
{
    static const uint32_t lanes[LANES] = {0, 1, 2, 3};
    return vcltq_u32(vld1q_u32(lanes), vdupq_n_u32((uint32_t)CWI_MIN(n, (size_t)LANES)));
}

CWI_INLINE uint32x4_t key_of(uint32x4_t bits)
{
    return vandq_u32(bits, vdupq_n_u32(INT32_MAX));
}

/* ---- range ---- */

typedef struct extremes {
    uint32x4_t key, bits;
    float32x4_t min, max;
} extremes;

CWI_INLINE void extend(extremes *e, uint32x4_t v)
{
    const float32x4_t x = vreinterpretq_f32_u32(v);
    e->key = vmaxq_u32(e->key, key_of(v));
    e->bits = vmaxq_u32(e->bits, v);
    e->min = vminq_f32(e->min, x);
    e->max = vmaxq_f32(e->max, x);
}

static void range(const float *x, size_t n, cwi_range *r)
{
    extremes e[UNROLL];
    for (int u = 0; u < UNROLL; u++)
        e[u] = (extremes){vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_f32(r->min), vdupq_n_f32(r->max)};
    size_t i = 0;
    for (; i + LANES * UNROLL <= n; i += LANES * UNROLL)
        for (size_t u = 0; u < UNROLL; u++)
            extend(&e[u], load(x + i + LANES * u));
    for (; i < n; i++)
        extend(&e[0], vreinterpretq_u32_f32(vdupq_n_f32(x[i])));
    for (int u = 0; u < UNROLL; u++) {
        r->max_key = CWI_MAX(r->max_key, vmaxvq_u32(e[u].key));
        r->max_bits = CWI_MAX(r->max_bits, vmaxvq_u32(e[u].bits));
        r->min = CWI_MIN(r->min, vminvq_f32(e[u].min));
        r->max = CWI_MAX(r->max, vmaxvq_f32(e[u].max));
    }
}

/* ---- window ---- */

/* The constants and running results of one block. */
typedef struct search {
    uint32x4_t low, width, high;
    uint32x4_t key, bits, above;
} search;

/* Returns which of `lanes` lie in the window. */
CWI_INLINE uint32x4_t look(search *s, uint32x4_t v, uint32x4_t lanes)
{
    const uint32x4_t key = key_of(v);
    s->key = vmaxq_u32(s->key, key);
    s->bits = vmaxq_u32(s->bits, v);
    s->above = vsubq_u32(s->above, vandq_u32(vcgeq_u32(key, s->high), lanes));
    return vandq_u32(vcltq_u32(vsubq_u32(key, s->low), s->width), lanes);
}

static void collect(cwi_window *w, uint32x4_t v, uint32x4_t inside)
{
    uint32_t key[LANES], in[LANES];
    vst1q_u32(key, key_of(v));
    vst1q_u32(in, inside);
    for (int lane = 0; lane < LANES; lane++) {
        if (!in[lane])
            continue;
        if (w->inside < w->capacity)
            w->candidates[w->inside] = key[lane];
        w->inside++;
    }
}

static void window_block(const float *x, size_t n, cwi_window *w)
{
    const uint32x4_t all = vdupq_n_u32(UINT32_MAX);
    search s = {vdupq_n_u32(w->low),     vdupq_n_u32(w->high - w->low), vdupq_n_u32(w->high),
                vdupq_n_u32(w->max_key), vdupq_n_u32(w->max_bits),      vdupq_n_u32(0)};
    size_t i = 0;
    for (; i + LANES * UNROLL <= n; i += LANES * UNROLL) {
        uint32x4_t v[UNROLL], in[UNROLL];
        for (size_t u = 0; u < UNROLL; u++) {
            v[u] = load(x + i + LANES * u);
            in[u] = look(&s, v[u], all);
        }
        if (vmaxvq_u32(vorrq_u32(vorrq_u32(in[0], in[1]), vorrq_u32(in[2], in[3]))))
            for (int u = 0; u < UNROLL; u++)
                collect(w, v[u], in[u]);
    }
    for (; i < n; i += LANES) {
        const uint32x4_t v = load_first(x + i, n - i);
        collect(w, v, look(&s, v, first_lanes(n - i)));
    }
    w->above += vaddvq_u32(s.above);
    w->max_key = vmaxvq_u32(s.key);
    w->max_bits = vmaxvq_u32(s.bits);
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
    const uint32x4_t limit = vdupq_n_u32(t);
    while (n > 0) {
        const size_t m = CWI_MIN(n, (size_t)BLOCK);
        uint32x4_t more = vdupq_n_u32(0), same = more;
        for (size_t i = 0; i < m; i += LANES) {
            const uint32x4_t lanes = first_lanes(m - i);
            const uint32x4_t key = key_of(m - i < LANES ? load_first(x + i, m - i) : load(x + i));
            more = vsubq_u32(more, vandq_u32(vcgtq_u32(key, limit), lanes));
            same = vsubq_u32(same, vandq_u32(vceqq_u32(key, limit), lanes));
        }
        *above += vaddvq_u32(more);
        *equal += vaddvq_u32(same);
        x += m;
        n -= m;
    }
}

/* ---- energy ---- */

static void energy(const float *x, size_t n, double part[8])
{
    float64x2_t sum[4];
    for (int j = 0; j < 4; j++)
        sum[j] = vld1q_f64(part + 2 * j);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (size_t j = 0; j < 4; j++) {
            const float64x2_t v = vcvt_f64_f32(vld1_f32(x + i + 2 * j));
            sum[j] = vaddq_f64(sum[j], vmulq_f64(v, v));
        }
    }
    for (int j = 0; j < 4; j++)
        vst1q_f64(part + 2 * j, sum[j]);
    for (; i < n; i++)
        part[0] += (double)x[i] * (double)x[i];
}

void cwi_scan_neon(cwi_kernels *k)
{
    k->range = range;
    k->window = window;
    k->count = count; /* the scalar histogram is as good as any */
    k->ec.energy = energy;
}
