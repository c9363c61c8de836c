/* server.c - the server's life: clients join, are lost, say things in and out of turn. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "net/transport.h"
#include "train/checkpoint.h"
#include "train/server.h"

/* ---- life ---- */

static cw_status allocate(cwi_server *s, cw_error *err)
{
    size_t batch = (size_t)s->setup.config.batch, elements;
    s->slot_count = (size_t)s->setup.config.clients;
    if (!cwi_mul_size(batch, s->setup.smashed_count, &elements))
        return cwi_fail(err, CW_ERR_INVALID, "batch %zu is too large for this cut", batch);
    s->slots = cwi_calloc(s->slot_count, sizeof *s->slots);
    s->average = cwi_calloc(CWI_MAX(s->client.trainable, s->client.buffers), sizeof(float));
    const cw_tensor gradient = cwi_half_vector(&s->client, s->average);
    s->coded_capacity = cw_codec_bound(s->setup.update, &gradient);
    s->coded_update = cwi_alloc(s->coded_capacity, 1);
    s->statistics = cwi_calloc(s->half.buffers, sizeof(float));
    s->x = cwi_alloc(elements, sizeof(float));
    s->dx = cwi_alloc(elements, sizeof(float));
    s->sent = s->setup.mask_gradient ? cwi_alloc(elements, 1) : NULL;
    s->labels = cwi_alloc(batch, sizeof(int32_t));
    if (!s->slots || !s->average || !s->coded_update || !s->statistics || !s->x || !s->dx || !s->labels ||
        (s->setup.mask_gradient && !s->sent))
        return cwi_fail_memory(err, elements * 2 * sizeof(float));
    return CW_OK;
}

/* What waits for a client that reads slowly, but reads: a few frames of the largest kind. */
static uint64_t queue_limit(const cwi_server *s)
{
    enum { FRAMES = 8, SMALL_FRAMES = 1 << 20, NAMES = 1 << 16 };
    cw_shape shape = {.ndim = s->setup.cut.smashed.ndim + 1, .dim = {s->setup.config.batch}};
    memcpy(shape.dim + 1, s->setup.cut.smashed.dim, sizeof(int64_t) * (size_t)s->setup.cut.smashed.ndim);
    const cw_tensor dx = cw_tensor_view(CW_F32, &shape, s->dx);
    const size_t vectors = 1 + cw_optimizer_slots(s->client.optimizer);
    uint64_t largest = (s->client.trainable * vectors + s->client.buffers) * sizeof(float) + NAMES; /* STATE */
    largest = CWI_MAX(largest, cw_codec_bound(s->setup.down, &dx));
    largest = CWI_MAX(largest, s->coded_capacity);
    largest = CWI_MAX(largest, s->welcome_size);
    return FRAMES * largest + SMALL_FRAMES;
}

static cw_status open_server(cwi_server *s, const cw_config *config, const cw_hooks *hooks, cw_error *err)
{
    const size_t capacity = s->box.transport->capacity;
    if (capacity && capacity < (size_t)config->clients)
        return cwi_fail(err, CW_ERR_INVALID,
                        "%d clients do not fit: the limit of open files leaves room for %zu: raise it (ulimit -n)",
                        config->clients, capacity);
    CWI_TRY(cwi_setup_open(config, &s->setup, err));
    cwi_report_open(&s->setup, hooks, &s->report);
    CWI_TRY(cwi_welcome_write(&s->setup, &s->welcome, &s->welcome_size, err));
    CWI_TRY(cwi_setup_hash(&s->setup, &s->config_hash, err));
    size_t layers = cw_model_layer_count(s->setup.model), batch = (size_t)s->setup.config.batch;
    CWI_TRY(cwi_half_open(&s->setup, s->setup.cut.layer, layers, batch, &s->half, err));
    CWI_TRY(cwi_half_open(&s->setup, 0, s->setup.cut.layer, 1, &s->client, err));
    CWI_TRY(allocate(s, err));
    cwi_transport_limit_queue(s->box.transport, queue_limit(s));
    return CW_OK;
}

static cw_status resume(cwi_server *s, cw_error *err)
{
    cwi_half *const halves[] = {&s->client, &s->half};
    CWI_TRY(cwi_checkpoint_begin(&s->setup.config, halves, CWI_COUNT(halves), &s->report, &s->from, err));
    s->epoch = (uint32_t)s->from.epoch;
    s->totals = s->report.result.last;
    s->totals.up = s->from.up;
    s->totals.down = s->from.down;
    s->before_up = s->totals.up.socket;
    s->before_down = s->totals.down.socket;
    if (s->from.epoch >= s->setup.config.epochs)
        s->stage = CWI_STAGE_FINISHED;
    return CW_OK;
}

