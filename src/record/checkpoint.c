/* checkpoint.c - saves and restores runs. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record/checkpoint.h"

enum { FORMAT = 2, PATH_SIZE = sizeof((cw_config *)0)->out + 40 };

static const char last_file[] = "checkpoint.safetensors", previous_file[] = "checkpoint.previous.safetensors";

static void checkpoint_path(char *path, const char *folder, const char *file)
{
    snprintf(path, PATH_SIZE, "%s/%s", folder, file);
}

/* ---- saving ---- */

static json_t *within_json(const cwi_progress *at)
{
    return json_pack("{s:I,s:b,s:f,s:I,s:I,s:f,s:f,s:o,s:o}", "step", (json_int_t)at->step, "trained", at->trained,
                     "loss", at->loss, "correct", (json_int_t)at->correct, "samples", (json_int_t)at->samples,
                     "train_seconds", at->train_seconds, "seconds", at->seconds, "uplink",
                     cwi_report_traffic_json(&at->up), "downlink", cwi_report_traffic_json(&at->down));
}

/* These are counted by the states of their optimizers. */
static bool are_engine_halves(cw_half *const *halves, size_t count)
{
    bool engine = true;
    for (size_t i = 0; i < count; i++)
        engine &= cwi_half_is_engine(halves[i]);
    return engine;
}

static char *metadata_text(const cwi_report *report, const cw_config *config, cw_half *const *halves, size_t count,
                           const cwi_progress *at, cw_error *err)
{
    char *config_json;
    if (cw_config_to_json(config, false, &config_json, err) != CW_OK)
        return NULL;
    json_t *meta = json_pack("{s:i,s:i,s:f,s:o}", "format", FORMAT, "next_epoch", at->epoch, "best_accuracy",
                             report->result.best_accuracy, "last", cwi_report_epoch_json(&report->result.last));
    json_object_set_new(meta, "config", json_loads(config_json, 0, NULL));
    if (!are_engine_halves(halves, count)) {
        json_object_set_new(meta, "halves", json_integer((json_int_t)count));
        json_object_set_new(meta, "cut", json_integer((json_int_t)cwi_half_first_layer(halves[count - 1])));
    }
    if (at->step)
        json_object_set_new(meta, "within", within_json(at));
    cwi_free(config_json);
    char *text = json_dumps(meta, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(meta);
    return text;
}

/* CW_ERR_DIVERGED names a tensor that is not finite. */
static cw_status check_finite(const cw_named_tensor *items, size_t count, cw_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const cw_tensor *t = &items[i].tensor;
        size_t floats;
        if (t->dtype != CW_F32 || cw_shape_count(&t->shape, &floats) != CW_OK)
            continue;
        if (isinf(cwi_peak(t->data, floats)))
            return cwi_fail(err, CW_ERR_DIVERGED,
                            "%s holds NaN or infinity: training has diverged: lower the learning rate, or look for bad "
                            "input",
                            items[i].name);
    }
    return CW_OK;
}

static bool goes_on_in_place(const cw_config *config)
{
    return strcmp(config->resume, config->out) == 0;
}

/* A second name for the last checkpoint, until there is a new one: it is the previous one then. Where a file has one
 * name only, it is that at once. */
static void hold_last(const char *last, const char *held, const char *previous)
{
    if (link(last, held) != 0)
        (void)rename(last, previous);
}

static cw_status replace(const cw_config *config, bool hold, const cwi_state *state, const char *meta, cw_error *err)
{
    char last[PATH_SIZE], previous[PATH_SIZE], held[PATH_SIZE + 8];
    checkpoint_path(last, config->out, last_file);
    checkpoint_path(previous, config->out, previous_file);
    snprintf(held, sizeof held, "%s.tmp", previous);
    unlink(held);
    if (hold)
        hold_last(last, held, previous);
    cw_status status = cw_safetensors_save(last, state->items, state->count, meta, err);
    if (status == CW_OK && hold)
        (void)rename(held, previous);
    else if (status == CW_OK && !goes_on_in_place(config))
        unlink(previous); /* of another run */
    unlink(held);
    return status;
}

