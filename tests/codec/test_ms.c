/* test_ms.c - mask-encoded sparsification: the paper's example, and a plain rendering of the definition beside it. */
#include "codec_test.h"

/* ---- Figure 1 of the paper ---- */

static float figure1[16] = {2.2f, 0.8f, 1.2f, 0.4f, 1.8f, 0.2f, 3.1f, 2.0f,
                            2.1f, 0.2f, 1.1f, 1.7f, 0.3f, 2.8f, 1.4f, 0.9f};

static unsigned code_at(const uint8_t *planes, size_t i)
{
    return (planes[i / 8] >> (i % 8) & 1) | (planes[2 + i / 8] >> (i % 8) & 1) << 1;
}

static void figure1_has_the_printed_codes(void **state)
{
    (void)state;
    static const unsigned printed[16] = {3, 1, 1, 0, 2, 0, 3, 2, 3, 0, 1, 2, 0, 3, 2, 1};
    static const float values[4] = {2.2f, 3.1f, 2.1f, 2.8f};
    cw_shape shape = cw_shape_of(2, (int64_t[]){4, 4});
    cw_tensor x = cw_tensor_view(CW_F32, &shape, figure1);
    packed p = encode("ms:r=0.75,b=2,round=floor", &x);
    uint8_t *body;
    size_t size = body_of(&p, &body);
    assert_int_equal(size, 8 + 4 + 20); /* kept count and flags, Top_min, then the paper's 20 bytes */
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(code_at(body + 12, i), printed[i]);
    assert_memory_equal(body + 16, values, sizeof values);
    free(p.bytes);
}

static double error_of(const char *spec)
{
    float y[16];
    cw_tensor x = tensor_1d(figure1, 16);
    packed p = encode(spec, &x);
    decode_floats(&p, &x, y);
    free(p.bytes);
    return l2_distance(figure1, y, 16);
}

static void figure1_has_the_papers_errors(void **state)
{
    (void)state;
    assert_true(fabs(error_of("ms:r=0.75,b=2,round=floor") - 1.183) < 5e-4);
    assert_true(fabs(error_of("ms:r=0.75,b=2,round=nearest") - 1.0247) < 5e-5);
    assert_true(fabs(error_of("ms:r=0.75,b=1") - 4.064) < 5e-4); /* one bit: top-4 alone */
}

/* ---- the definition, plainly ---- */

static int by_magnitude(const void *a, const void *b)
{
    float x = fabsf(**(const float *const *)a), y = fabsf(**(const float *const *)b);
    if (x != y)
        return x < y ? 1 : -1;
    return *(const float *const *)a < *(const float *const *)b ? -1 : 1; /* ties: the first ones */
}

/* What ms with fp32 values and edges must decode to, within `slack` codes' distance of a bin edge. */
static void check_segment(const float *x, const float *y, size_t n, size_t k, unsigned bits, bool nearest)
{
    const float **order = cwi_alloc(n, sizeof *order);
    const unsigned ones = (1u << bits) - 1;
    for (size_t i = 0; i < n; i++)
        order[i] = &x[i];
    qsort(order, n, sizeof *order, by_magnitude);
    for (size_t i = 0; i < k; i++)
        assert_memory_equal(&y[order[i] - x], order[i], 4);
    const double limit = k ? (double)fabsf(*order[k - 1]) : (double)fabsf(*order[0]), steps = k ? ones : ones - 1;
    const double step = steps > 0 ? limit / steps : 0;
    for (size_t i = k; i < n; i++) {
        double a = fabs((double)*order[i]), exact = step > 0 ? a / step : 0;
        double code = fmin(nearest ? floor(exact + 0.5) : floor(exact), ones - 1);
        double got = fabs((double)y[order[i] - x]), slack = 1e-5 * limit + 1e-44;
        bool near_edge = fabs(exact + (nearest ? 0.5 : 0) - nearbyint(exact + (nearest ? 0.5 : 0))) < 1e-4;
        if (fabs(got - code * step) > slack && !(near_edge && fabs(got - code * step) < step * 1.0001))
            fail_msg("element %zu: %g decodes to %g, not %g", (size_t)(order[i] - x), (double)*order[i], got,
                     code * step);
        assert_true(got == 0 || signbit(y[order[i] - x]) == signbit(*order[i]));
    }
    cwi_free(order);
}

