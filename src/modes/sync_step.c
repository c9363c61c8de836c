/* sync_step.c - a step of mode sync at the server: activations, gradients, the update of the clients' half. */
#include "modes/sync_server.h"

/* ---- activations ---- */

/* Who has become ready since the last step takes part from this one on. */
static cw_status let_in_all(cwi_sync_server *s, cw_error *err)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->session->members[i].state == CWI_MEMBER_READY && !cwi_half_is_remote(s->server->mirror))
            CWI_TRY(cwi_sync_let_in(s, i, CW_PHASE_TRAIN, err));
    return CW_OK;
}

/* Who comes back is greeted already, and knows its batch before long: the step waits for it as for those who take part.
 */
static bool is_returning(const cwi_sync_server *s, size_t client)
{
    return s->clients[client].returning && s->session->members[client].state == CWI_MEMBER_JOINING &&
           s->setup->config.step_deadline <= 0 && !cwi_half_is_remote(s->server->mirror);
}

static void await_returning(cwi_sync_server *s)
{
    for (size_t i = 0; i < s->count; i++) {
        client_work *c = &s->clients[i];
        if (!is_returning(s, i) || !c->batch)
            continue;
        c->returning = false;
        c->waited_for = true;
        cwi_barrier_owe(&s->barrier, i, (uint32_t)cwi_micro_count(c->batch, s->tickets));
    }
}

cw_status cwi_sync_begin_step(cwi_sync_server *s, cw_error *err)
{
    CWI_TRY(let_in_all(s, err));
    s->now_at = (cwi_progress){.loss = s->sum_loss, .correct = s->sum_correct, .samples = s->sum_samples};
    s->expected = 0;
    for (size_t i = 0; i < s->count; i++) {
        client_work *c = &s->clients[i];
        const bool counts = cwi_session_is_active(s->session, i) || is_returning(s, i);
        c->batch = counts ? (size_t)cwi_sync_batch(s, i, s->step) : 0;
        if (c->batch && cwi_sync_leave_absent(s, i))
            c->batch = 0;
        s->expected += c->batch;
    }
    cwi_sync_open_round(s, STAGE_ACTIVATIONS, OWING_MICRO_BATCHES);
    await_returning(s);
    cwi_watch_begin_step(&s->server->watch);
    if (s->tickets > 1)
        cwi_micro_sums_clear(&s->micro);
    return s->guard.active ? cwi_sync_guard_begin_step(s, err) : cwi_half_sum_clear(s->server->half, err);
}

static cw_status take_targets(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_targets *targets, cw_error *err)
{
    *targets = (cw_targets){0};
    if (msg->targets.dtype && cwi_half_takes_targets(s->server->half)) {
        targets->tensor = &msg->targets;
        targets->tensor_as = msg->targets_as;
        return CW_OK;
    }
    if (!msg->label_width)
        return CW_OK;
    CWI_TRY(cwi_batch_room_labels(&s->batch, (size_t)msg->samples, err));
    targets->labels = s->batch.labels;
    return cwi_labels_take(&s->names, client, msg, s->batch.labels, err);
}

/* Decoded ahead, or now; and then the next one is begun, where it is there. */
static cw_status take_batch(cwi_sync_server *s, const cw_msg *msg, cw_error *err)
{
    cw_status status;
    if (!cwi_ahead_take(s->ahead, msg, &s->batch, &status, err))
        status = cwi_batch_room_decode(&s->batch, msg, cwi_engine_threads(&s->setup->config), err);
    const cw_frame *next = s->stage == STAGE_ACTIVATIONS ? cwi_barrier_peek(&s->barrier) : NULL;
    if (next)
        cwi_ahead_begin(s->ahead, next);
    return status;
}

cw_status cwi_sync_run_batch(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_half_call *call, cw_loss *loss,
                             cw_error *err)
{
    cw_targets targets;
    CWI_TRY(take_targets(s, client, msg, &targets, err));
    CWI_TRY(take_batch(s, msg, err));
    call->shape = s->batch.shape;
    CWI_TRY(cw_half_forward(s->server->half, call, s->batch.x, NULL, err));
    return cw_half_loss(s->server->half, call, &targets, loss, err);
}