/* What clients gave gets names apart from this server's own. */
static cw_status name_client(cwi_state *state, cw_error *err)
{
    for (size_t i = 0; i < state->count; i++) {
        char name[2 * sizeof state->items->name];
        const int length = snprintf(name, sizeof name, CWI_CLIENT_PREFIX "%s", state->items[i].name);
        if (length >= (int)sizeof state->items->name)
            return cwi_fail(err, CW_ERR_INVALID, "'%s' is too long a name", state->items[i].name);
        memcpy(state->items[i].name, name, (size_t)length + 1);
    }
    return CW_OK;
}

static cw_status export_halves(cw_half *const *halves, size_t count, cwi_state *state, cw_error *err)
{
    CWI_TRY(cwi_halves_export(halves, 1, CWI_STATE_ALL, state, err));
    if (cwi_half_is_remote(halves[0]))
        CWI_TRY(name_client(state, err));
    return cwi_halves_append(halves + 1, count - 1, CWI_STATE_ALL, state, err);
}

static cw_status save(cwi_report *report, const cw_config *config, cw_half *const *halves, size_t count,
                      const cwi_progress *at, cw_error *err)
{
    char *meta = metadata_text(report, config, halves, count, at, err);
    if (!meta)
        return cwi_fail_memory(err, 0);
    cwi_state state;
    cw_status status = export_halves(halves, count, &state, err);
    if (status == CW_OK && at->own)
        status = cwi_own_statistics_export(at->own, &state, err);
    if (status == CW_OK)
        status = check_finite(state.items, state.count, err);
    if (status == CW_OK)
        status = replace(config, report->has_checkpoint, &state, meta, err);
    report->has_checkpoint |= status == CW_OK;
    cwi_state_free(&state);
    free(meta);
    return status;
}

uint32_t cwi_checkpoint_next_step(const cw_config *config, uint32_t step, uint32_t steps)
{
    const uint32_t every = config->checkpoint_steps && *config->out ? (uint32_t)config->checkpoint_steps : steps;
    return every < steps - step ? step + every - step % every : steps;
}

cw_status cwi_checkpoint_save(cwi_report *report, const cw_config *config, cw_half *const *halves, size_t count,
                              const cwi_progress *at, cw_error *err)
{
    const bool wanted = at->step || (config->checkpoint_every &&
                                     (at->epoch % config->checkpoint_every == 0 || at->epoch >= config->epochs));
    for (size_t i = 0; i < count; i++)
        CWI_TRY(cwi_half_check_finite(halves[i], err));
    if (!*config->out || !wanted)
        return CW_OK;
    cw_error why;
    cw_status status = save(report, config, halves, count, at, &why);
    if (status == CW_ERR_DIVERGED)
        return cwi_fail(err, status, "%s", why.message);
    if (status != CW_OK)
        cwi_report_warn(report, "not_saved", "cannot save a checkpoint: %s; training goes on, the last good one stays",
                        why.message);
    return CW_OK;
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
    return cwi_fail(err, CW_ERR_VERSION, "%s is no checkpoint of this version: name the folder of a run", path);
}

static cw_status load_file(const char *folder, const char *file, cw_tensor_set *set, json_t **meta, cw_error *err)
{
    char path[PATH_SIZE];
    checkpoint_path(path, folder, file);
    CWI_TRY(cw_safetensors_load(path, set, err));
    cw_status status = parse_metadata(set, path, meta, err);
    if (status == CW_OK) {
        status = check_finite(set->items, set->count, err);
        if (status != CW_OK) {
            json_decref(*meta);
            status = cwi_fail_prefix(err, CW_ERR_CORRUPT, "%s", path);
        }
    }
    if (status != CW_OK)
        cw_tensor_set_free(set);
    return status;
}

