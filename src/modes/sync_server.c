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
#include <string.h>

#include "modes/batch_room.h"
#include "modes/sync.h"

typedef enum sync_stage {
    STAGE_BEFORE, /* the first epoch */
    STAGE_ACTIVATIONS,
    STAGE_CLIENT_GRADS,
    STAGE_TRAIN_DONE,
    STAGE_EVAL_DONE,
    STAGE_CLIENT_STATE, /* one client is to give what all are to have */
    STAGE_FINISHED,
} sync_stage;

/* One client's work. */
typedef struct client_work {
    uint64_t samples, test_samples, batch_size;
    bool synced;  /* has what the mirror has, where that is remote */
    size_t batch; /* samples of its batch in the step under way */
    double loss;  /* sums over the evaluation so far, kept apart so that their order never matters */
    uint64_t correct, evaluated;
} client_work;

typedef struct sync_server {
    cw_server *server;
    cwi_session *session;
    const cwi_setup *setup;
    cwi_admission admission;
    cwi_labels names;
    client_work *clients;
    size_t count, tickets;
    cwi_barrier barrier;
    sync_stage stage;
    uint32_t epoch, step, steps;
    uint32_t goal;             /* the phase ends before this step: the epoch's last, or a checkpoint is to be saved */
    uint64_t expected, actual; /* samples of the step: at its start, and of clients whose work counts */
    cwi_progress from; /* where the next epoch begins: at its first step, but for a run that goes on within one */
    double sum_loss;   /* of the epoch's training */
    uint64_t sum_correct, sum_samples;
    double phase_began;
    cwi_micro_sums micro;  /* with several tickets */
    float *weights;        /* of the clients' sums in it */
    float *average;        /* client gradients or buffers */
    float *flat;           /* one client's, as it sends them */
    float *statistics;     /* this half's batch-norm statistics before the batch at hand, for when that is refused */
    float *now;            /* those after it */
    uint8_t *coded_update; /* the averaged gradient as it is sent */
    size_t coded_capacity;
    cwi_batch_room batch;
    cw_status (*then)(struct sync_server *s, cw_error *err); /* what waits for a client's state */
    size_t giver;                                            /* that client */
    bool averaged;                                           /* it is to take the averaged buffers first */
    cw_epoch_report totals;
    uint64_t before_up, before_down; /* at the socket, before this process went on with the run */
} sync_server;

typedef struct round_rule {
    cw_msg_type wants;
    cw_status (*take)(sync_server *s, size_t client, const cw_msg *msg, cw_error *err);
    cw_status (*finish)(sync_server *s, cw_error *err);
} round_rule;

static const round_rule *rule_of(sync_stage stage);

/* ---- life ---- */

/* Vectors of the clients' half, once its size is known. */
static cw_status make_vectors(sync_server *s, cw_error *err)
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

static cw_status allocate(sync_server *s, cw_error *err)
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

static void take_start(sync_server *s, const cw_server *server)
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
    sync_server *s = *state = cwi_calloc(1, sizeof *s);
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
    take_start(s, server);
    return CW_OK;
}

void cwi_sync_close_server(void *state)
{
    sync_server *s = state;
    if (!s)
        return;
    cwi_barrier_close(&s->barrier);
    cwi_labels_close(&s->names);
    cwi_micro_sums_close(&s->micro);
    cwi_batch_room_close(&s->batch);
    void *const own[] = {s->clients, s->weights, s->average, s->flat, s->statistics, s->now, s->coded_update};
    for (size_t i = 0; i < CWI_COUNT(own); i++)
        cwi_free(own[i]);
    cwi_free(s);
}

/* ---- helpers ---- */

static cw_msg message(const sync_server *s, size_t client, cw_msg_type type)
{
    cw_msg msg = cwi_session_message(s->session, client, type);
    msg.epoch = s->epoch;
    msg.step = s->step;
    return msg;
}

/* The same to every active client. */
static void broadcast(sync_server *s, cw_msg msg)
{
    for (size_t i = 0; i < s->count; i++) {
        if (!cwi_session_is_active(s->session, i))
            continue;
        msg.client = (uint32_t)i;
        cwi_session_send(s->session, i, &msg);
    }
}

