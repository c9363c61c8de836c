/* live.h - a run to look at while it goes on: --http. A page for people, /metrics for Prometheus, /api as JSON.
 *
 * Events come in the thread of the run and leave a copy of what they say; requests are answered by threads of their
 * own, from that copy. Nothing that a request says changes anything. */
#ifndef CLI_LIVE_H
#define CLI_LIVE_H

#include "cli_log.h"

typedef struct live_options {
    const char *address;    /* HOST:PORT; NULL: no page */
    const char *token_file; /* file with the token that requests must show; NULL: none, and loopback alone */
} live_options;

#define LIVE_OPTIONS(o)                                                                                                \
    {"http", "HOST:PORT", "show a live page, /metrics and /api there: 127.0.0.1:8080", CLI_STRING, &(o)->address},     \
    {                                                                                                                  \
        "http-token", "FILE", "ask for the token in this file, and let --http be seen from other machines",            \
            CLI_STRING, &(o)->token_file                                                                               \
    }

typedef struct live_page live_page;

/* Begins to answer, and logs where; *out is NULL where no address is given. `about` tells what the run is, as "config"
 * of its page: its reference is taken, NULL allowed. CLI_GO_ON, or the exit code after a message. */
int live_start(live_page **out, const live_options *options, const cli_log *log, const char *name, json_t *about);
/* NULL allowed, and then nothing is done. */
void live_event(live_page *page, const cw_event *event);
/* Shows how it has ended to those who look, and ends. NULL and pointer to NULL allowed. */
void live_stop(live_page **page, bool good);

#endif
