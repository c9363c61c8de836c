/* checkpoint.c - saves and restores runs. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/checkpoint.h"

enum { FORMAT = 2, PATH_SIZE = sizeof((cw_config *)0)->out + 40 };

static void checkpoint_path(char *path, const char *folder)
{
    snprintf(path, PATH_SIZE, "%s/checkpoint.safetensors", folder);
}

/* ---- saving ---- */

static json_t *within_json(const cwi_progress *at)
{
    return json_pack("{s:I,s:f,s:I,s:I,s:f,s:f,s:o,s:o}", "step", (json_int_t)at->step, "loss", at->loss, "correct",
                     (json_int_t)at->correct, "samples", (json_int_t)at->samples, "train_seconds", at->train_seconds,
                     "seconds", at->seconds, "uplink", cwi_report_traffic_json(&at->up), "downlink",
                     cwi_report_traffic_json(&at->down));
}

static char *metadata_text(const cwi_report *report, const cw_config *config, const cwi_progress *at, cw_error *err)
{
    char *config_json;
    if (cw_config_to_json(config, false, &config_json, err) != CW_OK)
        return NULL;
    json_t *meta = json_pack("{s:i,s:i,s:f,s:o}", "format", FORMAT, "next_epoch", at->epoch, "best_accuracy",
                             report->result.best_accuracy, "last", cwi_report_epoch_json(&report->result.last));
    json_object_set_new(meta, "config", json_loads(config_json, 0, NULL));
    if (at->step)
        json_object_set_new(meta, "within", within_json(at));
    cwi_free(config_json);
    char *text = json_dumps(meta, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(meta);
    return text;
}

static cw_status save(const cwi_report *report, const cw_config *config, cw_half *const *halves, size_t count,
                      const cwi_progress *at, cw_error *err)
{
    char path[PATH_SIZE];
    checkpoint_path(path, config->out);
    char *meta = metadata_text(report, config, at, err);
    if (!meta)
        return cwi_fail_memory(err, 0);
    cwi_state state;
    cw_status status = cwi_halves_export(halves, count, CWI_STATE_ALL, &state, err);
    if (status == CW_OK)
        status = cw_safetensors_save(path, state.items, state.count, meta, err);
    cwi_state_free(&state);
    free(meta);
    return status;
}

uint32_t cwi_checkpoint_next_step(const cw_config *config, uint32_t step, uint32_t steps)
{
    const uint32_t every = config->checkpoint_steps && *config->out ? (uint32_t)config->checkpoint_steps : steps;
    return every < steps - step ? step + every - step % every : steps;
}

void cwi_checkpoint_save(cwi_report *report, const cw_config *config, cw_half *const *halves, size_t count,
                         const cwi_progress *at)
{
    const bool wanted = at->step || (config->checkpoint_every &&
                                     (at->epoch % config->checkpoint_every == 0 || at->epoch >= config->epochs));
    if (!*config->out || !wanted)
        return;
    cw_error err;
    cw_status status = save(report, config, halves, count, at, &err);
    if (status != CW_OK)
        cwi_report_log(report, "cannot save a checkpoint: %s; training goes on, the last good one stays", err.message);
}

/* ---- beginning, and going on ---- */

static cw_status parse_metadata(const cw_tensor_set *set, const char *path, json_t **meta, cw_error *err)
{
    *meta = set->metadata ? json_loads(set->metadata, 0, NULL) : NULL;
    const json_int_t format = json_integer_value(json_object_get(*meta, "format"));
    if (*meta && format >= 1 && format <= FORMAT && json_is_object(json_object_get(*meta, "config")) &&
        json_is_integer(json_object_get(*meta, "next_epoch")))
        return CW_OK;
    json_decref(*meta);
    *meta = NULL;
    return cwi_fail(err, CW_ERR_CORRUPT, "%s is no checkpoint of this version: name the folder of a run", path);
}

static cw_status load(const char *folder, cw_tensor_set *set, json_t **meta, cw_error *err)
{
    char path[PATH_SIZE];
    checkpoint_path(path, folder);
    CWI_TRY(cw_safetensors_load(path, set, err));
    cw_status status = parse_metadata(set, path, meta, err);
    if (status != CW_OK)
        cw_tensor_set_free(set);
    return status;
}

cw_status cw_config_from_run(cw_config *config, const char *folder, cw_error *err)
{
    cw_tensor_set set;
    json_t *meta;
    CWI_TRY(load(folder, &set, &meta, err));
    char *text = json_dumps(json_object_get(meta, "config"), JSON_COMPACT | JSON_REAL_PRECISION(17));
    /* Runs from before these keys did as they say here, whatever is the default now. */
    snprintf(config->update, sizeof config->update, "none");
    snprintf(config->mask_gradient, sizeof config->mask_gradient, "0");
    cw_status status = text ? cw_config_from_json(config, text, strlen(text), err) : cwi_fail_memory(err, 0);
    free(text);
    json_decref(meta);
    cw_tensor_set_free(&set);
    return status;
}

/* The halves that the set holds, counted by their optimizers' steps (setup.h), and the layer where the last begins. */
static cw_status count_halves(const cw_tensor_set *set, size_t *count, size_t *cut, cw_error *err)
{
    size_t first, last;
    *count = *cut = 0;
    for (size_t i = 0; i < set->count; i++) {
        if (sscanf(set->items[i].name, "optimizer.steps.%zu-%zu", &first, &last) != 2)
            continue;
        *cut = CWI_MAX(*cut, first);
        ++*count;
    }
    return *count ? CW_OK : cwi_fail(err, CW_ERR_CORRUPT, "the checkpoint holds no optimizer's state");
}

cw_status cw_run_is_split(const char *folder, bool *split, cw_error *err)
{
    cw_tensor_set set;
    json_t *meta;
    size_t count, cut;
    CWI_TRY(load(folder, &set, &meta, err));
    cw_status status = count_halves(&set, &count, &cut, err);
    *split = count > 1;
    json_decref(meta);
    cw_tensor_set_free(&set);
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "%s", folder);
}

