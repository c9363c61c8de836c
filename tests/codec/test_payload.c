/* test_payload.c - every codec against damage, bad arguments and bad input. */
#include "codec/payload.h"
#include "codec_test.h"

static const char *const specs[] = {"none",
                                    "fp16",
                                    "bf16",
                                    "ms:r=0.9",
                                    "ms:r=0.9,b=5,recon=centroid,values=bf16,scope=sample",
                                    "ms:r=0.5,b=1,values=fp16",
                                    "ms:r=0.9,b=2,entropy=ctx",
                                    "ec:err=0.2",
                                    "ec:err=0.001,round=stochastic,scope=sample",
                                    "ms:r=0.9,b=6,recon=centroid,scope=sample,entropy=ctx",
                                    "sp:r=0.5,values=bf16", /* bitmap */
                                    "sp:r=0.9",             /* indices */
                                    "sp:r=0.9,values=fp16,scope=sample",
                                    "rt:r=0.9,alpha=0.2",
                                    "qu:b=3",
                                    "qu:b=8,round=stochastic,scope=sample"};

enum { N = 6 * 35 };

static cw_shape shape_of_test(void)
{
    return cw_shape_of(3, (int64_t[]){6, 5, 7});
}

static float *map_of_test(void)
{
    return random_map(N, 0.5, true, 1);
}

static void payloads_describe_themselves(void **state)
{
    (void)state;
    cw_shape shape = shape_of_test();
    float *x = map_of_test();
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        packed p = encode(specs[i], &t);
        cw_codec *codec = codec_of(specs[i]);
        cw_payload_info info;
        cw_error err;
        assert_ok_err(cw_payload_inspect(p.bytes, p.size, &info, &err), err);
        assert_string_equal(info.codec, cw_codec_spec(codec));
        assert_true(cw_shape_equal(&info.shape, &shape));
        assert_int_equal(info.dtype, CW_F32);
        assert_int_equal(info.elements, N);
        assert_int_equal(info.version, strncmp(specs[i], "ec", 2) == 0 ? 2 : 1);
        assert_int_equal(info.payload_bytes, p.size);
        cw_codec_destroy(&codec);
        free(p.bytes);
    }
    cwi_free(x);
}

static void header_is_as_documented(void **state)
{
    (void)state;
    float x[2] = {1, 2};
    cw_tensor t = tensor_1d(x, 2);
    packed p = encode("none", &t);
    static const uint8_t wanted[] = {'C', 'W', 'P', 'L', 1, 0, 32, 0, 1, 1, 1, 0};
    assert_memory_equal(p.bytes, wanted, sizeof wanted);
    assert_int_equal(cwi_get_le(p.bytes + 16, 8), 8);
    assert_int_equal(cwi_get_le(p.bytes + 24, 8), 2);
    assert_memory_equal(p.bytes + 32, x, 8);
    assert_int_equal(p.size, 40);
    uint8_t copy[40];
    memcpy(copy, p.bytes, 40);
    memset(copy + 12, 0, 4);
    assert_int_equal(cwi_get_le(p.bytes + 12, 4), cwi_crc32c(0, copy, 40));
    free(p.bytes);
}

/* Decodes a copy that is exactly `size` long and says what happened. */
static cw_status try_decode(const uint8_t *bytes, size_t size, const cw_shape *shape, cw_error *err)
{
    uint8_t *copy = malloc(size ? size : 1);
    float y[N];
    memcpy(copy, bytes, size);
    cw_tensor out = cw_tensor_view(CW_F32, shape, y);
    cw_status status = cw_decode(copy, size, &out, NULL, err);
    free(copy);
    return status;
}

static void every_truncation_is_noticed(void **state)
{
    (void)state;
    cw_shape shape = shape_of_test();
    float *x = map_of_test();
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        packed p = encode(specs[i], &t);
        for (size_t size = 0; size < p.size; size++) {
            cw_error err;
            assert_status(try_decode(p.bytes, size, &shape, &err), CW_ERR_TRUNCATED);
            assert_int_equal(err.offset, size);
            assert_non_null(strstr(err.message, "payload ends after"));
        }
        free(p.bytes);
    }
    cwi_free(x);
}

