/* cli_log.h - what a long-running command tells of itself, on standard error: as sentences, or for programs that keep
 * logs. */
#ifndef CLI_LOG_H
#define CLI_LOG_H

#include "cli.h"

typedef struct cli_log {
    const char *format_name, *level_name; /* as options give them */
    const char *role;                     /* "server" */
    cw_log_level level;                   /* the least that is told */
    bool structured, json;                /* with time and level; as JSON lines */
} cli_log;

#define CLI_LOG_DEFAULTS .format_name = "plain", .level_name = "info"

#define CLI_LOG_OPTIONS(log)                                                                                           \
    {"log-format", "NAME", "plain (sentences), text (with time, level, client, address, key) or json (lines) [plain]", \
     CLI_STRING, &(log)->format_name},                                                                                 \
    {                                                                                                                  \
        "log-level", "NAME", "the least that is told: debug (every step), info, warn, error [info]", CLI_STRING,       \
            &(log)->level_name                                                                                         \
    }

/* Takes the options' values. CLI_GO_ON, or CLI_USAGE after a message. */
int cli_log_open(cli_log *log, const char *role);

/* Tells an event, unless it is below the level. Of a plain log steps and epochs are the caller's. `prefix` comes before
 * plain sentences. */
void cli_log_event(const cli_log *log, const char *prefix, const cw_event *event);

/* A line of the command's own. */
void cli_log_say(const cli_log *log, cw_log_level level, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* A failure that ends the command: in a structured log a line, too, before the message that cli_fail gives. */
void cli_log_failure(const cli_log *log, cw_status status, const cw_error *err);

#endif
