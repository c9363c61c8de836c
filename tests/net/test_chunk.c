/* test_chunk.c - chunks and peers: what holds TCP frames together, fed with nonsense. */
#include "base/base.h"
#include "net/chunk.h"
#include "net/endpoint.h"
#include "net/peer_table.h"
#include "test.h"

enum { MAX_FRAME = 1 << 20 };

static uint8_t chunk[CWI_CHUNK_HEADER + CWI_CHUNK_DATA + 1];

static cw_status take(cwi_assembly *a, uint32_t number, bool first, uint32_t left, size_t length, cw_frame *out)
{
    cwi_chunk_header(chunk, number, first, left);
    memset(chunk + CWI_CHUNK_HEADER, (int)number, length);
    return cwi_assembly_take(a, chunk, CWI_CHUNK_HEADER + length, MAX_FRAME, out, NULL);
}

static void chunks_make_a_frame(void **state)
{
    (void)state;
    cwi_assembly a = {0};
    cw_frame frame;
    assert_status(take(&a, 1, true, CWI_CHUNK_DATA + 5, CWI_CHUNK_DATA, &frame), CW_END);
    assert_status(take(&a, 1, false, 5, 5, &frame), CW_OK);
    assert_int_equal(frame.size, CWI_CHUNK_DATA + 5);
    assert_null(a.bytes);
    cw_frame_release(&frame);
    assert_status(take(&a, 2, true, 0, 0, &frame), CW_OK);
    assert_int_equal(frame.size, 0);
    cw_frame_release(&frame);
}

static void lost_chunks_lose_their_frame_only(void **state)
{
    (void)state;
    const uint32_t full = CWI_CHUNK_DATA;
    cwi_assembly a = {0};
    cw_frame frame;
    /* Frames 1 and 2 of two chunks each: the end of the first and the beginning of the second are lost. */
    assert_status(take(&a, 1, true, 2 * full, full, &frame), CW_END);
    assert_status(take(&a, 2, false, full, full, &frame), CW_END);
    assert_null(a.bytes);
    assert_status(take(&a, 3, true, 4, 4, &frame), CW_OK);
    assert_int_equal(frame.bytes[0], 3);
    cw_frame_release(&frame);
    /* A beginning without an end. */
    assert_status(take(&a, 4, true, 2 * full, full, &frame), CW_END);
    assert_status(take(&a, 5, true, 4, 4, &frame), CW_OK);
    assert_int_equal(frame.bytes[0], 5);
    cw_frame_release(&frame);
    assert_status(take(&a, 9, false, 100, 100, &frame), CW_END);
}

static void nonsense_is_a_protocol_error(void **state)
{
    (void)state;
    cwi_assembly a = {0};
    cw_frame frame;
    for (size_t size = 0; size < CWI_CHUNK_HEADER; size++)
        assert_status(cwi_assembly_take(&a, chunk, size, MAX_FRAME, &frame, NULL), CW_ERR_PROTOCOL);
    assert_status(take(&a, 1, true, 10, 11, &frame), CW_ERR_PROTOCOL);
    assert_status(take(&a, 1, true, 10, 9, &frame), CW_ERR_PROTOCOL);
    assert_status(take(&a, 1, true, UINT32_MAX, 100, &frame), CW_ERR_PROTOCOL);
    assert_status(take(&a, 1, true, MAX_FRAME + 1, CWI_CHUNK_DATA, &frame), CW_ERR_PROTOCOL);
    assert_status(take(&a, 1, true, UINT32_MAX, CWI_CHUNK_DATA + 1, &frame), CW_ERR_PROTOCOL);
    assert_null(a.bytes);
}

static void memory_follows_what_arrived(void **state)
{
    (void)state;
    cwi_assembly a = {0};
    cw_frame frame;
    assert_status(take(&a, 1, true, MAX_FRAME, CWI_CHUNK_DATA, &frame), CW_END);
    assert_int_equal(a.capacity, CWI_CHUNK_DATA);
    cwi_assembly_reset(&a);
}

static void make_id(uint8_t id[CWI_ROUTING_ID_SIZE], unsigned n)
{
    memset(id, 0, CWI_ROUTING_ID_SIZE);
    id[0] = CWI_ROUTING_ID_MARK;
    cwi_put_le(id + 1, n, 4);
}