static uint64_t batch_of(const sync_server *s, size_t client, uint32_t step)
{
    const uint64_t batch = s->clients[client].batch_size, done = step * batch, all = s->clients[client].samples;
    return all > done ? CWI_MIN(batch, all - done) : 0;
}

static uint32_t batches_of(const sync_server *s, size_t client, uint64_t samples)
{
    const uint64_t batch = s->clients[client].batch_size;
    return (uint32_t)((samples + batch - 1) / batch);
}

typedef enum sync_owing { OWING_ALL, OWING_BATCHES, OWING_MICRO_BATCHES, OWING_NOTHING } sync_owing;

static uint32_t frames_owed(const sync_server *s, size_t client, sync_owing owing)
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
static void open_round(sync_server *s, sync_stage stage, sync_owing owing)
{
    s->stage = stage;
    s->actual = 0;
    cwi_barrier_begin(&s->barrier);
    for (size_t i = 0; i < s->count; i++) {
        if (!cwi_session_is_active(s->session, i)) /* one that joins has owed READY since its WELCOME */
            continue;
        cwi_barrier_owe(&s->barrier, i, frames_owed(s, i, owing));
        cwi_session_owes_from_now(s->session, i);
    }
}

static cw_encode_args encode_args(const sync_server *s, cwi_flow flow, size_t client, uint32_t ticket)
{
    return (cw_encode_args){.seed = cwi_codec_seed(s->setup->config.seed, flow, client, s->epoch, s->step, ticket),
                            .threads = cwi_engine_threads(&s->setup->config)};
}

static uint64_t raw_bytes(const sync_server *s)
{
    return cwi_batch_elements(&s->batch) * sizeof(float);
}

static void count_socket(const sync_server *s, cw_traffic *up, cw_traffic *down)
{
    const cw_net_stats stats = cw_transport_stats(s->session->box.transport);
    up->socket = s->before_up + stats.bytes_received;
    down->socket = s->before_down + stats.bytes_sent;
}

static const cw_server_status *status_of(sync_server *s)
{
    cw_epoch_report so_far = s->totals;
    count_socket(s, &so_far.up, &so_far.down);
    return cwi_server_status(s->server, &so_far);
}

/* ---- training: activations ---- */

static cw_status begin_step(sync_server *s, cw_error *err)
{
    s->expected = 0;
    for (size_t i = 0; i < s->count; i++) {
        client_work *c = &s->clients[i];
        c->batch = cwi_session_is_active(s->session, i) ? (size_t)batch_of(s, i, s->step) : 0;
        s->expected += c->batch;
    }
    open_round(s, STAGE_ACTIVATIONS, OWING_MICRO_BATCHES);
    cwi_watch_begin_step(&s->server->watch);
    if (s->tickets > 1)
        cwi_micro_sums_clear(&s->micro);
    return cwi_half_sum_clear(s->server->half, err);
}

static cw_status take_targets(sync_server *s, size_t client, const cw_msg *msg, cw_targets *targets, cw_error *err)
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

/* Decodes a batch and runs this half forward and through the loss. */
static cw_status run_batch(sync_server *s, size_t client, const cw_msg *msg, cw_half_call *call, cw_loss *loss,
                           cw_error *err)
{
    cw_targets targets;
    CWI_TRY(cwi_batch_room_take(&s->batch, msg, err));
    CWI_TRY(take_targets(s, client, msg, &targets, err));
    cw_tensor x = cwi_batch_tensor(&s->batch, s->batch.x);
    call->shape = s->batch.shape;
    const cw_decode_args args = {.threads = cwi_engine_threads(&s->setup->config), .sent = s->batch.sent};
    CWI_TRY(cw_decode(msg->blob, msg->blob_size, &x, &args, err));
    CWI_TRY(cw_half_forward(s->server->half, call, s->batch.x, NULL, err));
    return cw_half_loss(s->server->half, call, &targets, loss, err);
}

