/* report.c - writes config.json, recipe.txt, metrics.jsonl, summary.json and model.safetensors, and calls the hooks. */
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "train/report.h"

/* ---- folders and files ---- */

static cw_status make_folder(const char *path, cw_error *err)
{
    char part[sizeof((cw_config *)0)->out];
    size_t length = strlen(path);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return cwi_fail(err, CW_ERR_IO, "cannot make folder %s: %s", part, strerror(errno));
    }
    return CW_OK;
}

static void join_path(char *path, size_t size, const char *folder, const char *file)
{
    snprintf(path, size, "%s/%s", folder, file);
}

enum { PATH_SIZE = sizeof((cw_config *)0)->out + 32 };

static cw_status write_text(const char *folder, const char *file, const char *text, cw_error *err)
{
    char path[PATH_SIZE];
    join_path(path, sizeof path, folder, file);
    return cw_file_write(path, text, strlen(text), err);
}

static cw_status write_config(const cwi_setup *setup, const char *mode, cw_error *err)
{
    const cw_config *config = &setup->config;
    char *json;
    CWI_TRY(cw_config_to_json(config, false, &json, err));
    json_t *object = json_loads(json, 0, NULL);
    cwi_free(json);
    json_object_set_new(object, "mode", json_string(mode));
    char *text = json_dumps(object, JSON_INDENT(2));
    json_decref(object);
    if (!text)
        return cwi_fail_memory(err, 0);
    cw_status status = write_text(config->out, "config.json", text, err);
    free(text);
    return status;
}

/* A run that goes on in its own folder keeps the metrics of the epochs that its checkpoint holds. */
static void keep_lines(cwi_report *report, const char *path, int lines)
{
    uint8_t *bytes;
    size_t size, end = 0;
    if (cw_file_read(path, &bytes, &size, NULL) != CW_OK)
        return;
    while (end < size && lines > 0)
        lines -= bytes[end++] == '\n';
    cw_bytes_free(bytes);
    if (ftruncate(fileno(report->metrics), (off_t)end) != 0)
        cwi_report_log(report, "cannot shorten %s: %s", path, strerror(errno));
}

void cwi_report_open(const cwi_setup *setup, const cw_hooks *hooks, cwi_report *report)
{
    static const cw_hooks silent;
    memset(report, 0, sizeof *report);
    report->hooks = hooks ? hooks : &silent;
    report->epochs = setup->config.epochs;
    report->began = cwi_seconds();
    report->result.precision = setup->precision;
    cwi_report_emulation(report, setup);
}

cw_status cwi_report_open_files(cwi_report *report, const cwi_setup *setup, const char *mode, cw_error *err)
{
    const cw_config *config = &setup->config;
    if (!*config->out)
        return CW_OK;
    CWI_TRY(make_folder(config->out, err));
    CWI_TRY(write_config(setup, mode, err));
    if (setup->recipe)
        CWI_TRY(write_text(config->out, CWI_RECIPE_FILE, setup->recipe, err));
    char path[PATH_SIZE];
    join_path(path, sizeof path, config->out, "metrics.jsonl");
    const bool goes_on = strcmp(config->resume, config->out) == 0;
    report->metrics = fopen(path, goes_on ? "a" : "w");
    if (!report->metrics)
        return cwi_fail(err, CW_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    memcpy(report->result.out, config->out, sizeof report->result.out);
    if (goes_on)
        keep_lines(report, path, report->result.epochs_done);
    return CW_OK;
}

/* ---- epochs as JSON ---- */

json_t *cwi_report_traffic_json(const cw_traffic *t)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "socket_bytes", (json_int_t)t->socket, "payload_bytes",
                     (json_int_t)t->payload, "raw_bytes", (json_int_t)t->raw, "eval_payload_bytes",
                     (json_int_t)t->eval_payload, "eval_raw_bytes", (json_int_t)t->eval_raw, "weights_bytes",
                     (json_int_t)t->weights);
}

json_t *cwi_report_epoch_json(const cw_epoch_report *e)
{
    const bool tested = e->test_samples > 0;
    return json_pack("{s:i,s:f,s:f,s:o,s:o,s:f,s:f,s:f,s:I,s:I,s:i,s:s,s:o,s:o}", "epoch", e->epoch + 1, "train_loss",
                     e->train_loss, "train_accuracy", e->train_accuracy, "test_loss",
                     tested ? json_real(e->test_loss) : json_null(), "test_accuracy",
                     tested ? json_real(e->test_accuracy) : json_null(), "lr", e->lr, "seconds", e->seconds,
                     "train_seconds", e->train_seconds, "train_samples", (json_int_t)e->train_samples, "test_samples",
                     (json_int_t)e->test_samples, "clients", e->clients, "precision", cw_precision_name(e->precision),
                     "uplink", cwi_report_traffic_json(&e->up), "downlink", cwi_report_traffic_json(&e->down));
}

void cwi_report_restore_traffic(const json_t *object, cw_traffic *t)
{
    uint64_t *fields[] = {&t->socket, &t->payload, &t->raw, &t->eval_payload, &t->eval_raw, &t->weights};
    static const char *const keys[] = {"socket_bytes",       "payload_bytes",  "raw_bytes",
                                       "eval_payload_bytes", "eval_raw_bytes", "weights_bytes"};
    for (size_t i = 0; i < CWI_COUNT(keys); i++)
        *fields[i] = (uint64_t)json_integer_value(json_object_get(object, keys[i]));
}

