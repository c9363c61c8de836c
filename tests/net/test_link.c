/* test_link.c - what both ends of a link that survives its connections remember, and the bytes that they say it in. */
#include "net/link.h"

#include "test.h"

static void control_chunks_have_these_bytes(void **state)
{
    (void)state;
    static const uint8_t golden[CWI_CONTROL_SIZE] = {
        0,    0,    0,    0,    24,   0,    0,    0,    4, 0, 0, 0, 0, 0,    0, 0, /* frame 0, 24 bytes left; ACK */
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 7, 0, 0, 0, 0, 0x80, 0, 0};
    const cwi_control control = {
        .kind = CWI_CONTROL_ACK, .server = UINT64_C(0x1122334455667788), .expected = 7, .have = 32768};
    uint8_t chunk[CWI_CONTROL_SIZE];
    cwi_control read;
    cwi_control_write(chunk, &control);
    assert_memory_equal(chunk, golden, sizeof golden);
    assert_true(cwi_control_read(chunk, sizeof chunk, &read));
    assert_true(read.kind == control.kind && read.server == control.server && read.expected == 7 && read.have == 32768);
    for (size_t size = 0; size < sizeof chunk; size++)
        assert_false(cwi_control_read(chunk, size, &read));
    for (int kind = 0; kind < 256; kind++) {
        chunk[8] = (uint8_t)kind;
        assert_int_equal(cwi_control_read(chunk, sizeof chunk, &read), kind >= 1 && kind <= 7);
    }
}

/* To whom knows nothing of them they are chunks of no frame. */
static void control_chunks_are_no_frame(void **state)
{
    (void)state;
    uint8_t chunk[CWI_CONTROL_SIZE];
    cwi_assembly a = {0};
    cw_frame frame;
    cwi_control_write(chunk, &(cwi_control){.kind = CWI_CONTROL_RESUME, .expected = 1});
    assert_status(cwi_assembly_take(&a, chunk, sizeof chunk, 1000, &frame, NULL), CW_END);
    assert_null(a.bytes);
}

static void frames_are_kept_until_the_other_end_has_them(void **state)
{
    (void)state;
    cwi_link l = {.joined = true};
    for (uint32_t number = 1; number <= 4; number++)
        assert_ok(cwi_link_keep(&l, number, "abcdef", number, NULL));
    assert_false(cwi_link_release(&l, 6, 0, 5)); /* what it wants was never sent, */
    assert_true(cwi_link_release(&l, 3, 2, 5));
    assert_int_equal(l.first->number, 3);
    assert_int_equal(cwi_link_moved(&l), 1 + 2 + 2);
    assert_true(cwi_link_release(&l, 3, 100, 5)); /* or is no more than the frame */
    assert_int_equal(cwi_link_moved(&l), 1 + 2 + 3);
    assert_false(cwi_link_release(&l, 2, 0, 5)); /* or is not kept any more */
    cwi_link_forget_last(&l);
    assert_int_equal(l.last->number, 3);
    assert_true(cwi_link_release(&l, 4, 0, 4));
    assert_null(l.first);
    assert_null(l.last);
    assert_int_equal(l.kept, 0);
    cwi_link_forget_last(&l);
    cwi_link_clear(&l);
}

static void each_frame_is_taken_once_and_none_behind_a_gap(void **state)
{
    (void)state;
    cwi_link l = {0};
    assert_false(cwi_link_wants(&l, 5)); /* left of a connection to an earlier server */
    assert_true(cwi_link_wants(&l, 1));
    cwi_link_took(&l, 1, 10, 0);
    assert_true(cwi_link_wants(&l, 5)); /* the other end may know nothing of all this */
    l.joined = true;
    assert_false(cwi_link_wants(&l, 5));
    assert_false(cwi_link_wants(&l, 1));
    assert_true(cwi_link_wants(&l, 2));
    l.taken = CWI_CHUNK_FIRST - 1;
    assert_true(cwi_link_wants(&l, 1)); /* 0 is no frame's number */
}

static void acknowledgements_come_by_bytes_frames_and_time(void **state)
{
    (void)state;
    cwi_link l = {.joined = true};
    const double now = cwi_seconds();
    assert_false(cwi_link_ack_due(&l, now + 100));
    cwi_link_took(&l, 1, 100, 0);
    assert_false(cwi_link_ack_due(&l, now));
    assert_true(cwi_link_ack_due(&l, now + 2));
    assert_int_equal(cwi_link_ack(&l, 9).expected, 2);
    assert_false(cwi_link_ack_due(&l, now + 100));
    for (uint32_t i = 2; i < 18; i++)
        cwi_link_took(&l, i, 1, 0);
    assert_true(cwi_link_ack_due(&l, now));
    (void)cwi_link_ack(&l, 9);
    cwi_link_took(&l, 18, 70000, 70000); /* within a frame by time alone */
    assert_false(cwi_link_ack_due(&l, cwi_seconds()));
    const cwi_control ack = cwi_link_ack(&l, 9);
    assert_true(ack.expected == 18 && ack.have == 70000);
    cwi_link_took(&l, 18, 10, 0);
    l.broken = true;
    assert_false(cwi_link_ack_due(&l, now + 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_chunks_have_these_bytes),
        cmocka_unit_test(control_chunks_are_no_frame),
        cmocka_unit_test(frames_are_kept_until_the_other_end_has_them),
        cmocka_unit_test(each_frame_is_taken_once_and_none_behind_a_gap),
        cmocka_unit_test(acknowledgements_come_by_bytes_frames_and_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
