/* client.c - the client's side of the protocol: its half of the network, its shard, one batch at a time. */
#include <string.h>
#include <sys/random.h>

#include "train/client.h"
#include "train/outbox.h"

typedef enum client_state {
    STATE_NEW,
    STATE_HELLO,    /* waits for WELCOME */
    STATE_IDLE,     /* READY said; waits for STATE and BEGIN */
    STATE_GRADIENT, /* activation sent; waits for GRADIENT */
    STATE_UPDATE,   /* its gradient sent, or none to send in this step; waits for UPDATE */
    STATE_RESULT,   /* evaluation batch sent; waits for RESULT */
    STATE_DONE,
} client_state;

static const char *const state_waits_for[] = {
    "nothing", "WELCOME", "STATE or BEGIN", "GRADIENT", "UPDATE", "RESULT", "nothing",
};

struct cwi_client {
    cw_config config; /* local; after WELCOME with the server's shared keys */
    const char *expect_model;
    const cw_hooks *hooks;
    cwi_outbox box;
    client_state state;
    uint64_t token, session;
    uint32_t index, clients;
    bool has_setup;
    cwi_setup setup;
    cwi_half half;
    cwi_feed feed;
    cwi_report report; /* for its events only */
    float *smashed;    /* batch x smashed_count: activations up, gradients down */
    uint8_t *support;  /* NULL, or as many, where the downlink's codec makes use of it: where the server found
                          activations, and sends gradients */
    cw_phase phase;
    uint32_t epoch, step, steps;
    size_t batch_n; /* of the batch that is under way */
    double heard, said;
    char last_words[400];
};

/* Seconds of silence after which a waiting client says that it lives. */
static const double ping_interval = 5.0;

/* ---- life ---- */

cw_status cwi_client_create(const cw_config *config, const char *expect_model, cw_transport *transport,
                            const cw_hooks *hooks, cwi_client **out, cw_error *err)
{
    static const cw_hooks silent;
    cwi_client *c = *out = cwi_calloc(1, sizeof *c);
    if (!c)
        return cwi_fail_memory(err, sizeof *c);
    c->config = *config;
    c->expect_model = expect_model;
    c->hooks = hooks ? hooks : &silent;
    c->report.hooks = c->hooks;
    c->box.transport = transport;
    c->index = UINT32_MAX;
    if (getrandom(&c->token, sizeof c->token, 0) != sizeof c->token || c->token == 0)
        c->token = (uint64_t)(cwi_seconds() * 1e9) | 1;
    return CW_OK;
}

void cwi_client_destroy(cwi_client **client)
{
    cwi_client *c = client ? *client : NULL;
    if (!c)
        return;
    cwi_free(c->smashed);
    cwi_free(c->support);
    cwi_feed_close(&c->feed);
    cwi_half_close(&c->half);
    cwi_setup_close(&c->setup);
    cwi_outbox_free(&c->box);
    cwi_free(c);
    *client = NULL;
}

bool cwi_client_done(const cwi_client *client)
{
    return client->state == STATE_DONE;
}

const char *cwi_client_last_words(const cwi_client *client)
{
    return client->last_words;
}

/* ---- sending ---- */

static cw_msg message(const cwi_client *c, cw_msg_type type)
{
    return (cw_msg){
        .type = type, .client = c->index, .session = c->session, .phase = c->phase, .epoch = c->epoch, .step = c->step};
}

static cw_status send_msg(cwi_client *c, const cw_msg *msg, cw_error *err)
{
    c->said = cwi_seconds();
    return cwi_outbox_send(&c->box, 0, msg, err);
}

static cw_status send_tensor(cwi_client *c, cw_msg *msg, cwi_flow flow, const cw_codec *codec, const cw_tensor *x,
                             cw_error *err)
{
    const cw_encode_args args = {.seed = cwi_codec_seed(c->setup.config.seed, flow, c->index, c->epoch, c->step),
                                 .evaluate = c->phase == CW_PHASE_EVAL,
                                 .threads = cwi_engine_threads(&c->config)};
    size_t payload;
    c->said = cwi_seconds();
    cw_status status = cwi_outbox_send_tensor(&c->box, 0, msg, codec, x, &args, &payload, err);
    return cwi_encode_status(status, flow, err);
}

