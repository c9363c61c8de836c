/* test_parts.c - the promises of a part: halves equal the whole bit for bit, short batches, sums, import and export,
 * determinism, and what bad input gets. */
#include "nn_split.h"
#include "out_of_memory.h"

#include <math.h>

static void test_halves_equal_whole(void **state)
{
    (void)state;
    static const split_case cases[] = {
        {"cnn", "relu", 1, 28, 16, 16}, {"cnn", "relu", 3, 32, 16, 5},     {"cnn", "gelu", 1, 28, 8, 8},
        {"cnn", "tanh", 3, 19, 8, 7},   {"resnet20", "relu", 3, 16, 4, 4}, {"resnet20", "silu", 3, 19, 4, 3},
    };
    for (size_t i = 0; i < CWI_COUNT(cases); i++)
        check_split(&cases[i]);
    fixture_threads = 2;
    check_split(&(split_case){"cnn", "relu", 1, 16, 8, 8});
    fixture_threads = 1;
    if (!fixture_has_bf16())
        return;
    fixture_precision = CW_PRECISION_BF16;
    for (size_t i = 0; i < CWI_COUNT(cases); i++)
        check_split(&cases[i]);
    fixture_precision = CW_PRECISION_FP32;
}

/* bf16 keeps 8 bits: a rounding is at most 2^-9 of a value, and roundings of many layers add up like noise. */
static void test_bf16_follows_fp32(void **state)
{
    (void)state;
    enum { N = 32 };
    if (!fixture_has_bf16()) {
        printf("SKIP: this CPU does not multiply bf16\n");
        skip();
    }
    static const char *const names[] = {"cnn", "resnet20"};
    for (size_t m = 0; m < CWI_COUNT(names); m++) {
        cw_model *model = fixture_model(names[m], 3, 32, 32, 10, "gelu"); /* no kinks to flip */
        float *x = fixture_noise(N * 3 * 32 * 32, 1);
        int32_t *labels = fixture_labels(N, 10, 2);
        run single = run_whole(model, N, x, labels, N);
        fixture_precision = CW_PRECISION_BF16;
        run half = run_whole(model, N, x, labels, N);
        fixture_precision = CW_PRECISION_FP32;
        double difference = 0, norm = 0;
        for (size_t i = 0; i < single.size; i++) {
            difference += ((double)half.grads[i] - single.grads[i]) * ((double)half.grads[i] - single.grads[i]);
            norm += (double)single.grads[i] * single.grads[i];
        }
        printf("%s: bf16 gradients after two updates differ by %.3f, losses %.5f and %.5f\n", names[m],
               sqrt(difference / norm), half.loss, single.loss);
        assert_true(sqrt(difference / norm) < 0.15);
        assert_true(fabs(half.loss - single.loss) < 0.02 * single.loss);
        free_run(&single);
        free_run(&half);
        cwi_free(x);
        cwi_free(labels);
        cw_model_close(&model);
    }
}

static void test_precision_names(void **state)
{
    (void)state;
    cw_precision p;
    cw_error err;
    for (int i = 0; i <= CW_PRECISION_AUTO; i++) {
        assert_ok_err(cw_precision_parse(cw_precision_name((cw_precision)i), &p, &err), err);
        assert_int_equal(p, i);
    }
    assert_status(cw_precision_parse("fp16", &p, &err), CW_ERR_SPEC);
    assert_non_null(strstr(err.message, "bf16"));
}

static void test_cuts_of_the_papers_networks(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        int64_t side;
        const char *which;
        int64_t smashed[3];
    } cuts[] = {
        {"vgg19", 32, "shallow", {64, 16, 16}},     {"vgg19", 32, "8", {256, 4, 4}},
        {"vgg19", 32, "deep", {512, 2, 2}},         {"resnet18", 32, "2", {64, 32, 32}},
        {"resnet18", 32, "medium", {128, 16, 16}},  {"resnet18", 32, "13", {256, 8, 8}},
        {"resnet34", 224, "shallow", {64, 56, 56}}, {"resnet34", 224, "15", {128, 28, 28}},
        {"resnet34", 224, "deep", {256, 14, 14}},
    };
    for (size_t i = 0; i < CWI_COUNT(cuts); i++) {
        cw_model *model = fixture_model(cuts[i].model, 3, cuts[i].side, cuts[i].side, 10, NULL);
        cw_cut cut;
        cw_error err;
        assert_ok_err(cw_model_cut(model, cuts[i].which, &cut, &err), err);
        assert_memory_equal(cut.smashed.dim, cuts[i].smashed, sizeof cuts[i].smashed);
        assert_true(cut.non_negative);
        if (strncmp(cuts[i].model, "resnet", 6) == 0) {
            assert_status(cw_model_cut(model, "4", &cut, &err), CW_ERR_SPEC);
            assert_non_null(strstr(err.message, "skip connection"));
            assert_non_null(strstr(err.message, "2 (shallow)"));
        }
        cw_model_close(&model);
    }
}

