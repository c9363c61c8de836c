/* test_faults.c - peers that speak garbage, another version, out of turn, or not at all: they are told and dropped, and
 * the rest goes on. Hostile peers are played over the in-process transport, from the server's own thread by its
 * progress hook or from threads. */
#include <pthread.h>

#include "base/base.h"
#include "cutwire/wire.h"
#include "train_test.h"

#include "test.h"

/* ---- one honest run beside one hostile peer ---- */

typedef struct scene {
    cw_config config;
    cw_transport *server_end;
    char endpoint[64];
    pthread_t server, honest[4];
    int honest_count;
    cw_status server_status, honest_status[4];
    cw_error server_err, honest_err[4];
    cw_result result;
    char log[4000];
} scene;

static void collect_log(void *ctx, const cw_event *e)
{
    scene *s = ctx;
    size_t used = strlen(s->log);
    if (e->kind == CW_EVENT_LOG)
        snprintf(s->log + used, sizeof s->log - used, "%s\n", e->text);
}

static void *server_main(void *arg)
{
    scene *s = arg;
    cw_hooks hooks = {.ctx = s, .event = collect_log};
    s->server_status = cw_serve(&s->config, s->server_end, &hooks, &s->result, &s->server_err);
    return NULL;
}

typedef struct honest_arg {
    scene *s;
    int i;
} honest_arg;

static void *honest_main(void *arg)
{
    honest_arg a = *(honest_arg *)arg;
    free(arg);
    cw_config local;
    cw_config_init(&local);
    local.threads = 1;
    local.loader_threads = 0;
    cw_transport *t;
    a.s->honest_status[a.i] = cw_net_connect(a.s->endpoint, NULL, &t, &a.s->honest_err[a.i]);
    if (a.s->honest_status[a.i] != CW_OK)
        return NULL;
    a.s->honest_status[a.i] = cw_join(&local, NULL, t, NULL, &a.s->honest_err[a.i]);
    cw_transport_close(&t, 100);
    return NULL;
}

static scene *open_scene(const char *name, int clients, double timeout)
{
    scene *s = calloc(1, sizeof *s);
    cw_error err;
    s->config = small_config(clients, "ms:r=0.99,b=2", "none");
    s->config.epochs = 1;
    s->config.timeout = timeout;
    s->config.join_timeout = 20;
    snprintf(s->endpoint, sizeof s->endpoint, "inproc://%s", name);
    assert_ok_err(cw_net_listen(s->endpoint, NULL, &s->server_end, &err), err);
    assert_int_equal(pthread_create(&s->server, NULL, server_main, s), 0);
    return s;
}

static void add_honest(scene *s)
{
    honest_arg *arg = malloc(sizeof *arg);
    *arg = (honest_arg){s, s->honest_count};
    assert_int_equal(pthread_create(&s->honest[s->honest_count++], NULL, honest_main, arg), 0);
}

static void join_scene(scene *s)
{
    for (int i = 0; i < s->honest_count; i++)
        pthread_join(s->honest[i], NULL);
    pthread_join(s->server, NULL);
}

static void close_scene(scene *s)
{
    cw_transport_close(&s->server_end, 0);
    free(s);
}

static void assert_logged(const scene *s, const char *words)
{
    if (!strstr(s->log, words))
        fail_msg("the log does not say '%s':\n%s", words, s->log);
}

/* ---- a peer played by hand ---- */

typedef struct actor {
    cw_transport *t;
    cw_msg welcome;
    cw_frame last;
    cw_msg msg; /* of `last` */
} actor;

static void actor_open(actor *a, const scene *s)
{
    cw_error err;
    memset(a, 0, sizeof *a);
    assert_ok_err(cw_net_connect(s->endpoint, NULL, &a->t, &err), err);
}

static void actor_send(actor *a, cw_msg msg)
{
    uint8_t frame[70000];
    size_t size;
    cw_error err;
    msg.client = a->welcome.type ? a->welcome.client : UINT32_MAX;
    msg.session = a->welcome.session;
    assert_ok_err(cw_msg_encode(&msg, frame, sizeof frame, &size, &err), err);
    assert_ok_err(cw_transport_send(a->t, 0, frame, size, &err), err);
}

/* Waits for a message of this type, skipping others. */
static void actor_await(actor *a, cw_msg_type type)
{
    cw_error err;
    do {
        cw_frame_release(&a->last);
        assert_ok_err(cw_transport_recv(a->t, 20000, &a->last, &err), err);
        assert_ok_err(cw_msg_decode(a->last.bytes, a->last.size, &a->msg, &err), err);
    } while (a->msg.type != type);
}

static void actor_join(actor *a, const scene *s)
{
    actor_open(a, s);
    actor_send(a, (cw_msg){.type = CW_MSG_HELLO, .version_min = 1, .version_max = 1, .token = 99});
    actor_await(a, CW_MSG_WELCOME);
    a->welcome = a->msg;
    actor_send(a, (cw_msg){.type = CW_MSG_READY, .config_hash = a->msg.config_hash, .samples = 240, .test_samples = 0});
}

static void actor_close(actor *a)
{
    cw_frame_release(&a->last);
    cw_transport_close(&a->t, 0);
}

static void assert_told(const actor *a, const char *words)
{
    char text[500];
    snprintf(text, sizeof text, "%.*s", (int)a->msg.blob_size, (const char *)a->msg.blob);
    if (!strstr(text, words))
        fail_msg("the server said '%s', not '%s'", text, words);
}

/* ---- the tests ---- */

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
    actor_send(&a, (cw_msg){.type = CW_MSG_HELLO, .version_min = 1, .version_max = 1, .token = 5});
    actor_await(&a, CW_MSG_WELCOME);
    a.welcome = a.msg;
    actor_send(&a, (cw_msg){.type = CW_MSG_READY, .config_hash = a.msg.config_hash + 1, .samples = 5});
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
    cw_config_init(&local);
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
    sinner(SILENT, "silent", 2, "nothing that was due");
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
    cw_config_init(&local);
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
        cmocka_unit_test(too_few_clients_end_the_wait),
        cmocka_unit_test(a_client_does_not_wait_for_ever),
        cmocka_unit_test(divergence_is_reported),
        cmocka_unit_test(a_run_stops_when_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