static cw_status send_gradient(sync_server *s, size_t client, uint32_t ticket, const cw_loss *loss, size_t n,
                               cw_error *err)
{
    cw_msg msg = message(s, client, CW_MSG_GRADIENT);
    msg.ticket = ticket;
    msg.loss = loss->mean * (double)n;
    msg.correct = loss->correct;
    const cw_tensor dx = cwi_batch_tensor(&s->batch, s->batch.dx);
    cw_encode_args args = encode_args(s, CWI_FLOW_DOWNLINK, client, ticket);
    args.support = s->batch.sent;
    size_t payload;
    const cw_status status = cwi_outbox_send_tensor(&s->session->box, s->session->members[client].peer, &msg,
                                                    s->setup->down, &dx, &args, &payload, err);
    if (status != CW_OK)
        return cwi_encode_status(status, CWI_FLOW_DOWNLINK, err);
    s->totals.down.payload += payload;
    s->totals.down.raw += raw_bytes(s);
    return CW_OK;
}

/* What the batch has done to this half: its gradients, and its batch-norm statistics. */
static cw_status check_batch(sync_server *s, cw_error *err)
{
    float peak;
    CWI_TRY(cwi_half_gradient_peak(s->server->half, &peak, err));
    CWI_TRY(cwi_gradient_check(peak, "this half's gradient for its activations", err));
    CWI_TRY(cw_half_get(s->server->half, CW_HALF_BUFFER, s->now, err));
    const cw_status status = cwi_half_check_buffers(s->server->half, s->now, CWI_STATISTICS_MAX, err);
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "this half's statistics of its activations");
}

/* Sums over the micro-batches of a client first, then over clients; without micro-batches in the half's own memory. */
static cw_status add_gradient(sync_server *s, size_t client, size_t n, cw_error *err)
{
    const size_t batch = s->clients[client].batch;
    if (s->tickets == 1)
        return cwi_half_sum_add(s->server->half, cwi_batch_weight(n, s->expected), err);
    s->weights[client] = cwi_batch_weight(batch, s->expected);
    return cwi_micro_sums_add(&s->micro, client, s->server->half, cwi_batch_weight(n, batch), err);
}

static cw_status train_on_batch(sync_server *s, size_t client, const cw_msg *msg, cw_loss *loss, cw_error *err)
{
    cw_half_call call = {.mode = CW_TRAIN, .n = (size_t)msg->samples};
    call.position = cwi_part_position(client, s->epoch, batches_of(s, client, s->clients[client].samples), s->step,
                                      msg->ticket, s->tickets);
    CWI_TRY(run_batch(s, client, msg, &call, loss, err));
    CWI_TRY(cw_half_backward(s->server->half, &call, NULL, s->batch.dx, err));
    CWI_TRY(check_batch(s, err));
    if (s->setup->mask_gradient)
        cwi_batch_mask(&s->batch);
    CWI_TRY(send_gradient(s, client, msg->ticket, loss, call.n, err));
    return add_gradient(s, client, call.n, err);
}

static cw_status take_activation(sync_server *s, size_t client, const cw_msg *msg, cw_error *err)
{
    size_t first, batch = s->clients[client].batch;
    const size_t n = cwi_micro_batch(batch, msg->ticket, cwi_micro_count(batch, s->tickets), &first);
    if (msg->phase != CW_PHASE_TRAIN || msg->samples != n)
        return cwi_fail(err, CW_ERR_PROTOCOL, "a batch of %llu samples where %zu were due",
                        (unsigned long long)msg->samples, n);
    cw_loss loss;
    CWI_TRY(cw_half_get(s->server->half, CW_HALF_BUFFER, s->statistics, err));
    const cw_status status = train_on_batch(s, client, msg, &loss, err);
    if (status != CW_OK) {
        (void)cw_half_put(s->server->half, CW_HALF_BUFFER, s->statistics, NULL);
        return status;
    }
    cwi_watch_batch_taken(&s->server->watch, client, loss.mean);
    s->actual += n;
    s->totals.up.payload += msg->blob_size;
    s->totals.up.raw += raw_bytes(s);
    s->sum_loss += loss.mean * (double)n;
    s->sum_correct += loss.correct;
    s->sum_samples += n;
    return CW_OK;
}

static cw_status end_of_training_phase(sync_server *s);

