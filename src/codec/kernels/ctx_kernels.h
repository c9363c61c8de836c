/* ctx_kernels.h - the entropy coder's inner loops: symbols of 32 planes at a time, each plane in its own rANS lane.
 * Internal.
 *
 * A group is CWI_LANES planes of the same width and height, one in each lane. Kernels see rows of it as bytes
 * [x][lane], so that a vector holds the same position of all planes. What the context of a symbol is, ctx_context.h
 * says.
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
    CWI_CTX_SLACK = 16, /* bytes that encode() may scribble below what it has put */
};
#define CWI_CTX_LOW (UINT32_C(1) << 16) /* every lane's state is at least this between symbols */

/* The same tables as different kernels want them. */
typedef struct cwi_ctx_model {
    unsigned symbols; /* 1 .. CWI_SYMBOLS */
    /* start[s][c]: in context c, the probabilities of all symbols before s; from start[symbols][c] on CWI_CTX_WHOLE. */
    uint16_t start[CWI_SYMBOLS + 1][CWI_CONTEXTS];
    uint16_t next[CWI_CONTEXTS][CWI_SYMBOLS]; /* start[s + 1][c] */
    uint32_t part[CWI_CONTEXTS][CWI_SYMBOLS]; /* start[s][c], and 2^16 times what s has */
} cwi_ctx_model;

typedef struct cwi_ctx_lanes {
    const cwi_ctx_model *model;
    uint32_t state[CWI_LANES];
    uint8_t base[CWI_LANES]; /* of the contexts (decoder) */
    unsigned used;           /* only lanes below this one have planes in this group */
    /* Encoder: where the last 16 bits were put; the caller made room for the worst case, 2 bytes for each symbol and
     * CWI_CTX_SLACK. Decoder: where the next 16 bits are, little-endian; `end` is not passed. */
    uint8_t *put;
    const uint8_t *get, *end;
} cwi_ctx_lanes;

/* Symbols are below model->symbols, contexts below CWI_CONTEXTS, in unused lanes too. */
typedef struct cwi_ctx_kernels {
    /* `contexts` and `symbols` are [positions][CWI_LANES]. */
    void (*encode)(cwi_ctx_lanes *l, const uint8_t *contexts, const uint8_t *symbols, size_t positions);
    /* Fills `rows` [height][width][CWI_LANES]; what is above the first row lies before it. Bytes of unused lanes are
     * set to 0. False when more bits are wanted than there are. */
    bool (*decode)(cwi_ctx_lanes *l, uint8_t *rows, size_t width, size_t height);
    /* n elements each of CWI_LANES planes, `stride` bytes apart, to [n][CWI_LANES], and back. */
    void (*to_lanes)(const uint8_t *planes, size_t stride, size_t n, uint8_t *lanes);
    void (*from_lanes)(const uint8_t *lanes, size_t stride, size_t n, uint8_t *planes);
} cwi_ctx_kernels;

#endif
