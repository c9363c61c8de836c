/* test_infer_remote.c - requests and answers across a cut: a small network of callbacks on both sides, honest clients
 * beside hostile peers, servers that go and come back. */
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/base.h"
#include "codec/payload.h"
#include "cutwire/codec.h"
#include "cutwire/infer.h"
#include "cutwire/wire.h"
#include "test.h"

enum { IN = 6, CUT = 8, OUT = 3 };

/* ---- the network: z[i] = relu(w[i] + x[i % IN]), y[k] = sum over i of z[i] * (1 + (i + k) % OUT) ---- */

typedef struct own_head {
    float weight[CUT], gradient[CUT];
} own_head;

static cw_status head_forward(void *ctx, const cw_half_call *call, const float *x, float *z, cw_error *err)
{
    const own_head *h = ctx;
    (void)err;
    for (size_t s = 0; s < call->n; s++)
        for (size_t i = 0; i < CUT; i++)
            z[s * CUT + i] = fmaxf(h->weight[i] + x[(call->first + s) * IN + i % IN], 0);
    return CW_OK;
}

static cw_status tail_forward(void *ctx, const cw_half_call *call, const float *z, float *y, cw_error *err)
{
    (void)ctx;
    for (size_t s = 0; s < call->n; s++)
        for (size_t k = 0; k < OUT; k++) {
            float sum = 0;
            for (size_t i = 0; i < CUT; i++) {
                if (z[s * CUT + i] > 1e30f) /* as an engine that looks at its values does: all of the batch fails */
                    return cwi_fail(err, CW_ERR_DIVERGED, "beyond any number");
                sum += z[s * CUT + i] * (float)(1 + (i + k) % OUT);
            }
            y[s * OUT + k] = sum;
        }
    return CW_OK;
}

static cw_status no_loss(void *ctx, const cw_half_call *call, const cw_targets *targets, cw_loss *out, cw_error *err)
{
    (void)ctx, (void)call, (void)targets, (void)out;
    return cwi_fail(err, CW_ERR_INVALID, "for inference");
}

static cw_status no_backward(void *ctx, const cw_half_call *call, const float *dy, float *dx, cw_error *err)
{
    (void)ctx, (void)call, (void)dy, (void)dx;
    return cwi_fail(err, CW_ERR_INVALID, "for inference");
}

static cw_status no_step(void *ctx, float lr, cw_error *err)
{
    (void)ctx, (void)lr;
    return cwi_fail(err, CW_ERR_INVALID, "for inference");
}

static cw_half *make_head(own_head *h, float first)
{
    const cw_shape in = cw_shape_of(1, (int64_t[]){IN}), out = cw_shape_of(1, (int64_t[]){CUT});
    for (size_t i = 0; i < CUT; i++)
        h->weight[i] = first + 0.25f * (float)i;
    const cw_half_tensor tensors[] = {{CW_HALF_WEIGHT, "bias", cw_tensor_view(CW_F32, &out, h->weight)},
                                      {CW_HALF_GRADIENT, "bias", cw_tensor_view(CW_F32, &out, h->gradient)}};
    const cw_half_callbacks callbacks = {.in = in,
                                         .out = out,
                                         .tensors = tensors,
                                         .tensor_count = 2,
                                         .forward = head_forward,
                                         .backward = no_backward,
                                         .step = no_step};
    cw_half *half;
    cw_error err;
    assert_ok_err(cw_half_create(&callbacks, h, &half, &err), err);
    return half;
}

static cw_half *make_tail(void)
{
    const cw_half_callbacks callbacks = {.in = cw_shape_of(1, (int64_t[]){CUT}),
                                         .out = cw_shape_of(1, (int64_t[]){OUT}),
                                         .forward = tail_forward,
                                         .loss = no_loss,
                                         .backward = no_backward,
                                         .step = no_step};
    cw_half *half;
    cw_error err;
    assert_ok_err(cw_half_create(&callbacks, NULL, &half, &err), err);
    return half;
}

/* What the network says of a sample. */
static void expect(const own_head *h, const float *x, float *y)
{
    float z[CUT];
    const cw_half_call call = {.mode = CW_EVAL, .n = 1};
    assert_ok(head_forward((void *)(uintptr_t)h, &call, x, z, NULL));
    assert_ok(tail_forward(NULL, &call, z, y, NULL));
}

static void make_input(uint64_t seed, size_t n, float *x)
{
    cwi_rng rng = cwi_rng_make(seed, CWI_STREAM_TEST, 0, 0);
    for (size_t i = 0; i < n * IN; i++)
        x[i] = (float)cwi_rng_normal(&rng);
}

/* ---- a server on a thread of its own ---- */

typedef struct scene {
    cw_answerer_options options;
    cw_transport *transport;
    cw_half *tail;
    cw_answerer *answerer;
    volatile sig_atomic_t stop;
    pthread_t thread;
    cw_status status;
    cw_answerer_stats stats;
    char log[8000];
} scene;

