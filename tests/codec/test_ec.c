/* test_ec.c - ec meets its error or its budget, is unbiased where it says so, and takes any tensor. */
#include <float.h>

#include "codec_test.h"

enum { N = 8, C = 24, H = 12, W = 10, ELEMENTS = N * C * H * W };

/* Smooth planes; heavy: with rare elements a hundred times as large. */
static float *map_of(bool negatives, bool heavy, uint64_t seed)
{
    float *x = cwi_alloc(ELEMENTS, sizeof *x);
    cwi_rng r = cwi_rng_make(seed, CWI_STREAM_TEST, 0, 0);
    for (size_t i = 0; i < ELEMENTS; i++) {
        const double row = (double)(i / W % H), column = (double)(i % W), plane = (double)(i / (W * H));
        double v = sin(row * 0.5 + plane) + sin(column * 0.4 + 2 * plane) - 0.4 + 0.2 * cwi_rng_normal(&r);
        if (heavy && cwi_rng_below(&r, 2000) == 0)
            v *= 100 * cwi_rng_normal(&r);
        x[i] = (float)(negatives || v > 0 ? v : 0);
    }
    return x;
}

static cw_tensor tensor_of(float *x)
{
    const cw_shape shape = cw_shape_of(4, (int64_t[]){N, C, H, W});
    return cw_tensor_view(CW_F32, &shape, x);
}

static double error_of(const char *spec, const cw_tensor *t, size_t n, size_t *size)
{
    static const float zeros[ELEMENTS];
    const float *x = t->data;
    float *y = cwi_alloc(n + 1, sizeof *y);
    packed p = encode(spec, t);
    decode_floats(&p, t, y);
    const double error = l2_distance(x, y, n) / l2_distance(x, zeros, n);
    *size = p.size;
    free(p.bytes);
    cwi_free(y);
    return error;
}

static void errors_are_met(void **state)
{
    (void)state;
    static const double targets[] = {0.5, 0.25, 0.1, 0.01, 0.001};
    static const char *const more[] = {"", ",scope=sample", ",round=stochastic"};
    for (int kind = 0; kind < 4; kind++) {
        float *x = map_of(kind & 1, kind & 2, 5);
        cw_tensor t = tensor_of(x);
        for (size_t m = 0; m < CWI_COUNT(more); m++) {
            size_t before = 0;
            for (size_t i = 0; i < CWI_COUNT(targets); i++) {
                char spec[80];
                size_t size;
                snprintf(spec, sizeof spec, "ec:err=%g%s", targets[i], more[m]);
                const double error = error_of(spec, &t, ELEMENTS, &size);
                const double slack = m == 0 ? 1.005 : 1.1;
                if (error > slack * targets[i] || error < 0.7 * targets[i])
                    fail_msg("%s, map %d: the error is %g", spec, kind, error);
                assert_true(size > before);
                before = size;
            }
        }
        cwi_free(x);
    }
}

static void budgets_are_never_exceeded(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        float *x = map_of(kind & 1, kind & 2, 6);
        cw_tensor t = tensor_of(x);
        for (size_t bytes = 120; bytes < 200000; bytes = bytes * 3 / 2) {
            char spec[80];
            size_t size;
            snprintf(spec, sizeof spec, "ec:bytes=%zu%s", bytes, kind & 1 ? ",round=stochastic" : "");
            error_of(spec, &t, ELEMENTS, &size);
            if (size > bytes || (bytes > 2000 && bytes < 25000 && size < bytes * 9 / 10))
                fail_msg("%s, map %d: %zu bytes", spec, kind, size);
            snprintf(spec, sizeof spec, "ec:bpe=%.17g,scope=sample", (double)bytes * 8 / ELEMENTS);
            error_of(spec, &t, ELEMENTS, &size);
            assert_true(size <= CWI_MAX(bytes, (size_t)200));
        }
        cwi_free(x);
    }
}

