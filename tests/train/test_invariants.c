/* test_invariants.c - what must come out the same to the bit, however the training is spread. */
#include <math.h>

#include "train_test.h"

#include "test.h"

static void one_client_without_compression_is_unsplit_training(void **state)
{
    (void)state;
    static const char *const cuts[] = {"1", "2", "medium", "deep"};
    cw_config whole = tiny_config(1, "none", "none");
    cw_result a, b;
    cw_error err;
    use_folder(&whole, "whole");
    assert_ok_err(cw_train_unsplit(&whole, NULL, &a, &err), err);
    assert_true(a.last.train_accuracy > 0.2); /* it learns: chance is 0.1 */
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        cw_config split = tiny_config(1, "none", "none");
        snprintf(split.cut, sizeof split.cut, "%s", cuts[i]);
        use_folder(&split, cuts[i]);
        assert_ok_err(cw_train_inproc(&split, NULL, &b, &err), err);
        assert_same_report(&a, &b);
        assert_same_model(&whole, &split);
    }
}

/* What the mask leaves out, a ReLU would have. */
static void masked_gradients_are_the_same_training_without_compression(void **state)
{
    (void)state;
    static const char *const cuts[] = {"1", "2", "deep"};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        cw_config whole = tiny_config(1, "none", "none"), masked;
        cw_result a, b;
        cw_error err;
        whole.epochs = 1;
        snprintf(whole.cut, sizeof whole.cut, "%s", cuts[i]);
        masked = whole;
        assert_ok(cw_config_set(&masked, "mask-gradient", "1", NULL));
        use_folder(&whole, "mask-whole");
        use_folder(&masked, "mask");
        assert_ok_err(cw_train_unsplit(&whole, NULL, &a, &err), err);
        assert_ok_err(cw_train_inproc(&masked, NULL, &b, &err), err);
        assert_same_report(&a, &b);
        assert_same_model(&whole, &masked);
    }
}

/* The more the codec of the activations makes 0, the less gradient there is to send. */
static void masked_gradients_are_smaller(void **state)
{
    (void)state;
    static const char *const uplinks[] = {"none", "ec:err=0.3", "sp:r=0.99"};
    uint64_t before = UINT64_MAX;
    for (size_t i = 0; i < sizeof uplinks / sizeof uplinks[0]; i++) {
        cw_config plain = tiny_config(1, uplinks[i], "ec:step=2,round=stochastic"), masked = plain;
        cw_result a, b;
        cw_error err;
        assert_ok(cw_config_set(&masked, "mask-gradient", "1", NULL));
        assert_ok_err(cw_train_inproc(&plain, NULL, &a, &err), err);
        assert_ok_err(cw_train_inproc(&masked, NULL, &b, &err), err);
        assert_true(b.last.train_accuracy > 0.15 && b.last.train_loss != a.last.train_loss);
        assert_true(b.last.down.payload < a.last.down.payload && b.last.down.payload < before);
        before = b.last.down.payload;
    }
}

static void gradients_are_masked_behind_a_relu_alone(void **state)
{
    (void)state;
    static const char *const activations[] = {"leaky_relu", "gelu", "silu", "tanh"};
    cw_config config = tiny_config(1, "none", "none");
    cw_result result;
    cw_error err;
    assert_ok(cw_config_set(&config, "mask-gradient", "1", NULL));
    for (size_t i = 0; i < sizeof activations / sizeof activations[0]; i++) {
        snprintf(config.activation, sizeof config.activation, "%s", activations[i]);
        assert_status(cw_train_inproc(&config, NULL, &result, &err), CW_ERR_SPEC);
        assert_non_null(strstr(err.message, "cut 2 of cnn is not behind a ReLU"));
    }
    config = tiny_config(1, "ms:r=0.9,b=2,recon=centroid", "none");
    assert_ok(cw_config_set(&config, "mask-gradient", "1", NULL));
    assert_status(cw_train_inproc(&config, NULL, &result, &err), CW_ERR_SPEC);
    assert_non_null(strstr(err.message, "with recon=centroid nothing comes in as 0"));
}

