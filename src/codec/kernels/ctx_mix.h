/* ctx_mix.h - what predicts a row's symbols, for every variant that has nothing better: in GNU C's vectors, which
 * compilers turn into the best that the file's instruction set has. Included by ctx_*.c. */
#ifndef CWI_CTX_MIX_H
#define CWI_CTX_MIX_H

#include <string.h>

#include "codec/kernels/kernels.h"

enum { MIXED = 8 /* lanes at a time */ };

typedef uint8_t cwi_u8x8 __attribute__((vector_size(MIXED)));
typedef int16_t cwi_i16x8 __attribute__((vector_size(2 * MIXED)));

CWI_INLINE cwi_i16x8 words_at(const int16_t *p)
{
    cwi_i16x8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

CWI_INLINE cwi_i16x8 symbols_at(const uint8_t *p)
{
    cwi_u8x8 v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, cwi_i16x8);
}

/* Adds weight times row to acc, for `count` positions. */
CWI_INLINE void add_weighted(const int16_t weight[CWI_LANES], const uint8_t *row, size_t count, int16_t *acc)
{
    for (unsigned l = 0; l < CWI_LANES; l += MIXED) {
        const cwi_i16x8 w = words_at(weight + l);
        for (size_t i = l; i < count * CWI_LANES; i += CWI_LANES) {
            const cwi_i16x8 sum = words_at(acc + i) + w * symbols_at(row + i);
            memcpy(acc + i, &sum, sizeof sum);
        }
    }
}

static void mix(const cwi_ctx_mix *m, const cwi_ctx_near *n, size_t width, int16_t *acc)
{
    for (size_t x = 0; x < width; x++)
        memcpy(acc + x * CWI_LANES, m->bias, sizeof m->bias);
    if (n->up) {
        add_weighted(m->weight[1], n->up, width, acc);
        add_weighted(m->weight[2], n->up, width - 1, acc + CWI_LANES);
        add_weighted(m->weight[3], n->up + CWI_LANES, width - 1, acc);
    }
    for (unsigned r = 0; r < m->refs; r++)
        add_weighted(m->weight[CWI_CTX_NEAR + r], n->ref[r], width, acc);
}

/* Of one position. */
CWI_INLINE void contexts_at(const cwi_ctx_mix *m, const int16_t *acc, const uint8_t *left, uint8_t *out)
{
    const cwi_i16x8 zero = {0}, most = zero + (CWI_CONTEXTS - 1);
    for (unsigned l = 0; l < CWI_LANES; l += MIXED) {
        cwi_i16x8 c = (words_at(acc + l) + words_at(m->weight[0] + l) * symbols_at(left + l)) >> CWI_CTX_SHIFT;
        const cwi_i16x8 above = c > most;
        c = (c & ~above) | (most & above);
        c &= c > zero;
        const cwi_u8x8 bytes = __builtin_convertvector(c, cwi_u8x8);
        memcpy(out + l, &bytes, sizeof bytes);
    }
}

static const uint8_t cwi_nothing_left[CWI_LANES];

static void contexts(const cwi_ctx_mix *m, const int16_t *acc, const uint8_t *row, size_t width, uint8_t *out)
{
    for (size_t x = 0; x < width; x++, acc += CWI_LANES, out += CWI_LANES)
        contexts_at(m, acc, x ? row + (x - 1) * CWI_LANES : cwi_nothing_left, out);
}

#endif