static cw_status finish_activations(sync_server *s, cw_error *err)
{
    if (!s->actual)
        return end_of_training_phase(s);
    /* When a client was lost during the step, the weights of the others grow to make one again. */
    const float scale = s->actual == s->expected ? 1.0f : (float)((double)s->expected / (double)s->actual);
    cw_half *half = s->server->half;
    CWI_TRY(s->tickets == 1 ? cwi_half_sum_replace(half, scale, err)
                            : cwi_micro_sums_finish(&s->micro, s->weights, scale, half, err));
    const double progress = s->epoch + (double)s->step / (double)s->steps;
    const float lr = cwi_half_rate(half, cw_schedule_lr(&s->setup->schedule, progress, s->setup->config.epochs));
    s->totals.lr = lr;
    CWI_TRY(cw_half_step(half, lr, err));
    cwi_report_step(&s->server->report, CW_EVENT_STEP, (int)s->epoch, s->step + 1, s->steps,
                    s->sum_loss / (double)s->sum_samples, status_of(s));
    s->expected = 0;
    for (size_t i = 0; i < s->count; i++)
        s->expected += cwi_session_is_active(s->session, i) ? s->clients[i].batch : 0;
    open_round(s, STAGE_CLIENT_GRADS, OWING_BATCHES);
    return CW_OK;
}

static void await_train_done(sync_server *s)
{
    open_round(s, STAGE_TRAIN_DONE, OWING_ALL);
    s->expected = 0;
    for (size_t i = 0; i < s->count; i++)
        s->expected += cwi_session_is_active(s->session, i) ? s->clients[i].samples : 0;
}

/* ---- training: gradients of the client half ---- */

static cw_status take_client_grad(sync_server *s, size_t client, const cw_msg *msg, cw_error *err)
{
    const size_t batch = s->clients[client].batch, floats = cw_half_weight_count(s->server->mirror);
    if (msg->samples != batch)
        return cwi_fail(err, CW_ERR_PROTOCOL, "a gradient of %llu samples, due were %zu",
                        (unsigned long long)msg->samples, batch);
    cw_tensor gradient = cwi_half_vector(s->server->mirror, s->flat);
    const cw_decode_args args = {.threads = cwi_engine_threads(&s->setup->config)};
    const cw_status status = cw_decode(msg->blob, msg->blob_size, &gradient, &args, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "its gradient");
    CWI_TRY(cwi_gradient_check(cwi_peak(s->flat, floats), "its gradient", err));
    cwi_average_add(s->average, s->flat, floats, cwi_batch_weight(batch, s->expected), s->actual == 0);
    s->actual += batch;
    s->totals.up.weights += msg->blob_size;
    return CW_OK;
}

/* Everyone applies the averaged gradient, `update` as sent; without one (every contributor was lost) everyone just
 * moves on. */
static void broadcast_update(sync_server *s, const uint8_t *update, size_t size)
{
    cw_msg msg = message(s, 0, CW_MSG_UPDATE);
    msg.lr = s->totals.lr;
    msg.blob = update;
    msg.blob_size = size;
    s->totals.down.weights += size * cwi_session_count(s->session, CWI_MEMBER_ACTIVE);
    broadcast(s, msg);
}

/* The average into s->coded_update as it is sent, and back: the mirror gets what the clients get. */
static cw_status code_update(sync_server *s, size_t *size, cw_error *err)
{
    cw_tensor average = cwi_half_vector(s->server->mirror, s->average);
    const cw_encode_args args = encode_args(s, CWI_FLOW_UPDATE, 0, 0);
    const cw_decode_args back = {.threads = args.threads};
    const cw_status status =
        cw_encode(s->setup->update, &average, &args, s->coded_update, s->coded_capacity, size, err);
    if (status != CW_OK)
        return cwi_encode_status(status, CWI_FLOW_UPDATE, err);
    return cw_decode(s->coded_update, *size, &average, &back, err);
}

/* What clients that were lost would have had is made up for by the others. */
static void scale_average(sync_server *s, size_t floats)
{
    if (s->actual == s->expected)
        return;
    const float scale = (float)((double)s->expected / (double)s->actual);
    for (size_t i = 0; i < floats; i++)
        s->average[i] *= scale;
}

