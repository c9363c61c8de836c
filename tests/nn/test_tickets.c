/* test_tickets.c - several forwards open in one part: each gives the bits of a part of its own, in whatever order the
 * ways back are gone; and sums of gradients within sums. */
#include "nn_split.h"
#include "out_of_memory.h"

enum { N = 4, TICKETS = 3, POSITION = 41 };

/* One forward and its way back, with everything that can be seen of it. */
typedef struct pass {
    float *x, *y, *dx, *grads;
    int32_t *labels;
    cw_loss loss;
} pass;

typedef struct net_case {
    const char *model, *input;
    cw_shape sample;
    size_t cut; /* the part begins behind this cut of the model; SIZE_MAX: at its beginning */
} net_case;

static const net_case nets[] = {
    {"cnn", NULL, {.ndim = 3, .dim = {3, 17, 19}}, SIZE_MAX},     /* batch norm, maximum's workspace, odd maps */
    {"resnet20", NULL, {.ndim = 3, .dim = {3, 16, 16}}, 1},       /* skips; behind a cut, with dx */
    {"textcnn", "tokens:30", {.ndim = 1, .dim = {20}}, SIZE_MAX}, /* embedding, maximum over time, dropout */
    {"textcnn", "tokens:30", {.ndim = 1, .dim = {20}}, 0},        /* dropout, with dx */
    {"mlp", "table:2/3/5", {.ndim = 1, .dim = {4}}, SIZE_MAX},    /* categories */
    {"resnet9s", NULL, {.ndim = 3, .dim = {3, 16, 16}}, 0},       /* images side by side */
};

static cw_model *model_of(const net_case *c)
{
    cw_error err;
    cw_model *model;
    cw_model_options o = {.sample = c->sample, .classes = 5, .input = c->input};
    assert_ok_err(cw_model_open(c->model, &o, &model, &err), err);
    return model;
}

static cw_part *part_of(const cw_model *model, const net_case *c, size_t in_flight)
{
    cw_error err;
    cw_part *part;
    cw_part_options o = {.max_batch = N,
                         .seed = 7,
                         .threads = fixture_threads,
                         .input_grad = c->cut != SIZE_MAX,
                         .precision = fixture_precision,
                         .label_smoothing = 0.1f,
                         .in_flight = in_flight};
    size_t first = c->cut == SIZE_MAX ? 0 : cw_model_cut_at(model, c->cut).layer;
    assert_ok_err(cw_part_create(model, first, cw_model_layer_count(model), &o, &part, &err), err);
    assert_int_equal(cw_part_in_flight(part), CWI_MAX(in_flight, 1));
    cw_part_set_position(part, POSITION);
    return part;
}

static pass pass_for(const cw_part *part, const net_case *c, uint64_t seed)
{
    size_t in = N * fixture_count(cw_part_in_shape(part)), out = N * fixture_count(cw_part_out_shape(part));
    pass p = {.x = fixture_noise(in, seed), .labels = fixture_labels(N, 5, seed)};
    for (size_t i = 0; c->input && c->cut == SIZE_MAX && i < in; i++)
        p.x[i] = floorf(fabsf(3 * p.x[i])); /* words, categories */
    p.y = cwi_calloc(out, sizeof *p.y);
    p.dx = cwi_calloc(in, sizeof *p.dx);
    p.grads = cwi_calloc(cw_part_trainable_size(part), sizeof *p.grads);
    return p;
}

static void pass_free(pass *p)
{
    cwi_free(p->x);
    cwi_free(p->y);
    cwi_free(p->dx);
    cwi_free(p->grads);
    cwi_free(p->labels);
}

static void go_forward(cw_part *part, size_t ticket, pass *p, size_t n)
{
    cw_error err;
    assert_ok_err(cw_part_select(part, ticket, &err), err);
    assert_ok_err(cw_part_forward(part, CW_TRAIN, p->x, n, p->y, &err), err);
}

