/* test_layers.c - every layer's gradients against finite differences, on small and odd shapes. */
#include "nn_fixture.h"

#include <math.h>

/* Each case is a small model around one kind of layer. All end in a linear layer, whose loss is differentiated. */
static void finish(cw_model_builder *b)
{
    if (cw_build_shape(b).ndim == 3)
        cw_build_flatten(b, "flatten");
    cw_build_classifier(b, "head");
}

static void build_linear(cw_model_builder *b)
{
    cw_build_flatten(b, "flat");
    cw_build_linear(b, "hidden", 9);
    cw_build_activation(b, "act", NULL);
    finish(b);
}

static void build_conv(cw_model_builder *b)
{
    cw_build_conv(b, "first", 5, 3, 1, 1, true);
    cw_build_activation(b, "act", NULL);
    cw_build_conv(b, "second", 18, 3, 2, 1, true);
    finish(b);
}

static void build_conv_one(cw_model_builder *b)
{
    cw_build_conv(b, "first", 16, 1, 1, 0, false);
    cw_build_conv(b, "second", 16, 1, 2, 0, false);
    finish(b);
}

static void build_batchnorm(cw_model_builder *b)
{
    cw_build_conv(b, "conv", 16, 3, 1, 1, false);
    cw_build_batchnorm(b, "norm");
    finish(b);
}

static void build_batchnorm_activation(cw_model_builder *b)
{
    cw_build_conv(b, "conv", 7, 3, 1, 1, false);
    cw_build_batchnorm(b, "norm");
    cw_build_activation(b, "act", NULL);
    finish(b);
}

static void build_maxpool(cw_model_builder *b)
{
    cw_build_conv(b, "conv", 16, 3, 1, 1, true);
    cw_build_maxpool(b, "pool", 2, 2, 0);
    cw_build_maxpool(b, "wide", 3, 2, 1);
    finish(b);
}

/* Maps of 2x2 and 3x3, whose images are laid side by side for the weights' gradient. */
static void build_small_maps(cw_model_builder *b)
{
    cw_build_conv(b, "first", 16, 3, 1, 1, true);
    cw_build_maxpool(b, "pool", 3, 3, 0);
    cw_build_conv(b, "second", 32, 3, 1, 1, true);
    cw_build_activation(b, "act", NULL);
    cw_build_conv(b, "third", 16, 5, 1, 2, true);
    finish(b);
}

static void build_avgpool(cw_model_builder *b)
{
    cw_build_conv(b, "conv", 19, 3, 1, 1, true);
    cw_build_avgpool(b, "pool");
    finish(b);
}

static void build_residual(cw_model_builder *b)
{
    cw_build_conv(b, "stem", 16, 3, 1, 1, false);
    int skip = cw_build_last(b);
    cw_build_conv(b, "conv1", 16, 3, 1, 1, false);
    cw_build_batchnorm(b, "bn1");
    cw_build_activation(b, "act1", NULL);
    cw_build_conv(b, "conv2", 16, 3, 1, 1, false);
    cw_build_add(b, "add1", skip);
    cw_build_activation(b, "act2", NULL);
    skip = cw_build_last(b);
    cw_build_conv(b, "conv3", 16, 3, 1, 1, false);
    cw_build_add(b, "add2", skip);
    finish(b);
}

static void build_dropout(cw_model_builder *b)
{
    cw_build_flatten(b, "flat");
    cw_build_linear(b, "hidden", 33);
    cw_build_dropout(b, "drop", 0.5f);
    finish(b);
}

/* A skip from the model's input, and a layer read by three others. */
static void build_graph(cw_model_builder *b)
{
    cw_build_conv(b, "conv", (int)cw_build_shape(b).dim[0], 3, 1, 1, true);
    int skip = cw_build_add(b, "input", CW_MODEL_INPUT);
    cw_build_batchnorm(b, "norm");
    cw_build_add(b, "once", skip);
    cw_build_activation(b, "act", NULL);
    cw_build_add(b, "twice", skip);
    finish(b);
}

