/* transport.h - what every transport is: a base, and a table of functions. Internal. */
#ifndef CWI_TRANSPORT_H
#define CWI_TRANSPORT_H

#include "base/base.h"
#include "cutwire/net.h"

/* What a server knows of one of its clients. */
typedef struct cwi_peer_about {
    char address[48];        /* numeric; "": unknown, or within the process */
    char key[41];            /* its public key in Z85; "": without encryption */
    uint64_t resumed;        /* how often a connection of it broke and was taken up again */
    uint64_t received, sent; /* bytes of its frames, without the transport's own framing */
} cwi_peer_about;

/* A client that was turned away before it could send anything. */
typedef struct cwi_refusal {
    char address[48], key[41];
    uint64_t more; /* others since the last one that was told, of which nothing is kept */
} cwi_refusal;

/* What is known of the connection to a peer. */
typedef struct cwi_link_state {
    bool keeps;          /* frames survive a connection that breaks */
    bool broken;         /* it is, */
    double since;        /* by the clock */
    uint64_t moved;      /* bytes of frames that have crossed it, both ways */
    uint64_t generation; /* clients: how often the server has begun anew, and knows nothing of us */
} cwi_link_state;

typedef struct cwi_transport_ops {
    cw_status (*send)(cw_transport *t, cw_peer peer, const void *bytes, size_t size, cw_error *err);
    cw_status (*recv)(cw_transport *t, int timeout_ms, cw_frame *out, cw_error *err);
    void (*drop)(cw_transport *t, cw_peer peer);
    /* NULL: connections do not break. */
    bool (*link)(cw_transport *t, cw_peer peer, cwi_link_state *out);
    int (*poll_fd)(cw_transport *t);
    void (*close)(cw_transport *t, int linger_ms); /* frees t, but not its endpoint */
    /* Optional, of servers. False: no such peer; nobody was refused since the last call. */
    bool (*about)(cw_transport *t, cw_peer peer, cwi_peer_about *about);
    bool (*refused)(cw_transport *t, cwi_refusal *refusal);
    /* From any thread. The keys are valid ones. */
    cw_status (*set_client_keys)(cw_transport *t, const cw_key *keys, size_t count, cw_error *err);
} cwi_transport_ops;

struct cw_transport {
    const cwi_transport_ops *ops;
    char *endpoint;
    cw_net_options options; /* defaults filled in */
    bool is_server;
    uint64_t queue_limit; /* of a server: bytes that may wait for one client, with what each frame costs beside */
    size_t capacity;      /* of a server: about how many clients may be connected; 0: no end */
    cw_net_stats stats;
};

/* How many bytes of frames may wait for a slow receiver before a client that sends waits too, and a server drops it (it
 * never waits). In a conversation of requests and answers one frame waits at a time; two leave room for a broadcast
 * behind an answer. */
static inline uint64_t cwi_queue_limit(const cw_net_options *options)
{
    return 2 * (uint64_t)options->max_frame;
}

/* False: there is no such peer, and *out is empty. A client's peer is 0. */
static inline bool cwi_transport_link(cw_transport *t, cw_peer peer, cwi_link_state *out)
{
    *out = (cwi_link_state){0};
    return t->ops->link ? t->ops->link(t, peer, out) : true;
}

/* What a server whose frames are known needs instead. A lone frame may wait whatever its size. */
static inline void cwi_transport_limit_queue(cw_transport *t, uint64_t bytes)
{
    t->queue_limit = bytes;
}

/* The largest frame that either end has reason to send; never more than before. */
static inline void cwi_transport_limit_frames(cw_transport *t, uint64_t bytes)
{
    if (bytes < t->options.max_frame)
        t->options.max_frame = (uint32_t)bytes;
}

/* CW_ERR_TIMEOUT: a server drops a client for which so many bytes wait. */
static inline cw_status cwi_fail_overflow(const cw_transport *t, uint64_t waiting, cw_error *err)
{
    return cwi_fail(err, CW_ERR_TIMEOUT, "%s: this client does not read: %llu bytes wait for it, at most %llu may",
                    t->endpoint, (unsigned long long)waiting, (unsigned long long)t->queue_limit);
}

static inline bool cwi_transport_about(cw_transport *t, cw_peer peer, cwi_peer_about *about)
{
    *about = (cwi_peer_about){.received = 0};
    return t->ops->about && t->ops->about(t, peer, about);
}

static inline bool cwi_transport_refused(cw_transport *t, cwi_refusal *refusal)
{
    return t->ops->refused && t->ops->refused(t, refusal);
}

/* A name for whoever has this token, which does not tell the token: the public key of a secret one that is made from
 * it. CW_ERR_BACKEND: this ZeroMQ has no keys. */
cw_status cwi_key_of_token(uint64_t token, cw_key *key, cw_error *err);

/* A kind of transport: one file with one of these, and a line in net.c. */
typedef struct cwi_transport_kind {
    const char *scheme, *form; /* "tcp://", and how its endpoints are written */
    /* *options has its defaults filled in, *out is complete but for its endpoint where that is the one asked for. */
    cw_status (*open)(const char *endpoint, const cw_net_options *options, bool listen, cw_transport **out,
                      cw_error *err);
} cwi_transport_kind;

extern const cwi_transport_kind cwi_transport_tcp, cwi_transport_inproc;

#endif