static void excess_bytes_are_noticed(void **state)
{
    (void)state;
    cw_shape shape = shape_of_test();
    float *x = map_of_test();
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        packed p = encode(specs[i], &t);
        uint8_t *longer = calloc(p.size + 3, 1);
        memcpy(longer, p.bytes, p.size);
        cw_error err;
        assert_status(try_decode(longer, p.size + 3, &shape, &err), CW_ERR_CORRUPT);
        assert_int_equal(err.offset, p.size);
        assert_non_null(strstr(err.message, "3 bytes follow the end"));
        free(longer);
        free(p.bytes);
    }
    cwi_free(x);
}

static void every_flipped_bit_is_noticed(void **state)
{
    (void)state;
    cw_shape shape = shape_of_test();
    float *x = map_of_test();
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        packed p = encode(specs[i], &t);
        for (size_t bit = 0; bit < 8 * p.size; bit++) {
            cw_error err;
            p.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_not_equal(try_decode(p.bytes, p.size, &shape, &err), CW_OK);
            assert_int_not_equal(strlen(err.message), 0);
            p.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_ok(try_decode(p.bytes, p.size, &shape, NULL));
        free(p.bytes);
    }
    cwi_free(x);
}

static bool finite_everywhere(const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(y[i]))
            return false;
    return true;
}

/* A hostile writer gets the checksum right: then the payload decodes to finite floats or is refused. */
static void sealed_damage_is_harmless(void **state)
{
    (void)state;
    cw_shape shape = shape_of_test();
    float *x = map_of_test(), y[N];
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x), out = cw_tensor_view(CW_F32, &shape, y);
    cwi_rng r = cwi_rng_make(2, CWI_STREAM_TEST, 0, 0);
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        packed p = encode(specs[i], &t);
        uint8_t *bad = malloc(p.size);
        size_t refused = 0;
        for (int round = 0; round < 3000; round++) {
            memcpy(bad, p.bytes, p.size);
            for (uint64_t changes = 1 + cwi_rng_below(&r, 3); changes; changes--)
                bad[cwi_rng_below(&r, round & 1 ? p.size : CWI_MIN(p.size, (size_t)90))] = (uint8_t)cwi_rng_u64(&r);
            cwi_payload_seal(bad, p.size);
            cw_error err;
            cw_status status = cw_decode(bad, p.size, &out, &(cw_decode_args){.threads = round % 3}, &err);
            assert_true(status != CW_OK || finite_everywhere(y, N));
            refused += status != CW_OK;
        }
        assert_true(refused > 50);
        free(bad);
        free(p.bytes);
    }
    cwi_free(x);
}

/* The last 2 or 4 bytes of these payloads are a kept value. */
static void kept_values_must_be_finite(void **state)
{
    (void)state;
    static const char *const keepers[] = {"ms:r=0.9", "ms:r=0.9,b=1", "ms:r=0.9,values=fp16",
                                          "sp:r=0.5", "sp:r=0.99",    "rt:r=0.5,values=bf16"};
    cw_shape shape = shape_of_test();
    float *x = map_of_test(), y[N];
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x), out = cw_tensor_view(CW_F32, &shape, y);
    for (size_t i = 0; i < CWI_COUNT(keepers); i++) {
        packed p = encode(keepers[i], &t);
        memset(p.bytes + p.size - 2, 0xff, 2);
        cwi_payload_seal(p.bytes, p.size);
        cw_error err;
        assert_status(cw_decode(p.bytes, p.size, &out, NULL, &err), CW_ERR_CORRUPT);
        assert_non_null(strstr(err.message, "infinite or NaN"));
        free(p.bytes);
    }
    cwi_free(x);
}

