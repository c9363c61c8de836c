/* test_wire.c - messages to frames and back; damaged, hostile and forged frames. */
#include <math.h>

#include "base/base.h"
#include "cutwire/wire.h"
#include "test.h"

enum {
    BUFFER = 4096,
    AT_TYPE = 5,
    AT_FIELDS_SIZE = 6,
    AT_CRC = 12,
    AT_SESSION = 16,
    AT_LABELS_SIZE = 24,
    AT_BLOB_SIZE = 28
};
enum { HEADER = 32, TYPES = 23 };

static const int32_t LABELS[3] = {0, 9, 3};
static const uint8_t BLOB[] = {1, 2, 3, 4, 5, 6, 7, 8};
static const char TEXT[] = "the disk is full";

/* A message of each type with every member that counts set. */
static cw_msg sample_message(cw_msg_type type)
{
    cw_msg m = {.type = type, .client = 3, .session = 0x1122334455667788};
    m.epoch = 7;
    m.step = 21;
    m.ticket = 5;
    m.phase = CW_PHASE_EVAL;
    m.samples = 3;
    m.loss = 2.25;
    m.correct = 2;
    m.lr = 0.1;
    m.version_min = m.version_max = 2;
    m.token = 0xfedcba9876543210;
    m.fingerprint = 0x0123456789abcdef;
    m.clients = 4;
    m.steps = 235;
    m.test_samples = 10000;
    m.weights = 1000;
    m.buffers = 20;
    m.batch = 16;
    m.request = 77;
    m.seconds = 0.5;
    m.top = 2;
    m.status = CW_ERR_IO;
    m.labels = LABELS;
    m.blob = BLOB;
    m.blob_size = sizeof BLOB;
    switch (type) {
    case CW_MSG_HELLO:
    case CW_MSG_BEGIN:
    case CW_MSG_RESULT:
    case CW_MSG_PING:
    case CW_MSG_PONG:
    case CW_MSG_TIMES:
        m.blob_size = 0;
        break;
    case CW_MSG_END:
    case CW_MSG_LEAVE:
    case CW_MSG_ERROR:
    case CW_MSG_REFUSAL:
        m.blob = (const uint8_t *)TEXT;
        m.blob_size = sizeof TEXT - 1;
        break;
    default:
        break;
    }
    return m;
}

static size_t encode(const cw_msg *m, uint8_t *frame)
{
    size_t size;
    cw_error err;
    assert_ok_err(cw_msg_encode(m, frame, BUFFER, &size, &err), err);
    assert_int_equal(size, cw_msg_head_size(m) + m->blob_size);
    return size;
}

static void reseal(uint8_t *frame, size_t size)
{
    memset(frame + AT_CRC, 0, 4);
    cwi_put_le(frame + AT_CRC, cwi_crc32c(0, frame, size), 4);
}

static void each_type_survives_the_round_trip(void **state)
{
    (void)state;
    for (unsigned type = 1; type <= TYPES; type++) {
        cw_msg m = sample_message((cw_msg_type)type), d;
        uint8_t frame[BUFFER], again[BUFFER];
        cw_error err;
        size_t size = encode(&m, frame);
        assert_ok_err(cw_msg_decode(frame, size, &d, &err), err);
        assert_int_equal(d.type, type);
        assert_int_equal(d.client, 3);
        assert_true(d.session == (type == CW_MSG_HELLO ? 0 : m.session));
        assert_int_equal(d.blob_size, m.blob_size);
        if (m.blob_size) {
            assert_memory_equal(d.blob, m.blob, m.blob_size);
            assert_int_equal((d.blob - frame) % 16, 0);
        }
        assert_int_equal(encode(&d, again), size);
        assert_memory_equal(again, frame, size);
    }
}

