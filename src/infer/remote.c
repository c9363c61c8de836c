/* remote.c - the client's side of inference: the head here, the tail at a server.
 *
 * A request is kept as its frame until its answer is here. When the server is gone or does not know this client any
 * more, a new connection is made, and every request without an answer is sent again by it; what the old one brings then
 * is never read. So a request has one answer, or none by its deadline.
 *
 * Nothing happens outside the caller's calls: each of them waits in exchange(), which takes frames in. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "infer/fingerprint.h"
#include "infer/greeting.h"
#include "session/guest.h"
#include "wire/short_frame.h"

/* Connections that may break without an answer between them: what makes a server drop us again and again is ours. */
enum { STRIKES = 3 };

static const double wake = 0.1;        /* seconds between looks at the clock */
static const double look_every = 0.01; /* seconds between looks for answers while requests are submitted */
static const double ping_every = 1.0;  /* while requests are on their way: a server that came back is noticed by it */

typedef enum request_state { REQUEST_OPEN, REQUEST_ANSWERED, REQUEST_FAILED } request_state;

typedef struct request {
    uint64_t ticket;
    request_state state;
    bool sent;        /* by this connection */
    bool asked_twice; /* half of its time had passed */
    size_t n;
    uint8_t *frame; /* capacity bytes: the head, and the payload behind it */
    size_t capacity, payload;
    uint8_t *answer;
    double began, seconds;
    cw_status status; /* of a failed one */
    char why[400];
} request;

struct cw_remote {
    cw_remote_options options;
    char *endpoint, *uplink;
    cw_transport *transport; /* NULL: none at the moment */
    cwi_guest guest;
    cwi_greeting greeting; /* of the first server; later ones must be like it */
    bool greeted;
    cw_remote_info info;
    cw_codec *codec;
    size_t each; /* floats of one sample at the cut */
    float *z;    /* room for max_samples of them, when there is a head */
    request **requests;
    size_t count, room;
    uint64_t next_ticket;
    uint8_t *last_answer; /* that the caller has */
    uint64_t token;
    int strikes;
    cwi_short_memory asked, answered; /* of this connection */
    bool takes_short;                 /* its server */
    uint8_t short_request[CWI_SHORT_MAX];
    double looked;    /* clock of the last exchange */
    bool took;        /* a frame, in the last exchange */
    cw_status broken; /* nothing will come of it any more, and why */
    cw_error why;
    cw_remote_stats stats;
};

/* ---- requests ---- */

static void request_free(request *q)
{
    cwi_free(q->frame);
    cwi_free(q->answer);
    cwi_free(q);
}

static size_t find_request(const cw_remote *r, uint64_t ticket)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->requests[i]->ticket == ticket)
            return i;
    return SIZE_MAX;
}

static size_t count_open(const cw_remote *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->count; i++)
        n += r->requests[i]->state == REQUEST_OPEN;
    return n;
}

static void remove_request(cw_remote *r, size_t i)
{
    request_free(r->requests[i]);
    memmove(r->requests + i, r->requests + i + 1, (r->count - i - 1) * sizeof *r->requests);
    r->count--;
}

static cw_status add_request(cw_remote *r, request *q, cw_error *err)
{
    if (r->count == r->room) {
        const size_t room = 2 * r->room + 8;
        request **more = cwi_realloc(r->requests, r->room * sizeof *more, room * sizeof *more);
        if (!more)
            return cwi_fail_memory(err, room * sizeof *more);
        r->requests = more;
        r->room = room;
    }
    r->requests[r->count++] = q;
    return CW_OK;
}

static cw_msg request_message(const cw_remote *r, const request *q)
{
    cw_msg msg = cwi_guest_message(&r->guest, CW_MSG_REQUEST);
    msg.request = (uint32_t)q->ticket;
    msg.samples = q->n;
    msg.top = (uint32_t)r->options.top;
    return msg;
}

