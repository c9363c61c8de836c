/* test_about.c - ec of signed maps and of channels with a background: signs are foretold, tails and offsets come back,
 * and what is damaged is refused. */
#include "codec/codec_ec.h"
#include "codec/payload.h"
#include "codec_test.h"

enum { N = 24, C = 16, H = 14, W = 12, PLANE = H * W, ELEMENTS = N * C * PLANE };

static cw_tensor tensor_of(float *x)
{
    const cw_shape shape = cw_shape_of(4, (int64_t[]){N, C, H, W});
    return cw_tensor_view(CW_F32, &shape, x);
}

static double norm(const float *x)
{
    static const float zeros[ELEMENTS];
    return l2_distance(x, zeros, ELEMENTS);
}

/* The payload's first byte; it decodes to within the error. */
static unsigned check(const char *spec, float *x, double error, size_t *size)
{
    static float y[ELEMENTS];
    const cw_tensor t = tensor_of(x);
    packed p = encode(spec, &t);
    uint8_t *body;
    body_of(&p, &body);
    const unsigned flags = body[0];
    decode_floats(&p, &t, y);
    const double met = l2_distance(x, y, ELEMENTS) / norm(x);
    if (met > 1.01 * error || met < 0.97 * error)
        fail_msg("%s: the error is %g", spec, met);
    *size = p.size;
    free(p.bytes);
    return flags;
}

/* What entropy each sign would take apart: a signed map is not longer than its magnitudes and a raw bit for each that
 * is not 0 would be, but a good deal shorter. */
static void signs_are_foretold(void **state)
{
    (void)state;
    float *x = related_map(N, C, H, W, true), *magnitudes = cwi_alloc(ELEMENTS, sizeof *magnitudes);
    static const double errors[] = {0.3, 0.15};
    for (size_t i = 0; i < ELEMENTS; i++)
        magnitudes[i] = fabsf(x[i]);
    for (size_t i = 0; i < CWI_COUNT(errors); i++) {
        char spec[40];
        size_t size, without;
        snprintf(spec, sizeof spec, "ec:err=%g", errors[i]);
        assert_true(check(spec, x, errors[i], &size) & CWI_EC_ABOUT);
        check(spec, magnitudes, errors[i], &without);
        if ((double)size > (double)without + ELEMENTS / 24.0) /* a third of a bit */
            fail_msg("%s: %zu bytes, %zu without signs", spec, size, without);
    }
    cwi_free(x);
    cwi_free(magnitudes);
}

/* Channels that are mostly at -3, 0.7, ..., some of them, as behind a hard-swish with an offset. */
static float *backgrounds(bool spikes)
{
    float *x = related_map(N, C, H, W, true);
    for (size_t i = 0; i < ELEMENTS; i++) {
        const size_t c = i / PLANE % C;
        const float v = spikes || i % 7 == 0 ? CWI_MAX(x[i] - 0.6f, 0.0f) : 0.05f * x[i];
        x[i] = c % 3 ? v + 0.37f * (float)(c % 5) - 0.9f : v;
    }
    return x;
}

static void channels_have_offsets(void **state)
{
    (void)state;
    for (int spikes = 0; spikes < 2; spikes++) {
        float *x = backgrounds(spikes);
        size_t size, plain;
        assert_true(check("ec:err=0.2", x, 0.2, &size) & CWI_EC_OFFSETS);
        for (size_t i = 0; i < ELEMENTS; i++) /* which has no use for them */
            x[i] -= i / PLANE % C % 3 ? 0.37f * (float)(i / PLANE % C % 5) - 0.9f : 0;
        assert_false(check("ec:err=0.2", x, 0.2, &plain) & CWI_EC_OFFSETS);
        cwi_free(x);
        x = backgrounds(spikes);
        const cw_tensor t = tensor_of(x);
        assert_threads_agree("ec:err=0.2", &t, ELEMENTS);
        assert_bf16_alike("ec:err=0.2", &t, ELEMENTS);
        cwi_free(x);
    }
}

/* Noise, of which every third channel is a quarter as loud as the one before. */
static float *scaled_noise(void)
{
    float *x = random_map(ELEMENTS, 0, true, 3);
    for (size_t i = 0; i < ELEMENTS; i++)
        x[i] *= ldexpf(1, -2 * (int)(i / PLANE % C % 3));
    return x;
}

