/* inproc_transport.c - frames within a process, over queues in memory.
 *
 * A hub is one server's endpoint: a list of links, one for each client, with a queue each way. All of a hub is guarded
 * by its mutex; the registry of hubs by its own. A hub lives until its server and all its clients have closed it. */
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "net/transport.h"
#include "net/waker.h"

typedef struct parcel {
    struct parcel *next;
    size_t size;
} parcel;

/* The frame's bytes follow the parcel at the allocator's alignment. */
enum { PARCEL_HEADER = 64 };

typedef struct queue {
    parcel *first, *last;
    uint64_t bytes;
} queue;

typedef struct link {
    struct link *next;
    cw_peer name;
    queue up, down;          /* to the server, to the client */
    uint64_t received, sent; /* by the server: bytes of frames */
    bool open;               /* the client has not closed it */
    bool dropped;            /* by either end: nothing new goes in */
    uint32_t client_max_frame;
    cwi_waker client;
} link;

typedef struct hub {
    struct hub *next; /* in the registry */
    pthread_mutex_t mutex;
    char *name;
    unsigned users; /* the server and the clients that hold it */
    bool open;      /* the server has not closed it */
    uint32_t server_max_frame;
    cw_peer last_name;
    link *links; /* whoever was served last stands at the end */
    cwi_waker server;
} hub;

typedef struct inproc_transport {
    cw_transport base;
    hub *hub;
    link *link; /* a client's */
} inproc_transport;

static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static hub *registry;

static inproc_transport *self(cw_transport *t)
{
    return (inproc_transport *)(void *)t;
}

/* ---- queues ---- */

static void push(queue *q, parcel *p)
{
    p->next = NULL;
    if (q->last)
        q->last->next = p;
    else
        q->first = p;
    q->last = p;
    q->bytes += p->size + PARCEL_HEADER;
}

static parcel *pop(queue *q)
{
    parcel *p = q->first;
    if (!p)
        return NULL;
    q->first = p->next;
    if (!q->first)
        q->last = NULL;
    q->bytes -= p->size + PARCEL_HEADER;
    return p;
}

static void clear(queue *q)
{
    for (parcel *p; (p = pop(q));)
        cwi_free(p);
}

/* A lone frame always fits. */
static bool has_room(const queue *q, size_t size, uint64_t limit)
{
    return !q->first || q->bytes + size + PARCEL_HEADER <= limit;
}

/* ---- links and hubs; with the hub's mutex held unless said otherwise ---- */

static link *find_link(hub *h, cw_peer name)
{
    for (link *l = h->links; l; l = l->next)
        if (l->name == name)
            return l;
    return NULL;
}

static void append_link(hub *h, link *l)
{
    link **at = &h->links;
    while (*at)
        at = &(*at)->next;
    l->next = NULL;
    *at = l;
}

static void unlink_link(hub *h, link *l)
{
    link **at = &h->links;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
}

static void free_link(link *l)
{
    clear(&l->up);
    clear(&l->down);
    cwi_waker_destroy(&l->client);
    cwi_free(l);
}

/* Forgets clients that have closed, once the server has read what they sent. */
static void reap(hub *h)
{
    link *next;
    for (link *l = h->links; l; l = next) {
        next = l->next;
        if (!l->open && (!l->up.first || !h->open)) {
            unlink_link(h, l);
            free_link(l);
        }
    }
}

/* Without the mutex; nobody else may hold the hub. */
static void free_hub(hub *h)
{
    for (link *l; (l = h->links);) {
        h->links = l->next;
        free_link(l);
    }
    cwi_waker_destroy(&h->server);
    pthread_mutex_destroy(&h->mutex);
    cwi_free(h->name);
    cwi_free(h);
}

/* ---- send and receive ---- */

static cw_status check_link(const inproc_transport *t, const link *l, cw_error *err)
{
    if (l && !l->dropped && l->open && t->hub->open)
        return CW_OK;
    return cwi_fail(err, CW_ERR_CLOSED, "%s: %s", t->base.endpoint,
                    t->base.is_server ? "this client is unknown, gone, or was dropped"
                                      : "the server is gone or has dropped us");
}

