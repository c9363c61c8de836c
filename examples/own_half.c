/* own_half.c - an engine of one's own on both sides of the cut: a two-layer perceptron in plain C, trained split by
 * cutwire, which averages, compresses and carries what crosses.
 *
 *     cc own_half.c $(pkg-config --cflags --libs cutwire) -lm -o own_half && ./own_half [SAMPLES]
 *
 *     client:  z = relu(W1 x + b1)        server:  logits = W2 z + b2, softmax, cross-entropy
 *
 * A half is a handful of functions and a list of tensors in its own memory. Weights are learned by gradients that
 * cutwire averages in place before it calls step; the momentum is state, which is only saved and given to clients that
 * join.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <cutwire/cutwire.h>

typedef struct layer {
    size_t in, out, batch;
    bool last;                /* a loss in place of a ReLU */
    float *weight, *bias;     /* out x in, out */
    float *d_weight, *d_bias; /* their gradients */
    float *v_weight, *v_bias; /* their momentum */
    const float *x;           /* of the forward that is open */
    float *z, *dz;            /* batch x out: outputs and their gradient */
    float momentum, weight_decay;
} layer;

static cw_status layer_forward(void *ctx, const cw_half_call *call, const float *x, float *y, cw_error *err)
{
    layer *l = ctx;
    (void)err;
    l->x = x + call->first * l->in;
    for (size_t s = 0; s < call->n; s++) {
        for (size_t o = 0; o < l->out; o++) {
            float sum = l->bias[o];
            for (size_t i = 0; i < l->in; i++)
                sum += l->weight[o * l->in + i] * l->x[s * l->in + i];
            l->z[s * l->out + o] = l->last || sum > 0 ? sum : 0;
        }
    }
    for (size_t k = 0; y && k < call->n * l->out; k++)
        y[k] = l->z[k];
    return CW_OK;
}

/* The mean of -log softmax(z)[label]; its gradient is kept for the way back. */
static cw_status layer_loss(void *ctx, const cw_half_call *call, const cw_targets *targets, cw_loss *loss,
                            cw_error *err)
{
    layer *l = ctx;
    double total = 0;
    (void)err;
    loss->correct = 0;
    for (size_t s = 0; s < call->n; s++) {
        const float *z = l->z + s * l->out;
        const size_t label = (size_t)targets->labels[s];
        size_t best = 0;
        double sum = 0;
        for (size_t o = 1; o < l->out; o++)
            best = z[o] > z[best] ? o : best;
        for (size_t o = 0; o < l->out; o++)
            sum += exp((double)(z[o] - z[best]));
        for (size_t o = 0; o < l->out; o++)
            l->dz[s * l->out + o] = (float)((exp((double)(z[o] - z[best])) / sum - (o == label)) / (double)call->n);
        total += log(sum) - (double)(z[label] - z[best]);
        loss->correct += best == label;
    }
    loss->mean = total / (double)call->n;
    return CW_OK;
}

/* The gradient of the layer's sums: after the loss it is there already, else it goes back through the ReLU. */
static const float *gradient_of_sums(layer *l, size_t n, const float *dy)
{
    for (size_t k = 0; !l->last && k < n * l->out; k++)
        l->dz[k] = l->z[k] > 0 ? dy[k] : 0;
    return l->dz;
}

static cw_status layer_backward(void *ctx, const cw_half_call *call, const float *dy, float *dx, cw_error *err)
{
    layer *l = ctx;
    const float *dz = gradient_of_sums(l, call->n, dy);
    (void)err;
    for (size_t o = 0; o < l->out; o++) {
        l->d_bias[o] = 0;
        for (size_t i = 0; i < l->in; i++)
            l->d_weight[o * l->in + i] = 0;
        for (size_t s = 0; s < call->n; s++) {
            const float d = dz[s * l->out + o];
            l->d_bias[o] += d;
            for (size_t i = 0; d != 0 && i < l->in; i++)
                l->d_weight[o * l->in + i] += d * l->x[s * l->in + i];
        }
    }
    for (size_t s = 0; dx && s < call->n; s++) {
        for (size_t i = 0; i < l->in; i++) {
            float sum = 0;
            for (size_t o = 0; o < l->out; o++)
                sum += l->weight[o * l->in + i] * dz[s * l->out + o];
            dx[s * l->in + i] = sum;
        }
    }
    return CW_OK;
}

