/* empty_step.c - what a training step costs around its layers: halves that compute nothing, over TCP on this machine.
 *
 *     empty_step STEPS [SAMPLES WIDTH]       prints the processor microseconds of a step, both ends together
 *
 * bench/python_costs.py has it beside halves of PyTorch. Codecs are `none`; the cut has SAMPLES x WIDTH floats, and
 * each half as many weights as a linear layer from WIDTH to WIDTH has.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cutwire/cutwire.h>

typedef struct memory {
    float *weight, *gradient, *x;
    int32_t *labels;
    size_t samples, width, steps;
} memory;

static cw_status nothing_forward(void *ctx, const cw_half_call *call, const float *x, float *y, cw_error *err)
{
    const memory *m = ctx;
    (void)err;
    if (y)
        memcpy(y, x, call->n * m->width * sizeof(float));
    return CW_OK;
}

static cw_status nothing_backward(void *ctx, const cw_half_call *call, const float *dy, float *dx, cw_error *err)
{
    const memory *m = ctx;
    (void)dy, (void)err;
    if (dx)
        memset(dx, 0, call->n * m->width * sizeof(float));
    return CW_OK;
}

static cw_status nothing_loss(void *ctx, const cw_half_call *call, const cw_targets *targets, cw_loss *loss,
                              cw_error *err)
{
    (void)ctx, (void)call, (void)targets, (void)err;
    *loss = (cw_loss){.mean = 1};
    return CW_OK;
}

static cw_status nothing_step(void *ctx, float lr, cw_error *err)
{
    (void)ctx, (void)lr, (void)err;
    return CW_OK;
}

static cw_half *new_half(memory *m, bool last, cw_error *err)
{
    const cw_shape matrix = cw_shape_of(2, (int64_t[]){(int64_t)m->width, (int64_t)m->width});
    const cw_shape vector = cw_shape_of(1, (int64_t[]){(int64_t)m->width});
    const cw_half_tensor tensors[] = {{CW_HALF_WEIGHT, "weight", cw_tensor_view(CW_F32, &matrix, m->weight)},
                                      {CW_HALF_GRADIENT, "weight", cw_tensor_view(CW_F32, &matrix, m->gradient)}};
    const cw_half_callbacks callbacks = {.in = vector,
                                         .out = vector,
                                         .tensors = tensors,
                                         .tensor_count = 2,
                                         .forward = nothing_forward,
                                         .loss = last ? nothing_loss : NULL,
                                         .backward = nothing_backward,
                                         .step = nothing_step};
    cw_half *half = NULL;
    (void)cw_half_create(&callbacks, m, &half, err);
    return half;
}

static cw_status feed_open(void *ctx, const cw_feed_plan *plan, size_t *samples, cw_error *err)
{
    const memory *m = ctx;
    (void)plan, (void)err;
    *samples = m->samples * m->steps;
    return CW_OK;
}

static cw_status feed_seek(void *ctx, uint64_t epoch, size_t first_batch, cw_error *err)
{
    (void)ctx, (void)epoch, (void)first_batch, (void)err;
    return CW_OK;
}

static cw_status feed_next(void *ctx, cw_batch *batch, cw_error *err)
{
    const memory *m = ctx;
    (void)err;
    *batch = (cw_batch){.n = m->samples, .x = m->x, .labels = m->labels};
    return CW_OK;
}

/* Waits until something may have come for either. */
static void wait_for(cw_transport *a, cw_transport *b)
{
    struct pollfd fds[] = {{.fd = cw_transport_poll_fd(a), .events = POLLIN},
                           {.fd = cw_transport_poll_fd(b), .events = POLLIN}};
    (void)poll(fds, 2, 100);
}