static void build_batchnorm_of_vectors(cw_model_builder *b)
{
    cw_build_flatten(b, "flat");
    cw_build_linear(b, "hidden", 11);
    cw_build_batchnorm(b, "norm");
    cw_build_activation(b, "act", NULL);
    finish(b);
}

/* Smaller, larger, and to sides that are no multiple. */
static void build_resize(cw_model_builder *b)
{
    cw_build_conv(b, "conv", 16, 3, 1, 1, true);
    cw_build_resize(b, "down", 4, 5);
    cw_build_conv(b, "second", 5, 1, 1, 0, true);
    cw_build_resize(b, "up", 9, 11);
    cw_build_activation(b, "act", NULL);
    finish(b);
}

/* Cut behind maps and behind vectors, for bottlenecks; within the first part there is a skip. */
static void build_with_cuts(cw_model_builder *b)
{
    cw_build_conv(b, "stem", 8, 3, 1, 1, false);
    int skip = cw_build_batchnorm(b, "norm");
    cw_build_conv(b, "conv", 8, 3, 1, 1, false);
    cw_build_add(b, "add", skip);
    cw_build_activation(b, "act", NULL);
    cw_build_cut(b, 1, "shallow");
    skip = cw_build_last(b);
    cw_build_conv(b, "conv2", 8, 3, 1, 1, false);
    cw_build_batchnorm(b, "norm2");
    cw_build_add(b, "add2", skip); /* of what the bottleneck gives back */
    cw_build_flatten(b, "flat");
    cw_build_linear(b, "hidden", 12);
    cw_build_activation(b, "act2", NULL);
    cw_build_cut(b, 2, NULL);
    finish(b);
}

typedef struct gradient_case {
    cwi_model_family family;
    const char *activation;
} gradient_case;

static double loss_at(cw_part *part, const float *x, const int32_t *labels, size_t n)
{
    cw_error err;
    cw_loss loss;
    cw_part_set_position(part, 0); /* the same dropout mask each time */
    assert_ok_err(cw_part_forward(part, CW_TRAIN, x, n, NULL, &err), err);
    assert_ok_err(cw_part_loss(part, labels, n, &loss, &err), err);
    return loss.mean;
}

/* The derivative along a random direction, by central differences, against the gradient's projection on it: one
 * number that every component enters. Kinks (ReLU, max) make a step cross the wrong side now and then: several
 * directions, all but a few of which must agree. */
static void check_direction(cw_part *part, float *at, const float *gradient, size_t count, const float *x,
                            const int32_t *labels, size_t n, float *weights, const char *what)
{
    enum { DIRECTIONS = 9 };
    float *saved = cwi_alloc(count, sizeof *saved);
    memcpy(saved, at, count * sizeof *saved);
    int agree = 0;
    double worst = 0;
    for (uint64_t k = 0; k < DIRECTIONS; k++) {
        float *direction = fixture_noise(count, 100 + k);
        double projection = 0, norm = 0, slope = 0, step = 1e-3, side[2];
        for (size_t i = 0; i < count; i++) {
            norm += (double)direction[i] * direction[i];
            slope += (double)gradient[i] * gradient[i];
        }
        step /= sqrt(norm / (double)CWI_MIN(count, 4));
        for (size_t i = 0; i < count; i++)
            projection += (double)gradient[i] * direction[i];
        for (int s = 0; s < 2; s++) {
            for (size_t i = 0; i < count; i++)
                at[i] = (float)(saved[i] + (s ? -step : step) * direction[i]);
            cw_part_import_weights(part, weights);
            side[s] = loss_at(part, x, labels, n);
        }
        memcpy(at, saved, count * sizeof *saved);
        double numeric = (side[0] - side[1]) / (2 * step);
        double error = fabs(numeric - projection) / (sqrt(slope) + 1e-3);
        agree += error < 0.05;
        worst = fmax(worst, error);
        cwi_free(direction);
    }
    cw_part_import_weights(part, weights);
    cwi_free(saved);
    if (agree < DIRECTIONS - 2)
        fail_msg("%s: only %d of %d directional derivatives agree, worst relative error %g", what, agree, DIRECTIONS,
                 worst);
}

