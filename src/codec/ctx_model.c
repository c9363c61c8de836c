/* ctx_model.c - probability tables: chosen from counts, written, read. */
#include <math.h>
#include <pthread.h>

#include "codec/bits.h"
#include "codec/ctx.h"

enum { GAMMA_MOST = CWI_CTX_BITS };

/* ---- one table ---- */

typedef uint32_t table[CWI_SYMBOLS];

static unsigned largest(const uint32_t *v, unsigned symbols)
{
    unsigned best = 0;
    for (unsigned s = 1; s < symbols; s++)
        best = v[s] > v[best] ? s : best;
    return best;
}

/* Counts to parts of CWI_CTX_WHOLE; what occurs gets at least one. Only those of `symbols` are anything. */
static void normalize(const table count, unsigned symbols, table part)
{
    const double slack = 1 + 0x1p-45; /* whole parts stay whole */
    uint64_t total = 0;
    uint32_t given = 0;
    for (unsigned s = 0; s < symbols; s++)
        total += count[s];
    const double each = total ? CWI_CTX_WHOLE * slack / (double)total : 0;
    for (unsigned s = 0; s < symbols; s++) {
        const uint32_t share = (uint32_t)(count[s] * each);
        part[s] = count[s] && !share ? 1 : share;
        given += part[s];
    }
    part[largest(part, symbols)] += CWI_CTX_WHOLE - given; /* modulo 2^32: it may have to give some away */
}

/* Bits of a symbol that has so many parts. */
static float part_bits[CWI_CTX_WHOLE + 1];
static pthread_once_t part_bits_once = PTHREAD_ONCE_INIT;

static void find_part_bits(void)
{
    for (unsigned i = 1; i <= CWI_CTX_WHOLE; i++)
        part_bits[i] = (float)(CWI_CTX_BITS - log2(i));
}

static unsigned gamma_bits(uint32_t v)
{
    return 2 * (31 - (unsigned)__builtin_clz(v)) + 1;
}

/* Bits of the symbols counted, and of the table. */
static double cost(const table count, const table part, unsigned symbols)
{
    const unsigned big = largest(part, symbols);
    double bits = 4;
    for (unsigned s = 0; s < symbols; s++) {
        if (count[s])
            bits += count[s] * (double)part_bits[part[s]];
        if (s != big)
            bits += gamma_bits(part[s] + 1);
    }
    return bits;
}

/* ---- merging neighbouring contexts while that makes the whole shorter ---- */

typedef struct runs {
    unsigned symbols, count;
    unsigned first[CWI_CONTEXTS]; /* context of each run */
    table counts[CWI_CONTEXTS];
    double bits[CWI_CONTEXTS]; /* of each run */
    double gain[CWI_CONTEXTS]; /* of merging it with the next one */
} runs;

static double bits_of(const runs *r, const table counts)
{
    table part;
    normalize(counts, r->symbols, part);
    return cost(counts, part, r->symbols);
}

static void add(table a, const table b)
{
    for (unsigned s = 0; s < CWI_SYMBOLS; s++)
        a[s] += b[s];
}

static void set_gain(runs *r, unsigned i)
{
    table both;
    memcpy(both, r->counts[i], sizeof both);
    add(both, r->counts[i + 1]);
    r->gain[i] = r->bits[i] + r->bits[i + 1] - bits_of(r, both);
}

static void merge_with_next(runs *r, unsigned i)
{
    add(r->counts[i], r->counts[i + 1]);
    r->bits[i] = bits_of(r, r->counts[i]);
    r->count--;
    for (unsigned j = i + 1; j < r->count; j++) {
        r->first[j] = r->first[j + 1];
        memcpy(r->counts[j], r->counts[j + 1], sizeof(table));
        r->bits[j] = r->bits[j + 1];
        r->gain[j] = r->gain[j + 1];
    }
    if (i > 0)
        set_gain(r, i - 1);
    if (i + 1 < r->count)
        set_gain(r, i);
}

