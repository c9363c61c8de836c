/* test_tcp_link.c - TCP over a link that counts, crawls, falls silent and breaks. */
#include "base/base.h"
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

/* What a client sends before it has noticed that its connection is dead is lost with it, so it says it again. */
static cw_peer say_until_heard(const fixture *f, const char *text)
{
    for (int i = 0; i < PATIENCE_MS / 200; i++) {
        cw_frame frame;
        send_text(f->client, 0, text);
        cw_status status = cw_transport_recv(f->server, 200, &frame, NULL);
        if (status == CW_ERR_TIMEOUT)
            continue;
        assert_int_equal(status, CW_OK);
        bool heard = frame.size == strlen(text) && memcmp(frame.bytes, text, frame.size) == 0; /* or an earlier one */
        cw_peer peer = frame.peer;
        cw_frame_release(&frame);
        if (heard)
            return peer;
    }
    fail_msg("'%s' was never heard", text);
    return 0;
}

/* What has crossed so far, by the transports' counters and by the proxy's. */
typedef struct tally {
    cw_net_stats client, server;
    uint64_t up, down;
} tally;

static tally count(const fixture *f)
{
    return (tally){cw_transport_stats(f->client), cw_transport_stats(f->server), tcp_proxy_up(f->proxy),
                   tcp_proxy_down(f->proxy)};
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
        uint64_t crossed = between.up - before.up;
        assert_int_equal(between.client.bytes_sent - before.client.bytes_sent, crossed);
        assert_int_equal(between.server.bytes_received - before.server.bytes_received, crossed);
        assert_int_equal(between.down, before.down);
        /* docs/formats/protocol.md: 8 bytes and a ZMTP header for each chunk of 32 KiB */
        assert_true(crossed >= sizes[i] + 10 && crossed <= sizes[i] + 17 * (sizes[i] / 32768 + 1));
        send_zeros(f.server, f.peer, sizes[i]);
        expect_zeros(f.client, sizes[i]);
        tally after = count(&f);
        assert_int_equal(after.down - between.down, crossed);
        assert_int_equal(after.server.bytes_sent - between.server.bytes_sent, crossed);
        assert_int_equal(after.client.bytes_received - between.client.bytes_received, crossed);
        assert_int_equal(after.up, between.up);
    }
    /* Since the first byte, too: what is not counted is the handshake, equal but for the client's routing id. */
    tally total = count(&f);
    uint64_t handshake = total.down - total.server.bytes_sent;
    assert_true(handshake > 64 && handshake < 200);
    assert_int_equal(total.up - total.client.bytes_sent, handshake + 17);
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
    cw_status status = CW_OK;
    for (int i = 0; i < 300 && status == CW_OK; i++) {
        expect_silence(f.server, 10);
        status = cw_transport_send(f.server, f.peer, "there?", 6, NULL);
    }
    assert_int_equal(status, CW_ERR_CLOSED);
    tcp_proxy_set_silent(f.proxy, false);
    assert_true(say_until_heard(&f, "back again") == f.peer);
    send_text(f.server, f.peer, "fine");
    expect_text(f.client, "fine");
    close_all(&f);
}

static void broken_connection_loses_its_frame_only(void **state)
{
    (void)state;
    fixture f = connect_all(200);
    tcp_proxy_set_rate(f.proxy, 400000);
    send_zeros(f.client, 0, 2000000);
    expect_silence(f.server, 700);
    tcp_proxy_cut(f.proxy);
    tcp_proxy_set_rate(f.proxy, 0);
    assert_true(say_until_heard(&f, "next") == f.peer);
    send_text(f.server, f.peer, "go on");
    expect_text(f.client, "go on");
    assert_int_equal(tcp_proxy_accepted(f.proxy), 2);
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
    send_zeros(f.server, f.peer, SIZE);
    send_text(f.server, f.peer, "goodbye");
    cw_transport_drop(f.server, f.peer);
    cw_transport_close(&f.server, PATIENCE_MS);
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
        assert_true(say_until_heard(&f, text) == f.peer);
        send_text(f.server, f.peer, "hello again");
        expect_text(f.client, "hello again");
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
        cmocka_unit_test(broken_connection_loses_its_frame_only),
        cmocka_unit_test(slow_reader_gets_all_without_a_wait),
        cmocka_unit_test(what_waits_goes_when_the_server_closes),
        cmocka_unit_test(reconnected_client_is_the_same_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