static void peers_keep_their_names(void **state)
{
    (void)state;
    enum { PEERS = 1000 };
    cwi_peer_table *table = cwi_peer_table_create(2 * PEERS, 0);
    uint8_t id[CWI_ROUTING_ID_SIZE];
    cw_peer names[PEERS];
    assert_null(cwi_peer_find(table, 1));
    for (unsigned i = 0; i < PEERS; i++) {
        make_id(id, i);
        names[i] = cwi_peer_heard(table, id)->name;
        assert_true(names[i] != 0);
    }
    for (unsigned i = 0; i < PEERS; i++) {
        make_id(id, i);
        assert_true(cwi_peer_heard(table, id)->name == names[i]);
        assert_memory_equal(cwi_peer_find(table, names[i])->id, id, sizeof id);
    }
    assert_null(cwi_peer_find(table, 0));
    assert_null(cwi_peer_find(table, PEERS + 1));
    cwi_peer_table_destroy(&table);
    assert_null(table);
}

static cwi_peer *hear(cwi_peer_table *table, unsigned n)
{
    uint8_t id[CWI_ROUTING_ID_SIZE];
    make_id(id, n);
    return cwi_peer_heard(table, id);
}

static void full_table_forgets_strangers_then_the_longest_silent(void **state)
{
    (void)state;
    cwi_peer_table *table = cwi_peer_table_create(3, 0);
    cw_peer names[3];
    for (unsigned i = 0; i < 3; i++) {
        cwi_peer *peer = hear(table, i);
        names[i] = peer->name;
        if (i != 2)
            cwi_peer_answered(table, peer);
    }
    hear(table, 0);
    cwi_peer *fresh = hear(table, 77);
    const cw_peer fresh_name = fresh->name;
    assert_null(cwi_peer_find(table, names[2])); /* which was heard last of these, but is a stranger */
    assert_non_null(cwi_peer_find(table, names[0]));
    assert_non_null(cwi_peer_find(table, names[1]));
    cwi_peer_answered(table, fresh);
    hear(table, 78); /* no stranger is left */
    assert_null(cwi_peer_find(table, names[1]));
    assert_non_null(cwi_peer_find(table, names[0]));
    assert_non_null(cwi_peer_find(table, fresh_name));
    cwi_peer_drop(table, cwi_peer_find(table, fresh_name));
    cwi_peer_answered(table, hear(table, 78));
    cw_peer again = hear(table, 2)->name; /* comes back under a name never used before, in place of who was dropped */
    assert_true(again != names[0] && again != names[1] && again != names[2] && again != fresh_name);
    assert_null(cwi_peer_find(table, fresh_name));
    cwi_peer_table_destroy(&table);
}

/* Half a million ids, each heard once, while two clients that were answered are silent. */
static void a_flood_of_strangers_drives_nobody_out(void **state)
{
    (void)state;
    enum { LIMIT = 1 << 12, FLOOD = 1 << 19 };
    cwi_peer_table *table = cwi_peer_table_create(LIMIT, 0);
    cw_peer names[2];
    for (unsigned i = 0; i < 2; i++) {
        cwi_peer *peer = hear(table, FLOOD + i);
        names[i] = peer->name;
        cwi_peer_answered(table, peer);
    }
    static cw_peer last[LIMIT];
    for (unsigned i = 0; i < FLOOD; i++) {
        last[i % LIMIT] = hear(table, i)->name;
        assert_true(hear(table, i)->name == last[i % LIMIT]);
    }
    for (unsigned i = 0; i < 2; i++)
        assert_true(hear(table, FLOOD + i)->name == names[i]);
    for (unsigned i = FLOOD - LIMIT / 2; i < FLOOD; i++) /* the last are still found after so many were taken out */
        assert_true(hear(table, i)->name == last[i % LIMIT]);
    cwi_peer_table_destroy(&table);
}

static cw_status begin_frame(cwi_peer_table *table, cwi_peer *peer, bool first, size_t left, cw_frame *out)
{
    static uint8_t bytes[CWI_CHUNK_HEADER + CWI_CHUNK_DATA];
    const size_t length = CWI_MIN(left, (size_t)CWI_CHUNK_DATA);
    cwi_chunk_header(bytes, 1, first, (uint32_t)left);
    return cwi_peer_take(table, peer, bytes, CWI_CHUNK_HEADER + length, 1 << 30, out, NULL);
}

