/* ec_levels.c - the encoder of ec: what symbols come back as, in their contexts, and the error that leaves. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "codec/bits.h"
#include "codec/ec_plan.h"

/* ---- levels of classes ---- */

#define CWI_CTX_MOST 3.99f /* magnitudes that do not matter are taken for this */

static uint16_t magnitude_of(float x, const cwi_ec_quant *q)
{
    const float v = fabsf(x) * q->pre * q->scale;
    return (uint16_t)(int32_t)((v < CWI_CTX_MOST ? v : CWI_CTX_MOST) * CWI_CTX_ONE);
}

static void magnitudes_of(const float *x, size_t n, const cwi_ec_quant *q, uint16_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = magnitude_of(x[i], q);
}

/* As its energy goes, in whole numbers; 1 where there is one segment. */
static unsigned weight_of(const cwi_ec_encoding *e, size_t segment)
{
    enum { ONE = 8, MOST = 1 << 15 };
    if (e->layout.segments == 1)
        return 1;
    const double part = e->loudest > 0 ? e->rms[segment] / e->loudest : 0;
    return (unsigned)CWI_MIN(ONE * e->loudest_weight * part * part + 0.5, (double)MOST);
}

/* Of one segment, by copies. */
static void magnitudes_apart(const cwi_ec_encoding *e, size_t first, size_t stride, size_t n, uint16_t *out)
{
    enum { SOME = 32 };
    const cwi_ec_quant q = cwi_ec_quant_of(e, 0);
    for (size_t done = 0; done < n; done += SOME) {
        const size_t here = CWI_MIN((size_t)SOME, n - done);
        float x[SOME], one[1];
        uint8_t symbols[SOME];
        for (size_t i = 0; i < here; i++) {
            const size_t at = first + (done + i) * stride;
            x[i] = *cwi_source_get(&e->job->source, at, 1, one);
            symbols[i] = e->symbols[at];
        }
        if (e->about)
            e->job->kernels->ec.places(x, symbols, here, &q, e->zero, out + done);
        else
            magnitudes_of(x, here, &q, out + done);
    }
}

unsigned cwi_ec_magnitudes(const void *of, size_t first, size_t stride, size_t n, uint16_t *out)
{
    const cwi_ec_encoding *e = of;
    float chunk[CWI_CHUNK];
    if (stride > 1) {
        magnitudes_apart(e, first, stride, n, out);
        return e->first.scale > 0;
    }
    const unsigned weight = weight_of(e, cwi_ec_segment_of(e, first));
    while (n > 0) {
        const size_t segment = cwi_ec_segment_of(e, first), here = CWI_MIN(n, (segment + 1) * e->layout.length - first);
        const cwi_ec_quant q = cwi_ec_quant_of(e, segment);
        if (q.scale == 0)
            return 0;
        const float *x = cwi_source_get(&e->job->source, first, here, chunk);
        if (e->about)
            e->job->kernels->ec.places(x, e->symbols + first, here, &q, e->zero, out);
        else
            magnitudes_of(x, here, &q, out);
        first += here;
        out += here;
        n -= here;
    }
    return weight;
}

static int8_t parts_of(float symbol)
{
    return (int8_t)(int)(CWI_MIN(CWI_MAX(symbol, 0.0f) * CWI_CTX_PARTS + 0.5f, (float)CWI_CTX_PARTS_MOST));
}

/* A row; magnitudes of 8 and more are as their symbols have them. */
static void expect_row(const cwi_ec_encoding *e, const cwi_ec_quant *q, size_t first, size_t n, int8_t *out)
{
    float chunk[CWI_CTX_WIDTH];
    const float *x = cwi_source_get(&e->job->source, first, n, chunk), zero = (float)e->zero;
    const uint8_t *symbols = e->symbols + first;
    if (e->about)
        for (size_t i = 0; i < n; i++)
            out[i] = parts_of(x[i] * q->pre * q->scale + zero);
    else
        for (size_t i = 0; i < n; i++)
            out[i] = symbols[i] < CWI_EC_EXACT ? parts_of(fabsf(x[i]) * q->pre * q->scale) : out[i];
}

