/* bits.h - numbers of a few bits each, least significant bit first. Internal. */
#ifndef CWI_BITS_H
#define CWI_BITS_H

#include <string.h>

#include "base/base.h"

/* Writes from `next` on; the caller made room. */
typedef struct cwi_bit_writer {
    uint8_t *next;
    uint64_t held;
    unsigned count; /* bits in `held`, below 8 between calls */
} cwi_bit_writer;

/* n <= 32; v < 2^n. */
static inline void cwi_bits_put(cwi_bit_writer *w, uint64_t v, unsigned n)
{
    w->held |= v << w->count;
    w->count += n;
    for (; w->count >= 8; w->count -= 8, w->held >>= 8)
        *w->next++ = (uint8_t)w->held;
}

/* n <= 64; v < 2^n. */
static inline void cwi_bits_put_word(cwi_bit_writer *w, uint64_t v, unsigned n)
{
    if (n > 32) {
        cwi_bits_put(w, v & UINT32_MAX, 32);
        v >>= 32;
        n -= 32;
    }
    cwi_bits_put(w, v, n);
}

/* Fills up the last byte; returns the end. */
static inline uint8_t *cwi_bits_finish(cwi_bit_writer *w)
{
    if (w->count)
        *w->next++ = (uint8_t)w->held;
    w->held = 0;
    w->count = 0;
    return w->next;
}

/* Past the end there are zeros, and `short_of` is set. */
typedef struct cwi_bit_reader {
    const uint8_t *next, *end;
    uint64_t held;
    unsigned count;
    bool short_of;
} cwi_bit_reader;

/* n <= 32. */
static inline uint64_t cwi_bits_get(cwi_bit_reader *r, unsigned n)
{
    while (r->count < n) {
        if (r->next < r->end)
            r->held |= (uint64_t)*r->next++ << r->count;
        else
            r->short_of = true;
        r->count += 8;
    }
    const uint64_t v = r->held & ((UINT64_C(1) << n) - 1);
    r->held >>= n;
    r->count -= n;
    return v;
}

/* n <= 64. */
static inline uint64_t cwi_bits_get_word(cwi_bit_reader *r, unsigned n)
{
    const uint64_t low = cwi_bits_get(r, CWI_MIN(n, 32u));
    return n > 32 ? low | cwi_bits_get(r, n - 32) << 32 : low;
}

/* v >= 1 in 2 floor(log2 v) + 1 bits (Elias gamma): as many zeros as v has bits but one, a one, and those bits. */
static inline void cwi_gamma_put(cwi_bit_writer *w, uint32_t v)
{
    const unsigned more = 31 - (unsigned)__builtin_clz(v);
    cwi_bits_put(w, UINT64_C(1) << more, more + 1);
    cwi_bits_put(w, v - (UINT32_C(1) << more), more);
}

/* 0 when there is none of at most `most` further bits. */
static inline uint32_t cwi_gamma_get(cwi_bit_reader *r, unsigned most)
{
    unsigned more = 0;
    while (more <= most && cwi_bits_get(r, 1) == 0)
        more++;
    return more > most ? 0 : (UINT32_C(1) << more) + (uint32_t)cwi_bits_get(r, more);
}

#endif
