/* test_builder.c - networks of one's own: they equal the built-in ones of the same layers to the bit, their halves
 * equal the whole, and whatever does not fit is refused with a sentence. */
#include "nn_split.h"
#include "out_of_memory.h"

#include "cutwire/model.h"

enum { CLASSES = 10, N = 4 };

static cw_model_options images(int64_t channels, int64_t side)
{
    return (cw_model_options){.sample = {.ndim = 3, .dim = {channels, side, side}}, .classes = CLASSES};
}

static cw_model_builder *begin(const char *name, const cw_model_options *options)
{
    cw_error err;
    cw_model_builder *b;
    assert_ok_err(cw_model_builder_create(name, options, &b, &err), err);
    return b;
}

static cw_model *finish(cw_model_builder *b)
{
    cw_error err;
    cw_model *model;
    assert_ok_err(cw_model_build(&b, &model, &err), err);
    assert_null(b);
    return model;
}

/* ---- a built-in model, built by hand ---- */

static void convolution(cw_model_builder *b, const char *block, const char *conv, const char *norm, int channels,
                        int kernel, int stride)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", block, conv);
    cw_build_conv(b, name, channels, kernel, stride, kernel / 2, false);
    snprintf(name, sizeof name, "%s%s", block, norm);
    cw_build_batchnorm(b, name);
}

static void residual(cw_model_builder *b, const char *block, int channels, int stride)
{
    char name[64];
    const int input = cw_build_last(b);
    int skip = input;
    convolution(b, block, "conv1", "bn1", channels, 3, stride);
    snprintf(name, sizeof name, "%srelu1", block);
    cw_build_activation(b, name, "relu");
    convolution(b, block, "conv2", "bn2", channels, 3, 1);
    const int path = cw_build_last(b);
    if (stride > 1) {
        cw_build_from(b, input);
        convolution(b, block, "downsample.0", "downsample.1", channels, 1, stride);
        skip = cw_build_last(b);
        cw_build_from(b, path);
    }
    snprintf(name, sizeof name, "%sadd", block);
    cw_build_add(b, name, skip);
    snprintf(name, sizeof name, "%srelu2", block);
    cw_build_activation(b, name, NULL);
}

/* The layers and cuts of resnet20 (He et al. 2015) for CIFAR-10, from their description. */
static cw_model *own_resnet20(int64_t side)
{
    const cw_model_options options = images(3, side);
    cw_model_builder *b = begin("my_resnet-20", &options);
    convolution(b, "", "conv1", "bn1", 16, 3, 1);
    cw_build_activation(b, "relu", NULL);
    cw_build_cut(b, 1, NULL);
    for (int stage = 0; stage < 3; stage++) {
        for (int block = 0; block < 3; block++) {
            const int number = 1 + 2 * (3 * stage + block + 1);
            char name[32];
            snprintf(name, sizeof name, "layer%d.%d.", stage + 1, block);
            residual(b, name, 16 << stage, stage > 0 && block == 0 ? 2 : 1);
            if (number == 3)
                cw_build_cut(b, 2, "shallow");
            cw_build_cut(b, number, number == 11 ? "medium" : number == 13 ? "deep" : NULL);
        }
    }
    cw_build_avgpool(b, "avgpool");
    cw_build_flatten(b, "flatten");
    cw_build_classifier(b, "fc");
    return finish(b);
}