static cw_status send_gradient(cwi_sync_server *s, size_t client, uint32_t ticket, const cw_loss *loss, size_t n,
                               cw_error *err)
{
    cw_msg msg = cwi_sync_message(s, client, CW_MSG_GRADIENT);
    msg.ticket = ticket;
    msg.loss = loss->mean * (double)n;
    msg.correct = loss->correct;
    const cw_tensor dx = cwi_batch_tensor(&s->batch, s->batch.dx);
    cw_encode_args args = cwi_sync_encode_args(s, CWI_FLOW_DOWNLINK, client, ticket);
    args.support = s->batch.sent;
    size_t payload;
    const cw_status status = cwi_outbox_send_tensor(&s->session->box, s->session->members[client].peer, &msg,
                                                    s->setup->down, &dx, &args, &payload, err);
    if (status != CW_OK)
        return cwi_encode_status(status, CWI_FLOW_DOWNLINK, err);
    s->totals.down.payload += payload;
    s->totals.down.raw += cwi_sync_raw_bytes(s);
    return CW_OK;
}

/* What the batch has done to this half: its gradients, and its batch-norm statistics. */
static cw_status check_batch(cwi_sync_server *s, cw_error *err)
{
    float peak;
    CWI_TRY(cwi_half_gradient_peak(s->server->half, &peak, err));
    CWI_TRY(cwi_gradient_check(peak, "this half's gradient for its activations", err));
    CWI_TRY(cw_half_get(s->server->half, CW_HALF_BUFFER, s->now, err));
    const cw_status status = cwi_half_check_buffers(s->server->half, s->now, CWI_STATISTICS_MAX, err);
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "this half's statistics of its activations");
}

/* Sums over the micro-batches of a client first, then over clients; without micro-batches in the half's own memory. */
static cw_status add_gradient(cwi_sync_server *s, size_t client, size_t n, cw_error *err)
{
    const size_t batch = s->clients[client].batch;
    if (s->guard.active)
        return cwi_sync_guard_take_batch(s, client, n, err);
    if (s->tickets == 1)
        return cwi_half_sum_add(s->server->half, cwi_batch_weight(n, s->expected), err);
    s->weights[client] = cwi_batch_weight(batch, s->expected);
    return cwi_micro_sums_add(&s->micro, client, s->server->half, cwi_batch_weight(n, batch), err);
}

static cw_status train_on_batch(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_loss *loss, cw_error *err)
{
    cw_half_call call = {.mode = CW_TRAIN, .n = (size_t)msg->samples};
    call.position = cwi_part_position(client, s->epoch, cwi_sync_batches(s, client, s->clients[client].samples),
                                      s->step, msg->ticket, s->tickets);
    CWI_TRY(cwi_sync_run_batch(s, client, msg, &call, loss, err));
    CWI_TRY(cw_half_backward(s->server->half, &call, NULL, s->batch.dx, err));
    CWI_TRY(check_batch(s, err));
    if (s->setup->mask_gradient)
        cwi_batch_mask(&s->batch);
    CWI_TRY(send_gradient(s, client, msg->ticket, loss, call.n, err));
    return add_gradient(s, client, call.n, err);
}

cw_status cwi_sync_take_activation(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_error *err)
{
    size_t first, batch = s->clients[client].batch;
    const size_t n = cwi_micro_batch(batch, msg->ticket, cwi_micro_count(batch, s->tickets), &first);
    if (msg->phase != CW_PHASE_TRAIN || msg->samples != n)
        return cwi_fail(err, CW_ERR_PROTOCOL, "a batch of %llu samples where %zu were due",
                        (unsigned long long)msg->samples, n);
    cw_loss loss;
    if (s->guard.active)
        CWI_TRY(cwi_sync_guard_begin_batch(s, client, err));
    CWI_TRY(cw_half_get(s->server->half, CW_HALF_BUFFER, s->statistics, err));
    const cw_status status = train_on_batch(s, client, msg, &loss, err);
    if (status != CW_OK) {
        (void)cw_half_put(s->server->half, CW_HALF_BUFFER, s->statistics, NULL);
        return status;
    }
    cwi_watch_batch_taken(&s->server->watch, client, loss.mean);
    if (s->guard.active)
        cwi_guard_note(&s->guard, CWI_TRAIT_LOSS, client, loss.mean);
    s->clients[client].added = true;
    s->actual += n;
    s->totals.up.payload += msg->blob_size;
    s->totals.up.raw += cwi_sync_raw_bytes(s);
    s->sum_loss += loss.mean * (double)n;
    s->sum_correct += loss.correct;
    s->sum_samples += n;
    return CW_OK;
}

