/* accept_limit.c - see accept_limit.h. */
#include <arpa/inet.h>
#include <asm/socket.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "net/accept_limit.h"

void cwi_accept_limit_begin(cwi_accept_limit *l, double connections, double tokens, double settled)
{
    *l =
        (cwi_accept_limit){.listener = -1, .burst = connections * CWI_ACCEPT_PRICE, .rate = tokens, .settled = settled};
}

void cwi_accept_limit_end(cwi_accept_limit *l)
{
    cwi_free(l->accepted);
    *l = (cwi_accept_limit){.listener = -1};
}

/* ---- the filter ---- */

/* Drops what comes from a closed address: of a listening socket these are attempts to connect. The IP header is behind
 * SKF_NET_OFF, where the source stands in bytes 12 to 15. */
static void set_filter(const cwi_accept_limit *l)
{
    enum { HEAD = 4, VERSION_MASK = 0xf0, VERSION_4 = 0x40, SOURCE_AT = 12 };
    const uint32_t all = UINT32_MAX, net = (uint32_t)SKF_NET_OFF;
    struct sock_filter code[HEAD + CWI_ACCEPT_SOURCES + 2] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, net),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, VERSION_MASK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, VERSION_4, 0, (uint8_t)(l->closed + 1)),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, net + SOURCE_AT),
    };
    size_t n = HEAD;
    for (size_t i = 0; i < CWI_ACCEPT_SOURCES; i++)
        if (l->sources[i].closed) {
            const uint8_t to_drop = (uint8_t)(l->closed - (n - HEAD));
            code[n++] =
                (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohl(l->sources[i].address), to_drop, 0);
        }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, all);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
    const struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
    const int ignored = 0;
    if (l->closed)
        (void)setsockopt(l->listener, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
    else
        (void)setsockopt(l->listener, SOL_SOCKET, SO_DETACH_FILTER, &ignored, sizeof ignored);
}

/* ---- buckets ---- */

static void refill(const cwi_accept_limit *l, cwi_accept_source *s, double now)
{
    s->tokens = CWI_MIN(l->burst, s->tokens + l->rate * (now - s->last));
    s->last = now;
}

/* The address's own place, or that of the fullest bucket of those that are listened to: it has waited longest. NULL:
 * there is none. */
static cwi_accept_source *source_of(cwi_accept_limit *l, uint32_t address, double now)
{
    cwi_accept_source *fullest = NULL;
    for (size_t i = 0; i < CWI_ACCEPT_SOURCES; i++) {
        cwi_accept_source *s = &l->sources[i];
        if (s->address == address)
            return s;
        refill(l, s, now);
        if (!s->closed && (!fullest || s->tokens > fullest->tokens))
            fullest = s;
    }
    if (fullest)
        *fullest = (cwi_accept_source){.address = address, .tokens = l->burst, .last = now};
    return fullest;
}

static void take_price(cwi_accept_limit *l, cwi_accept_source *s)
{
    refill(l, s, cwi_seconds());
    s->tokens -= CWI_ACCEPT_PRICE;
    if (s->closed || s->tokens >= CWI_ACCEPT_PRICE)
        return;
    s->closed = true;
    l->closed++;
    set_filter(l);
}

/* Who has left before anybody could look is taken for the one that connects most, if that is often. */
static cwi_accept_source *likely_source(cwi_accept_limit *l)
{
    cwi_accept_source *emptiest = NULL;
    for (size_t i = 0; i < CWI_ACCEPT_SOURCES; i++)
        if (l->sources[i].address && (!emptiest || l->sources[i].tokens < emptiest->tokens))
            emptiest = &l->sources[i];
    return emptiest && emptiest->tokens < l->burst / 2 ? emptiest : NULL;
}

/* ---- connections ---- */

/* False: there is no memory to keep it in mind, and it will get nothing back. */
static bool make_place(cwi_accept_limit *l, size_t descriptor)
{
    enum { FEW = 64 };
    if (descriptor < l->places)
        return true;
    const size_t places = CWI_MAX(2 * descriptor, (size_t)FEW);
    cwi_accepted *more = cwi_realloc(l->accepted, l->places * sizeof *more, places * sizeof *more);
    if (!more)
        return false;
    memset(more + l->places, 0, (places - l->places) * sizeof *more);
    l->accepted = more;
    l->places = places;
    return true;
}

/* IPv4 in network order; 0: another family, or none that is known any more. */
static uint32_t address_of(int connection, bool *left)
{
    struct sockaddr_storage from = {0};
    socklen_t size = sizeof from;
    *left = getpeername(connection, (struct sockaddr *)&from, &size) != 0;
    return from.ss_family == AF_INET ? ((struct sockaddr_in *)(void *)&from)->sin_addr.s_addr : 0;
}

void cwi_accept_limit_count(cwi_accept_limit *l, int connection)
{
    if (l->listener < 0)
        return;
    bool left;
    const double now = cwi_seconds();
    const uint32_t address = address_of(connection, &left);
    cwi_accept_source *s = left ? likely_source(l) : address ? source_of(l, address, now) : NULL;
    if (connection >= 0 && make_place(l, (size_t)connection))
        l->accepted[connection] = (cwi_accepted){.address = address, .since = now};
    if (s)
        take_price(l, s);
}

/* An address that was forgotten meanwhile has a full bucket. */
void cwi_accept_limit_gone(cwi_accept_limit *l, int connection)
{
    if (connection < 0 || (size_t)connection >= l->places)
        return;
    const cwi_accepted was = l->accepted[connection];
    l->accepted[connection] = (cwi_accepted){0};
    if (!was.address || cwi_seconds() - was.since <= l->settled)
        return;
    for (size_t i = 0; i < CWI_ACCEPT_SOURCES; i++)
        if (l->sources[i].address == was.address)
            l->sources[i].tokens = CWI_MIN(l->burst, l->sources[i].tokens + CWI_ACCEPT_PRICE - 1);
}

void cwi_accept_limit_refresh(cwi_accept_limit *l)
{
    const double now = cwi_seconds();
    const size_t before = l->closed;
    for (size_t i = 0; i < CWI_ACCEPT_SOURCES; i++) {
        cwi_accept_source *s = &l->sources[i];
        refill(l, s, now);
        if (!s->closed || s->tokens < CWI_ACCEPT_PRICE)
            continue;
        s->closed = false;
        l->closed--;
    }
    if (l->closed != before)
        set_filter(l);
}

double cwi_accept_limit_wait(const cwi_accept_limit *l)
{
    const double now = cwi_seconds();
    double soonest = 0;
    for (size_t i = 0; i < CWI_ACCEPT_SOURCES; i++) {
        const cwi_accept_source *s = &l->sources[i];
        const double wait = CWI_MAX(s->last + (CWI_ACCEPT_PRICE - s->tokens) / l->rate - now, 1e-3);
        if (s->closed && (soonest <= 0 || wait < soonest))
            soonest = wait;
    }
    return soonest;
}
