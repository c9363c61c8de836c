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
    uint64_t key[2];   /* of the hash: peers make up their ids */
    uint64_t clock;
    size_t hand;              /* the slot of the stranger that was forgotten last, */
    size_t begun_hand;        /* or whose begun frame was */
    size_t begun, most_begun; /* bytes of strangers' begun frames */
};

/* Nobody with whom there is a conversation. */
static bool is_stranger(const cwi_peer *peer)
{
    return peer->dropped || peer->frames_out == 0;
}

/* The last step of SplitMix64: each bit of x changes each of the result's with a chance of about a half. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static size_t home_of(const cwi_peer_table *t, const uint8_t *id)
{
    const uint64_t first = mix(cwi_get_le(id + 1, 8) ^ t->key[0]);
    return (size_t)mix(first ^ cwi_get_le(id + 9, 8) ^ t->key[1]) & (t->index_size - 1);
}

cwi_peer_table *cwi_peer_table_create(size_t limit, size_t most_begun)
{
    cwi_peer_table *table = cwi_calloc(1, sizeof *table);
    if (!table)
        return NULL;
    table->limit = CWI_MIN(limit, (size_t)UINT32_MAX - 1);
    table->most_begun = most_begun;
    if (cwi_random(table->key, sizeof table->key, NULL) != CW_OK)
        table->key[0] = (uint64_t)(uintptr_t)table; /* better than the same for all */
    return table;
}

void cwi_peer_table_destroy(cwi_peer_table **table)
{
    cwi_peer_table *t = *table;
    if (!t)
        return;
    for (size_t i = 0; i < t->count; i++) {
        cwi_assembly_reset(&t->slots[i].in);
        cwi_link_clear(&t->slots[i].link);
    }
    cwi_free(t->slots);
    cwi_free(t->index);
    cwi_free(t);
    *table = NULL;
}

/* Where the routing id stands in the index, or would. */
static uint32_t *find_index(cwi_peer_table *t, const uint8_t *id)
{
    size_t i = home_of(t, id);
    while (t->index[i] && memcmp(t->slots[t->index[i] - 1].id, id, CWI_ROUTING_ID_SIZE))
        i = (i + 1) & (t->index_size - 1);
    return &t->index[i];
}

/* Takes the routing id out; what stands behind it moves up, as far as it may. */
static void remove_index(cwi_peer_table *t, const uint8_t *id)
{
    const size_t mask = t->index_size - 1;
    size_t hole = (size_t)(find_index(t, id) - t->index);
    for (size_t i = (hole + 1) & mask; t->index[i]; i = (i + 1) & mask) {
        const size_t from_home = (i - home_of(t, t->slots[t->index[i] - 1].id)) & mask;
        if (from_home < ((i - hole) & mask))
            continue;
        t->index[hole] = t->index[i];
        hole = i;
    }
    t->index[hole] = 0;
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

/* A stranger, each in turn; when there is none, whoever has been silent for longest. */
static size_t slot_to_forget(cwi_peer_table *t)
{
    for (size_t i = 0; i < t->count; i++) {
        t->hand = (t->hand + 1) % t->count;
        if (is_stranger(&t->slots[t->hand]))
            return t->hand;
    }
    return slot_silent_longest(t);
}

void cwi_peer_give_up_frame(cwi_peer_table *table, cwi_peer *peer)
{
    if (is_stranger(peer))
        table->begun -= peer->in.capacity;
    cwi_assembly_reset(&peer->in);
}

/* A slot for a new peer, with the name it gets; NULL: out of memory. */
static cwi_peer *take_slot(cwi_peer_table *t, const uint8_t *id)
{
    size_t slot = t->count;
    cw_peer name = slot + 1;
    if (slot == t->limit) {
        slot = slot_to_forget(t);
        cwi_peer_give_up_frame(t, &t->slots[slot]);
        cwi_link_clear(&t->slots[slot].link);
        remove_index(t, t->slots[slot].id);
        name = t->slots[slot].name + (UINT64_C(1) << SLOT_BITS);
    } else {
        if (slot == t->capacity && !grow(t))
            return NULL;
        t->count++;
    }
    cwi_peer *peer = &t->slots[slot];
    *peer = (cwi_peer){.name = name};
    memcpy(peer->id, id, CWI_ROUTING_ID_SIZE);
    *find_index(t, id) = (uint32_t)slot + 1;
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

void cwi_peer_drop(cwi_peer_table *table, cwi_peer *peer)
{
    cwi_peer_give_up_frame(table, peer);
    peer->reset_due = peer->link.joined;
    peer->dropped = true;
    cwi_link_clear(&peer->link);
}

void cwi_peer_renew(cwi_peer_table *table, cwi_peer *peer)
{
    cwi_peer_give_up_frame(table, peer);
    cwi_link_clear(&peer->link);
    peer->dropped = peer->reset_due = false;
    peer->frames_out = 0;
    peer->name += UINT64_C(1) << SLOT_BITS;
}

cwi_peer *cwi_peer_next(cwi_peer_table *table, size_t *slot)
{
    return *slot < table->count ? &table->slots[(*slot)++] : NULL;
}

void cwi_peer_answered(cwi_peer_table *table, cwi_peer *peer)
{
    if (is_stranger(peer))
        table->begun -= peer->in.capacity;
    peer->frames_out = cwi_number_after(peer->frames_out); /* never 0 again, which is for strangers */
    if (is_stranger(peer))
        table->begun += peer->in.capacity;
}

/* Another stranger's begun frame, each in turn; false: there is none. */
static bool give_up_another(cwi_peer_table *t, const cwi_peer *but)
{
    for (size_t i = 0; i < t->count; i++) {
        t->begun_hand = (t->begun_hand + 1) % t->count;
        cwi_peer *peer = &t->slots[t->begun_hand];
        if (peer == but || !is_stranger(peer) || !peer->in.capacity)
            continue;
        cwi_peer_give_up_frame(t, peer);
        return true;
    }
    return false;
}

cw_status cwi_peer_take(cwi_peer_table *table, cwi_peer *peer, const uint8_t *chunk, size_t size, uint32_t max_frame,
                        cw_frame *out, cw_error *err)
{
    const bool counts = is_stranger(peer);
    if (counts)
        table->begun -= peer->in.capacity;
    const cw_status status = cwi_assembly_take(&peer->in, chunk, size, max_frame, out, err);
    if (!counts)
        return status;
    table->begun += peer->in.capacity;
    while (table->begun > table->most_begun && give_up_another(table, peer))
        ;
    return status;
}