void cwi_sync_await_train_done(cwi_sync_server *s)
{
    cwi_sync_open_round(s, STAGE_TRAIN_DONE, OWING_ALL);
    s->expected = 0;
    for (size_t i = 0; i < s->count; i++)
        s->expected += cwi_session_is_active(s->session, i) ? s->clients[i].samples : 0;
}

/* Everyone applies the averaged gradient, `update` as sent. When the server is about to stop, for everyone the phase
 * ends with this step. Without one a client applies its own, where it has sent one
 * (cwi_keeps_own_gradient()); else (every contributor was lost) everyone just moves on. */
static void broadcast_update(cwi_sync_server *s, const uint8_t *update, size_t size)
{
    cw_msg msg = cwi_sync_message(s, 0, CW_MSG_UPDATE);
    msg.step = s->draining ? s->goal - 1 : s->step;
    msg.lr = s->totals.lr;
    msg.blob = update;
    msg.blob_size = size;
    s->totals.down.weights += size * cwi_session_count(s->session, CWI_MEMBER_ACTIVE);
    cwi_sync_broadcast(s, msg);
}

/* No client has a batch left (the longest shard's owner was lost): everyone moves to the end of the phase. */
static cw_status end_of_training_phase(cwi_sync_server *s)
{
    s->step = s->steps - 1;
    broadcast_update(s, NULL, 0);
    s->step = s->goal = s->steps;
    cwi_sync_await_train_done(s);
    return CW_OK;
}

/* The half's gradient becomes the average of all. When a client was lost during the step, the weights of the others
 * grow to make one again. */
static cw_status average_batches(cwi_sync_server *s, cw_error *err)
{
    const float scale = s->actual == s->expected ? 1.0f : (float)((double)s->expected / (double)s->actual);
    cw_half *half = s->server->half;
    if (s->guard.active)
        return cwi_sync_guard_finish_batches(s, err);
    return s->tickets == 1 ? cwi_half_sum_replace(half, scale, err)
                           : cwi_micro_sums_finish(&s->micro, s->weights, scale, half, err);
}

cw_status cwi_sync_finish_activations(cwi_sync_server *s, cw_error *err)
{
    if (!s->actual)
        return end_of_training_phase(s);
    cw_half *half = s->server->half;
    CWI_TRY(average_batches(s, err));
    const double progress = s->epoch + (double)s->step / (double)s->steps;
    const float lr = cwi_half_rate(half, cw_schedule_lr(&s->setup->schedule, progress, s->setup->config.epochs));
    s->totals.lr = lr;
    CWI_TRY(cw_half_step(half, lr, err));
    cwi_sync_tell_added(s, &s->guard.gradients, "batch_applied", "batch");
    cwi_report_step(&s->server->report, CW_EVENT_STEP, (int)s->epoch, s->step + 1, s->steps,
                    s->sum_loss / (double)s->sum_samples, cwi_sync_status(s));
    s->expected = 0;
    for (size_t i = 0; i < s->count; i++)
        s->expected += cwi_session_is_active(s->session, i) ? s->clients[i].batch : 0;
    cwi_sync_open_round(s, STAGE_CLIENT_GRADS, OWING_BATCHES);
    return CW_OK;
}

/* ---- gradients of the clients' half ---- */

