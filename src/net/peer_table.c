/* peer_table.c - slots of peers, found by name (which holds the slot's number) or by routing id (hashed). */
#include <string.h>

#include "net/peer_table.h"

/* A name is the slot + 1 in its low half, and how often the slot was taken before in its high half. */
enum { SLOT_BITS = 32 };

struct cwi_peer_table {
    cwi_peer *slots;
    size_t count, capacity, limit;
    uint32_t *index;   /* slot + 1 by hash of the routing id, linear probing; 0: empty */
    size_t index_size; /* a power of two, at least twice the slots */
    uint64_t clock;
};

static size_t hash_id(const uint8_t *id)
{
    uint64_t a = cwi_get_le(id + 1, 8), b = cwi_get_le(id + 9, 8);
    return (size_t)((a ^ (b << 32 | b >> 32)) * UINT64_C(0x9e3779b97f4a7c15) >> 20);
}

cwi_peer_table *cwi_peer_table_create(size_t limit)
{
    cwi_peer_table *table = cwi_calloc(1, sizeof *table);
    if (table)
        table->limit = CWI_MIN(limit, (size_t)UINT32_MAX - 1);
    return table;
}

void cwi_peer_table_destroy(cwi_peer_table **table)
{
    cwi_peer_table *t = *table;
    if (!t)
        return;
    for (size_t i = 0; i < t->count; i++)
        cwi_assembly_reset(&t->slots[i].in);
    cwi_free(t->slots);
    cwi_free(t->index);
    cwi_free(t);
    *table = NULL;
}

/* Where the routing id stands in the index, or would. */
static uint32_t *find_index(cwi_peer_table *t, const uint8_t *id)
{
    size_t i = hash_id(id) & (t->index_size - 1);
    while (t->index[i] && memcmp(t->slots[t->index[i] - 1].id, id, CWI_ROUTING_ID_SIZE))
        i = (i + 1) & (t->index_size - 1);
    return &t->index[i];
}

static void rebuild_index(cwi_peer_table *t)
{
    memset(t->index, 0, t->index_size * sizeof *t->index);
    for (size_t slot = 0; slot < t->count; slot++)
        *find_index(t, t->slots[slot].id) = (uint32_t)slot + 1;
}

static bool grow(cwi_peer_table *t)
{
    size_t capacity = CWI_MIN(t->limit, CWI_MAX((size_t)16, 2 * t->capacity)), index_size = 32;
    while (index_size < 2 * capacity)
        index_size *= 2;
    uint32_t *index = cwi_calloc(index_size, sizeof *index);
    cwi_peer *slots = cwi_realloc(t->slots, t->capacity * sizeof *slots, capacity * sizeof *slots);
    if (slots)
        t->slots = slots;
    if (!index || !slots) {
        cwi_free(index);
        return false;
    }
    cwi_free(t->index);
    t->index = index;
    t->index_size = index_size;
    t->capacity = capacity;
    rebuild_index(t);
    return true;
}

static size_t slot_silent_longest(const cwi_peer_table *t)
{
    size_t oldest = 0;
    for (size_t i = 1; i < t->count; i++)
        if (t->slots[i].heard < t->slots[oldest].heard)
            oldest = i;
    return oldest;
}

/* A slot for a new peer, with the name it gets; NULL: out of memory. */
static cwi_peer *take_slot(cwi_peer_table *t, const uint8_t *id)
{
    if (t->count == t->limit) {
        size_t slot = slot_silent_longest(t);
        cwi_peer *peer = &t->slots[slot];
        cw_peer name = peer->name + (UINT64_C(1) << SLOT_BITS);
        cwi_assembly_reset(&peer->in);
        *peer = (cwi_peer){.name = name};
        memcpy(peer->id, id, CWI_ROUTING_ID_SIZE);
        rebuild_index(t);
        return peer;
    }
    if (t->count == t->capacity && !grow(t))
        return NULL;
    cwi_peer *peer = &t->slots[t->count++];
    *peer = (cwi_peer){.name = t->count};
    memcpy(peer->id, id, CWI_ROUTING_ID_SIZE);
    *find_index(t, id) = (uint32_t)t->count;
    return peer;
}

cwi_peer *cwi_peer_heard(cwi_peer_table *table, const uint8_t id[CWI_ROUTING_ID_SIZE])
{
    cwi_peer *peer = NULL;
    if (table->count) {
        uint32_t entry = *find_index(table, id);
        peer = entry ? &table->slots[entry - 1] : NULL;
    }
    if (!peer)
        peer = take_slot(table, id);
    if (peer)
        peer->heard = ++table->clock;
    return peer;
}

cwi_peer *cwi_peer_find(cwi_peer_table *table, cw_peer name)
{
    uint64_t slot = (name & UINT32_MAX) - 1;
    if (!name || slot >= table->count || table->slots[slot].name != name)
        return NULL;
    return &table->slots[slot];
}
