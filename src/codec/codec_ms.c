/* codec_ms.c - `ms`: mask-encoded sparsification (Zhou et al., arXiv 2408.13787, algorithms 1 and 2).
 *
 * Body: kept count (7 bytes) and flags (1) | levels of each segment | planes | kept values.
 * Levels: recon=edge has the magnitude that the codes are parts of (one float: Top_min, or where nothing is kept the
 * largest), recon=centroid the mean magnitude of each code but the last (2^b - 1 floats). */
#include <float.h>
#include <math.h>
#include <string.h>

#include "codec/codec_impl.h"
#include "codec/mask.h"
#include "codec/mask_ctx.h"
#include "codec/mask_values.h"

enum { KEY_R, KEY_B, KEY_ROUND, KEY_RECON, KEY_VALUES, KEY_SCOPE, KEY_ENTROPY, KEY_COUNT };
enum { RECON_EDGE, RECON_CENTROID };
enum { ENTROPY_NONE, ENTROPY_CTX };
enum { PREFIX = 8, FLAGS_AT = 7, FLAG_SIGNED = 1, FLAG_CODED = 2, FLAG_PACKED = 4 };

static const cwi_key keys[KEY_COUNT] = {
    [KEY_R] = {.name = "r", .type = CWI_KEY_REAL, .min = 0, .max = 1, .standard = 0.99},
    [KEY_B] = {.name = "b", .type = CWI_KEY_INT, .min = 1, .max = CWI_MAX_BITS, .standard = 2},
    [KEY_ROUND] = {.name = "round", .type = CWI_KEY_CHOICE, .choices = "floor|nearest", .standard = CWI_ROUND_NEAREST},
    [KEY_RECON] = {.name = "recon", .type = CWI_KEY_CHOICE, .choices = "edge|centroid", .standard = RECON_EDGE},
    [KEY_VALUES] = {.name = "values", .type = CWI_KEY_CHOICE, .choices = CWI_VALUES_CHOICES},
    [KEY_SCOPE] = {.name = "scope", .type = CWI_KEY_CHOICE, .choices = CWI_SCOPE_CHOICES},
    [KEY_ENTROPY] = {.name = "entropy", .type = CWI_KEY_CHOICE, .choices = "none|ctx"},
};

static cwi_mask describe(const cwi_value *v, const cw_shape *shape, size_t elements)
{
    cwi_mask m = {.bits = (unsigned)v[KEY_B].whole, .values = (cwi_values)v[KEY_VALUES].whole};
    m.signed_zero = v[KEY_RECON].whole == RECON_CENTROID;
    m.layout = cwi_layout_of(shape, elements, v[KEY_SCOPE].whole == CWI_SCOPE_SAMPLE);
    m.kept = cwi_kept(v[KEY_R].real, m.layout.length);
    return m;
}

static size_t levels_of_segment(const cwi_value *v)
{
    return v[KEY_RECON].whole == RECON_CENTROID ? (1u << v[KEY_B].whole) - 1 : 1;
}

/* Of the whole body; false on overflow. */
static bool body_size(const cwi_mask *m, const cwi_value *v, size_t *size)
{
    size_t levels;
    return cwi_mul_size(m->layout.segments, 4 * levels_of_segment(v), &levels) && cwi_mask_size(m, size) &&
           cwi_add_size(*size, levels, size) && cwi_add_size(*size, PREFIX, size);
}

static bool bound(const cwi_input *in, size_t *size)
{
    cwi_mask m = describe(in->value, in->shape, in->elements);
    m.is_signed = true;
    return body_size(&m, in->value, size);
}

static bool is_coded(const cwi_value *v, size_t elements)
{
    return v[KEY_ENTROPY].whole == ENTROPY_CTX && elements > 0 && elements <= CWI_CTX_ELEMENTS_MOST;
}

static size_t mask_work(const cwi_mask *m, unsigned threads)
{
    return (cwi_mask_work_size(&m->layout, threads) + 63) & ~(size_t)63;
}

/* What coded bodies want beside: rooms for values, packed or not, and for what the mask wants. */
static size_t coded_work(const cwi_mask *m, const cw_shape *shape, unsigned threads, bool decoding)
{
    return cwi_mask_ctx_work(m, shape, threads, decoding) +
           ((m->layout.segments * cwi_mask_values_size(m) + 63) & ~(size_t)63);
}

static size_t work_size(const cwi_input *in)
{
    cwi_mask m = describe(in->value, in->shape, in->elements);
    size_t body, size = mask_work(&m, in->threads);
    m.is_signed = true;
    if (is_coded(in->value, in->elements) && body_size(&m, in->value, &body))
        size += coded_work(&m, in->shape, in->threads, false) + body;
    return size;
}

/* ---- encoding ---- */

