/* train_output.c - prints what a run tells. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "train_output.h"

static void print_epoch(const cw_event *e, const char *prefix)
{
    const cw_epoch_report *r = e->report;
    char up[32], down[32], time_text[32];
    fprintf(stderr, "%sepoch %d/%d: train loss %.4f, accuracy %.2f%%", prefix, e->epoch + 1, e->epochs, r->train_loss,
            100 * r->train_accuracy);
    if (r->test_samples)
        fprintf(stderr, "; test loss %.4f, accuracy %.2f%%", r->test_loss, 100 * r->test_accuracy);
    if (r->up.socket)
        fprintf(stderr, "; up %s, down %s so far", cli_bytes((double)r->up.socket, up, sizeof up),
                cli_bytes((double)r->down.socket, down, sizeof down));
    fprintf(stderr, "; %s\n", cli_duration(r->seconds, time_text, sizeof time_text));
}

static void on_event(void *ctx, const cw_event *e)
{
    train_output *out = ctx;
    char label[64], note[64];
    live_event(out->page, e);
    if (out->log->structured) {
        cli_log_event(out->log, "", e);
        return;
    }
    switch (e->kind) {
    case CW_EVENT_STATUS:
        return;
    case CW_EVENT_LOG:
        cli_progress_clear(&out->progress);
        cli_log_event(out->log, out->prefix, e);
        return;
    case CW_EVENT_STEP:
    case CW_EVENT_EVAL:
        snprintf(label, sizeof label, "%sepoch %d/%d%s", out->prefix, e->epoch + 1, e->epochs,
                 e->kind == CW_EVENT_EVAL ? ", test" : "");
        *note = '\0';
        if (e->kind == CW_EVENT_STEP)
            snprintf(note, sizeof note, "loss %.4f", e->loss);
        cli_progress_show(&out->progress, label, e->step, e->steps, "steps", note);
        return;
    case CW_EVENT_EPOCH:
        cli_progress_clear(&out->progress);
        if (!out->quiet && out->log->level <= CW_LOG_INFO)
            print_epoch(e, out->prefix);
        return;
    }
}

int train_output_failure(train_output *out, cw_status status, const cw_error *err)
{
    cli_progress_clear(&out->progress);
    live_stop(&out->page, false);
    cli_log_failure(out->log, status, err);
    return cli_fail_error(out->log->role, status, err);
}

static int open_page(train_output *out, const live_options *http, const cw_config *config)
{
    char *text = NULL;
    cw_error err;
    if (config && cw_config_to_json(config, false, &text, &err) != CW_OK)
        return cli_fail_error(out->log->role, err.status, &err);
    json_t *about = text ? json_loads(text, 0, NULL) : NULL;
    cw_bytes_free((uint8_t *)text);
    const char *name = config ? cw_config_string(config, "out") : "";
    return live_start(&out->page, http, out->log, name, about);
}

int train_output_open(train_output *out, const train_telling *how, const char *prefix, const cw_config *config,
                      cw_hooks *hooks)
{
    out->json = how->json;
    out->quiet = how->quiet;
    out->prefix = prefix;
    out->log = &how->log;
    cli_progress_start(&out->progress, how->quiet || how->log.structured || how->log.level > CW_LOG_INFO);
    out->page = NULL;
    cli_catch_signals();
    *hooks = (cw_hooks){.ctx = out,
                        .event = on_event,
                        .stop = cli_stop(),
                        .times = how->http.address != NULL,
                        .debug = how->log.level <= CW_LOG_DEBUG};
    return open_page(out, &how->http, config);
}

static double ratio(uint64_t raw, uint64_t sent)
{
    return sent ? (double)raw / (double)sent : 0;
}

static json_t *summary(const cw_config *c, const char *mode, const cw_result *result)
{
    const cw_epoch_report *r = &result->last;
    const bool tested = r->test_samples > 0;
    json_t *o = json_pack("{s:s,s:o,s:s,s:s,s:s,s:i,s:i,s:b,s:o,s:o,s:o,s:f,s:f}", "mode", mode, "data",
                          cli_json_text(cw_config_string(c, "data")), "model", cw_config_string(c, "model"),
                          "precision", cw_precision_name(result->precision), "cut", cw_config_string(c, "cut"),
                          "clients", (int)cw_config_integer(c, "clients"), "epochs", result->epochs_done, "stopped",
                          result->stopped, "test_accuracy", tested ? cli_json_number(r->test_accuracy) : json_null(),
                          "test_loss", tested ? cli_json_number(r->test_loss) : json_null(), "train_loss",
                          cli_json_number(r->train_loss), "train_accuracy", r->train_accuracy, "seconds", r->seconds);
    json_t *bytes = json_pack(
        "{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:f}", "uplink", cw_config_string(c, "uplink"), "downlink",
        cw_config_string(c, "downlink"), "uplink_bytes", (json_int_t)r->up.socket, "downlink_bytes",
        (json_int_t)r->down.socket, "uplink_payload_bytes", (json_int_t)r->up.payload, "uplink_raw_bytes",
        (json_int_t)r->up.raw, "downlink_payload_bytes", (json_int_t)r->down.payload, "downlink_raw_bytes",
        (json_int_t)r->down.raw, "eval_uplink_payload_bytes", (json_int_t)r->up.eval_payload, "uplink_weights_bytes",
        (json_int_t)r->up.weights, "downlink_weights_bytes", (json_int_t)r->down.weights, "uplink_ratio",
        ratio(r->up.raw + r->up.eval_raw, r->up.socket), "downlink_ratio", ratio(r->down.raw, r->down.socket));
    json_object_update(o, bytes);
    json_decref(bytes);
    json_object_set_new(o, "out", cli_json_text(result->out));
    return o;
}

static void print_summary(const cw_config *c, const char *mode, const cw_result *result)
{
    const cw_epoch_report *r = &result->last;
    const char *eval_uplink = cw_config_string(c, "eval-uplink");
    char a[32], b[32];
    printf("%s, %s on %s: ", mode, cw_config_string(c, "model"), cw_config_string(c, "data"));
    if (r->test_samples)
        printf("test accuracy %.2f%%, test loss %.4f", 100 * r->test_accuracy, r->test_loss);
    else
        printf("train loss %.4f, not tested", r->train_loss);
    printf(", %d epoch%s in %s\n", result->epochs_done, cli_plural((uint64_t)result->epochs_done),
           cli_duration(r->seconds, a, sizeof a));
    if (r->up.socket) {
        printf("uplink   %s%s%s: %s at the socket for %s of fp32, ratio %.2f\n", cw_config_string(c, "uplink"),
               *eval_uplink ? ", tests " : "", eval_uplink, cli_bytes((double)r->up.socket, a, sizeof a),
               cli_bytes((double)(r->up.raw + r->up.eval_raw), b, sizeof b),
               ratio(r->up.raw + r->up.eval_raw, r->up.socket));
        printf("downlink %s: %s at the socket for %s of fp32, ratio %.2f\n", cw_config_string(c, "downlink"),
               cli_bytes((double)r->down.socket, a, sizeof a), cli_bytes((double)r->down.raw, b, sizeof b),
               ratio(r->down.raw, r->down.socket));
    }
    if (*result->out)
        printf("files: %s\n", result->out);
}

int train_output_finish(train_output *out, const cw_config *config, const char *mode, const cw_result *result)
{
    cli_progress_clear(&out->progress);
    live_stop(&out->page, true);
    const int epochs = (int)cw_config_integer(config, "epochs");
    if (result->stopped) {
        fprintf(stderr, "stopped after %d of %d epoch%s; what was reached is saved%s", result->epochs_done, epochs,
                cli_plural((uint64_t)epochs), *result->out ? ": go on by --resume " : "");
        cli_put_clean(stderr, result->out);
        fputc('\n', stderr);
    }
    if (out->json)
        return cli_print_json(summary(config, mode, result));
    print_summary(config, mode, result);
    return CLI_OK;
}

static void default_folder(cw_config *config, const char *name)
{
    char stamp[32], folder[200];
    time_t now = time(NULL);
    struct tm local;
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", localtime_r(&now, &local));
    snprintf(folder, sizeof folder, "runs/%s-%s-%s-%d", stamp, cw_config_string(config, "model"), name, (int)getpid());
    (void)cw_config_set(config, "out", folder, NULL);
}

static int list_presets(void)
{
    for (size_t i = 0; i < cw_preset_count(); i++) {
        const cw_preset *p = cw_preset_at(i);
        printf("%-16s %s\n%16s %s\n", p->name, p->summary, "", p->settings);
    }
    return CLI_OK;
}

/* The configuration that the command line changes: the resumed run's or the preset's. */
static int load_base(const cli_command *command, const char *preset)
{
    cw_config *config = command->config;
    cw_error err;
    char folder[512];
    if (cw_config_get(config, "resume", folder, sizeof folder, &err) != CW_OK)
        return cli_fail_error(command->name, err.status, &err);
    cw_config_reset(config);
    if (!*folder) {
        cw_status status = cw_config_apply_preset(config, preset, &err);
        return status == CW_OK ? CLI_GO_ON : cli_fail_error(command->name, status, &err);
    }
    cw_status status = cw_config_from_run(config, folder, &err);
    if (status == CW_OK)
        status = cw_config_set(config, "out", folder, &err);
    return status == CW_OK ? CLI_GO_ON : cli_fail_error("--resume", status, &err);
}

