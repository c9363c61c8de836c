/* ctx_rows.c - tensors as groups of planes, rows of groups as lanes. */
#include <string.h>

#include "codec/ctx.h"

enum { ONE_CHANNEL_LEAST = CWI_LANES / 2 }; /* samples from which on a group is of one channel */

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

/* Groups of so many channels, their sections and blocks. */
static void cut(cwi_ctx_shape *s, size_t beside)
{
    s->beside = beside;
    s->groups = (s->channels + s->beside - 1) / s->beside;
    s->sections = (s->samples + s->lanes - 1) / s->lanes;
    const size_t section = s->lanes * s->channels * s->height * s->width;
    s->block_sections = (CWI_CTX_BLOCK + section - 1) / section;
    s->blocks = (s->sections + s->block_sections - 1) / s->block_sections;
}

void cwi_ctx_shape_of(const cw_shape *shape, size_t elements, cwi_ctx_shape *s)
{
    memset(s, 0, sizeof *s);
    s->elements = elements;
    if (elements == 0)
        return;
    set_planes(shape, s);
    s->planes = elements / (s->height * s->width);
    s->samples = s->planes / s->channels;
    s->lanes = CWI_MIN(s->samples, (size_t)CWI_LANES);
    cut(s, s->samples >= ONE_CHANNEL_LEAST ? 1 : CWI_MIN(s->channels, CWI_LANES / s->lanes));
}

bool cwi_ctx_shape_narrow(const cw_shape *shape, size_t elements, cwi_ctx_shape *s)
{
    cwi_ctx_shape_of(shape, elements, s);
    if (elements == 0 || s->beside == 1 || elements / s->samples > CWI_CTX_NARROW)
        return false;
    cut(s, 1);
    return true;
}

size_t cwi_ctx_rows_size(const cwi_ctx_shape *s)
{
    return cwi_ctx_row(s) * (cwi_ctx_holds_section(s) ? s->groups * s->height : cwi_ctx_strip(s) + 1);
}

/* How far apart the planes of the lanes are, where that is the same for all of as many as kernels take; else 0. */
static size_t stride_of(const cwi_ctx_shape *s, size_t used)
{
    if ((used != CWI_LANES && used != CWI_LANES / 2) || (s->beside > 1 && s->lanes > 1))
        return 0;
    return (s->beside == 1 ? s->channels : s->groups) * s->height * s->width;
}

void cwi_ctx_gather(const cwi_kernels *k, const cwi_ctx_shape *s, const uint8_t *symbols, size_t section, size_t group,
                    size_t y, size_t count, uint8_t *rows)
{
    const size_t plane = s->height * s->width, n = count * s->width, used = cwi_ctx_used(s, section, group);
    const size_t stride = stride_of(s, used);
    const uint8_t *from = symbols + y * s->width;
    if (stride) {
        k->ctx.to_lanes(from + cwi_ctx_plane(s, section, group, 0) * plane, stride, used, n, rows);
        return;
    }
    memset(rows, 0, n * CWI_LANES);
    for (size_t l = 0; l < used; l++) {
        const uint8_t *lane = from + cwi_ctx_plane(s, section, group, l) * plane;
        for (size_t i = 0; i < n; i++)
            rows[i * CWI_LANES + l] = lane[i];
    }
}

void cwi_ctx_scatter(const cwi_kernels *k, const cwi_ctx_shape *s, const uint8_t *rows, size_t section, size_t group,
                     size_t y, size_t count, uint8_t *symbols)
{
    const size_t plane = s->height * s->width, n = count * s->width, used = cwi_ctx_used(s, section, group);
    const size_t stride = stride_of(s, used);
    uint8_t *to = symbols + y * s->width;
    if (stride) {
        k->ctx.from_lanes(rows, stride, used, n, to + cwi_ctx_plane(s, section, group, 0) * plane);
        return;
    }
    for (size_t l = 0; l < used; l++) {
        uint8_t *lane = to + cwi_ctx_plane(s, section, group, l) * plane;
        for (size_t i = 0; i < n; i++)
            lane[i] = rows[i * CWI_LANES + l];
    }
}

static const cwi_ctx_set *set_of(const cwi_ctx_tables *t, size_t channel)
{
    return &t->sets[t->mode == CWI_CTX_OWN ? channel : t->of[channel]];
}

static void fill(int16_t lanes[CWI_LANES], size_t first, size_t end, int16_t v)
{
    if (end - first == CWI_LANES)
        for (size_t i = 0; i < CWI_LANES; i++)
            lanes[i] = v;
    else
        for (size_t i = first; i < end; i++)
            lanes[i] = v;
}

void cwi_ctx_mix_of(const cwi_ctx_tables *t, const cwi_ctx_shape *s, size_t group, cwi_ctx_mix *m)
{
    m->refs = 0;
    if (t->mode == CWI_CTX_PLAIN || s->beside > 1) /* all lanes have something */
        memset(m, 0, sizeof *m);
    if (t->mode == CWI_CTX_PLAIN)
        return;
    for (size_t first = 0, c = group; first < s->beside * s->lanes && c < s->channels; first += s->lanes) {
        const cwi_ctx_set *set = set_of(t, c);
        const size_t end = s->beside == 1 ? CWI_LANES : first + s->lanes;
        m->refs = t->mode == CWI_CTX_OWN ? set->refs : 0;
        fill(m->bias, first, end, set->bias);
        fill(m->left, first, end, set->weight[0]);
        for (unsigned i = 0; i < CWI_CTX_ABOVE + m->refs; i++)
            memset(m->weight[i] + first, set->weight[1 + i], end - first);
        c += s->groups;
    }
}

static void add_lanes(int16_t *restrict acc, const int16_t *restrict more)
{
    for (unsigned l = 0; l < CWI_LANES; l++)
        acc[l] = (int16_t)(acc[l] + more[l]);
}

void cwi_ctx_add_edges(const cwi_ctx_mix *m, unsigned zero, bool top, size_t count, size_t width, int16_t *acc)
{
    int16_t left[CWI_LANES], above[CWI_LANES], begin[CWI_LANES], end[CWI_LANES];
    if (zero == 0)
        return;
    for (unsigned l = 0; l < CWI_LANES; l++) {
        left[l] = (int16_t)(m->left[l] * (int)zero);
        begin[l] = (int16_t)(m->weight[1][l] * (int)zero);
        end[l] = (int16_t)(m->weight[2][l] * (int)zero);
        above[l] = (int16_t)(m->weight[0][l] * (int)zero + begin[l] + end[l]);
    }
    for (size_t y = 0; y < count; y++, acc += width * CWI_LANES) {
        add_lanes(acc, left);
        for (size_t x = 0; top && y == 0 && x < width; x++)
            add_lanes(acc + x * CWI_LANES, above);
        if (!top || y > 0) {
            add_lanes(acc, begin);
            add_lanes(acc + (width - 1) * CWI_LANES, end);
        }
    }
}

cwi_ctx_near cwi_ctx_near_of(const cwi_ctx_tables *t, const cwi_ctx_shape *s, const uint8_t *rows, const uint8_t *row,
                             size_t group, size_t y)
{
    cwi_ctx_near n = {.row = row, .top = y == 0};
    if (t->mode != CWI_CTX_OWN)
        return n;
    const cwi_ctx_set *set = &t->sets[group];
    for (unsigned r = 0; r < set->refs; r++)
        n.ref[r] = rows + (set->ref[r] * s->height + y) * cwi_ctx_row(s);
    return n;
}
