/* codec_half.c - `fp16` and `bf16`: every element as a two-byte float. Body: 2 bytes for each element. */
#include "codec/codec_impl.h"

static bool bound(const cwi_input *in, size_t *size)
{
    return cwi_mul_size(in->elements, 2, size);
}

static cw_status encode(cwi_encode_job *job, void (*convert)(const float *x, size_t n, uint8_t *out))
{
    CWI_TRY(cwi_reserve(job, 2 * job->elements));
    float chunk[CWI_CHUNK];
    cwi_range r = CWI_RANGE_EMPTY;
    for (size_t first = 0; first < job->elements; first += CWI_CHUNK) {
        size_t m = CWI_MIN(job->elements - first, (size_t)CWI_CHUNK);
        const float *x = cwi_source_get(&job->source, first, m, chunk);
        job->kernels->range(x, m, &r);
        convert(x, m, job->body + 2 * first);
    }
    return r.max_key < CWI_KEY_INF ? CW_OK : cwi_source_nonfinite(&job->source, job->elements, job->err);
}

static cw_status encode_fp16(cwi_encode_job *job)
{
    return encode(job, job->kernels->to_f16);
}

static cw_status encode_bf16(cwi_encode_job *job)
{
    return encode(job, job->kernels->to_bf16);
}

static cw_status check(const cwi_payload *p, cw_error *err)
{
    if (p->body_size != 2 * p->elements)
        return cwi_fail_at(err, CW_ERR_CORRUPT, p->header_size,
                           "the body has %zu bytes, %zu elements of 2 bytes take %zu", p->body_size, p->elements,
                           2 * p->elements);
    return CW_OK;
}

static cw_status decode(cwi_decode_job *job, bool (*convert)(const uint8_t *in, size_t n, float *out))
{
    const cwi_payload *p = job->payload;
    float chunk[CWI_CHUNK];
    bool finite = true;
    for (size_t first = 0; first < p->elements;) {
        size_t m = CWI_MIN(p->elements - first, cwi_sink_step(&job->sink));
        float *x = cwi_sink_at(&job->sink, first, chunk);
        finite &= convert(p->body + 2 * first, m, x);
        cwi_sink_put(&job->sink, first, m, x);
        first += m;
    }
    return finite ? CW_OK
                  : cwi_fail_at(job->err, CW_ERR_CORRUPT, p->header_size,
                                "the payload holds NaN or infinity, which "
                                "no encoder writes");
}

static cw_status decode_fp16(cwi_decode_job *job)
{
    return decode(job, job->kernels->from_f16);
}

static cw_status decode_bf16(cwi_decode_job *job)
{
    return decode(job, job->kernels->from_bf16);
}

const cwi_family cwi_family_fp16 = {
    .info = {.name = "fp16", .summary = "IEEE half precision; beyond 65504 saturates", .keys = ""},
    .id = 2,
    .version = 1,
    .traits = {.keeps_zero = true},
    .bound = bound,
    .encode = encode_fp16,
    .check = check,
    .decode = decode_fp16,
};

const cwi_family cwi_family_bf16 = {
    .info = {.name = "bf16", .summary = "bfloat16: the upper half of each float, rounded", .keys = ""},
    .id = 3,
    .version = 1,
    .traits = {.keeps_zero = true},
    .bound = bound,
    .encode = encode_bf16,
    .check = check,
    .decode = decode_bf16,
};
