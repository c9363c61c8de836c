/* server_round.c - the rounds of a run.
 *
 * A round wants one frame of a kind from every client that owes it, takes them in the order of the clients (so that
 * sums come out the same whoever is faster) and then does what follows:
 *
 *     ACTIVATIONS   run the server's half on each, send GRADIENT     -> update this half
 *     CLIENT_GRADS  average                                          -> update the copy of the client half, send UPDATE
 *     TRAIN_DONE    average batch-norm buffers                       -> send STATE, begin evaluation, or save a
 *                                                                      checkpoint and go on within the epoch
 *     EVAL_DONE     nothing (batches are answered as they come)      -> report, next epoch
 */
#include <string.h>

#include "train/checkpoint.h"
#include "train/server.h"

typedef struct round_rule {
    cw_msg_type wants;
    cw_status (*take)(cwi_server *s, cwi_slot *slot, const cw_msg *msg, cw_error *err);
    cw_status (*finish)(cwi_server *s, cw_error *err);
} round_rule;

static const round_rule *rule_of(cwi_stage stage);

/* ---- helpers ---- */

cw_msg cwi_server_message(const cwi_server *s, const cwi_slot *slot, cw_msg_type type)
{
    return (cw_msg){.type = type,
                    .client = slot ? (uint32_t)(slot - s->slots) : UINT32_MAX,
                    .session = s->session,
                    .epoch = s->epoch,
                    .step = s->step};
}

size_t cwi_server_active(const cwi_server *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->slot_count; i++)
        n += s->slots[i].state == CWI_SLOT_ACTIVE;
    return n;
}

/* Sends to an active client; one that cannot be reached is lost, the rest goes on. */
static void send_or_lose(cwi_server *s, cwi_slot *slot, const cw_msg *msg)
{
    cw_error err;
    cw_status status = cwi_outbox_send(&s->box, slot->peer, msg, &err);
    if (status != CW_OK)
        cwi_server_lose(s, slot, status, err.message);
}

static uint64_t batch_of(const cwi_server *s, const cwi_slot *slot, uint32_t step)
{
    uint64_t batch = (uint64_t)s->setup.config.batch, done = step * batch;
    return slot->samples > done ? CWI_MIN(batch, slot->samples - done) : 0;
}

static uint32_t batches_of(const cwi_server *s, uint64_t samples)
{
    uint64_t batch = (uint64_t)s->setup.config.batch;
    return (uint32_t)((samples + batch - 1) / batch);
}

/* Begins a round: every active client owes, or those that have samples in this step. */
static void open_round(cwi_server *s, cwi_stage stage, bool only_with_batch)
{
    double now = cwi_seconds();
    s->stage = stage;
    s->next = 0;
    s->actual = 0;
    for (size_t i = 0; i < s->slot_count; i++) {
        cwi_slot *slot = &s->slots[i];
        slot->owes = slot->state == CWI_SLOT_ACTIVE && (!only_with_batch || slot->batch > 0);
        if (slot->state == CWI_SLOT_ACTIVE) /* one that joins has owed READY since its WELCOME */
            slot->due_from = now;
    }
}

/* ---- training: activations ---- */

static cw_status begin_step(cwi_server *s, cw_error *err)
{
    s->expected = 0;
    for (size_t i = 0; i < s->slot_count; i++) {
        cwi_slot *slot = &s->slots[i];
        slot->batch = slot->state == CWI_SLOT_ACTIVE ? batch_of(s, slot, s->step) : 0;
        s->expected += slot->batch;
    }
    open_round(s, CWI_STAGE_ACTIVATIONS, true);
    cw_status status = cw_part_grad_sum_clear(s->half.part);
    return status == CW_OK ? CW_OK : cwi_fail(err, status, "cannot clear gradients");
}

