/* codec_ec.c - `ec`: uniform quantization, coded in the context of the neighbours; its body, and decoding.
 *
 * Version 1: flags (1 byte), number of levels (1), 2 zeros | step of each segment | levels | levels of classes |
 * symbols (ctx.h) | signs | lower bits of large codes | escaped elements.
 *
 * Version 2: flags, order and number of levels, where there are such zero, width and bands, profile | steps | levels,
 * or those about a zero | offsets of channels (ec_offsets.c) | symbols | signs and lower bits, or tails (ec_about.c) |
 * escaped elements. docs/formats/payload.md has both byte by byte. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "codec/bits.h"
#include "codec/codec_ec.h"
#include "codec/mask.h"

static const cwi_key keys[CWI_EC_KEYS] = {
    [CWI_EC_ERR] = {.name = "err", .type = CWI_KEY_REAL, .min = 0, .max = 1},
    [CWI_EC_BPE] = {.name = "bpe", .type = CWI_KEY_REAL, .min = 0, .max = 64},
    [CWI_EC_BYTES] = {.name = "bytes", .type = CWI_KEY_REAL, .min = 0, .max = 0x1p48},
    [CWI_EC_STEP] = {.name = "step", .type = CWI_KEY_REAL, .min = 0, .max = 4096},
    [CWI_EC_ROUND] = {.name = "round", .type = CWI_KEY_CHOICE, .choices = "nearest|stochastic"},
    [CWI_EC_SCOPE] = {.name = "scope", .type = CWI_KEY_CHOICE, .choices = CWI_SCOPE_CHOICES},
    [CWI_EC_LAYOUT] = {.name = "layout", .type = CWI_KEY_CHOICE, .choices = CWI_ORDER_CHOICES},
    [CWI_EC_EFFORT] = {.name = "effort", .type = CWI_KEY_CHOICE, .choices = "best|fast"},
};

static void normalize(cwi_value *v)
{
    if (v[CWI_EC_ERR].real == 0 && v[CWI_EC_BPE].real == 0 && v[CWI_EC_BYTES].real == 0 && v[CWI_EC_STEP].real == 0)
        v[CWI_EC_ERR].real = 0.25;
}

cwi_layout cwi_ec_layout(const cwi_value *v, const cw_shape *shape, size_t elements)
{
    return cwi_layout_of(shape, elements, v[CWI_EC_SCOPE].whole == CWI_SCOPE_SAMPLE);
}

bool cwi_ec_order(const cwi_value *v, cwi_order_id id, const cw_shape *shape, cwi_order *out)
{
    return cwi_order_of(id, shape, v[CWI_EC_SCOPE].whole == CWI_SCOPE_SAMPLE, out);
}

bool cwi_ec_ctx_shape(cwi_order_id id, const cw_shape *ordered, size_t elements, cwi_ctx_shape *out)
{
    if (id.narrow)
        return cwi_ctx_shape_narrow(ordered, elements, out);
    cwi_ctx_shape_of(ordered, elements, out);
    return true;
}

size_t cwi_ec_fixed(const cwi_layout *l, unsigned levels, bool classes)
{
    return 4 * (l->segments + levels) + (classes ? CWI_EC_CLASS_LEVELS : 0);
}

/* What a body begins with. */
typedef struct head {
    unsigned flags, levels, zero, tails; /* tails: the order of their Golomb code */
    cwi_order_id order;                  /* payloads of version 1 have none */
    bool klt;                            /* what is coded are outputs of the profile's transform, in order NCHW */
    uint64_t profile;                    /* its hash, or 0 */
    size_t steps;                        /* where they begin */
    bool padded;                         /* what is to be 0 is */
} head;

static head head_v1(const uint8_t *b)
{
    return (head){
        .flags = b[0], .levels = b[1], .steps = CWI_EC_FIRST_PREFIX, .padded = b[2] == 0 && b[3] == 0 && b[0] < 8};
}

