/* watch.h - what a server that trains is at, and how long everybody takes. Internal.
 *
 * Only told, never asked by what trains: nothing of a run depends on it. */
#ifndef CWI_WATCH_H
#define CWI_WATCH_H

#include "base/base.h"
#include "cutwire/record.h"

/* Bytes of the client that has a place, and of those that had it before. */
typedef struct cwi_watch_bytes {
    uint64_t received, sent, past_received, past_sent;
    uint64_t resumed, past_resumed; /* and connections of theirs that were taken up again */
} cwi_watch_bytes;

typedef struct cwi_watch {
    cw_server_status status;
    cw_client_status *clients;
    cwi_watch_bytes *bytes; /* of each client */
    size_t count;
    double step_began;   /* clock; 0: no step is under way */
    bool asks;           /* clients tell how long they work */
    double *worked;      /* of each client, since the last step ended */
    double busy;         /* seconds of work within the step, but for what began at */
    double work_began;   /* clock; 0: it does not work */
    double first_waited; /* of the step's first batch: seconds that the server had waited; below 0: none is there */
} cwi_watch;

cw_status cwi_watch_open(cwi_watch *w, size_t clients, cw_error *err);
void cwi_watch_close(cwi_watch *w);

/* ---- by the mode ---- */

void cwi_watch_begin_step(cwi_watch *w);
/* The clients have what they need for the next one. */
void cwi_watch_end_step(cwi_watch *w);
/* This process works on frames, or waits. */
void cwi_watch_work_begins(cwi_watch *w);
void cwi_watch_work_ends(cwi_watch *w);
void cwi_watch_joined(cwi_watch *w, size_t client, uint64_t samples);
void cwi_watch_lost(cwi_watch *w, size_t client);
/* The client says that it has worked so long since it last said so. */
void cwi_watch_client_worked(cwi_watch *w, size_t client, double seconds);
/* A batch of the step under way has come. */
void cwi_watch_batch_came(cwi_watch *w, size_t client);
/* It was taken. */
void cwi_watch_batch_taken(cwi_watch *w, size_t client, double loss);

#endif
