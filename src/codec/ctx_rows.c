/* ctx_rows.c - tensors as groups of planes, rows of groups as lanes. */
#include <string.h>

#include "codec/ctx.h"

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

void cwi_ctx_gather(const cwi_ctx_shape *s, const uint8_t *symbols, size_t group, size_t y, uint8_t *row)
{
    const unsigned used = cwi_ctx_used(s, group);
    const size_t width = s->width, plane = s->height * width;
    const uint8_t *from = symbols + group * CWI_LANES * plane + y * width;
    if (used < CWI_LANES)
        memset(row, 0, cwi_ctx_row(s));
    if (plane == 1) {
        memcpy(row, from, used);
        return;
    }
    for (unsigned l = 0; l < used; l++, from += plane)
        for (size_t x = 0; x < width; x++)
            row[x * CWI_LANES + l] = from[x];
}

void cwi_ctx_scatter(const cwi_ctx_shape *s, const uint8_t *row, size_t group, size_t y, uint8_t *symbols)
{
    const unsigned used = cwi_ctx_used(s, group);
    const size_t width = s->width, plane = s->height * width;
    uint8_t *to = symbols + group * CWI_LANES * plane + y * width;
    if (plane == 1) {
        memcpy(to, row, used);
        return;
    }
    for (unsigned l = 0; l < used; l++, to += plane)
        for (size_t x = 0; x < width; x++)
            to[x] = row[x * CWI_LANES + l];
}
