/* ctx_rows.c - tensors as groups of planes, rows of groups as lanes. */
#include <string.h>

#include "codec/ctx.h"
#include "codec/kernels/ctx_context.h"

static void set_planes(const cw_shape *shape, cwi_ctx_shape *s)
{
    const int n = shape->ndim;
    s->height = s->width = s->channels = 1;
    if (n >= 3 && shape->dim[n - 1] <= CWI_CTX_WIDTH) {
        s->height = (size_t)shape->dim[n - 2];
        s->width = (size_t)shape->dim[n - 1];
        s->channels = n == 4 ? (size_t)shape->dim[1] : 1;
    } else if (n == 2) {
        s->channels = (size_t)shape->dim[1];
    }
}

void cwi_ctx_shape_of(const cw_shape *shape, size_t elements, cwi_ctx_shape *s)
{
    memset(s, 0, sizeof *s);
    s->elements = elements;
    if (elements == 0)
        return;
    set_planes(shape, s);
    const size_t plane = s->height * s->width;
    s->planes = elements / plane;
    s->block_groups = (CWI_CTX_BLOCK + plane * CWI_LANES - 1) / (plane * CWI_LANES);
    s->blocks = (cwi_ctx_groups(s) + s->block_groups - 1) / s->block_groups;
}

void cwi_ctx_bases(const cwi_ctx_shape *s, const uint8_t *classes, size_t group, uint8_t base[CWI_LANES])
{
    size_t channel = group * CWI_LANES % s->channels;
    for (unsigned l = 0; l < CWI_LANES; l++) {
        base[l] = (uint8_t)(classes[channel] * (CWI_CONTEXTS / CWI_CLASSES));
        channel = channel + 1 == s->channels ? 0 : channel + 1;
    }
}

void cwi_ctx_gather(const cwi_kernels *k, const cwi_ctx_shape *s, const uint8_t *symbols, size_t group, size_t y,
                    size_t count, uint8_t *rows)
{
    const size_t width = s->width, plane = s->height * width, row = cwi_ctx_row(s), above = y > 0;
    const uint8_t *from = symbols + group * CWI_LANES * plane + (y - above) * width;
    uint8_t *to = rows - above * row;
    const size_t n = (count + above) * width;
    const unsigned used = cwi_ctx_used(s, group);
    if (!above)
        memset(rows - row, 0, row);
    if (used < CWI_LANES)
        memset(to, 0, n * CWI_LANES);
    if (plane == 1) {
        memcpy(to, from, used);
    } else if (used == CWI_LANES) {
        k->ctx.to_lanes(from, plane, n, to);
    } else {
        for (unsigned l = 0; l < used; l++, from += plane)
            for (size_t i = 0; i < n; i++)
                to[i * CWI_LANES + l] = from[i];
    }
}

void cwi_ctx_contexts(const uint8_t base[CWI_LANES], const uint8_t *rows, size_t width, size_t count, uint8_t *out)
{
    static const uint8_t nothing[CWI_LANES];
    for (size_t y = 0; y < count; y++)
        for (size_t x = 0; x < width; x++, rows += CWI_LANES, out += CWI_LANES)
            cwi_ctx_context(base, x ? rows - CWI_LANES : nothing, rows - width * CWI_LANES, out);
}

void cwi_ctx_scatter(const cwi_kernels *k, const cwi_ctx_shape *s, const uint8_t *rows, size_t group, size_t y,
                     size_t count, uint8_t *symbols)
{
    const size_t width = s->width, plane = s->height * width, n = count * width;
    const unsigned used = cwi_ctx_used(s, group);
    uint8_t *to = symbols + group * CWI_LANES * plane + y * width;
    if (plane == 1) {
        memcpy(to, rows, used);
    } else if (used == CWI_LANES) {
        k->ctx.from_lanes(rows, plane, n, to);
    } else {
        for (unsigned l = 0; l < used; l++, to += plane)
            for (size_t i = 0; i < n; i++)
                to[i] = rows[i * CWI_LANES + l];
    }
}
