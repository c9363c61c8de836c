/* init.c - initial weights.
 *
 * Convolutions: Kaiming normal over the fan-out, as torchvision's residual networks and VGG have it. Hidden linear
 * layers: Kaiming normal over the fan-in. The output layer: uniform within 1/sqrt(fan-in), PyTorch's default.
 * Embeddings: normal of deviation 0.1 (PyTorch's 1 drowns what few updates a rare word gets), padding's row 0. Biases
 * 0, batch norm 1 and 0. Each number depends on (seed, parameter name, canonical index) alone.
 */
#include <math.h>

#include "nn/param.h"

static void fill(float *w, size_t count, float value)
{
    for (size_t i = 0; i < count; i++)
        w[i] = value;
}

static void fill_normal(float *w, size_t count, cwi_rng stream, double deviation)
{
    /* A normal draw takes two numbers of the stream, so that element i starts at 2i whoever computes it. */
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i++) {
        cwi_rng own = {.key = stream.key, .next = 2 * i};
        w[i] = (float)(deviation * cwi_rng_normal(&own));
    }
}

static void fill_uniform(float *w, size_t count, cwi_rng stream, double bound)
{
    for (size_t i = 0; i < count; i++)
        w[i] = (float)(bound * (2.0 * cwi_rng_double(&stream) - 1.0));
}

/* A text's row 0 is padding's. */
static void fill_embedding(const cwi_param *p, float *w, cwi_rng stream)
{
    fill_normal(w, p->count, stream, 0.1);
    if (p->layer->out.ndim == 3)
        fill(w, (size_t)p->layer->kernel, 0.0f);
}

static void fill_weight(const cwi_param *p, float *w, uint64_t seed)
{
    cwi_rng stream = cwi_rng_make(seed, CWI_STREAM_WEIGHTS, cwi_hash_string(p->name), 0);
    const cwi_layer *l = p->layer;
    double fan_in = (double)(p->count / (size_t)p->shape.dim[0]);
    double fan_out = (double)p->shape.dim[0] * l->kernel * (l->time ? 1 : l->kernel);
    if (l->kind == CWI_BATCHNORM)
        fill(w, p->count, 1.0f);
    else if (l->kind == CWI_CONV)
        fill_normal(w, p->count, stream, sqrt(2.0 / fan_out));
    else if (l->kind == CWI_EMBED)
        fill_embedding(p, w, stream);
    else if (l->output)
        fill_uniform(w, p->count, stream, 1.0 / sqrt(fan_in));
    else
        fill_normal(w, p->count, stream, sqrt(2.0 / fan_in));
}

cw_status cwi_params_init(cwi_params *set, uint64_t seed, cw_error *err)
{
    size_t largest = 1;
    for (size_t i = 0; i < set->count; i++)
        largest = CWI_MAX(largest, set->items[i].count);
    float *plain = cwi_alloc(largest, sizeof *plain);
    if (!plain)
        return cwi_fail_memory(err, largest * sizeof *plain);
    for (size_t i = 0; i < set->count; i++) {
        cwi_param *p = &set->items[i];
        if (p->role == CWI_WEIGHT)
            fill_weight(p, plain, seed);
        else
            fill(plain, p->count, p->role == CWI_RUNNING_VAR ? 1.0f : 0.0f);
        cwi_param_import(set, p, plain, p->value);
        p->version++;
    }
    cwi_free(plain);
    return CW_OK;
}
