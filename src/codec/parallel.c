/* parallel.c - the same task for many indices, by several threads. */
#include <pthread.h>
#include <stdatomic.h>

#include "codec/codec_impl.h"

typedef struct team {
    cwi_task *task;
    void *ctx;
    size_t count;
    atomic_size_t next;
} team;

typedef struct member {
    team *team;
    unsigned worker;
    pthread_t thread;
} member;

static void *work(void *arg)
{
    member *m = arg;
    for (;;) {
        size_t index = atomic_fetch_add(&m->team->next, 1);
        if (index >= m->team->count)
            return NULL;
        m->team->task(m->team->ctx, m->worker, index);
    }
}

void cwi_parallel(unsigned threads, size_t count, cwi_task *task, void *ctx)
{
    if (threads > count)
        threads = (unsigned)count;
    if (threads <= 1) {
        for (size_t i = 0; i < count; i++)
            task(ctx, 0, i);
        return;
    }
    if (threads > CWI_MAX_THREADS)
        threads = CWI_MAX_THREADS;
    team t = {.task = task, .ctx = ctx, .count = count, .next = 0};
    member members[CWI_MAX_THREADS];
    unsigned started = 1;
    for (; started < threads; started++) {
        members[started] = (member){.team = &t, .worker = started};
        if (pthread_create(&members[started].thread, NULL, work, &members[started]) != 0)
            break;
    }
    members[0] = (member){.team = &t, .worker = 0};
    work(&members[0]);
    for (unsigned i = 1; i < started; i++)
        pthread_join(members[i].thread, NULL);
}