static void go_back(cw_part *part, size_t ticket, pass *p, size_t n, bool dx)
{
    cw_error err;
    assert_ok_err(cw_part_select(part, ticket, &err), err);
    assert_ok_err(cw_part_loss(part, p->labels, n, &p->loss, &err), err);
    assert_ok_err(cw_part_backward(part, NULL, dx ? p->dx : NULL, &err), err);
    cw_part_export_grads(part, p->grads);
}

static void assert_same_pass(const cw_part *part, const pass *got, const pass *want, size_t n, const char *what)
{
    assert_same_bits(got->y, want->y, n * fixture_count(cw_part_out_shape(part)), what);
    assert_same_bits(got->dx, want->dx, n * fixture_count(cw_part_in_shape(part)), what);
    assert_same_bits(got->grads, want->grads, cw_part_trainable_size(part), what);
    assert_memory_equal(&got->loss.mean, &want->loss.mean, sizeof got->loss.mean);
    assert_int_equal(got->loss.correct, want->loss.correct);
}

/* The number of samples of pass i: a short batch among full ones. */
static size_t samples_of(size_t i)
{
    return i == 1 ? N - 1 : N;
}

/* Each pass in a part of its own with the same weights, where its position is that of the i-th forward. */
static void run_alone(const cw_model *model, const net_case *c, pass *passes)
{
    for (size_t i = 0; i < TICKETS; i++) {
        cw_part *part = part_of(model, c, 0);
        cw_part_set_position(part, POSITION + i);
        go_forward(part, 0, &passes[i], samples_of(i));
        go_back(part, 0, &passes[i], samples_of(i), c->cut != SIZE_MAX);
        cw_part_destroy(&part);
    }
}

/* An evaluation between the ways, by the ticket that is free. */
static void evaluate(cw_part *part, size_t ticket, const pass *p, float *y)
{
    cw_error err;
    cw_loss loss;
    assert_ok_err(cw_part_select(part, ticket, &err), err);
    assert_ok_err(cw_part_forward(part, CW_EVAL, p->x, N, y, &err), err);
    assert_ok_err(cw_part_loss(part, p->labels, N, &loss, &err), err);
}

/* All open at once, ways back in the given order, an evaluation after the first of them. */
static void run_together(cw_part *part, const net_case *c, const size_t order[TICKETS], pass *passes, float *y)
{
    for (size_t i = 0; i < TICKETS; i++)
        go_forward(part, i, &passes[i], samples_of(i));
    for (size_t k = 0; k < TICKETS; k++) {
        go_back(part, order[k], &passes[order[k]], samples_of(order[k]), c->cut != SIZE_MAX);
        if (k == 0)
            evaluate(part, order[k], &passes[0], y);
    }
}

/* What running statistics are after the same forwards, one after the other, in a part with one ticket. */
static void assert_statistics(const cw_model *model, const net_case *c, cw_part *part, pass *passes, const float *y)
{
    cw_part *serial = part_of(model, c, 1);
    size_t size = cw_part_buffer_size(part), out = N * fixture_count(cw_part_out_shape(part));
    float *want = cwi_calloc(size, sizeof *want), *got = cwi_calloc(size, sizeof *got);
    float *evaluated = cwi_calloc(out, sizeof *evaluated);
    for (size_t i = 0; i < TICKETS; i++)
        go_forward(serial, 0, &passes[i], samples_of(i));
    assert_int_equal(cw_part_position(serial), POSITION + TICKETS);
    assert_int_equal(cw_part_position(part), POSITION + TICKETS);
    cw_part_export_buffers(serial, want);
    cw_part_export_buffers(part, got);
    assert_same_bits(got, want, size, "running statistics");
    evaluate(serial, 0, &passes[0], evaluated);
    assert_same_bits(y, evaluated, out, "an evaluation between");
    cwi_free(want);
    cwi_free(got);
    cwi_free(evaluated);
    cw_part_destroy(&serial);
}

