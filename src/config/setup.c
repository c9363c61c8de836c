/* setup.c - from a configuration to model, codecs, data and trainable halves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/setup.h"

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
    if (!setup->classes.count && info->class_names && info->classes == config->classes)
        CWI_TRY(cwi_classes_copy(info->class_names, (size_t)info->classes, &setup->classes, err));
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

static cw_status find_mask(cwi_setup *setup, cw_error *err)
{
    const char *wish = setup->config.mask_gradient;
    const bool relu = setup->behind_relu;
    const bool zeros = cw_codec_get_traits(setup->up).keeps_zero;
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

static cw_status open_codec(const char *key, const char *spec, cw_codec **codec, cw_error *err)
{
    const cw_status status = cw_codec_create(spec, codec, err);
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "%s", key);
}

static cw_status open_codecs(cwi_setup *setup, cw_error *err)
{
    const cw_config *config = &setup->config;
    const char *eval = *config->eval_uplink ? config->eval_uplink : config->uplink;
    CWI_TRY(open_codec("uplink", config->uplink, &setup->up, err));
    CWI_TRY(open_codec("eval-uplink", eval, &setup->eval_up, err));
    CWI_TRY(open_codec("downlink", config->downlink, &setup->down, err));
    return open_codec("update", config->update, &setup->update, err);
}

static cw_status check_names(const cw_config *config, cw_error *err)
{
    cw_init init;
    cw_optimizer_options optimizer;
    CWI_TRY(cw_init_parse(config->init, &init, err));
    return cwi_half_optimizer(config->optimizer, &optimizer, err);
}

static cw_status open_model(cwi_setup *setup, cw_error *err)
{
    const cw_config *config = &setup->config;
    const cw_model_options options = {
        .sample = setup->sample, .classes = config->classes, .activation = config->activation, .input = config->input};
    CWI_TRY(cw_model_open(config->model, &options, &setup->model, err));
    if (config->bias_lr != 1 && !has_batch_norm(setup->model))
        return cwi_fail(err, CW_ERR_SPEC, "bias-lr: model %s has no batch norm, whose biases it is for", config->model);
    CWI_TRY(cw_model_cut(setup->model, config->cut, &setup->cut, err));
    setup->behind_relu = setup->cut.behind_relu;
    return CW_OK;
}

/* The cut is where the caller's halves say it is. */
static cw_status take_halves(cwi_setup *setup, const cw_half *last, const cw_half *first, cw_error *err)
{
    char out[64], in[64];
    if (!setup->model)
        setup->cut.smashed = first ? cw_half_out_shape(first) : cw_half_in_shape(last);
    const cw_shape from = first ? cw_half_out_shape(first) : setup->cut.smashed;
    const cw_shape to = last ? cw_half_in_shape(last) : setup->cut.smashed;
    if (!cw_shape_equal(&from, &to) || !cw_shape_equal(&from, &setup->cut.smashed))
        return cwi_fail(err, CW_ERR_MISMATCH, "the first half gives %s a sample at the cut, the last one takes %s",
                        cw_shape_format(&from, out, sizeof out), cw_shape_format(&to, in, sizeof in));
    if (first)
        setup->behind_relu = cw_half_behind_relu(first);
    return CW_OK;
}

static cw_status open_parts_of_setup(cwi_setup *setup, const cw_half *last, const cw_half *first, cw_error *err)
{
    const cw_config *config = &setup->config;
    CWI_TRY(resolve_precision(setup, err));
    CWI_TRY(check_names(config, err));
    CWI_TRY(cw_schedule_parse(config->schedule, &setup->schedule, err));
    setup->schedule.base_lr = config->lr;
    CWI_TRY(open_codecs(setup, err));
    CWI_TRY(find_sample(setup, err));
    if (!setup->classes.count)
        CWI_TRY(cwi_classes_read(config, &setup->classes, err));
    CWI_TRY(cw_shape_count(&setup->sample, &setup->sample_count));
    if (strcmp(config->model, CWI_MODEL_OWN) != 0)
        CWI_TRY(open_model(setup, err));
    else if (!last && !first)
        return cwi_fail(err, CW_ERR_SPEC, "model own: it is made of halves of a program's own (half.h), and none came");
    CWI_TRY(take_halves(setup, last, first, err));
    CWI_TRY(find_mask(setup, err));
    return cw_shape_count(&setup->cut.smashed, &setup->smashed_count);
}

cw_status cwi_setup_open(const cw_config *config, cwi_setup *setup, cw_error *err)
{
    return cwi_setup_open_halves(config, NULL, NULL, setup, err);
}

