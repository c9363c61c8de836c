/* cutwire/feed.h - where a client's batches come from: cutwire's loader (data.h), or anybody's callbacks.
 *
 * A feed gives the samples of one split, batch after batch, epoch after epoch, in an order of its own that must not
 * change when an epoch is read again: a run that goes on within an epoch seeks to where it stopped.
 *
 * Thread-safety: a feed is called by the thread that drives its client.
 */
#ifndef CUTWIRE_FEED_H
#define CUTWIRE_FEED_H

#include "cutwire/data.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a run asks of a feed, as the server told it. */
typedef struct cw_feed_plan {
    cw_split split;
    size_t batch;           /* samples of each batch; the last one of an epoch may have fewer */
    uint64_t seed;          /* of the run */
    size_t client, clients; /* this client's number, from 0, of how many */
    cw_shape sample;        /* of one input; ndim 0: whatever the client's half takes */
    int classes;            /* labels are below it */
    bool own_batches;       /* a feed may have another batch size than that (cw_feed.batch) */
    bool any_targets;       /* and tensors for targets (cw_batch.targets) */
    size_t in_flight;       /* micro-batches that a training batch, its targets too, is cut into */
} cw_feed_plan;

/* Every function gets `ctx`; a failure ends this client's part. Zero-initialize: a feed without `next` is none. */
typedef struct cw_feed {
    void *ctx;
    /* Called once, before anything else, with the plan; *samples: how many this client has of that split in an epoch.
     */
    cw_status (*open)(void *ctx, const cw_feed_plan *plan, size_t *samples, cw_error *err);
    /* Positions at batch `first_batch` of an epoch, both from 0; of a test split the epoch is always 0. */
    cw_status (*seek)(void *ctx, uint64_t epoch, size_t first_batch, cw_error *err);
    /* The next batch: so many samples, or what is left of the epoch. What it points to is the feed's, and stays as
     * it is until the next call. batch->index may be NULL. */
    cw_status (*next)(void *ctx, cw_batch *batch, cw_error *err);
    /* NULL, or called once when no more batches will be asked for. */
    void (*close)(void *ctx);
    size_t batch; /* 0: the plan's, else samples of each batch but the last of an epoch. Read after open, which may say
                     it by *this; only where plan.own_batches may it be another than the plan's */
} cw_feed;

#ifdef __cplusplus
}
#endif
#endif