static void assert_same_layers(const cw_model *a, const cw_model *b)
{
    assert_int_equal(cw_model_layer_count(a), cw_model_layer_count(b));
    for (size_t i = 0; i < cw_model_layer_count(a); i++) {
        const cw_layer_info x = cw_model_layer(a, i), y = cw_model_layer(b, i);
        assert_string_equal(x.kind, y.kind);
        assert_string_equal(x.name, y.name);
        assert_true(cw_shape_equal(&x.out, &y.out) && x.parameters == y.parameters);
        assert_true(x.from == y.from && x.skip == y.skip && x.kernel == y.kernel && x.stride == y.stride &&
                    x.pad == y.pad && x.bias == y.bias);
    }
    assert_int_equal(cw_model_cut_count(a), cw_model_cut_count(b));
    for (size_t i = 0; i < cw_model_cut_count(a); i++) {
        const cw_cut x = cw_model_cut_at(a, i), y = cw_model_cut_at(b, i);
        assert_true(x.number == y.number && x.layer == y.layer && !x.alias == !y.alias);
        if (x.alias)
            assert_string_equal(x.alias, y.alias);
    }
}

static void assert_same_runs(const run *a, const run *b, const char *what)
{
    assert_int_equal(a->size, b->size);
    assert_memory_equal(&a->loss, &b->loss, sizeof a->loss);
    assert_same_bits(a->grads, b->grads, a->size, what);
}

static void test_own_resnet20_is_the_built_in_one(void **state)
{
    (void)state;
    cw_model *own = own_resnet20(16), *known = fixture_model("resnet20", 3, 16, 16, CLASSES, "relu");
    assert_string_equal(cw_model_name(own), "my_resnet-20");
    assert_same_layers(own, known);
    float *x = fixture_noise(N * 3 * 256, 1);
    int32_t *labels = fixture_labels(N, CLASSES, 2);
    run a = run_whole(own, N, x, labels, N), b = run_whole(known, N, x, labels, N);
    assert_same_runs(&a, &b, "three steps of resnet20");
    run c = run_split(own, cw_model_cut_at(own, 4).layer, N, x, labels, N);
    assert_same_runs(&c, &b, "three steps of resnet20 in halves");
    free_run(&a);
    free_run(&b);
    free_run(&c);
    cwi_free(x);
    cwi_free(labels);
    cw_model_close(&own);
    cw_model_close(&known);
}

/* ---- what no built-in model has ---- */

/* Skips from the model's input and over a cut-free stretch, several activations, batch norm of vectors, dropout. */
static cw_model *odd_network(void)
{
    const cw_model_options options = images(3, 13);
    cw_model_builder *b = begin("odd", &options);
    assert_int_equal(cw_build_last(b), CW_MODEL_INPUT);
    assert_int_equal(cw_build_conv(b, "a", 3, 3, 1, 1, true), 0);
    assert_int_equal(cw_build_add(b, "input", CW_MODEL_INPUT), 1);
    assert_int_equal(cw_build_activation(b, "tanh", "tanh"), 2);
    cw_build_cut(b, 10, "early");
    const int skip = cw_build_conv(b, "b", 19, 5, 2, 2, false);
    cw_build_activation(b, "silu", "silu");
    cw_build_conv(b, "c", 19, 1, 1, 0, true);
    cw_build_add(b, "over", skip);
    cw_build_cut(b, 20, NULL);
    cw_build_batchnorm(b, "norm");
    cw_build_activation(b, "relu", NULL);
    cw_build_maxpool(b, "pool", 3, 2, 1);
    cw_build_cut(b, 30, "late");
    cw_build_flatten(b, "flat");
    cw_build_linear(b, "hidden", 21);
    cw_build_batchnorm(b, "vector");
    cw_build_activation(b, "leaky", "leaky_relu");
    cw_build_dropout(b, "drop", 0.25f);
    cw_build_cut(b, 40, NULL);
    assert_int_equal(cw_build_shape(b).dim[0], 21);
    cw_build_classifier(b, "head");
    return finish(b);
}

