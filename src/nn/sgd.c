/* sgd.c - stochastic gradient descent with momentum, exactly as PyTorch's.
 *
 * A momentum buffer starts at zero, which is what PyTorch's first step (v = g) amounts to, its dampening being 0.
 */
#include "nn/optimizer.h"

static void step_plain(float *w, const float *g, size_t count, const cwi_update *u)
{
    const float decay = u->decay, lr = u->lr;
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < count; i++)
        w[i] -= lr * (g[i] + decay * w[i]);
}

static void step_momentum(float *w, const float *g, float *v, size_t count, const cwi_update *u)
{
    const float decay = u->decay, lr = u->lr, momentum = u->options->momentum;
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < count; i++) {
        v[i] = momentum * v[i] + (g[i] + decay * w[i]);
        w[i] -= lr * v[i];
    }
}

static void step_nesterov(float *w, const float *g, float *v, size_t count, const cwi_update *u)
{
    const float decay = u->decay, lr = u->lr, momentum = u->options->momentum;
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < count; i++) {
        float d = g[i] + decay * w[i];
        v[i] = momentum * v[i] + d;
        w[i] -= lr * (d + momentum * v[i]);
    }
}

static void apply(const cwi_update *u, float *w, const float *g, float *const *slots, size_t count)
{
    if (!(u->options->momentum > 0))
        step_plain(w, g, count, u);
    else if (u->options->nesterov)
        step_nesterov(w, g, slots[0], count, u);
    else
        step_momentum(w, g, slots[0], count, u);
}

const cwi_update_rule cwi_sgd_rule = {.slot_names = {"momentum"}, .apply = apply};
