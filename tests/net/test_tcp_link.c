/* test_tcp_link.c - TCP over a link that counts, crawls, falls silent and breaks. */
#include <poll.h>
#include <pthread.h>

#include "base/base.h"
#include "net/transport.h"
#include "net_battery.h"
#include "tcp_proxy.h"

typedef struct fixture {
    cw_transport *server, *client;
    tcp_proxy *proxy;
    cw_peer peer;
} fixture;

/* A server, a proxy, and a client that has said hello through it. */
static fixture connect_all(int heartbeat_ms)
{
    const cw_net_options options = {.heartbeat_ms = heartbeat_ms};
    fixture f = {.server = listen_on("tcp://127.0.0.1:*", &options)};
    f.proxy = tcp_proxy_start(cw_transport_endpoint(f.server));
    assert_non_null(f.proxy);
    f.client = connect_to(tcp_proxy_endpoint(f.proxy), &options);
    send_text(f.client, 0, "hello");
    f.peer = expect_text(f.server, "hello");
    send_text(f.server, f.peer, "welcome");
    expect_text(f.client, "welcome");
    return f;
}

static void close_all(fixture *f)
{
    cw_transport_close(&f->client, 0);
    cw_transport_close(&f->server, 0);
    tcp_proxy_stop(f->proxy);
}

static void send_zeros(cw_transport *t, cw_peer peer, size_t size)
{
    uint8_t *bytes = cwi_calloc(size, 1);
    assert_ok(cw_transport_send(t, peer, bytes, size, NULL));
    cwi_free(bytes);
}

static void expect_zeros(cw_transport *t, size_t size)
{
    cw_frame frame;
    assert_ok(cw_transport_recv(t, PATIENCE_MS, &frame, NULL));
    assert_int_equal(frame.size, size);
    cw_frame_release(&frame);
}

/* The frames that come next at either end, so many of them; both are driven: that is how they learn what was lost. */
static void expect_frames(const fixture *f, const char *const *up, size_t ups, const char *const *down, size_t downs)
{
    const double began = cwi_seconds();
    cw_transport *const at[] = {f->server, f->client};
    const char *const *const wanted[] = {up, down};
    const size_t counts[] = {ups, downs};
    for (size_t came[2] = {0}; came[0] < ups || came[1] < downs;) {
        assert_true(cwi_seconds() - began < PATIENCE_MS / 1e3);
        for (size_t i = 0; i < 2; i++) {
            cw_frame frame;
            if (cw_transport_recv(at[i], 10, &frame, NULL) != CW_OK)
                continue;
            assert_true(came[i] < counts[i]);
            const char *text = wanted[i][came[i]++]; /* NULL: zeros */
            assert_int_equal(frame.size, text ? strlen(text) : 2000000);
            assert_true(!text || !memcmp(frame.bytes, text, frame.size));
            assert_true(i == 1 || frame.peer == f->peer);
            cw_frame_release(&frame);
        }
    }
}

static bool is_broken(cw_transport *t, cw_peer peer)
{
    cwi_link_state link;
    assert_true(cwi_transport_link(t, peer, &link));
    assert_true(link.keeps);
    return link.broken;
}

/* What has crossed so far, by the transports' counters and by the proxy's. */
typedef struct tally {
    cw_net_stats client, server;
    uint64_t up, down;
} tally;

static uint64_t all_sent(const cw_net_stats *s)
{
    return s->bytes_sent + s->extra_sent;
}

static uint64_t all_received(const cw_net_stats *s)
{
    return s->bytes_received + s->extra_received;
}

/* Once what is on its way has arrived: acknowledgements go when it pleases them. */
static tally count(const fixture *f)
{
    for (int i = 0; i < PATIENCE_MS; i++) {
        expect_silence(f->server, 1);
        expect_silence(f->client, 1);
        const tally t = {cw_transport_stats(f->client), cw_transport_stats(f->server), tcp_proxy_up(f->proxy),
                         tcp_proxy_down(f->proxy)};
        if (all_sent(&t.client) == all_received(&t.server) && all_sent(&t.server) == all_received(&t.client))
            return t;
    }
    fail_msg("the counters of both ends never agree");
    return (tally){0};
}

