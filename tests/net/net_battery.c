/* net_battery.c - what holds for every transport, whatever carries the frames. */
#include "net_battery.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/base.h"

static const char *endpoint;
static cw_net_options server_keys, client_keys;

void use_keys(const cw_net_options *server, const cw_net_options *client)
{
    server_keys = *server;
    client_keys = *client;
}

/* The options given, with the keys in use. */
static cw_net_options with_keys(const cw_net_options *options, const cw_net_options *keys)
{
    cw_net_options o = options ? *options : (cw_net_options){0};
    o.secret_key = keys->secret_key;
    o.server_key = keys->server_key;
    o.client_keys = keys->client_keys;
    o.client_key_count = keys->client_key_count;
    return o;
}

cw_transport *listen_on(const char *where, const cw_net_options *options)
{
    cw_transport *t;
    cw_error err;
    cw_net_options o = with_keys(options, &server_keys);
    assert_ok_err(cw_net_listen(where, &o, &t, &err), err);
    return t;
}

cw_transport *connect_to(const char *where, const cw_net_options *options)
{
    cw_transport *t;
    cw_error err;
    cw_net_options o = with_keys(options, &client_keys);
    assert_ok_err(cw_net_connect(where, &o, &t, &err), err);
    return t;
}

void send_text(cw_transport *t, cw_peer peer, const char *text)
{
    cw_error err;
    assert_ok_err(cw_transport_send(t, peer, text, strlen(text), &err), err);
}

cw_peer expect_text(cw_transport *t, const char *text)
{
    cw_frame frame;
    cw_error err;
    assert_ok_err(cw_transport_recv(t, PATIENCE_MS, &frame, &err), err);
    assert_int_equal(frame.size, strlen(text));
    assert_memory_equal(frame.bytes, text, frame.size);
    cw_peer peer = frame.peer;
    assert_true(peer != 0);
    cw_frame_release(&frame);
    return peer;
}

void expect_silence(cw_transport *t, int ms)
{
    cw_frame frame;
    assert_status(cw_transport_recv(t, ms, &frame, NULL), CW_ERR_TIMEOUT);
    assert_null(frame.owner);
}

/* ---- one server, one client ---- */

static void frames_go_both_ways(void **state)
{
    (void)state;
    cw_transport *server = listen_on(endpoint, NULL);
    cw_transport *client = connect_to(cw_transport_endpoint(server), NULL);
    send_text(client, 0, "hello");
    cw_peer peer = expect_text(server, "hello");
    send_text(server, peer, "welcome");
    expect_text(client, "welcome");
    send_text(client, 0, ""); /* an empty frame is a frame */
    assert_true(expect_text(server, "") == peer);
    cw_net_stats stats = cw_transport_stats(client);
    assert_true(stats.frames_sent == 2 && stats.frames_received == 1);
    assert_true(stats.bytes_sent >= 5 && stats.bytes_received >= 7);
    stats = cw_transport_stats(server);
    assert_true(stats.frames_sent == 1 && stats.frames_received == 2);
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
    assert_null(server);
    cw_transport_close(&server, 0);
    cw_transport_close(NULL, 0);
}

static void frames_keep_their_order(void **state)
{
    (void)state;
    enum { FRAMES = 3000 };
    cw_transport *server = listen_on(endpoint, NULL), *client = connect_to(cw_transport_endpoint(server), NULL);
    for (uint32_t i = 0; i < FRAMES; i++)
        assert_ok(cw_transport_send(client, 0, &i, sizeof i, NULL));
    for (uint32_t i = 0; i < FRAMES; i++) {
        cw_frame frame;
        uint32_t got;
        assert_ok(cw_transport_recv(server, PATIENCE_MS, &frame, NULL));
        memcpy(&got, frame.bytes, sizeof got);
        assert_int_equal(got, i);
        cw_frame_release(&frame);
    }
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
}

