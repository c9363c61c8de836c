/* ec_profile.c - learns a profile: plans a batch as ec's encoder does, and keeps what it chose. */
#include <string.h>

#include "codec/ec_plan.h"
#include "codec/mask.h"

static cw_status check_codec(const cw_codec *codec, cw_error *err)
{
    if (codec->family != &cwi_family_ec)
        return cwi_fail(err, CW_ERR_INVALID, "profiles are for codec ec, not for %s", cw_codec_spec(codec));
    const cwi_value *v = codec->value;
    if (v[CWI_EC_ROUND].whole || v[CWI_EC_BPE].real > 0 || v[CWI_EC_BYTES].real > 0)
        return cwi_fail(err, CW_ERR_INVALID,
                        "%s: a profile is learned with round=nearest, and err or step: bpe and bytes may be given when "
                        "it is used",
                        cw_codec_spec(codec));
    return CW_OK;
}

/* The shape of all tensors, one after the other. */
static cw_status add_shapes(const cw_tensor *const *tensors, size_t count, cw_shape *all, cw_error *err)
{
    enum { LEAST = 2, MOST = 5 };
    char a[100], b[100];
    size_t elements;
    *all = tensors[0]->shape;
    if (all->ndim < LEAST || all->ndim > MOST)
        return cwi_fail(err, CW_ERR_INVALID, "profiles are learned from tensors of %d to %d dimensions, not %s", LEAST,
                        MOST, cw_shape_format(all, a, sizeof a));
    for (size_t i = 1; i < count; i++) {
        cw_shape next = tensors[i]->shape;
        const int64_t samples = next.dim[0];
        next.dim[0] = all->dim[0];
        if (!cw_shape_equal(all, &next))
            return cwi_fail(err, CW_ERR_INVALID,
                            "tensor %zu has shape %s, those before %s: they may differ in the first dimension alone", i,
                            cw_shape_format(&tensors[i]->shape, a, sizeof a), cw_shape_format(all, b, sizeof b));
        if (__builtin_add_overflow(all->dim[0], samples, &all->dim[0]))
            all->dim[0] = INT64_MAX;
    }
    if (cw_shape_count(all, &elements) != CW_OK || elements == 0 || elements > CWI_CTX_ELEMENTS_MOST)
        return cwi_fail(err, CW_ERR_INVALID, "a profile cannot be learned from tensors of %s in all",
                        cw_shape_format(all, a, sizeof a));
    return CW_OK;
}

/* As floats, one after the other. */
static cw_status join_tensors(const cw_tensor *const *tensors, size_t count, float *out, cw_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const cw_tensor *t = tensors[i];
        size_t n;
        cw_shape_count(&t->shape, &n);
        if ((t->dtype != CW_F32 && t->dtype != CW_BF16) || (n && !t->data))
            return cwi_fail(err, CW_ERR_INVALID, "tensor %zu is not of f32 or bf16 elements, or has no data", i);
        const cwi_source s = {.kernels = cwi_kernels_get(), .dtype = t->dtype, .data = t->data};
        for (size_t done = 0; done < n; done += CWI_CHUNK) {
            const size_t here = CWI_MIN((size_t)CWI_CHUNK, n - done);
            float chunk[CWI_CHUNK];
            memcpy(out + done, cwi_source_get(&s, done, here, chunk), here * sizeof *out);
        }
        out += n;
    }
    return CW_OK;
}

/* ---- plans ---- */

/* What is learned from: tensors sample by sample, channel by channel, or outputs of a transform of their channels. */
typedef struct lesson {
    const cw_codec *codec;
    const cw_shape *whole; /* of all tensors, as they lie */
    cwi_order_id order;    /* what makes of it: */
    cw_shape shape;
    const float *x;
    const uint8_t *klt; /* bytes of the transform, or NULL */
    size_t klt_size;
    double larger; /* with it, as in cwi_encode_job */
    cw_error *err;
} lesson;

static cw_status make_profile(cwi_ec_encoding *e, const lesson *l, double bits, cw_profile **out)
{
    const cwi_profile_parts parts = {
        .order = l->order,
        .shape = l->whole,
        .channels = e->ctx.shape.channels,
        .bits = bits,
        .classes = e->classes,
        .klt = l->klt,
        .klt_size = l->klt ? l->klt_size : 0,
        .levels = &e->own,
        .offsets = e->offsets,
        .offset = e->offset,
        .unit = e->unit,
        .tables = &e->ctx.tables,
    };
    return cwi_profile_make(&parts, out, l->err);
}

