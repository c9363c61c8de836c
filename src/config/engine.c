/* engine.c - what a setup takes from cutwire's own engine: names checked, the model, its halves. */
#include <stdio.h>
#include <string.h>

#include "config/engine.h"

/* ---- names ---- */

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

static cw_status check_names(const cw_config *config, cw_error *err)
{
    cw_init init;
    cw_optimizer_options optimizer;
    CWI_TRY(cw_init_parse(config->init, &init, err));
    return cwi_half_optimizer(config->optimizer, &optimizer, err);
}

cw_status cwi_engine_settle(cwi_setup *setup, cw_error *err)
{
    CWI_TRY(resolve_precision(setup, err));
    CWI_TRY(check_names(&setup->config, err));
    CWI_TRY(cw_schedule_parse(setup->config.schedule, &setup->schedule, err));
    setup->schedule.base_lr = setup->config.lr;
    return CW_OK;
}

const char *cwi_engine_note(const cwi_setup *setup)
{
    return cw_precision_is_emulated(setup->precision)
               ? "precision bf16: this processor has no instructions for it and trains at about half its speed in "
                 "fp32: the run's --precision auto would have taken that"
               : NULL;
}

/* ---- the model ---- */

static bool has_batch_norm(const cw_model *model)
{
    for (size_t i = 0; i < cw_model_layer_count(model); i++)
        if (strcmp(cw_model_layer(model, i).kind, "batchnorm") == 0)
            return true;
    return false;
}

/* It stays where it was trained, whatever cut the network is used at later. */
static cw_status place_bottleneck(cw_config *config, cw_error *err)
{
    char placed[sizeof config->bottleneck + sizeof config->cut + 1];
    if (!*config->bottleneck || strchr(config->bottleneck, '@'))
        return CW_OK;
    snprintf(placed, sizeof placed, "%s@%s", config->bottleneck, config->cut);
    return cw_config_set(config, "bottleneck", placed, err);
}

cw_status cwi_engine_open_model(cwi_setup *setup, const cw_half *first, cw_error *err)
{
    (void)first; /* it must fit, as the caller checks */
    const cw_config *config = &setup->config;
    CWI_TRY(place_bottleneck(&setup->config, err));
    const cw_model_options options = {.sample = setup->sample,
                                      .classes = config->classes,
                                      .activation = config->activation,
                                      .input = config->input,
                                      .bottleneck = config->bottleneck,
                                      .freeze = config->freeze};
    CWI_TRY(cw_model_open(config->model, &options, &setup->model, err));
    if (config->bias_lr != 1 && !has_batch_norm(setup->model))
        return cwi_fail(err, CW_ERR_SPEC, "bias-lr: model %s has no batch norm, whose biases it is for", config->model);
    CWI_TRY(cw_model_cut(setup->model, config->cut, &setup->cut, err));
    setup->behind_relu = setup->cut.behind_relu;
    return CW_OK;
}

void cwi_engine_close_model(cwi_setup *setup)
{
    cw_model_close(&setup->model);
}

/* ---- its halves ---- */

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