void cwi_ec_expected(const void *of, size_t first, const size_t *row, size_t rows, size_t width, int8_t *out)
{
    const cwi_ec_encoding *e = of;
    for (size_t i = 0; i < rows; i++) {
        const size_t at = first + row[i];
        const cwi_ec_quant q = cwi_ec_quant_of(e, cwi_ec_segment_of(e, at));
        if (q.scale > 0)
            expect_row(e, &q, at, width, out + i * width);
    }
}

/* What is left of the squares of elements that come back as their mean, or with `at_zero` as 0. */
static double spread(const cwi_ctx_moment *m, bool at_zero)
{
    const double sum = (double)m->sum, mean = m->count && !at_zero ? sum / (double)m->count : 0;
    return (double)m->square - mean * sum;
}

static cwi_ctx_moment of_all_classes(const cwi_ctx_moments *m, unsigned symbol)
{
    cwi_ctx_moment all = {0};
    for (unsigned c = 0; c < CWI_CTX_CLASSES; c++)
        cwi_ctx_moment_add(&all, &m->of[c][symbol]);
    return all;
}

/* Whether moments are of all elements: of a sample, by how many there are of each kind, or of these themselves. */
static bool knows_all(const cwi_ctx_encoder *ctx)
{
    return ctx->moments.weight == ctx->shape.elements;
}

/* How many elements stand for one of the sample. */
static double times_sampled(const cwi_ctx_encoder *ctx)
{
    return (double)ctx->moments.weight / (double)CWI_MAX(ctx->moments.elements, UINT64_C(1));
}

/* The same of all elements of which `m` is a sample: they lie farther from its mean than itself does. `all` is of all
 * classes; each element of the sample is in them `times`. */
static double spread_of_more(const cwi_ctx_moment *m, const cwi_ctx_moment *all, double times)
{
    const double n = (double)m->count / times;
    return n > 1 ? spread(m, false) * (n + 1) / (n - 1)
                 : n * times * spread(all, false) / CWI_MAX((double)all->count, 1.0);
}

/* Whether the plan at hand should have levels of classes, and which error it has then. `tried`: on a part alone. */
static void weigh_classes(cwi_ec_encoding *e, bool tried)
{
    const cwi_ctx_encoder *ctx = &e->ctx;
    /* A sample may have more or less in it than the rest has. */
    const bool sampled = ctx->moments.elements < ctx->shape.elements;
    const double times = knows_all(ctx) ? times_sampled(ctx) : 1;
    double saved = 0, plain = 0;
    e->classes = false;
    if (!ctx->magnitudes || e->stats->doubtful || ctx->tables.mode == CWI_CTX_PLAIN || ctx->moments.weight == 0)
        return;
    for (unsigned s = 0; s < CWI_CTX_CLASSED; s++) {
        const cwi_ctx_moment all = of_all_classes(&ctx->moments, s);
        plain += spread(&all, s == 0);
        saved += spread(&all, s == 0);
        for (unsigned c = 0; c < CWI_CTX_CLASSES; c++) {
            const cwi_ctx_moment *own = &ctx->moments.of[c][s];
            const bool at_zero = s == 0 && e->is_signed;
            saved -= sampled && !at_zero ? spread_of_more(own, &all, times) : spread(own, at_zero);
        }
    }
    const double large = cwi_ec_error_from(e->stats, e->step, false, CWI_CTX_CLASSED, NULL);
    const double unit = e->step * e->step / ((double)CWI_CTX_ONE * CWI_CTX_ONE * (double)ctx->moments.weight);
    const double small = sampled ? cwi_ec_error(e->stats, e->step, false, NULL) - large : plain * unit;
    if (sampled && !tried && fabs(plain * unit - small) > 0.1 * small)
        return; /* most of the error is in few places, which the sample has too many or too few of */
    e->error = large + (plain > 0 ? small * CWI_MAX(plain - saved, 0.0) / plain : small);
    /* Measured on maps: an element takes 0.4 bits more where the error is to be half as large. */
    const double octaves = e->error > 0 ? 0.5 * log2((small + large) / e->error) : 0;
    e->classes = 0.4 * octaves * (double)e->layout.elements > 1.5 * 8 * CWI_EC_CLASS_LEVELS;
}

/* ---- levels of symbols about a zero ---- */

static const double half = 0.5 * CWI_CTX_ONE;

/* Of squares of symbols that come back half a step above their lower ends. */
static double spread_about_middle(const cwi_ctx_moment *m)
{
    return (double)m->square - 2 * half * (double)m->sum + half * half * (double)m->count;
}

