/* test_return.c - clients that come back: who they are, and that they go on where the run is. */
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "../net/tcp_proxy.h"
#include "config/setup.h"
#include "cutwire/io.h"
#include "cutwire/train.h"
#include "net/transport.h"
#include "scene.h"
#include "session/identity.h"

#include "test.h"

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void an_identity_is_made_once_and_read_again(void **state)
{
    (void)state;
    char path[200];
    cwi_identity made, read;
    cw_error err;
    struct stat info;
    snprintf(path, sizeof path, "/tmp/cutwire-identity-%d", (int)getpid());
    assert_ok_err(cwi_identity_open(path, &made, &err), err);
    assert_ok_err(cwi_identity_open(path, &read, &err), err);
    assert_true(made.token && made.token == read.token && read.place == UINT32_MAX);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(info.st_size, 17);
    for (uint32_t place = 0; place < 12; place += 11) {
        assert_ok_err(cwi_identity_keep_place(path, &made, place, &err), err);
        assert_ok_err(cwi_identity_open(path, &read, &err), err);
        assert_true(made.token == read.token && read.place == place);
    }
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    unlink(path);
    assert_status(cwi_identity_open("/nowhere/identity", &read, &err), CW_ERR_IO);
    assert_non_null(strstr(err.message, "/nowhere/identity"));
    assert_status(cwi_identity_keep_place("/nowhere/identity", &made, 5, &err), CW_ERR_IO);
}

static void what_is_no_identity_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "0123456789",
                                        "0000000000000000\n",
                                        "0123456789abcdeg\n",
                                        "0123456789abcdef",
                                        "0123456789abcdef\nclient 0\n",
                                        "0123456789abcdef\nclient -1\n",
                                        "0123456789abcdef\nclient 1",
                                        "0123456789abcdef\nclient 4294967296\n",
                                        "0123456789abcdef\nclient 1\nclient 2\n",
                                        "0123456789abcdef\nsomething else\n"};
    char path[200];
    cwi_identity read;
    cw_error err;
    snprintf(path, sizeof path, "/tmp/cutwire-identity-%d", (int)getpid());
    for (size_t i = 0; i < CWI_COUNT(texts); i++) {
        write_text(path, texts[i]);
        assert_status(cwi_identity_open(path, &read, &err), CW_ERR_CORRUPT);
        assert_non_null(strstr(err.message, path));
    }
    unlink(path);
}

static void greet_as(actor *a, uint64_t token, uint32_t wish)
{
    uint8_t frame[100];
    size_t size;
    const cw_msg hello = {.type = CW_MSG_HELLO,
                          .client = wish,
                          .version_min = CW_WIRE_VERSION_MIN,
                          .version_max = CW_WIRE_VERSION_MAX,
                          .token = token};
    assert_ok(cw_msg_encode(&hello, frame, sizeof frame, &size, NULL));
    assert_ok(cw_transport_send(a->t, 0, frame, size, NULL));
    actor_await(a, CW_MSG_WELCOME);
    a->welcome = a->msg;
}

static void greet_with(actor *a, const scene *s, uint64_t token, uint32_t wish)
{
    actor_open(a, s);
    greet_as(a, token, wish);
}

/* The server knows nobody: who is there first does not get the other's place. */
static void an_identity_knows_its_place(void **state)
{
    (void)state;
    char path[200];
    cw_error err;
    cwi_identity id;
    snprintf(path, sizeof path, "/tmp/cutwire-identity-%d", (int)getpid());
    write_text(path, "0123456789abcdef\nclient 2\n");
    scene *s = make_scene("places", 2, 60);
    snprintf(s->config.identity, sizeof s->config.identity, "%s", path);
    start_scene(s);
    add_honest(s);
    nap(500);
    actor other;
    greet_with(&other, s, 5, UINT32_MAX);
    assert_int_equal(other.welcome.client, 0);
    actor_ready(&other, 240, 0);
    actor_await(&other, CW_MSG_BEGIN);
    actor_send(&other, (cw_msg){.type = CW_MSG_LEAVE, .blob = (const uint8_t *)"bye", .blob_size = 3});
    join_scene(s);
    assert_ok_err(s->honest_status[0], s->honest_err[0]);
    assert_ok_err(cwi_identity_open(path, &id, &err), err);
    assert_int_equal(id.place, 1);
    unlink(path);
    actor_close(&other);
    close_scene(s);
}

