/* ec_encode.c - the encoder of ec: chooses a step, quantizes, and keeps the payload within what was asked for. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "codec/bits.h"
#include "codec/codec_ec.h"
#include "codec/ec.h"
#include "codec/mask.h"

enum {
    SOME = 8,         /* one sample in this many is tried first when a size is asked for */
    LEAST = 16,       /* samples of those, at least: with fewer contexts are other ones */
    ENOUGH = 1 << 17, /* elements of those, at least */
};

/* ---- sizes ---- */

/* What depends on the order, in any that a tensor may have. */
typedef struct order_sizes {
    size_t tables, blocks, work, moved; /* bytes but for blocks */
} order_sizes;

static size_t rounded(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* For elements that are moved, and their support. */
static size_t moved_size(const cwi_order *o, size_t elements, cw_dtype dtype)
{
    return cwi_order_moves(o) ? rounded(elements * cw_dtype_size(dtype)) + rounded(elements) : 0;
}

static order_sizes sizes_in_any_order(const cwi_input *in)
{
    order_sizes most = {0};
    for (cwi_order_id id = {.name = CWI_ORDER_AUTO}; in->elements && cwi_order_next(&id, in->shape);) {
        cwi_order order;
        cwi_ctx_shape s;
        if (!cwi_ec_order(in->value, id, in->shape, &order))
            continue;
        cwi_ctx_shape_of(&order.shape, in->elements, &s);
        most.tables = CWI_MAX(most.tables, cwi_ctx_tables_bound(&s));
        most.blocks = CWI_MAX(most.blocks, s.blocks);
        most.work = CWI_MAX(most.work, cwi_ctx_work_size(&s, in->threads));
        most.moved = CWI_MAX(most.moved, moved_size(&order, in->elements, in->dtype));
    }
    return most;
}

bool cwi_ec_bound(const cwi_input *in, size_t *size)
{
    const cwi_layout l = cwi_ec_layout(in->value, in->shape, in->elements);
    const order_sizes s = sizes_in_any_order(in);
    /* 5 bits for the symbol, 32 for an escape: more than signs and lower bits take */
    const size_t levels =
        CWI_MAX(cwi_ec_fixed(&l, CWI_EC_EXACT, true), cwi_ec_fixed(&l, 0, false) + CWI_ABOUT_LEVELS_MOST);
    const size_t fixed = CWI_EC_PREFIX + levels + CWI_CTX_PREFIX + s.tables + 64;
    return in->elements <= CWI_CTX_ELEMENTS_MOST && cwi_mul_size(in->elements, 5, size) &&
           cwi_add_size(*size, fixed, size) && cwi_add_size(*size, s.blocks * (4 + 4 * CWI_LANES), size);
}

size_t cwi_ec_work_size(const cwi_input *in)
{
    const cwi_layout l = cwi_ec_layout(in->value, in->shape, in->elements);
    const order_sizes s = sizes_in_any_order(in);
    return in->elements == 0
               ? 0
               : rounded(in->elements) + rounded(l.segments * sizeof(double)) + rounded(sizeof(cwi_ec_stats)) +
                     rounded(CWI_ABOUT_BINS * sizeof(uint32_t)) + s.work + s.moved;
}

/* One call. */
typedef struct encoding {
    cwi_encode_job *job; /* its elements, and their support, in the order in which they are coded */
    cwi_order_id order;
    cw_shape shape; /* as which they are coded */
    cwi_layout layout;
    bool is_signed, stochastic;
    uint64_t noise; /* key */
    double *rms;
    cwi_ec_stats *stats;
    bool may_be_about; /* symbols about a zero, where they pay */
    uint32_t *bins;
    cwi_ctx_encoder ctx;
    uint8_t *symbols;
    size_t cap; /* bytes that the body may have */
    /* of the present step: */
    double step;        /* of the root mean square; infinite: all elements become 0 */
    double fitted;      /* the one that the contexts' weights were chosen for */
    cwi_ec_quant first; /* of the first segment, which mostly is the only one */
    bool about;         /* symbols are about a zero */
    unsigned zero, fitted_zero;
    cwi_about_tails tails;
    cwi_about_levels own; /* with those */
    float level[CWI_EC_EXACT];
    unsigned levels; /* sent */
    bool classes;    /* whether each class of contexts has levels of its own */
    double error;    /* with those: the relative error (squared) */
    cwi_ec_tally tally;
} encoding;

static bool begin(encoding *e, cwi_encode_job *job, cwi_order_id id, const cw_shape *shape)
{
    const cwi_value *v = job->codec->value;
    *e = (encoding){.job = job, .order = id, .shape = *shape};
    e->layout = cwi_ec_layout(v, job->shape, job->elements);
    uint8_t *at = job->work + rounded(job->elements);
    e->symbols = job->work;
    e->stochastic = v[CWI_EC_ROUND].whole;
    e->noise = cwi_rng_make(job->seed, CWI_STREAM_CODEC, 0, 0).key;
    e->rms = (double *)(void *)at;
    at += rounded(e->layout.segments * sizeof(double));
    e->stats = (cwi_ec_stats *)(void *)at;
    e->ctx = (cwi_ctx_encoder){.kernels = job->kernels, .symbols = e->symbols, .threads = job->threads};
    e->ctx.support = job->support;
    at += rounded(sizeof(cwi_ec_stats));
    e->bins = (uint32_t *)(void *)at;
    e->ctx.work = at + rounded(CWI_ABOUT_BINS * sizeof *e->bins);
    cwi_ctx_shape_of(shape, job->elements, &e->ctx.shape);
    return cwi_ec_measure(&job->source, &e->layout, e->rms, &e->is_signed);
}

/* ---- quantizing ---- */

static float step_of(const encoding *e, size_t segment)
{
    if (isinf(e->step) || e->rms[segment] == 0)
        return 0;
    return (float)CWI_MAX(CWI_MIN(e->step * e->rms[segment], (double)FLT_MAX), 0x1p-149);
}

static cwi_ec_quant make_quant(const encoding *e, size_t segment)
{
    const float step = step_of(e, segment);
    cwi_ec_quant q = {.pre = 1, .stochastic = e->stochastic, .noise = e->noise};
    if (step > 0 && step < 0x1p-64f)
        q.pre = 0x1p86f;
    if (step > 0)
        q.scale = 1.0f / (step * q.pre);
    return q;
}

static void set_step(encoding *e, double step)
{
    e->step = step;
    e->first = make_quant(e, 0);
    e->zero = 0;
    e->about = e->may_be_about && !isinf(step) && cwi_about_choose(e->bins, step, &e->zero);
    e->zero = e->about ? e->zero : 0;
}

static cwi_ec_quant quant_of(const encoding *e, size_t segment)
{
    return segment == 0 ? e->first : make_quant(e, segment);
}

static size_t segment_of(const encoding *e, size_t element)
{
    return e->layout.segments == 1 ? 0 : element / e->layout.length;
}

static cwi_quant about_quant(const encoding *e, const cwi_ec_quant *q)
{
    cwi_quant out = {.pre = q->pre, .scale = q->scale, .half = 0.5f, .top = CWI_ABOUT_TOP};
    out.base = q->scale > 0 ? -(float)e->zero / q->scale : 0;
    return out;
}

static void quantize_about(encoding *e, const float *x, size_t n, const cwi_ec_quant *q, uint8_t *symbols)
{
    const cwi_quant quant = about_quant(e, q);
    if (q->scale == 0) { /* nothing but zeros */
        memset(symbols, (int)e->zero, n);
        return;
    }
    e->job->kernels->ec.quantize_about(x, n, &quant, symbols);
    cwi_about_tally(&quant, x, symbols, n, e->zero, &e->tails);
}

/* `n` elements from `first` on, to `symbols`. */
static void quantize(encoding *e, size_t first, size_t n, uint8_t *symbols)
{
    const cwi_kernels *k = e->job->kernels;
    const size_t length = e->layout.length;
    const uint8_t *support = e->job->support;
    float chunk[CWI_CHUNK];
    while (n > 0) {
        const cwi_ec_quant q = quant_of(e, first / length);
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

/* ---- levels of classes ---- */

#define CWI_CTX_MOST 3.99f /* magnitudes that do not matter are taken for this */

/* In GNU C's vectors: there are often four only. */
typedef float floats4 __attribute__((vector_size(16)));
typedef int32_t numbers4 __attribute__((vector_size(16)));
typedef uint16_t words4 __attribute__((vector_size(8)));

static uint16_t magnitude_of(float x, const cwi_ec_quant *q)
{
    const float v = fabsf(x) * q->pre * q->scale;
    return (uint16_t)(int32_t)((v < CWI_CTX_MOST ? v : CWI_CTX_MOST) * CWI_CTX_ONE);
}

static void magnitudes_of(const float *x, size_t n, const cwi_ec_quant *q, uint16_t *out)
{
    const floats4 most = {CWI_CTX_MOST, CWI_CTX_MOST, CWI_CTX_MOST, CWI_CTX_MOST};
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        numbers4 bits;
        memcpy(&bits, x + i, sizeof bits);
        const floats4 v = (floats4)(bits & INT32_MAX) * q->pre * q->scale;
        const numbers4 below = v < most;
        const floats4 least = (floats4)(((numbers4)v & below) | ((numbers4)most & ~below));
        const words4 words = __builtin_convertvector(__builtin_convertvector(least * CWI_CTX_ONE, numbers4), words4);
        memcpy(out + i, &words, sizeof words);
    }
    for (; i < n; i++)
        out[i] = magnitude_of(x[i], q);
}

/* Where within their steps elements lie, from their lower ends on; of tails as if they had symbols of their own. */
static void places_of(const float *x, const uint8_t *symbols, size_t n, const cwi_ec_quant *q, unsigned zero,
                      uint16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        const float v = x[i] * q->pre * q->scale;
        const float k = cwi_about_is_tail(symbols[i], zero) ? floorf(v + 0.5f) : (float)((int)symbols[i] - (int)zero);
        const float place = v - k + 0.5f;
        out[i] = (uint16_t)(CWI_MAX(CWI_MIN(place, 1.0f), 0.0f) * CWI_CTX_ONE);
    }
}

static bool get_magnitudes(const void *of, size_t first, size_t n, uint16_t *out)
{
    const encoding *e = of;
    float chunk[CWI_CHUNK];
    while (n > 0) {
        const size_t segment = segment_of(e, first), here = CWI_MIN(n, (segment + 1) * e->layout.length - first);
        const cwi_ec_quant q = quant_of(e, segment);
        if (q.scale == 0)
            return false;
        const float *x = cwi_source_get(&e->job->source, first, here, chunk);
        if (e->about)
            places_of(x, e->symbols + first, here, &q, e->zero, out);
        else
            magnitudes_of(x, here, &q, out);
        first += here;
        out += here;
        n -= here;
    }
    return true;
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

/* The same of all elements of which `m` is a sample: they lie farther from its mean than itself does. `all` is of all
 * classes. */
static double spread_of_more(const cwi_ctx_moment *m, const cwi_ctx_moment *all)
{
    const double n = (double)m->count;
    return n > 1 ? spread(m, false) * (n + 1) / (n - 1) : n * spread(all, false) / CWI_MAX((double)all->count, 1.0);
}

/* Whether the plan at hand should have levels of classes, and which error it has then. `tried`: on a part alone. */
static void weigh_classes(encoding *e, bool tried)
{
    const cwi_ctx_encoder *ctx = &e->ctx;
    /* A sample may have more or less in it than the rest has. */
    const bool sampled = ctx->moments.elements < ctx->shape.elements;
    double saved = 0, plain = 0;
    e->classes = false;
    if (!ctx->magnitudes || e->stats->doubtful || ctx->tables.mode == CWI_CTX_PLAIN || ctx->moments.elements == 0)
        return;
    for (unsigned s = 0; s < CWI_CTX_CLASSED; s++) {
        const cwi_ctx_moment all = of_all_classes(&ctx->moments, s);
        plain += spread(&all, s == 0);
        saved += spread(&all, s == 0);
        for (unsigned c = 0; c < CWI_CTX_CLASSES; c++) {
            const cwi_ctx_moment *own = &ctx->moments.of[c][s];
            const bool at_zero = s == 0 && e->is_signed;
            saved -= sampled && !at_zero ? spread_of_more(own, &all) : spread(own, at_zero);
        }
    }
    const double large = cwi_ec_error_from(e->stats, e->step, false, CWI_CTX_CLASSED, NULL);
    const double unit = e->step * e->step / ((double)CWI_CTX_ONE * CWI_CTX_ONE * (double)ctx->moments.elements);
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
    cwi_ctx_moment out = {.count = m->count, .sum = m->count * CWI_CTX_ONE - m->sum};
    out.square = m->count * CWI_CTX_ONE * CWI_CTX_ONE - 2 * CWI_CTX_ONE * m->sum + m->square;
    return out;
}

/* What would be left with one level for each magnitude, which is what the histogram knows. */
static double spread_of_magnitudes(const encoding *e)
{
    double left = 0;
    for (unsigned s = 0; s < CWI_SYMBOLS; s++) {
        cwi_ctx_moment all = of_all_classes(&e->ctx.moments, s);
        const unsigned mirror = 2 * e->zero - s;
        if (s < e->zero && s > 0 && mirror < CWI_ABOUT_TOP)
            continue; /* with its mirror image */
        if (s == e->zero || cwi_about_is_tail(s, e->zero)) {
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
static void choose_own(encoding *e, unsigned s, double price, double *left)
{
    const cwi_ctx_moment all = of_all_classes(&e->ctx.moments, s);
    const double mean = all.count ? (double)all.sum / (double)all.count : half;
    e->own.common[s] = (uint16_t)about_level(&all, CWI_ABOUT_FINE);
    *left += spread(&all, false);
    for (unsigned c = 0; c < CWI_CTX_CLASSES && e->ctx.tables.mode != CWI_CTX_PLAIN; c++) {
        const cwi_ctx_moment *m = &e->ctx.moments.of[c][s];
        if (m->count < 2)
            continue;
        const unsigned level = about_level(m, CWI_ABOUT_COARSE);
        const double n = (double)m->count, own = (double)m->sum / n, off = own - mean;
        const double missed = own - (double)level * CWI_CTX_ONE / CWI_ABOUT_COARSE;
        const double gain = n * (off * off - missed * missed) - (e->ctx.whole ? 0 : 2) * spread(m, false) / (n - 1);
        if (gain < price)
            continue;
        e->own.has[c][s] = true;
        e->own.own[c][s] = (uint8_t)level;
        e->own.count++;
        *left -= gain;
    }
}

/* Levels of symbols, and of classes where they pay, and the error with them. */
static void weigh_about(encoding *e)
{
    const cwi_ctx_moments *m = &e->ctx.moments;
    cwi_about_levels_clear(&e->own);
    e->classes = false;
    e->error = cwi_ec_error(e->stats, e->step, false, NULL);
    if (!e->ctx.magnitudes || m->elements == 0)
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
    const double unit = e->step * e->step / ((double)CWI_CTX_ONE * CWI_CTX_ONE * (double)m->elements);
    e->error = e->ctx.whole || plain <= 0 ? left * unit : e->error * left / plain;
}

static uint8_t class_level(const encoding *e, unsigned class, unsigned symbol)
{
    const cwi_ctx_moment all = of_all_classes(&e->ctx.moments, symbol), *own = &e->ctx.moments.of[class][symbol];
    const cwi_ctx_moment *m = own->count ? own : &all;
    if (symbol == 0 && e->is_signed)
        return 0;
    return cwi_ec_level_put(symbol, m->count ? (double)m->sum / (double)m->count / CWI_CTX_ONE : symbol);
}

/* Bytes behind the symbols. */
static size_t rest_of(const encoding *e)
{
    const cwi_ec_tally *t = &e->tally;
    if (e->about)
        return (size_t)((e->tails.bits[cwi_about_order(&e->tails)] + 7) / 8 + 4 * e->tails.escaped);
    return (size_t)((e->is_signed ? (t->coded + 7) / 8 : 0) + (t->lower + 7) / 8 + 4 * t->escaped);
}

/* Of the symbols. */
static void forget(encoding *e)
{
    e->tally = (cwi_ec_tally){0};
    e->tails = (cwi_about_tails){.escaped = 0};
}

static void quantize_all(encoding *e, double step)
{
    set_step(e, step);
    forget(e);
    quantize(e, 0, e->layout.elements, e->symbols);
    if (e->about && rest_of(e) > e->layout.elements / 2) { /* a sample did not see what there is */
        e->may_be_about = false;
        set_step(e, step);
        forget(e);
        quantize(e, 0, e->layout.elements, e->symbols);
    }
    e->ctx.keep = step < 1.3 * e->fitted && e->fitted < 1.3 * step && e->zero == e->fitted_zero;
    e->fitted = e->ctx.keep ? e->fitted : step;
    e->fitted_zero = e->zero;
    e->ctx.tables.zero = e->zero;
    e->ctx.classed = e->about ? CWI_SYMBOLS : CWI_CTX_CLASSED;
    e->ctx.whole = e->stats->doubtful;
}

static void weigh_levels(encoding *e, bool tried)
{
    if (e->about)
        weigh_about(e);
    else
        weigh_classes(e, tried);
}

/* Bytes before the symbols. */
static size_t head_of(const encoding *e)
{
    return CWI_EC_PREFIX + cwi_ec_fixed(&e->layout, e->levels, e->classes && !e->about) +
           (e->about ? cwi_about_levels_size(&e->own) : 0);
}

/* About the bytes of the body. */
static size_t plan(encoding *e, double step)
{
    quantize_all(e, step);
    const size_t coded = cwi_ctx_plan(&e->ctx);
    const unsigned symbols = e->ctx.tables.model.symbols;
    weigh_levels(e, false);
    e->levels = e->stochastic || e->about ? 0 : CWI_MIN(symbols, (unsigned)CWI_EC_EXACT) - 1;
    return head_of(e) + coded + rest_of(e);
}

/* The error that a plan would have, and its weights. */
static void try_step(encoding *e, double step)
{
    quantize_all(e, step);
    cwi_ctx_try(&e->ctx);
    weigh_levels(e, true);
}

/* ---- what the step does to the tensor itself: for where its statistics are doubtful ---- */

/* Of elements that are less than CWI_EC_EXACT steps large: their magnitudes in steps, by symbol; and errors of others.
 */
typedef struct sums {
    double count[CWI_EC_EXACT], sum[CWI_EC_EXACT], square[CWI_EC_EXACT];
    double rest, energy; /* in squared steps */
} sums;

static void add_element(const encoding *e, const cwi_ec_quant *q, float x, double v, size_t i, sums *t)
{
    const unsigned s = e->symbols[i];
    t->energy += v * v;
    if (e->stochastic ? v >= CWI_EC_ESCAPE : s == CWI_EC_ESCAPED)
        return;
    if (e->stochastic) { /* on average, so that the step does not depend on the noise */
        t->rest += (v - floor(v)) * (1 - (v - floor(v)));
    } else if (s < CWI_EC_EXACT) {
        t->count[s]++;
        t->sum[s] += v;
        t->square[s] += v * v;
    } else {
        const double off = v - cwi_ec_code(q, x, i);
        t->rest += off * off;
    }
}

/* The relative error (squared) of the present step and symbols, and with rounding to nearest the levels. Segments count
 * alike, as in cwi_ec_stats. */
static double confirm(encoding *e)
{
    float chunk[CWI_CHUNK];
    const size_t length = e->layout.length;
    sums t = {.energy = 0};
    for (size_t s = 0; s < e->layout.segments; s++) {
        const double step = (double)step_of(e, s);
        const cwi_ec_quant q = quant_of(e, s);
        for (size_t done = 0; done < length && step > 0; done += CWI_CHUNK) {
            const size_t first = s * length + done, n = CWI_MIN((size_t)CWI_CHUNK, length - done);
            const float *x = cwi_source_get(&e->job->source, first, n, chunk);
            for (size_t i = 0; i < n; i++)
                add_element(e, &q, x[i], fabs((double)x[i]) / step, first + i, &t);
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
static double confirmed(encoding *e, double step, double error)
{
    enum { CLOSE = 4, TRIES = 60 };
    for (int i = 0; i < TRIES; i++) {
        set_step(e, step);
        quantize(e, 0, e->layout.elements, e->symbols);
        if (confirm(e) <= error * error)
            break;
        step *= i < CLOSE ? 0.992 : 0.8;
    }
    return step;
}

static void set_levels(encoding *e)
{
    if (e->about)
        return;
    if (e->levels && e->stats->doubtful && !isinf(e->step))
        confirm(e);
    else if (e->levels)
        cwi_ec_error(e->stats, isinf(e->step) ? 1.0 : e->step, false, e->level);
}

/* ---- writing ---- */

static void put_float(uint8_t *out, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    cwi_put_le(out, bits, 4);
}

/* Where the parts behind the symbols are written. */
typedef struct parts {
    cwi_bit_writer signs, lower;
    uint8_t *escaped;
} parts;

/* An element as it is; but what noise alone raised to an escape as what it was raised to, or its mean would be less. */
static float escaped(const cwi_ec_quant *q, float step, float x)
{
    const bool raised = q->stochastic && fabsf(x) * q->pre * q->scale < CWI_EC_ESCAPE;
    return raised ? copysignf(CWI_MIN(CWI_EC_ESCAPE * step, FLT_MAX), x) : x;
}

/* Symbols of 8 and more. */
static void put_large(const float *x, const uint8_t *symbols, size_t n, const cwi_ec_quant *q, float step,
                      uint64_t first, parts *p)
{
    for (size_t i = 0; i < n; i++) {
        if (!cwi_ec_large(symbols, n, &i))
            return;
        if (symbols[i] == CWI_EC_ESCAPED) {
            put_float(p->escaped, escaped(q, step, x[i]));
            p->escaped += 4;
        } else {
            const unsigned bits = symbols[i] - CWI_EC_LOG_OFFSET;
            cwi_bits_put(&p->lower, cwi_ec_code(q, x[i], first + i) - (UINT32_C(1) << bits), bits);
        }
    }
}

static void put_tails(const encoding *e, const float *x, size_t first, size_t n, const cwi_ec_quant *q, parts *p)
{
    const cwi_quant quant = about_quant(e, q);
    const unsigned order = cwi_about_order(&e->tails);
    const uint8_t *symbols = e->symbols + first;
    for (size_t i = 0; i < n && cwi_about_next(symbols, n, e->zero, &i); i++) {
        const uint32_t excess = cwi_about_excess(&quant, x[i], symbols[i]);
        cwi_about_excess_put(&p->lower, excess, order);
        if (excess == CWI_ABOUT_FAR) {
            put_float(p->escaped, x[i]);
            p->escaped += 4;
        }
    }
}

/* There is room. */
static void put_parts(const encoding *e, uint8_t *at)
{
    float chunk[CWI_CHUNK];
    const size_t length = e->layout.length;
    const bool large = e->tally.lower + e->tally.escaped > 0;
    parts p = {.signs = {.next = at}};
    p.lower.next = at + (e->is_signed && !e->about ? (e->tally.coded + 7) / 8 : 0);
    p.escaped = p.lower.next + (e->tally.lower + 7) / 8;
    if (e->about)
        p.escaped = at + rest_of(e) - 4 * e->tails.escaped;
    for (size_t s = 0; s < e->layout.segments && rest_of(e) > 0; s++) {
        const cwi_ec_quant q = quant_of(e, s);
        for (size_t done = 0; done < length; done += CWI_CHUNK) {
            const size_t first = s * length + done, n = CWI_MIN((size_t)CWI_CHUNK, length - done);
            const float *x = cwi_source_get(&e->job->source, first, n, chunk);
            if (e->about)
                put_tails(e, x, first, n, &q, &p);
            else if (e->is_signed)
                e->job->kernels->ec.put_signs(x, e->symbols + first, n, &p.signs);
            if (large && !e->about)
                put_large(x, e->symbols + first, n, &q, step_of(e, s), first, &p);
        }
    }
    cwi_bits_finish(&p.signs);
    cwi_bits_finish(&p.lower);
}

/* Of the step that was planned last. False when the body, whose size it tells all the same, is longer than `room`. */
static bool write(encoding *e, size_t room, size_t *size)
{
    uint8_t *body = e->job->body;
    const size_t fixed = head_of(e), rest = rest_of(e);
    const bool some = room > fixed + rest;
    size_t coded;
    const bool fits = cwi_ctx_encode(&e->ctx, some ? body + fixed : NULL, some ? room - fixed - rest : 0, &coded);
    *size = fixed + coded + rest;
    if (!fits)
        return false;
    memset(body, 0, CWI_EC_PREFIX);
    body[0] = (uint8_t)((e->about       ? CWI_EC_ABOUT
                         : e->is_signed ? CWI_EC_SIGNED
                                        : 0) |
                        (e->classes ? CWI_EC_CLASSES : 0) | (e->job->support ? CWI_EC_SUPPORT : 0));
    body[1] = (uint8_t)e->levels;
    body[CWI_EC_AT_ORDER] = (uint8_t)e->order.name;
    cwi_put_le(body + CWI_EC_AT_WIDTH, e->order.width, 2);
    if (e->about)
        body[CWI_EC_AT_ABOUT] = (uint8_t)(e->zero | cwi_about_order(&e->tails) << 4);
    uint8_t *steps = body + CWI_EC_PREFIX;
    set_levels(e);
    for (size_t s = 0; s < e->layout.segments; s++)
        put_float(steps + 4 * s, step_of(e, s));
    for (unsigned i = 1; i <= e->levels; i++)
        put_float(steps + cwi_ec_fixed(&e->layout, i - 1, false), e->level[i]);
    uint8_t *own = steps + cwi_ec_fixed(&e->layout, e->levels, false);
    if (e->about)
        cwi_about_levels_put(&e->own, own);
    for (unsigned i = 0; e->classes && !e->about && i < CWI_EC_CLASS_LEVELS; i++)
        own[i] = class_level(e, i / CWI_CTX_CLASSED, i % CWI_CTX_CLASSED);
    put_parts(e, body + fixed + coded);
    return true;
}

/* ---- choosing the step ---- */

/* The least that a body of this tensor can have. */
static size_t least(const cwi_encode_job *job, const cwi_layout *l)
{
    if (job->elements == 0)
        return CWI_EC_PREFIX;
    return cwi_padded(CWI_EC_PREFIX + cwi_ec_fixed(l, 0, false) + CWI_CTX_PREFIX + 1, job->elements);
}

static cw_status set_cap(const cwi_encode_job *job, const cwi_layout *l, size_t *cap)
{
    const cwi_value *v = job->codec->value;
    const double bytes = v[CWI_EC_BYTES].real, bits = v[CWI_EC_BPE].real * (double)job->elements;
    const size_t header = job->header_size, needed = header + least(job, l);
    *cap = SIZE_MAX;
    if (bits > 0) /* what cannot be had at all is not asked for */
        *cap = CWI_MAX((size_t)(bits / 8), needed) - header;
    if (bytes > 0) {
        if (bytes < (double)needed)
            return cwi_fail(job->err, CW_ERR_TOO_SMALL,
                            "bytes=%.0f of codec ec: a payload of this tensor has at least %zu bytes", bytes, needed);
        *cap = CWI_MIN(*cap, (size_t)bytes - header);
    }
    return CW_OK;
}

/* ---- the step for a size: searched for in some of the samples, put right by all of them ---- */

/* Of how many samples (indices of dimension 0), or 0 where it takes all of them. */
static size_t some_of(const encoding *e)
{
    const cw_shape *shape = &e->shape;
    const size_t all = (size_t)shape->dim[0];
    if (shape->ndim < 2 || all < 2 * LEAST)
        return 0;
    const size_t enough = ENOUGH / (e->layout.elements / all) + 1;
    const size_t some = CWI_MAX(CWI_MAX(all / SOME, enough), (size_t)LEAST);
    return some <= all / 2 ? some : 0;
}

/* As plan(), from what `some` samples take; by `ctx`. */
static size_t plan_some(encoding *e, double step, size_t some, cwi_ctx_encoder *ctx)
{
    const size_t all = (size_t)e->shape.dim[0], sample = e->layout.elements / all;
    cw_shape shape = e->shape;
    set_step(e, step);
    forget(e);
    ctx->keep &= ctx->tables.zero == e->zero;
    ctx->tables.zero = e->zero;
    for (size_t i = 0; i < some; i++)
        quantize(e, (size_t)((uint64_t)i * all / some) * sample, sample, e->symbols + i * sample);
    shape.dim[0] = (int64_t)some;
    cwi_ctx_shape_of(&shape, some * sample, &ctx->shape);
    const size_t coded = cwi_ctx_plan(ctx), tables = CWI_MIN(cwi_ctx_plan_tables(ctx), coded);
    ctx->keep = true;
    e->fitted = 0;
    const double size = (double)(coded - tables + rest_of(e));
    const size_t head = CWI_EC_PREFIX + cwi_ec_fixed(&e->layout, 0, e->ctx.magnitudes);
    return (size_t)(size * (double)all / (double)some) + tables + head;
}

/* What is known of size ~ step^-exponent about there. */
typedef struct slope {
    double exponent; /* 0: nothing */
    double step, size;
} slope;

static void learn(slope *s, double step, double size, double elements)
{
    if (s->step > 0 && fabs(log(step / s->step)) > 0.002)
        s->exponent = CWI_MIN(CWI_MAX(log(s->size / size) / log(step / s->step), 0.2), 1.5);
    else if (s->exponent == 0) /* bits fall by one for each doubling where they are many, else in proportion */
        s->exponent = CWI_MIN(1.0, CWI_MAX(0.2, 1.44 * elements / CWI_MAX(8 * size, 1.0)));
    s->step = step;
    s->size = size;
}

/* A step whose planned size is close below `most`: `step` or a larger one, or any when `freely`. The plan of the step
 * that is returned is the one that stands. */
static double search(encoding *e, size_t some, double most, double step, bool freely, double *exponent)
{
    const double finest = 0x1p-32;   /* escapes all but what is far below the mean: nothing finer would take more */
    double low = 0, high = INFINITY; /* a step known to be too fine, and one coarse enough */
    cwi_ctx_encoder ctx = e->ctx;
    ctx.magnitudes = NULL;
    ctx.support = some ? NULL : ctx.support;
    slope s = {.exponent = *exponent};
    ctx.keep = false;
    for (int i = 0; i < 16; i++) {
        const double size = (double)(some ? plan_some(e, step, some, &ctx) : plan(e, step));
        if (size > most)
            low = step;
        else
            high = step;
        if (size <= most && (!freely || size > 0.975 * most || step <= finest))
            return step;
        if (size > most && (some ? &ctx : &e->ctx)->tables.model.symbols == 1)
            return step; /* nothing is left already */
        freely = true;   /* once it has to be coarser, as little as will do */
        learn(&s, step, size, (double)e->layout.elements);
        *exponent = s.exponent;
        const double wanted = step * pow(size / (0.987 * most), 1 / s.exponent);
        if (low > 0 && isfinite(high))
            step = i < 8 && wanted > low * 1.002 && wanted < high * 0.998 ? wanted : sqrt(low * high);
        else
            step = CWI_MIN(CWI_MAX(wanted, step / 64), step * 64);
        if (low > 0 && high < low * 1.004)
            break;
    }
    if (some)
        return high;
    plan(e, high);
    return high;
}

/* Where some samples tell about how coarse it has to be, one or two plans of all are enough. */
static double fit(encoding *e, double step, bool freely)
{
    const double most = 0.995 * (double)e->cap;
    const size_t some = some_of(e);
    double exponent = 0;
    if (!freely && some && (double)plan(e, step) <= most)
        return step;
    if (some)
        step = search(e, some, most, step, true, &exponent);
    return search(e, 0, most, step, freely || some, &exponent);
}

/* Whether anything is asked of the magnitudes' distribution: an error, or the levels. */
static bool wants_stats(const encoding *e)
{
    const cwi_value *v = e->job->codec->value;
    return !e->stochastic || (v[CWI_EC_STEP].real == 0 && v[CWI_EC_ERR].real > 0);
}

/* The relative error of the present plan. */
static double planned_error(const encoding *e)
{
    return sqrt(e->classes || e->about ? e->error : cwi_ec_error(e->stats, e->step, false, NULL));
}

/* Towards a step whose plan has the error `aim`, by those that were planned. */
typedef struct aiming {
    double aim, step;
    double last_step, last, exponent; /* error ~ step^exponent about there */
} aiming;

/* After a plan or a trial of a->step: a better one. */
static void aim_again(const encoding *e, aiming *a)
{
    const double now = planned_error(e);
    if (now == 0)
        return;
    if (a->last > 0 && fabs(log(a->step / a->last_step)) > 0.03)
        a->exponent = CWI_MIN(CWI_MAX(log(now / a->last) / log(a->step / a->last_step), 0.4), 1.2);
    a->last = now;
    a->last_step = a->step;
    a->step *= CWI_MIN(CWI_MAX(pow(a->aim / now, 1 / a->exponent), 0.5), 2.0);
}

/* A first step, found on a part of the tensor, which gives the weights, too; `plain` where levels do not pay there. */
static void try_parts(encoding *e, aiming *a, double plain)
{
    enum { TIMES = 2 };
    double tried = 0;
    for (int i = 0; i < TIMES && fabs(a->step - tried) > 0.05 * tried; i++) {
        tried = a->step;
        try_step(e, tried);
        aim_again(e, a);
        if (!e->classes && !e->about) {
            a->step = plain;
            return;
        }
    }
    a->step *= 0.994; /* a part is not the whole: to the middle of what will do */
}

/* The step for an error, planned. Levels of classes allow a coarser one than the histogram says: how much coarser is
 * seen in a part of the tensor, and corrected where all of it is another matter. Where they do not pay at the coarser
 * step, and at the end, the coarsest one that is known to be fine has to do. `plain` is the one without them. */
static double plan_for_error(encoding *e, double error, double plain)
{
    const int tries = e->layout.elements < CWI_CTX_BLOCK ? 9 : 5; /* where they are cheap */
    enum { FINER = 60 };
    aiming a = {.aim = 0.999 * error, .exponent = 0.8};
    const double most = 1.004 * a.aim;
    double fine = plain;
    bool paid = true;
    a.step = (1 + CWI_MAX(1.25 * CWI_MIN(error, 0.4) - 0.1, 0.0)) * plain; /* as it is on many maps */
    if (e->ctx.shape.sections > 1)
        try_parts(e, &a, plain);
    for (int i = 0; i < tries; i++) {
        plan(e, a.step);
        const double now = planned_error(e);
        if (a.step == fine && (!(e->classes || e->about) || !paid))
            return a.step;
        if ((e->classes || e->about) && now > 0.99 * a.aim && now < most)
            return a.step;
        if (now < most)
            fine = CWI_MAX(fine, a.step);
        paid &= e->classes || e->about;
        aim_again(e, &a);
        a.step = paid ? a.step : fine;
    }
    if (planned_error(e) > most)
        plan(e, fine);
    for (int i = 0; planned_error(e) > most && i < FINER; i++) /* few values: nothing is foreseen */
        plan(e, 0.93 * e->step);
    return e->step;
}

/* About the relative error, where it is known before. */
static double expected_error(const cwi_value *v)
{
    return v[CWI_EC_ERR].real > 0 ? v[CWI_EC_ERR].real : v[CWI_EC_STEP].real / 5;
}

static double first_step(encoding *e, bool *freely)
{
    const cwi_value *v = e->job->codec->value;
    *freely = false;
    if (v[CWI_EC_STEP].real > 0)
        return v[CWI_EC_STEP].real;
    if (v[CWI_EC_ERR].real > 0) {
        const double step = cwi_ec_step_for(e->stats, 0.997 * v[CWI_EC_ERR].real, e->stochastic); /* bins are coarse */
        set_step(e, step);
        return e->stats->doubtful && !e->about ? confirmed(e, step, v[CWI_EC_ERR].real) : step;
    }
    *freely = true;
    return 1.0;
}

/* A tensor without elements. */
static cw_status encode_nothing(cwi_encode_job *job)
{
    const cwi_layout none = cwi_ec_layout(job->codec->value, job->shape, 0);
    size_t cap;
    CWI_TRY(set_cap(job, &none, &cap));
    CWI_TRY(cwi_reserve(job, CWI_EC_PREFIX));
    memset(job->body, 0, CWI_EC_PREFIX);
    return CW_OK;
}

/* The plan is an estimate: where the body turns out longer, coarser steps, and at last all zeros. */
static cw_status write_within(encoding *e, double step)
{
    cwi_encode_job *job = e->job;
    const size_t room = CWI_MIN(e->cap, job->capacity);
    size_t size = 0;
    for (int tries = 0; !write(e, room, &size); tries++) {
        if (size <= e->cap || isinf(step))
            return cwi_fail(job->err, CW_ERR_TOO_SMALL,
                            "the output has room for a body of %zu bytes, this one needs %zu", job->capacity, size);
        step = tries < 10 ? step * (1.01 + 0.01 * tries) : INFINITY;
        plan(e, step);
    }
    return cwi_reserve(job, size);
}

static cw_status encode_in_order(cwi_encode_job *job, cwi_order_id id, const cw_shape *shape)
{
    encoding e;
    const cwi_value *v = job->codec->value;
    if (!begin(&e, job, id, shape))
        return CW_ERR_NONFINITE;
    CWI_TRY(set_cap(job, &e.layout, &e.cap));
    if (wants_stats(&e))
        cwi_ec_sample(&job->source, &e.layout, e.rms, expected_error(v), e.stats);
    if (!e.stochastic && !job->support && e.cap >= (size_t)32 * CWI_EC_CLASS_LEVELS) {
        e.may_be_about = true;
        cwi_about_sample(&job->source, &e.layout, e.rms, e.bins);
        e.ctx.magnitudes = get_magnitudes;
        e.ctx.of = &e;
    }
    bool freely;
    double step = first_step(&e, &freely);
    if (e.ctx.magnitudes && !freely && v[CWI_EC_ERR].real > 0 && (e.about || !e.stats->doubtful))
        step = plan_for_error(&e, v[CWI_EC_ERR].real, step);
    else if (e.cap == SIZE_MAX)
        plan(&e, step);
    if (e.cap < SIZE_MAX)
        step = fit(&e, step, freely);
    return write_within(&e, step);
}

/* By way of copies. */
static cw_status encode_moved(cwi_encode_job *job, cwi_order_id id, const cwi_order *order)
{
    const size_t size = cw_dtype_size(job->source.dtype);
    cwi_encode_job inner = *job;
    uint8_t *data = job->work, *support = data + rounded(job->elements * size);
    inner.work = data + moved_size(order, job->elements, job->source.dtype);
    cwi_order_put(order, job->source.data, size, data);
    inner.source.data = data;
    if (job->support) {
        cwi_order_put(order, job->support, 1, support);
        inner.support = support;
    }
    CWI_TRY(encode_in_order(&inner, id, &order->shape));
    job->size = inner.size;
    return CW_OK;
}

static cw_status encode_as(cwi_encode_job *job, cwi_order_id id)
{
    cwi_order order;
    if (!cwi_ec_order(job->codec->value, id, job->shape, &order))
        return cwi_fail(job->err, CW_ERR_INVALID,
                        "codec %s: a tensor of %d dimensions has no such layout; nchw takes any, nhwc 4 or 5, nlc and "
                        "ncl 3, nc 2, and auto finds one",
                        cw_codec_spec(job->codec), job->shape->ndim);
    const cw_status status =
        cwi_order_moves(&order) ? encode_moved(job, id, &order) : encode_in_order(job, id, &order.shape);
    return status == CW_ERR_NONFINITE ? cwi_source_nonfinite(&job->source, job->elements, job->err) : status;
}

/* Features side by side or one sample after the other: whatever is shorter, which is not to be seen beforehand. */
static cw_status encode_features(cwi_encode_job *job)
{
    const cwi_order_id beside = {.name = CWI_ORDER_NC}, plain = {.name = CWI_ORDER_NCHW};
    cw_status status = encode_as(job, beside);
    const bool fits = status == CW_OK;
    const size_t size = job->size;
    if (!fits && status != CW_ERR_TOO_SMALL)
        return status;
    status = encode_as(job, plain);
    return fits && (status != CW_OK || job->size > size) ? encode_as(job, beside) : status;
}

cw_status cwi_ec_encode(cwi_encode_job *job)
{
    const cwi_value *v = job->codec->value;
    const cwi_order_name asked = (cwi_order_name)v[CWI_EC_LAYOUT].whole;
    const bool per_sample = v[CWI_EC_SCOPE].whole == CWI_SCOPE_SAMPLE;
    if (job->elements == 0)
        return encode_nothing(job);
    const cwi_order_id id = cwi_order_guess(asked, &job->source, job->shape, job->elements, per_sample);
    const bool sized = v[CWI_EC_BYTES].real > 0 || v[CWI_EC_BPE].real > 0;
    return asked == CWI_ORDER_AUTO && id.name == CWI_ORDER_NC && !sized ? encode_features(job) : encode_as(job, id);
}