static cw_status finish_client_grads(sync_server *s, cw_error *err)
{
    size_t size = 0;
    cw_half *mirror = s->server->mirror;
    if (s->actual) {
        scale_average(s, cw_half_weight_count(mirror));
        CWI_TRY(code_update(s, &size, err));
        CWI_TRY(cw_half_put(mirror, CW_HALF_GRADIENT, s->average, err));
        CWI_TRY(cw_half_step(mirror, (float)s->totals.lr, err));
    }
    broadcast_update(s, s->coded_update, size);
    cwi_watch_end_step(&s->server->watch);
    if (++s->step < s->goal)
        return begin_step(s, err);
    await_train_done(s);
    return CW_OK;
}

/* No client has a batch left (the longest shard's owner was lost): everyone moves to the end of the phase. */
static cw_status end_of_training_phase(sync_server *s)
{
    s->step = s->steps - 1;
    broadcast_update(s, NULL, 0);
    s->step = s->goal = s->steps;
    await_train_done(s);
    return CW_OK;
}

/* ---- between training and evaluation ---- */

static cw_status take_train_done(sync_server *s, size_t client, const cw_msg *msg, cw_error *err)
{
    const size_t floats = cw_half_buffer_count(s->server->mirror);
    if (msg->phase != CW_PHASE_TRAIN || msg->blob_size != floats * sizeof(float))
        return cwi_fail(err, CW_ERR_PROTOCOL, "%zu bytes of batch-norm statistics, %zu were due", msg->blob_size,
                        floats * sizeof(float));
    memcpy(s->flat, msg->blob ? msg->blob : (const uint8_t *)"", msg->blob_size);
    const cw_status status = cwi_half_check_buffers(s->server->mirror, s->flat, CWI_STATISTICS_MAX, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "its batch-norm statistics");
    const uint64_t samples = s->clients[client].samples;
    cwi_average_add(s->average, s->flat, floats, cwi_batch_weight(samples, s->expected), s->actual == 0);
    s->actual += samples;
    s->totals.up.weights += msg->blob_size;
    return CW_OK;
}

static cw_status send_state(sync_server *s, cw_error *err)
{
    uint8_t *bytes;
    size_t size;
    CWI_TRY(cwi_half_save(s->server->mirror, &bytes, &size, err));
    cw_msg msg = message(s, 0, CW_MSG_STATE);
    msg.blob = bytes;
    msg.blob_size = size;
    for (size_t i = 0; i < s->count; i++) {
        const bool has_it = cwi_half_is_remote(s->server->mirror) && s->clients[i].synced;
        if (!cwi_session_is_active(s->session, i) || has_it)
            continue;
        msg.client = (uint32_t)i;
        s->clients[i].synced = true;
        s->totals.down.weights += size;
        cwi_session_send(s->session, i, &msg);
    }
    cw_bytes_free(bytes);
    return CW_OK;
}

static void broadcast_begin(sync_server *s, cw_phase phase)
{
    cw_msg msg = message(s, 0, CW_MSG_BEGIN);
    msg.phase = phase;
    msg.steps = s->goal;
    broadcast(s, msg);
}

/* ---- the clients' half, where there is none here ---- */

/* Asks a client for its half, after the averaged buffers where there are such; `then` comes when it is here. */
static void ask_for_state(sync_server *s, bool averaged, cw_status (*then)(sync_server *s, cw_error *err))
{
    s->then = then;
    s->averaged = averaged;
    s->giver = 0;
    while (!cwi_session_is_active(s->session, s->giver))
        s->giver++;
    cw_msg msg = message(s, s->giver, CW_MSG_GIVE_STATE);
    msg.blob = (const uint8_t *)s->average;
    msg.blob_size = averaged ? cw_half_buffer_count(s->server->mirror) * sizeof(float) : 0;
    open_round(s, STAGE_CLIENT_STATE, OWING_NOTHING);
    cwi_barrier_owe(&s->barrier, s->giver, 1);
    s->totals.down.weights += msg.blob_size;
    cwi_session_send(s->session, s->giver, &msg);
}