/* The size with steps of 0.8 of all channels, or with `only` < 3 of the alike alone. */
static size_t size_of_scaled(size_t only)
{
    float *x = scaled_noise(), *part = cwi_alloc(ELEMENTS, sizeof *part);
    int64_t channels = 0;
    size_t n = 0;
    for (size_t c = 0; c < C; c++)
        channels += only == 3 || c % 3 == only;
    for (size_t i = 0; i < ELEMENTS; i += PLANE)
        if (only == 3 || i / PLANE % C % 3 == only) {
            memcpy(part + n, x + i, PLANE * sizeof *x);
            n += PLANE;
        }
    double square = 0;
    for (size_t i = 0; i < n; i++)
        square += (double)part[i] * part[i];
    const cw_shape shape = cw_shape_of(4, (int64_t[]){N, channels, H, W});
    const cw_tensor t = cw_tensor_view(CW_F32, &shape, part);
    char spec[60];
    snprintf(spec, sizeof spec, "ec:step=%.17g", 0.8 / sqrt(square / (double)n));
    packed p = encode(spec, &t);
    free(p.bytes);
    cwi_free(x);
    cwi_free(part);
    return p.size;
}

/* How loud a channel is tells how far off its predictions are: together channels take what they take apart. */
static void scales_are_told_apart(void **state)
{
    (void)state;
    const size_t together = size_of_scaled(3), apart = size_of_scaled(0) + size_of_scaled(1) + size_of_scaled(2);
    if (together > apart + apart / 50)
        fail_msg("%zu bytes together, %zu apart", together, apart);
    float *x = scaled_noise();
    size_t size;
    check("ec:err=0.2", x, 0.2, &size);
    const cw_tensor t = tensor_of(x);
    assert_threads_agree("ec:err=0.2", &t, ELEMENTS);
    assert_bf16_alike("ec:err=0.2", &t, ELEMENTS);
    cwi_free(x);
}

/* Rare elements many times as large, of either sign. */
static void tails_come_back(void **state)
{
    (void)state;
    static float y[ELEMENTS];
    float *x = related_map(N, C, H, W, true);
    for (size_t i = 5; i < ELEMENTS; i += 997)
        x[i] *= i % 2 ? 30 : 3;
    x[1234] = -2000;
    x[4321] = 2500;
    const cw_tensor t = tensor_of(x);
    const double rms = norm(x) / sqrt(ELEMENTS);
    char spec[60];
    snprintf(spec, sizeof spec, "ec:step=%.17g", 0.8 / rms); /* of 1 or so */
    packed p = encode(spec, &t);
    uint8_t *body;
    body_of(&p, &body);
    assert_true(body[0] & CWI_EC_ABOUT);
    decode_floats(&p, &t, y);
    for (size_t i = 0; i < ELEMENTS; i++)
        if (fabsf(y[i] - x[i]) > 0.81f)
            fail_msg("element %zu: %g for %g", i, (double)y[i], (double)x[i]);
    assert_true(y[1234] == x[1234] && y[4321] == x[4321]);
    free(p.bytes);
    cwi_free(x);
}

/* A decoder refuses or gives finite numbers, whatever the bytes before the symbols say. */
static void damaged_parts_are_refused(void **state)
{
    (void)state;
    static float y[ELEMENTS];
    float *x = backgrounds(false);
    const cw_tensor t = tensor_of(x);
    packed p = encode("ec:err=0.2", &t);
    uint8_t *body;
    body_of(&p, &body);
    cw_tensor out = cw_tensor_view(CW_F32, &t.shape, y);
    size_t refused = 0;
    for (size_t at = 0; at < 200; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            body[at] ^= (uint8_t)(1u << bit);
            cwi_payload_seal(p.bytes, p.size);
            if (cw_decode(p.bytes, p.size, &out, NULL, NULL) != CW_OK)
                refused++;
            else
                for (size_t i = 0; i < ELEMENTS; i++)
                    assert_true(isfinite(y[i]));
            body[at] ^= (uint8_t)(1u << bit);
        }
    assert_true(refused > 100);
    free(p.bytes);
    cwi_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(signs_are_foretold), cmocka_unit_test(channels_have_offsets),
                                       cmocka_unit_test(scales_are_told_apart), cmocka_unit_test(tails_come_back),
                                       cmocka_unit_test(damaged_parts_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
