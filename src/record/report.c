/* report.c - writes config.json, recipe.txt, classes.txt, metrics.jsonl, summary.json and model.safetensors. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "record/report.h"

enum { PATH_SIZE = sizeof((cw_config *)0)->out + 40 };

static void join_path(char *path, size_t size, const char *folder, const char *file)
{
    snprintf(path, size, "%s/%s", folder, file);
}

/* ---- the run's folder ---- */

/* What a run writes there. */
static const char *const run_files[] = {
    "config.json",       CWI_RECIPE_FILE, "metrics.jsonl",          "summary.json",
    "model.safetensors", "places.json",   "checkpoint.safetensors", "checkpoint.previous.safetensors"};

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
            return cwi_fail(err, CW_ERR_IO, "out: cannot make folder %s: %s", part, strerror(errno));
    }
    return CW_OK;
}

/* A run that goes on in its own folder, by whatever name that is given. */
static bool goes_on(const cw_config *config)
{
    struct stat a, b;
    if (!*config->resume || strcmp(config->resume, config->out) == 0)
        return *config->resume != '\0';
    return stat(config->resume, &a) == 0 && stat(config->out, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Cuts the last name off: "a/b" to "a", "a" to ".". */
static void go_up(char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    while (end > 0 && path[end - 1] != '/')
        end--;
    while (end > 1 && path[end - 1] == '/')
        end--;
    if (end == 0)
        path[end++] = '.';
    path[end] = '\0';
}

/* That the folder is one, or can be made. */
static cw_status check_place(const char *out, cw_error *err)
{
    char path[sizeof((cw_config *)0)->out];
    struct stat s;
    memcpy(path, out, strlen(out) + 1);
    while (stat(path, &s) != 0) {
        if ((errno != ENOENT && errno != ENOTDIR) || strcmp(path, ".") == 0)
            return cwi_fail(err, CW_ERR_IO, "out: %s: %s: name another folder", path, strerror(errno));
        go_up(path);
    }
    if (!S_ISDIR(s.st_mode))
        return cwi_fail(err, CW_ERR_IO, "out: %s is a file, and a run needs a folder: name another", path);
    return access(path, W_OK | X_OK) == 0
               ? CW_OK
               : cwi_fail(err, CW_ERR_IO, "out: cannot write into %s: %s: name another folder", path, strerror(errno));
}

static cw_status check_nothing_lost(const cw_config *config, cw_error *err)
{
    cwi_list held = {""};
    char path[PATH_SIZE];
    struct stat s;
    for (size_t i = 0; i < CWI_COUNT(run_files); i++) {
        join_path(path, sizeof path, config->out, run_files[i]);
        if (lstat(path, &s) == 0 && s.st_size > 0)
            cwi_list_add(&held, run_files[i]);
    }
    return !*held.text
               ? CW_OK
               : cwi_fail(err, CW_ERR_INVALID,
                          "out: %.300s holds %s, which this run would replace: name another folder, go on with the "
                          "run there by --resume, or have it replaced by --overwrite",
                          config->out, held.text);
}

cw_status cwi_run_folder_check(const cw_config *config, cw_error *err)
{
    if (!*config->out)
        return CW_OK;
    if (goes_on(config))
        return !config->overwrite
                   ? CW_OK
                   : cwi_fail(err, CW_ERR_SPEC,
                              "--resume and --overwrite exclude each other in one folder: a run goes on, or "
                              "another begins");
    CWI_TRY(check_place(config->out, err));
    return config->overwrite ? CW_OK : check_nothing_lost(config, err);
}

/* ---- files ---- */

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
        cwi_report_warn(report, "not_saved", "cannot shorten %s: %s", path, strerror(errno));
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

static cw_status write_classes(const cwi_setup *setup, cw_error *err)
{
    char path[PATH_SIZE], *text;
    join_path(path, sizeof path, setup->config.out, CWI_CLASSES_FILE);
    if (!setup->classes.count) {
        unlink(path); /* of another run */
        return CW_OK;
    }
    CWI_TRY(cwi_classes_format(&setup->classes, &text, err));
    cw_status status = cw_file_write(path, text, strlen(text), err);
    cwi_free(text);
    return status;
}

cw_status cwi_report_write_classes(const cwi_report *report, const cwi_setup *setup, cw_error *err)
{
    return *report->result.out ? write_classes(setup, err) : CW_OK;
}

/* Holds the folder for this run: two that write into one would each spoil the other's. A run that was killed a moment
 * ago may still be ending. */
static bool lock_folder(const cwi_report *report)
{
    const struct timespec nap = {.tv_nsec = 50000000};
    int tries = 40;
    while (flock(fileno(report->metrics), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return true; /* a file system without locks */
        if (--tries == 0)
            return false;
        nanosleep(&nap, NULL);
    }
    return true;
}

static cw_status open_metrics(cwi_report *report, const char *out, const char *path, cw_error *err)
{
    report->metrics = fopen(path, "ae");
    if (!report->metrics)
        return cwi_fail(err, CW_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    if (!lock_folder(report)) {
        fclose(report->metrics);
        report->metrics = NULL;
        return cwi_fail(err, CW_ERR_IO, "out: a run that is not finished writes into %s: wait for it, or name another",
                        out);
    }
    memcpy(report->result.out, out, strlen(out) + 1);
    return CW_OK;
}

/* Of an earlier run, when it may be replaced: a new one that ends early must not leave a mixture. */
static void remove_old(const char *out)
{
    char path[PATH_SIZE];
    for (size_t i = 0; i < CWI_COUNT(run_files); i++) {
        join_path(path, sizeof path, out, run_files[i]);
        if (strcmp(run_files[i], "metrics.jsonl") != 0) /* open and locked */
            (void)unlink(path);
    }
}

cw_status cwi_report_open_files(cwi_report *report, const cwi_setup *setup, const char *mode, cw_error *err)
{
    const cw_config *config = &setup->config;
    char path[PATH_SIZE];
    if (!*config->out)
        return CW_OK;
    const bool continues = goes_on(config);
    CWI_TRY(cwi_run_folder_check(config, err)); /* again: reading the data took its time */
    CWI_TRY(make_folder(config->out, err));
    join_path(path, sizeof path, config->out, "metrics.jsonl");
    CWI_TRY(open_metrics(report, config->out, path, err));
    if (continues)
        keep_lines(report, path, report->result.epochs_done);
    else if (ftruncate(fileno(report->metrics), 0) != 0)
        return cwi_fail(err, CW_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    else
        remove_old(config->out);
    CWI_TRY(write_config(setup, mode, err));
    if (setup->recipe)
        CWI_TRY(write_text(config->out, CWI_RECIPE_FILE, setup->recipe, err));
    return write_classes(setup, err);
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

/* ---- epochs ---- */

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
    cwi_report_emit(report, &event);
    if (report->metrics && !write_metrics(report, epoch))
        cwi_report_warn(report, "not_saved", "cannot write %s/metrics.jsonl: %s; training goes on", report->result.out,
                        strerror(errno));
}

/* ---- the model ---- */

static bool is_twice(const cwi_state *state, size_t i)
{
    for (size_t k = i + 1; k < state->count; k++)
        if (strcmp(state->items[i].name, state->items[k].name) == 0)
            return true;
    return false;
}

/* Halves of callers' own may name their tensors alike: then the first one's get a prefix. */
static void part_names(cwi_state *state)
{
    for (size_t i = 0; i < state->count; i++) {
        char name[sizeof state->items->name];
        if (!is_twice(state, i))
            continue;
        snprintf(name, sizeof name, "client.%.*s", (int)(sizeof name - sizeof "client."), state->items[i].name);
        memcpy(state->items[i].name, name, sizeof name);
    }
}

cw_status cwi_report_save_model(const cwi_report *report, cw_half *const *halves, size_t count, cw_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const cw_status status = cwi_half_check_finite(halves[i], err);
        if (status != CW_OK)
            return cwi_fail_prefix(err, status, "no model is written");
    }
    if (!*report->result.out)
        return CW_OK;
    char path[PATH_SIZE];
    cwi_state state;
    cw_status status = cwi_halves_export(halves, count, CWI_STATE_MODEL, &state, err);
    if (status == CW_OK)
        part_names(&state);
    join_path(path, sizeof path, report->result.out, "model.safetensors");
    if (status == CW_OK)
        status = cw_safetensors_save(path, state.items, state.count, NULL, err);
    cwi_state_free(&state);
    return status;
}
