/* sync_client.c - a client's side of mode sync: its half of the network, its shard, a batch at a time. */
#include <string.h>

#include "modes/sync.h"

typedef enum sync_wait {
    WAITING_IDLE,     /* for STATE and BEGIN */
    WAITING_GRADIENT, /* the activations of a batch are sent */
    WAITING_UPDATE,   /* its gradient is sent, or there is none to send in this step */
    WAITING_RESULT,   /* evaluation batches are sent */
} sync_wait;

static const char *const waits_for[] = {"STATE or BEGIN", "GRADIENT", "UPDATE", "RESULT"};

/* Evaluation batches that may be on their way: nothing is learned from them, so that no result depends on it. */
enum { EVAL_IN_FLIGHT = 4 };

/* A batch, or a micro-batch of it, on its way. */
typedef struct sync_part {
    cw_half_call call;
    cw_shape open; /* of its smashed data, where the half's outputs have no fixed shape; else ndim 0 */
    size_t at;     /* where these begin, in the room for a batch */
} sync_part;

typedef struct sync_client {
    cw_client *client;
    const cwi_setup *setup;
    sync_wait waiting;
    cw_phase phase;
    uint32_t epoch, step, steps;
    size_t tickets;   /* micro-batches that a batch is cut into at most */
    size_t batch_n;   /* samples of the batch that is under way, */
    size_t parts;     /* the micro-batches that it is cut into, */
    uint32_t ticket;  /* and which of them the next GRADIENT answers */
    sync_part *part;  /* of each ticket */
    bool pending;     /* where steps do not wait for the late: the next batch, once no UPDATE is at hand */
    uint32_t asked;   /* evaluation batches sent; step: those answered */
    double worked;    /* seconds, since it last said so */
    float *smashed;   /* a batch of smashed data: activations up, gradients down */
    size_t room;      /* its floats */
    uint8_t *support; /* NULL, or as many, where the downlink's codec makes use of it: where the server found
                         activations, and sends gradients */
    float *flat;      /* room for the half's gradients or buffers; between CLIENT_GRAD and UPDATE an only client's
                         gradient as the server got it */
    float *sum;       /* of its gradients over micro-batches; NULL with one ticket */
} sync_client;

/* ---- life ---- */

/* Room for so much smashed data, and its support. Of what was in it the support is kept. */
static cw_status make_room(sync_client *c, size_t elements, cw_error *err)
{
    const bool supported = c->setup->mask_gradient && cw_codec_get_traits(c->setup->down).takes_support;
    if (c->smashed && elements <= c->room)
        return CW_OK;
    uint8_t *support = supported ? cwi_alloc(elements, 1) : NULL;
    if (support && c->support)
        memcpy(support, c->support, c->room);
    cwi_free(c->smashed);
    cwi_free(c->support);
    c->smashed = cwi_alloc(elements, sizeof(float));
    c->support = support;
    c->room = elements;
    return c->smashed && (!supported || c->support) ? CW_OK : cwi_fail_memory(err, elements * sizeof(float));
}

static cw_status allocate(sync_client *c, cw_error *err)
{
    const cw_half *half = c->client->half;
    const size_t batch = CWI_MAX(c->client->train.batch, c->client->test.batch);
    const size_t floats = CWI_MAX(cw_half_weight_count(half), cw_half_buffer_count(half));
    CWI_TRY(make_room(c, batch * c->setup->smashed_count, err));
    c->flat = cwi_calloc(floats, sizeof(float));
    c->sum = c->tickets > 1 ? cwi_calloc(floats, sizeof(float)) : NULL;
    c->part = cwi_calloc(c->tickets, sizeof *c->part);
    if (!c->flat || !c->part || (c->tickets > 1 && !c->sum))
        return cwi_fail_memory(err, floats * sizeof(float));
    return CW_OK;
}

cw_status cwi_sync_open_client(cw_client *client, void **state, cw_error *err)
{
    sync_client *c = *state = cwi_calloc(1, sizeof *c);
    if (!c)
        return cwi_fail_memory(err, sizeof *c);
    c->client = client;
    c->setup = &client->setup;
    c->tickets = (size_t)c->setup->config.in_flight;
    return allocate(c, err);
}

void cwi_sync_close_client(void *state)
{
    sync_client *c = state;
    if (!c)
        return;
    cwi_free(c->smashed);
    cwi_free(c->support);
    cwi_free(c->flat);
    cwi_free(c->sum);
    cwi_free(c->part);
    cwi_free(c);
}