/* A client's: until the queue has room. CW_ERR_TIMEOUT, CW_ERR_CLOSED. */
static cw_status wait_for_room(inproc_transport *t, size_t size, cw_error *err)
{
    hub *h = t->hub;
    const cw_net_options receiver = {.max_frame = h->server_max_frame};
    int timeout = t->base.options.send_timeout_ms;
    double deadline = timeout < 0 ? (double)INFINITY : cwi_seconds() + timeout / 1e3;
    for (;;) {
        CWI_TRY(check_link(t, t->link, err));
        if (has_room(&t->link->up, size, cwi_queue_limit(&receiver)))
            return CW_OK;
        if (cwi_waker_wait(&t->link->client, &h->mutex, deadline) == CW_ERR_TIMEOUT)
            return cwi_fail(err, CW_ERR_TIMEOUT, "%s: nobody took the frame for %.1f seconds", t->base.endpoint,
                            timeout / 1e3);
    }
}

/* A server's: it does not wait for a client that does not read, but drops it. CW_ERR_TIMEOUT, CW_ERR_CLOSED. */
static cw_status find_room(inproc_transport *t, link *l, size_t size, cw_error *err)
{
    CWI_TRY(check_link(t, l, err));
    if (has_room(&l->down, size, t->base.queue_limit))
        return CW_OK;
    l->dropped = true;
    cwi_waker_wake(&l->client);
    return cwi_fail_overflow(&t->base, l->down.bytes + size + PARCEL_HEADER, err);
}

/* With the mutex held: gives the parcel to the receiver, or drops the link for a frame that is too large for it. */
static bool deliver(inproc_transport *t, link *l, parcel *p)
{
    hub *h = t->hub;
    bool server = t->base.is_server;
    cwi_waker_wake(server ? &l->client : &h->server);
    if (p->size > (server ? l->client_max_frame : h->server_max_frame)) {
        l->dropped = true;
        return false;
    }
    push(server ? &l->down : &l->up, p);
    return true;
}

static cw_status inproc_send(cw_transport *base, cw_peer name, const void *bytes, size_t size, cw_error *err)
{
    inproc_transport *t = self(base);
    size_t total;
    parcel *p = cwi_add_size(size, PARCEL_HEADER, &total) ? cwi_alloc(total, 1) : NULL;
    if (!p)
        return cwi_fail_memory(err, size);
    p->size = size;
    if (size)
        memcpy((uint8_t *)p + PARCEL_HEADER, bytes, size);
    pthread_mutex_lock(&t->hub->mutex);
    link *l = base->is_server ? find_link(t->hub, name) : t->link;
    cw_status status = base->is_server ? find_room(t, l, size, err) : wait_for_room(t, size, err);
    bool delivered = status == CW_OK && deliver(t, l, p);
    if (delivered && base->is_server)
        l->sent += size;
    pthread_mutex_unlock(&t->hub->mutex);
    if (!delivered)
        cwi_free(p);
    if (status == CW_OK) {
        base->stats.frames_sent++;
        base->stats.bytes_sent += size;
    }
    return status;
}

/* With the mutex held: the next parcel for a server, each client in turn. */
static parcel *take_for_server(hub *h, cw_peer *name)
{
    for (link *l = h->links; l; l = l->next) {
        parcel *p = pop(&l->up);
        if (!p)
            continue;
        *name = l->name;
        l->received += p->size;
        unlink_link(h, l);
        append_link(h, l);
        cwi_waker_wake(&l->client);
        reap(h);
        return p;
    }
    return NULL;
}

static parcel *take_for_client(inproc_transport *t, cw_peer *name)
{
    parcel *p = pop(&t->link->down);
    *name = t->link->name;
    if (p)
        cwi_waker_wake(&t->hub->server);
    return p;
}