static void test_an_odd_network_in_halves(void **state)
{
    (void)state;
    cw_model *model = odd_network();
    float *x = fixture_noise(N * 3 * 169, 1);
    int32_t *labels = fixture_labels(N, CLASSES, 2);
    run whole = run_whole(model, N, x, labels, N);
    assert_int_equal(cw_model_cut_count(model), 4);
    for (size_t i = 0; i < 4; i++) {
        run split = run_split(model, cw_model_cut_at(model, i).layer, N, x, labels, N);
        assert_same_runs(&split, &whole, "an odd network");
        free_run(&split);
    }
    cw_cut cut;
    cw_error err;
    assert_ok_err(cw_model_cut(model, "late", &cut, &err), err);
    assert_int_equal(cut.number, 30);
    assert_true(cut.smashed.dim[0] == 19 && cut.smashed.dim[1] == 4);
    assert_status(cw_model_cut(model, "15", &cut, &err), CW_ERR_SPEC);
    assert_non_null(strstr(err.message, "10 (early), 20, 30 (late), 40"));
    assert_status(cw_model_cut(model, "", &cut, &err), CW_ERR_SPEC);
    free_run(&whole);
    cwi_free(x);
    cwi_free(labels);
    cw_model_close(&model);
}

static void test_layers_tell_all_that_they_are(void **state)
{
    (void)state;
    cw_model *model = odd_network();
    const cw_layer_info a = cw_model_layer(model, 0), add = cw_model_layer(model, 1), over = cw_model_layer(model, 6);
    assert_true(a.from == CW_MODEL_INPUT && a.skip == CW_NO_LAYER && a.kernel == 3 && a.stride == 1 && a.pad == 1);
    assert_true(a.bias && add.from == 0 && add.skip == CW_MODEL_INPUT && over.from == 5 && over.skip == 3);
    for (size_t i = 0; i < cw_model_layer_count(model); i++) {
        const cw_layer_info l = cw_model_layer(model, i);
        assert_true((l.rate > 0) == (strcmp(l.kind, "dropout") == 0));
        assert_true((l.kernel > 0) == (strcmp(l.kind, "conv") == 0 || strcmp(l.kind, "maxpool") == 0));
    }
    assert_null(cw_model_layer(model, 99).name);
    cw_model_close(&model);
}

/* A model outlives its builder's strings, and parts outlive the model. */
static void test_names_are_copied(void **state)
{
    (void)state;
    cw_error err;
    char name[16] = "mine", layer[16] = "first", alias[16] = "here";
    cw_model_options options = {.sample = {.ndim = 1, .dim = {6}}, .classes = 3};
    cw_model_builder *b = begin(name, &options);
    cw_build_linear(b, layer, 4);
    cw_build_activation(b, "act", "gelu");
    cw_build_cut(b, 1, alias);
    cw_build_classifier(b, "last");
    memset(name, 'x', 4);
    memset(layer, 'x', 5);
    memset(alias, 'x', 4);
    cw_model *model = finish(b);
    assert_string_equal(cw_model_name(model), "mine");
    assert_string_equal(cw_model_layer(model, 0).name, "first");
    assert_string_equal(cw_model_cut_at(model, 0).alias, "here");
    cw_part *part = fixture_whole(model, 2);
    cw_model_close(&model);
    float x[12] = {1}, y[6];
    assert_ok_err(cw_part_forward(part, CW_EVAL, x, 2, y, &err), err);
    assert_string_equal(cw_part_param(part, 0).name, "first.weight");
    cw_part_destroy(&part);
}

/* ---- behind a ReLU ---- */

