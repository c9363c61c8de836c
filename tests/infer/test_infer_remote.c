/* test_infer_remote.c - requests and answers across a cut: several clients, several sizes, what is refused. */
#include <math.h>
#include <poll.h>
#include <stdatomic.h>

#include "base/base.h"
#include "scene.h"
#include "test.h"

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
    pause_scene(s);
    const cw_answerer_stats stats = cw_answerer_get_stats(s->answerer);
    assert_true(stats.requests == CLIENTS * 30 && stats.samples == CLIENTS * 30 && stats.clients == CLIENTS);
    assert_true(stats.batches < stats.requests / 2 && stats.refused == 0);
    assert_true(stats.p50 > 0 && stats.p50 <= stats.p95 && stats.p95 <= stats.p99);
    resume_scene(s);
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
    assert_words(err.message, "the one place of this run is taken");
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

static char inproc[] = "inproc://infer";

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
        cmocka_unit_test(a_loop_of_ones_own),
        cmocka_unit_test(prints_of_weights),
        cmocka_unit_test(wrong_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
