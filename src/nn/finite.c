/* finite.c - whether a part's numbers are ones to go on with: none is NaN, infinite or absurdly large. */
#include <math.h>

#include "nn/part.h"

float cw_peak(const float *x, size_t count)
{
    return cwi_peak(x, count);
}

float cw_part_grad_peak(const cw_part *part)
{
    float peak = 0;
    for (size_t i = 0; i < part->params.count; i++) {
        const cwi_param *p = &part->params.items[i];
        if (p->trainable && p->grad)
            peak = fmaxf(peak, cwi_peak(p->grad, p->stored));
    }
    return peak;
}

cw_status cw_part_check_finite(const cw_part *part, cw_error *err)
{
    for (size_t i = 0; i < part->params.count; i++) {
        const cwi_param *p = &part->params.items[i];
        if (isinf(cwi_peak(p->value, p->stored)))
            return cwi_fail(err, CW_ERR_DIVERGED,
                            "%s holds NaN or infinity: training has diverged: lower the learning rate, or look for bad "
                            "input",
                            p->name);
    }
    return CW_OK;
}

cw_status cw_part_check_buffers(const cw_part *part, const float *flat, float limit, cw_error *err)
{
    for (size_t i = 0; i < part->params.count; i++) {
        const cwi_param *p = &part->params.items[i];
        if (p->trainable)
            continue;
        for (size_t c = 0; c < p->count; c++)
            if (!(fabsf(flat[c]) <= limit) || (p->role == CWI_RUNNING_VAR && flat[c] < 0))
                return cwi_fail_at(err, CW_ERR_DIVERGED, c, "%s of channel %zu is %g, allowed is %g to %g", p->name, c,
                                   (double)flat[c], p->role == CWI_RUNNING_VAR ? 0.0 : -(double)limit, (double)limit);
        flat += p->count;
    }
    return CW_OK;
}
