/* repro_maps.c - feature maps of a network that the engine trained, taken at a cut. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repro.h"

static cw_status fail(cw_error *err, cw_status status, const char *what, const char *where)
{
    snprintf(err->message, sizeof err->message, "%.200s: %.150s", where, what);
    return err->status = status;
}

/* ---- the network ---- */

static cw_status read_config(const char *run, cw_config *config, cw_error *err)
{
    char path[600];
    json_error_t why;
    snprintf(path, sizeof path, "%s/config.json", run);
    json_t *object = json_load_file(path, 0, &why);
    if (!object)
        return fail(err, CW_ERR_IO, why.text, path);
    json_object_del(object, "mode"); /* the run's, not a key of the configuration */
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    cw_config_init(config);
    cw_status status = text ? cw_config_from_json(config, text, strlen(text), err) : CW_ERR_NO_MEMORY;
    free(text);
    return status;
}

static cw_status train(const cw_config *config, const cw_hooks *hooks, repro_net *net, cw_error *err)
{
    cw_result result = {0};
    cw_status status = cw_train_unsplit(config, hooks, &result, err);
    net->stopped = result.stopped;
    net->test_accuracy = result.last.test_accuracy;
    return status;
}

static cw_status open_split(const cw_config *config, cw_split split, cw_dataset **ds, cw_error *err)
{
    char spec[sizeof config->data + sizeof config->data_dir + 2];
    if (*config->data_dir)
        snprintf(spec, sizeof spec, "%.*s:%s", (int)strcspn(config->data, ":"), config->data, config->data_dir);
    else
        snprintf(spec, sizeof spec, "%s", config->data);
    return cw_dataset_open(spec, split, ds, err);
}

static cw_status open_model(repro_net *net, cw_error *err)
{
    cw_dataset *ds;
    cw_status status = open_split(&net->config, CW_SPLIT_TEST, &ds, err);
    if (status != CW_OK)
        return status;
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    const cw_model_options options = {
        .sample = info->sample, .classes = info->classes, .activation = net->config.activation};
    status = cw_model_open(net->config.model, &options, &net->model, err);
    cw_dataset_close(&ds);
    return status;
}

cw_status repro_net_open(const cw_config *config, const char *run, const cw_hooks *hooks, repro_net *net, cw_error *err)
{
    memset(net, 0, sizeof *net);
    net->config = *config;
    snprintf(net->folder, sizeof net->folder, "%s", run ? run : config->out);
    cw_status status = run ? read_config(run, &net->config, err) : train(config, hooks, net, err);
    if (status != CW_OK || net->stopped)
        return status;
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", net->folder);
    status = cw_safetensors_load(path, &net->weights, err);
    return status == CW_OK ? open_model(net, err) : status;
}

void repro_net_close(repro_net *net)
{
    cw_model_close(&net->model);
    cw_tensor_set_free(&net->weights);
}

/* ---- its maps ---- */

static cw_status forward(const repro_net *net, const cw_cut *cut, cw_mode mode, const cw_batch *batch, cw_tensor *out,
                         cw_error *err)
{
    cw_shape shape = {.ndim = cut->smashed.ndim + 1, .dim = {(int64_t)batch->n}};
    memcpy(shape.dim + 1, cut->smashed.dim, (size_t)cut->smashed.ndim * sizeof shape.dim[0]);
    cw_part_options options = {
        .max_batch = batch->n, .seed = net->config.seed, .threads = net->config.threads, .inference = mode == CW_EVAL};
    cw_part *part;
    cw_status status = cw_precision_parse(net->config.precision, &options.precision, err);
    if (status == CW_OK)
        status = cw_part_create(net->model, 0, cut->layer, &options, &part, err);
    if (status != CW_OK)
        return status;
    status = cw_part_state_import(part, &net->weights, err);
    if (status == CW_OK)
        status = cw_tensor_alloc(out, CW_F32, &shape);
    if (status == CW_OK)
        status = cw_part_forward(part, mode, batch->x, batch->n, out->data, err);
    cw_part_destroy(&part);
    return status;
}

static cw_status first_batch(const repro_net *net, cw_mode mode, const cw_dataset *ds, size_t size, cw_loader **loader,
                             cw_batch *batch, cw_error *err)
{
    const cw_config *c = &net->config;
    cw_loader_options options = {.batch = size, .seed = c->seed, .shuffle = true};
    if (mode == CW_TRAIN) {
        options.flip = c->flip;
        options.crop_pad = c->crop_pad;
    }
    cw_status status = cw_loader_create(ds, NULL, 0, &options, loader, err);
    if (status == CW_OK)
        status = cw_loader_seek(*loader, 0, 0);
    return status == CW_OK ? cw_loader_next(*loader, batch, err) : status;
}

cw_status repro_smashed(const repro_net *net, const cw_cut *cut, cw_mode mode, size_t batch, cw_tensor *out,
                        cw_error *err)
{
    memset(out, 0, sizeof *out);
    cw_dataset *ds;
    cw_loader *loader = NULL;
    cw_batch taken;
    cw_status status = open_split(&net->config, mode == CW_TRAIN ? CW_SPLIT_TRAIN : CW_SPLIT_TEST, &ds, err);
    if (status != CW_OK)
        return status;
    status = first_batch(net, mode, ds, batch, &loader, &taken, err);
    if (status == CW_OK)
        status = forward(net, cut, mode, &taken, out, err);
    cw_loader_destroy(&loader);
    cw_dataset_close(&ds);
    if (status != CW_OK)
        cw_tensor_free(out);
    return status;
}
