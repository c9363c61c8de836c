/* train_output.h - how the training commands show a run: progress, a line per epoch, a final summary. */
#ifndef CLI_TRAIN_OUTPUT_H
#define CLI_TRAIN_OUTPUT_H

#include "cli_config.h"
#include "cli_log.h"
#include "live.h"

/* How a command that trains tells of it, by its options. */
typedef struct train_telling {
    bool json, quiet;
    const char *config_file;
    cli_log log;
    live_options http;
} train_telling;

#define TRAIN_TELLING                                                                                                  \
    {                                                                                                                  \
        .log = { CLI_LOG_DEFAULTS }                                                                                    \
    }
#define TRAIN_TELLING_OPTIONS(t)                                                                                       \
    CLI_CONFIG_OPTION(&(t)->config_file), CLI_LOG_OPTIONS(&(t)->log), LIVE_OPTIONS(&(t)->http),                        \
        {"json", NULL, "print the result as one JSON object", CLI_FLAG, &(t)->json},                                   \
    {                                                                                                                  \
        "quiet", NULL, "no progress, no line per epoch", CLI_FLAG, &(t)->quiet                                         \
    }

typedef struct train_output {
    cli_progress progress;
    bool json, quiet;
    const char *prefix; /* before every line: "" or "client: " */
    const cli_log *log;
    live_page *page;
} train_output;

/* Hooks that print to standard error, and show the page that is asked for; `out` must outlive the run, `how` (after
 * cli_log_open) likewise. `config`: NULL where there is no page. CLI_GO_ON, or the exit code after a message. Followed
 * by train_output_failure or train_output_finish. */
int train_output_open(train_output *out, const train_telling *how, const char *prefix, const cw_config *config,
                      cw_hooks *hooks);
/* What a run's failure is told as. The exit code. */
int train_output_failure(train_output *out, cw_status status, const cw_error *err);

/* The summary: for people on standard output, or with --json the JSON line. Returns the exit code. */
int train_output_finish(train_output *out, const cw_config *config, const char *mode, const cw_result *result);

#define TRAIN_PRESET_OPTION(value)                                                                                     \
    {                                                                                                                  \
        "preset", "NAME", "a whole recipe by name; flags given beside it win (--preset list shows all)", CLI_STRING,   \
            value                                                                                                      \
    }

/* cli_parse for a command that trains. *preset is where TRAIN_PRESET_OPTION puts its value. With --preset or --resume
 * the preset's or the run's own configuration holds but for what the command line says, before it or behind it; the
 * run's folder is runs/DATE-TIME-MODEL-NAME-PID, or the resumed one, unless the user named one. */
int train_parse(const cli_command *command, const char **preset, int argc, char **argv);

/* With --resume: *local becomes whether that run was unsplit. A command line that wants something else is refused
 * before anything in the run's folder is written. */
int train_take_mode(const cli_command *command, bool split_asked, bool *local);

#endif
