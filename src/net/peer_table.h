/* peer_table.h - the clients of a TCP server: ZeroMQ's routing ids and our numbers for them. Internal.
 *
 * A client makes up its routing id, 16 random bytes after a mark, and keeps it when it reconnects: it stays the same
 * peer. Nobody tells the server that a client has gone for good, and anybody may make up ids without end, so the table
 * is bounded: when it is full, a stranger is forgotten, that is a peer to which nothing was sent or that was dropped;
 * and only when there is none whoever has been silent for longest. Bounded are also the bytes of strangers' begun
 * frames. */
#ifndef CWI_PEER_TABLE_H
#define CWI_PEER_TABLE_H

#include "net/link.h"
#include "net/transport.h"

enum { CWI_ROUTING_ID_SIZE = 17, CWI_ROUTING_ID_MARK = 'c' };

typedef struct cwi_peer {
    cw_peer name; /* 0: the slot is free */
    uint8_t id[CWI_ROUTING_ID_SIZE];
    bool dropped;
    uint64_t heard; /* the larger, the later */
    bool reset_due; /* it was dropped, and does not know yet */
    cwi_assembly in;
    uint32_t frames_out; /* number of the last frame sent to it; 0: none yet */
    cwi_link link;
    cwi_peer_about about;
} cwi_peer;

typedef struct cwi_peer_table cwi_peer_table;

/* At most `limit` peers, at least 1, and `most_begun` bytes of strangers' begun frames, beside the latest of them.
 * NULL: out of memory. */
cwi_peer_table *cwi_peer_table_create(size_t limit, size_t most_begun);
void cwi_peer_table_destroy(cwi_peer_table **table);

/* The peer with this routing id, entered when it is new, and noted as heard. NULL: out of memory. The pointer lives
 * until the next call of this function. */
cwi_peer *cwi_peer_heard(cwi_peer_table *table, const uint8_t id[CWI_ROUTING_ID_SIZE]);
/* NULL when there is none of that name, or no longer. */
cwi_peer *cwi_peer_find(cwi_peer_table *table, cw_peer name);

/* A frame is going to be sent to it, the frames_out-th. */
void cwi_peer_answered(cwi_peer_table *table, cwi_peer *peer);
/* It is not heard any more. */
void cwi_peer_drop(cwi_peer_table *table, cwi_peer *peer);
/* What has come of a frame is of no use. */
void cwi_peer_give_up_frame(cwi_peer_table *table, cwi_peer *peer);
/* It begins anew, as a peer with another name; also one that was dropped. */
void cwi_peer_renew(cwi_peer_table *table, cwi_peer *peer);
/* Every peer in turn, from *slot = 0 on; NULL: no more. */
cwi_peer *cwi_peer_next(cwi_peer_table *table, size_t *slot);
/* cwi_assembly_take for a peer. What is too much is taken from other strangers, whose frames are then lost. */
cw_status cwi_peer_take(cwi_peer_table *table, cwi_peer *peer, const uint8_t *chunk, size_t size, uint32_t max_frame,
                        cw_frame *out, cw_error *err);

#endif
