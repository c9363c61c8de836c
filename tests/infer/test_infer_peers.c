/* test_infer_peers.c - peers played by hand against a server that answers requests: each that breaks the protocol is
 * out with the reason, and the honest client beside it has all its answers. */
#include <math.h>

#include "base/base.h"
#include "codec/payload.h"
#include "cutwire/codec.h"
#include "cutwire/wire.h"
#include "scene.h"
#include "test.h"

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
    pause_scene(s);
    assert_words(s->log, "does not read");
    resume_scene(s);
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

static char inproc[] = "inproc://infer-peers", tcp[] = "tcp://127.0.0.1:*";

#define AT(test) cmocka_unit_test_prestate(test, inproc)

int main(void)
{
    const struct CMUnitTest tests[] = {
        AT(what_breaks_the_protocol_is_out), AT(who_is_lost_leaves_no_gap),
        AT(frames_leave_out_what_was_there), cmocka_unit_test_prestate(frames_leave_out_what_was_there, tcp),
        AT(who_reads_nothing_is_out),        AT(nan_in_a_payload),
        AT(a_silent_client_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