static void a_cap_makes_an_error_target_give_way(void **state)
{
    (void)state;
    float *x = map_of(false, false, 7);
    cw_tensor t = tensor_of(x);
    size_t free_size, loose, tight;
    error_of("ec:err=0.1", &t, ELEMENTS, &free_size);
    error_of("ec:err=0.1,bytes=1000000", &t, ELEMENTS, &loose);
    assert_int_equal(loose, free_size);
    assert_true(error_of("ec:err=0.1,bytes=1000", &t, ELEMENTS, &tight) > 0.1);
    assert_true(tight <= 1000);
    cwi_free(x);
}

static void an_impossible_budget_is_refused(void **state)
{
    (void)state;
    float *x = map_of(false, false, 8);
    uint8_t buf[8192];
    cw_tensor t = tensor_of(x);
    cw_codec *codec = codec_of("ec:bytes=20");
    size_t size;
    cw_error err;
    assert_status(cw_encode(codec, &t, NULL, buf, sizeof buf, &size, &err), CW_ERR_TOO_SMALL);
    assert_non_null(strstr(err.message, "bytes=20 of codec ec: a payload of this tensor has at least"));
    cw_codec_destroy(&codec);
    cwi_free(x);
}

/* The mean over seeds comes closer to the input as 1 / sqrt(seeds). */
static void stochastic_rounding_is_unbiased(void **state)
{
    (void)state;
    enum { SEEDS = 400 };
    static const char *const specs[] = {"ec:step=2,round=stochastic", "ec:step=1,round=stochastic,scope=sample"};
    float *x = map_of(true, true, 9), *y = cwi_alloc(ELEMENTS, sizeof *y);
    double *mean = cwi_alloc(ELEMENTS, sizeof *mean);
    cw_tensor t = tensor_of(x);
    for (size_t s = 0; s < CWI_COUNT(specs); s++) {
        double once = 0, average = 0;
        memset(mean, 0, ELEMENTS * sizeof *mean);
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            packed p = encode_args(specs[s], &t, &(cw_encode_args){.seed = seed});
            decode_floats(&p, &t, y);
            once = l2_distance(x, y, ELEMENTS);
            for (size_t i = 0; i < ELEMENTS; i++)
                mean[i] += (double)y[i] / SEEDS;
            free(p.bytes);
        }
        for (size_t i = 0; i < ELEMENTS; i++)
            average += (mean[i] - (double)x[i]) * (mean[i] - (double)x[i]);
        const double gain = once / sqrt(average);
        if (gain < 18 || gain > 22)
            fail_msg("%s: the mean of %d is %g times as near as one, not %g", specs[s], SEEDS, gain, sqrt(SEEDS));
    }
    cwi_free(x);
    cwi_free(y);
    cwi_free(mean);
}

static void odd_tensors_round_trip(void **state)
{
    (void)state;
    static const float values[] = {0, -0.0f, 1, -3, 1e-45f, 3e-39f, FLT_MAX, -FLT_MAX};
    static const char *const specs[] = {"ec", "ec:err=0.01,scope=sample", "ec:step=3,round=stochastic", "ec:bpe=1"};
    for (size_t s = 0; s < CWI_COUNT(specs); s++)
        for (size_t v = 0; v < CWI_COUNT(values); v++)
            for (size_t n = 0; n < 70; n += 1 + n / 4) {
                float x[70], y[70];
                for (size_t i = 0; i < n; i++)
                    x[i] = i % 3 ? values[v] : values[v] / 2;
                cw_tensor t = tensor_1d(x, n);
                packed p = encode(specs[s], &t);
                decode_floats(&p, &t, y);
                for (size_t i = 0; i < n; i++)
                    if (!isfinite(y[i]) || (s == 0 && fabsf(values[v]) > 1e-40f &&
                                            fabs((double)y[i] - (double)x[i]) > 0.5 * fabs((double)values[v])))
                        fail_msg("%s: %g comes back as %g", specs[s], (double)x[i], (double)y[i]);
                free(p.bytes);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_met),
        cmocka_unit_test(budgets_are_never_exceeded),
        cmocka_unit_test(a_cap_makes_an_error_target_give_way),
        cmocka_unit_test(an_impossible_budget_is_refused),
        cmocka_unit_test(stochastic_rounding_is_unbiased),
        cmocka_unit_test(odd_tensors_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
