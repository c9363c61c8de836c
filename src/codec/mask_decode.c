/* mask_decode.c - codes and kept values back to floats, trusting neither. */
#include <stdatomic.h>
#include <string.h>

#include "codec/mask.h"

static bool all_finite(const cwi_kernels *k, const float *x, size_t n)
{
    cwi_range r = CWI_RANGE_EMPTY;
    k->range(x, n, &r);
    return r.max_key < CWI_KEY_INF;
}

bool cwi_values_get(const cwi_kernels *k, cwi_values values, const uint8_t *in, size_t n, float *out)
{
    switch (values) {
    case CWI_VALUES_BF16:
        return k->from_bf16(in, n, out);
    case CWI_VALUES_FP16:
        return k->from_f16(in, n, out);
    default:
        memcpy(out, in, n * sizeof *out);
        return all_finite(k, out, n);
    }
}

typedef struct run {
    const cwi_mask_decoder *d;
    atomic_int trouble;
} run;

static void report(run *r, cwi_trouble trouble)
{
    int had = atomic_load(&r->trouble);
    while (had < (int)trouble && !atomic_compare_exchange_weak(&r->trouble, &had, trouble))
        continue;
}

/* A run of elements, and where its codes and values are. */
typedef struct piece {
    size_t first, n;
    const uint8_t *planes, *values;
    size_t kept; /* exactly so many values */
} piece;

/* Of values that are decoded where they lie. */
static bool finite_in_place(const cwi_kernels *k, const uint8_t *values, size_t n)
{
    float aligned[CWI_CHUNK];
    bool finite = true;
    for (size_t done = 0; done < n; done += CWI_CHUNK)
        finite &= cwi_values_get(k, CWI_VALUES_FP32, values + 4 * done, CWI_MIN(n - done, (size_t)CWI_CHUNK), aligned);
    return finite;
}

static cwi_trouble decode_direct(const cwi_mask_decoder *d, const piece *p, cwi_ms_decode *state)
{
    float chunk[CWI_CHUNK];
    const cwi_sink *sink = &d->job->sink;
    const size_t step = cwi_sink_step(sink);
    if (!finite_in_place(d->job->kernels, p->values, p->kept))
        return CWI_NOT_FINITE;
    state->values = p->values;
    state->values_end = p->values + p->kept * sizeof(float);
    for (size_t done = 0; done < p->n; done += step) {
        size_t m = CWI_MIN(step, p->n - done);
        float *out = cwi_sink_at(sink, p->first + done, chunk);
        if (!d->job->kernels->ms_decode(state, m, out))
            return CWI_WRONG_COUNT;
        cwi_sink_put(sink, p->first + done, m, out);
    }
    return state->values == state->values_end ? CWI_FINE : CWI_WRONG_COUNT;
}

/* By way of a buffer of floats, for values that were sent as something else. */
static cwi_trouble decode_converted(const cwi_mask_decoder *d, const piece *p, cwi_ms_decode *state)
{
    float chunk[CWI_CHUNK], kept[CWI_CHUNK];
    const cwi_kernels *k = d->job->kernels;
    const cwi_sink *sink = &d->job->sink;
    const uint8_t *in = p->values;
    size_t left = p->kept;
    for (size_t done = 0; done < p->n; done += CWI_CHUNK) {
        size_t m = CWI_MIN((size_t)CWI_CHUNK, p->n - done);
        size_t count = (size_t)k->ones(state->planes, m, state->bits, cwi_mask_planes(d->mask));
        if (count > left)
            return CWI_WRONG_COUNT;
        if (!cwi_values_get(k, d->mask->values, in, count, kept))
            return CWI_NOT_FINITE;
        state->values = (const uint8_t *)kept;
        state->values_end = (const uint8_t *)(kept + count);
        float *out = cwi_sink_at(sink, p->first + done, chunk);
        k->ms_decode(state, m, out);
        cwi_sink_put(sink, p->first + done, m, out);
        in += count * cwi_values_size(d->mask->values);
        left -= count;
    }
    return left ? CWI_WRONG_COUNT : CWI_FINE;
}

