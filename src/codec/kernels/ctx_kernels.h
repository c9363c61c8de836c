/* ctx_kernels.h - the entropy coder's inner loops: symbols of 32 planes at a time, each plane in its own rANS lane.
 * Internal.
 *
 * A group is CWI_LANES planes of the same width and height, one in each lane. Kernels see rows of it as bytes
 * [x][lane], so that a vector holds the same position of all planes. The context of a symbol comes from a linear
 * prediction of it:
 *     acc = bias + weight[0] * up + weight[1] * upper left + weight[2] * upper right + weight[3 ..] * references
 *     context = min(max(floor((acc + left weight * left) / 4), 0), CWI_CONTEXTS - 1)
 * with 0 beyond the plane's edge. References are the symbols at the same place of groups that came earlier. acc does
 * not depend on the row itself: it is made for a row at a time, before the row is decoded.
 *
 * A lane is a 32-bit rANS state x (Duda 2013), 16 bits moved at a time, probabilities in units of 1/4096. With
 * f = start[s + 1] - start[s] of the symbol's context:
 *     encode: while x >= f * 2^20: put the low 16 bits, x >>= 16;   x = x / f * 4096 + x % f + start[s]
 *     decode: s with start[s] <= x % 4096 < start[s + 1];  x = f * (x / 4096) + x % 4096 - start[s];
 *             if x < 2^16: x = x * 65536 + the next 16 bits
 * The decoder takes positions in order and within a position lanes in order; the encoder goes backward through both,
 * and writes backward. Symbols outside the support, which both ends know to be 0, leave the
 * state alone. */
#ifndef CWI_CTX_KERNELS_H
#define CWI_CTX_KERNELS_H

#include "base/base.h"

enum {
    CWI_LANES = 32,
    CWI_CONTEXTS = 64,
    CWI_SYMBOLS = 16,
    CWI_CTX_BITS = 12,
    CWI_CTX_WHOLE = 1 << CWI_CTX_BITS,
    CWI_CTX_NEAR = 4, /* weights of neighbours: left, up, upper left, upper right */
    CWI_CTX_ABOVE = CWI_CTX_NEAR - 1,
    CWI_CTX_REFS = 8, /* most references */
    CWI_CTX_WEIGHTS = CWI_CTX_NEAR + CWI_CTX_REFS,
    CWI_CTX_WEIGHT_MOST = 127, /* magnitudes, so that 16 bits hold every sum: 12 * 127 * 15 + 4095 */
    CWI_CTX_BIAS_MOST = 4095,
    CWI_CTX_SHIFT = 2, /* of acc */
    CWI_CTX_PAD = 64,
    CWI_CTX_SLACK = 16, /* bytes that encode() may scribble below what it has put */
};
#define CWI_CTX_LOW (UINT32_C(1) << 16) /* every lane's state is at least this between symbols */

/* The same tables as different kernels want them. */
typedef struct cwi_ctx_model {
    unsigned symbols; /* 1 .. CWI_SYMBOLS */
    /* start[s][c]: in context c, the probabilities of all symbols before s; from start[symbols][c] on CWI_CTX_WHOLE. */
    uint16_t start[CWI_SYMBOLS + 1][CWI_CONTEXTS];
    uint16_t next[CWI_CONTEXTS][CWI_SYMBOLS]; /* start[s + 1][c] */
    uint32_t part[CWI_CONTEXTS][CWI_SYMBOLS]; /* start[s][c] + 4096 s + 65536 times what s has; any where that is 0 */
} cwi_ctx_model;

/* The weights of a group's lanes. */
typedef struct cwi_ctx_mix {
    int16_t bias[CWI_LANES], left[CWI_LANES];
    int8_t weight[CWI_CTX_ABOVE + CWI_CTX_REFS][CWI_LANES]; /* up, upper left, upper right, references */
    unsigned refs;                                          /* how many references there are */
} cwi_ctx_mix;

/* What rows are predicted from: rows of [width][CWI_LANES] bytes that follow each other. */
typedef struct cwi_ctx_near {
    const uint8_t *row; /* the first of them; the one above lies before it */
    bool top;           /* but there is none above */
    const uint8_t *ref[CWI_CTX_REFS];
} cwi_ctx_near;

/* A position where there is none. */
static const uint8_t cwi_nothing[CWI_LANES];