enum { TOKEN = 77 };

/* A client of this token is in the first step, and an honest one, whose activations are there. */
static scene *open_waiting(const char *name, actor *first)
{
    scene *s = open_scene(name, 2, 60);
    greet_with(first, s, TOKEN, UINT32_MAX);
    actor_ready(first, 240, 0);
    add_honest(s);
    actor_await(first, CW_MSG_BEGIN);
    nap(300);
    return s;
}

/* Who has said hello again gets the place of the first, and what it needs for the step; then it leaves. */
static void take_place_back(scene *s, actor *first, actor *again)
{
    assert_int_equal(again->welcome.client, first->welcome.client);
    actor_ready(again, 240, 0);
    actor_await(again, CW_MSG_STATE);
    actor_await(again, CW_MSG_BEGIN);
    assert_int_equal(again->msg.step, 0);
    assert_int_equal(again->msg.phase, CW_PHASE_TRAIN);
    actor_send(again, (cw_msg){.type = CW_MSG_LEAVE, .blob = (const uint8_t *)"bye", .blob_size = 3});
    join_scene(s);
    assert_ok_err(s->server_status, s->server_err);
    assert_ok_err(s->honest_status[0], s->honest_err[0]);
    assert_true(s->result.last.train_samples == 250);
    actor_close(first);
    actor_close(again);
    close_scene(s);
}

/* The step waits for it, and it gets what it needs for that step. */
static void a_client_takes_its_place_back_within_the_step(void **state)
{
    (void)state;
    actor first, again;
    scene *s = open_waiting("back", &first);
    greet_with(&again, s, TOKEN, UINT32_MAX);
    actor_await(&first, CW_MSG_ERROR);
    assert_told(&first, "came back by another connection");
    take_place_back(s, &first, &again);
}

/* Killed again while it joins: its place is held like that of one that takes part, and the step goes on waiting. */
static void a_client_that_fails_to_come_back_is_waited_for(void **state)
{
    (void)state;
    actor first, fails, again;
    scene *s = open_waiting("again", &first);
    greet_with(&fails, s, TOKEN, UINT32_MAX);
    actor_close(&fails);
    nap(1500); /* the server has seen it */
    greet_with(&again, s, TOKEN, UINT32_MAX);
    take_place_back(s, &first, &again);
}

enum { BATCH = 48 }; /* small_config's */

static void send_batch(actor *a, const scene *s)
{
    cw_error err;
    cwi_setup setup;
    const int32_t labels[BATCH] = {0};
    assert_ok_err(cwi_setup_open(&s->config, &setup, &err), err);
    float *values = cwi_calloc(BATCH * setup.smashed_count, sizeof *values);
    assert_non_null(values);
    const int64_t *dim = setup.cut.smashed.dim;
    const cw_shape shape = cw_shape_of(4, (int64_t[]){BATCH, dim[0], dim[1], dim[2]});
    const cw_msg msg = {.type = CW_MSG_ACTIVATION, .phase = CW_PHASE_TRAIN, .samples = BATCH, .labels = labels};
    actor_send_tensor(a, msg, cw_tensor_view(CW_F32, &shape, values));
    cwi_free(values);
    cwi_setup_close(&setup);
}

/* Its batch is taken already, so that the step ends without its gradient: but the next one waits for it. */
static void the_next_step_waits_for_who_comes_back(void **state)
{
    (void)state;
    scene *s = open_scene("next", 2, 60);
    actor first, again;
    greet_with(&first, s, 78, UINT32_MAX);
    actor_ready(&first, 2 * BATCH, 0);
    add_honest(s);
    actor_await(&first, CW_MSG_BEGIN);
    send_batch(&first, s);
    actor_await(&first, CW_MSG_GRADIENT);
    greet_with(&again, s, 78, UINT32_MAX);
    nap(300); /* the honest client would be far ahead by now */
    actor_ready(&again, 2 * BATCH, 0);
    actor_await(&again, CW_MSG_BEGIN);
    assert_int_equal(again.msg.step, 1);
    actor_send(&again, (cw_msg){.type = CW_MSG_LEAVE, .blob = (const uint8_t *)"bye", .blob_size = 3});
    join_scene(s);
    assert_ok_err(s->server_status, s->server_err);
    assert_ok_err(s->honest_status[0], s->honest_err[0]);
    assert_true(s->result.last.train_samples == 250 + BATCH);
    actor_close(&first);
    actor_close(&again);
    close_scene(s);
}

