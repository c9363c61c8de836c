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
    w->waiting = false;
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
    char byte;
    while (read(w->pipe[0], &byte, 1) > 0)
        ;
    return interrupted ? CW_ERR_CANCELLED : CW_OK;
}

void cwi_waker_wake(cwi_waker *w)
{
    if (!w->waiting)
        return;
    w->waiting = false; /* one byte is enough */
    /* The pipe cannot be full: at most one byte is written for each wait, which reads it. */
    ssize_t written = write(w->pipe[1], "", 1);
    (void)written;
}
