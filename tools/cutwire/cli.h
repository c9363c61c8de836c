/* cli.h - what every command shares: options from tables, --help, errors, progress, the JSON line.
 *
 * The contract (scripts rely on it): help on standard output, exit 0; errors on standard error as
 * "cutwire: what: why: what to do", exit 2 for usage and 1 for failure; with --json the last line of standard output is
 * one JSON object, and nothing else of it is. */
#ifndef CLI_H
#define CLI_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>

#include "cutwire/cutwire.h"

enum { CLI_GO_ON = -1, CLI_OK = 0, CLI_FAILURE = 1, CLI_USAGE = 2 };

typedef enum cli_type {
    CLI_FLAG,   /* bool: --name */
    CLI_STRING, /* const char *: --name VALUE or --name=VALUE */
    CLI_INT,    /* int, >= 0 */
    CLI_DOUBLE, /* double, >= 0 */
} cli_type;

typedef struct cli_option {
    const char *name;    /* without dashes */
    const char *metavar; /* NULL for a flag */
    const char *help;
    cli_type type;
    void *value; /* where it goes; holds the default */
} cli_option;

/* Which keys of the run's configuration are options of a command as well. */
typedef enum cli_keys { CLI_KEYS_NONE, CLI_KEYS_ALL, CLI_KEYS_CLIENT } cli_keys;

typedef struct cli_command {
    const char *name;     /* "codec encode" */
    const char *args;     /* "FILE" or "" : positional arguments for the usage line */
    const char *summary;  /* a sentence or two */
    const char *examples; /* lines */
    const cli_option *options;
    size_t option_count;
    int min_args, max_args; /* positional */
    cli_keys keys;
    cw_config *config; /* unless CLI_KEYS_NONE */
} cli_command;

/* Reads argv[1..]. Positional arguments are collected in args (room for max_args) and counted in *arg_count (NULL when
 * max_args is 0). CLI_GO_ON, or the exit code of a command that is already done (--help, a usage error). */
int cli_parse(const cli_command *command, int argc, char **argv, const char **args, int *arg_count);

/* "cutwire: ..." on standard error; returns code. */
int cli_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The library's sentence, after `what`; exit code 1, or 2 for a bad spec. */
int cli_fail_error(const char *what, cw_status status, const cw_error *err);
/* The known word nearest to one that is unknown, or NULL when none is near. */
const char *cli_nearest(const char *word, const char *const *known, size_t count);

/* Prints the object as one line and releases it. */
int cli_print_json(json_t *object);

/* "12.3 MB" into buf; returns buf. */
char *cli_bytes(double bytes, char *buf, size_t size);
/* "1m23s" */
char *cli_duration(double seconds, char *buf, size_t size);

/* Catches SIGINT and SIGTERM: the first sets *cli_stop() for a clean end, the second kills. */
void cli_catch_signals(void);
volatile sig_atomic_t *cli_stop(void);

/* ---- progress of long work ----
 * On a terminal one line that is redrawn (bar, rate, time left); elsewhere a plain line now and then. On standard
 * error, so that standard output stays for results. */
typedef struct cli_progress {
    bool quiet;
    bool terminal;
    double began, shown;
    size_t last_done;
    bool line_open;
} cli_progress;

void cli_progress_start(cli_progress *p, bool quiet);
/* `unit`: "steps", "files"; `note`: shown behind, may be "". */
void cli_progress_show(cli_progress *p, const char *label, size_t done, size_t total, const char *unit,
                       const char *note);
/* Removes the redrawn line, so that something else can be printed. */
void cli_progress_clear(cli_progress *p);

#endif