/* Cuts after every kind of layer; which of them are behind a ReLU, and which are told to be without signs. */
static cw_model *network_of_cuts(const char *activation)
{
    cw_model_options options = images(16, 12);
    options.activation = activation;
    cw_model_builder *b = begin("cuts", &options);
    int number = 0;
    cw_build_maxpool(b, "pool0", 3, 1, 1);
    cw_build_cut(b, ++number, NULL); /* 1: nothing before it */
    cw_build_conv(b, "conv", 16, 3, 1, 1, true);
    cw_build_activation(b, "act1", NULL);
    cw_build_cut(b, ++number, NULL); /* 2 */
    cw_build_batchnorm(b, "norm");
    cw_build_cut(b, ++number, NULL); /* 3: below 0 again */
    cw_build_conv(b, "conv2", 16, 3, 1, 1, true);
    cw_build_activation(b, "act2", NULL);
    cw_build_maxpool(b, "pool1", 2, 2, 0);
    cw_build_cut(b, ++number, NULL); /* 4 */
    cw_build_avgpool(b, "mean");
    cw_build_cut(b, ++number, NULL); /* 5 */
    cw_build_flatten(b, "flat");
    cw_build_dropout(b, "drop", 0.5f);
    cw_build_cut(b, ++number, NULL); /* 6 */
    cw_build_linear(b, "hidden", 8);
    cw_build_cut(b, ++number, NULL); /* 7 */
    cw_build_activation(b, "act3", "gelu");
    cw_build_cut(b, ++number, NULL); /* 8 */
    cw_build_classifier(b, "head");
    return finish(b);
}

/* Zeros of what crosses: no change of a gradient there reaches a parameter before the cut. */
static void assert_zeros_teach_nothing(const cw_model *model, const cw_cut *cut)
{
    cw_error err;
    cw_part *part = fixture_part(model, 0, cut->layer, N);
    size_t out = N * fixture_count(cut->smashed), size = cw_part_trainable_size(part), zeros = 0;
    float *x = fixture_noise(N * fixture_count(cw_part_in_shape(part)), 1), *y = cwi_alloc(out, sizeof *y);
    float *dy = fixture_noise(out, 2), *want = cwi_alloc(size, sizeof *want), *got = cwi_alloc(size, sizeof *got);
    for (int masked = 0; masked < 2; masked++) {
        cw_part_set_position(part, 0);
        assert_ok_err(cw_part_forward(part, CW_TRAIN, x, N, y, &err), err);
        for (size_t i = 0; masked && i < out; i++) {
            zeros += y[i] == 0;
            dy[i] = y[i] == 0 ? 0 : dy[i];
        }
        assert_ok_err(cw_part_backward(part, dy, NULL, &err), err);
        cw_part_export_grads(part, masked ? got : want);
    }
    for (size_t i = 0; i < size; i++)
        assert_true(got[i] == want[i]);                 /* +0 and -0 are the same */
    assert_true(zeros > 0 || cut->smashed.dim[1] == 1); /* a mean over a map hardly is */
    cwi_free(x);
    cwi_free(y);
    cwi_free(dy);
    cwi_free(want);
    cwi_free(got);
    cw_part_destroy(&part);
}

static void test_cuts_behind_a_relu(void **state)
{
    (void)state;
    static const bool relu[8] = {false, true, false, true, true, true, false, false};
    static const bool no_signs[8] = {false, true, false, true, false, false, false, false};
    cw_model *model = network_of_cuts("relu"), *leaky = network_of_cuts("leaky_relu");
    assert_int_equal(cw_model_cut_count(model), 8);
    for (size_t i = 0; i < 8; i++) {
        const cw_cut cut = cw_model_cut_at(model, i), other = cw_model_cut_at(leaky, i);
        assert_int_equal(cut.behind_relu, relu[i]);
        assert_int_equal(cut.non_negative, no_signs[i]);
        assert_false(other.behind_relu || other.non_negative);
        if (cut.behind_relu)
            assert_zeros_teach_nothing(model, &cut);
    }
    cw_model_close(&model);
    cw_model_close(&leaky);
    model = own_resnet20(16);
    for (size_t i = 0; i < cw_model_cut_count(model); i++)
        assert_true(cw_model_cut_at(model, i).behind_relu);
    cw_model_close(&model);
}

/* ---- misuse ---- */

typedef struct misuse {
    void (*build)(cw_model_builder *b);
    const char *says;
} misuse;

static void end(cw_model_builder *b)
{
    cw_build_flatten(b, "flatten");
    cw_build_classifier(b, "head");
}

