/* ctx_scalar.c - the entropy coder's inner loops, by definition. */
#include <string.h>

#include "codec/kernels/ctx_mix.h"
#include "codec/kernels/kernels.h"

CWI_INLINE unsigned v_search(const uint16_t row[CWI_SYMBOLS], const uint32_t *slot)
{
    unsigned s = 0;
    while (row[s] <= *slot)
        s++;
    return s;
}

#include "codec/kernels/ctx_thin.h"

static void encode(cwi_ctx_lanes *c, const uint8_t *contexts, const uint8_t *symbols, size_t positions)
{
    const cwi_ctx_model *m = c->model;
    for (size_t i = positions; i-- > 0;) {
        for (unsigned l = c->used; l-- > 0;) {
            if (c->support && !c->support[i * CWI_LANES + l])
                continue;
            const unsigned ctx = contexts[i * CWI_LANES + l], s = symbols[i * CWI_LANES + l];
            const uint32_t start = m->start[s][ctx], f = m->start[s + 1][ctx] - start;
            uint32_t state = c->state[l];
            if (state >> (32 - CWI_CTX_BITS) >= f) {
                c->put -= 2;
                cwi_put_le(c->put, state & 0xffff, 2);
                state >>= 16;
            }
            c->state[l] = (state / f << CWI_CTX_BITS) + state % f + start;
        }
    }
}

static bool decode_position(cwi_ctx_lanes *c, const uint8_t *contexts, const uint8_t *support, uint8_t *symbols)
{
    const cwi_ctx_model *m = c->model;
    for (unsigned l = 0; l < c->used; l++) {
        if (support && !support[l])
            continue;
        const unsigned ctx = contexts[l];
        const uint32_t slot = c->state[l] % CWI_CTX_WHOLE;
        unsigned s = 0;
        while (slot >= m->start[s + 1][ctx])
            s++;
        const uint32_t start = m->start[s][ctx];
        uint32_t state = (m->start[s + 1][ctx] - start) * (c->state[l] >> CWI_CTX_BITS) + slot - start;
        if (state < CWI_CTX_LOW) {
            if (c->end - c->get < 2)
                return false;
            state = state << 16 | (uint32_t)cwi_get_le(c->get, 2);
            c->get += 2;
        }
        c->state[l] = state;
        symbols[l] = (uint8_t)s;
    }
    return true;
}

static bool decode(cwi_ctx_lanes *c, const cwi_ctx_mix *m, const int16_t *acc, uint8_t *row, size_t width,
                   uint8_t *contexts)
{
    const uint8_t *left = cwi_nothing;
    uint8_t own[CWI_LANES];
    memset(row, 0, width * CWI_LANES);
    for (size_t x = 0; x < width; x++, left = row, row += CWI_LANES, acc += CWI_LANES) {
        uint8_t *found = contexts ? contexts + x * CWI_LANES : own;
        contexts_at(m, acc, left, CWI_LANES, found);
        if (!decode_position(c, found, c->support ? c->support + x * CWI_LANES : NULL, row))
            return false;
    }
    return true;
}

static void to_lanes(const uint8_t *planes, size_t stride, size_t count, size_t n, uint8_t *lanes)
{
    memset(lanes, 0, n * CWI_LANES);
    for (unsigned l = 0; l < count; l++, planes += stride)
        for (size_t i = 0; i < n; i++)
            lanes[i * CWI_LANES + l] = planes[i];
}

static void from_lanes(const uint8_t *lanes, size_t stride, size_t count, size_t n, uint8_t *planes)
{
    for (unsigned l = 0; l < count; l++, planes += stride)
        for (size_t i = 0; i < n; i++)
            planes[i] = lanes[i * CWI_LANES + l];
}

static void products(const int8_t *a, const uint8_t *rows, size_t stride, size_t count, size_t n, int32_t *out)
{
    for (size_t r = 0; r < count; r++, rows += stride) {
        int32_t sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += a[i] * rows[i];
        out[r] = sum;
    }
}

void cwi_ctx_scalar(cwi_kernels *k)
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
