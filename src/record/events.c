/* events.c - what a run's caller sees while it goes on, and how it stops it. */
#include <stdarg.h>
#include <stdio.h>

#include "config/engine.h"
#include "record/report.h"

void cwi_report_emit(const cwi_report *report, const cw_event *event)
{
    if (report->hooks->event)
        report->hooks->event(report->hooks->ctx, event);
}

void cwi_report_step(const cwi_report *report, cw_event_kind kind, int epoch, size_t step, size_t steps, double loss,
                     const cw_server_status *server)
{
    cw_event event = {.kind = kind,
                      .epoch = epoch,
                      .epochs = report->epochs,
                      .step = step,
                      .steps = steps,
                      .loss = loss,
                      .server = server};
    cwi_report_emit(report, &event);
}

void cwi_hooks_notice(const cw_hooks *hooks, const cw_event *event, int client, const char *address, const char *key)
{
    cw_origin origin = {.client = client};
    cw_event whole = *event;
    whole.kind = CW_EVENT_LOG;
    whole.origin = &origin;
    snprintf(origin.address, sizeof origin.address, "%s", address);
    snprintf(origin.key, sizeof origin.key, "%.*s", CWI_FINGERPRINT, key);
    if (hooks && hooks->event)
        hooks->event(hooks->ctx, &whole);
}

/* `event` but for its text. */
static void log_text(const cwi_report *report, cw_event event, const char *fmt, va_list args)
{
    char text[1200], *whole = NULL;
    va_list again;
    va_copy(again, args);
    const int size = vsnprintf(text, sizeof text, fmt, args);
    if (size >= (int)sizeof text && (whole = cwi_alloc((size_t)size + 1, 1)))
        vsnprintf(whole, (size_t)size + 1, fmt, again);
    va_end(again);
    event.text = whole ? whole : text;
    event.epochs = report->epochs;
    cwi_report_emit(report, &event);
    cwi_free(whole);
}

void cwi_report_log(const cwi_report *report, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    log_text(report, (cw_event){.kind = CW_EVENT_LOG}, fmt, args);
    va_end(args);
}

void cwi_report_warn(const cwi_report *report, const char *name, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    log_text(report, (cw_event){.kind = CW_EVENT_LOG, .name = name, .level = CW_LOG_WARN}, fmt, args);
    va_end(args);
}

void cwi_report_data(const cwi_report *report, const cwi_feed *feed)
{
    if (feed->note)
        cwi_report_log(report, "%s", feed->note);
}

void cwi_report_emulation(const cwi_report *report, const cwi_setup *setup)
{
    const char *note = cwi_engine_note(setup);
    if (note)
        cwi_report_log(report, "%s", note);
}

bool cwi_report_stop_asked(const cwi_report *report)
{
    return report->hooks->stop && *report->hooks->stop;
}