/* Its state, two vectors a half and a count, is the server's and every client's alike. */
static void adam_is_the_same_unsplit_split_and_over_tcp(void **state)
{
    (void)state;
    cw_config whole = tiny_config(1, "none", "none"), split, tcp;
    cw_result a, b, c;
    cw_error err;
    snprintf(whole.optimizer, sizeof whole.optimizer, "adam");
    whole.lr = 0.002;
    split = tcp = whole;
    use_folder(&whole, "adam-whole");
    use_folder(&split, "adam-split");
    use_folder(&tcp, "adam-tcp");
    assert_ok_err(cw_train_unsplit(&whole, NULL, &a, &err), err);
    assert_ok_err(cw_train_inproc(&split, NULL, &b, &err), err);
    assert_ok_err(train_over_tcp(&tcp, &c, &err), err);
    assert_true(a.last.train_accuracy > 0.2);
    assert_same_report(&a, &b);
    assert_same_report(&a, &c);
    assert_same_model(&whole, &split);
    assert_same_model(&whole, &tcp);
}

/* An only client whose gradient is scaled down applies what the server made of it, and not its own. */
static void gradients_clipped_to_nothing_move_nothing(void **state)
{
    (void)state;
    cw_config clipped = tiny_config(1, "none", "none"), still;
    cw_result a, b, c;
    cw_error err;
    snprintf(clipped.update, sizeof clipped.update, "ec:step=0.75,round=stochastic");
    clipped.weight_decay = 0;
    still = clipped;
    clipped.clip_norm = 1e-9;
    still.lr = 1e-9;
    assert_ok_err(cw_train_inproc(&clipped, NULL, &a, &err), err);
    assert_ok_err(cw_train_inproc(&still, NULL, &b, &err), err);
    assert_true(fabs(a.last.train_loss - b.last.train_loss) < 1e-4);
    assert_ok_err(train_over_tcp(&clipped, &c, &err), err);
    assert_same_report(&a, &c);
}

static void in_process_is_the_same_as_over_tcp(void **state)
{
    (void)state;
    static const char *const codecs[][3] = {
        {"none", "none", "none"},
        {"ms:r=0.99,b=2", "bf16", "ec:step=1,round=stochastic"},
        {"ec:err=0.3", "none", "bf16"},
        {"ec:err=0.25", "ec:step=5,round=stochastic,scope=sample", "ec:step=0.125,round=stochastic"}};
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
        cw_config inproc = tiny_config(3, codecs[i][0], codecs[i][1]), tcp;
        snprintf(inproc.update, sizeof inproc.update, "%s", codecs[i][2]);
        assert_ok(cw_config_set(&inproc, "mask-gradient", i == 3 ? "1" : "0", NULL));
        tcp = inproc;
        cw_result a, b;
        cw_error err;
        use_folder(&inproc, "inproc");
        use_folder(&tcp, "tcp");
        assert_ok_err(cw_train_inproc(&inproc, NULL, &a, &err), err);
        assert_ok_err(train_over_tcp(&tcp, &b, &err), err);
        assert_same_report(&a, &b);
        assert_same_model(&inproc, &tcp);
        assert_true(a.last.up.payload == b.last.up.payload && a.last.down.payload == b.last.down.payload);
        assert_true(b.last.up.socket > a.last.up.payload);
    }
}

/* Which lines of a run's metrics have an evaluation. */
static void assert_tested(const cw_config *config, const bool *tested, int epochs)
{
    char path[600], line[2000];
    snprintf(path, sizeof path, "%s/metrics.jsonl", config->out);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (int i = 0; i < epochs; i++) {
        assert_non_null(fgets(line, sizeof line, f));
        assert_int_equal(strstr(line, "\"test_accuracy\":null") == NULL, tested[i]);
        assert_int_equal(strstr(line, "\"test_samples\":0,") == NULL, tested[i]);
    }
    assert_null(fgets(line, sizeof line, f));
    fclose(f);
}