static void put_float(uint8_t *out, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    cwi_put_le(out, bits, 4);
}

typedef struct averaging {
    const cwi_encode_job *job;
    const cwi_mask *mask;
    const cwi_mask_work *work;
    cwi_rounding rounding;
    uint8_t *levels;
} averaging;

typedef struct summing {
    const cwi_kernels *kernels;
    cwi_quant quant;
    uint32_t limit;
    cwi_moments moments;
} summing;

static void visit_moments(void *ctx, const float *x, size_t n)
{
    summing *s = ctx;
    s->kernels->moments(x, n, &s->quant, s->limit, &s->moments);
}

/* The ties at the threshold that are not kept are not in the sums yet: they all have the same code. */
static void add_ties(const averaging *a, size_t segment, summing *s)
{
    uint64_t summed = 0;
    for (size_t c = 0; c < CWI_COUNT(s->moments.count); c++)
        summed += s->moments.count[c];
    const uint64_t left = a->mask->layout.length - a->mask->kept - summed;
    float t, v;
    memcpy(&t, &a->work->picks[segment].threshold, sizeof t);
    if (left == 0)
        return;
    uint32_t code = cwi_quant_code(&s->quant, t, &v);
    s->moments.count[code] += left;
    s->moments.sum[code] += left * (uint32_t)(v * 65536.0f);
}

static void average_segment(void *ctx, unsigned worker, size_t segment)
{
    (void)worker;
    const averaging *a = ctx;
    const cwi_pick *pick = &a->work->picks[segment];
    const size_t length = a->mask->layout.length, codes = (1u << a->mask->bits) - 1;
    summing s = {.kernels = a->job->kernels, .limit = pick->threshold};
    cwi_mask_quant(a->mask, a->rounding, pick, &s.quant);
    cwi_source_each(&a->job->source, segment * length, length, visit_moments, &s);
    add_ties(a, segment, &s);
    const unsigned steps = cwi_mask_steps(a->mask);
    const double unit = steps ? (double)cwi_mask_limit(a->mask, pick) / steps / 65536.0 : 0.0;
    uint8_t *out = a->levels + segment * codes * 4;
    for (size_t c = 0; c < codes; c++) {
        double mean = s.moments.count[c] ? (double)s.moments.sum[c] / (double)s.moments.count[c] * unit : 0.0;
        put_float(out + 4 * c, (float)CWI_MIN(mean, (double)FLT_MAX));
    }
}

static void put_levels(const averaging *a, bool centroid)
{
    averaging copy = *a;
    if (centroid) {
        cwi_parallel(a->job->threads, a->mask->layout.segments, average_segment, &copy);
        return;
    }
    for (size_t s = 0; s < a->mask->layout.segments; s++)
        put_float(a->levels + 4 * s, cwi_mask_limit(a->mask, &a->work->picks[s]));
}

/* Codes the planes, and puts the values, packed if that helps, before them; or leaves all as it is when that is no
 * smaller. */
static void encode_context(cwi_encode_job *job, const cwi_mask_encoder *e)
{
    const cwi_mask *m = e->mask;
    cwi_mask_ctx c = {.mask = m,
                      .kernels = job->kernels,
                      .shape = job->shape,
                      .threads = job->threads,
                      .work = job->work + mask_work(m, job->threads)};
    size_t coded;
    if (!cwi_mask_ctx_encode(&c, e->marks, &coded)) {
        cwi_mask_encode(e);
        return;
    }
    const size_t planes = (size_t)(e->values - e->marks), plain = m->layout.segments * cwi_mask_values_size(m);
    const size_t packed = cwi_values_pack(m, e->values, c.work), values = packed ? packed : plain;
    job->body[FLAGS_AT] |= packed ? FLAG_CODED | FLAG_PACKED : FLAG_CODED;
    if (!packed)
        memcpy(c.work, e->values, plain);
    memmove(e->marks + values, e->marks, coded);
    memcpy(e->marks, c.work, values);
    job->size -= planes - coded + plain - values;
}

static cw_status encode_body(cwi_encode_job *job)
{
    const cwi_value *v = job->codec->value;
    cwi_mask m = describe(v, job->shape, job->elements);
    cwi_mask_work work;
    size_t size;
    if (job->elements) {
        cwi_mask_work_init(&work, &m.layout, job->threads, job->work);
        CWI_TRY(cwi_mask_pick(job, &m.layout, m.kept, &work, &m.is_signed));
    }
    if (!body_size(&m, v, &size))
        return cwi_fail(job->err, CW_ERR_INVALID, "the tensor is too large: its payload's size overflows");
    CWI_TRY(cwi_reserve(job, size));
    cwi_put_le(job->body, m.kept, FLAGS_AT);
    job->body[FLAGS_AT] = m.is_signed ? FLAG_SIGNED : 0;
    if (job->elements == 0)
        return CW_OK;
    const cwi_rounding rounding = (cwi_rounding)v[KEY_ROUND].whole;
    averaging a = {job, &m, &work, rounding, job->body + PREFIX};
    put_levels(&a, v[KEY_RECON].whole == RECON_CENTROID);
    cwi_mask_encoder e = {.job = job, .mask = &m, .work = &work, .rounding = rounding};
    e.marks = a.levels + m.layout.segments * levels_of_segment(v) * 4;
    e.values = e.marks + m.layout.segments * cwi_mask_marks_size(&m);
    cwi_mask_encode(&e);
    if (is_coded(v, job->elements))
        encode_context(job, &e);
    return CW_OK;
}

