/* sync_epoch.c - the epochs of mode sync at the server: their phases, evaluation, reports and checkpoints. */
#include "modes/sync_server.h"

/* ---- phases ---- */

static void broadcast_begin(cwi_sync_server *s, cw_phase phase)
{
    cw_msg msg = cwi_sync_message(s, 0, CW_MSG_BEGIN);
    msg.phase = phase;
    msg.steps = s->goal;
    cwi_sync_broadcast(s, msg);
}

cw_status cwi_sync_let_in(cwi_sync_server *s, size_t client, cw_phase phase, cw_error *err)
{
    cwi_session_activate_one(s->session, client);
    CWI_TRY(cwi_sync_send_state_to(s, client, err));
    cw_msg msg = cwi_sync_message(s, client, CW_MSG_BEGIN);
    msg.phase = phase;
    msg.steps = s->goal;
    if (cwi_session_is_active(s->session, client))
        cwi_session_send(s->session, client, &msg);
    return CW_OK;
}

static cw_status begin_training(cwi_sync_server *s, cw_error *err)
{
    CWI_TRY(cwi_sync_send_state(s, err));
    broadcast_begin(s, CW_PHASE_TRAIN);
    for (size_t i = 0; i < s->count; i++)
        s->clients[i].synced = false;
    if (s->step < s->steps)
        return cwi_sync_begin_step(s, err);
    cwi_sync_await_train_done(s); /* all were lost after the epoch's last step */
    return CW_OK;
}

/* Begins the epoch's steps, or goes on with them. */
static cw_status begin_phase(cwi_sync_server *s, cw_error *err)
{
    const cw_half *mirror = s->server->mirror;
    s->goal = cwi_checkpoint_next_step(&s->setup->config, s->step, s->steps);
    if (!cwi_half_is_remote(mirror) || cwi_half_remote_holds(mirror))
        return begin_training(s, err);
    cwi_sync_ask_for_state(s, false, begin_training);
    return CW_OK;
}

static cw_status save(cwi_sync_server *s, const cwi_progress *at, cw_error *err)
{
    cw_half *const halves[] = {s->server->mirror, s->server->half};
    return cwi_checkpoint_save(&s->server->report, &s->setup->config, halves, CWI_COUNT(halves), at, err);
}

static cw_status save_within_epoch(cwi_sync_server *s, cw_error *err)
{
    cwi_progress at = {.epoch = (int)s->epoch,
                       .step = s->stage == STAGE_EVAL_DONE ? s->steps : s->step,
                       .trained = s->trained,
                       .loss = s->sum_loss,
                       .correct = s->sum_correct,
                       .samples = s->sum_samples,
                       .train_seconds = cwi_seconds() - s->phase_began,
                       .seconds = cwi_seconds() - s->server->report.began,
                       .up = s->totals.up,
                       .down = s->totals.down,
                       .own = &s->server->own};
    cwi_sync_count_socket(s, &at.up, &at.down);
    return save(s, &at, err);
}

void cwi_sync_save_and_stop(cwi_sync_server *s)
{
    cw_error err;
    const cw_status status = save_within_epoch(s, &err);
    if (status != CW_OK)
        cwi_report_warn(&s->server->report, "not_saved", "no checkpoint: %s", err.message);
    s->stage = STAGE_DRAINED;
}

/* The mirror has what training has made of the clients' half. */
static cw_status end_training(cwi_sync_server *s, cw_error *err)
{
    s->trained = s->step >= s->steps;
    if (s->draining) {
        cwi_sync_save_and_stop(s);
        return CW_OK;
    }
    if (s->step < s->steps) {
        CWI_TRY(save_within_epoch(s, err));
        return begin_phase(s, err);
    }
    s->totals.train_seconds = cwi_seconds() - s->phase_began;
    for (size_t i = 0; i < s->count; i++) {
        s->clients[i].loss = 0;
        s->clients[i].correct = s->clients[i].evaluated = 0;
    }
    if (!cwi_eval_due(&s->setup->config, (int)s->epoch))
        return cwi_sync_finish_epoch(s, err);
    s->step = 0;
    CWI_TRY(cwi_sync_send_state(s, err));
    cwi_sync_open_round(s, STAGE_EVAL_DONE, OWING_ALL);
    broadcast_begin(s, CW_PHASE_EVAL);
    return CW_OK;
}

cw_status cwi_sync_finish_train_done(cwi_sync_server *s, cw_error *err)
{
    const bool averaged = s->actual > 0;
    if (averaged) {
        if (s->guard.active)
            cwi_sync_guard_finish_statistics(s);
        else
            cwi_sync_scale_average(s, cw_half_buffer_count(s->server->mirror));
        CWI_TRY(cw_half_put(s->server->mirror, CW_HALF_BUFFER, s->average, err));
    }
    if (s->step >= s->goal)
        cwi_own_statistics_clear(&s->server->own);
    if (!cwi_half_is_remote(s->server->mirror))
        return end_training(s, err);
    cwi_sync_ask_for_state(s, averaged, end_training);
    return CW_OK;
}

