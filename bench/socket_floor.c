/* socket_floor.c - what the frames of many clients cost a server in the kernel alone: no protocol, no codec, no engine.
 *
 *     socket_floor [PEERS [STEPS [SMALL [LARGE]]]]
 *
 * A server of one thread, epoll and non-blocking sockets, and a process that has all peers. A step is that of
 * docs/ARCHITECTURE.md: each peer sends SMALL bytes (an activation) and gets as many (a gradient), then sends LARGE
 * bytes (its gradients). When all have come each gets LARGE bytes (the update), and sends its next activation. Prints
 * processor microseconds of the server's thread for each peer and step.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 64 };

typedef struct end {
    int fd;
    size_t have, left; /* of the frame that comes, of that which goes */
    bool large;        /* the frame that comes */
} end;

typedef struct side {
    int epoll;
    end *ends;
    size_t count, small, large, came;
    char *in, *out;
} side;

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void *memory(size_t count, size_t size)
{
    void *p = calloc(count, size);
    if (!p)
        fail("memory");
    return p;
}

static side make_side(size_t count, size_t small, size_t large)
{
    side s = {.epoll = epoll_create1(0), .count = count, .small = small, .large = large};
    s.ends = memory(count, sizeof *s.ends);
    s.in = memory(small + large, 1);
    s.out = memory(small + large, 1);
    return s;
}

static void watch(side *s, size_t i, int fd)
{
    const int yes = 1;
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = i};
    s->ends[i] = (end){.fd = fd};
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) < 0 ||
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e) < 0)
        fail("a connection");
}

/* As much as goes; the rest when there is room. */
static void send_rest(const side *s, end *e, size_t i)
{
    const ssize_t sent = send(e->fd, s->out, e->left, MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN)
        fail("sending");
    e->left -= sent > 0 ? (size_t)sent : 0;
    struct epoll_event more = {.events = EPOLLIN | (e->left ? EPOLLOUT : 0), .data.u64 = i};
    if ((e->left || sent < 0) && epoll_ctl(s->epoll, EPOLL_CTL_MOD, e->fd, &more) < 0)
        fail("waiting");
}

static void begin_frame(const side *s, size_t i, size_t size)
{
    s->ends[i].left = size;
    send_rest(s, &s->ends[i], i);
}

/* True: a whole frame has come. */
static bool take(const side *s, end *e)
{
    const size_t size = e->large ? s->large : s->small;
    const ssize_t got = recv(e->fd, s->in, size - e->have, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN))
        fail("receiving");
    e->have += got > 0 ? (size_t)got : 0;
    if (e->have < size)
        return false;
    e->have = 0;
    e->large = !e->large;
    return true;
}

/* What a whole frame is answered by. */
static void answer(side *s, bool server, size_t i)
{
    if (!server) /* a gradient by gradients, an update by the next activation */
        begin_frame(s, i, s->ends[i].large ? s->large : s->small);
    else if (s->ends[i].large)
        begin_frame(s, i, s->small);
    else if (++s->came % s->count == 0)
        for (size_t k = 0; k < s->count; k++)
            begin_frame(s, k, s->large);
}

static void work(side *s, bool server, size_t frames)
{
    struct epoll_event events[EVENTS];
    while (s->came < frames) {
        const int n = epoll_wait(s->epoll, events, EVENTS, -1);
        for (int k = 0; k < n; k++) {
            const size_t i = events[k].data.u64;
            end *e = &s->ends[i];
            if (events[k].events & EPOLLOUT)
                begin_frame(s, i, e->left);
            if (events[k].events & EPOLLIN && take(s, e))
                answer(s, server, i);
        }
    }
}

static void be_peers(side s, const struct sockaddr_in *at)
{
    for (size_t i = 0; i < s.count; i++) {
        watch(&s, i, socket(AF_INET, SOCK_STREAM, 0));
        if (connect(s.ends[i].fd, (const struct sockaddr *)at, sizeof *at) < 0)
            fail("connecting");
    }
    for (size_t i = 0; i < s.count; i++)
        begin_frame(&s, i, s.small);
    work(&s, false, 1); /* until it is killed */
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t argument(int argc, char **argv, int i, size_t otherwise)
{
    const size_t given = argc > i ? strtoul(argv[i], NULL, 10) : otherwise;
    if (!given)
        fail("usage: socket_floor [PEERS [STEPS [SMALL [LARGE]]]]");
    return given;
}

int main(int argc, char **argv)
{
    const size_t peers = argument(argc, argv, 1, 500), steps = argument(argc, argv, 2, 20);
    side s = make_side(peers, argument(argc, argv, 3, 1100), argument(argc, argv, 4, 17500));
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 1024) < 0 ||
        getsockname(listener, (struct sockaddr *)&at, &size) < 0)
        fail("listening");
    const pid_t child = fork();
    if (child < 0)
        fail("a process");
    if (child == 0) {
        close(listener);
        be_peers(make_side(peers, s.small, s.large), &at);
        _exit(1);
    }
    for (size_t i = 0; i < peers; i++)
        watch(&s, i, accept(listener, NULL, NULL));
    work(&s, true, peers); /* one step beforehand */
    const double before = cpu_seconds();
    work(&s, true, peers * (1 + steps));
    printf("step_us %.1f\n", 1e6 * (cpu_seconds() - before) / (double)peers / (double)steps);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}
