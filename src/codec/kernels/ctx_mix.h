/* ctx_mix.h - what predicts a row's symbols, for every variant that has nothing better: in GNU C's vectors, which
 * compilers turn into the best that the file's instruction set has. Included by ctx_*.c, which may define MIXED, how
 * many lanes are handled at a time, with v_widen() and v_shorten() for so many bytes to 16 bits each, and back;
 * V_MULTIPLIES, with v_add_product() for 8 lanes; or MIX_PAIRS, with a mix() of its own. */
#ifndef CWI_CTX_MIX_H
#define CWI_CTX_MIX_H

#include <string.h>

#include "codec/kernels/kernels.h"

#ifndef MIXED
#define MIXED 8
#endif

typedef uint8_t mixed_bytes __attribute__((vector_size(MIXED)));
typedef int16_t mixed_words __attribute__((vector_size(2 * MIXED)));

CWI_INLINE mixed_words words_at(const int16_t *p)
{
    mixed_words v;
    memcpy(&v, p, sizeof v);
    return v;
}

CWI_INLINE mixed_words symbols_at(const uint8_t *p)
{
#if MIXED == 16
    return (mixed_words)v_widen(p);
#else
    mixed_bytes v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, mixed_words);
#endif
}

/* Numbers below 256. */
CWI_INLINE void put_bytes(mixed_words v, uint8_t *p)
{
#if MIXED == 16
    v_shorten(v, p);
#else
    const mixed_bytes bytes = __builtin_convertvector(v, mixed_bytes);
    memcpy(p, &bytes, sizeof bytes);
#endif
}

#ifndef MIX_PAIRS

CWI_INLINE mixed_words add_weighted(mixed_words sum, const int8_t *weight, const uint8_t *row)
{
#ifdef V_MULTIPLIES
    return (mixed_words)v_add_product(sum, weight, row);
#else
    typedef int8_t mixed_signed __attribute__((vector_size(MIXED)));
    mixed_signed w;
    memcpy(&w, weight, sizeof w);
    return sum + __builtin_convertvector(w, mixed_words) * symbols_at(row);
#endif
}

/* MIXED lanes from `lane` on of a row, whose references lie `at` bytes further; `up` is NULL where there is none. */
CWI_INLINE void mix_lanes(const cwi_ctx_mix *m, const cwi_ctx_near *n, unsigned lane, const uint8_t *up, size_t at,
                          size_t width, int16_t *acc)
{
    const mixed_words bias = words_at(m->bias + lane);
    for (size_t x = 0; x < width; x++) {
        const size_t here = x * CWI_LANES + lane;
        mixed_words sum = bias;
        if (up) {
            sum = add_weighted(sum, m->weight[0] + lane, up + here);
            if (x > 0)
                sum = add_weighted(sum, m->weight[1] + lane, up + here - CWI_LANES);
            if (x + 1 < width)
                sum = add_weighted(sum, m->weight[2] + lane, up + here + CWI_LANES);
        }
        for (unsigned r = 0; r < m->refs; r++)
            sum = add_weighted(sum, m->weight[CWI_CTX_ABOVE + r] + lane, n->ref[r] + at + here);
        memcpy(acc + here, &sum, sizeof sum);
    }
}

static void mix(const cwi_ctx_mix *m, const cwi_ctx_near *n, size_t rows, size_t width, int16_t *acc)
{
    const size_t size = width * CWI_LANES;
    for (size_t y = 0; y < rows; y++, acc += size)
        for (unsigned lane = 0; lane < CWI_LANES; lane += MIXED) {
            if (n->top && y == 0)
                mix_lanes(m, n, lane, NULL, 0, width, acc);
            else
                mix_lanes(m, n, lane, n->row + y * size - size, y * size, width, acc);
        }
}

#endif

/* Of one position, for a multiple of 16 lanes. */
CWI_INLINE void contexts_at(const cwi_ctx_mix *m, const int16_t *acc, const uint8_t *left, unsigned lanes, uint8_t *out)
{
    const mixed_words zero = {0}, most = zero + (CWI_CONTEXTS - 1);
    for (unsigned l = 0; l < lanes; l += MIXED) {
        mixed_words c = (words_at(acc + l) + words_at(m->left + l) * symbols_at(left + l)) >> CWI_CTX_SHIFT;
        const mixed_words above = c > most;
        c = (c & ~above) | (most & above);
        c &= c > zero;
        put_bytes(c, out + l);
    }
}

static void contexts(const cwi_ctx_mix *m, const int16_t *acc, const uint8_t *row, size_t rows, size_t width,
                     uint8_t *out)
{
    for (size_t y = 0; y < rows; y++, row += width * CWI_LANES)
        for (size_t x = 0; x < width; x++, acc += CWI_LANES, out += CWI_LANES)
            contexts_at(m, acc, x ? row + (x - 1) * CWI_LANES : cwi_nothing, CWI_LANES, out);
}

#endif