/* ---- sending ---- */

static cw_msg message(const sync_client *c, cw_msg_type type)
{
    cw_msg msg = cwi_guest_message(&c->client->guest, type);
    msg.phase = c->phase;
    msg.epoch = c->epoch;
    msg.step = c->step;
    return msg;
}

static cw_status send_tensor(sync_client *c, cw_msg *msg, cwi_flow flow, const cw_codec *codec, const cw_tensor *x,
                             cw_error *err)
{
    const cw_encode_args args = {
        .seed = cwi_codec_seed(c->setup->config.seed, flow, msg->client, c->epoch, msg->step, msg->ticket),
        .evaluate = c->phase == CW_PHASE_EVAL,
        .threads = cwi_engine_threads(&c->setup->config)};
    return cwi_encode_status(cwi_guest_send_tensor(&c->client->guest, msg, codec, x, &args, err), flow, err);
}

/* The smashed data of a part, in their room. */
static cw_tensor smashed_of(const sync_client *c, const sync_part *part)
{
    if (part->open.ndim)
        return cw_tensor_view(CW_F32, &part->open, c->smashed + part->at);
    return cwi_setup_smashed(c->setup, c->smashed + part->at, part->call.n);
}

static uint8_t *support_of(const sync_client *c, const sync_part *part)
{
    return c->support ? c->support + part->at : NULL;
}

/* What the server gets of the activations that were just sent, into their place: they are not needed any more. */
static cw_status find_support(sync_client *c, const sync_part *part, const cw_msg *activation, cw_error *err)
{
    cw_tensor z = smashed_of(c, part);
    const cw_decode_args args = {.threads = cwi_engine_threads(&c->setup->config), .sent = support_of(c, part)};
    return cw_decode(activation->blob, activation->blob_size, &z, &args, err);
}

/* Where the smashed data of a part end. */
static size_t end_of(const sync_part *part)
{
    size_t elements = 0;
    (void)cw_shape_count(&part->open, &elements);
    return part->at + elements;
}

/* A half whose outputs have no fixed shape has them in its own memory. */
static cw_status run_open(sync_client *c, const cw_batch *batch, sync_part *part, cw_tensor *z, cw_error *err)
{
    size_t elements;
    CWI_TRY(cw_half_forward(c->client->half, &part->call, batch->x, NULL, err));
    CWI_TRY(cwi_half_output(c->client->half, &part->call, z, err));
    CWI_TRY(cw_shape_count(&z->shape, &elements));
    cw_shape sample = {.ndim = z->shape.ndim - 1};
    memcpy(sample.dim, z->shape.dim + 1, sizeof(int64_t) * (size_t)sample.ndim);
    if (c->setup->cut.smashed.ndim && !cw_shape_equal(&sample, &c->setup->cut.smashed)) {
        char have[64], want[64];
        return cwi_fail(err, CW_ERR_MISMATCH, "the first half gives %s a sample at the cut, this run's is %s there",
                        cw_shape_format(&sample, have, sizeof have),
                        cw_shape_format(&c->setup->cut.smashed, want, sizeof want));
    }
    part->open = z->shape;
    part->at = part->call.ticket ? end_of(part - 1) : 0;
    return make_room(c, part->at + elements, err);
}

static cw_status run_half(sync_client *c, const cw_batch *batch, sync_part *part, cw_tensor *z, cw_error *err)
{
    if (!cw_half_out_shape(c->client->half).ndim)
        return run_open(c, batch, part, z, err);
    part->at = part->call.first * c->setup->smashed_count;
    *z = smashed_of(c, part);
    return cw_half_forward(c->client->half, &part->call, batch->x, z->data, err);
}

/* What the samples of a part are to become. */
static void put_targets(cw_msg *msg, const cw_batch *batch, const sync_part *part)
{
    size_t elements;
    msg->labels = batch->labels ? batch->labels + part->call.first : NULL;
    msg->targets = batch->targets;
    msg->targets_as = batch->targets_as;
    const bool whole = part->call.n == batch->n || (uint64_t)batch->targets.shape.dim[0] != batch->n;
    if (!msg->targets.dtype || whole || cw_shape_count(&msg->targets.shape, &elements) != CW_OK)
        return; /* another number of samples than the batch's is refused where messages are made */
    const size_t each = elements / batch->n * cw_dtype_size(msg->targets.dtype);
    msg->targets.shape.dim[0] = (int64_t)part->call.n;
    msg->targets.data = each ? (uint8_t *)msg->targets.data + part->call.first * each : msg->targets.data;
}