static head head_v2(const uint8_t *b)
{
    const uint8_t *at = b + CWI_EC_LEAST_PREFIX;
    head h = {.flags = b[0], .levels = b[CWI_EC_AT_ORDER] >> 4, .steps = cwi_ec_prefix(b[0]), .padded = true};
    const unsigned name = b[CWI_EC_AT_ORDER] & 15;
    h.klt = name == CWI_EC_ORDER_KLT;
    h.order.name = h.klt ? CWI_ORDER_NCHW : (cwi_order_name)name;
    h.order.narrow = h.flags & CWI_EC_NARROW;
    if (h.flags & CWI_EC_ABOUT) {
        h.zero = *at & 15;
        h.tails = *at++ >> 4;
    }
    if (h.flags & CWI_EC_MORE) {
        h.order.width = (unsigned)cwi_get_le(at, 2);
        h.order.bands = at[2];
        h.padded = h.order.width || h.order.bands;
        at += CWI_EC_MORE_BYTES;
    }
    if (h.flags & CWI_EC_PROFILE)
        h.profile = cwi_get_le(at, CWI_PROFILE_HASH);
    return h;
}

/* Whether the body is long enough to have one. */
static bool has_head(const cwi_payload *p)
{
    const size_t least = p->version == 1 ? CWI_EC_FIRST_PREFIX : CWI_EC_LEAST_PREFIX;
    return p->body_size >= least && (p->version == 1 || p->body_size >= cwi_ec_prefix(p->body[0]));
}

static head head_of(const cwi_payload *p)
{
    return p->version == 1 ? head_v1(p->body) : head_v2(p->body);
}

static uint64_t profile_of(const cwi_payload *p)
{
    return head_of(p).profile;
}

/* Where levels end. */
static size_t levels_end(const cwi_payload *p, const head *h, const cwi_layout *l)
{
    const bool about = h->flags & CWI_EC_ABOUT;
    const size_t plain = h->steps + cwi_ec_fixed(l, h->levels, h->flags & CWI_EC_CLASSES && !about);
    cwi_about_levels levels;
    if (!about || h->profile)
        return plain;
    const uint8_t *end = plain > p->body_size ? NULL
                                              : cwi_about_levels_get(p->body + plain, p->body_size - plain,
                                                                     h->flags & CWI_EC_CLASSES, &levels);
    return end ? (size_t)(end - p->body) : SIZE_MAX;
}

/* Where offsets end, which is where symbols begin; SIZE_MAX when it is nowhere. */
static size_t fixed_of(const cwi_payload *p, const head *h, const cwi_layout *l, const cw_shape *shape, float *offset)
{
    const size_t at = levels_end(p, h, l), channels = cwi_offsets_channels(shape);
    if (!(h->flags & CWI_EC_OFFSETS) || h->profile)
        return at;
    if (at > p->body_size || channels == 0)
        return SIZE_MAX;
    const uint8_t *end = cwi_offsets_get(p->body + at, p->body_size - at, channels, offset);
    return end ? (size_t)(end - p->body) : SIZE_MAX;
}

/* ---- decoding ---- */

