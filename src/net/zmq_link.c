/* zmq_link.c - links that survive their TCP connections: who tells whom what has arrived, and what is sent again.
 *
 * A client says RESUME first on each connection. A server that knows the link answers RESUMED, and both send again what
 * the other does not have; one that does not know it answers FRESH. */
#include <errno.h>
#include <string.h>

#include "net/zmq_impl.h"

/* Seconds between two looks of a server at all its links. */
static const double look_seconds = 0.25;

/* For so long a client whose connection broke may take to connect again (RECONNECT_MAX_MS, and its handshake). */
static const double return_seconds = 2.5;

/* What a client keeps for a server that has said nothing of links yet. */
enum { KEPT_FOR_STRANGERS = 1 << 20 };

static int send_control(zmq_transport *z, const cwi_peer *peer, const cwi_control *control)
{
    uint8_t chunk[CWI_CONTROL_SIZE];
    cwi_control_write(chunk, control);
    const int failed = cwi_zmq_push(z, peer->id, chunk, sizeof chunk);
    if (!failed)
        z->base.stats.extra_sent += cwi_zmq_message_bytes(z, sizeof chunk);
    return failed;
}

void cwi_zmq_count_as_extra(zmq_transport *z, size_t size)
{
    const uint64_t bytes = cwi_zmq_message_bytes(z, size);
    z->base.stats.bytes_received -= bytes;
    z->base.stats.extra_received += bytes;
}

/* What has come of a frame that will be sent again. */
static void give_up_begun(zmq_transport *z, cwi_peer *peer)
{
    const uint64_t bytes = peer->in.have ? cwi_zmq_frame_bytes(z, peer->in.have) : 0;
    z->base.stats.bytes_received -= bytes;
    z->base.stats.extra_received += bytes;
    if (z->base.is_server)
        cwi_peer_give_up_frame(z->peers, peer);
    else
        cwi_assembly_reset(&peer->in);
    peer->link.have = 0;
}

void cwi_zmq_broke(cwi_peer *peer)
{
    if (peer->link.broken)
        return;
    peer->link.broken = true;
    peer->link.since = cwi_seconds();
}

/* What has not arrived, from the first on; only frames before `end` where that is not 0. */
static void send_again(zmq_transport *z, cwi_peer *peer, uint32_t end)
{
    for (const cwi_kept_frame *f = peer->link.first; f && f->number != end; f = f->next) {
        cwi_outgoing o = {.id = peer->id, .bytes = f->bytes, .size = f->size, .number = f->number};
        const bool waits = z->base.is_server && cwi_backlog_find(&z->backlog, peer->name);
        const int failed = waits ? EAGAIN : cwi_zmq_push_frame(z, &o);
        if (failed == EAGAIN && z->base.is_server)
            (void)cwi_backlog_add(&z->backlog, peer, o.number, o.bytes, o.size, o.done, NULL);
        else if (failed)
            return; /* the next connection will bring it */
        z->base.stats.extra_sent += cwi_zmq_frame_bytes(z, f->size);
    }
}

/* ---- keeping ---- */

cw_status cwi_zmq_keep(zmq_transport *z, cwi_peer *peer, const void *bytes, size_t size, cw_error *err)
{
    cwi_link *l = &peer->link;
    const bool stranger = !l->joined;
    if (stranger && (z->base.is_server || z->strange))
        return CW_OK;
    const uint64_t limit = stranger ? KEPT_FOR_STRANGERS : z->base.queue_limit;
    if (l->first && l->kept + size > limit && l->broken && !stranger) {
        const uint64_t waiting = l->kept + size;
        if (z->base.is_server)
            cwi_peer_drop(z->peers, peer);
        return cwi_fail_overflow(&z->base, waiting, err);
    }
    z->strange |= stranger && l->kept + size > limit;
    while (l->first && l->kept + size > limit)
        cwi_link_forget_first(l);
    return cwi_link_keep(l, peer->frames_out, bytes, size, err);
}

static void acknowledge_now(zmq_transport *z, cwi_peer *peer)
{
    const cwi_control ack = cwi_link_ack(&peer->link, z->id);
    if (send_control(z, peer, &ack) == EHOSTUNREACH)
        cwi_zmq_broke(peer);
}

static void acknowledge(zmq_transport *z, cwi_peer *peer)
{
    if (cwi_link_ack_due(&peer->link, cwi_seconds()))
        acknowledge_now(z, peer);
}

/* ---- a client's ---- */