/* Tells the server why this client cannot go on; the reason stays in err. */
static cw_status give_up(cwi_client *c, cw_status status, const cw_error *err)
{
    cw_msg msg = message(c, CW_MSG_ERROR);
    msg.status = status;
    (void)cwi_outbox_send_text(&c->box, 0, &msg, *err->message ? err->message : cw_status_message(status), NULL);
    return status;
}

cw_status cwi_client_start(cwi_client *client, cw_error *err)
{
    cw_msg msg = message(client, CW_MSG_HELLO);
    msg.version_min = CW_WIRE_VERSION_MIN;
    msg.version_max = CW_WIRE_VERSION_MAX;
    msg.token = client->token;
    client->state = STATE_HELLO;
    client->heard = cwi_seconds();
    return send_msg(client, &msg, err);
}

void cwi_client_leave(cwi_client *client)
{
    cw_msg msg = message(client, CW_MSG_LEAVE);
    msg.status = CW_ERR_CANCELLED;
    (void)cwi_outbox_send_text(&client->box, 0, &msg, "stopped by its user", NULL);
    client->state = STATE_DONE;
}

/* ---- training ---- */

static cw_tensor smashed_view(const cwi_client *c)
{
    cw_shape shape = {.ndim = c->setup.cut.smashed.ndim + 1, .dim = {(int64_t)c->batch_n}};
    memcpy(shape.dim + 1, c->setup.cut.smashed.dim, sizeof(int64_t) * (size_t)c->setup.cut.smashed.ndim);
    return cw_tensor_view(CW_F32, &shape, c->smashed);
}

/* What the server gets of the activations that were just sent, into their place: they are not needed any more. */
static cw_status find_support(cwi_client *c, const cw_msg *activation, cw_error *err)
{
    cw_tensor z = smashed_view(c);
    const cw_decode_args args = {.threads = cwi_engine_threads(&c->config), .sent = c->support};
    return cw_decode(activation->blob, activation->blob_size, &z, &args, err);
}

/* Runs its half on the loader's next batch and sends the activations. */
static cw_status send_batch(cwi_client *c, cw_loader *loader, cw_mode mode, cw_error *err)
{
    cw_batch batch;
    cw_status status = cw_loader_next(loader, &batch, err);
    if (status == CW_END)
        return cwi_fail(err, CW_ERR_PROTOCOL, "the server goes on at step %u, this client has %zu batches", c->step,
                        cw_loader_batches(loader));
    if (status != CW_OK)
        return status;
    cw_part_set_position(c->half.part, cwi_part_position(c->index, c->epoch, cw_loader_batches(loader), c->step));
    CWI_TRY(cw_part_forward(c->half.part, mode, batch.x, batch.n, c->smashed, err));
    c->batch_n = batch.n;
    cw_msg msg = message(c, CW_MSG_ACTIVATION);
    msg.samples = batch.n;
    msg.labels = batch.labels;
    const cw_tensor z = smashed_view(c);
    const cw_codec *codec = c->phase == CW_PHASE_EVAL ? c->setup.eval_up : c->setup.up;
    CWI_TRY(send_tensor(c, &msg, CWI_FLOW_UPLINK, codec, &z, err));
    return c->support && mode == CW_TRAIN ? find_support(c, &msg, err) : CW_OK;
}

static cw_status send_phase_done(cwi_client *c, cw_error *err)
{
    cw_msg msg = message(c, CW_MSG_PHASE_DONE);
    if (c->phase == CW_PHASE_TRAIN) {
        cw_part_export_buffers(c->half.part, c->half.flat);
        msg.blob = (const uint8_t *)c->half.flat;
        msg.blob_size = c->half.buffers * sizeof(float);
    }
    c->state = STATE_IDLE;
    return send_msg(c, &msg, err);
}

