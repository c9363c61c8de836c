/* setup.c - from a configuration to what every role derives from it: shapes, codecs, the cut. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/engine.h"

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

static cw_status find_sample(cwi_setup *setup, cw_error *err)
{
    cw_config *config = &setup->config;
    bool described = *config->sample && config->classes;
    if (!described || (cwi_recipe_needed(config) && !setup->recipe)) {
        const cw_status status = cwi_local_data_describe(setup, err);
        if (status != CW_OK)
            return described ? cwi_fail_prefix(err, status, "--recipe FILE is needed, or the data set") : status;
    }
    return parse_sample(config->sample, &setup->sample, err);
}

static cw_status find_mask(cwi_setup *setup, cw_error *err)
{
    const char *wish = setup->config.mask_gradient;
    const bool relu = setup->behind_relu || setup->client_state; /* then the clients know, and say */
    const bool zeros = cw_codec_get_traits(setup->up).keeps_zero;
    setup->mask_gradient =
        strcmp(wish, "auto") == 0 ? setup->behind_relu && zeros && cwi_is_coded(setup->down) : wish[0] == '1';
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

/* One without dimensions is open: whatever comes. */
static bool fits(const cw_shape *a, const cw_shape *b)
{
    return !a->ndim || !b->ndim || cw_shape_equal(a, b);
}

/* The cut is where the caller's halves say it is. */
static cw_status take_halves(cwi_setup *setup, const cw_half *last, const cw_half *first, cw_error *err)
{
    char out[64], in[64];
    if (!setup->model)
        setup->cut.smashed =
            first && (!last || cw_half_out_shape(first).ndim) ? cw_half_out_shape(first) : cw_half_in_shape(last);
    const cw_shape from = first ? cw_half_out_shape(first) : setup->cut.smashed;
    const cw_shape to = last ? cw_half_in_shape(last) : setup->cut.smashed;
    if (!fits(&from, &to) || !fits(&from, &setup->cut.smashed) || !fits(&to, &setup->cut.smashed))
        return cwi_fail(err, CW_ERR_MISMATCH, "the first half gives %s a sample at the cut, the last one takes %s",
                        cw_shape_format(&from, out, sizeof out), cw_shape_format(&to, in, sizeof in));
    setup->client_state |= last && !first && !setup->model;
    setup->any_targets |= last && cwi_half_takes_targets(last);
    if (first)
        setup->behind_relu = cw_half_behind_relu(first);
    return CW_OK;
}

static cw_status open_parts_of_setup(cwi_setup *setup, const cw_half *last, const cw_half *first, cw_error *err)
{
    const cw_config *config = &setup->config;
    CWI_TRY(cwi_engine_settle(setup, err));
    CWI_TRY(open_codecs(setup, err));
    CWI_TRY(find_sample(setup, err));
    if (!setup->classes.count)
        CWI_TRY(cwi_classes_read(config, &setup->classes, err));
    CWI_TRY(cw_shape_count(&setup->sample, &setup->sample_count));
    if (strcmp(config->model, CWI_MODEL_OWN) != 0)
        CWI_TRY(cwi_engine_open_model(setup, first, err));
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
    cwi_engine_close_model(setup);
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
