/* ctx_model.c - probability tables: chosen from counts, written, read. */
#include <math.h>

#include "codec/bits.h"
#include "codec/ctx.h"

enum { CLASS_SIZE = CWI_CONTEXTS / CWI_CLASSES, GAMMA_MOST = CWI_CTX_BITS };

unsigned cwi_ctx_table_of(unsigned mode, unsigned context)
{
    const unsigned class = context / CLASS_SIZE, neighbours = context % CLASS_SIZE;
    if (mode & CWI_CTX_BY_NEIGHBOURS)
        return mode & CWI_CTX_BY_CLASS ? context : neighbours;
    return mode & CWI_CTX_BY_CLASS ? class : 0;
}

unsigned cwi_ctx_table_count(unsigned mode)
{
    return cwi_ctx_table_of(mode, CWI_CONTEXTS - 1) + 1;
}

/* ---- one table ---- */

typedef uint32_t table[CWI_SYMBOLS];

static unsigned largest(const uint32_t *v)
{
    unsigned best = 0;
    for (unsigned s = 1; s < CWI_SYMBOLS; s++)
        best = v[s] > v[best] ? s : best;
    return best;
}

/* Counts to parts of CWI_CTX_WHOLE; what occurs gets at least one. */
static void normalize(const table count, table part)
{
    uint64_t total = 0;
    uint32_t given = 0;
    for (unsigned s = 0; s < CWI_SYMBOLS; s++)
        total += count[s];
    for (unsigned s = 0; s < CWI_SYMBOLS; s++) {
        const uint64_t share = total ? ((uint64_t)count[s] << CWI_CTX_BITS) / total : 0;
        part[s] = count[s] && !share ? 1 : (uint32_t)share;
        given += part[s];
    }
    part[largest(part)] += CWI_CTX_WHOLE - given; /* modulo 2^32: it may have to give some away */
}

static unsigned gamma_bits(uint32_t v)
{
    return 2 * (31 - (unsigned)__builtin_clz(v)) + 1;
}

/* Bits of the symbols counted, and of the table. */
static double cost(const table count, const table part, unsigned symbols)
{
    const unsigned big = largest(part);
    double bits = 4;
    for (unsigned s = 0; s < symbols; s++) {
        if (count[s])
            bits += count[s] * (CWI_CTX_BITS - log2(part[s]));
        if (s != big)
            bits += gamma_bits(part[s] + 1);
    }
    return bits;
}

/* ---- all of them ---- */

static void merge(cwi_ctx_counts counts, unsigned mode, table merged[CWI_CONTEXTS])
{
    memset(merged, 0, CWI_CONTEXTS * sizeof *merged);
    for (unsigned c = 0; c < CWI_CONTEXTS; c++)
        for (unsigned s = 0; s < CWI_SYMBOLS; s++)
            merged[cwi_ctx_table_of(mode, c)][s] += counts[c][s];
}

static double cost_of_mode(const cwi_ctx_shape *shape, cwi_ctx_counts counts, unsigned mode, unsigned symbols)
{
    table merged[CWI_CONTEXTS], part;
    double bits = mode & CWI_CTX_BY_CLASS ? 2.0 * (double)shape->channels : 0.0;
    merge(counts, mode, merged);
    for (unsigned t = 0; t < cwi_ctx_table_count(mode); t++) {
        normalize(merged[t], part);
        bits += cost(merged[t], part, symbols);
    }
    return bits;
}

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
        m->part[context][s] = sum | part[s] << 16;
        sum += part[s];
        m->next[context][s] = (uint16_t)sum;
    }
    m->start[CWI_SYMBOLS][context] = (uint16_t)sum;
}

double cwi_ctx_choose(const cwi_ctx_shape *shape, cwi_ctx_counts counts, cwi_ctx_tables *t)
{
    table merged[CWI_CONTEXTS], part;
    double best = INFINITY;
    t->model.symbols = symbols_in(counts);
    for (unsigned mode = 0; mode < 4; mode++) {
        const double bits = cost_of_mode(shape, counts, mode, t->model.symbols);
        if (bits < best) {
            best = bits;
            t->mode = mode;
        }
    }
    merge(counts, t->mode, merged);
    for (unsigned c = 0; c < CWI_CONTEXTS; c++) {
        normalize(merged[cwi_ctx_table_of(t->mode, c)], part);
        set_table(&t->model, c, part);
    }
    return best;
}

/* The context of class 0 or more that stands for a table. */
static unsigned context_of(unsigned mode, unsigned t)
{
    return mode == CWI_CTX_BY_CLASS ? t * CLASS_SIZE : t;
}

/* ---- bytes: mode and symbols | for each channel its class, 2 bits | for each table 4 bits, and gammas ---- */

size_t cwi_ctx_tables_bound(const cwi_ctx_shape *shape)
{
    const size_t bits = CWI_CONTEXTS * (4 + (CWI_SYMBOLS - 1) * (2 * CWI_CTX_BITS + 1));
    return 2 + shape->channels / 4 + bits / 8 + 1;
}

static void put_table(cwi_bit_writer *w, const cwi_ctx_model *m, unsigned context)
{
    table part = {0};
    for (unsigned s = 0; s < m->symbols; s++)
        part[s] = m->start[s + 1][context] - (uint32_t)m->start[s][context];
    const unsigned big = largest(part);
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
    for (size_t c = 0; t->mode & CWI_CTX_BY_CLASS && c < shape->channels; c++)
        cwi_bits_put(&w, t->classes[c], 2);
    for (unsigned i = 0; i < cwi_ctx_table_count(t->mode); i++)
        put_table(&w, &t->model, context_of(t->mode, i));
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

const uint8_t *cwi_ctx_tables_get(const uint8_t *in, const uint8_t *end, const cwi_ctx_shape *shape, uint8_t *classes,
                                  cwi_ctx_tables *t)
{
    table parts[CWI_CONTEXTS];
    cwi_bit_reader r = {.next = in, .end = end};
    t->mode = (unsigned)cwi_bits_get(&r, 4);
    t->model.symbols = (unsigned)cwi_bits_get(&r, 4) + 1;
    t->classes = classes;
    if (t->mode > 3 || r.short_of)
        return NULL;
    memset(classes, 0, shape->channels);
    if (t->model.symbols == 1)
        return r.next;
    for (size_t c = 0; t->mode & CWI_CTX_BY_CLASS && c < shape->channels; c++)
        classes[c] = (uint8_t)cwi_bits_get(&r, 2);
    for (unsigned i = 0; i < cwi_ctx_table_count(t->mode); i++)
        if (!get_table(&r, t->model.symbols, parts[i]))
            return NULL;
    for (unsigned c = 0; c < CWI_CONTEXTS; c++)
        set_table(&t->model, c, parts[cwi_ctx_table_of(t->mode, c)]);
    return r.short_of ? NULL : r.next;
}