cw_status cwi_server_create(const cw_config *config, const char *mode, cw_transport *transport, const cw_hooks *hooks,
                            cwi_server **out, cw_error *err)
{
    cwi_server *s = *out = cwi_calloc(1, sizeof *s);
    if (!s)
        return cwi_fail_memory(err, sizeof *s);
    s->box.transport = transport;
    if (getrandom(&s->session, sizeof s->session, 0) != sizeof s->session || s->session == 0)
        s->session = (uint64_t)(cwi_seconds() * 1e9) | 1;
    s->alone_since = cwi_seconds();
    cw_status status = open_server(s, config, hooks, err);
    if (status == CW_OK)
        status = resume(s, err);
    if (status == CW_OK)
        status = cwi_report_open_files(&s->report, &s->setup, mode, err);
    if (status != CW_OK)
        cwi_server_destroy(out);
    return status;
}

static void release_slot(cwi_slot *slot)
{
    if (slot->arrived)
        cw_frame_release(&slot->frame);
    cwi_free(slot->label_map);
}

void cwi_server_destroy(cwi_server **server)
{
    cwi_server *s = server ? *server : NULL;
    if (!s)
        return;
    for (size_t i = 0; s->slots && i < s->slot_count; i++)
        release_slot(&s->slots[i]);
    cwi_free(s->slots);
    cwi_free(s->average);
    cwi_free(s->coded_update);
    cwi_free(s->statistics);
    cwi_free(s->x);
    cwi_free(s->dx);
    cwi_free(s->sent);
    cwi_free(s->labels);
    cwi_free(s->welcome);
    cwi_half_close(&s->half);
    cwi_half_close(&s->client);
    cwi_report_close(&s->report);
    cwi_setup_close(&s->setup);
    cwi_outbox_free(&s->box);
    cwi_free(s);
    *server = NULL;
}

/* ---- refusing and losing ---- */

/* Tells a peer what is wrong and hears no more of it. */
static void refuse(cwi_server *s, cw_peer peer, uint32_t client, cw_status status, const char *why)
{
    cw_msg msg = {.type = CW_MSG_ERROR, .client = client, .session = s->session, .status = status};
    (void)cwi_outbox_send_text(&s->box, peer, &msg, why, NULL);
    cw_transport_drop(s->box.transport, peer);
}

void cwi_server_lose(cwi_server *s, cwi_slot *slot, cw_status status, const char *why)
{
    if (slot->state == CWI_SLOT_VACANT)
        return;
    size_t index = (size_t)(slot - s->slots);
    const bool was_active = slot->state == CWI_SLOT_ACTIVE; /* those who fail to join must not prolong the wait */
    cwi_report_log(&s->report, "client %zu is out: %s", index + 1, why);
    refuse(s, slot->peer, (uint32_t)index, status ? status : CW_ERR_CLOSED, why);
    release_slot(slot);
    *slot = (cwi_slot){.state = CWI_SLOT_VACANT, .token = slot->token};
    s->lost_status = status;
    snprintf(s->lost_reason, sizeof s->lost_reason, "client %zu: %s", index + 1, why);
    if (was_active && !cwi_server_active(s))
        s->alone_since = cwi_seconds();
    cwi_server_forget_classes(s);
}

static cwi_slot *slot_of_peer(cwi_server *s, cw_peer peer)
{
    for (size_t i = 0; i < s->slot_count; i++)
        if (s->slots[i].state != CWI_SLOT_VACANT && s->slots[i].peer == peer)
            return &s->slots[i];
    return NULL;
}

/* ---- joining ---- */

/* Its old place for a client that comes back, else the first that nobody had, else any vacant one. */
static cwi_slot *slot_for(cwi_server *s, uint64_t token)
{
    cwi_slot *fresh = NULL, *vacant = NULL;
    for (size_t i = 0; i < s->slot_count; i++) {
        cwi_slot *slot = &s->slots[i];
        if (slot->state != CWI_SLOT_VACANT)
            continue;
        if (slot->token == token)
            return slot;
        if (!slot->token && !fresh)
            fresh = slot;
        if (!vacant)
            vacant = slot;
    }
    return fresh ? fresh : vacant;
}