static void test_evaluation_equals_whole(void **state)
{
    (void)state;
    enum { N = 6, CLASSES = 10 };
    cw_error err;
    cw_model *model = fixture_model("cnn", 3, 32, 32, CLASSES, "relu");
    float *x = fixture_noise(N * 3 * 32 * 32, 1);
    cw_part *whole = fixture_whole(model, 8);
    float expected[N * CLASSES], got[N * CLASSES];
    assert_ok_err(cw_part_forward(whole, CW_EVAL, x, N, expected, &err), err);
    for (size_t i = 0; i < cw_model_cut_count(model); i++) {
        cw_cut cut = cw_model_cut_at(model, i);
        cw_part_options o = {.max_batch = N, .seed = 7, .threads = fixture_threads, .inference = true};
        cw_part *a, *b;
        assert_ok_err(cw_part_create(model, 0, cut.layer, &o, &a, &err), err);
        assert_ok_err(cw_part_create(model, cut.layer, cw_model_layer_count(model), &o, &b, &err), err);
        float *z = cwi_alloc(N * fixture_count(cut.smashed), sizeof *z);
        assert_ok_err(cw_part_forward(a, CW_EVAL, x, N, z, &err), err);
        assert_ok_err(cw_part_forward(b, CW_EVAL, z, N, got, &err), err);
        assert_same_bits(got, expected, N * CLASSES, "evaluation");
        if (cut.non_negative) {
            for (size_t j = 0; j < N * fixture_count(cut.smashed); j++)
                assert_true(z[j] >= 0);
        }
        cwi_free(z);
        cw_part_destroy(&a);
        cw_part_destroy(&b);
    }
    cw_part_destroy(&whole);
    cwi_free(x);
    cw_model_close(&model);
}

/* A short batch in a part planned for more gives what a part planned for it gives, and the run is repeatable. */
static void test_short_batches_and_repeats(void **state)
{
    (void)state;
    cw_model *model = fixture_model("cnn", 1, 28, 28, 10, "relu");
    float *x = fixture_noise(16 * 28 * 28, 1);
    int32_t *labels = fixture_labels(16, 10, 2);
    for (size_t n = 1; n <= 13; n += n < 3 ? 1 : 5) {
        run tight = run_whole(model, n, x, labels, n), roomy = run_whole(model, 16, x, labels, n);
        assert_memory_equal(&tight.loss, &roomy.loss, sizeof tight.loss);
        assert_same_bits(tight.grads, roomy.grads, tight.size, "short batch");
        free_run(&tight);
        free_run(&roomy);
    }
    cwi_free(x);
    cwi_free(labels);
    cw_model_close(&model);
}

/* One part through many batch sizes: planned ones are evicted and come back. */
static void test_many_batch_sizes(void **state)
{
    (void)state;
    enum { MAX = 24 };
    cw_error err;
    cw_model *model = fixture_model("cnn", 1, 16, 16, 10, "relu");
    cw_part *part = fixture_whole(model, MAX);
    float *x = fixture_noise(MAX * 16 * 16, 1), logits[MAX * 10], again[MAX * 10];
    assert_ok_err(cw_part_forward(part, CW_EVAL, x, 3, logits, &err), err);
    for (size_t n = 1; n <= MAX; n++)
        assert_ok_err(cw_part_forward(part, CW_EVAL, x, n, again, &err), err);
    assert_ok_err(cw_part_forward(part, CW_EVAL, x, 3, again, &err), err);
    assert_same_bits(logits, again, 3 * 10, "after eviction");
    cwi_free(x);
    cw_part_destroy(&part);
    cw_model_close(&model);
}

/* ---- sums of gradients ---- */

static void gradients(cw_part *part, const float *x, const int32_t *labels, size_t n, float *out)
{
    cw_error err;
    cw_loss loss;
    assert_ok_err(cw_part_forward(part, CW_TRAIN, x, n, NULL, &err), err);
    assert_ok_err(cw_part_loss(part, labels, n, &loss, &err), err);
    assert_ok_err(cw_part_backward(part, NULL, NULL, &err), err);
    cw_part_export_grads(part, out);
}

