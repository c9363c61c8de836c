/* klt_kernel.h - sums of weighted planes, written once: each variant's klt_*.c defines VECTOR, the bytes of its
 * vectors, and includes this file. The sums of a place are added in the order of the planes, each product rounded by
 * itself, so that all variants give the same bits. */
#ifndef CWI_KLT_KERNEL_H
#define CWI_KLT_KERNEL_H

#include "codec/kernels/kernels.h"

enum { FLOATS = VECTOR / sizeof(float), SIDE = 2, SUMS = 4 }; /* SIDE vectors of SUMS planes stay in registers */

typedef float floats __attribute__((vector_size(VECTOR), aligned(sizeof(float)), may_alias));

/* `n` planes (1 or SUMS) at the SIDE vectors from place `p` on. Unrolled, or the sums would lie in memory. */
CWI_INLINE void sum_vectors(const cwi_planes_sum *s, const float *weight, const float *start, size_t n, size_t p,
                            const float *x, float *y)
{
    floats sum[SUMS][SIDE];
#pragma GCC unroll 4
    for (size_t i = 0; i < n; i++)
        sum[i][0] = sum[i][1] = start[i] - (floats){0};
    for (size_t c = 0; c < s->inputs; c++) {
        const floats *at = (const floats *)(const void *)(x + c * s->plane + p);
        const floats a = at[0], b = at[1];
#pragma GCC unroll 4
        for (size_t i = 0; i < n; i++) {
            sum[i][0] += weight[i * s->inputs + c] * a;
            sum[i][1] += weight[i * s->inputs + c] * b;
        }
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < n; i++) {
        floats *out = (floats *)(void *)(y + i * s->plane + p);
        out[0] = sum[i][0];
        out[1] = sum[i][1];
    }
}

static void sum_places(const cwi_planes_sum *s, size_t output, size_t p, const float *x, float *y)
{
    const float *weight = s->weight + output * s->inputs;
    for (; p < s->plane; p++) {
        float sum = s->start[output];
        for (size_t c = 0; c < s->inputs; c++)
            sum += weight[c] * x[c * s->plane + p];
        y[output * s->plane + p] = sum;
    }
}

static void sum_planes(const cwi_planes_sum *s, const float *x, float *y)
{
    const size_t step = (size_t)SIDE * FLOATS;
    size_t p = 0;
    for (; p + step <= s->plane; p += step) {
        size_t o = 0;
        for (; o + SUMS <= s->outputs; o += SUMS)
            sum_vectors(s, s->weight + o * s->inputs, s->start + o, SUMS, p, x, y + o * s->plane);
        for (; o < s->outputs; o++)
            sum_vectors(s, s->weight + o * s->inputs, s->start + o, 1, p, x, y + o * s->plane);
    }
    for (size_t o = 0; o < s->outputs; o++)
        sum_places(s, o, p, x, y);
}

#endif
