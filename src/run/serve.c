/* serve.c - the server's role: what a run has at the server, driven by frames and the clock. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cutwire/train.h"
#include "modes/mode.h"
#include "net/transport.h"
#include "record/checkpoint.h"
#include "run/places.h"

/* ---- life ---- */

/* The mirror is planned for one sample only: it is never run. */
static cw_status open_halves(cw_server *s, const cw_server_options *options, cw_error *err)
{
    const cwi_setup *setup = &s->setup;
    s->half = options->half;
    s->mirror = options->client_half;
    if (setup->model && !s->half) {
        const size_t layers = cw_model_layer_count(setup->model), batch = (size_t)setup->config.batch;
        CWI_TRY(cwi_half_open(setup, setup->cut.layer, layers, batch, &s->half, err));
        s->owns_half = true;
    }
    if (setup->model && !s->mirror) {
        CWI_TRY(cwi_half_open(setup, 0, setup->cut.layer, 1, &s->mirror, err));
        s->owns_mirror = true;
    }
    if (!s->half)
        return cwi_fail(err, CW_ERR_INVALID, "model own: give the server its half, the layers after the cut");
    if (!s->mirror) {
        s->owns_mirror = true;
        return cwi_half_remote_create(&s->mirror, err);
    }
    return CW_OK;
}

/* The largest frame that a client may send, by the model: a batch with its labels, its half's gradient or statistics.
 * What is larger comes from no honest one. Beside an unknown half of the clients nothing is known. */
static uint64_t largest_incoming(const cw_server *s)
{
    enum { LABEL = 4, NAMES = 1 << 20 };
    float somewhere;
    const uint64_t batch = (uint64_t)s->setup.config.batch;
    const cw_tensor x = cwi_setup_smashed(&s->setup, &somewhere, batch);
    const cw_tensor update = cwi_half_vector(s->mirror, &somewhere);
    uint64_t largest = CWI_MAX(cw_codec_bound(s->setup.up, &x), cw_codec_bound(s->setup.eval_up, &x));
    largest = CWI_MAX(largest, cw_codec_bound(s->setup.update, &update));
    largest = CWI_MAX(largest, cw_half_buffer_count(s->mirror) * sizeof(float));
    return largest + batch * LABEL + NAMES;
}

/* What waits for a client that reads slowly, but reads: a few frames of the largest kind. */
static cw_status limit_queue(const cw_server *s, cw_transport *transport, size_t welcome_size, cw_error *err)
{
    enum { FRAMES = 8, SMALL_FRAMES = 1 << 20, UNKNOWN = 64 << 20 };
    float somewhere; /* a bound asks for shapes alone */
    uint8_t *state;
    size_t largest;
    CWI_TRY(cwi_half_save(s->mirror, &state, &largest, err));
    cw_bytes_free(state);
    const cw_tensor dx = cwi_setup_smashed(&s->setup, &somewhere, (uint64_t)s->setup.config.batch);
    const cw_tensor update = cwi_half_vector(s->mirror, &somewhere);
    largest = CWI_MAX(largest, cw_codec_bound(s->setup.down, &dx));
    largest = CWI_MAX(largest, cw_codec_bound(s->setup.update, &update));
    largest = CWI_MAX(largest, welcome_size);
    if (s->setup.client_state)
        largest = CWI_MAX(largest, (size_t)UNKNOWN);
    cwi_transport_limit_queue(transport, (uint64_t)FRAMES * largest + SMALL_FRAMES);
    if (s->setup.model && !s->setup.client_state && !s->setup.any_targets)
        cwi_transport_limit_frames(transport, CWI_MAX(largest_incoming(s), (uint64_t)largest + SMALL_FRAMES));
    return CW_OK;
}

static cw_status open_places(cw_server *s, cw_error *err)
{
    s->places = cwi_calloc(1, sizeof *s->places);
    return s->places ? cwi_places_open(&s->setup.config, &s->report, s->places, err)
                     : cwi_fail_memory(err, sizeof *s->places);
}

