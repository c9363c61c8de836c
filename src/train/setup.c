/* setup.c - from a configuration to model, codecs, data and trainable halves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/setup.h"

/* ---- setup ---- */

static cw_status parse_sample(const char *text, cw_shape *shape, cw_error *err)
{
    memset(shape, 0, sizeof *shape);
    for (const char *p = text;;) {
        char *end;
        long dim = strtol(p, &end, 10);
        if (end == p || dim < 1 || dim > 65536 || shape->ndim == CW_MAX_DIMS - 1 || (*end && *end != 'x'))
            return cwi_fail(err, CW_ERR_SPEC, "sample: '%s' is not a shape like 3x32x32", text);
        shape->dim[shape->ndim++] = dim;
        if (!*end)
            return CW_OK;
        p = end + 1;
    }
}

/* The data set as this machine has it. */
static cw_status open_split(const cw_config *config, cw_split split, cw_dataset **ds, cw_error *err)
{
    char spec[sizeof config->data + sizeof config->data_dir];
    int name = (int)strcspn(config->data, ":");
    if (*config->data_dir)
        snprintf(spec, sizeof spec, "%.*s:%s", name, config->data, config->data_dir);
    else
        snprintf(spec, sizeof spec, "%s", config->data);
    return cw_dataset_open(spec, split, ds, err);
}

static cw_status find_sample_shape(cwi_setup *setup, cw_error *err)
{
    cw_config *config = &setup->config;
    if (*config->sample && config->classes)
        return parse_sample(config->sample, &setup->sample, err);
    cw_dataset *ds;
    CWI_TRY(open_split(config, CW_SPLIT_TEST, &ds, err));
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    setup->sample = info->sample;
    config->classes = info->classes;
    cw_shape_format(&info->sample, config->sample, sizeof config->sample);
    cw_dataset_close(&ds);
    return CW_OK;
}

static cw_status open_parts_of_setup(cwi_setup *setup, cw_error *err)
{
    const cw_config *config = &setup->config;
    CWI_TRY(cw_schedule_parse(config->schedule, &setup->schedule, err));
    setup->schedule.base_lr = config->lr;
    cw_status status = cw_codec_create(config->uplink, &setup->up, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "uplink");
    status = cw_codec_create(config->downlink, &setup->down, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "downlink");
    CWI_TRY(find_sample_shape(setup, err));
    CWI_TRY(cw_shape_count(&setup->sample, &setup->sample_count));
    cw_model_options options = {.sample = setup->sample, .classes = config->classes, .activation = config->activation};
    CWI_TRY(cw_model_open(config->model, &options, &setup->model, err));
    CWI_TRY(cw_model_cut(setup->model, config->cut, &setup->cut, err));
    return cw_shape_count(&setup->cut.smashed, &setup->smashed_count);
}

cw_status cwi_setup_open(const cw_config *config, cwi_setup *setup, cw_error *err)
{
    memset(setup, 0, sizeof *setup);
    setup->config = *config;
    cw_status status = open_parts_of_setup(setup, err);
    if (status != CW_OK)
        cwi_setup_close(setup);
    return status;
}

void cwi_setup_close(cwi_setup *setup)
{
    cw_codec_destroy(&setup->up);
    cw_codec_destroy(&setup->down);
    cw_model_close(&setup->model);
}

cw_status cw_config_check(const cw_config *config, cw_error *err)
{
    cwi_setup setup;
    CWI_TRY(cwi_setup_open(config, &setup, err));
    cwi_setup_close(&setup);
    return CW_OK;
}

cw_status cwi_setup_shared_json(const cwi_setup *setup, char **json, cw_error *err)
{
    /* Where the data lies is each side's own business: only its name travels. */
    cw_config config = setup->config;
    config.data[strcspn(config.data, ":")] = '\0';
    return cw_config_to_json(&config, true, json, err);
}

