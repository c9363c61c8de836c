/* join.c - a client's role: what WELCOME makes of it, driven by frames and the clock. */
#include <math.h>
#include <string.h>

#include "cutwire/train.h"
#include "modes/mode.h"
#include "session/identity.h"

/* ---- WELCOME ---- */

static cw_status open_half(cw_client *c, cw_error *err)
{
    if (!c->half) {
        if (!c->setup.model)
            return cwi_fail(
                err, CW_ERR_INVALID,
                "the server trains a model of its own: this client needs a half like it (cw_client_options)");
        CWI_TRY(cwi_half_open(&c->setup, 0, c->setup.cut.layer, (size_t)c->config.batch, &c->half, err));
        c->owns_half = true;
    }
    const cw_shape in = cw_half_in_shape(c->half);
    size_t count;
    if (in.ndim && (cw_shape_count(&in, &count) != CW_OK || count != c->setup.sample_count))
        return cwi_fail(err, CW_ERR_MISMATCH, "this client's half takes other samples than the run's, of %s",
                        c->config.sample);
    if (cw_half_tickets(c->half) >= (size_t)c->config.in_flight)
        return CW_OK;
    return cwi_fail(err, CW_ERR_UNSUPPORTED, "in-flight: %d micro-batches at once, this client's half has %zu tickets",
                    c->config.in_flight, cw_half_tickets(c->half));
}

static cw_status check_classes(const cw_client *c, cw_error *err)
{
    char *both;
    const cw_status status = cwi_feeds_check_classes(&c->setup, &c->train, &c->test, &both, err);
    if (both)
        cwi_report_log(&c->report, "%s", both);
    cwi_free(both);
    return status;
}

static cw_status prepare(cw_client *c, const cw_msg *welcome, cw_error *err)
{
    char *recipe;
    cwi_classes classes;
    cwi_required required;
    CWI_TRY(cwi_welcome_read(welcome->blob, welcome->blob_size, &c->config, &required, &recipe, &classes, err));
    if (c->expect_model && strcmp(c->expect_model, c->config.model) != 0) {
        cwi_free(recipe);
        cwi_classes_free(&classes);
        return cwi_fail(err, CW_ERR_MISMATCH, "the server trains model %s, this client is for %s", c->config.model,
                        c->expect_model);
    }
    const cw_status status = cwi_setup_open_with(&c->config, recipe, NULL, c->half, &c->setup, err);
    if (status != CW_OK) {
        cwi_classes_free(&classes);
        return status;
    }
    c->has_setup = true;
    c->setup.client_state = required.client_state;
    c->setup.any_targets = required.any_targets;
    c->setup.late_steps = required.late_steps;
    c->setup.ask_times = required.ask_times;
    cwi_report_emulation(&c->report, &c->setup);
    cwi_classes_free(&c->setup.classes); /* those of data that were looked into */
    c->setup.classes = classes;
    CWI_TRY(cwi_mode_find(c->config.mode, &c->mode, err));
    CWI_TRY(open_half(c, err));
    const bool first = required.client_state && !welcome->fingerprint;
    if (!first && cw_half_fingerprint(c->half) != welcome->fingerprint)
        return cwi_fail(err, CW_ERR_MISMATCH,
                        "server and client disagree on what the client's half of model %s is: names, shapes or dtypes "
                        "of its weights differ: use the same version, or the same half",
                        c->config.model);
    const size_t client = c->guest.index, clients = c->guest.members;
    CWI_TRY(cwi_feed_open(&c->setup, CW_SPLIT_TRAIN, client, clients, c->own_train, &c->train, err));
    CWI_TRY(cwi_feed_open(&c->setup, CW_SPLIT_TEST, client, clients, c->own_test, &c->test, err));
    CWI_TRY(check_classes(c, err));
    return c->mode->open_client(c, &c->state, err);
}

/* To a server that knows no half like this one. */
static void say_join(const cw_client *c, cw_msg *ready)
{
    ready->type = CW_MSG_JOIN;
    ready->weights = cw_half_weight_count(c->half);
    ready->buffers = cw_half_buffer_count(c->half);
    ready->batch = (uint32_t)c->train.batch;
}

