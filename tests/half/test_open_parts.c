/* test_open_parts.c - micro-batches of halves without fixed shapes: each has the shape, targets, support and gradient
 * of its own samples, also where batches grow. */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "cutwire/cutwire.h"
#include "test.h"

enum { BATCH = 7, LAST = 4, STEPS = 5, MOST = BATCH * (200 + 100 * STEPS), PARTS = 3 };

/* ---- what is computed: element k of sample s in a step, 0 in places; its first element names the sample ---- */

static size_t width_of(size_t step)
{
    return 200 + 100 * step;
}

static float smashed(size_t step, size_t s, size_t k)
{
    if (k == 0)
        return (float)(1 + s + 100 * step);
    return (s * 7 + k * 3 + step) % 5 < 2 ? 0 : (float)(1 + (s * 5 + k) % 11);
}

/* ---- the client: its half takes the samples of a call itself ---- */

typedef struct side {
    float weight, gradient; /* so that there is something to train */
    float z[MOST];
    float targets[BATCH][2];
    size_t step, n; /* of the batch that the feed gave last */
    size_t forwards, backwards, losses;
    cw_half_call call;
} side;

static cw_status client_forward(void *ctx, const cw_half_call *call, const float *x, float *y, cw_error *err)
{
    side *c = ctx;
    const size_t width = width_of(c->step - 1);
    (void)x, (void)err;
    assert_null(y);
    assert_true(call->first + call->n <= c->n);
    for (size_t s = 0; s < call->n; s++)
        for (size_t k = 0; k < width; k++)
            c->z[s * width + k] = smashed(c->step - 1, call->first + s, k);
    c->call = *call;
    c->forwards++;
    return CW_OK;
}

static cw_status client_output(void *ctx, const cw_half_call *call, cw_tensor *y, cw_error *err)
{
    side *c = ctx;
    (void)err;
    const cw_shape shape = cw_shape_of(2, (int64_t[]){(int64_t)call->n, (int64_t)width_of(c->step - 1)});
    *y = cw_tensor_view(CW_F32, &shape, c->z);
    return CW_OK;
}

/* The server's gradient is half of what came, and 5 where a 0 came, which is masked. */
static cw_status client_backward(void *ctx, const cw_half_call *call, const float *dy, float *dx, cw_error *err)
{
    side *c = ctx;
    const size_t width = width_of(c->step - 1);
    (void)dx, (void)err;
    for (size_t s = 0; s < call->n; s++) {
        for (size_t k = 0; k < width; k++) {
            const float z = smashed(c->step - 1, call->first + s, k);
            if (z == 0)
                assert_true(dy[s * width + k] == 0);
            else
                assert_true(fabsf(dy[s * width + k] - z / 2) < 0.1f);
        }
    }
    c->backwards++;
    return CW_OK;
}

static cw_status no_step(void *ctx, float lr, cw_error *err)
{
    (void)ctx, (void)lr, (void)err;
    return CW_OK;
}

static cw_status feed_open(void *ctx, const cw_feed_plan *plan, size_t *samples, cw_error *err)
{
    (void)ctx, (void)err;
    assert_int_equal(plan->in_flight, PARTS);
    *samples = BATCH * (STEPS - 1) + LAST;
    return CW_OK;
}

static cw_status feed_seek(void *ctx, uint64_t epoch, size_t first_batch, cw_error *err)
{
    (void)epoch, (void)err;
    ((side *)ctx)->step = first_batch;
    return CW_OK;
}

static cw_status feed_next(void *ctx, cw_batch *batch, cw_error *err)
{
    side *c = ctx;
    (void)err;
    c->n = c->step + 1 < STEPS ? BATCH : LAST;
    for (size_t s = 0; s < c->n; s++)
        c->targets[s][0] = smashed(c->step, s, 0);
    const cw_shape shape = cw_shape_of(2, (int64_t[]){(int64_t)c->n, 2});
    *batch =
        (cw_batch){.n = c->n, .x = c->z, .targets = cw_tensor_view(CW_F32, &shape, c->targets), .targets_as = CW_F32};
    c->step++;
    return CW_OK;
}

/* ---- the server ---- */

static cw_status server_forward(void *ctx, const cw_half_call *call, const float *x, float *y, cw_error *err)
{
    side *v = ctx;
    size_t elements;
    (void)y, (void)err;
    assert_int_equal(cw_shape_count(&call->shape, &elements), CW_OK);
    memcpy(v->z, x, elements * sizeof(float));
    v->call = *call;
    v->forwards++;
    return CW_OK;
}