static void other_formats_and_versions_are_named(void **state)
{
    (void)state;
    float x[2] = {1, 2};
    cw_tensor t = tensor_1d(x, 2);
    packed p = encode("none", &t);
    cw_error err;
    p.bytes[4] = 3;
    cwi_payload_seal(p.bytes, p.size);
    assert_status(try_decode(p.bytes, p.size, &t.shape, &err), CW_ERR_VERSION);
    assert_int_equal(err.offset, 4);
    assert_string_equal(err.message, "payload format version 3, this library reads versions 1 to 2");
    p.bytes[4] = 2; /* which only ec has */
    assert_status(try_decode(p.bytes, p.size, &t.shape, &err), CW_ERR_VERSION);
    assert_string_equal(err.message, "payload format version 2 of codec none, this library knows versions up to 1");
    p.bytes[0] = 'X';
    assert_status(try_decode(p.bytes, p.size, &t.shape, &err), CW_ERR_MAGIC);
    p.bytes[0] = 'C';
    p.bytes[4] = 1;
    p.bytes[8] = 200;
    cwi_payload_seal(p.bytes, p.size);
    assert_status(try_decode(p.bytes, p.size, &t.shape, &err), CW_ERR_UNSUPPORTED);
    assert_int_equal(err.offset, 8);
    free(p.bytes);
}

/* The same payload with another dimension, of which version 2 has as many bytes as it takes. */
static packed with_dimension(const packed *p, size_t d, uint64_t value)
{
    enum { AT_DIMS = 24, AT_NUMBERS = 21, AT_HEADER = 6 };
    packed q = {malloc(p->size + CWI_NUMBER_MOST), p->size};
    memcpy(q.bytes, p->bytes, p->size);
    if (p->bytes[4] == 1) {
        cwi_put_le(q.bytes + AT_DIMS + 8 * d, value, 8);
    } else { /* all of the test's take one byte */
        uint8_t *end = cwi_number_put(value, q.bytes + AT_NUMBERS + d);
        memcpy(end, p->bytes + AT_NUMBERS + d + 1, p->size - (AT_NUMBERS + d + 1));
        const size_t more = (size_t)(end - (q.bytes + AT_NUMBERS + d)) - 1;
        cwi_put_le(q.bytes + AT_HEADER, cwi_get_le(p->bytes + AT_HEADER, 2) + more, 2);
        q.size += more;
    }
    cwi_payload_seal(q.bytes, q.size);
    return q;
}

static cw_status decode_status(const packed *p, const cw_payload_info *info)
{
    cw_tensor y = {.dtype = CW_F32, .shape = info->shape, .data = cwi_alloc(info->elements, sizeof(float))};
    const cw_status status = cw_decode(p->bytes, p->size, &y, NULL, NULL);
    cwi_free(y.data);
    return status;
}

/* The header may claim any shape; a body too short for it is refused before anything else happens. */
static void huge_claims_are_refused(void **state)
{
    (void)state;
    float *x = map_of_test();
    cw_shape shape = shape_of_test();
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        static const uint64_t dims[] = {70,        1 << 20, UINT64_C(1) << 40, UINT64_C(1) << 62, UINT64_C(1) << 63,
                                        UINT64_MAX};
        packed p = encode(specs[i], &t);
        for (size_t d = 0; d < 3; d++) {
            for (size_t v = 0; v < CWI_COUNT(dims); v++) {
                packed q = with_dimension(&p, d, dims[v] + (d == 2));
                cw_payload_info info;
                cw_error err;
                cw_status status = cw_payload_inspect(q.bytes, q.size, &info, &err);
                if (status == CW_OK && info.version > 1) { /* which does not count its elements: not huge, then */
                    assert_true(info.elements / CWI_MAX_CLAIM <= q.size);
                    status = decode_status(&q, &info);
                }
                if (status != CW_ERR_CORRUPT && status != CW_ERR_TRUNCATED)
                    fail_msg("%s: dimension %zu of %llu is believed", specs[i], d, (unsigned long long)dims[v]);
                free(q.bytes);
            }
        }
        free(p.bytes);
    }
    cwi_free(x);
}

