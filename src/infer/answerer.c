/* answerer.c - the server's side of inference: requests of many clients, answered in batches.
 *
 * The session (session.h) knows who is there; this is its work. REQUESTs wait in a queue (queue.h). A batch of them
 * runs the layers after the cut once, and answers each. What is wrong with a request harms its sender alone. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "infer/fingerprint.h"
#include "infer/greeting.h"
#include "infer/latency.h"
#include "infer/network.h"
#include "infer/queue.h"
#include "net/transport.h"
#include "record/report.h"
#include "session/session.h"
#include "wire/short_frame.h"

/* What is kept of a member's conversation. */
typedef struct talk {
    size_t on_their_way; /* its requests in the queue */
    cwi_short_memory requests, answers;
    bool knows_short; /* it has sent a short frame, and so takes them */
} talk;

struct cw_answerer {
    cw_answerer_options options;
    cwi_session session;
    cwi_greeting greeting;
    uint8_t *welcome;
    cw_half *tail;
    cwi_queue queue;
    cwi_request *batch; /* out of the queue */
    talk *talks;        /* of each member */
    float *y;           /* of one batch */
    uint8_t *answer;    /* one ANSWER, and room for its blob elsewhere */
    size_t answer_room;
    uint8_t short_answer[CWI_SHORT_MAX];
    size_t *order; /* of one sample's outputs */
    cw_answerer_stats stats;
    cwi_latency latency;
    double told;   /* clock of the last STATUS event */
    double looked; /* and of the last look for connections that are gone */
};

/* ---- telling ---- */

static void log_notice(void *run, const cwi_notice *n)
{
    const cw_event event = {.text = n->text, .name = n->name, .level = n->warning ? CW_LOG_WARN : CW_LOG_INFO};
    cwi_hooks_notice(((cw_answerer *)run)->options.hooks, &event, n->member == SIZE_MAX ? -1 : (int)n->member,
                     n->about.address, n->about.key);
}

/* Ticks come with each batch; five times a second it is told. */
static void tell_status(void *run)
{
    static const double often = 0.2;
    cw_answerer *a = run;
    const cw_hooks *hooks = a->options.hooks;
    const double now = cwi_seconds();
    if (!hooks || !hooks->event || now - a->told < often)
        return;
    a->told = now;
    const cw_answerer_stats stats = cw_answerer_get_stats(a);
    const cw_event event = {.kind = CW_EVENT_STATUS, .answerer = &stats};
    hooks->event(hooks->ctx, &event);
}

cw_answerer_stats cw_answerer_get_stats(const cw_answerer *a)
{
    cw_answerer_stats stats = a->stats;
    stats.clients_now =
        cwi_session_count(&a->session, CWI_MEMBER_READY) + cwi_session_count(&a->session, CWI_MEMBER_ACTIVE);
    stats.p50 = cwi_latency_percentile(&a->latency, 0.5);
    stats.p95 = cwi_latency_percentile(&a->latency, 0.95);
    stats.p99 = cwi_latency_percentile(&a->latency, 0.99);
    stats.slowest = a->latency.slowest;
    stats.seconds = a->latency.sum;
    stats.net = cw_transport_stats(a->session.box.transport);
    return stats;
}

/* ---- requests come in ---- */

static void refuse_request(cw_answerer *a, size_t member, uint32_t request, cw_status status, const char *why)
{
    cw_msg msg = cwi_session_message(&a->session, member, CW_MSG_REFUSAL);
    msg.request = request;
    msg.status = status;
    msg.blob = (const uint8_t *)why;
    msg.blob_size = strlen(why);
    a->stats.refused++;
    cwi_session_send(&a->session, member, &msg);
}

static cw_status check_request(const cw_answerer *a, size_t member, const cw_msg *msg, cw_error *err)
{
    if (msg->type != CW_MSG_REQUEST)
        return cwi_fail(err, CW_ERR_PROTOCOL, "it sent %s to a server that answers requests", cw_msg_name(msg->type));
    if (msg->samples > a->greeting.max_samples)
        return cwi_fail(err, CW_ERR_PROTOCOL, "it sent a request of %llu samples, at most %zu are taken",
                        (unsigned long long)msg->samples, a->greeting.max_samples);
    if (msg->top > a->greeting.outputs)
        return cwi_fail(err, CW_ERR_PROTOCOL, "it asked for the %u likeliest of %zu classes", msg->top,
                        a->greeting.outputs);
    if (a->talks[member].on_their_way >= a->greeting.credit)
        return cwi_fail(err, CW_ERR_PROTOCOL, "it sent more than %zu requests at once", a->greeting.credit);
    return CW_OK;
}

