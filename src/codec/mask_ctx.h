/* mask_ctx.h - the planes of a mask, as symbols coded in the context of their neighbours. Internal.
 *
 * Instead of planes:  symbols (ctx.h) | bits that are not worth modelling
 * The symbol of an element is its code, or of codes of more than 4 bits the upper 4. The bits are, for each element:
 * the lower bits of its code; and where there is a sign plane its sign, if it is not kept (the value has the sign) nor
 * of a code that stands for 0. */
#ifndef CWI_MASK_CTX_H
#define CWI_MASK_CTX_H

#include "codec/ctx.h"
#include "codec/mask.h"

typedef struct cwi_mask_ctx {
    const cwi_mask *mask;
    const cwi_kernels *kernels;
    const cw_shape *shape;
    unsigned threads;
    uint8_t *work; /* cwi_mask_ctx_work() bytes */
} cwi_mask_ctx;

size_t cwi_mask_ctx_work(const cwi_mask *m, const cw_shape *shape, unsigned threads, bool decoding);
/* Puts the coded form of the planes of all segments in their place, if it is smaller: sets *size. Else false, and the
 * planes are lost. */
bool cwi_mask_ctx_encode(const cwi_mask_ctx *c, uint8_t *planes, size_t *size);
/* Of no more than `size` bytes, for check(). */
bool cwi_mask_ctx_check(const cwi_mask *m, const cw_shape *shape, const uint8_t *in, size_t size);
/* The planes of all segments from exactly `size` bytes, or NULL; they are in c->work. */
const uint8_t *cwi_mask_ctx_decode(const cwi_mask_ctx *c, const uint8_t *in, size_t size);

#endif
