/* ctx_thin.c - tensors of so few samples that groups have only a plane or a few: planes as they lie, in place of lanes
 * of which nearly all would be empty. The bytes are those that lanes would give. */
#include <string.h>

#include "codec/ctx.h"

static size_t rounded(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* ---- planes: each row behind an element beyond the edge, and one such row before the first ---- */

static size_t pitch_of(const cwi_ctx_shape *s)
{
    return s->width + 1;
}

static size_t plane_bytes(const cwi_ctx_shape *s)
{
    return (s->height + 1) * pitch_of(s);
}

/* From the first element of a plane on. */
static size_t first_at(const cwi_ctx_shape *s)
{
    return pitch_of(s) + 1;
}

static size_t padded(size_t n)
{
    return (n + CWI_CTX_THIN_PAD - 1) / CWI_CTX_THIN_PAD * CWI_CTX_THIN_PAD;
}

/* Positions of a plane from its first element to its last. */
static size_t positions_of(const cwi_ctx_shape *s)
{
    return padded(s->height * pitch_of(s) - 1);
}

static size_t planes_size(const cwi_ctx_shape *s)
{
    return rounded(s->planes * plane_bytes(s) + CWI_CTX_THIN_PAD);
}

static size_t plane_elements(const cwi_ctx_shape *s)
{
    return s->height * s->width;
}

static const cwi_ctx_set *set_of(const cwi_ctx_tables *t, size_t channel)
{
    return &t->sets[t->mode == CWI_CTX_OWN ? channel : t->of[channel]];
}

/* What the references of a channel add, at element `at` of its plane, and then neighbours. */
static void add_refs(const cwi_ctx_set *set, const uint8_t *plane, size_t channel, size_t size, size_t at,
                     cwi_ctx_terms *t)
{
    for (unsigned r = 0; r < set->refs; r++) {
        t->weight[t->count] = set->weight[CWI_CTX_NEAR + r];
        t->at[t->count++] = plane - (channel - set->ref[r]) * size + at;
    }
}

static void add_above(const cwi_ctx_set *set, const uint8_t *element, size_t pitch, cwi_ctx_terms *t)
{
    const uint8_t *up = element - pitch, *const at[CWI_CTX_ABOVE] = {up, up - 1, up + 1};
    for (unsigned i = 0; i < CWI_CTX_ABOVE; i++) {
        t->weight[t->count] = set->weight[1 + i];
        t->at[t->count++] = at[i];
    }
}

/* ---- encoding ---- */

size_t cwi_ctx_thin_size(const cwi_ctx_shape *s)
{
    return planes_size(s) + rounded(plane_bytes(s) + CWI_CTX_THIN_PAD);
}

static void copy_rows(const uint8_t *from, size_t from_pitch, size_t rows, size_t width, uint8_t *to, size_t to_pitch)
{
    for (size_t y = 0; y < rows; y++, from += from_pitch, to += to_pitch) {
        if (width == 1)
            *to = *from;
        else
            memcpy(to, from, width);
    }
}

/* Of plane `index`, whose symbols are at `plane`, into out. */
static void find_contexts(const cwi_kernels *k, const cwi_ctx_shape *s, const cwi_ctx_tables *t, const uint8_t *plane,
                          size_t index, uint8_t *room, uint8_t *out)
{
    const size_t channel = index % s->channels, pitch = pitch_of(s), at = first_at(s);
    const cwi_ctx_set *set = set_of(t, channel);
    cwi_ctx_terms terms = {.bias = set->bias, .count = 1, .weight = {set->weight[0]}, .at = {plane + at - 1}};
    add_above(set, plane + at, pitch, &terms);
    if (t->mode == CWI_CTX_OWN)
        add_refs(set, plane, channel, plane_bytes(s), at, &terms);
    k->ctx.thin_contexts(&terms, positions_of(s), room);
    copy_rows(room, pitch, s->height, s->width, out, s->width);
}

void cwi_ctx_thin_contexts(const cwi_kernels *k, const cwi_ctx_shape *s, const cwi_ctx_tables *t,
                           const uint8_t *symbols, uint8_t *work, uint8_t *contexts)
{
    const size_t bytes = plane_bytes(s), n = plane_elements(s);
    if (t->mode == CWI_CTX_PLAIN) {
        memset(contexts, 0, s->elements);
        return;
    }
    memset(work, (int)t->zero, planes_size(s));
    for (size_t i = 0; i < s->planes; i++)
        copy_rows(symbols + i * n, s->width, s->height, s->width, work + i * bytes + first_at(s), pitch_of(s));
    for (size_t i = 0; i < s->planes; i++)
        find_contexts(k, s, t, work + i * bytes, i, work + planes_size(s), contexts + i * n);
}

/* What a state of less than 2^20 f becomes: x / f is x * inverse >> INVERSE, exactly. */
typedef struct coding {
    uint64_t inverse;
    uint32_t f, start;
} coding;

enum { INVERSE = 44 };

typedef coding codings[CWI_CONTEXTS][CWI_SYMBOLS];

static void make_codings(const cwi_ctx_tables *t, codings out)
{
    const cwi_ctx_model *m = &t->model;
    for (unsigned c = 0; c < CWI_CONTEXTS; c++) {
        if (c > 0 && !t->fresh[c]) {
            memcpy(out[c], out[c - 1], sizeof out[c]);
            continue;
        }
        for (unsigned s = 0; s < m->symbols; s++) {
            const uint32_t start = m->start[s][c], f = m->start[s + 1][c] - start;
            out[c][s] = (coding){.inverse = f ? (UINT64_C(1) << INVERSE) / f + 1 : 0, .f = f, .start = start};
        }
    }
}

CWI_INLINE uint32_t encode_one(const coding *of, uint32_t x, uint8_t **put)
{
    const bool full = x >> (32 - CWI_CTX_BITS) >= of->f;
    (*put)[-1] = (uint8_t)(x >> 8); /* overwritten where it is not wanted */
    (*put)[-2] = (uint8_t)x;
    *put -= 2 * full;
    x = full ? x >> 16 : x;
    const uint32_t q = (uint32_t)(x * of->inverse >> INVERSE);
    return x + q * (CWI_CTX_WHOLE - of->f) + of->start;
}

CWI_INLINE void encode_planes(const cwi_ctx_encoder *e, const uint8_t *contexts, const codings of, cwi_ctx_lanes *lanes,
                              unsigned used)
{
    const cwi_ctx_shape *s = &e->shape;
    const size_t n = plane_elements(s), sample = s->channels * n;
    uint32_t state[CWI_CTX_THIN];
    uint8_t *put = lanes->put;
    memcpy(state, lanes->state, sizeof state);
    for (size_t i = sample; i-- > 0;)
        for (unsigned l = used; l-- > 0;) {
            const size_t at = l * sample + i;
            if (e->support && !e->support[at])
                continue;
            state[l] = encode_one(&of[contexts[at]][e->symbols[at]], state[l], &put);
        }
    memcpy(lanes->state, state, sizeof state);
    lanes->put = put;
}

void cwi_ctx_thin_encode(const cwi_ctx_encoder *e, const uint8_t *contexts, cwi_ctx_lanes *lanes)
{
    codings of;
    make_codings(&e->tables, of);
    if (e->shape.lanes == 1)
        encode_planes(e, contexts, of, lanes, 1);
    else
        encode_planes(e, contexts, of, lanes, (unsigned)e->shape.lanes);
}

/* ---- decoding ---- */

/* Behind the planes: acc and contexts of a row, for each lane. */
typedef struct places {
    size_t acc, contexts, lane, all;
} places;

static places places_in(const cwi_ctx_shape *s)
{
    places p = {.acc = planes_size(s)};
    p.contexts = p.acc + rounded(padded(s->width) * sizeof(int16_t));
    p.lane = p.contexts + rounded(s->width) - p.acc;
    p.all = p.acc + CWI_CTX_THIN * p.lane;
    return p;
}

size_t cwi_ctx_thin_decode_size(const cwi_ctx_shape *s)
{
    return places_in(s).all;
}

/* Upper bits of contexts are classes. */
static void put_row(const uint8_t *symbols, const uint8_t *contexts, size_t n, bool classes, uint8_t *out)
{
    enum { SHIFT = 2 };
    if (!classes)
        memcpy(out, symbols, n);
    else
        for (size_t x = 0; x < n; x++)
            out[x] = (uint8_t)((contexts[x] << SHIFT & 0xf0) | symbols[x]);
}

/* A plane that is being decoded. */
typedef struct decoding {
    cwi_ctx_terms terms; /* of the row at hand */
    cwi_ctx_thin_row row;
    int16_t *acc;
    size_t element; /* of the tensor, the row's first */
} decoding;

static void begin_plane(const cwi_ctx_decoder *d, const cwi_ctx_tables *t, const cwi_ctx_set *set, uint8_t *work,
                        size_t channel, size_t lane, decoding *p)
{
    const cwi_ctx_shape *s = &d->shape;
    const places where = places_in(s);
    const size_t index = lane * s->channels + channel;
    uint8_t *plane = work + index * plane_bytes(s);
    p->element = index * plane_elements(s);
    p->acc = (int16_t *)(void *)(work + where.acc + lane * where.lane);
    p->terms = (cwi_ctx_terms){.bias = set->bias};
    add_above(set, plane + first_at(s), pitch_of(s), &p->terms);
    if (t->mode == CWI_CTX_OWN)
        add_refs(set, plane, channel, plane_bytes(s), first_at(s), &p->terms);
    p->row = (cwi_ctx_thin_row){.acc = p->acc, .support = d->support ? d->support + p->element : NULL};
    p->row.symbols = plane + first_at(s);
    p->row.contexts = work + where.contexts + lane * where.lane;
}

static void end_row(const cwi_ctx_decoder *d, decoding *p, const cwi_ctx_thin_row *row)
{
    const cwi_ctx_shape *s = &d->shape;
    put_row(row->symbols, row->contexts, s->width, d->classes, (d->classes ? d->classes : d->symbols) + p->element);
    p->element += s->width;
    for (unsigned k = 0; k < p->terms.count; k++)
        p->terms.at[k] += pitch_of(s);
}

static bool decode_channel(const cwi_ctx_decoder *d, const cwi_ctx_tables *t, uint8_t *work, size_t channel,
                           cwi_ctx_lanes *lanes)
{
    const cwi_ctx_shape *s = &d->shape;
    const cwi_ctx_set *set = set_of(t, channel);
    decoding plane[CWI_CTX_THIN];
    cwi_ctx_thin_row row[CWI_CTX_THIN];
    for (unsigned l = 0; l < lanes->used; l++) {
        begin_plane(d, t, set, work, channel, l, &plane[l]);
        row[l] = plane[l].row;
    }
    for (size_t y = 0; y < s->height; y++) {
        for (unsigned l = 0; l < lanes->used; l++)
            d->kernels->ctx.thin_mix(&plane[l].terms, padded(s->width), plane[l].acc);
        if (!d->kernels->ctx.thin_decode(lanes, set->weight[0], row, s->width))
            return false;
        for (unsigned l = 0; l < lanes->used; l++) {
            end_row(d, &plane[l], &row[l]);
            row[l].symbols += pitch_of(s);
            if (row[l].support)
                row[l].support += s->width;
        }
    }
    return true;
}

/* With one table for all, whatever the planes. */
static bool decode_plain(const cwi_ctx_decoder *d, cwi_ctx_lanes *lanes)
{
    enum { AT_ONCE = 256 };
    static const int16_t acc[AT_ONCE];
    uint8_t symbols[CWI_CTX_THIN][1 + AT_ONCE] = {{0}}, contexts[AT_ONCE];
    const size_t sample = d->shape.channels * plane_elements(&d->shape);
    for (size_t first = 0, n; first < sample; first += n) {
        cwi_ctx_thin_row row[CWI_CTX_THIN];
        n = CWI_MIN((size_t)AT_ONCE, sample - first);
        for (unsigned l = 0; l < lanes->used; l++) {
            const uint8_t *support = d->support ? d->support + l * sample + first : NULL;
            row[l] =
                (cwi_ctx_thin_row){.acc = acc, .support = support, .symbols = symbols[l] + 1, .contexts = contexts};
        }
        if (!d->kernels->ctx.thin_decode(lanes, 0, row, n))
            return false;
        for (unsigned l = 0; l < lanes->used; l++)
            memcpy((d->classes ? d->classes : d->symbols) + l * sample + first, row[l].symbols, n);
    }
    return true;
}

bool cwi_ctx_thin_decode(const cwi_ctx_decoder *d, const cwi_ctx_tables *t, uint8_t *work, cwi_ctx_lanes *lanes)
{
    const cwi_ctx_shape *s = &d->shape;
    lanes->used = (unsigned)s->lanes;
    if (t->mode == CWI_CTX_PLAIN)
        return decode_plain(d, lanes);
    memset(work, (int)t->zero, planes_size(s));
    for (size_t c = 0; c < s->channels; c++)
        if (!decode_channel(d, t, work, c, lanes))
            return false;
    return true;
}
