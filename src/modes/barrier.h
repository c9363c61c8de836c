/* barrier.h - a round: so many frames of a kind from each member, taken in one fixed order. Internal.
 *
 * The order is: the first frame of every member that owes one, then the second of every member, and so on, members by
 * their numbers. So sums come out the same whoever is faster, and each member's link is busy while others' frames are
 * worked on. Frames that come before their turn are held.
 */
#ifndef CWI_BARRIER_H
#define CWI_BARRIER_H

#include "base/base.h"
#include "cutwire/net.h"

typedef struct cwi_turn {
    uint32_t due;   /* frames that the round wants of this member */
    uint32_t taken; /* of them */
    cw_frame *held; /* a ring of the barrier's `room` */
    uint32_t first, count;
} cwi_turn;

typedef struct cwi_barrier {
    cwi_turn *turns;
    size_t members;
    uint32_t room;  /* frames held for each member */
    uint32_t round; /* frames taken of every member that owed as many */
    size_t next;    /* members before it have had their turn in this round */
} cwi_barrier;

/* room: the most frames that a member may be ahead. CW_ERR_NO_MEMORY. */
cw_status cwi_barrier_open(cwi_barrier *b, size_t members, uint32_t room, cw_error *err);
void cwi_barrier_close(cwi_barrier *b);

/* A new round; then what each member owes. Frames that are held count for it. */
void cwi_barrier_begin(cwi_barrier *b);
void cwi_barrier_owe(cwi_barrier *b, size_t member, uint32_t frames);

/* The number of the next frame that this member may send for the round, from 0; `due` or more: none. */
uint32_t cwi_barrier_came(const cwi_barrier *b, size_t member);
/* Whether the round waits for this member. */
bool cwi_barrier_owes(const cwi_barrier *b, size_t member);
/* Takes the frame over (frame->owner becomes NULL); false when there is no room. */
bool cwi_barrier_hold(cwi_barrier *b, size_t member, cw_frame *frame);
/* The member is gone: it owes nothing, and what is held of it is freed. */
void cwi_barrier_drop(cwi_barrier *b, size_t member);

/* The next frame in order, the caller's from then on; false when it is not at hand. */
bool cwi_barrier_next(cwi_barrier *b, size_t *member, cw_frame *frame);
/* Where that frame lies until it is taken or dropped; NULL where it is not at hand. */
const cw_frame *cwi_barrier_peek(cwi_barrier *b);
/* All frames of the round were taken. */
bool cwi_barrier_is_through(cwi_barrier *b);

#endif
