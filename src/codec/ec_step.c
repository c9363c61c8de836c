/* ec_step.c - the encoder of ec: the step for an error or a size. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "codec/bits.h"
#include "codec/ec_plan.h"

enum {
    SOME = 8,         /* one sample in this many is tried first when a size is asked for */
    LEAST = 16,       /* samples of those, at least: with fewer contexts are other ones */
    ENOUGH = 1 << 17, /* elements of those, at least */
};

/* Bytes before the symbols. */
size_t cwi_ec_head(const cwi_ec_encoding *e)
{
    if (e->profile)
        return cwi_ec_prefix(cwi_ec_flags(e)) + cwi_ec_fixed(&e->layout, 0, false);
    return cwi_ec_prefix(cwi_ec_flags(e)) + cwi_ec_fixed(&e->layout, e->levels, e->classes && !e->about) +
           (e->about ? cwi_about_levels_size(&e->own) : 0) + (e->offsets ? cwi_offsets_size(e->offset, e->offsets) : 0);
}

/* Until its end the error is that of a plan with contexts. */
static void begin_plan(cwi_ec_encoding *e, double step)
{
    cwi_ec_quantize_all(e, step);
    cwi_ctx_count(&e->ctx);
    cwi_ec_weigh_levels(e, false);
}

/* About the bytes of the body. */
static size_t end_plan(cwi_ec_encoding *e)
{
    const cwi_ctx_mode mode = e->ctx.tables.mode;
    const size_t coded = cwi_ctx_finish(&e->ctx);
    const unsigned symbols = e->ctx.tables.model.symbols;
    if (e->ctx.tables.mode != mode)
        cwi_ec_weigh_levels(e, false);
    e->levels = e->stochastic || e->about ? 0 : CWI_MIN(symbols, (unsigned)CWI_EC_EXACT) - 1;
    return cwi_ec_head(e) + coded + cwi_ec_rest(e);
}

size_t cwi_ec_plan(cwi_ec_encoding *e, double step)
{
    begin_plan(e, step);
    return end_plan(e);
}

/* Whether a part tells of the whole. */
static bool can_try_parts(const cwi_ec_encoding *e)
{
    enum { GROUPS_LEAST = 32 };
    const cwi_ctx_shape *s = &e->ctx.shape;
    return s->sections > 1 || (s->groups >= GROUPS_LEAST && e->layout.elements >= CWI_CTX_BLOCK);
}

/* The error that a plan would have, and its weights. */
static void try_step(cwi_ec_encoding *e, double step)
{
    cwi_ec_quantize_all(e, step);
    cwi_ctx_try(&e->ctx);
    cwi_ec_weigh_levels(e, true);
}

/* ---- the step for a size: searched for in some of the samples, put right by all of them ---- */

/* Of how many samples (indices of dimension 0), or 0 where it takes all of them. */
static size_t some_of(const cwi_ec_encoding *e)
{
    const cw_shape *shape = &e->shape;
    const size_t all = (size_t)shape->dim[0];
    if (e->profile || shape->ndim < 2 || all < 2 * LEAST)
        return 0;
    const size_t enough = ENOUGH / (e->layout.elements / all) + 1;
    const size_t some = CWI_MAX(CWI_MAX(all / SOME, enough), (size_t)LEAST);
    return some <= all / 2 ? some : 0;
}