static const char *const classes[OUT] = {"cat", "dog", "owl"};

static void note(void *ctx, const cw_event *event)
{
    scene *s = ctx;
    const size_t used = strlen(s->log);
    snprintf(s->log + used, sizeof s->log - used, "%s\n", event->text);
}

static void *serve(void *arg)
{
    scene *s = arg;
    s->status = cw_answer_clients(s->answerer, &s->stop, NULL);
    return NULL;
}

static cw_hooks hooks; /* of the scene at hand */

static scene *open_scene(const char *endpoint, const cw_answerer_options *options)
{
    scene *s = calloc(1, sizeof *s);
    cw_error err;
    hooks = (cw_hooks){.ctx = s, .event = note};
    s->options = *options;
    s->tail = make_tail();
    s->options.tail = s->tail;
    s->options.hooks = &hooks;
    s->options.class_names = classes;
    if (!s->options.model)
        s->options.model = "toy";
    assert_ok_err(cw_net_listen(endpoint, NULL, &s->transport, &err), err);
    assert_ok_err(cw_answerer_create(&s->options, s->transport, &s->answerer, &err), err);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
    return s;
}

static void close_scene(scene *s)
{
    s->stop = 1;
    pthread_join(s->thread, NULL);
    assert_int_equal(s->status, CW_OK);
    cw_answerer_destroy(&s->answerer);
    cw_transport_close(&s->transport, 1000);
    cw_half_destroy(&s->tail);
    free(s);
}