/* ---- evaluation ---- */

/* Answered at once: evaluation changes nothing that another client could see. */
cw_status cwi_sync_take_eval_batch(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_error *err)
{
    client_work *c = &s->clients[client];
    cw_half_call call = {.mode = CW_EVAL, .n = (size_t)msg->samples};
    cw_loss loss;
    CWI_TRY(cwi_sync_run_batch(s, client, msg, &call, &loss, err));
    c->loss += loss.mean * (double)msg->samples;
    c->correct += loss.correct;
    c->evaluated += msg->samples;
    cwi_session_owes_from_now(s->session, client);
    if (c->evaluated > c->test_samples)
        return cwi_fail(err, CW_ERR_PROTOCOL, "more than the %llu test samples it announced",
                        (unsigned long long)c->test_samples);
    s->totals.up.eval_payload += msg->blob_size;
    s->totals.up.eval_raw += cwi_sync_raw_bytes(s);
    cw_msg reply = cwi_sync_message(s, client, CW_MSG_RESULT);
    reply.step = msg->step;
    reply.loss = loss.mean * (double)msg->samples;
    reply.correct = loss.correct;
    cwi_report_step(&s->server->report, CW_EVENT_EVAL, (int)s->epoch, msg->step + 1,
                    cwi_sync_batches(s, client, c->test_samples), 0, NULL);
    return cwi_outbox_send(&s->session->box, s->session->members[client].peer, &reply, err);
}

cw_status cwi_sync_take_eval_done(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_error *err)
{
    const client_work *c = &s->clients[client];
    if (msg->phase != CW_PHASE_EVAL || c->evaluated != c->test_samples)
        return cwi_fail(err, CW_ERR_PROTOCOL, "it evaluated %llu of the %llu test samples it announced",
                        (unsigned long long)c->evaluated, (unsigned long long)c->test_samples);
    s->actual++;
    return CW_OK;
}

cw_status cwi_sync_finish_epoch(cwi_sync_server *s, cw_error *err)
{
    double loss = 0;
    uint64_t correct = 0, samples = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (!cwi_session_is_active(s->session, i))
            continue;
        loss += s->clients[i].loss;
        correct += s->clients[i].correct;
        samples += s->clients[i].evaluated;
    }
    cw_epoch_report *r = &s->totals;
    r->epoch = (int)s->epoch;
    r->train_loss = s->sum_samples ? s->sum_loss / (double)s->sum_samples : 0;
    r->train_accuracy = s->sum_samples ? (double)s->sum_correct / (double)s->sum_samples : 0;
    r->train_samples = s->sum_samples;
    r->test_samples = samples;
    r->test_loss = samples ? loss / (double)samples : 0;
    r->test_accuracy = samples ? (double)correct / (double)samples : 0;
    r->clients = (int)cwi_session_count(s->session, CWI_MEMBER_ACTIVE);
    cwi_sync_count_socket(s, &r->up, &r->down);
    cwi_sync_tell_status(s); /* with the last step */
    cwi_report_epoch(&s->server->report, r);
    CWI_TRY(save(s, &(cwi_progress){.epoch = r->epoch + 1}, err));
    if (++s->epoch < (uint32_t)s->setup->config.epochs)
        return cwi_sync_begin_epoch(s, err);
    s->stage = STAGE_FINISHED;
    return CW_OK;
}

cw_status cwi_sync_begin_epoch(void *state, cw_error *err)
{
    cwi_sync_server *s = state;
    if (s->stage == STAGE_BEFORE)
        cwi_report_begin(&s->server->report, s->from.seconds);
    cwi_session_activate(s->session);
    s->steps = 0;
    for (size_t i = 0; i < s->count; i++)
        if (cwi_session_is_active(s->session, i))
            s->steps = CWI_MAX(s->steps, cwi_sync_batches(s, i, s->clients[i].samples));
    s->step = CWI_MIN(s->from.step, s->steps);
    s->sum_loss = s->from.loss;
    s->sum_correct = s->from.correct;
    s->sum_samples = s->from.samples;
    s->phase_began = cwi_seconds() - s->from.train_seconds;
    s->goal = s->steps;
    const bool trained = s->from.trained && s->step == s->steps;
    s->from = (cwi_progress){0}; /* the epochs that follow begin at their beginning */
    return trained ? end_training(s, err) : begin_phase(s, err);
}