/* Contexts in which next to nothing occurs belong to the one before: no tables of their own would pay. */
static void begin_runs(runs *r, cwi_ctx_counts counts, unsigned symbols)
{
    enum { SELDOM = 8 };
    uint32_t before = UINT32_MAX;
    memset(r, 0, sizeof *r);
    r->symbols = symbols;
    for (unsigned c = 0; c < CWI_CONTEXTS; c++) {
        uint32_t total = 0;
        for (unsigned s = 0; s < symbols; s++)
            total += counts[c][s];
        if (r->count && (total == 0 || (total < SELDOM && before < SELDOM))) {
            add(r->counts[r->count - 1], counts[c]);
            before += total;
            continue;
        }
        before = total;
        r->first[r->count] = r->count ? c : 0;
        memcpy(r->counts[r->count], counts[c], sizeof(table));
        r->count++;
    }
    for (unsigned i = 0; i < r->count; i++)
        r->bits[i] = bits_of(r, r->counts[i]);
    for (unsigned i = 0; i + 1 < r->count; i++)
        set_gain(r, i);
}

static void merge_runs(runs *r)
{
    while (r->count > 1) {
        unsigned best = 0;
        for (unsigned i = 1; i + 1 < r->count; i++)
            best = r->gain[i] > r->gain[best] ? i : best;
        if (r->gain[best] < 0)
            return;
        merge_with_next(r, best);
    }
}

/* All contexts together. */
static void merge_all(runs *r)
{
    for (unsigned i = 1; i < r->count; i++)
        add(r->counts[0], r->counts[i]);
    r->count = 1;
    r->bits[0] = bits_of(r, r->counts[0]);
}

/* ---- the model ---- */

static unsigned symbols_in(cwi_ctx_counts counts)
{
    unsigned most = 0;
    for (unsigned c = 0; c < CWI_CONTEXTS; c++)
        for (unsigned s = most + 1; s < CWI_SYMBOLS; s++)
            most = counts[c][s] ? s : most;
    return most + 1;
}

static void set_table(cwi_ctx_model *m, unsigned context, const table part)
{
    uint32_t sum = 0;
    for (unsigned s = 0; s < CWI_SYMBOLS; s++) {
        m->start[s][context] = (uint16_t)sum;
        m->part[context][s] = sum | s << CWI_CTX_BITS | part[s] << 16;
        sum += part[s];
        m->next[context][s] = (uint16_t)sum;
    }
    m->start[CWI_SYMBOLS][context] = (uint16_t)sum;
}

static void set_model(cwi_ctx_tables *t, const runs *r)
{
    table part = {0};
    memset(t->fresh, 0, sizeof t->fresh);
    for (unsigned i = 0; i < r->count; i++) {
        const unsigned end = i + 1 < r->count ? r->first[i + 1] : CWI_CONTEXTS;
        t->fresh[r->first[i]] = true;
        normalize(r->counts[i], r->symbols, part);
        for (unsigned c = r->first[i]; c < end; c++)
            set_table(&t->model, c, part);
    }
}

double cwi_ctx_choose(const cwi_ctx_shape *shape, cwi_ctx_counts counts, cwi_ctx_tables *t)
{
    runs r;
    pthread_once(&part_bits_once, find_part_bits);
    t->model.symbols = symbols_in(counts);
    begin_runs(&r, counts, t->model.symbols);
    double plain = 0, bits = (double)cwi_ctx_weights_bits(t, shape) + CWI_CONTEXTS - 1;
    merge_runs(&r);
    for (unsigned i = 0; i < r.count; i++)
        bits += r.bits[i];
    runs one = r;
    merge_all(&one);
    plain = one.bits[0];
    if (plain <= bits) {
        t->mode = CWI_CTX_PLAIN;
        r = one;
        bits = plain;
    }
    set_model(t, &r);
    return bits;
}

double cwi_ctx_cost(const cwi_ctx_tables *t, cwi_ctx_counts counts)
{
    double bits = 0;
    pthread_once(&part_bits_once, find_part_bits);
    for (unsigned c = 0; c < CWI_CONTEXTS; c++)
        for (unsigned s = 0; s < CWI_SYMBOLS; s++)
            if (counts[c][s])
                bits += counts[c][s] * (double)part_bits[t->model.start[s + 1][c] - t->model.start[s][c]];
    return bits;
}