static cw_status send_request(cw_remote *r, request *q, cw_error *err)
{
    size_t size;
    cw_msg msg = request_message(r, q);
    msg.blob = q->frame + cw_msg_head_size(&msg);
    msg.blob_size = q->payload;
    CWI_TRY(cw_msg_encode(&msg, q->frame, q->capacity, &size, err));
    r->guest.said = cwi_seconds();
    q->sent = true;
    const size_t less =
        r->takes_short ? cwi_short_write(&r->asked, CW_MSG_REQUEST, q->frame, size, r->short_request) : 0;
    cwi_short_note(&r->asked, CW_MSG_REQUEST, q->frame, size);
    return cw_transport_send(r->transport, 0, less ? r->short_request : q->frame, less ? less : size, err);
}

/* In the order in which they were submitted. */
static cw_status send_all_open(cw_remote *r, cw_error *err)
{
    for (size_t i = 0; i < r->count; i++) {
        request *q = r->requests[i];
        if (q->state != REQUEST_OPEN || q->sent)
            continue;
        r->stats.repeated++;
        CWI_TRY(send_request(r, q, err));
    }
    return CW_OK;
}

/* ---- what the server says ---- */

static cw_status check_model(const cw_remote *r, const cwi_greeting *g, cw_error *err)
{
    const cw_remote_options *o = &r->options;
    char there[200], here[200];
    const bool other_head = o->head_print && g->head_print && o->head_print != g->head_print;
    const bool other_tail = o->tail_print && g->tail_print && o->tail_print != g->tail_print;
    if (!(o->model && strcmp(o->model, g->model) != 0) && !(o->cut && o->cut != g->cut) && !other_head && !other_tail)
        return CW_OK;
    cwi_model_words(g->model, g->cut, g->head_print, g->tail_print, there, sizeof there);
    cwi_model_words(o->model ? o->model : "", o->cut, o->head_print, o->tail_print, here, sizeof here);
    return cwi_fail(err, CW_ERR_MISMATCH, "the server has %s, this client %s: both need the same run and cut", there,
                    here);
}

static cw_status check_shape(const cw_remote *r, const cwi_greeting *g, cw_error *err)
{
    char here[80], there[80];
    const cw_shape out = r->options.head ? cw_half_out_shape(r->options.head) : g->smashed;
    if (!cw_shape_equal(&out, &g->smashed))
        return cwi_fail(err, CW_ERR_MISMATCH, "the head gives %s a sample, the server takes %s",
                        cw_shape_format(&out, here, sizeof here), cw_shape_format(&g->smashed, there, sizeof there));
    if (r->options.top > g->outputs)
        return cwi_fail(err, CW_ERR_INVALID, "the %zu likeliest classes are asked for, the server has %zu",
                        r->options.top, g->outputs);
    return CW_OK;
}

static cw_status keep_greeting(cw_remote *r, const cwi_greeting *g, cw_error *err)
{
    r->greeting = *g; /* the caller's is empty from here on */
    const char *spec = r->uplink ? r->uplink : r->greeting.uplink;
    cw_status status = cw_codec_create(spec, &r->codec, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "uplink");
    CWI_TRY(cw_shape_count(&g->smashed, &r->each));
    r->info = (cw_remote_info){.model = r->greeting.model,
                               .cut = g->cut,
                               .smashed = g->smashed,
                               .outputs = g->outputs,
                               .class_names = g->classes.count ? (const char *const *)g->classes.names : NULL,
                               .uplink = spec,
                               .credit = g->credit,
                               .max_samples = g->max_samples};
    r->greeted = true;
    return CW_OK;
}

static uint64_t profile_hash(const cwi_greeting *g)
{
    return g->profile ? cw_profile_hash(g->profile) : 0;
}

/* Requests under way were coded with the profile, too. */
static bool is_like(const cwi_greeting *a, const cwi_greeting *b)
{
    return profile_hash(a) == profile_hash(b) && cwi_greeting_fingerprint(a) == cwi_greeting_fingerprint(b) &&
           cw_shape_equal(&a->smashed, &b->smashed) && a->outputs == b->outputs && a->credit <= b->credit &&
           a->max_samples <= b->max_samples;
}

