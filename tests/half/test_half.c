/* test_half.c - halves of somebody else's engine: the two-layer perceptron of examples/own_half.c on either side of the
 * cut, held against our engine's, and what is refused. */
int own_half_main(int argc, char **argv);
#define main own_half_main
#include "../../examples/own_half.c"
#undef main

#include "base/base.h"
#include "config/config.h"
#include "half/half_state.h"

#include "test.h"

enum { INPUTS = 784, WIDTH = 32, LABELS = 10, SAMPLES = 48, STEPS = 12 };

static void build_two_layers(cw_model_builder *b, void *ctx)
{
    (void)ctx;
    cw_build_flatten(b, "flatten");
    cw_build_linear(b, "fc1", WIDTH);
    cw_build_activation(b, "relu", NULL);
    cw_build_cut(b, 1, "shallow");
    cw_build_classifier(b, "fc2");
}

static cw_config two_layers(void)
{
    static bool known;
    const cw_model_known model = {
        .name = "two-layers", .summary = "a test", .sample = "1x28x28", .input = "image", .classes = LABELS};
    cw_config config;
    cw_error err;
    if (!known)
        assert_ok_err(cw_model_register(&model, build_two_layers, NULL, &err), err);
    known = true;
    cwi_config_init(&config);
    const char *const settings[][2] = {{"model", "two-layers"}, {"cut", "1"},           {"batch", "48"},
                                       {"epochs", "2"},         {"train-limit", "500"}, {"threads", "1"},
                                       {"lr", "0.05"},          {"uplink", "none"},     {"test-limit", "200"},
                                       {"update", "none"},      {"downlink", "none"}};
    for (size_t i = 0; i < CWI_COUNT(settings); i++)
        assert_ok_err(cw_config_set(&config, settings[i][0], settings[i][1], &err), err);
    return config;
}

/* The engine's halves of the model, as a run with this configuration begins with. */
static cw_half *engine_half(const cw_config *config, bool last)
{
    const cw_model_options shape = {.sample = cw_shape_of(3, (int64_t[]){1, 28, 28}), .classes = LABELS};
    const cw_part_options part = {.max_batch = SAMPLES, .seed = config->seed, .threads = 1, .input_grad = last};
    const cw_optimizer_options sgd_options = {
        .momentum = (float)config->momentum, .weight_decay = (float)config->weight_decay, .bias_lr = 1};
    cw_model *model;
    cw_half *half;
    cw_cut cut;
    cw_error err;
    assert_ok_err(cw_model_open("two-layers", &shape, &model, &err), err);
    assert_ok_err(cw_model_cut(model, "1", &cut, &err), err);
    const size_t first = last ? cut.layer : 0, end = last ? cw_model_layer_count(model) : cut.layer;
    assert_ok_err(cw_half_of_model(model, first, end, &part, &sgd_options, &half, &err), err);
    cw_model_close(&model);
    return half;
}

static cw_half *own_half(const cw_config *config, bool last)
{
    cw_half *engine = engine_half(config, last);
    cw_half *own =
        last ? new_half("fc2", WIDTH, LABELS, SAMPLES, true) : new_half("fc1", INPUTS, WIDTH, SAMPLES, false);
    const size_t count = cw_half_weight_count(own);
    float *flat = cwi_alloc(count, sizeof *flat);
    cw_error err;
    assert_int_equal(cw_half_weight_count(engine), count);
    assert_true(cw_half_fingerprint(engine) == cw_half_fingerprint(own));
    assert_true(cw_half_behind_relu(engine) == cw_half_behind_relu(own));
    assert_ok_err(cw_half_get(engine, CW_HALF_WEIGHT, flat, &err), err);
    assert_ok_err(cw_half_put(own, CW_HALF_WEIGHT, flat, &err), err);
    cwi_free(flat);
    cw_half_destroy(&engine);
    return own;
}

/* ---- trained ---- */

typedef struct losses {
    double step[64];
    size_t count;
    double test;
} losses;

static void keep_loss(void *ctx, const cw_event *event)
{
    losses *l = ctx;
    if (event->kind == CW_EVENT_STEP && l->count < CWI_COUNT(l->step))
        l->step[l->count++] = event->loss; /* the epoch's mean so far */
    if (event->kind == CW_EVENT_EPOCH)
        l->test = event->report->test_loss;
}

typedef enum halves_known { MIRRORED, UNKNOWN_CLIENT } halves_known;