/* Of these frames, both ends have counted as many bytes; all that crossed is these and acknowledgements. */
static void assert_crossed(const tally *before, const tally *after, bool up, uint64_t bytes)
{
    assert_int_equal(after->client.bytes_sent - before->client.bytes_sent, up ? bytes : 0);
    assert_int_equal(after->server.bytes_received - before->server.bytes_received, up ? bytes : 0);
    assert_int_equal(after->server.bytes_sent - before->server.bytes_sent, up ? 0 : bytes);
    assert_int_equal(after->client.bytes_received - before->client.bytes_received, up ? 0 : bytes);
    assert_int_equal(after->up - before->up, all_sent(&after->client) - all_sent(&before->client));
    assert_int_equal(after->down - before->down, all_sent(&after->server) - all_sent(&before->server));
}

/* The counters are the bytes that cross the socket: no more, no less. */
static void counters_are_what_crosses_the_socket(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 100, 246, 247, 248, 249, 32767, 32768, 32769, 33014, 33016, 100000, 5000000};
    fixture f = connect_all(-1); /* the proxy would count heartbeats too */
    for (size_t i = 0; i < CWI_COUNT(sizes); i++) {
        tally before = count(&f);
        send_zeros(f.client, 0, sizes[i]);
        expect_zeros(f.server, sizes[i]);
        tally between = count(&f);
        const uint64_t crossed = between.client.bytes_sent - before.client.bytes_sent;
        assert_crossed(&before, &between, true, crossed);
        /* docs/formats/protocol.md: 8 bytes and a ZMTP header for each chunk of 32 KiB */
        assert_true(crossed >= sizes[i] + 10 && crossed <= sizes[i] + 17 * (sizes[i] / 32768 + 1));
        send_zeros(f.server, f.peer, sizes[i]);
        expect_zeros(f.client, sizes[i]);
        tally after = count(&f);
        assert_crossed(&between, &after, false, crossed);
    }
    /* Since the first byte, too: what is not counted is the handshake, equal but for the client's routing id. */
    tally total = count(&f);
    uint64_t handshake = total.down - all_sent(&total.server);
    assert_true(handshake > 64 && handshake < 200);
    assert_int_equal(total.up - all_sent(&total.client), handshake + 17);
    assert_int_equal(tcp_proxy_accepted(f.proxy), 1);
    close_all(&f);
}

/* A frame that takes six times the heartbeat time-out: both ends must see that it is on its way. */
static void frame_slower_than_the_heartbeat_arrives(void **state)
{
    (void)state;
    fixture f = connect_all(200);
    tcp_proxy_set_rate(f.proxy, 200000);
    send_zeros(f.client, 0, 750000);
    send_zeros(f.server, f.peer, 750000);
    double start = cwi_seconds();
    expect_zeros(f.server, 750000);
    assert_true(cwi_seconds() - start > 2);
    expect_zeros(f.client, 750000);
    assert_int_equal(tcp_proxy_accepted(f.proxy), 1);
    close_all(&f);
}

static void busy_receiver_is_not_taken_for_dead(void **state)
{
    (void)state;
    fixture f = connect_all(200);
    send_zeros(f.client, 0, 20000000);
    expect_silence(f.client, 1500); /* the server computes; its frames and heartbeats are served by ZeroMQ's thread */
    expect_zeros(f.server, 20000000);
    assert_int_equal(tcp_proxy_accepted(f.proxy), 1);
    close_all(&f);
}

static void silent_peer_is_gone_and_may_come_back(void **state)
{
    (void)state;
    fixture f = connect_all(200);
    tcp_proxy_set_silent(f.proxy, true);
    for (int i = 0; i < 300 && !(is_broken(f.server, f.peer) && is_broken(f.client, 0)); i++) {
        expect_silence(f.server, 10);
        expect_silence(f.client, 10);
    }
    assert_true(is_broken(f.server, f.peer) && is_broken(f.client, 0));
    send_text(f.server, f.peer, "there?"); /* both are kept */
    send_text(f.client, 0, "where?");
    tcp_proxy_set_silent(f.proxy, false);
    expect_frames(&f, (const char *[]){"where?"}, 1, (const char *[]){"there?"}, 1);
    assert_false(is_broken(f.server, f.peer) || is_broken(f.client, 0));
    close_all(&f);
}