static cw_status take_greeting(cw_remote *r, cwi_greeting *g, cw_error *err)
{
    CWI_TRY(check_model(r, g, err));
    CWI_TRY(check_shape(r, g, err));
    if (r->greeted)
        return is_like(&r->greeting, g)
                   ? CW_OK
                   : cwi_fail(err, CW_ERR_MISMATCH,
                              "the server came back with another model or profile, or smaller limits");
    const cw_status status = keep_greeting(r, g, err);
    *g = (cwi_greeting){0}; /* it is the remote's now */
    return status;
}

static cw_status on_welcome(void *run, const cw_msg *welcome, cw_msg *ready, cw_error *err)
{
    cw_remote *r = run;
    cwi_greeting g;
    CWI_TRY(cwi_greeting_read(welcome->blob, welcome->blob_size, &g, err));
    ready->fingerprint = cwi_greeting_fingerprint(&g);
    r->takes_short = g.takes_short;
    const cw_status status = take_greeting(r, &g, err);
    cwi_greeting_free(&g);
    return status;
}

static cw_status check_outputs(const cw_remote *r, const cw_msg *msg, cw_error *err)
{
    const size_t floats = (size_t)msg->samples * (msg->top ? (size_t)msg->top * 2 : r->greeting.outputs);
    if (msg->blob_size != floats * sizeof(float))
        return cwi_fail(err, CW_ERR_PROTOCOL, "the server's answer has %zu bytes, %zu are due", msg->blob_size,
                        floats * sizeof(float));
    for (size_t i = 0; i < floats; i++) {
        float value;
        memcpy(&value, msg->blob + 4 * i, 4);
        const bool is_label = msg->top && i % 2 == 0;
        if (is_label ? cwi_get_le(msg->blob + 4 * i, 4) >= r->greeting.outputs : !isfinite(value))
            return cwi_fail(err, CW_ERR_PROTOCOL, "the server's answer holds no class or no number");
    }
    return CW_OK;
}

static cw_status take_answer(cw_remote *r, request *q, const cw_msg *msg, cw_error *err)
{
    if (msg->samples != q->n || msg->top != r->options.top)
        return cwi_fail(err, CW_ERR_PROTOCOL, "the server's answer is of %llu samples and top %u, not %zu and %zu",
                        (unsigned long long)msg->samples, msg->top, q->n, r->options.top);
    CWI_TRY(check_outputs(r, msg, err));
    q->answer = cwi_alloc(msg->blob_size, 1);
    if (!q->answer)
        return cwi_fail_memory(err, msg->blob_size);
    memcpy(q->answer, msg->blob, msg->blob_size);
    q->state = REQUEST_ANSWERED;
    q->seconds = cwi_seconds() - q->began;
    r->stats.answers++;
    r->strikes = 0;
    return CW_OK;
}

static void take_refusal(cw_remote *r, request *q, const cw_msg *msg)
{
    q->state = REQUEST_FAILED;
    q->status = msg->status;
    snprintf(q->why, sizeof q->why, "%.*s", (int)msg->blob_size, msg->blob ? (const char *)msg->blob : "");
    r->strikes = 0;
}

static cw_status on_message(void *run, const cw_msg *msg, cw_error *err)
{
    cw_remote *r = run;
    if (msg->type != CW_MSG_ANSWER && msg->type != CW_MSG_REFUSAL)
        return cwi_fail(err, CW_ERR_PROTOCOL, "the server sent %s where answers were due", cw_msg_name(msg->type));
    for (size_t i = 0; i < r->count; i++) {
        request *q = r->requests[i];
        if ((uint32_t)q->ticket != msg->request || q->state != REQUEST_OPEN)
            continue;
        if (msg->type == CW_MSG_ANSWER)
            return take_answer(r, q, msg, err);
        take_refusal(r, q, msg);
    }
    return CW_OK; /* nobody waits for it any more */
}

static const cwi_guest_work work = {.welcome = on_welcome, .take = on_message};

/* ---- connections ---- */

static void disconnect(cw_remote *r, int linger_ms)
{
    if (!r->transport)
        return;
    const cw_net_stats net = cw_transport_stats(r->transport);
    r->stats.bytes_sent += net.bytes_sent;
    r->stats.bytes_received += net.bytes_received;
    cwi_guest_close(&r->guest);
    cw_transport_close(&r->transport, linger_ms);
    r->asked = r->answered = (cwi_short_memory){.size = 0};
    for (size_t i = 0; i < r->count; i++)
        r->requests[i]->sent = false;
}

