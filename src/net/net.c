/* net.c - the public functions: defaults and argument checks, then the transport's own. */
#include <string.h>

#include "net/transport.h"

static const cwi_transport_kind *const kinds[] = {&cwi_transport_tcp, &cwi_transport_inproc};

static cw_net_options with_defaults(const cw_net_options *options)
{
    cw_net_options o = options ? *options : (cw_net_options){0};
    if (!o.max_frame)
        o.max_frame = UINT32_C(1) << 30;
    if (!o.heartbeat_ms)
        o.heartbeat_ms = 2000;
    if (!o.send_timeout_ms)
        o.send_timeout_ms = 30000;
    o.io_threads = CWI_MIN(CWI_MAX(o.io_threads, 1), 64);
    return o;
}

static cw_status open_transport(const char *endpoint, const cw_net_options *options, bool listen, cw_transport **out,
                                cw_error *err)
{
    if (!out || !endpoint)
        return cwi_fail(err, CW_ERR_INVALID, "no endpoint given");
    *out = NULL;
    cw_net_options filled = with_defaults(options);
    for (size_t i = 0; i < CWI_COUNT(kinds); i++)
        if (strncmp(endpoint, kinds[i]->scheme, strlen(kinds[i]->scheme)) == 0)
            return kinds[i]->open(endpoint, &filled, listen, out, err);
    return cwi_fail(err, CW_ERR_INVALID, "endpoint \"%s\": give %s or %s", endpoint, kinds[0]->form, kinds[1]->form);
}

cw_status cw_net_listen(const char *endpoint, const cw_net_options *options, cw_transport **out, cw_error *err)
{
    return open_transport(endpoint, options, true, out, err);
}

cw_status cw_net_connect(const char *endpoint, const cw_net_options *options, cw_transport **out, cw_error *err)
{
    return open_transport(endpoint, options, false, out, err);
}

void cw_transport_close(cw_transport **t, int linger_ms)
{
    if (!t || !*t)
        return;
    char *endpoint = (*t)->endpoint;
    (*t)->ops->close(*t, CWI_MAX(linger_ms, 0));
    cwi_free(endpoint);
    *t = NULL;
}

const char *cw_transport_endpoint(const cw_transport *t)
{
    return t->endpoint;
}

cw_status cw_transport_send(cw_transport *t, cw_peer peer, const void *bytes, size_t size, cw_error *err)
{
    if (!t || (!bytes && size))
        return cwi_fail(err, CW_ERR_INVALID, "cw_transport_send: a NULL argument");
    if (size > t->options.max_frame)
        return cwi_fail(err, CW_ERR_INVALID,
                        "a frame of %zu bytes: at most %u are allowed here: raise max_frame (--max-frame)", size,
                        (unsigned)t->options.max_frame);
    return t->ops->send(t, peer, bytes, size, err);
}

cw_status cw_transport_recv(cw_transport *t, int timeout_ms, cw_frame *out, cw_error *err)
{
    if (!t || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_transport_recv: a NULL argument");
    *out = (cw_frame){0};
    return t->ops->recv(t, timeout_ms, out, err);
}

/* Transports give frames in blocks of cwi_alloc. */
void cw_frame_release(cw_frame *frame)
{
    if (!frame)
        return;
    cwi_free(frame->owner);
    *frame = (cw_frame){0};
}

int cw_transport_poll_fd(cw_transport *t)
{
    return t ? t->ops->poll_fd(t) : -1;
}

void cw_transport_drop(cw_transport *t, cw_peer peer)
{
    if (t)
        t->ops->drop(t, peer);
}

cw_status cw_transport_set_client_keys(cw_transport *t, const cw_key *keys, size_t count, cw_error *err)
{
    if (!t || !t->ops->set_client_keys)
        return cwi_fail(err, CW_ERR_INVALID, "only a server over TCP has a list of keys");
    return t->ops->set_client_keys(t, keys, count, err);
}

cw_net_stats cw_transport_stats(const cw_transport *t)
{
    return t->stats;
}
