/* live_state.h - what a live page shows: a copy of what events have said. */
#ifndef CLI_LIVE_STATE_H
#define CLI_LIVE_STATE_H

#include <pthread.h>

#include "live.h"

enum { LIVE_CURVE = 600, LIVE_RATES = 180, LIVE_LOG = 60 };

/* The training loss over the run, thinned to the room that there is. */
typedef struct live_curve {
    double x[LIVE_CURVE], y[LIVE_CURVE];
    size_t count, every, skipped; /* each every-th step is kept */
} live_curve;

/* Two totals, sampled once a second. */
typedef struct live_rates {
    double clock[LIVE_RATES], a[LIVE_RATES], b[LIVE_RATES]; /* a second, of the second before */
    size_t first, count;
    double last_clock, last_a, last_b;
} live_rates;

typedef struct live_note {
    char time[32], text[400];
    cw_log_level level;
} live_note;

typedef struct live_state {
    pthread_mutex_t mutex; /* of all that follows */
    char role[16], name[512];
    const char *phase; /* "waiting", "training", "evaluating", "answering", "finished", "failed" */
    json_t *about, *epochs;
    double began;
    uint64_t version; /* grows with what is shown */
    int epoch, epoch_count;
    size_t step, steps;
    double loss;
    bool has_loss, has_server, has_answerer;
    cw_epoch_report last; /* with epochs in it */
    cw_server_status server;
    cw_client_status *clients;
    cw_answerer_stats answerer;
    live_curve losses;
    live_rates rates; /* bytes up and down, or requests and samples */
    live_note notes[LIVE_LOG];
    size_t first_note, note_count;
} live_state;

double live_clock(void); /* seconds, monotonic */

void live_state_open(live_state *s, const char *role, const char *name, json_t *about);
void live_state_close(live_state *s);
void live_state_take(live_state *s, const cw_event *event);
void live_state_end(live_state *s, bool good);

/* The caller frees the text; NULL: out of memory. */
char *live_state_json(live_state *s);
/* The exposition format 0.0.4. */
char *live_state_metrics(live_state *s);

#endif
