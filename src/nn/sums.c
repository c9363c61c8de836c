/* sums.c - sums of gradients, in the layouts that a part holds them in: blocked ones are padded with zeros, which
 * change nothing. */
#include <omp.h>

#include "nn/part.h"

/* Floats for which threads are not worth waking. A team of one costs a system call, too. */
enum { FEW = 1 << 14, BLOCK = 1 << 12 };

cw_status cw_part_grad_sum_clear(cw_part *part)
{
    if (!part || part->options.inference)
        return CW_ERR_INVALID;
    for (size_t i = 0; i < part->params.count; i++) {
        cwi_param *p = &part->params.items[i];
        if (p->trainable && !p->sum) {
            p->sum = cwi_calloc(p->stored, sizeof(float));
            if (!p->sum)
                return CW_ERR_NO_MEMORY;
        }
    }
    part->summed = false;
    return CW_OK;
}

/* The first contribution is a plain product, so that a weight of 1 keeps every bit. */
static void accumulate_block(float *sum, const float *grad, size_t count, float weight, bool first)
{
    if (first) {
#pragma omp simd
        for (size_t i = 0; i < count; i++)
            sum[i] = weight * grad[i];
    } else {
#pragma omp simd
        for (size_t i = 0; i < count; i++)
            sum[i] += weight * grad[i];
    }
}

static void accumulate(float *sum, const float *grad, size_t count, float weight, bool first)
{
    if (count < FEW || omp_get_max_threads() == 1) {
        accumulate_block(sum, grad, count, weight, first);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i += BLOCK)
        accumulate_block(sum + i, grad + i, CWI_MIN(count - i, (size_t)BLOCK), weight, first);
}

cw_status cw_part_grad_sum_add(cw_part *part, float weight)
{
    if (!part || part->options.inference)
        return CW_ERR_INVALID;
    int before = cwi_threads_enter(part->threads);
    cw_status s = CW_OK;
    for (size_t i = 0; i < part->params.count && s == CW_OK; i++) {
        cwi_param *p = &part->params.items[i];
        if (p->trainable && !p->sum)
            s = CW_ERR_INVALID; /* never cleared */
        else if (p->trainable)
            accumulate(p->sum, p->grad, p->stored, weight, !part->summed);
    }
    cwi_threads_leave(before);
    part->summed = s == CW_OK;
    return s;
}

cw_status cw_part_grad_sum_replace(cw_part *part, float scale)
{
    if (!part || !part->summed)
        return CW_ERR_INVALID;
    int before = cwi_threads_enter(part->threads);
    for (size_t i = 0; i < part->params.count; i++) {
        cwi_param *p = &part->params.items[i];
        if (p->trainable)
            accumulate(p->grad, p->sum, p->stored, scale, true);
    }
    cwi_threads_leave(before);
    return CW_OK;
}
