/* test_klt.c - profiles with a transform of channels: it is orthonormal, makes samples that it was not learned from
 * short, keeps the error that is asked in every layout, and hostile ones are refused. */
#include <float.h>

#include "codec/klt.h"
#include "codec_test.h"

enum { N = 12, LEARNED = 8, C = 24, H = 9, W = 12, PLACES = H * W, SAMPLE = C * PLACES, HIDDEN = 5 };

static const char spec[] = "ec:err=0.25";

/* Maps whose channels are mixtures of few hidden ones, about means of their own, and a little noise. */
static float *mixed_map(void)
{
    static const float weight[] = {0.9f, -0.7f, 0.5f, 0.3f, -0.2f};
    float *x = cwi_alloc(N * SAMPLE, sizeof *x), *hidden = random_map(N * HIDDEN * PLACES, 0, true, 3);
    float *noise = random_map(N * SAMPLE, 0, true, 4);
    for (size_t i = 0; i < N * SAMPLE; i++) {
        const size_t c = i / PLACES % C, sample = i / SAMPLE;
        double v = 0.05 * (double)noise[i] + 0.3 * (double)(c % 4);
        for (size_t k = 0; k < HIDDEN; k++) {
            const double of = (double)hidden[(sample * HIDDEN + k) * PLACES + i % PLACES];
            v += of * (double)weight[k] * cos((double)((k + 1) * c) + (double)k);
        }
        x[i] = (float)v;
    }
    cwi_free(hidden);
    cwi_free(noise);
    return x;
}

static bool has_transform(const cw_profile *p)
{
    return cw_profile_outputs(p) > 0;
}

static cw_tensor samples_of(float *x, size_t first, size_t n)
{
    const cw_shape shape = cw_shape_of(4, (int64_t[]){(int64_t)n, C, H, W});
    return cw_tensor_view(CW_F32, &shape, x + first * SAMPLE);
}

/* Element (n, c, p) at (n, p, c), where that is asked. */
static void turn(const float *x, size_t samples, float *out)
{
    for (size_t i = 0; i < samples * SAMPLE; i++)
        out[(i / SAMPLE * PLACES + i % PLACES) * C + i / PLACES % C] = x[i];
}

/* ---- the transform itself ---- */

static void energy_and_tensor_are_kept(void **state)
{
    (void)state;
    float *x = mixed_map(), *y = cwi_alloc(2 * N * SAMPLE, sizeof *y);
    const cw_shape shape = cw_shape_of(4, (int64_t[]){N, C, H, W});
    uint8_t *bytes;
    const uint8_t *end;
    size_t size;
    cwi_klt k;
    assert_ok(cwi_klt_learn(x, &shape, 0, &bytes, &size, NULL));
    assert_ok(cwi_klt_get(bytes, size, C, &k, &end, NULL));
    assert_ptr_equal(end, bytes + size);
    assert_int_equal(k.kept, C);
    for (size_t i = 0; i < C; i++)
        for (size_t j = 0; j < C; j++) {
            double product = 0;
            for (size_t c = 0; c < C; c++)
                product += (double)k.basis[i * C + c] * (double)k.basis[j * C + c];
            assert_true(fabs(product - (i == j)) < 1e-6);
        }
    cwi_klt_put(&k, cwi_kernels_get(), &shape, 2, x, y);
    cwi_klt_undo(&k, cwi_kernels_get(), &shape, 3, y, y + N * SAMPLE);
    for (size_t i = 0; i < N * SAMPLE; i++)
        assert_true(fabsf(x[i] - y[N * SAMPLE + i]) < 1e-5f);
    double all = 0, first = 0; /* the outputs of the hidden channels have nearly all */
    for (size_t i = 0; i < N * SAMPLE; i++) {
        all += (double)y[i] * (double)y[i];
        first += i % SAMPLE < HIDDEN * PLACES ? (double)y[i] * (double)y[i] : 0;
    }
    assert_true(first > 0.98 * all && first < all);
    cwi_klt_free(&k);
    cwi_free(bytes);
    cwi_free(x);
    cwi_free(y);
}

