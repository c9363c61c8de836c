/* test_faults.c - peers that speak garbage, another version, out of turn, or not at all: they are told and dropped, and
 * the rest goes on. Hostile peers are played over the in-process transport, from the server's own thread by its
 * progress hook or from threads. */
#include "config/setup.h"
#include "cutwire/train.h"
#include "scene.h"

#include "test.h"

/* ---- the tests ---- */

/* A time-out that an honest client keeps while it opens its data, on a busy machine too. */
enum { JOIN_SECONDS = 8 };

static void strangers_are_told_and_do_not_disturb(void **state)
{
    (void)state;
    scene *s = open_scene("strangers", 1, 60);
    actor a;
    cw_error err;
    actor_open(&a, s); /* garbage */
    assert_ok_err(cw_transport_send(a.t, 0, "GET / HTTP/1.1\r\n\r\n", 18, &err), err);
    actor_await(&a, CW_MSG_ERROR);
    assert_told(&a, "not a cutwire frame");
    actor_close(&a);
    actor_open(&a, s); /* another version */
    actor_send(&a, (cw_msg){.type = CW_MSG_HELLO, .version_min = 7, .version_max = 9});
    actor_await(&a, CW_MSG_ERROR);
    assert_int_equal(a.msg.status, CW_ERR_VERSION);
    assert_told(&a, "7 to 9");
    actor_close(&a);
    actor_open(&a, s); /* the version before, whose READY had no names */
    actor_send(&a, (cw_msg){.type = CW_MSG_HELLO, .version_min = 1, .version_max = 1});
    actor_await(&a, CW_MSG_ERROR);
    assert_int_equal(a.msg.status, CW_ERR_VERSION);
    assert_told(&a, "this server speaks protocol versions 2 to 2, the client 1 to 1: update the older");
    actor_close(&a);
    actor_open(&a, s); /* no HELLO */
    actor_send(&a, (cw_msg){.type = CW_MSG_PING});
    actor_await(&a, CW_MSG_ERROR);
    assert_told(&a, "HELLO");
    actor_close(&a);
    add_honest(s);
    join_scene(s);
    assert_ok_err(s->server_status, s->server_err);
    assert_ok_err(s->honest_status[0], s->honest_err[0]);
    assert_int_equal(s->result.epochs_done, 1);
    close_scene(s);
}

static void another_model_is_refused(void **state)
{
    (void)state;
    scene *s = open_scene("another-model", 1, 60);
    actor a;
    actor_open(&a, s);
    actor_send(&a, (cw_msg){.type = CW_MSG_HELLO,
                            .version_min = CW_WIRE_VERSION_MIN,
                            .version_max = CW_WIRE_VERSION_MAX,
                            .token = 5});
    actor_await(&a, CW_MSG_WELCOME);
    a.welcome = a.msg;
    actor_send(&a, (cw_msg){.type = CW_MSG_READY, .fingerprint = a.msg.fingerprint + 1, .samples = 5});
    actor_await(&a, CW_MSG_ERROR);
    assert_told(&a, "model");
    actor_close(&a);
    add_honest(s);
    join_scene(s);
    assert_ok_err(s->server_status, s->server_err);
    close_scene(s);
}

static void a_client_of_another_model_says_so(void **state)
{
    (void)state;
    scene *s = open_scene("expecting", 1, 60);
    s->config.join_timeout = 20;
    cw_config local;
    cw_transport *t;
    cw_error err;
    cwi_config_init(&local);
    assert_ok_err(cw_net_connect(s->endpoint, NULL, &t, &err), err);
    assert_status(cw_join(&local, "vgg19", t, NULL, &err), CW_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "cnn"));
    cw_transport_close(&t, 0);
    add_honest(s);
    join_scene(s);
    assert_ok_err(s->server_status, s->server_err);
    assert_logged(s, "vgg19");
    close_scene(s);
}

typedef enum sin { DAMAGED_PAYLOAD, WRONG_STEP, WRONG_LABEL, WRONG_SESSION, GARBAGE, LEAVES, SILENT } sin;