/* As cwi_ec_plan(), from what `some` samples take; by `ctx`. */
static size_t plan_some(cwi_ec_encoding *e, double step, size_t some, cwi_ctx_encoder *ctx)
{
    const size_t all = (size_t)e->shape.dim[0], sample = e->layout.elements / all;
    cw_shape shape = e->shape;
    cwi_ec_set_step(e, step);
    cwi_ec_forget(e);
    ctx->keep &= ctx->tables.zero == e->zero;
    ctx->tables.zero = e->zero;
    for (size_t i = 0; i < some; i++)
        cwi_ec_quantize(e, (size_t)((uint64_t)i * all / some) * sample, sample, e->symbols + i * sample);
    shape.dim[0] = (int64_t)some;
    cwi_ctx_shape_of(&shape, some * sample, &ctx->shape);
    const size_t coded = cwi_ctx_plan(ctx), tables = CWI_MIN(cwi_ctx_plan_tables(ctx), coded);
    ctx->keep = true;
    ctx->keep_plain = false;
    e->fitted = 0;
    const double size = (double)(coded - tables + cwi_ec_rest(e));
    const size_t head = cwi_ec_prefix(cwi_ec_flags(e)) + cwi_ec_fixed(&e->layout, 0, e->ctx.magnitudes);
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
        s->exponent = CWI_MIN(CWI_MAX(log(s->size / size) / log(step / s->step), 0.05), 1.5);
    else if (s->exponent == 0) /* bits fall by one for each doubling where they are many, else in proportion */
        s->exponent = CWI_MIN(1.0, CWI_MAX(0.2, 1.44 * elements / CWI_MAX(8 * size, 1.0)));
    s->step = step;
    s->size = size;
}

/* What will do: where many bytes more make steps but little finer, a few bytes less; else what makes them 5% coarser.
 */
static double least_of(double most, double exponent)
{
    const double few = 0.975, coarser = 1.05;
    return most * CWI_MAX(few, pow(coarser, -exponent));
}

/* A step whose planned size is close below `most`: `step` or a larger one, or any when `freely`. The plan of the step
 * that is returned is the one that stands. */
static double search(cwi_ec_encoding *e, size_t some, double most, double step, bool freely, double *exponent)
{
    const double finest = 0x1p-32;   /* escapes all but what is far below the mean: nothing finer would take more */
    double low = 0, high = INFINITY; /* a step known to be too fine, and one coarse enough */
    cwi_ctx_encoder ctx = e->ctx;
    ctx.magnitudes = NULL;
    ctx.support = some ? NULL : ctx.support;
    slope s = {.exponent = *exponent};
    ctx.keep = false;
    for (int i = 0; i < 16; i++) {
        const double size = (double)(some ? plan_some(e, step, some, &ctx) : cwi_ec_plan(e, step));
        if (size > most)
            low = step;
        else
            high = step;
        if (size <= most && (!freely || size > least_of(most, s.exponent) || step <= finest))
            return step;
        if (size > most && (some ? &ctx : &e->ctx)->tables.model.symbols == 1)
            return step; /* nothing is left already */
        freely = true;   /* once it has to be coarser, as little as will do */
        learn(&s, step, size, (double)e->layout.elements);
        *exponent = s.exponent;
        const double aim = sqrt(most * least_of(most, s.exponent));
        const double wanted = step * pow(size / aim, 1 / s.exponent);
        if (low > 0 && isfinite(high))
            step = i < 8 && wanted > low * 1.002 && wanted < high * 0.998 ? wanted : sqrt(low * high);
        else
            step = CWI_MIN(CWI_MAX(wanted, step / 64), step * 64);
        if (low > 0 && high < low * 1.004)
            break;
    }
    if (some)
        return high;
    cwi_ec_plan(e, high);
    return high;
}

/* Where some samples tell about how coarse it has to be, one or two plans of all are enough. */
double cwi_ec_fit(cwi_ec_encoding *e, double step, bool freely)
{
    const double most = (double)e->cap - 1 - 0.0005 * (double)e->cap; /* plans are that good, or there is another one */
    const size_t some = some_of(e);
    double exponent = 0;
    if (!freely && some && (double)cwi_ec_plan(e, step) <= most)
        return step;
    if (some)
        step = search(e, some, most, step, true, &exponent);
    return search(e, 0, most, step, freely || some, &exponent);
}

