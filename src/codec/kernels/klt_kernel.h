/* klt_kernel.h - sums of weighted planes, written once: each variant's klt_*.c defines VECTOR, the bytes of its
 * vectors, and includes this file. The sums of a place are added in the order of the planes, each product rounded by
 * itself, so that all variants give the same bits. */
#ifndef CWI_KLT_KERNEL_H
#define CWI_KLT_KERNEL_H

#include "codec/kernels/kernels.h"

enum { FLOATS = VECTOR / sizeof(float), SIDE = 2, SUMS = 4 }; /* SIDE vectors of SUMS planes stay in registers */

typedef float floats __attribute__((vector_size(VECTOR), aligned(sizeof(float)), may_alias));

/* `n` planes (1 or SUMS) at `side` vectors from place `p` on. Unrolled, or the sums would lie in memory. */
CWI_INLINE void sum_vectors(const cwi_planes_sum *s, size_t o, size_t n, size_t p, size_t side, const float *x,
                            float *y)
{
    const float *weight = s->weight + o * s->inputs;
    floats sum[SUMS][SIDE];
#pragma GCC unroll 4
    for (size_t i = 0; i < n; i++)
        sum[i][0] = sum[i][1] = s->start[o + i] - (floats){0};
    for (size_t c = 0; c < s->inputs; c++) {
        const floats *at = (const floats *)(const void *)(x + c * s->plane + p);
        const floats a = at[0], b = side > 1 ? at[1] : a;
#pragma GCC unroll 4
        for (size_t i = 0; i < n; i++) {
            sum[i][0] += weight[i * s->inputs + c] * a;
            sum[i][1] += weight[i * s->inputs + c] * b;
        }
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < n; i++) {
        floats *out = (floats *)(void *)(y + (o + i) * s->plane + p);
        out[0] = sum[i][0];
        if (side > 1)
            out[1] = sum[i][1];
    }
}

/* Planes of at least `side` vectors. What is left at their ends is covered by vectors that begin earlier. */
CWI_INLINE void sum_long(const cwi_planes_sum *s, size_t side, const float *x, float *y)
{
    const size_t step = side * FLOATS;
    for (size_t next = 0; next < s->plane; next += step) {
        const size_t p = CWI_MIN(next, s->plane - step);
        size_t o = 0;
        for (; o + SUMS <= s->outputs; o += SUMS)
            sum_vectors(s, o, SUMS, p, side, x, y);
        for (; o < s->outputs; o++)
            sum_vectors(s, o, 1, p, side, x, y);
    }
}

/* Of n planes at one place: sums that do not wait for each other. */
CWI_INLINE void sum_places(const cwi_planes_sum *s, size_t o, size_t n, size_t p, const float *x, float *y)
{
    const float *weight = s->weight + o * s->inputs;
    float sum[SUMS];
#pragma GCC unroll 4
    for (size_t i = 0; i < n; i++)
        sum[i] = s->start[o + i];
    for (size_t c = 0; c < s->inputs; c++) {
#pragma GCC unroll 4
        for (size_t i = 0; i < n; i++)
            sum[i] += weight[i * s->inputs + c] * x[c * s->plane + p];
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < n; i++)
        y[(o + i) * s->plane + p] = sum[i];
}

static void sum_short(const cwi_planes_sum *s, const float *x, float *y)
{
    for (size_t p = 0; p < s->plane; p++) {
        size_t o = 0;
        for (; o + SUMS <= s->outputs; o += SUMS)
            sum_places(s, o, SUMS, p, x, y);
        for (; o < s->outputs; o++)
            sum_places(s, o, 1, p, x, y);
    }
}

static void sum_planes(const cwi_planes_sum *s, const float *x, float *y)
{
    if (s->plane >= (size_t)SIDE * FLOATS)
        sum_long(s, SIDE, x, y);
    else if (s->plane >= FLOATS)
        sum_long(s, 1, x, y);
    else
        sum_short(s, x, y);
}

#endif