/* Sizes around the chunks of TCP, and alignment for whoever reads floats in place. */
static void sizes_survive_and_are_aligned(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 245, 247, 248, 32767, 32768, 32769, 65535, 65536, 65537, 1000003};
    cw_transport *server = listen_on(endpoint, NULL), *client = connect_to(cw_transport_endpoint(server), NULL);
    for (size_t s = 0; s < CWI_COUNT(sizes); s++) {
        uint8_t *bytes = cwi_alloc(sizes[s], 1);
        for (size_t i = 0; i < sizes[s]; i++)
            bytes[i] = (uint8_t)(i * 7 + s);
        assert_ok(cw_transport_send(client, 0, bytes, sizes[s], NULL));
        cw_frame frame;
        assert_ok(cw_transport_recv(server, PATIENCE_MS, &frame, NULL));
        assert_int_equal(frame.size, sizes[s]);
        assert_int_equal((uintptr_t)frame.bytes % 16, 0);
        assert_memory_equal(frame.bytes, bytes, sizes[s]);
        cw_frame_release(&frame);
        cwi_free(bytes);
    }
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
}

static void frame_of_64_megabytes_goes_both_ways(void **state)
{
    (void)state;
    const size_t size = (size_t)64 << 20;
    cw_transport *server = listen_on(endpoint, NULL), *client = connect_to(cw_transport_endpoint(server), NULL);
    uint8_t *bytes = cwi_alloc(size, 1);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)((i * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
    cw_frame frame, back;
    assert_ok(cw_transport_send(client, 0, bytes, size, NULL));
    assert_ok(cw_transport_recv(server, PATIENCE_MS, &frame, NULL));
    assert_ok(cw_transport_send(server, frame.peer, frame.bytes, frame.size, NULL));
    assert_ok(cw_transport_recv(client, PATIENCE_MS, &back, NULL));
    assert_int_equal(back.size, size);
    assert_true(!memcmp(back.bytes, bytes, size));
    cw_frame_release(&frame);
    cw_frame_release(&back);
    cwi_free(bytes);
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
}

/* ---- many clients ---- */

static void many_clients_are_told_apart(void **state)
{
    (void)state;
    enum { CLIENTS = 40 };
    cw_transport *server = listen_on(endpoint, NULL), *clients[CLIENTS];
    cw_peer names[CLIENTS] = {0};
    for (int i = 0; i < CLIENTS; i++) {
        char text[16];
        clients[i] = connect_to(cw_transport_endpoint(server), NULL);
        snprintf(text, sizeof text, "%d", i);
        send_text(clients[i], 0, text);
    }
    for (int i = 0; i < CLIENTS; i++) {
        cw_frame frame;
        char text[16] = "";
        assert_ok(cw_transport_recv(server, PATIENCE_MS, &frame, NULL));
        memcpy(text, frame.bytes, frame.size);
        assert_true(names[atoi(text)] == 0);
        names[atoi(text)] = frame.peer;
        cw_frame_release(&frame);
    }
    for (int i = 0; i < CLIENTS; i++) {
        char text[32];
        snprintf(text, sizeof text, "you are %d", i);
        send_text(server, names[i], text);
    }
    for (int i = CLIENTS - 1; i >= 0; i--) {
        char text[32];
        snprintf(text, sizeof text, "you are %d", i);
        expect_text(clients[i], text);
        cw_transport_close(&clients[i], 0);
    }
    cw_transport_close(&server, 0);
}

typedef struct worker {
    const char *endpoint;
    int rounds;
    bool ok;
} worker;

static void *echo_client(void *arg)
{
    worker *w = arg;
    cw_transport *t;
    uint8_t bytes[5000] = {0};
    if (cw_net_connect(w->endpoint, &client_keys, &t, NULL) != CW_OK)
        return NULL;
    w->ok = true;
    for (int i = 0; i < w->rounds && w->ok; i++) {
        cw_frame frame;
        memset(bytes, i, sizeof bytes);
        w->ok = cw_transport_send(t, 0, bytes, sizeof bytes - (size_t)i, NULL) == CW_OK &&
                cw_transport_recv(t, PATIENCE_MS, &frame, NULL) == CW_OK;
        if (!w->ok)
            break;
        w->ok = frame.size == sizeof bytes - (size_t)i && !memcmp(frame.bytes, bytes, frame.size);
        cw_frame_release(&frame);
    }
    cw_transport_close(&t, 1000);
    return NULL;
}

static void clients_in_threads_are_served(void **state)
{
    (void)state;
    enum { CLIENTS = 6, ROUNDS = 200 };
    cw_transport *server = listen_on(endpoint, NULL);
    worker workers[CLIENTS];
    pthread_t threads[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        workers[i] = (worker){.endpoint = cw_transport_endpoint(server), .rounds = ROUNDS};
        assert_int_equal(pthread_create(&threads[i], NULL, echo_client, &workers[i]), 0);
    }
    for (int i = 0; i < CLIENTS * ROUNDS; i++) {
        cw_frame frame;
        assert_ok(cw_transport_recv(server, PATIENCE_MS, &frame, NULL));
        assert_ok(cw_transport_send(server, frame.peer, frame.bytes, frame.size, NULL));
        cw_frame_release(&frame);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(workers[i].ok);
    }
    cw_transport_close(&server, 0);
}

/* ---- peers that misbehave or go ---- */

static void dropped_peer_is_not_heard_and_the_rest_goes_on(void **state)
{
    (void)state;
    cw_transport *server = listen_on(endpoint, NULL);
    cw_transport *bad = connect_to(cw_transport_endpoint(server), NULL);
    cw_transport *good = connect_to(cw_transport_endpoint(server), NULL);
    cw_error err = {.message = ""};
    send_text(bad, 0, "garbage");
    cw_peer name = expect_text(server, "garbage");
    send_text(server, name, "you are dropped"); /* arrives although the drop follows at once */
    cw_transport_drop(server, name);
    assert_status(cw_transport_send(server, name, "x", 1, &err), CW_ERR_CLOSED);
    assert_true(err.message[0]);
    expect_text(bad, "you are dropped");
    cw_transport_send(bad, 0, "more garbage", 12, NULL);
    send_text(good, 0, "good");
    cw_peer other = expect_text(server, "good");
    assert_true(other != name);
    expect_silence(server, 50);
    send_text(server, other, "fine");
    expect_text(good, "fine");
    cw_transport_close(&bad, 0);
    cw_transport_close(&good, 0);
    cw_transport_close(&server, 0);
}

static void oversized_frame_drops_its_sender_only(void **state)
{
    (void)state;
    const cw_net_options small = {.max_frame = 100000};
    cw_transport *server = listen_on(endpoint, &small);
    cw_transport *bad = connect_to(cw_transport_endpoint(server), NULL);
    cw_transport *good = connect_to(cw_transport_endpoint(server), NULL);
    uint8_t *bytes = cwi_calloc(200000, 1);
    send_text(bad, 0, "hello");
    cw_peer name = expect_text(server, "hello");
    assert_ok(cw_transport_send(bad, 0, bytes, 200000, NULL));
    cw_transport_send(bad, 0, "afterwards", 10, NULL);
    send_text(good, 0, "good");
    expect_text(server, "good");
    expect_silence(server, 100);
    assert_status(cw_transport_send(server, name, "x", 1, NULL), CW_ERR_CLOSED);
    assert_ok(cw_transport_send(good, 0, bytes, 100000, NULL)); /* exactly as large as allowed */
    cw_frame frame;
    assert_ok(cw_transport_recv(server, PATIENCE_MS, &frame, NULL));
    assert_int_equal(frame.size, 100000);
    assert_status(cw_transport_send(server, frame.peer, bytes, 100001, NULL), CW_ERR_INVALID);
    cw_frame_release(&frame);
    cwi_free(bytes);
    cw_transport_close(&bad, 0);
    cw_transport_close(&good, 0);
    cw_transport_close(&server, 0);
}

static void oversized_frame_from_the_server_ends_the_client(void **state)
{
    (void)state;
    const cw_net_options small = {.max_frame = 1000};
    cw_transport *server = listen_on(endpoint, NULL), *client = connect_to(cw_transport_endpoint(server), &small);
    uint8_t bytes[2000] = {0};
    cw_frame frame;
    cw_error err = {.message = ""};
    send_text(client, 0, "hello");
    cw_peer name = expect_text(server, "hello");
    assert_ok(cw_transport_send(server, name, bytes, sizeof bytes, NULL));
    assert_status(cw_transport_recv(client, PATIENCE_MS, &frame, &err), CW_ERR_CLOSED);
    assert_true(err.message[0]);
    assert_status(cw_transport_send(client, 0, "x", 1, NULL), CW_ERR_CLOSED);
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
}

static void sending_to_a_client_that_left_is_an_error(void **state)
{
    (void)state;
    cw_transport *server = listen_on(endpoint, NULL), *client = connect_to(cw_transport_endpoint(server), NULL);
    send_text(client, 0, "bye");
    cw_peer name = expect_text(server, "bye");
    cw_transport_close(&client, 0);
    cw_status status = CW_OK;
    for (int i = 0; i < 200 && status == CW_OK; i++) {
        status = cw_transport_send(server, name, "still there?", 12, NULL);
        expect_silence(server, 10);
    }
    assert_int_equal(status, CW_ERR_CLOSED);
    assert_status(cw_transport_send(server, 0, "x", 1, NULL), CW_ERR_CLOSED);
    assert_status(cw_transport_send(server, 77777, "x", 1, NULL), CW_ERR_CLOSED);
    cw_transport_close(&server, 0);
}

void *close_in_thread(void *arg)
{
    closing *c = arg;
    cw_transport_close(&c->transport, PATIENCE_MS);
    atomic_store(&c->over, true);
    return NULL;
}

/* Also those that wait for a server that reads late. */
static void frames_sent_before_closing_arrive(void **state)
{
    (void)state;
    enum { FRAMES = 50, SIZE = 40000 };
    cw_transport *server = listen_on(endpoint, NULL);
    closing client = {.transport = connect_to(cw_transport_endpoint(server), NULL)};
    uint8_t *bytes = cwi_calloc(SIZE, 1);
    pthread_t thread;
    for (int i = 0; i < FRAMES; i++)
        assert_ok(cw_transport_send(client.transport, 0, bytes, SIZE, NULL));
    assert_int_equal(pthread_create(&thread, NULL, close_in_thread, &client), 0);
    (void)poll(NULL, 0, 100);
    for (int i = 0; i < FRAMES; i++) {
        cw_frame frame;
        assert_ok(cw_transport_recv(server, PATIENCE_MS, &frame, NULL));
        assert_int_equal(frame.size, SIZE);
        cw_frame_release(&frame);
    }
    while (!atomic_load(&client.over))
        expect_silence(server, 10); /* it hears the client's last word */
    assert_int_equal(pthread_join(thread, NULL), 0);
    cwi_free(bytes);
    cw_transport_close(&server, 0);
}

static void *send_for_ever(void *arg)
{
    cw_transport *client = *(cw_transport **)arg;
    static const uint8_t bytes[50000];
    /* Until the frames pile up or the server is gone, whichever the transport notices. */
    while (cw_transport_send(client, 0, bytes, sizeof bytes, NULL) == CW_OK)
        ;
    return NULL;
}

static void server_may_close_while_a_client_sends(void **state)
{
    (void)state;
    const cw_net_options small = {.max_frame = 1 << 20, .send_timeout_ms = 300};
    cw_transport *server = listen_on(endpoint, &small), *client = connect_to(cw_transport_endpoint(server), &small);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, send_for_ever, &client), 0);
    for (int i = 0; i < 20; i++) {
        cw_frame frame;
        assert_ok(cw_transport_recv(server, PATIENCE_MS, &frame, NULL));
        cw_frame_release(&frame);
    }
    cw_transport_close(&server, 0);
    pthread_join(thread, NULL);
    cw_transport_close(&client, 0);
}

