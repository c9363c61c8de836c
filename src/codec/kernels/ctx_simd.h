/* ctx_simd.h - the entropy coder for instruction sets that cannot look tables up in vectors: symbols by comparing a
 * context's whole row, states in GNU C's vectors. A variant's ctx_*.c defines, then includes this file:
 *
 *     CTX_WIDTH                                            32-bit numbers in a vector, 4 or 8
 *     v_u32, v_i32, v_f32, v_bytes                         GNU C's vectors of that many, and of 16 bytes
 *     unsigned v_search(const uint16_t row[16], &slot)     how many numbers of the row are at most `slot`
 *     unsigned v_mask(v_u32)                               a bit for each number that is all ones, others being 0
 *     v_bytes v_shuffle(v_bytes, v_bytes order)            bytes by number, 0 for 0x80
 *     v_bytes v_load_word(p), void v_store_word(p, v)      8 bytes
 *     v_bytes v_quad(v_u32, i), v_u32 v_of_quads(quads)    four numbers each
 *     void v_narrow(const v_u32[], uint8_t out[32])        the low bytes of 32 numbers below 256
 *     v_i32 v_dot(v_i32 sum, a, symbols)                   sum and four products of a[i] * symbols[i] to each number
 */
#ifndef CWI_CTX_SIMD_H
#define CWI_CTX_SIMD_H

#include <string.h>

#include "codec/kernels/ctx_mix.h"
#include "codec/kernels/ctx_thin.h"
#include "codec/kernels/kernels.h"
#include "codec/kernels/lanes_simd.h"

enum {
    VECTORS = CWI_LANES / CTX_WIDTH,
    QUADS = CTX_WIDTH / 4,
    CTX_FEW = 4,                  /* lanes that are coded one by one */
    CTX_LAST = 2 * CWI_LANES + 8, /* no more bytes are read at once for a position */
};

CWI_INLINE v_u32 choose(v_u32 mask, v_u32 yes, v_u32 no)
{
    return (yes & mask) | (no & ~mask);
}

/* ---- words of 16 bits of some of four lanes ---- */

#define NONE       0x80, 0x80
#define EMPTY      NONE, NONE
#define WORD_AT(n) 2 * (n), 2 * (n) + 1, NONE

/* Words that follow each other to the lanes whose bits are set in the row's number. */
static const uint8_t expanded[16][16] = {
    {EMPTY, EMPTY, EMPTY, EMPTY},
    {WORD_AT(0), EMPTY, EMPTY, EMPTY},
    {EMPTY, WORD_AT(0), EMPTY, EMPTY},
    {WORD_AT(0), WORD_AT(1), EMPTY, EMPTY},
    {EMPTY, EMPTY, WORD_AT(0), EMPTY},
    {WORD_AT(0), EMPTY, WORD_AT(1), EMPTY},
    {EMPTY, WORD_AT(0), WORD_AT(1), EMPTY},
    {WORD_AT(0), WORD_AT(1), WORD_AT(2), EMPTY},
    {EMPTY, EMPTY, EMPTY, WORD_AT(0)},
    {WORD_AT(0), EMPTY, EMPTY, WORD_AT(1)},
    {EMPTY, WORD_AT(0), EMPTY, WORD_AT(1)},
    {WORD_AT(0), WORD_AT(1), EMPTY, WORD_AT(2)},
    {EMPTY, EMPTY, WORD_AT(0), WORD_AT(1)},
    {WORD_AT(0), EMPTY, WORD_AT(1), WORD_AT(2)},
    {EMPTY, WORD_AT(0), WORD_AT(1), WORD_AT(2)},
    {WORD_AT(0), WORD_AT(1), WORD_AT(2), WORD_AT(3)},
};

#define LOW_OF(lane) 4 * (lane), 4 * (lane) + 1
#define REST         EMPTY, EMPTY

/* The inverse, from the low halves of the lanes to the end of 8 bytes. */
static const uint8_t collected[16][16] = {
    {EMPTY, EMPTY, REST},
    {EMPTY, NONE, LOW_OF(0), REST},
    {EMPTY, NONE, LOW_OF(1), REST},
    {EMPTY, LOW_OF(0), LOW_OF(1), REST},
    {EMPTY, NONE, LOW_OF(2), REST},
    {EMPTY, LOW_OF(0), LOW_OF(2), REST},
    {EMPTY, LOW_OF(1), LOW_OF(2), REST},
    {NONE, LOW_OF(0), LOW_OF(1), LOW_OF(2), REST},
    {EMPTY, NONE, LOW_OF(3), REST},
    {EMPTY, LOW_OF(0), LOW_OF(3), REST},
    {EMPTY, LOW_OF(1), LOW_OF(3), REST},
    {NONE, LOW_OF(0), LOW_OF(1), LOW_OF(3), REST},
    {EMPTY, LOW_OF(2), LOW_OF(3), REST},
    {NONE, LOW_OF(0), LOW_OF(2), LOW_OF(3), REST},
    {NONE, LOW_OF(1), LOW_OF(2), LOW_OF(3), REST},
    {LOW_OF(0), LOW_OF(1), LOW_OF(2), LOW_OF(3), REST},
};