static cw_status server_loss(void *ctx, const cw_half_call *call, const cw_targets *targets, cw_loss *out,
                             cw_error *err)
{
    side *v = ctx;
    (void)err;
    assert_non_null(targets->tensor);
    assert_int_equal(targets->tensor->shape.dim[0], call->n);
    const float *target = targets->tensor->data;
    const size_t width = (size_t)v->call.shape.dim[1];
    for (size_t s = 0; s < call->n; s++)
        assert_true(target[2 * s] == v->z[s * width]);
    *out = (cw_loss){.mean = 1};
    v->losses++;
    return CW_OK;
}

static cw_status server_backward(void *ctx, const cw_half_call *call, const float *dy, float *dx, cw_error *err)
{
    side *v = ctx;
    (void)dy, (void)err;
    for (size_t i = 0; i < call->n * (size_t)v->call.shape.dim[1]; i++)
        dx[i] = v->z[i] != 0 ? v->z[i] / 2 : 5;
    v->backwards++;
    return CW_OK;
}

/* ---- both ---- */

static cw_half *new_half(side *s, bool last)
{
    const cw_shape one = cw_shape_of(1, (int64_t[]){1});
    const cw_half_tensor tensors[] = {{CW_HALF_WEIGHT, "w", cw_tensor_view(CW_F32, &one, &s->weight)},
                                      {CW_HALF_GRADIENT, "w", cw_tensor_view(CW_F32, &one, &s->gradient)}};
    const cw_half_callbacks callbacks = {.out = last ? one : (cw_shape){0},
                                         .tickets = last ? 1 : PARTS,
                                         .behind_relu = !last,
                                         .tensors = tensors,
                                         .tensor_count = CWI_COUNT(tensors),
                                         .forward = last ? server_forward : client_forward,
                                         .loss = last ? server_loss : NULL,
                                         .backward = last ? server_backward : client_backward,
                                         .output = last ? NULL : client_output,
                                         .any_targets = last,
                                         .step = no_step};
    cw_half *half;
    cw_error err;
    assert_ok_err(cw_half_create(&callbacks, s, &half, &err), err);
    return half;
}

static cw_config *configure(void)
{
    static const char *const settings[][2] = {
        {"model", "own"},       {"data", "own"},    {"sample", "1"},    {"classes", "2"},
        {"epochs", "1"},        {"in-flight", "3"}, {"uplink", "none"}, {"downlink", "ec:err=0.0001"},
        {"mask-gradient", "1"}, {"update", "none"}, {"threads", "1"}};
    cw_config *config;
    cw_error err;
    assert_ok_err(cw_config_create(&config, &err), err);
    for (size_t i = 0; i < CWI_COUNT(settings); i++)
        assert_ok_err(cw_config_set(config, settings[i][0], settings[i][1], &err), err);
    return config;
}

static void parts_have_what_is_theirs(void **state)
{
    (void)state;
    static side first, last;
    cw_transport *listening, *connected;
    cw_server *server;
    cw_client *client;
    cw_frame frame;
    cw_error err;
    cw_config *config = configure();
    cw_half *halves[] = {new_half(&first, false), new_half(&last, true)};
    const cw_feed feed = {.ctx = &first, .open = feed_open, .seek = feed_seek, .next = feed_next, .batch = BATCH};
    assert_ok_err(cw_net_listen("inproc://open-parts", NULL, &listening, &err), err);
    assert_ok_err(cw_server_create(config, listening, &(cw_server_options){.half = halves[1]}, &server, &err), err);
    assert_ok_err(cw_net_connect("inproc://open-parts", NULL, &connected, &err), err);
    const cw_client_options options = {.half = halves[0], .train = &feed};
    assert_ok_err(cw_client_create(config, connected, &options, &client, &err), err);
    assert_ok_err(cw_client_start(client, &err), err);
    while (!cw_server_done(server)) {
        if (cw_transport_recv(listening, 0, &frame, NULL) == CW_OK)
            assert_ok_err(cw_server_handle(server, &frame, &err), err);
        if (cw_transport_recv(connected, 0, &frame, NULL) == CW_OK)
            assert_ok_err(cw_client_handle(client, &frame, &err), err);
    }
    assert_ok_err(cw_server_finish(server, CW_OK, "finished", NULL, &err), err);
    assert_int_equal(first.forwards, STEPS * PARTS);
    assert_int_equal(first.backwards, STEPS * PARTS);
    assert_int_equal(last.losses, STEPS * PARTS);
    cw_client_destroy(&client);
    cw_server_destroy(&server);
    cw_transport_close(&connected, 0);
    cw_transport_close(&listening, 0);
    cw_config_destroy(&config);
    cw_half_destroy(&halves[0]);
    cw_half_destroy(&halves[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parts_have_what_is_theirs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
