/* test_remote.c - a server that has no half like its clients', and clients played by hand that say what is not so. */
int own_half_main(int argc, char **argv);
#define main own_half_main
#include "../../examples/own_half.c"
#undef main

#include "base/base.h"
#include "cutwire/wire.h"
#include "test.h"

enum { WIDTH = 6, LABELS = 3, BATCH = 4, WEIGHTS = 10, PLACES = 2 };

/* ---- a last half of the example's engine whose input has no fixed shape ---- */

static cw_status open_forward(void *ctx, const cw_half_call *call, const float *x, float *y, cw_error *err)
{
    size_t count;
    if (cw_shape_count(&call->shape, &count) != CW_OK || count != call->n * WIDTH) {
        snprintf(err->message, sizeof err->message, "another width than %d", WIDTH);
        return CW_ERR_MISMATCH;
    }
    return layer_forward(ctx, call, x, y, err);
}

static cw_half *open_half(void)
{
    layer *l = new_layer(WIDTH, LABELS, BATCH, true);
    const cw_shape matrix = cw_shape_of(2, (int64_t[]){LABELS, WIDTH}), vector = cw_shape_of(1, (int64_t[]){LABELS});
    const cw_half_tensor tensors[] = {
        {CW_HALF_WEIGHT, "w", cw_tensor_view(CW_F32, &matrix, l->weight)},
        {CW_HALF_WEIGHT, "b", cw_tensor_view(CW_F32, &vector, l->bias)},
        {CW_HALF_GRADIENT, "w", cw_tensor_view(CW_F32, &matrix, l->d_weight)},
        {CW_HALF_GRADIENT, "b", cw_tensor_view(CW_F32, &vector, l->d_bias)},
    };
    const cw_half_callbacks callbacks = {.out = vector,
                                         .tensors = tensors,
                                         .tensor_count = CWI_COUNT(tensors),
                                         .forward = open_forward,
                                         .loss = layer_loss,
                                         .backward = layer_backward,
                                         .step = layer_step,
                                         .destroy = layer_destroy};
    cw_half *half;
    cw_error err;
    assert_ok_err(cw_half_create(&callbacks, l, &half, &err), err);
    return half;
}

/* ---- the server, and peers by hand ---- */

typedef struct stage {
    cw_transport *listening;
    cw_half *half;
    cw_server *server;
    cw_transport *peer[3];
    cw_frame last[3];
    cw_msg msg[3]; /* of `last` */
    uint32_t client[3];
} stage;

static void open_stage(stage *s)
{
    static const char *const settings[][2] = {{"model", "own"},         {"data", "own"},      {"sample", "1"},
                                              {"classes", "3"},         {"clients", "2"},     {"epochs", "1"},
                                              {"uplink", "none"},       {"downlink", "none"}, {"update", "none"},
                                              {"schedule", "constant"}, {"threads", "1"}};
    cw_config *config;
    cw_error err;
    memset(s, 0, sizeof *s);
    assert_ok_err(cw_config_create(&config, &err), err);
    for (size_t i = 0; i < CWI_COUNT(settings); i++)
        assert_ok_err(cw_config_set(config, settings[i][0], settings[i][1], &err), err);
    s->half = open_half();
    assert_ok_err(cw_net_listen("inproc://remote", NULL, &s->listening, &err), err);
    assert_ok_err(cw_server_create(config, s->listening, &(cw_server_options){.half = s->half}, &s->server, &err), err);
    cw_config_destroy(&config);
}

static void close_stage(stage *s)
{
    for (size_t i = 0; i < CWI_COUNT(s->peer); i++) {
        if (s->last[i].owner)
            cw_frame_release(&s->last[i]);
        cw_transport_close(&s->peer[i], 0);
    }
    cw_server_destroy(&s->server);
    cw_transport_close(&s->listening, 0);
    cw_half_destroy(&s->half);
}

/* The server takes what was sent. */
static void pump(stage *s)
{
    cw_frame frame;
    cw_error err;
    while (cw_transport_recv(s->listening, 0, &frame, NULL) == CW_OK)
        assert_ok_err(cw_server_handle(s->server, &frame, &err), err);
}

static void say(stage *s, int who, cw_msg msg)
{
    uint8_t frame[4096];
    size_t size;
    cw_error err;
    msg.client = msg.type == CW_MSG_HELLO ? UINT32_MAX : s->client[who];
    msg.session = s->msg[who].session;
    assert_ok_err(cw_msg_encode(&msg, frame, sizeof frame, &size, &err), err);
    assert_ok_err(cw_transport_send(s->peer[who], 0, frame, size, &err), err);
    pump(s);
}

