/* codec_ms.c - `ms`: mask-encoded sparsification (paper.md, section 2; arXiv 2408.13787, algorithms 1 and 2).
 *
 * Body: kept count (7 bytes) and flags (1) | levels of each segment | planes | kept values.
 * Levels: recon=edge has the magnitude that the codes are parts of (one float: Top_min, or where nothing is kept the
 * largest), recon=centroid the mean magnitude of each code but the last (2^b - 1 floats). */
#include <float.h>
#include <math.h>
#include <string.h>

#include "codec/codec_impl.h"
#include "codec/mask.h"

enum { KEY_R, KEY_B, KEY_ROUND, KEY_RECON, KEY_VALUES, KEY_SCOPE, KEY_COUNT };
enum { RECON_EDGE, RECON_CENTROID };
enum { PREFIX = 8, FLAGS_AT = 7, FLAG_SIGNED = 1 };

static const cwi_key keys[KEY_COUNT] = {
    [KEY_R] = {.name = "r", .type = CWI_KEY_REAL, .min = 0, .max = 1, .standard = 0.99},
    [KEY_B] = {.name = "b", .type = CWI_KEY_INT, .min = 1, .max = CWI_MAX_BITS, .standard = 2},
    [KEY_ROUND] = {.name = "round", .type = CWI_KEY_CHOICE, .choices = "floor|nearest", .standard = CWI_ROUND_NEAREST},
    [KEY_RECON] = {.name = "recon", .type = CWI_KEY_CHOICE, .choices = "edge|centroid", .standard = RECON_EDGE},
    [KEY_VALUES] = {.name = "values", .type = CWI_KEY_CHOICE, .choices = CWI_VALUES_CHOICES},
    [KEY_SCOPE] = {.name = "scope", .type = CWI_KEY_CHOICE, .choices = CWI_SCOPE_CHOICES},
};

static cwi_mask describe(const cwi_value *v, const cw_shape *shape, size_t elements)
{
    cwi_mask m = {.bits = (unsigned)v[KEY_B].whole, .values = (cwi_values)v[KEY_VALUES].whole};
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

static size_t work_size(const cwi_input *in)
{
    cwi_mask m = describe(in->value, in->shape, in->elements);
    return cwi_mask_work_size(&m.layout, in->threads);
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

static cw_status encode(cwi_encode_job *job)
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

static cw_status check(const cwi_payload *p, cw_error *err)
{
    if (p->body_size < PREFIX)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size,
                           "the body of an ms payload has %zu bytes, %d is the least", p->body_size, PREFIX);
    if (p->body[FLAGS_AT] & ~FLAG_SIGNED)
        return cwi_fail_at(err, CW_ERR_UNSUPPORTED, p->header_size + FLAGS_AT, "unknown flags %02x in an ms payload",
                           p->body[FLAGS_AT]);
    cwi_mask m = described(p);
    size_t size;
    if (m.kept > m.layout.length)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size, "the payload keeps %zu values of %zu elements", m.kept,
                           m.layout.length);
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

static cw_status decode(cwi_decode_job *job)
{
    const cwi_payload *p = job->payload;
    cwi_mask m = described(p);
    CWI_TRY(check_levels(p, &m, job->err));
    const reading r = {p, &m};
    cwi_mask_decoder d = {.job = job, .mask = &m, .ctx = &r};
    d.levels = p->value[KEY_RECON].whole == RECON_CENTROID ? centroid_levels : edge_levels;
    d.marks = p->body + PREFIX + m.layout.segments * levels_of_segment(p->value) * 4;
    d.values = d.marks + m.layout.segments * cwi_mask_marks_size(&m);
    return cwi_mask_decode(&d);
}

const cwi_family cwi_family_ms = {
    .info = {.name = "ms",
             .summary = "mask-encoded sparsification: the largest values exactly, b bits for every other",
             .keys = "r=[0,1) b=1..8 round=floor|nearest recon=edge|centroid values=" CWI_VALUES_CHOICES
                     " scope=" CWI_SCOPE_CHOICES},
    .id = 4,
    .keys = keys,
    .key_count = KEY_COUNT,
    .bound = bound,
    .work_size = work_size,
    .encode = encode,
    .check = check,
    .decode = decode,
};
