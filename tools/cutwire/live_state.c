/* live_state.c - see live_state.h. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "live_state.h"

double live_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void live_state_open(live_state *s, const char *role, const char *name, json_t *about)
{
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->mutex, NULL);
    snprintf(s->role, sizeof s->role, "%s", role);
    snprintf(s->name, sizeof s->name, "%s", name);
    s->phase = "waiting";
    s->about = about ? about : json_object();
    s->epochs = json_array();
    s->began = live_clock();
    s->losses.every = 1;
    s->version = 1;
}

void live_state_close(live_state *s)
{
    json_decref(s->about);
    json_decref(s->epochs);
    free(s->clients);
    pthread_mutex_destroy(&s->mutex);
}

/* ---- curves ---- */

static void thin(live_curve *c)
{
    for (size_t i = 0; 2 * i < c->count; i++) {
        c->x[i] = c->x[2 * i];
        c->y[i] = c->y[2 * i];
    }
    c->count = (c->count + 1) / 2;
    c->every *= 2;
}

static void add_point(live_curve *c, double x, double y)
{
    if (++c->skipped < c->every)
        return;
    c->skipped = 0;
    if (c->count == LIVE_CURVE)
        thin(c);
    c->x[c->count] = x;
    c->y[c->count++] = y;
}

static void sample(live_rates *r, double a, double b)
{
    const double now = live_clock(), passed = now - r->last_clock;
    if (r->last_clock && passed < 1)
        return;
    if (r->last_clock) {
        const size_t at = (r->first + r->count) % LIVE_RATES;
        r->clock[at] = now;
        r->a[at] = (a - r->last_a) / passed;
        r->b[at] = (b - r->last_b) / passed;
        if (r->count < LIVE_RATES)
            r->count++;
        else
            r->first = (r->first + 1) % LIVE_RATES;
    }
    r->last_clock = now;
    r->last_a = a;
    r->last_b = b;
}

/* ---- events ---- */

static void take_server(live_state *s, const cw_server_status *server)
{
    if (!server)
        return;
    if (s->server.count != server->count) {
        free(s->clients);
        s->clients = calloc(server->count, sizeof *s->clients);
    }
    s->server = *server;
    s->server.count = s->clients ? server->count : 0;
    s->server.clients = s->clients;
    if (s->clients)
        memcpy(s->clients, server->clients, server->count * sizeof *s->clients);
    s->has_server = true;
    sample(&s->rates, (double)server->up.socket, (double)server->down.socket);
}

static void take_note(live_state *s, const cw_event *e)
{
    live_note *n = &s->notes[(s->first_note + s->note_count) % LIVE_LOG];
    const time_t now = time(NULL);
    struct tm utc;
    if (e->level < CW_LOG_INFO)
        return;
    strftime(n->time, sizeof n->time, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    snprintf(n->text, sizeof n->text, "%s", e->text);
    n->level = e->level;
    if (s->note_count < LIVE_LOG)
        s->note_count++;
    else
        s->first_note = (s->first_note + 1) % LIVE_LOG;
}

static void take_step(live_state *s, const cw_event *e)
{
    s->epoch = e->epoch + 1;
    s->epoch_count = e->epochs;
    s->step = e->step;
    s->steps = e->steps;
    s->phase = e->kind == CW_EVENT_EVAL ? "evaluating" : "training";
    if (e->kind == CW_EVENT_EVAL)
        return;
    s->loss = e->loss;
    s->has_loss = true;
    add_point(&s->losses, e->epoch + (e->steps ? (double)e->step / (double)e->steps : 0), e->loss);
}

static json_t *traffic_json(const cw_traffic *t)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "socket_bytes", (json_int_t)t->socket, "payload_bytes",
                     (json_int_t)t->payload, "raw_bytes", (json_int_t)t->raw, "eval_payload_bytes",
                     (json_int_t)t->eval_payload, "eval_raw_bytes", (json_int_t)t->eval_raw, "weights_bytes",
                     (json_int_t)t->weights);
}

/* With the names of a run's metrics.jsonl. */
static void take_epoch(live_state *s, const cw_epoch_report *r)
{
    const bool tested = r->test_samples > 0;
    s->last = *r;
    json_array_append_new(s->epochs, json_pack("{s:i,s:o,s:o,s:o,s:o,s:o,s:i,s:o,s:o}", "epoch", r->epoch + 1,
                                               "train_loss", cli_json_number(r->train_loss), "train_accuracy",
                                               cli_json_number(r->train_accuracy), "test_loss",
                                               tested ? cli_json_number(r->test_loss) : json_null(), "test_accuracy",
                                               tested ? cli_json_number(r->test_accuracy) : json_null(), "seconds",
                                               cli_json_number(r->seconds), "clients", r->clients, "uplink",
                                               traffic_json(&r->up), "downlink", traffic_json(&r->down)));
}

void live_state_take(live_state *s, const cw_event *e)
{
    pthread_mutex_lock(&s->mutex);
    take_server(s, e->server);
    if (e->kind == CW_EVENT_LOG)
        take_note(s, e);
    else if (e->kind == CW_EVENT_STEP || e->kind == CW_EVENT_EVAL)
        take_step(s, e);
    else if (e->kind == CW_EVENT_EPOCH)
        take_epoch(s, e->report);
    if (e->answerer) {
        s->answerer = *e->answerer;
        s->has_answerer = true;
        s->phase = "answering";
        sample(&s->rates, (double)e->answerer->requests, (double)e->answerer->samples);
    }
    s->version++;
    pthread_mutex_unlock(&s->mutex);
}

