/* test_one_liar.c - one of five clients lies, and keeps to the protocol: with screening, or an average that extremes do
 * not bend, the network becomes what it becomes without the liar.
 *
 * Its frames are changed on their way out, by a transport around the real one. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "liar.h"
#include "modes/guard.h"
#include "train_test.h"

#include "test.h"

enum { CLIENTS = 5, LIAR = 2 };

/* ---- a run ---- */

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
    const char *dir = strchr(config->data, ':');
    snprintf(own.data_dir, sizeof own.data_dir, "%s", dir ? dir + 1 : "");
    for (int i = 0; i < CLIENTS; i++) {
        assert_ok_err(cw_net_connect(endpoint, NULL, &c->end[i], &err), err);
        if (i == LIAR)
            c->liar = lying_transport_around(c->end[i], told);
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

/* 800 images, three epochs: seconds. */
static cw_config short_config(void)
{
    cw_config config = small_config(CLIENTS, "none", "none");
    config.epochs = 3;
    config.batch = 16;
    config.train_limit = 800;
    snprintf(config.model, sizeof config.model, "mlp");
    return config;
}

static cw_config with_guard(cw_config config, const char *screen, const char *average, double clip)
{
    config.clip_norm = clip;
    snprintf(config.screen, sizeof config.screen, "%s", screen);
    snprintf(config.average, sizeof config.average, "%s", average);
    return config;
}

static outcome train_by(const cw_config *config, lie told)
{
    outcome o = {.told_of_liar = false};
    cw_error err = {0};
    cw_transport *t;
    cw_server *server;
    crew c;
    const cw_hooks hooks = {.ctx = &o, .event = on_event};
    assert_ok_err(cw_net_listen("inproc://one-liar", NULL, &t, &err), err);
    assert_ok_err(cw_server_create(config, t, &(cw_server_options){.hooks = &hooks}, &server, &err), err);
    open_crew(&c, config, "inproc://one-liar", told);
    o.diverged = !pump(server, t, &c);
    (void)cw_server_finish(server, o.diverged ? CW_ERR_DIVERGED : CW_OK, "", &o.result, &err);
    cw_server_destroy(&server);
    close_crew(&c);
    cw_transport_close(&t, 0);
    return o;
}

static outcome train(const char *screen, const char *average, double clip, lie told)
{
    const cw_config config = with_guard(short_config(), screen, average, clip);
    return train_by(&config, told);
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

/* Without any of the options. */
static void what_is_not_finite_ends_its_senders_part(void **state)
{
    (void)state;
    static const lie lies[] = {NAN_ACTIVATIONS, INFINITE_GRADIENTS};
    const cw_config config = short_config();
    for (size_t l = 0; l < CWI_COUNT(lies); l++) {
        const outcome o = train_by(&config, lies[l]);
        print_message("%s: %.3f\n", lie_names[lies[l]], o.result.last.test_accuracy);
        assert_false(o.diverged);
        assert_int_equal(o.result.last.clients, CLIENTS - 1);
        assert_true(o.result.last.test_accuracy > honest_accuracy - 0.08);
    }
}

/* Behind the cut of `cnn` is batch norm, which makes activations alike again: but its statistics are not. */
static void statistics_of_either_half_are_compared(void **state)
{
    (void)state;
    static const lie lies[] = {FALSE_STATISTICS, HUGE_ACTIVATIONS};
    cw_config config = with_guard(short_config(), "drop", "mean", 0);
    snprintf(config.model, sizeof config.model, "cnn");
    config.epochs = 1;
    config.train_limit = 400;
    for (size_t l = 0; l < CWI_COUNT(lies); l++) {
        const outcome o = train_by(&config, lies[l]);
        print_message("%s, cnn: %zu steps flagged\n", lie_names[lies[l]], o.flagged[LIAR]);
        assert_true(o.told_of_liar);
        assert_false(o.told_of_others);
    }
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

/* ---- the study of the notebook ---- */

typedef struct defence {
    const char *screen, *average;
    double clip;
} defence;

enum { STUDY_TRAIN = 2000, STUDY_TEST = 2000 };

/* `cnn` has batch norm in both halves, so that every lie can hurt it. */
static cw_config study_config(uint64_t seed)
{
    cw_config config = short_config();
    snprintf(config.model, sizeof config.model, "cnn");
    config.seed = seed;
    config.epochs = config.eval_every = 3;
    config.timeout = config.join_timeout = 600;
    config.train_limit = STUDY_TRAIN;
    config.test_limit = STUDY_TEST;
    return config;
}

static void study_cell(lie told, const defence *way, uint64_t first, uint64_t last)
{
    printf("%-24s --screen %-4s --average %-7s:", lie_names[told], way->screen, way->average);
    for (uint64_t seed = first; seed <= last; seed++) {
        const cw_config config = with_guard(study_config(seed), way->screen, way->average, way->clip);
        const outcome o = train_by(&config, told);
        size_t others = 0;
        for (size_t i = 0; i < CLIENTS; i++)
            others += i == LIAR ? 0 : o.flagged[i];
        printf(o.diverged ? " diverged" : " %.1f (flagged %zu, others %zu)", 100 * o.result.last.test_accuracy,
               o.flagged[LIAR], others);
        fflush(stdout);
    }
    putchar('\n');
}

/* study FIRST-SEED LAST-SEED [LIE [WAY]]: test accuracies by each defence. Who is dropped needs no defence. */
static int study(int argc, char **argv)
{
    static const defence ways[] = {
        {"off", "mean", 0}, {"drop", "mean", 0}, {"off", "median", 0}, {"off", "trimmed", 0}};
    const int only = argc > 4 ? atoi(argv[4]) : -1, way = argc > 5 ? atoi(argv[5]) : -1;
    for (int l = 0; l < LIES; l++) {
        const bool alone = l == GONE || l == NAN_ACTIVATIONS || l == INFINITE_GRADIENTS;
        for (int w = 0; w < (alone ? 1 : (int)CWI_COUNT(ways)); w++)
            if ((only < 0 || only == l) && (way < 0 || way == w))
                study_cell((lie)l, &ways[w], strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 4 && strcmp(argv[1], "study") == 0) {
        require_samples(STUDY_TRAIN, STUDY_TEST);
        return study(argc, argv);
    }
    require_data();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(averages_are_what_they_say),
        cmocka_unit_test(nobody_honest_is_far),
        cmocka_unit_test(a_liar_that_is_dropped_does_no_harm),
        cmocka_unit_test(averages_that_extremes_do_not_bend),
        cmocka_unit_test(what_is_not_finite_ends_its_senders_part),
        cmocka_unit_test(statistics_of_either_half_are_compared),
        cmocka_unit_test(without_a_guard_a_liar_spoils_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