/* A half that is not one of the run's would begin without its optimizer's state. */
static cw_status check_halves(const cw_tensor_set *set, cw_half *const *halves, size_t count, cw_error *err)
{
    size_t cut, held;
    CWI_TRY(count_halves(set, &held, &cut, err));
    if (held < count)
        return cwi_fail(err, CW_ERR_MISMATCH, "the run was not split: go on by train --local");
    if (held > count)
        return cwi_fail(err, CW_ERR_MISMATCH, "the run was split: go on by train --split, train --processes or server");
    if (cut != cwi_half_first_layer(halves[count - 1]))
        return cwi_fail(err, CW_ERR_MISMATCH, "the run was cut before layer %zu, not %zu: go on with its own --cut",
                        cut, cwi_half_first_layer(halves[count - 1]));
    return CW_OK;
}

static void restore_progress(const json_t *meta, const cwi_report *report, cwi_progress *at)
{
    const json_t *within = json_object_get(meta, "within");
    *at = (cwi_progress){.epoch = (int)json_integer_value(json_object_get(meta, "next_epoch")),
                         .seconds = report->result.last.seconds,
                         .up = report->result.last.up,
                         .down = report->result.last.down};
    if (!within)
        return;
    at->step = (uint32_t)json_integer_value(json_object_get(within, "step"));
    at->loss = json_number_value(json_object_get(within, "loss"));
    at->correct = (uint64_t)json_integer_value(json_object_get(within, "correct"));
    at->samples = (uint64_t)json_integer_value(json_object_get(within, "samples"));
    at->train_seconds = json_number_value(json_object_get(within, "train_seconds"));
    at->seconds = json_number_value(json_object_get(within, "seconds"));
    cwi_report_restore_traffic(json_object_get(within, "uplink"), &at->up);
    cwi_report_restore_traffic(json_object_get(within, "downlink"), &at->down);
}

static cw_status resume(const cw_config *config, cw_half *const *halves, size_t count, cwi_report *report,
                        cwi_progress *at, cw_error *err)
{
    cw_tensor_set set;
    json_t *meta;
    CWI_TRY(load(config->resume, &set, &meta, err));
    cw_status status = check_halves(&set, halves, count, err);
    for (size_t i = 0; i < count && status == CW_OK; i++)
        status = cwi_half_import(halves[i], &set, err);
    if (status == CW_OK) {
        cwi_report_restore(report, json_object_get(meta, "last"),
                           (int)json_integer_value(json_object_get(meta, "next_epoch")),
                           json_number_value(json_object_get(meta, "best_accuracy")));
        restore_progress(meta, report, at);
        if (at->step)
            cwi_report_log(report, "going on after step %u of epoch %d of %s", at->step, at->epoch + 1, config->resume);
        else
            cwi_report_log(report, "going on after epoch %d of %s", at->epoch, config->resume);
    }
    json_decref(meta);
    cw_tensor_set_free(&set);
    return status;
}

static cw_status take_weights(const char *path, cw_half *const *halves, size_t count, cwi_report *report, cw_error *err)
{
    cw_tensor_set set;
    CWI_TRY(cw_safetensors_load(path, &set, err));
    bool kept = false;
    cw_status status = CW_OK;
    for (size_t i = 0; i < count && status == CW_OK; i++)
        status = cwi_half_import_weights(halves[i], &set, &kept, err);
    cw_tensor_set_free(&set);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "%s", path);
    cwi_report_log(report, "begins with the weights of %s%s", path,
                   kept ? ", but for the classifier, which is for other classes there" : "");
    return CW_OK;
}

cw_status cwi_checkpoint_begin(const cw_config *config, cw_half *const *halves, size_t count, cwi_report *report,
                               cwi_progress *at, cw_error *err)
{
    *at = (cwi_progress){0};
    if (*config->resume) {
        cw_status status = resume(config, halves, count, report, at, err);
        return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "cannot resume %s", config->resume);
    }
    return *config->weights ? take_weights(config->weights, halves, count, report, err) : CW_OK;
}
