/* sync_server.c - the server's side of mode sync.
 *
 * A round wants frames of a kind from every client that owes them, takes them in one order (barrier.h) and then does
 * what follows:
 *
 *     ACTIVATIONS   run the server's half on each, send GRADIENT     -> update this half
 *     CLIENT_GRADS  average                                          -> update the mirror, send UPDATE
 *     TRAIN_DONE    average batch-norm buffers                       -> send STATE, begin evaluation, or save a
 *                                                                      checkpoint and go on within the epoch
 *     CLIENT_STATE  keep one client's half, where there is none here -> what has waited for it
 *     EVAL_DONE     nothing (batches are answered as they come)      -> report, next epoch
 */
#include "modes/sync_server.h"
#include "wire/wire_table.h"

typedef struct round_rule {
    cw_msg_type wants;
    cw_status (*take)(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_error *err);
    cw_status (*finish)(cwi_sync_server *s, cw_error *err);
} round_rule;

/* ---- life ---- */

/* Vectors of the clients' half, once its size is known. */
static cw_status make_vectors(cwi_sync_server *s, cw_error *err)
{
    const cw_half *mirror = s->server->mirror;
    const size_t floats = CWI_MAX(cw_half_weight_count(mirror), cw_half_buffer_count(mirror));
    cwi_free(s->average);
    cwi_free(s->flat);
    cwi_free(s->coded_update);
    s->average = cwi_calloc(floats, sizeof(float));
    s->flat = cwi_calloc(floats, sizeof(float));
    const cw_tensor gradient = cwi_half_vector(mirror, s->average);
    s->coded_capacity = cw_codec_bound(s->setup->update, &gradient);
    s->coded_update = cwi_alloc(s->coded_capacity, 1);
    return s->average && s->flat && s->coded_update ? CW_OK : cwi_fail_memory(err, floats * 3 * sizeof(float));
}

static cw_status allocate(cwi_sync_server *s, cw_error *err)
{
    const size_t buffers = cw_half_buffer_count(s->server->half);
    s->clients = cwi_calloc(s->count, sizeof *s->clients);
    s->weights = cwi_calloc(s->count, sizeof(float));
    s->statistics = cwi_calloc(buffers, sizeof(float));
    s->now = cwi_calloc(buffers, sizeof(float));
    if (!s->clients || !s->weights || !s->statistics || !s->now)
        return cwi_fail_memory(err, buffers * 2 * sizeof(float));
    CWI_TRY(make_vectors(s, err));
    return cwi_batch_room_open(&s->batch, s->setup, err);
}

static void take_start(cwi_sync_server *s, const cw_server *server)
{
    s->from = server->from;
    s->epoch = (uint32_t)s->from.epoch;
    s->totals = server->report.result.last;
    s->totals.up = s->from.up;
    s->totals.down = s->from.down;
    s->before_up = s->totals.up.socket;
    s->before_down = s->totals.down.socket;
    if (s->from.epoch >= s->setup->config.epochs)
        s->stage = STAGE_FINISHED;
}

cw_status cwi_sync_open_server(cw_server *server, void **state, cw_error *err)
{
    cwi_sync_server *s = *state = cwi_calloc(1, sizeof *s);
    if (!s)
        return cwi_fail_memory(err, sizeof *s);
    s->server = server;
    s->session = &server->session;
    s->setup = &server->setup;
    s->count = (size_t)s->setup->config.clients;
    s->tickets = (size_t)s->setup->config.in_flight;
    s->giver = SIZE_MAX;
    CWI_TRY(allocate(s, err));
    CWI_TRY(cwi_labels_open(&s->names, s->count, err));
    CWI_TRY(cwi_barrier_open(&s->barrier, s->count, (uint32_t)s->tickets + 1, err));
    if (s->tickets > 1)
        CWI_TRY(cwi_micro_sums_open(&s->micro, s->count, server->half, err));
    CWI_TRY(cwi_sync_guard_open(s, err));
    s->ahead = cwi_ahead_open(s->setup);
    server->gathers = s->ahead;
    take_start(s, server);
    return CW_OK;
}