static cw_status connect_and_greet(cw_remote *r, cw_error *err)
{
    const cw_remote_options *o = &r->options;
    CWI_TRY(cw_net_connect(r->endpoint, o->net, &r->transport, err));
    cw_status status = cwi_guest_open(&r->guest, &work, r, r->transport, o->deadline / 3, o->join_timeout, err);
    if (status == CW_OK) {
        r->guest.token = r->token;
        r->stats.connections++;
        status = cwi_guest_start(&r->guest, err);
    }
    if (status != CW_OK)
        disconnect(r, 0);
    return status;
}

static cw_status give_up(cw_remote *r, cw_status status, const cw_error *err)
{
    disconnect(r, 200);
    r->broken = status;
    r->why = *err;
    return status;
}

/* The connection is of no use any more: another one, or an end. */
static cw_status on_broken(cw_remote *r, cw_status status, cw_error *err)
{
    const bool was_in = r->greeted && r->guest.state != CWI_GUEST_HELLO;
    const bool silent = r->greeted && status == CW_ERR_TIMEOUT; /* it may come back: requests have their deadlines */
    r->why = *err;
    if (!silent && (!was_in || ++r->strikes > STRIKES))
        return give_up(r, status, err);
    disconnect(r, 0);
    return CW_OK;
}

static void nap(double seconds)
{
    const struct timespec t = {.tv_nsec = (long)(seconds * 1e9)};
    nanosleep(&t, NULL);
}

/* Each request ends at its deadline, whether the server is back by then or not. */
static cw_status come_back(cw_remote *r, cw_error *err)
{
    if (connect_and_greet(r, err) != CW_OK) {
        r->why = *err;
        nap(wake / 2);
    }
    return CW_OK;
}

/* ---- the one place that waits ---- */

/* A short frame is made whole. */
static cw_status handle_frame(cw_remote *r, cw_frame *frame, cw_error *err)
{
    uint8_t *whole;
    size_t size;
    if (cwi_short_is(frame->bytes, frame->size)) {
        CWI_TRY(cwi_short_read(&r->answered, CW_MSG_ANSWER, frame->bytes, frame->size, &whole, &size, err));
        cw_frame_release(frame);
        *frame = (cw_frame){.bytes = whole, .size = size, .owner = whole};
    }
    cwi_short_note(&r->answered, CW_MSG_ANSWER, frame->bytes, frame->size);
    return cwi_guest_handle(&r->guest, frame, err);
}

static cw_status take_frame(cw_remote *r, double seconds, cw_error *err)
{
    cw_frame frame;
    cw_status status = cw_transport_recv(r->transport, (int)ceil(seconds * 1000), &frame, err);
    r->took = status == CW_OK;
    if (status == CW_OK) {
        status = handle_frame(r, &frame, err);
        cw_frame_release(&frame);
    } else if (status == CW_ERR_TIMEOUT || status == CW_ERR_CANCELLED) {
        status = cwi_guest_tick(&r->guest, err);
    }
    if (status == CW_OK && r->guest.state == CWI_GUEST_DONE)
        status = cwi_fail(err, CW_ERR_CLOSED, "the server has ended: %s", r->guest.last_words);
    return status;
}

/* Half of a request's time has gone: it may have been lost with a connection that ZeroMQ has mended. */
static cw_status check_lost(cw_remote *r, cw_error *err)
{
    const double now = cwi_seconds();
    for (size_t i = 0; i < r->count; i++) {
        request *q = r->requests[i];
        if (q->state != REQUEST_OPEN || !q->sent || q->asked_twice || now - q->began < r->options.deadline / 2)
            continue;
        q->asked_twice = true;
        return cwi_fail(err, CW_ERR_TIMEOUT, "no answer for %.0f s", now - q->began);
    }
    return CW_OK;
}

