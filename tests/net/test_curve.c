/* test_curve.c - TCP with keys: the battery again, who gets in and who does not, and the files of keys. */
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "net_battery.h"
#include "tcp_proxy.h"

static const char ANY[] = "tcp://127.0.0.1:*";

/* Key files in a folder of the test's own. */
static char folder[] = "/tmp/cutwire-keys-XXXXXX";
enum { SERVER, CLIENT, STRANGER, OTHER, PAIRS };
static cw_key secrets[PAIRS], publics[PAIRS];

static void path_of(char *path, size_t size, const char *name)
{
    snprintf(path, size, "%s/%s", folder, name);
}

static void write_file(const char *name, const char *text)
{
    char path[200];
    path_of(path, sizeof path, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static cw_status read_keys(const char *name, cw_key **keys, size_t *count, cw_error *err)
{
    char path[200];
    path_of(path, sizeof path, name);
    return cw_net_read_keys(path, keys, count, err);
}

static int make_keys(void)
{
    if (!mkdtemp(folder))
        return -1;
    for (int i = 0; i < PAIRS; i++) {
        char name[20], path[200];
        cw_key *read;
        size_t count;
        snprintf(name, sizeof name, "pair%d", i);
        path_of(path, sizeof path, name);
        if (cw_net_keygen(path, &publics[i], NULL) != CW_OK || read_keys(name, &read, &count, NULL) != CW_OK)
            return -1;
        secrets[i] = read[0];
        cw_net_free_keys(read, count);
    }
    return 0;
}

static int remove_keys(void)
{
    static const char *const names[] = {"pair0",     "pair1",     "pair2",     "pair3", "pair0.pub",
                                        "pair1.pub", "pair2.pub", "pair3.pub", "list"};
    for (size_t i = 0; i < CWI_COUNT(names); i++) {
        char path[200];
        path_of(path, sizeof path, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

/* ---- who gets in ---- */

static cw_net_options server_options(void)
{
    return (cw_net_options){
        .secret_key = &secrets[SERVER], .client_keys = &publics[CLIENT], .client_key_count = 1, .heartbeat_ms = -1};
}

static cw_net_options client_options(int who)
{
    return (cw_net_options){.secret_key = &secrets[who], .server_key = &publics[SERVER], .heartbeat_ms = -1};
}

/* Connects with these options to a server with those; the client must be told why it does not get in. */
static void expect_refusal_at(int wait_ms, const cw_net_options *server_has, const cw_net_options *client_has,
                              const char *reason)
{
    cw_transport *server, *client;
    cw_frame frame;
    cw_error err = {.message = ""};
    assert_ok(cw_net_listen(ANY, server_has, &server, NULL));
    assert_ok(cw_net_connect(cw_transport_endpoint(server), client_has, &client, NULL));
    assert_ok(cw_transport_send(client, 0, "let me in", 9, NULL));
    const double deadline = cwi_seconds() + PATIENCE_MS / 1e3;
    cw_status status;
    do
        status = cw_transport_recv(client, wait_ms, &frame, &err);
    while (status == CW_ERR_TIMEOUT && cwi_seconds() < deadline);
    assert_status(status, CW_ERR_CLOSED);
    if (!strstr(err.message, reason))
        fail_msg("expected \"%s\": %s", reason, err.message);
    expect_silence(server, 0);
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
}

static void expect_refusal(const cw_net_options *server_has, const cw_net_options *client_has, const char *reason)
{
    expect_refusal_at(PATIENCE_MS, server_has, client_has, reason);
}

static void unlisted_key_is_refused(void **state)
{
    (void)state;
    cw_net_options server = server_options(), client = client_options(STRANGER);
    expect_refusal(&server, &client, "not on its list");
    expect_refusal_at(0, &server, &client, "not on its list"); /* a client that never waits */
}

/* Nobody takes its frame any more: it must not wait for that until its time-out. */
static void a_refused_client_learns_it_in_sending(void **state)
{
    (void)state;
    cw_net_options server_has = server_options(), client_has = client_options(STRANGER);
    client_has.send_timeout_ms = PATIENCE_MS;
    cw_transport *server, *client;
    cw_error err = {.message = ""};
    assert_ok(cw_net_listen(ANY, &server_has, &server, NULL));
    assert_ok(cw_net_connect(cw_transport_endpoint(server), &client_has, &client, NULL));
    expect_silence(server, 500); /* meanwhile it is refused */
    const double began = cwi_seconds();
    cw_status status;
    do
        status = cw_transport_send(client, 0, "let me in", 9, &err);
    while (status == CW_OK && cwi_seconds() < began + PATIENCE_MS / 1e3);
    assert_status(status, CW_ERR_CLOSED);
    assert_non_null(strstr(err.message, "not on its list"));
    assert_true(cwi_seconds() < began + PATIENCE_MS / 2e3);
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
}

static void wrong_server_key_is_noticed(void **state)
{
    (void)state;
    cw_net_options server = server_options(), client = client_options(CLIENT);
    client.server_key = &publics[OTHER];
    expect_refusal(&server, &client, "public key is another one");
}

static void keys_on_one_side_only_are_noticed(void **state)
{
    (void)state;
    cw_net_options server = server_options(), client = client_options(CLIENT), none = {0};
    expect_refusal(&server, &none, "one end is encrypted");
    expect_refusal(&none, &client, "one end is encrypted");
}

static void refused_clients_disturb_nobody(void **state)
{
    (void)state;
    cw_net_options server_has = server_options(), good_has = client_options(CLIENT), bad_has = client_options(STRANGER);
    cw_transport *server, *good, *bad;
    assert_ok(cw_net_listen(ANY, &server_has, &server, NULL));
    assert_ok(cw_net_connect(cw_transport_endpoint(server), &bad_has, &bad, NULL));
    assert_ok(cw_transport_send(bad, 0, "bad", 3, NULL));
    assert_ok(cw_net_connect(cw_transport_endpoint(server), &good_has, &good, NULL));
    for (int i = 0; i < 20; i++) {
        send_text(good, 0, "good");
        send_text(server, expect_text(server, "good"), "fine");
        expect_text(good, "fine");
    }
    expect_silence(server, 300);
    cw_transport_close(&bad, 0);
    cw_transport_close(&good, 0);
    cw_transport_close(&server, 0);
}

/* A list that changes while the server runs is that of new connections; one that is wrong changes nothing. */
static void keys_change_while_a_server_runs(void **state)
{
    (void)state;
    const cw_net_options server_has = server_options(), old_has = client_options(CLIENT),
                         new_has = client_options(STRANGER);
    const cw_key broken[] = {publics[STRANGER], {.text = "too short"}};
    cw_transport *server, *old, *new, *again;
    cw_frame frame;
    cw_status status;
    assert_ok(cw_net_listen(ANY, &server_has, &server, NULL));
    assert_ok(cw_net_connect(cw_transport_endpoint(server), &old_has, &old, NULL));
    send_text(old, 0, "old");
    const cw_peer peer = expect_text(server, "old");
    assert_status(cw_transport_set_client_keys(server, broken, 2, NULL), CW_ERR_INVALID);
    assert_status(cw_transport_set_client_keys(server, broken, 0, NULL), CW_ERR_INVALID);
    assert_status(cw_transport_set_client_keys(old, broken, 1, NULL), CW_ERR_INVALID);
    assert_ok(cw_transport_set_client_keys(server, &publics[STRANGER], 1, NULL));
    assert_ok(cw_net_connect(cw_transport_endpoint(server), &new_has, &new, NULL));
    send_text(new, 0, "new");
    send_text(server, expect_text(server, "new"), "fine");
    expect_text(new, "fine");
    send_text(server, peer, "as before");
    expect_text(old, "as before");
    assert_ok(cw_net_connect(cw_transport_endpoint(server), &old_has, &again, NULL));
    assert_ok(cw_transport_send(again, 0, "again", 5, NULL));
    const double deadline = cwi_seconds() + PATIENCE_MS / 1e3;
    do
        status = cw_transport_recv(again, 100, &frame, NULL);
    while (status == CW_ERR_TIMEOUT && cwi_seconds() < deadline);
    assert_status(status, CW_ERR_CLOSED);
    cw_transport_close(&again, 0);
    cw_transport_close(&new, 0);
    cw_transport_close(&old, 0);
    cw_transport_close(&server, 0);
}

static void key_mistakes_are_found_before_connecting(void **state)
{
    (void)state;
    cw_transport *t;
    cw_key broken = {.text = "too short"};
    cw_net_options o = server_options();
    o.client_key_count = 0;
    assert_status(cw_net_listen(ANY, &o, &t, NULL), CW_ERR_INVALID);
    o = server_options();
    o.secret_key = NULL;
    assert_status(cw_net_listen(ANY, &o, &t, NULL), CW_ERR_INVALID);
    o = server_options();
    o.client_keys = &broken;
    assert_status(cw_net_listen(ANY, &o, &t, NULL), CW_ERR_INVALID);
    o = client_options(CLIENT);
    o.server_key = NULL;
    assert_status(cw_net_connect("tcp://127.0.0.1:5555", &o, &t, NULL), CW_ERR_INVALID);
    o = client_options(CLIENT);
    o.secret_key = &broken;
    assert_status(cw_net_connect("tcp://127.0.0.1:5555", &o, &t, NULL), CW_ERR_INVALID);
    o = client_options(CLIENT); /* with keys, a network needs no further permission */
    assert_ok(cw_net_connect("tcp://192.0.2.1:5555", &o, &t, NULL));
    cw_transport_close(&t, 0);
}

/* ---- on the wire ---- */

static void exchange_zeros(cw_transport *from, cw_transport *to, cw_peer peer, size_t size)
{
    uint8_t *zeros = cwi_calloc(size, 1);
    cw_frame frame;
    assert_ok(cw_transport_send(from, peer, zeros, size, NULL));
    assert_ok(cw_transport_recv(to, PATIENCE_MS, &frame, NULL));
    assert_int_equal(frame.size, size);
    assert_memory_equal(frame.bytes, zeros, size);
    cw_frame_release(&frame);
    cwi_free(zeros);
}

/* Bytes through the proxy that the counters do not have, once none is on its way: those of the handshake. */
static uint64_t all_crossed(cw_transport *client, cw_transport *server, tcp_proxy *proxy, size_t size)
{
    for (int i = 0; i < PATIENCE_MS; i++) {
        expect_silence(server, 1);
        expect_silence(client, 1);
        const cw_net_stats c = cw_transport_stats(client), s = cw_transport_stats(server);
        const uint64_t up = c.bytes_sent + c.extra_sent, down = s.bytes_sent + s.extra_sent;
        if (up == s.bytes_received + s.extra_received && down == c.bytes_received + c.extra_received)
            return tcp_proxy_up(proxy) + tcp_proxy_down(proxy) - up - down;
    }
    fail_msg("a frame of %zu bytes: the counters of both ends never agree", size);
    return 0;
}

static void traffic_is_encrypted_and_counted(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 100, 213, 214, 215, 32768, 32769, 1000000};
    cw_net_options server_has = server_options(), client_has = client_options(CLIENT);
    cw_transport *server, *client;
    assert_ok(cw_net_listen(ANY, &server_has, &server, NULL));
    tcp_proxy *proxy = tcp_proxy_start(cw_transport_endpoint(server));
    assert_ok(cw_net_connect(tcp_proxy_endpoint(proxy), &client_has, &client, NULL));
    send_text(client, 0, "hello");
    cw_peer peer = expect_text(server, "hello");
    /* The greeting and HELLO of the handshake hold runs of zeros; nothing after them does. */
    assert_true(tcp_proxy_saw_runs(proxy));
    tcp_proxy_forget_runs(proxy);
    uint64_t handshake = 0;
    for (size_t i = 0; i < CWI_COUNT(sizes); i++) {
        const cw_net_stats before_client = cw_transport_stats(client), before_server = cw_transport_stats(server);
        exchange_zeros(client, server, 0, sizes[i]);
        exchange_zeros(server, client, peer, sizes[i]);
        const cw_net_stats c = cw_transport_stats(client), s = cw_transport_stats(server);
        assert_int_equal(c.bytes_sent - before_client.bytes_sent, s.bytes_received - before_server.bytes_received);
        assert_int_equal(s.bytes_sent - before_server.bytes_sent, c.bytes_received - before_client.bytes_received);
        const uint64_t crossed = all_crossed(client, server, proxy, sizes[i]);
        assert_true(!i || crossed == handshake);
        handshake = crossed;
    }
    assert_false(tcp_proxy_saw_runs(proxy));
    cw_transport_close(&client, 0);
    cw_transport_close(&server, 0);
    tcp_proxy_stop(proxy);
}

/* ---- files ---- */

static void secret_key_is_its_owners_alone(void **state)
{
    (void)state;
    char path[200];
    struct stat info;
    cw_error err;
    path_of(path, sizeof path, "pair0");
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_status(cw_net_keygen(path, NULL, &err), CW_ERR_IO); /* an existing key is never lost */
    assert_non_null(strstr(err.message, path));
    cw_key *keys;
    size_t count;
    assert_ok(read_keys("pair0.pub", &keys, &count, NULL));
    assert_int_equal(count, 1);
    assert_string_equal(keys[0].text, publics[SERVER].text);
    assert_string_not_equal(secrets[SERVER].text, publics[SERVER].text);
    cw_net_free_keys(keys, count);
}

static void list_of_keys_is_read_or_refused(void **state)
{
    (void)state;
    char text[600];
    cw_key *keys;
    size_t count;
    cw_error err;
    snprintf(text, sizeof text, "# who may join\n\n%s camera at the door\n#\n%s\n", publics[CLIENT].text,
             publics[OTHER].text);
    write_file("list", text);
    assert_ok_err(read_keys("list", &keys, &count, &err), err);
    assert_int_equal(count, 2);
    assert_string_equal(keys[0].text, publics[CLIENT].text);
    assert_string_equal(keys[1].text, publics[OTHER].text);
    cw_net_free_keys(keys, count);
    write_file("list", "# nobody\n");
    assert_status(read_keys("list", &keys, &count, &err), CW_ERR_CORRUPT);
    write_file("list", "# one\nnot a key\n");
    assert_status(read_keys("list", &keys, &count, &err), CW_ERR_CORRUPT);
    assert_int_equal(err.offset, 2);
    assert_null(keys);
    snprintf(text, sizeof text, "%.39s\"\n", publics[CLIENT].text); /* of the right length, but not Z85 */
    write_file("list", text);
    assert_status(read_keys("list", &keys, &count, &err), CW_ERR_CORRUPT);
    assert_status(read_keys("absent", &keys, &count, &err), CW_ERR_IO);
    cw_net_free_keys(NULL, 0);
}

/* A file says of its keys what they are, and each kind belongs to options of its own. */
static void the_other_kind_of_key_is_refused(void **state)
{
    (void)state;
    char text[600], path[200];
    cw_key *keys;
    size_t count;
    cw_error err;
    path_of(path, sizeof path, "pair0.pub");
    assert_ok_err(cw_net_read_keys_of(path, CW_KEY_PUBLIC, &keys, &count, &err), err);
    cw_net_free_keys(keys, count);
    assert_status(cw_net_read_keys_of(path, CW_KEY_SECRET, &keys, &count, &err), CW_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "line 2: a public key, where a secret one belongs"));
    assert_null(keys);
    path_of(path, sizeof path, "pair0");
    assert_status(cw_net_read_keys_of(path, CW_KEY_PUBLIC, &keys, &count, &err), CW_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "a secret key, where a public one belongs"));
    /* One secret key among public ones, behind a byte order mark; a remark is of the key that follows alone. */
    snprintf(text, sizeof text, "\xef\xbb\xbf# cutwire public key\r\n%s\r\n# cutwire secret key: mine\n%s\n%s\n",
             publics[CLIENT].text, secrets[OTHER].text, publics[OTHER].text);
    write_file("list", text);
    path_of(path, sizeof path, "list");
    assert_status(cw_net_read_keys_of(path, CW_KEY_PUBLIC, &keys, &count, &err), CW_ERR_MISMATCH);
    assert_int_equal(err.offset, 4);
    assert_ok_err(cw_net_read_keys(path, &keys, &count, &err), err);
    assert_int_equal(count, 3);
    assert_string_equal(keys[0].text, publics[CLIENT].text);
    cw_net_free_keys(keys, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unlisted_key_is_refused),
        cmocka_unit_test(a_refused_client_learns_it_in_sending),
        cmocka_unit_test(wrong_server_key_is_noticed),
        cmocka_unit_test(keys_on_one_side_only_are_noticed),
        cmocka_unit_test(refused_clients_disturb_nobody),
        cmocka_unit_test(keys_change_while_a_server_runs),
        cmocka_unit_test(key_mistakes_are_found_before_connecting),
        cmocka_unit_test(traffic_is_encrypted_and_counted),
        cmocka_unit_test(secret_key_is_its_owners_alone),
        cmocka_unit_test(list_of_keys_is_read_or_refused),
        cmocka_unit_test(the_other_kind_of_key_is_refused),
    };
    if (make_keys() != 0) {
        fprintf(stderr, "cannot make keys in %s\n", folder);
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    cw_net_options server = server_options(), client = client_options(CLIENT);
    use_keys(&server, &client);
    failed += run_battery(ANY);
    return failed + (remove_keys() != 0);
}
