/* test_tcp.c - the TCP transport: the battery, and what only a network does. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "base/base.h"
#include "cutwire/io.h"
#include "net_battery.h"

static const char ANY[] = "tcp://127.0.0.1:*";

static void free_port_is_told(void **state)
{
    (void)state;
    cw_transport *a = listen_on(ANY, NULL), *b = listen_on(ANY, NULL);
    assert_non_null(strstr(cw_transport_endpoint(a), "tcp://127.0.0.1:"));
    assert_null(strchr(cw_transport_endpoint(a), '*'));
    assert_string_not_equal(cw_transport_endpoint(a), cw_transport_endpoint(b));
    cw_transport_close(&a, 0);
    cw_transport_close(&b, 0);
}

static void address_in_use_says_what_to_do(void **state)
{
    (void)state;
    cw_transport *a = listen_on(ANY, NULL), *b;
    cw_error err;
    assert_status(cw_net_listen(cw_transport_endpoint(a), NULL, &b, &err), CW_ERR_IO);
    assert_non_null(strstr(err.message, "Address already in use"));
    assert_non_null(strstr(err.message, "another port"));
    assert_status(cw_net_listen("tcp://192.0.2.1:5555", &(cw_net_options){.allow_plaintext = true}, &b, &err),
                  CW_ERR_IO);
    assert_non_null(strstr(err.message, "does not have that address"));
    cw_transport_close(&a, 0);
}

static void plaintext_stays_on_this_machine_unless_allowed(void **state)
{
    (void)state;
    cw_transport *t;
    cw_error err;
    assert_status(cw_net_listen("tcp://*:*", NULL, &t, &err), CW_ERR_INVALID);
    assert_non_null(strstr(err.message, "not be encrypted"));
    assert_status(cw_net_connect("tcp://192.0.2.1:5555", NULL, &t, &err), CW_ERR_INVALID);
    const cw_net_options open = {.allow_plaintext = true};
    t = connect_to("tcp://192.0.2.1:5555", &open); /* an address for documentation: nobody answers */
    cw_transport_close(&t, 0);
}

/* A port that was free a moment ago. */
static void free_endpoint(char *out, size_t size)
{
    cw_transport *t = listen_on(ANY, NULL);
    snprintf(out, size, "%s", cw_transport_endpoint(t));
    cw_transport_close(&t, 0);
}

static void client_may_come_before_the_server(void **state)
{
    (void)state;
    char where[64];
    free_endpoint(where, sizeof where);
    cw_transport *client = connect_to(where, NULL);
    send_text(client, 0, "anybody there?");
    expect_silence(client, 200);
    cw_transport *server = listen_on(where, NULL);
    send_text(server, expect_text(server, "anybody there?"), "yes");
    expect_text(client, "yes");
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
}

/* What is sent before a client knows that its server has begun anew is lost, so it says it again. */
static cw_peer say_until_heard(cw_transport *client, cw_transport *server, const char *text)
{
    for (int i = 0; i < PATIENCE_MS / 200; i++) {
        cw_frame frame;
        send_text(client, 0, text);
        expect_silence(client, 100);
        if (cw_transport_recv(server, 100, &frame, NULL) != CW_OK)
            continue;
        assert_memory_equal(frame.bytes, text, strlen(text));
        const cw_peer peer = frame.peer;
        do
            cw_frame_release(&frame);
        while (cw_transport_recv(server, 300, &frame, NULL) == CW_OK); /* said again meanwhile */
        return peer;
    }
    fail_msg("'%s' was never heard", text);
    return 0;
}

static void clients_find_a_restarted_server(void **state)
{
    (void)state;
    char where[64];
    free_endpoint(where, sizeof where);
    cw_transport *server = listen_on(where, NULL), *client = connect_to(where, NULL);
    for (int restart = 0; restart < 3; restart++) {
        cw_peer peer = say_until_heard(client, server, "hello");
        send_text(server, peer, "welcome");
        expect_text(client, "welcome");
        cw_transport_close(&server, 0);
        expect_silence(client, 300); /* long enough to notice, and to fail to connect */
        server = listen_on(where, NULL);
    }
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
}