static void test_gradient_sums(void **state)
{
    (void)state;
    enum { N = 4 };
    cw_model *model = fixture_model("cnn", 1, 16, 16, 10, "relu");
    cw_part *part = fixture_whole(model, N);
    float *x = fixture_noise(2 * N * 256, 1);
    int32_t *labels = fixture_labels(2 * N, 10, 2);
    size_t size = cw_part_trainable_size(part);
    float *a = cwi_alloc(size, sizeof *a), *b = cwi_alloc(size, sizeof *b), *sum = cwi_alloc(size, sizeof *sum);
    assert_status(cw_part_grad_sum_add(part, 1), CW_ERR_INVALID);
    assert_ok(cw_part_grad_sum_clear(part));
    assert_status(cw_part_grad_sum_replace(part, 1), CW_ERR_INVALID);
    gradients(part, x, labels, N, a);
    assert_ok(cw_part_grad_sum_add(part, 1));
    assert_ok(cw_part_grad_sum_replace(part, 1));
    cw_part_export_grads(part, sum);
    assert_same_bits(sum, a, size, "a sum of one");
    gradients(part, x + N * 256, labels + N, N, b);
    assert_ok(cw_part_grad_sum_add(part, 3));
    assert_ok(cw_part_grad_sum_replace(part, 0.25f));
    cw_part_export_grads(part, sum);
    for (size_t i = 0; i < size; i++)
        assert_true(sum[i] == 0.25f * (a[i] + 3 * b[i]));
    cw_part_import_grads(part, a);
    cw_part_export_grads(part, sum);
    assert_same_bits(sum, a, size, "gradients there and back");
    cwi_free(a);
    cwi_free(b);
    cwi_free(sum);
    cwi_free(x);
    cwi_free(labels);
    cw_part_destroy(&part);
    cw_model_close(&model);
}

/* ---- weights in and out ---- */

static void test_state_there_and_back(void **state)
{
    (void)state;
    enum { N = 4 };
    cw_error err;
    cw_model *model = fixture_model("cnn", 3, 32, 32, 10, "relu");
    cw_part *part = fixture_whole(model, N);
    float *x = fixture_noise(N * 3 * 32 * 32, 1), before[N * 10], after[N * 10];
    int32_t *labels = fixture_labels(N, 10, 2);
    float *scratch = cwi_alloc(cw_part_trainable_size(part), sizeof *scratch);
    gradients(part, x, labels, N, scratch); /* moves the running statistics */
    assert_ok_err(cw_part_forward(part, CW_EVAL, x, N, before, &err), err);
    cw_named_tensor *items;
    size_t count, size;
    uint8_t *bytes;
    cw_tensor_set set;
    assert_ok_err(cw_part_state_export(part, &items, &count, &err), err);
    assert_int_equal(count, cw_part_param_count(part));
    assert_ok_err(cw_safetensors_encode(items, count, NULL, &bytes, &size, &err), err);
    assert_ok_err(cw_safetensors_decode(bytes, size, &set, &err), err);
    /* another seed's server half takes its share of the whole model's file */
    cw_part_options o = {.max_batch = N, .seed = 99, .threads = fixture_threads, .inference = true};
    cw_part *other;
    assert_ok_err(cw_part_create(model, 0, cw_model_layer_count(model), &o, &other, &err), err);
    assert_ok_err(cw_part_state_import(other, &set, &err), err);
    assert_ok_err(cw_part_forward(other, CW_EVAL, x, N, after, &err), err);
    assert_same_bits(before, after, N * 10, "imported weights");
    for (size_t i = 0; i < count; i++) {
        if (strcmp(set.items[i].name, "features.1.running_var") == 0)
            set.items[i].name[0] = 'x';
    }
    assert_status(cw_part_state_import(other, &set, &err), CW_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "features.1.running_var"));
    cw_tensor_set_free(&set);
    cw_bytes_free(bytes);
    cw_named_tensors_free(items, count);
    cw_part_destroy(&other);
    cw_part_destroy(&part);
    cwi_free(x);
    cwi_free(labels);
    cwi_free(scratch);
    cw_model_close(&model);
}

static size_t elements(const cw_tensor *t)
{
    size_t count;
    assert_ok(cw_shape_count(&t->shape, &count));
    return count;
}