CWI_INLINE v_bytes row_of(const uint8_t table[16][16], unsigned mask)
{
    v_bytes row;
    memcpy(&row, table[mask], sizeof row);
    return row;
}

/* The words of `wanting` lanes, in order, 0 in others; reads 8 bytes for each four lanes. */
CWI_INLINE v_u32 get_words(const uint8_t **at, v_u32 wanting)
{
    v_bytes quad[QUADS];
    unsigned mask = v_mask(wanting);
    for (int i = 0; i < QUADS; i++, mask >>= 4) {
        quad[i] = v_shuffle(v_load_word(*at), row_of(expanded, mask & 15));
        *at += 2 * (unsigned)__builtin_popcount(mask & 15);
    }
    return v_of_quads(quad);
}

/* Puts the low halves of `full` lanes before `put`, which moves; writes 8 bytes for each four lanes. */
CWI_INLINE uint8_t *put_words(uint8_t *put, v_u32 state, v_u32 full)
{
    const unsigned mask = v_mask(full);
    for (int i = QUADS; i-- > 0;) {
        const unsigned here = mask >> 4 * i & 15;
        v_store_word(put - 8, v_shuffle(v_quad(state, i), row_of(collected, here)));
        put -= 2 * (unsigned)__builtin_popcount(here);
    }
    return put;
}

/* ---- encoding ---- */

CWI_INLINE v_f32 float_of(v_u32 x)
{
    const v_f32 more = (v_f32){0} + 0x1p32f;
    return __builtin_convertvector((v_i32)x, v_f32) + (v_f32)((v_u32)more & (v_u32)((v_i32)x < 0));
}

/* The next state of one of less than 2^20 f: x / f in floats is right to 1/4, so that it is one off at most. */
CWI_INLINE v_u32 encode_step(v_u32 x, v_u32 f, v_u32 start)
{
    v_u32 q = (v_u32) __builtin_convertvector(float_of(x) / __builtin_convertvector((v_i32)f, v_f32), v_i32);
    v_u32 rest = x - q * f;
    const v_u32 over = (v_u32)((v_i32)rest < 0);
    q += over; /* minus one */
    rest += f & over;
    const v_u32 under = (v_u32)((v_i32)rest >= (v_i32)f);
    q -= under;
    rest -= f & under;
    return (q << CWI_CTX_BITS) + rest + start;
}

/* Lanes without a plane, or outside the support, get a symbol that is certain, which changes nothing. */
CWI_INLINE void look_up(const cwi_ctx_model *m, const uint8_t *contexts, const uint8_t *symbols, unsigned used,
                        const uint8_t *support, uint32_t part[CWI_LANES])
{
    const uint32_t certain = (uint32_t)CWI_CTX_WHOLE << 16; /* state / 4096 * 4096 + state % 4096 */
    for (unsigned l = 0; l < used; l++) {
        const uint32_t inside = support ? (uint32_t)!support[l] - 1 : UINT32_MAX; /* a mask; no branch to guess */
        part[l] = (m->part[contexts[l]][symbols[l]] & inside) | (certain & ~inside);
    }
    for (unsigned l = used; l < CWI_LANES; l++)
        part[l] = certain;
}

/* Of the first so many vectors of lanes, which hold all that are used. */
CWI_INLINE void encode_vectors(cwi_ctx_lanes *c, const uint8_t *contexts, const uint8_t *symbols, size_t positions,
                               unsigned vectors)
{
    const cwi_ctx_model *m = c->model;
    uint32_t part[CWI_LANES];
    v_u32 state[VECTORS];
    uint8_t *put = c->put;
    memcpy(state, c->state, sizeof state);
    for (size_t i = positions; i-- > 0;) {
        const size_t at = i * CWI_LANES;
        if (c->support)
            look_up(m, contexts + at, symbols + at, c->used, c->support + at, part);
        else if (c->used == vectors * CTX_WIDTH)
            look_up(m, contexts + at, symbols + at, vectors * CTX_WIDTH, NULL, part);
        else
            look_up(m, contexts + at, symbols + at, c->used, NULL, part);
        for (unsigned v = vectors; v-- > 0;) {
            v_u32 p;
            memcpy(&p, part + v * CTX_WIDTH, sizeof p);
            const v_u32 f = p >> 16, full = (v_u32)((v_i32)(state[v] >> (32 - CWI_CTX_BITS)) >= (v_i32)f);
            put = put_words(put, state[v], full);
            state[v] = encode_step(choose(full, state[v] >> 16, state[v]), f, p & (CWI_CTX_WHOLE - 1));
        }
    }
    memcpy(c->state, state, sizeof state);
    c->put = put;
}