static void the_output_must_match(void **state)
{
    (void)state;
    float x[6] = {1, 2, 3, 4, 5, 6}, y[6];
    cw_shape shape = cw_shape_of(2, (int64_t[]){2, 3}), other = cw_shape_of(2, (int64_t[]){3, 2});
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x), out = cw_tensor_view(CW_F32, &other, y);
    cw_error err;
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        packed p = encode(specs[i], &t);
        assert_status(cw_decode(p.bytes, p.size, &out, NULL, &err), CW_ERR_MISMATCH);
        assert_string_equal(err.message, "the payload holds a tensor of shape 2x3, the output is 3x2");
        cw_tensor wrong = cw_tensor_view(CW_BF16, &shape, y);
        assert_status(cw_decode(p.bytes, p.size, &wrong, NULL, &err), CW_ERR_MISMATCH);
        cw_tensor nothing = cw_tensor_view(CW_F32, &shape, NULL);
        assert_status(cw_decode(p.bytes, p.size, &nothing, NULL, &err), CW_ERR_INVALID);
        cw_tensor odd = cw_tensor_view(CW_F32, &shape, (char *)y + 1);
        assert_status(cw_decode(p.bytes, p.size, &odd, NULL, &err), CW_ERR_INVALID);
        free(p.bytes);
    }
}

static void non_finite_input_is_refused(void **state)
{
    (void)state;
    cw_shape shape = shape_of_test();
    uint8_t buf[N * 8 + 4096];
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        cw_codec *codec = codec_of(specs[i]);
        for (size_t at = 0; at < N; at += 11) {
            float *x = map_of_test();
            cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
            size_t size = 1;
            cw_error err;
            x[N - 1] = NAN;
            x[at] = bad[at % 3];
            assert_status(cw_encode(codec, &t, NULL, buf, sizeof buf, &size, &err), CW_ERR_NONFINITE);
            assert_int_equal(size, 0);
            assert_int_equal(err.offset, at);
            assert_non_null(strstr(err.message, at % 3 == 0 ? "NaN" : at % 3 == 1 ? "+inf" : "-inf"));
            cwi_free(x);
        }
        cw_codec_destroy(&codec);
    }
}

static void small_outputs_are_refused(void **state)
{
    (void)state;
    cw_shape shape = shape_of_test();
    float *x = map_of_test();
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        packed p = encode(specs[i], &t);
        cw_codec *codec = codec_of(specs[i]);
        for (size_t capacity = 0; capacity <= p.size; capacity += p.size - capacity > 7 ? 7 : 1) {
            uint8_t *buf = malloc(capacity ? capacity : 1);
            size_t size;
            cw_status status = cw_encode(codec, &t, NULL, buf, capacity, &size, NULL);
            assert_status(status, capacity < p.size ? CW_ERR_TOO_SMALL : CW_OK);
            assert_int_equal(size, capacity < p.size ? 0 : p.size);
            free(buf);
        }
        cw_codec_destroy(&codec);
        free(p.bytes);
    }
    cwi_free(x);
}

static void unsuitable_tensors_are_refused(void **state)
{
    (void)state;
    float x[8] = {0};
    uint8_t buf[256];
    size_t size;
    cw_codec *codec = codec_of("ms");
    cw_shape shape = cw_shape_of(1, (int64_t[]){4}), negative = cw_shape_of(1, (int64_t[]){-4});
    cw_tensor bytes = cw_tensor_view(CW_U8, &shape, x), wrong = cw_tensor_view(CW_F32, &negative, x);
    cw_tensor nothing = cw_tensor_view(CW_F32, &shape, NULL), odd = cw_tensor_view(CW_F32, &shape, (char *)x + 2);
    const cw_tensor *bad[] = {&bytes, &wrong, &nothing, &odd};
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        cw_error err;
        assert_int_equal(cw_codec_bound(codec, bad[i]), 0);
        assert_int_equal(cw_codec_work_size(codec, bad[i]), 0);
        assert_status(cw_encode(codec, bad[i], NULL, buf, sizeof buf, &size, &err), CW_ERR_INVALID);
    }
    assert_status(cw_encode(NULL, &bytes, NULL, buf, sizeof buf, &size, NULL), CW_ERR_INVALID);
    assert_status(cw_encode(codec, &nothing, NULL, NULL, 9, &size, NULL), CW_ERR_INVALID);
    cw_codec_destroy(&codec);
}