/* A network for 7 classes begins with one for 10: all but the classifier; other differences are refused. */
static void test_weights_for_other_classes(void **state)
{
    (void)state;
    cw_error err;
    bool kept;
    cw_model *ten = fixture_model("cnn", 3, 32, 32, 10, "relu"), *seven = fixture_model("cnn", 3, 32, 32, 7, "relu");
    cw_part *from = fixture_whole(ten, 2), *to = fixture_whole(seven, 2);
    cw_named_tensor *items, *before, *after;
    size_t count;
    assert_ok_err(cw_part_state_export(to, &before, &count, &err), err);
    assert_ok_err(cw_part_state_export(from, &items, &count, &err), err);
    for (size_t i = 0; i < count; i++) /* unlike what either began with */
        for (size_t k = 0; k < elements(&items[i].tensor); k++)
            ((float *)items[i].tensor.data)[k] += 1.5f;
    cw_tensor_set set = {.items = items, .count = count};
    assert_status(cw_part_state_import(to, &set, &err), CW_ERR_MISMATCH);
    assert_ok_err(cw_part_weights_import(to, &set, &kept, &err), err);
    assert_true(kept);
    assert_ok_err(cw_part_state_export(to, &after, &count, &err), err);
    for (size_t i = 0; i < count; i++) {
        const cw_tensor *want =
            i + 2 < count ? &items[i].tensor : &before[i].tensor; /* its weight and bias come last */
        assert_true(cw_shape_equal(&after[i].tensor.shape, &want->shape));
        assert_same_bits(after[i].tensor.data, want->data, elements(want), after[i].name);
    }
    assert_ok_err(cw_part_weights_import(from, &set, &kept, &err), err);
    assert_false(kept);
    cw_shape *first = &items[0].tensor.shape;
    first->dim[0]--;
    assert_status(cw_part_weights_import(to, &set, &kept, &err), CW_ERR_MISMATCH);
    assert_non_null(strstr(err.message, items[0].name));
    first->dim[0]++;
    cw_named_tensors_free(items, count);
    cw_named_tensors_free(before, count);
    cw_named_tensors_free(after, count);
    cw_part_destroy(&from);
    cw_part_destroy(&to);
    cw_model_close(&ten);
    cw_model_close(&seven);
}

static void test_flat_there_and_back(void **state)
{
    (void)state;
    cw_model *model = fixture_model("cnn", 3, 32, 32, 10, "relu");
    cw_part *a = fixture_whole(model, 4);
    cw_part_options o = {.max_batch = 3, .seed = 8};
    cw_part *b;
    assert_ok(cw_part_create(model, 0, cw_model_layer_count(model), &o, &b, NULL));
    cw_model_close(&model); /* parts keep what they need of it */
    size_t size = cw_part_trainable_size(a), buffers = cw_part_buffer_size(a);
    float *wa = cwi_alloc(size, sizeof *wa), *wb = cwi_alloc(size, sizeof *wb);
    cw_part_export_weights(a, wa);
    cw_part_export_weights(b, wb);
    assert_true(memcmp(wa, wb, size * sizeof *wa) != 0);
    cw_part_import_weights(b, wa);
    cw_part_export_weights(b, wb);
    assert_same_bits(wa, wb, size, "weights");
    float *noise = fixture_noise(buffers, 3), *back = cwi_alloc(buffers, sizeof *back);
    cw_part_import_buffers(b, noise);
    cw_part_export_buffers(b, back);
    assert_same_bits(noise, back, buffers, "buffers");
    cwi_free(wa);
    cwi_free(wb);
    cwi_free(noise);
    cwi_free(back);
    cw_part_destroy(&a);
    cw_part_destroy(&b);
}

/* ---- the optimizer ---- */

static void test_sgd_is_pytorchs(void **state)
{
    (void)state;
    cw_error err;
    cw_model *model = fixture_model("cnn", 1, 16, 16, 10, "relu");
    for (int nesterov = 0; nesterov < 2; nesterov++) {
        cw_part *part = fixture_whole(model, 2);
        size_t size = cw_part_trainable_size(part);
        cw_optimizer *sgd;
        cw_optimizer_options o = {.momentum = 0.9f, .weight_decay = 0.01f, .nesterov = nesterov};
        assert_ok_err(cw_optimizer_create(part, &o, &sgd, &err), err);
        float *w = cwi_alloc(size, sizeof *w), *v = cwi_calloc(size, sizeof *v), *got = cwi_alloc(size, sizeof *got);
        cw_part_export_weights(part, w);
        for (uint64_t step = 0; step < 3; step++) {
            float *g = fixture_noise(size, step);
            cw_part_import_grads(part, g);
            assert_ok(cw_optimizer_step(sgd, 0.1f));
            for (size_t i = 0; i < size; i++) {
                float d = g[i] + 0.01f * w[i];
                v[i] = 0.9f * v[i] + d;
                w[i] -= 0.1f * (nesterov ? d + 0.9f * v[i] : v[i]);
            }
            cwi_free(g);
        }
        cw_part_export_weights(part, got);
        assert_same_bits(got, w, size, "weights after three steps");
        cw_optimizer_export(sgd, 0, got);
        assert_same_bits(got, v, size, "momentum");
        cw_optimizer_import(sgd, 0, w);
        cw_optimizer_export(sgd, 0, got);
        assert_same_bits(got, w, size, "imported momentum");
        cw_optimizer_destroy(&sgd);
        cw_part_destroy(&part);
        cwi_free(w);
        cwi_free(v);
        cwi_free(got);
    }
    cw_model_close(&model);
}