static cw_status open_session(cw_server *s, cw_transport *transport, cw_error *err)
{
    const cw_config *config = &s->setup.config;
    size_t size;
    const cw_hooks *hooks = s->report.hooks;
    s->watch.asks = s->setup.ask_times = hooks && hooks->times;
    CWI_TRY(cwi_welcome_write(&s->setup, &s->welcome, &size, err));
    const cwi_session_options options = {.members = (size_t)config->clients,
                                         .timeout = config->timeout,
                                         .join_timeout =
                                             config->join_timeout > 0 ? config->join_timeout : (double)INFINITY,
                                         .resumed = *config->resume,
                                         .grace = config->grace,
                                         .welcome = s->welcome,
                                         .welcome_size = size,
                                         .keys_are_identities = true,
                                         .learn = s->setup.client_state,
                                         .owners = s->places ? (const char(*)[41])s->places->owners : NULL,
                                         .hold = config->grace,
                                         .fingerprint = cw_half_fingerprint(s->mirror)};
    CWI_TRY(limit_queue(s, transport, size, err));
    CWI_TRY(s->mode->open_server(s, &s->state, err));
    return cwi_session_open(&s->session, &options, s->mode->work, s->state, transport, err);
}

static cw_status check_quorum(const cw_config *config, cw_error *err)
{
    return config->step_deadline <= 0 || config->quorum <= config->clients
               ? CW_OK
               : cwi_fail(err, CW_ERR_SPEC, "quorum: a step cannot have %d clients, the run has %d: give fewer",
                          config->quorum, config->clients);
}

static cw_status open_server(cw_server *s, const cw_config *config, cw_transport *transport,
                             const cw_server_options *options, cw_error *err)
{
    const size_t capacity = transport->capacity;
    if (capacity && capacity < (size_t)config->clients)
        return cwi_fail(
            err, CW_ERR_INVALID,
            "%d clients do not fit: there is room for %zu connection%s: raise the limit of open files (ulimit -n), "
            "or --connections where that is less",
            config->clients, capacity, capacity == 1 ? "" : "s");
    CWI_TRY(check_quorum(config, err));
    CWI_TRY(cwi_mode_find(config->mode, &s->mode, err));
    CWI_TRY(cwi_run_folder_check(config, err));
    CWI_TRY(cwi_setup_open_halves(config, options->half, options->client_half, &s->setup, err));
    cwi_report_open(&s->setup, options->hooks, &s->report);
    CWI_TRY(cwi_watch_open(&s->watch, (size_t)s->setup.config.clients, err));
    CWI_TRY(open_halves(s, options, err));
    cw_half *const halves[] = {s->mirror, s->half};
    CWI_TRY(cwi_own_statistics_open(&s->own, (size_t)s->setup.config.clients, cw_half_buffer_count(s->mirror), err));
    s->from.own = &s->own;
    CWI_TRY(cwi_checkpoint_begin(&s->setup.config, halves, CWI_COUNT(halves), &s->report, &s->from, err));
    if (!options->own_clients)
        CWI_TRY(open_places(s, err));
    CWI_TRY(open_session(s, transport, err));
    return cwi_report_open_files(&s->report, &s->setup, options->how ? options->how : "split", err);
}

