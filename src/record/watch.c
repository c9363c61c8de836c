/* watch.c - see watch.h. */
#include <string.h>

#include "record/watch.h"

cw_status cwi_watch_open(cwi_watch *w, size_t clients, cw_error *err)
{
    *w = (cwi_watch){.count = clients};
    w->clients = cwi_calloc(clients, sizeof *w->clients);
    w->bytes = cwi_calloc(clients, sizeof *w->bytes);
    w->worked = cwi_calloc(clients, sizeof *w->worked);
    w->status.client_seconds = -1;
    w->status.clients = w->clients;
    w->status.count = clients;
    return w->clients && w->bytes && w->worked ? CW_OK : cwi_fail_memory(err, clients * sizeof *w->clients);
}

void cwi_watch_close(cwi_watch *w)
{
    cwi_free(w->clients);
    cwi_free(w->bytes);
    cwi_free(w->worked);
    memset(w, 0, sizeof *w);
}

/* What it has worked so far, into `busy`. */
static void settle(cwi_watch *w)
{
    const double now = cwi_seconds();
    if (w->work_began) {
        w->busy += now - w->work_began;
        w->work_began = now;
    }
}

void cwi_watch_begin_step(cwi_watch *w)
{
    settle(w);
    w->step_began = cwi_seconds();
    w->busy = 0;
    w->first_waited = -1;
}

/* Whoever works longest is waited for; more than the wait nobody can claim. */
static void count_clients(cwi_watch *w, double waited)
{
    double longest = 0;
    for (size_t i = 0; i < w->count; i++) {
        longest = CWI_MAX(longest, w->worked[i]);
        w->worked[i] = 0;
    }
    w->status.client_seconds = CWI_MAX(w->status.client_seconds, 0) + CWI_MIN(longest, CWI_MAX(waited, 0));
}

void cwi_watch_end_step(cwi_watch *w)
{
    if (!w->step_began)
        return;
    settle(w);
    w->status.steps++;
    const double took = cwi_seconds() - w->step_began;
    w->status.step_seconds += took;
    w->status.server_seconds += w->busy;
    if (w->asks)
        count_clients(w, took - w->busy);
    w->step_began = 0;
}

void cwi_watch_work_begins(cwi_watch *w)
{
    w->work_began = cwi_seconds();
}

void cwi_watch_work_ends(cwi_watch *w)
{
    settle(w);
    w->work_began = 0;
}

void cwi_watch_joined(cwi_watch *w, size_t client, uint64_t samples)
{
    w->clients[client].samples = samples;
    w->clients[client].joined++;
}

void cwi_watch_lost(cwi_watch *w, size_t client)
{
    cw_client_status *c = &w->clients[client];
    c->lost++;
    c->lag = 0;
}

/* While the server works it waits for nobody: a batch that comes meanwhile is not late. */
void cwi_watch_batch_came(cwi_watch *w, size_t client)
{
    const double waited = cwi_seconds() - w->step_began - w->busy;
    if (w->first_waited < 0)
        w->first_waited = waited;
    w->clients[client].lag = CWI_MAX(waited - w->first_waited, 0);
}

void cwi_watch_client_worked(cwi_watch *w, size_t client, double seconds)
{
    w->worked[client] += seconds;
}

void cwi_watch_batch_taken(cwi_watch *w, size_t client, double loss)
{
    w->clients[client].steps++;
    w->clients[client].loss = loss;
}