static void on_hello(cwi_server *s, const cw_frame *frame, const cw_msg *msg)
{
    char why[200];
    if (msg->version_max < CW_WIRE_VERSION_MIN || msg->version_min > CW_WIRE_VERSION_MAX) {
        snprintf(why, sizeof why,
                 "this server speaks protocol versions %d to %d, the client %u to %u: update the older",
                 CW_WIRE_VERSION_MIN, CW_WIRE_VERSION_MAX, msg->version_min, msg->version_max);
        cwi_report_log(&s->report, "refused a client: %s", why);
        refuse(s, frame->peer, UINT32_MAX, CW_ERR_VERSION, why);
        return;
    }
    cwi_slot *slot = slot_of_peer(s, frame->peer) ? NULL : slot_for(s, msg->token);
    if (!slot) {
        snprintf(why, sizeof why, "all %zu places of this run are taken", s->slot_count);
        cwi_report_log(&s->report, "refused a client: %s", why);
        refuse(s, frame->peer, UINT32_MAX, CW_ERR_INVALID, why);
        return;
    }
    *slot = (cwi_slot){.state = CWI_SLOT_JOINING, .peer = frame->peer, .token = msg->token, .due_from = cwi_seconds()};
    cw_msg welcome = cwi_server_message(s, slot, CW_MSG_WELCOME);
    welcome.version_max = (uint16_t)CWI_MIN((unsigned)msg->version_max, (unsigned)CW_WIRE_VERSION_MAX);
    welcome.clients = (uint32_t)s->slot_count;
    welcome.config_hash = s->config_hash;
    welcome.blob = s->welcome;
    welcome.blob_size = s->welcome_size;
    cw_error err;
    cw_status status = cwi_outbox_send(&s->box, frame->peer, &welcome, &err);
    if (status != CW_OK)
        cwi_server_lose(s, slot, status, err.message);
}

/* Samples of a split that this machine has of the run's data set; 0: none, or of another kind. */
static uint64_t own_samples(const cwi_setup *setup, cw_split split)
{
    cw_dataset *ds;
    if (cwi_dataset_open_local(setup, split, &ds, NULL) != CW_OK)
        return 0;
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    const bool alike = cw_shape_equal(&info->sample, &setup->sample) && info->classes == setup->config.classes;
    const uint64_t count = alike ? info->count : 0;
    cw_dataset_close(&ds);
    return count;
}

static uint64_t most_samples(const cwi_setup *setup, cw_split split)
{
    enum { MOST = 10000000 };
    const cw_config *config = &setup->config;
    const int limit = split == CW_SPLIT_TRAIN ? config->train_limit : config->test_limit;
    if (config->max_samples)
        return (uint64_t)config->max_samples;
    if (limit)
        return (uint64_t)limit;
    const uint64_t own = own_samples(setup, split);
    return own ? own : MOST;
}

/* Whoever announces more than there can be makes everybody wait in an epoch of countless steps. */
static cw_status check_announced(cwi_server *s, cw_split split, uint64_t samples, cw_error *err)
{
    if (!s->most[split])
        s->most[split] = most_samples(&s->setup, split);
    if (samples <= s->most[split])
        return CW_OK;
    return cwi_fail(err, CW_ERR_MISMATCH,
                    "it announced %llu %s samples, this run takes at most %llu of one client: --max-samples N at the "
                    "server allows more",
                    (unsigned long long)samples, split == CW_SPLIT_TRAIN ? "training" : "test",
                    (unsigned long long)s->most[split]);
}

static cw_status on_ready(cwi_server *s, cwi_slot *slot, const cw_msg *msg, cw_error *err)
{
    if (slot->state != CWI_SLOT_JOINING)
        return cwi_fail(err, CW_ERR_PROTOCOL, "it sent a second READY");
    if (msg->config_hash != s->config_hash)
        return cwi_fail(err, CW_ERR_MISMATCH, "its configuration or model is not this run's: use the same version");
    if (msg->samples == 0)
        return cwi_fail(err, CW_ERR_MISMATCH, "it has no training samples");
    CWI_TRY(check_announced(s, CW_SPLIT_TRAIN, msg->samples, err));
    CWI_TRY(check_announced(s, CW_SPLIT_TEST, msg->test_samples, err));
    CWI_TRY(cwi_server_take_classes(s, slot, msg, err));
    slot->samples = msg->samples;
    slot->test_samples = msg->test_samples;
    slot->state = CWI_SLOT_READY;
    size_t ready = 0;
    for (size_t i = 0; i < s->slot_count; i++)
        ready += s->slots[i].state >= CWI_SLOT_READY;
    cwi_report_log(&s->report, "client %zu joined with %llu samples (%zu of %zu)", (size_t)(slot - s->slots) + 1,
                   (unsigned long long)msg->samples, ready, s->slot_count);
    return CW_OK;
}