/* ---- waiting ---- */

static void waits_end_in_time(void **state)
{
    (void)state;
    cw_transport *server = listen_on(endpoint, NULL);
    cw_error err = {.message = ""};
    cw_frame frame;
    double start = cwi_seconds();
    assert_status(cw_transport_recv(server, 0, &frame, &err), CW_ERR_TIMEOUT);
    assert_true(err.message[0]);
    assert_true(cwi_seconds() - start < 1);
    start = cwi_seconds();
    assert_status(cw_transport_recv(server, 200, &frame, NULL), CW_ERR_TIMEOUT);
    double took = cwi_seconds() - start;
    assert_true(took > 0.19 && took < 5);
    cw_transport_close(&server, 0);
}

static void full_queue_times_out(void **state)
{
    (void)state;
    const cw_net_options small = {.max_frame = 1 << 18, .send_timeout_ms = 200};
    cw_transport *server = listen_on(endpoint, &small), *client = connect_to(cw_transport_endpoint(server), &small);
    uint8_t *bytes = cwi_calloc(1 << 18, 1);
    cw_status status = CW_OK;
    int sent = 0;
    for (; sent < 1000 && status == CW_OK; sent++) /* 250 MB: more than the queues and the kernel take */
        status = cw_transport_send(client, 0, bytes, 1 << 18, NULL);
    assert_int_equal(status, CW_ERR_TIMEOUT);
    for (int i = 0; i < sent - 1; i++) {
        cw_frame frame;
        assert_ok(cw_transport_recv(server, PATIENCE_MS, &frame, NULL));
        cw_frame_release(&frame);
    }
    send_text(client, 0, "again"); /* a frame cut off by the time-out does not confuse the next */
    expect_text(server, "again");
    cwi_free(bytes);
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
}

