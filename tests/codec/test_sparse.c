/* test_sparse.c - sp and rt: which elements are kept, how they are marked, and how rt draws them. */
#include "codec_test.h"

static int by_magnitude(const void *a, const void *b)
{
    float x = fabsf(**(const float *const *)a), y = fabsf(**(const float *const *)b);
    if (x != y)
        return x < y ? 1 : -1;
    return *(const float *const *)a < *(const float *const *)b ? -1 : 1;
}

/* The k largest of x, everything else 0. */
static void keep_largest(const float *x, size_t n, size_t k, float *y)
{
    const float **order = cwi_alloc(n, sizeof *order);
    for (size_t i = 0; i < n; i++) {
        order[i] = &x[i];
        y[i] = 0;
    }
    qsort(order, n, sizeof *order, by_magnitude);
    for (size_t i = 0; i < k; i++)
        y[order[i] - x] = *order[i];
    cwi_free(order);
}

static bool has_indices(const packed *p)
{
    uint8_t *body;
    body_of(p, &body);
    return body[7] & 1;
}

static void sp_keeps_the_largest(void **state)
{
    (void)state;
    static const double rs[] = {0, 0.5, 0.95, 0.97, 0.99, 0.9999};
    static const size_t sizes[] = {1, 7, 64, 255, 256, 257, 1000, 65536, 70001, 300000};
    for (size_t s = 0; s < CWI_COUNT(sizes); s++) {
        for (size_t i = 0; i < CWI_COUNT(rs); i++) {
            const size_t n = sizes[s], k = (size_t)floor((1 - rs[i]) * (double)n + 1e-9);
            float *x = random_map(n, i & 1 ? 0.6 : 0, s & 1, s), *wanted = cwi_alloc(n, 4), *y = cwi_alloc(n, 4);
            char spec[64];
            snprintf(spec, sizeof spec, "sp:r=%.17g", rs[i]);
            cw_tensor t = tensor_1d(x, n);
            packed p = encode(spec, &t);
            keep_largest(x, n, k, wanted);
            decode_floats(&p, &t, y);
            assert_memory_equal(y, wanted, 4 * n);
            /* the smaller form of the two */
            size_t width = n > 65536 ? 3 : n > 256 ? 2 : 1, bitmap = (n + 7) / 8, list = width * k;
            uint8_t *body;
            assert_int_equal(body_of(&p, &body), 8 + CWI_MIN(bitmap, list) + 4 * k);
            assert_int_equal(has_indices(&p), list < bitmap);
            free(p.bytes);
            cwi_free(x);
            cwi_free(y);
            cwi_free(wanted);
        }
    }
}

static void figure1_top4_has_the_papers_error(void **state)
{
    (void)state;
    float x[16] = {2.2f, 0.8f, 1.2f, 0.4f, 1.8f, 0.2f, 3.1f, 2.0f, 2.1f, 0.2f, 1.1f, 1.7f, 0.3f, 2.8f, 1.4f, 0.9f},
          y[16];
    cw_tensor t = tensor_1d(x, 16);
    packed p = encode("sp:r=0.75", &t);
    decode_floats(&p, &t, y);
    assert_true(fabs(l2_distance(x, y, 16) - 4.064) < 5e-4);
    free(p.bytes);
}

/* A payload may not claim far more elements than it has bytes: zeros follow a body that is too short for its tensor. */
static void extreme_sparsity_is_padded(void **state)
{
    (void)state;
    const size_t n = 1 << 20, header = 24 + 8 + 16;
    float *x = random_map(n, 0.5, false, 1), *y = cwi_alloc(n, 4);
    cw_tensor t = tensor_1d(x, n);
    packed a = encode("sp:r=0.9995", &t), b = encode("sp:r=0.99999", &t);
    assert_int_equal(a.size, header + 8 + 524 * 7);
    assert_int_equal(b.size, header + n / 4096); /* its body has 8 + 10 * 7 bytes */
    decode_floats(&b, &t, y);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        kept += y[i] != 0;
    assert_int_equal(kept, 10);
    free(a.bytes);
    free(b.bytes);
    cwi_free(x);
    cwi_free(y);
}