static cw_status take(void *run, size_t member, const cw_msg *msg, cw_frame *frame, cw_error *err)
{
    cw_answerer *a = run;
    const cwi_request r = {.member = member,
                           .number = msg->request,
                           .top = msg->top,
                           .n = (size_t)msg->samples,
                           .payload = msg->blob,
                           .payload_size = msg->blob_size,
                           .arrived = cwi_seconds()};
    CWI_TRY(check_request(a, member, msg, err));
    CWI_TRY(cwi_queue_check(&a->queue, &r, err));
    if (a->queue.samples + r.n > a->options.max_queue) {
        char why[100];
        snprintf(why, sizeof why, "the server is full: %zu samples wait already: ask again later", a->queue.samples);
        refuse_request(a, member, msg->request, CW_ERR_CLOSED, why);
        return CW_OK;
    }
    CWI_TRY(cwi_queue_put(&a->queue, r, frame, err));
    a->talks[member].on_their_way++;
    return CW_OK;
}

/* ---- members ---- */

static cw_status admit(void *run, size_t member, const cw_msg *ready, cw_error *err)
{
    cw_answerer *a = run;
    (void)ready, (void)err;
    a->talks[member] = (talk){0};
    a->stats.clients++;
    return CW_OK;
}

static cw_status advance(void *run, cw_error *err)
{
    (void)err;
    cwi_session_activate(&((cw_answerer *)run)->session);
    return CW_OK;
}

static cw_status begin(void *run, cw_error *err)
{
    (void)run, (void)err;
    return CW_OK;
}

static void lost(void *run, size_t member)
{
    cw_answerer *a = run;
    cwi_queue_forget(&a->queue, member);
    a->talks[member] = (talk){0};
}

/* A word now and then, if only that it is there: else places would stay taken by clients that are gone. */
static bool owes(const void *run, size_t member)
{
    (void)run, (void)member;
    return true;
}

/* A client that is killed says nothing more; its connection ends with it. One that mends in time goes on. */
static void lose_those_gone(cw_answerer *a)
{
    static const double gone = 1, every = 0.2; /* seconds */
    const double now = cwi_seconds();
    if (now - a->looked < every)
        return;
    a->looked = now;
    for (size_t i = 0; i < a->session.options.members; i++) {
        const cwi_member *m = &a->session.members[i];
        cwi_link_state link;
        if (m->state != CWI_MEMBER_VACANT && cwi_transport_link(a->session.box.transport, m->peer, &link) &&
            link.broken && now - link.since > gone)
            cwi_session_lose(&a->session, i, CW_ERR_CLOSED, "its connection is gone");
    }
}

static bool finished(const void *run)
{
    (void)run;
    return false;
}

static const cwi_work work = {.admit = admit,
                              .take = take,
                              .advance = advance,
                              .begin = begin,
                              .lost = lost,
                              .owes = owes,
                              .finished = finished,
                              .log = log_notice,
                              .time_passed = tell_status};

/* ---- answers go out ---- */

/* Indices of the k largest outputs come first in a->order. */
static void find_top(cw_answerer *a, const float *y, size_t k)
{
    const size_t n = a->greeting.outputs;
    for (size_t i = 0; i < n; i++)
        a->order[i] = i;
    for (size_t i = 0; i < k; i++) {
        size_t best = i;
        for (size_t j = i + 1; j < n; j++)
            if (y[a->order[j]] > y[a->order[best]] ||
                (y[a->order[j]] == y[a->order[best]] && a->order[j] < a->order[best]))
                best = j;
        const size_t swap = a->order[i];
        a->order[i] = a->order[best];
        a->order[best] = swap;
    }
}

static void put_top(cw_answerer *a, const float *y, size_t k, uint8_t *out)
{
    double sum = 0;
    find_top(a, y, k);
    const double peak = (double)y[a->order[0]];
    for (size_t i = 0; i < a->greeting.outputs; i++)
        sum += exp((double)y[i] - peak);
    for (size_t i = 0; i < k; i++, out += 8) {
        const float probability = (float)(exp((double)y[a->order[i]] - peak) / sum);
        cwi_put_le(out, a->order[i], 4);
        memcpy(out + 4, &probability, 4);
    }
}