/* The next batch of the phase, or what a client does that has none left. */
static cw_status next_batch(cwi_client *c, cw_error *err)
{
    if (c->phase == CW_PHASE_TRAIN) {
        if (c->step >= c->steps)
            return send_phase_done(c, err);
        bool exhausted = c->step >= cw_loader_batches(c->feed.train_loader);
        c->state = exhausted ? STATE_UPDATE : STATE_GRADIENT;
        return exhausted ? CW_OK : send_batch(c, c->feed.train_loader, CW_TRAIN, err);
    }
    if (!c->feed.test_loader || c->step >= cw_loader_batches(c->feed.test_loader))
        return send_phase_done(c, err);
    c->state = STATE_RESULT;
    return send_batch(c, c->feed.test_loader, CW_EVAL, err);
}

static cw_status on_begin(cwi_client *c, const cw_msg *msg, cw_error *err)
{
    c->phase = msg->phase;
    c->epoch = msg->epoch;
    c->step = msg->step;
    c->steps = msg->steps;
    cw_loader *loader = c->phase == CW_PHASE_TRAIN ? c->feed.train_loader : c->feed.test_loader;
    const bool train = c->phase == CW_PHASE_TRAIN;
    const size_t batches = loader ? cw_loader_batches(loader) : 0;
    if (!train && c->step > batches)
        return cwi_fail(err, CW_ERR_PROTOCOL, "the server begins at step %u, this client has %zu batches", c->step,
                        batches);
    if (loader) /* a smaller shard than others' may be at its end already */
        CWI_TRY(cw_loader_seek(loader, train ? c->epoch : 0, CWI_MIN(c->step, batches)));
    return next_batch(c, err);
}

static cw_status on_gradient(cwi_client *c, const cw_msg *msg, cw_error *err)
{
    cw_tensor dz = smashed_view(c);
    const cw_decode_args args = {.threads = cwi_engine_threads(&c->config), .support = c->support};
    CWI_TRY(cw_decode(msg->blob, msg->blob_size, &dz, &args, err));
    CWI_TRY(cw_part_backward(c->half.part, c->smashed, NULL, err));
    cw_part_export_grads(c->half.part, c->half.flat);
    cwi_report_step(&c->report, CW_EVENT_STEP, (int)c->epoch, c->step + 1, c->steps, msg->loss / (double)c->batch_n);
    cw_msg reply = message(c, CW_MSG_CLIENT_GRAD);
    reply.samples = c->batch_n;
    c->state = STATE_UPDATE;
    const cw_tensor gradient = cwi_half_vector(&c->half, c->half.flat);
    return send_tensor(c, &reply, CWI_FLOW_CLIENT_GRAD, c->setup.update, &gradient, err);
}

/* An UPDATE without a gradient, and perhaps some steps ahead, means that nobody had a batch left. */
static cw_status on_update(cwi_client *c, const cw_msg *msg, cw_error *err)
{
    if (msg->blob_size) {
        cw_tensor gradient = cwi_half_vector(&c->half, c->half.flat);
        const cw_decode_args args = {.threads = cwi_engine_threads(&c->config)};
        cw_status status = cw_decode(msg->blob, msg->blob_size, &gradient, &args, err);
        if (status != CW_OK)
            return cwi_fail_prefix(err, status, "UPDATE");
        cw_part_import_grads(c->half.part, c->half.flat);
        status = cw_optimizer_step(c->half.optimizer, (float)msg->lr);
        if (status != CW_OK)
            return cwi_fail(err, status, "cannot update the client half at the rate %g", msg->lr);
    }
    c->step = msg->step + 1;
    return next_batch(c, err);
}

static cw_status on_result(cwi_client *c, cw_error *err)
{
    c->step++;
    cwi_report_step(&c->report, CW_EVENT_EVAL, (int)c->epoch, c->step, cw_loader_batches(c->feed.test_loader), 0);
    return next_batch(c, err);
}

/* ---- joining ---- */

