/* waker.h - a thread waits until another wakes it, a signal comes, or time is up. Internal.
 *
 * A pipe and poll, since a condition variable does not return when a signal arrives. The pipe is touched only when
 * someone waits, so that pumping frames within one thread makes no system call. */
#ifndef CWI_WAKER_H
#define CWI_WAKER_H

#include <pthread.h>

#include "base/base.h"

typedef struct cwi_waker {
    int pipe[2];  /* read, write */
    bool waiting; /* guarded by the mutex given to wait */
    bool watched; /* somebody polls the pipe on his own: likewise */
} cwi_waker;

cw_status cwi_waker_init(cwi_waker *w, cw_error *err);
void cwi_waker_destroy(cwi_waker *w);

/* With `mutex` held, which is released during the wait. May also return early for no reason. `deadline` is of
 * cwi_seconds, infinite: none. CW_ERR_TIMEOUT, CW_ERR_CANCELLED (a signal). */
cw_status cwi_waker_wait(cwi_waker *w, pthread_mutex_t *mutex, double deadline);
/* With the same mutex held, as below. */
void cwi_waker_wake(cwi_waker *w);
/* A descriptor that is readable from each wake until rest. */
int cwi_waker_watch(cwi_waker *w);
void cwi_waker_rest(cwi_waker *w);

#endif
