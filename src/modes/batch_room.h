/* batch_room.h - the batch that a server works on: smashed data, its gradient, labels, in memory that grows. Internal.
 */
#ifndef CWI_BATCH_ROOM_H
#define CWI_BATCH_ROOM_H

#include "config/setup.h"
#include "cutwire/wire.h"

typedef struct cwi_batch_room {
    const cwi_setup *setup;
    float *x, *dx; /* smashed data, and its gradient */
    uint8_t *sent; /* where gradients are masked: 0 where the activations' codes are */
    int32_t *labels;
    cw_shape shape;           /* of the batch at hand, its samples first */
    size_t elements, samples; /* that there is memory for */
} cwi_batch_room;

/* Room for the run's batch; the setup stays the caller's. CW_ERR_INVALID: too large, CW_ERR_NO_MEMORY. */
cw_status cwi_batch_room_open(cwi_batch_room *b, const cwi_setup *setup, cw_error *err);
void cwi_batch_room_close(cwi_batch_room *b);

/* The shape of an ACTIVATION's payload, and room for it: that of the cut, or where that is open the payload's own.
 * What was there is lost. CW_ERR_PROTOCOL: too many samples, or elements, or other samples than the message's. */
cw_status cwi_batch_room_take(cwi_batch_room *b, const cw_msg *msg, cw_error *err);
/* That, and the payload decoded into x, by so many threads. Besides these what decoding says. */
cw_status cwi_batch_room_decode(cwi_batch_room *b, const cw_msg *msg, int threads, cw_error *err);
/* Batches change places, but for their labels. */
void cwi_batch_room_swap(cwi_batch_room *a, cwi_batch_room *b);
/* Room for as many labels. */
cw_status cwi_batch_room_labels(cwi_batch_room *b, size_t samples, cw_error *err);

/* x or dx of the batch at hand. */
static inline cw_tensor cwi_batch_tensor(const cwi_batch_room *b, float *data)
{
    return cw_tensor_view(CW_F32, &b->shape, data);
}
size_t cwi_batch_elements(const cwi_batch_room *b);
/* Where gradients are masked: dx becomes 0 where nothing was sent. */
void cwi_batch_mask(const cwi_batch_room *b);

#endif
