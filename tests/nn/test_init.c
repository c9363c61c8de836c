/* test_init.c - initial weights: halves begin as the whole does, identities let through, whitening whitens. */
#include "nn_fixture.h"

#include <math.h>

typedef struct state {
    cw_named_tensor *items;
    size_t count;
} state;

static state begin(const cw_model *model, size_t first, size_t last, cw_init init, uint64_t seed)
{
    cw_part_options options = {.max_batch = 2, .seed = seed, .init = init, .inference = true};
    cw_part *part;
    cw_error err;
    state s;
    assert_ok_err(cw_part_create(model, first, last, &options, &part, &err), err);
    assert_ok_err(cw_part_state_export(part, &s.items, &s.count, &err), err);
    cw_part_destroy(&part);
    return s;
}

static const cw_tensor *find(const state *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->items[i].name, name) == 0)
            return &s->items[i].tensor;
    fail_msg("no tensor %s", name);
    return NULL;
}

static void assert_same(const cw_tensor *a, const cw_tensor *b)
{
    size_t count;
    assert_true(cw_shape_equal(&a->shape, &b->shape));
    assert_int_equal(a->dtype, b->dtype);
    assert_ok(cw_shape_count(&a->shape, &count));
    assert_memory_equal(a->data, b->data, count * cw_dtype_size(a->dtype));
}

static void finish(state *s)
{
    cw_named_tensors_free(s->items, s->count);
}

static void halves_begin_as_the_whole(void **unused)
{
    (void)unused;
    cw_model *model = fixture_model("resnet20", 3, 32, 32, 10, "relu");
    cw_cut cut;
    assert_ok(cw_model_cut(model, "shallow", &cut, NULL));
    for (int init = CW_INIT_KAIMING; init <= CW_INIT_DIRAC; init++) {
        state whole = begin(model, 0, cw_model_layer_count(model), (cw_init)init, 5);
        state halves[] = {begin(model, 0, cut.layer, (cw_init)init, 5),
                          begin(model, cut.layer, cw_model_layer_count(model), (cw_init)init, 5)};
        assert_int_equal(whole.count, halves[0].count + halves[1].count);
        for (size_t h = 0; h < CWI_COUNT(halves); h++) {
            for (size_t i = 0; i < halves[h].count; i++) {
                const cw_tensor *t = &halves[h].items[i].tensor, *w = find(&whole, halves[h].items[i].name);
                assert_same(t, w);
            }
            finish(&halves[h]);
        }
        finish(&whole);
    }
    cw_model_close(&model);
}

static void identities_let_through_and_the_rest_is_kaimings(void **unused)
{
    (void)unused;
    cw_model *model = fixture_model("cnn", 3, 32, 32, 10, "relu");
    state plain = begin(model, 0, cw_model_layer_count(model), CW_INIT_KAIMING, 5);
    state dirac = begin(model, 0, cw_model_layer_count(model), CW_INIT_DIRAC, 5);
    static const char *const names[] = {"features.3.weight", "features.7.weight"}; /* 16 to 16, 16 to 32 channels */
    for (size_t n = 0; n < CWI_COUNT(names); n++) {
        const cw_tensor *a = find(&plain, names[n]), *b = find(&dirac, names[n]);
        const float *kaiming = a->data, *w = b->data;
        const int64_t outputs = b->shape.dim[0], inputs = b->shape.dim[1];
        for (int64_t o = 0; o < outputs; o++)
            for (int64_t i = 0; i < inputs; i++)
                for (int64_t k = 0; k < 9; k++) {
                    const int64_t at = (o * inputs + i) * 9 + k;
                    const float expected = o >= inputs ? kaiming[at] : i == o && k == 4 ? 1.0f : 0.0f;
                    assert_true(w[at] == expected);
                }
    }
    assert_same(find(&plain, "classifier.weight"), find(&dirac, "classifier.weight"));
    finish(&plain);
    finish(&dirac);
    cw_model_close(&model);
}

