/* test_ahead.c - what is decoded ahead is what would be decoded in turn, and only its own message gets it. */
#include <string.h>

#include "config/setup.h"
#include "modes/ahead.h"
#include "train_test.h"

#include "test.h"

enum { BATCH = 5, CAPACITY = 1 << 20 };

/* An ACTIVATION of BATCH samples, all of them `value`, into bytes that hold it. */
static cw_frame make_frame(const cwi_setup *setup, float value, uint8_t *bytes)
{
    static float x[CAPACITY / 8];
    static uint8_t payload[CAPACITY / 2];
    const int32_t labels[BATCH] = {0};
    const int64_t *dim = setup->cut.smashed.dim;
    const cw_shape shape = cw_shape_of(4, (int64_t[]){BATCH, dim[0], dim[1], dim[2]});
    const cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    cw_msg msg = {.type = CW_MSG_ACTIVATION, .phase = CW_PHASE_TRAIN, .samples = BATCH, .labels = labels};
    size_t count, size;
    assert_ok(cw_shape_count(&shape, &count));
    assert_true(count <= CWI_COUNT(x));
    for (size_t i = 0; i < count; i++)
        x[i] = value + (float)(i % 7);
    assert_ok(cw_encode(setup->up, &t, NULL, payload, sizeof payload, &size, NULL));
    msg.blob = payload;
    msg.blob_size = size;
    assert_ok(cw_msg_encode(&msg, bytes, CAPACITY, &size, NULL));
    return (cw_frame){.bytes = bytes, .size = size};
}

static cw_msg message_in(const cw_frame *frame)
{
    cw_msg msg;
    assert_ok(cw_msg_decode(frame->bytes, frame->size, &msg, NULL));
    return msg;
}

static void assert_taken(cwi_ahead *a, const cw_frame *frame, cwi_batch_room *room, cwi_batch_room *in_turn)
{
    const cw_msg msg = message_in(frame);
    cw_status status;
    cw_error err;
    int32_t *const labels = room->labels;
    assert_true(cwi_ahead_take(a, &msg, room, &status, &err));
    assert_ok_err(status, err);
    assert_ok_err(cwi_batch_room_decode(in_turn, &msg, 2, &err), err);
    assert_int_equal(cwi_batch_elements(room), cwi_batch_elements(in_turn));
    assert_memory_equal(room->x, in_turn->x, cwi_batch_elements(room) * sizeof(float));
    assert_memory_equal(room->sent, in_turn->sent, cwi_batch_elements(room));
    assert_ptr_equal(room->labels, labels);
}

static void what_is_decoded_ahead_is_its_own(void **state)
{
    (void)state;
    static uint8_t bytes[3][CAPACITY];
    cw_config config = small_config(2, "ec:err=0.1", "ec:step=1,round=stochastic,scope=sample");
    cwi_setup setup;
    cwi_batch_room room, in_turn;
    cw_status status = CW_OK;
    cw_error err;
    config.threads = 1;
    snprintf(config.mask_gradient, sizeof config.mask_gradient, "1");
    assert_ok_err(cwi_setup_open(&config, &setup, &err), err);
    assert_ok_err(cwi_batch_room_open(&room, &setup, &err), err);
    assert_ok_err(cwi_batch_room_open(&in_turn, &setup, &err), err);
    cwi_ahead *a = cwi_ahead_open(&setup);
    assert_non_null(a);
    assert_non_null(room.sent);
    cw_frame frame[3];
    for (int i = 0; i < 3; i++)
        frame[i] = make_frame(&setup, (float)i, bytes[i]);
    for (int i = 0; i < 200; i++) {
        cwi_ahead_begin(a, &frame[i % 2]);
        assert_taken(a, &frame[i % 2], &room, &in_turn);
    }
    const cw_msg first = message_in(&frame[0]), second = message_in(&frame[1]), third = message_in(&frame[2]);
    assert_false(cwi_ahead_take(a, &first, &room, &status, &err)); /* it was taken before */
    cwi_ahead_begin(a, &frame[0]);
    assert_false(cwi_ahead_take(a, &second, &room, &status, &err));
    assert_false(cwi_ahead_take(a, &first, &room, &status, &err)); /* and is gone with that */
    cwi_ahead_begin(a, &frame[0]);
    cwi_ahead_forget(a);
    assert_false(cwi_ahead_take(a, &first, &room, &status, &err));
    bytes[2][frame[2].size - 1] ^= 1; /* of its payload */
    cwi_ahead_begin(a, &frame[2]);
    assert_true(cwi_ahead_take(a, &third, &room, &status, &err));
    assert_true(status != CW_OK);
    cwi_ahead_begin(a, &frame[0]);
    cwi_ahead_begin(a, &frame[1]); /* instead of it */
    assert_taken(a, &frame[1], &room, &in_turn);
    cwi_ahead_begin(a, &frame[0]); /* still at work, maybe */
    cwi_ahead_close(a);
    cwi_batch_room_close(&room);
    cwi_batch_room_close(&in_turn);
    cwi_setup_close(&setup);
}

/* Nobody to wait for, or no processor: nothing is begun, and all functions know. */
static void it_is_there_where_it_pays(void **state)
{
    (void)state;
    cw_config config = small_config(1, "ms:r=0.99,b=2", "none");
    cwi_setup setup;
    cw_error err;
    config.threads = 1;
    assert_ok_err(cwi_setup_open(&config, &setup, &err), err);
    assert_null(cwi_ahead_open(&setup));
    setup.config.clients = 2;
    assert_true(cwi_ahead_pays(&setup));
    setup.config.threads = 0;
    assert_null(cwi_ahead_open(&setup));
    setup.config.threads = setup.config.batch = 1;
    assert_null(cwi_ahead_open(&setup));
    const cw_msg msg = {.type = CW_MSG_ACTIVATION};
    cw_status status;
    cwi_batch_room room = {0};
    cwi_ahead_begin(NULL, &(cw_frame){0});
    cwi_ahead_forget(NULL);
    assert_false(cwi_ahead_take(NULL, &msg, &room, &status, &err));
    cwi_ahead_close(NULL);
    cwi_setup_close(&setup);
}

int main(void)
{
    require_data();
    if (cwi_cpu_count() < 2) {
        printf("SKIP: nothing is decoded ahead on one processor\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_decoded_ahead_is_its_own),
        cmocka_unit_test(it_is_there_where_it_pays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