static void send_resume(zmq_transport *z)
{
    cwi_peer *server = &z->server;
    const cwi_control resume = {
        .kind = CWI_CONTROL_RESUME, .server = z->id, .expected = cwi_link_expected(&server->link)};
    give_up_begun(z, server);
    z->resumed_before = cwi_number_after(server->frames_out);
    (void)send_control(z, server, &resume);
}

void cwi_zmq_begin_link(zmq_transport *z)
{
    send_resume(z);
}

void cwi_zmq_watch_link(zmq_transport *z)
{
    cwi_link *l = &z->server.link;
    const bool first = z->connected == 0 && z->monitor.connected == 1; /* its RESUME was sent beforehand */
    if (z->monitor.connected && (!z->monitor.up || (z->connected && z->connected != z->monitor.connected)))
        cwi_zmq_broke(&z->server);
    if (z->connected != z->monitor.connected && z->monitor.up) {
        if (!first)
            send_resume(z);
        if (!l->joined)
            l->broken = false;
        z->connected = z->monitor.connected;
    }
    acknowledge(z, &z->server);
}

/* The server has begun anew: nothing of before counts. */
static void begin_anew(zmq_transport *z, uint64_t id)
{
    cwi_link *l = &z->server.link;
    cwi_link_clear(l);
    cwi_assembly_reset(&z->server.in);
    l->joined = true;
    z->server.frames_out = 0;
    z->id = id;
    z->generation++;
}

bool cwi_zmq_close_link(zmq_transport *z)
{
    const cwi_control close = {.kind = CWI_CONTROL_CLOSE, .server = z->id};
    cwi_monitor_look(&z->monitor);
    return z->monitor.up && send_control(z, &z->server, &close) == 0;
}

/* A server that answers with frames alone knows no control chunks. */
bool cwi_zmq_awaits_closed(const zmq_transport *z)
{
    const bool stranger = !z->server.link.joined && z->base.stats.frames_received;
    return z->server.frames_out && !z->server.dropped && !z->closed && !stranger;
}

/* What was sent is not kept any more: the server is asked to begin anew. */
static void give_up_link(zmq_transport *z)
{
    z->server.link.taken = CWI_CHUNK_FIRST - 2; /* expects what no server has */
    send_resume(z);
}

static void on_answer(zmq_transport *z, const cwi_control *c)
{
    cwi_peer *server = &z->server;
    cwi_link *l = &server->link;
    const bool was_joined = l->joined;
    if (c->kind == CWI_CONTROL_FRESH && was_joined) {
        begin_anew(z, c->server);
        return;
    }
    l->joined = true;
    z->strange = false;
    z->id = c->server;
    const bool kept = cwi_link_release(l, c->expected, c->have, cwi_number_after(server->frames_out));
    const bool on_its_way = !was_joined && c->expected == z->resumed_before; /* sent behind the RESUME */
    if (!kept && !on_its_way) {
        give_up_link(z);
        return;
    }
    z->base.stats.resumed += was_joined && l->broken;
    l->broken = false;
    if (kept)
        send_again(z, server, was_joined ? 0 : z->resumed_before);
}

static void on_server_control(zmq_transport *z, const cwi_control *c)
{
    cwi_peer *server = &z->server;
    switch (c->kind) {
    case CWI_CONTROL_RESUMED:
    case CWI_CONTROL_FRESH:
        on_answer(z, c);
        break;
    case CWI_CONTROL_ACK:
        if (server->link.joined && c->server == z->id)
            (void)cwi_link_release(&server->link, c->expected, c->have, cwi_number_after(server->frames_out));
        break;
    case CWI_CONTROL_RESET:
        send_resume(z);
        break;
    case CWI_CONTROL_CLOSE:
        if (server->link.joined && c->server == z->id)
            acknowledge_now(z, server);
        break;
    case CWI_CONTROL_CLOSED:
        z->closed = true;
        break;
    default:
        break;
    }
}

/* ---- a server's ---- */

static void answer(zmq_transport *z, cwi_peer *peer, cwi_control_kind kind)
{
    const cwi_control answer = {.kind = kind, .server = z->id, .expected = cwi_link_expected(&peer->link)};
    (void)send_control(z, peer, &answer);
}

