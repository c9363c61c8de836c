/* order.h - the order in which a tensor's elements are coded: sample by sample, channel by channel, plane by plane,
 * whatever the layout that they lie in. Internal. */
#ifndef CWI_ORDER_H
#define CWI_ORDER_H

#include "codec/codec_impl.h"

typedef enum cwi_order_name {
    CWI_ORDER_AUTO, /* recognised from the data; 0 in a payload of version 1, which knows none */
    CWI_ORDER_NCHW, /* as it lies: planes of the last two dimensions; of 5 dimensions samples, channels, frames */
    CWI_ORDER_NHWC, /* channels last; of 5 dimensions samples, frames, height, width, channels */
    CWI_ORDER_NLC,  /* 3 dimensions: samples, places, channels */
    CWI_ORDER_NCL,  /* 3 dimensions: samples, channels, places */
    CWI_ORDER_NC,   /* 2 dimensions: the samples' features side by side; 1 dimension: those of one sample */
} cwi_order_name;
#define CWI_ORDER_CHOICES "auto|nchw|nhwc|nlc|ncl|nc"

/* What a payload says of it. */
typedef struct cwi_order_id {
    cwi_order_name name;
    unsigned width; /* with CWI_ORDER_NLC and _NCL: places of a row, where rows follow each other; else 0 */
    unsigned bands; /* 2 .. 255: of 3 or 4 dimensions, planes are cut into so many, which count as samples; else 0 */
    bool narrow;    /* groups of one channel, however few samples there are: cwi_ctx_shape_narrow() */
} cwi_order_id;

enum { CWI_ORDER_BANDS_MOST = 255 };

/* Coded element ((b * columns + c) * rows + r) * block + k is element ((b * rows + r) * columns + c) * block + k. */
typedef struct cwi_order {
    cw_shape shape; /* as which it is coded */
    size_t batch, rows, columns, block;
} cwi_order;

/* False where tensors of this shape have no such order; never with CWI_ORDER_AUTO (as version 1 has it) and _NCHW.
 * per_sample: elements of an index of dimension 0 are to stay together. */
bool cwi_order_of(cwi_order_id id, const cw_shape *shape, bool per_sample, cwi_order *out);
/* From one to the next of those whose sizes bound those of all; begins with {0}, false at the end. */
bool cwi_order_next(cwi_order_id *id, const cw_shape *shape);
/* The order that suits the data, or with a name the rest of it; and where that is in doubt behind it, up to `most` in
 * all, the others that it may be. Returns how many there are. `out` has room for `most`, 1 .. CWI_ORDER_GUESSES. */
enum { CWI_ORDER_GUESSES = 3 };
size_t cwi_order_guess(cwi_order_name name, const cwi_source *s, const cw_shape *shape, size_t elements,
                       bool per_sample, size_t most, cwi_order_id *out);
/* Puts into *id what lets channels be predicted from each other though samples are few: groups of one channel, with
 * bands where samples are too large for that. False where there are enough, or planes cannot be cut. */
bool cwi_order_for_few(cwi_order_id *id, const cw_shape *shape, size_t elements, bool per_sample);
/* Whether elements move. */
static inline bool cwi_order_moves(const cwi_order *o)
{
    return o->rows > 1 && o->columns > 1;
}
/* Elements of 1, 2 or 4 bytes to the order in which they are coded, and back. */
void cwi_order_put(const cwi_order *o, const void *in, size_t size, void *out);
void cwi_order_undo(const cwi_order *o, const void *in, size_t size, void *out);

#endif