/* Server and client in one thread, each taking what has come. */
static cw_status train(const cw_config *config, const cw_server_options *at_server, const cw_client_options *at_client,
                       cw_error *err)
{
    cw_transport *listening = NULL, *connected = NULL;
    cw_server *server = NULL;
    cw_client *client = NULL;
    cw_frame frame;
    cw_status status = cw_net_listen("tcp://127.0.0.1:*", NULL, &listening, err);
    if (status == CW_OK)
        status = cw_server_create(config, listening, at_server, &server, err);
    if (status == CW_OK)
        status = cw_net_connect(cw_transport_endpoint(listening), NULL, &connected, err);
    if (status == CW_OK)
        status = cw_client_create(config, connected, at_client, &client, err);
    if (status == CW_OK)
        status = cw_client_start(client, err);
    while (status == CW_OK && !cw_server_done(server)) {
        bool came = false;
        while (status == CW_OK && cw_transport_recv(listening, 0, &frame, NULL) == CW_OK) {
            status = cw_server_handle(server, &frame, err);
            came = true;
        }
        while (status == CW_OK && cw_transport_recv(connected, 0, &frame, NULL) == CW_OK) {
            status = cw_client_handle(client, &frame, err);
            came = true;
        }
        if (!came)
            wait_for(listening, connected);
    }
    if (server)
        status = cw_server_finish(server, status, "finished", NULL, err);
    cw_client_destroy(&client);
    cw_server_destroy(&server);
    cw_transport_close(&connected, 0);
    cw_transport_close(&listening, 0);
    return status;
}

static cw_status configure(cw_config **config, const memory *m, cw_error *err)
{
    char batch[32], sample[32];
    snprintf(batch, sizeof batch, "%zu", m->samples);
    snprintf(sample, sizeof sample, "%zu", m->width);
    const char *const settings[][2] = {{"model", "own"},       {"data", "own"},      {"sample", sample},
                                       {"classes", "2"},       {"batch", batch},     {"epochs", "1"},
                                       {"uplink", "none"},     {"downlink", "none"}, {"update", "none"},
                                       {"mask-gradient", "0"}, {"threads", "1"}};
    cw_status status = cw_config_create(config, err);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0] && status == CW_OK; i++)
        status = cw_config_set(*config, settings[i][0], settings[i][1], err);
    return status;
}

static cw_status train_nothing(memory *m, cw_error *err)
{
    cw_config *config = NULL;
    cw_half *first = new_half(m, false, err), *last = new_half(m, true, err);
    const cw_feed feed = {.ctx = m, .open = feed_open, .seek = feed_seek, .next = feed_next};
    const cw_server_options at_server = {.half = last};
    const cw_client_options at_client = {.half = first, .train = &feed};
    cw_status status = first && last ? configure(&config, m, err) : CW_ERR_INVALID;
    if (status == CW_OK)
        status = train(config, &at_server, &at_client, err);
    cw_config_destroy(&config);
    cw_half_destroy(&first);
    cw_half_destroy(&last);
    return status;
}

int main(int argc, char **argv)
{
    memory m = {.steps = argc > 1 ? (size_t)atoll(argv[1]) : 1000,
                .samples = argc > 3 ? (size_t)atoll(argv[2]) : 16,
                .width = argc > 3 ? (size_t)atoll(argv[3]) : 64};
    m.weight = calloc(m.width * m.width, sizeof(float));
    m.gradient = calloc(m.width * m.width, sizeof(float));
    m.x = calloc(m.samples * m.width, sizeof(float));
    m.labels = calloc(m.samples, sizeof(int32_t));
    cw_error err = {.message = "empty_step STEPS [SAMPLES WIDTH]"};
    const bool fit = m.steps && m.samples && m.width && m.weight && m.gradient && m.x && m.labels;
    const clock_t begin = clock(); /* of all threads of the process */
    const cw_status status = fit ? train_nothing(&m, &err) : CW_ERR_INVALID;
    if (status == CW_OK)
        printf("%.1f\n", 1e6 * (double)(clock() - begin) / CLOCKS_PER_SEC / (double)m.steps);
    else
        fprintf(stderr, "empty_step: %s\n", err.message);
    free(m.weight);
    free(m.gradient);
    free(m.x);
    free(m.labels);
    return status != CW_OK;
}