static bool is_set(const cw_config *config, const char *key)
{
    return *cw_config_string(config, key) != '\0';
}

int train_parse(const cli_command *command, const char **preset, int argc, char **argv)
{
    cw_config *config = command->config;
    int code = cli_parse(command, argc, argv, NULL, NULL);
    if (code != CLI_GO_ON)
        return code;
    if (*preset && strcmp(*preset, "list") == 0)
        return list_presets();
    if (*preset && is_set(config, "resume"))
        return cli_fail(CLI_USAGE, "%s: --preset and --resume exclude each other: a run goes on with its own settings",
                        command->name);
    if (is_set(config, "weights") && is_set(config, "resume"))
        return cli_fail(CLI_USAGE, "%s: --weights and --resume exclude each other: a run goes on with its own weights",
                        command->name);
    if (is_set(config, "recipe") && is_set(config, "resume"))
        return cli_fail(CLI_USAGE, "%s: --recipe and --resume exclude each other: a run goes on with its own recipe",
                        command->name);
    if (*preset || is_set(config, "resume")) {
        code = load_base(command, *preset);
        if (code == CLI_GO_ON)
            code = cli_parse(command, argc, argv, NULL, NULL);
    }
    if (!is_set(config, "out"))
        default_folder(config, command->name);
    return code;
}

int train_take_mode(const cli_command *command, bool split_asked, bool *local)
{
    const char *folder = cw_config_string(command->config, "resume");
    if (!*folder)
        return CLI_GO_ON;
    bool split;
    cw_error err;
    cw_status status = cw_run_is_split(folder, &split, &err);
    if (status != CW_OK)
        return cli_fail_error("--resume", status, &err);
    if (split && *local)
        return cli_fail(CLI_USAGE, "%s: --resume %s: that run was split: leave --local out", command->name, folder);
    if (!split && split_asked)
        return cli_fail(CLI_USAGE, "%s: --resume %s: that run was not split: go on by `cutwire train --resume %s`",
                        command->name, folder, folder);
    *local = !split;
    return CLI_GO_ON;
}