cw_status cwi_sync_take_client_grad(cwi_sync_server *s, size_t client, const cw_msg *msg, cw_error *err)
{
    const size_t batch = s->clients[client].batch, floats = cwi_half_learned_count(s->server->mirror);
    if (msg->samples != batch)
        return cwi_fail(err, CW_ERR_PROTOCOL, "a gradient of %llu samples, due were %zu",
                        (unsigned long long)msg->samples, batch);
    cw_tensor gradient = cwi_half_vector(s->server->mirror, s->flat);
    const cw_decode_args args = {.threads = cwi_engine_threads(&s->setup->config)};
    const cw_status status = cw_decode(msg->blob, msg->blob_size, &gradient, &args, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "its gradient");
    CWI_TRY(cwi_gradient_check(cwi_peak(s->flat, floats), "its gradient", err));
    if (s->guard.active)
        CWI_TRY(cwi_ballot_give(&s->guard.client_gradients, client, s->flat, 1, false, (double)batch, err));
    else
        cwi_average_add(s->average, s->flat, floats, cwi_batch_weight(batch, s->expected), s->actual == 0);
    s->clients[client].added = true;
    s->actual += batch;
    s->totals.up.weights += msg->blob_size;
    return CW_OK;
}

/* The average of one client alone is what it has sent. An UPDATE that also ends the phase does not tell it so: then it
 * gets that back, uncoded. */
static cw_status give_back(cwi_sync_server *s, size_t *size, cw_error *err)
{
    cw_codec *none;
    const cw_tensor average = cwi_half_vector(s->server->mirror, s->average);
    CWI_TRY(cw_codec_create("none", &none, err));
    const size_t bound = cw_codec_bound(none, &average);
    uint8_t *coded = cwi_alloc(bound, 1);
    const cw_status status =
        coded ? cw_encode(none, &average, NULL, coded, bound, size, err) : cwi_fail_memory(err, bound);
    cw_codec_destroy(&none);
    cwi_free(s->coded_update);
    s->coded_update = coded;
    s->coded_capacity = bound;
    return status;
}

/* The average into s->coded_update as it is sent, and back: the mirror gets what the clients get. */
static cw_status code_update(cwi_sync_server *s, size_t *size, cw_error *err)
{
    cw_tensor average = cwi_half_vector(s->server->mirror, s->average);
    const cw_encode_args args = cwi_sync_encode_args(s, CWI_FLOW_UPDATE, 0, 0);
    const cw_decode_args back = {.threads = args.threads};
    const cw_status status =
        cw_encode(s->setup->update, &average, &args, s->coded_update, s->coded_capacity, size, err);
    if (status != CW_OK)
        return cwi_encode_status(status, CWI_FLOW_UPDATE, err);
    return cw_decode(s->coded_update, *size, &average, &back, err);
}

void cwi_sync_scale_average(cwi_sync_server *s, size_t floats)
{
    if (s->actual == s->expected)
        return;
    const float scale = (float)((double)s->expected / (double)s->actual);
    for (size_t i = 0; i < floats; i++)
        s->average[i] *= scale;
}

cw_status cwi_sync_finish_client_grads(cwi_sync_server *s, cw_error *err)
{
    size_t size = 0;
    cw_half *mirror = s->server->mirror;
    if (s->actual) {
        if (s->guard.active)
            cwi_sync_guard_finish_grads(s);
        else
            cwi_sync_scale_average(s, cwi_half_learned_count(mirror));
        if (!cwi_keeps_own_gradient(s->setup, s->count)) /* else the average is what the client has sent */
            CWI_TRY(code_update(s, &size, err));
        else if (s->draining)
            CWI_TRY(give_back(s, &size, err));
        CWI_TRY(cwi_half_put_learned(mirror, s->average, err));
        CWI_TRY(cw_half_step(mirror, (float)s->totals.lr, err));
        cwi_sync_tell_added(s, &s->guard.client_gradients, "gradient_applied", "gradient");
    }
    broadcast_update(s, s->coded_update, size);
    cwi_watch_end_step(&s->server->watch);
    if (++s->step < s->goal && !s->draining)
        return cwi_sync_begin_step(s, err);
    cwi_sync_await_train_done(s);
    return CW_OK;
}
