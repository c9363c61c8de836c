/* test_qu.c - uniform quantization against its definition, its extremes, and the fairness of its random rounding. */
#include <float.h>

#include "codec_test.h"

/* Takes x. Every element comes back within half a step (nearest) or one (stochastic), and inside the range. */
static void check_map(float *x, size_t n, unsigned bits, bool stochastic)
{
    char spec[64];
    snprintf(spec, sizeof spec, "qu:b=%u,round=%s", bits, stochastic ? "stochastic" : "nearest");
    cw_tensor t = tensor_1d(x, n);
    packed p = encode(spec, &t);
    float *y = cwi_alloc(n, 4), low = x[0], high = x[0];
    decode_floats(&p, &t, y);
    for (size_t i = 0; i < n; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    const double step = ((double)high - (double)low) / ((1 << bits) - 1);
    const double slack =
        step * (stochastic ? 1 : 0.5) * 1.0001 + fmax(fabs((double)low), fabs((double)high)) * 1e-7 + 1e-45;
    for (size_t i = 0; i < n; i++) {
        assert_true(y[i] >= low && y[i] <= high);
        if (fabs((double)y[i] - (double)x[i]) > slack)
            fail_msg("%s: %g comes back as %g, step %g", spec, (double)x[i], (double)y[i], step);
    }
    uint8_t *body;
    assert_int_equal(body_of(&p, &body), 8 + n / 64 * 8 * bits + (n % 64 + 7) / 8 * bits);
    free(p.bytes);
    cwi_free(x);
    cwi_free(y);
}

static void every_width_follows_the_definition(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 63, 64, 65, 1000, 70000};
    for (unsigned bits = 1; bits <= 8; bits++)
        for (size_t s = 0; s < CWI_COUNT(sizes); s++)
            for (int kind = 0; kind < 4; kind++)
                check_map(random_map(sizes[s], kind & 1 ? 0.5 : 0, kind & 1, bits + s), sizes[s], bits, kind & 2);
}

static void extremes_come_back_exactly(void **state)
{
    (void)state;
    static const float pairs[][2] = {
        {0, 1},          {-1, 1},  {-FLT_MAX, FLT_MAX}, {0, FLT_MAX},  {0, 1e-45f},      {-3e-45f, 7e-45f},
        {1, 1.0000001f}, {-5, -5}, {FLT_MAX, FLT_MAX},  {-0.0f, 0.0f}, {1e-40f, 1e-38f}, {1e30f, 3e30f}};
    for (size_t i = 0; i < CWI_COUNT(pairs); i++) {
        for (unsigned bits = 1; bits <= 8; bits++) {
            for (int stochastic = 0; stochastic < 2; stochastic++) {
                float x[4] = {pairs[i][0], pairs[i][1], pairs[i][1], pairs[i][0]}, y[4];
                char spec[64];
                snprintf(spec, sizeof spec, "qu:b=%u,round=%s", bits, stochastic ? "stochastic" : "nearest");
                cw_tensor t = tensor_1d(x, 4);
                packed p = encode(spec, &t);
                decode_floats(&p, &t, y);
                for (int j = 0; j < 4; j++)
                    assert_true(x[j] == y[j]);
                free(p.bytes);
            }
        }
    }
}

static void wide_and_narrow_maps_round_trip(void **state)
{
    (void)state;
    static const float scales[] = {1e-44f, 1e-39f, 1e-30f, 1e30f, 5e37f};
    for (size_t i = 0; i < CWI_COUNT(scales); i++) {
        for (unsigned bits = 1; bits <= 8; bits++) {
            float *x = random_map(500, 0, true, i);
            for (int j = 0; j < 500; j++)
                x[j] *= scales[i];
            x[7] = -6 * scales[i];
            x[9] = 6 * scales[i];
            check_map(x, 500, bits, bits & 1);
        }
    }
}

