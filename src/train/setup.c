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
    const char *recipe = cw_dataset_recipe(ds);
    if (recipe && !setup->recipe && !(setup->recipe = cwi_strdup(recipe)))
        return cwi_fail_memory(err, strlen(recipe));
    return CW_OK;
}

static cw_status find_sample(cwi_setup *setup, cw_error *err)
{
    cw_config *config = &setup->config;
    bool described = *config->sample && config->classes;
    if (!described || (cwi_recipe_needed(config) && !setup->recipe)) {
        cw_dataset *ds;
        cw_status status = cwi_dataset_open_local(setup, CW_SPLIT_TEST, &ds, err);
        if (status != CW_OK)
            return described ? cwi_fail_prefix(err, status, "--recipe FILE is needed, or the data set") : status;
        status = take_from_data(setup, ds, err);
        cw_dataset_close(&ds);
        CWI_TRY(status);
    }
    return parse_sample(config->sample, &setup->sample, err);
}

static bool has_batch_norm(const cw_model *model)
{
    for (size_t i = 0; i < cw_model_layer_count(model); i++)
        if (strcmp(cw_model_layer(model, i).kind, "batchnorm") == 0)
            return true;
    return false;
}

/* Whether what crosses the cut is 0 exactly where nothing before it learns from there. */
static bool is_behind_relu(const cw_model *model, size_t layer)
{
    static const char *const keep[] = {"maxpool", "avgpool", "dropout", "flatten"};
    for (; layer > 0; layer--) {
        const char *kind = cw_model_layer(model, layer - 1).kind;
        bool kept = false;
        for (size_t i = 0; i < CWI_COUNT(keep); i++)
            kept |= strcmp(kind, keep[i]) == 0;
        if (!kept)
            return strcmp(kind, "relu") == 0;
    }
    return false;
}

static cw_status find_mask(cwi_setup *setup, cw_error *err)
{
    const char *wish = setup->config.mask_gradient;
    const bool relu = is_behind_relu(setup->model, setup->cut.layer);
    const bool zeros = !strstr(cw_codec_spec(setup->up), "recon=centroid");
    setup->mask_gradient = strcmp(wish, "auto") == 0 ? relu && zeros && cwi_is_coded(setup->down) : wish[0] == '1';
    if (strcmp(wish, "auto") != 0 && strcmp(wish, "0") != 0 && strcmp(wish, "1") != 0)
        return cwi_fail(err, CW_ERR_SPEC, "mask-gradient: '%s' is none of 0, 1, auto", wish);
    if (setup->mask_gradient && !relu)
        return cwi_fail(err, CW_ERR_SPEC,
                        "mask-gradient: cut %d of %s is not behind a ReLU, so that gradients matter where activations "
                        "are 0",
                        setup->cut.number, setup->config.model);
    if (setup->mask_gradient && !zeros)
        return cwi_fail(err, CW_ERR_SPEC, "mask-gradient: with recon=centroid nothing comes in as 0");
    return CW_OK;
}

/* "auto" becomes what it comes to here, at the server or in an unsplit run: so files, checkpoints and clients are told
 * what the run is in, and stay with it on another machine. */
static cw_status resolve_precision(cwi_setup *setup, cw_error *err)
{
    cw_config *config = &setup->config;
    cw_precision asked;
    CWI_TRY(cw_precision_parse(config->precision, &asked, err));
    CWI_TRY(cw_precision_resolve(asked, &setup->precision, err));
    snprintf(config->precision, sizeof config->precision, "%s", cw_precision_name(setup->precision));
    return CW_OK;
}

