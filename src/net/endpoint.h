/* endpoint.h - "tcp://HOST:PORT" taken apart and judged. Internal. */
#ifndef CWI_ENDPOINT_H
#define CWI_ENDPOINT_H

#include "base/base.h"

typedef struct cwi_tcp_endpoint {
    char host[256]; /* an address or a name, IPv6 without its brackets, "*": all (listening only) */
    int port;       /* 0: a free one (listening only) */
    bool ipv6;
    bool loopback;  /* reaches nothing but this machine */
    char text[300]; /* as ZeroMQ takes it */
} cwi_tcp_endpoint;

/* CW_ERR_INVALID: malformed; CW_ERR_IO: a name that cannot be resolved. */
cw_status cwi_endpoint_parse(const char *text, bool listen, cwi_tcp_endpoint *out, cw_error *err);

#endif