static void nothing(cw_model_builder *b)
{
    (void)b;
}

static void linear_of_a_map(cw_model_builder *b)
{
    cw_build_linear(b, "wide", 5);
    end(b);
}

static void convolution_of_a_vector(cw_model_builder *b)
{
    cw_build_flatten(b, "flat");
    cw_build_conv(b, "late", 4, 3, 1, 1, true);
}

static void window_too_large(cw_model_builder *b)
{
    cw_build_conv(b, "huge", 4, 9, 1, 0, true);
    end(b);
}

static void window_just_too_large(cw_model_builder *b)
{
    cw_build_maxpool(b, "pool", 9, 2, 0); /* (8 - 9) / 2 + 1 would be 1 */
    end(b);
}

static void no_channels(cw_model_builder *b)
{
    cw_build_conv(b, "none", 0, 3, 1, 1, true);
}

static void no_stride(cw_model_builder *b)
{
    cw_build_conv(b, "still", 4, 3, 0, 1, true);
}

static void much_padding(cw_model_builder *b)
{
    cw_build_conv(b, "padded", 4, 3, 1, 3, true);
}

static void too_many_elements(cw_model_builder *b)
{
    cw_build_conv(b, "a", 65536, 65, 1, 64, true);
}

static void name_twice(cw_model_builder *b)
{
    cw_build_conv(b, "same", 4, 3, 1, 1, true);
    cw_build_conv(b, "same", 4, 3, 1, 1, true);
}

static void no_name(cw_model_builder *b)
{
    cw_build_conv(b, "", 4, 3, 1, 1, true);
}

static void null_name(cw_model_builder *b)
{
    cw_build_batchnorm(b, NULL);
}

static void strange_name(cw_model_builder *b)
{
    cw_build_batchnorm(b, "a b");
}

static void long_name(cw_model_builder *b)
{
    cw_build_batchnorm(b, "0123456789012345678901234567890123456789012345678901234567890123");
}

static void unknown_activation(cw_model_builder *b)
{
    cw_build_activation(b, "act", "swosh");
}

static void skip_of_another_shape(cw_model_builder *b)
{
    int skip = cw_build_conv(b, "a", 4, 3, 1, 1, true);
    cw_build_conv(b, "b", 4, 3, 2, 1, true);
    cw_build_add(b, "sum", skip);
}

static void skip_from_nowhere(cw_model_builder *b)
{
    cw_build_add(b, "sum", 3);
}

static void skip_from_itself(cw_model_builder *b)
{
    cw_build_add(b, "sum", 0);
}

static void from_nowhere(cw_model_builder *b)
{
    cw_build_from(b, -2);
}

static void loose_end(cw_model_builder *b)
{
    int a = cw_build_conv(b, "a", 4, 3, 1, 1, true);
    cw_build_conv(b, "loose", 4, 3, 1, 1, true);
    cw_build_from(b, a);
    end(b);
}

static void no_classifier(cw_model_builder *b)
{
    cw_build_flatten(b, "flat");
    cw_build_linear(b, "logits", CLASSES);
}

static void classifier_in_the_middle(cw_model_builder *b)
{
    end(b);
    cw_build_classifier(b, "again");
}

static void dropout_of_a_map(cw_model_builder *b)
{
    cw_build_dropout(b, "drop", 0.5f);
}

static void dropout_of_all(cw_model_builder *b)
{
    cw_build_flatten(b, "flat");
    cw_build_dropout(b, "drop", 1);
}

static void embedding_of_an_image(cw_model_builder *b)
{
    cw_build_embedding(b, "words", 8);
}

static void time_of_an_image(cw_model_builder *b)
{
    cw_build_conv_time(b, "slow", 4, 3);
}

