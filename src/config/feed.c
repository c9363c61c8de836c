/* feed.c - one split of a client's data, whoever gives it: batches counted, names of classes compared. */
#include <string.h>

#include "config/engine.h"

cw_status cwi_feeds_check_classes(const cwi_setup *setup, const cwi_feed *train, const cwi_feed *test, char **both,
                                  cw_error *err)
{
    const cwi_classes *own = &train->classes, *run = &setup->classes;
    const size_t classes = (size_t)setup->config.classes;
    char *lists = NULL;
    cw_status status = CW_OK;
    if (both)
        *both = NULL;
    if (own->count && test->classes.count && !cwi_classes_equal(own, &test->classes))
        return cwi_fail(err, CW_ERR_MISMATCH, "data set %s: training and test split name their classes otherwise",
                        train->name);
    if (run->count == classes && cwi_classes_unknown(run, own))
        status = cwi_classes_refuse(run, own, &lists, err);
    else if (own->count > classes)
        status = cwi_fail(err, CW_ERR_MISMATCH, "data set %s has %zu classes, this run is for %zu", train->name,
                          own->count, classes);
    if (both && lists && strlen(lists) >= CWI_CLASSES_INLINE)
        *both = lists;
    else
        cwi_free(lists);
    return status;
}

static cw_status take_batch(const cwi_setup *setup, const cw_feed *own, cwi_feed *feed, cw_error *err)
{
    const size_t given = own->batch ? own->batch : feed->batch;
    if (given != feed->batch && !setup->client_state)
        return cwi_fail(err, CW_ERR_MISMATCH,
                        "this run's batches have %zu samples, the feed's %zu: make them alike (the server's key batch)",
                        feed->batch, given);
    feed->batch = given;
    return CW_OK;
}

static cw_status open_own(const cwi_setup *setup, cw_split split, size_t client, size_t clients, const cw_feed *own,
                          cwi_feed *feed, cw_error *err)
{
    const cw_feed_plan plan = {.split = split,
                               .batch = feed->batch,
                               .seed = setup->config.seed,
                               .client = client,
                               .clients = clients,
                               .sample = setup->sample,
                               .classes = setup->config.classes,
                               .own_batches = setup->client_state,
                               .any_targets = setup->any_targets,
                               .in_flight = (size_t)setup->config.in_flight};
    if (own->next) {
        if (!own->open || !own->seek)
            return cwi_fail(err, CW_ERR_INVALID, "a feed needs open, seek and next");
        CWI_TRY(own->open(own->ctx, &plan, &feed->samples, err));
        feed->source = *own;
        CWI_TRY(take_batch(setup, own, feed, err));
    }
    if (split == CW_SPLIT_TRAIN && !feed->samples)
        return cwi_fail(err, CW_ERR_INVALID, "this client's feed has no training samples");
    return CW_OK;
}

cw_status cwi_feed_open(const cwi_setup *setup, cw_split split, size_t client, size_t clients, const cw_feed *own,
                        cwi_feed *feed, cw_error *err)
{
    *feed = (cwi_feed){.batch = (size_t)setup->config.batch, .any_targets = setup->any_targets};
    cw_status status = own ? open_own(setup, split, client, clients, own, feed, err)
                           : cwi_local_data_feed(setup, split, client, clients, feed, err);
    feed->batches = (feed->samples + feed->batch - 1) / feed->batch;
    if (status != CW_OK)
        cwi_feed_close(feed);
    return status;
}

void cwi_feed_close(cwi_feed *feed)
{
    cwi_classes_free(&feed->classes);
    if (feed->source.close)
        feed->source.close(feed->source.ctx);
    feed->source = (cw_feed){0};
}

cw_status cwi_feed_seek(cwi_feed *feed, uint64_t epoch, size_t batch, cw_error *err)
{
    feed->next = CWI_MIN(batch, feed->batches);
    return feed->source.next ? feed->source.seek(feed->source.ctx, epoch, feed->next, err) : CW_OK;
}

cw_status cwi_feed_next(cwi_feed *feed, cw_batch *batch, cw_error *err)
{
    if (feed->next >= feed->batches)
        return CW_END;
    const size_t due = CWI_MIN(feed->batch, feed->samples - feed->next * feed->batch);
    *batch = (cw_batch){0};
    CWI_TRY(feed->source.next(feed->source.ctx, batch, err));
    if (batch->targets.dtype && !feed->any_targets)
        return cwi_fail(err, CW_ERR_MISMATCH, "the feed gave a tensor of targets, this run's server takes labels");
    if (batch->n != due || !batch->x)
        return cwi_fail(err, CW_ERR_INVALID, "the feed gave a batch of %zu samples where %zu of %zu were due", batch->n,
                        due, feed->samples);
    feed->next++;
    return CW_OK;
}
