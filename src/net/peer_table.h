/* peer_table.h - the clients of a TCP server: ZeroMQ's routing ids and our numbers for them. Internal.
 *
 * A client makes up its routing id, 16 random bytes after a mark, and keeps it when it reconnects: it stays the same
 * peer. Nobody tells the server that a client has gone for good, so the table is bounded: when it is full, whoever has
 * been silent for longest is forgotten. */
#ifndef CWI_PEER_TABLE_H
#define CWI_PEER_TABLE_H

#include "net/chunk.h"

enum { CWI_ROUTING_ID_SIZE = 17, CWI_ROUTING_ID_MARK = 'c' };

typedef struct cwi_peer {
    cw_peer name; /* 0: the slot is free */
    uint8_t id[CWI_ROUTING_ID_SIZE];
    bool dropped;
    uint64_t heard; /* the larger, the later */
    cwi_assembly in;
    uint32_t frames_out; /* numbers the frames sent to it */
} cwi_peer;

typedef struct cwi_peer_table cwi_peer_table;

/* At most `limit` peers, at least 1. NULL: out of memory. */
cwi_peer_table *cwi_peer_table_create(size_t limit);
void cwi_peer_table_destroy(cwi_peer_table **table);

/* The peer with this routing id, entered when it is new, and noted as heard. NULL: out of memory. The pointer lives
 * until the next call of this function. */
cwi_peer *cwi_peer_heard(cwi_peer_table *table, const uint8_t id[CWI_ROUTING_ID_SIZE]);
/* NULL when there is none of that name, or no longer. */
cwi_peer *cwi_peer_find(cwi_peer_table *table, cw_peer name);

#endif
