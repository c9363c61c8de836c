/* mask_ctx.c - planes of codes to symbols and bits, and back. */
#include <string.h>

#include "codec/bits.h"
#include "codec/mask_ctx.h"

#define LOW_OF_EACH UINT64_C(0x0101010101010101)

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

size_t cwi_mask_ctx_work(const cwi_mask *m, const cw_shape *shape, unsigned threads)
{
    cwi_ctx_shape s;
    cwi_ctx_shape_of(shape, m->layout.elements, &s);
    return third_at(m) + CWI_MAX(cwi_ctx_work_size(&s, threads), cwi_ctx_decode_work_size(&s, threads));
}

/* ---- eight elements at a time ---- */

/* Bit i of a byte to the lowest bit of byte i. */
static uint64_t spread(uint64_t byte)
{
    const uint64_t bits = byte * LOW_OF_EACH & UINT64_C(0x8040201008040201);
    return (bits + LOW_OF_EACH * 0x7f) >> 7 & LOW_OF_EACH;
}

static uint8_t collect(uint64_t bytes)
{
    return (uint8_t)((bytes & LOW_OF_EACH) * UINT64_C(0x0102040810204080) >> 56);
}

/* Codes and signs (bit 0 of each byte) of up to eight elements. */
typedef struct eight {
    uint64_t codes, signs;
} eight;

static eight load(const cwi_mask *m, const uint8_t *group, size_t run, size_t j)
{
    eight e = {0, 0};
    for (unsigned p = 0; p < m->bits; p++)
        e.codes |= spread(group[p * run + j]) << p;
    if (m->is_signed)
        e.signs = spread(group[m->bits * run + j]);
    return e;
}

static void store(const cwi_mask *m, eight e, uint8_t *group, size_t run, size_t j)
{
    for (unsigned p = 0; p < m->bits; p++)
        group[p * run + j] = collect(e.codes >> p);
    if (m->is_signed)
        group[m->bits * run + j] = collect(e.signs);
}

/* ---- bits ---- */

static bool has_sign(const cwi_mask_ctx *c, unsigned code)
{
    return c->mask->is_signed && code != (1u << c->mask->bits) - 1 && (code || c->signed_zero);
}

static void put_bits(const cwi_mask_ctx *c, eight e, size_t n, cwi_bit_writer *w)
{
    const unsigned low = low_bits(c->mask);
    for (size_t i = 0; i < n; i++, e.codes >>= 8, e.signs >>= 8) {
        const unsigned code = e.codes & 0xff;
        cwi_bits_put(w, code & ((1u << low) - 1), low);
        if (has_sign(c, code))
            cwi_bits_put(w, e.signs & 1, 1);
    }
}

static eight get_bits(const cwi_mask_ctx *c, uint64_t symbols, size_t n, cwi_bit_reader *r)
{
    const unsigned low = low_bits(c->mask);
    eight e = {0, 0};
    for (size_t i = 0; i < n; i++) {
        uint64_t code = (symbols >> 8 * i & 0xff) << low | cwi_bits_get(r, low);
        e.codes |= code << 8 * i;
        if (has_sign(c, (unsigned)code))
            e.signs |= cwi_bits_get(r, 1) << 8 * i;
    }
    return e;
}

/* ---- a segment ---- */

static void unpack(const cwi_mask_ctx *c, const uint8_t *planes, uint8_t *symbols, cwi_bit_writer *w)
{
    const cwi_mask *m = c->mask;
    const unsigned low = low_bits(m);
    for (size_t first = 0; first < m->layout.length; first += CWI_GROUP) {
        const size_t n = CWI_MIN(m->layout.length - first, (size_t)CWI_GROUP), run = (n + 7) / 8;
        for (size_t j = 0; j < run; j++) {
            const eight e = load(m, planes, run, j);
            const uint64_t top = e.codes >> low & LOW_OF_EACH * ((1u << (m->bits - low)) - 1);
            cwi_put_le(symbols + first + 8 * j, top, (unsigned)CWI_MIN(n - 8 * j, (size_t)8));
            if (has_bits(m))
                put_bits(c, e, CWI_MIN(n - 8 * j, (size_t)8), w);
        }
        planes += run * cwi_mask_planes(m);
    }
}

static void pack(const cwi_mask_ctx *c, const uint8_t *symbols, cwi_bit_reader *r, uint8_t *planes)
{
    const cwi_mask *m = c->mask;
    for (size_t first = 0; first < m->layout.length; first += CWI_GROUP) {
        const size_t n = CWI_MIN(m->layout.length - first, (size_t)CWI_GROUP), run = (n + 7) / 8;
        for (size_t j = 0; j < run; j++) {
            const size_t here = CWI_MIN(n - 8 * j, (size_t)8);
            eight e = {cwi_get_le(symbols + first + 8 * j, (unsigned)here), 0};
            if (has_bits(m))
                e = get_bits(c, e.codes, here, r);
            store(m, e, planes, run, j);
        }
        planes += run * cwi_mask_planes(m);
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
    cwi_ctx_decoder d = {.kernels = c->kernels,
                         .threads = c->threads,
                         .in = in,
                         .size = cwi_ctx_size(in),
                         .work = c->work + third_at(m),
                         .symbols = c->work};
    cwi_ctx_shape_of(c->shape, m->layout.elements, &d.shape);
    if (!cwi_ctx_decode(&d) || d.count > 1u << CWI_MIN(m->bits, (unsigned)SYMBOL_BITS))
        return NULL;
    uint8_t *planes = c->work + second_at(m);
    const size_t step = planes_size(m) / m->layout.segments;
    cwi_bit_reader r = {.next = in + d.size, .end = in + size};
    for (size_t s = 0; s < m->layout.segments; s++)
        pack(c, c->work + s * m->layout.length, &r, planes + s * step);
    return r.short_of || r.next != r.end ? NULL : planes;
}
