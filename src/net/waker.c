/* waker.c - see waker.h. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "net/waker.h"

cw_status cwi_waker_init(cwi_waker *w, cw_error *err)
{
    w->waiting = w->watched = false;
    if (pipe(w->pipe) < 0) {
        w->pipe[0] = w->pipe[1] = -1;
        return cwi_fail(err, CW_ERR_IO, "cannot make a pipe: %s", strerror(errno));
    }
    for (int i = 0; i < 2; i++) {
        fcntl(w->pipe[i], F_SETFL, O_NONBLOCK);
        fcntl(w->pipe[i], F_SETFD, FD_CLOEXEC);
    }
    return CW_OK;
}

void cwi_waker_destroy(cwi_waker *w)
{
    for (int i = 0; i < 2; i++)
        if (w->pipe[i] >= 0)
            close(w->pipe[i]);
    w->pipe[0] = w->pipe[1] = -1;
}

static void drain(cwi_waker *w)
{
    char bytes[64];
    while (read(w->pipe[0], bytes, sizeof bytes) > 0)
        ;
}

cw_status cwi_waker_wait(cwi_waker *w, pthread_mutex_t *mutex, double deadline)
{
    double left = deadline - cwi_seconds();
    if (left <= 0)
        return CW_ERR_TIMEOUT;
    w->waiting = true;
    pthread_mutex_unlock(mutex);
    struct pollfd fd = {.fd = w->pipe[0], .events = POLLIN};
    int ready = poll(&fd, 1, isinf(left) ? -1 : (int)CWI_MIN(ceil(left * 1e3), 1e9));
    bool interrupted = ready < 0 && errno == EINTR;
    pthread_mutex_lock(mutex);
    w->waiting = false;
    drain(w);
    return interrupted ? CW_ERR_CANCELLED : CW_OK;
}

void cwi_waker_wake(cwi_waker *w)
{
    if (!w->waiting && !w->watched)
        return;
    w->waiting = false; /* one byte is enough; in a full pipe there is one */
    ssize_t written = write(w->pipe[1], "", 1);
    (void)written;
}

int cwi_waker_watch(cwi_waker *w)
{
    w->watched = true;
    cwi_waker_wake(w); /* whatever has come before */
    return w->pipe[0];
}

void cwi_waker_rest(cwi_waker *w)
{
    if (w->watched)
        drain(w);
}
