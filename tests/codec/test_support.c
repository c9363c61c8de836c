/* test_support.c - ec with a support: what both ends know to be 0 is not coded. */
#include "codec/payload.h"
#include "codec_test.h"

enum { SUPPORTED = 40 * 9 * 10 * 6 };

static void decode_supported(const packed *p, const cw_shape *shape, const uint8_t *support, int threads, float *y)
{
    cw_error err;
    cw_tensor out = cw_tensor_view(CW_F32, shape, y);
    const cw_decode_args args = {.threads = threads, .support = support};
    assert_ok_err(cw_decode(p->bytes, p->size, &out, &args, &err), err);
}

/* What lies outside the support takes next to nothing, and changes nothing of the rest. */
static void check_support(const char *spec, const cw_tensor *t, const uint8_t *support, size_t elements, bool same)
{
    static float plain[SUPPORTED], y[SUPPORTED];
    packed all = encode(spec, t), p = encode_args(spec, t, &(cw_encode_args){.support = support});
    cw_tensor out = cw_tensor_view(CW_F32, &t->shape, y);
    decode_floats(&all, t, plain);
    assert_status(cw_decode(p.bytes, p.size, &out, NULL, NULL), CW_ERR_MISMATCH);
    for (int threads = 1; threads <= 3; threads++) {
        packed again = encode_args(spec, t, &(cw_encode_args){.support = support, .threads = threads});
        assert_int_equal(again.size, p.size);
        assert_memory_equal(again.bytes, p.bytes, p.size);
        decode_supported(&p, &t->shape, support, threads, y);
        free(again.bytes);
    }
    for (size_t i = 0; i < elements; i++)
        assert_true(support[i] || y[i] == 0);
    if (same)
        assert_memory_equal(y, plain, elements * sizeof *y);
    assert_true((double)p.size < (same ? 0.9 : 1.2) * (double)all.size); /* without levels of classes */
    decode_supported(&all, &t->shape, support, 1, y);                    /* one that is not asked for */
    assert_memory_equal(y, plain, elements * sizeof *y);
    free(all.bytes);
    free(p.bytes);
}

static void what_both_ends_know_to_be_zero_is_not_coded(void **state)
{
    (void)state;
    static const struct {
        int64_t dim[4];
    } shapes[] = {{{40, 9, 10, 6}}, {{3, 60, 12, 10}}, {{216, 100, 1, 1}}};
    static uint8_t support[SUPPORTED];
    cwi_rng r = cwi_rng_make(9, CWI_STREAM_TEST, 0, 0);
    for (size_t i = 0; i < SUPPORTED; i++)
        support[i] = (uint8_t)(cwi_rng_below(&r, 5) < 2 ? 1 + cwi_rng_below(&r, 255) : 0);
    for (size_t s = 0; s < CWI_COUNT(shapes); s++) {
        const cw_shape shape = cw_shape_of(4, shapes[s].dim);
        const size_t n = (size_t)(shape.dim[0] * shape.dim[1] * shape.dim[2] * shape.dim[3]);
        for (int negatives = 0; negatives < 2; negatives++) {
            float *x = random_map(n, 0.3, negatives, 3);
            cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
            for (size_t i = 0; i < n; i++)
                x[i] = support[i] ? x[i] : 0;
            check_support("ec:step=2,round=stochastic,scope=sample", &t, support, n, true);
            check_support("ec:step=0.05,round=stochastic", &t, support, n, true);
            check_support("ec:err=0.25", &t, support, n, false);
            cwi_free(x);
        }
    }
}

/* Nothing outside the support is lost that was promised; a budget holds; an empty support takes a few bytes. */
static void odd_supports(void **state)
{
    (void)state;
    static uint8_t support[SUPPORTED];
    static float y[SUPPORTED];
    const cw_shape shape = cw_shape_of(4, (int64_t[]){40, 9, 10, 6});
    float *x = random_map(SUPPORTED, 0, true, 4);
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    packed p = encode_args("ec:step=1", &t, &(cw_encode_args){.support = support});
    decode_supported(&p, &shape, support, 1, y);
    for (size_t i = 0; i < SUPPORTED; i++)
        assert_true(y[i] == 0);
    assert_true(p.size < 200);
    free(p.bytes);
    memset(support, 1, SUPPORTED / 2);
    p = encode_args("ec:bytes=4000", &t, &(cw_encode_args){.support = support});
    assert_true(p.size <= 4000 && p.size > 3500);
    decode_supported(&p, &shape, support, 2, y);
    for (size_t i = 0; i < SUPPORTED; i++)
        assert_true(support[i] || y[i] == 0);
    /* With another one it is an error or another tensor, and sanitizers watch. */
    cw_tensor out = cw_tensor_view(CW_F32, &shape, y);
    for (size_t i = 0; i < SUPPORTED; i++)
        support[i] = i % 3 == 0;
    (void)cw_decode(p.bytes, p.size, &out, &(cw_decode_args){.support = support}, NULL);
    free(p.bytes);
    cwi_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_both_ends_know_to_be_zero_is_not_coded),
        cmocka_unit_test(odd_supports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