/* Runs the half on samples of a batch and sends the activations. */
static cw_status send_activation(sync_client *c, const cw_batch *batch, sync_part *part, uint32_t step, cw_error *err)
{
    cw_tensor z;
    const bool train = part->call.mode == CW_TRAIN;
    CWI_TRY(run_half(c, batch, part, &z, err));
    cw_msg msg = message(c, CW_MSG_ACTIVATION);
    msg.step = step;
    msg.ticket = train ? (uint32_t)part->call.ticket : 0;
    msg.samples = part->call.n;
    put_targets(&msg, batch, part);
    CWI_TRY(send_tensor(c, &msg, CWI_FLOW_UPLINK, train ? c->setup->up : c->setup->eval_up, &z, err));
    return c->support && train ? find_support(c, part, &msg, err) : CW_OK;
}

static cw_status next_of(sync_client *c, cwi_feed *feed, cw_batch *batch, cw_error *err)
{
    const cw_status status = cwi_feed_next(feed, batch, err);
    if (status == CW_END)
        return cwi_fail(err, CW_ERR_PROTOCOL, "the server goes on at step %u, this client has %zu batches", c->step,
                        feed->batches);
    return status;
}

/* The next batch of the shard, a micro-batch after the other. */
static cw_status send_batch(sync_client *c, cw_error *err)
{
    cwi_feed *feed = &c->client->train;
    cw_batch batch;
    CWI_TRY(next_of(c, feed, &batch, err));
    c->batch_n = batch.n;
    c->parts = cwi_micro_count(batch.n, c->tickets);
    c->ticket = 0;
    for (size_t i = 0; i < c->parts; i++) {
        cw_half_call *call = &c->part[i].call;
        *call = (cw_half_call){
            .mode = CW_TRAIN,
            .ticket = i,
            .position = cwi_part_position(c->client->guest.index, c->epoch, feed->batches, c->step, i, c->tickets)};
        call->n = cwi_micro_batch(batch.n, i, c->parts, &call->first);
        CWI_TRY(send_activation(c, &batch, &c->part[i], c->step, err));
    }
    return CW_OK;
}

static cw_status send_phase_done(sync_client *c, cw_error *err)
{
    cw_msg msg = message(c, CW_MSG_PHASE_DONE);
    if (c->phase == CW_PHASE_TRAIN) {
        CWI_TRY(cw_half_get(c->client->half, CW_HALF_BUFFER, c->flat, err));
        msg.blob = (const uint8_t *)c->flat;
        msg.blob_size = cw_half_buffer_count(c->client->half) * sizeof(float);
    }
    c->waiting = WAITING_IDLE;
    return cwi_guest_send(&c->client->guest, &msg, err);
}

/* What this client has, after the statistics that all have now: for those who join, and for checkpoints. */
static cw_status on_give_state(sync_client *c, const cw_msg *ask, cw_error *err)
{
    cw_half *half = c->client->half;
    const size_t floats = cw_half_buffer_count(half);
    uint8_t *bytes;
    size_t size;
    if (ask->blob_size && ask->blob_size != floats * sizeof(float))
        return cwi_fail(err, CW_ERR_PROTOCOL, "GIVE_STATE with %zu bytes of statistics, this half has %zu",
                        ask->blob_size, floats * sizeof(float));
    if (ask->blob_size) {
        memcpy(c->flat, ask->blob, ask->blob_size);
        CWI_TRY(cw_half_put(half, CW_HALF_BUFFER, c->flat, err));
    }
    CWI_TRY(cwi_half_save(half, &bytes, &size, err));
    cw_msg msg = cwi_guest_message(&c->client->guest, CW_MSG_CLIENT_STATE);
    msg.epoch = ask->epoch;
    msg.blob = bytes;
    msg.blob_size = size;
    const cw_status status = cwi_guest_send(&c->client->guest, &msg, err);
    cw_bytes_free(bytes);
    return status;
}

/* ---- training ---- */

/* The next batch of the phase, or what a client does that has none left. */
static cw_status train_on(sync_client *c, cw_error *err)
{
    if (c->step >= c->steps)
        return send_phase_done(c, err);
    const bool exhausted = c->step >= c->client->train.batches;
    c->waiting = exhausted ? WAITING_UPDATE : WAITING_GRADIENT;
    return exhausted ? CW_OK : send_batch(c, err);
}