/* Gradients of 1: batch norm's biases move 64 times as far, and decay as the others do. */
static void test_biases_of_batch_norm_have_a_rate_of_their_own(void **state)
{
    (void)state;
    cw_error err;
    cw_model *model = fixture_model("cnn", 1, 16, 16, 10, "relu");
    cw_part *part = fixture_whole(model, 2);
    size_t size = cw_part_trainable_size(part), count, fast = 0, slow = 0;
    float *ones = cwi_alloc(size, sizeof *ones);
    for (size_t i = 0; i < size; i++)
        ones[i] = 1;
    cw_part_import_grads(part, ones);
    cw_part_import_weights(part, ones); /* so that biases have something to decay */
    cw_optimizer *sgd;
    cw_named_tensor *items;
    cw_optimizer_options o = {.weight_decay = 0.5f, .bias_lr = 64};
    assert_ok_err(cw_optimizer_create(part, &o, &sgd, &err), err);
    assert_ok(cw_optimizer_step(sgd, 0.125f));
    assert_ok_err(cw_part_state_export(part, &items, &count, &err), err);
    for (size_t i = 0; i < count; i++) {
        if (strstr(items[i].name, "running"))
            continue;
        const bool norm = i + 1 < count && strstr(items[i + 1].name, "running_mean"); /* its bias comes before */
        const float *w = items[i].tensor.data, want = 1 - 0.125f * (norm ? 64 : 1) - 0.125f * 0.5f;
        for (size_t k = 0; k < elements(&items[i].tensor); k++)
            assert_true(w[k] == want);
        fast += norm;
        slow += !norm;
    }
    assert_true(fast > 0 && slow > fast);
    cw_named_tensors_free(items, count);
    cw_optimizer_destroy(&sgd);
    cwi_free(ones);
    cw_part_destroy(&part);
    cw_model_close(&model);
}

/* In double precision, the formulas of PyTorch's documentation. */
static void adam_reference(const cw_optimizer_options *o, int step, double lr, size_t size, const float *g, double *w,
                           double *m, double *v)
{
    for (size_t i = 0; i < size; i++) {
        double d = g[i];
        if (o->kind == CW_ADAMW)
            w[i] -= lr * (double)o->weight_decay * w[i];
        else
            d += (double)o->weight_decay * w[i];
        m[i] = 0.9 * m[i] + 0.1 * d;
        v[i] = 0.999 * v[i] + 0.001 * d * d;
        w[i] -= lr * m[i] / (1 - pow(0.9, step)) / (sqrt(v[i] / (1 - pow(0.999, step))) + 1e-8);
    }
}

static void test_adam_is_pytorchs(void **state)
{
    (void)state;
    cw_error err;
    cw_model *model = fixture_model("cnn", 1, 16, 16, 10, "relu");
    for (int k = 0; k < 2; k++) {
        cw_part *part = fixture_whole(model, 2), *resumed = fixture_whole(model, 2);
        size_t size = cw_part_trainable_size(part);
        cw_optimizer *adam, *again;
        cw_optimizer_options o = {.kind = k ? CW_ADAMW : CW_ADAM, .momentum = 0.9f, .weight_decay = 0.05f};
        assert_ok_err(cw_optimizer_create(part, &o, &adam, &err), err);
        assert_ok_err(cw_optimizer_create(resumed, &o, &again, &err), err);
        assert_int_equal(cw_optimizer_slots(adam), 2);
        float *got = cwi_alloc(size, sizeof *got), *other = cwi_alloc(size, sizeof *other);
        double *w = cwi_alloc(size, sizeof *w), *m = cwi_calloc(size, sizeof *m), *v = cwi_calloc(size, sizeof *v);
        cw_part_export_weights(part, got);
        for (size_t i = 0; i < size; i++)
            w[i] = got[i];
        for (int step = 1; step <= 5; step++) {
            float *g = fixture_noise(size, (uint64_t)step);
            if (step == 4) { /* goes on elsewhere, to the bit */
                cw_part_export_weights(part, got);
                cw_part_import_weights(resumed, got);
                for (size_t slot = 0; slot < 2; slot++) {
                    cw_optimizer_export(adam, slot, got);
                    cw_optimizer_import(again, slot, got);
                }
                cw_optimizer_set_steps(again, cw_optimizer_steps(adam));
            }
            cw_part_import_grads(part, g);
            cw_part_import_grads(resumed, g);
            assert_ok(cw_optimizer_step(adam, 0.01f));
            if (step >= 4)
                assert_ok(cw_optimizer_step(again, 0.01f));
            adam_reference(&o, step, 0.01, size, g, w, m, v);
            cwi_free(g);
        }
        cw_part_export_weights(part, got);
        cw_part_export_weights(resumed, other);
        assert_same_bits(other, got, size, "weights of the optimizer that was restored");
        for (size_t i = 0; i < size; i++)
            if (fabs((double)got[i] - w[i]) > 2e-6 * (1 + fabs(w[i])))
                fail_msg("weight %zu is %.9g, not %.9g", i, (double)got[i], w[i]);
        cw_optimizer_destroy(&adam);
        cw_optimizer_destroy(&again);
        cw_part_destroy(&part);
        cw_part_destroy(&resumed);
        cwi_free(got);
        cwi_free(other);
        cwi_free(w);
        cwi_free(m);
        cwi_free(v);
    }
    cw_model_close(&model);
}