static void cut_within_a_skip(cw_model_builder *b)
{
    int skip = cw_build_conv(b, "a", 4, 3, 1, 1, true);
    cw_build_conv(b, "b", 4, 3, 1, 1, true);
    cw_build_cut(b, 1, NULL);
    cw_build_add(b, "sum", skip);
    end(b);
}

static void cut_under_the_input(cw_model_builder *b)
{
    cw_build_conv(b, "a", 3, 3, 1, 1, true);
    cw_build_cut(b, 1, NULL);
    cw_build_add(b, "sum", CW_MODEL_INPUT);
    end(b);
}

static void cut_before_its_activation(cw_model_builder *b)
{
    cw_build_conv(b, "a", 4, 3, 1, 1, true);
    cw_build_cut(b, 1, NULL);
    cw_build_activation(b, "relu", NULL);
    end(b);
}

static void cut_at_the_beginning(cw_model_builder *b)
{
    cw_build_cut(b, 1, NULL);
    end(b);
}

static void cut_at_the_end(cw_model_builder *b)
{
    end(b);
    cw_build_cut(b, 1, NULL);
}

static void cut_twice(cw_model_builder *b)
{
    cw_build_batchnorm(b, "a");
    cw_build_cut(b, 2, NULL);
    cw_build_cut(b, 2, NULL);
}

static void cut_zero(cw_model_builder *b)
{
    cw_build_batchnorm(b, "a");
    cw_build_cut(b, 0, NULL);
}

static void cut_backwards(cw_model_builder *b)
{
    int a = cw_build_batchnorm(b, "a");
    cw_build_batchnorm(b, "b");
    cw_build_cut(b, 1, NULL);
    cw_build_from(b, a);
    cw_build_cut(b, 2, NULL);
}

static void alias_twice(cw_model_builder *b)
{
    cw_build_batchnorm(b, "a");
    cw_build_cut(b, 1, "here");
    cw_build_cut(b, 2, "here");
}

static void alias_like_a_number(cw_model_builder *b)
{
    cw_build_batchnorm(b, "a");
    cw_build_cut(b, 1, "7");
}

static void long_alias(cw_model_builder *b)
{
    cw_build_batchnorm(b, "a");
    cw_build_cut(b, 1, "abcdefghijklmnopqrstuvwx");
}

static void first_failure_counts(cw_model_builder *b)
{
    linear_of_a_map(b);
    name_twice(b);
    cut_zero(b);
    cw_build_from(b, 99);
    assert_int_equal(cw_build_last(b), CW_MODEL_INPUT);
    assert_int_equal(cw_build_batchnorm(b, "more"), CW_MODEL_INPUT);
}

static void negative_deviation(cw_model_builder *b)
{
    cw_build_linear_deviation(b, -1);
}

