/* lanes_simd.h - rows of 32 planes to vectors of 32 lanes and back, for every SIMD variant: blocks of 16 by 16 bytes,
 * transposed by zipping in GNU C's vectors. Included by ctx_*.c. */
#ifndef CWI_LANES_SIMD_H
#define CWI_LANES_SIMD_H

#include <string.h>

#include "codec/kernels/kernels.h"

enum { SIDE = 16 };

typedef uint8_t bytes16 __attribute__((vector_size(SIDE)));

CWI_INLINE bytes16 zip_low(bytes16 a, bytes16 b)
{
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

CWI_INLINE bytes16 zip_high(bytes16 a, bytes16 b)
{
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

/* Each round moves one bit of a byte's row number to its column number. */
CWI_INLINE void zip_all(const bytes16 in[SIDE], bytes16 out[SIDE])
{
    for (int i = 0; i < SIDE / 2; i++) {
        out[2 * i] = zip_low(in[i], in[i + SIDE / 2]);
        out[2 * i + 1] = zip_high(in[i], in[i + SIDE / 2]);
    }
}

/* 16 rows of 16 bytes, `from` and `to` bytes apart. */
CWI_INLINE void transpose(const uint8_t *in, size_t from, uint8_t *out, size_t to)
{
    bytes16 a[SIDE], b[SIDE];
    for (size_t i = 0; i < SIDE; i++)
        memcpy(&a[i], in + i * from, SIDE);
    zip_all(a, b);
    zip_all(b, a);
    zip_all(a, b);
    zip_all(b, a);
    for (size_t i = 0; i < SIDE; i++)
        memcpy(out + i * to, &a[i], SIDE);
}

/* n < SIDE bytes: mostly four, which is a fraction of what a call of memcpy takes. */
CWI_INLINE void copy_few(uint8_t *to, const uint8_t *from, size_t n)
{
    if (n >= 8) {
        memcpy(to, from, 8);
        memcpy(to + n - 8, from + n - 8, 8);
    } else if (n >= 4) {
        memcpy(to, from, 4);
        memcpy(to + n - 4, from + n - 4, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = from[i];
    }
}

/* Fewer elements than a block is wide: by way of a block. */
static __attribute__((noinline)) void few_to_lanes(const uint8_t *planes, size_t stride, size_t count, size_t n,
                                                   uint8_t *lanes)
{
    uint8_t in[CWI_LANES * SIDE + SIDE], out[CWI_LANES * SIDE] = {0};
    if (stride == n)
        memcpy(in, planes, count * n);
    else
        for (size_t l = 0; l < count; l++)
            copy_few(in + l * n, planes + l * stride, n);
    memset(in + count * n, 0, SIDE);
    for (size_t half = 0; half < count; half += SIDE)
        transpose(in + half * n, n, out + half, CWI_LANES);
    memcpy(lanes, out, n * CWI_LANES);
}

static __attribute__((noinline)) void few_from_lanes(const uint8_t *lanes, size_t stride, size_t count, size_t n,
                                                     uint8_t *planes)
{
    uint8_t in[CWI_LANES * SIDE] = {0}, block[SIDE * SIDE], out[CWI_LANES * SIDE + SIDE];
    memcpy(in, lanes, n * CWI_LANES);
    for (size_t half = 0; half < count; half += SIDE) {
        transpose(in + half, CWI_LANES, block, SIDE);
        for (size_t l = 0; l < SIDE; l++) /* the next one overwrites what is not wanted of each */
            memcpy(out + (half + l) * n, block + l * SIDE, SIDE);
    }
    if (stride == n)
        memcpy(planes, out, count * n);
    else
        for (size_t l = 0; l < count; l++)
            copy_few(planes + l * stride, out + l * n, n);
}

/* The last block overlaps the one before where n is no multiple. */
static void to_lanes(const uint8_t *planes, size_t stride, size_t count, size_t n, uint8_t *lanes)
{
    if (n < SIDE) {
        few_to_lanes(planes, stride, count, n, lanes);
        return;
    }
    for (size_t done = 0; done < n; done += SIDE) {
        const size_t at = CWI_MIN(done, n - SIDE);
        uint8_t *to = lanes + at * CWI_LANES;
        transpose(planes + at, stride, to, CWI_LANES);
        if (count == CWI_LANES)
            transpose(planes + SIDE * stride + at, stride, to + SIDE, CWI_LANES);
        for (size_t i = 0; count < CWI_LANES && i < SIDE; i++)
            memset(to + i * CWI_LANES + SIDE, 0, SIDE);
    }
}

static void from_lanes(const uint8_t *lanes, size_t stride, size_t count, size_t n, uint8_t *planes)
{
    if (n < SIDE) {
        few_from_lanes(lanes, stride, count, n, planes);
        return;
    }
    for (size_t done = 0; done < n; done += SIDE) {
        const size_t at = CWI_MIN(done, n - SIDE);
        transpose(lanes + at * CWI_LANES, CWI_LANES, planes + at, stride);
        if (count == CWI_LANES)
            transpose(lanes + at * CWI_LANES + SIDE, CWI_LANES, planes + SIDE * stride + at, stride);
    }
}

#endif
