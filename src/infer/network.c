/* network.c - a trained network from its run's folder. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "infer/fingerprint.h"
#include "infer/network.h"

enum { PATH_SIZE = sizeof((cw_config *)0)->out + 40, MAX_BATCH = 64 };

/* ---- what it is ---- */

/* config.json has a key of its own: how the run was made, where the configuration has its mode. */
static cw_status take_settings(json_t *object, cw_config *config, cw_error *err)
{
    if (!json_is_object(object))
        return cwi_fail(err, CW_ERR_CORRUPT, "it is not a JSON object");
    json_object_del(object, "mode");
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
    if (!text)
        return cwi_fail_memory(err, 0);
    const cw_status status = cw_config_from_json(config, text, strlen(text), err);
    free(text);
    return status;
}

static cw_status read_settings(const char *folder, cw_config *config, cw_error *err)
{
    char path[PATH_SIZE];
    uint8_t *bytes;
    size_t size;
    snprintf(path, sizeof path, "%s/config.json", folder);
    CWI_TRY(cw_file_read(path, &bytes, &size, err));
    json_t *object = json_loadb((const char *)bytes, size, JSON_REJECT_DUPLICATES, NULL);
    cw_bytes_free(bytes);
    const cw_status status = take_settings(object, config, err);
    json_decref(object);
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "%s", path);
}

/* What holds for training alone must not stand in the way of another cut. */
static cw_status settle(cw_config *config, const char *folder, const cw_network_options *options, cw_error *err)
{
    if (options->cut)
        CWI_TRY(cw_config_set(config, "cut", options->cut, err));
    CWI_TRY(cw_config_set(config, "mask-gradient", "0", err));
    CWI_TRY(cw_config_set(config, "weights", "", err));
    CWI_TRY(cw_config_set(config, "out", "", err));
    CWI_TRY(cw_config_set(config, "resume", folder, err));
    config->threads = options->threads;
    return CW_OK;
}

static cw_status check_folder(const char *folder, cw_error *err)
{
    char path[PATH_SIZE];
    if (strlen(folder) >= PATH_SIZE - 40)
        return cwi_fail(err, CW_ERR_INVALID, "the run's path is too long");
    snprintf(path, sizeof path, "%s/config.json", folder);
    return access(path, F_OK) == 0 ? CW_OK
                                   : cwi_fail(err, CW_ERR_NOT_FOUND,
                                              "%s is no run's folder: it has no config.json: name one that "
                                              "`cutwire train` or `cutwire server` left",
                                              folder);
}

/* ---- weights ---- */

static cw_status load_weights(const char *folder, cw_tensor_set *set, cw_error *err)
{
    static const char *const files[] = {"model.safetensors", "checkpoint.safetensors"};
    char path[PATH_SIZE];
    for (size_t i = 0; i < CWI_COUNT(files); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        if (access(path, F_OK) == 0)
            return cw_safetensors_load(path, set, err);
    }
    return cwi_fail(err, CW_ERR_NOT_FOUND,
                    "%s has neither model.safetensors nor checkpoint.safetensors: the run has "
                    "not come to an end, nor to a checkpoint",
                    folder);
}

cw_status cwi_network_layers(const cw_network *network, size_t first, size_t last, cw_half **out, cw_error *err)
{
    const cw_part_options options = {.max_batch = network->max_batch,
                                     .threads = cwi_engine_threads(&network->setup.config),
                                     .inference = true,
                                     .precision = network->setup.precision};
    CWI_TRY(cw_half_of_model(network->setup.model, first, last, &options, NULL, out, err));
    const cw_status status = cwi_half_import(*out, &network->weights, err);
    if (status == CW_OK)
        return CW_OK;
    cw_half_destroy(out);
    return cwi_fail_prefix(err, status, "%s", network->path);
}

/* ---- its two sides ---- */

static cw_status open_side(const cw_network *n, cwi_side which, cw_half **side, cw_half **out, cw_error *err)
{
    const size_t cut = n->setup.cut.layer, end = cw_model_layer_count(n->setup.model);
    const bool head = which == CWI_SIDE_HEAD;
    *out = NULL;
    if (n->side != CWI_SIDE_WHOLE && n->side != which)
        return cwi_fail(err, CW_ERR_NOT_FOUND, "%s has only the layers %s the cut", n->path, head ? "after" : "before");
    if (!*side)
        CWI_TRY(cwi_network_layers(n, head ? 0 : cut, head ? cut : end, side, err));
    *out = *side;
    return CW_OK;
}

cw_status cw_network_head(cw_network *n, cw_half **out, cw_error *err)
{
    return open_side(n, CWI_SIDE_HEAD, &n->head, out, err);
}

