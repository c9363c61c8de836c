/* test_link_attacks.c - who guesses another's link, says everything twice, or says it a byte at a time. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "base/base.h"
#include "net/link.h"
#include "net_battery.h"
#include "tcp_proxy.h"

enum { ID = 17 };

static int raw_connect(const char *where)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)atoi(strrchr(where, ':') + 1));
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* ---- a client that says what it likes ---- */

typedef struct raw {
    void *context, *socket;
} raw;

static raw raw_open(const char *where, const uint8_t *id)
{
    const int none = 0;
    raw r = {.context = zmq_ctx_new()};
    r.socket = zmq_socket(r.context, ZMQ_DEALER);
    assert_int_equal(zmq_setsockopt(r.socket, ZMQ_ROUTING_ID, id, ID), 0);
    assert_int_equal(zmq_setsockopt(r.socket, ZMQ_LINGER, &none, sizeof none), 0);
    assert_int_equal(zmq_connect(r.socket, where), 0);
    return r;
}

static void raw_close(raw *r)
{
    zmq_close(r->socket);
    zmq_ctx_term(r->context);
}

static void raw_control(const raw *r, const cwi_control *control)
{
    uint8_t chunk[CWI_CONTROL_SIZE];
    cwi_control_write(chunk, control);
    assert_int_equal(zmq_send(r->socket, chunk, sizeof chunk, 0), sizeof chunk);
}

/* A frame of one chunk. */
static void raw_frame(const raw *r, uint32_t number, const char *text)
{
    uint8_t chunk[64];
    const size_t size = strlen(text);
    cwi_chunk_header(chunk, number, true, (uint32_t)size);
    memcpy(chunk + CWI_CHUNK_HEADER, text, size);
    assert_true(zmq_send(r->socket, chunk, CWI_CHUNK_HEADER + size, 0) > 0);
}

/* The server's next word, which is a control chunk: nothing of anybody's frames. It is driven meanwhile. */
static cwi_control raw_answer(const raw *r, cw_transport *server)
{
    uint8_t chunk[CWI_CONTROL_SIZE + 1];
    cwi_control control;
    const double began = cwi_seconds();
    int got;
    while ((got = zmq_recv(r->socket, chunk, sizeof chunk, ZMQ_DONTWAIT)) < 0) {
        assert_true(cwi_seconds() - began < PATIENCE_MS / 1e3);
        expect_silence(server, 5);
    }
    assert_int_equal(got, CWI_CONTROL_SIZE);
    assert_true(cwi_control_read(chunk, (size_t)got, &control));
    return control.kind == CWI_CONTROL_ACK ? raw_answer(r, server) : control; /* that may come at any time */
}

/* What comes next there, while the other end is driven; from whom. */
static cw_peer expect_driving(cw_transport *there, cw_transport *other, const char *text)
{
    cw_frame frame;
    const double began = cwi_seconds();
    while (cw_transport_recv(there, 10, &frame, NULL) != CW_OK) {
        assert_true(cwi_seconds() - began < PATIENCE_MS / 1e3);
        expect_silence(other, 10);
    }
    assert_int_equal(frame.size, strlen(text));
    assert_memory_equal(frame.bytes, text, frame.size);
    const cw_peer from = frame.peer;
    cw_frame_release(&frame);
    return from;
}

/* ---- the attacks ---- */

/* All numbers of a link but its routing id can be known. Whoever says them gets a link of its own, and nothing of what
 * is kept for another. */
static void a_guessed_link_is_not_resumed(void **state)
{
    (void)state;
    cw_transport *server = listen_on("tcp://127.0.0.1:*", NULL);
    tcp_proxy *proxy = tcp_proxy_start(cw_transport_endpoint(server));
    cw_transport *client = connect_to(tcp_proxy_endpoint(proxy), &(cw_net_options){.heartbeat_ms = 200});
    send_text(client, 0, "hello");
    const cw_peer peer = expect_text(server, "hello");
    send_text(server, peer, "welcome");
    expect_text(client, "welcome");
    tcp_proxy_set_silent(proxy, true);
    send_text(server, peer, "for the client alone"); /* is kept */
    uint64_t id = 0;
    for (uint32_t expected = 1; expected < 6; expected++) {
        const uint8_t own[ID] = {'c', (uint8_t)expected, 'x'};
        raw r = raw_open(cw_transport_endpoint(server), own);
        raw_control(&r, &(cwi_control){.kind = CWI_CONTROL_RESUME, .server = id, .expected = expected});
        const cwi_control answer = raw_answer(&r, server);
        assert_int_equal(answer.kind, CWI_CONTROL_FRESH);
        assert_int_equal(answer.expected, 1);
        id = answer.server; /* everybody is told */
        raw_control(&r, &(cwi_control){.kind = CWI_CONTROL_ACK, .server = id, .expected = expected});
        raw_control(&r, &(cwi_control){.kind = CWI_CONTROL_CLOSE, .server = id});
        assert_int_equal(raw_answer(&r, server).kind, CWI_CONTROL_CLOSED);
        raw_close(&r);
    }
    tcp_proxy_set_silent(proxy, false);
    expect_driving(client, server, "for the client alone");
    send_text(client, 0, "here");
    assert_int_equal(expect_text(server, "here"), peer);
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
    tcp_proxy_stop(proxy);
}