void cwi_sync_close_server(void *state)
{
    cwi_sync_server *s = state;
    if (!s)
        return;
    cwi_ahead_close(s->ahead);
    cwi_barrier_close(&s->barrier);
    cwi_labels_close(&s->names);
    cwi_micro_sums_close(&s->micro);
    cwi_batch_room_close(&s->batch);
    cwi_guard_close(&s->guard);
    void *const own[] = {s->clients, s->weights, s->average, s->flat, s->statistics, s->now, s->coded_update};
    for (size_t i = 0; i < CWI_COUNT(own); i++)
        cwi_free(own[i]);
    cwi_free(s);
}

/* ---- the rounds ---- */

static const round_rule rules[] = {
    [STAGE_ACTIVATIONS] = {CW_MSG_ACTIVATION, cwi_sync_take_activation, cwi_sync_finish_activations},
    [STAGE_CLIENT_GRADS] = {CW_MSG_CLIENT_GRAD, cwi_sync_take_client_grad, cwi_sync_finish_client_grads},
    [STAGE_TRAIN_DONE] = {CW_MSG_PHASE_DONE, cwi_sync_take_train_done, cwi_sync_finish_train_done},
    [STAGE_EVAL_DONE] = {CW_MSG_PHASE_DONE, cwi_sync_take_eval_done, cwi_sync_finish_epoch},
    [STAGE_CLIENT_STATE] = {CW_MSG_CLIENT_STATE, cwi_sync_take_client_state, cwi_sync_finish_client_state},
};

static const round_rule *rule_of(sync_stage stage)
{
    return (size_t)stage < CWI_COUNT(rules) && rules[stage].take ? &rules[stage] : NULL;
}

/* ---- the session's work ---- */

/* What the clients' half is, by the first that joins; the others' have the same fingerprint, and must have the same
 * size. */
static cw_status describe_half(cwi_sync_server *s, const cw_msg *join, cw_error *err)
{
    cw_half *mirror = s->server->mirror;
    const bool same = join->weights == cw_half_weight_count(mirror) && join->buffers == cw_half_buffer_count(mirror);
    const bool first = !s->session->begun && !cwi_session_count(s->session, CWI_MEMBER_READY);
    if (same)
        return CW_OK;
    if (!first)
        return cwi_fail(err, CW_ERR_MISMATCH, "its half has %llu weights, the others' %zu",
                        (unsigned long long)join->weights, cw_half_weight_count(mirror));
    cwi_half_remote_describe(mirror, (size_t)join->weights, (size_t)join->buffers);
    CWI_TRY(cwi_sync_guard_size(s, err));
    return make_vectors(s, err);
}

static cw_status admit(void *state, size_t member, const cw_msg *msg, cw_error *err)
{
    cwi_sync_server *s = state;
    CWI_TRY(cwi_admission_check(&s->admission, s->setup, msg, err));
    CWI_TRY(cwi_labels_admit(&s->names, s->server, member, msg, err));
    const bool own = msg->type == CW_MSG_JOIN;
    s->clients[member] = (client_work){.samples = msg->samples,
                                       .waited_for = s->clients[member].waited_for,
                                       .late = s->clients[member].late,
                                       .added = s->clients[member].added,
                                       .test_samples = msg->test_samples,
                                       .batch_size = own ? msg->batch : (uint64_t)s->setup->config.batch};
    if (own)
        CWI_TRY(describe_half(s, msg, err));
    cwi_watch_joined(&s->server->watch, member, msg->samples);
    return CW_OK;
}

/* Whether the round wants this of the client, or it comes early: a client whose activations were taken sends its
 * gradient while the server still works on the others'. */
