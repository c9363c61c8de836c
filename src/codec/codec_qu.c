/* codec_qu.c - `qu`: uniform quantization between the smallest and the largest value.
 *
 * Body: smallest and largest value of each segment (two floats) | codes of each segment in b bit planes. */
#include <math.h>
#include <string.h>

#include "codec/mask.h"

enum { KEY_B, KEY_ROUND, KEY_SCOPE, KEY_SEED, KEY_COUNT };
enum { NEAREST, STOCHASTIC };
enum { RANGE_BYTES = 8 };

static const cwi_key keys[KEY_COUNT] = {
    [KEY_B] = {.name = "b", .type = CWI_KEY_INT, .min = 1, .max = CWI_MAX_BITS, .standard = 3},
    [KEY_ROUND] = {.name = "round", .type = CWI_KEY_CHOICE, .choices = "nearest|stochastic"},
    [KEY_SCOPE] = {.name = "scope", .type = CWI_KEY_CHOICE, .choices = CWI_SCOPE_CHOICES},
    [KEY_SEED] = {.name = "seed", .type = CWI_KEY_SEED},
};

static cwi_layout layout_of(const cwi_value *v, const cw_shape *shape, size_t elements)
{
    return cwi_layout_of(shape, elements, v[KEY_SCOPE].whole == CWI_SCOPE_SAMPLE);
}

static size_t codes_of_segment(const cwi_value *v, const cwi_layout *l)
{
    return cwi_planes_size(l->length, (unsigned)v[KEY_B].whole);
}

static bool body_size(const cwi_value *v, const cwi_layout *l, size_t *size)
{
    return cwi_mul_size(l->segments, RANGE_BYTES + codes_of_segment(v, l), size);
}

static bool bound(const cwi_input *in, size_t *size)
{
    cwi_layout l = layout_of(in->value, in->shape, in->elements);
    return body_size(in->value, &l, size);
}

/* ---- how the work is shared out: by segments, or by the blocks of the only one ---- */

typedef struct sharing {
    cwi_layout layout;
    size_t units;  /* of work */
    size_t length; /* of a unit; the last one may be shorter */
} sharing;

static sharing share(const cwi_layout *l, unsigned threads)
{
    sharing s = {.layout = *l, .units = l->segments, .length = l->length};
    if (l->segments == 1 && threads > 1) {
        s.length = CWI_BLOCK;
        s.units = (l->length + CWI_BLOCK - 1) / CWI_BLOCK;
    }
    return s;
}

static size_t unit_length(const sharing *s, size_t unit)
{
    return CWI_MIN(s->length, s->layout.elements - unit * s->length);
}

static size_t work_size(const cwi_input *in)
{
    cwi_layout l = layout_of(in->value, in->shape, in->elements);
    sharing s = share(&l, in->threads);
    return s.units * sizeof(cwi_range);
}

/* ---- encoding ---- */

typedef struct quantizing {
    cwi_encode_job *job;
    sharing sharing;
    cwi_range *ranges; /* of each unit */
    uint64_t noise;    /* key of the stream */
    uint8_t *codes;
} quantizing;

typedef struct ranging {
    const cwi_kernels *kernels;
    cwi_range *range;
} ranging;

static void visit_range(void *ctx, const float *x, size_t n)
{
    const ranging *r = ctx;
    r->kernels->range(x, n, r->range);
}

static void range_unit(void *ctx, unsigned worker, size_t unit)
{
    (void)worker;
    quantizing *q = ctx;
    ranging r = {q->job->kernels, &q->ranges[unit]};
    q->ranges[unit] = CWI_RANGE_EMPTY;
    cwi_source_each(&q->job->source, unit * q->sharing.length, unit_length(&q->sharing, unit), visit_range, &r);
}

/* Ranges of the segments from those of the units, written to the body. False when there is NaN or infinity. */
static bool put_ranges(quantizing *q)
{
    const bool by_block = q->sharing.units != q->sharing.layout.segments;
    for (size_t u = 0; u < q->sharing.units; u++) {
        cwi_range *r = &q->ranges[by_block ? 0 : u];
        if (q->ranges[u].max_key >= CWI_KEY_INF)
            return false;
        r->min = CWI_MIN(r->min, q->ranges[u].min);
        r->max = CWI_MAX(r->max, q->ranges[u].max);
    }
    for (size_t s = 0; s < q->sharing.layout.segments; s++) {
        float range[2] = {q->ranges[s].min + 0.0f, q->ranges[s].max + 0.0f}; /* -0 becomes 0 */
        for (size_t i = 0; i < 2; i++) {
            uint32_t bits;
            memcpy(&bits, &range[i], sizeof bits);
            cwi_put_le(q->job->body + RANGE_BYTES * s + 4 * i, bits, 4);
        }
    }
    return true;
}

static void get_range(const uint8_t *body, size_t segment, float *low, float *high)
{
    uint32_t bits = (uint32_t)cwi_get_le(body + RANGE_BYTES * segment, 4);
    memcpy(low, &bits, sizeof *low);
    bits = (uint32_t)cwi_get_le(body + RANGE_BYTES * segment + 4, 4);
    memcpy(high, &bits, sizeof *high);
}

