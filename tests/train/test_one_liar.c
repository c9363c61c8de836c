/* test_one_liar.c - one of five clients lies, and keeps to the protocol: with screening, or an average that extremes do
 * not bend, the network becomes what it becomes without the liar.
 *
 * Its frames are changed on their way out, by a transport around the real one. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cutwire/wire.h"
#include "modes/guard.h"
#include "net/transport.h"
#include "train_test.h"

#include "test.h"

enum { CLIENTS = 5, LIAR = 2 };

typedef enum lie { HONEST, RANDOM_LABELS, HUGE_ACTIVATIONS, HUGE_GRADIENTS, FALSE_STATISTICS } lie;

typedef struct lying_transport {
    cw_transport base;
    cw_transport *real;
    lie lie;
    uint32_t random;
    uint8_t *frame;
} lying_transport;

/* ---- lies ---- */

static lying_transport *self(cw_transport *t)
{
    return (lying_transport *)(void *)t;
}

/* The payload of a tensor of the codec "none", each element times `factor`. */
static uint8_t *scale_payload(const cw_msg *msg, float factor, size_t *size)
{
    cw_error err;
    cw_payload_info info;
    cw_codec *codec;
    size_t count;
    assert_ok_err(cw_payload_inspect(msg->blob, msg->blob_size, &info, &err), err);
    assert_ok(cw_shape_count(&info.shape, &count));
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    cw_tensor x = cw_tensor_view(CW_F32, &info.shape, values);
    assert_ok_err(cw_decode(msg->blob, msg->blob_size, &x, NULL, &err), err);
    for (size_t i = 0; i < count; i++)
        values[i] *= factor;
    assert_ok_err(cw_codec_create("none", &codec, &err), err);
    const size_t bound = cw_codec_bound(codec, &x);
    uint8_t *payload = malloc(bound);
    assert_non_null(payload);
    assert_ok_err(cw_encode(codec, &x, NULL, payload, bound, size, &err), err);
    cw_codec_destroy(&codec);
    free(values);
    return payload;
}

static void send_changed(lying_transport *t, cw_msg msg)
{
    cw_error err;
    int32_t labels[256];
    size_t size;
    if (msg.label_width) {
        assert_ok_err(cw_msg_labels(&msg, 10, labels, &err), err);
        for (uint64_t i = 0; t->lie == RANDOM_LABELS && i < msg.samples; i++)
            labels[i] = (int32_t)((t->random = t->random * 1664525u + 1013904223u) >> 16) % 10;
        msg.labels = labels;
    }
    const size_t room = cw_msg_head_size(&msg) + msg.blob_size;
    uint8_t *frame = malloc(room);
    assert_non_null(frame);
    assert_ok_err(cw_msg_encode(&msg, frame, room, &size, &err), err);
    assert_ok_err(cw_transport_send(t->real, 0, frame, size, &err), err);
    free(frame);
}

static void send_scaled(lying_transport *t, cw_msg msg, float factor)
{
    uint8_t *payload = scale_payload(&msg, factor, &msg.blob_size);
    msg.blob = payload;
    send_changed(t, msg);
    free(payload);
}

static cw_status lying_send(cw_transport *base, cw_peer peer, const void *bytes, size_t size, cw_error *err)
{
    lying_transport *t = self(base);
    cw_msg msg;
    assert_ok_err(cw_msg_decode(bytes, size, &msg, err), *err);
    const bool batch = msg.type == CW_MSG_ACTIVATION && msg.phase == CW_PHASE_TRAIN;
    if (batch && t->lie == RANDOM_LABELS) {
        send_changed(t, msg);
    } else if (batch && t->lie == HUGE_ACTIVATIONS) {
        send_scaled(t, msg, 1e4f);
    } else if (msg.type == CW_MSG_CLIENT_GRAD && t->lie == HUGE_GRADIENTS) {
        send_scaled(t, msg, 100);
    } else if (msg.type == CW_MSG_PHASE_DONE && msg.phase == CW_PHASE_TRAIN && t->lie == FALSE_STATISTICS) {
        float false_ones[4096];
        assert_true(msg.blob_size <= sizeof false_ones);
        for (size_t i = 0; i < msg.blob_size / sizeof(float); i++)
            false_ones[i] = 1000;
        msg.blob = (const uint8_t *)false_ones;
        send_changed(t, msg);
    } else {
        return cw_transport_send(t->real, peer, bytes, size, err);
    }
    return CW_OK;
}

static cw_status lying_recv(cw_transport *base, int timeout_ms, cw_frame *out, cw_error *err)
{
    return cw_transport_recv(self(base)->real, timeout_ms, out, err);
}

/* ---- a run ---- */

