/* remote.c - a device with an engine of its own asks a server: the first layer of a trained mlp here, the rest there.
 *
 *     cc remote.c $(pkg-config --cflags --libs cutwire-client) -o remote
 *     cutwire train --local --model mlp --data fashion-mnist --cut 1 --out runs/mlp
 *     cutwire models export --run runs/mlp --cut 1 --head head.safetensors --tail tail.safetensors
 *     cutwire serve --tail tail.safetensors
 *     ./remote tcp://127.0.0.1:5556 head.safetensors samples.npy
 *
 * The engine is relu(W x + b) in plain C. The server compares the fingerprint of W and b with its own head's.
 */
#include <stdio.h>

#include <cutwire/infer.h>

typedef struct layer {
    const float *w, *b;
    size_t in, out;
} layer;

static cw_status forward(void *ctx, const cw_half_call *call, const float *x, float *z, cw_error *err)
{
    const layer *l = ctx;
    (void)err;
    for (size_t k = 0; k < call->n * l->out; k++) {
        const float *w = l->w + k % l->out * l->in, *in = x + (call->first + k / l->out) * l->in;
        float sum = l->b[k % l->out];
        for (size_t i = 0; i < l->in; i++)
            sum += w[i] * in[i];
        z[k] = sum > 0 ? sum : 0;
    }
    return CW_OK;
}

/* A half that only answers learns nothing, but has to show its weights, and room for as many gradients. */
static cw_status no_backward(void *ctx, const cw_half_call *call, const float *dy, float *dx, cw_error *err)
{
    (void)ctx, (void)call, (void)dy, (void)dx, (void)err;
    return CW_ERR_UNSUPPORTED;
}

static cw_status no_step(void *ctx, float lr, cw_error *err)
{
    (void)ctx, (void)lr, (void)err;
    return CW_ERR_UNSUPPORTED;
}

static cw_status make_head(layer *l, const cw_tensor_set *set, cw_half **head, cw_error *err)
{
    const cw_tensor *w = cw_tensor_set_find(set, "layers.0.weight"), *b = cw_tensor_set_find(set, "layers.0.bias");
    if (!w || !b || w->shape.ndim != 2)
        return CW_ERR_NOT_FOUND;
    *l = (layer){w->data, b->data, (size_t)w->shape.dim[1], (size_t)w->shape.dim[0]};
    const cw_half_tensor tensors[] = {{CW_HALF_WEIGHT, "layers.0.weight", *w},
                                      {CW_HALF_WEIGHT, "layers.0.bias", *b},
                                      {CW_HALF_GRADIENT, "layers.0.weight", *w},
                                      {CW_HALF_GRADIENT, "layers.0.bias", *b}};
    const cw_half_callbacks callbacks = {.in = cw_shape_of(1, &w->shape.dim[1]),
                                         .out = b->shape,
                                         .tensors = tensors,
                                         .tensor_count = 4,
                                         .forward = forward,
                                         .backward = no_backward,
                                         .step = no_step};
    return cw_half_create(&callbacks, l, head, err);
}

/* One sample after the other: all are sent before the first answer is waited for, as far as the server lets. */
static cw_status ask(cw_remote *remote, const layer *l, const cw_tensor *samples, cw_error *err)
{
    const size_t n = (size_t)samples->shape.dim[0], credit = cw_remote_get_info(remote)->credit;
    const size_t ahead = credit < n ? credit : n;
    uint64_t tickets[256]; /* no server gives more credit */
    cw_status status = CW_OK;
    for (size_t i = 0; i < n + ahead && status == CW_OK; i++) {
        cw_answer answer;
        if (i >= ahead && (status = cw_remote_wait(remote, tickets[i % ahead], &answer, err)) == CW_OK)
            printf("sample %zu: class %d %s, %.1f%%\n", i - ahead + 1, (int)answer.guesses->label,
                   cw_remote_class_name(remote, answer.guesses->label), 100 * (double)answer.guesses->probability);
        if (i < n && status == CW_OK)
            status = cw_remote_submit(remote, (const float *)samples->data + i * l->in, 1, &tickets[i % ahead], err);
    }
    return status;
}

int main(int argc, char **argv)
{
    cw_tensor_set set = {0};
    cw_tensor samples = {0};
    cw_remote_options options = {.top = 1};
    cw_remote *remote = NULL;
    cw_error err = {0};
    layer l;
    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: remote ENDPOINT HEAD.safetensors SAMPLES.npy [CODEC]\n");
        return 2;
    }
    options.uplink = argc > 4 ? argv[4] : NULL;
    cw_status status = cw_safetensors_load(argv[2], &set, &err);
    status = status == CW_OK ? cw_npy_load(argv[3], &samples, &err) : status;
    status = status == CW_OK ? make_head(&l, &set, &options.head, &err) : status;
    status = status == CW_OK ? cw_remote_open(argv[1], &options, &remote, &err) : status;
    status = status == CW_OK ? ask(remote, &l, &samples, &err) : status;
    if (status != CW_OK)
        fprintf(stderr, "remote: %s\n", *err.message ? err.message : cw_status_message(status));
    cw_remote_close(&remote);
    cw_half_destroy(&options.head);
    cw_tensor_free(&samples);
    cw_tensor_set_free(&set);
    return status != CW_OK;
}