static void test_optimizers_are_refused_what_makes_no_sense(void **state)
{
    (void)state;
    cw_error err;
    cw_optimizer_kind kind;
    cw_optimizer *optimizer;
    cw_model *model = fixture_model("cnn", 1, 16, 16, 10, "relu");
    cw_part *part = fixture_whole(model, 2);
    static const cw_optimizer_options bad[] = {{.kind = (cw_optimizer_kind)7},
                                               {.momentum = 1.0f},
                                               {.weight_decay = -1.0f},
                                               {.nesterov = true},
                                               {.kind = CW_ADAM, .momentum = 0.9f, .nesterov = true},
                                               {.kind = CW_ADAM, .beta2 = 1.5f},
                                               {.bias_lr = -1.0f},
                                               {.bias_lr = NAN}};
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        assert_status(cw_optimizer_create(part, &bad[i], &optimizer, &err), CW_ERR_INVALID);
        assert_null(optimizer);
    }
    assert_ok_err(cw_optimizer_parse("adamw", &kind, &err), err);
    assert_int_equal(kind, CW_ADAMW);
    assert_status(cw_optimizer_parse("lamb", &kind, &err), CW_ERR_SPEC);
    assert_non_null(strstr(err.message, "sgd, adam, adamw"));
    cw_part_destroy(&part);
    cw_model_close(&model);
}

/* ---- bad input ---- */

static void test_unknown_names(void **state)
{
    (void)state;
    cw_error err;
    cw_model *model;
    cw_model_options o = {.sample = {.ndim = 3, .dim = {1, 28, 28}}, .classes = 10};
    assert_status(cw_model_open("alexnet", &o, &model, &err), CW_ERR_SPEC);
    assert_null(model);
    assert_non_null(strstr(err.message, "alexnet"));
    assert_non_null(strstr(err.message, "cnn"));
    o.activation = "swosh";
    assert_status(cw_model_open("cnn", &o, &model, &err), CW_ERR_SPEC);
    assert_non_null(strstr(err.message, "leaky_relu"));
    o.activation = NULL;
    o.sample.dim[1] = 4;
    assert_status(cw_model_open("cnn", &o, &model, &err), CW_ERR_INVALID);
    assert_non_null(strstr(err.message, "1x4x28"));
    o.sample.dim[1] = 28;
    o.classes = 1;
    assert_status(cw_model_open("cnn", &o, &model, &err), CW_ERR_INVALID);
    model = fixture_model("cnn", 1, 28, 28, 10, NULL);
    cw_cut cut;
    assert_ok(cw_model_cut(model, "shallow", &cut, &err));
    assert_int_equal(cut.number, 2);
    assert_true(cut.non_negative);
    static const char *const bad[] = {"0", "7", "-1", "", "2x", "shallower"};
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        assert_status(cw_model_cut(model, bad[i], &cut, &err), CW_ERR_SPEC);
        assert_non_null(strstr(err.message, "2 (shallow)"));
    }
    cw_model_close(&model);
    cw_model_close(&model);
    cw_model_close(NULL);
}

