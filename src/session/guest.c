/* guest.c - a client's end of a session. */
#include <string.h>

#include "net/transport.h"
#include "session/guest.h"

/* Seconds of silence after which a waiting client says that it lives. */
static const double ping_interval = 5.0;

cw_status cwi_guest_open(cwi_guest *g, const cwi_guest_work *work, void *run, cw_transport *transport, double timeout,
                         double join_timeout, cw_error *err)
{
    *g = (cwi_guest){.work = work,
                     .run = run,
                     .box = {.transport = transport},
                     .timeout = timeout,
                     .join_timeout = join_timeout,
                     .index = UINT32_MAX};
    cwi_link_state link;
    (void)cwi_transport_link(transport, 0, &link);
    g->generation = link.generation;
    return cwi_random_id(&g->token, err);
}

void cwi_guest_close(cwi_guest *g)
{
    cwi_outbox_free(&g->box);
}

/* ---- sending ---- */

cw_msg cwi_guest_message(const cwi_guest *g, cw_msg_type type)
{
    return (cw_msg){.type = type, .client = g->index, .session = g->session};
}

cw_status cwi_guest_send(cwi_guest *g, const cw_msg *msg, cw_error *err)
{
    g->said = cwi_seconds();
    return cwi_outbox_send(&g->box, 0, msg, err);
}

cw_status cwi_guest_send_tensor(cwi_guest *g, cw_msg *msg, const cw_codec *codec, const cw_tensor *x,
                                const cw_encode_args *args, cw_error *err)
{
    size_t payload;
    g->said = cwi_seconds();
    return cwi_outbox_send_tensor(&g->box, 0, msg, codec, x, args, &payload, err);
}

/* Tells the server why this client cannot go on; the reason stays in err. */
static cw_status give_up(cwi_guest *g, cw_status status, const cw_error *err)
{
    cw_msg msg = cwi_guest_message(g, CW_MSG_ERROR);
    msg.status = status;
    (void)cwi_outbox_send_text(&g->box, 0, &msg, *err->message ? err->message : cw_status_message(status), NULL);
    return status;
}

cw_status cwi_guest_start(cwi_guest *g, cw_error *err)
{
    cw_msg msg = cwi_guest_message(g, CW_MSG_HELLO);
    msg.version_min = CW_WIRE_VERSION_MIN;
    msg.version_max = CW_WIRE_VERSION_MAX;
    msg.token = g->token;
    g->state = CWI_GUEST_HELLO;
    g->heard = cwi_seconds();
    return cwi_guest_send(g, &msg, err);
}

void cwi_guest_leave(cwi_guest *g)
{
    cw_msg msg = cwi_guest_message(g, CW_MSG_LEAVE);
    msg.status = CW_ERR_CANCELLED;
    (void)cwi_outbox_send_text(&g->box, 0, &msg, "stopped by its user", NULL);
    g->state = CWI_GUEST_DONE;
}

/* ---- what the server says ---- */

static cw_status on_welcome(cwi_guest *g, const cw_msg *msg, cw_error *err)
{
    if (g->state != CWI_GUEST_HELLO)
        return cwi_fail(err, CW_ERR_PROTOCOL, "a second WELCOME");
    if (msg->version_max < CW_WIRE_VERSION_MIN || msg->version_max > CW_WIRE_VERSION_MAX)
        return cwi_fail(err, CW_ERR_VERSION, "the server chose protocol version %u, this client speaks %d to %d",
                        msg->version_max, CW_WIRE_VERSION_MIN, CW_WIRE_VERSION_MAX);
    g->rejoins = false;
    g->index = msg->client;
    g->members = msg->clients;
    g->session = msg->session;
    g->state = CWI_GUEST_IN;
    cw_msg ready = cwi_guest_message(g, CW_MSG_READY);
    CWI_TRY(g->work->welcome(g->run, msg, &ready, err));
    return cwi_guest_send(g, &ready, err);
}

static cw_status on_end(cwi_guest *g, const cw_msg *msg)
{
    const size_t n = CWI_MIN(msg->blob_size, sizeof g->last_words - 1);
    memcpy(g->last_words, msg->blob ? (const char *)msg->blob : "", n);
    g->last_words[n] = '\0';
    g->state = CWI_GUEST_DONE;
    return CW_OK;
}

