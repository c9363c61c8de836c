/* test_profile.c - profiles: what was learned of earlier tensors makes single ones short, and nothing else decodes
 * them; hostile ones are refused or harmless. */
#include "codec_test.h"

enum { N = 24, LEARNED = 16, C = 12, H = 10, W = 12, PLACES = H * W, SAMPLE = C * PLACES };

static const char spec[] = "ec:err=0.2";

static cw_tensor samples_of(float *x, size_t first, size_t n)
{
    const cw_shape shape = cw_shape_of(4, (int64_t[]){(int64_t)n, C, H, W});
    return cw_tensor_view(CW_F32, &shape, x + first * SAMPLE);
}

static void assert_learning_fails(const char *of, const cw_tensor *const *t, size_t count, cw_status status,
                                  const char *why)
{
    cw_error err;
    cw_profile *profile = (cw_profile *)(void *)&err;
    cw_codec *codec = codec_of(of);
    assert_int_equal(cw_profile_train(codec, t, count, &profile, &err), status);
    assert_null(profile);
    if (!strstr(err.message, why))
        fail_msg("\"%s\" does not say \"%s\"", err.message, why);
    cw_codec_destroy(&codec);
}

static uint64_t hash_in(const packed *p)
{
    cw_payload_info info;
    assert_ok(cw_payload_inspect(p->bytes, p->size, &info, NULL));
    return info.profile;
}

/* Behind a ReLU, signed, and with backgrounds; samples that it was not learned from, alone and together. */
static void single_samples_are_shorter(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        float *x = related_map(N, C, H, W, kind > 0);
        for (size_t i = 0; kind == 2 && i < N * SAMPLE; i++)
            x[i] += 13.7f * (float)(i / PLACES % C % 4);
        const cw_tensor earlier = samples_of(x, 0, LEARNED);
        cw_profile *profile = learn(kind == 2 ? "ec:err=0.02" : spec, &earlier);
        for (size_t n = 1; n <= N - LEARNED; n += 7) {
            const cw_tensor later = samples_of(x, LEARNED, n);
            const char *asked = kind == 2 ? "ec:err=0.02" : spec;
            packed with = encode_args(asked, &later, &(cw_encode_args){.profile = profile}),
                   without = encode(asked, &later);
            if (hash_in(&without) != 0 || hash_in(&with) != cw_profile_hash(profile))
                fail_msg("kind %d: %zu samples are coded without the profile: %zu, %zu bytes", kind, n, with.size,
                         without.size);
            if (20 * with.size > 19 * without.size)
                fail_msg("kind %d: %zu samples take %zu bytes with a profile, %zu without", kind, n, with.size,
                         without.size);
            const double wanted = kind == 2 ? 0.02 : 0.2;
            assert_true(relative_error(&with, profile, &later, 1) < 1.03 * wanted);
            assert_true(relative_error(&with, profile, &later, 3) > 0.9 * wanted);
            free(with.bytes);
            free(without.bytes);
        }
        cw_profile_destroy(&profile);
        cwi_free(x);
    }
}

/* The bytes make the same profile again; what fits none of it is coded without. */
static void bytes_make_the_profile(void **state)
{
    (void)state;
    float *x = related_map(N, C, H, W, true);
    const cw_tensor earlier = samples_of(x, 0, LEARNED), later = samples_of(x, LEARNED, 1);
    cw_profile *one = learn(spec, &earlier), *two;
    size_t size;
    const void *bytes = cw_profile_bytes(one, &size);
    assert_ok(cw_profile_create(bytes, size, &two, NULL));
    assert_true(cw_profile_hash(one) == cw_profile_hash(two));
    packed p = encode_args(spec, &later, &(cw_encode_args){.profile = one});
    relative_error(&p, two, &later, 1);
    free(p.bytes);
    for (size_t i = 0; i < SAMPLE; i++)
        x[LEARNED * SAMPLE + i] = i % 7 ? 0 : (float)i; /* unlike any */
    p = encode_args(spec, &later, &(cw_encode_args){.profile = one});
    packed plain = encode(spec, &later);
    assert_true(p.size <= plain.size + 16);
    relative_error(&p, two, &later, 1);
    free(p.bytes);
    p = encode_args("ec:bytes=400", &later, &(cw_encode_args){.profile = one});
    assert_true(p.size <= 400);
    relative_error(&p, two, &later, 1);
    free(p.bytes);
    free(plain.bytes);
    cw_profile_destroy(&one);
    cw_profile_destroy(&two);
    cw_profile_destroy(&two);
    cw_profile_destroy(NULL);
    cwi_free(x);
}

