/* test_tensor.c - dtypes, shapes, views and owned tensors. */
#include "base/base.h"
#include "cutwire/io.h"
#include "test.h"

static void dtypes_have_size_and_name(void **state)
{
    (void)state;
    assert_int_equal(cw_dtype_size(CW_F32), 4);
    assert_int_equal(cw_dtype_size(CW_BF16), 2);
    assert_int_equal(cw_dtype_size(CW_F16), 2);
    assert_int_equal(cw_dtype_size(CW_U8), 1);
    assert_int_equal(cw_dtype_size(CW_I32), 4);
    assert_int_equal(cw_dtype_size(CW_I64), 8);
    assert_int_equal(cw_dtype_size((cw_dtype)0), 0);
    assert_int_equal(cw_dtype_size((cw_dtype)99), 0);
    assert_string_equal(cw_dtype_name(CW_BF16), "bf16");
    assert_string_equal(cw_dtype_name((cw_dtype)99), "?");
}

static void counts_elements(void **state)
{
    (void)state;
    size_t count;
    cw_shape s = cw_shape_of(4, (int64_t[]){2, 3, 5, 7});
    assert_ok(cw_shape_count(&s, &count));
    assert_int_equal(count, 210);
    s = cw_shape_of(0, NULL);
    assert_ok(cw_shape_count(&s, &count));
    assert_int_equal(count, 1);
    s = cw_shape_of(3, (int64_t[]){4, 0, 9});
    assert_ok(cw_shape_count(&s, &count));
    assert_int_equal(count, 0);
}

static void refuses_impossible_shapes(void **state)
{
    (void)state;
    size_t count;
    cw_shape bad[] = {
        cw_shape_of(9, (int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}),
        cw_shape_of(-1, NULL),
        cw_shape_of(2, (int64_t[]){3, -1}),
        cw_shape_of(1, (int64_t[]){INT64_MAX / 8 + 1}),
        cw_shape_of(2, (int64_t[]){INT64_C(1) << 31, INT64_C(1) << 31}),
        cw_shape_of(3, (int64_t[]){0, INT64_C(1) << 31, INT64_C(1) << 31}),
    };
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        assert_status(cw_shape_count(&bad[i], &count), CW_ERR_INVALID);
        cw_tensor t;
        assert_status(cw_tensor_alloc(&t, CW_U8, &bad[i]), CW_ERR_INVALID);
        assert_null(t.data);
    }
}

static void compares_and_prints_shapes(void **state)
{
    (void)state;
    cw_shape a = cw_shape_of(3, (int64_t[]){64, 16, 16});
    cw_shape b = cw_shape_of(3, (int64_t[]){64, 16, 17});
    cw_shape c = cw_shape_of(2, (int64_t[]){64, 16});
    cw_shape scalar = cw_shape_of(0, NULL);
    assert_true(cw_shape_equal(&a, &a));
    assert_false(cw_shape_equal(&a, &b));
    assert_false(cw_shape_equal(&a, &c));
    char buf[32];
    assert_string_equal(cw_shape_format(&a, buf, sizeof buf), "64x16x16");
    assert_string_equal(cw_shape_format(&scalar, buf, sizeof buf), "scalar");
    assert_string_equal(cw_shape_format(&a, buf, 6), "64x16");
    assert_string_equal(cw_shape_format(&a, buf, 1), "");
    assert_string_equal(cw_shape_format(&scalar, buf, 4), "sca");
}

static void views_leave_memory_alone(void **state)
{
    (void)state;
    float memory[6] = {1, 2, 3, 4, 5, 6};
    cw_shape s = cw_shape_of(2, (int64_t[]){2, 3});
    cw_tensor t = cw_tensor_view(CW_F32, &s, memory);
    assert_ptr_equal(t.data, memory);
    cw_tensor_free(&t);
    assert_null(t.data);
    assert_true(memory[5] == 6.0f);
}

static bool always(void *ctx, size_t bytes)
{
    (void)ctx, (void)bytes;
    return true;
}

static void owned_tensors_are_aligned_and_freed(void **state)
{
    (void)state;
    cw_tensor t;
    cw_shape s = cw_shape_of(2, (int64_t[]){5, 7});
    assert_ok(cw_tensor_alloc(&t, CW_I64, &s));
    assert_true(t.owned);
    assert_int_equal((uintptr_t)t.data % 64, 0);
    memset(t.data, 1, 5 * 7 * 8);
    cw_tensor_free(&t);
    cw_tensor_free(&t);
    cw_tensor_free(NULL);
    assert_status(cw_tensor_alloc(&t, (cw_dtype)77, &s), CW_ERR_INVALID);
    cwi_alloc_set_fault(always, NULL);
    cw_status status = cw_tensor_alloc(&t, CW_F32, &s);
    cwi_alloc_set_fault(NULL, NULL);
    assert_int_equal(status, CW_ERR_NO_MEMORY);
    assert_null(t.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dtypes_have_size_and_name), cmocka_unit_test(counts_elements),
        cmocka_unit_test(refuses_impossible_shapes), cmocka_unit_test(compares_and_prints_shapes),
        cmocka_unit_test(views_leave_memory_alone),  cmocka_unit_test(owned_tensors_are_aligned_and_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