/* ---- strangers at the port ---- */

static int raw_connect(const char *where)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)atoi(strrchr(where, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void garbage_on_the_port_disturbs_nobody(void **state)
{
    (void)state;
    /* The greeting of ZMTP 3.1 with NULL security, for strangers that get further than the first byte. */
    static const uint8_t greeting[64] = {
        [0] = 0xff, [8] = 1, [9] = 0x7f, [10] = 3, [11] = 1, [12] = 'N', 'U', 'L', 'L'};
    cw_transport *server = listen_on(ANY, NULL), *client = connect_to(cw_transport_endpoint(server), NULL);
    send_text(client, 0, "before");
    cw_peer peer = expect_text(server, "before");
    cwi_rng random = cwi_rng_make(1, CWI_STREAM_TEST, 0, 0);
    for (int i = 0; i < 60; i++) {
        int fd = raw_connect(cw_transport_endpoint(server));
        uint8_t bytes[600];
        for (size_t n = 0; n < sizeof bytes; n++)
            bytes[n] = (uint8_t)cwi_rng_u64(&random);
        if (i % 3 == 1)
            memcpy(bytes, "GET / HTTP/1.1\r\n\r\n", 18);
        if (i % 3 == 2)
            memcpy(bytes, greeting, sizeof greeting);
        ssize_t sent = send(fd, bytes, cwi_rng_below(&random, sizeof bytes + 1), MSG_NOSIGNAL);
        (void)sent; /* the server may have closed already */
        if (i % 2)
            close(fd);
        send_text(client, 0, "between");
        assert_true(expect_text(server, "between") == peer);
        send_text(server, peer, "still here");
        expect_text(client, "still here");
        if (!(i % 2))
            close(fd);
    }
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
}

/* Programs that speak ZeroMQ, but not as our clients do. */
static void foreign_zeromq_peers_are_not_heard(void **state)
{
    (void)state;
    cw_transport *server = listen_on(ANY, NULL), *client = connect_to(cw_transport_endpoint(server), NULL);
    void *context = zmq_ctx_new(), *strangers[4];
    static const int types[4] = {ZMQ_DEALER, ZMQ_REQ, ZMQ_DEALER, ZMQ_DEALER};
    static const char marked[2][18] = {"c0123456789abcdef", "c0123456789abcdeg"}; /* 17 bytes with our mark */
    int none = 0;
    for (int i = 0; i < 4; i++) {
        strangers[i] = zmq_socket(context, types[i]);
        zmq_setsockopt(strangers[i], ZMQ_LINGER, &none, sizeof none);
        if (i >= 2)
            zmq_setsockopt(strangers[i], ZMQ_ROUTING_ID, marked[i - 2], 17);
        assert_int_equal(zmq_connect(strangers[i], cw_transport_endpoint(server)), 0);
        if (i == 3)
            zmq_send(strangers[i], "several", 7, ZMQ_SNDMORE);
        zmq_send(strangers[i], "parts or no header", 18, 0);
    }
    expect_silence(server, 300);
    send_text(client, 0, "one of ours");
    expect_text(server, "one of ours");
    for (int i = 0; i < 4; i++)
        zmq_close(strangers[i]);
    zmq_ctx_term(context);
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
}

/* ---- as many connections as are wanted, and threads for them ---- */

/* Whether the other end closes it, within less than it takes to be tired of a silent one. */
static bool is_closed_soon(int fd)
{
    char bytes[64];
    struct pollfd item = {.fd = fd, .events = POLLIN};
    while (poll(&item, 1, 5000) > 0)
        if (read(fd, bytes, sizeof bytes) <= 0)
            return true;
    return false;
}

static void further_connections_are_closed(void **state)
{
    (void)state;
    enum { MOST = 2 };
    const cw_net_options options = {.connections = MOST, .io_threads = 3};
    cw_transport *server, *clients[MOST + 1];
    assert_ok(cw_net_listen("tcp://127.0.0.1:*", &options, &server, NULL));
    for (size_t i = 0; i <= MOST; i++) {
        if (i == MOST) {
            int further = raw_connect(cw_transport_endpoint(server));
            assert_true(is_closed_soon(further));
            close(further);
            cw_transport_close(&clients[0], 0); /* which makes room */
        }
        assert_ok(cw_net_connect(cw_transport_endpoint(server), NULL, &clients[i], NULL));
        send_text(clients[i], 0, "in");
        send_text(server, expect_text(server, "in"), "fine");
        expect_text(clients[i], "fine");
    }
    for (size_t i = 1; i <= MOST; i++)
        cw_transport_close(&clients[i], 0);
    cw_transport_close(&server, 0);
}

/* ---- more connections than there are descriptors ---- */

enum { CROWD = 400 };

/* A process that opens many connections to the port it is told, and holds them until it is killed. */
static pid_t start_crowd(int *tell)
{
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char where[64] = "";
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (read(pipe_ends[0], where, sizeof where - 1) > 0)
            for (int i = 0; i < CROWD; i++)
                raw_connect(where);
        for (;;)
            pause();
    }
    assert_true(pid > 0);
    close(pipe_ends[0]);
    *tell = pipe_ends[1];
    return pid;
}

static int lowest_free(void)
{
    int fd = dup(STDERR_FILENO);
    if (fd >= 0)
        close(fd);
    return fd;
}

static void limit_files(rlim_t files, struct rlimit *old)
{
    assert_int_equal(getrlimit(RLIMIT_NOFILE, old), 0);
    const struct rlimit small = {.rlim_cur = files, .rlim_max = old->rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
}

/* Who is connected goes on, and files can be written. */
static void a_crowd_leaves_descriptors_to_work_with(void **state)
{
    (void)state;
    int tell;
    pid_t crowd = start_crowd(&tell);
    struct rlimit old;
    limit_files((rlim_t)lowest_free() + 64, &old);
    cw_transport *server = listen_on(ANY, NULL), *client = connect_to(cw_transport_endpoint(server), NULL);
    send_text(client, 0, "before");
    cw_peer peer = expect_text(server, "before");
    const char *where = cw_transport_endpoint(server);
    assert_true(write(tell, where, strlen(where)) > 0);
    double start = cwi_seconds(), crowded = 0;
    int failed = 0, written = 0, highest = 0;
    while (cwi_seconds() - start < 3) {
        cw_error err;
        highest = CWI_MAX(highest, lowest_free());
        if (cw_file_write("crowd.tmp", "x", 1, &err) == CW_OK)
            written++;
        else
            failed++;
        crowded += lowest_free() < 0;
        send_text(server, peer, "still here");
        expect_text(client, "still here");
    }
    kill(crowd, SIGKILL);
    waitpid(crowd, NULL, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    unlink("crowd.tmp");
    printf("%d files written beside %d connections, at most descriptor %d free; none was %g times\n", written, CROWD,
           highest, crowded);
    assert_int_equal(failed, 0);
    assert_true(written > 10);
    close(tell);
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
}

static void too_few_descriptors_are_told(void **state)
{
    (void)state;
    struct rlimit old;
    cw_transport *t;
    cw_error err;
    cw_transport *first = listen_on(ANY, NULL); /* has opened what is opened once */
    limit_files((rlim_t)lowest_free() + 18, &old);
    cw_status status = cw_net_listen(ANY, NULL, &t, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_status(status, CW_ERR_IO);
    assert_non_null(strstr(err.message, "ulimit -n"));
    cw_transport_close(&first, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(further_connections_are_closed),
        cmocka_unit_test(free_port_is_told),
        cmocka_unit_test(address_in_use_says_what_to_do),
        cmocka_unit_test(plaintext_stays_on_this_machine_unless_allowed),
        cmocka_unit_test(client_may_come_before_the_server),
        cmocka_unit_test(clients_find_a_restarted_server),
        cmocka_unit_test(garbage_on_the_port_disturbs_nobody),
        cmocka_unit_test(foreign_zeromq_peers_are_not_heard),
        cmocka_unit_test(a_crowd_leaves_descriptors_to_work_with),
        cmocka_unit_test(too_few_descriptors_are_told),
    };
    int failed = run_battery(ANY);
    return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