/* Of weights i and j of a 3x3 filter on three channels: pixels that correlate by 0.95 with each neighbour, and by 0.9
 * with the next channel, and a little noise. */
static double covariance(int i, int j)
{
    const int channels = abs(i / 9 - j / 9), rows = abs(i / 3 % 3 - j / 3 % 3), columns = abs(i % 3 - j % 3);
    return pow(0.9, channels) * pow(0.95, rows + columns) + (i == j ? 0.01 : 0.0);
}

static double response(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < 27; i++)
        for (int j = 0; j < 27; j++)
            sum += (double)a[i] * b[j] * covariance(i, j);
    return sum;
}

static void the_first_convolution_whitens(void **unused)
{
    (void)unused;
    cw_model *model = fixture_model("resnet18", 3, 32, 32, 10, "relu");
    state dirac = begin(model, 0, 1, CW_INIT_DIRAC, 5), plain = begin(model, 0, 1, CW_INIT_KAIMING, 5);
    const float *w = find(&dirac, "conv1.weight")->data, *kaiming = find(&plain, "conv1.weight")->data;
    for (int o = 0; o < 54; o++) { /* both signs of 27 directions; the other 10 of 64 are Kaiming's */
        assert_true(fabs(response(w + 27 * o, w + 27 * o) - 1) < 1e-4);
        for (int k = 0; k < 27 && o % 2 == 0; k++)
            assert_true(w[27 * o + k] == -w[27 * (o + 1) + k]);
        for (int p = 0; p < o / 2 * 2; p++)
            assert_true(fabs(response(w + 27 * o, w + 27 * p)) < 0.15);
    }
    assert_memory_equal(w + 54 * 27, kaiming + 54 * 27, 10 * 27 * sizeof *w);
    /* What varies most comes first: all weights alike. */
    for (int k = 1; k < 27; k++)
        assert_true(fabs((double)w[k] - w[0]) < 1e-6);
    finish(&plain);
    finish(&dirac);
    cw_model_close(&model);
}

/* Its cost grows with the third power of the channels. */
static void what_has_too_many_channels_to_be_a_photo_is_kaimings(void **unused)
{
    (void)unused;
    static const int channels[] = {64, 65, 2000};
    for (size_t i = 0; i < CWI_COUNT(channels); i++) {
        cw_model *model = fixture_model("cnn", channels[i], 8, 8, 10, "relu");
        const size_t layers = cw_model_layer_count(model);
        state dirac = begin(model, 0, layers, CW_INIT_DIRAC, 5), plain = begin(model, 0, layers, CW_INIT_KAIMING, 5);
        const cw_tensor *w = find(&dirac, "features.0.weight"), *kaiming = find(&plain, "features.0.weight");
        if (channels[i] > 64)
            assert_same(w, kaiming);
        else
            assert_memory_not_equal(w->data, kaiming->data, 9 * sizeof(float));
        finish(&dirac);
        finish(&plain);
        cw_model_close(&model);
    }
}

static void names_are_parsed(void **unused)
{
    (void)unused;
    cw_init init;
    cw_error err;
    for (int i = CW_INIT_KAIMING; i <= CW_INIT_DIRAC; i++) {
        assert_ok_err(cw_init_parse(cw_init_name((cw_init)i), &init, &err), err);
        assert_int_equal(init, i);
    }
    assert_status(cw_init_parse("xavier", &init, &err), CW_ERR_SPEC);
    assert_non_null(strstr(err.message, "kaiming, dirac"));
    assert_status(cw_init_parse(NULL, &init, &err), CW_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_begin_as_the_whole),
        cmocka_unit_test(identities_let_through_and_the_rest_is_kaimings),
        cmocka_unit_test(the_first_convolution_whitens),
        cmocka_unit_test(what_has_too_many_channels_to_be_a_photo_is_kaimings),
        cmocka_unit_test(names_are_parsed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