static void what_is_no_transform_is_refused(void **state)
{
    (void)state;
    enum { SMALL = 3, SIZE = 2 + 4 * SMALL + SMALL * SMALL };
    const uint8_t good[SIZE] = {3, 0, [14] = 5, [18] = 5, [22] = 5};
    const struct {
        size_t at, channels, size;
        uint8_t value;
        bool fits;
    } cases[] = {
        {0, SMALL, SIZE, 3, true},      {0, SMALL, SIZE, 0, false},
        {0, SMALL, SIZE, 4, false},     {5, SMALL, SIZE, 0x7f, true},
        {0, SMALL, SIZE - 1, 3, false}, {0, SMALL, 1, 3, false},
        {14, SMALL, SIZE, 0, false},    {17, SMALL, SIZE, 5, true},
        {0, 1, SIZE, 1, false},         {0, CWI_KLT_MOST + 1, 1 << 20, 1, false},
    };
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        uint8_t bytes[SIZE];
        const uint8_t *end;
        cwi_klt k;
        memcpy(bytes, good, SIZE);
        bytes[cases[i].at] = cases[i].value;
        assert_ok(cwi_klt_get(bytes, cases[i].size, cases[i].channels, &k, &end, NULL));
        if ((end != NULL) != cases[i].fits)
            fail_msg("case %zu is %s", i, end ? "taken" : "refused");
        cwi_klt_free(&k);
    }
    uint8_t infinite[SIZE], twice[SIZE];
    const uint8_t *end;
    cwi_klt k;
    memcpy(infinite, good, SIZE);
    cwi_put_le(infinite + 6, UINT32_C(0x7f800000), 4);
    assert_ok(cwi_klt_get(infinite, SIZE, SMALL, &k, &end, NULL));
    assert_null(end);
    cwi_klt_free(&k);
    memcpy(twice, good, SIZE);
    memcpy(twice + 17, twice + 14, SMALL); /* two rows alike */
    assert_ok(cwi_klt_get(twice, SIZE, SMALL, &k, &end, NULL));
    assert_null(end);
    cwi_klt_free(&k);
}

/* ---- by way of profiles ---- */

static void later_samples_are_shorter(void **state)
{
    (void)state;
    float *x = mixed_map();
    const cw_tensor earlier = samples_of(x, 0, LEARNED);
    cw_profile *with = learn(spec, &earlier), *plain = learn("ec:err=0.25,effort=fast", &earlier);
    assert_true(has_transform(with) && !has_transform(plain));
    for (size_t n = 1; n <= N - LEARNED; n += 3) {
        const cw_tensor later = samples_of(x, LEARNED, n);
        packed a = encode_args(spec, &later, &(cw_encode_args){.profile = with});
        packed b = encode_args(spec, &later, &(cw_encode_args){.profile = plain});
        packed c = encode_args(spec, &later, &(cw_encode_args){.profile = with, .threads = 3});
        if (4 * a.size > 3 * b.size)
            fail_msg("%zu samples take %zu bytes with a transform, %zu without", n, a.size, b.size);
        assert_int_equal(a.size, c.size);
        assert_memory_equal(a.bytes, c.bytes, a.size);
        const double one = relative_error(&a, with, &later, 1);
        if (one > 0.25 || one < 0.245)
            fail_msg("%zu samples: error %g", n, one);
        assert_true(relative_error(&a, with, &later, 3) == one);
        free(a.bytes);
        free(b.bytes);
        free(c.bytes);
    }
    cw_profile_destroy(&with);
    cw_profile_destroy(&plain);
    cwi_free(x);
}