static void each_member_that_counts_arrives(void **state)
{
    (void)state;
    uint8_t frame[BUFFER];
    cw_msg d, m;
#define SENT(type)                                                                                                     \
    m = sample_message(type);                                                                                          \
    assert_ok(cw_msg_decode(frame, encode(&m, frame), &d, NULL))
    SENT(CW_MSG_HELLO);
    assert_true(d.version_min == 2 && d.version_max == 2 && d.token == m.token && d.epoch == 0);
    SENT(CW_MSG_WELCOME);
    assert_true(d.version_max == 2 && d.clients == 4 && d.fingerprint == m.fingerprint);
    SENT(CW_MSG_READY);
    assert_true(d.samples == 3 && d.test_samples == 10000 && d.fingerprint == m.fingerprint);
    SENT(CW_MSG_JOIN);
    assert_true(d.samples == 3 && d.test_samples == 10000 && d.fingerprint == m.fingerprint);
    assert_true(d.weights == 1000 && d.buffers == 20 && d.batch == 16);
    SENT(CW_MSG_GIVE_STATE);
    assert_int_equal(d.epoch, 7);
    SENT(CW_MSG_CLIENT_STATE);
    assert_int_equal(d.epoch, 7);
    SENT(CW_MSG_BEGIN);
    assert_true(d.phase == CW_PHASE_EVAL && d.epoch == 7 && d.step == 21 && d.steps == 235);
    SENT(CW_MSG_ACTIVATION);
    assert_true(d.phase == CW_PHASE_EVAL && d.epoch == 7 && d.step == 21 && d.samples == 3 && d.ticket == 5);
    SENT(CW_MSG_GRADIENT);
    assert_true(d.epoch == 7 && d.step == 21 && d.loss == 2.25 && d.correct == 2 && d.lr == 0 && d.ticket == 5);
    SENT(CW_MSG_CLIENT_GRAD);
    assert_true(d.epoch == 7 && d.step == 21 && d.samples == 3);
    SENT(CW_MSG_UPDATE);
    assert_true(d.epoch == 7 && d.step == 21 && d.lr == 0.1 && d.samples == 0);
    SENT(CW_MSG_RESULT);
    assert_true(d.epoch == 7 && d.step == 21 && d.loss == 2.25 && d.correct == 2);
    SENT(CW_MSG_PHASE_DONE);
    assert_true(d.phase == CW_PHASE_EVAL && d.epoch == 7);
    SENT(CW_MSG_REQUEST);
    assert_true(d.request == 77 && d.samples == 3 && d.top == 2 && d.step == 0);
    SENT(CW_MSG_ANSWER);
    assert_true(d.request == 77 && d.samples == 3 && d.top == 2);
    SENT(CW_MSG_TIMES);
    assert_true(d.epoch == 7 && d.step == 21 && d.seconds == 0.5 && d.lr == 0);
    SENT(CW_MSG_REFUSAL);
    assert_true(d.request == 77 && d.status == CW_ERR_IO && d.top == 0);
    SENT(CW_MSG_LEAVE);
    assert_int_equal(d.status, CW_ERR_IO);
    SENT(CW_MSG_ERROR);
    assert_int_equal(d.status, CW_ERR_IO);
#undef SENT
}

/* The bytes themselves: a change of the format must change its version, and this. */
static void frame_bytes_are_pinned(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        'C',  'W',  'F',  'R',  1,    6,    24,   0,    3,  0, 0, 0, 0xCC, 0xCC, 0xCC, 0xCC, /* CRC: below */
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 3,  0, 0, 0, 8,    0,    0,    0,    /* session, lengths */
        2,    0,    0,    0,    7,    0,    0,    0,    21, 0, 0, 0, 5,    0,    0,    0, /* phase epoch step ticket */
        3,    0,    0,    0,    1,    0,    0,    0,                                      /* samples, label width */
        0,    9,    3,    0,    0,    0,    0,    0,                                      /* labels, padding */
        1,    2,    3,    4,    5,    6,    7,    8};
    uint8_t sealed[sizeof expected];
    memcpy(sealed, expected, sizeof sealed);
    reseal(sealed, sizeof sealed);
    uint8_t frame[BUFFER];
    cw_msg m = sample_message(CW_MSG_ACTIVATION);
    assert_int_equal(encode(&m, frame), sizeof expected);
    assert_memory_equal(frame, sealed, sizeof sealed);
}

/* Whatever the version: a server tells by it what a client speaks. */
static void hello_stays_readable_for_ever(void **state)
{
    (void)state;
    static const uint8_t expected[] = {'C',  'W',  'F',  'R',  1,    1,    12,   0,
                                       0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, /* CRC: below */
                                       0,    0,    0,    0,    0,    0,    0,    0,
                                       0,    0,    0,    0,    0,    0,    0,    0, /* session, lengths */
                                       1,    0,    1,    0,    0x10, 0x32, 0x54, 0x76,
                                       0x98, 0xba, 0xdc, 0xfe, 0,    0,    0,    0}; /* versions, token, padding */
    uint8_t frame[sizeof expected];
    cw_msg d;
    cw_error err;
    memcpy(frame, expected, sizeof frame);
    for (uint8_t version = 1; version < 200; version++) {
        frame[HEADER] = frame[HEADER + 2] = version;
        reseal(frame, sizeof frame);
        assert_ok_err(cw_msg_decode(frame, sizeof frame, &d, &err), err);
        assert_true(d.type == CW_MSG_HELLO && d.version_min == version && d.version_max == version);
        assert_true(d.token == UINT64_C(0xfedcba9876543210));
    }
}