static cw_status keep_up(cw_remote *r, cw_error *err)
{
    if (r->guest.state != CWI_GUEST_IN)
        return CW_OK;
    CWI_TRY(send_all_open(r, err));
    CWI_TRY(check_lost(r, err));
    if (!count_open(r) || cwi_seconds() - r->guest.said < ping_every)
        return CW_OK;
    const cw_msg ping = cwi_guest_message(&r->guest, CW_MSG_PING);
    return cwi_guest_send(&r->guest, &ping, err);
}

/* Takes in what has come, waiting for something at most so long. A failure is for good. */
static cw_status exchange(cw_remote *r, double seconds, cw_error *err)
{
    if (r->broken) {
        if (err)
            *err = r->why;
        return r->broken;
    }
    if (r->options.stop && *r->options.stop)
        return cwi_fail(err, CW_ERR_CANCELLED, "stopped");
    if (!r->transport)
        return come_back(r, err);
    r->looked = cwi_seconds();
    cw_status status = take_frame(r, CWI_MAX(CWI_MIN(seconds, wake), 0), err);
    if (status == CW_OK)
        status = keep_up(r, err);
    return status == CW_OK ? CW_OK : on_broken(r, status, err);
}

/* ---- submitting ---- */

static cw_status run_head(cw_remote *r, const float *x, size_t n, const float **z, cw_error *err)
{
    const cw_half_call call = {.mode = CW_EVAL, .n = n};
    *z = x;
    if (r->options.head) {
        CWI_TRY(cw_half_forward(r->options.head, &call, x, r->z, err));
        *z = r->z;
    }
    return isinf(cwi_peak(*z, n * r->each))
               ? cwi_fail(err, CW_ERR_NONFINITE, "NaN or infinity at the cut: look at the input")
               : CW_OK;
}

static cw_status encode_request(cw_remote *r, request *q, const float *z, cw_error *err)
{
    cw_shape shape = {.ndim = r->greeting.smashed.ndim + 1, .dim = {(int64_t)q->n}};
    memcpy(shape.dim + 1, r->greeting.smashed.dim, sizeof(int64_t) * (size_t)r->greeting.smashed.ndim);
    const cw_tensor in = cw_tensor_view(CW_F32, &shape, (void *)(uintptr_t)z); /* only read */
    cw_encode_args args = {.seed = q->ticket, .evaluate = true, .profile = r->greeting.profile};
    const cw_msg msg = request_message(r, q);
    const size_t head = cw_msg_head_size(&msg), bound = cw_codec_bound(r->codec, &in);
    q->capacity = head + bound;
    q->frame = cwi_alloc(q->capacity, 1);
    if (!q->frame)
        return cwi_fail_memory(err, q->capacity);
    if (args.profile && cw_encode(r->codec, &in, &args, q->frame + head, bound, &q->payload, err) == CW_OK)
        return CW_OK;
    args.profile = NULL; /* a codec or a shape that it is not for */
    return cw_encode(r->codec, &in, &args, q->frame + head, bound, &q->payload, err);
}

static cw_status make_request(cw_remote *r, const float *x, size_t n, request *q, cw_error *err)
{
    const float *z;
    *q = (request){.ticket = ++r->next_ticket, .n = n, .began = cwi_seconds()};
    CWI_TRY(run_head(r, x, n, &z, err));
    CWI_TRY(encode_request(r, q, z, err));
    return add_request(r, q, err);
}

static cw_status wait_for_credit(cw_remote *r, cw_error *err)
{
    const double end = cwi_seconds() + r->options.deadline;
    if (!count_open(r) && r->transport)
        r->guest.heard = cwi_seconds(); /* nothing was owed meanwhile */
    while (count_open(r) >= r->greeting.credit) {
        const double left = end - cwi_seconds();
        if (left <= 0)
            return cwi_fail(err, CW_ERR_TIMEOUT, "no request was answered for %.0f s, though %zu %s on the way",
                            r->options.deadline, count_open(r), count_open(r) == 1 ? "is" : "are");
        CWI_TRY(exchange(r, left, err));
    }
    const bool looked = r->transport && cwi_seconds() - r->looked < look_every;
    return looked ? CW_OK : exchange(r, 0, err);
}