/* The run begins when all are there; a run that lost everyone goes on with whoever comes back. */
static cw_status begin_if_complete(cwi_server *s, cw_error *err)
{
    size_t ready = 0;
    for (size_t i = 0; i < s->slot_count; i++)
        ready += s->slots[i].state == CWI_SLOT_READY;
    if (s->stage == CWI_STAGE_JOINING ? ready < s->slot_count : cwi_server_active(s) || !ready)
        return CW_OK;
    if (s->stage == CWI_STAGE_JOINING)
        cwi_report_begin(&s->report, s->from.seconds);
    return cwi_server_begin_epoch(s, err);
}

/* ---- frames ---- */

static cw_status dispatch_client(cwi_server *s, cwi_slot *slot, const cw_msg *msg, cw_frame *frame, cw_error *err)
{
    switch (msg->type) {
    case CW_MSG_READY:
        return on_ready(s, slot, msg, err);
    case CW_MSG_PING: {
        cw_msg pong = cwi_server_message(s, slot, CW_MSG_PONG);
        return cwi_outbox_send(&s->box, slot->peer, &pong, err);
    }
    case CW_MSG_PONG:
        return CW_OK;
    case CW_MSG_LEAVE:
    case CW_MSG_ERROR:
        return cwi_fail(err, msg->status ? msg->status : CW_ERR_CLOSED, "it left: %.*s", (int)msg->blob_size,
                        msg->blob ? (const char *)msg->blob : "");
    default:
        return cwi_server_take(s, slot, msg, frame, err);
    }
}

/* Whether the run has come on by it; chatter and refusals are no work. */
static bool handle(cwi_server *s, cw_frame *frame)
{
    cw_error err;
    cw_msg msg;
    cwi_slot *slot = slot_of_peer(s, frame->peer);
    cw_status status = cw_msg_decode(frame->bytes, frame->size, &msg, &err);
    if (status == CW_OK && msg.type == CW_MSG_HELLO && !slot) {
        on_hello(s, frame, &msg);
        return false;
    }
    if (!slot) {
        const char *why = status == CW_OK ? "it is not part of this run: it must say HELLO first" : err.message;
        cwi_report_log(&s->report, "refused a peer: %s", why);
        refuse(s, frame->peer, UINT32_MAX, status == CW_OK ? CW_ERR_PROTOCOL : status, why);
        return false;
    }
    if (status == CW_OK && (msg.session != s->session || msg.client != (uint32_t)(slot - s->slots)))
        status = cwi_fail(&err, CW_ERR_PROTOCOL, "it sent %s of another run or client", cw_msg_name(msg.type));
    if (status == CW_OK)
        status = dispatch_client(s, slot, &msg, frame, &err);
    if (status != CW_OK)
        cwi_server_lose(s, slot, status, err.message);
    return status == CW_OK && msg.type != CW_MSG_PING && msg.type != CW_MSG_PONG;
}

/* What to do when nobody is left. */
static cw_status check_alone(cwi_server *s, cw_error *err)
{
    if (cwi_server_active(s) || s->stage == CWI_STAGE_FINISHED)
        return CW_OK;
    if (s->lost_status == CW_ERR_DIVERGED && s->stage != CWI_STAGE_JOINING)
        return cwi_fail(err, CW_ERR_DIVERGED, "training diverged (%s): use a smaller learning rate", s->lost_reason);
    double waited = cwi_seconds() - s->alone_since, limit = s->setup.config.join_timeout;
    if (waited <= limit)
        return CW_OK;
    if (s->stage == CWI_STAGE_JOINING) {
        size_t ready = 0;
        for (size_t i = 0; i < s->slot_count; i++)
            ready += s->slots[i].state == CWI_SLOT_READY;
        return cwi_fail(err, CW_ERR_TIMEOUT, "%zu of %zu clients joined within %.0f s%s%s", ready, s->slot_count, limit,
                        *s->lost_reason ? "; the last that failed was " : "", s->lost_reason);
    }
    return cwi_fail(err, CW_ERR_TIMEOUT, "all clients are lost and none came back within %.0f s (%s)", limit,
                    s->lost_reason);
}