static void test_cut_two_is_light(void **state)
{
    (void)state;
    cw_model *model = fixture_model("cnn", 1, 28, 28, 10, NULL);
    cw_cut cut;
    assert_ok(cw_model_cut(model, "2", &cut, NULL));
    cw_part *client = fixture_part(model, 0, cut.layer, 4);
    assert_int_equal(fixture_count(cut.smashed), 16 * 28 * 28);
    assert_true(cw_part_trainable_size(client) < 2600);
    cw_part_destroy(&client);
    cw_model_close(&model);
}

static void test_bad_calls(void **state)
{
    (void)state;
    cw_error err;
    cw_model *model = fixture_model("cnn", 1, 16, 16, 10, NULL);
    cw_part *part = fixture_whole(model, 4);
    float *x = fixture_noise(4 * 256, 1);
    int32_t labels[4] = {0, 9, 10, 3};
    cw_loss loss;
    assert_status(cw_part_loss(part, labels, 4, &loss, &err), CW_ERR_INVALID); /* before any forward */
    assert_status(cw_part_forward(part, CW_TRAIN, x, 5, NULL, &err), CW_ERR_INVALID);
    assert_status(cw_part_forward(part, CW_TRAIN, x, 0, NULL, &err), CW_ERR_INVALID);
    assert_status(cw_part_backward(part, NULL, NULL, &err), CW_ERR_INVALID);
    assert_ok_err(cw_part_forward(part, CW_TRAIN, x, 4, NULL, &err), err);
    assert_status(cw_part_loss(part, labels, 4, &loss, &err), CW_ERR_INVALID);
    assert_int_equal(err.offset, 2);
    assert_non_null(strstr(err.message, "label 10"));
    assert_status(cw_part_loss(part, labels, 3, &loss, &err), CW_ERR_INVALID);
    assert_status(cw_part_backward(part, NULL, NULL, &err), CW_ERR_INVALID); /* no loss yet */
    labels[2] = 0;
    assert_ok_err(cw_part_loss(part, labels, 4, &loss, &err), err);
    assert_status(cw_part_backward(part, NULL, x, &err), CW_ERR_INVALID); /* no input_grad */
    assert_ok_err(cw_part_backward(part, NULL, NULL, &err), err);
    assert_status(cw_part_backward(part, NULL, NULL, &err), CW_ERR_INVALID);
    x[100] = NAN;
    assert_status(cw_part_forward(part, CW_TRAIN, x, 4, NULL, &err), CW_ERR_DIVERGED);
    assert_non_null(strstr(err.message, "features.1"));
    x[100] = 0;
    assert_ok_err(cw_part_forward(part, CW_EVAL, x, 4, NULL, &err), err); /* the running statistics are unharmed */
    assert_ok_err(cw_part_loss(part, labels, 4, &loss, &err), err);
    float *weights = cwi_alloc(cw_part_trainable_size(part), sizeof *weights);
    cw_part_export_weights(part, weights);
    weights[cw_part_trainable_size(part) - 1] = NAN;
    cw_part_import_weights(part, weights);
    assert_ok_err(cw_part_forward(part, CW_TRAIN, x, 4, NULL, &err), err);
    assert_status(cw_part_loss(part, labels, 4, &loss, &err), CW_ERR_DIVERGED);
    cwi_free(weights);
    cw_part_destroy(&part);
    cw_part_options o = {.max_batch = 4};
    assert_status(cw_part_create(model, 0, 2, &o, &part, &err), CW_ERR_INVALID); /* batch norm without its ReLU */
    assert_null(part);
    assert_status(cw_part_create(model, 3, 3, &o, &part, &err), CW_ERR_INVALID);
    assert_status(cw_part_create(model, 0, 99, &o, &part, &err), CW_ERR_INVALID);
    o.max_batch = 0;
    assert_status(cw_part_create(model, 0, 3, &o, &part, &err), CW_ERR_INVALID);
    cwi_free(x);
    cw_model_close(&model);
}

/* ---- measuring ---- */

