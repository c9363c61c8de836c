/* codec_test.h - what the codec tests share: tensors that look like real maps, and encode-decode in one call. */
#ifndef CWI_CODEC_TEST_H
#define CWI_CODEC_TEST_H

#include <math.h>

#include "base/base.h"
#include "cutwire/codec.h"
#include "test.h"

/* A payload of the test's own, exactly as long as its allocation, so that sanitizers see every over-read. */
typedef struct packed {
    uint8_t *bytes;
    size_t size;
} packed;

static inline cw_tensor tensor_1d(float *x, size_t n)
{
    cw_shape shape = cw_shape_of(1, (int64_t[]){(int64_t)n});
    return cw_tensor_view(CW_F32, &shape, x);
}

/* n floats: `zeros` of them 0 (as after a ReLU), the others half-normal; signed ones when asked. */
static inline float *random_map(size_t n, double zeros, bool negatives, uint64_t seed)
{
    float *x = cwi_alloc(n + 1, sizeof *x);
    cwi_rng r = cwi_rng_make(seed, CWI_STREAM_TEST, n, 0);
    for (size_t i = 0; i < n; i++) {
        double v = cwi_rng_normal(&r);
        x[i] = cwi_rng_double(&r) < zeros ? 0.0f : (float)(negatives ? v : fabs(v));
    }
    return x;
}

/* Maps whose channels foretell each other: each but the first two of a sample is a mixture of two before it, and a
 * little noise; smooth in their planes. As after a ReLU, or signed. */
static inline float *related_map(size_t samples, size_t channels, size_t height, size_t width, bool negatives)
{
    const size_t plane = height * width;
    float *x = cwi_alloc(samples * channels * plane + 1, sizeof *x);
    cwi_rng r = cwi_rng_make(5, CWI_STREAM_TEST, channels, plane);
    for (size_t p = 0; p < samples * channels; p++) {
        const double phase = 6 * cwi_rng_double(&r);
        const size_t c = p % channels;
        const float *one = x + (c >= 4 ? p - 1 : p) * plane, *other = x + (c >= 4 ? p - 2 - c % 3 : p) * plane;
        for (size_t i = 0; i < plane; i++) {
            double v = sin((double)(i / width) * 0.5 + phase) + sin((double)(i % width) * 0.7 + phase) - 0.4;
            if (c >= 4)
                v = 0.9 * (double)one[i] - 0.6 * (double)other[i];
            x[p * plane + i] = (float)(v + 0.15 * cwi_rng_normal(&r));
        }
    }
    for (size_t i = 0; !negatives && i < samples * channels * plane; i++)
        x[i] = x[i] > 0 ? x[i] : 0;
    return x;
}

static inline cw_codec *codec_of(const char *spec)
{
    cw_codec *codec;
    cw_error err;
    assert_ok_err(cw_codec_create(spec, &codec, &err), err);
    return codec;
}

static inline packed encode_args(const char *spec, const cw_tensor *x, const cw_encode_args *args)
{
    cw_codec *codec = codec_of(spec);
    cw_error err;
    packed p;
    size_t bound = cw_codec_bound(codec, x);
    uint8_t *buf = cwi_alloc(bound, 1);
    assert_ok_err(cw_encode(codec, x, args, buf, bound, &p.size, &err), err);
    assert_true(p.size <= bound);
    p.bytes = malloc(p.size);
    memcpy(p.bytes, buf, p.size);
    cwi_free(buf);
    cw_codec_destroy(&codec);
    return p;
}

static inline cw_profile *learn(const char *spec, const cw_tensor *t)
{
    cw_error err;
    cw_profile *profile;
    cw_codec *codec = codec_of(spec);
    assert_ok_err(cw_profile_train(codec, &t, 1, &profile, &err), err);
    cw_codec_destroy(&codec);
    return profile;
}

static inline packed encode(const char *spec, const cw_tensor *x)
{
    return encode_args(spec, x, NULL);
}

static inline size_t body_of(const packed *p, uint8_t **body)
{
    cw_payload_info info;
    cw_error err;
    assert_ok_err(cw_payload_inspect(p->bytes, p->size, &info, &err), err);
    *body = p->bytes + info.header_bytes;
    return p->size - info.header_bytes;
}