/* What a WELCOME has made. */
static void forget_run(cw_client *c)
{
    if (c->mode)
        c->mode->close_client(c->state);
    cwi_free(c->class_names);
    cwi_free(c->welcome);
    cwi_feed_close(&c->train);
    cwi_feed_close(&c->test);
    if (c->owns_half)
        cw_half_destroy(&c->half);
    if (c->has_setup)
        cwi_setup_close(&c->setup);
    c->mode = NULL;
    c->state = NULL;
    c->class_names = NULL;
    c->welcome = NULL;
    c->has_setup = c->owns_half = false;
}

static cw_status keep_welcome(cw_client *c, const cw_msg *welcome, cw_error *err)
{
    c->welcome = cwi_alloc(welcome->blob_size, 1);
    if (!c->welcome)
        return cwi_fail_memory(err, welcome->blob_size);
    memcpy(c->welcome, welcome->blob, welcome->blob_size);
    c->welcome_size = welcome->blob_size;
    c->place = welcome->client;
    return CW_OK;
}

/* The run that this client was in: it keeps half and data, and gets the rest as STATE and BEGIN. */
static bool is_same_run(const cw_client *c, const cw_msg *welcome)
{
    return c->welcome && c->place == welcome->client && c->welcome_size == welcome->blob_size &&
           memcmp(c->welcome, welcome->blob, welcome->blob_size) == 0 &&
           cw_half_fingerprint(c->half) == welcome->fingerprint;
}

static cw_status enter_run(cw_client *c, const cw_msg *welcome, cw_error *err)
{
    if (is_same_run(c, welcome)) {
        c->mode->close_client(c->state);
        c->state = NULL;
        return c->mode->open_client(c, &c->state, err);
    }
    forget_run(c);
    CWI_TRY(prepare(c, welcome, err));
    return keep_welcome(c, welcome, err);
}

/* Without it a client that is started again together with its server may get another's place, and no more. */
static void remember_place(cw_client *c)
{
    cw_error err;
    if (c->identity.token && cwi_identity_keep_place(c->config.identity, &c->identity, c->guest.index, &err) != CW_OK)
        cwi_report_log(&c->report, "%s", err.message);
}

static cw_status on_welcome(void *run, const cw_msg *welcome, cw_msg *ready, cw_error *err)
{
    cw_client *c = run;
    CWI_TRY(enter_run(c, welcome, err));
    remember_place(c);
    cwi_free(c->class_names);
    c->class_names = NULL;
    c->report.epochs = c->config.epochs;
    if (c->setup.client_state)
        say_join(c, ready);
    ready->fingerprint = cw_half_fingerprint(c->half);
    ready->samples = c->train.samples;
    ready->test_samples = c->test.samples;
    CWI_TRY(cwi_classes_format(&c->train.classes, &c->class_names, err));
    ready->blob = (const uint8_t *)c->class_names;
    ready->blob_size = strlen(c->class_names);
    cwi_report_log(&c->report, "joined as client %u of %u: %zu training and %zu test samples of %s", c->guest.index + 1,
                   c->guest.members, c->train.samples, c->test.samples, c->config.data);
    if (c->guest.index == 0 || c->config.own_data) { /* the others see the same */
        cwi_report_data(&c->report, &c->train);
        cwi_report_data(&c->report, &c->test);
    }
    return CW_OK;
}

static cw_status take(void *run, const cw_msg *msg, cw_error *err)
{
    cw_client *c = run;
    return c->mode->take(c->state, msg, err);
}

/* ---- life ---- */

static cw_status be_who_it_was(cw_client *c, cw_error *err)
{
    CWI_TRY(cwi_identity_open(c->config.identity, &c->identity, err));
    c->guest.token = c->identity.token;
    c->guest.index = c->identity.place;
    return CW_OK;
}