static void check_narrow(const gradient_case *c, const char *bottleneck, int64_t channels, int64_t side, size_t n)
{
    enum { CLASSES = 3 };
    cw_error err;
    cw_model *model;
    cw_model_options o = {.sample = {.ndim = 3, .dim = {channels, side, side + 1}},
                          .classes = CLASSES,
                          .activation = c->activation,
                          .bottleneck = bottleneck};
    assert_ok_err(cwi_model_build(&c->family, &o, &model, &err), err);
    cw_part *part;
    cw_part_options po = {.max_batch = n, .seed = 3, .threads = 2, .input_grad = true};
    assert_ok_err(cw_part_create(model, 0, cw_model_layer_count(model), &po, &part, &err), err);
    size_t inputs = n * fixture_count(o.sample), size = cw_part_trainable_size(part);
    float *x = fixture_noise(inputs, 5), *dx = cwi_alloc(inputs, sizeof *dx);
    float *w = cwi_alloc(size, sizeof *w), *g = cwi_alloc(size, sizeof *g);
    int32_t *labels = fixture_labels(n, CLASSES, 6);
    cw_part_export_weights(part, w);
    loss_at(part, x, labels, n);
    assert_ok_err(cw_part_backward(part, NULL, dx, &err), err);
    cw_part_export_grads(part, g);
    char what[200];
    size_t offset = 0;
    for (size_t i = 0; i < cw_part_param_count(part); i++) {
        cw_param p = cw_part_param(part, i);
        if (!p.trainable)
            continue;
        snprintf(what, sizeof what, "%s(%s): %s", c->family.known.name, c->activation, p.name);
        check_direction(part, w + offset, g + offset, p.count, x, labels, n, w, what);
        offset += p.count;
    }
    snprintf(what, sizeof what, "%s(%s): input", c->family.known.name, c->activation);
    check_direction(part, x, dx, inputs, x, labels, n, w, what);
    assert_int_equal(offset, size);
    cw_part_destroy(&part);
    cw_model_close(&model);
    cwi_free(x);
    cwi_free(dx);
    cwi_free(w);
    cwi_free(g);
    cwi_free(labels);
}

static void check_case(const gradient_case *c, int64_t channels, int64_t side, size_t n)
{
    check_narrow(c, NULL, channels, side, n);
}

static void test_gradients(void **state)
{
    (void)state;
    static const gradient_case cases[] = {
        {{{.name = "linear"}, build_linear}, "relu"},
        {{{.name = "linear"}, build_linear}, "leaky_relu"},
        {{{.name = "linear"}, build_linear}, "gelu"},
        {{{.name = "linear"}, build_linear}, "silu"},
        {{{.name = "linear"}, build_linear}, "tanh"},
        {{{.name = "conv"}, build_conv}, "tanh"},
        {{{.name = "conv"}, build_conv}, "gelu"},
        {{{.name = "conv"}, build_conv}, "relu"},
        {{{.name = "conv1x1"}, build_conv_one}, "relu"},
        {{{.name = "batchnorm"}, build_batchnorm}, "relu"},
        {{{.name = "batchnorm-act"}, build_batchnorm_activation}, "relu"},
        {{{.name = "batchnorm-act"}, build_batchnorm_activation}, "tanh"},
        {{{.name = "batchnorm-act"}, build_batchnorm_activation}, "silu"},
        {{{.name = "maxpool"}, build_maxpool}, "relu"},
        {{{.name = "small-maps"}, build_small_maps}, "tanh"},
        {{{.name = "avgpool"}, build_avgpool}, "relu"},
        {{{.name = "residual"}, build_residual}, "relu"},
        {{{.name = "residual"}, build_residual}, "gelu"},
        {{{.name = "residual"}, build_residual}, "leaky_relu"},
        {{{.name = "dropout"}, build_dropout}, "relu"},
        {{{.name = "graph"}, build_graph}, "gelu"},
        {{{.name = "graph"}, build_graph}, "tanh"},
    };
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        check_case(&cases[i], 3, 7, 5);
        check_case(&cases[i], 1, 9, 2);
    }
    /* Two samples would be normalized to 1 and -1 whatever they are. */
    check_case(&(gradient_case){{{.name = "batchnorm-vectors"}, build_batchnorm_of_vectors}, "tanh"}, 3, 7, 24);
    check_case(&(gradient_case){{{.name = "batchnorm-vectors"}, build_batchnorm_of_vectors}, "relu"}, 1, 5, 31);
}