static cw_status dispatch(cwi_guest *g, const cw_msg *msg, cw_error *err)
{
    switch (msg->type) {
    case CW_MSG_WELCOME:
        return on_welcome(g, msg, err);
    case CW_MSG_END:
        return on_end(g, msg);
    case CW_MSG_PONG:
        return CW_OK;
    default:
        if (g->state != CWI_GUEST_IN)
            return cwi_fail(err, CW_ERR_PROTOCOL, "the server sent %s where WELCOME was due", cw_msg_name(msg->type));
        return g->work->take(g->run, msg, err);
    }
}

cw_status cwi_guest_handle(cwi_guest *g, const cw_frame *frame, cw_error *err)
{
    cw_msg msg;
    cw_error own;
    if (!err)
        err = &own;
    *err->message = '\0';
    cw_status status = cw_msg_decode(frame->bytes, frame->size, &msg, err);
    if (status != CW_OK)
        return give_up(g, status, err);
    g->heard = cwi_seconds();
    if (msg.type == CW_MSG_ERROR)
        return cwi_fail(err, msg.status ? msg.status : CW_ERR_CLOSED, "%s: %.*s",
                        g->state == CWI_GUEST_HELLO ? "the server refused" : "the server ended this client's run",
                        (int)msg.blob_size, msg.blob ? (const char *)msg.blob : "");
    if (g->session && msg.session != g->session)
        return CW_OK; /* of an earlier run of the server */
    status = dispatch(g, &msg, err);
    g->heard = cwi_seconds(); /* its own computing time is not the server's silence */
    return status == CW_OK ? CW_OK : give_up(g, status, err);
}

/* ---- the clock ---- */

/* The server has begun anew and knows nothing of us: we ask for the place that we had. */
static cw_status join_again(cwi_guest *g, uint64_t generation, cw_error *err)
{
    if (g->reconnect <= 0)
        return cwi_fail(err, CW_ERR_CLOSED, "the server at %s does not know this client any more: it has begun anew",
                        cw_transport_endpoint(g->box.transport));
    g->generation = generation;
    g->session = 0;
    g->rejoins = true;
    return cwi_guest_start(g, err);
}

/* A server out of reach is waited for. */
static cw_status wait_for_server(cwi_guest *g, const cwi_link_state *link, cw_error *err)
{
    g->heard = cwi_seconds();
    if (g->heard - link->since <= g->reconnect)
        return CW_OK;
    return cwi_fail(err, CW_ERR_TIMEOUT, "the server at %s was out of reach for %.0f s: it is gone or cut off",
                    cw_transport_endpoint(g->box.transport), g->reconnect);
}

cw_status cwi_guest_tick(cwi_guest *g, cw_error *err)
{
    const double now = cwi_seconds();
    cwi_link_state link;
    (void)cwi_transport_link(g->box.transport, 0, &link);
    g->broken = link.broken;
    if (link.moved != g->moved) /* a frame that is on its way is no silence */
        g->heard = now;
    g->moved = link.moved;
    if (link.generation != g->generation && g->state != CWI_GUEST_DONE)
        CWI_TRY(join_again(g, link.generation, err));
    if (link.broken && g->reconnect > 0 && (g->state == CWI_GUEST_IN || g->rejoins))
        return wait_for_server(g, &link, err);
    const bool hello = g->state == CWI_GUEST_HELLO;
    const double limit = g->rejoins ? CWI_MAX(g->reconnect, g->join_timeout) : hello ? g->join_timeout : g->timeout;
    if (now - g->heard > limit)
        return cwi_fail(err, CW_ERR_TIMEOUT,
                        hello ? "no answer from %s for %.0f s: is the server running there?"
                              : "nothing from the server at %s for %.0f s: it is gone or cut off",
                        cw_transport_endpoint(g->box.transport), limit);
    if (hello || now - g->said < ping_interval)
        return CW_OK;
    const cw_msg msg = cwi_guest_message(g, CW_MSG_PING);
    return cwi_guest_send(g, &msg, err);
}