static void check_net(const net_case *c)
{
    static const size_t orders[][TICKETS] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}};
    cw_model *model = model_of(c);
    pass alone[TICKETS], together[TICKETS];
    for (size_t o = 0; o < CWI_COUNT(orders); o++) {
        cw_part *part = part_of(model, c, TICKETS);
        float *y = cwi_calloc(N * fixture_count(cw_part_out_shape(part)), sizeof *y);
        for (size_t i = 0; i < TICKETS; i++) {
            alone[i] = pass_for(part, c, i + 1);
            together[i] = pass_for(part, c, i + 1);
        }
        run_alone(model, c, alone);
        run_together(part, c, orders[o], together, y);
        for (size_t i = 0; i < TICKETS; i++)
            assert_same_pass(part, &together[i], &alone[i], samples_of(i), c->model);
        assert_statistics(model, c, part, together, y);
        for (size_t i = 0; i < TICKETS; i++) {
            pass_free(&alone[i]);
            pass_free(&together[i]);
        }
        cwi_free(y);
        cw_part_destroy(&part);
    }
    cw_model_close(&model);
}

static void test_open_forwards_are_parts_of_their_own(void **state)
{
    (void)state;
    for (size_t i = 0; i < CWI_COUNT(nets); i++)
        check_net(&nets[i]);
    fixture_threads = 2;
    check_net(&nets[0]);
    fixture_threads = 1;
}

static void test_open_forwards_in_bf16(void **state)
{
    (void)state;
    if (!fixture_has_bf16()) {
        printf("SKIP: this CPU does not multiply bf16\n");
        skip();
    }
    fixture_precision = CW_PRECISION_BF16;
    for (size_t i = 0; i < CWI_COUNT(nets); i++)
        check_net(&nets[i]);
    fixture_precision = CW_PRECISION_FP32;
}

/* A way back whose gradient comes from outside, as a client's does. */
static void test_gradients_from_outside(void **state)
{
    (void)state;
    cw_error err;
    cw_model *model = fixture_model("cnn", 3, 16, 16, 10, "relu");
    cw_part_options o = {.max_batch = N, .seed = 7, .threads = 1, .in_flight = 2};
    cw_part *part;
    assert_ok_err(cw_part_create(model, 0, cw_model_cut_at(model, 1).layer, &o, &part, &err), err);
    cw_part *other = fixture_part(model, 0, cw_model_cut_at(model, 1).layer, N);
    size_t size = cw_part_trainable_size(part), in = N * 3 * 256;
    size_t out = N * fixture_count(cw_part_out_shape(part));
    float *got = cwi_alloc(size, sizeof *got), *want = cwi_alloc(size, sizeof *want), *x[2], *dy[2];
    for (size_t t = 0; t < 2; t++) {
        x[t] = fixture_noise(in, t);
        dy[t] = fixture_noise(out, 10 + t);
        assert_ok_err(cw_part_select(part, t, &err), err);
        assert_ok_err(cw_part_forward(part, CW_TRAIN, x[t], N, NULL, &err), err);
    }
    for (size_t t = 0; t < 2; t++) {
        assert_ok_err(cw_part_select(part, t, &err), err);
        assert_ok_err(cw_part_backward(part, dy[t], NULL, &err), err);
        cw_part_export_grads(part, got);
        assert_ok_err(cw_part_forward(other, CW_TRAIN, x[t], N, NULL, &err), err);
        assert_ok_err(cw_part_backward(other, dy[t], NULL, &err), err);
        cw_part_export_grads(other, want);
        assert_same_bits(got, want, size, "a client's gradient");
        cwi_free(x[t]);
        cwi_free(dy[t]);
    }
    cwi_free(got);
    cwi_free(want);
    cw_part_destroy(&part);
    cw_part_destroy(&other);
    cw_model_close(&model);
}

