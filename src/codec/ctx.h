/* ctx.h - symbols 0..15 of a whole tensor <-> bytes, coded in the context of their neighbours (docs/PAYLOAD.md).
 * Internal.
 *
 * The symbols lie in memory as the tensor's elements do. A tensor of 3 dimensions or more whose last one is at most
 * CWI_CTX_WIDTH is taken as planes of the last two, any other as planes of one element. Plane i is of channel i % C,
 * where C is dimension 1 of a tensor of 4 dimensions taken as planes, or of 2; otherwise there is one channel. 32
 * planes make a group (one lane each), whole groups of CWI_CTX_BLOCK elements or more a block, which is a stream of its
 * own, so that blocks can be coded by several threads.
 */
#ifndef CWI_CTX_H
#define CWI_CTX_H

#include "codec/codec_impl.h"

enum {
    CWI_CTX_WIDTH = 4096,
    CWI_CTX_BLOCK = 1 << 18,
    CWI_CTX_STRIP = 512, /* positions handled at a time, in whole rows */
    CWI_CLASSES = 4,
    CWI_CTX_PREFIX = 12,
};

typedef struct cwi_ctx_shape {
    size_t planes, channels, height, width;
    size_t elements;
    size_t block_groups; /* in each block, the last one may have fewer */
    size_t blocks;
} cwi_ctx_shape;

void cwi_ctx_shape_of(const cw_shape *shape, size_t elements, cwi_ctx_shape *out);

/* What contexts tell apart; each context that others are merged into has a table of its own. */
enum { CWI_CTX_BY_NEIGHBOURS = 1, CWI_CTX_BY_CLASS = 2 };

typedef struct cwi_ctx_tables {
    cwi_ctx_model model;
    unsigned mode;
    const uint8_t *classes; /* of each channel */
} cwi_ctx_tables;

/* ---- encoding ---- */

typedef struct cwi_ctx_encoder {
    const cwi_kernels *kernels;
    cwi_ctx_shape shape;
    const uint8_t *symbols; /* shape.elements of them, each < CWI_SYMBOLS */
    unsigned threads;
    uint8_t *work; /* cwi_ctx_work_size() bytes, 64-byte aligned */
    /* set by cwi_ctx_plan */
    cwi_ctx_tables tables;
} cwi_ctx_encoder;

size_t cwi_ctx_work_size(const cwi_ctx_shape *shape, unsigned threads);
/* Counts, chooses tables, and returns about how many bytes it will take. */
size_t cwi_ctx_plan(cwi_ctx_encoder *e);
/* After cwi_ctx_plan. False when `capacity` is not enough. */
bool cwi_ctx_encode(cwi_ctx_encoder *e, uint8_t *out, size_t capacity, size_t *size);

/* ---- decoding ---- */

/* How long the part says it is; valid once cwi_ctx_check() said so, of a tensor with elements. */
static inline size_t cwi_ctx_size(const uint8_t *in)
{
    return (size_t)cwi_get_le(in + 6, 6);
}
/* Whether the part can be what `size` bytes at `in` begin with: for check(), cheap. */
bool cwi_ctx_check(const cwi_ctx_shape *shape, const uint8_t *in, size_t size);

typedef struct cwi_ctx_decoder {
    const cwi_kernels *kernels;
    cwi_ctx_shape shape;
    unsigned threads;
    const uint8_t *in;
    size_t size;
    uint8_t *work;    /* cwi_ctx_decode_work_size() bytes, 64-byte aligned */
    uint8_t *symbols; /* out */
    unsigned count;   /* out: all symbols are below it */
} cwi_ctx_decoder;

size_t cwi_ctx_decode_work_size(const cwi_ctx_shape *shape, unsigned threads);
/* Takes exactly the `size` bytes, or is false. */
bool cwi_ctx_decode(cwi_ctx_decoder *d);

/* ---- what both need (ctx_model.c, ctx_rows.c) ---- */

typedef uint32_t cwi_ctx_counts[CWI_CONTEXTS][CWI_SYMBOLS];

/* The row of tables that context c is merged into, and how many there are. */
unsigned cwi_ctx_table_of(unsigned mode, unsigned context);
unsigned cwi_ctx_table_count(unsigned mode);
/* Chooses a mode, fills in the model; returns the bits that symbols and tables will take. */
double cwi_ctx_choose(const cwi_ctx_shape *shape, cwi_ctx_counts counts, cwi_ctx_tables *t);
/* Mode, classes and tables; returns the end. At most cwi_ctx_tables_bound() bytes. */
uint8_t *cwi_ctx_tables_put(const cwi_ctx_tables *t, const cwi_ctx_shape *shape, uint8_t *out);
size_t cwi_ctx_tables_bound(const cwi_ctx_shape *shape);
/* Where they end, or NULL when they are no such. `classes` has room for one byte for each channel. */
const uint8_t *cwi_ctx_tables_get(const uint8_t *in, const uint8_t *end, const cwi_ctx_shape *shape, uint8_t *classes,
                                  cwi_ctx_tables *t);

static inline size_t cwi_ctx_groups(const cwi_ctx_shape *s)
{
    return (s->planes + CWI_LANES - 1) / CWI_LANES;
}
static inline unsigned cwi_ctx_used(const cwi_ctx_shape *s, size_t group)
{
    return (unsigned)CWI_MIN((size_t)CWI_LANES, s->planes - group * CWI_LANES);
}
/* Bytes of a row of a group. */
static inline size_t cwi_ctx_row(const cwi_ctx_shape *s)
{
    return s->width * CWI_LANES;
}
/* Rows of a group in a strip. */
static inline size_t cwi_ctx_strip(const cwi_ctx_shape *s)
{
    return CWI_MIN(s->height, CWI_MAX((size_t)CWI_CTX_STRIP / s->width, (size_t)1));
}
/* The base context of each lane of a group. */
void cwi_ctx_bases(const cwi_ctx_shape *s, const uint8_t *classes, size_t group, uint8_t base[CWI_LANES]);
/* `count` rows from row y on as [row][x][lane], and in front of them the one above. */
void cwi_ctx_gather(const cwi_kernels *k, const cwi_ctx_shape *s, const uint8_t *symbols, size_t group, size_t y,
                    size_t count, uint8_t *rows);
/* The contexts of such rows. */
void cwi_ctx_contexts(const uint8_t base[CWI_LANES], const uint8_t *rows, size_t width, size_t count, uint8_t *out);
/* The inverse of gather. */
void cwi_ctx_scatter(const cwi_kernels *k, const cwi_ctx_shape *s, const uint8_t *rows, size_t group, size_t y,
                     size_t count, uint8_t *symbols);

#endif