/* With the mutex held. */
static cw_status wait_for_parcel(inproc_transport *t, int timeout_ms, parcel **p, cw_peer *name, cw_error *err)
{
    hub *h = t->hub;
    bool server = t->base.is_server;
    double deadline = timeout_ms < 0 ? (double)INFINITY : cwi_seconds() + timeout_ms / 1e3;
    for (;;) {
        *p = server ? take_for_server(h, name) : take_for_client(t, name);
        if (*p)
            return CW_OK;
        if (!server && (t->link->dropped || !h->open))
            return cwi_fail(err, CW_ERR_CLOSED, "%s: the server is gone or has dropped us", t->base.endpoint);
        cwi_waker_rest(server ? &h->server : &t->link->client);
        cw_status status = cwi_waker_wait(server ? &h->server : &t->link->client, &h->mutex, deadline);
        if (status == CW_ERR_TIMEOUT)
            return cwi_fail(err, status, "%s: nothing arrived for %.1f seconds", t->base.endpoint, timeout_ms / 1e3);
        if (status != CW_OK)
            return cwi_fail(err, status, "%s: interrupted while waiting", t->base.endpoint);
    }
}

static cw_status inproc_recv(cw_transport *base, int timeout_ms, cw_frame *out, cw_error *err)
{
    inproc_transport *t = self(base);
    parcel *p;
    cw_peer name;
    pthread_mutex_lock(&t->hub->mutex);
    cw_status status = wait_for_parcel(t, timeout_ms, &p, &name, err);
    pthread_mutex_unlock(&t->hub->mutex);
    CWI_TRY(status);
    *out = (cw_frame){.peer = name, .bytes = (uint8_t *)p + PARCEL_HEADER, .size = p->size, .owner = p};
    base->stats.frames_received++;
    base->stats.bytes_received += p->size;
    return CW_OK;
}

/* What was sent before still arrives: an ERROR message goes ahead of the drop. */
static void inproc_drop(cw_transport *base, cw_peer name)
{
    inproc_transport *t = self(base);
    pthread_mutex_lock(&t->hub->mutex);
    link *l = base->is_server ? find_link(t->hub, name) : t->link;
    if (l) {
        l->dropped = true;
        clear(base->is_server ? &l->up : &l->down);
        cwi_waker_wake(base->is_server ? &l->client : &t->hub->server);
    }
    pthread_mutex_unlock(&t->hub->mutex);
}

static bool inproc_about(cw_transport *base, cw_peer name, cwi_peer_about *about)
{
    inproc_transport *t = self(base);
    pthread_mutex_lock(&t->hub->mutex);
    const link *l = base->is_server ? find_link(t->hub, name) : NULL;
    if (l)
        *about = (cwi_peer_about){.received = l->received, .sent = l->sent};
    pthread_mutex_unlock(&t->hub->mutex);
    return l != NULL;
}

/* ---- open and close ---- */

static void unregister(hub *h)
{
    pthread_mutex_lock(&registry_mutex);
    for (hub **at = &registry; *at; at = &(*at)->next)
        if (*at == h) {
            *at = h->next;
            break;
        }
    pthread_mutex_unlock(&registry_mutex);
}

static void inproc_close(cw_transport *base, int linger_ms)
{
    (void)linger_ms; /* sent frames lie with the receiver already */
    inproc_transport *t = self(base);
    hub *h = t->hub;
    if (h) {
        if (base->is_server)
            unregister(h);
        pthread_mutex_lock(&h->mutex);
        if (base->is_server)
            h->open = false;
        else if (t->link)
            t->link->open = false;
        for (link *l = h->links; base->is_server && l; l = l->next)
            cwi_waker_wake(&l->client);
        cwi_waker_wake(&h->server);
        reap(h);
        bool last = --h->users == 0;
        pthread_mutex_unlock(&h->mutex);
        if (last)
            free_hub(h);
    }
    cwi_free(t);
}