static float get_float(const uint8_t *in)
{
    uint32_t bits = (uint32_t)cwi_get_le(in, 4);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static bool order_of(const cwi_payload *p, const head *h, cwi_order *order)
{
    return (h->order.name != CWI_ORDER_AUTO || p->version == 1 || p->elements == 0) &&
           cwi_ec_order(p->value, h->order, &p->shape, order);
}

static bool known_flags(const cwi_payload *p, const head *h)
{
    const bool about = h->flags & CWI_EC_ABOUT, nearest = !p->value[CWI_EC_ROUND].whole;
    unsigned known = CWI_EC_SIGNED | CWI_EC_SUPPORT;
    if (nearest && !(h->flags & CWI_EC_SUPPORT))
        known |= CWI_EC_CLASSES | CWI_EC_ABOUT | CWI_EC_OFFSETS;
    if (p->version > 1)
        known |= CWI_EC_NARROW | CWI_EC_MORE | (about ? CWI_EC_PROFILE : 0);
    return !(h->flags & ~known) && h->padded && h->levels < CWI_EC_EXACT &&
           !(about && (h->levels || h->flags & CWI_EC_SIGNED)) && h->zero < CWI_ABOUT_TOP &&
           h->tails < CWI_ABOUT_ORDERS && (!h->klt || h->flags & CWI_EC_PROFILE) &&
           !(h->flags & CWI_EC_PROFILE && (h->profile == 0 || p->elements == 0));
}

/* Whether the symbols can be where they are said to begin. */
static bool has_symbols(const cwi_payload *p, const head *h, const cwi_ctx_shape *shape, size_t at)
{
    if (at > p->body_size)
        return false;
    if (p->elements == 0)
        return p->body_size == h->steps;
    return p->version == 1 ? cwi_ctx_check(shape, p->body + at, p->body_size - at)
                           : p->elements <= CWI_CTX_ELEMENTS_MOST && at < p->body_size;
}

/* What a payload says of its shape, or of the shape that its profile's outputs have. */
static cw_status check_shape(const cwi_payload *p, const head *h, cw_error *err)
{
    const cwi_layout l = cwi_ec_layout(p->value, &p->shape, p->elements);
    cwi_order order;
    cwi_ctx_shape shape;
    if (!order_of(p, h, &order))
        return cwi_fail_at(err, CW_ERR_UNSUPPORTED, p->header_size + CWI_EC_AT_ORDER,
                           "an ec payload with layout %u, which its tensor cannot have", (unsigned)h->order.name);
    if (!cwi_ec_ctx_shape(h->order, &order.shape, p->elements, &shape) || (h->profile && !cwi_ctx_may_refer(&shape)))
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size,
                           "an ec payload with flags %u, which its tensor cannot have", h->flags);
    if (!has_symbols(p, h, &shape, fixed_of(p, h, &l, &order.shape, NULL)))
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size,
                           "the body has %zu bytes, which is not what its shape and parameters take", p->body_size);
    return CW_OK;
}

static cw_status check(const cwi_payload *p, cw_error *err)
{
    const cwi_layout l = cwi_ec_layout(p->value, &p->shape, p->elements);
    const head h = has_head(p) ? head_of(p) : (head){.steps = SIZE_MAX};
    if (p->body_size < h.steps || (p->body_size - h.steps) / 4 < l.segments)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size,
                           "the body of an ec payload has %zu bytes, too few for a tensor of its shape", p->body_size);
    if (!known_flags(p, &h))
        return cwi_fail_at(err, CW_ERR_UNSUPPORTED, p->header_size, "unknown flags in an ec payload");
    cwi_value v[CWI_EC_KEYS];
    memcpy(v, p->value, sizeof v);
    normalize(v);
    if (v[CWI_EC_ERR].real != p->value[CWI_EC_ERR].real)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size,
                           "an ec payload that has neither err, bpe, bytes nor step");
    return h.klt ? CW_OK : check_shape(p, &h, err); /* with a transform when the profile is there */
}

static cw_status check_levels(const cwi_payload *p, size_t at, size_t count, cw_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const float level = get_float(p->body + at + 4 * i);
        if (!isfinite(level) || signbit(level))
            return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size + at + 4 * i,
                               "step or level %zu of the payload is %g: they are finite and not negative", i,
                               (double)level);
    }
    return CW_OK;
}

/* Where the parts behind the symbols are read. */
typedef struct parts {
    cwi_bit_reader signs, lower;
    const uint8_t *escaped, *end;
    bool is_signed, has_large, finite;
    bool about;
    unsigned zero, order; /* with it */
    const float *offset;  /* or NULL */
    size_t channels, plane;
} parts;