/* Version 2's READY; that of version 1 ended before the names. */
static void ready_bytes_are_pinned(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        'C',  'W',  'F',  'R',  1,    3,    24,   0,    3, 0, 0, 0, 0xCC, 0xCC, 0xCC, 0xCC, /* CRC: below */
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, 8,    0,    0,    0,    /* session, lengths */
        0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, 3, 0, 0, 0, 0,    0,    0,    0,    /* fingerprint, samples */
        0x10, 0x27, 0,    0,    0,    0,    0,    0,    0, 0, 0, 0, 0,    0,    0,    0,    /* test_samples, padding */
        'c',  'a',  't',  '\n', 'd',  'o',  'g',  '\n'};
    uint8_t frame[BUFFER], sealed[sizeof expected];
    cw_msg m = sample_message(CW_MSG_READY);
    m.blob = (const uint8_t *)"cat\ndog\n";
    m.blob_size = 8;
    memcpy(sealed, expected, sizeof sealed);
    reseal(sealed, sizeof sealed);
    assert_int_equal(encode(&m, frame), sizeof sealed);
    assert_memory_equal(frame, sealed, sizeof sealed);
}

/* Of the messages of inference: version 2 of the protocol, with the capability "requests". */
static void pinned(cw_msg_type type, const uint8_t *expected, size_t size)
{
    uint8_t frame[BUFFER], sealed[BUFFER];
    const cw_msg m = sample_message(type);
    memcpy(sealed, expected, size);
    reseal(sealed, size);
    assert_int_equal(encode(&m, frame), size);
    assert_memory_equal(frame, sealed, size);
}