/* Takes x. */
static void check_map(float *x, size_t n, double r, unsigned bits, bool nearest)
{
    char spec[64];
    snprintf(spec, sizeof spec, "ms:r=%.17g,b=%u,round=%s", r, bits, nearest ? "nearest" : "floor");
    cw_tensor t = tensor_1d(x, n);
    float *y = cwi_alloc(n, sizeof *y);
    packed p = encode(spec, &t);
    decode_floats(&p, &t, y);
    check_segment(x, y, n, (size_t)floor((1 - r) * (double)n + 1e-9), bits, nearest);
    free(p.bytes);
    cwi_free(x);
    cwi_free(y);
}

static void every_width_follows_the_definition(void **state)
{
    (void)state;
    static const double rs[] = {0, 0.5, 0.9, 0.99};
    static const size_t sizes[] = {1, 2, 15, 64, 100, 129, 1000, 70000};
    for (unsigned bits = 1; bits <= 8; bits++)
        for (size_t s = 0; s < CWI_COUNT(sizes); s++)
            for (size_t i = 0; i < CWI_COUNT(rs); i++) {
                check_map(random_map(sizes[s], 0.5, false, bits), sizes[s], rs[i], bits, i & 1);
                check_map(random_map(sizes[s], 0.0, true, bits), sizes[s], rs[i], bits, !(i & 1));
            }
}