/* ---- bottlenecks ---- */

static void test_gradients_of_bottlenecks(void **state)
{
    (void)state;
    static const gradient_case smooth = {{{.name = "bottleneck"}, build_with_cuts}, "tanh"},
                               kinked = {{{.name = "bottleneck"}, build_with_cuts}, "relu"};
    check_case(&(gradient_case){{{.name = "resize"}, build_resize}, "tanh"}, 2, 5, 4);
    check_narrow(&smooth, "3@1", 1, 6, 12);
    check_narrow(&kinked, "5:3/2@shallow", 2, 6, 12);
    check_narrow(&smooth, "5@2", 1, 6, 24);
}

static cw_status open_narrow(const char *bottleneck, bool freeze, cw_model **model, cw_error *err)
{
    const cwi_model_family family = {{.name = "narrow"}, build_with_cuts};
    const cw_model_options o = {
        .sample = {.ndim = 3, .dim = {1, 7, 9}}, .classes = 3, .bottleneck = bottleneck, .freeze = freeze};
    return cwi_model_build(&family, &o, model, err);
}

static void test_bottleneck_shapes(void **state)
{
    (void)state;
    cw_error err;
    cw_cut cut;
    cw_model *model, *plain;
    assert_ok_err(open_narrow(NULL, false, &plain, &err), err);
    assert_ok_err(open_narrow("4:3/2@1", false, &model, &err), err);
    assert_int_equal(cw_model_layer_count(model), cw_model_layer_count(plain) + 7);
    assert_ok_err(cw_model_cut(model, "shallow", &cut, &err), err);
    assert_true(cut.smashed.dim[0] == 4 && cut.smashed.dim[1] == 4 && cut.smashed.dim[2] == 5);
    assert_true(cut.behind_relu && cut.non_negative);
    assert_string_equal(cw_model_layer(model, cut.layer - 1).name, "bottleneck.encode_relu");
    assert_string_equal(cw_model_layer(model, cut.layer).kind, "resize");
    assert_ok_err(cw_model_cut(model, "2", &cut, &err), err); /* it stays behind its own layer */
    assert_string_equal(cw_model_layer(model, cut.layer - 1).name, "act2");
    cw_model_close(&model);
    assert_ok_err(open_narrow("4@2", false, &model, &err), err);
    assert_ok_err(cw_model_cut(model, "2", &cut, &err), err);
    assert_true(cut.smashed.ndim == 1 && cut.smashed.dim[0] == 4);
    cw_model_close(&model);
    cw_model_close(&plain);
    static const char *const bad[] = {"4",   "@1",  "0@1", "4:2@1", "4:3/5@1",  "4:17@1",  "4:@1", "4:3/@1",
                                      "x@1", "4@3", "4@",  "-4@1",  "4:3/2x@1", "99999@1", " 4@1", "4@stem"};
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        assert_status(open_narrow(bad[i], false, &model, &err), CW_ERR_SPEC);
        assert_null(model);
    }
    assert_status(open_narrow(NULL, true, &model, &err), CW_ERR_SPEC);
}