static cw_status prepare(cwi_client *c, const cw_msg *welcome, cw_error *err)
{
    if (c->has_setup)
        return cwi_fail(err, CW_ERR_PROTOCOL, "a second WELCOME");
    char *recipe;
    CWI_TRY(cwi_welcome_read(welcome->blob, welcome->blob_size, &c->config, &recipe, err));
    if (c->expect_model && strcmp(c->expect_model, c->config.model) != 0) {
        cwi_free(recipe);
        return cwi_fail(err, CW_ERR_MISMATCH, "the server trains model %s, this client is for %s", c->config.model,
                        c->expect_model);
    }
    CWI_TRY(cwi_setup_open_with(&c->config, recipe, &c->setup, err));
    c->has_setup = true;
    cwi_report_emulation(&c->report, &c->setup);
    uint64_t hash;
    CWI_TRY(cwi_setup_hash(&c->setup, &hash, err));
    if (hash != welcome->config_hash)
        return cwi_fail(err, CW_ERR_MISMATCH,
                        "server and client disagree on the configuration or on what model %s is: use the same version",
                        c->config.model);
    CWI_TRY(cwi_feed_open(&c->setup, c->index, c->clients, &c->feed, err));
    CWI_TRY(cwi_half_open(&c->setup, 0, c->setup.cut.layer, (size_t)c->config.batch, &c->half, err));
    const size_t elements = (size_t)c->config.batch * c->setup.smashed_count;
    c->smashed = cwi_alloc(elements, sizeof(float));
    const bool supported = c->setup.mask_gradient && strncmp(cw_codec_spec(c->setup.down), "ec:", 3) == 0;
    c->support = supported ? cwi_alloc(elements, 1) : NULL;
    return c->smashed && (c->support || !supported) ? CW_OK : cwi_fail_memory(err, elements * sizeof(float));
}

static cw_status on_welcome(cwi_client *c, const cw_msg *msg, cw_error *err)
{
    if (msg->version_max < CW_WIRE_VERSION_MIN || msg->version_max > CW_WIRE_VERSION_MAX)
        return cwi_fail(err, CW_ERR_VERSION, "the server chose protocol version %u, this client speaks %d to %d",
                        msg->version_max, CW_WIRE_VERSION_MIN, CW_WIRE_VERSION_MAX);
    c->index = msg->client;
    c->clients = msg->clients;
    c->session = msg->session;
    CWI_TRY(prepare(c, msg, err));
    c->report.epochs = c->config.epochs;
    cw_msg reply = message(c, CW_MSG_READY);
    reply.config_hash = msg->config_hash;
    reply.samples = c->feed.train_count;
    reply.test_samples = c->feed.test_count;
    c->state = STATE_IDLE;
    cwi_report_log(&c->report, "joined as client %u of %u: %zu training and %zu test samples of %s", c->index + 1,
                   c->clients, c->feed.train_count, c->feed.test_count, c->config.data);
    return send_msg(c, &reply, err);
}

/* ---- dispatch ---- */

static cw_status on_end(cwi_client *c, const cw_msg *msg)
{
    size_t n = CWI_MIN(msg->blob_size, sizeof c->last_words - 1);
    memcpy(c->last_words, msg->blob ? (const char *)msg->blob : "", n);
    c->last_words[n] = '\0';
    c->state = STATE_DONE;
    return CW_OK;
}

static cw_status unexpected(const cwi_client *c, const cw_msg *msg, cw_error *err)
{
    return cwi_fail(err, CW_ERR_PROTOCOL,
                    "the server sent %s for epoch %u, step %u where %s for epoch %u, step %u was due",
                    cw_msg_name(msg->type), msg->epoch, msg->step, state_waits_for[c->state], c->epoch, c->step);
}

static bool is_due(const cwi_client *c, const cw_msg *msg, client_state state)
{
    return c->state == state && msg->epoch == c->epoch && msg->step == c->step;
}

