/* test_inputs.c - models for texts and tables: what ids mean, gradients of embeddings, halves equal to the whole. */
#include "nn_split.h"

static cw_model *open_model(const char *name, const char *input, int64_t length, const char *activation)
{
    cw_error err;
    cw_model *model;
    cw_model_options o = {
        .sample = {.ndim = 1, .dim = {length}}, .classes = 4, .activation = activation, .input = input};
    assert_ok_err(cw_model_open(name, &o, &model, &err), err);
    return model;
}

/* n texts of `length` words below `vocabulary`, the last third padding. */
static float *texts(size_t n, size_t length, uint64_t vocabulary)
{
    cwi_rng r = cwi_rng_make(1, CWI_STREAM_TEST, 2, 0);
    float *x = cwi_calloc(n * length, sizeof *x);
    for (size_t i = 0; i < n * length; i++)
        x[i] = i % length < length - length / 3 ? (float)cwi_rng_below(&r, vocabulary) : 0.0f;
    return x;
}

/* Two numbers, then categories of 3 and 5. */
static float *tables(size_t n)
{
    cwi_rng r = cwi_rng_make(1, CWI_STREAM_TEST, 3, 0);
    float *x = cwi_calloc(n * 4, sizeof *x);
    for (size_t i = 0; i < n; i++) {
        x[4 * i] = (float)cwi_rng_normal(&r);
        x[4 * i + 1] = (float)cwi_rng_normal(&r);
        x[4 * i + 2] = (float)cwi_rng_below(&r, 3);
        x[4 * i + 3] = (float)cwi_rng_below(&r, 5);
    }
    return x;
}

static void check_cuts(const cw_model *model, const float *x, size_t n)
{
    int32_t *labels = fixture_labels(n, 4, 2);
    run whole = run_whole(model, n, x, labels, n);
    assert_int_equal(cw_model_cut_count(model), 3);
    for (size_t i = 0; i < cw_model_cut_count(model); i++) {
        run split = run_split(model, cw_model_cut_at(model, i).layer, n, x, labels, n);
        assert_memory_equal(&whole.loss, &split.loss, sizeof whole.loss);
        assert_same_bits(split.grads, whole.grads, whole.size, cw_model_name(model));
        free_run(&split);
    }
    free_run(&whole);
    cwi_free(labels);
}

static double loss_with(cw_part *part, const float *weights, const float *x, const int32_t *labels, size_t n)
{
    cw_error err;
    cw_loss loss;
    cw_part_import_weights(part, weights);
    cw_part_set_position(part, 0);
    assert_ok_err(cw_part_forward(part, CW_TRAIN, x, n, NULL, &err), err);
    assert_ok_err(cw_part_loss(part, labels, n, &loss, &err), err);
    return loss.mean;
}

/* The embedding is the first parameter: each of its rows is moved along its own gradient. */
static void check_embedding(const cw_model *model, const float *x, size_t n, size_t rows)
{
    cw_error err;
    cw_part *part = fixture_whole(model, n);
    int32_t *labels = fixture_labels(n, 4, 2);
    size_t size = cw_part_trainable_size(part), dim = cw_part_param(part, 0).count / rows, moved = 0;
    float *w = cwi_alloc(size, sizeof *w), *g = cwi_alloc(size, sizeof *g), *at = cwi_alloc(size, sizeof *at);
    cw_part_export_weights(part, w);
    loss_with(part, w, x, labels, n);
    assert_ok_err(cw_part_backward(part, NULL, NULL, &err), err);
    cw_part_export_grads(part, g);
    for (size_t r = 0; r < rows; r++) {
        double norm = 0, side[2];
        for (size_t c = 0; c < dim; c++)
            norm += (double)g[r * dim + c] * g[r * dim + c];
        if (norm < 1e-6)
            continue;
        moved++;
        for (int s = 0; s < 2; s++) {
            memcpy(at, w, size * sizeof *at);
            for (size_t c = 0; c < dim; c++)
                at[r * dim + c] += (float)((s ? -2e-3 : 2e-3) / sqrt(norm)) * g[r * dim + c];
            side[s] = loss_with(part, at, x, labels, n);
        }
        double slope = (side[0] - side[1]) / 4e-3;
        if (fabs(slope - sqrt(norm)) > 0.05 * sqrt(norm) + 2e-4)
            fail_msg("%s: row %zu: slope %g, gradient %g", cw_model_name(model), r, slope, sqrt(norm));
    }
    assert_true(moved >= 3);
    cw_part_destroy(&part);
    cwi_free(labels);
    cwi_free(w);
    cwi_free(g);
    cwi_free(at);
}