static cw_tensor smashed_view(const cwi_server *s, float *data, uint64_t n)
{
    cw_shape shape = {.ndim = s->setup.cut.smashed.ndim + 1, .dim = {(int64_t)n}};
    memcpy(shape.dim + 1, s->setup.cut.smashed.dim, sizeof(int64_t) * (size_t)s->setup.cut.smashed.ndim);
    return cw_tensor_view(CW_F32, &shape, data);
}

/* Decodes a batch and runs this half forward and through the loss. */
static cw_status run_batch(cwi_server *s, const cwi_slot *slot, const cw_msg *msg, cw_mode mode, cw_loss *loss,
                           cw_error *err)
{
    if (msg->samples < 1 || msg->samples > (uint64_t)s->setup.config.batch)
        return cwi_fail(err, CW_ERR_PROTOCOL, "a batch of %llu samples, this run has at most %d",
                        (unsigned long long)msg->samples, s->setup.config.batch);
    CWI_TRY(cwi_server_labels(s, slot, msg, err));
    cw_tensor x = smashed_view(s, s->x, msg->samples);
    cw_decode_args args = {.threads = cwi_engine_threads(&s->setup.config), .sent = s->sent};
    CWI_TRY(cw_decode(msg->blob, msg->blob_size, &x, &args, err));
    size_t n = (size_t)msg->samples;
    CWI_TRY(cw_part_forward(s->half.part, mode, s->x, n, NULL, err));
    return cw_part_loss(s->half.part, s->labels, n, loss, err);
}

static cw_encode_args encode_args(const cwi_server *s, cwi_flow flow, size_t client)
{
    return (cw_encode_args){.seed = cwi_codec_seed(s->setup.config.seed, flow, client, s->epoch, s->step),
                            .threads = cwi_engine_threads(&s->setup.config)};
}

static uint64_t raw_bytes(const cwi_server *s, uint64_t samples)
{
    return samples * s->setup.smashed_count * sizeof(float);
}

/* Behind a ReLU the client has no use for the gradient where its activation is 0, and this is where the server knows of
 * it. An activation that the codec made 0 counts as one that is: the gradient is that of the network with the codec's
 * dead zone in it. */
static void mask_gradient(const cwi_server *s, uint64_t n)
{
    for (size_t i = 0; i < n * s->setup.smashed_count; i++)
        s->dx[i] = s->sent[i] ? s->dx[i] : 0;
}

static cw_status send_gradient(cwi_server *s, cwi_slot *slot, const cw_loss *loss, uint64_t n, cw_error *err)
{
    cw_msg msg = cwi_server_message(s, slot, CW_MSG_GRADIENT);
    msg.loss = loss->mean * (double)n;
    msg.correct = loss->correct;
    cw_tensor dx = smashed_view(s, s->dx, n);
    cw_encode_args args = encode_args(s, CWI_FLOW_DOWNLINK, (size_t)(slot - s->slots));
    args.support = s->sent;
    size_t payload;
    cw_status status = cwi_outbox_send_tensor(&s->box, slot->peer, &msg, s->setup.down, &dx, &args, &payload, err);
    if (status != CW_OK)
        return cwi_encode_status(status, CWI_FLOW_DOWNLINK, err);
    s->totals.down.payload += payload;
    s->totals.down.raw += raw_bytes(s, n);
    return CW_OK;
}

/* What the batch has done to this half: its gradients, and its batch-norm statistics. */
static cw_status check_batch(cwi_server *s, cw_error *err)
{
    CWI_TRY(cwi_gradient_check(cw_part_grad_peak(s->half.part), "this half's gradient for its activations", err));
    cw_part_export_buffers(s->half.part, s->half.flat);
    cw_status status = cw_part_check_buffers(s->half.part, s->half.flat, CWI_STATISTICS_MAX, err);
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "this half's statistics of its activations");
}

