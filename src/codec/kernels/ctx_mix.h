/* ctx_mix.h - what predicts a row's symbols, for every variant that has nothing better: in GNU C's vectors, which
 * compilers turn into the best that the file's instruction set has. Included by ctx_*.c, which may define MIXED, how
 * many lanes are handled at a time, with v_widen() and v_shorten() for so many bytes to 16 bits each, and back. */
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

CWI_INLINE mixed_words weighted(mixed_words weight, const uint8_t *row)
{
    return weight * symbols_at(row);
}

/* MIXED lanes from `lane` on of a whole row; `up` is NULL where there is none. */
CWI_INLINE void mix_lanes(const cwi_ctx_mix *m, const cwi_ctx_near *n, unsigned lane, const uint8_t *up, size_t width,
                          int16_t *acc)
{
    const mixed_words bias = words_at(m->bias + lane), w1 = words_at(m->weight[1] + lane);
    const mixed_words w2 = words_at(m->weight[2] + lane), w3 = words_at(m->weight[3] + lane);
    for (size_t x = 0, at = lane; x < width; x++, at += CWI_LANES) {
        mixed_words sum = bias;
        if (up) {
            sum += weighted(w1, up + at);
            if (x > 0)
                sum += weighted(w2, up + at - CWI_LANES);
            if (x + 1 < width)
                sum += weighted(w3, up + at + CWI_LANES);
        }
        for (unsigned r = 0; r < m->refs; r++)
            sum += weighted(words_at(m->weight[CWI_CTX_NEAR + r] + lane), n->ref[r] + at);
        memcpy(acc + at, &sum, sizeof sum);
    }
}

static void mix(const cwi_ctx_mix *m, const cwi_ctx_near *n, size_t width, int16_t *acc)
{
    for (unsigned lane = 0; lane < CWI_LANES; lane += MIXED) {
        if (n->up)
            mix_lanes(m, n, lane, n->up, width, acc);
        else
            mix_lanes(m, n, lane, NULL, width, acc);
    }
}

/* Of one position. */
CWI_INLINE void contexts_at(const cwi_ctx_mix *m, const int16_t *acc, const uint8_t *left, uint8_t *out)
{
    const mixed_words zero = {0}, most = zero + (CWI_CONTEXTS - 1);
    for (unsigned l = 0; l < CWI_LANES; l += MIXED) {
        mixed_words c = (words_at(acc + l) + words_at(m->weight[0] + l) * symbols_at(left + l)) >> CWI_CTX_SHIFT;
        const mixed_words above = c > most;
        c = (c & ~above) | (most & above);
        c &= c > zero;
        put_bytes(c, out + l);
    }
}

static const uint8_t cwi_nothing_left[CWI_LANES];

static void contexts(const cwi_ctx_mix *m, const int16_t *acc, const uint8_t *row, size_t width, uint8_t *out)
{
    for (size_t x = 0; x < width; x++, acc += CWI_LANES, out += CWI_LANES)
        contexts_at(m, acc, x ? row + (x - 1) * CWI_LANES : cwi_nothing_left, out);
}

#endif