static bool is_due(const cwi_sync_server *s, size_t client, const cw_msg *msg)
{
    const round_rule *rule = rule_of(s->stage);
    if (!rule || !cwi_session_is_active(s->session, client) || msg->epoch != s->epoch)
        return false;
    const uint32_t came = cwi_barrier_came(&s->barrier, client), due = s->barrier.turns[client].due;
    if (s->stage == STAGE_ACTIVATIONS && msg->type == CW_MSG_CLIENT_GRAD)
        return s->barrier.turns[client].taken == due && came == due && due > 0 && msg->step == s->step;
    if (came >= due || msg->type != rule->wants)
        return false;
    if (msg->type == CW_MSG_ACTIVATION && msg->ticket != came)
        return false;
    return msg->type == CW_MSG_PHASE_DONE || msg->type == CW_MSG_CLIENT_STATE || msg->step == s->step;
}

static cw_status take(void *state, size_t member, const cw_msg *msg, cw_frame *frame, cw_error *err)
{
    cwi_sync_server *s = state;
    if (msg->type == CW_MSG_TIMES && s->setup->ask_times) {
        cwi_watch_client_worked(&s->server->watch, member, msg->seconds);
        return CW_OK;
    }
    if (cwi_sync_is_of_ended_phase(s, member, msg))
        return CW_OK;
    if (s->stage == STAGE_EVAL_DONE && msg->type == CW_MSG_ACTIVATION && msg->phase == CW_PHASE_EVAL &&
        cwi_session_is_active(s->session, member) && cwi_barrier_owes(&s->barrier, member) && msg->epoch == s->epoch)
        return cwi_sync_take_eval_batch(s, member, msg, err);
    if (is_due(s, member, msg) && cwi_barrier_hold(&s->barrier, member, frame)) {
        if (msg->type == CW_MSG_ACTIVATION)
            cwi_watch_batch_came(&s->server->watch, member);
        return CW_OK;
    }
    if (cwi_sync_is_stale(s, member, msg))
        return CW_OK;
    return cwi_fail(err, CW_ERR_PROTOCOL, "it sent %s (epoch %u, step %u) when that was not due",
                    cw_msg_name(msg->type), msg->epoch, msg->step);
}

/* Takes a frame whose turn has come; a client whose frame is bad is lost. */
static void take_turn(cwi_sync_server *s, size_t client, cw_frame *frame)
{
    cw_error err;
    cw_msg msg;
    cw_status status = cwi_msg_decode_again(frame->bytes, frame->size, &msg, &err);
    if (status == CW_OK)
        status = rule_of(s->stage)->take(s, client, &msg, &err);
    cw_frame_release(frame);
    if (status != CW_OK)
        cwi_session_lose(s->session, client, status, err.message);
}

static cw_status take_rounds(cwi_sync_server *s, cw_error *err)
{
    cwi_sync_check_deadline(s);
    while (rule_of(s->stage) && cwi_session_count(s->session, CWI_MEMBER_ACTIVE)) {
        size_t client;
        cw_frame frame;
        while (cwi_barrier_next(&s->barrier, &client, &frame))
            take_turn(s, client, &frame);
        if (!cwi_barrier_is_through(&s->barrier) || !cwi_session_count(s->session, CWI_MEMBER_ACTIVE))
            return CW_OK; /* its last client may just have been lost */
        CWI_TRY(rule_of(s->stage)->finish(s, err));
    }
    return CW_OK;
}

static cw_status advance(void *state, cw_error *err)
{
    cwi_sync_server *s = state;
    cwi_watch_work_begins(&s->server->watch);
    const cw_status status = take_rounds(s, err);
    cwi_watch_work_ends(&s->server->watch);
    return status;
}

/* Nobody is left: whoever comes goes on at the step that was under way. The clients' half is that of the last UPDATE.
 */
static void go_on_from_here(cwi_sync_server *s)
{
    const bool training = s->stage == STAGE_ACTIVATIONS || s->stage == STAGE_CLIENT_GRADS;
    if (cwi_session_count(s->session, CWI_MEMBER_ACTIVE) || cwi_half_is_remote(s->server->mirror))
        return;
    if (!training && s->stage != STAGE_TRAIN_DONE && s->stage != STAGE_EVAL_DONE)
        return;
    s->from = (cwi_progress){.loss = s->sum_loss, .correct = s->sum_correct, .samples = s->sum_samples};
    if (s->stage == STAGE_ACTIVATIONS)
        s->from = s->now_at;
    s->from.trained = s->stage == STAGE_EVAL_DONE;
    s->from.step = s->stage == STAGE_EVAL_DONE ? s->steps : s->step + (s->stage == STAGE_CLIENT_GRADS);
    s->from.train_seconds = s->stage == STAGE_EVAL_DONE ? s->totals.train_seconds : cwi_seconds() - s->phase_began;
}