static cw_status train_on_batch(cwi_server *s, cwi_slot *slot, const cw_msg *msg, cw_loss *loss, cw_error *err)
{
    cw_part_set_position(s->half.part,
                         cwi_part_position((size_t)(slot - s->slots), s->epoch, batches_of(s, slot->samples), s->step));
    CWI_TRY(run_batch(s, slot, msg, CW_TRAIN, loss, err));
    CWI_TRY(cw_part_backward(s->half.part, NULL, s->dx, err));
    CWI_TRY(check_batch(s, err));
    if (s->setup.mask_gradient)
        mask_gradient(s, slot->batch);
    CWI_TRY(send_gradient(s, slot, loss, slot->batch, err));
    return cw_part_grad_sum_add(s->half.part, cwi_batch_weight(slot->batch, s->expected));
}

static cw_status take_activation(cwi_server *s, cwi_slot *slot, const cw_msg *msg, cw_error *err)
{
    if (msg->phase != CW_PHASE_TRAIN || msg->samples != slot->batch)
        return cwi_fail(err, CW_ERR_PROTOCOL, "a batch of %llu samples where %llu were due",
                        (unsigned long long)msg->samples, (unsigned long long)slot->batch);
    cw_loss loss;
    cw_part_export_buffers(s->half.part, s->statistics);
    cw_status status = train_on_batch(s, slot, msg, &loss, err);
    if (status != CW_OK) {
        cw_part_import_buffers(s->half.part, s->statistics);
        return status;
    }
    s->actual += slot->batch;
    s->totals.up.payload += msg->blob_size;
    s->totals.up.raw += raw_bytes(s, slot->batch);
    s->sum_loss += loss.mean * (double)slot->batch;
    s->sum_correct += loss.correct;
    s->sum_samples += slot->batch;
    return CW_OK;
}

static cw_status end_of_training_phase(cwi_server *s);

static cw_status finish_activations(cwi_server *s, cw_error *err)
{
    if (!s->actual)
        return end_of_training_phase(s);
    /* When a client was lost during the step, the weights of the others grow to make one again. */
    float scale = s->actual == s->expected ? 1.0f : (float)((double)s->expected / (double)s->actual);
    CWI_TRY(cw_part_grad_sum_replace(s->half.part, scale));
    double progress = s->epoch + (double)s->step / (double)s->steps;
    float lr = cw_schedule_lr(&s->setup.schedule, progress, s->setup.config.epochs);
    s->totals.lr = lr;
    cw_status status = cw_optimizer_step(s->half.optimizer, lr);
    if (status != CW_OK)
        return cwi_fail(err, status, "cannot update the server's half");
    cwi_report_step(&s->report, CW_EVENT_STEP, (int)s->epoch, s->step + 1, s->steps,
                    s->sum_loss / (double)s->sum_samples);
    uint64_t expected = 0;
    for (size_t i = 0; i < s->slot_count; i++)
        expected += s->slots[i].state == CWI_SLOT_ACTIVE ? s->slots[i].batch : 0;
    s->expected = expected;
    open_round(s, CWI_STAGE_CLIENT_GRADS, true);
    return CW_OK;
}

static uint64_t active_samples(const cwi_server *s)
{
    uint64_t samples = 0;
    for (size_t i = 0; i < s->slot_count; i++)
        samples += s->slots[i].state == CWI_SLOT_ACTIVE ? s->slots[i].samples : 0;
    return samples;
}

static void await_train_done(cwi_server *s)
{
    open_round(s, CWI_STAGE_TRAIN_DONE, false);
    s->expected = active_samples(s);
}

/* ---- training: gradients of the client half ---- */