/* An ANSWER's frame, or its short form where the client takes it. */
static void send_frame(cw_answerer *a, size_t member, const cw_msg *msg)
{
    size_t size, less;
    cw_error err;
    talk *t = &a->talks[member];
    const cw_status status = cw_msg_encode(msg, a->answer, a->answer_room, &size, &err);
    if (status != CW_OK) {
        cwi_session_lose(&a->session, member, status, err.message);
        return;
    }
    less = t->knows_short ? cwi_short_write(&t->answers, CW_MSG_ANSWER, a->answer, size, a->short_answer) : 0;
    cwi_short_note(&t->answers, CW_MSG_ANSWER, a->answer, size);
    cwi_session_send_frame(&a->session, member, less ? a->short_answer : a->answer, less ? less : size);
}

static void send_answer(cw_answerer *a, const cwi_request *r, const float *y)
{
    const size_t outputs = a->greeting.outputs;
    cw_msg msg = cwi_session_message(&a->session, r->member, CW_MSG_ANSWER);
    msg.request = r->number;
    msg.samples = r->n;
    msg.top = r->top;
    uint8_t *const blob = a->answer + cw_msg_head_size(&msg);
    msg.blob = r->top ? blob : (const uint8_t *)y;
    msg.blob_size = r->n * (r->top ? (size_t)r->top * 8 : outputs * sizeof(float));
    for (size_t i = 0; r->top && i < r->n; i++)
        put_top(a, y + i * outputs, r->top, blob + i * r->top * 8);
    send_frame(a, r->member, &msg);
    a->stats.requests++;
    a->stats.samples += r->n;
    cwi_latency_count(&a->latency, cwi_seconds() - r->arrived);
}

static void answer_one(cw_answerer *a, const cwi_request *r, const float *y)
{
    if (!cwi_session_is_active(&a->session, r->member))
        return;
    if (isinf(cwi_peak(y, r->n * a->greeting.outputs)))
        refuse_request(a, r->member, r->number, CW_ERR_NONFINITE,
                       "the network's output for this request is not finite: look at the input");
    else
        send_answer(a, r, y);
}

static cw_status forward(cw_answerer *a, size_t n, const float *x, float *y, cw_error *err)
{
    const cw_half_call call = {.mode = CW_EVAL, .n = n};
    return cw_half_forward(a->tail, &call, x, y, err);
}

/* One by one, where the batch as a whole did not go through: one of them spoils it. */
static void answer_each(cw_answerer *a, const float *x, const cwi_request *batch, size_t count)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        cw_error err = {0};
        float *y = a->y + at * a->greeting.outputs;
        const cw_status status = forward(a, batch[i].n, x + at * a->queue.each, y, &err);
        if (status == CW_OK)
            answer_one(a, &batch[i], y);
        else if (cwi_session_is_active(&a->session, batch[i].member))
            refuse_request(a, batch[i].member, batch[i].number, status == CW_ERR_DIVERGED ? CW_ERR_NONFINITE : status,
                           err.message);
        at += batch[i].n;
    }
}

