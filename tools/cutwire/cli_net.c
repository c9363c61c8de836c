/* cli_net.c - see cli_net.h. */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "cli_net.h"

/* ---- options ---- */

/* "64M" in bytes; 0: nonsense, or out of range. */
static uint32_t bytes_of(const char *text)
{
    static const char units[] = "KMG";
    char *end;
    double value = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (end == text || (*end && (!unit || end[1])) || !(value > 0))
        return 0;
    for (const char *u = units; unit && u <= unit; u++)
        value *= 1024;
    return value >= 1024 && value <= (double)(1u << 30) ? (uint32_t)value : 0;
}

/* 0 as an option means never, and in cw_net_options the default. */
static int milliseconds(double seconds)
{
    return seconds > 0 ? (int)ceil(seconds * 1e3) : -1;
}

int cli_net_open(const cli_net *net, const char *command, bool plaintext, const cli_keyring *keys, bool server,
                 cw_net_options *options)
{
    *options = (cw_net_options){.allow_plaintext = plaintext,
                                .secret_key = keys->own,
                                .server_key = server ? NULL : keys->others,
                                .client_keys = server ? keys->others : NULL,
                                .client_key_count = server ? keys->other_count : 0};
    if (!(net->heartbeat >= 0 && net->heartbeat <= 3600))
        return cli_fail(CLI_USAGE, "%s: --heartbeat: %g is not from 0 to 3600", command, net->heartbeat);
    if (!(net->send_timeout >= 0 && net->send_timeout <= 1e6))
        return cli_fail(CLI_USAGE, "%s: --send-timeout: %g is not from 0 to 1e6", command, net->send_timeout);
    if (net->connections < 0 || net->connections > 1000000)
        return cli_fail(CLI_USAGE, "%s: --connections: %d is not from 0 to 1000000", command, net->connections);
    options->heartbeat_ms = milliseconds(net->heartbeat);
    options->send_timeout_ms = milliseconds(net->send_timeout);
    options->connections = (size_t)net->connections;
    options->max_frame = net->max_frame ? bytes_of(net->max_frame) : 0;
    if (net->max_frame && !options->max_frame)
        return cli_fail(CLI_USAGE, "%s: --max-frame: '%.40s' is not from 1K to 1G", command, net->max_frame);
    return CLI_GO_ON;
}

/* A connection is an open file: asks for as many as there are clients, and some, where the system's own limit allows.
 * A thread serves 1024 connections well. */
void cli_net_make_room(cw_net_options *options, int clients)
{
    struct rlimit limit;
    const rlim_t wanted = 2 * (rlim_t)clients + 512;
    options->io_threads = 1 + (clients - 1) / 1024;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- keys that change ---- */

static volatile sig_atomic_t asked, over;
static pthread_t thread;
static bool started;

static struct renewal {
    cw_transport *transport;
    const char *path;
    const cli_log *log;
} renewal;

static void on_hangup(int number)
{
    (void)number;
    asked = 1;
}

static void read_again(void)
{
    cw_key *keys = NULL;
    size_t count = 0;
    cw_error err = {0};
    cw_status status = cw_net_read_keys_of(renewal.path, CW_KEY_PUBLIC, &keys, &count, &err);
    if (status == CW_OK)
        status = cw_transport_set_client_keys(renewal.transport, keys, count, &err);
    cw_net_free_keys(keys, count);
    if (status == CW_OK)
        cli_log_say(renewal.log, CW_LOG_INFO, "keys", "read %s again: %zu key%s let in from now on", renewal.path,
                    count, count == 1 ? " of clients is" : "s of clients are");
    else
        cli_log_say(renewal.log, CW_LOG_WARN, "keys", "the list of keys stays as it was: %s", err.message);
}

static void *watch_keys(void *unused)
{
    const struct timespec nap = {.tv_nsec = 100000000};
    for (; !over; nanosleep(&nap, NULL))
        if (asked) {
            asked = 0;
            read_again();
        }
    return unused;
}

void cli_net_renew_keys(cw_transport *transport, const char *path, const cli_log *log)
{
    struct sigaction action;
    if (!path)
        return;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_hangup;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGHUP, &action, NULL);
    renewal = (struct renewal){transport, path, log};
    over = 0;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the thread that serves */
    started = pthread_create(&thread, NULL, watch_keys, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!started)
        cli_log_say(log, CW_LOG_WARN, "keys", "no thread can be started: the list of keys stays as it is");
}

void cli_net_keep_keys(void)
{
    over = 1;
    if (started)
        pthread_join(thread, NULL);
    started = false;
}