/* Channels in reverse, and many of them empty, so that they are easy: weights that were learned serve little. */
static void samples_of_another_kind_are_coded_alone(void **state)
{
    (void)state;
    static const char finer[] = "ec:err=0.1";
    float *x = related_map(N, C, H, W, true), *y = cwi_alloc(N * SAMPLE, sizeof *y);
    for (size_t i = 0; i < (size_t)N * C; i++) {
        const size_t channel = i % C;
        for (size_t j = 0; j < PLACES; j++)
            y[i * PLACES + j] = channel % 3 ? x[(i - channel + C - 1 - channel) * PLACES + j] : 0;
    }
    const cw_tensor earlier = samples_of(x, 0, N), later = samples_of(y, 0, N);
    cw_profile *profile = learn(finer, &earlier);
    packed with = encode_args(finer, &later, &(cw_encode_args){.profile = profile}), without = encode(finer, &later);
    assert_true(without.size > 4096);
    assert_true(with.size <= without.size);
    relative_error(&with, profile, &later, 1);
    free(with.bytes);
    free(without.bytes);
    cw_profile_destroy(&profile);
    cwi_free(x);
    cwi_free(y);
}

static void assert_mismatch(const packed *p, const cw_tensor *t, const cw_profile *given, uint64_t named)
{
    static float y[N * SAMPLE];
    cw_tensor out = cw_tensor_view(CW_F32, &t->shape, y);
    cw_error err;
    char hash[20];
    assert_int_equal(cw_decode(p->bytes, p->size, &out, &(cw_decode_args){.profile = given}, &err), CW_ERR_MISMATCH);
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)named);
    assert_non_null(strstr(err.message, hash));
    if (given) {
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)cw_profile_hash(given));
        assert_non_null(strstr(err.message, hash));
    }
}

static void other_profiles_are_refused(void **state)
{
    (void)state;
    float *x = related_map(N, C, H, W, true);
    const cw_tensor earlier = samples_of(x, 0, LEARNED), later = samples_of(x, LEARNED, 1);
    cw_profile *right = learn(spec, &earlier), *wrong = learn("ec:err=0.1", &earlier);
    packed p = encode_args(spec, &later, &(cw_encode_args){.profile = right});
    assert_mismatch(&p, &later, NULL, cw_profile_hash(right));
    assert_mismatch(&p, &later, wrong, cw_profile_hash(right));
    uint8_t buf[64 * SAMPLE];
    size_t size;
    cw_error err;
    cw_codec *codec = codec_of(spec), *noisy = codec_of("ec:step=1,round=stochastic");
    const cw_shape shape = cw_shape_of(4, (int64_t[]){1, C, W, H});
    const cw_tensor turned = cw_tensor_view(CW_F32, &shape, x);
    const cw_encode_args args = {.profile = right};
    assert_int_equal(cw_encode(codec, &turned, &args, buf, sizeof buf, &size, &err), CW_ERR_MISMATCH);
    assert_int_equal(cw_encode(noisy, &later, &args, buf, sizeof buf, &size, &err), CW_ERR_INVALID);
    cw_codec_destroy(&codec);
    cw_codec_destroy(&noisy);
    free(p.bytes);
    cw_profile_destroy(&right);
    cw_profile_destroy(&wrong);
    cwi_free(x);
}

