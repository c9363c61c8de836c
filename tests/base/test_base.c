/* test_base.c - errors, memory, random streams, CRC. */
#include <math.h>

#include "base/base.h"
#include "test.h"

static void statuses_have_names_and_texts(void **state)
{
    (void)state;
    assert_string_equal(cw_status_name(CW_ERR_SPEC), "CW_ERR_SPEC");
    assert_string_equal(cw_status_message(CW_OK), "success");
    assert_string_equal(cw_status_name((cw_status)9999), "CW_?");
}

/* CMakeLists.txt has the one number; a header cannot ask it. */
static void versions_agree(void **state)
{
    (void)state;
    char parts[32];
    snprintf(parts, sizeof parts, "%d.%d.%d", CW_VERSION_MAJOR, CW_VERSION_MINOR, CW_VERSION_PATCH);
    assert_string_equal(CW_VERSION, PROJECT_VERSION);
    assert_string_equal(parts, PROJECT_VERSION);
    assert_string_equal(cw_version(), PROJECT_VERSION);
    assert_true(CW_VERSION_NUMBER == 10000 * CW_VERSION_MAJOR + 100 * CW_VERSION_MINOR + CW_VERSION_PATCH);
}

static void lists_are_whole(void **state)
{
    (void)state;
    cwi_list list = {""};
    cwi_list_add(&list, "a");
    cwi_list_add(&list, "b c");
    assert_string_equal(list.text, "a, b c");
}

static void failing_fills_the_error(void **state)
{
    (void)state;
    cw_error err;
    assert_int_equal(cwi_fail_at(&err, CW_ERR_CORRUPT, 17, "field %d", 3), CW_ERR_CORRUPT);
    assert_int_equal(err.offset, 17);
    assert_string_equal(err.message, "field 3");
    cwi_fail_prefix(&err, CW_ERR_CORRUPT, "file %s", "x");
    assert_string_equal(err.message, "file x: field 3");
    assert_int_equal(cwi_fail(NULL, CW_ERR_IO, "ignored"), CW_ERR_IO);
}

static void memory_is_aligned_and_checked(void **state)
{
    (void)state;
    void *p = cwi_alloc(3, 5);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    memset(p, 7, 15);
    uint8_t *q = cwi_realloc(p, 15, 100);
    assert_int_equal(q[14], 7);
    cwi_free(q);
    assert_null(cwi_alloc(SIZE_MAX / 2, 3));
    assert_null(cwi_alloc(SIZE_MAX, 1));
}

static bool always(void *ctx, size_t bytes)
{
    (void)bytes;
    ++*(int *)ctx;
    return true;
}

static void allocation_failures_can_be_injected(void **state)
{
    (void)state;
    int asked = 0;
    cwi_alloc_set_fault(always, &asked);
    void *p = cwi_alloc(1, 1);
    cwi_alloc_set_fault(NULL, NULL);
    assert_null(p);
    assert_int_equal(asked, 1);
}

static void streams_are_reproducible_and_distinct(void **state)
{
    (void)state;
    cwi_rng a = cwi_rng_make(1, CWI_STREAM_TEST, 2, 3), b = cwi_rng_make(1, CWI_STREAM_TEST, 2, 3);
    cwi_rng c = cwi_rng_make(1, CWI_STREAM_TEST, 3, 2);
    uint64_t fifth = cwi_rng_at(&a, 4);
    for (int i = 0; i < 4; i++) {
        uint64_t v = cwi_rng_u64(&a);
        assert_true(v == cwi_rng_u64(&b));
        assert_true(v != cwi_rng_u64(&c));
    }
    assert_true(cwi_rng_u64(&a) == fifth);
}

#ifdef __SIZEOF_INT128__
__extension__ typedef unsigned __int128 wide;

static void bounded_numbers_are_the_products_high_half(void **state)
{
    (void)state;
    cwi_rng r = cwi_rng_make(6, CWI_STREAM_TEST, 0, 0), same = r;
    for (int i = 0; i < 1000; i++) {
        uint64_t bound = cwi_rng_u64(&r) >> (i % 40) | 1, low, want;
        (void)cwi_rng_u64(&same);
        do {
            wide product = (wide)cwi_rng_u64(&same) * bound;
            low = (uint64_t)product;
            want = (uint64_t)(product >> 64);
        } while (low < (0 - bound) % bound);
        assert_true(cwi_rng_below(&r, bound) == want);
    }
}
#endif

