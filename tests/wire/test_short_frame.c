/* test_short_frame.c - frames without what was in the one before: back to the same bytes, or refused. */
#include "base/base.h"
#include "codec/payload.h"
#include "cutwire/codec.h"
#include "cutwire/wire.h"
#include "test.h"
#include "wire/short_frame.h"

enum { BUFFER = 4096, CHANNELS = 4, SIDE = 6, HEAD = 48 };

/* ---- frames as inference sends them ---- */

static size_t make_request(uint32_t request, uint64_t seed, size_t samples, const char *spec, uint8_t *frame)
{
    float x[3 * CHANNELS * SIDE * SIDE];
    cw_codec *codec;
    cw_error err;
    cwi_rng rng = cwi_rng_make(seed, CWI_STREAM_TEST, 0, 0);
    for (size_t i = 0; i < samples * CHANNELS * SIDE * SIDE; i++)
        x[i] = (float)cwi_rng_normal(&rng);
    const cw_shape shape = cw_shape_of(4, (int64_t[]){(int64_t)samples, CHANNELS, SIDE, SIDE});
    const cw_tensor t = cw_tensor_view(CW_F32, &shape, x);
    size_t size, payload;
    assert_ok_err(cw_codec_create(spec, &codec, &err), err);
    assert_ok_err(cw_encode(codec, &t, NULL, frame + HEAD, BUFFER - HEAD, &payload, &err), err);
    cw_codec_destroy(&codec);
    const cw_msg msg = {.type = CW_MSG_REQUEST,
                        .client = 3,
                        .session = 0x1122334455667788,
                        .request = request,
                        .samples = samples,
                        .top = 3,
                        .blob = frame + HEAD,
                        .blob_size = payload};
    assert_ok_err(cw_msg_encode(&msg, frame, BUFFER, &size, &err), err);
    return size;
}

static size_t make_answer(uint32_t request, uint8_t first, uint8_t *frame)
{
    uint8_t blob[16] = {first, 0, 0, 0, 0, 0, 0, 0x3f, 7, 0, 0, 0, 0, 0, 0x80, 0x3e};
    const cw_msg msg = {.type = CW_MSG_ANSWER,
                        .client = 3,
                        .session = 0x1122334455667788,
                        .request = request,
                        .samples = 1,
                        .top = 2,
                        .blob = blob,
                        .blob_size = sizeof blob};
    size_t size;
    assert_ok(cw_msg_encode(&msg, frame, BUFFER, &size, NULL));
    return size;
}

/* ---- tests ---- */

static void requests_come_back_whole(void **state)
{
    static const char *const specs[] = {"ec:err=0.2", "ec:step=0.5", "qu:b=2", "none", "ms:r=0.9,b=2,entropy=ctx"};
    (void)state;
    for (size_t i = 0; i < CWI_COUNT(specs); i++) {
        cwi_short_memory out = {.size = 0}, in = {.size = 0};
        for (uint32_t n = 0xfffffffe; n != 5; n++) { /* the number wraps, too */
            uint8_t frame[BUFFER], sent[BUFFER], *back;
            size_t back_size;
            cw_error err;
            const size_t size = make_request(n, n + 100, 1, specs[i], frame);
            const size_t less = cwi_short_write(&out, CW_MSG_REQUEST, frame, size, sent);
            assert_true(n == 0xfffffffe ? less == 0 : less > 0 && less + 65 <= size);
            cwi_short_note(&out, CW_MSG_REQUEST, frame, size);
            assert_false(cwi_short_is(frame, size));
            if (less) {
                cw_msg msg;
                assert_true(cwi_short_is(sent, less));
                assert_ok_err(cwi_short_read(&in, CW_MSG_REQUEST, sent, less, &back, &back_size, &err), err);
                assert_int_equal(back_size, size);
                assert_memory_equal(back, frame, size);
                assert_ok_err(cw_msg_decode(back, back_size, &msg, &err), err);
                assert_int_equal(msg.request, n);
                cwi_free(back);
            }
            cwi_short_note(&in, CW_MSG_REQUEST, frame, size);
        }
    }
}

