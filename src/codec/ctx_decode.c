/* ctx_decode.c - streams back to symbols, trusting nothing. */
#include <stdatomic.h>
#include <string.h>

#include "codec/ctx.h"

static size_t rounded(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* Bytes of a worker's strip, with the row above it. */
static size_t strip_size(const cwi_ctx_shape *s)
{
    return (cwi_ctx_strip(s) + 1) * cwi_ctx_row(s);
}

size_t cwi_ctx_decode_work_size(const cwi_ctx_shape *s, unsigned threads)
{
    const size_t workers = CWI_MAX(CWI_MIN((size_t)threads, s->blocks), (size_t)1);
    return rounded(s->channels) + rounded(s->blocks * 2 * sizeof(size_t)) + workers * strip_size(s);
}

bool cwi_ctx_check(const cwi_ctx_shape *s, const uint8_t *in, size_t size)
{
    if (s->elements == 0)
        return true;
    if (size < CWI_CTX_PREFIX + 1)
        return false;
    const uint64_t claimed = cwi_ctx_size(in);
    const bool empty = in[CWI_CTX_PREFIX] >> 4 == 0;
    const uint64_t least = CWI_CTX_PREFIX + 1 + (empty ? 0 : (uint64_t)s->blocks * 4);
    return cwi_get_le(in, 6) == s->elements && claimed <= size && claimed >= least;
}

typedef struct run {
    cwi_ctx_decoder *d;
    cwi_ctx_tables tables;
    uint8_t *rows; /* a strip for each worker */
    const uint8_t **stream;
    size_t *size;
    atomic_bool failed;
} run;

static bool decode_group(const run *r, uint8_t *above, size_t group, cwi_ctx_lanes *lanes)
{
    const cwi_ctx_shape *s = &r->d->shape;
    const cwi_kernels *k = r->d->kernels;
    const size_t row = cwi_ctx_row(s);
    uint8_t *rows = above + row;
    cwi_ctx_bases(s, r->tables.classes, group, lanes->base);
    lanes->used = cwi_ctx_used(s, group);
    memset(above, 0, row);
    for (size_t y = 0; y < s->height;) {
        const size_t count = CWI_MIN(cwi_ctx_strip(s), s->height - y);
        if (!k->ctx.decode(lanes, rows, s->width, count))
            return false;
        cwi_ctx_scatter(k, s, rows, group, y, count, r->d->symbols);
        y += count;
        if (y < s->height)
            memcpy(above, rows + (count - 1) * row, row);
    }
    return true;
}

static bool decode_block(const run *r, uint8_t *rows, size_t block)
{
    const cwi_ctx_shape *s = &r->d->shape;
    const size_t begin = block * s->block_groups, end = CWI_MIN(begin + s->block_groups, cwi_ctx_groups(s));
    const unsigned used = cwi_ctx_used(s, begin);
    cwi_ctx_lanes lanes = {.model = &r->tables.model, .get = r->stream[block]};
    lanes.end = lanes.get + r->size[block];
    if (r->size[block] < 4 * used)
        return false;
    for (unsigned l = 0; l < used; l++, lanes.get += 4)
        lanes.state[l] = (uint32_t)cwi_get_le(lanes.get, 4);
    for (size_t g = begin; g < end; g++)
        if (!decode_group(r, rows, g, &lanes))
            return false;
    for (unsigned l = 0; l < used; l++)
        if (lanes.state[l] != CWI_CTX_LOW)
            return false;
    return lanes.get == lanes.end;
}

static void block_task(void *ctx, unsigned worker, size_t block)
{
    run *r = ctx;
    uint8_t *rows = r->rows + worker * strip_size(&r->d->shape);
    if (!atomic_load(&r->failed) && !decode_block(r, rows, block))
        atomic_store(&r->failed, true);
}

/* The streams of the blocks, whose sizes are at `at`; they take all there is. */
static bool find_streams(run *r, const uint8_t *at, const uint8_t *end)
{
    const size_t blocks = r->d->shape.blocks;
    if ((size_t)(end - at) / 4 < blocks)
        return false;
    const uint8_t *stream = at + 4 * blocks;
    for (size_t b = 0; b < blocks; b++) {
        r->size[b] = (size_t)cwi_get_le(at + 4 * b, 4);
        if ((size_t)(end - stream) < r->size[b])
            return false;
        r->stream[b] = stream;
        stream += r->size[b];
    }
    return stream == end;
}

bool cwi_ctx_decode(cwi_ctx_decoder *d)
{
    const cwi_ctx_shape *s = &d->shape;
    if (s->elements == 0)
        return d->size == 0;
    const size_t workers = CWI_MAX(CWI_MIN((size_t)d->threads, s->blocks), (size_t)1);
    run r = {.d = d, .rows = d->work + rounded(s->channels) + rounded(s->blocks * 2 * sizeof(size_t))};
    r.stream = (const uint8_t **)(void *)(d->work + rounded(s->channels));
    r.size = (size_t *)(void *)(r.stream + s->blocks);
    const uint8_t *end = d->in + d->size;
    const uint8_t *at = cwi_ctx_tables_get(d->in + CWI_CTX_PREFIX, end, s, d->work, &r.tables);
    if (!at)
        return false;
    d->count = r.tables.model.symbols;
    if (d->count == 1) {
        memset(d->symbols, 0, s->elements);
        return at == end;
    }
    if (!find_streams(&r, at, end))
        return false;
    cwi_parallel((unsigned)workers, s->blocks, block_task, &r);
    return !atomic_load(&r.failed);
}
