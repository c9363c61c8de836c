/* ctx_mix.h - what predicts a row's symbols, for every variant that has nothing better: in GNU C's vectors, which
 * compilers turn into the best that the file's instruction set has. Included by ctx_*.c, which may define what
 * ctx_words.h asks for; V_MULTIPLIES, with v_add_product() for 8 lanes; or MIX_PAIRS, with a mix() of its own. */
#ifndef CWI_CTX_MIX_H
#define CWI_CTX_MIX_H

#include "codec/kernels/ctx_words.h"

#ifndef MIX_PAIRS

CWI_INLINE mixed_words add_weighted(mixed_words sum, const int8_t *weight, const uint8_t *row)
{
#ifdef V_MULTIPLIES
    return (mixed_words)v_add_product(sum, weight, row);
#else
    typedef int8_t mixed_signed __attribute__((vector_size(MIXED)));
    mixed_signed w;
    memcpy(&w, weight, sizeof w);
    return sum + __builtin_convertvector(w, mixed_words) * mixed_at(row);
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
    for (unsigned l = 0; l < lanes; l += MIXED)
        put_bytes(contexts_of(words_at(acc + l) + words_at(m->left + l) * mixed_at(left + l)), out + l);
}

static void contexts(const cwi_ctx_mix *m, const int16_t *acc, const uint8_t *row, size_t rows, size_t width,
                     uint8_t *out)
{
    for (size_t y = 0; y < rows; y++, row += width * CWI_LANES)
        for (size_t x = 0; x < width; x++, acc += CWI_LANES, out += CWI_LANES)
            contexts_at(m, acc, x ? row + (x - 1) * CWI_LANES : cwi_nothing, CWI_LANES, out);
}

#endif
