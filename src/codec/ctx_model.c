/* ctx_model.c - probability tables: chosen from counts, written, read. */
#include <math.h>
#include <pthread.h>

#include "codec/bits.h"
#include "codec/ctx.h"

enum {
    GAMMA_MOST = CWI_CTX_BITS,
    CONTEXT_BITS = 6,
    MODE_COARSE = 4,  /* beside a mode: tables are coarse */
    COARSE_SHIFT = 4, /* then what has parts has multiples of 16 */
    GAP_BITS = 6,     /* and about what it takes to say which context has one; of the first one, how many there are */
};

/* ---- one table ---- */

typedef uint32_t table[CWI_SYMBOLS];

static unsigned largest(const uint32_t *v, unsigned symbols)
{
    unsigned best = 0;
    for (unsigned s = 1; s < symbols; s++)
        best = v[s] > v[best] ? s : best;
    return best;
}

/* Counts to parts of CWI_CTX_WHOLE; what occurs gets at least one, or where they are coarse of 16. Only those of
 * `symbols` are anything. */
static void normalize(const table count, unsigned symbols, bool coarse, table part)
{
    const double slack = 1 + 0x1p-45; /* whole parts stay whole */
    const unsigned shift = coarse ? COARSE_SHIFT : 0;
    uint64_t total = 0;
    uint32_t given = 0;
    for (unsigned s = 0; s < symbols; s++)
        total += count[s];
    const double each = total ? (CWI_CTX_WHOLE >> shift) * slack / (double)total : 0, half = coarse ? 0.5 : 0;
    for (unsigned s = 0; s < symbols; s++) {
        const uint32_t share = (uint32_t)(count[s] * each + half);
        part[s] = (count[s] && !share ? 1 : share) << shift;
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

static unsigned fine_bits(const table part, unsigned symbols)
{
    const unsigned big = largest(part, symbols);
    unsigned bits = 4;
    for (unsigned s = 0; s < symbols; s++)
        bits += s != big ? gamma_bits(part[s] + 1) : 0;
    return bits;
}

/* A coarse table's parts are written from the greatest one outwards: of the symbols below it, then of those above, and
 * after each 0 whether all the rest on that side are. The sides of a greatest one: */
typedef struct table_side {
    int first, step, end;
} table_side;

static table_side side_of(unsigned big, unsigned symbols, bool above)
{
    return above ? (table_side){(int)big + 1, 1, (int)symbols} : (table_side){(int)big - 1, -1, -1};
}

static bool is_empty(const table part, int first, const table_side *of)
{
    for (int s = first; s != of->end; s += of->step)
        if (part[s])
            return false;
    return true;
}

static unsigned coarse_bits(const table part, unsigned symbols)
{
    const unsigned big = largest(part, symbols);
    unsigned bits = 4 + GAP_BITS;
    for (unsigned above = 0; above < 2; above++) {
        const table_side side = side_of(big, symbols, above);
        for (int s = side.first; s != side.end; s += side.step) {
            bits += gamma_bits((part[s] >> COARSE_SHIFT >> 1) + 1) + 1;
            if (part[s] || s + side.step == side.end)
                continue;
            bits++;
            if (is_empty(part, s, &side))
                break;
        }
    }
    return bits;
}

/* Bits of the symbols counted, and of the table. */
static double cost(const table count, const table part, unsigned symbols, bool coarse)
{
    double bits = coarse ? coarse_bits(part, symbols) : fine_bits(part, symbols);
    for (unsigned s = 0; s < symbols; s++)
        if (count[s])
            bits += count[s] * (double)part_bits[part[s]];
    return bits;
}

/* ---- merging neighbouring contexts while that makes the whole shorter ---- */

typedef struct runs {
    unsigned symbols, count;
    bool coarse, plain;
    unsigned first[CWI_CONTEXTS]; /* context of each run */
    table counts[CWI_CONTEXTS];
    double bits[CWI_CONTEXTS]; /* of each run */
    double gain[CWI_CONTEXTS]; /* of merging it with the next one */
} runs;

static double bits_of(const runs *r, const table counts)
{
    table part;
    normalize(counts, r->symbols, r->coarse, part);
    return cost(counts, part, r->symbols, r->coarse);
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
static void begin_runs(runs *r, cwi_ctx_counts counts, unsigned symbols, bool coarse)
{
    enum { SELDOM = 8 };
    uint32_t before = UINT32_MAX;
    memset(r, 0, sizeof *r);
    r->symbols = symbols;
    r->coarse = coarse;
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
        normalize(r->counts[i], r->symbols, r->coarse, part);
        for (unsigned c = r->first[i]; c < end; c++)
            set_table(&t->model, c, part);
    }
}

/* The best ones of this kind, which are one for all where that is no longer, and their bits with those of weights. */
static double choose_runs(runs *r, cwi_ctx_counts counts, unsigned symbols, bool coarse, double weights)
{
    double bits = weights + (coarse ? 0 : CWI_CONTEXTS - 1);
    begin_runs(r, counts, symbols, coarse);
    merge_runs(r);
    for (unsigned i = 0; i < r->count; i++)
        bits += r->bits[i];
    runs one = *r;
    merge_all(&one);
    if (one.bits[0] > bits)
        return bits;
    *r = one;
    r->plain = true;
    return one.bits[0];
}

double cwi_ctx_choose(const cwi_ctx_shape *shape, cwi_ctx_counts counts, bool may_be_coarse, cwi_ctx_tables *t)
{
    runs r, coarse;
    pthread_once(&part_bits_once, find_part_bits);
    t->model.symbols = symbols_in(counts);
    const double weights = (double)cwi_ctx_weights_bits(t, shape);
    double bits = choose_runs(&r, counts, t->model.symbols, false, weights);
    if (may_be_coarse) {
        const double bits_coarse = choose_runs(&coarse, counts, t->model.symbols, true, weights);
        if (bits_coarse < bits) {
            bits = bits_coarse;
            r = coarse;
        }
    }
    t->coarse = r.coarse;
    if (r.plain)
        t->mode = CWI_CTX_PLAIN;
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
        normalize(counts[c], CWI_SYMBOLS, false, part);
        for (unsigned s = 0; s < CWI_SYMBOLS; s++)
            bits += counts[c][s] * (double)part_bits[part[s]];
    }
    return bits;
}

/* ---- bytes: mode and symbols | weights | which contexts have tables | the tables ---- */

size_t cwi_ctx_tables_bound(const cwi_ctx_shape *shape)
{
    const size_t number = 16, table_bits = 4 + (CWI_SYMBOLS - 1) * (2 * CWI_CTX_BITS + 1); /* more than coarse ones */
    const size_t set = CWI_CTX_REFS * 16 + 3 + (CWI_CTX_WEIGHTS + 1) * number;
    const size_t weights = cwi_ctx_may_own(shape) ? shape->channels * set : 3 * shape->channels;
    return 64 + (weights + CWI_CTX_SHARED * set + CWI_CONTEXTS * (table_bits + 1)) / 8;
}

static void put_fine(cwi_bit_writer *w, const table part, unsigned symbols)
{
    const unsigned big = largest(part, symbols);
    cwi_bits_put(w, big, 4);
    for (unsigned s = 0; s < symbols; s++)
        if (s != big)
            cwi_gamma_put(w, part[s] + 1);
}

static void put_coarse(cwi_bit_writer *w, const table part, unsigned symbols)
{
    const unsigned big = largest(part, symbols);
    cwi_bits_put(w, big, 4);
    for (unsigned above = 0; above < 2; above++) {
        const table_side side = side_of(big, symbols, above);
        for (int s = side.first; s != side.end; s += side.step) {
            const uint32_t v = part[s] >> COARSE_SHIFT;
            cwi_gamma_put(w, (v >> 1) + 1);
            cwi_bits_put(w, v & 1, 1);
            if (v || s + side.step == side.end)
                continue;
            const bool rest = is_empty(part, s, &side);
            cwi_bits_put(w, rest, 1);
            if (rest)
                break;
        }
    }
}

/* Which contexts have tables, but for the first: a bit each; of coarse ones their number, and how far each is from the
 * one before. */
static void put_fresh(cwi_bit_writer *w, const cwi_ctx_tables *t)
{
    unsigned count = 0, before = 0;
    for (unsigned c = 1; c < CWI_CONTEXTS; c++)
        count += t->fresh[c];
    if (t->coarse)
        cwi_gamma_put(w, count + 1);
    for (unsigned c = 1; c < CWI_CONTEXTS; c++) {
        if (!t->coarse) {
            cwi_bits_put(w, t->fresh[c], 1);
        } else if (t->fresh[c]) {
            cwi_gamma_put(w, c - before);
            before = c;
        }
    }
}

uint8_t *cwi_ctx_tables_put(const cwi_ctx_tables *t, const cwi_ctx_shape *shape, uint8_t *out)
{
    cwi_bit_writer w = {.next = out};
    cwi_bits_put(&w, t->mode | (t->coarse ? MODE_COARSE : 0u), 4);
    cwi_bits_put(&w, t->model.symbols - 1, 4);
    if (t->model.symbols == 1)
        return cwi_bits_finish(&w);
    cwi_ctx_weights_put(t, shape, &w);
    if (t->mode != CWI_CTX_PLAIN)
        put_fresh(&w, t);
    for (unsigned c = 0; c < CWI_CONTEXTS; c++) {
        table part = {0};
        if (!t->fresh[c])
            continue;
        for (unsigned s = 0; s < t->model.symbols; s++)
            part[s] = t->model.start[s + 1][c] - (uint32_t)t->model.start[s][c];
        (t->coarse ? put_coarse : put_fine)(&w, part, t->model.symbols);
    }
    return cwi_bits_finish(&w);
}

static bool get_fine(cwi_bit_reader *r, unsigned symbols, unsigned big, table part)
{
    for (unsigned s = 0; s < symbols; s++) {
        const uint32_t v = s == big ? 1 : cwi_gamma_get(r, GAMMA_MOST);
        if (v == 0)
            return false;
        part[s] = v - 1;
    }
    return true;
}

static bool get_coarse(cwi_bit_reader *r, unsigned symbols, unsigned big, table part)
{
    for (unsigned above = 0; above < 2; above++) {
        const table_side side = side_of(big, symbols, above);
        for (int s = side.first; s != side.end; s += side.step) {
            const uint32_t high = cwi_gamma_get(r, CWI_CTX_BITS - COARSE_SHIFT - 1);
            if (high == 0)
                return false;
            const uint32_t v = (high - 1) << 1 | (uint32_t)cwi_bits_get(r, 1);
            part[s] = v << COARSE_SHIFT;
            if (v == 0 && s + side.step != side.end && cwi_bits_get(r, 1))
                break;
        }
    }
    return true;
}

/* The symbol of greatest probability has what the others leave. */
static bool get_table(cwi_bit_reader *r, unsigned symbols, bool coarse, table part)
{
    const unsigned big = (unsigned)cwi_bits_get(r, 4);
    uint32_t sum = 0;
    memset(part, 0, sizeof(table));
    if (big >= symbols || !(coarse ? get_coarse : get_fine)(r, symbols, big, part))
        return false;
    for (unsigned s = 0; s < symbols; s++)
        sum += part[s];
    if (sum >= CWI_CTX_WHOLE)
        return false;
    part[big] = CWI_CTX_WHOLE - sum;
    return true;
}

static bool get_fresh(cwi_bit_reader *r, cwi_ctx_tables *t)
{
    memset(t->fresh, 0, sizeof t->fresh);
    t->fresh[0] = true;
    if (t->mode == CWI_CTX_PLAIN)
        return true;
    for (unsigned c = 1; c < CWI_CONTEXTS && !t->coarse; c++)
        t->fresh[c] = cwi_bits_get(r, 1);
    const uint32_t count = t->coarse ? cwi_gamma_get(r, CONTEXT_BITS) : 1;
    unsigned at = 0;
    for (uint32_t i = 1; i < count; i++) {
        const uint32_t gap = cwi_gamma_get(r, CONTEXT_BITS);
        at += gap;
        if (gap == 0 || at >= CWI_CONTEXTS)
            return false;
        t->fresh[at] = true;
    }
    return count > 0;
}

const uint8_t *cwi_ctx_tables_get(const uint8_t *in, const uint8_t *end, const cwi_ctx_shape *shape, bool may_be_coarse,
                                  cwi_ctx_tables *t)
{
    table part;
    cwi_bit_reader r = {.next = in, .end = end};
    const unsigned mode = (unsigned)cwi_bits_get(&r, 4);
    t->model.symbols = (unsigned)cwi_bits_get(&r, 4) + 1;
    t->coarse = may_be_coarse && mode & MODE_COARSE;
    const unsigned plain_mode = t->coarse ? mode - MODE_COARSE : mode;
    if (plain_mode > CWI_CTX_OWN || r.short_of)
        return NULL;
    t->mode = (cwi_ctx_mode)plain_mode;
    if (t->model.symbols == 1)
        return r.next;
    if (!cwi_ctx_weights_get(&r, shape, t))
        return NULL;
    if (!get_fresh(&r, t))
        return NULL;
    for (unsigned c = 0; c < CWI_CONTEXTS; c++) {
        if (t->fresh[c] && !get_table(&r, t->model.symbols, t->coarse, part))
            return NULL;
        set_table(&t->model, c, part);
    }
    return r.short_of ? NULL : r.next;
}