static void short_values_and_samples(void **state)
{
    (void)state;
    enum { SAMPLES = 9, LENGTH = 5003 };
    const size_t n = SAMPLES * LENGTH;
    cw_shape shape = cw_shape_of(2, (int64_t[]){SAMPLES, LENGTH});
    float *x = random_map(n, 0.3, true, 2), *y = cwi_alloc(n, 4), *wanted = cwi_alloc(n, 4);
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    static const char *const specs[] = {"sp:r=0.9,scope=sample,values=bf16", "sp:r=0.99,scope=sample,values=fp16"};
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        for (size_t s = 0; s < SAMPLES; s++)
            keep_largest(x + s * LENGTH, LENGTH, i ? 50 : 500, wanted + s * LENGTH);
        packed p = encode(specs[i], &t);
        assert_int_equal(has_indices(&p), i);
        decode_floats(&p, &t, y);
        for (size_t j = 0; j < n; j++)
            assert_true(fabsf(y[j] - wanted[j]) <= fabsf(wanted[j]) * (i ? 0x1p-11f : 0x1p-8f));
        free(p.bytes);
    }
    cwi_free(x);
    cwi_free(y);
    cwi_free(wanted);
}

static void indices_must_ascend_and_lie_inside(void **state)
{
    (void)state;
    float x[200], y[200];
    for (int i = 0; i < 200; i++)
        x[i] = (float)(i % 50);
    cw_tensor t = tensor_1d(x, 200), out = tensor_1d(y, 200);
    packed p = encode("sp:r=0.98", &t);
    uint8_t *body;
    body_of(&p, &body);
    assert_int_equal(body[7], 1);
    static const uint8_t bad[][4] = {{5, 5, 6, 7}, {9, 8, 10, 11}, {1, 2, 3, 200}, {255, 255, 255, 255}};
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        memcpy(body + 8, bad[i], 4);
        cwi_put_le(p.bytes + 12, 0, 4);
        cwi_put_le(p.bytes + 12, cwi_crc32c(0, p.bytes, p.size), 4);
        cw_error err;
        assert_status(cw_decode(p.bytes, p.size, &out, NULL, &err), CW_ERR_CORRUPT);
        assert_non_null(strstr(err.message, "do not ascend"));
    }
    free(p.bytes);
}

/* ---- rt ---- */

enum { D = 1000, K = 100 };

/* Which elements of an ascending ramp a payload keeps; elements D - K .. D - 1 are the largest. */
static void kept_of_ramp(const char *spec, uint64_t seed, bool kept[D])
{
    float x[D], y[D];
    cw_shape shape = cw_shape_of(2, (int64_t[]){1, D});
    for (int i = 0; i < D; i++)
        x[i] = (float)(i + 1);
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    packed p = encode_args(spec, &t, &(cw_encode_args){.seed = seed});
    decode_floats(&p, &t, y);
    size_t count = 0;
    for (int i = 0; i < D; i++) {
        assert_true(y[i] == 0 || y[i] == x[i]);
        kept[i] = y[i] != 0;
        count += kept[i];
    }
    assert_int_equal(count, K);
    free(p.bytes);
}

/* The paper's sampling as it is written: one draw after the other by weight. */
static double expected_others(double alpha)
{
    cwi_rng r = cwi_rng_make(77, CWI_STREAM_TEST, 0, 0);
    enum { RUNS = 2000 };
    size_t others = 0;
    for (int run = 0; run < RUNS; run++) {
        size_t top_left = K, other_left = D - K;
        for (int i = 0; i < K; i++) {
            double top = (1 - alpha) / K * (double)top_left, other = alpha / (D - K) * (double)other_left;
            if (cwi_rng_double(&r) * (top + other) < top)
                top_left--;
            else
                other_left--;
        }
        others += D - K - other_left;
    }
    return (double)others / RUNS;
}

