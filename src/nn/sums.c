/* sums.c - sums of gradients, and whether gradients and weights are finite: passes over all that a part holds, in the
 * layouts that it holds it in. Blocked layouts are padded with zeros, which change neither. */
#include <string.h>

#include "nn/part.h"

/* ---- sums ---- */

static cw_status sum_clear(cw_part *part, cwi_sum which)
{
    if (!part || part->options.inference)
        return CW_ERR_INVALID;
    for (size_t i = 0; i < part->params.count; i++) {
        cwi_param *p = &part->params.items[i];
        if (p->trainable && !p->sums[which]) {
            p->sums[which] = cwi_calloc(p->stored, sizeof(float));
            if (!p->sums[which])
                return CW_ERR_NO_MEMORY;
        }
    }
    part->summed[which] = false;
    return CW_OK;
}

/* The first contribution is a plain product, so that a weight of 1 keeps every bit. */
static void accumulate(float *sum, const float *grad, size_t count, float weight, bool first)
{
    if (first) {
#pragma omp parallel for simd schedule(static)
        for (size_t i = 0; i < count; i++)
            sum[i] = weight * grad[i];
    } else {
#pragma omp parallel for simd schedule(static)
        for (size_t i = 0; i < count; i++)
            sum[i] += weight * grad[i];
    }
}

static cw_status sum_add(cw_part *part, cwi_sum which, float weight)
{
    if (!part || part->options.inference)
        return CW_ERR_INVALID;
    int before = cwi_threads_enter(part->threads);
    cw_status s = CW_OK;
    for (size_t i = 0; i < part->params.count && s == CW_OK; i++) {
        cwi_param *p = &part->params.items[i];
        if (p->trainable && !p->sums[which])
            s = CW_ERR_INVALID; /* never cleared */
        else if (p->trainable)
            accumulate(p->sums[which], p->grad, p->stored, weight, !part->summed[which]);
    }
    cwi_threads_leave(before);
    part->summed[which] = s == CW_OK;
    return s;
}

static cw_status sum_replace(cw_part *part, cwi_sum which, float scale)
{
    if (!part || !part->summed[which])
        return CW_ERR_INVALID;
    int before = cwi_threads_enter(part->threads);
    for (size_t i = 0; i < part->params.count; i++) {
        cwi_param *p = &part->params.items[i];
        if (p->trainable)
            accumulate(p->grad, p->sums[which], p->stored, scale, true);
    }
    cwi_threads_leave(before);
    return CW_OK;
}

cw_status cw_part_grad_sum_clear(cw_part *part)
{
    return sum_clear(part, CWI_SUM_CLIENTS);
}

cw_status cw_part_grad_sum_add(cw_part *part, float weight)
{
    return sum_add(part, CWI_SUM_CLIENTS, weight);
}

cw_status cw_part_grad_sum_replace(cw_part *part, float scale)
{
    return sum_replace(part, CWI_SUM_CLIENTS, scale);
}

cw_status cw_part_batch_sum_clear(cw_part *part)
{
    return sum_clear(part, CWI_SUM_BATCHES);
}

cw_status cw_part_batch_sum_add(cw_part *part, float weight)
{
    return sum_add(part, CWI_SUM_BATCHES, weight);
}

cw_status cw_part_batch_sum_replace(cw_part *part, float scale)
{
    return sum_replace(part, CWI_SUM_BATCHES, scale);
}

/* ---- finite ---- */

/* NaN and infinity are the floats whose exponent is all ones. */
static bool all_finite(const float *x, size_t count)
{
    const uint32_t exponent = UINT32_C(0x7f800000);
    uint32_t bad = 0;
#pragma omp parallel for simd schedule(static) reduction(| : bad)
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (uint32_t)((bits & exponent) == exponent);
    }
    return bad == 0;
}

static bool part_finite(const cw_part *part, bool grads)
{
    bool finite = true;
    int before = cwi_threads_enter(part->threads);
    for (size_t i = 0; i < part->params.count && finite; i++) {
        const cwi_param *p = &part->params.items[i];
        const float *x = grads ? p->grad : p->value;
        finite = !x || all_finite(x, p->stored);
    }
    cwi_threads_leave(before);
    return finite;
}

bool cw_part_grads_finite(const cw_part *part)
{
    return part_finite(part, true);
}

bool cw_part_weights_finite(const cw_part *part)
{
    return part_finite(part, false);
}
