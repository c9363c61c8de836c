/* zmq_security.h - CURVE keys on ZeroMQ sockets, and the list of clients that get in. Internal. */
#ifndef CWI_ZMQ_SECURITY_H
#define CWI_ZMQ_SECURITY_H

#include "base/base.h"
#include "cutwire/net.h"
#include "net/transport.h"

/* What CURVE adds to each message: the name of the command, nonce, authenticator and flags. */
enum { CWI_CURVE_OVERHEAD = 33 };

/* The keys in options fit together, for a server or a client. CW_ERR_INVALID. */
cw_status cwi_security_check(const cw_net_options *options, bool listen, cw_error *err);
/* Gives the socket its keys, if there are any. */
cw_status cwi_security_apply(void *socket, const cw_net_options *options, bool listen, cw_error *err);

/* Answers ZeroMQ's question about each client (ZAP, RFC 27) in a thread, which ends when the context is terminated. To
 * be started before the server binds. */
typedef struct cwi_doorkeeper cwi_doorkeeper;
cw_status cwi_doorkeeper_start(void *context, const cw_net_options *options, cwi_doorkeeper **out, cw_error *err);
/* Another list, from any thread. CW_ERR_INVALID: no doorkeeper, no keys, or one that is none; CW_ERR_NO_MEMORY. */
cw_status cwi_doorkeeper_set_keys(cwi_doorkeeper *keeper, const cw_key *keys, size_t count, cw_error *err);
/* While or after another thread terminates the context. NULL allowed. */
void cwi_doorkeeper_join(cwi_doorkeeper *keeper);
/* The next client that was not let in since the last call. False: nobody. Few are kept: a flood of them is counted.
 * NULL allowed. */
bool cwi_doorkeeper_refused(cwi_doorkeeper *keeper, cwi_refusal *refusal);

#endif