/* In a checkpoint each name gets a prefix. */
static cw_status check_names(const cw_tensor_set *set, cw_error *err)
{
    for (size_t i = 0; i < set->count; i++)
        if (strlen(set->items[i].name) + strlen(CWI_CLIENT_PREFIX) >= sizeof set->items[i].name)
            return cwi_fail(err, CW_ERR_PROTOCOL, "its tensor '%.40s...' has too long a name", set->items[i].name);
    return CW_OK;
}

static cw_status take_client_state(sync_server *s, size_t client, const cw_msg *msg, cw_error *err)
{
    cw_tensor_set set;
    CWI_TRY(cw_safetensors_decode(msg->blob, msg->blob_size, &set, err));
    cw_status status = check_names(&set, err);
    if (status == CW_OK && !set.count)
        status = cwi_fail(err, CW_ERR_PROTOCOL, "its half has no tensors");
    if (status == CW_OK)
        status = cwi_half_import(s->server->mirror, &set, err);
    cw_tensor_set_free(&set);
    if (status != CW_OK)
        return status;
    for (size_t i = 0; i < s->count; i++)
        s->clients[i].synced = i == client;
    s->totals.up.weights += msg->blob_size;
    s->actual = 1;
    return CW_OK;
}

/* Whoever was to give it may have been lost meanwhile. */
static cw_status finish_client_state(sync_server *s, cw_error *err)
{
    if (s->actual)
        return s->then(s, err);
    ask_for_state(s, s->averaged, s->then);
    return CW_OK;
}

/* ---- phases ---- */

static cw_status begin_training(sync_server *s, cw_error *err)
{
    CWI_TRY(send_state(s, err));
    broadcast_begin(s, CW_PHASE_TRAIN);
    for (size_t i = 0; i < s->count; i++)
        s->clients[i].synced = false;
    return begin_step(s, err);
}

/* Begins the epoch's steps, or goes on with them. */
static cw_status begin_phase(sync_server *s, cw_error *err)
{
    const cw_half *mirror = s->server->mirror;
    s->goal = cwi_checkpoint_next_step(&s->setup->config, s->step, s->steps);
    if (!cwi_half_is_remote(mirror) || cwi_half_remote_holds(mirror))
        return begin_training(s, err);
    ask_for_state(s, false, begin_training);
    return CW_OK;
}

static cw_status save(sync_server *s, const cwi_progress *at, cw_error *err)
{
    cw_half *const halves[] = {s->server->mirror, s->server->half};
    return cwi_checkpoint_save(&s->server->report, &s->setup->config, halves, CWI_COUNT(halves), at, err);
}

static cw_status save_within_epoch(sync_server *s, cw_error *err)
{
    cwi_progress at = {.epoch = (int)s->epoch,
                       .step = s->step,
                       .loss = s->sum_loss,
                       .correct = s->sum_correct,
                       .samples = s->sum_samples,
                       .train_seconds = cwi_seconds() - s->phase_began,
                       .seconds = cwi_seconds() - s->server->report.began,
                       .up = s->totals.up,
                       .down = s->totals.down};
    count_socket(s, &at.up, &at.down);
    return save(s, &at, err);
}

static cw_status finish_epoch(sync_server *s, cw_error *err);

/* The mirror has what training has made of the clients' half. */
static cw_status end_training(sync_server *s, cw_error *err)
{
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
        return finish_epoch(s, err);
    s->step = 0;
    CWI_TRY(send_state(s, err));
    open_round(s, STAGE_EVAL_DONE, OWING_ALL);
    broadcast_begin(s, CW_PHASE_EVAL);
    return CW_OK;
}

static cw_status finish_train_done(sync_server *s, cw_error *err)
{
    const bool averaged = s->actual > 0;
    if (averaged) {
        scale_average(s, cw_half_buffer_count(s->server->mirror));
        CWI_TRY(cw_half_put(s->server->mirror, CW_HALF_BUFFER, s->average, err));
    }
    if (!cwi_half_is_remote(s->server->mirror))
        return end_training(s, err);
    ask_for_state(s, averaged, end_training);
    return CW_OK;
}

/* ---- evaluation ---- */