static const misuse cases[] = {
    {nothing, "ends with its input"},
    {linear_of_a_map, "layer wide (linear) takes a vector, what comes is 3x8x8: put cw_build_flatten before it"},
    {convolution_of_a_vector, "layer late (conv) takes a map of C,H,W, what comes is 192"},
    {window_too_large, "layer huge (conv) takes maps that its window fits into, what comes is 3x8x8"},
    {window_just_too_large, "layer pool"},
    {no_channels, "channels 0: give 1 to 65536"},
    {no_stride, "stride 0"},
    {much_padding, "pad 3: give 0 to 2"},
    {too_many_elements, "layer a: its output has more than"},
    {name_twice, "layer same: there is one of this name already"},
    {no_name, "a name is 1 to 63"},
    {null_name, "a name is 1 to 63"},
    {strange_name, "layer 'a b'"},
    {long_name, "a name is 1 to 63"},
    {unknown_activation, "layer act: activation 'swosh': no such activation: known are relu"},
    {skip_of_another_shape, "layer sum: 4x8x8 cannot be added to 4x4x4"},
    {skip_from_nowhere, "layer sum: there is no layer 3"},
    {skip_from_itself, "layer sum: there is no layer 0"},
    {from_nowhere, "there is no layer -2"},
    {loose_end, "layer loose: no other layer reads its output"},
    {no_classifier, "it ends with logits: the last layer must be cw_build_classifier"},
    {classifier_in_the_middle, "layer head: a classifier can only be the last layer"},
    {dropout_of_a_map, "layer drop (dropout) takes a vector"},
    {dropout_of_all, "layer drop: rate 1"},
    {embedding_of_an_image, "layer words: an embedding takes the model's input"},
    {time_of_an_image, "layer slow (conv) takes a map of C,1,L"},
    {cut_within_a_skip, "cut 1 behind layer b: inside a skip connection: layer sum reads a"},
    {cut_under_the_input, "inside a skip connection: layer sum reads the model's input"},
    {cut_before_its_activation, "cut 1 behind layer a: it and its activation relu"},
    {cut_at_the_beginning, "cut 1: it lies behind a layer"},
    {cut_at_the_end, "cut 1: nothing comes behind it"},
    {cut_twice, "cut 2: numbers begin at 1 and grow"},
    {cut_zero, "cut 0: numbers begin at 1"},
    {cut_backwards, "cut 2: it lies behind a layer, in the order"},
    {alias_twice, "cut 2: cut 1 is called here already"},
    {alias_like_a_number, "alias '7'"},
    {long_alias, "at most 23"},
    {first_failure_counts, "layer wide (linear)"},
    {negative_deviation, "deviation -1"},
};

static void test_misuse_is_told(void **state)
{
    (void)state;
    const cw_model_options options = images(3, 8);
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        cw_error err = {.message = ""};
        cw_model *model;
        cw_model_builder *b = begin("mine", &options);
        cases[i].build(b);
        const cw_status status = cw_model_build(&b, &model, &err);
        if (!strstr(err.message, cases[i].says) || !strstr(err.message, "model mine: "))
            fail_msg("case %zu: '%s' does not say '%s'", i, err.message, cases[i].says);
        assert_int_equal(status, cases[i].build == unknown_activation ? CW_ERR_SPEC : CW_ERR_INVALID);
        assert_true(!model && !b);
    }
}

static void test_bad_builders(void **state)
{
    (void)state;
    cw_error err;
    cw_model *model;
    cw_model_builder *b;
    cw_model_options options = images(3, 8);
    assert_status(cw_model_builder_create("a/b", &options, &b, &err), CW_ERR_INVALID);
    assert_null(b);
    assert_status(cw_model_builder_create(NULL, &options, &b, &err), CW_ERR_INVALID);
    assert_status(cw_model_builder_create("a", NULL, &b, &err), CW_ERR_INVALID);
    assert_status(cw_model_builder_create("a", &options, NULL, &err), CW_ERR_INVALID);
    options.classes = 1;
    assert_status(cw_model_builder_create("a", &options, &b, &err), CW_ERR_INVALID);
    options = images(3, 0);
    assert_status(cw_model_builder_create("a", &options, &b, &err), CW_ERR_INVALID);
    options = images(3, 8);
    options.activation = "swosh";
    assert_status(cw_model_builder_create("a", &options, &b, &err), CW_ERR_SPEC);
    options.activation = NULL;
    options.input = "sound";
    assert_status(cw_model_builder_create("a", &options, &b, &err), CW_ERR_SPEC);
    assert_null(b);
    /* a builder that never was: calls do nothing, building says so */
    for (size_t i = 0; i < 2; i++)
        cut_within_a_skip(b);
    cw_build_linear_deviation(b, 1);
    cw_build_max_time(b, "m");
    cw_build_embedding(b, "e", 1);
    cw_build_avgpool(b, "p");
    assert_int_equal(cw_build_last(b), CW_MODEL_INPUT);
    assert_int_equal(cw_build_shape(b).ndim, 0);
    assert_status(cw_model_build(&b, &model, &err), CW_ERR_INVALID);
    assert_null(model);
    assert_status(cw_model_build(NULL, &model, &err), CW_ERR_INVALID);
    options.input = NULL;
    b = begin("a", &options);
    assert_status(cw_model_build(&b, NULL, &err), CW_ERR_INVALID);
    assert_null(b);
    b = begin("a", &options);
    cw_build_batchnorm(b, "norm");
    cw_model_builder_destroy(&b);
    cw_model_builder_destroy(&b);
    cw_model_builder_destroy(NULL);
}

