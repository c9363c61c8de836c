/* ec_encode.c - the encoder of ec: chooses a step, quantizes, and keeps the payload within what was asked for. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "codec/bits.h"
#include "codec/ec_plan.h"
#include "codec/mask.h"

/* ---- sizes ---- */

/* What depends on the order, in any that a tensor may have. */
typedef struct order_sizes {
    size_t tables, blocks, work, moved, offsets; /* bytes but for blocks, and channels with offsets */
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

static void add_order(const cwi_input *in, cwi_order_id id, order_sizes *most)
{
    cwi_order order;
    cwi_ctx_shape s;
    if (!cwi_ec_order(in->value, id, in->shape, &order) || !cwi_ec_ctx_shape(id, &order.shape, in->elements, &s))
        return;
    most->tables = CWI_MAX(most->tables, cwi_ctx_tables_bound(&s));
    most->blocks = CWI_MAX(most->blocks, s.blocks);
    most->work = CWI_MAX(most->work, cwi_ctx_work_size(&s, in->threads));
    most->moved = CWI_MAX(most->moved, moved_size(&order, in->elements, in->dtype));
    most->offsets = CWI_MAX(most->offsets, cwi_offsets_channels(&order.shape));
}

/* Those that the encoder may choose: as they are, or for few samples. */
static order_sizes sizes_in_any_order(const cwi_input *in)
{
    const bool per_sample = in->value[CWI_EC_SCOPE].whole == CWI_SCOPE_SAMPLE;
    order_sizes most = {0};
    for (cwi_order_id id = {.name = CWI_ORDER_AUTO}; in->elements && cwi_order_next(&id, in->shape);) {
        cwi_order_id few = id;
        if (id.bands) {
            id.bands = CWI_ORDER_BANDS_MOST; /* the next ones, without bands */
            continue;
        }
        add_order(in, id, &most);
        if (cwi_order_for_few(&few, in->shape, in->elements, per_sample))
            add_order(in, few, &most);
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
    const size_t fixed = CWI_EC_PREFIX_MOST + levels + s.tables + cwi_offsets_bound(s.offsets) + 64;
    return in->elements <= CWI_CTX_ELEMENTS_MOST && cwi_mul_size(in->elements, 5, size) &&
           cwi_add_size(*size, fixed, size) && cwi_add_size(*size, s.blocks * (CWI_NUMBER_MOST + 4 * CWI_LANES), size);
}

size_t cwi_ec_work_size(const cwi_input *in)
{
    const cwi_layout l = cwi_ec_layout(in->value, in->shape, in->elements);
    const order_sizes s = sizes_in_any_order(in);
    return in->elements == 0
               ? 0
               : rounded(in->elements) + rounded(l.segments * sizeof(double)) + rounded(sizeof(cwi_ec_stats)) +
                     rounded(CWI_ABOUT_BINS * sizeof(uint32_t)) + rounded(8 * s.offsets) + s.work + s.moved;
}

/* What offsets are to save: that it is worth a try, and that it needs none. After one, where both are as good. */
#define OFFSETS_WORTH 0.03
#define OFFSETS_SURE  0.25
#define LIKELY        1.01

/* Bits an element by which symbols about a zero may seem to take more: as many as rounding makes; so many that both are
 * tried; and when others were found better. */
#define LEAN      0.01
#define LEAN_MOST 0.7
#define LEAN_AWAY (-0.2)

/* Whole numbers, and floats. */
static size_t offsets_size(const cw_shape *shape)
{
    return rounded(cwi_offsets_channels(shape) * (sizeof(int32_t) + sizeof(float)));
}

bool cwi_ec_begin(cwi_ec_encoding *e, cwi_encode_job *job, cwi_order_id id, const cw_shape *shape)
{
    const cwi_value *v = job->codec->value;
    *e = (cwi_ec_encoding){.job = job, .order = id, .shape = *shape};
    e->layout = cwi_ec_layout(v, job->shape, job->elements);
    uint8_t *at = job->work + rounded(job->elements);
    e->symbols = job->work;
    e->stochastic = v[CWI_EC_ROUND].whole;
    e->fast = v[CWI_EC_EFFORT].whole;
    e->noise = cwi_rng_make(job->seed, CWI_STREAM_CODEC, 0, 0).key;
    e->rms = (double *)(void *)at;
    at += rounded(e->layout.segments * sizeof(double));
    e->stats = (cwi_ec_stats *)(void *)at;
    e->stats->doubtful = false; /* nor anything else, until a sample is wanted */
    e->stats->bins = 0;
    e->stats->energy = 0;
    e->ctx = (cwi_ctx_encoder){.kernels = job->kernels, .symbols = e->symbols, .threads = job->threads, .bare = true};
    e->ctx.support = job->support;
    e->ctx.quick = e->fast;
    e->ctx.coarse = job->elements <= CWI_CTX_COARSE_MOST;
    e->ctx.expected = job->support || e->stochastic ? NULL : cwi_ec_expected;
    e->ctx.of = e;
    at += rounded(sizeof(cwi_ec_stats));
    e->bins = (uint32_t *)(void *)at;
    at += rounded(CWI_ABOUT_BINS * sizeof *e->bins);
    e->lean = LEAN;
    e->transformed = job->larger > 0 ? job->larger : 1;
    e->larger = e->transformed;
    e->offset = (int32_t *)(void *)at;
    e->ctx.work = at + offsets_size(shape);
    cwi_ec_ctx_shape(id, shape, job->elements, &e->ctx.shape);
    return cwi_ec_measure(&job->source, &e->layout, e->rms, &e->is_signed);
}

/* Of a tensor that it fits. False where it cannot be taken for this one. */
static bool begin_profile(cwi_ec_encoding *e)
{
    cwi_encode_job *job = e->job;
    const cw_profile *p = job->profile;
    e->profile = p;
    e->ctx.given = &p->tables;
    if (!cwi_ctx_may_refer(&e->ctx.shape))
        return false;
    if (p->offsets) {
        const double rms = e->rms[0];
        job->source.offset = p->offset;
        job->source.channels = p->channels;
        job->source.plane = e->ctx.shape.height * e->ctx.shape.width;
        cwi_ec_measure(&job->source, &e->layout, e->rms, &e->is_signed);
        e->larger *= e->rms[0] > 0 ? rms / e->rms[0] : 1;
    }
    return p->tables.zero > 0 || !e->is_signed;
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

static void put_tails(const cwi_ec_encoding *e, const float *x, size_t first, size_t n, const cwi_ec_quant *q, parts *p)
{
    const cwi_quant quant = cwi_ec_about_quant(e, q);
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
static void put_parts(const cwi_ec_encoding *e, uint8_t *at)
{
    float chunk[CWI_CHUNK];
    const size_t length = e->layout.length;
    const bool large = e->tally.lower + e->tally.escaped > 0;
    parts p = {.signs = {.next = at}};
    p.lower.next = at + (e->is_signed && !e->about ? (e->tally.coded + 7) / 8 : 0);
    p.escaped = p.lower.next + (e->tally.lower + 7) / 8;
    if (e->about)
        p.escaped = at + cwi_ec_rest(e) - 4 * e->tails.escaped;
    for (size_t s = 0; s < e->layout.segments && cwi_ec_rest(e) > 0; s++) {
        const cwi_ec_quant q = cwi_ec_quant_of(e, s);
        for (size_t done = 0; done < length; done += CWI_CHUNK) {
            const size_t first = s * length + done, n = CWI_MIN((size_t)CWI_CHUNK, length - done);
            const float *x = cwi_source_get(&e->job->source, first, n, chunk);
            if (e->about)
                put_tails(e, x, first, n, &q, &p);
            else if (e->is_signed)
                e->job->kernels->ec.put_signs(x, e->symbols + first, n, &p.signs);
            if (large && !e->about)
                put_large(x, e->symbols + first, n, &q, cwi_ec_step_of(e, s), first, &p);
        }
    }
    cwi_bits_finish(&p.signs);
    cwi_bits_finish(&p.lower);
}

unsigned cwi_ec_flags(const cwi_ec_encoding *e)
{
    unsigned flags = (e->classes ? CWI_EC_CLASSES : 0) | (e->job->support ? CWI_EC_SUPPORT : 0);
    if (e->about || e->is_signed)
        flags |= e->about ? CWI_EC_ABOUT : CWI_EC_SIGNED;
    if (e->offsets || (e->profile && e->profile->offsets))
        flags |= CWI_EC_OFFSETS;
    return flags | (e->order.narrow ? CWI_EC_NARROW : 0) | (e->profile ? CWI_EC_PROFILE : 0) |
           (e->order.width || e->order.bands ? CWI_EC_MORE : 0);
}

/* What a body begins with; returns the end. */
static uint8_t *put_prefix(const cwi_ec_encoding *e, uint8_t *out)
{
    const unsigned flags = cwi_ec_flags(e);
    *out++ = (uint8_t)flags;
    const unsigned order = e->profile && cwi_profile_transforms(e->profile) ? CWI_EC_ORDER_KLT : e->order.name;
    *out++ = (uint8_t)(order | e->levels << 4);
    if (flags & CWI_EC_ABOUT)
        *out++ = (uint8_t)(e->zero | cwi_about_order(&e->tails) << 4);
    if (flags & CWI_EC_MORE) {
        cwi_put_le(out, e->order.width, 2);
        out[2] = (uint8_t)e->order.bands;
        out += CWI_EC_MORE_BYTES;
    }
    if (e->profile) {
        cwi_put_le(out, e->profile->hash, CWI_PROFILE_HASH);
        out += CWI_PROFILE_HASH;
    }
    return out;
}

/* Of the step that was planned last. False when the body, whose size it tells all the same, is longer than `room`. */
static bool write(cwi_ec_encoding *e, size_t room, size_t *size)
{
    uint8_t *body = e->job->body;
    const size_t fixed = cwi_ec_head(e), rest = cwi_ec_rest(e);
    const bool some = room > fixed + rest;
    size_t coded;
    const bool fits = cwi_ctx_encode(&e->ctx, some ? body + fixed : NULL, some ? room - fixed - rest : 0, &coded);
    *size = fixed + coded + rest;
    if (!fits)
        return false;
    uint8_t *steps = put_prefix(e, body);
    cwi_ec_set_levels(e);
    for (size_t s = 0; s < e->layout.segments; s++)
        put_float(steps + 4 * s, cwi_ec_step_of(e, s));
    for (unsigned i = 1; i <= e->levels; i++)
        put_float(steps + cwi_ec_fixed(&e->layout, i - 1, false), e->level[i]);
    uint8_t *own = steps + cwi_ec_fixed(&e->layout, e->levels, false);
    if (e->about && !e->profile)
        cwi_about_levels_put(&e->own, own);
    for (unsigned i = 0; e->classes && !e->about && i < CWI_EC_CLASS_LEVELS; i++)
        own[i] = cwi_ec_class_level(e, i / CWI_CTX_CLASSED, i % CWI_CTX_CLASSED);
    if (e->offsets)
        cwi_offsets_put(e->offset, e->offsets, e->unit, body + fixed - cwi_offsets_size(e->offset, e->offsets));
    put_parts(e, body + fixed + coded);
    return true;
}

/* ---- choosing the step ---- */

/* The least that a body of this tensor can have: a prefix, steps, and that there is but one symbol. */
static size_t least(const cwi_encode_job *job, const cwi_layout *l, cwi_order_id id)
{
    const size_t more = id.width || id.bands ? CWI_EC_MORE_BYTES : 0;
    if (job->elements == 0)
        return CWI_EC_LEAST_PREFIX;
    return cwi_padded(CWI_EC_LEAST_PREFIX + more + cwi_ec_fixed(l, 0, false) + 1, job->elements);
}

static cw_status set_cap(const cwi_encode_job *job, const cwi_layout *l, cwi_order_id id, size_t *cap)
{
    const cwi_value *v = job->codec->value;
    const double bytes = v[CWI_EC_BYTES].real, bits = v[CWI_EC_BPE].real * (double)job->elements;
    const size_t header = job->header_size, needed = header + least(job, l, id);
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

/* A tensor without elements. */
cw_status cwi_ec_encode_nothing(cwi_encode_job *job)
{
    const cwi_layout none = cwi_ec_layout(job->codec->value, job->shape, 0);
    size_t cap;
    CWI_TRY(set_cap(job, &none, (cwi_order_id){.name = CWI_ORDER_AUTO}, &cap));
    CWI_TRY(cwi_reserve(job, CWI_EC_LEAST_PREFIX));
    memset(job->body, 0, CWI_EC_LEAST_PREFIX);
    return CW_OK;
}

/* The plan is an estimate: where the body turns out longer, coarser steps, and at last all zeros. */
static cw_status write_within(cwi_ec_encoding *e, double step)
{
    cwi_encode_job *job = e->job;
    const size_t room = CWI_MIN(e->cap, job->capacity);
    size_t size = 0;
    for (int tries = 0; !write(e, room, &size); tries++) {
        if (size <= e->cap || isinf(step))
            return cwi_fail(job->err, CW_ERR_TOO_SMALL,
                            "the output has room for a body of %zu bytes, this one needs %zu", job->capacity, size);
        step = tries < 10 ? step * (1.01 + 0.01 * tries) : INFINITY;
        cwi_ec_plan(e, step);
    }
    return cwi_reserve(job, size);
}

/* A tensor of one segment as it is, where offset is NULL, or without the offsets of its channels. */
typedef struct view {
    const float *offset;
    double rms;
    bool is_signed;
} view;

static view view_of(const cwi_ec_encoding *e)
{
    return (view){.offset = e->job->source.offset, .rms = e->rms[0], .is_signed = e->is_signed};
}

static void look_at(cwi_ec_encoding *e, view v, double whole_rms)
{
    e->job->source.offset = v.offset;
    e->offsets = v.offset ? e->job->source.channels : 0;
    e->rms[0] = v.rms;
    e->is_signed = v.is_signed;
    e->larger = e->transformed * (v.rms > 0 ? whole_rms / v.rms : 1);
}

/* The source subtracts those that were found. */
static void use_offsets(cwi_ec_encoding *e, double whole_rms)
{
    cwi_encode_job *job = e->job;
    const size_t channels = cwi_offsets_channels(&e->shape);
    float *offset = (float *)(void *)(e->offset + channels);
    for (size_t i = 0; i < channels; i++)
        offset[i] = (float)e->offset[i] * e->unit;
    job->source.offset = offset;
    job->source.channels = channels;
    job->source.plane = e->layout.elements / channels / (size_t)e->shape.dim[0];
    cwi_ec_measure(&job->source, &e->layout, e->rms, &e->is_signed);
    look_at(e, view_of(e), whole_rms);
}

/* Those that are good at about this step, in units of the tensor. Returns what they save. */
static double set_offsets(cwi_ec_encoding *e, view plain, double step)
{
    look_at(e, plain, plain.rms);
    const double saved = cwi_offsets_find(&e->job->source, &e->shape, step, e->offset, &e->unit);
    if (saved < OFFSETS_WORTH)
        return 0;
    use_offsets(e, plain.rms);
    return saved;
}

/* The step depends on them, and they on the step. */
static double find_offsets(cwi_ec_encoding *e)
{
    enum { TIMES = 3 };
    const cwi_value *v = e->job->codec->value;
    const double error = v[CWI_EC_ERR].real;
    const view plain = view_of(e);
    double step = cwi_ec_expected_error(v) > 0 ? 3.3 * cwi_ec_expected_error(v) * plain.rms : plain.rms, saved = 0;
    for (int i = 0; i < TIMES; i++) {
        saved = set_offsets(e, plain, step);
        if (saved == 0 || error == 0)
            break;
        cwi_ec_sample_roughly(&e->job->source, &e->layout, e->rms, e->stats);
        const double better = cwi_ec_step_for(e->stats, CWI_MIN(error * e->larger, 0.98), false) * e->rms[0];
        if (better < 1.3 * step)
            break;
        step = CWI_MIN(better, 4 * step);
    }
    return saved;
}

/* Whether nothing is asked for but a size. */
bool cwi_ec_is_sized_alone(const cwi_encode_job *job)
{
    const cwi_value *v = job->codec->value;
    return v[CWI_EC_ERR].real == 0 && v[CWI_EC_STEP].real == 0;
}

/* Maps behind a ReLU have none. */
static bool may_have_offsets(const cwi_ec_encoding *e)
{
    const size_t channels = cwi_offsets_channels(&e->shape);
    return !e->stochastic && !e->job->support && e->layout.segments == 1 && channels > 0 && e->rms[0] > 0 &&
           e->cap >= 4 * cwi_offsets_bound(channels) &&
           (e->is_signed || !cwi_offsets_has_zeros(&e->job->source, e->layout.elements));
}

/* What steps are found by; returns a first one. */
static double begin_plan(cwi_ec_encoding *e, bool *freely)
{
    if (cwi_ec_wants_stats(e)) {
        const double error = cwi_ec_expected_error(e->job->codec->value) * e->larger;
        cwi_ec_sample(&e->job->source, &e->layout, e->rms, error, e->fast, e->stats);
    }
    cwi_ec_weigh(&e->layout, e->rms, &e->loudest, &e->loudest_weight);
    if (e->may_be_about && !e->profile)
        cwi_about_sample(&e->job->source, &e->layout, e->rms, e->bins);
    e->fitted = 0;
    return cwi_ec_first_step(e, freely);
}

/* Plans what is asked for, and returns its step; `step` is a first one, maybe planned already. */
static double plan_from(cwi_ec_encoding *e, double step, bool freely, bool planned)
{
    const double error = e->job->codec->value[CWI_EC_ERR].real;
    if (e->ctx.magnitudes && !freely && error > 0 && (e->about || !e->stats->doubtful))
        step = cwi_ec_plan_for_error(e, cwi_ec_asked_error(e), step, planned);
    else if (e->cap == SIZE_MAX && !planned)
        cwi_ec_plan(e, step);
    if (e->cap < SIZE_MAX)
        step = cwi_ec_fit(e, step, freely);
    return step;
}

/* The bits an element of one plan, as they would be at the error that is expected. */
static double bits_as_expected(cwi_ec_encoding *e, double *step, bool *freely)
{
    *step = begin_plan(e, freely);
    const double bits = 8.0 * (double)cwi_ec_plan(e, *step) / (double)e->layout.elements;
    const double expected = cwi_ec_expected_error(e->job->codec->value);
    const double error = cwi_ec_planned_error(e) / e->larger / CWI_MAX(expected, 1e-3);
    /* Measured on maps: what half the error costs. */
    return bits + CWI_MIN(0.6 * bits, 1.0) * log2(CWI_MAX(error, 1e-6));
}

/* Whether it is not clear beforehand that signs and magnitudes apart take less at a step. */
static bool in_doubt(const cwi_ec_encoding *e, double step)
{
    unsigned zero;
    return e->may_be_about && e->is_signed && !e->profile && !e->learns && !e->fast && e->cap == SIZE_MAX &&
           !cwi_about_choose(e->bins, step, LEAN, &zero) && cwi_about_choose(e->bins, step, LEAN_MOST, &zero);
}

/* The same where that is in doubt: whatever takes less. */
static double bits_either_way(cwi_ec_encoding *e, double *step, bool *freely)
{
    e->lean = LEAN;
    const double apart = bits_as_expected(e, step, freely);
    if (!in_doubt(e, *step))
        return apart;
    e->lean = LEAN_MOST;
    const double about = bits_as_expected(e, step, freely);
    if (about < apart)
        return about;
    e->lean = LEAN_AWAY;
    return bits_as_expected(e, step, freely);
}

static double plan_as_asked(cwi_ec_encoding *e)
{
    bool freely;
    if (cwi_ec_asks_nothing(e)) {
        begin_plan(e, &freely);
        cwi_ec_plan(e, INFINITY);
        return INFINITY;
    }
    e->lean = LEAN;
    double step = begin_plan(e, &freely);
    const bool doubt = in_doubt(e, step);
    if (doubt)
        bits_either_way(e, &step, &freely);
    return plan_from(e, step, freely, doubt);
}

static void allow_about(cwi_ec_encoding *e)
{
    enum { LEAST = 48 }; /* bytes: below it levels would be most of all */
    if (e->profile || e->learns || (!e->stochastic && !e->job->support && e->cap >= LEAST)) {
        e->may_be_about = true;
        e->ctx.magnitudes = cwi_ec_magnitudes;
        e->ctx.one_weight = e->layout.segments == 1;
    }
}

/* With offsets that are good at step `at`, or none where that is 0. False where they save nothing. */
static bool plan_with_offsets(cwi_ec_encoding *e, view plain, double at, double *step, double *error)
{
    look_at(e, plain, plain.rms);
    if (at > 0 && set_offsets(e, plain, at) == 0)
        return false;
    *step = plan_as_asked(e);
    *error = cwi_ec_planned_error(e) / e->larger;
    return true;
}

/* For a size: the step, on which offsets depend, is known only when all is planned. So without any, with those of a
 * step as coarse as the tensor itself, and with those of the step that was found, unless it is too fine to tell. */
static double plan_for_size(cwi_ec_encoding *e)
{
    enum { FINE = 8 };
    const view plain = view_of(e);
    double step = plain.rms, error = 0, chosen = 0, tried = 0, least = INFINITY, at = 0;
    for (int i = 0; i < 3; i++) {
        if (plan_with_offsets(e, plain, at, &step, &error)) {
            tried = at;
            if (error < least) {
                least = error;
                chosen = at;
            }
        }
        at = i == 0 ? plain.rms : step;
        if (i > 0 && (e->fast || FINE * step < plain.rms))
            break;
    }
    if (tried != chosen || (e->offsets > 0) != (chosen > 0))
        plan_with_offsets(e, plain, chosen, &step, &error);
    return step;
}

double cwi_ec_plan_asked(cwi_ec_encoding *e)
{
    allow_about(e);
    if (cwi_ec_is_sized_alone(e->job) && !e->profile && may_have_offsets(e))
        return plan_for_size(e);
    const view plain = view_of(e);
    const double saved = !e->profile && may_have_offsets(e) ? find_offsets(e) : 0;
    if (saved == 0 || saved > OFFSETS_SURE || e->fast || e->cap < SIZE_MAX)
        return plan_as_asked(e);
    bool freely;
    double step;
    const view shifted = view_of(e);
    look_at(e, plain, plain.rms);
    const double without = bits_either_way(e, &step, &freely);
    look_at(e, shifted, plain.rms);
    if (bits_either_way(e, &step, &freely) < LIKELY * without)
        return plan_from(e, step, freely, true);
    look_at(e, plain, plain.rms);
    return plan_as_asked(e);
}

/* Where `bits` is not NULL nothing is written: it gets about what an element would take. */
static cw_status encode_in_order(cwi_encode_job *job, cwi_order_id id, const cw_shape *shape, double *bits)
{
    cwi_ec_encoding e;
    if (!cwi_ec_begin(&e, job, id, shape))
        return CW_ERR_NONFINITE;
    CWI_TRY(set_cap(job, &e.layout, id, &e.cap));
    if (job->profile && !begin_profile(&e))
        return CW_ERR_TOO_SMALL;
    if (bits) {
        double step;
        bool freely;
        allow_about(&e);
        *bits = bits_as_expected(&e, &step, &freely);
        return CW_OK;
    }
    const double step = cwi_ec_plan_asked(&e);
    job->wasted = e.ctx.wasted;
    return write_within(&e, step);
}

/* By way of copies. */
static cw_status encode_moved(cwi_encode_job *job, cwi_order_id id, const cwi_order *order, double *bits)
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
    CWI_TRY(encode_in_order(&inner, id, &order->shape, bits));
    job->size = inner.size;
    job->wasted = inner.wasted;
    return CW_OK;
}

static cw_status order_as(cwi_encode_job *job, cwi_order_id id, double *bits)
{
    cwi_order order;
    if (!cwi_ec_order(job->codec->value, id, job->shape, &order))
        return cwi_fail(job->err, CW_ERR_INVALID,
                        "codec %s: a tensor of %d dimensions has no such layout; nchw takes any, nhwc 4 or 5, nlc and "
                        "ncl 3, nc 1 or 2, and auto finds one",
                        cw_codec_spec(job->codec), job->shape->ndim);
    const cw_status status =
        cwi_order_moves(&order) ? encode_moved(job, id, &order, bits) : encode_in_order(job, id, &order.shape, bits);
    job->source.offset = NULL;
    return status == CW_ERR_NONFINITE ? cwi_source_nonfinite(&job->source, job->elements, job->err) : status;
}

cw_status cwi_ec_encode_as(cwi_encode_job *job, cwi_order_id id)
{
    return order_as(job, id, NULL);
}

cw_status cwi_ec_bits_as(cwi_encode_job *job, cwi_order_id id, double *bits)
{
    return order_as(job, id, bits);
}