/* The next message, which must be of this type. */
static const cw_msg *hear(stage *s, int who, cw_msg_type type)
{
    cw_error err;
    if (s->last[who].owner)
        cw_frame_release(&s->last[who]);
    assert_ok_err(cw_transport_recv(s->peer[who], 0, &s->last[who], &err), err);
    assert_ok_err(cw_msg_decode(s->last[who].bytes, s->last[who].size, &s->msg[who], &err), err);
    if (s->msg[who].type != type)
        fail_msg("%s came, %s was due: %.*s", cw_msg_name(s->msg[who].type), cw_msg_name(type),
                 (int)s->msg[who].blob_size, s->msg[who].blob ? (const char *)s->msg[who].blob : "");
    return &s->msg[who];
}

static void hear_error(stage *s, int who, const char *words)
{
    const cw_msg *msg = hear(s, who, CW_MSG_ERROR);
    char text[1200];
    snprintf(text, sizeof text, "%.*s", (int)msg->blob_size, (const char *)msg->blob);
    if (!strstr(text, words))
        fail_msg("'%s' is not in '%s'", words, text);
}

static void come(stage *s, int who)
{
    cw_error err;
    assert_ok_err(cw_net_connect("inproc://remote", NULL, &s->peer[who], &err), err);
    say(s, who, (cw_msg){.type = CW_MSG_HELLO, .version_min = 2, .version_max = 2, .token = (uint64_t)who + 1});
    s->client[who] = hear(s, who, CW_MSG_WELCOME)->client;
}

static const cw_msg join = {
    .type = CW_MSG_JOIN, .fingerprint = 77, .samples = 2 * BATCH, .weights = WEIGHTS, .buffers = 2, .batch = BATCH};

/* Two clients that have joined; the first one is asked for its half. */
static void begin(stage *s)
{
    open_stage(s);
    for (int i = 0; i < PLACES; i++) {
        come(s, i);
        say(s, i, join);
    }
    assert_int_equal(hear(s, 0, CW_MSG_GIVE_STATE)->blob_size, 0);
}

static uint8_t *state_image(const char *name, size_t *size)
{
    static float weights[WEIGHTS];
    const cw_shape shape = cw_shape_of(1, (int64_t[]){WEIGHTS});
    cw_named_tensor item = {.tensor = cw_tensor_view(CW_F32, &shape, weights)};
    uint8_t *bytes;
    cw_error err;
    snprintf(item.name, sizeof item.name, "%s", name);
    assert_ok_err(cw_safetensors_encode(&item, 1, NULL, &bytes, size, &err), err);
    return bytes;
}

static void give(stage *s, int who, const char *name)
{
    size_t size;
    uint8_t *bytes = state_image(name, &size);
    say(s, who, (cw_msg){.type = CW_MSG_CLIENT_STATE, .blob = bytes, .blob_size = size});
    cw_bytes_free(bytes);
}

/* ---- joining ---- */

static void ready_is_not_join(void **state)
{
    (void)state;
    stage s;
    cw_msg ready = join;
    open_stage(&s);
    come(&s, 0);
    assert_true(s.msg[0].fingerprint == 0);
    assert_non_null(strstr((const char *)s.msg[0].blob, "client-state"));
    ready.type = CW_MSG_READY;
    say(&s, 0, ready);
    hear_error(&s, 0, "this run's clients say JOIN");
    close_stage(&s);
}

static void the_first_says_what_the_half_is(void **state)
{
    (void)state;
    stage s;
    cw_msg other = join;
    open_stage(&s);
    come(&s, 0);
    say(&s, 0, join);
    come(&s, 1);
    assert_true(s.msg[1].fingerprint == 77);
    other.fingerprint = 78;
    say(&s, 1, other);
    hear_error(&s, 1, "not this run's");
    come(&s, 2);
    other = join;
    other.weights++;
    say(&s, 2, other);
    hear_error(&s, 2, "11 weights, the others' 10");
    close_stage(&s);
}

/* It leaves before anything has begun: the next one may be another. */
static void what_was_learned_is_forgotten(void **state)
{
    (void)state;
    stage s;
    cw_msg other = join;
    open_stage(&s);
    come(&s, 0);
    say(&s, 0, join);
    say(&s, 0, (cw_msg){.type = CW_MSG_LEAVE, .blob = (const uint8_t *)"bye", .blob_size = 3});
    other.fingerprint = 78;
    other.weights = 3;
    for (int i = 1; i < 3; i++) {
        come(&s, i);
        say(&s, i, other);
    }
    assert_int_equal(cw_server_clients(s.server), 2);
    close_stage(&s);
}

