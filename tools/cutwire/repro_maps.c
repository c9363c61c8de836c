/* repro_maps.c - feature maps of a network that the engine trained, taken at a cut. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repro.h"
#include "train_output.h"

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
    cw_config_reset(config);
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
    const char *data = cw_config_string(config, "data"), *folder = cw_config_string(config, "data-dir");
    char spec[600];
    if (*folder)
        snprintf(spec, sizeof spec, "%.*s:%s", (int)strcspn(data, ":"), data, folder);
    else
        snprintf(spec, sizeof spec, "%s", data);
    return cw_dataset_open(spec, split, ds, err);
}

static cw_status open_model(repro_net *net, cw_error *err)
{
    cw_dataset *ds;
    cw_status status = open_split(net->config, CW_SPLIT_TEST, &ds, err);
    if (status != CW_OK)
        return status;
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    const cw_model_options options = {.sample = info->sample,
                                      .classes = info->classes,
                                      .activation = cw_config_string(net->config, "activation"),
                                      .input = info->input};
    status = cw_model_open(cw_config_string(net->config, "model"), &options, &net->model, err);
    cw_dataset_close(&ds);
    return status;
}

static cw_status open_net(cw_config *config, const repro_keys *keys, const char *run, const cw_hooks *hooks,
                          repro_net *net, cw_error *err)
{
    memset(net, 0, sizeof *net);
    net->config = config;
    snprintf(net->folder, sizeof net->folder, "%s", run ? run : cw_config_string(config, "out"));
    cw_status status = run ? read_config(run, config, err) : train(config, hooks, net, err);
    if (status == CW_OK && run)
        status = repro_keys_for_run(keys, config, err);
    if (status != CW_OK || net->stopped)
        return status;
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", net->folder);
    status = cw_safetensors_load(path, &net->weights, err);
    return status == CW_OK ? open_model(net, err) : status;
}

int repro_net_prepare(const char *name, cw_config *config, const repro_keys *keys, const char *run, bool json,
                      bool quiet, repro_net *net)
{
    train_output out;
    train_telling how = TRAIN_TELLING;
    how.json = json;
    how.quiet = quiet;
    (void)cli_log_open(&how.log, "repro");
    cw_hooks hooks;
    (void)train_output_open(&out, &how, "", NULL, &hooks);
    cw_error err = {.message = ""};
    cw_status status = open_net(config, keys, run, &hooks, net, &err);
    cli_progress_clear(&out.progress);
    if (status != CW_OK)
        return cli_fail_error(name, status, &err);
    return net->stopped ? cli_fail(CLI_FAILURE, "%s: stopped while training: nothing was measured", name) : CLI_GO_ON;
}

void repro_net_close(repro_net *net)
{
    cw_config_destroy(&net->config);
    cw_model_close(&net->model);
    cw_tensor_set_free(&net->weights);
}

/* ---- its batches, parts and maps ---- */

cw_status repro_batch_open(const repro_net *net, cw_mode mode, size_t size, repro_batch *out, cw_error *err)
{
    const cw_config *c = net->config;
    memset(out, 0, sizeof *out);
    cw_status status = open_split(c, mode == CW_TRAIN ? CW_SPLIT_TRAIN : CW_SPLIT_TEST, &out->ds, err);
    if (status != CW_OK)
        return status;
    cw_loader_options options = {.batch = size, .seed = cw_config_integer(c, "seed"), .shuffle = true};
    if (mode == CW_TRAIN) {
        options.flip = cw_config_integer(c, "flip");
        options.crop_pad = (int)cw_config_integer(c, "crop-pad");
    }
    status = cw_loader_create(out->ds, NULL, 0, &options, &out->loader, err);
    if (status == CW_OK)
        status = cw_loader_seek(out->loader, 0, 0);
    return status == CW_OK ? cw_loader_next(out->loader, &out->batch, err) : status;
}

void repro_batch_close(repro_batch *b)
{
    cw_loader_destroy(&b->loader);
    cw_dataset_close(&b->ds);
}

cw_status repro_part(const repro_net *net, size_t first, size_t last, cw_mode mode, size_t n, cw_part **out,
                     cw_error *err)
{
    cw_part_options options = {.max_batch = n,
                               .seed = cw_config_integer(net->config, "seed"),
                               .threads = (int)cw_config_integer(net->config, "threads"),
                               .inference = mode == CW_EVAL,
                               .input_grad = mode == CW_TRAIN && first > 0};
    *out = NULL;
    cw_status status = cw_precision_parse(cw_config_string(net->config, "precision"), &options.precision, err);
    if (status == CW_OK)
        status = cw_part_create(net->model, first, last, &options, out, err);
    if (status == CW_OK)
        status = cw_part_state_import(*out, &net->weights, err);
    if (status != CW_OK)
        cw_part_destroy(out);
    return status;
}

cw_tensor repro_smashed_view(const cw_cut *cut, size_t n, float *data)
{
    cw_shape shape = {.ndim = cut->smashed.ndim + 1, .dim = {(int64_t)n}};
    memcpy(shape.dim + 1, cut->smashed.dim, (size_t)cut->smashed.ndim * sizeof shape.dim[0]);
    return cw_tensor_view(CW_F32, &shape, data);
}

cw_status repro_smashed(const repro_net *net, const cw_cut *cut, cw_mode mode, size_t batch, cw_tensor *out,
                        cw_error *err)
{
    memset(out, 0, sizeof *out);
    repro_batch taken;
    cw_part *part = NULL;
    cw_status status = repro_batch_open(net, mode, batch, &taken, err);
    if (status == CW_OK)
        status = repro_part(net, 0, cut->layer, mode, taken.batch.n, &part, err);
    if (status == CW_OK) {
        const cw_shape shape = repro_smashed_view(cut, taken.batch.n, NULL).shape;
        status = cw_tensor_alloc(out, CW_F32, &shape);
    }
    if (status == CW_OK)
        status = cw_part_forward(part, mode, taken.batch.x, taken.batch.n, out->data, err);
    cw_part_destroy(&part);
    repro_batch_close(&taken);
    if (status != CW_OK)
        cw_tensor_free(out);
    return status;
}
