/* zmq_context.h - the end of a ZeroMQ context, within a time. Internal to the TCP transport. */
#ifndef CWI_ZMQ_CONTEXT_H
#define CWI_ZMQ_CONTEXT_H

/* Ends the context, whose sockets are closed and linger for at most so long. libzmq 4.3.4 never ends one in which a
 * client took over its old connection while that still held data (its issues 3238 and 4407): such a context is given
 * up after some seconds, with its memory. NULL allowed. */
void cwi_zmq_context_end(void *context, int linger_ms);

#endif