/* As above, but where the server sends: it does not wait, the client that does not read is dropped, others go on. */
static void server_waits_for_nobody(void **state)
{
    (void)state;
    const cw_net_options small = {.max_frame = 1 << 18};
    cw_transport *server = listen_on(endpoint, &small);
    cw_transport *deaf = connect_to(cw_transport_endpoint(server), &small);
    cw_transport *other = connect_to(cw_transport_endpoint(server), &small);
    uint8_t *bytes = cwi_calloc(1 << 18, 1);
    cw_error err;
    send_text(deaf, 0, "hello");
    cw_peer name = expect_text(server, "hello");
    send_text(other, 0, "me too");
    cw_peer name_of_other = expect_text(server, "me too");
    double longest = 0;
    cw_status status = CW_OK;
    for (int i = 0; i < 4000 && status == CW_OK; i++) { /* 1 GB: more than the queues and the kernel take */
        double start = cwi_seconds();
        status = cw_transport_send(server, name, bytes, 1 << 18, &err);
        longest = CWI_MAX(longest, cwi_seconds() - start);
    }
    assert_int_equal(status, CW_ERR_TIMEOUT);
    assert_non_null(strstr(err.message, "does not read"));
    assert_true(longest < 5); /* the default time-out is 30 s */
    assert_status(cw_transport_send(server, name, "x", 1, NULL), CW_ERR_CLOSED);
    send_text(server, name_of_other, "you go on");
    expect_text(other, "you go on");
    cwi_free(bytes);
    cw_transport_close(&deaf, 0);
    cw_transport_close(&other, 0);
    cw_transport_close(&server, 0);
}

