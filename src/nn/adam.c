/* adam.c - Adam (Kingma, Ba, ICLR 2015) and AdamW, whose weight decay is apart from the gradient (Loshchilov, Hutter,
 * ICLR 2019), as PyTorch's. */
#include <math.h>

#include "nn/optimizer.h"

static void apply(const cwi_update *u, float *w, const float *g, float *const *slots, size_t count)
{
    const cw_optimizer_options *o = u->options;
    const double beta1 = (double)o->momentum, beta2 = (double)o->beta2, step = (double)u->step;
    const float b1 = o->momentum, b2 = o->beta2, eps = o->epsilon;
    const float rate = (float)((double)u->lr / (1.0 - pow(beta1, step)));
    const float scale = (float)sqrt(1.0 - pow(beta2, step));
    const bool apart = o->kind == CW_ADAMW;
    const float decay = apart ? 0.0f : u->decay, keep = apart ? 1.0f - u->lr * u->decay : 1.0f;
    float *m = slots[0], *v = slots[1];
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < count; i++) {
        float d = g[i] + decay * w[i];
        m[i] = b1 * m[i] + (1.0f - b1) * d;
        v[i] = b2 * v[i] + (1.0f - b2) * d * d;
        w[i] = keep * w[i] - rate * m[i] / (sqrtf(v[i]) / scale + eps);
    }
}

const cwi_update_rule cwi_adam_rule = {.slot_names = {"mean", "square"}, .apply = apply};
