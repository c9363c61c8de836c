/* ahead.c - a thread that decodes one batch at a time. */
#include <pthread.h>

#include "base/base.h"
#include "modes/ahead.h"
#include "wire/wire_table.h"

typedef enum ahead_state {
    AHEAD_IDLE,
    AHEAD_ASKED, /* the frame is the thread's, and the room */
    AHEAD_DONE,
    AHEAD_OVER,
} ahead_state;

struct cwi_ahead {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    ahead_state state;
    cw_frame frame;
    cwi_batch_room room;
    const uint8_t *payload; /* of the message that was decoded */
    cw_status status;
    cw_error err;
};

bool cwi_ahead_pays(const cwi_setup *setup)
{
    enum { ELEMENTS = 1 << 14 }; /* of a batch: fewer are decoded before a thread is awake */
    const cw_config *c = &setup->config;
    const bool small = setup->smashed_count && (double)c->batch * (double)setup->smashed_count < ELEMENTS;
    return cwi_engine_threads(c) < cwi_cpu_count() && (c->clients > 1 || c->in_flight > 1) && cwi_is_coded(setup->up) &&
           !small;
}

static cw_status decode_frame(cwi_ahead *a, cw_error *err)
{
    cw_msg msg;
    a->payload = NULL;
    CWI_TRY(cwi_msg_decode_again(a->frame.bytes, a->frame.size, &msg, err));
    a->payload = msg.blob;
    return cwi_batch_room_decode(&a->room, &msg, 1, err);
}

static void *work(void *arg)
{
    cwi_ahead *a = arg;
    pthread_mutex_lock(&a->lock);
    while (a->state != AHEAD_OVER) {
        if (a->state != AHEAD_ASKED) {
            pthread_cond_wait(&a->changed, &a->lock);
            continue;
        }
        pthread_mutex_unlock(&a->lock);
        a->status = decode_frame(a, &a->err);
        pthread_mutex_lock(&a->lock);
        a->state = AHEAD_DONE;
        pthread_cond_broadcast(&a->changed);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

static bool start(cwi_ahead *a)
{
    if (pthread_mutex_init(&a->lock, NULL) != 0)
        return false;
    if (pthread_cond_init(&a->changed, NULL) != 0) {
        pthread_mutex_destroy(&a->lock);
        return false;
    }
    if (pthread_create(&a->thread, NULL, work, a) == 0)
        return true;
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    return false;
}

cwi_ahead *cwi_ahead_open(const cwi_setup *setup)
{
    cwi_ahead *a = cwi_ahead_pays(setup) ? cwi_calloc(1, sizeof *a) : NULL;
    if (a && cwi_batch_room_open(&a->room, setup, NULL) == CW_OK && start(a))
        return a;
    if (a)
        cwi_batch_room_close(&a->room);
    cwi_free(a);
    return NULL;
}

/* Until the thread is done with what it was asked; the lock is held. */
static void wait_for_thread(cwi_ahead *a)
{
    while (a->state == AHEAD_ASKED)
        pthread_cond_wait(&a->changed, &a->lock);
}

static void turn_to(cwi_ahead *a, ahead_state state)
{
    pthread_mutex_lock(&a->lock);
    wait_for_thread(a);
    a->state = state;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
}

void cwi_ahead_close(cwi_ahead *a)
{
    if (!a)
        return;
    turn_to(a, AHEAD_OVER);
    pthread_join(a->thread, NULL);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    cwi_batch_room_close(&a->room);
    cwi_free(a);
}

void cwi_ahead_begin(cwi_ahead *a, const cw_frame *frame)
{
    if (!a)
        return;
    cwi_ahead_forget(a);
    a->frame = *frame;
    turn_to(a, AHEAD_ASKED);
}

bool cwi_ahead_take(cwi_ahead *a, const cw_msg *msg, cwi_batch_room *room, cw_status *status, cw_error *err)
{
    if (!a)
        return false;
    pthread_mutex_lock(&a->lock);
    wait_for_thread(a);
    const bool same = a->state == AHEAD_DONE && a->payload == msg->blob;
    a->state = AHEAD_IDLE;
    pthread_mutex_unlock(&a->lock);
    if (!same)
        return false;
    cwi_batch_room_swap(&a->room, room);
    *status = a->status;
    if (err && a->status != CW_OK)
        *err = a->err;
    return true;
}

void cwi_ahead_forget(cwi_ahead *a)
{
    if (a)
        turn_to(a, AHEAD_IDLE);
}
