/* accept_limit.h - a machine that connects again and again is not listened to all the time. Internal.
 *
 * Each connection that a server accepts costs it some hundredth of a millisecond, whatever comes of it, and more while
 * it sends a byte now and then. So each IPv4 address has a bucket of tokens. A connection takes CWI_ACCEPT_PRICE of
 * them when it comes. When it ends it gives all but one back, if it has lived longer than one can that never says
 * anything sensible. So many tokens come back a second by themselves. Who stays pays one token, and who only connects
 * is heard CWI_ACCEPT_PRICE times more rarely.
 *
 * While an address has too few left the kernel drops its attempts to connect, by a filter on the listening socket: that
 * costs the process nothing. An attempt is repeated by the other side's kernel after a second, so that an honest client
 * among strangers behind one address is late, not lost. What is connected already is not touched.
 *
 * Belongs to one thread. */
#ifndef CWI_ACCEPT_LIMIT_H
#define CWI_ACCEPT_LIMIT_H

#include "base/base.h"

enum {
    CWI_ACCEPT_SOURCES = 64, /* addresses that are kept in mind; of more the fullest buckets are forgotten */
    CWI_ACCEPT_PRICE = 4,    /* tokens */
};

typedef struct cwi_accept_source {
    uint32_t address; /* as on the wire; 0: this place is free */
    double tokens, last;
    bool closed;
} cwi_accept_source;

/* A connection that has not ended, at the place of its descriptor. */
typedef struct cwi_accepted {
    uint32_t address; /* 0: there is none */
    double since;
} cwi_accepted;

typedef struct cwi_accept_limit {
    int listener;       /* -1: none is known, and nothing is limited */
    double burst, rate; /* a full bucket; what comes back a second; both in tokens */
    double settled;     /* seconds: who has lived longer gets tokens back */
    size_t closed;      /* addresses that are not listened to */
    cwi_accept_source sources[CWI_ACCEPT_SOURCES];
    cwi_accepted *accepted; /* [places] */
    size_t places;
} cwi_accept_limit;

/* `connections` of an address at once, and so many `tokens` a second. */
void cwi_accept_limit_begin(cwi_accept_limit *l, double connections, double tokens, double settled);
void cwi_accept_limit_end(cwi_accept_limit *l);
/* A connection that the listener has accepted, and one that has ended: of the latter the descriptor is only a number.
 */
void cwi_accept_limit_count(cwi_accept_limit *l, int connection);
void cwi_accept_limit_gone(cwi_accept_limit *l, int connection);
/* Listens again to addresses that have tokens; to be called after so many seconds: 0 where nobody waits for that. */
void cwi_accept_limit_refresh(cwi_accept_limit *l);
double cwi_accept_limit_wait(const cwi_accept_limit *l);

#endif