static void what_cannot_be_learned_is_said(void **state)
{
    (void)state;
    float *x = related_map(N, C, H, W, true);
    const cw_tensor t = samples_of(x, 0, 2), *one = &t;
    const cw_shape other = cw_shape_of(4, (int64_t[]){1, H, C, W}), flat = cw_shape_of(1, (int64_t[]){SAMPLE});
    const cw_tensor turned = cw_tensor_view(CW_F32, &other, x), line = cw_tensor_view(CW_F32, &flat, x);
    const cw_tensor none = samples_of(x, 0, 0), *nothing = &none, *lines = &line;
    assert_learning_fails("ms", &one, 1, CW_ERR_INVALID, "codec ec");
    assert_learning_fails("ec:bpe=1", &one, 1, CW_ERR_INVALID, "err or step");
    assert_learning_fails("ec:step=1,round=stochastic", &one, 1, CW_ERR_INVALID, "round=nearest");
    assert_learning_fails("ec:layout=nlc", &one, 1, CW_ERR_INVALID, "layout");
    assert_learning_fails("ec", (const cw_tensor *[]){&t, &turned}, 2, CW_ERR_INVALID, "tensor 1");
    assert_learning_fails("ec", &lines, 1, CW_ERR_INVALID, "dimensions");
    assert_learning_fails("ec", &nothing, 1, CW_ERR_INVALID, "learned from");
    assert_learning_fails("ec", &one, 0, CW_ERR_INVALID, "NULL");
    x[SAMPLE + 5] = INFINITY;
    assert_learning_fails("ec", &one, 1, CW_ERR_NONFINITE, "");
    cwi_free(x);
}

/* Few samples, no more than one, constant ones, all 0: they make profiles that work. */
static void odd_tensors_make_profiles(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        float *x = related_map(3, C, H, W, kind != 1);
        for (size_t i = 0; kind > 1 && i < 3 * SAMPLE; i++)
            x[i] = kind == 2 ? 7 : 0;
        const cw_tensor t = samples_of(x, 0, kind == 0 ? 1 : 2), next = samples_of(x, 2, 1);
        cw_profile *profile = learn(spec, &t);
        packed p = encode_args(spec, &next, &(cw_encode_args){.profile = profile});
        if (kind < 3)
            assert_true(relative_error(&p, profile, &next, 1) < 0.21);
        free(p.bytes);
        cw_profile_destroy(&profile);
        cwi_free(x);
    }
}

static void damaged_profiles_are_refused(void **state)
{
    (void)state;
    float *x = related_map(LEARNED, C, H, W, true);
    const cw_tensor t = samples_of(x, 0, LEARNED);
    cw_profile *profile = learn(spec, &t), *other;
    size_t size;
    const uint8_t *bytes = cw_profile_bytes(profile, &size);
    for (size_t i = 0; i < size; i++) {
        uint8_t *copy = malloc(size); /* as long as it is said to be: an over-read is seen */
        memcpy(copy, bytes, size);
        copy[i] ^= (uint8_t)(1u << i % 8);
        assert_int_not_equal(cw_profile_create(copy, size, &other, NULL), CW_OK);
        assert_null(other);
        copy = realloc(copy, i + 1);
        memcpy(copy, bytes, i);
        assert_int_not_equal(cw_profile_create(copy, i, &other, NULL), CW_OK);
        free(copy);
    }
    assert_int_equal(cw_profile_create(NULL, 3, &other, NULL), CW_ERR_INVALID);
    assert_int_equal(cw_profile_create(bytes, size, NULL, NULL), CW_ERR_INVALID);
    cw_profile_destroy(&profile);
    cwi_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_samples_are_shorter),
        cmocka_unit_test(bytes_make_the_profile),
        cmocka_unit_test(samples_of_another_kind_are_coded_alone),
        cmocka_unit_test(other_profiles_are_refused),
        cmocka_unit_test(what_cannot_be_learned_is_said),
        cmocka_unit_test(odd_tensors_make_profiles),
        cmocka_unit_test(damaged_profiles_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