static void lost(void *state, size_t member)
{
    cwi_sync_server *s = state;
    cwi_watch_lost(&s->server->watch, member);
    cwi_sync_drop_turn(s, member);
    cwi_labels_forget(&s->names, s->server, member);
    s->clients[member].waited_for = s->clients[member].returning = false;
    go_on_from_here(s);
}

/* It will be back: as long as none of what it owes in this round was taken, the round waits for all of it. */
static void left(void *state, size_t member)
{
    cwi_sync_server *s = state;
    const cwi_turn *t = &s->barrier.turns[member];
    const uint32_t due = t->due;
    const bool waits = t->taken == 0 && due > 0 && !cwi_half_is_remote(s->server->mirror) &&
                       (s->stage == STAGE_ACTIVATIONS || s->stage == STAGE_EVAL_DONE);
    cwi_sync_drop_turn(s, member);
    if (waits)
        cwi_barrier_owe(&s->barrier, member, due);
    else
        go_on_from_here(s);
    s->clients[member].waited_for = waits;
    s->clients[member].returning = !waits;
}

static cw_status joined(void *state, size_t member, cw_error *err)
{
    cwi_sync_server *s = state;
    client_work *c = &s->clients[member];
    if (!c->waited_for)
        return CW_OK; /* from the next step on */
    c->waited_for = false;
    if (s->stage == STAGE_EVAL_DONE)
        return cwi_sync_let_in(s, member, CW_PHASE_EVAL, err);
    c->batch = (size_t)cwi_sync_batch(s, member, s->step);
    if (cwi_micro_count(c->batch, s->tickets) == s->barrier.turns[member].due)
        return cwi_sync_let_in(s, member, CW_PHASE_TRAIN, err);
    cwi_sync_drop_turn(s, member); /* it has other data now */
    return CW_OK;
}

static bool owes(const void *state, size_t member)
{
    return cwi_barrier_owes(&((const cwi_sync_server *)state)->barrier, member);
}

/* Finishes the step under way, has a checkpoint written, and then does no more. */
static void drain(void *state)
{
    cwi_sync_server *s = state;
    const bool works = s->stage != STAGE_BEFORE && cwi_session_count(s->session, CWI_MEMBER_ACTIVE);
    s->draining = true;
    if (!works)
        s->stage = STAGE_DRAINED; /* nothing is new since the last checkpoint, or nobody is there to give it */
    else if (s->stage == STAGE_EVAL_DONE)
        cwi_sync_save_and_stop(s);
}

static bool drained(const void *state)
{
    return ((const cwi_sync_server *)state)->stage == STAGE_DRAINED;
}

static bool finished(const void *state)
{
    return ((const cwi_sync_server *)state)->stage == STAGE_FINISHED;
}

static void log_notice(void *state, const cwi_notice *n)
{
    const cwi_report *report = &((cwi_sync_server *)state)->server->report;
    const cw_event event = {
        .text = n->text, .name = n->name, .level = n->warning ? CW_LOG_WARN : CW_LOG_INFO, .epochs = report->epochs};
    cwi_hooks_notice(report->hooks, &event, n->member == SIZE_MAX ? -1 : (int)n->member, n->about.address,
                     n->about.key);
}

const cwi_work cwi_sync_work = {
    .admit = admit,
    .take = take,
    .advance = advance,
    .begin = cwi_sync_begin_epoch,
    .lost = lost,
    .left = left,
    .joined = joined,
    .owes = owes,
    .finished = finished,
    .drain = drain,
    .drained = drained,
    .log = log_notice,
    .time_passed = cwi_sync_tell_status,
};
