/* feed.c - a client's share of the data set. */
#include <string.h>

#include "config/setup.h"

/* The i-th of n nearly equal runs of `total` things. */
static size_t share_begin(size_t total, size_t i, size_t n)
{
    return total / n * i + CWI_MIN(i, total % n);
}

/* What is left of a shard when the run uses only `limit` samples in all: skewed shards stay as skewed. */
static size_t limited(const cw_shards *shards, size_t client, int limit)
{
    size_t before = 0, total = 0;
    for (size_t i = 0; i < shards->clients; i++) {
        before += i < client ? shards->count[i] : 0;
        total += shards->count[i];
    }
    if (limit <= 0 || (size_t)limit >= total)
        return shards->count[client];
    size_t end = (before + shards->count[client]) * (size_t)limit / total;
    return end - before * (size_t)limit / total;
}

static cw_status check_data_shape(const cwi_setup *setup, const cw_dataset *ds, cw_error *err)
{
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    char have[64];
    const char *input = *setup->config.input ? setup->config.input : "image";
    if (strcmp(info->input, input) != 0)
        return cwi_fail(err, CW_ERR_MISMATCH, "data set %s has samples of %s, this run is for %s", info->name,
                        info->input, input);
    /* Classes that have names are compared by them. */
    if (cw_shape_equal(&info->sample, &setup->sample) && (info->class_names || info->classes == setup->config.classes))
        return CW_OK;
    return cwi_fail(err, CW_ERR_MISMATCH, "data set %s has samples of %s and %d classes, this run is for %s and %d",
                    info->name, cw_shape_format(&info->sample, have, sizeof have), info->classes, setup->config.sample,
                    setup->config.classes);
}

/* Client and clients as far as the data is dealt out: who has data of its own has all of it. */
static void find_share(const cw_config *config, size_t *client, size_t *clients)
{
    if (!config->own_data)
        return;
    *client = 0;
    *clients = 1;
}

static cw_status open_train(const cwi_setup *setup, size_t client, size_t clients, cwi_feed *feed, cw_error *err)
{
    const cw_config *config = &setup->config;
    cw_loader_options options = {.batch = (size_t)config->batch,
                                 .seed = config->seed,
                                 .shuffle = true,
                                 .flip = config->flip,
                                 .crop_pad = config->crop_pad,
                                 .resized_crop = config->resized_crop,
                                 .threads = config->loader_threads};
    cw_shards shards;
    find_share(config, &client, &clients);
    CWI_TRY(cw_shards_make(feed->data, clients, config->dirichlet, config->seed, &shards, err));
    feed->samples = limited(&shards, client, config->train_limit);
    cw_status status =
        feed->samples ? cw_loader_create(feed->data, shards.index[client], feed->samples, &options, &feed->loader, err)
                      : cwi_fail(err, CW_ERR_INVALID, "train-limit %d leaves client %zu no samples",
                                 config->train_limit, client + 1);
    cw_shards_free(&shards);
    return status;
}

static cw_status open_test(const cwi_setup *setup, size_t client, size_t clients, cwi_feed *feed, cw_error *err)
{
    const cw_config *config = &setup->config;
    size_t total = cw_dataset_get_info(feed->data)->count;
    if (config->test_limit > 0)
        total = CWI_MIN(total, (size_t)config->test_limit);
    find_share(config, &client, &clients);
    const size_t begin = share_begin(total, client, clients);
    feed->samples = share_begin(total, client + 1, clients) - begin;
    uint32_t *index = cwi_alloc(feed->samples, sizeof *index);
    if (!index)
        return cwi_fail_memory(err, feed->samples * sizeof *index);
    for (size_t i = 0; i < feed->samples; i++)
        index[i] = (uint32_t)(begin + i);
    cw_loader_options options = {.batch = (size_t)config->batch, .threads = config->loader_threads};
    cw_status status =
        feed->samples ? cw_loader_create(feed->data, index, feed->samples, &options, &feed->loader, err) : CW_OK;
    cwi_free(index);
    return status;
}

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
                        cw_dataset_get_info(train->data)->name);
    if (run->count == classes && cwi_classes_unknown(run, own))
        status = cwi_classes_refuse(run, own, &lists, err);
    else if (own->count > classes)
        status = cwi_fail(err, CW_ERR_MISMATCH, "data set %s has %zu classes, this run is for %zu",
                          cw_dataset_get_info(train->data)->name, own->count, classes);
    if (both && lists && strlen(lists) >= CWI_CLASSES_INLINE)
        *both = lists;
    else
        cwi_free(lists);
    return status;
}

