/* backlog.h - what a TCP server could not hand to ZeroMQ at once: frames, or the rest of one, peer by peer. Internal.
 *
 * A server never waits for a peer that does not read. What is queued here is bounded by whoever adds to it. */
#ifndef CWI_BACKLOG_H
#define CWI_BACKLOG_H

#include "net/peer_table.h"

/* Beside its bytes, what a frame costs. */
enum { CWI_BACKLOG_OVERHEAD = 64 };

typedef struct cwi_waiting_frame {
    struct cwi_waiting_frame *next;
    size_t size, done; /* bytes that have been handed over */
    uint32_t number;
    uint8_t bytes[];
} cwi_waiting_frame;

/* All that waits for one peer, in order; at least one frame. */
typedef struct cwi_waiting {
    struct cwi_waiting *next;
    cw_peer name;
    uint8_t id[CWI_ROUTING_ID_SIZE];
    cwi_waiting_frame *first, *last;
    uint64_t bytes; /* with the overhead of each frame */
    double give_up; /* clock when it is thrown away, infinite unless the peer was dropped */
} cwi_waiting;

/* Zero-initialize. */
typedef struct cwi_backlog {
    cwi_waiting *peers;
} cwi_backlog;

/* NULL: nothing waits for it. */
cwi_waiting *cwi_backlog_find(const cwi_backlog *b, cw_peer name);
/* Adds a copy of the frame with this number, `done` bytes of which are handed over already. */
cw_status cwi_backlog_add(cwi_backlog *b, const cwi_peer *peer, uint32_t number, const void *bytes, size_t size,
                          size_t done, cw_error *err);
/* Hands over what goes: `send` sends more of the frame to the peer with this id, counts in frame->done, and tells
 * whether all of it has gone; *gone: the peer has. What waits for those is thrown away, and what is older than its
 * time. */
typedef bool (*cwi_backlog_send)(void *ctx, const uint8_t *id, cwi_waiting_frame *frame, bool *gone);
void cwi_backlog_flush(cwi_backlog *b, cwi_backlog_send send, void *ctx);
void cwi_backlog_forget(cwi_backlog *b, cw_peer name);
void cwi_backlog_free(cwi_backlog *b);

#endif