cw_status cw_network_tail(cw_network *n, cw_half **out, cw_error *err)
{
    return open_side(n, CWI_SIDE_TAIL, &n->tail, out, err);
}

/* By the layer's name: "conv1" of "conv1.weight". */
cwi_side cwi_network_side_of(const cw_network *n, const char *tensor)
{
    const cw_model *model = n->setup.model;
    const char *dot = strrchr(tensor, '.');
    const size_t length = dot ? (size_t)(dot - tensor) : 0;
    for (size_t i = 0; i < cw_model_layer_count(model); i++) {
        const char *name = cw_model_layer(model, i).name;
        if (strlen(name) == length && memcmp(name, tensor, length) == 0)
            return i < n->setup.cut.layer ? CWI_SIDE_HEAD : CWI_SIDE_TAIL;
    }
    return CWI_SIDE_WHOLE;
}

/* Of a run's weights. */
static void find_prints(cw_network *n)
{
    n->info.head_print = n->info.tail_print = 0;
    for (size_t i = 0; i < n->weights.count; i++) {
        const cwi_side side = cwi_network_side_of(n, n->weights.items[i].name);
        if (side != CWI_SIDE_WHOLE)
            *(side == CWI_SIDE_HEAD ? &n->info.head_print : &n->info.tail_print) +=
                cwi_tensor_fingerprint(&n->weights.items[i]);
    }
}

/* ---- life ---- */

static void describe(cw_network *n)
{
    const cwi_setup *s = &n->setup;
    const bool named = s->classes.count && s->classes.count == (size_t)s->config.classes;
    n->info = (cw_network_info){.run = n->path,
                                .model = s->config.model,
                                .data = s->config.data,
                                .uplink = s->config.uplink,
                                .sample = s->sample,
                                .smashed = s->cut.smashed,
                                .cut = s->cut.number,
                                .classes = s->config.classes,
                                .head_print = n->info.head_print,
                                .tail_print = n->info.tail_print,
                                .profile = n->profile,
                                .class_names = named ? (const char *const *)s->classes.names : NULL};
}

static cw_status open_run(cw_network *n, const char *folder, const cw_network_options *options, cw_error *err)
{
    cw_config config;
    cwi_config_init(&config);
    CWI_TRY(check_folder(folder, err));
    CWI_TRY(read_settings(folder, &config, err));
    CWI_TRY(settle(&config, folder, options, err));
    CWI_TRY(cwi_setup_open(&config, &n->setup, err));
    CWI_TRY(load_weights(folder, &n->weights, err));
    find_prints(n);
    return cwi_network_read_profile(n, err);
}

cw_status cw_network_open(const char *path, const cw_network_options *options, cw_network **out, cw_error *err)
{
    static const cw_network_options none;
    if (out)
        *out = NULL;
    if (!path || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_network_open: a NULL argument");
    cw_network *n = cwi_calloc(1, sizeof *n);
    if (!n)
        return cwi_fail_memory(err, sizeof *n);
    options = options ? options : &none;
    n->max_batch = options->max_batch ? options->max_batch : MAX_BATCH;
    n->path = cwi_strdup(path);
    struct stat st;
    cw_status status = !n->path                                      ? cwi_fail_memory(err, strlen(path))
                       : stat(path, &st) == 0 && S_ISREG(st.st_mode) ? cwi_network_open_file(n, path, options, err)
                                                                     : open_run(n, path, options, err);
    if (status == CW_OK)
        describe(n);
    else
        cw_network_close(&n);
    *out = n;
    return status;
}

void cw_network_close(cw_network **network)
{
    cw_network *n = network ? *network : NULL;
    if (!n)
        return;
    cw_half_destroy(&n->head);
    cw_half_destroy(&n->tail);
    cw_profile_destroy(&n->profile);
    cw_tensor_set_free(&n->weights);
    cwi_setup_close(&n->setup);
    cwi_free(n->path);
    cwi_free(n);
    *network = NULL;
}

const cw_network_info *cw_network_get_info(const cw_network *network)
{
    return &network->info;
}

cw_status cwi_network_set_data(cw_network *network, const char *data, const char *data_dir, size_t limit, cw_error *err)
{
    cw_config *config = &network->setup.config;
    if (data)
        CWI_TRY(cw_config_set(config, "data", data, err));
    if (data || data_dir)
        CWI_TRY(cw_config_set(config, "data-dir", data_dir ? data_dir : "", err));
    if (limit)
        config->test_limit = (int)CWI_MIN(limit, (size_t)1000000000);
    config->batch = (int)network->max_batch;
    return CW_OK;
}