/* Of so few lanes that most of a vector would be empty: one by one. */
static void encode_few(cwi_ctx_lanes *c, const uint8_t *contexts, const uint8_t *symbols, size_t positions)
{
    const cwi_ctx_model *m = c->model;
    const unsigned used = c->used;
    uint32_t state[CTX_FEW];
    uint8_t *put = c->put;
    memcpy(state, c->state, sizeof state);
    for (size_t i = positions; i-- > 0;)
        for (unsigned l = used; l-- > 0;) {
            const size_t at = i * CWI_LANES + l;
            if (c->support && !c->support[at])
                continue;
            const uint32_t part = m->part[contexts[at]][symbols[at]], f = part >> 16;
            uint32_t x = state[l];
            const bool full = x >> (32 - CWI_CTX_BITS) >= f;
            put[-1] = (uint8_t)(x >> 8); /* overwritten where it is not wanted */
            put[-2] = (uint8_t)x;
            put -= 2 * full;
            x = full ? x >> 16 : x;
            const uint32_t q = x / f;
            state[l] = (q << CWI_CTX_BITS) + (x - q * f) + (part & (CWI_CTX_WHOLE - 1));
        }
    memcpy(c->state, state, sizeof state);
    c->put = put;
}

static void encode(cwi_ctx_lanes *c, const uint8_t *contexts, const uint8_t *symbols, size_t positions)
{
    if (c->used <= CTX_FEW)
        encode_few(c, contexts, symbols, positions);
    else if (c->used <= CWI_LANES / 2)
        encode_vectors(c, contexts, symbols, positions, VECTORS / 2);
    else
        encode_vectors(c, contexts, symbols, positions, VECTORS);
}

/* ---- decoding ---- */

CWI_INLINE uint32_t part_at(const cwi_ctx_model *m, unsigned context, const uint32_t *slot)
{
    return m->part[context][v_search(m->next[context], slot)];
}

/* The parts of the symbols of a vector of lanes, put together without a way through memory. */
CWI_INLINE v_u32 find_parts(const cwi_ctx_model *m, const uint8_t *c, const uint32_t *slot)
{
#if CTX_WIDTH == 8
    return (v_u32){part_at(m, c[0], slot + 0), part_at(m, c[1], slot + 1), part_at(m, c[2], slot + 2),
                   part_at(m, c[3], slot + 3), part_at(m, c[4], slot + 4), part_at(m, c[5], slot + 5),
                   part_at(m, c[6], slot + 6), part_at(m, c[7], slot + 7)};
#else
    return (v_u32){part_at(m, c[0], slot + 0), part_at(m, c[1], slot + 1), part_at(m, c[2], slot + 2),
                   part_at(m, c[3], slot + 3)};
#endif
}

/* Where `left` bytes are too few for whole loads: a copy, with zeros behind. */
static const uint8_t *copy_last(const uint8_t *in, size_t left, uint8_t last[CTX_LAST])
{
    memset(last, 0, CTX_LAST);
    memcpy(last, in, left);
    return last;
}

/* Lanes that are not used stay as they are, and get symbol 0. */
CWI_INLINE bool decode_position(cwi_ctx_lanes *c, unsigned vectors, v_u32 state[VECTORS], const v_u32 used[VECTORS],
                                const uint8_t *contexts, uint8_t *symbols)
{
    uint8_t last[CTX_LAST];
    const size_t left = (size_t)(c->end - c->get);
    const uint8_t *from = left < CTX_LAST ? copy_last(c->get, left, last) : c->get, *at = from;
    v_u32 symbol[VECTORS] = {{0}};
    uint32_t slots[CWI_LANES];
    for (unsigned v = 0; v < vectors; v++) {
        const v_u32 slot = state[v] & (CWI_CTX_WHOLE - 1);
        memcpy(slots + v * CTX_WIDTH, &slot, sizeof slot);
    }
    for (unsigned v = 0; v < vectors; v++) {
        const v_u32 slot = state[v] & (CWI_CTX_WHOLE - 1);
        const v_u32 part = find_parts(c->model, contexts + v * CTX_WIDTH, slots + v * CTX_WIDTH);
        const v_u32 next = (part >> 16) * (state[v] >> CWI_CTX_BITS) + slot - (part & (CWI_CTX_WHOLE - 1));
        const v_u32 less = (v_u32)(next >> 16 == 0) & used[v];
        const v_u32 words = get_words(&at, less);
        state[v] = choose(used[v], choose(less, next << 16 | words, next), state[v]);
        symbol[v] = part >> CWI_CTX_BITS & (CWI_SYMBOLS - 1) & used[v];
    }
    v_narrow(symbol, symbols);
    if ((size_t)(at - from) > left)
        return false;
    c->get += at - from;
    return true;
}