/* A peer that joins, takes part in the first step in a wrong way, and must be dropped while an honest client finishes.
 */
static void sinner(sin kind, const char *name, double timeout, const char *words)
{
    scene *s = open_scene(name, 2, timeout);
    actor a;
    cw_error err;
    actor_join(&a, s);
    add_honest(s);
    actor_await(&a, CW_MSG_BEGIN);
    int32_t labels[48] = {0};
    uint8_t payload[64] = "this is no payload of any codec";
    cw_msg msg = {.type = CW_MSG_ACTIVATION,
                  .phase = CW_PHASE_TRAIN,
                  .samples = 48,
                  .labels = labels,
                  .blob = payload,
                  .blob_size = sizeof payload};
    if (kind == WRONG_STEP)
        msg.step = 3;
    if (kind == WRONG_LABEL)
        labels[7] = 10;
    if (kind == WRONG_SESSION)
        a.welcome.session++;
    if (kind == LEAVES)
        msg =
            (cw_msg){.type = CW_MSG_LEAVE, .status = CW_ERR_CANCELLED, .blob = (const uint8_t *)"bye", .blob_size = 3};
    if (kind == GARBAGE)
        assert_ok_err(cw_transport_send(a.t, 0, "CWFR but then nonsense", 22, &err), err);
    else if (kind != SILENT)
        actor_send(&a, msg);
    join_scene(s);
    assert_ok_err(s->server_status, s->server_err);
    assert_ok_err(s->honest_status[0], s->honest_err[0]);
    assert_int_equal(s->result.epochs_done, 1);
    assert_int_equal(s->result.last.clients, 1);
    assert_true(s->result.last.train_samples == 250);
    assert_logged(s, words);
    actor_close(&a);
    close_scene(s);
}

static void bad_clients_are_dropped_and_the_rest_goes_on(void **state)
{
    (void)state;
    sinner(DAMAGED_PAYLOAD, "damaged", 60, "client 1 is out");
    sinner(WRONG_STEP, "wrong-step", 60, "not due");
    sinner(WRONG_LABEL, "wrong-label", 60, "label 10");
    sinner(WRONG_SESSION, "wrong-session", 60, "another run");
    sinner(GARBAGE, "garbage", 60, "client 1 is out");
    sinner(LEAVES, "leaves", 60, "bye");
}

static void a_silent_client_is_dropped_in_time(void **state)
{
    (void)state;
    sinner(SILENT, "silent", JOIN_SECONDS, "nothing that was due");
}

static void a_chatty_client_is_dropped_in_time(void **state)
{
    (void)state;
    scene *s = open_scene("chatty", 2, JOIN_SECONDS);
    actor a;
    actor_join(&a, s);
    add_honest(s);
    actor_await(&a, CW_MSG_BEGIN);
    int pings = 0;
    do {
        nap(40);
        (void)actor_try_send(&a, (cw_msg){.type = CW_MSG_PING}); /* fails once it is dropped */
    } while (actor_hears(&a, CW_MSG_PONG) && ++pings < 300);
    assert_true(pings < 300);
    join_scene(s);
    assert_ok_err(s->server_status, s->server_err);
    assert_ok_err(s->honest_status[0], s->honest_err[0]);
    assert_logged(s, "client 1 is out: it sent nothing that was due");
    actor_close(&a);
    close_scene(s);
}

/* However short the rounds of the others are. */
static void a_client_that_never_finishes_joining_is_dropped_in_time(void **state)
{
    (void)state;
    scene *s = make_scene("half-joined", 2, JOIN_SECONDS);
    actor a, b;
    s->config.epochs = 100000; /* what the server computes does not count as waiting: the time-out alone ends this */
    s->stop_at = "client 1 is out: it sent nothing that was due";
    start_scene(s);
    actor_join(&a, s);
    add_honest(s);
    actor_await(&a, CW_MSG_BEGIN);
    actor_send(&a, (cw_msg){.type = CW_MSG_LEAVE, .blob = (const uint8_t *)"bye", .blob_size = 3});
    actor_hello(&b, s);
    assert_int_equal(b.welcome.client, 0);
    join_scene(s);
    assert_ok_err(s->server_status, s->server_err);
    assert_ok_err(s->honest_status[0], s->honest_err[0]);
    assert_logged(s, s->stop_at);
    actor_close(&a);
    actor_close(&b);
    close_scene(s);
}