static void on_resume(zmq_transport *z, cwi_peer *peer, const cwi_control *c)
{
    cwi_link *l = &peer->link;
    const bool ours = c->server == z->id || c->server == 0, heard = l->taken || peer->frames_out;
    const bool known =
        !peer->dropped && l->joined && ours && cwi_link_release(l, c->expected, 0, cwi_number_after(peer->frames_out));
    const bool joins = !peer->dropped && !l->joined && c->server == 0;
    cwi_backlog_forget(&z->backlog, peer->name);
    give_up_begun(z, peer);
    if (!known && !joins)
        cwi_peer_renew(z->peers, peer);
    z->base.stats.resumed += known && heard;
    peer->about.resumed += known && heard;
    l->joined = true;
    l->broken = l->asked = false;
    answer(z, peer, known || (joins && heard) ? CWI_CONTROL_RESUMED : CWI_CONTROL_FRESH);
    if (known)
        send_again(z, peer, 0);
}

void cwi_zmq_reset_dropped(zmq_transport *z, cwi_peer *peer)
{
    const cwi_control reset = {.kind = CWI_CONTROL_RESET, .server = z->id};
    if (peer->reset_due)
        (void)send_control(z, peer, &reset);
    peer->reset_due = false;
}

static void on_client_control(zmq_transport *z, cwi_peer *peer, const cwi_control *c)
{
    if (c->kind == CWI_CONTROL_RESUME)
        on_resume(z, peer, c);
    else if (c->kind == CWI_CONTROL_CLOSE) {
        answer(z, peer, CWI_CONTROL_CLOSED);
        cwi_peer_drop(z->peers, peer);
    } else if (c->kind == CWI_CONTROL_ACK && peer->link.joined && !peer->dropped && c->server == z->id)
        (void)cwi_link_release(&peer->link, c->expected, c->have, cwi_number_after(peer->frames_out));
}

bool cwi_zmq_take_control(zmq_transport *z, cwi_peer *peer, const uint8_t *chunk, size_t size)
{
    cwi_control control;
    if (!cwi_control_read(chunk, size, &control))
        return false;
    cwi_zmq_count_as_extra(z, size);
    if (z->base.is_server)
        on_client_control(z, peer, &control);
    else
        on_server_control(z, &control);
    return true;
}

/* An acknowledgement finds out whether the peer can be reached: after a connection has ended, all get one. */
static void look_at(zmq_transport *z, cwi_peer *peer, bool all)
{
    if (!peer->link.joined || peer->dropped || peer->link.broken)
        return;
    if (all && peer->link.owed_since == 0)
        peer->link.owed_since = -1;
    acknowledge(z, peer);
}

void cwi_zmq_watch_links(zmq_transport *z)
{
    const double now = cwi_seconds();
    if (now - z->looked < look_seconds)
        return;
    size_t slot = 0;
    for (cwi_peer *peer; (peer = cwi_peer_next(z->peers, &slot));)
        look_at(z, peer, z->ended != z->ended_before);
    z->ended_before = z->ended; /* seen a look ago: the socket knows it by now */
    z->ended = cwi_gate_ended(z->gate);
    z->looked = now;
}

/* Behind all that was sent. */
static void ask_what_arrived(zmq_transport *z, cwi_peer *peer)
{
    const cwi_control close = {.kind = CWI_CONTROL_CLOSE, .server = z->id};
    if (peer->link.asked || peer->link.broken || cwi_backlog_find(&z->backlog, peer->name))
        return;
    const int failed = send_control(z, peer, &close);
    peer->link.asked = !failed;
    if (failed == EHOSTUNREACH)
        cwi_zmq_broke(peer);
}

bool cwi_zmq_awaits_acks(zmq_transport *z)
{
    const double now = cwi_seconds();
    size_t slot = 0;
    bool any = false;
    for (cwi_peer *peer; (peer = cwi_peer_next(z->peers, &slot));) {
        if (!peer->link.joined || peer->dropped || !peer->link.first)
            continue;
        ask_what_arrived(z, peer);
        any |= !peer->link.broken || now - peer->link.since < return_seconds;
    }
    return any;
}

/* ---- for the session ---- */

bool cwi_zmq_link_state(cw_transport *t, cw_peer name, cwi_link_state *out)
{
    zmq_transport *z = (zmq_transport *)(void *)t;
    const cwi_peer *peer = t->is_server ? cwi_peer_find(z->peers, name) : &z->server;
    if (!peer || peer->dropped)
        return false;
    *out = (cwi_link_state){.keeps = peer->link.joined,
                            .broken = peer->link.broken,
                            .since = peer->link.since,
                            .moved = cwi_link_moved(&peer->link),
                            .generation = z->generation};
    return true;
}
