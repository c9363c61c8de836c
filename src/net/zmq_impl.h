/* zmq_impl.h - what the files of the TCP transport share. Internal to it. */
#ifndef CWI_ZMQ_IMPL_H
#define CWI_ZMQ_IMPL_H

#include "net/backlog.h"
#include "net/peer_table.h"
#include "net/transport.h"
#include "net/zmq_gate.h"
#include "net/zmq_monitor.h"
#include "net/zmq_security.h"

typedef struct zmq_transport {
    cw_transport base;
    void *context, *socket;
    bool encrypted;
    uint64_t id;           /* of a server: a random number; of a client: that of its server, 0 before it is known */
    cwi_peer_table *peers; /* a server's */
    cwi_doorkeeper *doorkeeper;
    cwi_gate *gate;
    cwi_backlog backlog;
    double flushed;               /* clock of the last try */
    double looked;                /* clock of the last look at all links */
    uint32_t ended, ended_before; /* connections that had ended by then, and by the look before */
    cwi_peer server;              /* a client's only one */
    cwi_monitor monitor;
    uint32_t connected;      /* a client's connections that were seen to */
    uint32_t resumed_before; /* frames before this one were not sent behind the last RESUME */
    bool strange;            /* the server seems to know nothing of links: nothing is kept for it */
    bool closed;             /* the server has heard that this client closes */
    uint64_t generation;
} zmq_transport;

/* A frame on its way out. */
typedef struct cwi_outgoing {
    const uint8_t *id, *bytes; /* of the receiver, where this is a server; of the frame */
    size_t size, done;
    uint32_t number;
} cwi_outgoing;

/* ---- zmq_transport.c ---- */

/* Bytes on the socket of a message, and of a frame. */
uint64_t cwi_zmq_message_bytes(const zmq_transport *z, size_t message);
uint64_t cwi_zmq_frame_bytes(const zmq_transport *z, size_t size);
/* One message of one part, to the peer with this routing id where this is a server. 0 or errno. */
int cwi_zmq_push(zmq_transport *z, const uint8_t *id, const void *bytes, size_t size);
/* As much of the frame as goes at once. 0: all of it; or errno. */
int cwi_zmq_push_frame(zmq_transport *z, cwi_outgoing *o);

/* ---- zmq_link.c: links that survive their connections ---- */

/* A client's, before its first frame. */
void cwi_zmq_begin_link(zmq_transport *z);
/* Behind the last frame, on each connection: that it is going to close. Whether a word of that is on its way. */
bool cwi_zmq_close_link(zmq_transport *z);
/* Whether the server may still say that it has heard so. */
bool cwi_zmq_awaits_closed(const zmq_transport *z);
/* What the monitor has seen: connections that broke, and new ones. An acknowledgement that is due. */
void cwi_zmq_watch_link(zmq_transport *z);
/* A server's that closes: whether clients may still say that they have what was sent to them. Asks those that were not
 * asked yet. */
bool cwi_zmq_awaits_acks(zmq_transport *z);
/* A server's: which connections have ended, and acknowledgements that are due; now and then. */
void cwi_zmq_watch_links(zmq_transport *z);
/* A message that came and is no part of a frame, or of one that is not taken. */
void cwi_zmq_count_as_extra(zmq_transport *z, size_t size);
/* Keeps a copy of a frame that is about to be sent. CW_ERR_NO_MEMORY, CW_ERR_TIMEOUT: too much waits; a server has
 * dropped the peer. */
cw_status cwi_zmq_keep(zmq_transport *z, cwi_peer *peer, const void *bytes, size_t size, cw_error *err);
/* A chunk has come from that peer. True: it was a control chunk, and has been seen to. */
bool cwi_zmq_take_control(zmq_transport *z, cwi_peer *peer, const uint8_t *chunk, size_t size);
/* A peer that was dropped and sends on learns it, once. */
void cwi_zmq_reset_dropped(zmq_transport *z, cwi_peer *peer);
/* The peer's connection is broken. */
void cwi_zmq_broke(cwi_peer *peer);
bool cwi_zmq_link_state(cw_transport *t, cw_peer name, cwi_link_state *out);

#endif
