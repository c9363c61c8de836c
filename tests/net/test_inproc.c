/* test_inproc.c - the transport within a process: the battery, and what only it does. */
#include "base/base.h"
#include "net_battery.h"

static void one_thread_pumps_without_waiting(void **state)
{
    (void)state;
    cw_transport *server = listen_on("inproc://pump", NULL), *client = connect_to("inproc://pump", NULL);
    cw_frame frame;
    for (int i = 0; i < 100; i++) {
        send_text(client, 0, "up");
        assert_ok(cw_transport_recv(server, 0, &frame, NULL));
        assert_ok(cw_transport_send(server, frame.peer, "down", 4, NULL));
        cw_frame_release(&frame);
        assert_ok(cw_transport_recv(client, 0, &frame, NULL));
        cw_frame_release(&frame);
    }
    cw_transport_close(&server, 0);
    cw_transport_close(&client, 0);
}

static void counters_are_the_frames_bytes(void **state)
{
    (void)state;
    cw_transport *server = listen_on("inproc://count", NULL), *client = connect_to("inproc://count", NULL);
    send_text(client, 0, "twelve bytes");
    send_text(server, expect_text(server, "twelve bytes"), "five!");
    expect_text(client, "five!");
    cw_net_stats up = cw_transport_stats(client), down = cw_transport_stats(server);
    assert_true(up.bytes_sent == 12 && up.bytes_received == 5);
    assert_true(down.bytes_sent == 5 && down.bytes_received == 12);
    cw_transport_close(&server, 0);
    cw_transport_close(&client, 0);
}

static void clients_take_turns(void **state)
{
    (void)state;
    cw_transport *server = listen_on("inproc://turns", NULL), *clients[3];
    for (int i = 0; i < 3; i++) {
        clients[i] = connect_to("inproc://turns", NULL);
        for (int n = 0; n < 4; n++)
            send_text(clients[i], 0, "frame");
    }
    cw_peer last[3] = {0};
    for (int i = 0; i < 12; i++) {
        cw_peer peer = expect_text(server, "frame");
        assert_true(peer != last[0] && peer != last[1]);
        last[0] = last[1];
        last[1] = peer;
    }
    for (int i = 0; i < 3; i++)
        cw_transport_close(&clients[i], 0);
    cw_transport_close(&server, 0);
}

static void client_learns_that_the_server_closed(void **state)
{
    (void)state;
    cw_transport *server = listen_on("inproc://gone", NULL), *client = connect_to("inproc://gone", NULL);
    cw_frame frame;
    send_text(client, 0, "hello");
    send_text(server, expect_text(server, "hello"), "the end");
    cw_transport_close(&server, 0);
    expect_text(client, "the end");
    assert_status(cw_transport_recv(client, PATIENCE_MS, &frame, NULL), CW_ERR_CLOSED);
    assert_status(cw_transport_send(client, 0, "x", 1, NULL), CW_ERR_CLOSED);
    cw_transport *next = listen_on("inproc://gone", NULL); /* the name is free again; the old client is not its */
    expect_silence(next, 0);
    cw_transport_close(&next, 0);
    cw_transport_close(&client, 0);
}

static void connecting_to_nobody_is_an_error(void **state)
{
    (void)state;
    cw_transport *t;
    cw_error err;
    assert_status(cw_net_connect("inproc://nobody", NULL, &t, &err), CW_ERR_NOT_FOUND);
    assert_null(t);
    assert_non_null(strstr(err.message, "inproc://nobody"));
    assert_status(cw_net_listen("inproc://", NULL, &t, &err), CW_ERR_INVALID);
    assert_status(cw_net_listen("udp://x", NULL, &t, &err), CW_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_pumps_without_waiting),
        cmocka_unit_test(counters_are_the_frames_bytes),
        cmocka_unit_test(clients_take_turns),
        cmocka_unit_test(client_learns_that_the_server_closed),
        cmocka_unit_test(connecting_to_nobody_is_an_error),
    };
    int failed = run_battery("inproc://battery");
    return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
