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

/* In which order they are learned, and as they will be coded. */
static cwi_order_id choose_order(const cwi_encode_job *job)
{
    const cwi_value *v = job->codec->value;
    cwi_order_id id = cwi_order_guess((cwi_order_name)v[CWI_EC_LAYOUT].whole, &job->source, job->shape, job->elements,
                                      v[CWI_EC_SCOPE].whole == CWI_SCOPE_SAMPLE);
    if (id.name == CWI_ORDER_NC) /* features side by side are of another shape with other samples */
        id.name = CWI_ORDER_NCHW;
    cwi_order_for_few(&id, job->shape, job->elements, false);
    return id;
}

static cw_status make_profile(cwi_ec_encoding *e, cw_profile **out)
{
    cwi_ec_plan(e, e->step); /* so that what is counted below is of this step */
    const size_t size = cwi_ctx_plan(&e->ctx), tables = CWI_MIN(cwi_ctx_plan_tables(&e->ctx), size);
    const cwi_profile_parts parts = {
        .order = {.name = e->order.name, .width = e->order.width},
        .shape = e->job->shape,
        .channels = e->ctx.shape.channels,
        .bits = 8.0 * (double)(size - tables + cwi_ec_rest(e)) / (double)e->layout.elements,
        .classes = e->classes,
        .levels = &e->own,
        .offsets = e->offsets,
        .offset = e->offset,
        .unit = e->unit,
        .tables = &e->ctx.tables,
    };
    return cwi_profile_make(&parts, out, e->job->err);
}

static cw_status learn_in_order(cwi_encode_job *job, cwi_order_id id, const cwi_order *order, cw_profile **out)
{
    cwi_ec_encoding e;
    if (!cwi_ec_begin(&e, job, id, &order->shape))
        return CW_ERR_NONFINITE;
    e.cap = SIZE_MAX;
    e.learns = true;
    e.ctx.smooth = true;
    cwi_ec_plan_asked(&e);
    if (e.ctx.shape.channels > CWI_PROFILE_CHANNELS_MOST || !e.about)
        return cwi_fail(job->err, CW_ERR_INVALID, "a profile cannot be learned of %zu channels", e.ctx.shape.channels);
    return make_profile(&e, out);
}

static cw_status learn(const cw_codec *codec, const cw_shape *shape, float *x, size_t n, cw_profile **out,
                       cw_error *err)
{
    const cwi_kernels *kernels = cwi_kernels_get();
    cwi_encode_job job = {.codec = codec, .kernels = kernels, .shape = shape, .elements = n, .threads = 1, .err = err};
    job.source = (cwi_source){.kernels = kernels, .dtype = CW_F32, .data = (const uint8_t *)x};
    const cwi_input input = {.value = codec->value, .dtype = CW_F32, .shape = shape, .elements = n, .threads = 1};
    const cwi_order_id id = choose_order(&job);
    cwi_order order;
    if (!cwi_ec_order(codec->value, id, shape, &order))
        return cwi_fail(err, CW_ERR_INVALID, "codec %s: tensors of %d dimensions have no such layout",
                        cw_codec_spec(codec), shape->ndim);
    const size_t needed = cwi_ec_work_size(&input);
    uint8_t *work = cwi_alloc(needed, 1);
    float *moved = cwi_order_moves(&order) ? cwi_alloc(n, sizeof *moved) : NULL;
    job.work = work;
    if (moved) {
        cwi_order_put(&order, x, sizeof *x, moved);
        job.source.data = (const uint8_t *)moved;
    }
    cw_status status = !work || (!moved && cwi_order_moves(&order)) ? cwi_fail_memory(err, needed)
                                                                    : learn_in_order(&job, id, &order, out);
    cwi_free(work);
    cwi_free(moved);
    if (status != CW_ERR_NONFINITE)
        return status;
    job.source = (cwi_source){.kernels = kernels, .dtype = CW_F32, .data = (const uint8_t *)x};
    return cwi_source_nonfinite(&job.source, n, err);
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
    float *x = cwi_alloc(n, sizeof *x);
    if (!x)
        return cwi_fail_memory(err, n * sizeof *x);
    cw_status status = join_tensors(tensors, count, x, err);
    if (status == CW_OK)
        status = learn(codec, &shape, x, n, out, err);
    cwi_free(x);
    return status;
}