static losses train_halves(bool own_client, bool own_server, halves_known known)
{
    cw_config config = two_layers();
    losses got = {.count = 0};
    const cw_hooks hooks = {.event = keep_loss, .ctx = &got};
    cw_half *first = own_client ? own_half(&config, false) : NULL;
    cw_half *mirror = own_client && known == MIRRORED ? own_half(&config, false) : NULL;
    cw_half *last = own_server ? own_half(&config, true) : NULL;
    const cw_server_options at_server = {.hooks = &hooks, .half = last, .client_half = mirror};
    const cw_client_options at_client = {.half = first};
    cw_result result;
    cw_error err;
    if (known == UNKNOWN_CLIENT)
        snprintf(config.model, sizeof config.model, "own");
    assert_ok_err(train(&config, &at_server, &at_client, &result, &err), err);
    assert_int_equal(result.epochs_done, 2);
    cw_half_destroy(&first);
    cw_half_destroy(&mirror);
    cw_half_destroy(&last);
    return got;
}

static losses train_with(bool own_client, bool own_server)
{
    return train_halves(own_client, own_server, MIRRORED);
}

/* A server that has no half like the client's takes what the client has, and trains the same. */
static void no_half_like_the_clients_is_needed(void **state)
{
    (void)state;
    const losses known = train_with(true, true), unknown = train_halves(true, true, UNKNOWN_CLIENT);
    assert_int_equal(unknown.count, known.count);
    for (size_t i = 0; i < known.count; i++)
        assert_true(unknown.step[i] == known.step[i]);
    assert_true(unknown.test == known.test);
}

static void either_side_follows_the_engine(void **state)
{
    (void)state;
    const losses engine = train_with(false, false);
    assert_true(engine.count > 2 * STEPS - 4 && engine.step[0] > engine.step[10]);
    for (int sides = 1; sides <= 3; sides++) {
        const losses own = train_with(sides & 1, sides & 2);
        assert_int_equal(own.count, engine.count);
        for (size_t i = 0; i < own.count; i++)
            assert_true(fabs(own.step[i] - engine.step[i]) < 1e-5);
        assert_true(fabs(own.test - engine.test) < 1e-5);
    }
}

/* ---- by hand ---- */

static void weights_and_gradients_are_vectors_in_order(void **state)
{
    (void)state;
    const cw_config config = two_layers();
    cw_half *half = own_half(&config, true);
    const size_t count = cw_half_weight_count(half);
    float *flat = cwi_alloc(count, sizeof *flat), *again = cwi_alloc(count, sizeof *again);
    cw_error err;
    assert_int_equal(count, WIDTH * LABELS + LABELS);
    assert_int_equal(cw_half_buffer_count(half), 0);
    for (size_t i = 0; i < count; i++)
        flat[i] = (float)i;
    assert_ok_err(cw_half_put(half, CW_HALF_GRADIENT, flat, &err), err);
    assert_ok_err(cwi_half_sum_clear(half, &err), err);
    assert_ok_err(cwi_half_sum_add(half, 1.0f, &err), err);
    assert_ok_err(cwi_half_sum_replace(half, 1.0f, &err), err);
    assert_ok_err(cw_half_get(half, CW_HALF_GRADIENT, again, &err), err);
    assert_memory_equal(again, flat, count * sizeof *flat);
    assert_ok_err(cwi_half_sum_add(half, 0.5f, &err), err);
    assert_ok_err(cwi_half_sum_replace(half, 2.0f, &err), err);
    assert_ok_err(cw_half_get(half, CW_HALF_GRADIENT, again, &err), err);
    for (size_t i = 0; i < count; i++)
        assert_true(again[i] == 3.0f * (float)i);
    assert_status(cw_half_get(half, CW_HALF_STATE, again, &err), CW_ERR_INVALID);
    cwi_free(flat);
    cwi_free(again);
    cw_half_destroy(&half);
}

static void state_travels_as_named_tensors(void **state)
{
    (void)state;
    const cw_config config = two_layers();
    cw_half *a = own_half(&config, false), *b = new_half("fc1", INPUTS, WIDTH, SAMPLES, false);
    uint8_t *bytes, *again;
    size_t size, size_again;
    cw_error err;
    assert_ok_err(cw_half_put(a, CW_HALF_GRADIENT, (float[INPUTS * WIDTH + WIDTH]){1}, &err), err);
    assert_ok_err(cw_half_step(a, 0.5f, &err), err); /* there is momentum now */
    assert_ok_err(cwi_half_save(a, &bytes, &size, &err), err);
    assert_ok_err(cwi_half_load(b, bytes, size, &err), err);
    assert_ok_err(cwi_half_save(b, &again, &size_again, &err), err);
    assert_int_equal(size, size_again);
    assert_memory_equal(bytes, again, size);
    cw_half *other = new_half("fc1", INPUTS, WIDTH + 1, SAMPLES, false);
    assert_status(cwi_half_load(other, bytes, size, &err), CW_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "fc1.weight"));
    assert_true(cw_half_fingerprint(other) != cw_half_fingerprint(a));
    cw_bytes_free(bytes);
    cw_bytes_free(again);
    cw_half_destroy(&a);
    cw_half_destroy(&b);
    cw_half_destroy(&other);
}

