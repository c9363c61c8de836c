/* ctx_context.h - the context of a symbol, for the encoder and every variant of the decoder. Internal.
 *
 *     base[lane] + 4 * min(left, 3) + min(up, 3)           < CWI_CONTEXTS
 * where left and up are the symbols beside and above, 0 beyond the plane's edge. In GNU C's vectors, which every
 * compiler that builds this library turns into the best that the file's instruction set has. */
#ifndef CWI_CTX_CONTEXT_H
#define CWI_CTX_CONTEXT_H

#include <string.h>

#include "codec/kernels/ctx_kernels.h"

typedef uint8_t cwi_u8x16 __attribute__((vector_size(16)));

static inline cwi_u8x16 cwi_ctx_at_most_3(cwi_u8x16 v)
{
    const cwi_u8x16 three = (cwi_u8x16){0} + 3, more = (cwi_u8x16)(v > three);
    return (three & more) | (v & ~more);
}

/* Of the lanes of one position. */
static inline void cwi_ctx_context(const uint8_t base[CWI_LANES], const uint8_t left[CWI_LANES],
                                   const uint8_t up[CWI_LANES], uint8_t out[CWI_LANES])
{
    for (unsigned i = 0; i < CWI_LANES; i += sizeof(cwi_u8x16)) {
        cwi_u8x16 b, l, u;
        memcpy(&b, base + i, sizeof b);
        memcpy(&l, left + i, sizeof l);
        memcpy(&u, up + i, sizeof u);
        b += (cwi_ctx_at_most_3(l) << 2) + cwi_ctx_at_most_3(u);
        memcpy(out + i, &b, sizeof b);
    }
}

#endif