static void test_measuring_leaves_results_alone(void **state)
{
    (void)state;
    enum { N = 4 };
    cw_error err;
    double bare = 0;
    cw_model *model = fixture_model("cnn", 1, 16, 16, 10, "relu");
    cw_part *part = fixture_whole(model, N);
    float *x = fixture_noise(N * 256, 1);
    int32_t *labels = fixture_labels(N, 10, 2);
    size_t size = cw_part_trainable_size(part);
    float *a = cwi_alloc(size, sizeof *a), *b = cwi_alloc(size, sizeof *b);
    assert_ok_err(cw_part_bare_seconds(part, &bare, &err), err); /* before anything has run */
    gradients(part, x, labels, N, a);
    cw_part_profile_start(part);
    gradients(part, x, labels, N, b);
    cw_profile p = cw_part_profile_stop(part);
    assert_same_bits(a, b, size, "profiled gradients");
    assert_true(p.conv > 0 && p.norm > 0 && p.matmul > 0 && p.pool > 0);
    assert_ok_err(cw_part_bare_seconds(part, &bare, &err), err);
    assert_true(bare > 0);
    assert_status(cw_part_backward(part, NULL, NULL, &err), CW_ERR_INVALID);
    gradients(part, x, labels, N, b);
    assert_same_bits(a, b, size, "gradients after bare steps");
    assert_true(cw_part_memory(part) > 2 * size * sizeof(float));
    cwi_free(a);
    cwi_free(b);
    cwi_free(x);
    cwi_free(labels);
    cw_part_destroy(&part);
    cw_model_close(&model);
}

/* ---- out of memory: every allocation of a part's creation fails once; nothing leaks (the sanitizers look) ---- */

static void test_out_of_memory(void **state)
{
    (void)state;
    cw_error err;
    for (oom_scan scan = {0}; !scan.done;) {
        cw_model *model = NULL;
        cw_part *part = NULL;
        cw_model_options o = {.sample = {.ndim = 3, .dim = {1, 16, 16}}, .classes = 10};
        cw_part_options po = {.max_batch = 2, .seed = 1};
        oom_begin(&scan);
        cw_status s = cw_model_open("cnn", &o, &model, &err);
        if (s == CW_OK)
            s = cw_part_create(model, 0, cw_model_layer_count(model), &po, &part, &err);
        oom_end(&scan, s);
        cw_part_destroy(&part);
        cw_model_close(&model);
    }
}

static bool counts(void *ctx, size_t bytes)
{
    (void)bytes;
    ++*(int *)ctx;
    return false;
}

/* Once both batch sizes were seen. */
static void test_a_step_allocates_nothing(void **state)
{
    (void)state;
    enum { N = 6 };
    int allocations = 0;
    cw_model *model = fixture_model("resnet20", 3, 16, 16, 10, "relu");
    cw_part *part = fixture_part(model, 0, cw_model_layer_count(model), N);
    cw_optimizer *sgd;
    assert_ok(cw_optimizer_create(part, &(cw_optimizer_options){.momentum = 0.9f}, &sgd, NULL));
    float *x = fixture_noise(N * 3 * 16 * 16, 1);
    int32_t *labels = fixture_labels(N, 10, 2);
    for (int step = 0; step < 6; step++) {
        const size_t n = step % 2 ? N - 2 : N;
        cw_loss loss;
        if (step == 2)
            cwi_alloc_set_fault(counts, &allocations);
        assert_ok(cw_part_grad_sum_clear(part));
        assert_ok(cw_part_forward(part, CW_TRAIN, x, n, NULL, NULL));
        assert_ok(cw_part_loss(part, labels, n, &loss, NULL));
        assert_ok(cw_part_backward(part, NULL, NULL, NULL));
        assert_ok(cw_part_grad_sum_add(part, 1));
        assert_ok(cw_part_grad_sum_replace(part, 1));
        assert_ok(cw_optimizer_step(sgd, 0.1f));
    }
    cwi_alloc_set_fault(NULL, NULL);
    assert_int_equal(allocations, 0);
    cw_optimizer_destroy(&sgd);
    cw_part_destroy(&part);
    cwi_free(x);
    cwi_free(labels);
    cw_model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_halves_equal_whole),
        cmocka_unit_test(test_bf16_follows_fp32),
        cmocka_unit_test(test_precision_names),
        cmocka_unit_test(test_cuts_of_the_papers_networks),
        cmocka_unit_test(test_evaluation_equals_whole),
        cmocka_unit_test(test_short_batches_and_repeats),
        cmocka_unit_test(test_many_batch_sizes),
        cmocka_unit_test(test_gradient_sums),
        cmocka_unit_test(test_state_there_and_back),
        cmocka_unit_test(test_weights_for_other_classes),
        cmocka_unit_test(test_flat_there_and_back),
        cmocka_unit_test(test_sgd_is_pytorchs),
        cmocka_unit_test(test_biases_of_batch_norm_have_a_rate_of_their_own),
        cmocka_unit_test(test_adam_is_pytorchs),
        cmocka_unit_test(test_optimizers_are_refused_what_makes_no_sense),
        cmocka_unit_test(test_unknown_names),
        cmocka_unit_test(test_cut_two_is_light),
        cmocka_unit_test(test_bad_calls),
        cmocka_unit_test(test_measuring_leaves_results_alone),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_a_step_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