/* The same of symbols about a zero: reads the tails' codes, and leaves them to be read again. */
static bool find_tails(const uint8_t *symbols, size_t n, const uint8_t *at, parts *p)
{
    uint64_t escaped = 0;
    p->lower = (cwi_bit_reader){.next = at, .end = p->end};
    for (size_t i = 0; i < n && cwi_about_next(symbols, n, p->zero, &i); i++) {
        const uint32_t excess = cwi_about_excess_get(&p->lower, p->order);
        if (excess > CWI_ABOUT_FAR)
            return false;
        escaped += excess == CWI_ABOUT_FAR;
    }
    p->escaped = p->lower.next; /* no more is held than the rest of a byte */
    p->lower = (cwi_bit_reader){.next = at, .end = p->escaped};
    return escaped == (uint64_t)(p->end - p->escaped) / 4 && (p->end - p->escaped) % 4 == 0;
}

/* Counts what the symbols ask for; false when the body is not exactly as long. */
static bool find_parts(const cwi_kernels *k, const uint8_t *symbols, size_t n, const uint8_t *at, parts *p)
{
    cwi_ec_tally t = {0};
    if (p->about)
        return find_tails(symbols, n, at, p);
    if (p->is_signed || p->has_large)
        k->ec.tally(symbols, n, &t);
    const uint64_t signs = p->is_signed ? (t.coded + 7) / 8 : 0, more = (t.lower + 7) / 8;
    if (signs + more + 4 * t.escaped != (uint64_t)(p->end - at))
        return false;
    p->signs = (cwi_bit_reader){.next = at, .end = at + signs};
    p->lower = (cwi_bit_reader){.next = at + signs, .end = at + signs + more};
    p->escaped = at + signs + more;
    p->has_large = t.lower + t.escaped > 0;
    return true;
}

static void fix_large(const uint8_t *symbols, size_t n, float step, parts *p, float *out)
{
    for (size_t i = 0; i < n && cwi_ec_large(symbols, n, &i); i++) {
        const unsigned s = symbols[i];
        if (s == CWI_EC_ESCAPED) {
            out[i] = get_float(p->escaped);
            p->finite &= isfinite(out[i]) != 0;
            p->escaped += 4;
            continue;
        }
        const unsigned bits = s - CWI_EC_LOG_OFFSET;
        const uint32_t q = (UINT32_C(1) << bits) + (uint32_t)cwi_bits_get(&p->lower, bits);
        out[i] = CWI_MIN((float)q * step, FLT_MAX);
    }
}

static void fix_tails(const uint8_t *symbols, size_t n, float step, parts *p, float *out)
{
    for (size_t i = 0; i < n && cwi_about_next(symbols, n, p->zero, &i); i++) {
        const uint32_t excess = cwi_about_excess_get(&p->lower, p->order);
        if (excess == CWI_ABOUT_FAR) {
            out[i] = get_float(p->escaped);
            p->finite &= isfinite(out[i]) != 0;
            p->escaped += 4;
            continue;
        }
        const int k = symbols[i] ? CWI_ABOUT_TOP - (int)p->zero + (int)excess : -(int)p->zero - (int)excess;
        out[i] = CWI_MAX(CWI_MIN((float)k * step, FLT_MAX), -FLT_MAX);
    }
}

/* Magnitudes of the symbols below CWI_EC_EXACT, of each class: of symbol s in class c at CWI_SYMBOLS c + s. */
typedef float class_levels[CWI_CTX_CLASSES * CWI_SYMBOLS];

static void find_levels(const cwi_decode_job *job, const head *h, const cwi_layout *l, float step, class_levels level)
{
    const uint8_t *steps = job->payload->body + h->steps, *common = steps + cwi_ec_fixed(l, 0, false);
    const uint8_t *own = steps + cwi_ec_fixed(l, h->levels, false);
    for (unsigned c = 0; c < CWI_CTX_CLASSES; c++)
        for (unsigned s = 0; s < CWI_EC_EXACT; s++) {
            float v = s && s <= h->levels ? get_float(common + 4 * (s - 1)) : (float)s;
            if (s < CWI_CTX_CLASSED && h->flags & CWI_EC_CLASSES)
                v = cwi_ec_level_get(s, own[c * CWI_CTX_CLASSED + s]);
            level[c * CWI_SYMBOLS + s] = CWI_MIN(v * step, FLT_MAX);
        }
}

