/* device_client.c - a client on a device with an engine and data of its own, on libcutwire-client (or libcutwire).
 *
 *     cc device_client.c $(pkg-config --cflags --libs cutwire-client) -o device_client
 *     cutwire server --model mlp --cut 1 --sample 1x8x8 --classes 4 --momentum 0 --weight-decay 0 --epochs 4
 *     ./device_client tcp://127.0.0.1:5555
 *
 * The engine is the first layer of the server's model, relu(W x + b), in plain C; its tensors have the names and shapes
 * that the server's copy has, and begin with its values. The data are a sensor's: a pattern for each class, in noise.
 */
#include <stdio.h>
#include <string.h>

#include <cutwire/train.h>

enum { IN = 64, OUT = 256, BATCH = 64, WEIGHTS = OUT * IN, ALL = WEIGHTS + OUT };

/* The engine. */
typedef struct layer {
    float w[ALL], d[ALL]; /* weights, then biases; their gradients */
    const float *x;       /* of the forward that is open */
    float z[BATCH * OUT]; /* what came out of it */
} layer;

static cw_status forward(void *ctx, const cw_half_call *call, const float *x, float *y, cw_error *err)
{
    layer *l = ctx;
    (void)err;
    l->x = x + call->first * IN;
    for (size_t k = 0; k < call->n * OUT; k++) {
        const float *w = l->w + k % OUT * IN, *in = l->x + k / OUT * IN;
        float sum = l->w[WEIGHTS + k % OUT];
        for (size_t i = 0; i < IN; i++)
            sum += w[i] * in[i];
        y[k] = l->z[k] = sum > 0 ? sum : 0;
    }
    return CW_OK;
}

/* The first half of a network: nobody asks for dx. */
static cw_status backward(void *ctx, const cw_half_call *call, const float *dy, float *dx, cw_error *err)
{
    layer *l = ctx;
    (void)dx, (void)err;
    memset(l->d, 0, sizeof l->d);
    for (size_t k = 0; k < call->n * OUT; k++) {
        const float d = l->z[k] > 0 ? dy[k] : 0, *in = l->x + k / OUT * IN;
        l->d[WEIGHTS + k % OUT] += d;
        for (size_t i = 0; d != 0 && i < IN; i++)
            l->d[k % OUT * IN + i] += d * in[i];
    }
    return CW_OK;
}

static cw_status step(void *ctx, float lr, cw_error *err)
{
    layer *l = ctx;
    (void)err;
    for (size_t k = 0; k < ALL; k++)
        l->w[k] -= lr * l->d[k];
    return CW_OK;
}

static cw_status new_half(layer *l, cw_half **half, cw_error *err)
{
    const cw_shape matrix = cw_shape_of(2, (int64_t[]){OUT, IN}), vector = cw_shape_of(1, (int64_t[]){OUT});
    const cw_half_tensor tensors[] = {
        {CW_HALF_WEIGHT, "layers.0.weight", cw_tensor_view(CW_F32, &matrix, l->w)},
        {CW_HALF_WEIGHT, "layers.0.bias", cw_tensor_view(CW_F32, &vector, l->w + WEIGHTS)},
        {CW_HALF_GRADIENT, "layers.0.weight", cw_tensor_view(CW_F32, &matrix, l->d)},
        {CW_HALF_GRADIENT, "layers.0.bias", cw_tensor_view(CW_F32, &vector, l->d + WEIGHTS)},
    };
    const cw_half_callbacks callbacks = {.in = cw_shape_of(1, (int64_t[]){IN}),
                                         .out = vector,
                                         .behind_relu = true,
                                         .tensors = tensors,
                                         .tensor_count = 4,
                                         .forward = forward,
                                         .backward = backward,
                                         .step = step};
    return cw_half_create(&callbacks, l, half, err);
}

/* The data. */
typedef struct sensor {
    cw_feed_plan plan;
    size_t samples, next; /* of an epoch; the one that comes next */
    float x[BATCH * IN];
    int32_t labels[BATCH];
} sensor;

/* Some number of [-0.5, 0.5), always the same one for the same two. */
static float noise(uint32_t a, uint32_t b)
{
    uint32_t h = (a * 2654435761u) ^ (b * 2246822519u);
    h = (h ^ (h >> 15)) * 3266489917u;
    return (float)((h ^ (h >> 13)) >> 8) / 16777216.0f - 0.5f;
}

static cw_status sensor_open(void *ctx, const cw_feed_plan *plan, size_t *samples, cw_error *err)
{
    sensor *s = ctx;
    (void)err;
    s->plan = *plan;
    *samples = s->samples = plan->split == CW_SPLIT_TRAIN ? 960 : 240;
    return plan->batch <= BATCH ? CW_OK : CW_ERR_UNSUPPORTED;
}

static cw_status sensor_seek(void *ctx, uint64_t epoch, size_t first_batch, cw_error *err)
{
    (void)epoch, (void)err;
    ((sensor *)ctx)->next = first_batch * ((sensor *)ctx)->plan.batch;
    return CW_OK;
}

static cw_status sensor_next(void *ctx, cw_batch *batch, cw_error *err)
{
    sensor *s = ctx;
    const uint32_t whose = (uint32_t)s->plan.client * 2 + (uint32_t)s->plan.split;
    (void)err;
    *batch = (cw_batch){.x = s->x, .labels = s->labels};
    for (; batch->n < s->plan.batch && s->next < s->samples; batch->n++, s->next++) {
        const uint32_t label = (uint32_t)s->next % (uint32_t)s->plan.classes;
        s->labels[batch->n] = (int32_t)label;
        for (uint32_t i = 0; i < IN; i++)
            s->x[batch->n * IN + i] = noise(label, i + 1) + 2 * noise(whose << 20 | (uint32_t)s->next, i + 1000);
    }
    return CW_OK;
}

int main(int argc, char **argv)
{
    static layer l;
    static sensor train, test;
    const cw_feed train_feed = {.ctx = &train, .open = sensor_open, .seek = sensor_seek, .next = sensor_next};
    const cw_feed test_feed = {.ctx = &test, .open = sensor_open, .seek = sensor_seek, .next = sensor_next};
    cw_client_options options = {.train = &train_feed, .test = &test_feed};
    cw_transport *transport = NULL;
    cw_error err = {0};
    cw_config *config = NULL;
    cw_status status = cw_config_create(&config, &err);
    status =
        status == CW_OK ? cw_net_connect(argc > 1 ? argv[1] : "tcp://127.0.0.1:5555", NULL, &transport, &err) : status;
    status = status == CW_OK ? new_half(&l, &options.half, &err) : status;
    status = status == CW_OK ? cw_join_with(config, transport, &options, &err) : status;
    if (status != CW_OK)
        fprintf(stderr, "device_client: %s\n", *err.message ? err.message : cw_status_message(status));
    cw_config_destroy(&config);
    cw_half_destroy(&options.half);
    cw_transport_close(&transport, 1000);
    return status != CW_OK;
}