/* ---- refused ---- */

static cw_status create_with(void (*spoil)(cw_half_callbacks *c, cw_half_tensor *t), const char *word)
{
    static float memory[4];
    const cw_shape four = cw_shape_of(1, (int64_t[]){4});
    cw_half_tensor tensors[] = {{CW_HALF_WEIGHT, "w", cw_tensor_view(CW_F32, &four, memory)},
                                {CW_HALF_GRADIENT, "w", cw_tensor_view(CW_F32, &four, memory)}};
    cw_half_callbacks callbacks = {.in = four,
                                   .out = four,
                                   .tensors = tensors,
                                   .tensor_count = 2,
                                   .forward = layer_forward,
                                   .backward = layer_backward,
                                   .step = layer_step};
    cw_half *half;
    cw_error err = {.message = ""};
    spoil(&callbacks, tensors);
    const cw_status status = cw_half_create(&callbacks, NULL, &half, &err);
    if (status != CW_OK) {
        assert_null(half);
        assert_non_null(strstr(err.message, word));
    }
    cw_half_destroy(&half);
    return status;
}

static void leave(cw_half_callbacks *c, cw_half_tensor *t)
{
    (void)c;
    (void)t;
}

static void no_step(cw_half_callbacks *c, cw_half_tensor *t)
{
    (void)t;
    c->step = NULL;
}

static void no_gradient(cw_half_callbacks *c, cw_half_tensor *t)
{
    (void)t;
    c->tensor_count = 1;
}

static void other_name(cw_half_callbacks *c, cw_half_tensor *t)
{
    (void)c;
    t[1].name = "v";
}

static void twice(cw_half_callbacks *c, cw_half_tensor *t)
{
    (void)c;
    t[1].kind = CW_HALF_WEIGHT;
}

static void no_memory_of_it(cw_half_callbacks *c, cw_half_tensor *t)
{
    (void)c;
    t[0].tensor.data = NULL;
}

static void half_precision(cw_half_callbacks *c, cw_half_tensor *t)
{
    (void)c;
    t[0].tensor.dtype = CW_F16;
}

static void no_output(cw_half_callbacks *c, cw_half_tensor *t)
{
    (void)t;
    c->out.ndim = 1;
    c->out.dim[0] = 0;
}

static void halves_that_do_not_hold_together_are_refused(void **state)
{
    (void)state;
    assert_ok(create_with(leave, ""));
    assert_status(create_with(no_step, "step"), CW_ERR_INVALID);
    assert_status(create_with(no_gradient, "'w'"), CW_ERR_INVALID);
    assert_status(create_with(other_name, "same names"), CW_ERR_INVALID);
    assert_status(create_with(twice, "two tensors 'w'"), CW_ERR_INVALID);
    assert_status(create_with(no_memory_of_it, "memory"), CW_ERR_INVALID);
    assert_status(create_with(half_precision, "f16"), CW_ERR_INVALID);
    assert_status(create_with(no_output, "output"), CW_ERR_INVALID);
}

static void calls_out_of_range_are_refused(void **state)
{
    (void)state;
    const cw_config config = two_layers();
    cw_half *engine = engine_half(&config, false), *own = own_half(&config, false);
    static float x[INPUTS * (SAMPLES + 1)], z[WIDTH * (SAMPLES + 1)];
    cw_error err;
    assert_status(cw_half_forward(engine, &(cw_half_call){.mode = CW_TRAIN, .n = SAMPLES + 1}, x, z, &err),
                  CW_ERR_INVALID);
    assert_status(cw_half_forward(engine, &(cw_half_call){.mode = CW_TRAIN}, x, z, &err), CW_ERR_INVALID);
    assert_status(cw_half_forward(own, &(cw_half_call){.mode = CW_TRAIN, .n = 1, .ticket = 1}, x, z, &err),
                  CW_ERR_INVALID);
    assert_status(cw_half_backward(engine, &(cw_half_call){.mode = CW_TRAIN, .n = 1}, z, x, &err), CW_ERR_INVALID);
    assert_status(cw_half_loss(own, &(cw_half_call){.mode = CW_TRAIN, .n = 1}, &(cw_targets){.labels = NULL},
                               &(cw_loss){0}, &err),
                  CW_ERR_INVALID);
    assert_non_null(strstr(err.message, "no loss"));
    cw_half_destroy(&engine);
    cw_half_destroy(&own);
}

