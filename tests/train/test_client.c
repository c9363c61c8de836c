/* test_client.c - a client whose server is played by hand: what it accepts, what it says when it gives up, and how long
 * its patience lasts. */
#include "config/setup.h"
#include "cutwire/wire.h"
#include "train_test.h"

#include "test.h"

typedef struct scene {
    cw_config config;
    cwi_setup setup;
    cw_half *half; /* as the server's copy of the client's */
    cw_transport *server, *end;
    cw_client *client;
    uint8_t *welcome;
    size_t welcome_size;
    cw_frame last; /* of the client */
    cw_msg msg;
    cw_error err; /* of the client's last failure */
} scene;

static void hear(scene *s, cw_msg_type type)
{
    cw_frame_release(&s->last);
    assert_ok_err(cw_transport_recv(s->server, 5000, &s->last, &s->err), s->err);
    assert_ok_err(cw_msg_decode(s->last.bytes, s->last.size, &s->msg, &s->err), s->err);
    assert_string_equal(cw_msg_name(s->msg.type), cw_msg_name(type));
}

static void assert_heard_words(const scene *s, const char *words)
{
    char text[500];
    snprintf(text, sizeof text, "%.*s", (int)s->msg.blob_size, (const char *)s->msg.blob);
    assert_string_equal(text, words);
}

static scene *open_scene(const char *name, double timeout)
{
    scene *s = calloc(1, sizeof *s);
    char endpoint[64];
    cw_config local;
    s->config = small_config(1, "none", "none");
    assert_ok_err(cwi_setup_open(&s->config, &s->setup, &s->err), s->err);
    assert_ok_err(cwi_half_open(&s->setup, 0, s->setup.cut.layer, 1, &s->half, &s->err), s->err);
    assert_ok_err(cwi_welcome_write(&s->setup, &s->welcome, &s->welcome_size, &s->err), s->err);
    snprintf(endpoint, sizeof endpoint, "inproc://%s", name);
    assert_ok_err(cw_net_listen(endpoint, NULL, &s->server, &s->err), s->err);
    assert_ok_err(cw_net_connect(endpoint, NULL, &s->end, &s->err), s->err);
    cwi_config_init(&local);
    local.threads = 1;
    local.loader_threads = 0;
    local.timeout = timeout;
    assert_ok_err(cw_client_create(&local, s->end, NULL, &s->client, &s->err), s->err);
    assert_ok_err(cw_client_start(s->client, &s->err), s->err);
    hear(s, CW_MSG_HELLO);
    return s;
}

static void close_scene(scene *s)
{
    cw_frame_release(&s->last);
    cw_client_destroy(&s->client);
    cw_transport_close(&s->end, 0);
    cw_transport_close(&s->server, 0);
    cwi_free(s->welcome);
    cw_half_destroy(&s->half);
    cwi_setup_close(&s->setup);
    free(s);
}

/* Gives the client a message of the server; the outcome is the client's. */
static cw_status tell(scene *s, cw_msg msg)
{
    msg.session = 77;
    size_t capacity = cw_msg_head_size(&msg) + msg.blob_size, size;
    uint8_t *bytes = cwi_alloc(capacity, 1);
    assert_ok(cw_msg_encode(&msg, bytes, capacity, &size, NULL));
    cw_frame frame = {.bytes = bytes, .size = size};
    snprintf(s->err.message, sizeof s->err.message, "stale words");
    cw_status status = cw_client_handle(s->client, &frame, &s->err);
    cwi_free(bytes);
    return status;
}

static cw_status tell_text(scene *s, cw_msg_type type, cw_status status, const char *text)
{
    return tell(s, (cw_msg){.type = type, .status = status, .blob = (const uint8_t *)text, .blob_size = strlen(text)});
}

static void welcome(scene *s)
{
    assert_ok_err(tell(s, (cw_msg){.type = CW_MSG_WELCOME,
                                   .version_max = CW_WIRE_VERSION_MAX,
                                   .clients = 1,
                                   .fingerprint = cw_half_fingerprint(s->half),
                                   .blob = s->welcome,
                                   .blob_size = s->welcome_size}),
                  s->err);
    hear(s, CW_MSG_READY);
}

static void send_state(scene *s)
{
    cw_msg state = {.type = CW_MSG_STATE};
    uint8_t *bytes;
    assert_ok_err(cwi_half_save(s->half, &bytes, &state.blob_size, &s->err), s->err);
    state.blob = bytes;
    assert_ok_err(tell(s, state), s->err);
    cw_bytes_free(bytes);
}

