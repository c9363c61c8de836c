/* ec_quantize.c - the encoder of ec: elements to symbols at a step, and what that does to them. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "codec/bits.h"
#include "codec/ec_plan.h"

enum { DENSE_FROM = 1 << 19 }; /* elements from which on a large sample is as good as all of them */

/* ---- quantizing ---- */

float cwi_ec_step_of(const cwi_ec_encoding *e, size_t segment)
{
    if (isinf(e->step) || e->rms[segment] == 0)
        return 0;
    return (float)CWI_MAX(CWI_MIN(e->step * e->rms[segment], (double)FLT_MAX), 0x1p-149);
}

static cwi_ec_quant make_quant(const cwi_ec_encoding *e, size_t segment)
{
    const float step = cwi_ec_step_of(e, segment);
    cwi_ec_quant q = {.pre = 1, .stochastic = e->stochastic, .noise = e->noise};
    if (step > 0 && step < 0x1p-64f)
        q.pre = 0x1p86f;
    if (step > 0)
        q.scale = 1.0f / (step * q.pre);
    return q;
}

void cwi_ec_set_step(cwi_ec_encoding *e, double step)
{
    e->step = step;
    e->first = make_quant(e, 0);
    if (e->profile) {
        e->about = true;
        e->zero = e->profile->tables.zero;
        return;
    }
    e->zero = 0;
    e->about = e->may_be_about && !isinf(step) && (cwi_about_choose(e->bins, step, e->lean, &e->zero) || e->learns);
    if (e->about && e->is_signed && e->zero == 0) /* which the sample did not see */
        e->zero = 1;
    e->zero = e->about ? e->zero : 0;
}

cwi_ec_quant cwi_ec_quant_of(const cwi_ec_encoding *e, size_t segment)
{
    return segment == 0 ? e->first : make_quant(e, segment);
}

size_t cwi_ec_segment_of(const cwi_ec_encoding *e, size_t element)
{
    return e->layout.segments == 1 ? 0 : element / e->layout.length;
}

cwi_quant cwi_ec_about_quant(const cwi_ec_encoding *e, const cwi_ec_quant *q)
{
    cwi_quant out = {.pre = q->pre, .scale = q->scale, .half = 0.5f, .top = CWI_ABOUT_TOP};
    out.base = q->scale > 0 ? -(float)e->zero / q->scale : 0;
    return out;
}

static void quantize_about(cwi_ec_encoding *e, const float *x, size_t n, const cwi_ec_quant *q, uint8_t *symbols)
{
    const cwi_quant quant = cwi_ec_about_quant(e, q);
    if (q->scale == 0) { /* nothing but zeros */
        memset(symbols, (int)e->zero, n);
        return;
    }
    e->job->kernels->ec.quantize_about(x, n, &quant, symbols);
    cwi_about_tally(&quant, x, symbols, n, e->zero, &e->tails);
}

/* `n` elements from `first` on, to `symbols`. */
void cwi_ec_quantize(cwi_ec_encoding *e, size_t first, size_t n, uint8_t *symbols)
{
    const cwi_kernels *k = e->job->kernels;
    const size_t length = e->layout.length;
    const uint8_t *support = e->job->support;
    float chunk[CWI_CHUNK];
    while (n > 0) {
        const cwi_ec_quant q = cwi_ec_quant_of(e, first / length);
        for (size_t left = CWI_MIN(n, length - first % length); left > 0;) {
            const size_t m = CWI_MIN((size_t)CWI_CHUNK, left);
            const float *x = cwi_source_get(&e->job->source, first, m, chunk);
            if (e->about) {
                quantize_about(e, x, m, &q, symbols);
            } else {
                k->ec.quantize(x, m, &q, first, symbols);
                for (size_t i = 0; support && i < m; i++)
                    symbols[i] = support[first + i] ? symbols[i] : 0;
                k->ec.tally(symbols, m, &e->tally);
            }
            first += m;
            symbols += m;
            left -= m;
            n -= m;
        }
    }
}

uint64_t cwi_ec_spread_of(const cwi_ec_encoding *e)
{
    _Static_assert((int)CWI_CHUNK <= (int)CWI_EC_SPREAD_MOST, "chunks are summed up at once");
    float chunk[CWI_CHUNK];
    const cwi_ec_quant q = cwi_ec_quant_of(e, 0);
    uint64_t sum = 0;
    for (size_t done = 0; done < e->layout.elements && q.scale > 0; done += CWI_CHUNK) {
        const size_t n = CWI_MIN((size_t)CWI_CHUNK, e->layout.elements - done);
        const float *x = cwi_source_get(&e->job->source, done, n, chunk);
        sum += e->job->kernels->ec.spread(x, n, &q, e->zero);
    }
    return sum;
}

/* Bytes behind the symbols. */
size_t cwi_ec_rest(const cwi_ec_encoding *e)
{
    const cwi_ec_tally *t = &e->tally;
    if (e->about)
        return (size_t)((e->tails.bits[cwi_about_order(&e->tails)] + 7) / 8 + 4 * e->tails.escaped);
    return (size_t)((e->is_signed ? (t->coded + 7) / 8 : 0) + (t->lower + 7) / 8 + 4 * t->escaped);
}