/* A server that has begun anew knows no tokens: clients say which place they had. A token of 0 is nobody's. */
static void a_client_gets_the_place_that_it_asks_for(void **state)
{
    (void)state;
    scene *s = make_scene("asks", 3, 60);
    s->config.join_timeout = 2;
    start_scene(s);
    actor a, b, c;
    greet_with(&a, s, 0, 2);
    greet_with(&b, s, 0, 2); /* taken */
    greet_with(&c, s, 0, 4000000);
    assert_int_equal(a.welcome.client, 2);
    assert_int_equal(b.welcome.client, 0);
    assert_int_equal(c.welcome.client, 1);
    join_scene(s);
    assert_int_equal(s->server_status, CW_ERR_TIMEOUT);
    actor_close(&a);
    actor_close(&b);
    actor_close(&c);
    close_scene(s);
}

/* ---- a server that has begun anew ---- */

static void say_hello(actor *a, const scene *s, uint64_t token, uint32_t wish)
{
    uint8_t frame[100];
    size_t size;
    const cw_msg hello = {.type = CW_MSG_HELLO, .client = wish, .version_min = 2, .version_max = 2, .token = token};
    actor_open(a, s);
    assert_ok(cw_msg_encode(&hello, frame, sizeof frame, &size, NULL));
    assert_ok(cw_transport_send(a->t, 0, frame, size, NULL));
}

static void write_places(const char *folder, const uint64_t *tokens, size_t count)
{
    char path[sizeof((cw_config *)0)->out + 40], text[400] = "{\"format\":1,\"places\":[";
    cw_key key;
    for (size_t i = 0; i < count; i++) {
        assert_ok(cwi_key_of_token(tokens[i], &key, NULL));
        const size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s\"%s\"", i ? "," : "", key.text);
    }
    strcat(text, "]}");
    snprintf(path, sizeof path, "%s/places.json", folder);
    write_text(path, text);
}

/* A run of one epoch, the same for all tests, goes on with the next. Yet to be started. */
static scene *make_resumed(const char *name, double grace)
{
    static const uint64_t owners[] = {77, 78};
    static cw_config config;
    cw_result result;
    cw_error err;
    if (!*config.out) {
        config = tiny_config(2, "ms:r=0.99,b=2", "none");
        config.epochs = 1;
        use_folder(&config, "owners");
        assert_ok_err(cw_train_inproc(&config, NULL, &result, &err), err);
    }
    write_places(config.out, owners, CWI_COUNT(owners));
    scene *s = make_scene(name, 2, 60);
    s->config = config;
    s->config.epochs = 2;
    s->config.join_timeout = 3;
    s->config.grace = grace;
    snprintf(s->config.resume, sizeof s->config.resume, "%s", config.out);
    return s;
}

static void assert_refused(actor *a, const char *words)
{
    actor_await(a, CW_MSG_ERROR);
    assert_told(a, words);
    actor_close(a);
}

/* Others come first: one that says it had the place, and one that asks for any. */
static void a_restarted_server_holds_places_for_their_owners(void **state)
{
    (void)state;
    scene *s = make_resumed("held", 60);
    start_scene(s);
    actor liar, stranger, first, second;
    say_hello(&liar, s, 5, 0);
    say_hello(&stranger, s, 6, UINT32_MAX);
    assert_refused(&liar, "not who had the place of client 1, which is held for that one");
    greet_with(&second, s, 78, UINT32_MAX);
    assert_int_equal(second.welcome.client, 1);
    greet_with(&first, s, 77, UINT32_MAX);
    assert_int_equal(first.welcome.client, 0);
    assert_refused(&stranger, "all 2 places of this run are taken");
    join_scene(s);
    assert_int_equal(s->server_status, CW_ERR_TIMEOUT);
    assert_logged(s, "a client waits: what places are free are held for who had them");
    actor_close(&first);
    actor_close(&second);
    close_scene(s);
}