static void distributions_have_their_moments(void **state)
{
    (void)state;
    enum { N = 200000 };
    cwi_rng r = cwi_rng_make(5, CWI_STREAM_TEST, 0, 0);
    double sum = 0, square = 0, gamma = 0, uniform = 0;
    int below[3] = {0};
    for (int i = 0; i < N; i++) {
        double x = cwi_rng_normal(&r);
        sum += x;
        square += x * x;
        gamma += cwi_rng_gamma(&r, 0.5);
        uniform += cwi_rng_double(&r);
        below[cwi_rng_below(&r, 3)]++;
    }
    assert_true(fabs(sum / N) < 0.01);
    assert_true(fabs(square / N - 1) < 0.02);
    assert_true(fabs(gamma / N - 0.5) < 0.01);
    assert_true(fabs(uniform / N - 0.5) < 0.005);
    for (int i = 0; i < 3; i++)
        assert_true(fabs(below[i] / (double)N - 1 / 3.0) < 0.01);
}

static void shuffle_is_a_permutation(void **state)
{
    (void)state;
    uint32_t a[100], seen[100] = {0};
    for (uint32_t i = 0; i < 100; i++)
        a[i] = i;
    cwi_rng r = cwi_rng_make(1, CWI_STREAM_TEST, 0, 0);
    cwi_rng_shuffle(&r, a, 100);
    int moved = 0;
    for (uint32_t i = 0; i < 100; i++) {
        seen[a[i]]++;
        moved += a[i] != i;
    }
    for (int i = 0; i < 100; i++)
        assert_int_equal(seen[i], 1);
    assert_true(moved > 80);
}

static void crc32c_matches_rfc3720(void **state)
{
    (void)state;
    uint8_t zeros[32] = {0}, ones[32], rising[32];
    memset(ones, 0xff, 32);
    for (int i = 0; i < 32; i++)
        rising[i] = (uint8_t)i;
    assert_int_equal(cwi_crc32c(0, zeros, 32), 0x8a9136aa);
    assert_int_equal(cwi_crc32c(0, ones, 32), 0x62a8ab43);
    assert_int_equal(cwi_crc32c(0, rising, 32), 0x46dd794e);
    assert_int_equal(cwi_crc32c(0, "123456789", 9), 0xe3069283);
    for (size_t cut = 0; cut <= 32; cut++)
        assert_int_equal(cwi_crc32c(cwi_crc32c(0, rising, cut), rising + cut, 32 - cut), 0x46dd794e);
}

/* Long input goes through other code than short pieces of it. */
static void crc32c_is_the_same_in_pieces(void **state)
{
    (void)state;
    static uint8_t data[20000];
    cwi_rng r = cwi_rng_make(1, CWI_STREAM_TEST, 0, 0);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)cwi_rng_u64(&r);
    for (size_t size = sizeof data; size > 3000; size -= 1 + size / 16) {
        const size_t first = sizeof data - size;
        uint32_t crc = 0;
        for (size_t done = 0; done < size; done += CWI_MIN((size_t)100, size - done))
            crc = cwi_crc32c(crc, data + first + done, CWI_MIN((size_t)100, size - done));
        assert_int_equal(cwi_crc32c(0, data + first, size), crc);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statuses_have_names_and_texts),
        cmocka_unit_test(versions_agree),
        cmocka_unit_test(lists_are_whole),
        cmocka_unit_test(failing_fills_the_error),
        cmocka_unit_test(memory_is_aligned_and_checked),
        cmocka_unit_test(allocation_failures_can_be_injected),
        cmocka_unit_test(streams_are_reproducible_and_distinct),
#ifdef __SIZEOF_INT128__
        cmocka_unit_test(bounded_numbers_are_the_products_high_half),
#endif
        cmocka_unit_test(distributions_have_their_moments),
        cmocka_unit_test(shuffle_is_a_permutation),
        cmocka_unit_test(crc32c_matches_rfc3720),
        cmocka_unit_test(crc32c_is_the_same_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
