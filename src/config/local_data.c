/* local_data.c - data sets of this machine: what a setup takes from them, and a client's share as a feed. */
#include <stdio.h>
#include <string.h>

#include "config/engine.h"

/* ---- what a run is told of its data ---- */

cw_status cwi_dataset_open_local(const cwi_setup *setup, cw_split split, cw_dataset **ds, cw_error *err)
{
    const cw_config *config = &setup->config;
    char spec[sizeof config->data + sizeof config->data_dir];
    int name = (int)strcspn(config->data, ":");
    if (*config->data_dir)
        snprintf(spec, sizeof spec, "%.*s:%s", name, config->data, config->data_dir);
    else
        snprintf(spec, sizeof spec, "%s", config->data);
    return cw_dataset_open_with(spec, split, setup->recipe, ds, err);
}

/* What the configuration leaves open, from the data set. */
static cw_status take_from_data(cwi_setup *setup, const cw_dataset *ds, cw_error *err)
{
    cw_config *config = &setup->config;
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    if (!*config->sample || !config->classes) {
        cw_shape_format(&info->sample, config->sample, sizeof config->sample);
        config->classes = info->classes;
        if (strlen(info->input) >= sizeof config->input)
            return cwi_fail(err, CW_ERR_UNSUPPORTED, "data set %s has too many categorical columns", info->name);
        memcpy(config->input, info->input, strlen(info->input) + 1);
    }
    if (!setup->classes.count && info->class_names && info->classes == config->classes)
        CWI_TRY(cwi_classes_copy(info->class_names, (size_t)info->classes, &setup->classes, err));
    const char *recipe = cw_dataset_recipe(ds);
    if (recipe && !setup->recipe && !(setup->recipe = cwi_strdup(recipe)))
        return cwi_fail_memory(err, strlen(recipe));
    return CW_OK;
}

cw_status cwi_local_data_describe(cwi_setup *setup, cw_error *err)
{
    cw_dataset *ds;
    CWI_TRY(cwi_dataset_open_local(setup, CW_SPLIT_TEST, &ds, err));
    const cw_status status = take_from_data(setup, ds, err);
    cw_dataset_close(&ds);
    return status;
}

/* ---- a client's share of it ---- */

typedef struct local {
    cw_dataset *data;
    cw_loader *loader; /* NULL: no samples */
} local;

static cw_status seek(void *ctx, uint64_t epoch, size_t first_batch, cw_error *err)
{
    const local *l = ctx;
    const cw_status status = l->loader ? cw_loader_seek(l->loader, epoch, first_batch) : CW_OK;
    return status == CW_OK ? CW_OK : cwi_fail(err, status, "the data: %s", cw_status_message(status));
}

static cw_status next(void *ctx, cw_batch *batch, cw_error *err)
{
    return cw_loader_next(((local *)ctx)->loader, batch, err);
}

static void close(void *ctx)
{
    local *l = ctx;
    cw_loader_destroy(&l->loader);
    cw_dataset_close(&l->data);
    cwi_free(l);
}

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

static cw_status open_train(const cwi_setup *setup, size_t client, size_t clients, local *l, size_t *samples,
                            cw_error *err)
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
    CWI_TRY(cw_shards_make(l->data, clients, config->dirichlet, config->seed, &shards, err));
    *samples = limited(&shards, client, config->train_limit);
    cw_status status = *samples ? cw_loader_create(l->data, shards.index[client], *samples, &options, &l->loader, err)
                                : cwi_fail(err, CW_ERR_INVALID, "train-limit %d leaves client %zu no samples",
                                           config->train_limit, client + 1);
    cw_shards_free(&shards);
    return status;
}

static cw_status open_test(const cwi_setup *setup, size_t client, size_t clients, local *l, size_t *samples,
                           cw_error *err)
{
    const cw_config *config = &setup->config;
    size_t total = cw_dataset_get_info(l->data)->count;
    if (config->test_limit > 0)
        total = CWI_MIN(total, (size_t)config->test_limit);
    find_share(config, &client, &clients);
    const size_t begin = share_begin(total, client, clients);
    *samples = share_begin(total, client + 1, clients) - begin;
    uint32_t *index = cwi_alloc(*samples, sizeof *index);
    if (!index)
        return cwi_fail_memory(err, *samples * sizeof *index);
    for (size_t i = 0; i < *samples; i++)
        index[i] = (uint32_t)(begin + i);
    cw_loader_options options = {.batch = (size_t)config->batch, .threads = config->loader_threads};
    cw_status status = *samples ? cw_loader_create(l->data, index, *samples, &options, &l->loader, err) : CW_OK;
    cwi_free(index);
    return status;
}

static cw_status open_split(const cwi_setup *setup, cw_split split, size_t client, size_t clients, local *l,
                            cwi_feed *feed, cw_error *err)
{
    CWI_TRY(cwi_dataset_open_local(setup, split, &l->data, err));
    CWI_TRY(check_data_shape(setup, l->data, err));
    const cw_dataset_info *info = cw_dataset_get_info(l->data);
    feed->name = info->name;
    feed->note = info->note;
    if (info->class_names)
        CWI_TRY(cwi_classes_copy(info->class_names, (size_t)info->classes, &feed->classes, err));
    return (split == CW_SPLIT_TRAIN ? open_train : open_test)(setup, client, clients, l, &feed->samples, err);
}

cw_status cwi_local_data_feed(const cwi_setup *setup, cw_split split, size_t client, size_t clients, cwi_feed *feed,
                              cw_error *err)
{
    local *l = cwi_calloc(1, sizeof *l);
    if (!l)
        return cwi_fail_memory(err, sizeof *l);
    feed->source = (cw_feed){.ctx = l, .seek = seek, .next = next, .close = close};
    return open_split(setup, split, client, clients, l, feed, err);
}