static void test_bad_tickets(void **state)
{
    (void)state;
    cw_error err;
    cw_loss loss;
    cw_model *model = model_of(&nets[0]);
    cw_part *part = part_of(model, &nets[0], 2);
    pass p = pass_for(part, &nets[0], 1);
    assert_status(cw_part_select(part, 2, &err), CW_ERR_INVALID);
    assert_non_null(strstr(err.message, "ticket 2 is not in 0..1"));
    assert_status(cw_part_select(NULL, 0, &err), CW_ERR_INVALID);
    go_forward(part, 1, &p, N);
    assert_status(cw_part_select(part, 99, NULL), CW_ERR_INVALID); /* 1 stays selected */
    assert_ok_err(cw_part_loss(part, p.labels, N, &loss, &err), err);
    assert_ok_err(cw_part_select(part, 0, &err), err); /* has no forward */
    assert_status(cw_part_loss(part, p.labels, N, &loss, &err), CW_ERR_INVALID);
    assert_status(cw_part_backward(part, NULL, NULL, &err), CW_ERR_INVALID);
    cw_part_release(part); /* nothing to release */
    assert_ok_err(cw_part_select(part, 1, &err), err);
    cw_part_release(part);
    cw_part_release(NULL);
    assert_status(cw_part_loss(part, p.labels, N, &loss, &err), CW_ERR_INVALID);
    assert_status(cw_part_backward(part, NULL, NULL, &err), CW_ERR_INVALID);
    go_forward(part, 1, &p, N);
    go_back(part, 1, &p, N, false);
    pass_free(&p);
    cw_part_destroy(&part);
    cw_part_options o = {.max_batch = 1, .in_flight = 257};
    assert_status(cw_part_create(model, 0, cw_model_layer_count(model), &o, &part, &err), CW_ERR_INVALID);
    assert_non_null(strstr(err.message, "in_flight"));
    cw_model_close(&model);
}

/* NaN in one ticket is that ticket's alone. */
static void test_divergence_stays_with_its_ticket(void **state)
{
    (void)state;
    cw_error err;
    cw_model *model = model_of(&nets[0]);
    cw_part *part = part_of(model, &nets[0], 2), *other = part_of(model, &nets[0], 1);
    pass good = pass_for(part, &nets[0], 1), bad = pass_for(part, &nets[0], 2), alone = pass_for(part, &nets[0], 1);
    bad.x[5] = NAN;
    go_forward(part, 0, &good, N);
    assert_ok_err(cw_part_select(part, 1, &err), err);
    assert_status(cw_part_forward(part, CW_TRAIN, bad.x, N, NULL, &err), CW_ERR_DIVERGED);
    go_back(part, 0, &good, N, false);
    go_forward(other, 0, &alone, N);
    go_back(other, 0, &alone, N, false);
    assert_same_pass(part, &good, &alone, N, "beside a ticket that diverged");
    pass_free(&good);
    pass_free(&bad);
    pass_free(&alone);
    cw_part_destroy(&part);
    cw_part_destroy(&other);
    cw_model_close(&model);
}

/* Tickets cost activations, nothing else. */
static void test_memory_of_tickets(void **state)
{
    (void)state;
    cw_model *model = model_of(&nets[1]);
    size_t bytes[3];
    for (size_t i = 0; i < 3; i++) {
        cw_part *part = part_of(model, &nets[1], i + 1);
        bytes[i] = cw_part_memory(part);
        size_t weights = 2 * sizeof(float) * cw_part_trainable_size(part);
        assert_true(i == 0 || bytes[i] - bytes[i - 1] <= bytes[0] - weights);
        cw_part_destroy(&part);
    }
    assert_int_equal(bytes[2] - bytes[1], bytes[1] - bytes[0]);
    cw_model_close(&model);
}

/* ---- sums ---- */