/* Answered at once: evaluation changes nothing that another client could see. */
static cw_status take_eval_batch(sync_server *s, size_t client, const cw_msg *msg, cw_error *err)
{
    client_work *c = &s->clients[client];
    cw_half_call call = {.mode = CW_EVAL, .n = (size_t)msg->samples};
    cw_loss loss;
    CWI_TRY(run_batch(s, client, msg, &call, &loss, err));
    c->loss += loss.mean * (double)msg->samples;
    c->correct += loss.correct;
    c->evaluated += msg->samples;
    cwi_session_owes_from_now(s->session, client);
    if (c->evaluated > c->test_samples)
        return cwi_fail(err, CW_ERR_PROTOCOL, "more than the %llu test samples it announced",
                        (unsigned long long)c->test_samples);
    s->totals.up.eval_payload += msg->blob_size;
    s->totals.up.eval_raw += raw_bytes(s);
    cw_msg reply = message(s, client, CW_MSG_RESULT);
    reply.step = msg->step;
    reply.loss = loss.mean * (double)msg->samples;
    reply.correct = loss.correct;
    cwi_report_step(&s->server->report, CW_EVENT_EVAL, (int)s->epoch, msg->step + 1,
                    batches_of(s, client, c->test_samples), 0, NULL);
    return cwi_outbox_send(&s->session->box, s->session->members[client].peer, &reply, err);
}

static cw_status take_eval_done(sync_server *s, size_t client, const cw_msg *msg, cw_error *err)
{
    const client_work *c = &s->clients[client];
    if (msg->phase != CW_PHASE_EVAL || c->evaluated != c->test_samples)
        return cwi_fail(err, CW_ERR_PROTOCOL, "it evaluated %llu of the %llu test samples it announced",
                        (unsigned long long)c->evaluated, (unsigned long long)c->test_samples);
    s->actual++;
    return CW_OK;
}

static cw_status begin_epoch(void *state, cw_error *err);

/* Also of an epoch that is not evaluated: there test_samples stays 0. */
static cw_status finish_epoch(sync_server *s, cw_error *err)
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
    count_socket(s, &r->up, &r->down);
    cwi_report_epoch(&s->server->report, r);
    CWI_TRY(save(s, &(cwi_progress){.epoch = r->epoch + 1}, err));
    if (++s->epoch < (uint32_t)s->setup->config.epochs)
        return begin_epoch(s, err);
    s->stage = STAGE_FINISHED;
    return CW_OK;
}

/* ---- the rounds ---- */

static const round_rule rules[] = {
    [STAGE_ACTIVATIONS] = {CW_MSG_ACTIVATION, take_activation, finish_activations},
    [STAGE_CLIENT_GRADS] = {CW_MSG_CLIENT_GRAD, take_client_grad, finish_client_grads},
    [STAGE_TRAIN_DONE] = {CW_MSG_PHASE_DONE, take_train_done, finish_train_done},
    [STAGE_EVAL_DONE] = {CW_MSG_PHASE_DONE, take_eval_done, finish_epoch},
    [STAGE_CLIENT_STATE] = {CW_MSG_CLIENT_STATE, take_client_state, finish_client_state},
};

static const round_rule *rule_of(sync_stage stage)
{
    return (size_t)stage < CWI_COUNT(rules) && rules[stage].take ? &rules[stage] : NULL;
}

static cw_status begin_epoch(void *state, cw_error *err)
{
    sync_server *s = state;
    if (s->stage == STAGE_BEFORE)
        cwi_report_begin(&s->server->report, s->from.seconds);
    cwi_session_activate(s->session);
    s->steps = 0;
    for (size_t i = 0; i < s->count; i++)
        if (cwi_session_is_active(s->session, i))
            s->steps = CWI_MAX(s->steps, batches_of(s, i, s->clients[i].samples));
    s->step = CWI_MIN(s->from.step, s->steps);
    s->sum_loss = s->from.loss;
    s->sum_correct = s->from.correct;
    s->sum_samples = s->from.samples;
    s->phase_began = cwi_seconds() - s->from.train_seconds;
    s->from = (cwi_progress){0}; /* the epochs that follow begin at their beginning */
    return begin_phase(s, err);
}

/* ---- the session's work ---- */

/* What the clients' half is, by the first that joins; the others' have the same fingerprint, and must have the same
 * size. */