/* Plans as ec's encoder does; the profile, where out is not NULL, and the bits that an element takes with it. */
static cw_status plan_in_order(const lesson *l, cwi_encode_job *job, cwi_order_id id, const cwi_order *order,
                               cw_profile **out, double *bits)
{
    cwi_ec_encoding e;
    if (!cwi_ec_begin(&e, job, id, &order->shape))
        return cwi_fail(l->err, CW_ERR_NONFINITE, "the tensors are too large to be learned from");
    e.cap = SIZE_MAX;
    e.learns = true;
    e.ctx.smooth = true;
    e.ctx.coarse = false;
    cwi_ec_plan_asked(&e);
    if (e.ctx.shape.channels > CWI_PROFILE_CHANNELS_MOST || !e.about)
        return cwi_fail(l->err, CW_ERR_INVALID, "a profile cannot be learned of %zu channels", e.ctx.shape.channels);
    cwi_ec_plan(&e, e.step); /* so that what is counted below is of this step */
    const size_t size = cwi_ctx_plan(&e.ctx), tables = CWI_MIN(cwi_ctx_plan_tables(&e.ctx), size);
    *bits = 8.0 * (double)(size - tables + cwi_ec_rest(&e)) / (double)e.layout.elements;
    return out ? make_profile(&e, l, *bits, out) : CW_OK;
}

/* As they will be coded. */
static cw_status plan(const lesson *l, cw_profile **out, double *bits)
{
    const cwi_kernels *kernels = cwi_kernels_get();
    cwi_encode_job job = {.codec = l->codec, .kernels = kernels, .shape = &l->shape, .threads = 1, .err = l->err};
    cw_shape_count(&l->shape, &job.elements);
    job.larger = l->larger;
    job.source = (cwi_source){.kernels = kernels, .dtype = CW_F32, .data = (const uint8_t *)l->x};
    const cwi_input in = {
        .value = l->codec->value, .dtype = CW_F32, .shape = &l->shape, .elements = job.elements, .threads = 1};
    cwi_order_id id = {.name = CWI_ORDER_NCHW};
    cwi_order order;
    cwi_order_for_few(&id, &l->shape, job.elements, false);
    cwi_order_of(id, &l->shape, false, &order);
    const size_t needed = cwi_ec_work_size(&in);
    uint8_t *work = cwi_alloc(needed, 1);
    float *moved = cwi_order_moves(&order) ? cwi_alloc(job.elements, sizeof *moved) : NULL;
    job.work = work;
    if (moved) {
        cwi_order_put(&order, l->x, sizeof *l->x, moved);
        job.source.data = (const uint8_t *)moved;
    }
    const cw_status status = !work || (!moved && cwi_order_moves(&order))
                                 ? cwi_fail_memory(l->err, needed)
                                 : plan_in_order(l, &job, id, &order, out, bits);
    cwi_free(work);
    cwi_free(moved);
    return status;
}

/* ---- with a transform ---- */

/* Of the mean square that an error may have: outputs below it are not kept. */
#define KEPT_FROM 0.5
/* What it has to save, on samples that it was not learned from. */
#define WORTH 0.03

/* A transform that was learned, and its outputs. */
typedef struct outputs {
    uint8_t *bytes;
    cwi_klt klt;
    float *y;
} outputs;

static void free_outputs(outputs *o)
{
    cwi_free(o->bytes);
    cwi_klt_free(&o->klt);
    cwi_free(o->y);
}

static size_t elements_of(const lesson *l, size_t samples)
{
    return samples * (size_t)(l->shape.dim[1] * l->shape.dim[2] * l->shape.dim[3]);
}

/* Learns one from the first samples, as a lesson whose `klt` is NULL where there is none. */
static cw_status learn_transform(lesson *l, size_t samples, outputs *o)
{
    const double error = cwi_ec_expected_error(l->codec->value);
    const uint8_t *end;
    cw_shape shape = l->shape;
    const size_t n = elements_of(l, samples);
    double square = 0;
    for (size_t i = 0; i < n; i++)
        square += (double)l->x[i] * (double)l->x[i];
    shape.dim[0] = (int64_t)samples;
    CWI_TRY(
        cwi_klt_learn(l->x, &shape, KEPT_FROM * error * error * square / (double)n, &o->bytes, &l->klt_size, l->err));
    if (!o->bytes)
        return CW_OK;
    CWI_TRY(cwi_klt_get(o->bytes, l->klt_size, (size_t)shape.dim[1], &o->klt, &end, l->err));
    l->klt = end ? o->bytes : NULL; /* nothing where rows of whole numbers are not independent */
    return CW_OK;
}

/* What it makes of the samples from `first` on, which the lesson is of then; these themselves where it is of no use. */
static cw_status transform(lesson *l, size_t first, outputs *o)
{
    const float *x = l->x + elements_of(l, first);
    l->shape.dim[0] -= (int64_t)first;
    const size_t n = elements_of(l, (size_t)l->shape.dim[0]);
    o->y = cwi_alloc(n, sizeof *o->y);
    if (!o->y)
        return cwi_fail_memory(l->err, n * sizeof *o->y);
    cwi_klt_put(&o->klt, cwi_kernels_get(), &l->shape, 1, x, o->y);
    const double error = l->codec->value[CWI_EC_ERR].real;
    l->larger = cwi_klt_larger(&o->klt, &l->shape, x, o->y, error);
    l->x = o->y;
    if (l->larger > 0 && l->larger * error < 1)
        return CW_OK;
    l->klt = NULL; /* means alone will do, or nothing will */
    l->larger = 0;
    l->x = x;
    return CW_OK;
}