static void nap(int milliseconds)
{
    const struct timespec t = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

static void assert_words(const char *text, const char *words)
{
    if (!strstr(text, words))
        fail_msg("\"%s\" does not have \"%s\"", text, words);
}

static cw_remote *connect_to(const scene *s, cw_half *head, cw_remote_options options)
{
    cw_remote *r;
    cw_error err;
    options.head = head;
    if (!options.uplink)
        options.uplink = "none";
    assert_ok_err(cw_remote_open(cw_transport_endpoint(s->transport), &options, &r, &err), err);
    return r;
}

/* Asks for n samples and holds the outputs to the network's. */
static void ask(cw_remote *r, const own_head *h, uint64_t seed, size_t n)
{
    float x[16 * IN], y[OUT];
    uint64_t ticket;
    cw_answer a;
    cw_error err;
    make_input(seed, n, x);
    assert_ok_err(cw_remote_submit(r, x, n, &ticket, &err), err);
    assert_ok_err(cw_remote_wait(r, ticket, &a, &err), err);
    assert_true(a.n == n && a.top == 0 && !a.guesses && a.seconds > 0);
    for (size_t i = 0; i < n; i++) {
        expect(h, x + i * IN, y);
        assert_memory_equal(a.outputs + i * OUT, y, sizeof y);
    }
    assert_status(cw_remote_wait(r, ticket, &a, &err), CW_ERR_INVALID); /* an answer is given once */
}

/* ---- tests ---- */

static void answers_are_the_networks(void **state)
{
    own_head h;
    cw_half *head = make_head(&h, 0.5f);
    scene *s = open_scene(*state, &(cw_answerer_options){.max_batch = 8});
    cw_remote *r = connect_to(s, head, (cw_remote_options){.model = "toy"});
    const cw_remote_info *info = cw_remote_get_info(r);
    assert_true(info->outputs == OUT && info->max_samples == 8 && info->credit == 8);
    assert_string_equal(cw_remote_class_name(r, 2), "owl");
    assert_string_equal(cw_remote_class_name(r, 3), "");
    for (size_t n = 1; n <= 8; n++)
        ask(r, &h, n, n);
    float x[9 * IN] = {0};
    uint64_t ticket;
    cw_error err;
    assert_status(cw_remote_submit(r, x, 9, &ticket, &err), CW_ERR_INVALID);
    assert_status(cw_remote_submit(r, x, 0, &ticket, &err), CW_ERR_INVALID);
    const cw_remote_stats stats = cw_remote_get_stats(r);
    assert_true(stats.requests == 8 && stats.answers == 8 && stats.samples == 36 && stats.repeated == 0);
    assert_true(stats.bytes_sent > stats.payload_bytes && stats.connections == 1);
    cw_remote_close(&r);
    close_scene(s);
    cw_half_destroy(&head);
}

static void likeliest_classes(void **state)
{
    own_head h;
    cw_half *head = make_head(&h, 0.5f);
    scene *s = open_scene(*state, &(cw_answerer_options){.max_batch = 8});
    cw_remote *r = connect_to(s, head, (cw_remote_options){.top = 2});
    float x[4 * IN], y[OUT];
    uint64_t ticket;
    cw_answer a;
    make_input(5, 4, x);
    assert_ok(cw_remote_submit(r, x, 4, &ticket, NULL));
    assert_ok(cw_remote_wait(r, ticket, &a, NULL));
    assert_true(a.n == 4 && a.top == 2 && !a.outputs);
    for (size_t i = 0; i < 4; i++) {
        double sum = 0;
        expect(&h, x + i * IN, y);
        const cw_guess *g = a.guesses + 2 * i;
        for (size_t k = 0; k < OUT; k++) {
            sum += exp((double)y[k]);
            assert_true(y[k] <= y[g[0].label]);
        }
        assert_true(g[0].label != g[1].label && y[g[1].label] <= y[g[0].label]);
        assert_true(fabs((double)g[0].probability - exp((double)y[g[0].label]) / sum) < 1e-5);
    }
    cw_remote_close(&r);
    cw_error err;
    const cw_remote_options four = {.head = head, .top = 4}, zip = {.head = head, .uplink = "zip"};
    assert_status(cw_remote_open(*state, &four, &r, &err), CW_ERR_INVALID);
    assert_status(cw_remote_open(*state, &zip, &r, &err), CW_ERR_SPEC);
    close_scene(s);
    cw_half_destroy(&head);
}

typedef struct client {
    pthread_t thread;
    const scene *s;
    uint64_t seed;
    atomic_int *done;
} client;

/* Keeps its credit in flight, and checks every answer. */
static void *be_client(void *arg)
{
    enum { ROUNDS = 30, AHEAD = 4 };
    client *c = arg;
    own_head h;
    cw_half *head = make_head(&h, 0.5f);
    cw_remote *r = connect_to(c->s, head, (cw_remote_options){0});
    float x[AHEAD][IN], y[OUT];
    uint64_t tickets[AHEAD];
    for (size_t i = 0; i < ROUNDS + AHEAD; i++) {
        if (i >= AHEAD) {
            cw_answer a;
            assert_ok(cw_remote_wait(r, tickets[i % AHEAD], &a, NULL));
            expect(&h, x[i % AHEAD], y);
            assert_memory_equal(a.outputs, y, sizeof y);
        }
        if (i < ROUNDS) {
            make_input(c->seed * 1000 + i, 1, x[i % AHEAD]);
            assert_ok(cw_remote_submit(r, x[i % AHEAD], 1, &tickets[i % AHEAD], NULL));
        }
    }
    cw_remote_close(&r);
    cw_half_destroy(&head);
    atomic_fetch_add(c->done, 1);
    return NULL;
}

static void several_clients_are_answered_together(void **state)
{
    enum { CLIENTS = 6 };
    scene *s = open_scene(*state, &(cw_answerer_options){.max_batch = 16, .max_wait = 0.005, .credit = 4});
    client c[CLIENTS];
    atomic_int done = 0;
    for (size_t i = 0; i < CLIENTS; i++) {
        c[i] = (client){.s = s, .seed = i + 1, .done = &done};
        assert_int_equal(pthread_create(&c[i].thread, NULL, be_client, &c[i]), 0);
    }
    for (size_t i = 0; i < CLIENTS; i++)
        pthread_join(c[i].thread, NULL);
    assert_int_equal(done, CLIENTS);
    s->stop = 1;
    pthread_join(s->thread, NULL);
    const cw_answerer_stats stats = cw_answerer_get_stats(s->answerer);
    assert_true(stats.requests == CLIENTS * 30 && stats.samples == CLIENTS * 30 && stats.clients == CLIENTS);
    assert_true(stats.batches < stats.requests / 2 && stats.refused == 0);
    assert_true(stats.p50 > 0 && stats.p50 <= stats.p95 && stats.p95 <= stats.p99);
    s->stop = 0;
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
    close_scene(s);
}

static void another_model_is_refused_with_both_names(void **state)
{
    own_head h, other;
    cw_half *head = make_head(&h, 0.5f), *wrong = make_head(&other, 0.75f);
    scene *s = open_scene(*state, &(cw_answerer_options){.cut = 3, .head_print = 0x1234});
    cw_remote *r;
    cw_error err;
    const cw_remote_options options[] = {{.head = head, .model = "other", .cut = 3, .head_print = 0x1234},
                                         {.head = head, .model = "toy", .cut = 4, .head_print = 0x1234},
                                         {.head = wrong, .model = "toy", .cut = 3}};
    static const char *const said[] = {"other cut at 3", "toy cut at 4", "0000000000001234"};
    for (size_t i = 0; i < CWI_COUNT(options); i++) {
        assert_status(cw_remote_open(*state, &options[i], &r, &err), CW_ERR_MISMATCH);
        assert_null(r);
        assert_words(err.message, said[i]);
        assert_words(err.message, "toy cut at 3");
    }
    const cw_remote_options good = {.head = head, .uplink = "none", .model = "toy", .cut = 3, .head_print = 0x1234};
    assert_ok_err(cw_remote_open(*state, &good, &r, &err), err);
    ask(r, &h, 1, 1);
    cw_remote_close(&r);
    close_scene(s);
    cw_half_destroy(&head);
    cw_half_destroy(&wrong);
}

/* Of a client's half, and in what a client without one sends: an error for it, nothing for others. */
static void what_is_not_finite_harms_its_sender_alone(void **state)
{
    own_head h;
    cw_half *head = make_head(&h, 0.5f);
    scene *s = open_scene(*state, &(cw_answerer_options){.max_batch = 16, .max_wait = 0.05});
    cw_remote *good = connect_to(s, head, (cw_remote_options){0}), *bad = connect_to(s, NULL, (cw_remote_options){0});
    float x[IN], z[CUT] = {0};
    uint64_t ticket, other;
    cw_answer a;
    cw_error err;
    z[3] = NAN;
    assert_status(cw_remote_submit(bad, z, 1, &ticket, &err), CW_ERR_NONFINITE);
    for (int i = 0; i < 3; i++) { /* finite, but no answer comes of it, in one batch with a good one */
        z[3] = i ? 3e38f : 2e30f;
        make_input(9, 1, x);
        assert_ok(cw_remote_submit(bad, z, 1, &ticket, &err));
        assert_ok(cw_remote_submit(good, x, 1, &other, &err));
        assert_status(cw_remote_wait(bad, ticket, &a, &err), CW_ERR_NONFINITE);
        assert_words(err.message, "beyond any number");
        assert_ok_err(cw_remote_wait(good, other, &a, &err), err);
    }
    z[3] = 1;
    assert_ok(cw_remote_submit(bad, z, 1, &ticket, &err));
    assert_ok_err(cw_remote_wait(bad, ticket, &a, &err), err);
    cw_remote_close(&good);
    cw_remote_close(&bad);
    close_scene(s);
    cw_half_destroy(&head);
}

static void a_full_server_says_so_at_once(void **state)
{
    own_head h;
    cw_half *head = make_head(&h, 0.5f);
    scene *s =
        open_scene(*state, &(cw_answerer_options){.max_clients = 1, .max_batch = 4, .max_queue = 4, .max_wait = 0.5});
    cw_remote *r = connect_to(s, head, (cw_remote_options){0}), *second;
    cw_error err;
    const cw_remote_options options = {.head = head};
    const double began = cwi_seconds();
    assert_int_not_equal(cw_remote_open(*state, &options, &second, &err), CW_OK);
    assert_words(err.message, "all 1 places");
    assert_true(cwi_seconds() - began < 5);
    float x[3 * IN] = {0};
    uint64_t tickets[2];
    cw_answer a;
    for (size_t i = 0; i < 2; i++) /* 3 samples wait for others, 3 more are too many */
        assert_ok(cw_remote_submit(r, x, 3, &tickets[i], &err));
    assert_status(cw_remote_wait(r, tickets[1], &a, &err), CW_ERR_CLOSED);
    assert_words(err.message, "full");
    assert_ok_err(cw_remote_wait(r, tickets[0], &a, &err), err);
    cw_remote_close(&r);
    close_scene(s);
    cw_half_destroy(&head);
}

/* ---- peers played by hand ---- */

typedef struct actor {
    cw_transport *t;
    cw_frame last;
    cw_msg msg, welcome;
} actor;

static cw_status actor_send(actor *a, cw_msg msg)
{
    uint8_t frame[4096];
    size_t size;
    cw_error err;
    msg.client = a->welcome.client;
    msg.session = a->welcome.session;
    assert_ok_err(cw_msg_encode(&msg, frame, sizeof frame, &size, &err), err);
    return cw_transport_send(a->t, 0, frame, size, &err);
}

/* Waits for a message of this type, skipping others. */
static void actor_await(actor *a, cw_msg_type type)
{
    cw_error err;
    do {
        if (a->last.owner)
            cw_frame_release(&a->last);
        assert_ok_err(cw_transport_recv(a->t, 10000, &a->last, &err), err);
        assert_ok_err(cw_msg_decode(a->last.bytes, a->last.size, &a->msg, &err), err);
        if (a->msg.type == CW_MSG_ERROR && type != CW_MSG_ERROR)
            fail_msg("told: %.*s", (int)a->msg.blob_size, (const char *)a->msg.blob);
    } while (a->msg.type != type);
}

static void actor_join(actor *a, const char *endpoint)
{
    *a = (actor){.welcome = {.client = UINT32_MAX}};
    assert_ok(cw_net_connect(endpoint, NULL, &a->t, NULL));
    actor_send(a, (cw_msg){.type = CW_MSG_HELLO, .version_min = 2, .version_max = 2, .token = 99});
    actor_await(a, CW_MSG_WELCOME);
    a->welcome = a->msg;
    actor_send(a, (cw_msg){.type = CW_MSG_READY, .fingerprint = a->welcome.fingerprint});
}

static void actor_close(actor *a)
{
    if (a->last.owner)
        cw_frame_release(&a->last);
    cw_transport_close(&a->t, 0);
}

static size_t encode(const float *z, int64_t n, int64_t width, uint8_t *payload, size_t room)
{
    cw_codec *codec;
    size_t size;
    const cw_shape shape = cw_shape_of(2, (int64_t[]){n, width});
    const cw_tensor t = cw_tensor_view(CW_F32, &shape, (void *)(uintptr_t)z);
    assert_ok(cw_codec_create("none", &codec, NULL));
    assert_ok(cw_encode(codec, &t, NULL, payload, room, &size, NULL));
    cw_codec_destroy(&codec);
    return size;
}

static cw_msg request(uint32_t number, int64_t n, int64_t width, uint8_t *payload, size_t room)
{
    static const float zeros[4 * CUT];
    return (cw_msg){.type = CW_MSG_REQUEST,
                    .request = number,
                    .samples = (uint64_t)n,
                    .blob = payload,
                    .blob_size = encode(zeros, n, width, payload, room)};
}

/* The which-th message that no honest client sends, and what is said of it; NULL: there are no more. */
static const char *hostile(int which, cw_msg *m, uint8_t *payload, size_t room)
{
    *m = request(1, 1, which == 0 ? CUT + 1 : CUT, payload, room);
    switch (which) {
    case 0:
        return "is due";
    case 1:
        m->samples = 3;
        return "is due";
    case 2:
        m->samples = 5;
        return "at most 4";
    case 3:
        m->top = OUT + 1;
        return "likeliest";
    case 4:
        payload[m->blob_size - 1] ^= 1; /* behind the payload's header: found when it is decoded */
        return "checksum";
    case 5:
        m->blob_size = 3;
        return "ends";
    case 6:
        *m = (cw_msg){.type = CW_MSG_BEGIN, .phase = CW_PHASE_TRAIN};
        return "it sent BEGIN";
    case 7:
        return "more than 2 requests"; /* of three */
    default:
        return NULL;
    }
}

/* Each is told what is wrong and is out; the honest client beside them has all its answers. */
static void what_breaks_the_protocol_is_out(void **state)
{
    own_head h;
    cw_half *head = make_head(&h, 0.5f);
    scene *s = open_scene(*state, &(cw_answerer_options){.max_batch = 4, .credit = 2, .max_wait = 0.2});
    cw_remote *r = connect_to(s, head, (cw_remote_options){0});
    uint8_t payload[1024];
    const char *words;
    cw_msg m;
    for (int which = 0; (words = hostile(which, &m, payload, sizeof payload)); which++) {
        actor a;
        char text[400];
        actor_join(&a, *state);
        for (int times = which == 7 ? 3 : 1; times > 0; times--)
            actor_send(&a, m);
        actor_await(&a, CW_MSG_ERROR);
        snprintf(text, sizeof text, "%.*s", (int)a.msg.blob_size, (const char *)a.msg.blob);
        assert_words(text, words);
        actor_close(&a);
        ask(r, &h, (uint64_t)which, 2);
    }
    cw_remote_close(&r);
    close_scene(s);
    cw_half_destroy(&head);
}

/* Requests of several sizes wait together, one of them of a client that is lost meanwhile: each gets its own answer. */
static void who_is_lost_leaves_no_gap(void **state)
{
    enum { REQUESTS = 6 };
    static const size_t sizes[REQUESTS] = {3, 1, 2, 5, 7, 4};
    own_head h;
    cw_half *head = make_head(&h, 0.5f);
    scene *s = open_scene(*state, &(cw_answerer_options){.max_batch = 8, .max_wait = 0.4});
    cw_remote *r[2] = {connect_to(s, head, (cw_remote_options){0}), connect_to(s, head, (cw_remote_options){0})};
    float x[REQUESTS][8 * IN], y[OUT];
    uint64_t tickets[REQUESTS];
    uint8_t payload[1024];
    actor a;
    actor_join(&a, *state);
    for (size_t i = 0; i < REQUESTS; i++) {
        make_input(70 + i, sizes[i], x[i]);
        assert_ok(cw_remote_submit(r[i % 2], x[i], sizes[i], &tickets[i], NULL));
        if (i == 0)
            actor_send(&a, request(1, 2, CUT, payload, sizeof payload));
        if (i == 2) {
            actor_send(&a, (cw_msg){.type = CW_MSG_BEGIN, .phase = CW_PHASE_TRAIN});
            actor_await(&a, CW_MSG_ERROR);
        }
    }
    for (size_t i = 0; i < REQUESTS; i++) {
        cw_answer answer;
        cw_error err;
        assert_ok_err(cw_remote_wait(r[i % 2], tickets[i], &answer, &err), err);
        assert_int_equal(answer.n, sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++) {
            expect(&h, x[i] + k * IN, y);
            assert_memory_equal(answer.outputs + k * OUT, y, sizeof y);
        }
    }
    actor_close(&a);
    cw_remote_close(&r[0]);
    cw_remote_close(&r[1]);
    close_scene(s);
    cw_half_destroy(&head);
}

/* From the second on, requests and answers leave out what the ones before had; who sends whole ones gets whole ones. */
static void frames_leave_out_what_was_there(void **state)
{
    enum { TIMES = 20, SHORT_REQUEST = 15 + 4 * CUT, SHORT_ANSWER = 15 + 4 * OUT };
    static const uint8_t nothing_before[] = {0xc8, 1, 2, 3, 4, 5, 6, 7};
    own_head h;
    cw_half *head = make_head(&h, 0.5f);
    scene *s = open_scene(*state, &(cw_answerer_options){.max_batch = 4});
    cw_remote *r = connect_to(s, head, (cw_remote_options){0});
    for (uint64_t i = 0; i < 2; i++)
        ask(r, &h, i, 1);
    const cw_remote_stats two = cw_remote_get_stats(r);
    for (uint64_t i = 0; i < TIMES; i++)
        ask(r, &h, 2 + i, 1);
    const cw_remote_stats all = cw_remote_get_stats(r);
    assert_true(all.bytes_sent - two.bytes_sent <= TIMES * SHORT_REQUEST);
    assert_true(all.bytes_received - two.bytes_received <= TIMES * SHORT_ANSWER);
    for (size_t n = 1; n <= 4; n++) /* others travel whole, and the next of their kind do not */
        ask(r, &h, n, 1 + n % 2);
    actor a;
    uint8_t payload[1024];
    actor_join(&a, cw_transport_endpoint(s->transport));
    for (uint32_t i = 1; i <= 3; i++) {
        actor_send(&a, request(i, 1, CUT, payload, sizeof payload));
        actor_await(&a, CW_MSG_ANSWER);
    }
    actor_close(&a);
    actor_join(&a, cw_transport_endpoint(s->transport));
    assert_ok(cw_transport_send(a.t, 0, nothing_before, sizeof nothing_before, NULL));
    actor_await(&a, CW_MSG_ERROR);
    assert_words((const char *)a.msg.blob, "leaves out");
    actor_close(&a);
    ask(r, &h, 1, 1);
    cw_remote_close(&r);
    close_scene(s);
    cw_half_destroy(&head);
}

/* What waits for a client that reads nothing is bounded. */
static void who_reads_nothing_is_out(void **state)
{
    own_head h;
    cw_half *head = make_head(&h, 0.5f);
    scene *s = open_scene(*state, &(cw_answerer_options){.max_batch = 4});
    cw_remote *r = connect_to(s, head, (cw_remote_options){0});
    actor a;
    actor_join(&a, *state);
    const double began = cwi_seconds();
    while (actor_send(&a, (cw_msg){.type = CW_MSG_PING}) == CW_OK) /* until it is dropped */
        assert_true(cwi_seconds() - began < 60);
    ask(r, &h, 1, 4);
    cw_remote_close(&r);
    s->stop = 1;
    pthread_join(s->thread, NULL);
    assert_words(s->log, "does not read");
    s->stop = 0;
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
    actor_close(&a);
    close_scene(s);
    cw_half_destroy(&head);
}

/* NaN from a peer that does not look: it is out, with the reason. */
static void nan_in_a_payload(void **state)
{
    scene *s = open_scene(*state, &(cw_answerer_options){.max_batch = 4});
    actor a;
    uint8_t payload[1024];
    const float no_number = NAN;
    cw_msg m = request(7, 1, CUT, payload, sizeof payload);
    memcpy(payload + m.blob_size - sizeof no_number, &no_number, sizeof no_number); /* no encoder of ours makes it */
    cwi_payload_seal(payload, m.blob_size);
    actor_join(&a, *state);
    actor_send(&a, m);
    actor_await(&a, CW_MSG_ERROR);
    char text[400];
    snprintf(text, sizeof text, "%.*s", (int)a.msg.blob_size, (const char *)a.msg.blob);
    assert_words(text, "NaN or infinity");
    actor_close(&a);
    close_scene(s);
}

/* A client that says nothing more loses its place to another. */
static void a_silent_client_is_forgotten(void **state)
{
    own_head h;
    cw_half *head = make_head(&h, 0.5f);
    scene *s = open_scene(*state, &(cw_answerer_options){.max_clients = 1, .timeout = 0.4});
    actor a;
    actor_join(&a, *state);
    nap(900);
    cw_remote *r = connect_to(s, head, (cw_remote_options){0});
    ask(r, &h, 1, 1);
    nap(900); /* the honest one is forgotten, too: it comes back by itself */
    ask(r, &h, 2, 1);
    assert_true(cw_remote_get_stats(r).connections == 2);
    cw_remote_close(&r);
    actor_close(&a);
    close_scene(s);
    cw_half_destroy(&head);
}

/* ---- servers that go and come back ---- */

typedef struct restart {
    char endpoint[64];
    scene *second;
} restart;

static void *come_back_later(void *arg)
{
    restart *t = arg;
    nap(700);
    t->second = open_scene(t->endpoint, &(cw_answerer_options){.max_batch = 4});
    return NULL;
}

static void a_server_that_comes_back_is_asked_again(void **state)
{
    (void)state;
    own_head h;
    cw_half *head = make_head(&h, 0.5f);
    scene *first = open_scene("tcp://127.0.0.1:*", &(cw_answerer_options){.max_batch = 4, .max_wait = 60});
    restart t = {.second = NULL};
    snprintf(t.endpoint, sizeof t.endpoint, "%s", cw_transport_endpoint(first->transport));
    cw_remote *r = connect_to(first, head, (cw_remote_options){.deadline = 30});
    float x[2][IN], y[OUT];
    uint64_t tickets[2];
    cw_answer a;
    cw_error err;
    for (size_t i = 0; i < 2; i++) { /* which the first server keeps waiting for more */
        make_input(i, 1, x[i]);
        assert_ok_err(cw_remote_submit(r, x[i], 1, &tickets[i], &err), err);
    }
    nap(200);
    close_scene(first);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, come_back_later, &t), 0);
    for (size_t i = 2; i-- > 0;) {
        assert_ok_err(cw_remote_wait(r, tickets[i], &a, &err), err);
        expect(&h, x[i], y);
        assert_memory_equal(a.outputs, y, sizeof y);
    }
    pthread_join(thread, NULL);
    const cw_remote_stats stats = cw_remote_get_stats(r);
    assert_true(stats.answers == 2 && stats.repeated == 2 && stats.connections >= 2);
    ask(r, &h, 3, 4);
    cw_remote_close(&r);
    close_scene(t.second);
    cw_half_destroy(&head);
}