static void gradients(cw_part *part, pass *p)
{
    go_forward(part, 0, p, N);
    go_back(part, 0, p, N, false);
}

/* Of two clients: w_0 g_0 + w_1 g_1, in just these roundings. */
static void test_sums_are_weighted_in_order(void **state)
{
    (void)state;
    static const float weights[2] = {0.625f, 0.375f};
    cw_model *model = model_of(&nets[0]);
    cw_part *part = part_of(model, &nets[0], 1);
    const size_t size = cw_part_trainable_size(part), before = cw_part_memory(part);
    float *want = cwi_alloc(size, sizeof *want), *got = cwi_alloc(size, sizeof *got);
    assert_status(cw_part_grad_sum_add(part, 1), CW_ERR_INVALID); /* never cleared */
    assert_ok(cw_part_grad_sum_clear(part));
    assert_status(cw_part_grad_sum_replace(part, 1), CW_ERR_INVALID); /* nothing added */
    assert_true(cw_part_memory(part) >= before + size * sizeof(float));
    for (size_t c = 0; c < 2; c++) {
        pass p = pass_for(part, &nets[0], 10 * c);
        gradients(part, &p);
        assert_ok(cw_part_grad_sum_add(part, weights[c]));
        for (size_t i = 0; i < size; i++)
            want[i] = c ? want[i] + weights[c] * p.grads[i] : weights[c] * p.grads[i];
        pass_free(&p);
    }
    assert_ok(cw_part_grad_sum_replace(part, 1));
    cw_part_export_grads(part, got);
    assert_same_bits(got, want, size, "the sum over clients");
    cwi_free(want);
    cwi_free(got);
    cw_part_destroy(&part);
    cw_model_close(&model);
}

static void test_a_sum_of_one_is_exact(void **state)
{
    (void)state;
    cw_model *model = model_of(&nets[0]);
    cw_part *part = part_of(model, &nets[0], 1);
    pass p = pass_for(part, &nets[0], 3);
    size_t size = cw_part_trainable_size(part);
    float *got = cwi_alloc(size, sizeof *got);
    gradients(part, &p);
    p.grads[3] = -0.0f; /* 0 + -0 would be 0 */
    cw_part_import_grads(part, p.grads);
    assert_ok(cw_part_grad_sum_clear(part));
    assert_ok(cw_part_grad_sum_add(part, 1));
    assert_ok(cw_part_grad_sum_replace(part, 1));
    cw_part_export_grads(part, got);
    assert_same_bits(got, p.grads, size, "a sum of one");
    cwi_free(got);
    pass_free(&p);
    cw_part_destroy(&part);
    cw_part_options o = {.max_batch = 1, .inference = true};
    assert_ok(cw_part_create(model, 0, cw_model_layer_count(model), &o, &part, NULL));
    assert_status(cw_part_grad_sum_clear(part), CW_ERR_INVALID);
    assert_status(cw_part_grad_sum_clear(NULL), CW_ERR_INVALID);
    assert_true(cw_part_grad_peak(part) == 0); /* it has none */
    assert_ok(cw_part_check_finite(part, NULL));
    cw_part_destroy(&part);
    cw_model_close(&model);
}

/* ---- finite or not ---- */

static bool weights_finite(const cw_part *part)
{
    return cw_part_check_finite(part, NULL) == CW_OK;
}

static bool gradients_finite(const cw_part *part)
{
    return isfinite(cw_part_grad_peak(part));
}

static void check_finite(cw_part *part, bool (*finite)(const cw_part *), void (*put)(cw_part *, const float *),
                         void (*get)(const cw_part *, float *), size_t size)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float *flat = cwi_alloc(size, sizeof *flat);
    get(part, flat);
    const size_t places[] = {0, size / 2, size - 1};
    for (size_t b = 0; b < CWI_COUNT(bad); b++) {
        for (size_t i = 0; i < CWI_COUNT(places); i++) {
            float good = flat[places[i]];
            flat[places[i]] = bad[b];
            put(part, flat);
            assert_false(finite(part));
            flat[places[i]] = -3.4e38f; /* large is finite */
            put(part, flat);
            assert_true(finite(part));
            flat[places[i]] = good;
            put(part, flat);
            assert_true(finite(part));
        }
    }
    cwi_free(flat);
}