static cw_status take_client_grad(cwi_server *s, cwi_slot *slot, const cw_msg *msg, cw_error *err)
{
    if (msg->samples != slot->batch)
        return cwi_fail(err, CW_ERR_PROTOCOL, "a gradient of %llu samples, due were %llu",
                        (unsigned long long)msg->samples, (unsigned long long)slot->batch);
    cw_tensor gradient = cwi_half_vector(&s->client, s->client.flat);
    const cw_decode_args args = {.threads = cwi_engine_threads(&s->setup.config)};
    cw_status status = cw_decode(msg->blob, msg->blob_size, &gradient, &args, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "its gradient");
    CWI_TRY(cwi_gradient_check(cw_peak(s->client.flat, s->client.trainable), "its gradient", err));
    cwi_average_add(s->average, s->client.flat, s->client.trainable, cwi_batch_weight(slot->batch, s->expected),
                    s->actual == 0);
    s->actual += slot->batch;
    s->totals.up.weights += msg->blob_size;
    return CW_OK;
}

/* Everyone applies the averaged gradient, `update` as sent; without one (every contributor was lost) everyone just
 * moves on. */
static void broadcast_update(cwi_server *s, const uint8_t *update, size_t size)
{
    for (size_t i = 0; i < s->slot_count; i++) {
        cwi_slot *slot = &s->slots[i];
        if (slot->state != CWI_SLOT_ACTIVE)
            continue;
        cw_msg msg = cwi_server_message(s, slot, CW_MSG_UPDATE);
        msg.lr = s->totals.lr;
        msg.blob = update;
        msg.blob_size = size;
        s->totals.down.weights += size;
        send_or_lose(s, slot, &msg);
    }
}

/* The average into s->coded_update as it is sent, and back: this copy of the client half gets what the clients get. */
static cw_status code_update(cwi_server *s, size_t *size, cw_error *err)
{
    cw_tensor average = cwi_half_vector(&s->client, s->average);
    const cw_encode_args args = encode_args(s, CWI_FLOW_UPDATE, 0);
    const cw_decode_args back = {.threads = args.threads};
    cw_status status = cw_encode(s->setup.update, &average, &args, s->coded_update, s->coded_capacity, size, err);
    if (status != CW_OK)
        return cwi_encode_status(status, CWI_FLOW_UPDATE, err);
    return cw_decode(s->coded_update, *size, &average, &back, err);
}

static cw_status finish_client_grads(cwi_server *s, cw_error *err)
{
    size_t size = 0;
    if (s->actual) {
        if (s->actual != s->expected) {
            float scale = (float)((double)s->expected / (double)s->actual);
            for (size_t i = 0; i < s->client.trainable; i++)
                s->average[i] *= scale;
        }
        CWI_TRY(code_update(s, &size, err));
        cw_part_import_grads(s->client.part, s->average);
        cw_status status = cw_optimizer_step(s->client.optimizer, (float)s->totals.lr);
        if (status != CW_OK)
            return cwi_fail(err, status, "cannot update the client half");
    }
    broadcast_update(s, s->coded_update, size);
    if (++s->step < s->goal)
        return begin_step(s, err);
    await_train_done(s);
    return CW_OK;
}

/* No client has a batch left (the longest shard's owner was lost): everyone moves to the end of the phase. */
static cw_status end_of_training_phase(cwi_server *s)
{
    s->step = s->steps - 1;
    broadcast_update(s, NULL, 0);
    s->step = s->goal = s->steps;
    await_train_done(s);
    return CW_OK;
}

/* ---- between training and evaluation ---- */

static cw_status take_train_done(cwi_server *s, cwi_slot *slot, const cw_msg *msg, cw_error *err)
{
    if (msg->phase != CW_PHASE_TRAIN || msg->blob_size != s->client.buffers * sizeof(float))
        return cwi_fail(err, CW_ERR_PROTOCOL, "%zu bytes of batch-norm statistics, %zu were due", msg->blob_size,
                        s->client.buffers * sizeof(float));
    memcpy(s->client.flat, msg->blob ? msg->blob : (const uint8_t *)"", msg->blob_size);
    cw_status status = cw_part_check_buffers(s->client.part, s->client.flat, CWI_STATISTICS_MAX, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "its batch-norm statistics");
    cwi_average_add(s->average, s->client.flat, s->client.buffers, cwi_batch_weight(slot->samples, s->expected),
                    s->actual == 0);
    s->actual += slot->samples;
    s->totals.up.weights += msg->blob_size;
    return CW_OK;
}