/* ---- giving ---- */

static void one_gives_and_the_others_get_it(void **state)
{
    (void)state;
    stage s;
    size_t size;
    uint8_t *bytes = state_image("w", &size);
    begin(&s);
    give(&s, 0, "w");
    assert_int_equal(hear(&s, 0, CW_MSG_BEGIN)->steps, 2);
    const cw_msg *got = hear(&s, 1, CW_MSG_STATE);
    assert_int_equal(got->blob_size, size);
    assert_memory_equal(got->blob, bytes, size);
    hear(&s, 1, CW_MSG_BEGIN);
    cw_bytes_free(bytes);
    close_stage(&s);
}

static void who_gives_nonsense_is_lost_and_the_next_is_asked(void **state)
{
    (void)state;
    char long_name[128];
    memset(long_name, 'x', 127);
    long_name[127] = '\0';
    for (int kind = 0; kind < 3; kind++) {
        stage s;
        begin(&s);
        if (kind == 0)
            say(&s, 0, (cw_msg){.type = CW_MSG_CLIENT_STATE, .blob = (const uint8_t *)"nonsense", .blob_size = 8});
        else if (kind == 1)
            give(&s, 0, long_name);
        else
            say(&s, 0, (cw_msg){.type = CW_MSG_LEAVE, .blob = (const uint8_t *)"bye", .blob_size = 3});
        hear_error(&s, 0, kind == 0 ? "" : kind == 1 ? "too long a name" : "bye");
        hear(&s, 1, CW_MSG_GIVE_STATE);
        give(&s, 1, "w");
        hear(&s, 1, CW_MSG_BEGIN);
        close_stage(&s);
    }
}

static void who_was_not_asked_is_lost(void **state)
{
    (void)state;
    stage s;
    begin(&s);
    give(&s, 1, "w");
    hear_error(&s, 1, "not due");
    assert_int_equal(cw_server_clients(s.server), 1);
    close_stage(&s);
}

/* ---- cuts without a shape, batches of a client's own ---- */

static void send_activation(stage *s, uint64_t samples, cw_shape shape)
{
    static float values[8 * WIDTH];
    static const int32_t labels[8];
    uint8_t payload[1024];
    size_t size;
    cw_codec *codec;
    cw_error err;
    const cw_tensor x = cw_tensor_view(CW_F32, &shape, values);
    assert_ok_err(cw_codec_create("none", &codec, &err), err);
    assert_ok_err(cw_encode(codec, &x, NULL, payload, sizeof payload, &size, &err), err);
    cw_codec_destroy(&codec);
    say(s, 0,
        (cw_msg){.type = CW_MSG_ACTIVATION,
                 .phase = CW_PHASE_TRAIN,
                 .samples = samples,
                 .labels = labels,
                 .blob = payload,
                 .blob_size = size});
}

static void a_payload_says_its_shape(void **state)
{
    (void)state;
    static const struct {
        uint64_t samples;
        int64_t dim[2];
        const char *words; /* NULL: good */
    } cases[] = {{BATCH, {BATCH, WIDTH}, NULL},
                 {BATCH, {WIDTH, BATCH}, "first dimension"},
                 {BATCH, {BATCH, WIDTH - 1}, "another width"},
                 {BATCH + 1, {BATCH + 1, WIDTH}, "where 4 were due"}};
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        stage s;
        begin(&s);
        give(&s, 0, "w");
        hear(&s, 0, CW_MSG_BEGIN);
        send_activation(&s, cases[i].samples, cw_shape_of(2, cases[i].dim));
        if (cases[i].words)
            hear_error(&s, 0, cases[i].words);
        else
            hear(&s, 0, CW_MSG_GRADIENT);
        close_stage(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ready_is_not_join),
        cmocka_unit_test(the_first_says_what_the_half_is),
        cmocka_unit_test(what_was_learned_is_forgotten),
        cmocka_unit_test(one_gives_and_the_others_get_it),
        cmocka_unit_test(who_gives_nonsense_is_lost_and_the_next_is_asked),
        cmocka_unit_test(who_was_not_asked_is_lost),
        cmocka_unit_test(a_payload_says_its_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