static const cwi_transport_ops lying_ops = {.send = lying_send, .recv = lying_recv};

typedef struct outcome {
    cw_result result;
    size_t flagged[CLIENTS];
    bool told_of_liar, told_of_others, diverged;
} outcome;

static void on_event(void *ctx, const cw_event *e)
{
    outcome *o = ctx;
    for (size_t i = 0; e->server && i < CLIENTS; i++)
        o->flagged[i] = (size_t)e->server->clients[i].flagged;
    if (e->kind != CW_EVENT_LOG || !e->name || strcmp(e->name, "client_far") != 0)
        return;
    assert_int_equal(e->level, CW_LOG_WARN);
    o->told_of_liar = o->told_of_liar || e->origin->client == LIAR;
    o->told_of_others = o->told_of_others || e->origin->client != LIAR;
}

typedef struct crew {
    cw_transport *end[CLIENTS];
    lying_transport liar;
    cw_client *client[CLIENTS];
} crew;

static void open_crew(crew *c, const cw_config *config, const char *endpoint, lie told)
{
    cw_error err;
    cw_config own;
    cwi_config_init(&own);
    own.threads = 1;
    own.loader_threads = 0;
    snprintf(own.data_dir, sizeof own.data_dir, "%s", strchr(config->data, ':') + 1);
    for (int i = 0; i < CLIENTS; i++) {
        assert_ok_err(cw_net_connect(endpoint, NULL, &c->end[i], &err), err);
        if (i == LIAR)
            c->liar = (lying_transport){.base = *c->end[i], .real = c->end[i], .lie = told, .random = 7};
        c->liar.base.ops = &lying_ops;
        assert_ok_err(cw_client_create(&own, i == LIAR ? &c->liar.base : c->end[i], NULL, &c->client[i], &err), err);
        assert_ok_err(cw_client_start(c->client[i], &err), err);
    }
}

static void close_crew(crew *c)
{
    for (int i = 0; i < CLIENTS; i++) {
        cw_client_destroy(&c->client[i]);
        cw_transport_close(&c->end[i], 0);
    }
}

/* Until the run is over; false: it has diverged. */
static bool pump(cw_server *server, cw_transport *t, crew *c)
{
    cw_error err = {0};
    cw_frame frame;
    while (!cw_server_done(server)) {
        while (cw_transport_recv(t, 0, &frame, NULL) == CW_OK) {
            const cw_status status = cw_server_handle(server, &frame, &err);
            if (status == CW_ERR_DIVERGED)
                return false;
            assert_ok_err(status, err);
        }
        for (int i = 0; i < CLIENTS; i++)
            while (cw_transport_recv(c->end[i], 0, &frame, NULL) == CW_OK)
                if (cw_client_handle(c->client[i], &frame, &err) != CW_OK)
                    break; /* the server has dropped it */
    }
    return true;
}

static uint64_t seed = 1;

static outcome train(const char *screen, const char *average, double clip, lie told)
{
    outcome o = {.told_of_liar = false};
    cw_config config = small_config(CLIENTS, "none", "none");
    cw_error err = {0};
    cw_transport *t;
    cw_server *server;
    crew c;
    config.epochs = 3;
    config.seed = seed;
    config.batch = 16;
    config.train_limit = 800;
    config.clip_norm = clip;
    snprintf(config.screen, sizeof config.screen, "%s", screen);
    snprintf(config.average, sizeof config.average, "%s", average);
    snprintf(config.model, sizeof config.model, "mlp");
    const cw_hooks hooks = {.ctx = &o, .event = on_event};
    assert_ok_err(cw_net_listen("inproc://one-liar", NULL, &t, &err), err);
    assert_ok_err(cw_server_create(&config, t, &(cw_server_options){.hooks = &hooks}, &server, &err), err);
    open_crew(&c, &config, "inproc://one-liar", told);
    o.diverged = !pump(server, t, &c);
    (void)cw_server_finish(server, o.diverged ? CW_ERR_DIVERGED : CW_OK, "", &o.result, &err);
    cw_server_destroy(&server);
    close_crew(&c);
    cw_transport_close(&t, 0);
    return o;
}

/* ---- tests ---- */

static double honest_accuracy;

static void nobody_honest_is_far(void **state)
{
    (void)state;
    const outcome plain = train("off", "mean", 0, HONEST), screened = train("warn", "mean", 0, HONEST);
    honest_accuracy = plain.result.last.test_accuracy;
    print_message("honest: %.3f\n", honest_accuracy);
    assert_true(honest_accuracy > 0.5);
    assert_false(screened.told_of_liar || screened.told_of_others);
    assert_true(fabs(screened.result.last.test_accuracy - honest_accuracy) < 0.05);
}