/* The parameters agree to the bit; batch-norm statistics of the client half are averaged, not accumulated one after the
 * other, so evaluation may differ a little. */
static void n_clients_are_one_process_that_averages_n_gradients(void **state)
{
    (void)state;
    for (int skewed = 0; skewed < 2; skewed++) {
        /* Skewed shards differ in size, so that clients run out of batches at different steps. */
        cw_config whole = tiny_config(4, "none", "none"), split;
        whole.dirichlet = skewed ? 0.3 : 0;
        whole.epochs = 1;
        split = whole;
        cw_result a, b;
        cw_error err;
        use_folder(&whole, "average-whole");
        use_folder(&split, "average-split");
        assert_ok_err(cw_train_unsplit(&whole, NULL, &a, &err), err);
        assert_ok_err(cw_train_inproc(&split, NULL, &b, &err), err);
        assert_true(a.last.train_loss == b.last.train_loss);
        assert_true(a.last.train_samples == b.last.train_samples);
        assert_same_parameters(&whole, &split);
        assert_true(fabs(a.last.test_accuracy - b.last.test_accuracy) < 0.25);
    }
}

static void evaluations_cost_what_they_are_asked_to(void **state)
{
    (void)state;
    cw_config each = tiny_config(2, "ms:r=0.99,b=2", "none"), last, whole;
    cw_result a, b, c;
    cw_error err;
    each.epochs = 3;
    each.lr = 0.02; /* the default's losses are of tens in so few steps */
    last = each;
    last.eval_every = 0;
    snprintf(last.eval_uplink, sizeof last.eval_uplink, "none");
    whole = last;
    use_folder(&each, "eval-each");
    use_folder(&last, "eval-last");
    use_folder(&whole, "eval-whole");
    assert_ok_err(cw_train_inproc(&each, NULL, &a, &err), err);
    assert_ok_err(cw_train_inproc(&last, NULL, &b, &err), err);
    assert_same_model(&each, &last);
    assert_true(a.last.test_samples == TINY_TEST && b.last.test_samples == TINY_TEST);
    assert_true(a.last.up.payload == b.last.up.payload);
    assert_true(a.last.up.eval_raw == 3 * b.last.up.eval_raw);
    assert_true(a.last.up.eval_payload * 10 < a.last.up.eval_raw);
    assert_true(b.last.up.eval_payload > b.last.up.eval_raw);
    assert_true(a.last.test_loss != b.last.test_loss && fabs(a.last.test_loss - b.last.test_loss) < 0.3);
    whole.epochs = 4;
    whole.eval_every = 2;
    assert_ok_err(cw_train_unsplit(&whole, NULL, &c, &err), err);
    assert_tested(&whole, (const bool[]){false, true, false, true}, 4);
    assert_tested(&last, (const bool[]){false, false, true}, 3);
    assert_true(c.last.test_samples == TINY_TEST);
}

/* Gets the values of a parameter after one step. */
static void bias_after_a_step(double bias_lr, const char *downlink, const char *update, const char *name, float *out,
                              size_t count)
{
    cw_config config = tiny_config(1, "none", downlink);
    char path[600];
    cw_tensor_set set;
    cw_error err;
    cw_result result;
    config.epochs = 1;
    config.train_limit = config.batch;
    config.bias_lr = bias_lr;
    snprintf(config.update, sizeof config.update, "%s", update);
    snprintf(config.schedule, sizeof config.schedule, "constant");
    use_folder(&config, "bias");
    assert_ok_err(cw_train_inproc(&config, NULL, &result, &err), err);
    snprintf(path, sizeof path, "%s/model.safetensors", config.out);
    assert_ok_err(cw_safetensors_load(path, &set, &err), err);
    const cw_tensor *bias = cw_tensor_set_find(&set, name);
    assert_non_null(bias);
    assert_int_equal(bias->shape.dim[0], count);
    memcpy(out, bias->data, count * sizeof *out);
    cw_tensor_set_free(&set);
}