static cw_status send_state(cwi_server *s, cw_error *err)
{
    uint8_t *bytes;
    size_t size;
    CWI_TRY(cwi_half_save(&s->client, &bytes, &size, err));
    for (size_t i = 0; i < s->slot_count; i++) {
        cwi_slot *slot = &s->slots[i];
        if (slot->state != CWI_SLOT_ACTIVE)
            continue;
        cw_msg msg = cwi_server_message(s, slot, CW_MSG_STATE);
        msg.blob = bytes;
        msg.blob_size = size;
        s->totals.down.weights += size;
        send_or_lose(s, slot, &msg);
    }
    cw_bytes_free(bytes);
    return CW_OK;
}

static void broadcast_begin(cwi_server *s, cw_phase phase)
{
    for (size_t i = 0; i < s->slot_count; i++) {
        cwi_slot *slot = &s->slots[i];
        if (slot->state != CWI_SLOT_ACTIVE)
            continue;
        cw_msg msg = cwi_server_message(s, slot, CW_MSG_BEGIN);
        msg.phase = phase;
        msg.steps = s->goal;
        send_or_lose(s, slot, &msg);
    }
}

/* Begins the epoch's steps, or goes on with them. */
static cw_status begin_phase(cwi_server *s, cw_error *err)
{
    s->goal = cwi_checkpoint_next_step(&s->setup.config, s->step, s->steps);
    CWI_TRY(send_state(s, err));
    broadcast_begin(s, CW_PHASE_TRAIN);
    return begin_step(s, err);
}

static cw_status save_within_epoch(cwi_server *s, cw_error *err)
{
    const cw_net_stats stats = cw_transport_stats(s->box.transport);
    cwi_progress at = {.epoch = (int)s->epoch,
                       .step = s->step,
                       .loss = s->sum_loss,
                       .correct = s->sum_correct,
                       .samples = s->sum_samples,
                       .train_seconds = cwi_seconds() - s->phase_began,
                       .seconds = cwi_seconds() - s->report.began,
                       .up = s->totals.up,
                       .down = s->totals.down};
    at.up.socket = s->before_up + stats.bytes_received;
    at.down.socket = s->before_down + stats.bytes_sent;
    cwi_half *const halves[] = {&s->client, &s->half};
    return cwi_checkpoint_save(&s->report, &s->setup.config, halves, CWI_COUNT(halves), &at, err);
}

static cw_status finish_epoch(cwi_server *s, cw_error *err);

static cw_status finish_train_done(cwi_server *s, cw_error *err)
{
    if (s->actual) {
        for (size_t i = 0; s->actual != s->expected && i < s->client.buffers; i++)
            s->average[i] *= (float)((double)s->expected / (double)s->actual);
        cw_part_import_buffers(s->client.part, s->average);
    }
    if (s->step < s->steps) {
        CWI_TRY(save_within_epoch(s, err));
        return begin_phase(s, err);
    }
    s->totals.train_seconds = cwi_seconds() - s->phase_began;
    for (size_t i = 0; i < s->slot_count; i++) {
        s->slots[i].loss = 0;
        s->slots[i].correct = s->slots[i].evaluated = 0;
    }
    if (!cwi_eval_due(&s->setup.config, (int)s->epoch))
        return finish_epoch(s, err);
    s->step = 0;
    CWI_TRY(send_state(s, err));
    open_round(s, CWI_STAGE_EVAL_DONE, false);
    broadcast_begin(s, CW_PHASE_EVAL);
    return CW_OK;
}

/* ---- evaluation ---- */