static void find_about_levels(const cwi_decode_job *job, const head *h, const cwi_layout *l, float step,
                              class_levels level)
{
    cwi_about_levels levels;
    const cwi_payload *p = job->payload;
    const size_t at = h->steps + cwi_ec_fixed(l, 0, false);
    if (h->profile)
        levels = job->profile->levels;
    else
        cwi_about_levels_get(p->body + at, p->body_size - at, h->flags & CWI_EC_CLASSES, &levels);
    for (unsigned c = 0; c < CWI_CTX_CLASSES; c++)
        for (unsigned s = 0; s < CWI_SYMBOLS; s++) {
            const float v = cwi_about_level(&levels, c, s, h->zero) * step;
            level[c * CWI_SYMBOLS + s] = CWI_MAX(CWI_MIN(v, FLT_MAX), -FLT_MAX);
        }
}

/* Each symbol's level in its class. */
static void dequantize_classes(const uint8_t *classes, size_t n, const class_levels level, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = level[classes[i]];
}

static void add_offsets(const parts *p, size_t first, size_t n, float *out)
{
    cwi_add_offsets(p->offset, p->channels, p->plane, first, n, 1, out, out);
    for (size_t i = 0; i < n; i++)
        out[i] = CWI_MAX(CWI_MIN(out[i], FLT_MAX), -FLT_MAX);
}

static void decode_segment(const cwi_decode_job *job, const head *h, const cwi_layout *l, size_t segment,
                           const uint8_t *classes, parts *p)
{
    float chunk[CWI_CHUNK];
    class_levels level = {0};
    const uint8_t *symbols = job->work;
    const float step = get_float(job->payload->body + h->steps + 4 * segment);
    (p->about ? find_about_levels : find_levels)(job, h, l, step, level);
    for (size_t done = 0; done < l->length; done += CWI_CHUNK) {
        const size_t first = segment * l->length + done, n = CWI_MIN((size_t)CWI_CHUNK, l->length - done);
        float *out = cwi_sink_at(&job->sink, first, chunk);
        if (classes)
            dequantize_classes(classes + first, n, level, out);
        else
            job->kernels->ec.dequantize(symbols + first, n, level, out);
        if (p->about)
            fix_tails(symbols + first, n, step, p, out);
        else if (p->has_large)
            fix_large(symbols + first, n, step, p, out);
        if (p->is_signed)
            job->kernels->ec.set_signs(symbols + first, n, &p->signs, out);
        if (p->offset)
            add_offsets(p, first, n, out);
        cwi_sink_put(&job->sink, first, n, out);
    }
}

static size_t symbols_size(size_t elements)
{
    return (elements + 63) & ~(size_t)63;
}

static size_t offsets_size(const cwi_payload *p, const cw_shape *shape)
{
    const head h = p->body ? head_of(p) : (head){.flags = CWI_EC_OFFSETS};
    if (h.profile)
        return 0;
    return h.flags & CWI_EC_OFFSETS ? symbols_size(cwi_offsets_channels(shape) * sizeof(float)) : 0;
}

static parts parts_of(const cwi_payload *p, const head *h, const cw_shape *shape, const float *offset)
{
    parts rest = {.end = p->body + p->body_size, .finite = true, .zero = h->zero, .order = h->tails};
    rest.is_signed = h->flags & CWI_EC_SIGNED;
    rest.about = h->flags & CWI_EC_ABOUT;
    if (h->flags & CWI_EC_OFFSETS) {
        rest.offset = offset;
        rest.channels = (size_t)shape->dim[1];
        rest.plane = (size_t)(shape->dim[2] * shape->dim[3]);
    }
    return rest;
}

