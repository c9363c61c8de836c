/* server_status.c - what a server that trains tells of itself: the watch's times, the session's members, the
 * transport's bytes. */
#include <stdio.h>
#include <string.h>

#include "modes/mode.h"

static cw_client_state state_of(cwi_member_state state)
{
    switch (state) {
    case CWI_MEMBER_JOINING:
        return CW_CLIENT_JOINING;
    case CWI_MEMBER_READY:
        return CW_CLIENT_READY;
    case CWI_MEMBER_ACTIVE:
        return CW_CLIENT_ACTIVE;
    default:
        return CW_CLIENT_VACANT;
    }
}

/* Bytes of a place's earlier clients stay counted. */
static void count_bytes(cw_client_status *c, cwi_watch_bytes *b, const cwi_peer_about *about)
{
    if (about->received < b->received || about->sent < b->sent) { /* another one's */
        b->past_received += b->received;
        b->past_sent += b->sent;
        b->past_resumed += b->resumed;
    }
    b->received = about->received;
    b->sent = about->sent;
    b->resumed = about->resumed;
    c->resumed = b->past_resumed + b->resumed;
    c->uplink_bytes = b->past_received + b->received;
    c->downlink_bytes = b->past_sent + b->sent;
}

static void fill_client(cw_server *s, size_t i)
{
    const cwi_member *m = &s->session.members[i];
    cw_client_status *c = &s->watch.clients[i];
    cwi_peer_about about;
    c->state = state_of(m->state);
    c->owes_for = m->state == CWI_MEMBER_ACTIVE && s->mode->work->owes(s->state, i)
                      ? CWI_MAX(cwi_session_owes_for(&s->session, i), 0)
                      : 0;
    c->origin.client = (int)i;
    if (m->state == CWI_MEMBER_VACANT || !cwi_transport_about(s->session.box.transport, m->peer, &about))
        return;
    snprintf(c->origin.address, sizeof c->origin.address, "%s", about.address);
    snprintf(c->origin.key, sizeof c->origin.key, "%.*s", CWI_FINGERPRINT, about.key);
    count_bytes(c, &s->watch.bytes[i], &about);
}

const cw_server_status *cwi_server_status(cw_server *s, const cw_epoch_report *totals)
{
    for (size_t i = 0; i < s->watch.count; i++)
        fill_client(s, i);
    s->watch.status.up = totals->up;
    s->watch.status.down = totals->down;
    s->watch.status.refused = s->session.refused;
    return &s->watch.status;
}