/* Of the symbols. */
void cwi_ec_forget(cwi_ec_encoding *e)
{
    e->tally = (cwi_ec_tally){0};
    e->tails = (cwi_about_tails){.escaped = 0};
}

void cwi_ec_quantize_all(cwi_ec_encoding *e, double step)
{
    cwi_ec_set_step(e, step);
    cwi_ec_forget(e);
    cwi_ec_quantize(e, 0, e->layout.elements, e->symbols);
    if (e->about && !e->profile && !e->learns &&
        cwi_ec_rest(e) > e->layout.elements / 2) { /* a sample did not see what there is */
        e->may_be_about = false;
        cwi_ec_set_step(e, step);
        cwi_ec_forget(e);
        cwi_ec_quantize(e, 0, e->layout.elements, e->symbols);
    }
    /* those of finer steps do for long: own ones would come from symbols of which most are 0 */
    e->ctx.keep = step < 1.6 * e->fitted && e->fitted < 1.3 * step && e->zero == e->fitted_zero;
    e->ctx.keep_plain = e->ctx.keep;
    e->fitted = e->ctx.keep ? e->fitted : step;
    e->fitted_zero = e->zero;
    e->ctx.tables.zero = e->zero;
    e->ctx.classed = e->about ? CWI_SYMBOLS : CWI_CTX_CLASSED;
    e->ctx.dense =
        e->stats->doubtful && e->layout.segments == 1 && e->layout.elements > DENSE_FROM && cwi_ec_is_filled(e->stats);
    e->ctx.whole = e->stats->doubtful && !e->ctx.dense;
}

/* ---- what the step does to the tensor itself: for where its statistics are doubtful ---- */

/* Of elements that are less than CWI_EC_EXACT steps large: their magnitudes in steps, by symbol; and errors of others.
 */
typedef struct sums {
    double count[CWI_EC_EXACT], sum[CWI_EC_EXACT], square[CWI_EC_EXACT];
    double rest, energy; /* in squared steps */
} sums;

static void add_element(const cwi_ec_encoding *e, const cwi_ec_quant *q, float x, double v, double weight, size_t i,
                        sums *t)
{
    const unsigned s = e->symbols[i];
    t->energy += weight * v * v;
    if (e->stochastic ? v >= CWI_EC_ESCAPE : s == CWI_EC_ESCAPED)
        return;
    if (e->stochastic) { /* on average, so that the step does not depend on the noise */
        t->rest += weight * (v - floor(v)) * (1 - (v - floor(v)));
    } else if (s < CWI_EC_EXACT) {
        t->count[s] += weight;
        t->sum[s] += weight * v;
        t->square[s] += weight * v * v;
    } else {
        const double off = v - cwi_ec_code(q, x, i);
        t->rest += weight * off * off;
    }
}

/* The relative error (squared) of the present step and symbols, and with rounding to nearest the levels. Of the whole
 * energy, as in cwi_ec_stats. */
static double confirm(cwi_ec_encoding *e)
{
    float chunk[CWI_CHUNK];
    const size_t length = e->layout.length;
    sums t = {.energy = 0};
    double most, top;
    cwi_ec_weigh(&e->layout, e->rms, &most, &top);
    for (size_t s = 0; s < e->layout.segments; s++) {
        const double step = (double)cwi_ec_step_of(e, s), part = most > 0 ? e->rms[s] / most : 0;
        const cwi_ec_quant q = cwi_ec_quant_of(e, s);
        for (size_t done = 0; done < length && step > 0; done += CWI_CHUNK) {
            const size_t first = s * length + done, n = CWI_MIN((size_t)CWI_CHUNK, length - done);
            const float *x = cwi_source_get(&e->job->source, first, n, chunk);
            for (size_t i = 0; i < n; i++)
                add_element(e, &q, x[i], fabs((double)x[i]) / step, top * part * part, first + i, &t);
        }
    }
    double error = t.rest;
    for (unsigned s = 0; s < CWI_EC_EXACT; s++) {
        const double level = s && t.count[s] > 0 ? t.sum[s] / t.count[s] : s;
        e->level[s] = (float)level;
        error += t.square[s] - 2 * level * t.sum[s] + level * level * t.count[s];
    }
    return t.energy > 0 ? CWI_MAX(error, 0.0) / t.energy : 0;
}

/* The step, or the first of ever finer ones that keeps the error. */
double cwi_ec_confirmed(cwi_ec_encoding *e, double step, double error)
{
    enum { CLOSE = 4, TRIES = 60 };
    for (int i = 0; i < TRIES; i++) {
        cwi_ec_set_step(e, step);
        cwi_ec_quantize(e, 0, e->layout.elements, e->symbols);
        if (confirm(e) <= error * error)
            break;
        step *= i < CLOSE ? 0.992 : 0.8;
    }
    return step;
}

void cwi_ec_set_levels(cwi_ec_encoding *e)
{
    if (e->about)
        return;
    if (e->levels && e->stats->doubtful && !isinf(e->step))
        confirm(e);
    else if (e->levels)
        cwi_ec_error(e->stats, isinf(e->step) ? 1.0 : e->step, false, e->level);
}