/* Channels last, places in one row or in several, and bf16: the same size to some bytes. */
static void layouts_and_types_are_alike(void **state)
{
    (void)state;
    float *x = mixed_map(), *last = cwi_alloc(N * SAMPLE, sizeof *last);
    turn(x, N, last);
    const cw_shape nchw = cw_shape_of(4, (int64_t[]){LEARNED, C, H, W}),
                   nhwc = cw_shape_of(4, (int64_t[]){LEARNED, H, W, C}),
                   nlc = cw_shape_of(3, (int64_t[]){LEARNED, PLACES, C}),
                   ncl = cw_shape_of(3, (int64_t[]){LEARNED, C, PLACES});
    const struct {
        const char *spec;
        const cw_shape *shape;
        float *x;
    } cases[] = {{"ec:err=0.25,layout=nchw", &nchw, x},
                 {"ec:err=0.25,layout=nhwc", &nhwc, last},
                 {"ec:err=0.25,layout=nlc", &nlc, last},
                 {"ec:err=0.25,layout=ncl", &ncl, x}};
    size_t first = 0;
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        const cw_tensor earlier = cw_tensor_view(CW_F32, cases[i].shape, cases[i].x);
        cw_shape one = *cases[i].shape;
        one.dim[0] = 1;
        const cw_tensor later = cw_tensor_view(CW_F32, &one, cases[i].x + LEARNED * SAMPLE);
        cw_profile *profile = learn(cases[i].spec, &earlier);
        assert_true(has_transform(profile));
        packed p = encode_args(cases[i].spec, &later, &(cw_encode_args){.profile = profile});
        assert_true(relative_error(&p, profile, &later, 1) < 1.005 * 0.25);
        first = i ? first : p.size;
        if (p.size > first + first / 10 || p.size < first - first / 10)
            fail_msg("%s takes %zu bytes, the first %zu", cases[i].spec, p.size, first);
        cw_tensor half;
        assert_ok(cw_tensor_alloc(&half, CW_BF16, &one));
        to_bf16(&later, SAMPLE, half.data);
        packed q = encode_args(cases[i].spec, &half, &(cw_encode_args){.profile = profile});
        assert_ok(cw_decode(q.bytes, q.size, &half, &(cw_decode_args){.profile = profile}, NULL));
        assert_true(q.size < p.size + p.size / 20);
        cw_tensor_free(&half);
        free(p.bytes);
        free(q.bytes);
        cw_profile_destroy(&profile);
    }
    cwi_free(x);
    cwi_free(last);
}

/* What a transform cannot help with is coded without, and what cannot be coded is said. */
static void odd_tensors(void **state)
{
    (void)state;
    float *x = mixed_map();
    const cw_tensor earlier = samples_of(x, 0, LEARNED), later = samples_of(x, LEARNED, 1);
    cw_profile *profile = learn(spec, &earlier);
    uint8_t sent[SAMPLE], buf[8 * SAMPLE];
    static float y[SAMPLE];
    cw_tensor out = cw_tensor_view(CW_F32, &later.shape, y);
    packed p = encode_args("ec:err=0.1", &later, &(cw_encode_args){.profile = profile}); /* learned for another error */
    assert_true(relative_error(&p, profile, &later, 1) < 1.005 * 0.1);
    free(p.bytes);
    p = encode_args("ec:bytes=300", &later, &(cw_encode_args){.profile = profile});
    assert_true(p.size <= 300);
    relative_error(&p, profile, &later, 1);
    free(p.bytes);
    p = encode_args(spec, &later, &(cw_encode_args){.profile = profile});
    memset(sent, 7, sizeof sent);
    assert_ok(cw_decode(p.bytes, p.size, &out, &(cw_decode_args){.profile = profile, .sent = sent}, NULL));
    for (size_t i = 0; i < SAMPLE; i++)
        assert_int_equal(sent[i], 1);
    assert_int_equal(cw_decode(p.bytes, p.size, &out, NULL, NULL), CW_ERR_MISMATCH);
    for (size_t size = 0; size < p.size; size++)
        assert_int_not_equal(cw_decode(p.bytes, size, &out, &(cw_decode_args){.profile = profile}, NULL), CW_OK);
    free(p.bytes);
    for (size_t i = 0; i < SAMPLE; i++) /* squares and sums of these have no floats */
        x[LEARNED * SAMPLE + i] = i % 3 ? FLT_MAX : -FLT_MAX;
    p = encode_args(spec, &later, &(cw_encode_args){.profile = profile});
    assert_ok(cw_decode(p.bytes, p.size, &out, &(cw_decode_args){.profile = profile}, NULL));
    free(p.bytes);
    memset(x + LEARNED * SAMPLE, 0, SAMPLE * sizeof *x);
    p = encode_args(spec, &later, &(cw_encode_args){.profile = profile});
    assert_ok(cw_decode(p.bytes, p.size, &out, &(cw_decode_args){.profile = profile}, NULL));
    for (size_t i = 0; i < SAMPLE; i++)
        assert_true(y[i] == 0);
    free(p.bytes);
    x[LEARNED * SAMPLE + 77] = NAN;
    cw_codec *codec = codec_of(spec);
    cw_error err;
    size_t size;
    assert_int_equal(cw_encode(codec, &later, &(cw_encode_args){.profile = profile}, buf, sizeof buf, &size, &err),
                     CW_ERR_NONFINITE);
    assert_non_null(strstr(err.message, "element 77"));
    cw_codec_destroy(&codec);
    cw_profile_destroy(&profile);
    cwi_free(x);
}

