/* test_select.c - the k-th largest magnitude against sorting. */
#include "codec/select.h"
#include "codec_test.h"

static uint32_t key_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & UINT32_C(0x7fffffff);
}

static int descending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x < y) - (x > y);
}

static void check_k(const float *x, const uint32_t *sorted, size_t n, size_t k, unsigned threads)
{
    const cwi_source source = {.kernels = cwi_kernels_get(), .dtype = CW_F32, .data = (const uint8_t *)x};
    uint32_t *keys = cwi_alloc(cwi_select_keys(n, threads), sizeof *keys);
    cwi_pick pick;
    cwi_select(&source, 0, n, k, keys, threads, &pick);
    assert_int_equal(pick.max_key, n ? sorted[0] : 0);
    if (k == 0) {
        assert_int_equal(pick.threshold, 0x7fffffff);
        assert_int_equal(pick.ties, 0);
    } else {
        size_t above = 0;
        while (above < n && sorted[above] > sorted[k - 1])
            above++;
        assert_int_equal(pick.threshold, sorted[k - 1]);
        assert_int_equal(pick.ties, k - above);
    }
    cwi_free(keys);
}

/* Takes x. */
static void check(float *x, size_t n)
{
    uint32_t *sorted = cwi_alloc(n + 1, sizeof *sorted);
    for (size_t i = 0; i < n; i++)
        sorted[i] = key_of(x[i]);
    qsort(sorted, n, sizeof *sorted, descending);
    const size_t ks[] = {0, 1, 2, n / 100, n / 24, n / 10, n / 2, n - n / 10, n ? n - 1 : 0, n};
    for (size_t i = 0; i < CWI_COUNT(ks); i++) {
        if (ks[i] > n)
            continue;
        check_k(x, sorted, n, ks[i], 1);
        check_k(x, sorted, n, ks[i], 3);
    }
    cwi_free(sorted);
    cwi_free(x);
}

static const size_t sizes[] = {0, 1, 2, 63, 64, 65, 1000, 4095, 4096, 4097, 5000, 65536, 65537, 300000, 1 << 20};

static void random_maps(void **state)
{
    (void)state;
    for (size_t i = 0; i < CWI_COUNT(sizes); i++) {
        check(random_map(sizes[i], 0.5, false, i), sizes[i]);
        check(random_map(sizes[i], 0.0, true, i), sizes[i]);
        check(random_map(sizes[i], 0.999, false, i), sizes[i]);
    }
}

static void ties_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < CWI_COUNT(sizes); i++) {
        const size_t n = sizes[i];
        float *constant = cwi_alloc(n + 1, sizeof *constant), *few = cwi_alloc(n + 1, sizeof *few);
        float *zero = cwi_calloc(n + 1, sizeof *zero);
        for (size_t j = 0; j < n; j++) {
            constant[j] = -2.5f;
            few[j] = (float)(j * 7919 % 5) * 0.25f;
        }
        check(constant, n);
        check(few, n);
        check(zero, n);
    }
}

/* Values that the sample does not see, or sees too much of. */
static void samples_that_mislead(void **state)
{
    (void)state;
    const size_t n = 1 << 20;
    float *sorted = random_map(n, 0, false, 1), *spike = random_map(n, 0, false, 2), *wide = cwi_alloc(n, sizeof *wide);
    float *close = cwi_alloc(n, sizeof *close);
    for (size_t i = 0; i < n; i++) {
        sorted[i] = (float)i;
        spike[i] = i % 997 == 5 ? 1e30f : i % 991 == 7 ? 1e-40f : 1.0f + 1e-6f * (float)(i % 3);
        wide[i] = ldexpf(1.0f + (float)(i % 100) / 100, (int)(i * 31 % 250) - 125);
        close[i] = 1.0f + (float)(i % 4096) * 0x1p-23f;
    }
    check(sorted, n);
    check(spike, n);
    check(wide, n);
    check(close, n);
}

static void non_finite_input_is_noticed(void **state)
{
    (void)state;
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        for (size_t n = 1; n <= 70000; n = n * 41 + 3) {
            float *x = random_map(n, 0.5, false, 3);
            x[n * 2 / 3] = bad[i];
            const cwi_source source = {.kernels = cwi_kernels_get(), .dtype = CW_F32, .data = (const uint8_t *)x};
            uint32_t *keys = cwi_alloc(cwi_select_keys(n, 1), sizeof *keys);
            cwi_pick pick;
            cwi_select(&source, 0, n, n / 50, keys, 1, &pick);
            assert_true(pick.max_key >= CWI_KEY_INF);
            cwi_free(keys);
            cwi_free(x);
        }
    }
}

static void scratch_stays_within_two_percent(void **state)
{
    (void)state;
    for (size_t n = 1 << 18; n <= (size_t)1 << 26; n *= 2)
        assert_true(cwi_select_keys(n, 1) * sizeof(uint32_t) <= n * sizeof(float) / 50);
}

static void kept_counts_follow_the_decimal(void **state)
{
    (void)state;
    assert_int_equal(cwi_kept(0.99, 100), 1);
    assert_int_equal(cwi_kept(0.99, 99), 0);
    assert_int_equal(cwi_kept(0.9, 10), 1);
    assert_int_equal(cwi_kept(0.07, 100), 93);
    assert_int_equal(cwi_kept(0.75, 16), 4);
    assert_int_equal(cwi_kept(0.95875, 100000), 4125);
    assert_int_equal(cwi_kept(0.0, 12345), 12345);
    assert_int_equal(cwi_kept(0.5, 1), 0);
    assert_int_equal(cwi_kept(0.5, 0), 0);
    assert_int_equal(cwi_kept(0.99, 16777216), 167772);
    /* every percentage of every count of hundreds is exact */
    for (int percent = 0; percent < 100; percent++)
        for (size_t n = 100; n <= 10000; n += 300)
            assert_int_equal(cwi_kept(percent / 100.0, n), (100 - (size_t)percent) * (n / 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_maps),
        cmocka_unit_test(ties_everywhere),
        cmocka_unit_test(samples_that_mislead),
        cmocka_unit_test(non_finite_input_is_noticed),
        cmocka_unit_test(scratch_stays_within_two_percent),
        cmocka_unit_test(kept_counts_follow_the_decimal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