static void clients_with_coded_gradients_have_the_common_rate_for_biases(void **state)
{
    (void)state;
    enum { CLIENT = 16, SERVER = 64 };
    static const char first[] = "features.1.bias", last[] = "features.18.bias", coded[] = "ec:step=1,round=stochastic";
    static const char *const codecs[][2] = {{"none", "none"}, {coded, "none"}, {"none", coded}};
    float slow[SERVER], one[SERVER], many[SERVER], still[CLIENT] = {0};
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
        const char *down = codecs[i][0], *update = codecs[i][1];
        bias_after_a_step(0.1, down, update, first, slow, CLIENT);
        bias_after_a_step(1, down, update, first, one, CLIENT);
        bias_after_a_step(64, down, update, first, many, CLIENT);
        assert_memory_not_equal(one, still, CLIENT * sizeof *one);
        assert_memory_not_equal(one, slow, CLIENT * sizeof *one);
        assert_int_equal(memcmp(one, many, CLIENT * sizeof *one) == 0, i > 0);
    }
    bias_after_a_step(1, coded, coded, last, one, SERVER);
    bias_after_a_step(64, coded, coded, last, many, SERVER);
    assert_memory_not_equal(one, many, SERVER * sizeof *one);
}

static void the_same_seed_gives_the_same_run_and_another_another(void **state)
{
    (void)state;
    cw_config config = tiny_config(2, "ms:r=0.99,b=2", "none");
    config.epochs = 1;
    config.flip = true;
    config.crop_pad = 2;
    cw_result a, b, c;
    cw_error err;
    assert_ok_err(cw_train_inproc(&config, NULL, &a, &err), err);
    assert_ok_err(cw_train_inproc(&config, NULL, &b, &err), err);
    config.seed = 2;
    assert_ok_err(cw_train_inproc(&config, NULL, &c, &err), err);
    assert_same_report(&a, &b);
    assert_true(a.last.train_loss != c.last.train_loss);
}

static void traffic_is_what_the_codec_promises(void **state)
{
    (void)state;
    cw_config config = tiny_config(2, "ms:r=0.99,b=2", "bf16");
    cw_result r;
    cw_error err;
    assert_ok_err(cw_train_inproc(&config, NULL, &r, &err), err);
    const cw_traffic *up = &r.last.up, *down = &r.last.down;
    double up_ratio = (double)up->raw / (double)up->payload, down_ratio = (double)down->raw / (double)down->payload;
    assert_true(up_ratio > 13.5 && up_ratio < 13.8);
    assert_true(down_ratio > 1.99 && down_ratio < 2.0);
    assert_true(up->raw == down->raw && up->raw == 2 * TINY_TRAIN * 16 * 28 * 28 * sizeof(float));
    assert_true(up->socket > up->payload + up->eval_payload + up->weights);
}

static void the_client_halfs_gradients_are_coded_both_ways(void **state)
{
    (void)state;
    cw_config plain = tiny_config(2, "none", "none"), coded = plain;
    cw_result a, b;
    cw_error err;
    snprintf(coded.update, sizeof coded.update, "ec:step=1,round=stochastic");
    assert_ok_err(cw_train_inproc(&plain, NULL, &a, &err), err);
    assert_ok_err(cw_train_inproc(&coded, NULL, &b, &err), err);
    assert_true(b.last.train_accuracy > 0.2 && b.last.train_loss != a.last.train_loss);
    /* Statistics (up) and weights (down) of each epoch are not coded. */
    assert_true(b.last.up.weights < a.last.up.weights / 5 && b.last.down.weights < a.last.down.weights / 2);
    assert_true(b.last.up.payload == a.last.up.payload && b.last.down.payload == a.last.down.payload);
}