static void begun_frames_of_strangers_are_bounded(void **state)
{
    (void)state;
    enum { PEERS = 100, MOST = 10 * CWI_CHUNK_DATA, FRAME = CWI_CHUNK_DATA + 1 };
    cwi_peer_table *table = cwi_peer_table_create(2 * PEERS, MOST);
    cw_frame frame;
    cwi_peer *client = hear(table, PEERS);
    assert_int_equal(begin_frame(table, client, true, FRAME, &frame), CW_END);
    cwi_peer_answered(table, client);
    size_t held = 0, done = 0;
    for (unsigned i = 0; i < PEERS; i++)
        assert_int_equal(begin_frame(table, hear(table, i), true, FRAME, &frame), CW_END);
    for (unsigned i = 0; i < PEERS; i++)
        held += hear(table, i)->in.capacity;
    assert_true(held > 0 && held <= MOST);
    for (unsigned i = 0; i < PEERS; i++) { /* those that were not given up are made whole, the others are not */
        const bool kept = hear(table, i)->in.capacity > 0;
        cw_status status = begin_frame(table, hear(table, i), false, 1, &frame);
        assert_int_equal(status, kept ? CW_OK : CW_END);
        if (status == CW_OK)
            cwi_free(frame.owner);
        done += kept;
    }
    assert_true(done >= 9);
    assert_int_equal(begin_frame(table, hear(table, PEERS), false, 1, &frame), CW_OK); /* the client's is not touched */
    assert_int_equal(frame.size, FRAME);
    cwi_free(frame.owner);
    cwi_peer_table_destroy(&table);
}

static void endpoints_are_understood(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool listen;
        const char *zmq; /* NULL: refused */
        bool loopback;
    } cases[] = {
        {"tcp://127.0.0.1:5555", true, "tcp://127.0.0.1:5555", true},
        {"tcp://127.0.0.1:*", true, "tcp://127.0.0.1:*", true},
        {"tcp://127.0.0.1:0", true, "tcp://127.0.0.1:*", true},
        {"tcp://127.3.2.1:80", false, "tcp://127.3.2.1:80", true},
        {"tcp://localhost:80", true, "tcp://127.0.0.1:80", true},
        {"tcp://localhost:80", false, "tcp://localhost:80", true},
        {"tcp://*:5555", true, "tcp://*:5555", false},
        {"tcp://0.0.0.0:5555", true, "tcp://0.0.0.0:5555", false},
        {"tcp://192.0.2.1:5555", false, "tcp://192.0.2.1:5555", false},
        {"tcp://[::1]:5555", true, "tcp://[::1]:5555", true},
        {"tcp://[2001:db8::1]:5555", false, "tcp://[2001:db8::1]:5555", false},
        {"tcp://*:5555", false, NULL, false},
        {"tcp://127.0.0.1:*", false, NULL, false},
        {"tcp://127.0.0.1:0", false, NULL, false},
        {"tcp://", true, NULL, false},
        {"tcp://:5555", true, NULL, false},
        {"tcp://127.0.0.1", true, NULL, false},
        {"tcp://127.0.0.1:", true, NULL, false},
        {"tcp://127.0.0.1:65536", true, NULL, false},
        {"tcp://127.0.0.1:99999999999", true, NULL, false},
        {"tcp://127.0.0.1:-1", true, NULL, false},
        {"tcp://127.0.0.1:55x", true, NULL, false},
        {"tcp://[::1:5555", true, NULL, false},
        {"tcp://[]:5555", true, NULL, false},
        {"tcp://[nonsense]:5555", false, NULL, false},
        {"tcp://not an address:5555", false, NULL, false},
        {"tcp://example.invalid:5555", true, NULL, false},
    };
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        cwi_tcp_endpoint e;
        cw_error err = {.message = ""};
        cw_status status = cwi_endpoint_parse(cases[i].text, cases[i].listen, &e, &err);
        if (!cases[i].zmq) {
            if (status == CW_OK || !strstr(err.message, cases[i].text))
                fail_msg("%s: %s: %s", cases[i].text, cw_status_name(status), err.message);
            continue;
        }
        if (status != CW_OK)
            fail_msg("%s: %s", cases[i].text, err.message);
        assert_string_equal(e.text, cases[i].zmq);
        assert_int_equal(e.loopback, cases[i].loopback);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_make_a_frame),
        cmocka_unit_test(lost_chunks_lose_their_frame_only),
        cmocka_unit_test(nonsense_is_a_protocol_error),
        cmocka_unit_test(memory_follows_what_arrived),
        cmocka_unit_test(peers_keep_their_names),
        cmocka_unit_test(full_table_forgets_strangers_then_the_longest_silent),
        cmocka_unit_test(a_flood_of_strangers_drives_nobody_out),
        cmocka_unit_test(begun_frames_of_strangers_are_bounded),
        cmocka_unit_test(endpoints_are_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
