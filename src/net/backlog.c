/* backlog.c - see backlog.h. */
#include <math.h>
#include <string.h>

#include "net/backlog.h"

cwi_waiting *cwi_backlog_find(const cwi_backlog *b, cw_peer name)
{
    for (cwi_waiting *w = b->peers; w; w = w->next)
        if (w->name == name)
            return w;
    return NULL;
}

static cwi_waiting *find_or_add(cwi_backlog *b, const cwi_peer *peer)
{
    cwi_waiting *w = cwi_backlog_find(b, peer->name);
    if (w || !(w = cwi_calloc(1, sizeof *w)))
        return w;
    w->name = peer->name;
    w->give_up = (double)INFINITY;
    memcpy(w->id, peer->id, sizeof w->id);
    w->next = b->peers;
    b->peers = w;
    return w;
}

cw_status cwi_backlog_add(cwi_backlog *b, const cwi_peer *peer, uint32_t number, const void *bytes, size_t size,
                          size_t done, cw_error *err)
{
    size_t total;
    cwi_waiting_frame *f = cwi_add_size(size, sizeof *f, &total) ? cwi_alloc(total, 1) : NULL;
    cwi_waiting *w = f ? find_or_add(b, peer) : NULL;
    if (!w) {
        cwi_free(f);
        return cwi_fail_memory(err, size);
    }
    f->next = NULL;
    f->size = size;
    f->done = done;
    f->number = number;
    if (size)
        memcpy(f->bytes, bytes, size);
    if (w->last)
        w->last->next = f;
    else
        w->first = f;
    w->last = f;
    w->bytes += size + CWI_BACKLOG_OVERHEAD;
    return CW_OK;
}

static void pop_frame(cwi_waiting *w)
{
    cwi_waiting_frame *f = w->first;
    w->bytes -= f->size + CWI_BACKLOG_OVERHEAD;
    w->first = f->next;
    if (!w->first)
        w->last = NULL;
    cwi_free(f);
}

static void free_waiting(cwi_waiting *w)
{
    while (w->first)
        pop_frame(w);
    cwi_free(w);
}

/* Whether there is more for this peer, later. */
static bool flush_peer(cwi_waiting *w, cwi_backlog_send send, void *ctx)
{
    bool gone = cwi_seconds() > w->give_up;
    while (!gone && w->first && send(ctx, w->id, w->first, &gone))
        pop_frame(w);
    return !gone && w->first;
}

void cwi_backlog_flush(cwi_backlog *b, cwi_backlog_send send, void *ctx)
{
    for (cwi_waiting **at = &b->peers; *at;) {
        cwi_waiting *w = *at;
        if (flush_peer(w, send, ctx)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        free_waiting(w);
    }
}

void cwi_backlog_forget(cwi_backlog *b, cw_peer name)
{
    for (cwi_waiting **at = &b->peers; *at; at = &(*at)->next) {
        cwi_waiting *w = *at;
        if (w->name != name)
            continue;
        *at = w->next;
        free_waiting(w);
        return;
    }
}

void cwi_backlog_free(cwi_backlog *b)
{
    for (cwi_waiting *w; (w = b->peers);) {
        b->peers = w->next;
        free_waiting(w);
    }
}