static cw_status dispatch(cwi_client *c, const cw_msg *msg, cw_error *err)
{
    switch (msg->type) {
    case CW_MSG_WELCOME:
        return c->state == STATE_HELLO ? on_welcome(c, msg, err) : unexpected(c, msg, err);
    case CW_MSG_STATE:
        return c->state == STATE_IDLE ? cwi_half_load(&c->half, msg->blob, msg->blob_size, err)
                                      : unexpected(c, msg, err);
    case CW_MSG_BEGIN:
        return c->state == STATE_IDLE ? on_begin(c, msg, err) : unexpected(c, msg, err);
    case CW_MSG_GRADIENT:
        return is_due(c, msg, STATE_GRADIENT) ? on_gradient(c, msg, err) : unexpected(c, msg, err);
    case CW_MSG_UPDATE:
        return c->state == STATE_UPDATE && msg->epoch == c->epoch && msg->step >= c->step ? on_update(c, msg, err)
                                                                                          : unexpected(c, msg, err);
    case CW_MSG_RESULT:
        return is_due(c, msg, STATE_RESULT) ? on_result(c, err) : unexpected(c, msg, err);
    case CW_MSG_END:
        return on_end(c, msg);
    case CW_MSG_PONG:
        return CW_OK;
    default:
        return unexpected(c, msg, err);
    }
}

cw_status cwi_client_handle(cwi_client *client, const cw_frame *frame, cw_error *err)
{
    cw_msg msg;
    cw_error own;
    if (!err)
        err = &own;
    *err->message = '\0';
    cw_status status = cw_msg_decode(frame->bytes, frame->size, &msg, err);
    if (status != CW_OK)
        return give_up(client, status, err);
    client->heard = cwi_seconds();
    if (msg.type == CW_MSG_ERROR) {
        cw_status said = msg.status ? msg.status : CW_ERR_CLOSED;
        return cwi_fail(err, said, "%s: %.*s",
                        client->state == STATE_HELLO ? "the server refused" : "the server ended this client's run",
                        (int)msg.blob_size, msg.blob ? (const char *)msg.blob : "");
    }
    if (client->session && msg.session != client->session)
        return CW_OK; /* of an earlier run of the server */
    status = dispatch(client, &msg, err);
    client->heard = cwi_seconds(); /* its own computing time is not the server's silence */
    return status == CW_OK ? CW_OK : give_up(client, status, err);
}

cw_status cwi_client_tick(cwi_client *client, cw_error *err)
{
    double now = cwi_seconds();
    bool hello = client->state == STATE_HELLO;
    double limit = hello ? client->config.join_timeout : client->config.timeout;
    if (now - client->heard > limit)
        return cwi_fail(err, CW_ERR_TIMEOUT,
                        hello ? "no answer from %s for %.0f s: is the server running there?"
                              : "nothing from the server at %s for %.0f s: it is gone or cut off",
                        cw_transport_endpoint(client->box.transport), limit);
    if (hello || now - client->said < ping_interval)
        return CW_OK;
    cw_msg msg = message(client, CW_MSG_PING);
    return send_msg(client, &msg, err);
}

/* ---- the role ---- */

static cw_status run(cwi_client *c, cw_transport *transport, const cw_hooks *hooks, cw_error *err)
{
    CWI_TRY(cwi_client_start(c, err));
    while (!cwi_client_done(c)) {
        if (hooks && hooks->stop && *hooks->stop) {
            cwi_client_leave(c);
            return CW_ERR_CANCELLED;
        }
        cw_frame frame;
        cw_status status = cw_transport_recv(transport, 500, &frame, err);
        if (status == CW_OK) {
            status = cwi_client_handle(c, &frame, err);
            cw_frame_release(&frame);
            CWI_TRY(status);
        } else if (status != CW_ERR_TIMEOUT && status != CW_ERR_CANCELLED) {
            return status;
        }
        CWI_TRY(cwi_client_tick(c, err));
    }
    return CW_OK;
}

cw_status cw_join(const cw_config *config, const char *expect_model, cw_transport *transport, const cw_hooks *hooks,
                  cw_error *err)
{
    cwi_client *client;
    CWI_TRY(cwi_client_create(config, expect_model, transport, hooks, &client, err));
    cw_status status = run(client, transport, hooks, err);
    if (status == CW_OK && *client->last_words)
        cwi_report_log(&client->report, "server: %s", client->last_words);
    cwi_client_destroy(&client);
    return status;
}
