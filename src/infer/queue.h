/* queue.h - requests that wait for a batch, in the order of their arrival, and their samples. Not thread-safe.
 *
 * A request is decoded as it comes, next to those that wait already, while its bytes are in the processor's caches;
 * when as many samples wait as make a batch, its frame waits behind them. */
#ifndef CWI_INFER_QUEUE_H
#define CWI_INFER_QUEUE_H

#include "cutwire/codec.h"
#include "cutwire/net.h"

typedef struct cwi_request {
    size_t member;          /* who asks */
    uint32_t number, top;   /* of the request; how many of the likeliest classes it wants, 0: all outputs */
    size_t n;               /* samples */
    const uint8_t *payload; /* of them all, in the frame */
    size_t payload_size;
    double arrived; /* clock */
    cw_frame frame; /* of one that is not decoded yet */
} cwi_request;

typedef struct cwi_queue {
    cw_shape sample;
    size_t each;               /* floats of a sample */
    size_t max_batch;          /* samples */
    const cw_profile *profile; /* that payloads may name, or NULL; the caller's */
    cwi_request *requests;
    size_t room, count; /* of them */
    size_t samples;     /* of all */
    size_t decoded;     /* requests at the head whose samples are in x already, */
    size_t start;       /* the first of these samples in x, */
    size_t ready;       /* and their number */
    float *x;           /* room for two batches, so that samples seldom move */
} cwi_queue;

/* For at most `room` requests of at most `max_batch` samples of this shape. Errors: CW_ERR_NOMEM; a queue that could
 * not be opened may be closed. */
cw_status cwi_queue_open(cwi_queue *q, const cw_shape *sample, const cw_profile *profile, size_t max_batch, size_t room,
                         cw_error *err);
void cwi_queue_close(cwi_queue *q);

/* A request's payload must be of r.n samples of the queue's shape, CW_ERR_MISMATCH says what it is of else. */
cw_status cwi_queue_check(const cwi_queue *q, const cwi_request *r, cw_error *err);

/* Puts a request last, for which there must be room: decoded where all before it are and the batch has room, else with
 * its frame, which is the queue's then (frame->owner becomes NULL). Errors: those of cw_decode; it is not in the queue.
 */
cw_status cwi_queue_put(cwi_queue *q, cwi_request r, cw_frame *frame, cw_error *err);

/* Decodes those that came with others before them, as many as a batch takes. Where one cannot be, its member is in
 * *bad, and it is still in the queue: to be forgotten before the next call. Errors: those of cw_decode. */
cw_status cwi_queue_decode(cwi_queue *q, size_t *bad, cw_error *err);

/* How many of the first requests, all decoded, make the next batch, and *n: of how many samples. Engines plan for each
 * batch size anew, which takes as long as some samples do. So batches have few sizes: powers of two, and max_batch.
 * What is left makes the next one, with what comes meanwhile. */
size_t cwi_queue_choose(const cwi_queue *q, size_t *n);

/* The first `count` requests, of n samples in all, leave the queue and lie in `out`; the result is their samples, which
 * stay as they are until the next cwi_queue_put or cwi_queue_decode. */
const float *cwi_queue_take(cwi_queue *q, size_t count, size_t n, cwi_request *out);

/* All requests of a member leave the queue. */
void cwi_queue_forget(cwi_queue *q, size_t member);

#endif