cw_status cwi_setup_open_halves(const cw_config *config, const cw_half *last, const cw_half *first, cwi_setup *setup,
                                cw_error *err)
{
    char *recipe;
    memset(setup, 0, sizeof *setup);
    CWI_TRY(cwi_recipe_find(config, &recipe, err));
    return cwi_setup_open_with(config, recipe, last, first, setup, err);
}

cw_status cwi_setup_open_with(const cw_config *config, char *recipe, const cw_half *last, const cw_half *first,
                              cwi_setup *setup, cw_error *err)
{
    memset(setup, 0, sizeof *setup);
    setup->config = *config;
    setup->recipe = recipe;
    const cw_status status = open_parts_of_setup(setup, last, first, err);
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
    cwi_classes_free(&setup->classes);
    cwi_free(setup->recipe);
    setup->recipe = NULL;
}

cw_status cwi_setup_shared_json(const cwi_setup *setup, char **json, cw_error *err)
{
    /* Where the data lies is each side's own business: only its name travels. What "auto" came to does, too. */
    cw_config config = setup->config;
    config.data[strcspn(config.data, ":")] = '\0';
    snprintf(config.mask_gradient, sizeof config.mask_gradient, "%d", setup->mask_gradient);
    return cw_config_to_json(&config, true, json, err);
}

cw_tensor cwi_setup_smashed(const cwi_setup *setup, float *data, uint64_t n)
{
    cw_shape shape = {.ndim = setup->cut.smashed.ndim + 1, .dim = {(int64_t)n}};
    memcpy(shape.dim + 1, setup->cut.smashed.dim, sizeof(int64_t) * (size_t)setup->cut.smashed.ndim);
    return cw_tensor_view(CW_F32, &shape, data);
}

static bool is_client_half(const cwi_setup *setup, size_t first, size_t last)
{
    return first == 0 && last < cw_model_layer_count(setup->model);
}

/* Batch norm's biases of a client whose gradients are coded learn at the common rate at most: the noise drives faster
 * ones away (docs/notebook/training.md). */
static float bias_lr_of(const cwi_setup *setup, size_t first, size_t last)
{
    const float given = (float)setup->config.bias_lr;
    return is_client_half(setup, first, last) && (cwi_is_coded(setup->down) || cwi_is_coded(setup->update))
               ? CWI_MIN(given, 1.0f)
               : given;
}

cw_status cwi_half_open(const cwi_setup *setup, size_t first, size_t last, size_t max_batch, cw_half **half,
                        cw_error *err)
{
    const cw_config *config = &setup->config;
    *half = NULL;
    cw_part_options options = {.max_batch = max_batch,
                               .seed = config->seed,
                               .threads = cwi_engine_threads(config),
                               .in_flight = is_client_half(setup, first, last) ? (size_t)config->in_flight : 1,
                               .input_grad = first > 0,
                               .label_smoothing = (float)config->label_smoothing};
    cw_optimizer_options o = {.momentum = (float)config->momentum,
                              .weight_decay = (float)config->weight_decay,
                              .nesterov = config->nesterov,
                              .bias_lr = bias_lr_of(setup, first, last)};
    CWI_TRY(cw_precision_parse(config->precision, &options.precision, err));
    CWI_TRY(cw_init_parse(config->init, &options.init, err));
    CWI_TRY(cwi_half_optimizer(config->optimizer, &o, err));
    return cw_half_of_model(setup->model, first, last, &options, &o, half, err);
}

bool cwi_eval_due(const cw_config *config, int epoch)
{
    return epoch + 1 == config->epochs || (config->eval_every && (epoch + 1) % config->eval_every == 0);
}

int cwi_engine_threads(const cw_config *config)
{
    return config->threads > 0 ? config->threads : cwi_cpu_count();
}

uint64_t cwi_codec_seed(uint64_t seed, cwi_flow flow, size_t client, uint32_t epoch, uint32_t step, uint32_t ticket)
{
    const uint64_t who = (uint64_t)ticket << 40 | ((uint64_t)client * CWI_FLOWS + flow);
    cwi_rng r = cwi_rng_make(seed, CWI_STREAM_CODEC, who, (uint64_t)epoch << 32 | step);
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

cw_status cwi_gradient_check(float peak, const char *whose, cw_error *err)
{
    if (peak <= CWI_GRADIENT_MAX)
        return CW_OK;
    return cwi_fail(err, CW_ERR_DIVERGED,
                    "%s reaches %g, at most %g is taken: training has diverged: lower the learning rate, or look for "
                    "bad input",
                    whose, (double)peak, (double)CWI_GRADIENT_MAX);
}

uint64_t cwi_part_position(size_t client, uint64_t epoch, size_t batches, size_t step, size_t ticket, size_t tickets)
{
    return ((uint64_t)client << 40) + (epoch * batches + step) * tickets + ticket;
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