/* Each frame is taken once, in order, however often and in whatever order it comes on however many connections. */
static void doubled_frames_are_taken_once(void **state)
{
    (void)state;
    static const uint8_t own[ID] = {'c', 'd'};
    cw_transport *server = listen_on("tcp://127.0.0.1:*", NULL);
    raw r = raw_open(cw_transport_endpoint(server), own);
    raw_control(&r, &(cwi_control){.kind = CWI_CONTROL_RESUME, .expected = 1});
    const uint64_t id = raw_answer(&r, server).server;
    raw_frame(&r, 1, "one");
    const cw_peer peer = expect_text(server, "one");
    for (uint32_t again = 0; again < 3; again++) {
        raw_close(&r);
        r = raw_open(cw_transport_endpoint(server), own);
        raw_control(&r, &(cwi_control){.kind = CWI_CONTROL_RESUME, .server = id, .expected = 1});
        const cwi_control answer = raw_answer(&r, server);
        assert_int_equal(answer.kind, CWI_CONTROL_RESUMED);
        assert_int_equal(answer.expected, again + 2);
        for (uint32_t number = 0; number < 20; number++)
            if (number != answer.expected)
                raw_frame(&r, number, "old, or too new");
        raw_frame(&r, answer.expected, "next");
        raw_frame(&r, answer.expected, "next");
        assert_int_equal(expect_text(server, "next"), peer);
        expect_silence(server, 50);
    }
    raw_close(&r);
    cw_transport_close(&server, 0);
}

/* A whole beginning of a connection, as bytes: greeting, READY of ZeroMQ's NULL mechanism, RESUME. */
static size_t beginning(uint8_t *bytes, uint8_t index)
{
    static const uint8_t greeting[64] = {
        [0] = 0xff, [8] = 1, [9] = 0x7f, [10] = 3, [11] = 1, [12] = 'N', 'U', 'L', 'L'};
    static const char ready[] = "\5READY\13Socket-Type\0\0\0\6DEALER\10Identity\0\0\0\21";
    const cwi_control resume = {.kind = CWI_CONTROL_RESUME, .expected = 1};
    const size_t head = sizeof ready - 1;
    uint8_t *at = bytes + sizeof greeting;
    memcpy(bytes, greeting, sizeof greeting);
    *at++ = 4; /* a command, and its size */
    *at++ = (uint8_t)(head + ID);
    memcpy(at, ready, head);
    memset(at + head, 0, ID);
    at[head] = 'c';
    at[head + 1] = index;
    at += head + ID;
    *at++ = 0; /* a message, likewise */
    *at++ = CWI_CONTROL_SIZE;
    cwi_control_write(at, &resume);
    return (size_t)(at + CWI_CONTROL_SIZE - bytes);
}

enum { TRICKLES = 40 };

static void trickle(const int *fds, size_t from, size_t to)
{
    uint8_t bytes[512];
    for (uint8_t i = 0; i < TRICKLES; i++)
        for (size_t k = from; k < to && k < beginning(bytes, i); k++)
            assert_int_equal(send(fds[i], bytes + k, 1, MSG_NOSIGNAL), 1);
}

/* As many bytes as a greeting, the server's READY and FRESH have. */
static void expect_an_answer(int fd, cw_transport *server)
{
    enum { WHOLE = 64 + 43 + 2 + CWI_CONTROL_SIZE };
    uint8_t bytes[512];
    ssize_t all = 0;
    for (const double began = cwi_seconds(); all < WHOLE;) {
        assert_true(cwi_seconds() - began < PATIENCE_MS / 1e3);
        expect_silence(server, 1);
        const ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        assert_true(got > 0 || (got < 0 && errno == EAGAIN));
        all += got > 0 ? got : 0;
    }
    close(fd);
}

/* Forty that begin a link a byte at a time hold up neither who comes back, nor each other. */
static void who_says_a_byte_at_a_time_holds_up_nobody(void **state)
{
    (void)state;
    int fds[TRICKLES];
    uint8_t bytes[512];
    cw_transport *server = listen_on("tcp://127.0.0.1:*", NULL);
    tcp_proxy *proxy = tcp_proxy_start(cw_transport_endpoint(server));
    cw_transport *client = connect_to(tcp_proxy_endpoint(proxy), &(cw_net_options){.heartbeat_ms = 200});
    send_text(client, 0, "hello");
    const cw_peer peer = expect_text(server, "hello");
    for (int i = 0; i < TRICKLES; i++)
        fds[i] = raw_connect(cw_transport_endpoint(server));
    const size_t size = beginning(bytes, 0);
    for (size_t k = 0; k + 1 < size; k++) {
        trickle(fds, k, k + 1);
        if (k % 60 == 30) {
            tcp_proxy_cut(proxy);
            send_text(client, 0, "again");
            assert_int_equal(expect_driving(server, client, "again"), peer);
            send_text(server, peer, "well");
            expect_driving(client, server, "well");
        }
    }
    trickle(fds, size - 1, size);
    for (int i = 0; i < TRICKLES; i++)
        expect_an_answer(fds[i], server);
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
    tcp_proxy_stop(proxy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guessed_link_is_not_resumed),
        cmocka_unit_test(doubled_frames_are_taken_once),
        cmocka_unit_test(who_says_a_byte_at_a_time_holds_up_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