static void test_texts(void **state)
{
    (void)state;
    cw_model *model = open_model("textcnn", "tokens:12", 20, "tanh");
    float *x = texts(6, 20, 12);
    check_embedding(model, x, 6, 12);
    check_cuts(model, x, 6);
    /* an id beyond the vocabulary is the unknown word; padding is no word at all */
    cw_part *part = fixture_whole(model, 6);
    float known[24], unknown[24];
    cw_error err;
    x[3] = 1;
    assert_ok_err(cw_part_forward(part, CW_EVAL, x, 6, known, &err), err);
    static const float strange[] = {12, 1e30f, -1, NAN};
    for (size_t i = 0; i < CWI_COUNT(strange); i++) {
        x[3] = strange[i];
        assert_ok_err(cw_part_forward(part, CW_EVAL, x, 6, unknown, &err), err);
        assert_same_bits(known, unknown, 24, "unknown word");
    }
    cw_part_destroy(&part);
    cwi_free(x);
    cw_model_close(&model);
}

static void test_tables(void **state)
{
    (void)state;
    cw_model *model = open_model("mlp", "table:2/3/5", 4, "silu");
    float *x = tables(9);
    check_embedding(model, x, 9, 8);
    check_cuts(model, x, 9);
    cwi_free(x);
    cw_model_close(&model);
    model = open_model("mlp", "table:4", 4, "relu");
    x = fixture_noise(4 * 7, 3);
    check_cuts(model, x, 7);
    cwi_free(x);
    cw_model_close(&model);
}

static void test_bf16(void **state)
{
    (void)state;
    if (!fixture_has_bf16()) {
        printf("SKIP: this CPU does not multiply bf16\n");
        skip();
    }
    fixture_precision = CW_PRECISION_BF16;
    cw_model *model = open_model("textcnn", "tokens:50", 33, "relu");
    float *x = texts(4, 33, 50);
    check_cuts(model, x, 4);
    cwi_free(x);
    cw_model_close(&model);
    model = open_model("mlp", "table:2/3/5", 4, "relu");
    x = tables(9);
    check_cuts(model, x, 9);
    cwi_free(x);
    cw_model_close(&model);
    fixture_precision = CW_PRECISION_FP32;
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *model, *input;
        int64_t length;
        cw_status status;
    } bad[] = {
        {"textcnn", NULL, 20, CW_ERR_INVALID},     {"textcnn", "table:20", 20, CW_ERR_INVALID},
        {"textcnn", "tokens:", 20, CW_ERR_SPEC},   {"textcnn", "tokens:1", 20, CW_ERR_SPEC},
        {"textcnn", "tokens:9x", 20, CW_ERR_SPEC}, {"mlp", "table:2/3", 4, CW_ERR_INVALID},
        {"mlp", "table:", 4, CW_ERR_SPEC},         {"mlp", "table:2//3", 4, CW_ERR_SPEC},
        {"mlp", "table:0", 4, CW_ERR_SPEC},        {"mlp", "tokens:5", 4, CW_ERR_INVALID},
        {"cnn", "tokens:5", 4, CW_ERR_INVALID},    {"mlp", "sound", 4, CW_ERR_SPEC},
    };
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        cw_error err;
        cw_model *model;
        cw_model_options o = {.sample = {.ndim = 1, .dim = {bad[i].length}}, .classes = 4, .input = bad[i].input};
        if (cw_model_open(bad[i].model, &o, &model, &err) != bad[i].status)
            fail_msg("%s on %s: %s", bad[i].model, bad[i].input, err.message);
        assert_null(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts), cmocka_unit_test(test_tables),
                                       cmocka_unit_test(test_bf16), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