/* Backgrounds that are known from a profile may be better than the error asked: then there is nothing to code. */
static void backgrounds_alone_may_do(void **state)
{
    (void)state;
    float *x = random_map(N * SAMPLE, 0, true, 8);
    for (size_t i = 0; i < N * SAMPLE; i++)
        x[i] += 2.0f * (float)(i / PLACES % C % 5);
    const cw_tensor earlier = samples_of(x, 0, LEARNED), later = samples_of(x, LEARNED, 1);
    const double errors[] = {0.2, 0.35, 0.4, 0.5, 0.7, 0.95};
    for (size_t i = 0; i < CWI_COUNT(errors); i++) {
        char asked[40];
        snprintf(asked, sizeof asked, "ec:err=%g", errors[i]);
        cw_profile *profile = learn(asked, &earlier);
        packed p = encode_args(asked, &later, &(cw_encode_args){.profile = profile}), alone = encode(asked, &later);
        const double with = relative_error(&p, profile, &later, 1), without = relative_error(&alone, NULL, &later, 1);
        if (with > errors[i] || without > errors[i])
            fail_msg("err=%g: %g with a profile, %g without", errors[i], with, without);
        free(p.bytes);
        free(alone.bytes);
        cw_profile_destroy(&profile);
    }
    cwi_free(x);
}

/* What pays on the last samples may be of no use to all: nothing is left of it in the profile then. */
static void what_is_of_no_use_to_all_leaves_nothing(void **state)
{
    (void)state;
    float *x = mixed_map();
    for (size_t i = 0; i < N * SAMPLE; i++)
        x[i] = 2.2f + (i / SAMPLE < N - N / 4 ? 0.3f : 1.1f) * (x[i] - 0.3f * (float)(i / PLACES % C % 4));
    const cw_tensor all = samples_of(x, 0, N), one = samples_of(x, N - 1, 1);
    size_t without = 0;
    for (int percent = 20; percent <= 50; percent += 2) {
        char asked[40];
        snprintf(asked, sizeof asked, "ec:err=0.%02d", percent);
        cw_profile *profile = learn(asked, &all);
        without += !has_transform(profile);
        packed p = encode_args(asked, &one, &(cw_encode_args){.profile = profile});
        assert_true(relative_error(&p, profile, &one, 1) <= percent / 100.0);
        free(p.bytes);
        cw_profile_destroy(&profile);
    }
    assert_true(without > 0);
    cwi_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(energy_and_tensor_are_kept),
        cmocka_unit_test(what_is_no_transform_is_refused),
        cmocka_unit_test(later_samples_are_shorter),
        cmocka_unit_test(layouts_and_types_are_alike),
        cmocka_unit_test(what_is_of_no_use_to_all_leaves_nothing),
        cmocka_unit_test(odd_tensors),
        cmocka_unit_test(backgrounds_alone_may_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