/* Whether anything is asked of the magnitudes' distribution: an error, or the levels. */
bool cwi_ec_wants_stats(const cwi_ec_encoding *e)
{
    const cwi_value *v = e->job->codec->value;
    return !e->stochastic || (v[CWI_EC_STEP].real == 0 && v[CWI_EC_ERR].real > 0);
}

/* The relative error of the present plan. */
double cwi_ec_planned_error(const cwi_ec_encoding *e)
{
    return sqrt(e->classes || e->about ? e->error : cwi_ec_error(e->stats, e->step, false, NULL));
}

/* Towards a step whose plan has the error `aim`, by those that were planned. */
typedef struct aiming {
    double aim, step;
    double last_step, last, exponent; /* error ~ step^exponent about there */
} aiming;

/* After a plan or a trial of a->step: a better one. */
static void aim_again(const cwi_ec_encoding *e, aiming *a)
{
    const double now = cwi_ec_planned_error(e);
    if (now == 0)
        return;
    if (a->last > 0 && fabs(log(a->step / a->last_step)) > 0.03)
        a->exponent = CWI_MIN(CWI_MAX(log(now / a->last) / log(a->step / a->last_step), 0.15), 1.2);
    a->last = now;
    a->last_step = a->step;
    a->step *= CWI_MIN(CWI_MAX(pow(a->aim / now, 1 / a->exponent), 0.5), 2.0);
}

