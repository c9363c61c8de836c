/* codec.c - the public functions: checks on the way in, the family's work, header and checksum around it. */
#include <string.h>

#include "codec/codec_impl.h"
#include "codec/payload.h"

/* ---- registry ---- */

/* In the order of the documentation. */
static const cwi_family *const families[] = {&cwi_family_none, &cwi_family_fp16, &cwi_family_bf16, &cwi_family_ms,
                                             &cwi_family_sp,   &cwi_family_rt,   &cwi_family_qu,   &cwi_family_ec};

size_t cwi_family_count(void)
{
    return CWI_COUNT(families);
}

const cwi_family *cwi_family_at(size_t i)
{
    return i < CWI_COUNT(families) ? families[i] : NULL;
}

const cwi_family *cwi_family_by_id(uint8_t id)
{
    for (size_t i = 0; i < CWI_COUNT(families); i++)
        if (families[i]->id == id)
            return families[i];
    return NULL;
}

size_t cw_codec_family_count(void)
{
    return CWI_COUNT(families);
}

const cw_codec_family *cw_codec_family_at(size_t i)
{
    return i < CWI_COUNT(families) ? &families[i]->info : NULL;
}

const char *cw_cpu_variant(void)
{
    return cwi_cpu_name(cwi_kernels_get()->cpu);
}

bool cw_cpu_requested_missing(void)
{
    return cwi_cpu_missing();
}

/* ---- codecs ---- */