cw_status cw_server_create(const cw_config *config, cw_transport *transport, const cw_server_options *options,
                           cw_server **out, cw_error *err)
{
    static const cw_server_options none;
    if (out)
        *out = NULL;
    if (!config || !transport || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_server_create: a NULL argument");
    cw_server *s = *out = cwi_calloc(1, sizeof *s);
    if (!s)
        return cwi_fail_memory(err, sizeof *s);
    const cw_status status = open_server(s, config, transport, options ? options : &none, err);
    if (status != CW_OK)
        cw_server_destroy(out);
    return status;
}

void cw_server_destroy(cw_server **server)
{
    cw_server *s = server ? *server : NULL;
    if (!s)
        return;
    if (s->mode)
        s->mode->close_server(s->state);
    cwi_session_close(&s->session);
    cwi_watch_close(&s->watch);
    if (s->places)
        cwi_places_close(s->places);
    cwi_free(s->places);
    cwi_own_statistics_close(&s->own);
    if (s->owns_half)
        cw_half_destroy(&s->half);
    if (s->owns_mirror)
        cw_half_destroy(&s->mirror);
    cwi_report_close(&s->report);
    cwi_setup_close(&s->setup);
    cwi_free(s->welcome);
    cwi_free(s);
    *server = NULL;
}

/* ---- driven by events ---- */

cw_status cw_server_handle(cw_server *server, cw_frame *frame, cw_error *err)
{
    return cwi_session_handle(&server->session, frame, err);
}

cw_status cw_server_tick(cw_server *server, double *next, cw_error *err)
{
    if (next)
        *next = CWI_TICK_SECONDS;
    if (server->places)
        cwi_places_keep(server->places, &server->session, &server->report);
    return cwi_session_tick(&server->session, err);
}

size_t cw_server_clients(const cw_server *server)
{
    return cwi_session_count(&server->session, CWI_MEMBER_READY) +
           cwi_session_count(&server->session, CWI_MEMBER_ACTIVE);
}

bool cw_server_done(const cw_server *server)
{
    return server->mode->work->finished(server->state);
}

static void finish_places(cw_server *s)
{
    if (s->awhile)
        cwi_places_keep(s->places, &s->session, &s->report);
    else
        cwi_places_forget(s->places);
}

cw_status cw_server_finish(cw_server *server, cw_status outcome, const char *words, cw_result *result, cw_error *err)
{
    const bool stopped = outcome == CW_ERR_CANCELLED, good = stopped || outcome == CW_OK;
    cw_half *const halves[] = {server->mirror, server->half};
    if (!server->awhile)
        cwi_session_end(&server->session, good ? CW_OK : outcome, words);
    if (server->places)
        finish_places(server);
    const cw_status saved = cwi_report_save_model(&server->report, halves, CWI_COUNT(halves), good ? err : NULL);
    server->report.result.stopped = stopped;
    cwi_report_close(&server->report);
    if (result)
        *result = server->report.result;
    return good ? saved : outcome;
}

/* ---- the role ---- */

/* For which a server that is to stop waits for the step under way. */
static const double DRAIN_SECONDS = 60;

/* Whether it has been asked to stop, and may. A stop for a while first has the step finished and saved. */
static bool is_to_stop(cw_server *s)
{
    if (!cwi_report_stop_asked(&s->report))
        return false;
    if (*s->report.hooks->stop != CW_STOP_AWHILE || !s->mode->work->drain)
        return true;
    const double now = cwi_seconds();
    if (!s->awhile) {
        cwi_report_log(&s->report, "stopping for a while: the step under way is finished and saved first");
        s->drain_until = now + DRAIN_SECONDS;
        s->awhile = true;
        s->mode->work->drain(s->state);
    }
    return now > s->drain_until || s->mode->work->drained(s->state);
}

/* Where batches are decoded ahead, what is there already is heard before work goes on; not when that is to stop, and
 * not beyond a tick: in an evaluation, hearing a batch is work. */
static bool hears_more(const cw_server *s, int heard, double began)
{
    enum { MOST = 64 };
    return s->gathers && heard < MOST && !cwi_report_stop_asked(&s->report) && cwi_seconds() - began < CWI_TICK_SECONDS;
}

static cw_status handle_all(cw_server *s, cw_transport *transport, cw_frame *frame, cw_error *err)
{
    const double began = cwi_seconds();
    int heard = 0;
    do {
        cwi_session_hear(&s->session, frame);
    } while (hears_more(s, ++heard, began) && cw_transport_recv(transport, 0, frame, NULL) == CW_OK);
    return cwi_session_go_on(&s->session, err);
}

static cw_status run(cw_server *s, cw_transport *transport, cw_error *err)
{
    double ticked = cwi_seconds();
    while (!cw_server_done(s)) {
        if (is_to_stop(s))
            return CW_ERR_CANCELLED;
        cw_frame frame;
        const cw_status status = cw_transport_recv(transport, (int)(CWI_TICK_SECONDS * 1000), &frame, err);
        if (status == CW_OK)
            CWI_TRY(handle_all(s, transport, &frame, err));
        else if (status != CW_ERR_TIMEOUT && status != CW_ERR_CANCELLED)
            return status;
        if (cwi_seconds() - ticked < CWI_TICK_SECONDS)
            continue;
        CWI_TRY(
            cw_server_tick(s, NULL, err)); /* also while there is always a frame: a chatty peer hides no silent one */
        ticked = cwi_seconds();
    }
    return CW_OK;
}

cw_status cw_serve(const cw_config *config, cw_transport *transport, const cw_hooks *hooks, cw_result *result,
                   cw_error *err)
{
    const cw_server_options options = {.hooks = hooks, .how = "split over TCP"};
    return cw_serve_with(config, transport, &options, result, err);
}

cw_status cw_serve_with(const cw_config *config, cw_transport *transport, const cw_server_options *options,
                        cw_result *result, cw_error *err)
{
    cw_server *server;
    memset(result, 0, sizeof *result);
    CWI_TRY(cw_server_create(config, transport, options, &server, err));
    cw_status status = run(server, transport, err);
    char failure[sizeof err->message] = "";
    if (err)
        snprintf(failure, sizeof failure, "%s", err->message);
    const char *words = status == CW_OK              ? "training is finished"
                        : status == CW_ERR_CANCELLED ? "the server was stopped"
                        : *failure                   ? failure
                                                     : cw_status_message(status);
    status = cw_server_finish(server, status, words, result, err);
    cw_server_destroy(&server);
    return status;
}
