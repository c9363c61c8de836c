/* ctx_kernels.h - the entropy coder's inner loops: symbols of 32 planes at a time, each plane in its own rANS lane.
 * Internal.
 *
 * A group is CWI_LANES planes of the same width and height, one in each lane. Kernels see one row of it at a time as
 * bytes [x][lane], so that a vector holds the same position of all planes. The context of a symbol is
 *     base[lane] + 4 * min(left, 3) + min(up, 3)           < CWI_CONTEXTS
 * with 0 beyond the plane's edge.
 *
 * A lane is a 32-bit rANS state x (Duda 2013), 16 bits moved at a time, probabilities in units of 1/4096. With
 * f = start[s + 1] - start[s] of the symbol's context:
 *     encode: while x >= f * 2^20: put the low 16 bits, x >>= 16;   x = x / f * 4096 + x % f + start[s]
 *     decode: s with start[s] <= x % 4096 < start[s + 1];  x = f * (x / 4096) + x % 4096 - start[s];
 *             if x < 2^16: x = x * 65536 + the next 16 bits
 * The decoder takes positions in order and within a position lanes in order; the encoder goes backward through both,
 * and writes backward. */
#ifndef CWI_CTX_KERNELS_H
#define CWI_CTX_KERNELS_H

#include "base/base.h"

enum {
    CWI_LANES = 32,
    CWI_CONTEXTS = 64,
    CWI_SYMBOLS = 16,
    CWI_CTX_BITS = 12,
    CWI_CTX_WHOLE = 1 << CWI_CTX_BITS,
};
#define CWI_CTX_LOW (UINT32_C(1) << 16) /* every lane's state is at least this between symbols */

/* start[s][c]: in context c, the probabilities of all symbols before s; start[symbols][c] = CWI_CTX_WHOLE. */
typedef struct cwi_ctx_model {
    unsigned symbols; /* 1 .. CWI_SYMBOLS */
    uint16_t start[CWI_SYMBOLS + 1][CWI_CONTEXTS];
} cwi_ctx_model;

typedef struct cwi_ctx_lanes {
    const cwi_ctx_model *model;
    uint32_t state[CWI_LANES];
    uint8_t base[CWI_LANES]; /* a multiple of 16, below CWI_CONTEXTS */
    unsigned used;           /* only lanes below this one have planes in this group */
    /* Encoder: where the last 16 bits were put; `begin` is not passed (the caller made room for the worst case: 2 bytes
     * for each symbol). Decoder: where the next 16 bits are, little-endian; `end` is not passed. */
    uint8_t *put;
    const uint8_t *get, *end;
} cwi_ctx_lanes;

/* Rows are [width][CWI_LANES] bytes, each below model->symbols. `up` is the row above, zeros for the first one. */
typedef struct cwi_ctx_kernels {
    /* counts[context][symbol]++ for each symbol of used lanes. */
    void (*count)(const uint8_t *row, const uint8_t *up, size_t width, const uint8_t *base, unsigned used,
                  uint32_t counts[CWI_CONTEXTS][CWI_SYMBOLS]);
    void (*encode)(cwi_ctx_lanes *l, const uint8_t *row, const uint8_t *up, size_t width);
    /* False when more bits are wanted than there are. Bytes of unused lanes are set to 0. */
    bool (*decode)(cwi_ctx_lanes *l, uint8_t *row, const uint8_t *up, size_t width);
} cwi_ctx_kernels;

#endif