cw_status cw_codec_create(const char *spec, cw_codec **out, cw_error *err)
{
    if (!out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_codec_create: out is NULL");
    *out = NULL;
    if (!spec)
        return cwi_fail(err, CW_ERR_INVALID, "cw_codec_create: spec is NULL");
    cw_codec *codec = cwi_calloc(1, sizeof *codec);
    if (!codec)
        return cwi_fail_memory(err, sizeof *codec);
    cw_status status = cwi_spec_parse(spec, codec, err);
    if (status != CW_OK)
        cwi_free(codec);
    else
        *out = codec;
    return status;
}

void cw_codec_destroy(cw_codec **codec)
{
    if (!codec)
        return;
    cwi_free(*codec);
    *codec = NULL;
}

const char *cw_codec_spec(const cw_codec *codec)
{
    return codec->spec;
}

cw_codec_traits cw_codec_get_traits(const cw_codec *codec)
{
    cw_codec_traits traits = codec->family->traits;
    if (codec->family->refine_traits)
        codec->family->refine_traits(codec->value, &traits);
    return traits;
}

/* ---- encoding ---- */

static cw_status check_input(const cw_tensor *in, size_t *elements, cw_error *err)
{
    if (in->dtype != CW_F32 && in->dtype != CW_BF16)
        return cwi_fail(err, CW_ERR_INVALID, "cannot encode a tensor of dtype %s: convert it to f32 or bf16 first",
                        cw_dtype_name(in->dtype));
    if (cw_shape_count(&in->shape, elements) != CW_OK)
        return cwi_fail(err, CW_ERR_INVALID, "cannot encode a tensor whose shape is out of range");
    if (*elements && !in->data)
        return cwi_fail(err, CW_ERR_INVALID, "cannot encode a tensor without data (its pointer is NULL)");
    if ((uintptr_t)in->data % cw_dtype_size(in->dtype))
        return cwi_fail(err, CW_ERR_INVALID, "the tensor's elements are not aligned to their size of %zu bytes",
                        cw_dtype_size(in->dtype));
    return CW_OK;
}

static unsigned thread_count(int asked)
{
    return asked <= 1 ? 1 : (unsigned)CWI_MIN(asked, (int)CWI_MAX_THREADS);
}

static bool describe(const cw_codec *codec, const cw_tensor *in, unsigned threads, cwi_input *out)
{
    size_t elements;
    if (!codec || !in || check_input(in, &elements, NULL) != CW_OK)
        return false;
    *out = (cwi_input){
        .value = codec->value, .dtype = in->dtype, .shape = &in->shape, .elements = elements, .threads = threads};
    return true;
}

static size_t header_size(const cw_codec *codec, const cw_shape *shape)
{
    return cwi_header_size(codec->family, codec->value, shape);
}

static bool payload_bound(const cw_codec *codec, const cwi_input *in, size_t *size)
{
    return codec->family->bound(in, size) &&
           cwi_add_size(cwi_padded(*size, in->elements), header_size(codec, in->shape), size);
}

size_t cw_codec_bound(const cw_codec *codec, const cw_tensor *in)
{
    cwi_input input;
    size_t size;
    return describe(codec, in, 1, &input) && payload_bound(codec, &input, &size) ? size : 0;
}

static size_t work_size(const cw_codec *codec, const cwi_input *in)
{
    return codec->family->work_size ? codec->family->work_size(in) : 0;
}

size_t cw_codec_work_size(const cw_codec *codec, const cw_tensor *in)
{
    cwi_input input;
    return describe(codec, in, 1, &input) ? work_size(codec, &input) : 0;
}

/* The caller's scratch where it suffices, else ours; *owned is what to free. */
static uint8_t *find_work(void *given, size_t given_size, size_t needed, void **owned)
{
    *owned = NULL;
    if (given && given_size >= needed && (uintptr_t)given % 64 == 0)
        return given;
    return *owned = cwi_alloc(needed, 1);
}

static cw_status encode_with(cwi_encode_job *job, const cwi_input *input, const cw_encode_args *args)
{
    const size_t needed = work_size(job->codec, input);
    void *owned;
    job->work = find_work(args->work, args->work_size, needed, &owned);
    if (needed && !job->work)
        return cwi_fail_memory(job->err, needed);
    cw_status status = job->codec->family->encode(job);
    cwi_free(owned);
    return status;
}

cw_status cw_encode(const cw_codec *codec, const cw_tensor *in, const cw_encode_args *args, void *dst, size_t capacity,
                    size_t *size, cw_error *err)
{
    static const cw_encode_args standard;
    args = args ? args : &standard;
    if (!codec || !in || !size || (!dst && capacity))
        return cwi_fail(err, CW_ERR_INVALID, "cw_encode: codec, in, dst and size must not be NULL");
    *size = 0;
    size_t elements, bound;
    CWI_TRY(check_input(in, &elements, err));
    cwi_input input;
    describe(codec, in, thread_count(args->threads), &input);
    const size_t header = header_size(codec, &in->shape);
    if (!payload_bound(codec, &input, &bound))
        return cwi_fail(err, CW_ERR_INVALID, "the tensor is too large for this codec");
    if (capacity < header)
        return cwi_fail(err, CW_ERR_TOO_SMALL, "%zu bytes of output cannot hold the payload, up to %zu are needed",
                        capacity, bound);
    const cwi_kernels *kernels = cwi_kernels_get();
    cwi_encode_job job = {.codec = codec,
                          .kernels = kernels,
                          .shape = &in->shape,
                          .elements = elements,
                          .source = {.kernels = kernels, .dtype = in->dtype, .data = in->data},
                          .seed = args->seed,
                          .evaluate = args->evaluate,
                          .support = args->support,
                          .profile = args->profile,
                          .threads = input.threads,
                          .body = (uint8_t *)dst + header,
                          .capacity = capacity - header,
                          .header_size = header,
                          .err = err};
    CWI_TRY(encode_with(&job, &input, args));
    const size_t body = job.size;
    CWI_TRY(cwi_reserve(&job, cwi_padded(body, elements)));
    memset(job.body + body, 0, job.size - body);
    cwi_header_put(codec, in->dtype, &in->shape, body, dst);
    cwi_payload_seal(dst, header + job.size);
    *size = header + job.size;
    return CW_OK;
}

cw_status cwi_reserve(cwi_encode_job *job, size_t size)
{
    if (size > job->capacity)
        return cwi_fail(job->err, CW_ERR_TOO_SMALL, "the output has room for a body of %zu bytes, this one needs %zu",
                        job->capacity, size);
    job->size = size;
    return CW_OK;
}

/* ---- decoding ---- */

cw_status cw_payload_inspect(const void *src, size_t size, cw_payload_info *info, cw_error *err)
{
    if (!info || (!src && size))
        return cwi_fail(err, CW_ERR_INVALID, "cw_payload_inspect: src and info must not be NULL");
    memset(info, 0, sizeof *info);
    cwi_payload p;
    CWI_TRY(cwi_payload_parse(src, size, &p, err));
    cwi_spec_format(p.family, p.value, info->codec, sizeof info->codec);
    info->dtype = p.dtype;
    info->shape = p.shape;
    info->elements = p.elements;
    info->header_bytes = p.header_size;
    info->payload_bytes = size;
    info->version = (uint16_t)p.version;
    info->checksum = p.checksum;
    info->profile = p.family->profile_of ? p.family->profile_of(&p) : 0;
    return CW_OK;
}

size_t cwi_decode_work_blocks(size_t elements, unsigned threads)
{
    return threads > 1 ? (elements / CWI_BLOCK + 1) * CWI_DECODE_WORK : 0;
}

static size_t decode_work(const cwi_payload *p, unsigned threads)
{
    return p->family->decode_work ? p->family->decode_work(p, threads) : cwi_decode_work_blocks(p->elements, threads);
}

size_t cw_decode_work_size(const cw_payload_info *info)
{
    cw_codec codec;
    if (!info || cwi_spec_parse(info->codec, &codec, NULL) != CW_OK)
        return 0;
    cwi_payload p = {.family = codec.family,
                     .version = info->version,
                     .dtype = info->dtype,
                     .shape = info->shape,
                     .elements = info->elements};
    memcpy(p.value, codec.value, sizeof p.value);
    return decode_work(&p, CWI_MAX_THREADS);
}

static cw_status check_output(const cwi_payload *p, const cw_tensor *out, cw_error *err)
{
    if (!cw_shape_equal(&p->shape, &out->shape)) {
        char has[100], wants[100];
        return cwi_fail(err, CW_ERR_MISMATCH, "the payload holds a tensor of shape %s, the output is %s",
                        cw_shape_format(&p->shape, has, sizeof has), cw_shape_format(&out->shape, wants, sizeof wants));
    }
    if (out->dtype != CW_F32 && out->dtype != p->dtype)
        return cwi_fail(err, CW_ERR_MISMATCH, "the payload decodes to f32 or %s, the output is %s",
                        cw_dtype_name(p->dtype), cw_dtype_name(out->dtype));
    if (p->elements && !out->data)
        return cwi_fail(err, CW_ERR_INVALID, "cw_decode: the output has no data (its pointer is NULL)");
    if ((uintptr_t)out->data % cw_dtype_size(out->dtype))
        return cwi_fail(err, CW_ERR_INVALID, "the output's elements are not aligned to their size of %zu bytes",
                        cw_dtype_size(out->dtype));
    return CW_OK;
}

/* Of codecs that leave it to us. */
static void find_sent(const cw_tensor *t, size_t n, uint8_t *sent)
{
    const uint16_t *halves = t->data;
    const float *floats = t->data;
    for (size_t i = 0; i < n; i++)
        sent[i] = t->dtype == CW_F32 ? floats[i] != 0 : (halves[i] & 0x7fff) != 0;
}

cw_status cw_decode(const void *src, size_t size, cw_tensor *out, const cw_decode_args *args, cw_error *err)
{
    static const cw_decode_args standard;
    args = args ? args : &standard;
    if (!out || (!src && size))
        return cwi_fail(err, CW_ERR_INVALID, "cw_decode: src and out must not be NULL");
    cwi_payload p;
    CWI_TRY(cwi_payload_parse(src, size, &p, err));
    const uint32_t crc = cwi_payload_crc(src, size);
    if (crc != p.checksum)
        return cwi_fail_at(err, CW_ERR_CHECKSUM, 12,
                           "checksum of the payload is %08x, its header says %08x: it is damaged", crc, p.checksum);
    CWI_TRY(check_output(&p, out, err));
    const cwi_kernels *kernels = cwi_kernels_get();
    cwi_decode_job job = {.payload = &p,
                          .kernels = kernels,
                          .threads = thread_count(args->threads),
                          .support = args->support,
                          .profile = args->profile,
                          .sent = args->sent,
                          .err = err,
                          .sink = {.kernels = kernels, .dtype = out->dtype, .data = out->data}};
    void *owned = NULL;
    const size_t needed = decode_work(&p, job.threads);
    if (needed) {
        job.work = find_work(args->work, args->work_size, needed, &owned);
        if (!job.work)
            return cwi_fail_memory(err, needed);
    }
    cw_status status = p.family->decode(&job);
    cwi_free(owned);
    if (status == CW_OK && job.sent)
        find_sent(out, p.elements, job.sent);
    return status;
}