cw_status cwi_setup_hash(const cwi_setup *setup, uint64_t *hash, cw_error *err)
{
    char *json;
    CWI_TRY(cwi_setup_shared_json(setup, &json, err));
    *hash = cwi_hash_string(json);
    cwi_free(json);
    for (size_t i = 0; i < setup->cut.layer; i++) {
        cw_layer_info layer = cw_model_layer(setup->model, i);
        char shape[128];
        uint64_t parts[] = {cwi_hash_string(layer.kind), cwi_hash_string(layer.name),
                            cwi_hash_string(cw_shape_format(&layer.out, shape, sizeof shape)), layer.parameters};
        for (size_t p = 0; p < CWI_COUNT(parts); p++)
            *hash = (*hash ^ parts[p]) * UINT64_C(0x100000001b3);
    }
    return CW_OK;
}

int cwi_engine_threads(const cw_config *config)
{
    return config->threads > 0 ? config->threads : cwi_cpu_count();
}

uint64_t cwi_codec_seed(uint64_t seed, unsigned direction, size_t client, uint32_t epoch, uint32_t step)
{
    cwi_rng r = cwi_rng_make(seed, CWI_STREAM_CODEC, (uint64_t)client * 2 + direction, (uint64_t)epoch << 32 | step);
    return cwi_rng_u64(&r);
}

uint64_t cwi_part_position(size_t client, uint64_t epoch, size_t batches, size_t step)
{
    return ((uint64_t)client << 40) + epoch * batches + step;
}

void cwi_average_add(float *sum, const float *x, size_t count, float weight, bool first)
{
    if (first) {
        for (size_t i = 0; i < count; i++)
            sum[i] = weight * x[i];
        return;
    }
    for (size_t i = 0; i < count; i++)
        sum[i] += weight * x[i];
}

/* ---- halves ---- */

cw_status cwi_half_open(const cwi_setup *setup, size_t first, size_t last, size_t max_batch, cwi_half *half,
                        cw_error *err)
{
    const cw_config *config = &setup->config;
    memset(half, 0, sizeof *half);
    half->first = first;
    half->last = last;
    cw_part_options options = {
        .max_batch = max_batch, .seed = config->seed, .threads = cwi_engine_threads(config), .input_grad = first > 0};
    CWI_TRY(cw_part_create(setup->model, first, last, &options, &half->part, err));
    half->trainable = cw_part_trainable_size(half->part);
    half->buffers = cw_part_buffer_size(half->part);
    half->flat = cwi_calloc(CWI_MAX(half->trainable, half->buffers), sizeof(float));
    cw_sgd_options sgd = {
        .momentum = (float)config->momentum, .weight_decay = (float)config->weight_decay, .nesterov = config->nesterov};
    cw_status status = half->flat ? cw_sgd_create(half->part, &sgd, &half->sgd, err)
                                  : cwi_fail_memory(err, half->trainable * sizeof(float));
    if (status != CW_OK)
        cwi_half_close(half);
    return status;
}

void cwi_half_close(cwi_half *half)
{
    cw_sgd_destroy(&half->sgd);
    cw_part_destroy(&half->part);
    cwi_free(half->flat);
    memset(half, 0, sizeof *half);
}

static void momentum_name(const cwi_half *half, char *name, size_t size)
{
    snprintf(name, size, "optimizer.momentum.%zu-%zu", half->first, half->last);
}

static cw_status export_momentum(cwi_half *half, cw_named_tensor *item, cw_error *err)
{
    cw_shape shape = cw_shape_of(1, (int64_t[]){(int64_t)half->trainable});
    momentum_name(half, item->name, sizeof item->name);
    cw_status status = cw_tensor_alloc(&item->tensor, CW_F32, &shape);
    if (status != CW_OK)
        return cwi_fail_memory(err, half->trainable * sizeof(float));
    cw_sgd_export(half->sgd, item->tensor.data);
    return CW_OK;
}