/* Whether UPDATE leaves out the gradient, being this client's own. */
static bool keeps_own(const sync_client *c)
{
    return cwi_keeps_own_gradient(c->setup, c->client->guest.members);
}

/* Into c->flat. */
static cw_status decode_gradient(sync_client *c, const cw_msg *msg, cw_error *err)
{
    cw_tensor gradient = cwi_half_vector(c->client->half, c->flat);
    const cw_decode_args args = {.threads = cwi_engine_threads(&c->setup->config)};
    return cw_decode(msg->blob, msg->blob_size, &gradient, &args, err);
}

/* Of the whole batch: its mean over the samples of all micro-batches. */
static cw_status send_gradient(sync_client *c, double loss, cw_error *err)
{
    cwi_report_step(&c->client->report, CW_EVENT_STEP, (int)c->epoch, c->step + 1, c->steps, loss, NULL);
    cw_msg msg = message(c, CW_MSG_CLIENT_GRAD);
    msg.samples = c->batch_n;
    c->waiting = WAITING_UPDATE;
    const cw_tensor gradient = cwi_half_vector(c->client->half, c->parts > 1 ? c->sum : c->flat);
    CWI_TRY(send_tensor(c, &msg, CWI_FLOW_CLIENT_GRAD, c->setup->update, &gradient, err));
    return keeps_own(c) ? decode_gradient(c, &msg, err) : CW_OK;
}

static cw_status on_gradient(sync_client *c, const cw_msg *msg, cw_error *err)
{
    const sync_part *part = &c->part[c->ticket];
    const cw_half_call *call = &part->call;
    cw_half *half = c->client->half;
    cw_tensor dz = smashed_of(c, part);
    const cw_decode_args args = {.threads = cwi_engine_threads(&c->setup->config), .support = support_of(c, part)};
    CWI_TRY(cw_decode(msg->blob, msg->blob_size, &dz, &args, err));
    CWI_TRY(cw_half_backward(half, call, dz.data, NULL, err));
    CWI_TRY(cwi_half_get_learned(half, c->flat, err));
    if (c->parts > 1)
        cwi_average_add(c->sum, c->flat, cwi_half_learned_count(half), cwi_batch_weight(call->n, c->batch_n),
                        c->ticket == 0);
    if (++c->ticket < c->parts)
        return CW_OK;
    return send_gradient(c, msg->loss / (double)call->n, err);
}

/* An UPDATE without a gradient means this client's own, where it has sent one and is the only one; else, and perhaps
 * some steps ahead, that nobody had a batch left. */
static cw_status on_update(sync_client *c, const cw_msg *msg, cw_error *err)
{
    cw_half *half = c->client->half;
    const bool sent = c->waiting == WAITING_UPDATE && msg->step == c->step && c->step < c->client->train.batches;
    const bool own = !msg->blob_size && sent && keeps_own(c);
    if (msg->blob_size || own) {
        const cw_status status = own ? CW_OK : decode_gradient(c, msg, err);
        if (status != CW_OK)
            return cwi_fail_prefix(err, status, "UPDATE");
        CWI_TRY(cwi_half_put_learned(half, c->flat, err));
        CWI_TRY(cw_half_step(half, (float)msg->lr, err));
    }
    c->step = msg->step + 1;
    c->pending = c->setup->late_steps && c->step < c->steps;
    c->waiting = WAITING_UPDATE;
    return c->pending ? CW_OK : train_on(c, err);
}

bool cwi_sync_pending(const void *state)
{
    return ((const sync_client *)state)->pending;
}

/* The step that runs may be some later than the one before. */
cw_status cwi_sync_go_on(void *state, cw_error *err)
{
    sync_client *c = state;
    c->pending = false;
    if (c->client->train.next != c->step)
        CWI_TRY(cwi_feed_seek(&c->client->train, c->epoch, c->step, err));
    return train_on(c, err);
}

/* ---- evaluation ---- */

/* Sends batches while there are some and room for them on the way. */
static cw_status evaluate_on(sync_client *c, cw_error *err)
{
    cwi_feed *feed = &c->client->test;
    const size_t batches = feed->batches;
    if (c->step >= batches)
        return send_phase_done(c, err);
    c->waiting = WAITING_RESULT;
    while (c->asked < batches && c->asked - c->step < EVAL_IN_FLIGHT) {
        cw_batch batch;
        CWI_TRY(next_of(c, feed, &batch, err));
        sync_part whole = {.call = {.mode = CW_EVAL, .n = batch.n}};
        CWI_TRY(send_activation(c, &batch, &whole, c->asked, err));
        c->asked++;
    }
    return CW_OK;
}