static void answer_batch(cw_answerer *a, const float *x, const cwi_request *batch, size_t count, size_t n)
{
    cw_error err;
    size_t at = 0;
    a->stats.batches++;
    if (forward(a, n, x, a->y, &err) != CW_OK) {
        answer_each(a, x, batch, count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        answer_one(a, &batch[i], a->y + at * a->greeting.outputs);
        at += batch[i].n;
    }
}

/* Who sent what cannot be decoded is out, and so is the request. */
static void decode_more(cw_answerer *a)
{
    size_t bad;
    cw_error err;
    cw_status status;
    while ((status = cwi_queue_decode(&a->queue, &bad, &err)) != CW_OK)
        cwi_session_lose(&a->session, bad, status, err.message);
}

static void work_on_batch(cw_answerer *a)
{
    size_t n;
    decode_more(a);
    const size_t count = cwi_queue_choose(&a->queue, &n);
    if (!count)
        return;
    const float *x = cwi_queue_take(&a->queue, count, n, a->batch);
    for (size_t i = 0; i < count; i++)
        a->talks[a->batch[i].member].on_their_way--;
    answer_batch(a, x, a->batch, count, n);
}

/* ---- driven by events ---- */

/* A client that comes back by another connection takes over its own place. */
static void take_over(cw_answerer *a, const cw_frame *frame)
{
    cw_msg msg;
    if (cw_msg_decode(frame->bytes, frame->size, &msg, NULL) != CW_OK || msg.type != CW_MSG_HELLO || !msg.token)
        return;
    for (size_t i = 0; i < a->session.options.members; i++) {
        const cwi_member *m = &a->session.members[i];
        if (m->state != CWI_MEMBER_VACANT && m->token == msg.token && m->peer != frame->peer)
            cwi_session_lose(&a->session, i, CW_ERR_CLOSED, "it came back by another connection");
    }
}

/* Makes a short frame whole, and remembers what the next one may leave out. */
static cw_status unfold(cw_answerer *a, size_t member, cw_frame *frame, cw_error *err)
{
    talk *t = &a->talks[member];
    uint8_t *whole;
    size_t size;
    if (cwi_short_is(frame->bytes, frame->size)) {
        CWI_TRY(cwi_short_read(&t->requests, CW_MSG_REQUEST, frame->bytes, frame->size, &whole, &size, err));
        const cw_peer peer = frame->peer;
        cw_frame_release(frame);
        *frame = (cw_frame){.peer = peer, .bytes = whole, .size = size, .owner = whole};
        t->knows_short = true;
    }
    cwi_short_note(&t->requests, CW_MSG_REQUEST, frame->bytes, frame->size);
    return CW_OK;
}

cw_status cw_answerer_handle(cw_answerer *a, cw_frame *frame, cw_error *err)
{
    bool known = false;
    cw_error wrong;
    for (size_t i = 0; i < a->session.options.members; i++) {
        if (a->session.members[i].state == CWI_MEMBER_VACANT || a->session.members[i].peer != frame->peer)
            continue;
        known = true;
        if (a->session.members[i].state == CWI_MEMBER_ACTIVE)
            cwi_session_owes_from_now(&a->session, i);
        const cw_status status = unfold(a, i, frame, &wrong);
        if (status == CW_OK)
            continue;
        cwi_session_lose(&a->session, i, status, wrong.message);
        cw_frame_release(frame);
        return CW_OK;
    }
    if (!known)
        take_over(a, frame);
    return cwi_session_handle(&a->session, frame, err);
}

bool cw_answerer_is_full(const cw_answerer *a)
{
    return a->queue.samples >= a->options.max_batch;
}

cw_status cw_answerer_tick(cw_answerer *a, double *next, cw_error *err)
{
    static const double idle = 0.2;
    const double wait = a->options.max_wait;
    const cwi_queue *q = &a->queue;
    lose_those_gone(a);
    CWI_TRY(cwi_session_tick(&a->session, err));
    if (q->count && (cw_answerer_is_full(a) || cwi_seconds() - q->requests[0].arrived >= wait))
        work_on_batch(a);
    if (next)
        *next = q->count ? CWI_MIN(CWI_MAX(q->requests[0].arrived + wait - cwi_seconds(), 0), idle) : idle;
    return CW_OK;
}

void cw_answerer_finish(cw_answerer *a, const char *words)
{
    cwi_session_end(&a->session, CW_OK, words);
}

/* All frames that are there, or as many as make a batch full. */
static cw_status receive(cw_answerer *a, double wait, cw_error *err)
{
    cw_transport *t = a->session.box.transport;
    int timeout = (int)ceil(wait * 1000);
    for (;;) {
        cw_frame frame;
        const cw_status status = cw_transport_recv(t, timeout, &frame, err);
        if (status == CW_ERR_TIMEOUT || status == CW_ERR_CANCELLED)
            return CW_OK;
        CWI_TRY(status);
        CWI_TRY(cw_answerer_handle(a, &frame, err));
        if (cw_answerer_is_full(a))
            return CW_OK;
        timeout = 0;
    }
}

cw_status cw_answer_clients(cw_answerer *a, volatile sig_atomic_t *stop, cw_error *err)
{
    double next = 0;
    cw_status status = CW_OK;
    while (status == CW_OK && !(stop && *stop)) {
        status = receive(a, next, err);
        if (status == CW_OK)
            status = cw_answerer_tick(a, &next, err);
    }
    cw_answerer_finish(a, "the server was stopped");
    return status;
}

/* ---- life ---- */

static void fill_defaults(cw_answerer_options *o)
{
    o->max_batch = o->max_batch ? o->max_batch : 64;
    o->max_clients = o->max_clients ? o->max_clients : 64;
    o->credit = o->credit ? o->credit : 8;
    o->max_queue = CWI_MAX(o->max_queue ? o->max_queue : 16 * o->max_batch, o->max_batch);
    o->timeout = o->timeout > 0 ? o->timeout : 60;
}

static cw_status check_options(const cw_answerer_options *o, cw_error *err)
{
    if (!o->network && !o->tail)
        return cwi_fail(err, CW_ERR_INVALID, "answerer: neither a network nor a tail");
    if (o->max_batch > CWI_REQUEST_MAX || o->max_clients > 65536 || o->credit > CWI_CREDIT_MAX)
        return cwi_fail(err, CW_ERR_INVALID,
                        "answerer: at most %d samples a batch, 65536 clients and a credit of %d are possible",
                        CWI_REQUEST_MAX, CWI_CREDIT_MAX);
    return CW_OK;
}

static cw_status greet_by_network(cw_answerer *a, cw_error *err)
{
    const cw_network_info *info = &a->options.network->info;
    cwi_greeting *g = &a->greeting;
    snprintf(g->model, sizeof g->model, "%s", info->model);
    snprintf(g->uplink, sizeof g->uplink, "%s", info->uplink);
    g->cut = info->cut;
    g->head_print = info->head_print;
    g->tail_print = info->tail_print;
    return info->class_names ? cwi_classes_copy(info->class_names, (size_t)info->classes, &g->classes, err) : CW_OK;
}

/* A proposal that no client could take is this server's mistake. */
static cw_status check_uplink(const char *spec, cw_error *err)
{
    cw_codec *codec;
    cw_status status = cw_codec_create(spec, &codec, err);
    if (status == CW_OK && strlen(spec) >= sizeof((cwi_greeting *)0)->uplink)
        status = cwi_fail(err, CW_ERR_SPEC, "too long");
    cw_codec_destroy(&codec);
    return status == CW_OK ? CW_OK : cwi_fail_prefix(err, status, "uplink");
}

static cw_status greet_by_options(cw_answerer *a, cw_error *err)
{
    const cw_answerer_options *o = &a->options;
    cwi_greeting *g = &a->greeting;
    if (o->uplink)
        CWI_TRY(check_uplink(o->uplink, err));
    snprintf(g->model, sizeof g->model, "%s", o->model ? o->model : "own");
    snprintf(g->uplink, sizeof g->uplink, "%s", o->uplink ? o->uplink : "ec:err=0.1");
    g->cut = o->cut;
    g->head_print = o->head_print;
    g->tail_print = o->tail_print;
    if (!o->tail_print)
        CWI_TRY(cwi_half_print(o->tail, &g->tail_print, err));
    return o->class_names ? cwi_classes_copy(o->class_names, g->outputs, &g->classes, err) : CW_OK;
}

static cw_status copy_profile(cw_answerer *a, cw_error *err)
{
    const cw_answerer_options *o = &a->options;
    const cw_profile *profile = o->profile ? o->profile : o->network ? o->network->info.profile : NULL;
    size_t size;
    const void *bytes = profile ? cw_profile_bytes(profile, &size) : NULL;
    return bytes ? cw_profile_create(bytes, size, &a->greeting.profile, err) : CW_OK;
}

static cw_status prepare_greeting(cw_answerer *a, cw_error *err)
{
    cwi_greeting *g = &a->greeting;
    const cw_shape out = cw_half_out_shape(a->tail);
    g->smashed = cw_half_in_shape(a->tail);
    g->credit = a->options.credit;
    g->max_samples = a->options.max_batch;
    g->takes_short = true;
    CWI_TRY(cw_shape_count(&out, &g->outputs));
    if (g->smashed.ndim < 1 || g->outputs > CWI_OUTPUTS_MAX)
        return cwi_fail(err, CW_ERR_MISMATCH,
                        "answerer: a tail with an input of one shape, and at most %d outputs, is due", CWI_OUTPUTS_MAX);
    CWI_TRY(copy_profile(a, err));
    return a->options.network ? greet_by_network(a, err) : greet_by_options(a, err);
}

static cw_status allocate(cw_answerer *a, cw_error *err)
{
    const cw_answerer_options *o = &a->options;
    const size_t outputs = a->greeting.outputs;
    const size_t room = CWI_MIN(o->max_clients * o->credit, o->max_queue);
    CWI_TRY(cwi_queue_open(&a->queue, &a->greeting.smashed, a->greeting.profile, o->max_batch, room, err));
    a->batch = cwi_alloc(room, sizeof *a->batch);
    a->talks = cwi_calloc(o->max_clients, sizeof *a->talks);
    a->y = cwi_alloc(o->max_batch * outputs, sizeof(float));
    const cw_msg answer = {.type = CW_MSG_ANSWER};
    a->answer_room = cw_msg_head_size(&answer) + o->max_batch * outputs * 8;
    a->answer = cwi_alloc(a->answer_room, 1);
    a->order = cwi_alloc(outputs, sizeof *a->order);
    return a->batch && a->talks && a->y && a->answer && a->order
               ? CW_OK
               : cwi_fail_memory(err, o->max_batch * 3 * outputs * sizeof(float));
}

static cw_status open_session(cw_answerer *a, cw_transport *transport, cw_error *err)
{
    size_t size;
    CWI_TRY(cwi_greeting_write(&a->greeting, &a->welcome, &size, err));
    const cwi_session_options options = {.members = a->options.max_clients,
                                         .timeout = a->options.timeout,
                                         .join_timeout = INFINITY,
                                         .grace = a->options.timeout,
                                         .welcome = a->welcome,
                                         .welcome_size = size,
                                         .fingerprint = cwi_greeting_fingerprint(&a->greeting)};
    /* A client that reads nothing: all that its credit can make, and small frames beside. */
    const size_t largest = CWI_MAX(a->options.max_batch * a->greeting.outputs * 8, size);
    cwi_transport_limit_queue(transport, (uint64_t)(a->options.credit + 1) * largest + (1 << 20));
    return cwi_session_open(&a->session, &options, &work, a, transport, err);
}

static cw_status open_answerer(cw_answerer *a, const cw_answerer_options *options, cw_transport *transport,
                               cw_error *err)
{
    a->options = *options;
    fill_defaults(&a->options);
    CWI_TRY(check_options(&a->options, err));
    if (transport->capacity && transport->capacity < a->options.max_clients)
        return cwi_fail(err, CW_ERR_INVALID,
                        "%zu clients do not fit: the limit of open files leaves room for %zu: raise it (ulimit -n)",
                        a->options.max_clients, transport->capacity);
    a->tail = a->options.tail;
    if (!a->tail)
        CWI_TRY(cw_network_tail(a->options.network, &a->tail, err));
    if (!options->tail && options->network->max_batch < a->options.max_batch)
        return cwi_fail(err, CW_ERR_INVALID, "answerer: the network was opened for batches of %zu, not %zu",
                        options->network->max_batch, a->options.max_batch);
    CWI_TRY(prepare_greeting(a, err));
    CWI_TRY(allocate(a, err));
    return open_session(a, transport, err);
}

cw_status cw_answerer_create(const cw_answerer_options *options, cw_transport *transport, cw_answerer **out,
                             cw_error *err)
{
    if (out)
        *out = NULL;
    if (!options || !transport || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_answerer_create: a NULL argument");
    cw_answerer *a = cwi_calloc(1, sizeof *a);
    if (!a)
        return cwi_fail_memory(err, sizeof *a);
    const cw_status status = open_answerer(a, options, transport, err);
    if (status != CW_OK)
        cw_answerer_destroy(&a);
    *out = a;
    return status;
}

void cw_answerer_destroy(cw_answerer **answerer)
{
    cw_answerer *a = answerer ? *answerer : NULL;
    if (!a)
        return;
    cwi_session_close(&a->session);
    cwi_queue_close(&a->queue);
    cwi_greeting_free(&a->greeting);
    void *const blocks[] = {a->batch, a->talks, a->y, a->answer, a->order, a->welcome};
    for (size_t i = 0; i < CWI_COUNT(blocks); i++)
        cwi_free(blocks[i]);
    cwi_free(a);
    *answerer = NULL;
}
