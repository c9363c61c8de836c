/* tcp_proxy.c - one thread polls all connections every few milliseconds. */
#include "tcp_proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"

enum { PAIRS = 64, TICK_MS = 2, PIECE = 16384 };

typedef enum command { NOTHING, CUT, CUT_CLIENTS } command;

typedef struct pair {
    int client, server; /* -1: closed */
} pair;

struct tcp_proxy {
    char endpoint[64];
    int target_port, listener;
    pthread_t thread;
    atomic_bool stop, silent, saw_runs;
    atomic_int rate, accepted, command;
    atomic_ullong up, down;
    double budget_up, budget_down, refilled; /* bytes that may pass now, when there is a rate */
    pair pairs[PAIRS];
    size_t pair_count;
};

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    a.sin_port = htons((uint16_t)port);
    return a;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void accept_one(tcp_proxy *p)
{
    int client = accept(p->listener, NULL, NULL);
    if (client < 0 || p->pair_count == PAIRS) {
        close_fd(&client);
        return;
    }
    int server = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in address = loopback(p->target_port);
    if (connect(server, (struct sockaddr *)&address, sizeof address) < 0) {
        close(client);
        close(server);
        return;
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    p->pairs[p->pair_count++] = (pair){client, server};
    p->accepted++;
}

static bool has_run(const char *bytes, ssize_t size)
{
    for (ssize_t i = 1, run = 1; i < size; i++) {
        run = bytes[i] == bytes[i - 1] ? run + 1 : 1;
        if (run == 16)
            return true;
    }
    return false;
}

/* Moves what is there, within the budget; false when the connection has ended. */
static bool pass(tcp_proxy *p, int from, int to, double *budget, atomic_ullong *count)
{
    char bytes[PIECE];
    size_t want = sizeof bytes;
    if (p->rate && *budget < (double)want)
        want = *budget > 0 ? (size_t)*budget : 0;
    if (!want)
        return true;
    ssize_t got = recv(from, bytes, want, MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK;
    *budget -= (double)got;
    *count += (unsigned long long)got; /* before it is passed on, so that whoever receives it finds it counted */
    if (has_run(bytes, got))
        p->saw_runs = true;
    for (ssize_t done = 0; done < got;) {
        ssize_t sent = send(to, bytes + done, (size_t)(got - done), MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        done += sent;
    }
    return got > 0;
}

static void obey(tcp_proxy *p)
{
    int asked = atomic_exchange(&p->command, NOTHING);
    for (size_t i = 0; asked != NOTHING && i < p->pair_count; i++) {
        close_fd(&p->pairs[i].client);
        if (asked == CUT)
            close_fd(&p->pairs[i].server);
    }
}

static void refill(tcp_proxy *p)
{
    double now = cwi_seconds(), earned = (now - p->refilled) * p->rate;
    p->refilled = now;
    p->budget_up = CWI_MIN(p->budget_up + earned, (double)PIECE);
    p->budget_down = CWI_MIN(p->budget_down + earned, (double)PIECE);
}

static void *run(void *arg)
{
    tcp_proxy *p = arg;
    while (!p->stop) {
        struct pollfd fds[1 + 2 * PAIRS] = {{.fd = p->listener, .events = POLLIN}};
        size_t n = 1;
        bool wait_for_data = !p->rate && !p->silent;
        for (size_t i = 0; wait_for_data && i < p->pair_count; i++)
            if (p->pairs[i].client >= 0 && p->pairs[i].server >= 0) {
                fds[n++] = (struct pollfd){.fd = p->pairs[i].client, .events = POLLIN};
                fds[n++] = (struct pollfd){.fd = p->pairs[i].server, .events = POLLIN};
            }
        poll(fds, n, TICK_MS);
        if (fds[0].revents)
            accept_one(p);
        refill(p);
        for (size_t i = 0; !p->silent && i < p->pair_count; i++) {
            pair *c = &p->pairs[i];
            if (c->client < 0 || c->server < 0)
                continue;
            if (!pass(p, c->client, c->server, &p->budget_up, &p->up) ||
                !pass(p, c->server, c->client, &p->budget_down, &p->down)) {
                close_fd(&c->client);
                close_fd(&c->server);
            }
        }
        obey(p);
    }
    return NULL;
}

tcp_proxy *tcp_proxy_start(const char *endpoint)
{
    tcp_proxy *p = calloc(1, sizeof *p);
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    int small = 32768; /* so that the sender feels the rate */
    p->target_port = atoi(strrchr(endpoint, ':') + 1);
    p->listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(p->listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    p->refilled = cwi_seconds();
    if (bind(p->listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(p->listener, PAIRS) < 0 ||
        getsockname(p->listener, (struct sockaddr *)&address, &size) < 0 ||
        pthread_create(&p->thread, NULL, run, p) != 0) {
        close_fd(&p->listener);
        free(p);
        return NULL;
    }
    snprintf(p->endpoint, sizeof p->endpoint, "tcp://127.0.0.1:%d", ntohs(address.sin_port));
    return p;
}

void tcp_proxy_stop(tcp_proxy *p)
{
    p->stop = true;
    pthread_join(p->thread, NULL);
    for (size_t i = 0; i < p->pair_count; i++) {
        close_fd(&p->pairs[i].client);
        close_fd(&p->pairs[i].server);
    }
    close_fd(&p->listener);
    free(p);
}

const char *tcp_proxy_endpoint(const tcp_proxy *p)
{
    return p->endpoint;
}

uint64_t tcp_proxy_up(tcp_proxy *p)
{
    return p->up;
}

uint64_t tcp_proxy_down(tcp_proxy *p)
{
    return p->down;
}

int tcp_proxy_accepted(tcp_proxy *p)
{
    return p->accepted;
}

bool tcp_proxy_saw_runs(tcp_proxy *p)
{
    return p->saw_runs;
}

void tcp_proxy_forget_runs(tcp_proxy *p)
{
    p->saw_runs = false;
}

void tcp_proxy_set_rate(tcp_proxy *p, int bytes_per_second)
{
    p->rate = bytes_per_second;
}

void tcp_proxy_set_silent(tcp_proxy *p, bool silent)
{
    p->silent = silent;
}

static void command_proxy(tcp_proxy *p, command c)
{
    p->command = c;
    while (p->command != NOTHING)
        poll(NULL, 0, 1);
}

void tcp_proxy_cut(tcp_proxy *p)
{
    command_proxy(p, CUT);
}

void tcp_proxy_cut_clients(tcp_proxy *p)
{
    command_proxy(p, CUT_CLIENTS);
}