/* As far as the frames at hand allow. The time since `began`, when this server worked and did not listen, is nobody's
 * silence: frames that came meanwhile are still to be read. */
static cw_status go_on(cwi_server *s, double began, cw_error *err)
{
    CWI_TRY(cwi_server_advance(s, err));
    CWI_TRY(begin_if_complete(s, err));
    CWI_TRY(check_alone(s, err));
    const double busy = cwi_seconds() - began;
    for (size_t i = 0; i < s->slot_count; i++)
        s->slots[i].due_from += busy;
    return CW_OK;
}

cw_status cwi_server_handle(cwi_server *server, cw_frame *frame, cw_error *err)
{
    double began = cwi_seconds();
    if (!handle(server, frame))
        began = cwi_seconds(); /* or a peer that says much would hold up the time-outs of all */
    if (frame->owner)
        cw_frame_release(frame);
    return go_on(server, began, err);
}

cw_status cwi_server_tick(cwi_server *server, cw_error *err)
{
    double now = cwi_seconds(), limit = server->setup.config.timeout;
    for (size_t i = 0; i < server->slot_count; i++) {
        cwi_slot *slot = &server->slots[i];
        bool late = (slot->state == CWI_SLOT_ACTIVE && slot->owes && !slot->arrived) || slot->state == CWI_SLOT_JOINING;
        if (late && now - slot->due_from > limit) {
            char why[100];
            snprintf(why, sizeof why, "it sent nothing that was due for %.0f s", limit);
            cwi_server_lose(server, slot, CW_ERR_TIMEOUT, why);
        }
    }
    return go_on(server, now, err);
}

cw_status cwi_server_finish(cwi_server *server, cw_status outcome, const char *words, cw_error *err)
{
    for (size_t i = 0; i < server->slot_count; i++) {
        cwi_slot *slot = &server->slots[i];
        if (slot->state == CWI_SLOT_VACANT)
            continue;
        cw_msg msg = cwi_server_message(server, slot, outcome == CW_OK ? CW_MSG_END : CW_MSG_ERROR);
        msg.status = outcome;
        (void)cwi_outbox_send_text(&server->box, slot->peer, &msg, words, NULL);
    }
    const cw_part *parts[] = {server->client.part, server->half.part};
    return cwi_report_save_model(&server->report, parts, CWI_COUNT(parts), err);
}

/* ---- the role ---- */

static cw_status run(cwi_server *s, cw_transport *transport, cw_error *err)
{
    enum { TICK_MS = 200 };
    double ticked = cwi_seconds();
    while (s->stage != CWI_STAGE_FINISHED) {
        if (cwi_report_stop_asked(&s->report))
            return CW_ERR_CANCELLED;
        cw_frame frame;
        cw_status status = cw_transport_recv(transport, TICK_MS, &frame, err);
        if (status == CW_OK)
            CWI_TRY(cwi_server_handle(s, &frame, err));
        else if (status != CW_ERR_TIMEOUT && status != CW_ERR_CANCELLED)
            return status;
        if (cwi_seconds() - ticked < TICK_MS / 1000.0)
            continue;
        CWI_TRY(cwi_server_tick(s, err)); /* also while there is always a frame: a chatty peer hides no silent one */
        ticked = cwi_seconds();
    }
    return CW_OK;
}

cw_status cw_serve(const cw_config *config, cw_transport *transport, const cw_hooks *hooks, cw_result *result,
                   cw_error *err)
{
    cwi_server *server;
    memset(result, 0, sizeof *result);
    CWI_TRY(cwi_server_create(config, "split over TCP", transport, hooks, &server, err));
    cw_status status = run(server, transport, err);
    cw_status ended = CW_OK;
    if (status == CW_OK || status == CW_ERR_CANCELLED)
        ended =
            cwi_server_finish(server, CW_OK, status == CW_OK ? "training is finished" : "the server was stopped", err);
    else
        (void)cwi_server_finish(server, status, err ? err->message : cw_status_message(status), NULL);
    server->report.result.stopped = status == CW_ERR_CANCELLED;
    cwi_report_close(&server->report);
    *result = server->report.result;
    cwi_server_destroy(&server);
    return status == CW_OK || status == CW_ERR_CANCELLED ? ended : status;
}
