/* sync_rounds.c - what the rounds of mode sync share at the server: messages, batches, whose frames a round wants. */
#include <stdio.h>

#include "modes/sync_server.h"

cw_msg cwi_sync_message(const cwi_sync_server *s, size_t client, cw_msg_type type)
{
    cw_msg msg = cwi_session_message(s->session, client, type);
    msg.epoch = s->epoch;
    msg.step = s->step;
    return msg;
}

void cwi_sync_broadcast(cwi_sync_server *s, cw_msg msg)
{
    cwi_outbox_place(&s->session->box, &msg);
    for (size_t i = 0; i < s->count; i++) {
        if (!cwi_session_is_active(s->session, i))
            continue;
        msg.client = (uint32_t)i;
        cwi_session_send(s->session, i, &msg);
    }
}

uint64_t cwi_sync_batch(const cwi_sync_server *s, size_t client, uint32_t step)
{
    const uint64_t batch = s->clients[client].batch_size, done = step * batch, all = s->clients[client].samples;
    return all > done ? CWI_MIN(batch, all - done) : 0;
}

uint32_t cwi_sync_batches(const cwi_sync_server *s, size_t client, uint64_t samples)
{
    const uint64_t batch = s->clients[client].batch_size;
    return (uint32_t)((samples + batch - 1) / batch);
}

static uint32_t frames_owed(const cwi_sync_server *s, size_t client, sync_owing owing)
{
    const size_t micro = cwi_micro_count(s->clients[client].batch, s->tickets);
    switch (owing) {
    case OWING_ALL:
        return 1;
    case OWING_BATCHES:
        return micro > 0;
    case OWING_MICRO_BATCHES:
        return (uint32_t)micro;
    case OWING_NOTHING:
        break;
    }
    return 0;
}

/* Begins a round: a frame of every active client, or one of those that have samples in this step, or one for each of
 * their micro-batches. */
void cwi_sync_open_round(cwi_sync_server *s, sync_stage stage, sync_owing owing)
{
    s->stage = stage;
    s->actual = 0;
    s->round_began = cwi_session_clock(s->session);
    cwi_ahead_forget(s->ahead);
    cwi_barrier_begin(&s->barrier);
    for (size_t i = 0; i < s->count; i++) {
        s->clients[i].added = false;
        if (!cwi_session_is_active(s->session, i)) /* one that joins has owed READY since its WELCOME */
            continue;
        cwi_barrier_owe(&s->barrier, i, frames_owed(s, i, owing));
        cwi_session_owes_from_now(s->session, i);
    }
}

void cwi_sync_drop_turn(cwi_sync_server *s, size_t client)
{
    cwi_ahead_forget(s->ahead);
    cwi_barrier_drop(&s->barrier, client);
}

cw_encode_args cwi_sync_encode_args(const cwi_sync_server *s, cwi_flow flow, size_t client, uint32_t ticket)
{
    return (cw_encode_args){.seed = cwi_codec_seed(s->setup->config.seed, flow, client, s->epoch, s->step, ticket),
                            .threads = cwi_engine_threads(&s->setup->config)};
}

uint64_t cwi_sync_raw_bytes(const cwi_sync_server *s)
{
    return cwi_batch_elements(&s->batch) * sizeof(float);
}

void cwi_sync_count_socket(const cwi_sync_server *s, cw_traffic *up, cw_traffic *down)
{
    const cw_net_stats stats = cw_transport_stats(s->session->box.transport);
    up->socket = s->before_up + stats.bytes_received;
    down->socket = s->before_down + stats.bytes_sent;
}

const cw_server_status *cwi_sync_status(cwi_sync_server *s)
{
    const cw_hooks *hooks = s->server->report.hooks;
    if (!hooks || !hooks->event)
        return NULL;
    cw_epoch_report so_far = s->totals;
    cwi_sync_count_socket(s, &so_far.up, &so_far.down);
    return cwi_server_status(s->server, &so_far);
}

void cwi_sync_tell_added(const cwi_sync_server *s, const cwi_ballot *ballot, const char *name, const char *what)
{
    const cw_hooks *hooks = s->server->report.hooks;
    for (size_t i = 0; hooks && hooks->debug && i < s->count; i++) {
        char text[100];
        if (!s->clients[i].added || (s->guard.active && !cwi_guard_counts(&s->guard, ballot, i)))
            continue;
        snprintf(text, sizeof text, "client %zu: its %s of step %u in epoch %u is applied", i + 1, what, s->step + 1,
                 s->epoch + 1);
        const cw_event event = {.text = text,
                                .name = name,
                                .level = CW_LOG_DEBUG,
                                .epoch = (int)s->epoch,
                                .epochs = s->server->report.epochs,
                                .step = s->step + 1,
                                .steps = s->steps};
        cwi_hooks_notice(hooks, &event, (int)i, "", "");
    }
}

void cwi_sync_tell_status(void *state)
{
    cwi_sync_server *s = state;
    const cw_event event = {.kind = CW_EVENT_STATUS, .epochs = s->server->report.epochs, .server = cwi_sync_status(s)};
    cwi_report_emit(&s->server->report, &event);
}
