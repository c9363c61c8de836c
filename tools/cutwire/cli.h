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
#include <stdio.h>

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

/* Runs a command with a configuration at its defaults. Its exit code. */
int cli_with_config(int (*run)(cw_config *config, int argc, char **argv), int argc, char **argv);

/* Reads argv[1..]. Positional arguments are collected in args (room for max_args) and counted in *arg_count (NULL when
 * max_args is 0). CLI_GO_ON, or the exit code of a command that is already done (--help, a manual page, a usage error).
 * Of an option given twice the last counts; names are not abbreviated; what follows "--" is no option. */
int cli_parse(const cli_command *command, int argc, char **argv, const char **args, int *arg_count);
/* Calls `each` for every option of the command, its keys of the configuration among them, --help excepted. `preset` is
 * a key's default, or NULL. */
void cli_each_option(const cli_command *command,
                     void (*each)(void *ctx, const char *name, const char *metavar, const char *help,
                                  const char *preset),
                     void *ctx);

/* A command that is several: `cutwire codec encode`. */
typedef struct cli_sub {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} cli_sub;

typedef struct cli_group {
    const char *name;    /* "codec" */
    const char *kind;    /* what the subcommands are: "subcommand" */
    const char *summary; /* a sentence or two */
    const cli_sub *subs;
    size_t count;
    void (*more)(FILE *out); /* prints what else there is to know, or NULL */
    const char *examples;
} cli_group;

/* Finds the subcommand and runs it. The exit code. */
int cli_group_run(const cli_group *group, int argc, char **argv);

/* "cutwire: ..." on standard error, one line whatever is quoted in it; returns code. */
int cli_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The library's sentence, after `what`; exit code 1, or 2 for a bad spec. */
int cli_fail_error(const char *what, cw_status status, const cw_error *err);
/* The known word nearest to one that is unknown, or NULL when none is near. */
const char *cli_nearest(const char *word, const char *const *known, size_t count);

/* ---- standard streams ---- */

/* To be called first: gives descriptors 0 to 2 that are closed something that fails, so that no file that is opened
 * later takes their place; and a reader that goes away ends no run. */
void cli_streams_open(void);
/* To be called last: what was printed has reached its place, or a message says why not. `code`, or when that was
 * CLI_OK and it has not, CLI_FAILURE. Nothing else needs to ask whether printing works. */
int cli_streams_close(int code);

/* ---- texts from elsewhere ---- */

/* Prints text (a path, another program's words) with its control characters and what is no UTF-8 as \n, \x1b: one
 * line, that steers no terminal. */
void cli_put_clean(FILE *out, const char *text);
/* A JSON string of whatever bytes: those that are no UTF-8 become U+FFFD. */
json_t *cli_json_text(const char *text);
/* A JSON number, or null for one that is not finite. */
json_t *cli_json_number(double x);

/* ---- JSON ---- */

/* Prints the object as one line and releases it. */
int cli_print_json(json_t *object);

/* "12.3 MB" into buf; returns buf. */
char *cli_bytes(double bytes, char *buf, size_t size);
/* The end of a word behind that count: "" behind 1, else "s". */
const char *cli_plural(uint64_t count);
/* "1m23s" */
char *cli_duration(double seconds, char *buf, size_t size);

/* Catches SIGINT, SIGTERM and SIGHUP (unless that is ignored, as nohup has it): the first sets *cli_stop() for a clean
 * end, another SIGINT or SIGTERM kills. */
void cli_catch_signals(void);
/* SIGTERM then stops a server for a while: cli_stop becomes CW_STOP_AWHILE. */
void cli_term_is_awhile(void);
volatile sig_atomic_t *cli_stop(void);
/* From here on they kill, as what follows does not ask for cli_stop(). False: one has come before. */
bool cli_release_signals(void);

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