/* Their owners stay away. Whoever has a claim to a place of no owner, or to none, has it at last. */
static void who_waits_gets_a_place_that_nobody_came_for(void **state)
{
    (void)state;
    scene *s = make_resumed("expires", 1);
    s->config.join_timeout = 0.7; /* nobody has joined by then, but somebody waits */
    start_scene(s);
    actor waits, again, also;
    say_hello(&waits, s, 6, UINT32_MAX);
    nap(300);
    say_hello(&again, s, 77, 1); /* the first one's owner, whatever it says */
    actor_await(&again, CW_MSG_WELCOME);
    assert_int_equal(again.msg.client, 0);
    actor_await(&waits, CW_MSG_WELCOME);
    assert_int_equal(waits.msg.client, 1);
    say_hello(&also, s, 78, UINT32_MAX); /* too late */
    assert_refused(&also, "all 2 places of this run are taken");
    join_scene(s);
    assert_int_equal(s->server_status, CW_ERR_TIMEOUT);
    actor_close(&waits);
    actor_close(&again);
    close_scene(s);
}

/* A file that is damaged holds no place, and the run goes on. */
static void places_that_cannot_be_read_are_not_held(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "[]",
                                        "{\"format\":2,\"places\":[]}",
                                        "{\"format\":1,\"places\":[7]}",
                                        "{\"format\":1,\"places\":[\"\",\"short\"]}",
                                        "{\"format\":1,\"places\":{}}"};
    for (size_t i = 0; i < CWI_COUNT(texts); i++) {
        char path[sizeof((cw_config *)0)->out + 40];
        scene *s = make_resumed("damaged", 60);
        s->config.join_timeout = 0.2;
        snprintf(path, sizeof path, "%s/places.json", s->config.out);
        write_text(path, texts[i]);
        start_scene(s);
        actor anybody;
        greet_with(&anybody, s, 5, 1);
        assert_int_equal(anybody.welcome.client, 1);
        join_scene(s);
        assert_logged(s, "does not tell whose the places were");
        actor_close(&anybody);
        close_scene(s);
    }
}

static bool file_says(const char *path, const char *expected)
{
    uint8_t *text;
    size_t size;
    if (cw_file_read(path, &text, &size, NULL) != CW_OK)
        return false;
    const bool same = size == strlen(expected) && memcmp(text, expected, size) == 0;
    cw_bytes_free(text);
    return same;
}

/* What is kept while clients are there, and no longer. */
static void a_server_keeps_whose_its_places_are(void **state)
{
    (void)state;
    char path[sizeof((cw_config *)0)->out + 40];
    cw_key key;
    scene *s = make_scene("keeps", 2, 60);
    use_folder(&s->config, "keeps");
    snprintf(path, sizeof path, "%s/places.json", s->config.out);
    start_scene(s);
    actor a, nobody;
    greet_with(&a, s, 79, UINT32_MAX);
    greet_with(&nobody, s, 0, UINT32_MAX);
    assert_ok(cwi_key_of_token(79, &key, NULL));
    char expected[100];
    snprintf(expected, sizeof expected, "{\"format\":1,\"places\":[\"%s\",\"\"]}", key.text);
    for (int i = 0; i < 150 && !file_says(path, expected); i++) /* written at a tick, on a disk that may be slow */
        nap(100);
    assert_true(file_says(path, expected));
    s->stop = 1;
    join_scene(s);
    assert_int_not_equal(access(path, F_OK), 0);
    actor_close(&a);
    actor_close(&nobody);
    close_scene(s);
}

/* Whoever comes with a key gets the place of that key, whatever else it says of itself, and no other one's. */
static void a_key_owns_one_place(void **state)
{
    (void)state;
    cw_key secret[3], public[3];
    for (size_t i = 0; i < CWI_COUNT(secret); i++)
        assert_int_equal(zmq_curve_keypair(public[i].text, secret[i].text), 0);
    const cw_net_options server = {.secret_key = &secret[0], .client_keys = &public[1], .client_key_count = 2};
    const cw_net_options alice = {.secret_key = &secret[1], .server_key = &public[0]};
    const cw_net_options bob = {.secret_key = &secret[2], .server_key = &public[0]};
    scene *s = make_scene_at("tcp://127.0.0.1:*", &server, 3, 60);
    s->config.join_timeout = 3;
    start_scene(s);
    actor a, b, again;
    actor_open_with(&a, s, &alice);
    greet_as(&a, 77, UINT32_MAX);
    actor_open_with(&b, s, &bob);
    greet_as(&b, 88, UINT32_MAX);
    actor_ready(&b, 10, 0);
    assert_int_equal(a.welcome.client, 0);
    assert_int_equal(b.welcome.client, 1);
    actor_open_with(&again, s, &alice);
    greet_as(&again, 88, 1); /* bob's token, and his place */
    assert_int_equal(again.welcome.client, 0);
    actor_await(&a, CW_MSG_ERROR);
    assert_told(&a, "came back by another connection");
    actor_ready(&again, 10, 0);
    actor_await(&b, CW_MSG_ERROR); /* at the end alone */
    assert_told(&b, "2 of 3 clients joined");
    join_scene(s);
    assert_int_equal(s->server_status, CW_ERR_TIMEOUT);
    actor_close(&a);
    actor_close(&b);
    actor_close(&again);
    close_scene(s);
}

