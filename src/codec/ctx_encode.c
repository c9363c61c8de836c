/* ctx_encode.c - counts symbols in their contexts, then codes them block by block. */
#include <math.h>
#include <string.h>

#include "codec/ctx.h"

static size_t rounded(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* Elements of a full block. */
static size_t block_elements(const cwi_ctx_shape *s)
{
    const size_t samples = CWI_MIN(s->block_sections * s->lanes, s->samples);
    return samples * s->channels * s->height * s->width;
}

/* ---- scratch: sets, which channel has which; then what fitting wants, or for each worker counts, moments, rows, the
 * acc of some, contexts and support of a strip, and a stream ---- */

/* Several of them, so that an addition need not wait for the one before. */
enum { COUNTS = 4 };

/* The sample that moments are taken of. */
enum {
    ALL = 1 << 17,          /* elements, up to which they are all in it, but of parts and where time matters more */
    SAMPLE_LEAST = 1 << 15, /* elements, where there are so many */
    SAMPLE_MORE = 1 << 17,  /* the same where there are many */
    SAMPLE_DENSE = 1 << 18,
    SAMPLE_TRIED = 1 << 15, /* the same where a part of the sections is tried */
    SPARSEST = 64,          /* one element in this many of the tensor, at least */
    SHORTEST = 16,          /* elements of a lane that are taken together */
};

/* Samples below which it is more than contexts can save, where elements have no neighbours. */
enum { FITTED_SAMPLES = 4 };

enum { TRIED = 4 /* of so many sections, or groups of a single one, one is tried */ };

static size_t stream_bound(const cwi_ctx_shape *s)
{
    return CWI_MAX(2 * block_elements(s) + 4 * CWI_LANES + CWI_CTX_SLACK, cwi_ctx_tables_bound(s));
}

/* Rows whose acc are made at once: not so many that they would leave the nearest cache. */
static size_t rows_at_once(const cwi_ctx_shape *s)
{
    enum { POSITIONS = 64 };
    return CWI_MAX(CWI_MIN(POSITIONS / s->width, s->height), (size_t)1);
}

static size_t worker_size(const cwi_ctx_shape *s)
{
    if (cwi_ctx_is_thin(s))
        return COUNTS * sizeof(cwi_ctx_counts) + rounded(COUNTS * sizeof(cwi_ctx_moments)) + rounded(s->elements) +
               cwi_ctx_thin_size(s) + rounded(stream_bound(s));
    return COUNTS * sizeof(cwi_ctx_counts) + rounded(COUNTS * sizeof(cwi_ctx_moments)) +
           cwi_ctx_row(s) * (rows_at_once(s) * sizeof(int16_t) + 2 * cwi_ctx_strip(s)) + rounded(cwi_ctx_rows_size(s)) +
           rounded(stream_bound(s));
}

enum { BOTH = 2 }; /* what is planned, and another way that it is compared with */

static size_t sets_size(const cwi_ctx_shape *s)
{
    return rounded(cwi_ctx_most_sets(s) * sizeof(cwi_ctx_set)) + rounded(s->channels);
}

size_t cwi_ctx_work_size(const cwi_ctx_shape *s, unsigned threads)
{
    const size_t workers = CWI_MAX(CWI_MIN((size_t)threads, s->blocks), (size_t)1);
    return BOTH * sets_size(s) + CWI_MAX(workers * worker_size(s), cwi_ctx_fit_size(s));
}

typedef struct scratch {
    cwi_ctx_counts *counts;
    cwi_ctx_moments *moments;
    int16_t *acc;
    uint8_t *contexts, *support, *rows, *stream;
} scratch;

static scratch scratch_of(const cwi_ctx_encoder *e, size_t worker)
{
    const cwi_ctx_shape *s = &e->shape;
    uint8_t *at = e->work + BOTH * sets_size(s) + worker * worker_size(s);
    scratch w = {.counts = (cwi_ctx_counts *)(void *)at};
    at += COUNTS * sizeof(cwi_ctx_counts);
    w.moments = (cwi_ctx_moments *)(void *)at;
    at += rounded(COUNTS * sizeof(cwi_ctx_moments));
    if (cwi_ctx_is_thin(s)) {
        w.contexts = at;
        w.rows = w.contexts + rounded(s->elements);
        w.stream = w.rows + cwi_ctx_thin_size(s);
        return w;
    }
    w.acc = (int16_t *)(void *)at;
    w.contexts = (uint8_t *)(w.acc + rows_at_once(s) * cwi_ctx_row(s));
    w.support = w.contexts + cwi_ctx_strip(s) * cwi_ctx_row(s);
    w.rows = w.support + cwi_ctx_strip(s) * cwi_ctx_row(s);
    w.stream = w.rows + rounded(cwi_ctx_rows_size(s));
    return w;
}

static size_t section_end(const cwi_ctx_shape *s, size_t block)
{
    return CWI_MIN((block + 1) * s->block_sections, s->sections);
}

/* ---- rows and their contexts ---- */

/* What is fetched once for a section. */
static void fetch_section(const cwi_ctx_encoder *e, const scratch *w, size_t section)
{
    const cwi_ctx_shape *s = &e->shape;
    for (size_t g = 0; cwi_ctx_holds_section(s) && g < s->groups; g++)
        cwi_ctx_gather(e->kernels, s, e->symbols, section, g, 0, s->height, w->rows + g * s->height * cwi_ctx_row(s));
}

/* The rows of a strip; their contexts into w->contexts, and their support, if any, into w->support. */
static const uint8_t *fetch_strip(const cwi_ctx_encoder *e, const scratch *w, const cwi_ctx_mix *mix, size_t section,
                                  size_t group, size_t y, size_t count)
{
    const cwi_ctx_shape *s = &e->shape;
    const size_t size = cwi_ctx_row(s), above = y > 0;
    const uint8_t *first = w->rows + size;
    if (cwi_ctx_holds_section(s))
        first = w->rows + (group * s->height + y) * size;
    else
        cwi_ctx_gather(e->kernels, s, e->symbols, section, group, y - above, count + above,
                       w->rows + (1 - above) * size);
    for (size_t done = 0; done < count; done += rows_at_once(s)) {
        const size_t n = CWI_MIN(rows_at_once(s), count - done);
        const uint8_t *row = first + done * size;
        const cwi_ctx_near near = cwi_ctx_near_of(&e->tables, s, w->rows, row, group, y + done);
        e->kernels->ctx.mix(mix, &near, n, s->width, w->acc);
        cwi_ctx_add_edges(mix, e->tables.zero, near.top, n, s->width, w->acc);
        e->kernels->ctx.contexts(mix, w->acc, row, n, s->width, w->contexts + done * size);
    }
    if (e->support)
        cwi_ctx_gather(e->kernels, s, e->support, section, group, y, count, w->support);
    return first;
}

/* ---- counting ---- */

typedef struct counting {
    const cwi_ctx_encoder *e;
    size_t each;           /* of so many sections one is counted */
    bool groups, rows;     /* of groups, or of rows, not of sections */
    bool symbols, moments; /* what is wanted */
} counting;

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

static void count_supported(const uint8_t *contexts, const uint8_t *symbols, const uint8_t *support, size_t positions,
                            unsigned used, cwi_ctx_counts counts[COUNTS])
{
    for (size_t i = 0; i < positions; i++, contexts += CWI_LANES, symbols += CWI_LANES, support += CWI_LANES)
        for (unsigned l = 0; l < used; l++)
            counts[l % COUNTS][contexts[l]][symbols[l]] += support[l] != 0;
}

/* Elements of which moments are wanted. */
typedef struct run {
    size_t first, stride, n; /* in the tensor: the first of them, how far apart they lie there, how many */
} run;

/* Adds elements of a lane, whose contexts and symbols lie `apart` from each other. */
CWI_INLINE void add_lane(const cwi_ctx_encoder *e, const uint8_t *contexts, const uint8_t *symbols, size_t apart,
                         run of, cwi_ctx_moments m[COUNTS])
{
    uint16_t magnitude[CWI_CTX_WIDTH];
    const size_t n = of.n;
    const uint64_t weight = e->magnitudes(e->of, of.first, of.stride, n, magnitude);
    if (weight == 0)
        return;
    for (size_t i = 0; i < n; i++, contexts += apart, symbols += apart) {
        if (*symbols >= e->classed)
            continue;
        cwi_ctx_moment *at = &m[i % COUNTS].of[*contexts / (CWI_CONTEXTS / CWI_CTX_CLASSES)][*symbols];
        at->count += weight;
        at->sum += weight * magnitude[i];
        at->square += weight * ((uint32_t)magnitude[i] * magnitude[i]);
    }
    m[0].elements += n;
    m[0].weight += weight * n;
}

bool cwi_ctx_counts_all(const cwi_ctx_encoder *e)
{
    return e->whole || e->shape.width > CWI_CTX_LONG_ROW || (e->shape.elements <= ALL && !e->quick);
}

/* Of so many elements of the sections that are counted one is in the sample. */
static size_t sparsity(const counting *c)
{
    if (c->e->whole || (c->each == 1 && cwi_ctx_counts_all(c->e)))
        return 1;
    const size_t many = CWI_MIN(c->e->shape.elements / 8, c->e->quick ? (size_t)SAMPLE_LEAST : (size_t)SAMPLE_MORE);
    const size_t some = CWI_MAX((size_t)SAMPLE_LEAST, many);
    const size_t most = c->e->dense ? (c->e->quick ? SAMPLE_MORE : SAMPLE_DENSE) : some;
    const size_t tried = c->e->dense ? (size_t)SAMPLE_DENSE / TRIED : (size_t)SAMPLE_TRIED;
    const size_t least = c->each > 1 ? tried : most;
    return CWI_MIN(CWI_MAX(c->e->shape.elements / c->each / least, (size_t)1), SPARSEST / c->each);
}

/* Anything, so that what is in the sample keeps step with nothing. */
static uint32_t scatter(size_t section, size_t group, size_t y)
{
    uint32_t h = (uint32_t)section * UINT32_C(0x9e3779b1) + (uint32_t)group * UINT32_C(0x85ebca6b) +
                 (uint32_t)y * UINT32_C(0xc2b2ae35);
    h = (h ^ h >> 15) * UINT32_C(0x2c1b3c6d);
    return h ^ h >> 13;
}

/* Adds of a strip a part of each lane, another one in each, or where these are short some of the lanes. */
static void add_strip(const counting *c, const scratch *w, const uint8_t *symbols, size_t section, size_t group,
                      size_t y, size_t rows)
{
    const cwi_ctx_encoder *e = c->e;
    const cwi_ctx_shape *s = &e->shape;
    const size_t n = rows * s->width, part = CWI_MIN(CWI_MAX(n / sparsity(c), (size_t)SHORTEST), n);
    const size_t parts = (n + part - 1) / part, each = CWI_MAX(sparsity(c) / parts, (size_t)1);
    const uint32_t turn = scatter(section, group, y);
    const size_t used = cwi_ctx_used(s, section, group);
    if (n == 1 && s->beside == 1 && e->one_weight && !e->dense) { /* an element of each lane */
        const run all = {cwi_ctx_plane(s, section, group, 0), s->channels, used};
        if (turn % each == 0)
            add_lane(e, w->contexts, symbols, 1, all, w->moments);
        return;
    }
    size_t at = turn / 32 % parts * part;
    for (size_t l = turn % each; l < used; l += each) {
        const size_t first = (cwi_ctx_plane(s, section, group, l) * s->height + y) * s->width + at;
        add_lane(e, w->contexts + at * CWI_LANES + l, symbols + at * CWI_LANES + l, CWI_LANES,
                 (run){first, 1, CWI_MIN(part, n - at)}, w->moments);
        at = at + part < n ? at + part : 0;
    }
}

static void count_group(const counting *c, const scratch *w, size_t section, size_t group)
{
    const cwi_ctx_encoder *e = c->e;
    const cwi_ctx_shape *s = &e->shape;
    const unsigned used = (unsigned)cwi_ctx_used(s, section, group);
    cwi_ctx_mix mix;
    cwi_ctx_mix_of(&e->tables, s, group, &mix);
    const size_t strip = c->rows ? 1 : cwi_ctx_strip(s), first = c->rows ? scatter(section, group, 0) % c->each : 0;
    for (size_t y = first; y < s->height; y += c->rows ? c->each : strip) {
        const size_t rows = CWI_MIN(strip, s->height - y);
        const uint8_t *symbols = fetch_strip(e, w, &mix, section, group, y, rows);
        if (c->symbols && e->support)
            count_supported(w->contexts, symbols, w->support, rows * s->width, used, w->counts);
        else if (c->symbols)
            count(w->contexts, symbols, rows * s->width, used, w->counts);
        if (c->moments)
            add_strip(c, w, symbols, section, group, y, rows);
    }
}

static void count_block(void *ctx, unsigned worker, size_t block)
{
    const counting *c = ctx;
    const cwi_ctx_encoder *e = c->e;
    const cwi_ctx_shape *s = &e->shape;
    const scratch w = scratch_of(e, worker);
    for (size_t section = block * s->block_sections; section < section_end(s, block); section++) {
        if (section % c->each && !c->groups && !c->rows)
            continue;
        fetch_section(e, &w, section);
        for (size_t g = 0; g < s->groups; g++)
            if (!c->groups || scatter(section, g, 0) % c->each == 0)
                count_group(c, &w, section, g);
    }
}

/* ---- the same of few samples ---- */

static void count_elements(const cwi_ctx_encoder *e, const uint8_t *contexts, cwi_ctx_counts counts[COUNTS])
{
    const uint8_t *symbols = e->symbols, *support = e->support;
    const size_t n = e->shape.elements;
    for (size_t i = 0; support && i < n; i++)
        counts[i % COUNTS][contexts[i]][symbols[i]] += support[i] != 0;
    for (size_t i = 0; !support && i < n; i++)
        counts[i % COUNTS][contexts[i]][symbols[i]]++;
}

/* Moments of many elements of one weight: count and sum in one number, which is one addition less. */
typedef struct dense_moments {
    uint64_t of[COUNTS][CWI_CTX_CLASSES * CWI_SYMBOLS][2];
} dense_moments;

enum { DENSE_SHIFT = 40, DENSE_MOST = 1 << 22 /* elements, whose sum has so many bits */ };

static void add_dense(const uint8_t *contexts, const uint8_t *symbols, const uint16_t *magnitude, size_t n,
                      dense_moments *d)
{
    enum { SHIFT = 2 };
    _Static_assert(CWI_CONTEXTS >> SHIFT == CWI_CTX_CLASSES, "a context's class");
    for (size_t i = 0; i < n; i++) {
        uint64_t *at = d->of[i % COUNTS][(contexts[i] >> SHIFT) * CWI_SYMBOLS + symbols[i]];
        at[0] += (UINT64_C(1) << DENSE_SHIFT) + magnitude[i];
        at[1] += (uint32_t)magnitude[i] * magnitude[i];
    }
}

static void flush_dense(const dense_moments *d, uint64_t weight, unsigned classed, cwi_ctx_moments *m)
{
    enum { PLACES = CWI_CTX_CLASSES * CWI_SYMBOLS };
    for (size_t i = 0; i < COUNTS * PLACES; i++) {
        const size_t at = i % PLACES, symbol = at % CWI_SYMBOLS;
        const uint64_t *of = d->of[i / PLACES][at];
        if (of[0] == 0 || symbol >= classed)
            continue;
        cwi_ctx_moment *to = &m->of[at / CWI_SYMBOLS][symbol];
        to->count += weight * (of[0] >> DENSE_SHIFT);
        to->sum += weight * (of[0] & ((UINT64_C(1) << DENSE_SHIFT) - 1));
        to->square += weight * of[1];
    }
}

/* Of elements [first, first + n), all of one sample. */
static void add_all(const cwi_ctx_encoder *e, const scratch *w, size_t first, size_t n)
{
    uint16_t magnitude[CWI_CTX_WIDTH];
    dense_moments d;
    uint64_t weight = 0;
    memset(&d, 0, sizeof d);
    for (size_t done = 0, m; done < n; done += m) {
        const size_t at = first + done;
        m = CWI_MIN((size_t)CWI_CTX_WIDTH, n - done);
        weight = e->magnitudes(e->of, at, 1, m, magnitude);
        if (weight == 0)
            return;
        add_dense(w->contexts + at, e->symbols + at, magnitude, m, &d);
    }
    flush_dense(&d, weight, e->classed, w->moments);
    w->moments->elements += n;
    w->moments->weight += weight * n;
}

/* Of a sample, or of one run of elements in `each`. */
static void add_sample(const counting *c, const scratch *w, size_t sample)
{
    const cwi_ctx_encoder *e = c->e;
    const cwi_ctx_shape *s = &e->shape;
    const size_t n = s->channels * s->height * s->width, each = sparsity(c), begin = sample * n;
    for (size_t done = 0; each == 1 && done < n; done += DENSE_MOST)
        add_all(e, w, begin + done, CWI_MIN((size_t)DENSE_MOST, n - done));
    for (size_t done = 0; each > 1 && done < n; done += SHORTEST * each) {
        const size_t at = done + scatter(sample, done, 0) % each * SHORTEST, first = begin + at;
        if (at < n)
            add_lane(e, w->contexts + first, e->symbols + first, 1, (run){first, 1, CWI_MIN((size_t)SHORTEST, n - at)},
                     w->moments);
    }
}

static void count_thin(const counting *c)
{
    const cwi_ctx_encoder *e = c->e;
    const scratch w = scratch_of(e, 0);
    cwi_ctx_thin_contexts(e->kernels, &e->shape, &e->tables, e->symbols, w.rows, w.contexts);
    if (c->symbols)
        count_elements(e, w.contexts, w.counts);
    for (size_t i = 0; c->moments && i < e->shape.samples; i++)
        add_sample(c, &w, i);
}

/* ---- all of it ---- */

/* Adds up the counts of all workers, in those of the first. */
static void total_counts(const cwi_ctx_encoder *e, size_t workers)
{
    uint32_t *total = scratch_of(e, 0).counts[0][0];
    for (size_t w = 0; w < workers; w++)
        for (unsigned j = 0; j < COUNTS; j++) {
            const uint32_t *more = scratch_of(e, w).counts[j][0];
            for (unsigned i = 0; more != total && i < CWI_CONTEXTS * CWI_SYMBOLS; i++)
                total[i] += more[i];
        }
}

/* As if there were `n` of them. */
static void extend_to(cwi_ctx_moment *m, uint64_t n)
{
    const double times = m->count ? (double)n / (double)m->count : 0;
    if (m->count == n)
        return;
    *m = (cwi_ctx_moment){.count = m->count ? n : 0,
                          .sum = (uint64_t)(times * (double)m->sum + 0.5),
                          .square = (uint64_t)(times * (double)m->square + 0.5)};
}

/* A sample has too many of one kind and too few of another; how many there are was counted. Where elements have weights
 * of their own that would not do. */
static void extend_moments(cwi_ctx_encoder *e)
{
    cwi_ctx_moments *m = &e->moments;
    const uint32_t(*counts)[CWI_SYMBOLS] = (const uint32_t(*)[CWI_SYMBOLS])scratch_of(e, 0).counts[0];
    if (!e->magnitudes || e->dense || m->weight != m->elements || m->weight == 0)
        return;
    for (unsigned c = 0; c < CWI_CTX_CLASSES; c++)
        for (unsigned s = 0; s < e->classed; s++) {
            uint64_t n = 0;
            for (unsigned i = 0; i < CWI_CONTEXTS / CWI_CTX_CLASSES; i++)
                n += counts[c * (CWI_CONTEXTS / CWI_CTX_CLASSES) + i][s];
            extend_to(&m->of[c][s], n);
        }
    m->weight = e->shape.elements;
}

static void total_moments(cwi_ctx_encoder *e, size_t workers)
{
    memset(&e->moments, 0, sizeof e->moments);
    for (size_t i = 0; i < workers * COUNTS; i++) {
        const cwi_ctx_moments *more = scratch_of(e, i / COUNTS).moments + i % COUNTS;
        for (unsigned c = 0; c < CWI_CTX_CLASSES; c++)
            for (unsigned v = 0; v < e->classed; v++)
                cwi_ctx_moment_add(&e->moments.of[c][v], &more->of[c][v]);
        e->moments.elements += more->elements;
        e->moments.weight += more->weight;
    }
}

static size_t workers_of(const cwi_ctx_encoder *e)
{
    return CWI_MIN((size_t)e->threads, e->shape.blocks);
}

static void count_parts(cwi_ctx_encoder *e, counting c)
{
    const size_t workers = workers_of(e);
    c.e = e;
    c.moments &= e->magnitudes != NULL;
    for (size_t w = 0; w < workers; w++) {
        memset(scratch_of(e, w).counts, 0, COUNTS * sizeof(cwi_ctx_counts));
        memset(scratch_of(e, w).moments, 0, COUNTS * sizeof(cwi_ctx_moments));
    }
    if (cwi_ctx_is_thin(&e->shape))
        count_thin(&c);
    else
        cwi_parallel((unsigned)workers, e->shape.blocks, count_block, &c);
    total_counts(e, workers);
    total_moments(e, workers);
}

/* What is left of the squares of elements that come back as the mean of their context's class and symbol. */
static double spread_of(const cwi_ctx_moments *m, unsigned classed)
{
    double left = 0;
    for (unsigned c = 0; c < CWI_CTX_CLASSES; c++)
        for (unsigned s = 0; s < classed; s++) {
            const cwi_ctx_moment *of = &m->of[c][s];
            left += of->count ? (double)of->square - (double)of->sum * (double)of->sum / (double)of->count : 0;
        }
    return left;
}

/* Of many elements some: sections, else rows; all that is thin. */
static counting parts_weighed(const cwi_ctx_shape *s)
{
    enum { ENOUGH = 1 << 17, MOST = 8 };
    const size_t each = CWI_MIN(CWI_MAX(s->elements / ENOUGH, (size_t)1), (size_t)MOST);
    const bool sections = s->sections >= 2 * each, rows = !sections && s->height >= 2 * each;
    const bool parts = each > 1 && (sections || rows) && !cwi_ctx_is_thin(s);
    return (counting){.each = parts ? each : 1, .rows = parts && rows, .symbols = true, .moments = true};
}

/* What a plan takes, of large tensors by a part of them: bits of symbols, weights and tables; and what is left of
 * squares, 0 where that is not known. */
typedef struct weight {
    double bits, left;
} weight;

static weight weigh(cwi_ctx_encoder *e)
{
    const counting parts = parts_weighed(&e->shape);
    cwi_ctx_tables t = e->tables;
    uint32_t(*counts)[CWI_SYMBOLS] = scratch_of(e, 0).counts[0];
    count_parts(e, parts);
    for (unsigned i = 0; parts.each > 1 && i < CWI_CONTEXTS * CWI_SYMBOLS; i++) {
        uint32_t *count = &counts[i / CWI_SYMBOLS][i % CWI_SYMBOLS];
        *count = (uint32_t)CWI_MIN((uint64_t)*count * parts.each, (uint64_t)UINT32_MAX);
    }
    return (weight){cwi_ctx_choose(&e->shape, counts, e->coarse, &t), spread_of(&e->moments, e->classed)};
}

/* What leaves more has to have finer steps. */
static bool is_shorter(const weight *a, const weight *b, double elements)
{
    const double enough = 48; /* bits, of which fewer are chance */
    /* Measured on maps: what half the error, or a quarter of its square, costs. */
    const double bits_of_half = CWI_MIN(0.6 * b->bits, elements);
    const double octaves = a->left > 0 && b->left > 0 ? 0.5 * log2(a->left / b->left) : 0;
    return a->bits + bits_of_half * octaves + enough < b->bits;
}

static void set_mode(cwi_ctx_tables *t, const cwi_ctx_tables *from)
{
    t->mode = from->mode;
    t->shared = from->shared;
    t->sets = from->sets;
    t->of = from->of;
}

static void take_other(cwi_ctx_encoder *e, const cwi_ctx_tables *other)
{
    e->tables.mode = other->mode;
    e->tables.shared = other->shared;
    memcpy(e->tables.sets, other->sets, sets_size(&e->shape));
}

/* Of what is fitted and `other` the shorter one. True: what is fitted is counted already. */
static bool take_shorter(cwi_ctx_encoder *e, const cwi_ctx_tables *other)
{
    const cwi_ctx_tables fitted = e->tables;
    set_mode(&e->tables, other);
    const weight by_other = weigh(e);
    set_mode(&e->tables, &fitted);
    const weight by_fitted = weigh(e);
    const bool shorter = is_shorter(&by_other, &by_fitted, (double)e->shape.elements);
    if (shorter)
        take_other(e, other);
    return !shorter && parts_weighed(&e->shape).each == 1;
}

static void place_sets(const cwi_ctx_shape *s, uint8_t *at, cwi_ctx_tables *t)
{
    t->sets = (cwi_ctx_set *)(void *)at;
    t->of = at + rounded(cwi_ctx_most_sets(s) * sizeof(cwi_ctx_set));
}

/* True: what is fitted is counted already. */
static bool fit(cwi_ctx_encoder *e)
{
    const cwi_ctx_shape *s = &e->shape;
    if (e->given) {
        e->tables = *e->given;
        return false;
    }
    cwi_ctx_tables other = {.zero = e->tables.zero};
    place_sets(s, e->work, &e->tables);
    place_sets(s, e->work + sets_size(s), &other);
    if (s->elements < CWI_CTX_FITTED || (s->planes == s->elements && s->samples < FITTED_SAMPLES))
        e->tables.mode = CWI_CTX_PLAIN;
    else if (!e->keep || (e->tables.mode == CWI_CTX_PLAIN && !e->keep_plain))
        return cwi_ctx_fit(e, e->work + BOTH * sets_size(s), &e->tables, &other) && take_shorter(e, &other);
    return false;
}

void cwi_ctx_count(cwi_ctx_encoder *e)
{
    if (!fit(e))
        count_parts(e, (counting){.each = 1, .symbols = true, .moments = true});
    extend_moments(e);
}

size_t cwi_ctx_finish(cwi_ctx_encoder *e)
{
    const cwi_ctx_shape *s = &e->shape;
    uint32_t(*counts)[CWI_SYMBOLS] = scratch_of(e, 0).counts[0];
    for (unsigned i = 0; e->smooth && i < CWI_CONTEXTS * CWI_SYMBOLS; i++)
        counts[i / CWI_SYMBOLS][i % CWI_SYMBOLS]++;
    const cwi_ctx_mode mode = e->tables.mode;
    const double bits = e->given ? cwi_ctx_cost(e->given, counts) : cwi_ctx_choose(s, counts, e->coarse, &e->tables);
    e->wasted = e->given ? bits - cwi_ctx_own_cost(counts) : 0;
    if (cwi_ctx_is_thin(s) && e->tables.mode != mode)
        memset(scratch_of(e, 0).contexts, 0, s->elements);
    const size_t states = 4 * cwi_ctx_used(s, 0, 0), sizes = e->bare ? 2 : 4;
    const size_t streams = e->tables.model.symbols == 1 ? 0 : s->blocks * (sizes + states);
    return (e->bare ? 0 : CWI_CTX_PREFIX) + (e->given ? 0 : 1) + streams + (size_t)(bits / 8);
}

size_t cwi_ctx_plan(cwi_ctx_encoder *e)
{
    if (e->shape.elements == 0)
        return 0;
    cwi_ctx_count(e);
    return cwi_ctx_finish(e);
}

void cwi_ctx_try(cwi_ctx_encoder *e)
{
    fit(e);
    count_parts(e, (counting){.each = TRIED, .groups = e->shape.sections == 1, .moments = true});
}

size_t cwi_ctx_plan_tables(const cwi_ctx_encoder *e)
{
    uint8_t *to = scratch_of(e, 0).stream;
    return (size_t)(cwi_ctx_tables_put(&e->tables, &e->shape, to) - to);
}

/* ---- coding ---- */

typedef struct wave {
    const cwi_ctx_encoder *e;
    size_t first; /* block */
    size_t size[CWI_MAX_THREADS];
    uint8_t *stream[CWI_MAX_THREADS]; /* in the scratch of a worker */
} wave;

static void encode_group(const cwi_ctx_encoder *e, const scratch *w, size_t section, size_t group, cwi_ctx_lanes *lanes)
{
    const cwi_ctx_shape *s = &e->shape;
    const size_t strip = cwi_ctx_strip(s);
    cwi_ctx_mix mix;
    cwi_ctx_mix_of(&e->tables, s, group, &mix);
    lanes->used = (unsigned)cwi_ctx_used(s, section, group);
    lanes->support = e->support ? w->support : NULL;
    for (size_t y = (s->height - 1) / strip * strip + strip; y > 0;) {
        y -= strip;
        const size_t rows = CWI_MIN(strip, s->height - y);
        const uint8_t *symbols = fetch_strip(e, w, &mix, section, group, y, rows);
        e->kernels->ctx.encode(lanes, w->contexts, symbols, rows * s->width);
    }
}

static void encode_block(void *ctx, unsigned worker, size_t index)
{
    (void)worker; /* each index of a wave has its own scratch */
    wave *v = ctx;
    const cwi_ctx_shape *s = &v->e->shape;
    const scratch w = scratch_of(v->e, index);
    const size_t block = v->first + index, begin = block * s->block_sections;
    uint8_t *end = w.stream + stream_bound(s);
    cwi_ctx_lanes lanes = {.model = &v->e->tables.model, .put = end};
    for (unsigned l = 0; l < CWI_LANES; l++)
        lanes.state[l] = CWI_CTX_LOW;
    if (cwi_ctx_is_thin(s))
        cwi_ctx_thin_encode(v->e, w.contexts, &lanes);
    for (size_t section = section_end(s, block); !cwi_ctx_is_thin(s) && section-- > begin;) {
        fetch_section(v->e, &w, section);
        for (size_t g = s->groups; g-- > 0;)
            encode_group(v->e, &w, section, g, &lanes);
    }
    for (size_t l = cwi_ctx_used(s, begin, 0); l-- > 0;) {
        lanes.put -= 4;
        cwi_put_le(lanes.put, lanes.state[l], 4);
    }
    v->stream[index] = lanes.put;
    v->size[index] = (size_t)(end - lanes.put);
}

/* Returns how many bytes there are with `size` more, which are put there where there is room. */
static size_t append(uint8_t *out, size_t used, size_t capacity, const uint8_t *more, size_t size)
{
    if (size > 0 && used <= capacity && size <= capacity - used)
        memcpy(out + used, more, size);
    return used + size;
}

/* Appends the streams to the `used` bytes of `out`, as far as there is room; returns how many bytes there would be. */
static size_t encode_blocks(cwi_ctx_encoder *e, uint8_t *out, size_t used, size_t capacity)
{
    const size_t blocks = e->shape.blocks, workers = workers_of(e);
    const size_t sizes = used;
    uint8_t number[CWI_NUMBER_MOST];
    wave v = {.e = e};
    used += e->bare ? 0 : 4 * blocks;
    for (; v.first < blocks; v.first += workers) {
        const size_t count = CWI_MIN(workers, blocks - v.first);
        cwi_parallel((unsigned)workers, count, encode_block, &v);
        for (size_t i = 0; i < count; i++) {
            if (!e->bare && used <= capacity)
                cwi_put_le(out + sizes + 4 * (v.first + i), v.size[i], 4);
            uint8_t *end = e->bare ? cwi_number_put(v.size[i], number) : number;
            used = append(out, append(out, used, capacity, number, (size_t)(end - number)), capacity, v.stream[i],
                          v.size[i]);
        }
    }
    return used;
}

bool cwi_ctx_encode(cwi_ctx_encoder *e, uint8_t *out, size_t capacity, size_t *size)
{
    const cwi_ctx_shape *s = &e->shape;
    uint8_t *tables = scratch_of(e, 0).stream; /* not used yet */
    const size_t length = (size_t)(e->given ? 0 : cwi_ctx_tables_put(&e->tables, s, tables) - tables);
    const size_t prefix = e->bare ? 0 : CWI_CTX_PREFIX;
    *size = append(out, prefix, capacity, tables, length);
    if (e->tables.model.symbols > 1)
        *size = encode_blocks(e, out, *size, capacity);
    if (*size > capacity)
        return false;
    if (!e->bare) {
        cwi_put_le(out, s->elements, 6);
        cwi_put_le(out + 6, *size, 6);
    }
    return true;
}