/* The same moments of magnitudes. */
static cwi_ctx_moment mirrored(const cwi_ctx_moment *m)
{
    const uint64_t all = m->count * CWI_CTX_ONE, more = all * CWI_CTX_ONE + m->square, less = 2 * CWI_CTX_ONE * m->sum;
    return (cwi_ctx_moment){.count = m->count, /* sums may be rounded */
                            .sum = all > m->sum ? all - m->sum : 0,
                            .square = more > less ? more - less : 0};
}

/* What would be left with one level for each magnitude, which is what the histogram knows. */
static double spread_of_magnitudes(const cwi_ec_encoding *e)
{
    double left = 0;
    for (unsigned s = 0; s < CWI_SYMBOLS; s++) {
        cwi_ctx_moment all = of_all_classes(&e->ctx.moments, s);
        const unsigned mirror = 2 * e->zero - s;
        if (s < e->zero && s > 0 && mirror < CWI_ABOUT_TOP)
            continue; /* with its mirror image */
        if (s == e->zero || s >= e->zero + CWI_EC_EXACT || cwi_about_is_tail(s, e->zero)) {
            left += spread_about_middle(&all);
            continue;
        }
        if (2 * e->zero > s && mirror > 0 && mirror < s) {
            const cwi_ctx_moment below = of_all_classes(&e->ctx.moments, mirror);
            const cwi_ctx_moment same = mirrored(&below);
            cwi_ctx_moment_add(&all, &same);
        }
        left += spread(&all, false);
    }
    return left;
}

/* The mean in parts of a step, as a whole number. */
static unsigned about_level(const cwi_ctx_moment *m, unsigned parts)
{
    const double place = m->count ? (double)m->sum / (double)m->count / CWI_CTX_ONE : 0.5;
    return (unsigned)CWI_MIN(CWI_MAX(floor(place * parts + 0.5), 0.0), parts - 1.0);
}

/* What a class with a level of its own leaves less, and *left what all leave. */
static void choose_own(cwi_ec_encoding *e, unsigned s, double price, double *left)
{
    enum { FEW = 64 /* elements of a sample, which tell nothing of others */ };
    const cwi_ctx_moment all = of_all_classes(&e->ctx.moments, s);
    const double mean = all.count ? (double)all.sum / (double)all.count : half;
    const bool sampled = e->ctx.moments.elements < e->ctx.shape.elements;
    if (sampled && (double)all.count < FEW * times_sampled(&e->ctx)) {
        *left += spread_about_middle(&all);
        return;
    }
    e->own.common[s] = (uint16_t)about_level(&all, CWI_ABOUT_FINE);
    *left += spread(&all, false);
    for (unsigned c = 0; c < CWI_CTX_CLASSES && e->ctx.tables.mode != CWI_CTX_PLAIN; c++) {
        const cwi_ctx_moment *m = &e->ctx.moments.of[c][s];
        if (m->count < 2)
            continue;
        const unsigned level = about_level(m, CWI_ABOUT_COARSE);
        const double n = (double)m->count, own = (double)m->sum / n, off = own - mean;
        const double missed = own - (double)level * CWI_CTX_ONE / CWI_ABOUT_COARSE;
        const double unsure = sampled ? 2 * times_sampled(&e->ctx) : 0;
        const double gain = n * (off * off - missed * missed) - unsure * spread(m, false) / (n - 1);
        if (gain < price)
            continue;
        e->own.has[c][s] = true;
        e->own.own[c][s] = (uint8_t)level;
        e->own.count++;
        *left -= gain;
    }
}

/* What a sample tells by itself, and in proportion to the histogram. Where that is doubtful, and how many there are of
 * each kind is not known, the truth is between, since a large sample lacks some of what is rare; but where it is of a
 * part that has more of the error than its share, or less, it tells the proportion alone. */
static double error_of_all(const cwi_ec_encoding *e, bool tried, double by_itself, double in_proportion)
{
    const double most = 0.02 * by_itself, part = 1.0 / 3;
    if (knows_all(&e->ctx) || e->ctx.whole)
        return by_itself;
    if (!e->ctx.dense || (tried && fabs(by_itself - in_proportion) > 3 * most))
        return in_proportion;
    return by_itself + part * CWI_MIN(CWI_MAX(in_proportion - by_itself, 0.0), most);
}

