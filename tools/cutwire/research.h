/* research.h - the runner of studies, a program in Python that is installed beside the command (research/study.py). */
#ifndef CLI_RESEARCH_H
#define CLI_RESEARCH_H

#include "cli.h"

/* What the command line says of a study's runs. Strings are NULL unless given. */
typedef struct research_options {
    double hours; /* 0: no budget */
    int jobs, limit;
    const char *seeds, *only, *precision, *results, *runs, *commit;
    bool stale, quick, json, quiet;
} research_options;

enum { RESEARCH_OPTIONS = 13 };
/* Sets the defaults, and fills table[0..RESEARCH_OPTIONS). */
void research_option_table(research_options *o, cli_option *table);

/* Becomes the runner: does `verb` (list, run, show, or repro: run and show) with a study, its name or its file. Returns
 * only when that cannot be, with the exit code, after saying why as `command`. */
int research_become(const char *command, const char *study, const char *verb, const research_options *o);

#endif