static void a_deadline_ends_in_an_error(void **state)
{
    (void)state;
    own_head h;
    cw_half *head = make_head(&h, 0.5f);
    scene *s = open_scene("tcp://127.0.0.1:*", &(cw_answerer_options){.max_batch = 4, .max_wait = 60, .credit = 1});
    cw_remote *r = connect_to(s, head, (cw_remote_options){.deadline = 1});
    float x[IN] = {0};
    uint64_t ticket, next;
    cw_answer a;
    cw_error err;
    double began = cwi_seconds();
    assert_ok(cw_remote_submit(r, x, 1, &ticket, &err));
    assert_status(cw_remote_submit(r, x, 1, &next, &err), CW_ERR_TIMEOUT); /* no credit */
    assert_status(cw_remote_wait(r, ticket, &a, &err), CW_ERR_TIMEOUT);
    assert_words(err.message, "within 1 s");
    assert_true(cwi_seconds() - began < 5);
    cw_remote_close(&r);
    close_scene(s);
    const cw_remote_options options = {.head = head, .join_timeout = 0.5};
    began = cwi_seconds();
    assert_status(cw_remote_open("tcp://127.0.0.1:1", &options, &r, &err), CW_ERR_TIMEOUT);
    assert_words(err.message, "is the server running there?");
    assert_true(cwi_seconds() - began < 5);
    cw_half_destroy(&head);
}