static cw_status open_ours(const cwi_setup *setup, cw_split split, size_t client, size_t clients, cwi_feed *feed,
                           cw_error *err)
{
    CWI_TRY(cwi_dataset_open_local(setup, split, &feed->data, err));
    CWI_TRY(check_data_shape(setup, feed->data, err));
    const cw_dataset_info *info = cw_dataset_get_info(feed->data);
    if (info->class_names)
        CWI_TRY(cwi_classes_copy(info->class_names, (size_t)info->classes, &feed->classes, err));
    return (split == CW_SPLIT_TRAIN ? open_train : open_test)(setup, client, clients, feed, err);
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
                               .classes = setup->config.classes};
    if (own->next) {
        if (!own->open || !own->seek)
            return cwi_fail(err, CW_ERR_INVALID, "a feed needs open, seek and next");
        CWI_TRY(own->open(own->ctx, &plan, &feed->samples, err));
        feed->own = *own;
    }
    if (split == CW_SPLIT_TRAIN && !feed->samples)
        return cwi_fail(err, CW_ERR_INVALID, "this client's feed has no training samples");
    return CW_OK;
}

cw_status cwi_feed_open(const cwi_setup *setup, cw_split split, size_t client, size_t clients, const cw_feed *own,
                        cwi_feed *feed, cw_error *err)
{
    *feed = (cwi_feed){.batch = (size_t)setup->config.batch};
    cw_status status = own ? open_own(setup, split, client, clients, own, feed, err)
                           : open_ours(setup, split, client, clients, feed, err);
    feed->batches = (feed->samples + feed->batch - 1) / feed->batch;
    if (status != CW_OK)
        cwi_feed_close(feed);
    return status;
}

void cwi_feed_close(cwi_feed *feed)
{
    cw_loader_destroy(&feed->loader);
    cw_dataset_close(&feed->data);
    cwi_classes_free(&feed->classes);
    if (feed->own.close)
        feed->own.close(feed->own.ctx);
    feed->own = (cw_feed){0};
}

cw_status cwi_feed_seek(cwi_feed *feed, uint64_t epoch, size_t batch, cw_error *err)
{
    feed->next = CWI_MIN(batch, feed->batches);
    if (feed->loader)
        return cw_loader_seek(feed->loader, epoch, feed->next);
    return feed->own.next ? feed->own.seek(feed->own.ctx, epoch, feed->next, err) : CW_OK;
}

static cw_status next_of_own(cwi_feed *feed, cw_batch *batch, cw_error *err)
{
    const size_t due = CWI_MIN(feed->batch, feed->samples - feed->next * feed->batch);
    *batch = (cw_batch){0};
    CWI_TRY(feed->own.next(feed->own.ctx, batch, err));
    if (batch->n != due || !batch->x)
        return cwi_fail(err, CW_ERR_INVALID, "the feed gave a batch of %zu samples where %zu of %zu were due", batch->n,
                        due, feed->samples);
    return CW_OK;
}

cw_status cwi_feed_next(cwi_feed *feed, cw_batch *batch, cw_error *err)
{
    if (feed->next >= feed->batches)
        return CW_END;
    CWI_TRY(feed->loader ? cw_loader_next(feed->loader, batch, err) : next_of_own(feed, batch, err));
    feed->next++;
    return CW_OK;
}