static void check_liar(lie told, const char *screen, const char *average, double clip, const char *name)
{
    const outcome o = train(screen, average, clip, told);
    const double accuracy = o.result.last.test_accuracy;
    print_message("%s, %s %s: %.3f, %zu steps flagged\n", name, screen, average, accuracy, o.flagged[LIAR]);
    assert_true(accuracy > honest_accuracy - 0.08);
    assert_int_equal(o.result.last.clients, CLIENTS); /* nobody is thrown out */
    if (strcmp(screen, "off") == 0)
        return;
    assert_true(o.told_of_liar);
    assert_false(o.told_of_others);
    for (size_t i = 0; i < CLIENTS; i++)
        assert_true(i == LIAR ? o.flagged[i] > 0 : o.flagged[i] == 0);
}

static void a_liar_that_is_dropped_does_no_harm(void **state)
{
    (void)state;
    check_liar(RANDOM_LABELS, "drop", "mean", 0, "random labels");
    check_liar(HUGE_ACTIVATIONS, "drop", "mean", 0, "activations x 1e4");
    check_liar(HUGE_GRADIENTS, "drop", "mean", 0, "gradients x 100");
}

static void averages_that_extremes_do_not_bend(void **state)
{
    (void)state;
    check_liar(HUGE_GRADIENTS, "off", "median", 0, "gradients x 100");
    check_liar(HUGE_GRADIENTS, "off", "trimmed", 0, "gradients x 100");
}

static void without_a_guard_a_liar_spoils_the_model(void **state)
{
    (void)state;
    const outcome o = train("off", "mean", 0, HUGE_GRADIENTS);
    print_message("gradients x 100, off mean: %.3f%s\n", o.result.last.test_accuracy, o.diverged ? ", diverged" : "");
    assert_true(o.diverged || o.result.last.test_accuracy < honest_accuracy - 0.15);
}

/* ---- averages alone ---- */

static void averages_are_what_they_say(void **state)
{
    (void)state;
    static const float a[] = {1, -4}, b[] = {2, 8}, c[] = {1000, 0}, d[] = {4, 2};
    const float *const rows[] = {a, b, c, d};
    static const double weights[] = {1, 1, 1, 1}, uneven[] = {3, 1, 0, 0};
    float out[2];
    cwi_averagings[0].average(rows, weights, 4, 2, out);
    assert_true(fabsf(out[0] - 251.75f) < 1e-3f && fabsf(out[1] - 1.5f) < 1e-6f);
    cwi_averagings[0].average(rows, uneven, 2, 2, out);
    assert_true(fabsf(out[0] - 1.25f) < 1e-6f && fabsf(out[1] + 1) < 1e-6f);
    for (size_t i = 1; i < CWI_AVERAGINGS; i++) { /* of four both leave one at either end out */
        cwi_averagings[i].average(rows, weights, 4, 2, out);
        assert_true(out[0] == 3 && out[1] == 1);
        cwi_averagings[i].average(rows, weights, 1, 2, out);
        assert_true(out[0] == 1 && out[1] == -4);
        cwi_averagings[i].average(rows, weights, 2, 2, out);
        assert_true(out[0] == 1.5f && out[1] == 2);
    }
    cwi_averagings[2].average(rows, weights, 3, 2, out);
    assert_true(out[0] == 2 && out[1] == 0);
}

/* Prints test accuracies of each lie by each choice, for seeds 1 to `seeds`: for docs/notebook. */
static int study(uint64_t seeds)
{
    static const char *const lies[] = {"nobody lies", "random labels", "activations x 1e4", "gradients x 100",
                                       "false statistics"};
    static const char *const ways[][2] = {{"off", "mean"}, {"drop", "mean"}, {"off", "median"}, {"off", "trimmed"}};
    for (size_t l = 0; l < sizeof lies / sizeof lies[0]; l++)
        for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
            printf("%-18s --screen %-4s --average %-7s:", lies[l], ways[w][0], ways[w][1]);
            for (seed = 1; seed <= seeds; seed++) {
                const outcome o = train(ways[w][0], ways[w][1], 0, (lie)l);
                printf(o.diverged ? " diverged" : " %.1f", 100 * o.result.last.test_accuracy);
                fflush(stdout);
            }
            putchar('\n');
        }
    return 0;
}

int main(int argc, char **argv)
{
    require_data();
    if (argc == 3 && strcmp(argv[1], "study") == 0)
        return study(strtoull(argv[2], NULL, 10));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(averages_are_what_they_say),
        cmocka_unit_test(nobody_honest_is_far),
        cmocka_unit_test(a_liar_that_is_dropped_does_no_harm),
        cmocka_unit_test(averages_that_extremes_do_not_bend),
        cmocka_unit_test(without_a_guard_a_liar_spoils_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