/* Samples that a transform is learned from where it is tried on the others. */
static size_t samples_to_learn_from(const lesson *l)
{
    const size_t all = (size_t)l->shape.dim[0];
    return all - (all + 3) / 4;
}

/* Whether one that is learned from three quarters of the samples saves bits of the others. */
static cw_status try_transform(lesson of, bool *pays)
{
    outputs o = {0};
    const size_t learned = samples_to_learn_from(&of);
    lesson plain = of;
    double with = 0, without = 0;
    plain.x += elements_of(&of, learned);
    plain.shape.dim[0] -= (int64_t)learned;
    cw_status status = learn_transform(&of, learned, &o);
    if (status == CW_OK && of.klt)
        status = transform(&of, learned, &o);
    if (status == CW_OK && of.klt)
        status = plan(&of, NULL, &with);
    if (status == CW_OK && of.klt)
        status = plan(&plain, NULL, &without);
    *pays = of.klt && with < (1 - WORTH) * without;
    free_outputs(&o);
    return status;
}

/* Whether there is enough to learn one from, and anybody has the time to use it. */
static bool may_transform(const lesson *l)
{
    enum { PLACES = 4 }; /* for each channel */
    const cwi_value *v = l->codec->value;
    if (!cwi_klt_takes(&l->shape) || v[CWI_EC_EFFORT].whole || v[CWI_EC_SCOPE].whole == CWI_SCOPE_SAMPLE)
        return false;
    return (int64_t)samples_to_learn_from(l) * l->shape.dim[2] * l->shape.dim[3] >= PLACES * l->shape.dim[1];
}

static cw_status learn(lesson *l, cw_profile **out)
{
    outputs o = {0};
    bool pays = false;
    double bits;
    cw_status status = may_transform(l) ? try_transform(*l, &pays) : CW_OK;
    if (status == CW_OK && pays)
        status = learn_transform(l, (size_t)l->shape.dim[0], &o);
    if (status == CW_OK && l->klt)
        status = transform(l, 0, &o);
    if (status == CW_OK)
        status = plan(l, out, &bits);
    free_outputs(&o);
    return status;
}

/* ---- in order ---- */

/* In which order tensors are learned. */
static cwi_order_id choose_order(const cw_codec *codec, const cwi_source *source, const cw_shape *shape, size_t n)
{
    const cwi_value *v = codec->value;
    cwi_order_id id;
    cwi_order_guess((cwi_order_name)v[CWI_EC_LAYOUT].whole, source, shape, n, v[CWI_EC_SCOPE].whole == CWI_SCOPE_SAMPLE,
                    1, &id);
    if (id.name == CWI_ORDER_NC) /* features side by side are of another shape with other samples */
        id.name = CWI_ORDER_NCHW;
    id.bands = 0;
    id.narrow = false;
    return id;
}

/* x is of n elements and has room for as many again. */
static cw_status learn_from(const cw_codec *codec, const cw_shape *shape, float *x, size_t n, cw_profile **out,
                            cw_error *err)
{
    const cwi_source source = {.kernels = cwi_kernels_get(), .dtype = CW_F32, .data = (const uint8_t *)x};
    CWI_TRY(cwi_source_nonfinite(&source, n, err));
    lesson l = {.codec = codec, .whole = shape, .order = choose_order(codec, &source, shape, n), .x = x, .err = err};
    cwi_order order;
    if (!cwi_ec_order(codec->value, l.order, shape, &order))
        return cwi_fail(err, CW_ERR_INVALID, "codec %s: tensors of %d dimensions have no such layout",
                        cw_codec_spec(codec), shape->ndim);
    l.shape = order.shape;
    if (cwi_order_moves(&order)) {
        cwi_order_put(&order, x, sizeof *x, x + n);
        l.x = x + n;
    }
    return learn(&l, out);
}

cw_status cw_profile_train(const cw_codec *codec, const cw_tensor *const *tensors, size_t count, cw_profile **out,
                           cw_error *err)
{
    if (!out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_profile_train: out is NULL");
    *out = NULL;
    if (!codec || !tensors || count == 0)
        return cwi_fail(err, CW_ERR_INVALID, "cw_profile_train: codec and tensors must not be NULL, nor count 0");
    cw_shape shape;
    size_t n;
    CWI_TRY(check_codec(codec, err));
    CWI_TRY(add_shapes(tensors, count, &shape, err));
    cw_shape_count(&shape, &n);
    float *x = cwi_alloc(2 * n, sizeof *x);
    if (!x)
        return cwi_fail_memory(err, 2 * n * sizeof *x);
    cw_status status = join_tensors(tensors, count, x, err);
    if (status == CW_OK)
        status = learn_from(codec, &shape, x, n, out, err);
    cwi_free(x);
    return status;
}