double cwi_ctx_own_cost(cwi_ctx_counts counts)
{
    table part;
    double bits = 0;
    pthread_once(&part_bits_once, find_part_bits);
    for (unsigned c = 0; c < CWI_CONTEXTS; c++) {
        normalize(counts[c], CWI_SYMBOLS, part);
        for (unsigned s = 0; s < CWI_SYMBOLS; s++)
            bits += counts[c][s] * (double)part_bits[part[s]];
    }
    return bits;
}

/* ---- bytes: mode and symbols | weights | which contexts have tables | for each table 4 bits, and gammas ---- */

size_t cwi_ctx_tables_bound(const cwi_ctx_shape *shape)
{
    const size_t number = 16, table_bits = 4 + (CWI_SYMBOLS - 1) * (2 * CWI_CTX_BITS + 1);
    const size_t set = CWI_CTX_REFS * 16 + 3 + (CWI_CTX_WEIGHTS + 1) * number;
    const size_t weights = cwi_ctx_may_own(shape) ? shape->channels * set : 3 * shape->channels;
    return 64 + (weights + CWI_CTX_SHARED * set + CWI_CONTEXTS * (table_bits + 1)) / 8;
}

static void put_table(cwi_bit_writer *w, const cwi_ctx_model *m, unsigned context)
{
    table part = {0};
    for (unsigned s = 0; s < m->symbols; s++)
        part[s] = m->start[s + 1][context] - (uint32_t)m->start[s][context];
    const unsigned big = largest(part, CWI_SYMBOLS);
    cwi_bits_put(w, big, 4);
    for (unsigned s = 0; s < m->symbols; s++)
        if (s != big)
            cwi_gamma_put(w, part[s] + 1);
}

uint8_t *cwi_ctx_tables_put(const cwi_ctx_tables *t, const cwi_ctx_shape *shape, uint8_t *out)
{
    cwi_bit_writer w = {.next = out};
    cwi_bits_put(&w, t->mode, 4);
    cwi_bits_put(&w, t->model.symbols - 1, 4);
    if (t->model.symbols == 1)
        return cwi_bits_finish(&w);
    cwi_ctx_weights_put(t, shape, &w);
    for (unsigned c = 1; c < CWI_CONTEXTS && t->mode != CWI_CTX_PLAIN; c++)
        cwi_bits_put(&w, t->fresh[c], 1);
    for (unsigned c = 0; c < CWI_CONTEXTS; c++)
        if (t->fresh[c])
            put_table(&w, &t->model, c);
    return cwi_bits_finish(&w);
}

static bool get_table(cwi_bit_reader *r, unsigned symbols, table part)
{
    const unsigned big = (unsigned)cwi_bits_get(r, 4);
    uint32_t sum = 0;
    memset(part, 0, sizeof(table));
    for (unsigned s = 0; s < symbols; s++) {
        if (s == big)
            continue;
        const uint32_t v = cwi_gamma_get(r, GAMMA_MOST);
        if (v == 0)
            return false;
        part[s] = v - 1;
        sum += part[s];
    }
    if (big >= symbols || sum >= CWI_CTX_WHOLE)
        return false;
    part[big] = CWI_CTX_WHOLE - sum;
    return true;
}

const uint8_t *cwi_ctx_tables_get(const uint8_t *in, const uint8_t *end, const cwi_ctx_shape *shape, cwi_ctx_tables *t)
{
    table part;
    cwi_bit_reader r = {.next = in, .end = end};
    const unsigned mode = (unsigned)cwi_bits_get(&r, 4);
    t->model.symbols = (unsigned)cwi_bits_get(&r, 4) + 1;
    if (mode > CWI_CTX_OWN || r.short_of)
        return NULL;
    t->mode = (cwi_ctx_mode)mode;
    if (t->model.symbols == 1)
        return r.next;
    if (!cwi_ctx_weights_get(&r, shape, t))
        return NULL;
    t->fresh[0] = true;
    for (unsigned c = 1; c < CWI_CONTEXTS; c++)
        t->fresh[c] = mode != CWI_CTX_PLAIN && cwi_bits_get(&r, 1);
    for (unsigned c = 0; c < CWI_CONTEXTS; c++) {
        if (t->fresh[c] && !get_table(&r, t->model.symbols, part))
            return NULL;
        set_table(&t->model, c, part);
    }
    return r.short_of ? NULL : r.next;
}