/* The mean over many seeds approaches the input: four standard deviations of it. */
static void stochastic_rounding_is_unbiased(void **state)
{
    (void)state;
    enum { N = 200, RUNS = 4000 };
    float x[N], y[N];
    double sum[N] = {0};
    for (int i = 0; i < N; i++)
        x[i] = -1 + 2 * (float)i / (N - 1);
    cw_tensor t = tensor_1d(x, N);
    for (uint64_t seed = 0; seed < RUNS; seed++) {
        packed p = encode_args("qu:b=2,round=stochastic", &t, &(cw_encode_args){.seed = seed});
        decode_floats(&p, &t, y);
        for (int i = 0; i < N; i++)
            sum[i] += (double)y[i];
        free(p.bytes);
    }
    double bias = 0;
    for (int i = 0; i < N; i++) {
        double step = 2.0 / 3, deviation = sum[i] / RUNS - (double)x[i];
        assert_true(fabs(deviation) < 4.5 * step / 2 / sqrt(RUNS) + 1e-6);
        bias += deviation;
    }
    assert_true(fabs(bias / N) < 4 * (2.0 / 3) / 2 / sqrt((double)RUNS * N));
}

static void stochastic_rounding_is_reproducible(void **state)
{
    (void)state;
    const size_t n = 10000;
    float *x = random_map(n, 0, true, 1);
    cw_tensor t = tensor_1d(x, n);
    static const char *const spec = "qu:round=stochastic,seed=4";
    packed a = encode_args(spec, &t, &(cw_encode_args){.seed = 1}),
           b = encode_args(spec, &t, &(cw_encode_args){.seed = 1});
    packed c = encode_args(spec, &t, &(cw_encode_args){.seed = 2});
    assert_memory_equal(a.bytes, b.bytes, a.size);
    assert_memory_not_equal(a.bytes + 72, c.bytes + 72, a.size - 72);
    free(a.bytes);
    free(b.bytes);
    free(c.bytes);
    cwi_free(x);
}

static void samples_have_their_own_range(void **state)
{
    (void)state;
    float x[4 * 100], y[4 * 100];
    cw_shape shape = cw_shape_of(2, (int64_t[]){4, 100});
    for (int i = 0; i < 400; i++)
        x[i] = (float)(i % 100) * powf(100, (float)(i / 100));
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    packed p = encode("qu:b=8,scope=sample", &t);
    decode_floats(&p, &t, y);
    for (int i = 0; i < 400; i++)
        assert_true(fabsf(y[i] - x[i]) <= 0.2f * powf(100, (float)(i / 100)));
    free(p.bytes);
}

static void threads_do_not_change_a_byte(void **state)
{
    (void)state;
    static const char *const specs[] = {"qu", "qu:b=5,scope=sample", "qu:b=8,round=stochastic", "qu:b=1,scope=sample"};
    const size_t n = 3 * 100003;
    cw_shape shape = cw_shape_of(2, (int64_t[]){3, 100003});
    float *x = random_map(n, 0.5, true, 7), *y = cwi_alloc(n, 4), *z = cwi_alloc(n, 4);
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x), out = cw_tensor_view(CW_F32, &shape, z);
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        packed a = encode(specs[i], &t), b = encode_args(specs[i], &t, &(cw_encode_args){.threads = 3});
        assert_int_equal(a.size, b.size);
        assert_memory_equal(a.bytes, b.bytes, a.size);
        decode_floats(&a, &t, y);
        cw_error err;
        assert_ok_err(cw_decode(b.bytes, b.size, &out, &(cw_decode_args){.threads = 3}, &err), err);
        assert_memory_equal(y, z, n * 4);
        free(a.bytes);
        free(b.bytes);
    }
    cwi_free(x);
    cwi_free(y);
    cwi_free(z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_follows_the_definition),  cmocka_unit_test(extremes_come_back_exactly),
        cmocka_unit_test(wide_and_narrow_maps_round_trip),     cmocka_unit_test(stochastic_rounding_is_unbiased),
        cmocka_unit_test(stochastic_rounding_is_reproducible), cmocka_unit_test(samples_have_their_own_range),
        cmocka_unit_test(threads_do_not_change_a_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