static inline void decode_into(const packed *p, cw_tensor *y)
{
    cw_error err;
    assert_ok_err(cw_decode(p->bytes, p->size, y, NULL, &err), err);
}

static inline void decode_floats(const packed *p, const cw_tensor *like, float *y)
{
    cw_tensor out = cw_tensor_view(CW_F32, &like->shape, y);
    decode_into(p, &out);
}

/* The payload of `spec` is the same bytes made by 1 to 5 threads, and the same tensor read by them. */
static inline void assert_threads_agree(const char *spec, const cw_tensor *t, size_t n)
{
    float *a = cwi_alloc(n + 1, sizeof *a), *b = cwi_alloc(n + 1, sizeof *b);
    cw_tensor out = cw_tensor_view(CW_F32, &t->shape, b);
    packed one = encode(spec, t);
    decode_floats(&one, t, a);
    for (int threads = 2; threads <= 5; threads++) {
        packed many = encode_args(spec, t, &(cw_encode_args){.threads = threads});
        assert_int_equal(many.size, one.size);
        assert_memory_equal(many.bytes, one.bytes, one.size);
        assert_ok(cw_decode(one.bytes, one.size, &out, &(cw_decode_args){.threads = threads}, NULL));
        assert_memory_equal(a, b, n * sizeof *a);
        free(many.bytes);
    }
    free(one.bytes);
    cwi_free(a);
    cwi_free(b);
}

/* The elements rounded to bf16. */
static inline void to_bf16(const cw_tensor *floats, size_t n, uint16_t *out)
{
    uint8_t *body;
    packed p = encode("bf16", floats);
    assert_true(body_of(&p, &body) >= 2 * n);
    memcpy(out, body, 2 * n);
    free(p.bytes);
}

/* Of any floats: a bf16 tensor gives the payload of its values as floats, but for the dtype it says, and decodes to
 * either, as such to the floats rounded. */
static inline void assert_bf16_alike(const char *spec, const cw_tensor *t, size_t n)
{
    uint16_t *half = cwi_alloc(n + 1, 2), *back = cwi_alloc(n + 1, 2);
    float *x = cwi_alloc(n + 1, 4), *a = cwi_alloc(n + 1, 4), *b = cwi_alloc(n + 1, 4);
    to_bf16(t, n, half);
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = (uint32_t)half[i] << 16;
        memcpy(&x[i], &bits, 4);
    }
    cw_tensor floats = cw_tensor_view(CW_F32, &t->shape, x), halves = cw_tensor_view(CW_BF16, &t->shape, half);
    packed p = encode(spec, &floats), q = encode(spec, &halves);
    uint8_t *p_body, *q_body;
    const size_t size = body_of(&p, &p_body);
    assert_int_equal(body_of(&q, &q_body), size);
    assert_memory_equal(p_body, q_body, size);
    decode_floats(&p, t, a);
    decode_floats(&q, t, b);
    assert_memory_equal(a, b, n * sizeof *a);
    cw_tensor decoded = cw_tensor_view(CW_F32, &t->shape, a), as_such = cw_tensor_view(CW_BF16, &t->shape, back);
    to_bf16(&decoded, n, half);
    decode_into(&q, &as_such);
    assert_memory_equal(half, back, 2 * n);
    free(p.bytes);
    free(q.bytes);
    cwi_free(half);
    cwi_free(back);
    cwi_free(x);
    cwi_free(a);
    cwi_free(b);
}

static inline double l2_distance(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum);
}

/* The 2-norm of what decoding changes, over that of `t`. */
static inline double relative_error(const packed *p, const cw_profile *profile, const cw_tensor *t, int threads)
{
    cw_error err;
    size_t n;
    assert_ok(cw_shape_count(&t->shape, &n));
    float *y = cwi_alloc(n, sizeof *y), *zero = cwi_calloc(n, sizeof *zero);
    cw_tensor out = cw_tensor_view(CW_F32, &t->shape, y);
    assert_ok_err(cw_decode(p->bytes, p->size, &out, &(cw_decode_args){.profile = profile, .threads = threads}, &err),
                  err);
    const double error = l2_distance(t->data, y, n) / l2_distance(t->data, zero, n);
    cwi_free(y);
    cwi_free(zero);
    return error;
}

#endif
