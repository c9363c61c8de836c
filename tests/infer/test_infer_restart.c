/* test_infer_restart.c - servers that go and come back, and deadlines of those that ask them. */
#include "base/base.h"
#include "scene.h"
#include "test.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_that_comes_back_is_asked_again),
        cmocka_unit_test(a_deadline_ends_in_an_error),
        cmocka_unit_test(a_server_that_stays_away_for_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