/* The planes are there before their coded form is: an output that has no room for them must not matter. */
static cw_status encode(cwi_encode_job *job)
{
    cwi_mask m = describe(job->codec->value, job->shape, job->elements);
    const size_t used = mask_work(&m, job->threads), capacity = job->capacity;
    uint8_t *body = job->body;
    size_t plain;
    m.is_signed = true;
    if (!is_coded(job->codec->value, job->elements) || !body_size(&m, job->codec->value, &plain) || plain <= capacity)
        return encode_body(job);
    job->body = job->work + used + coded_work(&m, job->shape, job->threads, false);
    job->capacity = plain;
    const cw_status status = encode_body(job);
    const uint8_t *made = job->body;
    job->body = body;
    job->capacity = capacity;
    CWI_TRY(status);
    CWI_TRY(cwi_reserve(job, job->size));
    memcpy(body, made, job->size);
    return CW_OK;
}

/* ---- decoding ---- */

static float get_float(const uint8_t *in)
{
    uint32_t bits = (uint32_t)cwi_get_le(in, 4);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The mask that the body says it holds; only after its length is known to be at least PREFIX. */
static cwi_mask described(const cwi_payload *p)
{
    cwi_mask m = describe(p->value, &p->shape, p->elements);
    m.kept = (size_t)cwi_get_le(p->body, FLAGS_AT);
    m.is_signed = p->body[FLAGS_AT] & FLAG_SIGNED;
    return m;
}

/* Where the levels end. */
static size_t levels_end(const cwi_payload *p, const cwi_mask *m)
{
    return PREFIX + m->layout.segments * levels_of_segment(p->value) * 4;
}

static cw_status check_coded(const cwi_payload *p, const cwi_mask *m, cw_error *err)
{
    size_t size, values = m->layout.segments * cwi_mask_values_size(m);
    if (!body_size(m, p->value, &size) || size <= p->body_size)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size,
                           "the body has %zu bytes, more than without entropy coding", p->body_size);
    const size_t at = levels_end(p, m);
    /* r says how many are kept, and that how much scratch there is */
    bool fits = at <= p->body_size && m->kept == describe(p->value, &p->shape, p->elements).kept;
    if (fits && p->body[FLAGS_AT] & FLAG_PACKED) {
        values = cwi_values_packed(m, p->body + at, p->body_size - at);
        fits = values > 0;
    }
    if (!fits || p->body_size - at < values ||
        !cwi_mask_ctx_check(m, &p->shape, p->body + at + values, p->body_size - at - values))
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size,
                           "the body has %zu bytes, which is not what its shape and parameters take", p->body_size);
    return CW_OK;
}

static cw_status check(const cwi_payload *p, cw_error *err)
{
    if (p->body_size < PREFIX)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size,
                           "the body of an ms payload has %zu bytes, %d is the least", p->body_size, PREFIX);
    const unsigned coded = is_coded(p->value, p->elements) ? FLAG_CODED : 0;
    const unsigned packed = p->body[FLAGS_AT] & coded ? FLAG_PACKED : 0;
    if (p->body[FLAGS_AT] & ~(FLAG_SIGNED | coded | packed))
        return cwi_fail_at(err, CW_ERR_UNSUPPORTED, p->header_size + FLAGS_AT, "unknown flags %02x in an ms payload",
                           p->body[FLAGS_AT]);
    cwi_mask m = described(p);
    size_t size;
    if (m.kept > m.layout.length)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size, "the payload keeps %zu values of %zu elements", m.kept,
                           m.layout.length);
    if (p->body[FLAGS_AT] & FLAG_CODED)
        return check_coded(p, &m, err);
    if (!body_size(&m, p->value, &size) || size != p->body_size)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size,
                           "the body has %zu bytes, which is not what its shape and parameters take", p->body_size);
    return CW_OK;
}

/* What the levels of a payload are made from. */
typedef struct reading {
    const cwi_payload *payload;
    const cwi_mask *mask;
} reading;