static cw_status other_profile(const cwi_decode_job *job)
{
    return cwi_fail_at(job->err, CW_ERR_CORRUPT, job->payload->header_size,
                       "the payload names profile %016llx, which is of other tensors",
                       (unsigned long long)job->profile->hash);
}

/* Whether the profile at hand is the payload's, and suits it. */
static cw_status check_profile(const cwi_decode_job *job, const head *h)
{
    const cwi_payload *p = job->payload;
    const cw_profile *profile = job->profile;
    const unsigned long long named = h->profile, given = profile ? profile->hash : 0;
    const size_t at = p->header_size + h->steps - CWI_PROFILE_HASH;
    if (!profile)
        return cwi_fail_at(job->err, CW_ERR_MISMATCH, at, "the payload takes profile %016llx, and none is given",
                           named);
    if (named != given)
        return cwi_fail_at(job->err, CW_ERR_MISMATCH, at,
                           "the payload takes profile %016llx, the one that is given is %016llx", named, given);
    if (h->klt != cwi_profile_transforms(profile) || (!h->klt && !cwi_profile_fits(profile, &p->shape)) ||
        (!h->klt && (h->order.name != profile->order.name || h->order.width != profile->order.width)) ||
        h->zero != profile->tables.zero || !(h->flags & CWI_EC_CLASSES) != !profile->classes ||
        !(h->flags & CWI_EC_OFFSETS) != !profile->offsets)
        return other_profile(job);
    return CW_OK;
}

static cw_status check_support(const cwi_decode_job *job, const head *h)
{
    if (!(h->flags & CWI_EC_SUPPORT) || job->support)
        return CW_OK;
    return cwi_fail_at(job->err, CW_ERR_MISMATCH, job->payload->header_size,
                       "the payload was encoded with a support, which is not in it: decoding it takes the same one");
}

static cw_status decode_in_order(cwi_decode_job *job, const cw_shape *shape)
{
    const cwi_payload *p = job->payload;
    const cwi_layout l = cwi_ec_layout(p->value, &p->shape, p->elements);
    const size_t own = offsets_size(p, shape);
    float *own_offset = own > 0 ? (float *)(void *)job->work : NULL;
    const float *offset = own_offset;
    job->work = own > 0 ? job->work + own : job->work; /* work may be NULL where none is needed */
    const head h = head_of(p);
    const uint8_t *at = p->body + fixed_of(p, &h, &l, shape, own_offset);
    CWI_TRY(check_levels(p, h.steps, l.segments + h.levels, job->err));
    if (p->elements == 0)
        return CW_OK;
    if (h.profile) {
        CWI_TRY(check_profile(job, &h));
        offset = job->profile->offset;
    }
    parts rest = parts_of(p, &h, shape, offset);
    CWI_TRY(check_support(job, &h));
    cwi_ctx_decoder d = {.kernels = job->kernels, .threads = job->threads, .in = at, .bare = p->version > 1};
    cwi_ec_ctx_shape(h.order, shape, p->elements, &d.shape);
    d.size = d.bare ? (size_t)(p->body + p->body_size - at) : cwi_ctx_size(at);
    d.symbols = job->work;
    d.support = h.flags & CWI_EC_SUPPORT ? job->support : NULL;
    d.zero = rest.zero;
    d.given = h.profile ? &job->profile->tables : NULL;
    d.classes = h.flags & CWI_EC_CLASSES ? job->work + symbols_size(p->elements) : NULL;
    d.work = job->work + (d.classes ? 2 : 1) * symbols_size(p->elements);
    const uint64_t coded_at = p->header_size + (uint64_t)(at - p->body);
    if (!cwi_ctx_decode(&d))
        return cwi_fail_at(job->err, CW_ERR_CORRUPT, coded_at, "the entropy-coded symbols of the payload are damaged");
    rest.has_large = d.count > CWI_EC_EXACT;
    if (!find_parts(job->kernels, job->work, p->elements, at + d.size, &rest))
        return cwi_fail_at(job->err, CW_ERR_CORRUPT, coded_at + d.size,
                           "the payload does not end with the signs and values that its symbols ask for");
    for (size_t s = 0; s < l.segments; s++)
        decode_segment(job, &h, &l, s, d.classes, &rest);
    for (size_t i = 0; job->sent && i < p->elements; i++)
        job->sent[i] = d.symbols[i] != rest.zero;
    job->sent = NULL;
    return rest.finite ? CW_OK
                       : cwi_fail_at(job->err, CW_ERR_CORRUPT, coded_at + d.size,
                                     "an escaped value is infinite or NaN, which no encoder writes");
}