/* Answered at once: evaluation changes nothing that another client could see. */
static cw_status take_eval_batch(cwi_server *s, cwi_slot *slot, const cw_msg *msg, cw_error *err)
{
    cw_loss loss;
    CWI_TRY(run_batch(s, slot, msg, CW_EVAL, &loss, err));
    slot->loss += loss.mean * (double)msg->samples;
    slot->correct += loss.correct;
    slot->evaluated += msg->samples;
    slot->due_from = cwi_seconds();
    if (slot->evaluated > slot->test_samples)
        return cwi_fail(err, CW_ERR_PROTOCOL, "more than the %llu test samples it announced",
                        (unsigned long long)slot->test_samples);
    s->totals.up.eval_payload += msg->blob_size;
    s->totals.up.eval_raw += raw_bytes(s, msg->samples);
    cw_msg reply = cwi_server_message(s, slot, CW_MSG_RESULT);
    reply.step = msg->step;
    reply.loss = loss.mean * (double)msg->samples;
    reply.correct = loss.correct;
    cwi_report_step(&s->report, CW_EVENT_EVAL, (int)s->epoch, msg->step + 1, batches_of(s, slot->test_samples), 0);
    return cwi_outbox_send(&s->box, slot->peer, &reply, err);
}

static cw_status take_eval_done(cwi_server *s, cwi_slot *slot, const cw_msg *msg, cw_error *err)
{
    if (msg->phase != CW_PHASE_EVAL || slot->evaluated != slot->test_samples)
        return cwi_fail(err, CW_ERR_PROTOCOL, "it evaluated %llu of the %llu test samples it announced",
                        (unsigned long long)slot->evaluated, (unsigned long long)slot->test_samples);
    s->actual++;
    return CW_OK;
}

/* Also of an epoch that is not evaluated: there `samples` stays 0. */
static cw_status finish_epoch(cwi_server *s, cw_error *err)
{
    double loss = 0;
    uint64_t correct = 0, samples = 0;
    for (size_t i = 0; i < s->slot_count; i++) {
        const cwi_slot *slot = &s->slots[i];
        if (slot->state != CWI_SLOT_ACTIVE)
            continue;
        loss += slot->loss;
        correct += slot->correct;
        samples += slot->evaluated;
    }
    cw_net_stats stats = cw_transport_stats(s->box.transport);
    cw_epoch_report *r = &s->totals;
    r->epoch = (int)s->epoch;
    r->train_loss = s->sum_samples ? s->sum_loss / (double)s->sum_samples : 0;
    r->train_accuracy = s->sum_samples ? (double)s->sum_correct / (double)s->sum_samples : 0;
    r->train_samples = s->sum_samples;
    r->test_samples = samples;
    r->test_loss = samples ? loss / (double)samples : 0;
    r->test_accuracy = samples ? (double)correct / (double)samples : 0;
    r->clients = (int)cwi_server_active(s);
    r->up.socket = s->before_up + stats.bytes_received;
    r->down.socket = s->before_down + stats.bytes_sent;
    cwi_report_epoch(&s->report, r);
    cwi_half *const halves[] = {&s->client, &s->half};
    CWI_TRY(cwi_checkpoint_save(&s->report, &s->setup.config, halves, CWI_COUNT(halves),
                                &(cwi_progress){.epoch = r->epoch + 1}, err));
    if (++s->epoch < (uint32_t)s->setup.config.epochs)
        return cwi_server_begin_epoch(s, err);
    s->stage = CWI_STAGE_FINISHED;
    return CW_OK;
}

/* ---- the rounds ---- */

static const round_rule rules[] = {
    [CWI_STAGE_ACTIVATIONS] = {CW_MSG_ACTIVATION, take_activation, finish_activations},
    [CWI_STAGE_CLIENT_GRADS] = {CW_MSG_CLIENT_GRAD, take_client_grad, finish_client_grads},
    [CWI_STAGE_TRAIN_DONE] = {CW_MSG_PHASE_DONE, take_train_done, finish_train_done},
    [CWI_STAGE_EVAL_DONE] = {CW_MSG_PHASE_DONE, take_eval_done, finish_epoch},
};

