/* feed.c - a client's share of the data set. */
#include <string.h>

#include "train/setup.h"

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

static cw_status open_train(const cwi_setup *setup, size_t client, size_t clients, cwi_feed *feed, cw_error *err)
{
    const cw_config *config = &setup->config;
    CWI_TRY(cwi_dataset_open_local(setup, CW_SPLIT_TRAIN, &feed->train, err));
    CWI_TRY(check_data_shape(setup, feed->train, err));
    cw_loader_options options = {.batch = (size_t)config->batch,
                                 .seed = config->seed,
                                 .shuffle = true,
                                 .flip = config->flip,
                                 .crop_pad = config->crop_pad,
                                 .resized_crop = config->resized_crop,
                                 .threads = config->loader_threads};
    if (config->own_data) {
        clients = 1;
        client = 0;
    }
    cw_shards shards;
    CWI_TRY(cw_shards_make(feed->train, clients, config->dirichlet, config->seed, &shards, err));
    feed->train_count = limited(&shards, client, config->train_limit);
    cw_status status =
        feed->train_count
            ? cw_loader_create(feed->train, shards.index[client], feed->train_count, &options, &feed->train_loader, err)
            : cwi_fail(err, CW_ERR_INVALID, "train-limit %d leaves client %zu no samples", config->train_limit, client);
    cw_shards_free(&shards);
    return status;
}

static cw_status open_test(const cwi_setup *setup, size_t client, size_t clients, cwi_feed *feed, cw_error *err)
{
    const cw_config *config = &setup->config;
    CWI_TRY(cwi_dataset_open_local(setup, CW_SPLIT_TEST, &feed->test, err));
    CWI_TRY(check_data_shape(setup, feed->test, err));
    size_t total = cw_dataset_get_info(feed->test)->count;
    if (config->test_limit > 0)
        total = CWI_MIN(total, (size_t)config->test_limit);
    size_t begin = config->own_data ? 0 : share_begin(total, client, clients);
    size_t end = config->own_data ? total : share_begin(total, client + 1, clients);
    feed->test_count = end - begin;
    uint32_t *index = cwi_alloc(feed->test_count, sizeof *index);
    if (!index)
        return cwi_fail_memory(err, feed->test_count * sizeof *index);
    for (size_t i = 0; i < feed->test_count; i++)
        index[i] = (uint32_t)(begin + i);
    cw_loader_options options = {.batch = (size_t)config->batch, .threads = config->loader_threads};
    cw_status status = feed->test_count
                           ? cw_loader_create(feed->test, index, feed->test_count, &options, &feed->test_loader, err)
                           : CW_OK;
    cwi_free(index);
    return status;
}

static cw_status name_classes(cwi_feed *feed, cw_error *err)
{
    const cw_dataset_info *train = cw_dataset_get_info(feed->train), *test = cw_dataset_get_info(feed->test);
    if (!train->class_names || !test->class_names)
        return CW_OK;
    CWI_TRY(cwi_classes_copy(train->class_names, (size_t)train->classes, &feed->classes, err));
    cwi_classes of_test;
    CWI_TRY(cwi_classes_copy(test->class_names, (size_t)test->classes, &of_test, err));
    cw_status status = CW_OK;
    if (!cwi_classes_equal(&feed->classes, &of_test))
        status = cwi_fail(err, CW_ERR_MISMATCH, "data set %s: training and test split name their classes otherwise",
                          train->name);
    cwi_classes_free(&of_test);
    return status;
}

cw_status cwi_feed_check_classes(const cwi_setup *setup, const cwi_feed *feed, char **both, cw_error *err)
{
    const cwi_classes *own = &feed->classes, *run = &setup->classes;
    const size_t classes = (size_t)setup->config.classes;
    char *lists = NULL;
    cw_status status = CW_OK;
    if (both)
        *both = NULL;
    if (run->count == classes && cwi_classes_unknown(run, own))
        status = cwi_classes_refuse(run, own, &lists, err);
    else if (own->count > classes)
        status = cwi_fail(err, CW_ERR_MISMATCH, "data set %s has %zu classes, this run is for %zu",
                          cw_dataset_get_info(feed->train)->name, own->count, classes);
    if (both && lists && strlen(lists) >= CWI_CLASSES_INLINE)
        *both = lists;
    else
        cwi_free(lists);
    return status;
}

cw_status cwi_feed_open(const cwi_setup *setup, size_t client, size_t clients, cwi_feed *feed, cw_error *err)
{
    memset(feed, 0, sizeof *feed);
    cw_status status = open_train(setup, client, clients, feed, err);
    if (status == CW_OK)
        status = open_test(setup, client, clients, feed, err);
    if (status == CW_OK)
        status = name_classes(feed, err);
    if (status != CW_OK)
        cwi_feed_close(feed);
    return status;
}

void cwi_feed_close(cwi_feed *feed)
{
    cw_loader_destroy(&feed->train_loader);
    cw_loader_destroy(&feed->test_loader);
    cw_dataset_close(&feed->train);
    cw_dataset_close(&feed->test);
    cwi_classes_free(&feed->classes);
}