/* Where a group has few planes these lie one after the other, each row behind an element that stands for those beyond
 * the edges: a prediction is a sum over bytes that lie as the plane does. */
enum { CWI_CTX_THIN = 4 /* planes, at most */, CWI_CTX_THIN_PAD = 16 };

typedef struct cwi_ctx_terms {
    int16_t bias;
    unsigned count;
    int16_t weight[CWI_CTX_WEIGHTS];
    const uint8_t *at[CWI_CTX_WEIGHTS];
} cwi_ctx_terms;

/* A row that is decoded; the symbol before it is what lies beyond the edge. */
typedef struct cwi_ctx_thin_row {
    const int16_t *acc;     /* but for the left neighbour */
    const uint8_t *support; /* or NULL */
    uint8_t *symbols, *contexts;
} cwi_ctx_thin_row;

typedef struct cwi_ctx_lanes {
    const cwi_ctx_model *model;
    uint32_t state[CWI_LANES];
    unsigned used; /* only lanes below this one have planes in this group */
    /* Decoder: a symbol that nearly all are, so that it pays to guess it; CWI_SYMBOLS where none is. Any symbol of the
     * model gives the same. */
    unsigned likely;
    /* [positions][CWI_LANES] of what is coded or decoded next: a symbol is 0, which takes nothing, where this is 0.
     * NULL: all are coded. */
    const uint8_t *support;
    /* Encoder: where the last 16 bits were put; the caller made room for the worst case, 2 bytes for each symbol and
     * CWI_CTX_SLACK. Decoder: where the next 16 bits are, little-endian; `end` is not passed. */
    uint8_t *put;
    const uint8_t *get, *end;
} cwi_ctx_lanes;

/* Symbols are below model->symbols, contexts below CWI_CONTEXTS, in unused lanes too. */
typedef struct cwi_ctx_kernels {
    /* acc of rows, [rows][width][CWI_LANES]; of the last row itself nothing is read. */
    void (*mix)(const cwi_ctx_mix *m, const cwi_ctx_near *n, size_t rows, size_t width, int16_t *acc);
    /* The contexts of rows from their acc and symbols. */
    void (*contexts)(const cwi_ctx_mix *m, const int16_t *acc, const uint8_t *row, size_t rows, size_t width,
                     uint8_t *contexts);
    /* `contexts` and `symbols` are [positions][CWI_LANES]. */
    void (*encode)(cwi_ctx_lanes *l, const uint8_t *contexts, const uint8_t *symbols, size_t positions);
    /* Fills a row [width][CWI_LANES], whose acc are given. Bytes of unused lanes are set to 0. False when more bits
     * are wanted than there are. `contexts`, where not NULL, are those of the used lanes; others may be overwritten. */
    bool (*decode)(cwi_ctx_lanes *l, const cwi_ctx_mix *m, const int16_t *acc, uint8_t *row, size_t width,
                   uint8_t *contexts);
    /* Of few planes: acc, or contexts, of n positions, a multiple of CWI_CTX_THIN_PAD, as many of which are read. */
    void (*thin_mix)(const cwi_ctx_terms *t, size_t n, int16_t *acc);
    void (*thin_contexts)(const cwi_ctx_terms *t, size_t n, uint8_t *contexts);
    /* As decode(), of at most CWI_CTX_THIN lanes; the left neighbours' weight is `left`. */
    bool (*thin_decode)(cwi_ctx_lanes *l, int left, const cwi_ctx_thin_row *rows, size_t width);
    /* n elements each of `count` planes, `stride` bytes apart, to [n][CWI_LANES], zeros in other lanes; and back. count
     * is CWI_LANES or half of that. */
    void (*to_lanes)(const uint8_t *planes, size_t stride, size_t count, size_t n, uint8_t *lanes);
    void (*from_lanes)(const uint8_t *lanes, size_t stride, size_t count, size_t n, uint8_t *planes);
    /* out[r] = sum of a[i] * rows[r * stride + i] for i < n, r < count; |a[i]| <= 127, rows of symbols; n <= 2^20 and a
     * multiple of CWI_CTX_PAD. */
    void (*products)(const int8_t *a, const uint8_t *rows, size_t stride, size_t count, size_t n, int32_t *out);
} cwi_ctx_kernels;

#endif
