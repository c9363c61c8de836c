/* test_half.c - none, fp16 and bf16: what comes back is the nearest float of that format. */
#include "codec_test.h"

/* Encodes and decodes n floats. */
static void pass_through(const char *spec, float *x, size_t n, float *y)
{
    cw_tensor t = tensor_1d(x, n);
    packed p = encode(spec, &t);
    decode_floats(&p, &t, y);
    free(p.bytes);
}

static void none_gives_back_every_bit(void **state)
{
    (void)state;
    const size_t n = 12345;
    float *x = random_map(n, 0.2, true, 1), *y = cwi_alloc(n, 4);
    x[0] = -0.0f;
    x[1] = 1e-45f;
    x[2] = 3.4028235e38f;
    pass_through("none", x, n, y);
    assert_memory_equal(x, y, 4 * n);
    cwi_free(x);
    cwi_free(y);
}

/* The value of a finite half-precision number, by its definition. */
static double f16_value(unsigned h)
{
    double magnitude = h >> 10 & 31 ? ldexp(1024 + (h & 1023), (int)(h >> 10 & 31) - 25) : ldexp(h & 1023, -24);
    return h >> 15 ? -magnitude : magnitude;
}

static void every_fp16_number_survives(void **state)
{
    (void)state;
    float x[2 * 0x7c00], y[2 * 0x7c00];
    size_t n = 0;
    for (unsigned h = 0; h < 0x7c00; h++) {
        x[n++] = (float)f16_value(h);
        x[n++] = (float)f16_value(h | 0x8000);
    }
    pass_through("fp16", x, n, y);
    assert_memory_equal(x, y, sizeof x);
}

/* Between any two neighbours: below the middle down, above it up, the middle itself to the even one. */
static void fp16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (unsigned h = 0; h + 1 < 0x7c00; h++) {
        double low = f16_value(h), high = f16_value(h + 1), middle = (low + high) / 2;
        float x[6] = {(float)middle, nextafterf((float)middle, 0), nextafterf((float)middle, 1e9f)}, y[6];
        for (int i = 0; i < 3; i++)
            x[3 + i] = -x[i];
        pass_through("fp16", x, 6, y);
        double wanted[3] = {h & 1 ? high : low, low, high};
        for (int i = 0; i < 3; i++) {
            assert_true((double)y[i] == wanted[i]);
            assert_true((double)y[3 + i] == -wanted[i]);
        }
    }
}

static void too_large_numbers_saturate(void **state)
{
    (void)state;
    float x[4] = {65519.9f, 65520.0f, 1e6f, -3.4e38f}, y[4];
    pass_through("fp16", x, 4, y);
    assert_true(y[0] == 65504 && y[1] == 65504 && y[2] == 65504 && y[3] == -65504);
    const float largest = 0x1.fep127f;
    float z[2] = {3.4028235e38f, -3.4028235e38f};
    pass_through("bf16", z, 2, y);
    assert_true(y[0] == largest && y[1] == -largest);
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    cwi_rng r = cwi_rng_make(1, CWI_STREAM_TEST, 0, 0);
    for (int i = 0; i < 20000; i++) {
        uint32_t bits = (uint32_t)cwi_rng_below(&r, 0x7f7f0000), half = bits & 0xffff;
        if (i % 3 == 0) /* exactly between two */
            bits = (bits & 0xffff0000) | 0x8000, half = 0x8000;
        float x, y;
        memcpy(&x, &bits, 4);
        pass_through("bf16", &x, 1, &y);
        uint32_t got, wanted = bits >> 16;
        memcpy(&got, &y, 4);
        wanted += half > 0x8000 || (half == 0x8000 && (wanted & 1));
        assert_int_equal(got, wanted << 16);
    }
}

static void bf16_tensors_pass_through_none_and_bf16(void **state)
{
    (void)state;
    enum { COUNT = 9000 };
    static uint16_t x[COUNT], y[COUNT];
    static float f[COUNT];
    static const char *const specs[] = {"none", "bf16"};
    cw_shape shape = cw_shape_of(1, (int64_t[]){COUNT});
    for (uint32_t i = 0; i < COUNT; i++)
        x[i] = (uint16_t)(i * 7 % 0x7f80 | (i & 1) << 15);
    cw_tensor t = cw_tensor_view(CW_BF16, &shape, x), out = cw_tensor_view(CW_BF16, &shape, y);
    for (size_t s = 0; s < 2; s++) {
        packed p = encode(specs[s], &t);
        memset(y, 0xff, sizeof y);
        decode_into(&p, &out);
        assert_memory_equal(x, y, sizeof x);
        decode_floats(&p, &t, f);
        for (size_t i = 0; i < COUNT; i++) {
            uint32_t bits;
            memcpy(&bits, &f[i], 4);
            assert_int_equal(bits, (uint32_t)x[i] << 16);
        }
        free(p.bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(none_gives_back_every_bit),   cmocka_unit_test(every_fp16_number_survives),
        cmocka_unit_test(fp16_rounds_to_nearest_even), cmocka_unit_test(too_large_numbers_saturate),
        cmocka_unit_test(bf16_rounds_to_nearest_even), cmocka_unit_test(bf16_tensors_pass_through_none_and_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