static void clients_that_fail_to_join_do_not_prolong_the_wait(void **state)
{
    (void)state;
    scene *s = make_scene("failing", 1, 60);
    s->config.join_timeout = 1.5;
    start_scene(s);
    int joined = 0;
    for (bool told = true; told && joined < 100; joined += told) {
        actor a;
        actor_open(&a, s);
        actor_send(&a, (cw_msg){.type = CW_MSG_HELLO,
                                .version_min = CW_WIRE_VERSION_MIN,
                                .version_max = CW_WIRE_VERSION_MAX,
                                .token = 5});
        told = actor_hears(&a, CW_MSG_WELCOME);
        if (told) {
            a.welcome = a.msg;
            a.welcome.fingerprint++;
            actor_ready(&a, 240, 0);
            told = actor_hears(&a, CW_MSG_ERROR);
        }
        actor_close(&a);
        nap(100);
    }
    assert_true(joined < 100);
    join_scene(s);
    assert_int_equal(s->server_status, CW_ERR_TIMEOUT);
    close_scene(s);
}

/* ---- a run whose only client trains by hand, and then evaluates nothing ---- */

static void train_by_hand(actor *a, const cw_config *config)
{
    static float zeros[14000];
    cwi_setup setup;
    cw_half *half;
    cw_error err;
    assert_ok_err(cwi_setup_open(config, &setup, &err), err);
    assert_ok_err(cwi_half_open(&setup, 0, setup.cut.layer, 1, &half, &err), err);
    const cw_shape *cut = &setup.cut.smashed;
    assert_true(cut->ndim == 3 && setup.smashed_count <= CWI_COUNT(zeros) &&
                cw_half_weight_count(half) <= CWI_COUNT(zeros));
    const cw_shape batch = cw_shape_of(4, (int64_t[]){1, cut->dim[0], cut->dim[1], cut->dim[2]});
    const int32_t label = 3;
    cw_msg msg = {.phase = CW_PHASE_TRAIN, .samples = 1, .labels = &label};
    actor_await(a, CW_MSG_BEGIN);
    msg.type = CW_MSG_ACTIVATION;
    actor_send_tensor(a, msg, cw_tensor_view(CW_F32, &batch, zeros));
    actor_await(a, CW_MSG_GRADIENT);
    msg.type = CW_MSG_CLIENT_GRAD;
    actor_send_tensor(a, msg, cwi_half_vector(half, zeros));
    actor_await(a, CW_MSG_UPDATE);
    msg.type = CW_MSG_PHASE_DONE;
    msg.blob = (const uint8_t *)zeros;
    msg.blob_size = cw_half_buffer_count(half) * sizeof(float);
    actor_send(a, msg);
    cw_half_destroy(&half);
    cwi_setup_close(&setup);
}

static void an_evaluation_without_clients_is_not_recorded(void **state)
{
    (void)state;
    scene *s = make_scene("unfinished", 1, 60);
    s->stop_at = "client 1 is out";
    start_scene(s);
    actor a;
    actor_hello(&a, s);
    actor_ready(&a, 1, 5);
    train_by_hand(&a, &s->config);
    actor_await(&a, CW_MSG_BEGIN);
    actor_send(&a, (cw_msg){.type = CW_MSG_PHASE_DONE, .phase = CW_PHASE_EVAL});
    join_scene(s);
    assert_logged(s, "it evaluated 0 of the 5 test samples");
    assert_ok_err(s->server_status, s->server_err);
    assert_true(s->result.stopped);
    assert_int_equal(s->result.epochs_done, 0);
    actor_close(&a);
    close_scene(s);
}

