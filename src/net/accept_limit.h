/* accept_limit.h - a machine that connects again and again is not listened to all the time. Internal.
 *
 * Each connection that a server accepts costs it some hundredth of a millisecond, whatever comes of it. So each IPv4
 * address has a bucket of tokens: one is taken for each of its connections, and so many come back a second. While an
 * address has none left the kernel drops its attempts to connect, by a filter on the listening socket: that costs the
 * process nothing. An attempt is repeated by the other side's kernel after a second, so that an honest client among
 * strangers behind one address is late, not lost. What is connected already is not touched.
 *
 * Belongs to one thread. */
#ifndef CWI_ACCEPT_LIMIT_H
#define CWI_ACCEPT_LIMIT_H

#include "base/base.h"

enum { CWI_ACCEPT_SOURCES = 64 }; /* addresses that are kept in mind; of more the fullest buckets are forgotten */

typedef struct cwi_accept_source {
    uint32_t address; /* as on the wire; 0: this place is free */
    double tokens, last;
    bool closed;
} cwi_accept_source;

typedef struct cwi_accept_limit {
    int listener;       /* -1: none is known, and nothing is limited */
    double burst, rate; /* a full bucket; what comes back a second */
    size_t closed;      /* addresses that are not listened to */
    cwi_accept_source sources[CWI_ACCEPT_SOURCES];
} cwi_accept_limit;

void cwi_accept_limit_begin(cwi_accept_limit *l, double burst, double rate);
/* A connection that the listener has accepted. */
void cwi_accept_limit_count(cwi_accept_limit *l, int connection);
/* Listens again to addresses that have tokens; to be called some times a second while l->closed. */
void cwi_accept_limit_refresh(cwi_accept_limit *l);

#endif