static cw_status describe_half(sync_server *s, const cw_msg *join, cw_error *err)
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
    return make_vectors(s, err);
}

static cw_status admit(void *state, size_t member, const cw_msg *msg, cw_error *err)
{
    sync_server *s = state;
    CWI_TRY(cwi_admission_check(&s->admission, s->setup, msg, err));
    CWI_TRY(cwi_labels_admit(&s->names, s->server, member, msg, err));
    const bool own = msg->type == CW_MSG_JOIN;
    s->clients[member] = (client_work){.samples = msg->samples,
                                       .test_samples = msg->test_samples,
                                       .batch_size = own ? msg->batch : (uint64_t)s->setup->config.batch};
    if (own)
        CWI_TRY(describe_half(s, msg, err));
    cwi_watch_joined(&s->server->watch, member, msg->samples);
    return CW_OK;
}

/* Whether the round wants this of the client, or it comes early: a client whose activations were taken sends its
 * gradient while the server still works on the others'. */
static bool is_due(const sync_server *s, size_t client, const cw_msg *msg)
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
    sync_server *s = state;
    if (s->stage == STAGE_EVAL_DONE && msg->type == CW_MSG_ACTIVATION && msg->phase == CW_PHASE_EVAL &&
        cwi_session_is_active(s->session, member) && cwi_barrier_owes(&s->barrier, member) && msg->epoch == s->epoch)
        return take_eval_batch(s, member, msg, err);
    if (is_due(s, member, msg) && cwi_barrier_hold(&s->barrier, member, frame)) {
        if (msg->type == CW_MSG_ACTIVATION)
            cwi_watch_batch_came(&s->server->watch, member);
        return CW_OK;
    }
    return cwi_fail(err, CW_ERR_PROTOCOL, "it sent %s (epoch %u, step %u) when that was not due",
                    cw_msg_name(msg->type), msg->epoch, msg->step);
}

/* Takes a frame whose turn has come; a client whose frame is bad is lost. */
static void take_turn(sync_server *s, size_t client, cw_frame *frame)
{
    cw_error err;
    cw_msg msg;
    cw_status status = cw_msg_decode(frame->bytes, frame->size, &msg, &err);
    if (status == CW_OK)
        status = rule_of(s->stage)->take(s, client, &msg, &err);
    cw_frame_release(frame);
    if (status != CW_OK)
        cwi_session_lose(s->session, client, status, err.message);
}

static cw_status take_rounds(sync_server *s, cw_error *err)
{
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
    sync_server *s = state;
    cwi_watch_work_begins(&s->server->watch);
    const cw_status status = take_rounds(s, err);
    cwi_watch_work_ends(&s->server->watch);
    return status;
}

static void lost(void *state, size_t member)
{
    sync_server *s = state;
    cwi_watch_lost(&s->server->watch, member);
    cwi_barrier_drop(&s->barrier, member);
    cwi_labels_forget(&s->names, s->server, member);
}

static bool owes(const void *state, size_t member)
{
    return cwi_barrier_owes(&((const sync_server *)state)->barrier, member);
}

static void tell_status(void *state)
{
    sync_server *s = state;
    const cw_event event = {.kind = CW_EVENT_STATUS, .epochs = s->server->report.epochs, .server = status_of(s)};
    cwi_report_emit(&s->server->report, &event);
}

static bool finished(const void *state)
{
    return ((const sync_server *)state)->stage == STAGE_FINISHED;
}

static void log_notice(void *state, const cwi_notice *n)
{
    const cwi_report *report = &((sync_server *)state)->server->report;
    const cw_event event = {
        .text = n->text, .name = n->name, .level = n->warning ? CW_LOG_WARN : CW_LOG_INFO, .epochs = report->epochs};
    cwi_hooks_notice(report->hooks, &event, n->member == SIZE_MAX ? -1 : (int)n->member, n->about.address,
                     n->about.key);
}

const cwi_work cwi_sync_work = {
    .admit = admit,
    .take = take,
    .advance = advance,
    .begin = begin_epoch,
    .lost = lost,
    .owes = owes,
    .finished = finished,
    .log = log_notice,
    .time_passed = tell_status,
};