/* Longer than a client waits to be let in: each request ends at its own deadline, and later ones find the server. */
static void a_server_that_stays_away_for_long(void **state)
{
    (void)state;
    own_head h;
    cw_half *head = make_head(&h, 0.5f);
    scene *s = open_scene("tcp://127.0.0.1:*", &(cw_answerer_options){.max_batch = 4});
    restart t = {.second = NULL};
    snprintf(t.endpoint, sizeof t.endpoint, "%s", cw_transport_endpoint(s->transport));
    cw_remote *r = connect_to(s, head, (cw_remote_options){.deadline = 0.8, .join_timeout = 0.3});
    ask(r, &h, 1, 2);
    close_scene(s);
    float x[IN] = {0};
    uint64_t ticket;
    cw_answer a;
    cw_error err;
    for (int i = 0; i < 2; i++) {
        assert_ok_err(cw_remote_submit(r, x, 1, &ticket, &err), err);
        assert_status(cw_remote_wait(r, ticket, &a, &err), CW_ERR_TIMEOUT);
        assert_words(err.message, "within 0.8 s");
    }
    come_back_later(&t);
    ask(r, &h, 2, 3);
    assert_true(cw_remote_get_stats(r).answers == 2);
    cw_remote_close(&r);
    close_scene(t.second);
    cw_half_destroy(&head);
}

