/* session.h - who takes part: joining, identity, liveness, and to whom a frame goes. Internal.
 *
 * The server's end of every conversation. It knows members, and nothing of what they work on: that is a cwi_work, a
 * table of functions which a mode fills. Frames in, frames out, no waiting.
 */
#ifndef CWI_SESSION_H
#define CWI_SESSION_H

#include "net/transport.h"
#include "session/outbox.h"

typedef enum cwi_member_state {
    CWI_MEMBER_VACANT,
    CWI_MEMBER_JOINING, /* WELCOME sent */
    CWI_MEMBER_READY,   /* takes part when the mode next begins something */
    CWI_MEMBER_ACTIVE,
    CWI_MEMBER_STATES
} cwi_member_state;

/* The place of one client; a client that is lost leaves it vacant for itself or another. */
typedef struct cwi_member {
    cwi_member_state state;
    cw_peer peer;
    uint64_t token;
    char key[41];    /* its public key, where that is who it is; "": none */
    char owner[41];  /* whose place it is, as a key: by that, or by the token; "": not looked up yet, or nobody's */
    double due_from; /* the session's clock since when it owes */
    uint64_t moved;  /* bytes of frames that had crossed its link by then */
    bool broken;     /* its connection is: its place is held */
    bool awaited; /* it took part, and came back by another connection: until it takes part again its place is held as
                     if it did */
} cwi_member;

/* Who asks for a place. */
typedef struct cwi_applicant {
    cw_peer peer;
    uint64_t token;
    uint16_t version; /* of the protocol, the highest that it speaks */
    uint32_t wish;    /* the place that it had, as it says itself */
    char key[41];     /* its public key; "": none counts */
    char owner[41];   /* as a member's, where this server has begun anew */
    double told;      /* the clock when it last heard that it waits */
} cwi_applicant;

typedef struct cwi_session cwi_session;

/* Something that an operator wants to know. */
typedef struct cwi_notice {
    bool warning;     /* a client is lost, or was refused */
    const char *name; /* a word for programs */
    const char *text; /* a sentence */
    size_t member;    /* of whom; SIZE_MAX: a peer without a place */
    cwi_peer_about about;
} cwi_notice;

/* What the members of a session work on. `run` is the mode's own. */
typedef struct cwi_work {
    /* What a READY or JOIN says is right. A failure is the member's fault: it is refused. */
    cw_status (*admit)(void *run, size_t member, const cw_msg *ready, cw_error *err);
    /* A message of a ready or active member. A frame that has to wait is taken over: its owner is then NULL. A failure
     * is the member's fault: it is lost. */
    cw_status (*take)(void *run, size_t member, const cw_msg *msg, cw_frame *frame, cw_error *err);
    /* As far as the frames at hand allow. A failure ends the run. */
    cw_status (*advance)(void *run, cw_error *err);
    /* Enough members are ready, at the start or after all were lost: make them active and begin. */
    cw_status (*begin)(void *run, cw_error *err);
    /* A member has gone; its place is vacant already. */
    void (*lost)(void *run, size_t member);
    /* In place of that: an active member has come back by another connection, or as another process. It knows nothing
     * of what it was doing, and is about to join again. NULL: `lost` it is. */
    void (*left)(void *run, size_t member);
    /* A member is ready after the work has begun: it may be made active at once, by cwi_session_activate_one. NULL: it
     * waits. A failure is the member's: it is lost. */
    cw_status (*joined)(void *run, size_t member, cw_error *err);
    /* Whether the work waits for this member. */
    bool (*owes)(const void *run, size_t member);
    bool (*finished)(const void *run);
    /* It is to stop for a while: to finish what it is at, and save what there is; whether it has. NULL: there is
     * nothing to finish. */
    void (*drain)(void *run);
    bool (*drained)(const void *run);
    void (*log)(void *run, const cwi_notice *notice);
    void (*time_passed)(void *run); /* NULL: it does not care */
} cwi_work;

