/* sync_late.c - steps of mode sync that do not wait for all (--step-deadline, --quorum): who is late is left out of the
 * step, as if it were lost for that long, and takes part in the next. */
#include <stdio.h>

#include "modes/sync_server.h"

static bool owes_batch(const cwi_sync_server *s, size_t client)
{
    return cwi_session_is_active(s->session, client) && cwi_barrier_owes(&s->barrier, client);
}

/* Where the round has taken that long already. */
static bool is_late(const cwi_sync_server *s, size_t client)
{
    const bool silent = cwi_session_owes_for(s->session, client) > s->setup->config.step_deadline;
    return owes_batch(s, client) && (silent || cwi_session_is_broken(s->session, client));
}

/* Those whose work of this round is here. */
static size_t count_done(const cwi_sync_server *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++)
        n += cwi_session_is_active(s->session, i) && s->barrier.turns[i].due > 0 && !cwi_barrier_owes(&s->barrier, i);
    return n;
}

static bool is_round_number(uint32_t n)
{
    while (n >= 10 && n % 10 == 0)
        n /= 10;
    return n < 10;
}

static void tell_late(const cwi_sync_server *s, size_t client, const char *what)
{
    const cw_origin *who = &s->server->watch.clients[client].origin;
    const cw_event event = {.text = what, .name = "client_late", .level = CW_LOG_WARN};
    cwi_hooks_notice(s->server->report.hooks, &event, (int)client, who->address, who->key);
}

/* The end of a phase does not wait for it either: it gets STATE and BEGIN of the next one like all. */
static void end_phase_without(cwi_sync_server *s, size_t client)
{
    client_work *c = &s->clients[client];
    cwi_sync_drop_turn(s, client);
    c->left_out = true;
    c->left_epoch = s->epoch;
    c->left_goal = s->goal;
    c->left_phase = s->stage == STAGE_EVAL_DONE ? CW_PHASE_EVAL : CW_PHASE_TRAIN;
    char what[120];
    snprintf(what, sizeof what, "client %zu is silent: %s of epoch %u ends without it", client + 1,
             s->stage == STAGE_EVAL_DONE ? "the evaluation" : "the training", s->epoch + 1);
    tell_late(s, client, what);
}

/* Training may go on within the epoch, behind a checkpoint. Then the steps before are of the past, and so is the first
 * PHASE_DONE: the UPDATE that ended the phase asks every client for one. */
static bool is_of_ended_training(client_work *c, const cw_msg *msg)
{
    if (msg->type != CW_MSG_PHASE_DONE)
        return msg->step < c->left_goal;
    c->left_out = false;
    return true;
}

bool cwi_sync_is_of_ended_phase(cwi_sync_server *s, size_t client, const cw_msg *msg)
{
    client_work *c = &s->clients[client];
    const bool work =
        msg->type == CW_MSG_ACTIVATION || msg->type == CW_MSG_CLIENT_GRAD || msg->type == CW_MSG_PHASE_DONE;
    const cw_phase phase = msg->type == CW_MSG_CLIENT_GRAD ? CW_PHASE_TRAIN : msg->phase;
    if (!work || !c->left_out || msg->epoch > c->left_epoch)
        return false;
    if (msg->epoch < c->left_epoch || phase != c->left_phase)
        return msg->epoch < c->left_epoch || phase < c->left_phase;
    return phase == CW_PHASE_EVAL || is_of_ended_training(c, msg);
}

static void leave_out(cwi_sync_server *s, size_t client)
{
    client_work *c = &s->clients[client];
    cwi_sync_drop_turn(s, client);
    c->batch = 0;
    c->skipped = c->absent = true;
    c->skipped_epoch = s->epoch;
    c->skipped_step = s->step;
    if (!is_round_number(++c->late))
        return;
    char what[120];
    snprintf(what, sizeof what, "client %zu is late: %u of this run's steps went on without it so far", client + 1,
             c->late);
    tell_late(s, client, what);
}

bool cwi_sync_leave_absent(cwi_sync_server *s, size_t client)
{
    const client_work *c = &s->clients[client];
    if (!c->absent || s->setup->config.step_deadline <= 0 || c->skipped_epoch != s->epoch)
        return false;
    leave_out(s, client);
    return true;
}

void cwi_sync_check_deadline(cwi_sync_server *s)
{
    const bool step = s->stage == STAGE_ACTIVATIONS || s->stage == STAGE_CLIENT_GRADS;
    const bool end = s->stage == STAGE_TRAIN_DONE || s->stage == STAGE_EVAL_DONE;
    const double deadline = s->setup->config.step_deadline;
    if (deadline <= 0 || !(step || end) || cwi_session_clock(s->session) - s->round_began <= deadline ||
        count_done(s) < (size_t)s->setup->config.quorum)
        return;
    for (size_t i = 0; i < s->count; i++)
        if (is_late(s, i) && step)
            leave_out(s, i);
        else if (is_late(s, i))
            end_phase_without(s, i);
}

bool cwi_sync_is_stale(cwi_sync_server *s, size_t client, const cw_msg *msg)
{
    client_work *c = &s->clients[client];
    const bool step = msg->type == CW_MSG_ACTIVATION || msg->type == CW_MSG_CLIENT_GRAD;
    if (!step || !c->skipped || !cwi_session_is_active(s->session, client) || msg->epoch != c->skipped_epoch ||
        msg->step > c->skipped_step)
        return false;
    c->absent = false; /* it is waited for in the next step */
    return true;
}
