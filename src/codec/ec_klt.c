/* ec_klt.c - ec by way of a profile's transform (klt.h), whose outputs are coded as channels are. */
#include <string.h>

#include "codec/ec_plan.h"
#include "codec/mask.h"

void cwi_ec_floats(const cwi_source *s, size_t n, const cwi_order *order, float *spare, float *out)
{
    float *to = cwi_order_moves(order) ? spare : out;
    for (size_t done = 0; done < n; done += CWI_CHUNK) {
        const size_t here = CWI_MIN((size_t)CWI_CHUNK, n - done);
        float chunk[CWI_CHUNK];
        memcpy(to + done, cwi_source_get(s, done, here, chunk), here * sizeof *to);
    }
    if (cwi_order_moves(order))
        cwi_order_put(order, spare, sizeof *out, out);
}

static cw_status encode_outputs(cwi_encode_job *job, const cw_shape *shape, const float *x, float *y)
{
    const cwi_value *v = job->codec->value;
    const cwi_klt *klt = &job->profile->klt;
    cwi_encode_job inner = *job;
    cwi_order_id id = {.name = CWI_ORDER_NCHW};
    cwi_klt_put(klt, job->kernels, shape, job->threads, x, y);
    inner.larger = cwi_klt_larger(klt, shape, x, y, v[CWI_EC_ERR].real);
    if (inner.larger == 0)
        return CW_ERR_TOO_SMALL;
    inner.shape = shape;
    inner.source = (cwi_source){.kernels = job->kernels, .dtype = CW_F32, .data = (const uint8_t *)y};
    const cwi_input in = {
        .value = v, .dtype = CW_F32, .shape = shape, .elements = job->elements, .threads = job->threads};
    const size_t work = cwi_ec_work_size(&in);
    inner.work = cwi_alloc(work, 1);
    if (!inner.work)
        return cwi_fail_memory(job->err, work);
    cwi_order_for_few(&id, shape, job->elements, v[CWI_EC_SCOPE].whole == CWI_SCOPE_SAMPLE);
    const cw_status status = cwi_ec_encode_as(&inner, id);
    cwi_free(inner.work);
    job->size = inner.size;
    job->wasted = inner.wasted;
    return status;
}

cw_status cwi_ec_encode_transformed(cwi_encode_job *job)
{
    cwi_order order;
    const size_t n = job->elements;
    if (!cwi_ec_order(job->codec->value, job->profile->order, job->shape, &order) ||
        cwi_ec_layout(job->codec->value, &order.shape, n).segments > 1)
        return CW_ERR_TOO_SMALL;
    float *x = cwi_alloc(2 * n, sizeof *x);
    if (!x)
        return cwi_fail_memory(job->err, 2 * n * sizeof *x);
    cwi_ec_floats(&job->source, n, &order, x + n, x);
    const cw_status status = encode_outputs(job, &order.shape, x, x + n);
    cwi_free(x);
    return status;
}
