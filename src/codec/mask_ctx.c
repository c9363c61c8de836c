/* mask_ctx.c - planes of codes to symbols and bits, and back. */
#include <string.h>

#include "codec/bits.h"
#include "codec/mask_ctx.h"

enum { SYMBOL_BITS = 4 };

static size_t rounded(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static unsigned low_bits(const cwi_mask *m)
{
    return m->bits > SYMBOL_BITS ? m->bits - SYMBOL_BITS : 0;
}

static bool has_bits(const cwi_mask *m)
{
    return low_bits(m) || m->is_signed;
}

/* ---- scratch: symbols, then planes (decoding) or bits (encoding), then what ctx.h wants ---- */

static size_t planes_size(const cwi_mask *m)
{
    return m->layout.segments * cwi_planes_size(m->layout.length, cwi_mask_planes(m));
}

static size_t second_at(const cwi_mask *m)
{
    return rounded(m->layout.elements + 8);
}

static size_t third_at(const cwi_mask *m)
{
    return second_at(m) + rounded(CWI_MAX(planes_size(m), m->layout.elements / 8 * cwi_mask_planes(m) + 16));
}

size_t cwi_mask_ctx_work(const cwi_mask *m, const cw_shape *shape, unsigned threads, bool decoding)
{
    cwi_ctx_shape s;
    cwi_ctx_shape_of(shape, m->layout.elements, &s);
    return third_at(m) + (decoding ? cwi_ctx_decode_work_size(&s, threads) : cwi_ctx_work_size(&s, threads));
}

/* ---- signs, and lower bits of codes ---- */

/* The planes of a group of n elements: element i of each is bit i. */
typedef struct group {
    uint64_t plane[CWI_MAX_BITS], signs;
    size_t n;
} group;

static group load(const cwi_mask *m, const uint8_t *planes, size_t n)
{
    const unsigned run = (unsigned)(n + 7) / 8;
    group g = {.n = n};
    for (unsigned p = 0; p < m->bits; p++)
        g.plane[p] = cwi_get_le(planes + p * run, run);
    if (m->is_signed)
        g.signs = cwi_get_le(planes + m->bits * run, run);
    return g;
}

static void store(const cwi_mask *m, const group *g, unsigned planes_of_codes, uint8_t *planes)
{
    const unsigned run = (unsigned)(g->n + 7) / 8;
    for (unsigned p = 0; p < planes_of_codes; p++)
        cwi_put_le(planes + p * run, g->plane[p], run);
    if (m->is_signed)
        cwi_put_le(planes + m->bits * run, g->signs, run);
}

/* Which elements of a group have a sign that is not known otherwise. */
static uint64_t have_signs(const cwi_mask_ctx *c, const group *g)
{
    uint64_t any = c->mask->signed_zero ? UINT64_MAX : 0, all = UINT64_MAX;
    for (unsigned p = 0; p < c->mask->bits; p++) {
        any |= g->plane[p];
        all &= g->plane[p];
    }
    const uint64_t here = g->n < CWI_GROUP ? (UINT64_C(1) << g->n) - 1 : UINT64_MAX;
    return c->mask->is_signed ? any & ~all & here : 0;
}

static void put_bits(const cwi_mask_ctx *c, const group *g, cwi_bit_writer *w)
{
    const unsigned low = low_bits(c->mask);
    const uint64_t with = have_signs(c, g);
    if (low == 0) {
        cwi_bits_put_word(w, c->kernels->extract(g->signs, with), (unsigned)__builtin_popcountll(with));
        return;
    }
    for (size_t i = 0; i < g->n; i++) {
        for (unsigned p = 0; p < low; p++)
            cwi_bits_put(w, g->plane[p] >> i & 1, 1);
        if (with >> i & 1)
            cwi_bits_put(w, g->signs >> i & 1, 1);
    }
}

/* Fills in lower planes and signs. */
static void get_bits(const cwi_mask_ctx *c, group *g, cwi_bit_reader *r)
{
    const unsigned low = low_bits(c->mask);
    uint64_t with = have_signs(c, g);
    if (low == 0) {
        g->signs = c->kernels->deposit(cwi_bits_get_word(r, (unsigned)__builtin_popcountll(with)), with);
        return;
    }
    for (size_t i = 0; i < g->n; i++) {
        group one = {.n = 1};
        for (unsigned p = 0; p < c->mask->bits; p++) {
            one.plane[p] = p < low ? cwi_bits_get(r, 1) : g->plane[p] >> i & 1;
            g->plane[p] |= one.plane[p] << i;
        }
        if (have_signs(c, &one))
            g->signs |= cwi_bits_get(r, 1) << i;
    }
}

/* ---- a segment ---- */

static void unpack(const cwi_mask_ctx *c, const uint8_t *planes, uint8_t *symbols, cwi_bit_writer *w)
{
    const cwi_mask *m = c->mask;
    const unsigned count = cwi_mask_planes(m), low = low_bits(m);
    c->kernels->codes_of_planes(planes, m->layout.length, count, low, m->bits - low, symbols);
    for (size_t first = 0; has_bits(m) && first < m->layout.length; first += CWI_GROUP) {
        const group g = load(m, planes, CWI_MIN(m->layout.length - first, (size_t)CWI_GROUP));
        put_bits(c, &g, w);
        planes += cwi_planes_size(g.n, count);
    }
}

static void pack(const cwi_mask_ctx *c, const uint8_t *symbols, cwi_bit_reader *r, uint8_t *planes)
{
    const cwi_mask *m = c->mask;
    const unsigned count = cwi_mask_planes(m), low = low_bits(m);
    if (has_bits(m)) /* lower planes and signs are not known yet, but read with the others */
        memset(planes, 0, cwi_planes_size(m->layout.length, count));
    c->kernels->planes_of_codes(symbols, m->layout.length, count, low, m->bits - low, planes);
    for (size_t first = 0; has_bits(m) && first < m->layout.length; first += CWI_GROUP) {
        group g = load(m, planes, CWI_MIN(m->layout.length - first, (size_t)CWI_GROUP));
        get_bits(c, &g, r);
        store(m, &g, low, planes);
        planes += cwi_planes_size(g.n, count);
    }
}

/* ---- all ---- */

bool cwi_mask_ctx_encode(const cwi_mask_ctx *c, uint8_t *planes, size_t *size)
{
    const cwi_mask *m = c->mask;
    const size_t room = planes_size(m), step = room / m->layout.segments;
    uint8_t *bits = c->work + second_at(m);
    cwi_bit_writer w = {.next = bits};
    for (size_t s = 0; s < m->layout.segments; s++)
        unpack(c, planes + s * step, c->work + s * m->layout.length, &w);
    const size_t bits_size = (size_t)(cwi_bits_finish(&w) - bits);
    cwi_ctx_encoder e = {
        .kernels = c->kernels, .symbols = c->work, .threads = c->threads, .work = c->work + third_at(m)};
    cwi_ctx_shape_of(c->shape, m->layout.elements, &e.shape);
    if (bits_size >= room || cwi_ctx_plan(&e) >= room - bits_size ||
        !cwi_ctx_encode(&e, planes, room - bits_size - 1, size))
        return false;
    memcpy(planes + *size, bits, bits_size);
    *size += bits_size;
    return true;
}

bool cwi_mask_ctx_check(const cwi_mask *m, const cw_shape *shape, const uint8_t *in, size_t size)
{
    cwi_ctx_shape s;
    cwi_ctx_shape_of(shape, m->layout.elements, &s);
    return m->layout.elements > 0 && cwi_ctx_check(&s, in, size);
}

const uint8_t *cwi_mask_ctx_decode(const cwi_mask_ctx *c, const uint8_t *in, size_t size)
{
    const cwi_mask *m = c->mask;
    cwi_ctx_decoder d = {
        .kernels = c->kernels, .threads = c->threads, .in = in, .work = c->work + third_at(m), .symbols = c->work};
    cwi_ctx_shape_of(c->shape, m->layout.elements, &d.shape);
    d.size = cwi_ctx_size(in);
    if (!cwi_ctx_decode(&d) || d.count > 1u << CWI_MIN(m->bits, (unsigned)SYMBOL_BITS))
        return NULL;
    uint8_t *planes = c->work + second_at(m);
    const size_t step = planes_size(m) / m->layout.segments;
    cwi_bit_reader r = {.next = in + d.size, .end = in + size};
    for (size_t s = 0; s < m->layout.segments; s++)
        pack(c, c->work + s * m->layout.length, &r, planes + s * step);
    return r.short_of || r.next != r.end ? NULL : planes;
}