void live_state_end(live_state *s, bool good)
{
    pthread_mutex_lock(&s->mutex);
    s->phase = good ? "finished" : "failed";
    s->version++;
    pthread_mutex_unlock(&s->mutex);
}

/* ---- JSON ---- */

static json_t *client_json(const cw_client_status *c, size_t i)
{
    static const char *const states[] = {"vacant", "joining", "ready", "active"};
    return json_pack("{s:I,s:s,s:s,s:s,s:I,s:I,s:o,s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:I}", "client", (json_int_t)i + 1,
                     "state", states[c->state], "address", c->origin.address, "key", c->origin.key, "samples",
                     (json_int_t)c->samples, "steps", (json_int_t)c->steps, "loss", cli_json_number(c->loss), "lag",
                     cli_json_number(c->lag), "owes_for", cli_json_number(c->owes_for), "uplink_bytes",
                     (json_int_t)c->uplink_bytes, "downlink_bytes", (json_int_t)c->downlink_bytes, "joined",
                     (json_int_t)c->joined, "resumed", (json_int_t)c->resumed, "lost", (json_int_t)c->lost, "flagged",
                     (json_int_t)c->flagged);
}

static json_t *clients_json(const live_state *s)
{
    enum { MOST = 256 }; /* a page of more helps nobody; metrics have them all */
    json_t *list = json_array();
    for (size_t i = 0; i < s->server.count && i < MOST; i++)
        json_array_append_new(list, client_json(&s->server.clients[i], i));
    return list;
}

static json_t *rates_json(const live_rates *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->count; i++) {
        const size_t at = (r->first + i) % LIVE_RATES;
        json_array_append_new(list, json_pack("[f,f,f]", r->clock[at], r->a[at], r->b[at]));
    }
    return list;
}

static json_t *notes_json(const live_state *s)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    json_t *list = json_array();
    for (size_t i = 0; i < s->note_count; i++) {
        const live_note *n = &s->notes[(s->first_note + i) % LIVE_LOG];
        json_array_append_new(list, json_pack("{s:s,s:s,s:o}", "time", n->time, "level",
                                              levels[n->level - CW_LOG_DEBUG], "text", cli_json_text(n->text)));
    }
    return list;
}

static void add_server(json_t *live, const live_state *s)
{
    const cw_server_status *v = &s->server;
    json_object_set_new(live, "uplink", traffic_json(&v->up));
    json_object_set_new(live, "downlink", traffic_json(&v->down));
    json_t *time = json_pack("{s:I,s:f,s:f}", "steps", (json_int_t)v->steps, "seconds", v->step_seconds,
                             "server_seconds", v->server_seconds);
    if (v->client_seconds >= 0)
        json_object_set_new(time, "client_seconds", json_real(v->client_seconds));
    json_object_set_new(live, "step_time", time);
    json_object_set_new(live, "link", rates_json(&s->rates));
    json_object_set_new(live, "clients", clients_json(s));
    json_object_set_new(live, "client_count", json_integer((json_int_t)v->count));
    const char *screen = json_string_value(json_object_get(s->about, "screen"));
    json_object_set_new(live, "screening", json_boolean(screen && strcmp(screen, "off") != 0));
    json_object_set_new(live, "refused", json_integer((json_int_t)v->refused));
}

static void add_answerer(json_t *live, const live_state *s)
{
    const cw_answerer_stats *a = &s->answerer;
    json_t *answers =
        json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:f,s:f,s:I,s:I}", "requests", (json_int_t)a->requests, "samples",
                  (json_int_t)a->samples, "batches", (json_int_t)a->batches, "refused", (json_int_t)a->refused,
                  "clients", (json_int_t)a->clients, "clients_now", (json_int_t)a->clients_now, "p50", a->p50, "p95",
                  a->p95, "p99", a->p99, "slowest", a->slowest, "uplink_bytes", (json_int_t)a->net.bytes_received,
                  "downlink_bytes", (json_int_t)a->net.bytes_sent);
    json_object_set_new(live, "answers", answers);
    json_object_set_new(live, "rates", rates_json(&s->rates));
}

static json_t *live_json(const live_state *s)
{
    json_t *live = json_pack("{s:i,s:i,s:I,s:I,s:o}", "epoch", s->epoch, "epochs", s->epoch_count, "step",
                             (json_int_t)s->step, "steps", (json_int_t)s->steps, "log", notes_json(s));
    json_object_set_new(live, "loss", s->has_loss ? cli_json_number(s->loss) : json_null());
    if (s->has_server)
        add_server(live, s);
    if (s->has_answerer)
        add_answerer(live, s);
    return live;
}

static json_t *run_json(const live_state *s)
{
    json_t *losses = json_array();
    for (size_t i = 0; i < s->losses.count; i++)
        json_array_append_new(losses, json_pack("[f,o]", s->losses.x[i], cli_json_number(s->losses.y[i])));
    return json_pack("{s:o,s:O,s:o,s:o}", "name", cli_json_text(s->name), "config", s->about, "epochs",
                     json_copy(s->epochs), "losses", losses);
}

char *live_state_json(live_state *s)
{
    pthread_mutex_lock(&s->mutex);
    json_t *all = json_pack("{s:s,s:s,s:s,s:f,s:[o],s:o}", "version", cw_version(), "role", s->role, "phase", s->phase,
                            "seconds", live_clock() - s->began, "runs", run_json(s), "live", live_json(s));
    char *text = all ? json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(7)) : NULL;
    json_decref(all);
    pthread_mutex_unlock(&s->mutex);
    return text;
}
