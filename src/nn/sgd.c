/* sgd.c - stochastic gradient descent with momentum, exactly as PyTorch's.
 *
 * Elementwise over the home layouts, one pass over weight, gradient and momentum per tensor. A momentum buffer starts
 * at zero, which is what PyTorch's first step (v = g) amounts to, its dampening being 0.
 */
#include "nn/part.h"

struct cw_sgd {
    cw_part *part;
    cw_sgd_options options;
    float **velocity; /* per parameter; NULL for buffers, and for all when momentum is 0 */
};

cw_status cw_sgd_create(cw_part *part, const cw_sgd_options *options, cw_sgd **out, cw_error *err)
{
    if (out)
        *out = NULL;
    if (!part || !options || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_sgd_create: NULL argument");
    if (part->options.inference)
        return cwi_fail(err, CW_ERR_INVALID, "cw_sgd_create: this part was created for inference");
    if (!(options->momentum >= 0 && options->momentum < 1) || !(options->weight_decay >= 0))
        return cwi_fail(err, CW_ERR_INVALID, "cw_sgd_create: momentum %g is not in [0,1) or weight decay %g negative",
                        (double)options->momentum, (double)options->weight_decay);
    if (options->nesterov && options->momentum <= 0)
        return cwi_fail(err, CW_ERR_INVALID, "cw_sgd_create: Nesterov needs a momentum above 0");
    cw_sgd *sgd = cwi_calloc(1, sizeof *sgd);
    if (!sgd)
        return cwi_fail_memory(err, sizeof *sgd);
    sgd->part = part;
    sgd->options = *options;
    sgd->velocity = cwi_calloc(part->params.count, sizeof *sgd->velocity);
    bool complete = sgd->velocity != NULL;
    for (size_t i = 0; complete && options->momentum > 0 && i < part->params.count; i++) {
        const cwi_param *p = &part->params.items[i];
        if (p->trainable)
            complete = (sgd->velocity[i] = cwi_calloc(p->stored, sizeof(float))) != NULL;
    }
    if (!complete) {
        cw_sgd_destroy(&sgd);
        return cwi_fail(err, CW_ERR_NO_MEMORY, "out of memory for the momentum of %zu parameters",
                        part->params.trainable_size);
    }
    *out = sgd;
    return CW_OK;
}

void cw_sgd_destroy(cw_sgd **sgd)
{
    if (!sgd || !*sgd)
        return;
    cw_sgd *s = *sgd;
    *sgd = NULL;
    for (size_t i = 0; s->velocity && i < s->part->params.count; i++)
        cwi_free(s->velocity[i]);
    cwi_free(s->velocity);
    cwi_free(s);
}

static void step_plain(float *w, const float *g, size_t count, const cw_sgd_options *o, float lr)
{
    const float decay = o->weight_decay;
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < count; i++)
        w[i] -= lr * (g[i] + decay * w[i]);
}

static void step_momentum(float *w, const float *g, float *v, size_t count, const cw_sgd_options *o, float lr)
{
    const float decay = o->weight_decay, momentum = o->momentum;
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < count; i++) {
        v[i] = momentum * v[i] + (g[i] + decay * w[i]);
        w[i] -= lr * v[i];
    }
}

static void step_nesterov(float *w, const float *g, float *v, size_t count, const cw_sgd_options *o, float lr)
{
    const float decay = o->weight_decay, momentum = o->momentum;
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < count; i++) {
        float d = g[i] + decay * w[i];
        v[i] = momentum * v[i] + d;
        w[i] -= lr * (d + momentum * v[i]);
    }
}

cw_status cw_sgd_step(cw_sgd *sgd, float lr)
{
    if (!sgd || !(lr >= 0))
        return CW_ERR_INVALID;
    int before = cwi_threads_enter(sgd->part->threads);
    for (size_t i = 0; i < sgd->part->params.count; i++) {
        cwi_param *p = &sgd->part->params.items[i];
        if (!p->trainable)
            continue;
        if (!sgd->velocity[i])
            step_plain(p->value, p->grad, p->stored, &sgd->options, lr);
        else if (sgd->options.nesterov)
            step_nesterov(p->value, p->grad, sgd->velocity[i], p->stored, &sgd->options, lr);
        else
            step_momentum(p->value, p->grad, sgd->velocity[i], p->stored, &sgd->options, lr);
        p->version++;
    }
    cwi_threads_leave(before);
    return CW_OK;
}

void cw_sgd_export(const cw_sgd *sgd, float *flat)
{
    const cwi_params *set = &sgd->part->params;
    int before = cwi_threads_enter(sgd->part->threads);
    for (size_t i = 0; i < set->count; i++) {
        if (!set->items[i].trainable)
            continue;
        if (sgd->velocity[i])
            cwi_param_export(set, &set->items[i], sgd->velocity[i], flat);
        for (size_t j = 0; !sgd->velocity[i] && j < set->items[i].count; j++)
            flat[j] = 0.0f;
        flat += set->items[i].count;
    }
    cwi_threads_leave(before);
}

void cw_sgd_import(cw_sgd *sgd, const float *flat)
{
    const cwi_params *set = &sgd->part->params;
    int before = cwi_threads_enter(sgd->part->threads);
    for (size_t i = 0; i < set->count; i++) {
        if (!set->items[i].trainable)
            continue;
        if (sgd->velocity[i])
            cwi_param_import(set, &set->items[i], flat, sgd->velocity[i]);
        flat += set->items[i].count;
    }
    cwi_threads_leave(before);
}