cw_status cw_client_create(const cw_config *config, cw_transport *transport, const cw_client_options *options,
                           cw_client **out, cw_error *err)
{
    static const cw_client_options none;
    static const cw_hooks silent;
    static const cw_feed no_feed;
    static const cwi_guest_work work = {.welcome = on_welcome, .take = take};
    if (out)
        *out = NULL;
    if (!config || !transport || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_client_create: a NULL argument");
    options = options ? options : &none;
    cw_client *c = *out = cwi_calloc(1, sizeof *c);
    if (!c)
        return cwi_fail_memory(err, sizeof *c);
    c->config = *config;
    c->expect_model = options->expect_model;
    c->half = options->half;
    c->own_train = options->train;
    c->own_test = options->test ? options->test : options->train ? &no_feed : NULL;
    c->report.hooks = options->hooks ? options->hooks : &silent;
    const double join = config->join_timeout > 0 ? config->join_timeout : (double)INFINITY;
    cw_status status = cwi_guest_open(&c->guest, &work, c, transport, config->timeout, join, err);
    c->guest.reconnect = config->reconnect;
    if (status == CW_OK && *config->identity)
        status = be_who_it_was(c, err);
    if (status != CW_OK)
        cw_client_destroy(out);
    return status;
}

void cw_client_destroy(cw_client **client)
{
    cw_client *c = client ? *client : NULL;
    if (!c)
        return;
    forget_run(c);
    cwi_guest_close(&c->guest);
    cwi_free(c);
    *client = NULL;
}

/* ---- driven by events ---- */

cw_status cw_client_start(cw_client *client, cw_error *err)
{
    return cwi_guest_start(&client->guest, err);
}

cw_status cw_client_handle(cw_client *client, cw_frame *frame, cw_error *err)
{
    const cw_status status = cwi_guest_handle(&client->guest, frame, err);
    cw_frame_release(frame);
    return status;
}

/* Whether it has put off work for frames that may have come already. */
static bool is_pending(const cw_client *c)
{
    return c->state && c->mode->pending && c->mode->pending(c->state);
}

cw_status cw_client_tick(cw_client *client, double *next, cw_error *err)
{
    if (next)
        *next = is_pending(client) ? 0 : CWI_TICK_SECONDS;
    const bool broken = client->guest.broken, rejoins = client->guest.rejoins;
    const cw_status status = cwi_guest_tick(&client->guest, err);
    if (client->guest.broken && !broken && client->guest.reconnect > 0)
        cwi_report_warn(&client->report, "server_lost", "the connection to the server is broken: trying for %.0f s",
                        client->guest.reconnect);
    if (client->guest.rejoins && !rejoins)
        cwi_report_log(&client->report, "the server has begun anew: joining again");
    else if (broken && !client->guest.broken && client->guest.reconnect > 0)
        cwi_report_log(&client->report, "the server is back");
    return status == CW_OK && is_pending(client) ? client->mode->go_on(client->state, err) : status;
}

void cw_client_leave(cw_client *client)
{
    cwi_guest_leave(&client->guest);
}

bool cw_client_done(const cw_client *client)
{
    return client->guest.state == CWI_GUEST_DONE;
}

const char *cw_client_last_words(const cw_client *client)
{
    return client->guest.last_words;
}

/* ---- the role ---- */

static cw_status run(cw_client *c, cw_transport *transport, cw_error *err)
{
    CWI_TRY(cw_client_start(c, err));
    while (!cw_client_done(c)) {
        if (cwi_report_stop_asked(&c->report)) {
            cw_client_leave(c);
            return CW_ERR_CANCELLED;
        }
        cw_frame frame;
        const cw_status status = cw_transport_recv(transport, is_pending(c) ? 0 : 500, &frame, err);
        if (status == CW_OK)
            CWI_TRY(cw_client_handle(c, &frame, err));
        if (status == CW_OK && is_pending(c))
            continue;
        if (status != CW_OK && status != CW_ERR_TIMEOUT && status != CW_ERR_CANCELLED)
            return status;
        CWI_TRY(cw_client_tick(c, NULL, err));
    }
    return CW_OK;
}

cw_status cw_join(const cw_config *config, const char *expect_model, cw_transport *transport, const cw_hooks *hooks,
                  cw_error *err)
{
    const cw_client_options options = {.hooks = hooks, .expect_model = expect_model};
    return cw_join_with(config, transport, &options, err);
}

cw_status cw_join_with(const cw_config *config, cw_transport *transport, const cw_client_options *options,
                       cw_error *err)
{
    cw_client *client;
    CWI_TRY(cw_client_create(config, transport, options, &client, err));
    const cw_status status = run(client, transport, err);
    if (status == CW_OK && *cw_client_last_words(client))
        cwi_report_log(&client->report, "server: %s", cw_client_last_words(client));
    cw_client_destroy(&client);
    return status;
}