/* ---- texts and tables ---- */

static void test_embeddings(void **state)
{
    (void)state;
    cw_error err;
    cw_model *model;
    cw_model_options options = {.sample = {.ndim = 1, .dim = {11}}, .classes = 3, .input = "tokens:20"};
    cw_model_builder *b = begin("texts", &options);
    cw_build_embedding(b, "words", 7);
    assert_true(cw_build_shape(b).dim[0] == 7 && cw_build_shape(b).dim[2] == 11);
    cw_build_conv_time(b, "conv", 9, 3);
    cw_build_activation(b, "act", NULL);
    cw_build_cut(b, 1, NULL);
    cw_build_max_time(b, "max");
    cw_build_flatten(b, "flat");
    cw_build_classifier(b, "head");
    model = finish(b);
    float x[N * 11];
    for (size_t i = 0; i < CWI_COUNT(x); i++)
        x[i] = (float)(i % 20);
    int32_t *labels = fixture_labels(N, 3, 2);
    run whole = run_whole(model, N, x, labels, N);
    run split = run_split(model, cw_model_cut_at(model, 0).layer, N, x, labels, N);
    assert_same_runs(&split, &whole, "texts");
    free_run(&whole);
    free_run(&split);
    cwi_free(labels);
    cw_model_close(&model);

    b = begin("texts", &options);
    cw_build_embedding(b, "words", 7);
    cw_build_conv_time(b, "even", 9, 4);
    assert_status(cw_model_build(&b, &model, &err), CW_ERR_INVALID);
    assert_non_null(strstr(err.message, "layer even: kernel 4: give an odd one"));
    options.input = "table:9/3";
    b = begin("table", &options); /* ten columns, not eleven */
    cw_build_embedding(b, "categories", 7);
    assert_status(cw_model_build(&b, &model, &err), CW_ERR_INVALID);
    assert_non_null(strstr(err.message, "layer categories (embedding) takes a row of the table's columns"));
}

/* ---- out of memory: every allocation fails once; nothing leaks (the sanitizers look) ---- */

static void test_out_of_memory(void **state)
{
    (void)state;
    const cw_model_options options = images(3, 16);
    for (oom_scan scan = {0}; !scan.done;) {
        cw_model_builder *b;
        cw_model *model = NULL;
        cw_error err;
        oom_begin(&scan);
        cw_status s = cw_model_builder_create("mine", &options, &b, &err);
        for (int i = 0; s == CW_OK && i < 40; i++) {
            char name[16];
            snprintf(name, sizeof name, "norm%d", i);
            cw_build_batchnorm(b, name);
            cw_build_cut(b, i + 1, NULL);
        }
        cw_build_flatten(b, "flat");
        cw_build_classifier(b, "head");
        if (s == CW_OK)
            s = cw_model_build(&b, &model, &err);
        oom_end(&scan, s);
        assert_true(scan.done == (model != NULL) && !b);
        cw_model_close(&model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_resnet20_is_the_built_in_one),
        cmocka_unit_test(test_an_odd_network_in_halves),
        cmocka_unit_test(test_layers_tell_all_that_they_are),
        cmocka_unit_test(test_names_are_copied),
        cmocka_unit_test(test_cuts_behind_a_relu),
        cmocka_unit_test(test_misuse_is_told),
        cmocka_unit_test(test_bad_builders),
        cmocka_unit_test(test_embeddings),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