/* A first step, found on a part of the tensor, which gives the weights, too; `plain` where levels do not pay there. */
static void try_parts(cwi_ec_encoding *e, aiming *a, double plain)
{
    const int times = e->fast ? 1 : 2;
    double tried = 0;
    for (int i = 0; i < times && fabs(a->step - tried) > 0.05 * tried; i++) {
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

/* What is known of steps: */
typedef struct known {
    double most;         /* the error that may be had */
    double fine, coarse; /* known to do, and not to do */
    bool paid;           /* levels of classes, so far */
} known;

/* Whether nothing is left to look for: many elements of one value are on this side of a threshold or on that. */
static bool leaps_between(const known *k)
{
    return k->coarse < 1.004 * k->fine;
}

/* Whether the plan of a->step will do: its error is what is asked, or nothing better is known. */
static bool will_do(const cwi_ec_encoding *e, const aiming *a, const known *k)
{
    const double now = cwi_ec_planned_error(e);
    if (a->step == k->fine && now < k->most && leaps_between(k))
        return true;
    if (a->step == k->fine && (e->about ? !k->paid && now < k->most : !e->classes || !k->paid))
        return true;
    const double far = e->layout.elements < CWI_CTX_BLOCK ? 0.01 : 0.012; /* in steps, which is what bytes go by */
    const double near = e->fast ? 0.02 : far * CWI_MIN(a->exponent, 1.0);
    return (e->classes || e->about) && now > (1 - near) * a->aim && now < k->most;
}

/* The next one, after that one. */
static void next_step(const cwi_ec_encoding *e, bool first, aiming *a, known *k)
{
    if (cwi_ec_planned_error(e) < k->most)
        k->fine = CWI_MAX(k->fine, a->step);
    else
        k->coarse = CWI_MIN(k->coarse, a->step);
    if (k->coarse <= k->fine) /* the histogram was wrong about it */
        k->fine = 0.97 * k->coarse;
    k->paid &= e->classes || e->about;
    aim_again(e, a);
    if (!first && isfinite(k->coarse) && k->fine < k->coarse && (a->step <= k->fine || a->step >= k->coarse))
        a->step = sqrt(k->fine * k->coarse); /* the error leaps: where between */
    a->step = k->paid && !leaps_between(k) ? a->step : k->fine;
}

/* Whether plans know their errors, or but by a sample. */
static bool measures_all(const cwi_ec_encoding *e)
{
    return e->about && e->layout.segments == 1 && cwi_ctx_counts_all(&e->ctx);
}

/* Of the histogram. */
static double exponent_at(const cwi_ec_encoding *e, double step)
{
    const double wider = 1.1, low = cwi_ec_error(e->stats, step, false, NULL);
    const double high = cwi_ec_error(e->stats, wider * step, false, NULL);
    return low > 0 && high > low ? CWI_MIN(CWI_MAX(0.5 * log(high / low) / log(wider), 0.2), 1.1) : 0.8;
}

/* The step for an error, planned. Levels of classes allow a coarser one than the histogram says: how much coarser is
 * seen in a part of the tensor, and corrected where all of it is another matter. Where they do not pay at the coarser
 * step, and at the end, the coarsest one that is known to be fine has to do. `plain` is the one without them. */
double cwi_ec_plan_for_error(cwi_ec_encoding *e, double error, double plain, bool planned)
{
    enum { FEW = 4096, FINER = 60 };
    const int tries = e->layout.elements < CWI_CTX_BLOCK && e->layout.elements > FEW ? 9 : 5; /* where they are cheap */
    const double most = measures_all(e) ? error : (e->about ? 0.999 : 0.997) * error;
    /* in the middle of what will do, so that the first one does */
    aiming a = {.aim = (e->fast ? 0.985 : 0.9985) * most, .exponent = exponent_at(e, plain)};
    known k = {.most = most, .fine = plain, .coarse = INFINITY, .paid = true};
    /* as it is on many maps, of magnitudes and of signed numbers */
    a.step = planned ? e->step : (1 + CWI_MAX(CWI_MIN(error, 0.4) - 0.1, 0.0) * (e->zero ? 0.4 : 1) + 0.01) * plain;
    if (planned)
        aim_again(e, &a);
    else if (can_try_parts(e))
        try_parts(e, &a, plain);
    for (int i = 0; i < tries; i++) {
        begin_plan(e, a.step);
        if (will_do(e, &a, &k)) {
            end_plan(e);
            if (will_do(e, &a, &k))
                return a.step;
        }
        next_step(e, i == 0, &a, &k);
    }
    cwi_ec_plan(e, cwi_ec_planned_error(e) > k.most ? k.fine : e->step);
    for (int i = 0; cwi_ec_planned_error(e) > k.most && i < FINER; i++) /* few values: nothing is foreseen */
        cwi_ec_plan(e, 0.93 * e->step);
    return e->step;
}

/* About the relative error, where it is known before. */
double cwi_ec_expected_error(const cwi_value *v)
{
    return v[CWI_EC_ERR].real > 0 ? v[CWI_EC_ERR].real : v[CWI_EC_STEP].real / 5;
}

/* What is left with offsets or by a transform may be less than what is asked: then steps would have no end, and levels
 * go with steps. */
double cwi_ec_asked_error(const cwi_ec_encoding *e)
{
    const double error = e->job->codec->value[CWI_EC_ERR].real, most = 0.98;
    return CWI_MIN(error * e->larger, CWI_MAX(error, most));
}

bool cwi_ec_asks_nothing(const cwi_ec_encoding *e)
{
    return !e->learns && e->layout.segments == 1 && e->job->codec->value[CWI_EC_ERR].real * e->larger >= 1;
}

double cwi_ec_first_step(cwi_ec_encoding *e, bool *freely)
{
    const cwi_value *v = e->job->codec->value;
    *freely = false;
    if (v[CWI_EC_STEP].real > 0)
        return v[CWI_EC_STEP].real * e->larger;
    if (v[CWI_EC_ERR].real > 0) {
        const double error = cwi_ec_asked_error(e);
        const double step = cwi_ec_step_for(e->stats, 0.997 * error, e->stochastic); /* bins are coarse */
        cwi_ec_set_step(e, step);
        return e->stats->doubtful && !e->about ? cwi_ec_confirmed(e, step, error) : step;
    }
    *freely = true;
    return 1.0;
}
