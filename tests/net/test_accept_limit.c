/* test_accept_limit.c - an address that connects too often is not heard for a while; others are. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/accept_limit.h"

#include "test.h"

enum { BURST = 5, RATE = 10, SETTLED = 3600 };

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

/* From 127.0.0.`last`: whether the listener has a connection within a moment. It is accepted and counted, lives for
 * `stays` seconds and is closed. */
static bool gets_in_for(cwi_accept_limit *l, const struct sockaddr_in *to, int last, double stays)
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
        for (const double end = cwi_seconds() + stays; stays > 0 && cwi_seconds() <= end;)
            ;
        close(accepted);
        cwi_accept_limit_gone(l, accepted);
    }
    close(fd);
    return came;
}

static bool gets_in(cwi_accept_limit *l, const struct sockaddr_in *to, int last)
{
    return gets_in_for(l, to, last, 0);
}

static void end(cwi_accept_limit *l)
{
    close(l->listener);
    cwi_accept_limit_end(l);
}

static void who_connects_too_often_waits(void **state)
{
    (void)state;
    struct sockaddr_in at;
    cwi_accept_limit l;
    cwi_accept_limit_begin(&l, BURST, 1e-6, SETTLED);
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
    end(&l);
}

static void tokens_come_back(void **state)
{
    (void)state;
    struct sockaddr_in at;
    cwi_accept_limit l;
    cwi_accept_limit_begin(&l, BURST, RATE, SETTLED);
    l.listener = listen_somewhere(&at);
    while (!l.closed)
        (void)gets_in(&l, &at, 2);
    cwi_accept_limit_refresh(&l);
    assert_int_equal(l.closed, 1);
    const double wait = cwi_accept_limit_wait(&l), began = cwi_seconds();
    assert_true(wait > 0 && wait <= 1.0 * CWI_ACCEPT_PRICE / RATE);
    while (l.closed)
        cwi_accept_limit_refresh(&l);
    assert_true(cwi_seconds() - began > 0.1 && cwi_seconds() - began < 20);
    assert_true(cwi_seconds() - began > 0.9 * wait);
    assert_true(cwi_accept_limit_wait(&l) <= 0);
    assert_true(gets_in(&l, &at, 2));
    end(&l);
}

/* Of the price all but one token come back. So the tokens of five connections are enough for 17 that stay, one after
 * the other: the last one leaves too few for another to come. */
static void who_stays_pays_less(void **state)
{
    (void)state;
    const double settled = 0.001;
    struct sockaddr_in at;
    cwi_accept_limit l;
    cwi_accept_limit_begin(&l, BURST, 1e-6, settled);
    l.listener = listen_somewhere(&at);
    int in = 0;
    for (; in < 100 && gets_in_for(&l, &at, 2, 2 * settled); in++)
        cwi_accept_limit_refresh(&l);
    assert_int_equal(in, BURST * CWI_ACCEPT_PRICE - CWI_ACCEPT_PRICE + 1);
    assert_int_equal(l.closed, 1);
    /* Only a connection that is there gives anything back, and never more than a bucket holds. */
    const double tokens = l.sources[0].tokens;
    cwi_accept_limit_gone(&l, l.listener);
    cwi_accept_limit_gone(&l, -1);
    cwi_accept_limit_gone(&l, 1 << 30);
    assert_true(l.sources[0].tokens - tokens < 0.1);
    end(&l);
}

/* As long as it lives a connection has paid the whole price: they cannot be many at once. */
static void who_is_there_has_paid_all(void **state)
{
    (void)state;
    struct sockaddr_in at;
    cwi_accept_limit l;
    int there[2 * BURST], n = 0;
    cwi_accept_limit_begin(&l, BURST, 1e-6, 0);
    l.listener = listen_somewhere(&at);
    const struct sockaddr_in from = loopback(2, 0);
    for (; n < 2 * BURST && !l.closed; n++) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(fd, (const struct sockaddr *)&from, sizeof from), 0);
        assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof at), 0);
        there[n] = accept(l.listener, NULL, NULL);
        cwi_accept_limit_count(&l, there[n]);
        close(fd);
    }
    assert_int_equal(n, BURST);
    for (int i = 0; i < n; i++) {
        close(there[i]);
        cwi_accept_limit_gone(&l, there[i]);
    }
    cwi_accept_limit_refresh(&l);
    assert_int_equal(l.closed, 0);
    assert_true(gets_in(&l, &at, 2));
    end(&l);
}

/* Many addresses are forgotten in turn, closed ones are not; without a listener nothing happens. */
static void closed_addresses_are_kept_in_mind(void **state)
{
    (void)state;
    struct sockaddr_in at;
    cwi_accept_limit l, none;
    cwi_accept_limit_begin(&l, 2, 1e-6, SETTLED);
    cwi_accept_limit_begin(&none, 2, 1e-6, SETTLED);
    cwi_accept_limit_count(&none, STDIN_FILENO);
    l.listener = listen_somewhere(&at);
    while (!l.closed)
        (void)gets_in(&l, &at, 2);
    for (int i = 0; i < CWI_ACCEPT_SOURCES + 8; i++)
        assert_true(gets_in(&l, &at, 10 + i));
    assert_int_equal(l.closed, 1);
    assert_false(gets_in(&l, &at, 2));
    cwi_accept_limit_count(&l, -1);
    end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_connects_too_often_waits),
        cmocka_unit_test(tokens_come_back),
        cmocka_unit_test(who_stays_pays_less),
        cmocka_unit_test(who_is_there_has_paid_all),
        cmocka_unit_test(closed_addresses_are_kept_in_mind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
