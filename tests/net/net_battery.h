/* net_battery.h - the tests that every transport passes. */
#ifndef CWI_NET_BATTERY_H
#define CWI_NET_BATTERY_H

#include <stdatomic.h>

#include "cutwire/net.h"
#include "test.h"

enum { PATIENCE_MS = 20000 }; /* no test waits that long unless it fails */

/* Runs them all with a server listening on `endpoint`; returns the number of failures. */
int run_battery(const char *endpoint);

/* From now on, listen_on and connect_to take their keys from these. */
void use_keys(const cw_net_options *server, const cw_net_options *client);

cw_transport *listen_on(const char *endpoint, const cw_net_options *options);
cw_transport *connect_to(const char *endpoint, const cw_net_options *options);
void send_text(cw_transport *t, cw_peer peer, const char *text);
/* Receives a frame, which must be this text; returns its sender. */
cw_peer expect_text(cw_transport *t, const char *text);
/* Nothing arrives within `ms`. */
void expect_silence(cw_transport *t, int ms);

/* A transport that a thread closes, and whether it has; start the thread with close_in_thread and the address of one.
 */
typedef struct closing {
    cw_transport *transport;
    atomic_bool over;
} closing;
void *close_in_thread(void *arg);

#endif