/* What is not as before travels whole. */
static void other_frames_have_no_short_form(void **state)
{
    uint8_t frame[BUFFER], sent[BUFFER];
    cwi_short_memory m = {.size = 0};
    (void)state;
    cwi_short_note(&m, CW_MSG_REQUEST, frame, make_answer(1, 0, frame)); /* is none of the type */
    assert_int_equal(m.size, 0);
    cwi_short_note(&m, CW_MSG_REQUEST, frame, make_request(1, 1, 1, "ec:err=0.2", frame));
    assert_int_not_equal(cwi_short_write(&m, CW_MSG_REQUEST, frame, make_request(2, 2, 1, "ec:err=0.2", frame), sent),
                         0);
    static const struct {
        uint32_t request;
        size_t samples;
        const char *spec;
    } others[] = {{3, 1, "ec:err=0.2"}, {1, 1, "ec:err=0.2"}, {2, 3, "ec:err=0.2"}, {2, 1, "none"}};
    for (size_t i = 0; i < CWI_COUNT(others); i++) {
        const size_t size = make_request(others[i].request, 2, others[i].samples, others[i].spec, frame);
        assert_int_equal(cwi_short_write(&m, CW_MSG_REQUEST, frame, size, sent), 0);
    }
    size_t size = make_request(2, 2, 1, "ec:err=0.2", frame);
    frame[HEAD + 12] ^= 1; /* the payload's checksum, which is not sent, is not its payload's */
    assert_int_equal(cwi_short_write(&m, CW_MSG_REQUEST, frame, size, sent), 0);
    size = make_answer(2, 0, frame);
    assert_int_equal(cwi_short_write(&m, CW_MSG_REQUEST, frame, size, sent), 0);
}

static void bytes_of_a_short_answer_are_pinned(void **state)
{
    static const uint8_t expected[] = {0xb0, 0xc4, 0x74, 0xed, 0xc3, 9, 0, 0, 0,    0,   0,
                                       0,    0x3f, 7,    0,    0,    0, 0, 0, 0x80, 0x3e};
    uint8_t frame[BUFFER], sent[BUFFER];
    cwi_short_memory m = {.size = 0};
    (void)state;
    cwi_short_note(&m, CW_MSG_ANSWER, frame, make_answer(1, 4, frame));
    const size_t less = cwi_short_write(&m, CW_MSG_ANSWER, frame, make_answer(2, 9, frame), sent);
    assert_int_equal(less, sizeof expected);
    assert_memory_equal(sent, expected, less);
}

/* Damaged, or read by what another frame has left: it does not become a frame with a good checksum. */
static void no_damage_passes(void **state)
{
    uint8_t first[BUFFER], second[BUFFER], frame[BUFFER], sent[BUFFER], *back;
    cwi_short_memory m = {.size = 0}, other = {.size = 0}, none = {.size = 0};
    size_t size;
    cw_msg msg;
    cw_error err;
    (void)state;
    cwi_short_note(&m, CW_MSG_REQUEST, first, make_request(1, 1, 1, "ec:err=0.2", first));
    cwi_short_note(&other, CW_MSG_REQUEST, second, make_request(7, 1, 1, "ec:err=0.2", second));
    const size_t less = cwi_short_write(&m, CW_MSG_REQUEST, frame, make_request(2, 2, 1, "ec:err=0.2", frame), sent);
    for (size_t bit = 0; bit < 8 * less; bit++) {
        sent[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (cwi_short_read(&m, CW_MSG_REQUEST, sent, less, &back, &size, &err) == CW_OK)
            assert_status(cw_msg_decode(back, size, &msg, &err), CW_ERR_CHECKSUM);
        cwi_free(back);
        sent[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t n = 0; n < less; n++) {
        if (cwi_short_read(&m, CW_MSG_REQUEST, sent, n, &back, &size, &err) == CW_OK)
            assert_status(cw_msg_decode(back, size, &msg, &err), CW_ERR_CHECKSUM);
        cwi_free(back);
    }
    assert_ok(cwi_short_read(&other, CW_MSG_REQUEST, sent, less, &back, &size, &err));
    assert_status(cw_msg_decode(back, size, &msg, &err), CW_ERR_CHECKSUM);
    cwi_free(back);
    assert_status(cwi_short_read(&none, CW_MSG_REQUEST, sent, less, &back, &size, &err), CW_ERR_PROTOCOL);
    uint8_t *large = cwi_calloc(CWI_SHORT_MAX, 2);
    assert_non_null(large);
    memcpy(large, sent, less);
    assert_status(cwi_short_read(&m, CW_MSG_REQUEST, large, 2 * CWI_SHORT_MAX, &back, &size, &err), CW_ERR_PROTOCOL);
    assert_null(back);
    cwi_free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_back_whole),
        cmocka_unit_test(other_frames_have_no_short_form),
        cmocka_unit_test(bytes_of_a_short_answer_are_pinned),
        cmocka_unit_test(no_damage_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
