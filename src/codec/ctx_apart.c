/* ctx_apart.c - see ctx_apart.h. */
#include <math.h>
#include <string.h>

#include "codec/ctx_apart.h"

enum {
    BIN_OF_ONE = 16, /* of an error of 1 */
    REACH = 5,       /* standard deviations of predictions that a window is to hold */
};

/* What windows promise is worth trying from here on, as a part of the bits without. */
#define BELOW 0.99

static unsigned bin_of(double error)
{
    int exponent;
    const double fraction = frexp(CWI_MAX(error, 0x1p-20), &exponent); /* 0.5 .. 1 */
    const int bin = BIN_OF_ONE - 2 + 2 * exponent + (fraction * fraction >= 0.5);
    return (unsigned)CWI_MIN(CWI_MAX(bin, 0), CWI_CTX_BINS - 1);
}

double cwi_ctx_bits_of(double error)
{
    return 0.5 * log2(1 + 12 * error);
}

uint8_t cwi_ctx_bin_add(cwi_ctx_bin bins[CWI_CTX_BINS], cwi_var_moments m, double error)
{
    const unsigned i = bin_of(error);
    cwi_var_near_moments_add(bins[i].m, m);
    bins[i].error += error;
    bins[i].channels++;
    return (uint8_t)i;
}

/* Channels of bins that follow each other: elements in the sample, their mean and variance, and the error. */
typedef struct crowd {
    double n, mean, variance, error;
} crowd;

/* Classes of bins, and each one's window. */
typedef struct parting {
    unsigned classes;
    double bits;                        /* about what all elements of the sample take */
    unsigned begin[CWI_CTX_SHARED + 1]; /* each class's first bin; and where the last one ends */
    cwi_ctx_view view[CWI_CTX_SHARED];
} parting;

/* The i-th of `classes` windows. */
static cwi_ctx_view view_of(const crowd *c, const cwi_ctx_view *all, unsigned i, unsigned classes)
{
    const double foretold = sqrt(CWI_MAX(c->variance - c->error, 0.0));
    const double width = (double)(CWI_CONTEXTS << CWI_CTX_SHIFT) / classes;
    cwi_ctx_view v = {.scale = CWI_MIN(all->scale, width / (REACH * foretold + 1e-6))};
    v.low = c->mean - width * (i + 0.5) / v.scale;
    return classes == 1 ? *all : v;
}

/* Of all its elements. A context is a range of predictions, within which the error is larger. */
static double bits_in(const crowd *c, const cwi_ctx_view *all, unsigned classes)
{
    const cwi_ctx_view v = view_of(c, all, 0, classes);
    const double range = (1 << CWI_CTX_SHIFT) / v.scale;
    return c->n * cwi_ctx_bits_of(c->error + range * range / 12);
}

/* The bins before one in so many classes: their fewest bits, and where the last class begins. */
typedef struct best {
    double bits;
    unsigned begin;
} best;

/* The best parting of so many bins, none of which is empty, in as many classes as are asked for, at most `bins`; a
 * single one has all contexts, which is `all`. `of[a][b]` are bins a to b. */
static void part(crowd of[CWI_CTX_BINS][CWI_CTX_BINS], unsigned bins, const cwi_ctx_view *all, unsigned classes,
                 parting *out)
{
    best least[CWI_CTX_SHARED + 1][CWI_CTX_BINS + 1];
    for (unsigned k = 0; k <= classes; k++)
        for (unsigned end = 0; end <= bins; end++)
            least[k][end] = (best){k == 0 && end == 0 ? 0 : INFINITY, 0};
    for (unsigned begin = 0; begin < bins; begin++)
        for (unsigned end = begin + 1; end <= bins; end++) {
            const double bits = bits_in(&of[begin][end - 1], all, classes);
            for (unsigned k = 1; k <= classes; k++)
                if (least[k - 1][begin].bits + bits < least[k][end].bits)
                    least[k][end] = (best){least[k - 1][begin].bits + bits, begin};
        }
    out->classes = classes;
    out->bits = least[classes][bins].bits;
    out->begin[classes] = bins;
    for (unsigned k = classes; k-- > 0;) {
        const unsigned end = out->begin[k + 1];
        out->begin[k] = least[k + 1][end].begin;
        out->view[k] = view_of(&of[out->begin[k]][end - 1], all, k, classes);
    }
}

/* Of a channel's set that was made for `all`. */
static void set_view(cwi_ctx_set *set, const cwi_ctx_view *all, const cwi_ctx_view *view, unsigned zero)
{
    const double times = view->scale / all->scale;
    double bias = (set->bias + all->low * all->scale) * times - view->low * view->scale;
    for (unsigned i = 0; i < CWI_CTX_NEAR + (unsigned)set->refs; i++) {
        const double weight = set->weight[i] * times;
        set->weight[i] = cwi_ctx_whole(weight, CWI_CTX_WEIGHT_MOST);
        bias += (weight - set->weight[i]) * zero;
    }
    set->bias = cwi_ctx_whole(bias, CWI_CTX_BIAS_MOST);
}

/* Bins that have any channels, of those that predict from neighbours alone or from all that they have: */
typedef struct crowds {
    const cwi_ctx_bin *bins;
    bool own; /* channels have sets of their own, not one for each class */
    unsigned count;
    uint8_t bin[CWI_CTX_BINS], number[CWI_CTX_BINS]; /* which ones, and of these their numbers */
    crowd of[CWI_CTX_BINS][CWI_CTX_BINS];
} crowds;