static cw_status no_checkpoint(cw_status status, const char *why, cw_error *err)
{
    if (status == CW_ERR_NOT_FOUND)
        return cwi_fail(err, status, "%s: a run has a checkpoint after an epoch, or earlier with --checkpoint-steps",
                        why);
    if (status != CW_ERR_CORRUPT && status != CW_ERR_TRUNCATED)
        return cwi_fail(err, status, "%s", why);
    return cwi_fail(err, status,
                    "%s: it is damaged, and there is no good one before it (%s): begin anew with another --out, or put "
                    "a copy of it back",
                    why, previous_file);
}

/* The last checkpoint, or where that is no good the one before it: *instead then says why, and else is "". */
static cw_status load(const char *folder, cw_tensor_set *set, json_t **meta, cw_error *instead, cw_error *err)
{
    cw_error why, own;
    err = err ? err : &own;
    instead = instead ? instead : &why;
    *instead->message = '\0';
    cw_status status = load_file(folder, last_file, set, meta, err);
    if (status == CW_OK || status == CW_ERR_NO_MEMORY)
        return status;
    *instead = *err;
    if (load_file(folder, previous_file, set, meta, &own) == CW_OK)
        return CW_OK;
    return no_checkpoint(status, instead->message, err);
}

/* ---- a run that has not come as far as a checkpoint ---- */

static bool holds(const char *folder, const char *file)
{
    char path[PATH_SIZE];
    struct stat s;
    checkpoint_path(path, folder, file);
    return stat(path, &s) == 0 && s.st_size > 0;
}

/* The configuration of a run that was stopped before an epoch was over or a checkpoint was due: it goes on from its
 * beginning, and nothing is lost but time. NULL: there is no such run. */
static json_t *read_beginning(const char *folder, bool *split)
{
    char path[PATH_SIZE];
    if (holds(folder, last_file) || holds(folder, previous_file) || holds(folder, "metrics.jsonl"))
        return NULL;
    checkpoint_path(path, folder, "config.json");
    json_t *config = json_load_file(path, 0, NULL);
    const char *how = json_string_value(json_object_get(config, "mode"));
    *split = how && strncmp(how, "split", 5) == 0;
    if (how && json_object_del(config, "mode") == 0) /* how it ran, and no key of the configuration */
        return config;
    json_decref(config);
    return NULL;
}

/* As load(); with an empty set where the run goes on from its beginning. */
static cw_status load_or_begin(const char *folder, cw_tensor_set *set, json_t **meta, cw_error *err)
{
    bool split;
    const cw_status status = load(folder, set, meta, NULL, err);
    json_t *config = status == CW_ERR_NOT_FOUND ? read_beginning(folder, &split) : NULL;
    if (!config)
        return status;
    *set = (cw_tensor_set){.items = NULL};
    *meta = json_pack("{s:b,s:o}", "split", split, "config", config);
    return *meta ? CW_OK : cwi_fail_memory(err, 0);
}

cw_status cw_config_from_run(cw_config *config, const char *folder, cw_error *err)
{
    cw_tensor_set set;
    json_t *meta;
    CWI_TRY(load_or_begin(folder, &set, &meta, err));
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

/* The halves that the set holds, and the layer where the last begins: as the metadata say, or of our engine's halves
 * counted by their optimizers' steps (setup.h). */
static cw_status count_halves(const cw_tensor_set *set, const json_t *meta, size_t *count, size_t *cut, cw_error *err)
{
    size_t first, last;
    *count = (size_t)json_integer_value(json_object_get(meta, "halves"));
    *cut = (size_t)json_integer_value(json_object_get(meta, "cut"));
    if (*count)
        return CW_OK;
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
    CWI_TRY(load_or_begin(folder, &set, &meta, err));
    const json_t *begins = json_object_get(meta, "split");
    cw_status status = begins ? CW_OK : count_halves(&set, meta, &count, &cut, err);
    *split = begins ? json_is_true(begins) : count > 1;
    json_decref(meta);
    cw_tensor_set_free(&set);
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "%s", folder);
}