/* The frame that was on its way is sent again, and those behind it come once. */
static void broken_connection_loses_nothing(void **state)
{
    (void)state;
    fixture f = connect_all(200);
    tcp_proxy_set_rate(f.proxy, 400000);
    send_zeros(f.client, 0, 2000000);
    send_text(f.client, 0, "behind it");
    send_zeros(f.server, f.peer, 2000000);
    send_text(f.server, f.peer, "behind that");
    expect_silence(f.server, 700);
    tcp_proxy_cut(f.proxy);
    tcp_proxy_set_rate(f.proxy, 0);
    expect_frames(&f, (const char *[]){NULL, "behind it"}, 2, (const char *[]){NULL, "behind that"}, 2);
    expect_silence(f.server, 100);
    expect_silence(f.client, 100);
    assert_int_equal(tcp_proxy_accepted(f.proxy), 2);
    assert_int_equal(cw_transport_stats(f.client).resumed, 1);
    assert_int_equal(cw_transport_stats(f.client).frames_sent, cw_transport_stats(f.server).frames_received);
    assert_int_equal(cw_transport_stats(f.client).bytes_sent, cw_transport_stats(f.server).bytes_received);
    close_all(&f);
}

/* The linger time is for frames to arrive in, on another connection if need be. */
static void closing_waits_for_a_broken_connection(void **state)
{
    (void)state;
    fixture f = connect_all(200);
    pthread_t thread;
    closing client = {.transport = f.client};
    tcp_proxy_set_rate(f.proxy, 400000);
    send_zeros(f.client, 0, 2000000);
    send_text(f.client, 0, "farewell");
    assert_int_equal(pthread_create(&thread, NULL, close_in_thread, &client), 0);
    expect_silence(f.server, 700);
    tcp_proxy_cut(f.proxy);
    tcp_proxy_set_rate(f.proxy, 0);
    expect_zeros(f.server, 2000000);
    (void)expect_text(f.server, "farewell");
    while (!atomic_load(&client.over))
        expect_silence(f.server, 10);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(tcp_proxy_accepted(f.proxy), 2);
    f.client = NULL;
    close_all(&f);
}

/* As a client's: a server hears its clients out until they have its last words. */
static void a_closing_server_waits_for_a_broken_connection(void **state)
{
    (void)state;
    fixture f = connect_all(200);
    pthread_t thread;
    closing server = {.transport = f.server};
    const double began = cwi_seconds();
    tcp_proxy_set_rate(f.proxy, 400000);
    send_zeros(f.server, f.peer, 2000000);
    send_text(f.server, f.peer, "farewell");
    assert_int_equal(pthread_create(&thread, NULL, close_in_thread, &server), 0);
    expect_silence(f.client, 700);
    tcp_proxy_cut(f.proxy);
    tcp_proxy_set_rate(f.proxy, 0);
    expect_zeros(f.client, 2000000);
    (void)expect_text(f.client, "farewell");
    while (!atomic_load(&server.over))
        expect_silence(f.client, 10); /* it is asked what it has heard */
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(tcp_proxy_accepted(f.proxy), 2);
    assert_true(cwi_seconds() - began < PATIENCE_MS / 2e3); /* and no longer */
    f.server = NULL;
    close_all(&f);
}

/* It waits no longer than it may for a client that reads nothing, and hardly for one that is gone. */
static void a_closing_server_waits_within_its_time(void **state)
{
    (void)state;
    fixture f = connect_all(200);
    double began = cwi_seconds();
    send_text(f.server, f.peer, "anybody?");
    cw_transport_close(&f.server, 700);
    assert_true(cwi_seconds() - began >= 0.7 && cwi_seconds() - began < 5);
    close_all(&f);
    f = connect_all(200);
    tcp_proxy_stop(f.proxy); /* nobody can come back */
    expect_silence(f.server, 100);
    send_text(f.server, f.peer, "anybody?");
    began = cwi_seconds();
    cw_transport_close(&f.server, PATIENCE_MS);
    assert_true(cwi_seconds() - began < PATIENCE_MS / 2e3);
    cw_transport_close(&f.client, 0);
}