static void sgd(float *w, const float *g, float *v, size_t n, float lr, const layer *l)
{
    for (size_t i = 0; i < n; i++) {
        v[i] = l->momentum * v[i] + g[i] + l->weight_decay * w[i];
        w[i] -= lr * v[i];
    }
}

static cw_status layer_step(void *ctx, float lr, cw_error *err)
{
    layer *l = ctx;
    (void)err;
    sgd(l->weight, l->d_weight, l->v_weight, l->out * l->in, lr, l);
    sgd(l->bias, l->d_bias, l->v_bias, l->out, lr, l);
    return CW_OK;
}

static void layer_destroy(void *ctx)
{
    layer *l = ctx;
    float *const own[] = {l->weight, l->bias, l->d_weight, l->d_bias, l->v_weight, l->v_bias, l->z, l->dz};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        free(own[i]);
    free(l);
}

static float *zeros(size_t n)
{
    float *x = calloc(n, sizeof *x);
    if (!x)
        abort(); /* an example */
    return x;
}

static layer *new_layer(size_t in, size_t out, size_t batch, bool last)
{
    layer *l = calloc(1, sizeof *l);
    if (!l)
        abort();
    *l = (layer){.in = in, .out = out, .batch = batch, .last = last, .momentum = 0.9f, .weight_decay = 0.0005f};
    l->weight = zeros(out * in);
    l->d_weight = zeros(out * in);
    l->v_weight = zeros(out * in);
    l->bias = zeros(out);
    l->d_bias = zeros(out);
    l->v_bias = zeros(out);
    l->z = zeros(batch * out);
    l->dz = zeros(batch * out);
    for (size_t i = 0; i < out * in; i++) /* uniform, of the deviation that He et al. 2015 give */
        l->weight[i] = ((float)rand() / (float)RAND_MAX * 2 - 1) * sqrtf(6.0f / (float)in);
    return l;
}

/* One layer as a half. Its tensors are named as PyTorch would: both ends must use the same names. */
static cw_half *new_half(const char *name, size_t in, size_t out, size_t batch, bool last)
{
    layer *l = new_layer(in, out, batch, last);
    char weight[64], bias[64];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    const cw_shape matrix = cw_shape_of(2, (int64_t[]){(int64_t)out, (int64_t)in});
    const cw_shape vector = cw_shape_of(1, (int64_t[]){(int64_t)out});
    const cw_half_tensor tensors[] = {
        {CW_HALF_WEIGHT, weight, cw_tensor_view(CW_F32, &matrix, l->weight)},
        {CW_HALF_WEIGHT, bias, cw_tensor_view(CW_F32, &vector, l->bias)},
        {CW_HALF_GRADIENT, weight, cw_tensor_view(CW_F32, &matrix, l->d_weight)},
        {CW_HALF_GRADIENT, bias, cw_tensor_view(CW_F32, &vector, l->d_bias)},
        {CW_HALF_STATE, weight, cw_tensor_view(CW_F32, &matrix, l->v_weight)},
        {CW_HALF_STATE, bias, cw_tensor_view(CW_F32, &vector, l->v_bias)},
    };
    const cw_half_callbacks callbacks = {
        .in = cw_shape_of(1, (int64_t[]){(int64_t)in}),
        .out = vector,
        .behind_relu = !last,
        .tensors = tensors,
        .tensor_count = sizeof tensors / sizeof tensors[0],
        .forward = layer_forward,
        .loss = last ? layer_loss : NULL,
        .backward = layer_backward,
        .step = layer_step,
        .destroy = layer_destroy,
    };
    cw_half *half;
    cw_error err;
    if (cw_half_create(&callbacks, l, &half, &err) != CW_OK) {
        fprintf(stderr, "own_half: %s\n", err.message);
        abort();
    }
    return half;
}

