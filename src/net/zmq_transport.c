/* zmq_transport.c - frames over TCP: a ZeroMQ ROUTER at the server, a DEALER at each client.
 *
 * ZeroMQ does connecting, reconnecting, queues and heartbeats in a thread of its own; frames travel as the chunks of
 * chunk.h, each one ZeroMQ message. A server hears only routing ids with our mark: when a client reconnects before its
 * old connection is noticed to be dead, what is left of the old one turns up under a routing id made by ZeroMQ, and is
 * thrown away. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#include "net/endpoint.h"
#include "net/zmq_context.h"
#include "net/zmq_impl.h"

enum {
    PEERS_MAX = 1 << 16,
    HANDSHAKE_MS = 10000, /* a connection that says nothing sensible for that long is closed */
    CONNECT_MS = 10000,
    RECONNECT_MS = 100, /* doubled up to */
    RECONNECT_MAX_MS = 2000,
    BACKLOG = 1024,
    HWM_EXTRA = 64, /* messages that may wait at a client besides the queue limit of transport.h */
    SERVER_HWM =
        4096,       /* at a server, for each client: 128 MiB that go out while the server works; the rest is backlog */
    CLOSE_MS = 200, /* for which a client's last word may take at least */
    LOOK_MS = 250,  /* between two looks at the clock while nothing comes */
    FLUSH_MS = 2,   /* between two tries to hand over more of the backlog */
    DROPPED_SECONDS = 10, /* for which what was sent to a peer before it was dropped may go on waiting */
};

/* One call of recv works at most that long on chunks that complete no frame. */
static const double RECV_GRACE_SECONDS = 1;

static zmq_transport *self(cw_transport *t)
{
    return (zmq_transport *)(void *)t;
}

/* ZMTP puts a flag and a length before each message: 1 byte up to 255, else 8. */
uint64_t cwi_zmq_message_bytes(const zmq_transport *z, size_t message)
{
    size_t body = message + (z->encrypted ? CWI_CURVE_OVERHEAD : 0);
    return body + (body <= 255 ? 2 : 9);
}

/* ---- send ---- */

static cw_status send_failed(cw_error *err, const zmq_transport *z, int reason)
{
    switch (reason) {
    case EAGAIN:
        return cwi_fail(err, CW_ERR_TIMEOUT, "%s: nobody took the frame for %.1f seconds", z->base.endpoint,
                        z->base.options.send_timeout_ms / 1e3);
    case EHOSTUNREACH:
        return cwi_fail(err, CW_ERR_CLOSED, "%s: this client is no longer connected", z->base.endpoint);
    case ENOMEM:
        return cwi_fail_memory(err, CWI_CHUNK_DATA);
    default:
        return cwi_fail(err, CW_ERR_IO, "%s: cannot send: %s", z->base.endpoint, zmq_strerror(reason));
    }
}

