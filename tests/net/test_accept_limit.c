/* test_accept_limit.c - an address that connects too often is not heard for a while; others are. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/accept_limit.h"

#include "test.h"

enum { BURST = 5, RATE = 10 };

static struct sockaddr_in loopback(int last, in_port_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(UINT32_C(0x7f000000) + (uint32_t)last)};
}

static int listen_somewhere(struct sockaddr_in *at)
{
    socklen_t size = sizeof *at;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    *at = loopback(1, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)at, sizeof *at), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)at, &size), 0);
    return fd;
}

/* From 127.0.0.`last`: whether the listener has a connection within a moment. It is accepted, counted and closed. */
static bool gets_in(cwi_accept_limit *l, const struct sockaddr_in *to, int last)
{
    const struct sockaddr_in from = loopback(last, 0);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    (void)connect(fd, (const struct sockaddr *)to, sizeof *to);
    struct pollfd wait = {.fd = l->listener, .events = POLLIN};
    const bool came = poll(&wait, 1, 200) == 1;
    if (came) {
        const int accepted = accept(l->listener, NULL, NULL);
        cwi_accept_limit_count(l, accepted);
        close(accepted);
    }
    close(fd);
    return came;
}

static void who_connects_too_often_waits(void **state)
{
    (void)state;
    struct sockaddr_in at;
    cwi_accept_limit l;
    cwi_accept_limit_begin(&l, BURST, 1e-6);
    l.listener = listen_somewhere(&at);
    int in = 0;
    for (int i = 0; i < 2 * BURST; i++)
        in += gets_in(&l, &at, 2);
    assert_int_equal(in, BURST);
    assert_int_equal(l.closed, 1);
    assert_true(gets_in(&l, &at, 3));
    for (int i = 0; i < BURST; i++)
        (void)gets_in(&l, &at, 4);
    assert_int_equal(l.closed, 2);
    assert_false(gets_in(&l, &at, 4) || gets_in(&l, &at, 2));
    assert_true(gets_in(&l, &at, 3));
    close(l.listener);
}

static void tokens_come_back(void **state)
{
    (void)state;
    struct sockaddr_in at;
    cwi_accept_limit l;
    cwi_accept_limit_begin(&l, BURST, RATE);
    l.listener = listen_somewhere(&at);
    while (!l.closed)
        (void)gets_in(&l, &at, 2);
    cwi_accept_limit_refresh(&l);
    assert_int_equal(l.closed, 1);
    const double began = cwi_seconds();
    while (l.closed)
        cwi_accept_limit_refresh(&l);
    assert_true(cwi_seconds() - began > 0.1 && cwi_seconds() - began < 20);
    assert_true(gets_in(&l, &at, 2));
    close(l.listener);
}

/* Many addresses are forgotten in turn, closed ones are not; without a listener nothing happens. */
static void closed_addresses_are_kept_in_mind(void **state)
{
    (void)state;
    struct sockaddr_in at;
    cwi_accept_limit l, none;
    cwi_accept_limit_begin(&l, 2, 1e-6);
    cwi_accept_limit_begin(&none, 2, 1e-6);
    cwi_accept_limit_count(&none, STDIN_FILENO);
    l.listener = listen_somewhere(&at);
    while (!l.closed)
        (void)gets_in(&l, &at, 2);
    for (int i = 0; i < CWI_ACCEPT_SOURCES + 8; i++)
        assert_true(gets_in(&l, &at, 10 + i));
    assert_int_equal(l.closed, 1);
    assert_false(gets_in(&l, &at, 2));
    cwi_accept_limit_count(&l, -1);
    close(l.listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_connects_too_often_waits),
        cmocka_unit_test(tokens_come_back),
        cmocka_unit_test(closed_addresses_are_kept_in_mind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