static float *constant_map(size_t n, float v)
{
    float *x = cwi_alloc(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = v;
    return x;
}

static void odd_maps_round_trip(void **state)
{
    (void)state;
    static const float values[] = {0.0f, -0.0f, 1.0f, -1.0f, 1e-45f, -3e-44f, 1e-38f, 3.4e38f, -3.4e38f, 1e-30f};
    for (size_t v = 0; v < CWI_COUNT(values); v++) {
        for (size_t n = 1; n <= 1000; n = n * 3 + 1) {
            for (unsigned bits = 1; bits <= 8; bits += 1) {
                check_map(constant_map(n, values[v]), n, 0.9, bits, true);
                float *spike = constant_map(n, 0.0f);
                spike[n / 2] = values[v]; /* fewer than k positive */
                check_map(spike, n, 0.5, bits, false);
                float *scaled = random_map(n, 0.3, v & 1, n);
                for (size_t i = 0; i < n; i++)
                    scaled[i] *= values[v] / 8;
                check_map(scaled, n, 0.9, bits, v & 1);
            }
        }
    }
}

static void an_empty_tensor_round_trips(void **state)
{
    (void)state;
    cw_shape shapes[] = {cw_shape_of(1, (int64_t[]){0}), cw_shape_of(3, (int64_t[]){5, 0, 7})};
    for (size_t i = 0; i < CWI_COUNT(shapes); i++) {
        cw_tensor x = cw_tensor_view(CW_F32, &shapes[i], NULL);
        packed p = encode(i ? "ms:scope=sample" : "ms", &x);
        decode_into(&p, &x);
        free(p.bytes);
    }
}

static void a_scalar_round_trips(void **state)
{
    (void)state;
    float x = 3.5f, y = 0;
    cw_shape shape = {.ndim = 0};
    cw_tensor t = cw_tensor_view(CW_F32, &shape, &x), u = cw_tensor_view(CW_F32, &shape, &y);
    packed p = encode("ms:scope=sample", &t); /* k = 0: the largest code stands for the largest value */
    decode_into(&p, &u);
    assert_true(y == 3.5f);
    free(p.bytes);
}

/* Exactly k are kept, whatever ties there are: the payload is as long as k says. */
static void ties_do_not_change_the_size(void **state)
{
    (void)state;
    const size_t n = 100000, k = 1000;
    float *x = constant_map(n, 1.0f);
    cw_tensor t = tensor_1d(x, n);
    packed p = encode("ms", &t);
    uint8_t *body;
    assert_int_equal(body_of(&p, &body), 12 + (n / 64) * 16 + 2 * 4 + 4 * k);
    const uint8_t *planes = body + 12;
    for (size_t i = 0; i < n / 64; i++) { /* the first k elements are the kept ones, the others one code below */
        uint64_t low = cwi_get_le(planes + 16 * i, 8), high = cwi_get_le(planes + 16 * i + 8, 8);
        assert_true(high == UINT64_MAX);
        uint64_t kept = 64 * (i + 1) <= k ? UINT64_MAX : 64 * i >= k ? 0 : (UINT64_C(1) << (k - 64 * i)) - 1;
        assert_true(low == kept);
    }
    free(p.bytes);
    cwi_free(x);
}

static void the_rate_is_the_papers(void **state)
{
    (void)state;
    const size_t n = 64 * 64 * 16 * 16;
    cw_shape shape = cw_shape_of(4, (int64_t[]){64, 64, 16, 16});
    float *x = random_map(n, 0.5, false, 9);
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    packed p = encode("ms:r=0.99,b=2", &t);
    double bits = 8.0 * (double)p.size / (double)n;
    assert_true(bits < 2.321 && bits > 2.32);
    free(p.bytes);
    cwi_free(x);
}

/* ---- options ---- */

static double error_on_map(const char *spec, const cw_tensor *x, size_t n)
{
    float *y = cwi_alloc(n, sizeof *y);
    packed p = encode(spec, x);
    decode_floats(&p, x, y);
    double e = l2_distance(x->data, y, n);
    free(p.bytes);
    cwi_free(y);
    return e;
}

static void centroids_have_the_least_error(void **state)
{
    (void)state;
    const size_t n = 50000;
    for (int negatives = 0; negatives < 2; negatives++) {
        float *x = random_map(n, 0.5, negatives, 4);
        cw_tensor t = tensor_1d(x, n);
        for (unsigned bits = 1; bits <= 8; bits++) {
            for (int nearest = 0; nearest < 2; nearest++) {
                char edge[64], centroid[96];
                snprintf(edge, sizeof edge, "ms:b=%u,round=%s", bits, nearest ? "nearest" : "floor");
                snprintf(centroid, sizeof centroid, "%s,recon=centroid", edge);
                assert_true(error_on_map(centroid, &t, n) <= error_on_map(edge, &t, n) * 1.0000001);
            }
        }
        cwi_free(x);
    }
}

static void centroids_are_the_means(void **state)
{
    (void)state;
    /* codes at b=2, floor, k=1, t=3: [0,1) [1,2) [2,3]; the tie at 3 that is not kept has code 2 */
    float x[] = {0.25f, 3.0f, 0.5f, 1.25f, 1.5f, 2.5f, 3.0f, 0.75f, 0.0f}, y[9];
    cw_tensor t = tensor_1d(x, 9);
    packed p = encode("ms:r=0.88,round=floor,recon=centroid", &t);
    decode_floats(&p, &t, y);
    static const float wanted[] = {0.375f, 3.0f, 0.375f, 1.375f, 1.375f, 2.75f, 2.75f, 0.375f, 0.375f};
    for (size_t i = 0; i < 9; i++)
        assert_true(fabsf(y[i] - wanted[i]) < 1e-4f);
    free(p.bytes);
}

static void short_values_are_rounded_floats(void **state)
{
    (void)state;
    const size_t n = 20000, k = 2000;
    float *x = random_map(n, 0.5, true, 5), *full = cwi_alloc(n, 4), *half = cwi_alloc(n, 4);
    cw_tensor t = tensor_1d(x, n);
    packed a = encode("ms:r=0.9", &t), b = encode("ms:r=0.9,values=bf16", &t), c = encode("ms:r=0.9,values=fp16", &t);
    assert_int_equal(a.size - b.size, 2 * k);
    assert_int_equal(a.size - c.size, 2 * k);
    decode_floats(&a, &t, full);
    decode_floats(&b, &t, half);
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(full[i] - half[i]) <= fabsf(full[i]) * 0x1p-8f);
    decode_floats(&c, &t, half);
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(full[i] - half[i]) <= fabsf(full[i]) * 0x1p-11f);
    free(a.bytes);
    free(b.bytes);
    free(c.bytes);
    cwi_free(x);
    cwi_free(full);
    cwi_free(half);
}