/* Appends one half's tensors to the state, which takes them over. */
static cw_status append_half(cwi_half *half, cwi_state *state, cw_error *err)
{
    cw_named_tensor *own;
    size_t count;
    CWI_TRY(cw_part_state_export(half->part, &own, &count, err));
    size_t old = state->count * sizeof *own, add = (count + 1) * sizeof *own;
    cw_named_tensor *grown = cwi_realloc(state->items, old, old + add);
    if (!grown) {
        cw_named_tensors_free(own, count);
        return cwi_fail_memory(err, old + add);
    }
    memcpy(grown + state->count, own, count * sizeof *own);
    cwi_free(own);
    state->items = grown;
    state->count += count;
    memset(&grown[state->count], 0, sizeof *grown);
    CWI_TRY(export_momentum(half, &grown[state->count], err));
    state->count++;
    return CW_OK;
}

cw_status cwi_halves_export(cwi_half *const *halves, size_t count, cwi_state *state, cw_error *err)
{
    memset(state, 0, sizeof *state);
    for (size_t i = 0; i < count; i++)
        CWI_TRY(append_half(halves[i], state, err));
    return CW_OK;
}

void cwi_state_free(cwi_state *state)
{
    cw_named_tensors_free(state->items, state->count);
    memset(state, 0, sizeof *state);
}

cw_status cwi_half_import(cwi_half *half, const cw_tensor_set *set, cw_error *err)
{
    CWI_TRY(cw_part_state_import(half->part, set, err));
    char name[64];
    momentum_name(half, name, sizeof name);
    const cw_tensor *momentum = cw_tensor_set_find(set, name);
    if (!momentum)
        return CW_OK;
    if (momentum->dtype != CW_F32 || momentum->shape.ndim != 1 || momentum->shape.dim[0] != (int64_t)half->trainable)
        return cwi_fail(err, CW_ERR_MISMATCH, "%s: not the %zu floats of this half", name, half->trainable);
    memcpy(half->flat, momentum->data, half->trainable * sizeof(float));
    cw_sgd_import(half->sgd, half->flat);
    return CW_OK;
}

cw_status cwi_half_save(cwi_half *half, uint8_t **bytes, size_t *size, cw_error *err)
{
    cwi_state state;
    *bytes = NULL;
    cw_status status = cwi_halves_export(&half, 1, &state, err);
    if (status == CW_OK)
        status = cw_safetensors_encode(state.items, state.count, NULL, bytes, size, err);
    cwi_state_free(&state);
    return status;
}

cw_status cwi_half_load(cwi_half *half, const void *bytes, size_t size, cw_error *err)
{
    cw_tensor_set set;
    CWI_TRY(cw_safetensors_decode(bytes, size, &set, err));
    cw_status status = cwi_half_import(half, &set, err);
    cw_tensor_set_free(&set);
    return status;
}

/* ---- a client's data ---- */

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
    if (cw_shape_equal(&info->sample, &setup->sample) && info->classes == setup->config.classes)
        return CW_OK;
    return cwi_fail(err, CW_ERR_MISMATCH, "data set %s has samples of %s and %d classes, this run is for %s and %d",
                    info->name, cw_shape_format(&info->sample, have, sizeof have), info->classes, setup->config.sample,
                    setup->config.classes);
}

static cw_status open_train(const cwi_setup *setup, size_t client, size_t clients, cwi_feed *feed, cw_error *err)
{
    const cw_config *config = &setup->config;
    CWI_TRY(open_split(config, CW_SPLIT_TRAIN, &feed->train, err));
    CWI_TRY(check_data_shape(setup, feed->train, err));
    cw_loader_options options = {.batch = (size_t)config->batch,
                                 .seed = config->seed,
                                 .shuffle = true,
                                 .flip = config->flip,
                                 .crop_pad = config->crop_pad,
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
    CWI_TRY(open_split(config, CW_SPLIT_TEST, &feed->test, err));
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

cw_status cwi_feed_open(const cwi_setup *setup, size_t client, size_t clients, cwi_feed *feed, cw_error *err)
{
    memset(feed, 0, sizeof *feed);
    cw_status status = open_train(setup, client, clients, feed, err);
    if (status == CW_OK)
        status = open_test(setup, client, clients, feed, err);
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
}