/* A half that is not one of the run's would begin without its optimizer's state. */
static cw_status check_halves(const cw_tensor_set *set, const json_t *meta, cw_half *const *halves, size_t count,
                              cw_error *err)
{
    size_t cut, held;
    CWI_TRY(count_halves(set, meta, &held, &cut, err));
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
                         .down = report->result.last.down,
                         .own = at->own};
    if (!within)
        return;
    at->step = (uint32_t)json_integer_value(json_object_get(within, "step"));
    at->trained = json_is_true(json_object_get(within, "trained"));
    at->loss = json_number_value(json_object_get(within, "loss"));
    at->correct = (uint64_t)json_integer_value(json_object_get(within, "correct"));
    at->samples = (uint64_t)json_integer_value(json_object_get(within, "samples"));
    at->train_seconds = json_number_value(json_object_get(within, "train_seconds"));
    at->seconds = json_number_value(json_object_get(within, "seconds"));
    cwi_report_restore_traffic(json_object_get(within, "uplink"), &at->up);
    cwi_report_restore_traffic(json_object_get(within, "downlink"), &at->down);
}

/* Those of the set that the clients once gave, under their own names again. */
static cw_status import_remote(cw_half *remote, const cw_tensor_set *set, cw_error *err)
{
    const size_t prefix = strlen(CWI_CLIENT_PREFIX);
    cw_tensor_set given = {.items = cwi_calloc(set->count, sizeof *given.items)};
    if (!given.items)
        return cwi_fail_memory(err, set->count * sizeof *given.items);
    for (size_t i = 0; i < set->count; i++) {
        if (strncmp(set->items[i].name, CWI_CLIENT_PREFIX, prefix) != 0)
            continue;
        snprintf(given.items[given.count].name, sizeof given.items->name, "%s", set->items[i].name + prefix);
        given.items[given.count++].tensor = set->items[i].tensor;
    }
    const cw_status status = given.count ? cwi_half_import(remote, &given, err)
                                         : cwi_fail(err, CW_ERR_MISMATCH,
                                                    "the run has no half that clients gave: go "
                                                    "on with a half like theirs at the server");
    cwi_free(given.items);
    return status;
}

static cw_status resume(const cw_config *config, cw_half *const *halves, size_t count, cwi_report *report,
                        cwi_progress *at, cw_error *err)
{
    cw_tensor_set set;
    json_t *meta;
    cw_error instead;
    CWI_TRY(load(config->resume, &set, &meta, &instead, err));
    if (*instead.message)
        cwi_report_warn(report, "checkpoint_damaged",
                        "the last checkpoint is of no use: %s; going on from the one before it, %s", instead.message,
                        previous_file);
    report->has_checkpoint = goes_on_in_place(config) && !*instead.message;
    cw_status status = check_halves(&set, meta, halves, count, err);
    for (size_t i = 0; i < count && status == CW_OK; i++)
        status =
            cwi_half_is_remote(halves[i]) ? import_remote(halves[i], &set, err) : cwi_half_import(halves[i], &set, err);
    if (status == CW_OK && at->own)
        status = cwi_own_statistics_import(at->own, &set, err);
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

/* Halves of a caller's own have come from elsewhere, and may have learned since. */
static bool begins_again(const cw_config *config, cw_half *const *halves, size_t count)
{
    bool split;
    json_t *begun = read_beginning(config->resume, &split);
    json_decref(begun);
    return begun && split == (count > 1) && are_engine_halves(halves, count);
}

cw_status cwi_checkpoint_begin(const cw_config *config, cw_half *const *halves, size_t count, cwi_report *report,
                               cwi_progress *at, cw_error *err)
{
    *at = (cwi_progress){.own = at->own};
    if (*config->resume) {
        const cw_status status = resume(config, halves, count, report, at, err);
        if (status != CW_ERR_NOT_FOUND || !begins_again(config, halves, count))
            return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "cannot resume %s", config->resume);
        cwi_report_log(report, "%s has no checkpoint yet: it begins at its beginning", config->resume);
    }
    if (config->freeze && !*config->weights)
        return cwi_fail(err, CW_ERR_SPEC, "freeze: the layers that learn nothing need weights: give --weights FILE");
    return *config->weights ? take_weights(config->weights, halves, count, report, err) : CW_OK;
}