static void a_failed_run_is_a_failure_to_its_clients_too(void **state)
{
    (void)state;
    scene *s = make_scene("failed", 2, 60);
    s->config.join_timeout = 2;
    start_scene(s);
    add_honest(s);
    join_scene(s);
    assert_int_equal(s->server_status, CW_ERR_TIMEOUT);
    assert_int_equal(s->honest_status[0], CW_ERR_TIMEOUT);
    assert_non_null(strstr(s->honest_err[0].message, "ended this client's run"));
    assert_non_null(strstr(s->honest_err[0].message, "of 2 clients joined"));
    close_scene(s);
}

static void too_few_clients_end_the_wait(void **state)
{
    (void)state;
    cw_config config = small_config(2, "none", "none");
    cw_transport *t;
    cw_result result;
    cw_error err;
    config.join_timeout = 0.5;
    assert_ok(cw_net_listen("inproc://lonely", NULL, &t, &err));
    assert_status(cw_serve(&config, t, NULL, &result, &err), CW_ERR_TIMEOUT);
    assert_non_null(strstr(err.message, "0 of 2 clients"));
    cw_transport_close(&t, 0);
}

static void a_client_does_not_wait_for_ever(void **state)
{
    (void)state;
    cw_config local;
    cw_transport *server, *t;
    cw_error err;
    cwi_config_init(&local);
    local.join_timeout = 0.5;
    assert_ok(cw_net_listen("inproc://deaf", NULL, &server, &err));
    assert_ok(cw_net_connect("inproc://deaf", NULL, &t, &err));
    assert_status(cw_join(&local, NULL, t, NULL, &err), CW_ERR_TIMEOUT);
    assert_non_null(strstr(err.message, "is the server running"));
    cw_transport_close(&t, 0);
    cw_transport_close(&server, 0);
}

static void divergence_is_reported(void **state)
{
    (void)state;
    cw_config config = small_config(1, "none", "none");
    cw_result result;
    cw_error err;
    config.lr = 1000;
    snprintf(config.schedule, sizeof config.schedule, "constant");
    config.epochs = 20;
    cw_status split = cw_train_inproc(&config, NULL, &result, &err);
    /* Batch norm may keep even such a run finite; what must not happen is a crash or a silent NaN. */
    if (split != CW_OK) {
        assert_int_equal(split, CW_ERR_DIVERGED);
        assert_non_null(strstr(err.message, "learning rate"));
    }
}

static void a_run_stops_when_asked(void **state)
{
    (void)state;
    volatile sig_atomic_t stop = 1;
    cw_hooks hooks = {.stop = &stop};
    cw_config config = small_config(1, "none", "none");
    cw_result result;
    cw_error err;
    use_folder(&config, "stopped");
    assert_ok_err(cw_train_inproc(&config, &hooks, &result, &err), err);
    assert_true(result.stopped);
    assert_int_equal(result.epochs_done, 0);
    config.overwrite = true;
    assert_ok_err(cw_train_unsplit(&config, &hooks, &result, &err), err);
    assert_true(result.stopped);
}

int main(void)
{
    require_data();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strangers_are_told_and_do_not_disturb),
        cmocka_unit_test(another_model_is_refused),
        cmocka_unit_test(a_client_of_another_model_says_so),
        cmocka_unit_test(bad_clients_are_dropped_and_the_rest_goes_on),
        cmocka_unit_test(a_silent_client_is_dropped_in_time),
        cmocka_unit_test(a_chatty_client_is_dropped_in_time),
        cmocka_unit_test(a_client_that_never_finishes_joining_is_dropped_in_time),
        cmocka_unit_test(clients_that_fail_to_join_do_not_prolong_the_wait),
        cmocka_unit_test(an_evaluation_without_clients_is_not_recorded),
        cmocka_unit_test(a_failed_run_is_a_failure_to_its_clients_too),
        cmocka_unit_test(too_few_clients_end_the_wait),
        cmocka_unit_test(a_client_does_not_wait_for_ever),
        cmocka_unit_test(divergence_is_reported),
        cmocka_unit_test(a_run_stops_when_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