void cwi_report_restore(cwi_report *report, const json_t *last, int epochs_done, double best_accuracy)
{
    cw_epoch_report *r = &report->result.last;
    double *fields[] = {&r->train_loss,    &r->train_accuracy, &r->test_loss, &r->test_accuracy,
                        &r->train_seconds, &r->seconds,        &r->lr};
    static const char *const keys[] = {"train_loss",    "train_accuracy", "test_loss", "test_accuracy",
                                       "train_seconds", "seconds",        "lr"};
    for (size_t i = 0; i < CWI_COUNT(keys); i++)
        *fields[i] = json_number_value(json_object_get(last, keys[i]));
    r->epoch = epochs_done - 1;
    r->train_samples = (uint64_t)json_integer_value(json_object_get(last, "train_samples"));
    r->test_samples = (uint64_t)json_integer_value(json_object_get(last, "test_samples"));
    r->clients = (int)json_integer_value(json_object_get(last, "clients"));
    r->precision = report->result.precision;
    const char *was = json_string_value(json_object_get(last, "precision")); /* not there in old runs */
    if (was)
        (void)cw_precision_parse(was, &r->precision, NULL);
    cwi_report_restore_traffic(json_object_get(last, "uplink"), &r->up);
    cwi_report_restore_traffic(json_object_get(last, "downlink"), &r->down);
    report->result.epochs_done = epochs_done;
    report->result.best_accuracy = best_accuracy;
}

void cwi_report_close(cwi_report *report)
{
    if (!report->metrics)
        return;
    fclose(report->metrics);
    report->metrics = NULL;
    json_t *summary = cwi_report_epoch_json(&report->result.last);
    json_object_set_new(summary, "epochs_done", json_integer(report->result.epochs_done));
    json_object_set_new(summary, "stopped", json_boolean(report->result.stopped));
    json_object_set_new(summary, "best_accuracy", json_real(report->result.best_accuracy));
    char *text = json_dumps(summary, JSON_INDENT(2));
    json_decref(summary);
    if (text)
        (void)write_text(report->result.out, "summary.json", text, NULL);
    free(text);
}

/* ---- events ---- */

static void emit(const cwi_report *report, const cw_event *event)
{
    if (report->hooks->event)
        report->hooks->event(report->hooks->ctx, event);
}

void cwi_report_begin(cwi_report *report, double seconds)
{
    report->began = cwi_seconds() - seconds;
}

static bool write_metrics(cwi_report *report, const cw_epoch_report *epoch)
{
    json_t *json = cwi_report_epoch_json(epoch);
    char *line = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    bool written = line && fprintf(report->metrics, "%s\n", line) > 0 && fflush(report->metrics) == 0;
    free(line);
    return written;
}

void cwi_report_epoch(cwi_report *report, cw_epoch_report *epoch)
{
    epoch->seconds = cwi_seconds() - report->began;
    epoch->precision = report->result.precision;
    report->result.last = *epoch;
    report->result.epochs_done = epoch->epoch + 1;
    report->result.best_accuracy = CWI_MAX(report->result.best_accuracy, epoch->test_accuracy);
    cw_event event = {.kind = CW_EVENT_EPOCH, .epoch = epoch->epoch, .epochs = report->epochs, .report = epoch};
    emit(report, &event);
    if (report->metrics && !write_metrics(report, epoch))
        cwi_report_log(report, "cannot write %s/metrics.jsonl: %s; training goes on", report->result.out,
                       strerror(errno));
}

void cwi_report_step(const cwi_report *report, cw_event_kind kind, int epoch, size_t step, size_t steps, double loss)
{
    cw_event event = {
        .kind = kind, .epoch = epoch, .epochs = report->epochs, .step = step, .steps = steps, .loss = loss};
    emit(report, &event);
}

void cwi_report_log(const cwi_report *report, const char *fmt, ...)
{
    char text[600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    cw_event event = {.kind = CW_EVENT_LOG, .text = text, .epochs = report->epochs};
    emit(report, &event);
}

void cwi_report_emulation(const cwi_report *report, const cwi_setup *setup)
{
    if (cw_precision_is_emulated(setup->precision))
        cwi_report_log(report, "precision bf16: this processor has no instructions for it and trains at about half its "
                               "speed in fp32: the run's --precision auto would have taken that");
}

bool cwi_report_stop_asked(const cwi_report *report)
{
    return report->hooks->stop && *report->hooks->stop;
}

/* ---- the model ---- */

cw_status cwi_report_save_model(const cwi_report *report, const cw_part *const *parts, size_t count, cw_error *err)
{
    if (!*report->result.out)
        return CW_OK;
    cw_named_tensor *state[2] = {NULL, NULL}, *all = NULL;
    size_t sizes[2] = {0, 0}, total = 0;
    cw_status status = CW_OK;
    for (size_t i = 0; i < count && status == CW_OK; i++) {
        status = cw_part_state_export(parts[i], &state[i], &sizes[i], err);
        total += sizes[i];
    }
    if (status == CW_OK && !(all = cwi_alloc(total, sizeof *all)))
        status = cwi_fail_memory(err, total * sizeof *all);
    if (status == CW_OK) {
        char path[PATH_SIZE];
        join_path(path, sizeof path, report->result.out, "model.safetensors");
        memcpy(all, state[0], sizes[0] * sizeof *all);
        if (sizes[1])
            memcpy(all + sizes[0], state[1], sizes[1] * sizeof *all);
        status = cw_safetensors_save(path, all, total, NULL, err);
    }
    cwi_free(all);
    for (size_t i = 0; i < count; i++)
        cw_named_tensors_free(state[i], sizes[i]);
    return status;
}