/* scope=sample is the same as encoding each sample alone, but for the sign plane, which all have or none. */
static void samples_are_coded_apart(void **state)
{
    (void)state;
    enum { SAMPLES = 5, LENGTH = 700 };
    cw_shape shape = cw_shape_of(3, (int64_t[]){SAMPLES, 7, 100});
    float *x = random_map(SAMPLES * LENGTH, 0.5, false, 6), all[SAMPLES * LENGTH], one[LENGTH];
    for (size_t i = 0; i < SAMPLES * LENGTH; i++)
        x[i] *= ldexpf(1, (int)(i / LENGTH) * 8); /* a threshold for all would fail the small samples */
    cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    static const char *const specs[] = {"ms:r=0.9,scope=sample", "ms:r=0.9,scope=sample,recon=centroid,values=fp16"};
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        packed p = encode(specs[i], &t);
        decode_floats(&p, &t, all);
        for (size_t s = 0; s < SAMPLES; s++) {
            cw_tensor sample = tensor_1d(x + s * LENGTH, LENGTH);
            cw_shape first = cw_shape_of(2, (int64_t[]){1, LENGTH});
            sample.shape = first;
            packed q = encode(specs[i], &sample);
            decode_floats(&q, &sample, one);
            assert_memory_equal(one, all + s * LENGTH, sizeof one);
            free(q.bytes);
        }
        free(p.bytes);
    }
    cwi_free(x);
}

static void threads_do_not_change_a_byte(void **state)
{
    (void)state;
    static const char *const specs[] = {"ms:r=0.99", "ms:r=0.9,b=3,values=bf16,recon=centroid", "ms:scope=sample,b=1",
                                        "ms:r=0.97,round=floor,scope=sample,values=fp16"};
    const size_t n = 6 * 50021;
    cw_shape shape = cw_shape_of(2, (int64_t[]){6, 50021});
    for (int kind = 0; kind < 3; kind++) {
        float *x = kind < 2 ? random_map(n, 0.5, kind, 7) : constant_map(n, 0.5f), *y = cwi_alloc(n, 4);
        float *z = cwi_alloc(n, 4);
        cw_tensor t = cw_tensor_view(CW_F32, &shape, x), out = cw_tensor_view(CW_F32, &shape, z);
        for (size_t i = 0; i < CWI_COUNT(specs); i++) {
            packed a = encode(specs[i], &t);
            decode_floats(&a, &t, y);
            for (int threads = 2; threads <= 5; threads += 3) {
                packed b = encode_args(specs[i], &t, &(cw_encode_args){.threads = threads});
                assert_int_equal(a.size, b.size);
                assert_memory_equal(a.bytes, b.bytes, a.size);
                cw_error err;
                assert_ok_err(cw_decode(b.bytes, b.size, &out, &(cw_decode_args){.threads = threads}, &err), err);
                assert_memory_equal(y, z, n * 4);
                free(b.bytes);
            }
            free(a.bytes);
        }
        cwi_free(x);
        cwi_free(y);
        cwi_free(z);
    }
}

static void bf16_tensors_are_read_directly(void **state)
{
    (void)state;
    const size_t n = 10001;
    float *x = random_map(n, 0.5, true, 8);
    cw_tensor t = tensor_1d(x, n);
    assert_bf16_alike("ms:r=0.9,b=3", &t, n);
    cwi_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figure1_has_the_printed_codes),      cmocka_unit_test(figure1_has_the_papers_errors),
        cmocka_unit_test(every_width_follows_the_definition), cmocka_unit_test(odd_maps_round_trip),
        cmocka_unit_test(an_empty_tensor_round_trips),        cmocka_unit_test(a_scalar_round_trips),
        cmocka_unit_test(ties_do_not_change_the_size),        cmocka_unit_test(the_rate_is_the_papers),
        cmocka_unit_test(centroids_have_the_least_error),     cmocka_unit_test(centroids_are_the_means),
        cmocka_unit_test(short_values_are_rounded_floats),    cmocka_unit_test(samples_are_coded_apart),
        cmocka_unit_test(threads_do_not_change_a_byte),       cmocka_unit_test(bf16_tensors_are_read_directly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
