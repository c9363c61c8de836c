/* ctx_decode.c - streams back to symbols, trusting nothing. */
#include <stdatomic.h>
#include <string.h>

#include "codec/ctx.h"

static size_t rounded(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* Bits an element up to which symbols are guessed. */
#define LIKELY 1.5

/* Of more planes lanes are as fast. */
static bool is_thin(const cwi_ctx_shape *s)
{
    enum { LANES = 2 };
    return cwi_ctx_is_thin(s) && s->lanes <= LANES;
}

/* ---- scratch: sets, which channel has which, where streams are; then rows, acc, contexts and support of a strip for
 * each worker ---- */

typedef struct places {
    size_t of, streams, workers, acc, contexts, support, worker, all;
} places;

static places places_in(const cwi_ctx_shape *s, unsigned threads)
{
    places p = {0};
    p.of = rounded(cwi_ctx_most_sets(s) * sizeof(cwi_ctx_set));
    p.streams = p.of + rounded(s->channels);
    p.workers = p.streams + rounded(s->blocks * 2 * sizeof(size_t));
    if (is_thin(s)) {
        p.worker = rounded(cwi_ctx_thin_decode_size(s));
        p.all = p.workers + p.worker;
        return p;
    }
    p.acc = rounded(cwi_ctx_rows_size(s));
    p.contexts = p.acc + cwi_ctx_row(s) * sizeof(int16_t);
    p.support = p.contexts + cwi_ctx_row(s) * cwi_ctx_strip(s);
    p.worker = rounded(p.support + cwi_ctx_row(s) * cwi_ctx_strip(s));
    p.all = p.workers + p.worker * CWI_MAX(CWI_MIN((size_t)threads, s->blocks), (size_t)1);
    return p;
}

size_t cwi_ctx_decode_work_size(const cwi_ctx_shape *s, unsigned threads)
{
    return places_in(s, threads).all;
}

size_t cwi_ctx_size(const uint8_t *in)
{
    return (size_t)cwi_get_le(in + 6, 6);
}

bool cwi_ctx_check(const cwi_ctx_shape *s, const uint8_t *in, size_t size)
{
    if (s->elements == 0)
        return true;
    if (s->elements > CWI_CTX_ELEMENTS_MOST || size < CWI_CTX_PREFIX + 1)
        return false;
    const uint64_t claimed = cwi_ctx_size(in);
    const bool empty = in[CWI_CTX_PREFIX] >> 4 == 0;
    const uint64_t least = CWI_CTX_PREFIX + 1 + (empty ? 0 : (uint64_t)s->blocks * 4);
    return cwi_get_le(in, 6) == s->elements && claimed <= size && claimed >= least;
}

typedef struct run {
    cwi_ctx_decoder *d;
    cwi_ctx_tables tables;
    places places;
    const uint8_t **stream;
    size_t *size;
    atomic_bool failed;
} run;

/* The rows of a strip: their own in a section; else behind the row above, which the last strip left there. */
static uint8_t *strip_at(const cwi_ctx_shape *s, uint8_t *rows, size_t group, size_t y)
{
    const size_t row = cwi_ctx_row(s);
    if (cwi_ctx_holds_section(s))
        return rows + (group * s->height + y) * row;
    if (y > 0)
        memcpy(rows, rows + cwi_ctx_strip(s) * row, row);
    return rows + row;
}

/* Contexts to what dequantizing wants of them: each one's class, and its symbol. */
static void put_classes(const run *r, uint8_t *contexts, const uint8_t *rows, size_t section, size_t group, size_t y,
                        size_t count)
{
    enum { SHIFT = 2 };
    _Static_assert(CWI_CONTEXTS / CWI_CTX_CLASSES * CWI_SYMBOLS == CWI_CONTEXTS && CWI_SYMBOLS >> SHIFT == 4,
                   "a context's upper bits move to those of a byte");
    const cwi_ctx_shape *s = &r->d->shape;
    const uint64_t upper = UINT64_C(0xf0f0f0f0f0f0f0f0);
    const size_t used = (cwi_ctx_used(s, section, group) + 7) & ~(size_t)7;
    for (size_t i = 0; i < count * cwi_ctx_row(s); i += CWI_LANES)
        for (size_t l = i; l < i + used; l += 8) {
            uint64_t context, symbol;
            memcpy(&context, contexts + l, sizeof context);
            memcpy(&symbol, rows + l, sizeof symbol);
            context = (context << SHIFT & upper) | symbol;
            memcpy(contexts + l, &context, sizeof context);
        }
    cwi_ctx_scatter(r->d->kernels, s, contexts, section, group, y, count, r->d->classes);
}

static bool decode_group(const run *r, uint8_t *rows, size_t section, size_t group, cwi_ctx_lanes *lanes)
{
    const cwi_ctx_shape *s = &r->d->shape;
    const cwi_ctx_kernels *k = &r->d->kernels->ctx;
    int16_t *acc = (int16_t *)(void *)(rows + r->places.acc);
    uint8_t *contexts = rows + r->places.contexts;
    cwi_ctx_mix mix;
    cwi_ctx_mix_of(&r->tables, s, group, &mix);
    lanes->used = (unsigned)cwi_ctx_used(s, section, group);
    for (size_t y = 0; y < s->height; y += cwi_ctx_strip(s)) {
        const size_t count = CWI_MIN(cwi_ctx_strip(s), s->height - y);
        uint8_t *first = strip_at(s, rows, group, y), *row = first, *support = rows + r->places.support;
        if (r->d->support)
            cwi_ctx_gather(r->d->kernels, s, r->d->support, section, group, y, count, support);
        for (size_t i = 0; i < count; i++, row += cwi_ctx_row(s)) {
            lanes->support = r->d->support ? support + i * cwi_ctx_row(s) : NULL;
            const cwi_ctx_near near = cwi_ctx_near_of(&r->tables, s, rows, row, group, y + i);
            k->mix(&mix, &near, 1, s->width, acc);
            cwi_ctx_add_edges(&mix, r->tables.zero, near.top, 1, s->width, acc);
            if (!k->decode(lanes, &mix, acc, row, s->width, r->d->classes ? contexts + i * cwi_ctx_row(s) : NULL))
                return false;
        }
        if (r->d->classes)
            put_classes(r, contexts, first, section, group, y, count);
        else
            cwi_ctx_scatter(r->d->kernels, s, first, section, group, y, count, r->d->symbols);
    }
    return true;
}

/* Of a stream so short that most of its symbols are those of a zero, if it is. */
static unsigned likely_symbol(const run *r, size_t block)
{
    const double bits = 8.0 * (double)r->size[block] / (double)r->d->shape.elements;
    return bits < LIKELY && r->tables.zero < r->tables.model.symbols ? r->tables.zero : CWI_SYMBOLS;
}

static bool decode_block(const run *r, uint8_t *rows, size_t block)
{
    const cwi_ctx_shape *s = &r->d->shape;
    const size_t begin = block * s->block_sections, end = CWI_MIN(begin + s->block_sections, s->sections);
    const size_t used = cwi_ctx_used(s, begin, 0);
    cwi_ctx_lanes lanes = {.model = &r->tables.model, .get = r->stream[block], .likely = likely_symbol(r, block)};
    lanes.end = lanes.get + r->size[block];
    if (r->size[block] < 4 * used)
        return false;
    for (size_t l = 0; l < used; l++, lanes.get += 4)
        lanes.state[l] = (uint32_t)cwi_get_le(lanes.get, 4);
    if (is_thin(s) && !cwi_ctx_thin_decode(r->d, &r->tables, rows, &lanes))
        return false;
    for (size_t section = begin; !is_thin(s) && section < end; section++)
        for (size_t g = 0; g < s->groups; g++)
            if (!decode_group(r, rows, section, g, &lanes))
                return false;
    for (size_t l = 0; l < used; l++)
        if (lanes.state[l] != CWI_CTX_LOW)
            return false;
    return lanes.get == lanes.end;
}

static void block_task(void *ctx, unsigned worker, size_t block)
{
    run *r = ctx;
    uint8_t *rows = r->d->work + r->places.workers + worker * r->places.worker;
    if (!atomic_load(&r->failed) && !decode_block(r, rows, block))
        atomic_store(&r->failed, true);
}

static void take_symbols(const uint8_t *classes, size_t n, uint8_t *symbols)
{
    const uint64_t lower = UINT64_C(0x0f0f0f0f0f0f0f0f);
    uint64_t eight;
    size_t i = 0;
    for (; i + sizeof eight <= n; i += sizeof eight) {
        memcpy(&eight, classes + i, sizeof eight);
        eight &= lower;
        memcpy(symbols + i, &eight, sizeof eight);
    }
    for (; i < n; i++)
        symbols[i] = classes[i] % CWI_SYMBOLS;
}

/* The streams that follow at *at, which moves to their end: all sizes come first, or each one right before its stream.
 */
static bool find_streams(run *r, const uint8_t **at, const uint8_t *end)
{
    const size_t blocks = r->d->shape.blocks;
    const bool bare = r->d->bare;
    const uint8_t *sizes = *at;
    if (!bare && (size_t)(end - *at) / 4 < blocks)
        return false;
    *at += bare ? 0 : 4 * blocks;
    for (size_t b = 0; b < blocks; b++) {
        uint64_t size = 0;
        if (bare)
            *at = cwi_number_get(*at, end, &size);
        else
            size = cwi_get_le(sizes + 4 * b, 4);
        if (!*at || (uint64_t)(end - *at) < size)
            return false;
        r->size[b] = (size_t)size;
        r->stream[b] = *at;
        *at += size;
    }
    return true;
}

/* Whether the part ends there: at `end`, or where it is bare anywhere. */
static bool ends_at(cwi_ctx_decoder *d, const uint8_t *at, const uint8_t *end)
{
    d->size = (size_t)(at - d->in);
    return d->bare || at == end;
}

bool cwi_ctx_decode(cwi_ctx_decoder *d)
{
    const cwi_ctx_shape *s = &d->shape;
    if (s->elements == 0)
        return d->size == 0;
    const size_t workers = CWI_MAX(CWI_MIN((size_t)d->threads, s->blocks), (size_t)1);
    run r = {.d = d, .places = places_in(s, d->threads)};
    if (d->given) {
        r.tables = *d->given;
    } else {
        r.tables.sets = (cwi_ctx_set *)(void *)d->work;
        r.tables.of = d->work + r.places.of;
        r.tables.zero = d->zero;
    }
    r.stream = (const uint8_t **)(void *)(d->work + r.places.streams);
    r.size = (size_t *)(void *)(r.stream + s->blocks);
    const uint8_t *end = d->in + d->size;
    const uint8_t *at = d->in;
    if (!d->given)
        at = cwi_ctx_tables_get(at + (d->bare ? 0 : CWI_CTX_PREFIX), end, s, d->bare, &r.tables);
    if (!at)
        return false;
    d->count = r.tables.model.symbols;
    if (d->count == 1) {
        memset(d->symbols, 0, s->elements);
        if (d->classes)
            memset(d->classes, 0, s->elements);
        return ends_at(d, at, end);
    }
    if (!find_streams(&r, &at, end) || !ends_at(d, at, end))
        return false;
    cwi_parallel((unsigned)workers, s->blocks, block_task, &r);
    if (d->classes)
        take_symbols(d->classes, s->elements, d->symbols);
    return !atomic_load(&r.failed);
}