/* A run whose halves are not like each other's is refused before anything is trained. */
static void runs_of_unlike_halves_are_refused(void **state)
{
    (void)state;
    cw_config config = two_layers();
    cw_half *first = own_half(&config, false), *wide = new_half("fc1", INPUTS, WIDTH + 1, SAMPLES, false);
    cw_half *named = new_half("other", INPUTS, WIDTH, SAMPLES, false), *last = own_half(&config, true);
    cw_result result;
    cw_error err;
    const cw_client_options with[] = {{.half = wide}, {.half = named}};
    for (size_t i = 0; i < CWI_COUNT(with); i++)
        assert_true(train(&config, &(cw_server_options){.half = last, .client_half = first}, &with[i], &result, &err) !=
                    CW_OK);
    assert_true(train(&config, &(cw_server_options){.half = last, .client_half = wide}, &with[0], &result, &err) !=
                CW_OK);
    snprintf(config.model, sizeof config.model, "own");
    assert_true(train(&config, &(cw_server_options){.half = last}, &with[0], &result, &err) != CW_OK);
    assert_status(train(&config, &(cw_server_options){.client_half = first}, &with[0], &result, &err), CW_ERR_INVALID);
    config.in_flight = 2; /* this engine keeps one forward open */
    assert_true(train(&config, &(cw_server_options){.half = last, .client_half = first},
                      &(cw_client_options){.half = named}, &result, &err) != CW_OK);
    cw_half_destroy(&first);
    cw_half_destroy(&wide);
    cw_half_destroy(&named);
    cw_half_destroy(&last);
}

/* Layers before the cut of a small `cnn` with a bottleneck there. */
static cw_half *narrow_half(bool freeze)
{
    const cw_model_options shape = {
        .sample = cw_shape_of(3, (int64_t[]){1, 8, 8}), .classes = LABELS, .bottleneck = "2:3@2", .freeze = freeze};
    const cw_part_options part = {.max_batch = 2, .seed = 1, .threads = 1};
    const cw_optimizer_options sgd_options = {.momentum = 0.9f};
    cw_model *model;
    cw_half *half;
    cw_cut cut;
    cw_error err;
    assert_ok_err(cw_model_open("cnn", &shape, &model, &err), err);
    assert_ok_err(cw_model_cut(model, "2", &cut, &err), err);
    assert_ok_err(cw_half_of_model(model, 0, cut.layer, &part, &sgd_options, &half, &err), err);
    cw_model_close(&model);
    return half;
}

/* What travels is shorter, and comes back to its places; halves that learn otherwise are no fellows. */
static void gradients_of_frozen_weights_do_not_travel(void **state)
{
    (void)state;
    cw_error err;
    cw_half *all = narrow_half(false), *half = narrow_half(true);
    const size_t weights = cw_half_weight_count(half), learned = cwi_half_learned_count(half);
    assert_int_equal(cwi_half_learned_count(all), cw_half_weight_count(all));
    assert_int_equal(cw_half_weight_count(all), weights);
    assert_true(learned > 0 && learned < weights);
    assert_int_equal(cwi_half_vector(half, NULL).shape.dim[2], learned);
    assert_true(cw_half_fingerprint(half) != cw_half_fingerprint(all));
    float *flat = cwi_alloc(weights, sizeof *flat);
    for (size_t i = 0; i < weights; i++)
        flat[i] = i < learned ? (float)i + 1 : -1;
    assert_ok_err(cwi_half_put_learned(half, flat, &err), err);
    assert_ok_err(cw_half_get(half, CW_HALF_GRADIENT, flat, &err), err);
    for (size_t i = 0; i < weights; i++) /* the bottleneck is behind all else */
        assert_true(flat[i] == (i < weights - learned ? 0.0f : (float)(i - (weights - learned)) + 1));
    assert_ok_err(cwi_half_get_learned(half, flat, &err), err);
    for (size_t i = 0; i < learned; i++)
        assert_true(flat[i] == (float)i + 1);
    cwi_free(flat);
    cw_half_destroy(&all);
    cw_half_destroy(&half);
}

int main(void)
{
    cw_dataset *ds;
    cw_error err;
    if (cw_dataset_open("fashion-mnist", CW_SPLIT_TEST, &ds, &err) != CW_OK) {
        printf("SKIP: %s\n", err.message);
        return 77;
    }
    cw_dataset_close(&ds);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(either_side_follows_the_engine),
        cmocka_unit_test(no_half_like_the_clients_is_needed),
        cmocka_unit_test(weights_and_gradients_are_vectors_in_order),
        cmocka_unit_test(state_travels_as_named_tensors),
        cmocka_unit_test(gradients_of_frozen_weights_do_not_travel),
        cmocka_unit_test(halves_that_do_not_hold_together_are_refused),
        cmocka_unit_test(calls_out_of_range_are_refused),
        cmocka_unit_test(runs_of_unlike_halves_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
