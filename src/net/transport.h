/* transport.h - what every transport is: a base, and a table of functions. Internal. */
#ifndef CWI_TRANSPORT_H
#define CWI_TRANSPORT_H

#include "base/base.h"
#include "cutwire/net.h"

typedef struct cwi_transport_ops {
    cw_status (*send)(cw_transport *t, cw_peer peer, const void *bytes, size_t size, cw_error *err);
    cw_status (*recv)(cw_transport *t, int timeout_ms, cw_frame *out, cw_error *err);
    void (*drop)(cw_transport *t, cw_peer peer);
    void (*close)(cw_transport *t, int linger_ms); /* frees t, but not its endpoint */
} cwi_transport_ops;

struct cw_transport {
    const cwi_transport_ops *ops;
    char *endpoint;
    cw_net_options options; /* defaults filled in */
    bool is_server;
    cw_net_stats stats;
};

/* How many bytes of frames may wait for a slow receiver before senders wait too. In a conversation of requests and
 * answers one frame waits at a time; two leave room for a broadcast behind an answer. */
static inline uint64_t cwi_queue_limit(const cw_net_options *options)
{
    return 2 * (uint64_t)options->max_frame;
}

/* Constructors; *options has its defaults filled in, *out is complete but for its endpoint where that is the one
 * asked for. */
cw_status cwi_zmq_open(const char *endpoint, const cw_net_options *options, bool listen, cw_transport **out,
                       cw_error *err);
cw_status cwi_inproc_open(const char *endpoint, const cw_net_options *options, bool listen, cw_transport **out,
                          cw_error *err);

#endif
