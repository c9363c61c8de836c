/* cli_log.c - see cli_log.h. A line is made whole in memory, and written at once: lines of processes that share
 * standard error do not mix. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli_log.h"

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static const char *name_of(cw_log_level level)
{
    return level_names[level - CW_LOG_DEBUG];
}

int cli_log_open(cli_log *log, const char *role)
{
    log->role = role;
    log->json = strcmp(log->format_name, "json") == 0;
    log->structured = log->json || strcmp(log->format_name, "text") == 0;
    if (!log->structured && strcmp(log->format_name, "plain") != 0)
        return cli_fail(CLI_USAGE, "%s: --log-format: '%s': choose plain, text or json", role, log->format_name);
    for (int i = 0; i < 4; i++) {
        if (strcmp(log->level_name, level_names[i]) == 0) {
            log->level = (cw_log_level)(i + CW_LOG_DEBUG);
            return CLI_GO_ON;
        }
    }
    return cli_fail(CLI_USAGE, "%s: --log-level: '%s': choose debug, info, warn or error", role, log->level_name);
}

/* RFC 3339, in UTC, to the millisecond. */
static void put_time(char *text, size_t size)
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    const size_t used = strftime(text, size, "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &utc));
    snprintf(text + used, size - used, ".%03ldZ", now.tv_nsec / 1000000);
}

/* ---- an event as JSON: its fields are those of every format ---- */

static void set_text(json_t *o, const char *key, const char *text)
{
    if (text && *text)
        json_object_set_new(o, key, cli_json_text(text));
}

static void set_number(json_t *o, const char *key, double x)
{
    json_object_set_new(o, key, cli_json_number(x));
}

static void set_integer(json_t *o, const char *key, uint64_t n)
{
    json_object_set_new(o, key, json_integer((json_int_t)n));
}

static void add_epoch(json_t *o, const cw_event *e)
{
    const cw_epoch_report *r = e->report;
    set_number(o, "train_loss", r->train_loss);
    set_number(o, "train_accuracy", r->train_accuracy);
    if (r->test_samples) {
        set_number(o, "test_loss", r->test_loss);
        set_number(o, "test_accuracy", r->test_accuracy);
    }
    set_integer(o, "uplink_bytes", r->up.socket);
    set_integer(o, "downlink_bytes", r->down.socket);
    set_integer(o, "clients", (uint64_t)r->clients);
    set_number(o, "seconds", r->seconds);
}

static void add_log(json_t *o, const cw_event *e)
{
    set_text(o, "text", e->text);
    if (e->origin && e->origin->client >= 0)
        set_integer(o, "client", (uint64_t)e->origin->client + 1);
    set_text(o, "address", e->origin ? e->origin->address : NULL);
    set_text(o, "key", e->origin ? e->origin->key : NULL);
}

static void add_step(json_t *o, const cw_event *e)
{
    set_integer(o, "step", e->step);
    set_integer(o, "steps", e->steps);
}

static json_t *fields_of(const cw_event *e)
{
    json_t *o = json_object();
    if (e->kind == CW_EVENT_LOG) {
        add_log(o, e);
        if (!e->steps)
            return o;
    }
    set_integer(o, "epoch", (uint64_t)e->epoch + 1);
    set_integer(o, "epochs", (uint64_t)e->epochs);
    if (e->kind == CW_EVENT_EPOCH)
        add_epoch(o, e);
    else
        add_step(o, e);
    if (e->kind == CW_EVENT_STEP)
        set_number(o, "loss", e->loss);
    return o;
}

/* ---- lines ---- */

static void write_json(const cli_log *log, const char *stamp, cw_log_level level, const char *name, json_t *fields)
{
    json_t *line =
        json_pack("{s:s,s:s,s:s,s:s}", "time", stamp, "level", name_of(level), "event", name, "role", log->role);
    json_object_update(line, fields);
    char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(6));
    if (text)
        fprintf(stderr, "%s\n", text);
    free(text);
    json_decref(line);
}

/* "time level event: sentence (client=1 address=...)" */
static void write_text(const char *stamp, cw_log_level level, const char *name, json_t *fields)
{
    char *whole = NULL;
    size_t size;
    const char *key, *before = " (";
    json_t *value;
    FILE *out = open_memstream(&whole, &size);
    if (!out)
        return;
    fprintf(out, "%s %-5s %s", stamp, name_of(level), name);
    const char *sentence = json_string_value(json_object_get(fields, "text"));
    if (sentence)
        fputs(": ", out), cli_put_clean(out, sentence);
    json_object_foreach(fields, key, value)
    {
        if (strcmp(key, "text") == 0)
            continue;
        char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        fprintf(out, "%s%s=", before, key);
        cli_put_clean(out, text ? text : json_string_value(value));
        before = " ";
        free(text);
    }
    fputs(strcmp(before, " (") == 0 ? "\n" : ")\n", out);
    fclose(out);
    fputs(whole, stderr);
    free(whole);
}

static void write_line(const cli_log *log, cw_log_level level, const char *name, json_t *fields)
{
    char stamp[40];
    put_time(stamp, sizeof stamp);
    if (log->json)
        write_json(log, stamp, level, name, fields);
    else
        write_text(stamp, level, name, fields);
    json_decref(fields);
}

static const char *name_of_event(const cw_event *e)
{
    switch (e->kind) {
    case CW_EVENT_STEP:
        return "step";
    case CW_EVENT_EVAL:
        return "evaluation";
    case CW_EVENT_EPOCH:
        return "epoch";
    default:
        return e->name ? e->name : "note";
    }
}

void cli_log_event(const cli_log *log, const char *prefix, const cw_event *e)
{
    const bool often = e->kind == CW_EVENT_STEP || e->kind == CW_EVENT_EVAL;
    const cw_log_level level = e->kind == CW_EVENT_LOG ? e->level : often ? CW_LOG_DEBUG : CW_LOG_INFO;
    if (e->kind == CW_EVENT_STATUS || level < log->level)
        return;
    if (log->structured) {
        write_line(log, level, name_of_event(e), fields_of(e));
    } else if (e->kind == CW_EVENT_LOG) {
        fputs(prefix, stderr);
        cli_put_clean(stderr, e->text);
        fputc('\n', stderr);
    }
}

void cli_log_say(const cli_log *log, cw_log_level level, const char *name, const char *fmt, ...)
{
    char text[1200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    const cw_event event = {.kind = CW_EVENT_LOG, .text = text, .name = name, .level = level};
    cli_log_event(log, "", &event);
}

void cli_log_failure(const cli_log *log, cw_status status, const cw_error *err)
{
    if (log->structured)
        cli_log_say(log, CW_LOG_ERROR, "failed", "%s", *err->message ? err->message : cw_status_message(status));
}