/* What elements of the sample lie nearer to the middles of their steps than all do: on few of these, which it may not
 * have, much may depend. */
static double missed_by_sample(const cwi_ec_encoding *e)
{
    const double one = (double)CWI_CTX_ONE / CWI_EC_SPREAD;
    double sampled = 0;
    if (!knows_all(&e->ctx) || e->ctx.moments.elements == e->ctx.shape.elements)
        return 0;
    for (unsigned s = 0; s < CWI_SYMBOLS; s++) {
        const cwi_ctx_moment all = of_all_classes(&e->ctx.moments, s);
        sampled += cwi_about_is_tail(s, e->zero) ? 0 : spread_about_middle(&all);
    }
    return one * one * (double)cwi_ec_spread_of(e) - sampled;
}

/* Levels of symbols, and of classes where they pay, and the error with them. */
static void weigh_about(cwi_ec_encoding *e, bool tried)
{
    const cwi_ctx_moments *m = &e->ctx.moments;
    cwi_about_levels_clear(&e->own);
    e->classes = false;
    e->error = cwi_ec_error(e->stats, e->step, false, NULL);
    if (!e->ctx.magnitudes || m->weight == 0)
        return;
    const double plain = spread_of_magnitudes(e);
    /* Measured on maps: an element takes 0.4 bits more where the error is to be half as large. */
    const double price = 12 / (0.4 * 0.5 * 1.44) * plain / (double)e->layout.elements;
    double left = 0;
    for (unsigned s = 0; s < CWI_SYMBOLS; s++) {
        const cwi_ctx_moment all = of_all_classes(m, s);
        if (cwi_about_is_tail(s, e->zero))
            left += spread_about_middle(&all);
        else
            choose_own(e, s, price, &left);
    }
    e->classes = e->own.count > 0;
    const double missed = missed_by_sample(e), part = 0.05;
    const double unit = e->step * e->step / ((double)CWI_CTX_ONE * CWI_CTX_ONE * (double)m->weight);
    const double by_itself = (left + missed) * unit, in_proportion = plain > 0 ? e->error * left / plain : by_itself;
    const bool unlike =
        fabs(missed) > part * left; /* few elements hold most: what promises more will not promise less */
    e->error = unlike ? CWI_MAX(by_itself, in_proportion) : error_of_all(e, tried, by_itself, in_proportion);
}

/* The error with a profile's levels. */
static void weigh_given(cwi_ec_encoding *e, bool tried)
{
    const cwi_ctx_moments *m = &e->ctx.moments;
    const cwi_about_levels *l = &e->profile->levels;
    e->classes = e->profile->classes;
    e->error = cwi_ec_error(e->stats, e->step, false, NULL);
    if (m->weight == 0)
        return;
    double left = 0;
    for (unsigned s = 0; s < CWI_SYMBOLS; s++)
        for (unsigned c = 0; c < CWI_CTX_CLASSES; c++) {
            const cwi_ctx_moment *of = &m->of[c][s];
            const double level =
                ((double)cwi_about_level(l, c, s, e->zero) + 0.5 - ((int)s - (int)e->zero)) * CWI_CTX_ONE;
            left += cwi_about_is_tail(s, e->zero)
                        ? spread_about_middle(of)
                        : (double)of->square - 2 * level * (double)of->sum + level * level * (double)of->count;
        }
    const double plain = spread_of_magnitudes(e);
    const double unit = e->step * e->step / ((double)CWI_CTX_ONE * CWI_CTX_ONE * (double)m->weight);
    e->error = error_of_all(e, tried, left * unit, plain > 0 ? e->error * left / plain : left * unit);
}

uint8_t cwi_ec_class_level(const cwi_ec_encoding *e, unsigned class, unsigned symbol)
{
    const cwi_ctx_moment all = of_all_classes(&e->ctx.moments, symbol), *own = &e->ctx.moments.of[class][symbol];
    const cwi_ctx_moment *m = own->count ? own : &all;
    if (symbol == 0 && e->is_signed)
        return 0;
    return cwi_ec_level_put(symbol, m->count ? (double)m->sum / (double)m->count / CWI_CTX_ONE : symbol);
}

void cwi_ec_weigh_levels(cwi_ec_encoding *e, bool tried)
{
    if (e->profile)
        weigh_given(e, tried);
    else if (e->about)
        weigh_about(e, tried);
    else
        weigh_classes(e, tried);
}
