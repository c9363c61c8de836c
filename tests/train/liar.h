/* liar.h - a client that keeps to the protocol and lies: its frames are changed on their way out. */
#ifndef LIAR_H
#define LIAR_H

#include "net/transport.h"

typedef enum lie {
    HONEST,
    GONE, /* it leaves at its first batch: the run without it */
    RANDOM_LABELS,
    HUGE_ACTIVATIONS, /* x 1e4 */
    HUGE_GRADIENTS,   /* of its half x 100 */
    FALSE_STATISTICS, /* of batch norm, reported for averaging: all are 1000 */
    NAN_ACTIVATIONS,
    INFINITE_GRADIENTS,
    LIES
} lie;

extern const char *const lie_names[LIES];

/* A transport around a client's real one, which stays the caller's. */
typedef struct lying_transport {
    cw_transport base;
    cw_transport *real;
    lie lie;
    uint32_t random;
} lying_transport;

lying_transport lying_transport_around(cw_transport *real, lie told);

#endif