/* Through a loop of one's own: tickets come back as their answers do, deadlines too. */
static void a_loop_of_ones_own(void **state)
{
    enum { REQUESTS = 12 };
    (void)state;
    own_head h;
    cw_half *head = make_head(&h, 0.5f);
    scene *s = open_scene("tcp://127.0.0.1:*", &(cw_answerer_options){.max_batch = 4, .credit = REQUESTS});
    cw_remote *r = connect_to(s, head, (cw_remote_options){.deadline = 20});
    uint64_t ticket = 1, seen = 0;
    cw_answer a;
    cw_error err;
    float x[REQUESTS][IN], y[OUT];
    assert_ok(cw_remote_poll(r, &ticket, &err));
    assert_true(ticket == 0);
    for (size_t i = 0; i < REQUESTS; i++) {
        make_input(i, 1, x[i]);
        assert_ok_err(cw_remote_submit(r, x[i], 1, &ticket, &err), err);
    }
    while (seen != (1 << REQUESTS) - 1) {
        assert_ok_err(cw_remote_poll(r, &ticket, &err), err);
        struct pollfd watched = {.fd = cw_remote_poll_fd(r), .events = POLLIN};
        if (!ticket) {
            assert_true(poll(&watched, 1, 5000) == 1); /* not by luck of a time-out */
            continue;
        }
        assert_ok_err(cw_remote_wait(r, ticket, &a, &err), err);
        expect(&h, x[ticket - 1], y);
        assert_memory_equal(a.outputs, y, sizeof y);
        assert_true(!(seen >> (ticket - 1) & 1));
        seen |= 1u << (ticket - 1);
    }
    assert_status(cw_remote_poll(NULL, &ticket, &err), CW_ERR_INVALID);
    cw_remote_close(&r);
    close_scene(s);
    cw_half_destroy(&head);
}