/* ---- the tests ---- */

/* Opening the data takes longer than the client's patience with its server. */
static void its_own_work_is_not_the_servers_silence(void **state)
{
    (void)state;
    scene *s = open_scene("working", 60);
    double began = cwi_seconds();
    welcome(s);
    double took = cwi_seconds() - began;
    close_scene(s);
    s = open_scene("working-again", took / 2);
    welcome(s);
    assert_ok_err(cw_client_tick(s->client, NULL, &s->err), s->err);
    close_scene(s);
}

static void a_gradient_that_overflows_is_divergence(void **state)
{
    (void)state;
    scene *s = open_scene("overflowing", 60);
    welcome(s);
    send_state(s);
    assert_ok_err(tell(s, (cw_msg){.type = CW_MSG_BEGIN, .phase = CW_PHASE_TRAIN, .steps = 11}), s->err);
    hear(s, CW_MSG_ACTIVATION);
    const cw_shape *cut = &s->setup.cut.smashed;
    assert_int_equal(cut->ndim, 3);
    const cw_shape shape = cw_shape_of(4, (int64_t[]){(int64_t)s->msg.samples, cut->dim[0], cut->dim[1], cut->dim[2]});
    cw_tensor gradient;
    cw_codec *codec;
    size_t count, capacity;
    assert_ok(cw_tensor_alloc(&gradient, CW_F32, &shape));
    assert_ok(cw_shape_count(&shape, &count));
    for (size_t i = 0; i < count; i++)
        ((float *)gradient.data)[i] = 3e38f;
    assert_ok(cw_codec_create("none", &codec, NULL));
    capacity = cw_codec_bound(codec, &gradient);
    uint8_t *payload = cwi_alloc(capacity, 1);
    cw_msg msg = {.type = CW_MSG_GRADIENT, .blob = payload};
    assert_ok(cw_encode(codec, &gradient, NULL, payload, capacity, &msg.blob_size, NULL));
    assert_status(tell(s, msg), CW_ERR_DIVERGED);
    assert_non_null(strstr(s->err.message, "client half's gradient"));
    assert_non_null(strstr(s->err.message, "learning rate"));
    hear(s, CW_MSG_ERROR);
    assert_int_equal(s->msg.status, CW_ERR_DIVERGED);
    assert_heard_words(s, s->err.message);
    cwi_free(payload);
    cw_codec_destroy(&codec);
    cw_tensor_free(&gradient);
    close_scene(s);
}

static void a_step_beyond_its_data_is_refused_in_words(void **state)
{
    (void)state;
    scene *s = open_scene("beyond", 60);
    welcome(s);
    send_state(s);
    /* In training it waits for those whose shards are larger. */
    assert_ok_err(tell(s, (cw_msg){.type = CW_MSG_BEGIN, .phase = CW_PHASE_TRAIN, .step = 900, .steps = 1000}), s->err);
    assert_ok_err(tell(s, (cw_msg){.type = CW_MSG_UPDATE, .step = 999}), s->err);
    hear(s, CW_MSG_PHASE_DONE);
    assert_status(tell(s, (cw_msg){.type = CW_MSG_BEGIN, .phase = CW_PHASE_EVAL, .step = 900}), CW_ERR_PROTOCOL);
    assert_string_equal(s->err.message, "the server begins at step 900, this client has 5 batches");
    hear(s, CW_MSG_ERROR);
    assert_heard_words(s, s->err.message);
    close_scene(s);
}

static void the_servers_errors_are_told_in_words_that_fit(void **state)
{
    (void)state;
    scene *s = open_scene("refusing", 60);
    assert_status(tell_text(s, CW_MSG_ERROR, CW_ERR_INVALID, "all places are taken"), CW_ERR_INVALID);
    assert_string_equal(s->err.message, "the server refused: all places are taken");
    close_scene(s);
    s = open_scene("ending", 60);
    welcome(s);
    assert_status(tell_text(s, CW_MSG_ERROR, CW_ERR_TIMEOUT, "1 of 2 clients joined"), CW_ERR_TIMEOUT);
    assert_string_equal(s->err.message, "the server ended this client's run: 1 of 2 clients joined");
    close_scene(s);
}

int main(void)
{
    require_data();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_own_work_is_not_the_servers_silence),
        cmocka_unit_test(a_gradient_that_overflows_is_divergence),
        cmocka_unit_test(a_step_beyond_its_data_is_refused_in_words),
        cmocka_unit_test(the_servers_errors_are_told_in_words_that_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