static cw_status on_result(sync_client *c, cw_error *err)
{
    c->step++;
    cwi_report_step(&c->client->report, CW_EVENT_EVAL, (int)c->epoch, c->step, c->client->test.batches, 0, NULL);
    return evaluate_on(c, err);
}

/* ---- what the server says ---- */

static cw_status on_begin(sync_client *c, const cw_msg *msg, cw_error *err)
{
    c->phase = msg->phase;
    c->epoch = msg->epoch;
    c->step = c->asked = msg->step;
    c->steps = msg->steps;
    c->pending = false;
    const bool train = c->phase == CW_PHASE_TRAIN;
    cwi_feed *feed = train ? &c->client->train : &c->client->test;
    if (!train && c->step > feed->batches)
        return cwi_fail(err, CW_ERR_PROTOCOL, "the server begins at step %u, this client has %zu batches", c->step,
                        feed->batches);
    /* A smaller shard than others' may be at its end already. */
    CWI_TRY(cwi_feed_seek(feed, train ? c->epoch : 0, c->step, err));
    return train ? train_on(c, err) : evaluate_on(c, err);
}

static cw_status unexpected(const sync_client *c, const cw_msg *msg, cw_error *err)
{
    return cwi_fail(err, CW_ERR_PROTOCOL,
                    "the server sent %s for epoch %u, step %u where %s for epoch %u, step %u was due",
                    cw_msg_name(msg->type), msg->epoch, msg->step, waits_for[c->waiting], c->epoch, c->step);
}

static bool is_due(const sync_client *c, const cw_msg *msg, sync_wait wait)
{
    return c->waiting == wait && msg->epoch == c->epoch && msg->step == c->step;
}

/* One that comes in place of a GRADIENT says that the step has gone on without this client. */
static bool takes_update(const sync_client *c)
{
    return c->waiting == WAITING_UPDATE || (c->waiting == WAITING_GRADIENT && c->setup->late_steps);
}

static cw_status take_message(sync_client *c, const cw_msg *msg, cw_error *err)
{
    /* Where the server does not wait for the late, a phase may also end without this client. */
    const bool idle = c->waiting == WAITING_IDLE || c->setup->late_steps;
    switch (msg->type) {
    case CW_MSG_STATE:
        return idle ? cwi_half_load(c->client->half, msg->blob, msg->blob_size, err) : unexpected(c, msg, err);
    case CW_MSG_GIVE_STATE:
        return c->waiting == WAITING_IDLE && c->setup->client_state ? on_give_state(c, msg, err)
                                                                    : unexpected(c, msg, err);
    case CW_MSG_BEGIN:
        return idle ? on_begin(c, msg, err) : unexpected(c, msg, err);
    case CW_MSG_GRADIENT:
        return is_due(c, msg, WAITING_GRADIENT) && msg->ticket == c->ticket ? on_gradient(c, msg, err)
                                                                            : unexpected(c, msg, err);
    case CW_MSG_UPDATE:
        return takes_update(c) && msg->epoch == c->epoch && msg->step >= c->step ? on_update(c, msg, err)
                                                                                 : unexpected(c, msg, err);
    case CW_MSG_RESULT:
        return is_due(c, msg, WAITING_RESULT) ? on_result(c, err) : unexpected(c, msg, err);
    default:
        return unexpected(c, msg, err);
    }
}

/* How long this client has worked for the step that an UPDATE has ended, where the server asks. */
static cw_status send_times(sync_client *c, const cw_msg *update, cw_error *err)
{
    cw_msg msg = message(c, CW_MSG_TIMES);
    msg.step = update->step;
    msg.seconds = c->worked;
    c->worked = 0;
    return cwi_guest_send(&c->client->guest, &msg, err);
}

cw_status cwi_sync_take(void *state, const cw_msg *msg, cw_error *err)
{
    sync_client *c = state;
    const double began = cwi_seconds();
    CWI_TRY(take_message(c, msg, err));
    c->worked += cwi_seconds() - began;
    return c->setup->ask_times && msg->type == CW_MSG_UPDATE ? send_times(c, msg, err) : CW_OK;
}