/* Small frames cost memory too. */
static void server_counts_small_frames(void **state)
{
    (void)state;
    const cw_net_options small = {.max_frame = 1 << 18};
    cw_transport *server = listen_on(endpoint, &small), *deaf = connect_to(cw_transport_endpoint(server), &small);
    send_text(deaf, 0, "hello");
    cw_peer name = expect_text(server, "hello");
    int sent = 0;
    while (sent < 1000000 && cw_transport_send(server, name, "", 0, NULL) == CW_OK)
        sent++;
    assert_true(sent < 1000000);
    cw_transport_close(&deaf, 0);
    cw_transport_close(&server, 0);
}

static void ignore_signal(int number)
{
    (void)number;
}

static void signal_interrupts_the_wait(void **state)
{
    (void)state;
    cw_transport *server = listen_on(endpoint, NULL);
    struct sigaction old, action = {.sa_handler = ignore_signal};
    sigaction(SIGALRM, &action, &old);
    const struct itimerval soon = {.it_value = {.tv_usec = 100000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    cw_frame frame;
    assert_status(cw_transport_recv(server, PATIENCE_MS, &frame, NULL), CW_ERR_CANCELLED);
    sigaction(SIGALRM, &old, NULL);
    cw_transport_close(&server, 0);
}

/* ---- endpoints and arguments ---- */

static void second_server_is_refused_while_the_first_listens(void **state)
{
    (void)state;
    cw_transport *first = listen_on(endpoint, NULL), *second;
    char real[300];
    cw_error err;
    snprintf(real, sizeof real, "%s", cw_transport_endpoint(first));
    assert_status(cw_net_listen(real, NULL, &second, &err), CW_ERR_IO);
    assert_null(second);
    assert_non_null(strstr(err.message, real));
    cw_transport_close(&first, 0);
    second = listen_on(real, NULL);
    assert_string_equal(cw_transport_endpoint(second), real);
    cw_transport_close(&second, 0);
}

static void null_arguments_are_refused(void **state)
{
    (void)state;
    cw_transport *server = listen_on(endpoint, NULL), *t;
    cw_frame frame;
    assert_status(cw_net_listen(NULL, NULL, &t, NULL), CW_ERR_INVALID);
    assert_status(cw_net_connect(endpoint, NULL, NULL, NULL), CW_ERR_INVALID);
    assert_status(cw_transport_send(server, 1, NULL, 5, NULL), CW_ERR_INVALID);
    assert_status(cw_transport_recv(server, 0, NULL, NULL), CW_ERR_INVALID);
    assert_status(cw_transport_recv(NULL, 0, &frame, NULL), CW_ERR_INVALID);
    cw_frame_release(NULL);
    cw_transport_close(&server, 0);
}

static int countdown;

static bool fails_when_counted_down(void *ctx, size_t bytes)
{
    (void)ctx;
    (void)bytes;
    return countdown-- == 0;
}

static void failed_allocations_leave_nothing_behind(void **state)
{
    (void)state;
    for (int nth = 0; nth < 12; nth++) {
        cw_transport *server = NULL, *client = NULL;
        cw_frame frame = {0};
        countdown = nth;
        cwi_alloc_set_fault(fails_when_counted_down, NULL);
        if (cw_net_listen(endpoint, NULL, &server, NULL) == CW_OK &&
            cw_net_connect(cw_transport_endpoint(server), NULL, &client, NULL) == CW_OK &&
            cw_transport_send(client, 0, "x", 1, NULL) == CW_OK)
            cw_transport_recv(server, 50, &frame, NULL);
        cwi_alloc_set_fault(NULL, NULL);
        cw_frame_release(&frame);
        cw_transport_close(&client, 0);
        cw_transport_close(&server, 0);
    }
}

int run_battery(const char *where)
{
    endpoint = where;
    const struct CMUnitTest battery[] = {
        cmocka_unit_test(frames_go_both_ways),
        cmocka_unit_test(frames_keep_their_order),
        cmocka_unit_test(sizes_survive_and_are_aligned),
        cmocka_unit_test(frame_of_64_megabytes_goes_both_ways),
        cmocka_unit_test(many_clients_are_told_apart),
        cmocka_unit_test(clients_in_threads_are_served),
        cmocka_unit_test(dropped_peer_is_not_heard_and_the_rest_goes_on),
        cmocka_unit_test(oversized_frame_drops_its_sender_only),
        cmocka_unit_test(oversized_frame_from_the_server_ends_the_client),
        cmocka_unit_test(sending_to_a_client_that_left_is_an_error),
        cmocka_unit_test(frames_sent_before_closing_arrive),
        cmocka_unit_test(server_may_close_while_a_client_sends),
        cmocka_unit_test(waits_end_in_time),
        cmocka_unit_test(full_queue_times_out),
        cmocka_unit_test(server_waits_for_nobody),
        cmocka_unit_test(server_counts_small_frames),
        cmocka_unit_test(signal_interrupts_the_wait),
        cmocka_unit_test(second_server_is_refused_while_the_first_listens),
        cmocka_unit_test(null_arguments_are_refused),
        cmocka_unit_test(failed_allocations_leave_nothing_behind),
    };
    return cmocka_run_group_tests_name(where, battery, NULL, NULL);
}