static int inproc_poll_fd(cw_transport *base)
{
    inproc_transport *t = self(base);
    pthread_mutex_lock(&t->hub->mutex);
    const int fd = cwi_waker_watch(base->is_server ? &t->hub->server : &t->link->client);
    pthread_mutex_unlock(&t->hub->mutex);
    return fd;
}

static const cwi_transport_ops inproc_ops = {
    .send = inproc_send,
    .recv = inproc_recv,
    .drop = inproc_drop,
    .poll_fd = inproc_poll_fd,
    .close = inproc_close,
    .about = inproc_about,
};

static hub *find_hub(const char *name)
{
    for (hub *h = registry; h; h = h->next)
        if (!strcmp(h->name, name))
            return h;
    return NULL;
}

static cw_status create_hub(inproc_transport *t, cw_error *err)
{
    hub *h = cwi_calloc(1, sizeof *h);
    if (!h)
        return cwi_fail_memory(err, sizeof *h);
    cw_status status = cwi_waker_init(&h->server, err);
    h->name = cwi_strdup(t->base.endpoint);
    if (status == CW_OK && !h->name)
        status = cwi_fail_memory(err, strlen(t->base.endpoint));
    pthread_mutex_init(&h->mutex, NULL);
    if (status != CW_OK) {
        free_hub(h);
        return status;
    }
    h->open = true;
    h->users = 1;
    h->server_max_frame = t->base.options.max_frame;
    pthread_mutex_lock(&registry_mutex);
    bool taken = find_hub(h->name);
    if (!taken) {
        h->next = registry;
        registry = h;
    }
    pthread_mutex_unlock(&registry_mutex);
    if (taken) {
        free_hub(h);
        return cwi_fail(err, CW_ERR_IO, "cannot listen on %s: another server of this process listens there",
                        t->base.endpoint);
    }
    t->hub = h;
    return CW_OK;
}

static cw_status join_hub(inproc_transport *t, cw_error *err)
{
    link *l = cwi_calloc(1, sizeof *l);
    if (!l)
        return cwi_fail_memory(err, sizeof *l);
    cw_status status = cwi_waker_init(&l->client, err);
    if (status != CW_OK) {
        free_link(l);
        return status;
    }
    l->open = true;
    l->client_max_frame = t->base.options.max_frame;
    pthread_mutex_lock(&registry_mutex); /* while it is held, no server leaves the registry */
    hub *h = find_hub(t->base.endpoint);
    if (h) {
        pthread_mutex_lock(&h->mutex);
        l->name = ++h->last_name;
        append_link(h, l);
        h->users++;
        pthread_mutex_unlock(&h->mutex);
        t->hub = h;
        t->link = l;
    }
    pthread_mutex_unlock(&registry_mutex);
    if (h)
        return CW_OK;
    free_link(l);
    return cwi_fail(err, CW_ERR_NOT_FOUND, "no server of this process listens on %s", t->base.endpoint);
}

static cw_status open_inproc(const char *endpoint, const cw_net_options *options, bool listen, cw_transport **out,
                             cw_error *err)
{
    if (strlen(endpoint) <= strlen("inproc://") || strlen(endpoint) > 200)
        return cwi_fail(err, CW_ERR_INVALID, "endpoint \"%.200s\": give inproc:// a name of 1 to 190 characters",
                        endpoint);
    inproc_transport *t = cwi_calloc(1, sizeof *t);
    if (!t)
        return cwi_fail_memory(err, sizeof *t);
    t->base.ops = &inproc_ops;
    t->base.options = *options;
    t->base.is_server = listen;
    t->base.queue_limit = cwi_queue_limit(options);
    t->base.endpoint = cwi_strdup(endpoint);
    *out = &t->base;
    cw_status status =
        t->base.endpoint ? listen ? create_hub(t, err) : join_hub(t, err) : cwi_fail_memory(err, strlen(endpoint));
    if (status != CW_OK)
        cw_transport_close(out, 0);
    return status;
}

const cwi_transport_kind cwi_transport_inproc = {.scheme = "inproc://", .form = "inproc://NAME", .open = open_inproc};
