/* train_output.h - how the training commands show a run: progress, a line per epoch, a final summary. */
#ifndef CLI_TRAIN_OUTPUT_H
#define CLI_TRAIN_OUTPUT_H

#include "cli.h"

typedef struct train_output {
    cli_progress progress;
    bool json, quiet;
    const char *prefix; /* before every line: "" or "client: " */
} train_output;

/* Hooks that print to standard error; `out` must outlive the run. */
cw_hooks train_output_hooks(train_output *out, bool json, bool quiet, const char *prefix);

/* The summary: for people on standard output, or with --json the JSON line. Returns the exit code. */
int train_output_finish(train_output *out, const cw_config *config, const char *mode, const cw_result *result);

/* runs/DATE-TIME-MODEL-MODE-PID as the run's folder, unless the user named one. */
void train_output_default_folder(cw_config *config, const char *mode);

#endif
