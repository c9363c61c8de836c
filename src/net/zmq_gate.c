/* zmq_gate.c - see zmq_gate.h. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "net/accept_limit.h"
#include "net/zmq_gate.h"

static const char EVENTS[] = "inproc://events";

/* Of the limit of open files a quarter is kept free, within these bounds: for what a run opens, and for what ZeroMQ has
 * accepted before this thread sees it. */
enum { RESERVE_MIN = 8, RESERVE_MAX = 256, OWN_FILES = 4 };

struct cwi_gate {
    pthread_t thread;
    void *socket;
    uint32_t end;       /* connections have descriptors below it; 0: any */
    size_t most, count; /* connections at once; 0: any number */
    atomic_uint ended;
    double settled; /* seconds */
    cwi_accept_limit limit;
};

/* Of one address: as many connections as a configuration has clients at once, then so many tokens a second. */
static const double BURST = 4096, RATE = 4;

/* The first descriptor that connections do not get, and about how many they get; 0: there is no limit. */
static cw_status find_end(uint32_t *end, size_t *capacity, cw_error *err)
{
    struct rlimit limit;
    *end = 0;
    *capacity = 0;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > UINT32_MAX)
        return CW_OK;
    const uint32_t files = (uint32_t)limit.rlim_cur;
    const uint32_t reserve = CWI_MIN(CWI_MAX(files / 4, (uint32_t)RESERVE_MIN), (uint32_t)RESERVE_MAX);
    const int used = dup(STDERR_FILENO); /* the lowest that is free */
    if (used >= 0)
        close(used);
    *end = files - CWI_MIN(files, reserve);
    if (used < 0 || *end <= (uint32_t)used + OWN_FILES)
        return cwi_fail(err, CW_ERR_IO,
                        "the limit of open files, %u, leaves no room for connections: raise it (ulimit -n)", files);
    *capacity = *end - (uint32_t)used - OWN_FILES;
    return CW_OK;
}

/* False when the context is being terminated. An event is two parts: number and value, and the endpoint. Number 0: none
 * came in a while. */
static bool next_event(void *socket, uint16_t *event, uint32_t *descriptor)
{
    uint8_t head[6] = {0};
    char endpoint[8];
    int got;
    do
        got = zmq_recv(socket, head, sizeof head, 0);
    while (got < 0 && errno == EINTR);
    *event = 0;
    if (got < 0 && errno == EAGAIN)
        return true;
    memcpy(event, head, 2); /* in the machine's own byte order */
    memcpy(descriptor, head + 2, 4);
    if (got < 0)
        return false;
    do
        got = zmq_recv(socket, endpoint, sizeof endpoint, 0);
    while (got < 0 && errno == EINTR);
    return got >= 0;
}

static void take(cwi_gate *g, int connection)
{
    cwi_accept_limit_count(&g->limit, connection);
    g->count++;
    if ((g->end && (uint32_t)connection >= g->end) || (g->most && g->count > g->most))
        shutdown(connection, SHUT_RDWR); /* ZeroMQ closes it; of what is no socket any more this is refused */
}

/* ZeroMQ 4.3.4 tells so of each connection, also of those whose handshake fails or takes too long. */
static void let_go(cwi_gate *g, int connection)
{
    cwi_accept_limit_gone(&g->limit, connection);
    g->count -= g->count > 0;
    atomic_fetch_add(&g->ended, 1);
}

/* When an address is to be listened to again. */
static void set_alarm(cwi_gate *g)
{
    enum { OFTEN_MS = 100, SELDOM_MS = 60000 };
    const int ms = (int)CWI_MIN(1e3 * cwi_accept_limit_wait(&g->limit), SELDOM_MS);
    const int wait = g->limit.closed ? CWI_MAX(ms, (int)OFTEN_MS) : -1;
    (void)zmq_setsockopt(g->socket, ZMQ_RCVTIMEO, &wait, sizeof wait);
}

static void *watch(void *arg)
{
    cwi_gate *g = arg;
    uint16_t event;
    uint32_t descriptor;
    cwi_accept_limit_begin(&g->limit, BURST, RATE, g->settled);
    while (next_event(g->socket, &event, &descriptor)) {
        const bool limited = g->limit.closed > 0;
        if (limited)
            cwi_accept_limit_refresh(&g->limit);
        if (event == ZMQ_EVENT_LISTENING)
            g->limit.listener = (int)descriptor;
        else if (event == ZMQ_EVENT_DISCONNECTED)
            let_go(g, (int)descriptor);
        else if (event == ZMQ_EVENT_ACCEPTED)
            take(g, (int)descriptor);
        if (limited || g->limit.closed)
            set_alarm(g);
    }
    cwi_accept_limit_end(&g->limit);
    zmq_close(g->socket);
    return NULL;
}

static cw_status start_thread(cwi_gate *g, void *context, void *socket, cw_error *err)
{
    int none = 0;
    bool ok =
        zmq_socket_monitor(socket, EVENTS, ZMQ_EVENT_LISTENING | ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED) == 0;
    g->socket = ok ? zmq_socket(context, ZMQ_PAIR) : NULL;
    /* Without a limit to its queue, or ZeroMQ's thread would wait for this one. */
    ok = g->socket && zmq_setsockopt(g->socket, ZMQ_LINGER, &none, sizeof none) == 0 &&
         zmq_setsockopt(g->socket, ZMQ_RCVHWM, &none, sizeof none) == 0 && zmq_connect(g->socket, EVENTS) == 0;
    if (!ok)
        return cwi_fail(err, CW_ERR_BACKEND, "ZeroMQ refuses to be watched: %s", zmq_strerror(errno));
    int failure = pthread_create(&g->thread, NULL, watch, g);
    return failure ? cwi_fail(err, CW_ERR_IO, "cannot start a thread: %s", strerror(failure)) : CW_OK;
}

cw_status cwi_gate_start(void *context, void *socket, size_t most, double settled, cwi_gate **out, size_t *capacity,
                         cw_error *err)
{
    uint32_t end;
    *out = NULL;
    CWI_TRY(find_end(&end, capacity, err));
    cwi_gate *g = cwi_calloc(1, sizeof *g);
    if (!g)
        return cwi_fail_memory(err, sizeof *g);
    g->end = end;
    g->most = most;
    g->settled = settled;
    if (most && (!*capacity || most < *capacity))
        *capacity = most;
    cw_status status = start_thread(g, context, socket, err);
    if (status != CW_OK) {
        if (g->socket)
            zmq_close(g->socket);
        cwi_free(g);
        return status;
    }
    *out = g;
    return CW_OK;
}

uint32_t cwi_gate_ended(const cwi_gate *gate)
{
    return gate ? atomic_load(&gate->ended) : 0;
}

void cwi_gate_join(cwi_gate *gate)
{
    if (!gate)
        return;
    pthread_join(gate->thread, NULL);
    cwi_free(gate);
}