cw_status cw_remote_submit(cw_remote *r, const float *x, size_t n, uint64_t *ticket, cw_error *err)
{
    cw_error own;
    err = err ? err : &own;
    if (!r || !x || !ticket)
        return cwi_fail(err, CW_ERR_INVALID, "cw_remote_submit: a NULL argument");
    if (n < 1 || n > r->greeting.max_samples)
        return cwi_fail(err, CW_ERR_INVALID, "a request has 1 to %zu samples, not %zu", r->greeting.max_samples, n);
    CWI_TRY(wait_for_credit(r, err));
    request *q = cwi_calloc(1, sizeof *q);
    if (!q)
        return cwi_fail_memory(err, sizeof *q);
    cw_status status = make_request(r, x, n, q, err);
    if (status != CW_OK) {
        request_free(q);
        return status;
    }
    *ticket = q->ticket;
    r->stats.requests++;
    r->stats.samples += n;
    r->stats.payload_bytes += q->payload;
    if (!r->transport || r->guest.state != CWI_GUEST_IN)
        return CW_OK; /* it goes when the server is back */
    status = send_request(r, q, err);
    return status == CW_OK ? CW_OK : on_broken(r, status, err);
}

/* ---- waiting ---- */

static cw_status hand_over(cw_remote *r, size_t i, cw_answer *answer, cw_error *err)
{
    request *q = r->requests[i];
    if (q->state == REQUEST_FAILED) {
        const cw_status status = cwi_fail(err, q->status, "the server refused this request: %s", q->why);
        remove_request(r, i);
        return status;
    }
    cwi_free(r->last_answer);
    r->last_answer = q->answer;
    q->answer = NULL;
    const size_t top = r->options.top;
    *answer = (cw_answer){.n = q->n,
                          .top = top,
                          .guesses = top ? (const cw_guess *)(const void *)r->last_answer : NULL,
                          .outputs = top ? NULL : (const float *)(const void *)r->last_answer,
                          .seconds = q->seconds};
    remove_request(r, i);
    return CW_OK;
}

static cw_status wait_for_request(cw_remote *r, uint64_t ticket, size_t *at, cw_error *err)
{
    for (;;) {
        const size_t i = *at = find_request(r, ticket);
        if (i == SIZE_MAX)
            return cwi_fail(err, CW_ERR_INVALID, "no request has ticket %llu, or its answer was given already",
                            (unsigned long long)ticket);
        if (r->requests[i]->state != REQUEST_OPEN)
            return CW_OK;
        const double left = r->requests[i]->began + r->options.deadline - cwi_seconds();
        if (left <= 0)
            return cwi_fail(err, CW_ERR_TIMEOUT, "no answer from %s within %.3g s%s%s", r->endpoint,
                            r->options.deadline, *r->why.message ? "; last: " : "", r->why.message);
        CWI_TRY(exchange(r, left, err));
    }
}

cw_status cw_remote_wait(cw_remote *r, uint64_t ticket, cw_answer *answer, cw_error *err)
{
    size_t i;
    cw_error own;
    err = err ? err : &own;
    if (!r || !answer)
        return cwi_fail(err, CW_ERR_INVALID, "cw_remote_wait: a NULL argument");
    *answer = (cw_answer){0};
    const cw_status status = wait_for_request(r, ticket, &i, err);
    if (status == CW_OK)
        return hand_over(r, i, answer, err);
    if (i != SIZE_MAX && status != CW_ERR_CANCELLED)
        remove_request(r, find_request(r, ticket));
    return status;
}

/* ---- for loops of the caller's own ---- */

static bool has_ended(const cw_remote *r, const request *q)
{
    return q->state != REQUEST_OPEN || q->began + r->options.deadline <= cwi_seconds();
}

cw_status cw_remote_poll(cw_remote *r, uint64_t *ticket, cw_error *err)
{
    cw_error own;
    err = err ? err : &own;
    if (!r || !ticket)
        return cwi_fail(err, CW_ERR_INVALID, "cw_remote_poll: a NULL argument");
    *ticket = 0;
    do {
        r->took = false;
        CWI_TRY(exchange(r, 0, err));
    } while (r->took);
    for (size_t i = 0; i < r->count && !*ticket; i++)
        if (has_ended(r, r->requests[i]))
            *ticket = r->requests[i]->ticket;
    return CW_OK;
}