static void quantize_unit(void *ctx, unsigned worker, size_t unit)
{
    (void)worker;
    const quantizing *q = ctx;
    const cwi_value *v = q->job->codec->value;
    const cwi_source *source = &q->job->source;
    const unsigned bits = (unsigned)v[KEY_B].whole;
    const bool noisy = v[KEY_ROUND].whole == STOCHASTIC;
    const size_t first = unit * q->sharing.length, n = unit_length(&q->sharing, unit);
    const size_t segment = first / q->sharing.layout.length, step = cwi_source_step(source);
    uint8_t *codes = q->codes + segment * codes_of_segment(v, &q->sharing.layout);
    codes += cwi_planes_size(first - segment * q->sharing.layout.length, bits);
    float low, high, chunk[CWI_CHUNK];
    cwi_quant quant;
    get_range(q->job->body, segment, &low, &high);
    cwi_quant_between(&quant, bits, noisy ? CWI_ROUND_STOCHASTIC : CWI_ROUND_NEAREST, low, high);
    for (size_t done = 0; done < n; done += step) {
        size_t m = CWI_MIN(step, n - done);
        const float *x = cwi_source_get(source, first + done, m, chunk);
        if (noisy)
            q->job->kernels->quantize_noise(x, m, &quant, q->noise, first + done, codes);
        else
            q->job->kernels->quantize(x, m, &quant, codes);
        codes += cwi_planes_size(m, bits);
    }
}

static cw_status encode(cwi_encode_job *job)
{
    const cwi_value *v = job->codec->value;
    cwi_layout l = layout_of(v, job->shape, job->elements);
    size_t size;
    if (!body_size(v, &l, &size))
        return cwi_fail(job->err, CW_ERR_INVALID, "the tensor is too large: its payload's size overflows");
    CWI_TRY(cwi_reserve(job, size));
    if (job->elements == 0)
        return CW_OK;
    quantizing q = {.job = job, .sharing = share(&l, job->threads), .ranges = (cwi_range *)(void *)job->work};
    q.noise = cwi_rng_make(job->seed, CWI_STREAM_CODEC, v[KEY_SEED].whole, 0).key;
    q.codes = job->body + RANGE_BYTES * l.segments;
    cwi_parallel(job->threads, q.sharing.units, range_unit, &q);
    if (!put_ranges(&q))
        return cwi_source_nonfinite(&job->source, job->elements, job->err);
    cwi_parallel(job->threads, q.sharing.units, quantize_unit, &q);
    return CW_OK;
}

/* ---- decoding ---- */

static cw_status check(const cwi_payload *p, cw_error *err)
{
    cwi_layout l = layout_of(p->value, &p->shape, p->elements);
    size_t size;
    if (!body_size(p->value, &l, &size) || size != p->body_size)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size,
                           "the body has %zu bytes, which is not what its shape and parameters take", p->body_size);
    return CW_OK;
}

static cw_status check_ranges(const cwi_payload *p, size_t segments, cw_error *err)
{
    for (size_t s = 0; s < segments; s++) {
        float low, high;
        get_range(p->body, s, &low, &high);
        if (!isfinite(low) || !isfinite(high) || low > high)
            return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size + RANGE_BYTES * s,
                               "values from %g to %g in the payload: a range is finite and does not fall", (double)low,
                               (double)high);
    }
    return CW_OK;
}

typedef struct restoring {
    cwi_decode_job *job;
    sharing sharing;
} restoring;

static void restore_unit(void *ctx, unsigned worker, size_t unit)
{
    (void)worker;
    const restoring *r = ctx;
    const cwi_payload *p = r->job->payload;
    const cwi_layout *l = &r->sharing.layout;
    const unsigned bits = (unsigned)p->value[KEY_B].whole;
    const size_t first = unit * r->sharing.length, n = unit_length(&r->sharing, unit), segment = first / l->length;
    const size_t step = cwi_sink_step(&r->job->sink);
    const uint8_t *codes = p->body + RANGE_BYTES * l->segments + segment * codes_of_segment(p->value, l);
    codes += cwi_planes_size(first - segment * l->length, bits);
    float low, high, chunk[CWI_CHUNK], level[1 << CWI_MAX_BITS];
    get_range(p->body, segment, &low, &high);
    cwi_levels_between(level, bits, low, high);
    for (size_t done = 0; done < n; done += step) {
        size_t m = CWI_MIN(step, n - done);
        float *out = cwi_sink_at(&r->job->sink, first + done, chunk);
        r->job->kernels->dequantize(codes, m, bits, level, out);
        cwi_sink_put(&r->job->sink, first + done, m, out);
        codes += cwi_planes_size(m, bits);
    }
}

static cw_status decode(cwi_decode_job *job)
{
    const cwi_payload *p = job->payload;
    const cwi_layout l = layout_of(p->value, &p->shape, p->elements);
    CWI_TRY(check_ranges(p, l.segments, job->err));
    restoring r = {job, share(&l, job->threads)};
    cwi_parallel(job->threads, r.sharing.units, restore_unit, &r);
    return CW_OK;
}

static void refine_traits(const cwi_value *v, cw_codec_traits *traits)
{
    traits->unbiased = v[KEY_ROUND].whole == STOCHASTIC;
}

const cwi_family cwi_family_qu = {
    .info = {.name = "qu",
             .summary = "uniform quantization between the smallest and the largest value",
             .keys = "b=1..8 round=nearest|stochastic scope=" CWI_SCOPE_CHOICES " seed=N"},
    .id = 7,
    .version = 1,
    .traits = {.keeps_zero = true},
    .refine_traits = refine_traits,
    .keys = keys,
    .key_count = KEY_COUNT,
    .bound = bound,
    .work_size = work_size,
    .encode = encode,
    .check = check,
    .decode = decode,
};
