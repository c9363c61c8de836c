/* zmq_monitor.h - a client learns why it cannot connect. Internal.
 *
 * ZeroMQ tries for ever in silence; but a server that refuses our key, or that speaks something else, will not change
 * its mind. */
#ifndef CWI_ZMQ_MONITOR_H
#define CWI_ZMQ_MONITOR_H

#include "base/base.h"

typedef struct cwi_monitor {
    void *socket;
    bool encrypted;
    bool succeeded;       /* a handshake, ever */
    int failures;         /* handshakes that make one doubt, before the first that succeeded */
    uint32_t connected;   /* connections so far */
    const char *hopeless; /* why connecting is; NULL: it is not */
    bool up;              /* the last of them is not known to be broken */
} cwi_monitor;

/* Of a socket that does not connect yet. */
cw_status cwi_monitor_start(cwi_monitor *m, void *context, void *socket, bool encrypted, cw_error *err);
void cwi_monitor_stop(cwi_monitor *m, void *socket);
/* Takes all events at hand. */
void cwi_monitor_look(cwi_monitor *m);
/* The same; CW_ERR_CLOSED, with the reason: connecting is hopeless. */
cw_status cwi_monitor_check(cwi_monitor *m, const char *endpoint, cw_error *err);

#endif