/* The number does not depend on the order, but on everything else; counters of batches are none of it. */
static void prints_of_weights(void **state)
{
    (void)state;
    float a[] = {1, 2, 3, 4}, b[] = {5, 6};
    int64_t batches = 7;
    const cw_shape two_by_two = cw_shape_of(2, (int64_t[]){2, 2}), two = cw_shape_of(1, (int64_t[]){2}),
                   four = cw_shape_of(1, (int64_t[]){4}), one = cw_shape_of(1, (int64_t[]){1});
    cw_named_tensor items[] = {{"conv.weight", cw_tensor_view(CW_F32, &two_by_two, a)},
                               {"conv.bias", cw_tensor_view(CW_F32, &two, b)},
                               {"bn.num_batches_tracked", cw_tensor_view(CW_I64, &one, &batches)}};
    const uint64_t whole = cw_weights_print(items, 3);
    assert_true(whole && cw_weights_print(NULL, 0) == 0);
    assert_true(cw_weights_print(items, 2) == whole);
    const cw_named_tensor turned[] = {items[1], items[0]};
    assert_true(cw_weights_print(turned, 2) == whole);
    items[0].tensor.shape = four;
    assert_true(cw_weights_print(items, 2) != whole);
    items[0].tensor.shape = two_by_two;
    b[1] = nextafterf(b[1], 7);
    assert_true(cw_weights_print(items, 2) != whole);
}