static void begin_crowds(crowds *c, const cwi_ctx_bin *bins, bool own)
{
    c->bins = bins;
    c->own = own;
    c->count = 0;
    for (unsigned i = 0; i < CWI_CTX_BINS; i++) {
        c->number[i] = (uint8_t)c->count;
        c->bin[c->count] = (uint8_t)i;
        c->count += bins[i].channels > 0;
    }
}

/* Bits of the sample without windows, and with one for each bin that were as large as all: no parting has fewer. */
static void bound(const cwi_ctx_apart *a, const crowds *c, double *whole, double *least)
{
    const double range = (1 << CWI_CTX_SHIFT) / a->all.scale, within = range * range / 12;
    double error = 0, n = 0;
    *least = 0;
    for (unsigned i = 0; i < c->count; i++) {
        const cwi_ctx_bin *b = &c->bins[c->bin[i]];
        error += b->error;
        n += (double)b->channels;
        *least += a->n * (double)b->channels * cwi_ctx_bits_of(b->error / (double)b->channels + within);
    }
    *whole = a->n * n * cwi_ctx_bits_of(error / CWI_MAX(n, 1.0) + within);
}

/* Bins [begin, end) of those that have any, with what foretells them. */
static void join_bins(const crowds *c, unsigned begin, unsigned end, cwi_var_moments m, cwi_regression *r)
{
    memset(m, 0, sizeof(cwi_var_moments));
    for (unsigned i = begin; i < end; i++)
        cwi_var_moments_add(m, c->bins[c->bin[i]].m);
    cwi_regression_set_up(r, m, CWI_MAX(m[CWI_VAR_ONE][CWI_VAR_ONE], 1.0), CWI_VAR_FIRST);
    cwi_regression_choose_near(r);
}

static void measure_crowds(crowds *c)
{
    cwi_var_moments m;
    cwi_regression r;
    for (unsigned first = 0; first < c->count; first++) {
        double error = 0, channels = 0;
        for (unsigned last = first; last < c->count; last++) {
            error += c->bins[c->bin[last]].error;
            channels += (double)c->bins[c->bin[last]].channels;
            join_bins(c, first, last + 1, m, &r);
            const double n = m[CWI_VAR_ONE][CWI_VAR_ONE], mean = m[CWI_VAR_ONE][CWI_VAR_TARGET] / n;
            c->of[first][last] = (crowd){.n = n,
                                         .mean = mean,
                                         .variance = m[CWI_VAR_TARGET][CWI_VAR_TARGET] / n - mean * mean,
                                         .error = c->own ? error / channels : cwi_regression_error(&r)};
        }
    }
}

/* The parting of fewest bits in two classes or more, if any may be worth it, and the bits without: *whole. */
static void part_bins(const cwi_ctx_apart *a, crowds *c, double *whole, parting *out)
{
    parting p;
    double least;
    const double times = (double)(a->shape->elements / a->shape->channels) / a->n;
    bound(a, c, whole, &least);
    out->bits = INFINITY;
    *whole *= times;
    if (times * least > BELOW * *whole)
        return;
    measure_crowds(c);
    for (unsigned classes = 2; classes <= CWI_MIN(c->count, (unsigned)CWI_CTX_SHARED); classes++) {
        part(c->of, c->count, &a->all, classes, &p);
        p.bits *= times;
        if (!c->own)
            p.bits += (double)a->shape->channels * log2(classes) + CWI_CTX_NUMBER_BITS * CWI_VAR_TARGET * (classes - 1);
        if (p.bits < out->bits)
            *out = p;
    }
}

static unsigned class_of(const parting *p, unsigned number)
{
    unsigned i = 0;
    while (number >= p->begin[i + 1])
        i++;
    return i;
}

static void part_own(const cwi_ctx_apart *a, const crowds *c, const parting *p, const cwi_ctx_tables *fitted,
                     cwi_ctx_tables *t)
{
    t->mode = CWI_CTX_OWN;
    for (size_t i = 0; i < a->shape->channels; i++) {
        t->sets[i] = fitted->sets[i];
        set_view(&t->sets[i], &a->all, &p->view[class_of(p, c->number[a->of_own[i]])], t->zero);
    }
}

static void part_shared(const cwi_ctx_apart *a, const crowds *c, const parting *p, cwi_ctx_tables *t)
{
    cwi_var_moments m;
    cwi_regression r;
    t->mode = CWI_CTX_SHARE;
    t->shared = p->classes;
    for (size_t i = 0; i < a->shape->channels; i++)
        t->of[i] = (uint8_t)class_of(p, c->number[a->of_near[i]]);
    for (unsigned i = 0; i < p->classes; i++) {
        join_bins(c, p->begin[i], p->begin[i + 1], m, &r);
        cwi_regression_put(&r, &p->view[i], t->zero, NULL, &t->sets[i]);
    }
}

bool cwi_ctx_apart_fit(const cwi_ctx_apart *a, const cwi_ctx_tables *fitted, cwi_ctx_tables *t)
{
    crowds own, shared;
    parting by_own = {.bits = INFINITY}, by_shared;
    double whole, whole_own;
    begin_crowds(&shared, a->near, false);
    part_bins(a, &shared, &whole, &by_shared);
    if (cwi_ctx_may_own(a->shape)) {
        const double sets = (double)cwi_ctx_weights_bits(fitted, a->shape);
        begin_crowds(&own, a->own, true);
        part_bins(a, &own, &whole_own, &by_own);
        whole = CWI_MIN(whole, whole_own + sets);
        by_own.bits += sets;
    }
    if (CWI_MIN(by_own.bits, by_shared.bits) > BELOW * whole)
        return false;
    if (by_own.bits < by_shared.bits)
        part_own(a, &own, &by_own, fitted, t);
    else
        part_shared(a, &shared, &by_shared, t);
    return true;
}