/* Where elements move: what is decoded, and one of these after the other the support and what was sent. */
static size_t moved_size(const cwi_order *o, size_t elements, size_t element)
{
    return cwi_order_moves(o) ? symbols_size(elements) + symbols_size(elements * element) : 0;
}

static cw_status decode_moved(cwi_decode_job *job, const cwi_order *order)
{
    const cwi_payload *p = job->payload;
    const size_t n = p->elements, element = cw_dtype_size(job->sink.dtype);
    cwi_decode_job inner = *job;
    uint8_t *bytes = job->work;
    inner.sink.data = bytes + symbols_size(n);
    inner.work = inner.sink.data + symbols_size(n * element);
    if (job->support) {
        cwi_order_put(order, job->support, 1, bytes);
        inner.support = bytes;
    }
    inner.sent = job->sent ? bytes : NULL; /* when it is written the support was used */
    CWI_TRY(decode_in_order(&inner, &order->shape));
    cwi_order_undo(order, inner.sink.data, element, job->sink.data);
    if (job->sent)
        cwi_order_undo(order, bytes, 1, job->sent);
    job->sent = NULL;
    return CW_OK;
}

/* Outputs, or channels where there is no transform. */
static cw_status decode_coded(cwi_decode_job *job, const head *h)
{
    cwi_order order;
    order_of(job->payload, h, &order);
    return cwi_order_moves(&order) && job->payload->elements ? decode_moved(job, &order)
                                                             : decode_in_order(job, &order.shape);
}

/* 0 where there is no such order. */
static size_t work_in(const cwi_payload *p, cwi_order_id id, unsigned threads)
{
    cwi_order order;
    cwi_ctx_shape shape;
    if (!cwi_ec_order(p->value, id, &p->shape, &order) || !cwi_ec_ctx_shape(id, &order.shape, p->elements, &shape))
        return 0;
    return 2 * symbols_size(p->elements) + cwi_ctx_decode_work_size(&shape, threads) +
           moved_size(&order, p->elements, sizeof(float)) + offsets_size(p, &order.shape);
}

/* In its order, or where there is no body yet in any that the shape can have. */
static size_t decode_work(const cwi_payload *p, unsigned threads)
{
    size_t most = 0;
    if (p->elements == 0)
        return 0;
    if (p->body) { /* behind a transform: of its own */
        const head h = head_of(p);
        return h.klt ? 0 : work_in(p, h.order, threads);
    }
    for (cwi_order_id id = {.name = CWI_ORDER_AUTO}; cwi_order_next(&id, &p->shape);) {
        cwi_order_id narrow = id;
        narrow.narrow = true;
        most = CWI_MAX(most, CWI_MAX(work_in(p, id, threads), work_in(p, narrow, threads)));
    }
    return most;
}

/* ---- behind a transform ---- */