static const round_rule *rule_of(cwi_stage stage)
{
    return (size_t)stage < CWI_COUNT(rules) && rules[stage].take ? &rules[stage] : NULL;
}

cw_status cwi_server_begin_epoch(cwi_server *s, cw_error *err)
{
    for (size_t i = 0; i < s->slot_count; i++)
        if (s->slots[i].state == CWI_SLOT_READY)
            s->slots[i].state = CWI_SLOT_ACTIVE;
    s->steps = 0;
    for (size_t i = 0; i < s->slot_count; i++)
        if (s->slots[i].state == CWI_SLOT_ACTIVE)
            s->steps = CWI_MAX(s->steps, batches_of(s, s->slots[i].samples));
    s->step = CWI_MIN(s->from.step, s->steps);
    s->sum_loss = s->from.loss;
    s->sum_correct = s->from.correct;
    s->sum_samples = s->from.samples;
    s->phase_began = cwi_seconds() - s->from.train_seconds;
    s->from = (cwi_progress){0}; /* the epochs that follow begin at their beginning */
    return begin_phase(s, err);
}

/* Whether the round wants this from the slot, or it comes early: a client whose activation was taken sends its gradient
 * while the server still works on the others'. */
static bool is_due(const cwi_server *s, const cwi_slot *slot, const cw_msg *msg)
{
    const round_rule *rule = rule_of(s->stage);
    if (!rule || slot->state != CWI_SLOT_ACTIVE || slot->arrived || msg->epoch != s->epoch)
        return false;
    if (s->stage == CWI_STAGE_ACTIVATIONS && msg->type == CW_MSG_CLIENT_GRAD)
        return !slot->owes && slot->batch > 0 && msg->step == s->step;
    return slot->owes && msg->type == rule->wants && (msg->type == CW_MSG_PHASE_DONE || msg->step == s->step);
}

cw_status cwi_server_take(cwi_server *s, cwi_slot *slot, const cw_msg *msg, cw_frame *frame, cw_error *err)
{
    if (s->stage == CWI_STAGE_EVAL_DONE && msg->type == CW_MSG_ACTIVATION && msg->phase == CW_PHASE_EVAL &&
        slot->state == CWI_SLOT_ACTIVE && slot->owes && !slot->arrived && msg->epoch == s->epoch)
        return take_eval_batch(s, slot, msg, err);
    if (!is_due(s, slot, msg))
        return cwi_fail(err, CW_ERR_PROTOCOL, "it sent %s (epoch %u, step %u) when that was not due",
                        cw_msg_name(msg->type), msg->epoch, msg->step);
    slot->frame = *frame;
    slot->arrived = true;
    frame->owner = NULL;
    return CW_OK;
}

/* Takes the frame that a slot holds; a client whose frame is bad is lost. */
static void take_held(cwi_server *s, cwi_slot *slot)
{
    cw_error err;
    cw_msg msg;
    cw_frame frame = slot->frame;
    slot->arrived = slot->owes = false;
    cw_status status = cw_msg_decode(frame.bytes, frame.size, &msg, &err);
    if (status == CW_OK)
        status = rule_of(s->stage)->take(s, slot, &msg, &err);
    cw_frame_release(&frame);
    if (status != CW_OK)
        cwi_server_lose(s, slot, status, err.message);
}

cw_status cwi_server_advance(cwi_server *s, cw_error *err)
{
    while (rule_of(s->stage) && cwi_server_active(s)) {
        while (s->next < s->slot_count && (!s->slots[s->next].owes || s->slots[s->next].arrived)) {
            if (s->slots[s->next].arrived)
                take_held(s, &s->slots[s->next]);
            s->next++;
        }
        if (s->next < s->slot_count || !cwi_server_active(s)) /* its last client may just have been lost */
            return CW_OK;
        CWI_TRY(rule_of(s->stage)->finish(s, err));
    }
    return CW_OK;
}