/* Interrupted sends go on: half a frame helps nobody. */
static int send_route(void *socket, const uint8_t *id)
{
    int sent;
    do
        sent = zmq_send(socket, id, CWI_ROUTING_ID_SIZE, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent;
}

/* One message of one part, without waiting. 0 or errno. */
static int push_message(zmq_transport *z, const uint8_t *id, zmq_msg_t *message)
{
    int sent = z->base.is_server ? send_route(z->socket, id) : 0;
    if (sent >= 0)
        do
            sent = zmq_msg_send(message, z->socket, ZMQ_DONTWAIT);
        while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return 0;
    const int reason = errno;
    zmq_msg_close(message);
    return reason;
}

/* The frame's next chunk. 0 or errno. */
static int send_chunk(zmq_transport *z, cwi_outgoing *o)
{
    zmq_msg_t message;
    const size_t length = CWI_MIN(o->size - o->done, (size_t)CWI_CHUNK_DATA);
    if (zmq_msg_init_size(&message, CWI_CHUNK_HEADER + length) < 0)
        return ENOMEM;
    uint8_t *data = zmq_msg_data(&message);
    cwi_chunk_header(data, o->number, !o->done, (uint32_t)(o->size - o->done));
    if (length)
        memcpy(data + CWI_CHUNK_HEADER, o->bytes + o->done, length);
    const int failed = push_message(z, o->id, &message);
    o->done += failed ? 0 : length;
    return failed;
}

int cwi_zmq_push(zmq_transport *z, const uint8_t *id, const void *bytes, size_t size)
{
    zmq_msg_t message;
    if (zmq_msg_init_size(&message, size) < 0)
        return ENOMEM;
    memcpy(zmq_msg_data(&message), bytes, size);
    return push_message(z, id, &message);
}

int cwi_zmq_push_frame(zmq_transport *z, cwi_outgoing *o)
{
    int failed;
    do
        failed = send_chunk(z, o);
    while (!failed && o->done < o->size);
    return failed;
}

uint64_t cwi_zmq_frame_bytes(const zmq_transport *z, size_t size)
{
    const size_t whole = size / CWI_CHUNK_DATA, rest = size % CWI_CHUNK_DATA;
    const uint64_t last = rest || !size ? cwi_zmq_message_bytes(z, CWI_CHUNK_HEADER + rest) : 0;
    return whole * cwi_zmq_message_bytes(z, CWI_CHUNK_HEADER + CWI_CHUNK_DATA) + last;
}

static void count_sent(zmq_transport *z, size_t size)
{
    z->base.stats.bytes_sent += cwi_zmq_frame_bytes(z, size);
    z->base.stats.frames_sent++;
}

/* ---- a client waits in its sends ---- */

/* Until ZeroMQ takes more. CW_ERR_CLOSED: it never will, since connecting has become hopeless. */
static cw_status wait_for_room(zmq_transport *z, double deadline, cw_error *err)
{
    zmq_pollitem_t items[] = {{.socket = z->socket, .events = ZMQ_POLLOUT},
                              {.socket = z->monitor.socket, .events = ZMQ_POLLIN}};
    const double left = deadline - cwi_seconds();
    if (left <= 0)
        return send_failed(err, z, EAGAIN);
    if (zmq_poll(items, 2, (long)CWI_MIN(ceil(left * 1e3), LOOK_MS)) < 0 && errno != EINTR)
        return send_failed(err, z, errno);
    return cwi_monitor_check(&z->monitor, z->base.endpoint, err);
}

/* The time-out is of the frame, not of each of its chunks. */
static cw_status send_chunks(zmq_transport *z, cwi_outgoing *o, cw_error *err)
{
    const int timeout = z->base.options.send_timeout_ms;
    const double deadline = timeout < 0 ? (double)INFINITY : cwi_seconds() + timeout / 1e3;
    for (int failed; (failed = cwi_zmq_push_frame(z, o)) != 0;) {
        if (failed != EAGAIN)
            return send_failed(err, z, failed);
        CWI_TRY(wait_for_room(z, deadline, err));
    }
    return CW_OK;
}

/* The next frame gets its number: what has arrived of this one is overwritten. */
static void take_back(zmq_transport *z)
{
    cwi_peer *server = &z->server;
    if (server->link.last && server->link.last->number == server->frames_out)
        cwi_link_forget_last(&server->link);
    server->frames_out = server->frames_out - 1;
}

/* While the connection is broken a frame is only kept. */
static cw_status send_to_server(zmq_transport *z, const void *bytes, size_t size, cw_error *err)
{
    if (z->server.dropped)
        return cwi_fail(err, CW_ERR_CLOSED, "%s: the server was dropped", z->base.endpoint);
    cwi_monitor_look(&z->monitor);
    cwi_zmq_watch_link(z);
    z->server.frames_out = cwi_number_after(z->server.frames_out);
    CWI_TRY(cwi_zmq_keep(z, &z->server, bytes, size, err));
    cwi_outgoing o = {.bytes = bytes, .size = size, .number = z->server.frames_out};
    const bool goes = !z->server.link.joined || !z->server.link.broken;
    const cw_status status = goes ? send_chunks(z, &o, err) : CW_OK;
    if (status != CW_OK) {
        take_back(z);
        return status;
    }
    count_sent(z, size);
    return CW_OK;
}

/* ---- a server never does ---- */

static bool send_waiting(void *ctx, const uint8_t *id, cwi_waiting_frame *frame, bool *gone)
{
    cwi_outgoing o = {
        .id = id, .bytes = frame->bytes, .size = frame->size, .done = frame->done, .number = frame->number};
    const int failed = cwi_zmq_push_frame(ctx, &o);
    frame->done = o.done;
    *gone = failed && failed != EAGAIN;
    return !failed;
}

static void flush_backlog(zmq_transport *z)
{
    const double now = cwi_seconds();
    if (!z->backlog.peers || now - z->flushed < FLUSH_MS / 1e3)
        return;
    cwi_backlog_flush(&z->backlog, send_waiting, z);
    z->flushed = now;
}

/* Behind what waits already, or what is left of it when ZeroMQ takes no more. */
static cw_status send_later(zmq_transport *z, cwi_peer *peer, const cwi_outgoing *o, cw_error *err)
{
    const cwi_waiting *w = cwi_backlog_find(&z->backlog, peer->name);
    const uint64_t waiting = o->size + CWI_BACKLOG_OVERHEAD + (w ? w->bytes : 0);
    if (!w || waiting <= z->base.queue_limit)
        return cwi_backlog_add(&z->backlog, peer, o->number, o->bytes, o->size, o->done, err);
    cwi_backlog_forget(&z->backlog, peer->name);
    cwi_peer_drop(z->peers, peer);
    return cwi_fail_overflow(&z->base, waiting, err);
}

static cw_status send_to_client(zmq_transport *z, cw_peer name, const void *bytes, size_t size, cw_error *err)
{
    cwi_peer *peer = cwi_peer_find(z->peers, name);
    if (!peer || peer->dropped)
        return cwi_fail(err, CW_ERR_CLOSED, "%s: peer %llu is unknown or was dropped", z->base.endpoint,
                        (unsigned long long)name);
    flush_backlog(z);
    cwi_peer_answered(z->peers, peer);
    CWI_TRY(cwi_zmq_keep(z, peer, bytes, size, err));
    cwi_outgoing o = {.id = peer->id, .bytes = bytes, .size = size, .number = peer->frames_out};
    int failed = peer->link.broken                     ? EHOSTUNREACH
                 : cwi_backlog_find(&z->backlog, name) ? EAGAIN
                                                       : cwi_zmq_push_frame(z, &o);
    if (failed == EHOSTUNREACH && peer->link.joined) { /* it goes when the client is back */
        cwi_zmq_broke(peer);
        failed = 0;
    }
    if (failed && failed != EAGAIN)
        return send_failed(err, z, failed);
    if (failed)
        CWI_TRY(send_later(z, peer, &o, err));
    count_sent(z, size);
    peer->about.sent += size;
    return CW_OK;
}

static cw_status zmq_transport_send(cw_transport *t, cw_peer name, const void *bytes, size_t size, cw_error *err)
{
    zmq_transport *z = self(t);
    return t->is_server ? send_to_client(z, name, bytes, size, err) : send_to_server(z, bytes, size, err);
}

/* ---- receive ---- */

/* One part of a message, if there is one: CW_ERR_TIMEOUT if not. The caller closes it. */
static cw_status recv_part(zmq_transport *z, zmq_msg_t *part, cw_error *err)
{
    zmq_msg_init(part);
    int got;
    do
        got = zmq_msg_recv(part, z->socket, ZMQ_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got >= 0)
        return CW_OK;
    int reason = errno;
    zmq_msg_close(part);
    if (reason == EAGAIN)
        return CW_ERR_TIMEOUT;
    return cwi_fail(err, CW_ERR_IO, "%s: cannot receive: %s", z->base.endpoint, zmq_strerror(reason));
}

/* Frames are one part; more of them is nobody of ours. */
static cw_status skip_parts(zmq_transport *z, bool more, cw_error *err)
{
    while (more) {
        zmq_msg_t part;
        CWI_TRY(recv_part(z, &part, err));
        more = zmq_msg_more(&part);
        z->base.stats.bytes_received += cwi_zmq_message_bytes(z, zmq_msg_size(&part));
        zmq_msg_close(&part);
    }
    return CW_OK;
}

/* The sender of the message that begins here; NULL when it is none of ours. */
static cw_status recv_route(zmq_transport *z, cwi_peer **peer, cw_error *err)
{
    zmq_msg_t route;
    *peer = NULL;
    CWI_TRY(recv_part(z, &route, err));
    const uint8_t *id = zmq_msg_data(&route);
    if (zmq_msg_size(&route) == CWI_ROUTING_ID_SIZE && id[0] == CWI_ROUTING_ID_MARK)
        *peer = cwi_peer_heard(z->peers, id);
    zmq_msg_close(&route);
    return CW_OK;
}

static void drop(zmq_transport *z, cwi_peer *peer)
{
    if (z->base.is_server) {
        cwi_peer_drop(z->peers, peer);
        return;
    }
    peer->dropped = true;
    cwi_assembly_reset(&peer->in);
}

/* A word that ZeroMQ knows of a message's connection. */
static void take_word(zmq_msg_t *message, const char *property, char *word, size_t size)
{
    const char *text = zmq_msg_gets(message, property);
    snprintf(word, size, "%s", text ? text : "");
}

/* Where a client's frame comes from; it may have moved. */
static void note_origin(cwi_peer *peer, zmq_msg_t *message)
{
    if (peer->in.bytes)
        return; /* within a frame */
    take_word(message, "Peer-Address", peer->about.address, sizeof peer->about.address);
    take_word(message, "User-Id", peer->about.key, sizeof peer->about.key);
}

/* What comes twice, or behind a gap, is not taken. */
static cw_status take_chunk(zmq_transport *z, cwi_peer *peer, const uint8_t *chunk, size_t size, cw_frame *out,
                            cw_error *err)
{
    const uint32_t max_frame = z->base.options.max_frame;
    const uint32_t number = size < 4 ? 0 : (uint32_t)cwi_get_le(chunk, 4) & ~CWI_CHUNK_FIRST;
    if (cwi_zmq_take_control(z, peer, chunk, size))
        return CW_END;
    if (size >= CWI_CHUNK_HEADER && !cwi_link_wants(&peer->link, number)) {
        cwi_zmq_count_as_extra(z, size);
        return CW_END;
    }
    const cw_status status = z->base.is_server ? cwi_peer_take(z->peers, peer, chunk, size, max_frame, out, err)
                                               : cwi_assembly_take(&peer->in, chunk, size, max_frame, out, err);
    const size_t have = status == CW_OK ? 0 : peer->in.have;
    if (status == CW_OK || have)
        cwi_link_took(&peer->link, number, size - CWI_CHUNK_HEADER, have);
    return status;
}

/* A sender that breaks the rules is not heard again. For a client that was the only one. */
static cw_status drop_sender(zmq_transport *z, cwi_peer *peer, cw_error *err)
{
    drop(z, peer);
    return z->base.is_server ? CW_END
                             : cwi_fail_prefix(err, CW_ERR_CLOSED, "%s: connection given up", z->base.endpoint);
}

/* One message. CW_OK: it completed a frame; CW_END: it did not; CW_ERR_TIMEOUT: there is none. */
static cw_status recv_message(zmq_transport *z, cw_frame *out, cw_error *err)
{
    cwi_peer *peer = &z->server;
    if (z->base.is_server)
        CWI_TRY(recv_route(z, &peer, err));
    zmq_msg_t part;
    CWI_TRY(recv_part(z, &part, err));
    size_t size = zmq_msg_size(&part);
    bool more = zmq_msg_more(&part);
    z->base.stats.bytes_received += cwi_zmq_message_bytes(z, size);
    cw_status status = CW_END;
    if (peer && peer->dropped && !cwi_zmq_take_control(z, peer, zmq_msg_data(&part), size))
        cwi_zmq_reset_dropped(z, peer);
    else if (peer && !peer->dropped) {
        if (z->base.is_server)
            note_origin(peer, &part);
        status = more ? cwi_fail(err, CW_ERR_PROTOCOL, "a message of several parts")
                      : take_chunk(z, peer, zmq_msg_data(&part), size, out, err);
        if (status != CW_OK && status != CW_END)
            status = drop_sender(z, peer, err);
    }
    zmq_msg_close(&part);
    CWI_TRY(skip_parts(z, more, err));
    if (status == CW_OK) {
        out->peer = peer->name;
        peer->about.received += out->size;
        z->base.stats.frames_received++;
    }
    return status;
}

/* What is to be done beside frames. CW_ERR_CLOSED: a client learns that connecting is hopeless. */
static cw_status look_around(zmq_transport *z, cw_error *err)
{
    if (z->base.is_server) {
        cwi_zmq_watch_links(z);
        return CW_OK;
    }
    CWI_TRY(cwi_monitor_check(&z->monitor, z->base.endpoint, err));
    cwi_zmq_watch_link(z);
    return CW_OK;
}

/* Until a message is there, connecting has become hopeless, there is backlog to try again, or `seconds` (infinite: for
 * ever) have passed. */
static cw_status wait_for_message(zmq_transport *z, double seconds, cw_error *err)
{
    zmq_pollitem_t items[] = {{.socket = z->socket, .events = ZMQ_POLLIN},
                              {.socket = z->monitor.socket, .events = ZMQ_POLLIN}};
    long ms = isinf(seconds) ? -1 : (long)CWI_MIN(ceil(seconds * 1e3), 1e9);
    const long wake = z->backlog.peers ? FLUSH_MS : LOOK_MS;
    ms = ms < 0 ? wake : CWI_MIN(ms, wake);
    if (zmq_poll(items, z->base.is_server ? 1 : 2, ms) >= 0)
        return look_around(z, err);
    int reason = errno;
    if (reason == EINTR)
        return cwi_fail(err, CW_ERR_CANCELLED, "%s: interrupted while waiting", z->base.endpoint);
    return cwi_fail(err, CW_ERR_IO, "%s: cannot wait: %s", z->base.endpoint, zmq_strerror(reason));
}

/* What the connection's monitor knows; a caller that never waits learns it here. */
static cw_status nothing_arrived(zmq_transport *z, int timeout_ms, cw_error *err)
{
    CWI_TRY(look_around(z, err));
    return cwi_fail(err, CW_ERR_TIMEOUT, "%s: nothing arrived for %.1f seconds", z->base.endpoint, timeout_ms / 1e3);
}

static cw_status zmq_transport_recv(cw_transport *t, int timeout_ms, cw_frame *out, cw_error *err)
{
    zmq_transport *z = self(t);
    double deadline = timeout_ms < 0 ? (double)INFINITY : cwi_seconds() + timeout_ms / 1e3;
    if (z->server.dropped)
        return cwi_fail(err, CW_ERR_CLOSED, "%s: the server was dropped", t->endpoint);
    if (t->is_server)
        cwi_zmq_watch_links(z); /* also while there is always a frame */
    else
        cwi_zmq_watch_link(z);
    for (;;) {
        flush_backlog(z);
        cw_status status = recv_message(z, out, err);
        double left = deadline - cwi_seconds();
        if (status == CW_ERR_TIMEOUT && left > 0)
            CWI_TRY(wait_for_message(z, left, err));
        else if (status == CW_ERR_TIMEOUT || (status == CW_END && left < -RECV_GRACE_SECONDS))
            return nothing_arrived(z, timeout_ms, err);
        else if (status != CW_END)
            return status;
    }
}

static void zmq_transport_drop(cw_transport *t, cw_peer name)
{
    zmq_transport *z = self(t);
    cwi_peer *peer = t->is_server ? cwi_peer_find(z->peers, name) : &z->server;
    cwi_waiting *waiting = t->is_server ? cwi_backlog_find(&z->backlog, name) : NULL;
    if (waiting)
        waiting->give_up = cwi_seconds() + DROPPED_SECONDS;
    if (peer)
        drop(z, peer);
}

static bool zmq_transport_about(cw_transport *t, cw_peer name, cwi_peer_about *about)
{
    const cwi_peer *peer = t->is_server ? cwi_peer_find(self(t)->peers, name) : NULL;
    if (peer)
        *about = peer->about;
    return peer != NULL;
}

static bool zmq_transport_refused(cw_transport *t, cwi_refusal *refusal)
{
    return cwi_doorkeeper_refused(self(t)->doorkeeper, refusal);
}

static cw_status zmq_transport_set_client_keys(cw_transport *t, const cw_key *keys, size_t count, cw_error *err)
{
    return cwi_doorkeeper_set_keys(self(t)->doorkeeper, keys, count, err);
}

static int zmq_transport_poll_fd(cw_transport *t)
{
    int fd = -1;
    size_t size = sizeof fd;
    return zmq_getsockopt(self(t)->socket, ZMQ_FD, &fd, &size) == 0 ? fd : -1;
}

/* ---- open and close ---- */

/* What comes now is not wanted any more, but for what it says of links. False: nothing can be received. */
static bool hear_out(zmq_transport *z, double deadline)
{
    cw_status status = CW_OK;
    while ((status == CW_OK || status == CW_END) && cwi_seconds() < deadline) {
        cw_frame unwanted = {0};
        status = recv_message(z, &unwanted, NULL);
        if (status == CW_OK)
            cw_frame_release(&unwanted);
    }
    return status == CW_OK || status == CW_END || status == CW_ERR_TIMEOUT;
}

/* When an end closes with bytes unread, or gets some afterwards, TCP throws away what is on its way. So a server hears
 * its clients out until they have what was sent to them, on whatever connection. What is left of the linger time. */
static int linger_for_clients(zmq_transport *z, int linger_ms)
{
    const double deadline = cwi_seconds() + linger_ms / 1e3;
    for (double left; (left = deadline - cwi_seconds()) > 0;) {
        flush_backlog(z);
        if (!cwi_zmq_awaits_acks(z) && !z->backlog.peers)
            break;
        if (!hear_out(z, deadline) || wait_for_message(z, left, NULL) == CW_ERR_IO)
            break;
    }
    return (int)CWI_MAX((deadline - cwi_seconds()) * 1e3, 0);
}

/* As a client: it reads on until the server has heard of its end. */
static int linger_for_server(zmq_transport *z, int linger_ms)
{
    const double deadline = cwi_seconds() + linger_ms / 1e3;
    double left = linger_ms / 1e3;
    bool said = cwi_zmq_close_link(z);
    uint32_t on = z->connected;
    for (; left > 0 && cwi_zmq_awaits_closed(z); left = deadline - cwi_seconds()) {
        cw_frame unwanted = {0};
        const cw_status status = recv_message(z, &unwanted, NULL);
        if (status == CW_OK)
            cw_frame_release(&unwanted);
        else if (status == CW_ERR_TIMEOUT ? wait_for_message(z, left, NULL) != CW_OK : status != CW_END)
            break;
        if (!said || on != z->connected) {
            on = z->connected;
            said = !z->server.link.broken && cwi_zmq_close_link(z);
        }
    }
    return CWI_MAX((int)ceil(left * 1e3), said ? (int)CLOSE_MS : 0);
}

static void zmq_transport_close(cw_transport *t, int linger_ms)
{
    zmq_transport *z = self(t);
    if (z->socket) {
        linger_ms = z->base.is_server ? linger_for_clients(z, linger_ms) : linger_for_server(z, linger_ms);
        if (z->gate)
            zmq_socket_monitor(z->socket, NULL, 0);
        cwi_monitor_stop(&z->monitor, z->socket);
        zmq_setsockopt(z->socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
        zmq_close(z->socket);
    }
    cwi_zmq_context_end(z->context, linger_ms);
    cwi_doorkeeper_join(z->doorkeeper); /* the end of the context has ended its thread, */
    cwi_gate_join(z->gate);             /* and this one */
    cwi_assembly_reset(&z->server.in);
    cwi_link_clear(&z->server.link);
    cwi_backlog_free(&z->backlog);
    cwi_peer_table_destroy(&z->peers);
    cwi_free(z);
}

static const cwi_transport_ops zmq_ops = {
    .send = zmq_transport_send,
    .recv = zmq_transport_recv,
    .drop = zmq_transport_drop,
    .link = cwi_zmq_link_state,
    .poll_fd = zmq_transport_poll_fd,
    .close = zmq_transport_close,
    .about = zmq_transport_about,
    .refused = zmq_transport_refused,
    .set_client_keys = zmq_transport_set_client_keys,
};

static cw_status set_options(zmq_transport *z, bool ipv6, cw_error *err)
{
    const cw_net_options *o = &z->base.options;
    int heartbeat = CWI_MAX(o->heartbeat_ms, 0), gone = CWI_MIN(heartbeat, INT_MAX / 3) * 3;
    int queue = (int)CWI_MIN(cwi_queue_limit(o) / CWI_CHUNK_DATA + HWM_EXTRA, (uint64_t)INT_MAX / 2);
    const struct {
        int name, value;
        bool server_only;
    } options[] = {
        {ZMQ_IPV6, ipv6, false},
        {ZMQ_SNDHWM, z->base.is_server ? SERVER_HWM : queue, false},
        {ZMQ_RCVHWM, queue, false},
        {ZMQ_HEARTBEAT_IVL, heartbeat, false},
        {ZMQ_HEARTBEAT_TIMEOUT, gone, false},
        {ZMQ_HEARTBEAT_TTL, CWI_MIN(gone, 6553599), false}, /* the largest it takes */
        {ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS, false},
        {ZMQ_CONNECT_TIMEOUT, CONNECT_MS, false},
        {ZMQ_RECONNECT_IVL, RECONNECT_MS, false},
        {ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS, false},
        {ZMQ_BACKLOG, BACKLOG, true},
        {ZMQ_ROUTER_MANDATORY, 1, true}, /* or frames to nobody vanish */
        {ZMQ_ROUTER_HANDOVER, 1, true},  /* a client that reconnects is the same one */
    };
    for (size_t i = 0; i < CWI_COUNT(options); i++)
        if ((z->base.is_server || !options[i].server_only) &&
            zmq_setsockopt(z->socket, options[i].name, &options[i].value, sizeof options[i].value) < 0)
            return cwi_fail(err, CW_ERR_BACKEND, "ZeroMQ refuses its option %d = %d: %s", options[i].name,
                            options[i].value, zmq_strerror(errno));
    int64_t largest = CWI_CHUNK_HEADER + CWI_CHUNK_DATA + (z->encrypted ? CWI_CURVE_OVERHEAD : 0);
    if (zmq_setsockopt(z->socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest) < 0)
        return cwi_fail(err, CW_ERR_BACKEND, "ZeroMQ refuses a message limit: %s", zmq_strerror(errno));
    return CW_OK;
}

/* Unguessable, since whoever knows a client's id can take its place. */
static cw_status set_routing_id(zmq_transport *z, cw_error *err)
{
    uint8_t id[CWI_ROUTING_ID_SIZE] = {CWI_ROUTING_ID_MARK};
    CWI_TRY(cwi_random(id + 1, sizeof id - 1, err));
    if (zmq_setsockopt(z->socket, ZMQ_ROUTING_ID, id, sizeof id) < 0)
        return cwi_fail(err, CW_ERR_BACKEND, "ZeroMQ refuses a routing id: %s", zmq_strerror(errno));
    return CW_OK;
}

static cw_status listen_failed(const char *endpoint, int reason, cw_error *err)
{
    const char *advice = "";
    if (reason == EADDRINUSE)
        advice = "; stop the program that listens there, or take another port (port * is a free one)";
    else if (reason == EADDRNOTAVAIL || reason == ENODEV)
        advice = "; this machine does not have that address (* listens on all that it has)";
    else if (reason == EACCES)
        advice = "; ports below 1024 need special rights";
    return cwi_fail(err, CW_ERR_IO, "cannot listen on %s: %s%s", endpoint, zmq_strerror(reason), advice);
}

/* Twice the time for a handshake, and for the answer to a heartbeat: who is silent has been closed by then. Without
 * heartbeats only the handshake closes anybody. */
static double settled_seconds(const cw_net_options *o)
{
    return (2.0 * HANDSHAKE_MS + 4.0 * CWI_MAX(o->heartbeat_ms, 0)) / 1e3;
}

static cw_status start_server(zmq_transport *z, const cwi_tcp_endpoint *endpoint, cw_error *err)
{
    const cw_net_options *o = &z->base.options;
    z->peers = cwi_peer_table_create(PEERS_MAX, 2 * (size_t)o->max_frame);
    if (!z->peers)
        return cwi_fail(err, CW_ERR_NO_MEMORY, "out of memory for the table of peers");
    CWI_TRY(cwi_random_id(&z->id, err));
    CWI_TRY(cwi_doorkeeper_start(z->context, o, &z->doorkeeper, err));
    CWI_TRY(
        cwi_gate_start(z->context, z->socket, o->connections, settled_seconds(o), &z->gate, &z->base.capacity, err));
    return zmq_bind(z->socket, endpoint->text) < 0 ? listen_failed(endpoint->text, errno, err) : CW_OK;
}

static cw_status start_client(zmq_transport *z, const cwi_tcp_endpoint *endpoint, cw_error *err)
{
    CWI_TRY(set_routing_id(z, err));
    CWI_TRY(cwi_monitor_start(&z->monitor, z->context, z->socket, z->encrypted, err));
    z->server.name = 1;
    if (zmq_connect(z->socket, endpoint->text) < 0)
        return cwi_fail(err, CW_ERR_IO, "cannot connect to %s: %s", endpoint->text, zmq_strerror(errno));
    cwi_zmq_begin_link(z);
    return CW_OK;
}

static cw_status start(zmq_transport *z, const cwi_tcp_endpoint *endpoint, cw_error *err)
{
    z->context = zmq_ctx_new();
    if (z->context && z->base.is_server)
        (void)zmq_ctx_set(z->context, ZMQ_IO_THREADS, z->base.options.io_threads);
    z->socket = z->context ? zmq_socket(z->context, z->base.is_server ? ZMQ_ROUTER : ZMQ_DEALER) : NULL;
    if (!z->socket)
        return cwi_fail(err, CW_ERR_IO, "cannot open a ZeroMQ socket: %s", zmq_strerror(errno));
    CWI_TRY(set_options(z, endpoint->ipv6, err));
    CWI_TRY(cwi_security_apply(z->socket, &z->base.options, z->base.is_server, err));
    CWI_TRY(z->base.is_server ? start_server(z, endpoint, err) : start_client(z, endpoint, err));
    char real[512];
    size_t size = sizeof real;
    if (zmq_getsockopt(z->socket, ZMQ_LAST_ENDPOINT, real, &size) < 0)
        return cwi_fail(err, CW_ERR_BACKEND, "ZeroMQ does not tell its endpoint: %s", zmq_strerror(errno));
    z->base.endpoint = cwi_strdup(real);
    return z->base.endpoint ? CW_OK : cwi_fail_memory(err, size);
}

static cw_status open_tcp(const char *endpoint, const cw_net_options *options, bool listen, cw_transport **out,
                          cw_error *err)
{
    cwi_tcp_endpoint parsed;
    CWI_TRY(cwi_endpoint_parse(endpoint, listen, &parsed, err));
    CWI_TRY(cwi_security_check(options, listen, err));
    if (!parsed.loopback && !options->secret_key && !options->allow_plaintext)
        return cwi_fail(
            err, CW_ERR_INVALID,
            "%s reaches beyond this machine, and the traffic would not be encrypted: use 127.0.0.1, give both "
            "ends keys, or allow plaintext on a network that you trust",
            endpoint);
    zmq_transport *z = cwi_calloc(1, sizeof *z);
    if (!z)
        return cwi_fail_memory(err, sizeof *z);
    z->base.ops = &zmq_ops;
    z->base.options = *options;
    z->base.is_server = listen;
    z->base.queue_limit = cwi_queue_limit(options);
    z->encrypted = options->secret_key != NULL;
    *out = &z->base;
    cw_status status = start(z, &parsed, err);
    z->base.options.secret_key = z->base.options.server_key = z->base.options.client_keys = NULL; /* the caller's */
    if (status != CW_OK)
        cw_transport_close(out, 0);
    return status;
}

const cwi_transport_kind cwi_transport_tcp = {.scheme = "tcp://", .form = "tcp://HOST:PORT", .open = open_tcp};