/* Server and client in one thread: each takes what has come for it, until the server has done all epochs. */
static cw_status train(const cw_config *config, const cw_server_options *at_server, const cw_client_options *at_client,
                       cw_result *result, cw_error *err)
{
    cw_transport *listening = NULL, *connected = NULL;
    cw_server *server = NULL;
    cw_client *client = NULL;
    cw_frame frame;
    cw_status status = cw_net_listen("inproc://own-half", NULL, &listening, err);
    if (status == CW_OK)
        status = cw_server_create(config, listening, at_server, &server, err);
    if (status == CW_OK)
        status = cw_net_connect("inproc://own-half", NULL, &connected, err);
    if (status == CW_OK)
        status = cw_client_create(config, connected, at_client, &client, err);
    if (status == CW_OK)
        status = cw_client_start(client, err);
    while (status == CW_OK && !cw_server_done(server)) {
        if (cw_transport_recv(listening, 0, &frame, NULL) == CW_OK)
            status = cw_server_handle(server, &frame, err);
        if (status == CW_OK && cw_transport_recv(connected, 0, &frame, NULL) == CW_OK)
            status = cw_client_handle(client, &frame, err);
    }
    if (server)
        status = cw_server_finish(server, status, status == CW_OK ? "finished" : "failed", result, err);
    cw_client_destroy(&client);
    cw_server_destroy(&server);
    cw_transport_close(&connected, 0);
    cw_transport_close(&listening, 0);
    return status;
}

static void on_event(void *ctx, const cw_event *event)
{
    (void)ctx;
    if (event->kind == CW_EVENT_EPOCH)
        printf("epoch %d: loss %.4f, test accuracy %.1f%%, %llu bytes up, %llu down\n", event->report->epoch + 1,
               event->report->train_loss, 100 * event->report->test_accuracy,
               (unsigned long long)event->report->up.socket, (unsigned long long)event->report->down.socket);
}

int main(int argc, char **argv)
{
    enum { PIXELS = 784, HIDDEN = 32, CLASSES = 10, BATCH = 64 };
    const cw_hooks hooks = {.event = on_event};
    cw_config *config = NULL;
    cw_result result;
    cw_error err;
    const char *const settings[][2] = {{"data", "fashion-mnist"},
                                       {"model", "own"},
                                       {"epochs", "2"},
                                       {"lr", "0.05"},
                                       {"train-limit", argc > 1 ? argv[1] : "4000"},
                                       {"test-limit", "1000"}};
    cw_status status = cw_config_create(&config, &err);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0] && status == CW_OK; i++)
        status = cw_config_set(config, settings[i][0], settings[i][1], &err);
    cw_half *first = new_half("fc1", PIXELS, HIDDEN, BATCH, false),
            *last = new_half("fc2", HIDDEN, CLASSES, BATCH, true);
    cw_half *mirror = new_half("fc1", PIXELS, HIDDEN, BATCH, false); /* the server's copy of the client's */
    const cw_server_options at_server = {.hooks = &hooks, .half = last, .client_half = mirror};
    const cw_client_options at_client = {.half = first};
    if (status == CW_OK)
        status = train(config, &at_server, &at_client, &result, &err);
    if (status != CW_OK)
        fprintf(stderr, "own_half: %s\n", err.message);
    cw_config_destroy(&config);
    cw_half_destroy(&first);
    cw_half_destroy(&last);
    cw_half_destroy(&mirror);
    return status != CW_OK;
}