/* Names of classes, limits, shapes: a server that lies is found out. */
static void wrong_arguments(void **state)
{
    (void)state;
    cw_answerer *a;
    cw_transport *t;
    cw_half *tail = make_tail();
    cw_error err;
    assert_ok(cw_net_listen("inproc://arguments", NULL, &t, NULL));
    const cw_answerer_options bad[] = {
        {.max_batch = 4}, {.tail = tail, .credit = 10000}, {.tail = tail, .max_batch = 1 << 20}};
    const cw_answerer_options bad_codec = {.tail = tail, .uplink = "zip"};
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        assert_status(cw_answerer_create(&bad[i], t, &a, &err), CW_ERR_INVALID);
        assert_null(a);
    }
    assert_status(cw_answerer_create(&bad_codec, t, &a, &err), CW_ERR_SPEC);
    cw_transport_close(&t, 0);
    cw_half_destroy(&tail);
    cw_remote *r = NULL;
    const cw_remote_options none = {.top = 1};
    assert_status(cw_remote_open("nowhere", &none, &r, &err), CW_ERR_INVALID);
    cw_remote_close(&r);
    cw_remote_close(NULL);
    cw_answerer_destroy(NULL);
}

static char inproc[] = "inproc://infer", tcp[] = "tcp://127.0.0.1:*";

#define AT(test) cmocka_unit_test_prestate(test, inproc)

int main(void)
{
    const struct CMUnitTest tests[] = {
        AT(answers_are_the_networks),
        AT(likeliest_classes),
        AT(several_clients_are_answered_together),
        AT(another_model_is_refused_with_both_names),
        AT(what_is_not_finite_harms_its_sender_alone),
        AT(a_full_server_says_so_at_once),
        AT(what_breaks_the_protocol_is_out),
        AT(who_is_lost_leaves_no_gap),
        AT(frames_leave_out_what_was_there),
        cmocka_unit_test_prestate(frames_leave_out_what_was_there, tcp),
        AT(who_reads_nothing_is_out),
        AT(nan_in_a_payload),
        AT(a_silent_client_is_forgotten),
        cmocka_unit_test(a_server_that_comes_back_is_asked_again),
        cmocka_unit_test(a_deadline_ends_in_an_error),
        cmocka_unit_test(a_server_that_stays_away_for_long),
        cmocka_unit_test(a_loop_of_ones_own),
        cmocka_unit_test(prints_of_weights),
        cmocka_unit_test(wrong_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