/* The average over one client is what that client has sent: nothing of it comes back, and both apply the same. */
static void an_only_client_applies_its_own_gradient(void **state)
{
    (void)state;
    cw_config plain = tiny_config(1, "none", "none"), fine, coarse, tcp;
    cw_result a, b, c, d;
    cw_error err;
    plain.lr = 0.005; /* at which a little noise stays little */
    fine = plain;
    snprintf(fine.update, sizeof fine.update, "ec:step=0.001,round=stochastic");
    coarse = fine;
    snprintf(coarse.update, sizeof coarse.update, "ec:step=1,round=stochastic");
    tcp = coarse;
    use_folder(&coarse, "own-inproc");
    use_folder(&tcp, "own-tcp");
    assert_ok_err(cw_train_inproc(&plain, NULL, &a, &err), err);
    assert_ok_err(cw_train_inproc(&fine, NULL, &b, &err), err);
    assert_ok_err(cw_train_inproc(&coarse, NULL, &c, &err), err);
    assert_ok_err(train_over_tcp(&tcp, &d, &err), err);
    /* A client that did not apply it, or a server, would be elsewhere after the first steps. */
    assert_true(fabs(b.last.train_loss - a.last.train_loss) < 0.01 * a.last.train_loss);
    assert_true(fabs(b.last.test_loss - a.last.test_loss) < 0.05 * a.last.test_loss);
    assert_true(c.last.up.weights < b.last.up.weights / 2 && c.last.down.weights == b.last.down.weights);
    assert_true(b.last.down.weights < a.last.down.weights / 2);
    assert_same_report(&c, &d);
    assert_same_model(&coarse, &tcp);
}

/* A gradient of which the codec leaves nothing moves nothing, neither at the clients nor in the server's copy. */
static void server_and_clients_apply_what_the_codec_left(void **state)
{
    (void)state;
    cw_config config = tiny_config(2, "none", "none"), still;
    config.weight_decay = 0;
    config.epochs = 1;
    still = config;
    still.lr = 0;
    snprintf(config.update, sizeof config.update, "ec:step=1000");
    use_folder(&config, "update-nothing");
    use_folder(&still, "update-still");
    cw_result a, b;
    cw_error err;
    assert_ok_err(cw_train_inproc(&config, NULL, &a, &err), err);
    assert_ok_err(cw_train_inproc(&still, NULL, &b, &err), err);
    cw_tensor_set moved, begun;
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", config.out);
    assert_ok(cw_safetensors_load(path, &moved, NULL));
    snprintf(path, sizeof path, "%s/model.safetensors", still.out);
    assert_ok(cw_safetensors_load(path, &begun, NULL));
    static const char *const client[] = {"features.0.weight", "features.1.bias"};
    for (size_t i = 0; i < sizeof client / sizeof client[0]; i++) {
        const cw_tensor *x = cw_tensor_set_find(&moved, client[i]), *y = cw_tensor_set_find(&begun, client[i]);
        size_t count;
        assert_non_null(x);
        assert_ok(cw_shape_count(&x->shape, &count));
        assert_memory_equal(x->data, y->data, count * sizeof(float));
    }
    const cw_tensor *x = cw_tensor_set_find(&moved, "classifier.weight");
    const cw_tensor *y = cw_tensor_set_find(&begun, "classifier.weight");
    assert_memory_not_equal(x->data, y->data, 64);
    cw_tensor_set_free(&moved);
    cw_tensor_set_free(&begun);
}

