/* zmq_context.c - see zmq_context.h. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <zmq.h>

#include "base/base.h"
#include "net/zmq_context.h"

/* Beyond what sockets linger. */
static const double patience_seconds = 3;

typedef struct ending {
    void *context;
    atomic_int owners; /* the thread, and whoever waits for it; the last one frees */
    atomic_bool over;
} ending;

static void leave(ending *e)
{
    if (atomic_fetch_sub(&e->owners, 1) == 1)
        cwi_free(e);
}

static void end_now(void *context)
{
    while (zmq_ctx_term(context) < 0 && errno == EINTR)
        ;
}

static void *end_in_thread(void *arg)
{
    ending *e = arg;
    end_now(e->context);
    atomic_store(&e->over, true);
    leave(e);
    return NULL;
}

static void wait_for(const ending *e, double seconds)
{
    const struct timespec moment = {.tv_nsec = 200000};
    const double deadline = cwi_seconds() + seconds;
    while (!atomic_load(&e->over) && cwi_seconds() < deadline)
        nanosleep(&moment, NULL);
}

void cwi_zmq_context_end(void *context, int linger_ms)
{
    pthread_t thread;
    if (!context)
        return;
    ending *e = cwi_calloc(1, sizeof *e);
    if (!e) {
        end_now(context);
        return;
    }
    e->context = context;
    atomic_init(&e->owners, 2);
    (void)zmq_ctx_shutdown(context); /* other threads' sockets end now */
    if (pthread_create(&thread, NULL, end_in_thread, e) != 0) {
        end_now(context);
        cwi_free(e);
        return;
    }
    pthread_detach(thread);
    wait_for(e, linger_ms / 1e3 + patience_seconds);
    leave(e);
}
