/* cli_output.c - standard streams, JSON lines, human units, signals and progress. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

/* ---- standard streams ---- */

/* A descriptor on which writing (or of 0 reading) fails. */
static void plug(int fd)
{
    if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
        return;
    const int plugged = open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    if (plugged >= 0 && plugged != fd) {
        dup2(plugged, fd);
        close(plugged);
    }
}

static volatile sig_atomic_t pipe_broken;

/* As a handler, it is not inherited by programs that are started from here. */
static void on_broken_pipe(int number)
{
    (void)number;
    pipe_broken = 1;
}

void cli_streams_open(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        plug(fd);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_broken_pipe;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGPIPE, &action, NULL);
}

int cli_streams_close(int code)
{
    const bool failed_before = ferror(stdout) != 0;
    errno = 0;
    if (fflush(stdout) == 0 && !failed_before)
        return code;
    if (code != CLI_OK)
        return code; /* which a message has explained */
    if (pipe_broken)
        return CLI_FAILURE; /* the reader, `head` perhaps, has all that it wanted */
    return cli_fail(CLI_FAILURE, "standard output: %s: what was to be printed is lost",
                    errno ? strerror(errno) : "a part could not be written");
}

/* ---- JSON ---- */

int cli_print_json(json_t *object)
{
    char *line = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!line)
        return cli_fail(CLI_FAILURE, "--json: out of memory");
    fflush(stderr);
    puts(line);
    free(line);
    return CLI_OK;
}

char *cli_bytes(double bytes, char *buf, size_t size)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t unit = 0;
    while (bytes >= 999.5 && unit + 1 < sizeof units / sizeof units[0]) {
        bytes /= 1000;
        unit++;
    }
    snprintf(buf, size, unit && bytes < 99.95 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return buf;
}

const char *cli_plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

char *cli_duration(double seconds, char *buf, size_t size)
{
    long s = lround(seconds);
    if (seconds < 10)
        snprintf(buf, size, "%.1fs", seconds);
    else if (s < 60)
        snprintf(buf, size, "%lds", s);
    else if (s < 3600)
        snprintf(buf, size, "%ldm%02lds", s / 60, s % 60);
    else
        snprintf(buf, size, "%ldh%02ldm", s / 3600, s / 60 % 60);
    return buf;
}

/* ---- signals ---- */

static volatile sig_atomic_t stop;
static volatile sig_atomic_t on_term = 1;

/* A terminal that is closed may say SIGHUP twice, by the shell and by the kernel. */
static void on_signal(int number)
{
    if (stop && number != SIGHUP) {
        signal(number, SIG_DFL);
        raise(number);
    }
    stop = number == SIGINT ? 1 : on_term;
}

void cli_term_is_awhile(void)
{
    on_term = CW_STOP_AWHILE;
}

void cli_catch_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct sigaction before;
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &action, NULL);
}

bool cli_release_signals(void)
{
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction now_set, action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        if (sigaction(caught[i], NULL, &now_set) == 0 && now_set.sa_handler == on_signal)
            sigaction(caught[i], &action, NULL);
    return !stop;
}

volatile sig_atomic_t *cli_stop(void)
{
    return &stop;
}

/* ---- progress ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void cli_progress_start(cli_progress *p, bool quiet)
{
    memset(p, 0, sizeof *p);
    p->quiet = quiet;
    p->terminal = isatty(STDERR_FILENO) != 0;
    p->began = p->shown = now();
}

static void draw_bar(const char *label, size_t done, size_t total, const char *rest)
{
    enum { WIDTH = 24 };
    char bar[WIDTH + 1];
    size_t full = total ? done * WIDTH / total : 0;
    for (size_t i = 0; i < WIDTH; i++)
        bar[i] = i < full ? '#' : '-';
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r\033[K%s [%s] %s", label, bar, rest);
    fflush(stderr);
}

void cli_progress_show(cli_progress *p, const char *label, size_t done, size_t total, const char *unit,
                       const char *note)
{
    static const double redraw = 0.2, plain = 10.0; /* seconds between lines */
    double t = now();
    if (done <= p->last_done)
        p->began = t; /* something new began */
    p->last_done = done;
    if (p->quiet || t - p->shown < (p->terminal ? redraw : plain))
        return;
    p->shown = t;
    double rate = t > p->began ? (double)done / (t - p->began) : 0;
    char left[32] = "", rest[256];
    if (rate > 0 && total >= done)
        cli_duration((double)(total - done) / rate, left, sizeof left);
    snprintf(rest, sizeof rest, "%zu/%zu %s, %.1f/s%s%s%s%s", done, total, unit, rate, *left ? ", left " : "", left,
             *note ? ", " : "", note);
    if (p->terminal)
        draw_bar(label, done, total, rest);
    else
        fprintf(stderr, "%s: %s\n", label, rest);
    p->line_open = p->terminal;
}

void cli_progress_clear(cli_progress *p)
{
    if (p->line_open)
        fputs("\r\033[K", stderr);
    p->line_open = false;
}