int cw_remote_poll_fd(const cw_remote *r)
{
    return r->transport ? cw_transport_poll_fd(r->transport) : -1;
}

/* ---- life ---- */

static cw_status take_options(cw_remote *r, const char *endpoint, const cw_remote_options *options, cw_error *err)
{
    cw_remote_options *o = &r->options;
    *o = *options;
    o->deadline = o->deadline > 0 ? o->deadline : 30;
    o->join_timeout = o->join_timeout > 0 ? o->join_timeout : 10;
    r->endpoint = cwi_strdup(endpoint);
    r->uplink = o->uplink ? cwi_strdup(o->uplink) : NULL;
    if (!r->endpoint || (o->uplink && !r->uplink))
        return cwi_fail_memory(err, strlen(endpoint));
    if (o->head && !o->head_print)
        CWI_TRY(cwi_half_print(o->head, &o->head_print, err));
    return cwi_random_id(&r->token, err);
}

static cw_status open_remote(cw_remote *r, const char *endpoint, const cw_remote_options *options, cw_error *err)
{
    CWI_TRY(take_options(r, endpoint, options, err));
    CWI_TRY(connect_and_greet(r, err));
    while (r->guest.state != CWI_GUEST_IN)
        CWI_TRY(exchange(r, wake, err));
    if (!r->options.head)
        return CW_OK;
    r->z = cwi_alloc(r->greeting.max_samples * r->each, sizeof(float));
    return r->z ? CW_OK : cwi_fail_memory(err, r->greeting.max_samples * r->each * sizeof(float));
}

cw_status cw_remote_open(const char *endpoint, const cw_remote_options *options, cw_remote **out, cw_error *err)
{
    cw_error own;
    err = err ? err : &own;
    if (out)
        *out = NULL;
    if (!endpoint || !options || !out)
        return cwi_fail(err, CW_ERR_INVALID, "cw_remote_open: a NULL argument");
    cw_remote *r = cwi_calloc(1, sizeof *r);
    if (!r)
        return cwi_fail_memory(err, sizeof *r);
    const cw_status status = open_remote(r, endpoint, options, err);
    if (status != CW_OK)
        cw_remote_close(&r);
    *out = r;
    return status;
}

static void take_leave(cw_remote *r)
{
    cw_msg msg = cwi_guest_message(&r->guest, CW_MSG_LEAVE);
    (void)cwi_outbox_send_text(&r->guest.box, 0, &msg, "it has asked all that it wanted", NULL);
}

void cw_remote_close(cw_remote **remote)
{
    cw_remote *r = remote ? *remote : NULL;
    if (!r)
        return;
    if (r->transport && r->guest.state == CWI_GUEST_IN)
        take_leave(r);
    disconnect(r, 500);
    while (r->count)
        remove_request(r, r->count - 1);
    cwi_greeting_free(&r->greeting);
    cw_codec_destroy(&r->codec);
    void *const blocks[] = {r->requests, r->z, r->last_answer, r->uplink, r->endpoint};
    for (size_t i = 0; i < CWI_COUNT(blocks); i++)
        cwi_free(blocks[i]);
    cwi_free(r);
    *remote = NULL;
}

const cw_remote_info *cw_remote_get_info(const cw_remote *remote)
{
    return &remote->info;
}

const char *cw_remote_class_name(const cw_remote *r, int32_t label)
{
    return r->info.class_names && label >= 0 && (size_t)label < r->info.outputs ? r->info.class_names[label] : "";
}

cw_remote_stats cw_remote_get_stats(const cw_remote *r)
{
    cw_remote_stats stats = r->stats;
    if (r->transport) {
        const cw_net_stats net = cw_transport_stats(r->transport);
        stats.bytes_sent += net.bytes_sent;
        stats.bytes_received += net.bytes_received;
    }
    return stats;
}
