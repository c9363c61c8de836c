/* source.c - tensors as streams of floats, whatever their dtype, and how they are cut up. */
#include <math.h>
#include <string.h>

#include "codec/codec_impl.h"

cwi_layout cwi_layout_of(const cw_shape *shape, size_t elements, bool per_sample)
{
    cwi_layout l = {.elements = elements, .segments = 0, .length = 0};
    if (elements == 0)
        return l;
    l.segments = per_sample && shape->ndim > 0 ? (size_t)shape->dim[0] : 1;
    l.length = elements / l.segments;
    return l;
}

size_t cwi_kept(double r, size_t n)
{
    /* r is off by up to 2^-54 from the decimal that was meant, and so is (1 - r) n by up to n 2^-54. */
    double k = floor((1.0 - r) * (double)n + 0x1p-50 * (double)n);
    return k >= (double)n ? n : (size_t)k;
}

/* ---- source ---- */

const float *cwi_source_get(const cwi_source *s, size_t first, size_t n, float *chunk)
{
    if (s->dtype == CW_F32 && !s->offset)
        return (const float *)(const void *)s->data + first;
    const float *x = (const float *)(const void *)s->data + first;
    if (s->dtype != CW_F32) {
        s->kernels->from_bf16(s->data + 2 * first, n, chunk);
        x = chunk;
    }
    if (s->offset)
        cwi_add_offsets(s->offset, s->channels, s->plane, first, n, -1, x, chunk);
    return chunk;
}

/* In GNU C's vectors, or not at all. */
void cwi_add_offsets(const float *offset, size_t channels, size_t plane, size_t first, size_t n, float sign,
                     const float *x, float *out)
{
    size_t channel = first / plane % channels, left = plane - first % plane;
    while (n > 0) {
        const size_t m = CWI_MIN(n, left);
        const float more = sign * offset[channel];
        for (size_t i = 0; i < m; i++)
            out[i] = x[i] + more;
        x += m;
        out += m;
        n -= m;
        left = plane;
        channel = channel + 1 < channels ? channel + 1 : 0;
    }
}

float cwi_source_at(const cwi_source *s, size_t i)
{
    if (s->dtype == CW_F32)
        return ((const float *)(const void *)s->data)[i];
    uint32_t bits = (uint32_t)cwi_get_le(s->data + 2 * i, 2) << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void cwi_source_each(const cwi_source *s, size_t first, size_t n, cwi_visit *visit, void *ctx)
{
    float chunk[CWI_CHUNK];
    const size_t step = cwi_source_step(s);
    for (size_t done = 0; done < n; done += step) {
        size_t m = CWI_MIN(step, n - done);
        visit(ctx, cwi_source_get(s, first + done, m, chunk), m);
    }
}

cw_status cwi_source_nonfinite(const cwi_source *s, size_t n, cw_error *err)
{
    for (size_t i = 0; i < n; i++) {
        float x = cwi_source_at(s, i);
        if (!isfinite(x))
            return cwi_fail_at(err, CW_ERR_NONFINITE, i,
                               "element %zu of %zu is %s: only finite tensors can be encoded; look for a division by "
                               "zero or a diverged training before it",
                               i, n,
                               isnan(x) ? "NaN"
                               : x > 0  ? "+infinity"
                                        : "-infinity");
    }
    return CW_OK;
}

/* ---- sink ---- */

float *cwi_sink_at(const cwi_sink *s, size_t first, float *chunk)
{
    return s->dtype == CW_F32 ? (float *)(void *)s->data + first : chunk;
}

void cwi_sink_put(const cwi_sink *s, size_t first, size_t n, const float *x)
{
    if (s->dtype != CW_F32)
        s->kernels->to_bf16(x, n, s->data + 2 * first);
}
