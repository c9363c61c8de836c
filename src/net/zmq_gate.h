/* zmq_gate.h - a TCP server takes no more connections than leave it descriptors to work with. Internal.
 *
 * ZeroMQ accepts whoever comes until the process has no descriptor left, and then no file can be written. A process
 * gets the lowest descriptor that is free: so a connection with a high number tells that there are many, and is shut
 * down again. The same thread counts connections that end, which nobody else tells a server. */
#ifndef CWI_ZMQ_GATE_H
#define CWI_ZMQ_GATE_H

#include "base/base.h"

typedef struct cwi_gate cwi_gate;

/* `most`: connections at once; 0: as many as there is room for. `settled`: seconds that no connection lives that says
 * nothing sensible (accept_limit.h). Watches a socket that does not listen yet, in a thread that ends when the context
 * is terminated. *capacity: about how many connections there is room for; 0: no end. CW_ERR_IO: none. */
cw_status cwi_gate_start(void *context, void *socket, size_t most, double settled, cwi_gate **out, size_t *capacity,
                         cw_error *err);
/* How many connections have ended so far. NULL: none. */
uint32_t cwi_gate_ended(const cwi_gate *gate);
/* While or after another thread terminates the context. NULL allowed. */
void cwi_gate_join(cwi_gate *gate);

#endif
