/* test_mixed.c - through the public API: every set of kernels makes the same payload, and each decodes it alike,
 * whoever made it. */
#include <string.h>

#include "codec/kernels/kernels.h"
#include "codec_test.h"

static const cwi_cpu cpus[] = {CWI_CPU_SCALAR, CWI_CPU_AVX2, CWI_CPU_AVX512, CWI_CPU_NEON};

static int restore(void **state)
{
    (void)state;
    assert_true(cwi_kernels_force(cwi_cpu_selected()));
    return 0;
}

static int report_missing(void **state)
{
    (void)state;
    for (size_t i = 0; i < CWI_COUNT(cpus); i++)
        if (!cwi_cpu_has(cpus[i]))
            printf("SKIP: %s: this machine or build has no such kernels\n", cwi_cpu_name(cpus[i]));
    return 0;
}

static void decode_everywhere(const packed *p, const cw_tensor *shape, const char *spec)
{
    size_t n;
    assert_ok(cw_shape_count(&shape->shape, &n));
    float *first = NULL;
    for (size_t i = 0; i < CWI_COUNT(cpus); i++) {
        if (!cwi_kernels_force(cpus[i]))
            continue;
        cw_tensor out = *shape;
        cw_error err;
        out.data = cwi_alloc(n, sizeof(float));
        assert_ok_err(cw_decode(p->bytes, p->size, &out, NULL, &err), err);
        if (!first)
            first = out.data;
        else if (memcmp(first, out.data, n * sizeof(float)) != 0)
            fail_msg("%s: %s decodes other values than scalar, %zu elements", spec, cwi_cpu_name(cpus[i]), n);
        if (out.data != first)
            cwi_free(out.data);
    }
    cwi_free(first);
}

static void check_shape(const char *spec, float *x, const cw_shape *shape)
{
    const cw_tensor in = cw_tensor_view(CW_F32, shape, x);
    size_t n;
    assert_ok(cw_shape_count(shape, &n));
    const cw_encode_args args = {.seed = 7};
    packed first = {NULL, 0};
    for (size_t i = 0; i < CWI_COUNT(cpus); i++) {
        if (!cwi_kernels_force(cpus[i]))
            continue;
        packed p = encode_args(spec, &in, &args);
        if (!first.bytes) {
            first = p;
            continue;
        }
        if (p.size != first.size || memcmp(p.bytes, first.bytes, p.size) != 0)
            fail_msg("%s: %s makes another payload than scalar, %zu elements", spec, cwi_cpu_name(cpus[i]), n);
        free(p.bytes);
    }
    decode_everywhere(&first, &in, spec);
    free(first.bytes);
}

/* x as 2 samples. */
static void check(const char *spec, float *x, size_t n)
{
    const cw_shape shape = cw_shape_of(2, (int64_t[]){2, (int64_t)n / 2});
    check_shape(spec, x, &shape);
}

static void check_sizes(const char *spec)
{
    static const size_t sizes[] = {2, 62, 64, 130, 1000, 4098, 2 * 65536 + 78, 300002};
    enum { SEVERAL_KINDS = 200000 }; /* of values are tried up to this size */
    for (size_t i = 0; i < CWI_COUNT(sizes); i++) {
        const size_t n = sizes[i];
        float *x = random_map(n, 0.5, false, i);
        check(spec, x, n);
        if (n > SEVERAL_KINDS) {
            cwi_free(x);
            continue;
        }
        for (size_t j = 0; j < n; j++) /* quantized: ties everywhere */
            x[j] = (float)(int)(x[j] * 4);
        check(spec, x, n);
        for (size_t j = 0; j < n; j++)
            x[j] = (x[j] - 1.5f) * 1e-40f; /* denormal, of both signs */
        check(spec, x, n);
        for (size_t j = 0; j < n; j++)
            x[j] = 0.1f;
        check(spec, x, n);
        cwi_free(x);
    }
}

static void test_ms(void **state)
{
    (void)state;
    static const char *const specs[] = {"ms:r=0.99,b=2",
                                        "ms:r=0.9,b=1,round=floor",
                                        "ms:r=0.5,b=3,scope=sample",
                                        "ms:r=0.99,b=5,recon=centroid",
                                        "ms:r=0.95,b=2,values=bf16",
                                        "ms:r=0.95,b=8,values=fp16"};
    for (size_t i = 0; i < CWI_COUNT(specs); i++)
        check_sizes(specs[i]);
}

static void test_half(void **state)
{
    (void)state;
    check_sizes("fp16");
    check_sizes("bf16");
}

static void test_others(void **state)
{
    (void)state;
    static const char *const specs[] = {"sp:r=0.95875", "sp:r=0.5,scope=sample",   "sp:r=0.99,values=bf16", "rt:r=0.95",
                                        "qu:b=3",       "qu:b=8,round=stochastic", "qu:b=1,scope=sample"};
    for (size_t i = 0; i < CWI_COUNT(specs); i++)
        check_sizes(specs[i]);
}

/* Samples by which lanes are shared out differently, full groups and not, and channels that refer to others. */
static void check_planes(const char *spec)
{
    static const int64_t shapes[][4] = {{1, 40, 5, 5},  {3, 7, 9, 2},   {16, 12, 6, 6}, {20, 140, 4, 4},
                                        {32, 9, 3, 17}, {70, 13, 8, 8}, {33, 5, 1, 1},  {300, 6, 2, 2}};
    for (size_t i = 0; i < CWI_COUNT(shapes); i++) {
        const int64_t *d = shapes[i];
        const cw_shape shape = cw_shape_of(4, d);
        float *x = related_map((size_t)d[0], (size_t)d[1], (size_t)d[2], (size_t)d[3], i % 2);
        check_shape(spec, x, &shape);
        cwi_free(x);
    }
}

static void test_coded(void **state)
{
    (void)state;
    static const char *const specs[] = {"ms:r=0.99,b=2,entropy=ctx",
                                        "ms:r=0.9,b=4,entropy=ctx,values=bf16",
                                        "ec:err=0.25",
                                        "ec:err=0.05,scope=sample",
                                        "ec:bpe=1",
                                        "ec:step=0.5,round=stochastic"};
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        check_sizes(specs[i]);
        check_planes(specs[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_ms, restore),
        cmocka_unit_test_teardown(test_half, restore),
        cmocka_unit_test_teardown(test_others, restore),
        cmocka_unit_test_teardown(test_coded, restore),
    };
    return cmocka_run_group_tests(tests, report_missing, NULL);
}