/* With a segment for each sample an element that is a sample of its own would leave nothing. */
static void a_gradient_is_one_sample_to_its_codec(void **state)
{
    (void)state;
    static const char *const specs[] = {"rt", "sp:r=0.9,scope=sample"};
    cw_config still = tiny_config(1, "none", "none");
    cw_result r;
    cw_error err;
    cw_tensor_set begun, moved;
    char path[600];
    still.weight_decay = 0;
    still.epochs = 1;
    cw_config config = still;
    still.lr = 0;
    use_folder(&still, "sample-still");
    assert_ok_err(cw_train_inproc(&still, NULL, &r, &err), err);
    const uint64_t plain = r.last.up.weights;
    snprintf(path, sizeof path, "%s/model.safetensors", still.out);
    assert_ok(cw_safetensors_load(path, &begun, NULL));
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        snprintf(config.update, sizeof config.update, "%s", specs[i]);
        use_folder(&config, "sample-moved");
        assert_ok_err(cw_train_inproc(&config, NULL, &r, &err), err);
        assert_true(r.last.up.weights < plain);
        snprintf(path, sizeof path, "%s/model.safetensors", config.out);
        assert_ok(cw_safetensors_load(path, &moved, NULL));
        const cw_tensor *x = cw_tensor_set_find(&moved, "features.0.weight");
        const cw_tensor *y = cw_tensor_set_find(&begun, "features.0.weight");
        size_t count;
        assert_non_null(x);
        assert_ok(cw_shape_count(&x->shape, &count));
        assert_memory_not_equal(x->data, y->data, count * sizeof(float));
        cw_tensor_set_free(&moved);
    }
    cw_tensor_set_free(&begun);
}

static void precision_reaches_the_engine(void **state)
{
    (void)state;
    cw_config config = tiny_config(1, "none", "none");
    cw_result fp32, bf16;
    cw_error err;
    config.epochs = 1;
    config.lr = 0.01; /* no larger: at the default rate ten steps are chaotic */
    assert_ok_err(cw_train_inproc(&config, NULL, &fp32, &err), err);
    snprintf(config.precision, sizeof config.precision, "bf16");
    if (cw_precision_resolve(CW_PRECISION_BF16, &(cw_precision){0}, NULL) != CW_OK) {
        assert_status(cw_train_inproc(&config, NULL, &bf16, &err), CW_ERR_UNSUPPORTED);
        assert_non_null(strstr(err.message, "--precision must be fp32, or auto"));
        return;
    }
    assert_ok_err(cw_train_inproc(&config, NULL, &bf16, &err), err);
    assert_true(fp32.last.train_loss != bf16.last.train_loss);
    assert_true(fabs(fp32.last.train_loss - bf16.last.train_loss) < 0.05 * fp32.last.train_loss);
}

int main(void)
{
    require_data();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_client_without_compression_is_unsplit_training),
        cmocka_unit_test(masked_gradients_are_the_same_training_without_compression),
        cmocka_unit_test(masked_gradients_are_smaller),
        cmocka_unit_test(gradients_are_masked_behind_a_relu_alone),
        cmocka_unit_test(adam_is_the_same_unsplit_split_and_over_tcp),
        cmocka_unit_test(gradients_clipped_to_nothing_move_nothing),
        cmocka_unit_test(in_process_is_the_same_as_over_tcp),
        cmocka_unit_test(n_clients_are_one_process_that_averages_n_gradients),
        cmocka_unit_test(evaluations_cost_what_they_are_asked_to),
        cmocka_unit_test(clients_with_coded_gradients_have_the_common_rate_for_biases),
        cmocka_unit_test(the_same_seed_gives_the_same_run_and_another_another),
        cmocka_unit_test(traffic_is_what_the_codec_promises),
        cmocka_unit_test(the_client_halfs_gradients_are_coded_both_ways),
        cmocka_unit_test(an_only_client_applies_its_own_gradient),
        cmocka_unit_test(server_and_clients_apply_what_the_codec_left),
        cmocka_unit_test(a_gradient_is_one_sample_to_its_codec),
        cmocka_unit_test(precision_reaches_the_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