static cwi_trouble decode_piece(const cwi_mask_decoder *d, const piece *p, size_t segment)
{
    cwi_ms_decode state = {.bits = d->mask->bits, .is_signed = d->mask->is_signed, .planes = p->planes};
    d->levels(d->ctx, segment, state.level);
    return d->mask->values == CWI_VALUES_FP32 ? decode_direct(d, p, &state) : decode_converted(d, p, &state);
}

static void decode_segment(void *ctx, unsigned worker, size_t segment)
{
    (void)worker;
    run *r = ctx;
    const cwi_mask *m = r->d->mask;
    if (m->index_size) {
        report(r, cwi_indices_decode(r->d, segment));
        return;
    }
    piece p = {.first = segment * m->layout.length,
               .n = m->layout.length,
               .kept = m->kept,
               .planes = r->d->marks + segment * cwi_mask_marks_size(m),
               .values = r->d->values + segment * cwi_mask_values_size(m)};
    report(r, decode_piece(r->d, &p, segment));
}

/* ---- several threads on one segment ---- */

static uint64_t *kept_before(const run *r)
{
    return (uint64_t *)(void *)r->d->job->work;
}

static piece block_of(const run *r, size_t block)
{
    const cwi_mask *m = r->d->mask;
    const size_t first = block * CWI_BLOCK;
    return (piece){.first = first,
                   .n = CWI_MIN((size_t)CWI_BLOCK, m->layout.length - first),
                   .planes = r->d->marks + cwi_planes_size(first, cwi_mask_planes(m))};
}

static void count_block(void *ctx, unsigned worker, size_t block)
{
    (void)worker;
    const run *r = ctx;
    piece p = block_of(r, block);
    kept_before(r)[block] = r->d->job->kernels->ones(p.planes, p.n, r->d->mask->bits, cwi_mask_planes(r->d->mask));
}

static void decode_block(void *ctx, unsigned worker, size_t block)
{
    (void)worker;
    run *r = ctx;
    const uint64_t *before = kept_before(r);
    piece p = block_of(r, block);
    p.values = r->d->values + before[block] * cwi_values_size(r->d->mask->values);
    p.kept = (size_t)(before[block + 1] - before[block]);
    report(r, decode_piece(r->d, &p, 0));
}

static void decode_blocks(run *r)
{
    const cwi_mask *m = r->d->mask;
    const size_t blocks = (m->layout.length + CWI_BLOCK - 1) / CWI_BLOCK;
    uint64_t *before = kept_before(r), total = 0;
    cwi_parallel(r->d->job->threads, blocks, count_block, r);
    for (size_t b = 0; b < blocks; b++) {
        uint64_t here = before[b];
        before[b] = total;
        total += here;
    }
    before[blocks] = total;
    if (total == m->kept)
        cwi_parallel(r->d->job->threads, blocks, decode_block, r);
    else
        report(r, CWI_WRONG_COUNT);
}

/* 0 for what was decoded by itself, into scratch. */
static uint64_t offset_in(const cwi_payload *p, const uint8_t *part)
{
    const bool there = part >= p->body && part <= p->body + p->body_size;
    return there ? (uint64_t)(part - p->body) : 0;
}

cw_status cwi_mask_decode(const cwi_mask_decoder *d)
{
    run r = {.d = d, .trouble = CWI_FINE};
    if (d->mask->layout.segments == 1 && d->job->threads > 1 && !d->mask->index_size)
        decode_blocks(&r);
    else
        cwi_parallel(d->job->threads, d->mask->layout.segments, decode_segment, &r);
    const cwi_payload *p = d->job->payload;
    const uint64_t marks = p->header_size + offset_in(p, d->marks), values = p->header_size + offset_in(p, d->values);
    switch (atomic_load(&r.trouble)) {
    case CWI_BAD_INDEX:
        return cwi_fail_at(d->job->err, CW_ERR_CORRUPT, marks,
                           "the indices of the kept values do not ascend within the %zu elements of their part",
                           d->mask->layout.length);
    case CWI_WRONG_COUNT:
        return cwi_fail_at(d->job->err, CW_ERR_CORRUPT, marks,
                           "the codes do not mark exactly %zu kept values in each part of the tensor", d->mask->kept);
    case CWI_NOT_FINITE:
        return cwi_fail_at(d->job->err, CW_ERR_CORRUPT, values,
                           "a kept value is infinite or NaN, which no encoder writes");
    default:
        return CW_OK;
    }
}