/* Floats that lie in an order, as the tensor's elements; `spare` has room for as many. */
static void put_elements(const cwi_decode_job *job, const cwi_order *order, const float *x, float *spare)
{
    cwi_sink sink = job->sink;
    const bool moves = cwi_order_moves(order);
    if (moves)
        sink.data = (uint8_t *)spare;
    for (size_t done = 0; done < job->payload->elements; done += CWI_CHUNK) {
        const size_t n = CWI_MIN((size_t)CWI_CHUNK, job->payload->elements - done);
        if (sink.dtype == CW_F32)
            memcpy(sink.data + done * sizeof *x, x + done, n * sizeof *x);
        cwi_sink_put(&sink, done, n, x + done);
    }
    if (moves)
        cwi_order_undo(order, sink.data, cw_dtype_size(sink.dtype), job->sink.data);
}

/* The outputs are a payload of their own, of another shape. */
static cw_status decode_outputs(cwi_decode_job *job, const head *h, const cw_shape *shape, float *out)
{
    cwi_payload p = *job->payload;
    p.shape = *shape;
    CWI_TRY(check_shape(&p, h, job->err));
    const size_t size = work_in(&p, h->order, job->threads);
    cwi_decode_job inner = *job;
    inner.payload = &p;
    inner.sink = (cwi_sink){.kernels = job->kernels, .dtype = CW_F32, .data = (uint8_t *)out};
    inner.sent = NULL;
    inner.work = cwi_alloc(size, 1);
    if (!inner.work)
        return cwi_fail_memory(job->err, size);
    const cw_status status = decode_coded(&inner, h);
    cwi_free(inner.work);
    return status;
}

/* In memory of its own. Each element may be another than before, so that all count as sent. */
static cw_status decode_transformed(cwi_decode_job *job, const head *h)
{
    const cwi_payload *p = job->payload;
    const size_t n = p->elements;
    cwi_order order;
    CWI_TRY(check_profile(job, h));
    if (!cwi_profile_fits(job->profile, &p->shape) || !cwi_order_of(job->profile->order, &p->shape, false, &order))
        return other_profile(job);
    float *y = cwi_alloc(2 * n, sizeof *y);
    if (!y)
        return cwi_fail_memory(job->err, 2 * n * sizeof *y);
    const cw_status status = decode_outputs(job, h, &order.shape, y);
    if (status == CW_OK) {
        cwi_klt_undo(&job->profile->klt, job->kernels, &order.shape, job->threads, y, y + n);
        put_elements(job, &order, y + n, y);
    }
    cwi_free(y);
    if (job->sent && status == CW_OK)
        memset(job->sent, 1, n);
    job->sent = NULL;
    return status;
}

static cw_status decode(cwi_decode_job *job)
{
    const head h = head_of(job->payload);
    return h.klt ? decode_transformed(job, &h) : decode_coded(job, &h);
}

static void refine_traits(const cwi_value *v, cw_codec_traits *traits)
{
    traits->unbiased = v[CWI_EC_ROUND].whole != 0;
}

const cwi_family cwi_family_ec = {
    .info = {.name = "ec",
             .summary = "uniform quantization coded in the context of the neighbours: to an error, a size or a step",
             .keys = "err=[0,1) bpe=[0,64) bytes=[0,2^48) step=[0,4096) round=nearest|stochastic "
                     "scope=" CWI_SCOPE_CHOICES " layout=" CWI_ORDER_CHOICES " effort=best|fast"},
    .id = 8,
    .traits = {.keeps_zero = true, .takes_support = true},
    .refine_traits = refine_traits,
    .keys = keys,
    .key_count = CWI_EC_KEYS,
    .version = 2,
    .first_keys = CWI_EC_FIRST_KEYS,
    .payload_keys = CWI_EC_PAYLOAD_KEYS,
    .either = CWI_EC_ERR,
    .other = CWI_EC_STEP,
    .normalize = normalize,
    .bound = cwi_ec_bound,
    .work_size = cwi_ec_work_size,
    .encode = cwi_ec_encode,
    .check = check,
    .decode = decode,
    .profile_of = profile_of,
    .decode_work = decode_work,
};