static void rt_draws_as_the_paper_says(void **state)
{
    (void)state;
    enum { RUNS = 3000 };
    static const char *const specs[] = {"rt:r=0.9,alpha=0.1", "rt:r=0.9,alpha=0.3"};
    static const double alphas[] = {0.1, 0.3};
    for (size_t a = 0; a < CWI_COUNT(specs); a++) {
        size_t times[D] = {0}, others = 0;
        bool kept[D];
        for (uint64_t seed = 0; seed < RUNS; seed++) {
            kept_of_ramp(specs[a], seed, kept);
            for (int i = 0; i < D; i++) {
                times[i] += kept[i];
                others += kept[i] && i < D - K;
            }
        }
        const double mean = (double)others / RUNS, wanted = expected_others(alphas[a]);
        assert_true(fabs(mean - wanted) < 0.03 * wanted);
        /* within a class every element is as likely as any other: five standard deviations */
        for (int i = 0; i < D; i++) {
            double p = i < D - K ? mean / (D - K) : 1 - mean / K, slack = 5 * sqrt(RUNS * p * (1 - p));
            assert_true(fabs((double)times[i] - RUNS * p) < slack);
        }
    }
}

static void rt_is_reproducible(void **state)
{
    (void)state;
    bool a[D], b[D], c[D];
    kept_of_ramp("rt:r=0.9,seed=1", 5, a);
    kept_of_ramp("rt:r=0.9,seed=1", 5, b);
    assert_memory_equal(a, b, sizeof a);
    kept_of_ramp("rt:r=0.9,seed=2", 5, c);
    assert_memory_not_equal(a, c, sizeof a);
    kept_of_ramp("rt:r=0.9,seed=1", 6, c);
    assert_memory_not_equal(a, c, sizeof a);
    kept_of_ramp("rt:r=0.9,alpha=0", 6, c);
    for (int i = 0; i < D; i++)
        assert_int_equal(c[i], i >= D - K);
}

static void rt_evaluates_as_top_k(void **state)
{
    (void)state;
    const size_t n = 4 * 3000;
    cw_shape shape = cw_shape_of(2, (int64_t[]){4, 3000});
    float *x = random_map(n, 0.5, true, 3);
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    packed a = encode_args("rt:r=0.95", &t, &(cw_encode_args){.evaluate = true, .seed = 9});
    packed b = encode("sp:r=0.95,scope=sample", &t), c = encode("rt:r=0.95", &t);
    uint8_t *body_a, *body_b, *body_c;
    assert_int_equal(body_of(&a, &body_a), body_of(&b, &body_b));
    assert_memory_equal(body_a, body_b, (size_t)(a.bytes + a.size - body_a));
    assert_int_equal(body_of(&c, &body_c), body_of(&b, &body_b));
    assert_memory_not_equal(body_c, body_b, (size_t)(b.bytes + b.size - body_b));
    free(a.bytes);
    free(b.bytes);
    free(c.bytes);
    cwi_free(x);
}

static void constant_and_zero_samples_pass_through_rt(void **state)
{
    (void)state;
    float x[600] = {0}, y[600];
    cw_shape shape = cw_shape_of(2, (int64_t[]){2, 300});
    for (int i = 300; i < 600; i++)
        x[i] = -1.5f;
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    for (uint64_t seed = 0; seed < 20; seed++) {
        packed p = encode_args("rt:r=0.9,alpha=0.5", &t, &(cw_encode_args){.seed = seed});
        decode_floats(&p, &t, y);
        size_t kept = 0;
        for (int i = 0; i < 600; i++) {
            assert_true(y[i] == 0 || y[i] == x[i]);
            kept += y[i] != 0;
        }
        assert_int_equal(kept, 30);
        free(p.bytes);
    }
}

static void threads_do_not_change_a_byte(void **state)
{
    (void)state;
    static const char *const specs[] = {"sp:r=0.95", "sp:r=0.99,values=bf16", "sp:r=0.9,scope=sample",
                                        "rt:r=0.95,seed=3"};
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
        cmocka_unit_test(sp_keeps_the_largest),
        cmocka_unit_test(figure1_top4_has_the_papers_error),
        cmocka_unit_test(extreme_sparsity_is_padded),
        cmocka_unit_test(short_values_and_samples),
        cmocka_unit_test(indices_must_ascend_and_lie_inside),
        cmocka_unit_test(rt_draws_as_the_paper_says),
        cmocka_unit_test(rt_is_reproducible),
        cmocka_unit_test(rt_evaluates_as_top_k),
        cmocka_unit_test(constant_and_zero_samples_pass_through_rt),
        cmocka_unit_test(threads_do_not_change_a_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
