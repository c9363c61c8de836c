/* barrier.c - rounds. */
#include <string.h>

#include "modes/barrier.h"

cw_status cwi_barrier_open(cwi_barrier *b, size_t members, uint32_t room, cw_error *err)
{
    *b = (cwi_barrier){.members = members, .room = room};
    b->turns = cwi_calloc(members, sizeof *b->turns);
    if (!b->turns)
        return cwi_fail_memory(err, members * sizeof *b->turns);
    for (size_t i = 0; i < members; i++) {
        b->turns[i].held = cwi_calloc(room, sizeof(cw_frame));
        if (!b->turns[i].held)
            return cwi_fail_memory(err, room * sizeof(cw_frame));
    }
    return CW_OK;
}

void cwi_barrier_close(cwi_barrier *b)
{
    for (size_t i = 0; b->turns && i < b->members; i++) {
        if (b->turns[i].held)
            cwi_barrier_drop(b, i);
        cwi_free(b->turns[i].held);
    }
    cwi_free(b->turns);
    memset(b, 0, sizeof *b);
}

void cwi_barrier_begin(cwi_barrier *b)
{
    b->round = 0;
    b->next = 0;
    for (size_t i = 0; i < b->members; i++)
        b->turns[i].due = b->turns[i].taken = 0;
}

void cwi_barrier_owe(cwi_barrier *b, size_t member, uint32_t frames)
{
    b->turns[member].due = frames;
}

uint32_t cwi_barrier_came(const cwi_barrier *b, size_t member)
{
    return b->turns[member].taken + b->turns[member].count;
}

bool cwi_barrier_owes(const cwi_barrier *b, size_t member)
{
    return cwi_barrier_came(b, member) < b->turns[member].due;
}

bool cwi_barrier_hold(cwi_barrier *b, size_t member, cw_frame *frame)
{
    cwi_turn *t = &b->turns[member];
    if (t->count == b->room)
        return false;
    t->held[(t->first + t->count++) % b->room] = *frame;
    frame->owner = NULL;
    return true;
}

static cw_frame take_first(const cwi_barrier *b, cwi_turn *t)
{
    const cw_frame frame = t->held[t->first];
    t->first = (t->first + 1) % b->room;
    t->count--;
    return frame;
}

void cwi_barrier_drop(cwi_barrier *b, size_t member)
{
    cwi_turn *t = &b->turns[member];
    while (t->count) {
        cw_frame frame = take_first(b, t);
        cw_frame_release(&frame);
    }
    t->due = t->taken;
}

/* Moves on to the next member whose turn it is; false when the round is over. */
static bool find_turn(cwi_barrier *b)
{
    for (;; b->round++, b->next = 0) {
        bool more = false;
        for (; b->next < b->members; b->next++)
            if (b->turns[b->next].due > b->round && b->turns[b->next].taken == b->round)
                return true;
        for (size_t i = 0; i < b->members; i++)
            more |= b->turns[i].due > b->round + 1;
        if (!more)
            return false;
    }
}

bool cwi_barrier_next(cwi_barrier *b, size_t *member, cw_frame *frame)
{
    if (!find_turn(b) || !b->turns[b->next].count)
        return false;
    cwi_turn *t = &b->turns[b->next];
    *frame = take_first(b, t);
    *member = b->next;
    t->taken++;
    return true;
}

const cw_frame *cwi_barrier_peek(cwi_barrier *b)
{
    if (!find_turn(b) || !b->turns[b->next].count)
        return NULL;
    const cwi_turn *t = &b->turns[b->next];
    return &t->held[t->first];
}

bool cwi_barrier_is_through(cwi_barrier *b)
{
    return !find_turn(b);
}