static void callers_scratch_is_used(void **state)
{
    (void)state;
    const size_t n = 100000;
    float *x = random_map(n, 0.5, true, 3);
    cw_tensor t = tensor_1d(x, n);
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        cw_codec *codec = codec_of(specs[i]);
        size_t bound = cw_codec_bound(codec, &t), work_size = cw_codec_work_size(codec, &t), size, again;
        uint8_t *buf = cwi_alloc(bound, 1), *twice = cwi_alloc(bound, 1), *work = cwi_alloc(work_size, 1);
        assert_ok(cw_encode(codec, &t, NULL, buf, bound, &size, NULL));
        assert_ok(
            cw_encode(codec, &t, &(cw_encode_args){.work = work, .work_size = work_size}, twice, bound, &again, NULL));
        assert_int_equal(size, again);
        assert_memory_equal(buf, twice, size);
        cwi_free(buf);
        cwi_free(twice);
        cwi_free(work);
        cw_codec_destroy(&codec);
    }
    cwi_free(x);
}

/* Every allocation fails once, at random places: an error, no leak, and the next call works. */
static bool sometimes(void *ctx, size_t bytes)
{
    (void)bytes;
    cwi_rng *r = ctx;
    return cwi_rng_below(r, 3) == 0;
}

static void allocation_failures_are_survived(void **state)
{
    (void)state;
    const size_t n = 200000;
    float *x = random_map(n, 0.5, false, 4), *y = cwi_alloc(n, 4);
    cw_shape shape = cw_shape_of(2, (int64_t[]){4, (int64_t)n / 4});
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x), out = cw_tensor_view(CW_F32, &shape, y);
    cwi_rng r = cwi_rng_make(3, CWI_STREAM_TEST, 0, 0);
    uint8_t *buf = cwi_alloc(8 * n, 1);
    size_t failures = 0;
    for (int round = 0; round < 120; round++) {
        const char *spec = specs[(size_t)round % CWI_COUNT(specs)];
        packed p = encode(spec, &t);
        cw_codec *codec = NULL;
        size_t size = 0;
        cw_error err;
        cwi_alloc_set_fault(sometimes, &r);
        cw_status made = cw_codec_create(spec, &codec, &err);
        cw_status encoded = made == CW_OK ? cw_encode(codec, &t, NULL, buf, 8 * n, &size, &err) : made;
        cw_status decoded = cw_decode(p.bytes, p.size, &out, &(cw_decode_args){.threads = 2}, &err);
        cwi_alloc_set_fault(NULL, NULL);
        if ((encoded != CW_OK && encoded != CW_ERR_NO_MEMORY) || (decoded != CW_OK && decoded != CW_ERR_NO_MEMORY))
            fail_msg("%s: %s", spec, err.message);
        assert_true(encoded != CW_OK || (size == p.size && memcmp(buf, p.bytes, size) == 0));
        failures += (encoded != CW_OK) + (decoded != CW_OK);
        cw_codec_destroy(&codec);
        free(p.bytes);
    }
    assert_true(failures > 10);
    cwi_free(x);
    cwi_free(y);
    cwi_free(buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(payloads_describe_themselves),     cmocka_unit_test(header_is_as_documented),
        cmocka_unit_test(every_truncation_is_noticed),      cmocka_unit_test(excess_bytes_are_noticed),
        cmocka_unit_test(every_flipped_bit_is_noticed),     cmocka_unit_test(sealed_damage_is_harmless),
        cmocka_unit_test(kept_values_must_be_finite),       cmocka_unit_test(other_formats_and_versions_are_named),
        cmocka_unit_test(huge_claims_are_refused),          cmocka_unit_test(the_output_must_match),
        cmocka_unit_test(non_finite_input_is_refused),      cmocka_unit_test(small_outputs_are_refused),
        cmocka_unit_test(unsuitable_tensors_are_refused),   cmocka_unit_test(callers_scratch_is_used),
        cmocka_unit_test(allocation_failures_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