typedef struct cwi_session_options {
    size_t members;
    double timeout;         /* seconds that a member may owe */
    double join_timeout;    /* seconds to wait for members */
    bool resumed;           /* a server before this one has begun: after these seconds some will do */
    double grace;           /* seconds for which the place of an active member is held whose connection broke */
    const uint8_t *welcome; /* WELCOME's blob; the caller's */
    size_t welcome_size;
    uint64_t fingerprint;     /* WELCOME's, and every READY's */
    bool keys_are_identities; /* where there are keys: each has one place, and is who has it */
    const char (*owners)[41]; /* whose the places were before this server began anew (cwi_session_owner); NULL:
                                 nobody's. The caller's until the session is open */
    double hold;              /* seconds from now in which such a place is its owner's alone */
    bool learn;               /* members say JOIN in place of READY; the first one's fingerprint is the session's */
} cwi_session_options;

struct cwi_session {
    cwi_session_options options;
    const cwi_work *work;
    void *run;
    cwi_outbox box;
    cwi_outbox aside; /* words of refusal: what the box holds may still be on its way to others */
    uint64_t id;      /* random, in every frame */
    cwi_member *members;
    size_t counts[CWI_MEMBER_STATES];
    uint32_t *place_of_peer; /* by a hash of the peer: where it was found last, plus 1. Never the only way to find it */
    uint32_t place_mask;
    double worked;          /* seconds in which this server worked and did not listen: its clock stands still in them */
    double hold_until;      /* by the clock */
    cwi_applicant *waiting; /* for places that are held for others; room for as many as there are members */
    size_t waiting_count;
    uint64_t changes; /* of whose places are: how often somebody else got one */
    bool begun;
    cw_status lost_status; /* why the last member was lost */
    char lost_reason[400];
    uint64_t refused;   /* peers that were turned away */
    double alone_since; /* clock since when no member is active, or joining began */
};

cw_status cwi_session_open(cwi_session *s, const cwi_session_options *options, const cwi_work *work, void *run,
                           cw_transport *transport, cw_error *err);
void cwi_session_close(cwi_session *s);

/* Takes one frame, and owns it from then on. */
void cwi_session_hear(cwi_session *s, cw_frame *frame);
/* Works as far as the frames heard allow. Fails only when the run as a whole cannot go on. */
cw_status cwi_session_go_on(cwi_session *s, cw_error *err);
/* Both, for a frame that comes alone. */
cw_status cwi_session_handle(cwi_session *s, cw_frame *frame, cw_error *err);
/* To be called now and then: drops members that owe for too long. */
cw_status cwi_session_tick(cwi_session *s, cw_error *err);
/* Tells the members that the run is over: END, or ERROR when it failed. */
void cwi_session_end(cwi_session *s, cw_status outcome, const char *words);

/* Whose the member's place is, as a key: the one that has it or had it last. "": nobody's, or of somebody without key
 * and token. Good until the session changes. */
const char *cwi_session_owner(cwi_session *s, size_t member);

/* ---- for modes ---- */

static inline size_t cwi_session_count(const cwi_session *s, cwi_member_state state)
{
    return s->counts[state];
}
static inline bool cwi_session_is_active(const cwi_session *s, size_t member)
{
    return s->members[member].state == CWI_MEMBER_ACTIVE;
}
/* Those who are ready become active. */
void cwi_session_activate(cwi_session *s);
/* That one does. */
void cwi_session_activate_one(cwi_session *s, size_t member);
/* A message of this type to that member, to be filled in. */
cw_msg cwi_session_message(const cwi_session *s, size_t member, cw_msg_type type);
/* Removes a member from the run, telling it why; the others go on. */
void cwi_session_lose(cwi_session *s, size_t member, cw_status status, const char *why);
/* Sends to an active member; one that cannot be reached is lost. */
void cwi_session_send(cwi_session *s, size_t member, const cw_msg *msg);
/* The same of bytes that a receiver makes a frame of. */
void cwi_session_send_frame(cwi_session *s, size_t member, const void *bytes, size_t size);
/* What the member owes from now on. */
void cwi_session_owes_from_now(cwi_session *s, size_t member);
/* The session's clock. The time in which this server worked and did not listen is nobody's silence, since frames that
 * came meanwhile are still to be read: the clock stands still in it. */
static inline double cwi_session_clock(const cwi_session *s)
{
    return cwi_seconds() - s->worked;
}
/* Whether the member's place is held while its connection is broken. Its debts count anew from when it is back. */
static inline bool cwi_session_is_broken(const cwi_session *s, size_t member)
{
    return s->members[member].broken;
}
/* Seconds that the member has owed by that clock. */
static inline double cwi_session_owes_for(const cwi_session *s, size_t member)
{
    return cwi_session_clock(s) - s->members[member].due_from;
}

#endif
