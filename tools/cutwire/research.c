/* research.c - finds the runner of studies, and becomes it. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "research.h"

static const char python[] = "/usr/bin/python3"; /* Debian's: the one that has Debian's python3-yaml */

void research_option_table(research_options *o, cli_option *table)
{
    *o = (research_options){.jobs = 1};
    const cli_option options[RESEARCH_OPTIONS] = {
        {"hours", "N", "stop in time: a budget, 0.5 is half an hour; what was stopped goes on later", CLI_DOUBLE,
         &o->hours},
        {"jobs", "N", "runs at a time, each on one thread (1 unless given)", CLI_INT, &o->jobs},
        {"seeds", "LIST", "these seeds in place of the study's: 1,2,3", CLI_STRING, &o->seeds},
        {"only", "WORDS", "runs that fit every word: KEY=VALUE (of a codec its name will do), a part of a label, !WORD",
         CLI_STRING, &o->only},
        {"limit", "N", "make at most so many runs; 0: all", CLI_INT, &o->limit},
        {"precision", "NAME",
         "fp32, bf16 or auto in place of the recipe's; results of one are not compared with another's", CLI_STRING,
         &o->precision},
        {"stale", NULL, "run: make the rows of an older codec anew", CLI_FLAG, &o->stale},
        {"quick", NULL, "fewer and shorter runs, in minutes, labelled so, with results of their own", CLI_FLAG,
         &o->quick},
        {"results", "DIR", "where the CSV lies (a study's of this project: research/results; a file's: beside it)",
         CLI_STRING, &o->results},
        {"runs", "DIR", "where runs keep their checkpoints; may be moved to another machine", CLI_STRING, &o->runs},
        {"commit", "NAME", "what rows record as the version of the program (asked of git unless given)", CLI_STRING,
         &o->commit},
        {"json", NULL, "the last line of standard output is one JSON object", CLI_FLAG, &o->json},
        {"quiet", NULL, "no progress, no line per run", CLI_FLAG, &o->quiet},
    };
    memcpy(table, options, sizeof options);
}

/* ---- where the runner is ---- */

enum { PATH_SIZE = 1024 };

/* The folder in which the program that is running lies, without a slash at its end. */
static bool own_folder(char *folder)
{
    ssize_t length = readlink("/proc/self/exe", folder, PATH_SIZE - 1);
    if (length <= 0)
        return false;
    folder[length] = '\0';
    *strrchr(folder, '/') = '\0';
    return true;
}

/* In a build folder the sources are one above; an installed program has them in the data folder of its prefix, wherever
 * that was moved. CUTWIRE_SOURCE_DIR is for build folders that lie elsewhere. */
static bool find_runner(char *path)
{
    static const char *const places[] = {"/../research/study.py", "/" CUTWIRE_RESEARCH_FROM_BIN "/study.py"};
    char folder[PATH_SIZE];
    if (!own_folder(folder))
        return false;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, 2 * PATH_SIZE, "%s%s", folder, places[i]);
        if (access(path, R_OK) == 0)
            return true;
    }
    snprintf(path, 2 * PATH_SIZE, "%s", CUTWIRE_SOURCE_DIR "/research/study.py");
    return access(path, R_OK) == 0;
}

/* ---- its command line ---- */

typedef struct words {
    char *at[64];
    size_t count;
    char numbers[3][32];
} words;

static void add(words *w, const char *text)
{
    w->at[w->count++] = (char *)(uintptr_t)text; /* exec takes them as they are */
}

static void add_string(words *w, const char *option, const char *value)
{
    if (!value)
        return;
    add(w, option);
    add(w, value);
}

static void add_flag(words *w, const char *option, bool set)
{
    if (set)
        add(w, option);
}

static void add_options(words *w, const research_options *o)
{
    snprintf(w->numbers[0], sizeof w->numbers[0], "%.17g", o->hours);
    snprintf(w->numbers[1], sizeof w->numbers[1], "%d", o->jobs);
    snprintf(w->numbers[2], sizeof w->numbers[2], "%d", o->limit);
    add_string(w, "--hours", w->numbers[0]);
    add_string(w, "--jobs", w->numbers[1]);
    add_string(w, "--limit", w->numbers[2]);
    add_string(w, "--seeds", o->seeds);
    add_string(w, "--only", o->only);
    add_string(w, "--precision", o->precision);
    add_string(w, "--results", o->results);
    add_string(w, "--runs", o->runs);
    add_string(w, "--commit", o->commit);
    add_flag(w, "--stale", o->stale);
    add_flag(w, "--quick", o->quick);
    add_flag(w, "--json", o->json);
    add_flag(w, "--quiet", o->quiet);
}

int research_become(const char *command, const char *study, const char *verb, const research_options *o)
{
    char runner[2 * PATH_SIZE], self[PATH_SIZE];
    if (!find_runner(runner))
        return cli_fail(CLI_FAILURE,
                        "%s: the runner of studies is neither beside this program nor at %s/research: "
                        "install cutwire whole (`make install`), or run it from its build folder",
                        command, CUTWIRE_SOURCE_DIR);
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    words w = {.count = 0};
    add(&w, python);
    add(&w, "-B"); /* leaves no compiled files among the sources */
    add(&w, runner);
    add_string(&w, "--cutwire", self);
    add_options(&w, o);
    add(&w, "--");
    add(&w, study);
    add(&w, verb);
    execv(python, w.at);
    return cli_fail(CLI_FAILURE, "%s: cannot run %s: %s: apt-get install python3 python3-yaml", command, python,
                    strerror(errno));
}