/* Trained alone: all other weights and statistics stay, to the bit; what it gives depends on it. */
static void test_frozen(void **state)
{
    enum { N = 16, STEPS = 30 };
    (void)state;
    cw_error err;
    cw_model *model;
    cw_part *part;
    cw_optimizer *optimizer;
    assert_ok_err(open_narrow("4:3/2@1", true, &model, &err), err);
    const cw_part_options po = {.max_batch = N, .seed = 3, .threads = 2};
    assert_ok_err(cw_part_create(model, 0, cw_model_layer_count(model), &po, &part, &err), err);
    const cw_optimizer_options oo = {.momentum = 0.9f, .weight_decay = 0.01f};
    assert_ok_err(cw_optimizer_create(part, &oo, &optimizer, &err), err);
    float *x = fixture_noise(N * 63, 5), y[2][N * 3];
    int32_t *labels = fixture_labels(N, 3, 6);
    cw_named_tensor *before, *after;
    size_t count;
    double first = 0, last = 0;
    assert_ok_err(cw_part_state_export(part, &before, &count, &err), err);
    assert_ok_err(cw_part_forward(part, CW_EVAL, x, N, y[0], &err), err);
    for (int i = 0; i < STEPS; i++) {
        last = loss_at(part, x, labels, N);
        first = i ? first : last;
        assert_ok_err(cw_part_backward(part, NULL, NULL, &err), err);
        assert_ok(cw_optimizer_step(optimizer, 0.1f));
    }
    assert_true(last < 0.7 * first);
    assert_ok_err(cw_part_state_export(part, &after, &count, &err), err);
    for (size_t i = 0; i < count; i++) {
        size_t floats;
        assert_ok(cw_shape_count(&before[i].tensor.shape, &floats));
        const bool same = memcmp(before[i].tensor.data, after[i].tensor.data, floats * sizeof(float)) == 0;
        if (same == (strncmp(before[i].name, "bottleneck.", 11) == 0))
            fail_msg("%s has %s", before[i].name, same ? "not learned" : "changed");
    }
    assert_ok_err(cw_part_forward(part, CW_EVAL, x, N, y[1], &err), err);
    assert_memory_not_equal(y[0], y[1], sizeof y[0]);
    cw_named_tensors_free(before, count);
    cw_named_tensors_free(after, count);
    cw_optimizer_destroy(&optimizer);
    cw_part_destroy(&part);
    cw_model_close(&model);
    cwi_free(x);
    cwi_free(labels);
}

/* Weights of the network without it, to begin with. */
static void test_weights_of_the_plain_network(void **state)
{
    (void)state;
    cw_error err;
    cw_model *model, *plain;
    cw_part *part, *from;
    cw_tensor_set set = {0};
    bool kept;
    const cw_part_options po = {.max_batch = 1, .seed = 9, .threads = 1};
    assert_ok_err(open_narrow(NULL, false, &plain, &err), err);
    assert_ok_err(open_narrow("4@1", false, &model, &err), err);
    assert_ok_err(cw_part_create(plain, 0, cw_model_layer_count(plain), &po, &from, &err), err);
    assert_ok_err(cw_part_create(model, 0, cw_model_layer_count(model), &po, &part, &err), err);
    assert_ok_err(cw_part_state_export(from, &set.items, &set.count, &err), err);
    assert_ok_err(cw_part_weights_import(part, &set, &kept, &err), err);
    assert_false(kept);
    assert_status(cw_part_state_import(part, &set, &err), CW_ERR_NOT_FOUND); /* no beginning, but the same again */
    assert_non_null(strstr(err.message, "bottleneck.encode.weight"));
    cw_named_tensors_free(set.items, set.count);
    cw_part_destroy(&part);
    cw_part_destroy(&from);
    cw_model_close(&model);
    cw_model_close(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients),
                                       cmocka_unit_test(test_gradients_of_bottlenecks),
                                       cmocka_unit_test(test_bottleneck_shapes), cmocka_unit_test(test_frozen),
                                       cmocka_unit_test(test_weights_of_the_plain_network)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
