/* codec_none.c - `none`: the elements as they are. Body: the elements, little-endian, in the tensor's own dtype. */
#include <string.h>

#include "codec/codec_impl.h"

static bool bound(const cwi_input *in, size_t *size)
{
    return cwi_mul_size(in->elements, cw_dtype_size(in->dtype), size);
}

/* Copies piece by piece, so that the check for NaN finds the elements in the cache. False when there was one. */
static bool copy_f32(const cwi_kernels *k, const uint8_t *from, const float *check, size_t n, uint8_t *to)
{
    cwi_range r = CWI_RANGE_EMPTY;
    for (size_t first = 0; first < n; first += CWI_CHUNK) {
        size_t m = CWI_MIN(n - first, (size_t)CWI_CHUNK);
        memcpy(to + 4 * first, from + 4 * first, 4 * m);
        k->range(check + first, m, &r);
    }
    return r.max_key < CWI_KEY_INF;
}

static bool copy_bf16(const cwi_kernels *k, const uint8_t *from, size_t n, uint8_t *to)
{
    float chunk[CWI_CHUNK];
    bool finite = true;
    for (size_t first = 0; first < n; first += CWI_CHUNK) {
        size_t m = CWI_MIN(n - first, (size_t)CWI_CHUNK);
        memcpy(to + 2 * first, from + 2 * first, 2 * m);
        finite &= k->from_bf16(from + 2 * first, m, chunk);
    }
    return finite;
}

static cw_status encode(cwi_encode_job *job)
{
    const cwi_source *s = &job->source;
    bool finite;
    CWI_TRY(cwi_reserve(job, job->elements * cw_dtype_size(s->dtype)));
    if (s->dtype == CW_F32)
        finite = copy_f32(job->kernels, s->data, (const float *)(const void *)s->data, job->elements, job->body);
    else
        finite = copy_bf16(job->kernels, s->data, job->elements, job->body);
    return finite ? CW_OK : cwi_source_nonfinite(s, job->elements, job->err);
}

static cw_status check(const cwi_payload *p, cw_error *err)
{
    const size_t wanted = p->elements * cw_dtype_size(p->dtype);
    if (p->body_size != wanted)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size, "the body has %zu bytes, %zu elements of %s take %zu",
                           p->body_size, p->elements, cw_dtype_name(p->dtype), wanted);
    return CW_OK;
}

static cw_status decode(cwi_decode_job *job)
{
    const cwi_payload *p = job->payload;
    const cwi_sink *sink = &job->sink;
    bool finite;
    if (p->dtype == CW_F32)
        finite = copy_f32(job->kernels, p->body, (const float *)(const void *)sink->data, p->elements, sink->data);
    else if (sink->dtype == CW_BF16)
        finite = copy_bf16(job->kernels, p->body, p->elements, sink->data);
    else
        finite = job->kernels->from_bf16(p->body, p->elements, (float *)(void *)sink->data);
    return finite ? CW_OK
                  : cwi_fail_at(job->err, CW_ERR_CORRUPT, p->header_size,
                                "the payload holds NaN or infinity, which "
                                "no encoder writes");
}

const cwi_family cwi_family_none = {
    .info = {.name = "none", .summary = "the elements as they are", .keys = ""},
    .id = 1,
    .version = 1,
    .traits = {.lossless = true, .keeps_zero = true, .unbiased = true},
    .bound = bound,
    .encode = encode,
    .check = check,
    .decode = decode,
};
