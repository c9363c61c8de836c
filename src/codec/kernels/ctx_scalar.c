/* ctx_scalar.c - the entropy coder's inner loops, by definition. */
#include <string.h>

#include "codec/kernels/kernels.h"

/* What is left of the first position. */
static const uint8_t nothing[CWI_LANES];

CWI_INLINE unsigned context(unsigned base, unsigned left, unsigned up)
{
    return base + 4 * CWI_MIN(left, 3u) + CWI_MIN(up, 3u);
}

static void count(const uint8_t *row, const uint8_t *up, size_t width, const uint8_t *base, unsigned used,
                  uint32_t counts[CWI_CONTEXTS][CWI_SYMBOLS])
{
    const uint8_t *left = nothing;
    for (size_t x = 0; x < width; x++, left = row, row += CWI_LANES, up += CWI_LANES)
        for (unsigned l = 0; l < used; l++)
            counts[context(base[l], left[l], up[l])][row[l]]++;
}

static void encode(cwi_ctx_lanes *c, const uint8_t *row, const uint8_t *up, size_t width)
{
    const cwi_ctx_model *m = c->model;
    for (size_t x = width; x-- > 0;) {
        const uint8_t *here = row + x * CWI_LANES, *above = up + x * CWI_LANES;
        const uint8_t *left = x ? here - CWI_LANES : nothing;
        for (unsigned l = c->used; l-- > 0;) {
            const unsigned ctx = context(c->base[l], left[l], above[l]), s = here[l];
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

static bool decode(cwi_ctx_lanes *c, uint8_t *row, const uint8_t *up, size_t width)
{
    const cwi_ctx_model *m = c->model;
    memset(row, 0, width * CWI_LANES);
    const uint8_t *left = nothing;
    for (size_t x = 0; x < width; x++, left = row, row += CWI_LANES, up += CWI_LANES) {
        for (unsigned l = 0; l < c->used; l++) {
            const unsigned ctx = context(c->base[l], left[l], up[l]);
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
            row[l] = (uint8_t)s;
        }
    }
    return true;
}

void cwi_ctx_scalar(cwi_kernels *k)
{
    k->ctx = (cwi_ctx_kernels){.count = count, .encode = encode, .decode = decode};
}