static void test_what_is_not_finite_is_found(void **state)
{
    (void)state;
    cw_model *model = model_of(&nets[0]);
    cw_part *part = part_of(model, &nets[0], 1);
    size_t size = cw_part_trainable_size(part);
    check_finite(part, weights_finite, cw_part_import_weights, cw_part_export_weights, size);
    check_finite(part, gradients_finite, cw_part_import_grads, cw_part_export_grads, size);
    check_finite(part, weights_finite, cw_part_import_buffers, cw_part_export_buffers, cw_part_buffer_size(part));
    cw_part_destroy(&part);
    cw_model_close(&model);
}

/* ---- allocations ---- */

static bool counts(void *ctx, size_t bytes)
{
    (void)bytes;
    ++*(int *)ctx;
    return false;
}

/* Once every ticket has seen both batch sizes. */
static void test_a_step_allocates_nothing(void **state)
{
    (void)state;
    int allocations = 0;
    cw_model *model = model_of(&nets[1]);
    cw_part *part = part_of(model, &nets[1], TICKETS);
    pass p[TICKETS];
    for (size_t i = 0; i < TICKETS; i++)
        p[i] = pass_for(part, &nets[1], i);
    for (int step = 0; step < 6; step++) {
        if (step == 3)
            cwi_alloc_set_fault(counts, &allocations);
        assert_ok(cw_part_grad_sum_clear(part));
        for (size_t i = 0; i < TICKETS; i++)
            go_forward(part, i, &p[i], samples_of((i + (size_t)step) % TICKETS));
        for (size_t i = 0; i < TICKETS; i++) {
            go_back(part, i, &p[i], samples_of((i + (size_t)step) % TICKETS), true);
            assert_ok(cw_part_grad_sum_add(part, 1));
        }
        assert_ok(cw_part_grad_sum_replace(part, 1));
        assert_true(isfinite(cw_part_grad_peak(part)));
    }
    cwi_alloc_set_fault(NULL, NULL);
    assert_int_equal(allocations, 0);
    for (size_t i = 0; i < TICKETS; i++)
        pass_free(&p[i]);
    cw_part_destroy(&part);
    cw_model_close(&model);
}

/* Every allocation of a part with tickets fails once; nothing leaks (the sanitizers look). */
static void test_out_of_memory(void **state)
{
    (void)state;
    cw_error err;
    cw_model *model = fixture_model("cnn", 1, 16, 16, 10, "relu");
    for (oom_scan scan = {0}; !scan.done;) {
        cw_part *part;
        cw_part_options o = {.max_batch = 2, .seed = 1, .in_flight = 2};
        oom_begin(&scan);
        cw_status s = cw_part_create(model, 0, cw_model_layer_count(model), &o, &part, &err);
        if (s == CW_OK)
            s = cw_part_grad_sum_clear(part);
        oom_end(&scan, s);
        cw_part_destroy(&part);
    }
    cw_model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_forwards_are_parts_of_their_own),
        cmocka_unit_test(test_open_forwards_in_bf16),
        cmocka_unit_test(test_gradients_from_outside),
        cmocka_unit_test(test_bad_tickets),
        cmocka_unit_test(test_divergence_stays_with_its_ticket),
        cmocka_unit_test(test_memory_of_tickets),
        cmocka_unit_test(test_sums_are_weighted_in_order),
        cmocka_unit_test(test_a_sum_of_one_is_exact),
        cmocka_unit_test(test_what_is_not_finite_is_found),
        cmocka_unit_test(test_a_step_allocates_nothing),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
