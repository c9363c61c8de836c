/* ctx_encode.c - counts symbols in their contexts, then codes them block by block. */
#include <string.h>

#include "codec/ctx.h"

static size_t rounded(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* Elements of a full block. */
static size_t block_elements(const cwi_ctx_shape *s)
{
    return CWI_MIN(s->block_groups * CWI_LANES, s->planes) * s->height * s->width;
}

/* ---- scratch: classes and sums of the channels, then for each worker counts, a strip, its contexts and a stream ----
 */

/* Several of them, so that an addition need not wait for the one before. */
enum { COUNTS = 4 };

static size_t stream_bound(const cwi_ctx_shape *s)
{
    return CWI_MAX(2 * block_elements(s) + 4 * CWI_LANES + CWI_CTX_SLACK, cwi_ctx_tables_bound(s));
}

static size_t worker_size(const cwi_ctx_shape *s)
{
    return COUNTS * sizeof(cwi_ctx_counts) + (2 * cwi_ctx_strip(s) + 1) * cwi_ctx_row(s) + rounded(stream_bound(s));
}

size_t cwi_ctx_work_size(const cwi_ctx_shape *s, unsigned threads)
{
    const size_t workers = CWI_MAX(CWI_MIN((size_t)threads, s->blocks), (size_t)1);
    return rounded(s->channels) + 2 * rounded(s->channels * sizeof(uint64_t)) + workers * worker_size(s);
}

static uint8_t *classes_of(const cwi_ctx_encoder *e)
{
    return e->work;
}

static uint64_t *sums_of(const cwi_ctx_encoder *e)
{
    return (uint64_t *)(void *)(e->work + rounded(e->shape.channels));
}

typedef struct scratch {
    cwi_ctx_counts *counts;
    uint8_t *rows /* the row above is in front */, *contexts, *stream;
} scratch;

static scratch scratch_of(const cwi_ctx_encoder *e, size_t worker)
{
    const cwi_ctx_shape *s = &e->shape;
    const size_t row = cwi_ctx_row(s), strip = cwi_ctx_strip(s) * row;
    uint8_t *at = e->work + rounded(s->channels) + 2 * rounded(s->channels * sizeof(uint64_t));
    at += worker * worker_size(s);
    scratch w = {.counts = (cwi_ctx_counts *)(void *)at};
    w.rows = at + COUNTS * sizeof(cwi_ctx_counts) + row;
    w.contexts = w.rows + strip;
    w.stream = w.contexts + strip;
    return w;
}

static size_t group_end(const cwi_ctx_shape *s, size_t block)
{
    return CWI_MIN((block + 1) * s->block_groups, cwi_ctx_groups(s));
}

/* ---- classes: channels of equal number, by how much there is in them ---- */

enum { COLUMNS = 512, ROWS = 85 };

/* Of the same `width` columns of up to 85 rows: the sums fit a byte. */
static void add_columns(const uint8_t *in, size_t stride, size_t rows, size_t width, uint8_t sum[COLUMNS])
{
    memset(sum, 0, COLUMNS);
    for (; rows; rows--, in += stride) {
        if (width == COLUMNS) /* a number that the compiler knows, for vectors */
            for (size_t i = 0; i < COLUMNS; i++)
                sum[i] += CWI_MIN(in[i], 3);
        else
            for (size_t i = 0; i < width; i++)
                sum[i] += CWI_MIN(in[i], 3);
    }
}

/* The tensor is rows of all channels' planes. */
static void sum_channels(const cwi_ctx_encoder *e, uint64_t *sums)
{
    const cwi_ctx_shape *s = &e->shape;
    const size_t plane = s->height * s->width, stride = s->channels * plane, rows = s->planes / s->channels;
    uint8_t sum[COLUMNS];
    memset(sums, 0, s->channels * sizeof *sums);
    for (size_t row = 0; row < rows; row += ROWS)
        for (size_t at = 0; at < stride; at += COLUMNS) {
            const size_t width = CWI_MIN(stride - at, (size_t)COLUMNS);
            add_columns(e->symbols + row * stride + at, stride, CWI_MIN(rows - row, (size_t)ROWS), width, sum);
            for (size_t i = 0, c = at / plane, left = plane - at % plane; i < width; c++, left = plane) {
                const size_t end = CWI_MIN(i + left, width);
                uint32_t total = 0;
                for (; i < end; i++)
                    total += sum[i];
                sums[c] += total;
            }
        }
}

/* The k-th smallest of n, which are put in another order (Hoare's selection, middle pivots). */
static uint64_t smallest(uint64_t *v, size_t n, size_t k)
{
    size_t low = 0, high = n - 1;
    while (low < high) {
        const uint64_t pivot = v[low + (high - low) / 2];
        size_t i = low, j = high;
        for (;; i++, j--) {
            while (v[i] < pivot)
                i++;
            while (v[j] > pivot)
                j--;
            if (i >= j)
                break;
            uint64_t t = v[i];
            v[i] = v[j];
            v[j] = t;
        }
        if (k <= j && j < high)
            high = j;
        else if (k > j)
            low = j + 1;
        else
            break;
    }
    return v[k];
}

static void classify(const cwi_ctx_encoder *e)
{
    const size_t n = e->shape.channels;
    uint64_t *sums = sums_of(e), *sorted = sums + rounded(n * sizeof *sums) / sizeof *sums, edge[CWI_CLASSES - 1];
    memset(classes_of(e), 0, n);
    if (n < CWI_CLASSES)
        return;
    sum_channels(e, sums);
    memcpy(sorted, sums, n * sizeof *sums);
    for (size_t i = 0; i < CWI_CLASSES - 1; i++)
        edge[i] = smallest(sorted, n, (i + 1) * n / CWI_CLASSES);
    for (size_t c = 0; c < n; c++)
        for (size_t i = 0; i < CWI_CLASSES - 1; i++)
            classes_of(e)[c] += sums[c] >= edge[i];
}

/* ---- counting ---- */

static void count(const uint8_t *contexts, const uint8_t *symbols, size_t positions, unsigned used,
                  cwi_ctx_counts counts[COUNTS])
{
    for (size_t i = 0; i < positions; i++, contexts += CWI_LANES, symbols += CWI_LANES) {
        unsigned l = 0;
        for (; l + COUNTS <= used; l += COUNTS)
            for (unsigned j = 0; j < COUNTS; j++)
                counts[j][contexts[l + j]][symbols[l + j]]++;
        for (; l < used; l++)
            counts[0][contexts[l]][symbols[l]]++;
    }
}

static void count_block(void *ctx, unsigned worker, size_t block)
{
    const cwi_ctx_encoder *e = ctx;
    const cwi_ctx_shape *s = &e->shape;
    const scratch w = scratch_of(e, worker);
    uint8_t base[CWI_LANES];
    for (size_t g = block * s->block_groups; g < group_end(s, block); g++) {
        cwi_ctx_bases(s, classes_of(e), g, base);
        for (size_t y = 0; y < s->height; y += cwi_ctx_strip(s)) {
            const size_t rows = CWI_MIN(cwi_ctx_strip(s), s->height - y);
            cwi_ctx_gather(e->kernels, s, e->symbols, g, y, rows, w.rows);
            cwi_ctx_contexts(base, w.rows, s->width, rows, w.contexts);
            count(w.contexts, w.rows, rows * s->width, cwi_ctx_used(s, g), w.counts);
        }
    }
}

/* Adds up the counts of all workers. */
static uint32_t (*total_counts(const cwi_ctx_encoder *e, size_t workers))[CWI_SYMBOLS]
{
    uint32_t *total = scratch_of(e, 0).counts[0][0];
    for (size_t w = 0; w < workers; w++)
        for (unsigned j = 0; j < COUNTS; j++) {
            const uint32_t *more = scratch_of(e, w).counts[j][0];
            for (unsigned i = 0; more != total && i < CWI_CONTEXTS * CWI_SYMBOLS; i++)
                total[i] += more[i];
        }
    return scratch_of(e, 0).counts[0];
}

size_t cwi_ctx_plan(cwi_ctx_encoder *e)
{
    const cwi_ctx_shape *s = &e->shape;
    if (s->elements == 0)
        return 0;
    const size_t workers = CWI_MIN((size_t)e->threads, s->blocks);
    classify(e);
    for (size_t w = 0; w < workers; w++)
        memset(scratch_of(e, w).counts, 0, COUNTS * sizeof(cwi_ctx_counts));
    cwi_parallel((unsigned)workers, s->blocks, count_block, e);
    e->tables.classes = classes_of(e);
    const double bits = cwi_ctx_choose(s, total_counts(e, workers), &e->tables);
    if (!(e->tables.mode & CWI_CTX_BY_CLASS))
        memset(classes_of(e), 0, s->channels);
    const size_t streams = e->tables.model.symbols == 1 ? 0 : s->blocks * (4 + 4 * cwi_ctx_used(s, 0));
    return CWI_CTX_PREFIX + 1 + streams + (size_t)(bits / 8);
}

/* ---- coding ---- */

typedef struct wave {
    const cwi_ctx_encoder *e;
    size_t first; /* block */
    size_t size[CWI_MAX_THREADS];
    uint8_t *stream[CWI_MAX_THREADS]; /* in the scratch of a worker */
} wave;

static void encode_group(const cwi_ctx_encoder *e, const scratch *w, size_t group, cwi_ctx_lanes *lanes)
{
    const cwi_ctx_shape *s = &e->shape;
    const size_t strip = cwi_ctx_strip(s);
    cwi_ctx_bases(s, classes_of(e), group, lanes->base);
    lanes->used = cwi_ctx_used(s, group);
    for (size_t y = (s->height - 1) / strip * strip + strip; y > 0;) {
        y -= strip;
        const size_t rows = CWI_MIN(strip, s->height - y);
        cwi_ctx_gather(e->kernels, s, e->symbols, group, y, rows, w->rows);
        cwi_ctx_contexts(lanes->base, w->rows, s->width, rows, w->contexts);
        e->kernels->ctx.encode(lanes, w->contexts, w->rows, rows * s->width);
    }
}

static void encode_block(void *ctx, unsigned worker, size_t index)
{
    (void)worker; /* each index of a wave has its own scratch */
    wave *v = ctx;
    const cwi_ctx_shape *s = &v->e->shape;
    const scratch w = scratch_of(v->e, index);
    const size_t block = v->first + index, begin = block * s->block_groups;
    uint8_t *end = w.stream + stream_bound(s);
    cwi_ctx_lanes lanes = {.model = &v->e->tables.model, .put = end};
    for (unsigned l = 0; l < CWI_LANES; l++)
        lanes.state[l] = CWI_CTX_LOW;
    for (size_t g = group_end(s, block); g-- > begin;)
        encode_group(v->e, &w, g, &lanes);
    for (unsigned l = cwi_ctx_used(s, begin); l-- > 0;) {
        lanes.put -= 4;
        cwi_put_le(lanes.put, lanes.state[l], 4);
    }
    v->stream[index] = lanes.put;
    v->size[index] = (size_t)(end - lanes.put);
}

/* Returns where the streams end, or NULL. */
static uint8_t *encode_blocks(cwi_ctx_encoder *e, uint8_t *sizes, uint8_t *at, const uint8_t *limit)
{
    const size_t blocks = e->shape.blocks, workers = CWI_MIN((size_t)e->threads, blocks);
    wave v = {.e = e};
    for (; v.first < blocks; v.first += workers) {
        const size_t count = CWI_MIN(workers, blocks - v.first);
        cwi_parallel((unsigned)workers, count, encode_block, &v);
        for (size_t i = 0; i < count; i++) {
            if ((size_t)(limit - at) < v.size[i] || v.size[i] > UINT32_MAX)
                return NULL;
            cwi_put_le(sizes + 4 * (v.first + i), v.size[i], 4);
            memcpy(at, v.stream[i], v.size[i]);
            at += v.size[i];
        }
    }
    return at;
}

bool cwi_ctx_encode(cwi_ctx_encoder *e, uint8_t *out, size_t capacity, size_t *size)
{
    const cwi_ctx_shape *s = &e->shape;
    uint8_t *tables = scratch_of(e, 0).stream; /* not used yet */
    const size_t length = (size_t)(cwi_ctx_tables_put(&e->tables, s, tables) - tables);
    const size_t sizes = e->tables.model.symbols > 1 ? 4 * s->blocks : 0;
    if (capacity < CWI_CTX_PREFIX + length + sizes)
        return false;
    uint8_t *end = out + CWI_CTX_PREFIX + length;
    memcpy(out + CWI_CTX_PREFIX, tables, length);
    if (sizes)
        end = encode_blocks(e, end, end + sizes, out + capacity);
    if (!end)
        return false;
    *size = (size_t)(end - out);
    cwi_put_le(out, s->elements, 6);
    cwi_put_le(out + 6, *size, 6);
    return true;
}