/* More than a client keeps for a server that has not answered yet. */
static void much_may_go_before_the_first_answer(void **state)
{
    (void)state;
    cw_transport *server = listen_on("tcp://127.0.0.1:*", NULL);
    cw_transport *client = connect_to(cw_transport_endpoint(server), NULL);
    for (int i = 0; i < 3; i++)
        send_zeros(client, 0, 700000);
    for (int i = 0; i < 3; i++)
        expect_zeros(server, 700000);
    expect_silence(client, 100); /* it hears the answer, */
    send_text(client, 0, "more");
    const cw_peer peer = expect_text(server, "more"); /* and begins nothing anew */
    send_text(server, peer, "well");
    (void)expect_text(client, "well");
    cwi_link_state link;
    assert_true(cwi_transport_link(client, 0, &link));
    assert_true(link.keeps && !link.broken && link.generation == 0);
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
}

enum { CUT_FRAMES = 400 };

/* The i-th frame of a conversation: its number, and as much again as i says. */
static size_t fill_numbered(uint8_t *bytes, int i)
{
    const size_t size = 4 + (size_t)(i * 7919 % 50000);
    memset(bytes, i, size);
    cwi_put_le(bytes, (uint64_t)i, 4);
    return size;
}

static int take_numbered(cw_transport *t, int expected)
{
    static uint8_t bytes[60000];
    cw_frame frame;
    while (cw_transport_recv(t, 1, &frame, NULL) == CW_OK) {
        const size_t size = fill_numbered(bytes, expected);
        assert_int_equal(frame.size, size);
        assert_memory_equal(frame.bytes, bytes, size);
        cw_frame_release(&frame);
        expected++;
    }
    return expected;
}

/* Frames both ways, while connections are cut again and again: each arrives once, in order. */
static void many_cuts_lose_and_double_nothing(void **state)
{
    (void)state;
    static uint8_t bytes[60000];
    fixture f = connect_all(200);
    int sent = 0, up = 0, down = 0, cuts = 0;
    const double began = cwi_seconds();
    tcp_proxy_set_rate(f.proxy, 8 << 20);
    while (up < CUT_FRAMES || down < CUT_FRAMES) {
        assert_true(cwi_seconds() - began < 60);
        if (sent < CUT_FRAMES) {
            const size_t size = fill_numbered(bytes, sent++);
            assert_ok(cw_transport_send(f.client, 0, bytes, size, NULL));
            assert_ok(cw_transport_send(f.server, f.peer, bytes, size, NULL));
        }
        up = take_numbered(f.server, up);
        down = take_numbered(f.client, down);
        if (cwi_seconds() - began > 0.35 * (cuts + 1) && cuts < 8)
            tcp_proxy_cut(f.proxy), cuts++;
    }
    assert_true(tcp_proxy_accepted(f.proxy) > 4);
    assert_int_equal(up, CUT_FRAMES);
    assert_int_equal(down, CUT_FRAMES);
    close_all(&f);
}

static void fill_with(uint8_t *bytes, size_t size, uint32_t seed)
{
    for (size_t i = 0; i + 4 <= size; i += 4) {
        seed = seed * 1664525u + 1013904223u;
        cwi_put_le(bytes + i, seed, 4);
    }
}

/* More than ZeroMQ takes at once, over a link that needs seconds for it: the server does not wait, and all of it
 * arrives, in order. */