static cw_status open_parts_of_setup(cwi_setup *setup, cw_error *err)
{
    const cw_config *config = &setup->config;
    CWI_TRY(resolve_precision(setup, err));
    cw_init init;
    CWI_TRY(cw_init_parse(config->init, &init, err));
    cw_optimizer_kind optimizer;
    CWI_TRY(cw_optimizer_parse(config->optimizer, &optimizer, err));
    CWI_TRY(cw_schedule_parse(config->schedule, &setup->schedule, err));
    setup->schedule.base_lr = config->lr;
    cw_status status = cw_codec_create(config->uplink, &setup->up, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "uplink");
    status = cw_codec_create(*config->eval_uplink ? config->eval_uplink : config->uplink, &setup->eval_up, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "eval-uplink");
    status = cw_codec_create(config->downlink, &setup->down, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "downlink");
    status = cw_codec_create(config->update, &setup->update, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "update");
    CWI_TRY(find_sample(setup, err));
    CWI_TRY(cw_shape_count(&setup->sample, &setup->sample_count));
    cw_model_options options = {
        .sample = setup->sample, .classes = config->classes, .activation = config->activation, .input = config->input};
    CWI_TRY(cw_model_open(config->model, &options, &setup->model, err));
    if (config->bias_lr != 1 && !has_batch_norm(setup->model))
        return cwi_fail(err, CW_ERR_SPEC, "bias-lr: model %s has no batch norm, whose biases it is for", config->model);
    CWI_TRY(cw_model_cut(setup->model, config->cut, &setup->cut, err));
    CWI_TRY(find_mask(setup, err));
    return cw_shape_count(&setup->cut.smashed, &setup->smashed_count);
}

cw_status cwi_setup_open(const cw_config *config, cwi_setup *setup, cw_error *err)
{
    char *recipe;
    memset(setup, 0, sizeof *setup);
    CWI_TRY(cwi_recipe_find(config, &recipe, err));
    return cwi_setup_open_with(config, recipe, setup, err);
}

cw_status cwi_setup_open_with(const cw_config *config, char *recipe, cwi_setup *setup, cw_error *err)
{
    memset(setup, 0, sizeof *setup);
    setup->config = *config;
    setup->recipe = recipe;
    cw_status status = open_parts_of_setup(setup, err);
    if (status != CW_OK)
        cwi_setup_close(setup);
    return status;
}

void cwi_setup_close(cwi_setup *setup)
{
    cw_codec_destroy(&setup->up);
    cw_codec_destroy(&setup->eval_up);
    cw_codec_destroy(&setup->down);
    cw_codec_destroy(&setup->update);
    cw_model_close(&setup->model);
    cwi_free(setup->recipe);
    setup->recipe = NULL;
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

/* What both ends do that neither configuration nor layers tell: another text where that changes. */
static const char rules[] = "a masked gradient is coded with the activation's support";

cw_status cwi_setup_hash(const cwi_setup *setup, uint64_t *hash, cw_error *err)
{
    char *json;
    CWI_TRY(cwi_setup_shared_json(setup, &json, err));
    *hash = cwi_hash_string(rules) ^ cwi_hash_string(json) ^ (setup->recipe ? cwi_hash_string(setup->recipe) : 0);
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

bool cwi_eval_due(const cw_config *config, int epoch)
{
    return epoch + 1 == config->epochs || (config->eval_every && (epoch + 1) % config->eval_every == 0);
}

int cwi_engine_threads(const cw_config *config)
{
    return config->threads > 0 ? config->threads : cwi_cpu_count();
}

uint64_t cwi_codec_seed(uint64_t seed, cwi_flow flow, size_t client, uint32_t epoch, uint32_t step)
{
    cwi_rng r = cwi_rng_make(seed, CWI_STREAM_CODEC, (uint64_t)client * CWI_FLOWS + flow, (uint64_t)epoch << 32 | step);
    return cwi_rng_u64(&r);
}

cw_status cwi_encode_status(cw_status status, cwi_flow flow, cw_error *err)
{
    static const char *const names[CWI_FLOWS] = {"the activations", "the gradient at the cut",
                                                 "the client half's gradient", "the clients' averaged gradient"};
    if (status != CW_ERR_NONFINITE)
        return status;
    return cwi_fail(err, CW_ERR_DIVERGED,
                    "%s: NaN or infinity in it: training has diverged: lower the learning rate, or look for bad input",
                    names[flow]);
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