/* Beside a deadline neither the end of training nor an evaluation waits for a client that says nothing, and what it
 * says of them afterwards is no fault. */
static void a_phase_ends_without_a_silent_client(void **state)
{
    (void)state;
    scene *s = make_scene("silent", 2, 60);
    s->config.step_deadline = 1;
    start_scene(s);
    actor silent;
    actor_open(&silent, s);
    greet_as(&silent, 0, UINT32_MAX);
    actor_ready(&silent, 16, 10);
    add_honest(s);
    do
        actor_await(&silent, CW_MSG_BEGIN);
    while (silent.msg.phase != CW_PHASE_EVAL);
    actor_send(&silent, (cw_msg){.type = CW_MSG_PHASE_DONE, .phase = CW_PHASE_TRAIN, .epoch = silent.msg.epoch});
    actor_await(&silent, CW_MSG_END);
    join_scene(s);
    assert_ok_err(s->server_status, s->server_err);
    assert_ok_err(s->honest_status[0], s->honest_err[0]);
    assert_logged(s, "is silent: the training of epoch 1 ends without it");
    assert_logged(s, "is silent: the evaluation of epoch 1 ends without it");
    assert_int_equal(s->result.last.clients, 2);
    actor_close(&silent);
    close_scene(s);
}

/* Its place is held for a while, so that it owes anew from each look at it: but neither steps nor the end of a phase
 * wait for longer than the deadline. */
static void a_broken_connection_is_late(void **state)
{
    (void)state;
    scene *s = make_scene_at("tcp://127.0.0.1:*", NULL, 2, 60);
    s->config.step_deadline = 0.5;
    s->config.grace = 120;
    start_scene(s);
    tcp_proxy *link = tcp_proxy_start(s->endpoint);
    assert_non_null(link);
    actor away = {.t = NULL};
    cw_error err;
    assert_ok_err(cw_net_connect(tcp_proxy_endpoint(link), NULL, &away.t, &err), err);
    greet_as(&away, 0, UINT32_MAX);
    actor_ready(&away, 240, 0);
    add_honest(s);
    actor_await(&away, CW_MSG_BEGIN);
    tcp_proxy_stop(link); /* whoever connects again finds nobody */
    join_scene(s);
    assert_ok_err(s->server_status, s->server_err);
    assert_ok_err(s->honest_status[0], s->honest_err[0]);
    assert_logged(s, "client 1: its connection is broken");
    assert_logged(s, "client 1 is late: 1 of this run's steps went on without it so far !client_late");
    assert_logged(s, "is silent: the training of epoch 1 ends without it !client_late");
    assert_null(strstr(s->log, "client 1 is out"));
    assert_int_equal(s->result.last.clients, 2);
    assert_true(s->result.last.train_samples == 250);
    actor_close(&away);
    close_scene(s);
}

int main(void)
{
    require_data();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_identity_is_made_once_and_read_again),
        cmocka_unit_test(what_is_no_identity_is_refused),
        cmocka_unit_test(an_identity_knows_its_place),
        cmocka_unit_test(a_client_takes_its_place_back_within_the_step),
        cmocka_unit_test(a_client_that_fails_to_come_back_is_waited_for),
        cmocka_unit_test(the_next_step_waits_for_who_comes_back),
        cmocka_unit_test(a_client_gets_the_place_that_it_asks_for),
        cmocka_unit_test(a_restarted_server_holds_places_for_their_owners),
        cmocka_unit_test(who_waits_gets_a_place_that_nobody_came_for),
        cmocka_unit_test(places_that_cannot_be_read_are_not_held),
        cmocka_unit_test(a_server_keeps_whose_its_places_are),
        cmocka_unit_test(a_key_owns_one_place),
        cmocka_unit_test(a_phase_ends_without_a_silent_client),
        cmocka_unit_test(a_broken_connection_is_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