static void edge_levels(const void *ctx, size_t segment, float *level)
{
    const reading *r = ctx;
    const double limit = (double)get_float(r->payload->body + PREFIX + 4 * segment);
    const unsigned steps = cwi_mask_steps(r->mask), codes = (1u << r->mask->bits) - 1;
    for (unsigned c = 0; c < codes; c++)
        level[c] = c ? (float)(c * limit / steps) : 0.0f;
}

static void centroid_levels(const void *ctx, size_t segment, float *level)
{
    const reading *r = ctx;
    const size_t count = levels_of_segment(r->payload->value);
    for (size_t c = 0; c < count; c++)
        level[c] = get_float(r->payload->body + PREFIX + 4 * (segment * count + c));
}

static cw_status check_levels(const cwi_payload *p, const cwi_mask *m, cw_error *err)
{
    const size_t count = m->layout.segments * levels_of_segment(p->value);
    for (size_t i = 0; i < count; i++) {
        float level = get_float(p->body + PREFIX + 4 * i);
        if (!isfinite(level) || signbit(level))
            return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size + PREFIX + 4 * i,
                               "level %zu of the payload is %g: levels are finite and not negative", i, (double)level);
    }
    return CW_OK;
}

static size_t blocks_work(size_t elements, unsigned threads)
{
    return (cwi_decode_work_blocks(elements, threads) + 63) & ~(size_t)63;
}

/* Decodes values and planes, into the job's scratch. */
static cw_status decode_context(const cwi_decode_job *job, cwi_mask_decoder *d)
{
    const cwi_payload *p = job->payload;
    const cwi_mask *m = d->mask;
    cwi_mask_ctx c = {.mask = m, .kernels = job->kernels, .shape = &p->shape, .threads = job->threads};
    const size_t at = levels_end(p, m);
    size_t values = m->layout.segments * cwi_mask_values_size(m);
    uint8_t *unpacked = job->work + blocks_work(p->elements, job->threads);
    c.work = unpacked + ((values + 63) & ~(size_t)63);
    d->values = p->body + at;
    if (p->body[FLAGS_AT] & FLAG_PACKED) {
        values = cwi_values_packed(m, d->values, p->body_size - at);
        if (!cwi_values_unpack(m, d->values, values, unpacked))
            return cwi_fail_at(job->err, CW_ERR_CORRUPT, p->header_size + at,
                               "the packed values of the payload are damaged");
        d->values = unpacked;
    }
    const uint8_t *marks = p->body + at + values;
    d->marks = cwi_mask_ctx_decode(&c, marks, (size_t)(p->body + p->body_size - marks));
    return d->marks ? CW_OK
                    : cwi_fail_at(job->err, CW_ERR_CORRUPT, p->header_size + at + values,
                                  "the entropy-coded codes of the payload are damaged");
}

static cw_status decode(cwi_decode_job *job)
{
    const cwi_payload *p = job->payload;
    cwi_mask m = described(p);
    CWI_TRY(check_levels(p, &m, job->err));
    const reading r = {p, &m};
    cwi_mask_decoder d = {.job = job, .mask = &m, .ctx = &r};
    d.levels = p->value[KEY_RECON].whole == RECON_CENTROID ? centroid_levels : edge_levels;
    if (p->body[FLAGS_AT] & FLAG_CODED) {
        CWI_TRY(decode_context(job, &d));
    } else {
        d.marks = p->body + levels_end(p, &m);
        d.values = p->body + p->body_size - m.layout.segments * cwi_mask_values_size(&m);
    }
    return cwi_mask_decode(&d);
}

static size_t decode_work(const cwi_payload *p, unsigned threads)
{
    cwi_mask m = describe(p->value, &p->shape, p->elements);
    m.is_signed = true;
    const size_t size = blocks_work(p->elements, threads);
    return size + (is_coded(p->value, p->elements) ? coded_work(&m, &p->shape, threads, true) : 0);
}

static void refine_traits(const cwi_value *v, cw_codec_traits *traits)
{
    traits->keeps_zero = v[KEY_RECON].whole == RECON_EDGE; /* a centroid is the mean of what the code stands for */
}

const cwi_family cwi_family_ms = {
    .info = {.name = "ms",
             .summary = "mask-encoded sparsification: the largest values exactly, b bits for every other",
             .keys = "r=[0,1) b=1..8 round=floor|nearest recon=edge|centroid values=" CWI_VALUES_CHOICES
                     " scope=" CWI_SCOPE_CHOICES " entropy=none|ctx"},
    .id = 4,
    .version = 1,
    .refine_traits = refine_traits,
    .keys = keys,
    .key_count = KEY_COUNT,
    .bound = bound,
    .work_size = work_size,
    .encode = encode,
    .check = check,
    .decode = decode,
    .decode_work = decode_work,
};
