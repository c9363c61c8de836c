/* ctx_words.h - symbols as vectors of 16-bit numbers, in GNU C's vectors. Included by ctx_mix.h and ctx_thin.h, whose
 * users may define MIXED, how many are handled at a time, as 16, with v_widen() and v_shorten() for so many bytes to 16
 * bits each, and back. */
#ifndef CWI_CTX_WORDS_H
#define CWI_CTX_WORDS_H

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

CWI_INLINE mixed_words mixed_at(const uint8_t *p)
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

/* Contexts of acc that have everything. */
CWI_INLINE mixed_words contexts_of(mixed_words acc)
{
    const mixed_words zero = {0}, most = zero + (CWI_CONTEXTS - 1);
    acc >>= CWI_CTX_SHIFT;
    const mixed_words above = acc > most;
    acc = (acc & ~above) | (most & above);
    return acc & (acc > zero);
}

#endif