static void bytes_of_requests_are_pinned(void **state)
{
    (void)state;
#define START(type, fields, blob)                                                                                      \
    'C', 'W', 'F', 'R', 1, type, fields, 0, 3, 0, 0, 0, 0xCC, 0xCC, 0xCC, 0xCC, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33,    \
        0x22, 0x11, 0, 0, 0, 0, blob, 0, 0, 0
    static const uint8_t request[] = {
        START(20, 12, 8), 77, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t answer[] = {
        START(21, 12, 8), 77, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t refusal[] = {START(22, 8, 16),
                                      77,
                                      0,
                                      0,
                                      0,
                                      CW_ERR_IO,
                                      0,
                                      0,
                                      0,
                                      0,
                                      0,
                                      0,
                                      0,
                                      0,
                                      0,
                                      0,
                                      0,
                                      't',
                                      'h',
                                      'e',
                                      ' ',
                                      'd',
                                      'i',
                                      's',
                                      'k',
                                      ' ',
                                      'i',
                                      's',
                                      ' ',
                                      'f',
                                      'u',
                                      'l',
                                      'l'};
    static const uint8_t times[] = {START(23, 16, 0), 7, 0, 0, 0, 21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f};
#undef START
    pinned(CW_MSG_TIMES, times, sizeof times);
    pinned(CW_MSG_REQUEST, request, sizeof request);
    pinned(CW_MSG_ANSWER, answer, sizeof answer);
    pinned(CW_MSG_REFUSAL, refusal, sizeof refusal);
}

static void labels_take_the_narrowest_width(void **state)
{
    (void)state;
    static const struct {
        int32_t largest;
        unsigned width;
    } cases[] = {{0, 1}, {255, 1}, {256, 2}, {65535, 2}, {65536, 4}, {INT32_MAX - 1, 4}};
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        int32_t labels[5] = {1, cases[i].largest, 0, 2, 1}, out[5];
        uint8_t frame[BUFFER];
        cw_msg m = sample_message(CW_MSG_ACTIVATION), d;
        cw_error err;
        m.labels = labels;
        m.samples = 5;
        assert_ok(cw_msg_decode(frame, encode(&m, frame), &d, NULL));
        assert_int_equal(d.label_width, cases[i].width);
        assert_null(d.labels);
        assert_ok(cw_msg_labels(&d, INT32_MAX, out, NULL));
        assert_memory_equal(out, labels, sizeof out);
        if (cases[i].largest) {
            assert_status(cw_msg_labels(&d, cases[i].largest, out, &err), CW_ERR_PROTOCOL);
            assert_non_null(strstr(err.message, "sample 2 of a batch" /* from 1 */));
        }
    }
}

static void blob_may_lie_in_place(void **state)
{
    (void)state;
    cw_msg m = sample_message(CW_MSG_GRADIENT);
    uint8_t apart[BUFFER], in_place[BUFFER];
    size_t size = encode(&m, apart);
    memcpy(in_place + cw_msg_head_size(&m), BLOB, sizeof BLOB);
    m.blob = in_place + cw_msg_head_size(&m);
    assert_int_equal(encode(&m, in_place), size);
    assert_memory_equal(in_place, apart, size);
}

static void encoder_refuses_what_no_decoder_takes(void **state)
{
    (void)state;
    uint8_t frame[BUFFER];
    size_t size;
    static const int32_t negative[3] = {0, -1, 2};
#define REFUSED(type_, change)                                                                                         \
    do {                                                                                                               \
        cw_msg m = sample_message(type_);                                                                              \
        cw_error err = {.message = ""};                                                                                \
        change;                                                                                                        \
        assert_status(cw_msg_encode(&m, frame, BUFFER, &size, &err), CW_ERR_INVALID);                                  \
        assert_int_equal(size, 0);                                                                                     \
        assert_true(err.message[0]);                                                                                   \
    } while (0)
    REFUSED(CW_MSG_HELLO, m.version_min = 3);
    REFUSED(CW_MSG_HELLO, m.version_min = 0);
    REFUSED(CW_MSG_WELCOME, m.version_max = 1);
    REFUSED(CW_MSG_WELCOME, m.version_max = 3);
    REFUSED(CW_MSG_WELCOME, m.clients = 0);
    REFUSED(CW_MSG_WELCOME, m.client = 4);
    REFUSED(CW_MSG_WELCOME, m.blob_size = 0);
    REFUSED(CW_MSG_READY, m.samples = UINT64_MAX);
    REFUSED(CW_MSG_BEGIN, m.phase = 0);
    REFUSED(CW_MSG_BEGIN, m.phase = 3);
    REFUSED(CW_MSG_BEGIN, m.blob_size = 1);
    REFUSED(CW_MSG_ACTIVATION, m.samples = 0);
    REFUSED(CW_MSG_ACTIVATION, m.labels = NULL; m.label_width = 1);
    REFUSED(CW_MSG_ACTIVATION, m.ticket = 65537);
    REFUSED(CW_MSG_GRADIENT, m.ticket = 65537);
    REFUSED(CW_MSG_ACTIVATION, m.labels = negative);
    REFUSED(CW_MSG_ACTIVATION, m.blob = NULL);
    REFUSED(CW_MSG_GRADIENT, m.loss = (double)NAN);
    REFUSED(CW_MSG_RESULT, m.loss = (double)INFINITY);
    REFUSED(CW_MSG_UPDATE, m.lr = -0.5);
    REFUSED(CW_MSG_UPDATE, m.lr = (double)NAN);
    REFUSED(CW_MSG_CLIENT_GRAD, m.blob_size = 0);
    REFUSED(CW_MSG_PHASE_DONE, m.blob_size = 7);
    REFUSED(CW_MSG_ERROR, m.status = CW_OK);
    REFUSED(CW_MSG_ERROR, m.status = (cw_status)99);
    REFUSED(CW_MSG_PING, m.type = (cw_msg_type)0);
    REFUSED(CW_MSG_JOIN, m.batch = 0);
    REFUSED(CW_MSG_JOIN, m.weights = UINT64_MAX);
    REFUSED(CW_MSG_GIVE_STATE, m.blob_size = 7);
    REFUSED(CW_MSG_CLIENT_STATE, m.blob_size = 0);
    REFUSED(CW_MSG_ACTIVATION, m.labels = NULL; m.label_width = CW_TARGETS_TENSOR);
    REFUSED(CW_MSG_PING, m.type = (cw_msg_type)(TYPES + 1));
    REFUSED(CW_MSG_REQUEST, m.samples = 0);
    REFUSED(CW_MSG_REQUEST, m.top = (1u << 20) + 1);
    REFUSED(CW_MSG_ANSWER, m.blob_size = 0);
    REFUSED(CW_MSG_REFUSAL, m.status = CW_OK);
    REFUSED(CW_MSG_TIMES, m.seconds = -1);
    REFUSED(CW_MSG_TIMES, m.seconds = (double)NAN);
    REFUSED(CW_MSG_TIMES, m.seconds = (double)INFINITY);
#undef REFUSED
    cw_msg m = sample_message(CW_MSG_GRADIENT);
    assert_status(cw_msg_encode(&m, frame, 10, &size, NULL), CW_ERR_TOO_SMALL);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    for (unsigned type = 1; type <= TYPES; type++) {
        cw_msg m = sample_message((cw_msg_type)type), d;
        uint8_t frame[BUFFER];
        size_t size = encode(&m, frame);
        for (size_t cut = 0; cut < size; cut++) {
            uint8_t *exact = malloc(cut + !cut); /* so that the sanitizer sees an over-read */
            cw_error err;
            memcpy(exact, frame, cut);
            assert_status(cw_msg_decode(exact, cut, &d, &err), CW_ERR_TRUNCATED);
            assert_int_equal(err.offset, cut);
            free(exact);
        }
    }
}

static void every_bit_flip_is_refused(void **state)
{
    (void)state;
    for (unsigned type = 1; type <= TYPES; type++) {
        cw_msg m = sample_message((cw_msg_type)type), d;
        uint8_t frame[BUFFER];
        size_t size = encode(&m, frame);
        for (size_t bit = 0; bit < 8 * size; bit++) {
            cw_error err = {.message = ""};
            frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_not_equal(cw_msg_decode(frame, size, &d, &err), CW_OK);
            assert_true(err.message[0]);
            assert_null(d.blob);
            frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

static void trailing_bytes_are_refused(void **state)
{
    (void)state;
    cw_msg m = sample_message(CW_MSG_GRADIENT), d;
    uint8_t frame[BUFFER] = {0};
    size_t size = encode(&m, frame);
    cw_error err;
    assert_status(cw_msg_decode(frame, size + 1, &d, &err), CW_ERR_CORRUPT);
    assert_int_equal(err.offset, size);
}

/* Changes `width` bytes at `at` of a good frame, puts the checksum right, and expects `status` at `at`. */
static void forged(cw_msg_type type, size_t at, unsigned width, uint64_t value, cw_status status, size_t fault)
{
    cw_msg m = sample_message(type), d;
    uint8_t frame[BUFFER];
    size_t size = encode(&m, frame);
    cw_error err = {.message = "", .offset = CW_NO_OFFSET};
    cwi_put_le(frame + at, value, width);
    reseal(frame, size);
    assert_status(cw_msg_decode(frame, size, &d, &err), status);
    if (err.offset != fault)
        fail_msg("%s: fault at byte %llu, expected %zu: %s", cw_msg_name(type), (unsigned long long)err.offset, fault,
                 err.message);
}

static uint64_t bits_of(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static void forged_fields_are_refused_where_they_are(void **state)
{
    (void)state;
    const cw_status bad = CW_ERR_CORRUPT;
    forged(CW_MSG_HELLO, 0, 1, 'X', CW_ERR_MAGIC, 0);
    forged(CW_MSG_HELLO, 4, 1, 2, CW_ERR_VERSION, 4);
    forged(CW_MSG_PING, AT_TYPE, 1, 0, bad, AT_TYPE);
    forged(CW_MSG_PING, AT_TYPE, 1, TYPES + 1, bad, AT_TYPE);
    forged(CW_MSG_REQUEST, HEADER + 4, 4, 0, bad, HEADER + 4);
    forged(CW_MSG_REQUEST, HEADER + 8, 4, (1u << 20) + 1, bad, HEADER + 8);
    forged(CW_MSG_REFUSAL, HEADER + 4, 4, 0, bad, HEADER + 4);
    forged(CW_MSG_PING, AT_TYPE, 1, 255, bad, AT_TYPE);
    forged(CW_MSG_PING, AT_TYPE, 1, CW_MSG_BEGIN, bad, AT_FIELDS_SIZE);
    forged(CW_MSG_HELLO, AT_SESSION, 8, 1, bad, AT_SESSION);
    forged(CW_MSG_HELLO, HEADER, 2, 0, bad, HEADER);
    forged(CW_MSG_HELLO, HEADER, 2, 3, bad, HEADER);
    forged(CW_MSG_WELCOME, HEADER, 4, 1, bad, HEADER);
    forged(CW_MSG_WELCOME, HEADER, 4, 3, bad, HEADER);
    forged(CW_MSG_WELCOME, HEADER + 4, 4, UINT32_MAX, bad, HEADER + 4);
    forged(CW_MSG_WELCOME, HEADER + 4, 4, 3, bad, 8); /* the sample is client 3 */
    forged(CW_MSG_READY, HEADER + 8, 8, UINT64_MAX, bad, HEADER + 8);
    forged(CW_MSG_JOIN, HEADER + 24, 8, UINT64_MAX, bad, HEADER + 24);
    forged(CW_MSG_JOIN, HEADER + 40, 4, 0, bad, HEADER + 40);
    forged(CW_MSG_BEGIN, HEADER, 4, 0, bad, HEADER);
    forged(CW_MSG_BEGIN, HEADER, 4, 3, bad, HEADER);
    forged(CW_MSG_ACTIVATION, HEADER + 12, 4, 65537, bad, HEADER + 12);
    forged(CW_MSG_ACTIVATION, HEADER + 16, 4, 0, bad, HEADER + 16);
    forged(CW_MSG_ACTIVATION, HEADER + 16, 4, 2, bad, AT_LABELS_SIZE);
    forged(CW_MSG_ACTIVATION, HEADER + 16, 4, UINT32_MAX, bad, HEADER + 16);
    forged(CW_MSG_ACTIVATION, HEADER + 20, 4, 3, bad, HEADER + 20);
    forged(CW_MSG_ACTIVATION, HEADER + 20, 4, 2, bad, AT_LABELS_SIZE);
    forged(CW_MSG_ACTIVATION, HEADER + 20, 4, 0, bad, AT_LABELS_SIZE);
    forged(CW_MSG_ACTIVATION, HEADER + 24 + 3 + 4, 1, 1, bad, HEADER + 24 + 3 + 4); /* padding */
    forged(CW_MSG_GRADIENT, HEADER + 8, 4, 65537, bad, HEADER + 8);
    forged(CW_MSG_GRADIENT, HEADER + 12, 8, bits_of((double)NAN), bad, HEADER + 12);
    forged(CW_MSG_GRADIENT, HEADER + 12, 8, bits_of((double)INFINITY), bad, HEADER + 12);
    forged(CW_MSG_GRADIENT, HEADER + 20, 8, UINT64_MAX, bad, HEADER + 20);
    forged(CW_MSG_UPDATE, HEADER + 8, 8, bits_of(-1.0), bad, HEADER + 8);
    forged(CW_MSG_LEAVE, HEADER, 4, 22, bad, HEADER);
    forged(CW_MSG_ERROR, HEADER, 4, 0, bad, HEADER);
    forged(CW_MSG_ERROR, HEADER + 16, 1, 0x1b, bad, HEADER + 16); /* a text that would steer a terminal */
    forged(CW_MSG_ERROR, HEADER + 16, 1, 0x9b, bad, HEADER + 16);
}

static void labels_may_be_absent(void **state)
{
    (void)state;
    cw_msg m = sample_message(CW_MSG_ACTIVATION), d;
    uint8_t frame[BUFFER], again[BUFFER];
    int32_t labels[3];
    cw_error err;
    m.labels = NULL;
    const size_t size = encode(&m, frame);
    assert_ok_err(cw_msg_decode(frame, size, &d, &err), err);
    assert_int_equal(d.label_width, 0);
    assert_int_equal(d.samples, 3);
    assert_memory_equal(d.blob, BLOB, sizeof BLOB);
    assert_int_equal(encode(&d, again), size);
    assert_memory_equal(again, frame, size);
    assert_status(cw_msg_labels(&d, 10, labels, &err), CW_ERR_INVALID);
}

/* A type whose labels are too wide, or label bytes that name a negative number. */
static void forged_labels_are_refused(void **state)
{
    (void)state;
    int32_t wide[3] = {1, 70000, 2};
    cw_msg m = sample_message(CW_MSG_ACTIVATION), d;
    uint8_t frame[BUFFER];
    cw_error err;
    m.labels = wide;
    size_t size = encode(&m, frame), labels = HEADER + 24;
    cwi_put_le(frame + labels + 4, 255, 4);
    reseal(frame, size);
    assert_status(cw_msg_decode(frame, size, &d, &err), CW_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "4 bytes each where 1"));
    cwi_put_le(frame + labels + 8, UINT32_MAX, 4);
    reseal(frame, size);
    assert_status(cw_msg_decode(frame, size, &d, &err), CW_ERR_CORRUPT);
    assert_int_equal(err.offset, labels + 8);
}

/* A batch of three regression targets, two numbers each; and a map of classes in bytes, which are int64 to the loss. */
static cw_msg with_targets(const void *data, cw_dtype dtype, cw_dtype as, int ndim, const int64_t *dim)
{
    cw_msg m = sample_message(CW_MSG_ACTIVATION);
    const cw_shape shape = cw_shape_of(ndim, dim);
    m.labels = NULL;
    m.targets = cw_tensor_view(dtype, &shape, (void *)(uintptr_t)data);
    m.targets_as = as;
    return m;
}

static const float REAL_TARGETS[6] = {1, -2, 3.5f, 0, 5, -6};
static const int64_t REAL_DIM[2] = {3, 2}, MAP_DIM[3] = {3, 2, 2};
static const uint8_t MAP_TARGETS[12] = {0, 1, 2, 3, 4, 255, 6, 7, 8, 9, 10, 11};

static void targets_may_be_a_tensor(void **state)
{
    (void)state;
    const cw_msg sent[] = {with_targets(REAL_TARGETS, CW_F32, CW_F32, 2, REAL_DIM),
                           with_targets(MAP_TARGETS, CW_U8, CW_I64, 3, MAP_DIM)};
    for (size_t i = 0; i < CWI_COUNT(sent); i++) {
        uint8_t frame[BUFFER], again[BUFFER];
        int32_t labels[3];
        cw_msg d;
        cw_error err;
        const size_t size = encode(&sent[i], frame);
        assert_ok_err(cw_msg_decode(frame, size, &d, &err), err);
        assert_int_equal(d.label_width, CW_TARGETS_TENSOR);
        assert_int_equal(d.targets.dtype, sent[i].targets.dtype);
        assert_int_equal(d.targets_as, sent[i].targets_as);
        assert_true(cw_shape_equal(&d.targets.shape, &sent[i].targets.shape));
        assert_memory_equal(d.targets.data, sent[i].targets.data, i ? sizeof MAP_TARGETS : sizeof REAL_TARGETS);
        assert_memory_equal(d.blob, BLOB, sizeof BLOB);
        assert_int_equal(encode(&d, again), size);
        assert_memory_equal(again, frame, size);
        assert_status(cw_msg_labels(&d, 10, labels, &err), CW_ERR_PROTOCOL);
    }
}

/* The bytes themselves, as those of labels above. */
static void targets_bytes_are_pinned(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        255, 0, 0, 0,             /* width */
        4,   6, 3, 0, 0, 0, 0, 0, /* u8, as int64, 3 dimensions */
        3,   0, 0, 0, 0, 0, 0, 0,   2, 0, 0, 0, 0,  0,  0, 0, 2, 0, 0, 0, 0, 0,
        0,   0, 0, 1, 2, 3, 4, 255, 6, 7, 8, 9, 10, 11, 0, 0, 0, 0, 0, 0, 0, 0, /* elements, padding */
        0,   0, 0, 0, 1, 2, 3, 4,   5, 6, 7, 8};
    uint8_t frame[BUFFER];
    const cw_msg m = with_targets(MAP_TARGETS, CW_U8, CW_I64, 3, MAP_DIM);
    const size_t size = encode(&m, frame), at = HEADER + 20;
    assert_int_equal(size, at + sizeof expected);
    assert_memory_equal(frame + at, expected, sizeof expected);
    assert_int_equal(cwi_get_le(frame + AT_LABELS_SIZE, 4), 44);
}

static void forge_targets(size_t at, unsigned width, uint64_t value)
{
    uint8_t frame[BUFFER];
    cw_msg d, m = with_targets(REAL_TARGETS, CW_F32, CW_F32, 2, REAL_DIM);
    cw_error err = {.message = ""};
    const size_t size = encode(&m, frame);
    cwi_put_le(frame + at, value, width);
    reseal(frame, size);
    assert_status(cw_msg_decode(frame, size, &d, &err), CW_ERR_CORRUPT);
    assert_true(err.message[0]);
    assert_null(d.targets.data);
}

static void forged_targets_are_refused(void **state)
{
    (void)state;
    const size_t head = HEADER + 24, dims = head + 8;
    const uint64_t wrong_dims[] = {0, 1, 4, UINT64_MAX, INT64_MAX, UINT64_C(1) << 62};
    for (unsigned dtype = 0; dtype < 256; dtype++)
        if (dtype != CW_F32)
            forge_targets(head + 1, 1, dtype);
    for (unsigned ndim = 0; ndim < 256; ndim++)
        if (ndim != 2)
            forge_targets(head + 2, 1, ndim);
    for (size_t i = 3; i < 8; i++)
        forge_targets(head + i, 1, 1);
    for (size_t i = 0; i < CWI_COUNT(wrong_dims); i++) {
        forge_targets(dims, 8, wrong_dims[i]);
        forge_targets(dims + 8, 8, wrong_dims[i]);
    }
    forge_targets(head, 1, 7);        /* no dtype */
    forge_targets(HEADER + 16, 4, 2); /* other samples */
    forge_targets(HEADER + 20, 4, 1);
}

static void targets_of_no_use_are_not_sent(void **state)
{
    (void)state;
    uint8_t frame[BUFFER];
    size_t size;
    cw_msg wrong[] = {with_targets(REAL_TARGETS, CW_F32, CW_I64, 2, REAL_DIM),
                      with_targets(REAL_TARGETS, (cw_dtype)9, (cw_dtype)9, 2, REAL_DIM),
                      with_targets(REAL_TARGETS, CW_I64, CW_I32, 2, REAL_DIM),
                      with_targets(REAL_TARGETS, CW_F32, CW_F32, 0, REAL_DIM),
                      with_targets(NULL, CW_F32, CW_F32, 2, REAL_DIM),
                      with_targets(REAL_TARGETS, CW_F32, CW_F32, 2, (int64_t[]){2, 3}),
                      with_targets(REAL_TARGETS, CW_F32, CW_F32, 2, REAL_DIM)};
    wrong[CWI_COUNT(wrong) - 1].labels = LABELS;
    for (size_t i = 0; i < CWI_COUNT(wrong); i++)
        assert_status(cw_msg_encode(&wrong[i], frame, BUFFER, &size, NULL), CW_ERR_INVALID);
}

static void hostile_lengths_are_refused(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {0, 1, 7, 9, 15, 4096, UINT16_MAX, INT32_MAX, UINT32_MAX};
    for (unsigned type = 1; type <= TYPES; type++)
        for (size_t i = 0; i < CWI_COUNT(lengths); i++)
            for (int which = 0; which < 3; which++) {
                static const struct {
                    size_t at;
                    unsigned width;
                } fields[] = {{AT_FIELDS_SIZE, 2}, {AT_LABELS_SIZE, 4}, {AT_BLOB_SIZE, 4}};
                cw_msg m = sample_message((cw_msg_type)type), d;
                uint8_t frame[BUFFER], before[BUFFER];
                size_t size = encode(&m, frame);
                memcpy(before, frame, size);
                cwi_put_le(frame + fields[which].at, lengths[i], fields[which].width);
                reseal(frame, size);
                cw_status status = cw_msg_decode(frame, size, &d, NULL);
                assert_true((status == CW_OK) == !memcmp(frame, before, size));
            }
}

static void our_texts_are_cleaned_when_sent(void **state)
{
    (void)state;
    cw_msg m = sample_message(CW_MSG_ERROR), d;
    uint8_t frame[BUFFER];
    /* C0; C1 as UTF-8 and as a bare byte, which some terminals obey too; a character cut short at the end */
    static const char *const texts[][2] = {{"no codec \"\x1b[31m\n\"", "no codec \"?[31m?\""},
                                           {"gr\xc3\xbc\xc3\x9f \xc2\x9b"
                                            "31m \x9b"
                                            "31m",
                                            "gr\xc3\xbc\xc3\x9f ??31m ?31m"},
                                           {"\xc2\xa0\xe2\x82\xac\xe2\x82", "\xc2\xa0\xe2\x82\xac??"}};
    for (size_t i = 0; i < CWI_COUNT(texts); i++) {
        m.blob = (const uint8_t *)texts[i][0];
        m.blob_size = strlen(texts[i][0]);
        size_t sent = encode(&m, frame);
        assert_ok(cw_msg_decode(frame, sent, &d, NULL));
        assert_int_equal(d.blob_size, strlen(texts[i][1]));
        assert_memory_equal(d.blob, texts[i][1], d.blob_size);
    }
    m.blob_size = 4097;
    size_t size;
    assert_status(cw_msg_encode(&m, frame, BUFFER, &size, NULL), CW_ERR_INVALID);
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(cw_msg_name(CW_MSG_ACTIVATION), "ACTIVATION");
    assert_string_equal(cw_msg_name((cw_msg_type)0), "?");
    assert_string_equal(cw_msg_name((cw_msg_type)200), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_survives_the_round_trip),
        cmocka_unit_test(each_member_that_counts_arrives),
        cmocka_unit_test(frame_bytes_are_pinned),
        cmocka_unit_test(hello_stays_readable_for_ever),
        cmocka_unit_test(ready_bytes_are_pinned),
        cmocka_unit_test(bytes_of_requests_are_pinned),
        cmocka_unit_test(labels_take_the_narrowest_width),
        cmocka_unit_test(blob_may_lie_in_place),
        cmocka_unit_test(encoder_refuses_what_no_decoder_takes),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_bit_flip_is_refused),
        cmocka_unit_test(trailing_bytes_are_refused),
        cmocka_unit_test(forged_fields_are_refused_where_they_are),
        cmocka_unit_test(labels_may_be_absent),
        cmocka_unit_test(forged_labels_are_refused),
        cmocka_unit_test(targets_may_be_a_tensor),
        cmocka_unit_test(targets_bytes_are_pinned),
        cmocka_unit_test(forged_targets_are_refused),
        cmocka_unit_test(targets_of_no_use_are_not_sent),
        cmocka_unit_test(hostile_lengths_are_refused),
        cmocka_unit_test(our_texts_are_cleaned_when_sent),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