/* All ones for lanes below `used`, of those in the support. */
CWI_INLINE void find_used(unsigned used, const uint8_t *support, v_u32 out[VECTORS])
{
    uint32_t lanes[CWI_LANES];
    for (unsigned l = 0; l < CWI_LANES; l++)
        lanes[l] = l < used && (!support || support[l]) ? UINT32_MAX : 0;
    memcpy(out, lanes, sizeof lanes);
}

CWI_INLINE bool decode_vectors(cwi_ctx_lanes *c, const cwi_ctx_mix *m, const int16_t *acc, uint8_t *row, size_t width,
                               uint8_t *contexts, unsigned vectors)
{
    const uint8_t *left = cwi_nothing;
    uint8_t own[CWI_LANES], *found = own;
    v_u32 state[VECTORS], used[VECTORS];
    find_used(c->used, NULL, used);
    memcpy(state, c->state, sizeof state);
    for (size_t x = 0; x < width; x++, left = row, row += CWI_LANES, acc += CWI_LANES) {
        found = contexts ? contexts + x * CWI_LANES : own;
        contexts_at(m, acc, left, vectors * CTX_WIDTH, found);
        if (c->support)
            find_used(c->used, c->support + x * CWI_LANES, used);
        if (!decode_position(c, vectors, state, used, found, row))
            return false;
    }
    memcpy(c->state, state, sizeof state);
    return true;
}

static bool decode_few(cwi_ctx_lanes *c, const cwi_ctx_mix *m, const int16_t *acc, uint8_t *row, size_t width,
                       uint8_t *contexts)
{
    const unsigned used = c->used;
    uint32_t state[CTX_FEW];
    uint8_t left[CTX_FEW] = {0};
    const uint8_t *get = c->get;
    memcpy(state, c->state, sizeof state);
    memset(row, 0, width * CWI_LANES);
    for (size_t x = 0, at = 0; x < width; x++, at += CWI_LANES)
        for (unsigned l = 0; l < used; l++) {
            const unsigned context = thin_context(acc[at + l] + m->left[l] * left[l]);
            left[l] = 0;
            if (contexts)
                contexts[at + l] = (uint8_t)context;
            if (c->support && !c->support[at + l])
                continue;
            const uint32_t slot = state[l] % CWI_CTX_WHOLE, part = part_at(c->model, context, &slot);
            state[l] = (part >> 16) * (state[l] >> CWI_CTX_BITS) + slot - (part & (CWI_CTX_WHOLE - 1));
            row[at + l] = left[l] = part >> CWI_CTX_BITS & (CWI_SYMBOLS - 1);
            if (state[l] >= CWI_CTX_LOW)
                continue;
            if (c->end - get < 2)
                return false;
            state[l] = state[l] << 16 | (uint32_t)cwi_get_le(get, 2);
            get += 2;
        }
    memcpy(c->state, state, sizeof state);
    c->get = get;
    return true;
}

static bool decode(cwi_ctx_lanes *c, const cwi_ctx_mix *m, const int16_t *acc, uint8_t *row, size_t width,
                   uint8_t *contexts)
{
    if (c->used <= CTX_FEW)
        return decode_few(c, m, acc, row, width, contexts);
    if (c->used <= CWI_LANES / 2)
        return decode_vectors(c, m, acc, row, width, contexts, VECTORS / 2);
    return decode_vectors(c, m, acc, row, width, contexts, VECTORS);
}

/* ---- sums of products ---- */

static void products(const int8_t *a, const uint8_t *rows, size_t stride, size_t count, size_t n, int32_t *out)
{
    enum { BYTES = 4 * CTX_WIDTH };
    _Static_assert(CWI_CTX_PAD % (2 * BYTES) == 0, "rows are read to their end");
    for (size_t r = 0; r < count; r++, rows += stride) {
        v_i32 sum[2] = {{0}, {0}};
        for (size_t i = 0; i < n; i += 2 * BYTES) {
            sum[0] = v_dot(sum[0], a + i, rows + i);
            sum[1] = v_dot(sum[1], a + i + BYTES, rows + i + BYTES);
        }
        int32_t all = 0;
        sum[0] += sum[1];
        for (int i = 0; i < CTX_WIDTH; i++)
            all += sum[0][i];
        out[r] = all;
    }
}

static void ctx_fill(cwi_kernels *k)
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

#endif
