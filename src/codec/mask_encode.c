/* mask_encode.c - selection and coding of masks, segment by segment or block by block. */
#include <string.h>

#include "codec/mask.h"

bool cwi_mask_size(const cwi_mask *m, size_t *size)
{
    size_t marks, values;
    return cwi_mul_size(m->layout.segments, cwi_mask_marks_size(m), &marks) &&
           cwi_mul_size(m->layout.segments, cwi_mask_values_size(m), &values) && cwi_add_size(marks, values, size);
}

void cwi_values_put(const cwi_kernels *k, cwi_values values, const float *x, size_t n, uint8_t *out)
{
    switch (values) {
    case CWI_VALUES_FP32:
        memcpy(out, x, n * sizeof *x);
        break;
    case CWI_VALUES_BF16:
        k->to_bf16(x, n, out);
        break;
    case CWI_VALUES_FP16:
        k->to_f16(x, n, out);
        break;
    }
}

/* ---- scratch ---- */

static size_t rounded(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static size_t block_count(size_t n)
{
    return (n + CWI_BLOCK - 1) / CWI_BLOCK;
}

/* Threads share one segment, or each takes whole segments. */
static bool by_block(const cwi_layout *layout, unsigned threads)
{
    return layout->segments == 1 && threads > 1;
}

static size_t keys_of_worker(const cwi_layout *layout, unsigned threads)
{
    return cwi_select_keys(layout->length, by_block(layout, threads) ? threads : 1);
}

size_t cwi_mask_work_size(const cwi_layout *layout, unsigned threads)
{
    const size_t workers = by_block(layout, threads) ? 1 : CWI_MIN((size_t)threads, layout->segments);
    size_t size = rounded(layout->segments * sizeof(cwi_pick));
    size += workers * rounded(keys_of_worker(layout, threads) * sizeof(uint32_t));
    if (by_block(layout, threads))
        size += rounded(block_count(layout->length) * 2 * sizeof(uint64_t));
    return size;
}

void cwi_mask_work_init(cwi_mask_work *w, const cwi_layout *layout, unsigned threads, uint8_t *memory)
{
    const size_t keys = rounded(keys_of_worker(layout, threads) * sizeof(uint32_t));
    w->picks = (cwi_pick *)(void *)memory;
    memory += rounded(layout->segments * sizeof(cwi_pick));
    w->keys = (uint32_t *)(void *)memory;
    w->keys_each = keys / sizeof(uint32_t);
    w->block = (uint64_t *)(void *)(memory + keys); /* behind the keys of the only worker */
}

/* ---- picking ---- */

typedef struct picking {
    const cwi_encode_job *job;
    const cwi_layout *layout;
    size_t kept;
    cwi_mask_work *work;
} picking;

static void pick_segment(void *ctx, unsigned worker, size_t segment)
{
    const picking *p = ctx;
    const unsigned threads = by_block(p->layout, p->job->threads) ? p->job->threads : 1;
    cwi_select(&p->job->source, segment * p->layout->length, p->layout->length, p->kept,
               p->work->keys + worker * p->work->keys_each, threads, &p->work->picks[segment]);
}

cw_status cwi_mask_pick(const cwi_encode_job *job, const cwi_layout *layout, size_t kept, cwi_mask_work *w,
                        bool *any_negative)
{
    picking p = {job, layout, kept, w};
    uint32_t max_key = 0, max_bits = 0;
    cwi_parallel(by_block(layout, job->threads) ? 1 : job->threads, layout->segments, pick_segment, &p);
    for (size_t s = 0; s < layout->segments; s++) {
        max_key = CWI_MAX(max_key, w->picks[s].max_key);
        max_bits = CWI_MAX(max_bits, w->picks[s].max_bits);
    }
    *any_negative = max_bits > UINT32_C(0x80000000);
    return max_key < CWI_KEY_INF ? CW_OK : cwi_source_nonfinite(&job->source, layout->elements, job->err);
}

/* ---- quantizers ---- */

unsigned cwi_mask_steps(const cwi_mask *m)
{
    return (1u << m->bits) - (m->kept ? 1 : 2);
}

float cwi_mask_limit(const cwi_mask *m, const cwi_pick *pick)
{
    const uint32_t key = m->kept ? pick->threshold : pick->max_key;
    float limit;
    memcpy(&limit, &key, sizeof limit);
    return limit;
}

void cwi_mask_quant(const cwi_mask *m, cwi_rounding rounding, const cwi_pick *pick, cwi_quant *q)
{
    cwi_quant_magnitudes(q, m->bits, rounding, cwi_mask_limit(m, pick), cwi_mask_steps(m), (1u << m->bits) - 2);
}

/* ---- encoding ---- */

/* A run of elements, and where its codes and values go. */
typedef struct piece {
    size_t first, n;
    const cwi_pick *pick;
    uint64_t ties;
    uint8_t *marks, *values;
    size_t kept;
} piece;

static void encode_direct(const cwi_mask_encoder *e, const piece *p, cwi_ms_encode *state)
{
    float chunk[CWI_CHUNK];
    const cwi_source *s = &e->job->source;
    const size_t step = cwi_source_step(s);
    state->planes = p->marks;
    state->values = p->values;
    state->values_end = p->values + p->kept * sizeof(float);
    for (size_t done = 0; done < p->n; done += step) {
        size_t m = CWI_MIN(step, p->n - done);
        e->job->kernels->ms_encode(cwi_source_get(s, p->first + done, m, chunk), m, state);
    }
}

/* By way of buffers, for marks or values that are sent in another form. */
static void encode_converted(const cwi_mask_encoder *e, const piece *p, cwi_ms_encode *state)
{
    float chunk[CWI_CHUNK], kept[CWI_CHUNK];
    uint8_t plane[CWI_CHUNK / 8];
    const cwi_source *s = &e->job->source;
    const size_t start = p->first % e->mask->layout.length; /* in the segment */
    uint8_t *marks = p->marks, *values = p->values;
    for (size_t done = 0; done < p->n; done += CWI_CHUNK) {
        size_t m = CWI_MIN((size_t)CWI_CHUNK, p->n - done);
        state->planes = e->mask->index_size ? plane : marks;
        state->values = (uint8_t *)kept;
        state->values_end = (uint8_t *)(kept + m);
        e->job->kernels->ms_encode(cwi_source_get(s, p->first + done, m, chunk), m, state);
        marks = e->mask->index_size ? cwi_marks_put(e->mask, plane, start + done, m, marks) : state->planes;
        size_t count = (size_t)(state->values - (uint8_t *)kept) / sizeof *kept;
        cwi_values_put(e->job->kernels, e->mask->values, kept, count, values);
        values += count * cwi_values_size(e->mask->values);
    }
}

static void encode_piece(const cwi_mask_encoder *e, const piece *p)
{
    const cwi_mask *m = e->mask;
    cwi_ms_encode state = {
        .threshold = p->pick->threshold, .is_signed = m->is_signed, .signed_zero = m->signed_zero, .ties = p->ties};
    cwi_mask_quant(m, e->rounding, p->pick, &state.quant);
    if (m->values == CWI_VALUES_FP32 && !m->index_size)
        encode_direct(e, p, &state);
    else
        encode_converted(e, p, &state);
}

static piece whole_segment(const cwi_mask_encoder *e, size_t segment)
{
    const cwi_mask *m = e->mask;
    return (piece){.first = segment * m->layout.length,
                   .n = m->layout.length,
                   .pick = &e->work->picks[segment],
                   .ties = e->work->picks[segment].ties,
                   .marks = e->marks + segment * cwi_mask_marks_size(m),
                   .values = e->values + segment * cwi_mask_values_size(m),
                   .kept = m->kept};
}

static void encode_segment(void *ctx, unsigned worker, size_t segment)
{
    (void)worker;
    piece p = whole_segment(ctx, segment);
    encode_piece(ctx, &p);
}

/* ---- several threads on one segment ---- */

typedef struct counting {
    const cwi_kernels *kernels;
    uint32_t threshold;
    uint64_t above, equal;
} counting;

static void visit_count(void *ctx, const float *x, size_t n)
{
    counting *c = ctx;
    c->kernels->count(x, n, c->threshold, &c->above, &c->equal);
}

static size_t block_length(const cwi_mask_encoder *e, size_t block)
{
    return CWI_MIN((size_t)CWI_BLOCK, e->mask->layout.length - block * CWI_BLOCK);
}

static void count_block(void *ctx, unsigned worker, size_t block)
{
    (void)worker;
    const cwi_mask_encoder *e = ctx;
    counting c = {.kernels = e->job->kernels, .threshold = e->work->picks[0].threshold};
    cwi_source_each(&e->job->source, block * CWI_BLOCK, block_length(e, block), visit_count, &c);
    e->work->block[2 * block] = c.above;
    e->work->block[2 * block + 1] = c.equal;
}

/* Turns the counts of each block into what the blocks before it keep, and the ties they leave. */
static void sum_blocks(const cwi_mask_encoder *e, size_t blocks)
{
    uint64_t kept = 0, ties = e->work->picks[0].ties;
    for (size_t b = 0; b < blocks; b++) {
        uint64_t *here = &e->work->block[2 * b];
        uint64_t taken = CWI_MIN(ties, here[1]), above = here[0];
        here[0] = kept;
        here[1] = ties;
        kept += above + taken;
        ties -= taken;
    }
}

static void encode_block(void *ctx, unsigned worker, size_t block)
{
    (void)worker;
    const cwi_mask_encoder *e = ctx;
    const cwi_mask *m = e->mask;
    const size_t blocks = block_count(m->layout.length);
    const uint64_t *here = &e->work->block[2 * block];
    const uint64_t end = block + 1 < blocks ? here[2] : m->kept;
    piece p = whole_segment(e, 0);
    p.first = block * CWI_BLOCK;
    p.n = block_length(e, block);
    p.ties = here[1];
    p.kept = (size_t)(end - here[0]);
    p.marks += m->index_size ? here[0] * m->index_size : cwi_planes_size(p.first, cwi_mask_planes(m));
    p.values += here[0] * cwi_values_size(m->values);
    encode_piece(e, &p);
}

void cwi_mask_encode(const cwi_mask_encoder *e)
{
    cwi_mask_encoder copy = *e;
    if (!by_block(&e->mask->layout, e->job->threads)) {
        cwi_parallel(e->job->threads, e->mask->layout.segments, encode_segment, &copy);
        return;
    }
    const size_t blocks = block_count(e->mask->layout.length);
    cwi_parallel(e->job->threads, blocks, count_block, &copy);
    sum_blocks(e, blocks);
    cwi_parallel(e->job->threads, blocks, encode_block, &copy);
}