static void slow_reader_gets_all_without_a_wait(void **state)
{
    (void)state;
    enum { FRAMES = 4, SIZE = 50 << 20, SMALL = 20 };
    fixture f = connect_all(-1);
    uint8_t *bytes = cwi_alloc(SIZE, 1), *expected = cwi_alloc(SIZE, 1);
    tcp_proxy_set_rate(f.proxy, 60 << 20);
    double start = cwi_seconds(), longest = 0;
    for (uint32_t i = 0; i < FRAMES; i++) {
        fill_with(bytes, SIZE, i);
        double began = cwi_seconds();
        assert_ok(cw_transport_send(f.server, f.peer, bytes, SIZE, NULL));
        longest = CWI_MAX(longest, cwi_seconds() - began);
    }
    for (int i = 0; i < SMALL; i++)
        send_text(f.server, f.peer, i % 2 ? "x" : "");
    assert_true(longest < 4);
    for (uint32_t i = 0; i < FRAMES; i++) {
        cw_frame frame;
        while (cw_transport_recv(f.client, 0, &frame, NULL) != CW_OK) {
            expect_silence(f.server, 5); /* the server's loop goes on, and so does what waits */
            assert_true(cwi_seconds() - start < 120);
        }
        fill_with(expected, SIZE, i);
        assert_int_equal(frame.size, SIZE);
        assert_memory_equal(frame.bytes, expected, SIZE);
        cw_frame_release(&frame);
    }
    assert_true(cwi_seconds() - start > 2);
    for (int i = 0; i < SMALL; i++) {
        expect_silence(f.server, 5);
        expect_text(f.client, i % 2 ? "x" : "");
    }
    assert_int_equal(cw_transport_stats(f.server).bytes_sent, cw_transport_stats(f.client).bytes_received);
    cwi_free(bytes);
    cwi_free(expected);
    close_all(&f);
}

/* What waits when the server closes still goes, within its time to linger; also to a client that was dropped. */
static void what_waits_goes_when_the_server_closes(void **state)
{
    (void)state;
    enum { SIZE = 200 << 20 };
    fixture f = connect_all(-1);
    expect_silence(f.client, 1200); /* its acknowledgement has gone */
    send_zeros(f.server, f.peer, SIZE);
    send_text(f.server, f.peer, "goodbye");
    cw_transport_drop(f.server, f.peer);
    const uint64_t sent = cw_transport_stats(f.server).bytes_sent;
    cw_transport_close(&f.server, PATIENCE_MS);
    for (int i = 0; i < PATIENCE_MS && tcp_proxy_down(f.proxy) <= sent; i++) /* and the handshake */
        poll(NULL, 0, 1);
    poll(NULL, 0, 500); /* who writes to a closed connection loses what it has not read of it */
    expect_zeros(f.client, SIZE);
    expect_text(f.client, "goodbye");
    close_all(&f);
}

/* The client is back before the server has noticed that it was away: it takes over its old place. */
static void reconnected_client_is_the_same_peer(void **state)
{
    (void)state;
    fixture f = connect_all(-1);
    for (int i = 0; i < 3; i++) {
        char text[] = "me again, 0";
        text[sizeof text - 2] = (char)('0' + i);
        tcp_proxy_cut_clients(f.proxy);
        send_text(f.client, 0, text);
        expect_frames(&f, (const char *[]){text}, 1, NULL, 0);
        send_text(f.server, f.peer, "hello again");
        expect_frames(&f, NULL, 0, (const char *[]){"hello again"}, 1);
    }
    assert_int_equal(tcp_proxy_accepted(f.proxy), 4);
    close_all(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_are_what_crosses_the_socket),
        cmocka_unit_test(frame_slower_than_the_heartbeat_arrives),
        cmocka_unit_test(busy_receiver_is_not_taken_for_dead),
        cmocka_unit_test(silent_peer_is_gone_and_may_come_back),
        cmocka_unit_test(broken_connection_loses_nothing),
        cmocka_unit_test(closing_waits_for_a_broken_connection),
        cmocka_unit_test(a_closing_server_waits_for_a_broken_connection),
        cmocka_unit_test(a_closing_server_waits_within_its_time),
        cmocka_unit_test(much_may_go_before_the_first_answer),
        cmocka_unit_test(many_cuts_lose_and_double_nothing),
        cmocka_unit_test(slow_reader_gets_all_without_a_wait),
        cmocka_unit_test(what_waits_goes_when_the_server_closes),
        cmocka_unit_test(reconnected_client_is_the_same_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
